// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

func someTests() *report.Tests {
	at := func(line int) object.Position {
		return object.Position{File: "p/x_test.rego", Line: line, Column: 2, Quote: "test_x if {x}", QuoteColumn: 1}
	}
	branch := func(line int, rule, way string, hit bool) policytest.Branch {
		return policytest.Branch{Policy: "main", Rule: rule, Way: way, Hit: hit, Text: "input.x", Position: object.Position{File: "p/x.rego", Line: line}}
	}
	return &report.Tests{
		Reports: []*policytest.Report{
			{File: "p/x_test.rego", Cases: []policytest.Case{
				{Suite: "main", Name: "test_a", Outcome: policytest.Passed, Position: at(1)},
				{Suite: "main", Name: "test_b", Outcome: policytest.Failed, Want: "true", Got: "false", Message: "x {y} does not hold\x1b[31m", Position: at(2)},
				{Suite: "main", Name: "test_c", Outcome: policytest.Broken, Message: "no such function", Position: at(3)},
				{Suite: "main", Name: "test_d", Outcome: policytest.Skipped, Message: "later", Position: at(4)},
			}},
			{File: "q/kyverno-test.yaml", Cases: []policytest.Case{
				{Policy: "p", Rule: "r", Resource: "Pod/a", Outcome: policytest.Failed, Want: "pass", Got: "fail", Position: object.Position{File: "q/kyverno-test.yaml"}},
			}},
		},
		Problems: []*verdict.Problem{{Stage: verdict.Parsing, Position: object.Position{File: "z.rego", Line: 1}, Message: "no package"}},
		Coverage: []policytest.Branch{
			branch(1, "deny", "", true), branch(2, "deny", "true", true), branch(2, "deny", "false", false),
			branch(5, "warn", "", false), branch(6, "warn", "true", false), branch(6, "warn", "false", false),
		},
	}
}

func writeTests(t *testing.T, format string) string {
	t.Helper()
	var b strings.Builder
	if err := someTests().Write(format, &b, report.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTestsTable(t *testing.T) {
	const want = `  PASSED  FAILED  BROKEN  SKIPPED  TESTS
       1       1       1        1  p/x_test.rego
       0       1       0        0  q/kyverno-test.yaml

p/x_test.rego:2:2: main test_b failed
      test_x if {x}
      want true, got false: x {y} does not hold\x1b[31m

p/x_test.rego:3:2: main test_c broken
      test_x if {x}
      no such function

q/kyverno-test.yaml: p r Pod/a failed
      want pass, got fail

z.rego:1: no package

  COVERED    RULES  BRANCHES  POLICY
   33.3 %      1/2       1/4  main

No test runs:
  p/x.rego:2: deny: never false
      input.x
  p/x.rego:5: warn: never run
      input.x
  p/x.rego:6: warn: never evaluated
      input.x

5 cases in 2 files: 1 passed, 2 failed, 1 broken, 1 skipped; 1 problem
`
	if diff := cmp.Diff(want, writeTests(t, "table")); diff != "" {
		t.Error(diff)
	}
}

func TestTestsSARIF(t *testing.T) {
	log, err := jsonschema.UnmarshalJSON(strings.NewReader(writeTests(t, "sarif")))
	if err != nil {
		t.Fatal(err)
	}
	if err := sarifSchema(t).Validate(log); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"ruleId": "failed-test"`, `"ruleId": "broken-test"`, `x {{y}} does not hold`, `"startLine": 2`, `"executionSuccessful": false`} {
		if !strings.Contains(writeTests(t, "sarif"), want) {
			t.Errorf("no %s in\n%s", want, writeTests(t, "sarif"))
		}
	}
}

func TestTestsJUnit(t *testing.T) {
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	if err := xml.NewDecoder(bytes.NewBufferString(writeTests(t, "junit"))).Decode(&suites); err != nil {
		t.Fatal(err)
	}
	if suites.Tests != 6 || suites.Failures != 2 || suites.Errors != 2 || suites.Skipped != 1 {
		t.Errorf("got %+v, want 6 tests, 2 failures, 2 errors (one a problem), 1 skipped", suites)
	}
}

func TestTestsJSON(t *testing.T) {
	got := writeTests(t, "json")
	for _, want := range []string{`"outcome": "broken"`, `"percent": 33.3`, `"failed": 2`, `"message": "no package"`, `"way": "evaluated"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if err := someTests().Write("xml", &strings.Builder{}, report.Options{}); err == nil || err.Error() != `unknown output "xml"; want table, json, junit or sarif` {
		t.Errorf("got %v", err)
	}
}
