// SPDX-License-Identifier: Apache-2.0

package gator

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policytest"
)

// suite is one suite that is run.
type suite struct {
	doc    *object.Object
	dir    string
	opts   Options
	report *policytest.Report
	// templates are those that were read, by their files, in their order.
	templates map[string]*loaded
	order     []string
	covers    covers
}

// loaded is a template, or why it is none.
type loaded struct {
	template *gatekeeper.Template
	err      error
}

// covers are what ran of templates.
type covers map[*gatekeeper.Template]*cover.Cover

func (c covers) of(t *gatekeeper.Template) *cover.Cover {
	if c[t] == nil {
		c[t] = cover.New()
	}
	return c[t]
}

// test is one test of a suite: a template and a constraint.
type test struct {
	*suite
	node *object.Node
	at   object.Path
	name string

	constraint *gatekeeper.Constraint
	expansions []*gatekeeper.Expansion
}

func (s *suite) run(ctx context.Context) {
	tests := s.doc.Root.Get("tests")
	if tests == nil || tests.Kind != object.List {
		return
	}
	for i, node := range tests.Items {
		at := object.Path{{Field: "tests"}, object.ItemStep(tests, i)}
		t := &test{suite: s, node: node, at: at, name: node.Get("name").Str()}
		t.run(ctx, s.doc.Root.Get("skip").Bool())
	}
}

// run runs a test, and adds its cases to the report.
func (t *test) run(ctx context.Context, skip bool) {
	start := time.Now()
	switch {
	case skip || t.node.Get("skip").Bool():
		t.all(policytest.Skipped, "the suite skips it")
		return
	case t.node.Get("invalid").Bool():
		t.invalid(t.load(), start)
		return
	}
	if err := t.load(); err != nil {
		t.all(policytest.Broken, err.Error())
		return
	}
	for i := range t.cases() {
		t.runCase(ctx, i)
	}
}

// cases returns the cases of the test.
func (t *test) cases() []*object.Node {
	if cases := t.node.Get("cases"); cases != nil && cases.Kind == object.List {
		return cases.Items
	}
	return nil
}

// newCase returns case i of the test, as it stands in the report; the test
// itself where i is less than 0.
func (t *test) newCase(i int) policytest.Case {
	c := policytest.Case{Suite: t.doc.Name, Name: t.name, Position: t.doc.Position(t.at)}
	if t.constraint != nil {
		c.Policy, c.Rule = t.constraint.Object.Kind, t.constraint.Object.Name
	}
	if i >= 0 {
		list := t.node.Get("cases")
		c.Name = strings.Trim(t.name+"/"+list.Items[i].Get("name").Str(), "/")
		c.Resource = list.Items[i].Get("object").Str()
		c.Position = t.doc.Position(t.at.Append(object.Step{Field: "cases"}, object.ItemStep(list, i)))
	}
	return c
}

// all reports the same of all cases of the test.
func (t *test) all(o policytest.Outcome, message string) {
	add := func(i int) {
		c := t.newCase(i)
		c.Outcome, c.Message = o, message
		t.report.Cases = append(t.report.Cases, c)
	}
	for i := range t.cases() {
		add(i)
	}
	if len(t.cases()) == 0 {
		add(-1)
	}
}

// invalid reports a test that wants its constraint not to fit the schema of its
// template.
func (t *test) invalid(err error, start time.Time) {
	c := t.newCase(-1)
	c.Want, c.Got, c.Outcome = "a constraint that does not fit its schema", "a valid constraint", policytest.Failed
	var schema *gatekeeper.SchemaError
	switch {
	case errors.As(err, &schema):
		c.Got, c.Outcome = c.Want, policytest.Passed
	case err != nil:
		c.Got, c.Message = "another error", err.Error()
	default:
		c.Message = "the constraint is valid"
	}
	c.Duration = time.Since(start)
	t.report.Cases = append(t.report.Cases, c)
}

// load reads the template, the constraint and the expansions of the test.
func (t *test) load() error {
	template, err := t.file("template")
	if err != nil {
		return err
	}
	l := t.template(template)
	if l.err != nil {
		return l.err
	}
	file, err := t.file("constraint")
	if err != nil {
		return err
	}
	doc, err := readOne(t.opts, file)
	if err != nil {
		return fmt.Errorf("reading the constraint: %w", err)
	}
	if t.constraint, err = l.template.Constraint(doc); err != nil {
		return err
	}
	return t.expand()
}

// file returns the file that a field of the test names.
func (t *test) file(field string) (string, error) {
	name := t.node.Get(field).Str()
	if name == "" {
		return "", fmt.Errorf("the test %s names no %s", t.name, field)
	}
	return path.Join(t.dir, name), nil
}

// template reads a template, once for each file.
func (s *suite) template(file string) *loaded {
	if l := s.templates[file]; l != nil {
		return l
	}
	l := &loaded{}
	doc, err := readOne(s.opts, file)
	if err != nil {
		l.err = fmt.Errorf("reading the template: %w", err)
	} else {
		opts := gatekeeper.Options{Options: s.opts.Policy, Engine: s.opts.Engine}
		if s.opts.Coverage {
			opts.Observe = func(t *gatekeeper.Template) topdown.QueryTracer { return s.covers.of(t) }
		}
		l.template, l.err = gatekeeper.ParseTemplate(doc, opts)
	}
	s.templates[file] = l
	s.order = append(s.order, file)
	return l
}

// expand reads the expansions of the test.
func (t *test) expand() error {
	if t.node.Get("expansion").Str() == "" {
		return nil
	}
	file, err := t.file("expansion")
	if err != nil {
		return err
	}
	docs, err := read(t.opts, file)
	if err != nil {
		return fmt.Errorf("reading the expansions: %w", err)
	}
	if len(docs) == 0 {
		return fmt.Errorf("reading the expansions: %s holds none", file)
	}
	var all []*gatekeeper.Expansion
	for _, doc := range docs {
		e, err := gatekeeper.ParseExpansion(doc)
		if err != nil {
			return err
		}
		all = append(all, e)
	}
	t.expansions, _ = gatekeeper.WithoutCycles(all)
	return nil
}

// coverage returns what the suite ran of its templates.
func (s *suite) coverage() []policytest.Branch {
	var out []policytest.Branch
	if !s.opts.Coverage {
		return nil
	}
	for _, file := range s.order {
		t := s.templates[file].template
		if t == nil {
			continue
		}
		for _, l := range t.Lines(s.covers.of(t)) {
			out = append(out, policytest.Branch{Policy: t.Object.Name, Rule: l.Rule, Position: l.Position, Text: l.Text, Hit: l.Hit})
		}
	}
	return out
}
