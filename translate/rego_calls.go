// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// callExpression writes a call that stands by itself, or of which the result is
// the last operand.
func (w *regoWriter) callExpression(t []*ast.Term, s scope, k next) (*plan, error) {
	name := t[0].Value.(ast.Ref)
	args := t[1:]
	switch name.String() {
	case ast.Equality.Name, ast.Assign.Name:
		return w.equation(args[0], args[1], s, k)
	}
	if arity, ok := w.arity(name); ok && len(args) == arity+1 {
		out := args[arity]
		return w.call(name, args[:arity], s, func(v value, s scope) (*plan, error) { return w.unify(out, v, s, k) })
	}
	p, err := w.call(name, args, s, func(v value, _ scope) (*plan, error) {
		return guard(isTrue(v), leaf(constant(ast.Boolean(true)))), nil
	})
	if err != nil {
		return nil, err
	}
	return w.where(p.condition(), s, k)
}

// equation writes the two sides of = or :=.
func (w *regoWriter) equation(a, b *ast.Term, s scope, k next) (*plan, error) {
	if unbound(b, s) && !unbound(a, s) {
		a, b = b, a
	}
	if ref, ok := b.Value.(ast.Ref); ok && !unbound(a, s) {
		if x, isRef := a.Value.(ast.Ref); isRef && w.binds(x, s) && !w.binds(ref, s) {
			a, b = b, a
		}
	}
	return w.term(b, s, func(v value, s scope) (*plan, error) { return w.unify(a, v, s, k) })
}

// arity returns how many operands a function or builtin has.
func (w *regoWriter) arity(name ast.Ref) (int, bool) {
	if rules := w.code.Compiler.GetRulesExact(name); len(rules) > 0 {
		return len(rules[0].Head.Args), true
	}
	if b, ok := ast.BuiltinMap[name.String()]; ok {
		return b.Decl.Arity(), true
	}
	return 0, false
}

// call writes a call, and goes on with its result.
func (w *regoWriter) call(name ast.Ref, args []*ast.Term, s scope, k goOn) (*plan, error) {
	rules := w.code.Compiler.GetRulesExact(name)
	return w.terms(args, s, func(list []value, s scope) (*plan, error) {
		if len(rules) > 0 {
			p, err := w.defined(rules, list)
			if err != nil {
				return nil, err
			}
			return p.then(func(v value) (*plan, error) { return k(v, s) })
		}
		p, err := w.builtin(name.String(), list)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return p.then(func(v value) (*plan, error) { return k(v, s) })
	})
}

// folded calls a builtin on constants. It returns nothing where that fails, as in
// Rego.
func folded(name string, args []value) (*plan, error) {
	f := topdown.GetBuiltin(name)
	if f == nil {
		return nil, errors.New("there is no such function")
	}
	b := ast.BuiltinMap[name]
	if b == nil || b.Nondeterministic {
		return nil, errors.New("what it returns depends on more than it is given")
	}
	var terms []*ast.Term
	for _, a := range args {
		terms = append(terms, ast.NewTerm(a.known))
	}
	out := nothingFound
	err := f(topdown.BuiltinContext{Context: context.Background()}, terms, func(t *ast.Term) error {
		out = leaf(constant(t.Value))
		return nil
	})
	if err != nil {
		return nothingFound, nil //nolint:nilerr // a call that fails is undefined
	}
	return out, nil
}

// builtin writes a call of a function of Rego.
func (w *regoWriter) builtin(name string, args []value) (*plan, error) {
	constants := !slices.ContainsFunc(args, func(v value) bool { return v.known == nil })
	if constants {
		return folded(name, args)
	}
	if f, ok := textFunctions[name]; ok {
		return f(w, args)
	}
	switch name {
	case "equal", "neq", "lt", "lte", "gt", "gte":
		return comparison(name, args[0], args[1])
	case "plus", "minus", "mul", "div", "and", "or":
		return w.arithmetic(name, args[0], args[1])
	case "is_string", "is_number", "is_boolean", "is_array", "is_object", "is_null", "is_set":
		return isType(name, args[0]), nil
	case "count":
		return w.count(args[0])
	case "object.get":
		return w.objectGet(args)
	case "sprintf":
		return w.sprintf(args)
	case "array.concat":
		if args[0].kind() != listValue || args[1].kind() != listValue {
			return nil, errors.New("one is not known to be a list")
		}
		a, err := w.elements(args[0])
		if err != nil {
			return nil, err
		}
		b, err := w.elements(args[1])
		return leaf(value{all: alternatives(a, b)}), err
	case "internal.member_2":
		p, err := w.elements(args[1])
		if err != nil {
			return nil, err
		}
		cond, err := contained(p, args[0])
		return condition(cond), err
	case "to_number":
		return toNumberRego(args[0])
	}
	return nil, errors.New("there is no such function in CEL")
}

