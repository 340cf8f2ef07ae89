// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// trial is a policy that is held against the API server's validator.
type trial struct {
	variables [][2]string // names and expressions
	checks    [][2]string // expressions, and those of messages
}

// costs is an expression that always holds and costs as much as looking for a text
// in a long one does, so many times.
func costs(times int) string {
	return fmt.Sprintf("[%s1].all(a, a == 1 && !'%s'.contains('%s'))", strings.Repeat("1, ", times-1), strings.Repeat("x", 10000), strings.Repeat("y", 100))
}

// costly costs nearly as much as one expression may.
var costly = costs(90)

var trials = []trial{
	{checks: [][2]string{{"object.spec.containers.all(c, has(c.resources.limits) && 'cpu' in c.resources.limits)", "'in ' + object.metadata.name"}}},
	{checks: [][2]string{{"object.spec == oldObject.spec", "'not the same: ' + string(object.spec.containers.size())"}, {"object == oldObject", ""}, {"object.spec.containers == oldObject.spec.containers", ""}}},
	{checks: [][2]string{{"object.spec.containers.exists(c, c in oldObject.spec.containers)", ""}, {"object.metadata.labels == oldObject.metadata.labels", ""}, {"object.spec.containers[0] == oldObject.spec.containers[0]", "'first'"}}},
	{variables: [][2]string{{"all", "object.spec.containers + object.spec.?initContainers.orValue([])"}, {"names", "variables.all.map(c, c.name)"}},
		checks: [][2]string{{"variables.names.all(n, n != '')", "'no name: ' + variables.names.join(', ')"}, {"variables.all.size() < 3", "string(variables.all.size())"}, {"has(variables.names) && variables.names.size() > 0", ""}}},
	{variables: [][2]string{{"bad", "object.spec.nodeSelector.x"}, {"uses__dot__it", "variables.bad + 'y'"}},
		checks: [][2]string{{"variables.bad == 'b'", ""}, {"variables.uses__dot__it == 'by'", "string(variables.bad)"}, {"dyn(variables).size() == 2", ""}, {"dyn(variables).all(v, v != 'b')", ""}}},
	{checks: [][2]string{{"object.spec.containers.all(c, c.?resources.?limits.?cpu.hasValue() ? quantity(c.resources.limits.cpu).isLessThan(quantity('2')) : true)", ""}, {"object.spec.containers.all(c, !has(c.securityContext) || c.securityContext.?privileged.orValue(false) == false)", ""}}},
	{checks: [][2]string{{"object.spec.containers.map(c, c.?ports.orValue([])).all(ps, ps.all(p, p.containerPort > 0 && p.protocol == 'a'))", "'ports'"}, {"object.spec.containers.filter(c, c.image == '').size() == 0", ""}, {"type(object.spec.containers) == list", ""}, {"object.spec.containers.all(c, c.args.isSorted())", ""}}},
	{checks: [][2]string{{"object.metadata.?labels.orValue({}).all(k, object.metadata.labels[k].startsWith('a'))", ""}, {"object.spec.volumes.exists_one(v, has(v.emptyDir))", ""}, {"object.spec.tolerations.all(t, t.tolerationSeconds <= 300)", ""}, {"object.spec.hostNetwork == true", ""}}},
	{checks: [][2]string{{"object.metadata.creationTimestamp == null", ""}, {"has(object.status)", ""}, {"object.status == {}", ""}, {"object.spec.containers.all(c, c.livenessProbe.httpGet.port == 'http' || c.livenessProbe.httpGet.port == 80)", ""}, {"request.operation == 'UPDATE' && request.kind.kind == 'Pod'", ""}, {"sets.contains(object.spec.containers.map(c, c.name), ['a'])", ""}}},
	{checks: [][2]string{{costly, ""}, {"object.spec.containers.size() > 99", "'few'"}}},
	{checks: [][2]string{{costs(110), ""}}},
	{variables: [][2]string{{"slow", costly}}, checks: slices.Repeat([][2]string{{"variables.slow && " + costly, ""}}, 14)},
	{variables: [][2]string{{"slow", costly}}, checks: append(slices.Repeat([][2]string{{costly, ""}}, 9), [2]string{"false", "variables.slow ? 'slow' : 'quick'"}, [2]string{"false", costly + " ? 'slow' : 'quick'"}, [2]string{"false", costly + " ? 'slow' : 'quick'"}, [2]string{"true", costly + " ? 'slow' : 'quick'"})},
}

// ours makes a rule of a trial.
func (x *trial) ours(t *testing.T) policy.Rule {
	t.Helper()
	list := func(all [][2]string, a, b string) []any {
		out := []any{}
		for _, v := range all {
			item := map[string]any{a: v[0]}
			if v[1] != "" {
				item[b] = v[1]
			}
			out = append(out, item)
		}
		return out
	}
	n := object.FromAny(map[string]any{
		"apiVersion": group + "/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": "p"},
		"spec": map[string]any{
			"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "operations": []any{"*"}, "resources": []any{"*"}}}},
			"variables":        list(x.variables, "name", "expression"),
			"validations":      list(x.checks, "expression", "messageExpression"),
		},
	})
	docs, err := object.FromNode(n, &object.Origin{Source: "p"})
	if err != nil {
		t.Fatal(err)
	}
	set := Load(docs, policy.Options{Timeout: time.Minute})
	if len(set.Problems) > 0 {
		t.Fatal(set.Problems)
	}
	return set.Rules[0]
}

