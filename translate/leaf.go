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

// leaf returns the condition that a value matches a scalar of a pattern.
func (w *patternWriter) leaf(s subject, p any) (string, error) {
	if text, ok := p.(string); ok && strings.Contains(text, "{{") || ok && strings.Contains(text, "$(") {
		return "", fmt.Errorf("the variable %q in a pattern is not supported", text)
	}
	switch s.shape.kind() {
	case listValue:
		item := w.bind("value")
		defer w.unbind()
		inner, err := w.leaf(subject{expr: item, shape: s.shape.elem()}, p)
		return all(s.expr, item, inner), err
	case mapValue, structValue:
		return "", fmt.Errorf("a map is held against %v", p)
	}
	switch p := p.(type) {
	case nil:
		return nothing(s), nil
	case bool:
		return boolLeaf(s, p), nil
	case int:
		return intLeaf(s, int64(p))
	case int64:
		return intLeaf(s, p)
	case float64:
		return floatLeaf(s, p)
	case string:
		return textLeaf(s, p)
	}
	return "", fmt.Errorf("a pattern holds a value of a kind that is not supported: %v", p)
}

func nothing(s subject) string {
	switch s.shape.kind() {
	case boolValue:
		return "!" + s.expr
	case intValue, floatValue:
		return s.expr + " == 0"
	case stringValue:
		return s.expr + " == ''"
	}
	return s.expr + " in [dyn(null), dyn(0), dyn(''), dyn(false)]"
}

func boolLeaf(s subject, p bool) string {
	switch k := s.shape.kind(); {
	case k == boolValue && p:
		return s.expr
	case k == boolValue:
		return "!" + s.expr
	case k == anyValue:
		return s.expr + " == " + strconv.FormatBool(p)
	}
	return never
}

func intLeaf(s subject, p int64) (string, error) {
	text := `^\+?0*` + strconv.FormatInt(p, 10) + "$"
	if p == 0 {
		text = `^[+-]?0+$`
	} else if p < 0 {
		text = `^-0*` + strconv.FormatInt(-p, 10) + "$"
	}
	number := s.expr + " == " + strconv.FormatInt(p, 10)
	switch s.shape.kind() {
	case intValue, floatValue:
		return number, nil
	case boolValue:
		return never, nil
	case stringValue:
		return s.expr + ".matches(" + quote(text) + ")", nil
	}
	return "type(" + s.expr + ") == string ? " + s.expr + ".matches(" + quote(text) + ") : " + number, nil
}

func floatLeaf(s subject, p float64) (string, error) {
	switch s.shape.kind() {
	case intValue, floatValue:
		return s.expr + " == " + strconv.FormatFloat(p, 'f', -1, 64), nil
	case boolValue:
		return never, nil
	}
	return "", fmt.Errorf("the number %v is compared with what may be a text", p)
}

// textLeaf returns the condition of a text with operators: a|b, a&b, !a, >=1Gi,
// 1-5, wildcards.
func textLeaf(s subject, p string) (string, error) {
	var any []string
	for _, alternative := range strings.Split(p, "|") {
		var every []string
		for _, one := range strings.Split(strings.Trim(alternative, " "), "&") {
			c, err := operatorLeaf(s, strings.Trim(one, " "))
			if err != nil {
				return "", fmt.Errorf("pattern %q: %w", p, err)
			}
			every = append(every, c)
		}
		any = append(any, and(every...))
	}
	if len(any) > 2 {
		if in, ok := oneOf(s.expr, any); ok {
			return in, nil
		}
	}
	return or(any...), nil
}

// oneOf writes a disjunction of equalities as a list.
func oneOf(v string, conditions []string) (string, bool) {
	var out []string
	for _, c := range conditions {
		text, ok := strings.CutPrefix(c, v+" == ")
		if !ok || binding(text) != isUnary {
			return "", false
		}
		out = append(out, text)
	}
	return v + " in [" + strings.Join(out, ", ") + "]", true
}

const number = `[-|\+]?\d+(?:\.\d+)?[A-Za-z]*`

var (
	inRange    = regexp.MustCompile(`^(` + number + `)-(` + number + `)$`)
	notInRange = regexp.MustCompile(`^(` + number + `)!-(` + number + `)$`)
)

// operatorLeaf returns the condition of one operator and its operand.
func operatorLeaf(s subject, p string) (string, error) {
	if len(p) < 2 {
		return compareLeaf(s, "=", p)
	}
	for _, op := range []string{">=", "<=", ">", "<", "!"} {
		if operand, ok := strings.CutPrefix(p, op); ok {
			return compareLeaf(s, op, strings.TrimSpace(operand))
		}
	}
	if m := notInRange.FindStringSubmatch(p); m != nil {
		low, err := compareLeaf(s, "<", m[1])
		high, err2 := compareLeaf(s, ">", m[2])
		return or(low, high), errors.Join(err, err2)
	}
	if m := inRange.FindStringSubmatch(p); m != nil {
		low, err := compareLeaf(s, ">=", m[1])
		high, err2 := compareLeaf(s, "<=", m[2])
		return and(low, high), errors.Join(err, err2)
	}
	return compareLeaf(s, "=", strings.TrimSpace(p))
}

