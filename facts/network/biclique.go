// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/RoaringBitmap/roaring/v2"
)

// Bicliques yields sets of classes all of which may surely connect to all of
// the others, on ports: together exactly the allowed pairs, some more than once.
// The lists are sorted, shared and must not be changed.
func (m *Model) Bicliques(yield func(from, to []int, ports PortSet)) { m.bicliques(false, yield) }

// Possible yields as Bicliques does, together the pairs that are allowed or of
// which that is not known.
func (m *Model) Possible(yield func(from, to []int, ports PortSet)) { m.bicliques(true, yield) }

func (m *Model) bicliques(possible bool, yield func(from, to []int, ports PortSet)) {
	x := m.newPlane()
	in := x.sheet(ingress, possible)
	out := x.sheet(egress, possible)
	meet(in.entries, out.entries, x.all, len(m.classes), yield)
}

// entry of a sheet: the policies for all of the subjects allow ports from, or
// to, all of the peers.
type allowance struct {
	peers, subjects *roaring.Bitmap
	ports           PortSet
}

// sheet is what policies allow in one direction.
type sheet struct {
	*plane
	d        direction
	possible bool
	entries  []*allowance
	by       map[string]*allowance
	// parts are classes that the same policies above namespaces are for.
	parts []*part
	of    []int32 // by class
	// done are the classes of which more is said than their part does.
	done *roaring.Bitmap
}

// part is the classes that the same policies above namespaces are for, and what
// these decide.
type part struct {
	n     int
	above []selected
	like  *class // one of them
	all   *roaring.Bitmap
	// NetworkPolicies decide within: what is neither allowed nor denied before.
	within area
	whole  bool // within is everything
	// before is allowed whatever they say; open is allowed where there are none.
	before, open area
	isolated     *roaring.Bitmap // by NetworkPolicies
}

// sheet works out what policies allow in a direction: surely, or possibly.
func (x *plane) sheet(d direction, possible bool) *sheet {
	s := &sheet{plane: x, d: d, possible: possible, by: map[string]*allowance{}, of: make([]int32, len(x.m.classes)), done: roaring.New()}
	s.divide()
	for _, p := range s.parts {
		s.decide(p)
	}
	s.free()
	for i, space := range x.spaces {
		s.namespaced(space, x.in[i])
	}
	for _, p := range s.parts {
		s.allowArea("open", p, p.open, roaring.AndNot(p.all, s.done))
		s.allowArea("before", p, p.before, p.isolated)
	}
	return s
}

// divide divides classes into parts. Where policies above namespaces name ports,
// those that have others of that name are apart.
func (s *sheet) divide() {
	keys := make([][]byte, len(s.m.classes))
	named := false
	for i, p := range s.m.above {
		chosen := s.pods(s.inSpaces(p.namespaces), p.pods)
		if s.d == ingress {
			named = named || p.names(ingress)
		}
		for it := chosen.possible.Iterator(); it.HasNext(); {
			id := it.Next()
			t := unknown
			if chosen.sure.Contains(id) {
				t = yes
			}
			keys[id] = append(binary.AppendUvarint(keys[id], uint64(i)), byte(t))
		}
	}
	byKey := map[string]*part{}
	for _, c := range s.m.classes {
		if c == nil {
			continue
		}
		key := keys[c.ID]
		if named && len(key) > 0 {
			key = append(key, c.portKey()...)
		}
		p := byKey[string(key)]
		if p == nil {
			p = &part{n: len(s.parts), like: c, all: roaring.New(), isolated: roaring.New(), above: s.m.aboveFor(c)}
			byKey[string(key)] = p
			s.parts = append(s.parts, p)
		}
		p.all.AddInt(c.ID)
		s.of[c.ID] = int32(p.n)
	}
}

// names says whether rules of the policy for a direction have ports by name.
func (p *policy) names(d direction) bool {
	return slices.ContainsFunc(p.rules[d], func(r *rule) bool {
		return slices.ContainsFunc(r.ports, func(x portRule) bool { return x.name != "" })
	})
}

// portKey is the same for classes that have the same ports by name.
func (c *class) portKey() string {
	key := "\x04"
	if c.unread {
		key += "?"
	}
	for _, p := range c.Ports {
		if p.Name != "" {
			key += p.Name + "=" + p.String() + ","
		}
	}
	return key
}

// everything is all ports of all classes.
func (x *plane) everything() area { return rectangle(AllPorts(), x.all) }

