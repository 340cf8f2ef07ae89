// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// conditions writes preconditions or the conditions of a denial: a list of which
// all must hold, or any and all.
func (w *searcher) conditions(tree any) (string, error) {
	switch tree := tree.(type) {
	case nil:
		return always, nil
	case []any:
		var parts []string
		for _, c := range tree {
			part, err := w.conditions(c)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return and(parts...), nil
	case map[string]any:
		if _, ok := tree["operator"]; ok {
			return w.one(tree)
		}
		return w.anyAll(tree)
	}
	return "", fmt.Errorf("conditions are neither a list nor a map")
}

func (w *searcher) anyAll(tree map[string]any) (string, error) {
	var every []string
	for _, key := range sortedKeys(tree) {
		list, ok := tree[key].([]any)
		if !ok && tree[key] != nil || key != "any" && key != "all" {
			return "", fmt.Errorf("conditions hold %s", key)
		}
		var parts []string
		for _, c := range list {
			m, ok := c.(map[string]any)
			if !ok {
				return "", fmt.Errorf("a condition is no map")
			}
			part, err := w.one(m)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		if key == "any" {
			every = append(every, or(parts...))
			continue
		}
		every = append(every, and(parts...))
	}
	return and(every...), nil
}

// one writes one condition: key, operator, value.
func (w *searcher) one(c map[string]any) (string, error) {
	op, _ := c["operator"].(string)
	key, err := w.operand(c["key"])
	if err != nil {
		return "", err
	}
	value, err := w.operand(c["value"])
	if err != nil {
		return "", err
	}
	for _, o := range []operand{key, value} {
		if o.q.maybe && !o.q.soft && !o.constant {
			w.missing = append(w.missing, o.q.expr)
		}
	}
	if !value.constant && strings.HasSuffix(strings.ToLower(op), "equals") && value.q.shape.kind() != intValue && value.q.shape.kind() != boolValue {
		w.quirk = true
	}
	out, err := compareOperands(strings.ToLower(op), key, value)
	if err != nil {
		return "", fmt.Errorf("the condition %s of %v: %w", op, c["key"], err)
	}
	return out, nil
}

// operand is a side of a condition: a constant, or a query.
type operand struct {
	constant bool
	value    any
	q        query
}

var variable = regexp.MustCompile(`\{\{(?:\s*)((?:[^{}]|\{[^{}]*\})*?)(?:\s*)\}\}`)

// operand writes a value of which parts may be variables.
func (w *searcher) operand(v any) (operand, error) {
	switch v := v.(type) {
	case string:
		return w.text(v)
	case []any:
		return w.listOperand(v)
	case map[string]any:
		if hasVariables(v) {
			return operand{}, fmt.Errorf("a map with variables in a condition")
		}
	}
	q, err := literalQuery(v)
	return operand{constant: true, value: v, q: q}, err
}

func hasVariables(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "{{") || strings.Contains(v, "$(")
	case []any:
		for _, x := range v {
			if hasVariables(x) {
				return true
			}
		}
	case map[string]any:
		for k, x := range v {
			if hasVariables(k) || hasVariables(x) {
				return true
			}
		}
	}
	return false
}

func (w *searcher) listOperand(list []any) (operand, error) {
	if !hasVariables(list) {
		q, err := literalQuery(list)
		return operand{constant: true, value: list, q: q}, err
	}
	var parts []string
	for _, v := range list {
		o, err := w.operand(v)
		if err != nil {
			return operand{}, err
		}
		if k := o.q.shape.kind(); k != stringValue {
			return operand{}, fmt.Errorf("a list in which a variable may be no text")
		}
		parts = append(parts, o.q.must())
	}
	expr := "[" + strings.Join(parts, ", ") + "]"
	return operand{q: query{expr: expr, items: expr, shape: textsShape}}, nil
}

// text writes a text with variables in it.
func (w *searcher) text(s string) (operand, error) {
	if strings.Contains(s, "$(") {
		return operand{}, fmt.Errorf("a reference $( )")
	}
	if !strings.Contains(s, "{{") {
		q, err := literalQuery(s)
		return operand{constant: true, value: s, q: q}, err
	}
	s, err := w.nested(s)
	if err != nil {
		return operand{}, err
	}
	if m := variable.FindStringSubmatch(s); m != nil && m[0] == strings.TrimSpace(s) {
		q, err := w.search(m[1])
		return operand{q: q}, err
	}
	expr, err := w.concatText(s)
	return operand{q: query{expr: expr, shape: textShape}}, err
}

