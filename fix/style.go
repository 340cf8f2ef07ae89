// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"strings"
)

// style is how a document is written, so far as new text must match it.
type style struct {
	// step is how much deeper a mapping stands than the one that holds it;
	// dash how much deeper a sequence's dashes stand than their key.
	step, dash int
	// newline ends a line.
	newline string
	// json is how JSON is written; nil for YAML.
	json *jsonLayout
}

// jsonLayout is how a JSON text is written.
type jsonLayout struct {
	// indent is one step of indentation; "" for a text on one line.
	indent string
	// colon and comma are followed by a space, or not.
	colon, comma string
}

// habits counts how a YAML text is written; the majority decides.
type habits struct {
	steps, dashes map[int]int
}

func newHabits() *habits { return &habits{map[int]int{}, map[int]int{}} }

// pair counts the indentation of a pair's value.
func (h *habits) pair(n *node, e *entry) {
	switch v := e.value; {
	case n.flow || v.flow || e.explicit:
	case v.shape == mapping:
		h.steps[v.col-n.col]++
	case v.shape == sequence:
		h.dashes[v.col-n.col]++
	}
}

// style returns what the majority does; kubectl's habits where there is none.
func (h *habits) style(text []byte) style {
	return style{step: majority(h.steps, 2), dash: majority(h.dashes, 0), newline: newline(text)}
}

// majority returns the number counted most often; the smaller of two.
func majority(counts map[int]int, otherwise int) int {
	best, most := otherwise, 0
	for n, count := range counts {
		if count > most || count == most && n < best {
			best, most = n, count
		}
	}
	return best
}

// newline returns the line break that the text uses most.
func newline(text []byte) string {
	if crlf := bytes.Count(text, []byte("\r\n")); 2*crlf > bytes.Count(text, []byte("\n")) {
		return "\r\n"
	}
	return "\n"
}

// jsonStyle returns how a JSON text is written, by its first entries.
func jsonStyle(doc *layout) style {
	s := style{step: 2, newline: newline(doc.text), json: &jsonLayout{colon: ":", comma: ","}}
	root := doc.root
	if len(root.entries) == 0 {
		return s
	}
	first := root.entries[0]
	if doc.first(first.start) && bytes.IndexByte(doc.text[root.start:first.start], '\n') >= 0 {
		s.json.indent = strings.TrimPrefix(doc.indentation(first.start), doc.indentation(root.start))
	}
	if c := doc.at(first.after); c == ' ' || c == '\t' {
		s.json.colon = ": "
	}
	if s.json.indent == "" && first.comma >= 0 && doc.at(first.comma+1) == ' ' || s.json.colon == ": " {
		s.json.comma = ", "
	}
	return s
}

// indentation returns the white space with which the offset's line begins.
func (l *layout) indentation(pos int) string {
	line := l.text[l.lineStart(pos):pos]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}
