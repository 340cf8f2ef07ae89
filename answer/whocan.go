// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// WhoCan is who may do something.
type WhoCan struct {
	Source
	Request Question `json:"request"`
	// Who may do it now.
	Who []Holder `json:"who"`
	// CouldGain are those that may not, and that may take it by themselves.
	CouldGain []Gainer `json:"couldGain"`
	// Unknown is why more may be allowed than is said.
	Unknown []string `json:"unknown"`
}

// Holder is a subject that may do something.
type Holder struct {
	rbac.Subject
	// ClusterWide says that it may do so everywhere, else Namespaces where.
	ClusterWide bool     `json:"clusterWide,omitempty"`
	Namespaces  []string `json:"namespaces,omitempty"`
	// Possible says that it is not known whether it may: each grant says why.
	Possible bool    `json:"possible,omitempty"`
	Grants   []Grant `json:"grants"`
	// RunBy is what runs as a ServiceAccount; NotUsed says that nothing does.
	RunBy   []object.Ref `json:"runBy,omitempty"`
	NotUsed bool         `json:"notUsed,omitempty"`
}

// Grant is by what somebody holds a permission: a binding, and a rule of a role.
type Grant struct {
	Binding object.Ref `json:"binding,omitzero"`
	// BindingPosition and RulePosition are where they stand in files.
	BindingPosition object.Position `json:"bindingPosition,omitzero"`
	// Role is the one that the rule stands in; BoundRole, where it is another,
	// the one that is bound and that takes it in by aggregation.
	Role         object.Ref      `json:"role,omitzero"`
	BoundRole    *object.Ref     `json:"boundRole,omitempty"`
	Rule         int             `json:"rule"`
	RulePosition object.Position `json:"rulePosition,omitzero"`
	// Namespace is where it holds; empty for the whole cluster.
	Namespace string `json:"namespace,omitempty"`
	// Via is the group that the subject holds it by.
	Via string `json:"via,omitempty"`
	// Possible says why it is not known whether this is granted.
	Possible string `json:"possible,omitempty"`
}

// grantOf is what a model says, as it is told.
func grantOf(of rbac.Subject, g rbac.Grant) Grant {
	out := Grant{Possible: g.Maybe}
	if g.Via.Kind == rbac.Group && g.Via != of {
		out.Via = g.Via.Name
	}
	out.Binding, out.BindingPosition, out.Namespace = g.Binding.Ref, g.Binding.Position(), g.Binding.Ref.Namespace
	if out.Role = g.RuleRole; g.Binding.Role != g.RuleRole {
		out.BoundRole = &g.Binding.Role
	}
	out.Rule, out.RulePosition = g.Rule.Index, g.Rule.Position()
	return out
}

// chain says by what somebody holds a permission, in one line.
func (g *Grant) chain() string {
	if g.Binding == (object.Ref{}) {
		return "the API server itself, to the group " + g.Via
	}
	bound := g.Role
	if g.BoundRole != nil {
		bound = *g.BoundRole
	}
	s := fmt.Sprintf("%s %s → %s %s", g.Binding.Kind, g.Binding.Name, bound.Kind, bound.Name)
	if g.BoundRole != nil {
		s += " ← " + g.Role.Name
	}
	if g.Via != "" {
		s += " via group " + g.Via
	}
	return s
}

// AskWhoCan answers who may do something.
func AskWhoCan(m *rbac.Model, src Source, q Question) *WhoCan {
	q.noteNamespace(m)
	a := &WhoCan{Source: src, Request: q}
	who, unknown := ask(m, q)
	a.Who, a.Unknown = holders(m, who), distinct(unknown)
	gainers, unknown := gain(m, a.Who)
	a.CouldGain = gainers
	a.Unknown = distinct(append(a.Unknown, unknown...))
	return a
}

