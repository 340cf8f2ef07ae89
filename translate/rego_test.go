// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/translate"
)

// constraint returns a template in Rego and a constraint of it.
func constraint(group, kind, spec, rego string) string {
	code := "      " + strings.ReplaceAll("package p\n"+strings.TrimSpace(rego), "\n", "\n      ")
	return fmt.Sprintf(`apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: rule}
spec:
  crd: {spec: {names: {kind: Rule}, validation: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
%s
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Rule
metadata: {name: c}
spec:
  match: {kinds: [{apiGroups: ["%s"], kinds: [%s]}]}
  %s
`, code, group, kind, strings.ReplaceAll(spec, "\n", "\n  "))
}

// TestRego holds that constraints of the subset of Rego are translated, and that
// the translation is equal to the original on objects that both deny and admit.
func TestRego(t *testing.T) {
	for name, c := range map[string]struct{ group, kind, spec, rego string }{
		"an item":                   {"", "Pod", "parameters: {}", `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; endswith(c.image, ":latest"); msg := sprintf("%v: %v", [c.name, c.image]) }`},
		"a map":                     {"", "ConfigMap", "parameters: {}", `violation[{"msg": key}] { input.review.object.data[key] == "secret" }`},
		"a number of":               {"", "Pod", "parameters: {labels: [team, app]}", `violation[{"msg": "m"}] { count({l | l := input.parameters.labels[_]} - {l | input.review.object.metadata.labels[l]}) > 0 }`},
		"a field that is not there": {"", "Pod", "parameters: {}", `violation[{"msg": "m"}] { not input.review.object.spec.securityContext.runAsNonRoot }`},
		"false and undefined":       {"", "Pod", "parameters: {}", `violation[{"msg": "m"}] { input.review.object.spec.automountServiceAccountToken == false }`},
		"a number":                  {"apps", "Deployment", "parameters: {min: 2}", `violation[{"msg": "m"}] { input.review.object.spec.replicas < input.parameters.min }`},
		"a function of two": {"", "Pod", "parameters: {images: [nginx, \"web*\"]}", `violation[{"msg": "m"}] { c := input.review.object.spec.containers[_]; not ok(c.image) }
ok(image) { image == input.parameters.images[_] }
ok(image) { p := input.parameters.images[_]; endswith(p, "*"); startswith(image, trim_suffix(p, "*")) }`},
		"a default":     {"", "ConfigMap", "parameters: {}", "default mode = \"safe\"\nmode = lower(input.review.object.data.mode)\nviolation[{\"msg\": mode}] { mode != \"safe\" }"},
		"else":          {"", "ConfigMap", "parameters: {}", "kind = \"a\" { input.review.object.data.a } else = \"b\" { input.review.object.data.b }\nviolation[{\"msg\": \"m\"}] { kind == \"b\" }"},
		"a set of sets": {"", "Pod", "parameters: {}", "all[c] { c := input.review.object.spec.containers[_] }\nall[c] { c := input.review.object.spec.initContainers[_] }\nviolation[{\"msg\": c.name}] { c := all[_]; not c.resources.limits }"},
		"every":         {"", "Pod", "parameters: {}", "import future.keywords.every\nimport future.keywords.in\nviolation[{\"msg\": \"m\"}] { every c in input.review.object.spec.containers { c.image in {\"a\", \"web\"} } }"},
		"an index":      {"", "Pod", "parameters: {}", `violation[{"msg": "m"}] { input.review.object.spec.containers[i].image; i > 0 }`},
		"object.get":    {"", "Pod", "parameters: {}", `violation[{"msg": "m"}] { object.get(input.review.object, ["metadata", "labels", "team"], "none") == "none" }`},
		"a quantity": {"", "Pod", "parameters: {max: 64Mi}", `unit("Mi") = 1
unit("Gi") = 1024
mega(q) = n { u := substring(q, count(q) - 2, -1); n := to_number(replace(q, u, "")) * unit(u) }
violation[{"msg": "m"}] { c := input.review.object.spec.containers[_]; mega(c.resources.limits.memory) > mega(input.parameters.max) }`},
		"what an object was": {"", "ConfigMap", "parameters: {}", `violation[{"msg": "m"}] { input.review.operation == "UPDATE"; input.review.oldObject.data.a != input.review.object.data.a }`},
		"an unknown kind":    {"example.com", "Thing", "parameters: {}", `violation[{"msg": "m"}] { input.review.object.spec.list[_].host == "a" }`},
		"warn":               {"", "Pod", "enforcementAction: warn", `violation[{"msg": "m"}] { input.review.object.spec.hostPID }`},
	} {
		t.Run(name, func(t *testing.T) {
			r := translate.Translate(context.Background(), documents(t, constraint(c.group, c.kind, c.spec, c.rego)), translate.Options{To: translate.VAP, Count: 300, Seed: 7}).Rules[0]
			if r.Answer() != translate.Equal {
				t.Fatalf("%s: %v\n%s", r.Answer(), r.Refused, difference(r))
			}
			if r.Evidence.Equal() < 100 || r.Evidence.Weak() != "" {
				t.Errorf("%s; %s: %v", r.Evidence, r.Evidence.Weak(), r.Documents[0]["spec"])
			}
		})
	}
}

