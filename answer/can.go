// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// Can is what a subject may do, or whether it may do one thing.
type Can struct {
	Source
	Subject rbac.Subject `json:"subject"`
	// Known says that the subject is there, or bound to something.
	// Note says so where it is not, and who may be meant.
	Known bool   `json:"known"`
	Note  string `json:"note,omitempty"`
	// Groups are those that it counts as a member of.
	Groups []string `json:"groups"`
	// RunBy is what runs as a ServiceAccount.
	RunBy []object.Ref `json:"runBy,omitempty"`
	// Request is the one thing that was asked; Allowed says whether it surely
	// may, Grants by what.
	Request *Question `json:"request,omitempty"`
	Allowed *bool     `json:"allowed,omitempty"`
	Grants  []Grant   `json:"grants,omitempty"`
	// Permissions are all that it may do, where no one thing was asked.
	Permissions []Permission `json:"permissions,omitempty"`
	Unknown     []string     `json:"unknown"`
}

// Permission is what may be done with some resources, or paths, in one place.
type Permission struct {
	// Namespace is where; empty for the whole cluster.
	Namespace string `json:"namespace,omitempty"`
	// Resources are RESOURCE.GROUP, and Names the objects of them; none for all.
	Resources []string `json:"resources,omitempty"`
	Names     []string `json:"names,omitempty"`
	Paths     []string `json:"paths,omitempty"`
	Verbs     []string `json:"verbs"`
	Grants    []Grant  `json:"grants"`
	// Everyone says that everyone holds it, in every cluster.
	Everyone bool `json:"everyone,omitempty"`
	// Within says that another permission gives all of it too.
	Within bool `json:"within,omitempty"`
}

// AskCan answers what a subject that is in the groups, beside those that the API
// server puts it in, may do; q asks for one thing.
func AskCan(m *rbac.Model, src Source, s rbac.Subject, groups []string, q *Question) *Can {
	if q != nil {
		q.noteNamespace(m)
	}
	a := &Can{Source: src, Subject: s, Groups: distinct(slices.Concat(s.Groups(), groups)), Request: q}
	known := m.Subjects()
	if a.Known = slices.Contains(known, s) || slices.Contains(builtInSubjects, s.Name); !a.Known {
		a.Note = notThere(s, known, src.Complete)
	}
	for _, account := range m.Accounts() {
		if account.Subject == s {
			a.RunBy = account.RunBy
		}
	}
	if q != nil {
		a.one(m, s, groups, q)
	} else {
		a.Permissions = fold(s, m.Permissions(s, groups), slices.Contains(a.Groups, rbac.Masters) || s.Name == rbac.Masters && s.Kind == rbac.Group)
		for _, b := range m.Bindings() {
			if b.Unknown != "" && concerns(b, s, a.Groups) {
				a.Unknown = append(a.Unknown, fmt.Sprintf("%s: %s", b.Ref, b.Unknown))
			}
		}
	}
	a.Unknown = distinct(a.Unknown)
	return a
}

// builtInSubjects are there without being bound to anything.
var builtInSubjects = []string{rbac.Masters, rbac.Authenticated, rbac.Unauthenticated, rbac.Anonymous, rbac.AllAccounts, rbac.Nodes}

// concerns says whether a binding is one of a subject or of a group that it is in.
func concerns(b *rbac.Binding, s rbac.Subject, groups []string) bool {
	return slices.ContainsFunc(b.Subjects, func(of rbac.Subject) bool {
		return of == s || of.Kind == rbac.Group && slices.Contains(groups, of.Name)
	})
}

