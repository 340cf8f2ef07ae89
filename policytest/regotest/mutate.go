// SPDX-License-Identifier: Apache-2.0

package regotest

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
)

// Mutant is a policy that was changed in one place.
type Mutant struct {
	// ID names it for as long as what was changed stays as it is.
	ID string
	// Operator is the sort of change, Rule where it was made.
	Operator, Rule string
	Before, After  string
	Position       object.Position
	// Survived says that no test noticed; else By is the case that did.
	Survived bool
	By       string
}

// Mutation is what came of the mutants of a file.
type Mutation struct {
	File, Package string
	Mutants       []*Mutant
	// Left is how many mutants were not tried, since there are too many.
	Left int
	// Mistake says why none was: there are no tests, or they do not hold.
	Mistake string
}

// maxMutants is how many mutants of a file are tried.
const maxMutants = 400

// Mutations returns, for each file of policies, what changes it in one place
// after the other and runs the tests that need it against each of these mutants.
// A mutant is noticed where a case that passes with the policy does not pass with
// it.
func (t *Tests) Mutations(ctx context.Context) ([]func() *Mutation, error) {
	tests := map[string][]string{} // by the files that they need
	passes := map[string]map[string]bool{}
	mistakes := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t.modules)) {
		if !IsTest(name, t.opts.Files[name]) {
			continue
		}
		needed, err := t.needed(name)
		if err != nil {
			return nil, located(name, err)
		}
		passed, err := t.passing(ctx, name)
		for file := range needed {
			if err != nil {
				mistakes[file] = err.Error()
			}
			tests[file] = append(tests[file], name)
		}
		passes[name] = passed
	}
	var out []func() *Mutation
	for _, name := range slices.Sorted(maps.Keys(t.modules)) {
		if IsTest(name, t.opts.Files[name]) {
			continue
		}
		m := &Mutation{File: name, Package: packageName(t.modules[name]), Mistake: mistakes[name]}
		if len(tests[name]) == 0 {
			m.Mistake = name + ": no test needs it: write one in " + strings.TrimSuffix(name, ".rego") + "_test.rego"
		}
		out = append(out, func() *Mutation {
			if m.Mistake == "" {
				t.mutateFile(ctx, m, nearFirst(name, tests[name]), passes)
			}
			return m
		})
	}
	return out, ctx.Err()
}

// nearFirst puts the tests of a file's own folder before others: they are the
// most likely to notice.
func nearFirst(file string, tests []string) []string {
	slices.SortStableFunc(tests, func(a, b string) int {
		far := func(name string) int {
			if path.Dir(name) == path.Dir(file) {
				return 0
			}
			return 1
		}
		return far(a) - far(b)
	})
	return tests
}

// passing returns the names of the cases of a file that pass. It fails where one
// does not: such tests cannot tell mutants.
func (t *Tests) passing(ctx context.Context, file string) (map[string]bool, error) {
	r, err := t.Run(ctx, file)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i := range r.Cases {
		switch c := &r.Cases[i]; c.Outcome {
		case policytest.Passed:
			out[c.Name] = true
		case policytest.Failed, policytest.Broken:
			return nil, fmt.Errorf("%s does not hold, so that it cannot tell mutants: %s: %s", file, c.Name, c.Message)
		case policytest.Skipped:
		}
	}
	return out, nil
}

// mutateFile tries the mutants of a file.
func (t *Tests) mutateFile(ctx context.Context, m *Mutation, tests []string, passes map[string]map[string]bool) {
	changes := changesOf(t.modules[m.File])
	if n := len(changes); n > maxMutants {
		kept := make([]*change, 0, maxMutants)
		for i := range maxMutants {
			kept = append(kept, changes[i*n/maxMutants])
		}
		changes, m.Left = kept, n-maxMutants
	}
	mutants := make([]*Mutant, len(changes))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range changes {
		group.Go(func() error {
			mutants[i] = t.try(ctx, m.File, c, tests, passes)
			return nil
		})
	}
	_ = group.Wait()
	for _, mutant := range mutants {
		if mutant != nil {
			m.Mutants = append(m.Mutants, mutant)
		}
	}
}

