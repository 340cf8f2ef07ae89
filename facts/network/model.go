// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Model is the connectivity of one cluster. It may be asked from many goroutines
// at once, but not while it is being changed.
type Model struct {
	env     *facts.Env
	objects map[object.Ref][]*entry
	spaces  map[string]*space
	// unnamed are the spaces of what names no namespace; sources say, by source,
	// which spaces its objects are in.
	unnamed []*space
	sources map[string]map[*space]int
	// above are the policies above namespaces, in the order in which they decide.
	above   []*policy
	foreign []*foreign // that may be for any namespace
	// foreigners counts those of namespaces too.
	foreigners int
	nodes      []*node

	classes []*class // by ID; nil where there is none
	free    []int
	sorted  []*Class // of all, while nothing has changed

	// mentioned counts the selectors that name a label that controllers add.
	mentioned map[string]int
	named     bool // others are, now
	// bounds counts the policies for which other addresses begin at an address;
	// order has them sorted.
	bounds  map[netip.Addr]int
	order   []netip.Addr
	bounded bool // others are, now
	six     int  // objects that show that the cluster has IPv6
}

// entry is what was kept of an object, and where that is.
type entry struct {
	kept  any
	space *space
	group *group
}

// space is a namespace and what is in it.
type space struct {
	name   string // empty where objects name none
	source string // of what names none
	// declared are its Namespace objects: one, unless files have several.
	declared []*namespace
	labels   labels
	groups   map[string]*group
	policies []*policy
	foreign  []*foreign
	services []*service
	grants   []*grant
	// entrances are Ingresses, Gateways and routes.
	entrances []*entrance
	objects   int
}

// namespace is what is kept of a Namespace.
type namespace struct {
	o      *object.Object
	labels labels
}

// node is what is kept of a Node.
type node struct {
	o         *object.Object
	labels    labels
	addresses []netip.Addr
}

// group is workloads of a namespace whose pods only addresses tell apart.
type group struct {
	space   *space
	key     string
	labels  labels
	members []*workload
	classes []*class
}

// class is what the model has of a Class.
type class struct {
	Class
	space   *space
	labels  labels
	members []*workload
	// atoms names the addresses of the pods, as far as policies tell them apart;
	// address are those of one of them: none where they are not known.
	atoms     string
	addresses []netip.Addr
	host      truth
	unread    bool // ports
}

// NewModel returns the model of what was kept, in any order.
func NewModel(kept []any, env *facts.Env) *Model {
	m := &Model{
		env: env, objects: make(map[object.Ref][]*entry, len(kept)), spaces: map[string]*space{}, sources: map[string]map[*space]int{},
		mentioned: map[string]int{}, bounds: map[netip.Addr]int{},
	}
	var groups []*group
	for _, k := range inOrder(kept) {
		o := objectOf(k)
		if o == nil {
			continue
		}
		e := m.add(o, k)
		m.objects[o.Ref] = append(m.objects[o.Ref], e)
		if w, ok := k.(*workload); ok {
			if m.join(e, w); len(e.group.members) == 1 {
				groups = append(groups, e.group)
			}
		}
	}
	m.order = slices.SortedFunc(maps.Keys(m.bounds), netip.Addr.Compare)
	m.named, m.bounded = false, false
	for _, g := range groups {
		m.divide(g)
	}
	return m
}

// inOrder returns what was kept with workloads last, since how they are grouped
// depends on what policies name, and sorted.
func inOrder(kept []any) []any {
	kept = slices.Clone(kept)
	slices.SortStableFunc(kept, func(a, b any) int {
		x, first := a.(*workload)
		y, second := b.(*workload)
		switch {
		case first && second:
			return cmp.Or(strings.Compare(x.o.Namespace, y.o.Namespace), strings.Compare(x.owner, y.owner), compareRefs(x.o.Ref, y.o.Ref))
		case first:
			return 1
		case second:
			return -1
		}
		return 0
	})
	return kept
}

func compareRefs(a, b object.Ref) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.APIVersion, b.APIVersion))
}

