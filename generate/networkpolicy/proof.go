// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// Proof is what was checked of the policies, by the exact model of the network:
// once as it is, and once with them.
type Proof struct {
	// Connections were each found allowed with the policies.
	Connections int `json:"connections"`
	// Pairs of workloads, and of a workload and addresses, were found to be
	// allowed no port that they are not today.
	Pairs int `json:"pairs"`
	// Ports that Services declare were found to be reached by something.
	Ports int `json:"ports"`
	// Failures are what does not hold, Unknown what could not be decided.
	Failures []string `json:"failures,omitempty"`
	Unknown  []string `json:"unknown,omitempty"`
}

// Holds says that all was checked and found true.
func (p *Proof) Holds() bool { return len(p.Failures) == 0 }

func (p *Proof) fail(format string, args ...any) {
	p.Failures = append(p.Failures, fmt.Sprintf(format, args...))
}

func (p *Proof) doubt(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(p.Unknown, line) {
		p.Unknown = append(p.Unknown, line)
	}
}

// prover compares the cluster with the policies to that of today.
type prover struct {
	g     *generator
	proof *Proof
	fresh *cluster
	// before are the classes of today by the objects that hold their pods.
	before map[object.Ref][]*network.Class
	same   map[*network.Class][]*network.Class
}

// prove checks the policies.
func (g *generator) prove() error {
	kept, err := g.with()
	if err != nil {
		return fmt.Errorf("proving the policies: %w", err)
	}
	env := g.env
	p := &prover{g: g, proof: g.proof(), fresh: newCluster(network.NewModel(kept, &env), g.old.declarations), before: map[object.Ref][]*network.Class{}, same: map[*network.Class][]*network.Class{}}
	for _, c := range g.old.model.Classes() {
		for _, r := range c.Refs {
			p.before[r] = append(p.before[r], c)
		}
	}
	p.connections()
	p.within()
	p.addresses()
	p.ports()
	return nil
}

// with returns what there is with the policies.
func (g *generator) with() ([]any, error) {
	made := map[object.Ref]bool{}
	namespaces := map[string]bool{}
	var out []any
	for _, p := range g.policies {
		o, err := asObject(p.doc, g.origin)
		if err != nil {
			return nil, err
		}
		made[o.Ref] = true
		namespaces[o.Namespace] = true
		out = append(out, network.Keep(o))
	}
	for _, k := range g.kept {
		policy := k.own != nil && k.own.policy && namespaces[k.ref.Namespace]
		switch {
		case k.network == nil, made[k.ref], policy && g.opts.Replace:
			continue
		case policy:
			g.result.Beside = append(g.result.Beside, k.ref.String())
		}
		out = append(out, k.network)
	}
	return out, nil
}

// connections checks that all that is to be allowed is.
func (p *prover) connections() {
	for _, e := range p.g.edges.all() {
		p.proof.Connections++
		for _, x := range []end{e.from, e.to} {
			if x.w != nil && p.fresh.by[x.w.String()] == nil {
				p.proof.fail("%s: with the new policies %s is not found", e, x)
			}
		}
		for _, from := range p.peers(e.from) {
			for _, to := range p.peers(e.to) {
				p.connection(e, from, to)
			}
		}
	}
}

func (p *prover) connection(e *edge, from, to network.Peer) {
	if from.Class != nil && to.Class != nil && p.fresh.model.Ports(from, to).Contains(e.port) {
		return
	}
	v := p.fresh.model.Connects(from, to, e.port)
	switch {
	case v.Allowed && !v.Partly:
	case v.Unknown != "":
		p.proof.doubt("%s: %s", e, v.Unknown)
	case !v.Egress.Allowed:
		p.proof.fail("%s: %s, and denied with the new policies: %s", e, e.why[0].Words, words(v.Egress))
	default:
		p.proof.fail("%s: %s, and denied with the new policies: %s", e, e.why[0].Words, words(v.Ingress))
	}
}

// peers are what an end of an edge stands for with the policies. Anything is
// anything that is to be let in: the pods that isolate themselves have edges of
// their own.
func (p *prover) peers(e end) []network.Peer {
	var out []network.Peer
	switch {
	case e.w != nil:
		if w := p.fresh.by[e.w.String()]; w != nil {
			for _, c := range w.classes {
				out = append(out, network.Peer{Class: c})
			}
		}
	case e.block.IsValid():
		for _, q := range subtract(e.block, e.except) {
			out = append(out, network.Peer{CIDR: q})
		}
	case e.anything:
		out = append(out, network.Peer{})
	}
	return out
}

// today returns the classes that pods were in before the policies.
func (p *prover) today(c *network.Class) []*network.Class {
	if out, ok := p.same[c]; ok {
		return out
	}
	var out []*network.Class
	for _, r := range c.Refs {
		for _, old := range p.before[r] {
			if !slices.Contains(out, old) && old.String() == c.String() {
				out = append(out, old)
			}
		}
	}
	p.same[c] = out
	return out
}

// within checks that no two workloads may connect where they may not today. Only
// pods that a new policy selects can have come to be treated otherwise.
func (p *prover) within() {
	classes := p.fresh.model.Classes()
	selectors := map[string][]map[string]string{}
	for _, made := range p.g.policies {
		o := made.doc.Object.(*networkingv1.NetworkPolicy)
		selectors[o.Namespace] = append(selectors[o.Namespace], o.Spec.PodSelector.MatchLabels)
	}
	touched, free := map[int]bool{}, 0
	for _, c := range classes {
		touched[c.ID] = !c.HostNetwork && slices.ContainsFunc(selectors[c.Namespace], func(s map[string]string) bool { return subset(s, c.Labels) })
		if !touched[c.ID] {
			free++
		}
	}
	p.proof.Pairs += len(classes)*len(classes) - free*free
	p.fresh.model.Possible(func(from, to []int, ports network.PortSet) {
		ours := slices.DeleteFunc(slices.Clone(to), func(id int) bool { return !touched[id] })
		for _, a := range from {
			others := ours
			if touched[a] {
				others = to
			}
			for _, b := range others {
				p.pair(p.fresh.model.Class(a), p.fresh.model.Class(b), ports)
			}
		}
	})
}

