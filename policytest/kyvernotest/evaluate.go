// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/kyvernocel"
	"sconce.dev/sconce/policy/vap"
)

// response is what a policy says of a resource.
type response struct {
	policy string
	// ruleless says that results name no rules of such policies.
	ruleless bool
	rules    []ruleResponse
	// resource is what was judged, patched what became of it.
	resource, patched map[string]any
}

// ruleResponse is what a rule says of it.
type ruleResponse struct {
	name, kind, status, message string
	generated                   []map[string]any
	// target is another object as the rule leaves it.
	target map[string]any
	// unknown says what is not known and is needed.
	unknown string
}

// responses are what all policies say of all resources, by the operation and by
// the resource, in the order of the test's files.
type responses struct {
	// keys are the resources, targets those that are changed.
	keys, targetKeys []resourceKey
	// trigger holds the responses by resource; the operation is empty where the
	// result names none.
	trigger map[string]map[resourceKey][]response
	target  map[resourceKey][]response
}

// resourceKey names a resource.
type resourceKey struct{ apiVersion, kind, namespace, name string }

func (k resourceKey) String() string {
	parts := []string{k.kind, k.name}
	if k.namespace != "" {
		parts = []string{k.kind, k.namespace + "/" + k.name}
	}
	return strings.Join(parts, " ")
}

func keyOf(o *object.Object) resourceKey {
	return resourceKey{o.APIVersion, o.Kind, o.Namespace, o.Name}
}

// policies are those of a test, ready to judge.
type policies struct {
	kyverno  []*kyverno.Policy
	cel      []*kyvernocel.Policy
	rules    []policy.Rule    // of admission policies
	mutators []policy.Mutator // of admission policies
}

// evaluate asks all policies about all resources.
func (w *world) evaluate(ctx context.Context) (*responses, error) {
	p := w.readPolicies()
	operations := []string{""}
	for i := range w.Results {
		op := w.Results[i].Operation
		if !slices.Contains([]string{"", "CREATE", "UPDATE", "DELETE"}, op) {
			return nil, fmt.Errorf("result %d: unknown operation %q; want CREATE, UPDATE or DELETE", i+1, op)
		}
		if !slices.Contains(operations, op) {
			operations = append(operations, op)
		}
	}
	out := &responses{trigger: map[string]map[resourceKey][]response{}, target: map[resourceKey][]response{}}
	for _, o := range w.resources {
		out.keys = append(out.keys, keyOf(o))
	}
	for _, operation := range operations {
		of := map[resourceKey][]response{}
		out.trigger[operation] = of
		for _, o := range w.resources {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e := &evaluation{world: w, policies: p, ctx: ctx, operation: operation, original: o, resource: o}
			of[keyOf(o)] = e.run()
		}
	}
	w.evaluatePayloads(ctx, p, out)
	w.findTargets(out)
	return out, nil
}

// readPolicies compiles the policies of a test. Those that are refused are left
// out, and remembered.
func (w *world) readPolicies() *policies {
	out := &policies{}
	var problems, more []policy.Problem
	of := func(handles func(object.GroupKind) bool) []*object.Object {
		var docs []*object.Object
		for _, o := range w.policies {
			if handles(o.GroupKind()) {
				docs = append(docs, o)
			}
		}
		return docs
	}
	out.kyverno, _, problems = kyverno.Read(of(kyverno.Handles), w.opts.Policy)
	out.cel, more = kyvernocel.Read(of(kyvernocel.Handles), w.opts.Policy)
	problems = append(problems, more...)
	if docs := of(vap.Handles); len(docs) > 0 {
		set := vap.Load(append(docs, w.parameters...), w.opts.Policy)
		out.rules, out.mutators = set.Rules, set.Mutators
		problems = append(problems, set.Problems...)
	}
	for _, p := range problems {
		w.notRead[p.Object.Name] = p.Message
	}
	return out
}

// evaluation is one resource going through all policies.
type evaluation struct {
	*world
	*policies
	ctx       context.Context
	operation string
	// original is the resource as it is written, resource as it is after the
	// policies so far.
	original, resource *object.Object
	out                []response
}

func (e *evaluation) run() []response {
	e.kyvernoRules(kyverno.TypeMutate)
	e.kyvernoRules(kyverno.TypeVerifyImages)
	e.kyvernoRules(kyverno.TypeValidate)
	e.admissionMutators()
	e.celPolicies(kyvernocel.Mutating)
	e.celPolicies(kyvernocel.Validating)
	e.celPolicies(kyvernocel.Generating)
	e.kyvernoRules(kyverno.TypeGenerate)
	e.admissionRules()
	e.resource = e.original
	e.celPolicies(kyvernocel.ImageValidating)
	if e.operation == "" {
		e.celPolicies(kyvernocel.Deleting)
	}
	return e.out
}

