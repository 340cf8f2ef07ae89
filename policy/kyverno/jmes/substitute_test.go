// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// lookup looks variables up in data.
type lookupIn struct{ data any }

func (l lookupIn) Query(expr string) (any, error) {
	q, err := Compile(expr)
	if err != nil {
		return nil, err
	}
	return q.Search(l.data)
}

const contextData = `
request: {operation: CREATE, object: {metadata: {name: web, labels: {app: shop}}, spec: {replicas: 3}}, oldObject: {metadata: {name: old}}}
key: app
list: [a, b]
text: "a {{ key }} b"
whole: "{{ key }}"
self: "x{{ self }}"
map: {inner: "{{ key }}"}
around: {again: "{{ around }}"}
none: null
html: "<&>"
`

func TestSubstitute(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                      {`{a: [1, x, null]}`, `{a: [1, x, null]}`},
		"a whole text":                 {`a: "{{ request.object.spec.replicas }}"`, `a: 3`},
		"a list":                       {`a: "{{ list }}"`, `a: [a, b]`},
		"null":                         {`a: "{{ none }}"`, `a: null`},
		"in a text":                    {`a: "n={{ request.object.spec.replicas }}, {{key}}"`, `a: "n=3, app"`},
		"a list in a text":             {`a: "is {{ list }}"`, `a: 'is ["a","b"]'`},
		"null in a text":               {`a: "is {{ none }}"`, `a: "is null"`},
		"side by side":                 {`a: "{{key}}{{key}}"`, `a: appapp`},
		"nested":                       {`a: "{{ request.object.metadata.labels.{{key}} }}"`, `a: shop`},
		"a variable in a value":        {`a: "-{{ text }}-"`, `a: "-a app b-"`},
		"a value with one, whole":      {`a: "{{ whole }}"`, `a: "{{ key }}"`},
		"a variable in a map":          {`a: "{{ map }}"`, `a: {inner: app}`},
		"not looked through":           {`a: "-{{- text }}-"`, `a: "-a {{ key }} b-"`},
		"after one not looked through": {`a: "{{- key }}{{ key }}"`, `a: "app{{ key }}"`},
		"escaped":                      {`a: '\{{ key }}'`, `a: "{{ key }}"`},
		"escaped and not":              {`a: '\{{ key }} {{ key }}'`, `a: "{{ key }} app"`},
		"a default":                    {`a: "{{ nothere || 'x' }}"`, `a: x`},
		"braces in an expression":      {`a: "{{ {x: key}.x }}"`, `a: app`},
		"a key":                        {`"{{ key }}": 1`, `app: 1`},
		"a key that is null":           {`"{{ none }}": 1`, `"{{ none }}": 1`},
		"a key with a reference":       {`{b: x, "$(/b)": 1}`, `{b: x, x: 1}`},
		"here":                         {`validate: {pattern: {metadata: {name: "{{@}}"}}}`, `validate: {pattern: {metadata: {name: web}}}`},
		"here, below foreach":          {`validate: {foreach: [{pattern: {metadata: {labels: {app: "{{ @ }}"}}}}]}`, `validate: {foreach: [{pattern: {metadata: {labels: {app: shop}}}}]}`},
		"reference":                    {`{a: {b: x}, c: "$(./../a/b)"}`, `{a: {b: x}, c: x}`},
		"absolute reference":           {`{a: {b: x}, c: "y $(/a/b)"}`, `{a: {b: x}, c: "y x"}`},
		"reference with an operator":   {`{a: 3, c: "$(<=/a)"}`, `{a: 3, c: "<=3"}`},
		"reference through an anchor":  {`{"(a)": {"=(b)": x}, c: "$(/a/b)"}`, `{"(a)": {"=(b)": x}, c: x}`},
		"escaped reference":            {`a: '\$(/a)'`, `a: "$(/a)"`},
		"reference to a variable":      {`{a: "{{ key }}", b: "$(/a)"}`, `{a: app, b: app}`},
		"texts in JSON escape as JSON": {`a: "x {{ [html] }}"`, `a: 'x ["\u003c\u0026\u003e"]'`},
		"items":                        {`a: "{{ items(request.object.metadata.labels, 'k', 'v') }}"`, `a: [{k: app, v: shop}]`},
	} {
		t.Run(name, func(t *testing.T) {
			in := tree(t, c.in)
			got, err := Substitute(in, lookupIn{tree(t, contextData)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tree(t, c.want), got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tree(t, c.in), in); diff != "" {
				t.Error("it has changed what it was given: ", diff)
			}
		})
	}
}

