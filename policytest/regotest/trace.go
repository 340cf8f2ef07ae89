// SPDX-License-Identifier: Apache-2.0

package regotest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policytest"
)

// tracer notes what an evaluation ran. What the compiler made of one expression
// is told as that one.
type tracer struct {
	// owner is the expression, as it is written, that each was made of.
	owner map[*ast.Expr]*ast.Expr
	hits  map[*ast.Expr]*hit
	exits map[*ast.Rule]bool
	files map[string][]byte
	// within is the test whose failure is looked for: failed is the last of its
	// expressions that did not hold, and why.
	within map[*ast.Expr]int
	failed *ast.Expr
	why    string
}

type hit struct{ evals, fails, ownFails int }

func newTracer(c *ast.Compiler, files map[string][]byte) *tracer {
	t := &tracer{owner: map[*ast.Expr]*ast.Expr{}, hits: map[*ast.Expr]*hit{}, exits: map[*ast.Rule]bool{}, files: files}
	for _, m := range c.Modules {
		ast.WalkBodies(m, func(b ast.Body) bool {
			t.own(b)
			return false
		})
	}
	return t
}

// own notes of which expressions those of a body were made.
func (t *tracer) own(body ast.Body) {
	var last *ast.Expr
	for _, e := range slices.Backward(body) {
		if !e.Generated || last == nil {
			last = e
		}
		t.owner[e] = last
	}
}

// Enabled implements topdown.QueryTracer.
func (t *tracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (t *tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (t *tracer) TraceEvent(e topdown.Event) {
	switch node := e.Node.(type) {
	case *ast.Rule:
		if e.Op == topdown.ExitOp {
			t.exits[node] = true
		}
	case *ast.Expr:
		t.expression(node, &e)
	}
}

func (t *tracer) expression(x *ast.Expr, e *topdown.Event) {
	owner := t.owner[x]
	if owner == nil {
		return
	}
	h := t.hits[owner]
	if h == nil {
		h = &hit{}
		t.hits[owner] = h
	}
	switch e.Op {
	case topdown.EvalOp:
		if x == owner {
			h.evals++
		}
	case topdown.FailOp:
		h.fails++
		if x == owner {
			h.ownFails++
		}
		t.fail(x, owner, e)
	}
}

// fail notes that an expression of the test does not hold.
func (t *tracer) fail(x, owner *ast.Expr, e *topdown.Event) {
	at, ok := t.within[owner]
	if !ok || t.failed != nil && t.within[t.failed] > at {
		return
	}
	t.failed, t.why = owner, why(x, e)
}

// maxValue is how much of a value is told, in bytes.
const maxValue = 200

// why says what the operands of a comparison came to.
func why(x *ast.Expr, e *topdown.Event) string {
	if x.Negated || !x.IsCall() || len(x.Operands()) != 2 {
		return ""
	}
	words := map[string]string{"eq": "is not", "equal": "is not", "neq": "is", "lt": "is not below", "lte": "is above", "gt": "is not above", "gte": "is below"}
	word := words[x.Operator().String()]
	a, b := e.Plug(x.Operand(0)), e.Plug(x.Operand(1))
	if word == "" || !a.IsGround() || !b.IsGround() || refers(a) || refers(b) {
		return ""
	}
	return fmt.Sprintf("%s %s %s", clip(a.String(), maxValue), word, clip(b.String(), maxValue))
}

// refers says whether a term is a name, not a value.
func refers(t *ast.Term) bool {
	_, ok := t.Value.(ast.Ref)
	return ok
}

// query evaluates a test, with every clause and condition that it comes by.
func (r *run) query(ctx context.Context, rule *ast.Rule, t *tracer, failed *[]topdown.Error) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.tests.opts.Timeout, defaultTimeout))
	defer cancel()
	ref := rule.Module.Package.Path.Extend(rule.Head.Ref().GroundPrefix())
	body, err := r.compiler.QueryCompiler().Compile(ast.NewBody(ast.NewExpr(ast.NewTerm(ref))))
	if err != nil {
		return err
	}
	txn, err := r.tests.store.NewTransaction(ctx)
	if err != nil {
		return err
	}
	defer r.tests.store.Abort(ctx, txn)
	halt := topdown.NewCancel()
	defer context.AfterFunc(ctx, halt.Cancel)()
	q := topdown.NewQuery(body).WithCompiler(r.compiler).WithStore(r.tests.store).WithTransaction(txn).WithCancel(halt).
		WithIndexing(false).WithEarlyExit(false).WithBuiltinErrorList(failed).WithBuiltins(r.tests.forQuery())
	if t != nil {
		q = q.WithQueryTracer(t)
	}
	_, err = q.Run(ctx)
	return err
}

