// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"sconce.dev/sconce/cli"
)

// run runs the program and returns how it ended and what it printed.
func run(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = cli.Main(args, cli.Streams{In: strings.NewReader(""), Out: &b, Err: &b})
	return code, b.String()
}

// keys writes a pair of keys, and returns their files.
func keys(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	open, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	for file, block := range map[string]*pem.Block{private: {Type: "PRIVATE KEY", Bytes: secret}, public: {Type: "PUBLIC KEY", Bytes: open}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// TestBundle publishes policies, and runs them from the registry and from a file,
// if they are signed by whom they must be.
func TestBundle(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	defer server.Close()
	dir := t.TempDir()
	private, public := keys(t, dir, "ours")
	_, other := keys(t, dir, "other")
	policies, manifest, saved := filepath.Join(dir, "policies"), filepath.Join(dir, "pod.yaml"), filepath.Join(dir, "policies.tar")
	if err := os.Mkdir(policies, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		filepath.Join(policies, "p.yaml"): `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: labels}
spec:
  rules:
  - name: team
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate: {message: say which team, pattern: {metadata: {labels: {team: "?*"}}}}
`,
		manifest: "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ref := "oci://" + strings.TrimPrefix(server.URL, "http://") + "/team/policies:1.0.0"
	for _, step := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"policy", "push", policies, ref}, 0, "policies 1.0.0, 1 files"},
		{[]string{"policy", "verify", ref, "--policy-key", public}, 2, "sign"},
		{[]string{"scan", "-p", ref, manifest}, 1, "kyverno.labels.team"},
		{[]string{"scan", "-p", ref, "--policy-key", public, manifest}, 2, "sign"},
		{[]string{"policy", "sign", ref, "--sign-key", private}, 0, "sha256:"},
		{[]string{"policy", "verify", ref, "--policy-key", public}, 0, "its signature holds"},
		{[]string{"scan", "-p", ref, "--policy-key", public, manifest}, 1, "kyverno.labels.team"},
		{[]string{"scan", "-p", ref, "--policy-key", other, manifest}, 2, "key"},
		{[]string{"policy", "pull", ref, "-d", filepath.Join(dir, "pulled"), "--policy-key", public}, 0, "1 files"},
		{[]string{"scan", "-p", filepath.Join(dir, "pulled"), manifest}, 1, "kyverno.labels.team"},
		{[]string{"policy", "push", policies, "--version", "1.1.0", "--output-file", saved, "--sign-key", private}, 0, "sha256:"},
		{[]string{"scan", "-p", saved, "--policy-key", public, manifest}, 1, "kyverno.labels.team"},
		{[]string{"scan", "-p", saved, "--policy-key", other, manifest}, 2, "key"},
		{[]string{"policy", "diff", ref, policies, manifest}, 0, "No change"},
		{[]string{"policy", "push", dir, ref}, 2, "policy push"},
		{[]string{"policy", "push", policies}, 2, "name either a reference"},
		{[]string{"policy", "push", policies, "oci://127.0.0.1:1/x:1"}, 2, "policy push"},
	} {
		if code, out := run(step.args...); code != step.code || !strings.Contains(out, step.says) {
			t.Errorf("sconce %s\nended with %d, want %d, and %q in\n%s", strings.Join(step.args, " "), code, step.code, step.says, out)
		}
	}
}

// TestPoliciesAskTheNetwork runs policies that call out: what the baseline does
// not name is unknown, and is not called.
func TestPoliciesAskTheNetwork(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"owner": ""}`)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	files := map[string]string{
		"policy.rego": "package main\n\ndeny contains \"nobody owns it\" if http.send({\"method\": \"GET\", \"url\": \"" + server.URL + "\"}).body.owner == \"\"\n",
		"closed.yaml": "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: closed}\nspec: {title: Closed}\n",
		"open.yaml":   "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: open}\nspec: {title: Open, network: {hosts: [\"" + host + "\"]}}\n",
		"pod.yaml":    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, test := range []struct {
		baseline, want string
		code, asked    int
	}{
		{"closed", `calls to "` + host + `" are not allowed; a baseline allows them in spec.network.hosts`, 3, 0},
		{"open", "nobody owns it", 1, 1},
	} {
		asked = 0
		code, out := run("scan", "-p", in("policy.rego"), "-c", in(test.baseline+".yaml"), "-b", test.baseline, "--fail-on", "low,unknown", "-o", "json", in("pod.yaml"))
		if code != test.code || !strings.Contains(strings.ReplaceAll(out, `\"`, `"`), test.want) || asked != test.asked {
			t.Errorf("%s: exit code %d, %d calls, want %d and %d, and %q in\n%s", test.baseline, code, asked, test.code, test.asked, test.want, out)
		}
	}
}
