// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"encoding/base64"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
)

// TestRedact holds that secrets in a line are hidden, and little else.
func TestRedact(t *testing.T) {
	const secret = "hunter2Hunter2"
	for _, line := range []string{
		`  - {name: c, env: [{name: API_TOKEN, value: ` + secret + `}], image: c}`,
		`{"env":[{"name":"DB_PASSWORD","value":"` + secret + `"}]}`,
		`  args: ["--password=` + secret + `", "--verbose"]`,
		`  command: [mysql, --password, ` + secret + `]`,
		`  args: [--db-password ` + secret + `]`,
		`  dbPassword: ` + secret,
		`{"env":[{"name":"DB_PASSWORD2","value":"a b ` + secret + `"}]}`,
		`  password: 'two words ` + secret + `'`,
		`{"token":"cut off ` + secret,
		`  password: "` + secret + `"`,
		`  API_KEY=` + secret + ` ./run`,
		`  url: postgres://admin:` + secret + `@db/shop`,
		`  image: user:` + secret + `@registry.example.com/app`,
		`  clientSecret: '` + secret + `'`,
		`"args":["--api-token","` + secret + `"]`,
		`"command":["curl","-u","shop:` + secret + `"]`,
		`"name":"Authorization","value":"Basic ` + base64.StdEncoding.EncodeToString([]byte("a:"+secret)) + `"`,
		`  - postgres://admin:p` + secret + `@db:5432`,
		`  note: ghp_` + strings.Repeat("aB3dE6gH9", 4),
	} {
		if got := Redact(line); got == line || strings.Contains(got, secret) {
			t.Errorf("%q stays %q", line, got)
		}
	}
	for _, line := range []string{
		`    automountServiceAccountToken: false`,
		`    - name: DB_PASSWORD_FILE`,
		`      secretKeyRef: {name: db, key: password}`,
		`    image: registry.example.com/app:1.2@sha256:0123456789abcdef`,
		`    image: localhost:5000/app`,
		`    privileged: true`,
		`    tokenExpirationSeconds: 3600`,
		`    secretName: db-password`,
		`    readOnlyRootFilesystem: true # the key point`,
		`container "a" reads the Secret "mysql-secret" into the variable DB_USER`,
		`volume "etc-passwd" mounts /etc/passwd of the node`,
		`image "registry.k8s.io/ingress-nginx/controller:v1.12.0@sha256:0123456789abcdef" is old`,
		`container "a" has a literal token (github-pat) in the variable GITHUB_TOKEN`,
		`the manifest holds the value of cloud-config (line 2, linode-token)`,
	} {
		if got := Redact(line); got != line {
			t.Errorf("%q becomes %q", line, got)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add(`a: [{name: X_TOKEN, value: y}], p://u:v@w`)
	f.Fuzz(func(t *testing.T, line string) {
		if once := Redact(line); Redact(once) == "" && line != "" {
			t.Errorf("%q is lost", line)
		}
	})
}

// TestFingerprint holds what a finding's identity is made of.
func TestFingerprint(t *testing.T) {
	path := object.ParsePath("spec.containers[app].image")
	ref := object.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"}
	base := Fingerprint("c", ref, nil, path)
	same := ref
	same.APIVersion = "apps/v1beta1"
	if Fingerprint("c", same, nil, path) != base {
		t.Error("a newer version of the API is another finding")
	}
	other := ref
	other.Name = "api"
	for i, fp := range []string{
		Fingerprint("d", ref, nil, path), Fingerprint("c", other, nil, path),
		Fingerprint("c", ref, object.ParsePath("spec.containers[app]"), path), Fingerprint("c", ref, nil, path[:2]),
	} {
		if fp == base {
			t.Errorf("case %d is the same finding", i)
		}
	}
}
