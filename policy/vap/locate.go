// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"maps"
	"slices"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Where a validation fails is found by asking its parts again: which side of an
// "and" is false, which item of a list an "all" fails for. What that part reads
// is what the finding points at.

// locate returns the field that a decision is about: the deepest that exists of
// those that the expression reads. It is nil where it reads none.
func (e *evaluation) locate(d decision) object.Path {
	if d.index < 0 || d.outcome == verdict.Pass || e.object == nil || e.object.node == nil {
		return nil
	}
	f := &finder{e: e, left: maxParts}
	if d.outcome != verdict.Fail {
		f.take(e.checks[d.index].reads)
		return f.best
	}
	f.blame(e.checks[d.index].root(), scope{}, types.False)
	return f.best
}

// root is the syntax of the whole expression; nil where it could not be parsed.
func (x *expression) root() ast.Expr {
	if x.syntax == nil {
		return nil
	}
	return x.syntax.NativeRep().Expr()
}

// maxParts is how many parts of an expression are asked again.
const maxParts = 500

// finder looks for the field that a failure is about.
type finder struct {
	e    *evaluation
	best object.Path
	left int
}

// scope are the variables of loops: what they hold, and where that comes from.
type scope map[string]bindingOf

type bindingOf struct {
	value   ref.Val
	origins []origin
}

// with returns the scope and one variable more.
func (s scope) with(name string, b bindingOf) scope {
	out := maps.Clone(s)
	out[name] = b
	return out
}

// local is an activation with the variables of loops.
type local struct {
	*activation
	scope scope
}

// ResolveName implements interpreter.Activation.
func (l local) ResolveName(name string) (any, bool) {
	if b, ok := l.scope[name]; ok {
		return b.value, true
	}
	return l.activation.ResolveName(name)
}

var _ interpreter.Activation = local{}

// part returns the program of a part of an expression, which is made when the
// expression first fails; nil if it cannot be made.
func (c *compiled) part(part ast.Expr) celgo.Program {
	if made, ok := c.parts.Load(part); ok {
		return made.(celgo.Program)
	}
	proto, err := ast.ExprToProto(part)
	if err != nil {
		return nil
	}
	parsed := celgo.ParsedExprToAst(&exprpb.ParsedExpr{Expr: proto, SourceInfo: &exprpb.SourceInfo{}})
	made, err := environmentsOnce().parser.Program(parsed)
	if err != nil {
		return nil
	}
	c.parts.Store(part, made)
	return made
}

// value evaluates a part of an expression; nil if that is not possible.
func (f *finder) value(part ast.Expr, s scope) ref.Val {
	if f.left--; f.left < 0 {
		return nil
	}
	program := f.e.part(part)
	if program == nil {
		return nil
	}
	v, _, err := program.ContextEval(f.e.ctx, local{&f.e.last, s})
	if err != nil {
		return nil
	}
	return v
}

// blame finds what makes a part of an expression true or false, as it is.
func (f *finder) blame(part ast.Expr, s scope, is types.Bool) {
	if part == nil || f.left < 0 {
		return
	}
	switch part.Kind() {
	case ast.CallKind:
		if f.call(part.AsCall(), s, is) {
			return
		}
	case ast.SelectKind:
		of := part.AsSelect()
		if of.Operand().Kind() == ast.IdentKind && of.Operand().AsIdent() == "variables" && !of.IsTestOnly() {
			if v := f.e.variables[of.FieldName()]; v != nil && v.root() != nil {
				f.left--
				f.blame(v.root(), scope{}, is)
				return
			}
		}
	case ast.ComprehensionKind:
		if f.loop(part.AsComprehension(), s, is) {
			return
		}
	}
	f.reads(part, s)
}

// call goes into the operands of a logical operator; false for anything else.
func (f *finder) call(c ast.CallExpr, s scope, is types.Bool) bool {
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr:
		// One operand decides that an "and" is false or an "or" is true.
		for _, a := range args {
			if is == types.Bool(c.FunctionName() == operators.LogicalOr) && f.value(a, s) != is {
				continue
			}
			f.blame(a, s, is)
		}
		return true
	case operators.LogicalNot:
		f.blame(args[0], s, !is)
		return true
	case operators.Conditional:
		chosen := args[2]
		if f.value(args[0], s) == types.True {
			chosen = args[1]
		}
		if chosen.Kind() == ast.LiteralKind {
			chosen = args[0]
		}
		f.blame(chosen, s, is)
		return true
	}
	return false
}

