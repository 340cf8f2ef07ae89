// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/policytest"
)

// suites are checkouts that SCONCE_SUITES may hold: where their tests are.
var suites = []string{"policies", "kyverno/test/cli"}

// tally is what came of the tests below one folder.
type tally struct {
	folder                                 string
	cases, passed, failed, broken, skipped int
	misses                                 []string
}

// TestSuites runs the tests of kyverno/policies and of Kyverno's command line.
// They are not part of the repository: SCONCE_SUITES lists folders that hold
// checkouts of them. SCONCE_FOLDER narrows the run to files whose path matches
// an expression; SCONCE_MISSES=all lists every miss.
func TestSuites(t *testing.T) {
	roots := os.Getenv("SCONCE_SUITES")
	if roots == "" {
		t.Skip("SCONCE_SUITES names no folders with checkouts of the suites")
	}
	only, err := regexp.Compile(os.Getenv("SCONCE_FOLDER"))
	if err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites {
		for _, root := range filepath.SplitList(roots) {
			dir := filepath.Join(root, suite)
			if _, err := os.Stat(dir); err != nil {
				continue
			}
			t.Run(strings.ReplaceAll(suite, "/", "-"), func(t *testing.T) { report(t, runSuite(t, dir, only)) })
		}
	}
}

// runSuite runs the tests below a folder.
func runSuite(t *testing.T, dir string, only *regexp.Regexp) []*tally {
	t.Helper()
	byFolder := map[string]*tally{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !IsTest(name) || !only.MatchString(name) {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		if byFolder[top] == nil {
			byFolder[top] = &tally{folder: top}
		}
		byFolder[top].run(t, name, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []*tally
	for _, f := range byFolder {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *tally) int { return cmp.Compare(a.folder, b.folder) })
	return out
}

func (f *tally) run(t *testing.T, name, rel string) {
	t.Helper()
	r, err := Run(t.Context(), filepath.ToSlash(name), files)
	if err != nil {
		f.cases, f.broken = f.cases+1, f.broken+1
		f.misses = append(f.misses, fmt.Sprintf("%s: %v", rel, err))
		return
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		f.cases++
		switch c.Outcome {
		case policytest.Passed:
			f.passed++
			continue
		case policytest.Skipped:
			f.skipped++
			continue
		case policytest.Broken:
			f.broken++
		default:
			f.failed++
		}
		f.misses = append(f.misses, fmt.Sprintf("%s:%d: %s: want %s, got %q: %s", rel, c.Position.Line, c.Name, c.Want, c.Got, c.Message))
	}
}

// files reads a test's files from disk.
var files = Options{
	Now:      time.Now(), // the suites are about images that are old by now
	ReadFile: func(name string) ([]byte, error) { return os.ReadFile(filepath.FromSlash(name)) },
	ReadDir: func(name string) ([]string, error) {
		entries, err := os.ReadDir(filepath.FromSlash(name))
		var out []string
		for _, e := range entries {
			if !e.IsDir() {
				out = append(out, e.Name())
			}
		}
		return out, err
	},
}

// report prints the table, as docs/comparison.md holds it, and the misses.
func report(t *testing.T, folders []*tally) {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n| folder | cases | passed | failed | broken | skipped |\n|---|---|---|---|---|---|\n")
	sum := tally{folder: "**all**"}
	for _, f := range folders {
		f.row(&b)
		sum.cases, sum.passed, sum.failed = sum.cases+f.cases, sum.passed+f.passed, sum.failed+f.failed
		sum.broken, sum.skipped = sum.broken+f.broken, sum.skipped+f.skipped
	}
	sum.row(&b)
	t.Log(b.String())
	left := 60
	if os.Getenv("SCONCE_MISSES") == "all" {
		left = 1 << 20
	}
	for _, f := range folders {
		for _, m := range f.misses {
			if left--; left < 0 {
				t.Log("there are more misses: SCONCE_MISSES=all lists them all")
				return
			}
			t.Error(m)
		}
	}
}

func (f *tally) row(b *strings.Builder) {
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d |\n", f.folder, f.cases, f.passed, f.failed, f.broken, f.skipped)
}
