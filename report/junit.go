// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// junitWriter prints JUnit XML, for the test views of CI systems: a suite for
// each file, chart or overlay, in it a case for each object and control that
// is not met. A failure is fail, an error is unknown or a problem, skipped is
// excepted. A last suite has a case for each control that every object meets,
// and the totals as properties.
type junitWriter struct {
	scan
	w io.Writer
}

func newJUnit(w io.Writer, _ Options) Writer {
	return &junitWriter{w: w}
}

func (j *junitWriter) Close() error {
	out := bufio.NewWriter(j.w)
	var suites junit.Testsuites
	suites.Name = "sconce"
	for _, s := range j.suites() {
		s.ID, s.Time = len(suites.Suites), "0.000"
		suites.AddSuite(s)
	}
	_, _ = out.WriteString(xml.Header) // Flush returns the error
	if err := suites.WriteXML(out); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	return out.Flush()
}

func (j *junitWriter) suites() []junit.Testsuite {
	var suites []junit.Testsuite
	for _, u := range units(j.findings, j.nowhere()) {
		s := junit.Testsuite{Name: visible(u.name)}
		for _, c := range u.cases {
			s.AddTestcase(testcase(c))
		}
		suites = append(suites, s)
	}
	if s := j.problemSuite(); s.Tests > 0 {
		suites = append(suites, s)
	}
	return append(suites, j.metSuite())
}

// junitUnit is the findings of one file, chart or overlay, those of one object
// and control together.
type junitUnit struct {
	name  string
	cases [][]*verdict.Finding
}

type caseKey struct {
	unit, control string
	ref           object.Ref
}

func units(findings []*verdict.Finding, nowhere string) []*junitUnit {
	var out []*junitUnit
	byName := map[string]*junitUnit{}
	cases := map[caseKey]int{}
	for _, f := range findings {
		name := cmp.Or(unit(f), nowhere)
		u := byName[name]
		if u == nil {
			u = &junitUnit{name: name}
			byName[name] = u
			out = append(out, u)
		}
		key := caseKey{name, f.Control, f.Object}
		i, ok := cases[key]
		if !ok {
			i = len(u.cases)
			cases[key] = i
			u.cases = append(u.cases, nil)
		}
		u.cases[i] = append(u.cases[i], f)
	}
	return out
}

// testcase is what a control says of an object: failed if one of its findings
// did, else unknown if one is, else excepted.
func testcase(findings []*verdict.Finding) junit.Testcase {
	first := findings[0]
	c := junit.Testcase{Name: visible(first.Control), Classname: visible(first.Object.String())}
	worst := first
	var lines []string
	for _, f := range findings {
		if caseRank(f) < caseRank(worst) {
			worst = f
		}
		lines = append(lines, caseText(f))
	}
	r := &junit.Result{
		Message: prose(worst.Message),
		Type:    visible(string(worst.Severity)),
		Data:    strings.Join(lines, "\n"),
	}
	switch caseRank(worst) {
	case 0:
		c.Failure = r
	case 1:
		r.Type = "unknown"
		c.Error = r
	default:
		r.Type, r.Message = "excepted", exceptedText(worst.Excepted)
		c.Skipped = r
	}
	return c
}

func caseRank(f *verdict.Finding) int {
	switch {
	case f.Excepted != nil:
		return 2
	case f.Outcome == verdict.Unknown:
		return 1
	}
	return 0
}

// maxCaseLine is how wide a quoted line is.
const maxCaseLine = 160

// caseText is a finding in a few lines.
func caseText(f *verdict.Finding) string {
	lines := []string{outcomeText(f) + ": " + headText(f)}
	if f.Position.File != "" {
		lines = append(lines, placeText(f.Position))
	}
	if q := quote(f.Position.Quote, f.Position.QuoteColumn).crop(maxCaseLine).line(); q != "" {
		lines = append(lines, q)
	}
	if field := fieldText(f); field != "" {
		lines = append(lines, field)
	}
	if by := renderedText(f.Rendered, f.Source); by != "" {
		lines = append(lines, by)
	}
	if f.Position.Note != "" {
		lines = append(lines, "note: "+prose(f.Position.Note))
	}
	if f.Excepted != nil {
		lines = append(lines, exceptedText(f.Excepted))
	}
	if f.Fix != nil && f.Fix.Refused == "" && len(f.Fix.Diff) > 0 {
		lines = append(append(lines, fixLabel(f.Fix)+":"), diffLines(f.Fix.Diff, maxCaseLine)...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// problemSuite is what could not be judged.
func (j *junitWriter) problemSuite() junit.Testsuite {
	s := junit.Testsuite{Name: "problems"}
	for _, p := range j.problems {
		s.AddTestcase(junit.Testcase{
			Name:      visible(string(p.Stage)) + " " + placeText(p.Position),
			Classname: cmp.Or(visible(p.Position.File), "sconce"),
			Error:     &junit.Result{Message: prose(p.Message), Type: "problem", Data: prose(p.Message) + "\n" + placeText(p.Position)},
		})
	}
	if j.summary == nil {
		s.AddTestcase(junit.Testcase{Name: "summary", Classname: "sconce", Error: &junit.Result{Message: noSummary, Type: "problem"}})
	}
	return s
}

// metSuite is what every object meets.
func (j *junitWriter) metSuite() junit.Testsuite {
	s := junit.Testsuite{Name: "controls that all objects meet"}
	sum := j.summary
	if sum == nil {
		return s
	}
	for _, name := range sortedKeys(sum.ByControl) {
		if c := sum.ByControl[name]; c.Pass > 0 && c.Fail+c.Unknown+c.Excepted == 0 {
			s.AddTestcase(junit.Testcase{Name: visible(name), Classname: "sconce"})
		}
	}
	s.AddProperty("passed", strconv.Itoa(sum.Verdicts.Pass))
	s.AddProperty("failed", strconv.Itoa(sum.Verdicts.Fail))
	s.AddProperty("unknown", strconv.Itoa(sum.Verdicts.Unknown))
	s.AddProperty("excepted", strconv.Itoa(sum.Verdicts.Excepted))
	s.AddProperty("problems", strconv.Itoa(sum.Problems))
	s.AddProperty("score", scoreText(sum))
	s.AddProperty("scanned", totalsText(sum))
	return s
}