// loop goes into the item for which an "all" fails, or an "exists" holds; false
// for any other loop.
func (f *finder) loop(c ast.ComprehensionExpr, s scope, is types.Bool) bool {
	step, operator := c.LoopStep(), operators.LogicalAnd
	if is {
		operator = operators.LogicalOr
	}
	if c.HasIterVar2() || step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operator {
		return false
	}
	holds := step.AsCall().Args()[1]
	over, ok := f.value(c.IterRange(), s).(traits.Lister)
	if !ok {
		return false
	}
	r := f.reader(s)
	from := r.visit(c.IterRange())
	index := -1
	for it := over.Iterator(); it.HasNext() == types.True && f.left > 0; {
		item := it.Next()
		index++
		inside := s.with(c.IterVar(), bindingOf{item, nil})
		if f.value(holds, inside) != is {
			continue
		}
		origins := f.items(from, item, index, over)
		f.reads(c.IterRange(), s)
		f.blame(holds, s.with(c.IterVar(), bindingOf{item, origins}), is)
		return true
	}
	return false
}

// items returns where an item of a list stands in the object.
func (f *finder) items(from []origin, item ref.Val, index int, over traits.Lister) []origin {
	total := 0
	for _, o := range from {
		if list := f.list(o); list != nil {
			total += len(list.Items)
		}
	}
	// A list may be several of the object's, one after the other, or some items of
	// one: these are told by their names.
	if total == int(over.Size().(types.Int)) {
		for _, o := range from {
			list := f.list(o)
			if list == nil {
				continue
			}
			if index < len(list.Items) {
				return []origin{o.to(place{kind: anItem, index: index})}
			}
			index -= len(list.Items)
		}
	}
	if m, ok := item.(traits.Mapper); ok {
		if name, found := m.Find(types.String("name")); found {
			return f.named(from, name)
		}
	}
	var out []origin
	for _, o := range from {
		out = append(out, o.to(place{kind: someOne}))
	}
	return out
}

// named returns where the item of a name stands.
func (f *finder) named(from []origin, name ref.Val) []origin {
	for _, o := range from {
		list := f.list(o)
		if list == nil {
			continue
		}
		for i, n := range list.Items {
			if types.String(n.Get("name").Str()) == name {
				return []origin{o.to(place{kind: anItem, index: i})}
			}
		}
	}
	return nil
}

// list returns the list of the object that an origin is.
func (f *finder) list(o origin) *object.Node {
	if o.root != "object" {
		return nil
	}
	n := f.e.object.node
	for _, p := range o.path {
		switch {
		case p.kind == aField:
			n = n.Get(p.field)
		case p.kind == anItem && n != nil && n.Kind == object.List && p.index >= 0 && p.index < len(n.Items):
			n = n.Items[p.index]
		default:
			return nil
		}
	}
	if n == nil || n.Kind != object.List {
		return nil
	}
	return n
}

// reader goes through a part of an expression.
func (f *finder) reader(s scope) *reader {
	r := &reader{variables: f.e.read, scope: make(map[string][]origin, len(s)), seen: map[string]bool{}}
	for name, b := range s {
		r.scope[name] = b.origins
	}
	return r
}

// reads takes the deepest field that a part of an expression reads.
func (f *finder) reads(part ast.Expr, s scope) {
	r := f.reader(s)
	r.use(part)
	f.take(&r.out)
}

func (f *finder) take(r *reads) {
	for _, x := range r.list {
		if x.root != "object" {
			continue
		}
		if path := resolve(f.e.object.node, x.path); len(path) > len(f.best) {
			f.best = path
		}
	}
}

// resolve follows an origin as far as the object has it, and as far as it says
// which item is meant.
func resolve(n *object.Node, path []place) (out object.Path) {
	for _, p := range path {
		switch {
		case p.kind == aField:
			next := n.Get(p.field)
			if next == nil {
				return out
			}
			n, out = next, out.Fields(p.field)
		case n.Kind == object.List && (p.kind == anItem && p.index >= 0 && p.index < len(n.Items) || p.kind == someOne && len(n.Items) == 1):
			i := min(p.index, len(n.Items)-1)
			out = out.Append(object.ItemStep(n, i))
			n = n.Items[i]
		default:
			return out
		}
	}
	return slices.Clip(out)
}
