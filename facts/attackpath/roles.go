// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// roleIndex is what the graph has made of roles and bindings.
type roleIndex struct {
	stale bool
	again bool // everything is to be made again
	// byRule and byText find what rules permit, by the list of rules and by what
	// it says.
	byRule     map[**rbac.Rule]*grants
	byText     map[string]*grants
	everything *grants
	editing    *grants

	bound  map[*rbac.Binding]rulesOf
	scopes map[scopedRole]rulesOf
	whole  map[string]bool // namespaces in which somebody may do all
	// subjects are those that are bound to something.
	subjects map[rbac.Subject]bool
	// late are those that name objects, which come and go.
	late         map[scopedRole]bool
	lateTogether bool
}

// scopedRole is a role where it is bound; "" is everywhere.
type scopedRole struct {
	role  object.Ref
	scope string
}

// rulesOf is what a binding or a role grants, as it was last seen.
type rulesOf struct {
	rules   []*rbac.Rule
	unknown string
}

func (r rulesOf) same(o rulesOf) bool {
	return r.unknown == o.unknown && len(r.rules) == len(o.rules) && (len(r.rules) == 0 || &r.rules[0] == &o.rules[0])
}

func newRoleIndex() roleIndex {
	return roleIndex{
		stale: true, byRule: map[**rbac.Rule]*grants{}, byText: map[string]*grants{}, bound: map[*rbac.Binding]rulesOf{},
		scopes: map[scopedRole]rulesOf{}, whole: map[string]bool{}, late: map[scopedRole]bool{},
	}
}

// updateRoles makes the links of bindings and of what they grant.
func (g *Graph) updateRoles() {
	x := &g.roles
	if !x.stale {
		g.late()
		return
	}
	if x.again {
		for key := range g.units {
			if key.kind == unitBinding || key.kind == unitRole {
				delete(g.units, key)
			}
		}
		clear(x.late)
		clear(x.bound)
		clear(x.scopes)
		clear(x.whole)
		g.remake(unitKey{kind: unitStatic}, g.static)
		for ns := range g.own.namespaces {
			g.own.staleNamespaces[ns] = true
		}
	}
	if len(x.byRule) > 4*len(x.bound)+4096 {
		clear(x.byRule)
		clear(x.byText)
	}
	x.stale, x.again = false, false
	bound, scopes, whole := make(map[*rbac.Binding]rulesOf, len(x.bound)), make(map[scopedRole]rulesOf, len(x.scopes)), map[string]bool{}
	for b := range g.identity.EachBinding {
		now := rulesOf{b.Rules, b.UnknownRules()}
		bound[b] = now
		role := roleOf(b)
		scopes[role] = now
		if before, ok := x.bound[b]; !ok || !before.same(now) {
			g.remake(bindingKey(b), func(m *maker) { m.binding(b) })
		}
	}
	x.subjects = subjectsOf(bound)
	for b := range x.bound {
		if _, ok := bound[b]; !ok {
			delete(g.units, bindingKey(b))
		}
	}
	for role, now := range scopes {
		if g.grantsOf(now.rules).all && role.scope != "" {
			whole[role.scope] = true
		}
		if before, ok := x.scopes[role]; !ok || !before.same(now) {
			g.role(role, now)
		}
	}
	for role := range x.scopes {
		if _, ok := scopes[role]; !ok {
			delete(g.units, roleKey(role))
			delete(x.late, role)
		}
	}
	g.whole(whole)
	x.bound, x.scopes = bound, scopes
	g.roles.lateTogether = true
	g.late()
}

func subjectsOf(bound map[*rbac.Binding]rulesOf) map[rbac.Subject]bool {
	out := make(map[rbac.Subject]bool, len(bound))
	for b := range bound {
		for _, s := range b.Subjects {
			out[s] = true
		}
	}
	return out
}

func bindingKey(b *rbac.Binding) unitKey { return unitKey{kind: unitBinding, of: b} }

func roleKey(r scopedRole) unitKey { return unitKey{kind: unitRole, of: r} }

func roleOf(b *rbac.Binding) scopedRole {
	out := scopedRole{role: b.Role}
	if !b.ClusterWide() {
		out.scope = space(b.Ref.Namespace)
	}
	return out
}

// thing is the vertex of what the role grants there.
func (r scopedRole) thing() thing {
	t := thing{kind: Permissions, namespace: r.scope, name: r.role.Name, of: r.role.Kind}
	if r.role.Namespace != "" && r.role.Namespace != r.scope {
		t.name = r.role.Namespace + "/" + t.name
	}
	return t
}

