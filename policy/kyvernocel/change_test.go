// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

func mutating(spec string) string {
	return `
apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata: {name: p}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
` + spec
}

// mutate runs the only mutator of a set and returns what it changes.
func mutate(t *testing.T, set *policy.Set, r *policy.Request) (*object.Node, verdict.Outcome, string) {
	t.Helper()
	if len(set.Mutators) != 1 {
		t.Fatalf("%d mutators; want 1", len(set.Mutators))
	}
	changed, v, applies := set.Mutators[0].Mutate(t.Context(), r)
	if !applies {
		return nil, "", "nothing"
	}
	words := ""
	for _, f := range v.Findings {
		words += f.Message
	}
	return changed, v.Outcome, words
}

const plainPod = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers: [{name: app, image: app, ports: [{containerPort: 80}]}]
`

func TestApplyConfiguration(t *testing.T) {
	set := load(t, mutating(`
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, imagePullPolicy: "Always"})}}
`))
	for text, want := range map[string]string{
		plainPod: `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers: [{name: app, image: app, ports: [{containerPort: 80}], imagePullPolicy: Always}]
`,
		`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {replicas: 2, template: {spec: {containers: [{name: app, image: app}]}}}
`: `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    spec: {containers: [{name: app, image: app, imagePullPolicy: Always}]}
`,
	} {
		changed, outcome, words := mutate(t, set, &policy.Request{Object: parse(t, text)[0]})
		if outcome != verdict.Pass {
			t.Fatal(outcome, words)
		}
		if diff := cmp.Diff(parse(t, want)[0].Root.Any(), changed.Any()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestJSONPatch(t *testing.T) {
	for name, c := range map[string]struct{ expression, want, words string }{
		"adds": {`[JSONPatch{op: "add", path: "/metadata/labels", value: {}}, JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "c"}]`,
			strings.Replace(plainPod, "shop}", "shop, labels: {a/b: c}}", 1), ""},
		"an object":       {`[JSONPatch{op: "add", path: "/spec/securityContext", value: Object.spec.securityContext{runAsUser: 7}}]`, plainPod + "  securityContext: {runAsUser: 7}\n", ""},
		"nothing":         {`[JSONPatch{op: "remove", path: "/spec"}].filter(p, false)`, "", ""},
		"a failing test":  {`[JSONPatch{op: "test", path: "/kind", value: "Job"}, JSONPatch{op: "remove", path: "/spec"}]`, "", ""},
		"what is missing": {`[JSONPatch{op: "remove", path: "/spec/none"}]`, "", "applying the JSON patch"},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, mutating("  mutations:\n  - patchType: JSONPatch\n    jsonPatch:\n      expression: '"+c.expression+"'\n"))
			changed, outcome, words := mutate(t, set, &policy.Request{Object: parse(t, plainPod)[0]})
			if c.words != "" {
				if outcome != verdict.Unknown || !strings.Contains(words, c.words) {
					t.Errorf("%s %s; want unknown, %s", outcome, words, c.words)
				}
				return
			}
			var want any
			if c.want != "" {
				want = parse(t, c.want)[0].Root.Any()
			}
			if diff := cmp.Diff(want, changed.Any()); diff != "" || outcome != verdict.Pass {
				t.Errorf("%s %s\n%s", outcome, words, diff)
			}
		})
	}
}

func TestMutationConditions(t *testing.T) {
	set := load(t, mutating(`
  variables: [{name: env, expression: "object.metadata.?labels.?env.orValue('none')"}]
  matchConditions: [{name: a, expression: variables.env == 'prod'}]
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "remove", path: "/spec"}]'}}]
`))
	if _, _, words := mutate(t, set, &policy.Request{Object: parse(t, plainPod)[0]}); words != "nothing" {
		t.Error(words)
	}
	if _, _, words := mutate(t, set, &policy.Request{Old: parse(t, plainPod)[0], Operation: policy.Delete}); words != "nothing" {
		t.Error(words)
	}
}

// TestCustomResource merges into a custom resource: lists need its definition.
func TestCustomResource(t *testing.T) {
	text := strings.NewReplacer("apiGroups: [\"\"]", "apiGroups: [example.com]", "resources: [pods]", "resources: [widgets]").Replace(mutating(`
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{spec: Object.spec{parts: [Object.spec.parts{name: "b", size: 3}]}}'}
`))
	widget := parse(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {parts: [{name: a, size: 1}, {name: b, size: 2}]}\n")[0]
	_, outcome, words := mutate(t, load(t, text), &policy.Request{Object: widget})
	if outcome != verdict.Unknown || !strings.Contains(words, "how lists of Widget.example.com are merged is not known") {
		t.Errorf("%s %s", outcome, words)
	}
	crd := parse(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, properties: {name: {type: string}, size: {type: integer}}}
`)
	changed, outcome, words := mutate(t, load(t, text), &policy.Request{Object: widget, Cluster: told{objects: crd}})
	if outcome != verdict.Pass || changed == nil {
		t.Fatal(outcome, words)
	}
	if got := string(changed.At("spec", "parts").JSON()); got != `[{"name":"a","size":1},{"name":"b","size":3}]` {
		t.Error(got)
	}
}

