// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unique"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Effective derives the facts that say which permissions follow from roles,
// bindings and what runs.
var Effective = facts.Whole{
	Kinds: []string{"Identity", "PodPermissions", "Grant", "RoleUse"},
	From:  facts.From(facts.Sources{Pods: true, Kinds: []object.GroupKind{role, clusterRole, roleBinding, clusterRoleBinding, serviceAccount}}),
	Keep:  Keep,
	Derive: func(kept []any, env *facts.Env, yield func(*object.Object)) {
		m := NewModel(kept, env)
		d := newDeriver(m)
		for _, k := range kept {
			d.about(k, yield)
		}
	},
	Live: func() facts.Live {
		return &live{m: newModel(nil, 0), unsaid: map[object.Ref]bool{}, gone: map[object.Ref]bool{}}
	},
}

// live keeps the model and the facts up to date.
type live struct {
	m       *Model
	settled bool
	// unsaid are the objects that do not say their namespace. A cluster has
	// none; where there are some, a change may be one of any namespace.
	unsaid map[object.Ref]bool
	// gone are the objects of which nothing is kept any more, and of which that
	// was not told yet.
	gone map[object.Ref]bool
}

// Set implements facts.Live. Until facts are first asked for, objects are only
// gathered.
func (l *live) Set(ref object.Ref, kept any) {
	was := l.unsaid[ref]
	if delete(l.gone, ref); kept == nil {
		l.gone[ref] = true
	}
	if kept == nil {
		delete(l.unsaid, ref)
	} else if gk := ref.GroupKind(); ref.Namespace == "" && gk != clusterRole && gk != clusterRoleBinding {
		l.unsaid[ref] = true
	}
	switch {
	case l.settled:
		l.m.changed.all = l.m.changed.all || was || len(l.unsaid) > 0
		l.m.Set(ref, kept)
	case kept == nil:
		delete(l.m.objects, ref)
	default:
		l.m.objects[ref] = []any{kept}
	}
}

// Settle implements facts.Live.
func (l *live) Settle(env *facts.Env, changed func(subject object.Ref, facts []*object.Object)) {
	if !l.settled || env.Complete != l.m.env.Complete {
		var kept []any
		for _, all := range l.m.objects {
			kept = append(kept, all...)
		}
		l.m, l.settled = NewModel(kept, env), true
		l.m.changed = &changes{all: true}
	}
	c := l.m.changed
	c.close(l.m)
	l.m.changed = newChanges()
	refs := make([]object.Ref, 0, len(c.refs))
	if c.all {
		for ref := range l.m.objects {
			refs = append(refs, ref)
		}
	}
	for ref := range c.refs {
		if !c.all && l.m.objects[ref] != nil {
			refs = append(refs, ref)
		}
	}
	for ref := range l.gone {
		refs = append(refs, ref)
	}
	clear(l.gone)
	slices.SortFunc(refs, compareRefs)
	d := newDeriver(l.m)
	for _, ref := range refs {
		var about []*object.Object
		for _, k := range l.m.objects[ref] {
			d.about(k, func(fact *object.Object) { about = append(about, fact) })
		}
		changed(ref, about)
	}
}

// deriver makes facts of a model that does not change meanwhile. What many facts
// say is made once.
type deriver struct {
	*Model
	rules  map[unique.Handle[string]][]object.Field
	roles  map[*roleState]*object.Node
	firsts map[Subject]*Binding
	ofPods map[Subject]*object.Node // what pods hold, by the ServiceAccount
	into   map[*roleState][]*roleState
	// everywhere is why anybody may hold more than is known; unclear, why more
	// may run as somebody.
	everywhere []string
	unclear    string
}

