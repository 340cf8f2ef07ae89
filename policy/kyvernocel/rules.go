// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// Load makes rules of policies and of the exceptions to them: one of each policy
// that judges, a mutator of each that changes objects. A DeletingPolicy is a rule
// that no object meets that it would delete. A GeneratingPolicy judges and
// changes nothing: its rule is not supported.
func Load(docs []*object.Object, opts policy.Options) *policy.Set {
	policies, problems := Read(docs, opts)
	out := &policy.Set{Problems: problems}
	for _, p := range policies {
		r := &rule{policy: p, info: p.info()}
		switch p.Type {
		case Mutating:
			out.Mutators = append(out.Mutators, (*mutator)(r))
		case Generating:
			out.Others = append(out.Others, policy.Other{Info: r.info, Does: "makes objects"})
		case Deleting:
			out.Others = append(out.Others, policy.Other{Info: r.info, Does: "deletes objects"})
		default:
			out.Rules = append(out.Rules, r)
		}
	}
	return out
}

// rule is a policy that judges.
type rule struct {
	policy *Policy
	info   *policy.Info
}

// mutator is a policy that changes objects.
type mutator rule

// Info implements policy.Rule.
func (r *rule) Info() *policy.Info { return r.info }

// Matches implements policy.Rule.
func (r *rule) Matches(gk object.GroupKind) bool { return r.policy.matches(gk) }

// Asks implements policy.Asking.
func (r *rule) Asks(q policy.Requests) bool {
	return slices.ContainsFunc(r.policy.variants, func(v *variant) bool {
		c := v.matcher.constraints
		return c != nil && (len(c.ResourceRules) == 0 || q.SelectedBy(c.ResourceRules))
	})
}

// Info implements policy.Mutator.
func (m *mutator) Info() *policy.Info { return m.info }

// Matches implements policy.Mutator.
func (m *mutator) Matches(gk object.GroupKind) bool { return m.policy.matches(gk) }

func (p *Policy) matches(gk object.GroupKind) bool {
	if p.spec.json {
		return true
	}
	return slices.ContainsFunc(p.variants, func(v *variant) bool { return v.matcher.kinds(gk) })
}

// elsewhere says that the policy is one of another namespace.
func (p *Policy) elsewhere(r *policy.Request) bool {
	namespace := p.variants[0].namespace()
	return namespace != "" && r.Subject().Namespace != namespace && !subjectOf(r).attributes.dark.namespace
}

// responses are those of the policy that are about the request.
func (p *Policy) responses(ctx context.Context, r *policy.Request) []Response {
	if p.elsewhere(r) {
		return nil
	}
	return slices.DeleteFunc(p.Evaluate(ctx, r, nil), func(resp Response) bool { return resp.Status == None || resp.Status == Skip })
}

// Judge implements policy.Rule.
func (r *rule) Judge(ctx context.Context, req *policy.Request) (control.Verdict, bool) {
	responses := r.policy.responses(ctx, req)
	if len(responses) == 0 {
		return control.Verdict{}, false
	}
	out := policy.Passed()
	for i := range responses {
		if v := r.verdict(req, &responses[i]); worse(v.Outcome, out.Outcome) {
			out = v
		}
	}
	return out, true
}

// worse orders outcomes: fail, unknown, pass.
func worse(a, b verdict.Outcome) bool {
	rank := map[verdict.Outcome]int{verdict.Fail: 2, verdict.Unknown: 1}
	return rank[a] > rank[b]
}

func (r *rule) verdict(req *policy.Request, resp *Response) control.Verdict {
	deletes := r.policy.Type == Deleting
	switch {
	case resp.Status == Error:
		return policy.Unknown(unknownWords(resp))
	case deletes && resp.Status == Pass:
		return policy.Failed(nil, "the policy deletes the object, at times of the schedule "+r.policy.spec.schedule)
	case !deletes && resp.Status == Fail:
		return policy.Failed(named(req.Subject().Root, resp.Path), resp.Message)
	}
	return policy.Passed()
}

// unknownWords says why a verdict is unknown.
func unknownWords(resp *Response) string {
	switch {
	case resp.Unknown != "":
		return resp.Unknown
	case policy.IsFailing(resp.Message):
		return resp.Message
	}
	return "the policy cannot be evaluated: " + resp.Message
}

