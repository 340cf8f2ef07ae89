// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// corpus returns the texts of the real manifests that this machine has.
func corpus(b *testing.B) (texts [][]byte, size int64) {
	b.Helper()
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus"
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(name)
		texts = append(texts, data)
		size += int64(len(data))
		return err
	})
	if err != nil {
		b.Skipf("no corpus of manifests at %s; SCONCE_CORPUS names one", dir)
	}
	return texts, size
}

func newEngine(tb testing.TB, name string) *engine.Engine {
	tb.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	bl, err := l.Resolve(name, baseline.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return engine.New(bl, l.Exceptions(time.Now()), time.Now())
}

// text is a unit that holds a stream of documents.
type text []byte

// Read implements snapshot.Unit.
func (t text) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for part := range object.Split(t) {
		root, err := object.ParseYAML(part)
		if err != nil || root == nil {
			continue
		}
		objects, _ := object.FromNode(root, &object.Origin{Source: "x", Text: part.Bytes, FirstLine: part.Line})
		for _, o := range objects {
			sink.Object(o)
		}
	}
	return snapshot.Tally{Files: 1}
}

// parseOnly is a unit that is parsed by the YAML library and no more.
type parseOnly []byte

// Read implements snapshot.Unit.
func (t parseOnly) Read(_ context.Context, _ snapshot.Sink) snapshot.Tally {
	for part := range object.Split(t) {
		var n yaml.Node
		_ = yaml.Unmarshal(part.Bytes, &n)
	}
	return snapshot.Tally{Files: 1}
}

func run(b *testing.B, e *engine.Engine, units []snapshot.Unit) {
	b.Helper()
	_, err := e.Run(context.Background(), units, 0, engine.Output{
		Result:  func(*engine.Result) error { return nil },
		Problem: func(verdict.Problem) error { return nil },
		Notice:  func(verdict.Notice) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCorpus compares judging real manifests with only parsing them, in
// the same machinery.
func BenchmarkCorpus(b *testing.B) {
	texts, size := corpus(b)
	var judged, parsed []snapshot.Unit
	for _, t := range texts {
		judged = append(judged, text(t))
		parsed = append(parsed, parseOnly(t))
	}
	e := newEngine(b, "hardened")
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			run(b, e, parsed)
		}
	})
	b.Run("judge", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			run(b, e, judged)
		}
	})
}

// BenchmarkPod judges one pod, parsed and compiled: by the controls of the Pod
// Security Standards, by all of pod security, and by everything.
func BenchmarkPod(b *testing.B) {
	for _, c := range []struct{ name, baseline, topic string }{
		{"standards", "pss-restricted", ""},
		{"pod-security", "hardened", "pod-security"},
		{"everything", "hardened", ""},
	} {
		b.Run(c.name, func(b *testing.B) { judgePod(b, c.baseline, c.topic) })
	}
}

func judgePod(b *testing.B, name, topic string) {
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		b.Fatal(err)
	}
	var skip []string
	for _, control := range l.Controls() {
		if topic != "" && l.Control(control).Spec.Topic != topic {
			skip = append(skip, control)
		}
	}
	bl, err := l.Resolve(name, baseline.Options{Skip: skip})
	if err != nil {
		b.Fatal(err)
	}
	e := engine.New(bl, l.Exceptions(time.Now()), time.Now())
	root, err := object.ParseYAML(object.Text{Line: 1, Bytes: []byte(typicalPod)})
	if err != nil {
		b.Fatal(err)
	}
	objects, err := object.FromNode(root, &object.Origin{Source: "pod.yaml", Text: []byte(typicalPod), FirstLine: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := e.Judge(objects[0])
	b.ReportMetric(float64(len(r.Outcomes)), "controls")
	b.ReportMetric(float64(len(r.Findings)), "findings")
	b.ReportAllocs()
	for b.Loop() {
		e.Judge(objects[0])
	}
}

// typicalPod has two containers, a volume and most of what a careful team sets.
const typicalPod = `apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
spec:
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 20001
    runAsGroup: 20001
    seccompProfile: {type: RuntimeDefault}
  containers:
  - name: web
    image: registry.example.com/shop/web:1.27.1@sha256:0000000000000000000000000000000000000000000000000000000000000000
    imagePullPolicy: Always
    ports:
    - {name: http, containerPort: 8080}
    env:
    - {name: LOG_LEVEL, value: info}
    - {name: CACHE_SIZE, value: "128"}
    resources:
      requests: {cpu: 100m, memory: 64Mi}
      limits: {memory: 128Mi}
    livenessProbe: {httpGet: {path: /healthz, port: http}}
    readinessProbe: {httpGet: {path: /readyz, port: http}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
  - name: metrics
    image: registry.example.com/shop/metrics:0.9.0
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
  volumes:
  - name: tmp
    emptyDir: {}
`

// pods is a kind of a cluster: a Deployment, and then its pods.
type pods int

// OwnersFirst implements snapshot.OwnersFirst.
func (pods) OwnersFirst() bool { return true }

// Read implements snapshot.Unit.
func (n pods) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	_, rest, _ := strings.Cut(typicalPod, "spec:\n")
	_, spec, _ := strings.Cut("\n"+rest, "\n")
	indented := "    " + strings.ReplaceAll(strings.TrimSuffix(spec, "\n"), "\n", "\n    ")
	owner := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop, uid: d}\nspec:\n  template:\n    spec:\n" + indented + "\n"
	text(owner).Read(context.Background(), sink)
	for i := range int(n) {
		meta := fmt.Sprintf("  name: web-%d\n  uid: p%d\n  ownerReferences: [{kind: Deployment, uid: d, controller: true}]\n", i, i)
		text(strings.Replace(typicalPod, "  name: web\n", meta, 1)).Read(context.Background(), sink)
	}
	return snapshot.Tally{}
}

// BenchmarkKind scans a cluster that has nothing but pods: one unit.
func BenchmarkKind(b *testing.B) {
	e := newEngine(b, "hardened")
	for b.Loop() {
		run(b, e, []snapshot.Unit{pods(2000)})
	}
}