func newDeriver(m *Model) *deriver {
	d := &deriver{
		Model: m, rules: map[unique.Handle[string]][]object.Field{}, roles: map[*roleState]*object.Node{},
		firsts: map[Subject]*Binding{}, ofPods: map[Subject]*object.Node{}, into: map[*roleState][]*roleState{},
	}
	for a := range m.roles.aggregates {
		for s := range a.from {
			d.into[s] = append(d.into[s], a)
		}
	}
	for _, list := range d.into {
		slices.SortFunc(list, compareStates)
	}
	for b := range m.blind {
		d.everywhere = append(d.everywhere, b.doubt())
	}
	if !m.env.Complete {
		d.everywhere = append(d.everywhere, incomplete)
	}
	d.unclear = m.accounts.someUnclear()
	return d
}

// about yields the facts about an object.
func (d *deriver) about(kept any, yield func(*object.Object)) {
	switch k := kept.(type) {
	case *keptRole:
		yield(d.roleUse(k))
	case *keptBinding:
		b := d.bindings[k]
		yield(d.grant(b))
		for _, s := range b.Subjects {
			if s.Kind != ServiceAccount && d.firstOf(s) == b {
				yield(d.identity(k.place.of, s, d.placesOfSubject(b, s)))
			}
		}
	case *keptAccount:
		yield(d.identity(k.place.of, Subject{ServiceAccount, k.ref.Namespace, k.ref.Name}, nil))
	case *keptRunner:
		yield(d.podPermissions(k))
	}
}

// first is the binding that a fact about a subject is told with.
func (m *Model) first(s Subject) *Binding {
	h := m.held[s]
	if h == nil {
		return nil
	}
	var first *Binding
	consider := func(list []*Binding) {
		for _, b := range list {
			if first == nil || cmp.Or(compareRefs(b.Ref, first.Ref), b.kept.place.compare(first.kept.place)) < 0 {
				first = b
			}
		}
	}
	consider(h.cluster)
	for _, list := range h.in {
		consider(list)
	}
	return first
}

func (d *deriver) firstOf(s Subject) *Binding {
	first, ok := d.firsts[s]
	if !ok {
		first = d.first(s)
		d.firsts[s] = first
	}
	return first
}

// placesOfSubject are the places of a fact about a subject of a binding.
func (d *deriver) placesOfSubject(b *Binding, s Subject) []facts.Place {
	for i, other := range b.kept.subjects {
		if other.Subject == s && other.refused == "" {
			return []facts.Place{{Fact: facts.Path("facts"), Source: b.kept.subjectPath(i)}}
		}
	}
	return nil
}

// subjectPath leads to a subject of a binding.
func (k *keptBinding) subjectPath(i int) object.Path {
	list := facts.List()
	for _, s := range k.subjects {
		list.Items = append(list.Items, facts.Map(facts.Field("name", object.NewString(s.named))))
	}
	return facts.Path("subjects").Append(object.ItemStep(list, i))
}

// maxPermissions is how many different permissions are listed in a fact.
const maxPermissions = 64

// identity is the fact about a subject.
func (d *deriver) identity(of *object.Object, s Subject, places []facts.Place) *object.Object {
	fields := append(d.subjectFields(s, false), facts.Field("permissions", d.permissions(s, nil)))
	return facts.New("Identity", of, []object.Field{facts.Field("facts", facts.Map(fields...))}, places...)
}

// subjectFields say who somebody is, and whether anything acts as them; nothing
// does as a subject that the API server would refuse.
func (d *deriver) subjectFields(s Subject, refused bool) []object.Field {
	found, used := object.NewBool(!refused), object.NewBool(false)
	if !refused {
		used = d.used(s)
	}
	if n := (name{s.Namespace, s.Name}); !refused && s.Kind == ServiceAccount && !d.accounts.found(n) {
		found = d.env.Absent(object.NewBool(false), fmt.Sprintf("the ServiceAccount %s is not among what was read", qualified(s.Namespace, s.Name)))
	}
	return []object.Field{
		facts.Field("kind", object.NewString(s.Kind)), facts.Field("name", object.NewString(s.Name)),
		facts.Field("namespace", object.NewString(s.Namespace)), facts.Field("external", object.NewBool(s.external())),
		facts.Field("everyone", object.NewBool(s.everyone())), facts.Field("found", found), facts.Field("used", used),
	}
}