// concatText writes a text with variables as a sum.
func (w *searcher) concatText(s string) (string, error) {
	var parts []string
	last := 0
	for _, m := range variable.FindAllStringSubmatchIndex(s, -1) {
		if m[0] > last {
			parts = append(parts, quote(s[last:m[0]]))
		}
		q, err := w.search(s[m[2]:m[3]])
		if err != nil {
			return "", err
		}
		part, err := asText(q)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
		last = m[1]
	}
	if strings.Contains(s[last:], "{{") {
		return "", fmt.Errorf("variables within variables: %s", s)
	}
	if last < len(s) {
		parts = append(parts, quote(s[last:]))
	}
	return strings.Join(parts, " + "), nil
}

func asText(q query) (string, error) {
	switch q.shape.kind() {
	case stringValue:
		return wrap(q.must(), isUnary), nil
	case listValue, mapValue, structValue:
		return "", fmt.Errorf("a list or a map in a text")
	}
	return "string(" + q.must() + ")", nil
}

var quotedVariable = regexp.MustCompile(`'\{\{\s*((?:[^{}'"]|'[^'{}]*'|"[^"{}]*")*?)\s*\}\}'`)

// nested replaces variables that stand in quotes within others by names.
func (w *searcher) nested(s string) (string, error) {
	var errs []error
	out := quotedVariable.ReplaceAllStringFunc(s, func(found string) string {
		q, err := w.search(quotedVariable.FindStringSubmatch(found)[1])
		if err == nil {
			var text string
			if text, err = asText(q); err == nil {
				name := "nested" + strconv.Itoa(len(w.variables))
				if w.variables == nil {
					w.variables = map[string]query{}
				}
				w.variables[name] = query{expr: text, shape: textShape}
				if q.maybe && !q.soft {
					w.missing = append(w.missing, q.expr)
				}
				return name
			}
		}
		errs = append(errs, err)
		return found
	})
	return out, errors.Join(errs...)
}

// compareOperands writes a comparison by Kyverno's operators.
func compareOperands(op string, key, value operand) (string, error) {
	if key.constant && value.constant {
		return "", fmt.Errorf("both sides are constants")
	}
	switch op {
	case "equals", "equal":
		return equals(key, value)
	case "notequals", "notequal":
		out, err := equals(key, value)
		if key.q.soft && key.q.maybe {
			out = or(out, "!"+key.q.expr+".hasValue()")
		}
		return not(out), err
	case "anyin", "allin", "anynotin", "allnotin", "in", "notin":
		return membership(op, key, value)
	case "greaterthan", "greaterthanorequals", "lessthan", "lessthanorequals":
		return numeric(map[string]string{"greaterthan": ">", "greaterthanorequals": ">=", "lessthan": "<", "lessthanorequals": "<="}[op], key, value)
	}
	return "", fmt.Errorf("the operator is not supported")
}

// equals writes Equals.
func equals(key, value operand) (string, error) {
	if key.constant {
		// A constant key is held against the value as against a pattern.
		if _, ok := key.value.(string); ok && value.q.shape.kind() == stringValue {
			return value.q.must() + " == " + key.q.expr, nil
		}
		return key.q.expr + " == " + value.q.must(), nil
	}
	if !value.constant {
		k, v := key.q.shape.kind(), value.q.shape.kind()
		if k != v && k != anyValue && v != anyValue {
			return "", fmt.Errorf("values of two kinds are compared")
		}
		return key.q.must() + " == " + value.q.must(), nil
	}
	return equalsConstant(key.q, value)
}

func equalsConstant(key query, value operand) (string, error) {
	v := key.must()
	switch want := value.value.(type) {
	case string:
		switch key.shape.kind() {
		case stringValue:
			return equalsText(wrap(v, isUnary), want), nil
		case anyValue:
			return "[" + v + "].exists(text, " + and("type(text) == string", equalsText("text", want)) + ")", nil
		case intValue:
			n, err := strconv.ParseInt(want, 10, 64)
			if err != nil {
				return never, nil
			}
			return v + " == " + strconv.FormatInt(n, 10), nil
		}
		return never, nil
	case int, int64, float64:
		return equalsNumber(key, value.q.expr)
	case bool:
		switch {
		case key.shape.kind() == boolValue && want:
			return v, nil
		case key.shape.kind() == boolValue:
			return not(v), nil
		}
		return wrap(v, isUnary) + " == " + value.q.expr, nil
	case []any, map[string]any:
		return wrap(v, isUnary) + " == " + value.q.expr, nil
	}
	return "", fmt.Errorf("a comparison with a value of a kind that is not supported")
}

