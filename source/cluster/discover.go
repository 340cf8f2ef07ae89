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

// Kinds returns the kinds that the API serves and that are wanted, each in its
// preferred version, owners before what they own. A group of which it cannot be
// found out what it serves is a problem, if something of it may be wanted.
func (c *Cluster) Kinds(ctx context.Context, wanted func(object.GroupKind) bool) ([]Kind, []verdict.Problem) {
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
	var problems []verdict.Problem
	if partial != nil {
		problems = c.failedGroups(partial.Groups, wanted)
	} else if err != nil {
		return nil, []verdict.Problem{c.problem(verdict.Discovering, "finding out which kinds the API serves: %s", c.reason(err))}
	}
	var out []Kind
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			problems = append(problems, c.problem(verdict.Discovering, "the API serves a group with the name %q, which is none", list.GroupVersion))
			continue
		}
		for _, r := range list.APIResources {
			k := Kind{
				GroupKind: object.GroupKind{Group: cmp.Or(r.Group, gv.Group), Kind: r.Kind}, Version: cmp.Or(r.Version, gv.Version),
				Resource: r.Name, Namespaced: r.Namespaced,
			}
			if slices.Contains(r.Verbs, "list") && !strings.Contains(r.Name, "/") && wanted(k.GroupKind) {
				out = append(out, k)
			}
		}
	}
	out = slices.DeleteFunc(out, func(k Kind) bool { return servedElsewhere(k, out) })
	slices.SortFunc(out, byOwnership)
	return out, problems
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

// failedGroups are the problems with groups of which it could not be found out what they hold.
func (c *Cluster) failedGroups(failed map[schema.GroupVersion]error, wanted func(object.GroupKind) bool) []verdict.Problem {
	var out []verdict.Problem
	for _, gv := range slices.SortedFunc(maps.Keys(failed), func(x, y schema.GroupVersion) int { return strings.Compare(x.String(), y.String()) }) {
		if !wanted(object.GroupKind{Group: gv.Group, Kind: AnyKind}) {
			continue
		}
		why := c.reason(failed[gv])
		if stale := (discovery.StaleGroupVersionError{}); errors.As(failed[gv], &stale) {
			why = "the API server that is registered for it does not answer"
		}
		out = append(out, c.problem(verdict.Discovering,
			"finding out which kinds %s has: %s; what is of these kinds was not judged; see `kubectl get apiservice %s.%s`, and remove it if nothing serves it any more", gv, why, gv.Version, gv.Group))
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