// condition is a plan of true or false.
func condition(cond string) *plan {
	switch cond {
	case always:
		return leaf(constant(ast.Boolean(true)))
	case never:
		return leaf(constant(ast.Boolean(false)))
	}
	return leaf(value{expr: "(" + cond + ")", shape: boolShape})
}

// same is the condition that two values are equal.
func same(a, b value) (string, error) {
	if a.known != nil && b.known != nil {
		if a.known.Compare(b.known) == 0 {
			return always, nil
		}
		return never, nil
	}
	if a.known != nil {
		a, b = b, a
	}
	if a.set || b.set || isSet(a) || isSet(b) {
		return "", errors.New("sets are compared with each other")
	}
	if a.counted != nil || b.counted != nil {
		return countIs("==", a, b)
	}
	if ka, kb := a.kind(), b.kind(); ka != kb && ka != anyValue && kb != anyValue {
		return never, nil
	}
	if _, null := b.known.(ast.Null); null && a.kind() != anyValue {
		return never, nil
	}
	x, err := a.text()
	if err != nil {
		return "", err
	}
	y, err := b.text()
	if err != nil {
		return "", err
	}
	if a.maybe {
		return a.option + " == optional.of(" + y + ")", nil
	}
	return wrap(x, isUnary) + " == " + wrap(y, isUnary), nil
}

var regoOperators = map[string]string{"equal": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

func comparison(name string, a, b value) (*plan, error) {
	op := regoOperators[name]
	if op == "==" || op == "!=" {
		cond, err := same(a, b)
		if op == "!=" {
			cond = not(cond)
		}
		return condition(cond), err
	}
	if a.counted != nil || b.counted != nil {
		cond, err := countIs(op, a, b)
		return condition(cond), err
	}
	x, err := a.text()
	if err != nil {
		return nil, err
	}
	y, err := b.text()
	if err != nil {
		return nil, err
	}
	x, y = wrap(x, isUnary), wrap(y, isUnary)
	ka, kb := a.kind(), b.kind()
	switch {
	case ka == kb && (ka == intValue || ka == stringValue):
		return condition(x + " " + op + " " + y), nil
	case ka == anyValue && kb == intValue:
		return condition(mixed(x, x+" "+op+" "+y, op[0] == '<')), nil
	case ka == intValue && kb == anyValue:
		return condition(mixed(y, x+" "+op+" "+y, op[0] == '>')), nil
	}
	return nil, errors.New("values are compared of which it is not known that both are numbers, or texts")
}

// mixed compares a value of an unknown type with a number: null, false and true
// are less than any, and all else is more.
func mixed(x, compared string, less bool) string {
	isNumber := "(type(" + x + ") == int || type(" + x + ") == double)"
	isLess := "(" + x + " == null || type(" + x + ") == bool)"
	if !less {
		isLess = not(isLess)
	}
	return "(" + isNumber + " ? " + compared + " : " + isLess + ")"
}

// countIs compares a number of things.
func countIs(op string, a, b value) (string, error) {
	if a.counted == nil {
		a, b = b, a
		op = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}[op]
	}
	n, ok := b.known.(ast.Number)
	i, isInt := n.Int()
	if !ok || !isInt {
		return "", errors.New("a number of things is compared with what is no constant")
	}
	some := a.counted.condition()
	switch {
	case op == ">" && i == 0, op == ">=" && i == 1, op == "!=" && i == 0:
		return some, nil
	case op == "==" && i == 0, op == "<" && i == 1, op == "<=" && i == 0:
		return not(some), nil
	case a.expr != "":
		return a.expr + " " + op + " " + strconv.Itoa(i), nil
	}
	return "", fmt.Errorf("a number of things that may be the same is compared with %d", i)
}

