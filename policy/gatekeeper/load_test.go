// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
)

// TestProblems holds what is refused, and where it says that it is.
func TestProblems(t *testing.T) {
	doubling := "violation[{\"msg\": msg}] {\nx0 := [input]\n"
	for i := range 34 {
		doubling += fmt.Sprintf("x%d := [x%d, x%d]\n", i+1, i, i)
	}
	doubling += "msg := json.marshal(x34)\n}"
	for _, test := range []struct{ name, text, want string }{
		{"Rego that does not parse", template("Broken", "violation[{\"msg\": \"x\"}] {\ntrue\n}}"), "policies.yaml:12: the Rego of ConstraintTemplate broken: unexpected } token"},
		{"Rego that does not compile", template("Broken", "violation[{\"msg\": x}] {\ntrue\n}"), "policies.yaml:10: the Rego of ConstraintTemplate broken: var x is unsafe"},
		{"Rego that calls itself", template("Broken", "violation[{\"msg\": \"x\"}] { f(1) }\nf(x) { f(x) }"), "policies.yaml:11: the Rego of ConstraintTemplate broken: rule data.template.f is recursive: data.template.f -> data.template.f"},
		{"a guarded function with a wrong type", template("Broken", "violation[{\"msg\": x}] { x := replace(1, 2, 3) }"), "policies.yaml:10: the Rego of ConstraintTemplate broken: replace: invalid argument(s)"},
		{"values that double with every line", template("Broken", doubling), "policies.yaml:30: the Rego of ConstraintTemplate broken: a value is made of more than 1000000 values once it is written out: variables stand for others that hold them several times"},
		{"no violations", template("Broken", "deny[\"x\"] { true }"), "policies.yaml:9: the Rego of ConstraintTemplate broken: there is no rule violation"},
		{"data that is not the inventory", template("Broken", "violation[{\"msg\": \"x\"}] { data.other.x }"), "policies.yaml:10: the Rego of ConstraintTemplate broken: data.other.x: of data, only data.inventory and data.lib can be read"},
		{"an import that is no library", template("Broken", "import data.other\nviolation[{\"msg\": \"x\"}] { true }"), "policies.yaml:10: the Rego of ConstraintTemplate broken: import data.other: only libraries of the template, below data.lib, can be imported"},
		{"a library elsewhere", template("Broken", "violation[{\"msg\": \"x\"}] { true }") + "      libs: ['package other']", "policies.yaml:11: the Rego of ConstraintTemplate broken: the package of a library is other; want one below lib"},
		{"no kind", "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: x}", "policies.yaml:1: ConstraintTemplate x names no kind for its constraints; set spec.crd.spec.names.kind"},
		{"another name", strings.Replace(template("Broken", anything), "name: broken", "name: other", 1), `policies.yaml:3: the ConstraintTemplate is named "other"; want the kind of its constraints in lower case, "broken"`},
		{"a version that there is not", strings.Replace(template("Broken", anything), "v1beta1", "v9", 1), `policies.yaml:1: ConstraintTemplate broken: there is no version "v9" of templates.gatekeeper.sh; want v1, v1beta1 or v1alpha1`},
		{"another target", strings.Replace(template("Broken", anything), "admission.k8s", "other", 1), `policies.yaml:7: ConstraintTemplate broken has the target "other.gatekeeper.sh"; want "admission.k8s.gatekeeper.sh"`},
		{"no target", "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: x}\nspec: {crd: {spec: {names: {kind: X}}}, targets: []}", "policies.yaml:4: ConstraintTemplate x must have exactly one target in spec.targets"},
		{"no engine", "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: x}\nspec: {crd: {spec: {names: {kind: X}}}, targets: [{target: admission.k8s.gatekeeper.sh, code: [{engine: Lua}]}]}", "policies.yaml:4: ConstraintTemplate x has no code for an engine that can run it; want Rego or K8sNativeValidation"},
		{"too much Rego", template("Broken", "violation[{\"msg\": \"x\"}] { true } # "+strings.Repeat("x", 1<<20)), "policies.yaml:8: ConstraintTemplate broken has more than 1048576 bytes of Rego"},
		{"a constraint that does not fit", template("Good", anything) + constraint("Good", "{match: {kinds: 7}}"), "policies.yaml:15: constraint Good one: spec.match.kinds: Invalid value: \"integer\": spec.match.kinds in body must be of type array: \"integer\""},
		{"a selector that is none", template("Good", anything) + constraint("Good", "{match: {labelSelector: {matchExpressions: [{key: a, operator: Is}]}}}"), "policies.yaml:15: constraint Good one: spec.match.labelSelector: \"Is\" is not a valid label selector operator"},
		{"an action that there is not", template("Good", anything) + constraint("Good", "{enforcementAction: scold}"), "policies.yaml:15: constraint Good one has an action that there is not; want deny, warn, dryrun or scoped"},
		{"two templates", template("Good", anything) + "---\n" + template("Good", `violation[{"msg": "x"}] { true }`), "policies.yaml:12: there is another ConstraintTemplate for Good, at policies.yaml:1"},
		{"an expansion without a source", "apiVersion: expansion.gatekeeper.sh/v1beta1\nkind: ExpansionTemplate\nmetadata: {name: x}\nspec: {generatedGVK: {kind: Pod, version: v1}}", "policies.yaml:4: ExpansionTemplate x: spec.templateSource is not set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := gatekeeper.Load(parse(t, "policies.yaml", test.text), policy.Options{})
			var got []string
			for _, p := range set.Problems {
				got = append(got, fmt.Sprintf("%s:%d: %s", p.Position.File, p.Position.Line, strings.TrimSpace(strings.SplitN(p.Message, "\n", 2)[0])))
			}
			if got := strings.Join(got, "\n"); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestUnsupported holds that a constraint that cannot be run is unknown.
func TestUnsupported(t *testing.T) {
	for text, want := range map[string]string{
		constraint("Lost", "{match: {kinds: [{kinds: [Pod]}]}}"):     "there is no ConstraintTemplate for the kind Lost",
		template("Broken", "violation") + constraint("Broken", "{}"): "its ConstraintTemplate broken is not valid",
	} {
		set := gatekeeper.Load(parse(t, "policies.yaml", strings.TrimPrefix(text, "---\n")), policy.Options{})
		if len(set.Rules) != 1 || set.Rules[0].Info().Unsupported != want {
			t.Fatalf("want a rule that is not supported: %s", want)
		}
		got := say(set.Rules[0].Judge(t.Context(), &policy.Request{Object: parse(t, "object.yaml", pod)[0]}))
		if got != "unknown | "+want {
			t.Errorf("got %s, want %s", got, want)
		}
		service := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
		if set.Rules[0].Matches(object.GroupKind{Kind: "Service"}) != (len(set.Problems) > 0) {
			t.Errorf("a rule about pods matches %s", service)
		}
	}
}

// TestSchema holds which parameters templates let pass, and their defaults.
func TestSchema(t *testing.T) {
	const text = `apiVersion: templates.gatekeeper.sh/%s
kind: ConstraintTemplate
metadata: {name: shaped}
spec:
  crd: {spec: {names: {kind: Shaped}%s}}
  targets: [{target: admission.k8s.gatekeeper.sh, rego: "package p\nviolation[{\"msg\": m}] { m := sprintf(\"%%v\", [input.parameters]) }"}]
`
	const props = ", validation: {%sopenAPIV3Schema: {type: object, properties: {size: {type: integer, default: 3}}}}"
	for _, test := range []struct{ version, validation, parameters, want string }{
		{"v1", "", "{}", `{}`},
		{"v1", "", "{parameters: {more: 1}}", "refused"},
		{"v1beta1", "", "{parameters: {more: 1}}", `{"more": 1}`},
		{"v1", fmt.Sprintf(props, ""), "{parameters: {}}", `{"size": 3}`},
		{"v1", fmt.Sprintf(props, ""), "{parameters: {size: 4}}", `{"size": 4}`},
		{"v1", fmt.Sprintf(props, ""), "{parameters: {size: x}}", "does not fit"},
		{"v1", fmt.Sprintf(props, ""), "{parameters: {size: 4, more: 1}}", "refused"},
		{"v1", fmt.Sprintf(props, "legacySchema: true, "), "{parameters: {size: 4, more: 1}}", `{"more": 1, "size": 4}`},
		{"v1beta1", fmt.Sprintf(props, ""), "{parameters: {size: 4, more: 1}}", `{"more": 1, "size": 4}`},
		{"v1beta1", fmt.Sprintf(props, "legacySchema: false, "), "{parameters: {size: 4, more: 1}}", "refused"},
	} {
		tmpl, err := gatekeeper.ParseTemplate(parse(t, "t.yaml", fmt.Sprintf(text, test.version, test.validation))[0], gatekeeper.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := "refused"
		c, err := tmpl.Constraint(parse(t, "c.yaml", strings.TrimPrefix(constraint("Shaped", test.parameters), "---\n"))[0])
		var schema *gatekeeper.SchemaError
		switch {
		case errors.As(err, &schema):
			got = "does not fit"
		case err == nil:
			found, _, _ := c.Review(t.Context(), gatekeeper.NewReview(&policy.Request{Object: parse(t, "pod.yaml", pod)[0]}, true))
			got = found[0].Message
		}
		if got != test.want {
			t.Errorf("%s%s, %s: got %s, want %s", test.version, test.validation, test.parameters, got, test.want)
		}
	}
}

const expansions = `apiVersion: expansion.gatekeeper.sh/v1beta1
kind: ExpansionTemplate
metadata: {name: workloads}
spec:
  applyTo: [{groups: [apps], kinds: [Deployment], versions: [v1]}, {groups: [batch], kinds: [Job], versions: [v1]}]
  templateSource: spec.template
  generatedGVK: {group: "", version: v1, kind: Pod}
---
apiVersion: expansion.gatekeeper.sh/v1beta1
kind: ExpansionTemplate
metadata: {name: crons}
spec:
  applyTo: [{groups: [batch], kinds: [CronJob], versions: [v1]}]
  templateSource: spec.jobTemplate
  enforcementAction: warn
  generatedGVK: {group: batch, version: v1, kind: Job}
---
`

// TestExpansion holds that what an object generates is judged, and found in the
// lines of the object.
func TestExpansion(t *testing.T) {
	rego := `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; m := input.review.object.metadata; msg := sprintf("%v of %v in %v, made by %v", [c.name, m.name, m.namespace, m.ownerReferences[0].name]) }`
	text := expansions + template("Named", rego) + constraint("Named", "{match: {kinds: [{kinds: [Pod]}]}}")
	deployment := `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      containers:
        - {name: server}
`
	cron := `apiVersion: batch/v1
kind: CronJob
metadata: {name: night, namespace: shop}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          containers:
            - {name: sweep}
`
	rules := load(t, text)
	if len(rules) != 2 || rules[1].Info().Name != "gatekeeper.named.one.generated.warn" || rules[1].Info().Action != "warn" {
		t.Fatalf("want a rule for what is denied and one for what is warned of, got %d", len(rules))
	}
	for _, test := range []struct {
		object string
		rule   int
		want   string
		line   int
	}{
		{deployment, 0, "fail | spec.template.spec.containers[server]: [Implied by workloads] server of web-pod in shop, made by web", 8},
		{cron, 0, "fail | spec.jobTemplate.spec.template.spec.containers[sweep]: [Implied by workloads] sweep of night-job-pod in shop, made by night-job", 10},
		{cron, 1, "not about it", 0},
		{pod, 1, "not about it", 0},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n", 0, "not about it", 0},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {}\n", 0, "unknown | expanding Deployment.apps shop/web by ExpansionTemplate workloads: there is no map at spec.template", 0},
	} {
		o := parse(t, "object.yaml", test.object)[0]
		v, applies := rules[test.rule].Judge(t.Context(), &policy.Request{Object: o})
		if got := say(v, applies); got != test.want {
			t.Errorf("\ngot  %s\nwant %s", got, test.want)
		}
		if applies && !rules[test.rule].Matches(o.GroupKind()) {
			t.Errorf("the rule judges a %s and does not match it", o.Kind)
		}
		if test.line > 0 {
			if p := o.Position(v.Findings[0].Path); p.Line != test.line {
				t.Errorf("%s is at line %d; want %d", v.Findings[0].Path, p.Line, test.line)
			}
		}
	}
	jobs := strings.Replace(text, "kinds: [{kinds: [Pod]}]", "kinds: [{kinds: [Job]}], source: Generated", 1)
	jobs = strings.Replace(jobs, "spec.containers", "spec.template.spec.containers", 1)
	want := "fail | spec.jobTemplate.spec.template.spec.containers[sweep]: [Implied by crons] sweep of night-job in shop, made by night"
	if got := say(load(t, jobs)[1].Judge(t.Context(), &policy.Request{Object: parse(t, "object.yaml", cron)[0]})); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func TestCycle(t *testing.T) {
	text := strings.Replace(expansions, "kind: Job}", "kind: CronJob2}", 1) + `apiVersion: expansion.gatekeeper.sh/v1beta1
kind: ExpansionTemplate
metadata: {name: back}
spec:
  applyTo: [{groups: [batch], kinds: [CronJob2], versions: [v1]}]
  templateSource: spec
  generatedGVK: {group: batch, version: v1, kind: CronJob}
`
	set := gatekeeper.Load(parse(t, "policies.yaml", text), policy.Options{})
	if len(set.Problems) != 2 {
		t.Errorf("two expansions lead to each other, and there are %d problems", len(set.Problems))
	}
}

// FuzzLoad reads what policies it is given, and judges with them: neither ends
// in a panic, and both end.
func FuzzLoad(f *testing.F) {
	f.Add(read(f, "testdata/labels-rego.yaml"))
	f.Add(read(f, "testdata/labels-cel.yaml"))
	f.Add(expansions + template("Named", anything) + constraint("Named", "{}"))
	f.Add(template("Known", `violation[{"msg": "x"}] { data.inventory.namespace[_][_].Pod[_] }`) + constraint("Known", "{enforcementAction: scoped, scopedEnforcementActions: [1]}"))
	f.Add(read(f, "testdata/mutators.yaml"))
	f.Fuzz(func(t *testing.T, text string) {
		var docs []*object.Object
		for part := range object.Split([]byte(text)) {
			root, err := object.ParseYAML(part)
			if err != nil {
				return
			}
			objects, _ := object.FromNode(root, &object.Origin{Source: "fuzz.yaml", Text: part.Bytes, FirstLine: part.Line})
			docs = append(docs, objects...)
		}
		set := gatekeeper.Load(docs, policy.Options{Timeout: 100 * time.Millisecond})
		for _, o := range append(docs, parse(t, "pod.yaml", pod)...) {
			r := &policy.Request{Object: o, Cluster: &cluster{objects: docs}}
			for _, rule := range set.Rules {
				rule.Judge(t.Context(), r)
			}
			for _, m := range set.Mutators {
				m.Mutate(t.Context(), r)
			}
		}
	})
}
