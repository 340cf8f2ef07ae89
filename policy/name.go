// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
)

// Name returns the name of a rule: the language and what tells the rule from
// others in it, in lower case and joined by dots, as in
// kyverno.require-labels.check-team. It can stand wherever the name of a control
// can.
func Name(l Language, parts ...string) string {
	out := string(l)
	for _, p := range parts {
		if word := nameWord(p); word != "" {
			out += "." + word
		}
	}
	return out
}

// IsName says whether a name can be that of a rule: whether it begins with a
// language.
func IsName(name string) bool {
	first, rest, _ := strings.Cut(name, ".")
	return rest != "" && slices.Contains([]Language{VAP, Kyverno, Gatekeeper, Rego}, Language(first))
}

// nameWord makes a word of a name out of what people write: letters and digits,
// joined by dashes and dots.
func nameWord(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-.")
}
