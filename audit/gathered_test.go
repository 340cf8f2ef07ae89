// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"testing"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
)

// TestDependents holds that what has changed is judged at once, and what depends on
// it when that is asked for.
func TestDependents(t *testing.T) {
	ctx := context.Background()
	e := newEngine(t, "mine", "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: mine}\nspec: {title: Mine, complete: true}\n---\n"+lookingUp, baseline.Options{})
	s := audit.New(e, audit.Options{})
	onHost := func(i, n, version int) *object.Object {
		return runningPod(t, i, n, version, func(v values) { v["spec"].(values)["hostNetwork"] = true })
	}
	for _, o := range []*object.Object{namespaceOf(t, 1, "b", 1), namespaceOf(t, 2, "b", 1), onHost(1, 0, 1), onHost(2, 0, 1)} {
		s.Set(o)
	}
	if d := s.Settle(ctx); len(d.Appeared) > 0 || s.Depends() {
		t.Fatalf("%v appeared, left %v", names(d.Appeared), s.Depends())
	}
	s.Set(namespaceOf(t, 1, "a", 2))
	s.Set(onHost(1, 1, 1))
	if d := s.SettleChanged(ctx); len(d.Appeared) != 1 || d.Appeared[0].Object != onHost(1, 1, 1).Ref {
		t.Errorf("of what has changed, %v appeared", d.Appeared)
	}
	if !s.Depends() {
		t.Error("nothing is left")
	}
	if d := s.Settle(ctx); len(d.Appeared) != 1 || d.Appeared[0].Object != onHost(1, 0, 1).Ref || s.Depends() {
		t.Errorf("of what depends on it, %v appeared, left %v", d.Appeared, s.Depends())
	}
}