func equalsNumber(key query, n string) (string, error) {
	switch key.shape.kind() {
	case intValue, floatValue:
		return key.must() + " == " + n, nil
	case boolValue, listValue, mapValue, structValue:
		return never, nil
	case stringValue:
		return durationSeconds(key.must(), "==", n), nil
	}
	v := key.must()
	return "[" + v + "].exists(v, type(v) == string ? " + durationSeconds("string(v)", "==", n) + " : v == " + n + ")", nil
}

const durationText = `^[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`

// durationSeconds compares a text with seconds, where it is a duration.
func durationSeconds(v, op, n string) string {
	return v + ".matches(" + quote(durationText) + ") && duration(" + v + ") " + op + " duration('" + n + "s')"
}

// equalsText compares two texts: as durations or quantities if both are, else by
// wildcards in the policy's.
func equalsText(v, want string) string {
	out := wild(v, want)
	_, err := resource.ParseQuantity(want)
	switch {
	case err == nil:
		out = "isQuantity(" + v + ") ? " + quantityCompare(v, "=", want) + " : " + out
	case strings.ContainsAny(want, "*?") && numberLike.MatchString(want):
		out = and("!isQuantity("+v+")", out)
	}
	if d, err := time.ParseDuration(want); err == nil && want != "0" {
		out = v + ".matches(" + quote(durationText) + ") ? duration(" + v + ") == duration(" + quote(d.String()) + ") : " + wrap(out, isOr)
	}
	return out
}

// numberLike are patterns that may match a quantity.
var numberLike = regexp.MustCompile(`^[0-9.*?+eEinumkKMGTP-]*$`)

// numeric writes GreaterThan and the like.
func numeric(op string, key, value operand) (string, error) {
	if key.constant {
		flipped := map[string]string{">": "<", ">=": "<=", "<": ">", "<=": ">="}
		return numeric(flipped[op], value, key)
	}
	if !value.constant {
		a, b := key.q.shape.kind(), value.q.shape.kind()
		if (a == intValue || a == floatValue) && (b == intValue || b == floatValue) {
			return key.q.must() + " " + op + " " + value.q.must(), nil
		}
		if a == quantityValue && b == quantityValue {
			return "quantity(string(" + key.q.must() + ")).compareTo(quantity(string(" + value.q.must() + "))) " + op + " 0", nil
		}
		return "", fmt.Errorf("it compares values that may be no numbers")
	}
	if text, ok := value.value.(string); ok {
		return numericText(op, key.q, text)
	}
	if k := value.q.shape.kind(); k != intValue && k != floatValue {
		return never, nil
	}
	n := value.q.expr
	v := key.q.must()
	switch key.q.shape.kind() {
	case intValue, floatValue:
		return v + " " + op + " " + n, nil
	case stringValue, intOrString, quantityValue, anyValue:
		text := durationSeconds("text", op, n) + " || text.matches(" + quote(numberText) + ") && double(text) " + op + " double(" + n + ")"
		return "[" + v + "].exists(v, type(v) == string ? [string(v)].exists(text, " + text + ") : (type(v) == int || type(v) == double) && v " + op + " " + n + ")", nil
	}
	return never, nil
}

const numberText = `^[-+]?[0-9]+(\.[0-9]+)?$`

// intText compares a number with a text: with the seconds of a duration, or with
// a number.
func intText(op, v, want string) string {
	if d, err := time.ParseDuration(want); err == nil && want != "0" {
		return "double(" + v + ") " + op + " " + strconv.FormatFloat(d.Seconds(), 'f', 1, 64)
	}
	if n, err := strconv.ParseInt(want, 10, 64); err == nil {
		return v + " " + op + " " + strconv.FormatInt(n, 10)
	}
	if f, err := strconv.ParseFloat(want, 64); err == nil {
		return "double(" + v + ") " + op + " double(" + strconv.FormatFloat(f, 'f', -1, 64) + ")"
	}
	return never
}

// numericText compares with a text: as durations, quantities or numbers.
func numericText(op string, key query, want string) (string, error) {
	v := key.must()
	switch key.shape.kind() {
	case intValue:
		return intText(op, v, want), nil
	case stringValue, quantityValue:
		v = "string(" + v + ")"
	default:
		return "", fmt.Errorf("what may be no text is compared with %q", want)
	}
	out := never
	if _, err := resource.ParseQuantity(want); err == nil {
		out = "isQuantity(text) && " + quantityCompare("text", op, want)
	}
	if d, err := time.ParseDuration(want); err == nil && want != "0" {
		out = or("text.matches("+quote(durationText)+") && duration(text) "+op+" duration("+quote(d.String())+")",
			and("!text.matches("+quote(durationText)+")", out))
	}
	return "[" + v + "].exists(text, " + out + ")", nil
}
