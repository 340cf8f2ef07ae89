// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"github.com/kyverno/sdk/extensions/cel/compiler"

	"sconce.dev/sconce/object"
)

// maxBlame bounds how deep variables and ranges are followed.
const maxBlame = 16

// blame returns the field of the object that a requirement fails for: the deepest
// that there is of those that the expression reads. In a macro over a list, it
// is that of the element that the macro ended with.
func (e *expression) blame(ctx context.Context, a *activation, p *program) object.Path {
	if a.current == nil {
		return nil
	}
	tracked, err := e.env.Program(e.ast, append(programOptions(), cel.EvalOptions(cel.OptTrackState))...)
	if err != nil {
		return nil
	}
	_, details, err := tracked.ContextEval(ctx, a)
	if err != nil || details == nil {
		return nil
	}
	b := &blamer{a: a, p: p, state: details.State(), ranges: map[string]celast.Expr{}}
	b.visit(e.ast.NativeRep().Expr(), 0)
	return b.best
}

// blamer goes through an expression.
type blamer struct {
	a     *activation
	p     *program
	state interpreter.EvalState
	// ranges are what the variables of macros go through.
	ranges map[string]celast.Expr
	best   object.Path
	weight int
}

// visit looks at all reads of an expression that were made.
func (b *blamer) visit(e celast.Expr, depth int) {
	if depth > 4*maxBlame {
		return
	}
	switch e.Kind() {
	case celast.SelectKind, celast.IdentKind:
		if _, read := b.state.Value(e.ID()); read || e.Kind() == celast.SelectKind && e.AsSelect().IsTestOnly() {
			for _, path := range b.sources(e, 0) {
				b.offer(path)
			}
		}
		if e.Kind() == celast.SelectKind {
			b.visit(e.AsSelect().Operand(), depth+1)
		}
	case celast.CallKind:
		for _, path := range b.sources(e, 0) {
			b.offer(path)
		}
		if e.AsCall().IsMemberFunction() {
			b.visit(e.AsCall().Target(), depth+1)
		}
		for _, arg := range e.AsCall().Args() {
			b.visit(arg, depth+1)
		}
	case celast.ListKind:
		for _, item := range e.AsList().Elements() {
			b.visit(item, depth+1)
		}
	case celast.ComprehensionKind:
		c := e.AsComprehension()
		b.visit(c.IterRange(), depth+1)
		b.ranges[c.IterVar()] = c.IterRange()
		if c.AccuVar() != "" && c.IterRange().Kind() == celast.ListKind && len(c.IterRange().AsList().Elements()) == 0 {
			b.ranges[c.AccuVar()] = c.AccuInit() // cel.bind
		}
		b.visit(c.LoopStep(), depth+1)
		b.visit(c.Result(), depth+1)
	}
}

// offer takes a path if it is better than the best so far: one into a list is,
// then one that leads deeper. What only says which object it is comes last.
func (b *blamer) offer(path object.Path) {
	path, items := b.existing(path)
	weight := 2 + 100*items + 2*len(path)
	switch {
	case len(path) == 0:
		return
	case path[0].Field == "apiVersion" || path[0].Field == "kind":
		weight = 1
	case path[0].Field == "metadata" && len(path) > 1 && (path[1].Field == "name" || path[1].Field == "namespace"):
		weight = 2
	}
	if weight > b.weight {
		b.best, b.weight = path, weight
	}
}

// existing cuts a path where the object ends, and counts the items in it.
func (b *blamer) existing(path object.Path) (object.Path, int) {
	var at any = b.a.current
	items := 0
	for i, step := range path {
		if step.Item {
			list, ok := at.([]any)
			if !ok || step.Index >= len(list) {
				return path[:i], items
			}
			at = list[step.Index]
			items++
			continue
		}
		fields, ok := at.(map[string]any)
		next, there := fields[step.Field]
		if !ok || !there || next == nil {
			return path[:i], items
		}
		at = next
	}
	return path, items
}

// sources returns the places of the object that a value may come from.
func (b *blamer) sources(e celast.Expr, depth int) []object.Path {
	if depth > maxBlame {
		return nil
	}
	switch e.Kind() {
	case celast.IdentKind:
		return b.identSources(e, depth)
	case celast.SelectKind:
		s := e.AsSelect()
		if o := s.Operand(); o.Kind() == celast.IdentKind && o.AsIdent() == compiler.VariablesKey {
			if v := b.p.variables[s.FieldName()]; v != nil {
				return b.sources(v.ast.NativeRep().Expr(), depth+1)
			}
			return nil
		}
		return below(b.sources(s.Operand(), depth+1), s.FieldName())
	case celast.CallKind:
		return b.callSources(e.AsCall(), depth)
	case celast.ComprehensionKind:
		// What a filter leaves is in the list that it goes through; a map's range
		// says at least where the values come from.
		return b.sources(e.AsComprehension().IterRange(), depth+1)
	}
	return nil
}

func (b *blamer) identSources(e celast.Expr, depth int) []object.Path {
	name := e.AsIdent()
	if name == compiler.ObjectKey {
		return []object.Path{{}}
	}
	in, ok := b.ranges[name]
	if !ok {
		return nil
	}
	lists := b.sources(in, depth+1)
	value, _ := b.state.Value(e.ID())
	if value == nil {
		return lists
	}
	for _, path := range lists {
		if i := b.indexOf(path, value); i >= 0 {
			return []object.Path{path.Append(object.Step{Item: true, Index: i})}
		}
	}
	return lists
}

// indexOf returns the index of an element in the list at a path, or -1.
func (b *blamer) indexOf(path object.Path, value ref.Val) int {
	var at any = b.a.current
	for _, step := range path {
		if step.Item {
			list, ok := at.([]any)
			if !ok || step.Index >= len(list) {
				return -1
			}
			at = list[step.Index]
			continue
		}
		fields, ok := at.(map[string]any)
		if !ok {
			return -1
		}
		at = fields[step.Field]
	}
	list, _ := at.([]any)
	for i, item := range list {
		if types.DefaultTypeAdapter.NativeToValue(item).Equal(value) == types.True {
			return i
		}
	}
	return -1
}

// through are the functions whose value is, or is in, that of their operands.
var through = map[string]bool{
	"_+_": true, "_?_:_": true, "orValue": true, orValueFunction: true, "or": true, "hasValue": true, "value": true,
	"optional.of": true, "optional.ofNonZeroValue": true, "flatten": true, "keys": true, "size": true,
}

func (b *blamer) callSources(c celast.CallExpr, depth int) []object.Path {
	args := c.Args()
	switch name := c.FunctionName(); {
	case (name == "_?._" || name == "_[_]" || name == "_[?_]") && len(args) == 2 && args[1].Kind() == celast.LiteralKind:
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
		for i := range of {
			of[i] = of[i].Append(object.Step{Item: true, Index: int(max(0, key))})
		}
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
