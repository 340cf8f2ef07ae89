// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"
)

// end is the other end of a connection: pods of a class, or an address, or
// anyone, of whom nothing is known.
type end struct {
	class  *class
	addr   netip.Addr
	anyone bool
}

// region is a set of what is asked about: ports of one pair of ends, or ports of
// many pairs.
type region[T any] interface {
	Union(T) T
	Intersect(T) T
	Minus(T) T
	Empty() bool
}

// selected is a policy that is, or may be, for the pods that are asked about.
type selected struct {
	*policy
	truth truth
}

// decider asks policies, tier by tier, for connections in one direction. It
// gathers them by what may become of them: one that may be accepted and may not
// be denied is surely allowed.
type decider[T region[T]] struct {
	d direction
	// match returns what a rule surely is about, and what it may be about.
	match func(p *policy, r *rule) (sure, possible T)
	// every is all there is, sameNode what comes from, or goes to, pods on the
	// network of a node, which may be that of the pods.
	every, sameNode T
	notes           *notes

	left, accepted, denied T
}

// allowed is what surely is allowed.
func (x *decider[T]) allowed() T { return x.accepted.Minus(x.denied) }

// decideAbove asks the policies of a tier above namespaces, which come in their
// order. Of those with the same priority any may decide.
func (x *decider[T]) decideAbove(t tier, above []selected) {
	var passed T
	for list := above; len(list) > 0 && !x.left.Empty(); {
		n := 1
		for n < len(list) && list[n].tier == list[0].tier && list[n].priority == list[0].priority {
			n++
		}
		if list[0].tier == t {
			start, rest := x.left, x.left
			for _, p := range list[:n] {
				left, through := x.decideBy(p, start)
				rest, passed = rest.Intersect(left), passed.Union(through)
			}
			x.left = rest
		}
		list = list[n:]
	}
	x.left = x.left.Union(passed)
}

// decideBy asks one policy above namespaces: the first rule that matches
// decides. It returns about what it may not decide, and what it may pass on to
// the next tier.
func (x *decider[T]) decideBy(p selected, left T) (rest, passed T) {
	if p.unread != "" {
		x.accepted, x.denied = x.accepted.Union(left), x.denied.Union(left)
		x.notes.unread(p.policy)
		return left, left
	}
	for _, r := range p.rules[x.d] {
		sure, possible := x.match(p.policy, r)
		if possible = possible.Intersect(left); possible.Empty() {
			continue
		}
		if r.action == accept || r.action == unreadAction {
			x.accepted = x.accepted.Union(possible)
		}
		if r.action == deny || r.action == unreadAction {
			x.denied = x.denied.Union(possible)
		}
		if r.action == pass || r.action == unreadAction {
			passed = passed.Union(possible)
		}
		x.notes.rule(p, r, did[r.action])
		if p.truth == yes && r.action != unreadAction {
			left = left.Minus(sure)
		}
	}
	return left, passed
}

// decideNamespaced asks NetworkPolicies. Where one is for the pods, what none of
// these allows is denied, and no further tier is asked.
func (x *decider[T]) decideNamespaced(policies []selected) {
	if x.left.Empty() || len(policies) == 0 {
		return
	}
	isolated := no
	var sure, possible, perhapsDenied T
	for _, p := range policies {
		isolated = max(isolated, p.truth)
		surely, maybe := x.allowedBy(p)
		possible = possible.Union(maybe)
		if p.truth == yes {
			sure = sure.Union(surely)
		} else {
			perhapsDenied = perhapsDenied.Union(x.left.Minus(surely))
		}
	}
	x.accepted = x.accepted.Union(x.left.Intersect(possible))
	if isolated != yes {
		x.denied = x.denied.Union(perhapsDenied)
		return
	}
	missed := x.left.Minus(sure)
	x.denied = x.denied.Union(missed)
	if nodes := missed.Intersect(x.sameNode); !nodes.Empty() {
		x.accepted = x.accepted.Union(nodes)
		x.notes.sameNode()
	}
	x.notes.isolated(policies)
	var none T
	x.left = none
}

// allowedBy returns what the rules of a NetworkPolicy surely allow, and what
// they may.
func (x *decider[T]) allowedBy(p selected) (sure, possible T) {
	for _, r := range p.rules[x.d] {
		surely, maybe := x.match(p.policy, r)
		sure, possible = sure.Union(surely), possible.Union(maybe)
		if x.notes != nil && !maybe.Intersect(x.left).Empty() {
			x.notes.rule(p, r, "allows it")
		}
	}
	if p.unread != "" {
		x.notes.unread(p.policy)
		possible = x.every
	}
	return sure, possible
}

