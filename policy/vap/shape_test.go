// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/object"
)

// trees makes objects of Go types, most of them valid.
type trees struct {
	*rand.Rand
	// wrong is how many of a hundred values are of another type.
	wrong int
}

// some are values of types that are written in a way of their own.
var some = map[reflect.Type][]any{
	quantityType:                        {"100m", "0.5", "1Gi", "1000Mi", "1e3", "", "0", " 1", "1.5.5", int64(2), int64(0), 0.5, "12345678901234567890", "0.00000000001"},
	intOrStringType:                     {"http", "80", "", int64(80), int64(0), int64(1) << 40, "<&>"},
	reflect.TypeFor[metav1.Time]():      {"2024-02-03T04:05:06Z", "2024-02-03T04:05:06+02:00", "0001-01-01T00:00:00Z", "yesterday", "", int64(0)},
	reflect.TypeFor[metav1.MicroTime](): {"2024-02-03T04:05:06.123456Z", "no"},
	reflect.TypeFor[metav1.Duration]():  {"5m", "0s", "1h30m", "x"},
	reflect.TypeFor[[]byte]():           {"aGk=", "", "%"},
}

func (r trees) pick(all ...any) any { return all[r.IntN(len(all))] }

// value makes a value of a type.
func (r trees) value(t reflect.Type, depth int) any {
	if r.IntN(100) < r.wrong {
		return r.pick(nil, true, int64(7), int64(1)<<40, 1.5, "text", []any{}, []any{nil, "x"}, map[string]any{}, map[string]any{"a": nil, "b": "c"})
	}
	if all, ok := some[t]; ok {
		return all[r.IntN(len(all))]
	}
	switch t.Kind() {
	case reflect.Pointer:
		return r.value(t.Elem(), depth)
	case reflect.Bool:
		return r.IntN(2) == 0
	case reflect.String:
		return r.pick("", "a", "b/c", "ä")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return r.pick(int64(0), int64(1), int64(-1), int64(300), int64(1)<<31)
	case reflect.Float32, reflect.Float64:
		return r.pick(0.0, 1.5, int64(1))
	case reflect.Slice:
		out := []any{}
		for range r.IntN(3) {
			out = append(out, r.value(t.Elem(), depth-1))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for i := range r.IntN(3) {
			out[fmt.Sprint("key", i)] = r.value(t.Elem(), depth-1)
		}
		return out
	case reflect.Struct:
		return r.record(t, depth)
	}
	return nil
}

func (r trees) record(t reflect.Type, depth int) any {
	out := map[string]any{}
	if text, err := json.Marshal(reflect.New(t).Interface()); err == nil && text[0] != '{' {
		var v any
		_ = json.Unmarshal(text, &v)
		return v
	}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			if inner, ok := r.value(f.Type, depth).(map[string]any); ok {
				for k, v := range inner {
					out[k] = v
				}
			}
			continue
		}
		// Deep down, and in most places, fields are left out.
		if depth <= 0 || r.IntN(3) > 0 {
			continue
		}
		if out[name] = r.value(f.Type, depth-1); r.IntN(40) == 0 {
			out[name] = nil
		}
	}
	if r.IntN(20) == 0 {
		out["notAField"] = r.pick("x", map[string]any{"y": "z"})
	}
	return out
}

// different says in what two values differ that are shown to expressions.
func different(a, b ref.Val, path string) string {
	if a.Type().TypeName() != b.Type().TypeName() {
		return fmt.Sprintf("%s: %s and %s", path, a.Type().TypeName(), b.Type().TypeName())
	}
	switch x := a.(type) {
	case traits.Mapper:
		return differentMaps(x, b.(traits.Mapper), path)
	case traits.Lister:
		y := b.(traits.Lister)
		if x.Size() != y.Size() {
			return fmt.Sprintf("%s: sizes %v and %v", path, x.Size(), y.Size())
		}
		for i := types.Int(0); i < x.Size().(types.Int); i++ {
			if d := different(x.Get(i), y.Get(i), fmt.Sprintf("%s[%d]", path, i)); d != "" {
				return d
			}
		}
		return ""
	}
	if a.Equal(b) != types.True {
		return fmt.Sprintf("%s: %v and %v", path, a, b)
	}
	return ""
}

func keysOf(m traits.Mapper) []string {
	var out []string
	for it := m.Iterator(); it.HasNext() == types.True; {
		out = append(out, string(it.Next().(types.String)))
	}
	slices.Sort(out)
	return out
}

