// SPDX-License-Identifier: Apache-2.0

package mutation_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/policy/kyverno/mutation"
)

func tree(t testing.TB, text string) any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func text(t testing.TB, tree any) string {
	t.Helper()
	out, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestStrategicMerge(t *testing.T) {
	tests := map[string]struct{ base, overlay, want string }{
		"a field is set":                  {"{a: 1, b: 2}", "{b: 3, c: {d: x}}", "{a: 1, b: 3, c: {d: x}}"},
		"a list without a key is swapped": {"{a: [1, 2]}", "{a: [3]}", "{a: [3]}"},
		"null deletes":                    {"{a: 1, b: 2}", "{a: null}", "{b: 2}"},
		"null that was there stays":       {"{a: null, b: 2}", "{b: 3}", "{a: null, b: 3}"},
		"a string keeps its quotes":       {`{a: "80"}`, "{a: 8080}", `{a: "8080"}`},
		"a number stays a number":         {"{a: 1}", "{a: 1.5, b: true, c: 12345678901}", "{a: 1.5, b: true, c: 12345678901}"},
		"a label is added where it lacks": {
			"{kind: Pod, metadata: {labels: {a: x}}}", "{metadata: {labels: {+(a): y, +(b): z}}}", "{kind: Pod, metadata: {labels: {a: x, b: z}}}",
		},
		"a condition is met": {
			"{spec: {kind: web, size: 1}}", "{spec: {(kind): web, size: 2}}", "{spec: {kind: web, size: 2}}",
		},
		"a condition is not met": {
			"{spec: {kind: db, size: 1}, x: 1}", "{spec: {(kind): web, size: 2}, x: 2}", "{spec: {kind: db, size: 1}, x: 1}",
		},
		"a condition on what is not there": {
			"{spec: {size: 1}}", "{spec: {(kind): web, size: 2}}", "{spec: {size: 1}}",
		},
		"conditions compare scalars as texts": {
			"{a: 5, b: true, s: 1}", `{(a): "5", (b): "true", s: 2}`, "{a: 5, b: true, s: 2}",
		},
		"a number in a condition":                   {"{a: 5, s: 1}", "{(a): '>4', s: 2}", "{a: 5, s: 2}"},
		"a number that is too large for an integer": {"{a: 10000000000000000000, s: 1}", "{s: 2}", "{a: 10000000000000000000, s: 2}"},
		"containers are merged by name": {
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: x}, {name: b, image: y}]}}",
			"{spec: {containers: [{name: b, image: z}, {name: c}]}}",
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: b, image: z}, {name: c}, {name: a, image: x}]}}",
		},
		"every container that meets a condition": {
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: 'x:latest'}, {name: b, image: 'y:1'}, {name: c, image: 'z:latest'}]}}",
			"{spec: {containers: [{(image): '*:latest', imagePullPolicy: Always}]}}",
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: 'x:latest', imagePullPolicy: Always}, {name: c, image: 'z:latest', imagePullPolicy: Always}, {name: b, image: 'y:1'}]}}",
		},
		"what the first container has is added to none": {
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, imagePullPolicy: Never}, {name: b}]}}",
			"{spec: {containers: [{(name): '*', +(imagePullPolicy): Always}]}}",
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, imagePullPolicy: Never}, {name: b}]}}",
		},
		"a global condition is met by one element": {
			"{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {volumes: [{name: v}, {name: w, emptyDir: {}}]}}",
			"{metadata: {annotations: {safe: 'no'}}, spec: {volumes: [{<(emptyDir): {}}]}}",
			"{apiVersion: v1, kind: Pod, metadata: {annotations: {safe: 'no'}, name: p}, spec: {volumes: [{name: v}, {name: w, emptyDir: {}}]}}",
		},
		"a global condition is met by none": {
			"{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {volumes: [{name: v}]}}",
			"{metadata: {annotations: {safe: 'no'}}, spec: {volumes: [{<(emptyDir): {}}]}}",
			"{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {volumes: [{name: v}]}}",
		},
		"$patch deletes an element": {
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a}, {name: b}]}}",
			"{spec: {containers: [{name: a, $patch: delete}]}}",
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: b}]}}",
		},
		"an element in an element": {
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, env: [{name: E, value: x}]}]}}",
			"{spec: {containers: [{(name): a, env: [{(name): E, value: z}]}]}}",
			"{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, env: [{name: E, value: z}]}]}}",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base, overlay := tree(t, test.base), tree(t, test.overlay)
			got, changed, err := mutation.StrategicMerge(base, overlay)
			if err != nil {
				t.Fatal(err)
			}
			if want := text(t, tree(t, test.want)); text(t, got) != want {
				t.Errorf("got\n%swant\n%s", text(t, got), want)
			}
			if want := text(t, got) != text(t, tree(t, test.base)); changed != want {
				t.Errorf("changed is %v; want %v", changed, want)
			}
			if !reflect.DeepEqual(base, tree(t, test.base)) || !reflect.DeepEqual(overlay, tree(t, test.overlay)) {
				t.Error("an argument was changed")
			}
		})
	}
}

