// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"github.com/kyverno/sdk/extensions/cel/compiler"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
	"sconce.dev/sconce/policy/celguard"
)

// maxExpression is the longest expression that is compiled, in bytes.
const maxExpression = 64 << 10

// expression is a compiled expression.
type expression struct {
	// quick does not track what an evaluation costs; nil where it must be tracked.
	// See run.
	quick   cel.Program
	tracked func() (cel.Program, error)
	// grows says that its value may be larger than what it reads.
	grows bool
	// uses is how often it uses what it reads, counting through variables.
	uses   int
	source string
	ast    *cel.Ast
	env    *cel.Env
	guard  *celguard.Guard
	reads  reads
	// parts are the programs of parts of the expression, by their numbers: see
	// blame.
	parts sync.Map
}

// interpretable is what is evaluated.
type interpretable = cel.Program

// reads is what an expression, and the variables that it uses, read beside the
// object.
type reads struct {
	user, namespace, random, now bool
	// place is the namespace that the object, or the request, names.
	place bool
	// lookups are made of the cluster, a registry, the global context or an
	// address; kinds of the cluster, outside of the others.
	lookups, outside bool
	kinds            []object.GroupKind
}

func (r *reads) add(o reads) {
	r.user = r.user || o.user
	r.namespace = r.namespace || o.namespace
	r.place = r.place || o.place
	r.random = r.random || o.random
	r.now = r.now || o.now
	r.lookups = r.lookups || o.lookups
	r.outside = r.outside || o.outside
	for _, gk := range o.kinds {
		if !slices.Contains(r.kinds, gk) {
			r.kinds = append(r.kinds, gk)
		}
	}
}

// compilation compiles the expressions of one policy.
type compilation struct {
	env *environ
	// variables are those that are declared so far.
	variables map[string]*expression
	names     []string
	// coverage notes what the expressions of the document come to; nil where
	// nobody wants to know. at is where the one stands that is compiled.
	coverage *policy.Coverage
	document *object.Object
	at       object.Path
}

// newCompilation takes hold of the environment until done is called.
func newCompilation(f flavour) (c *compilation, done func(), err error) {
	env, err := environOf(f)
	if err != nil {
		return nil, nil, err
	}
	env.mu.Lock()
	env.variables.reset()
	return &compilation{env: env, variables: map[string]*expression{}}, env.mu.Unlock, nil
}

// compile compiles an expression of one of the given types; of any, if there are
// none.
func (c *compilation) compile(source string, want ...*cel.Type) (*expression, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("the expression is longer than %d KiB", maxExpression>>10)
	}
	ast, issues := c.env.env.Compile(source)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if got := ast.OutputType(); len(want) > 0 && !oneOf(got, want) {
		return nil, fmt.Errorf("the expression is of type %s; want %s", got, want[0])
	}
	e := &expression{source: source, ast: ast, env: c.env.env, guard: c.env.guard, reads: c.readsOf(ast.NativeRep().Expr())}
	if e.uses = c.usesOf(ast.NativeRep()); e.uses > maxUses {
		return nil, fmt.Errorf("the expression uses what it reads more than %d times, through variables that use others: use each once", maxUses)
	}
	options := programOptions(e.guard)
	if c.coverage != nil && c.at != nil {
		x := celcover.Expression{Object: c.document, Path: c.at, Source: source, Condition: ast.OutputType().IsExactType(cel.BoolType)}
		options = append(options, celcover.Option(c.coverage, x, ast.NativeRep()))
	}
	e.tracked = sync.OnceValues(func() (cel.Program, error) { return e.env.Program(ast, options...) })
	var err error
	if !c.plain(e) || c.coverage != nil {
		_, err = e.tracked()
	} else {
		e.quick, err = e.env.Program(ast, e.guard.Option(), cel.InterruptCheckFrequency(c.elements(e)), cel.EvalOptions(cel.OptOptimize))
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Tracking what an evaluation costs takes as long as the evaluation. An object of
// at most quickSize is too small to cost too much unless an expression goes
// through many elements: it is evaluated without, and once more, tracked, if it
// goes through quickElements of them, or fewer if it does quickCalls over them.
// What it compares counts as the guard counts it.
const (
	quickElements = 1000
	quickCalls    = 4000
	quickSize     = 12 << 10
)

// elements is how many elements an expression may go through before it is
// tracked.
func (c *compilation) elements(e *expression) uint {
	calls := 1
	celast.PreOrderVisit(e.ast.NativeRep().Expr(), celast.NewExprVisitor(func(n celast.Expr) {
		if n.Kind() == celast.CallKind {
			calls++
		}
	}))
	return uint(min(quickElements, max(1, quickCalls/calls)))
}

// small are functions whose value is no larger than what they are given, and that
// take no longer than reading that.
var small = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.NotStrictlyFalse: true, operators.Conditional: true,
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	operators.In: true, operators.Index: true, operators.OptIndex: true, operators.OptSelect: true, operators.Negate: true,
	operators.Subtract: true, operators.Divide: true, operators.Modulo: true,
	"startsWith": true, "endsWith": true, "contains": true, "size": true, "orValue": true, orValueFunction: true, "or": true, "value": true, "hasValue": true,
	"optional.of": true, "optional.none": true, "optional.ofNonZeroValue": true, "lowerAscii": true, "upperAscii": true, "trim": true,
	"int": true, "double": true, "dyn": true, "type": true, "quantity": true, "isQuantity": true, "isLessThan": true, "isGreaterThan": true, "compareTo": true,
}

