// SPDX-License-Identifier: Apache-2.0

package role

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/object"
)

// Proof is what was checked of the roles of a subject, by the exact model of
// RBAC.
type Proof struct {
	// Requests were each found allowed by the new roles.
	Requests int `json:"requests"`
	// Grants of the new roles were each found allowed today.
	Grants int `json:"grants"`
	// Compared says that what the subject may do today was known.
	Compared bool `json:"compared"`
	// Failures are what does not hold, Unknown what could not be decided.
	Failures []string `json:"failures,omitempty"`
	Unknown  []string `json:"unknown,omitempty"`
}

// Holds says that all was checked and found true.
func (p *Proof) Holds() bool { return len(p.Failures) == 0 }

// prove checks the documents.
func (s *synthesis) prove(docs []*manifest.Document, old *rbac.Model) (*Proof, error) {
	p := &Proof{Compared: old != nil}
	fresh, err := modelOf(docs)
	if err != nil {
		return nil, err
	}
	s.proveSeen(p, fresh)
	for _, d := range docs {
		s.proveHeld(p, d, old)
	}
	for _, l := range s.lost {
		p.Failures = append(p.Failures, fmt.Sprintf("%s: it was allowed when it was recorded, and nothing that is bound today allows it; it is left out", l))
	}
	if s.activity.dropped > 0 {
		p.Failures = append(p.Failures, fmt.Sprintf("%d requests are of more than %d kinds and were left out", s.activity.dropped, maxKinds))
	}
	return p, nil
}

// modelOf returns the model of nothing but the documents.
func modelOf(docs []*manifest.Document) (*rbac.Model, error) {
	var kept []any
	for _, d := range docs {
		tree, err := d.Tree()
		if err != nil {
			return nil, err
		}
		if k := rbac.Keep(object.New(object.FromAny(tree), &object.Origin{Source: "generated"})); k != nil {
			kept = append(kept, k)
		}
	}
	return rbac.NewModel(kept, &facts.Env{Complete: true}), nil
}

// proveSeen checks that every request is allowed by the new roles.
func (s *synthesis) proveSeen(p *Proof, fresh *rbac.Model) {
	for _, w := range sortedUses(s.activity.allowed) {
		if s.everyoneMay(w) {
			continue
		}
		u := s.activity.allowed[w]
		requests := u.requests(w)
		if u.more {
			// Any of the names that were not kept: only a rule for all allows it.
			requests = append(requests, w.request("a name that was not kept"))
		}
		for _, r := range requests {
			p.Requests++
			if !fresh.Can(s.activity.Subject, nil, r).Allowed {
				p.Failures = append(p.Failures, fmt.Sprintf("%s: it was seen, and the new roles do not allow it", words(r, 0)))
			}
		}
	}
}

// proveHeld checks that what a new role grants is allowed today.
func (s *synthesis) proveHeld(p *Proof, d *manifest.Document, old *rbac.Model) {
	if old == nil {
		return
	}
	var list []rbacv1.PolicyRule
	var namespace string
	switch o := d.Object.(type) {
	case *rbacv1.ClusterRole:
		list = o.Rules
	case *rbacv1.Role:
		list, namespace = o.Rules, o.Namespace
	}
	for _, r := range list {
		for _, request := range requestsOf(r, namespace) {
			p.Grants++
			switch a := old.Can(s.activity.Subject, s.activity.Groups, request); {
			case a.Allowed:
			case len(a.Unknown) > 0:
				p.Unknown = append(p.Unknown, fmt.Sprintf("%s: whether it is allowed today is not known: %s", words(request, 0), strings.Join(a.Unknown, "; ")))
			default:
				p.Failures = append(p.Failures, fmt.Sprintf("%s: the new roles allow it, and it is not allowed today", words(request, 0)))
			}
		}
	}
}

// requestsOf returns the requests that stand for all that a generated rule
// grants: it holds no wildcards but for names and namespaces, and a request
// without one of these is only allowed to who may do it with any.
func requestsOf(r rbacv1.PolicyRule, namespace string) []rbac.Request {
	var out []rbac.Request
	for _, verb := range r.Verbs {
		for _, path := range r.NonResourceURLs {
			out = append(out, rbac.Request{Verb: verb, Path: path})
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				name, sub, _ := strings.Cut(resource, "/")
				request := rbac.Request{Verb: verb, Group: group, Resource: name, Subresource: sub, Namespace: namespace}
				if len(r.ResourceNames) == 0 {
					out = append(out, request)
				}
				for _, n := range r.ResourceNames {
					request.Name = n
					out = append(out, request)
				}
			}
		}
	}
	return out
}

// Held is a rule that a subject holds today, and what of it was used.
type Held struct {
	Binding object.Ref `json:"binding"`
	Role    object.Ref `json:"role"`
	Rule    int        `json:"rule"`
	// Via is the group through which it is held, if it is one: the new roles
	// take nothing of it away.
	Via string `json:"via,omitempty"`
	// Maybe says why it is not known whether it is held.
	Maybe string `json:"maybe,omitempty"`
	// Wildcard says that the rule has one: what it holds cannot be listed.
	Wildcard bool `json:"wildcard,omitempty"`
	// Holds is the rule in words, Used what of it was asked for, and Unused
	// what never was.
	Holds  string   `json:"holds"`
	Used   []string `json:"used,omitempty"`
	Unused []string `json:"unused,omitempty"`
}

