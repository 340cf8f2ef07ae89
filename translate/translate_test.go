// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/translate"
)

// documents reads YAML.
func documents(tb testing.TB, text string) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for part := range object.Split([]byte(text)) {
		node, err := object.ParseYAML(part)
		if err != nil {
			tb.Fatal(err)
		}
		if node == nil {
			continue
		}
		list, err := object.FromNode(node, &object.Origin{Source: "policy.yaml", Text: []byte(text), FirstLine: 1})
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, list...)
	}
	return out
}

// clusterPolicy returns a policy of one rule.
func clusterPolicy(kinds, rest string) string {
	return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: r\n" +
		"    match: {any: [{resources: {kinds: [" + kinds + "]}}]}\n    " + strings.ReplaceAll(strings.TrimSpace(rest), "\n", "\n    ") + "\n"
}

// TestEqual holds that rules of the subset are translated, and that the
// translation is equal to the original on objects that both deny and admit.
func TestEqual(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []translate.Target{translate.VAP, translate.Kyverno} {
				result := translate.Translate(context.Background(), documents(t, string(text)), translate.Options{To: to, Count: 300, Seed: 7})
				if len(result.Problems) > 0 || len(result.Rules) == 0 {
					t.Fatalf("problems %v, %d rules", result.Problems, len(result.Rules))
				}
				for _, r := range result.Rules {
					holdEqual(t, r, to)
				}
			}
		})
	}
}

// holdEqual holds that a rule is translated, and equal on objects that say
// something.
func holdEqual(t *testing.T, r *translate.Rule, to translate.Target) {
	t.Helper()
	if r.Answer() != translate.Equal {
		t.Fatalf("%s: %s is %s: %v\n%s", to, r.Name, r.Answer(), r.Refused, difference(r))
	}
	if r.Evidence.Equal() < 100 || r.Evidence.Weak() != "" {
		t.Errorf("%s: %s: %s; %s", to, r.Name, r.Evidence, r.Evidence.Weak())
	}
}

// difference describes what differs.
func difference(r *translate.Rule) string {
	if r.Evidence == nil || r.Evidence.Difference == nil {
		return ""
	}
	d := r.Evidence.Difference
	return fmt.Sprintf("%s %v: original %v, translation %v\n%v", d.Request.Operation, d.Request.Subject().Root.Any(), d.Original, d.Translation, r.Documents[0]["spec"])
}

// TestRefused holds that what is outside the subset is refused with the reason
// and the place.
func TestRefused(t *testing.T) {
	for policy, reason := range map[string]string{
		clusterPolicy("Pod", "context: [{name: x, apiCall: {urlPath: /api/v1/pods}}]\nvalidate: {message: m, pattern: {metadata: {name: x}}}"):          "calls an API",
		clusterPolicy("Pod", "exclude: {any: [{clusterRoles: [cluster-admin]}]}\nvalidate: {message: m, pattern: {metadata: {name: x}}}"):               "roles of the user",
		clusterPolicy("Pod", `validate: {message: m, deny: {conditions: {all: [{key: "{{ time_now_utc() }}", operator: Equals, value: x}]}}}`):          "time_now_utc",
		clusterPolicy("Pod", `validate: {message: m, deny: {conditions: {all: [{key: "{{ images.containers.*.tag }}", operator: Equals, value: x}]}}}`): "images",
		clusterPolicy("Pod", `validate: {message: m, pattern: {spec: {containers: []}}}`):                                                               "empty",
		clusterPolicy("Pod", `mutate: {patchStrategicMerge: {metadata: {labels: {a: b}}}}`):                                                             "MutatingAdmissionPolicy",
		clusterPolicy("Pod", `generate: {apiVersion: v1, kind: ConfigMap, name: a, namespace: b, data: {data: {a: b}}}`):                                "GeneratingPolicy",
		clusterPolicy("Pod", `verifyImages: [{imageReferences: ["*"], attestors: [{entries: [{keys: {publicKeys: k}}]}]}]`):                             "ImageValidatingPolicy",
		clusterPolicy("Pod", `validate: {message: m, podSecurity: {level: baseline, version: v1.25}}`):                                                  "enforce-version",
	} {
		result := translate.Translate(context.Background(), documents(t, policy), translate.Options{To: translate.VAP, Count: 10})
		if len(result.Rules) != 1 || result.Rules[0].Answer() != translate.Refused || len(result.Rules[0].Documents) > 0 {
			t.Errorf("%s\nis not refused: %v", policy, result)
			continue
		}
		got := result.Rules[0].Refused[0]
		if !strings.Contains(got.Reason, reason) || got.Position.Line != 7 {
			t.Errorf("refused at line %d because %s, want line 7 and %q", got.Position.Line, got.Reason, reason)
		}
	}
}

