// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/graph"
)

// small is a random graph, with two sets of vertices.
type small struct {
	n        int
	edges    []graph.Edge
	from, to []int32
}

func drawSmall(t *rapid.T) small {
	s := small{n: rapid.IntRange(1, 7).Draw(t, "vertices")}
	vertex := rapid.Int32Range(0, int32(s.n-1))
	s.edges = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) graph.Edge {
		return graph.Edge{From: vertex.Draw(t, "from"), To: vertex.Draw(t, "to"), Weight: rapid.Int32Range(0, 3).Draw(t, "weight")}
	}), 0, 14).Draw(t, "edges")
	s.from = rapid.SliceOfNDistinct(vertex, 1, 2, rapid.ID).Draw(t, "sources")
	s.to = rapid.SliceOfNDistinct(vertex, 1, 2, rapid.ID).Draw(t, "targets")
	return s
}

// ways are all ways that Shortest may return, as their vertices, lightest first.
func (s small) ways() []string {
	lightest := map[[2]int32]int32{}
	for _, e := range s.edges {
		key := [2]int32{e.From, e.To}
		if w, ok := lightest[key]; !ok || e.Weight < w {
			lightest[key] = e.Weight
		}
	}
	type way struct {
		vertices []int32
		weight   int32
	}
	var all []way
	var walk func(way)
	walk = func(w way) {
		last := w.vertices[len(w.vertices)-1]
		if slices.Contains(s.to, last) {
			all = append(all, w)
			return
		}
		for next := range int32(s.n) {
			weight, ok := lightest[[2]int32{last, next}]
			if ok && !slices.Contains(w.vertices, next) && !slices.Contains(s.from, next) {
				walk(way{append(slices.Clone(w.vertices), next), w.weight + weight})
			}
		}
	}
	for _, v := range s.from {
		walk(way{vertices: []int32{v}})
	}
	slices.SortFunc(all, func(a, b way) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(len(a.vertices), len(b.vertices)), slices.Compare(a.vertices, b.vertices))
	})
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = fmt.Sprintf("%d: %d steps", w.weight, len(w.vertices)-1)
	}
	return out
}

// TestShortest holds the k shortest ways against all that there are.
func TestShortest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		k := rapid.IntRange(1, 30).Draw(t, "k")
		g := graph.New(s.n, s.edges)
		var got []string
		seen := map[string]bool{}
		for _, p := range g.Shortest(s.from, s.to, k, nil) {
			got = append(got, fmt.Sprintf("%d: %d steps", p.Weight, len(p.Edges)))
			checkPath(t, g, s, p)
			if len(p.Edges) == 0 {
				continue
			}
			key := fmt.Sprint(vertices(g, p))
			if seen[key] {
				t.Fatalf("way %s comes twice", key)
			}
			seen[key] = true
		}
		want := s.ways()
		want = want[:min(k, len(want))]
		if !slices.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	})
}

func vertices(g *graph.Graph, p graph.Path) []int32 {
	out := []int32{g.Edge(p.Edges[0]).From}
	for _, e := range p.Edges {
		out = append(out, g.Edge(e).To)
	}
	return out
}

func checkPath(t *rapid.T, g *graph.Graph, s small, p graph.Path) {
	if len(p.Edges) == 0 {
		return
	}
	all := vertices(g, p)
	weight := 0
	for i, e := range p.Edges {
		if g.Edge(e).From != all[i] {
			t.Fatalf("edges of %v do not meet", p)
		}
		weight += int(g.Edge(e).Weight)
	}
	if weight != p.Weight || !slices.Contains(s.from, all[0]) || !slices.Contains(s.to, all[len(all)-1]) {
		t.Fatalf("%v weighs %d, and leads from %v to %v", p, weight, s.from, s.to)
	}
	if slices.Sort(all); len(slices.Compact(all)) != len(p.Edges)+1 {
		t.Fatalf("%v goes through a vertex twice", p)
	}
}

