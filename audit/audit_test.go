// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
	"sconce.dev/sconce/verdict"
)

// newEngine returns an engine for a built-in baseline, and for the documents of
// a text.
func newEngine(tb testing.TB, name, documents string, opts baseline.Options) *engine.Engine {
	tb.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	l.ReadPolicies(all.Reader{}, policy.Options{})
	if documents != "" {
		if err := l.Read("test.yaml", []byte(documents)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := l.Check(time.Time{}); err != nil {
		tb.Fatal(err)
	}
	b, err := l.Resolve(name, opts)
	if err != nil {
		tb.Fatal(err)
	}
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	return engine.New(b, l.Exceptions(day), day)
}

var origin = &object.Origin{Source: "test"}

// parse returns the objects of a text, as a cluster would hand them over.
func parse(tb testing.TB, text string) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for part := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(part)
		if err != nil {
			tb.Fatalf("%v: %s", err, part.Bytes)
		}
		if root == nil {
			continue
		}
		// From a tree of plain values: what is live has no lines.
		objects, err := object.FromNode(object.FromAny(root.Any()), origin)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// privilegedPod returns a version of a pod.
func privilegedPod(tb testing.TB, version, privileged string) *object.Object {
	tb.Helper()
	return parse(tb, fmt.Sprintf(podText, version, privileged))[0]
}

const podText = `{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, uid: p1, resourceVersion: "%s"}, spec: {containers: [{name: app, image: i, securityContext: {privileged: %s}}]}}`

// names returns the controls and elements of findings.
func names(findings []verdict.Finding) (out []string) {
	for _, f := range findings {
		out = append(out, f.Control+" "+f.Object.Name+" "+f.Element)
	}
	return out
}

// TestDelta holds that a change tells what appeared and what cleared, and no
// more.
func TestDelta(t *testing.T) {
	s := audit.New(newEngine(t, "hardened", "", baseline.Options{Only: []string{"privileged-container"}}), audit.Options{})
	for _, step := range []struct {
		object          *object.Object
		first           bool
		appear, cleared int
		dirty           string
	}{
		{privilegedPod(t, "1", "true"), true, 1, 0, "[shop]"},
		{privilegedPod(t, "1", "true"), false, 0, 0, "[]"},
		{privilegedPod(t, "2", "true"), false, 0, 0, "[]"},
		{privilegedPod(t, "3", "false"), false, 0, 1, "[shop]"},
		{privilegedPod(t, "4", "true"), false, 1, 0, "[shop]"},
	} {
		d := s.Set(step.object)
		if d.First != step.first || len(d.Appeared) != step.appear || len(d.Cleared) != step.cleared {
			t.Errorf("version %s: first %t, appeared %v, cleared %v", step.object.Root.At("metadata", "resourceVersion").Text, d.First, names(d.Appeared), names(d.Cleared))
		}
		if dirty := fmt.Sprint(s.Dirty()); dirty != step.dirty {
			t.Errorf("dirty %s, want %s", dirty, step.dirty)
		}
	}
	if d := s.Delete(object.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web"}); len(d.Cleared) != 1 {
		t.Errorf("cleared %v", names(d.Cleared))
	}
	if sum := s.Summary(); sum.Objects != 0 || sum.Verdicts != (verdict.Counts{}) || len(sum.Findings) != 0 {
		t.Errorf("something is left: %+v", sum)
	}
	if d := s.Settle(context.Background()); len(d.Appeared)+len(d.Cleared) > 0 {
		t.Errorf("%+v", d)
	}
}

// TestResult holds that the worst findings of a namespace are listed, that all
// are counted, and that what could not be read is told.
func TestResult(t *testing.T) {
	s := audit.New(newEngine(t, "hardened", "", baseline.Options{Only: []string{"privileged-container", "seccomp-profile-set"}}), audit.Options{Findings: 2})
	for i, set := range []string{"true", "false", "true"} {
		o := parse(t, strings.Replace(fmt.Sprintf(podText, "1", set), "name: web", fmt.Sprintf("name: web-%d", i), 1))[0]
		s.Set(o)
	}
	s.Problem(object.GroupKind{Kind: "Secret"}, &verdict.Problem{Stage: verdict.Reading, Message: "may not list Secrets"})
	r := s.Namespace("shop")
	if got := fmt.Sprint(names(r.Findings)); got != "[privileged-container web-0 spec.containers[app] privileged-container web-2 spec.containers[app]]" {
		t.Errorf("listed %s", got)
	}
	if r.LeftOut != 3 || r.Objects != 3 || r.Verdicts != (verdict.Counts{Pass: 1, Fail: 5}) || len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
	if r := s.Namespace("elsewhere"); len(r.Findings)+r.Objects > 0 || len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
	if dirty := fmt.Sprint(s.Dirty()); dirty != "[ shop]" {
		t.Errorf("dirty %s", dirty)
	}
}

// turning is a context that calls a function each time that it is asked whether
// it has ended.
type turning struct {
	context.Context
	turn func()
}

func (c turning) Err() error {
	c.turn()
	return nil
}

// TestTurning holds that what is read while facts are derived, and cannot be
// read any more once they are, leaves nothing behind that was taken for absent.
func TestTurning(t *testing.T) {
	const text = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %s, uid: u-%[1]s, resourceVersion: "%d"}, spec: {selector: {app: v%[2]d}}}`
	for _, problemFirst := range []bool{true, false} {
		s := audit.New(newEngine(t, "hardened", "", baseline.Options{Complete: true, Only: []string{"service-selects-nothing"}}), audit.Options{})
		pods, problem := object.GroupKind{Kind: "Pod"}, &verdict.Problem{Message: "may not list Pods"}
		is, other := problem, (*verdict.Problem)(nil)
		if !problemFirst {
			is, other = nil, problem
		}
		s.Problem(pods, is)
		set := func(version int) {
			for _, namespace := range []string{"a", "b"} {
				s.Set(parse(t, fmt.Sprintf(text, namespace, version))[0])
			}
		}
		set(1)
		s.Settle(t.Context())
		set(2)
		s.Settle(turning{t.Context(), func() { s.Problem(pods, other) }})
		s.Problem(pods, is)
		s.Settle(t.Context())
		for _, namespace := range []string{"a", "b"} {
			if r := s.Namespace(namespace); r.Verdicts.Unknown != 1 == problemFirst || r.Verdicts.Fail != 1 == !problemFirst {
				t.Errorf("a problem: %t, verdicts of %s: %+v", problemFirst, namespace, r.Verdicts)
			}
		}
	}
}

// TestUnread holds that a kind that may not be read makes unknown what its
// objects may decide, and nothing else.
func TestUnread(t *testing.T) {
	const text = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, uid: u, resourceVersion: "1"}, spec: {selector: {app: web}}}`
	s := audit.New(newEngine(t, "hardened", "", baseline.Options{Complete: true, Only: []string{"service-selects-nothing"}}), audit.Options{})
	s.Set(parse(t, text)[0])
	for _, tt := range []struct {
		kind object.GroupKind
		want verdict.Counts
	}{
		{object.GroupKind{Kind: "Secret"}, verdict.Counts{Fail: 1}},
		{object.GroupKind{Kind: "Pod"}, verdict.Counts{Unknown: 1}},
		{object.GroupKind{Group: "apps", Kind: facts.AnyKind}, verdict.Counts{Unknown: 1}},
		{object.GroupKind{Kind: facts.AnyKind}, verdict.Counts{Unknown: 1}},
	} {
		s.Problem(tt.kind, &verdict.Problem{Message: "may not list it"})
		s.Settle(t.Context())
		if r := s.Namespace("shop"); r.Verdicts != tt.want || len(r.Problems) != 1 {
			t.Errorf("%+v: %+v, want %+v", tt.kind, r.Verdicts, tt.want)
		}
		s.Problem(tt.kind, nil)
	}
}