// count writes how many there are.
func (w *regoWriter) count(v value) (*plan, error) {
	switch {
	case v.isList:
		return leaf(constant(ast.Number(strconv.Itoa(len(v.items))))), nil
	case v.all != nil:
		out := value{counted: v.all, shape: intShape}
		if expr, ok := distinct(v.all); ok {
			out.expr = expr
		} else if !v.set {
			if text, err := v.all.collected(); err == nil {
				out.expr = "size(" + text + ")"
			}
		}
		return leaf(out), nil
	}
	switch v.kind() {
	case stringValue, listValue, mapValue:
		return leaf(value{expr: "size(" + v.expr + ")", shape: intShape}), nil
	case anyValue:
		sized := or("type("+v.expr+") == list", "type("+v.expr+") == map", "type("+v.expr+") == string")
		return guard("("+sized+")", leaf(value{expr: "size(" + v.expr + ")", shape: intShape})), nil
	}
	return nothingFound, nil
}

// distinct counts constants, each of which may be there.
func distinct(p *plan) (string, bool) {
	list := []*plan{p}
	if p.op == isAlt {
		list = p.rest
	}
	var seen []ast.Value
	var parts []string
	for _, one := range list {
		leaves, _ := one.leaves()
		if len(leaves) != 1 || leaves[0].known == nil || slices.ContainsFunc(seen, func(v ast.Value) bool { return v.Compare(leaves[0].known) == 0 }) {
			return "", false
		}
		seen = append(seen, leaves[0].known)
		if cond := one.condition(); cond == always {
			parts = append(parts, "1")
		} else {
			parts = append(parts, "("+cond+" ? 1 : 0)")
		}
	}
	return strings.Join(parts, " + "), len(parts) > 0
}

// arithmetic writes what is done with numbers, and with sets.
func (w *regoWriter) arithmetic(name string, a, b value) (*plan, error) {
	if a.set || b.set || isSet(a) || isSet(b) {
		return w.sets(name, a, b)
	}
	if name == "and" || name == "or" {
		return nil, errors.New("it is not known to be about sets")
	}
	cond := always
	var texts []string
	for _, v := range []value{a, b} {
		text, err := v.text()
		if err != nil {
			return nil, err
		}
		switch v.kind() {
		case intValue:
		case anyValue:
			cond = and(cond, "(type("+text+") == int || type("+text+") == double)")
		default:
			return nothingFound, nil
		}
		texts = append(texts, "double("+text+")")
	}
	op := map[string]string{"plus": "+", "minus": "-", "mul": "*", "div": "/"}[name]
	if name == "div" {
		cond = and(cond, texts[1]+" != 0.0")
	}
	if whole(a) && whole(b) && (name == "plus" || name == "minus") {
		x, _ := a.text()
		y, _ := b.text()
		return leaf(value{expr: "(" + x + " " + op + " " + y + ")", shape: intShape}), nil
	}
	return guard(cond, leaf(value{expr: "(" + texts[0] + " " + op + " " + texts[1] + ")", shape: floatShape})), nil
}

// whole says whether a value is known to be a whole number.
func whole(v value) bool {
	if n, ok := v.known.(ast.Number); ok {
		_, isInt := n.Int()
		return isInt
	}
	return v.shape.kind() == intValue
}

// sets writes a difference, an intersection or a union.
func (w *regoWriter) sets(name string, a, b value) (*plan, error) {
	left, err := w.elements(a)
	if err != nil {
		return nil, err
	}
	right, err := w.elements(b)
	if err != nil {
		return nil, err
	}
	if name == "or" {
		return leaf(value{all: alternatives(left, right), set: true}), nil
	}
	out, err := left.then(func(v value) (*plan, error) {
		cond, err := contained(right, v)
		if name == "minus" {
			cond = not(cond)
		}
		return guard(cond, leaf(v)), err
	})
	return leaf(settled(value{all: out, set: true})), err
}

var typeNames = map[string]struct {
	kind valueKind
	cel  string
}{
	"is_string": {stringValue, "string"}, "is_number": {intValue, "int"}, "is_boolean": {boolValue, "bool"},
	"is_array": {listValue, "list"}, "is_object": {mapValue, "map"}, "is_null": {anyValue, "null_type"}, "is_set": {anyValue, ""},
}

