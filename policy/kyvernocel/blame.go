// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"

	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	"github.com/kyverno/sdk/extensions/cel/compiler"

	"sconce.dev/sconce/object"
)

// The bounds of the search for what a failure is about.
const (
	maxDepth    = 64
	maxSearched = 2000 // evaluations of parts of an expression
)

// blame returns the field of the object that a requirement fails for. It follows
// the parts of the expression that made it false, into the first element of a
// list that did, down to a part that is no condition of others; of the fields
// that this part reads, it takes the one that leads deepest into the object.
func (e *expression) blame(ctx context.Context, a *activation, p *program) object.Path {
	if a.current == nil {
		return nil
	}
	b := &blamer{ctx: ctx, a: a, p: p, of: e, sees: a, places: map[string][]object.Path{}}
	b.condition(e.ast.NativeRep().Expr(), false, 0)
	return b.best
}

// blamer goes through an expression.
type blamer struct {
	ctx context.Context
	a   *activation
	p   *program
	// of is the expression that is gone through, sees what its parts see.
	of   *expression
	sees interpreter.Activation
	// places are where what the variables of macros hold may come from.
	places   map[string][]object.Path
	searched int
	best     object.Path
	weight   int
}

// part returns the program of a part of an expression. It is made when the
// expression first fails.
func (e *expression) part(n celast.Expr) (program interpretable) {
	if made, ok := e.parts.Load(n.ID()); ok {
		program, _ = made.(interpretable)
		return program
	}
	whole := e.ast.NativeRep()
	sub := celast.NewCheckedAST(celast.NewAST(n, whole.SourceInfo()), whole.TypeMap(), whole.ReferenceMap())
	if p, err := e.env.PlanProgram(sub, programOptions(e.guard)...); err == nil {
		program = p
	}
	e.parts.Store(n.ID(), program)
	return program
}

// value evaluates a part; nil where that fails.
func (b *blamer) value(n celast.Expr) ref.Val {
	b.searched++
	if b.searched > maxSearched || b.ctx.Err() != nil {
		return nil
	}
	p := b.of.part(n)
	if p == nil {
		return nil
	}
	out, _, err := p.ContextEval(b.ctx, b.sees)
	if err != nil {
		return nil
	}
	return out
}

// is says whether a part evaluates to a boolean.
func (b *blamer) is(n celast.Expr, value bool) bool {
	v := b.value(n)
	return v == types.Bool(value)
}

// with goes on where a variable of a macro has a value, found at the places.
func (b *blamer) with(name string, value any, places []object.Path, then func()) {
	sees, before, had := b.sees, b.places[name], b.places[name] != nil
	if child, err := interpreter.NewActivation(map[string]any{name: value}); err == nil {
		b.sees = interpreter.NewHierarchicalActivation(sees, child)
	}
	b.places[name] = places
	then()
	b.sees = sees
	if had {
		b.places[name] = before
	} else {
		delete(b.places, name)
	}
}

// condition looks at a part that came to a value that it must not have.
func (b *blamer) condition(n celast.Expr, came bool, depth int) {
	if depth > maxDepth {
		return
	}
	switch n.Kind() {
	case celast.CallKind:
		if b.call(n.AsCall(), came, depth) {
			return
		}
	case celast.ComprehensionKind:
		if b.macro(n.AsComprehension(), came, depth) {
			return
		}
	case celast.SelectKind:
		if v := b.variable(n); v != nil {
			b.inVariable(v, func() { b.condition(v.ast.NativeRep().Expr(), came, depth+1) })
			return
		}
	}
	b.reads(n, depth)
}

// call looks at the operands of a logical operator that decided.
func (b *blamer) call(c celast.CallExpr, came bool, depth int) bool {
	args := c.Args()
	switch name := c.FunctionName(); name {
	case operators.LogicalNot:
		b.condition(args[0], !came, depth+1)
	case operators.LogicalAnd, operators.LogicalOr:
		// One operand decides if && comes to false, or || to true; else all do.
		one := (name == operators.LogicalOr) == came
		for _, arg := range args {
			if !one || b.is(arg, came) {
				b.condition(arg, came, depth+1)
			}
		}
	case operators.Conditional:
		if b.is(args[0], true) {
			b.condition(args[1], came, depth+1)
		} else {
			b.condition(args[2], came, depth+1)
		}
	default:
		return false
	}
	return true
}

