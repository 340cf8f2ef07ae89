// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// linesOf returns the lines of a text.
func linesOf(data []byte) []string {
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}

// parseINI reads sections of keys. Values that look like numbers or booleans are
// such. Keys before the first section are left out, and references to other keys
// stay as they are written.
func parseINI(data []byte) ([]any, error) {
	out := map[string]any{}
	section := map[string]any{}
	for i, line := range linesOf(data) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			end := strings.LastIndexByte(line, ']')
			if end < 0 {
				return nil, fmt.Errorf("line %d: a section has no ]", i+1)
			}
			name := strings.TrimSpace(line[1:end])
			if have, ok := out[name].(map[string]any); ok {
				section = have
				continue
			}
			section = map[string]any{}
			if !strings.EqualFold(name, "default") {
				out[name] = section
			}
			continue
		}
		at := strings.IndexAny(line, "=:")
		if at <= 0 {
			return nil, fmt.Errorf("line %d: no key and value: want key = value", i+1)
		}
		section[strings.Trim(strings.TrimSpace(line[:at]), "\"`")] = typed(iniValue(strings.TrimSpace(line[at+1:])))
	}
	return []any{out}, nil
}

var iniComment = regexp.MustCompile(`\s[#;].*$`)

// iniValue takes quotes and comments off a value.
func iniValue(s string) string {
	for _, quote := range []string{`"""`, `"`, "'", "`"} {
		if rest, ok := strings.CutPrefix(s, quote); ok {
			if value, _, closed := strings.Cut(rest, quote); closed {
				return value
			}
		}
	}
	if strings.HasPrefix(s, "#") || strings.HasPrefix(s, ";") {
		return ""
	}
	return strings.TrimSpace(iniComment.ReplaceAllString(s, ""))
}

// typed returns a text as the number or the boolean that it looks like.
func typed(s string) any {
	if f, err := strconv.ParseFloat(s, 64); err == nil && f == f && f-f == 0 {
		return f
	}
	if b, err := strconv.ParseBool(s); err == nil {
		return b
	}
	return s
}

// parseProperties reads the properties of Java. References to other keys stay as
// they are written.
func parseProperties(data []byte) ([]any, error) {
	out := map[string]any{}
	lines := linesOf(data)
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + strings.TrimLeft(lines[i], " \t\f")
		}
		at := separator(line)
		rest := strings.TrimLeft(line[at:], " \t\f")
		if rest != "" && (rest[0] == '=' || rest[0] == ':') {
			rest = strings.TrimLeft(rest[1:], " \t\f")
		}
		out[unescape(line[:at])] = unescape(rest)
	}
	return []any{out}, nil
}

// continues says whether a line ends in an odd number of backslashes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// separator returns where the key of a line ends.
func separator(line string) int {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '=', ':', ' ', '\t', '\f':
			return i
		}
	}
	return len(line)
}

// unescape resolves the escapes of properties.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if i+4 < len(s) {
				if r, err := strconv.ParseUint(s[i+1:i+5], 16, 16); err == nil {
					b.WriteRune(rune(r))
					i += 4
					continue
				}
			}
			b.WriteByte('u')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

var (
	dotenvLine      = regexp.MustCompile(`^\s*(?:export\s+)?([a-zA-Z_][\w.]*)\s*(?:=|:\s)\s*(.*?)\s*$`)
	dotenvReference = regexp.MustCompile(`\$\{?([a-zA-Z_]\w*)\}?`)
	dotenvEscapes   = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\"`, `"`, `\\`, `\`, `\$`, `$`)
)

// parseDotenv reads variables of an environment. References to variables that
// stand before are resolved, others stay as they are written.
func parseDotenv(data []byte) ([]any, error) {
	out := map[string]any{}
	for i, line := range linesOf(data) {
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		found := dotenvLine.FindStringSubmatch(line)
		if found == nil {
			return nil, fmt.Errorf("line %d: no variable and value: want NAME=value", i+1)
		}
		value, err := dotenvValue(found[2], out)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out[found[1]] = value
	}
	return []any{out}, nil
}

// maxValue is how long a value may become by references, in bytes.
const maxValue = 64 << 10

func dotenvValue(s string, have map[string]any) (string, error) {
	switch {
	case strings.HasPrefix(s, "'"):
		value, _, ok := strings.Cut(s[1:], "'")
		if !ok {
			return "", errors.New("a quote is not closed")
		}
		return value, nil
	case strings.HasPrefix(s, `"`):
		end := strings.LastIndexByte(s, '"')
		if end == 0 {
			return "", errors.New("a quote is not closed")
		}
		s = dotenvEscapes.Replace(s[1:end])
	case strings.HasPrefix(s, "#"):
		return "", nil
	default:
		s = strings.TrimSpace(iniComment.ReplaceAllString(s, ""))
	}
	s = dotenvReference.ReplaceAllStringFunc(s, func(ref string) string {
		name := strings.Trim(ref, "${}")
		if v, ok := have[name].(string); ok {
			return v
		}
		return ref
	})
	if len(s) > maxValue {
		return "", fmt.Errorf("a value is longer than %d KiB", maxValue>>10)
	}
	return s, nil
}

// parseIgnore reads a list of files to ignore, as git and Docker have it.
func parseIgnore(data []byte) ([]any, error) {
	out := []any{}
	lines := linesOf(data)
	if n := len(lines); n > 0 && lines[n-1] == "" {
		lines = lines[:n-1]
	}
	for _, line := range lines {
		kind, value := "Path", line
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "":
			kind, value = "Empty", ""
		case strings.HasPrefix(line, "#"):
			kind, value = "Comment", strings.TrimPrefix(line, "#")
		case strings.HasPrefix(line, "!"):
			kind, value = "NegatedPath", line[1:]
		}
		out = append(out, map[string]any{"Kind": kind, "Value": value, "Original": line})
	}
	return []any{out}, nil
}