func TestSubstituteErrors(t *testing.T) {
	for name, in := range map[string]string{
		"not there":                     `a: "{{ nothere }}"`,
		"not there, in a text":          `a: "x {{ request.nothere.deeper }}"`,
		"no expression":                 `a: "{{ }}"`,
		"a bad expression":              `a: "{{ [ }}"`,
		"a text in itself":              `a: "-{{ self }}"`,
		"a map in itself":               `a: "{{ around }}"`,
		"a key that is a list":          `"{{ list }}": 1`,
		"a list that is not looked at":  `a: "x{{- list }}"`,
		"reference to nothing":          `a: "$(/b)"`,
		"reference to a number":         `{a: 1, b: "$(/a)"}`,
		"reference to a list":           `{a: [], b: "$(/a)"}`,
		"reference without a path":      `a: "$(>)"`,
		"reference to a flag":           `{a: true, b: "$(>/a)"}`,
		"a letter before it of 2 bytes": `a: "é{{ key }}"`,
	} {
		if got, err := Substitute(tree(t, in), lookupIn{tree(t, contextData)}); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
}

func TestSubstituteOfADeletion(t *testing.T) {
	data := tree(t, contextData).(map[string]any)
	data["request"].(map[string]any)["operation"] = "DELETE"
	if got, err := Substitute("{{ request.object.metadata.name }}", lookupIn{data}); got != "old" || err != nil {
		t.Errorf("got %v, %v, want old", got, err)
	}
}

func TestSubstituteInATarget(t *testing.T) {
	data := map[string]any{"target": map[string]any{"metadata": map[string]any{"a/b": "x"}}}
	in := map[string]any{"mutate": map[string]any{"patch": map[string]any{"metadata": map[string]any{"a/b": "{{@}}-y"}}}}
	got, err := Substitute(in, lookupIn{data})
	want := map[string]any{"mutate": map[string]any{"patch": map[string]any{"metadata": map[string]any{"a/b": "x-y"}}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestSubstituteUnknown(t *testing.T) {
	data := map[string]any{"user": Unknown("the user"), "map": map[string]any{"x": Unknown("a field")}}
	for _, in := range []string{"{{ user }}", "{{ user.name || 'x' }}", "x {{ map }}", "{{ map }}"} {
		_, err := Substitute(in, lookupIn{data})
		var unknown *UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestHasVariables(t *testing.T) {
	for in, want := range map[string]bool{
		`{a: [b, {c: 1}]}`: false, `{a: [b, {"{{c}}": 1}]}`: true, `a: "$(/b)"`: true, `a: '\{{ b }}'`: true,
	} {
		if got := HasVariables(tree(t, in)); got != want {
			t.Errorf("%s: got %v", in, got)
		}
	}
}

func BenchmarkSubstitute(b *testing.B) {
	in := tree(b, `{metadata: {labels: {app: "{{ request.object.metadata.labels.app }}", other: "x-{{ key }}"}}, spec: {containers: [{name: a, image: b}]}}`)
	c := lookupIn{tree(b, contextData)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Substitute(in, c); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzSubstitute(f *testing.F) {
	for _, in := range []string{
		`{"a": "{{ text }}{{-text}}", "{{key}}": "$(./../a)"}`, `["{{ {{key}} }}", "\\{{a}}", "{{{a}}}"]`, `{"(a)": {"b": "$(<=/a/b)"}}`, `"{{@}}"`,
		`{"a": "{{ around }}", "b": "-{{ self }}"}`,
	} {
		f.Add(in)
	}
	c := lookupIn{tree(f, contextData)}
	f.Fuzz(func(t *testing.T, in string) {
		var of any
		if json.Unmarshal([]byte(in), &of) != nil {
			return
		}
		got, err := Substitute(of, c)
		if err == nil && !HasVariables(of) && !cmp.Equal(of, got) {
			t.Errorf("%v has become %v", of, got)
		}
	})
}

func TestConditions(t *testing.T) {
	const yes, no = `{key: a, operator: Equals, value: a, message: held}`, `{key: a, operator: Equals, value: b, message: failed}`
	expand := strings.NewReplacer("YES", yes, "NO", no).Replace
	for in, want := range map[string]struct {
		holds   bool
		message string
	}{
		`null`:                              {true, ""},
		`{}`:                                {true, ""},
		`[]`:                                {true, ""},
		`{any: []}`:                         {false, ""},
		`{all: []}`:                         {true, ""},
		`{any: [NO, YES]}`:                  {true, "held"},
		`{any: [NO, NO]}`:                   {false, "failed; failed"},
		`{all: [YES, YES]}`:                 {true, "held; held"},
		`{all: [YES, NO, NO]}`:              {false, "failed"},
		`{any: [YES], all: [NO]}`:           {false, "failed"},
		`{any: [YES], all: [YES]}`:          {true, "held; held"},
		`[YES, YES]`:                        {true, "held;held"},
		`[YES, NO]`:                         {false, "failed"},
		`[{any: [YES]}, {all: [NO]}]`:       {false, "failed"},
		`[{any: [YES]}, {all: [YES, YES]}]`: {true, "held;held; held"},
	} {
		holds, message, err := Conditions(tree(t, expand(in)), lookupIn{})
		if err != nil || holds != want.holds || message != want.message {
			t.Errorf("%s: got %v %q %v, want %v %q", in, holds, message, err, want.holds, want.message)
		}
	}
	for _, in := range []string{
		`a`, `[a]`, `{any: a}`, `{any: [a]}`, `{all: [{key: a, operator: Is, value: b}]}`, `[{key: "{{ nothere }}", operator: Equals}]`,
		`[{key: a, operator: Equals, value: "{{ nothere }}"}]`, `[{key: [1], operator: In, value: [a]}]`, `{all: {}}`,
	} {
		if holds, _, err := Conditions(tree(t, in), lookupIn{map[string]any{}}); err == nil || holds {
			t.Errorf("%s: got %v, want an error", in, holds)
		}
	}
}

func TestOperators(t *testing.T) {
	// Of each, the conditions that hold, and those that do not.
	for operator, c := range map[string]struct{ hold, not []string }{
		"Equals": {
			[]string{`a a`, `abc a*`, `1 1`, `1 "1"`, `1.0 1`, `"1Gi" "1024Mi"`, `"1h" "60m"`, `"90s" 90`, `true true`, `[a,1] [a,1]`, `{a: b} {a: b}`, `"" ""`},
			[]string{`a b`, `a* abc`, `1 2`, `1 a`, `true "true"`, `null null`, `[a] a`, `"1Gi" x`, `[a,b] [b,a]`},
		},
		"NotEquals": {
			[]string{`a b`, `1 a`, `true "true"`, `[a] a`, `"1Gi" x`, `"5" ""`, `1.5 1`},
			[]string{`a a`, `abc a*`, `null a`, `null null`, `"1h" "60m"`},
		},
		"AnyIn": {
			[]string{`a [a,b]`, `[a,z] [a,b]`, `[abc] ["a*"]`, `["a*"] [abc]`, `1 [1,2]`, `5 "1-10"`, `[50,5] "1-10"`, `a '["a"]'`, `[a] a`, `[1] 1`, `1000000 ["1e+06"]`},
			[]string{`c [a,b]`, `[] [a]`, `50 "1-10"`, `null [a]`, `a 1`, `a '[1]'`},
		},
		"AllIn":    {[]string{`a [a,b]`, `[a,b] [a,b,c]`, `[] [a]`, `[2,5] "1-10"`}, []string{`[a,z] [a,b]`, `[2,50] "1-10"`, `[1] 1`}},
		"AnyNotIn": {[]string{`c [a,b]`, `[a,z] [a,b]`, `[2,50] "1-10"`}, []string{`[a,b] [a,b]`, `[] [a]`, `[2,5] "1-10"`, `[a] a`, `a 1`}},
		"AllNotIn": {[]string{`c [a,b]`, `[y,z] [a,b]`, `[] [a]`, `[20,50] "1-10"`}, []string{`[a,z] [a,b]`, `[2,50] "1-10"`, `a 1`}},
		"In":       {[]string{`a [a,b]`, `[a,b] [a,b,c]`, `a '["a"]'`, `[a] a`, `1 [1]`}, []string{`c [a]`, `[a,z] [a,b]`, `["a*"] [abc]`, `[a] [1]`, `c 'x'`}},
		"NotIn":    {[]string{`c [a]`, `[a,z] [a,b]`, `[a] a`}, []string{`a [a,b]`, `[a] [a,b]`, `[a] [1]`, `c 'x'`, `[a] 1`}},
		"GreaterThan": {
			[]string{`2 1`, `2.5 2`, `"2" 1`, `2 "1.5"`, `"2Gi" "1Gi"`, `"1h" "1m"`, `"1h" 60`, `90 "1m"`, `"90" "1m"`, `"1.10.0" "1.9.0"`},
			[]string{`1 1`, `a 1`, `1 a`, `null 1`, `true 1`, `1 [1]`, `"1.2.0" x`, `"NaN" 1`},
		},
		"GreaterThanOrEquals":         {[]string{`1 1`, `"1Gi" "1024Mi"`}, []string{`1 2`}},
		"LessThan":                    {[]string{`1 2`, `"90" "1h"`, `"1.9.0" "1.10.0"`}, []string{`1 1`}},
		"LessThanOrEquals":            {[]string{`1 1`}, []string{`2 1`}},
		"lessthanorequals":            {nil, []string{`1 1`}},
		"DurationGreaterThan":         {[]string{`"1h" "1m"`, `"1h" 60`, `61 "1m"`, `1.5 0`}, []string{`"1h" 3600`, `a 1`, `1 a`, `true 1`}},
		"DurationGreaterThanOrEquals": {[]string{`"1h" 3600`}, []string{`"1m" "1h"`}},
		"DurationLessThan":            {[]string{`"1m" "1h"`}, []string{`"1h" 3600`}},
		"DurationLessThanOrEquals":    {[]string{`"1h" 3600`}, []string{`"1h" "1m"`}},
	} {
		for want, all := range map[bool][]string{true: c.hold, false: c.not} {
			for _, pair := range all {
				items := tree(t, "["+splitPair(t, pair)+"]").([]any)
				in := []any{map[string]any{"key": items[0], "operator": operator, "value": items[1]}}
				if holds, _, err := Conditions(in, lookupIn{}); err != nil || holds != want {
					t.Errorf("%s %s: got %v %v, want %v", operator, pair, holds, err, want)
				}
			}
		}
	}
}

// splitPair puts a comma between two values, of which the first has no blanks but in
// braces.
func splitPair(t *testing.T, pair string) string {
	t.Helper()
	from := max(strings.Index(pair, "}"), 0)
	first, second, ok := strings.Cut(pair[from:], " ")
	if !ok {
		t.Fatal(pair)
	}
	quote := func(s string) string {
		if strings.ContainsAny(s[:1], `"'[{`) || s == "null" || s == "true" || s[0] >= '0' && s[0] <= '9' {
			return s
		}
		return `"` + s + `"`
	}
	return quote(pair[:from]+first) + ", " + quote(second)
}

func TestConditionsUnknown(t *testing.T) {
	in := tree(t, `{any: [{key: "{{ user }}", operator: Equals, value: x}, {key: a, operator: Equals, value: a}]}`)
	_, _, err := Conditions(in, lookupIn{map[string]any{"user": Unknown("the user")}})
	var unknown *UnknownError
	if !errors.As(err, &unknown) {
		t.Errorf("got %v, want that it is not known", err)
	}
}

func BenchmarkConditions(b *testing.B) {
	in := tree(b, `{all: [{key: "{{ request.object.metadata.labels.app || '' }}", operator: AnyIn, value: [shop, other]}, {key: "{{ request.operation }}", operator: NotEquals, value: DELETE}]}`)
	c := lookupIn{tree(b, contextData)}
	b.ReportAllocs()
	for b.Loop() {
		if holds, _, err := Conditions(in, c); !holds || err != nil {
			b.Fatal(holds, err)
		}
	}
}

func FuzzConditions(f *testing.F) {
	f.Add(`{"any": [{"key": "{{ list }}", "operator": "AnyNotIn", "value": "1-5"}], "all": [{"key": "1e9", "operator": "GreaterThan", "value": "1h"}]}`)
	f.Add(`[{"key": ["a"], "operator": "NotIn", "value": "[\"a\"]"}]`)
	c := lookupIn{tree(f, contextData)}
	f.Fuzz(func(_ *testing.T, in string) {
		var of any
		if yaml.Unmarshal([]byte(in), &of) == nil {
			_, _, _ = Conditions(of, c)
		}
	})
}
