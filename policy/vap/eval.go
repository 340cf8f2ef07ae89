// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// activation holds the variables of an expression.
type activation struct {
	e                     *evaluation
	object, old, params   any
	variables             *variables
	requestResource       schema.GroupVersionResource // what the variable request names
	noNamespace, noRights bool
}

// ResolveName implements interpreter.Activation. What most expressions do not
// read is made when one does.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case cel.ObjectVarName:
		return a.object, true
	case cel.OldObjectVarName:
		return a.old, true
	case cel.ParamsVarName:
		return a.params, true
	case cel.RequestVarName:
		return a.e.q.values(a.requestResource, a.e.kind), true
	case cel.NamespaceVarName:
		if a.noNamespace {
			return types.NullValue, true
		}
		return a.e.namespaceValue(), true
	case cel.AuthorizerVarName:
		if a.noRights {
			return nil, false
		}
		all, _ := a.e.rights.variables(a.e.q)
		return all, true
	case cel.RequestResourceAuthorizerVarName:
		if a.noRights {
			return nil, false
		}
		_, resource := a.e.rights.variables(a.e.q)
		return resource, true
	case cel.VariableVarName:
		if a.variables == nil {
			return nil, true
		}
		return a.variables, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

// valueOf shows an object to CEL as the API server does.
func valueOf(o runtime.Object) any {
	switch o := o.(type) {
	case nil:
		return nil
	case *unstructured.Unstructured:
		return types.DefaultTypeAdapter.NativeToValue(o.Object)
	}
	return common.SchemalessTypedToVal(o)
}

// evaluation is a policy over a request, for one binding and one parameter.
type evaluation struct {
	*compiled
	// ctx returns the context, which ends when the time is up that a policy has.
	ctx func() context.Context
	q   *request
	// resource and kind are what the policy matched.
	resource    schema.GroupVersionResource
	kind        schema.GroupVersionKind
	object, old *subject
	vars        activation
	rights      rights
	// namespace is the variable namespaceObject once it is read.
	namespace any
	// dark are the roots of which not everything is known.
	dark map[string][]blank
	// sensitive says that no value may be shown.
	sensitive bool
	// last are the variables that the validations saw last.
	last activation
}

// evaluate prepares a policy for a request that it matches.
func (c *compiled) evaluate(ctx func() context.Context, q *request, resource schema.GroupVersionResource, kind schema.GroupVersionKind) (*evaluation, error) {
	e := &evaluation{compiled: c, ctx: ctx, q: q, resource: resource, kind: kind, object: q.object(kind), old: q.old(kind), rights: rights{cluster: q.cluster}}
	for _, s := range []*subject{e.object, e.old} {
		if s == nil || s.shown != nil {
			continue
		}
		if _, err := s.made(); err != nil {
			return nil, err
		}
	}
	e.hide(cel.ObjectVarName, e.object)
	e.hide(cel.OldObjectVarName, e.old)
	e.sensitive = kind.Group == "" && kind.Kind == "Secret"
	e.vars.e = e
	e.show(asWritten(e.object, e.old), nil)
	return e, nil
}

// hide notes what is not known of a root.
func (e *evaluation) hide(root string, s *subject) {
	delete(e.dark, root)
	if s == nil || len(s.blanks) == 0 {
		return
	}
	if e.dark == nil {
		e.dark = map[string][]blank{}
	}
	e.dark[root] = s.blanks
}

// namespaceValue returns the variable namespaceObject.
func (e *evaluation) namespaceValue() any {
	if e.namespace == nil {
		if space, unknown := e.space(); unknown != "" {
			e.namespace = unknownValue(unknown)
		} else {
			e.namespace = common.SchemalessTypedToVal(cel.CreateNamespaceObject(space))
		}
	}
	return e.namespace
}

// show sets the variables object, oldObject and params.
func (e *evaluation) show(asWritten bool, params *subject) {
	e.vars.object, e.vars.old, e.vars.params = e.object.show(asWritten), e.old.show(asWritten), params.show(asWritten)
}

// space is the namespace that expressions see: none for a Namespace itself.
func (e *evaluation) space() (*corev1.Namespace, string) {
	if e.q.kind == corev1.SchemeGroupVersion.WithKind("Namespace") {
		return nil, ""
	}
	return e.q.space()
}

// batch are expressions that share variables and a budget.
type batch struct {
	e    *evaluation
	vars activation
	left int64
	// spent is what variables cost since it was last asked for.
	spent int64
}

