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
	return out
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
}

// maxRounds is how many changes are put in order by what is left after those
// before; the others follow by what each breaks alone.
const maxRounds = 32

func (r *ranking) rank(vertices []int32, out *Cut) {
	alone := r.counts()
	total := r.left()
	out.Paths = total
	left := slices.Clone(vertices)
	slices.SortStableFunc(left, func(a, b int32) int { return cmp.Compare(alone[b], alone[a]) })
	keys := map[string]bool{}
	counts := alone
	for round := 0; len(left) > 0; round++ {
		at := 0
		if round < maxRounds {
			for i, v := range left {
				if counts[v] > counts[left[at]] {
					at = i
				}
			}
		}
		v := left[at]
		left = slices.Delete(left, at, at+1)
		r.avoid.Add(v)
		change := *r.g.changeAt(v)
		r.tie(v, &change)
		if keys[change.Key] {
			out.Exact = false
			continue
		}
		keys[change.Key] = true
		ranked := Ranked{Change: &change, Breaks: int(alone[v]), Cumulated: total}
		if len(left) > 0 {
			ranked.Cumulated = total - r.left()
		}
		out.Changes = append(out.Changes, ranked)
		if round+1 < maxRounds && len(left) > 0 {
			counts = r.counts()
		}
	}
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

// left counts the pairs that still have a path.
func (r *ranking) left() int {
	n := 0
	for _, to := range r.to {
		reach := r.g.flat.Reach([]int32{to}, graph.Backward, r.avoid)
		for _, v := range r.from {
			n += boolInt(reach.Has(v))
		}
	}
	return n
}

// tie ties the change of a binding to the control of an edge that it gives.
func (r *ranking) tie(v int32, c *Change) {
	if c.Control != "" {
		return
	}
	t := r.g.flat.Tree(r.to, graph.Backward, nil)
	way, ok := t.Path(v)
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
