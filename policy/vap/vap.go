// SPDX-License-Identifier: Apache-2.0

// Package vap says what a ValidatingAdmissionPolicy would decide, without an API
// server: with the API server's own compiler, matcher and validator.
//
// What those would look up in the cluster and the caller does not give (the
// namespace, a parameter, what a user may do) makes a decision unknown, never a
// pass. Versions that the API server converts into each other are not known
// here: a policy matches a request in the version that the request names.
package vap

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	corev1listers "k8s.io/client-go/listers/core/v1"

	"sconce.dev/sconce/verdict"
)

// Policy is a ValidatingAdmissionPolicy that is ready to judge. It is safe for
// concurrent use.
type Policy struct {
	policy    *admissionregistrationv1.ValidatingAdmissionPolicy
	validator validating.Validator
}

// Compile prepares a policy. Its error names every expression that the API
// server would refuse.
func Compile(p *admissionregistrationv1.ValidatingAdmissionPolicy) (*Policy, error) {
	p = defaulted(p)
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	declared := cel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	var errs []error
	for _, v := range p.Spec.Variables {
		result := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, declared, environment.NewExpressions)
		if result.Error != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", v.Name, result.Error))
		}
	}
	compile := func(what string, accessors []cel.ExpressionAccessor, declared cel.OptionalVariableDeclarations) cel.ConditionEvaluator {
		out := compiler.CompileCondition(accessors, declared, environment.NewExpressions)
		for _, err := range out.CompilationErrors() {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return out
	}
	var matcher matchconditions.Matcher
	if len(p.Spec.MatchConditions) > 0 {
		matcher = matchconditions.NewMatcher(compile("match condition", conditions(p), declared), p.Spec.FailurePolicy, "policy", "validate", p.Name)
	}
	checks, annotations := compile("validation", validations(p), declared), compile("audit annotation", auditAnnotations(p), declared)
	declared.HasAuthorizer = false
	messages := compile("message", messageExpressions(p), declared)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("policy %s does not compile: %w", p.Name, err)
	}
	return &Policy{p, validating.NewValidator(checks, matcher, annotations, messages, p.Spec.FailurePolicy, nil)}, nil
}

// defaulted returns the policy with what the API server fills in.
func defaulted(p *admissionregistrationv1.ValidatingAdmissionPolicy) *admissionregistrationv1.ValidatingAdmissionPolicy {
	p = p.DeepCopy()
	if p.Spec.FailurePolicy == nil {
		fail := admissionregistrationv1.Fail
		p.Spec.FailurePolicy = &fail
	}
	if p.Spec.MatchConstraints == nil {
		p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{}
	}
	defaultMatch(p.Spec.MatchConstraints)
	return p
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m.MatchPolicy == nil {
		equivalent := admissionregistrationv1.Equivalent
		m.MatchPolicy = &equivalent
	}
	if m.NamespaceSelector == nil {
		m.NamespaceSelector = &metav1.LabelSelector{}
	}
	if m.ObjectSelector == nil {
		m.ObjectSelector = &metav1.LabelSelector{}
	}
}

func conditions(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []cel.ExpressionAccessor) {
	for i := range p.Spec.MatchConditions {
		out = append(out, (*matchconditions.MatchCondition)(&p.Spec.MatchConditions[i]))
	}
	return out
}

func validations(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []cel.ExpressionAccessor) {
	for _, v := range p.Spec.Validations {
		out = append(out, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason})
	}
	return out
}

func messageExpressions(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []cel.ExpressionAccessor) {
	for _, v := range p.Spec.Validations {
		if v.MessageExpression == "" {
			out = append(out, nil)
			continue
		}
		out = append(out, &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression})
	}
	return out
}

func auditAnnotations(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []cel.ExpressionAccessor) {
	for _, a := range p.Spec.AuditAnnotations {
		out = append(out, &validating.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression})
	}
	return out
}

// Request is what a policy judges.
type Request struct {
	// Object is nil for a deletion, Old for a creation. An Unstructured is read
	// as it is; a typed object as the API server reads one of its own kinds.
	Object, Old runtime.Object
	// Kind and Resource are the object's; a zero Resource is guessed from Kind.
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	// Operation is Create if it is empty.
	Operation       admission.Operation
	Namespace, Name string
	// NamespaceObject is the namespace of Namespace; nil where it is not known.
	NamespaceObject *corev1.Namespace
	User            user.Info
	DryRun          bool
}

