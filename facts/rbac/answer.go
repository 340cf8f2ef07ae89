// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Grant is a rule that a subject holds, and how.
type Grant struct {
	Binding *Binding
	Rule    *Rule
	// RuleRole is the role that the rule stands in: the one that is bound, or
	// one that is aggregated into it.
	RuleRole object.Ref
	// Via is the subject of the binding that matched: the one that was asked
	// for, or a group that it is in.
	Via Subject
	// Maybe says why the grant may not hold: some object in a file does not say
	// its namespace. It is empty where it holds.
	Maybe string
}

// Namespace is where the grant holds; empty for the whole cluster. ok is false
// where a RoleBinding does not say its namespace.
func (g *Grant) Namespace() (namespace string, ok bool) {
	return g.Binding.Ref.Namespace, g.Binding.ClusterWide() || g.Binding.Ref.Namespace != ""
}

// Answer says whether somebody may do something.
type Answer struct {
	Allowed bool
	// Master says that it is allowed whatever is bound: to system:masters.
	Master bool
	// By are the grants that allow it, and those that may.
	By []Grant
	// Unknown is why more may be allowed than is said.
	Unknown []string
}

// Grantee is somebody who may do something.
type Grantee struct {
	Subject
	// By are the grants that allow it, and those that may; none for
	// system:masters, which needs none.
	By []Grant
}

// Certain says whether it holds in any case that the subject may do it.
func (g *Grantee) Certain() bool {
	return g.Subject == masters || slices.ContainsFunc(g.By, func(by Grant) bool { return by.Maybe == "" })
}

var masters = Subject{Kind: Group, Name: Masters}

// membership is a subject as bindings name it: itself, or a group that it is in.
type membership struct {
	Subject
	maybe string
}

