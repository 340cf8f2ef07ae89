// SPDX-License-Identifier: Apache-2.0

// Package graph holds directed graphs in flat arrays, and answers what is asked
// of them: distances and shortest paths, the k shortest, what can be reached,
// what lies on every path, and the fewest vertices whose removal leaves none.
// Vertices are small integers. It knows nothing of what they stand for.
package graph

import (
	"cmp"
	"slices"
)

// Edge leads from one vertex to another. Label is the caller's.
type Edge struct {
	From, To int32
	// Weight is not negative.
	Weight int32
	Label  int32
}

// Graph is a directed graph. It is immutable, and safe for concurrent use.
type Graph struct {
	edges []Edge  // by From, in the order in which they were given
	out   []int32 // edges of v: edges[out[v]:out[v+1]]
	in    []int32 // edges into v: back[in[v]:in[v+1]]
	back  []int32 // indices of edges
	wide  int32   // the largest weight
}

// New returns the graph of the edges, which lead between vertices below n.
func New(n int, edges []Edge) *Graph { return NewSorted(n, edges, nil) }

// NewSorted returns the graph of edges in an order of its own: those that leave
// a vertex by where they lead, then by weight, then as compare says of their
// labels. So the same edges make the same graph, in whatever order they come.
func NewSorted(n int, edges []Edge, compare func(a, b int32) int) *Graph {
	g := &Graph{edges: make([]Edge, len(edges)), out: make([]int32, n+2), in: make([]int32, n+2), back: make([]int32, len(edges))}
	for i := range edges {
		g.out[edges[i].From+2]++
		g.in[edges[i].To+2]++
		g.wide = max(g.wide, edges[i].Weight)
	}
	for v := 2; v < len(g.out); v++ {
		g.out[v] += g.out[v-1]
		g.in[v] += g.in[v-1]
	}
	for _, i := range g.order(edges, compare != nil) {
		at := &g.out[edges[i].From+1]
		g.edges[*at] = edges[i]
		*at++
	}
	if compare != nil {
		g.sort(compare)
	}
	for i := range g.edges {
		at := &g.in[g.edges[i].To+1]
		g.back[*at] = int32(i)
		*at++
	}
	g.out, g.in = g.out[:n+1], g.in[:n+1]
	return g
}

// order is that in which edges are put beside others that leave the same vertex:
// as they came, or by where they lead.
func (g *Graph) order(edges []Edge, byEnd bool) []int32 {
	out := make([]int32, len(edges))
	if !byEnd {
		for i := range out {
			out[i] = int32(i)
		}
		return out
	}
	next := slices.Clone(g.in)
	for i := range edges {
		at := &next[edges[i].To+1]
		out[*at] = int32(i)
		*at++
	}
	return out
}

// sort puts edges in order that lead from the same vertex to the same.
func (g *Graph) sort(compare func(a, b int32) int) {
	for i := 0; i < len(g.edges); {
		j := i + 1
		for j < len(g.edges) && g.edges[j].From == g.edges[i].From && g.edges[j].To == g.edges[i].To {
			j++
		}
		if j > i+1 {
			slices.SortFunc(g.edges[i:j], func(a, b Edge) int { return cmp.Or(cmp.Compare(a.Weight, b.Weight), compare(a.Label, b.Label)) })
		}
		i = j
	}
}

// Len is the number of vertices.
func (g *Graph) Len() int { return len(g.out) - 1 }

// Edges is the number of edges.
func (g *Graph) Edges() int { return len(g.edges) }

// Edge returns edge i.
func (g *Graph) Edge(i int32) Edge { return g.edges[i] }

// Out returns the edges that leave v, which are edges first, first+1, … .
func (g *Graph) Out(v int32) (first int32, edges []Edge) {
	return g.out[v], g.edges[g.out[v]:g.out[v+1]]
}

// In returns the indices of the edges into v.
func (g *Graph) In(v int32) []int32 { return g.back[g.in[v]:g.in[v+1]] }

// Set is a set of vertices.
type Set []uint64

// NewSet returns an empty set of vertices below n.
func NewSet(n int) Set { return make(Set, (n+63)/64) }

// Has says whether v is in the set; a nil set has none.
func (s Set) Has(v int32) bool { return int(v>>6) < len(s) && s[v>>6]&(1<<(v&63)) != 0 }

// Add puts v into the set.
func (s Set) Add(v int32) { s[v>>6] |= 1 << (v & 63) }

func (s Set) remove(v int32) { s[v>>6] &^= 1 << (v & 63) }

// Direction is which way edges are followed.
type Direction bool

// The directions.
const (
	Forward  Direction = false
	Backward Direction = true
)

// Reach returns what can be reached from some vertices, these among it, without
// going through those of avoid.
func (g *Graph) Reach(from []int32, d Direction, avoid Set) Set {
	return g.Growing(from, d, avoid, nil).seen
}

// Growing is what can be reached from some vertices while ever fewer others are
// avoided.
type Growing struct {
	g           *Graph
	d           Direction
	avoid, seen Set
	from, stack []int32
	found       func(v int32)
}

// Growing returns what Reach does, and takes over avoid. Found, unless it is nil,
// is told once of each vertex that is reached, now or later.
func (g *Graph) Growing(from []int32, d Direction, avoid Set, found func(v int32)) *Growing {
	r := &Growing{g: g, d: d, avoid: avoid, seen: NewSet(g.Len()), from: from, found: found}
	for _, v := range from {
		r.visit(v)
	}
	r.follow()
	return r
}

