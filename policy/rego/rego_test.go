// SPDX-License-Identifier: Apache-2.0

package rego_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/verdict"
)

func tree(t testing.TB, kind string, spec map[string]any) *object.Object {
	t.Helper()
	root := object.FromAny(map[string]any{
		"apiVersion": "v1", "kind": kind,
		"metadata": map[string]any{"name": "web"},
		"spec":     spec,
	})
	return object.New(root, &object.Origin{Source: "web.yaml"})
}

func load(t testing.TB, source string) *policy.Set {
	t.Helper()
	set := rego.LoadModules(map[string][]byte{"main.rego": []byte(source)}, nil, policy.Options{})
	for _, p := range set.Problems {
		t.Fatalf("%s:%d: %s", p.Position.File, p.Position.Line, p.Message)
	}
	return set
}

func judge(r policy.Rule, o *object.Object) (control.Verdict, bool) {
	return r.Judge(context.Background(), &policy.Request{Object: o})
}

// said is a verdict on a line: the outcome, then the messages.
func said(v control.Verdict, applies bool) string {
	if !applies {
		return "none"
	}
	out := string(v.Outcome)
	for _, f := range v.Findings {
		out += "; " + f.Path.String() + ": " + f.Message
	}
	return strings.ReplaceAll(out, "; : ", "; ")
}