// Decision is what one expression of a policy says.
type Decision struct {
	// Outcome is pass, fail or unknown. What an unknown does to the request is
	// up to the policy's failurePolicy.
	Outcome verdict.Outcome
	Message string
	// Params is the parameter that it was judged with, if there is one.
	Params string
}

// Result is what a policy says of a request.
type Result struct {
	// Matches says whether the policy and its binding are about the request.
	Matches   bool
	Decisions []Decision
	// Annotations are what would be published with the audit event.
	Annotations map[string]string
}

// Outcome is the worst of the decisions.
func (r *Result) Outcome() verdict.Outcome {
	out := verdict.Pass
	for _, d := range r.Decisions {
		if d.Outcome == verdict.Fail {
			return verdict.Fail
		}
		if d.Outcome == verdict.Unknown {
			out = verdict.Unknown
		}
	}
	return out
}

// Judge says what the policy decides of a request where a binding puts it in
// force; with no binding, as if one did for everything. Of params, those that
// the binding refers to are used.
func (p *Policy) Judge(ctx context.Context, binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding, req Request, params ...*unstructured.Unstructured) *Result {
	unknown := func(err error) *Result {
		return &Result{Matches: true, Decisions: []Decision{{Outcome: verdict.Unknown, Message: err.Error()}}}
	}
	attr, versioned := req.attributes()
	matcher := generic.NewPolicyMatcher(matching.NewMatcher(oneNamespace{req.NamespaceObject}, nil))
	interfaces := newInterfaces()
	matches, resource, _, err := matcher.DefinitionMatches(attr, interfaces, validating.NewValidatingAdmissionPolicyAccessor(p.policy))
	if err != nil {
		return unknown(err)
	}
	if matches && binding != nil {
		b := binding.DeepCopy()
		if b.Spec.MatchResources != nil {
			defaultMatch(b.Spec.MatchResources)
		}
		if matches, err = matcher.BindingMatches(attr, interfaces, validating.NewValidatingAdmissionPolicyBindingAccessor(b)); err != nil {
			return unknown(err)
		}
	}
	if !matches {
		return &Result{}
	}
	chosen, err := p.params(binding, req.Namespace, params)
	if err != nil {
		return unknown(err)
	}
	out := &Result{Matches: true, Annotations: map[string]string{}}
	for _, param := range chosen {
		p.validate(ctx, resource, versioned, req.NamespaceObject, param, out)
	}
	return out
}

// validate judges with one parameter, or none.
func (p *Policy) validate(ctx context.Context, resource schema.GroupVersionResource, attr *admission.VersionedAttributes, namespace *corev1.Namespace, param *unstructured.Unstructured, out *Result) {
	var object runtime.Object
	name := ""
	if param != nil {
		object, name = param, param.GetName()
	}
	asked := &nobody{}
	result := p.validator.Validate(ctx, resource, attr, object, namespace, celconfig.RuntimeCELCostBudget, asked)
	for _, d := range result.Decisions {
		decision := Decision{Outcome: verdict.Pass, Message: d.Message, Params: name}
		switch {
		case asked.asked:
			decision.Outcome, decision.Message = verdict.Unknown, errNobody.Error()
		case d.Evaluation == validating.EvalError:
			decision.Outcome = verdict.Unknown
		case d.Evaluation == validating.EvalDeny:
			decision.Outcome = verdict.Fail
		}
		out.Decisions = append(out.Decisions, decision)
	}
	for _, a := range result.AuditAnnotations {
		if a.Action == validating.AuditAnnotationActionPublish {
			out.Annotations[p.policy.Name+"/"+a.Key] = a.Value
		}
	}
}