// everyone says whether a subject is all who can reach the API server, all who
// are authenticated, or all ServiceAccounts.
func (s Subject) everyone() bool {
	switch s.Kind {
	case Group:
		return s.Name == Authenticated || s.Name == Unauthenticated || s.Name == AllAccounts
	case User:
		return s.Name == Anonymous
	}
	return false
}

// external says whether only the place where people authenticate knows who a
// subject is.
func (s Subject) external() bool {
	return s.Kind != ServiceAccount && !s.everyone() && !(s.Kind == Group && strings.HasPrefix(s.Name, accountGroup))
}

// used says whether anything acts as a subject. Of one that is external that is
// supposed.
func (d *deriver) used(s Subject) *object.Node {
	n := name{s.Namespace, s.Name}
	group, isGroup := strings.CutPrefix(s.Name, accountGroup)
	isGroup = isGroup && s.Kind == Group
	switch {
	case s.Kind != ServiceAccount && !isGroup, isGroup && d.accounts.in[group]+d.accounts.in[""] > 0, !isGroup && d.accounts.runs(n):
		return object.NewBool(true)
	case d.unclear != "":
		return object.NewUnknown(fmt.Sprintf("what runs as the %s: %s", s, d.unclear))
	case d.env.Complete:
		return object.NewBool(false)
	}
	return object.NewUnknown(fmt.Sprintf("what runs as the %s is not among what was read", s))
}

// permission is what grants of one rule have in common: the rule, the role, to
// whom it is bound, and whether in the whole cluster.
type permission struct {
	text    unique.Handle[string]
	role    object.Ref
	via     Subject
	cluster bool
}

// permissions are what a subject holds, or also its groups where these are
// given, each rule once however many namespaces it is granted in.
func (d *deriver) permissions(s Subject, by []membership) *object.Node {
	if by == nil {
		by = d.memberships(s, nil)
		by = slices.DeleteFunc(by, func(m membership) bool { return m.Kind == Group && m.Subject != s })
	}
	c := permissionList{d: d, at: map[permission]int{}}
	for _, m := range by {
		h := d.held[m.Subject]
		if h == nil {
			continue
		}
		for _, b := range h.all() {
			c.add(b, m)
		}
	}
	return c.node()
}

// permissionList gathers permissions for a fact.
type permissionList struct {
	d       *deriver
	at      map[permission]int
	grants  []Grant // the first of each
	spaces  []int   // in how many namespaces each is granted
	unknown []string
}

func (c *permissionList) add(b *Binding, by membership) {
	if by.everyone() && b.Role.Kind == clusterRole.Kind && slices.Contains(everyones, b.Role.Name) {
		return
	}
	if b.Unknown != "" {
		c.unknown = append(c.unknown, b.doubt())
	}
	maybe := ""
	if !b.ClusterWide() && b.Ref.Namespace == "" && by.Namespace != "" {
		maybe = fmt.Sprintf("%s does not say its namespace", b.Ref)
	}
	b.grants(by, func(*Rule) bool { return true }, maybe, func(g Grant) {
		role := g.RuleRole
		role.Namespace = "" // one Role of a name in many namespaces
		p := permission{g.Rule.text, role, by.Subject, b.ClusterWide()}
		if i, has := c.at[p]; has {
			c.spaces[i]++
			return
		}
		c.at[p] = len(c.grants)
		c.grants, c.spaces = append(c.grants, g), append(c.spaces, 1)
	})
}

