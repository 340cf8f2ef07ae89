// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"
	"slices"
	"time"

	"github.com/kyverno/api/api/policies.kyverno.io/v1alpha1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// spec is what the types of policies have in common, and what each has of its
// own.
type spec struct {
	match         *admissionregistrationv1.MatchResources
	conditions    []admissionregistrationv1.MatchCondition
	variables     []admissionregistrationv1.Variable
	validations   []admissionregistrationv1.Validation
	annotations   []admissionregistrationv1.AuditAnnotation
	actions       []admissionregistrationv1.ValidationAction
	failurePolicy *admissionregistrationv1.FailurePolicyType
	// json says that the policy judges documents that are no objects.
	json bool
	// controllers are those of pods that the policy is generated for; nil for all.
	controllers []string

	mutations        []admissionregistrationv1alpha1.Mutation
	target           *v1alpha1.TargetMatchConstraints
	targetConditions []admissionregistrationv1.MatchCondition
	atomic           bool // atomic fields may be changed, as server-side apply does

	generations []v1alpha1.Generation
	schedule    string

	image *v1alpha1.ImageValidatingPolicySpec
}

// exception is a PolicyException.
type exception struct {
	object.Ref
	spec v1alpha1.PolicyExceptionSpec
	// priority decides whose report is taken where several excuse a request.
	priority int
	document *object.Object
}

// The bounds of what one policy may hold.
const (
	maxExpressions = 1000
	maxRefs        = 10000
)

// reader reads documents.
type reader struct {
	opts       policy.Options
	policies   []*Policy
	exceptions []*exception
	problems   []policy.Problem
}

// Read reads documents without making rules of them, for who wants the policies
// themselves.
func Read(docs []*object.Object, opts policy.Options) ([]*Policy, []policy.Problem) {
	r := &reader{opts: opts}
	for _, o := range docs {
		gk := o.GroupKind()
		switch {
		case !Handles(gk):
		case gk.Kind == "PolicyException":
			r.exception(o)
		default:
			r.policy(o)
		}
	}
	r.policies = slices.DeleteFunc(r.policies, func(p *Policy) bool {
		err := p.compile(r.exceptions)
		if err != nil {
			r.problem(p.Object, err.path, "%s", err.Error())
			return true
		}
		p.outside = p.Type == ImageValidating || p.needs().Outside
		return false
	})
	return r.policies, r.problems
}

func (r *reader) problem(o *object.Object, path object.Path, format string, args ...any) {
	r.problems = append(r.problems, policy.Problem{Object: o.Ref, Position: o.Position(path), Message: fmt.Sprintf(format, args...)})
}

// decode reads a spec. Fields that the type does not have are problems, and left
// out; it returns false where a value is of another type.
func (r *reader) decode(o *object.Object, into any) bool {
	node := o.Root.Get("spec")
	if node == nil || node.Kind != object.Map {
		r.problem(o, nil, "the %s has no spec", o.Kind)
		return false
	}
	if node.HasUnknown() {
		r.problem(o, object.Path{{Field: "spec"}}, "the %s cannot be read as a whole: %s", o.Kind, node.FirstUnknown())
		return false
	}
	for _, err := range object.Decode(node, into) {
		at := o.Position(object.Path{{Field: "spec"}})
		if err.Line > 0 {
			at.Line, at.Column, at.Quote, at.QuoteColumn = err.Line, err.Col, "", 0
		}
		r.problems = append(r.problems, policy.Problem{Object: o.Ref, Position: at, Message: err.Msg})
	}
	return true
}

func (r *reader) exception(o *object.Object) {
	e := &exception{Ref: o.Ref, document: o, priority: priority(o)}
	if !r.decode(o, &e.spec) {
		return
	}
	if len(e.spec.PolicyRefs) == 0 || len(e.spec.PolicyRefs) > maxRefs {
		r.problem(o, object.Path{{Field: "spec"}, {Field: "policyRefs"}}, "the exception names %d policies; want 1 to %d", len(e.spec.PolicyRefs), maxRefs)
		return
	}
	r.exceptions = append(r.exceptions, e)
}

// priority reads the label by which one exception goes before another.
func priority(o *object.Object) int {
	n := 0
	if _, err := fmt.Sscanf(o.Root.At("metadata", "labels", "polex.kyverno.io/priority").Str(), "%d", &n); err != nil {
		return 0
	}
	return n
}

// names says whether the exception is to a policy.
func (e *exception) names(p *Policy) bool {
	return slices.ContainsFunc(e.spec.PolicyRefs, func(ref v1alpha1.PolicyRef) bool { return ref.Name == p.Name && ref.Kind == p.Kind })
}

// expired says whether the exception no longer holds; known is false where it
// ends some time and the time is not known.
func (e *exception) expired(now time.Time) (expired, known bool) {
	if e.spec.ExpiresAt == nil {
		return false, true
	}
	return now.After(e.spec.ExpiresAt.Time), !now.IsZero()
}

