// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func write(t testing.TB, format string, opts report.Options, messages []*verdict.Message) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := report.New(format, &out, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := w.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test ./report -update writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func streams() map[string][]*verdict.Message {
	rich := richStream()
	return map[string][]*verdict.Message{
		"rich":       rich,
		"clean":      cleanStream(),
		"unknown":    unknownStream(),
		"empty":      emptyStream(),
		"compliance": complianceStream(),
		"broken":     rich[:9],
	}
}

func TestGolden(t *testing.T) {
	for name, messages := range streams() {
		for _, format := range report.Formats() {
			golden(t, name+"."+format, write(t, format, report.Options{}, messages))
		}
	}
	golden(t, "rich80.table", write(t, "table", report.Options{Width: 80, ShowExcepted: true}, richStream()))
	golden(t, "compliance80.table", write(t, "table", report.Options{Width: 80}, complianceStream()))
	golden(t, "compliancecolor.table", write(t, "table", report.Options{Width: 120, Color: true}, complianceStream()))
	golden(t, "richcolor.table", write(t, "table", report.Options{Color: true, MaxFindings: 5}, richStream()))
	golden(t, "richmax.markdown", write(t, "markdown", report.Options{ShowExcepted: true, MaxFindings: 7}, richStream()))
}

func TestNew(t *testing.T) {
	_, err := report.New("xml", nil, report.Options{})
	if want := `unknown output "xml"; want table, json, sarif, junit, markdown or html`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestConvertEqual: a scan that was stored as JSON looks the same later.
func TestConvertEqual(t *testing.T) {
	for name, messages := range streams() {
		if name == "broken" {
			continue
		}
		stored := write(t, "json", report.Options{}, messages)
		for _, format := range report.Formats() {
			opts := report.Options{Color: true, ShowExcepted: true}
			var got bytes.Buffer
			w, _ := report.New(format, &got, opts)
			if err := report.Convert(bytes.NewReader(stored), w); err != nil {
				t.Fatalf("%s to %s: %v", name, format, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(write(t, format, opts, messages)), got.String()); diff != "" {
				t.Errorf("%s to %s (-direct +converted):\n%s", name, format, diff)
			}
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	stored := string(write(t, "json", report.Options{}, unknownStream()))
	lines := strings.SplitAfter(stored, "\n")
	config, control, problem, found, summary := lines[0], lines[1], lines[2], lines[3], lines[4]
	for name, c := range map[string]struct{ in, want string }{
		"empty":           {"", "line 0: ends without a summary"},
		"no config":       {control, "line 1: the first message is not config"},
		"other version":   {strings.Replace(config, "v1alpha1", "v9", 1), `line 1: stream version "v9"; this sconce reads "v1alpha1"`},
		"no summary":      {config + control + problem, "line 3: ends without a summary"},
		"cut off":         {stored[:len(stored)-20], "line 5: not a message"},
		"not JSON":        {config + "severity high\n", "line 2: not a message"},
		"SARIF":           {"{\"version\": \"2.1.0\"}\n", "line 1: 0 of config, control"},
		"two in one":      {config + strings.TrimSuffix(problem, "}\n") + "," + summary[1:], "line 2: 2 of config, control"},
		"two streams":     {stored + stored, "line 6: a message after the summary"},
		"two configs":     {config + config, "line 2: a second config"},
		"no control":      {config + found, `line 2: finding of control "run-as-non-root", which no line before describes`},
		"unknown outcome": {config + control + strings.Replace(found, `"outcome":"unknown"`, `"outcome":"pass"`, 1), `line 3: finding with outcome "pass"; want fail or unknown`},
		"not UTF-8":       {config + "{\"notice\":{\"message\":\"\xff\"}}\n", "line 2: not UTF-8"},
		"long line":       {config + strings.Repeat(" ", 17<<20), "line 2: longer than 16 MiB"},
	} {
		w, _ := report.New("json", new(bytes.Buffer), report.Options{})
		err := report.Convert(strings.NewReader(c.in), w)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want …%s…", name, err, c.want)
		}
	}
}

// TestConvertNewerFields: a stream of a newer Sconce of the same version is
// read; what it adds is left out.
func TestConvertNewerFields(t *testing.T) {
	stored := write(t, "json", report.Options{}, unknownStream())
	newer := bytes.ReplaceAll(stored, []byte(`"control":"run-as-non-root"`), []byte(`"novel":{"a":1},"control":"run-as-non-root"`))
	if bytes.Equal(newer, stored) {
		t.Fatal("nothing was added")
	}
	var got bytes.Buffer
	w, _ := report.New("json", &got, report.Options{})
	if err := report.Convert(bytes.NewReader(newer), w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(stored), got.String()); diff != "" {
		t.Error(diff)
	}
}
