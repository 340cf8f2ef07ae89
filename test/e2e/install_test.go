// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report/openreports"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/test/process"
	"sconce.dev/sconce/verdict"
)

const installNamespace = "sconce-system"

// manifest is the path of a file that a person installs.
func manifest(t *testing.T, name string) string {
	t.Helper()
	root, err := process.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "config", "install", name)
}

// install does what docs/install.md says.
func install(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	c.Kubectl(t, "apply", "--server-side", "--warnings-as-errors", "-f", manifest(t, "crds.yaml"), "-f", manifest(t, "namespace.yaml"))
	c.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "-f", manifest(t, "crds.yaml"))
	c.Kubectl(t, "apply", "--warnings-as-errors", "-f", manifest(t, "sconce.yaml"))
}

// TestInstall holds that a real API server takes what is installed, that the
// pods may run where only restricted ones may, that nothing is lost when it is
// installed again, and that all of it can be removed.
func TestInstall(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	client := c.Client(t)
	install(t, c)
	t.Run("the pods may run", func(t *testing.T) { podsMade(t, client) })
	t.Run("the names of kinds are the API's", func(t *testing.T) { kindsServed(t, client) })
	t.Run("the agent may do what it must and no more", func(t *testing.T) { permissions(t, client) })
	t.Run("installed again, what the agent wrote is kept", func(t *testing.T) { reinstall(t, c, client) })
	t.Run("reports are taken as they are", func(t *testing.T) { reportsTaken(t, c) })
	t.Run("all of it goes", func(t *testing.T) {
		c.Kubectl(t, "delete", "--wait=false", "-f", manifest(t, "sconce.yaml"), "-f", manifest(t, "namespace.yaml"), "-f", manifest(t, "crds.yaml"))
		left, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
		if err != nil || len(left.Items) > 0 {
			t.Errorf("%d webhook configurations are left, %v", len(left.Items), err)
		}
	})
}

// podsMade waits for the pods of the Deployment: Pod Security, quota and
// priority have let them in. Nothing runs them here.
func podsMade(t *testing.T, client kubernetes.Interface) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		pods, err := client.CoreV1().Pods(installNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=agent"})
		if err == nil && len(pods.Items) == 2 {
			return
		}
		select {
		case <-ctx.Done():
			events, _ := client.CoreV1().Events(installNamespace).List(t.Context(), metav1.ListOptions{})
			for i := range events.Items {
				t.Log(events.Items[i].Reason, events.Items[i].Message)
			}
			t.Fatalf("the Deployment has not got its two pods: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// kindsServed holds the names in the ClusterRole against what the API serves:
// those of groups that are Kubernetes' own all have to exist.
func kindsServed(t *testing.T, client kubernetes.Interface) {
	role, err := client.RbacV1().ClusterRoles().Get(t.Context(), "sconce", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	groups := map[string]bool{}
	for _, l := range lists {
		group, _, ok := strings.Cut(l.GroupVersion, "/")
		if !ok {
			group = ""
		}
		groups[group] = true
		for i := range l.APIResources {
			served[group+"/"+l.APIResources[i].Name] = true
		}
	}
	n := 0
	for _, r := range role.Rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				if groups[group] && !served[group+"/"+resource] && resource != "events" {
					t.Errorf("the ClusterRole names %s of the group %q, which the API does not serve", resource, group)
				}
				n++
			}
		}
	}
	if n < 50 {
		t.Errorf("the ClusterRole names %d resources", n)
	}
}

// permissions asks the API server what the agent may do.
func permissions(t *testing.T, client kubernetes.Interface) {
	webhooks := func(verb, name string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Group: admissionv1.GroupName, Resource: "validatingwebhookconfigurations", Verb: verb, Name: name}
	}
	for _, q := range []struct {
		may  bool
		what authorizationv1.ResourceAttributes
	}{
		{true, authorizationv1.ResourceAttributes{Resource: "pods", Verb: "list"}},
		{true, authorizationv1.ResourceAttributes{Resource: "pods", Verb: "watch"}},
		{true, authorizationv1.ResourceAttributes{Group: "sconce.dev", Resource: "baselines", Subresource: "status", Verb: "patch"}},
		{true, authorizationv1.ResourceAttributes{Group: "openreports.io", Resource: "reports", Verb: "create", Namespace: "default"}},
		{true, webhooks("update", "sconce")},
		{true, authorizationv1.ResourceAttributes{Resource: "secrets", Verb: "update", Namespace: installNamespace, Name: "sconce-webhook"}},
		{true, authorizationv1.ResourceAttributes{Resource: "configmaps", Verb: "patch", Namespace: installNamespace, Name: "sconce-last-good"}},
		{true, authorizationv1.ResourceAttributes{Group: "coordination.k8s.io", Resource: "leases", Verb: "update", Namespace: installNamespace, Name: "sconce"}},
		{false, authorizationv1.ResourceAttributes{Group: "coordination.k8s.io", Resource: "leases", Verb: "update", Namespace: "kube-system", Name: "kube-scheduler"}},
		{false, authorizationv1.ResourceAttributes{Resource: "secrets", Verb: "create", Namespace: installNamespace}},
		{false, authorizationv1.ResourceAttributes{Resource: "configmaps", Verb: "update", Namespace: installNamespace, Name: "kube-root-ca.crt"}},
		{false, webhooks("update", "other")},
		{false, webhooks("create", "")},
		{false, webhooks("delete", "sconce")},
		{false, authorizationv1.ResourceAttributes{Group: "sconce.dev", Resource: "baselines", Verb: "update"}},
		{false, authorizationv1.ResourceAttributes{Resource: "secrets", Verb: "list"}},
		{false, authorizationv1.ResourceAttributes{Resource: "secrets", Verb: "list", Namespace: installNamespace}},
		{false, authorizationv1.ResourceAttributes{Resource: "secrets", Verb: "get", Namespace: installNamespace, Name: "other"}},
		{false, authorizationv1.ResourceAttributes{Resource: "pods", Verb: "create", Namespace: installNamespace}},
		{false, authorizationv1.ResourceAttributes{Resource: "pods", Verb: "patch"}},
		{false, authorizationv1.ResourceAttributes{Resource: "nodes", Subresource: "proxy", Verb: "get"}},
		{false, authorizationv1.ResourceAttributes{Group: rbacv1.GroupName, Resource: "clusterroles", Verb: "update"}},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + installNamespace + ":sconce", ResourceAttributes: &q.what,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + installNamespace, "system:authenticated"},
		}}
		got, err := client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != q.may {
			t.Errorf("may %s %s %s/%s %q in %q: %v, want %v", q.what.Verb, q.what.Group, q.what.Resource, q.what.Subresource, q.what.Name, q.what.Namespace, got.Status.Allowed, q.may)
		}
	}
}

