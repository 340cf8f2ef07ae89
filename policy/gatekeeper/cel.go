// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	k8sschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
)

// celSource is the CEL of a template.
type celSource struct {
	Validations []struct {
		Expression        string `json:"expression"`
		Message           string `json:"message"`
		MessageExpression string `json:"messageExpression"`
	} `json:"validations"`
	FailurePolicy   *admissionregistrationv1.FailurePolicyType `json:"failurePolicy"`
	MatchConditions []named                                    `json:"matchCondition"`
	Variables       []named                                    `json:"variables"`
}

type named struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

// reserved is what names of variables and conditions must not begin with.
const reserved = "gatekeeper_internal_"

// given are the variables that Gatekeeper adds to those of a template.
var given = []named{
	{"anyObject", `has(request.operation) && request.operation == "DELETE" && object == null ? oldObject : object`},
	{"params", `!has(params.spec) ? null : !has(params.spec.parameters) ? null: params.spec.parameters`},
}

// celEngine runs the CEL of a template as the API server runs that of a
// ValidatingAdmissionPolicy.
type celEngine struct {
	validator validating.Validator
	policy    admissionregistrationv1.FailurePolicyType
	reads     needs
}

// newCEL compiles the CEL of a template.
func newCEL(o *object.Object, at object.Path, coverage *policy.Coverage) (engine, error) {
	wrong := func(err error) error {
		return &ParseError{o.Position(at), fmt.Errorf("the CEL of ConstraintTemplate %s: %w", o.Name, err)}
	}
	node := o.Root.Lookup(at)
	if node == nil {
		return nil, wrong(errors.New("there is no source"))
	}
	text := node.JSON()
	if len(text) > maxSource {
		return nil, wrong(fmt.Errorf("it has more than %d bytes", maxSource))
	}
	src := &celSource{}
	if err := json.Unmarshal(text, src); err != nil {
		return nil, wrong(err)
	}
	if err := src.check(); err != nil {
		return nil, wrong(err)
	}
	e := &celEngine{policy: admissionregistrationv1.Fail, reads: needs{
		namespace: strings.Contains(string(text), "namespaceObject"),
		user:      strings.Contains(string(text), "userInfo"),
	}}
	if src.FailurePolicy != nil {
		e.policy = *src.FailurePolicy
	}
	var err error
	if e.validator, err = src.compile(&written{o, at, coverage}, e.policy); err != nil {
		return nil, wrong(err)
	}
	return e, nil
}

// check says what Gatekeeper refuses.
func (s *celSource) check() error {
	for _, n := range slices.Concat(s.MatchConditions, s.Variables) {
		if strings.HasPrefix(n.Name, reserved) {
			return fmt.Errorf("%s: names that begin with %s are Gatekeeper's", n.Name, reserved)
		}
	}
	if p := s.FailurePolicy; p != nil && *p != admissionregistrationv1.Fail && *p != admissionregistrationv1.Ignore {
		return fmt.Errorf("failurePolicy is %q; want Fail or Ignore", *p)
	}
	return nil
}

// compile compiles the expressions. Only the variables that Gatekeeper adds see
// the whole constraint.
func (s *celSource) compile(w *written, failurePolicy admissionregistrationv1.FailurePolicyType) (validating.Validator, error) {
	env, programs, err := celcover.Watch(w.coverage, environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	compiler, err := cel.NewCompositedCompiler(env)
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	s.expect(w, programs)
	var errs []error
	for _, v := range slices.Concat(given, s.Variables) {
		result := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, cel.OptionalVariableDeclarations{HasParams: true}, environment.StoredExpressions)
		if result.Error != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", v.Name, result.Error))
		}
	}
	compile := func(what string, accessors []cel.ExpressionAccessor) cel.ConditionEvaluator {
		out := compiler.CompileCondition(accessors, cel.OptionalVariableDeclarations{}, environment.StoredExpressions)
		for _, err := range out.CompilationErrors() {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return out
	}
	var conditions, checks, messages []cel.ExpressionAccessor
	for _, c := range s.MatchConditions {
		conditions = append(conditions, &matchconditions.MatchCondition{Name: c.Name, Expression: c.Expression})
	}
	for _, v := range s.Validations {
		checks = append(checks, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message})
		var message cel.ExpressionAccessor
		if v.MessageExpression != "" {
			message = &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
		messages = append(messages, message)
	}
	matcher := matchconditions.NewMatcher(compile("match condition", conditions), &failurePolicy, "policy", "validate", w.template.Name)
	out := validating.NewValidator(compile("validation", checks), matcher, compile("audit annotation", nil), compile("message", messages), &failurePolicy, nil)
	return out, errors.Join(errs...)
}

