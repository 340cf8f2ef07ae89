// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"regexp"
	"strings"

	jmespath "github.com/kyverno/go-jmespath"
)

// call writes a call of a function.
func (w *searcher) call(n *jmespath.ASTNode, cur *query) (query, error) {
	name := n.Value.(string)
	f, ok := functions[name]
	if !ok {
		return query{}, fmt.Errorf("the function %s has none like it in CEL", name)
	}
	var args []query
	for i := range n.Children {
		q, err := w.node(&n.Children[i], cur)
		if err != nil {
			return query{}, err
		}
		args = append(args, q)
	}
	if len(args) != f.args {
		return query{}, fmt.Errorf("%s takes %d arguments, not %d", name, f.args, len(args))
	}
	q, err := f.write(args)
	if err != nil {
		return query{}, fmt.Errorf("%s: %w", name, err)
	}
	return q, nil
}

// function is a function of JMESPath.
type function struct {
	args  int
	write func(args []query) (query, error)
}

var functions = map[string]function{
	"length":      {1, length},
	"keys":        {1, func(a []query) (query, error) { return entries(a[0], "key", textShape) }},
	"values":      {1, func(a []query) (query, error) { return entries(a[0], "value", a[0].shape.elem()) }},
	"contains":    {2, contains},
	"starts_with": {2, method("startsWith")},
	"ends_with":   {2, method("endsWith")},
	"to_upper":    {1, textTo("upperAscii()")},
	"to_lower":    {1, textTo("lowerAscii()")},
	"trim_space":  {1, textTo("trim()")},
	"split":       {2, split},
	"regex_match": {2, regexMatch},
	"to_string":   {1, toString},
	"to_array":    {1, toArray},
	"to_number":   {1, toNumber},
	"sort":        {1, func(a []query) (query, error) { return sorted(a[0]) }},
	"not_null":    {1, func(a []query) (query, error) { return a[0], nil }},
}

// length writes the length of a list, a map or a text. That of nothing is an error
// for JMESPath, and what the original cannot judge proves nothing.
func length(args []query) (query, error) {
	a := args[0]
	switch a.shape.kind() {
	case listValue:
		return query{expr: a.list() + ".size()", shape: intShape}, nil
	case mapValue, stringValue:
		if a.maybe {
			return query{expr: a.expr + ".value().size()", shape: intShape}, nil
		}
		return query{expr: a.expr + ".size()", shape: intShape}, nil
	case anyValue:
		if a.maybe {
			return query{expr: a.expr + ".value().size()", shape: intShape}, nil
		}
		return query{expr: "size(" + a.expr + ")", shape: intShape}, nil
	}
	return query{}, fmt.Errorf("the length of what has none")
}

// entries writes the keys or the values of a map.
func entries(m query, which string, elem shape) (query, error) {
	if k := m.shape.kind(); k != mapValue && k != anyValue && k != structValue {
		return query{}, fmt.Errorf("of what is no map")
	}
	base, lenient := m.expr, m.expr
	if m.maybe {
		base, lenient = m.expr+".value()", m.expr+".orValue({})"
	}
	write := func(base string) string {
		if which == "value" {
			return base + ".transformList(key, value, value)"
		}
		return base + ".map(key, key)"
	}
	out := query{expr: write(lenient), items: write(lenient), shape: listOf(elem), noWildcard: which == "key"}
	if m.maybe {
		out.there, out.lenient = m.exists(), out.items
		out.expr, out.items = write(base), write(base)
	}
	return out, nil
}

func contains(args []query) (query, error) {
	a, b := args[0], args[1]
	switch a.shape.kind() {
	case listValue:
		return query{expr: b.value() + " in " + a.list(), shape: boolShape}, nil
	case stringValue:
		if b.shape.kind() != stringValue {
			return query{}, fmt.Errorf("a text is searched for what is none")
		}
		return query{expr: a.must() + ".contains(" + b.must() + ")", shape: boolShape}, nil
	case anyValue:
		v := a.must()
		if b.shape.kind() != stringValue {
			return query{expr: b.value() + " in " + v, shape: boolShape}, nil
		}
		return query{expr: "(type(" + v + ") == list ? " + b.value() + " in " + v + " : " + v + ".contains(" + b.value() + "))", shape: boolShape}, nil
	}
	return query{}, fmt.Errorf("of what is neither a list nor a text")
}

func method(name string) func([]query) (query, error) {
	return func(args []query) (query, error) {
		for _, a := range args {
			if k := a.shape.kind(); k != stringValue && k != anyValue {
				return query{}, fmt.Errorf("of what is no text")
			}
		}
		return query{expr: args[0].must() + "." + name + "(" + args[1].must() + ")", shape: boolShape}, nil
	}
}

// textTo calls a method of a text.
func textTo(call string) func([]query) (query, error) {
	return func(args []query) (query, error) {
		if k := args[0].shape.kind(); k != stringValue && k != anyValue {
			return query{}, fmt.Errorf("of what is no text")
		}
		return query{expr: wrap(args[0].must(), isUnary) + "." + call, shape: textShape}, nil
	}
}

func split(args []query) (query, error) {
	if k := args[0].shape.kind(); k != stringValue && k != anyValue {
		return query{}, fmt.Errorf("of what is no text")
	}
	expr := wrap(args[0].must(), isUnary) + ".split(" + args[1].must() + ")"
	return query{expr: expr, items: expr, shape: textsShape}, nil
}

func regexMatch(args []query) (query, error) {
	pattern, text := args[0], args[1]
	if quoted := strings.Trim(pattern.expr, "'"); pattern.maybe || quote(strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(quoted)) != pattern.expr {
		return query{}, fmt.Errorf("the expression is not written in the policy")
	} else if _, err := regexp.Compile(strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(quoted)); err != nil {
		return query{}, err
	}
	v := wrap(text.must(), isUnary)
	switch text.shape.kind() {
	case stringValue:
	case anyValue, intOrString, intValue:
		v = "string(" + text.must() + ")"
	default:
		return query{}, fmt.Errorf("of what is no text")
	}
	return query{expr: v + ".matches(" + pattern.expr + ")", shape: boolShape}, nil
}

func toString(args []query) (query, error) {
	switch args[0].shape.kind() {
	case stringValue:
		return args[0], nil
	case intValue, boolValue, intOrString, quantityValue:
		return query{expr: "string(" + args[0].must() + ")", shape: textShape}, nil
	}
	return query{}, fmt.Errorf("of what may be a map or a list")
}

func toArray(args []query) (query, error) {
	if args[0].shape.kind() != listValue {
		return query{}, fmt.Errorf("of what may be no list")
	}
	return args[0], nil
}

func toNumber(args []query) (query, error) {
	switch args[0].shape.kind() {
	case intValue, floatValue:
		return args[0], nil
	case stringValue:
		if !strings.HasPrefix(args[0].expr, "'") {
			return query{expr: "double(" + args[0].must() + ")", shape: floatShape}, nil
		}
	}
	return query{}, fmt.Errorf("of what may be no number")
}

func sorted(a query) (query, error) {
	if a.shape.kind() != listValue || a.shape.elem().kind() != stringValue {
		return query{}, fmt.Errorf("of what may be no list of texts")
	}
	expr := a.list() + ".sort()"
	return query{expr: expr, items: expr, shape: a.shape}, nil
}