// maxAdds is how often an expression that is not tracked may add lists or texts.
const maxAdds = 4

// plain says whether an expression can be evaluated without tracking its cost: it
// looks nothing up, calls nothing that may take long or make much of little, and
// does not add to what was added up already.
func (c *compilation) plain(e *expression) bool {
	adds, calls, plain, grown := 0, 0, !e.reads.lookups, false
	fields := map[int64]bool{} // what fields are taken of
	celast.PreOrderVisit(e.ast.NativeRep().Expr(), celast.NewExprVisitor(func(n celast.Expr) {
		switch n.Kind() {
		case celast.CallKind:
			calls++
			if name := n.AsCall().FunctionName(); name == operators.Add {
				adds++
			} else if !small[name] {
				plain = false
			}
		case celast.ListKind, celast.MapKind, celast.StructKind:
			adds += repeats(n)
		case celast.IdentKind:
			// All variables at once: there is no telling which.
			grown = grown || n.AsIdent() == compiler.VariablesKey && !fields[n.ID()]
		case celast.ComprehensionKind:
			if in := n.AsComprehension().IterRange(); in.Kind() == celast.ListKind && in.AsList().Size() == 0 {
				plain = false // cel.bind
			}
		case celast.SelectKind:
			fields[n.AsSelect().Operand().ID()] = true
			if v := c.variables[n.AsSelect().FieldName()]; v != nil {
				grown = grown || v.grows
			}
		}
	}))
	e.grows = grown || adds > 0 || !plain
	return plain && calls <= quickCalls && adds <= maxAdds && (adds == 0 || !grown)
}

// repeats is how often a list, a map or an object that an expression makes may
// hold what it was made of beyond the first time.
func repeats(n celast.Expr) int {
	made := 0
	for _, item := range itemsOf(n) {
		if item.Kind() != celast.LiteralKind {
			made++
		}
	}
	return max(0, made-1)
}

// itemsOf returns the values of a list, a map or an object that an expression
// makes.
func itemsOf(n celast.Expr) []celast.Expr {
	var out []celast.Expr
	switch n.Kind() {
	case celast.ListKind:
		return n.AsList().Elements()
	case celast.MapKind:
		for _, entry := range n.AsMap().Entries() {
			out = append(out, entry.AsMapEntry().Value())
		}
	case celast.StructKind:
		for _, field := range n.AsStruct().Fields() {
			out = append(out, field.AsStructField().Value())
		}
	}
	return out
}

// cutOff is the context of an evaluation that is cut off: it has ended before it
// begins, and is looked at when quickElements elements were gone through.
var cutOff = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// run evaluates the expression.
func (e *expression) run(ctx context.Context, a *activation) (ref.Val, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.quick != nil && a.small && !a.changed && a.exemption.small() {
		out, _, err := e.quick.ContextEval(cutOff, a)
		if !errors.Is(err, interpreter.InterruptError{}) {
			return out, err
		}
	}
	program, err := e.tracked()
	if err != nil {
		return nil, err
	}
	out, _, err := program.ContextEval(ctx, a)
	return out, err
}

