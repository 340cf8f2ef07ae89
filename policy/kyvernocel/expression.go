// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/kyverno/sdk/extensions/cel/compiler"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/library"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
)

// maxExpression is the longest expression that is compiled, in bytes.
const maxExpression = 64 << 10

// expression is a compiled expression.
type expression struct {
	program cel.Program
	ast     *cel.Ast
	env     *cel.Env
	reads   reads
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
	// lookups are made of the cluster, a registry, the global context or an
	// address.
	lookups bool
}

func (r *reads) add(o reads) {
	r.user = r.user || o.user
	r.namespace = r.namespace || o.namespace
	r.random = r.random || o.random
	r.now = r.now || o.now
	r.lookups = r.lookups || o.lookups
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
	e := &expression{ast: ast, env: c.env.env}
	var err error
	options := programOptions()
	if c.coverage != nil && c.at != nil {
		x := celcover.Expression{Object: c.document, Path: c.at, Source: source, Condition: ast.OutputType().IsExactType(cel.BoolType)}
		options = append(options, celcover.Option(c.coverage, x, ast.NativeRep()))
	}
	if e.program, err = c.env.env.Program(ast, options...); err != nil {
		return nil, err
	}
	e.reads = c.readsOf(ast.NativeRep().Expr())
	return e, nil
}

// programOptions bound what an evaluation costs, as the API server does.
func programOptions() []cel.ProgramOption {
	return []cel.ProgramOption{
		cel.CostTracking(&library.CostEstimator{}),
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
	compiler.ResourceKey: true, compiler.GlobalContextKey: true, compiler.HTTPKey: true, compiler.ImageDataKey: true, compiler.GeneratorKey: true,
}

// readsOf finds what an expression reads.
func (c *compilation) readsOf(e celast.Expr) reads {
	var out reads
	celast.PreOrderVisit(e, celast.NewExprVisitor(func(n celast.Expr) {
		switch n.Kind() {
		case celast.IdentKind:
			name := n.AsIdent()
			out.namespace = out.namespace || name == compiler.NamespaceObjectKey
			out.now = out.now || name == nowKey
			out.lookups = out.lookups || lookupNames[name]
		case celast.SelectKind:
			operand, field := n.AsSelect().Operand(), n.AsSelect().FieldName()
			if operand.Kind() != celast.IdentKind {
				return
			}
			switch operand.AsIdent() {
			case compiler.RequestKey:
				out.user = out.user || field == "userInfo"
			case compiler.VariablesKey:
				if v := c.variables[field]; v != nil {
					out.add(v.reads)
				}
			}
		case celast.CallKind:
			name := n.AsCall().FunctionName()
			out.random = out.random || name == "random" || name == "random.random"
		}
	}))
	return out
}

// eval evaluates the expression. Its error is an *unknownError where something
// is needed that is not known.
func (e *expression) eval(ctx context.Context, a *activation) (ref.Val, error) {
	if what := a.lacks(e.reads); what != "" {
		return nil, &unknownError{what}
	}
	out, _, err := e.program.ContextEval(ctx, a)
	if err == nil && types.IsUnknown(out) {
		err = &unknownError{"a value that is not known"}
	}
	if err == nil {
		return out, nil
	}
	return nil, a.explain(ctx, err)
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