// try runs tests against a mutant; nil for one that is no Rego.
func (t *Tests) try(ctx context.Context, file string, c *change, tests []string, passes map[string]map[string]bool) *Mutant {
	module := t.modules[file].Copy()
	out := c.apply(module)
	mutated := *t
	mutated.opts.Coverage, mutated.quick = false, true
	mutated.modules = maps.Clone(t.modules)
	mutated.modules[file] = module
	out.Survived = true
	for _, test := range tests {
		by, err := mutated.notices(ctx, test, passes[test])
		if err != nil {
			return nil
		}
		if by != "" {
			out.Survived, out.By = false, by
			return out
		}
	}
	return out
}

// notices returns a case that passed before and does not now.
func (t *Tests) notices(ctx context.Context, file string, passed map[string]bool) (string, error) {
	modules, err := t.needed(file)
	if err != nil {
		return "", err
	}
	report := &policytest.Report{File: file}
	if err := t.runModules(ctx, file, modules, report); err != nil {
		return "", err
	}
	seen := 0
	for i := range report.Cases {
		c := &report.Cases[i]
		if passed[c.Name] && c.Outcome != policytest.Passed {
			return c.Name, nil
		}
		if passed[c.Name] {
			seen++
		}
	}
	if seen < len(passed) {
		return "a case that is not there any more", nil
	}
	return "", nil
}

// change is a change of one place of a module: of the rule or of the expression
// that is the nth in the order of the text.
type change struct {
	rule, expr int // expr is -1 for a change of the rule itself
	operator   string
	edit       func(*ast.Expr) string
}

// changesOf returns the changes of a module.
func changesOf(m *ast.Module) []*change {
	var out []*change
	for i, r := range rulesOf(m) {
		if r.Default || len(r.Body) == 0 {
			continue
		}
		if !constant(r.Body) {
			out = append(out, &change{rule: i, expr: -1, operator: "rule"})
		}
		for j, e := range exprsOf(r) {
			for _, op := range operators {
				if edit := op.edit(e); edit != nil {
					out = append(out, &change{rule: i, expr: j, operator: op.name, edit: edit})
				}
			}
		}
	}
	return out
}

