// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/object"
)

const webBase = `
-- web.yaml --
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      hostNetwork: true
      securityContext:
        runAsNonRoot: true
      containers:
      - name: app
        image: nginx:1
        securityContext:
          runAsUser: 1
`

// places builds the overlay and returns where its first object's paths are.
func places(t *testing.T, text string, paths ...string) []string {
	t.Helper()
	dir := write(t, text)
	out, err := Build(dir, Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	o := out.Objects[0]
	root := rootOf(t, o)
	locate := NewLocator(out).Locate(o, o.Ref)
	var got []string
	for _, path := range paths {
		p := locate(root, pathOf(t, root, path))
		rel, _ := filepath.Rel(dir, p.File)
		line := fmt.Sprintf("%s:%d %s", rel, p.Line, strings.TrimSpace(p.Quote))
		if p.Note != "" {
			line += "(" + p.Note + ")"
		}
		got = append(got, line)
	}
	return got
}

const (
	setSomewhere = "web.yaml:0 (set by kustomization.yaml or a patch, line not known)"
	removed      = "web.yaml:0 (removed by kustomization.yaml or a patch, line not known)"
	podSpec      = "spec.template.spec."
)

// TestLocateAdded asks for fields that are missing below what a patch added.
func TestLocateAdded(t *testing.T) {
	paths := []string{podSpec + "containers.extra.securityContext.privileged", podSpec + "containers.extra.image"}
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"inline", `
-- kustomization.yaml --
resources: [web.yaml]
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec: {template: {spec: {containers: [{name: extra, image: x}]}}}
`, []string{setSomewhere, setSomewhere}},
		{"JSON", `
-- kustomization.yaml --
resources: [web.yaml]
patches:
- target: {kind: Deployment}
  patch: '[{"op": "add", "path": "/spec/template/spec/containers/0", "value": {"name": "extra", "image": "x"}}]'
`, []string{setSomewhere, setSomewhere}},
		{"file", `
-- kustomization.yaml --
resources: [web.yaml]
patches: [{path: p.yaml}]
-- p.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: extra
        image: x
`, []string{"p.yaml:8 - name: extra", "p.yaml:9 image: x"}},
		{"file and inline", `
-- kustomization.yaml --
resources: [web.yaml]
patches:
- path: p.yaml
- target: {kind: Deployment}
  patch: '[{"op": "add", "path": "/spec/template/spec/containers/0/tty", "value": true}]'
-- p.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: extra
        image: x
`, []string{setSomewhere, "p.yaml:9 image: x"}},
	} {
		if diff := cmp.Diff(test.want, places(t, test.text+webBase, paths...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestLocateRemoved asks for fields that the base has and a patch takes away.
func TestLocateRemoved(t *testing.T) {
	paths := []string{podSpec + "hostNetwork", podSpec + "securityContext.runAsNonRoot", podSpec + "containers.app.securityContext.runAsUser", podSpec + "dnsPolicy"}
	spec := "web.yaml:7 spec:"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"file", `
-- kustomization.yaml --
resources: [web.yaml]
patches: [{path: p.yaml}]
-- p.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      hostNetwork: null
      securityContext: null
      containers:
      - name: app
        securityContext:
          runAsUser: null
`, []string{"p.yaml:7 hostNetwork: null", "p.yaml:8 securityContext: null", "p.yaml:12 runAsUser: null", spec}},
		{"JSON", `
-- kustomization.yaml --
resources: [web.yaml]
patches:
- target: {kind: Deployment}
  patch: |-
    - {op: remove, path: /spec/template/spec/hostNetwork}
    - {op: remove, path: /spec/template/spec/securityContext}
    - {op: remove, path: /spec/template/spec/containers/0/securityContext}
`, []string{removed, removed, removed, spec}},
	} {
		if diff := cmp.Diff(test.want, places(t, test.text+webBase, paths...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestLocateShifted asks for items without names, after one before them went.
func TestLocateShifted(t *testing.T) {
	dir := write(t, `
-- kustomization.yaml --
resources: [role.yaml]
patches:
- target: {kind: Role}
  patch: '[{"op": "remove", "path": "/rules/0"}]'
-- role.yaml --
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: a}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get]}
- {apiGroups: [""], resources: [secrets], verbs: [get]}
`)
	out, err := Build(dir, Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	locate := NewLocator(out).Locate(out.Objects[0], out.Objects[0].Ref)
	path := object.Path{{Field: "rules"}, {Item: true}, {Field: "verbs"}}
	if p := locate(rootOf(t, out.Objects[0]), path); p.Line != 0 || p.Note == "" {
		t.Errorf("got %+v; want no line", p)
	}
}

// TestMatchDeleted finds the document of an object whose neighbours of the same
// kind do not take part.
func TestMatchDeleted(t *testing.T) {
	for _, test := range []struct {
		name, gone, prefix string
		want               bool
	}{
		{"another name", "redis", "", true},
		{"another name, prefixed", "redis", "namePrefix: x-", true},
		{"part of the name", "art", "", true},
		{"part of the name, prefixed", "art", "namePrefix: c", false},
	} {
		dir := write(t, `
-- kustomization.yaml --
resources: [cart.yaml]
`+test.prefix+`
patches:
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: `+test.gone+`}
    $patch: delete
-- cart.yaml --
apiVersion: v1
kind: Service
metadata: {name: cart}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: `+test.gone+`}
`)
		out, err := Build(dir, Options{Root: dir})
		if err != nil {
			t.Fatal(err)
		}
		o := out.Objects[len(out.Objects)-1]
		p := NewLocator(out).Locate(o, o.Ref)(rootOf(t, o), object.Path{{Field: "kind"}})
		if o.Ref.Kind != "Deployment" || p.Line != map[bool]int{true: 10}[test.want] {
			t.Errorf("%s: %s is from %+v; want a line: %v", test.name, o.Ref, p, test.want)
		}
	}
}
