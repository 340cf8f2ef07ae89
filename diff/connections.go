// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// Connections are what can talk to what on one side and not on the other.
// Workloads are the same by their namespace, kind and name; between those that
// only one side has nothing is compared, and they are listed apart.
type Connections struct {
	Opened []Connection `json:"opened"`
	Closed []Connection `json:"closed"`
	// Unclear may be open or closed: something of it is not known on one side.
	Unclear []Connection `json:"unclear"`
	// Added and Removed are workloads of one side.
	Added   []Workload `json:"added"`
	Removed []Workload `json:"removed"`
	// Exposed and Covered are ways in from outside that are new and gone.
	Exposed []Exposure `json:"exposed"`
	Covered []Exposure `json:"covered"`
	// Limits are what the models do not know as a whole.
	Limits []string `json:"limits,omitempty"`
}

// Connection is ports on which all workloads of a set reach all of another.
type Connection struct {
	From  Group           `json:"from"`
	To    Group           `json:"to"`
	Ports network.PortSet `json:"ports"`
	// Pairs counts them.
	Pairs int `json:"pairs"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
}

// Group is a set of workloads: everything, all of some namespaces, and single
// ones.
type Group struct {
	// Everything is every workload that both sides have; Outside is anywhere
	// outside the cluster.
	Everything bool `json:"everything,omitempty"`
	Outside    bool `json:"outside,omitempty"`
	// Blocks are those of the addresses outside that are meant, each without those
	// in it that policies name, too; none stands for all addresses.
	Blocks     []string `json:"blocks,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
	Workloads  []string `json:"workloads,omitempty"`
}

// Workload is one that only one side has.
type Workload struct {
	Name      string       `json:"name"`
	Reaches   []ToGroup    `json:"reaches,omitempty"`
	ReachedBy []ToGroup    `json:"reachedBy,omitempty"`
	Refs      []object.Ref `json:"refs,omitempty"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
}

// ToGroup is ports on which a workload reaches a set, or is reached by it.
type ToGroup struct {
	Group
	Ports network.PortSet `json:"ports"`
}

// Exposure is a way in from outside.
type Exposure struct {
	Workload string       `json:"workload"`
	Port     network.Port `json:"port"`
	Way      network.Way  `json:"way"`
	Outside  int32        `json:"outside,omitempty"`
	Host     string       `json:"host,omitempty"`
	Sources  []string     `json:"sources,omitempty"`
	Via      []object.Ref `json:"via,omitempty"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
}

// reach is who reaches whom on one side. Workloads have numbers that are the
// same on both sides. Rows are kept once: most workloads reach the same.
type reach struct {
	rows []row
	of   []int // the row of each workload, by its number
}

// row is what a workload reaches: sets of workloads by ports.
type row []cells

type cells struct {
	ports network.PortSet
	to    *roaring.Bitmap
}

// universe numbers the workloads of both sides.
type universe struct {
	names  []string
	number map[string]uint32
	common *roaring.Bitmap
	// spaces are the workloads of a namespace that both sides have.
	spaces map[string]*roaring.Bitmap
}

// workloadName names a workload on either side.
func workloadName(c *network.Class) string { return c.String() }

func newUniverse(from, to *network.Model) *universe {
	u := &universe{number: map[string]uint32{}, spaces: map[string]*roaring.Bitmap{}}
	sides := [2]map[string]string{{}, {}} // namespaces by names
	for i, m := range []*network.Model{from, to} {
		for _, c := range m.Classes() {
			sides[i][workloadName(c)] = c.Namespace
		}
	}
	all := maps.Clone(sides[0])
	maps.Copy(all, sides[1])
	u.names = slices.Sorted(maps.Keys(all))
	u.common = roaring.New()
	for i, name := range u.names {
		n := uint32(i) //nolint:gosec // a cluster has fewer pods than that
		u.number[name] = n
		_, then := sides[0][name]
		_, now := sides[1][name]
		if !then || !now {
			continue
		}
		u.common.Add(n)
		ns := all[name]
		if u.spaces[ns] == nil {
			u.spaces[ns] = roaring.New()
		}
		u.spaces[ns].Add(n)
	}
	return u
}

// reach interns what bicliques say.
func (u *universe) reach(m *network.Model, bicliques func(func(from, to []int, ports network.PortSet))) *reach {
	var rects []cells
	in := make([][]uint32, len(u.names)) // the bicliques that a workload is a source of
	classes := map[int]uint32{}
	for _, c := range m.Classes() {
		classes[c.ID] = u.number[workloadName(c)]
	}
	bicliques(func(from, to []int, ports network.PortSet) {
		set := roaring.New()
		for _, id := range to {
			set.Add(classes[id])
		}
		n := uint32(len(rects)) //nolint:gosec // likewise
		rects = append(rects, cells{ports, set})
		for _, id := range from {
			w := classes[id]
			if k := len(in[w]); k == 0 || in[w][k-1] != n {
				in[w] = append(in[w], n)
			}
		}
	})
	return intern(rects, in)
}