// TestRegoRefused holds that what of Rego has no translation is refused with the
// reason and the line.
func TestRegoRefused(t *testing.T) {
	for rego, reason := range map[string]string{
		`violation[{"msg": "m"}] { data.inventory.cluster.v1.Namespace[_].metadata.name == "a" }`:        "looked up in the cluster",
		`violation[{"msg": "m"}] { json.unmarshal(input.review.object.metadata.annotations.a).b }`:       "json.unmarshal: there is no such function",
		`violation[{"msg": "m"}] { regex.match(input.review.object.spec.nodeName, "a") }`:                "the pattern is not known",
		`violation[{"msg": "m"}] { input.review.dryRun }`:                                                "input.review.dryRun is read",
		`violation[{"msg": "m"}] { count({c.image | c := input.review.object.spec.containers[_]}) > 1 }`: "may be the same",
	} {
		r := translate.Translate(context.Background(), documents(t, constraint("", "Pod", "parameters: {}", rego)), translate.Options{To: translate.VAP, Count: 10}).Rules[0]
		if r.Answer() != translate.Refused || len(r.Documents) > 0 {
			t.Errorf("%s is not refused", rego)
			continue
		}
		if got := r.Refused[0]; !strings.Contains(got.Reason, reason) || got.Position.Line != 10 {
			t.Errorf("refused at line %d because %s, want line 10 and %q", got.Position.Line, got.Reason, reason)
		}
	}
}

// TestConstraintMatch holds that what a constraint is about, and what it does,
// goes over.
func TestConstraintMatch(t *testing.T) {
	rego := `violation[{"msg": "m"}] { input.review.object.spec.hostPID }`
	for spec, want := range map[string]string{
		"enforcementAction: dryrun": "[Audit]",
		"enforcementAction: warn":   "[Warn]",
		"parameters: {}":            "[Deny]",
	} {
		r := translate.Translate(context.Background(), documents(t, constraint("", "Pod", spec, rego)), translate.Options{To: translate.VAP, Count: 20}).Rules[0]
		if len(r.Documents) != 2 || !strings.Contains(fmt.Sprint(r.Documents[1]["spec"]), want) {
			t.Errorf("%s: want %s: %v %v", spec, want, r.Documents, r.Refused)
		}
	}
	r := translate.Translate(context.Background(), documents(t, constraint("", "Pod", "parameters: {}", rego)), translate.Options{To: translate.Control, Count: 20}).Rules[0]
	if r.Answer() != translate.Refused {
		t.Errorf("as a Control it is %s: %v", r.Answer(), r.Documents)
	}
	text := strings.Replace(constraint("", "Pod", "parameters: {}", rego), "match: {", `match: {excludedNamespaces: ["kube-*"], labelSelector: {matchLabels: {a: b}}, `, 1)
	r = translate.Translate(context.Background(), documents(t, text), translate.Options{To: translate.VAP, Count: 200, Seed: 2}).Rules[0]
	if r.Answer() != translate.Untested { // nothing that is made has the label
		t.Fatalf("%v %s", r.Refused, difference(r))
	}
	got := fmt.Sprint(r.Documents[0]["spec"])
	for _, part := range []string{"excluded-namespaces", "startsWith('kube-')", "labels"} {
		if !strings.Contains(got, part) {
			t.Errorf("the policy lacks %s: %s", part, got)
		}
	}
}

// FuzzRego holds that no Rego makes a translation panic.
func FuzzRego(f *testing.F) {
	f.Add(`violation[{"msg": msg}] { c := input.review.object.spec.containers[i]; not c.a[i]; msg := sprintf("%v %d", [c, i]) }`)
	f.Add(`violation[{"msg": "m"}] { x := {a | a := input.review.object.data[_]} - {"b"}; count(x) > 0 }`)
	f.Add("f(x) = y { y := x.a } else = 1\nviolation[{\"msg\": m}] { m := f(input.review.object.spec); m > 1 }")
	f.Fuzz(func(_ *testing.T, rego string) {
		if len(rego) > 1<<10 {
			return
		}
		var docs []*object.Object
		for part := range object.Split([]byte(constraint("", "Pod", "parameters: {a: [1, b]}", rego))) {
			node, err := object.ParseYAML(part)
			if err != nil || node == nil {
				return
			}
			list, _ := object.FromNode(node, &object.Origin{Source: "f.yaml"})
			docs = append(docs, list...)
		}
		translate.Translate(context.Background(), docs, translate.Options{To: translate.VAP, Count: 1, Timeout: time.Second})
	})
}
