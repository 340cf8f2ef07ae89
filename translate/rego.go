// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/gatekeeper"
)

// regoWriter writes Rego as CEL: it evaluates it, with the parameters of the
// constraint known and the object not, and writes down what is left.
type regoWriter struct {
	code       *gatekeeper.Code
	parameters ast.Value
	object     shape
	kinds      []object.GroupKind
	names      map[string]int
	steps      int
	at         *ast.Location
}

// scope is what variables are bound to.
type scope map[ast.Var]value

func (s scope) with(name ast.Var, v value) scope {
	out := maps.Clone(s)
	if out == nil {
		out = scope{}
	}
	out[name] = v
	return out
}

// next goes on with what variables are bound to, goOn with a value.
type (
	next func(scope) (*plan, error)
	goOn func(value, scope) (*plan, error)
)

// limits of what is written.
const (
	maxRegoSteps  = 200_000
	maxUnrolled   = 64
	maxExpression = 1 << 16
	maxMessage    = 1 << 12
)

var errTooLarge = errors.New("it comes to more than can be written out")

// violations returns, for each definition of violation, how it is found.
func (w *regoWriter) violations() ([]*plan, error) {
	var out []*plan
	for _, r := range w.code.Compiler.GetRulesExact(w.code.Violation) {
		p, err := w.member(r, nil, scope{}, func(v value, _ scope) (*plan, error) {
			if msg, ok := v.fields["msg"]; ok {
				return leaf(msg), nil
			}
			if o, ok := v.known.(ast.Object); ok {
				if msg := o.Get(ast.StringTerm("msg")); msg != nil {
					return leaf(constant(msg.Value)), nil
				}
			}
			return nil, errors.New("a violation is no object with msg")
		})
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// name returns a name that no other loop has.
func (w *regoWriter) name(of string) string {
	fields := strings.FieldsFunc(of, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9') })
	base := "item"
	for _, f := range slices.Backward(fields) {
		if isName(f) && f != "orValue" && f != "value" && f != "size" && f != "spec" {
			base = singular(f)
			break
		}
	}
	w.names[base]++
	if n := w.names[base]; n > 1 {
		return base + strconv.Itoa(n)
	}
	return base
}

// body writes expressions that must all hold.
func (w *regoWriter) body(b ast.Body, s scope, k next) (*plan, error) {
	if w.steps++; w.steps > maxRegoSteps {
		return nil, errTooLarge
	}
	if len(b) == 0 {
		return k(s)
	}
	w.at = b[0].Location
	return w.expression(b[0], s, func(s scope) (*plan, error) { return w.body(b[1:], s, k) })
}

func held(scope) (*plan, error) { return leaf(constant(ast.Boolean(true))), nil }

// expression writes one.
func (w *regoWriter) expression(e *ast.Expr, s scope, k next) (*plan, error) {
	if len(e.With) > 0 {
		return nil, errors.New("with replaces the input")
	}
	if e.Negated {
		positive := e.Copy()
		positive.Negated = false
		p, err := w.expression(positive, s, held)
		if err != nil {
			return nil, err
		}
		rest, err := w.unless(p.condition(), s, k)
		return rest, err
	}
	switch t := e.Terms.(type) {
	case *ast.SomeDecl:
		return k(s)
	case *ast.Every:
		return w.every(t, s, k)
	case *ast.Term:
		return w.truthy(t, s, k)
	case []*ast.Term:
		return w.callExpression(t, s, k)
	}
	return nil, errors.New("an expression of a kind that is not supported")
}

// unless goes on where a condition does not hold.
func (w *regoWriter) unless(cond string, s scope, k next) (*plan, error) {
	if cond == always {
		return nothingFound, nil
	}
	rest, err := k(s)
	if err != nil {
		return nil, err
	}
	return guard(not(cond), rest), nil
}

func (w *regoWriter) every(t *ast.Every, s scope, k next) (*plan, error) {
	p, err := w.term(t.Domain, s, func(domain value, s scope) (*plan, error) {
		bad, err := w.iterate(domain, t.Key != nil, func(key, item value) (*plan, error) {
			inner := s.with(t.Value.Value.(ast.Var), item)
			if t.Key != nil {
				inner = inner.with(t.Key.Value.(ast.Var), key)
			}
			p, err := w.body(t.Body, inner, held)
			if err != nil {
				return nil, err
			}
			return guard(not(p.condition()), leaf(constant(ast.Boolean(true)))), nil
		})
		if err != nil {
			return nil, err
		}
		return w.unless(bad.condition(), s, k)
	})
	return p, err
}

// truthy goes on where a term is neither undefined nor false.
func (w *regoWriter) truthy(t *ast.Term, s scope, k next) (*plan, error) {
	if ref, ok := t.Value.(ast.Ref); ok && !w.binds(ref, s) {
		p, err := w.term(t, s, func(v value, _ scope) (*plan, error) {
			return guard(isTrue(v), leaf(constant(ast.Boolean(true)))), nil
		})
		if err != nil {
			return nil, err
		}
		return w.where(p.condition(), s, k)
	}
	return w.term(t, s, func(v value, s scope) (*plan, error) { return w.where(isTrue(v), s, k) })
}

func (w *regoWriter) where(cond string, s scope, k next) (*plan, error) {
	if cond == never {
		return nothingFound, nil
	}
	rest, err := k(s)
	if err != nil {
		return nil, err
	}
	return guard(cond, rest), nil
}

// binds says whether a reference binds a variable that is read later: any but
// those that are written as _.
func (w *regoWriter) binds(ref ast.Ref, s scope) bool {
	for _, t := range ref[1:] {
		if unbound(t, s) && !isWildcard(t) {
			return true
		}
	}
	return false
}

func isWildcard(t *ast.Term) bool {
	v, ok := t.Value.(ast.Var)
	return ok && v.IsWildcard()
}

// unbound says whether a term holds a variable without a value.
func unbound(t *ast.Term, s scope) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		_, ok := s[v]
		return !ok && v != "input" && v != "data"
	case *ast.Array:
		return v.Until(func(t *ast.Term) bool { return unbound(t, s) })
	case ast.Object:
		return v.Until(func(_, t *ast.Term) bool { return unbound(t, s) })
	}
	return false
}

// isTrue is the condition that a value is there and is not false.
func isTrue(v value) string {
	if v.known != nil {
		if v.known.Compare(ast.Boolean(false)) == 0 {
			return never
		}
		return always
	}
	if v.expr == "" {
		return always
	}
	switch v.kind() {
	case boolValue:
		if v.maybe {
			return v.option + ".orValue(false)"
		}
		return v.expr
	case anyValue:
		if v.maybe {
			return v.option + ".orValue(false) != false"
		}
		return "dyn(" + v.expr + ") != false"
	}
	if v.maybe {
		return v.there()
	}
	return always
}

// defined goes on where there is a value.
func defined(v value, k func(value) (*plan, error)) (*plan, error) {
	if !v.maybe {
		return k(v)
	}
	v.maybe = false
	p, err := k(v)
	if err != nil {
		return nil, err
	}
	return guard(v.there(), p), nil
}

// term writes a term. What it goes on with may be an optional value.
func (w *regoWriter) term(t *ast.Term, s scope, k goOn) (*plan, error) {
	switch v := t.Value.(type) {
	case ast.Var:
		if x, ok := s[v]; ok {
			return k(x, s)
		}
		if v == "input" {
			return k(value{within: "input"}, s)
		}
		return nil, fmt.Errorf("the variable %s has no value", v)
	case ast.Ref:
		return w.reference(v, s, k)
	case *ast.Array:
		var items []*ast.Term
		v.Foreach(func(t *ast.Term) { items = append(items, t) })
		return w.terms(items, s, func(list []value, s scope) (*plan, error) { return k(arrayOf(list), s) })
	case ast.Object:
		return w.objectTerm(v, s, k)
	case ast.Set:
		return w.terms(v.Slice(), s, func(list []value, s scope) (*plan, error) {
			var all []*plan
			for _, x := range list {
				all = append(all, leaf(x))
			}
			return k(settled(value{all: alternatives(all...), set: true}), s)
		})
	case *ast.SetComprehension:
		return w.comprehension(v.Term, v.Body, true, s, k)
	case *ast.ArrayComprehension:
		return w.comprehension(v.Term, v.Body, false, s, k)
	case ast.Call:
		return w.call(v[0].Value.(ast.Ref), v[1:], s, k)
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return k(constant(v), s)
	}
	return nil, fmt.Errorf("%s is of a kind that is not supported", t)
}

// terms writes some terms, each of which must be defined.
func (w *regoWriter) terms(list []*ast.Term, s scope, k func([]value, scope) (*plan, error)) (*plan, error) {
	var from func(i int, done []value, s scope) (*plan, error)
	from = func(i int, done []value, s scope) (*plan, error) {
		if i == len(list) {
			return k(done, s)
		}
		return w.term(list[i], s, func(v value, s scope) (*plan, error) {
			return defined(v, func(v value) (*plan, error) { return from(i+1, append(slices.Clone(done), v), s) })
		})
	}
	return from(0, nil, s)
}

// arrayOf returns an array, known if all in it is.
func arrayOf(list []value) value {
	terms := make([]*ast.Term, 0, len(list))
	for _, v := range list {
		if v.known == nil {
			return value{items: list, isList: true}
		}
		terms = append(terms, ast.NewTerm(v.known))
	}
	return constant(ast.NewArray(terms...))
}

func (w *regoWriter) objectTerm(o ast.Object, s scope, k goOn) (*plan, error) {
	var keys []string
	var terms []*ast.Term
	err := o.Iter(func(key, t *ast.Term) error {
		name, ok := key.Value.(ast.String)
		if !ok {
			return errors.New("an object is made with a key that is not known")
		}
		keys, terms = append(keys, string(name)), append(terms, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w.terms(terms, s, func(list []value, s scope) (*plan, error) {
		fields := map[string]value{}
		made := ast.NewObject()
		known := true
		for i, key := range keys {
			fields[key] = list[i]
			if known = known && list[i].known != nil; known {
				made.Insert(ast.StringTerm(key), ast.NewTerm(list[i].known))
			}
		}
		if known {
			return k(constant(made), s)
		}
		return k(value{fields: fields}, s)
	})
}

func (w *regoWriter) comprehension(t *ast.Term, b ast.Body, set bool, s scope, k goOn) (*plan, error) {
	all, err := w.body(b, s, func(s scope) (*plan, error) {
		return w.term(t, s, func(v value, _ scope) (*plan, error) {
			return defined(v, func(v value) (*plan, error) { return leaf(v), nil })
		})
	})
	if err != nil {
		return nil, err
	}
	return k(settled(value{all: all, set: set}), s)
}

// settled makes a comprehension of which all is known a constant.
func settled(v value) value {
	list := []*plan{v.all}
	if v.all.op == isAlt {
		list = v.all.rest
	}
	var terms []*ast.Term
	for _, p := range list {
		if p.op != isLeaf || p.out.known == nil {
			return v
		}
		terms = append(terms, ast.NewTerm(p.out.known))
	}
	if v.set {
		return constant(ast.NewSet(terms...))
	}
	return constant(ast.NewArray(terms...))
}

// reference writes what a reference leads to.
func (w *regoWriter) reference(ref ast.Ref, s scope, k goOn) (*plan, error) {
	head := ref[0].Value.(ast.Var)
	if head != "data" {
		return w.term(ref[0], s, func(v value, s scope) (*plan, error) { return w.walk(v, ref[1:], s, k) })
	}
	for i := 2; i <= len(ref); i++ {
		if rules := w.code.Compiler.GetRulesExact(ref[:i]); len(rules) > 0 {
			return w.rules(rules, ref[i:], s, k)
		}
	}
	return nil, fmt.Errorf("%s is looked up in the cluster", ref)
}

// walk goes on along a reference.
func (w *regoWriter) walk(v value, path []*ast.Term, s scope, k goOn) (*plan, error) {
	if len(path) == 0 {
		return k(v, s)
	}
	if unbound(path[0], s) {
		name, ok := path[0].Value.(ast.Var)
		if !ok {
			return nil, errors.New("an item is sought by what it looks like")
		}
		return w.iterate(v, !name.IsWildcard(), func(key, item value) (*plan, error) {
			inner := s
			if !name.IsWildcard() {
				inner = s.with(name, key)
			}
			return w.walk(item, path[1:], inner, k)
		})
	}
	return w.term(path[0], s, func(key value, s scope) (*plan, error) {
		return defined(key, func(key value) (*plan, error) {
			item, cond, err := w.get(v, key)
			if err != nil || cond == never {
				return nothingFound, err
			}
			p, err := w.walk(item, path[1:], s, k)
			if err != nil {
				return nil, err
			}
			return guard(cond, p), nil
		})
	})
}

var userShape = shape{reflect.TypeFor[authenticationv1.UserInfo]()}

// get returns what a value has under a key, and the condition on which it has.
func (w *regoWriter) get(v, key value) (value, string, error) {
	name, isText := key.known.(ast.String)
	switch {
	case v.within != "":
		if !isText {
			return value{}, "", errors.New("a field of " + v.within + " is not named")
		}
		return w.input(v.within, string(name))
	case v.known != nil && key.known != nil:
		if set, ok := v.known.(ast.Set); ok {
			if set.Contains(ast.NewTerm(key.known)) {
				return key, always, nil
			}
			return value{}, never, nil
		}
		x, err := v.known.Find(ast.Ref{ast.NewTerm(key.known)})
		if err != nil {
			return value{}, never, nil
		}
		return constant(x), always, nil
	case v.fields != nil && isText:
		f, ok := v.fields[string(name)]
		if !ok {
			return value{}, never, nil
		}
		return f, always, nil
	case v.isList && key.known != nil:
		n, ok := key.known.(ast.Number)
		if i, isInt := n.Int(); ok && isInt && i >= 0 && i < len(v.items) {
			return v.items[i], always, nil
		}
		return value{}, never, nil
	case v.set || isSet(v):
		p, err := w.elements(v)
		if err != nil {
			return value{}, "", err
		}
		cond, err := contained(p, key)
		return key, cond, err
	case v.all != nil || v.known != nil || v.isList || v.fields != nil:
		text, err := v.text()
		if err != nil {
			return value{}, "", err
		}
		v = value{expr: text, shape: map[valueKind]shape{listValue: anyList, mapValue: anyMap}[v.kind()]}
	}
	return w.selected(v, key)
}

func isSet(v value) bool {
	_, ok := v.known.(ast.Set)
	return ok
}

// selected selects a field or an item of a value that is worked out.
func (w *regoWriter) selected(v, key value) (value, string, error) {
	from := v.option
	if from == "" {
		from = v.expr
	}
	by, err := key.text()
	if err != nil {
		return value{}, "", err
	}
	want := listValue
	switch key.kind() {
	case stringValue:
		want = mapValue
	case intValue:
	default:
		return value{}, "", errors.New("it is not known whether a name or a number is selected by")
	}
	cond := always
	switch kind := v.kind(); kind {
	case want:
	case anyValue:
		cond = "type(" + v.orNull() + ") == " + map[valueKind]string{listValue: "list", mapValue: "map"}[want]
	default:
		return value{}, never, nil
	}
	name, isText := key.known.(ast.String)
	out := value{maybe: true}
	switch {
	case v.shape.kind() == listValue:
		out.shape = v.shape.elem()
	case isText:
		sh, ok := v.shape.field(string(name))
		if !ok {
			return value{}, never, nil
		}
		out.shape = sh
		out.nullable = v.shape.sent(string(name)) && slices.Contains(mayBeNull, string(name))
	case v.shape.kind() == mapValue:
		out.shape = v.shape.elem()
	}
	if isText {
		out.option, out.expr = maybe(from, string(name)), strings.Replace(maybe(v.expr, string(name)), v.expr+".?", v.expr+".", 1)
		out.expr = strings.Replace(out.expr, v.expr+"[?", v.expr+"[", 1)
		return out, cond, nil
	}
	out.option, out.expr = from+"[?"+by+"]", v.expr+"["+by+"]"
	return out, cond, nil
}

// orNull is the value, null where there is none.
func (v value) orNull() string {
	if v.maybe {
		return "dyn(" + v.option + ".orValue(null))"
	}
	return "dyn(" + v.expr + ")"
}

// input returns a part of the input.
func (w *regoWriter) input(of, name string) (value, string, error) {
	path := of + "." + name
	switch path {
	case "input.parameters":
		return constant(w.parameters), always, nil
	case "input.review", "input.review.kind":
		return value{within: path}, always, nil
	case "input.review.object":
		return value{expr: "object", shape: w.mapShape()}, always, nil
	case "input.review.oldObject":
		return value{expr: "variables.before", shape: w.mapShape()}, always, nil
	case "input.review.operation":
		return value{expr: "request.operation", shape: textShape}, always, nil
	case "input.review.name", "input.review.namespace":
		return value{expr: "object.metadata." + name, option: "object.metadata.?" + name, maybe: true, shape: textShape}, always, nil
	case "input.review.userInfo":
		return value{expr: "request.userInfo", shape: userShape}, always, nil
	case "input.review.kind.kind", "input.review.kind.group", "input.review.kind.version":
		if len(w.kinds) == 1 && name == "kind" {
			return constant(ast.String(w.kinds[0].Kind)), always, nil
		}
		return value{expr: "request.kind." + name, shape: textShape}, always, nil
	}
	if of == "input" {
		return value{}, never, nil
	}
	return value{}, "", fmt.Errorf("%s is read, of which an admission policy is not told", path)
}

func (w *regoWriter) mapShape() shape {
	if w.object.t == nil {
		return anyMap
	}
	return w.object
}

// iterate goes on with every item of a value.
func (w *regoWriter) iterate(v value, keyed bool, k func(key, item value) (*plan, error)) (*plan, error) {
	switch {
	case v.within != "":
		return nil, fmt.Errorf("all fields of %s are gone through", v.within)
	case v.known != nil || v.isList || v.fields != nil:
		return w.unroll(v, k)
	case v.all != nil:
		if keyed && !v.set {
			return nil, errors.New("the items of a list that is collected are numbered")
		}
		return v.all.then(func(x value) (*plan, error) { return k(x, x) })
	}
	kind := v.kind()
	list := v.expr
	if v.maybe {
		list = v.option + ".orValue(" + map[valueKind]string{listValue: "[]", mapValue: "{}", anyValue: "dyn([])"}[kind] + ")"
	}
	if v.nullable {
		empty := map[valueKind]string{listValue: "[]", mapValue: "{}", anyValue: "[]"}[kind]
		list = "(" + v.orNull() + " == null ? " + empty + " : " + v.expr + ")"
	}
	switch kind {
	case listValue:
		return w.overList(v, list, keyed, k)
	case mapValue:
		return w.overMap(v, list, k)
	case anyValue:
		if keyed {
			return nil, fmt.Errorf("it is not known whether %s is a list or a map, whose keys are asked for", v.expr)
		}
		v.maybe, v.shape = false, anyList
		return w.overList(v, "(type("+list+") == list ? "+list+" : type("+list+") == map ? "+list+".map(k, "+list+"[k]) : [])", false, k)
	}
	return nothingFound, nil
}

func (w *regoWriter) overList(v value, list string, keyed bool, k func(key, item value) (*plan, error)) (*plan, error) {
	item, index := w.name(v.expr), ""
	if keyed {
		index = w.name("index")
	}
	p, err := k(value{expr: index, shape: intShape}, value{expr: item, shape: v.shape.elem()})
	if err != nil {
		return nil, err
	}
	return each(list, item, index, p), nil
}

func (w *regoWriter) overMap(v value, list string, k func(key, item value) (*plan, error)) (*plan, error) {
	key := w.name("key")
	sh := shape{}
	if v.shape.kind() == mapValue {
		sh = v.shape.elem()
	}
	p, err := k(value{expr: key, shape: textShape}, value{expr: wrap(list, isUnary) + "[" + key + "]", shape: sh})
	if err != nil {
		return nil, err
	}
	return each(list, key, "", p), nil
}

// unroll goes on with every item of what is known, one after the other.
func (w *regoWriter) unroll(v value, k func(key, item value) (*plan, error)) (*plan, error) {
	var keys, items []value
	switch {
	case v.isList:
		for i, x := range v.items {
			keys, items = append(keys, constant(ast.Number(strconv.Itoa(i)))), append(items, x)
		}
	case v.fields != nil:
		for _, f := range sortedKeys(v.fields) {
			keys, items = append(keys, constant(ast.String(f))), append(items, v.fields[f])
		}
	default:
		keys, items = known(v.known)
	}
	if len(items) > maxUnrolled {
		return nil, fmt.Errorf("a list of %d parameters, more than %d, is gone through", len(items), maxUnrolled)
	}
	var out []*plan
	for i := range items {
		p, err := k(keys[i], items[i])
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return alternatives(out...), nil
}

// known returns the keys and items of a constant.
func known(v ast.Value) (keys, items []value) {
	add := func(key, item *ast.Term) {
		keys, items = append(keys, constant(key.Value)), append(items, constant(item.Value))
	}
	switch v := v.(type) {
	case *ast.Array:
		for i := range v.Len() {
			add(ast.IntNumberTerm(i), v.Elem(i))
		}
	case ast.Object:
		v.Foreach(add)
	case ast.Set:
		for _, t := range v.Slice() {
			add(t, t)
		}
	}
	return keys, items
}

// elements returns how the elements of a set or the items of a list are found.
func (w *regoWriter) elements(v value) (*plan, error) {
	return w.iterate(v, false, func(_, item value) (*plan, error) {
		return defined(item, func(item value) (*plan, error) { return leaf(item), nil })
	})
}

// contained is the condition that a value is among those of a plan.
func contained(p *plan, v value) (string, error) {
	found, err := p.then(func(x value) (*plan, error) {
		cond, err := same(x, v)
		return guard(cond, leaf(constant(ast.Boolean(true)))), err
	})
	if err != nil {
		return "", err
	}
	return found.condition(), nil
}

// plainNumbers returns a tree without the numbers that are texts.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, x := range v {
			v[k] = plainNumbers(x)
		}
	case []any:
		for i, x := range v {
			v[i] = plainNumbers(x)
		}
	}
	return v
}
