// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// parse returns the objects of a YAML text.
func parse(t testing.TB, text string) []*object.Object {
	t.Helper()
	var out []*object.Object
	for doc := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: doc.Bytes, FirstLine: doc.Line})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// load returns the rules of policies that must be without problems.
func load(t testing.TB, text string) *policy.Set {
	t.Helper()
	set := Load(parse(t, text), policy.Options{})
	for _, p := range set.Problems {
		t.Errorf("%s: line %d: %s", p.Object, p.Position.Line, p.Message)
	}
	return set
}

// told is a cluster of which some kinds are known as a whole.
type told struct {
	objects []*object.Object
	all     bool
}

func (c told) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	return slices.DeleteFunc(slices.Clone(c.objects), func(o *object.Object) bool {
		return o.GroupKind() != gk || namespace != "" && o.Namespace != namespace
	}), c.all
}

func (c told) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for _, o := range c.objects {
		if policy.Covers(of, o.GroupKind()) {
			out = append(out, o.GroupKind())
		}
	}
	return out, c.all
}

func (c told) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}

// judge runs the only rule of a set.
func judge(t testing.TB, set *policy.Set, r *policy.Request) (control.Verdict, bool) {
	t.Helper()
	if len(set.Rules) != 1 {
		t.Fatalf("%d rules; want 1", len(set.Rules))
	}
	if !set.Rules[0].Matches(r.Subject().GroupKind()) {
		return control.Verdict{}, false
	}
	return set.Rules[0].Judge(t.Context(), r)
}

// outcome is what a rule says of an object: pass, fail, unknown, or nothing.
func outcome(t testing.TB, set *policy.Set, r *policy.Request) string {
	t.Helper()
	v, applies := judge(t, set, r)
	if !applies {
		return "nothing"
	}
	return string(v.Outcome)
}

const podsPolicy = `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata:
  name: no-latest
  annotations:
    policies.kyverno.io/title: Images have a tag
    policies.kyverno.io/severity: high
    policies.kyverno.io/category: Supply chain
spec:
  validationActions: [Deny]
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}
  variables:
  - {name: containers, expression: object.spec.containers}
  validations:
  - expression: variables.containers.all(c, !c.image.endsWith(':latest'))
    messageExpression: "'latest is not allowed in ' + request.name"
`

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
  - {name: app, image: 'app:1.2'}
  - {name: sidecar, image: 'proxy:latest'}
`

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      containers:
      - {name: app, image: 'app:latest'}
`

const cronJob = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: web, namespace: shop}
spec:
  jobTemplate: {spec: {template: {spec: {containers: [{name: app, image: 'app:latest'}]}}}}
`

func TestInfo(t *testing.T) {
	set := load(t, podsPolicy)
	got := set.Rules[0].Info()
	want := &policy.Info{
		Name: "kyverno.no-latest", Language: policy.Kyverno, Title: "Images have a tag", Topic: "Supply chain",
		Policy:   object.Ref{APIVersion: "policies.kyverno.io/v1", Kind: "ValidatingPolicy", Name: "no-latest"},
		Severity: v1alpha1.High, Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailClosed, Position: got.Position,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Position.File != "test.yaml" || got.Position.Line != 2 {
		t.Errorf("position %+v", got.Position)
	}
}

func TestPath(t *testing.T) {
	set := load(t, podsPolicy)
	for text, want := range map[string]string{
		pod:        "spec.containers[sidecar].image",
		deployment: "spec.template.spec.containers[app].image",
		cronJob:    "spec.jobTemplate.spec.template.spec.containers[app].image",
	} {
		v, _ := judge(t, set, &policy.Request{Object: parse(t, text)[0]})
		if v.Outcome != verdict.Fail || v.Findings[0].Path.String() != want || v.Findings[0].Message != "latest is not allowed in web" {
			t.Errorf("%+v; want a failure at %s", v, want)
		}
	}
}

func TestMatchesKinds(t *testing.T) {
	r := load(t, podsPolicy).Rules[0]
	for gk, want := range map[object.GroupKind]bool{
		{Kind: "Pod"}: true, {Group: "apps", Kind: "Deployment"}: true, {Group: "batch", Kind: "CronJob"}: true,
		{Kind: "Service"}: false, {Group: "extensions", Kind: "Deployment"}: false,
	} {
		if got := r.Matches(gk); got != want {
			t.Errorf("%v: %v", gk, got)
		}
	}
}

func TestAutogenControllers(t *testing.T) {
	only := func(names string) *policy.Set {
		return load(t, podsPolicy+"  autogen: {podControllers: {controllers: ["+names+"]}}\n")
	}
	req := func(text string) *policy.Request { return &policy.Request{Object: parse(t, text)[0]} }
	for _, c := range []struct{ names, object, want string }{
		{"", deployment, "nothing"},
		{"", pod, "fail"},
		{"cronjobs", deployment, "nothing"},
		{"cronjobs", cronJob, "fail"},
		{"deployments", deployment, "fail"},
	} {
		if got := outcome(t, only(c.names), req(c.object)); got != c.want {
			t.Errorf("controllers [%s]: %s; want %s\n%s", c.names, got, c.want, c.object)
		}
	}
}

func TestAutogenOfOthers(t *testing.T) {
	set := load(t, podsPolicy+"  autogen: {podControllers: {controllers: [jobsets.v1alpha2.jobset.x-k8s.io]}}\n")
	v, _ := judge(t, set, &policy.Request{Object: parse(t, `
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: train}
spec:
  replicatedJobs:
  - name: a
    template: {spec: {template: {spec: {containers: [{name: w, image: 'w:1'}]}}}}
  - name: b
    template: {spec: {template: {spec: {containers: [{name: w, image: 'w:latest'}]}}}}
