// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// TestReworded holds that the reason comes first in what the API server says of
// expressions that fail, of each where there are several.
func TestReworded(t *testing.T) {
	for message, want := range map[string]string{
		"not allowed": "not allowed",
		"expression 'a == 1' resulted in error: no such key: a":                                                                            "no such key: a, in the expression a == 1",
		"denied: expression 'a in ['x']' resulted in error: no such key: a":                                                                "denied: no such key: a, in the expression a in ['x']",
		"denied: [expression 'a' resulted in error: no a, expression 'b' resulted in error: no b, expression 'c' resulted in error: no c]": "denied: [no a, in the expression a, no b, in the expression b, no c, in the expression c]",
		"expression 'cut": "expression 'cut",
	} {
		if got := Reworded(message); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", message, got, want)
		}
	}
}