// Readmit ends the avoiding of a vertex.
func (r *Growing) Readmit(v int32) {
	if !r.avoid.Has(v) {
		return
	}
	r.avoid.remove(v)
	if slices.Contains(r.from, v) || r.beside(v) {
		r.visit(v)
		r.follow()
	}
}

// beside says whether an edge leads from what is reached to a vertex.
func (r *Growing) beside(v int32) bool {
	if r.d == Forward {
		return slices.ContainsFunc(r.g.In(v), func(i int32) bool { return r.seen.Has(r.g.edges[i].From) })
	}
	_, edges := r.g.Out(v)
	return slices.ContainsFunc(edges, func(e Edge) bool { return r.seen.Has(e.To) })
}

func (r *Growing) visit(v int32) {
	if r.seen.Has(v) || r.avoid.Has(v) {
		return
	}
	r.seen.Add(v)
	r.stack = append(r.stack, v)
	if r.found != nil {
		r.found(v)
	}
}

func (r *Growing) follow() {
	for len(r.stack) > 0 {
		v := r.stack[len(r.stack)-1]
		r.stack = r.stack[:len(r.stack)-1]
		if r.d == Forward {
			for i := r.g.out[v]; i < r.g.out[v+1]; i++ {
				r.visit(r.g.edges[i].To)
			}
			continue
		}
		for _, i := range r.g.In(v) {
			r.visit(r.g.edges[i].From)
		}
	}
}

// far is a distance that no path has.
const far = int32(1 << 30)

// Tree is the shortest ways from some vertices to all others, or from all
// others to some vertices.
type Tree struct {
	g    *Graph
	d    Direction
	dist []int32
	via  []int32 // the edge next to the vertex; -1 at a root
}

// Tree returns the shortest ways from the roots to every vertex (Forward), or
// from every vertex to the roots (Backward), without going through those of
// avoid. Of ways that weigh the same it takes one with the fewest edges, and
// always the same.
func (g *Graph) Tree(roots []int32, d Direction, avoid Set) *Tree {
	t := &Tree{g: g, d: d, dist: make([]int32, g.Len()), via: make([]int32, g.Len())}
	for v := range t.dist {
		t.dist[v], t.via[v] = far, -1
	}
	// Weights are small, so that vertices wait in a ring of buckets, one for
	// each distance. Every edge weighs one more within: then ways with fewer
	// edges come first among those that weigh the same.
	q := newBuckets(int(g.wide)*scale + 2)
	for _, v := range roots {
		if !avoid.Has(v) && t.dist[v] == far {
			t.dist[v] = 0
			q.push(0, v)
		}
	}
	for {
		dist, v, ok := q.pop()
		if !ok {
			return t
		}
		if t.dist[v] != dist {
			continue
		}
		if d == Forward {
			for i := g.out[v]; i < g.out[v+1]; i++ {
				t.relax(q, avoid, dist, i, g.edges[i].To)
			}
			continue
		}
		for _, i := range g.In(v) {
			t.relax(q, avoid, dist, i, g.edges[i].From)
		}
	}
}

// scale is how many edges a way has at the most before their number outweighs a
// unit of weight.
const scale = 64

func (t *Tree) relax(q *buckets, avoid Set, dist, edge, to int32) {
	at := dist + t.g.edges[edge].Weight*scale + 1
	if at >= t.dist[to] || avoid.Has(to) {
		return
	}
	t.dist[to], t.via[to] = at, edge
	q.push(at, to)
}

// Reaches says whether there is a way.
func (t *Tree) Reaches(v int32) bool { return t.dist[v] != far }

// Weight is what the way of v weighs, which must have one.
func (t *Tree) Weight(v int32) int { return int(t.dist[v] / scale) }

// Root returns the root of the way of v, which must have one.
func (t *Tree) Root(v int32) int32 {
	for t.via[v] >= 0 {
		v = t.next(v)
	}
	return v
}

func (t *Tree) next(v int32) int32 {
	if t.d == Forward {
		return t.g.edges[t.via[v]].From
	}
	return t.g.edges[t.via[v]].To
}

// Path returns the way between a root and v; false where there is none.
func (t *Tree) Path(v int32) (Path, bool) {
	if !t.Reaches(v) {
		return Path{}, false
	}
	p := Path{Edges: t.AppendWay(nil, v)}
	for _, e := range p.Edges {
		p.Weight += int(t.g.edges[e].Weight)
	}
	return p, true
}

// AppendWay appends the edges of the way between a root and v, which must have
// one.
func (t *Tree) AppendWay(to []int32, v int32) []int32 {
	from := len(to)
	for t.via[v] >= 0 {
		to = append(to, t.via[v])
		v = t.next(v)
	}
	if t.d == Forward {
		slices.Reverse(to[from:])
	}
	return to
}

// buckets is a queue of vertices by distances that lie in a window.
type buckets struct {
	ring  [][]int32
	at    int32
	count int
}

func newBuckets(window int) *buckets { return &buckets{ring: make([][]int32, window)} }

func (q *buckets) push(dist, v int32) {
	i := int(dist) % len(q.ring)
	q.ring[i] = append(q.ring[i], v)
	q.count++
}

func (q *buckets) pop() (dist, v int32, ok bool) {
	if q.count == 0 {
		return 0, 0, false
	}
	for {
		i := int(q.at) % len(q.ring)
		if n := len(q.ring[i]); n > 0 {
			v = q.ring[i][n-1]
			q.ring[i] = q.ring[i][:n-1]
			q.count--
			return q.at, v, true
		}
		q.at++
	}
}
