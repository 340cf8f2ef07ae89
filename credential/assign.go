// SPDX-License-Identifier: Apache-2.0

package credential

import "strings"

// assigned looks at the name around an offset of a text and returns the
// credential that it is given there, if any: in the manners of YAML, JSON, TOML,
// properties, XML, the shell and command lines. next is how far it looked.
func assigned(text string, at int, syntax Syntax) (f Found, next int, ok bool) {
	start, end := at, at
	for start > 0 && isNameByte(text[start-1]) {
		start--
	}
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	flag := start
	for flag < end && text[flag] == '-' {
		flag++
	}
	name := strings.TrimRight(text[flag:end], ".-")
	if len(name) > 100 {
		return f, end, false
	}
	n := nounOf(name)
	if n == none || isComment(text, start) || start > 0 && strings.IndexByte("$%@", text[start-1]) >= 0 || start > 1 && text[start-2:start] == "${" {
		return f, end, false
	}
	r := reader{text: text, at: end, syntax: syntax}
	r.flag = flag-start == 2 || flag-start == 1 && syntax == CommandLine
	from, to, quoted, ok := r.value(start)
	if !ok {
		return f, end, false
	}
	v := text[from:to]
	if n != passphrase && strings.ContainsAny(v, " \t") {
		return f, end, false
	}
	where := inText
	if r.flag || syntax == CommandLine {
		where = setting
	}
	if harmless(name, n, v, where) {
		return f, end, false
	}
	if !quoted && isExpression(v) || syntax == Code && (!quoted || !Random(v)) {
		return f, end, false
	}
	return Found{Rule: byName, Kind: kindOf(name, n, v), Name: name, Start: from, End: to}, to, true
}

func isNameByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' || c == '-' || c == '.' }

// maxLine is how far from a name its value is looked for, and the beginning of
// its line, in bytes: minified JSON is one line.
const maxLine = 1 << 10

// isComment says whether the line of an offset is a comment.
func isComment(text string, at int) bool {
	before := text[max(0, at-maxLine):at]
	line := strings.TrimLeft(before[strings.LastIndexByte(before, '\n')+1:], " \t")
	for _, p := range [...]string{"#", "//", ";", "* ", "/*", "<!--", "REM "} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return strings.HasPrefix(line, "--") && strings.HasPrefix(strings.TrimLeft(line, "-"), " ") // SQL, Lua
}

// isExpression says whether what is not quoted is computed, and no value:
// config.password, getPassword().
func isExpression(v string) bool {
	if strings.ContainsAny(v, "(){}[]<>`|") || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "&") || strings.HasPrefix(v, "*") || strings.HasPrefix(v, "!") {
		return true
	}
	return strings.Contains(v, ".") && isWord(v) && !Random(v)
}

// reader reads the value of a name.
type reader struct {
	text   string
	at     int
	syntax Syntax
	flag   bool // the name is that of a flag
}

// value returns where the value stands that follows the name, which begins at
// start.
func (r *reader) value(start int) (from, to int, quoted, ok bool) {
	if start > 0 && r.text[start-1] == '<' && r.peek() == '>' {
		from = r.at + 1
		n := strings.IndexAny(r.text[from:min(len(r.text), from+maxLine)], "<\n")
		return from, from + max(n, 0), true, n > 0 // <password>…</password>
	}
	r.quote()
	r.blanks()
	if strings.HasPrefix(r.text[r.at:], "[]") {
		return 0, 0, false, false
	}
	switch sep := r.separator(); {
	case sep != 0:
		r.blanks()
		return r.scalar(sep)
	case r.flag:
		if r.at == start || r.at >= len(r.text) || r.text[r.at-1] != ' ' && r.text[r.at-1] != '\t' || r.text[r.at] == '-' {
			return 0, 0, false, false
		}
		return r.scalar('=')
	}
	return r.sibling()
}

