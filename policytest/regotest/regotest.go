// SPDX-License-Identifier: Apache-2.0

// Package regotest runs tests that are written in Rego, as opa test and conftest
// verify do: rules named test_…, which hold if what they test is right, and
// todo_test_…, which are left out. It says which clauses and conditions of the
// policies the tests ran, and which changes of the policies they notice.
//
// Tests are run with the rules that are closest to them: see Tests.
package regotest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policy/regoguard"
	"sconce.dev/sconce/policytest"
)

// Options say how tests are run.
type Options struct {
	// Files are the Rego files, by their names with slashes, among which a test
	// finds what it needs. Data is what they find below data.
	Files  map[string][]byte
	Data   map[string]any
	Policy policy.Options
	// ReadFile returns a file that a test reads (parse_config_file), by its path
	// with slashes; nil where none are to be read.
	ReadFile func(name string) ([]byte, error)
	// Run selects cases by their names, package and all; nil for all.
	Run *regexp.Regexp
	// Coverage says whether to find out what the tests ran.
	Coverage bool
	// Timeout bounds a test; five seconds where it is zero.
	Timeout time.Duration
}

// defaultTimeout is that of opa test.
const defaultTimeout = 5 * time.Second

var testRule = regexp.MustCompile(`(?m)^(todo_)?test_\w*`)

// IsTest says whether a file holds tests.
func IsTest(name string, text []byte) bool {
	return path.Ext(name) == ".rego" && (rego.IsTest(name) || testRule.Match(text))
}

// Run runs the tests of a file. Its error says why the file cannot be run at
// all; whatever else goes wrong is in the report.
func Run(ctx context.Context, file string, opts Options) (*policytest.Report, error) {
	return Load(opts).Run(ctx, file)
}

// Tests are Rego files with tests, and the files that these need.
//
// A test is run with the files whose packages it refers to, and these again. Of
// several that have a package, those below the test's own folder are taken; if
// there are none, those below the folder above, and so on. So tests of many
// policies can stand below one folder, and each is run as if its own were alone.
type Tests struct {
	opts    Options
	modules map[string]*ast.Module
	broken  map[string]error
	store   storage.Store
	// quick is set where only outcomes are asked for, not their reasons.
	quick bool
}

// Load parses the files.
func Load(opts Options) *Tests {
	t := &Tests{opts: opts, modules: map[string]*ast.Module{}, broken: map[string]error{}}
	for _, name := range slices.Sorted(maps.Keys(opts.Files)) {
		module, err := rego.ParseModule(name, opts.Files[name])
		if err != nil {
			t.broken[name] = err
			continue
		}
		t.modules[name] = module
	}
	data := opts.Data
	if data == nil {
		data = map[string]any{}
	}
	t.store = inmem.NewFromObject(data)
	return t
}

// Run runs the tests of a file.
func (t *Tests) Run(ctx context.Context, file string) (*policytest.Report, error) {
	if err := t.broken[file]; err != nil {
		return nil, located(file, err)
	}
	if t.modules[file] == nil {
		return nil, fmt.Errorf("%s is not among the Rego files", file)
	}
	report := &policytest.Report{File: file}
	modules, err := t.needed(file)
	if err == nil {
		err = t.runModules(ctx, file, modules, report)
	}
	if err != nil {
		report.Cases = []policytest.Case{{
			Suite: packageName(t.modules[file]), Name: path.Base(file), Want: "true", Got: "error",
			Outcome: policytest.Broken, Message: message(err), Position: errorPosition(file, err),
		}}
	}
	return report, nil
}

// runModules compiles modules and runs the tests of one of them.
func (t *Tests) runModules(ctx context.Context, file string, modules map[string]*ast.Module, report *policytest.Report) error {
	caps := rego.Capabilities()
	caps.Builtins = append(caps.Builtins, declared()...)
	run := &run{tests: t, file: file, compiler: guards().Compiler(rego.NewCompiler(guards().Capabilities(caps)).WithEnablePrintStatements(true))}
	runner := tester.NewRunner().SetCompiler(run.compiler).SetStore(t.store).SetModules(modules).
		SetTimeout(cmp.Or(t.opts.Timeout, defaultTimeout)).CapturePrintOutput(true).SetParallel(1).AddCustomBuiltins(t.forRunner())
	results, err := start(ctx, runner)
	if err != nil {
		return err
	}
	var found []*tester.Result
	for r := range results {
		if r.Location != nil && r.Location.File == file && t.selected(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *tester.Result) int {
		return cmp.Or(cmp.Compare(a.Location.Row, b.Location.Row), strings.Compare(a.Name, b.Name))
	})
	if !t.quick {
		run.index()
	}
	for _, r := range found {
		report.Cases = append(report.Cases, run.cases(ctx, r)...)
	}
	if t.opts.Coverage {
		report.Coverage = run.coverage(ctx)
	}
	return ctx.Err()
}

