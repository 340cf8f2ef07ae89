// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// references finds, by kind, what objects name besides themselves. Each checks
// the group itself: kinds of other groups have the same names.
var references = map[string]func(*object.Object, minor, []use) []use{
	"Role":                             roleRules,
	"ClusterRole":                      roleRules,
	"ValidatingWebhookConfiguration":   webhookRules,
	"MutatingWebhookConfiguration":     webhookRules,
	"ValidatingAdmissionPolicy":        admissionPolicy,
	"MutatingAdmissionPolicy":          admissionPolicy,
	"ValidatingAdmissionPolicyBinding": admissionBinding,
	"MutatingAdmissionPolicyBinding":   admissionBinding,
	"HorizontalPodAutoscaler":          target("autoscaling", "spec", "scaleTargetRef"),
	"VerticalPodAutoscaler":            target("autoscaling.k8s.io", "spec", "targetRef"),
	"ScaledObject":                     target("keda.sh", "spec", "scaleTargetRef"),
	"ClusterPolicy":                    kyvernoRules,
	"Policy":                           kyvernoRules,
	"Config":                           gatekeeperSync,
}

// naming are the kinds of references, with their groups.
var naming = []object.GroupKind{
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"},
	{Group: "admissionregistration.k8s.io", Kind: facts.AnyKind},
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}, {Group: "autoscaling.k8s.io", Kind: "VerticalPodAutoscaler"},
	{Group: "keda.sh", Kind: "ScaledObject"},
	{Group: "kyverno.io", Kind: "ClusterPolicy"}, {Group: "kyverno.io", Kind: "Policy"}, {Group: "policies.kyverno.io", Kind: facts.AnyKind},
	{Group: "config.gatekeeper.sh", Kind: "Config"}, {Group: "constraints.gatekeeper.sh", Kind: facts.AnyKind},
}

// gone looks for what a rule names by groups, versions and a resource or a kind.
// It returns an API that was served once where the target serves none of them
// any more. A group that Kubernetes has not may be that of a custom resource;
// nothing is said of a rule that names one, or that takes any group.
func gone(groups, versions []string, target minor, find func(*group) []*api) *api {
	var last *api
	for _, name := range groups {
		g := apis().byGroup[name]
		if g == nil {
			return nil
		}
		for _, a := range find(g) {
			if versions != nil && !slices.Contains(versions, "*") && !slices.Contains(versions, a.version) {
				continue
			}
			if !a.gone(target) {
				return nil // served, or to be served by a later minor
			}
			if last == nil || a.Removed > last.Removed {
				last = a
			}
		}
	}
	return last
}

// goneResource looks for a resource as a rule names it: pods, pods/exec, *.
func goneResource(groups, versions []string, resource string, target minor) *api {
	resource, _, _ = strings.Cut(resource, "/")
	return gone(groups, versions, target, func(g *group) []*api {
		if resource == "*" {
			return g.all
		}
		return g.resources[resource]
	})
}

// resourceRules adds, for each rule of a list, the resources that are gone: once
// for those that went together.
func resourceRules(list *object.Node, at object.Path, in string, target minor, out []use) []use {
	for i, rule := range facts.Items(list) {
		groups, ok := texts(rule.Get("apiGroups"))
		versions, known := texts(rule.Get("apiVersions")) // a Role has none
		if !ok || !known {
			continue
		}
		first := len(out)
		resources := rule.Get("resources")
		for k, r := range facts.Items(resources) {
			a := goneResource(groups, versions, r.Str(), target)
			if a == nil {
				continue
			}
			same := slices.IndexFunc(out[first:], func(u use) bool {
				return u.a.Removed == a.Removed && u.a.replacement() == a.replacement() && u.a.Note == a.Note
			})
			if same >= 0 {
				out[first+same].named += ", " + r.Str()
				continue
			}
			path := at.Append(object.ItemStep(list, i)).Fields("resources").Append(object.ItemStep(resources, k))
			out = append(out, use{in, a, r.Str(), path})
		}
		for k := range out[first:] {
			out[first+k].named += " of " + spelled(groups, versions)
		}
	}
	return out
}

// spelled returns groups and versions as a person writes them: extensions,
// networking.k8s.io/v1beta1.
func spelled(groups, versions []string) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		if names[i] = g; g == "" {
			names[i] = "the core group"
		}
	}
	out := strings.Join(names, ", ")
	if versions != nil && !slices.Contains(versions, "*") {
		out += "/" + strings.Join(versions, ", ")
	}
	return out
}

func roleRules(o *object.Object, target minor, out []use) []use {
	if o.Group() != "rbac.authorization.k8s.io" {
		return out
	}
	return resourceRules(o.Root.Get("rules"), facts.Path("rules"), inRole, target, out)
}

const admissionGroup = "admissionregistration.k8s.io"

func webhookRules(o *object.Object, target minor, out []use) []use {
	if o.Group() != admissionGroup {
		return out
	}
	list := o.Root.Get("webhooks")
	for i, webhook := range facts.Items(list) {
		at := facts.Path("webhooks").Append(object.ItemStep(list, i)).Fields("rules")
		out = resourceRules(webhook.Get("rules"), at, inMatch, target, out)
	}
	return out
}

