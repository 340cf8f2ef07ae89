// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
)

// chainOf are variables each of which is made of the one before.
func chainOf(first, next string) string {
	out := "  variables:\n  - {name: v0, expression: \"" + first + "\"}\n"
	for i := 1; i < 60; i++ {
		out += fmt.Sprintf("  - {name: v%d, expression: \"%s\"}\n", i, strings.ReplaceAll(next, "V", fmt.Sprintf("v%d", i-1)))
	}
	return out
}

func requires(expression string) string {
	return "  validations: [{expression: \"" + expression + "\"}]\n"
}

// TestHostile holds that neither time nor memory runs away where an expression is
// made to. Where nothing is wanted, the time that there is decides.
func TestHostile(t *testing.T) {
	items := strings.TrimSuffix(strings.Repeat("1,", 3500), ",")
	long := strings.Repeat("a", 7000)
	digits := strings.Repeat("9", 7000)
	object := parse(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {s: \""+long+"\"}\n")[0]
	list := parse(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {l: ["+items+"]}\n")[0]
	number := parse(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {s: \""+digits+"\", e: \"1e2147483647\", f: \"1e-2147483647\"}\n")[0]
	nested := "true"
	for i := range 8 {
		nested = fmt.Sprintf("object.data.l.all(x%d, %s)", i, nested)
	}
	binds := "size(b39) > 0"
	for i := 39; i > 0; i-- {
		binds = fmt.Sprintf("cel.bind(b%d, [b%d, b%d], %s)", i, i-1, i-1, binds)
	}
	binds = "cel.bind(b0, [[]], " + strings.ReplaceAll(binds, "size(b39) > 0", "b39 == b39") + ")"
	maps := "[object]"
	for i := range 40 {
		maps += fmt.Sprintf(".map(m%d, [m%d, m%d])", i, i, i)
	}
	for name, c := range map[string]struct{ spec, want string }{
		"nested loops":                     {requires(nested), "unknown"},
		"many comparisons":                 {requires(strings.Repeat("object.data.l == object.data.l && ", 1500) + "true"), "unknown"},
		"many comparisons looped":          {requires("object.data.l.all(x, " + strings.Repeat("object.data.l == object.data.l && ", 1500) + "true)"), "unknown"},
		"in looped":                        {requires("object.data.l.all(x, " + strings.Repeat("!(2 in object.data.l) && ", 2000) + "true)"), "unknown"},
		"strings that double":              {chainOf("object.data.s", "variables.V + variables.V") + requires("size(variables.v59) > 0"), "refused"},
		"strings doubled through an index": {chainOf("object.data.s", "dyn(variables)['V'] + dyn(variables)['V']") + requires("size(variables.v59) > 0"), "unknown"},
		"lists that double":                {chainOf("object.data.l", "variables.V + variables.V") + requires("variables.v59 == variables.v59"), "refused"},
		"maps of maps":                     {chainOf("{'a': dyn(object)}", "{'a': dyn(variables.V), 'b': dyn(variables.V)}") + requires("variables.v59 == variables.v59"), "refused"},
		"lists of lists":                   {chainOf("dyn([object])", "dyn([variables.V, variables.V])") + requires("variables.v59 == variables.v59"), "refused"},
		"in lists of lists":                {chainOf("dyn([object])", "dyn([variables.V, variables.V])") + requires("variables.v58 in [variables.v58]"), "refused"},
		"json of lists of lists":           {chainOf("dyn([1])", "dyn([variables.V, variables.V])") + requires("json.marshal(variables.v59) == ''"), "refused"},
		"bindings":                         {requires(binds), "unknown"},
		"maps in maps":                     {requires(maps + " == " + maps), "unknown"},
		"matches":                          {requires("object.data.s.matches('(a*)*(a*)*(a*)*b$')"), "fail"},
		"matches counted":                  {requires("object.data.s.matches('((a{1,30}){1,30}){1,1}b')"), ""},
		"matches looped":                   {requires("object.data.l.all(x, 'aaaaaaaaaaaaaaaaaaaaaaaa'.matches('((a{1,30}){1,30})b') || true)"), ""},
		"range":                            {requires("lists.range(1000000000).size() > 0"), "unknown"},
		"range at the bound":               {requires("lists.range(10000000).size() > 0"), "unknown"},
		"range looped":                     {requires("object.data.l.all(x, lists.range(1000000).size() > 0)"), "unknown"},
		"replace":                          {requires("object.data.s.replace('', object.data.s).replace('', object.data.s).replace('', object.data.s).size() > 0"), "unknown"},
		"join":                             {requires("lists.range(500).map(x, object.data.s).join(object.data.s).size() > 0"), "unknown"},
		"join of s":                        {requires("lists.range(100000).map(x, object.data.s).join(object.data.s).size() > 0"), "unknown"},
		"format":                           {requires("'%.1000000000f'.format([1.0]).size() > 0"), "pass"},
		"format much":                      {requires("'" + strings.Repeat("%s", 5000) + "'.format([" + strings.TrimSuffix(strings.Repeat("object,", 5000), ",") + "]).size() > 0"), "unknown"},
		"quantity":                         {requires("quantity(object.data.s).isLessThan(quantity('1'))"), "unknown"},
		"quantity exponent":                {requires("quantity(object.data.e).isLessThan(quantity('1'))"), "unknown"},
		"quantity exponent small":          {requires("quantity(object.data.f).isLessThan(quantity('1'))"), "unknown"},
		"quantity add":                     {requires("quantity('1e2147483647').add(quantity('1e-2147483647')).isLessThan(quantity('1'))"), "unknown"},
		"distinct":                         {requires("object.data.l.map(x, object.data.l).flatten().distinct().size() > 0"), "unknown"},
		"sets":                             {requires("sets.contains(lists.range(100000), lists.range(100000))"), "unknown"},
		"split":                            {requires("lists.range(500).all(x, object.data.s.split('').size() > 0)"), ""},
		"random":                           {requires("random('((a{32}){32}){32}').size() > 0"), "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			set := Load(parse(t, validating(c.spec)), policy.Options{Timeout: 300 * time.Millisecond})
			o := list
			switch {
			case strings.HasPrefix(name, "quantity"):
				o = number
			case strings.Contains(c.spec, "object.data.s"):
				o = object
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for _, r := range set.Rules {
				if v, _ := r.Judge(t.Context(), &policy.Request{Object: o}); c.want != "" && string(v.Outcome) != c.want {
					t.Errorf("%.300v; want %s", v, c.want)
				}
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if refused := len(set.Problems) > 0; refused != (c.want == "refused") {
				t.Errorf("%.300v; want %s", set.Problems, c.want)
			}
			if made := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 20*time.Second || made > 1<<10 {
				t.Errorf("it took %v and %d MiB", took, made)
			}
		})
	}
}
