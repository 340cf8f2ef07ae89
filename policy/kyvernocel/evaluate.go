// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/policy"
)

// evaluate says what Kyverno would say of a request.
func (v *variant) evaluate(ctx context.Context, r *policy.Request, told *Told) Response {
	s := subjectOf(r)
	if told != nil {
		s = s.lenient()
	}
	matched, err := v.matcher.relaxed(s.attributes).match(s)
	switch {
	case err != nil:
		return failure("match", err)
	case !matched:
		return Response{Hidden: v.hidden()}
	case s.unknown != "":
		return failure("evaluation", &unknownError{s.unknown})
	case v.config == extracted:
		return v.extract(ctx, r, s, told)
	}
	return v.judge(ctx, v.newActivation(r, s, told))
}

// hidden says whether Kyverno says nothing at all of what the policy does not
// select.
func (v *variant) hidden() bool {
	switch v.policy.Type {
	case Generating, Deleting:
		return true
	case ImageValidating:
		return false
	}
	return v.matcher.plain
}

// newActivation returns what the variant's expressions see.
func (v *variant) newActivation(r *policy.Request, s *subject, told *Told) *activation {
	a := &activation{subject: s, current: s.object, exemption: &Exemption{}, mayBe: told != nil}
	a.lookup = &lookup{request: r, told: told, namespace: v.namespace(), a: a}
	return a
}

// judge evaluates the variant.
func (v *variant) judge(ctx context.Context, a *activation) Response {
	p, cerr := v.compiled()
	if cerr != nil {
		return failure("evaluation", &unknownError{"what is generated of the policy for controllers of pods does not compile: " + cerr.Error()})
	}
	a.ctx = ctx
	a.bind(ctx, p.names, p.variables)
	if v.policy.Type == Deleting {
		return v.deletes(ctx, a, p)
	}
	if v.policy.Type == ImageValidating {
		if resp := v.conditions(ctx, a, p); resp != nil {
			return *resp
		}
	}
	if resp := v.excused(ctx, a, p); resp != nil {
		return *resp
	}
	if v.policy.Type != ImageValidating {
		if resp := v.conditions(ctx, a, p); resp != nil {
			return *resp
		}
	}
	switch v.policy.Type {
	case Mutating:
		return v.mutate(ctx, a, p)
	case Generating:
		return v.generate(ctx, a, p)
	case ImageValidating:
		return v.verify(ctx, a, p)
	}
	return validate(ctx, a, p)
}

// failure is the response to what cannot be evaluated.
func failure(rule string, err error) Response {
	out := Response{Rule: rule, Status: Error, Message: err.Error()}
	var unknown *unknownError
	if errors.As(err, &unknown) {
		out.Unknown = unknown.what
	}
	return out
}

// hushed returns a response without the words of expressions over a Secret, which
// may hold its values.
func (r Response) hushed(secret bool) Response {
	if !secret || r.Status != Error {
		return r
	}
	r.Message = policy.Hushed
	if r.Unknown != "" {
		r.Unknown = r.Message
	}
	return r
}

// conditions evaluates the conditions of the policy; nil where they hold.
func (v *variant) conditions(ctx context.Context, a *activation, p *program) *Response {
	holds, err := all(ctx, a, p.conditions)
	var resp Response
	switch {
	case err != nil && v.ignores(err):
		resp = Response{Status: Skip, Message: "a condition cannot be evaluated, and the policy ignores that"}
	case err != nil:
		resp = failure("evaluation", err)
	case !holds:
		resp = Response{Status: Skip, Message: "the policy's conditions do not hold"}
		if v.policy.Type == Generating || v.policy.Type == ImageValidating {
			resp = Response{Hidden: true}
		}
	default:
		return nil
	}
	return &resp
}

// ignores says whether the policy takes an error of a condition for one that
// does not hold. What is not known is no such error.
func (v *variant) ignores(err error) bool {
	var unknown *unknownError
	if errors.As(err, &unknown) || v.policy.Type != Validating && v.policy.Type != ImageValidating {
		return false
	}
	return v.spec.failurePolicy != nil && *v.spec.failurePolicy == admissionregistrationv1.Ignore
}

// all says whether all conditions hold. One that does not decides, whatever
// becomes of the others.
func all(ctx context.Context, a *activation, conditions []*expression) (bool, error) {
	var first error
	for _, c := range conditions {
		holds, err := c.boolean(ctx, a)
		switch {
		case err != nil && first == nil:
			first = err
		case err == nil && !holds:
			return false, nil
		}
	}
	return first == nil, first
}

// excused looks for exceptions. One without images and values excuses the
// request; others tell the expressions what is allowed.
func (v *variant) excused(ctx context.Context, a *activation, p *program) *Response {
	var matched []*excuse
	whole := false
	for _, e := range p.exceptions {
		holds, err := e.holds(ctx, a)
		if err != nil && !whole {
			resp := failure("evaluation", err)
			return &resp
		}
		if err != nil || !holds {
			continue
		}
		partial := len(e.spec.Images)+len(e.spec.AllowedValues) > 0
		if partial && v.policy.Type == ImageValidating {
			continue // its expressions do not see what is allowed
		}
		matched = append(matched, e)
		whole = whole || !partial
		a.exemption.AllowedImages = append(a.exemption.AllowedImages, e.spec.Images...)
		a.exemption.AllowedValues = append(a.exemption.AllowedValues, e.spec.AllowedValues...)
	}
	if !whole {
		return nil
	}
	resp := excusing(matched)
	return &resp
}

