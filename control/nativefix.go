// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// NativeFix is a control's fix in the words of a MutatingAdmissionPolicy.
type NativeFix struct {
	// Variables are read as variables.NAME, each after those it uses.
	Variables []v1alpha1.Variable
	// Patch is a list of JSONPatch: what the fix does to each element that
	// fails, and nothing where none does.
	Patch string
}

// NativeFix returns the control's fix in the words of a MutatingAdmissionPolicy,
// or why it has none.
func (c *Control) NativeFix(opts NativeOptions) (*NativeFix, error) {
	if c.Spec.Fix == nil {
		return nil, errors.New("the control has no fix")
	}
	if err := c.Compile(); err != nil {
		return nil, err
	}
	now := &side{object: varObject, pod: "pod"}
	w := &nativeWriter{c: c, opts: opts}
	check, err := w.check(now)
	if err != nil {
		return nil, err
	}
	if opts.Excuse != nil {
		if check, err = w.excused(check); err != nil {
			return nil, err
		}
	}
	patches, err := w.patches(now)
	if err != nil {
		return nil, err
	}
	out := &NativeFix{Patch: w.list(now, "!("+check+")", patches) + ".flatten()"}
	out.Variables = append(w.variables(now), v1alpha1.Variable{Name: "podPointer", Expression: w.podCase(pointer, "''")})
	if !c.Spec.Match.Pods {
		out.Variables = out.Variables[:len(out.Variables)-1]
	}
	return out, nil
}

// pointer returns the expression of a path of fields as a JSON pointer.
func pointer(p object.Path) string {
	text := ""
	for _, s := range p {
		text += "/" + escaped(s.Field)
	}
	return quote(text)
}

// escaped returns a field as a step of a JSON pointer.
func escaped(field string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(field)
}

// patches returns the expression of what the fix does to one element.
func (w *nativeWriter) patches(s *side) (string, error) {
	c := w.c
	var parts []string
	made := map[string]bool{}
	for _, r := range c.remove {
		p, err := w.target(s, r)
		if err != nil {
			return "", err
		}
		parts = append(parts, p.value(len(p.fields))+".hasValue() ? ["+p.op("remove", len(p.fields), "", "")+"] : []")
	}
	for _, e := range c.set {
		p, err := w.target(s, e.place)
		if err != nil {
			return "", err
		}
		value, err := jsonLiteral(e.value)
		if err != nil {
			return "", err
		}
		parts = append(p.parents(parts, made), "["+p.op("add", len(p.fields), "", value)+"]")
	}
	for _, a := range c.add {
		p, err := w.target(s, a.place)
		if err != nil {
			return "", err
		}
		if parts, err = p.extend(p.parents(parts, made), a.values); err != nil {
			return "", err
		}
	}
	if len(parts) == 0 {
		return "", errors.New("its fix edits nothing")
	}
	return "(" + strings.Join(parts, ") + (") + ")", nil
}

// jsonLiteral returns a value of a fix as CEL.
func jsonLiteral(v v1alpha1.Value) (string, error) {
	var value any
	if err := json.Unmarshal(v.RawMessage, &value); err != nil {
		return "", fmt.Errorf("reading a value of the fix: %w", err)
	}
	return literal(object.FromAny(value)), nil
}

// target is a place that a fix edits.
type target struct {
	from    string // the expression of what its fields are in
	pointer string // that of its JSON pointer
	fields  []string
}

// target returns where a place is.
func (w *nativeWriter) target(s *side, p place) (*target, error) {
	e := &w.c.elements
	out := &target{fields: p.fields, pointer: "''", from: s.object}
	switch {
	case len(p.fields) == 0:
		return nil, errors.New("its fix removes a whole element of a list, and others would move")
	case p.base == atObject:
	case p.base == atPod, p.base == atElement && !e.set && w.c.Spec.Match.Pods:
		out.from, out.pointer = w.podOf(s), "variables.podPointer"
	case p.base == atElement && !e.set:
	case p.base == atContainer, e.containers && len(e.fields) == 0:
		out.from, out.pointer = varContainer, containerPointer
	default:
		var err error
		out.from = varItem
		if out.pointer, err = w.itemPointer(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// containerPointer is the expression of the JSON pointer of a container.
const containerPointer = "variables.podPointer + '/spec/' + " + containerList + " + '/' + string(at)"

// itemPointer returns the expression of the JSON pointer of an element.
func (w *nativeWriter) itemPointer() (string, error) {
	e := &w.c.elements
	out := "''"
	switch {
	case e.containers:
		out = containerPointer
	case e.pod:
		out = "variables.podPointer"
	}
	for i, f := range e.fields {
		last := i == len(e.fields)-1
		switch {
		case f == entries, !last && !mapFields[f]:
			return "", fmt.Errorf("its fix edits elements of %s, whose way is not known beforehand", w.c.Spec.ForEach)
		case last:
			out += " + " + quote("/"+escaped(f)+"/") + " + string(" + indexVar(i) + ")"
		default:
			out += " + " + quote("/"+escaped(f))
		}
	}
	return out, nil
}

// value returns the expression of the optional value at the first n fields.
func (t *target) value(n int) string {
	out := t.from
	for _, f := range t.fields[:n] {
		out += ".?" + field(f)
	}
	return out
}

// op returns the expression of an edit at the first n fields, or at what stands
// at a suffix of them.
func (t *target) op(op string, n int, suffix, value string) string {
	path := ""
	for _, f := range t.fields[:n] {
		path += "/" + escaped(f)
	}
	out := "JSONPatch{op: " + quote(op) + ", path: " + t.pointer + " + " + quote(path+suffix)
	if value != "" {
		out += ", value: " + value
	}
	return out + "}"
}

// parents adds the edits that make what is missing above the target, each once.
func (t *target) parents(parts []string, made map[string]bool) []string {
	for n := 1; n < len(t.fields); n++ {
		value := t.value(n)
		if made[value] {
			continue
		}
		made[value] = true
		parts = append(parts, value+".hasValue() ? [] : ["+t.op("add", n, "", "{}")+"]")
	}
	return parts
}

// extend adds the edits that put values into a list that lacks them.
func (t *target) extend(parts []string, values []v1alpha1.Value) ([]string, error) {
	var literals, missing []string
	all := len(t.fields)
	for _, v := range values {
		l, err := jsonLiteral(v)
		if err != nil {
			return nil, err
		}
		literals = append(literals, l)
		missing = append(missing, l+" in "+t.value(all)+listOrNone+" ? [] : ["+t.op("add", all, "/-", l)+"]")
	}
	there := "(" + strings.Join(slices.Clone(missing), ") + (") + ")"
	return append(parts, t.value(all)+".hasValue() ? "+there+" : ["+t.op("add", all, "", "["+strings.Join(literals, ", ")+"]")+"]"), nil
}