// decider asks policies for the pods of classes that are alike.
func (s *sheet) decider(like *class) *decider[area] {
	every := s.everything()
	return &decider[area]{
		d: s.d, left: every, every: every, sameNode: rectangle(AllPorts(), s.onNode.possible),
		match: func(p *policy, r *rule) (sure, possible area) { return s.match(p, r, like) },
	}
}

// result is what is allowed: surely, or possibly.
func (s *sheet) result(x *decider[area]) area {
	if s.possible {
		return x.accepted
	}
	return x.allowed()
}

// decide works out what the policies above namespaces decide for a part. Of what
// comes to NetworkPolicies, these allow what is within; what is denied there
// is denied, whatever else may be.
func (s *sheet) decide(p *part) {
	if len(p.above) == 0 {
		p.within, p.open, p.whole = s.everything(), s.everything(), true
		return
	}
	x := s.decider(p.like)
	x.decideAbove(adminTier, p.above)
	if s.possible {
		p.within, p.before = x.left, x.accepted
	} else {
		surely := x.allowed()
		p.within, p.before = surely.Union(x.left.Minus(x.denied)), surely.Minus(x.left)
	}
	p.whole = len(p.within) == 1 && p.within[0].ports.All() && p.within[0].peers.Equals(s.all)
	x.decideAbove(baselineTier, p.above)
	x.decideRest()
	p.open = s.result(x)
}

// free deals with classes of which policies say nothing: those on the network of
// their node, and those of which policies that are not modelled leave nothing
// known.
func (s *sheet) free() {
	open := s.onNode.sure.Clone()
	blocked := roaring.New()
	if s.m.foreigners > 0 {
		for it := s.all.Iterator(); it.HasNext(); {
			id := it.Next()
			for _, f := range s.m.foreignFor(s.m.classes[id], s.d) {
				switch {
				case !s.possible:
					blocked.Add(id) // nothing is sure
				case !f.kind.restricts:
					open.Add(id)
				}
			}
		}
	}
	s.allow("all", s.all, AllPorts(), roaring.AndNot(open, blocked))
	s.done.Or(open)
	s.done.Or(blocked)
}

// allow adds what is allowed for subjects. A key stands for the peers.
func (s *sheet) allow(key string, peers *roaring.Bitmap, ports PortSet, subjects *roaring.Bitmap) {
	if peers.IsEmpty() || ports.Empty() || subjects.IsEmpty() {
		return
	}
	if peers.GetCardinality() == s.all.GetCardinality() {
		key, peers = "all", s.all
	}
	key += "\x05" + ports.String()
	a := s.by[key]
	if a == nil {
		a = &allowance{peers: peers, subjects: roaring.New(), ports: ports}
		s.by[key] = a
		s.entries = append(s.entries, a)
	}
	a.subjects.Or(subjects)
}

func (s *sheet) allowArea(name string, p *part, a area, subjects *roaring.Bitmap) {
	for i, c := range a {
		s.allow(name+strconv.Itoa(p.n)+"/"+strconv.Itoa(i), c.peers, c.ports, subjects)
	}
}

// target is classes of a part that a NetworkPolicy is for, and that have the same
// ports where it names some.
type target struct {
	*policy
	part    *part
	portKey string
	like    *class
	set     *roaring.Bitmap
}

// unsure is classes of a part that the same NetworkPolicies may be for.
type unsure struct {
	part     *part
	policies []selected
	like     *class
	set      *roaring.Bitmap
}

