// SPDX-License-Identifier: Apache-2.0

package regoguard_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/policy/regoguard"
)

// evaluate returns what the rule x of a module is, or why it is nothing.
func evaluate(t testing.TB, rules string) string {
	t.Helper()
	module, err := ast.ParseModuleWithOpts("main.rego", "package main\n\n"+rules, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	guards := regoguard.New("it", ast.Builtins, nil)
	c := guards.Compiler(ast.NewCompiler().WithCapabilities(guards.Capabilities(ast.CapabilitiesForThisVersion())))
	if c.Compile(map[string]*ast.Module{"main.rego": module}); c.Failed() {
		return "refused: " + c.Errors.Error()
	}
	cancel := topdown.NewCancel()
	defer time.AfterFunc(time.Minute, cancel.Cancel).Stop()
	found, err := topdown.NewQuery(ast.MustParseBody("data.main.x = out")).WithCompiler(c).WithBuiltins(guards.Builtins()).WithCancel(cancel).Run(t.Context())
	var unknown *regoguard.UnknownError
	switch {
	case errors.As(err, &unknown):
		return "unknown: " + unknown.What
	case err != nil:
		return err.Error()
	case len(found) == 0:
		return "undefined"
	}
	return found[0]["out"].String()
}

// TestBounds: functions do not build what is far larger than what they are given.
func TestBounds(t *testing.T) {
	graph := `g := {sprintf("%d", [i]): [sprintf("%d", [j]) | some j in numbers.range(1, 12)] | some i in numbers.range(1, 12)}; `
	for name, body := range map[string]string{
		"array.concat":              doubled(`array.concat(%[1]s, %[1]s)`, `[1]`, 40),
		"bits.lsh":                  `bits.lsh(1, 400000000000)`,
		"concat":                    doubled(`concat(%[1]s, [%[1]s, %[1]s])`, `"aaaa"`, 40),
		"graph.reachable_paths":     graph + `y := graph.reachable_paths(g, {"1"})`,
		"glob.match":                `y := glob.match(concat("", ["*x" | some i in numbers.range(1, 2000)]), [], concat("", ["x" | some i in numbers.range(1, 200000)]))`,
		"indexof_n":                 `s := concat("", ["x" | some i in numbers.range(1, 400000)]); y := indexof_n(s, concat("", [substring(s, 0, 200000), "y"]))`,
		"graphql.parse_query":       `graphql.parse_query(concat("", ["{a" | some i in numbers.range(1, 100000)]))`,
		"hex.encode":                doubled(`hex.encode(%s)`, `"aaaa"`, 40),
		"mul":                       doubled(`%[1]s * %[1]s`, "1e300", 40),
		"net.cidr_expand":           `net.cidr_expand("10.0.0.0/8")`,
		"numbers.range":             `numbers.range(1, 100000000000)`,
		"regex.replace":             doubled(`regex.replace(%[1]s, "", %[1]s)`, `"aaaa"`, 20),
		"replace":                   doubled(`replace(%[1]s, "a", %[1]s)`, `"aaaa"`, 20),
		"sprintf":                   `sprintf("%1000000000d", [1])`,
		"strings.render_template":   `strings.render_template("{{printf \"%1000000000d\" .a}}", {"a": 1})`,
		"units.parse":               `units.parse("1e400000000")`,
		"floor":                     doubled(`floor(%[1]s * %[1]s)`, "1e300", 40),
		"net.cidr_contains_matches": `n := [sprintf("10.0.%d.0/24", [i]) | some i in numbers.range(1, 3000)]; y := net.cidr_contains_matches(n, n)`,
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(body, ":=") {
				body = "y := " + body
			}
			name = strings.Replace(name, "floor", "mul", 1)
			want := "unknown: it calls " + name + " for a result of more than 4194304 bytes"
			if got := evaluate(t, "x if { "+body+"; is_null(y) }"); got != want {
				t.Errorf("\ngot  %.200s\nwant %s", got, want)
			}
		})
	}
}

// doubled is a chain of assignments, each of which uses the one before.
func doubled(expression, first string, n int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "x0 := %s; ", first)
	for i := range n {
		last := fmt.Sprintf("x%d", i+1)
		if i == n-1 {
			last = "y"
		}
		fmt.Fprintf(&out, "%s := %s; ", last, fmt.Sprintf(expression, fmt.Sprintf("x%d", i)))
	}
	return strings.TrimSuffix(out.String(), "; ")
}