// one asks for one thing, where no namespace is named in every place where the
// subject holds something.
func (a *Can) one(m *rbac.Model, s rbac.Subject, groups []string, q *Question) {
	answer := m.Can(s, groups, q.Request)
	by := answer.By
	if q.Anywhere {
		for _, g := range m.Permissions(s, groups) {
			if !g.Binding.ClusterWide() && g.Rule.Allows(q.Request) {
				by = append(by, g)
			}
		}
	}
	allowed := answer.Allowed
	if answer.Master {
		a.Grants = append(a.Grants, byMasters)
	}
	for _, g := range by {
		grant := grantOf(s, g)
		allowed = allowed || grant.Possible == ""
		a.Grants = append(a.Grants, grant)
	}
	a.Allowed = &allowed
	a.Unknown = append(a.Unknown, answer.Unknown...)
}

// notThere says that a subject is not known, and who may be meant.
func notThere(s rbac.Subject, known []rbac.Subject, complete bool) string {
	what := s.String() + " is neither among what was read nor bound to anything"
	if complete && s.Kind == rbac.ServiceAccount {
		what = "there is no " + s.String()
	}
	for _, k := range known {
		if k.Name == s.Name && k.Kind != s.Kind || k.Kind == s.Kind && k.Name == s.Name {
			return what + fmt.Sprintf("; did you mean %s?", word(k))
		}
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = word(k)
	}
	return what + near(word(s), words)
}

// byMasters is by what members of system:masters may do everything.
var byMasters = Grant{Via: rbac.Masters}

// permissionKey is what permissions that are told together have in common.
type permissionKey struct {
	namespace, names, verbs, by string
	path                        bool
}

// fold joins the rules that a subject holds as a person reads them: in one place,
// the verbs on the same resource together, and resources with the same verbs by
// the same bindings together.
func fold(s rbac.Subject, grants []rbac.Grant, master bool) []Permission {
	type resourceKey struct{ namespace, names, resource, path string }
	type entry struct {
		resourceKey
		verbs  []string
		grants []Grant
	}
	var order []*entry
	byResource := map[resourceKey]*entry{}
	add := func(k resourceKey, verbs []string, g Grant) {
		e := byResource[k]
		if e == nil {
			e = &entry{resourceKey: k}
			byResource[k], order = e, append(order, e)
		}
		e.verbs = append(e.verbs, verbs...)
		if !slices.Contains(e.grants, g) {
			e.grants = append(e.grants, g)
		}
	}
	if master {
		add(resourceKey{resource: "*.*"}, []string{"*"}, byMasters)
		add(resourceKey{path: "*"}, []string{"*"}, byMasters)
	}
	for _, g := range grants {
		grant := grantOf(s, g)
		for _, resource := range g.Rule.Resources {
			for _, group := range g.Rule.Groups {
				names := strings.Join(distinct(g.Rule.Names), "\x00")
				add(resourceKey{grant.Namespace, names, resourceName(resource, group), ""}, g.Rule.Verbs, grant)
			}
		}
		for _, path := range g.Rule.Paths {
			if grant.Namespace == "" {
				add(resourceKey{path: path}, g.Rule.Verbs, grant)
			}
		}
	}
	var out []Permission
	index := map[permissionKey]int{}
	for _, e := range order {
		verbs := sortedVerbs(e.verbs)
		var by strings.Builder
		for _, g := range e.grants {
			fmt.Fprintf(&by, "%s %s %s %s\n", g.Binding, g.Role, g.Via, g.Possible)
		}
		k := permissionKey{e.namespace, e.names, strings.Join(verbs, ","), by.String(), e.path != ""}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			p := Permission{Namespace: e.namespace, Verbs: verbs, Everyone: !slices.ContainsFunc(e.grants, func(g Grant) bool { return !slices.Contains(everyones, g.Role.Name) })}
			if e.names != "" {
				p.Names = strings.Split(e.names, "\x00")
			}
			out = append(out, p)
		}
		for _, g := range e.grants {
			if !slices.Contains(out[i].Grants, g) {
				out[i].Grants = append(out[i].Grants, g)
			}
		}
		if e.path != "" {
			out[i].Paths = append(out[i].Paths, e.path)
		} else {
			out[i].Resources = append(out[i].Resources, e.resource)
		}
	}
	return finish(out)
}