// written is where the CEL of a template is written, and who wants to know what
// it comes to.
type written struct {
	template *object.Object
	at       object.Path
	coverage *policy.Coverage
}

// expect tells which expressions are compiled next, in their order. Those that
// Gatekeeper adds are nobody's.
func (s *celSource) expect(w *written, programs *celcover.Programs) {
	if programs == nil {
		return
	}
	add := func(condition bool, source, list string, i int, field string) {
		path := w.at.Append(object.Step{Field: list}, object.Step{Item: true, Index: i}, object.Step{Field: field})
		programs.Expect(celcover.Expression{Object: w.template, Path: path, Source: source, Condition: condition})
	}
	programs.Expect(make([]celcover.Expression, len(given))...)
	for i, v := range s.Variables {
		add(false, v.Expression, "variables", i, "expression")
	}
	for i, c := range s.MatchConditions {
		add(true, c.Expression, "matchCondition", i, "expression")
	}
	for i, v := range s.Validations {
		add(true, v.Expression, "validations", i, "expression")
	}
	for i, v := range s.Validations {
		if v.MessageExpression != "" {
			add(false, v.MessageExpression, "validations", i, "messageExpression")
		}
	}
}

// needs implements engine.
func (e *celEngine) needs() needs { return e.reads }

// celRequest is a review as CEL is given it.
type celRequest struct {
	attributes *admission.VersionedAttributes
	resource   k8sschema.GroupVersionResource
	namespace  *corev1.Namespace
	err        error
}

// newAttributes returns the review as CEL is given it.
func (r *Review) newAttributes() *celRequest {
	o := r.Request.Subject()
	gvk := k8sschema.GroupVersionKind{Group: o.Group(), Version: versionOf(o), Kind: o.Kind}
	out := &celRequest{}
	if r.Request.Resource != "" {
		out.resource = k8sschema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: r.Request.Resource}
	}
	object, old := treeOf(r.Request.Object), treeOf(r.Request.Old)
	if r.operation() == policy.Delete {
		object = nil
	}
	who := &user.DefaultInfo{}
	if u := r.Request.User; u != nil {
		who = &user.DefaultInfo{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: map[string][]string{}}
		for key, values := range u.Extra {
			who.Extra[key] = values
		}
	}
	attributes := admission.NewAttributesRecord(object, old, gvk, o.Namespace, o.Root.At("metadata", "name").Str(),
		out.resource, r.Request.Subresource, admission.Operation(r.operation()), nil, r.Request.DryRun, who)
	out.attributes = &admission.VersionedAttributes{Attributes: attributes, VersionedKind: gvk}
	if object != nil {
		out.attributes.VersionedObject.Set(object)
	}
	if old != nil {
		out.attributes.VersionedOldObject.Set(old)
	}
	if namespace, _ := r.namespace(); namespace != nil {
		out.namespace = &corev1.Namespace{}
		out.err = json.Unmarshal(namespace.Root.JSON(), out.namespace)
	}
	return out
}

// treeOf returns an object as the API server holds one of a custom resource; nil
// for none.
func treeOf(o *object.Object) runtime.Object {
	if o == nil {
		return nil
	}
	root := o.Root
	if o.Namespace != "" && root.At("metadata", "namespace") == nil {
		root = placed(root, o.Namespace)
	}
	tree, _ := root.Any().(map[string]any)
	return &unstructured.Unstructured{Object: tree}
}

// violations implements engine.
func (e *celEngine) violations(ctx context.Context, c *Constraint, r *Review) ([]Violation, error) {
	request := r.attributes()
	switch {
	case request.err != nil:
		return nil, fmt.Errorf("reading the namespace %s: %w", r.namespaceName(), request.err)
	case e.reads.namespace && !r.namespaceKnown():
		return nil, &UnknownError{What: fmt.Sprintf("the namespace %s is not known", r.namespaceName())}
	case e.reads.user && r.Request.User == nil && !r.Literal:
		return nil, &UnknownError{What: "the user who asks is not known"}
	}
	result := e.validator.Validate(ctx, request.resource, request.attributes, c.tree, request.namespace, celconfig.PerCallLimit, nil)
	var out []Violation
	for _, d := range result.Decisions {
		switch {
		case d.Evaluation == validating.EvalError && (d.Action == validating.ActionDeny || !r.Literal):
			out = append(out, Violation{Message: policy.Reworded(d.Message), Unknown: true})
		case d.Evaluation == validating.EvalDeny:
			out = append(out, Violation{Message: d.Message})
		}
	}
	return out, nil
}