// node writes the permissions down. What is not known, or not listed, stands at
// the end as a value that is not known.
func (c *permissionList) node() *object.Node {
	out := facts.List()
	for i, g := range c.grants[:min(len(c.grants), maxPermissions)] {
		fields := append(slices.Clone(c.d.rule(g.Rule)),
			facts.Field("clusterWide", object.NewBool(g.Binding.ClusterWide())),
			facts.Field("namespace", object.NewString(g.Binding.Ref.Namespace)),
			facts.Field("namespaces", object.NewInt(int64(c.spaces[i]))),
			facts.Field("binding", object.NewString(shortRef(g.Binding.Ref))),
			facts.Field("role", object.NewString(shortRef(g.RuleRole))),
			facts.Field("via", object.NewString(g.Via.String())),
			facts.Field("certain", object.NewBool(g.Maybe == "")))
		out.Items = append(out.Items, facts.Map(fields...))
	}
	if more := len(c.grants) - maxPermissions; more > 0 {
		out.Items = append(out.Items, object.NewUnknown(fmt.Sprintf("%d more permissions are not listed", more)))
	}
	for _, why := range tidy(append(c.unknown, c.d.everywhere...)) {
		out.Items = append(out.Items, object.NewUnknown(why))
	}
	return out
}

// shortRef names an object by its kind, namespace and name.
func shortRef(ref object.Ref) string { return ref.Kind + " " + qualified(ref.Namespace, ref.Name) }

// rule are the fields of a permission that its rule says.
func (d *deriver) rule(r *Rule) []object.Field {
	if fields, ok := d.rules[r.text]; ok {
		return fields
	}
	fields := []object.Field{
		facts.Field("verbs", facts.Strings(r.Verbs)), facts.Field("groups", facts.Strings(r.Groups)),
		facts.Field("resources", facts.Strings(r.Resources)), facts.Field("names", facts.Strings(r.Names)),
		facts.Field("paths", facts.Strings(r.Paths)),
		facts.Field("anyVerb", object.NewBool(slices.Contains(r.Verbs, all))),
		facts.Field("anyGroup", object.NewBool(slices.Contains(r.Groups, all))),
		facts.Field("anyResource", object.NewBool(slices.Contains(r.Resources, all))),
		facts.Field("anyName", object.NewBool(len(r.Resources) > 0 && len(r.Names) == 0)),
		facts.Field("anyPath", object.NewBool(slices.ContainsFunc(r.Paths, func(p string) bool {
			return strings.Trim(p, all) == "" || strings.Trim(p, all) == "/" && strings.HasSuffix(p, all)
		}))),
	}
	d.rules[r.text] = fields
	return fields
}

// ruleList are the rules that a role grants.
func (d *deriver) ruleList(s *roleState) *object.Node {
	if list, ok := d.roles[s]; ok {
		return list
	}
	out := facts.List()
	for _, r := range s.rules[:min(len(s.rules), maxPermissions)] {
		fields := append(slices.Clone(d.rule(r)), facts.Field("role", object.NewString(shortRef(r.Role()))))
		out.Items = append(out.Items, facts.Map(fields...))
	}
	if more := len(s.rules) - maxPermissions; more > 0 {
		out.Items = append(out.Items, object.NewUnknown(fmt.Sprintf("%d more rules are not listed", more)))
	}
	if s.unknown != "" {
		out.Items = append(out.Items, object.NewUnknown(s.unknown))
	}
	d.roles[s] = out
	return out
}

