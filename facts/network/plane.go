// SPDX-License-Identifier: Apache-2.0

package network

import (
	"github.com/RoaringBitmap/roaring/v2"
)

// known is a set of classes (or of namespaces): those that surely are in it, and
// those that may be, which contain them. It is not changed once it is made.
type known struct{ sure, possible *roaring.Bitmap }

func exactly(b *roaring.Bitmap) known { return known{b, b} }

func (k known) exact() bool { return k.sure == k.possible }

// and returns what is in both sets.
func (k known) and(l known) known {
	if k.exact() && l.exact() {
		return exactly(roaring.And(k.sure, l.sure))
	}
	return known{roaring.And(k.sure, l.sure), roaring.And(k.possible, l.possible)}
}

// pick returns the classes that surely are in the set, or those that may be.
func (k known) pick(possible bool) *roaring.Bitmap {
	if possible {
		return k.possible
	}
	return k.sure
}

// labelIndex finds by labels: it has, for every label, what has it.
type labelIndex struct {
	all    *roaring.Bitmap
	pairs  map[string]map[string]*roaring.Bitmap // by key and value
	keys   map[string]*roaring.Bitmap
	unread map[string]*roaring.Bitmap // with a value that is not known
	blank  *roaring.Bitmap            // of which not all keys are known
	found  map[string]known           // by selector
}

func newLabelIndex() *labelIndex {
	return &labelIndex{
		all: roaring.New(), blank: roaring.New(), pairs: map[string]map[string]*roaring.Bitmap{},
		keys: map[string]*roaring.Bitmap{}, unread: map[string]*roaring.Bitmap{}, found: map[string]known{},
	}
}

func addTo[K comparable](sets map[K]*roaring.Bitmap, key K, id uint32) {
	if sets[key] == nil {
		sets[key] = roaring.New()
	}
	sets[key].Add(id)
}

func (x *labelIndex) add(id uint32, l labels) {
	x.all.Add(id)
	if l.unread {
		x.blank.Add(id)
	}
	for _, p := range l.pairs {
		addTo(x.keys, p.key, id)
		if p.unread {
			addTo(x.unread, p.key, id)
			continue
		}
		if x.pairs[p.key] == nil {
			x.pairs[p.key] = map[string]*roaring.Bitmap{}
		}
		addTo(x.pairs[p.key], p.value, id)
	}
}

// choose returns what a selector chooses.
func (x *labelIndex) choose(s selector) known {
	id := s.id()
	if out, ok := x.found[id]; ok {
		return out
	}
	out := exactly(x.all)
	for i, r := range s.requirements {
		if part := x.meets(r); i == 0 {
			out = part
		} else {
			out = out.and(part)
		}
	}
	if s.unread {
		out = known{roaring.New(), out.possible}
	}
	x.found[id] = out
	return out
}

// meets returns what meets a requirement.
func (x *labelIndex) meets(r requirement) known {
	has := x.hasKey(r.key)
	if r.operator == in || r.operator == notIn {
		has = x.hasValue(r)
	}
	switch {
	case r.operator == in || r.operator == exists:
		return has
	case has.exact():
		return exactly(roaring.AndNot(x.all, has.sure))
	}
	return known{roaring.AndNot(x.all, has.possible), roaring.AndNot(x.all, has.sure)}
}

// hasKey returns what has a label.
func (x *labelIndex) hasKey(key string) known {
	out := orEmpty(x.keys[key])
	if x.blank.IsEmpty() {
		return exactly(out)
	}
	return known{out, roaring.Or(out, x.blank)}
}

// hasValue returns what has a label with one of the values of a requirement.
func (x *labelIndex) hasValue(r requirement) known {
	out := orEmpty(x.pairs[r.key][r.values[0]])
	if len(r.values) > 1 {
		out = out.Clone()
		for _, v := range r.values[1:] {
			out.Or(orEmpty(x.pairs[r.key][v]))
		}
	}
	unread := orEmpty(x.unread[r.key])
	if unread.IsEmpty() && x.blank.IsEmpty() {
		return exactly(out)
	}
	possible := roaring.AndNot(x.blank, orEmpty(x.keys[r.key]))
	possible.Or(unread)
	possible.Or(out)
	return known{out, possible}
}

var empty = roaring.New()

func orEmpty(b *roaring.Bitmap) *roaring.Bitmap {
	if b == nil {
		return empty
	}
	return b
}

// plane is the classes of a model as sets.
type plane struct {
	m      *Model
	all    *roaring.Bitmap
	spaces []*space
	ids    map[*space]uint32
	in     []*roaring.Bitmap // classes, by number of their namespace
	byPod  *labelIndex
	byName *labelIndex // namespaces
	// onNode are those on the network of their node, onPod those that are not.
	onNode, onPod known
	atoms         map[string]*roaring.Bitmap
	// called has, by their names, the ports that containers declare; unread are
	// classes whose ports are not all known.
	called map[string][]namedPort
	unread *roaring.Bitmap
	peers  map[string]known
}

