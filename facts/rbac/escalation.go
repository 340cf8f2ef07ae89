// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Way is how somebody comes to hold more than is bound to them.
type Way string

// The ways. The API server grants no more than somebody holds, except to those
// who may bind or escalate.
const (
	// Impersonate is to act as another user, group or ServiceAccount.
	Impersonate Way = "impersonate"
	// ImpersonateOn is to act as another for some requests only: constrained
	// impersonation, which Kubernetes has by default since 1.36.
	ImpersonateOn Way = "impersonate-on"
	// Token is to have a token of a ServiceAccount made.
	Token Way = "token"
	// Bind is to bind a role that holds more than oneself.
	Bind Way = "bind"
	// Escalate is to write rules that allow more than oneself holds.
	Escalate Way = "escalate"
)

// Step is a way to more that somebody has.
type Step struct {
	Way Way
	// By are the grants that open it; all kinds of permission that it needs are
	// among them.
	By []Grant
	// As is the subject that is acted as; the zero Subject where it is a role
	// that is bound or changed.
	As Subject
	// Role is the role that is bound or changed; the zero Ref where it is a
	// subject.
	Role object.Ref
}

// Gain is what a subject could come to hold, by one rule that allows it a step.
type Gain struct {
	Way Way
	// Kind is what the rule is about: User, Group, ServiceAccount, UID, Extra
	// (that of the key Extra) or Node for an impersonation, ServiceAccount for a
	// token, Role or ClusterRole for what is bound or changed.
	Kind, Extra string
	// Names are whom or what; none means any. Namespace is where, of a
	// ServiceAccount or a Role, or in which a ClusterRole can be bound; empty for
	// everywhere, as long as the grant does not say otherwise.
	Names     []string
	Namespace string
	// Mode is that of a constrained impersonation: user-info, serviceaccount,
	// arbitrary-node, associated-node. It needs the verbs
	// impersonate-on:MODE:VERB too, on what is then asked for.
	Mode  string
	Grant Grant
}

// authenticationGroup is the API group of what has none of its own among what
// can be impersonated.
const authenticationGroup = "authentication.k8s.io"

// What can be impersonated beside users, groups and ServiceAccounts.
const (
	UID   = "UID"
	Extra = "Extra"
	Node  = "Node"
)

// gainOf is a request that opens a way to more.
type gainOf struct {
	way                 Way
	verb, group, target string
	kind, mode          string
	namespaced          bool
}

// gains are the requests that open ways, as the API server of 1.37 checks them.
var gains = slices.Concat([]gainOf{
	{Impersonate, "impersonate", "", "users", User, "", false},
	{Impersonate, "impersonate", "", "groups", Group, "", false},
	{Impersonate, "impersonate", "", "serviceaccounts", ServiceAccount, "", true},
	{Impersonate, "impersonate", authenticationGroup, "uids", UID, "", false},
	{Impersonate, "impersonate", authenticationGroup, "userextras", Extra, "", false},
	{Token, "create", "", "serviceaccounts/token", ServiceAccount, "", true},
	{Bind, "bind", group, "roles", role.Kind, "", true},
	{Bind, "bind", group, "clusterroles", clusterRole.Kind, "", true},
	{Escalate, "escalate", group, "roles", role.Kind, "", true},
	{Escalate, "escalate", group, "clusterroles", clusterRole.Kind, "", false},
}, constrained)

// constrained are those of constrained impersonation. It reaches nodes and
// ServiceAccounts each by a mode of its own, and never system:masters.
var constrained = []gainOf{
	{ImpersonateOn, "impersonate:user-info", authenticationGroup, "users", User, "user-info", false},
	{ImpersonateOn, "impersonate:user-info", authenticationGroup, "groups", Group, "user-info", false},
	{ImpersonateOn, "impersonate:user-info", authenticationGroup, "uids", UID, "user-info", false},
	{ImpersonateOn, "impersonate:user-info", authenticationGroup, "userextras", Extra, "user-info", false},
	{ImpersonateOn, "impersonate:serviceaccount", authenticationGroup, "serviceaccounts", ServiceAccount, "serviceaccount", true},
	{ImpersonateOn, "impersonate:arbitrary-node", authenticationGroup, "nodes", Node, "arbitrary-node", false},
	{ImpersonateOn, "impersonate:associated-node", authenticationGroup, "nodes", Node, "associated-node", false},
}

