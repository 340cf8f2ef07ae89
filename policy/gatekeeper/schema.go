// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	apivalidation "k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/object"
)

// schema is what the constraints of a template must look like: that of the
// custom resource that Gatekeeper makes of the template.
type schema struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
}

// SchemaError says that a constraint does not fit the schema of its template.
type SchemaError struct{ Err error }

// Error implements error.
func (e *SchemaError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *SchemaError) Unwrap() error { return e.Err }

//go:embed constraint.yaml
var constraintYAML []byte

// constraintSchema returns what all constraints have in common.
var constraintSchema = sync.OnceValues(func() (*apiextensionsv1.JSONSchemaProps, error) {
	out := &apiextensionsv1.JSONSchemaProps{}
	if err := yaml.UnmarshalStrict(constraintYAML, out); err != nil {
		return nil, fmt.Errorf("reading the schema of constraints: %w", err)
	}
	return out, nil
})

// resources are the types that a custom resource definition is converted with.
var resources = sync.OnceValues(func() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := apiextensions.AddToScheme(s); err != nil {
		return nil, err
	}
	return s, apiextensionsv1.AddToScheme(s)
})

// templateSchema returns the schema of a template's constraints.
func templateSchema(o *object.Object, kind string) (*schema, error) {
	common, err := constraintSchema()
	if err != nil {
		return nil, err
	}
	whole := common.DeepCopy()
	fields := []string{"spec", "crd", "spec", "validation"}
	parameters, err := parameterSchema(o, o.Root.At(fields...))
	if err != nil {
		return nil, fault(o, fields, "ConstraintTemplate %s: spec.crd.spec.validation: %w", o.Name, err)
	}
	if parameters != nil {
		whole.Properties["spec"].Properties["parameters"] = *parameters
	}
	out, err := compileSchema(kind, whole)
	if err != nil {
		return nil, fault(o, fields, "the schema of ConstraintTemplate %s is not valid: %w", o.Name, err)
	}
	return out, nil
}

// parameterSchema returns the schema of spec.parameters; nil where a template
// has no parameters. A legacy schema lets everything pass that it does not name.
func parameterSchema(o *object.Object, n *object.Node) (*apiextensionsv1.JSONSchemaProps, error) {
	legacy := o.APIVersion != templatesGroup+"/v1"
	if l := n.Get("legacySchema"); l != nil {
		legacy = l.Bool()
	}
	props := &apiextensionsv1.JSONSchemaProps{}
	switch given := n.Get("openAPIV3Schema"); {
	case given != nil:
		if err := json.Unmarshal(given.JSON(), props); err != nil {
			return nil, fmt.Errorf("openAPIV3Schema: %w", err)
		}
	case !legacy:
		return nil, nil
	}
	if legacy {
		if err := preserve(props); err != nil {
			return nil, err
		}
	}
	return props, nil
}

// preserve makes a schema let pass what it does not name.
func preserve(s *apiextensionsv1.JSONSchemaProps) error {
	yes := true
	switch s.Type {
	case "", "object":
		s.XPreserveUnknownFields = &yes
	case "array":
		if s.Items == nil || s.Items.Schema == nil && s.Items.JSONSchemas == nil {
			s.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{XPreserveUnknownFields: &yes}}
		}
	}
	for name, p := range s.Properties {
		if err := preserve(&p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.JSONSchemas != nil {
		return fmt.Errorf("items has a list of schemas; want one schema")
	}
	if s.Items != nil && s.Items.Schema != nil {
		if err := preserve(s.Items.Schema); err != nil {
			return fmt.Errorf("items: %w", err)
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		if err := preserve(s.AdditionalProperties.Schema); err != nil {
			return fmt.Errorf("additionalProperties: %w", err)
		}
	}
	return nil
}

// compileSchema checks a schema as the API server checks the one of a custom
// resource, and prepares it.
func compileSchema(kind string, whole *apiextensionsv1.JSONSchemaProps) (*schema, error) {
	crd, err := definition(kind, whole)
	if err != nil {
		return nil, err
	}
	if errs := apiextensionsvalidation.ValidateCustomResourceDefinition(context.Background(), crd); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	props := crd.Spec.Validation.OpenAPIV3Schema
	out := &schema{}
	if out.structural, err = structuralschema.NewStructural(props); err != nil {
		return nil, err
	}
	out.validator, _, err = validation.NewSchemaValidator(props)
	return out, err
}

// definition returns the custom resource definition that Gatekeeper makes of a
// template.
func definition(kind string, whole *apiextensionsv1.JSONSchemaProps) (*apiextensions.CustomResourceDefinition, error) {
	scheme, err := resources()
	if err != nil {
		return nil, err
	}
	plural := strings.ToLower(kind)
	v1 := &apiextensionsv1.CustomResourceDefinition{}
	v1.Name = plural + "." + constraintsGroup
	version := apiextensionsv1.CustomResourceDefinitionVersion{Name: "v1beta1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: whole}}
	v1.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group:    constraintsGroup,
		Names:    apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: plural},
		Scope:    apiextensionsv1.ClusterScoped,
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version},
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	v1.Status.StoredVersions = []string{"v1beta1"}
	out := &apiextensions.CustomResourceDefinition{}
	return out, scheme.Convert(v1, out, nil)
}

// check says what is wrong with a constraint, and fills in the defaults of its
// template.
func (s *schema) check(tree map[string]any, name string) error {
	if errs := apivalidation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return fmt.Errorf("the name %q: %s", name, strings.Join(errs, "; "))
	}
	if errs := validation.ValidateCustomResource(nil, tree, s.validator); len(errs) > 0 {
		return &SchemaError{errs.ToAggregate()}
	}
	unknown := pruning.PruneWithOptions(runtime.DeepCopyJSON(tree), s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("fields that its template does not know: %s", strings.Join(unknown, ", "))
	}
	defaulting.Default(tree, s.structural)
	return nil
}
