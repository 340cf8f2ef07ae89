// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cases are texts, edits of them and what they become; "refused: " begins a
// reason.
var cases = []struct{ name, before, edits, after string }{
	// Values in place.
	{"scalar", "a: true  # why\nb: 1\n", `set a=false`, "a: false  # why\nb: 1\n"},
	{"already so", "a: false # no\n", `set a=false`, "a: false # no\n"},
	{"no newline at the end", "b: 1\na: true", `set a=false`, "b: 1\na: false"},
	{"value on the next line", "a:\n  # c\n  true\nb: 1\n", `set a=false`, "a:\n  # c\n  false\nb: 1\n"},
	{"keeps double quotes", "a: \"x\"\n", `set a="y"`, "a: \"y\"\n"},
	{"keeps single quotes", "a: 'x'\n", `set a="it's"`, "a: 'it''s'\n"},
	{"string to boolean", "a: \"true\"\n", `set a=true`, "a: true\n"},
	{"quoted key", "\"a\": 1\n'b': 2\n", `set a=3; set b=4`, "\"a\": 3\n'b': 4\n"},
	{"on as a key", "on: 1\n", `set true=2`, "on: 2\n"},
	{"number as a key", "8080: 1\n", `set 8080=2`, "8080: 2\n"},
	{"multi-line plain", "a: one\n  two\n\n  three # c\nb: 1\n", `set a="x"`, "a: x # c\nb: 1\n"},
	{"multi-line quoted", "a: \"one\n  two\" # c\nb: 1\n", `set a="x"`, "a: \"x\" # c\nb: 1\n"},
	{"block scalar", "a: |\n  one\n\n  two\n\nb: 1\n", `set a="x"`, "a: x\n\nb: 1\n"},
	{"null word", "a: null # c\nb: ~\n", `set a=1; set b=2`, "a: 1 # c\nb: 2\n"},
	{"no value", "a:\nb:   # c\nc: 1\n", `set a=1; set b=2`, "a: 1\nb: 2   # c\nc: 1\n"},
	{"map to scalar", "a:  # c\n  b: 1\n  c: 2\nd: 3\n", `set a=1`, "a: 1  # c\nd: 3\n"},
	{"list to scalar", "a:\n- b\n- c\nd: 3\n", `set a=1`, "a: 1\nd: 3\n"},
	{"list to list", "a:\n  - b\n  # x\n  - c\nd: 3\n", `set a=["e"]`, "a:\n  - e\nd: 3\n"},
	{"map to map", "a:\n  b: 1\nd: 3\n", `set a={"c":{"e":[]}}`, "a:\n  c:\n    e: []\nd: 3\n"},
	{"map to list", "a:\n  b: 1\nd: 3\n", `set a=[1,2]`, "a:\n  - 1\n  - 2\nd: 3\n"},
	{"list to map", "a:\n- b\nd: 3\n", `set a={"x":1}`, "a:\n  x: 1\nd: 3\n"},
	{"scalar to map", "a: b # c\nd: 3\n", `set a={"x":1}`, "a: # c\n  x: 1\nd: 3\n"},
	{"flow to flow", "a: ['b', 'c']\nd: 3\n", `set a=["x"]`, "a: ['x']\nd: 3\n"},
	{"item", "a:\n- b # c\n- d\n", `set a[0]="x"`, "a:\n- x # c\n- d\n"},
	{"item to map", "a:\n- b\n- d\n", `set a[0]={"x":1,"v":[2]}`, "a:\n- x: 1\n  v:\n  - 2\n- d\n"},
	{"map item to scalar", "a:\n- x: 1\n  y: 2\n- d\n", `set a[0]="b"`, "a:\n- b\n- d\n"},
	{"multi-byte", "ключ: {é: \"日本\", b: 1}\n", `set ключ.b=2; set ключ.é="x"`, "ключ: {é: \"x\", b: 2}\n"},
	{"line break of old", "a: \"x\u2028\"\nb: 1\n", `set b=2`, "a: \"x\u2028\"\nb: 2\n"},
	{"template value", "a: \"{{ .x }}\"\n", `set a=2`, "refused: a is a template ({{ ... }}): edit it by hand"},

	// Quoting.
	{"yes", "a: 1\n", `set b="yes"; set c="RuntimeDefault"; set d="0777"; set e="1e3"; set f=""; set g="2024-01-01"`,
		"a: 1\nb: \"yes\"\nc: RuntimeDefault\nd: \"0777\"\ne: \"1e3\"\nf: \"\"\ng: \"2024-01-01\"\n"},
	{"specials", "a: 1\n", `set b="a: b"; set c="x #y"; set d="*x"; set e="null"; set f="x\ny"; set g="a:b@c"; set h="~"; set i="- x"`,
		"a: 1\nb: \"a: b\"\nc: \"x #y\"\nd: \"*x\"\ne: \"null\"\nf: \"x\\ny\"\ng: a:b@c\nh: \"~\"\ni: \"- x\"\n"},
	{"keys", "a: 1\n", `set yes=2; set 8=3; set x/y=4`, "a: 1\n\"yes\": 2\n\"8\": 3\nx/y: 4\n"},
	{"numbers", "a: 1\n", `set b=1.5; set c=1e30; set d=-3; set e=2.0`, "a: 1\nb: 1.5\nc: 1e+30\nd: -3\ne: 2\n"},

	// New keys.
	{"last in a mapping", "a:\n  b: 1\nc: 2\n", `set a.d=3`, "a:\n  b: 1\n  d: 3\nc: 2\n"},
	{"at the end", "a:\n  b: 1", `set a.d=3`, "a:\n  b: 1\n  d: 3"},
	{"after the siblings' whole extent", "a:\n  b:\n    - c: |\n        x\n\n        y\n\nd: 1\n", `set a.e=1`, "a:\n  b:\n    - c: |\n        x\n\n        y\n  e: 1\n\nd: 1\n"},
	{"after kept line breaks", "a:\n  b: |+\n    x\n\nd: 1\n", `set a.e=1`, "a:\n  b: |+\n    x\n\n  e: 1\nd: 1\n"},
	{"stripped without a newline", "a:\n  b: |-\n    x", `set a.e=1`, "a:\n  b: |-\n    x\n  e: 1"},
	{"clipped without a newline", "a:\n  b: |\n    x", `set a.e=1`, "refused: the document ends in a block scalar without a line break, and an entry after it would add one to the value: edit it by hand"},
	{"indented block scalar", "a:\n  b: >2-\n      x\n\n     y\n # c\nd: 1\n", `set a.e=1`, "a:\n  b: >2-\n      x\n\n     y\n  e: 1\n # c\nd: 1\n"},
	{"after a multi-line plain scalar", "a:\n  b: x\n   y\n   z\nd: 1\n", `set a.e=1`, "a:\n  b: x\n   y\n   z\n  e: 1\nd: 1\n"},
	{"after a multi-line flow", "a:\n  b: [\n    x # y\n  ] # z\nd: 1\n", `set a.e=1`, "a:\n  b: [\n    x # y\n  ] # z\n  e: 1\nd: 1\n"},
	{"own comments before, others' after", "a:\n  b: 1\n  # own\n    # own too\n # d's\n# d's\nd: 1\n", `set a.e=1`, "a:\n  b: 1\n  # own\n    # own too\n  e: 1\n # d's\n# d's\nd: 1\n"},
	{"blank line before the next", "a:\n  b: 1\n\n  # far\nd: 1\n", `set a.e=1`, "a:\n  b: 1\n  e: 1\n\n  # far\nd: 1\n"},
	{"no value to map", "a:\nb: 1\n", `set a.c=2`, "a:\n  c: 2\nb: 1\n"},
	{"no value, comment", "a:   # c\n  # d\nb: 1\n", `set a.c.e=2`, "a:   # c\n  c:\n    e: 2\n  # d\nb: 1\n"},
	{"null word to map", "a: ~ # c\nb: null", `set a.c=2; set b.d=1`, "a: # c\n  c: 2\nb:\n  d: 1"},
	{"empty flow", "a: {} # c\nb: 1\n", `set a.c=2`, "a: # c\n  c: 2\nb: 1\n"},
	{"empty flow with space", "a: { }\nb: 1\n", `set a.c=2; set a.d=3`, "a:\n  c: 2\n  d: 3\nb: 1\n"},
	{"empty flow at the end", "b: 1\na: {}", `set a.c=2`, "b: 1\na:\n  c: 2"},
	{"empty flow item", "a:\n- {}\n", `set a[0].c=2`, "a:\n- {c: 2}\n"},
	{"several under one new parent", "a:\n- name: x\n  image: y\n", `set a[x].s.p=false; set a[x].s.q.r="Z"; add a[x].s.t.u="ALL"`,
		"a:\n- name: x\n  image: y\n  s:\n    p: false\n    q:\n      r: Z\n    t:\n      u:\n      - ALL\n"},
	{"own indentation", "a:\n    b:\n        c: 1\n    d:\n        - x\n", `set a.e.f=1; add a.g="v"`, "a:\n    b:\n        c: 1\n    d:\n        - x\n    e:\n        f: 1\n    g:\n        - v\n"},
	{"key on the dash line", "a:\n  -   name: x\n  -   name: y\n", `set a[x].p={"q":1}`, "a:\n  -   name: x\n      p:\n        q: 1\n  -   name: y\n"},
	{"nested sequence", "a:\n- - b: 1\n  - c\n", `set a[0][0].d=2; add a[0]="e"`, "a:\n- - b: 1\n    d: 2\n  - c\n  - e\n"},
	{"no value in an item", "a:\n-\n- # c\n- ~\n", `set a[0]={"x":1,"w":2}; set a[1]={"x":1,"w":2}; set a[2]={"z":1}`,
		"a:\n- x: 1\n  w: 2\n- # c\n  x: 1\n  w: 2\n- z: 1\n"},
	{"CRLF", "a:\r\n  b: 1\r\nc: {}\r\n", `set a.d=1; set c.e.f=2; set a.b=3`, "a:\r\n  b: 3\r\n  d: 1\r\nc:\r\n  e:\r\n    f: 2\r\n"},
	{"BOM", "\xef\xbb\xbfa: 1\nb: 2\n", `set a=3; set c=4`, "\xef\xbb\xbfa: 3\nb: 2\nc: 4\n"},
	{"document marks", "--- # c\na:\n  b: 1\n...\n", `set a.c=2; set d=3`, "--- # c\na:\n  b: 1\n  c: 2\nd: 3\n...\n"},
	{"flow beside the mark", "--- {a: b}\n", `set c=1`, "--- {a: b, c: 1}\n"},
	{"directive", "%YAML 1.1\n---\na: 1\n", `set b=2`, "%YAML 1.1\n---\na: 1\nb: 2\n"},
	{"trailing spaces", "a:   \n  b: 1  \nc: 2 \t\n", `set a.d=1; set c=3`, "a:   \n  b: 1  \n  d: 1\nc: 3 \t\n"},
	{"item with comments", "c:\n- name: a\n  image: b\n  # about the tail\n# second\n- name: d\n", `set c[a].e=1`, "c:\n- name: a\n  image: b\n  # about the tail\n  e: 1\n# second\n- name: d\n"},

	// Flow.
	{"flow mapping", "a: {name: a, s: {p: true}}\n", `set a.s.p=false; set a.s.q="x"; set a.t={"u":["v"]}`, "a: {name: a, s: {p: false, q: x}, t: {u: [v]}}\n"},
	{"flow over lines", "a: {\n    b: 1, # one\n    c: 2  # two\n  }\n", `set a.d=3`, "a: {\n    b: 1, # one\n    c: 2,  # two\n    d: 3\n  }\n"},
	{"flow with a last comma", "a: {\n  b: 1, # one\n}\nd: [x, ]\n", `set a.c=3; add d="v"`, "a: {\n  b: 1, # one\n  c: 3,\n}\nd: [x, v, ]\n"},
	{"flow, brace on the line", "a: {\n  b: 1}\n", `set a.c=3`, "a: {\n  b: 1,\n  c: 3}\n"},
	{"flow without values", "a: {b, c: , d: ~}\n", `set a.b=1; set a.c={"x":2}; set a.d=3`, "a: {b: 1, c: {x: 2}, d: 3}\n"},
	{"flow quotes", "a: {\"b\": \"x\"}\nc: ['x']\nd: [\"x\",\"y\"]\n", `set a.e="y"; add c="z"; add d="z"`, "a: {\"b\": \"x\", \"e\": \"y\"}\nc: ['x', 'z']\nd: [\"x\",\"y\",\"z\"]\n"},
	{"flow needs quotes", "a: {b: 1}\n", `set a.c="x,y"; set a.d="n:1"`, "a: {b: 1, c: \"x,y\", d: \"n:1\"}\n"},
	{"comment in empty brackets", "a: { # c\n  }\n", `set a.b=1`, "refused: line 1 has comments between empty brackets: edit it by hand"},

	// JSON.
	{"JSON compact", `{"a":{"b":true},"c":[]}`, `set a.b=false; set a.d={"e":["f"]}; add c="x"`, `{"a":{"b":false,"d":{"e":["f"]}},"c":["x"]}`},
	{"JSON with spaces", `{"a": {"b": true}, "c": 1}`, `set a.d={"e":1,"f":2}`, `{"a": {"b": true, "d": {"e": 1, "f": 2}}, "c": 1}`},
	{"JSON indented", "{\n    \"a\": {\n        \"b\": true\n    },\n    \"c\": {}\n}\n", `set a.d.e=["ALL"]; set c.x=null; set c.y=1`,
		"{\n    \"a\": {\n        \"b\": true,\n        \"d\": {\n            \"e\": [\n                \"ALL\"\n            ]\n        }\n    },\n    \"c\": {\n        \"y\": 1\n    }\n}\n"},
	{"JSON with tabs and escapes", "{\n\t\"a\\/b\": \"\\ud83d\\ude00\",\n\t\"c\": [\n\t\t1\n\t]\n}", `set a/b="\u0000x"; add c={"d":2}`,
		"{\n\t\"a\\/b\": \"\\u0000x\",\n\t\"c\": [\n\t\t1,\n\t\t{\n\t\t\t\"d\": 2\n\t\t}\n\t]\n}"},
	{"JSON removal", "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": [\n      1\n    ]\n  }\n}\n", `remove b.c[0]`, "{\n  \"a\": 1\n}\n"},
	{"JSON removal compact", `{"a":1,"b":2,"c":3}`, `remove a; remove c`, `{"b":2}`},

	// Lists.
	{"add", "a:\n- x\nb: 1\n", `add a="v"; add a="x"`, "a:\n- x\n- v\nb: 1\n"},
	{"add, indented, comments", "a:\n  - x # c\n  # - z\nb: 1\n", `add a="v"`, "a:\n  - x # c\n  # - z\n  - v\nb: 1\n"},
	{"add, not indented, next key's comment", "a:\n- x\n# b\nb: 1\n", `add a="v"`, "a:\n- x\n- v\n# b\nb: 1\n"},
	{"add, quoted like the others", "a:\n- 'x'\n", `add a="y"`, "a:\n- 'x'\n- 'y'\n"},
	{"add to nothing", "a:\n  b: 1\nl:\n- x\n", `add a.c.drop="ALL"`, "a:\n  b: 1\n  c:\n    drop:\n    - ALL\nl:\n- x\n"},
	{"add to empty", "a: []\nb:\nc: {d: []}\n", `add a="x"; add b="v"; add c.d="z"`, "a:\n- x\nb:\n- v\nc: {d: [z]}\n"},
	{"add a map", "a:\n-   name: x\n    v: 1\n", `add a={"name":"u","v":{"w":2}}`, "a:\n-   name: x\n    v: 1\n-   name: u\n    v:\n      w: 2\n"},
	{"add to a scalar", "a: x\n", `add a="y"`, "refused: a is a string, not a list"},

	// Removals.
	{"remove a line", "a: 1\n# head\nb: 2 # c\nc: 3\n", `remove b`, "a: 1\n# head\nc: 3\n"},
	{"remove a tree", "a:\n  b:\n    c: |\n      x\n  d:\n  - e\n\n  # f\nz: 1\n", `remove a.b`, "a:\n  d:\n  - e\n\n  # f\nz: 1\n"},
	{"remove the last line", "a: 1\nb: 2", `remove b`, "a: 1"},
	{"remove the last line, CRLF", "a: 1\r\nb: 2", `remove b`, "a: 1"},
	{"remove after a block scalar", "a: |\n  x\nb: 2", `remove b`, "a: |\n  x\n"},
	{"remove cascades", "a:\n  b:\n    c:\n    - x\nz: 1\n", `remove a.b.c[0]`, "z: 1\n"},
	{"remove on the dash line", "a:\n- p: 1 # c\n  q: 2\n- r: 1\n", `remove a[0].p`, "a:\n- q: 2\n- r: 1\n"},
	{"remove on the dash line, comments", "a:\n-   p:\n      x: 1\n    # q's\n    q: 2\n", `remove a[0].p`, "a:\n-\n    # q's\n    q: 2\n"},
	{"remove a whole item", "a:\n- p: 1\n- r: 1\n  s: 2\n", `remove a[0].p`, "a:\n- r: 1\n  s: 2\n"},
	{"remove by name", "a:\n- name: x\n  v: 1\n# y's\n- name: y\n", `remove a[x]`, "a:\n# y's\n- name: y\n"},
	{"remove nested first", "a:\n- - b\n  - c\n- d\n", `remove a[0][0]`, "a:\n- - c\n- d\n"},
	{"remove several items", "a: [w, x, y, z]\nb:\n- 1\n- 2\n- 3\n", `remove a[0]; remove a[1]; remove a[3]; remove b[2]; remove b[0]`, "a: [y]\nb:\n- 2\n"},
	{"remove all items", "a: [x, y]\nb: 1\n", `remove a[0]; remove a[1]; remove a[1]`, "b: 1\n"},
	{"remove from flow", "a: {b: 1, c: 2, d: 3}\n", `remove a.c; remove a.d`, "a: {b: 1}\n"},
	{"remove first from flow", "a: { b: 1, c: 2 }\n", `remove a.b`, "a: { c: 2 }\n"},
	{"remove from flow over lines", "a: [\n  b, # b\n  c, # c\n  d # d\n]\n", `remove a[2]; remove a[0]`, "a: [\n  c # c\n]\n"},
	{"remove the last of a line", "a: [b, c,\n  d]\n", `remove a[1]`, "a: [b,\n  d]\n"},
	{"remove with a last comma", "a: [b, c,]\n", `remove a[1]`, "a: [b,]\n"},
	{"remove what is not there", "a: 1\nb:\n", `remove c.d; remove b; remove a.x`, "a: 1\nb:\n"},
	{"remove everything", "a:\n  b: 1\n", `remove a.b`, "refused: nothing would be left of the document"},
	{"remove, then set under it", "a:\n  b: 1\nz: 1\n", `remove a.b; set a.c=2`, "z: 1\na:\n  c: 2\n"},
	{"set in what is removed", "a:\n- b: 1\n- c\n", `remove a[0]; set a[0].d=1`, "refused: a[0].d is removed by an edit before this one"},

	// Anchors, aliases, merge keys, tags.
	{"anchored and shared", "web: &common\n  a: 1\nworker: *common\n", `set web.a=2`, "refused: worker shares this value through the anchor &common: edit it by hand"},
	{"alias on the path", "web: &common\n  a: 1\nworker: *common\n", `set worker.a=2`, "refused: worker is an alias of &common, which other places may share: edit it by hand"},
	{"alias as the value", "a: &x true\nb: *x # c\n", `set b=false`, "a: &x true\nb: false # c\n"},
	{"anchored scalar", "a: &x true\nb: *x\nc: *x\n", `set a=false`, "refused: b and c share this value through the anchor &x: edit it by hand"},
	{"anchored, not shared", "a: &x\n  b: 1\n", `set a.c=2`, "a: &x\n  b: 1\n  c: 2\n"},
	{"anchored nothing", "a: &x\nb: 1\n", `set a.c=2`, "a: &x\n  c: 2\nb: 1\n"},
	{"anchored null word", "a: &x ~ # c\nb: &y null\nc:\n- &z\n- &w ~ # d\n", `set a.c=2; set b=true; set c[0].d=1; set c[1]=["e"]`, "a: &x # c\n  c: 2\nb: &y true\nc:\n- &z\n  d: 1\n- &w # d\n  - e\n"},
	{"anchor of others removed", "a:\n  b: &x\n    c: 1\nd: *x\ne: *x\nf: *x\ng: *x\n", `remove a.b; set d=1`, "refused: d, e and others share this value through the anchor &x: edit it by hand"},
	{"blank lines that would count", "a: |+\n  x\n\nb: 1\n\n\nc: 2\n", `remove b`, "a: |+\n  x\n\nc: 2\n"},
	{"merged scalar", "d: &d\n  p: true\na:\n  <<: *d\n  q: 1\n", `set a.p=false`, "d: &d\n  p: true\na:\n  <<: *d\n  q: 1\n  p: false\n"},
	{"merged parent", "d: &d\n  s: {p: true}\na:\n  <<: *d\n  q: 1\n", `set a.s.p=false`, "refused: a.s comes through a merge key (<<), and a key written here would replace all of it: edit it by hand"},
	{"merged list", "d: &d\n  s: [p]\na:\n  <<: *d\n  q: 1\n", `add a.s="q"`, "refused: a.s comes through a merge key (<<), and a key written here would replace all of it: edit it by hand"},
	{"merged removal", "d: &d\n  p: true\na:\n  <<: *d\n  q: 1\n", `remove a.p`, "refused: a.p comes through a merge key (<<): edit it where it is anchored"},
	{"merged once removed", "d: &d\n  p: true\na:\n  <<: *d\n  p: 3\n", `remove a.p`, "refused: a.p would still come through the merge key (<<) beside it: edit it by hand"},
	{"comment that would count", "a: |\n  x\nb: 1\n   # c\nc: 2\n", `remove b`, "refused: the layout around the value is unusual, and the edit would change more than this value: edit it by hand"},
	{"new key beside a merge", "d: &d\n  p: true\na:\n  <<: *d\n", `set a.s.t=1`, "d: &d\n  p: true\na:\n  <<: *d\n  s:\n    t: 1\n"},
	{"overridden where merged", "d: &d\n  p: true\na:\n  <<: *d\n  p: 3\n", `set d.p=false`, "d: &d\n  p: false\na:\n  <<: *d\n  p: 3\n"},
	{"tag", "a: !!map\n  b: 1\nc: !!str x\n", `set a.b=2`, "refused: a has a tag: edit it by hand"},
	{"tagged value", "c: !!str x\n", `set c=2`, "refused: c has a tag: edit it by hand"},
	{"explicit key", "? a\n: b: 1\n", `set a.b=2`, "refused: a is a key written with ?: edit it by hand"},
	{"pair without braces", "a: [b: 1]\n", `set a[0].b=2`, "refused: a[0] is a pair without braces in a flow list: edit it by hand"},

	// What is no document, and paths that lead nowhere.
	{"template", "a: {{ .Values.a }}\n", `set a=1`, "refused: the text is a template ({{ ... }}), not YAML: edit it by hand"},
	{"two JSON documents", `{"a":1}{"a":2}`, `set a=1`, "refused: the text holds 2 JSON documents, not one"},
	{"nothing", "# only\n", `set a=1`, "refused: the document is empty"},
	{"no such item", "a:\n- name: x\n", `set a[y].b=1`, "refused: there is no a[y]"},
	{"index out of range", "a:\n- x\n", `set a[3]=1`, "refused: there is no a[3]"},
	{"through a scalar", "a: x\n", `set a.b=1`, "refused: a is a string, not a map"},
	{"through a list", "a:\n- x\n", `set a.b=1`, "refused: a is a list, not a map"},
	{"an unknown edit", "a: 1\n", `move a=1`, `refused: unknown edit "move"; want set, remove or add`},
	{"no JSON value", "a: 1\n", `set a=x`, `refused: the edit's value "x" is not JSON`},
}

func TestApply(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, refused := apply(t, c.before, edits(t, c.edits))
			if refused != nil {
				got = "refused: " + refused.Reason
			}
			if diff := cmp.Diff(strings.SplitAfter(c.after, "\n"), strings.SplitAfter(got, "\n")); diff != "" {
				t.Errorf("%s\nbefore:\n%s\nafter:\n%s\n(-want +got):\n%s", c.edits, c.before, got, diff)
			}
		})
	}
}