// start compiles the modules and begins to run them.
func start(ctx context.Context, runner *tester.Runner) (results chan *tester.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library failed: %v", r)
		}
	}()
	return runner.RunTests(ctx, nil)
}

func (t *Tests) selected(r *tester.Result) bool {
	return t.opts.Run == nil || t.opts.Run.MatchString(strings.TrimPrefix(r.Package, "data.")+"."+r.Name)
}

// run is one run of the tests of a file.
type run struct {
	tests    *Tests
	file     string
	compiler *ast.Compiler
	rules    map[string]*ast.Rule // tests, by their names
	trace    *tracer
}

// index finds the tests of the file among what was compiled.
func (r *run) index() {
	r.rules = map[string]*ast.Rule{}
	for _, rule := range r.compiler.Modules[r.file].Rules {
		r.rules[testName(rule)] = rule
	}
	r.trace = newTracer(r.compiler, r.tests.opts.Files)
}

// testName is the name of a test, without what tells its cases apart.
func testName(rule *ast.Rule) string {
	ref := rule.Head.Ref().GroundPrefix()
	for i, term := range ref {
		name := strings.Trim(term.Value.String(), `"`)
		if strings.HasPrefix(name, tester.TestPrefix) || strings.HasPrefix(name, tester.SkipTestPrefix) {
			return ref[:i+1].String()
		}
	}
	return ref.String()
}

// cases makes cases of a result: one, or one for each of the cases of a test
// that has several.
func (r *run) cases(ctx context.Context, res *tester.Result) []policytest.Case {
	c := policytest.Case{
		Suite: strings.TrimPrefix(res.Package, "data."), Name: res.Name, Policy: strings.TrimPrefix(res.Package, "data."),
		Want: "true", Got: "true", Outcome: policytest.Passed, Duration: res.Duration,
		Position: object.Position{File: r.file, Line: res.Location.Row, Column: res.Location.Col},
	}
	rule := r.rules[res.Name]
	switch {
	case res.Skip:
		c.Outcome, c.Got, c.Message = policytest.Skipped, "", "its name begins with todo_"
	case res.Error != nil:
		c.Outcome, c.Got, c.Message = policytest.Broken, "error", message(res.Error)
	case rule != nil && r.calledOut(ctx, rule) != "":
		c.Outcome, c.Got, c.Message = policytest.Broken, "error", r.calledOut(ctx, rule)
	case len(res.SubResults) > 0:
		return r.subCases(c, res)
	case res.Fail:
		c.Outcome, c.Got = policytest.Failed, "undefined"
		if rule != nil {
			r.explain(ctx, rule, &c)
		}
	}
	r.quote(&c, res.Output)
	return []policytest.Case{c}
}

// subCases makes a case of each case of a test.
func (r *run) subCases(c policytest.Case, res *tester.Result) []policytest.Case {
	var out []policytest.Case
	for name, sub := range res.SubResults.Iter {
		if len(sub.SubResults) > 0 {
			continue
		}
		one := c
		one.Name += "/" + strings.Join(name, "/")
		if sub.Fail {
			one.Outcome, one.Got, one.Message = policytest.Failed, "false or undefined", "the case does not hold"
		}
		r.quote(&one, nil)
		out = append(out, one)
	}
	return out
}

// maxPrinted is how much of what a test prints is told, in bytes.
const maxPrinted = 2048

// quote adds to a case what it printed, and the line that it is about.
func (r *run) quote(c *policytest.Case, printed []byte) {
	if text := strings.TrimSpace(string(printed)); text != "" && c.Outcome != policytest.Passed {
		c.Message += "; it printed: " + clip(text, maxPrinted)
	}
	p := &c.Position
	p.Quote, p.QuoteColumn = object.Window(object.LineOf(r.tests.opts.Files[p.File], p.Line), p.Column)
}

// packageName is the name of a module's package without data.
func packageName(m *ast.Module) string { return strings.TrimPrefix(m.Package.Path.String(), "data.") }

// message says what is wrong, on a line.
func message(err error) string {
	var list ast.Errors
	if errors.As(err, &list) && len(list) > 0 {
		text := list[0].Message
		if n := len(list) - 1; n > 0 {
			text = fmt.Sprintf("%s (and %d more mistakes)", text, n)
		}
		return text
	}
	return regoguard.Plain(strings.Join(strings.Fields(err.Error()), " "))
}

// errorPosition is where an error is.
func errorPosition(file string, err error) object.Position {
	var list ast.Errors
	if errors.As(err, &list) && len(list) > 0 && list[0].Location != nil {
		l := list[0].Location
		return object.Position{File: cmp.Or(l.File, file), Line: l.Row, Column: l.Col}
	}
	return object.Position{File: file}
}

// located says where in a file an error is.
func located(file string, err error) error {
	if p := errorPosition(file, err); p.Line > 0 {
		return fmt.Errorf("%s:%d: %s", p.File, p.Line, message(err))
	}
	return fmt.Errorf("%s: %s", file, message(err))
}

// clip cuts a text that is too long.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
