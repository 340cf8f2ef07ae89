// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"net/netip"
	"slices"
	"strconv"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// networkIndex says whether what depends on connectivity is as it was.
type networkIndex struct{ stale bool }

// updateNetwork makes the links that follow from who can connect to whom.
func (g *Graph) updateNetwork() {
	if !g.net.stale && len(g.own.staleGroups) == 0 {
		return
	}
	g.net.stale = false
	g.remake(unitKey{kind: unitNetwork}, func(m *maker) {
		r := &reacher{maker: m, groups: map[int][]*group{}}
		r.exposed()
		r.bicliques()
		r.addresses()
	})
}

// reacher makes them.
type reacher struct {
	*maker
	groups map[int][]*group // by class
}

// of are the workloads of a class.
func (r *reacher) of(c *network.Class) []*group {
	if c == nil {
		return nil
	}
	out, ok := r.groups[c.ID]
	if ok {
		return out
	}
	var seen []groupKey
	for _, ref := range c.Refs {
		k := r.g.own.objects[ref]
		if k == nil || k.workload == nil {
			continue
		}
		key := groupKey{space(ref.Namespace), k.workload.owner, k.workload.alike}
		if slices.Contains(seen, key) {
			continue
		}
		seen = append(seen, key)
		if w, ok := r.g.own.group(key); ok {
			out = append(out, w)
		}
	}
	r.groups[c.ID] = out
	return out
}

// exposed links the outside to what is exposed to it.
func (r *reacher) exposed() {
	e := r.g.builtin(exposedEndpoint)
	if !r.g.on(e) {
		return
	}
	for _, x := range r.g.network.Exposures() {
		if !x.Allowed && x.Unknown == "" {
			continue
		}
		for _, w := range r.of(x.Class) {
			b := &because{object: w.leader.ref, words: "it is exposed by " + wayWords(x.Way) + " on " + x.Port.String()}
			if len(x.Via) > 0 {
				b.object = x.Via[0]
			}
			possible := ""
			if !x.Allowed {
				possible = x.Unknown
			}
			setting := thing{kind: Setting, namespace: b.object.Namespace, name: b.object.Kind + "/" + b.object.Name}
			r.through(thing{kind: Outside}, w.of(Endpoint), e, setting, b, possible)
			for _, known := range r.targets(w) {
				if known.open(x.Port.Number) {
					r.link(thing{kind: Outside}, known.via, nil, nil, possible)
				}
			}
		}
	}
}

// wayWords names a way in where its kind alone does not say.
func wayWords(w network.Way) string {
	switch w {
	case network.HostNetwork:
		return "the network of its node"
	case network.HostPort:
		return "a port of its node"
	case network.LoadBalancer, network.NodePort, network.ExternalIP:
		return "a Service (" + string(w) + ")"
	case network.Route:
		return "a route"
	}
	return "an " + string(w)
}

// known is an edge of the network that leads on from a connection to a workload.
type known struct {
	*Edge
	via thing
}

func (k known) open(port int32) bool {
	return len(k.Network.Ports) == 0 || port == 0 || slices.Contains(k.Network.Ports, port)
}

func (k known) among(ports network.PortSet) bool {
	return len(k.Network.Ports) == 0 || slices.ContainsFunc(k.Network.Ports, func(n int32) bool {
		return ports.Contains(network.Port{Protocol: network.TCP, Number: n})
	})
}

// targets are the edges that lead on from a connection to a workload, since it
// does not meet their condition.
func (r *reacher) targets(w *group) []known {
	var out []known
	for _, match := range w.matches {
		e := r.g.edges[match.edge]
		if e.Network == nil || e.Network.Address != "" || !r.g.on(e) {
			continue
		}
		via := w.of(Endpoint)
		via.of = e.Name
		if !slices.ContainsFunc(out, func(k known) bool { return k.Edge == e }) {
			out = append(out, known{e, via})
		}
	}
	return out
}

