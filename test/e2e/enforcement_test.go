// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// hollow is what looks as if it enforced something, and what does. Nothing of it
// is about objects of other tests.
const hollow = `
apiVersion: v1
kind: Service
metadata: {name: asleep, namespace: %[1]s}
spec: {selector: {app: nothing}, ports: [{port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: awake, namespace: %[1]s}
spec: {ports: [{port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: awake-1, namespace: %[1]s, labels: {kubernetes.io/service-name: awake}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
ports: [{port: 443}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s-unbound}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]}
  validations: [{expression: "object.spec.replica < 100"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s-dangling}
spec: {policyName: %[1]s-deleted, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s-works}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    namespaceSelector: {matchExpressions: [{key: %[1]s-skip, operator: DoesNotExist}]}
    resourceRules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
  validations: [{expression: "true"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s-works}
spec:
  policyName: %[1]s-works
  validationActions: [Deny]
  paramRef: {name: forgotten, namespace: %[1]s, parameterNotFoundAction: Deny}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %[1]s}
webhooks:
- name: gone.example.com
  clientConfig: {service: {name: uninstalled, namespace: %[1]s}, caBundle: %[2]s}
  rules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
  sideEffects: None
  admissionReviewVersions: [v1]
- name: asleep.example.com
  clientConfig: {service: {name: asleep, namespace: %[1]s}, caBundle: %[2]s}
  rules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
  sideEffects: None
  admissionReviewVersions: [v1]
- name: awake.example.com
  clientConfig: {service: {name: awake, namespace: %[1]s}}
  rules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
  sideEffects: None
  admissionReviewVersions: [v1]
`

// TestEnforcement: what exists and does not enforce is found in a real cluster,
// and what does is not.
func TestEnforcement(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	authority, err := os.ReadFile(filepath.Join(c.Dir(), "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := fmt.Sprintf(hollow, namespace, base64.StdEncoding.EncodeToString(authority))
	c.Apply(t, manifests)
	t.Cleanup(func() {
		for _, what := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"} {
			_, _ = c.TryKubectl(t, "", "delete", what, "--ignore-not-found", namespace, namespace+"-unbound", namespace+"-dangling", namespace+"-works")
		}
	})
	c.Kubectl(t, "label", "namespace", namespace, namespace+"-skip=yes")

	want := map[string]string{
		"policy-unbound ValidatingAdmissionPolicy.admissionregistration.k8s.io " + namespace + "-unbound":                      "so it holds for nothing",
		"policy-broken ValidatingAdmissionPolicy.admissionregistration.k8s.io " + namespace + "-unbound":                       "undefined field 'replica'",
		"policy-binding-dangling ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io " + namespace + "-dangling":     "which does not exist",
		"policy-parameter-absent ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io " + namespace + "-works":        "forgotten",
		"policy-exempt-namespace ValidatingAdmissionPolicy.admissionregistration.k8s.io " + namespace + "-works":               namespace + "-skip",
		"webhook-unreachable ValidatingWebhookConfiguration.admissionregistration.k8s.io " + namespace + " gone.example.com":   "does not exist",
		"webhook-unreachable ValidatingWebhookConfiguration.admissionregistration.k8s.io " + namespace + " asleep.example.com": "no pod is ready",
		"webhook-authority ValidatingWebhookConfiguration.admissionregistration.k8s.io " + namespace + " awake.example.com":    "no authority",
	}
	eventually(t, func() error { return hollowIs(t, c, namespace, want) })
}

// hollowIs scans the cluster and says what is found that is not wanted, or not
// found.
func hollowIs(t *testing.T, c *controlplane.ControlPlane, namespace string, want map[string]string) error {
	t.Helper()
	got := scanWith(t, "scan", "cluster", "--kubeconfig", c.Kubeconfig(t), "--fail-on", "none", "--control",
		"policy-unbound,policy-broken,policy-binding-dangling,policy-parameter-absent,policy-exempt-namespace,webhook-unreachable,webhook-authority")
	for _, p := range got.problems {
		return fmt.Errorf("a problem: %s", p.Message)
	}
	return matchFindings(got, namespace, want)
}

// matchFindings holds the findings on the objects of a test, which have the name
// of its namespace in theirs, against those that are wanted.
func matchFindings(got *scanned, namespace string, want map[string]string) error {
	seen := map[string]bool{}
	for _, f := range got.findings {
		if !strings.HasPrefix(f.Object.Name, namespace) {
			continue
		}
		key := f.Control + " " + f.Object.String()
		if _, webhook, ok := strings.Cut(f.Message, `the webhook "`); ok {
			webhook, _, _ = strings.Cut(webhook, `"`)
			key += " " + webhook
		}
		text, ok := want[key]
		if !ok || f.Outcome != verdict.Fail || !strings.Contains(f.Message, text) {
			return fmt.Errorf("%s: %s: not wanted: %s", key, f.Outcome, f.Message)
		}
		seen[key] = true
	}
	for key := range want {
		if !seen[key] {
			return fmt.Errorf("%s: not found", key)
		}
	}
	return nil
}
