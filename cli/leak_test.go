// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"sconce.dev/sconce/report"
)

// planter makes objects that hold secrets wherever one can stand.
type planter struct {
	*rand.Rand
	planted []string
}

// secret returns a secret and notes it: of letters and digits, of capitals
// alone, as constants are written, and of what passwords are made of.
func (p *planter) secret() string {
	alphabets := [...]string{
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
		"BCDFGHJKLMNPQRSTVWXZ",
		"abcdefghijkmnopqrstuvwxyz0123456789!%^*-+~;.",
	}
	alphabet := alphabets[p.IntN(len(alphabets))]
	b := []byte{"BCDFGHJK"[p.IntN(8)]}
	for range 11 + p.IntN(20) {
		b = append(b, alphabet[p.IntN(len(alphabet))])
	}
	b = append(b, "QRSTVWXZ"[p.IntN(8)])
	p.planted = append(p.planted, string(b))
	return string(b)
}

// url returns a URL with a secret.
func (p *planter) url() string {
	return "postgres://shop:" + strings.NewReplacer("%", "a", "^", "b", ";", "c", "#", "d").Replace(p.noted()) + "@db:5432/shop"
}

// noted is a secret that has no character that a URL would not.
func (p *planter) noted() string {
	s := p.secret()
	s = strings.NewReplacer("%", "a", "^", "b", ";", "c").Replace(s)
	p.planted[len(p.planted)-1] = s
	return s
}

// key returns a private key.
func (p *planter) key() string {
	body := make([]byte, 120)
	for i := range body {
		body[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[p.IntN(62)]
	}
	p.planted = append(p.planted, string(body[:60]), string(body[60:]))
	return "-----BEGIN PRIVATE KEY-----\n" + string(body[:60]) + "\n" + string(body[60:]) + "\n-----END PRIVATE KEY-----\n"
}

func (p *planter) encoded(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	p.planted = append(p.planted, e)
	return e
}

type fields = map[string]any

// objects returns objects of every kind that holds text.
func (p *planter) objects() []fields {
	applied, _ := json.Marshal(fields{"spec": fields{"url": p.url()}})
	container := fields{
		"name": "app", "image": "example.com/app:latest", "securityContext": fields{"privileged": true},
		"env": []any{
			fields{"name": "DB_PASSWORD", "value": p.secret()},
			fields{"name": "API_TOKEN", "value": p.secret()},
			fields{"name": "DATABASE", "value": p.url()},
			fields{"name": "IDENTITY", "value": p.key()},
			fields{"name": "JAVA_OPTS", "value": "-Xmx1g -Ddb.password=" + p.noted()},
			fields{"name": "CONFIG", "value": "level: debug\npassword: '" + p.secret() + "'\n"},
		},
		"command": []any{"sh", "-c", "export DB_PASSWORD='" + p.secret() + "'\nexec app --client-secret '" + p.secret() + "'\n"},
		"args":    []any{"--password=" + p.secret(), "--api-token", p.secret(), p.url(), "curl", "-u", "shop:" + p.secret()},
		"livenessProbe": fields{
			"exec": fields{"command": []any{"redis-cli", "-a", p.secret(), "ping"}},
		},
		"readinessProbe": fields{
			"httpGet": fields{"port": 80, "host": "10.0.0.1", "httpHeaders": []any{fields{"name": "Authorization", "value": "Basic " + p.encoded("shop:"+p.secret())}}},
		},
	}
	pod := fields{
		"metadata": fields{"annotations": fields{"example.com/database": p.url()}},
		"spec": fields{
			"hostNetwork": true, "containers": []any{container},
			"initContainers": []any{fields{"name": "init", "image": "x", "env": []any{fields{"name": "PASSWORD", "value": p.secret()}}}},
			"volumes":        []any{fields{"name": "v", "hostPath": fields{"path": "/"}}},
		},
	}
	return []fields{
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": fields{"name": "shop", "annotations": fields{
			"example.com/database": p.url(), "example.com/key": p.key(), "kubectl.kubernetes.io/last-applied-configuration": string(applied),
		}}, "spec": fields{"template": pod}},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": fields{"name": "shop"}, "data": fields{
			"db.password": p.secret(), "database": p.url(), "app.properties": "level=debug\ndb.password=" + p.noted() + "\n", "tls.key": p.key(),
		}, "binaryData": fields{"tls.key": p.encoded(p.key())}},
		{"apiVersion": "v1", "kind": "Secret", "metadata": fields{"name": "shop"}, "stringData": fields{
			"password": p.secret(), "anything": p.secret(), "config.yaml": "password: '" + p.secret() + "'\n", "tls.key": p.key(),
		}, "data": fields{"token": p.encoded(p.secret()), "other": p.encoded(p.secret())}},
		{"apiVersion": "example.com/v1", "kind": "Source", "metadata": fields{"name": "shop"}, "spec": fields{
			"url": p.url(), "key": p.key(), "template": fields{"image": "x", "env": []any{fields{"name": "PASSWORD", "value": p.secret()}}},
		}},
	}
}

// text writes the objects down: in blocks, in one line of YAML or of JSON each.
func (p *planter) text(t *testing.T, objects []fields) string {
	t.Helper()
	var out strings.Builder
	style := p.IntN(3)
	for _, o := range objects {
		out.WriteString("---\n")
		if style == 0 {
			data, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(data)
			continue
		}
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if style == 1 { // a list in each line, as people write flows
			data = bytes.ReplaceAll(data, []byte(`":[{`), []byte("\":[\n  {"))
		}
		out.Write(data)
		out.WriteByte('\n')
	}
	return out.String()
}

// TestNoLeak plants secrets wherever one can stand, and holds that no output of
// any format shows one.
func TestNoLeak(t *testing.T) {
	for seed := range uint64(12) {
		p := &planter{Rand: rand.New(rand.NewPCG(seed, 1))}
		dir := t.TempDir()
		file, stream := filepath.Join(dir, "shop.yaml"), filepath.Join(dir, "scan.json")
		if err := os.WriteFile(file, []byte(p.text(t, p.objects())), 0o600); err != nil {
			t.Fatal(err)
		}
		p.run(t, "scan", "-b", "hardened", "-o", "json", "--output-file", stream, file)
		p.run(t, "scan", "-b", "hardened", file)
		for _, format := range report.Formats() {
			p.run(t, "convert", "-o", format, stream)
		}
	}
}

// run runs a command and holds that it shows no secret.
func (p *planter) run(t *testing.T, args ...string) {
	t.Helper()
	var out bytes.Buffer
	Main(args, Streams{In: strings.NewReader(""), Out: &out, Err: &out})
	if !slices.Contains(args, "--output-file") && !strings.Contains(out.String(), "credential-in-environment") {
		t.Fatalf("%v tells of no credential:\n%s", args, out.String())
	}
	for _, secret := range p.planted {
		if at := strings.Index(out.String(), secret); at >= 0 {
			t.Errorf("%v shows %s: %s", args, secret, around(out.String(), at))
		}
	}
}

func around(s string, at int) string {
	return fmt.Sprintf("…%s…", s[max(0, at-200):min(len(s), at+100)])
}