// TestNoJSON applies values that no object can hold.
func TestNoJSON(t *testing.T) {
	widget := parse(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {a: 1}\n")[0]
	for _, value := range []string{`timestamp("2020-01-01T00:00:00Z")`, `duration("1s")`, `b"x"`, `double("NaN")`, `quantity("1Gi")`} {
		set := load(t, strings.NewReplacer("apiGroups: [\"\"]", "apiGroups: [example.com]", "resources: [pods]", "resources: [widgets]").Replace(mutating(
			"  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{spec: Object.spec{b: "+value+"}}'}}, {patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{spec: Object.spec{c: 1}}'}}]")))
		if _, outcome, words := mutate(t, set, &policy.Request{Object: widget}); outcome != verdict.Unknown {
			t.Errorf("%s: %s %s", value, outcome, words)
		}
	}
}

func TestMutateExisting(t *testing.T) {
	policies, problems := Read(parse(t, mutating(`
  evaluation: {mutateExisting: {enabled: true}}
  targetMatchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  targetMatchConditions: [{name: a, expression: object.metadata.name != 'not'}]
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: "add", path: "/data/by", value: request.name}]'}}]
`)), policy.Options{})
	if len(problems) > 0 || !policies[0].MutatesExisting {
		t.Fatal(problems)
	}
	r := &policy.Request{Object: parse(t, plainPod)[0]}
	got := policies[0].EvaluateTarget(t.Context(), r, parse(t, configMap)[0], nil)
	if data, _ := got.Changed["data"].(map[string]any); got.Status != Pass || data["by"] != "web" {
		t.Errorf("%+v", got)
	}
	if got := policies[0].EvaluateTarget(t.Context(), r, parse(t, strings.Replace(configMap, "settings", "not", 1))[0], nil); got.Status != Skip {
		t.Errorf("%+v", got)
	}
	if got := policies[0].EvaluateTarget(t.Context(), r, parse(t, deployment)[0], nil); got.Status != None {
		t.Errorf("%+v", got)
	}
}

func generating(kind, spec string) string {
	return `
apiVersion: policies.kyverno.io/v1
kind: ` + kind + `
metadata: {name: g, namespace: shop}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [namespaces, configmaps]}
  variables:
  - name: quota
    expression: >-
      [{"kind": dyn("ResourceQuota"), "apiVersion": dyn("v1"), "metadata": dyn({"name": "q"}), "spec": dyn({"hard": {"pods": 3}})}]
` + spec
}

const aNamespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: prod}}\n"

func generate(t *testing.T, text string, o *object.Object) Response {
	t.Helper()
	policies, problems := Read(parse(t, text), policy.Options{})
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	return policies[0].Evaluate(t.Context(), &policy.Request{Object: o}, nil)[0]
}

func TestGenerate(t *testing.T) {
	quota := func(namespace string) map[string]any {
		return map[string]any{
			"kind": "ResourceQuota", "apiVersion": "v1", "metadata": map[string]any{"name": "q", "namespace": namespace},
			"spec": map[string]any{"hard": map[string]any{"pods": int64(3)}},
		}
	}
	template := `
  generate:
  - template:
      interpolate: cel
      value: |
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: of-(( object.metadata.name ))
          namespace: (( object.metadata.name ))
          labels: (( object.metadata.labels ))
        data: {text: 'a \((b)) (( 1 + 2 )) (( ")" + string(true) ))'}
`
	made := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "of-shop", "namespace": "shop", "labels": map[string]any{"env": "prod"}},
		"data":     map[string]any{"text": "a ((b)) 3 )true"},
	}
	for name, c := range map[string]struct {
		text string
		want map[string]any
	}{
		"an expression":          {generating("GeneratingPolicy", "  generate: [{expression: 'generator.Apply(object.metadata.name, variables.quota)'}]"), quota("shop")},
		"a policy's namespace":   {generating("NamespacedGeneratingPolicy", "  generate: [{expression: 'generator.Apply(variables.quota)'}]"), quota("shop")},
		"a template":             {generating("GeneratingPolicy", template), made},
		"a template, namespaced": {generating("NamespacedGeneratingPolicy", template), made},
	} {
		t.Run(name, func(t *testing.T) {
			got := generate(t, c.text, parse(t, aNamespace)[0])
			if diff := cmp.Diff([]map[string]any{c.want}, got.Generated); diff != "" || got.Status != Pass {
				t.Errorf("%+v\n%s", got, diff)
			}
		})
	}
}

