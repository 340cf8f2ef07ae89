// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Model says who may do what by RBAC. It answers as the API server's RBAC
// authorizer does; members of system:masters may do everything, whatever is bound.
// Other authorizers (the one of nodes, webhooks) it does not know.
//
// ClusterRoles that Kubernetes brings by itself have their rules where they are
// not among the objects; see builtIn. Who is bound to them by default counts only
// where such bindings are among the objects.
//
// An aggregated ClusterRole has the rules that a cluster's controller filled in;
// one from a file, those that the controller is going to fill in.
//
// A Model may be asked from several goroutines, but not while Set changes it.
type Model struct {
	env     facts.Env
	objects map[object.Ref][]any
	roles   roles
	// bindings are all there are. Those of which something is not known are also
	// among the doubtful; the blind do not say themselves what they bind, or to
	// whom.
	bindings        map[*keptBinding]*Binding
	doubtful, blind map[*Binding]bool
	held            map[Subject]*scoped
	// namesakes are the ServiceAccounts of a name that are bound, whatever their
	// namespace: an object in a file need not say it.
	namesakes map[string]map[Subject]bool
	accounts  accounts
	// changed, where it is set, is told of what may have other facts.
	changed *changes
}

// scoped are bindings by where they hold.
type scoped struct {
	cluster []*Binding
	in      map[string][]*Binding
}

func (s *scoped) add(b *Binding) {
	if b.ClusterWide() {
		s.cluster = append(s.cluster, b)
		return
	}
	if s.in == nil {
		s.in = map[string][]*Binding{}
	}
	s.in[b.Ref.Namespace] = append(s.in[b.Ref.Namespace], b)
}

func (s *scoped) remove(b *Binding) {
	if b.ClusterWide() {
		s.cluster = without(s.cluster, b)
		return
	}
	if s.in[b.Ref.Namespace] = without(s.in[b.Ref.Namespace], b); len(s.in[b.Ref.Namespace]) == 0 {
		delete(s.in, b.Ref.Namespace)
	}
}

func without(list []*Binding, b *Binding) []*Binding {
	return slices.DeleteFunc(list, func(other *Binding) bool { return other == b })
}

func (s *scoped) empty() bool { return len(s.cluster) == 0 && len(s.in) == 0 }

// all are all the bindings, in their order.
func (s *scoped) all() []*Binding {
	out := slices.Clone(s.cluster)
	for _, list := range s.in {
		out = append(out, list...)
	}
	sortBindings(out)
	return out
}

// Binding is a RoleBinding or a ClusterRoleBinding.
type Binding struct {
	Ref object.Ref
	// Role is the role that it grants, and RoleFound says whether that is there:
	// among the objects, or brought by Kubernetes.
	Role      object.Ref
	RoleFound bool
	// Unknown says why it may grant more than is known, or to more subjects;
	// empty where it does not.
	Unknown string
	// Subjects are those to whom it grants the rules of the role; a subject that
	// the API server would refuse is not among them.
	Subjects []Subject
	// Rules are those of the role, shared with its other bindings.
	Rules []*Rule

	kept *keptBinding
	role *roleState
}

// ClusterWide says whether it is a ClusterRoleBinding.
func (b *Binding) ClusterWide() bool { return b.kept.cluster() }

// Position is where a person edits the binding: its roleRef.
func (b *Binding) Position() object.Position {
	return b.kept.place.position(object.Path(nil).Fields("roleRef"))
}

// Refused says why the API server would not take the binding; empty where it
// would.
func (b *Binding) Refused() string { return b.kept.refused }

// UnknownSubjects says why it may bind more subjects than are known; empty where
// it does not.
func (b *Binding) UnknownSubjects() string {
	if b.kept.refused != "" {
		return ""
	}
	return b.kept.unknownSubjects
}

// UnknownRules says why it may grant more than is known; empty where it does not.
func (b *Binding) UnknownRules() string {
	switch {
	case b.kept.refused != "":
		return ""
	case b.kept.unknownRole:
		return b.kept.unknown
	}
	return b.role.unknown
}

// sortBindings puts ClusterRoleBindings first, then RoleBindings by namespace.
func sortBindings(list []*Binding) {
	slices.SortFunc(list, func(a, b *Binding) int { return compareRefs(a.Ref, b.Ref) })
}

// NewModel returns the model of objects, given what Keep returned of each. Their
// order does not matter. Of the environment it needs whether the objects are
// complete; nil says that they are not.
func NewModel(kept []any, env *facts.Env) *Model {
	m := newModel(env, len(kept))
	for _, k := range kept {
		if ref, ok := refOf(k); ok {
			m.objects[ref] = append(m.objects[ref], k)
			m.take(k)
		}
	}
	m.roles.settleAll()
	for _, b := range m.bindings {
		m.follow(b)
	}
	return m
}

