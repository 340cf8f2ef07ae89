// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"container/heap"
	"slices"
)

// Path is a way through the graph: the indices of its edges. One without edges
// begins and ends at the same vertex.
type Path struct {
	Edges  []int32
	Weight int
}

// Shortest returns up to k ways from one of some vertices to one of others, the
// lightest first, and of those that weigh the same the one with the fewest
// edges. No way goes through a vertex twice or through two vertices of from or
// to, and no two go through the same vertices: of edges side by side, the
// lightest counts. It is Yen's algorithm with the distances to the targets as a
// guide.
func (g *Graph) Shortest(from, to []int32, k int, avoid Set) []Path {
	if k <= 0 {
		return nil
	}
	y := &yen{g: g, guide: g.Tree(to, Backward, avoid), target: NewSet(g.Len()), source: NewSet(g.Len()), avoid: avoid,
		dist: make([]int32, g.Len()), via: make([]int32, g.Len()), seen: make([]int32, g.Len())}
	for _, v := range to {
		y.target.Add(v)
	}
	for _, v := range from {
		y.source.Add(v)
	}
	return y.run(from, k)
}

// yen is one search for k shortest paths.
type yen struct {
	g              *Graph
	guide          *Tree
	source, target Set
	avoid          Set
	// What a search of one way has come by; seen says in which search.
	dist, via, seen []int32
	round           int32
}

// found is a way, with the number of steps that it has in common with the one
// that it turns off from.
type found struct {
	Path
	begin int32   // where it begins
	steps []int32 // the vertices after that
	fork  int
}

func (y *yen) run(from []int32, k int) []Path {
	var out []*found
	var waiting []*found
	best := y.search(from, nil, nil, -1)
	for best != nil {
		out = append(out, best)
		if len(out) == k {
			break
		}
		waiting = append(waiting, y.forks(from, out, best)...)
		best, waiting = least(waiting)
	}
	paths := make([]Path, len(out))
	for i, f := range out {
		paths[i] = f.Path
	}
	return paths
}

// least takes the lightest way out of those that wait.
func least(waiting []*found) (*found, []*found) {
	if len(waiting) == 0 {
		return nil, nil
	}
	at := 0
	for i := range waiting {
		if lighter(waiting[i], waiting[at]) < 0 {
			at = i
		}
	}
	best := waiting[at]
	return best, slices.Delete(waiting, at, at+1)
}

func lighter(a, b *found) int {
	return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(len(a.Edges), len(b.Edges)), cmp.Compare(a.begin, b.begin), slices.Compare(a.steps, b.steps))
}

// forks returns the best way that turns off from the last of the ways at each
// step where that is not done yet. Where it begins is a step too: -1.
func (y *yen) forks(from []int32, out []*found, last *found) []*found {
	var forks []*found
	for at := last.fork; at < len(last.steps); at++ {
		if at < 0 {
			forks = appendSome(forks, y.elsewhere(from, out))
			continue
		}
		if f := y.fork(out, last, at); f != nil {
			forks = append(forks, f)
		}
	}
	return forks
}

func appendSome(list []*found, f *found) []*found {
	if f != nil {
		list = append(list, f)
	}
	return list
}

// elsewhere is the best way that begins where none does yet.
func (y *yen) elsewhere(from []int32, out []*found) *found {
	var left []int32
	for _, v := range from {
		if !slices.ContainsFunc(out, func(f *found) bool { return f.begin == v }) {
			left = append(left, v)
		}
	}
	return y.search(left, nil, nil, -1)
}

// fork is the best way that goes along the last one for some steps, and then
// takes a step that no way with this beginning took.
func (y *yen) fork(out []*found, last *found, at int) *found {
	closed := map[int32]bool{last.begin: true}
	for _, v := range last.steps[:at] {
		closed[v] = true
	}
	spur := last.begin
	if at > 0 {
		spur = last.steps[at-1]
	}
	taken := map[int32]bool{}
	for _, f := range out {
		if f.begin == last.begin && len(f.steps) > at && slices.Equal(f.steps[:at], last.steps[:at]) {
			taken[f.steps[at]] = true
		}
	}
	f := y.search([]int32{spur}, closed, taken, spur)
	if f == nil {
		return nil
	}
	f.begin, f.fork = last.begin, at
	f.Edges = slices.Concat(last.Edges[:at], f.Edges)
	f.steps = slices.Concat(last.steps[:at], f.steps)
	f.Weight = 0
	for _, e := range f.Edges {
		f.Weight += int(y.g.edges[e].Weight)
	}
	return f
}

// search finds the lightest way from some vertices to a target, past none that
// is closed; the first step from spur must not be one that is taken.
func (y *yen) search(from []int32, closed, taken map[int32]bool, spur int32) *found {
	y.round++
	q := &frontier{}
	for _, v := range from {
		if y.guide.Reaches(v) {
			y.reach(q, v, 0, -1)
		}
	}
	for q.Len() > 0 {
		w := heap.Pop(q).(waiting)
		if w.dist != y.dist[w.v] {
			continue
		}
		if y.target.Has(w.v) && (w.v != spur || len(taken) == 0) {
			return y.trace(w.v)
		}
		first, edges := y.g.Out(w.v)
		for i, e := range edges {
			if closed[e.To] || y.source.Has(e.To) || !y.guide.Reaches(e.To) || y.avoid.Has(e.To) || w.v == spur && taken[e.To] {
				continue
			}
			y.reach(q, e.To, w.dist+e.Weight*scale+1, first+int32(i))
		}
	}
	return nil
}

// reach notes a way to v, if it is the lightest so far.
func (y *yen) reach(q *frontier, v, dist, via int32) {
	if y.seen[v] == y.round && y.dist[v] <= dist {
		return
	}
	y.seen[v], y.dist[v], y.via[v] = y.round, dist, via
	heap.Push(q, waiting{v: v, dist: dist, total: dist + y.guide.dist[v]})
}

func (y *yen) trace(v int32) *found {
	f := &found{fork: -1}
	for y.via[v] >= 0 {
		f.Edges = append(f.Edges, y.via[v])
		f.steps = append(f.steps, v)
		f.Weight += int(y.g.edges[y.via[v]].Weight)
		v = y.g.edges[y.via[v]].From
	}
	f.begin = v
	slices.Reverse(f.Edges)
	slices.Reverse(f.steps)
	return f
}

// frontier is what a search has come by and not gone on from.
type frontier []waiting

type waiting struct{ v, dist, total int32 }

func (q frontier) Len() int { return len(q) }

func (q frontier) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].total, q[j].total), cmp.Compare(q[i].v, q[j].v)) < 0
}

func (q frontier) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *frontier) Push(x any) { *q = append(*q, x.(waiting)) }

func (q *frontier) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
