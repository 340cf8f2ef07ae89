// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

var secretKind = object.GroupKind{Kind: "Secret"}

// noise are kinds that the cluster, and what reports on it, writes by itself all
// the time. A policy that is about any kind is about these only if it names them:
// it would else stand in the way of every heartbeat, and judge its own reports.
var noise = []object.GroupKind{
	{Kind: "Event"},
	{Group: "coordination.k8s.io", Kind: "Lease"},
	{Group: "coordination.k8s.io", Kind: "LeaseCandidate"},
	{Group: "events.k8s.io", Kind: "Event"},
	{Group: "openreports.io", Kind: "ClusterReport"},
	{Group: "openreports.io", Kind: "Report"},
	{Group: "reports.kyverno.io", Kind: "ClusterEphemeralReport"},
	{Group: "reports.kyverno.io", Kind: "EphemeralReport"},
	{Group: "wgpolicyk8s.io", Kind: "ClusterPolicyReport"},
	{Group: "wgpolicyk8s.io", Kind: "PolicyReport"},
}

// names says whether a rule that matches a kind means that kind, or those of a
// list with it in it: a policy that is about any kind of the group does not.
func names(r *baseline.Rule, gk object.GroupKind) bool {
	return r.Policy == nil || !r.Policy.Matches(object.GroupKind{Group: gk.Group, Kind: "AnyOther"})
}

// asksAbout returns a function that says whether rules are about objects of a
// kind, or about what one of them tells by itself: what a webhook is asked about.
// Controls about any object (a credential in an annotation) choose no kinds: they
// hold where an object is judged for another reason. Policies about any object
// choose all but noise, and but for Sconce's own documents, with which a mistake
// is mended.
func asksAbout(rules []*baseline.Rule) func(object.GroupKind) bool {
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

// isSpared says whether a policy about any kind is not about a kind.
func isSpared(gk object.GroupKind) bool {
	return gk.Group == v1alpha1.Group || slices.Contains(noise, gk)
}

// matchAny says whether one of the rules is about a kind; of facts.AnyKind,
// whether about any kind of the group.
func matchAny(rules []*baseline.Rule, gk object.GroupKind) bool {
	spared := isSpared(gk)
	return slices.ContainsFunc(rules, func(r *baseline.Rule) bool {
		return r.Matches(gk) && (!spared || names(r, gk)) || gk.Kind == facts.AnyKind && r.MatchesGroup(gk.Group)
	})
}

// reads says whether the audit needs the objects of a kind.
func (s *set) reads(gk object.GroupKind) bool {
	if !s.audit.Reads(gk) {
		return false
	}
	if !slices.Contains(noise, gk) {
		return true
	}
	readers := s.audit.Readers(gk)
	return slices.ContainsFunc(s.baseline.Rules, func(r *baseline.Rule) bool {
		return slices.Contains(readers, r.Name) && (r.Policy == nil || r.Policy.Matches(gk) && names(r, gk) || looksUp(r, gk))
	})
}

// looksUp says whether a rule of a policy looks up objects of a kind, which it
// names, or all of whose group.
func looksUp(r *baseline.Rule, gk object.GroupKind) bool {
	return slices.ContainsFunc(r.Policy.Info().Needs.Kinds, func(of object.GroupKind) bool { return policy.Covers(of, gk) })
}

// misses says whether a kind is not read that a policy may look up, among
// whatever there is.
func (s *set) misses(gk object.GroupKind) bool {
	return slices.Contains(noise, gk) && !s.reads(gk) &&
		slices.ContainsFunc(s.baseline.Rules, func(r *baseline.Rule) bool { return r.Policy != nil && r.Policy.Info().Needs.AnyKind })
}