func (r *reader) policy(o *object.Object) {
	p := &Policy{Ref: o.Ref, Type: kindTypes[o.Kind], Object: o, timeout: r.opts.Timeout, coverage: r.opts.Coverage}
	ok := false
	switch p.Type {
	case Validating:
		ok = r.validating(p)
	case Mutating:
		ok = r.mutating(p)
	case Generating:
		ok = r.generating(p)
	case Deleting:
		ok = r.deleting(p)
	case ImageValidating:
		ok = r.imageValidating(p)
	}
	if !ok {
		return
	}
	s := &p.spec
	if n := len(s.conditions) + len(s.variables) + len(s.validations) + len(s.mutations) + len(s.generations) + len(s.annotations) + len(s.targetConditions); n > maxExpressions {
		r.problem(o, object.Path{{Field: "spec"}}, "the policy has %d expressions; at most %d are read", n, maxExpressions)
		return
	}
	if err := p.addVariants(); err != nil {
		r.problem(o, object.Path{{Field: "spec"}, {Field: "matchConstraints"}}, "%s", err)
		return
	}
	r.policies = append(r.policies, p)
}

func (r *reader) validating(p *Policy) bool {
	var in v1alpha1.ValidatingPolicySpec
	if !r.decode(p.Object, &in) {
		return false
	}
	switch mode := in.EvaluationMode(); mode {
	case "Kubernetes", "JSON":
		p.spec.json = mode == "JSON"
	default:
		r.problem(p.Object, object.Path{{Field: "spec"}, {Field: "evaluation"}, {Field: "mode"}}, "policies with evaluation mode %q judge requests to a proxy, which are not judged here; Kubernetes and JSON are", mode)
		return false
	}
	p.spec.match, p.spec.conditions, p.spec.variables = in.MatchConstraints, in.MatchConditions, in.Variables
	p.spec.validations, p.spec.annotations = in.Validations, in.AuditAnnotations
	p.spec.actions, p.spec.failurePolicy = in.ValidationActions(), in.FailurePolicy
	if in.AutogenConfiguration != nil {
		p.spec.setControllers(in.AutogenConfiguration.PodControllers)
	}
	return true
}

func (s *spec) setControllers(c *v1alpha1.PodControllersGenerationConfiguration) {
	if c != nil {
		s.controllers = c.Controllers
	}
}

func (r *reader) mutating(p *Policy) bool {
	var in v1alpha1.MutatingPolicySpec
	if !r.decode(p.Object, &in) {
		return false
	}
	p.spec.match, p.spec.conditions, p.spec.variables = in.MatchConstraints, in.MatchConditions, in.Variables
	p.spec.annotations, p.spec.failurePolicy = in.AuditAnnotations, in.FailurePolicy
	p.spec.mutations, p.spec.target, p.spec.targetConditions = in.Mutations, in.TargetMatchConstraints, in.TargetMatchConditions
	p.MutatesExisting = in.MutateExistingEnabled()
	p.spec.atomic = in.EvaluationConfiguration != nil && in.EvaluationConfiguration.UseServerSideApply
	if in.AutogenConfiguration != nil {
		p.spec.setControllers(in.AutogenConfiguration.PodControllers)
	}
	return true
}

func (r *reader) generating(p *Policy) bool {
	var in v1alpha1.GeneratingPolicySpec
	if !r.decode(p.Object, &in) {
		return false
	}
	p.spec.match, p.spec.conditions, p.spec.variables = in.MatchConstraints, in.MatchConditions, in.Variables
	p.spec.annotations, p.spec.generations = in.AuditAnnotations, in.Generation
	return true
}

func (r *reader) deleting(p *Policy) bool {
	var in v1alpha1.DeletingPolicySpec
	if !r.decode(p.Object, &in) {
		return false
	}
	p.spec.match, p.spec.conditions, p.spec.variables = in.MatchConstraints, in.Conditions, in.Variables
	p.spec.schedule = in.Schedule
	return true
}

func (r *reader) imageValidating(p *Policy) bool {
	var in v1alpha1.ImageValidatingPolicySpec
	if !r.decode(p.Object, &in) {
		return false
	}
	p.spec.json = in.EvaluationMode() == "JSON"
	p.spec.match, p.spec.conditions, p.spec.variables = in.MatchConstraints, in.MatchConditions, in.Variables
	p.spec.validations, p.spec.annotations = in.Validations, in.AuditAnnotations
	p.spec.actions, p.spec.failurePolicy = in.ValidationActions(), in.FailurePolicy
	p.spec.image = &in
	if in.AutogenConfiguration != nil {
		p.spec.setControllers(in.AutogenConfiguration.PodControllers)
	}
	return true
}
