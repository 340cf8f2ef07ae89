// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/credential"
)

// Masked stands where a secret would be shown.
const Masked = "****"

// secretShape is a way in which a secret stands in a line, and the words (lower
// case) without one of which it cannot: to look for them costs little, and most
// lines hold none.
type secretShape struct {
	words  []string
	shapes []*regexp.Regexp
}

// secretShapes are for lines of a manifest that are quoted for another reason.
// What they miss, the controls about credentials find at its own line; what
// they hide too much, a person finds in the file.
var secretShapes = sync.OnceValue(func() []secretShape {
	const word = `(?:password|passwd|passphrase|pwd|secret|token|credentials?|api[._-]?key|access[._-]?key|private[._-]?key|secret[._-]?key|auth[._-]?key|dsn)`
	return []secretShape{
		{[]string{"pass", "pwd", "secret", "token", "credential", "key", "dsn"}, []*regexp.Regexp{
			// name: DB_PASSWORD, value: x   and   "name":"DB_PASSWORD","value":"x"
			regexp.MustCompile(`(?i)(name["']?\s*:\s*["']?[\w.-]*` + word + `[\w.-]*["']?\s*,\s*["']?value["']?\s*:\s*["']?)([^"',}\]\s]+)`),
			// dbPassword: x   DB_PASSWORD=x   "token":"x"
			regexp.MustCompile(`(?i)([\w.-]*` + word + `["']?\s*[:=]\s*["']?)([^"',}\]\s\[{(]+)`),
			// --password x   and   "--password","x"
			regexp.MustCompile(`(?i)((?:^|[\s"'\[,])--?[\w.-]*` + word + `(?:["']?\s*,\s*|["']?\s+)["']?)([^"',}\]\s\[{(:=-][^"',}\]\s]*)`),
		}},
		{[]string{"@"}, []*regexp.Regexp{
			// scheme://user:x@host   and   image: user:x@registry/name
			regexp.MustCompile(`(://[^\s/:@"']*:)([^\s/@"'$({]+)@`),
			regexp.MustCompile(`(\b[\w.-]+:)([^\s/:@"']{3,})@[\w.-]+[/:]`),
		}},
		// "curl","-u","user:x"   and   "redis-cli","-a","x"
		{[]string{"curl"}, []*regexp.Regexp{
			regexp.MustCompile(`(["']-u["']\s*,\s*["'][^"':\s]*:)([^"'\s]+)`),
		}},
		{[]string{"redis-cli", "mysql", "mariadb", "ldap", "sshpass"}, []*regexp.Regexp{
			regexp.MustCompile(`(["']-[apw]["']\s*,\s*["'])([^"'\s]+)`),
		}},
		// Tokens that are known by how they begin, cut off as they may be.
		{[]string{"akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "aiza", "k_live_", "eyj"}, []*regexp.Regexp{
			regexp.MustCompile(`()\b((?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|[rs]k_live_\w{10,}|eyJ[\w-]{10,}\.eyJ[\w.-]{10,})`),
		}},
	}
})

// Redact hides secrets in a line that is shown.
func Redact(line string) string {
	lower := strings.ToLower(line)
	for _, s := range secretShapes() {
		if !slices.ContainsFunc(s.words, func(w string) bool { return strings.Contains(lower, w) }) {
			continue
		}
		for _, shape := range s.shapes {
			line = redactShape(shape, line)
		}
	}
	for _, f := range slices.Backward(credential.InText(line, credential.CommandLine)) {
		line = line[:f.Start] + Masked + line[f.End:]
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
		if harmless(value) || m[4] < end || strings.HasPrefix(line[m[5]:], "@sha") {
			continue
		}
		out.WriteString(line[end:m[4]])
		out.WriteString(Masked)
		end = closing(line, m[4], m[5])
	}
	if end == 0 {
		return line
	}
	return out.String() + line[end:]
}

// closing returns where a value ends that begins at start and was matched up to
// end: in quotes, it ends where they do, or with the line that was cut off.
func closing(line string, start, end int) int {
	if start == 0 || line[start-1] != '"' && line[start-1] != '\'' {
		return end
	}
	if i := strings.IndexByte(line[end:], line[start-1]); i >= 0 {
		return end + i
	}
	return len(line)
}

// harmless says whether a value is a constant, a reference or already masked.
func harmless(v string) bool {
	switch strings.ToLower(strings.Trim(v, `"'`)) {
	case "", "true", "false", "null", "yes", "no", Masked, "sha256":
		return true
	}
	return strings.Trim(v, "0123456789.") == "" && len(v) < 6 || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "/")
}
