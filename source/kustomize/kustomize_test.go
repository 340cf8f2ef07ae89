// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"sconce.dev/sconce/object"
)

// write unpacks a txtar into a new folder.
func write(t *testing.T, text string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range txtar.Parse([]byte(text)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const overlay = `
-- base/kustomization.yaml --
resources: [web.yaml, service.yaml]
configMapGenerator:
- name: settings
  files: [settings.txt]
-- base/settings.txt --
hello
-- base/web.yaml --
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  template:
    spec:
      hostNetwork: true
      containers:
      - name: app
        image: nginx:1
        args: [a, b]
      - name: log
        image: fluent:1
        securityContext:
          privileged: true
-- base/service.yaml --
apiVersion: v1
kind: Service
metadata:
  name: web
-- prod/kustomization.yaml --
namePrefix: prod-
buildMetadata: [managedByLabel]
resources: [../base]
patches:
- path: patches/web.yaml
images:
- name: nginx
  newTag: "2"
components: [../part]
-- prod/patches/web.yaml --
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      hostPID: true
      containers:
      - name: extra
        image: extra:1
      - name: log
        securityContext:
          privileged: false
-- part/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
- patch: |-
    - {op: add, path: /spec/template/spec/hostIPC, value: true}
  target: {kind: Deployment}
`

func TestBuild(t *testing.T) {
	dir := write(t, overlay)
	out, err := Build(filepath.Join(dir, "prod"), Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range out.Objects {
		ref := refOf(t, o)
		if ref != o.Ref {
			t.Errorf("got %v; want %v", o.Ref, ref)
		}
		if strings.Contains(string(o.Text), "origin") {
			t.Errorf("the origin is left in\n%s", o.Text)
		}
		from, _ := filepath.Rel(dir, o.Origin)
		in, _ := filepath.Rel(dir, o.ConfiguredIn)
		got = append(got, strings.TrimSpace(fmt.Sprint(ref, " ", from, " ", o.Generator, " ", in)))
	}
	want := []string{
		"ServiceAccount prod-web base/web.yaml",
		"Deployment.apps prod-web base/web.yaml",
		"Service prod-web base/service.yaml",
		"ConfigMap prod-settings-fc48fm4f99  ConfigMapGenerator base/kustomization.yaml",
	}
	got[3] = strings.Replace(got[3], got[3][len("ConfigMap prod-settings-"):strings.Index(got[3], "  ")], "fc48fm4f99", 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var files []string
	for _, f := range out.Files {
		rel, _ := filepath.Rel(dir, f)
		files = append(files, rel)
	}
	if diff := cmp.Diff([]string{"base/kustomization.yaml", "base/service.yaml", "base/settings.txt", "base/web.yaml", "part/kustomization.yaml", "prod/kustomization.yaml", "prod/patches/web.yaml"}, files); diff != "" {
		t.Error(diff)
	}
}

func rootOf(t *testing.T, o Obj) *object.Node {
	t.Helper()
	for text := range object.Split(o.Text) {
		root, err := object.ParseYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	t.Fatal("no document")
	return nil
}

func refOf(t *testing.T, o Obj) object.Ref {
	t.Helper()
	objects, err := object.FromNode(rootOf(t, o), nil)
	if err != nil {
		t.Fatal(err)
	}
	return objects[0].Ref
}

func TestLocate(t *testing.T) {
	dir := write(t, overlay)
	out, err := Build(filepath.Join(dir, "prod"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	locator := NewLocator(out)
	o := out.Objects[1]
	root := rootOf(t, o)
	locate := locator.Locate(o, o.Ref)
	for _, test := range []struct{ path, want string }{
		{"spec.template.spec.hostNetwork", "base/web.yaml:14:7 hostNetwork: true"},
		{"spec.template.spec.hostPID", "prod/patches/web.yaml:8:7 hostPID: true"},
		{"spec.template.spec.hostIPC", "base/web.yaml:0:0  (set by kustomization.yaml or a patch, line not known)"},
		{"spec.template.spec.containers.log.securityContext.privileged", "prod/patches/web.yaml:14:11 privileged: false"},
		{"spec.template.spec.containers.extra.image", "prod/patches/web.yaml:11:9 image: extra:1"},
		{"spec.template.spec.containers.app.image", "base/web.yaml:0:0  (set by kustomization.yaml or a patch, line not known)"},
		{"spec.template.spec.containers.log.image", "base/web.yaml:20:9 image: fluent:1"},
		{"spec.template.spec.containers.app", "base/web.yaml:16:9 - name: app (changed by kustomization.yaml or a patch)"},
		{"spec.template.spec.containers.app.args", "base/web.yaml:18:9 args: [a, b]"},
		{"spec.template.spec.containers.app.securityContext.privileged", "base/web.yaml:16:9 - name: app"},
		{"spec.template.spec.containers.extra.securityContext", "prod/patches/web.yaml:10:9 - name: extra"},
		{"spec.template.spec.dnsPolicy", "base/web.yaml:13:5 spec:"},
		{"metadata.name", "base/web.yaml:0:0  (set by kustomization.yaml or a patch, line not known)"},
	} {
		p := locate(root, pathOf(t, root, test.path))
		rel, _ := filepath.Rel(dir, p.File)
		got := fmt.Sprintf("%s:%d:%d %s", rel, p.Line, p.Column, strings.TrimSpace(p.Quote))
		if p.Note != "" {
			got += " (" + p.Note + ")"
		}
		if got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.path, got, test.want)
		}
	}
	generated := out.Objects[3]
	p := locator.Locate(generated, generated.Ref)(rootOf(t, generated), object.Path{{Field: "data"}})
	if p.Line != 0 || !strings.HasSuffix(p.File, "base/kustomization.yaml") || !strings.Contains(p.Note, "generated by ConfigMapGenerator") {
		t.Errorf("generated: %+v", p)
	}
}

// pathOf turns a dotted path into one that addresses items by their names.
func pathOf(t *testing.T, root *object.Node, dotted string) object.Path {
	t.Helper()
	var path object.Path
	for n, fields := root, strings.Split(dotted, "."); len(fields) > 0; fields = fields[1:] {
		step := object.Step{Field: fields[0]}
		if n != nil && n.Kind == object.List {
			i := slices.IndexFunc(n.Items, func(item *object.Node) bool { return item.Get("name").Str() == fields[0] })
			step = object.ItemStep(n, i)
		}
		path = append(path, step)
		n = root.Lookup(path)
	}
	return path
}

// TestMatch tells documents apart whose names hold one another.
func TestMatch(t *testing.T) {
	dir := write(t, `
-- kustomization.yaml --
namePrefix: web-
nameSuffix: -x
resources: [all.yaml]
-- all.yaml --
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: a}
---
apiVersion: v1
kind: Service
metadata: {name: web-admin}
spec: {clusterIP: a}
---
apiVersion: v1
kind: Secret
metadata: {name: web}
`)
	out, err := Build(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	locator := NewLocator(out)
	var lines []int
	for _, o := range out.Objects {
		lines = append(lines, locator.Locate(o, o.Ref)(rootOf(t, o), object.Path{{Field: "kind"}}).Line)
	}
	if diff := cmp.Diff([]int{2, 7, 12}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"remote", "-- kustomization.yaml --\nresources:\n- https://example.com/x.yaml\n", `kustomization.yaml:2:3: resources "https://example.com/x.yaml" is remote: vendor it`},
		{"remote base", "-- kustomization.yaml --\nresources: [base]\n-- base/kustomization.yaml --\nbases:\n- github.com/a/b//c?ref=v1\n", `base/kustomization.yaml:2:3: bases "github.com/a/b//c?ref=v1" is remote`},
		{"git", "-- kustomization.yaml --\nresources: ['git@example.com:a/b.git']\n", "is remote"},
		{"remote component", "-- kustomization.yaml --\ncomponents: ['https://example.com/a/b']\n", "is remote"},
		{"remote patch", "-- kustomization.yaml --\npatches: [{path: 'https://example.com/a'}]\n", "is remote"},
		{"remote file", "-- kustomization.yaml --\nconfigMapGenerator: [{name: a, files: ['k=https://example.com/a']}]\n", "is remote"},
		{"none", "-- other.yaml --\n", "no kustomization file here"},
		{"empty", "-- kustomization.yaml --\n", "kustomization.yaml: the kustomization file is empty"},
		{"syntax", "-- kustomization.yaml --\nresources: [\n", "kustomization.yaml:2:1: while parsing"},
		{"gone", "-- kustomization.yaml --\nresources:\n- x.yaml\n", `kustomization.yaml:2:3: resources "x.yaml" is not there`},
		{"field", "-- kustomization.yaml --\nresource: [a]\n", `unknown field "resource"`},
		{"folder", "-- kustomization.yaml --\nresources: [a]\n-- a/b.yaml --\n", `resources "a" is a folder without a kustomization file`},
		{"helm", "-- kustomization.yaml --\nhelmCharts:\n- name: a\n", "kustomization.yaml:1:1: helmCharts inflates Helm charts: pass --enable-helm"},
		{"resource", "-- kustomization.yaml --\nresources: [a.yaml]\n-- a.yaml --\na: [\n", "a.yaml"},
		{"above", "-- kustomization.yaml --\nresources: [a.yaml]\npatches: [{path: ../../../../../../../../etc/hostname}]\n-- a.yaml --\n", "leads out of"},
		{"exec", "-- kustomization.yaml --\ngenerators: [g.yaml]\n-- g.yaml --\napiVersion: v1\nkind: Gen\nmetadata:\n  name: g\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: ./x.sh}\n", ""},
		{"twice", "-- kustomization.yaml --\nresources: [a.yaml, b.yaml]\n-- a.yaml --\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n-- b.yaml --\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n", "b.yaml"},
		{"circle", "-- kustomization.yaml --\nresources: [a]\n-- a/kustomization.yaml --\nresources: [../]\n", "cycle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, test.text)
			_, err := Build(dir, Options{Root: dir})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v; want an *Error", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			t.Log(err)
		})
	}
	if _, err := Build(filepath.Join(t.TempDir(), "gone"), Options{}); err == nil {
		t.Error("a folder that is not there is no error")
	}
}

func TestRoots(t *testing.T) {
	dir := write(t, overlay+`
-- loop/a/kustomization.yaml --
resources: [../b]
-- loop/b/kustomization.yaml --
resources: [../a]
-- broken/kustomization.yaml --
resources: [
`)
	var dirs []string
	for _, name := range []string{"base", "broken", "loop/a", "loop/b", "part", "prod"} {
		dirs = append(dirs, filepath.Join(dir, name))
	}
	var got []string
	for _, r := range Roots(dirs) {
		if r.Top() {
			rel, _ := filepath.Rel(dir, r.Dir)
			got = append(got, rel)
		}
	}
	if diff := cmp.Diff([]string{"broken", "loop/a", "prod"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestRealOverlays builds every top overlay below the folder that
// SCONCE_OVERLAYS names and says how many fields were found again.
func TestRealOverlays(t *testing.T) {
	top := os.Getenv("SCONCE_OVERLAYS")
	if top == "" {
		t.Skip("set SCONCE_OVERLAYS to a folder with overlays")
	}
	var dirs []string
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err == nil && isKustomization(d.Name()) {
			dirs = append(dirs, filepath.Dir(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var tops, failed, objects, leaves, found int
	var slowest time.Duration
	begin := time.Now()
	for _, root := range Roots(dirs) {
		if !root.Top() {
			continue
		}
		tops++
		start := time.Now()
		out, err := Build(root.Dir, Options{Root: top})
		slowest = max(slowest, time.Since(start))
		if err != nil {
			failed++
			t.Log("ERR", err)
			continue
		}
		objects += len(out.Objects)
		locator := NewLocator(out)
		for _, o := range out.Objects {
			node := rootOf(t, o)
			locate := locator.Locate(o, o.Ref)
			walk(node, nil, func(path object.Path, n *object.Node) {
				leaves++
				p := locate(node, path)
				if p.Line == 0 {
					return
				}
				found++
				if !reads(p.Quote, path, n) {
					t.Errorf("%s of %s:%d: %s is not in %q", path, p.File, p.Line, n.Scalar(), p.Quote)
				}
			})
		}
	}
	t.Logf("%d kustomizations, %d on top, %d failed, %d objects, %d fields, %d with a line; %v, slowest %v", len(dirs), tops, failed, objects, leaves, found, time.Since(begin), slowest)
}

// reads says whether a line shows the value of a field, as far as a test can
// tell: long texts, quoted ones and those on the next line are let through.
func reads(quote string, path object.Path, n *object.Node) bool {
	if len(path) == 0 || path[len(path)-1].Item {
		return true
	}
	_, after, ok := strings.Cut(quote, path[len(path)-1].Field)
	after = strings.TrimLeft(after, "\"': ")
	value := strings.Trim(n.Scalar(), "\"")
	if !ok || after == "" || strings.ContainsAny(after[:1], "|>&*") || strings.ContainsAny(value, "\\'") || n.Kind != object.String {
		return ok
	}
	first, _, _ := strings.Cut(value, " ")
	return strings.Contains(after, first)
}

// walk calls f for every scalar.
func walk(n *object.Node, path object.Path, f func(object.Path, *object.Node)) {
	switch n.Kind {
	case object.Map:
		for _, field := range n.Fields {
			walk(field.Value, path.Fields(field.Key), f)
		}
	case object.List:
		for i, item := range n.Items {
			walk(item, path.Append(object.ItemStep(n, i)), f)
		}
	case object.Null:
	default:
		f(path, n)
	}
}
