// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
)

// test is a document of a kyverno-test.yaml. Fields that are there for older
// versions stand beside those that took their place.
type test struct {
	Name     string `json:"name"`
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Policies             []string        `json:"policies"`
	Resources            []string        `json:"resources"`
	JSONPayload          string          `json:"jsonPayload"`
	JSONPayloads         []string        `json:"jsonPayloads"`
	HTTPPayloads         []string        `json:"httpPayloads"`
	EnvoyPayloads        []string        `json:"envoyPayloads"`
	TargetResources      []string        `json:"targetResources"`
	ParamResources       []string        `json:"paramResources"`
	Variables            string          `json:"variables"`
	Values               *values         `json:"values"`
	UserInfo             string          `json:"userinfo"`
	PolicyExceptions     []string        `json:"exceptions"`
	Context              string          `json:"context"`
	ClusterResources     []string        `json:"clusterResources"`
	APICallResponses     []apiCall       `json:"apiCallResponses"`
	GlobalContextEntries []globalContext `json:"globalContextEntries"`
	Results              []result        `json:"results"`
	Checks               []any           `json:"checks"` // of older versions

	file string
	root *object.Node
	// policyFiles are the files that its policies were read from.
	policyFiles []string
}

// result is one expectation.
type result struct {
	Policy             string         `json:"policy"`
	Rule               string         `json:"rule"`
	Result             string         `json:"result"`
	Status             string         `json:"status"` // what result was called
	Kind               string         `json:"kind"`
	Namespace          string         `json:"namespace"`
	Operation          string         `json:"operation"`
	Resource           string         `json:"resource"` // before there were several
	Resources          []string       `json:"resources"`
	ResourceSpecs      []resourceSpec `json:"resourceSpecs"`
	PatchedResource    string         `json:"patchedResource"`
	PatchedResources   string         `json:"patchedResources"`
	GeneratedResource  string         `json:"generatedResource"`
	GeneratedResources []string       `json:"generatedResources"`
	CloneSource        string         `json:"cloneSourceResource"`
	FailOnMissing      bool           `json:"failOnMissingResources"`
	IsDeletingPolicy   bool           `json:"isDeletingPolicy"`

	node *object.Node
}

type resourceSpec struct {
	Group     string `json:"group"`
	Version   string `json:"version"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// values are what policies look up: the content of a values file, or what the
// test itself holds.
type values struct {
	GlobalValues map[string]any `json:"globalValues"`
	Policies     []struct {
		Name      string `json:"name"`
		Resources []struct {
			Name   string         `json:"name"`
			Values map[string]any `json:"values"`
		} `json:"resources"`
		Rules []struct {
			Name          string           `json:"name"`
			Values        map[string]any   `json:"values"`
			ForeachValues map[string][]any `json:"foreachValues"`
		} `json:"rules"`
	} `json:"policies"`
	NamespaceSelectors []struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"namespaceSelector"`
	Namespaces   []map[string]any `json:"namespaces"`
	Subresources []struct {
		Subresource    metav1.APIResource `json:"subresource"`
		ParentResource metav1.APIResource `json:"parentResource"`
	} `json:"subresources"`
}

type apiCall struct {
	URL      string `json:"url"`
	URLPath  string `json:"urlPath"`
	Method   string `json:"method"`
	Response struct {
		StatusCode int64 `json:"statusCode"`
		Body       any   `json:"body"`
	} `json:"response"`
}

type globalContext struct {
	Name          string   `json:"name"`
	Data          any      `json:"data"`
	Resources     []any    `json:"resources"`
	ResourceFiles []string `json:"resourceFiles"`
	FieldPath     string   `json:"fieldPath"`
	Projections   []struct {
		Name string `json:"name"`
		Path string `json:"path"`
	} `json:"projections"`
}

// readTest reads a document. What is in neither form of a test is left out, as
// older versions of Kyverno do.
func readTest(file string, root *object.Node) (*test, error) {
	t := &test{file: file, root: root}
	if err := json.Unmarshal(root.JSON(), t); err != nil {
		return nil, fmt.Errorf("line %d: %w", root.Line, err)
	}
	results := root.Get("results")
	for i := range t.Results {
		r := &t.Results[i]
		r.node = results.Items[i]
		r.upgrade()
	}
	if t.JSONPayload != "" && len(t.JSONPayloads) == 0 {
		t.JSONPayloads = []string{t.JSONPayload}
	}
	return t, nil
}

// upgrade fills in what the older form of a result calls otherwise.
func (r *result) upgrade() {
	if r.Result == "" {
		r.Result = r.Status
	}
	if r.Resource != "" && len(r.Resources) == 0 {
		r.Resources = []string{r.Resource}
	}
	if r.PatchedResources == "" {
		r.PatchedResources = r.PatchedResource
	}
	if r.Namespace == "" {
		return
	}
	for i, name := range r.Resources {
		if !strings.Contains(name, "/") {
			r.Resources[i] = r.Namespace + "/" + name
		}
	}
}

func (t *test) name() string {
	if t.Metadata.Name != "" {
		return t.Metadata.Name
	}
	return t.Name
}

func (t *test) position(n *object.Node) object.Position {
	return object.Position{File: t.file, Line: int(n.Line), Column: int(n.Col)}
}

// newCase returns a case of a result, before it is known what comes of it.
func (t *test) newCase(r *result) policytest.Case {
	c := policytest.Case{Suite: t.name(), Policy: r.Policy, Rule: r.Rule, Want: r.Result, Position: t.position(r.node)}
	c.Resource = strings.Join(r.Resources, ", ")
	c.Name = strings.Join(slices.DeleteFunc([]string{r.Policy, r.Rule, c.Resource}, func(s string) bool { return s == "" }), " ")
	return c
}
