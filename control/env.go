// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"

	"sconce.dev/sconce/object"
)

// environmentVersion is the version of Kubernetes whose CEL libraries controls
// are written in: the one that k8s.io/apiserver is pinned to. It is not the
// version that a baseline judges for.
var environmentVersion = version.MajorMinor(1, 37)

// CostLimit is what judging one object by one control may cost, in the units
// of CEL's cost model. It is what the API server grants one expression of a
// ValidatingAdmissionPolicy, which loops over the elements itself.
const CostLimit = celconfig.PerCallLimit

// The variables that expressions read.
const (
	varObject    = "object"
	varPod       = "pod"
	varContainer = "container"
	varItem      = "item"
	varParams    = "params"
	varVariables = "variables"
	varNamespace = "namespaceObject"
)

// env is the CEL environment of the API server's admission policies, with the
// names that a control adds: in a ValidatingAdmissionPolicy they are bound by
// comprehensions, so that the same expression runs there.
var env = sync.OnceValues(func() (*cel.Env, error) {
	namespace := plugincel.BuildNamespaceType()
	set, err := environment.MustBaseEnvSet(environmentVersion).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions: []cel.EnvOption{
			cel.Variable(varObject, cel.DynType),
			cel.Variable(varPod, cel.DynType),
			cel.Variable(varContainer, cel.DynType),
			cel.Variable(varItem, cel.DynType),
			cel.Variable(varParams, cel.DynType),
			cel.Variable(varVariables, cel.DynType),
			cel.Variable(varNamespace, namespace.CelType()),
		},
		DeclTypes: []*apiservercel.DeclType{namespace},
	}, environment.StrictCostOpt)
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	return set.NewExpressionsEnv(), nil
})

// evalEnv has the functions and types of env without its cost tracking, which
// takes half of an evaluation's time: for expressions whose cost is bounded
// before they run. optional's own evaluation comes with cel.OptionalTypes; what
// else the libraries add to a program only tracks cost.
var evalEnv = sync.OnceValues(func() (*cel.Env, error) {
	return reducedEnv(func(string) bool { return true })
})

// reducedEnv returns an environment that evaluates what env checked, with those
// of its functions that are chosen.
func reducedEnv(chosen func(name string) bool) (*cel.Env, error) {
	full, err := env()
	if err != nil {
		return nil, err
	}
	var functions []*decls.FunctionDecl
	for name, f := range full.Functions() {
		if chosen(name) {
			functions = append(functions, f)
		}
	}
	return cel.NewCustomEnv(
		cel.OptionalTypes(),
		cel.CustomTypeAdapter(full.CELTypeAdapter()),
		cel.CustomTypeProvider(full.CELTypeProvider()),
		cel.FunctionDecls(functions...),
	)
}

// coreFunctions are those that nearly every expression makes do with. A program
// takes all functions of its environment into a table of its own.
var coreFunctions = map[string]bool{
	"size": true, "startsWith": true, "endsWith": true, "contains": true, "matches": true, "string": true, "int": true, "dyn": true,
	"orValue": true, "or": true, "hasValue": true, "value": true, "lowerAscii": true, "trim": true, "split": true, "replace": true,
	"substring": true, "optional.of": true, "optional.none": true, "optional.ofNonZeroValue": true,
}

// operator says whether a function is an operator, as CEL names them: _&&_, @in.
func operator(name string) bool { return strings.ContainsAny(name, "_@!?[") }

// coreEnv is evalEnv with no functions but the core ones.
var coreEnv = sync.OnceValues(func() (*cel.Env, error) {
	return reducedEnv(func(name string) bool { return operator(name) || coreFunctions[name] })
})

// expression is a CEL expression that is compiled when it is first needed.
type expression struct {
	source string
	want   *cel.Type
	once   sync.Once
	err    error
	ast    *cel.Ast
	// bound is the most that one evaluation can cost for an object of any size.
	bound       uint64
	loops       bool // goes through lists or maps
	core        bool // calls no functions but the core ones
	fast, exact func() (cel.Program, error)
	opaque      bool
}

func newExpression(source string, want *cel.Type) *expression {
	return &expression{source: source, want: want}
}

// Expressions are compiled expressions by their text. The zero value is ready
// to be used; it is safe for concurrent use.
type Expressions struct {
	known sync.Map // of *expression by expressionKey
}

type expressionKey struct {
	source    string
	condition bool
}

// expression returns the expression of a text: always a new one, if there are
// no Expressions to keep it.
func (x *Expressions) expression(source string, want *cel.Type) *expression {
	e := newExpression(source, want)
	if x == nil {
		return e
	}
	kept, _ := x.known.LoadOrStore(expressionKey{source, want == cel.BoolType}, e)
	return kept.(*expression)
}

// compile compiles the expression; calling it again costs nothing.
func (e *expression) compile() error {
	e.once.Do(func() { e.err = e.build() })
	return e.err
}

// CELError says what is wrong with an expression, and where in its text.
type CELError struct {
	// Line and Col count from 1 in the expression's own text; 0 if not known.
	Line, Col int
	Msg       string
}

// Error returns the reason.
func (e *CELError) Error() string { return e.Msg }

// An expression is evaluated without tracking its cost where that is bounded
// some other way: by its form, for objects of any size (lowBound); or, for small
// objects, by cutting it off when it has gone through maxIterations elements.
// What is charged for those is what the like costs as a rule. Where an
// evaluation is cut off, or the charges add up to the limit, the object is
// judged once more, exactly.
const (
	lowBound      = CostLimit / 10_000
	maxIterations = 1000
	smallCharge   = 100
)