// holds says whether the exception is about the request, and not over.
func (e *excuse) holds(ctx context.Context, a *activation) (bool, error) {
	if !a.mayBe {
		expired, known := e.expired(a.now)
		if known && expired {
			return false, nil
		}
		if !known {
			return false, &unknownError{"whether the exception " + e.Ref.String() + " is over is not known"}
		}
	}
	return all(ctx, a, e.conditions)
}

// excusing is the response where exceptions excuse the request: as the first of
// the highest priority wants it reported.
func excusing(matched []*excuse) Response {
	best := matched[0]
	out := Response{Rule: "exception", Status: Skip}
	for _, e := range matched {
		if e.priority > best.priority {
			best = e
		}
		out.Exceptions = append(out.Exceptions, strings.TrimPrefix(e.Namespace+"/"+e.Name, "/"))
	}
	if best.spec.ReportResult == string(Pass) {
		out.Status = Pass
	}
	out.Message = "excused by " + strings.Join(out.Exceptions, ", ")
	return out
}

// validate evaluates what the policy requires, up to the first that is not met.
func validate(ctx context.Context, a *activation, p *program) Response {
	for i, val := range p.validations {
		holds, err := val.expression.boolean(ctx, a)
		if err != nil {
			return failure("", err)
		}
		if !holds {
			return val.failed(ctx, a, p, i)
		}
	}
	if err := evaluateAnnotations(ctx, a, p); err != nil {
		return failure("evaluation", err)
	}
	return Response{Status: Pass}
}

// failed is the response where a requirement is not met.
func (val *validation) failed(ctx context.Context, a *activation, p *program, i int) Response {
	out := Response{Status: Fail, Message: val.message}
	if val.words != nil && !a.secret {
		words, err := val.words.text(ctx, a)
		if err != nil {
			words = fmt.Sprintf("the message cannot be evaluated: %v", err)
		}
		out.Message = words
	}
	if out.Message == "" {
		out.Message = fmt.Sprintf("requirement %d is not met", i+1)
	}
	if err := evaluateAnnotations(ctx, a, p); err != nil {
		return failure("", err)
	}
	out.Path = val.expression.blame(ctx, a, p)
	return out
}

// evaluateAnnotations evaluates what would be written with the audit event: an
// error there is one of the policy.
func evaluateAnnotations(ctx context.Context, a *activation, p *program) error {
	for _, e := range p.annotations {
		out, err := e.eval(ctx, a)
		if err != nil {
			return fmt.Errorf("audit annotation: %w", err)
		}
		if _, ok := out.(types.String); !ok && out != types.NullValue {
			return errors.New("an audit annotation is no string")
		}
	}
	return nil
}

// extract judges the pods of an object of a kind that is not known to hold some:
// the first that fails decides.
func (v *variant) extract(ctx context.Context, r *policy.Request, s *subject, told *Told) Response {
	if v.policy.Type == Mutating {
		return Response{Status: Skip, Message: "pods in objects of other kinds are not changed"}
	}
	tree := s.object
	if tree == nil {
		tree = s.old
	}
	found := findTemplates(tree)
	if len(found) == 0 {
		return failure("", fmt.Errorf("there is no pod template in %s", r.Subject().Ref))
	}
	var last Response
	for i := range found {
		resp := v.judge(ctx, v.newActivation(r, s.ofPod(&found[i]), told))
		switch resp.Status {
		case Fail, Error:
			resp.Message = fmt.Sprintf("%s (pod template at %s)", resp.Message, found[i].path)
			resp.Path = append(found[i].where(), resp.Path...)
			return resp
		case Pass:
			last = resp
		default:
			if last.Status == None {
				last = resp
			}
		}
	}
	return last
}

// ofPod returns what policies see of a pod that an object holds.
func (s *subject) ofPod(t *podTemplate) *subject {
	out := *s
	pod := t.pod(s.attributes)
	if s.object != nil {
		out.object = pod
	} else {
		out.old = pod
	}
	a := *s.attributes
	a.kind.Group, a.kind.Version, a.kind.Kind = "", "v1", "Pod"
	a.resource.Group, a.resource.Version, a.resource.Resource = "", "v1", "pods"
	out.attributes = &a
	out.request = out.newRequest()
	return &out
}

// deletes says whether a DeletingPolicy would delete the object.
func (v *variant) deletes(ctx context.Context, a *activation, p *program) Response {
	for _, e := range p.exceptions {
		holds, err := e.holds(ctx, a)
		if err != nil {
			return failure(v.policy.Name, err)
		}
		if holds {
			return Response{Rule: v.policy.Name, Status: Fail, Message: "excused by " + e.Name}
		}
	}
	holds, err := all(ctx, a, p.conditions)
	switch {
	case err != nil:
		return failure(v.policy.Name, err)
	case holds:
		return Response{Rule: v.policy.Name, Status: Pass, Message: "the object would be deleted"}
	}
	return Response{Rule: v.policy.Name, Status: Fail, Message: "the object would stay"}
}