// pair checks that pods that may connect on ports with the policies may today.
func (p *prover) pair(from, to *network.Class, may network.PortSet) {
	for _, x := range p.today(from) {
		for _, y := range p.today(to) {
			a, b := network.Peer{Class: x}, network.Peer{Class: y}
			sureToday := p.g.old.model.Ports(a, b)
			if may.Minus(sureToday).Empty() {
				continue
			}
			sure := p.fresh.model.Ports(network.Peer{Class: from}, network.Peer{Class: to})
			p.compare(fmt.Sprintf("%s → %s", from, to), sure, may, sureToday, p.g.old.model.PossiblePorts(a, b))
		}
	}
}

// compare checks that what may be allowed with the policies may be today.
func (p *prover) compare(what string, sure, may, sureToday, mayToday network.PortSet) {
	if more := may.Minus(mayToday); !more.Empty() {
		p.proof.fail("%s: the new policies allow %s, which is not allowed today", what, more)
		return
	}
	if doubt := sure.Minus(sureToday); !doubt.Empty() {
		p.proof.doubt("%s: the new policies allow %s, and whether it is allowed today is not known", what, doubt)
	}
}

// addresses checks the same of addresses outside: one in each of the blocks that
// any policy tells apart, for workloads whose policies name addresses.
func (p *prover) addresses() {
	points := p.points()
	for _, in := range []bool{true, false} {
		named := map[string]bool{}
		for _, e := range p.g.edges.all() {
			inner, outer := e.from, e.to
			if in {
				inner, outer = e.to, e.from
			}
			if inner.w != nil && (outer.w == nil && outer.namespace == "" || outer.w != nil && outer.w.host) {
				named[inner.w.String()] = true
				for _, other := range inner.w.others {
					named[other] = true
				}
			}
		}
		for _, c := range p.fresh.model.Classes() {
			if named[c.String()] {
				p.outside(c, points, in)
			}
		}
	}
}

// points are addresses at which blocks begin and after which they end.
func (p *prover) points() []netip.Addr {
	var out []netip.Addr
	add := func(q netip.Prefix) {
		out = append(out, q.Addr())
		if after := lastOf(q).Next(); after.IsValid() {
			out = append(out, after)
		}
	}
	for _, d := range p.g.old.declarations {
		for _, q := range d.prefixes {
			add(q)
		}
	}
	for _, e := range p.g.edges.all() {
		for _, x := range []end{e.from, e.to} {
			if x.block.IsValid() {
				add(x.block)
				for _, q := range x.except {
					add(q)
				}
			}
		}
	}
	add(allIPv4)
	out = append(out, netip.MustParseAddr("1.0.0.1"))
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (p *prover) outside(c *network.Class, points []netip.Addr, in bool) {
	for _, a := range points {
		p.proof.Pairs++
		outside := network.Peer{CIDR: netip.PrefixFrom(a, a.BitLen())}
		ask := func(m *network.Model, c *network.Class) (network.PortSet, network.PortSet) {
			from, to := network.Peer{Class: c}, outside
			if in {
				from, to = to, from
			}
			return m.Ports(from, to), m.PossiblePorts(from, to)
		}
		sure, may := ask(p.fresh.model, c)
		what := fmt.Sprintf("%s → %s", c, a)
		if in {
			what = fmt.Sprintf("%s → %s", a, c)
		}
		for _, today := range p.today(c) {
			sureToday, mayToday := ask(p.g.old.model, today)
			p.compare(what, sure, may, sureToday, mayToday)
		}
	}
}

// ports checks that each port that a Service declares is reached by something.
func (p *prover) ports() {
	reached := map[target]bool{}
	for _, e := range p.g.edges.all() {
		if e.to.w != nil {
			reached[target{e.to.w, e.port}] = true
		}
	}
	for _, d := range p.g.old.declarations {
		if d.service == nil {
			continue
		}
		for _, t := range p.g.old.targets(d.ref.Namespace, d.ref.Name, 0) {
			t.port.Name = ""
			said := slices.ContainsFunc(p.g.result.Closed, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("%s %s,", t.w, t.port)) })
			switch {
			case !t.w.managed || said:
			case reached[t], p.reached(p.fresh, t):
				p.proof.Ports++
			case p.reached(p.g.old, t):
				p.proof.fail("%s %s: %s leads there, and with the new policies nothing reaches it", t.w, t.port, d.ref)
			default:
				p.g.result.Closed = append(p.g.result.Closed, fmt.Sprintf("%s %s, of %s: nothing reaches it today either", t.w, t.port, d.ref))
			}
		}
	}
}

// reached says whether anything but the pods themselves may reach a port.
func (p *prover) reached(in *cluster, t target) bool {
	w := in.by[t.w.String()]
	if w == nil {
		return false
	}
	for _, to := range w.classes {
		if in.model.Ports(network.Peer{}, network.Peer{Class: to}).Contains(t.port) {
			return true
		}
		for _, from := range in.model.Classes() {
			if in.of[from] != w && in.model.Ports(network.Peer{Class: from}, network.Peer{Class: to}).Contains(t.port) {
				return true
			}
		}
	}
	return false
}
