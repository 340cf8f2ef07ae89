// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// mutator is a MutatingAdmissionPolicy in force.
type mutator struct {
	inEffect
	policy   *admissionregistrationv1.MutatingAdmissionPolicy
	compiled *compiled
}

var _ policy.Mutator = (*mutator)(nil)

// mutating reads a MutatingAdmissionPolicy and returns what makes a mutator of it.
func (l *loader) mutating(o *object.Object) (func(), error) {
	doc := &admissionregistrationv1.MutatingAdmissionPolicy{}
	if err := decode(o, doc); err != nil {
		return nil, err
	}
	s := &spec{o, &doc.ObjectMeta, doc.Spec.MatchConstraints, doc.Spec.ParamKind, doc.Spec.FailurePolicy, doc.Spec.MatchConditions}
	if err := s.check(); err != nil {
		return nil, err
	}
	switch {
	case len(doc.Spec.Mutations) == 0:
		return nil, errors.New("spec.mutations is empty")
	case doc.Spec.ReinvocationPolicy != admissionregistrationv1.NeverReinvocationPolicy && doc.Spec.ReinvocationPolicy != admissionregistrationv1.IfNeededReinvocationPolicy:
		return nil, fmt.Errorf("spec.reinvocationPolicy: unknown value %q; want Never or IfNeeded", doc.Spec.ReinvocationPolicy)
	}
	if doc.Spec.FailurePolicy == nil {
		fail := admissionregistrationv1.Fail
		doc.Spec.FailurePolicy = &fail
	}
	about, err := newCriteria(doc.Spec.MatchConstraints)
	if err != nil {
		return nil, fmt.Errorf("spec.matchConstraints: %w", err)
	}
	c, err := compileMutating(doc, watch{coverage: l.coverage, doc: o})
	if err != nil {
		return nil, err
	}
	return func() {
		for _, e := range l.inEffect(s, about, c) {
			l.set.Mutators = append(l.set.Mutators, &mutator{e, doc, c})
		}
	}, nil
}

// Reinvocable says whether a mutator of this package is to be asked again where
// one after it changed the object.
func Reinvocable(m policy.Mutator) bool {
	x, ok := m.(*mutator)
	return ok && x.policy.Spec.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
}

// Mutate implements policy.Mutator. It asks every binding once, and none again.
func (x *mutator) Mutate(ctx context.Context, r *policy.Request) (*object.Node, control.Verdict, bool) {
	return x.mutate(ctx, r, r)
}

// mutate changes the object of a request that is matched as it was before other
// mutators changed it.
func (x *mutator) mutate(ctx context.Context, matched, r *policy.Request) (*object.Node, control.Verdict, bool) {
	j := &judgement{out: policy.Passed()}
	q, resource, kind, ok := x.begin(matched, j)
	if !ok || r.Object == nil {
		return nil, j.out, j.applies
	}
	left := &allowance{parent: ctx, timeout: x.timeout}
	defer left.done()
	var m *mutation
	x.each(q, matched, j, func(_ *bound, p *subject) {
		if j.out.Outcome != verdict.Pass {
			return // what is not known of one patch is not known of the next
		}
		if m == nil {
			var err error
			if m, err = x.start(left.context, readRequest(r), resource, kind); err != nil {
				j.unknown(err)
				return
			}
		}
		if err := m.apply(x, p, j); err != nil {
			j.unknown(err)
		}
	})
	if m == nil || j.out.Outcome != verdict.Pass {
		return nil, j.out, j.applies
	}
	changed, err := m.changed(r)
	if err != nil {
		j.unknown(err)
	}
	return changed, j.out, j.applies
}

// mutation is an object that is patched, one patch after the other.
type mutation struct {
	*evaluation
	before runtime.Object
	now    *admission.VersionedAttributes
}

// start prepares an object to be patched.
func (x *mutator) start(ctx func() context.Context, q *request, resource schema.GroupVersionResource, kind schema.GroupVersionKind) (*mutation, error) {
	if kind != q.kind {
		return nil, fmt.Errorf("the policy is about %s; only the API server converts what it makes of that back to %s", kind.GroupVersion(), q.kind.GroupVersion())
	}
	e, err := x.compiled.evaluate(ctx, q, resource, kind)
	if err != nil {
		return nil, err
	}
	before, err := e.object.made()
	if err != nil {
		return nil, err
	}
	m := &mutation{evaluation: e, before: before, now: &admission.VersionedAttributes{Attributes: q.attr, VersionedKind: kind}}
	m.now.VersionedObject.Set(before)
	if e.old != nil {
		m.now.VersionedOldObject.Set(e.old.value())
	}
	return m, nil
}

// apply applies the patches of a policy with one parameter.
func (m *mutation) apply(x *mutator, p *subject, j *judgement) error {
	m.hide(cel.ParamsVarName, p)
	m.show(false, p)
	m.vars.object = valueOf(m.now.VersionedObject.Object())
	if applies, err := m.applies(*x.policy.Spec.FailurePolicy); err != nil || !applies {
		return err
	}
	j.applies = true
	m.vars.requestResource = m.resource
	for i := range x.policy.Spec.Mutations {
		err := m.patch(&x.policy.Spec.Mutations[i], x.compiled.patches[i])
		if err != nil && (*x.policy.Spec.FailurePolicy == admissionregistrationv1.Fail || !ignorable(err)) {
			return err
		}
	}
	return nil
}