// decideRest allows what nobody has decided about, as Kubernetes does.
func (x *decider[T]) decideRest() {
	if !x.left.Empty() {
		x.accepted = x.accepted.Union(x.left)
		x.notes.undecided()
	}
}

// decideForeign takes away the certainty that policies of kinds that are not
// modelled take away.
func (x *decider[T]) decideForeign(policies []*foreign) {
	for _, f := range policies {
		x.notes.foreign(f)
		x.denied = x.every
		if !f.kind.restricts {
			x.accepted = x.every
		}
	}
}

// question asks what the policies for the pods of a class, in one direction, say
// of ports of connections with another end.
type question struct {
	decider[PortSet]
	m    *Model
	of   *class
	peer end
}

// ask answers for the ports.
func (m *Model) ask(d direction, of *class, peer end, ports PortSet, explain bool) *question {
	q := &question{m: m, of: of, peer: peer}
	q.d, q.left, q.every, q.match = d, ports, ports, q.ports
	if explain {
		q.notes = &notes{q: q}
	}
	if peer.anyone || peer.class != nil && peer.class.host != no {
		q.sameNode = ports
	}
	if of.host == yes {
		q.accepted, q.left = ports, PortSet{}
		q.notes.onNode()
		return q
	}
	above := m.aboveFor(of)
	q.decideAbove(adminTier, above)
	q.decideNamespaced(m.namespacedFor(of, d))
	q.decideAbove(baselineTier, above)
	q.decideRest()
	q.decideForeign(m.foreignFor(of, d))
	return q
}

// decision is the answer for the one port that was asked about.
func (q *question) decision() Decision {
	d := Decision{Allowed: !q.allowed().Empty()}
	if q.notes != nil {
		d.By = q.notes.by
	}
	if !d.Allowed && !q.accepted.Empty() {
		d.Unknown = q.notes.doubt()
	}
	return d
}

// selectsAbove says whether a policy above namespaces is for the pods.
func (p *policy) selectsAbove(c *class) truth {
	return min(c.host.not(), p.namespaces.matches(c.space.labels), p.pods.matches(c.labels))
}

// selects says whether a NetworkPolicy of the class's namespace is for its pods
// in a direction.
func (p *policy) selects(c *class, d direction) truth {
	return min(c.host.not(), p.applies[d], p.pods.matches(c.labels))
}

// aboveFor returns the policies above namespaces that are, or may be, for the
// pods of a class, in the order in which they decide.
func (m *Model) aboveFor(c *class) []selected {
	var out []selected
	for _, p := range m.above {
		if t := p.selectsAbove(c); t != no {
			out = append(out, selected{p, t})
		}
	}
	return out
}

// namespacedFor returns the NetworkPolicies that are, or may be, for the pods of
// a class in a direction.
func (m *Model) namespacedFor(c *class, d direction) []selected {
	var out []selected
	for _, p := range c.space.policies {
		if t := p.selects(c, d); t != no {
			out = append(out, selected{p, t})
		}
	}
	if len(m.unnamed) == 0 {
		return out
	}
	for _, s := range m.nearTo(c.space) {
		for _, p := range s.policies {
			if p.selects(c, d) != no {
				out = append(out, selected{p, unknown})
			}
		}
	}
	return out
}

// nearTo returns the namespaces that may be the same as another.
func (m *Model) nearTo(s *space) []*space {
	var out []*space
	if s.name != "" {
		for _, u := range m.unnamed {
			if m.near(s, u) {
				out = append(out, u)
			}
		}
		return out
	}
	for other, n := range m.sources[s.source] {
		if n > 0 && other.name != "" {
			out = append(out, other)
		}
	}
	slices.SortFunc(out, compareSpaces)
	return out
}

// foreignFor returns the policies of kinds that are not modelled that may be for
// pods of a class.
func (m *Model) foreignFor(c *class, d direction) []*foreign {
	var out []*foreign
	add := func(list []*foreign) {
		for _, f := range list {
			if f.selects(c, d) {
				out = append(out, f)
			}
		}
	}
	add(m.foreign)
	add(c.space.foreign)
	if len(m.unnamed) > 0 {
		for _, s := range m.nearTo(c.space) {
			add(s.foreign)
		}
	}
	return out
}

