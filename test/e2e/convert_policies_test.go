// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/translate"
	"sconce.dev/sconce/verdict"
)

// kyvernoRules are rules of ClusterPolicies, by the kind that they are about.
var kyvernoRules = [][2]string{
	{"Pod", `validate: {message: m, pattern: {metadata: {labels: {team: "?*"}}}}`},
	{"Pod", `validate: {message: m, pattern: {spec: {containers: [{image: "!*:latest & *:*"}]}}}`},
	{"Pod", `validate: {message: m, pattern: {spec: {containers: [{resources: {limits: {memory: "<=2Gi"}}}]}}}`},
	{"Pod", `validate: {message: m, pattern: {spec: {"=(hostNetwork)": false, "=(volumes)": [{"X(hostPath)": "null"}]}}}`},
	{"Pod", `validate: {message: m, pattern: {spec: {"^(containers)": [{name: main}]}}}`},
	{"Pod", `validate: {message: "{{ request.object.metadata.name }}", deny: {conditions: {all: [{key: "{{ request.object.spec.volumes[?hostPath] | length(@) }}", operator: GreaterThan, value: 0}]}}}`},
	{"Pod", `validate: {message: m, foreach: [{list: request.object.spec.containers, deny: {conditions: {all: [{key: livenessProbe, operator: AllNotIn, value: "{{ element.keys(@)[] }}"}]}}}]}`},
	{"Deployment", `validate: {message: m, pattern: {spec: {replicas: ">=2"}}}`},
	{"Pod", `validate: {cel: {expressions: [{expression: "object.spec.containers.all(c, !c.image.endsWith(':latest'))", message: m}]}}`},
	{"ConfigMap", `validate: {message: m, deny: {conditions: {any: [{key: "{{ request.object.data.mode || 'safe' }}", operator: AnyNotIn, value: [safe, strict]}]}}}`},
}

// regoRules are the code of templates, with the kind and the parameters of a
// constraint.
var regoRules = [][3]string{
	{"Pod", `{}`, `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; not contains(c.image, ":"); msg := sprintf("container <%v> has no tag", [c.name]) }`},
	{"Pod", `{repos: [example.com/]}`, `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; ok := [good | repo := input.parameters.repos[_]; good := startswith(c.image, repo)]; not any_true(ok); msg := "not ours" }
any_true(list) { list[_] == true }`},
	{"Pod", `{labels: [team, app]}`, `violation[{"msg": msg}] { given := {l | input.review.object.metadata.labels[l]}; missing := {l | l := input.parameters.labels[_]} - given; count(missing) > 0; msg := sprintf("labels are missing: %v", [missing]) }`},
	{"Pod", `{}`, `violation[{"msg": msg}] { input.review.object.spec.hostNetwork; msg := "host network" }`},
	{"Pod", `{}`, `violation[{"msg": "host path"}] { has(input.review.object.spec.volumes[_], "hostPath") }
has(o, k) { o[k] }`},
	{"Pod", `{max: 2Gi}`, `unit("Gi") = 1073741824 { true }
unit("Mi") = 1048576 { true }
size(q) = n { suffix := substring(q, count(q) - 2, -1); n := to_number(replace(q, suffix, "")) * unit(suffix) }
violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; size(c.resources.limits.memory) > size(input.parameters.max); msg := sprintf("%v has too much", [c.name]) }`},
	{"Deployment", `{ranges: [{min: 2, max: 5}]}`, `violation[{"msg": "replicas"}] { not fits(input.review.object.spec.replicas) }
fits(n) { r := input.parameters.ranges[_]; r.min <= n; r.max >= n }`},
	{"ConfigMap", `{modes: [safe, strict]}`, `default mode = "safe"
mode = m { m := lower(input.review.object.data.mode) }
violation[{"msg": msg}] { not allowed[mode]; msg := sprintf("mode %v", [mode]) }
allowed[m] { m := input.parameters.modes[_] }`},
	{"ConfigMap", `{}`, `violation[{"msg": msg}] { value := input.review.object.data[key]; regex.match("(?i)password", key); value != ""; msg := sprintf("%v is no place for %v", [input.review.object.metadata.name, key]) }`},
	{"Pod", `{}`, `containers[c] { c := input.review.object.spec.containers[_] }
containers[c] { c := input.review.object.spec.initContainers[_] }
violation[{"msg": msg}] { c := containers[_]; not c.securityContext.readOnlyRootFilesystem == true; msg := sprintf("%v writes", [c.name]) }`},
}

