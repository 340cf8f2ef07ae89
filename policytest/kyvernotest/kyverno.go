// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"maps"
	"path"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/verdict"
)

// kyvernoRules asks the rules of one type of all policies of kyverno.io.
func (e *evaluation) kyvernoRules(kind string) {
	for _, p := range e.kyverno {
		part := rulesOf(p, kind)
		if part == nil {
			continue
		}
		opts, operation := e.evaluateOptions(p.Name)
		r := e.request(e.resource, operation)
		if kind == kyverno.TypeGenerate {
			r.Cluster = e.cluster.with(e.cloneSources(p.Name)...)
		}
		out := response{policy: p.Name, resource: tree(e.resource)}
		for _, got := range part.Evaluate(e.ctx, r, opts) {
			if got.Type == kind && got.Status != kyverno.None {
				out.rules = append(out.rules, e.kyvernoRule(got))
			}
		}
		out.patched = tree(e.resource)
		if kind != kyverno.TypeGenerate || len(out.rules) > 0 {
			e.out = append(e.out, out)
		}
	}
}

// kyvernoRule takes what a rule says, and the resource as it leaves it.
func (e *evaluation) kyvernoRule(got kyverno.Response) ruleResponse {
	rule := ruleResponse{name: got.Rule, kind: got.Type, status: string(got.Status), message: got.Message, generated: got.Generated, unknown: got.Unknown}
	if got.Changed == nil {
		return rule
	}
	if changed := object.New(object.FromAny(got.Changed), nil); keyOf(changed) != keyOf(e.resource) && e.isTarget(keyOf(changed)) {
		rule.target = got.Changed
	} else {
		e.hold(got.Changed)
	}
	return rule
}

func (w *world) isTarget(key resourceKey) bool {
	for _, o := range w.targets {
		if keyOf(o) == key {
			return true
		}
	}
	return false
}

// rulesOf returns the policy with its rules of one type; nil if there are none.
func rulesOf(p *kyverno.Policy, kind string) *kyverno.Policy {
	var rules []*kyverno.Rule
	for _, r := range p.Rules {
		is := false
		switch kind {
		case kyverno.TypeMutate:
			is = r.Mutation != nil
		case kyverno.TypeValidate:
			is = r.Validation != nil
		case kyverno.TypeGenerate:
			is = r.Generation != nil
		case kyverno.TypeVerifyImages:
			is = len(r.VerifyImages) > 0
		}
		if is {
			rules = append(rules, r)
		}
	}
	if rules == nil {
		return nil
	}
	part := *p
	part.Rules = rules
	return &part
}

// evaluateOptions returns what the values give for a policy and the resource,
// and the operation.
func (e *evaluation) evaluateOptions(name string) (kyverno.EvaluateOptions, string) {
	opts := kyverno.EvaluateOptions{
		Variables:       maps.Clone(e.values.GlobalValues),
		RuleVariables:   map[string]map[string]any{},
		ForEach:         map[string]map[string][]any{},
		NamespaceLabels: e.namespaces()[e.resource.Namespace],
		Roles:           e.user.Roles,
		ClusterRoles:    e.user.ClusterRoles,
		User:            e.user.UserInfo,
		APICalls:        map[string]kyverno.Answer{},
		GlobalContext:   e.told.Global,
	}
	for url, told := range e.told.HTTP {
		answer, _ := told.(map[string]any)
		status, _ := answer["statusCode"].(int)
		opts.APICalls[url] = kyverno.Answer{Status: status, Body: answer["body"]}
	}
	if opts.Variables == nil {
		opts.Variables = map[string]any{}
	}
	for _, p := range e.values.Policies {
		if p.Name != name {
			continue
		}
		for _, r := range p.Resources {
			if r.Name == e.resource.Name {
				maps.Copy(opts.Variables, r.Values)
			}
		}
		for _, r := range p.Rules {
			opts.RuleVariables[r.Name], opts.ForEach[r.Name] = r.Values, r.ForeachValues
		}
	}
	for _, s := range e.values.Subresources {
		_, sub, _ := strings.Cut(s.Subresource.Name, "/")
		opts.Subresources = append(opts.Subresources, kyverno.Subresource{
			APIVersion: apiVersion(s.Subresource.Group, s.Subresource.Version), Kind: s.Subresource.Kind,
			Parent: apiVersion(s.ParentResource.Group, s.ParentResource.Version), ParentKind: s.ParentResource.Kind, Name: sub,
		})
	}
	e.tell(name, opts.Variables)
	if e.operation != "" {
		opts.Variables["request.operation"] = e.operation
	}
	operation, _ := opts.Variables["request.operation"].(string)
	if operation == "" {
		opts.Variables["request.operation"] = "CREATE"
	}
	return opts, operation
}

func apiVersion(group, version string) string {
	return strings.TrimPrefix(path.Join(group, version), "/")
}

// cloneSources returns what rules that generate clone.
func (e *evaluation) cloneSources(name string) []*object.Object {
	var out []*object.Object
	for i := range e.Results {
		r := &e.Results[i]
		if r.CloneSource == "" || path.Base(r.Policy) != name {
			continue
		}
		objects, err := e.documents(r.CloneSource)
		if err != nil {
			continue // the result finds that nothing was generated
		}
		for _, o := range objects {
			out = append(out, e.scopes.placed(o))
		}
	}
	return out
}

// admissionMutators asks the MutatingAdmissionPolicies.
func (e *evaluation) admissionMutators() {
	for _, m := range e.mutators {
		if !m.Matches(e.resource.GroupKind()) {
			continue
		}
		before := e.resource
		changed, v, applies := m.Mutate(e.ctx, e.request(e.resource, e.globalOperation()))
		rule := admissionRule(m.Info(), v.Outcome, "Mutation")
		if !applies {
			rule.status = "skip"
		}
		if changed != nil {
			e.resource = object.New(changed, e.resource.Origin)
		}
		for _, f := range v.Findings {
			rule.message, rule.unknown = f.Message, f.Message
		}
		e.out = append(e.out, response{policy: m.Info().Policy.Name, ruleless: true, resource: tree(before), patched: tree(e.resource), rules: []ruleResponse{rule}})
	}
}

// admissionRules asks the ValidatingAdmissionPolicies.
func (e *evaluation) admissionRules() {
	for _, rule := range e.rules {
		out := response{policy: rule.Info().Policy.Name, ruleless: true, resource: tree(e.resource), patched: tree(e.resource)}
		if rule.Matches(e.resource.GroupKind()) {
			if v, applies := rule.Judge(e.ctx, e.request(e.resource, e.globalOperation())); applies {
				got := admissionRule(rule.Info(), v.Outcome, "Validation")
				for _, f := range v.Findings {
					got.message = f.Message
					if f.Outcome == verdict.Unknown {
						got.unknown = f.Message
					}
				}
				out.rules = []ruleResponse{got}
			}
		}
		e.out = append(e.out, out)
	}
}

func admissionRule(info *policy.Info, outcome verdict.Outcome, kind string) ruleResponse {
	status := map[verdict.Outcome]string{verdict.Pass: "pass", verdict.Fail: "fail", verdict.Unknown: "error"}[outcome]
	return ruleResponse{name: info.Policy.Name, kind: kind, status: status}
}
