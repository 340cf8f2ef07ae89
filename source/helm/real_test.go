// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRealCharts renders every chart below the folder that SCONCE_CHARTS names
// and says how many lines were mapped. Nothing is fetched for it.
func TestRealCharts(t *testing.T) {
	root := os.Getenv("SCONCE_CHARTS")
	if root == "" {
		t.Skip("set SCONCE_CHARTS to a folder with charts")
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.SetOutput(io.Discard)
	var charts, failed, lines, mapped, valued int
	var slowest time.Duration
	begin := time.Now()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "Chart.yaml" {
			return err
		}
		dir := filepath.Dir(name)
		charts++
		start := time.Now()
		out, err := Render(dir, Options{Root: root})
		took := time.Since(start)
		slowest = max(slowest, took)
		if err != nil {
			failed++
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%s: not an *Error: %v", dir, err)
			}
			t.Logf("ERR %v", err)
			return nil
		}
		all, known, values := tally(out)
		lines, mapped, valued = lines+all, mapped+known, valued+values
		t.Logf("%-90s %4d docs %6d lines %6d mapped %5d values %v %q", dir, len(out.Docs), all, known, values, took.Round(time.Millisecond), out.Notes)
		checkText(t, out)
		for _, doc := range out.Docs {
			if doc.Note != "" {
				t.Logf("  %s: %s", doc.Template, doc.Note)
			}
			for i, line := range strings.Split(string(doc.Text), "\n") {
				if os.Getenv("SCONCE_UNMAPPED") != "" && strings.TrimSpace(line) != "" && doc.Line(i+1).Line == 0 {
					t.Logf("  ? %s:%d %q", doc.Template, i+1, line)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d charts, %d failed, %d lines, %d mapped, %d with a value; %v, slowest %v", charts, failed, lines, mapped, valued, time.Since(begin), slowest)
}

// tally counts the lines of templates that hold something.
func tally(out *Rendered) (all, known, values int) {
	for _, doc := range out.Docs {
		if doc.Verbatim {
			continue
		}
		for i, line := range strings.Split(string(doc.Text), "\n") {
			if strings.TrimSpace(line) == "" {
				continue
			}
			all++
			if at := doc.Line(i + 1); at.Line > 0 {
				known++
				if at.Values != "" {
					values++
				}
			}
		}
	}
	return all, known, values
}

// checkText holds the property that makes a mapping worth having: what came
// from a template line without actions reads like that line.
func checkText(t *testing.T, out *Rendered) {
	t.Helper()
	for _, doc := range out.Docs {
		for i, line := range strings.Split(string(doc.Text), "\n") {
			at := doc.Line(i + 1)
			if at.Line == 0 || strings.Contains(at.File, "!") {
				continue
			}
			source := lineOf(t, at.File, at.Line)
			if !strings.Contains(source, "{{") && !strings.Contains(source, "}}") && !strings.Contains(line, strings.TrimSpace(source)) {
				t.Errorf("%s:%d reads %q but is mapped to %s:%d, which reads %q", doc.Template, i+1, line, at.File, at.Line, source)
			}
		}
	}
}

var sources = map[string][]string{}

func lineOf(t *testing.T, file string, n int) string {
	t.Helper()
	if sources[file] == nil {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources[file] = strings.Split(string(data), "\n")
	}
	if n > len(sources[file]) {
		t.Fatalf("%s has no line %d", file, n)
	}
	return sources[file][n-1]
}
