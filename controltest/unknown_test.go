// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"testing"

	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// TestUnknownIsNoPass holds the promise for the whole catalogue: in every
// object of every fixture, each value in turn is made unknown. Where a control
// still passes the object, it must pass it whatever the value is.
func TestUnknownIsNoPass(t *testing.T) {
	l := library(t)
	replaced, undecided := 0, 0
	for _, name := range l.Controls() {
		fixture, data, err := catalog.Fixture(l.File(name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Run(l.Control(name), fixture, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Cases {
			for _, path := range paths(c.Object.Root, nil) {
				replaced++
				v := judgeWith(c.Control, c.Object, path, object.NewUnknown("not read"))
				if v.Outcome != verdict.Pass {
					undecided++
					continue
				}
				for _, value := range instead(c.Object.Root.Lookup(path)) {
					w := judgeWith(c.Control, c.Object, path, value)
					if w.Outcome == verdict.Fail {
						t.Errorf("%s of %s in %s: passes while %s is unknown, but fails if it is %s", name, c.Object.Ref, fixture, path, value.Scalar())
						break
					}
				}
			}
		}
	}
	if replaced < 1000 || undecided < replaced/20 {
		t.Errorf("only %d values were replaced, and %d of them mattered", replaced, undecided)
	}
}

// instead returns values that may take the place of one that is unknown: its
// own, none at all, and some of each kind.
func instead(own *object.Node) []*object.Node {
	return []*object.Node{
		own, object.FromAny(nil), object.NewBool(true), object.NewBool(false), object.NewInt(0), object.NewInt(70000),
		object.NewString(""), object.NewString("ALL"), object.NewString("Unconfined"), object.NewString("/"),
		object.FromAny([]any{}), object.FromAny(map[string]any{}),
	}
}

func judgeWith(c *control.Control, o *object.Object, path object.Path, value *object.Node) control.Verdict {
	changed := *o
	changed.Root = replace(o.Root, path, value)
	return c.Judge(&changed, nil)
}

// replace returns a copy of the tree with another value at the path.
func replace(n *object.Node, path object.Path, value *object.Node) *object.Node {
	if len(path) == 0 {
		return value
	}
	out := *n
	next := n.Lookup(path[:1])
	if path[0].Item {
		out.Items = append([]*object.Node(nil), n.Items...)
		for i := range out.Items {
			if out.Items[i] == next {
				out.Items[i] = replace(next, path[1:], value)
			}
		}
		return &out
	}
	out.Fields = append([]object.Field(nil), n.Fields...)
	for i := range out.Fields {
		if out.Fields[i].Key == path[0].Field {
			out.Fields[i].Value = replace(next, path[1:], value)
		}
	}
	return &out
}

// paths returns the way to every value below n, apart from what makes it an
// object of its kind.
func paths(n *object.Node, at object.Path) []object.Path {
	var out []object.Path
	for i := range n.Items {
		p := at.Append(object.Step{Item: true, Index: i})
		out = append(append(out, p), paths(n.Items[i], p)...)
	}
	for _, f := range n.Fields {
		if f.Value.Kind == object.Null || len(at) == 0 && (f.Key == "apiVersion" || f.Key == "kind") {
			continue
		}
		p := at.Append(object.Step{Field: f.Key})
		out = append(append(out, p), paths(f.Value, p)...)
	}
	return out
}
