// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
)

// read returns the objects of a text.
func read(t testing.TB, text string) []*object.Object {
	t.Helper()
	var out []*object.Object
	origin := &object.Origin{Source: "test.yaml", Text: []byte(text), FirstLine: 1}
	for doc := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		if root.Kind == object.Null {
			continue
		}
		objects, err := object.FromNode(root, origin)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

func keep(objects []*object.Object) []any {
	var out []any
	for _, o := range objects {
		if k := attackpath.Keep(o); k != nil {
			out = append(out, k)
		}
	}
	return out
}

func clusterOf(t testing.TB, text string, complete bool) *attackpath.Graph {
	t.Helper()
	return attackpath.New(keep(read(t, text)), &facts.Env{Minor: 36, Complete: complete})
}

func find(t testing.TB, g *attackpath.Graph, what string) []int {
	t.Helper()
	v, err := g.Find(what)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// words are a path as its steps.
func words(p attackpath.Path) []string {
	var out []string
	for _, s := range p.Steps {
		line := s.Words
		if s.Change != nil {
			line += fmt.Sprintf(" [%s]", s.Change.Key)
		}
		if s.Unknown != "" {
			line += " (?" + s.Unknown + ")"
		}
		out = append(out, line)
	}
	return out
}

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: ops}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: ops}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: app, image: web}]
---
apiVersion: v1
kind: Pod
metadata: {name: operator, namespace: ops}
spec:
  serviceAccountName: operator
  nodeName: n1
  containers: [{name: run, image: operator}]
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: ops}
spec:
  automountServiceAccountToken: false
  nodeName: n1
  containers: [{name: agent, image: agent, securityContext: {privileged: true}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: runner}
rules: [{apiGroups: [""], resources: [pods/exec], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web-runs, namespace: ops}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: runner}
subjects: [{kind: ServiceAccount, name: web, namespace: shop}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: operator, namespace: ops}]
`

func TestPaths(t *testing.T) {
	g := clusterOf(t, shop, true)
	for _, test := range []struct {
		from, to string
		want     []string
	}{
		{"pod:shop/web", "cluster-admin", []string{
			"container app of Deployment shop/web takes the token of the pod's ServiceAccount: ServiceAccount shop/web [unneeded-token Deployment.apps shop/web]",
			"ServiceAccount shop/web runs a command in a pod: Pod ops/operator [binding RoleBinding.rbac.authorization.k8s.io ops/web-runs]",
			"container run of Pod ops/operator takes the token of the pod's ServiceAccount: ServiceAccount ops/operator [unneeded-token Pod ops/operator]",
			"ServiceAccount ops/operator does everything: cluster-admin [binding ClusterRoleBinding.rbac.authorization.k8s.io operator]",
		}},
		{"pod:ops/agent", "node", []string{
			"container agent of Pod ops/agent mounts the node's disk from a privileged container: node n1 [privileged-container Pod ops/agent agent]",
		}},
		{"sa:shop/web", "sa:ops/operator", []string{
			"ServiceAccount shop/web runs a command in a pod: Pod ops/operator [binding RoleBinding.rbac.authorization.k8s.io ops/web-runs]",
			"container run of Pod ops/operator takes the token of the pod's ServiceAccount: ServiceAccount ops/operator [unneeded-token Pod ops/operator]",
		}},
		{"sa:shop/default", "cluster-admin", nil},
	} {
		from, err := g.Find(test.from)
		if err != nil && test.want != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range g.Paths(from, find(t, g, test.to), 1) {
			got = words(p)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", test.from, test.to, diff)
		}
	}
}

// TestSeveralPaths holds that paths come by their effort and differ.
func TestSeveralPaths(t *testing.T) {
	g := clusterOf(t, shop, true)
	seen, last := map[string]bool{}, 0
	paths := g.Paths(find(t, g, "pod:shop/web"), find(t, g, "cluster-admin"), 5)
	for _, p := range paths {
		key := strings.Join(words(p), "\n")
		if seen[key] || p.Effort < last {
			t.Errorf("effort %d after %d, seen %t:\n%s", p.Effort, last, seen[key], key)
		}
		seen[key], last = true, p.Effort
	}
	if len(paths) < 2 {
		t.Errorf("%d paths; want the operator's pod, and that of the agent beside it", len(paths))
	}
}

func TestPairs(t *testing.T) {
	var got []string
	for _, p := range clusterOf(t, shop, true).Pairs() {
		if p.Entry == attackpath.EntryPod {
			got = append(got, fmt.Sprintf("%s: %d of %d, possibly %d", p.Jewel, p.Reaching, p.Entries, p.Possible))
		}
	}
	want := []string{"cluster-admin: 3 of 3, possibly 0", "node: 3 of 3, possibly 0", "secrets: 3 of 3, possibly 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCut(t *testing.T) {
	g := clusterOf(t, shop, true)
	cut := g.Cut(find(t, g, "any-pod"), find(t, g, "cluster-admin"))
	var got []string
	for _, c := range cut.Changes {
		got = append(got, fmt.Sprintf("%s: %d, %d of %d (%s)", c.Object, c.Breaks, c.Cumulated, cut.Paths, c.Control))
	}
	want := []string{"ClusterRoleBinding.rbac.authorization.k8s.io operator: 3, 3 of 3 (cluster-admin-binding)"}
	if diff := cmp.Diff(want, got); diff != "" || !cut.Exact || len(cut.Open) != 0 {
		t.Errorf("exact %t, %d open (-want +got):\n%s", cut.Exact, len(cut.Open), diff)
	}
}

// TestIncomplete holds that nothing is said not to be there among objects that
// are not all there are.
func TestIncomplete(t *testing.T) {
	for _, p := range clusterOf(t, shop, false).Pairs() {
		if p.Reaching < p.Entries && len(p.Unknown) == 0 {
			t.Errorf("%s to %s: %d of %d, and nothing is unknown", p.Entry, p.Jewel, p.Reaching, p.Entries)
		}
	}
	g := clusterOf(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gone}
subjects: [{kind: User, name: jane}]
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
`, false)
	paths := g.Paths(find(t, g, "user:jane"), find(t, g, "secret:shop/db"), 1)
	if len(paths) != 1 || !paths[0].Possible() {
		t.Errorf("a role that was not read may grant anything; got %v", paths)
	}
}

