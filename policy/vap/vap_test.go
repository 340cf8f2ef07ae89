// SPDX-License-Identifier: Apache-2.0

package vap_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// policy returns a policy about pods with a spec in YAML.
func policy(tb testing.TB, spec string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	tb.Helper()
	out := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &out.Spec); err != nil {
		tb.Fatal(err)
	}
	if out.Spec.MatchConstraints == nil {
		out.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			},
		}}}
	}
	return out
}

func binding(tb testing.TB, spec string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	tb.Helper()
	out := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &out.Spec); err != nil {
		tb.Fatal(err)
	}
	return out
}

func pod() vap.Request {
	return vap.Request{
		Object: &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web", "namespace": "shop", "labels": map[string]any{"app": "web"}},
			"spec": map[string]any{"hostNetwork": true},
		}},
		Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: "shop", Name: "web",
	}
}

// TestJudge holds what comes out of one policy for one pod, by what is known.
func TestJudge(t *testing.T) {
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "front"}}}
	limit := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "limits", "namespace": "shop"}, "data": map[string]any{"app": "db"},
	}}
	const params = `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.metadata.labels.app == params.data.app"}]}`
	for _, c := range []struct {
		name, spec, binding string
		change              func(*vap.Request)
		params              []*unstructured.Unstructured
		want                verdict.Outcome
		unmatched           bool
	}{
		{name: "passes", spec: `{validations: [{expression: "object.spec.hostNetwork == true"}]}`, want: verdict.Pass},
		{name: "fails", spec: `{validations: [{expression: "!object.spec.hostNetwork"}]}`, want: verdict.Fail},
		{name: "errs", spec: `{validations: [{expression: "object.spec.hostPID == true"}]}`, want: verdict.Unknown},
		{name: "one of two fails", spec: `{validations: [{expression: "object.spec.hostPID == true"}, {expression: "false"}]}`, want: verdict.Fail},
		{name: "other kind", spec: `{validations: [{expression: "false"}]}`, change: func(r *vap.Request) { r.Kind.Kind = "Secret" }, want: verdict.Pass, unmatched: true},
		{name: "other operation", spec: `{validations: [{expression: "false"}]}`, change: func(r *vap.Request) { r.Operation = admission.Update }, want: verdict.Pass, unmatched: true},
		{name: "condition", spec: `{matchConditions: [{name: a, expression: "request.namespace == 'other'"}], validations: [{expression: "false"}]}`, want: verdict.Pass},
		{name: "namespace not known", spec: `{validations: [{expression: "namespaceObject.metadata.labels.tier == 'front'"}]}`, want: verdict.Unknown},
		{
			name: "namespace known", spec: `{validations: [{expression: "namespaceObject.metadata.labels.tier == 'front'"}]}`,
			change: func(r *vap.Request) { r.NamespaceObject = shop }, want: verdict.Pass,
		},
		{name: "selector of a namespace not known", spec: `{validations: [{expression: "true"}]}`, binding: `{matchResources: {namespaceSelector: {matchLabels: {tier: front}}}}`, want: verdict.Unknown},
		{
			name: "selector of another namespace", spec: `{validations: [{expression: "false"}]}`, binding: `{matchResources: {namespaceSelector: {matchLabels: {tier: back}}}}`,
			change: func(r *vap.Request) { r.NamespaceObject = shop }, want: verdict.Pass, unmatched: true,
		},
		{name: "asks for rights", spec: `{validations: [{expression: "!authorizer.group('').resource('pods').check('create').allowed()"}]}`, want: verdict.Unknown},
		{name: "parameter", spec: params, binding: `{paramRef: {name: limits}}`, params: []*unstructured.Unstructured{limit}, want: verdict.Fail},
		{name: "parameter missing", spec: params, binding: `{paramRef: {name: other}}`, params: []*unstructured.Unstructured{limit}, want: verdict.Unknown},
		{name: "parameter may be missing", spec: params, binding: `{paramRef: {name: other, parameterNotFoundAction: Allow}}`, want: verdict.Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := vap.Compile(policy(t, c.spec))
			if err != nil {
				t.Fatal(err)
			}
			r := pod()
			if c.change != nil {
				c.change(&r)
			}
			got := p.Judge(t.Context(), binding(t, c.binding), r, c.params...)
			if got.Outcome() != c.want || got.Matches == c.unmatched {
				t.Errorf("got %v, want %s (unmatched: %v)", got, c.want, c.unmatched)
			}
		})
	}
}

// TestCompile holds that every mistake of a policy is told.
func TestCompile(t *testing.T) {
	_, err := vap.Compile(policy(t, `{variables: [{name: x, expression: "1 +"}], matchConditions: [{name: a, expression: "'text'"}],
  validations: [{expression: "nothing.here", messageExpression: "1"}], auditAnnotations: [{key: k, valueExpression: "2"}]}`))
	for _, want := range []string{"variable x", "match condition", "validation: ", "message: ", "audit annotation"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %q", err, want)
		}
	}
}
