// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// tree reads YAML as objects are read: whole numbers are int64.
func tree(t testing.TB, text string) any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := kjson.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const data = `
name: web
empty: ""
labels: {app: shop, "example.com/tier": front}
replicas: 3
ports: [80, 443]
items: [{name: b, count: 2}, {name: a, count: 1}, {name: c}]
nested: [[1, 2], [3]]
flag: true
none: null
words: [b, a]
`

func search(t testing.TB, expr string, of any) (any, error) {
	t.Helper()
	q, err := Compile(expr)
	if err != nil {
		return nil, err
	}
	return q.Search(of)
}

// floats are what expressions reckon with.
func floats(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSearch(t *testing.T) {
	of := tree(t, data)
	for expr, want := range map[string]string{
		"name":                           `"web"`,
		`labels."example.com/tier"`:      `"front"`,
		"none":                           `null`,
		"none.x":                         `null`,
		"name.x":                         `null`,
		"nothere || 'x'":                 `"x"`,
		"nothere.x || empty || name":     `"web"`,
		"nothere | @":                    `null`,
		"nothere == none":                `true`,
		"!nothere":                       `true`,
		"!nothere && name":               `"web"`,
		"items[?name == 'a'].name | [0]": `"a"`,
		"items[?count].name":             `["b", "a"]`,
		"items[*].count | length(@)":     `2`,
		"items[-1].name":                 `"c"`,
		"items[9]":                       `null`,
		"items[::-1].name":               `["c", "a", "b"]`,
		"items[1:9223372036854775807:9223372036854775807].name": `["a"]`,
		"nested[]":                                        `[1, 2, 3]`,
		"labels.*":                                        `["shop", "front"]`,
		"keys(labels)":                                    `["app", "example.com/tier"]`,
		"values(labels)":                                  `["shop", "front"]`,
		"labels.*.to_string(@)":                           `["null", "null", "shop", "front"]`,
		"[name, nothere]":                                 `["web", null]`,
		"{a: name, b: nothere}":                           `{"a": "web", "b": null}`,
		"sort_by(items, &name)[*].name":                   `["a", "b", "c"]`,
		"max_by(items[:2], &count || `0`).name":           `error`,
		"max_by(items[:2], &count).name":                  `error`, // they are integers
		"sort_by(items, &count)":                          `error`,
		"max(`[1, 3, 2]`)":                                `3`,
		"min(`[\"b\", \"a\"]`)":                           `"a"`,
		"sort(`[3, 1, 2]`)":                               `[1, 2, 3]`,
		"reverse('abc')":                                  `"cba"`,
		"reverse(ports)":                                  `[443, 80]`,
		"join('-', ['a', 'b'])":                           `"a-b"`,
		"map(&count, items)":                              `[2, 1, null]`,
		"merge(`{\"a\": 1}`, `{\"b\": 2}`)":               `{"a": 1, "b": 2}`,
		"contains(labels, 'x')":                           `error`,
		"contains(ports, `80`)":                           `false`, // one is an integer
		"contains('abc', 'b')":                            `true`,
		"replicas > `2`":                                  `null`,
		"`3` > `2`":                                       `true`,
		"replicas == `3`":                                 `false`,
		"type(flag)":                                      `"boolean"`,
		"to_number('1.5')":                                `1.5`,
		"to_number(replicas)":                             `error`,
		"to_array(name)":                                  `["web"]`,
		"not_null(nothere, name)":                         `"web"`,
		"avg(`[1, 2]`)":                                   `1.5`,
		"nofunction(@)":                                   `error`,
		"length(@, @)":                                    `error`,
		"compare('a', 'b')":                               `-1`,
		"equal_fold('A', 'a')":                            `true`,
		"replace('aaa', 'a', 'b', `2`)":                   `"bba"`,
		"replace_all('aaa', 'a', 'bb')":                   `"bbbbbb"`,
		"to_upper(name)":                                  `"WEB"`,
		"trim('xaxbx', 'x')":                              `"axb"`,
		"trim_prefix('v1', 'v')":                          `"1"`,
		"split('a,b', ',')":                               `["a", "b"]`,
		"regex_match('^[0-9]+$', `12`)":                   `true`,
		"regex_match('(', 'a')":                           `error`,
		"regex_replace_all('(a)', 'bab', '-$1-')":         `"b-a-b"`,
		"regex_replace_all_literal('(a)', 'bab', '-$1-')": `"b-$1-b"`,
		"pattern_match('w?b', name)":                      `true`,
		"label_match(`{\"app\": \"shop\"}`, labels)":      `true`,
		"to_boolean('TRUE')":                              `true`,
		"to_boolean('maybe')":                             `error`,
		"add('1Gi', '512Mi')":                             `"1536Mi"`,
		"add('1h', '90s')":                                `"1h1m30s"`,
		"add(`1`, `2`)":                                   `3`,
		"add(`1`, '1Gi')":                                 `error`,
		"sum(['1Ki', '1Ki'])":                             `"2Ki"`,
		"subtract('1Gi', '1Mi')":                          `"1023Mi"`,
		"multiply('1Gi', `2`)":                            `"2Gi"`,
		"multiply(`2`, '10s')":                            `"20s"`,
		"divide('1Gi', '512Mi')":                          `2`,
		"divide('1Gi', `3`)":                              `"357913941"`,
		"divide(`1`, `0`)":                                `error`,
		"modulo(`7`, `4`)":                                `3`,
		"modulo('7', '4')":                                `"3"`,
		"modulo(`1.5`, `1`)":                              `error`,
		"add('1e999999999', '1')":                         `error`,
		"round(`2.567`, `1`)":                             `2.6`,
		"base64_decode(base64_encode('x'))":               `"x"`,
		"path_canonicalize('/a//b/../c')":                 `"/a/c"`,
		"truncate('héllo', `2`)":                          `"hé"`,
		"semver_compare('1.2.3', '>=1.0.0 <2.0.0')":       `true`,
		"semver_compare('x', '<1.0.0')":                   `true`,
		"parse_json('{\"a\": 1}').a":                      `1`,
		"parse_yaml('a: [b]').a[0]":                       `"b"`,
		"lookup(labels, 'app')":                           `"shop"`,
		"lookup(ports, `5`)":                              `null`,
		"items(labels, 'k', 'v')":                         `[{"k": "app", "v": "shop"}, {"k": "example.com/tier", "v": "front"}]`,
		"items(ports, 'k', 'v')[*].k":                     `[0, 1]`,
		"object_from_lists(['a', 'b'], ['x'])":            `{"a": "x", "b": null}`,
		"sha1('')":                                        `"da39a3ee5e6b4b0d3255bfef95601890afd80709"`,
		"md5('')":                                         `"d41d8cd98f00b204e9800998ecf8427e"`,
		"truncate(sha256('x'), `8`)":                      `"2d711642"`,
		"image_normalize('nginx')":                        `"docker.io/nginx:latest"`,
		"is_external_url('http://10.0.0.1/')":             `false`,
		"is_external_url('http://8.8.8.8/')":              `true`,
		"time_diff('2024-01-01T00:00:00Z', '2024-01-01T01:00:00Z')":                            `"1h0m0s"`,
		"time_before('2024-01-01T00:00:00Z', '2024-01-01T01:00:00Z')":                          `true`,
		"time_after('2024-01-01T00:00:00Z', '2024-01-01T01:00:00Z')":                           `false`,
		"time_between('2024-01-02T00:00:00Z', '2024-01-01T00:00:00Z', '2024-01-03T00:00:00Z')": `true`,
		"time_add('2024-01-01T00:00:00Z', '1h')":                                               `"2024-01-01T01:00:00Z"`,
		"time_truncate('2024-01-01T01:02:03Z', '1h')":                                          `"2024-01-01T01:00:00Z"`,
		"time_to_cron('2024-01-01T01:02:03Z')":                                                 `"2 1 1 1 1"`,
		"time_utc('2024-01-01T01:00:00+01:00')":                                                `"2024-01-01T00:00:00Z"`,
		"time_parse('2006-01-02', '2024-01-01')":                                               `"2024-01-01T00:00:00Z"`,
		"time_parse('1', '0')":                                                                 `"1970-01-01T00:00:00Z"`,
		"time_since('', '2024-01-01T00:00:00Z', '2024-01-01T01:00:00Z')":                       `"1h0m0s"`,
		"time_utc('never')": `error`,
		"&name":             `error`,
		"name[":             `error`,
		"length(":           `error`,
		"":                  `error`,
	} {
		got, err := search(t, expr, of)
		if want == "error" {
			if err == nil || IsNotFound(err) {
				t.Errorf("%s: got %v, %v, want an error", expr, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if b, err := json.Marshal(got); err != nil || !cmp.Equal(floats(t, string(b)), floats(t, want)) {
			t.Errorf("%s: got %s, want %s", expr, b, want)
		}
	}
}

func TestSearchMakesTrees(t *testing.T) {
	got, err := search(t, "[compare('a', 'b'), {x: items(labels, 'k', 'v')[:1]}]", tree(t, data))
	want := []any{int64(-1), map[string]any{"x": []any{map[string]any{"k": "app", "v": "shop"}}}}
	if diff := cmp.Diff(any(want), got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestSearchNotFound(t *testing.T) {
	for _, expr := range []string{"nothere", "labels.nothere.deeper", "name && nothere"} {
		if _, err := search(t, expr, tree(t, data)); !IsNotFound(err) {
			t.Errorf("%s: got %v, want that it is not found", expr, err)
		}
	}
}

func TestSearchChangesNothing(t *testing.T) {
	of := tree(t, data)
	for _, expr := range []string{"sort_by(items, &name)", "reverse(items)", "merge(labels, `{\"x\": 1}`)", "sort(words)"} {
		if _, err := search(t, expr, of); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(tree(t, data), of); diff != "" {
		t.Error(diff)
	}
}

func TestUnknown(t *testing.T) {
	of := map[string]any{
		"user": Unknown("the user"), "name": "x",
		"list": []any{Unknown("an item")},
	}
	for _, expr := range []string{
		"user", "user.name", "user.name || 'x'", "user == 'x'", "@ == @", "length(user)", "user[]", "user.*", "user[?a]",
		"list[0]", "list[*]", "contains(list, 'x')", "to_string(@)", "[user, name]", "time_now()", "time_since('', '2024-01-01T00:00:00Z', '')",
		"random('a')", "is_external_url('https://example.com')", "lookup(@, 'user')", "user[0]", "user[:1]", "(a[?time_now()])[]",
	} {
		if expr == "(a[?time_now()])[]" {
			of["a"] = []any{"x"}
		}
		got, err := search(t, expr, of)
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.What == "" {
			t.Errorf("%s: got %v, %v, want that it is not known", expr, got, err)
		}
	}
	if got, err := search(t, "name || user", of); got != "x" || err != nil {
		t.Errorf("what is not asked for: got %v, %v", got, err)
	}
}

func TestEnv(t *testing.T) {
	env := Env{Now: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Random: func() uint64 { return 7 }}
	for expr, want := range map[string]string{
		"time_now()":     "2024-01-01T00:00:00Z",
		"time_now_utc()": "2024-01-01T00:00:00Z",
		"time_since('', '2023-12-31T23:00:00Z', '')": "1h0m0s",
		"random('[a-z]{3}')":                         "hhh",
	} {
		q, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := q.SearchIn(env, nil); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %s", expr, got, err, want)
		}
	}
}

func TestRandom(t *testing.T) {
	n := uint64(1)
	env := Env{Random: func() uint64 { n = n*6364136223846793005 + 1442695040888963407; return n >> 33 }}
	for _, pattern := range []string{"[0-9a-z]{8}", "a|b|cd", "x?y*z+", "(ab){2,4}.", `\d\w\s`, "[^a-z]", "^a$"} {
		q, err := Compile("random('" + pattern + "')")
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			got, err := q.SearchIn(env, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got.(string)) {
				t.Errorf("%s does not match %q", pattern, got)
			}
		}
	}
	for _, pattern := range []string{"", "(", "((a{1000}){1000}){1000}", "((((a*)*)*)*)*((((a*)*)*)*)*((((a+)+)+)+)+"} {
		q, err := Compile("random('" + pattern + "')")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := q.SearchIn(Env{Random: func() uint64 { return 31 }}, nil); err == nil {
			t.Errorf("%s: got %.20q, want an error", pattern, got)
		}
	}
}

// TestBounds has expressions that grow without end.
func TestBounds(t *testing.T) {
	for name, expr := range map[string]string{
		"texts":       "to_string(@)" + strings.Repeat(" | join(@, ['', @, ''])", 200),
		"replaced":    "'aaaaaaaa'" + strings.Repeat(" | replace_all(@, 'a', 'aaaaaaaa')", 20),
		"by regex":    "'aaaaaaaa'" + strings.Repeat(" | regex_replace_all('(a)', @, '$1$1$1$1')", 20),
		"lists":       "@" + strings.Repeat(" | [@, @][]", 60),
		"written out": "@" + strings.Repeat(" | [@, @]", 60) + " | to_string(@)",
		"compared":    "@" + strings.Repeat(" | [@, @]", 60) + " | [@, @] | [0] == [1]",
		"as it is":    "@" + strings.Repeat(" | [@, @]", 60),
		"in a map":    "@" + strings.Repeat(" | {a: @, b: @}", 60),
		"deep":        strings.Repeat("!", 2000) + "a",
		"long":        strings.Repeat("a", maxExpression+1),
		"parentheses": strings.Repeat("(", 20000),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := search(t, expr, tree(t, data)); err == nil {
				t.Errorf("got %.50v, want an error", got)
			}
		})
	}
}

func TestParseImage(t *testing.T) {
	const digest = "sha256:128c6e3534b842a2eec139999b8ce8aa9a2af9907e2b9269550809d18cd832a3"
	for image, want := range map[string]Image{
		"nginx":                                  {"docker.io", "nginx", "nginx", "latest", ""},
		"library/nginx:1":                        {"docker.io", "library/nginx", "nginx", "1", ""},
		"ghcr.io/a/b@" + digest:                  {"ghcr.io", "a/b", "b", "", digest},
		"localhost:5000/x:v1":                    {"localhost:5000", "x", "x", "v1", ""},
		"x:1@" + digest:                          {"docker.io", "x", "x", "1", digest},
		"bad image":                              {},
		"":                                       {},
		"x@sha256:abc":                           {},
		"x@md5:128c6e3534b842a2eec139999b8ce8aa": {},
		strings.Repeat("a", 256):                 {},
	} {
		got, err := ParseImage(image)
		if want == (Image{}) {
			if err == nil {
				t.Errorf("%s: got %v, want an error", image, got)
			}
			continue
		}
		if err != nil || *got != want {
			t.Errorf("%s: got %v, %v, want %v", image, got, err, want)
		}
	}
}

func TestX509(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "shop"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]any{"pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	if got, err := search(t, "x509_decode(pem).Subject.CommonName", of); got != "shop" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := search(t, "x509_decode(pem).PublicKey.N", of); got != key.N.String() || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "new"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	of["pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if got, err := search(t, "x509_decode(pem).Subject.CommonName", of); got != "new" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "x", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), string(pem.EncodeToMemory(&pem.Block{Type: "KEY"}))} {
		if got, err := search(t, "x509_decode(pem)", map[string]any{"pem": text}); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestErrorsShowNoValues(t *testing.T) {
	of := map[string]any{"secret": "hunter2", "list": []any{"hunter2", "other"}}
	for _, expr := range []string{
		"to_boolean(secret)", "parse_json(secret)", "base64_decode(secret)", "time_utc(secret)", "add(secret, secret)", "length(`1`) || secret",
		"max(secret)", "join(secret, secret)", "image_normalize(join(' ', [secret, secret]))", "x509_decode(secret)", "sum(list)", "time_add(secret, secret)",
		"time_parse('1', secret)", "semver_compare(secret, secret)",
	} {
		if _, err := search(t, expr, of); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	of := tree(b, data)
	for name, expr := range map[string]string{
		"field":    "labels.app",
		"default":  "labels.nothere || 'x'",
		"filter":   "items[?name == 'a'].count | [0]",
		"function": "to_upper(split(name, 'e')[0])",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				q, err := Compile(expr)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := q.Search(of); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzSearch(f *testing.F) {
	for _, expr := range []string{
		"items[?count > `1`].name | sort(@)", "items(@, 'a', 'b')[*].b", "sum([`1`, '1Gi'])", "regex_replace_all('(a*)', @.name, '$1')",
		"time_add('2024-01-01T00:00:00Z', '1h')", "semver_compare('1.2.3', '>=1 || <2')", "a[::-1]", "*.to_string(@)", "{a: b}.*[]",
		"parse_yaml('a: &x [*x]')", "truncate('é', `1`)", "image_normalize('a/b@sha256:c')", "divide('1e-9', `3`)",
	} {
		f.Add(expr)
	}
	of := tree(f, data)
	f.Fuzz(func(_ *testing.T, expr string) {
		q, err := Compile(expr)
		if err != nil {
			return
		}
		_, _ = q.SearchIn(Env{Now: time.Unix(1, 0), Random: func() uint64 { return 3 }}, of)
	})
}