// everyones are the roles that are bound to everyone in every cluster.
var everyones = []string{
	"system:basic-user", "system:cluster-trust-bundle-discovery", "system:discovery", "system:public-info-viewer",
	"system:service-account-issuer-discovery",
}

// finish sorts permissions, and marks those that others give too.
func finish(list []Permission) []Permission {
	for i := range list {
		list[i].Resources, list[i].Paths = distinct(list[i].Resources), distinct(list[i].Paths)
	}
	slices.SortStableFunc(list, func(a, b Permission) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(len(a.Paths), len(b.Paths)),
			slices.Compare(a.Resources, b.Resources), slices.Compare(a.Paths, b.Paths), slices.Compare(a.Names, b.Names))
	})
	for i := range list {
		list[i].Within = slices.ContainsFunc(list, func(o Permission) bool { return o.covers(&list[i]) && !(list[i].covers(&o)) })
	}
	return list
}

// covers says whether the permission gives all of another.
func (p *Permission) covers(o *Permission) bool {
	if p.Namespace != "" && p.Namespace != o.Namespace || len(p.Names) > 0 && !slices.Equal(p.Names, o.Names) ||
		slices.ContainsFunc(p.Grants, func(g Grant) bool { return g.Possible != "" }) {
		return false
	}
	all := func(list, of []string, covers func(a, b string) bool) bool {
		return !slices.ContainsFunc(of, func(b string) bool {
			return !slices.ContainsFunc(list, func(a string) bool { return covers(a, b) })
		})
	}
	same := func(a, b string) bool { return a == "*" || a == b }
	return all(p.Verbs, o.Verbs, same) && all(p.Paths, o.Paths, coversPath) && all(p.Resources, o.Resources, coversResource)
}

func coversPath(a, b string) bool {
	if prefix, ok := strings.CutSuffix(a, "*"); ok {
		return strings.HasPrefix(b, prefix)
	}
	return a == b
}

func coversResource(a, b string) bool {
	resource, group := splitResource(a)
	otherResource, otherGroup := splitResource(b)
	if group != "*" && group != otherGroup {
		return false
	}
	if resource == "*" || resource == otherResource {
		return true
	}
	sub, ok := strings.CutPrefix(resource, "*/")
	_, otherSub, _ := strings.Cut(otherResource, "/")
	return ok && sub == otherSub
}

// resourceName returns a resource as kubectl writes it: pods/exec, and
// deployments.apps/scale.
func resourceName(resource, group string) string {
	if group == "" {
		return resource
	}
	name, sub, ok := strings.Cut(resource, "/")
	if ok {
		sub = "/" + sub
	}
	return name + "." + group + sub
}

// splitResource takes apart what resourceName has put together.
func splitResource(s string) (resource, group string) {
	name, sub, ok := strings.Cut(s, "/")
	if ok {
		sub = "/" + sub
	}
	name, group, _ = strings.Cut(name, ".")
	return name + sub, group
}

