// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// level is how much of what a template is given a value is.
type level uint8

const (
	aPart level = iota // of the review, or nothing of it
	theReview
	theInput // which holds the review
)

// wholes follow the input and the review, which rules hand on by other names: to
// variables and to functions. Everything else that is done with them as a whole
// may read any part.
type wholes struct {
	// functions are the operands that functions are given, for rules of a name.
	functions map[string][]level
	variables map[ast.Var]level
	grown     bool
	any       bool
}

// readsAny says whether rules may read any part of the review: which is known
// only when they are evaluated.
func readsAny(modules map[string]*ast.Module) bool {
	w := &wholes{functions: map[string][]level{}}
	for _, m := range modules {
		for _, rule := range m.Rules {
			if len(rule.Head.Args) > 0 {
				w.functions[rule.Ref().String()] = make([]level, len(rule.Head.Args))
			}
		}
	}
	for w.grown = true; w.grown && !w.any; {
		w.grown = false
		for _, m := range modules {
			for _, rule := range m.Rules {
				for r := rule; r != nil; r = r.Else {
					w.rule(r)
				}
			}
		}
	}
	return w.any
}

func (w *wholes) rule(r *ast.Rule) {
	w.variables = map[ast.Var]level{}
	given := w.functions[r.Ref().String()]
	for i, arg := range r.Head.Args {
		if i >= len(given) || given[i] == aPart {
			continue
		}
		if v, ok := arg.Value.(ast.Var); ok {
			w.variables[v] = given[i]
		} else {
			w.any = true
		}
	}
	w.body(r.Body)
	for _, t := range append(r.Head.Reference, r.Head.Key, r.Head.Value) {
		if t != nil {
			w.look(t)
		}
	}
}

func (w *wholes) body(b ast.Body) {
	for _, e := range b {
		for _, with := range e.With {
			w.look(with.Value)
		}
		switch terms := e.Terms.(type) {
		case *ast.Term:
			w.inside(terms)
		case *ast.Every:
			w.look(terms.Domain)
			w.body(terms.Body)
		case []*ast.Term:
			w.call(e, terms[0], terms[1:])
		}
	}
}

func (w *wholes) call(e *ast.Expr, operator *ast.Term, operands []*ast.Term) {
	if e.IsEquality() && len(operands) == 2 && !e.Negated && (w.names(operands[0], operands[1]) || w.names(operands[1], operands[0])) {
		return
	}
	name := operator.Value.String()
	given := w.functions[name]
	for i, t := range operands {
		switch l := w.of(t); {
		case l == aPart:
			w.inside(t)
		case i < len(given):
			w.grown = w.grown || l > given[i]
			given[i] = max(given[i], l)
		case name == ast.ObjectGet.Name && i == 0 && aPartOf(l, operands[1]):
		default:
			w.any = true
		}
	}
}

// aPartOf says whether a key is that of a certain part of the review, or of none.
func aPartOf(l level, key *ast.Term) bool {
	switch v := key.Value.(type) {
	case ast.String:
		return l == theReview || v != "review"
	case *ast.Array:
		return v.Len() > 0 && v.IsGround() && aPartOf(l, v.Elem(0))
	}
	return false
}

// names notes that a variable is another name of a whole, if it is one.
func (w *wholes) names(variable, value *ast.Term) bool {
	v, ok := variable.Value.(ast.Var)
	l := w.of(value)
	if !ok || l == aPart {
		return false
	}
	w.variables[v] = max(w.variables[v], l)
	return true
}

// look says that a value is used as a whole.
func (w *wholes) look(t *ast.Term) {
	if w.of(t) != aPart {
		w.any = true
	}
	w.inside(t)
}

// inside looks at what a term holds.
func (w *wholes) inside(t *ast.Term) {
	switch v := t.Value.(type) {
	case ast.Ref:
		w.path(v)
		for _, part := range v[1:] {
			w.look(part)
		}
	case *ast.Array:
		v.Foreach(w.look)
	case ast.Set:
		v.Foreach(w.look)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { w.look(key); w.look(value) })
	case *ast.ArrayComprehension:
		w.comprehension(v.Body, v.Term)
	case *ast.SetComprehension:
		w.comprehension(v.Body, v.Term)
	case *ast.ObjectComprehension:
		w.comprehension(v.Body, v.Key, v.Value)
	case ast.Call:
		w.call(&ast.Expr{}, v[0], v[1:])
	}
}

func (w *wholes) comprehension(body ast.Body, terms ...*ast.Term) {
	w.body(body)
	for _, t := range terms {
		w.look(t)
	}
}

// of returns how much a term is.
func (w *wholes) of(t *ast.Term) level {
	switch v := t.Value.(type) {
	case ast.Var:
		return w.start(t)
	case ast.Ref:
		return w.path(v)
	}
	return aPart
}

func (w *wholes) start(t *ast.Term) level {
	if t.Equal(ast.InputRootDocument) {
		return theInput
	}
	v, _ := t.Value.(ast.Var)
	return w.variables[v]
}

// path returns how much a reference is to. It notes where that is known only when
// it is evaluated.
func (w *wholes) path(ref ast.Ref) level {
	l := w.start(ref[0])
	for _, step := range ref[1:] {
		word, ok := step.Value.(ast.String)
		switch {
		case l == aPart:
			return aPart
		case !ok:
			w.any = true
			return aPart
		case l == theInput && word == "review":
			l = theReview
		default:
			l = aPart
		}
	}
	return l
}