// maxExact is how many elements an evaluation goes through where its cost is
// tracked. That takes time that grows with their square, and is not part of the
// cost: 200,000 strings in an object of 1.6 MB took minutes.
const maxExact = 10_000

func (e *expression) build() error {
	env, err := env()
	if err != nil {
		return err
	}
	ast, issues := env.Compile(e.source)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return &CELError{first.Location.Line(), first.Location.Column() + 1, first.Message}
	}
	if got := ast.OutputType(); e.want != nil && !got.IsExactType(e.want) && !got.IsExactType(cel.DynType) && !got.IsExactType(cel.AnyType) {
		return &CELError{1, 1, fmt.Sprintf("must be a %s, but is a %s", e.want, got)}
	}
	e.ast, e.opaque = ast, opaque(ast)
	e.bound = estimate(env, ast)
	e.loops, e.core = shape(ast)
	e.prepare()
	return nil
}

// prepare makes the two programs, each when it is first needed.
func (e *expression) prepare() {
	e.fast = sync.OnceValues(func() (cel.Program, error) {
		evaluate := evalEnv
		if e.core {
			evaluate = coreEnv
		}
		env, err := evaluate()
		if err != nil {
			return nil, err
		}
		opts := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
		if e.bound > lowBound && e.loops {
			opts = append(opts, cel.InterruptCheckFrequency(maxIterations))
		}
		return env.Program(e.ast, opts...)
	})
	e.exact = sync.OnceValues(func() (cel.Program, error) {
		env, err := env()
		if err != nil {
			return nil, err
		}
		if !e.loops {
			return env.Program(e.ast)
		}
		return env.Program(e.ast, cel.InterruptCheckFrequency(maxExact))
	})
}

// estimate returns the most that an evaluation can cost, whatever the object.
func estimate(env *cel.Env, ast *cel.Ast) uint64 {
	cost, err := env.EstimateCost(ast, sizes{&library.CostEstimator{}})
	if err != nil {
		return math.MaxUint64
	}
	return cost.Max
}

// shape says whether an expression goes through lists or maps, and whether it
// makes do with the core functions.
func shape(a *cel.Ast) (loops, core bool) {
	core = true
	celast.PreOrderVisit(a.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.ComprehensionKind:
			loops = true
		case celast.CallKind:
			name := e.AsCall().FunctionName()
			core = core && (operator(name) || coreFunctions[name])
		}
	}))
	return loops, core
}

// cutOff is the context of an evaluation that is cut off: it has ended before
// it begins, and is looked at when maxIterations elements were gone through.
var cutOff = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// run evaluates the expression and returns what is charged for that.
func (e *expression) run(s *scope) (out ref.Val, charge uint64, err error) {
	low := e.bound <= lowBound
	if s.exact || !low && !s.small {
		prog, err := e.exact()
		if err != nil {
			return nil, 0, err
		}
		out, details, err := prog.ContextEval(cutOff, s)
		if cost := details.ActualCost(); cost != nil {
			charge = *cost
		}
		if errors.Is(err, interpreter.InterruptError{}) {
			err = errLarge
		}
		return out, charge, err
	}
	prog, err := e.fast()
	switch {
	case err != nil:
		return nil, 0, err
	case low:
		out, _, err = prog.Eval(s)
		return out, e.bound, err
	case !e.loops:
		out, _, err = prog.Eval(s)
		return out, smallCharge, err
	}
	out, _, err = prog.ContextEval(cutOff, s)
	if errors.Is(err, interpreter.InterruptError{}) {
		return out, CostLimit + 1, err
	}
	return out, smallCharge, err
}

// sizes bounds the values whose size is not known before an expression runs: by
// that of the largest request.
type sizes struct{ checker.CostEstimator }

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: uint64(celconfig.MaxRequestSizeBytes)}
}

// scope is what one evaluation can read. It is a CEL activation.
type scope struct {
	object, pod, container, item ref.Val
	params                       ref.Val
	variables                    *variables
	namespace                    ref.Val
	// cost is what was spent on this object by this control; for expressions
	// that are not tracked, the most that can have been.
	cost uint64
	// small says that the object is; exact that every evaluation is tracked.
	small, exact bool
	// root is the object; knowledge whether all of it is known.
	root      *object.Node
	knowledge knowledge
}

// ResolveName implements cel.Activation.
func (s *scope) ResolveName(name string) (any, bool) {
	var v ref.Val
	switch name {
	case varObject:
		v = s.object
	case varPod:
		v = s.pod
	case varContainer:
		v = s.container
	case varItem:
		v = s.item
	case varParams:
		v = s.params
	case varVariables:
		return s.variables, s.variables != nil
	case varNamespace:
		v = s.namespace
	}
	return v, v != nil
}

// Parent implements cel.Activation.
func (s *scope) Parent() cel.Activation { return nil }

// eval evaluates the expression. The result is a value, a CEL unknown, or a CEL
// error: never nil.
func (s *scope) eval(e *expression) ref.Val {
	if err := e.compile(); err != nil {
		return types.WrapErr(err)
	}
	if s.cost > CostLimit {
		return errCostly()
	}
	out, charge, err := e.run(s)
	s.cost += charge
	switch {
	case e.opaque && s.partial():
		return partlyKnown(s.root)
	case err != nil:
		return types.WrapErr(err)
	case s.cost > CostLimit:
		return errCostly()
	}
	return out
}

var errLarge = fmt.Errorf("the object is too large: an expression would go through more than %d elements of it", maxExact)

func errCostly() ref.Val {
	return types.NewErr("judging the object costs more than %d, the API server's limit for one expression", CostLimit)
}
