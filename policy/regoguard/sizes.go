// SPDX-License-Identifier: Apache-2.0

package regoguard

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxWritten is how many values a value of a rule may be made of once its
// variables are replaced by what they stand for, which is how the library hands
// it on: in x1 := [x0, x0]; x2 := [x1, x1]; … they double with every line.
const maxWritten = 1_000_000

// checkSizes returns what is wrong with the first rule that writes out a value
// that is larger. What functions return and references find counts as one: that
// is shared, not written out again.
func checkSizes(c *ast.Compiler) *ast.Error {
	s := &sizes{arguments: map[string][]int{}}
	sorted, _ := c.Graph.Sort()
	for _, node := range slices.Backward(sorted) { // a rule before the functions that it calls
		rule, ok := node.(*ast.Rule)
		for ; ok && rule != nil; rule = rule.Else {
			s.rule(rule)
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

// sizes are those of the values of rules.
type sizes struct {
	// arguments are the largest that functions are given.
	arguments map[string][]int
	// variables are those of the rule, as far as they are bound.
	variables map[ast.Var]int
	at        *ast.Location
	err       *ast.Error
}

func (s *sizes) rule(r *ast.Rule) {
	s.variables, s.at = map[ast.Var]int{}, r.Loc()
	given := s.arguments[r.Ref().String()]
	for i, arg := range r.Head.Args {
		if i < len(given) {
			s.bind(arg, given[i])
		}
	}
	s.body(r.Body)
	s.at = r.Loc()
	for _, t := range r.Head.Reference {
		s.look(t)
	}
	if r.Head.Key != nil {
		s.look(r.Head.Key)
	}
	if r.Head.Value != nil {
		s.look(r.Head.Value)
	}
}

func (s *sizes) body(b ast.Body) {
	for _, e := range b {
		s.at = e.Loc()
		for _, w := range e.With {
			s.look(w.Value)
		}
		switch terms := e.Terms.(type) {
		case *ast.Term:
			s.look(terms)
		case *ast.Every:
			s.look(terms.Domain)
			s.body(terms.Body)
		case []*ast.Term:
			s.call(e, terms)
		}
	}
}

// call looks at an expression that is an operator and its operands.
func (s *sizes) call(e *ast.Expr, terms []*ast.Term) {
	operands := terms[1:]
	found := make([]int, len(operands))
	for i, t := range operands {
		found[i] = s.look(t)
	}
	if e.IsEquality() && len(operands) == 2 {
		s.unify(operands[0], operands[1])
		return
	}
	name := terms[0].Value.String()
	given := s.arguments[name]
	for i, n := range found {
		if i == len(given) {
			given = append(given, 0)
		}
		given[i] = max(given[i], n)
	}
	s.arguments[name] = given
	for _, t := range operands {
		s.bind(t, 1)
	}
}

// unify binds the variables of one side to what they are on the other.
func (s *sizes) unify(a, b *ast.Term) {
	x, isArray := a.Value.(*ast.Array)
	y, areArrays := b.Value.(*ast.Array)
	if isArray && areArrays && x.Len() == y.Len() {
		for i := range x.Len() {
			s.unify(x.Elem(i), y.Elem(i))
		}
		return
	}
	left, right := s.of(a), s.of(b)
	s.bind(a, right)
	s.bind(b, left)
}

// bind notes the size of the variables in a term that are not bound yet: it is
// part of a value of that size.
func (s *sizes) bind(t *ast.Term, size int) {
	switch v := t.Value.(type) {
	case ast.Var:
		if _, bound := s.variables[v]; !bound {
			s.variables[v] = size
		}
	case *ast.Array:
		v.Foreach(func(item *ast.Term) { s.bind(item, size) })
	case ast.Object:
		v.Foreach(func(_, value *ast.Term) { s.bind(value, size) })
	}
}

// look returns the size of a term, and looks at what is inside of it that is
// evaluated by itself.
func (s *sizes) look(t *ast.Term) int {
	at := s.at
	ast.WalkTerms(t, func(inner *ast.Term) bool {
		switch v := inner.Value.(type) {
		case *ast.ArrayComprehension:
			s.comprehension(v.Body, v.Term)
		case *ast.SetComprehension:
			s.comprehension(v.Body, v.Term)
		case *ast.ObjectComprehension:
			s.comprehension(v.Body, v.Key, v.Value)
		case ast.Ref:
			for _, part := range v[1:] {
				s.check(s.of(part))
			}
			return false
		case ast.Call:
			for _, operand := range v[1:] {
				s.check(s.of(operand))
			}
			return false
		default:
			return false
		}
		return true
	})
	s.at = at
	n := s.of(t)
	s.check(n)
	return n
}

func (s *sizes) comprehension(body ast.Body, terms ...*ast.Term) {
	s.body(body)
	for _, t := range terms {
		s.look(t)
	}
}

// of returns the size of a term.
func (s *sizes) of(t *ast.Term) int {
	n := 1
	add := func(inner *ast.Term) { n = min(n+s.of(inner), maxWritten+1) }
	switch v := t.Value.(type) {
	case ast.Var:
		n = max(n, s.variables[v])
	case *ast.Array:
		if !v.IsGround() {
			v.Foreach(add)
		}
	case ast.Set:
		if !v.IsGround() {
			v.Foreach(add)
		}
	case ast.Object:
		if !v.IsGround() {
			v.Foreach(func(key, value *ast.Term) { add(key); add(value) })
		}
	}
	return n
}

func (s *sizes) check(n int) {
	if n > maxWritten && s.err == nil {
		s.err = ast.NewError(ast.CompileErr, s.at, "a value is made of more than %d values once it is written out: variables stand for others that hold them several times", maxWritten)
	}
}