// separator passes over what stands between a name and its value, and returns
// it; 0 if there is none.
func (r *reader) separator() byte {
	rest := r.text[r.at:]
	for _, s := range [...]string{"==", "=~", "::", ":-", ":?", ":+", "=>", ":=", "=", ":"} {
		if !strings.HasPrefix(rest, s) {
			continue
		}
		switch s {
		case "==", "=~", "::", ":-", ":?", ":+":
			return 0
		}
		r.at += len(s)
		return s[0]
	}
	return 0
}

// sibling reads the value that stands beside the name: name: DB_PASSWORD and
// below it value: …, or name="password" value="…".
func (r *reader) sibling() (from, to int, quoted, ok bool) {
	rest := r.text[r.at:]
	rest = rest[:min(len(rest), 100)]
	trimmed := strings.TrimLeft(rest, " \t\r\n,")
	if len(rest)-len(trimmed) > 80 {
		return 0, 0, false, false
	}
	r.at += len(rest) - len(trimmed)
	if tag, ok := strings.CutPrefix(trimmed, "</name>"); ok {
		return r.element(len(trimmed)-len(tag), "<value>")
	}
	r.quote()
	if !foldPrefix(r.text[r.at:], "value") {
		return 0, 0, false, false
	}
	r.at += len("value")
	r.quote()
	r.blanks()
	sep := r.separator()
	if sep == 0 {
		return 0, 0, false, false
	}
	r.blanks()
	return r.scalar(sep)
}

// element reads what stands in the next element of XML: <value>…</value>.
func (r *reader) element(skip int, tag string) (from, to int, quoted, ok bool) {
	rest := r.text[r.at+skip : min(len(r.text), r.at+maxLine)]
	body, ok := strings.CutPrefix(strings.TrimLeft(rest, " \t\r\n"), tag)
	n := strings.IndexAny(body, "<\n")
	if !ok || n <= 0 {
		return 0, 0, false, false
	}
	from = r.at + skip + len(rest) - len(body)
	return from, from + n, true, true
}

// scalar reads a value: between quotes, or up to where it ends without.
func (r *reader) scalar(sep byte) (from, to int, quoted, ok bool) {
	stop := min(len(r.text), r.at+maxLine)
	rest := r.text[r.at:stop]
	open := quoteOf(rest)
	if open != "" {
		from = r.at + len(open)
		to = from
		for to < stop && !strings.HasPrefix(r.text[to:], open) {
			if r.text[to] == '\n' {
				return 0, 0, false, false
			}
			if r.text[to] == '\\' && len(open) == 1 {
				to++
			}
			to++
		}
		if to >= stop {
			return 0, 0, false, false
		}
		after := strings.TrimLeft(r.text[to+len(open):], " \t")
		return from, to, true, r.syntax != Code || after == "" || strings.IndexByte("+.%([", after[0]) < 0
	}
	end := strings.IndexByte(rest, '\n')
	if end < 0 {
		end = len(rest)
	}
	v := rest[:end]
	cut := " \t,&;\"'"
	if sep == ':' {
		cut = ",}]\"'" // spaces belong to a value of YAML
		if c := strings.Index(v, " #"); c >= 0 {
			v = v[:c]
		}
	}
	if c := strings.IndexAny(v, cut); c >= 0 {
		v = v[:c]
	}
	v = strings.TrimRight(v, " \t\r\\")
	return r.at, r.at + len(v), false, v != ""
}

// quoteOf returns the quotation mark that a text begins with: " ' or either in
// a text that is itself quoted.
func quoteOf(s string) string {
	for _, q := range [...]string{`"`, `'`, `\"`, `\'`, "`"} {
		if strings.HasPrefix(s, q) {
			return q
		}
	}
	return ""
}

// quote passes over a quotation mark.
func (r *reader) quote() { r.at += len(quoteOf(r.text[r.at:])) }

// blanks passes over spaces, but for the end of the line.
func (r *reader) blanks() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\t') {
		r.at++
	}
}

func (r *reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}
