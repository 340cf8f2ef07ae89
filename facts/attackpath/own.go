// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"slices"

	"sconce.dev/sconce/object"
)

// groupKey names pods of one owner that are the same to the graph.
type groupKey struct{ namespace, owner, alike string }

// name is that of something in a namespace.
type name struct{ namespace, name string }

// ownIndex holds what was kept of objects, and what has changed since the links
// were last made.
type ownIndex struct {
	objects map[object.Ref]*Kept
	groups  map[groupKey]map[object.Ref]*Kept
	// leaders are what groups are called, as their links were last made.
	leaders map[groupKey]string
	// accounts are the ServiceAccounts that there are; running counts the groups
	// that run as one.
	accounts   map[name]*Kept
	running    map[name]int
	tokens     map[name]int          // Secrets with a token of the account
	unclear    map[object.Ref]string // Secrets with a token of which the account is not known
	namespaces map[string]int
	policies   map[string]*Kept // Namespaces
	nodes      map[string]*Kept
	hosting    map[string]int // pods of a node
	services   map[name]*Kept
	// matched are how many objects do not meet the condition of an edge, of those
	// edges that need an object beside what they are about.
	matched map[int]*matches
	// calling are objects that lead on from the workloads behind a Service.
	calling map[object.Ref]bool
	needed  map[int]bool                 // those edges
	inside  map[string]map[groupKey]bool // groups by namespaces

	staleServices   bool
	staleGroups     map[groupKey]bool
	staleObjects    map[object.Ref]bool
	staleAccounts   map[name]bool
	staleNamespaces map[string]bool
	staleNodes      map[string]bool
}

func newOwnIndex(edges []*Edge) ownIndex {
	needed := map[int]bool{}
	for _, e := range edges {
		needed[e.index] = e.Condition != nil && (e.Network != nil || e.Permission != nil && e.From == PlaceIdentity)
	}
	return ownIndex{
		needed:  needed,
		objects: map[object.Ref]*Kept{}, groups: map[groupKey]map[object.Ref]*Kept{}, leaders: map[groupKey]string{}, accounts: map[name]*Kept{}, running: map[name]int{},
		tokens: map[name]int{}, unclear: map[object.Ref]string{}, namespaces: map[string]int{}, policies: map[string]*Kept{}, nodes: map[string]*Kept{}, services: map[name]*Kept{},
		matched: map[int]*matches{}, calling: map[object.Ref]bool{}, inside: map[string]map[groupKey]bool{},
		staleGroups: map[groupKey]bool{}, staleObjects: map[object.Ref]bool{}, staleAccounts: map[name]bool{}, staleNamespaces: map[string]bool{}, staleNodes: map[string]bool{}, hosting: map[string]int{},
	}
}

// set replaces what was kept of an object.
func (x *ownIndex) set(ref object.Ref, k *Kept) {
	if before := x.objects[ref]; before != nil {
		x.note(ref, before, -1)
		delete(x.objects, ref)
	}
	if k != nil {
		x.objects[ref] = k
		x.note(ref, k, 1)
	}
}

// unsaid stands for the namespace of an object in a file that says none: "" is
// everywhere.
const unsaid = "?"

func space(namespace string) string {
	if namespace == "" {
		return unsaid
	}
	return namespace
}

// space is the namespace that the object is in; "" for none.
func (k *Kept) space() string {
	if k.workload != nil || k.account != nil || k.secret != nil || k.service != nil || k.claim || k.ref.Kind == "RoleBinding" {
		return space(k.ref.Namespace)
	}
	return k.ref.Namespace
}

// count adds to a number in a map, which holds no zeros.
func count[K comparable](m map[K]int, key K, by int) int {
	if m[key] += by; m[key] == 0 {
		delete(m, key)
		return 0
	}
	return m[key]
}

// note adds an object, or takes it away.
func (x *ownIndex) note(ref object.Ref, k *Kept, by int) {
	there := by > 0
	x.staleObjects[ref] = true
	n := name{space(ref.Namespace), ref.Name}
	if ns := k.space(); ns != "" {
		if after := count(x.namespaces, ns, by); after == 0 || after == by {
			x.staleNamespaces[ns] = true
		}
	}
	put := func(to map[name]*Kept) {
		if delete(to, n); there {
			to[n] = k
		}
	}
	if k.secret != nil && k.secret.unknown != "" {
		if delete(x.unclear, ref); there {
			x.unclear[ref] = k.secret.unknown
		}
	}
	switch {
	case k.account != nil:
		put(x.accounts)
		x.staleAccounts[n] = true
	case k.secret != nil && k.secret.account != "":
		of := name{space(ref.Namespace), k.secret.account}
		count(x.tokens, of, by)
		x.staleAccounts[of] = true
	case k.namespace != nil:
		count(x.namespaces, ref.Name, by)
		x.staleNamespaces[ref.Name] = true
		if delete(x.policies, ref.Name); there {
			x.policies[ref.Name] = k
		}
	case k.node != nil:
		x.staleNodes[ref.Name] = true
		if delete(x.nodes, ref.Name); there {
			x.nodes[ref.Name] = k
		}
	case k.service != nil:
		put(x.services)
		x.staleServices = true
	}
	x.noteMatches(ref, k, by)
	if k.workload != nil {
		x.noteWorkload(ref, k, by)
	}
}