// ignorable says whether failurePolicy may ignore an error: not that something is
// not known, nor what the API server answers with at once.
func ignorable(err error) bool {
	var status *apierrors.StatusError
	return !errors.As(err, new(*unknownError)) && !errors.As(err, &status)
}

// patch applies one patch, as the API server's own patchers do.
func (m *mutation) patch(of *admissionregistrationv1.Mutation, x *expression) error {
	m.vars.object = mutable(m.now.VersionedObject.Object())
	evaluator := &patchEvaluator{m: m, x: x}
	patcher := patch.NewJSONPatcher(evaluator)
	if of.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration {
		patcher = patch.NewApplyConfigurationPatcher(evaluator)
	}
	space, _ := m.space()
	out, err := patcher.Patch(m.ctx(), patch.Request{
		MatchedResource: m.resource, VersionedAttributes: m.now, ObjectInterfaces: m.q.interfaces, Namespace: space, TypeConverter: m.converter(),
	}, celconfig.RuntimeCELCostBudget)
	switch {
	case evaluator.err != nil:
		return evaluator.err
	case err != nil && m.sensitive:
		return errors.New("a patch of the policy cannot be applied")
	case err != nil:
		return err
	}
	if u, ok := out.(*unstructured.Unstructured); ok && m.builtIn() {
		if out, err = typed(u.Object, m.kind); err != nil {
			return fmt.Errorf("what the policy makes of it: %w", err)
		}
	}
	m.now.UpdateObject(out)
	return nil
}

func (m *mutation) builtIn() bool { return scheme.Scheme.Recognizes(m.kind) }

// mutable shows an object to the expressions of patches: as maps.
func mutable(o runtime.Object) any {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return valueOf(u)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return valueOf(o)
	}
	return valueOf(&unstructured.Unstructured{Object: tree})
}

// ownTypes converts kinds of Kubernetes; of others, whose schema is not known,
// maps are merged and lists cannot be.
var ownTypes = sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) })

func (m *mutation) converter() managedfields.TypeConverter {
	if m.builtIn() {
		return ownTypes()
	}
	return managedfields.NewDeducedTypeConverter()
}

// patchEvaluator evaluates the expression of a patch, with what is not known.
type patchEvaluator struct {
	m   *mutation
	x   *expression
	err error // why it is not decided
}

// CompilationErrors implements cel.MutatingEvaluator.
func (p *patchEvaluator) CompilationErrors() []error { return nil }

// ForInput implements cel.MutatingEvaluator.
func (p *patchEvaluator) ForInput(_ context.Context, _ *admission.VersionedAttributes, _ *admissionv1.AdmissionRequest, _ cel.OptionalVariableBindings, _ *corev1.Namespace, budget int64) (cel.EvaluationResult, int64, error) {
	b := p.m.batch(budget)
	v, err := b.eval(p.x)
	if err != nil {
		p.err = err
		return cel.EvaluationResult{}, -1, err
	}
	if o, ok := v.(*dynamic.ObjectVal); ok && !p.m.builtIn() && hasList(o.Value()) {
		p.err = &unknownError{fmt.Sprintf("the schema of %s is not known, which says how lists are merged", p.m.kind.GroupKind())}
		return cel.EvaluationResult{}, -1, p.err
	}
	return cel.EvaluationResult{EvalResult: v}, b.left, nil
}

// hasList says whether there is a list in a value.
func hasList(v any) bool {
	switch v := v.(type) {
	case []any:
		return true
	case map[string]any:
		for _, e := range v {
			if hasList(e) {
				return true
			}
		}
	}
	return false
}

// changed returns the object as it was written, with what the patches changed;
// nil if they changed nothing.
func (m *mutation) changed(r *policy.Request) (*object.Node, error) {
	before, err := treeOf(m.before)
	if err != nil {
		return nil, err
	}
	after, err := treeOf(m.now.VersionedObject.Object())
	if err != nil {
		return nil, err
	}
	merged, same := carry(r.Tree(r.Object), before, after)
	if same {
		return nil, nil
	}
	return rewrite(r.Object.Root, merged)
}

func treeOf(o runtime.Object) (any, error) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return u.Object, nil
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("writing the object down: %w", err)
	}
	return tree, nil
}

