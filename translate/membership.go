// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// membership writes AnyIn, AllIn and their opposites. Wildcards count on both
// sides.
func membership(op string, key, value operand) (string, error) {
	if op == "in" {
		op = "allin"
	}
	if op == "notin" {
		op = "allnotin"
	}
	in, err := container(value, key)
	if err != nil {
		return "", err
	}
	out, err := memberOf(op, key, in)
	if !value.constant && value.q.shape.kind() == listValue {
		out = and(value.q.exists(), out) // of nothing, the operators are false
	}
	if !key.constant && key.q.shape.kind() == listValue && op != "anyin" && op != "anynotin" {
		out = and(key.q.exists(), out)
	}
	return out, err
}

// memberOf looks for the key among values.
func memberOf(op string, key operand, in values) (string, error) {
	if in.fails {
		return never, nil
	}
	if key.constant {
		return constantMember(op, key.value, in)
	}
	switch key.q.shape.kind() {
	case listValue:
		return listMember(op, key.q, in)
	case stringValue:
		return textMember(op, wrap(key.q.must(), isUnary), key.q.noWildcard, in), nil
	case intValue, boolValue, intOrString:
		return textMember(op, "string("+key.q.must()+")", key.q.shape.kind() != intOrString, in), nil
	case anyValue:
		list, err := listMember(op, query{expr: "v", shape: anyList}, in)
		return "[" + key.q.must() + "].exists(v, type(v) == list ? " + list + " : " +
			and(isScalar("v"), textMember(op, "string(v)", false, in)) + ")", err
	}
	return "", fmt.Errorf("what is neither a text nor a list is looked for")
}

// values are those among which one is looked for.
type values struct {
	constant []string
	list     string // where they are no constants
	noWild   bool
	texts    bool   // the items of the list are texts
	ranged   string // 1-5
	fails    bool   // the operator is false whatever the key
}

// container returns the values of the right side of a condition.
func container(value, key operand) (values, error) {
	if !value.constant {
		switch value.q.shape.kind() {
		case listValue:
			if value.q.orText {
				return values{}, fmt.Errorf("the values may be an empty text")
			}
			return values{list: value.q.list(), noWild: value.q.noWildcard, texts: value.q.shape.elem().kind() == stringValue}, nil
		case stringValue:
			return values{list: "[" + value.q.must() + "]", noWild: value.q.noWildcard}, nil
		}
		return values{}, fmt.Errorf("the values are no list")
	}
	switch v := value.value.(type) {
	case []any:
		var out []string
		for _, x := range v {
			if kindOf(x) == listValue || kindOf(x) == mapValue {
				return values{}, fmt.Errorf("the values are lists or maps")
			}
			out = append(out, fmt.Sprint(x))
		}
		return values{constant: out}, nil
	case string:
		if inRange.MatchString(v) {
			return values{ranged: v}, nil
		}
		if json.Valid([]byte(v)) {
			var list []string
			if json.Unmarshal([]byte(v), &list) != nil {
				return values{}, fmt.Errorf("the value %q is JSON, but no list of texts", v)
			}
			return values{constant: list}, nil
		}
		return values{constant: []string{v}}, nil
	case bool, int, int64, float64:
		if k := key.q.shape.kind(); k == listValue {
			return values{constant: []string{fmt.Sprint(v)}}, nil
		}
		return values{fails: true}, nil
	}
	return values{}, fmt.Errorf("the values are no list")
}

// among returns the condition that a text is one of the values.
func (in values) among(v string, noWild bool) string {
	if in.ranged != "" {
		c, err := operatorLeaf(subject{expr: v, shape: textShape}, in.ranged)
		if err != nil {
			return never
		}
		return c
	}
	if in.list != "" {
		c := "value == " + v
		if !in.noWild {
			c = or(c, wildcardsOf("value", v))
		}
		if !noWild {
			c = or(c, wildcardsOf(v, "value"))
		}
		if in.noWild && noWild {
			return v + " in " + in.list
		}
		return in.list + ".exists(value, " + c + ")"
	}
	return in.amongConstants(v, noWild)
}