// held returns what the subject holds today, but for what everyone does.
func (s *synthesis) held(old *rbac.Model) []Held {
	var out []Held
	for _, g := range old.Permissions(s.activity.Subject, s.activity.Groups) {
		if g.Via != s.activity.Subject && s.onlyCommon(g) {
			continue
		}
		h := Held{Binding: g.Binding.Ref, Role: g.RuleRole, Rule: g.Rule.Index, Maybe: g.Maybe, Holds: ruleWords(g.Rule), Wildcard: hasWildcard(g.Rule)}
		if g.Via != s.activity.Subject {
			h.Via = g.Via.String()
		}
		h.Used, h.Unused = s.usage(g)
		out = append(out, h)
	}
	return out
}

func hasWildcard(r *rbac.Rule) bool {
	return slices.ContainsFunc(slices.Concat(r.Verbs, r.Groups, r.Resources, r.Paths), func(s string) bool { return strings.Contains(s, "*") })
}

// onlyCommon says whether a grant is of the roles that everyone holds.
func (s *synthesis) onlyCommon(g rbac.Grant) bool {
	switch g.RuleRole.Name {
	case "system:discovery", "system:public-info-viewer", "system:basic-user", "system:service-account-issuer-discovery", "system:cluster-trust-bundle-discovery":
		return g.Via.Kind == rbac.Group
	}
	return false
}

// ruleWords says a rule: "get, list pods, services".
func ruleWords(r *rbac.Rule) string {
	out := strings.Join(r.Verbs, ", ") + " "
	if len(r.Paths) > 0 {
		return out + strings.Join(r.Paths, ", ")
	}
	var resources []string
	for _, group := range r.Groups {
		for _, resource := range r.Resources {
			name, sub, _ := strings.Cut(resource, "/")
			resources = append(resources, resourceName(group, name, sub))
		}
	}
	const shown = 12
	if len(resources) > shown {
		resources = append(resources[:shown:shown], fmt.Sprintf("and %d more", len(resources)-shown))
	}
	out += strings.Join(resources, ", ")
	if len(r.Names) > 0 {
		out += fmt.Sprintf(" named %s", strings.Join(r.Names, ", "))
	}
	return out
}

// usage says which requests a grant allowed, and what of its rule none of them
// was about.
func (s *synthesis) usage(g rbac.Grant) (used, unused []string) {
	hit := map[cell]struct{}{}
	for w, u := range s.activity.allowed {
		for _, r := range u.requests(w) {
			if allows(g, r) {
				hit[w.cell()] = struct{}{}
			}
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(hit), compareCells) {
		used = append(used, c.String())
	}
	for _, resource := range resourcesOf(g.Rule) {
		var verbs []string
		for _, v := range g.Rule.Verbs {
			if !usedVerb(hit, resource, v) {
				verbs = append(verbs, v)
			}
		}
		if len(verbs) > 0 {
			unused = append(unused, strings.Join(verbs, ", ")+" "+resource.String())
		}
	}
	return used, unused
}

// resourcesOf returns the resources and URLs of a rule.
func resourcesOf(r *rbac.Rule) []cellOf {
	var out []cellOf
	for _, p := range r.Paths {
		out = append(out, cellOf{path: p})
	}
	for _, group := range r.Groups {
		for _, resource := range r.Resources {
			name, sub, _ := strings.Cut(resource, "/")
			out = append(out, cellOf{group, name, sub, ""})
		}
	}
	return out
}

// cellOf is a resource or a URL of a rule, which may be a wildcard.
type cellOf struct{ group, resource, subresource, path string }

// String says the resource or the URL.
func (c cellOf) String() string {
	if c.path != "" {
		return c.path
	}
	return resourceName(c.group, c.resource, c.subresource)
}

// usedVerb says whether a verb of a rule was used on a resource of it. What is
// a wildcard was used if anything was that it stands for.
func usedVerb(hit map[cell]struct{}, of cellOf, verb string) bool {
	for c := range hit {
		if (verb == "*" || verb == c.verb) && of.matches(c) {
			return true
		}
	}
	return false
}

func (c cellOf) matches(o cell) bool {
	if c.path != "" || o.path != "" {
		prefix, wild := strings.CutSuffix(c.path, "*")
		return c.path == o.path || wild && strings.HasPrefix(o.path, prefix)
	}
	if c.group != "*" && c.group != o.group {
		return false
	}
	switch {
	case c.resource == "*" && c.subresource == "":
		return true
	case c.resource == "*":
		return c.subresource == o.subresource
	}
	return c.resource == o.resource && c.subresource == o.subresource
}

// allows says whether a grant allows a request.
func allows(g rbac.Grant, r rbac.Request) bool {
	if ns := g.Binding.Ref.Namespace; ns != "" && ns != r.Namespace {
		return false
	}
	return g.Rule.Allows(r)
}
