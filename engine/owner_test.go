// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// TestForgedOwner: who names an excused object as the owner of something else is
// not excused.
func TestForgedOwner(t *testing.T) {
	f := newFolds(nil)
	owner := &node{unit: 0, findings: map[uint64]bool{7: true}, programs: []uint64{1}}
	f.nodes[1] = owner
	for programs, want := range map[uint64]bool{1: true, 2: false} {
		found, excepted := f.has(&node{owner: 1, programs: []uint64{programs}}, []uint64{7}, true)
		if found != want || excepted != want {
			t.Errorf("program %d: found %t, excused %t, want %t", programs, found, excepted, want)
		}
	}
}

// kind is a unit of objects of a cluster, of which each has a name.
type kind []string

func (kind) OwnersFirst() bool { return true }

func (k kind) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for _, name := range k {
		sink.Object(&object.Object{Ref: object.Ref{APIVersion: "v1", Kind: "Widget", Name: name}, Origin: &object.Origin{}, Root: &object.Node{Kind: object.Map}})
	}
	return snapshot.Tally{}
}

// TestFault: a fault in what reads an object costs that object, and is told.
func TestFault(t *testing.T) {
	e := New(&baseline.Baseline{}, (&baseline.Library{}).Exceptions(time.Time{}), time.Time{})
	var kept []any
	e.wholes = []facts.Whole{{
		Keep: func(o *object.Object) any {
			if o.Name == "b" {
				panic("no such thing")
			}
			return o.Name
		},
		Derive: func(all []any, _ *facts.Env, _ func(*object.Object)) { kept = all },
	}}
	var problems []string
	out := Output{
		Problem: func(p verdict.Problem) error { problems = append(problems, p.Message); return nil },
	}
	s, err := e.Run(t.Context(), []snapshot.Unit{kind{"a", "b", "c"}}, 0, out)
	if err != nil || s.Objects != 2 || fmt.Sprint(kept) != "[a c]" || len(problems) != 1 || !strings.Contains(problems[0], "Widget b") {
		t.Errorf("%v, %+v, kept %v, problems %q", err, s, kept, problems)
	}
}