func (e *evaluation) batch(budget int64) *batch {
	b := &batch{e: e, vars: e.vars, left: budget}
	if len(e.variables) > 0 {
		b.vars.variables = &variables{b: b}
	}
	return b
}

// unknownError is why an expression is not decided: something is not known.
type unknownError struct{ reason string }

// Error implements error.
func (e *unknownError) Error() string { return e.reason }

// errBudget is what the API server says of a policy that takes too long.
var errBudget = errors.New("validation failed due to running out of cost budget, no further validation rules will be run")

// eval evaluates an expression.
func (b *batch) eval(x *expression) (ref.Val, error) {
	for root, all := range b.e.dark {
		if reason := x.reads.hidden(root, all); reason != "" {
			return nil, &unknownError{notKnown(reason)}
		}
	}
	b.spent = 0
	v, details, err := b.run(x)
	if b.spent > b.left {
		return nil, errBudget
	}
	b.left -= b.spent
	if err := b.spend(x, details); err != nil {
		return nil, err
	}
	if b.e.rights.asked != "" && x.reads.mentions(cel.AuthorizerVarName) {
		return nil, &unknownError{notKnown(b.e.rights.asked)}
	}
	if err != nil {
		return nil, b.e.failure(x, err)
	}
	if u, ok := v.(*types.Unknown); ok {
		return nil, &unknownError{reasonOf(u)}
	}
	return v, nil
}

// run runs an expression. Only loops look at the context.
func (b *batch) run(x *expression) (ref.Val, *celgo.EvalDetails, error) {
	if !x.loops {
		return x.program.Eval(&b.vars)
	}
	return x.program.ContextEval(b.e.ctx(), &b.vars)
}

// spend takes the cost of an expression from the budget.
func (b *batch) spend(x *expression, details *celgo.EvalDetails) error {
	if details == nil || details.ActualCost() == nil {
		return errors.New(policy.Failing("what it costs is not known", x.source))
	}
	cost := *details.ActualCost()
	if cost > math.MaxInt64 || int64(cost) > b.left {
		return errBudget
	}
	b.left -= int64(cost)
	return nil
}

// evalError is that an expression fails.
type evalError struct{ message string }

// Error implements error.
func (e *evalError) Error() string { return e.message }

func (e *evaluation) failure(x *expression, err error) error {
	if e.sensitive {
		return &evalError{policy.Failing(policy.Hushed, x.source)}
	}
	return &evalError{policy.Failing(err.Error(), x.source)}
}