// theirs makes the API server's validator of a trial.
func (x *trial) theirs(t *testing.T) validating.Validator {
	t.Helper()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		t.Fatal(err)
	}
	declared := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	for _, v := range x.variables {
		compiler.CompileAndStoreVariable(&validating.Variable{Name: v[0], Expression: v[1]}, declared, environment.NewExpressions)
	}
	var checks, messages []cel.ExpressionAccessor
	for _, c := range x.checks {
		checks = append(checks, &validating.ValidationCondition{Expression: c[0]})
		if messages = append(messages, nil); c[1] != "" {
			messages[len(messages)-1] = &validating.MessageExpressionCondition{MessageExpression: c[1]}
		}
	}
	fail := admissionregistrationv1.Fail
	return validating.NewValidator(compiler.CompileCondition(checks, declared, environment.NewExpressions), nil, cel.NewCondition(nil),
		compiler.CompileCondition(messages, cel.OptionalVariableDeclarations{}, environment.NewExpressions), &fail, nil)
}

// pods makes two pods, the second like the first, or nearly.
func (r trees) pods() [2]map[string]any {
	kind := corev1.SchemeGroupVersion.WithKind("Pod")
	var out [2]map[string]any
	for i := range out {
		if i == 1 && r.IntN(2) == 0 {
			out[1] = out[0]
			break
		}
		spec := r.record(reflect.TypeFor[corev1.PodSpec](), 5).(map[string]any)
		if _, ok := spec["containers"].([]any); !ok || r.IntN(2) == 0 {
			var containers []any
			for range 1 + r.IntN(2) {
				containers = append(containers, map[string]any{
					"name": r.pick("a", "b", ""), "image": r.pick("x", ""), "args": r.pick([]any{"b", "a"}, []any{"a"}, []any{}, nil),
					"resources":     map[string]any{"limits": map[string]any{"cpu": r.pick("1", "1000m", int64(3)), "memory": r.pick("1Gi", "1024Mi")}},
					"ports":         r.pick([]any{}, []any{map[string]any{"containerPort": int64(80), "protocol": "a"}}, nil),
					"livenessProbe": map[string]any{"httpGet": map[string]any{"port": r.pick("http", int64(80), int64(81))}}, "notAField": "x",
				})
			}
			spec["containers"] = containers
		}
		meta := map[string]any{"name": "p", "namespace": "shop", "labels": r.pick(map[string]any{"x": "ab"}, map[string]any{"x": "b", "y": "a"}, map[string]any{}, nil)}
		out[i] = map[string]any{"metadata": meta, "spec": spec}
		out[i]["apiVersion"], out[i]["kind"] = kind.ToAPIVersionAndKind()
	}
	return out
}

// TestAsTheAPIServer holds what rules say against what the API server's validator
// says, over many pods.
func TestAsTheAPIServer(t *testing.T) {
	r := trees{Rand: rand.New(rand.NewPCG(5, 6))}
	kind, resource := corev1.SchemeGroupVersion.WithKind("Pod"), corev1.SchemeGroupVersion.WithResource("pods")
	var rules []policy.Rule
	var validators []validating.Validator
	for _, x := range trials {
		rules, validators = append(rules, x.ours(t)), append(validators, x.theirs(t))
	}
	outcomes := map[string]int{}
	for round := range 150 {
		pods := r.pods()
		var objects [2]*object.Object
		var typed [2]runtime.Object
		for i, p := range pods {
			typed[i], _ = scheme.Scheme.New(kind)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(p, typed[i]); err != nil {
				typed[i] = nil
				break
			}
			all, err := object.FromNode(object.FromAny(p), &object.Origin{Source: "o"})
			if err != nil {
				t.Fatal(err)
			}
			objects[i] = all[0]
		}
		if typed[0] == nil || typed[1] == nil {
			continue
		}
		request := &policy.Request{Object: objects[0], Old: objects[1], Operation: policy.Update}
		for i, rule := range rules {
			if i >= len(rules)-4 && round > 0 {
				continue // takes long
			}
			attr := admission.NewAttributesRecord(typed[0], typed[1], kind, "shop", "p", resource, "", admission.Update, &metav1.UpdateOptions{}, false, &user.DefaultInfo{})
			versioned := &admission.VersionedAttributes{Attributes: attr, VersionedKind: kind}
			versioned.VersionedObject.Set(typed[0])
			versioned.VersionedOldObject.Set(typed[1])
			theirs := validators[i].Validate(t.Context(), resource, versioned, nil, &corev1.Namespace{}, celconfig.RuntimeCELCostBudget, nil)
			want := map[string]bool{}
			for _, d := range theirs.Decisions {
				switch {
				case d.Evaluation == validating.EvalError:
					_, reason, found := strings.Cut(d.Message, "resulted in error: ")
					if !found {
						reason = d.Message
					}
					want[fmt.Sprint(verdict.Unknown, reason)] = true
				case d.Action == validating.ActionDeny:
					want[fmt.Sprint(verdict.Fail, d.Message)] = true
				}
			}
			v, _ := rule.Judge(t.Context(), request)
			got := map[string]bool{}
			for _, f := range v.Findings {
				reason, _, _ := strings.Cut(f.Message, ", in the expression ")
				got[fmt.Sprint(f.Outcome, reason)] = true
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("policy %d over\n%v\n%v\ngot %v\nwant %v", i, pods[0], pods[1], got, want)
			}
			outcomes[fmt.Sprint(i, v.Outcome)]++
		}
	}
	t.Log(outcomes)
	for _, want := range []string{"10unknown", "11unknown", "12unknown", "1pass", "1fail", "3pass", "4unknown"} {
		if outcomes[want] == 0 {
			t.Errorf("no policy came to %s: %v", want, outcomes)
		}
	}
}
