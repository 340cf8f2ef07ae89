// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
	"sconce.dev/sconce/policy/celguard"
)

// expression is an expression of a policy, compiled by the API server's own
// compiler.
type expression struct {
	source  string
	program celgo.Program
	syntax  *celgo.Ast // without types
	reads   *reads
	// loops says that there are loops in it.
	loops bool
	// name and slot are those of a variable.
	name string
	slot int
}

// compiled are the expressions of a policy. A message that is not computed is
// nil.
type compiled struct {
	compiler                                           *cel.CompositedCompiler
	variables                                          map[string]*expression
	read                                               map[string]*reads // what the variables read
	conditions, checks, messages, annotations, patches []*expression
	// variablesNeedRights says that some variable reads what somebody may do.
	variablesNeedRights bool
	// parts are what is known of parts of expressions: see finder.
	parts sync.Map
}

// environments are what takes long to build: the CEL environment, a parser, and
// a compiler for policies that have no variables of their own.
type environments struct {
	base   *environment.EnvSet
	parser *celgo.Env
	shared *cel.CompositedCompiler
	err    error
}

var environmentsOnce = sync.OnceValue(func() *environments {
	e := &environments{}
	if e.base, e.err = guarded(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())); e.err != nil {
		return e
	}
	if e.parser, e.err = e.base.Env(environment.NewExpressions); e.err != nil {
		return e
	}
	e.shared, e.err = cel.NewCompositedCompiler(e.base)
	return e
})

// guarded returns an environment whose programs cannot take more than there is:
// the API server only counts what steps have cost.
func guarded(base *environment.EnvSet) (*environment.EnvSet, error) {
	env, err := base.Env(environment.NewExpressions)
	if err != nil {
		return nil, err
	}
	return base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		ProgramOptions:    []celgo.ProgramOption{celguard.New(env).Option(), celgo.CostTracking(&celguard.Costs{})},
	})
}

// compilation compiles one policy and keeps what is wrong with it.
type compilation struct {
	*environments
	out  *compiled
	errs []error
	seen watch
}

// watch is who wants to know what the expressions of a document come to; nobody
// where there is no coverage.
type watch struct {
	coverage *policy.Coverage
	doc      *object.Object
	programs *celcover.Programs
}

// expect says which expression is compiled next.
func (w *watch) expect(source string, condition bool, fields ...any) {
	if w.programs == nil {
		return
	}
	path := object.Path{{Field: "spec"}}
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			path = path.Append(object.Step{Field: f})
		case int:
			path = path.Append(object.Step{Item: true, Index: f})
		}
	}
	w.programs.Expect(celcover.Expression{Object: w.doc, Path: path, Source: source, Condition: condition})
}

// maxExpressions is how many expressions one policy may have: each takes time to
// compile.
const maxExpressions = 1000

// newCompilation begins to compile a policy with or without variables.
func newCompilation(variables []admissionregistrationv1.Variable, declared cel.OptionalVariableDeclarations, seen watch) (*compilation, error) {
	c := &compilation{environments: environmentsOnce(), out: &compiled{variables: map[string]*expression{}, read: map[string]*reads{}}, seen: seen}
	err := c.err
	base := c.base
	if err == nil {
		base, c.seen.programs, err = celcover.Watch(seen.coverage, base)
	}
	if err == nil {
		if c.out.compiler = c.shared; len(variables) > 0 || seen.coverage != nil {
			c.out.compiler, err = cel.NewCompositedCompiler(base)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	for i, v := range variables {
		what := "variable " + v.Name
		c.seen.expect(v.Expression, false, "variables", i, "expression")
		accessor := &validating.Variable{Name: v.Name, Expression: v.Expression}
		e := c.keep(what, accessor, c.out.compiler.CompileAndStoreVariable(accessor, declared, environment.NewExpressions))
		c.out.variablesNeedRights = c.out.variablesNeedRights || e.reads.mentions(cel.AuthorizerVarName)
		if e.name = v.Name; c.out.variables[v.Name] == nil {
			e.slot = len(c.out.variables)
		} else {
			e.slot = c.out.variables[v.Name].slot
		}
		c.out.variables[v.Name], c.out.read[v.Name] = e, e.reads
	}
	return c, nil
}

// expressionError is what is wrong with an expression.
type expressionError struct {
	source string
	err    *apiservercel.Error
}

// Error returns what the compiler says, without the source that it quotes: that
// stands where the error is.
func (e *expressionError) Error() string {
	var out []string
	for line := range strings.Lines(e.err.Error()) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "|") {
			continue
		}
		out = append(out, strings.Replace(line, "ERROR: <input>:", "", 1))
	}
	return strings.Join(out, "; ")
}

// Unwrap returns what the compiler says.
func (e *expressionError) Unwrap() error { return e.err }

