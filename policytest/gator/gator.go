// SPDX-License-Identifier: Apache-2.0

// Package gator runs the suites that gator verify runs: each names a
// ConstraintTemplate, a Constraint and cases with objects, and says how many
// violations there are of each.
//
// It runs them as gator does: an object is taken as it is written, and what a
// case does not put into the inventory does not exist.
package gator

import (
	"context"
	"fmt"
	"path"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policytest"
)

// Options adjust a run.
type Options struct {
	// ReadFile returns a file that a suite names: the path is joined to the folder
	// of the suite's own file, with slashes, and may lead above it.
	ReadFile func(name string) ([]byte, error)
	// Policy adjusts how templates are run; a constraint may take half a minute
	// over a case where it sets no timeout.
	Policy policy.Options
	// Engine is the only engine of templates that there is, as in
	// gatekeeper.Options.
	Engine string
	// Now is the time that templates are told; they cannot ask for it where it is
	// zero.
	Now time.Time
	// Coverage says whether to find out what of the templates is run.
	Coverage bool
}

// timeout is long: a test is better slow than broken.
const timeout = 30 * time.Second

// IsSuite says whether a document is a suite.
func IsSuite(doc *object.Object) bool {
	return doc.Kind == "Suite" && doc.Group() == "test.gatekeeper.sh"
}

// Run runs the suites of a file. Its error says why the file cannot be read;
// whatever else goes wrong is in the report.
func Run(ctx context.Context, file string, opts Options) (*policytest.Report, error) {
	if opts.Policy.Timeout == 0 {
		opts.Policy.Timeout = timeout
	}
	docs, err := read(opts, file)
	if err != nil {
		return nil, fmt.Errorf("reading the suite: %w", err)
	}
	report := &policytest.Report{File: file}
	if opts.Coverage {
		opts.Policy.Coverage = &policy.Coverage{}
	}
	found := false
	for _, doc := range docs {
		if !IsSuite(doc) {
			continue
		}
		found = true
		s := &suite{doc: doc, dir: path.Dir(file), opts: opts, report: report, templates: map[string]*loaded{}, covers: covers{}}
		s.run(ctx)
		report.Coverage = append(report.Coverage, s.coverage()...)
		report.Policies = append(report.Policies, s.order...)
	}
	if opts.Coverage {
		report.Coverage = append(report.Coverage, opts.Policy.Coverage.Branches()...)
		policytest.SortBranches(report.Coverage)
	}
	if !found {
		return nil, fmt.Errorf("reading the suite: %s holds no Suite of test.gatekeeper.sh", file)
	}
	return report, nil
}

// read returns the objects of a file.
func read(opts Options, file string) ([]*object.Object, error) {
	data, err := opts.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []*object.Object
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if root == nil || root.Kind == object.Null {
			continue
		}
		if root.Kind != object.Map {
			return nil, fmt.Errorf("%s:%d: the document is %s, not an object", file, text.Line, root.Kind.A())
		}
		if len(root.Fields) == 0 {
			continue
		}
		out = append(out, object.New(root, &object.Origin{Source: file, Text: text.Bytes, FirstLine: text.Line}))
	}
	return out, nil
}

// readOne returns the one object of a file.
func readOne(opts Options, file string) (*object.Object, error) {
	docs, err := read(opts, file)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s holds %d objects; want one", file, len(docs))
	}
	return docs[0], nil
}
