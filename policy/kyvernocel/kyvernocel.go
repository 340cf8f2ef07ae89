// SPDX-License-Identifier: Apache-2.0

// Package kyvernocel runs the policies of policies.kyverno.io, which are written
// in CEL: ValidatingPolicy, MutatingPolicy, GeneratingPolicy, DeletingPolicy and
// ImageValidatingPolicy, each with its namespaced form, and the PolicyExceptions
// of that group. Expressions are compiled with the libraries of Kyverno's own
// SDK; what policies select, generate for the controllers of pods and make of
// their results is as in Kyverno.
//
// What an expression looks up and is not told (an object of the cluster, an
// entry of the global context) makes its verdict unknown, never a pass. Registries
// and services are asked as far as the network of the request allows, and unknown
// otherwise.
package kyvernocel

import (
	"context"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Group is the API group of the policies.
const Group = "policies.kyverno.io"

// types are the kinds of policies.
var kindTypes = map[string]Type{
	"ValidatingPolicy": Validating, "NamespacedValidatingPolicy": Validating,
	"MutatingPolicy": Mutating, "NamespacedMutatingPolicy": Mutating,
	"GeneratingPolicy": Generating, "NamespacedGeneratingPolicy": Generating,
	"DeletingPolicy": Deleting, "NamespacedDeletingPolicy": Deleting,
	"ImageValidatingPolicy": ImageValidating, "NamespacedImageValidatingPolicy": ImageValidating,
}

// Handles says whether Load reads documents of a kind.
func Handles(gk object.GroupKind) bool {
	return gk.Group == Group && (kindTypes[gk.Kind] != "" || gk.Kind == "PolicyException")
}

// Type is what a policy does.
type Type string

// The types, in Kyverno's words for what their rules do.
const (
	Validating      Type = "Validation"
	Mutating        Type = "Mutation"
	Generating      Type = "Generation"
	Deleting        Type = "Deletion"
	ImageValidating Type = "ImageVerify"
)

// Status is what Kyverno says of a policy and a request.
type Status string

// The statuses. None is that of a policy that is not about the request.
const (
	Pass  Status = "pass"
	Fail  Status = "fail"
	Error Status = "error"
	Skip  Status = "skip"
	None  Status = ""
)

// Response is what a policy says of a request.
type Response struct {
	// Rule is what Kyverno calls the result: mostly empty.
	Rule    string
	Status  Status
	Message string
	// Path is the field that a failing expression reads.
	Path object.Path
	// Changed is the object as the policy leaves it, where it changes it.
	Changed map[string]any
	// Generated are the objects that the policy makes.
	Generated []map[string]any
	// Unknown says what is not known and is needed; the status is Error then.
	Unknown string
	// Exceptions are the names of the exceptions that excuse the request.
	Exceptions []string
	// Hidden is set where Kyverno does not even say that the policy is not about
	// the request: it selects by one rule and nothing else.
	Hidden bool
}

// Told is what somebody tells in place of what policies look up. With it,
// policies may make random values.
type Told struct {
	// Images is what registries say of images.
	Images map[string]map[string]any
	// Global are the entries of the global context.
	Global map[string]any
	// HTTP are answers, by METHOD:URL or URL.
	HTTP map[string]any
}

// Policy is a policy that is ready to judge. It is safe for concurrent use.
type Policy struct {
	object.Ref
	Type Type
	// MutatesExisting says that it changes what is there already.
	MutatesExisting bool
	// Object is the document.
	Object *object.Object

	spec spec
	// variants are the policy itself and those that are generated for the
	// controllers of pods.
	variants []*variant
	timeout  time.Duration
	outside  bool // it asks registries or services
	coverage *policy.Coverage
}

// Evaluate says what Kyverno would say of a request: one response for the policy
// and one for each that it generates for the controllers of pods.
func (p *Policy) Evaluate(ctx context.Context, r *policy.Request, told *Told) []Response {
	if p.spec.json {
		if r.Object == nil {
			return nil
		}
		resp, _ := p.EvaluateJSON(ctx, r.Object.Root, told)
		resp.Hidden = true
		return []Response{resp}
	}
	ctx, cancel := p.bound(ctx, r.Network)
	defer cancel()
	out := make([]Response, 0, len(p.variants))
	for _, v := range p.variants {
		out = append(out, v.evaluate(ctx, r, told).hushed(isSecret(r)))
	}
	return out
}

// bound limits how long the policy may take: as long as the network allows where
// it asks that.
func (p *Policy) bound(ctx context.Context, n *policy.Network) (context.Context, context.CancelFunc) {
	timeout := p.timeout
	switch {
	case n != nil && p.outside:
		timeout = n.Limit()
	case timeout == 0:
		timeout = time.Second
	}
	return context.WithTimeout(ctx, timeout)
}

// EvaluateJSON says what a policy that judges JSON says of a document; ok is
// false where it judges objects only.
func (p *Policy) EvaluateJSON(ctx context.Context, root *object.Node, told *Told) (resp Response, ok bool) {
	if !p.spec.json && p.Type != Deleting {
		return Response{}, false
	}
	ctx, cancel := p.bound(ctx, nil)
	defer cancel()
	v := p.variants[0]
	tree, _ := root.Any().(map[string]any)
	s := &subject{object: tree, unknown: root.FirstUnknown(), namespaceKnown: true, attributes: &attributes{}}
	if s.unknown != "" {
		return failure("evaluation", &unknownError{s.unknown}), true
	}
	return v.judge(ctx, v.newActivation(nil, s, told)), true
}