// ask returns who may do something in the namespace that is named, or in any.
func ask(m *rbac.Model, q Question) ([]rbac.Grantee, []string) {
	who, unknown := m.WhoCan(q.Request)
	if !q.Anywhere {
		return who, unknown
	}
	index := map[rbac.Subject]int{}
	for i, g := range who {
		index[g.Subject] = i
	}
	for _, b := range m.Bindings() {
		i := slices.IndexFunc(b.Rules, func(r *rbac.Rule) bool { return r.Allows(q.Request) })
		if b.ClusterWide() || i < 0 && b.Unknown == "" {
			continue
		}
		if i < 0 {
			unknown = append(unknown, fmt.Sprintf("%s: %s", b.Ref, b.Unknown))
			continue
		}
		for _, s := range b.Subjects {
			if _, ok := index[s]; !ok {
				index[s] = len(who)
				who = append(who, rbac.Grantee{Subject: s})
			}
			w := &who[index[s]]
			w.By = append(slices.Clip(w.By), rbac.Grant{Binding: b, Rule: b.Rules[i], RuleRole: b.Rules[i].Role(), Via: s})
		}
	}
	slices.SortStableFunc(who, func(a, b rbac.Grantee) int { return compare(a.Subject, b.Subject) })
	return who, unknown
}

