// SPDX-License-Identifier: Apache-2.0

// Package vap says what admission policies of the API server would decide,
// without one: ValidatingAdmissionPolicy and MutatingAdmissionPolicy, with their
// bindings and parameters. Expressions are compiled by the API server's own
// compiler, requests are matched by its matcher, and patches are made by its
// patchers.
//
// Objects of Kubernetes' own kinds are read through their Go types, as the API
// server reads them: fields that there are not, and fields that are empty, are
// not there. What the API server fills in before it asks a policy (defaults,
// what other mutations do) is not filled in here; a policy that reads a field
// which only the API server sets is unknown, as any expression that fails is,
// and failurePolicy says what that comes to.
//
// What those would look up in the cluster and the caller does not give (the
// namespace, a parameter, what a user may do) makes a decision unknown, never a
// pass, wherever the decision depends on it.
package vap

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	"k8s.io/apiserver/pkg/authentication/user"

	"sconce.dev/sconce/verdict"
)

// Policy is a ValidatingAdmissionPolicy that is ready to judge. It is safe for
// concurrent use.
type Policy struct {
	policy   *admissionregistrationv1.ValidatingAdmissionPolicy
	about    *criteria
	compiled *compiled
}

// Compile prepares a policy. Its error names every expression that the API
// server would refuse.
func Compile(p *admissionregistrationv1.ValidatingAdmissionPolicy) (*Policy, error) {
	p = defaulted(p)
	about, err := newCriteria(p.Spec.MatchConstraints)
	if err != nil {
		return nil, fmt.Errorf("policy %s: spec.matchConstraints: %w", p.Name, err)
	}
	c, err := compileValidating(p, watch{})
	if err != nil {
		return nil, err
	}
	return &Policy{p, about, c}, nil
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
// the binding refers to are used. A policy matches a request in the version that
// the request names.
func (p *Policy) Judge(ctx context.Context, binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding, req Request, params ...*unstructured.Unstructured) *Result {
	unknown := func(err error) *Result {
		return &Result{Matches: true, Decisions: []Decision{{Outcome: verdict.Unknown, Message: err.Error()}}}
	}
	q := req.request()
	matches, resource, kind, err := p.about.match(q)
	if err != nil {
		return unknown(err)
	}
	if matches && binding != nil {
		about, err := newCriteria(binding.Spec.MatchResources)
		if err != nil {
			return unknown(err)
		}
		if matches, _, _, err = about.match(q); err != nil {
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
	e, err := p.compiled.evaluate(func() context.Context { return ctx }, q, resource, kind)
	if err != nil {
		return unknown(err)
	}
	out := &Result{Matches: true, Annotations: map[string]string{}}
	for _, param := range chosen {
		p.validate(e, param, out)
	}
	return out
}

// validate judges with one parameter, or none.
func (p *Policy) validate(e *evaluation, param *unstructured.Unstructured, out *Result) {
	name := ""
	if e.vars.params = nil; param != nil {
		e.vars.params, name = valueOf(param), param.GetName()
	}
	decisions, annotations := e.validate(&p.policy.Spec)
	for _, d := range decisions {
		out.Decisions = append(out.Decisions, Decision{Outcome: d.outcome, Message: d.message, Params: name})
	}
	for _, a := range annotations {
		if a.err == "" {
			out.Annotations[p.policy.Name+"/"+a.key] = a.value
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

// request returns the request as policies see it.
func (r *Request) request() *request {
	q := &request{
		kind: r.Kind, resource: r.Resource, subresource: r.Subresource, operation: r.Operation, name: r.Name, namespace: r.Namespace,
		user: r.User, dryRun: r.DryRun, equivalent: runtime.NewEquivalentResourceRegistry(),
	}
	if q.resource.Empty() {
		q.resource = resourceOf(r.Kind)
	}
	if q.operation == "" {
		q.operation = admission.Create
	}
	if q.user == nil {
		q.user = &user.DefaultInfo{}
	}
	as := func(o runtime.Object) func(schema.GroupVersionKind) *subject {
		return func(schema.GroupVersionKind) *subject {
			if o == nil {
				return nil
			}
			return &subject{made: func() (runtime.Object, error) { return o, nil }}
		}
	}
	q.object, q.old, q.values = as(r.Object), as(r.Old), q.value
	q.space = func() (*corev1.Namespace, string) {
		if r.NamespaceObject == nil && r.Namespace != "" {
			return nil, "the namespace " + r.Namespace
		}
		return r.NamespaceObject, ""
	}
	q.matcher, q.interfaces = matching.NewMatcher(lister{q}, nil), interfacesOf(q.equivalent)
	q.attr = q.attributes(r.Object, r.Old, r.Namespace)
	return q
}

// CheckMutating says what is wrong with the expressions of a
// MutatingAdmissionPolicy, as the API server would.
func CheckMutating(p *admissionregistrationv1.MutatingAdmissionPolicy) error {
	_, err := compileMutating(p, watch{})
	return err
}
