// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"slices"

	"sconce.dev/sconce/graph"
)

// Cut returns the fewest changes that break every path from one of some vertices
// to one of others, what each of them breaks, and the ways that no change breaks.
func (g *Graph) Cut(from, to []int) Cut {
	g.flatten()
	ends := graph.NewSet(g.flat.Len())
	for _, v := range append(narrow(from), narrow(to)...) {
		ends.Add(v)
	}
	capacity := func(v int32) int32 {
		if g.changeAt(v) == nil || ends.Has(v) {
			return graph.Uncuttable
		}
		return 1
	}
	out := Cut{Exact: true}
	begin := g.closed(narrow(from), narrow(to), capacity, &out)
	vertices, _, ok := g.flat.Cut(begin, narrow(to), capacity)
	if !ok {
		return out
	}
	r := &ranking{g: g, from: begin, to: narrow(to), avoid: graph.NewSet(g.flat.Len())}
	r.rank(vertices, &out)
	out.Exact = out.Exact && (len(out.Changes) < 2 || !g.several(begin, narrow(to), capacity))
	return out
}

// several says whether one change takes away more than one vertex on the ways
// from some vertices to others, so that the fewest vertices need not be the
// fewest changes.
func (g *Graph) several(from, to []int32, capacity func(int32) int32) bool {
	behind, ahead := g.flat.Reach(from, graph.Forward, nil), g.flat.Reach(to, graph.Backward, nil)
	seen := map[string]bool{}
	for v := range int32(g.flat.Len()) {
		if !behind.Has(v) || !ahead.Has(v) || capacity(v) == graph.Uncuttable {
			continue
		}
		key := g.changeAt(v).Key
		if seen[key] {
			return true
		}
		seen[key] = true
	}
	return false
}

// maxOpen is how many ways that no change breaks are told.
const maxOpen = 10

// closed are the beginnings from which every way leads through something that
// can be changed; it notes the others.
func (g *Graph) closed(from, to []int32, capacity func(int32) int32, out *Cut) []int32 {
	hard := graph.NewSet(g.flat.Len())
	for v := range int32(g.flat.Len()) {
		if capacity(v) < graph.Uncuttable {
			hard.Add(v)
		}
	}
	open := g.flat.Tree(to, graph.Backward, hard)
	any := g.flat.Reach(to, graph.Backward, nil)
	var begin []int32
	for _, v := range from {
		switch {
		case !any.Has(v):
		case !open.Reaches(v):
			begin = append(begin, v)
		default:
			if len(out.Open) < maxOpen {
				way, _ := open.Path(v)
				out.Open = append(out.Open, g.path(v, way))
			}
		}
	}
	return begin
}

// ranking puts changes in the order in which they break most.
type ranking struct {
	g        *Graph
	from, to []int32
	avoid    graph.Set
	ways     *graph.Tree // to the ends, once asked for
}

// maxRounds is how many changes are put in order by what is left after those
// before; the others follow by what each breaks alone.
const maxRounds = 32

func (r *ranking) rank(vertices []int32, out *Cut) {
	alone := r.counts()
	order := r.order(vertices, alone)
	left, total := r.left(order)
	out.Paths = total
	keys := map[string]bool{}
	for i, v := range order {
		change := *r.g.changeAt(v)
		r.tie(v, &change)
		if keys[change.Key] {
			out.Exact = false
			continue
		}
		keys[change.Key] = true
		out.Changes = append(out.Changes, Ranked{Change: &change, Breaks: int(alone[v]), Cumulated: total - left[i]})
	}
}

// order puts vertices in the order in which they break most. Alone is what each
// of them breaks by itself.
func (r *ranking) order(vertices, alone []int32) []int32 {
	rest := slices.Clone(vertices)
	slices.SortStableFunc(rest, func(a, b int32) int { return cmp.Compare(alone[b], alone[a]) })
	out := make([]int32, 0, len(rest))
	for counts := alone; len(rest) > 0 && len(out) < maxRounds; {
		at := 0
		for i, v := range rest {
			if counts[v] > counts[rest[at]] {
				at = i
			}
		}
		out = append(out, rest[at])
		r.avoid.Add(rest[at])
		if rest = slices.Delete(rest, at, at+1); len(rest) > 0 && len(out) < maxRounds {
			counts = r.counts()
		}
	}
	return append(out, rest...)
}

// counts are, for each vertex, the pairs that are left no path without it.
func (r *ranking) counts() []int32 {
	out := make([]int32, r.g.flat.Len())
	begins := graph.NewSet(r.g.flat.Len())
	for _, v := range r.from {
		begins.Add(v)
	}
	for _, to := range r.to {
		d := r.g.flat.Dominators([]int32{to}, r.avoid)
		for v, n := range d.Counts(func(v int32) int32 { return int32(boolInt(begins.Has(v))) }) {
			out[v] += n
		}
	}
	return out
}

// left returns how many pairs still have a path after each of some vertices is
// taken away, with those before it, and how many do while all are there. It goes
// backwards from where all are gone, so that the graph is gone through once.
func (r *ranking) left(order []int32) (after []int, total int) {
	after = make([]int, len(order))
	begins := graph.NewSet(r.g.flat.Len())
	for _, v := range r.from {
		begins.Add(v)
	}
	for _, to := range r.to {
		avoid, n := graph.NewSet(r.g.flat.Len()), 0
		for _, v := range order {
			avoid.Add(v)
		}
		reach := r.g.flat.Growing([]int32{to}, graph.Backward, avoid, func(v int32) { n += boolInt(begins.Has(v)) })
		for i, v := range slices.Backward(order) {
			after[i] += n
			reach.Readmit(v)
		}
		total += n
	}
	return after, total
}

// tie ties the change of a binding to the control of an edge that it gives.
func (r *ranking) tie(v int32, c *Change) {
	if c.Control != "" {
		return
	}
	if r.ways == nil {
		r.ways = r.g.flat.Tree(r.to, graph.Backward, nil)
	}
	way, ok := r.ways.Path(v)
	if !ok {
		return
	}
	for _, i := range way.Edges {
		if e := r.g.links[r.g.flat.Edge(i).Label].edge; e != nil && e.ID != holdsPermission && e.mitigation() != nil {
			c.Control = e.mitigation().Control
			return
		}
	}
}
