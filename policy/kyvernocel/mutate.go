// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apipatch "k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// patch is one mutation.
type patch struct {
	expression *expression
	// apply says that the expression is an object that is applied; a JSON patch
	// otherwise.
	apply bool
	// atomic says that atomic fields may be changed.
	atomic bool
}

// mutate changes the object.
func (v *variant) mutate(ctx context.Context, a *activation, p *program) Response {
	if a.current == nil {
		return failure("evaluation", errors.New("there is no object to change"))
	}
	before := a.current
	for _, m := range p.patches {
		after, err := m.change(ctx, a)
		if err != nil {
			return failure("evaluation", err)
		}
		a.current, a.changed = after, true
	}
	if err := evaluateAnnotations(ctx, a, p); err != nil {
		return failure("evaluation", err)
	}
	out := Response{Status: Pass}
	if !reflect.DeepEqual(before, a.current) {
		out.Changed = a.current
	}
	return out
}

// change returns the object as the mutation leaves it.
func (m *patch) change(ctx context.Context, a *activation) (map[string]any, error) {
	value, err := m.expression.eval(ctx, a)
	if err != nil {
		return nil, err
	}
	if m.apply {
		return m.merge(value, a)
	}
	return applyJSONPatch(value, a.current)
}

// merge merges what the expression makes into the object, as the API server
// applies objects.
func (m *patch) merge(value ref.Val, a *activation) (map[string]any, error) {
	made, ok := value.(*dynamic.ObjectVal)
	if !ok {
		return nil, fmt.Errorf("the expression makes %s, not an Object", value.Type().TypeName())
	}
	if err := made.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return nil, fmt.Errorf("the types of the Object do not match its fields: %w", err)
	}
	tree, ok := made.Value().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the expression makes %T, not an Object", made.Value())
	}
	applied, err := plain(tree)
	if err != nil {
		return nil, err
	}
	whole, _ := applied.(map[string]any)
	before, err := plain(a.current)
	if err != nil {
		return nil, err
	}
	change, original := &unstructured.Unstructured{Object: whole}, &unstructured.Unstructured{}
	original.Object, _ = before.(map[string]any)
	gvk := original.GroupVersionKind()
	change.SetGroupVersionKind(gvk)
	converter, known, err := converterOf(gvk, a.lookup)
	if err != nil {
		return nil, err
	}
	if !known && hasList(whole) {
		return nil, &unknownError{fmt.Sprintf("how lists of %s are merged is not known: its definition says so", gvk.GroupKind())}
	}
	merge := apipatch.ApplyStructuredMergeDiff
	if m.atomic {
		merge = mergeAtomic
	}
	merged, err := merge(converter, original, change)
	if err != nil {
		return nil, fmt.Errorf("applying the Object: %w", err)
	}
	out, ok := merged.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("applying the Object makes %T", merged)
	}
	return out.Object, nil
}

// hasList says whether there is a list in a value.
func hasList(v any) bool {
	switch v := v.(type) {
	case []any:
		return true
	case map[string]any:
		for _, item := range v {
			if hasList(item) {
				return true
			}
		}
	}
	return false
}

// plain returns a copy of a value, with the types that objects are made of.
func plain(v any) (any, error) {
	switch v := v.(type) {
	case nil, string, bool, int64:
		return v, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			p, err := plain(item)
			if err != nil {
				return nil, err
			}
			out[k] = p
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			p, err := plain(item)
			if err != nil {
				return nil, err
			}
			out[i] = p
		}
		return out, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("an object holds what is no number")
		}
		return integers(v), nil
	case int:
		return int64(v), nil
	case uint64:
		return integers(float64(v)), nil
	}
	return nil, fmt.Errorf("a value of type %T cannot stand in an object", v)
}

// mergeAtomic merges also into fields that are replaced as a whole.
func mergeAtomic(converter managedfields.TypeConverter, original runtime.Object, change *unstructured.Unstructured) (runtime.Object, error) {
	with, err := converter.ObjectToTyped(change)
	if err != nil {
		return nil, fmt.Errorf("reading what is applied: %w", err)
	}
	live, err := converter.ObjectToTyped(original, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	merged, err := live.Merge(with)
	if err != nil {
		return nil, fmt.Errorf("merging: %w", err)
	}
	return converter.TypedToObject(merged)
}

// builtin knows how the fields of Kubernetes' own types are merged.
var builtin = sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) })

// knowsBuiltin says whether a kind is one of Kubernetes' own that are applied;
// some, as Binding, are only created.
func knowsBuiltin(gvk schema.GroupVersionKind) bool {
	if !scheme.Scheme.Recognizes(gvk) {
		return false
	}
	empty := &unstructured.Unstructured{}
	empty.SetGroupVersionKind(gvk)
	_, err := builtin().ObjectToTyped(empty)
	return err == nil
}

// converterOf returns what knows how the fields of a kind are merged. Known is
// false where only what is in the object says it.
func converterOf(gvk schema.GroupVersionKind, l *lookup) (converter managedfields.TypeConverter, known bool, err error) {
	if knowsBuiltin(gvk) {
		return builtin(), true, nil
	}
	if crd := l.definition(gvk); crd != nil {
		converter, err = converterOfCRD(gvk, crd)
		return converter, err == nil, err
	}
	return managedfields.NewDeducedTypeConverter(), false, nil
}

// definition returns the definition of a custom resource; nil where it is not
// known.
func (l *lookup) definition(gvk schema.GroupVersionKind) *object.Object {
	if l.request == nil || l.request.Cluster == nil {
		return nil
	}
	crds, _ := l.request.Cluster.Objects(object.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}, "")
	for _, crd := range crds {
		spec := crd.Root.Get("spec")
		if spec.Get("group").Str() == gvk.Group && spec.At("names", "kind").Str() == gvk.Kind {
			return crd
		}
	}
	return nil
}