func (m *Model) newPlane() *plane {
	x := &plane{
		m: m, all: roaring.New(), ids: map[*space]uint32{}, byPod: newLabelIndex(), byName: newLabelIndex(), unread: roaring.New(),
		atoms: map[string]*roaring.Bitmap{}, called: map[string][]namedPort{}, peers: map[string]known{},
	}
	onNode, mayBe := roaring.New(), roaring.New()
	for _, c := range m.classes {
		if c == nil {
			continue
		}
		id := uint32(c.ID)
		x.all.Add(id)
		x.in[x.number(c.space)].Add(id)
		x.byPod.add(id, c.labels)
		addTo(x.atoms, c.atoms, id)
		if c.host == yes {
			onNode.Add(id)
		}
		if c.host != no {
			mayBe.Add(id)
		}
		if c.unread {
			x.unread.Add(id)
		}
		for _, p := range c.Ports {
			if p.Name != "" {
				x.addPort(p, id)
			}
		}
	}
	x.byPod.all = x.all
	x.all.RunOptimize()
	for _, in := range x.in {
		in.RunOptimize()
	}
	x.onNode = exactly(onNode)
	x.onPod = exactly(roaring.AndNot(x.all, onNode))
	if mayBe.GetCardinality() != onNode.GetCardinality() {
		x.onNode = known{onNode, mayBe}
		x.onPod = known{roaring.AndNot(x.all, mayBe), roaring.AndNot(x.all, onNode)}
	}
	return x
}

// namedPort is a port that has a name, and the classes that have it.
type namedPort struct {
	Port
	classes *roaring.Bitmap
}

func (x *plane) addPort(p Port, id uint32) {
	list := x.called[p.Name]
	for _, n := range list {
		if n.Port == p {
			n.classes.Add(id)
			return
		}
	}
	x.called[p.Name] = append(list, namedPort{p, roaring.BitmapOf(id)})
}

// number returns the number of a namespace.
func (x *plane) number(s *space) uint32 {
	id, ok := x.ids[s]
	if !ok {
		id = uint32(len(x.spaces))
		x.ids[s] = id
		x.spaces = append(x.spaces, s)
		x.in = append(x.in, roaring.New())
		x.byName.add(id, s.labels)
	}
	return id
}

// inSpaces returns the classes of namespaces that a selector chooses.
func (x *plane) inSpaces(s selector) known {
	if s.all() == yes {
		return exactly(x.all)
	}
	key := "namespaces\x02" + s.id()
	if out, ok := x.peers[key]; ok {
		return out
	}
	chosen := x.byName.choose(s)
	union := func(b *roaring.Bitmap) *roaring.Bitmap {
		var sets []*roaring.Bitmap
		for it := b.Iterator(); it.HasNext(); {
			sets = append(sets, x.in[it.Next()])
		}
		return roaring.FastOr(sets...)
	}
	out := exactly(union(chosen.sure))
	if !chosen.exact() {
		out.possible = union(chosen.possible)
	}
	x.peers[key] = out
	return out
}

// peer returns the classes that a peer of a rule is, for pods of a namespace,
// and a key under which they are the same.
func (x *plane) peer(p *policy, r *peer, of *space) (string, known) {
	key := r.id(p, of)
	if out, ok := x.peers[key]; ok {
		return key, out
	}
	var out known
	switch {
	case r.kind == blockPeer:
		out = x.byBlocks(r)
	case r.kind == nodePeer:
		out = x.byNodes(r)
	case r.kind == namePeer:
		out = exactly(empty)
	case r.kind == unreadPeer:
		out = known{empty, x.all}
	case r.own:
		out = x.ownPods(p, r, of)
	default:
		out = x.pods(x.inSpaces(r.namespaces), r.pods)
	}
	x.peers[key] = out
	return key, out
}

// pods returns those of classes that are chosen by their labels, and are not on
// the network of their node.
func (x *plane) pods(among known, s selector) known {
	if s.all() != yes {
		among = among.and(x.byPod.choose(s))
	}
	if x.onNode.possible.IsEmpty() {
		return among
	}
	return among.and(x.onPod)
}

// ownPods returns the classes of a policy's own namespace that a peer is.
func (x *plane) ownPods(p *policy, r *peer, of *space) known {
	sure, possible := roaring.New(), roaring.New()
	add := func(s *space) {
		same := x.m.sameSpace(p, of, s)
		for _, g := range s.groups {
			for _, c := range g.classes {
				t := min(same, c.host.not(), r.pods.matches(c.labels))
				if t == yes {
					sure.AddInt(c.ID)
				}
				if t != no {
					possible.AddInt(c.ID)
				}
			}
		}
	}
	add(of)
	if len(x.m.unnamed) > 0 {
		for _, s := range x.m.nearTo(of) {
			add(s)
		}
	}
	if sure.GetCardinality() == possible.GetCardinality() {
		return exactly(sure)
	}
	return known{sure, possible}
}

// byBlocks returns the classes whose pods have addresses of a peer. All classes
// of one atom have them, or none.
func (x *plane) byBlocks(r *peer) known {
	var sure, possible []*roaring.Bitmap
	for _, set := range x.atoms {
		t := r.containsEnd(end{class: x.m.classes[set.Minimum()]})
		if t == yes {
			sure = append(sure, set)
		}
		if t != no {
			possible = append(possible, set)
		}
	}
	if len(sure) == len(possible) {
		return exactly(roaring.FastOr(sure...))
	}
	return known{roaring.FastOr(sure...), roaring.FastOr(possible...)}
}

// byNodes returns the classes that are at addresses of chosen nodes.
func (x *plane) byNodes(r *peer) known {
	out := known{empty, empty}
	for it := x.onNode.possible.Iterator(); it.HasNext(); {
		id := it.Next()
		one := roaring.BitmapOf(id)
		switch x.m.nodesChosen(r.pods, end{class: x.m.classes[id]}) {
		case yes:
			out = known{roaring.Or(out.sure, one), roaring.Or(out.possible, one)}
		case unknown:
			out = known{out.sure, roaring.Or(out.possible, one)}
		}
	}
	return out
}