// constant says whether a body holds whatever is judged.
func constant(b ast.Body) bool {
	return len(b) == 1 && b[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
}

// rulesOf returns the rules of a module, and those behind else.
func rulesOf(m *ast.Module) []*ast.Rule {
	var out []*ast.Rule
	for _, r := range m.Rules {
		for ; r != nil; r = r.Else {
			out = append(out, r)
		}
	}
	return out
}

// exprsOf returns the expressions of a rule's body, and those within.
func exprsOf(r *ast.Rule) []*ast.Expr {
	var out []*ast.Expr
	ast.WalkExprs(r.Body, func(e *ast.Expr) bool {
		out = append(out, e)
		return false
	})
	return out
}

// apply changes a module.
func (c *change) apply(m *ast.Module) *Mutant {
	r := rulesOf(m)[c.rule]
	out := &Mutant{Operator: c.operator, Rule: r.Head.Ref().GroundPrefix().String()}
	at := r.Loc()
	if c.expr < 0 {
		out.Before, out.After = lineText(at), "(never holds)"
		r.Body.Append(ast.NewExpr(ast.BooleanTerm(false))) // the rest gives variables their values
	} else {
		e := exprsOf(r)[c.expr]
		at = cmpLocation(e.Location, at)
		out.Before = lineText(at)
		out.After = c.edit(e)
	}
	if at != nil {
		out.Position = object.Position{File: at.File, Line: at.Row, Column: at.Col}
	}
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%s %s %s %d %d", out.Rule, out.Before, out.After, c.rule, c.expr)
	out.ID = fmt.Sprintf("%s-%06x", c.operator, h.Sum32()&0xffffff)
	return out
}

func cmpLocation(a, b *ast.Location) *ast.Location {
	if a != nil {
		return a
	}
	return b
}

// lineText is the first line of the text at a place.
func lineText(l *ast.Location) string {
	if l == nil {
		return ""
	}
	line, _, _ := strings.Cut(string(l.Text), "\n")
	return clip(strings.TrimSpace(line), maxValue)
}

// operators are the sorts of changes of an expression. Each returns nil where it
// does not apply, else what makes the change and says what is there then.
var operators = []struct {
	name string
	edit func(*ast.Expr) func(*ast.Expr) string
}{
	{"negate", negate},
	{"bound", bound},
	{"drop", drop},
	{"constant", otherConstant},
}

// opposites are comparisons and what holds where they do not.
var opposites = map[string]*ast.Builtin{
	"equal": ast.NotEqual, "neq": ast.Equal, "lt": ast.GreaterThanEq, "gte": ast.LessThan, "gt": ast.LessThanEq, "lte": ast.GreaterThan,
}

// bounds are comparisons and those that differ where both sides are the same.
var bounds = map[string]*ast.Builtin{
	"lt": ast.LessThanEq, "gte": ast.GreaterThan, "gt": ast.GreaterThanEq, "lte": ast.LessThan,
}

func replace(with *ast.Builtin) func(*ast.Expr) string {
	if with == nil {
		return nil
	}
	return func(e *ast.Expr) string {
		if terms, ok := e.Terms.([]*ast.Term); ok {
			terms[0] = ast.NewTerm(with.Ref())
		}
		return show(e)
	}
}

// show returns an expression as people write it.
func show(e *ast.Expr) string {
	if !e.IsCall() || len(e.Operands()) != 2 || len(e.With) > 0 {
		return clip(e.String(), maxValue)
	}
	infix := ""
	if b := ast.BuiltinMap[e.Operator().String()]; b != nil {
		infix = b.Infix
	}
	if infix == "" {
		return clip(e.String(), maxValue)
	}
	not := ""
	if e.Negated {
		not = "not "
	}
	return clip(not+e.Operand(0).String()+" "+infix+" "+e.Operand(1).String(), maxValue)
}

// negate makes an expression hold where it did not.
func negate(e *ast.Expr) func(*ast.Expr) string {
	if !changeable(e) {
		return nil
	}
	if e.IsCall() && !e.Negated {
		if edit := replace(opposites[e.Operator().String()]); edit != nil {
			return edit
		}
	}
	return func(e *ast.Expr) string {
		e.Negated = !e.Negated
		return show(e)
	}
}

// bound moves a bound by one.
func bound(e *ast.Expr) func(*ast.Expr) string {
	if !e.IsCall() {
		return nil
	}
	return replace(bounds[e.Operator().String()])
}

// drop takes an expression out.
func drop(e *ast.Expr) func(*ast.Expr) string {
	if !changeable(e) {
		return nil
	}
	return func(e *ast.Expr) string {
		e.Terms, e.Negated, e.With = ast.BooleanTerm(true), false, nil
		return "(gone)"
	}
}

// changeable says whether an expression is a condition: neither a constant nor
// what gives a variable its value.
func changeable(e *ast.Expr) bool {
	switch terms := e.Terms.(type) {
	case *ast.SomeDecl:
		return false
	case *ast.Term:
		_, isConstant := terms.Value.(ast.Boolean)
		return !isConstant
	}
	if !e.IsCall() {
		return true
	}
	op := e.Operator().String()
	return op != "assign" && op != "print" && op != "trace" && (op != "eq" || e.Negated)
}

// otherConstant changes a constant of a comparison.
func otherConstant(e *ast.Expr) func(*ast.Expr) string {
	if !e.IsCall() || opposites[e.Operator().String()] == nil && e.Operator().String() != "eq" {
		return nil
	}
	for i, t := range e.Operands() {
		if changed := otherValue(t); changed != nil {
			return func(e *ast.Expr) string {
				if terms, ok := e.Terms.([]*ast.Term); ok {
					terms[i+1] = changed
				}
				return show(e)
			}
		}
	}
	return nil
}

// otherValue returns a constant that differs, nil for what is none.
func otherValue(t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.String:
		return ast.StringTerm(string(v) + "~")
	case ast.Boolean:
		return ast.BooleanTerm(!bool(v))
	case ast.Number:
		if n, ok := v.Int(); ok {
			return ast.IntNumberTerm(n + 1)
		}
	}
	return nil
}
