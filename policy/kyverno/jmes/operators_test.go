// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"fmt"
	"testing"
	"time"
)

// TestLongLists holds that lists of any length are compared in no time, or not at
// all, and that this changes nothing of what is found.
func TestLongLists(t *testing.T) {
	list := func(format string, n int) (out []any) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return out
	}
	for name, c := range map[string]struct {
		key, value any
		operator   string
		want, err  bool
	}{
		"none":             {list("a%d", 100000), list("b%d", 100000), "AnyIn", false, false},
		"all":              {list("a%d", 100000), list("a%d", 100000), "AllIn", true, false},
		"none of all":      {list("a%d", 100000), list("b%d", 100000), "AllNotIn", true, false},
		"wildcards":        {list("a%d", 100000), list("b%d*", 100000), "AnyIn", false, true},
		"wildcards, text":  {list("a%d", 100000), fmt.Sprintf("%q", list("b%d*", 100000)), "AnyIn", false, true},
		"some wildcards":   {append(list("a%d", 1000), "bx"), append(list("c%d", 1000), "b*"), "AnyIn", true, false},
		"wildcards in key": {append(list("a%d", 1000), "b*"), append(list("c%d", 1000), "bx"), "AnyIn", true, false},
		"empty":            {[]any{""}, []any{""}, "AllIn", true, false},
		"numbers":          {[]any{float64(80)}, []any{float64(443), float64(80)}, "AllIn", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			got, _, err := Conditions([]any{map[string]any{"key": c.key, "operator": c.operator, "value": c.value}}, nil)
			if got != c.want || (err != nil) != c.err {
				t.Errorf("got %v, %v", got, err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
