// SPDX-License-Identifier: Apache-2.0

// Package kyvernotest runs the tests that people have written for their Kyverno
// policies: kyverno-test.yaml files, unchanged. Which policies are asked in
// which order, which results a test looks for and what it compares is as in
// Kyverno's command line; judging is the business of the packages of the
// languages.
//
// Nothing is fetched: what a test names by an address is not read, and the test
// is broken.
package kyvernotest

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policytest"
)

// FileName is what Kyverno calls a file of tests.
const FileName = "kyverno-test.yaml"

// Options say how tests are run.
type Options struct {
	// ReadFile returns a file that a test names: the path is joined to the folder
	// of the test's own file, with slashes, and may lead above it.
	ReadFile func(name string) ([]byte, error)
	// ReadDir returns the names of the files of a folder, in order, and an error
	// where it is none. A test that names a folder is broken where ReadDir is nil.
	ReadDir func(name string) ([]string, error)
	// Now is the time of the requests; zero where it is not to be known.
	Now    time.Time
	Policy policy.Options
	// Coverage says whether to find out what of the policies is run.
	Coverage bool
}

// IsTest says whether a file holds Kyverno's tests, by its name.
func IsTest(name string) bool {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	return base == FileName || base == "kyverno-test.yml"
}

// Run runs the tests of a file. Its error says why the file cannot be read;
// whatever else goes wrong is in the report.
func Run(ctx context.Context, file string, opts Options) (*policytest.Report, error) {
	data, err := opts.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the test: %w", err)
	}
	report := &policytest.Report{File: file}
	if opts.Coverage {
		opts.Policy.Coverage = &policy.Coverage{}
	}
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			return nil, fmt.Errorf("reading the test %s: %w", file, err)
		}
		if root == nil {
			continue
		}
		t, err := readTest(file, root)
		if err != nil {
			return nil, fmt.Errorf("reading the test %s: %w", file, err)
		}
		report.Cases = append(report.Cases, t.run(ctx, &opts)...)
		report.Policies = append(report.Policies, t.policyFiles...)
	}
	if opts.Coverage {
		report.Coverage = opts.Policy.Coverage.Branches()
	}
	return report, nil
}

// run runs one test. A test that cannot be run has one broken case for each of
// its results.
func (t *test) run(ctx context.Context, opts *Options) []policytest.Case {
	if len(t.Results)+len(t.Checks) == 0 {
		return []policytest.Case{{Suite: t.name(), Outcome: policytest.Skipped, Message: "the test has no results", Position: t.position(t.root)}}
	}
	world, err := t.load(opts)
	if err == nil {
		var found *responses
		if found, err = world.evaluate(ctx); err == nil {
			return world.check(found)
		}
	}
	var out []policytest.Case
	for i := range t.Results {
		c := t.newCase(&t.Results[i])
		c.Outcome, c.Message = policytest.Broken, err.Error()
		out = append(out, c)
	}
	if len(out) == 0 {
		out = append(out, policytest.Case{Suite: t.name(), Outcome: policytest.Broken, Message: err.Error(), Position: t.position(t.root)})
	}
	return out
}
