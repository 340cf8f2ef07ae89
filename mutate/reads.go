// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"sconce.dev/sconce/api/v1alpha1"
)

// read is a value that the expressions of a control read, and values that they
// tell from others there.
type read struct {
	root   string // object, pod, container or item
	steps  []readStep
	values []any
	// prefixes and suffixes are what a string there may begin and end with.
	prefixes, suffixes []string
}

// readStep is a field; or an element of a list, or the key of a map, where it is
// empty.
type readStep struct {
	field string
	// entry says that the step leads to what stands at a key of a map.
	entry bool
	// keyed says that the step is to a map's key, container that the elements of
	// the list are containers.
	keyed, container bool
}

func (r *read) key() string {
	var b strings.Builder
	b.WriteString(r.root)
	for _, s := range r.steps {
		switch {
		case s.entry:
			b.WriteString("[*]")
		case s.field == "":
			b.WriteString("[]")
		default:
			b.WriteString("." + s.field)
		}
	}
	return b.String()
}

func (r *read) then(s readStep) *read {
	return &read{root: r.root, steps: append(slices.Clip(r.steps), s)}
}

// reader collects what the expressions of a control read.
type reader struct {
	spec  *v1alpha1.ControlSpec
	reads map[string]*read
	order []string
	depth int
}

// meaning is what is known of the value of an expression: where it is read from,
// and the literals that it may be or hold.
type meaning struct {
	from     []*read
	literals []any
	// listed says that from leads to the elements of a list that was made of
	// them.
	listed bool
	keyed  bool // it is a map
	// seen maps a value that is compared to one that comes out as such.
	seen func(any) []any
}

// readsOf returns what the expressions of controls read, in the order of the
// expressions.
func readsOf(specs []*v1alpha1.ControlSpec) []*read {
	r := &reader{reads: map[string]*read{}}
	for _, spec := range specs {
		r.spec = spec
		for _, p := range spec.Parameters {
			r.strings(p)
		}
		sources := []string{spec.When, spec.Require}
		for _, v := range spec.Versions {
			sources = append(sources, v.Require)
		}
		for _, s := range sources {
			if tree, err := parse(s); s != "" && err == nil {
				r.condition(tree.Expr(), map[string]meaning{})
			}
		}
	}
	out := make([]*read, 0, len(r.order))
	for _, k := range r.order {
		at := r.reads[k]
		for _, p := range at.prefixes {
			for _, s := range at.suffixes {
				r.note(at, p+s, p+"x"+s, p+s[min(1, len(s)):], p+s[:min(1, len(s))]+"x"+s[min(1, len(s)):])
			}
		}
		out = append(out, at)
	}
	return out
}

// strings returns the strings that a parameter holds by default.
func (r *reader) strings(p v1alpha1.Parameter) []any {
	var v any
	if json.Unmarshal(p.Default.RawMessage, &v) != nil {
		return nil
	}
	switch v := v.(type) {
	case []any:
		return v
	case float64:
		return []any{int64(v)}
	}
	return []any{v}
}

// note remembers a read, and values that matter there.
func (r *reader) note(at *read, values ...any) {
	key := at.key()
	known := r.reads[key]
	if known == nil {
		known = &read{root: at.root, steps: at.steps}
		r.reads[key] = known
		r.order = append(r.order, key)
	}
	for _, v := range values {
		if len(known.values) < maxValues && !slices.ContainsFunc(known.values, func(w any) bool { return fmt.Sprintf("%T%v", v, v) == fmt.Sprintf("%T%v", w, w) }) {
			known.values = append(known.values, v)
		}
	}
}

// maxValues is how many values are tried at one place.
const maxValues = 200

// against notes that a value is compared with literals.
func (r *reader) against(m meaning, values []any) {
	for _, at := range m.from {
		for _, v := range values {
			if m.seen != nil {
				r.note(at, m.seen(v)...)
			} else {
				r.note(at, v)
			}
		}
	}
}

// around returns a literal and what lies just beside it.
func around(v any) []any {
	switch v := v.(type) {
	case int64:
		return []any{v, v + 1, v - 1}
	case string:
		return []any{v, v + "x", "x" + v}
	}
	return []any{v}
}

func (r *reader) condition(e ast.Expr, vars map[string]meaning) {
	r.against(r.value(e, vars), []any{true, false})
}

