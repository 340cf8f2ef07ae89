// SPDX-License-Identifier: Apache-2.0

package generate_test

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"pgregory.net/rapid"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// rule returns a control of the catalogue: privileged-container.
func rule(tb testing.TB) *control.Control {
	tb.Helper()
	c, err := control.New(library(tb).Control("privileged-container"), control.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// privileged returns a pod of which some containers are privileged.
func privileged(tb testing.TB, namespace, name string, annotations map[string]any, containers ...string) *object.Object {
	tb.Helper()
	var list []any
	for _, c := range containers {
		list = append(list, map[string]any{"name": c, "image": "i", "securityContext": map[string]any{"privileged": true}})
	}
	objects, err := object.FromNode(object.FromAny(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": namespace, "annotations": annotations},
		"spec": map[string]any{"containers": list},
	}), &object.Origin{})
	if err != nil {
		tb.Fatal(err)
	}
	return objects[0]
}

// build returns the policy of a control, ready to judge.
func build(tb testing.TB, c *control.Control, action v1alpha1.Action, opts generate.Options) (*vap.Policy, *generate.Validating) {
	tb.Helper()
	built := generate.Build(of(c, action), opts)
	if len(built.Left) > 0 {
		tb.Fatal(built.Left)
	}
	p, err := vap.Compile(built.Validating[0].Policy)
	if err != nil {
		tb.Fatal(err)
	}
	return p, &built.Validating[0]
}

// TestExceptionPatterns holds that exceptions excuse natively what they excuse
// in a scan, whatever their patterns.
func TestExceptionPatterns(t *testing.T) {
	c := rule(t)
	word := rapid.StringMatching(`[a-c*?.-]{1,4}|\[a-b\]x|\[\^a\]|a\\\*`)
	name := rapid.StringMatching(`[a-c][a-c.-]{0,3}`)
	rapid.Check(t, func(rt *rapid.T) {
		patterns := func(label string) []string {
			out := rapid.SliceOfN(word, 0, 2).Draw(rt, label)
			for _, p := range out {
				if _, err := path.Match(p, ""); err != nil {
					rt.Skip("no pattern")
				}
			}
			return out
		}
		m := v1alpha1.ExceptionMatch{Namespaces: patterns("namespaces"), Names: patterns("names"), Elements: patterns("elements")}
		if len(m.Namespaces)+len(m.Names)+len(m.Elements) == 0 {
			m.Kinds = []string{"Pod"}
		}
		e := &v1alpha1.Exception{Spec: v1alpha1.ExceptionSpec{Controls: []string{c.Name}, Match: m, Reason: "for a test", Owner: "me", Expires: "2100-01-01"}}
		o := privileged(t, name.Draw(rt, "namespace"), name.Draw(rt, "name"), nil, name.Draw(rt, "container"))
		want := !excuses(m, o)
		p, v := build(t, c, v1alpha1.Deny, generate.Options{Exceptions: []*v1alpha1.Exception{e}})
		if got := p.Judge(t.Context(), v.Binding, request(t, o)).Outcome() == verdict.Fail; got != want {
			rt.Errorf("exception %+v, %s: the policy fails it: %v, a scan: %v", m, o.Ref, got, want)
		}
	})
}

// excuses says what package baseline says of the one container of a pod.
func excuses(m v1alpha1.ExceptionMatch, o *object.Object) bool {
	one := func(patterns []string, value string) bool {
		for _, p := range patterns {
			if ok, err := path.Match(p, value); ok && err == nil {
				return true
			}
		}
		return len(patterns) == 0
	}
	container := o.Root.At("spec", "containers").Items[0].Get("name").Str()
	return one(m.Namespaces, o.Namespace) && one(m.Kinds, o.Kind) && one(m.Names, o.Name) && one(m.Elements, container)
}

// TestInlineExceptions holds that an object excuses itself natively when it does
// in a scan.
func TestInlineExceptions(t *testing.T) {
	c := rule(t)
	today := time.Date(2026, time.November, 21, 12, 0, 0, 0, time.UTC)
	p, v := build(t, c, v1alpha1.Deny, generate.Options{Today: today})
	b, err := library(t).Resolve("standard", baseline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{
		"until 2026-11-21: it loads a kernel module", "until 2026-11-20: it loads a kernel module", "2027-01-31: it loads a kernel module",
		"until 2027-01-31: short", "until 2027-02-30: it loads a kernel module", "2027-01-31", "", "until soon: it loads a kernel module",
		"until 2027-04-31: it loads a kernel module", " until  2027-01-31 :  eight ok ",
	} {
		o := privileged(t, "shop", "web", map[string]any{v1alpha1.ExceptPrefix + c.Name: value}, "web")
		want := b.Inline(o, today).Excuse(c.Name) != nil
		if got := p.Judge(t.Context(), v.Binding, request(t, o)).Outcome() == verdict.Pass; got != want {
			t.Errorf("%q: the policy excuses it: %v, a scan: %v", value, got, want)
		}
	}
	forbidden := of(c, v1alpha1.Deny)
	forbidden.ForbidInline = true
	if s := fmt.Sprint(generate.Build(forbidden, generate.Options{Today: today}).Validating[0].Policy.Spec.MatchConditions); strings.Contains(s, v1alpha1.ExceptPrefix) {
		t.Errorf("inline exceptions are honoured, though the baseline forbids them: %s", s)
	}
}

// TestRatchet holds that an update is denied what it adds, and nothing else.
func TestRatchet(t *testing.T) {
	p, v := build(t, rule(t), v1alpha1.Ratchet, generate.Options{})
	update := func(before, after []string) verdict.Outcome {
		r := request(t, privileged(t, "shop", "web", nil, after...))
		r.Old, r.Operation = request(t, privileged(t, "shop", "web", nil, before...)).Object.(*unstructured.Unstructured), admission.Update
		return p.Judge(t.Context(), v.Binding, r).Outcome()
	}
	if got := update([]string{"a", "b"}, []string{"b"}); got != verdict.Pass {
		t.Errorf("what failed before: %s", got)
	}
	if got := update([]string{"a"}, []string{"a", "b"}); got != verdict.Fail {
		t.Errorf("what is added: %s", got)
	}
	if got := p.Judge(t.Context(), v.Binding, request(t, privileged(t, "shop", "web", nil, "a"))).Outcome(); got != verdict.Fail {
		t.Errorf("what is created: %s", got)
	}
}

// TestBeingDeleted holds that what is being deleted can always go, and can
// become nothing that is denied.
func TestBeingDeleted(t *testing.T) {
	p, v := build(t, rule(t), v1alpha1.Deny, generate.Options{})
	held := func(change func(root map[string]any), containers ...string) *unstructured.Unstructured {
		u := request(t, privileged(t, "shop", "web", map[string]any{"a": "b"}, containers...)).Object.(*unstructured.Unstructured)
		meta := u.Object["metadata"].(map[string]any)
		meta["deletionTimestamp"], meta["finalizers"] = "2026-11-21T09:00:00Z", []any{"example.com/hold"}
		change(u.Object)
		return u
	}
	same := func(map[string]any) {}
	in := func(root map[string]any, field string) map[string]any { return root[field].(map[string]any) }
	for _, c := range []struct {
		name     string
		old, now *unstructured.Unstructured
		want     verdict.Outcome
	}{
		{"its finalizer goes", held(same, "a"), held(func(o map[string]any) {
			delete(in(o, "metadata"), "finalizers")
			in(o, "metadata")["generation"] = int64(2)
		}, "a"), verdict.Pass},
		{"its status changes", held(same, "a"), held(func(o map[string]any) { o["status"] = map[string]any{"phase": "Failed"} }, "a"), verdict.Pass},
		{"it is widened", held(same, "a"), held(same, "a", "b"), verdict.Fail},
		{"it gets a field", held(func(o map[string]any) { delete(o, "spec") }), held(same, "a"), verdict.Fail},
		{"an annotation goes", held(same, "a"), held(func(o map[string]any) { delete(in(o, "metadata"), "annotations") }, "a"), verdict.Fail},
		{"a label comes", held(same, "a"), held(func(o map[string]any) { in(o, "metadata")["labels"] = map[string]any{"a": "b"} }, "a"), verdict.Fail},
		{"it is changed and passes", held(same, "a"), held(func(o map[string]any) { in(o, "spec")["containers"] = []any{map[string]any{"name": "a", "image": "i"}} }), verdict.Pass},
	} {
		r := request(t, privileged(t, "shop", "web", nil, "a"))
		r.Object, r.Old, r.Operation = c.now, c.old, admission.Update
		if got := p.Judge(t.Context(), v.Binding, r); got.Outcome() != c.want {
			t.Errorf("%s: %s, want %s: %v", c.name, got.Outcome(), c.want, got.Decisions)
		}
	}
}

// TestFixes holds that no fix is lost without a word.
func TestFixes(t *testing.T) {
	l := library(t)
	b, err := l.Resolve("hardened", baseline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	built := generate.Build(b, generate.Options{Mutate: true, ExemptNamespaces: []string{"kube-system"}})
	left := map[string]bool{}
	for _, l := range built.Left {
		left[l.Control] = true
		if strings.Contains(l.Reason, "would refuse") {
			t.Errorf("%s: %s", l.Control, l.Reason)
		}
	}
	mended := map[string]bool{}
	for _, m := range built.Mutating {
		mended[m.Control] = true
	}
	for _, r := range b.Rules {
		if r.Spec.Fix != nil && !left[r.Name] && !mended[r.Name] {
			t.Errorf("the fix of %s is neither made nor listed", r.Name)
		}
	}
	if len(built.Mutating) < 50 {
		t.Errorf("only %d fixes are made", len(built.Mutating))
	}
	if n := len(built.Objects()); n != 2*(len(built.Mutating)+len(built.Validating)) {
		t.Errorf("%d objects of %d policies", n, len(built.Mutating)+len(built.Validating))
	}
}