func TestFind(t *testing.T) {
	g := clusterOf(t, shop, true)
	for what, want := range map[string]string{
		"pod:shop/web":            "workload:shop/Deployment/web",
		"pod:shop/deployment/web": "workload:shop/Deployment/web",
		"container:shop/web/app":  "container:shop/Deployment/web/app",
		"sa:ops/operator":         "sa:ops/operator",
		"node:n1":                 "node:n1",
		"cluster-admin":           "cluster-admin",
		"namespace:ops":           "namespace:ops",
		"editor:ops":              "editor:ops",
	} {
		v := find(t, g, what)
		if len(v) != 1 || g.Name(v[0]) != want {
			t.Errorf("%s is %d vertices; want %s", what, len(v), want)
		}
	}
	for _, what := range []string{"", "shop/web", "pod:shop/gone", "thing:x", "sa:"} {
		if v, err := g.Find(what); err == nil {
			t.Errorf("%q is %d vertices; want an error", what, len(v))
		} else {
			t.Log(err)
		}
	}
	if err := g.Assume("no-such-edge"); err == nil {
		t.Error("an edge that is not there is assumed")
	}
}

func TestFacts(t *testing.T) {
	got := map[string]string{}
	for ref, fact := range said(keep(read(t, shop)), complete) {
		got[ref] = fact
	}
	const want = `{"apiVersion":"facts.sconce.dev/v1alpha1","kind":"AttackPath","metadata":{"name":"agent","namespace":"ops"},"facts":{"begins":"any-pod","exposed":false,` +
		`"reaches":{"clusterAdmin":true,"node":true,"secrets":true},"paths":[{"from":"any-pod","to":"cluster-admin"`
	if !strings.HasPrefix(got["Pod ops/agent"], want) {
		t.Errorf("got %s\nwant %s…", got["Pod ops/agent"], want)
	}
	if len(got) != 3 {
		t.Errorf("%d facts; want one about each workload", len(got))
	}
}

// FuzzGraph holds that nothing panics, whatever objects say.
func FuzzGraph(f *testing.F) {
	f.Add([]byte(shop))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nspec: {containers: [1, {name: [], securityContext: x}], volumes: {a: b}, serviceAccountName: 3}\n"))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: 1\nspec: []\n---\napiVersion: v1\nkind: Namespace\nmetadata: {labels: [x]}\n"))
	f.Add([]byte("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}\nrules: [{verbs: 1}, {apiGroups: ['*'], resources: ['*'], verbs: ['*']}, 7]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var objects []*object.Object
		for doc := range object.Split(data) {
			root, err := object.ParseYAML(doc)
			if err != nil || root == nil {
				continue
			}
			some, _ := object.FromNode(root, &object.Origin{Source: "x", Text: data, FirstLine: 1})
			objects = append(objects, some...)
		}
		g := attackpath.New(keep(objects), complete)
		g.Pairs()
		for range g.Each {
		}
		for _, j := range g.Jewels() {
			for _, e := range g.Entries() {
				g.Cut(e.Vertices, []int{j.Vertex})
				g.Paths(e.Vertices, []int{j.Vertex}, 3)
			}
		}
		for _, o := range objects {
			g.Set(o.Ref, nil)
		}
		g.Pairs()
	})
}
