// SPDX-License-Identifier: Apache-2.0

package rego_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/policy/rego"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ file, text, want string }{
		{"a.yaml", "a: yes\n---\nb: 1\n", `[{"a":true},{"b":1}]`},
		{"a.json", `[{"a": 1}, 2]`, `[{"a":1},2]`},
		{"a.toml", "at = 2026-01-02T03:04:05Z\nday = 2026-01-02\n[s]\nn = [1, 2.5]", `[{"at":"2026-01-02T03:04:05Z","day":"2026-01-02","s":{"n":[1,2.5]}}]`},
		{"a.ini", "top = 1\n[a b]\nkey = value ; note\nn: 5\non = true\nq = \"x # y\"\n", `[{"a b":{"key":"value","n":5,"on":true,"q":"x # y"}}]`},
		{"a.properties", "# note\na.b=c\\\n  d\nk : v\nword x y\nu=\\u0041\\t\n", `[{"a.b":"cd","k":"v","u":"A\t","word":"x y"}]`},
		{".env.prod", "export A=1 # one\nB=\"x ${A}\\n\"\nC='${A}'\nD=$NONE\n", `[{"A":"1","B":"x 1\n","C":"${A}","D":"$NONE"}]`},
		{"a.xml", `<?xml version="1.0"?><p id="1"><v>x</v><v>y</v>t<e/></p>`, `[{"p":{"#content":"t","-id":"1","e":"","v":["x","y"]}}]`},
		{".dockerignore", "# n\n!a\nb\n\n", `[[{"Kind":"Comment","Original":"# n","Value":" n"},{"Kind":"NegatedPath","Original":"!a","Value":"a"},{"Kind":"Path","Original":"b","Value":"b"},{"Kind":"Empty","Original":"","Value":""}]]`},
		{"a.tf", "resource \"a\" \"b\" {\n  n = 1\n  m = -2\n  s = \"x${var.y}\"\n  e = var.z\n  l = [true, null]\n  o = { k = 1, \"q\" = f(2) }\n  t = string\n}\nresource \"a\" \"b\" {}\nlocals {\n  c = \"%{if a}b%{else}c%{endif}%{for x in y}${x}%{endfor}\"\n}\n",
			`[{"locals":[{"c":"%{if a}b%{else}c%{endif}%{for x in y}${x}%{endfor}"}],"resource":{"a":{"b":[{"e":"${var.z}","l":[true,null],"m":-2,"n":1,"o":{"k":1,"q":"${f(2)}"},"s":"x${var.y}","t":"string"},{}]}}}]`},
		{"Dockerfile", "# note\nFROM --platform=linux/amd64 a:1 AS x\nENV A=\"b c\" D=e\nENV old style value\nLABEL a=b\nRUN apt \\\n  # why\n\n  install\nFROM b\nCOPY --from=x [\"a\", \"b\"]\nRUN <<EOT\nls\nEOT\nHEALTHCHECK CMD curl\nONBUILD RUN ls -l\nARG v=1\nEXPOSE 80 81\nENTRYPOINT [\"x\"]\n",
			`[[{"Cmd":"comment","Flags":null,"JSON":false,"Stage":0,"SubCmd":"","Value":["note"]},` +
				`{"Cmd":"from","Flags":["--platform=linux/amd64"],"JSON":false,"Stage":0,"SubCmd":"","Value":["a:1","AS","x"]},` +
				`{"Cmd":"env","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["A","\"b c\"","=","D","e","="]},` +
				`{"Cmd":"env","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["old","style value",""]},` +
				`{"Cmd":"label","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["a","b","="]},` +
				`{"Cmd":"run","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["apt   install"]},` +
				`{"Cmd":"from","Flags":[],"JSON":false,"Stage":1,"SubCmd":"","Value":["b"]},` +
				`{"Cmd":"copy","Flags":["--from=x"],"JSON":true,"Stage":1,"SubCmd":"","Value":["a","b"]},` +
				`{"Cmd":"run","Flags":[],"JSON":false,"Stage":1,"SubCmd":"","Value":["\u003c\u003cEOT"]},` +
				`{"Cmd":"healthcheck","Flags":[],"JSON":false,"Stage":1,"SubCmd":"","Value":["CMD","curl"]},` +
				`{"Cmd":"onbuild","Flags":[],"JSON":false,"Stage":1,"SubCmd":"RUN","Value":["ls -l"]},` +
				`{"Cmd":"arg","Flags":[],"JSON":false,"Stage":1,"SubCmd":"","Value":["v=1"]},` +
				`{"Cmd":"expose","Flags":[],"JSON":false,"Stage":1,"SubCmd":"","Value":["80","81"]},` +
				`{"Cmd":"entrypoint","Flags":[],"JSON":true,"Stage":1,"SubCmd":"","Value":["x"]}]]`},
		{"win.dockerfile", "# escape=`\nFROM a\nRUN dir C:\\ `\n  /s\n", "[[{\"Cmd\":\"comment\",\"Flags\":null,\"JSON\":false,\"Stage\":0,\"SubCmd\":\"\",\"Value\":[\"escape=`\"]}," + `{"Cmd":"from","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["a"]},{"Cmd":"run","Flags":[],"JSON":false,"Stage":0,"SubCmd":"","Value":["dir C:\\   /s"]}]]`},
	} {
		t.Run(test.file, func(t *testing.T) {
			docs, err := rego.Parse("dir/"+test.file, []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(docs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ file, text, want string }{
		{"a.cue", "x: 1", "a.cue: the format CUE is not supported; files that are read end in .dockerfile, .dockerignore,"},
		{"a.toml", "a = \n", "a.toml is no TOML that can be read: line 1"},
		{"a.tf", "a = {\n", "a.tf is no HCL that can be read: line"},
		{"a.tf", strings.Repeat("a = [", 1000), "a.tf is no HCL that can be read: it is nested more than 500 deep"},
		{"a.tf", "a \"b\" {}\na {}\n", `a.tf is no HCL that can be read: line 2: blocks a stand with and without the label ""`},
		{"Dockerfile", "FROM a\nFRON b\n", "Dockerfile is no Dockerfile that can be read: line 2: unknown instruction FRON"},
		{"Dockerfile", "# only\n", "it has no instructions"},
		{"a.ini", "[a]\nno value\n", "line 2: no key and value"},
		{"a.env", "a b c", "line 1: no variable and value: want NAME=value"},
		{"a.xml", "<a>", "a.xml is no XML that can be read"},
		{"a.json", "{", "a.json is no JSON that can be read"},
	} {
		_, err := rego.Parse(test.file, []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.file, err, test.want)
		}
	}
	if _, err := rego.Parse("a.cue", nil); !errors.Is(err, rego.ErrFormat) {
		t.Errorf("got %v, want ErrFormat", err)
	}
}

// FuzzParse: no text makes a reader fail other than by saying so, and what it
// returns is JSON.
func FuzzParse(f *testing.F) {
	for _, e := range rego.Endings() {
		f.Add("a"+e, "a = 1\n[b]\nc: \"d\"\n")
		f.Add("a"+e, "FROM a\nRUN <<A \\\nA\n")
		f.Add("a"+e, "<a b='c'>d</a>")
		f.Add("a"+e, "a \"b\" {\n c = \"${d(e)}\"\n}\n")
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		docs, err := rego.Parse(name, []byte(text))
		if err != nil {
			return
		}
		if _, err := json.Marshal(docs); err != nil {
			t.Error(err)
		}
	})
}
