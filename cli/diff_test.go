// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// snapshotOf writes a snapshot of a cluster, whose objects are given by kind.
func snapshotOf(t *testing.T, file, version string, objects map[string][]string) {
	t.Helper()
	kinds := []string{
		`{"group":"","kind":"Namespace","version":"v1","resource":"namespaces","namespaced":false}`,
		`{"group":"","kind":"ServiceAccount","version":"v1","resource":"serviceaccounts","namespaced":true}`,
		`{"group":"rbac.authorization.k8s.io","kind":"Role","version":"v1","resource":"roles","namespaced":true}`,
		`{"group":"rbac.authorization.k8s.io","kind":"RoleBinding","version":"v1","resource":"rolebindings","namespaced":true}`,
		`{"group":"apps","kind":"Deployment","version":"v1","resource":"deployments","namespaced":true}`,
		`{"group":"apps","kind":"ReplicaSet","version":"v1","resource":"replicasets","namespaced":true}`,
		`{"group":"","kind":"Pod","version":"v1","resource":"pods","namespaced":true}`,
	}
	names := []string{"Namespace", "ServiceAccount", "Role", "RoleBinding", "Deployment", "ReplicaSet", "Pod"}
	var b strings.Builder
	fmt.Fprintf(&b, `{"sconceSnapshot":%q,"program":"test","cluster":"prod","server":"v1.36.0","taken":"2026-01-01T00:00:00Z","kinds":[%s],"others":[]}`+"\n", version, strings.Join(kinds, ","))
	n := 0
	for i, name := range names {
		fmt.Fprintf(&b, `{"kind":%d}`+"\n", i)
		for _, o := range objects[name] {
			fmt.Fprintf(&b, `{"object":%s}`+"\n", o)
			n++
		}
	}
	fmt.Fprintf(&b, `{"end":%d}`+"\n", n)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(b.String()))
	_ = z.Close()
	write(t, file, packed.String())
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runCommand runs the program, and returns what it printed and its exit code.
func runCommand(args ...string) (out string, code int) {
	var stdout, stderr bytes.Buffer
	code = Main(args, Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return stdout.String() + stderr.String(), code
}

func podSpec(privileged bool) string {
	return fmt.Sprintf(`"containers":[{"name":"app","image":"shop/web:1","securityContext":{"privileged":%t}}]`, privileged)
}

// shop is a cluster: a Deployment with what it made, one that no file names, and
// a role that is bound.
func shop() map[string][]string {
	const labels, made, owned = `"labels":{"app":"web"}`, `"labels":{"app":"web","pod-template-hash":"1"}`, `"ownerReferences":[{"apiVersion":"apps/v1","kind":%q,"name":%q,"uid":%q,"controller":true}]`
	return map[string][]string{
		"Namespace":   {`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","uid":"n"}}`},
		"Role":        {`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"reader","namespace":"shop","uid":"r"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`},
		"Deployment":  {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","uid":"d"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{` + labels + `},"spec":{` + podSpec(false) + `}}}}`, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"other","namespace":"shop","uid":"o"},"spec":{"selector":{"matchLabels":{"app":"other"}},"template":{"metadata":{"labels":{"app":"other"}},"spec":{` + podSpec(true) + `}}}}`},
		"ReplicaSet":  {`{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web-1","namespace":"shop","uid":"s",` + made + `,` + fmt.Sprintf(owned, "Deployment", "web", "d") + `},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{` + made + `},"spec":{` + podSpec(false) + `}}}}`},
		"Pod":         {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1-a","namespace":"shop","uid":"p",` + made + `,` + fmt.Sprintf(owned, "ReplicaSet", "web-1", "s") + `},"spec":{` + podSpec(false) + `}}`},
		"RoleBinding": nil,
	}
}

// TestDiffOverCluster: files are laid over a cluster. What they do not name is
// the same on both sides, and what is made of what they name is not told apart.
func TestDiffOverCluster(t *testing.T) {
	dir := t.TempDir()
	prod, files := filepath.Join(dir, "prod.sconce"), filepath.Join(dir, "deploy.yaml")
	snapshotOf(t, prod, "v1alpha1", shop())
	write(t, files, `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: app, image: "shop/web:1", securityContext: {privileged: true}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: shop}]
`)
	args := []string{"-n", "shop", "--control", "privileged-container", "--compare", "findings,permissions,connections"}
	out, code := runCommand(append([]string{"diff", prod, files}, args...)...)
	for _, want := range []string{"1 new (1 critical)", "Deployment.apps shop/web", "get pods, in namespace shop; by RoleBinding shop/web, Role shop/reader: the binding is new"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not told:\n%s", want, out)
		}
	}
	for _, never := range []string{"gone", "shop/other", "web-1", "Unclear"} {
		if strings.Contains(out, never) {
			t.Errorf("%q is told:\n%s", never, out)
		}
	}
	if code != exitClean {
		t.Errorf("exit code %d", code)
	}
	out, _ = runCommand(append([]string{"diff", files, prod}, args...)...)
	if !strings.Contains(out, "1 gone") || !strings.Contains(out, "1 may do less") || strings.Contains(out, "new (") {
		t.Errorf("the other way:\n%s", out)
	}
}

// TestDiffSnapshots: two snapshots, and one that this version cannot read.
func TestDiffSnapshots(t *testing.T) {
	dir := t.TempDir()
	monday, tuesday, later := filepath.Join(dir, "monday.sconce"), filepath.Join(dir, "tuesday.sconce"), filepath.Join(dir, "later.sconce")
	objects := shop()
	snapshotOf(t, monday, "v1alpha1", objects)
	objects["Deployment"] = objects["Deployment"][:1]
	snapshotOf(t, tuesday, "v1alpha1", objects)
	snapshotOf(t, later, "v9", objects)
	out, _ := runCommand("diff", monday, tuesday, "--control", "privileged-container", "--compare", "findings")
	if !strings.Contains(out, "Deployment.apps shop/other is gone, with 1 finding") || !strings.Contains(out, "for Kubernetes 1.36") {
		t.Errorf("%s", out)
	}
	if out, code := runCommand("diff", monday, later); code != exitError || !strings.Contains(out, "v9") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := runCommand("diff", monday, tuesday, "deploy/"); code != exitError || !strings.Contains(out, "a cluster has no files") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