`)[0]})
	if v.Outcome != verdict.Fail || v.Findings[0].Path.String() != "spec.replicatedJobs[b].template.spec.template.spec.containers[w].image" {
		t.Errorf("%+v", v)
	}
}

func validating(spec string) string {
	return `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: p}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: ["*"], resources: [configmaps]}
` + spec
}

const configMap = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop, labels: {team: a}}
data: {size: "5"}
`

// TestValidating runs expressions over one object, with nothing known beside.
func TestValidating(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"passes":                        {"  validations: [{expression: object.data.size == '5'}]", "pass"},
		"fails":                         {"  validations: [{expression: object.data.size == '6'}]", "fail"},
		"an error is unknown":           {"  validations: [{expression: object.data.none == '6'}]", "unknown"},
		"condition":                     {"  matchConditions: [{name: a, expression: object.metadata.name == 'other'}]\n  validations: [{expression: 'false'}]", "nothing"},
		"condition fails":               {"  matchConditions: [{name: a, expression: object.data.none == 'x'}]\n  validations: [{expression: 'false'}]", "unknown"},
		"condition ignored":             {"  failurePolicy: Ignore\n  matchConditions: [{name: a, expression: object.data.none == 'x'}]\n  validations: [{expression: 'false'}]", "nothing"},
		"false decides":                 {"  matchConditions: [{name: a, expression: object.data.none == 'x'}, {name: b, expression: 'false'}]\n  validations: [{expression: 'false'}]", "nothing"},
		"who asks":                      {"  validations: [{expression: request.userInfo.username == 'x'}]", "unknown"},
		"that nobody asks":              {"  validations: [{expression: '!has(request.userInfo.username)'}]", "unknown"},
		"who asks, in a variable":       {"  variables: [{name: u, expression: request.userInfo.username}]\n  validations: [{expression: variables.u == 'x'}]", "unknown"},
		"the namespace":                 {"  validations: [{expression: namespaceObject.metadata.name == 'shop'}]", "unknown"},
		"a lookup":                      {`  validations: [{expression: 'dyn(resource.Get("v1", "configmaps", "shop", "other")) == null'}]`, "unknown"},
		"a lookup that does not decide": {`  validations: [{expression: 'object.data.size == "5" || dyn(resource.Get("v1", "configmaps", "shop", "other")) == null'}]`, "pass"},
		"a list":                        {`  validations: [{expression: 'resource.List("v1", "configmaps", "shop").items.size() == 0'}]`, "unknown"},
		"an address":                    {`  validations: [{expression: 'http.Get("https://example.com").ok == true'}]`, "unknown"},
		"an image":                      {`  validations: [{expression: 'image.GetMetadata("nginx").config == null'}]`, "unknown"},
		"global context":                {`  validations: [{expression: 'globalContext.Get("a", "b") == null'}]`, "unknown"},
		"creating an object":            {`  validations: [{expression: 'dyn(resource.Post("authorization.k8s.io/v1", "subjectaccessreviews", {"kind": dyn("x")})) == null'}]`, "unknown"},
		"the time":                      {`  validations: [{expression: 'time.now() > timestamp("2020-01-01T00:00:00Z")'}]`, "unknown"},
		"chance":                        {`  validations: [{expression: 'random() != ""'}]`, "unknown"},
		"audit annotation":              {"  auditAnnotations: [{key: a, valueExpression: string(object.data.none)}]\n  validations: [{expression: 'true'}]", "unknown"},
		"request":                       {"  validations: [{expression: request.operation == 'CREATE' && request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps' && request.name == 'settings' && request.namespace == 'shop' && request.object.data.size == '5'}]", "pass"},
		"nothing was there":             {"  validations: [{expression: '!has(oldObject.metadata)'}]", "pass"},
		"images are read":               {`  validations: [{expression: 'image("ghcr.io/a/b:1").registry() == "ghcr.io"'}]`, "pass"},
		"JSON, YAML":                    {`  validations: [{expression: 'json.unmarshal("{\"a\":1}").a == yaml.parse("a: 1").a'}]`, "pass"},
		"packed":                        {`  validations: [{expression: 'gzip.decompress(gzip.compress("x")) == "x"'}]`, "pass"},
		"orValue of a value":            {`  validations: [{expression: 'object.data.size.orValue("x") == "5"'}]`, "pass"},
		"object selector":               {"    objectSelector: {matchLabels: {team: b}}\n  validations: [{expression: 'false'}]", "nothing"},
		"namespace selector":            {"    namespaceSelector: {matchLabels: {env: prod}}\n  validations: [{expression: 'false'}]", "unknown"},
		"excluded":                      {"    excludeResourceRules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*'], resourceNames: [settings]}]\n  validations: [{expression: 'false'}]", "nothing"},
		"costs too much":                {"  validations: [{expression: '[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f >= 0))))))'}]", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, validating(c.spec))
			if v, applies := judge(t, set, &policy.Request{Object: parse(t, configMap)[0]}); outcome(t, set, &policy.Request{Object: parse(t, configMap)[0]}) != c.want {
				t.Errorf("%v, %v; want %s", v, applies, c.want)
			}
		})
	}
}

