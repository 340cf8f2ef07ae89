// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/network"
)

// end is one end of what is to be allowed: exactly one of a workload, a
// namespace, addresses, or anything.
type end struct {
	w         *workload
	namespace string // all pods of it
	block     netip.Prefix
	except    []netip.Prefix
	anything  bool
}

func (e end) String() string {
	switch {
	case e.w != nil:
		return e.w.String()
	case e.namespace != "":
		return "any pod of " + e.namespace
	case e.block.IsValid() && e.block.IsSingleIP():
		return e.block.Addr().String()
	case len(e.except) > 0 && e.block.Addr().Is6():
		return "the internet (IPv6)"
	case len(e.except) > 0:
		return "the internet"
	case e.block.IsValid():
		return e.block.String()
	}
	return "anything"
}

// Origin is what speaks for allowing a connection.
type Origin string

// The origins. What is suggested or guessed is left out where only what is sure
// is wanted.
const (
	Recorded  Origin = "recorded"
	Declared  Origin = "declared"
	Suggested Origin = "suggested"
	Guessed   Origin = "guessed"
)

// Why is a reason to allow a connection.
type Why struct {
	Origin Origin `json:"origin"`
	Words  string `json:"words"`
}

// edge is a connection that is to be allowed.
type edge struct {
	from, to end
	port     network.Port
	why      []Why
	// wild says why an end is wider than what is known.
	wild string
}

func (e *edge) String() string { return fmt.Sprintf("%s → %s %s", e.from, e.to, e.port) }

func (e *edge) key() string { return e.String() }

// widen says why an end is wider than what is known.
func (e *edge) widen(reason string) {
	switch {
	case e.wild == "":
		e.wild = reason
	case !strings.Contains(e.wild, reason):
		e.wild += "; " + reason
	}
}

// has says whether one of the reasons is of an origin.
func (e *edge) has(o Origin) bool {
	return slices.ContainsFunc(e.why, func(w Why) bool { return w.Origin == o })
}

// edges collects what is to be allowed.
type edges struct {
	by map[string]*edge
}

func (s *edges) add(from, to end, port network.Port, origin Origin, format string, args ...any) *edge {
	port.Name = ""
	e := &edge{from: from, to: to, port: port}
	if s.by == nil {
		s.by = map[string]*edge{}
	}
	if known := s.by[e.key()]; known != nil {
		e = known
	} else {
		s.by[e.key()] = e
	}
	if w := (Why{origin, fmt.Sprintf(format, args...)}); !slices.Contains(e.why, w) {
		e.why = append(e.why, w)
	}
	return e
}

func (s *edges) all() []*edge {
	out := make([]*edge, 0, len(s.by))
	for _, k := range slices.Sorted(maps.Keys(s.by)) {
		out = append(out, s.by[k])
	}
	return out
}

var (
	allIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	allIPv6 = netip.MustParsePrefix("::/0")
	// private are addresses that are not of the internet, and that pods, nodes
	// and metadata services have.
	private = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	}
	privateIPv6 = []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")}
)

// internet is all addresses but private ones.
func internet(six bool) end {
	if six {
		return end{block: allIPv6, except: privateIPv6}
	}
	return end{block: allIPv4, except: private}
}

func isPublic(p netip.Prefix) bool {
	within := func(q netip.Prefix) bool { return q.Overlaps(p) }
	return !slices.ContainsFunc(private, within) && !slices.ContainsFunc(privateIPv6, within)
}

// recorded adds what recordings tell.
func (g *generator) recorded(flows *Flows) {
	if flows == nil {
		return
	}
	for _, f := range flows.Allowed() {
		if f.From.Node {
			g.fromNodes += f.Count
			continue
		}
		from, ok := g.endOf(&f.From)
		to, fine := g.reached(f)
		if !ok || !fine {
			g.result.Strangers = append(g.result.Strangers, f)
			continue
		}
		for _, t := range to {
			g.record(f, from, t)
		}
	}
	g.widen(true)
	g.widen(false)
}

