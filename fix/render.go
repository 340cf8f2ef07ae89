// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"sconce.dev/sconce/object"
)

// pen writes new values in a document's style.
type pen struct {
	style
	// quote is what strings are put in: '"' or '\'', or 0 for plain where that
	// is safe. keys says the same of keys.
	quote, keys byte
}

// collection says that a value is a list or map with something in it.
func collection(v *object.Node) bool { return len(v.Items)+len(v.Fields) > 0 }

// value returns what follows the colon of a key at a column, in block style.
func (p pen) value(v *object.Node, col int) string {
	switch {
	case len(v.Fields) > 0:
		return p.line(col+p.step) + p.fields(v, col+p.step)
	case len(v.Items) > 0:
		return p.line(col+p.dash) + p.items(v, col+p.dash)
	}
	return " " + p.scalar(v, false)
}

// entries returns a list or map with something in it, in block style; the first
// line is already at the column.
func (p pen) entries(v *object.Node, col int) string {
	if v.Kind == object.Map {
		return p.fields(v, col)
	}
	return p.items(v, col)
}

func (p pen) fields(v *object.Node, col int) string {
	lines := make([]string, len(v.Fields))
	for i, f := range v.Fields {
		lines[i] = p.key(f.Key, false) + ":" + p.value(f.Value, col)
	}
	return strings.Join(lines, p.line(col))
}

func (p pen) items(v *object.Node, col int) string {
	lines := make([]string, len(v.Items))
	for i, item := range v.Items {
		lines[i] = "-" + p.item(item, col, 1)
	}
	return strings.Join(lines, p.line(col))
}

// item returns what follows the dash at a column, gap spaces between.
func (p pen) item(v *object.Node, col, gap int) string {
	space := strings.Repeat(" ", gap)
	if collection(v) {
		return space + p.entries(v, col+1+gap)
	}
	return space + p.scalar(v, false)
}

// line begins a new line at a column.
func (p pen) line(col int) string { return p.newline + strings.Repeat(" ", col) }

// flow returns the value as it stands between brackets; indent is that of its
// line, which JSON over several lines goes on from.
func (p pen) flow(v *object.Node, indent string) string {
	if !collection(v) {
		return p.scalar(v, true)
	}
	open, end := "[", "]"
	if v.Kind == object.Map {
		open, end = "{", "}"
	}
	comma := ", "
	before, after := "", ""
	if p.json != nil {
		comma = p.json.comma
		if p.json.indent != "" {
			before, after = p.newline+indent+p.json.indent, p.newline+indent
			comma = "," + before
			indent += p.json.indent
		}
	}
	var parts []string
	for _, item := range v.Items {
		parts = append(parts, p.flow(item, indent))
	}
	for _, f := range v.Fields {
		parts = append(parts, p.pair(f.Key, f.Value, indent))
	}
	return open + before + strings.Join(parts, comma) + after + end
}

// pair returns a key and its value between brackets.
func (p pen) pair(key string, v *object.Node, indent string) string {
	colon := ": "
	if p.json != nil {
		colon = p.json.colon
	}
	return p.key(key, true) + colon + p.flow(v, indent)
}

// key returns a mapping's key.
func (p pen) key(key string, flow bool) string {
	return quoted(key, p.keys, flow)
}

// scalar returns a scalar, or an empty list or map.
func (p pen) scalar(v *object.Node, flow bool) string {
	switch v.Kind {
	case object.Null:
		return "null"
	case object.String:
		return quoted(v.Text, p.quote, flow)
	}
	return v.Scalar()
}

// quoted returns a string in the quotes that are wanted, in double quotes where
// it would not be the same string without.
func quoted(s string, quote byte, flow bool) string {
	printable := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	switch {
	case quote == 0 && plain(s, flow):
		return s
	case quote == '\'' && printable && s != "":
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return doubleQuoted(s)
}

// doubleQuoted escapes what neither YAML nor JSON takes as it is.
func doubleQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x10000 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// words are plain scalars that some reader of YAML takes for something else
// than a string, in lower case.
var words = map[string]bool{
	"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true,
	"true": true, "false": true, "null": true, "nan": true, "inf": true,
}

// plain says that a string may stand without quotes: every reader of YAML, 1.1
// or 1.2, then takes it for just this string. It is stricter than the standard.
func plain(s string, flow bool) bool {
	if s == "" || words[strings.ToLower(s)] || strings.HasSuffix(s, ":") || strings.HasSuffix(s, " ") {
		return false
	}
	if c := s[0]; !letter(c) && c != '/' && c != '_' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case letter(c) || c >= '0' && c <= '9' || strings.IndexByte("/_-.@+=()", c) >= 0:
		case flow || strings.IndexByte(" :,", c) < 0:
			return false
		case c == ':' && s[i+1] == ' ':
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// canonical returns a plain key as the object's tree has it: on is "true".
func canonical(key string) string {
	if key == "" || letter(key[0]) && !words[strings.ToLower(key)] {
		return key
	}
	n, err := object.ParseYAML(object.Text{Bytes: []byte("- " + key), Line: 1})
	if err != nil || n == nil || n.Kind != object.List || len(n.Items) != 1 {
		return key
	}
	switch item := n.Items[0]; item.Kind {
	case object.String:
		return item.Text
	case object.Null:
		return "null"
	case object.Int:
		return strconv.FormatInt(item.Int(), 10)
	default:
		return item.Scalar()
	}
}
