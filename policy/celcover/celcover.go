// SPDX-License-Identifier: Apache-2.0

// Package celcover notes what the conditions in CEL expressions come to while
// policies are run: the expression itself, each side of && and ||, the condition
// of each ?:, and what all, exists and filter ask of each element.
//
// It watches programs from within, by a decorator that programs are planned
// with. Programs that nobody watches are planned without.
package celcover

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Expression is an expression of a policy.
type Expression struct {
	Object *object.Object
	Path   object.Path
	Source string
	// Rule is the rule that it stands in; where it is in the policy, if there are
	// no rules with names.
	Rule string
	// Condition says that it comes to true or false.
	Condition bool
}

// The ways of a condition, and of what is only run.
var (
	bothWays = []string{"true", "false"}
	run      = []string{""}
)

// Option returns the option with which the program of an expression is planned,
// and declares the expression and its parts. The tree is what the program is
// planned from.
func Option(c *policy.Coverage, x Expression, tree *ast.AST) cel.ProgramOption {
	return cel.CustomDecoratorV2(watch(c, x, tree))
}

// watch returns what wraps those steps of a program that are conditions.
func watch(c *policy.Coverage, x Expression, tree *ast.AST) interpreter.InterpretableDecoratorV2 {
	path := x.Path.String()
	rule := cmp.Or(x.Rule, strings.TrimPrefix(path, "spec."))
	numbers := map[int64]int{}
	for i, p := range parts(tree, x.Condition) {
		p.start = begin(x.Source, p.start)
		numbers[p.id] = i
		ways := bothWays
		if i == 0 && !x.Condition {
			ways = run
		}
		at := x.Object.PositionIn(x.Path, p.start)
		c.Declare(policy.Place{Policy: x.Object.Ref, Path: path, Part: i}, rule, at, textAt(x.Source, p.start, i == 0), ways...)
	}
	return func(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		number, ok := numbers[step.ID()]
		if !ok {
			return step, nil
		}
		note := func(v ref.Val) ref.Val {
			way, ok := wayOf(v)
			if number == 0 && !x.Condition {
				way, ok = "", true
			}
			if ok {
				c.Hit(policy.Place{Policy: x.Object.Ref, Path: path, Part: number}, way)
			}
			return v
		}
		switch inner := step.(type) {
		case *watchedAttribute, *watched, interpreter.InterpretableConst:
			return step, nil
		case interpreter.InterpretableAttribute:
			return &watchedAttribute{inner, note}, nil
		}
		return &watched{step, note}, nil
	}
}

// wayOf is what a condition comes to; false where it comes to neither: an error,
// or what is not known.
func wayOf(v ref.Val) (string, bool) {
	switch v {
	case types.True:
		return "true", true
	case types.False:
		return "false", true
	}
	return "", false
}

// watched is a step whose values are noted.
type watched struct {
	interpreter.InterpretableV2
	note func(ref.Val) ref.Val
}

// Eval implements interpreter.Interpretable.
func (w *watched) Eval(vars interpreter.Activation) ref.Val {
	return w.note(w.InterpretableV2.Eval(vars))
}

// Exec implements interpreter.InterpretableV2.
func (w *watched) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return w.note(w.InterpretableV2.Exec(frame))
}

// watchedAttribute is a step that fields may be read of.
type watchedAttribute struct {
	interpreter.InterpretableAttribute
	note func(ref.Val) ref.Val
}

// Eval implements interpreter.Interpretable.
func (w *watchedAttribute) Eval(vars interpreter.Activation) ref.Val {
	return w.note(w.InterpretableAttribute.Eval(vars))
}

// Exec implements interpreter.InterpretableV2.
func (w *watchedAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return w.note(w.InterpretableAttribute.Exec(frame))
}

// part is a condition within an expression.
type part struct {
	id    int64
	start int // in characters
}

// finder finds the parts of an expression.
type finder struct {
	info  *ast.SourceInfo
	parts []part
}

// parts returns the expression itself and the conditions in it, in the order of
// the text.
func parts(tree *ast.AST, condition bool) []part {
	f := &finder{info: tree.SourceInfo()}
	root := tree.Expr()
	f.walk(root, nil, false)
	slices.SortStableFunc(f.parts, func(a, b part) int { return a.start - b.start })
	f.parts = slices.DeleteFunc(f.parts, func(p part) bool { return p.id == root.ID() })
	if condition && root.Kind() == ast.LiteralKind {
		return nil // it goes one way only
	}
	return append([]part{{root.ID(), 0}}, f.parts...)
}

// walk looks at an expression and all within; operand says that it is a
// condition that another depends on.
func (f *finder) walk(e, above ast.Expr, operand bool) {
	if operand && f.written(e, above) {
		f.parts = append(f.parts, part{e.ID(), f.start(e)})
	}
	switch e.Kind() {
	case ast.CallKind:
		f.call(e)
	case ast.SelectKind:
		f.walk(e.AsSelect().Operand(), e, false)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			f.walk(x, e, false)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			f.walk(x.AsMapEntry().Key(), e, false)
			f.walk(x.AsMapEntry().Value(), e, false)
		}
	case ast.StructKind:
		for _, x := range e.AsStruct().Fields() {
			f.walk(x.AsStructField().Value(), e, false)
		}
	case ast.ComprehensionKind:
		fold := e.AsComprehension()
		f.walk(fold.AccuInit(), e, false)
		f.walk(fold.IterRange(), e, false)
		f.walk(fold.LoopStep(), e, false)
		f.walk(fold.Result(), e, false)
	}
}

