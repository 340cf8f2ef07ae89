// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"strings"
	"unicode/utf8"
)

// Wildcard says whether s matches a pattern in which * stands for any text, the
// empty one too, and ? for one character.
func Wildcard(pattern, s string) bool {
	if pattern == "*" {
		return true
	}
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	if !utf8.ValidString(pattern) {
		pattern = string([]rune(pattern))
	}
	if !HasWildcard(pattern) {
		return pattern == s
	}
	return wildcard(pattern, s)
}

// HasWildcard says whether a pattern is more than the text that it matches.
func HasWildcard(pattern string) bool { return strings.ContainsAny(pattern, "*?") }

// wildcard goes back to the last * only: an earlier one that took more text could
// not help.
func wildcard(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += runeLen(s[i:])
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from += runeLen(s[from:])
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func runeLen(s string) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}
