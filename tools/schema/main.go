// SPDX-License-Identifier: Apache-2.0

// Command schema writes a JSON schema for each CRD, for editors and validators
// that do not know CRDs. It is run by `make generate`.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: schema CRD-FOLDER SCHEMA-FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CRDs in %s", from)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if err := convert(file, to); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// crd is the part of a CustomResourceDefinition that is read.
type crd struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Schema struct{ OpenAPIV3Schema map[string]any }
		}
	}
}

func convert(file, to string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c crd
	if err := yaml.Unmarshal(data, &c); err != nil {
		return err
	}
	for _, v := range c.Spec.Versions {
		schema := v.Schema.OpenAPIV3Schema
		strict(schema)
		properties := schema["properties"].(map[string]any)
		properties["apiVersion"] = map[string]any{"const": c.Spec.Group + "/" + v.Name}
		properties["kind"] = map[string]any{"const": c.Spec.Names.Kind}
		properties["metadata"] = metadata
		schema["required"] = []any{"apiVersion", "kind", "metadata", "spec"}
		schema["$schema"] = "http://json-schema.org/draft-07/schema#"
		schema["title"] = c.Spec.Names.Kind
		out, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			return err
		}
		name := strings.ToLower(c.Spec.Names.Kind) + "-" + v.Name + ".json"
		if err := os.WriteFile(filepath.Join(to, name), append(out, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// metadata is what of an object's metadata the format reads.
var metadata = map[string]any{
	"type":     "object",
	"required": []any{"name"},
	"properties": map[string]any{
		"name": map[string]any{"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"},
	},
}

// strict turns an OpenAPI schema into a JSON schema that refuses fields that it
// does not know, as Sconce itself does.
func strict(schema map[string]any) {
	for key := range schema {
		if strings.HasPrefix(key, "x-kubernetes-") {
			delete(schema, key)
		}
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		schema["additionalProperties"] = false
		for _, p := range properties {
			strict(p.(map[string]any))
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if sub, ok := schema[key].(map[string]any); ok {
			strict(sub)
		}
	}
}
