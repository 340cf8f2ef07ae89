// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/object"
)

var secretKind = object.GroupKind{Kind: "Secret"}

// judges returns a function that says whether rules are about objects of a kind,
// or about what one of them tells by itself: what a webhook is asked about.
// Rules about any object (a credential in an annotation) choose no kinds: the
// webhook would stand in the way of every heartbeat. They hold where an object
// is judged for another reason.
func judges(rules []*baseline.Rule) func(object.GroupKind) bool {
	var from []facts.Sources
	for _, s := range all.Singles {
		for _, kind := range s.Kinds {
			if matchAny(rules, object.GroupKind{Group: facts.Group, Kind: kind}) {
				from = append(from, s.From(kind))
			}
		}
	}
	return func(gk object.GroupKind) bool {
		return matchAny(rules, gk) || slices.ContainsFunc(from, func(s facts.Sources) bool { return s.Has(gk) })
	}
}

// matchAny says whether one of the rules is about a kind; of facts.AnyKind,
// whether about any kind of the group.
func matchAny(rules []*baseline.Rule, gk object.GroupKind) bool {
	return slices.ContainsFunc(rules, func(r *baseline.Rule) bool {
		return r.Matches(gk) || gk.Kind == facts.AnyKind && r.MatchesGroup(gk.Group)
	})
}
