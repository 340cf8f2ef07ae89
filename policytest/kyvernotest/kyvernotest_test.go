// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/policytest"
)

// folder is a folder of files.
type folder map[string]string

func (f folder) options() Options {
	return Options{
		ReadFile: func(name string) ([]byte, error) {
			text, ok := f[name]
			if !ok {
				return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
			}
			return []byte(text), nil
		},
		ReadDir: func(name string) ([]string, error) {
			var out []string
			for _, file := range slices.Sorted(maps.Keys(f)) {
				if path.Dir(file) == name {
					out = append(out, path.Base(file))
				}
			}
			if out == nil {
				return nil, errors.New("no folder")
			}
			return out, nil
		},
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// run runs the test "t/kyverno-test.yaml" and returns what came of its cases,
// one line each.
func (f folder) run(t *testing.T) string {
	t.Helper()
	r, err := Run(t.Context(), "t/kyverno-test.yaml", f.options())
	if err != nil {
		return err.Error()
	}
	var out []string
	for i := range r.Cases {
		c := &r.Cases[i]
		line := fmt.Sprintf("%s: %s, want %s: %s", c.Resource, c.Got, c.Want, c.Outcome)
		if c.Outcome != policytest.Passed {
			line += ": " + c.Message
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// with returns the folder with other files.
func (f folder) with(files ...string) folder {
	out := maps.Clone(f)
	for i := 0; i < len(files); i += 2 {
		out[files[i]] = files[i+1]
	}
	return out
}

// cel is a test of a policy of policies.kyverno.io.
var cel = folder{
	"policies/team.yaml": `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: team}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, DELETE], resources: [configmaps, pods]}
  matchConditions: [{name: a, expression: "object.metadata.?labels.?skip.orValue('') == ''"}]
  validations: [{expression: has(object.metadata.labels) && has(object.metadata.labels.team)}]
`,
	"t/resources.yaml": `
apiVersion: v1
kind: ConfigMap
metadata: {name: good, labels: {team: a}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: bad, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: skipped, labels: {skip: 'yes'}}
---
apiVersion: v1
kind: Service
metadata: {name: other}
`,
}

func testFile(fields string) string {
	return "apiVersion: cli.kyverno.io/v1alpha1\nkind: Test\nmetadata: {name: suite}\npolicies: [../policies/team.yaml]\nresources: [resources.yaml]\n" + fields
}

func results(list string) string { return testFile("results:\n" + list) }

func TestValidating(t *testing.T) {
	for name, c := range map[string]struct{ test, want string }{
		"passes and fails": {results(`
- {policy: team, isValidatingPolicy: true, kind: ConfigMap, result: pass, resources: [good]}
- {policy: team, isValidatingPolicy: true, kind: ConfigMap, result: fail, resources: [shop/bad]}
- {policy: team, isValidatingPolicy: true, kind: ConfigMap, result: skip, resources: [skipped]}
`), "ConfigMap default/good: pass, want pass: passed\nConfigMap shop/bad: fail, want fail: passed\nConfigMap default/skipped: skip, want skip: passed"},
		"the wrong result": {results(`- {policy: team, kind: ConfigMap, result: pass, resources: [bad]}`),
			"ConfigMap shop/bad: fail, want pass: failed: requirement 1 is not met"},
		"the older form": {strings.Replace(results(`- {policy: team, status: fail, resource: bad, namespace: shop}`), "metadata: {name: suite}", "name: suite", 1),
			"ConfigMap shop/bad: fail, want fail: passed"},
		"not selected": {results(`- {policy: team, result: pass, resources: [other]}`),
			"Service default/other: not found, want pass: failed: policy team says nothing of the resource"},
		"no such policy": {results(`- {policy: none, result: pass, resources: [good]}`),
			"ConfigMap default/good: not found, want pass: failed: policy none says nothing of the resource"},
		"all resources": {results(`- {policy: team, result: pass}`),
			"ConfigMap default/good: pass, want pass: passed\nConfigMap shop/bad: fail, want pass: failed: requirement 1 is not met\nConfigMap default/skipped: skip, want pass: failed: the policy's conditions do not hold\nService default/other: not found, want pass: failed: policy team says nothing of the resource"},
		"by specification": {results(`- {policy: team, result: pass, resources: [x], resourceSpecs: [{version: v1, namespace: default, name: good}]}`),
			"ConfigMap default/good: pass, want pass: passed"},
		"an operation": {results(`- {policy: team, result: error, operation: DELETE, resources: [good]}`),
			"ConfigMap default/good: error, want error: passed"},
		"no operation":  {results(`- {policy: team, result: pass, operation: PATCH, resources: [good]}`), `good: , want pass: broken: result 1: unknown operation "PATCH"; want CREATE, UPDATE or DELETE`},
		"an address":    {strings.Replace(results(`- {policy: team, result: pass, resources: [good]}`), "../policies/team.yaml", "https://example.com/a.yaml", 1), "good: , want pass: broken: reading the policies: https://example.com/a.yaml is an address, and nothing is fetched: save it in a file beside the test"},
		"a folder":      {strings.Replace(results(`- {policy: team, result: pass, resources: [good]}`), "../policies/team.yaml", "../policies", 1), "ConfigMap default/good: pass, want pass: passed"},
		"no file":       {strings.Replace(results(`- {policy: team, result: pass, resources: [good]}`), "resources.yaml", "none.yaml", 1), "good: , want pass: broken: reading the resources: t/none.yaml: file does not exist"},
		"proxies":       {testFile("envoyPayloads: [a.json]\nresults: [{policy: team, result: pass, resources: [good]}]\n"), "good: , want pass: broken: httpPayloads and envoyPayloads are requests to an authorization server, which are not supported; objects and jsonPayloads are"},
		"nothing to do": {testFile(""), ": , want : skipped: the test has no results"},
		"checks":        {testFile("checks: [{match: {}}]\n"), ": , want : broken: checks are assertions of older versions of Kyverno, which are not supported, nor by Kyverno since: write results"},
		"no test":       {"- a\n", "reading the test t/kyverno-test.yaml: line 1: json: cannot unmarshal array into Go value of type kyvernotest.test"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := cel.with("t/kyverno-test.yaml", c.test).run(t); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPositions(t *testing.T) {
	f := cel.with("t/kyverno-test.yaml", results("- {policy: team, result: pass, resources: [good]}\n"))
	r, err := Run(t.Context(), "t/kyverno-test.yaml", f.options())
	if err != nil {
		t.Fatal(err)
	}
	c := r.Cases[0]
	if c.Position.File != "t/kyverno-test.yaml" || c.Position.Line != 7 || c.Suite != "suite" || c.Policy != "team" || c.Name != "team ConfigMap default/good" {
		t.Errorf("%+v", c)
	}
}

func TestIsTest(t *testing.T) {
	for name, want := range map[string]bool{"a/kyverno-test.yaml": true, "kyverno-test.yml": true, `a\kyverno-test.yaml`: true, "a/test.yaml": false} {
		if IsTest(name) != want {
			t.Error(name)
		}
	}
}

func TestBrokenPolicy(t *testing.T) {
	f := cel.with("t/kyverno-test.yaml", results(`- {policy: team, result: pass, resources: [good]}`), "policies/team.yaml", strings.Replace(cel["policies/team.yaml"], "has(object.metadata.labels) &&", "has(", 1))
	if got := f.run(t); !strings.HasPrefix(got, "ConfigMap default/good: , want pass: broken: policy team is not valid: spec.validations[0].expression") {
		t.Error(got)
	}
}

// TestTold tells policies what they look up.
func TestTold(t *testing.T) {
	policy := func(expression string) string {
		return strings.Replace(cel["policies/team.yaml"], "has(object.metadata.labels) && has(object.metadata.labels.team)", "'"+expression+"'", 1)
	}
	for name, c := range map[string]struct{ expression, fields string }{
		"context":           {`resource.Get("v1", "secrets", "a", "b").data.x == "z" && image.GetMetadata("nginx").tag == "1"`, "context: context.yaml"},
		"the cluster":       {`resource.List("v1", "secrets", "a").items.size() == 1`, "clusterResources: [cluster.yaml]"},
		"what is judged":    {`resource.Get("v1", "configmaps", "shop", "bad").metadata.name == "bad"`, ""},
		"calls":             {`http.Get("https://a.example/b").body.ok == true && http.Post("https://a.example/c", {"a": "b"}).statusCode == 404`, "apiCallResponses: [{url: 'https://a.example/b', response: {body: {ok: true}}}, {url: 'https://a.example/c', method: POST, response: {statusCode: 404, body: {a: b}}}]"},
		"global context":    {`globalContext.Get("g", "names") == ["a", "b"]`, "globalContextEntries: [{name: g, data: {list: [{id: a}, {id: b}]}, fieldPath: list, projections: [{name: names, path: '[].id'}]}]"},
		"who asks":          {`request.userInfo.username == "ada"`, "userinfo: user.yaml"},
		"nobody asks":       {`!has(request.userInfo.username)`, ""},
		"namespaces":        {`namespaceObject.metadata.labels.env == "prod" && namespaceObject.metadata.annotations.a == "b"`, "values: {namespaces: [{metadata: {name: default, labels: {env: prod}, annotations: {a: b}}}]}"},
		"namespaceSelector": {`namespaceObject.metadata.labels.env == "prod"`, "variables: values.yaml"},
		"the time":          {`time.now() == timestamp("2026-01-02T03:04:05Z")`, ""},
		"chance":            {`random("[a]{3}") == "aaa"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			secret := "{apiVersion: v1, kind: Secret, metadata: {name: b, namespace: a}, data: {x: z}}"
			got := cel.with(
				"policies/team.yaml", policy(c.expression),
				"t/context.yaml", "kind: Context\nspec: {resources: ["+secret+"], images: [{image: nginx, tag: '1'}]}\n",
				"t/cluster.yaml", "kind: ClusterResource\nspec: {resources: ["+secret+"]}\n",
				"t/user.yaml", "kind: UserInfo\nuserInfo: {username: ada}\n",
				"t/values.yaml", "kind: Values\nnamespaceSelector: [{name: default, labels: {env: prod}}]\n",
				"t/kyverno-test.yaml", testFile(c.fields+"\nresults: [{policy: team, result: pass, resources: [good]}]\n"),
			).run(t)
			if got != "ConfigMap default/good: pass, want pass: passed" {
				t.Error(got)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	f := cel.with("t/e.yaml", "apiVersion: policies.kyverno.io/v1\nkind: PolicyException\nmetadata: {name: e}\nspec: {policyRefs: [{name: team, kind: ValidatingPolicy}]}\n",
		"t/kyverno-test.yaml", testFile("exceptions: [e.yaml]\nresults: [{policy: team, result: skip, resources: [bad]}]\n"))
	if got := f.run(t); got != "ConfigMap shop/bad: skip, want skip: passed" {
		t.Error(got)
	}
}

const mutating = `
apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata: {name: team}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{data: Object.data{size: "5"}}'}}]
`

func TestMutating(t *testing.T) {
	patched := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, labels: {team: a}}\ndata: {size: '5'}\n"
	f := cel.with("policies/team.yaml", mutating, "t/patched.yaml", patched, "t/wrong.yaml", strings.Replace(patched, "'5'", "'6'", 1))
	for file, want := range map[string]string{
		"patched.yaml": "ConfigMap default/good: pass, want pass: passed",
		"wrong.yaml":   "ConfigMap default/good: pass, want pass: failed: ConfigMap default/good differs from wrong.yaml: at data.size",
		"none.yaml":    "ConfigMap default/good: pass, want pass: failed: reading what is expected: t/none.yaml: file does not exist",
	} {
		got := f.with("t/kyverno-test.yaml", results("- {policy: team, result: pass, patchedResources: "+file+", resources: [good]}")).run(t)
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for fields, want := range map[string]string{
		"":                               "ConfigMap shop/bad: , want pass: skipped: what is to be compared is not in the file that the result names",
		", failOnMissingResources: true": "ConfigMap shop/bad: pass, want pass: failed: ConfigMap shop/bad is not in patched.yaml",
	} {
		got := f.with("t/kyverno-test.yaml", results("- {policy: team, result: pass, patchedResources: patched.yaml, resources: [bad]"+fields+"}")).run(t)
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// TestInOrder runs a policy that changes objects before one that judges them.
func TestInOrder(t *testing.T) {
	f := cel.with("policies/team.yaml", strings.Replace(mutating, "name: team", "name: change", 1)+"---"+
		strings.Replace(cel["policies/team.yaml"], "has(object.metadata.labels) && has(object.metadata.labels.team)", "object.data.size == '5'", 1),
		"t/kyverno-test.yaml", results("- {policy: team, result: pass, resources: [good, bad]}"))
	if got := f.run(t); strings.Count(got, ": passed") != 2 {
		t.Error(got)
	}
}

func TestTargets(t *testing.T) {
	f := cel.with("policies/team.yaml", `
apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata: {name: team}
spec:
  evaluation: {mutateExisting: {enabled: true}, admission: {enabled: false}}
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  targetMatchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{metadata: Object.metadata{labels: Object.metadata.labels{by: "team"}}}'}}]
`, "t/target.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}\n",
		"t/resources.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, namespace: shop}\n",
		"t/patched.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop, labels: {by: team}}\n",
		"t/kyverno-test.yaml", testFile("targetResources: [target.yaml]\nresults: [{policy: team, result: pass, patchedResources: patched.yaml, resources: [shop/keys]}]\n"))
	if got := f.run(t); got != "Secret shop/keys: pass, want pass: passed" {
		t.Error(got)
	}
}

func TestGenerating(t *testing.T) {
	f := cel.with("policies/team.yaml", `
apiVersion: policies.kyverno.io/v1
kind: GeneratingPolicy
metadata: {name: team}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  generate:
  - template: {interpolate: cel, value: '{apiVersion: v1, kind: Secret, metadata: {name: (( object.metadata.name )), namespace: a}}'}
  - template: {value: '{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {ports: [{port: 80}]}}'}
`, "t/secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: good, namespace: a, labels: {app.kubernetes.io/managed-by: kyverno}}}",
		"t/service.yaml", "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {ports: [{port: 80}]}}")
	for files, want := range map[string]string{
		"[secret.yaml, service.yaml]": "ConfigMap default/good: pass, want pass: passed\nConfigMap default/good: pass, want pass: passed",
		"[secret.yaml]":               "ConfigMap default/good: pass, want pass: passed\nConfigMap default/good: pass, want pass: failed: Service a/s is not in secret.yaml",
	} {
		got := f.with("t/kyverno-test.yaml", results("- {policy: team, result: pass, generatedResources: "+files+", resources: [good]}")).run(t)
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestPayloads(t *testing.T) {
	f := cel.with("policies/team.yaml", "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: team}\nspec:\n  evaluation: {mode: JSON}\n  validations: [{expression: object.user != 'root'}]\n",
		"t/a.json", `{"user": "app"}`, "t/b.json", `{"user": "root"}`,
		"t/kyverno-test.yaml", strings.Replace(testFile("jsonPayloads: [a.json, ./b.json]\nresults: [{policy: team, result: pass, resources: [a.json]}, {policy: team, result: fail, resources: [b.json]}]\n"), "resources: [resources.yaml]\n", "", 1))
	if got := f.run(t); strings.Count(got, ": passed") != 2 {
		t.Error(got)
	}
}

// TestKyverno runs policies of kyverno.io: rules have names, and pods' rules are
// generated for their controllers.
func TestKyverno(t *testing.T) {
	f := cel.with("policies/team.yaml", `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: team}
spec:
  rules:
  - name: image
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate: {message: no latest, pattern: {spec: {containers: [{image: '!*:latest'}]}}}
  - name: size
    match: {any: [{resources: {kinds: [ConfigMap]}}]}
    validate: {message: wrong, deny: {conditions: {all: [{key: '{{ limits.data.max }}', operator: NotEquals, value: '{{ request.object.data.size }}'}]}}}
    context: [{name: limits, configMap: {name: limits, namespace: a}}]
`, "t/resources.yaml", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: a, image: 'a:latest'}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: five}
data: {size: '5'}
`, "t/values.yaml", "policies: [{name: team, rules: [{name: size, values: {limits.data.max: '5'}}]}]\n",
		"t/kyverno-test.yaml", testFile(`variables: values.yaml
results:
- {policy: team, rule: image, result: fail, resources: [web]}
- {policy: team, rule: size, result: pass, resources: [five]}
- {policy: team, rule: none, result: fail, resources: [five]}
`))
	want := "Deployment default/web: fail, want fail: passed\nConfigMap default/five: pass, want pass: passed\nConfigMap default/five: excluded, want fail: passed"
	if got := f.run(t); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// FuzzRun reads tests that nobody meant well.
func FuzzRun(f *testing.F) {
	f.Add(results(`- {policy: team, result: pass, resources: [good]}`))
	f.Add(testFile("values: {globalValues: {a: 1}, policies: [{name: team}]}\nresults: [{policy: team, patchedResources: resources.yaml}]\n"))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Run(t.Context(), "t/kyverno-test.yaml", cel.with("t/kyverno-test.yaml", text).options())
		if (r == nil) == (err == nil) {
			t.Error(r, err)
		}
	})
}