// bindingThing is the vertex of a binding.
func bindingThing(b *rbac.Binding) thing {
	return thing{kind: Binding, namespace: b.Ref.Namespace, name: b.Ref.Name, of: b.Ref.Kind}
}

// binding links the subjects of a binding to what its role grants.
func (m *maker) binding(b *rbac.Binding) {
	e, role, at := m.g.builtin(holdsPermission), roleOf(b), bindingThing(b)
	from := &because{object: b.Ref, words: fmt.Sprintf("it binds the %s %s", b.Role.Kind, b.Role.Name), position: b.Position}
	for _, s := range b.Subjects {
		who := subjectThing(s)
		m.link(who, at, e, from, "")
		switch s.Kind {
		case rbac.User:
			m.plain(all(PlaceUsers, ""), who)
			if s.Name != rbac.Anonymous {
				m.plain(who, thing{kind: Group, name: rbac.Authenticated})
			}
		case rbac.Group:
			m.plain(all(PlaceGroups, ""), who)
			if s.Name != rbac.Masters {
				m.plain(all(PlaceIdentities, ""), who)
			}
			if s.Name != rbac.Unauthenticated && s.Name != rbac.Authenticated {
				m.plain(who, thing{kind: Group, name: rbac.Authenticated})
			}
		default:
			m.plain(who, thing{kind: Group, name: rbac.AllAccounts + ":" + who.namespace})
			switch {
			case s.Name == "default": // each namespace has it, whether or not a manifest has
				m.plain(all(PlaceAccounts, who.namespace), who)
			case !m.g.env.Complete:
				m.link(all(PlaceAccounts, who.namespace), who, nil, nil, "the ServiceAccount "+qualified(s.Namespace, s.Name)+" may be there")
			}
		}
	}
	m.plain(at, role.thing())
	if unknown := b.UnknownSubjects(); unknown != "" {
		for _, who := range anybody {
			m.link(who, at, e, from, unknown)
		}
	}
	if unknown := b.UnknownRules(); unknown != "" {
		m.link(at, all(PlacePermissions, role.scope), e, from, unknown)
		m.need(role.scope)
	}
	m.change(at, &Change{Key: "binding " + b.Ref.String(), Object: b.Ref, Position: b.Position(), Words: "delete the binding, or bind a role that grants less"})
}

// anybody are those whom a binding may be to that does not say to whom it is.
var anybody = []thing{
	{kind: Group, name: rbac.Authenticated}, {kind: Group, name: rbac.Unauthenticated}, all(PlaceUsers, ""), all(PlaceGroups, ""), all(PlaceIdentities, ""),
}

// need asks for the links of one who may do all in a namespace.
func (m *maker) need(ns string) {
	if ns == "" || m.g.roles.whole[ns] {
		return
	}
	m.g.roles.whole[ns] = true
	m.g.remake(unitKey{kind: unitRole, a: ns}, func(m *maker) { m.all(ns) })
}

// whole makes the links of those who may do all in a namespace.
func (g *Graph) whole(now map[string]bool) {
	m := &maker{g: g, u: &unit{}}
	for _, ns := range slices.Sorted(maps.Keys(now)) {
		m.need(ns)
	}
}

func (m *maker) all(ns string) {
	from := all(PlacePermissions, ns)
	for _, h := range m.g.everything().edges {
		if _, full := h.mask(ns); full {
			m.granted(from, h, ns, nil)
		}
	}
}

// role makes the links of what a role grants where it is bound.
func (g *Graph) role(role scopedRole, of rulesOf) {
	grants := g.grantsOf(of.rules)
	delete(g.roles.late, role)
	g.remake(roleKey(role), func(m *maker) {
		from := role.thing()
		if role.role.Kind == "Role" {
			m.plain(all(PlaceRoles, role.scope), from)
		}
		if grants.all {
			e := (*Edge)(nil)
			if role.scope == "" {
				e = g.builtin(isClusterAdmin)
			}
			m.link(from, all(PlacePermissions, role.scope), e, &because{object: role.role, words: "it permits everything"}, "")
			m.need(role.scope)
			return
		}
		for _, h := range grants.edges {
			if _, full := h.mask(role.scope); full {
				m.granted(from, h, role.scope, m.rule(role, h))
			}
		}
		if m.late {
			g.roles.late[role] = true
		}
	})
}

const isClusterAdmin = "AT-003"

// permitted are those of the verbs that a rule grants.
func permitted(rule *rbac.Rule, verbs []string) []string {
	if slices.Contains(rule.Verbs, "*") {
		return verbs
	}
	return slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return !slices.Contains(rule.Verbs, v) })
}

