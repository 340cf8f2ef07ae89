// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"slices"
	"strings"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/rbac"
)

// grants are what the rules of a role permit of what edges need, wherever the
// role is bound.
type grants struct {
	// all says that everything is permitted.
	all   bool
	edges []granted
}

// granted says which of the accesses that an edge needs are permitted.
type granted struct {
	edge *Edge
	held [][]option // for each of Permission.AllOf
	// settled says that what does not count in the scope has been left out.
	settled bool
}

// option is one access that is enough.
type option struct {
	access *access
	rule   *rbac.Rule
	// names, where there are some, are the only objects for which it is.
	names []string
}

// grantsOf works out what rules permit, once for rules that say the same.
func (g *Graph) grantsOf(rules []*rbac.Rule) *grants {
	if len(rules) == 0 {
		return &grants{}
	}
	if known := g.roles.byRule[&rules[0]]; known != nil {
		return known
	}
	key := textOf(rules)
	out := g.roles.byText[key]
	if out == nil {
		out = g.readGrants(rules)
		g.roles.byText[key] = out
	}
	g.roles.byRule[&rules[0]] = out
	return out
}

// textOf writes down what rules say.
func textOf(rules []*rbac.Rule) string {
	var b strings.Builder
	for _, r := range rules {
		for _, list := range [...][]string{r.Verbs, r.Groups, r.Resources, r.Names} {
			for _, s := range list {
				b.WriteString(s)
				b.WriteByte(1)
			}
			b.WriteByte(2)
		}
	}
	return b.String()
}

const wildcard = "*"

func (g *Graph) readGrants(rules []*rbac.Rule) *grants {
	out := &grants{all: slices.ContainsFunc(rules, func(r *rbac.Rule) bool {
		return slices.Contains(r.Verbs, wildcard) && slices.Contains(r.Groups, wildcard) && slices.Contains(r.Resources, wildcard) && len(r.Names) == 0
	})}
	for _, e := range g.edges {
		if e.Permission == nil || e.From != PlaceIdentity {
			continue
		}
		found := granted{edge: e, held: make([][]option, len(e.required))}
		some := false
		for i := range e.required {
			found.held[i] = g.hold(rules, e.required[i])
			some = some || len(found.held[i]) > 0
		}
		if some {
			out.edges = append(out.edges, found)
		}
	}
	return out
}

// hold returns those of several accesses that rules permit; of each the rule that
// does so for all objects, or the names for which they do.
func (g *Graph) hold(rules []*rbac.Rule, any []access) []option {
	var out []option
	for i := range any {
		a := &any[i]
		if !a.before.IsZero() && !g.version().Before(a.before) || !a.since.IsZero() && g.version().Before(a.since) {
			continue
		}
		var best option
		for _, r := range rules {
			names, ok := a.permitted(r)
			switch {
			case !ok:
			case len(names) == 0:
				best = option{a, r, nil}
			case best.rule == nil:
				best = option{a, r, names}
			case len(best.names) > 0:
				best.names = sortedSet(slices.Concat(best.names, names))
			}
		}
		if best.rule != nil {
			out = append(out, best)
		}
	}
	return out
}

func (g *Graph) version() control.Version {
	if g.env.Minor <= 0 {
		return control.Minor(newest)
	}
	return control.Minor(g.env.Minor)
}

// permitted says whether a rule permits the access, and for which objects: all,
// if none are named.
func (a *access) permitted(r *rbac.Rule) (names []string, ok bool) {
	q := rbac.Request{Group: a.group, Resource: a.resource, Subresource: a.subresource}
	if len(r.Names) > 0 {
		q.Name = r.Names[0]
	}
	for _, q.Verb = range a.Verbs {
		if !r.Allows(q) || len(r.Names) > 0 && nameless(q) {
			continue
		}
		if len(r.Names) == 0 {
			return a.Names, true
		}
		names = r.Names
		if len(a.Names) > 0 {
			names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(a.Names, n) })
		}
		if len(names) > 0 {
			return names, true
		}
	}
	return nil, false
}

// nameless says whether a request of the kind names no object, so that a rule
// for some objects never permits it.
func nameless(q rbac.Request) bool {
	return q.Verb == "deletecollection" || q.Verb == "create" && q.Subresource == ""
}

