// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/facts/network"
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
// value cannot be known, what can be connected to may be unknown and is never
// denied, and what surely can be is so whatever the value.
func TestUnknownIsNeverNo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: true}
		known := w.objects()
		for i := range rapid.IntRange(0, 3).Draw(t, "ways") {
			known = append(known, newObject(w.way(20+i)))
		}
		at := rapid.IntRange(0, len(known)-1).Draw(t, "object")
		root, what := blurred(t, known[at].Root, func(path string) bool {
			return strings.HasPrefix(path, ".spec") || strings.HasPrefix(path, ".metadata.labels")
		})
		what = known[at].Ref.String() + what
		less := slices.Clone(known)
		less[at] = object.New(root, known[at].Origin)
		a, b := network.NewModel(keepAll(known), complete), network.NewModel(keepAll(less), complete)
		peers := map[string][2]network.Peer{"outside": {}}
		for _, c := range a.Classes() {
			peers[c.Refs[0].String()] = [2]network.Peer{{Class: c}, {Class: classOf(b, c.Refs[0])}}
		}
		for from, x := range peers {
			for to, y := range peers {
				sure, possible := a.Ports(x[0], y[0]), a.PossiblePorts(x[0], y[0])
				if now := b.PossiblePorts(x[1], y[1]); !possible.Minus(now).Empty() {
					t.Errorf("%s -> %s: %v, and %v where %s is unknown", from, to, possible, now, what)
				}
				if now := b.Ports(x[1], y[1]); !now.Minus(sure).Empty() {
					t.Errorf("%s -> %s: surely %v where %s is unknown, and %v when it is known", from, to, now, what, sure)
				}
			}
		}
		now := exposed(b)
		for ref, is := range exposed(a) {
			if is && !now[ref] {
				t.Errorf("%s is exposed, and not where %s is unknown", ref, what)
			}
		}
	})
}

// classOf is the class that an object is of.
func classOf(m *network.Model, ref object.Ref) *network.Class {
	for _, c := range m.Classes() {
		if slices.Contains(c.Refs, ref) {
			return c
		}
	}
	return nil
}

// exposed are the objects whose pods are, or may be, exposed.
func exposed(m *network.Model) map[object.Ref]bool {
	out := map[object.Ref]bool{}
	for _, e := range m.Exposures() {
		for _, ref := range e.Class.Refs {
			out[ref] = out[ref] || e.Allowed || e.Unknown != ""
		}
	}
	return out
}
