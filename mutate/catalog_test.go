// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
)

// minScore is what the fixtures of the catalogue must reach together.
const minScore = 95

// TestCatalogue changes every control of the catalogue in every way and holds
// that the fixtures notice. To see what they do not:
//
//	go run ./cmd/sconce test --mutate --catalog --control NAME
func TestCatalogue(t *testing.T) {
	l := baseline.NewLibrary()
	if err := catalog.Read(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	reports := make([]*Report, len(l.Controls()))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range l.Controls() {
		group.Go(func() error {
			in, err := input(l, name)
			if err == nil {
				reports[i], err = Run(in, false)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	killed, survived, equivalent := 0, 0, 0
	for _, r := range reports {
		k, s := r.Count(Killed), r.Count(Survived)
		killed, survived, equivalent = killed+k, survived+s, equivalent+r.Count(Equivalent)
		if s > 0 {
			t.Logf("%5.1f %%  %s: %d mutants survive", Score(k, s), r.Control, s)
		}
		for _, m := range r.Mistakes {
			t.Error(m)
		}
	}
	t.Logf("%d mutants: %d killed, %d survived, %d equivalent", killed+survived+equivalent, killed, survived, equivalent)
	if score := Score(killed, survived); score < minScore {
		t.Errorf("the fixtures notice %.1f %% of the mutants; want %d %%", score, minScore)
	}
}

func input(l *baseline.Library, name string) (Input, error) {
	in := Input{Control: l.Control(name), File: l.File(name)}
	var err error
	if in.Fixture, in.FixtureText, err = catalog.Fixture(in.File); err != nil {
		return in, err
	}
	in.Text, err = catalog.Source(in.File)
	return in, err
}