// TestUsual: what rules usually do is as it is without the guards.
func TestUsual(t *testing.T) {
	for rules, want := range map[string]string{
		`x := sprintf("%s has %d of %5.1f", ["a", 3, 2.5])`:                                           `"a has 3 of   2.5"`,
		`x := concat(", ", sort({"b", "a"}))`:                                                         `"a, b"`,
		`x := 2 * 3 + bits.lsh(1, 10)`:                                                                `1030`,
		`x := sum(numbers.range(1, 100))`:                                                             `5050`,
		`x := units.parse_bytes("1.5Ei")`:                                                             `1729382256910270464`,
		`x := json.marshal({"a": [1]})`:                                                               `"{\"a\":[1]}"`,
		`x := y if { y := json.marshal(1) with json.marshal as other }` + "\n" + `other(_) := 7`:      `7`,
		`x := y if { y := f(1) with f as json.marshal }` + "\n" + `f(_) := 7`:                         `"1"`,
		`x := strings.render_template("{{.a}} and {{range .b}}{{.}},{{end}}", {"a": 1, "b": [1, 2]})`: `"1 and 1,2,"`,
		`x := z if { a := [1]; b := [a, a]; c := [b, b]; z := [c, c] }`:                               `[[[[1], [1]], [[1], [1]]], [[[1], [1]], [[1], [1]]]]`,
		`x := concat("a", "b")` + "\n" + `concat(p, q) := [p, q]`:                                     `["a", "b"]`,
	} {
		if got := evaluate(t, rules); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", rules, got, want)
		}
	}
}

// TestSizes: rules whose values double with every line are refused.
func TestSizes(t *testing.T) {
	chain := ""
	for i := range 40 {
		chain += fmt.Sprintf("f%d(v) := f%d([v, v])\n", i, i+1)
	}
	for name, rules := range map[string]string{
		"lists":            `x := json.marshal(y) if { ` + doubled("[%[1]s, %[1]s]", "input", 34) + ` }`,
		"objects":          `x := json.marshal(y) if { ` + doubled(`{"a": %[1]s, "b": %[1]s}`, "input", 34) + ` }`,
		"sets":             `x := json.marshal(y) if { ` + doubled(`{%[1]s, [%[1]s]}`, "input", 34) + ` }`,
		"a comprehension":  `x := [json.marshal(y) | ` + doubled("[%[1]s, %[1]s]", "input", 34) + `]`,
		"every":            `x if { every e in [1] { e; ` + doubled("[%[1]s, %[1]s]", "input", 34) + `; json.marshal(y) } }`,
		"functions":        chain + "f40(v) := json.marshal(v)\nx := f0(input)",
		"otherwise":        `x := 1 if { input == 1 } else := json.marshal(y) if { ` + doubled("[%[1]s, %[1]s]", "input", 34) + ` }`,
		"taken apart":      `x := json.marshal(y) if { ` + doubled("[[%[1]s, %[1]s]][0]", "input", 34) + ` }`,
		"several at once":  `x := json.marshal(y) if { ` + doubledAtOnce(34) + ` }`,
		"the value itself": `x := y if { ` + doubled("[%[1]s, %[1]s]", "input", 34) + ` }`,
	} {
		t.Run(name, func(t *testing.T) {
			got := evaluate(t, rules)
			refused := strings.Contains(got, "main.rego:") && strings.Contains(got, "a value is made of more than 1000000 values once it is written out")
			if name == "taken apart" {
				refused = got == "undefined" // what a reference finds is not written out again
			}
			if !refused {
				t.Errorf("got %.200s", got)
			}
		})
	}
}

func doubledAtOnce(n int) string {
	out := "[a0, b0] := [input, input]"
	for i := range n {
		out += fmt.Sprintf("; [a%d, b%d] := [[a%d, b%d], [b%d, a%d]]", i+1, i+1, i, i, i, i)
	}
	return out + fmt.Sprintf("; y := [a%d, b%d]", n, n)
}

// TestWatch: what does not stop is given up, and after a few times not begun.
func TestWatch(t *testing.T) {
	w := &regoguard.Watch{}
	stuck := make(chan struct{})
	defer close(stuck)
	ran := false
	if err := w.Do(time.Minute, func() { ran = true }); err != nil || !ran {
		t.Fatal(err, ran)
	}
	for range 3 {
		if err := w.Do(time.Millisecond, func() { <-stuck }); err == nil || err.Error() != "its evaluation did not stop within 5ms" {
			t.Fatal(err)
		}
	}
	err := w.Do(time.Minute, func() { t.Error("it is run") })
	if err == nil || err.Error() != "it is no longer evaluated, since it did not stop in time 3 times" {
		t.Fatal(err)
	}
	other := &regoguard.Watch{}
	defer func() {
		if fault := recover(); fault != "fault" {
			t.Errorf("got %v; want the panic of the evaluation", fault)
		}
	}()
	_ = other.Do(time.Minute, func() { panic("fault") })
}

// BenchmarkWatch is what a watch costs.
func BenchmarkWatch(b *testing.B) {
	w := &regoguard.Watch{}
	b.ReportAllocs()
	for b.Loop() {
		_ = w.Do(time.Second, func() {})
	}
}
