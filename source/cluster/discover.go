// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Served is what the API of a cluster serves.
type Served struct {
	// Kinds can be listed; each is in its preferred version.
	Kinds []Kind
	// Failed are groups of which it cannot be found out what they hold.
	Failed []Failed
	// Problems are those of no group.
	Problems []verdict.Problem
}

// Failed is a group of which it cannot be found out what kinds it has.
type Failed struct {
	Group   string          `json:"group"`
	Problem verdict.Problem `json:"problem"`
}

// Wanted returns the kinds that are wanted, owners before what they own. A group
// of which it cannot be found out what it serves is a problem, if something of
// it may be wanted.
func (s *Served) Wanted(wanted func(object.GroupKind) bool) ([]Kind, []verdict.Problem) {
	kinds, problems := slices.Clone(s.Kinds), slices.Clone(s.Problems)
	kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return !wanted(k.GroupKind) })
	all := slices.Clone(kinds)
	kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return servedElsewhere(k, all) })
	slices.SortFunc(kinds, byOwnership)
	for _, f := range s.Failed {
		if f.wanted(wanted) {
			problems = append(problems, f.Problem)
		}
	}
	return kinds, problems
}

func (f *Failed) wanted(wanted func(object.GroupKind) bool) bool {
	return wanted(object.GroupKind{Group: f.Group, Kind: AnyKind})
}

// Kinds returns the kinds that the API serves and that are wanted; see
// Served.Wanted.
func (c *Cluster) Kinds(ctx context.Context, wanted func(object.GroupKind) bool) ([]Kind, []verdict.Problem) {
	return c.Served(ctx).Wanted(wanted)
}

// Served finds out what the API serves.
func (c *Cluster) Served(ctx context.Context) *Served {
	var lists []*metav1.APIResourceList
	var partial *discovery.ErrGroupDiscoveryFailed
	err := c.try(ctx, func(ctx context.Context) (err error) {
		partial = nil
		lists, err = c.discovery.ServerPreferredResourcesWithContext(ctx)
		if errors.As(err, &partial) && !lost(partial) {
			return nil // to ask again would not help; the groups are told below
		}
		return err
	})
	out := &Served{}
	if partial != nil {
		out.Failed = c.failedGroups(partial.Groups)
	} else if err != nil {
		out.Problems = append(out.Problems, c.problem(verdict.Discovering, "finding out which kinds the API serves: %s", c.reason(err)))
		return out
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			out.Problems = append(out.Problems, c.problem(verdict.Discovering, "the API serves a group with the name %q, which is none", list.GroupVersion))
			continue
		}
		for _, r := range list.APIResources {
			k := Kind{
				GroupKind: object.GroupKind{Group: cmp.Or(r.Group, gv.Group), Kind: r.Kind}, Version: cmp.Or(r.Version, gv.Version),
				Resource: r.Name, Namespaced: r.Namespaced,
			}
			if slices.Contains(r.Verbs, "list") && !strings.Contains(r.Name, "/") {
				out.Kinds = append(out.Kinds, k)
			}
		}
	}
	return out
}

// AnyKind stands for the kinds of a group of which it is not known what they
// are: Kinds asks with it whether any of them may be wanted.
const AnyKind = "*"

// lost says that the server could not be reached for some groups, or had no
// time: asking again may help. Groups of an API server that is registered and
// does not answer are told as stale by the one that does.
func lost(partial *discovery.ErrGroupDiscoveryFailed) bool {
	for _, err := range partial.Groups {
		if stale := (discovery.StaleGroupVersionError{}); !errors.As(err, &stale) && passing(err) {
			return true
		}
	}
	return false
}

// failedGroups are the groups of which it could not be found out what they hold.
func (c *Cluster) failedGroups(failed map[schema.GroupVersion]error) []Failed {
	var out []Failed
	for _, gv := range slices.SortedFunc(maps.Keys(failed), func(x, y schema.GroupVersion) int { return strings.Compare(x.String(), y.String()) }) {
		why := c.reason(failed[gv])
		if stale := (discovery.StaleGroupVersionError{}); errors.As(failed[gv], &stale) {
			why = "the API server that is registered for it does not answer"
		}
		p := c.problem(verdict.Discovering,
			"finding out which kinds %s has: %s; what is of these kinds was not judged; see `kubectl get apiservice %s.%s`, and remove it if nothing serves it any more", gv, why, gv.Version, gv.Group)
		p.Of = object.GroupKind{Group: gv.Group, Kind: AnyKind}
		out = append(out, Failed{gv.Group, p})
	}
	return out
}

// twins are groups that serve the same objects as another one: what is read in
// the one is not read again in the other.
var twins = map[object.GroupKind]string{
	{Group: "", Kind: "Event"}:                       "events.k8s.io",
	{Group: "extensions", Kind: "Deployment"}:        "apps",
	{Group: "extensions", Kind: "ReplicaSet"}:        "apps",
	{Group: "extensions", Kind: "DaemonSet"}:         "apps",
	{Group: "extensions", Kind: "Ingress"}:           "networking.k8s.io",
	{Group: "extensions", Kind: "NetworkPolicy"}:     "networking.k8s.io",
	{Group: "extensions", Kind: "PodSecurityPolicy"}: "policy",
}

func servedElsewhere(k Kind, all []Kind) bool {
	group, ok := twins[k.GroupKind]
	return ok && slices.ContainsFunc(all, func(o Kind) bool { return o.GroupKind == object.GroupKind{Group: group, Kind: k.Kind} })
}

// byOwnership orders kinds so that owners come before what they own: first what
// owns workloads, or nothing, then the workloads that make others, then Pods.
func byOwnership(a, b Kind) int {
	return cmp.Or(cmp.Compare(ownership(a.GroupKind), ownership(b.GroupKind)),
		strings.Compare(a.Group, b.Group), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Resource, b.Resource))
}

func ownership(gk object.GroupKind) int {
	switch gk {
	case object.GroupKind{Group: "batch", Kind: "CronJob"}, object.GroupKind{Group: "apps", Kind: "Deployment"},
		object.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"}:
		return 1
	case object.GroupKind{Kind: "Pod"}:
		return 3
	}
	if _, ok := object.PodPath(gk); ok {
		return 2
	}
	return 0
}
