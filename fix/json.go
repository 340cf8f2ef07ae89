// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"

	"go.yaml.in/yaml/v4"
	"sconce.dev/sconce/object"
)

// jsonScanner locates the values of a JSON text that is known to parse. YAML's
// parser is no substitute: it refuses some of JSON's escapes.
type jsonScanner struct {
	*layout
	pos int
}

func (s *jsonScanner) space() {
	for isSpace(s.at(s.pos)) {
		s.pos++
	}
}

// value locates the value at the scanner's place.
func (s *jsonScanner) value() *node {
	s.space()
	n := &node{start: s.pos, body: s.pos}
	switch s.at(s.pos) {
	case '{':
		n.shape, n.flow = mapping, true
		s.collection(n, '}')
	case '[':
		n.shape, n.flow = sequence, true
		s.collection(n, ']')
	case '"':
		s.pos = s.doubleQuoted(s.pos)
		n.style, n.text = yaml.DoubleQuotedStyle, unquote(s.text[n.start:s.pos])
	default:
		for s.pos < len(s.text) && bytes.IndexByte([]byte(" \t\r\n,]}"), s.text[s.pos]) < 0 {
			s.pos++
		}
		n.text = string(s.text[n.start:s.pos])
	}
	n.end = s.pos
	return n
}

func (s *jsonScanner) collection(n *node, end byte) {
	s.pos++
	for s.space(); s.at(s.pos) != end; s.space() {
		e := entry{start: s.pos, comma: -1, after: s.pos}
		if n.shape == mapping {
			e.key = s.value()
			s.space()
			s.pos++
			e.after = s.pos
		}
		e.value = s.value()
		if s.space(); s.at(s.pos) == ',' {
			e.comma = s.pos
			s.pos++
		}
		n.entries = append(n.entries, e)
	}
	s.pos++
}

// unquote returns the value of a JSON string.
func unquote(raw []byte) string {
	docs, err := object.ParseJSON(raw)
	if err != nil || len(docs) != 1 {
		return ""
	}
	return docs[0].Text
}