// params returns the parameters that a binding refers to; one nil where the
// policy takes none.
func (p *Policy) params(binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding, namespace string, all []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	kind := p.policy.Spec.ParamKind
	if kind == nil || binding == nil || binding.Spec.ParamRef == nil {
		return []*unstructured.Unstructured{nil}, nil
	}
	ref := binding.Spec.ParamRef
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, fmt.Errorf("binding %s: paramRef.selector: %w", binding.Name, err)
	}
	if ref.Namespace != "" {
		namespace = ref.Namespace
	}
	var out []*unstructured.Unstructured
	for _, o := range all {
		if o.GetAPIVersion() != kind.APIVersion || o.GetKind() != kind.Kind || o.GetNamespace() != "" && o.GetNamespace() != namespace {
			continue
		}
		if ref.Name != "" && o.GetName() == ref.Name || ref.Name == "" && selector.Matches(labels.Set(o.GetLabels())) {
			out = append(out, o)
		}
	}
	if len(out) > 0 || ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.AllowAction {
		return out, nil
	}
	return nil, fmt.Errorf("binding %s: no parameter that it refers to is known", binding.Name)
}

// attributes returns the request as the API server's admission sees it.
func (r *Request) attributes() (admission.Attributes, *admission.VersionedAttributes) {
	resource := r.Resource
	if resource.Empty() {
		resource, _ = meta.UnsafeGuessKindToResource(r.Kind)
	}
	operation := r.Operation
	if operation == "" {
		operation = admission.Create
	}
	who := r.User
	if who == nil {
		who = &user.DefaultInfo{}
	}
	attr := admission.NewAttributesRecord(r.Object, r.Old, r.Kind, r.Namespace, r.Name, resource, r.Subresource, operation, nil, r.DryRun, who)
	versioned := &admission.VersionedAttributes{Attributes: attr, VersionedKind: r.Kind}
	if r.Object != nil {
		versioned.VersionedObject.Set(r.Object)
	}
	if r.Old != nil {
		versioned.VersionedOldObject.Set(r.Old)
	}
	return attr, versioned
}

// newInterfaces returns what a matcher needs of a scheme: nothing is converted.
func newInterfaces() admission.ObjectInterfaces {
	scheme := runtime.NewScheme()
	return &admission.RuntimeObjectInterfaces{
		ObjectCreater: scheme, ObjectTyper: scheme, ObjectDefaulter: scheme, ObjectConvertor: scheme,
		EquivalentResourceMapper: runtime.NewEquivalentResourceRegistry(),
	}
}

// oneNamespace lists the one namespace that is known.
type oneNamespace struct{ namespace *corev1.Namespace }

// List implements the lister of namespaces.
func (l oneNamespace) List(labels.Selector) ([]*corev1.Namespace, error) {
	return nil, errors.New("namespaces are not listed")
}

// Get implements the lister of namespaces.
func (l oneNamespace) Get(name string) (*corev1.Namespace, error) {
	if l.namespace == nil || l.namespace.Name != name {
		return nil, fmt.Errorf("the namespace %s is not known", name)
	}
	return l.namespace, nil
}

var _ corev1listers.NamespaceLister = oneNamespace{}

// nobody is an authorizer that knows nothing, and remembers that it was asked.
type nobody struct{ asked bool }

var errNobody = errors.New("what the user may do is not known")

// Authorize implements authorizer.UnconditionalAuthorizer.
func (n *nobody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	n.asked = true
	return authorizer.DecisionNoOpinion, "", errNobody
}

// CheckMutating says what is wrong with the expressions of a
// MutatingAdmissionPolicy, as the API server would.
func CheckMutating(p *admissionregistrationv1.MutatingAdmissionPolicy) error {
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return fmt.Errorf("building the CEL environment: %w", err)
	}
	declared := cel.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: true}
	var errs []error
	for _, v := range p.Spec.Variables {
		if result := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, declared, environment.NewExpressions); result.Error != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", v.Name, result.Error))
		}
	}
	declared.HasPatchTypes = true
	for _, m := range p.Spec.Mutations {
		var accessor cel.ExpressionAccessor
		switch {
		case m.JSONPatch != nil:
			accessor = &patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}
		case m.ApplyConfiguration != nil:
			accessor = &patch.ApplyConfigurationCondition{Expression: m.ApplyConfiguration.Expression}
		default:
			continue
		}
		errs = append(errs, compiler.CompileMutatingEvaluator(accessor, declared, environment.NewExpressions).CompilationErrors()...)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("policy %s does not compile: %w", p.Name, err)
	}
	return nil
}
