// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
)

// paths returns the way to every value of an object, apart from what makes it
// one of its kind.
func paths(n *object.Node, at object.Path) []object.Path {
	var out []object.Path
	for i := range n.Items {
		p := at.Append(object.Step{Item: true, Index: i})
		out = append(append(out, p), paths(n.Items[i], p)...)
	}
	for _, f := range n.Fields {
		if len(at) == 0 && (f.Key == "apiVersion" || f.Key == "kind") {
			continue
		}
		p := at.Append(object.Step{Field: f.Key})
		out = append(append(out, p), paths(f.Value, p)...)
	}
	return out
}

// replace returns a copy of the tree with another value at a path, or without
// any if that is nil.
func replace(n *object.Node, path object.Path, value *object.Node) *object.Node {
	if len(path) == 0 {
		return value
	}
	out := *n
	if path[0].Item {
		i := path[0].Index
		if i >= len(n.Items) {
			return n
		}
		out.Items = slices.Clone(n.Items)
		if by := replace(n.Items[i], path[1:], value); by != nil {
			out.Items[i] = by
		} else {
			out.Items = slices.Delete(out.Items, i, i+1)
		}
		return &out
	}
	out.Fields = slices.Clone(n.Fields)
	for i, f := range n.Fields {
		if f.Key != path[0].Field {
			continue
		}
		if by := replace(f.Value, path[1:], value); by != nil {
			out.Fields[i].Value = by
		} else {
			out.Fields = slices.Delete(out.Fields, i, i+1)
		}
		break
	}
	return &out
}

// put returns a copy of the tree with a value at the end of the steps; what is
// missing on the way is made. A step into a list leads to its first element, or
// to a new one.
func put(n *object.Node, steps []readStep, value *object.Node, another bool) *object.Node {
	if len(steps) == 0 {
		return value
	}
	step, rest := steps[0], steps[1:]
	switch {
	case step.entry:
		return putEntry(n, rest, value)
	case step.field != "":
		return putField(n, step.field, rest, value, another)
	case n != nil && n.Kind == object.Map || step.keyed:
		if len(rest) == 0 && value.Kind == object.String { // its keys are gone through
			return putField(n, value.Text, nil, object.NewString("x"), another)
		}
		return putEntry(n, rest, value)
	}
	out := object.Node{Kind: object.List}
	if n != nil && n.Kind == object.List {
		out.Items = slices.Clone(n.Items)
	}
	deeper := slices.ContainsFunc(rest, func(s readStep) bool { return s.field == "" })
	if len(out.Items) == 0 || another && !deeper {
		var element *object.Node
		if step.container && len(rest) > 0 {
			element = object.FromAny(map[string]any{"name": "case", "image": "example.com/app:1"})
		}
		out.Items = append(out.Items, put(element, rest, value, false))
	} else {
		out.Items[0] = put(out.Items[0], rest, value, another)
	}
	return &out
}

func putField(n *object.Node, field string, rest []readStep, value *object.Node, another bool) *object.Node {
	out := object.Node{Kind: object.Map}
	if n != nil && n.Kind == object.Map {
		out.Fields = slices.Clone(n.Fields)
	}
	for i := range out.Fields {
		if out.Fields[i].Key == field {
			out.Fields[i].Value = put(out.Fields[i].Value, rest, value, another)
			return &out
		}
	}
	out.Fields = append(out.Fields, object.Field{Key: field, Value: put(nil, rest, value, another)})
	return &out
}

// putEntry changes what stands at the last key of a map.
func putEntry(n *object.Node, rest []readStep, value *object.Node) *object.Node {
	if n != nil && n.Kind == object.Map && len(n.Fields) > 0 {
		last := n.Fields[len(n.Fields)-1]
		return putField(n, last.Key, rest, value, false)
	}
	return putField(nil, "key", rest, value, false)
}

// render writes a tree as YAML. What a verdict points at stands on lines of its
// own.
func render(n *object.Node, verdicts ...control.Verdict) string {
	apart := map[*object.Node]bool{}
	for _, v := range verdicts {
		for _, f := range v.Findings {
			for i := range len(f.Path) + 1 {
				if at := n.Lookup(f.Path[:i]); at != nil {
					apart[at] = true
				}
			}
		}
	}
	w := &writer{apart: apart}
	w.block(n, "")
	return w.b.String()
}

type writer struct {
	b      strings.Builder
	apart  map[*object.Node]bool
	spread bool // every value stands on a line of its own
}

// maxFlow is how long a value may be to be written on one line.
const maxFlow = 60

// block writes the fields or items of a value, each beginning on a new line.
func (w *writer) block(n *object.Node, indent string) {
	if n.Kind == object.List {
		for _, item := range n.Items {
			w.b.WriteString(indent + "-")
			if item.Kind == object.Map && len(item.Fields) > 0 && !w.short(item) {
				inner := &writer{apart: w.apart, spread: w.spread}
				inner.block(item, indent+"  ")
				w.b.WriteString(" " + strings.TrimPrefix(inner.b.String(), indent+"  "))
				continue
			}
			w.value(item, indent+"  ")
		}
		return
	}
	for _, f := range w.ordered(n.Fields) {
		w.b.WriteString(indent + scalar(object.NewString(f.Key)) + ":")
		inner := indent + "  "
		if f.Value.Kind == object.List {
			inner = indent
		}
		w.value(f.Value, inner)
	}
}

// ordered puts the fields that a verdict points at behind others, so that they
// do not stand on the line of the item that holds them.
func (w *writer) ordered(fields []object.Field) []object.Field {
	var out, last []object.Field
	for _, f := range fields {
		if w.apart[f.Value] {
			last = append(last, f)
		} else {
			out = append(out, f)
		}
	}
	return append(out, last...)
}

// value writes a value after its key or dash.
func (w *writer) value(n *object.Node, indent string) {
	if len(n.Fields) == 0 && len(n.Items) == 0 || w.short(n) {
		w.b.WriteString(" " + flow(n) + "\n")
		return
	}
	w.b.WriteString("\n")
	w.block(n, indent)
}

// short says whether a value is written on one line.
func (w *writer) short(n *object.Node) bool {
	return !w.spread && !w.below(n) && len(flow(n)) <= maxFlow
}

func (w *writer) below(n *object.Node) bool {
	return w.apart[n] || slices.ContainsFunc(n.Items, w.below) ||
		slices.ContainsFunc(n.Fields, func(f object.Field) bool { return w.below(f.Value) })
}

func flow(n *object.Node) string {
	var parts []string
	switch n.Kind {
	case object.List:
		for _, item := range n.Items {
			parts = append(parts, flow(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case object.Map:
		for _, f := range n.Fields {
			parts = append(parts, scalar(object.NewString(f.Key))+": "+flow(f.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return scalar(n)
}

// scalar writes a value that holds no others; a string bare where it can only
// be one.
func scalar(n *object.Node) string {
	switch n.Kind {
	case object.Null:
		return "null"
	case object.String:
		s := n.Text
		bare := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-:") == "" && !strings.HasPrefix(s, "-")
		if bare && !strings.HasSuffix(s, ":") {
			if back, err := object.ParseYAML(object.Text{Bytes: []byte(s), Line: 1}); err == nil && back != nil && back.Kind == object.String && back.Text == s {
				return s
			}
		}
		data, err := json.Marshal(s)
		if err != nil {
			return strconv.Quote(s)
		}
		return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(data))
	case object.Bool:
		return strconv.FormatBool(n.Bool())
	}
	return n.Scalar()
}