func pod(t testing.TB) *object.Object {
	t.Helper()
	return tree(t, "Pod", map[string]any{"containers": []any{
		map[string]any{"name": "app", "image": "nginx:latest"},
		map[string]any{"name": "log", "image": "fluent:1"},
	}})
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		name, source string
		want         string
	}{
		{"a set of messages", `package main
deny contains msg if { some c in input.spec.containers; endswith(c.image, ":latest"); msg := sprintf("container %q has no version", [c.name]) }`,
			`fail; spec.containers[app]: container "app" has no version`},
		{"the syntax of version 0", `package main
deny[msg] { c := input.spec.containers[_]; endswith(c.image, ":latest"); msg := sprintf("container %v has no version", [c.name]) }`,
			`fail; spec.containers[app]: container app has no version`},
		{"an object with a place", `package main
violation contains {"msg": "no version", "path": "spec.containers[1].image"}`,
			`fail; spec.containers[log].image: no version`},
		{"a place as a list", `package main
violation contains {"msg": "no version", "path": ["spec", "containers", 0, "image", "tag"]}`,
			`fail; spec.containers[app].image: no version`},
		{"nothing found", `package main
deny contains msg if { input.spec.hostNetwork; msg := "host network" }`, "pass"},
		{"an object without a message", `package main
deny contains {"details": 1}`, "unknown; a result is an object without a text msg"},
		{"a number for a message", `package main
deny contains 1`, "unknown; a result is a number, not a message"},
		{"no set", `package main
deny if { input.kind == "Pod" }`, "unknown; main.rego:2: the value of the rule is true, not a set of messages: write it as deny contains message if { … }"},
		{"a map by mistake", `package main
deny_x[msg] if { msg := "x" }`, "unknown; main.rego:2: the value of the rule is an object, not a set of messages: write it as deny_x contains message if { … }"},
		{"false", `package main
default deny := false`, "pass"},
		{"an exception", `package main
deny_latest contains "latest" if true
exception contains ["latest"] if input.metadata.name == "web"`, "none"},
		{"an exception of another rule", `package main
deny_latest contains "latest" if true
exception contains ["other"] if input.metadata.name == "web"`, "fail; latest"},
		{"an exception of the rule without a word", `package main
deny contains "latest" if true
exception contains [""] if input.metadata.name == "web"`, "none"},
		{"the network", `package main
deny contains "x" if http.send({"method": "GET", "url": "http://127.0.0.1:1"}).status_code == 200`,
			"unknown; it calls http.send: calls to \"127.0.0.1:1\" are not allowed; a baseline allows them in spec.network.hosts"},
		{"the network, through a function", `package main
f(x) := http.send({"method": "GET", "url": x})
g(x) := y if { y := f(x).body }
deny contains "x" if g("http://127.0.0.1:1")`,
			"unknown; it calls http.send: calls to \"127.0.0.1:1\" are not allowed; a baseline allows them in spec.network.hosts"},
		{"the network, through data", `package main
answers.a := http.send({"method": "GET", "url": "http://127.0.0.1:1"})
deny contains x if { some x; data.main.answers[x] }`,
			"unknown; it calls http.send: calls to \"127.0.0.1:1\" are not allowed; a baseline allows them in spec.network.hosts"},
		{"the environment", `package main
deny contains "x" if opa.runtime().env.HOME`, "unknown; it calls opa.runtime: it reads the environment of the program"},
		{"the time", `package main
deny contains "x" if time.now_ns() > 0`, "unknown; it calls time.now_ns: the time is not told"},
		{"chance", `package main
deny contains "x" if rand.intn("a", 2) == 1`, "unknown; it calls rand.intn: it decides by chance"},
		{"values in errors", `package main
f(x) := "secret one" if x
f(x) := "secret two" if x
deny contains x if x := f(input.kind)`, "unknown; cannot be evaluated: main.rego:3: functions must not produce multiple outputs for same inputs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := load(t, test.source)
			if len(set.Rules) != 1 {
				t.Fatalf("%d rules, want 1", len(set.Rules))
			}
			if got := said(judge(set.Rules[0], pod(t))); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	set := load(t, `# METADATA
# title: Images have versions
# description: A version says what runs.
# custom:
#   severity: HIGH
#   remediation: Name a version.
#   category: images
package kubernetes.images

# METADATA
# scope: document
# title: No latest
warn_latest contains msg if { msg := "x" }

deny contains msg if { msg := "x" }
`)
	var got []string
	for _, r := range set.Rules {
		i := r.Info()
		got = append(got, strings.Join([]string{i.Name, i.Title, i.Description, i.Remediation, i.Topic, string(i.Severity), string(i.Action), i.Position.File}, "|"))
	}
	want := []string{
		"rego.kubernetes.images.deny|Images have versions|A version says what runs.|Name a version.|images|high|deny|main.rego",
		"rego.kubernetes.images.warn-latest|No latest|A version says what runs.|Name a version.|images|high|warn|main.rego",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKinds(t *testing.T) {
	const lib = `
is_pod if input.kind == "Pod"
is_job if input.kind = "Job"
default is_set := false
is_set if input.kind == "StatefulSet"
default odd := true
odd if input.kind == "Job"
workload if is_pod
workload if { not is_job; input.kind in {"Deployment", "Job"} }
`
	for _, test := range []struct{ body, want string }{
		{`input.kind == "Pod"`, "Pod"},
		{`"Pod" == input.kind`, "Pod"},
		{`input.kind in ["Pod", "Job"]`, "Job Pod"},
		{`k := input.kind; k == "Pod"`, "Pod"},
		{`is_pod`, "Pod"},
		{`is_set`, "StatefulSet"},
		{`workload`, "Deployment Job Pod"},
		{`odd`, "*"},
		{`not is_pod`, "*"},
		{`input.kind != "Pod"`, "*"},
		{`input.kind == "Pod" with input as {"kind": "Pod"}`, "*"},
		{`input.spec`, "*"},
	} {
		set := load(t, "package main\n"+lib+"\ndeny contains msg if { "+test.body+"; msg := \"x\" }")
		var kinds []string
		for _, k := range []string{"Deployment", "Job", "Pod", "Service", "StatefulSet"} {
			if set.Rules[0].Matches(object.GroupKind{Kind: k}) {
				kinds = append(kinds, k)
			}
		}
		got := strings.Join(kinds, " ")
		if len(kinds) == 5 {
			got = "*"
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.body, got, test.want)
		}
	}
}

// TestRefused: what is wrong with a file costs that file, and makes unknown what
// needs it.
func TestRefused(t *testing.T) {
	set := rego.LoadModules(map[string][]byte{
		"syntax.rego": []byte("package lib\n\nf(x) := {\n"),
		"types.rego":  []byte("package types\n\ndeny contains msg if { msg := nosuch(1) }\n"),
		"uses.rego":   []byte("package uses\n\nimport data.lib\n\ndeny contains \"x\" if lib.f\n"),
		"good.rego":   []byte("package good\n\ndeny contains \"x\" if input.kind\n"),
		"x_test.rego": []byte("this is no Rego"),
	}, nil, policy.Options{})
	var got []string
	for _, p := range set.Problems {
		got = append(got, p.Position.File+": "+p.Object.Name)
	}
	for _, r := range set.Rules {
		got = append(got, r.Info().Name+": "+said(judge(r, pod(t))))
	}
	want := []string{
		"syntax.rego: lib",
		"types.rego: types",
		"rego.good.deny: fail; x",
		"rego.uses.deny: unknown; it needs syntax.rego, which is refused",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestMissing: a rule that reads what nobody said is unknown, and no pass.
func TestMissing(t *testing.T) {
	const words = ", which is not among the policies and not in data beside them (data.yaml, data.json, or a folder data)"
	for _, test := range []struct{ name, body, want string }{
		{"data that there is", `deny contains "x" if input.metadata.name == data.names[_]`, "fail; x"},
		{"imported", "import data.names\n\ndeny contains \"x\" if names[0] == \"web\"", "fail; x"},
		{"data that there is not", `deny contains "x" if input.metadata.name == data.services.ports[_]`, "unknown; it reads data.services" + words},
		{"through others", `deny contains "x" if f(input)
f(x) if g == x
g := data.inventory.cluster`, "unknown; it reads data.inventory" + words},
		{"in what is negated, and in a comprehension", `deny contains "x" if not count([y | y := data.nothing[_]]) == 0`, "unknown; it reads data.nothing" + words},
		{"a part of a document", `deny contains "x" if data.config.denied`, "unknown; it reads data.config.denied" + words},
		{"a part of a text", `deny contains "x" if data.config.level.nothing`, "pass"},
		{"null", `deny contains "x" if data.config.none.nothing`, "pass"},
		{"a part by a variable", `deny contains "x" if data.config[input.metadata.name]`, "pass"},
		{"a rule of a package", `deny contains "x" if data.lib.yes`, "fail; x"},
		{"a rule that a package has not", `deny contains "x" if not data.lib.no`, "unknown; it reads data.lib.no" + words},
		{"data beside a package", `deny contains "x" if data.lib.more`, "fail; x"},
		{"what a rule says not", `deny contains "x" if data.lib.map.other`, "pass"},
		{"all packages", `deny contains "x" if data.lib[_] == true`, "fail; x"},
		{"a package by a variable", `deny contains "x" if { some p; p == "lib"; data[p].yes }`, "fail; x"},
		{"the file's name", `deny contains "x" if data.conftest.file.name`, "unknown; it reads data.conftest: the name of the file is not told to rules"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := rego.LoadModules(map[string][]byte{
				"main.rego": []byte("package main\n\n" + test.body),
				"lib.rego":  []byte("package lib\n\nyes := true\n\nmap := input.metadata\n"),
			}, map[string]any{"names": []any{"web"}, "config": map[string]any{"level": "high", "none": nil}, "lib": map[string]any{"more": true}}, policy.Options{})
			if len(set.Problems) > 0 || len(set.Rules) != 1 {
				t.Fatal(set)
			}
			if got := said(judge(set.Rules[0], pod(t))); got != test.want {
				t.Errorf("got %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestHostile: rules that never end, or want all memory, are stopped.
func TestHostile(t *testing.T) {
	const late, large = "takes longer than 50ms", "for a result of more than 4194304 bytes"
	for name, test := range map[string]struct{ source, want string }{
		"products": {`deny contains "x" if { a := numbers.range(1, 5000); some i, j, k; a[i] + a[j] + a[k] == -1 }`, late},
		"text":     {`deny contains "x" if count(concat("", [s | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); s := sprintf("%d%d", [i, j])])) == 1`, late},
		"range":    {`deny contains "x" if count(numbers.range(1, 100000000000)) == 1`, "it calls numbers.range " + large},
		"cidr":     {`deny contains "x" if count(net.cidr_expand("0.0.0.0/0")) == 1`, "it calls net.cidr_expand " + large},
		"bits":     {`deny contains "x" if bits.lsh(1, 400000000000) == 1`, "it calls bits.lsh " + large},
		"paths":    {`deny contains "x" if { n := numbers.range(1, 12); g := {i: n | some i in n}; count(graph.reachable_paths(g, {1})) == 1 }`, "it calls graph.reachable_paths " + large},
	} {
		t.Run(name, func(t *testing.T) {
			set := rego.LoadModules(map[string][]byte{"main.rego": []byte("package main\n\n" + test.source)}, nil, policy.Options{Timeout: 50 * time.Millisecond})
			if len(set.Rules) != 1 {
				t.Fatal(set.Problems)
			}
			v, _ := judge(set.Rules[0], pod(t))
			if v.Outcome != verdict.Unknown || !strings.Contains(v.Findings[0].Message, test.want) {
				t.Errorf("got %s", said(v, true))
			}
		})
	}
}

// TestDoubling: a file with a rule whose values double with every line is
// refused, and others are not.
func TestDoubling(t *testing.T) {
	text := "package main\n\ndeny contains msg if {\n\tx0 := [input]\n"
	for i := range 34 {
		text += fmt.Sprintf("\tx%d := [x%d, x%d]\n", i+1, i, i)
	}
	files := map[string][]byte{
		"doubling.rego": []byte(text + "\tmsg := json.marshal(x34)\n}\n"),
		"good.rego":     []byte("package good\n\ndeny contains \"x\"\n"),
	}
	set := rego.LoadModules(files, nil, policy.Options{})
	if len(set.Problems) != 1 || set.Problems[0].Position.File != "doubling.rego" || set.Problems[0].Position.Line == 0 ||
		!strings.Contains(set.Problems[0].Message, "once it is written out") {
		t.Errorf("got %v", set.Problems)
	}
	if len(set.Rules) != 1 || set.Rules[0].Info().Name != "rego.good.deny" {
		t.Errorf("got %v", set.Rules)
	}
}

// TestStuck: a rule that does not stop is given up, and at last not begun: values
// that hold others many times are compared in one step.
func TestStuck(t *testing.T) {
	text := "package main\n\ndeny contains \"x\" if {\n\ta0 := [x | x := 1]\n\tb0 := [x | x := 1]\n"
	for i := range 28 {
		text += fmt.Sprintf("\ta%[2]d := [a%[1]d | some _ in [1, 2]]\n\tb%[2]d := [b%[1]d | some _ in [1, 2]]\n", i, i+1)
	}
	set := rego.LoadModules(map[string][]byte{"main.rego": []byte(text + "\ta28 != b28\n}\n")}, nil, policy.Options{Timeout: 10 * time.Millisecond})
	if len(set.Rules) != 1 {
		t.Fatal(set.Problems)
	}
	var got []string
	for range 4 {
		got = append(got, said(judge(set.Rules[0], pod(t))))
	}
	late := "unknown; its evaluation did not stop within 50ms"
	want := []string{late, late, late, "unknown; it is no longer evaluated, since it did not stop in time 3 times"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownObject(t *testing.T) {
	set := load(t, "package main\n\ndeny contains \"x\" if not input.spec.safe")
	o := tree(t, "Pod", nil)
	root := *o.Root
	root.Fields = append(root.Fields, object.Field{Key: "data", Value: object.NewUnknown("made by a template")})
	o = object.New(&root, o.Origin)
	if got, want := said(judge(set.Rules[0], o)), "unknown; not known: made by a template"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSecret: what a policy quotes of a Secret is not shown.
func TestSecret(t *testing.T) {
	set := load(t, "package main\n\ndeny contains msg if msg := sprintf(\"%v is weak\", [input.data.password])")
	o := object.New(object.FromAny(map[string]any{"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"password": "aHVudGVyMg=="}}), &object.Origin{})
	if got, want := said(judge(set.Rules[0], o)), "fail; (masked) is weak"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestData(t *testing.T) {
	set := rego.LoadModules(map[string][]byte{"main.rego": []byte("package main\n\ndeny contains msg if { some msg in data.bad }")},
		map[string]any{"bad": []any{"one"}}, policy.Options{})
	if got, want := said(judge(set.Rules[0], pod(t))), "fail; one"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	v, applies := set.Rules[0].(rego.DocumentRule).JudgeDocument(context.Background(), []any{"x"})
	if got, want := said(v, applies), "fail; one"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzLoadModules: no text makes loading or judging fail other than by saying
// so.
func FuzzLoadModules(f *testing.F) {
	f.Add("package main\n\ndeny contains msg if { msg := input.kind }")
	f.Add("package a.b\n\nimport data.c\n\nwarn[x] { x := c.d[_] }\n\nexception[y] { y := [\"\"] }")
	f.Add("# METADATA\n# title: x\npackage a\n\ndefault deny := false")
	f.Fuzz(func(t *testing.T, source string) {
		set := rego.LoadModules(map[string][]byte{"a.rego": []byte(source)}, nil, policy.Options{Timeout: 10 * time.Millisecond})
		for _, r := range set.Rules {
			if r.Info().Title == "" || r.Info().Name == "" {
				t.Errorf("a rule without a name: %+v", r.Info())
			}
			judge(r, pod(t))
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	set := load(b, `package main
deny contains msg if { input.kind == "Pod"; some c in input.spec.containers; endswith(c.image, ":newest"); msg := sprintf("container %q has no version", [c.name]) }`)
	o := pod(b)
	for b.Loop() {
		judge(set.Rules[0], o)
	}
}

func BenchmarkJudgeShared(b *testing.B) {
	set := load(b, `package main
deny contains msg if { input.kind == "Pod"; some c in input.spec.containers; endswith(c.image, ":newest"); msg := sprintf("container %q has no version", [c.name]) }`)
	r := &policy.Request{Object: pod(b)}
	for b.Loop() {
		set.Rules[0].Judge(context.Background(), r)
	}
}