// macro looks at the element that decided a macro, or into a binding.
func (b *blamer) macro(c celast.ComprehensionExpr, came bool, depth int) bool {
	if in := c.IterRange(); in.Kind() == celast.ListKind && len(in.AsList().Elements()) == 0 {
		value := b.value(c.AccuInit())
		b.with(c.AccuVar(), value, b.sources(c.AccuInit(), 0), func() { b.condition(c.Result(), came, depth+1) })
		return value != nil
	}
	test, each := predicate(c)
	if test == nil || each == came {
		return false // the elements that there are do not decide
	}
	name := c.IterVar()
	if c.HasIterVar2() {
		name = c.IterVar2()
	}
	lists, total := b.sources(c.IterRange(), 0), 0
	for _, list := range lists {
		items, _ := b.at(list).([]any)
		total += len(items)
	}
	in, _ := b.value(c.IterRange()).(traits.Lister)
	// As many elements as there are in the object are all of them.
	all := in == nil || in.Size() == types.Int(total)
	for _, list := range lists {
		items, _ := b.at(list).([]any)
		for i, item := range items {
			found := false
			b.with(name, item, []object.Path{list.Append(object.Step{Item: true, Index: i})}, func() {
				// Whether the macro looks at the element takes longer to tell.
				found = b.is(test, came) && (all || in.Contains(types.DefaultTypeAdapter.NativeToValue(item)) == types.True)
				if found {
					b.condition(test, came, depth+1)
				}
			})
			if found {
				return true
			}
		}
	}
	return false
}

// predicate returns what all and exists ask of each element, and what the macro
// comes to where there are none.
func predicate(c celast.ComprehensionExpr) (test celast.Expr, each bool) {
	init, step := c.AccuInit(), c.LoopStep()
	if init.Kind() != celast.LiteralKind || step.Kind() != celast.CallKind || len(step.AsCall().Args()) != 2 {
		return nil, false
	}
	name := step.AsCall().FunctionName()
	switch {
	case init.AsLiteral() == types.True && name == operators.LogicalAnd:
		return step.AsCall().Args()[1], true
	case init.AsLiteral() == types.False && name == operators.LogicalOr:
		return step.AsCall().Args()[1], false
	}
	return nil, false
}

// variable returns the variable of the policy that a part is, or nil.
func (b *blamer) variable(n celast.Expr) *expression {
	s := n.AsSelect()
	if o := s.Operand(); o.Kind() == celast.IdentKind && o.AsIdent() == compiler.VariablesKey && !s.IsTestOnly() {
		return b.p.variables[s.FieldName()]
	}
	return nil
}

// inVariable goes on in the expression of a variable, which sees no others.
func (b *blamer) inVariable(v *expression, then func()) {
	of, sees, places := b.of, b.sees, b.places
	b.of, b.sees, b.places = v, b.a, map[string][]object.Path{}
	then()
	b.of, b.sees, b.places = of, sees, places
}

// reads offers all fields that a part reads.
func (b *blamer) reads(n celast.Expr, depth int) {
	if depth > maxDepth {
		return
	}
	found := b.sources(n, 0)
	for _, path := range found {
		b.offer(path)
	}
	switch n.Kind() {
	case celast.SelectKind:
		if found == nil {
			b.reads(n.AsSelect().Operand(), depth+1)
		}
	case celast.CallKind:
		if n.AsCall().IsMemberFunction() {
			b.reads(n.AsCall().Target(), depth+1)
		}
		for _, arg := range n.AsCall().Args() {
			b.reads(arg, depth+1)
		}
	case celast.ListKind:
		for _, item := range n.AsList().Elements() {
			b.reads(item, depth+1)
		}
	case celast.ComprehensionKind:
		c := n.AsComprehension()
		b.reads(c.IterRange(), depth+1)
		b.reads(c.LoopStep(), depth+1)
		b.reads(c.Result(), depth+1)
	}
}