// value follows an expression and returns what is known of its value.
func (r *reader) value(e ast.Expr, vars map[string]meaning) meaning {
	switch e.Kind() {
	case ast.LiteralKind:
		return meaning{literals: []any{e.AsLiteral().Value()}}
	case ast.ListKind:
		var out meaning
		for _, x := range e.AsList().Elements() {
			m := r.value(x, vars)
			out.literals = append(out.literals, m.literals...)
			out.from = append(out.from, m.from...)
			out.listed = true
		}
		return out
	case ast.MapKind:
		var out meaning
		for _, x := range e.AsMap().Entries() {
			out.literals = append(out.literals, r.value(x.AsMapEntry().Key(), vars).literals...)
		}
		return out
	case ast.IdentKind:
		if m, ok := vars[e.AsIdent()]; ok {
			return m
		}
		at := &read{root: e.AsIdent()}
		return meaning{from: []*read{at}}
	case ast.SelectKind:
		return r.field(e.AsSelect().Operand(), e.AsSelect().FieldName(), vars)
	case ast.CallKind:
		return r.call(e.AsCall(), vars)
	}
	return meaning{}
}

// field follows a field of a value.
func (r *reader) field(of ast.Expr, name string, vars map[string]meaning) meaning {
	if of.Kind() == ast.IdentKind {
		switch of.AsIdent() {
		case "params":
			for _, p := range r.spec.Parameters {
				if p.Name == name {
					return meaning{literals: r.strings(p)}
				}
			}
			return meaning{}
		case "variables":
			return r.variable(name)
		}
	}
	return r.step(r.value(of, vars), readStep{field: name})
}

func (r *reader) step(m meaning, s readStep) meaning {
	var out meaning
	for _, at := range m.from {
		next := at.then(s)
		if len(next.steps) < 12 {
			r.note(next)
			out.from = append(out.from, next)
		}
	}
	return out
}

func (r *reader) variable(name string) meaning {
	for _, v := range r.spec.Variables {
		if v.Name != name || r.depth > 20 {
			continue
		}
		tree, err := parse(v.Expression)
		if err != nil {
			return meaning{}
		}
		r.depth++
		defer func() { r.depth-- }()
		return r.value(tree.Expr(), map[string]meaning{})
	}
	return meaning{}
}

func (r *reader) call(call ast.CallExpr, vars map[string]meaning) meaning {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		for _, a := range args {
			r.condition(a, vars)
		}
		return meaning{}
	case operators.Conditional:
		r.condition(args[0], vars)
		return join(r.value(args[1], vars), r.value(args[2], vars))
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		left, right := r.value(args[0], vars), r.value(args[1], vars)
		r.against(left, near(right.literals))
		r.against(right, near(left.literals))
		return meaning{}
	case operators.In:
		left, right := r.value(args[0], vars), r.value(args[1], vars)
		r.against(left, near(right.literals))
		for _, at := range right.from {
			for _, v := range near(left.literals) {
				r.note(at.then(readStep{}), v)
			}
		}
		return meaning{}
	case operators.Add:
		left, right := r.value(args[0], vars), r.value(args[1], vars)
		return sum(left, right)
	case operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		m := r.value(args[0], vars)
		for _, v := range r.value(args[1], vars).literals {
			if n, ok := v.(int64); ok {
				r.against(m, []any{n, n + 1, n - 1, 2 * n})
			}
		}
		return m
	case operators.OptSelect:
		field, _ := args[1].AsLiteral().(types.String)
		return r.field(args[0], string(field), vars)
	case operators.Index, operators.OptIndex:
		return r.index(args, vars)
	}
	if call.IsMemberFunction() {
		return r.member(call, vars)
	}
	return r.global(call, vars)
}

func (r *reader) index(args []ast.Expr, vars map[string]meaning) meaning {
	m := r.value(args[0], vars)
	if m.listed {
		return meaning{from: m.from, literals: m.literals, seen: m.seen}
	}
	if s, ok := stringLiteral(args[1]); ok {
		return r.step(m, readStep{field: s})
	}
	if args[1].Kind() == ast.LiteralKind {
		return r.step(m, readStep{})
	}
	key := r.value(args[1], vars)
	var out meaning
	for _, v := range key.literals {
		if s, ok := v.(string); ok {
			out = join(out, r.step(m, readStep{field: s}))
		}
	}
	return join(out, r.step(m, readStep{entry: true}))
}

// near adds what lies beside each literal.
func near(values []any) []any {
	var out []any
	for _, v := range values {
		out = append(out, around(v)...)
	}
	return out
}

func join(a, b meaning) meaning {
	return meaning{
		from: slices.Concat(a.from, b.from), literals: slices.Concat(a.literals, b.literals),
		listed: a.listed || b.listed, keyed: a.keyed || b.keyed, seen: either(a.seen, b.seen),
	}
}

func either(a, b func(any) []any) func(any) []any {
	if a != nil {
		return a
	}
	return b
}

