// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"sconce.dev/sconce/facts/network"
)

// gates are on which ports each workload surely is open to the outside, or
// reaches it, and on which it may.
type gates struct{ sure, may map[uint32]network.PortSet }

// opened are the ports of a workload that are surely open, and were not.
func (g *gates) opened(then *gates, w uint32) network.PortSet { return g.sure[w].Minus(then.may[w]) }

// unclear are those that may be open, and were not, and those that are open, and
// of which it is not known whether they were.
func (g *gates) unclear(then *gates, w uint32) network.PortSet {
	may, was := g.may[w].Minus(g.sure[w]).Minus(then.may[w]), g.sure[w].Minus(then.sure[w])
	return may.Union(was.Minus(g.opened(then, w)))
}

// gates returns on which ports workloads are open to what is outside, or reach it.
func (u *universe) gates(m *network.Model, in bool, outside network.Peer) *gates {
	out := &gates{map[uint32]network.PortSet{}, map[uint32]network.PortSet{}}
	for _, c := range m.Classes() {
		a, b := network.Peer{Class: c}, outside
		if in {
			a, b = b, a
		}
		w := u.number[workloadName(c)]
		out.sure[w] = out.sure[w].Union(m.Ports(a, b))
		out.may[w] = out.may[w].Union(m.PossiblePorts(a, b))
	}
	return out
}

// region is addresses outside of which all policies decide alike: those of a
// block that are in no smaller one that a policy names.
type region struct {
	block string // empty for those that are in none
	peer  network.Peer
}

// maxRegions is how many regions are compared one by one; of more, only whether
// anything outside is reached.
const maxRegions = 64

// otherAddresses are those that are in no block that a policy names.
const otherAddresses = "other addresses"

// regions returns an address of each part of the outside that policies of either
// side tell apart; of everything where they tell none apart.
func regions(models ...*network.Model) []region {
	var blocks []netip.Prefix
	for _, m := range models {
		blocks = append(blocks, m.Blocks()...)
	}
	points := map[netip.Addr]bool{}
	if len(blocks) > 0 {
		points[netip.AddrFrom4([4]byte{1, 0, 0, 1})] = true
	}
	for _, b := range blocks {
		points[b.Addr()] = true
		if after := lastOf(b).Next(); after.IsValid() {
			points[after] = true
		}
	}
	delete(points, netip.IPv4Unspecified()) // nothing has these
	delete(points, netip.IPv6Unspecified())
	if len(points) == 0 || len(points) > maxRegions {
		return []region{{}} // compareConnections tells that they are too many
	}
	var out []region
	for _, a := range slices.SortedFunc(maps.Keys(points), netip.Addr.Compare) {
		r := region{otherAddresses, network.Peer{CIDR: netip.PrefixFrom(a, a.BitLen())}}
		best := -1
		for _, b := range blocks {
			if b.Contains(a) && b.Bits() > best {
				r.block, best = b.String(), b.Bits()
			}
		}
		out = append(out, r)
	}
	return out
}

// manyBlocks is what is not known where policies name more blocks than are
// compared one by one; nothing where they do not.
func manyBlocks(models ...*network.Model) []string {
	for _, m := range models {
		if len(m.Blocks()) > 0 && len(regions(models...)) == 1 {
			return []string{"policies name too many blocks of addresses for each to be compared: what changes between them is not told"}
		}
	}
	return nil
}

// lastOf is the last address of a block.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// outside returns the workloads that reach the outside of the cluster, or are
// open to it, on ports on which they were not, by what is the difference of two
// sides.
func (u *universe) outside(had, has *network.Model, of func(now, then *gates, w uint32) network.PortSet, why string) []Connection {
	out := []Connection{}
	all := regions(had, has)
	for _, in := range []bool{false, true} {
		found := outsides{}
		for _, r := range all {
			then, now := u.gates(had, in, r.peer), u.gates(has, in, r.peer)
			for it := u.common.Iterator(); it.HasNext(); {
				w := it.Next()
				found.add(w, of(now, then, w), r.block)
			}
		}
		for _, b := range found.joined() {
			c := Connection{From: u.group(b.from), To: Group{Outside: true}, Ports: b.ports, Pairs: int(b.from.GetCardinality()), Why: why} //nolint:gosec // a cluster has fewer pods than that
			if b.blocks != allBlocks(all) {
				c.To.Blocks = strings.Split(b.blocks, ", ")
			}
			if in {
				c.From, c.To = c.To, c.From
			}
			out = append(out, c)
		}
	}
	return out
}

// outsides are the blocks with which each workload talks on some ports.
type outsides map[outsideKey]*outsideBlocks

type outsideKey struct {
	workload uint32
	ports    string
}

type outsideBlocks struct {
	ports  network.PortSet
	blocks []string
}

func (o outsides) add(w uint32, ports network.PortSet, block string) {
	if ports.Empty() {
		return
	}
	k := outsideKey{w, ports.String()}
	if o[k] == nil {
		o[k] = &outsideBlocks{ports: ports}
	}
	o[k].blocks = append(o[k].blocks, block)
}

// outsideSet is workloads that talk with the same blocks on the same ports.
type outsideSet struct {
	from   *roaring.Bitmap
	ports  network.PortSet
	blocks string
}

func (o outsides) joined() []*outsideSet {
	sets := map[string]*outsideSet{}
	for k, v := range o {
		blocks := distinct(v.blocks)
		key := k.ports + "\x00" + blocks
		if sets[key] == nil {
			sets[key] = &outsideSet{roaring.New(), v.ports, blocks}
		}
		sets[key].from.Add(k.workload)
	}
	var out []*outsideSet
	for _, key := range slices.Sorted(maps.Keys(sets)) {
		out = append(out, sets[key])
	}
	return out
}

// distinct joins blocks, each once.
func distinct(blocks []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(blocks))), ", ")
}

func allBlocks(all []region) string {
	var out []string
	for _, r := range all {
		out = append(out, r.block)
	}
	return distinct(out)
}

// withOutside adds the outside to what a workload reaches, or is reached by.
func withOutside(list []ToGroup, ports network.PortSet) []ToGroup {
	if ports.Empty() {
		return list
	}
	return append(list, ToGroup{Group{Outside: true}, ports})
}

// outside names what of the outside is meant.
func (g *Group) outside() string {
	if len(g.Blocks) == 0 {
		return "anywhere outside the cluster"
	}
	return some(g.Blocks, maxNames) + " outside the cluster"
}