// request returns what is asked of a resource. What a DELETE leaves is nothing,
// and what an UPDATE changes is the same.
func (w *world) request(o *object.Object, operation string) *policy.Request {
	r := &policy.Request{Object: o, Operation: policy.Create, User: w.user.UserInfo, Now: w.opts.Now, Cluster: &w.cluster}
	switch operation {
	case "UPDATE":
		r.Old, r.Operation = o, policy.Update
	case "DELETE":
		r.Object, r.Old, r.Operation = nil, o, policy.Delete
	}
	return r
}

// globalOperation is the operation that the values give for all.
func (e *evaluation) globalOperation() string {
	if e.operation != "" {
		return e.operation
	}
	op, _ := e.values.GlobalValues["request.operation"].(string)
	return op
}

// celRequest returns what is asked of policies that know subresources by their
// names.
func (e *evaluation) celRequest() *policy.Request {
	r := e.request(e.resource, e.globalOperation())
	for _, s := range e.values.Subresources {
		if e.resource.Kind == s.Subresource.Kind && e.resource.APIVersion == apiVersion(s.Subresource.Group, s.Subresource.Version) {
			r.Resource = s.ParentResource.Name
			_, r.Subresource, _ = strings.Cut(s.Subresource.Name, "/")
		}
	}
	return r
}

// hold takes an object as policies have changed it.
func (e *evaluation) hold(tree map[string]any) {
	if tree != nil {
		e.resource = object.New(object.FromAny(tree), e.resource.Origin)
	}
}

// celPolicies asks the policies of policies.kyverno.io of one type.
func (e *evaluation) celPolicies(kind kyvernocel.Type) {
	for _, p := range e.cel {
		if p.Type != kind {
			continue
		}
		before := e.resource
		for _, r := range p.Evaluate(e.ctx, e.celRequest(), &e.told) {
			e.celResponse(p, before, r)
		}
		if kind == kyvernocel.Mutating && p.MutatesExisting {
			e.celTargets(p)
		}
	}
}

func (e *evaluation) celResponse(p *kyvernocel.Policy, before *object.Object, r kyvernocel.Response) {
	if r.Changed != nil {
		e.hold(r.Changed)
	}
	if r.Status == kyvernocel.None && r.Hidden {
		return
	}
	out := response{policy: p.Name, ruleless: true, resource: tree(before), patched: tree(e.resource)}
	if r.Status != kyvernocel.None {
		out.rules = []ruleResponse{{
			name: r.Rule, kind: string(p.Type), status: string(r.Status), message: r.Message,
			generated: r.Generated, unknown: r.Unknown,
		}}
	}
	e.out = append(e.out, out)
}

// celTargets asks a policy that changes what is there already.
func (e *evaluation) celTargets(p *kyvernocel.Policy) {
	for _, target := range e.targets {
		r := p.EvaluateTarget(e.ctx, e.celRequest(), target, &e.told)
		if r.Status == kyvernocel.None {
			continue
		}
		rule := ruleResponse{name: r.Rule, kind: string(p.Type), status: string(r.Status), message: r.Message, unknown: r.Unknown}
		if r.Status == kyvernocel.Pass {
			rule.target = tree(target)
			if r.Changed != nil {
				rule.target = r.Changed
			}
		}
		e.out = append(e.out, response{policy: p.Name, ruleless: true, resource: tree(e.resource), patched: map[string]any{}, rules: []ruleResponse{rule}})
	}
}

func tree(o *object.Object) map[string]any {
	m, _ := o.Root.Any().(map[string]any)
	return m
}

// evaluatePayloads asks the policies that judge JSON, whatever it is.
func (w *world) evaluatePayloads(ctx context.Context, p *policies, out *responses) {
	for _, payload := range w.payloads {
		key := resourceKey{name: payload.name}
		out.keys = append(out.keys, key)
		of := out.trigger[""]
		for _, c := range p.cel {
			r, ok := c.EvaluateJSON(ctx, payload.root, &w.told)
			if !ok {
				continue
			}
			resp := response{policy: c.Name, ruleless: true}
			if r.Status != kyvernocel.None {
				resp.rules = []ruleResponse{{name: r.Rule, kind: string(c.Type), status: string(r.Status), message: r.Message, unknown: r.Unknown}}
			}
			of[key] = append(of[key], resp)
		}
	}
}

// findTargets finds the responses that change the targets of the test.
func (w *world) findTargets(out *responses) {
	for _, target := range w.targets {
		key := keyOf(target)
		for _, resource := range out.keys {
			for _, r := range out.trigger[""][resource] {
				if _, rule := r.targetRule(key); rule == nil {
					continue
				}
				if _, ok := out.target[key]; !ok {
					out.targetKeys = append(out.targetKeys, key)
				}
				out.target[key] = append(out.target[key], r)
			}
		}
	}
}

// targetRule returns the first rule that changes a target, and what it makes of
// it.
func (r *response) targetRule(key resourceKey) (map[string]any, *ruleResponse) {
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.target == nil {
			continue
		}
		o := object.New(object.FromAny(rule.target), nil)
		if got := keyOf(o); got == key || key.namespace == "" && got.apiVersion == key.apiVersion && got.kind == key.kind && got.name == key.name {
			return rule.target, rule
		}
	}
	return nil, nil
}
