// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/policy"
)

func TestIsData(t *testing.T) {
	for name, want := range map[string]bool{
		"data.yaml": true, "a/data.json": true, "a/data/x.yml": true, "data/x.YAML": true,
		"data/x.rego": false, "data/a/x.yaml": false, "metadata.yaml": false, "x.yaml": false,
	} {
		if got := policy.IsData(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestData(t *testing.T) {
	type file struct{ root, name, text string }
	for _, test := range []struct {
		name  string
		files []file
		want  map[string]any
		err   string
	}{
		{"at the top", []file{{"p", "p/data.yaml", "a: [1]\n"}, {"./q/", "q/data/x.json", `{"b": {"c": "d"}}`}}, map[string]any{"a": []any{int64(1)}, "b": map[string]any{"c": "d"}}, ""},
		{"where the folder is", []file{{".", "x/y/data.yaml", "a: 1\n"}, {"p", "p/x/data.yaml", "b: 2\n"}}, map[string]any{"x": map[string]any{"y": map[string]any{"a": int64(1)}, "b": int64(2)}}, ""},
		{"of a bundle", []file{{"oci://r/n:1", "oci://r/n:1/x/data.yaml", "a: 1\n"}}, map[string]any{"x": map[string]any{"a": int64(1)}}, ""},
		{"a file that was named", []file{{"x/y/data.yaml", "x/y/data.yaml", "a: 1\n"}}, map[string]any{"a": int64(1)}, ""},
		{"objects and lists are none", []file{{"p", "p/data.yaml", "apiVersion: v1\nkind: Pod\n---\n- a\n---\nb: 1\n"}}, map[string]any{"b": int64(1)}, ""},
		{"the same twice", []file{{"p", "p/data.yaml", "a: {b: 1}\n"}, {"p", "p/data/x.yaml", "a: {b: 1, c: 2}\n"}}, map[string]any{"a": map[string]any{"b": int64(1), "c": int64(2)}}, ""},
		{"something else", []file{{"p", "p/data.yaml", "a: {b: 1}\n"}, {"p", "p/data/x.yaml", "a: {b: 2}\n"}}, nil, "p/data/x.yaml: data.a.b is something else in p/data.yaml: Rego finds both at one place"},
		{"broken", []file{{"p", "p/data.yaml", "a: [\n"}}, nil, "p/data.yaml: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d policy.Data
			var err error
			for _, f := range test.files {
				if err == nil {
					err = d.Add(f.root, f.name, []byte(f.text))
				}
			}
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, d.Values()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