// TestDistinct holds that translations of policies of one name have names of their
// own, and that bindings go with their policies.
func TestDistinct(t *testing.T) {
	policy := clusterPolicy("ConfigMap", `validate: {message: m, pattern: {metadata: {name: "web*"}}}`)
	own := strings.NewReplacer("kind: ClusterPolicy", "kind: Policy", "{name: p}", "{name: p, namespace: shop}").Replace(policy)
	result := translate.Translate(context.Background(), documents(t, policy+"---\n"+own+"---\n"+policy), translate.Options{To: translate.VAP, Count: 10})
	result.Distinct()
	var got []string
	for _, r := range result.Rules {
		for _, d := range r.Documents {
			spec, _ := d["spec"].(map[string]any)
			got = append(got, fmt.Sprint(translate.NameOf(d), " ", spec["policyName"]))
		}
	}
	want := "[p <nil> p p shop-p <nil> shop-p shop-p p-2 <nil> p-2 p-2]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v\nwant %s", got, want)
	}
	if notes := result.Rules[2].Notes; len(notes) == 0 || !strings.Contains(notes[len(notes)-1], "named p-2") {
		t.Errorf("nothing says that it is named otherwise: %v", notes)
	}
}

// TestActions holds that overrides become bindings that share the namespaces out.
func TestActions(t *testing.T) {
	policy := strings.Replace(clusterPolicy("ConfigMap", `validate: {message: m, pattern: {metadata: {name: "web*"}}}`), "  rules:",
		"  validationFailureActionOverrides: [{action: Audit, namespaces: [dev, test]}]\n  rules:", 1)
	result := translate.Translate(context.Background(), documents(t, policy), translate.Options{To: translate.VAP, Count: 10})
	docs := result.Rules[0].Documents
	if len(docs) != 3 {
		t.Fatalf("%d documents: %v", len(docs), result.Rules[0].Refused)
	}
	got := fmt.Sprint(docs[1]["spec"], docs[2]["spec"])
	for _, want := range []string{"[Deny]", "operator:NotIn values:[dev test]", "[Audit]", "operator:In values:[dev test]"} {
		if !strings.Contains(got, want) {
			t.Errorf("the bindings lack %s: %s", want, got)
		}
	}
}

const control = `apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: no-host-network}
spec:
  title: Pods have a network of their own
  description: A pod in the network of its node sees what the node sees.
  remediation: Remove hostNetwork from the pod.
  severity: high
  layer: application
  phase: build
  topic: pod-security
  match: {pods: true}
  require: "!pod.spec.?hostNetwork.orValue(false)"
  message: the pod is in the network of its node
`

// TestControls holds that controls become policies of both others, and policies
// controls.
func TestControls(t *testing.T) {
	for _, c := range []struct {
		policy string
		to     translate.Target
		kind   string
	}{
		{control, translate.Kyverno, "ValidatingPolicy"},
		{control, translate.VAP, "ValidatingAdmissionPolicy"},
		{clusterPolicy("Pod", `validate: {message: m, pattern: {spec: {"=(hostNetwork)": false}}}`), translate.Control, "Control"},
	} {
		r := translate.Translate(context.Background(), documents(t, c.policy), translate.Options{To: c.to, Count: 100, Seed: 3}).Rules[0]
		if r.Answer() != translate.Equal || r.Evidence.Weak() != "" || r.Documents[0]["kind"] != c.kind {
			t.Errorf("to %s: %s %v %s", c.to, r.Answer(), r.Refused, difference(r))
		}
	}
}

const template = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: owner}
spec:
  crd: {spec: {names: {kind: Owner}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    code:
    - engine: K8sNativeValidation
      source:
        validations:
        - expression: has(variables.anyObject.metadata.labels) && variables.params.label in variables.anyObject.metadata.labels
          message: it has no owner
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Owner
metadata: {name: all-have-an-owner}
spec:
  match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], excludedNamespaces: [kube-system]}
  parameters: {label: owner}
`

// TestConstraints holds that a constraint of a template in CEL becomes a policy.
func TestConstraints(t *testing.T) {
	r := translate.Translate(context.Background(), documents(t, template), translate.Options{To: translate.VAP, Count: 100, Seed: 3}).Rules[0]
	if r.Answer() != translate.Equal || r.Evidence.Weak() != "" {
		t.Errorf("%s %v %s", r.Answer(), r.Refused, difference(r))
	}
}

// FuzzTranslate holds that no policy makes a translation panic.
func FuzzTranslate(f *testing.F) {
	f.Add(clusterPolicy("Pod", `validate: {message: "{{request.object.metadata.name}}", pattern: {spec: {"=(volumes)": [{"X(hostPath)": "null"}]}}}`))
	f.Add(clusterPolicy("*", `validate: {message: m, deny: {conditions: [{key: "{{ request.object.spec.rules[?host].http.paths[].path | length(@) }}", operator: GreaterThan, value: 1h}]}}`))
	f.Add(control)
	f.Add(template)
	f.Fuzz(func(_ *testing.T, text string) {
		if len(text) > 1<<14 {
			return
		}
		var docs []*object.Object
		for part := range object.Split([]byte(text)) {
			node, err := object.ParseYAML(part)
			if err != nil || node == nil {
				continue
			}
			list, _ := object.FromNode(node, &object.Origin{Source: "f.yaml"})
			docs = append(docs, list...)
		}
		for _, to := range translate.Targets() {
			translate.Translate(context.Background(), docs, translate.Options{To: to, Count: 1})
		}
	})
}

// BenchmarkTranslate translates a policy and proves it on a hundred objects.
func BenchmarkTranslate(b *testing.B) {
	docs := documents(b, clusterPolicy("Pod", `validate: {message: m, pattern: {spec: {containers: [{image: "!*:latest"}]}}}`))
	for b.Loop() {
		translate.Translate(context.Background(), docs, translate.Options{To: translate.VAP, Count: 100, Seed: 1})
	}
}