// ports returns the ports of connections with the other end that a rule surely
// is about, and those that it may be about.
func (q *question) ports(p *policy, r *rule) (sure, possible PortSet) {
	t := no
	if r.everyone {
		t = yes
	}
	for i := 0; i < len(r.peers) && t != yes; i++ {
		t = max(t, q.chooses(p, &r.peers[i]))
	}
	if t == no {
		return sure, possible
	}
	to := q.of
	if q.d == egress {
		to = q.peer.class
	}
	sure, possible = r.portsOf(to)
	if t == unknown {
		sure = PortSet{}
	}
	return sure, possible
}

// chooses says whether a peer of a rule is the other end.
func (q *question) chooses(p *policy, r *peer) truth {
	c := q.peer.class
	if q.peer.anyone {
		return unknown
	}
	switch r.kind {
	case blockPeer:
		return r.containsEnd(q.peer)
	case namePeer:
		if c == nil {
			return unknown
		}
		return no // they are for what is outside
	case nodePeer:
		return q.m.nodesChosen(r.pods, q.peer)
	case unreadPeer:
		return unknown
	}
	if c == nil {
		return no
	}
	in := r.namespaces.matches(c.space.labels)
	if r.own {
		in = q.m.sameSpace(p, q.of.space, c.space)
	}
	return min(c.host.not(), in, r.pods.matches(c.labels))
}

// sameSpace says whether pods are in the namespace of a policy, which is, or may
// be, that of the pods that it is for.
func (m *Model) sameSpace(p *policy, of, s *space) truth {
	switch {
	case s == of, s.name == p.o.Namespace && s.name != "":
		return yes
	case len(m.unnamed) > 0 && m.near(of, s):
		return unknown
	}
	return no
}

// containsEnd says whether addresses are those of the other end: all of a pod's
// must be.
func (r *peer) containsEnd(e end) truth {
	if e.class == nil {
		return truthOf(r.contains(e.addr))
	}
	if len(e.class.addresses) == 0 {
		return unknown
	}
	in := 0
	for _, a := range e.class.addresses {
		if r.contains(a) {
			in++
		}
	}
	switch in {
	case 0:
		return no
	case len(e.class.addresses):
		return yes
	}
	return unknown
}

// contains says whether one of the blocks has an address.
func (r *peer) contains(a netip.Addr) bool {
	return slices.ContainsFunc(r.blocks, func(b block) bool {
		return b.cidr.Contains(a) && !slices.ContainsFunc(b.except, func(e netip.Prefix) bool { return e.Contains(a) })
	})
}

// nodesChosen says whether a selector of nodes chooses the other end: that is
// what has an address of a node.
func (m *Model) nodesChosen(s selector, e end) truth {
	if e.class != nil && e.class.host == no {
		return no
	}
	all, none, found := yes, yes, false
	for _, n := range m.nodes {
		t := s.matches(n.labels)
		if e.class == nil && slices.Contains(n.addresses, e.addr) {
			return t
		}
		all, none, found = min(all, t), min(none, t.not()), true
	}
	switch {
	case e.class == nil && found && m.env.Complete:
		return no // no node has the address
	case e.class == nil:
		return unknown
	case s.all() == yes, found && m.env.Complete && all == yes:
		return e.class.host
	case found && m.env.Complete && none == yes:
		return no
	}
	return unknown
}

// portsOf returns the ports that a rule is about at the pods of a class, or at
// an address where that is nil: surely, and possibly.
func (r *rule) portsOf(to *class) (sure, possible PortSet) {
	if r.allPorts {
		return AllPorts(), AllPorts()
	}
	for i := range r.ports {
		surely, maybe := r.ports[i].at(to)
		sure, possible = sure.Union(surely), possible.Union(maybe)
	}
	return sure, possible
}

// at returns the ports of one entry.
func (p *portRule) at(to *class) (sure, possible PortSet) {
	switch {
	case p.unread:
		return sure, AllPorts()
	case p.name == "":
		sure = PortRange(p.protocol, p.first, p.last)
		return sure, sure
	case to == nil:
		return sure, possible // nothing outside has names for its ports
	}
	for _, port := range to.Ports {
		if port.Name == p.name && (p.protocol == "" || p.protocol == port.Protocol) {
			sure = sure.Union(PortRange(port.Protocol, port.Number, port.Number))
		}
	}
	if to.unread {
		return sure, AllPorts()
	}
	return sure, sure
}