// sizeOf is how large a tree is, about: no more than limit and a little. A value
// takes as long to look at as a text of eight bytes.
func sizeOf(tree any, limit int) int {
	size := 8
	switch tree := tree.(type) {
	case string:
		size += len(tree)
	case map[string]any:
		for key, value := range tree {
			if size += len(key); size > limit {
				break
			}
			size += sizeOf(value, limit-size)
		}
	case []any:
		for _, item := range tree {
			if size > limit {
				break
			}
			size += sizeOf(item, limit-size)
		}
	}
	return size
}

// programOptions bound what an evaluation costs, as the API server does, and
// what one step of it takes.
func programOptions(guard *celguard.Guard) []cel.ProgramOption {
	return []cel.ProgramOption{
		guard.Option(),
		cel.CostTracking(&celguard.Costs{}),
		cel.CostLimit(celconfig.PerCallLimit),
		cel.InterruptCheckFrequency(celconfig.CheckFrequency),
		cel.EvalOptions(cel.OptOptimize),
	}
}

func oneOf(got *cel.Type, want []*cel.Type) bool {
	for _, t := range want {
		if got.IsExactType(t) {
			return true
		}
	}
	return false
}

// variable compiles an expression and declares it.
func (c *compilation) variable(name, source string) error {
	e, err := c.compile(source)
	if err != nil {
		return err
	}
	if _, ok := c.variables[name]; !ok {
		c.names = append(c.names, name)
	}
	c.variables[name] = e
	c.env.variables.register(name, e.ast.OutputType())
	return nil
}

// lookupNames are the variables of the libraries that look something up.
var lookupNames = map[string]bool{
	compiler.ResourceKey: true, compiler.GlobalContextKey: true, compiler.HTTPKey: true, compiler.ImageDataKey: true, compiler.GeneratorKey: true, verifierKey: true,
}

// readsOf finds what an expression reads.
func (c *compilation) readsOf(e celast.Expr) reads {
	var out reads
	parts := map[int64]bool{} // of paths that were seen as a whole
	celast.PreOrderVisit(e, celast.NewExprVisitor(func(n celast.Expr) {
		if fields := fieldsOf(n, parts); fields != nil && !parts[n.ID()] {
			out.add(c.readsOfPath(fields, n.Kind() == celast.SelectKind && n.AsSelect().IsTestOnly()))
		}
		if n.Kind() == celast.CallKind {
			call := n.AsCall()
			name := call.FunctionName()
			out.random = out.random || name == "random" || name == "random.random"
			if call.IsMemberFunction() && call.Target().Kind() == celast.IdentKind && call.Target().AsIdent() == compiler.ResourceKey {
				out.add(readsOfCall(call))
				parts[call.Target().ID()] = true
			}
		}
	}))
	return out
}

// fieldsOf returns a variable and the fields that are taken of it one after the
// other, in whatever form; nil for what is no such path. It notes the parts of the
// path.
func fieldsOf(n celast.Expr, parts map[int64]bool) []string {
	var of celast.Expr
	var field string
	switch n.Kind() {
	case celast.IdentKind:
		return []string{n.AsIdent()}
	case celast.SelectKind:
		of, field = n.AsSelect().Operand(), n.AsSelect().FieldName()
	case celast.CallKind:
		call := n.AsCall()
		switch call.FunctionName() {
		case operators.OptSelect, operators.Index, operators.OptIndex:
		default:
			return nil
		}
		key := call.Args()[1]
		name, ok := types.String(""), key.Kind() == celast.LiteralKind
		if ok {
			name, ok = key.AsLiteral().(types.String)
		}
		if !ok {
			return nil
		}
		of, field = call.Args()[0], string(name)
	default:
		return nil
	}
	out := fieldsOf(of, parts)
	if out == nil {
		return nil
	}
	parts[of.ID()] = true
	return append(out, field)
}