func (f *finder) call(e ast.Expr) {
	call := e.AsCall()
	if call.IsMemberFunction() {
		f.walk(call.Target(), e, false)
	}
	name := call.FunctionName()
	for i, arg := range call.Args() {
		f.walk(arg, e, name == operators.LogicalAnd || name == operators.LogicalOr || name == operators.Conditional && i == 0)
	}
}

// written says whether an operand is a condition that somebody wrote: no
// constant, nothing that a macro was made into, and not itself made of
// conditions with && and ||, whose parts are looked at instead.
func (f *finder) written(e, above ast.Expr) bool {
	inner := e
	for inner.Kind() == ast.CallKind && inner.AsCall().FunctionName() == operators.LogicalNot {
		inner = inner.AsCall().Args()[0]
	}
	switch inner.Kind() {
	case ast.LiteralKind:
		return false
	case ast.IdentKind:
		if name := inner.AsIdent(); strings.HasPrefix(name, "@") || strings.HasPrefix(name, "__") {
			return false
		}
	case ast.CallKind:
		if name := inner.AsCall().FunctionName(); name == operators.LogicalAnd || name == operators.LogicalOr || name == operators.NotStrictlyFalse {
			return false
		}
	}
	at, ok := f.info.GetOffsetRange(e.ID())
	over, _ := f.info.GetOffsetRange(above.ID())
	return ok && at != over
}

// start returns where an expression begins.
func (f *finder) start(e ast.Expr) int {
	first := int32(math.MaxInt32)
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if at, ok := f.info.GetOffsetRange(e.ID()); ok {
			first = min(first, at.Start)
		}
	}))
	if first == math.MaxInt32 {
		return 0
	}
	return int(first)
}

// begin goes back from the bracket of a function to its name: the tree has no
// place of it.
func begin(source string, start int) int {
	runes := []rune(source)
	if start >= len(runes) || runes[start] != '(' {
		return start
	}
	for start > 0 && (runes[start-1] == '_' || runes[start-1] == '.' || unicode.IsLetter(runes[start-1]) || unicode.IsDigit(runes[start-1])) {
		start--
	}
	return start
}

// maxText is how much of an expression is told, in characters.
const maxText = 160

// textAt returns the condition that begins at a character, on one line.
func textAt(source string, start int, whole bool) string {
	runes := []rune(source)
	runes = runes[min(start, len(runes)):]
	if !whole {
		runes = runes[:length(runes)]
	}
	text := []rune(strings.Join(strings.Fields(string(runes)), " "))
	if len(text) > maxText {
		return string(text[:maxText]) + "…"
	}
	return string(text)
}

// length is how long the condition is that a text begins with: up to the
// operator, or the bracket, behind it.
func length(text []rune) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\'':
			i = closing(text, i)
		case strings.ContainsRune("([{", c):
			depth++
		case strings.ContainsRune(")]}", c):
			if depth--; depth < 0 {
				return i
			}
		case depth == 0 && (c == ',' || c == ':' || c == '?' && !optional(text, i) || (c == '&' || c == '|') && i+1 < len(text) && text[i+1] == c):
			return i
		}
	}
	return len(text)
}

// optional says whether a question mark is that of an optional field.
func optional(text []rune, i int) bool {
	return i > 0 && (text[i-1] == '.' || text[i-1] == '[')
}

// closing returns where the string ends that begins at a quote.
func closing(text []rune, i int) int {
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case '\\':
			j++
		case text[i]:
			return j
		}
	}
	return len(text)
}

// Programs tells of the programs that the API server's compiler plans: it takes
// no options of a program, but those of an environment.
type Programs struct {
	coverage *policy.Coverage
	env      *environment.EnvSet
	mu       sync.Mutex
	next     []Expression
}

// Watch returns an environment whose programs are watched, and what they are
// told to. Without anybody who wants to know, the environment is the same, and
// nothing needs to be told.
func Watch(c *policy.Coverage, env *environment.EnvSet) (*environment.EnvSet, *Programs, error) {
	if c == nil {
		return env, nil, nil
	}
	p := &Programs{coverage: c, env: env}
	watched, err := env.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		ProgramOptions:    []cel.ProgramOption{each(p.option)},
	})
	return watched, p, err
}

// each is the option that asks for another one for each program.
func each[Program any, Option ~func(Program) (Program, error)](option func() Option) Option {
	return func(p Program) (Program, error) { return option()(p) }
}

// Expect tells of the expressions that are compiled next, in their order.
func (p *Programs) Expect(all ...Expression) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = append(p.next, all...)
}

// option returns the option for the program that is planned now.
func (p *Programs) option() cel.ProgramOption {
	p.mu.Lock()
	defer p.mu.Unlock()
	nothing := func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) { return i, nil }
	if len(p.next) == 0 {
		return cel.CustomDecoratorV2(nothing)
	}
	x := p.next[0]
	p.next = p.next[1:]
	if x.Object == nil {
		return cel.CustomDecoratorV2(nothing) // of nobody's
	}
	env, err := p.env.Env(environment.StoredExpressions)
	if err != nil {
		return cel.CustomDecoratorV2(nothing)
	}
	// Parsing numbers the parts of an expression as compiling does.
	tree, issues := env.Parse(x.Source)
	if issues.Err() != nil {
		return cel.CustomDecoratorV2(nothing)
	}
	return Option(p.coverage, x, tree.NativeRep())
}