// celOperator returns an operator as CEL writes it.
func celOperator(op string) string {
	switch op {
	case "=":
		return "=="
	case "!":
		return "!="
	}
	return op
}

var quantityText = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)

// durations are the texts that Go reads as a duration.
const durations = `^[-+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`

// compareLeaf returns the condition that a value compares with an operand: as
// durations if both are, as quantities if both are, else as texts.
func compareLeaf(s subject, op, operand string) (string, error) {
	_, errDuration := time.ParseDuration(operand)
	_, errQuantity := resource.ParseQuantity(operand)
	switch s.shape.kind() {
	case boolValue:
		return textCompare("string("+s.expr+")", op, operand), nil
	case intValue:
		return intCompare(s.expr, op, operand, errDuration == nil, errQuantity == nil)
	case quantityValue:
		if errQuantity == nil {
			return quantityCompare("string("+s.expr+")", op, operand), nil
		}
		if errDuration == nil {
			return "", fmt.Errorf("a quantity is compared with the duration %q", operand)
		}
		return textCompare("string("+s.expr+")", op, operand), nil
	case stringValue, timeValue, bytesValue:
		return stringCompare(s.expr, op, operand, errDuration == nil, errQuantity == nil), nil
	case intOrString:
		return stringCompare("string("+s.expr+")", op, operand, errDuration == nil, errQuantity == nil), nil
	case floatValue:
		return "", fmt.Errorf("a fraction is compared with the text %q", operand)
	}
	return anyCompare(s.expr, op, operand, errDuration == nil, errQuantity == nil), nil
}

// textCompare compares as texts, which only = and ! can.
func textCompare(v, op, operand string) string {
	switch op {
	case "=":
		return wild(v, operand)
	case "!":
		return not(wild(v, operand))
	}
	return never
}

func intCompare(v, op, operand string, duration, quantity bool) (string, error) {
	if n, err := strconv.ParseInt(operand, 10, 64); err == nil {
		return v + " " + celOperator(op) + " " + strconv.FormatInt(n, 10), nil
	}
	switch {
	case quantity:
		return quantityCompare("string("+v+")", op, operand), nil
	case duration:
		return "", fmt.Errorf("a number is compared with the duration %q", operand)
	}
	return textCompare("string("+v+")", op, operand), nil
}

func quantityCompare(v, op, operand string) string {
	return "quantity(" + v + ").compareTo(quantity(" + quote(operand) + ")) " + celOperator(op) + " 0"
}

func stringCompare(v, op, operand string, duration, quantity bool) string {
	out := textCompare(v, op, operand)
	if duration {
		out = wrap(v+".matches("+quote(strings.ReplaceAll(durations, `\\`, `\`))+") ? duration("+v+") "+celOperator(op)+" duration("+quote(operand)+") : "+wrap(out, isOr), isTernary)
	}
	if quantity {
		other := out
		if duration {
			other = "(" + out + ")"
		}
		out = "isQuantity(" + v + ") ? " + quantityCompare(v, op, operand) + " : " + wrap(other, isOr)
	}
	return out
}

// isScalar is the condition that a value of which nothing is known is a text, a
// number or a boolean.
func isScalar(v string) string {
	return "type(" + v + ") != list && type(" + v + ") != map && " + v + " != null"
}

// anyCompare compares a value of which nothing is known: every element where it
// is a list.
func anyCompare(v, op, operand string, duration, quantity bool) string {
	condition := and(isScalar("entry"), stringCompare("string(entry)", op, operand, duration, quantity))
	if !quantity && !duration && !numberLike.MatchString(operand) && !boolLike(operand) {
		// Only a text can match it, or not.
		switch plain := !strings.ContainsAny(operand, "*?"); {
		case op == "=" && plain:
			condition = "entry == " + quote(operand)
		case op == "=":
			condition = and("type(entry) == string", wild("entry", operand))
		case op == "!" && plain:
			condition = and(isScalar("entry"), "entry != "+quote(operand))
		}
	}
	return "dyn([" + v + "].flatten()).all(entry, " + condition + ")"
}

// boolLike says whether a pattern may match true or false.
func boolLike(pattern string) bool {
	for _, text := range []string{"true", "false"} {
		if ok, err := regexp.MatchString(wildRegexp(pattern), text); ok || err != nil {
			return true
		}
	}
	return false
}