// reinstall writes what the agent writes into objects that are installed, and
// installs again.
func reinstall(t *testing.T, c *controlplane.ControlPlane, client kubernetes.Interface) {
	configurations := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	now, err := configurations.Get(t.Context(), "sconce", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	none, url := admissionv1.SideEffectClassNone, "https://127.0.0.1:1/validate"
	now.Webhooks = []admissionv1.ValidatingWebhook{{
		Name: "fail.sconce.dev", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none,
		ClientConfig: admissionv1.WebhookClientConfig{URL: &url},
	}}
	if _, err := configurations.Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	secrets := client.CoreV1().Secrets(installNamespace)
	if _, err := secrets.Patch(t.Context(), "sconce-webhook", types.MergePatchType, []byte(`{"data":{"tls.crt":"eA=="}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	install(t, c)
	if kept, err := secrets.Get(t.Context(), "sconce-webhook", metav1.GetOptions{}); err != nil || string(kept.Data["tls.crt"]) != "x" {
		t.Errorf("after it was installed again the Secret holds %d fields, %v", len(kept.Data), err)
	}
	now, err = configurations.Get(t.Context(), "sconce", metav1.GetOptions{})
	if err != nil || len(now.Webhooks) != 1 {
		t.Errorf("after it was installed again the configuration has %d webhooks, %v", len(now.Webhooks), err)
	}
}

// reportsTaken writes reports of both APIs by the CRDs that are installed where
// there are none, with every field checked, and reads them.
func reportsTaken(t *testing.T, c *controlplane.ControlPlane) {
	for name, api := range map[string]openreports.API{"openreports": openreports.OpenReports, "policyreports": openreports.PolicyReports} {
		file := manifest(t, name+"-crds.yaml")
		c.Kubectl(t, "apply", "--server-side", "--warnings-as-errors", "-f", file)
		c.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "-f", file)
		for _, namespace := range []string{"", "default"} {
			reportTaken(t, c, api, namespace)
		}
	}
}

func reportTaken(t *testing.T, c *controlplane.ControlPlane, api openreports.API, namespace string) {
	t.Helper()
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	report := openreports.Build(api, namespace, largeReport(namespace))
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var to dynamic.ResourceInterface = client.Resource(api.Resource(namespace))
	if namespace != "" {
		to = client.Resource(api.Resource(namespace)).Namespace(namespace)
	}
	options := metav1.PatchOptions{FieldManager: "sconce", FieldValidation: metav1.FieldValidationStrict}
	first, err := to.Patch(t.Context(), openreports.Name, types.ApplyPatchType, data, options)
	if err != nil {
		t.Fatalf("applying the %s: %v", report.Kind, err)
	}
	if got := first.GetAnnotations()[openreports.HashAnnotation]; got != report.Hash() {
		t.Errorf("the %s has the hash %q, want %q", report.Kind, got, report.Hash())
	}
	again, err := to.Patch(t.Context(), openreports.Name, types.ApplyPatchType, data, options)
	if err != nil || again.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("applying the same %s again writes it: version %s after %s, %v", report.Kind, again.GetResourceVersion(), first.GetResourceVersion(), err)
	}
	results, _, err := unstructuredResults(first.Object)
	if err != nil || len(results) != len(report.Results) {
		t.Errorf("the %s has %d results, want %d: %v", report.Kind, len(results), len(report.Results), err)
	}
}

func unstructuredResults(content map[string]any) (results []any, ok bool, err error) {
	results, ok = content["results"].([]any)
	if !ok {
		err = fmt.Errorf("results is %T", content["results"])
	}
	return results, ok, err
}

// largeReport is as much as a report ever holds.
func largeReport(namespace string) openreports.Input {
	in := openreports.Input{Baseline: "cluster", Verdicts: verdict.Counts{Fail: 2000}, Problems: []verdict.Problem{{Stage: verdict.Reading, Message: "x"}}}
	for i := range 2000 {
		in.Findings = append(in.Findings, verdict.Finding{
			Control: "privileged-container", Outcome: verdict.Fail, Severity: "critical", Action: "audit", Fingerprint: fmt.Sprint(i),
			Object: object.Ref{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%d-%s", i, strings.Repeat("n", 200))},
			Path:   "spec.containers[app].securityContext.privileged", Message: strings.Repeat("m", 2000),
		})
	}
	return in
}
