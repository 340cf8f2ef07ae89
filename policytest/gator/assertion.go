// SPDX-License-Identifier: Apache-2.0

package gator

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
)

// assertion says how many violations have a message.
type assertion struct {
	// count is how many there are; any means at least one.
	count   int
	any     bool
	message *regexp.Regexp
}

// parseAssertions reads the assertions of a case.
func parseAssertions(list *object.Node) ([]assertion, error) {
	if list == nil || list.Kind != object.List || len(list.Items) == 0 {
		return nil, errors.New("the case has no assertions")
	}
	var out []assertion
	for _, n := range list.Items {
		a, err := parseAssertion(n)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAssertion(n *object.Node) (assertion, error) {
	a := assertion{}
	switch v := n.Get("violations"); {
	case v == nil, v.Bool(), v.Str() == "yes":
		a.any = true
	case v.Kind == object.Bool, v.Str() == "no":
	case v.Kind == object.Int && v.Int() >= 0:
		a.count = int(v.Int())
	default:
		return a, fmt.Errorf("assertions: violations is %s; want yes, no or a number that is not negative", v.Scalar())
	}
	if m := n.Get("message"); m != nil {
		var err error
		if a.message, err = regexp.Compile(m.Str()); err != nil {
			return a, fmt.Errorf("assertions: message: %w", err)
		}
	}
	return a, nil
}

// String says what the assertion wants.
func (a assertion) String() string {
	out := violations(a.count)
	if a.any {
		out = "at least 1 violation"
	}
	if a.message != nil {
		out += fmt.Sprintf(" with %q", a.message)
	}
	return out
}

// check says why messages are not what the assertion wants; nothing where they
// are.
func (a assertion) check(messages []string) string {
	n := 0
	for _, m := range messages {
		if a.message == nil || a.message.MatchString(m) {
			n++
		}
	}
	if a.any && n > 0 || !a.any && n == a.count {
		return ""
	}
	quoted := make([]string, len(messages))
	for i, m := range messages {
		quoted[i] = strconv.Quote(m)
	}
	got := violations(n)
	if n != len(messages) {
		got += fmt.Sprintf(" of %d", len(messages))
	}
	return fmt.Sprintf("want %s, got %s: [%s]", a, got, strings.Join(quoted, ", "))
}

// violations says how many there are.
func violations(n int) string {
	switch n {
	case 0:
		return "no violations"
	case 1:
		return "1 violation"
	}
	return fmt.Sprintf("%d violations", n)
}
