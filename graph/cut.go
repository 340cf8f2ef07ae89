// SPDX-License-Identifier: Apache-2.0

package graph

// Uncuttable is the capacity of a vertex that cannot be taken away.
const Uncuttable = int32(1 << 28)

// Cut returns vertices of the least capacity altogether without which nothing
// leads from one of some vertices to one of others, and that capacity. Of
// several such sets it is the one nearest to the targets. Where a way leads
// through uncuttable vertices alone there is none: the second result is false,
// and Open returns such a way.
//
// capacity tells of each vertex how hard it is to take away; what is not
// positive counts as Uncuttable. Vertices of from and to can be cut like others.
func (g *Graph) Cut(from, to []int32, capacity func(v int32) int32) (vertices []int32, total int, ok bool) {
	near := g.between(from, to)
	f := newFlow(g, near, from, to, capacity)
	for f.level() {
		copy(f.next, f.first)
		for {
			sent := f.send(f.source, Uncuttable)
			if sent == 0 {
				break
			}
			if total += int(sent); total >= int(Uncuttable) {
				return nil, 0, false
			}
		}
	}
	return f.nearest(), total, true
}

// Open returns the lightest way from one of some vertices to one of others that
// goes through uncuttable vertices alone.
func (g *Graph) Open(from, to []int32, capacity func(v int32) int32) (Path, bool) {
	closed := NewSet(g.Len())
	for v := range int32(g.Len()) {
		if c := capacity(v); c > 0 && c < Uncuttable {
			closed.Add(v)
		}
	}
	t := g.Tree(to, Backward, closed)
	best := int32(-1)
	for _, v := range from {
		if t.Reaches(v) && (best < 0 || t.dist[v] < t.dist[best]) {
			best = v
		}
	}
	if best < 0 {
		return Path{}, false
	}
	return t.Path(best)
}

// between are the vertices on any way from some vertices to others.
func (g *Graph) between(from, to []int32) Set {
	a, b := g.Reach(from, Forward, nil), g.Reach(to, Backward, nil)
	for i := range a {
		a[i] &= b[i]
	}
	return a
}

// flow is Dinic's algorithm on the graph in which each vertex is an arc from its
// entrance to its exit.
type flow struct {
	vertices     []int32 // of the graph, by half the number of their entrance
	source, sink int32
	arcs         []arc
	first        []int32 // the newest arc of each, and from there arc.next
	next         []int32
	depth        []int32
	queue        []int32
}

// arc is one way of a pair: arcs i and i^1 are each other's way back.
type arc struct{ to, room, next int32 }

func newFlow(g *Graph, near Set, from, to []int32, capacity func(v int32) int32) *flow {
	f := &flow{}
	number := make([]int32, g.Len())
	for v := range int32(g.Len()) {
		if near.Has(v) {
			number[v] = int32(len(f.vertices))
			f.vertices = append(f.vertices, v)
		}
	}
	n := int32(2 * len(f.vertices))
	f.source, f.sink = n, n+1
	f.first, f.next, f.depth = make([]int32, n+2), make([]int32, n+2), make([]int32, n+2)
	for i := range f.first {
		f.first[i] = -1
	}
	for i, v := range f.vertices {
		c := capacity(v)
		if c <= 0 {
			c = Uncuttable
		}
		f.arc(int32(2*i), int32(2*i+1), c)
		_, edges := g.Out(v)
		last := int32(-1)
		for _, e := range edges {
			if near.Has(e.To) && e.To != v && e.To != last {
				f.arc(int32(2*i+1), 2*number[e.To], Uncuttable)
				last = e.To
			}
		}
	}
	once := NewSet(g.Len())
	for _, v := range from {
		if near.Has(v) && !once.Has(v) {
			once.Add(v)
			f.arc(f.source, 2*number[v], Uncuttable)
		}
	}
	once = NewSet(g.Len())
	for _, v := range to {
		if near.Has(v) && !once.Has(v) {
			once.Add(v)
			f.arc(2*number[v]+1, f.sink, Uncuttable)
		}
	}
	return f
}

func (f *flow) arc(from, to, room int32) {
	f.arcs = append(f.arcs, arc{to, room, f.first[from]}, arc{from, 0, f.first[to]})
	f.first[from], f.first[to] = int32(len(f.arcs)-2), int32(len(f.arcs)-1)
}

// level works out how far each is from the source, and says whether the sink can
// still be reached.
func (f *flow) level() bool {
	clear(f.depth)
	f.depth[f.source] = 1
	f.queue = append(f.queue[:0], f.source)
	for i := 0; i < len(f.queue); i++ {
		v := f.queue[i]
		for a := f.first[v]; a >= 0; a = f.arcs[a].next {
			if to := f.arcs[a].to; f.arcs[a].room > 0 && f.depth[to] == 0 {
				f.depth[to] = f.depth[v] + 1
				f.queue = append(f.queue, to)
			}
		}
	}
	return f.depth[f.sink] > 0
}

// send sends what it can from the source to the sink along one way, and returns
// how much. It keeps the way in a list of its own: it may be long.
func (f *flow) send(v, most int32) int32 {
	var way []int32
	for v != f.sink {
		a := f.next[v]
		switch {
		case a < 0 && len(way) == 0:
			return 0
		case a < 0: // a dead end
			back := way[len(way)-1]
			way = way[:len(way)-1]
			v = f.arcs[back^1].to
			f.next[v] = f.arcs[back].next
		case f.arcs[a].room > 0 && f.depth[f.arcs[a].to] == f.depth[v]+1:
			way = append(way, a)
			v = f.arcs[a].to
		default:
			f.next[v] = f.arcs[a].next
		}
	}
	for _, a := range way {
		most = min(most, f.arcs[a].room)
	}
	for _, a := range way {
		f.arcs[a].room -= most
		f.arcs[a^1].room += most
	}
	return most
}

// nearest returns the vertices whose exit still leads to the sink and whose
// entrance does not.
func (f *flow) nearest() []int32 {
	leads := NewSet(len(f.first))
	leads.Add(f.sink)
	f.queue = append(f.queue[:0], f.sink)
	for i := 0; i < len(f.queue); i++ {
		for a := f.first[f.queue[i]]; a >= 0; a = f.arcs[a].next {
			if from := f.arcs[a].to; f.arcs[a^1].room > 0 && !leads.Has(from) {
				leads.Add(from)
				f.queue = append(f.queue, from)
			}
		}
	}
	var out []int32
	for i, v := range f.vertices {
		if leads.Has(int32(2*i+1)) && !leads.Has(int32(2*i)) {
			out = append(out, v)
		}
	}
	return out
}