// grant is the fact about a binding.
func (d *deriver) grant(b *Binding) *object.Object {
	root := facts.Path("facts")
	places := []facts.Place{
		{Fact: root.Fields("role"), Source: facts.Path("roleRef")}, {Fact: root.Fields("rules"), Source: facts.Path("roleRef")},
		{Fact: root.Fields("refused"), Source: facts.Path("roleRef")},
	}
	role := facts.Map(facts.Field("kind", object.NewString(b.Role.Kind)), facts.Field("name", object.NewString(b.Role.Name)), facts.Field("found", d.found(b)))
	rules := d.ruleList(b.role)
	if b.kept.unknownRole {
		role, rules = object.NewUnknown(b.kept.unknown), object.NewUnknown(b.kept.unknown)
	}
	subjects := facts.List()
	for i, s := range b.kept.subjects {
		places = append(places, facts.Place{
			Fact:   root.Fields("subjects").Append(object.Step{Item: true, Index: i}),
			Source: b.kept.subjectPath(i),
		})
		fields := append(d.subjectFields(s.Subject, s.refused+b.kept.refused != ""), facts.Field("refused", object.NewString(s.refused)))
		subjects.Items = append(subjects.Items, facts.Map(fields...))
	}
	if b.kept.unknown != "" && !b.kept.unknownRole {
		subjects.Items = append(subjects.Items, object.NewUnknown(b.kept.unknown))
	}
	return facts.New("Grant", b.kept.place.of, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("clusterWide", object.NewBool(b.ClusterWide())),
		facts.Field("role", role), facts.Field("rules", rules), facts.Field("subjects", subjects),
		facts.Field("used", d.anyUsed(b.Subjects, b.kept.unknown)),
		facts.Field("refused", object.NewString(b.kept.refused)),
	))}, places...)
}

// found says whether the role of a binding is there.
func (d *deriver) found(b *Binding) *object.Node {
	if b.RoleFound {
		return object.NewBool(true)
	}
	return d.env.Absent(object.NewBool(false), fmt.Sprintf("the %s %s is not among what was read", b.Role.Kind, qualified(b.Role.Namespace, b.Role.Name)))
}

// anyUsed says whether anything acts as one of the subjects.
func (d *deriver) anyUsed(subjects []Subject, unknown string) *object.Node {
	out := object.NewBool(false)
	if unknown != "" {
		out = object.NewUnknown(unknown)
	}
	for _, s := range subjects {
		switch used := d.used(s); {
		case used.Bool():
			return used
		case used.Kind == object.Unknown && out.Kind != object.Unknown:
			out = used
		}
	}
	return out
}

// roleUse is the fact about a role.
func (d *deriver) roleUse(k *keptRole) *object.Object {
	s := d.Model.roles.all[keyOf(k.ref)]
	bindings := s.bound.all()
	var into []string
	for _, a := range d.into[s] {
		into = append(into, a.key.name)
		bindings = append(bindings, a.bound.all()...)
	}
	if k.ref.Kind == role.Kind && k.ref.Namespace == "" {
		for same := range d.Model.roles.namesakes[k.ref.Name] {
			if same != s && len(same.kept) == 0 {
				bindings = append(bindings, same.bound.all()...)
			}
		}
	} else if same := d.Model.roles.all[roleKey{name: k.ref.Name}]; k.ref.Kind == role.Kind && same != nil && len(same.kept) == 0 {
		bindings = append(bindings, same.bound.all()...)
	}
	bindings = slices.DeleteFunc(bindings, func(b *Binding) bool { return len(b.Subjects) == 0 && b.kept.unknown == "" }) // they bind it to nobody
	seen := map[Subject]bool{}
	var subjects []Subject
	for _, b := range bindings {
		for _, s := range b.Subjects {
			if !seen[s] {
				seen[s] = true
				subjects = append(subjects, s)
			}
		}
	}
	return facts.New("RoleUse", k.place.of, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("role", object.NewString(shortRef(k.ref))), facts.Field("kind", object.NewString(k.ref.Kind)),
		facts.Field("boundTo", d.boundTo(bindings)),
		facts.Field("bound", d.bound(s, len(bindings))),
		facts.Field("bindings", object.NewInt(int64(len(bindings)))),
		facts.Field("subjects", object.NewInt(int64(len(subjects)))),
		facts.Field("used", d.anyUsed(subjects, d.why(len(bindings), s))),
		facts.Field("aggregated", object.NewBool(s.aggregate)),
		facts.Field("aggregatesInto", facts.Strings(into)),
		facts.Field("rules", d.ruleList(s)),
	))}, d.rulePlaces(k, s)...)
}

// maxChains is how many subjects a fact about a role names.
const maxChains = 4

