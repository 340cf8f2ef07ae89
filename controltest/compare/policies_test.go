// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
	templates "sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/gator"
	"sconce.dev/sconce/policytest/kyvernotest"
)

// policySuite are tests that people have written for policies in other languages,
// which are run unchanged.
type policySuite struct {
	title, source string
	dir           string // in the folder of checkouts
	run           func(t *testing.T, file string) (*policytest.Report, error)
	is            func(name string) bool
}

var policySuites = []policySuite{
	{"Kyverno policies", "https://github.com/kyverno/policies", "policies", runKyverno, kyvernotest.IsTest},
	{"Kyverno's own tests of its command line", "https://github.com/kyverno/kyverno", "kyverno/test/cli", runKyverno, kyvernotest.IsTest},
	{"Gatekeeper library", "https://github.com/open-policy-agent/gatekeeper-library", "gatekeeper-library/library", runGator(""), isSuite},
	{"Gatekeeper library, by Rego where a template has CEL too", "https://github.com/open-policy-agent/gatekeeper-library", "gatekeeper-library/library", runGator(templates.Rego), isSuite},
}

func runKyverno(t *testing.T, file string) (*policytest.Report, error) {
	return kyvernotest.Run(t.Context(), filepath.ToSlash(file), kyvernotest.Options{Now: time.Now(), ReadFile: os.ReadFile, ReadDir: names})
}

// runGator returns what runs suites with one engine of templates, or with the one
// that Gatekeeper would take.
func runGator(engine string) func(t *testing.T, file string) (*policytest.Report, error) {
	return func(t *testing.T, file string) (*policytest.Report, error) {
		return gator.Run(t.Context(), filepath.ToSlash(file), gator.Options{Now: time.Now(), ReadFile: os.ReadFile, Engine: engine})
	}
}

func isSuite(name string) bool { return filepath.Base(name) == "suite.yaml" }

// names returns the files of a folder.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// explanations say why an expectation is not met.
type explanations struct {
	Reasons []struct {
		// Match is a regular expression of FILE: MESSAGE.
		Match string `json:"match"`
		Why   string `json:"why"`
	} `json:"reasons"`
}

func readExplanations() (*explanations, error) {
	data, err := os.ReadFile("testdata/policies.yaml")
	if err != nil {
		return nil, err
	}
	root, err := object.ParseYAML(object.Text{Bytes: data, Line: 1})
	if err != nil {
		return nil, err
	}
	out := &explanations{}
	for _, e := range object.Decode(root, out) {
		return nil, e
	}
	return out, nil
}

// folder is what came of the tests below a folder of a suite.
type folder struct {
	cases map[policytest.Outcome]int
	why   map[string]int
}

// policyOutcome is what came of a suite.
type policyOutcome struct {
	policySuite
	folders map[string]*folder
}

// runPolicies runs a suite. What is not met, and not explained, is an error.
func (s policySuite) runPolicies(t *testing.T, root string, x *explanations) *policyOutcome {
	out := &policyOutcome{policySuite: s, folders: map[string]*folder{}}
	dir := filepath.Join(root, s.dir)
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(resolved, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !s.is(name) {
			return err
		}
		rel, err := filepath.Rel(resolved, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		top, _, _ := strings.Cut(rel, "/")
		f := out.folders[top]
		if f == nil {
			f = &folder{map[policytest.Outcome]int{}, map[string]int{}}
			out.folders[top] = f
		}
		report, err := s.run(t, name)
		if err != nil {
			f.miss(t, x, policytest.Broken, rel, err.Error())
			return nil
		}
		for i := range report.Cases {
			c := &report.Cases[i]
			if c.Outcome == policytest.Passed {
				f.cases[c.Outcome]++
				continue
			}
			f.miss(t, x, c.Outcome, rel, fmt.Sprintf("%s: want %s, got %s: %s", c.Name, c.Want, c.Got, c.Message))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// miss counts an expectation that is not met.
func (f *folder) miss(t *testing.T, x *explanations, outcome policytest.Outcome, file, message string) {
	f.cases[outcome]++
	for _, r := range x.Reasons {
		if regexp.MustCompile(r.Match).MatchString(file + ": " + message) {
			f.why[r.Why]++
			return
		}
	}
	t.Errorf("%s: %s: %s", outcome, file, message)
}

// section writes what came of a suite.
func (o *policyOutcome) section(p func(string, ...any)) {
	p("\n### %s\n\n%s, `%s`, licence Apache-2.0.\n\n| folder | cases | met | not met | not run | left out |\n|---|---|---|---|---|---|\n", o.title, o.source, o.dir)
	sum := map[policytest.Outcome]int{}
	why := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(o.folders)) {
		f := o.folders[name]
		row(p, name, f.cases)
		for outcome, n := range f.cases {
			sum[outcome] += n
		}
		for reason, n := range f.why {
			why[reason] += n
		}
	}
	row(p, "**all**", sum)
	if len(why) == 0 {
		return
	}
	p("\n| cases | why they are not met, or not run |\n|---|---|\n")
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		p("| %d | %s |\n", why[reason], cell(reason))
	}
}

func row(p func(string, ...any), name string, cases map[policytest.Outcome]int) {
	all := 0
	for _, n := range cases {
		all += n
	}
	passed := cases[policytest.Passed]
	p("| %s | %d | %d (%.1f %%) | %d | %d | %d |\n", name, all, passed, 100*float64(passed)/float64(max(1, all)),
		cases[policytest.Failed], cases[policytest.Broken], cases[policytest.Skipped])
}

// comparePolicies runs all suites of policies.
func comparePolicies(t *testing.T, root string) (out []*policyOutcome) {
	x, err := readExplanations()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range policySuites {
		t.Run(s.title, func(t *testing.T) { out = append(out, s.runPolicies(t, root, x)) })
	}
	return out
}