func differentMaps(a, b traits.Mapper, path string) string {
	if a.Size() != b.Size() || !slices.Equal(keysOf(a), keysOf(b)) {
		return fmt.Sprintf("%s: %v and %v", path, keysOf(a), keysOf(b))
	}
	absent := []string{"notAField", "TypeMeta", "-", "status", "hostNetwork", "key9"}
	for _, key := range append(keysOf(a), absent...) {
		key := types.String(key)
		x, foundX := a.Find(key)
		y, foundY := b.Find(key)
		if foundX != foundY || a.Contains(key) != b.Contains(key) {
			return fmt.Sprintf("%s.%s: is there: %v and %v", path, key, foundX, foundY)
		}
		if !foundX {
			if got, want := fmt.Sprint(a.Get(key)), fmt.Sprint(b.Get(key)); got != want {
				return fmt.Sprintf("%s.%s: %s and %s", path, key, got, want)
			}
			continue
		}
		if d := different(x, y, path+"."+string(key)); d != "" {
			return d
		}
	}
	return ""
}

// kindsOfKubernetes are all that have a Go type.
func kindsOfKubernetes() []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal && t.Kind() == reflect.Struct {
			out = append(out, gvk)
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// TestShapes holds what a shape shows of an object against what the API server
// shows of its Go value, over objects of all kinds.
func TestShapes(t *testing.T) {
	r := trees{Rand: rand.New(rand.NewPCG(1, 2))}
	all, shown := 0, 0
	for _, kind := range kindsOfKubernetes() {
		s := shapeOf(kind)
		for i := range 12 {
			r.wrong = i % 4 * (i % 2)
			tree, _ := r.record(scheme.Scheme.AllKnownTypes()[kind], 7).(map[string]any)
			if tree == nil {
				continue
			}
			tree["apiVersion"], tree["kind"] = kind.ToAPIVersionAndKind()
			n := object.FromAny(tree)
			want, err := typed(tree, kind)
			all++
			if !s.fits(n) {
				continue
			}
			shown++
			if err != nil {
				t.Fatalf("%s fits, but has no Go value: %v\n%v", kind, err, tree)
			}
			if d := different(s.show(n), common.SchemalessTypedToVal(want), kind.String()); d != "" {
				t.Fatalf("%s\n%v", d, tree)
			}
		}
	}
	t.Logf("%d of %d objects fit", shown, all)
	if shown*3 < all {
		t.Errorf("only %d of %d objects fit", shown, all)
	}
}

// TestShapesEqual holds what values are equal to against what the API server
// says, over pairs of objects that differ a little.
func TestShapesEqual(t *testing.T) {
	pod, role := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}
	field := func(v ref.Val, name string) ref.Val { return v.(traits.Indexer).Get(types.String(name)) }
	containers := func(v ref.Val) ref.Val { return field(field(v, "spec"), "containers") }
	first := func(v ref.Val) ref.Val { return v.(traits.Indexer).Get(types.Int(0)) }
	literal := func(v ...ref.Val) ref.Val { return types.NewRefValList(types.DefaultTypeAdapter, v) }
	var pods, roles []map[string]any
	for i, args := range []any{nil, []any{}, []any{"x"}, nil, nil, nil} {
		for _, cpu := range []any{"1", "1000m", int64(2)} {
			pods = append(pods, map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}, "spec": map[string]any{"containers": []any{
				map[string]any{"name": []any{"c", "c", "c", "d", "", nil}[i], "args": args, "resources": map[string]any{"limits": map[string]any{"cpu": cpu}}}},
			}})
		}
	}
	for _, rules := range []any{nil, []any{}, []any{map[string]any{"verbs": nil}}, []any{map[string]any{"verbs": []any{}}}} {
		roles = append(roles, map[string]any{"rules": rules})
	}
	for _, c := range []struct {
		name  string
		kind  schema.GroupVersionKind
		trees []map[string]any
		of    func(ref.Val) ref.Val
	}{
		{"objects", pod, pods, func(v ref.Val) ref.Val { return v }},
		{"lists", pod, pods, containers},
		{"items", pod, pods, func(v ref.Val) ref.Val { return first(containers(v)) }},
		{"made lists", pod, pods, func(v ref.Val) ref.Val { return literal(first(containers(v))) }},
		{"sums", pod, pods, func(v ref.Val) ref.Val { return containers(v).(traits.Adder).Add(containers(v)) }},
		{"maps", pod, pods, func(v ref.Val) ref.Val { return field(field(first(containers(v)), "resources"), "limits") }},
		{"labels", pod, pods, func(v ref.Val) ref.Val { return field(field(v, "metadata"), "labels") }},
		{"made maps", pod, pods, func(v ref.Val) ref.Val {
			return types.DefaultTypeAdapter.NativeToValue(map[string]any{"containers": containers(v)})
		}},
		{"specs", pod, pods, func(v ref.Val) ref.Val { return field(v, "spec") }},
		{"roles", role, roles, func(v ref.Val) ref.Val { return v }},
		{"rules", role, roles, func(v ref.Val) ref.Val { return field(v, "rules") }},
		{"numbers", role, roles, func(ref.Val) ref.Val { return types.Int(1) }},
	} {
		var shown, made []ref.Val
		for _, tree := range c.trees {
			n := object.FromAny(tree)
			want, err := typed(tree, c.kind)
			if err != nil || !shapeOf(c.kind).fits(n) {
				t.Fatal(err, tree)
			}
			apiVersion, kind := c.kind.ToAPIVersionAndKind()
			shown = append(shown, shapeOf(c.kind).show(retyped(n, apiVersion, kind)))
			made = append(made, common.SchemalessTypedToVal(want))
		}
		for i := range shown {
			for j := range shown {
				got, want := c.of(shown[i]).Equal(c.of(shown[j])), c.of(made[i]).Equal(c.of(made[j]))
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: %d and %d are equal: %v, not %v", c.name, i, j, got, want)
				}
				// Of two kinds of things, such as a list and a literal of one.
				list := containersOf(shown[i], containers)
				if got, want := c.of(shown[i]).Equal(list), c.of(made[i]).Equal(containersOf(made[i], containers)); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: %d and its containers are equal: %v, not %v", c.name, i, got, want)
				}
			}
		}
	}
}

