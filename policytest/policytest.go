// SPDX-License-Identifier: Apache-2.0

// Package policytest is what comes of tests that people have written for their
// policies. Each language's own form of test (kyverno-test.yaml, suite.yaml,
// Rego's test_ rules) is run, unchanged, by a package below this folder; all of
// them say what came of it in these words.
package policytest

import (
	"time"

	"sconce.dev/sconce/object"
)

// Outcome is what came of a case.
type Outcome string

// The outcomes. Skipped cases are those that the test itself leaves out. Broken
// ones could not be run: they are no better than failed ones.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
	Broken  Outcome = "broken"
)

// Case is one expectation of a test.
type Case struct {
	// Suite is the test that it stands in, Name what the test calls it.
	Suite, Name string
	// Policy, Rule and Resource are what is tested on what; empty where the form
	// of the test does not say.
	Policy, Rule, Resource string
	// Want and Got are in the words of the test's language.
	Want, Got string
	Outcome   Outcome
	// Message says why the case did not pass, or why it was left out.
	Message string
	// Position is where the expectation is written.
	Position object.Position
	Duration time.Duration
}

// Report is what came of one file of tests.
type Report struct {
	// File is the file, as the user named it.
	File  string
	Cases []Case
	// Coverage is what the tests ran of the policies: every rule, expression and
	// branch is in it, run or not.
	Coverage []Branch
	// Policies are the files that the policies under test were read from.
	Policies []string
}

// Branch is a place of a policy that a test can run.
type Branch struct {
	Policy, Rule string
	// Position is where it is written; Text is the expression or the line, cut
	// where it is long.
	Position object.Position
	Text     string
	// Way is what the branch is: "" for a line or a rule, else what an expression
	// came to, true or false, or a rule, pass or fail.
	Way string
	Hit bool
}

// Count returns how many cases had an outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for i := range r.Cases {
		if r.Cases[i].Outcome == o {
			n++
		}
	}
	return n
}
