// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"slices"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"

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
		f.take(e.checks[d.index].reads.list, nil)
		return f.best
	}
	f.blame(e.checks[d.index].root(), nil, types.False)
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
	// path and nodes are used again and again.
	path  []place
	nodes []*object.Node
}

// scope are the variables of loops, innermost first: what they hold, and where
// that comes from.
type scope struct {
	name    string
	value   ref.Val
	origins []origin
	outer   *scope
}

// find returns the variable of a name, or nil.
func (s *scope) find(name string) *scope {
	for s != nil && s.name != name {
		s = s.outer
	}
	return s
}

// local is an activation with the variables of loops.
type local struct {
	*activation
	scope *scope
}

// ResolveName implements interpreter.Activation.
func (l *local) ResolveName(name string) (any, bool) {
	if s := l.scope.find(name); s != nil {
		return s.value, true
	}
	return l.activation.ResolveName(name)
}

var _ interpreter.Activation = (*local)(nil)

// part is what is known of a part of an expression. It is found out when the
// expression first fails.
type part struct {
	program celgo.Program // nil if it cannot be made
	// reads is what the part reads, origins where its value comes from. Those in
	// the value of the variable of a loop have a root of its name: see loopRoot.
	reads   []read
	origins []origin
}

// loopRoot is the root of what is in the value of the variable of a loop.
func loopRoot(name string) string { return "$" + name }

// part returns what is known of a part of an expression, which is always in the
// same loops.
func (c *compiled) part(e ast.Expr, s *scope) *part {
	if made, ok := c.parts.Load(e); ok {
		return made.(*part)
	}
	p := &part{}
	if proto, err := ast.ExprToProto(e); err == nil {
		parsed := celgo.ParsedExprToAst(&exprpb.ParsedExpr{Expr: proto, SourceInfo: &exprpb.SourceInfo{}})
		if p.program, err = environmentsOnce().parser.Program(parsed); err != nil {
			p.program = nil
		}
	}
	r := &reader{variables: c.read, scope: map[string][]origin{}, seen: map[string]bool{}}
	for ; s != nil; s = s.outer {
		r.scope[s.name] = []origin{{root: loopRoot(s.name)}}
	}
	p.origins = r.visit(e)
	r.all(p.origins, contents)
	p.reads = r.out.list
	c.parts.Store(e, p)
	return p
}

// value evaluates a part of an expression; nil if that is not possible.
func (f *finder) value(part ast.Expr, s *scope) ref.Val {
	if f.left--; f.left < 0 {
		return nil
	}
	if v := f.variable(part); v != nil {
		return v
	}
	program := f.e.part(part, s).program
	if program == nil {
		return nil
	}
	v, _, err := program.Eval(&local{&f.e.last, s})
	if err != nil {
		return nil
	}
	return v
}

// variable returns the value of a variable of the policy, if that is what a part
// is.
func (f *finder) variable(part ast.Expr) ref.Val {
	if part.Kind() != ast.SelectKind || f.e.last.variables == nil {
		return nil
	}
	s := part.AsSelect()
	if s.IsTestOnly() || s.Operand().Kind() != ast.IdentKind || s.Operand().AsIdent() != cel.VariableVarName {
		return nil
	}
	if v, _ := f.e.last.variables.Find(types.String(s.FieldName())); v != nil && !types.IsUnknownOrError(v) {
		return v
	}
	return nil
}

// blame finds what makes a part of an expression true or false, as it is.
func (f *finder) blame(part ast.Expr, s *scope, is types.Bool) {
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
				f.blame(v.root(), nil, is)
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
func (f *finder) call(c ast.CallExpr, s *scope, is types.Bool) bool {
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
func (f *finder) loop(c ast.ComprehensionExpr, s *scope, is types.Bool) bool {
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
	inside := &scope{name: c.IterVar(), outer: s}
	index, sure := -1, over.Size() == types.IntOne // the only item is the one
	for it := over.Iterator(); it.HasNext() == types.True && f.left > 0; {
		inside.value = it.Next()
		index++
		if !sure && f.value(holds, inside) != is {
			continue
		}
		inside.origins = f.items(f.origins(c.IterRange(), s), inside.value, index, over)
		f.reads(c.IterRange(), s)
		f.blame(holds, inside, is)
		return true
	}
	return false
}

// origins returns where the value of a part of an expression comes from.
func (f *finder) origins(e ast.Expr, s *scope) []origin {
	all := f.e.part(e, s).origins
	out := make([]origin, 0, len(all))
	for _, o := range all {
		for _, from := range outside(o, s) {
			out = append(out, origin{from.root, slices.Clone(f.join(from.path, o.path))})
		}
	}
	return out
}

// outside returns where an origin begins that may be in the variable of a loop.
func outside(o origin, s *scope) []origin {
	for ; s != nil; s = s.outer {
		if o.root == loopRoot(s.name) {
			return s.origins
		}
	}
	return []origin{{root: o.root}}
}

// join returns the path of what is further down; it holds until the next call.
func (f *finder) join(from, further []place) []place {
	f.path = append(f.path[:0], from...)
	for _, p := range further {
		n := len(f.path)
		switch {
		case p.kind == wrapped && n > 0 && f.path[n-1].kind == someOne:
			f.path = f.path[:n-1]
		case p.kind != wrapped && n > 0 && f.path[n-1].kind == wrapped:
			if p.kind != aField {
				f.path = f.path[:n-1]
			}
		default:
			f.path = append(f.path, p)
		}
	}
	return f.path
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

// reads takes the deepest field that a part of an expression reads.
func (f *finder) reads(e ast.Expr, s *scope) {
	f.take(f.e.part(e, s).reads, s)
}

func (f *finder) take(all []read, s *scope) {
	for _, x := range all {
		for _, from := range outside(x.origin, s) {
			if from.root == "object" {
				f.resolve(f.join(from.path, x.path))
			}
		}
	}
}

// resolve follows an origin as far as the object has it, and as far as it says
// which item is meant, and keeps that if it is the deepest so far.
func (f *finder) resolve(path []place) {
	f.nodes = append(f.nodes[:0], f.e.object.node)
	for _, p := range path {
		n := below(f.nodes[len(f.nodes)-1], p)
		if n == nil {
			break
		}
		f.nodes = append(f.nodes, n)
	}
	depth := len(f.nodes) - 1
	if depth <= len(f.best) {
		return
	}
	f.best = make(object.Path, depth)
	for i, n := range f.nodes[:depth] {
		if f.best[i] = (object.Step{Field: path[i].field}); path[i].kind != aField {
			f.best[i] = object.ItemStep(n, min(path[i].index, len(n.Items)-1))
		}
	}
}

// below returns the value one step further down, or nil where there is none, or
// several.
func below(n *object.Node, p place) *object.Node {
	switch {
	case p.kind == aField:
		return n.Get(p.field)
	case n.Kind != object.List:
	case p.kind == anItem && p.index >= 0 && p.index < len(n.Items):
		return n.Items[p.index]
	case p.kind == someOne && len(n.Items) == 1:
		return n.Items[0]
	}
	return nil
}
