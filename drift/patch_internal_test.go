// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/object"
)

// tree generates objects as they are in a cluster: without nulls.
func tree(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(rapid.StringMatching(`[a-c~/'<é]{0,3}`).AsAny(), rapid.Int64Range(-3, 3).AsAny(), rapid.Bool().AsAny())
	if depth == 0 {
		return scalar
	}
	named := rapid.Custom(func(t *rapid.T) any {
		return map[string]any{"name": rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), "v": tree(depth-1).Draw(t, "v")}
	})
	return rapid.OneOf(scalar,
		rapid.SliceOfN(named, 0, 4).AsAny(), rapid.SliceOfN(tree(depth-1), 0, 3).AsAny(),
		rapid.MapOfN(rapid.StringMatching(`[a-d~/]{1,2}`), tree(depth-1), 0, 4).AsAny())
}

func root(t *rapid.T, label string) *object.Node {
	return object.FromAny(normal(map[string]any{"spec": tree(4).Draw(t, label)}))
}

// normal makes lists and maps those that JSON has.
func normal(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	}
	return v
}

// TestBetween: a patch makes the one tree into the other, its inverse undoes
// that, and it does nothing to a tree in which what it changes is different.
func TestBetween(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := root(t, "from"), root(t, "to")
		got, err := between(from, to).Apply(from)
		if err != nil || !got.Equal(to) {
			t.Fatalf("%s: %v", between(from, to).JSON(), err)
		}
		back, err := between(to, from).Apply(got)
		if err != nil || !back.Equal(from) {
			t.Fatalf("%s: %v", between(to, from).JSON(), err)
		}
		if len(between(from, to)) == 0 != from.Equal(to) {
			t.Fatal("a patch is empty where there is a difference, or is not where there is none")
		}
		other := root(t, "other")
		if p := between(from, to); len(p) > 0 {
			if _, err := p.Apply(to); err == nil && !strings.Contains(string(p.JSON()), `"op":"add"`) {
				t.Fatalf("%s was made twice", p.JSON())
			}
			_, _ = p.Apply(other) // no panic
		}
	})
}

// TestLocate: a path that is shown leads to where it came from.
func TestLocate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := root(t, "tree")
		var check func(n *object.Node, at object.Path)
		check = func(n *object.Node, at object.Path) {
			if got := tree.Lookup(Locate(tree, at.String())); got != n && !strings.Contains(at.String(), "'") {
				t.Fatalf("%s leads elsewhere", at)
			}
			for _, f := range n.Fields {
				if f.Key != "" && !strings.ContainsAny(f.Key, "'") {
					check(f.Value, at.Fields(f.Key))
				}
			}
			for i := range n.Items {
				check(n.Items[i], at.Append(object.ItemStep(n, i)))
			}
		}
		check(tree, nil)
	})
}

func FuzzLocate(f *testing.F) {
	f.Add("spec.containers[app].x['a.b'][0]")
	n := object.FromAny(map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "app"}}}})
	f.Fuzz(func(_ *testing.T, s string) { _ = Locate(n, s) })
}
