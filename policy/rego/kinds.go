// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNesting is how many rules deep the kinds of a rule are looked for.
const maxNesting = 8

var kindRef = ast.MustParseRef("input.kind")

// kinds returns the only kinds that a rule can be about, by what its clauses
// begin with: input.kind == "Pod", or a rule that says so. Nil is all kinds.
func (m *Modules) kinds(e *entry) map[string]bool { return m.kindsOf(e.clauses, 0) }

func (m *Modules) kindsOf(clauses []*ast.Rule, nesting int) map[string]bool {
	if nesting > maxNesting {
		return nil
	}
	out := map[string]bool{}
	for _, r := range clauses {
		for ; r != nil; r = r.Else {
			if isFalse(r.Head.Value) {
				continue
			}
			kinds := m.kindsOfBody(r.Body, nesting)
			if r.Default || kinds == nil {
				return nil
			}
			for k := range kinds {
				out[k] = true
			}
		}
	}
	return out
}

func isFalse(t *ast.Term) bool {
	if t == nil {
		return false
	}
	b, ok := t.Value.(ast.Boolean)
	return ok && !bool(b)
}

// kindsOfBody returns the kinds for which a body can hold; nil for all.
func (m *Modules) kindsOfBody(body ast.Body, nesting int) map[string]bool {
	kind := map[ast.Var]bool{} // variables that hold the kind
	isKind := func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			return v.Equal(kindRef)
		case ast.Var:
			return kind[v]
		}
		return false
	}
	for _, e := range body {
		if e.Negated || len(e.With) > 0 {
			continue
		}
		if kinds := m.kindsOfExpr(e, isKind, nesting); kinds != nil {
			return kinds
		}
		if e.IsEquality() {
			for i := range 2 {
				if v, ok := e.Operand(i).Value.(ast.Var); ok && isKind(e.Operand(1-i)) {
					kind[v] = true
				}
			}
		}
	}
	return nil
}

func (m *Modules) kindsOfExpr(e *ast.Expr, isKind func(*ast.Term) bool, nesting int) map[string]bool {
	if t, ok := e.Terms.(*ast.Term); ok {
		ref, ok := t.Value.(ast.Ref)
		if !ok || !ref.HasPrefix(ast.DefaultRootRef) || !ref.IsGround() {
			return nil
		}
		rules := m.compiler.GetRulesExact(ref)
		if len(rules) == 0 || !allComplete(rules) {
			return nil
		}
		return m.kindsOf(rules, nesting+1)
	}
	if !e.IsCall() || len(e.Operands()) != 2 {
		return nil
	}
	a, b := e.Operand(0), e.Operand(1)
	switch op := e.Operator().String(); op {
	case "eq", "equal":
		if isKind(b) {
			a, b = b, a
		}
		if s, ok := b.Value.(ast.String); ok && isKind(a) {
			return map[string]bool{string(s): true}
		}
	case "internal.member_2":
		if isKind(a) {
			return texts(b.Value)
		}
	}
	return nil
}

func allComplete(rules []*ast.Rule) bool {
	for _, r := range rules {
		if len(r.Head.Args) > 0 || r.Head.DocKind() != ast.CompleteDoc {
			return false
		}
	}
	return true
}

// texts returns the members of a set or list of texts; nil where it holds
// anything else.
func texts(v ast.Value) map[string]bool {
	out := map[string]bool{}
	add := func(t *ast.Term) bool {
		s, ok := t.Value.(ast.String)
		out[string(s)] = true
		return ok
	}
	switch v := v.(type) {
	case *ast.Array:
		for i := range v.Len() {
			if !add(v.Elem(i)) {
				return nil
			}
		}
		return out
	case ast.Set:
		for _, t := range v.Slice() {
			if !add(t) {
				return nil
			}
		}
		return out
	}
	return nil
}