// sum is the meaning of a + b: strings joined, or lists.
func sum(a, b meaning) meaning {
	out := meaning{from: slices.Concat(a.from, b.from), listed: a.listed && b.listed, seen: either(a.seen, b.seen)}
	for _, v := range a.literals {
		for _, w := range b.literals {
			s, ok := v.(string)
			t, isString := w.(string)
			if ok && isString && len(out.literals) < maxValues {
				out.literals = append(out.literals, s+t)
			}
		}
	}
	if len(out.literals) == 0 || a.listed || b.listed {
		out.literals = append(out.literals, slices.Concat(a.literals, b.literals)...)
	}
	return out
}

func (r *reader) global(call ast.CallExpr, vars map[string]meaning) meaning {
	args := call.Args()
	if len(args) == 0 {
		return meaning{}
	}
	m := r.value(args[0], vars)
	switch call.FunctionName() {
	case "size":
		for _, at := range m.from {
			r.note(at, "", "x", "xx", []any{}, []any{"x"}, []any{"x", "xx"}, map[string]any{}, map[string]any{"x": "x"})
		}
		return meaning{}
	case "string", "int", "dyn", "quantity", "url", "ip", "cidr", "semver", "duration", "optional.of":
		for _, at := range m.from {
			r.note(at, int64(0), int64(1), "0", "1")
		}
		return m
	}
	for _, a := range args[1:] {
		r.against(m, near(r.value(a, vars).literals))
	}
	return m
}

// member follows a call of the form target.function(args).
func (r *reader) member(call ast.CallExpr, vars map[string]meaning) meaning {
	name, args := call.FunctionName(), call.Args()
	m := r.value(call.Target(), vars)
	if slices.Contains(macros, name) && len(args) >= 2 {
		return r.macro(name, m, args, vars)
	}
	switch name {
	case "orValue", "or":
		other := r.value(args[0], vars)
		r.against(m, other.literals)
		out := join(m, other)
		out.keyed = m.keyed || args[0].Kind() == ast.MapKind
		return out
	case "hasValue", "value":
		return m
	case "matches", "find", "findAll":
		if p, ok := stringLiteral(args[0]); ok {
			var values []any
			for _, s := range samples(p, 60) {
				values = append(values, s)
			}
			for _, s := range samples(p, 60) {
				values = append(values, s+" x")
			}
			for _, s := range samples(p, 20) {
				values = append(values, "x"+s, s+"x", "\n"+s, s+"\n", "/"+s, s+"/x")
			}
			r.against(m, values)
		}
		return m
	case "startsWith", "endsWith", "contains", "split", "indexOf":
		for _, v := range r.value(args[0], vars).literals {
			if s, ok := v.(string); ok {
				r.affix(m, name, s)
			}
		}
		if name == "split" {
			return split(m, r.value(args[0], vars).literals)
		}
	case "lowerAscii", "upperAscii", "trim":
		m.seen = func(v any) []any {
			s, ok := v.(string)
			if !ok {
				return []any{v}
			}
			return []any{v, strings.ToLower(s), strings.ToUpper(s), " " + s}
		}
	default:
		for _, a := range args {
			r.against(m, near(r.value(a, vars).literals))
		}
	}
	return m
}

// affix notes a string that another one begins with, ends with or holds.
func (r *reader) affix(m meaning, name, s string) {
	r.against(m, []any{s, s + "x", "x" + s, "x" + s + "x", s[:max(0, len(s)-1)] + "~", s[min(1, len(s)):], s + s})
	for _, at := range m.from {
		known := r.reads[at.key()]
		if known == nil {
			continue
		}
		switch name {
		case "startsWith":
			known.prefixes = append(known.prefixes, s)
		case "endsWith":
			known.suffixes = append(known.suffixes, s)
			r.against(m, []any{s[:min(1, len(s))] + "x" + s[min(1, len(s)):]})
		}
	}
}

// split is the meaning of the parts of a string.
func split(m meaning, separators []any) meaning {
	out := meaning{from: m.from, listed: true}
	out.seen = func(v any) []any {
		s, ok := v.(string)
		if !ok || len(separators) == 0 {
			return []any{v}
		}
		sep, _ := separators[0].(string)
		return []any{s, s + sep + "x", "x" + sep + s, s + sep + "x" + sep + "y"}
	}
	return out
}

func (r *reader) macro(name string, m meaning, args []ast.Expr, vars map[string]meaning) meaning {
	inner := map[string]meaning{}
	for k, v := range vars {
		inner[k] = v
	}
	element := m
	if !m.listed && !strings.HasPrefix(name, "opt") {
		element = r.step(meaning{from: m.from}, readStep{keyed: m.keyed})
		element.literals = m.literals
	}
	element.listed = false
	if args[0].Kind() == ast.IdentKind {
		inner[args[0].AsIdent()] = element
	}
	last := args[len(args)-1]
	switch name {
	case "map":
		out := r.value(last, inner)
		out.listed = true
		return out
	case "optMap", "optFlatMap":
		return r.value(last, inner)
	}
	r.condition(last, inner)
	return m
}
