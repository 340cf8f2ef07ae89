// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sconce.dev/sconce/object"
)

// TestSchemas holds that the generated JSON schemas take every document of the
// catalogue, and refuse what Sconce refuses.
func TestSchemas(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	schemas := map[string]*jsonschema.Schema{}
	for _, kind := range []string{"Control", "Baseline", "Exception", "Framework"} {
		s, err := compiler.Compile("../schema/" + strings.ToLower(kind) + "-v1alpha1.json")
		if err != nil {
			t.Fatal(err)
		}
		schemas[kind] = s
	}
	validate := func(text string) error {
		root, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(root.JSON()))
		if err != nil {
			t.Fatal(err)
		}
		return schemas[root.Get("kind").Str()].Validate(v)
	}
	count := 0
	err := filepath.WalkDir("../catalog", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".fixture.yaml") {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		count++
		if err := validate(string(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil || count < 70 {
		t.Fatalf("%d documents validated, %v", count, err)
	}
	const head = "apiVersion: sconce.dev/v1alpha1\nkind: "
	for _, bad := range []string{
		head + "Baseline\nmetadata: {name: b}\nspec: {titel: T}\n",
		head + "Baseline\nmetadata: {name: B}\nspec: {title: T}\n",
		head + "Baseline\nmetadata: {name: b}\nspec: {title: T, controls: [{name: x, action: refuse}]}\n",
		head + "Exception\nmetadata: {name: e}\nspec: {controls: [], match: {}, reason: it is needed, owner: o, expires: 2030-01-01}\n",
		head + "Exception\nmetadata: {name: e}\nspec: {controls: [x], match: {names: [a]}, owner: o, expires: 2030-01-01}\n",
		head + "Control\nmetadata: {name: c}\nspec: {title: short}\n",
	} {
		if err := validate(bad); err == nil {
			t.Errorf("the schema takes %q", bad)
		}
	}
}