func isType(name string, v value) *plan {
	t := typeNames[name]
	switch kind := v.kind(); {
	case name == "is_set":
		return condition(map[bool]string{true: always, false: never}[v.set])
	case v.set, kind != anyValue && kind != t.kind:
		return condition(never)
	case kind == t.kind && kind != anyValue:
		return condition(always)
	case name == "is_number":
		return condition("type(" + v.expr + ") == int || type(" + v.expr + ") == double")
	}
	return condition("type(" + v.expr + ") == " + t.cel)
}

// objectGet writes object.get: one way where there is a value, and another where
// there is none.
func (w *regoWriter) objectGet(args []value) (*plan, error) {
	path := []value{args[1]}
	if a, ok := args[1].known.(*ast.Array); ok {
		_, path = known(a)
	} else if args[1].isList {
		path = args[1].items
	}
	at, cond := args[0], always
	for _, key := range path {
		x, c, err := w.get(at, key)
		if err != nil {
			return nil, err
		}
		if at, cond = x, and(cond, c); cond == never {
			return leaf(args[2]), nil
		}
	}
	if !at.maybe {
		return alternatives(guard(cond, leaf(at)), guard(not(cond), leaf(args[2]))), nil
	}
	if kind := at.kind(); cond == always && args[2].known != nil && kind == args[2].kind() && (kind == stringValue || kind == boolValue) {
		text, err := args[2].text()
		return leaf(value{expr: at.option + ".orValue(" + text + ")", shape: at.shape}), err
	}
	there := and(cond, at.there())
	found := at
	found.maybe = false
	return alternatives(guard(there, leaf(found)), guard(not(there), leaf(args[2]))), nil
}

// textOf returns the expression of a text, and the condition that it is one.
func textOf(v value) (expr, cond string, err error) {
	expr, err = v.text()
	switch v.kind() {
	case stringValue:
		return wrap(expr, isUnary), always, err
	case anyValue:
		return wrap(expr, isUnary), "type(" + expr + ") == string", err
	}
	return "", never, err
}

// onTexts writes a function of texts.
func onTexts(sh shape, f func(args []string) string) func(*regoWriter, []value) (*plan, error) {
	return func(_ *regoWriter, args []value) (*plan, error) {
		cond := always
		var list []string
		for _, a := range args {
			expr, c, err := textOf(a)
			if err != nil {
				return nil, err
			}
			list, cond = append(list, expr), and(cond, c)
		}
		if cond == never {
			return nothingFound, nil
		}
		return guard(cond, leaf(value{expr: f(list), shape: sh})), nil
	}
}

func calls(name string) func([]string) string {
	return func(args []string) string { return args[0] + "." + name + "(" + strings.Join(args[1:], ", ") + ")" }
}

var textFunctions map[string]func(*regoWriter, []value) (*plan, error)

func init() { //nolint:gochecknoinits // the functions refer to the table
	textFunctions = map[string]func(*regoWriter, []value) (*plan, error){
		"startswith": onTexts(boolShape, calls("startsWith")), "endswith": onTexts(boolShape, calls("endsWith")),
		"contains": onTexts(boolShape, calls("contains")), "indexof": onTexts(intShape, calls("indexOf")),
		"split": onTexts(textsShape, calls("split")), "replace": onTexts(textShape, calls("replace")),
		"lower": onTexts(textShape, calls("lowerAscii")), "upper": onTexts(textShape, calls("upperAscii")),
		"trim_space": onTexts(textShape, calls("trim")),
		"trim_prefix": onTexts(textShape, func(a []string) string {
			return "(" + a[0] + ".startsWith(" + a[1] + ") ? " + a[0] + ".substring(size(" + a[1] + ")) : " + a[0] + ")"
		}),
		"trim_suffix": onTexts(textShape, func(a []string) string {
			return "(" + a[0] + ".endsWith(" + a[1] + ") ? " + a[0] + ".substring(0, size(" + a[0] + ") - size(" + a[1] + ")) : " + a[0] + ")"
		}),
		"trim": (*regoWriter).trim, "substring": (*regoWriter).substring, "concat": (*regoWriter).concat,
		"strings.any_prefix_match": affixes("startswith"), "strings.any_suffix_match": affixes("endswith"),
		"regex.match": (*regoWriter).regexMatch, "re_match": (*regoWriter).regexMatch, "glob.match": (*regoWriter).globMatch,
	}
}