// keep notes what came of an expression.
func (c *compilation) keep(what string, accessor cel.ExpressionAccessor, result cel.CompilationResult) *expression {
	e := &expression{source: accessor.GetExpression(), program: result.Program, reads: &reads{everything: true}, loops: true}
	if result.Error != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", what, &expressionError{e.source, result.Error}))
		return e
	}
	syntax, issues := c.parser.Parse(e.source)
	if issues.Err() == nil {
		root := syntax.NativeRep().Expr()
		e.syntax, e.reads = syntax, readsOf(root, c.out.read)
		e.loops = len(ast.MatchDescendants(ast.NavigateExpr(syntax.NativeRep(), root), ast.KindMatcher(ast.ComprehensionKind))) > 0
	}
	return e
}

// compile compiles an expression.
func (c *compilation) compile(what string, accessor cel.ExpressionAccessor, declared cel.OptionalVariableDeclarations) *expression {
	return c.keep(what, accessor, c.out.compiler.CompileCELExpression(accessor, declared, environment.NewExpressions))
}

// done returns the policy, or all errors that are in it.
func (c *compilation) done(policy string) (*compiled, error) {
	for i, err := range c.errs {
		c.errs[i] = fmt.Errorf("policy %s does not compile: %w", policy, err)
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	return c.out, nil
}

func (c *compilation) matchConditions(all []admissionregistrationv1.MatchCondition, declared cel.OptionalVariableDeclarations) {
	for i := range all {
		c.seen.expect(all[i].Expression, true, "matchConditions", i, "expression")
		c.out.conditions = append(c.out.conditions, c.compile("match condition", (*matchconditions.MatchCondition)(&all[i]), declared))
	}
}

// compileValidating compiles a ValidatingAdmissionPolicy.
func compileValidating(p *admissionregistrationv1.ValidatingAdmissionPolicy, seen watch) (*compiled, error) {
	if n := len(p.Spec.Variables) + len(p.Spec.MatchConditions) + len(p.Spec.Validations) + len(p.Spec.AuditAnnotations); n > maxExpressions {
		return nil, fmt.Errorf("policy %s has %d expressions; no more than %d are read", p.Name, n, maxExpressions)
	}
	declared := cel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	c, err := newCompilation(p.Spec.Variables, declared, seen)
	if err != nil {
		return nil, err
	}
	c.matchConditions(p.Spec.MatchConditions, declared)
	inMessages := declared
	inMessages.HasAuthorizer = false
	for i, v := range p.Spec.Validations {
		c.seen.expect(v.Expression, true, "validations", i, "expression")
		c.out.checks = append(c.out.checks, c.compile("validation", &validating.ValidationCondition{Expression: v.Expression}, declared))
		var message *expression
		if v.MessageExpression != "" {
			c.seen.expect(v.MessageExpression, false, "validations", i, "messageExpression")
			message = c.compile("message", &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}, inMessages)
		}
		c.out.messages = append(c.out.messages, message)
	}
	for i, a := range p.Spec.AuditAnnotations {
		c.seen.expect(a.ValueExpression, false, "auditAnnotations", i, "valueExpression")
		accessor := &validating.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression}
		c.out.annotations = append(c.out.annotations, c.compile("audit annotation", accessor, declared))
	}
	return c.done(p.Name)
}

// compileMutating compiles a MutatingAdmissionPolicy.
func compileMutating(p *admissionregistrationv1.MutatingAdmissionPolicy, seen watch) (*compiled, error) {
	if n := len(p.Spec.Variables) + len(p.Spec.MatchConditions) + len(p.Spec.Mutations); n > maxExpressions {
		return nil, fmt.Errorf("policy %s has %d expressions; no more than %d are read", p.Name, n, maxExpressions)
	}
	declared := cel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	c, err := newCompilation(p.Spec.Variables, declared, seen)
	if err != nil {
		return nil, err
	}
	c.matchConditions(p.Spec.MatchConditions, declared)
	declared.HasPatchTypes = true
	for i, m := range p.Spec.Mutations {
		var accessor cel.ExpressionAccessor
		if m.ApplyConfiguration != nil {
			c.seen.expect(m.ApplyConfiguration.Expression, false, "mutations", i, "applyConfiguration", "expression")
		}
		if m.JSONPatch != nil {
			c.seen.expect(m.JSONPatch.Expression, false, "mutations", i, "jsonPatch", "expression")
		}
		switch {
		case m.PatchType == admissionregistrationv1.PatchTypeJSONPatch && m.JSONPatch != nil:
			accessor = &patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}
		case m.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
			accessor = &patch.ApplyConfigurationCondition{Expression: m.ApplyConfiguration.Expression}
		default:
			c.errs = append(c.errs, fmt.Errorf("mutations[%d]: patchType %q, without the field of that name", i, m.PatchType))
			continue
		}
		c.out.patches = append(c.out.patches, c.compile("mutation", accessor, declared))
	}
	return c.done(p.Name)
}