// constrainedSince is the minor version from which constrained impersonation is
// on by default.
const constrainedSince = 36

// Gains are the ways to more that a subject has, one for each rule that opens
// one, whether or not all else is there that the way needs; see Indirect for a
// request that is answered in full.
func (m *Model) Gains(s Subject, groups []string) []Gain {
	var out []Gain
	for _, g := range m.Permissions(s, groups) {
		for _, of := range gains {
			if of.mode == "" || m.constrains() {
				out = append(out, of.by(g)...)
			}
		}
	}
	return out
}

// constrains says whether the API server knows constrained impersonation.
func (m *Model) constrains() bool { return m.env.Minor == 0 || m.env.Minor >= constrainedSince }

// by is what a grant opens of a way.
func (of *gainOf) by(g Grant) []Gain {
	if !has(g.Rule.Verbs, of.verb) || !has(g.Rule.Groups, of.group) || !of.namespaced && !g.Binding.ClusterWide() {
		return nil
	}
	gain := Gain{Way: of.way, Kind: of.kind, Names: g.Rule.Names, Mode: of.mode, Grant: g}
	if of.namespaced {
		gain.Namespace = g.Binding.Ref.Namespace
	}
	if of.kind != Extra {
		var q Request
		q.Resource, q.Subresource, _ = strings.Cut(of.target, "/")
		if slices.ContainsFunc(g.Rule.Resources, func(s string) bool { return coversResource(s, &q) }) {
			return []Gain{gain}
		}
		return nil
	}
	var out []Gain
	for _, r := range g.Rule.Resources {
		switch key, ok := strings.CutPrefix(r, of.target+"/"); {
		case ok:
			gain.Extra = key
		case r == all:
			gain.Extra = all
		case strings.HasPrefix(r, all+"/"):
			gain.Extra = r[len(all+"/"):]
		default:
			continue
		}
		out = append(out, gain)
	}
	return out
}

// Indirect is somebody who may do something in one step more.
type Indirect struct {
	Subject
	Steps []Step
}

// Indirect says who may do something that they may not do by themselves, in one
// step: by acting as somebody who may, by a token of a ServiceAccount that may,
// by binding a role that allows it, or by changing a role that is bound to them.
// Each is told once, with one step of each kind at most.
func (m *Model) Indirect(r Request) []Indirect {
	direct, _ := m.WhoCan(r)
	f := finder{m: m, r: r, direct: map[Subject]bool{}, in: map[string][]Subject{}, found: map[Subject]map[Way]Step{}, able: map[Request]map[Subject][]Grant{}}
	for _, g := range direct {
		if g.Certain() {
			f.direct[g.Subject] = true
			f.targets = append(f.targets, g.Subject)
			f.in[g.Namespace] = append(f.in[g.Namespace], g.Subject)
		}
	}
	for _, of := range gains {
		if of.way != Bind && of.way != Escalate && (of.mode == "" || m.constrains()) {
			f.become(&of)
		}
	}
	f.bind(role)
	f.bind(clusterRole)
	f.escalate(role)
	f.escalate(clusterRole)
	out := make([]Indirect, 0, len(f.found))
	for s, steps := range f.found {
		in := Indirect{Subject: s}
		for _, way := range slices.Sorted(maps.Keys(steps)) {
			in.Steps = append(in.Steps, steps[way])
		}
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b Indirect) int { return a.compare(b.Subject) })
	return out
}

// finder looks for those who may do something in one step more.
type finder struct {
	m *Model
	r Request
	// direct are those who need no step, targets the same in their order.
	direct  map[Subject]bool
	targets []Subject
	in      map[string][]Subject // the targets of a namespace
	found   map[Subject]map[Way]Step
	// able are those who may do what ways need, by what that is.
	able map[Request]map[Subject][]Grant
}

// add notes a step of somebody who may not do without it what is asked for.
func (f *finder) add(s Subject, step Step) {
	if f.found[s] == nil {
		f.found[s] = map[Way]Step{}
	}
	if _, has := f.found[s][step.Way]; !has {
		f.found[s][step.Way] = step
	}
}