// applyJSONPatch changes a tree as a list of JSONPatch says. A test that fails
// leaves it as it is.
func applyJSONPatch(value ref.Val, tree map[string]any) (map[string]any, error) {
	list, ok := value.(traits.Lister)
	if !ok {
		return nil, fmt.Errorf("the expression makes %s, not a list of JSONPatch", value.Type().TypeName())
	}
	var operations jsonpatch.Patch
	for it := list.Iterator(); it.HasNext() == types.True; {
		operation, err := jsonOperation(it.Next())
		if err != nil {
			return nil, err
		}
		operations = append(operations, operation)
	}
	before, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("writing the object as JSON: %w", err)
	}
	after, err := operations.Apply(before)
	switch {
	case errors.Is(err, jsonpatch.ErrTestFailed):
		return tree, nil
	case err != nil:
		return nil, fmt.Errorf("applying the JSON patch: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(after); err != nil {
		return nil, fmt.Errorf("reading the object after the JSON patch: %w", err)
	}
	return u.Object, nil
}

// jsonOperation reads one JSONPatch.
func jsonOperation(v ref.Val) (jsonpatch.Operation, error) {
	native, err := v.ConvertToNative(reflect.TypeFor[*mutation.JSONPatchVal]())
	if err != nil {
		return nil, fmt.Errorf("reading a JSONPatch: %w", err)
	}
	in, ok := native.(*mutation.JSONPatchVal)
	if !ok {
		return nil, fmt.Errorf("reading a JSONPatch: it is %T", native)
	}
	out := jsonpatch.Operation{}
	set := func(key string, value any) error {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("writing %s of a JSONPatch: %w", key, err)
		}
		message := json.RawMessage(raw)
		out[key] = &message
		return nil
	}
	errs := []error{set("op", in.Op), set("path", in.Path)}
	if in.From != "" {
		errs = append(errs, set("from", in.From))
	}
	if in.Val != nil {
		value, err := toNative(in.Val)
		errs = append(errs, err)
		if err == nil {
			errs = append(errs, set("value", value))
		}
	}
	return out, errors.Join(errs...)
}

// toNative returns a value of an expression as JSON has it.
func toNative(v ref.Val) (any, error) {
	if made, ok := v.(*dynamic.ObjectVal); ok {
		if err := made.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return nil, fmt.Errorf("the types of an Object do not match its fields: %w", err)
		}
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.String:
		return string(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > 1<<62 {
			return nil, fmt.Errorf("the number %d is too large", v)
		}
		return int64(v), nil
	case types.Double:
		return float64(v), nil
	}
	native, err := v.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("writing %s as JSON: %w", v.Type().TypeName(), err)
	}
	value, ok := native.(*structpb.Value)
	if !ok {
		return nil, fmt.Errorf("writing %s as JSON: it is %T", v.Type().TypeName(), native)
	}
	return integers(value.AsInterface()), nil
}

// EvaluateTarget says what the policy makes of an object that is there already,
// where the request triggers it.
func (p *Policy) EvaluateTarget(ctx context.Context, r *policy.Request, target *object.Object, told *Told) Response {
	ctx, cancel := p.bound(ctx, r.Network)
	defer cancel()
	secret := isSecret(r) || target.GroupKind() == object.GroupKind{Kind: "Secret"}
	return p.variants[0].evaluateTarget(ctx, r, target, told).hushed(secret)
}

func (v *variant) evaluateTarget(ctx context.Context, r *policy.Request, target *object.Object, told *Told) Response {
	prog, cerr := v.compiled()
	if cerr != nil {
		return failure("evaluation", cerr)
	}
	trigger := v.newActivation(r, subjectOf(r), told)
	trigger.bind(ctx, prog.names, prog.variables)
	selected, err := v.targeted(ctx, prog, trigger, r, target)
	if err != nil {
		return failure("evaluation", err)
	}
	if !selected {
		return Response{}
	}
	// The expressions see the target as object, and the request that triggers.
	s := *subjectOf(r)
	s.object, s.unknown = r.Tree(target), target.Root.FirstUnknown()
	if s.unknown != "" {
		return failure("evaluation", &unknownError{s.unknown})
	}
	s.old = nil
	a := v.newActivation(r, &s, told)
	a.bind(ctx, prog.names, prog.variables)
	if resp := v.excused(ctx, a, prog); resp != nil {
		return *resp
	}
	holds, err := all(ctx, a, prog.targetIf)
	switch {
	case err != nil:
		return failure("evaluation", err)
	case !holds:
		return Response{Status: Skip, Message: "the policy's conditions of targets do not hold"}
	}
	return v.mutate(ctx, a, prog)
}

// targeted says whether an object is one that the policy changes.
func (v *variant) targeted(ctx context.Context, p *program, trigger *activation, r *policy.Request, target *object.Object) (bool, error) {
	if p.targets == nil {
		m := p.selector
		if m == nil {
			c := *v.matcher
			c.anyOperation = true
			m = &c
		}
		return m.match(subjectOf(&policy.Request{Object: target, Cluster: r.Cluster}))
	}
	out, err := p.targets.eval(ctx, trigger)
	if err != nil {
		return false, err
	}
	native, err := toNative(out)
	if err != nil {
		return false, err
	}
	found, _ := native.(map[string]any)
	items, ok := found["items"].([]any)
	if !ok {
		items = []any{found}
	}
	for _, tree := range items {
		tree, _ := tree.(map[string]any)
		u := unstructured.Unstructured{Object: tree}
		if u.GetName() == target.Name && strings.TrimPrefix(u.GetNamespace(), "/") == target.Namespace {
			return true, nil
		}
	}
	return false, nil
}
