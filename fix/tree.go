// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"math"
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// edit is an Edit whose items are addressed by their place in the tree as it
// now is, and whose value is parsed.
type edit struct {
	op    verdict.EditOp
	path  object.Path
	value *object.Node
	// target is what a removal takes away: the path, or the list or map above
	// it that would be left empty.
	target object.Path
	// done says that there was nothing to do.
	done bool
	// gone says that an earlier edit removed an item on the path.
	gone bool
}

// ApplyTree makes the edits in the tree and returns a new one that shares what
// was not changed: it is what the text must parse to afterwards. The error is
// always a *Refused.
func ApplyTree(root *object.Node, edits []verdict.Edit) (*object.Node, error) {
	todo, err := resolve(root, edits)
	if err != nil {
		return nil, err
	}
	for i := range todo {
		if root, err = todo[i].apply(root, todo[i+1:]); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// resolve finds the items that the edits' paths name and parses their values.
func resolve(root *object.Node, edits []verdict.Edit) ([]edit, error) {
	out := make([]edit, len(edits))
	for i, e := range edits {
		path, err := indexed(root, e.Steps)
		if err != nil {
			return nil, err
		}
		out[i] = edit{op: e.Op, path: path}
		switch e.Op {
		case verdict.Remove:
			continue
		case verdict.Set, verdict.Add:
		default:
			return nil, refuse("unknown edit %q; want set, remove or add", e.Op)
		}
		if out[i].value, err = parseValue(e.Value.RawMessage); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseValue reads an edit's value, which is in no source yet.
func parseValue(raw []byte) (*object.Node, error) {
	if len(raw) == 0 {
		raw = []byte("null")
	}
	docs, err := object.ParseJSON(raw)
	if err != nil || len(docs) != 1 {
		return nil, refuse("the edit's value %q is not JSON", raw)
	}
	settle(docs[0])
	return docs[0], nil
}

// settle takes a value's positions away and makes whole numbers integers, as
// kubectl reads them: 2.0 is 2.
func settle(n *object.Node) {
	n.Line, n.Col = 0, 0
	if f := n.Float(); n.Kind == object.Float && f == math.Trunc(f) && f >= math.MinInt64 && f < math.MaxInt64 {
		*n = *object.NewInt(int64(f))
	}
	for i := range n.Fields {
		n.Fields[i].KeyLine, n.Fields[i].KeyCol = 0, 0
		settle(n.Fields[i].Value)
	}
	for _, item := range n.Items {
		settle(item)
	}
}

// indexed returns the path with the index of every item that it names by key.
func indexed(root *object.Node, path object.Path) (object.Path, error) {
	out := slices.Clone(path)
	for i := range out {
		if !out[i].Item || out[i].Key == "" {
			continue
		}
		list, item := root.Lookup(path[:i]), root.Lookup(path[:i+1])
		if item == nil {
			return nil, refuse("there is no %s", path[:i+1])
		}
		out[i].Index = slices.Index(list.Items, item)
	}
	return out, nil
}

// apply makes the edit in the tree. Where it removes an item, the paths of the
// edits after it follow. Where the tree says already what is wanted it is
// returned as it is.
func (e *edit) apply(root *object.Node, after []edit) (*object.Node, error) {
	next, err := e.next(root, after)
	if err != nil {
		return nil, err
	}
	if e.done = e.done || next.Equal(root); e.done {
		return root, nil
	}
	return next, nil
}

func (e *edit) next(root *object.Node, after []edit) (*object.Node, error) {
	if e.gone {
		if e.op == verdict.Remove {
			return root, nil
		}
		return nil, refuse("%s is removed by an edit before this one", e.path)
	}
	switch e.op {
	case verdict.Set:
		return put(root, e.path, 0, e.value)
	case verdict.Add:
		return e.add(root)
	}
	return e.remove(root, after)
}

// add appends to the list unless it holds the value.
func (e *edit) add(root *object.Node) (*object.Node, error) {
	list := at(root, e.path)
	if list == nil || list.Kind == object.Null {
		return put(root, e.path, 0, &object.Node{Kind: object.List, Items: []*object.Node{e.value}})
	}
	if list.Kind != object.List {
		return nil, refuse("%s is a %s, not a list", shown(e.path), list.Kind)
	}
	if slices.ContainsFunc(list.Items, e.value.Equal) {
		return root, nil
	}
	longer := *list
	longer.Items = append(slices.Clip(list.Items), e.value)
	return put(root, e.path, 0, &longer)
}

// remove takes the path away, and every list and map above it that this leaves
// empty.
func (e *edit) remove(root *object.Node, after []edit) (*object.Node, error) {
	if n := at(root, e.path); n == nil || n.Kind == object.Null && !last(e.path).Item {
		return root, nil
	}
	e.target = e.path
	for len(e.target) > 0 {
		parent := at(root, e.target[:len(e.target)-1])
		if len(parent.Fields)+len(parent.Items) > 1 {
			break
		}
		e.target = e.target[:len(e.target)-1]
	}
	if len(e.target) == 0 {
		return nil, refuse("nothing would be left of the document")
	}
	if last(e.target).Item {
		for i := range after {
			after[i].follow(e.target)
		}
	}
	return cut(root, e.target), nil
}

// follow moves the edit's path after the item at the removed path has gone.
func (e *edit) follow(removed object.Path) {
	depth := len(removed) - 1
	if len(e.path) <= depth || !slices.EqualFunc(e.path[:depth], removed[:depth], sameStep) || !e.path[depth].Item {
		return
	}
	switch gone := removed[depth].Index; {
	case e.path[depth].Index == gone:
		e.gone = true
	case e.path[depth].Index > gone:
		e.path = slices.Clone(e.path)
		e.path[depth].Index--
	}
}

func sameStep(a, b object.Step) bool {
	return a.Item == b.Item && a.Field == b.Field && (!a.Item || a.Index == b.Index)
}

func last(p object.Path) object.Step {
	if len(p) == 0 {
		return object.Step{}
	}
	return p[len(p)-1]
}

// at follows an indexed path; unlike Lookup it returns fields that are null.
func at(n *object.Node, path object.Path) *object.Node {
	for _, s := range path {
		if n == nil {
			return nil
		}
		if s.Item {
			if n.Kind != object.List || s.Index < 0 || s.Index >= len(n.Items) {
				return nil
			}
			n = n.Items[s.Index]
			continue
		}
		i := fieldIndex(n, s.Field)
		if i < 0 {
			return nil
		}
		n = n.Fields[i].Value
	}
	return n
}

func fieldIndex(n *object.Node, key string) int {
	if n.Kind != object.Map {
		return -1
	}
	return slices.IndexFunc(n.Fields, func(f object.Field) bool { return f.Key == key })
}

// put returns the tree with the value at the path; depth is how much of the
// path leads to n.
func put(n *object.Node, path object.Path, depth int, value *object.Node) (*object.Node, error) {
	if depth == len(path) {
		return value, nil
	}
	s := path[depth]
	if n == nil || n.Kind == object.Null {
		if s.Item {
			return nil, refuse("there is no %s", path[:depth+1])
		}
		n = &object.Node{Kind: object.Map}
	}
	out := *n
	if s.Item {
		if n.Kind != object.List {
			return nil, refuse("%s is a %s, not a list", shown(path[:depth]), n.Kind)
		}
		if s.Index < 0 || s.Index >= len(n.Items) {
			return nil, refuse("there is no %s", path[:depth+1])
		}
		child, err := put(n.Items[s.Index], path, depth+1, value)
		out.Items = slices.Clone(n.Items)
		out.Items[s.Index] = child
		return &out, err
	}
	if n.Kind != object.Map {
		return nil, refuse("%s is a %s, not a map", shown(path[:depth]), n.Kind)
	}
	i := fieldIndex(n, s.Field)
	var old *object.Node
	if i >= 0 {
		old = n.Fields[i].Value
	}
	child, err := put(old, path, depth+1, value)
	if i < 0 {
		out.Fields = append(slices.Clip(n.Fields), object.Field{Key: s.Field, Value: child})
		return &out, err
	}
	out.Fields = slices.Clone(n.Fields)
	out.Fields[i].Value = child
	return &out, err
}

// cut returns the tree without what is at the path, which exists.
func cut(n *object.Node, path object.Path) *object.Node {
	out := *n
	s := path[0]
	switch i := fieldIndex(n, s.Field); {
	case s.Item && len(path) == 1:
		out.Items = slices.Delete(slices.Clone(n.Items), s.Index, s.Index+1)
	case s.Item:
		out.Items = slices.Clone(n.Items)
		out.Items[s.Index] = cut(n.Items[s.Index], path[1:])
	case len(path) == 1:
		out.Fields = slices.Delete(slices.Clone(n.Fields), i, i+1)
	default:
		out.Fields = slices.Clone(n.Fields)
		out.Fields[i].Value = cut(n.Fields[i].Value, path[1:])
	}
	return &out
}

// shown names a path for a message.
func shown(p object.Path) string {
	if len(p) == 0 {
		return "the document"
	}
	return p.String()
}