// verbOrder is the order in which people write verbs.
var verbOrder = []string{"*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

func sortedVerbs(verbs []string) []string {
	out := distinct(verbs)
	if slices.Contains(out, "*") {
		return []string{"*"}
	}
	rank := func(v string) int {
		if i := slices.Index(verbOrder, v); i >= 0 {
			return i
		}
		return len(verbOrder)
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// Text implements Answer.
func (a *Can) Text(p *Page) {
	if a.Request != nil {
		a.textOne(p)
	} else {
		a.textAll(p)
	}
	if a.Note != "" {
		p.line("")
		p.coloured(doubt, 0, "", a.Note)
	}
	unknown := a.Unknown
	if a.Request != nil && a.Request.Note != "" {
		unknown = append([]string{a.Request.Note}, unknown...)
	}
	a.footer(p, unknown)
}

func (a *Can) textOne(p *Page) {
	what := a.Subject.String() + " may " + a.Request.words()
	switch {
	case *a.Allowed:
		p.line("%s  %s", p.in(good, "yes"), visible(what))
	case len(a.Grants) > 0:
		p.line("%s  %s", p.in(doubt, "possibly"), visible(what))
	case a.Lacks != "" || len(a.Unknown) > 0:
		p.line("%s  nothing that was read lets %s %s", p.in(doubt, "not known"), visible(a.Subject.String()), visible(a.Request.words()))
	default:
		p.line("%s  %s may not %s", p.in(bad, "no"), visible(a.Subject.String()), visible(a.Request.words()))
	}
	for i := range a.Grants[:min(len(a.Grants), maxRows)] {
		g := &a.Grants[i]
		p.placed(plain, 2, "", g.where()+" by "+g.chain(), at(g.BindingPosition))
		if g.Possible != "" {
			p.coloured(doubt, 4, "possible: ", g.Possible)
		}
	}
	p.more(len(a.Grants)-maxRows, "binding", "bindings")
}

func (a *Can) textAll(p *Page) {
	p.heading("%s", a.Subject)
	if len(a.RunBy) > 0 {
		var run []string
		for _, r := range a.RunBy {
			run = append(run, named(r))
		}
		p.prose(2, "run by ", strings.Join(some(run, 2*maxLines), ", "))
	}
	if len(a.Groups) > 0 {
		p.prose(2, "in the groups ", strings.Join(a.Groups, ", "))
	}
	within, everyone, shown := 0, 0, 0
	for i := 0; i < len(a.Permissions); {
		namespace := a.Permissions[i].Namespace
		var told []*Permission
		for ; i < len(a.Permissions) && a.Permissions[i].Namespace == namespace; i++ {
			switch perm := &a.Permissions[i]; {
			case perm.Everyone:
				everyone++
			case perm.Within:
				within++
			default:
				told = append(told, perm)
			}
		}
		if shown += len(told); len(told) > 0 {
			p.heading("%s", cmp.Or(prefixed("in the namespace ", namespace), "in the whole cluster"))
			p.permissions(told)
		}
	}
	if shown == 0 {
		p.line("")
		p.line("nothing that not everyone may")
	}
	if within+everyone > 0 {
		p.line("")
	}
	if within > 0 {
		p.line("%s", p.in(dim, count(within, "more permission is", "more permissions are")+" part of these; -o json lists them"))
	}
	if everyone > 0 {
		p.line("%s", p.in(dim, "and what everyone may: find out what the API serves, and who one is"))
	}
}

// prefixed returns a text with words before it; nothing for none.
func prefixed(words, s string) string {
	if s == "" {
		return ""
	}
	return words + s
}

// permissions prints those of one place, those by the same bindings together.
func (p *Page) permissions(list []*Permission) {
	var order []string
	by := map[string]cell{}
	rows := map[string][]row{}
	for _, perm := range list {
		chain := grants(perm.Grants)
		key := fmt.Sprint(chain)
		if rows[key] == nil {
			order = append(order, key)
			by[key] = chain
		}
		rows[key] = append(rows[key], row{cells: perm.cells()})
	}
	for _, key := range order {
		p.below(by[key])
		p.table(nil, rows[key])
	}
}

// cells say what may be done with what.
func (p *Permission) cells() []cell {
	what := p.Resources
	if len(p.Paths) > 0 {
		what = p.Paths
	}
	code := plain
	if slices.Contains(what, "*.*") && slices.Contains(p.Verbs, "*") {
		code = bad
	}
	names := text()
	if len(p.Names) > 0 {
		names = text("only " + strings.Join(some(p.Names, 2*maxLines), " "))
	}
	return []cell{text(""), text(strings.Join(p.Verbs, " ")).in(code), text(strings.Join(what, " ")).in(code), names}
}

// where says where a grant holds.
func (g *Grant) where() string {
	switch {
	case g.Namespace != "":
		return "in " + g.Namespace
	case g.Binding.Kind == "RoleBinding":
		return "in a namespace that is not said"
	}
	return "cluster-wide"
}
