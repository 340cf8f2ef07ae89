// SPDX-License-Identifier: Apache-2.0

package posture_test

import (
	"slices"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
)

// TestVersion: what an attacker can do depends on the version of the clusters
// that a baseline is for, in what is kept of objects and in the graph.
func TestVersion(t *testing.T) {
	const rbacAPI = "rbac.authorization.k8s.io/v1"
	of := func(apiVersion, kind, namespace, name string, more map[string]any) *object.Object {
		root := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}}
		for k, v := range more {
			root[k] = v
		}
		return object.New(object.FromAny(root), &object.Origin{Source: "cluster"})
	}
	objects := []*object.Object{
		of("v1", "ServiceAccount", "shop", "ci", nil),
		of(rbacAPI, "Role", "shop", "debugger", map[string]any{"rules": []any{map[string]any{
			"apiGroups": []any{""}, "resources": []any{"pods", "pods/exec"}, "verbs": []any{"get"},
		}}}),
		of(rbacAPI, "RoleBinding", "shop", "ci", map[string]any{
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "debugger"},
			"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": "shop", "name": "ci"}},
		}),
		of("v1", "Pod", "shop", "web", map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
			"name": "app", "image": "web", "securityContext": map[string]any{"privileged": true},
		}}}}),
		of("v1", "Pod", "shop", "mounter", map[string]any{"spec": map[string]any{
			"hostUsers": false, "automountServiceAccountToken": false, "serviceAccountName": "ci", "containers": []any{map[string]any{
				"name": "app", "image": "mounter",
				"securityContext": map[string]any{"runAsUser": int64(0), "capabilities": map[string]any{"add": []any{"SYS_ADMIN"}}},
			}},
		}}),
	}
	for _, c := range []struct {
		version, from string
		want          bool
	}{
		{"1.34", "sa:shop/ci", true}, // get of pods/exec is enough to run a command
		{"1.35", "sa:shop/ci", false},
		{"1.32", "pod:shop/mounter", true}, // hostUsers is not heeded by every node
		{"1.33", "pod:shop/mounter", false},
	} {
		if got := leadsToNode(t, versioned(t, c.version), objects, c.from); got != c.want {
			t.Errorf("in %s, a path leads from %s to a node: %t, want %t", c.version, c.from, got, c.want)
		}
	}
}

// leadsToNode says whether a path leads to a node, by what an engine keeps.
func leadsToNode(t *testing.T, e *engine.Engine, objects []*object.Object, begin string) bool {
	t.Helper()
	i := slices.IndexFunc(e.Wholes(), func(w facts.Whole) bool { return slices.Contains(w.Kinds, attackpath.Kind) })
	var kept []any
	for _, o := range objects {
		if k := e.Examine(o).Kept[i]; k != nil {
			kept = append(kept, k)
		}
	}
	env := e.Env()
	g := attackpath.New(kept, &env)
	from, err := g.Find(begin)
	if err != nil {
		t.Fatal(err)
	}
	to, err := g.Find("node")
	if err != nil {
		t.Fatal(err)
	}
	return len(g.Paths(from, to, 1)) > 0
}

// versioned returns an engine of the built-in controls for clusters of a version.
func versioned(t *testing.T, version string) *engine.Engine {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	v, err := control.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve("hardened", baseline.Options{KubernetesVersion: v, Complete: true})
	if err != nil {
		t.Fatal(err)
	}
	return engine.New(b, l.Exceptions(time.Time{}), time.Time{})
}
