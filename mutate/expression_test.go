// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEdits shows what is tried of an expression, and what is not since it would
// say the same.
func TestEdits(t *testing.T) {
	for _, test := range []struct {
		source string
		want   string
	}{
		{`object.hostPID`, `negate: object.hostPID -> !object.hostPID`},
		{`!object.a`, `negate: !object.a -> object.a`},
		{`object.n > 3 && object.s == "x"`, `
			negate: object.n > 3 && object.s == "x" -> !(object.n > 3 && object.s == "x")
			connective: object.n > 3 && object.s == "x" -> object.n > 3 || object.s == "x"
			operand: object.n > 3 -> (dropped)
			negate: object.n > 3 -> object.n <= 3
			operand: object.s == "x" -> (dropped)
			bound: 3 -> 4
			bound: 3 -> 2
			negate: object.s == "x" -> object.s != "x"
			literal: "x" -> "mutant"`},
		// An operand is dropped alone, wherever it stands in the chain.
		{`object.a || object.b || object.c`, `
			negate: object.a || object.b || object.c -> !(object.a || object.b || object.c)
			connective: object.a || object.b || object.c -> (object.a || object.b) && object.c
			operand: object.a -> (dropped)
			negate: object.a -> !object.a
			connective: object.a || object.b -> object.a && object.b
			operand: object.b -> (dropped)
			operand: object.c -> (dropped)
			negate: object.b -> !object.b
			negate: object.c -> !object.c`},
		// Each optional field is required by itself.
		{`object.?a.?b.orValue("") == "x"`, `
			negate: object.?a.?b.orValue("") == "x" -> object.?a.?b.orValue("") != "x"
			guard: object.?a.?b -> object.?a.b (required)
			guard: object.?a -> object.a (required)
			default: absent: "" -> absent: "x"
			literal: "x" -> "mutant"`},
		{`object.?a.orValue(0) > 7`, `
			negate: object.?a.orValue(0) > 7 -> object.?a.orValue(0) <= 7
			guard: object.?a -> object.a (required)
			default: absent: 0 -> absent: 8
			bound: 7 -> 8
			bound: 7 -> 6`},
		{`object.n < object.m`, `
			negate: object.n < object.m -> object.n >= object.m
			bound: object.n < object.m -> object.n <= object.m`},
		{`object.s in ["a", "b"]`, `
			negate: object.s in ["a", "b"] -> !(object.s in ["a", "b"])
			element: "a" -> (dropped)
			element: "b" -> (dropped)`},
		{`object.l.exists(x, x.startsWith("ab"))`, `
			negate: object.l.exists(x, x.startsWith("ab")) -> !(object.l.exists(x, x.startsWith("ab")))
			quantifier: exists -> all
			negate: x.startsWith("ab") -> !x.startsWith("ab")
			call: x.startsWith("ab") -> x.contains("ab")
			literal: "ab" -> "mutant"
			literal: "ab" -> "a"`},
		{`has(object.a) ? object.b : object.c`, `
			negate: has(object.a) ? object.b : object.c -> !(has(object.a) ? object.b : object.c)
			operand: has(object.a) ? object.b : object.c -> object.b
			operand: has(object.a) ? object.b : object.c -> object.c
			negate: has(object.a) -> !has(object.a)
			negate: object.b -> !object.b
			negate: object.c -> !object.c`},
		{`object.s.lowerAscii().matches("^(a|bc)+$")`, `
			negate: object.s.lowerAscii().matches("^(a|bc)+$") -> !object.s.lowerAscii().matches("^(a|bc)+$")
			call: object.s.lowerAscii() -> object.s
			pattern: ^ -> (dropped)
			pattern: (a|bc)+ -> (a|bc)
			pattern: (a|bc)+ -> (a|bc)*
			pattern: a of a|bc -> (dropped)
			pattern: bc of a|bc -> (dropped)
			pattern: $ -> (dropped)`},
	} {
		all, err := edits(test.source, context{condition: true})
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, e := range all {
			got = append(got, fmt.Sprintf("%s: %s -> %s", e.op, e.before, e.after))
			if _, err := parse(e.source); err != nil {
				t.Errorf("%s: %s: %v", test.source, e.source, err)
			}
		}
		for line := range strings.Lines(test.want) {
			if line = strings.TrimSpace(line); line != "" {
				want = append(want, line)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n\t%s\nwant\n\t%s", test.source, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}
}

// TestSamples shows that a regular expression's samples meet each of its parts.
func TestSamples(t *testing.T) {
	got := samples(`^/+(run|var/run)(/docker[.]sock)?$`, 20)
	for _, want := range []string{"/run", "//run", "/var/run", "/run/docker.sock"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q among %q", want, got)
		}
	}
}

// TestPatterns shows that a class is tried by what people write in it.
func TestPatterns(t *testing.T) {
	for source, want := range map[string][]string{
		`[^/:@]`:      {`[^:@]`, `[^/@]`, `[^/:]`},
		`[\s;&]`:      {`[&;]`, `[\t\n\f\r ;]`, `[\t\n\f\r &]`},
		`\S`:          {`[\x00-\x{10ffff}]`},
		`[a-f0-9]{2}`: {`[0-9a-f]{2,3}`, `[0-9a-f]{1,2}`, `[a-f]{2}`, `[0-9]{2}`},
		`a?b*`:        {`ab*`, `(?:)b*`, `a?b+`, `a?(?:)`},
	} {
		var got []string
		for _, p := range patterns(source) {
			got = append(got, p.source)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", source, got, want)
		}
	}
}