// compare orders subjects by kind, namespace and name.
func compare(a, b rbac.Subject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// holders are those of the model, with what runs as them.
func holders(m *rbac.Model, who []rbac.Grantee) []Holder {
	accounts := map[rbac.Subject]*rbac.Account{}
	for _, a := range m.Accounts() {
		accounts[a.Subject] = a
	}
	out := make([]Holder, 0, len(who))
	for _, w := range who {
		h := Holder{Subject: w.Subject}
		h.Grants, h.Possible, h.ClusterWide = []Grant{}, !w.Certain(), len(w.By) == 0
		for _, g := range w.By {
			h.Grants = append(h.Grants, grantOf(w.Subject, g))
			if g.Binding.ClusterWide() {
				h.ClusterWide = true
			} else if ns := g.Binding.Ref.Namespace; !slices.Contains(h.Namespaces, ns) {
				h.Namespaces = append(h.Namespaces, ns)
			}
		}
		slices.Sort(h.Namespaces)
		if account := accounts[w.Subject]; account != nil {
			h.RunBy = account.RunBy
			h.NotUsed = len(account.RunBy) == 0
		}
		out = append(out, h)
	}
	return out
}

// Gainer is somebody who may not do something, and may take it by itself.
type Gainer struct {
	rbac.Subject
	// By is the verb that lets it, and How says in words what it does.
	By  string `json:"by"`
	How string `json:"how"`
	// Of is who it becomes, where it becomes somebody.
	Of     []rbac.Subject `json:"of,omitempty"`
	Grants []Grant        `json:"grants"`
}

// route is a permission by which one comes to hold others.
type route struct {
	by, how  string
	requests []rbac.Request // all of them are needed
}

const (
	rbacGroup = "rbac.authorization.k8s.io"
	anyName   = ""
)

// takeAny are the permissions that give any other, cluster-wide.
var takeAny = []route{
	{"bind", "may bind any ClusterRole, cluster-admin too, to itself", []rbac.Request{
		{Verb: "bind", Group: rbacGroup, Resource: "clusterroles", Name: anyName},
		{Verb: "create", Group: rbacGroup, Resource: "clusterrolebindings"},
	}},
	{"escalate", "may write any permission into a ClusterRole that it holds", []rbac.Request{
		{Verb: "escalate", Group: rbacGroup, Resource: "clusterroles", Name: anyName},
		{Verb: "update", Group: rbacGroup, Resource: "clusterroles", Name: anyName},
	}},
	{"escalate", "may write any permission into a ClusterRole that it holds", []rbac.Request{
		{Verb: "escalate", Group: rbacGroup, Resource: "clusterroles", Name: anyName},
		{Verb: "patch", Group: rbacGroup, Resource: "clusterroles", Name: anyName},
	}},
	{"impersonate", "may act as the group system:masters", []rbac.Request{
		{Verb: "impersonate", Resource: "groups", Name: rbac.Masters},
		{Verb: "impersonate", Resource: "users", Name: "anyone"},
	}},
}

// gain returns who does not hold something and may take it: by what gives any
// permission, and by becoming one of those that do.
func gain(m *rbac.Model, who []Holder) ([]Gainer, []string) {
	has := map[rbac.Subject]bool{}
	for _, h := range who {
		has[h.Subject] = true
	}
	var unknown []string
	out := map[[2]string]*Gainer{}
	add := func(r route, becomes *rbac.Subject) {
		all, why := allOf(m, r.requests)
		unknown = append(unknown, why...)
		for _, g := range all {
			if has[g.Subject] {
				continue
			}
			key := [2]string{g.Subject.String(), r.how}
			if out[key] == nil {
				out[key] = &Gainer{Subject: g.Subject, By: r.by, How: r.how}
				for _, by := range g.By {
					out[key].Grants = append(out[key].Grants, grantOf(g.Subject, by))
				}
			}
			if becomes != nil && !slices.Contains(out[key].Of, *becomes) {
				out[key].Of = append(out[key].Of, *becomes)
			}
		}
	}
	for _, r := range takeAny {
		add(r, nil)
	}
	for _, h := range who {
		for _, r := range becoming(h.Subject) {
			add(r, &h.Subject)
		}
	}
	sorted := slices.SortedFunc(maps.Values(out), func(a, b *Gainer) int {
		return cmp.Or(compare(a.Subject, b.Subject), cmp.Compare(a.By, b.By), cmp.Compare(a.How, b.How))
	})
	list := make([]Gainer, 0, len(sorted))
	for _, g := range sorted {
		list = append(list, *g)
	}
	return list, unknown
}

// becoming are the ways to become a subject.
func becoming(s rbac.Subject) []route {
	switch s.Kind {
	case rbac.ServiceAccount:
		return []route{
			{"impersonate", "may act as a ServiceAccount that may", []rbac.Request{{Verb: "impersonate", Resource: "serviceaccounts", Name: s.Name, Namespace: s.Namespace}}},
			{"create token", "may make a token of a ServiceAccount that may", []rbac.Request{{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Name: s.Name, Namespace: s.Namespace}}},
		}
	case rbac.User:
		return []route{{"impersonate", "may act as a user that may", []rbac.Request{{Verb: "impersonate", Resource: "users", Name: s.Name}}}}
	}
	if s.Name == rbac.Authenticated || s.Name == rbac.Unauthenticated || strings.HasPrefix(s.Name, rbac.AllAccounts) {
		return nil // they are in it, or hold a ServiceAccount that is
	}
	return []route{{"impersonate", "may act as a member of a group that may", []rbac.Request{
		{Verb: "impersonate", Resource: "groups", Name: s.Name},
		{Verb: "impersonate", Resource: "users", Name: "anyone"},
	}}}
}

// allOf returns who may do all of some things.
func allOf(m *rbac.Model, requests []rbac.Request) ([]rbac.Grantee, []string) {
	who, unknown := m.WhoCan(requests[0])
	for _, r := range requests[1:] {
		more, why := m.WhoCan(r)
		unknown = append(unknown, why...)
		by := map[rbac.Subject][]rbac.Grant{}
		for _, g := range more {
			by[g.Subject] = g.By
		}
		var both []rbac.Grantee
		for _, g := range who {
			if grants, ok := by[g.Subject]; ok {
				both = append(both, rbac.Grantee{Subject: g.Subject, By: slices.Concat(g.By, grants)})
			}
		}
		who = both
	}
	return who, unknown
}

// words says the request as a person asks for it.
func (q *Question) words() string {
	if q.Path != "" {
		return q.Verb + " " + q.Path
	}
	s := q.Verb + " " + q.Resource
	if q.Group != "" && q.Group != "*" {
		s += "." + q.Group
	}
	if q.Subresource != "" {
		s += "/" + q.Subresource
	}
	if q.Name != "" {
		s += " " + q.Name
	}
	switch {
	case q.Anywhere:
		return s + " in any namespace"
	case q.Namespace != "" && !q.Scoped:
		return s + " in the namespace " + q.Namespace
	}
	return s
}

// Text implements Answer.
func (a *WhoCan) Text(p *Page) {
	p.heading("who may %s: %s", a.Request.words(), count(len(a.Who), "subject", "subjects"))
	var rows []row
	for _, h := range a.Who {
		rows = append(rows, h.row(a.Complete))
	}
	p.table([]string{"SUBJECT", "WHERE", "RUN BY"}, rows[:min(len(rows), maxRows)])
	p.more(len(rows)-maxRows, "subject", "subjects")
	if len(a.CouldGain) > 0 {
		p.heading("who may not, and could take it")
		var rows []row
		for _, g := range a.CouldGain {
			rows = append(rows, g.row())
		}
		p.table([]string{"SUBJECT", "HOW"}, rows[:min(len(rows), maxRows)])
		p.more(len(rows)-maxRows, "subject", "subjects")
	}
	unknown := a.Unknown
	if a.Request.Note != "" {
		unknown = append([]string{a.Request.Note}, unknown...)
	}
	a.footer(p, unknown)
}

// maxLines is how many lines of a kind a row of a table has.
const maxLines = 4

func (h *Holder) row(complete bool) row {
	by := grants(h.Grants)
	if len(h.Grants) == 0 {
		by = text("by the API server itself").in(dim)
	}
	return row{[]cell{text(h.Subject.String()), h.where(), h.run(complete)}, by}
}

// where says where a subject may do something.
func (h *Holder) where() cell {
	var out cell
	switch {
	case h.ClusterWide:
		out = text("cluster-wide").in(bold)
	default:
		for _, ns := range some(h.Namespaces, maxLines) {
			out = append(out, span{text: cmp.Or(ns, "(not said)")})
		}
	}
	if h.Possible {
		out = append(out, span{text: "possible", code: doubt})
	}
	return out
}

// grants says by what somebody may do something, and where that stands.
func grants(list []Grant) cell {
	var out cell
	more := 0
	for _, g := range list {
		switch s := (span{"by " + g.chain(), dim, at(g.BindingPosition)}); {
		case slices.Contains(out, s):
		case len(out) == maxLines:
			more++
		default:
			out = append(out, s)
		}
	}
	if more > 0 {
		out = append(out, span{text: "and by " + count(more, "more", "more"), code: dim})
	}
	for _, g := range list {
		if s := (span{text: "possible: " + g.Possible, code: doubt}); g.Possible != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// everybody are groups, in words.
var everybody = map[string]string{
	rbac.Authenticated: "everyone who logs in", rbac.Unauthenticated: "everyone who does not log in", rbac.AllAccounts: "every ServiceAccount",
}

// run says what runs as a subject, or who is in a group.
func (h *Holder) run(complete bool) cell {
	namespace, ok := strings.CutPrefix(h.Name, rbac.AllAccounts+":")
	switch {
	case h.Kind == rbac.Group && ok:
		return text("every ServiceAccount of " + namespace)
	case h.Kind == rbac.Group:
		return text(everybody[h.Name])
	case h.NotUsed && complete:
		return text("nothing").in(dim)
	case h.NotUsed:
		return text("nothing that is known").in(dim)
	}
	var lines []string
	for _, r := range h.RunBy {
		lines = append(lines, named(r))
	}
	return text(some(lines, maxLines)...)
}

func (g *Gainer) row() row {
	how := text(g.How)
	var of []string
	for _, s := range g.Of {
		of = append(of, s.String())
	}
	how = append(how, text(some(of, maxLines)...).in(dim)...)
	return row{[]cell{text(g.Subject.String()), how}, grants(g.Grants)}
}

// Names returns the subjects, one a line, as other commands take them, but for
// what a terminal would obey.
func (a *WhoCan) Names() string {
	var b strings.Builder
	for _, h := range a.Who {
		b.WriteString(visible(word(h.Subject)) + "\n")
	}
	return b.String()
}

// word returns a subject as it is typed.
func word(s rbac.Subject) string {
	switch s.Kind {
	case rbac.ServiceAccount:
		return "sa:" + s.Namespace + "/" + s.Name
	case rbac.Group:
		return "group:" + s.Name
	}
	return "user:" + s.Name
}