// reasonOf says what is missing of an unknown.
func reasonOf(u *types.Unknown) string {
	var names []string
	for _, id := range u.IDs() {
		trails, _ := u.GetAttributeTrails(id)
		for _, t := range trails {
			names = append(names, notKnown(t.Variable()))
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "; ")
}

// applies says whether the match conditions hold. An error is why that cannot be
// said.
func (e *evaluation) applies(failure admissionregistrationv1.FailurePolicyType) (bool, error) {
	if len(e.conditions) == 0 {
		return true, nil
	}
	b := e.batch(celconfig.RuntimeCELCostBudgetMatchConditions)
	// Conditions see no namespace, and the resource of the request itself.
	b.vars.noNamespace, b.vars.requestResource = true, e.q.resource
	var errs []error
	var unknown error
	for _, c := range e.conditions {
		v, err := b.eval(c)
		var missing *unknownError
		switch {
		case errors.As(err, &missing):
			unknown = err
		case errors.As(err, new(*evalError)):
			errs = append(errs, err)
		case err != nil && failure == admissionregistrationv1.Ignore:
			return false, nil
		case err != nil:
			return false, err
		case v == types.False:
			return false, nil
		}
	}
	switch {
	case unknown != nil:
		return false, unknown
	case len(errs) > 0 && failure == admissionregistrationv1.Ignore:
		return false, nil
	case len(errs) > 0:
		return false, utilerrors.NewAggregate(errs)
	}
	return true, nil
}

// decision is what one validation says.
type decision struct {
	outcome verdict.Outcome
	message string
	// index is that of the validation; -1 where the policy as a whole failed.
	index int
}

// whole is a decision about the policy as a whole.
func whole(err error) []decision {
	return []decision{{verdict.Unknown, err.Error(), -1}}
}

// annotation is what would be published with the audit event.
type annotation struct{ key, value, err string }

// validate judges with the parameter that is in use, or none.
func (e *evaluation) validate(p *admissionregistrationv1.ValidatingAdmissionPolicySpec) ([]decision, []annotation) {
	if applies, err := e.applies(*p.FailurePolicy); err != nil {
		return whole(err), nil
	} else if !applies {
		return nil, nil
	}
	e.vars.requestResource = e.resource
	b := e.batch(celconfig.RuntimeCELCostBudget)
	out := make([]decision, len(e.checks))
	for i, x := range e.checks {
		v, err := b.eval(x)
		out[i] = decision{verdict.Pass, "", i}
		switch {
		case errors.As(err, new(*evalError)), errors.As(err, new(*unknownError)):
			out[i].outcome, out[i].message = verdict.Unknown, err.Error()
		case err != nil:
			return whole(err), nil
		case v != types.True:
			out[i].outcome = verdict.Fail
		}
	}
	e.last = b.vars
	e.say(p, out, b.left)
	annotations, err := e.annotate(p)
	if err != nil {
		return whole(err), nil
	}
	for _, a := range annotations {
		if a.err != "" {
			out = append(out, decision{verdict.Unknown, a.err, -1})
		}
	}
	return out, annotations
}

// say gives decisions their messages. Those of what did not fail are only needed
// to find out that messages cost too much, as some might.
func (e *evaluation) say(p *admissionregistrationv1.ValidatingAdmissionPolicySpec, out []decision, left int64) {
	cheap := int64(len(e.messages)+len(e.variables))*celconfig.PerCallLimit < left
	wanted := func(d decision) bool { return !cheap || d.outcome == verdict.Fail }
	if !slices.ContainsFunc(out, wanted) {
		return
	}
	var b *batch
	texts := make([]string, len(out))
	for i, x := range e.messages {
		if x == nil || !wanted(out[i]) {
			continue
		}
		if b == nil {
			b = e.batch(left)
			b.vars.noRights = true
			if cheap && !e.variablesNeedRights {
				// What variables cost does not matter, and they are what they were.
				b.vars.variables = e.last.variables
			}
		}
		v, err := b.eval(x)
		switch {
		case errors.Is(err, errBudget):
			for i := range out {
				if out[i].outcome != verdict.Unknown {
					out[i].outcome, out[i].message = verdict.Unknown, fmt.Sprintf("failed messageExpression: %s", err)
				}
			}
			return
		case err == nil:
			texts[i], _ = v.Value().(string)
		}
	}
	for i := range out {
		if out[i].outcome == verdict.Fail {
			out[i].message = messageOf(&p.Validations[i], texts[i])
		}
	}
}

// messageOf returns the message of a validation that failed: what its expression
// says, if that is one line of no great length, or its own, or the expression.
func messageOf(v *admissionregistrationv1.Validation, said string) string {
	said = strings.TrimSpace(said)
	if said != "" && len(said) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(said, "\n") {
		return said
	}
	if own := strings.TrimSpace(v.Message); own != "" {
		return own
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}

// annotate works out the audit annotations.
func (e *evaluation) annotate(p *admissionregistrationv1.ValidatingAdmissionPolicySpec) ([]annotation, error) {
	if len(e.annotations) == 0 {
		return nil, nil
	}
	var out []annotation
	b := e.batch(celconfig.RuntimeCELCostBudget)
	b.vars.noRights = true
	for i, x := range e.annotations {
		v, err := b.eval(x)
		a := annotation{key: p.AuditAnnotations[i].Key}
		switch text, ok := valueText(v); {
		case errors.As(err, new(*unknownError)):
			continue
		case errors.As(err, new(*evalError)):
			if *p.FailurePolicy == admissionregistrationv1.Ignore {
				continue
			}
			a.err = err.Error()
		case err != nil:
			return nil, err
		case !ok:
			a.err = fmt.Sprintf("valueExpression '%v' resulted in unsupported return type: %v. Return type must be either string or null.", x.source, v.Type())
		case text == "":
			continue
		default:
			a.value = text
		}
		out = append(out, a)
	}
	return out, nil
}

// valueText returns the text of an audit annotation: none for null.
func valueText(v ref.Val) (string, bool) {
	switch v := v.(type) {
	case types.String:
		return strings.TrimSpace(string(v)), true
	case types.Null:
		return "", true
	}
	return "", false
}