// sourcePolicies returns the policies in their own languages, by the names of
// their translations.
func sourcePolicies() map[string]string {
	out := map[string]string{}
	for i, r := range kyvernoRules {
		name := fmt.Sprintf("translated-kyverno-%d", i)
		out[name] = fmt.Sprintf("apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: %s, annotations: {pod-policies.kyverno.io/autogen-controllers: none}}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: r\n    match: {any: [{resources: {kinds: [%s]}}]}\n    %s\n", name, r[0], r[1])
	}
	for i, r := range regoRules {
		kind := fmt.Sprintf("Translated%d", i)
		group := map[string]string{"Deployment": "apps"}[r[0]]
		code := "      " + strings.ReplaceAll("package p\n"+r[2], "\n", "\n      ")
		out[strings.ToLower(kind)+"-c"] = fmt.Sprintf(`apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}, validation: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
%s
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: %s
metadata: {name: c}
spec: {match: {kinds: [{apiGroups: ["%s"], kinds: [%s]}]}, parameters: %s}
`, strings.ToLower(kind), kind, code, kind, group, r[0], r[1])
	}
	return out
}

// sourceObjects are what the policies are asked about.
var sourceObjects = []string{
	`{apiVersion: v1, kind: Pod, metadata: {name: plain}, spec: {containers: [{name: web, image: nginx}]}}`,
	`{apiVersion: v1, kind: Pod, metadata: {name: ours, labels: {team: a, app: b}}, spec: {containers: [{name: main, image: "example.com/web:1", resources: {limits: {memory: 1Gi}}, securityContext: {readOnlyRootFilesystem: true}, livenessProbe: {tcpSocket: {port: 80}}}]}}`,
	`{apiVersion: v1, kind: Pod, metadata: {name: large, labels: {team: a}}, spec: {containers: [{name: main, image: "example.com/web:latest", resources: {limits: {memory: 3Gi}}}, {name: side, image: "other/side:2"}]}}`,
	`{apiVersion: v1, kind: Pod, metadata: {name: host, labels: {app: ""}}, spec: {hostNetwork: true, volumes: [{name: v, hostPath: {path: /}}], containers: [{name: web, image: "nginx:1"}], initContainers: [{name: first, image: "busybox:1"}]}}`,
	`{apiVersion: v1, kind: Pod, metadata: {name: small}, spec: {volumes: [{name: v, emptyDir: {}}], containers: [{name: web, image: "example.com/a:1", resources: {limits: {memory: 500Mi}}}]}}`,
	`{apiVersion: apps/v1, kind: Deployment, metadata: {name: one}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: nginx}]}}}}`,
	`{apiVersion: apps/v1, kind: Deployment, metadata: {name: three}, spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: nginx}]}}}}`,
	`{apiVersion: v1, kind: ConfigMap, metadata: {name: empty}}`,
	`{apiVersion: v1, kind: ConfigMap, metadata: {name: strict}, data: {mode: strict, dbPassword: ""}}`,
	`{apiVersion: v1, kind: ConfigMap, metadata: {name: open}, data: {mode: Open, PASSWORD: x}}`,
}

// sourcesOf reads a policy.
func sourcesOf(t *testing.T, manifest string) []*object.Object {
	t.Helper()
	var out []*object.Object
	for _, u := range documents(t, manifest) {
		out = append(out, objectOf(t, u))
	}
	return out
}