// TestKnown runs expressions where the cluster, who asks and the time are known.
func TestKnown(t *testing.T) {
	cluster := told{all: true, objects: parse(t, configMap+`
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {env: prod}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
`)}
	for expression, want := range map[string]string{
		`resource.Get("v1", "configmaps", "shop", "settings").data.size == "5"`:                              "pass",
		`dyn(resource.Get("v1", "configmaps", "shop", "other")) == null`:                                     "pass",
		`dyn(resource.Get("v1", "secrets", "shop", "other")) == null`:                                        "pass",
		`resource.List("v1", "configmaps", "").items.size() == 1`:                                            "pass",
		`resource.List("v1", "configmaps", "shop", {"team": "b"}).items.size() == 0`:                         "pass",
		`resource.List("gateway.networking.k8s.io/v1", "gateways", "shop").items[0].metadata.name == "edge"`: "pass",
		`resource.Get(resource.ToGVR("v1", "ConfigMap"), "shop", "settings").data.size == "5"`:               "pass",
		`namespaceObject.metadata.labels.env == "prod"`:                                                      "pass",
		`request.userInfo.username == "ada" && request.userInfo.groups.exists(g, g == "dev")`:                "pass",
		`parseServiceAccount(request.userInfo.username).Name == ""`:                                          "pass",
		`time.now() == timestamp("2026-01-02T03:04:05Z") && time.toCron(time.now()) == "4 3 2 1 5"`:          "pass",
		`globalContext.Get("a", "") == null`:                                                                 "unknown",
	} {
		set := load(t, validating("  validations:\n  - expression: '"+expression+"'\n"))
		r := &policy.Request{
			Object: parse(t, configMap)[0], Cluster: cluster, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			User: &authenticationv1.UserInfo{Username: "ada", Groups: []string{"dev"}},
		}
		if v, _ := judge(t, set, r); string(v.Outcome) != want {
			t.Errorf("%s: %+v; want %s", expression, v, want)
		}
	}
}

func TestNamespaceSelector(t *testing.T) {
	set := load(t, validating("    namespaceSelector: {matchLabels: {env: prod}}\n  validations: [{expression: 'false'}]"))
	for env, want := range map[string]string{"prod": "fail", "test": "nothing"} {
		namespace := parse(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: "+env+"}}\n")
		if got := outcome(t, set, &policy.Request{Object: parse(t, configMap)[0], Cluster: told{objects: namespace}}); got != want {
			t.Errorf("%s: %s; want %s", env, got, want)
		}
	}
}

func TestDelete(t *testing.T) {
	set := load(t, validating("  validations: [{expression: 'request.operation == \"DELETE\" && oldObject.data.size == \"5\" && !has(object.data)'}]"))
	if got := outcome(t, set, &policy.Request{Old: parse(t, configMap)[0], Operation: policy.Delete}); got != "pass" {
		t.Error(got)
	}
}