func affixes(name string) func(*regoWriter, []value) (*plan, error) {
	return func(w *regoWriter, args []value) (*plan, error) {
		one := func(list value, k func(value) (*plan, error)) (*plan, error) {
			switch list.kind() {
			case stringValue:
				return k(list)
			case listValue:
				p, err := w.elements(list)
				if err != nil {
					return nil, err
				}
				return p.then(k)
			}
			return nil, errors.New("it is not known whether a text or a list is given")
		}
		p, err := one(args[0], func(text value) (*plan, error) {
			return one(args[1], func(affix value) (*plan, error) {
				p, err := w.builtin(name, []value{text, affix})
				if err != nil {
					return nil, err
				}
				return p.then(func(v value) (*plan, error) { return guard(isTrue(v), leaf(constant(ast.Boolean(true)))), nil })
			})
		})
		if err != nil {
			return nil, err
		}
		return condition(p.condition()), nil
	}
}

// trim takes away characters at both ends.
func (w *regoWriter) trim(args []value) (*plan, error) {
	set, ok := args[1].known.(ast.String)
	if !ok || set == "" {
		return nil, errors.New("the characters are not known")
	}
	class := "[^" + strings.NewReplacer(`\`, `\\`, "]", `\]`, "^", `\^`, "-", `\-`).Replace(string(set)) + "]"
	return onTexts(textShape, func(a []string) string {
		return a[0] + ".find(" + quote("(?s)"+class+"(?:.*"+class+")?") + ")"
	})(w, args[:1])
}

func (w *regoWriter) substring(args []value) (*plan, error) {
	n, ok := args[2].known.(ast.Number)
	length, isInt := n.Int()
	if !ok || !isInt {
		return nil, errors.New("the length is not known")
	}
	s, cond, err := textOf(args[0])
	if err != nil {
		return nil, err
	}
	from, err := args[1].text()
	if err != nil || args[1].kind() != intValue {
		return nil, errors.New("where it begins is not known to be a number")
	}
	if args[1].known == nil {
		cond = and(cond, from+" >= 0")
	}
	out := "(" + from + " <= size(" + s + ") ? " + s + ".substring(" + from + ") : '')"
	if length >= 0 {
		end := from + " + " + strconv.Itoa(length)
		out = "(" + end + " <= size(" + s + ") ? " + s + ".substring(" + from + ", " + end + ") : " + out + ")"
	}
	return guard(cond, leaf(value{expr: out, shape: textShape})), nil
}

// concat joins texts.
func (w *regoWriter) concat(args []value) (*plan, error) {
	sep, cond, err := textOf(args[0])
	if err != nil || cond != always {
		return nil, errors.New("what stands between is not known to be a text")
	}
	if args[1].isList {
		var parts []string
		for i, v := range args[1].items {
			text, c, err := textOf(v)
			if err != nil || c == never {
				return nothingFound, err
			}
			if cond = and(cond, c); i > 0 && sep != "''" {
				parts = append(parts, sep)
			}
			if text != "''" {
				parts = append(parts, text)
			}
		}
		return guard(cond, leaf(value{expr: "(" + strings.Join(parts, " + ") + ")", shape: textShape})), nil
	}
	if args[1].all != nil || args[1].shape.elem().kind() != stringValue {
		return nil, errors.New("a list is joined of which it is not known that it holds texts")
	}
	return leaf(value{expr: args[1].expr + ".join(" + sep + ")", shape: textShape}), nil
}

func (w *regoWriter) regexMatch(args []value) (*plan, error) {
	pattern, ok := args[0].known.(ast.String)
	if !ok {
		return nil, errors.New("the pattern is not known")
	}
	if _, err := regexp.Compile(string(pattern)); err != nil {
		return nothingFound, nil //nolint:nilerr // a pattern that is none is undefined
	}
	return onTexts(boolShape, func(a []string) string { return a[0] + ".matches(" + quote(string(pattern)) + ")" })(w, args[1:])
}

func (w *regoWriter) globMatch(args []value) (*plan, error) {
	pattern, ok := args[0].known.(ast.String)
	if !ok || strings.ContainsAny(string(pattern), `[]{}\!`) {
		return nil, errors.New("the pattern is not known, or more than * and ?")
	}
	char := `[^.]`
	switch d := args[1].known.(type) {
	case ast.Null:
		char = `.`
	case *ast.Array:
		if d.Len() > 0 {
			char = `[^`
			_, items := known(d)
			for _, i := range items {
				one, _ := i.known.(ast.String)
				if utf8.RuneCountInString(string(one)) != 1 {
					return nil, errors.New("what separates is no single character")
				}
				char += regexp.QuoteMeta(string(one))
			}
			char += `]`
		}
	default:
		return nil, errors.New("what separates is not known")
	}
	expr := regexp.QuoteMeta(string(pattern))
	expr = strings.NewReplacer(`\*\*`, `.*`, `\*`, char+`*`, `\?`, char).Replace(expr)
	return onTexts(boolShape, func(a []string) string { return a[0] + ".matches(" + quote("(?s)^"+expr+"$") + ")" })(w, args[2:])
}

const regoNumber = `^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`

func toNumberRego(v value) (*plan, error) {
	text, err := v.text()
	if err != nil {
		return nil, err
	}
	asNumber := value{expr: "double(" + text + ")", shape: floatShape}
	switch v.kind() {
	case intValue:
		return leaf(v), nil
	case stringValue:
		return guard(wrap(text, isUnary)+".matches("+quote(regoNumber)+")", leaf(asNumber)), nil
	case anyValue:
		return guard("(type("+text+") == int || type("+text+") == double || type("+text+") == string && "+text+".matches("+quote(regoNumber)+"))", leaf(asNumber)), nil
	}
	return nil, errors.New("it is not known to be a text or a number")
}

var formatVerb = regexp.MustCompile(`%[#+\- 0]*\d*(\.\d+)?[a-zA-Z%]`)

// sprintf writes a text with values in it.
func (w *regoWriter) sprintf(args []value) (*plan, error) {
	format, ok := args[0].known.(ast.String)
	items := args[1].items
	if a, isArray := args[1].known.(*ast.Array); isArray {
		_, items = known(a)
	} else if !args[1].isList {
		ok = false
	}
	if !ok {
		return nil, errors.New("the format is not known")
	}
	out := value{shape: textShape, message: true}
	var parts []string
	at, n := 0, 0
	add := func(s string) {
		if s != "''" {
			parts = append(parts, s)
		}
	}
	text := string(format)
	for _, m := range formatVerb.FindAllStringIndex(text, -1) {
		add(quote(text[at:m[0]]))
		at = m[1]
		verb := text[m[0]:m[1]]
		if verb == "%%" {
			add(quote("%"))
			continue
		}
		if n >= len(items) {
			add(quote("%!" + verb[len(verb)-1:] + "(MISSING)"))
			continue
		}
		s, exact := shown(verb, items[n])
		out.loose = out.loose || !exact
		n++
		add(s)
	}
	add(quote(text[at:]))
	if out.expr = strings.Join(parts, " + "); len(parts) == 0 {
		out.expr = "''"
	}
	if len(parts) > 1 {
		out.expr = "(" + out.expr + ")"
	}
	return leaf(out), nil
}

// shown is the text of a value, and whether it is the one that Rego makes.
func shown(verb string, v value) (string, bool) {
	if v.known != nil {
		p, err := folded("sprintf", []value{constant(ast.String(verb)), constant(ast.NewArray(ast.NewTerm(v.known)))})
		if err == nil && p.op == isLeaf {
			if s, ok := p.out.known.(ast.String); ok {
				return quote(string(s)), true
			}
		}
		return quote("…"), false
	}
	plain := verb == "%v" || verb == "%s" || verb == "%d"
	text, err := v.text()
	switch kind := v.kind(); {
	case err != nil || !plain:
		return quote("…"), false
	case kind == stringValue:
		return wrap(text, isUnary), !v.loose && verb != "%d"
	case v.shape.kind() == intValue && v.counted == nil:
		return "string(" + text + ")", verb != "%s"
	case kind == boolValue:
		return "string(" + text + ")", verb == "%v"
	case v.set && !strings.Contains(text, "[dyn(\""):
		return `'{"' + ` + text + `.map(one, string(one)).join('", "') + '"}'`, false
	case v.shape.elem().kind() == stringValue && kind == listValue:
		return `'["' + ` + text + `.join('", "') + '"]'`, false
	}
	return quote("…"), false
}
