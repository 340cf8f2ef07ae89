// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
)

// said are the facts, by what they are about.
func said(kept []any, env *facts.Env) map[string]string {
	out := map[string]string{}
	attackpath.Whole.Derive(kept, env, func(fact *object.Object) {
		out[fact.Subject().Ref.String()] = string(fact.Root.JSON())
	})
	return out
}

// drawObject is one of a few objects that have to do with each other.
func drawObject(t *rapid.T) string {
	ns := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	account := pick("account", "one", "two")
	switch pick("kind", "ns", "sa", "pod", "deployment", "role", "binding", "clusterbinding", "policy", "service", "secret", "node", "webhook") {
	case "ns":
		return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {pod-security.kubernetes.io/enforce: %s}}}", ns, pick("level", "restricted", "privileged", "baseline"))
	case "sa":
		return fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: %s, namespace: %s}, automountServiceAccountToken: %s}", account, ns, pick("mount", "true", "false"))
	case "pod":
		name, owner := "p", ""
		if rapid.Bool().Draw(t, "owned") {
			name, owner = "web-x-1", ", ownerReferences: [{controller: true, kind: ReplicaSet, name: web-x}]"
		}
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s, labels: {app: web, pod-template-hash: x}%s}, spec: %s}", name, ns, owner, drawSpec(t, account))
	case "deployment":
		return fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: %s}, spec: {template: {metadata: {labels: {app: web}}, spec: %s}}}", ns, drawSpec(t, account))
	case "role":
		return fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: %s}, rules: [{apiGroups: ['*'], resources: [%s], verbs: [%s]%s}]}",
			pick("role", "r", "edit"), pick("resource", "'*'", "pods", "pods/exec", "secrets", "rolebindings, roles", "nodes", "certificatesigningrequests, certificatesigningrequests/approval, signers"),
			pick("verb", "'*'", "get", "create", "'create', 'update'", "bind, create"), pick("names", "", ", resourceNames: [p]"))
	case "binding":
		return fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: %s, namespace: %s}, roleRef: {kind: ClusterRole, name: %s, apiGroup: rbac.authorization.k8s.io}, subjects: [%s]}",
			pick("name", "bx", "by"), ns, pick("role", "r", "edit"), drawSubject(t, account))
	case "clusterbinding":
		return fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: %s}, roleRef: {kind: ClusterRole, name: %s, apiGroup: rbac.authorization.k8s.io}, subjects: [%s]}",
			pick("name", "bx", "by"), pick("role", "r", "edit", "cluster-admin"), drawSubject(t, account))
	case "policy":
		return fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: %s}, spec: {podSelector: {}}}", ns)
	case "service":
		return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %s}, spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}", ns)
	case "secret":
		return fmt.Sprintf("{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {name: t, namespace: %s, annotations: {kubernetes.io/service-account.name: %s}}}", ns, account)
	case "webhook":
		return fmt.Sprintf("{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: w}, webhooks: [{name: w, rules: [{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*']}], clientConfig: {service: {name: web, namespace: %s}}}]}", ns)
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {%s: ''}}}", pick("label", "x", "node-role.kubernetes.io/control-plane"))
}

func drawSubject(t *rapid.T, account string) string {
	return rapid.SampledFrom([]string{
		"{kind: ServiceAccount, name: " + account + ", namespace: a}", "{kind: ServiceAccount, name: " + account + ", namespace: b}", "{kind: User, name: jane}",
		"{kind: Group, name: 'system:serviceaccounts:a'}", "{kind: Group, name: 'system:authenticated'}", "{kind: Group, name: 'system:unauthenticated'}",
	}).Draw(t, "subject")
}

func drawSpec(t *rapid.T, account string) string {
	return fmt.Sprintf("{serviceAccountName: %s, %s containers: [{name: app, image: x, ports: [{containerPort: 80}], securityContext: {privileged: %t}}]}", account,
		rapid.SampledFrom([]string{"", "nodeName: n1, ", "hostPID: true, "}).Draw(t, "spec"), rapid.Bool().Draw(t, "privileged"))
}

// TestIncremental holds what is said after each of a few changes against what is
// said of the same objects read at once.
func TestIncremental(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		env := &facts.Env{Minor: 36, Complete: rapid.Bool().Draw(t, "complete")}
		l := attackpath.Whole.Live()
		g := attackpath.New(nil, env)
		now := map[object.Ref]any{}
		got := map[string]string{}
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			o := parse(t, drawObject(t))
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				delete(now, o.Ref)
				l.Set(o.Ref, nil)
				g.Set(o.Ref, nil)
			} else {
				now[o.Ref] = attackpath.Keep(o)
				l.Set(o.Ref, now[o.Ref])
				g.Set(o.Ref, now[o.Ref])
			}
			if rapid.Bool().Draw(t, "more") {
				continue
			}
			l.Settle(env, func(subject object.Ref, all []*object.Object) {
				delete(got, subject.String())
				for _, fact := range all {
					got[subject.String()] = string(fact.Root.JSON())
				}
			})
			var kept []any
			for _, k := range now {
				kept = append(kept, k)
			}
			if diff := cmp.Diff(said(kept, env), got); diff != "" {
				t.Fatalf("facts after a change (-whole +incremental):\n%s", diff)
			}
			if diff := cmp.Diff(every(attackpath.New(kept, env)), every(g)); diff != "" {
				t.Fatalf("steps after a change (-whole +incremental):\n%s", diff)
			}
		}
	})
}

func parse(t *rapid.T, text string) *object.Object {
	root, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return object.New(root, &object.Origin{Source: "test.yaml", Text: []byte(text), FirstLine: 1})
}

// every is all that a graph says, as text.
func every(g *attackpath.Graph) []string {
	var out []string
	for s := range g.Each {
		out = append(out, fmt.Sprintf("%s -> %s: %s, %v, %s", g.Name(s.From), g.Name(s.To), s.Edge.Name, s.Change, s.Unknown))
	}
	slices.Sort(out)
	for _, p := range g.Pairs() {
		line := fmt.Sprintf("%s -> %s: %d of %d, %d possible", p.Entry, p.Jewel, p.Reaching, p.Entries, p.Possible)
		if p.Shortest != nil {
			line += ": " + strings.Join(words(*p.Shortest), "; ")
		}
		out = append(out, line)
	}
	return out
}
