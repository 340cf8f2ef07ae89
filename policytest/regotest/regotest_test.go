// SPDX-License-Identifier: Apache-2.0

package regotest_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/regotest"
)

func files(pairs ...string) map[string][]byte {
	out := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = []byte(pairs[i+1])
	}
	return out
}

func run(t *testing.T, file string, opts regotest.Options) *policytest.Report {
	t.Helper()
	r, err := regotest.Run(context.Background(), file, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func cases(r *policytest.Report) []string {
	var out []string
	for _, c := range r.Cases {
		line := fmt.Sprintf("%s:%d %s %s %s", c.Position.File, c.Position.Line, c.Suite, c.Name, c.Outcome)
		if c.Message != "" {
			line += ": " + c.Message
		}
		out = append(out, line)
	}
	return out
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const images = `package main

# Images have versions.
deny contains msg if {
	some c in input.spec.containers
	endswith(c.image, ":latest")
	not excepted
	msg := sprintf("container %q has no version", [c.name])
}

excepted if input.metadata.name == data.excepted

warn contains "host network" if input.spec.hostNetwork
`

const imagesTest = `package main

pod(image) := {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": image}]}}

test_latest if count(deny) == 1 with input as pod("nginx:latest")

test_version if count(deny) == 0 with input as pod("nginx:1")

test_wrong if {
	r := deny with input as pod("nginx:latest")
	count(r) == 2
}

test_undefined if {
	print("looking")
	input.nothing
}

todo_test_later if false

test_each[tc.note] if {
	some tc in [{"note": "one", "image": "a:latest", "want": 1}, {"note": "two", "image": "a:2", "want": 1}]
	count(deny) == tc.want with input as pod(tc.image)
}
`

func TestRun(t *testing.T) {
	r := run(t, "p/images_test.rego", regotest.Options{
		Files: files("p/images.rego", images, "p/images_test.rego", imagesTest),
		Data:  map[string]any{"excepted": "job"},
	})
	want(t, cases(r),
		"p/images_test.rego:5 main test_latest passed",
		"p/images_test.rego:7 main test_version passed",
		"p/images_test.rego:11 main test_wrong failed: count(r) == 2 does not hold: 1 is not 2",
		"p/images_test.rego:16 main test_undefined failed: input.nothing does not hold; it printed: looking",
		"p/images_test.rego:19 main todo_test_later skipped: its name begins with todo_",
		"p/images_test.rego:21 main test_each/one passed",
		"p/images_test.rego:21 main test_each/two failed: the case does not hold",
	)
	if got := r.Count(policytest.Failed); got != 3 {
		t.Errorf("%d cases failed, want 3", got)
	}
}

func TestSelected(t *testing.T) {
	r := run(t, "p/images_test.rego", regotest.Options{
		Files: files("p/images.rego", images, "p/images_test.rego", imagesTest),
		Run:   regexp.MustCompile("test_(latest|version)$"),
	})
	want(t, cases(r),
		"p/images_test.rego:5 main test_latest passed",
		"p/images_test.rego:7 main test_version passed")
}

func TestCoverage(t *testing.T) {
	r := run(t, "p/images_test.rego", regotest.Options{
		Files:    files("p/images.rego", images, "p/images_test.rego", "package main\n\ntest_latest if count(deny) == 1 with input as {\"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"a:latest\"}]}}\n"),
		Data:     map[string]any{"excepted": "job"},
		Coverage: true,
	})
	var got []string
	for _, b := range r.Coverage {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%v %d:%d %s %s %s", b.Hit, b.Position.Line, b.Position.Column, b.Rule, b.Way, b.Text)))
	}
	want(t, got,
		`true 4:1 deny  deny contains msg if {`,
		`true 6:2 deny true endswith(c.image, ":latest")`,
		`false 6:2 deny false endswith(c.image, ":latest")`,
		`true 7:2 deny true not excepted`,
		`false 7:2 deny false not excepted`,
		`false 11:1 excepted  excepted if input.metadata.name == data.excepted`,
		`false 11:13 excepted true excepted if input.metadata.name == data.excepted`,
		`true 11:13 excepted false excepted if input.metadata.name == data.excepted`,
		`false 13:1 warn  warn contains "host network" if input.spec.hostNetwork`,
		`false 13:33 warn true warn contains "host network" if input.spec.hostNetwork`,
		`false 13:33 warn false warn contains "host network" if input.spec.hostNetwork`,
	)
}

// TestClosest: a test is run with the rules that are closest to it.
func TestClosest(t *testing.T) {
	const rule, test = "package main\n\nimport data.lib\n\ndeny contains %q if lib.always\n", "package main\n\ntest_deny if deny == {%q}\n"
	all := files(
		"a/policy/deny.rego", fmt.Sprintf(rule, "a"), "a/policy/deny_test.rego", fmt.Sprintf(test, "a"),
		"b/deny.rego", fmt.Sprintf(rule, "b"), "b/tests/deny_test.rego", fmt.Sprintf(test, "b"),
		"lib/lib.rego", "package lib\n\nalways := true\n",
		"other/broken.rego", "package other\n\nno",
	)
	for _, file := range []string{"a/policy/deny_test.rego", "b/tests/deny_test.rego"} {
		want(t, cases(run(t, file, regotest.Options{Files: all})), file+":3 main test_deny passed")
	}
}

// TestBroken: what cannot be run is broken, and says where.
func TestBroken(t *testing.T) {
	all := files(
		"a/a.rego", "package a\n\nallow if nosuch(1)\n", "a/a_test.rego", "package a\n\ntest_allow if allow\n",
		"b/b.rego", "package b\n\nallow if {\n", "b/b_test.rego", "package b\n\ntest_allow if allow\n",
		"c/c_test.rego", "package c\n\ntest_net if not http.send({\"method\": \"GET\", \"url\": \"http://127.0.0.1:1/\"}).status_code == 200\n\ntest_mock if http.send({}).body == 1 with http.send as {\"body\": 1}\n",
	)
	want(t, cases(run(t, "a/a_test.rego", regotest.Options{Files: all})), "a/a.rego:3 a a_test.rego broken: undefined function nosuch")
	want(t, cases(run(t, "b/b_test.rego", regotest.Options{Files: all})), "b/b.rego:4 b b_test.rego broken: unexpected eof token")
	want(t, cases(run(t, "c/c_test.rego", regotest.Options{Files: all})),
		"c/c_test.rego:3 c test_net broken: it calls the network, which is not allowed: replace the function, as in with http.send as answer (http.send: disallowed host: 127.0.0.1)",
		"c/c_test.rego:5 c test_mock passed")
	if _, err := regotest.Run(context.Background(), "b/b.rego", regotest.Options{Files: all}); err == nil || !strings.HasPrefix(err.Error(), "b/b.rego:4: ") {
		t.Errorf("got %v, want an error at b/b.rego:4", err)
	}
}

// TestBounds: tests do not build values that are far larger than they are.
func TestBounds(t *testing.T) {
	r := run(t, "a_test.rego", regotest.Options{Files: files("a_test.rego", `package a

test_bits if bits.lsh(1, 400000000000) > 1

test_mocked if {
	x := json.marshal(1) with json.marshal as "seven"
	x == "seven"
}
`)})
	want(t, cases(r),
		"a_test.rego:3 a test_bits broken: a_test.rego:3: eval_builtin_error: bits.lsh: the test calls bits.lsh for a result of more than 4194304 bytes",
		"a_test.rego:5 a test_mocked passed",
	)
}

func TestUnreadable(t *testing.T) {
	test := `package main

test_format if parse_config("nginx", "http {}")

test_empty if {
	c := parse_config("groovy", "node {}")
	count(c) == 0
}

test_file if parse_config_file("missing.yaml")

test_broken_file if parse_combined_config_files(["missing.yaml"])
`
	r := run(t, "p/a_test.rego", regotest.Options{
		Files:    files("p/a_test.rego", test),
		ReadFile: func(name string) ([]byte, error) { return nil, fmt.Errorf("%s: there is no such file", name) },
	})
	want(t, cases(r),
		`p/a_test.rego:3 main test_format broken: p/a_test.rego:3: eval_builtin_error: parse_config: the format "nginx" is not supported`,
		`p/a_test.rego:5 main test_empty broken: p/a_test.rego:6: eval_builtin_error: parse_config: the format "groovy" is not supported`,
		`p/a_test.rego:10 main test_file broken: p/a_test.rego:10: eval_builtin_error: parse_config_file: p/missing.yaml: there is no such file`,
		`p/a_test.rego:12 main test_broken_file broken: p/a_test.rego:12: eval_builtin_error: parse_combined_config_files: p/missing.yaml: there is no such file`,
	)
}
