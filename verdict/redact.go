// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"regexp"
	"strings"
	"sync"
)

// Masked stands where a secret would be shown.
const Masked = "****"

// secretShapes are the ways in which a secret stands in a line of a manifest
// that is quoted for another reason. What they miss, the controls about
// credentials find at its own line; what they hide too much, a person finds in
// the file.
var secretShapes = sync.OnceValue(func() []*regexp.Regexp {
	const word = `(?:password|passwd|passphrase|pwd|secret|token|credentials?|api[._-]?key|access[._-]?key|private[._-]?key|secret[._-]?key|auth[._-]?key|dsn)`
	return []*regexp.Regexp{
		// name: DB_PASSWORD, value: x   and   "name":"DB_PASSWORD","value":"x"
		regexp.MustCompile(`(?i)(name["']?\s*:\s*["']?[\w.-]*` + word + `[\w.-]*["']?\s*,\s*["']?value["']?\s*:\s*["']?)([^"',}\]\s]+)`),
		// dbPassword: x   DB_PASSWORD=x   --password x   "token":"x"
		regexp.MustCompile(`(?i)([\w.-]*` + word + `["']?\s*[:=]\s*["']?)([^"',}\]\s\[{(]+)`),
		regexp.MustCompile(`(?i)(--?[\w.-]*` + word + `["']?\s*,?\s+["']?)([^"',}\]\s\[{(:=-][^"',}\]\s]*)`),
		// scheme://user:x@host   and   image: user:x@registry/name
		regexp.MustCompile(`(://[^\s/:@"']*:)([^\s/@"'$({]+)@`),
		regexp.MustCompile(`(\b[\w.-]+:)([^\s/:@"']{3,})@[\w.-]+[/:]`),
		// Tokens that are known by their form.
		regexp.MustCompile(`()\b((?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|[rs]k_live_\w{10,}|eyJ[\w-]{10,}\.eyJ[\w.-]{10,})`),
	}
})

// suspicious are words without one of which no shape can match; to look for
// them costs little, and most lines hold none.
var suspicious = [...]string{"pass", "pwd", "secret", "token", "credential", "key", "dsn", "@", "akia", "asia", "gh", "glpat", "xox", "aiza", "_live_", "eyj"}

// Redact hides secrets in a line that is shown.
func Redact(line string) string {
	lower := strings.ToLower(line)
	found := false
	for _, w := range suspicious {
		if strings.Contains(lower, w) {
			found = true
			break
		}
	}
	if !found {
		return line
	}
	for _, shape := range secretShapes() {
		line = redactShape(shape, line)
	}
	return line
}

// redactShape masks the second group of every match, unless it holds nothing
// that could be secret.
func redactShape(shape *regexp.Regexp, line string) string {
	var out strings.Builder
	end := 0
	for _, m := range shape.FindAllStringSubmatchIndex(line, -1) {
		value := line[m[4]:m[5]]
		if harmless(value) || m[4] < end {
			continue
		}
		out.WriteString(line[end:m[4]])
		out.WriteString(Masked)
		end = m[5]
	}
	if end == 0 {
		return line
	}
	return out.String() + line[end:]
}

// harmless says whether a value is a constant, a reference or already masked.
func harmless(v string) bool {
	switch strings.ToLower(strings.Trim(v, `"'`)) {
	case "", "true", "false", "null", "yes", "no", Masked, "sha256":
		return true
	}
	return strings.Trim(v, "0123456789.") == "" && len(v) < 6 || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "/")
}
