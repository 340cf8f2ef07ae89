// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// rules writes what a rule of the template comes to, and goes on along a path in
// it.
func (w *regoWriter) rules(rules []*ast.Rule, path []*ast.Term, s scope, k goOn) (*plan, error) {
	switch rules[0].Head.RuleKind() {
	case ast.MultiValue:
		return w.members(rules, path, s, k)
	case ast.SingleValue:
	}
	if rules[0].Head.Key != nil {
		return w.entries(rules, path, s, k)
	}
	p, err := w.defined(rules, nil)
	if err != nil {
		return nil, err
	}
	return p.then(func(v value) (*plan, error) { return w.walk(v, path, s, k) })
}

// members goes on with the elements of a set that rules make.
func (w *regoWriter) members(rules []*ast.Rule, path []*ast.Term, s scope, k goOn) (*plan, error) {
	if len(path) == 0 {
		var all []*plan
		for _, r := range rules {
			p, err := w.member(r, nil, s, func(v value, _ scope) (*plan, error) { return leaf(v), nil })
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		return k(settled(value{all: alternatives(all...), set: true}), s)
	}
	var all []*plan
	for _, r := range rules {
		p, err := w.member(r, path[0], s, func(v value, _ scope) (*plan, error) {
			return w.unify(path[0], v, s, func(s scope) (*plan, error) { return w.walk(v, path[1:], s, k) })
		})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return alternatives(all...), nil
}

// member goes on with the elements that one definition makes. What the caller
// knows of an element is known before the body is evaluated.
func (w *regoWriter) member(r *ast.Rule, wanted *ast.Term, s scope, k goOn) (*plan, error) {
	inner := scope{}
	if wanted != nil {
		inner = foreseen(r.Head.Key, wanted, s)
	}
	return w.body(r.Body, inner, func(inner scope) (*plan, error) {
		return w.term(r.Head.Key, inner, func(v value, _ scope) (*plan, error) {
			return defined(v, func(v value) (*plan, error) { return k(v, inner) })
		})
	})
}

// foreseen binds the variables of a head to what the caller asks for.
func foreseen(head, wanted *ast.Term, s scope) scope {
	out := scope{}
	h, ok := head.Value.(ast.Object)
	given, isObject := wanted.Value.(ast.Object)
	if !ok || !isObject {
		return out
	}
	h.Foreach(func(key, t *ast.Term) {
		name, isVar := t.Value.(ast.Var)
		v := given.Get(key)
		if !isVar || v == nil {
			return
		}
		switch x := v.Value.(type) {
		case ast.Var:
			if bound, ok := s[x]; ok && bound.known != nil {
				out[name] = bound
			}
		case ast.String, ast.Number, ast.Boolean, ast.Null:
			out[name] = constant(x)
		}
	})
	return out
}

// entries goes on with the values of an object that rules make.
func (w *regoWriter) entries(rules []*ast.Rule, path []*ast.Term, s scope, k goOn) (*plan, error) {
	if len(path) == 0 {
		return nil, fmt.Errorf("all of the object %s is taken for a value", rules[0].Head.Name)
	}
	var all []*plan
	for _, r := range rules {
		p, err := w.body(r.Body, scope{}, func(inner scope) (*plan, error) {
			return w.terms([]*ast.Term{r.Head.Key, r.Head.Value}, inner, func(list []value, _ scope) (*plan, error) {
				return w.unify(path[0], list[0], s, func(s scope) (*plan, error) { return w.walk(list[1], path[1:], s, k) })
			})
		})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return alternatives(all...), nil
}

// defined returns the value of a function, or of a rule that has one value.
func (w *regoWriter) defined(rules []*ast.Rule, args []value) (*plan, error) {
	var all []*plan
	var fallback *ast.Rule
	for _, r := range rules {
		if r.Default {
			fallback = r
			continue
		}
		p, err := w.chain(r, args)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	p := alternatives(all...)
	if fallback != nil {
		d, err := w.term(fallback.Head.Value, scope{}, func(v value, _ scope) (*plan, error) { return leaf(v), nil })
		if err != nil {
			return nil, err
		}
		p = alternatives(p, guard(not(p.condition()), d))
	}
	return w.joined(p, rules[0].Head.Name.String())
}

// chain writes one definition, and those after its else.
func (w *regoWriter) chain(r *ast.Rule, args []value) (*plan, error) {
	p, err := w.params(r.Head.Args, args, scope{}, func(s scope) (*plan, error) {
		return w.body(r.Body, s, func(s scope) (*plan, error) {
			return w.term(r.Head.Value, s, func(v value, _ scope) (*plan, error) {
				return defined(v, func(v value) (*plan, error) { return leaf(v), nil })
			})
		})
	})
	if err != nil || r.Else == nil {
		return p, err
	}
	rest, err := w.chain(r.Else, args)
	if err != nil {
		return nil, err
	}
	return alternatives(p, guard(not(p.condition()), rest)), nil
}

func (w *regoWriter) params(params []*ast.Term, args []value, s scope, k next) (*plan, error) {
	if len(params) == 0 {
		return k(s)
	}
	return w.unify(params[0], args[0], s, func(s scope) (*plan, error) { return w.params(params[1:], args[1:], s, k) })
}

// maxBranches is how many values a function may have before what comes after is
// written once for all of them.
const maxBranches = 3

// joined makes one value of many: what comes after is then written once.
func (w *regoWriter) joined(p *plan, name string) (*plan, error) {
	leaves, _ := p.leaves()
	if len(leaves) == 0 {
		return nothingFound, nil
	}
	equal, sh := true, shape{}
	for i, v := range leaves {
		equal = equal && v.known != nil && v.known.Compare(orFalse(leaves[0].known)) == 0
		if v.fields != nil || v.isList || v.all != nil || v.counted != nil || v.within != "" {
			return p, nil
		}
		if own := plainShape(v); i == 0 {
			sh = own
		} else if own != sh {
			sh = shape{}
		}
	}
	if equal {
		return guard(p.condition(), leaf(leaves[0])), nil
	}
	if len(leaves) <= maxBranches {
		return p, nil
	}
	list, err := p.collected()
	if err != nil {
		return p, nil //nolint:nilerr // what cannot be joined is written out
	}
	if len(list) > maxExpression {
		return nil, errTooLarge
	}
	item := w.name(name)
	return each(list, item, "", leaf(value{expr: item, shape: sh})), nil
}

func orFalse(v ast.Value) ast.Value {
	if v == nil {
		return ast.Boolean(false)
	}
	return v
}

// plainShape returns the shape of a scalar.
func plainShape(v value) shape {
	if v.known == nil {
		return v.shape
	}
	switch v.kind() {
	case boolValue:
		return boolShape
	case stringValue:
		return textShape
	case intValue:
		return floatShape
	}
	return shape{}
}

// unify makes a term and a value the same: variables that have no value get
// theirs.
func (w *regoWriter) unify(t *ast.Term, v value, s scope, k next) (*plan, error) {
	if name, ok := t.Value.(ast.Var); ok && unbound(t, s) {
		return defined(v, func(v value) (*plan, error) {
			if name.IsWildcard() {
				return k(s)
			}
			return w.bound(name, v, s, k)
		})
	}
	if unbound(t, s) {
		return w.destructure(t, v, s, k)
	}
	return w.term(t, s, func(x value, s scope) (*plan, error) {
		cond, err := same(x, v)
		if err != nil {
			return nil, err
		}
		return w.where(cond, s, k)
	})
}

// longValue is how long the expression of a variable may be before it is worked
// out once for all its uses.
const longValue = 96

// bound goes on with a variable bound.
func (w *regoWriter) bound(name ast.Var, v value, s scope, k next) (*plan, error) {
	if v.known != nil || len(v.expr) < longValue || plainPath.MatchString(v.expr) || v.message {
		return k(s.with(name, v))
	}
	item := w.name(string(w.code.Compiler.RewrittenVars[name]))
	p, err := k(s.with(name, value{expr: item, shape: v.shape}))
	if err != nil {
		return nil, err
	}
	return each("["+v.expr+"]", item, "", p), nil
}

// destructure binds the variables of a pattern to the parts of a value.
func (w *regoWriter) destructure(t *ast.Term, v value, s scope, k next) (*plan, error) {
	var terms []*ast.Term
	var parts []value
	switch pattern := t.Value.(type) {
	case *ast.Array:
		if a, ok := v.known.(*ast.Array); ok {
			_, v.items = known(a)
			v.isList = true
		}
		if !v.isList {
			return nil, errors.New("a list is taken apart of which the length is not known")
		}
		if len(v.items) != pattern.Len() {
			return nothingFound, nil
		}
		pattern.Foreach(func(t *ast.Term) { terms = append(terms, t) })
		parts = v.items
	case ast.Object:
		complete := true
		pattern.Foreach(func(key, t *ast.Term) {
			x, cond, err := w.get(v, constant(key.Value))
			complete = complete && err == nil && cond == always
			terms, parts = append(terms, t), append(parts, x)
		})
		if !complete {
			return nil, errors.New("an object is taken apart of which the fields are not known")
		}
	default:
		return nil, errors.New("a pattern of a kind that is not supported")
	}
	return w.params(terms, parts, s, k)
}