// explain says which expression of a test did not hold.
func (r *run) explain(ctx context.Context, rule *ast.Rule, c *policytest.Case) {
	t := newTracer(r.compiler, r.tests.opts.Files)
	t.within = map[*ast.Expr]int{}
	for i, e := range rule.Body {
		t.within[t.owner[e]] = i
	}
	if err := r.query(ctx, rule, t, nil); err != nil || t.failed == nil {
		c.Message = "the test does not hold"
		return
	}
	text := "the test"
	if l := t.failed.Location; l != nil {
		text = clip(strings.Join(strings.Fields(string(l.Text)), " "), maxValue)
		c.Position = object.Position{File: l.File, Line: l.Row, Column: l.Col}
	}
	c.Message = text + " does not hold"
	if t.why != "" {
		c.Message += ": " + t.why
	}
}

// calledOut says whether a test would have called out: what it says then is not
// to be relied on.
func (r *run) calledOut(ctx context.Context, rule *ast.Rule) string {
	if !r.mayCallOut() {
		return ""
	}
	var failed []topdown.Error
	if err := r.query(ctx, rule, nil, &failed); err != nil {
		return ""
	}
	for i := range failed {
		if strings.Contains(failed[i].Message, "disallowed host") || strings.Contains(failed[i].Message, "remote reference") {
			return "it calls the network, which is not allowed: replace the function, as in with http.send as answer (" + failed[i].Message + ")"
		}
	}
	return ""
}

// mayCallOut says whether there is a function in the modules that could.
func (r *run) mayCallOut() bool {
	found := false
	for _, m := range r.compiler.Modules {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			found = found || rego.CallsOut(ref.String())
			return found
		})
	}
	return found
}

// coverage runs the tests again and says what they ran of the policies.
func (r *run) coverage(ctx context.Context) []policytest.Branch {
	for name, rule := range r.rules {
		if name = name[strings.LastIndexByte(name, '.')+1:]; strings.HasPrefix(name, "test_") {
			_ = r.query(ctx, rule, r.trace, nil) // its verdict was told
		}
	}
	var out []policytest.Branch
	for name, m := range r.compiler.Modules {
		if IsTest(name, r.tests.opts.Files[name]) {
			continue
		}
		for _, rule := range m.Rules {
			for one := rule; one != nil; one = one.Else {
				out = append(out, r.trace.branches(packageName(m), one)...)
			}
		}
	}
	policytest.SortBranches(out)
	return out
}

// branches returns the places of a rule: the rule itself, and what each of its
// conditions came to.
func (t *tracer) branches(pkg string, rule *ast.Rule) []policytest.Branch {
	if rule.Default || !rule.Loc().HasFile() {
		return nil
	}
	name := rule.Head.Ref().GroundPrefix().String()
	place := func(l *ast.Location) policytest.Branch {
		return policytest.Branch{
			Policy: pkg, Rule: name, Position: object.Position{File: l.File, Line: l.Row, Column: l.Col},
			Text: clip(strings.TrimSpace(object.LineOf(t.files[l.File], l.Row)), maxValue),
		}
	}
	whole := place(rule.Loc())
	whole.Hit = t.exits[rule]
	out := []policytest.Branch{whole}
	ast.WalkBodies(withoutElse(rule), func(b ast.Body) bool {
		for _, e := range b {
			if t.owner[e] != e || !conditional(e) {
				continue
			}
			h := t.hits[e]
			if h == nil {
				h = &hit{}
			}
			yes, no := place(e.Location), place(e.Location)
			yes.Way, yes.Hit = "true", h.evals > h.ownFails
			no.Way, no.Hit = "false", h.fails > 0
			out = append(out, yes, no)
		}
		return false
	})
	return out
}

// withoutElse is a rule alone: what stands behind else is a rule of its own.
func withoutElse(rule *ast.Rule) *ast.Rule {
	alone := *rule
	alone.Else = nil
	return &alone
}

// conditional says whether people write an expression for it to hold or not.
func conditional(e *ast.Expr) bool {
	if e.Generated || e.Location == nil || !e.Location.HasFile() {
		return false
	}
	text := string(e.Location.Text)
	switch {
	case strings.Contains(text, ":=") && !strings.ContainsAny(text, "{["), strings.HasPrefix(text, "some "), strings.HasPrefix(text, "print("):
		return false
	case e.IsCall() && e.Operator().String() == "internal.print":
		return false
	}
	term, ok := e.Terms.(*ast.Term)
	if !ok {
		return !assigns(e)
	}
	_, constant := term.Value.(ast.Boolean)
	return !constant
}

// assigns says whether an expression gives a variable its value.
func assigns(e *ast.Expr) bool {
	if !e.IsEquality() {
		return false
	}
	text := strings.TrimLeft(string(e.Location.Text), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
	return strings.HasPrefix(strings.TrimSpace(text), ":=")
}
