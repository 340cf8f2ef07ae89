// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Reads says whether a scan of a cluster needs the objects of a kind: a rule is
// about them, or about facts that come from them. Of facts.AnyKind it says so
// where that holds for some kind of the group.
//
// Rules about what may stand in any object (a credential in an annotation) are
// held against everything that is read, and are no reason to read more.
func (e *Engine) Reads(gk object.GroupKind) bool {
	return slices.ContainsFunc(e.rules, func(r *baseline.Rule) bool { return reads(r, gk) })
}

// Readers are the rules for which objects of a kind are read.
func (e *Engine) Readers(gk object.GroupKind) []string {
	var out []string
	for _, r := range e.rules {
		if reads(r, gk) {
			out = append(out, r.Name)
		}
	}
	slices.Sort(out)
	return out
}

// reads says whether a rule is about a kind, or about a fact that comes from it.
func reads(r *baseline.Rule, gk object.GroupKind) bool {
	if r.Policy != nil {
		return r.Policy.Matches(gk) || slices.ContainsFunc(needed(&r.Policy.Info().Needs), func(of object.GroupKind) bool { return policy.Overlap(of, gk) })
	}
	if r.Matches(gk) || gk.Kind == facts.AnyKind && r.MatchesGroup(gk.Group) {
		return true
	}
	from := func(kinds []string, sources func(string) facts.Sources) bool {
		return slices.ContainsFunc(kinds, func(kind string) bool {
			return r.Matches(object.GroupKind{Group: facts.Group, Kind: kind}) && sources(kind).Has(gk)
		})
	}
	return slices.ContainsFunc(all.Singles, func(s facts.Single) bool { return from(s.Kinds, s.From) }) ||
		slices.ContainsFunc(all.Wholes, func(w facts.Whole) bool { return from(w.Kinds, w.From) })
}
