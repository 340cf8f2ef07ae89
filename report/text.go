// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/clipperhouse/displaywidth"
)

// hidden says that a character does not show itself: a control character that
// a terminal would obey, or a format character that changes the order of others
// or has no width. The joiners that scripts and emoji need are let through.
func hidden(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r < 0xa0:
		return true
	case r < 0xa0, r == '\u200c', r == '\u200d':
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// visible returns a text as one line in which every hidden character is
// replaced by its escape, as Go and JSON write it.
func visible(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	var b strings.Builder
	for _, r := range s {
		writeVisible(&b, r)
	}
	return b.String()
}

func writeVisible(b *strings.Builder, r rune) {
	switch {
	case !hidden(r):
		b.WriteRune(r)
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\r':
		b.WriteString(`\r`)
	case r == '\t':
		b.WriteString(`\t`)
	case r < 0x100:
		fmt.Fprintf(b, `\x%02x`, r)
	case r <= 0xffff:
		fmt.Fprintf(b, `\u%04x`, r)
	default:
		fmt.Fprintf(b, `\U%08x`, r)
	}
}

// prose returns a text of several words as one visible line: line breaks and
// indentation of a YAML block are spaces.
func prose(s string) string {
	return visible(strings.Join(strings.Fields(s), " "))
}

func width(s string) int {
	return displaywidth.String(s)
}

// wrap breaks prose into lines of at most max columns.
func wrap(s string, max int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(visible(s)) {
		for {
			joined := word
			if line != "" {
				joined = line + " " + word
			}
			if width(joined) <= max {
				line = joined
				break
			}
			if line == "" {
				line, word = cutLeft(word, max)
			}
			lines, line = append(lines, line), ""
		}
	}
	return append(lines, line)
}

// cutLeft splits off the first characters, of at most max columns but at least
// one character.
func cutLeft(s string, max int) (head, tail string) {
	used, end := 0, 0
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		if used += g.Width(); used > max && end > 0 {
			break
		}
		end += len(g.Value())
	}
	return s[:end], s[end:]
}

// lastColumns returns the end of a text that is at most max columns wide.
func lastColumns(s string, max int) string {
	over := width(s) - max
	if over <= 0 {
		return s
	}
	start := 0
	for g := displaywidth.StringGraphemes(s); over > 0 && g.Next(); {
		over -= g.Width()
		start += len(g.Value())
	}
	return s[start:]
}

// firstColumns returns the beginning of a text, at most max columns wide, with
// an ellipsis where something is left out.
func firstColumns(s string, max int) string {
	return displaywidth.TruncateString(s, max, "…")
}

// excerpt is a quoted line in three parts, as it is shown; At is the word that
// is meant, empty where the column is not known.
type excerpt struct {
	Before, At, After string
}

// tabStop is how far tabs go in a quoted line.
const tabStop = 4

// quote splits a line of a file at a column that counts characters from 1.
func quote(line string, column int) excerpt {
	runes := []rune(line)
	if column < 1 || column > len(runes) {
		return excerpt{Before: expand(line, 0)}
	}
	start := column - 1
	end := start + wordLen(runes[start:])
	e := excerpt{Before: expand(string(runes[:start]), 0)}
	e.At = expand(string(runes[start:end]), width(e.Before))
	e.After = expand(string(runes[end:]), width(e.Before)+width(e.At))
	return e
}

// wordLen returns the length of the key or value that a text begins with, at
// least 1.
func wordLen(s []rune) int {
	if s[0] == '"' || s[0] == '\'' {
		for i := 1; i < len(s); i++ {
			if s[i] == s[0] && s[i-1] != '\\' {
				return i + 1
			}
		}
	}
	for i, r := range s {
		if i > 0 && (unicode.IsSpace(r) || r == ',' || r == ']' || r == '}' || r == ':' && (i+1 == len(s) || unicode.IsSpace(s[i+1]))) {
			return i
		}
	}
	return len(s)
}

// expand makes a text visible and its tabs spaces; at is the column at which it
// begins.
func expand(s string, at int) string {
	if !strings.Contains(s, "\t") {
		return visible(s)
	}
	var b strings.Builder
	for i, part := range strings.Split(s, "\t") {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", tabStop-at%tabStop))
			at += tabStop - at%tabStop
		}
		part = visible(part)
		b.WriteString(part)
		at += width(part)
	}
	return b.String()
}

// crop shortens the line to max columns so that the word stays in sight.
func (e excerpt) crop(max int) excerpt {
	before, at := width(e.Before), width(e.At)
	if before+at+width(e.After) <= max {
		return e
	}
	if room := max - min(at, max/2) - 2; before > room {
		e.Before = "…" + lastColumns(e.Before, min(room, max/3))
		before = width(e.Before)
	}
	e.At = firstColumns(e.At, max-before)
	if left := max - before - width(e.At); left > 0 {
		e.After = firstColumns(e.After, left)
	} else {
		e.After = ""
	}
	return e
}

// line is the whole line.
func (e excerpt) line() string {
	return strings.TrimRight(e.Before+e.At+e.After, " ")
}

// Caret is the line that goes below; empty where the column is not known.
func (e excerpt) Caret() string {
	if e.At == "" {
		return ""
	}
	return strings.Repeat(" ", width(e.Before)) + "^" + strings.Repeat("~", max(0, width(e.At)-1))
}

// diffLines returns the lines of a diff as they are shown: without what all of
// them begin with in blanks, and, where they are wider than max, around what
// makes them differ. A line's first byte is its sign, which stays.
func diffLines(diff []string, max int) []string {
	var signs, texts []string
	widest := 0
	for _, l := range diff {
		if l == "" {
			continue
		}
		signs = append(signs, l[:1]+" ")
		text := expand(l[1:], 0)
		texts = append(texts, text)
		if w := width(text); w > widest {
			widest = w
		}
	}
	shared := sharedPrefix(texts)
	blanks := len(shared) - len(strings.TrimLeft(shared, " "))
	cut, mark := blanks, ""
	if widest-blanks > max-2 {
		if kept := lastColumns(shared[blanks:], max/3); len(kept) < len(shared)-blanks {
			cut, mark = len(shared)-len(kept), "…"
		}
	}
	for i, text := range texts {
		texts[i] = firstColumns(signs[i]+mark+text[cut:], max)
	}
	return texts
}

// sharedPrefix returns what all texts begin with.
func sharedPrefix(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	shared := []rune(texts[0])
	for _, t := range texts[1:] {
		shared = shared[:commonPrefix(shared, []rune(t))]
	}
	return string(shared)
}

// plural returns a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
