// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/verdict"
)

// Tests is what came of the tests of policies.
type Tests struct {
	Reports []*policytest.Report
	// Problems are files of tests that could not be read.
	Problems []*verdict.Problem
	// Coverage is what the tests ran, where that was asked for.
	Coverage []policytest.Branch
}

// testFormats are the formats of tests, the default first.
var testFormats = []struct {
	name  string
	write func(*Tests, io.Writer, Options) error
}{
	{"table", (*Tests).table},
	{"json", (*Tests).json},
	{"junit", (*Tests).junit},
	{"sarif", (*Tests).sarif},
}

// TestFormats returns the names of formats that tests are written in, the
// default first.
func TestFormats() []string {
	var out []string
	for _, f := range testFormats {
		out = append(out, f.name)
	}
	return out
}

// Write writes the tests in a format.
func (t *Tests) Write(format string, w io.Writer, opts Options) error {
	for _, f := range testFormats {
		if f.name == format {
			return f.write(t, w, opts)
		}
	}
	names := TestFormats()
	last := len(names) - 1
	return fmt.Errorf("unknown output %q; want %s or %s", format, strings.Join(names[:last], ", "), names[last])
}

// Count returns how many cases had an outcome.
func (t *Tests) Count(o policytest.Outcome) int {
	n := 0
	for _, r := range t.Reports {
		n += r.Count(o)
	}
	return n
}

// Failed says whether a case did not come out as it should.
func (t *Tests) Failed() bool {
	return t.Count(policytest.Failed)+t.Count(policytest.Broken) > 0
}

type jsonTests struct {
	Files    []jsonTestFile     `json:"files"`
	Problems []*verdict.Problem `json:"problems,omitempty"`
	Coverage *jsonCoverage      `json:"coverage,omitempty"`
	Summary  jsonTestSummary    `json:"summary"`
}

type jsonTestFile struct {
	File  string         `json:"file"`
	Cases []jsonTestCase `json:"cases"`
}

type jsonTestCase struct {
	Suite    string `json:"suite,omitempty"`
	Name     string `json:"name"`
	Policy   string `json:"policy,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Resource string `json:"resource,omitempty"`
	Want     string `json:"want,omitempty"`
	Got      string `json:"got,omitempty"`
	Outcome  string `json:"outcome"`
	Message  string `json:"message,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
}

type jsonCoverage struct {
	Policies []jsonPolicyCoverage `json:"policies"`
	Missed   []jsonBranch         `json:"missed"`
}

type jsonPolicyCoverage struct {
	Policy      string  `json:"policy"`
	Rules       int     `json:"rules"`
	RulesHit    int     `json:"rulesHit"`
	Branches    int     `json:"branches"`
	BranchesHit int     `json:"branchesHit"`
	Percent     float64 `json:"percent"`
}

type jsonBranch struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule,omitempty"`
	Way    string `json:"way,omitempty"`
	Text   string `json:"text"`
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

