// SPDX-License-Identifier: Apache-2.0

package control

import (
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