// memberships are all names by which a subject is bound.
func (m *Model) memberships(s Subject, groups []string) []membership {
	out := []membership{{Subject: s}}
	for _, same := range m.perhaps(s) {
		out = append(out, membership{same, fmt.Sprintf("%s may be %s: one of them does not say its namespace", same, s)})
	}
	for _, g := range slices.Concat(s.Groups(), groups) {
		if m := (membership{Subject: Subject{Kind: Group, Name: g}}); !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// perhaps are the bound ServiceAccounts that may be another one: a file need not
// say the namespace.
func (m *Model) perhaps(s Subject) []Subject {
	if s.Kind != ServiceAccount {
		return nil
	}
	if s.Namespace != "" {
		if same := (Subject{ServiceAccount, "", s.Name}); m.held[same] != nil {
			return []Subject{same}
		}
		return nil
	}
	out := slices.SortedFunc(maps.Keys(m.namesakes[s.Name]), Subject.compare)
	return slices.DeleteFunc(out, func(same Subject) bool { return same == s })
}

// grants yields what the rules of a binding that are wanted grant.
func (b *Binding) grants(by membership, wanted func(*Rule) bool, maybe string, add func(Grant)) {
	for _, rule := range b.Rules {
		if !wanted(rule) {
			continue
		}
		g := Grant{Binding: b, Rule: rule, RuleRole: rule.Role(), Via: by.Subject}
		for _, why := range []string{by.maybe, maybe, b.role.maybe} {
			if g.Maybe == "" {
				g.Maybe = why
			}
		}
		add(g)
	}
}

// holds are the bindings that count for a request somewhere, with why they may
// not.
func (s *scoped) holds(namespace string, yield func(b *Binding, maybe string)) {
	if s == nil {
		return
	}
	for _, b := range s.cluster {
		yield(b, "")
	}
	if namespace == "" {
		return
	}
	for _, b := range s.in[namespace] {
		yield(b, "")
	}
	for _, b := range s.in[""] {
		yield(b, fmt.Sprintf("%s does not say its namespace", b.Ref))
	}
}

// Can says whether a subject may do something. The groups are those that it is
// in beside the ones that the API server puts it in by itself.
func (m *Model) Can(s Subject, groups []string, r Request) Answer {
	var a Answer
	for _, by := range m.memberships(s, groups) {
		if by.Subject == masters {
			a.Master, a.Allowed = true, true
		}
		m.held[by.Subject].holds(r.namespace(), func(b *Binding, maybe string) {
			b.grants(by, func(rule *Rule) bool { return rule.Allows(r) }, maybe, func(g Grant) {
				a.By = append(a.By, g)
				a.Allowed = a.Allowed || g.Maybe == ""
			})
			if b.Unknown != "" {
				a.Unknown = append(a.Unknown, b.doubt())
			}
		})
	}
	sortGrants(a.By)
	a.Unknown = append(a.Unknown, m.doubts(r.namespace())...)
	if slices.Contains(append(s.Groups(), groups...), Nodes) || s.Kind == User && strings.HasPrefix(s.Name, nodeUser) {
		a.Unknown = append(a.Unknown, "the authorizer of nodes lets a node do more than RBAC does")
	}
	a.Unknown = tidy(a.Unknown)
	return a
}

// doubt is why a binding may grant more than is known.
func (b *Binding) doubt() string { return fmt.Sprintf("%s: %s", b.Ref, b.Unknown) }

// counts says whether a binding may count for a request somewhere.
func (b *Binding) counts(namespace string) bool {
	return b.ClusterWide() || namespace != "" && (b.Ref.Namespace == namespace || b.Ref.Namespace == "")
}

// doubts are why anybody may do more somewhere than is known.
func (m *Model) doubts(namespace string) []string {
	var out []string
	for b := range m.blind {
		if b.counts(namespace) {
			out = append(out, b.doubt())
		}
	}
	if !m.env.Complete {
		out = append(out, incomplete)
	}
	return out
}

const incomplete = "there may be roles and bindings that were not read"

func tidy(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// WhoCan says who may do something, and why more may than are said. Groups are
// not taken apart: who is in them is known only where people authenticate.
// system:masters is always among them.
func (m *Model) WhoCan(r Request) (who []Grantee, unknown []string) {
	by := map[Subject][]Grant{masters: nil}
	collect := func(b *Binding, maybe string) {
		for _, s := range b.Subjects {
			b.grants(membership{Subject: s}, func(rule *Rule) bool { return rule.Allows(r) }, maybe, func(g Grant) { by[s] = append(by[s], g) })
		}
	}
	for s := range m.roles.rules.allowing(r) {
		s.bound.holds(r.namespace(), collect)
	}
	for s, grants := range by {
		sortGrants(grants)
		who = append(who, Grantee{s, grants})
	}
	slices.SortFunc(who, func(a, b Grantee) int { return a.compare(b.Subject) })
	for b := range m.doubtful {
		if b.counts(r.namespace()) {
			unknown = append(unknown, b.doubt())
		}
	}
	return who, tidy(append(unknown, m.doubts(r.namespace())...))
}

// Permissions are all rules that a subject holds, each with its binding. What a
// member of system:masters may do beside them is not among them.
func (m *Model) Permissions(s Subject, groups []string) []Grant {
	var out []Grant
	for _, by := range m.memberships(s, groups) {
		h := m.held[by.Subject]
		if h == nil {
			continue
		}
		for _, b := range h.all() {
			b.grants(by, func(*Rule) bool { return true }, "", func(g Grant) { out = append(out, g) })
		}
	}
	return out
}

// sortGrants puts grants in the order of their bindings and rules.
func sortGrants(list []Grant) {
	slices.SortStableFunc(list, func(a, b Grant) int {
		if c := compareRefs(a.Binding.Ref, b.Binding.Ref); c != 0 {
			return c
		}
		return slices.Index(a.Binding.Rules, a.Rule) - slices.Index(b.Binding.Rules, b.Rule)
	})
}

// Subjects are every ServiceAccount that is there or bound, and every user and
// group that is bound, sorted.
func (m *Model) Subjects() []Subject {
	all := map[Subject]bool{}
	for s := range m.held {
		all[s] = true
	}
	for n, s := range m.accounts.all {
		if len(s.kept) > 0 {
			all[Subject{ServiceAccount, n.namespace, n.name}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), Subject.compare)
}

// EachBinding goes through all bindings, in no order.
func (m *Model) EachBinding(yield func(*Binding) bool) {
	for _, b := range m.bindings {
		if !yield(b) {
			return
		}
	}
}

// Bindings are all bindings, sorted: ClusterRoleBindings first.
func (m *Model) Bindings() []*Binding {
	out := slices.Collect(maps.Values(m.bindings))
	sortBindings(out)
	return out
}