// needs says whether a step would be new to somebody.
func (f *finder) needs(s Subject, way Way) bool {
	_, has := f.found[s][way]
	return !has && !f.direct[s]
}

// can says whether somebody may do something, and by which grants, as itself or
// by the groups that the API server puts it in.
func (f *finder) can(s Subject, r Request) ([]Grant, bool) {
	able, ok := f.able[r]
	if !ok {
		who, _ := f.m.WhoCan(r)
		able = make(map[Subject][]Grant, len(who))
		for _, g := range who {
			if g.Certain() {
				able[g.Subject] = g.By
			}
		}
		f.able[r] = able
	}
	if by, ok := able[s]; ok {
		return by, true
	}
	for _, g := range s.Groups() {
		if by, ok := able[Subject{Kind: Group, Name: g}]; ok {
			return by, true
		}
	}
	return nil, false
}

// holders yields the grants of a verb on a resource, of whatever name, in the
// order of their bindings.
func (f *finder) holders(verb, group, target string, yield func(s Subject, g Grant)) {
	q := Request{Verb: verb, Group: group}
	q.Resource, q.Subresource, _ = strings.Cut(target, "/")
	var bindings []*Binding
	for s := range f.m.roles.rules.naming(q) {
		bindings = append(bindings, s.bound.all()...)
	}
	sortBindings(bindings)
	for _, b := range bindings {
		if b.role.maybe != "" || !b.ClusterWide() && b.Ref.Namespace == "" {
			continue
		}
		for _, rule := range b.Rules {
			if !rule.allowsSome(&q) {
				continue
			}
			for _, s := range b.Subjects {
				yield(s, Grant{Binding: b, Rule: rule, RuleRole: rule.Role(), Via: s})
			}
		}
	}
}

// become finds those who may act as somebody who may do what is asked for.
func (f *finder) become(of *gainOf) {
	chosen := map[choice]*Subject{}
	f.holders(of.verb, of.group, of.target, func(s Subject, g Grant) {
		if !f.needs(s, of.way) || !of.namespaced && !g.Binding.ClusterWide() {
			return
		}
		at := choice{g.Rule, g.Binding.Ref.Namespace}
		as, known := chosen[at]
		if !known {
			as = f.target(of, g)
			chosen[at] = as
		}
		if as == nil {
			return
		}
		if step := (Step{Way: of.way, By: []Grant{g}, As: *as}); f.complete(s, of, &step) {
			f.add(s, step)
		}
	})
}

// choice is what decides whom a grant lets somebody act as.
type choice struct {
	rule      *Rule
	namespace string
}

// target is the first of those who may do what is asked for that a grant lets
// somebody act as.
func (f *finder) target(of *gainOf, g Grant) *Subject {
	targets := f.targets
	if !g.Binding.ClusterWide() {
		targets = f.in[g.Binding.Ref.Namespace]
	}
	for i := range targets {
		as := &targets[i]
		named := as.Name
		if of.kind == Node {
			named = strings.TrimPrefix(named, nodeUser)
		}
		if of.mode == "associated-node" {
			named = all // whatever the node
		}
		if of.reaches(*as) && (len(g.Rule.Names) == 0 || slices.Contains(g.Rule.Names, named)) {
			return as
		}
	}
	return nil
}

// nodeUser is what the user names of nodes begin with.
const nodeUser = "system:node:"

// reaches says whether a way leads to a subject.
func (of *gainOf) reaches(as Subject) bool {
	node := as.Kind == User && strings.HasPrefix(as.Name, nodeUser)
	switch {
	case of.kind == Node:
		return node
	case of.mode != "" && (node || as == masters):
		return false
	}
	return of.kind == as.Kind
}

