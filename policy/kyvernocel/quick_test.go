// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
	"pgregory.net/rapid"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// operands are what the random expressions are made of.
var operands = []string{
	"object.data.s", "object.data.t", "object.data.l", "object.data.m", "object.data.m.a", "object.data.none", "object.data.?none.orValue('x')",
	"object.data.n", "object.metadata.name", "variables.sum", "variables.short", "dyn(variables)['sum']", "[object.data.s, object.data.t]", "['a', 'b']", "'a'", "1", "2", "true",
	"has(object.data.m)", "[object.data.l, object.data.l]", "{'a': object.data.l, 'b': object.data.m}", "object", "quantity('1Gi')", "quantity(object.data.s)",
}

// drawExpression draws an expression of no particular type: many fail.
func drawExpression(t *rapid.T, depth int) string {
	if depth == 0 {
		return rapid.SampledFrom(operands).Draw(t, "operand")
	}
	a := func() string { return "dyn(" + drawExpression(t, rapid.IntRange(0, depth-1).Draw(t, "depth")) + ")" }
	// The values of a map come in any order.
	list := func() string {
		return rapid.SampledFrom([]string{"object.data.l", "object.data.m.b", "variables.sum", "[object.data.s, object.data.t]"}).Draw(t, "list")
	}
	switch rapid.IntRange(0, 15).Draw(t, "form") {
	case 0:
		return a() + " == " + a()
	case 1:
		return a() + " != " + a()
	case 2:
		return a() + " in " + a()
	case 3:
		return "bool(" + a() + ") && bool(" + a() + ")"
	case 4:
		return "bool(" + a() + ") || bool(" + a() + ")"
	case 5:
		return "!bool(" + a() + ")"
	case 6:
		return a() + " + " + a()
	case 7:
		return fmt.Sprintf("%s.all(x%d, bool(%s) || dyn(x%d) == %s)", a(), depth, a(), depth, a())
	case 8:
		return fmt.Sprintf("%s.exists(x%d, dyn(x%d) == %s)", a(), depth, depth, a())
	case 9:
		return fmt.Sprintf("%s.map(x%d, dyn(x%d) == %s)", list(), depth, depth, a())
	case 10:
		return fmt.Sprintf("%s.filter(x%d, dyn(x%d) != %s)", list(), depth, depth, a())
	case 11:
		return "size(" + a() + ") > 3"
	case 12:
		return "(bool(" + a() + ") ? " + a() + " : " + a() + ")"
	case 13:
		return "string(" + a() + ").startsWith(string(" + a() + "))"
	case 14:
		return a() + " < " + a()
	}
	return "string(" + a() + ").contains('a')"
}

// drawObject draws an object whose size, and whose lists, are about the bounds.
func drawObject(t *rapid.T) *object.Object {
	root := object.FromAny(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c", "namespace": "shop"},
		"data": map[string]any{
			"s": strings.Repeat("a", rapid.SampledFrom([]int{0, 1, 100, quickSize - 900, quickSize, quickSize + 900}).Draw(t, "s")),
			"t": rapid.SampledFrom([]string{"a", "b", "5", "1Gi"}).Draw(t, "t"),
			"n": int64(rapid.IntRange(0, 3).Draw(t, "n")),
			"l": makeList(rapid.SampledFrom([]int{0, 1, 3, 40, 300, 1400}).Draw(t, "l")),
			"m": map[string]any{"a": "a", "b": makeList(2)},
		},
	})
	objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}

func makeList(n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = int64(i % 5)
	}
	return out
}

// TestQuick holds that an expression comes to the same whether or not its cost is
// tracked.
func TestQuick(t *testing.T) {
	quick, same := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c, done, err := newCompilation(flavour{kind: Validating})
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		for name, source := range map[string]string{"sum": "object.data.l + object.data.l", "short": "object.data.t"} {
			if err := c.variable(name, source); err != nil {
				t.Fatal(err)
			}
		}
		source := drawExpression(t, rapid.IntRange(1, 4).Draw(t, "depth"))
		e, err := c.compile(source)
		if err != nil {
			t.Skip(err)
		}
		r := &policy.Request{Object: drawObject(t)}
		see := func() *activation {
			a := (&variant{policy: &Policy{}}).newActivation(r, subjectOf(r), nil)
			a.bind(t.Context(), c.names, c.variables)
			return a
		}
		if a := see(); e.quick != nil && a.small {
			quick++
		}
		got, gotErr := e.run(t.Context(), see())
		tracked, err := e.tracked()
		if err != nil {
			t.Fatal(err)
		}
		want, _, wantErr := tracked.ContextEval(t.Context(), see())
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, %v; tracked: %v, %v", source, got, gotErr, want, wantErr)
		}
		if gotErr != nil {
			return
		}
		same++
		if types.Equal(got, want) != types.True {
			t.Fatalf("%s: %v; tracked: %v", source, got, want)
		}
	})
	if quick == 0 || same == 0 {
		t.Errorf("%d evaluated quickly, %d without an error", quick, same)
	}
}
