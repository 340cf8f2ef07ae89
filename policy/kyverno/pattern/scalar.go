// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// operator is what stands before the text of a condition.
type operator uint8

const (
	equal operator = iota
	notEqual
	more
	moreEqual
	less
	lessEqual
	inRange
	notInRange
)

var (
	rangePattern    = regexp.MustCompile(`^([-|+]?\d+(?:\.\d+)?[A-Za-z]*)-([-|+]?\d+(?:\.\d+)?[A-Za-z]*)$`)
	notRangePattern = regexp.MustCompile(`^([-|+]?\d+(?:\.\d+)?[A-Za-z]*)!-([-|+]?\d+(?:\.\d+)?[A-Za-z]*)$`)
)

// IsRange says whether a pattern is a range, as in 1-5.
func IsRange(pattern string) bool {
	op, _ := operatorOf(pattern)
	return op == inRange
}

// OperatorOf returns the operator that a pattern begins with, empty if there is none,
// and what follows it.
func OperatorOf(pattern string) (operator, rest string) {
	_, n := operatorOf(pattern)
	return pattern[:n], pattern[n:]
}

// operatorOf returns the operator of one condition, and how long it is.
func operatorOf(s string) (operator, int) {
	if len(s) < 2 {
		return equal, 0
	}
	switch {
	case s[:2] == ">=":
		return moreEqual, 2
	case s[:2] == "<=":
		return lessEqual, 2
	case s[0] == '>':
		return more, 1
	case s[0] == '<':
		return less, 1
	case s[0] == '!':
		return notEqual, 1
	case strings.IndexByte(s[1:], '-') < 0:
		return equal, 0
	case notRangePattern.MatchString(s):
		return notInRange, 0
	case rangePattern.MatchString(s):
		return inRange, 0
	}
	return equal, 0
}

// scalar is a compiled pattern of one value.
type scalar struct {
	pattern any
	// anyOf holds, for a string, the alternatives, each of conditions that must all
	// be met.
	anyOf [][]condition
}

// condition is an operator and what it compares with: text, and the duration and the
// quantity that the text is, if it is one. A range is two conditions.
type condition struct {
	op         operator
	text       string
	isDuration bool
	isQuantity bool
	duration   time.Duration
	quantity   resource.Quantity
	low, high  *condition
}

// Value says whether one value matches the pattern of one value: "*", "?*", "!x",
// ">= 1Gi", "a | b", "1-5", a number, a boolean or null. A map as a pattern matches any
// map; a list matches nothing.
func Value(value, pattern any) bool {
	s := newScalar(pattern)
	return s.matches(value)
}

func newScalar(pattern any) scalar {
	s := scalar{pattern: pattern}
	text, ok := pattern.(string)
	if !ok {
		return s
	}
	for alternative := range strings.SplitSeq(text, "|") {
		var all []condition
		for part := range strings.SplitSeq(strings.Trim(alternative, " "), "&") {
			all = append(all, newCondition(strings.Trim(part, " ")))
		}
		s.anyOf = append(s.anyOf, all)
	}
	return s
}

func newCondition(s string) condition {
	op, n := operatorOf(s)
	switch op {
	case inRange:
		ends := rangePattern.FindStringSubmatch(s)
		return condition{op: op, low: comparison(moreEqual, ends[1]), high: comparison(lessEqual, ends[2])}
	case notInRange:
		ends := notRangePattern.FindStringSubmatch(s)
		return condition{op: op, low: comparison(less, ends[1]), high: comparison(more, ends[2])}
	}
	return *comparison(op, s[n:])
}

func comparison(op operator, text string) *condition {
	c := &condition{op: op, text: strings.TrimSpace(text)}
	if d, err := time.ParseDuration(c.text); err == nil {
		c.duration, c.isDuration = d, true
	}
	c.quantity, c.isQuantity = ParseQuantity(c.text)
	return c
}

func (s *scalar) matches(value any) bool {
	switch p := s.pattern.(type) {
	case bool:
		b, ok := value.(bool)
		return ok && b == p
	case int:
		return matchesInt(value, int64(p))
	case int64:
		return matchesInt(value, p)
	case float64:
		return matchesFloat(value, p)
	case nil:
		return isZero(value)
	case map[string]any:
		_, ok := value.(map[string]any)
		return ok
	case string:
		return s.matchesString(value, p)
	}
	return false
}

func matchesInt(value any, pattern int64) bool {
	switch v := value.(type) {
	case int:
		return int64(v) == pattern
	case int64:
		return v == pattern
	case float64:
		return v == math.Trunc(v) && int64(v) == pattern
	case string:
		i, err := strconv.ParseInt(v, 10, 64)
		return err == nil && i == pattern
	}
	return false
}

func matchesFloat(value any, pattern float64) bool {
	switch v := value.(type) {
	case int:
		return pattern == math.Trunc(pattern) && int(pattern) == v
	case int64:
		return pattern == math.Trunc(pattern) && int64(pattern) == v
	case float64:
		return v == pattern
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return err == nil && f == pattern
	}
	return false
}

// isZero says whether null, as a pattern, matches.
func isZero(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case int:
		return v == 0
	case int64:
		return v == 0
	case float64:
		return v == 0
	}
	return false
}

func (s *scalar) matchesString(value any, pattern string) bool {
	if text, ok := value.(string); ok && text == pattern {
		return true
	}
	for _, all := range s.anyOf {
		if matchesAll(value, all) {
			return true
		}
	}
	return false
}

func matchesAll(value any, all []condition) bool {
	for i := range all {
		if !all[i].matches(value) {
			return false
		}
	}
	return true
}

func (c *condition) matches(value any) bool {
	switch c.op {
	case inRange:
		return c.low.matches(value) && c.high.matches(value)
	case notInRange:
		return c.low.matches(value) || c.high.matches(value)
	}
	if c.isDuration || c.isQuantity {
		if sign, ok := c.compare(value); ok {
			return c.op.holds(sign)
		}
	}
	return c.matchesText(value)
}

// compare compares a value with the duration or the quantity of a condition. Nothing
// counts as 0.
func (c *condition) compare(value any) (sign int, ok bool) {
	text, ok := numberText(value)
	if !ok {
		return 0, false
	}
	if c.isDuration {
		if d, err := time.ParseDuration(text); err == nil {
			return compareDurations(d, c.duration), true
		}
	}
	if c.isQuantity {
		if q, ok := ParseQuantity(text); ok {
			return q.Cmp(c.quantity), true
		}
	}
	return 0, false
}

func compareDurations(a, b time.Duration) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (o operator) holds(sign int) bool {
	switch o {
	case equal:
		return sign == 0
	case notEqual:
		return sign != 0
	case more:
		return sign > 0
	case moreEqual:
		return sign >= 0
	case less:
		return sign < 0
	case lessEqual:
		return sign <= 0
	}
	return false
}

func numberText(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "0", true
	case string:
		return v, true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', 6, 64), true
	}
	return "", false
}

// matchesText compares texts. They have no order.
func (c *condition) matchesText(value any) bool {
	if c.op != equal && c.op != notEqual {
		return false
	}
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case int:
		text = strconv.Itoa(v)
	case int64:
		text = strconv.FormatInt(v, 10)
	case float64:
		text = strconv.FormatFloat(v, 'E', -1, 64)
	default:
		return false
	}
	return Wildcard(c.text, text) == (c.op == equal)
}