// carry carries the difference of two values over to a third, which is the first
// as it was written: with fields that its type does not have, or without those
// that are empty. Same says that there is none.
func carry(written, before, after any) (out any, same bool) {
	if equal(before, after) {
		return written, true
	}
	w, b, a := mapOf(written), mapOf(before), mapOf(after)
	if w != nil && b != nil && a != nil {
		return carryMap(w, b, a), false
	}
	wl, okW := written.([]any)
	bl, okB := before.([]any)
	al, okA := after.([]any)
	if okW && okB && okA && len(wl) == len(bl) {
		return carryList(wl, bl, al), false
	}
	return after, false
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func carryMap(written, before, after map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range written {
		if _, was := before[k]; was {
			if _, is := after[k]; !is {
				continue
			}
		}
		out[k] = v
	}
	for k, v := range after {
		w, isWritten := written[k]
		b, was := before[k]
		switch {
		case isWritten:
			out[k], _ = carry(w, b, v)
		case !was || !equal(b, v):
			out[k] = v
		}
	}
	return out
}

// carryList takes each item of a list as it was written: the one of the same
// name, or else at the same place.
func carryList(written, before, after []any) []any {
	out := make([]any, len(after))
	for i, v := range after {
		at := slices.IndexFunc(before, func(b any) bool { return equal(b, v) })
		if at < 0 {
			if name := mapOf(v)["name"]; name != nil {
				at = slices.IndexFunc(before, func(b any) bool { return mapOf(b)["name"] == name })
			} else if len(before) == len(after) {
				at = i
			}
		}
		if at < 0 {
			out[i] = v
			continue
		}
		out[i], _ = carry(written[at], before[at], v)
	}
	return out
}

// rewrite returns a tree with another value, and with the positions of what is in
// both.
func rewrite(n *object.Node, value any) (*object.Node, error) {
	if n == nil {
		return object.FromAny(value), nil
	}
	if equal(n.Any(), value) {
		return n, nil
	}
	m, l := mapOf(value), n.Items
	if n.Kind == object.Map && m != nil {
		return rewriteMap(n, m)
	}
	if items, ok := value.([]any); ok && n.Kind == object.List && (len(items) == len(l) || !n.HasUnknown()) {
		return rewriteList(n, items)
	}
	if n.HasUnknown() {
		return nil, fmt.Errorf("the policy changes a value that is not known: %s", n.FirstUnknown())
	}
	return object.FromAny(value), nil
}

func rewriteMap(n *object.Node, m map[string]any) (*object.Node, error) {
	out := *n
	out.Fields = nil
	for _, f := range n.Fields {
		v, ok := m[f.Key]
		if !ok {
			continue
		}
		var err error
		if f.Value, err = rewrite(f.Value, v); err != nil {
			return nil, err
		}
		out.Fields = append(out.Fields, f)
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.ContainsFunc(n.Fields, func(f object.Field) bool { return f.Key == key }) {
			out.Fields = append(out.Fields, object.Field{Key: key, Value: object.FromAny(m[key])})
		}
	}
	return &out, nil
}

func rewriteList(n *object.Node, items []any) (*object.Node, error) {
	out := *n
	out.Items = nil
	for i, v := range items {
		var was *object.Node
		if at := slices.IndexFunc(n.Items, func(o *object.Node) bool { return equal(o.Any(), v) }); at >= 0 {
			was = n.Items[at]
		} else if len(items) == len(n.Items) {
			was = n.Items[i]
		}
		item, err := rewrite(was, v)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, item)
	}
	return &out, nil
}

func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

// Mutate asks mutators one after the other, each about what those before it made
// of the object, and then those again that ask for it, as the API server does.
// It returns the object as it is then; nil where it is as it was.
func Mutate(ctx context.Context, mutators []policy.Mutator, r *policy.Request) (*object.Node, control.Verdict) {
	p := &passes{now: r, out: policy.Passed()}
	p.run(ctx, mutators, true)
	if p.touched {
		p.run(ctx, p.again, false)
	}
	return p.changed, p.out
}

// passes is a request that goes through all mutators.
type passes struct {
	now     *policy.Request
	changed *object.Node
	out     control.Verdict
	again   []policy.Mutator
	touched bool
}

// run asks mutators once. What they are about is told by the object as it was
// before the first.
func (p *passes) run(ctx context.Context, mutators []policy.Mutator, first bool) {
	before := p.now
	for _, m := range mutators {
		if about := before.Subject(); about == nil || !m.Matches(about.GroupKind()) {
			continue
		}
		var node *object.Node
		var v control.Verdict
		var applies bool
		if own, ok := m.(*mutator); ok {
			node, v, applies = own.mutate(ctx, before, p.now)
		} else {
			node, v, applies = m.Mutate(ctx, p.now)
		}
		if !applies {
			continue
		}
		if first && Reinvocable(m) {
			p.again = append(p.again, m)
		}
		if v.Outcome == verdict.Pass {
			p.touched = true
		} else {
			p.out.Outcome = verdict.Unknown
			p.out.Findings = append(p.out.Findings, v.Findings...)
		}
		if node != nil {
			p.changed = node
			p.now = about(p.now, object.New(node, p.now.Object.Origin))
		}
	}
}

// about returns a request like another about another object.
func about(r *policy.Request, o *object.Object) *policy.Request {
	return &policy.Request{
		Object: o, Old: r.Old, Operation: r.Operation, Resource: r.Resource, Subresource: r.Subresource,
		User: r.User, DryRun: r.DryRun, Now: r.Now, Cluster: r.Cluster,
	}
}

// String says which policy it is.
func (x *mutator) String() string { return strings.TrimPrefix(x.info.Name, "vap.") }
