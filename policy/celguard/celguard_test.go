// SPDX-License-Identifier: Apache-2.0

package celguard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"

	"k8s.io/apiserver/pkg/cel/library"

	"sconce.dev/sconce/policy/celguard"
)

// program returns the guarded program of an expression over the variable x.
func program(t testing.TB, source string, options ...cel.ProgramOption) cel.Program {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("x", cel.DynType), ext.Strings(), ext.Lists(), ext.Sets(), ext.Bindings(), cel.OptionalTypes(), library.Quantity())
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	p, err := env.Program(ast, append(options, celguard.New(env).Option(), cel.EvalOptions(cel.OptOptimize))...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSame holds that steps that are measured come to what they come to without.
func TestSame(t *testing.T) {
	x := map[string]any{"a": []any{int64(1), "b"}, "s": "abcabc"}
	for source, want := range map[string]any{
		"x.a == [1, 'b']":                      true,
		"x.a != [1, 'b']":                      false,
		"'b' in x.a":                           true,
		"'a' in x":                             true,
		"x.s in ['abcabc', 'd']":               true,
		"x.s + 'd'":                            "abcabcd",
		"x.s + 1":                              errors.New("no such overload"),
		"size(x.a + x.a)":                      int64(4),
		"1 + 2":                                int64(3),
		"x.none == x.a":                        errors.New("no such key"),
		"x.s.matches('^(abc)+$')":              true,
		"x.s.matches(x.s)":                     true,
		"x.s.replace('b', '-')":                "a-ca-c",
		"x.s.split('b').join('/')":             "a/ca/c",
		"x.s.indexOf('c')":                     int64(2),
		"[3, 1, 1].distinct().size()":          int64(2),
		"sets.contains([1, 2], [2])":           true,
		"optional.of(x.a) == optional.of(x.a)": true,
		"{'k': x} == {'k': x}":                 true,
		"isQuantity('Equals')":                 false,
		"isQuantity('Every300' + x.s)":         false,
		"isQuantity('1e3')":                    true,
		"isQuantity('1E')":                     true,
		"isQuantity('12e0003')":                true,
		"isQuantity('1.5Gi')":                  true,
		"isQuantity('" + strings.Repeat("long", 100) + "')": false,
		"duration('1s') + duration('1s') == duration('2s')": true,
	} {
		out, _, err := program(t, source).Eval(map[string]any{"x": x})
		if wanted, ok := want.(error); ok {
			if err == nil || !strings.Contains(err.Error(), wanted.Error()) {
				t.Errorf("%s: %v, %v; want %v", source, out, err, want)
			}
			continue
		}
		if err != nil || out.Value() != want {
			t.Errorf("%s: %v, %v; want %v", source, out, err, want)
		}
	}
}

// TestTooLarge holds that what would grow without end is refused.
func TestTooLarge(t *testing.T) {
	shared := "cel.bind(b0, [x], "
	for i := range 40 {
		shared += fmt.Sprintf("cel.bind(b%d, [b%d, b%d], ", i+1, i, i)
	}
	shared += "b40 %s b40" + strings.Repeat(")", 41)
	for _, source := range []string{
		fmt.Sprintf(shared, "=="), fmt.Sprintf(shared, "!="), fmt.Sprintf(shared, "in"),
		"x.replace('', x)", "x.split('').join(x)", "x.matches('" + strings.Repeat("(a{90}){10}|", 50) + "b')", "x.matches(x)",
		"[x, x].join(x + x + x + x)",
	} {
		text := strings.Repeat("a", 5<<20)
		if out, _, err := program(t, source).Eval(map[string]any{"x": text}); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("%.80s: %v, %v; want an error", source, out, err)
		}
	}
}

// TestTime holds that an evaluation whose time is over ends between steps.
func TestTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := program(t, "x == x && x == x && x == x", cel.InterruptCheckFrequency(10))
	_, _, err := p.ContextEval(ctx, map[string]any{"x": make([]any, 10000)})
	if !errors.Is(err, interpreter.InterruptError{}) {
		t.Errorf("%v; want an interruption", err)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		v    any
		want int
	}{{"abc", 11}, {int64(1), 8}, {[]any{"a", nil}, 8 + 8 + 9 + 8}, {map[string]any{"k": "v"}, 8 + 8 + 1 + 9}} {
		if got := celguard.Size(types.DefaultTypeAdapter.NativeToValue(c.v), 100); got != c.want {
			t.Errorf("%v: %d; want %d", c.v, got, c.want)
		}
	}
}
