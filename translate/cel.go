// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// reserved are words that no field is selected by without quotes.
var reserved = []string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
	"namespace", "null", "package", "return", "true", "var", "void", "while",
}

// isName says whether a field can be selected as it is.
func isName(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != "" && !slices.Contains(reserved, s)
}

// maybe returns the optional field of a value, or of an optional.
func maybe(of, field string) string {
	if isName(field) {
		return of + ".?" + field
	}
	return of + "[?" + quote(field) + "]"
}

// quote returns a string as CEL writes it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(`\U` + strings.Repeat("0", 8-len(strconv.FormatInt(int64(r), 16))) + strconv.FormatInt(int64(r), 16))
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// literal returns a value of JSON as CEL writes it.
func literal(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "null", true
	case bool:
		return strconv.FormatBool(v), true
	case string:
		return quote(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		if math.Abs(v) < 1<<62 && v == float64(int64(v)) {
			return strconv.FormatInt(int64(v), 10), true
		}
		out := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(out, ".") {
			out += ".0" // more than a whole number holds
		}
		return out, true
	case []any:
		return literalList(v)
	case map[string]any:
		return literalMap(v)
	}
	return "", false
}

func literalList(list []any) (string, bool) {
	mixed := false
	for _, v := range list {
		mixed = mixed || kindOf(v) != kindOf(list[0])
	}
	parts := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := literal(v)
		if !ok {
			return "", false
		}
		if mixed {
			s = "dyn(" + s + ")"
		}
		parts = append(parts, s)
	}
	return "[" + strings.Join(parts, ", ") + "]", true
}

func literalMap(m map[string]any) (string, bool) {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		s, ok := literal(m[k])
		if !ok {
			return "", false
		}
		parts = append(parts, quote(k)+": dyn("+s+")")
	}
	return "{" + strings.Join(parts, ", ") + "}", true
}

// kindOf returns what kind of value of JSON it is.
func kindOf(v any) valueKind {
	switch v.(type) {
	case bool:
		return boolValue
	case string:
		return stringValue
	case int, int64:
		return intValue
	case float64:
		return floatValue
	case []any:
		return listValue
	case map[string]any:
		return mapValue
	}
	return anyValue
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// The weakest operators first: what binds weaker than asked is put in
// parentheses.
const (
	isTernary = iota
	isOr
	isAnd
	isRelation
	isUnary
)

// outside yields the places of an expression that are in no quotes and no
// parentheses.
func outside(expr string) iter.Seq[int] {
	return func(yield func(int) bool) {
		depth := 0
		var inQuote byte
		for i := 0; i < len(expr); i++ {
			c := expr[i]
			switch {
			case inQuote != 0:
				switch c {
				case '\\':
					i++
				case inQuote:
					inQuote = 0
				}
			case c == '\'' || c == '"':
				inQuote = c
			case c == '(' || c == '[' || c == '{':
				depth++
			case c == ')' || c == ']' || c == '}':
				depth--
			case depth == 0:
				if !yield(i) {
					return
				}
			}
		}
	}
}

// binding returns how weak the weakest operator outside parentheses is.
func binding(expr string) int {
	out := isUnary
	for i := range outside(expr) {
		switch {
		case strings.HasPrefix(expr[i:], "? "):
			return isTernary
		case strings.HasPrefix(expr[i:], "||"):
			out = min(out, isOr)
		case strings.HasPrefix(expr[i:], "&&"):
			out = min(out, isAnd)
		case expr[i] == ' ':
			out = min(out, isRelation)
		}
	}
	return out
}

// wrap puts an expression in parentheses where it binds weaker than asked.
func wrap(expr string, at int) string {
	if binding(expr) < at {
		return "(" + expr + ")"
	}
	return expr
}

// The constants that conditions are folded with.
const (
	always = "true"
	never  = "false"
)

// and joins conditions; those that always hold are left out.
func and(parts ...string) string {
	var out []string
	for _, p := range parts {
		switch {
		case p == never:
			return never
		case p != always && p != "" && !slices.Contains(out, p):
			out = append(out, p)
		}
	}
	switch len(out) {
	case 0:
		return always
	case 1:
		return out[0]
	}
	for i := range out {
		out[i] = wrap(out[i], isAnd)
	}
	return strings.Join(out, " && ")
}

// or joins conditions of which one must hold.
func or(parts ...string) string {
	var out []string
	for _, p := range parts {
		switch {
		case p == always:
			return always
		case p != never && p != "" && !slices.Contains(out, p):
			out = append(out, p)
		}
	}
	switch len(out) {
	case 0:
		return never
	case 1:
		return out[0]
	}
	for i := range out {
		out[i] = wrap(out[i], isOr)
	}
	return strings.Join(out, " || ")
}

var (
	plainEquality = regexp.MustCompile(`^[\w.]+ == ('[^'\\]*'|\d+|true|false|null)$`)
	plainDiffers  = regexp.MustCompile(`^[\w.]+ != ('[^'\\]*'|\d+|true|false|null)$`)
)

// not negates a condition.
func not(expr string) string {
	switch {
	case expr == always:
		return never
	case expr == never:
		return always
	case plainEquality.MatchString(expr):
		return strings.Replace(expr, " == ", " != ", 1)
	case plainDiffers.MatchString(expr):
		return strings.Replace(expr, " != ", " == ", 1)
	case strings.HasPrefix(expr, "!") && binding(expr) == isUnary:
		return expr[1:]
	}
	return "!" + wrap(expr, isUnary)
}

// wild returns the condition that a string matches a pattern of * and ?.
func wild(v, pattern string) string {
	if pattern == "*" || strings.Trim(pattern, "*") == "" && pattern != "" {
		return always
	}
	if pattern == "?*" || pattern == "*?" {
		return v + " != ''"
	}
	inner := strings.Trim(pattern, "*")
	if !strings.ContainsAny(inner, "*?") {
		switch before, after := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*"); {
		case before && after:
			return v + ".contains(" + quote(inner) + ")"
		case before:
			return v + ".endsWith(" + quote(inner) + ")"
		case after:
			return v + ".startsWith(" + quote(inner) + ")"
		}
		return v + " == " + quote(pattern)
	}
	return v + ".matches(" + quote(wildRegexp(pattern)) + ")"
}

// wildRegexp returns the regular expression of a pattern of * and ?.
func wildRegexp(pattern string) string {
	var b strings.Builder
	b.WriteString("(?s)^")
	for _, r := range pattern {
		switch r {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString("$")
	return b.String()
}

// singular names an item of a list by the name of the list.
func singular(list string) string {
	if out := inSingular(list); !slices.Contains(taken, out) {
		return out
	}
	return "item"
}

// taken are names that mean something in CEL.
var taken = []string{
	"type", "list", "map", "string", "int", "uint", "double", "bool", "bytes", "dyn", "object", "oldObject", "request", "params",
	"variables", "authorizer", "namespaceObject", "duration", "timestamp", "optional", "value", "key", "entry", "text", "found", "elements", "entries",
}

func inSingular(list string) string {
	switch {
	case !isName(list):
		return "item"
	case strings.HasSuffix(list, "ies"):
		return strings.TrimSuffix(list, "ies") + "y"
	case strings.HasSuffix(list, "sses"):
		return strings.TrimSuffix(list, "es")
	case strings.HasSuffix(list, "s") && !strings.HasSuffix(list, "ss") && len(list) > 2:
		return strings.TrimSuffix(list, "s")
	}
	return "item"
}