func TestStrategicMergeRefused(t *testing.T) {
	deep := "{a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}"
	long := "{a: [" + strings.Repeat("1,", 800) + "1]}"
	for want, test := range map[string][2]string{
		"the object is a list; want a map":             {"[]", "{}"},
		"patchStrategicMerge is nothing; want a map":   {"{}", "null"},
		"patchStrategicMerge has a list where":         {"{a: {b: c}}", "{a: [{(b): c}]}"},
		"wrong node kind":                              {"{a: {b: c}}", "{a: [1]}"},
		"levels are too deep":                          {deep, "{}"},
		"patchStrategicMerge: more than 128":           {"{}", deep},
		"the lists of the object are too long":         {long, "{}"},
		`the key "a" comes twice`:                      {"{}", "{x: {+(a): 1, a: 2}}"},
		"patchStrategicMerge deletes the whole object": {"{a: 1}", "{$patch: delete}"},
	} {
		_, _, err := mutation.StrategicMerge(tree(t, test[0]), tree(t, test[1]))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}

// TestBounded merges what would grow with the product of two lists.
func TestBounded(t *testing.T) {
	var base, overlay strings.Builder
	for i := range 700 {
		fmt.Fprintf(&base, "{name: c%d, x: y},", i)
		fmt.Fprintf(&overlay, "{(x): y, v%d: 1},", i)
	}
	start := time.Now()
	_, _, err := mutation.StrategicMerge(tree(t, "{l: ["+base.String()+"]}"), tree(t, "{l: ["+overlay.String()+"]}"))
	if err == nil || !strings.Contains(err.Error(), "too many to merge") {
		t.Errorf("got %v; want a refusal", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestConcurrent merges and patches the same object from several sides; the race
// detector watches.
func TestConcurrent(t *testing.T) {
	base := tree(t, "{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: x}]}}")
	overlay := tree(t, "{spec: {containers: [{(image): x, +(env): [{name: E}]}]}}")
	patch, err := mutation.ParseJSONPatch("- {op: add, path: /spec/containers/0/tty, value: true}")
	if err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			_, _, err := mutation.StrategicMerge(base, overlay)
			_, err2 := patch.Apply(base)
			return errors.Join(err, err2)
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestJSONPatch(t *testing.T) {
	tests := map[string]struct{ base, patch, want string }{
		"JSON":                   {"{a: 1}", `[{"op": "replace", "path": "/a", "value": 2}]`, "{a: 2}"},
		"YAML":                   {"{a: 1}", "- op: add\n  path: /b\n  value: {c: d}\n", "{a: 1, b: {c: d}}"},
		"the end of a list":      {"{a: [1]}", "- {op: add, path: /a/-, value: 2}", "{a: [1, 2]}"},
		"from the end of a list": {"{a: [1, 2]}", "- {op: replace, path: /a/-1, value: 3}", "{a: [1, 3]}"},
		"missing parents":        {"{}", "- {op: add, path: /a/b/0/c, value: 1}", "{a: {b: [{c: 1}]}}"},
		"a key with a slash":     {"{}", "- {op: add, path: /a~1b~0c, value: 1}", "{a/b~c: 1}"},
		"a key that is a number": {"{labels: {}}", "- {op: add, path: /labels/20260101/x, value: 1}", "{labels: {'20260101': {x: 1}}}"},
		"removing nothing":       {"{a: 1}", "- {op: remove, path: /b/c}", "{a: 1}"},
		"numbers stay":           {"{a: 9007199254740993}", "- {op: add, path: /b, value: 9007199254740993}", "{a: 9007199254740993, b: 9007199254740993}"},
		"test, copy and move": {
			"{a: 1, b: 2}", "- {op: test, path: /a, value: 1}\n- {op: copy, from: /a, path: /c}\n- {op: move, from: /b, path: /d}", "{a: 1, c: 1, d: 2}",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base := tree(t, test.base)
			got, err := mutation.JSONPatch(base, test.patch)
			if err != nil {
				t.Fatal(err)
			}
			if want := text(t, tree(t, test.want)); text(t, got) != want {
				t.Errorf("got\n%swant\n%s", text(t, got), want)
			}
			if !reflect.DeepEqual(base, tree(t, test.base)) {
				t.Error("the object was changed")
			}
		})
	}
}

func TestJSONPatchRefused(t *testing.T) {
	double := "- {op: add, path: /a, value: {x: " + strings.Repeat("x", 1000) + "}}\n"
	for i := range 30 {
		double += fmt.Sprintf("- {op: copy, from: /a, path: /a/b%d}\n", i)
	}
	for want, patch := range map[string]string{
		"want a list of operations":            "{}",
		"reading patchesJson6902":              "- op: [",
		"missing path":                         "- {op: replace, path: /x/y, value: 1}",
		"test failed":                          "- {op: test, path: /a, value: 7}",
		"nothing at the index 99999999":        "- {op: add, path: /l/99999999/x, value: 1}",
		"at most 1000 places":                  "- {op: add, path: /new/99999999/x, value: 1}",
		"copy":                                 double,
		"has 2000 operations; at most 1000":    strings.Repeat("- {op: remove, path: /x}\n", 2000),
		"bytes; at most 1048576":               strings.Repeat(" ", 2<<20),
		"cannot unmarshal array into Go value": "- {op: add, path: '', value: [1]}",
	} {
		_, err := mutation.JSONPatch(tree(t, "{a: 1, l: []}"), patch)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}

func fuzzed(t *testing.T, text string) (map[string]any, bool) {
	t.Helper()
	var out map[string]any
	err := yaml.Unmarshal([]byte(text), &out)
	return out, err == nil && out != nil
}

// FuzzStrategicMerge holds that anything is merged or refused, twice alike, and
// changes no argument.
func FuzzStrategicMerge(f *testing.F) {
	f.Add("{kind: Pod, spec: {containers: [{name: a, image: x}]}}", "{spec: {containers: [{(image): '*', +(x): y}]}}")
	f.Add("{a: [{b: null}]}", "{<(a): [{$patch: replace}], '(b)': {}}")
	f.Fuzz(func(t *testing.T, b, o string) {
		base, ok := fuzzed(t, b)
		overlay, ok2 := fuzzed(t, o)
		if !ok || !ok2 {
			return
		}
		before := text(t, base) + text(t, overlay)
		first, _, err := mutation.StrategicMerge(base, overlay)
		if err != nil {
			return
		}
		second, _, _ := mutation.StrategicMerge(base, overlay)
		if text(t, first) != text(t, second) || text(t, base)+text(t, overlay) != before {
			t.Errorf("merging %s into %s is not the same twice, or changes them", o, b)
		}
	})
}

func FuzzJSONPatch(f *testing.F) {
	f.Add("{a: [1]}", "- {op: add, path: /a/-, value: 2}")
	f.Add("{a: {}}", `[{"op":"copy","from":"/a","path":"/a/b"},{"op":"remove","path":"/-1"}]`)
	f.Fuzz(func(t *testing.T, b, patch string) {
		base, ok := fuzzed(t, b)
		if !ok {
			return
		}
		before := text(t, base)
		_, _ = mutation.JSONPatch(base, patch)
		if text(t, base) != before {
			t.Errorf("applying %s changes the object", patch)
		}
	})
}

func BenchmarkStrategicMerge(b *testing.B) {
	base := tree(b, "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {a: b}}, spec: {containers: [{name: a, image: 'x:latest', env: [{name: A, value: b}], ports: [{containerPort: 80}]}, {name: b, image: y}]}}")
	for name, overlay := range map[string]string{
		"changed": "{spec: {containers: [{(image): '*:latest', imagePullPolicy: Always}]}}",
		"not met": "{metadata: {(namespace): x, labels: {c: d}}}",
	} {
		tree := tree(b, overlay)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := mutation.StrategicMerge(base, tree); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