// containersOf returns a made list of the containers of a pod, or 1.
func containersOf(v ref.Val, containers func(ref.Val) ref.Val) ref.Val {
	if _, ok := v.(traits.Mapper).Find(types.String("spec")); !ok {
		return types.IntOne
	}
	return types.NewRefValList(types.DefaultTypeAdapter, []ref.Val{containers(v).(traits.Indexer).Get(types.Int(0))})
}

// TestShapesNative holds what values are to functions that want Go values
// against what the API server makes of them.
func TestShapesNative(t *testing.T) {
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	tree := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"labels": map[string]any{"a": "b"}}, "spec": map[string]any{"containers": []any{map[string]any{"args": []any{"x", "y"}}}}}
	want, err := typed(tree, kind)
	if err != nil {
		t.Fatal(err)
	}
	shown, made := shapeOf(kind).show(object.FromAny(tree)), common.SchemalessTypedToVal(want)
	for _, path := range [][]ref.Val{
		nil, {types.String("spec")}, {types.String("spec"), types.String("containers")}, {types.String("metadata"), types.String("labels")},
		{types.String("spec"), types.String("containers"), types.Int(0), types.String("args")},
	} {
		a, b := shown, made
		for _, p := range path {
			a, b = a.(traits.Indexer).Get(p), b.(traits.Indexer).Get(p)
		}
		if !reflect.DeepEqual(a.Value(), b.Value()) {
			t.Errorf("%v: %v, not %v", path, a.Value(), b.Value())
		}
		for _, to := range []reflect.Type{reflect.TypeFor[[]string](), reflect.TypeFor[map[string]string](), reflect.TypeFor[map[string]any](), reflect.TypeFor[string]()} {
			x, errX := a.ConvertToNative(to)
			y, errY := b.ConvertToNative(to)
			if !reflect.DeepEqual(x, y) || (errX == nil) != (errY == nil) {
				t.Errorf("%v as %v: %v %v, not %v %v", path, to, x, errX, y, errY)
			}
		}
		for _, to := range []ref.Type{types.ListType, types.MapType, types.TypeType, types.StringType} {
			x, y := a.ConvertToType(to), b.ConvertToType(to)
			if types.IsError(x) != types.IsError(y) || types.IsError(x) && fmt.Sprint(x) != fmt.Sprint(y) || x.Type() != y.Type() {
				t.Errorf("%v as %v: %v, not %v", path, to, x, y)
			}
		}
		for _, key := range []ref.Val{types.String("no"), types.Int(9), types.Int(-1), types.True, types.Double(1)} {
			x, y := a.(traits.Indexer).Get(key), b.(traits.Indexer).Get(key)
			if fmt.Sprint(x) != fmt.Sprint(y) {
				t.Errorf("%v[%v]: %v, not %v", path, key, x, y)
			}
			if x, y := a.(traits.Container).Contains(key), b.(traits.Container).Contains(key); fmt.Sprint(x) != fmt.Sprint(y) {
				t.Errorf("%v contains %v: %v, not %v", path, key, x, y)
			}
		}
	}
}