func TestTemplated(t *testing.T) {
	set := load(t, validating("  validations: [{expression: 'true'}]"))
	o := parse(t, configMap)[0]
	root := *o.Root
	root.Fields = append(slices.Clone(root.Fields), object.Field{Key: "binaryData", Value: object.NewUnknown("a template")})
	if v, _ := judge(t, set, &policy.Request{Object: object.New(&root, o.Origin)}); v.Outcome != verdict.Unknown || v.Findings[0].Message != "a template" {
		t.Errorf("%+v", v)
	}
}

func TestNamespaced(t *testing.T) {
	set := load(t, strings.Replace(strings.Replace(validating("  validations: [{expression: 'false'}]"), "ValidatingPolicy", "NamespacedValidatingPolicy", 1), "{name: p}", "{name: p, namespace: other}", 1))
	if got := outcome(t, set, &policy.Request{Object: parse(t, configMap)[0]}); got != "nothing" {
		t.Errorf("in another namespace: %s", got)
	}
	moved := parse(t, strings.Replace(configMap, "shop", "other", 1))[0]
	if got := outcome(t, set, &policy.Request{Object: moved}); got != "fail" {
		t.Errorf("in its own namespace: %s", got)
	}
	if name := set.Rules[0].Info().Name; name != "kyverno.other.p" {
		t.Error(name)
	}
}

func TestExceptions(t *testing.T) {
	exception := func(spec string) string {
		return `
---
apiVersion: policies.kyverno.io/v1
kind: PolicyException
metadata: {name: e, namespace: shop}
spec:
  policyRefs: [{name: p, kind: ValidatingPolicy}]
` + spec
	}
	fails := validating("  validations: [{expression: 'object.data.size in exceptions.allowedValues'}]")
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		text, want string
		now        time.Time
	}{
		"none":              {fails, "fail", now},
		"whole":             {fails + exception("  matchConditions: [{name: a, expression: object.metadata.name == 'settings'}]"), "nothing", now},
		"of another":        {fails + exception("  matchConditions: [{name: a, expression: object.metadata.name == 'x'}]"), "fail", now},
		"reported as pass":  {fails + exception("  reportResult: pass"), "pass", now},
		"of a value":        {fails + exception("  allowedValues: ['5']"), "pass", now},
		"of another value":  {fails + exception("  allowedValues: ['6']"), "fail", now},
		"over":              {fails + exception("  expiresAt: '2026-01-01T00:00:00Z'"), "fail", now},
		"not over":          {fails + exception("  expiresAt: '2026-02-01T00:00:00Z'"), "nothing", now},
		"who knows":         {fails + exception("  expiresAt: '2026-02-01T00:00:00Z'"), "unknown", time.Time{}},
		"of another policy": {fails + strings.Replace(exception(""), "name: p,", "name: q,", 1), "fail", now},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome(t, load(t, c.text), &policy.Request{Object: parse(t, configMap)[0], Now: c.now}); got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
		})
	}
}

func TestJSONMode(t *testing.T) {
	policies, problems := Read(parse(t, `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: p}
spec:
  evaluation: {mode: JSON}
  validations:
  - expression: object.stages.all(s, s.user != 'root')
`), policy.Options{})
	if len(policies) != 1 || len(problems) != 0 {
		t.Fatal(problems)
	}
	for user, want := range map[string]Status{"root": Fail, "app": Pass} {
		tree := object.FromAny(map[string]any{"stages": []any{map[string]any{"user": user}}})
		got, ok := policies[0].EvaluateJSON(t.Context(), tree, nil)
		if !ok || got.Status != want {
			t.Errorf("%s: %+v", user, got)
		}
	}
}

// TestProblems lists what is refused, with its words.
func TestProblems(t *testing.T) {
	for text, want := range map[string]string{
		validating("  validations: [{expression: 'object.'}]"):                                                      "spec.validations[0].expression: ",
		validating("  validations: [{expression: '1'}]"):                                                            "want bool",
		validating("  variables: [{name: a, expression: variables.b}]"):                                             "undefined field 'b'",
		validating("  rules: []"):                                                                                   `unknown field "rules"`,
		validating("  evaluation: {mode: Envoy}"):                                                                   "requests to a proxy",
		validating("    objectSelector: {matchExpressions: [{key: a, operator: Near}]}"):                            "objectSelector",
		"apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: p}\n":                         "has no spec",
		"apiVersion: policies.kyverno.io/v1\nkind: PolicyException\nmetadata: {name: p}\nspec: {}\n":                "names 0 policies",
		"apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: p}\nspec: {validations: 1}\n": "must be a list",
	} {
		set := Load(parse(t, text), policy.Options{})
		if len(set.Problems) == 0 || !strings.Contains(set.Problems[0].Message, want) {
			t.Errorf("%s\n%+v; want %q", text, set.Problems, want)
		}
	}
}
