// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission/plugin/cel"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// inEffect is what a ValidatingAdmissionPolicy and a MutatingAdmissionPolicy
// have in common: bindings of one action put it in force.
type inEffect struct {
	info     policy.Info
	about    *criteria
	bindings []*bound
	params   *paramSource
	limits
}

// Info implements policy.Rule and policy.Mutator.
func (e *inEffect) Info() *policy.Info { return &e.info }

// Matches implements policy.Rule and policy.Mutator.
func (e *inEffect) Matches(gk object.GroupKind) bool {
	return e.about.mayMatch(gk) && slices.ContainsFunc(e.bindings, func(b *bound) bool { return b.about.mayMatch(gk) })
}

// Asks implements policy.Asking.
func (e *inEffect) Asks(q policy.Requests) bool {
	return e.about.asks(&q) && slices.ContainsFunc(e.bindings, func(b *bound) bool { return b.about.asks(&q) })
}

// rule is a ValidatingAdmissionPolicy in force.
type rule struct {
	inEffect
	policy   *admissionregistrationv1.ValidatingAdmissionPolicy
	compiled *compiled
}

var _ policy.Rule = (*rule)(nil)

// actions are the actions of bindings, strictest first.
var actions = []v1alpha1.Action{v1alpha1.Deny, v1alpha1.Warn, v1alpha1.Audit}

// validating reads a ValidatingAdmissionPolicy and returns what makes rules of it.
func (l *loader) validating(o *object.Object) (func(), error) {
	doc := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := decode(o, doc); err != nil {
		return nil, err
	}
	s := &spec{o, &doc.ObjectMeta, doc.Spec.MatchConstraints, doc.Spec.ParamKind, doc.Spec.FailurePolicy, doc.Spec.MatchConditions}
	if err := s.check(); err != nil {
		return nil, err
	}
	if len(doc.Spec.Validations) == 0 && len(doc.Spec.AuditAnnotations) == 0 {
		return nil, errors.New("spec.validations and spec.auditAnnotations are both empty")
	}
	doc = defaulted(doc)
	about, err := newCriteria(doc.Spec.MatchConstraints)
	if err != nil {
		return nil, fmt.Errorf("spec.matchConstraints: %w", err)
	}
	c, err := compileValidating(doc, watch{coverage: l.coverage, doc: o})
	if err != nil {
		return nil, err
	}
	return func() {
		for _, e := range l.inEffect(s, about, c) {
			l.set.Rules = append(l.set.Rules, &rule{e, doc, c})
		}
	}, nil
}

// inEffect returns a policy as its bindings put it in force: once for each of
// their actions.
func (l *loader) inEffect(s *spec, about *criteria, c *compiled) []inEffect {
	source := l.source(s.paramKind)
	all := l.bindingsOf(s.doc)
	var out []inEffect
	for _, action := range actions {
		bindings := all[action]
		if len(bindings) == 0 {
			continue
		}
		e := inEffect{s.info(action, bindings, source, about, c), about, bindings, source, l.limits}
		if len(out) > 0 {
			e.info.Name = policy.Name(policy.VAP, s.doc.Name, string(action))
		}
		out = append(out, e)
	}
	return out
}

// judgement collects what a policy says of a request through its bindings.
type judgement struct {
	out     control.Verdict
	applies bool
	seen    map[string]bool
}

func (j *judgement) add(outcome verdict.Outcome, path object.Path, message string) {
	j.applies = true
	if outcome == verdict.Pass {
		return
	}
	if outcome == verdict.Fail || j.out.Outcome == verdict.Pass {
		j.out.Outcome = outcome
	}
	key := string(outcome) + path.String() + "\x00" + message
	if j.seen == nil {
		j.seen = map[string]bool{}
	}
	if !j.seen[key] {
		j.seen[key] = true
		j.out.Findings = append(j.out.Findings, control.Finding{Outcome: outcome, Path: path, Message: message})
	}
}

func (j *judgement) unknown(err error) { j.add(verdict.Unknown, nil, err.Error()) }

// begin says whether a policy is about a request at all, and in which version.
func (e *inEffect) begin(r *policy.Request, j *judgement) (q *request, resource schema.GroupVersionResource, kind schema.GroupVersionKind, ok bool) {
	if r.Subject() == nil {
		return nil, resource, kind, false
	}
	q = readRequest(r)
	if slices.Contains(exempt, q.kind.GroupKind()) {
		return nil, resource, kind, false
	}
	ok, resource, kind, err := e.about.match(q)
	if err != nil {
		j.unknown(fmt.Errorf("whether the policy is about the object: %w", err))
	}
	return q, resource, kind, ok && err == nil
}

// each calls judge with every parameter of every binding that is about a request.
func (e *inEffect) each(q *request, r *policy.Request, j *judgement, judge func(*bound, *subject)) {
	for _, b := range e.bindings {
		ok, _, _, err := b.about.match(q)
		if err != nil {
			j.unknown(fmt.Errorf("whether the binding %s is about the object: %w", b.name, err))
		}
		if !ok || err != nil {
			continue
		}
		found, more, err := e.parameters(b, q, r)
		if err != nil {
			j.unknown(err)
			continue
		}
		for _, p := range found {
			judge(b, p)
		}
		if more != "" {
			j.unknown(errors.New(notKnown(more)))
		}
	}
}

// parameters returns those with which a policy is judged for a binding.
func (e *inEffect) parameters(b *bound, q *request, r *policy.Request) (found []*subject, more string, err error) {
	if b.doc == nil {
		found, err = e.params.guess(r)
		return found, "", err
	}
	return e.params.find(b.ref, q, r)
}

// allowance is the time that a policy has, which begins when its context is
// first asked for.
type allowance struct {
	parent  context.Context
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelFunc
}

func (a *allowance) context() context.Context {
	if a.ctx == nil {
		a.ctx, a.cancel = context.WithTimeout(a.parent, a.timeout)
	}
	return a.ctx
}

func (a *allowance) done() {
	if a.cancel != nil {
		a.cancel()
	}
}

// Judge implements policy.Rule.
func (x *rule) Judge(ctx context.Context, r *policy.Request) (control.Verdict, bool) {
	j := &judgement{out: policy.Passed()}
	q, resource, kind, ok := x.begin(r, j)
	if !ok {
		return j.out, j.applies
	}
	left := &allowance{parent: ctx, timeout: x.timeout}
	defer left.done()
	var e *evaluation
	x.each(q, r, j, func(_ *bound, p *subject) {
		if e == nil {
			var err error
			if e, err = x.compiled.evaluate(left.context, q, resource, kind); err != nil {
				j.unknown(err)
				return
			}
		}
		e.hide(cel.ParamsVarName, p)
		e.show(asWritten(e.object, e.old, p), p)
		decisions, _ := e.validate(&x.policy.Spec)
		for _, d := range decisions {
			j.add(d.outcome, e.locate(d), d.message)
		}
	})
	return j.out, j.applies
}