func newModel(env *facts.Env, size int) *Model {
	m := &Model{
		objects: make(map[object.Ref][]any, size), bindings: map[*keptBinding]*Binding{}, doubtful: map[*Binding]bool{}, blind: map[*Binding]bool{},
		held: map[Subject]*scoped{}, namesakes: map[string]map[Subject]bool{}, accounts: newAccounts(),
	}
	if env != nil {
		m.env = *env
	}
	m.roles = newRoles(m.env.Complete)
	return m
}

// refOf is the object that something was kept of.
func refOf(kept any) (object.Ref, bool) {
	switch k := kept.(type) {
	case *keptRole:
		return k.ref, true
	case *keptBinding:
		return k.ref, true
	case *keptAccount:
		return k.ref, true
	case *keptRunner:
		return k.ref, true
	case *keptToken:
		return k.ref, true
	}
	return object.Ref{}, false
}

// Set puts what Keep returned of an object in place of what it returned before;
// nil takes it away.
func (m *Model) Set(ref object.Ref, kept any) {
	before := m.objects[ref]
	delete(m.objects, ref)
	var roles []*keptRole
	for _, k := range before {
		m.drop(k)
		if r, ok := k.(*keptRole); ok {
			roles = append(roles, r)
		}
	}
	if _, ok := refOf(kept); ok {
		m.objects[ref] = []any{kept}
		m.take(kept)
	}
	if r, ok := kept.(*keptRole); ok {
		roles = append(roles, r)
	}
	if b, ok := kept.(*keptBinding); ok {
		m.follow(m.bindings[b])
	}
	for _, s := range m.roles.settle(roles) {
		for _, b := range s.bound.all() {
			m.follow(b)
		}
		m.changed.role(m, s)
	}
	m.changed.selectors(roles)
}

// take adds what was kept of an object to all but the answers that follow from
// roles.
func (m *Model) take(kept any) {
	switch k := kept.(type) {
	case *keptRole:
		m.roles.add(k)
	case *keptBinding:
		m.bind(k)
	case *keptAccount, *keptRunner, *keptToken:
		m.changed.account(m, kept)
		m.accounts.add(kept)
	}
}

func (m *Model) drop(kept any) {
	switch k := kept.(type) {
	case *keptRole:
		m.roles.remove(k)
	case *keptBinding:
		m.unbind(k)
	case *keptAccount, *keptRunner, *keptToken:
		m.changed.account(m, kept)
		m.accounts.remove(kept)
	}
}

func (m *Model) bind(k *keptBinding) {
	b := &Binding{Ref: k.ref, kept: k, Role: k.role.ref()}
	m.bindings[k] = b
	if k.refused == "" {
		for _, s := range k.subjects {
			if s.refused == "" && !slices.Contains(b.Subjects, s.Subject) {
				b.Subjects = append(b.Subjects, s.Subject)
			}
		}
	}
	if k.unknown != "" {
		m.blind[b] = true
	}
	b.role = m.roles.bind(b)
	m.changed.binding(m, b)
	for _, s := range b.Subjects {
		h := m.held[s]
		if h == nil {
			h = &scoped{}
			m.held[s] = h
			m.namesake(s, true)
		}
		h.add(b)
	}
	m.changed.binding(m, b)
}

func (m *Model) unbind(k *keptBinding) {
	b := m.bindings[k]
	delete(m.bindings, k)
	delete(m.doubtful, b)
	delete(m.blind, b)
	m.changed.binding(m, b)
	m.roles.unbind(b)
	for _, s := range b.Subjects {
		h := m.held[s]
		if h.remove(b); h.empty() {
			delete(m.held, s)
			m.namesake(s, false)
		}
	}
	m.changed.binding(m, b)
}

// namesake notes whether a ServiceAccount is bound.
func (m *Model) namesake(s Subject, bound bool) {
	if s.Kind != ServiceAccount {
		return
	}
	if !bound {
		if delete(m.namesakes[s.Name], s); len(m.namesakes[s.Name]) == 0 {
			delete(m.namesakes, s.Name)
		}
		return
	}
	if m.namesakes[s.Name] == nil {
		m.namesakes[s.Name] = map[Subject]bool{}
	}
	m.namesakes[s.Name][s] = true
}

// follow puts into a binding what follows from its role.
func (m *Model) follow(b *Binding) {
	b.Rules, b.RoleFound = b.role.rules, b.role.found
	b.Unknown = b.kept.unknown
	if b.Unknown == "" && b.kept.refused == "" {
		b.Unknown = b.role.unknown
	}
	if b.Unknown == "" {
		delete(m.doubtful, b)
	} else {
		m.doubtful[b] = true
	}
}
