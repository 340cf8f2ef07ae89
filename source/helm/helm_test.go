// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite what the tests want")

// TestRender renders the charts in testdata. Their last file, want, shows every
// rendered line with where it came from.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want string
			var chart []txtar.File
			for _, f := range ar.Files {
				if f.Name == "want" {
					want = string(f.Data)
				} else {
					chart = append(chart, f)
				}
			}
			dir := writeChart(t, chart)
			out, err := Render(dir, Options{APIVersions: []string{"example.com/v1"}})
			if err != nil {
				t.Fatal(err)
			}
			checkText(t, out)
			got := show(dir, out)
			if *update {
				ar.Files = append(slices.Clone(chart), txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(ar), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// writeChart writes a chart's files to a new folder.
func writeChart(t *testing.T, files []txtar.File) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
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

// chartOf returns a chart with the given templates and a Chart.yaml.
func chartOf(t *testing.T, pairs ...string) string {
	t.Helper()
	files := []txtar.File{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: c\nversion: 1.0.0\n")}}
	for i := 0; i < len(pairs); i += 2 {
		files = append(files, txtar.File{Name: pairs[i], Data: []byte(pairs[i+1])})
	}
	return writeChart(t, files)
}

// show writes what came out as a person would check it.
func show(dir string, out *Rendered) string {
	var b strings.Builder
	for _, note := range out.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	for _, d := range out.Docs {
		fmt.Fprintf(&b, "=== %s from %s %s\n", d.Template, rel(dir, d.File), d.Note)
		for i, line := range strings.Split(strings.TrimSuffix(string(d.Text), "\n"), "\n") {
			at := d.Line(i + 1)
			if key, _, ok := strings.Cut(line, ": "); ok && at.Line == 0 {
				line = key + ": (not known)"
			}
			from := fmt.Sprintf("%s:%d", rel(dir, at.File), at.Line)
			fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("%-40s %-28s| %s", from, at.Values, line), " \r"))
		}
	}
	return b.String()
}

func rel(dir, file string) string { return strings.TrimPrefix(file, dir+"/") }

func TestCRLF(t *testing.T) {
	dir := chartOf(t, "templates/a.yaml", "kind: A\r\nspec:\r\n  {{- if true }}\r\n  a: 1\r\n  {{- end }}\r\n  b: {{ .Release.Name }}\r\n")
	out, err := Render(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, l := range out.Docs[0].Lines {
		lines = append(lines, l.Line)
	}
	if diff := cmp.Diff([]int{1, 2, 4, 6}, lines); diff != "" {
		t.Error(diff, string(out.Docs[0].Text))
	}
}

func TestArchive(t *testing.T) {
	inner := archiveOf(t, "deep/Chart.yaml", "{apiVersion: v2, name: deep, version: 1.0.0}", "deep/templates/d.yaml", "\nkind: Deep\n")
	tgz := archiveOf(t, "sub/Chart.yaml", "{apiVersion: v2, name: sub, version: 1.0.0}", "sub/charts/deep-1.tgz", inner, "sub/templates/s.yaml", "kind: Sub\n")
	dir := chartOf(t, "charts/sub-1.0.0.tgz", tgz, "templates/a.yaml", "kind: A\n")
	out, err := Render(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"c/charts/sub/charts/deep/templates/d.yaml charts/sub-1.0.0.tgz!charts/deep-1.tgz!templates/d.yaml:2",
		"c/charts/sub/templates/s.yaml charts/sub-1.0.0.tgz!templates/s.yaml:1",
		"c/templates/a.yaml templates/a.yaml:1",
	}
	var got []string
	for _, d := range out.Docs {
		last := d.Lines[len(d.Lines)-1]
		got = append(got, fmt.Sprintf("%s %s:%d", d.Template, rel(dir, last.File), last.Line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	whole := filepath.Join(t.TempDir(), "sub.tgz")
	if err := os.WriteFile(whole, []byte(tgz), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err = Render(whole, Options{}); err != nil || len(out.Docs) != 2 {
		t.Error("an archive by itself:", out, err)
	}
}

// archiveOf returns a gzipped tar.
func archiveOf(t *testing.T, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for i := 0; i < len(pairs); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		opts  Options
		want  string
	}{
		{"syntax", []string{"templates/a.yaml", "a: 1\nb: {{ if }}\n"}, Options{}, "templates/a.yaml:2: missing value for if"},
		{"nil", []string{"templates/a.yaml", "a: 1\nb: {{ .Values.x.y.z }}\n"}, Options{}, `templates/a.yaml:2:14: ".y" is asked of a value that is not set`},
		{"function", []string{"templates/a.yaml", "b: {{ frob 1 }}\n"}, Options{}, `templates/a.yaml:1: Helm has no function "frob"`},
		{"fail", []string{"templates/a.yaml", "\n\n{{ fail \"set a password\" }}\n"}, Options{}, "templates/a.yaml:3:4: set a password"},
		{"required", []string{"templates/a.yaml", "a: {{ required \"x is needed\" .Values.x }}"}, Options{}, "templates/a.yaml:1:7: x is needed"},
		{"no template", []string{"templates/a.yaml", "{{ include \"gone\" . }}"}, Options{}, `templates/a.yaml:1:4: no template "gone" is defined; a library chart that defines it may be missing`},
		{"in a helper", []string{"templates/a.yaml", "a: {{ include \"h\" . }}", "templates/_h.tpl", "{{ define \"h\" }}\n{{ index .Values.list 3 }}{{ end }}"}, Options{}, "templates/_h.tpl:2:4: error calling index: index of untyped nil (used from DIR/templates/a.yaml:1)"},
		{"recursion", []string{"templates/a.yaml", "{{ define \"r\" }}{{ include \"r\" . }}{{ end }}{{ include \"r\" . }}"}, Options{}, "a template includes itself without end"},
		{"endless template", []string{"templates/a.yaml", "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}"}, Options{}, "a template calls itself without end"},
		{"values", []string{"values.yaml", "a: [\n"}, Options{}, "values.yaml:2:1: while parsing a flow node: did not find expected node content"},
		{"Chart.yaml", []string{"Chart.yaml", "a: [\n"}, Options{}, "Chart.yaml:2:1: while parsing a flow node: did not find expected node content"},
		{"version", []string{"Chart.yaml", "name: x\napiVersion: v2\n"}, Options{}, "Chart.yaml: chart.metadata.version is required"},
		{"missing", []string{"Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies:\n- {name: db, version: 1.0.0, repository: 'https://example.com'}\n"}, Options{}, "Chart.yaml:5: the dependencies db are not in charts/: run `helm dependency build DIR`"},
		{"kube version", []string{"Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\nkubeVersion: '<1.20'\n"}, Options{}, "Chart.yaml:4: the chart is for Kubernetes <1.20 and was to be rendered for v1.37: ask for another version"},
		{"option", nil, Options{KubeVersion: "new"}, `DIR: Kubernetes version "new" is none; want one like 1.37`},
		{"set", nil, Options{Set: []string{"a[x]=1"}}, `--set: "a[x]": an index`},
		{"value file", nil, Options{ValueFiles: []string{"https://example.com/v.yaml"}}, "https://example.com/v.yaml: values are read from files only: fetch it first"},
		{"no value file", nil, Options{ValueFiles: []string{"gone.yaml"}}, "gone.yaml: no such file or directory"},
		{"schema", []string{"values.schema.json", `{"properties":{"a":{"type":"string"}}}`, "values.yaml", "a: 1\n"}, Options{}, "values.schema.json: the values do not fit the schema of chart c: - at '/a': got number, want string"},
		{"schema file", []string{"values.schema.json", `{"type":`}, Options{}, "values.schema.json: the values do not fit the schema of chart c: the schema is not JSON: unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := chartOf(t, test.files...)
			_, err := Render(dir, test.opts)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v; want an *Error", err)
			}
			got := strings.ReplaceAll(strings.TrimPrefix(err.Error(), dir+"/"), dir, "DIR")
			if !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	if _, err := Render(filepath.Join(t.TempDir(), "gone"), Options{}); err == nil {
		t.Error("a chart that is not there is no error")
	}
	if _, err := Render(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "not a chart: it has no Chart.yaml") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestNotes(t *testing.T) {
	dir := chartOf(t, "values.schema.json", `{"$ref":"https://example.com/schema.json"}`, "templates/a.yaml", "a: 1")
	out, err := Render(dir, Options{})
	if err != nil || len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "refers to https://example.com/schema.json, and Sconce fetches nothing") {
		t.Errorf("a schema elsewhere: %v %v", out, err)
	}
	dir = chartOf(t, "values.schema.json", `{"$ref":"file:///etc/passwd"}`)
	if out, err = Render(dir, Options{}); err != nil || len(out.Notes) != 1 {
		t.Errorf("a schema in another file: %v %v", out, err)
	}
	dir = chartOf(t, "Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\ntype: library\n", "templates/a.yaml", "a: 1")
	if out, err = Render(dir, Options{}); err != nil || !out.Library || len(out.Docs) != 0 || len(out.Notes) != 1 {
		t.Errorf("a library: %v %v", out, err)
	}
}

func TestSymlinks(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret.yaml"), []byte("kind: Secret"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, link, target, want string }{
		{"file", "templates/x.yaml", filepath.Join(outside, "secret.yaml"), "templates/x.yaml: a symbolic link that leaves the chart's folder"},
		{"folder", "charts", outside, "charts: a symbolic link that leaves the chart's folder"},
		{"loop", "templates/up", "..", "nested without end"},
		{"dangling", "templates/x.yaml", "gone", "leads nowhere"},
		{"within", "templates/x.yaml", "../values.yaml", ""},
		{"device", "templates/x.yaml", "/dev/zero", "leaves the chart's folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := chartOf(t, "values.yaml", "a: 1", "templates/a.yaml", "a: 1")
			if err := os.Symlink(test.target, filepath.Join(dir, test.link)); err != nil {
				t.Fatal(err)
			}
			_, err := Render(dir, Options{})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v; want %s", err, test.want)
			}
		})
	}
}

// TestSiblings reads a file:// dependency in place, but only below the root.
func TestSiblings(t *testing.T) {
	root := writeChart(t, []txtar.File{
		{Name: "app/Chart.yaml", Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies:\n- {name: common, version: 1.x.x, repository: 'file://../common'}\n")},
		{Name: "app/templates/a.yaml", Data: []byte("a:\n  {{- include \"common.x\" . | nindent 2 }}\n")},
		{Name: "common/Chart.yaml", Data: []byte("apiVersion: v2\nname: common\nversion: 1.0.0\ntype: library\n")},
		{Name: "common/templates/_x.tpl", Data: []byte("{{ define \"common.x\" -}}\nx: 1{{ end }}")},
	})
	out, err := Render(filepath.Join(root, "app"), Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	last := out.Docs[0].Line(2)
	if want := filepath.Join(root, "common/templates/_x.tpl"); filepath.Clean(last.File) != want || last.Line != 2 {
		t.Errorf("got %v; want %s:2", last, want)
	}
	if _, err := Render(filepath.Join(root, "app"), Options{}); err == nil {
		t.Error("without a root a sibling is read")
	}
}

func TestOptions(t *testing.T) {
	dir := chartOf(t, "values.yaml", "a: 1\nb: 1\n", "templates/a.yaml", "{{ toJson .Values }} {{ .Release.Name }} {{ .Release.Namespace }} {{ .Capabilities.KubeVersion.Minor }}")
	extra := filepath.Join(dir, "extra.yaml")
	if err := os.WriteFile(extra, []byte("b: 2\nfile: {x: 1}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := Render(dir, Options{
		ValueFiles: []string{extra}, Set: []string{"c=3"}, SetString: []string{"d=4"}, SetJSON: []string{`e={"f":5}`, `{"g":6}`},
		SetFile: []string{"h=" + extra}, ReleaseName: "r", Namespace: "n", KubeVersion: "v1.30.2",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":1,"b":2,"c":3,"d":"4","e":{"f":5},"file":{"x":1},"g":6,"h":"b: 2\nfile: {x: 1}\n"} r n 30`
	if got := string(out.Docs[0].Text); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	text, err := json.Marshal(out)
	var back Rendered
	if err != nil || json.Unmarshal(text, &back) != nil || cmp.Diff(out, &back) != "" {
		t.Error("does not survive JSON", err)
	}
	if !slices.Contains(out.Files, extra) || !slices.Contains(out.Files, filepath.Join(dir, "Chart.yaml")) {
		t.Error("files:", out.Files)
	}
}

// TestHarm shows that marks which a template would cut or sort make a line
// unknown, never wrong.
func TestHarm(t *testing.T) {
	dir := chartOf(t,
		"templates/_h.tpl", "{{ define \"list\" }}b: 1\na: 2{{ end }}",
		"templates/a.yaml", `{{ $x := "list" }}
first: 1
{{ range (include $x . | splitList "\n" | sortAlpha) }}
{{ . }}
{{ end }}
last: {{ include $x . | len }}
`)
	out, err := Render(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkText(t, out)
	var got []string
	for i, line := range strings.Split(string(out.Docs[0].Text), "\n") {
		if line != "" {
			got = append(got, fmt.Sprintf("%s <- %d", line, out.Docs[0].Line(i+1).Line))
		}
	}
	if diff := cmp.Diff([]string{"first: 1 <- 2", "a: 2 <- 4", "b: 1 <- 4", "last: 9 <- 6"}, got); diff != "" {
		t.Error(diff)
	}
}