// record adds a connection that was recorded.
func (g *generator) record(f *Flow, from end, to place) {
	if from.w == nil && to.w == nil {
		return // no pod of the cluster has a part in it
	}
	e := g.edges.add(from, to.end, to.port, Recorded, "recorded %s%s", times(f.Count), last(f))
	if from.w == nil && f.From.anywhere() || to.w == nil && f.To.anywhere() {
		e.widen("the recording does not tell the address")
	}
}

func last(f *Flow) string {
	if f.Last.IsZero() {
		return ""
	}
	return ", last on " + f.Last.UTC().Format("2006-01-02")
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// endOf returns what an endpoint of a recording is; ok is false where that is a
// pod that is not among the objects.
func (g *generator) endOf(e *Endpoint) (end, bool) {
	switch {
	case e.Address.IsValid():
		return end{block: e.Address}, true
	case e.Node:
		return end{block: allIPv4}, true
	case e.Outside:
		return internet(false), true
	}
	w := g.old.find(e)
	return end{w: w}, w != nil
}

// place is where a connection leads.
type place struct {
	end
	port network.Port
}

// reached returns where a flow leads: where a recording tells the address of a
// Service, to all that stands behind it. It is not ok where that is a pod that is
// not among the objects.
func (g *generator) reached(f *Flow) (out []place, ok bool) {
	to, ok := g.endOf(&f.To)
	out = []place{{to, f.Port}}
	if !f.To.Address.IsValid() || !f.To.Address.IsSingleIP() {
		return out, ok
	}
	s, ok := g.old.byAddress[f.To.Address.Addr()]
	if !ok {
		return out, true
	}
	if targets := g.old.targets(s[0], s[1], f.Port.Number); len(targets) > 0 {
		out = out[:0]
		for _, t := range targets {
			out = append(out, place{end{w: t.w}, t.port})
		}
		return out, true
	}
	// Its own address stays: some plugins decide before it is translated.
	servers := g.old.servers()
	if s != apiService || len(servers) == 0 {
		g.proof().doubt("%s: the Service %s/%s selects no pods, and where it leads is not known", f, s[0], s[1])
		return out, true
	}
	for _, a := range servers {
		out = append(out, place{end{block: netip.PrefixFrom(a.Addr(), a.Addr().BitLen())}, network.Port{Protocol: network.TCP, Number: int32(a.Port())}})
	}
	return out, true
}

// apiService is the Service of the API server.
var apiService = [2]string{"default", "kubernetes"}

// servers are the endpoints of the API server, where these are known.
func (c *cluster) servers() []netip.AddrPort {
	var out []netip.AddrPort
	for _, d := range c.declarations {
		out = append(out, d.endpoints...)
	}
	return out
}

// maxAddresses is how many addresses of the internet a workload's rule lists for
// a port.
const maxAddresses = 16

// widen replaces many addresses of the internet by all of them, where that is
// allowed today.
func (g *generator) widen(egress bool) {
	type place struct {
		w    *workload
		port network.Port
		six  bool
	}
	by := map[place][]*edge{}
	for _, e := range g.edges.all() {
		inner, outer := e.to, e.from
		if egress {
			inner, outer = e.from, e.to
		}
		if inner.w != nil && outer.block.IsValid() && len(outer.except) == 0 && isPublic(outer.block) {
			p := place{inner.w, e.port, outer.block.Addr().Is6()}
			by[p] = append(by[p], e)
		}
	}
	places := slices.SortedFunc(maps.Keys(by), func(a, b place) int {
		return cmp.Or(strings.Compare(a.w.String(), b.w.String()), strings.Compare(a.port.String(), b.port.String()))
	})
	for _, p := range places {
		if len(by[p]) <= maxAddresses {
			continue
		}
		wide := &edge{from: internet(p.six), to: end{w: p.w}, port: p.port}
		if egress {
			wide.from, wide.to = wide.to, wide.from
		}
		if g.permitted(wide).allowed != yes {
			continue
		}
		e := g.edges.add(wide.from, wide.to, p.port, Recorded, "recorded with %d addresses", len(by[p]))
		e.widen(fmt.Sprintf("%d addresses were recorded, and at most %d are listed", len(by[p]), maxAddresses))
		for _, narrow := range by[p] {
			delete(g.edges.by, narrow.key())
		}
	}
}
