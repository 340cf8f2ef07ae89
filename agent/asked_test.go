// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
)

// blocking returns a Kyverno policy that denies what a match describes.
func blocking(match string) string {
	return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  validationFailureAction: Enforce\n  rules:\n  - name: r\n    match: {any: [{resources: {" + match +
		"}}]}\n    validate: {message: it stays, deny: {}}\n"
}

// nativeFor returns a ValidatingAdmissionPolicy about operations on resources.
func nativeFor(groups, operations, resources string) string {
	return fmt.Sprintf("apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: p}\nspec:\n"+
		"  matchConstraints: {resourceRules: [{apiGroups: [%s], apiVersions: [v1], operations: [%s], resources: [%s]}]}\n"+
		"  validations: [{expression: 'false', message: it stays}]\n---\n", groups, operations, resources) + bindingDoc("p")
}

// deniesAll is a constraint of a template with some Rego.
func deniesAll(rego, kinds string) string {
	return "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata: {name: stays}\nspec:\n  crd: {spec: {names: {kind: Stays}}}\n  targets:\n" +
		"  - target: admission.k8s.gatekeeper.sh\n    rego: |\n      package stays\n      violation[{\"msg\": \"it stays\"}] { " + rego + " }\n---\n" +
		"apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Stays\nmetadata: {name: p}\nspec: {match: {kinds: [" + kinds + "]}}\n"
}

// TestAsked holds that the webhook is asked about deletions, connections and
// subresources where a policy asks for them, and nowhere else.
func TestAsked(t *testing.T) {
	h := hooks{endpoint: endpoint{namespace: "sconce", service: "sconce"}}
	deployments := cluster.Kind{GroupKind: object.GroupKind{Group: "apps", Kind: "Deployment"}, Version: "v1", Resource: "deployments"}
	kinds := []cluster.Kind{
		{GroupKind: object.GroupKind{Kind: "ConfigMap"}, Version: "v1", Resource: "configmaps"},
		{GroupKind: object.GroupKind{Kind: "Pod"}, Version: "v1", Resource: "pods"},
		{GroupKind: object.GroupKind{Group: "sconce.dev", Kind: "Baseline"}, Version: "v1alpha1", Resource: "baselines"},
		deployments,
	}
	const pods = "CREATE,UPDATE pods pods/ephemeralcontainers pods/resize; CREATE,UPDATE apps/deployments"
	for _, c := range []struct{ name, policy, want string }{
		{"a pattern", requireTeam("p", "ConfigMap"), "CREATE,UPDATE configmaps"},
		{"a pattern about pods", requireTeam("p", "Pod"), pods},
		{"kyverno, all operations", blocking("kinds: [ConfigMap]"), "CREATE,UPDATE,DELETE configmaps"},
		{"kyverno, deletions", blocking("kinds: [ConfigMap], operations: [DELETE]"), "DELETE configmaps"},
		{"kyverno, deletions of anything", blocking(`kinds: ["*"], operations: [DELETE]`), "DELETE configmaps pods; DELETE apps/deployments"},
		{"kyverno, a connection", blocking("kinds: [Pod/exec]"), "CONNECT pods/exec"},
		{"kyverno, scale", blocking("kinds: [Deployment/scale], operations: [UPDATE]"), "UPDATE apps/deployments/scale"},
		{"kyverno, evictions", blocking("kinds: [Pod/eviction]"), "CREATE pods/eviction"},
		{"natively, deletions", nativeFor(`""`, "DELETE", "configmaps"), "DELETE configmaps"},
		{"natively, all that can be done", nativeFor(`""`, `"*"`, "configmaps"), "CREATE,UPDATE,DELETE configmaps"},
		{"natively, a connection", nativeFor(`""`, "CONNECT", "pods/exec, pods/attach"), "CONNECT pods/attach pods/exec"},
		{"natively, scale of anything", nativeFor(`"*"`, "UPDATE", `"*/scale"`), "UPDATE apps/deployments/scale"},
		{"natively, the status by name", nativeFor("apps", "UPDATE", "deployments/status"), "UPDATE apps/deployments/status"},
		{"natively, every subresource", nativeFor("apps", "UPDATE", "deployments/*"), "UPDATE apps/deployments/scale"},
		{"gatekeeper", deniesAll("true", `{apiGroups: [""], kinds: [ConfigMap]}`), "CREATE,UPDATE configmaps"},
		{"gatekeeper, deletions", deniesAll(`input.review.operation == "DELETE"`, `{apiGroups: [""], kinds: [ConfigMap]}`), "CREATE,UPDATE,DELETE configmaps"},
		{"gatekeeper, evictions", deniesAll("true", `{apiGroups: [policy], kinds: [Eviction]}`), "CREATE pods/eviction"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := withPolicies().mustCompile(t, enforced(t, "action: audit"), inFile(t, "a.yaml", c.policy))
			var got []string
			for _, w := range h.validating(s.baseline, kinds).Webhooks {
				for _, r := range w.Rules {
					var operations []string
					for _, op := range r.Operations {
						operations = append(operations, string(op))
					}
					words := []string{strings.Join(operations, ",")}
					for _, resource := range r.Resources {
						words = append(words, strings.TrimPrefix(r.APIGroups[0]+"/"+resource, "/"))
					}
					got = append(got, strings.Join(words, " "))
				}
			}
			if asked := strings.Join(got, "; "); asked != c.want {
				t.Errorf("asked about %s, want %s", asked, c.want)
			}
		})
	}
}