// translated translates a policy, and makes its bindings warn: then the API
// server tells of every policy that is not met.
func translated(t *testing.T, name, manifest string) []*unstructured.Unstructured {
	t.Helper()
	result := translate.Translate(t.Context(), sourcesOf(t, manifest), translate.Options{To: translate.VAP, Count: 50, Seed: 1})
	if len(result.Rules) != 1 || result.Rules[0].Answer() != translate.Equal {
		t.Fatalf("%s is not translated: %v %v", name, result.Problems, result.Rules[0].Refused)
	}
	var out []*unstructured.Unstructured
	for _, d := range result.Rules[0].Documents {
		u := &unstructured.Unstructured{Object: d}
		if u.GetKind() == "ValidatingAdmissionPolicyBinding" {
			must(t, unstructured.SetNestedStringSlice(u.Object, []string{"Warn"}, "spec", "validationActions"))
		} else if u.GetName() != name {
			t.Fatalf("the translation of %s is named %s", name, u.GetName())
		}
		out = append(out, u)
	}
	return out
}

var warningOf = regexp.MustCompile(`^Validation failed for ValidatingAdmissionPolicy '([^']*)'`)

// TestConvertedPolicies holds that the API server takes policies that were
// translated, and says of objects what the originals say.
func TestConvertedPolicies(t *testing.T) {
	s := &vapServer{startPolicies(t), t, map[string]int{}}
	originals := map[string][]policy.Rule{}
	var requests []*policy.Request
	var attempts []attempt
	for _, manifest := range sourceObjects {
		u := documents(t, manifest)[0]
		u.SetNamespace(s.namespace)
		a := attempt{u.GetName(), policy.Create, u, "user:ann", []string{"system:masters"}}
		r, err := s.request(a, nil)
		must(t, err)
		attempts, requests = append(attempts, a), append(requests, r)
	}
	for name, manifest := range sourcePolicies() {
		docs := sourcesOf(t, manifest)
		set := kyverno.Load(docs[:1], policy.Options{})
		if len(docs) > 1 {
			set = gatekeeper.Load(docs, policy.Options{})
		}
		originals[name] = set.Rules
		for _, u := range translated(t, name, manifest) {
			_, err := s.resource(s.client, u).Create(t.Context(), u, metav1.CreateOptions{})
			must(t, err)
		}
	}
	s.settle(t)
	client, warnings := s.as("user:ann", "system:masters")
	for i, a := range attempts {
		_, err := s.send(a, client)
		must(t, err)
		var theirs []string
		for _, w := range warnings.take() {
			theirs = append(theirs, warningOf.FindStringSubmatch(w)[1])
		}
		var ours []string
		for name, rules := range originals {
			if denies(t, rules, requests[i]) {
				ours = append(ours, name)
			}
		}
		slices.Sort(theirs)
		slices.Sort(ours)
		if theirs = slices.Compact(theirs); !slices.Equal(theirs, ours) {
			t.Errorf("%s %s: the API server denies it by\n%v\nand the originals by\n%v", a.object.GetKind(), a.name, theirs, ours)
		}
		s.counts["denied"] += len(theirs)
	}
	if s.counts["denied"] < 2*len(attempts) {
		t.Errorf("the policies deny hardly anything: %v", s.counts)
	}
	t.Logf("%d policies, %d objects, %v", len(originals), len(attempts), s.counts)
}

// denies says whether some rules fail.
func denies(t *testing.T, rules []policy.Rule, r *policy.Request) bool {
	t.Helper()
	out := false
	for _, rule := range rules {
		if !rule.Matches(r.Subject().GroupKind()) {
			continue
		}
		v, applies := rule.Judge(t.Context(), r)
		if applies && v.Outcome == verdict.Unknown {
			t.Fatalf("%s cannot judge %s: %v", rule.Info().Name, r.Subject().Name, v.Findings)
		}
		out = out || applies && v.Outcome == verdict.Fail
	}
	return out
}
