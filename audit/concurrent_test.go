// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"sync"
	"testing"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// TestConcurrent holds that objects may be told of from several sides while
// facts are settled and results read, and that all of it is there in the end.
func TestConcurrent(t *testing.T) {
	e := newEngine(t, "hardened", "", baseline.Options{Complete: true, Only: []string{"seccomp-profile-set", "default-deny-ingress", "binding-to-missing-role", "pod-without-ingress-policy"}})
	s := audit.New(e, audit.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() {
		for ctx.Err() == nil {
			s.Settle(ctx)
			for _, namespace := range s.Dirty() {
				s.Namespace(namespace)
			}
			s.Summary()
			s.Problem(object.GroupKind{Kind: "Secret"}, &verdict.Problem{Message: "may not list Secrets"})
			s.Problem(object.GroupKind{Kind: "Secret"}, nil)
		}
	})
	fill(t, s, 250)
	cancel()
	readers.Wait()
	s.Settle(context.Background())
	alone := audit.New(e, audit.Options{})
	fill(t, alone, 250)
	alone.Settle(context.Background())
	got, want := s.Summary(), alone.Summary()
	if got.Objects != want.Objects || got.Verdicts != want.Verdicts || got.Folded != want.Folded || want.Folded == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