// intern makes rows of bicliques, each once.
func intern(rects []cells, in [][]uint32) *reach {
	r := &reach{of: make([]int, len(in))}
	known := map[string]int{}
	var key []byte
	for w, list := range in {
		key = key[:0]
		for _, n := range list {
			key = append(key, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		}
		i, ok := known[string(key)]
		if !ok {
			i = len(r.rows)
			known[string(key)] = i
			r.rows = append(r.rows, merged(rects, list))
		}
		r.of[w] = i
	}
	return r
}

// merged says of each workload that is reached once on which ports: cells share
// none, and have different ports.
func merged(rects []cells, list []uint32) row {
	var out row
	for _, n := range list {
		out = out.with(rects[n])
	}
	return out
}

// with adds a cell.
func (r row) with(c cells) row {
	rest := c.to.Clone()
	var out row
	for _, x := range r {
		both := roaring.And(x.to, c.to)
		rest.AndNot(both)
		out = out.put(cells{x.ports, roaring.AndNot(x.to, both)})
		out = out.put(cells{x.ports.Union(c.ports), both})
	}
	return out.put(cells{c.ports, rest})
}

// put adds a cell that shares no workload with others.
func (r row) put(c cells) row {
	if c.to.IsEmpty() {
		return r
	}
	if i := slices.IndexFunc(r, func(x cells) bool { return x.ports.Equal(c.ports) }); i >= 0 {
		r[i].to.Or(c.to)
		return r
	}
	return append(r, c)
}

// minus returns what a row reaches beyond another, among some workloads.
func (r row) minus(o row, among *roaring.Bitmap) row {
	var rest row
	for _, c := range r {
		rest = append(rest, cells{c.ports, roaring.And(c.to, among)})
	}
	for _, c := range o {
		var next row
		for _, x := range rest {
			both := roaring.And(x.to, c.to)
			if both.IsEmpty() || !x.ports.Intersects(c.ports) {
				next = append(next, x)
				continue
			}
			if outside := roaring.AndNot(x.to, both); !outside.IsEmpty() {
				next = append(next, cells{x.ports, outside})
			}
			if ports := x.ports.Minus(c.ports); !ports.Empty() {
				next = append(next, cells{ports, both})
			}
		}
		rest = next
	}
	return slices.DeleteFunc(rest, func(c cells) bool { return c.to.IsEmpty() })
}

// block is workloads that all reach the same beyond what they reached.
type block struct {
	from *roaring.Bitmap
	cells
}

// beyond returns what the workloads that both sides have reach on one side and
// not on the other: pairs of rows are compared once, however many have them.
func (u *universe) beyond(has, had *reach) []block {
	type rows struct{ has, had int }
	sources := map[rows]*roaring.Bitmap{}
	var order []rows
	for it := u.common.Iterator(); it.HasNext(); {
		w := it.Next()
		k := rows{has.of[w], had.of[w]}
		if sources[k] == nil {
			sources[k] = roaring.New()
			order = append(order, k)
		}
		sources[k].Add(w)
	}
	byCells := map[string]*block{}
	var out []*block
	for _, k := range order {
		for _, c := range has.rows[k.has].minus(had.rows[k.had], u.common) {
			key := cellsKey(c)
			if b := byCells[key]; b != nil {
				b.from.Or(sources[k])
				continue
			}
			b := &block{sources[k].Clone(), c}
			byCells[key] = b
			out = append(out, b)
		}
	}
	return joined(out)
}

func cellsKey(c cells) string {
	bytes, _ := c.to.ToBytes()
	return c.ports.String() + "\x00" + string(bytes)
}

// joined joins blocks of the same sources and ports, and then those of the same
// targets and sources.
func joined(blocks []*block) []block {
	first := map[string]int{}
	var out []block
	for _, b := range blocks {
		key := cellsKey(cells{b.ports, b.from})
		if i, ok := first[key]; ok {
			out[i].to.Or(b.to)
			continue
		}
		first[key] = len(out)
		out = append(out, block{b.from, cells{b.ports, b.to.Clone()}})
	}
	first = map[string]int{}
	var last []block
	for _, b := range out {
		from, _ := b.from.ToBytes()
		to, _ := b.to.ToBytes()
		key := string(from) + "\x00" + string(to)
		if i, ok := first[key]; ok {
			last[i].ports = last[i].ports.Union(b.ports)
			continue
		}
		first[key] = len(last)
		last = append(last, b)
	}
	return last
}

// group names a set of workloads in few words.
func (u *universe) group(set *roaring.Bitmap) Group {
	if set.GetCardinality() > 1 && u.common.AndCardinality(set) == u.common.GetCardinality() {
		return Group{Everything: true}
	}
	g := Group{}
	rest := set.Clone()
	for _, ns := range slices.Sorted(maps.Keys(u.spaces)) {
		all := u.spaces[ns]
		if n := all.GetCardinality(); n > 1 && all.AndCardinality(set) == n {
			g.Namespaces = append(g.Namespaces, ns)
			rest.AndNot(all)
		}
	}
	for it := rest.Iterator(); it.HasNext(); {
		g.Workloads = append(g.Workloads, u.names[it.Next()])
	}
	return g
}

// policyKind says whether the absence of objects of a kind makes a network more
// open, or other, than it is.
func policyKind(gk object.GroupKind) bool {
	switch gk.Group {
	case "networking.k8s.io":
		return gk.Kind == "NetworkPolicy"
	case "policy.networking.k8s.io":
		return true
	}
	return gk == object.GroupKind{Kind: "Namespace"}
}

// compareConnections compares what can talk to what.
func compareConnections(from, to *network.Model, lost, added *unread) *Connections {
	u := newUniverse(from, to)
	then, now := u.reach(from, from.Bicliques), u.reach(to, to.Bicliques)
	mayThen, mayNow := u.reach(from, from.Possible), u.reach(to, to.Possible)
	out := &Connections{Limits: limits(from, to), Opened: []Connection{}, Closed: []Connection{}, Unclear: []Connection{}}
	hiddenNow, hiddenThen := lost.hides(policyKind), added.hides(policyKind)
	opened := append(u.connections(u.beyond(now, mayThen), hiddenNow), u.outside(from, to, (*gates).opened, hiddenNow)...)
	closed := append(u.connections(u.beyond(then, mayNow), hiddenThen), u.outside(to, from, (*gates).opened, hiddenThen)...)
	for i, list := range [][]Connection{opened, closed} {
		for _, c := range list {
			switch {
			case c.Why != "":
				out.Unclear = append(out.Unclear, c)
			case i == 0:
				out.Opened = append(out.Opened, c)
			default:
				out.Closed = append(out.Closed, c)
			}
		}
	}
	const opens, closes = "it may be open now: not all that decides it is known", "it may have been open: not all that decided it is known"
	out.Unclear = append(out.Unclear, u.connections(u.unclear(mayNow, mayThen, now), opens)...)
	out.Unclear = append(out.Unclear, u.outside(from, to, (*gates).unclear, "it may be new: not all that decides it is known")...)
	out.Unclear = append(out.Unclear, u.connections(u.unclear(mayThen, mayNow, then), closes)...)
	out.Unclear = append(out.Unclear, u.outside(to, from, (*gates).unclear, "it may be gone: not all that decides it is known")...)
	out.Added, out.Removed = u.workloads(from, to, lost, added)
	out.Exposed = exposures(to, from, added)
	out.Covered = exposures(from, to, lost)
	return out
}

// unclear returns what is possible on a side and not on the other, and not sure
// on the side.
func (u *universe) unclear(may, mayNot, sure *reach) []block {
	var out []*block
	for _, b := range u.beyond(may, mayNot) {
		rows := map[int]*roaring.Bitmap{}
		for it := b.from.Iterator(); it.HasNext(); {
			w := it.Next()
			if rows[sure.of[w]] == nil {
				rows[sure.of[w]] = roaring.New()
			}
			rows[sure.of[w]].Add(w)
		}
		for _, i := range slices.Sorted(maps.Keys(rows)) {
			for _, c := range (row{b.cells}).minus(sure.rows[i], u.common) {
				out = append(out, &block{rows[i], c})
			}
		}
	}
	return joined(out)
}

func (u *universe) connections(blocks []block, why string) []Connection {
	out := []Connection{}
	for _, b := range blocks {
		out = append(out, Connection{
			From: u.group(b.from), To: u.group(b.to), Ports: b.ports, Why: why,
			Pairs: int(b.from.GetCardinality() * b.to.GetCardinality()), //nolint:gosec // likewise
		})
	}
	slices.SortFunc(out, func(a, b Connection) int {
		return cmp.Or(-cmp.Compare(a.Pairs, b.Pairs), cmp.Compare(a.From.String(), b.From.String()), cmp.Compare(a.To.String(), b.To.String()), cmp.Compare(a.Ports.String(), b.Ports.String()))
	})
	return out
}

// String names the group in full.
func (g Group) String() string {
	var parts []string
	if g.Outside {
		parts = append(parts, g.outside())
	}
	if g.Everything {
		parts = append(parts, "everything")
	}
	for _, ns := range g.Namespaces {
		if ns == "" {
			ns = "that is not said"
		}
		parts = append(parts, "everything in namespace "+ns)
	}
	return strings.Join(append(parts, g.Workloads...), ", ")
}

func limits(from, to *network.Model) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(from.Limits(), to.Limits(), manyBlocks(from, to)))))
}

