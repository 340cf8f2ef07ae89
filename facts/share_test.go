// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// TestShare: what is kept of an object is made once while that is what is asked
// of, and anew for another object, and for one that was changed.
func TestShare(t *testing.T) {
	calls := 0
	keep := facts.Share(func(o *object.Object) *string {
		calls++
		name := o.Name
		return &name
	})
	of := func(name string) *object.Object {
		return object.New(object.FromAny(map[string]any{"kind": "Pod", "metadata": map[string]any{"name": name}}), &object.Origin{})
	}
	a, b := of("a"), of("b")
	first := keep(a)
	if again := keep(a); again != first || *first != "a" || *keep(b) != "b" {
		t.Errorf("a is kept as %s and %s, b as %s", *first, *again, *keep(b))
	}
	before := calls
	if a.Name = "c"; *keep(a) != "c" || calls != before+1 {
		t.Errorf("kept as %s after a change, in %d calls", *keep(a), calls-before)
	}
	if a.Root = b.Root; keep(a) == nil || calls != before+2 {
		t.Errorf("another tree was not looked at")
	}
}
