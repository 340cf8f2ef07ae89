// SPDX-License-Identifier: Apache-2.0

package openreports

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the CRDs of reports in config/install")

// TestCRDs holds that the CRDs for clusters that have none are current, and that
// every field that is built is one of theirs.
func TestCRDs(t *testing.T) {
	for name, api := range map[string]API{"openreports": OpenReports, "policyreports": PolicyReports} {
		var file bytes.Buffer
		file.WriteString("# The CRDs of " + api.String() + ", for clusters in which no other program has installed them.\n# Written by `make generate`; do not edit.\n")
		for _, namespace := range []string{"", "shop"} {
			c := crd(api, namespace)
			data, err := yaml.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			file.WriteString("---\n")
			file.Write(data)
			declared(t, api.Kind(namespace).Kind, c.Spec.Versions[0].Schema.OpenAPIV3Schema, built(t, api, namespace))
		}
		path := filepath.Join("..", "..", "config", "install", name+"-crds.yaml")
		if *update {
			if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, file.Bytes()) {
			t.Errorf("%s is stale: run make generate (%v)", path, err)
		}
	}
}

// built returns a report as JSON's values.
func built(t *testing.T, api API, namespace string) any {
	t.Helper()
	data, err := json.Marshal(Build(api, namespace, typical()))
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// declared complains of fields and values that a schema does not know: the API
// server would drop the former and refuse the latter.
func declared(t *testing.T, path string, s *apiextensions.JSONSchemaProps, value any) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			at := path + "." + key
			switch p, ok := s.Properties[key]; {
			case at == path+".metadata" && ok && p.Properties == nil:
			case ok:
				declared(t, at, &p, v)
			case s.AdditionalProperties != nil:
				declared(t, at, s.AdditionalProperties.Schema, v)
			default:
				t.Errorf("%s is no field of the CRD", at)
			}
		}
		for _, key := range s.Required {
			if _, ok := value[key]; !ok {
				t.Errorf("%s.%s is required", path, key)
			}
		}
	case []any:
		for _, v := range value {
			declared(t, path+"[]", s.Items.Schema, v)
		}
	case string:
		var known []string
		for _, e := range s.Enum {
			known = append(known, strings.Trim(string(e.Raw), `"`))
		}
		if s.Type != "string" || known != nil && !strings.Contains(strings.Join(known, " "), value) {
			t.Errorf("%s is %q", path, value)
		}
	case float64:
		if s.Type != "integer" {
			t.Errorf("%s is a number", path)
		}
	case bool:
		if s.Type != "boolean" {
			t.Errorf("%s is a boolean", path)
		}
	}
}

// crd returns a CRD with the fields of the published one, in our own words.
func crd(api API, namespace string) *apiextensions.CustomResourceDefinition {
	gvk, gvr := api.Kind(namespace), api.Resource(namespace)
	scope, short := apiextensions.NamespaceScoped, map[API]string{OpenReports: "reps", PolicyReports: "polr"}[api]
	if namespace == "" {
		scope, short = apiextensions.ClusterScoped, map[API]string{OpenReports: "creps", PolicyReports: "cpolr"}[api]
	}
	root := fields("what policies say of a scope", map[string]apiextensions.JSONSchemaProps{
		"apiVersion":    text("version of the API"),
		"kind":          text("kind of the object"),
		"metadata":      {Type: "object"},
		"scope":         reference("what the report is about as a whole"),
		"scopeSelector": selector("what the report is about, by labels"),
		"summary":       summary(),
		"results":       listOf("what each policy says", result()),
	})
	if api == OpenReports {
		root.Properties["source"] = text("who wrote all of the results")
		root.Properties["configuration"] = configuration()
	}
	var c apiextensions.CustomResourceDefinition
	c.APIVersion, c.Kind = apiextensions.SchemeGroupVersion.String(), "CustomResourceDefinition"
	c.Name = gvr.GroupResource().String()
	c.Annotations = map[string]string{}
	if api == PolicyReports {
		// The API server asks this of groups that end in k8s.io.
		c.Annotations["api-approved.kubernetes.io"] = "unapproved, experimental-only"
	}
	c.Spec.Group, c.Spec.Scope = gvk.Group, scope
	c.Spec.Names = apiextensions.CustomResourceDefinitionNames{
		Kind: gvk.Kind, ListKind: gvk.Kind + "List", Plural: gvr.Resource, Singular: strings.ToLower(gvk.Kind), ShortNames: []string{short},
	}
	c.Spec.Versions = []apiextensions.CustomResourceDefinitionVersion{{
		Name: gvk.Version, Served: true, Storage: true,
		Schema:                   &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &root},
		AdditionalPrinterColumns: columns(),
	}}
	return &c
}