// named returns the path with items named as in the object.
func named(root *object.Node, path object.Path) object.Path {
	out := make(object.Path, 0, len(path))
	at := root
	for _, step := range path {
		if step.Item && at != nil && at.Kind == object.List && step.Index < len(at.Items) {
			step = object.ItemStep(at, step.Index)
		}
		out = append(out, step)
		at = at.Lookup(object.Path{step})
	}
	return out
}

// Mutate implements policy.Mutator.
func (m *mutator) Mutate(ctx context.Context, req *policy.Request) (*object.Node, control.Verdict, bool) {
	if req.Object == nil {
		return nil, control.Verdict{}, false
	}
	responses := m.policy.responses(ctx, req)
	if len(responses) == 0 {
		return nil, control.Verdict{}, false
	}
	var changed *object.Node
	for i := range responses {
		if responses[i].Status == Error {
			return nil, policy.Unknown(unknownWords(&responses[i])), true
		}
		if responses[i].Changed != nil {
			changed = object.FromAny(responses[i].Changed)
		}
	}
	return changed, policy.Passed(), true
}

// info returns what the policy says of itself.
func (p *Policy) info() *policy.Info {
	meta := p.Object.Root.At("metadata", "annotations")
	words := func(key string) string { return strings.TrimSpace(meta.Get("policies.kyverno.io/" + key).Str()) }
	parts := []string{p.Name}
	if ns := p.variants[0].namespace(); ns != "" {
		parts = []string{ns, p.Name}
	}
	out := &policy.Info{
		Name: policy.Name(policy.Kyverno, parts...), Language: policy.Kyverno, Policy: p.Ref,
		Title: words("title"), Description: words("description"), Remediation: words("remediation"), Topic: words("category"),
		Severity: severity(words("severity")), Action: p.action(), FailurePolicy: v1alpha1.FailClosed,
		Position: p.Object.Position(nil),
	}
	if out.Title == "" {
		out.Title = p.Name
	}
	if p.spec.failurePolicy != nil && *p.spec.failurePolicy == admissionregistrationv1.Ignore {
		out.FailurePolicy = v1alpha1.FailOpen
	}
	out.Needs = p.needs()
	return out
}

func severity(s string) v1alpha1.Severity {
	switch s := v1alpha1.Severity(strings.ToLower(s)); s {
	case v1alpha1.Critical, v1alpha1.High, v1alpha1.Low:
		return s
	case "info":
		return v1alpha1.Low
	}
	return v1alpha1.Medium
}

// action is what follows a failure. What only deletes or generates denies
// nothing.
func (p *Policy) action() v1alpha1.Action {
	actions := p.spec.actions
	switch {
	case p.Type != Validating && p.Type != ImageValidating:
		return v1alpha1.Audit
	case slices.Contains(actions, admissionregistrationv1.Deny):
		return v1alpha1.Deny
	case slices.Contains(actions, admissionregistrationv1.Warn):
		return v1alpha1.Warn
	}
	return v1alpha1.Audit
}

// needs is what the policy must know beside the request.
func (p *Policy) needs() policy.Needs {
	v := p.variants[0]
	all := v.program.reads()
	out := policy.Needs{Namespaces: all.namespace || !v.matcher.namespaces.Empty(), Outside: all.outside, User: all.user}
	for _, gk := range all.kinds {
		out.LookUp(gk)
	}
	return out
}

// reads is what all expressions of a program read.
func (p *program) reads() reads {
	var out reads
	add := func(list ...*expression) {
		for _, e := range list {
			if e != nil {
				out.add(e.reads)
			}
		}
	}
	add(p.conditions...)
	add(p.annotations...)
	add(p.targets)
	add(p.targetIf...)
	for _, v := range p.variables {
		add(v)
	}
	for _, v := range p.validations {
		add(v.expression, v.words)
	}
	for _, m := range p.patches {
		add(m.expression)
	}
	for _, g := range p.generations {
		add(g.expression)
		if g.template != nil {
			for _, fragments := range g.template.texts {
				for i := range fragments {
					add(fragments[i].expression)
				}
			}
		}
	}
	for _, x := range p.exceptions {
		add(x.conditions...)
	}
	if p.images != nil {
		for i := range p.images.extractors {
			add(p.images.extractors[i].expression)
		}
	}
	return out
}