// bicliques links workloads to those that they can connect to: only where
// something is known to follow from that, or where it is assumed.
func (r *reacher) bicliques() {
	lateral := r.g.builtin(networkReach)
	any := r.g.on(lateral)
	if !any && !r.g.targeted() {
		return
	}
	at := map[int][]known{} // by class
	for _, c := range r.g.network.Classes() {
		for _, w := range r.of(c) {
			for _, k := range r.targets(w) {
				at[c.ID] = append(at[c.ID], k)
				r.target(w, k)
			}
		}
	}
	if !any && len(at) == 0 {
		return
	}
	n := 0
	for _, possible := range []string{"", "whether the policies of the network allow it is not known"} {
		visit := func(from, to []int, ports network.PortSet) {
			n++
			r.biclique(thing{kind: All, name: "connections", of: strconv.Itoa(n)}, from, to, ports, at, any, possible)
		}
		if possible == "" {
			r.g.network.Bicliques(visit)
		} else if len(r.g.network.Limits()) > 0 || !r.g.env.Complete {
			r.g.network.Possible(visit)
		}
	}
}

// targeted says whether anything is known to follow from a connection.
func (g *Graph) targeted() bool {
	for i := range g.own.matched {
		if e := g.edges[i]; e.Network != nil && e.Network.Address == "" && g.on(e) {
			return true
		}
	}
	return false
}

func (r *reacher) biclique(hub thing, from, to []int, ports network.PortSet, at map[int][]known, any bool, possible string) {
	led := false
	for _, id := range to {
		for _, k := range at[id] {
			if k.among(ports) {
				r.link(hub, k.via, nil, nil, possible)
				led = true
			}
		}
		if !any {
			continue
		}
		for _, w := range r.of(r.g.network.Class(id)) {
			r.link(hub, w.of(Endpoint), r.g.builtin(networkReach), &because{object: w.leader.ref, words: "it can be reached on " + ports.String()}, possible)
			led = true
		}
	}
	if !led {
		return
	}
	for _, id := range from {
		for _, w := range r.of(r.g.network.Class(id)) {
			r.plain(w.of(Pod), hub)
		}
	}
}

// target links a connection to what follows from it.
func (r *reacher) target(w *group, k known) {
	for i, match := range w.matches {
		if match.edge != k.index {
			continue
		}
		b := &because{object: w.leader.ref, words: match.words}
		if i < len(w.leader.positions) {
			b.position = func() object.Position { return w.leader.positions[i] }
		}
		for _, to := range r.reached(w, k.Edge, match) {
			r.through(k.via, to, k.Edge, w.setting(-1), b, match.possible)
		}
		return
	}
}

// addresses links workloads to what follows from a connection to an address
// outside the network of pods.
func (r *reacher) addresses() {
	for _, e := range r.g.edges {
		if e.Network == nil || e.Network.Address == "" || !r.g.holds(e) {
			continue
		}
		peer := network.Peer{}
		if ip, err := netip.ParseAddr(e.Network.Address); err == nil {
			peer.CIDR = netip.PrefixFrom(ip, ip.BitLen())
		}
		for _, c := range r.g.network.Classes() {
			r.address(e, c, peer)
		}
	}
}

func (r *reacher) address(e *Edge, c *network.Class, peer network.Peer) {
	possible, open := r.g.doubt(e), false
	for _, port := range e.Network.Ports {
		v := r.g.network.Connects(network.Peer{Class: c}, peer, network.Port{Protocol: network.TCP, Number: port})
		if v.Allowed {
			open = true
			break
		}
		if v.Unknown != "" {
			open, possible = true, v.Unknown
		}
	}
	if !open {
		return
	}
	for _, w := range r.of(c) {
		if e.Condition.ofPods() && !r.g.ofMatched(w)[e.index] {
			continue
		}
		b := &because{object: w.leader.ref, words: "its pods can connect to " + e.Network.Address}
		for _, to := range r.reached(w, e, match{container: -1}) {
			r.through(w.of(Pod), to, e, w.setting(-1), b, possible)
		}
	}
}
