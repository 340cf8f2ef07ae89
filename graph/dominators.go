// SPDX-License-Identifier: Apache-2.0

package graph

import "slices"

// Dominators tell of each vertex what lies on all of its ways to some targets.
type Dominators struct {
	// order are the vertices that have a way, each after what is on all of its
	// ways.
	order []int32
	above []int32 // the nearest vertex on all ways; -1: none, or no way
	has   Set
}

// Dominators returns what lies on all ways to the targets, by the algorithm of
// Lengauer and Tarjan.
func (g *Graph) Dominators(to []int32, avoid Set) *Dominators {
	n := int32(g.Len())
	l := &tarjan{
		semi: make([]int32, n+1), parent: make([]int32, n+1), ancestor: make([]int32, n+1), best: make([]int32, n+1),
		dom: make([]int32, n+1), bucket: make([]int32, n+1), next: make([]int32, n+1),
	}
	for v := range l.semi {
		l.semi[v], l.ancestor[v], l.best[v], l.dom[v], l.bucket[v] = -1, -1, int32(v), -1, -1
	}
	root := n // stands before the targets
	ahead := func(v int32, visit func(w int32)) {
		if v == root {
			for _, w := range to {
				visit(w)
			}
			return
		}
		for _, i := range g.In(v) {
			visit(g.edges[i].From)
		}
	}
	l.number(root, ahead, avoid)
	target := NewSet(g.Len())
	for _, v := range to {
		target.Add(v)
	}
	behind := func(v int32, visit func(w int32)) {
		if target.Has(v) {
			visit(root)
		}
		_, edges := g.Out(v)
		for _, e := range edges {
			visit(e.To)
		}
	}
	l.run(behind)
	d := &Dominators{above: l.dom[:n], has: NewSet(g.Len())}
	for _, v := range l.order[1:] {
		if d.above[v] == root {
			d.above[v] = -1
		}
		d.has.Add(v)
		d.order = append(d.order, v)
	}
	return d
}

// tarjan is one run of the algorithm, in its authors' terms.
type tarjan struct {
	order                             []int32
	semi, parent, ancestor, best, dom []int32
	// bucket is the first of what is in the bucket of each, next the one after.
	bucket, next []int32
	up           []int32 // of eval
}

// number numbers what can be reached, in the order of a search in depth.
func (l *tarjan) number(root int32, ahead func(int32, func(int32)), avoid Set) {
	type visit struct{ v, parent int32 }
	stack := []visit{{root, -1}}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if l.semi[at.v] >= 0 {
			continue
		}
		l.semi[at.v], l.parent[at.v] = int32(len(l.order)), at.parent
		l.order = append(l.order, at.v)
		ahead(at.v, func(w int32) {
			if l.semi[w] < 0 && !avoid.Has(w) {
				stack = append(stack, visit{w, at.v})
			}
		})
	}
}

func (l *tarjan) run(behind func(int32, func(int32))) {
	for i := len(l.order) - 1; i > 0; i-- {
		w := l.order[i]
		behind(w, func(v int32) {
			if l.semi[v] >= 0 {
				l.semi[w] = min(l.semi[w], l.semi[l.eval(v)])
			}
		})
		of := l.order[l.semi[w]]
		l.next[w], l.bucket[of] = l.bucket[of], w
		p := l.parent[w]
		l.ancestor[w] = p
		for v := l.bucket[p]; v >= 0; v = l.next[v] {
			if u := l.eval(v); l.semi[u] < l.semi[v] {
				l.dom[v] = u
			} else {
				l.dom[v] = p
			}
		}
		l.bucket[p] = -1
	}
	for _, w := range l.order[1:] {
		if l.dom[w] != l.order[l.semi[w]] {
			l.dom[w] = l.dom[l.dom[w]]
		}
	}
}

// eval returns the vertex of the least semidominator on the way up from v, and
// shortens that way.
func (l *tarjan) eval(v int32) int32 {
	if l.ancestor[v] < 0 {
		return v
	}
	up := l.up[:0]
	for u := v; l.ancestor[l.ancestor[u]] >= 0; u = l.ancestor[u] {
		up = append(up, u)
	}
	l.up = up
	for _, u := range slices.Backward(up) {
		a := l.ancestor[u]
		if l.semi[l.best[a]] < l.semi[l.best[u]] {
			l.best[u] = l.best[a]
		}
		l.ancestor[u] = l.ancestor[a]
	}
	return l.best[v]
}

// Has says whether the vertex has a way to a target.
func (d *Dominators) Has(v int32) bool { return d.has.Has(v) }

// Above returns the nearest vertex that lies on all ways of v to the targets,
// other than v; -1 where there is none.
func (d *Dominators) Above(v int32) int32 { return d.above[v] }

// Counts returns of each vertex how much of what is counted has no way any more
// once the vertex is taken away: what is at the vertex itself counts too.
func (d *Dominators) Counts(count func(v int32) int32) []int32 {
	out := make([]int32, len(d.above))
	for i := len(d.order) - 1; i >= 0; i-- {
		v := d.order[i]
		out[v] += count(v)
		if a := d.above[v]; a >= 0 {
			out[a] += out[v]
		}
	}
	return out
}
