// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
)

func TestMain(m *testing.M) {
	if os.Getenv(ShimEnv) == "1" {
		os.Exit(HelmShim(os.Args[1:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == WorkerArg {
		if err := Worker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// write writes files to a new folder.
func write(t *testing.T, pairs ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		name := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(pairs[i+1]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// patience is how long a test waits: not long for what never ends, and long for
// what takes memory, which a busy machine hands out slowly.
func patience(want string) time.Duration {
	if strings.Contains(want, "gave up after 2s") {
		return 2 * time.Second
	}
	return time.Minute
}

const chartYAML = "apiVersion: v2\nname: c\nversion: 1.0.0\n"

func chart(t *testing.T, template string) string {
	t.Helper()
	return write(t, "Chart.yaml", chartYAML, "templates/a.yaml", template)
}

// TestRunaway gives a pool charts that no process should be asked to render;
// after each it still renders a good one.
func TestRunaway(t *testing.T) {
	good := chart(t, "kind: A\n")
	for _, test := range []struct {
		name, template, want string
	}{
		{"loop", `{{ range $i, $e := untilStep 0 300000 1 }}{{ range $j, $f := untilStep 0 100000 1 }}{{ end }}{{ end }}`, "gave up after 2s: a template does not end"},
		{"until", `{{ range until 1000000000 }}x{{ end }}`, "gave up: it needs more than 256 MiB of memory"},
		{"repeat", `{{ repeat 1000000000 "xxxxxxxxxx" }}`, "gave up: it needs more"},
		{"repeat more", `{{ repeat 1000000000000 "xxxxxxxxxx" }}`, "gave up: it needs more"},
		{"doubling", `{{ $s := "x" }}{{ range until 40 }}{{ $s = print $s $s }}{{ end }}`, "gave up: it needs more"},
		{"output", `{{ $s := repeat 100000 "x" }}{{ range until 1000000 }}{{ $s }}{{ end }}`, "gave up: it needs more"},
		{"recursion", `{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}`, ""},
		{"include", `{{ define "r" }}{{ include "r" . }}{{ end }}{{ include "r" . }}`, "a template includes itself without end"},
		{"regex", `{{ regexMatch "(x+x+)+y" (repeat 30 "x") }}`, "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := NewPool("", nil, 1, Limits{Timeout: patience(test.want), MemoryMiB: 256})
			defer p.Close()
			start := time.Now()
			_, err := p.Chart(t.Context(), chart(t, test.template), helm.Options{})
			if (test.want == "none") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %s", err, test.want)
			}
			t.Logf("%v in %v", err, time.Since(start).Round(time.Millisecond))
			if out, err := p.Chart(t.Context(), good, helm.Options{}); err != nil || len(out.Docs) != 1 {
				t.Error("afterwards:", out, err)
			}
		})
	}
}

func TestSame(t *testing.T) {
	p := NewPool("", nil, 2, Limits{})
	defer p.Close()
	dir := chart(t, "kind: A\nname: {{ .Release.Name }}\n")
	want, err := helm.Render(dir, helm.Options{ReleaseName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := p.Chart(context.Background(), dir, helm.Options{ReleaseName: "x"})
			if err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	wg.Wait()
	if n := len(p.idle); n < 1 || n > 2 {
		t.Errorf("%d processes idle", n)
	}
}

func TestErrors(t *testing.T) {
	p := NewPool("", nil, 1, Limits{})
	_, err := p.Chart(t.Context(), chart(t, "a\n{{ fail \"no\" }}"), helm.Options{})
	var he *helm.Error
	if !errors.As(err, &he) || he.Line != 2 || he.Msg != "no" {
		t.Errorf("got %v", err)
	}
	_, err = p.Overlay(t.Context(), write(t, "kustomization.yaml", "resources: ['https://example.com/x.yaml']\n"), kustomize.Options{})
	var ke *kustomize.Error
	if !errors.As(err, &ke) || ke.Line != 1 {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = p.Chart(ctx, chart(t, "a: 1"), helm.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.Close()
	if _, err = p.Chart(t.Context(), chart(t, "a: 1"), helm.Options{}); err == nil {
		t.Error("a closed pool renders")
	}
	p = NewPool("/nonexistent", nil, 1, Limits{})
	if _, err = p.Chart(t.Context(), chart(t, "a: 1"), helm.Options{}); err == nil || !strings.Contains(err.Error(), "starting a process") {
		t.Errorf("got %v", err)
	}
	p = NewPool("/bin/false", nil, 1, Limits{})
	if _, err = p.Chart(t.Context(), chart(t, "a: 1"), helm.Options{}); err == nil || !strings.Contains(err.Error(), "the rendering process ended") {
		t.Errorf("got %v", err)
	}
}

// TestOrphan ends the input of a worker that renders without end: it must die.
func TestOrphan(t *testing.T) {
	cmd := exec.Command(os.Args[0], WorkerArg)
	ownGroup(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := chart(t, `{{ range untilStep 0 300000 1 }}{{ range untilStep 0 100000 1 }}{{ end }}{{ end }}`)
	if err := writeFrame(in, &request{Dir: dir, Helm: &helm.Options{}, MemoryMiB: 512}); err != nil {
		t.Fatal(err)
	}
	_ = in.Close() // the worker may be gone
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		killGroup(cmd.Process)
		t.Error("a worker outlives its parent")
	}
}

func TestWorkerInput(t *testing.T) {
	for _, input := range []string{"", "\x00", "\x00\x00\x00\x04abcd", "\xff\xff\xff\xff"} {
		var out bytes.Buffer
		err := Worker(strings.NewReader(input), &out)
		if (input == "") != (err == nil) {
			t.Errorf("%q: %v", input, err)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%q: ends as if all was well", input)
		}
	}
}

func TestInflate(t *testing.T) {
	dir := write(t,
		"kustomization.yaml", "helmGlobals: {chartHome: charts}\nhelmCharts:\n- name: c\n  releaseName: rel\n  includeCRDs: true\n  skipTests: true\n  valuesInline: {x: 5}\n",
		"charts/c/Chart.yaml", chartYAML,
		"charts/c/values.yaml", "x: 1\ny: 2\n",
		"charts/c/crds/crd.yaml", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: xs.example.com}\n",
		"charts/c/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-c\ndata:\n  x: {{ .Values.x | quote }}\n  y: {{ .Values.y | quote }}\n",
		"charts/c/templates/test.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: t\n  annotations: {helm.sh/hook: test}\n",
		"charts/c/templates/hook.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: h\n  annotations: {helm.sh/hook: pre-install}\n",
	)
	p := NewPool("", nil, 1, Limits{})
	defer p.Close()
	out, err := p.Overlay(t.Context(), dir, kustomize.Options{EnableHelm: true})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, o := range out.Objects {
		if o.Generator != "HelmChartInflationGenerator" {
			t.Errorf("generator %q", o.Generator)
		}
		texts = append(texts, string(o.Text))
	}
	all := strings.Join(texts, "---\n")
	for _, want := range []string{"name: rel-c", `x: "5"`, `"y": "2"`, "kind: Job", "kind: CustomResourceDefinition"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, "kind: Pod") || strings.Contains(all, "origin") {
		t.Error("too much in", all)
	}
	if _, err := p.Overlay(t.Context(), dir, kustomize.Options{}); err == nil || !strings.Contains(err.Error(), "--enable-helm") {
		t.Errorf("got %v", err)
	}
}

func TestInflateErrors(t *testing.T) {
	p := NewPool("", nil, 1, Limits{})
	defer p.Close()
	remote := write(t, "kustomization.yaml", "helmCharts:\n- name: c\n  repo: https://example.com\n  version: 1.0.0\n")
	_, err := p.Overlay(t.Context(), remote, kustomize.Options{EnableHelm: true})
	if err == nil || !strings.Contains(err.Error(), "chart c is not vendored at "+remote+"/charts/c-1.0.0/c: put it there; Sconce does not use the network") {
		t.Errorf("got %v", err)
	}
	bad := func(template string) string {
		return write(t, "kustomization.yaml", "helmCharts:\n- name: c\n", "charts/c/Chart.yaml", chartYAML, "charts/c/values.yaml", "{}", "charts/c/templates/a.yaml", template)
	}
	for template, want := range map[string]string{
		`{{ fail "no" }}`:                       "templates/a.yaml:1:4: no",
		`{{ range until 1000000000 }}{{ end }}`: "it needs more",
		`{{ range untilStep 0 300000 1 }}{{ range untilStep 0 100000 1 }}{{ end }}{{ end }}`: "gave up after 2s",
	} {
		p := NewPool("", nil, 1, Limits{Timeout: patience(want), MemoryMiB: 256})
		defer p.Close()
		if _, err := p.Overlay(t.Context(), bad(template), kustomize.Options{EnableHelm: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %s", template, err, want)
		}
	}
}

func TestShim(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"version", "--short"}, 0, "v4."},
		{[]string{"pull", "--untar", "--untardir", "/charts", "oci://r/web", "--version", "1"}, 1, "chart oci://r/web is not vendored at /charts/web"},
		{[]string{"template", "--post-renderer", "x", "y"}, 1, "flag --post-renderer is not known"},
		{[]string{"template"}, 1, "want a chart"},
		{[]string{"template", "--namespace"}, 1, "flag --namespace is not known"},
		{nil, 1, "want version, template or pull"},
	} {
		var out, errs bytes.Buffer
		if code := HelmShim(test.args, &out, &errs); code != test.code || !strings.Contains(out.String()+errs.String(), test.want) {
			t.Errorf("%q: %d %s%s; want %d %s", test.args, code, out.String(), errs.String(), test.code, test.want)
		}
	}
}