// in says whether what is permitted in a scope ("" for everywhere) counts for
// the access.
func (a *Access) in(scope string) bool {
	switch {
	case scope == "":
		return true
	case a.Scope == "cluster":
		return false
	}
	return a.Namespace == "" || a.Namespace == scope
}

// at is the option that counts in a scope; one for all objects before one for
// some.
func (h *granted) at(i int, scope string) *option {
	var best *option
	for j := range h.held[i] {
		if o := &h.held[i][j]; (h.settled || o.access.in(scope)) && (best == nil || len(o.names) < len(best.names) && len(o.names) == 0) {
			best = o
		}
	}
	return best
}

// mask are the accesses that are permitted and count in a scope.
func (h *granted) mask(scope string) (mask uint32, full bool) {
	for i := range h.held {
		if h.at(i, scope) != nil {
			mask |= 1 << i
		}
	}
	return mask, mask == 1<<len(h.held)-1
}

// scopeOf is the scope in which an edge leads on.
func (e *Edge) scopeOf(scope string) string {
	for _, a := range e.Permission.AllOf {
		if a.Namespace != "" {
			return a.Namespace
		}
	}
	return scope
}

// resourceOf are the resources whose names are those of what a place is of.
var resourceOf = map[string]string{
	PlaceAccounts: "serviceaccounts", PlaceSecrets: "secrets", PlaceTokenAccounts: "secrets", PlaceContainers: "pods", PlaceUsers: "users",
	PlaceGroups: "groups", PlaceVolumes: "persistentvolumeclaims", PlaceNodes: "nodes",
}

// names are the objects to which the edge leads; nil for all.
func (h *granted) names(scope string) []string {
	want := resourceOf[h.edge.To]
	for i := range h.held {
		if o := h.at(i, scope); o != nil && len(o.names) > 0 && want != "" && o.access.resource == want {
			return o.names
		}
	}
	return nil
}

// everything are the grants of one who may do all.
func (g *Graph) everything() *grants {
	if g.roles.everything == nil {
		g.roles.everything = g.readGrants([]*rbac.Rule{{Verbs: []string{wildcard}, Groups: []string{wildcard}, Resources: []string{wildcard}}})
	}
	return g.roles.everything
}

// editing are the grants of one who may edit a namespace, as the ClusterRole edit
// of Kubernetes has them.
func (g *Graph) editing() *grants {
	if g.roles.editing == nil {
		write := []string{"create", "delete", "deletecollection", "patch", "update", "get", "list", "watch"}
		g.roles.editing = g.readGrants([]*rbac.Rule{
			{Verbs: write, Groups: []string{""}, Resources: []string{"pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "pods/eviction",
				"configmaps", "secrets", "serviceaccounts", "services", "services/proxy", "persistentvolumeclaims", "replicationcontrollers", "serviceaccounts/token"}},
			{Verbs: []string{"impersonate"}, Groups: []string{""}, Resources: []string{"serviceaccounts"}},
			{Verbs: []string{"get", "list", "watch"}, Groups: []string{""}, Resources: []string{"pods/log", "pods/status"}},
			{Verbs: write, Groups: []string{"apps"}, Resources: []string{"deployments", "daemonsets", "statefulsets", "replicasets"}},
			{Verbs: write, Groups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}},
			{Verbs: write, Groups: []string{"networking.k8s.io"}, Resources: []string{"ingresses", "networkpolicies"}},
		})
	}
	return g.roles.editing
}

// edits says whether the rules of a role let its holder run what he wants in the
// namespace and read its Secrets, as edit and admin do.
func (g *Graph) edits(rules []*rbac.Rule) bool {
	can := func(verb, group, resource string) bool {
		return slices.ContainsFunc(rules, func(r *rbac.Rule) bool {
			return len(r.Names) == 0 && r.Allows(rbac.Request{Verb: verb, Group: group, Resource: resource})
		})
	}
	return can("create", "", "pods") && can("get", "", "secrets") && can("create", "apps", "deployments") && can("update", "", "configmaps")
}

// possible says why what was not found among the objects may be there.
func possible(env *facts.Env, reason string) string {
	if env.Complete {
		return ""
	}
	return reason
}
