// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"path"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
)

// library returns the catalogue, checked as a whole.
func library(tb testing.TB) *baseline.Library {
	tb.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		tb.Fatal(err)
	}
	return l
}

// compile compiles every expression of a control, for every version.
func compile(t *testing.T, c *v1alpha1.Control) {
	t.Helper()
	compiled, err := control.New(c, control.Options{})
	if err == nil {
		err = compiled.Compile()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCatalogue holds every control against its fixture.
func TestCatalogue(t *testing.T) {
	l := library(t)
	for _, name := range l.Controls() {
		t.Run(name, func(t *testing.T) {
			file := l.File(name)
			if base := strings.TrimSuffix(path.Base(file), ".yaml"); base != name {
				t.Errorf("the control %s stands in %s; its file must have its name", name, file)
			}
			c := l.Control(name)
			compile(t, c)
			if topic := path.Base(path.Dir(file)); topic != c.Spec.Topic {
				t.Errorf("%s is of topic %s, but stands in the folder %s", name, c.Spec.Topic, topic)
			}
			fixture, data, err := catalog.Fixture(file)
			if err != nil {
				t.Fatalf("control %s has no fixture: %v", name, err)
			}
			r, err := Run(c, fixture, data)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Errors {
				t.Error(e)
			}
			onlyUnknown := r.Passed+r.Failed == 0 && r.Unknown > 0 // there is nothing to be found out here
			if (r.Passed == 0 || r.Failed == 0) && !onlyUnknown {
				t.Errorf("%s shows %d objects that pass and %d that fail; it needs both", fixture, r.Passed, r.Failed)
			}
		})
	}
}