// rule says which rule of a role grants what an edge needs.
func (m *maker) rule(role scopedRole, h granted) *because {
	o := h.at(0, role.scope)
	b := &because{object: o.rule.Role(), position: o.rule.Position}
	if b.object.Name == "" {
		b.object = role.role
	}
	b.words = "it permits to " + strings.Join(permitted(o.rule, o.access.Verbs), ", ") + " " + o.access.String()
	return b
}

// String returns the resource as kubectl writes it.
func (a *access) String() string {
	s := a.resource
	if a.group != "" {
		s += "." + a.group
	}
	if a.subresource != "" {
		s += "/" + a.subresource
	}
	return s
}

// late makes the links anew of roles that name objects.
func (g *Graph) late() {
	for role := range maps.Clone(g.roles.late) {
		g.role(role, g.roles.scopes[role])
	}
	if g.roles.lateTogether {
		g.remake(unitKey{kind: unitTogether}, g.together)
	}
}

// holds says whether what an edge needs of other objects is there.
func (g *Graph) holds(e *Edge) bool {
	there, _ := g.own.matched[e.index].state()
	return g.on(e) && (e.Condition == nil || there)
}

// doubt says why what an edge needs of other objects may not be there.
func (g *Graph) doubt(e *Edge) string {
	_, doubt := g.own.matched[e.index].state()
	return doubt
}

// granted links one who holds permissions to where an edge leads.
func (m *maker) granted(from thing, h granted, scope string, b *because) {
	e := h.edge
	if !m.g.holds(e) {
		return
	}
	possible := m.g.doubt(e)
	for _, to := range m.leads(h, scope) {
		m.link(from, to, e, b, possible)
	}
}

// leads are the things that an edge of permissions leads to.
func (m *maker) leads(h granted, scope string) []thing {
	e := h.edge
	names := h.names(scope)
	scope = e.scopeOf(scope)
	if a, ok := e.admission(); ok {
		return []thing{a.thing(scope)}
	}
	switch e.To {
	case PlaceMatched, PlaceMatchedAccounts, PlaceSelf:
		return []thing{matched(e, scope)}
	case PlacePermissions:
		m.need(scope)
	}
	if len(names) == 0 {
		return m.place(e.To, scope)
	}
	m.late = true
	return m.named(e.To, scope, names)
}

// named are things of a place by their names.
func (m *maker) named(place, scope string, names []string) []thing {
	var out []thing
	for _, n := range names {
		switch place {
		case PlaceUsers:
			if s := userOf(n); m.g.roles.subjects[s] {
				out = append(out, subjectThing(s))
			}
		case PlaceGroups:
			if s := (rbac.Subject{Kind: rbac.Group, Name: n}); m.g.roles.subjects[s] || n == rbac.Masters {
				out = append(out, subjectThing(s))
			}
		case PlaceNodes:
			out = append(out, thing{kind: Node, name: n})
		default:
			for _, ns := range m.scopes(scope) {
				out = append(out, m.namedIn(place, ns, n)...)
			}
		}
	}
	slices.SortFunc(out, thing.compare)
	return slices.Compact(out)
}

// userOf is the user of a name, or the ServiceAccount that it means.
func userOf(n string) rbac.Subject {
	if s, err := rbac.ParseSubject(n); err == nil && strings.HasPrefix(n, "system:serviceaccount:") {
		return s
	}
	return rbac.Subject{Kind: rbac.User, Name: n}
}

func (m *maker) scopes(scope string) []string {
	if scope != "" {
		return []string{scope}
	}
	return sortedKeys(m.g.own.namespaces)
}

func (m *maker) namedIn(place, ns, n string) []thing {
	x := &m.g.own
	switch place {
	case PlaceAccounts:
		if x.accounts[name{ns, n}] != nil || x.running[name{ns, n}] > 0 {
			return []thing{{kind: ServiceAccount, namespace: ns, name: n}}
		}
	case PlaceSecrets:
		if x.objects[object.Ref{APIVersion: "v1", Kind: "Secret", Namespace: strings.TrimSuffix(ns, unsaid), Name: n}] != nil || !m.g.env.Complete {
			return []thing{{kind: Secret, namespace: ns, name: n}}
		}
	case PlaceVolumes:
		return []thing{{kind: Volume, namespace: ns, name: n}}
	case PlaceTokenAccounts:
		if k := x.objects[object.Ref{APIVersion: "v1", Kind: "Secret", Namespace: strings.TrimSuffix(ns, unsaid), Name: n}]; k != nil && k.secret != nil && k.secret.account != "" {
			return []thing{{kind: ServiceAccount, namespace: ns, name: k.secret.account}}
		}
	case PlaceContainers:
		k := x.objects[object.Ref{APIVersion: "v1", Kind: "Pod", Namespace: strings.TrimSuffix(ns, unsaid), Name: n}]
		if k == nil || k.workload == nil {
			return nil
		}
		if w, ok := x.group(groupKey{ns, k.workload.owner, k.workload.alike}); ok {
			return []thing{w.of(Workload)}
		}
	}
	return nil
}