// objectOf returns the object that something was kept of, or nil.
func objectOf(kept any) *object.Object {
	switch k := kept.(type) {
	case *workload:
		return k.o
	case *policy:
		return k.o
	case *foreign:
		return k.o
	case *namespace:
		return k.o
	case *node:
		return k.o
	case *service:
		return k.o
	case *entrance:
		return k.o
	case *grant:
		return k.o
	}
	return nil
}

// Set puts what was kept of an object in place of what was before; nil: it is
// gone.
func (m *Model) Set(ref object.Ref, kept any) {
	old := m.objects[ref]
	delete(m.objects, ref)
	m.sorted = nil
	var touched []*group
	if o := objectOf(kept); o != nil {
		e := m.add(o, kept)
		m.objects[ref] = []*entry{e}
		if w, ok := kept.(*workload); ok {
			m.join(e, w)
			touched = append(touched, e.group)
		}
	}
	for _, e := range old { // after the new: what both count stays counted
		m.remove(e)
		if w, ok := e.kept.(*workload); ok {
			leave(e, w)
			touched = append(touched, e.group)
		}
	}
	for _, g := range touched {
		m.divide(g)
	}
	m.settle()
}

// settle groups pods anew where policies have come to tell others apart.
func (m *Model) settle() {
	if m.named {
		m.regroup()
	}
	if m.bounded {
		m.order = slices.SortedFunc(maps.Keys(m.bounds), netip.Addr.Compare)
		for _, s := range m.allSpaces() {
			for _, g := range s.groups {
				m.divide(g)
			}
		}
	}
	m.named, m.bounded = false, false
}

// regroup groups all workloads anew.
func (m *Model) regroup() {
	var all []*entry
	for _, entries := range m.objects {
		for _, e := range entries {
			if w, ok := e.kept.(*workload); ok && hasGenerated(w.labels) {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return compareRefs(objectOf(a.kept).Ref, objectOf(b.kept).Ref) })
	touched := map[*group]bool{}
	var order []*group
	touch := func(g *group) {
		if !touched[g] {
			touched[g] = true
			order = append(order, g)
		}
	}
	for _, e := range all {
		w := e.kept.(*workload)
		leave(e, w)
		touch(e.group)
		m.join(e, w)
		touch(e.group)
	}
	for _, g := range order {
		m.divide(g)
	}
}

func hasGenerated(l labels) bool {
	return slices.ContainsFunc(l.pairs, func(p pair) bool { return generated[p.key] })
}

// add puts an object where it belongs.
func (m *Model) add(o *object.Object, kept any) *entry {
	e := &entry{kept: kept}
	if k, ok := kept.(*namespace); ok {
		e.space = m.space(o.Name, "")
		e.space.declared = append(e.space.declared, k)
		e.space.relabel()
	} else if namespaced(kept) {
		e.space = m.spaceOf(o)
	}
	if e.space != nil {
		e.space.objects++
		m.source(o, e.space, 1)
	}
	switch k := kept.(type) {
	case *policy:
		if k.tier == namespaceTier {
			e.space.policies = insert(e.space.policies, k, comparePolicies)
		} else {
			m.above = insert(m.above, k, comparePolicies)
		}
		m.count(k, 1)
	case *foreign:
		m.foreigners++
		if e.space != nil {
			e.space.foreign = insert(e.space.foreign, k, compareObjects)
		} else {
			m.foreign = insert(m.foreign, k, compareObjects)
		}
	case *node:
		m.nodes = insert(m.nodes, k, compareObjects)
	case *service:
		e.space.services = insert(e.space.services, k, compareObjects)
		k.selector.keys(func(key string) { m.mention(key, 1) })
	case *grant:
		e.space.grants = insert(e.space.grants, k, compareObjects)
	case *entrance:
		e.space.entrances = insert(e.space.entrances, k, compareObjects)
	}
	if hasSix(kept) {
		m.six++
	}
	return e
}

// remove takes an object away from where it was.
func (m *Model) remove(e *entry) {
	o := objectOf(e.kept)
	switch k := e.kept.(type) {
	case *namespace:
		e.space.declared = without(e.space.declared, k)
		e.space.relabel()
	case *policy:
		if k.tier == namespaceTier {
			e.space.policies = without(e.space.policies, k)
		} else {
			m.above = without(m.above, k)
		}
		m.count(k, -1)
	case *foreign:
		m.foreigners--
		if e.space != nil {
			e.space.foreign = without(e.space.foreign, k)
		} else {
			m.foreign = without(m.foreign, k)
		}
	case *node:
		m.nodes = without(m.nodes, k)
	case *service:
		e.space.services = without(e.space.services, k)
		k.selector.keys(func(key string) { m.mention(key, -1) })
	case *grant:
		e.space.grants = without(e.space.grants, k)
	case *entrance:
		e.space.entrances = without(e.space.entrances, k)
	}
	if hasSix(e.kept) {
		m.six--
	}
	if e.space != nil {
		e.space.objects--
		m.source(o, e.space, -1)
	}
}

// insert adds to a list that is sorted.
func insert[T any](list []T, item T, compare func(a, b T) int) []T {
	i, _ := slices.BinarySearchFunc(list, item, compare)
	return slices.Insert(list, i, item)
}

// without removes one from a list.
func without[T comparable](list []T, item T) []T {
	if i := slices.Index(list, item); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// comparePolicies orders policies as they decide.
func comparePolicies(a, b *policy) int {
	return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.priority, b.priority), compareRefs(a.o.Ref, b.o.Ref), strings.Compare(a.o.Origin.Source, b.o.Origin.Source))
}

