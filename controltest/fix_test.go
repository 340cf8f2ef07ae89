// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"slices"
	"testing"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// everything is the whole catalogue as rules, for objects of any version.
func everything(tb testing.TB, l *baseline.Library, skip string) *engine.Engine {
	tb.Helper()
	b, err := l.Resolve(catalog.Default, baseline.Options{Only: l.Controls(), Skip: []string{skip}})
	if err != nil {
		tb.Fatal(err)
	}
	return engine.New(b, l.Exceptions(time.Time{}), time.Time{})
}

// TestFixes makes every fix in every fixture and proves it: the finding is
// gone, and no control of the catalogue finds anything new.
func TestFixes(t *testing.T) {
	l := library(t)
	for _, name := range l.Controls() {
		c := l.Control(name)
		if c.Spec.Fix == nil || aboutAll(c) {
			continue // what depends on other objects is not proven on one
		}
		t.Run(name, func(t *testing.T) {
			fixture, data, err := catalog.Fixture(l.File(name))
			if err != nil {
				t.Fatal(err)
			}
			others := everything(t, l, name)
			fixed := 0
			for text := range object.Split(data) {
				fixed += fixDocument(t, c, fixture, text, others)
			}
			if fixed == 0 {
				t.Errorf("no finding of %s was fixed", fixture)
			}
		})
	}
}

// aboutAll says whether a control judges facts about all objects.
func aboutAll(c *v1alpha1.Control) bool {
	return slices.ContainsFunc(all.Wholes, func(w facts.Whole) bool { return overlap(w.Kinds, factKinds(c)) })
}

// fixDocument makes the control's fixes in one document and returns how many.
func fixDocument(t *testing.T, c *v1alpha1.Control, fixture string, text object.Text, others *engine.Engine) int {
	t.Helper()
	with, _, err := comment(text, withComment)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := with.options()
	if err != nil {
		t.Fatal(err)
	}
	env, err := with.env()
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := control.New(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(o *object.Object) []verdict.Finding {
		out := others.Judge(o).Findings
		for _, o := range append(aboutOne(c, o, &env), o) {
			if !compiled.Matches(o.GroupKind()) {
				continue
			}
			for _, f := range compiled.Judge(o, nil).Findings {
				for i := range f.Edits {
					f.Edits[i].Steps = o.SourcePath(f.Edits[i].Steps)
				}
				out = append(out, verdict.Finding{
					Control: c.Name, Outcome: f.Outcome, Path: o.SourcePath(f.Path).String(), Message: f.Message, Position: o.Position(f.Path),
					Fingerprint: verdict.Fingerprint(c.Name, o.Subject().Ref, f.Element, f.Path), Fix: &verdict.Fix{Edits: f.Edits},
				})
			}
		}
		return out
	}
	own := func(f *verdict.Finding) bool { return f.Control == c.Name && len(f.Fix.Edits) > 0 }
	// What is fixed here is the document by itself.
	alone := object.Text{Bytes: text.Bytes, Line: text.Line}
	after, outcomes, err := fix.File(fixture, alone.Bytes, judge, own)
	if err != nil {
		t.Fatal(err)
	}
	fixed := 0
	for _, o := range outcomes {
		if !o.Fixed {
			t.Errorf("%s:%d: %s: not fixed: %s", fixture, o.Finding.Position.Line+text.Line-1, o.Finding.Message, o.Why)
			continue
		}
		fixed++
	}
	again, outcomes, _ := fix.File(fixture, after, judge, own)
	if string(again) != string(after) || len(outcomes) > 0 {
		t.Errorf("%s:%d: fixing once more changes more", fixture, text.Line)
	}
	return fixed
}
