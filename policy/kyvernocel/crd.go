// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	openapi "k8s.io/kube-openapi/pkg/validation/spec"

	"sconce.dev/sconce/object"
)

// converterOfCRD returns what knows how the fields of a custom resource are
// merged: its definition says so.
func converterOfCRD(gvk schema.GroupVersionKind, crd *object.Object) (managedfields.TypeConverter, error) {
	versions := crd.Root.At("spec", "versions")
	if versions == nil {
		return nil, fmt.Errorf("the definition of %s has no versions", gvk.GroupKind())
	}
	for _, v := range versions.Items {
		if v.Get("name").Str() != gvk.Version {
			continue
		}
		node := v.At("schema", "openAPIV3Schema")
		if node == nil {
			break
		}
		s := &openapi.Schema{}
		if err := json.Unmarshal(node.JSON(), s); err != nil {
			return nil, fmt.Errorf("reading the schema of %s: %w", gvk.GroupKind(), err)
		}
		s.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
		if s.Properties == nil {
			s.Properties = map[string]openapi.Schema{}
		}
		s.Properties["metadata"] = metadataSchema()
		s.Properties["apiVersion"], s.Properties["kind"] = *openapi.StringProperty(), *openapi.StringProperty()
		return managedfields.NewTypeConverter(map[string]*openapi.Schema{"custom." + gvk.Kind: s}, false)
	}
	return nil, fmt.Errorf("the definition of %s has no schema for version %s", gvk.GroupKind(), gvk.Version)
}

// metadataSchema is what of the metadata of objects is merged.
func metadataSchema() openapi.Schema {
	words := *openapi.MapProperty(openapi.StringProperty())
	open := openapi.Schema{SchemaProps: openapi.SchemaProps{Type: openapi.StringOrArray{"object"}}}
	open.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	out := open
	out.Extensions = openapi.Extensions{"x-kubernetes-preserve-unknown-fields": true}
	out.Properties = map[string]openapi.Schema{"labels": words, "annotations": words}
	return out
}
