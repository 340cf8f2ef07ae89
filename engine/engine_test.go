// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// collect runs an engine and returns what comes out, in order.
func collect(t *testing.T, e *engine.Engine, units []snapshot.Unit) (findings []verdict.Finding, problems []verdict.Problem, notices []verdict.Notice, s *verdict.Summary) {
	t.Helper()
	s, err := e.Run(context.Background(), units, 0, engine.Output{
		Result: func(r *engine.Result) error {
			findings = append(findings, r.Findings...)
			return nil
		},
		Problem: func(p verdict.Problem) error {
			problems = append(problems, p)
			return nil
		},
		Notice: func(n verdict.Notice) error {
			notices = append(notices, n)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return findings, problems, notices, s
}

func pod(name, containers string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n%s", name, containers)
}

const (
	bad     = "  - {name: app, image: i, securityContext: {privileged: true}}\n"
	good    = "  - {name: sidecar, image: i}\n"
	another = "  - {name: other, image: i, securityContext: {privileged: true}}\n"
)

// TestOrder holds that results come in the order of the units, whatever the
// timing, and that two runs say the same.
func TestOrder(t *testing.T) {
	var units []snapshot.Unit
	for i := range 300 {
		units = append(units, text(strings.Repeat(pod(fmt.Sprintf("p%03d", i), bad)+"---\n", 1+rand.IntN(3))))
	}
	e := newEngine(t, catalog.Default)
	first, _, _, s1 := collect(t, e, units)
	second, _, _, s2 := collect(t, newEngine(t, catalog.Default), units)
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(s1, s2) {
		t.Error("two runs over the same units differ")
	}
	// What all objects together tell comes last.
	last := slices.IndexFunc(first, func(f verdict.Finding) bool { return f.Outcome == verdict.Unknown })
	if !slices.IsSortedFunc(first[:last], func(a, b verdict.Finding) int { return strings.Compare(a.Object.Name, b.Object.Name) }) {
		t.Error("findings are not in the order of their units")
	}
	seen := map[string]bool{}
	for _, f := range first {
		if seen[f.Fingerprint] {
			t.Fatalf("fingerprint %s stands twice", f.Fingerprint)
		}
		seen[f.Fingerprint] = true
	}
}

// TestFingerprint holds that a finding stays the same when containers are
// reordered and sidecars injected, and that other findings are others.
func TestFingerprint(t *testing.T) {
	e := newEngine(t, catalog.Default)
	of := func(containers string) map[string]string {
		out := map[string]string{}
		findings, _, _, _ := collect(t, e, []snapshot.Unit{text(pod("p", containers))})
		for _, f := range findings {
			if f.Control == "privileged-container" {
				out[f.Element] = f.Fingerprint
			}
		}
		return out
	}
	alone, many := of(bad), of(good+another+bad)
	const app = "spec.containers[app]"
	if alone[app] == "" || alone[app] != many[app] {
		t.Errorf("the finding changed: %v, then %v", alone, many)
	}
	if many["spec.containers[other]"] == many[app] {
		t.Error("two findings have one fingerprint")
	}
}

// TestTotals holds that nothing is missing from the summary.
func TestTotals(t *testing.T) {
	units := []snapshot.Unit{text(
		pod("a", bad) + "---\n" +
			pod("a", good) + "---\n" +
			"apiVersion: v1\nkind: Pod\nmetadata: {name: odd}\nspec: {containers: [{name: c, securityContext: {privileged: 'yes'}}, 7]}\n---\n" +
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: part}\nspec: {}\n---\n" +
			"apiVersion: v1\nkind: Service\nmetadata: {name: s}\n")}
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve(catalog.Default, baseline.Options{Only: []string{"privileged-container"}})
	if err != nil {
		t.Fatal(err)
	}
	findings, problems, notices, s := collect(t, engine.New(b, l.Exceptions(time.Time{}), time.Time{}), units)
	if want := (verdict.Counts{Pass: 1, Fail: 1, Unknown: 1}); s.Verdicts != want {
		t.Errorf("verdicts %+v, want %+v", s.Verdicts, want)
	}
	if s.Objects != 3 || s.Unmatched != 1 || s.Problems != 1 || s.Notices != 1 || s.Files != 1 {
		t.Errorf("%+v", s)
	}
	if len(findings) != 3 || len(problems) != 1 || len(notices) != 1 {
		t.Errorf("%d findings, %d problems, %d notices", len(findings), len(problems), len(notices))
	}
	if low, high := s.Score(); low >= high {
		t.Errorf("an unknown does not widen the score: %v to %v", low, high)
	}
}

// TestStops holds that a run ends with the context, and with an output that
// fails.
func TestStops(t *testing.T) {
	units := make([]snapshot.Unit, 100)
	for i := range units {
		units[i] = text(pod("p", bad))
	}
	e := newEngine(t, catalog.Default)
	broken := errors.New("disk full")
	_, err := e.Run(context.Background(), units, 0, engine.Output{Result: func(*engine.Result) error { return broken }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Run(ctx, units, 0, engine.Output{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// exceptionDoc is an exception with the given name and match.
func exceptionDoc(name, match, expires string) string {
	return "apiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: " + name + "}\nspec:\n" +
		"  controls: [privileged-container]\n  match: " + match + "\n  reason: it loads a kernel module\n  owner: platform\n  expires: " + expires + "\n---\n"
}

// TestExceptions holds that exceptions excuse what they match until they
// expire, and are told of when unused, expired or wider than needed.
func TestExceptions(t *testing.T) {
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	err := l.Read("x.yaml", []byte(
		exceptionDoc("fits", "{names: [a], elements: [app]}", "2030-06-30")+
			exceptionDoc("wide", "{names: ['b*']}", "2030-06-30")+
			exceptionDoc("unused", "{names: [nobody]}", "2030-06-30")+
			exceptionDoc("expired", "{names: [c]}", "2030-06-29")))
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2030, 6, 30, 23, 59, 0, 0, time.UTC)
	b, err := l.Resolve(catalog.Default, baseline.Options{Only: []string{"privileged-container"}})
	if err != nil {
		t.Fatal(err)
	}
	units := []snapshot.Unit{text(pod("a", bad+another) + "---\n" + pod("b1", bad) + "---\n" + pod("b2", good) + "---\n" + pod("c", bad))}
	findings, _, notices, s := collect(t, engine.New(b, l.Exceptions(day), day), units)
	var got []string
	for _, f := range findings {
		by := "-"
		if f.Excepted != nil {
			by = f.Excepted.Exception
		}
		got = append(got, f.Object.Name+" "+f.Element+" "+by)
	}
	want := []string{"a spec.containers[app] fits", "a spec.containers[other] -", "b1 spec.containers[app] wide", "c spec.containers[app] -"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if s.Verdicts != (verdict.Counts{Pass: 1, Fail: 2, Excepted: 1}) {
		t.Errorf("%+v", s.Verdicts)
	}
	kinds := map[string]verdict.NoticeKind{}
	for _, n := range notices {
		kinds[n.Subject] = n.Kind
	}
	if !reflect.DeepEqual(kinds, map[string]verdict.NoticeKind{
		"expired": verdict.ExpiredException, "unused": verdict.UnusedException, "wide": verdict.WideException,
	}) {
		t.Errorf("notices %v", kinds)
	}
	if err := l.Check(day); err == nil || !strings.Contains(err.Error(), `exception "expired" expired on 2030-06-29`) || strings.Contains(err.Error(), `"fits"`) {
		t.Errorf("Check says %v", err)
	}
}

// TestMask holds that the lines of Secrets are never quoted.
func TestMask(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2-hunter2}\n"
	findings, _, _, _ := collect(t, newEngine(t, "hardened"), []snapshot.Unit{text(secret)})
	if len(findings) == 0 {
		t.Fatal("nothing was found in a Secret")
	}
	if out := fmt.Sprintf("%+v", findings); strings.Contains(out, "hunter2") {
		t.Errorf("the secret is shown: %s", out)
	}
}

// faulty is a unit that panics.
type faulty struct{}

// Read implements snapshot.Unit.
func (faulty) Read(context.Context, snapshot.Sink) snapshot.Tally { panic("a fault") }

// TestFault holds that a fault in one unit is a problem, and the others are
// judged.
func TestFault(t *testing.T) {
	findings, problems, _, s := collect(t, newEngine(t, catalog.Default), []snapshot.Unit{faulty{}, text(pod("p", bad))})
	if len(problems) != 1 || s.Problems != 1 || !strings.Contains(problems[0].Message, "a fault") || len(findings) == 0 {
		t.Errorf("%+v, %d findings", problems, len(findings))
	}
}

// TestNoSecretInOneLine holds that no quote of an object in one line tells what
// else stands there: in findings about all objects, in notices and in problems.
func TestNoSecretInOneLine(t *testing.T) {
	const planted = "Zq81kLmP0vXcNb"
	units := []snapshot.Unit{
		text(`{apiVersion: v1, kind: Secret, metadata: {name: s, annotations: {except.sconce.dev/no-such: x}}, stringData: {pin: ` + planted + "}}\n---\n" +
			`{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {pin: ` + planted + "}}\n"),
		text(`{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"env": [{"name": "DB_PASSWORD", "value": "` + planted + `"}]}}`),
		text(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "env": [{"value": "` + planted + `", "name": "DB_PASSWORD"}]}]}}`),
	}
	findings, problems, notices, _ := collect(t, newEngine(t, "hardened"), units)
	if len(findings) == 0 || len(problems) == 0 || len(notices) < 2 {
		t.Fatalf("%d findings, %d problems and %d notices; want some of each", len(findings), len(problems), len(notices))
	}
	if out := fmt.Sprintf("%+v %+v %+v", findings, problems, notices); strings.Contains(out, planted) {
		at := strings.Index(out, planted)
		t.Errorf("a secret is told: …%s…", out[max(0, at-300):at])
	}
}