func compareObjects[T interface{ of() *object.Object }](a, b T) int {
	x, y := a.of(), b.of()
	return cmp.Or(compareRefs(x.Ref, y.Ref), strings.Compare(x.Origin.Source, y.Origin.Source))
}

// namespaced says whether what was kept is of something in a namespace.
func namespaced(kept any) bool {
	switch k := kept.(type) {
	case *workload, *service, *grant, *entrance:
		return true
	case *policy:
		return k.tier == namespaceTier
	case *foreign:
		return !k.above
	}
	return false
}

// hasSix says whether something shows that the cluster has IPv6.
func hasSix(kept any) bool {
	is6 := func(a netip.Addr) bool { return a.Is6() }
	switch k := kept.(type) {
	case *workload:
		return slices.ContainsFunc(k.addresses, is6)
	case *node:
		return slices.ContainsFunc(k.addresses, is6)
	case *service:
		return k.six
	}
	return false
}

// count counts what a policy tells pods apart by.
func (m *Model) count(p *policy, n int) {
	p.podKeys(func(key string) { m.mention(key, n) })
	p.prefixes(func(prefix netip.Prefix) {
		m.bound(prefix.Addr(), n)
		if after := lastOf(prefix).Next(); after.IsValid() {
			m.bound(after, n)
		}
	})
}

func (m *Model) mention(key string, n int) {
	if !generated[key] {
		return
	}
	was := m.mentioned[key]
	m.mentioned[key] = was + n
	m.named = m.named || was == 0 || was+n == 0
}

