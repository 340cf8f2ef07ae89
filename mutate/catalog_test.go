// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/controltest"
)

// minScore is what the fixtures of the catalogue must reach together.
const minScore = 95

// TestCatalogue changes every control of the catalogue in every way and holds
// that the fixtures notice. To see what they do not:
//
//	go run ./cmd/sconce test --mutate --catalog --control NAME
func TestCatalogue(t *testing.T) {
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	names := l.Controls()
	if raceDetector { // twenty times as slow: a few controls show the races
		names = slices.DeleteFunc(names, func(name string) bool { return l.Control(name).Spec.Topic != "image" })
	}
	reports := make([]*Report, len(names))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
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

// TestWrittenDown holds that an expression means the same when it is parsed and
// written down again: else every mutant of it would be noticed, whatever it is.
func TestWrittenDown(t *testing.T) {
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	for _, name := range l.Controls() {
		in, err := input(l, name)
		if err != nil {
			t.Fatal(err)
		}
		c := in.Control.DeepCopy()
		again := func(source *string) {
			tree, err := parse(*source)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			*source = (&rewriter{info: tree.SourceInfo()}).print(tree.Expr())
		}
		if c.Spec.When != "" {
			again(&c.Spec.When)
		}
		again(&c.Spec.Require)
		for i := range c.Spec.Variables {
			again(&c.Spec.Variables[i].Expression)
		}
		for i := range c.Spec.Versions {
			again(&c.Spec.Versions[i].Require)
		}
		r, err := controltest.Run(c, in.Fixture, in.FixtureText)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Errors {
			t.Error(e)
		}
	}
}