func admissionPolicy(o *object.Object, target minor, out []use) []use {
	if o.Group() != admissionGroup {
		return out
	}
	if u, ok := typed(o.Root.At("spec", "paramKind"), target); ok {
		u.in, u.path = inParameter, facts.Path("spec", "paramKind", "apiVersion")
		out = append(out, u)
	}
	return matchResources(o, target, out, facts.Path("spec", "matchConstraints"))
}

func admissionBinding(o *object.Object, target minor, out []use) []use {
	if o.Group() != admissionGroup {
		return out
	}
	return matchResources(o, target, out, facts.Path("spec", "matchResources"))
}

// matchResources goes through the resourceRules of a match. What a policy leaves
// out is let be: it does no harm.
func matchResources(o *object.Object, target minor, out []use, at object.Path) []use {
	at = at.Fields("resourceRules")
	return resourceRules(o.Root.Lookup(at), at, inMatch, target, out)
}

// target returns a function that looks at a reference by group and kind: the
// version in it does not count.
func target(group string, path ...string) func(*object.Object, minor, []use) []use {
	return func(o *object.Object, target minor, out []use) []use {
		ref := o.Root.At(path...)
		if o.Group() != group || ref == nil {
			return out
		}
		apiVersion, kind := ref.Get("apiVersion").Str(), ref.Get("kind").Str()
		if a := goneKind([]string{groupOf(apiVersion)}, nil, kind, target); a != nil {
			out = append(out, use{inTarget, a, apiVersion + " " + kind, facts.Path(path...).Fields("apiVersion")})
		}
		return out
	}
}

// goneKind looks for a kind.
func goneKind(groups, versions []string, kind string, target minor) *api {
	return gone(groups, versions, target, func(g *group) []*api { return g.kinds[kind] })
}

// matchKinds goes through the kinds that a constraint of Gatekeeper matches.
func matchKinds(o *object.Object, target minor, out []use, at object.Path) []use {
	at = at.Fields("kinds")
	list := o.Root.Lookup(at)
	for i, entry := range facts.Items(list) {
		groups, ok := texts(entry.Get("apiGroups"))
		kinds := entry.Get("kinds")
		for k, kind := range facts.Items(kinds) {
			if !ok {
				break
			}
			if a := goneKind(groups, nil, kind.Str(), target); a != nil {
				path := at.Append(object.ItemStep(list, i)).Fields("kinds").Append(object.ItemStep(kinds, k))
				out = append(out, use{inMatch, a, kind.Str() + " of " + spelled(groups, nil), path})
			}
		}
	}
	return out
}

// gatekeeperSync goes through what Gatekeeper keeps a copy of for its policies.
func gatekeeperSync(o *object.Object, target minor, out []use) []use {
	if o.Group() != "config.gatekeeper.sh" {
		return out
	}
	at := facts.Path("spec", "sync", "syncOnly")
	list := o.Root.Lookup(at)
	for i, entry := range facts.Items(list) {
		group, version, kind := entry.Get("group").Str(), entry.Get("version").Str(), entry.Get("kind").Str()
		if a := goneKind([]string{group}, []string{version}, kind, target); a != nil {
			out = append(out, use{inMatch, a, kind + " of " + spelled([]string{group}, []string{version}), at.Append(object.ItemStep(list, i))})
		}
	}
	return out
}

// kyvernoRules goes through what the rules of a Kyverno policy match.
func kyvernoRules(o *object.Object, target minor, out []use) []use {
	if o.Group() != "kyverno.io" {
		return out
	}
	rules := o.Root.At("spec", "rules")
	for i, rule := range facts.Items(rules) {
		at, match := facts.Path("spec", "rules").Append(object.ItemStep(rules, i)).Fields("match"), rule.Get("match")
		out = kyvernoKinds(match.Get("resources"), at.Fields("resources"), target, out)
		for _, how := range [...]string{"any", "all"} {
			list := match.Get(how)
			for k, filter := range facts.Items(list) {
				out = kyvernoKinds(filter.Get("resources"), at.Fields(how).Append(object.ItemStep(list, k)).Fields("resources"), target, out)
			}
		}
	}
	return out
}

func kyvernoKinds(resources *object.Node, at object.Path, target minor, out []use) []use {
	kinds := resources.Get("kinds")
	for i, kind := range facts.Items(kinds) {
		if a := goneSelector(kind.Str(), target); a != nil {
			out = append(out, use{inMatch, a, kind.Str(), at.Fields("kinds").Append(object.ItemStep(kinds, i))})
		}
	}
	return out
}

// goneSelector looks for a kind as Kyverno names it: Pod, v1/Pod, apps/v1/Deployment,
// each with a subresource behind it or not.
func goneSelector(selector string, target minor) *api {
	if strings.ContainsAny(selector, "*?") {
		return nil
	}
	parts := strings.Split(selector, "/")
	if last := len(parts) - 1; last > 0 && strings.ToLower(parts[last]) == parts[last] {
		parts = parts[:last] // a subresource
	}
	kind := parts[len(parts)-1]
	parts = parts[:len(parts)-1]
	var versions, groups []string
	if n := len(parts); n > 0 {
		versions = []string{parts[n-1]}
		if n > 1 {
			return goneKind([]string{parts[0]}, versions, kind, target)
		}
	}
	for _, a := range apis().byKind[kind] {
		if !slices.Contains(groups, a.group) {
			groups = append(groups, a.group)
		}
	}
	return goneKind(groups, versions, kind, target)
}