func (m *Model) bound(a netip.Addr, n int) {
	was := m.bounds[a]
	m.bounds[a] = was + n
	m.bounded = m.bounded || was == 0 || was+n == 0
	if was+n == 0 {
		delete(m.bounds, a)
	}
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(bytes); i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// sourceOf is what objects that name no namespace share one by: their chart or
// overlay, or the folder of their file.
func sourceOf(o *object.Object) string {
	name := o.Origin.Source
	if o.Origin.Renderer == "" {
		name = name[:strings.LastIndexAny(name, `/\`)+1]
	}
	return name
}

// spaceOf returns the namespace that an object is in.
func (m *Model) spaceOf(o *object.Object) *space {
	if o.Namespace == "" {
		return m.space("", sourceOf(o))
	}
	return m.space(o.Namespace, "")
}

func (m *Model) space(name, source string) *space {
	key := name
	if name == "" {
		key = "\x00" + source
	}
	s := m.spaces[key]
	if s == nil {
		s = &space{name: name, source: source, groups: map[string]*group{}}
		s.relabel()
		m.spaces[key] = s
		if name == "" {
			m.unnamed = append(m.unnamed, s)
		}
	}
	return s
}

// allSpaces returns all namespaces, sorted.
func (m *Model) allSpaces() []*space {
	return slices.SortedFunc(maps.Values(m.spaces), compareSpaces)
}

func compareSpaces(a, b *space) int {
	return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.source, b.source))
}

// source counts the objects of a source in a namespace.
func (m *Model) source(o *object.Object, s *space, n int) {
	from := sourceOf(o)
	if m.sources[from] == nil {
		m.sources[from] = map[*space]int{}
	}
	m.sources[from][s] += n
}

// near says whether two namespaces may be the same one: what names none, and
// those that objects of the same source name.
func (m *Model) near(a, b *space) bool {
	if a.name != "" {
		a, b = b, a
	}
	return a.name == "" && b.name != "" && m.sources[a.source][b] > 0
}

// relabel works out the labels of a namespace. Where it is declared several
// times, or not at all, they are not known, but for its name.
func (s *space) relabel() {
	s.labels = labels{unread: true}
	for i, n := range s.declared {
		l := labels{pairs: slices.Clone(n.labels.pairs), unread: n.labels.unread}
		if i > 0 && l.id() != s.declared[0].labels.id() {
			l = labels{unread: true}
		}
		s.labels = l
		if l.unread {
			break
		}
	}
	if s.name != "" {
		s.labels = s.labels.with(pair{key: nameLabel, value: s.name})
	}
}

// join puts a workload among those like it.
func (m *Model) join(e *entry, w *workload) {
	key, l := w.base(m.mentioned)
	g := e.space.groups[key]
	if g == nil {
		g = &group{space: e.space, key: key, labels: l}
		e.space.groups[key] = g
	}
	g.members = append(g.members, w)
	e.group = g
}

func leave(e *entry, w *workload) { e.group.members = without(e.group.members, w) }

// divide makes the classes of a group: one for all addresses that policies do
// not tell apart. Pods of which they are not known, and what only declares
// pods, are with the first.
func (m *Model) divide(g *group) {
	by := map[string][]*workload{}
	first := ""
	for _, w := range g.members {
		if a := m.atomsOf(w.addresses); a != "" {
			by[a] = append(by[a], w)
			if first == "" || a < first {
				first = a
			}
		}
	}
	for _, w := range g.members {
		if len(w.addresses) == 0 {
			by[first] = append(by[first], w)
		}
	}
	kept := g.classes[:0]
	for _, c := range g.classes {
		if by[c.atoms] == nil {
			m.free = append(m.free, c.ID)
			m.drop(c)
			continue
		}
		c.fill(by[c.atoms])
		kept = append(kept, c)
		delete(by, c.atoms)
	}
	clear(g.classes[len(kept):])
	g.classes = kept
	for _, atoms := range slices.Sorted(maps.Keys(by)) {
		c := &class{space: g.space, labels: g.labels, atoms: atoms}
		c.Namespace, c.Labels = g.space.name, g.labels.known()
		c.fill(by[atoms])
		m.enter(c)
		g.classes = append(g.classes, c)
	}
	if len(g.members) == 0 {
		delete(g.space.groups, g.key)
	}
}

// enter gives a class its number.
func (m *Model) enter(c *class) {
	if n := len(m.free); n > 0 {
		c.ID, m.free = m.free[n-1], m.free[:n-1]
		m.classes[c.ID] = c
	} else {
		c.ID = len(m.classes)
		m.classes = append(m.classes, c)
	}
}

func (m *Model) drop(c *class) { m.classes[c.ID] = nil }

// atomsOf names addresses so that those that no policy tells apart have the same
// name; "" where there are none.
func (m *Model) atomsOf(addresses []netip.Addr) string {
	var b strings.Builder
	for _, a := range addresses {
		i, found := slices.BinarySearchFunc(m.order, a, netip.Addr.Compare)
		if !found {
			i--
		}
		b.WriteByte('0' + byte(a.BitLen()/32))
		if i >= 0 && m.order[i].BitLen() == a.BitLen() {
			b.Write(m.order[i].AsSlice())
		}
	}
	return b.String()
}

// fill says what the members of a class tell of it.
func (c *class) fill(members []*workload) {
	slices.SortFunc(members, func(a, b *workload) int {
		return cmp.Or(compareRefs(a.o.Ref, b.o.Ref), strings.Compare(a.o.Origin.Source, b.o.Origin.Source))
	})
	w := members[0]
	c.members, c.addresses, c.host, c.unread = members, nil, w.host, w.unread
	c.Workload, c.HostNetwork = w.owner, w.host == yes
	c.Refs, c.Ports = make([]object.Ref, 0, len(members)), nil
	for _, p := range w.ports {
		c.Ports = append(c.Ports, p.Port)
	}
	running, declared := 0, 0
	for _, w := range members {
		c.Refs = append(c.Refs, w.o.Ref)
		if len(w.addresses) > 0 {
			c.addresses = w.addresses
		}
		if w.pod {
			running++
		} else {
			declared = max(declared, w.pods)
		}
	}
	c.Pods = running
	if running == 0 {
		c.Pods = declared
	}
	c.Unknown = c.limits(nil)
}

// limits says what of the pods could not be read, some labels left aside.
func (c *class) limits(aside map[string]bool) string {
	var out []string
	if c.labels.unread {
		out = append(out, "their labels")
	}
	for _, p := range c.labels.pairs {
		if p.unread && !aside[p.key] {
			out = append(out, "the value of their label "+p.key)
		}
	}
	if c.host == unknown {
		out = append(out, "whether they are on the network of their node")
	}
	if c.unread {
		out = append(out, "their ports")
	}
	if len(out) == 0 {
		return ""
	}
	return "not known of these pods: " + strings.Join(out, ", ")
}

// Classes returns all classes, sorted by namespace, workload and labels.
func (m *Model) Classes() []*Class {
	if m.sorted == nil {
		all := make([]*class, 0, len(m.classes))
		for _, c := range m.classes {
			if c != nil {
				all = append(all, c)
			}
		}
		slices.SortFunc(all, compareClasses)
		m.sorted = make([]*Class, len(all))
		for i, c := range all {
			m.sorted[i] = &c.Class
		}
	}
	return slices.Clone(m.sorted)
}

func compareClasses(a, b *class) int {
	return cmp.Or(compareSpaces(a.space, b.space), strings.Compare(a.Workload, b.Workload), strings.Compare(a.members[0].labels.id(), b.members[0].labels.id()),
		strings.Compare(a.atoms, b.atoms), compareRefs(a.Refs[0], b.Refs[0]))
}

// Class returns the class of a number, or nil.
func (m *Model) Class(id int) *Class {
	if id < 0 || id >= len(m.classes) || m.classes[id] == nil {
		return nil
	}
	return &m.classes[id].Class
}

// Blocks returns the blocks of addresses that policies name, each once, sorted.
func (m *Model) Blocks() []netip.Prefix {
	var out []netip.Prefix
	add := func(p netip.Prefix) { out = append(out, p) }
	for _, p := range m.above {
		p.prefixes(add)
	}
	for _, s := range m.spaces {
		for _, p := range s.policies {
			p.prefixes(add)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// Limits says, a sentence each, what the model as a whole does not know.
func (m *Model) Limits() []string {
	var out []string
	if !m.env.Complete {
		out = append(out, "only what was read is known: other policies, pods and namespaces may be there")
	}
	for _, f := range m.foreign {
		out = append(out, f.words()+" may select any pods, and is of a kind that is not understood here")
	}
	return out
}
