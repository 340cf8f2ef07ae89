// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	answers "sconce.dev/sconce/answer"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/test/controlplane"
)

// staff is who may do what beside what a cluster brings: roles of both kinds,
// aggregation, names, subresources, paths, and a user that is a ServiceAccount.
const staff = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %[1]s-secrets, labels: {%[1]s: "yes"}}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [db], verbs: [get]}
- {apiGroups: [apps], resources: ["*/scale"], verbs: [update]}
- {nonResourceURLs: ["/metrics", "/debug/*"], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %[1]s-all}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {%[1]s: "yes"}}]}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: exec, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [pods/exec], verbs: ["*"]}
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s-all}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s-all}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:serviceaccount:%[1]s:robot"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: exec, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: exec}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts:%[1]s"}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: cem}]
`

// TestWhoCanIsRight holds the answers of who-can and can against the API server:
// for each request, exactly those are named that it allows.
func TestWhoCanIsRight(t *testing.T) {
	c := controlplane.Shared(t)
	ns := c.Namespace(t)
	c.Apply(t, fmt.Sprintf(staff, ns))
	eventually(t, func() error { // the controller fills the aggregated role
		if c.Kubectl(t, "get", "clusterrole", ns+"-all", "-o", "jsonpath={.rules}") == "[]" {
			return fmt.Errorf("the role is not aggregated")
		}
		return nil
	})
	client := c.Client(t)
	kubeconfig := c.Kubeconfig(t)
	subjects := []string{"user:ann", "user:bob", "user:cem", "user:dan", "sa:" + ns + "/robot", "sa:" + ns + "/default", "sa:default/default", "user:system:kube-scheduler"}
	asked, allowed := 0, 0
	for _, request := range [][]string{
		{"get", "secrets"}, {"get", "secrets", "db"}, {"get", "secret/db"}, {"list", "secrets"}, {"create", "pods/exec"}, {"get", "po"}, {"list", "pods"},
		{"update", "deployments.apps/scale"}, {"update", "deploy/scale"}, {"delete", "deploy"}, {"get", "nodes"}, {"get", "/metrics"}, {"get", "/debug/pprof"}, {"get", "/healthz"},
		{"create", "selfsubjectreviews.authentication.k8s.io"}, {"impersonate", "sa"}, {"*", "*"}, {"bind", "clusterroles"}, {"get", "ns/" + ns}, {"get", "configmaps"},
	} {
		for _, namespace := range []string{"", ns, "default"} {
			who := whoCan(t, kubeconfig, request, namespace)
			for _, s := range subjects {
				asked++
				want := review(t, client, s, request, namespace)
				if want {
					allowed++
				}
				if got := holds(who, s); got != want {
					t.Errorf("who-can %v in %q: %s is named: %v; the API server allows it: %v", request, namespace, s, got, want)
				}
				args := append([]string{"can", s}, request...)
				if namespace != "" {
					args = append(args, "-n", namespace)
				} else if !want {
					continue // without a namespace it asks for any
				}
				if out, errs, code := sconce(t, append(args, "--kubeconfig", kubeconfig)...); (code == 0) != want || code > 1 {
					t.Errorf("%v: exit code %d, the API server allows it: %v\n%s%s", args, code, want, out, errs)
				}
			}
		}
	}
	if allowed < 40 {
		t.Errorf("of %d questions only %d are allowed: too few to tell", asked, allowed)
	}
	t.Logf("%d questions, %d of them allowed", asked, allowed)
	file := filepath.Join(t.TempDir(), "all.sconce")
	if out, errs, code := sconce(t, "snapshot", "save", file, "--kubeconfig", kubeconfig); code != 0 {
		t.Fatalf("saving a snapshot ended with %d: %s%s", code, out, errs)
	}
	live, _, _ := sconce(t, "who-can", "get", "secrets", "-o", "name", "--kubeconfig", kubeconfig)
	if saved, errs, code := sconce(t, "who-can", "get", "secrets", "-o", "name", "-f", file); saved != live || code != 0 {
		t.Errorf("of a snapshot (exit code %d) the answer is\n%s%s\nof the cluster\n%s", code, saved, errs, live)
	}
	for _, s := range []string{"bob", "dan"} {
		said, _ := c.TryKubectl(t, "", "auth", "can-i", "create", "pods", "--subresource=exec", "-n", ns, "--as", s)
		_, _, code := sconce(t, "can", "user:"+s, "create", "pods/exec", "-n", ns, "--kubeconfig", kubeconfig)
		if (strings.TrimSpace(said) == "yes") != (code == 0) {
			t.Errorf("kubectl auth can-i --as %s says %q, and sconce ends with %d", s, said, code)
		}
	}
}

// whoCan asks for the names of who may do something.
func whoCan(t *testing.T, kubeconfig string, request []string, namespace string) *answers.WhoCan {
	t.Helper()
	args := append([]string{"who-can"}, request...)
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	out, errs, code := sconce(t, append(args, "-o", "json", "--kubeconfig", kubeconfig)...)
	a := &answers.WhoCan{}
	if err := json.Unmarshal([]byte(out), a); err != nil || code != 0 || !a.Complete {
		t.Fatalf("%v: exit code %d, complete %v, %v\n%s", args, code, a.Complete, err, errs)
	}
	return a
}

// holds says whether a subject, or a group that it is in, is named: where no
// namespace was asked for, for the whole cluster.
func holds(a *answers.WhoCan, subject string) bool {
	s, _ := rbac.ParseSubject(subject)
	return slices.ContainsFunc(a.Who, func(h answers.Holder) bool {
		if a.Request.Anywhere && !h.ClusterWide {
			return false
		}
		return h.Subject == s || h.Kind == rbac.Group && slices.Contains(s.Groups(), h.Name)
	})
}

// review asks the API server, in the words that the program understood.
func review(t *testing.T, client kubernetes.Interface, subject string, request []string, namespace string) bool {
	t.Helper()
	name := ""
	if len(request) == 3 {
		name = request[2]
	}
	q, err := answers.Ask(request[0], request[1], name, "", namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rbac.ParseSubject(subject)
	if err != nil {
		t.Fatal(err)
	}
	r := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: s.UserName(), Groups: s.Groups()}}
	if q.Path != "" {
		r.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: q.Path, Verb: q.Verb}
	} else {
		r.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Verb: q.Verb, Group: q.Group, Resource: q.Resource, Subresource: q.Subresource, Name: q.Name, Namespace: q.Namespace,
		}
	}
	out, err := client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Status.Allowed
}