// matches counts objects that surely do not meet a condition, and those of which
// that is not known, by the reason.
type matches struct {
	sure  int
	maybe map[string]int
}

// state says whether there are any, or why there may be.
func (m *matches) state() (there bool, doubt string) {
	switch {
	case m == nil:
		return false, ""
	case m.sure > 0:
		return true, ""
	}
	return true, slices.Min(sortedKeys(m.maybe))
}

func (x *ownIndex) noteMatches(ref object.Ref, k *Kept, by int) {
	if len(k.backends) > 0 || k.unclear != "" || k.service != nil && len(k.matches) > 0 {
		if delete(x.calling, ref); by > 0 {
			x.calling[ref] = true
		}
	}
	for _, m := range k.all() {
		if !x.needed[m.edge] {
			continue
		}
		of := x.matched[m.edge]
		if of == nil {
			of = &matches{maybe: map[string]int{}}
			x.matched[m.edge] = of
		}
		if m.possible == "" {
			of.sure += by
		} else {
			count(of.maybe, m.possible, by)
		}
		if of.sure == 0 && len(of.maybe) == 0 {
			delete(x.matched, m.edge)
		}
	}
}

// all are the conditions that an object does not meet.
func (k *Kept) all() []match {
	if k.workload != nil {
		return k.workload.matches
	}
	return k.matches
}

func (x *ownIndex) noteWorkload(ref object.Ref, k *Kept, by int) {
	w := k.workload
	key := groupKey{space(ref.Namespace), w.owner, w.alike}
	x.staleGroups[key] = true
	members := x.groups[key]
	if by > 0 {
		if members == nil {
			members = map[object.Ref]*Kept{}
			x.groups[key] = members
			if x.inside[key.namespace] == nil {
				x.inside[key.namespace] = map[groupKey]bool{}
			}
			x.inside[key.namespace][key] = true
		}
		members[ref] = k
	} else if delete(members, ref); len(members) == 0 {
		delete(x.groups, key)
		if delete(x.inside[key.namespace], key); len(x.inside[key.namespace]) == 0 {
			delete(x.inside, key.namespace)
		}
	}
	if w.node != "" {
		if after := count(x.hosting, w.node, by); after == 0 || after == by {
			x.staleNodes[w.node] = true
		}
	}
	if !w.static && w.account != "" {
		of := name{space(ref.Namespace), w.account}
		if after := count(x.running, of, by); after == 0 || after == by {
			x.staleAccounts[of] = true
		}
	}
}

// group is pods of one owner that are the same to the graph.
type group struct {
	*spec
	key     groupKey
	leader  *Kept // what a person edits: the owner, if it is there
	members []*Kept
}

func (x *ownIndex) group(key groupKey) (*group, bool) {
	members := x.groups[key]
	if len(members) == 0 {
		return nil, false
	}
	out := &group{key: key}
	for _, k := range members {
		out.members = append(out.members, k)
	}
	slices.SortFunc(out.members, byLead)
	out.leader = out.members[0]
	out.spec = out.leader.workload.spec
	return out, true
}

// leaderOf is the one of the members of a group that a person edits.
func leaderOf(members map[object.Ref]*Kept) *Kept {
	var out *Kept
	for _, k := range members {
		if out == nil || byLead(k, out) < 0 {
			out = k
		}
	}
	return out
}

// byLead puts members of a group in their order, the leader first.
func byLead(a, b *Kept) int {
	return cmp.Or(cmp.Compare(a.workload.rank, b.workload.rank), cmp.Compare(a.ref.Kind, b.ref.Kind), cmp.Compare(a.ref.Name, b.ref.Name), cmp.Compare(a.ref.APIVersion, b.ref.APIVersion))
}

// of is a vertex of the group, and name what it is called in its namespace.
func (w *group) of(kind NodeKind) thing { return w.leader.vertex(w.key.namespace, kind) }
func (w *group) name() string           { return w.leader.workloadName() }

// vertex is one of the group that an object leads.
func (k *Kept) vertex(namespace string, kind NodeKind) thing {
	return thing{kind: kind, namespace: namespace, name: k.workloadName()}
}

func (k *Kept) workloadName() string { return k.ref.Kind + "/" + k.ref.Name }

func (w *group) container(i int) thing {
	return thing{kind: Container, namespace: w.key.namespace, name: w.name(), of: w.containers[i].name}
}

// nodes are the names of the nodes that its pods run on, sorted; none where that
// is not known.
func (w *group) nodes() []string {
	var out []string
	for _, k := range w.members {
		if n := k.workload.node; n != "" {
			out = append(out, n)
		}
	}
	return sortedSet(out)
}

// accountThing is the ServiceAccount that it runs as; false for none.
func (w *group) accountThing() (thing, bool) {
	if w.static || w.account == "" {
		return thing{}, false
	}
	return thing{kind: ServiceAccount, namespace: w.key.namespace, name: w.account}, true
}

// setting is the vertex of something that can be changed at the workload, or at
// one of its containers.
func (w *group) setting(container int) thing {
	name := w.name()
	if container >= 0 {
		name += string(containerMark) + w.containers[container].name
	}
	return thing{kind: Setting, namespace: w.key.namespace, name: name}
}