func columns() []apiextensions.CustomResourceColumnDefinition {
	var out []apiextensions.CustomResourceColumnDefinition
	for _, name := range []string{"Kind", "Name"} {
		out = append(out, apiextensions.CustomResourceColumnDefinition{Name: name, Type: "string", JSONPath: ".scope." + strings.ToLower(name), Priority: 1})
	}
	for _, name := range []string{"Pass", "Fail", "Warn", "Error", "Skip"} {
		out = append(out, apiextensions.CustomResourceColumnDefinition{Name: name, Type: "integer", JSONPath: ".summary." + strings.ToLower(name)})
	}
	return append(out, apiextensions.CustomResourceColumnDefinition{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"})
}

func fields(description string, properties map[string]apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{Type: "object", Description: description, Properties: properties}
}

func text(description string, values ...string) apiextensions.JSONSchemaProps {
	out := apiextensions.JSONSchemaProps{Type: "string", Description: description}
	for _, v := range values {
		out.Enum = append(out.Enum, apiextensions.JSON{Raw: []byte(`"` + v + `"`)})
	}
	return out
}

func number(description string) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{Type: "integer", Description: description}
}

func listOf(description string, item apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps {
	return apiextensions.JSONSchemaProps{Type: "array", Description: description, Items: &apiextensions.JSONSchemaPropsOrArray{Schema: &item}}
}

func texts(description string) apiextensions.JSONSchemaProps {
	value := apiextensions.JSONSchemaProps{Type: "string"}
	return apiextensions.JSONSchemaProps{Type: "object", Description: description, AdditionalProperties: &apiextensions.JSONSchemaPropsOrBool{Allows: true, Schema: &value}}
}

func reference(description string) apiextensions.JSONSchemaProps {
	properties := map[string]apiextensions.JSONSchemaProps{}
	for _, name := range []string{"apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"} {
		properties[name] = apiextensions.JSONSchemaProps{Type: "string"}
	}
	out := fields(description, properties)
	atomic := "atomic"
	out.XMapType = &atomic
	return out
}

func selector(description string) apiextensions.JSONSchemaProps {
	requirement := fields("", map[string]apiextensions.JSONSchemaProps{
		"key": text(""), "operator": text("In, NotIn, Exists or DoesNotExist"), "values": listOf("", apiextensions.JSONSchemaProps{Type: "string"}),
	})
	requirement.Required = []string{"key", "operator"}
	out := fields(description, map[string]apiextensions.JSONSchemaProps{
		"matchLabels": texts(""), "matchExpressions": listOf("", requirement),
	})
	atomic := "atomic"
	out.XMapType = &atomic
	return out
}

func summary() apiextensions.JSONSchemaProps {
	return fields("how many results there are of each outcome", map[string]apiextensions.JSONSchemaProps{
		"pass": number("met"), "fail": number("not met"), "warn": number("not met, and not scored"), "error": number("could not be decided"), "skip": number("left out"),
	})
}

func configuration() apiextensions.JSONSchemaProps {
	limits := fields("what the report leaves out", map[string]apiextensions.JSONSchemaProps{
		"maxResults":   number("how many results there may be"),
		"statusFilter": listOf("the outcomes that are listed", text("", "pass", "fail", "warn", "error", "skip")),
	})
	out := fields("what writer and reader of the report agree on", map[string]apiextensions.JSONSchemaProps{"limits": limits})
	out.Required = []string{"limits"}
	return out
}

func result() apiextensions.JSONSchemaProps {
	timestamp := fields("when the result was found", map[string]apiextensions.JSONSchemaProps{
		"seconds": {Type: "integer", Format: "int64"}, "nanos": {Type: "integer", Format: "int32"},
	})
	timestamp.Required = []string{"nanos", "seconds"}
	out := fields("", map[string]apiextensions.JSONSchemaProps{
		"source":           text("who wrote the result"),
		"policy":           text("the policy's name"),
		"rule":             text("the rule's name within the policy"),
		"category":         text("what groups policies"),
		"severity":         text("what is at stake", "critical", "high", "low", "medium", "info"),
		"timestamp":        timestamp,
		"result":           text("the outcome", "pass", "fail", "warn", "error", "skip"),
		"scored":           {Type: "boolean", Description: "whether the result counts"},
		"resources":        listOf("the objects that the result is about", reference("")),
		"resourceSelector": selector("the objects that the result is about, by labels"),
		"message":          text("what is there, for a person"),
		"properties":       texts("what else is known"),
	})
	out.Required = []string{"policy"}
	return out
}
