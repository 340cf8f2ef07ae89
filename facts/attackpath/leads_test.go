// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"slices"
	"strings"
	"testing"
)

const operatorNeeds = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
`

// bindsTo is a role and a binding of it to jane.
func bindsTo(kind, rules string) string {
	namespace := ""
	if kind == "Role" {
		namespace = ", namespace: shop"
	}
	return "---\n{apiVersion: rbac.authorization.k8s.io/v1, kind: " + kind + ", metadata: {name: jane" + namespace + "}, rules: [" + rules + "]}\n" +
		"---\n{apiVersion: rbac.authorization.k8s.io/v1, kind: " + kind + "Binding, metadata: {name: jane" + namespace + "}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: " + kind + ", name: jane}, " +
		"subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]}\n"
}

// TestLeads holds, case by case, that a way is seen which is easily missed.
func TestLeads(t *testing.T) {
	for name, c := range map[string]struct{ text, from string }{
		"a ServiceAccount default that no manifest has": {operatorNeeds + "subjects: [{kind: ServiceAccount, name: default, namespace: shop}]\n" +
			bindsTo("Role", "{apiGroups: [''], resources: [pods], verbs: [create]}"), "user:jane"},
		"a certificate in the name of a ServiceAccount": {operatorNeeds + "subjects: [{kind: ServiceAccount, name: operator, namespace: shop}]\n" +
			"---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: operator, namespace: shop}}\n" +
			bindsTo("ClusterRole", "{apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests, certificatesigningrequests/approval, signers], verbs: [create, update, approve]}"), "user:jane"},
		"a token for the API server by its audience": {operatorNeeds + "subjects: [{kind: ServiceAccount, name: operator, namespace: shop}]\n" +
			"---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: operator, namespace: shop}, automountServiceAccountToken: false}\n" +
			"---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {serviceAccountName: operator, containers: [{name: app, image: x}], " +
			"volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t, audience: 'https://kubernetes.default.svc.cluster.local'}}]}}]}}\n", "pod:shop/web"},
		"what every member of a group may as one who is authenticated": {operatorNeeds + "subjects: [{kind: Group, name: 'system:authenticated', apiGroup: rbac.authorization.k8s.io}]\n" +
			"---\n{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: devs}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: Group, name: devs, apiGroup: rbac.authorization.k8s.io}]}\n", "group:devs"},
	} {
		t.Run(name, func(t *testing.T) {
			g := clusterOf(t, c.text, true)
			paths := g.Paths(find(t, g, c.from), find(t, g, "cluster-admin"), 1)
			if len(paths) == 0 || paths[0].Possible() {
				t.Errorf("%s: no path that is sure", c.from)
			}
		})
	}
}

// TestCutOfSeveralBindings holds that a cut takes away what is needed however
// often it is given.
func TestCutOfSeveralBindings(t *testing.T) {
	text := operatorNeeds + "subjects: []\n"
	for name, rule := range map[string]string{
		"a": "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterrolebindings], verbs: [create]}",
		"b": "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind]}",
		"c": "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterrolebindings], verbs: [update]}",
		"d": "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind]}",
		"e": "{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind]}",
	} {
		text += strings.ReplaceAll(strings.ReplaceAll(bindsTo("ClusterRole", rule), "metadata: {name: jane", "metadata: {name: "+name), "kind: ClusterRole, name: jane", "kind: ClusterRole, name: "+name)
	}
	g := clusterOf(t, text, true)
	cut := g.Cut(find(t, g, "user:jane"), find(t, g, "cluster-admin"))
	var keys []string
	for _, c := range cut.Changes {
		keys = append(keys, c.Key)
	}
	slices.Sort(keys)
	if want := []string{"binding ClusterRoleBinding.rbac.authorization.k8s.io a", "binding ClusterRoleBinding.rbac.authorization.k8s.io c"}; !slices.Equal(keys, want) {
		t.Errorf("the cut is %q; want %q", keys, want)
	}
}

// TestCutIsNotExact holds that a cut is not called the smallest where one change
// would do what it takes two for: to delete the binding x.
func TestCutIsNotExact(t *testing.T) {
	text := operatorNeeds + "subjects: [{kind: User, name: root, apiGroup: rbac.authorization.k8s.io}]\n"
	var accounts []string
	for _, name := range []string{"a", "b"} {
		text += "---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: " + name + ", namespace: shop}}\n" +
			"---\n{apiVersion: v1, kind: Pod, metadata: {name: " + name + ", namespace: shop}, spec: {serviceAccountName: " + name + ", containers: [{name: app, image: x}]}}\n"
		accounts = append(accounts, "{kind: ServiceAccount, name: "+name+", namespace: shop}")
	}
	for name, rule := range map[string]string{
		"x": "{apiGroups: [rbac.authorization.k8s.io, certificates.k8s.io], resources: [clusterrolebindings, certificatesigningrequests], verbs: [create]}",
		"z": "{apiGroups: [rbac.authorization.k8s.io, certificates.k8s.io], resources: [clusterroles, certificatesigningrequests/approval, signers], verbs: [bind, update, approve]}",
	} {
		one := strings.ReplaceAll(bindsTo("ClusterRole", rule), "{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}", strings.Join(accounts, ", "))
		text += strings.ReplaceAll(one, "name: jane", "name: "+name)
	}
	g := clusterOf(t, text, true)
	cut := g.Cut(append(find(t, g, "pod:shop/a"), find(t, g, "pod:shop/b")...), find(t, g, "cluster-admin"))
	if len(cut.Changes) != 2 || cut.Exact {
		t.Errorf("a cut of %d changes, exact: %v; want 2, not called exact", len(cut.Changes), cut.Exact)
	}
}

// TestNothingRead holds that where no beginnings were read, it is not known
// whether there are some.
func TestNothingRead(t *testing.T) {
	for _, p := range clusterOf(t, "", false).Pairs() {
		if p.Entry == "any-pod" && len(p.Unknown) == 0 {
			t.Errorf("%s -> %s: no pods were read, and nothing is unknown", p.Entry, p.Jewel)
		}
	}
	for _, p := range clusterOf(t, "", true).Pairs() {
		if slices.Contains([]string{"any-pod", "ci-token"}, p.Entry) && len(p.Unknown) > 0 {
			t.Errorf("%s -> %s: %v, though there are none", p.Entry, p.Jewel, p.Unknown)
		}
	}
}