// TestOthers holds that what makes or deletes objects judges none.
func TestOthers(t *testing.T) {
	set := load(t, generating("GeneratingPolicy", "  generate: [{expression: 'generator.Apply(\"a\", variables.quota)'}]")+`
---
apiVersion: policies.kyverno.io/v1
kind: DeletingPolicy
metadata: {name: d}
spec:
  schedule: '0 1 * * *'
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [configmaps]}
  conditions: [{name: big, expression: "int(object.data.size) > 4"}]
`)
	var does []string
	for _, o := range set.Others {
		does = append(does, o.Info.Policy.Kind+" "+o.Does)
	}
	if want := []string{"GeneratingPolicy makes objects", "DeletingPolicy deletes objects"}; len(set.Rules) > 0 || !slices.Equal(does, want) {
		t.Errorf("%d rules, %q", len(set.Rules), does)
	}
}

func TestGenerateElsewhere(t *testing.T) {
	got := generate(t, generating("NamespacedGeneratingPolicy", "  generate: [{template: {value: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: other}}'}}]"), parse(t, aNamespace)[0])
	if got.Status != Error || !strings.Contains(got.Message, "cannot make an object in other") {
		t.Errorf("%+v", got)
	}
}

func TestTemplateProblems(t *testing.T) {
	for value, want := range map[string]string{
		"(( a": "does not end", "(( ))": "is empty", "(( a ) ))": "too many", "(( none ))": "undeclared reference", `(( "a ))`: "does not end",
	} {
		_, problems := Read(parse(t, generating("GeneratingPolicy", "  generate:\n  - template:\n      interpolate: cel\n      value: |\n        a: '"+value+"'\n")), policy.Options{})
		if len(problems) != 1 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %+v; want %s", value, problems, want)
		}
	}
}

func TestImages(t *testing.T) {
	text := func(config, validation string) string {
		return `
apiVersion: policies.kyverno.io/v1
kind: ImageValidatingPolicy
metadata: {name: i}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  matchImageReferences: [{glob: 'ghcr.io/**'}, {expression: "ref.startsWith('quay.io/')"}]
  validationConfigurations: {` + config + `}
  attestors: [{name: notary, notary: {certs: {value: x}}}]
  validations:
  - expression: ` + validation + "\n"
	}
	signed := "images.containers.map(i, verifyImageSignatures(i, [attestors.notary])).all(n, n > 0)"
	digest := "@sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for name, c := range map[string]struct{ text, image, want string }{
		"another image":        {text("", signed), "docker.io/app:1", "pass"},
		"digest not asked":     {text("", signed), "ghcr.io/a/app:1", "unknown"},
		"no digest":            {text("mutateDigest: false", signed), "ghcr.io/a/app:1", "fail"},
		"not asked":            {text("", signed), "ghcr.io/a/app" + digest, "unknown"},
		"selected by ref":      {text("mutateDigest: false", signed), "quay.io/a/app:1", "fail"},
		"digest not needed":    {text("verifyDigest: false", signed), "ghcr.io/a/app:1", "unknown"},
		"nothing verified":     {text("verifyDigest: false", "'true'"), "ghcr.io/a/app:1", "unknown"},
		"verified if required": {text("verifyDigest: false, required: false", "'true'"), "ghcr.io/a/app:1", "pass"},
		"known to fail":        {text("verifyDigest: false", "images.containers.size() > 1"), "ghcr.io/a/app:1", "fail"},
	} {
		t.Run(name, func(t *testing.T) {
			o := parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: '"+c.image+"'}]}\n")[0]
			if v, _ := judge(t, load(t, c.text), &policy.Request{Object: o}); string(v.Outcome) != c.want {
				t.Errorf("%+v; want %s", v, c.want)
			}
		})
	}
}