// complete adds to a step what else it needs: a group is impersonated together
// with some user, an associated node only by a ServiceAccount, and constrained
// impersonation must be allowed for what is asked.
func (f *finder) complete(s Subject, of *gainOf, step *Step) bool {
	if of.mode == "associated-node" && s.Kind != ServiceAccount {
		return false
	}
	if of.kind == Group {
		by, ok := f.someUser(s, of)
		if !ok {
			return false
		}
		step.By = append(step.By, by)
	}
	if of.mode == "" {
		return true
	}
	q := f.r
	q.Verb = "impersonate-on:" + of.mode + ":" + q.Verb
	by, ok := f.can(s, q)
	step.By = append(step.By, by...)
	return ok
}

// someUser is what lets somebody impersonate a user of whatever name.
func (f *finder) someUser(s Subject, of *gainOf) (Grant, bool) {
	q := Request{Verb: of.verb, Group: of.group, Resource: "users"}
	for _, g := range f.m.Permissions(s, nil) {
		if g.Maybe == "" && g.Binding.ClusterWide() && g.Rule.allowsSome(&q) {
			return g, true
		}
	}
	return Grant{}, false
}

// resourceOf is what the roles of a kind are called in a URL.
func resourceOf(kind object.GroupKind) string { return strings.ToLower(kind.Kind) + "s" }

// bind finds those who may bind a role that allows what is asked for: in the
// namespace, or in the whole cluster.
func (f *finder) bind(kind object.GroupKind) {
	allowing := f.allowing(kind)
	f.holders("bind", group, resourceOf(kind), func(s Subject, g Grant) {
		if !f.needs(s, Bind) {
			return
		}
		i := slices.IndexFunc(allowing, func(key roleKey) bool { return len(g.Rule.Names) == 0 || slices.Contains(g.Rule.Names, key.name) })
		if i < 0 {
			return
		}
		step := Step{Way: Bind, By: []Grant{g}, Role: allowing[i].ref()}
		if kind == clusterRole && g.Binding.ClusterWide() {
			if by, ok := f.can(s, Request{Verb: "create", Group: group, Resource: resourceOf(clusterRoleBinding)}); ok {
				step.By = append(step.By, by...)
				f.add(s, step)
				return
			}
		}
		space := f.r.namespace()
		if space == "" || !g.Binding.counts(space) {
			return
		}
		if by, ok := f.can(s, Request{Verb: "create", Group: group, Resource: resourceOf(roleBinding), Namespace: space}); ok {
			step.By = append(step.By, by...)
			f.add(s, step)
		}
	})
}

// allowing are the roles of a kind, bound or not, that allow what is asked for
// where they can be bound.
func (f *finder) allowing(kind object.GroupKind) []roleKey {
	var out []roleKey
	for key, s := range f.m.roles.all {
		if key.kind() != kind.Kind || kind == role && (key.namespace != f.r.namespace() || key.namespace == "") {
			continue
		}
		if slices.ContainsFunc(s.rules, func(rule *Rule) bool { return rule.Allows(f.r) }) {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, compareKeys)
	return out
}

// escalate finds those who may add rules to a role of a kind that is bound to
// them where the request is.
func (f *finder) escalate(kind object.GroupKind) {
	f.holders("escalate", group, resourceOf(kind), func(s Subject, g Grant) {
		if !f.needs(s, Escalate) {
			return
		}
		for _, by := range f.m.memberships(s, nil) {
			if by.maybe != "" {
				continue
			}
			f.m.held[by.Subject].holds(f.r.namespace(), func(b *Binding, maybe string) {
				if maybe == "" && b.Role.Kind == kind.Kind && f.needs(s, Escalate) {
					f.change(s, g, b)
				}
			})
		}
	})
}

// change notes that somebody may add rules to the role of a binding, if so.
func (f *finder) change(s Subject, g Grant, b *Binding) {
	q := Request{Verb: "escalate", Group: group, Resource: resourceOf(clusterRole), Name: b.Role.Name}
	if b.Role.Kind == role.Kind {
		q.Resource, q.Namespace = resourceOf(role), b.Role.Namespace
	}
	if !b.RoleFound || !g.Rule.Allows(q) || !g.Binding.counts(q.Namespace) {
		return
	}
	for _, verb := range []string{"update", "patch"} {
		q.Verb = verb
		if by, ok := f.can(s, q); ok {
			f.add(s, Step{Way: Escalate, By: append([]Grant{g}, by...), Role: b.Role})
			return
		}
	}
}
