// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// served are some of what an API server serves.
var served = []cluster.Kind{
	{GroupKind: object.GroupKind{Kind: "Pod"}, Version: "v1", Resource: "pods", Namespaced: true},
	{GroupKind: object.GroupKind{Kind: "Service"}, Version: "v1", Resource: "services", Namespaced: true},
	{GroupKind: object.GroupKind{Kind: "ConfigMap"}, Version: "v1", Resource: "configmaps", Namespaced: true},
	{GroupKind: object.GroupKind{Group: "apps", Kind: "Deployment"}, Version: "v1", Resource: "deployments", Namespaced: true},
	{GroupKind: object.GroupKind{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}, Version: "v1", Resource: "clusterroles"},
	{GroupKind: object.GroupKind{Group: "coordination.k8s.io", Kind: "Lease"}, Version: "v1", Resource: "leases", Namespaced: true},
}

// resourcesOf lists what a webhook is asked about.
func resourcesOf(rules []admissionv1.RuleWithOperations) string {
	var out []string
	for _, r := range rules {
		for _, resource := range r.Resources {
			out = append(out, strings.TrimPrefix(r.APIGroups[0]+"/"+resource, "/"))
		}
	}
	return strings.Join(out, " ")
}

// TestHooks holds that there is a webhook only for what a rule enforces, that it
// closes only where a rule says so, and that nothing is asked that a rule is not
// about.
func TestHooks(t *testing.T) {
	const pods = "pods pods/ephemeralcontainers pods/resize apps/deployments"
	h := hooks{endpoint: endpoint{namespace: "sconce", service: "sconce"}, exempt: []string{"kube-system", "sconce"}, self: `system:serviceaccount:sconce:sc"once`, ca: []byte("ca")}
	for _, c := range []struct {
		name, spec string
		want       map[string]string
		mutate     string
	}{
		{"audit asks nothing", "action: audit", map[string]string{}, ""},
		{"one rule", "action: audit\ncontrols: [{name: privileged-container, action: deny}]", map[string]string{"ignore.sconce.dev": pods}, ""},
		{"a rule that closes", "action: audit\ncontrols: [{name: privileged-container, action: warn, failurePolicy: Fail}]", map[string]string{"fail.sconce.dev": pods}, ""},
		{"each policy its own", "action: audit\ncontrols: [{name: privileged-container, action: ratchet, failurePolicy: Fail}, {name: wildcard-url, action: deny}]",
			map[string]string{"fail.sconce.dev": pods, "ignore.sconce.dev": "rbac.authorization.k8s.io/clusterroles"}, ""},
		{"facts that a pod tells", "action: audit\ncontrols: [{name: api-server-anonymous-auth, action: deny}]", map[string]string{"ignore.sconce.dev": pods}, ""},
		{"what is remediated", "action: audit\ncontrols: [{name: privileged-container, remediate: true}]", map[string]string{}, "pods apps/deployments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := usual.mustCompile(t, enforced(t, c.spec)).baseline
			got := h.validating(b, served)
			if len(got.Webhooks) != len(c.want) {
				t.Errorf("%d webhooks, want %d", len(got.Webhooks), len(c.want))
			}
			for _, w := range got.Webhooks {
				if resources := resourcesOf(w.Rules); resources != c.want[w.Name] {
					t.Errorf("%s is asked about %s, want %s", w.Name, resources, c.want[w.Name])
				}
				if policy := strings.HasPrefix(w.Name, strings.ToLower(string(*w.FailurePolicy))); !policy {
					t.Errorf("%s has the policy %s", w.Name, *w.FailurePolicy)
				}
				if s := w.NamespaceSelector.MatchExpressions[0]; !slices.Equal(s.Values, h.exempt) || s.Operator != "NotIn" {
					t.Errorf("%s leaves out %v", w.Name, s)
				}
			}
			var mutate string
			for _, w := range h.mutating(b, served).Webhooks {
				mutate += resourcesOf(w.Rules)
				if *w.FailurePolicy != admissionv1.Ignore {
					t.Error("the mutating webhook closes")
				}
			}
			if mutate != c.mutate {
				t.Errorf("mutates %s, want %s", mutate, c.mutate)
			}
		})
	}
	if got := h.conditions()[2].Expression; got != `request.userInfo.username != "system:serviceaccount:sconce:sc\"once"` {
		t.Errorf("condition %s", got)
	}
}

