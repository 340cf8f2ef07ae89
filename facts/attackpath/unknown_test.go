// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
)

// blurred returns a tree in which one value, of those that are wanted, cannot be
// known, and where that is.
func blurred(t *rapid.T, n *object.Node, wanted func(path string) bool) (*object.Node, string) {
	var ways [][]int
	var paths []string
	var walk func(n *object.Node, way []int, path string)
	walk = func(n *object.Node, way []int, path string) {
		if len(way) > 0 && wanted(path) {
			ways, paths = append(ways, slices.Clone(way)), append(paths, path)
		}
		for i, f := range n.Fields {
			walk(f.Value, append(way, i), path+"."+f.Key)
		}
		for i, item := range n.Items {
			walk(item, append(way, i), fmt.Sprintf("%s[%d]", path, i))
		}
	}
	walk(n, nil, "")
	if len(ways) == 0 {
		return n, ""
	}
	at := rapid.IntRange(0, len(ways)-1).Draw(t, "value")
	var without func(n *object.Node, way []int) *object.Node
	without = func(n *object.Node, way []int) *object.Node {
		if len(way) == 0 {
			return object.NewUnknown("it is a template")
		}
		out := *n
		out.Fields, out.Items = slices.Clone(n.Fields), slices.Clone(n.Items)
		if len(n.Fields) > 0 {
			out.Fields[way[0]].Value = without(n.Fields[way[0]].Value, way[1:])
		} else {
			out.Items[way[0]] = without(n.Items[way[0]], way[1:])
		}
		return &out
	}
	return without(n, ways[at]), paths[at]
}

// TestUnknownIsNeverNo holds that with less known, nothing is surer: where one
// value cannot be known, a path that there is may be unknown and is never none,
// and one that is sure is there whatever the value.
func TestUnknownIsNeverNo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := map[string]string{}
		for range rapid.IntRange(3, 14).Draw(t, "objects") {
			text := drawObject(t)
			texts[parse(t, text).Ref.String()] = text
		}
		refs := slices.Sorted(maps.Keys(texts))
		dim, what := rapid.SampledFrom(refs).Draw(t, "object"), ""
		var known, less []any
		for _, ref := range refs {
			o := parse(t, texts[ref])
			known = append(known, attackpath.Keep(o))
			if ref == dim {
				var root *object.Node
				root, what = blurred(t, o.Root, func(path string) bool {
					return !slices.Contains([]string{".apiVersion", ".kind", ".metadata", ".metadata.name", ".metadata.namespace"}, path)
				})
				o = object.New(root, o.Origin)
			}
			less = append(less, attackpath.Keep(o))
		}
		a, b := attackpath.New(known, complete), attackpath.New(less, complete)
		begins := begins(a)
		pairs := b.Pairs()
		for i, was := range a.Pairs() {
			p := pairs[i]
			sure, possible := named(b, p.From), named(b, slices.Concat(p.From, p.Maybe))
			for from := range named(a, slices.Concat(was.From, was.Maybe)) {
				if !possible[from] && len(p.Unknown) == 0 {
					t.Errorf("%s -> %s from %s: a path, and none where %s%s is unknown", p.Entry, p.Jewel, from, dim, what)
				}
			}
			before := named(a, was.From)
			for from := range sure {
				if begins[from] && !before[from] {
					t.Errorf("%s -> %s from %s: sure where %s%s is unknown, and not when it is known", p.Entry, p.Jewel, from, dim, what)
				}
			}
		}
	})
}

// begins are all beginnings, by their names.
func begins(g *attackpath.Graph) map[string]bool {
	var all []int
	for _, e := range g.Entries() {
		all = append(all, e.Vertices...)
	}
	return named(g, all)
}

func named(g *attackpath.Graph, vertices []int) map[string]bool {
	out := map[string]bool{}
	for _, v := range vertices {
		out[g.Name(v)] = true
	}
	return out
}