// workloads returns those that only one side has, with what they reach.
func (u *universe) workloads(from, to *network.Model, lost, added *unread) (fresh, gone []Workload) {
	return u.only(to, from, added), u.only(from, to, lost)
}

// only returns the workloads of a side that the other does not have.
func (u *universe) only(has, had *network.Model, missing *unread) []Workload {
	then := map[string]bool{}
	for _, c := range had.Classes() {
		then[workloadName(c)] = true
	}
	out := []Workload{}
	index := map[uint32]int{}
	for _, c := range has.Classes() {
		name := workloadName(c)
		if then[name] {
			continue
		}
		n := u.number[name]
		i, ok := index[n]
		if !ok {
			i = len(out)
			index[n] = i
			out = append(out, Workload{Name: name})
		}
		w := &out[i]
		w.Refs = append(w.Refs, c.Refs...)
		w.Why = cmp.Or(w.Why, c.Unknown)
		for _, ref := range c.Refs {
			w.Why = cmp.Or(w.Why, missing.why(ref))
		}
	}
	if len(out) > 0 {
		u.neighbours(has, out, index)
	}
	slices.SortFunc(out, func(a, b Workload) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// neighbours fills in what the workloads reach, and by what they are reached.
func (u *universe) neighbours(m *network.Model, out []Workload, index map[uint32]int) {
	everything := roaring.New()
	classes := map[int]uint32{}
	for _, c := range m.Classes() {
		classes[c.ID] = u.number[workloadName(c)]
		everything.Add(classes[c.ID])
	}
	reaches, reachedBy := make([]row, len(out)), make([]row, len(out))
	m.Bicliques(func(from, to []int, ports network.PortSet) {
		sources, targets := roaring.New(), roaring.New()
		for _, id := range from {
			sources.Add(classes[id])
		}
		for _, id := range to {
			targets.Add(classes[id])
		}
		for n, i := range index {
			if sources.Contains(n) {
				reaches[i] = reaches[i].with(cells{ports, targets})
			}
			if targets.Contains(n) {
				reachedBy[i] = reachedBy[i].with(cells{ports, sources})
			}
		}
	})
	leaves, enters := u.gates(m, false, network.Peer{}), u.gates(m, true, network.Peer{})
	for n, i := range index {
		out[i].Reaches = withOutside(u.toGroups(reaches[i], everything, n), leaves.sure[n])
		out[i].ReachedBy = withOutside(u.toGroups(reachedBy[i], everything, n), enters.sure[n])
	}
}

// toGroups names what a row holds beside the workload itself.
func (u *universe) toGroups(r row, everything *roaring.Bitmap, self uint32) []ToGroup {
	var out []ToGroup
	for _, c := range r {
		others := c.to.Clone()
		others.Remove(self)
		if others.IsEmpty() {
			continue
		}
		g := ToGroup{Group: u.group(others), Ports: c.ports}
		if others.GetCardinality()+1 >= everything.GetCardinality() {
			g.Group = Group{Everything: true}
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b ToGroup) int {
		return cmp.Or(cmp.Compare(a.Group.String(), b.Group.String()), cmp.Compare(a.Ports.String(), b.Ports.String()))
	})
	return out
}

// exposures returns the ways in that a side has and the other has not. What is
// missing on a side may be in what could not be read of it.
func exposures(has, had *network.Model, missing *unread) []Exposure {
	then := map[string]bool{}
	for _, e := range had.Exposures() {
		if e.Allowed || e.Unknown != "" {
			then[exposureOf(&e).key()] = true
		}
	}
	out := []Exposure{}
	told := map[string]bool{}
	for _, e := range has.Exposures() {
		x := exposureOf(&e)
		if !e.Allowed && e.Unknown == "" || then[x.key()] || told[x.key()] {
			continue
		}
		told[x.key()] = true
		x.Why = e.Unknown
		for _, ref := range slices.Concat(e.Via, e.Class.Refs) {
			x.Why = cmp.Or(x.Why, missing.why(ref))
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Exposure) int { return cmp.Compare(a.key(), b.key()) })
	return out
}

func exposureOf(e *network.Exposure) Exposure {
	return Exposure{Workload: workloadName(e.Class), Port: e.Port, Way: e.Way, Outside: e.Outside, Host: e.Host, Sources: e.Sources, Via: e.Via}
}

// key is the same for the same way in. By which objects it leads is not part of
// it: a Service that is renamed exposes nothing more.
func (e Exposure) key() string {
	return strings.Join([]string{e.Workload, e.Port.String(), string(e.Way), strconv.Itoa(int(e.Outside)), e.Host, strings.Join(e.Sources, ",")}, "\x00")
}