// TestHookKeeper holds that nothing is left unasked about a group of which it
// cannot be found out for now what it serves, and that fixes are made no more
// once they are turned off.
func TestHookKeeper(t *testing.T) {
	s := usual.mustCompile(t, enforced(t, "action: audit\ncontrols: [{name: privileged-container, action: deny, remediate: true}]"))
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry, func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	bundle := []byte("ca")
	certs := &certificates{Certificates: admission.NewCertificates(admission.CertificateOptions{Store: secretStore{client.CoreV1().Secrets("sconce")}, Names: []string{"sconce"}})}
	certs.bundle.Store(&bundle)
	lost := false
	k := &hookKeeper{
		hooks: hooks{endpoint: endpoint{namespace: "sconce", service: "sconce"}, exempt: []string{"sconce"}}, mutate: true, client: client,
		force: func() *set { return s }, certs: certs, log: slog.New(slog.DiscardHandler), metrics: m,
		served: func(_ context.Context, wanted func(object.GroupKind) bool) ([]cluster.Kind, []verdict.Problem) {
			if !lost {
				return served, nil
			}
			if !wanted(object.GroupKind{Group: "apps", Kind: cluster.AnyKind}) || wanted(object.GroupKind{Group: "coordination.k8s.io", Kind: cluster.AnyKind}) {
				t.Error("it is not known which groups matter")
			}
			return slices.DeleteFunc(slices.Clone(served), func(k cluster.Kind) bool { return k.Group == "apps" }), []verdict.Problem{{Message: "apps does not answer"}}
		},
	}
	asked := func() (validating, mutating string) {
		v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range v.Webhooks {
			validating += resourcesOf(w.Rules)
		}
		w, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range w.Webhooks {
			mutating += resourcesOf(w.Rules)
		}
		return validating, mutating
	}
	const pods = "pods pods/ephemeralcontainers pods/resize apps/deployments"
	if err := k.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, m := asked(); v != pods || m != "pods apps/deployments" {
		t.Errorf("asked %q and %q", v, m)
	}
	lost, k.mutate = true, false
	for range 2 {
		if err := k.keep(t.Context()); err == nil || !strings.Contains(err.Error(), "apps does not answer") {
			t.Errorf("got %v, want that it is tried again", err)
		}
		if v, m := asked(); v != pods || m != "" {
			t.Errorf("asked %q and %q after a group was lost and fixes were turned off", v, m)
		}
	}
}

// TestEndpoint holds where the API server is told to ask.
func TestEndpoint(t *testing.T) {
	in := endpoint{namespace: "sconce", service: "hook"}.client("/mutate", nil)
	if in.Service == nil || in.Service.Name != "hook" || *in.Service.Path != "/mutate" || in.URL != nil {
		t.Errorf("got %+v", in)
	}
	out := endpoint{url: "https://192.0.2.7:9443/"}.client("/mutate", nil)
	if out.Service != nil || *out.URL != "https://192.0.2.7:9443/mutate" {
		t.Errorf("got %+v", out)
	}
}

// TestOptions holds that an agent says what it lacks.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		says   string
	}{
		{"all there", func(*Options) {}, ""},
		{"no cluster", func(o *Options) { o.Config = nil }, "no cluster"},
		{"no namespace", func(o *Options) { o.Namespace = "" }, "--namespace"},
		{"no way to the webhook", func(o *Options) { o.WebhookService = "" }, "--webhook-service or --webhook-url"},
		{"two ways", func(o *Options) { o.WebhookURL = "https://192.0.2.7" }, "not both"},
		{"no https", func(o *Options) { o.WebhookService, o.WebhookURL = "", "http://192.0.2.7" }, "https://192.0.2.7:9443"},
		{"reports", func(o *Options) { o.Reports = "xml" }, `unknown kind of reports "xml"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Config: &restConfig, Namespace: "sconce", WebhookService: "sconce", Exempt: []string{"kube-system", "kube-system"}}
			c.change(&o)
			done, err := o.complete()
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v, want %q", err, c.says)
			case err == nil && !slices.Equal(done.Exempt, []string{"kube-system", "sconce"}):
				t.Errorf("exempt: %v", done.Exempt)
			}
		})
	}
}
