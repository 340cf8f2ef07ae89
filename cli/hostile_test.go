// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/generate/manifest"

	rbacv1 "k8s.io/api/rbac/v1"
)

// odd is a cluster whose names hold what a terminal obeys.
const odd = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: "web\u001b[31m\u202e\nroot", namespace: "shop\u009b31m"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: "c\u001b", image: x, env: [{name: PASSWORD, value: hunter2}]}]}
---
apiVersion: v1
kind: Secret
metadata: {name: "key\u001b", namespace: shop}
stringData: {password: hunter2}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "all\u001b"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "jane\u001b[31m\u202e\nroot"}]
`

// TestNamesAreShown holds that what strangers named does nothing at a terminal,
// in any format of any question, and that no value that may be secret is printed.
func TestNamesAreShown(t *testing.T) {
	dir := t.TempDir()
	file, none, log := filepath.Join(dir, "odd.yaml"), filepath.Join(dir, "none.yaml"), filepath.Join(dir, "audit.log")
	write(t, file, odd)
	write(t, none, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	write(t, log, `{"verb":"get","user":{"username":"jane\u001b\u202e"},"objectRef":{"resource":"pods","name":"a\u001b\u202eb","namespace":"shop\u009b"},"annotations":{"authorization.k8s.io/decision":"allow"}}`)
	from := []string{"-f", file, "--complete", "-q"}
	for _, args := range [][]string{
		{"who-can", "get", "secrets"}, {"who-can", "get", "secrets", "-o", "name"}, {"who-can", "get", "secrets", "-o", "json"},
		{"can", "user:jane\x1b[31m\u202e\nroot"}, {"can", "user:jane\x1b[31m\u202e\nroot", "-o", "json"},
		{"reach"}, {"reach", "any", "any", "-o", "json"}, {"reach", "-o", "dot"}, {"reach", "-o", "svg"},
		{"paths"}, {"paths", "-o", "json"}, {"paths", "-o", "dot"},
		{"generate", "networkpolicies"}, {"generate", "networkpolicies", "-o", "json"},
		{"generate", "roles", log, "--subject", "user:jane\x1b\u202e", "--unproven"}, {"generate", "roles", log, "--subject", "user:jane\x1b\u202e", "-o", "json"},
	} {
		out, _ := runCommand(append(args, from...)...)
		inert(t, strings.Join(args, " "), out)
	}
	for _, format := range diffFormats {
		out, _ := runCommand("diff", none, file, "-q", "-o", format)
		inert(t, "diff -o "+format, out)
	}
}

func inert(t *testing.T, command, out string) {
	t.Helper()
	if i := strings.IndexAny(out, "\x1b\u009b\u202e"); i >= 0 {
		t.Errorf("%q prints %q", command, out[max(0, i-80):min(len(out), i+80)])
	}
	if strings.Contains(out, "hunter2") {
		t.Errorf("%q prints a password", command)
	}
	if len(out) < 20 {
		t.Errorf("%q prints only %q", command, out)
	}
}

// TestFileNames holds that what is made for two is written to two files.
func TestFileNames(t *testing.T) {
	dir := t.TempDir()
	role := []*manifest.Document{{Object: &rbacv1.Role{}}}
	f := &generatedFlags{dir: dir}
	if err := f.write(nil, []generatedFile{{"a/b", role}, {"a:b", role}, {"A_b", role}, {"..", role}}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Errorf("got %v, %v", files, err)
	}
}

// TestDoubtfulGate holds that with unknown what may be new of what was asked for
// counts, and nothing else.
func TestDoubtfulGate(t *testing.T) {
	unclear := &diff.Change{Permissions: &diff.Permissions{Unclear: []diff.Permission{{}}}}
	for words, want := range map[string]int{"permissions,unknown": exitUnknown, "permissions": 0, "connections,unknown": 0} {
		g, err := parseGate(strings.Split(words, ","))
		if err != nil {
			t.Fatal(err)
		}
		var code exitCode
		if err := g.exit(unclear); err != nil && !errors.As(err, &code) {
			t.Fatal(err)
		}
		if int(code) != want {
			t.Errorf("--fail-on %s: got %d, want %d", words, code, want)
		}
	}
}
