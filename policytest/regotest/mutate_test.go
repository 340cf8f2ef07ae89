// SPDX-License-Identifier: Apache-2.0

package regotest_test

import (
	"context"
	"fmt"
	"testing"

	"sconce.dev/sconce/policytest/regotest"
)

func mutants(t *testing.T, opts regotest.Options) []string {
	t.Helper()
	work, err := regotest.Load(opts).Mutations(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, run := range work {
		f := run()
		if f.Mistake != "" {
			out = append(out, f.Mistake)
		}
		killed := 0
		for _, m := range f.Mutants {
			if !m.Survived {
				killed++
				continue
			}
			out = append(out, fmt.Sprintf("%s:%d:%d %s: %s -> %s", m.Position.File, m.Position.Line, m.Position.Column, m.Operator, m.Before, m.After))
		}
		out = append(out, fmt.Sprintf("%s: %d killed of %d", f.File, killed, len(f.Mutants)))
	}
	return out
}

func TestMutate(t *testing.T) {
	const rules = "package a\n\nallow if {\n\tinput.n > 3\n\tnot input.off\n}\n\ndefault allow := false\n\nname := \"x\" if input.x == \"y\"\n"
	weak := files("a.rego", rules, "a_test.rego", "package a\n\ntest_yes if allow with input as {\"n\": 9}\n\ntest_no if not allow with input as {\"n\": 1}\n")
	want(t, mutants(t, regotest.Options{Files: weak}),
		"a.rego:4:2 bound: input.n > 3 -> input.n >= 3",
		"a.rego:4:2 constant: input.n > 3 -> input.n > 4",
		"a.rego:5:2 drop: not input.off -> (gone)",
		`a.rego:10:1 rule: name := "x" if input.x == "y" -> (never holds)`,
		`a.rego:10:16 negate: input.x == "y" -> input.x != "y"`,
		`a.rego:10:16 drop: input.x == "y" -> (gone)`,
		`a.rego:10:16 constant: input.x == "y" -> input.x == "y~"`,
		"a.rego: 4 killed of 11",
	)
	strong := files("a.rego", rules, "a_test.rego", `package a

test_yes if allow with input as {"n": 4}

test_no if not allow with input as {"n": 3}

test_off if not allow with input as {"n": 4, "off": true}

test_name if name == "x" with input as {"x": "y"}

test_no_name if not name with input as {"x": "z"}
`)
	want(t, mutants(t, regotest.Options{Files: strong}), "a.rego: 11 killed of 11")
}

func TestMutateMistakes(t *testing.T) {
	all := files("a/a.rego", "package a\n\nallow if input.x\n", "b/b.rego", "package b\n\nallow if input.x\n", "b/b_test.rego", "package b\n\ntest_allow if allow\n")
	want(t, mutants(t, regotest.Options{Files: all}),
		"a/a.rego: no test needs it: write one in a/a_test.rego",
		"a/a.rego: 0 killed of 0",
		"b/b_test.rego does not hold, so that it cannot tell mutants: test_allow: allow does not hold",
		"b/b.rego: 0 killed of 0",
	)
}