// offer takes a path if it is better than the best so far: one that leads deeper
// is. What only says which object it is comes last.
func (b *blamer) offer(path object.Path) {
	path = b.existing(path)
	if len(path) == 0 {
		return
	}
	weight := 2 + len(path)
	switch {
	case path[0].Field == "apiVersion" || path[0].Field == "kind":
		weight = 1
	case path[0].Field == "metadata" && len(path) > 1 && (path[1].Field == "name" || path[1].Field == "namespace"):
		weight = 2
	}
	if weight > b.weight {
		b.best, b.weight = path, weight
	}
}

// step goes one step down into a tree.
func step(tree any, s object.Step) (any, bool) {
	if s.Item {
		list, ok := tree.([]any)
		if !ok || s.Index >= len(list) {
			return nil, false
		}
		return list[s.Index], true
	}
	fields, _ := tree.(map[string]any)
	next, ok := fields[s.Field]
	return next, ok && next != nil
}

// existing cuts a path where the object ends.
func (b *blamer) existing(path object.Path) object.Path {
	var tree any = b.a.current
	for i, s := range path {
		next, ok := step(tree, s)
		if !ok {
			return path[:i]
		}
		tree = next
	}
	return path
}

// at returns what is at a path; nil if there is nothing.
func (b *blamer) at(path object.Path) any {
	var tree any = b.a.current
	for _, s := range path {
		tree, _ = step(tree, s)
	}
	return tree
}

// sources returns the places of the object that a value may come from.
func (b *blamer) sources(n celast.Expr, depth int) []object.Path {
	if depth > maxDepth {
		return nil
	}
	switch n.Kind() {
	case celast.IdentKind:
		if n.AsIdent() == compiler.ObjectKey {
			return []object.Path{{}}
		}
		return b.places[n.AsIdent()]
	case celast.SelectKind:
		if v := b.variable(n); v != nil {
			var out []object.Path
			b.inVariable(v, func() { out = b.sources(v.ast.NativeRep().Expr(), depth+1) })
			return out
		}
		return below(b.sources(n.AsSelect().Operand(), depth+1), n.AsSelect().FieldName())
	case celast.CallKind:
		return b.callSources(n.AsCall(), depth)
	case celast.ComprehensionKind:
		// What a filter leaves is in the list that it goes through; that a map goes
		// through says at least where its values come from.
		return b.sources(n.AsComprehension().IterRange(), depth+1)
	}
	return nil
}

// through are the functions whose value is, or is in, that of their operands.
var through = map[string]bool{
	operators.Add: true, operators.Conditional: true, orValueFunction: true, "orValue": true, "or": true, "value": true,
	"optional.of": true, "optional.ofNonZeroValue": true, "flatten": true,
}

func (b *blamer) callSources(c celast.CallExpr, depth int) []object.Path {
	args := c.Args()
	switch name := c.FunctionName(); {
	case (name == operators.OptSelect || name == operators.Index || name == operators.OptIndex) && len(args) == 2 && args[1].Kind() == celast.LiteralKind:
		return b.indexed(args[0], args[1].AsLiteral(), depth)
	case !through[name]:
		return nil
	}
	var out []object.Path
	if c.IsMemberFunction() {
		out = b.sources(c.Target(), depth+1)
	}
	for _, arg := range args {
		out = append(out, b.sources(arg, depth+1)...)
	}
	return out
}

func (b *blamer) indexed(operand celast.Expr, key ref.Val, depth int) []object.Path {
	of := b.sources(operand, depth+1)
	switch key := key.(type) {
	case types.String:
		return below(of, string(key))
	case types.Int:
		out := make([]object.Path, len(of))
		for i := range of {
			out[i] = of[i].Append(object.Step{Item: true, Index: int(max(0, key))})
		}
		return out
	}
	return of
}

// below returns the paths with a field added.
func below(paths []object.Path, field string) []object.Path {
	out := make([]object.Path, len(paths))
	for i, p := range paths {
		out[i] = p.Fields(field)
	}
	return out
}
