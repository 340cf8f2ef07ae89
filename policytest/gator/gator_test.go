// SPDX-License-Identifier: Apache-2.0

package gator_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/gator"
)

const suite = "testdata/labels/suite.yaml"

// TestRun holds what becomes of each case of a suite, and where it is.
func TestRun(t *testing.T) {
	report, err := gator.Run(t.Context(), suite, gator.Options{ReadFile: os.ReadFile, Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range report.Cases {
		line := fmt.Sprintf("%d %s: %s", c.Position.Line, c.Name, c.Outcome)
		if c.Message != "" {
			line += ": " + c.Message
		}
		got = append(got, line)
	}
	want := []string{
		"10 team/has it: passed",
		"14 team/has none: passed",
		"22 team/wrong expectation: failed: want at least 1 violation, got no violations: []",
		`26 team/wrong message: failed: want at least 1 violation with "another", got no violations of 1: ["the label <team> is missing"]`,
		"30 team/left out: skipped: the suite skips it",
		"33 team/no assertions: broken: the case has no assertions",
		"35 team/no such file: broken: reading the object: open testdata/labels/missing.yaml: no such file or directory",
		"38 team/same name in the inventory: passed",
		"42 team/deletion: passed",
		"45 team/two objects: broken: reading the object: testdata/labels/two.yaml holds 2 objects; want one",
		"48 team/the clock: broken: the template calls time.now_ns, which looks at the time",
		"56 generated/of the deployment: passed",
		"61 does not fit: passed",
		"65 fits: failed: the constraint is valid",
		"72 no constraint/one: broken: the test no constraint names no constraint",
		"75 no template: broken: reading the template: open testdata/labels/missing.yaml: no such file or directory",
		"78 left out: skipped: the suite skips it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	first := report.Cases[0]
	if first.Suite != "labels" || first.Policy != "TeamLabel" || first.Rule != "pods" || first.Resource != "good.yaml" || first.Want != "no violations" || first.Got != first.Want {
		t.Errorf("the first case is %+v", first)
	}
	if n := report.Count(policytest.Passed); n != 6 {
		t.Errorf("%d cases passed; want 6", n)
	}
}

// TestCoverage holds which lines of a template the suite runs.
func TestCoverage(t *testing.T) {
	report, err := gator.Run(t.Context(), suite, gator.Options{ReadFile: os.ReadFile, Coverage: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Coverage) == 0 {
		t.Fatal("there is no coverage")
	}
	data, err := os.ReadFile("testdata/labels/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var missed []string
	for _, b := range report.Coverage {
		if line := strings.TrimSpace(object.LineOf(data, b.Position.Line)); line != b.Text {
			t.Errorf("line %d is %q, and the branch says %q", b.Position.Line, line, b.Text)
		}
		if !b.Hit {
			missed = append(missed, b.Rule+": "+b.Text)
		}
	}
	want := []string{`violation: violation[{"msg": "too early"}] {`, `violation: violation[{"msg": "never"}] {`, `violation: input.review.object.kind == "Never"`, "violation: input.review.object.spec.never"}
	if diff := cmp.Diff(want, missed); diff != "" {
		t.Error(diff)
	}
}

func TestNoSuite(t *testing.T) {
	if _, err := gator.Run(t.Context(), "testdata/labels/good.yaml", gator.Options{ReadFile: os.ReadFile, Coverage: true}); err == nil || !strings.Contains(err.Error(), "holds no Suite") {
		t.Errorf("got %v", err)
	}
	if _, err := gator.Run(t.Context(), "testdata/none.yaml", gator.Options{ReadFile: os.ReadFile, Coverage: true}); err == nil {
		t.Error("a file that is not there is run")
	}
}

// FuzzRun reads what suites it is given: it ends, and not in a panic.
func FuzzRun(f *testing.F) {
	data, err := os.ReadFile(suite)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = gator.Run(t.Context(), "testdata/labels/fuzz.yaml", gator.Options{ReadFile: func(name string) ([]byte, error) {
			if name == "testdata/labels/fuzz.yaml" {
				return []byte(text), nil
			}
			return os.ReadFile(name)
		}})
	})
}