// namespaced adds what NetworkPolicies of a namespace allow for its classes.
func (s *sheet) namespaced(space *space, in *roaring.Bitmap) {
	if len(space.policies) == 0 && len(s.m.unnamed) == 0 {
		return
	}
	var targets []*target
	maybe := map[string]*unsure{}
	var order []*unsure
	for it := in.Iterator(); it.HasNext(); {
		c := s.m.classes[it.Next()]
		policies := s.m.namespacedFor(c, s.d)
		if len(policies) == 0 || s.done.ContainsInt(c.ID) {
			continue
		}
		s.done.AddInt(c.ID)
		part := s.parts[s.of[c.ID]]
		if !slices.ContainsFunc(policies, func(p selected) bool { return p.truth == yes }) {
			key := c.portKey() + strconv.Itoa(part.n)
			for _, p := range policies {
				key += "\x06" + called(p.o.Ref) + p.o.Origin.Source
			}
			if maybe[key] == nil {
				maybe[key] = &unsure{part: part, policies: policies, like: c, set: roaring.New()}
				order = append(order, maybe[key])
			}
			maybe[key].set.AddInt(c.ID)
			continue
		}
		part.isolated.AddInt(c.ID)
		for _, p := range policies {
			if p.truth == yes || s.possible {
				targets = addTarget(targets, p.policy, part, c, s.d)
			}
		}
	}
	for _, t := range targets {
		s.isolate(t)
	}
	for _, u := range order {
		x := s.decider(u.like)
		x.decideAbove(adminTier, u.part.above)
		x.decideNamespaced(u.policies)
		x.decideAbove(baselineTier, u.part.above)
		x.decideRest()
		s.allowArea("unsure "+strconv.Itoa(u.like.ID)+"/", u.part, s.result(x), u.set)
	}
}

func addTarget(targets []*target, p *policy, part *part, c *class, d direction) []*target {
	key := ""
	if d == ingress && p.names(d) {
		key = c.portKey()
	}
	for _, t := range targets {
		if t.policy == p && t.part == part && t.portKey == key {
			t.set.AddInt(c.ID)
			return targets
		}
	}
	return append(targets, &target{p, part, key, c, roaring.BitmapOf(uint32(c.ID))})
}

// isolate adds what a NetworkPolicy allows.
func (s *sheet) isolate(t *target) {
	allow := func(key string, peers *roaring.Bitmap, ports PortSet) {
		if t.part.whole {
			s.allow(key, peers, ports, t.set)
			return
		}
		for i, c := range t.part.within {
			if ports := ports.Intersect(c.ports); !ports.Empty() {
				s.allow(key+"\x07"+strconv.Itoa(t.part.n)+"/"+strconv.Itoa(i), roaring.And(peers, c.peers), ports, t.set)
			}
		}
	}
	for _, r := range t.rules[s.d] {
		s.rectangles(t.policy, r, t.like, s.possible, allow)
	}
	if s.possible {
		allow("nodes", s.onNode.possible, AllPorts())
		if t.unread != "" {
			allow("all", s.all, AllPorts())
		}
	}
}

// match returns what a rule is about, for pods of a class.
func (s *sheet) match(p *policy, r *rule, like *class) (sure, possible area) {
	s.rectangles(p, r, like, false, func(_ string, peers *roaring.Bitmap, ports PortSet) { sure = sure.Union(rectangle(ports, peers)) })
	s.rectangles(p, r, like, true, func(_ string, peers *roaring.Bitmap, ports PortSet) {
		possible = possible.Union(rectangle(ports, peers))
	})
	return sure, possible
}

// rectangles calls f with what a rule surely is about, or possibly, for pods of a
// class: sets of peers, each with a key that stands for it, and ports.
func (s *sheet) rectangles(p *policy, r *rule, like *class, possible bool, f func(key string, peers *roaring.Bitmap, ports PortSet)) {
	if r.everyone {
		s.withPorts(r, like, possible, "all", s.all, f)
	}
	for i := range r.peers {
		key, set := s.peer(p, &r.peers[i], like.space)
		peers := set.pick(possible)
		if possible && !set.exact() {
			key += "\x08"
		}
		if !peers.IsEmpty() {
			s.withPorts(r, like, possible, key, peers, f)
		}
	}
}

// withPorts calls f with the ports of a rule at peers: those that are named are
// what each of the peers calls so.
func (s *sheet) withPorts(r *rule, like *class, possible bool, key string, peers *roaring.Bitmap, f func(key string, peers *roaring.Bitmap, ports PortSet)) {
	to := like
	if s.d == egress {
		to = nil
	}
	sure, maybe := r.portsOf(to)
	if possible {
		sure = maybe
	}
	if !sure.Empty() {
		f(key, peers, sure)
	}
	if s.d == ingress {
		return
	}
	for _, port := range r.ports {
		if port.name == "" || port.unread {
			continue
		}
		for _, of := range s.called[port.name] {
			if port.protocol == "" || port.protocol == of.Protocol {
				f(key+"\x0e"+of.String()+of.Name, roaring.And(peers, of.classes), PortRange(of.Protocol, of.Number, of.Number))
			}
		}
		if possible {
			f(key+"\x0e?", roaring.And(peers, s.unread), AllPorts())
		}
	}
}
