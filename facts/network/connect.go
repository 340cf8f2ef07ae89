// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"
)

// Connects says whether a connection is allowed, and which policies decide that
// at its two ends. A port of which only the name is given is that of the pods
// that are connected to.
//
// Pods of a class that connect to pods of the same class are two pods: that one
// reaches itself, no policy can deny. Nor can one deny the traffic between a
// node and its own pods.
func (m *Model) Connects(from, to Peer, p Port) Verdict {
	if p.Protocol == "" {
		p.Protocol = TCP
	}
	if p.Number == 0 && p.Name != "" && to.Class != nil {
		for _, port := range to.Class.Ports {
			if port.Name == p.Name {
				p = port
			}
		}
	}
	ports := PortRange(p.Protocol, p.Number, p.Number)
	if ports.Empty() {
		why := "policies know no port " + p.String()
		return Verdict{Unknown: why, Egress: Decision{Unknown: why}, Ingress: Decision{Unknown: why}}
	}
	source, target := m.own(from.Class), m.own(to.Class)
	switch {
	case from.Class != nil && source == nil, to.Class != nil && target == nil:
		return Verdict{Unknown: "the pods are no longer there"}
	case source == nil && target == nil:
		free := outsideDecision()
		return Verdict{Allowed: true, Egress: free, Ingress: free}
	case source == nil:
		return m.fromAddresses(ingress, target, m.universe(from), ports)
	case target == nil:
		return m.fromAddresses(egress, source, m.universe(to), ports)
	}
	out := m.ask(egress, source, end{class: target}, ports, true).decision()
	in := m.ask(ingress, target, end{class: source}, ports, true).decision()
	return verdictOf(out, in)
}

func outsideDecision() Decision {
	return Decision{Allowed: true, By: []Reason{{Rule: -1, Words: "no policy is for what is outside the cluster"}}}
}

func verdictOf(out, in Decision) Verdict {
	v := Verdict{Allowed: out.Allowed && in.Allowed, Egress: out, Ingress: in}
	denied := func(d Decision) bool { return !d.Allowed && d.Unknown == "" }
	if !v.Allowed && !denied(out) && !denied(in) {
		v.Unknown = out.Unknown
		if v.Unknown == "" {
			v.Unknown = in.Unknown
		}
	}
	return v
}

// own returns the class of the model, or nil where it is not one of its own.
func (m *Model) own(c *Class) *class {
	if c == nil || c.ID < 0 || c.ID >= len(m.classes) || m.classes[c.ID] == nil || &m.classes[c.ID].Class != c {
		return nil
	}
	return m.classes[c.ID]
}

// Ports returns all ports on which connections are surely allowed: of addresses,
// for some of them.
func (m *Model) Ports(from, to Peer) PortSet {
	sure, _ := m.ports(from, to)
	return sure
}

// PossiblePorts returns the ports on which connections are allowed, or may be.
func (m *Model) PossiblePorts(from, to Peer) PortSet {
	_, possible := m.ports(from, to)
	return possible
}

func (m *Model) ports(from, to Peer) (sure, possible PortSet) {
	source, target := m.own(from.Class), m.own(to.Class)
	switch {
	case from.Class != nil && source == nil, to.Class != nil && target == nil:
		return sure, AllPorts()
	case source == nil && target == nil:
		return AllPorts(), AllPorts()
	case source == nil:
		return m.addressPorts(ingress, target, m.universe(from))
	case target == nil:
		return m.addressPorts(egress, source, m.universe(to))
	}
	out := m.ask(egress, source, end{class: target}, AllPorts(), false)
	in := m.ask(ingress, target, end{class: source}, AllPorts(), false)
	return out.allowed().Intersect(in.allowed()), out.accepted.Intersect(in.accepted)
}

// universe are the addresses of a peer.
type universe struct {
	prefixes []netip.Prefix
	// skip says that an address is not meant; nil: all are.
	skip func(netip.Addr) bool
}

var (
	everyFour = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everySix  = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// special are addresses that are not of the internet.
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/3", "4000::/2", "8000::/1", "2001:db8::/32",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

func isSpecial(a netip.Addr) bool {
	return slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isNowhere says whether an address is none that traffic from or to another
// machine has.
func isNowhere(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// universe returns the addresses that a peer without a class stands for. Those
// of IPv6 are among all only where the cluster is seen to have them.
func (m *Model) universe(p Peer) universe {
	if p.CIDR.IsValid() {
		return universe{prefixes: []netip.Prefix{p.CIDR.Masked()}}
	}
	return m.everywhere(isNowhere)
}

func (m *Model) everywhere(skip func(netip.Addr) bool) universe {
	u := universe{prefixes: []netip.Prefix{everyFour}, skip: skip}
	if m.six > 0 {
		u.prefixes = append(u.prefixes, everySix)
	}
	return u
}

// points returns addresses of the universe, so that for every other one policies
// for the class decide as for one of these.
func (m *Model) points(d direction, of *class, u universe) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && slices.ContainsFunc(u.prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) && (u.skip == nil || !u.skip(a)) {
			out = append(out, a)
		}
	}
	border := func(p netip.Prefix) {
		add(p.Addr())
		add(lastOf(p).Next())
	}
	for _, p := range u.prefixes {
		add(p.Addr())
	}
	if u.skip != nil {
		add(aPublicAddress)
		for _, p := range special {
			border(p)
		}
	}
	for _, p := range slices.Concat(m.aboveFor(of), m.namespacedFor(of, d)) {
		p.prefixes(border)
		for _, r := range p.rules[d] {
			if d == egress && slices.ContainsFunc(r.peers, func(x peer) bool { return x.kind == nodePeer }) {
				for _, n := range m.nodes {
					for _, a := range n.addresses {
						add(a)
						add(a.Next())
					}
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// aPublicAddress is one that is likely to be in no block by itself.
var aPublicAddress = netip.MustParseAddr("1.0.0.1")

// fromAddresses answers for addresses that the pods of a class talk with: it is
// allowed where it is for one of them.
func (m *Model) fromAddresses(d direction, of *class, u universe, ports PortSet) Verdict {
	spot := m.best(d, of, u, ports)
	decision := m.ask(d, of, end{addr: spot.addr}, ports, true).decision()
	v := Verdict{Allowed: decision.Allowed, Partly: spot.partly, Unknown: decision.Unknown, Egress: outsideDecision(), Ingress: outsideDecision()}
	if d == egress {
		v.Egress = decision
	} else {
		v.Ingress = decision
	}
	return v
}

// spot is an address for which as much is allowed as for any other; partly says
// that it is not for all of them.
type spot struct {
	addr   netip.Addr
	partly bool
}

// best finds the address for which most is allowed.
func (m *Model) best(d direction, of *class, u universe, ports PortSet) spot {
	out, best, all := spot{}, -1, true
	for _, a := range m.points(d, of, u) {
		q := m.ask(d, of, end{addr: a}, ports, false)
		rank := 0
		switch {
		case !q.allowed().Empty():
			rank = 2
		case !q.accepted.Empty():
			rank = 1
		}
		all = all && rank == 2
		if rank > best {
			out.addr, best = a, rank
		}
	}
	out.partly = best == 2 && !all
	return out
}

// addressPorts are the ports that are allowed, or may be, for one of the
// addresses.
func (m *Model) addressPorts(d direction, of *class, u universe) (sure, possible PortSet) {
	for _, a := range m.points(d, of, u) {
		q := m.ask(d, of, end{addr: a}, AllPorts(), false)
		sure, possible = sure.Union(q.allowed()), possible.Union(q.accepted)
	}
	return sure, possible
}