// partly is part of what an edge needs, as a binding gives it.
type partly struct {
	granted
	binding *rbac.Binding
	scope   string
	mask    uint32
}

// together links identities that hold what an edge needs by several bindings,
// none of which gives it all.
func (g *Graph) together(m *maker) {
	parts := map[int][]partly{}
	union := map[int]uint32{}
	for b, of := range g.roles.bound {
		role := roleOf(b)
		for _, h := range g.grantsOf(of.rules).edges {
			if len(h.held) < 2 || !g.holds(h.edge) {
				continue
			}
			if mask, full := h.mask(role.scope); mask != 0 && !full {
				parts[h.edge.index] = append(parts[h.edge.index], partly{h, b, role.scope, mask})
				union[h.edge.index] |= mask
			}
		}
	}
	for edge, list := range parts {
		if e := g.edges[edge]; union[edge] == 1<<len(e.required)-1 {
			m.combine(e, list)
		}
	}
	g.roles.lateTogether = m.late
}

// combine links each identity that holds all parts of an edge in some scope.
func (m *maker) combine(e *Edge, list []partly) {
	slices.SortFunc(list, func(a, b partly) int { return compareRefs(a.binding.Ref, b.binding.Ref) })
	held := map[rbac.Subject][]partly{}
	for _, p := range list {
		for _, s := range p.binding.Subjects {
			held[s] = append(held[s], p)
		}
	}
	for s := range held {
		all := slices.Clone(held[s])
		for _, g := range s.Groups() {
			all = append(all, held[rbac.Subject{Kind: rbac.Group, Name: g}]...)
		}
		scopes := map[string]uint32{"": 0}
		for _, p := range all {
			scopes[p.scope] |= p.mask
		}
		full := uint32(1<<len(e.required) - 1)
		for scope, mask := range scopes {
			if mask|scopes[""] != full || scope != "" && scopes[""] == full {
				continue
			}
			m.combined(s, e, scope, all)
		}
	}
}

// combined links one identity, by each of the bindings that give the part which
// the fewest give: without these it is not held.
func (m *maker) combined(s rbac.Subject, e *Edge, scope string, all []partly) {
	giving := make([][]partly, len(e.required))
	seen := map[*rbac.Binding]bool{}
	for _, p := range all {
		if p.scope != "" && p.scope != scope || seen[p.binding] {
			continue
		}
		seen[p.binding] = true // by itself, and by a group of the subject
		for i := range giving {
			if p.mask&(1<<i) != 0 {
				giving[i] = append(giving[i], p)
			}
		}
	}
	together := merged(e, scope, all)
	for _, p := range slices.MinFunc(giving, func(a, b []partly) int { return cmp.Compare(len(a), len(b)) }) {
		by := &because{object: p.binding.Ref, words: "with other bindings it permits what is needed", position: p.binding.Position}
		step := thing{kind: Binding, namespace: p.binding.Ref.Namespace, name: p.binding.Ref.Name, of: p.binding.Ref.Kind + " " + s.String() + " " + e.Name + " " + scope}
		m.link(subjectThing(s), step, m.g.builtin(holdsPermission), by, "")
		m.change(step, &Change{Key: "binding " + p.binding.Ref.String(), Object: p.binding.Ref, Position: p.binding.Position(), Words: "delete the binding, or bind a role that grants less"})
		m.granted(step, together, scope, by)
	}
}

// merged is what several bindings give of an edge in a scope.
func merged(e *Edge, scope string, all []partly) granted {
	out := granted{edge: e, held: make([][]option, len(e.required)), settled: true}
	for _, p := range all {
		if p.scope != "" && p.scope != scope {
			continue
		}
		for i := range p.held {
			for _, o := range p.held[i] {
				if o.access.in(p.scope) {
					out.held[i] = append(out.held[i], o)
				}
			}
		}
	}
	return out
}

// compareRefs orders objects.
func compareRefs(a, b object.Ref) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.APIVersion, b.APIVersion))
}