// boundTo says in words whom bindings name, by what, and what runs as them.
func (d *deriver) boundTo(bindings []*Binding) *object.Node {
	bindings = slices.SortedFunc(slices.Values(bindings), func(a, b *Binding) int { return compareRefs(a.Ref, b.Ref) })
	out := facts.List()
	for _, b := range bindings {
		for _, s := range b.Subjects {
			if len(out.Items) == maxChains {
				return out
			}
			words := fmt.Sprintf("%s by %s", s, shortRef(b.Ref))
			if runner := d.accounts.runner(s); runner != nil {
				words = fmt.Sprintf("%s, which %s runs as, by %s", s, shortRef(runner.ref), shortRef(b.Ref))
			}
			out.Items = append(out.Items, object.NewString(words))
		}
	}
	return out
}

// why is why it is not known whether a role that no binding was found for is
// bound.
func (d *deriver) why(bindings int, s *roleState) string {
	if bindings > 0 {
		return ""
	}
	var out []string
	for b := range d.blind {
		if b.kept.unknownRole {
			out = append(out, b.doubt())
		}
	}
	if !d.env.Complete {
		out = append(out, fmt.Sprintf("a binding of the %s is not among what was read", shortRef(s.key.ref())))
	}
	return strings.Join(tidy(out), "; ")
}

// bound says whether a role is bound.
func (d *deriver) bound(s *roleState, bindings int) *object.Node {
	if why := d.why(bindings, s); why != "" {
		return object.NewUnknown(why)
	}
	return object.NewBool(bindings > 0)
}

// rulePlaces lead from the rules of a fact about a role to those of the role.
func (d *deriver) rulePlaces(k *keptRole, s *roleState) []facts.Place {
	var out []facts.Place
	for i, r := range s.rules[:min(len(s.rules), maxPermissions)] {
		source := facts.Path("aggregationRule")
		if r.in == k {
			source = facts.Path("rules").Append(object.Step{Item: true, Index: r.Index})
		}
		out = append(out, facts.Place{Fact: facts.Path("facts", "rules").Append(object.Step{Item: true, Index: i}), Source: source})
	}
	return out
}

// podPermissions is the fact about what holds a pod.
func (d *deriver) podPermissions(k *keptRunner) *object.Object {
	path, _ := object.PodPath(k.ref.GroupKind())
	places := []facts.Place{
		{Fact: facts.Path("facts"), Source: path.Fields("spec", k.field)},
		{Fact: facts.Path("facts", "tokenMounted"), Source: path.Fields("spec", automountField)},
	}
	account, mounted, permissions := object.NewString(k.account), d.mounted(k), object.NewUnknown(k.unknown)
	if k.unknown != "" {
		account, mounted = permissions, permissions
	} else {
		s := Subject{ServiceAccount, k.ref.Namespace, k.account}
		if d.ofPods[s] == nil {
			d.ofPods[s] = d.permissions(s, d.memberships(s, nil))
		}
		permissions = d.ofPods[s]
	}
	return facts.New("PodPermissions", k.place.of, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("account", account), facts.Field("tokenMounted", mounted), facts.Field("permissions", permissions),
	))}, places...)
}

// mounted says whether a pod has a token mounted.
func (d *deriver) mounted(k *keptRunner) *object.Node {
	mount := k.mount
	n := name{k.ref.Namespace, k.account}
	if !k.says {
		s := d.accounts.all[n]
		if s == nil || len(s.kept) == 0 {
			if s = d.accounts.all[name{"", n.name}]; s == nil || len(s.kept) == 0 {
				return d.env.Absent(object.NewBool(true), fmt.Sprintf("the ServiceAccount %s is not among what was read", qualified(n.namespace, n.name)))
			}
			n.namespace = ""
		}
		a := d.accounts.account(n)
		mount.mounted, mount.why = a.Mounted, a.MountUnknown
	}
	if mount.why != "" {
		return object.NewUnknown(mount.why)
	}
	return object.NewBool(mount.mounted)
}
