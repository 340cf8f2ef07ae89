// SPDX-License-Identifier: Apache-2.0

package object

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	k8sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// documents parses every document of a stream.
func documents(text string) ([]*Node, error) {
	var out []*Node
	for t := range Split([]byte(text)) {
		n, err := ParseYAML(t)
		if err != nil {
			return out, err
		}
		if n != nil {
			out = append(out, n)
		}
	}
	return out, nil
}

// kubectl returns what kubectl reads from one YAML document: the oracle.
func kubectl(text []byte) (any, error) {
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	var v any
	if err := k8sjson.UnmarshalCaseSensitivePreserveInts(j, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// TestAsKubectl holds what is read against what kubectl reads.
func TestAsKubectl(t *testing.T) {
	for _, text := range []string{
		"a: yes\nb: No\nc: on\nd: OFF\ne: y\nf: N\ng: True\nh: FALSE\n",
		"a: 'yes'\nb: \"on\"\nc: !!str yes\nd: |\n  yes\n",
		"a: 0777\nb: 0o777\nc: 0x1F\nd: 0b101\ne: 1_000\nf: -0b11\ng: +5\nh: 08\n",
		"a: 1e3\nb: 1.0\nc: .5\nd: 5.\ne: -1.5e-3\nf: 1e\ng: 1.2.3\nh: 1.e3\n",
		"a: 9223372036854775807\nb: -9223372036854775808\nc: 9223372036854775808\nd: 18446744073709551615\ne: 18446744073709551616\n",
		"a: ~\nb: null\nc: Null\nd:\ne: ''\nf: NULL\n",
		"a: 2001-12-14\nb: 2001-12-14T21:59:43Z\nc: 2001-1-1\nd: 20011-1-1\ne: 12:30:45\n",
		"1: a\ntrue: b\n1.5: c\nno: d\n",
		"base: &b {x: 1, y: 2}\nd:\n  <<: *b\n  y: 3\n",
		"a: &a {x: 1}\nb: &b {x: 2, z: 3}\nc:\n  <<: [*a, *b]\n",
		"a: &x [1, 2]\nb: *x\n",
		"a: &x {p: 1}\nb: {p: 2, <<: *x}\nc: {<<: *x, p: 2}\n",
		"a: &x {p: 1}\nb: &w {p: 2}\nc: {<<: *x, <<: *w}\nd: {<<: [*x, *w]}\n",
		"a: &x {p: 1, q: {r: 1}}\nb:\n  q: {s: 2}\n  <<: *x\n",
		"a: !!binary aGVsbG8=\nb: !!float 3\nc: !foo bar\nd: !!int \"3\"\n",
		"a: 'it''s'\nb: \"tab\\tand \\u00e9\"\n",
		"a: >\n  folded\n  text\n\n  more\nb: |-\n  kept\n",
		"{a: [1, {b: c}], 'd': \"e\"}\n",
		"a:\r\n  b: c\r\n  d: 1\r\n",
		"a: <<\nb: =\nc: '<<'\n",
		"? a\n: b\n",
	} {
		want, wantErr := kubectl([]byte(text))
		nodes, err := documents(text)
		switch {
		case wantErr != nil:
			t.Errorf("%q: the oracle says %v", text, wantErr)
		case err != nil:
			t.Errorf("%q: %v", text, err)
		case len(nodes) != 1 || !reflect.DeepEqual(nodes[0].Any(), want):
			got, _ := json.Marshal(nodes[0].Any())
			w, _ := json.Marshal(want)
			t.Errorf("%q:\n got %s\nwant %s", text, got, w)
		}
	}
}

// corpus returns the folder of real manifests, if this machine has it.
func corpus(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("no corpus of manifests at %s; SCONCE_CORPUS names one", dir)
	}
	return dir
}

// TestCorpusAsKubectl does the same with real manifests.
func TestCorpusAsKubectl(t *testing.T) {
	compared := 0
	err := filepath.WalkDir(corpus(t), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for text := range Split(data) {
			n, err := ParseYAML(text)
			want, wantErr := kubectl(text.Bytes)
			if err != nil || wantErr != nil {
				if (err == nil) != (wantErr == nil) {
					t.Errorf("%s:%d: %v, but kubectl says %v", name, text.Line, err, wantErr)
				}
				continue
			}
			if n == nil {
				if want != nil {
					t.Errorf("%s:%d: read nothing", name, text.Line)
				}
				continue
			}
			compared++
			if !reflect.DeepEqual(n.Any(), want) {
				t.Errorf("%s:%d: read otherwise than kubectl", name, text.Line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if compared < 1000 {
		t.Errorf("only %d documents compared", compared)
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string // line: first bytes
	}{
		{"", nil},
		{"# only a comment\n", nil},
		{"---\n---\n# c\n---\n", nil},
		{"a: 1", []string{"1:a: 1"}},
		{"a: 1\n---\nb: 2\n", []string{"1:a: 1\n", "2:---\nb: 2\n"}},
		{"# c\n---\na: 1\n...\nb: 2\n", []string{"2:---\na: 1\n...\n", "5:b: 2\n"}},
		{"%YAML 1.2\n---\na: 1\n", []string{"1:%YAML 1.2\n---\na: 1\n"}},
		{"--- {a: 1}\n--- # c\nb: 2\n", []string{"1:--- {a: 1}\n", "2:--- # c\nb: 2\n"}},
		{"a: |\n  ---\n  x\n--- \nb: 1\n", []string{"1:a: |\n  ---\n  x\n", "4:--- \nb: 1\n"}},
		{"a: 1\r\n---\r\nb: 2\r\n", []string{"1:a: 1\r\n", "2:---\r\nb: 2\r\n"}},
		{"\xef\xbb\xbfa: 1\n", []string{"1:a: 1\n"}},
		{"a: 1\n----\nb: 2\n", []string{"1:a: 1\n----\nb: 2\n"}},
	} {
		var got []string
		for text := range Split([]byte(c.text)) {
			if c.text[text.Offset:text.Offset+len(text.Bytes)] != string(text.Bytes) {
				t.Errorf("%q: offset %d does not lead to the text", c.text, text.Offset)
			}
			got = append(got, string(rune('0'+text.Line))+":"+string(text.Bytes))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestPlaces(t *testing.T) {
	nodes, err := documents("# head\na:\n  - name: x\n    'q k': [1, \"é\", {z: 2}]\n  - name: w\n")
	if err != nil {
		t.Fatal(err)
	}
	root := nodes[0]
	for path, want := range map[string]Spot{
		"a":                {2, 1},
		"a[x]":             {3, 5},
		"a[x].name":        {3, 5},
		"a[x]['q k']":      {4, 5},
		"a[x]['q k'][1]":   {4, 16},
		"a[0]['q k'][2].z": {4, 22},
		"a[w].missing":     {5, 5},
		"nothing":          {2, 1},
	} {
		if got, _ := root.SpotOf(ParsePath(path)); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

// TestHostile holds that hostile or broken text gives an error with its place,
// in bounded time.
func TestHostile(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		a, b := string(rune('a'+i)), string(rune('a'+i-1))
		if i == 1 {
			b = "a0"
		}
		bomb += a + ": &" + a + " [" + strings.Repeat("*"+b+", ", 8) + "*" + b + "]\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"bomb":       {bomb, "aliases expand"},
		"self":       {"a: &a\n  b: *a\n", "holds itself"},
		"no anchor":  {"a: *b\n", "line 1"},
		"duplicate":  {"a: 1\nb:\n  c: 1\n  c: 2\n", `line 4, column 3: key "c" stands twice in this mapping, first at line 3`},
		"deep flow":  {strings.Repeat("[", 100_000), "line 1"},
		"deep block": {deep(600), "deeper than 500"},
		"binary":     {"a: \x00\x01", "line 1, column 4: byte 0x00"},
		"latin1":     {"a: 1\nb: caf\xe9\n", "line 2, column 7: byte 0xe9 is not UTF-8"},
		"tab":        {"a:\n\tb: c\n", "line 2"},
		"unclosed":   {"a: [1, 2\nb: 3\n", "line "},
		"template":   {"a: {{ .Values.x }}\n", "line 1"},
		"infinity":   {"a: .inf\n", "line 1, column 4: .inf"},
		"map key":    {"? {a: b}\n: c\n", "key must be a string"},
		"bad merge":  {"a:\n  <<: 1\n", "merge key"},
		"huge":       {"a: " + strings.Repeat("x", MaxDocument+1), "at most 16 MiB"},
		"second":     {"a: 1\n---\nb: [\n---\nc: 1\n", "line 4"},
	} {
		_, err := documents(c.text)
		var se *SyntaxError
		if err == nil || !errors.As(err, &se) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if se != nil && se.Line == 0 {
			t.Errorf("%s: no line in %v", name, err)
		}
	}
	if _, err := documents(deep(200)); err != nil {
		t.Errorf("200 levels: %v", err)
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestJSON(t *testing.T) {
	nodes, err := ParseJSON([]byte("{\"a\": [1, 2.5, \"\\ud83d\\ude00\", null],\n  \"b\": {\"c\": true}}\n{\"d\": 18446744073709551616}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 || nodes[0].Get("a").Items[2].Text != "😀" || nodes[1].Get("d").Kind != Float {
		t.Fatalf("%v", nodes)
	}
	if spot, _ := nodes[0].SpotOf(ParsePath("b.c")); spot != (Spot{2, 9}) {
		t.Errorf("b.c at %v", spot)
	}
	for text, want := range map[string]string{
		`{"a": 1, "a": 2}`: `line 1, column 10: key "a" stands twice`,
		"{\n \"a\": tru}":  "line 2",
		`{"a": [`:          "ends inside",
		`{"a": 1e999}`:     "64 bits",
		strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600): "deeper than 500",
	} {
		if _, err := ParseJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add("a: 1\n---\nb: [x, *y]\n")
	f.Add("a: &x {<<: *x}\n")
	f.Add("\xef\xbb\xbf# c\r\na: |\r\n  b\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		for part := range Split([]byte(text)) {
			n, err := ParseYAML(part)
			if err != nil || n == nil {
				continue
			}
			if back, err := ParseJSON(n.JSON()); err == nil && n.Kind == Map && len(back) != 1 {
				t.Fatalf("%q became %d JSON values", part.Bytes, len(back))
			}
			_, _ = FromNode(n, &Origin{})
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add(`{"a": [1, "b", {"c": null}]}`)
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = ParseJSON([]byte(text))
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n      - name: app\n        image: nginx:1.27\n        env:\n        - {name: A, value: b}\n")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		for t := range Split(text) {
			if _, err := ParseYAML(t); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestQuote holds that a line of any length is quoted around the column, with
// the column in its place, and that it costs little.
func TestQuote(t *testing.T) {
	for _, filler := range []string{"x", "é"} {
		long := strings.Repeat(filler, 5000) + "HERE" + strings.Repeat(filler, 40_000)
		for _, text := range []string{"a\n" + long + "\nb", long} {
			before, _, _ := strings.Cut(text, "HERE")
			n := 1 + strings.Count(before, "\n")
			quote, col := newLineIndex([]byte(text)).quote(n, 5001)
			if filler != "x" {
				if quote != "" {
					t.Errorf("a long line that is not ASCII is quoted: %d bytes", len(quote))
				}
				continue
			}
			if len(quote) > quoteWidth || !strings.HasPrefix(quote[col-1:], "HERE") {
				t.Errorf("column %d of %q", col, quote)
			}
		}
	}
	if quote, col := newLineIndex([]byte("ab\r\ncd")).quote(1, 2); quote != "ab" || col != 2 {
		t.Errorf("%q %d", quote, col)
	}
}