// readsOfPath says what a path reads; tests that it is only asked whether it is
// there. What is done with a request as a whole is not looked at.
func (c *compilation) readsOfPath(fields []string, tests bool) reads {
	var out reads
	rest := fields[1:]
	switch fields[0] {
	case compiler.NamespaceObjectKey:
		out.namespace = true
	case nowKey:
		out.now = true
	case compiler.RequestKey:
		out.user = len(rest) == 0 || rest[0] == "userInfo"
		out.place = len(rest) == 0 || rest[0] == "namespace"
	case compiler.ObjectKey, compiler.OldObjectKey:
		whole := len(rest) == 1 && !tests
		out.place = len(rest) > 0 && rest[0] == "metadata" && (whole || len(rest) > 1 && rest[1] == "namespace")
	case compiler.VariablesKey:
		if len(rest) == 0 {
			for _, v := range c.variables {
				out.add(v.reads)
			}
		} else if v := c.variables[rest[0]]; v != nil {
			out.add(v.reads)
		}
	}
	if lookupNames[fields[0]] {
		out.lookups, out.outside = true, fields[0] != compiler.ResourceKey
		if !out.outside {
			out.kinds = []object.GroupKind{policy.AnyKind}
		}
	}
	return out
}

// readsOfCall says what a call of the library for resources looks up: of the kind
// that it names by its version and its plural, or of any.
func readsOfCall(call celast.CallExpr) reads {
	out := reads{lookups: true}
	switch call.FunctionName() {
	case "Post", "post", "ToGVR", "toGVR":
		return out
	}
	var words []string
	for _, arg := range call.Args() {
		word, ok := types.String(""), arg.Kind() == celast.LiteralKind
		if ok {
			word, ok = arg.AsLiteral().(types.String)
		}
		if !ok {
			break
		}
		words = append(words, string(word))
	}
	out.kinds = []object.GroupKind{policy.AnyKind}
	if len(words) >= 2 {
		if gv, err := schema.ParseGroupVersion(words[0]); err == nil {
			plural, _, _ := strings.Cut(words[1], "/")
			out.kinds[0] = policy.KindOf(gv.Group, plural)
		}
	}
	return out
}

// eval evaluates the expression. Its error is an *unknownError where something
// is needed that is not known.
func (e *expression) eval(ctx context.Context, a *activation) (ref.Val, error) {
	if what := a.lacks(e.reads); what != "" {
		return nil, &unknownError{what}
	}
	out, err := e.run(ctx, a)
	if err == nil && e.grows {
		err = a.hold(out)
	}
	if err == nil && types.IsUnknown(out) {
		err = &unknownError{"a value that is not known"}
	}
	if err == nil {
		return out, nil
	}
	return nil, e.failing(a.explain(ctx, err))
}

// failingError is that an expression fails.
type failingError struct {
	err    error
	source string
}

// Error implements error.
func (e *failingError) Error() string { return policy.Failing(e.err.Error(), e.source) }

// Unwrap returns the reason.
func (e *failingError) Unwrap() error { return e.err }

// failing says which expression fails, unless that is said already or lies in
// what is not known.
func (e *expression) failing(err error) error {
	if errors.As(err, new(*unknownError)) || errors.As(err, new(*failingError)) {
		return err
	}
	return &failingError{err, e.source}
}

// maxHeld is how large all values may be together that the expressions of a policy
// make of one request.
const maxHeld = 64 << 20

// hold counts a value that was made.
func (a *activation) hold(v ref.Val) error {
	if a.held += celguard.Size(v, maxHeld-a.held); a.held > maxHeld {
		return fmt.Errorf("the expressions make more than %d MiB of the object: simplify them", maxHeld>>20)
	}
	return nil
}

// explain finds out whether an error comes of what is not known.
func (a *activation) explain(ctx context.Context, err error) error {
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		return unknown
	case a.asked != "":
		return &unknownError{a.asked}
	case ctx.Err() != nil:
		return &unknownError{"the policy takes too long over the object: simplify its expressions"}
	}
	return err
}

// boolean evaluates a condition.
func (e *expression) boolean(ctx context.Context, a *activation) (bool, error) {
	out, err := e.eval(ctx, a)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the expression is %s, not true or false", out.Type().TypeName())
	}
	return bool(b), nil
}

// text evaluates a message.
func (e *expression) text(ctx context.Context, a *activation) (string, error) {
	out, err := e.eval(ctx, a)
	if err != nil {
		return "", err
	}
	s, ok := out.(types.String)
	if !ok {
		return "", fmt.Errorf("the expression is %s, not a string", out.Type().TypeName())
	}
	return string(s), nil
}