type jsonTestSummary struct {
	Files   int `json:"files"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Broken  int `json:"broken"`
	Skipped int `json:"skipped"`
}

// json writes one document. Durations are left out: the same tests give the same
// bytes.
func (t *Tests) json(w io.Writer, _ Options) error {
	out := jsonTests{Files: []jsonTestFile{}, Problems: t.Problems, Summary: jsonTestSummary{
		Files: len(t.Reports), Passed: t.Count(policytest.Passed), Failed: t.Count(policytest.Failed),
		Broken: t.Count(policytest.Broken), Skipped: t.Count(policytest.Skipped),
	}}
	for _, r := range t.Reports {
		f := jsonTestFile{File: r.File, Cases: []jsonTestCase{}}
		for i := range r.Cases {
			c := &r.Cases[i]
			f.Cases = append(f.Cases, jsonTestCase{
				Suite: c.Suite, Name: c.Name, Policy: c.Policy, Rule: c.Rule, Resource: c.Resource, Want: c.Want, Got: c.Got,
				Outcome: string(c.Outcome), Message: c.Message, File: c.Position.File, Line: c.Position.Line, Column: c.Position.Column,
			})
		}
		out.Files = append(out.Files, f)
	}
	if t.Coverage != nil {
		out.Coverage = &jsonCoverage{Policies: []jsonPolicyCoverage{}, Missed: []jsonBranch{}}
		for _, p := range coverages(t.Coverage) {
			out.Coverage.Policies = append(out.Coverage.Policies, jsonPolicyCoverage{p.policy, p.rules, p.rulesHit, p.branches, p.branchesHit, p.percent()})
		}
		for _, b := range missed(t.Coverage) {
			out.Coverage.Missed = append(out.Coverage.Missed, jsonBranch{b.Policy, b.Rule, b.Way, b.Text, b.Position.File, b.Position.Line, b.Position.Column})
		}
	}
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err := w.Write(escapeJSON(data.Bytes()))
	return err
}

// policyCoverage is how much of a policy tests ran.
type policyCoverage struct {
	policy                                 string
	rules, rulesHit, branches, branchesHit int
}

func (p *policyCoverage) percent() float64 {
	all := p.rules + p.branches
	if all == 0 {
		return 100
	}
	return float64((p.rulesHit+p.branchesHit)*1000/all) / 10
}

// coverages sums up what was run, by policy, in the order of their places.
func coverages(branches []policytest.Branch) []*policyCoverage {
	var out []*policyCoverage
	at := map[string]*policyCoverage{}
	for i := range branches {
		b := &branches[i]
		p := at[b.Policy]
		if p == nil {
			p = &policyCoverage{policy: b.Policy}
			at[b.Policy] = p
			out = append(out, p)
		}
		all, hit := &p.branches, &p.branchesHit
		if b.Way == "" {
			all, hit = &p.rules, &p.rulesHit
		}
		*all++
		if b.Hit {
			*hit++
		}
	}
	return out
}

// missed returns what no test ran. Of a condition that was never evaluated only
// the rule is told, where that was not run either.
func missed(branches []policytest.Branch) []*policytest.Branch {
	type place struct {
		policy, rule, file, text string
		line, column             int
	}
	never := map[place]int{}
	key := func(b *policytest.Branch) place {
		return place{b.Policy, b.Rule, b.Position.File, b.Text, b.Position.Line, b.Position.Column}
	}
	whole := map[place]bool{}
	for i := range branches {
		switch b := &branches[i]; {
		case b.Hit:
		case b.Way == "":
			whole[key(b)] = true
		default:
			never[key(b)]++
		}
	}
	var out []*policytest.Branch
	for i := range branches {
		b := branches[i]
		switch {
		case b.Hit, b.Way != "" && whole[key(&b)]:
			continue
		case b.Way != "" && never[key(&b)] > 1:
			never[key(&b)] = -1
			b.Way = "evaluated"
		case b.Way != "" && never[key(&b)] < 0:
			continue
		}
		out = append(out, &b)
	}
	return out
}

// junit writes JUnit XML: a suite for each file.
func (t *Tests) junit(w io.Writer, _ Options) error {
	suites := junit.Testsuites{Name: "sconce test"}
	for _, r := range t.Reports {
		s := junit.Testsuite{Name: visible(r.File), ID: len(suites.Suites)}
		var took time.Duration
		for i := range r.Cases {
			s.AddTestcase(junitCase(&r.Cases[i]))
			took += r.Cases[i].Duration
		}
		s.Time = seconds(took)
		suites.AddSuite(s)
	}
	if len(t.Problems) > 0 {
		s := junit.Testsuite{Name: "problems", ID: len(suites.Suites), Time: seconds(0)}
		for _, p := range t.Problems {
			s.AddTestcase(junit.Testcase{Name: cmp.Or(placeText(p.Position), "problem"), Classname: "sconce", Error: &junit.Result{Message: prose(p.Message), Type: "problem"}})
		}
		suites.AddSuite(s)
	}
	out := bufio.NewWriter(w)
	_, _ = out.WriteString(xml.Header) // Flush returns the error
	if err := suites.WriteXML(out); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	return out.Flush()
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

func junitCase(c *policytest.Case) junit.Testcase {
	out := junit.Testcase{Name: visible(caseName(c)), Classname: visible(cmp.Or(c.Suite, c.Policy, "tests")), Time: seconds(c.Duration)}
	r := &junit.Result{Message: prose(caseMessage(c)), Type: string(c.Outcome), Data: placeText(c.Position) + "\n" + prose(caseMessage(c)) + "\n"}
	switch c.Outcome {
	case policytest.Failed:
		out.Failure = r
	case policytest.Broken:
		out.Error = r
	case policytest.Skipped:
		out.Skipped = r
	case policytest.Passed:
	}
	return out
}

// caseName is what a case is called: its own name, or what it is about.
func caseName(c *policytest.Case) string {
	if c.Name != "" {
		return c.Name
	}
	var words []string
	for _, w := range []string{c.Policy, c.Rule, c.Resource} {
		if w != "" {
			words = append(words, w)
		}
	}
	return cmp.Or(strings.Join(words, " "), "case")
}

// caseMessage says what is wrong with a case.
func caseMessage(c *policytest.Case) string {
	var parts []string
	if c.Outcome == policytest.Failed && (c.Want != "" || c.Got != "") {
		parts = append(parts, fmt.Sprintf("want %s, got %s", cmp.Or(c.Want, "nothing"), cmp.Or(c.Got, "nothing")))
	}
	if c.Message != "" {
		parts = append(parts, c.Message)
	}
	return strings.Join(parts, ": ")
}

// The rules of failed cases, in SARIF.
const (
	ruleFailed = "failed-test"
	ruleBroken = "broken-test"
)

// sarif writes the cases that did not come out as they should, at their places.
func (t *Tests) sarif(w io.Writer, _ Options) error {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "sconce", InformationURI: "https://sconce.dev", Rules: testRules()}},
		BaseIDs:    sarifRoot(),
		ColumnKind: sarifColumns,
		Results:    []sarifResult{},
	}
	inv := sarifInvocation{Successful: len(t.Problems) == 0, Notifications: []sarifNotification{}}
	for _, p := range t.Problems {
		inv.Notifications = append(inv.Notifications, notification("error", string(p.Stage), cmp.Or(prose(p.Message), "could not be read"), p.Position))
	}
	run.Invocations = []sarifInvocation{inv}
	for _, r := range t.Reports {
		for i := range r.Cases {
			if c := &r.Cases[i]; c.Outcome == policytest.Failed || c.Outcome == policytest.Broken {
				run.Results = append(run.Results, testResult(c))
			}
		}
	}
	return writeSARIF(w, run)
}

func testRules() []sarifRule {
	rule := func(id, title, help string) sarifRule {
		return sarifRule{
			ID: id, Short: sarifText{Text: title}, Full: sarifText{Text: title}, Help: sarifText{Text: help},
			Config: sarifConfig{Level: "error"}, Properties: sarifRuleProps{Tags: []string{"test"}, Severity: "2.0"},
		}
	}
	return []sarifRule{
		rule(ruleFailed, "Policies do what their tests expect", "Change the policy, or the test, so that they agree."),
		rule(ruleBroken, "Tests of policies can be run", "Mend what the message names."),
	}
}

func testResult(c *policytest.Case) sarifResult {
	id, index := ruleFailed, 0
	if c.Outcome == policytest.Broken {
		id, index = ruleBroken, 1
	}
	name := visible(caseName(c))
	return sarifResult{
		RuleID: id, RuleIndex: index, Kind: "fail", Level: "error",
		Message: sarifMessage(name + ": " + cmp.Or(prose(caseMessage(c)), string(c.Outcome))),
		Locations: []sarifLocation{{
			Physical: physical(c.Position),
			Logical:  []sarifLogical{{Name: name, FullName: visible(strings.TrimSpace(c.Suite + " " + caseName(c))), Kind: "member"}},
		}},
	}
}