func (in values) amongConstants(v string, noWild bool) string {
	var exact, conditions []string
	for _, c := range in.constant {
		if strings.ContainsAny(c, "*?") {
			conditions = append(conditions, wild(v, c))
			continue
		}
		exact = append(exact, quote(c))
	}
	exact = slices.Compact(exact)
	switch {
	case len(exact) == 1:
		conditions = append([]string{v + " == " + exact[0]}, conditions...)
	case len(exact) > 1:
		conditions = append([]string{v + " in [" + strings.Join(exact, ", ") + "]"}, conditions...)
	}
	if !noWild {
		var all []string
		for _, c := range in.constant {
			all = append(all, quote(c))
		}
		if len(all) > 0 {
			conditions = append(conditions, v+".matches('[*?]') && ["+strings.Join(all, ", ")+"].exists(value, "+wildcardsMatch(v, "value")+")")
		}
	}
	return or(conditions...)
}

// wildcardsOf returns the condition that a text is a pattern of * and ? that
// another matches.
func wildcardsOf(pattern, text string) string {
	return pattern + ".matches('[*?]') && " + wildcardsMatch(pattern, text)
}

func wildcardsMatch(pattern, text string) string {
	return text + `.matches('(?s)^\\Q' + ` + pattern + `.replace('*', '\\E.*\\Q').replace('?', '\\E.\\Q') + '\\E$')`
}

// textMember looks for one text.
func textMember(op, v string, noWild bool, in values) string {
	c := in.among(v, noWild)
	switch op {
	case "anyin", "allin":
		return c
	}
	if in.ranged != "" {
		d, err := operatorLeaf(subject{expr: v, shape: textShape}, strings.Replace(in.ranged, "-", "!-", 1))
		if err == nil && op == "anynotin" {
			return d
		}
	}
	return not(c)
}

// listMember looks for the items of a list.
func listMember(op string, key query, in values) (string, error) {
	item := "entry"
	text := item
	switch key.shape.elem().kind() {
	case stringValue:
	case intValue, boolValue, intOrString, anyValue:
		text = "string(" + item + ")"
	default:
		return "", fmt.Errorf("the items that are looked for are no texts")
	}
	c := in.among(text, key.noWildcard)
	if in.ranged != "" && op == "anynotin" {
		c = not(textMember(op, text, true, in))
	}
	var out string
	switch op {
	case "anyin":
		out = key.list() + ".exists(" + item + ", " + c + ")"
	case "allin":
		out = key.list() + ".all(" + item + ", " + c + ")"
	case "anynotin":
		out = key.list() + ".exists(" + item + ", " + not(c) + ")"
	default:
		out = "!" + key.list() + ".exists(" + item + ", " + c + ")"
	}
	if key.orText && !key.maybe {
		empty := textMember(op, "''", true, in)
		if in.ranged != "" {
			return "", fmt.Errorf("an empty text is looked for in a range")
		}
		out = key.list() + ".size() > 0 ? " + wrap(out, isOr) + " : " + wrap(empty, isOr)
	}
	return out, nil
}

// constantMember looks for a constant among values that are no constants.
func constantMember(op string, key any, in values) (string, error) {
	var keys []string
	switch k := key.(type) {
	case string:
		keys = []string{k}
	case []any:
		for _, x := range k {
			keys = append(keys, fmt.Sprint(x))
		}
	default:
		keys = []string{fmt.Sprint(k)}
	}
	var parts []string
	for _, k := range keys {
		if in.noWild && !strings.ContainsAny(k, "*?") {
			parts = append(parts, quote(k)+" in "+strings.TrimSuffix(in.list, ".map(key, key)"))
			continue
		}
		c := in.list + ".exists(value, "
		text := "string(value)"
		if in.texts {
			text = "value"
		}
		match := wild(text, k)
		if !in.noWild {
			match = or(match, wildcardsOf(text, quote(k)))
		}
		parts = append(parts, c+match+")")
	}
	switch op {
	case "anyin":
		return or(parts...), nil
	case "allin":
		return and(parts...), nil
	case "anynotin":
		return not(and(parts...)), nil
	}
	return not(or(parts...)), nil
}
