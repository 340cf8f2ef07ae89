// SPDX-License-Identifier: Apache-2.0

package pattern

import "strings"

// Anchor is what the parentheses round the key of a pattern say of it.
type Anchor byte

// The anchors. Each constant is what stands before the parenthesis, but for the
// conditional anchor, before which there is nothing, and for none at all.
const (
	None            Anchor = 0
	Conditional     Anchor = '('
	Global          Anchor = '<'
	Negation        Anchor = 'X'
	AddIfNotPresent Anchor = '+'
	Equality        Anchor = '='
	Existence       Anchor = '^'
)

// ParseAnchor returns the anchor of a key, and the key in it. A key without an anchor
// is returned as it is.
func ParseAnchor(key string) (a Anchor, inner string) {
	s := strings.TrimSpace(key)
	a = Conditional
	if s != "" && strings.IndexByte("+<=X^", s[0]) >= 0 {
		a, s = Anchor(s[0]), s[1:]
	}
	if len(s) < 3 || s[0] != '(' || s[len(s)-1] != ')' || strings.Contains(s, "\n") {
		return None, key
	}
	return a, s[1 : len(s)-1]
}

// with returns a key in an anchor.
func (a Anchor) with(key string) string {
	switch a {
	case None:
		return key
	case Conditional:
		return "(" + key + ")"
	}
	return string(rune(a)) + "(" + key + ")"
}