// distances by Bellman and Ford; -1 where there is no way.
func (s small) distances(back bool, without uint) []int {
	dist := make([]int, s.n)
	roots := s.from
	if back {
		roots = s.to
	}
	for v := range dist {
		dist[v] = -1
		if slices.Contains(roots, int32(v)) && without&(1<<v) == 0 {
			dist[v] = 0
		}
	}
	for range s.n {
		for _, e := range s.edges {
			a, b := e.From, e.To
			if back {
				a, b = b, a
			}
			if at := dist[a] + int(e.Weight); dist[a] >= 0 && without&(1<<b) == 0 && (dist[b] < 0 || at < dist[b]) {
				dist[b] = at
			}
		}
	}
	return dist
}

func avoiding(n int, without uint) graph.Set {
	avoid := graph.NewSet(n)
	for v := range int32(n) {
		if without&(1<<v) != 0 {
			avoid.Add(v)
		}
	}
	return avoid
}

// TestTree holds distances and reachability, both ways, against a plain
// algorithm.
func TestTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		without := rapid.UintRange(0, 1<<s.n-1).Draw(t, "without")
		g, avoid := graph.New(s.n, s.edges), avoiding(s.n, without)
		for _, back := range []bool{false, true} {
			roots := s.from
			if back {
				roots = s.to
			}
			tree, reach := g.Tree(roots, graph.Direction(back), avoid), g.Reach(roots, graph.Direction(back), avoid)
			for v, want := range s.distances(back, without) {
				p, ok := tree.Path(int32(v))
				if ok != (want >= 0) || reach.Has(int32(v)) != ok || ok && p.Weight != want {
					t.Fatalf("vertex %d, backward %t: path %v, %t, reached %t; want weight %d", v, back, p, ok, reach.Has(int32(v)), want)
				}
				if ok && !slices.Contains(roots, tree.Root(int32(v))) {
					t.Fatalf("the root of %d is %d", v, tree.Root(int32(v)))
				}
			}
		}
	})
}

// TestCut holds cuts against all sets of vertices.
func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		g := graph.New(s.n, s.edges)
		capacities := rapid.SliceOfN(rapid.Int32Range(0, 3), s.n, s.n).Draw(t, "capacities") // 0: uncuttable
		capacity := func(v int32) int32 { return capacities[v] }
		parts := func(set uint) bool {
			dist := s.distances(false, set)
			return !slices.ContainsFunc(s.to, func(v int32) bool { return dist[v] >= 0 })
		}
		best := -1
		for set := range uint(1) << s.n {
			weight, ok := 0, parts(set)
			for v := range s.n {
				if set&(1<<v) != 0 {
					ok = ok && capacities[v] > 0
					weight += int(capacities[v])
				}
			}
			if ok && (best < 0 || weight < best) {
				best = weight
			}
		}
		cut, total, ok := g.Cut(s.from, s.to, capacity)
		way, open := g.Open(s.from, s.to, capacity)
		if ok != (best >= 0) || open == ok {
			t.Fatalf("cut %v: %t, open %v: %t; want %d", cut, ok, way, open, best)
		}
		if !ok {
			checkPath(t, g, s, way)
			return
		}
		set, weight := uint(0), 0
		for _, v := range cut {
			set |= 1 << v
			weight += int(capacities[v])
		}
		if weight != best || total != best || !parts(set) || bits.OnesCount(set) != len(cut) {
			t.Fatalf("cut %v weighs %d, said to be %d; want %d; parts %t", cut, weight, total, best, parts(set))
		}
	})
}

// TestDominators takes each vertex away in turn, and counts what loses its way.
func TestDominators(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		g := graph.New(s.n, s.edges)
		without := rapid.UintRange(0, 1<<s.n-1).Draw(t, "without")
		d := g.Dominators(s.to, avoiding(s.n, without))
		counts := d.Counts(func(int32) int32 { return 1 })
		whole := s.distances(true, without)
		for v := range s.n {
			left := s.distances(true, without|1<<v)
			want := int32(0)
			for w := range whole {
				if whole[w] >= 0 && left[w] < 0 {
					want++
				}
			}
			if counts[v] != want || d.Has(int32(v)) != (whole[v] >= 0) {
				t.Fatalf("without %d: %d lose their way; want %d", v, counts[v], want)
			}
		}
	})
}

