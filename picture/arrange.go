// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"cmp"
	"slices"
)

// cell is where a thing stands: in which layer, counted from the left, and in
// which place of it, counted from the top. How far apart layers and places are
// is up to whoever draws.
type cell struct{ layer, place int }

// maxLayers is into how many layers things go apart from jewels: a long chain is
// folded, since nobody sees all of a graph that is wide and flat.
const maxLayers = 6

// sweeps is how often layers are put in order by what they are connected to.
const sweeps = 6

// arrange gives n things cells: entries stand on the left, everything else as
// many layers to the right as it is steps away, and jewels on the right. It
// takes time in proportion to things and edges, whatever their shape, which a
// layout by Graphviz does not.
func arrange(roles []Role, edges [][2]int) []cell {
	n := len(roles)
	near, next, indegree := make([][]int, n), make([][]int, n), make([]int, n)
	for _, e := range edges {
		if e[0] != e[1] {
			next[e[0]] = append(next[e[0]], e[1])
			near[e[0]] = append(near[e[0]], e[1])
			near[e[1]] = append(near[e[1]], e[0])
			indegree[e[1]]++
		}
	}
	layers := inOrder(near, inLayers(roles, next, indegree))
	out := make([]cell, n)
	for l, things := range layers {
		for i, t := range things {
			out[t] = cell{l, i}
		}
	}
	return out
}

// inLayers returns things by how far they are from where paths begin: from the
// entries, then for what they do not reach from what nothing leads to, then
// from the first of what is left.
func inLayers(roles []Role, next [][]int, indegree []int) [][]int {
	layer := make([]int, len(roles))
	for i := range layer {
		layer[i] = -1
	}
	walk := func(starts []int, at int) {
		for len(starts) > 0 {
			var found []int
			for _, s := range starts {
				layer[s] = at
			}
			for _, s := range starts {
				for _, t := range next[s] {
					if layer[t] < 0 {
						layer[t] = at + 1
						found = append(found, t)
					}
				}
			}
			starts, at = found, at+1
		}
	}
	pick := func(ok func(i int) bool) (out []int) {
		for i := range roles {
			if layer[i] < 0 && ok(i) {
				out = append(out, i)
			}
		}
		return out
	}
	entries := pick(func(i int) bool { return roles[i] == Entry })
	walk(entries, 0)
	base := min(len(entries), 1)
	walk(pick(func(i int) bool { return indegree[i] == 0 }), base)
	for i := range roles {
		if layer[i] < 0 {
			walk([]int{i}, base)
		}
	}
	return collect(roles, layer)
}

// collect lists the things of every layer, with the jewels in a last one.
func collect(roles []Role, layer []int) [][]int {
	last := 0
	for i, l := range layer {
		if roles[i] != Jewel {
			last = max(last, l)
		}
	}
	n := min(last+1, maxLayers)
	layers := make([][]int, n+1)
	for i, l := range layer {
		if l = l * n / (last + 1); roles[i] == Jewel {
			l = n
		}
		layers[l] = append(layers[l], i)
	}
	return slices.DeleteFunc(layers, func(l []int) bool { return len(l) == 0 })
}

// inOrder puts every layer in the order of the middle of what its things are
// connected to, there and back, so that edges cross less.
func inOrder(near [][]int, layers [][]int) [][]int {
	height := make([]float64, len(near))
	measure := func(things []int) {
		for i, t := range things {
			height[t] = (float64(i) + 0.5) / float64(len(things))
		}
	}
	for _, things := range layers {
		measure(things)
	}
	middle := make([]float64, len(near))
	for s := range sweeps {
		for i := range layers {
			things := layers[i]
			if s%2 == 1 {
				things = layers[len(layers)-1-i]
			}
			for _, t := range things {
				middle[t] = height[t]
				for _, o := range near[t] {
					middle[t] += height[o]
				}
				middle[t] /= float64(len(near[t]) + 1)
			}
			slices.SortStableFunc(things, func(a, b int) int { return cmp.Compare(middle[a], middle[b]) })
			measure(things)
		}
	}
	return layers
}
