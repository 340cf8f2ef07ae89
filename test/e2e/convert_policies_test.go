// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

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
	`{apiVersion: v1, kind: Pod, metadata: {name: safe, labels: {team: a}}, spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: main, image: "example.com/web:1", securityContext: {privileged: false, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}`,
	`{apiVersion: v1, kind: Pod, metadata: {name: web-caps}, spec: {hostPID: true, containers: [{name: main, image: "example.com/web:latest", securityContext: {capabilities: {add: [SYS_ADMIN]}, seccompProfile: {type: Unconfined}}}]}}`,
	`{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, hostNetwork: true, containers: [{name: job, image: "nginx:latest", ports: [{hostPort: 80, containerPort: 80}]}]}}}}}}`,
	`{apiVersion: v1, kind: Service, metadata: {name: svc}, spec: {type: NodePort, ports: [{port: 80}]}}`,
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
// server tells of every policy that is not met. Names are the policies of rules by
// the names of their translations.
func translated(t *testing.T, manifest string) (docs []*unstructured.Unstructured, names map[string]string) {
	t.Helper()
	result := translate.Translate(t.Context(), sourcesOf(t, manifest), translate.Options{To: translate.VAP, Count: 50, Seed: 1})
	names = map[string]string{}
	for _, r := range result.Rules {
		if a := r.Answer(); a != translate.Equal && a != translate.Untested {
			t.Fatalf("%s/%s is %s: %v %v", r.Policy.Name, r.Name, a, result.Problems, r.Refused)
		}
		names[translate.NameOf(r.Documents[0])] = r.Name
		for _, d := range r.Documents {
			u := &unstructured.Unstructured{Object: d}
			if u.GetKind() == "ValidatingAdmissionPolicyBinding" {
				must(t, unstructured.SetNestedStringSlice(u.Object, []string{"Warn"}, "spec", "validationActions"))
			}
			docs = append(docs, u)
		}
	}
	return docs, names
}

// testPolicies are the policies that the package translate is tested with, of which
// each rule is told by its name.
func testPolicies(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../translate/testdata/*.yaml")
	must(t, err)
	var out []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(t, err)
		out = append(out, string(text))
	}
	if len(out) < 20 {
		t.Fatalf("%d policies", len(out))
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
	for _, manifest := range append(slices.Collect(maps.Values(sourcePolicies())), testPolicies(t)...) {
		s.putInForce(manifest, originals)
	}
	s.settle(t)
	s.wantTyped(slices.Collect(maps.Keys(originals)))
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
			switch denied, known := denies(t, rules, requests[i]); {
			case !known:
				theirs = slices.DeleteFunc(theirs, func(n string) bool { return n == name })
				s.counts["not known"]++
			case denied:
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
	if s.counts["denied"] < 2*len(attempts) || s.counts["not known"] > len(attempts) {
		t.Errorf("the policies deny hardly anything, or cannot judge: %v", s.counts)
	}
	t.Logf("%d policies, %d objects, %v", len(originals), len(attempts), s.counts)
}

// putInForce creates the translations of a policy, and notes what the rules are
// that they were made of.
func (s *vapServer) putInForce(manifest string, originals map[string][]policy.Rule) {
	s.t.Helper()
	docs := sourcesOf(s.t, manifest)
	set := kyverno.Load(docs, policy.Options{})
	set.Add(gatekeeper.Load(docs, policy.Options{}))
	made, names := translated(s.t, manifest)
	for name, rule := range names {
		for _, r := range set.Rules {
			if rule == "" || strings.HasSuffix(r.Info().Name, "."+rule) {
				originals[name] = append(originals[name], r)
			}
		}
	}
	for _, u := range made {
		_, err := s.resource(s.client, u).Create(s.t.Context(), u, metav1.CreateOptions{})
		must(s.t, err)
	}
}

// wantTyped holds that the API server has checked the types of policies, and has
// nothing to say of them.
func (s *vapServer) wantTyped(names []string) {
	s.t.Helper()
	client := s.Client(s.t).AdmissionregistrationV1().ValidatingAdmissionPolicies()
	for _, name := range names {
		var typed *admissionregistrationv1.TypeChecking
		err := wait.PollUntilContextTimeout(s.t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			p, err := client.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			typed = p.Status.TypeChecking
			return p.Status.ObservedGeneration == p.Generation && typed != nil, nil
		})
		if err != nil {
			s.t.Errorf("%s: the types are not checked: %v", name, err)
			continue
		}
		for _, w := range typed.ExpressionWarnings {
			s.t.Errorf("%s: %s: %s", name, w.FieldRef, w.Warning)
		}
	}
}

// denies says whether some rules fail, and whether they can judge the request.
func denies(t *testing.T, rules []policy.Rule, r *policy.Request) (denied, known bool) {
	t.Helper()
	known = true
	for _, rule := range rules {
		if !rule.Matches(r.Subject().GroupKind()) {
			continue
		}
		v, applies := rule.Judge(t.Context(), r)
		denied = denied || applies && v.Outcome == verdict.Fail
		known = known && (!applies || v.Outcome != verdict.Unknown)
	}
	return denied, known || denied
}
