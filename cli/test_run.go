// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

// testResult is what came of a job.
type testResult struct {
	report *policytest.Report
	err    error
}

// runTests runs all tests once.
func runTests(ctx context.Context, s Streams, f *testFlags, paths []string) error {
	jobs, err := f.discover(paths)
	if err != nil {
		return err
	}
	results := runJobs(ctx, jobs)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("test: %w", err)
	}
	tests, err := f.gather(jobs, results)
	if err != nil {
		return err
	}
	if err := tests.Write(f.format, s.Out, report.Options{Color: f.colour}); err != nil {
		return err
	}
	switch {
	case len(tests.Problems) > 0:
		return exitCode(exitError)
	case tests.Failed():
		return exitCode(exitFindings)
	}
	return nil
}

// runJobs runs jobs in parallel; results are in the order of the jobs.
func runJobs(ctx context.Context, jobs []*testJob) []testResult {
	out := make([]testResult, len(jobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		group.Go(func() error {
			out[i].report, out[i].err = j.run(ctx)
			return nil
		})
	}
	_ = group.Wait()
	return out
}

// gather makes one of the results: the cases that are selected, and what all of
// them ran.
func (f *testFlags) gather(jobs []*testJob, results []testResult) (*report.Tests, error) {
	out := &report.Tests{}
	var all []*policytest.Report
	for i, r := range results {
		if r.err != nil {
			p := &verdict.Problem{Stage: verdict.Parsing, Message: r.err.Error()}
			if !strings.Contains(p.Message, jobs[i].file) {
				p.Position.File = jobs[i].file
			}
			out.Problems = append(out.Problems, p)
			continue
		}
		all = append(all, r.report)
		selected := f.selectCases(jobs[i].file, r.report)
		if f.run == "" || len(selected.Cases) > 0 {
			out.Reports = append(out.Reports, selected)
		}
	}
	if f.coverage {
		out.Coverage = policytest.Cover(all)
		if out.Coverage == nil {
			out.Coverage = []policytest.Branch{}
		}
	}
	if f.run != "" && len(out.Reports) == 0 && len(out.Problems) == 0 {
		return nil, fmt.Errorf("test: no case matches --run %q", f.run)
	}
	return out, nil
}

// selectCases leaves out the cases that are not to be run.
func (f *testFlags) selectCases(file string, r *policytest.Report) *policytest.Report {
	if f.run == "" {
		return r
	}
	out := &policytest.Report{File: r.File}
	for i := range r.Cases {
		c := &r.Cases[i]
		if f.selected.MatchString(caseWords(file, c)) {
			out.Cases = append(out.Cases, *c)
		}
	}
	return out
}

// caseWords is what --run is matched with.
func caseWords(file string, c *policytest.Case) string {
	out := file
	for _, word := range []string{c.Suite, c.Name, c.Policy, c.Rule, c.Resource} {
		if word != "" {
			out += " " + word
		}
	}
	return out
}

// fixtureOf returns the fixture beside a control's file.
func fixtureOf(l *baseline.Library, name string) (fixture string, data []byte, err error) {
	file := l.File(name)
	if l.BuiltIn(name) {
		return catalog.Fixture(file)
	}
	fixture = fixtureName(l, name)
	data, err = os.ReadFile(fixture)
	if err != nil {
		return fixture, nil, fmt.Errorf("%s: no fixture: write %s, with objects that pass and objects that fail", file, fixture)
	}
	return fixture, data, nil
}

// controlReport runs the fixture beside a control's file: a case for each of its
// objects, and one for each mistake that is about none.
func controlReport(l *baseline.Library, name, file string) *policytest.Report {
	out := &policytest.Report{File: file}
	broken := func(message string) *policytest.Report {
		out.Cases = append(out.Cases, policytest.Case{
			Name: name, Policy: name, Outcome: policytest.Broken, Message: message, Position: object.Position{File: file},
		})
		return out
	}
	fixture, data, err := fixtureOf(l, name)
	if err != nil {
		return broken(err.Error())
	}
	out.File = fixture
	r, err := controltest.Run(l.Control(name), fixture, data)
	if err != nil {
		return broken(err.Error())
	}
	out.Cases = controlCases(name, fixture, data, r)
	if r.Passed == 0 || r.Failed == 0 {
		broken(fmt.Sprintf("%d objects pass and %d fail; a fixture shows both", r.Passed, r.Failed))
	}
	control := l.Control(name)
	at := object.Position{File: l.File(name), Line: 1}
	text := clip(control.Spec.Require)
	out.Coverage = []policytest.Branch{
		{Policy: name, Position: at, Text: text, Hit: len(r.Cases) > 0},
		{Policy: name, Position: at, Text: text, Way: "true", Hit: r.Passed > 0},
		{Policy: name, Position: at, Text: text, Way: "false", Hit: r.Failed > 0},
	}
	return out
}

// fixtureMistake is how the test of a fixture says where a mistake is.
var fixtureMistake = regexp.MustCompile(`^(.*):(\d+): (.*)$`)

// controlCases makes cases of the objects of a fixture. A mistake is told of the
// object that its line is in.
func controlCases(name, fixture string, data []byte, r *controltest.Result) []policytest.Case {
	var out []policytest.Case
	for i := range r.Cases {
		c := &r.Cases[i]
		at := object.Position{File: fixture, Line: c.Text.Line}
		if c.Object.Root.Line > 0 {
			at.Line = int(c.Object.Root.Line)
		}
		out = append(out, policytest.Case{
			Name: c.Object.Ref.String(), Policy: name, Outcome: policytest.Passed, Position: at,
			Got: string(c.Verdict.Outcome),
		})
	}
	for _, e := range r.Errors {
		c := policytest.Case{Name: name, Policy: name, Outcome: policytest.Failed, Message: e, Position: object.Position{File: fixture}}
		if found := fixtureMistake.FindStringSubmatch(e); found != nil {
			c.Position.Line, _ = strconv.Atoi(found[2])
			c.Message = found[3]
			c.Position.Quote = object.LineOf(data, c.Position.Line)
		}
		if about := caseAt(out, c.Position.Line); about != nil {
			if about.Outcome == policytest.Passed {
				c.Name = about.Name
				*about = c
				continue
			}
			c.Name = about.Name
		}
		out = append(out, c)
	}
	return out
}

// caseAt returns the case of the object that a line is in.
func caseAt(cases []policytest.Case, line int) *policytest.Case {
	var best *policytest.Case
	for i := range cases {
		c := &cases[i]
		if line > 0 && c.Position.Line <= line && (best == nil || c.Position.Line >= best.Position.Line) {
			best = c
		}
	}
	return best
}