// TestNewSorted holds that the order in which edges come does not count.
func TestNewSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		for i := range s.edges {
			s.edges[i].Label = int32(i)
		}
		other := rapid.Permutation(s.edges).Draw(t, "permutation")
		a, b := graph.NewSorted(s.n, s.edges, cmp.Compare), graph.NewSorted(s.n, other, cmp.Compare)
		for i := range int32(a.Edges()) {
			if a.Edge(i) != b.Edge(i) {
				t.Fatalf("edge %d is %v and %v", i, a.Edge(i), b.Edge(i))
			}
		}
		for v := range int32(s.n) {
			_, edges := a.Out(v)
			if !slices.IsSortedFunc(edges, func(x, y graph.Edge) int {
				return cmp.Or(cmp.Compare(x.To, y.To), cmp.Compare(x.Weight, y.Weight), cmp.Compare(x.Label, y.Label))
			}) {
				t.Fatalf("edges of %d are not in order: %v", v, edges)
			}
		}
	})
}

// grid is a graph of n by n vertices whose edges lead right and down.
func grid(n int32) (*graph.Graph, []int32, []int32) {
	var edges []graph.Edge
	for y := range n {
		for x := range n {
			v := y*n + x
			if x+1 < n {
				edges = append(edges, graph.Edge{From: v, To: v + 1, Weight: (v*7 + 3) % 5})
			}
			if y+1 < n {
				edges = append(edges, graph.Edge{From: v, To: v + n, Weight: (v*5 + 1) % 5})
			}
		}
	}
	return graph.New(int(n*n), edges), []int32{0}, []int32{n*n - 1}
}

func BenchmarkTree(b *testing.B) {
	for _, n := range []int32{300, 950} {
		g, _, to := grid(n)
		b.Run(fmt.Sprint(n*n), func(b *testing.B) {
			for b.Loop() {
				g.Tree(to, graph.Backward, nil)
			}
		})
	}
}

func BenchmarkShortest(b *testing.B) {
	g, from, to := grid(300)
	for b.Loop() {
		g.Shortest(from, to, 10, nil)
	}
}

func BenchmarkCut(b *testing.B) {
	g, from, to := grid(300)
	for b.Loop() {
		g.Cut(from, to, func(v int32) int32 {
			if v == from[0] || v == to[0] {
				return graph.Uncuttable
			}
			return 1
		})
	}
}

func BenchmarkDominators(b *testing.B) {
	g, _, to := grid(300)
	for b.Loop() {
		g.Dominators(to, nil)
	}
}

// TestGrowing holds what is reached while vertices come back against what is
// reached without those that have not.
func TestGrowing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		g := graph.New(s.n, s.edges)
		d := graph.Direction(rapid.Bool().Draw(t, "backward"))
		without := rapid.UintRange(0, 1<<s.n-1).Draw(t, "without")
		found := graph.NewSet(s.n)
		r := g.Growing(s.from, d, avoiding(s.n, without), func(v int32) {
			if found.Has(v) {
				t.Fatalf("%d is found twice", v)
			}
			found.Add(v)
		})
		for _, v := range rapid.Permutation([]int32{0, 1, 2, 3, 4, 5, 6}[:s.n]).Draw(t, "order") {
			if want := g.Reach(s.from, d, avoiding(s.n, without)); !slices.Equal(found, want) {
				t.Fatalf("reached %b without %b, want %b", found, without, want)
			}
			r.Readmit(v)
			without &^= 1 << v
		}
		if want := g.Reach(s.from, d, nil); !slices.Equal(found, want) {
			t.Fatalf("reached %b when all are back, want %b", found, want)
		}
	})
}
