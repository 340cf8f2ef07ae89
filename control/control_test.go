// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// parse returns the first object of a text.
func parse(tb testing.TB, text string) *object.Object {
	tb.Helper()
	for t := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(t)
		if err != nil {
			tb.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: []byte(text), FirstLine: 1})
		if err != nil {
			tb.Fatal(err)
		}
		return objects[0]
	}
	tb.Fatal("no document")
	return nil
}

const pod = `apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  initContainers:
  - name: init
    image: busybox
  containers:
  - name: app
    image: nginx:1
    securityContext:
      privileged: true
      capabilities: {add: [NET_ADMIN, SYS_TIME]}
  - name: side
    image: side
    securityContext: {privileged: false}
`

func privileged() *v1alpha1.Control {
	return &v1alpha1.Control{Spec: v1alpha1.ControlSpec{
		Match: v1alpha1.Match{Pods: true}, ForEach: "containers",
		Require: "!container.?securityContext.?privileged.orValue(false)",
		At:      []string{"securityContext.privileged"},
		Message: `container "{container.name}" runs privileged`,
		Fix:     &v1alpha1.Fix{Set: map[string]v1alpha1.Value{"securityContext.privileged": {RawMessage: []byte("false")}}},
	}}
}

func TestJudge(t *testing.T) {
	c, err := New(privileged(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Compile(); err != nil {
		t.Fatal(err)
	}
	o := parse(t, pod)
	v := c.Judge(o, nil)
	if v.Outcome != verdict.Fail || len(v.Findings) != 1 {
		t.Fatalf("%+v", v)
	}
	f := v.Findings[0]
	if f.Message != `container "app" runs privileged` || f.Path.String() != "spec.containers[app].securityContext.privileged" {
		t.Fatalf("%+v %s", f, f.Path)
	}
	if p := o.Position(f.Path); p.Line != 12 || p.Column != 7 {
		t.Fatalf("%+v", p)
	}
}

func BenchmarkJudge(b *testing.B) {
	c, _ := New(privileged(), Options{})
	o := parse(b, pod)
	c.Judge(o, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.Judge(o, nil)
	}
}

// TestPodTemplates holds that a kind which a control, or a baseline, declares to
// hold a pod template is judged like any other, by its API group.
func TestPodTemplates(t *testing.T) {
	rollout := "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec:\n  workload:\n    spec:\n      ephemeralContainers:\n      - {name: c, securityContext: {privileged: true}}\n"
	template := []v1alpha1.PodTemplate{{GroupKind: v1alpha1.GroupKind{Group: "argoproj.io", Kind: "Rollout"}, Path: "spec.workload"}}
	declared := privileged()
	declared.Spec.Match.PodTemplates = template
	byControl, err := New(declared, Options{})
	if err != nil {
		t.Fatal(err)
	}
	byBaseline, err := New(privileged(), Options{PodTemplates: template})
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, rollout)
	for _, c := range []*Control{byControl, byBaseline} {
		if !c.Matches(o.GroupKind()) || c.Matches(object.GroupKind{Group: "example.com", Kind: "Rollout"}) {
			t.Error("the kind is not told by its group")
		}
		v := c.Judge(o, nil)
		if len(v.Findings) != 1 || v.Findings[0].Path.String() != "spec.workload.spec.ephemeralContainers[c].securityContext.privileged" {
			t.Errorf("%+v", v)
		}
	}
}

// TestCost holds that an expression which costs too much is unknown, and that
// many cheap elements are not.
func TestCost(t *testing.T) {
	c := privileged()
	c.Spec.Variables = []v1alpha1.Variable{{Name: "a", Expression: "[1,2,3,4,5,6,7,8,9,10]"}}
	c.Spec.Require = "variables.a.all(i, variables.a.all(j, variables.a.all(k, variables.a.all(l, variables.a.all(m, variables.a.all(n, i+j+k+l+m+n > 0))))))"
	dear, err := New(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v := dear.Judge(parse(t, pod), nil); v.Outcome != verdict.Unknown {
		t.Errorf("a million steps: %s", v.Outcome)
	}
	cheap, err := New(privileged(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	many := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n" + strings.Repeat("  - {name: c, image: i}\n", 20_000)
	if v := cheap.Judge(parse(t, many), nil); v.Outcome != verdict.Pass {
		t.Errorf("20,000 containers: %s %+v", v.Outcome, v.Findings[0])
	}
}
