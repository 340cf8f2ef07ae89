// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"bytes"
	"unicode"

	"sconce.dev/sconce/object"
)

// source is the document that a control stands in.
type source struct {
	file string
	text object.Text
	root *object.Node
}

// find returns the document of a file that holds the control.
func find(file string, data []byte, control string) source {
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err == nil && root != nil && root.Get("kind").Str() == "Control" && root.At("metadata", "name").Str() == control {
			return source{file, text, root}
		}
	}
	return source{file: file}
}

// place returns where the n-th character of the text of a field stands.
func (s source) place(field string, n int) object.Position {
	p := object.Position{File: s.file}
	if s.root == nil {
		return p
	}
	path := object.ParsePath(field)
	spot, _ := s.root.SpotOf(path)
	if value := s.root.Lookup(path); value != nil {
		spot = object.Spot{Line: int(value.Line), Col: int(value.Col)}
		if value.Kind == object.String {
			spot = align(s.text, spot, []rune(value.Text), n)
		}
	}
	p.Line, p.Column = spot.Line, spot.Col
	return p
}

// align follows the value of a scalar through the text that it was read from,
// folded lines and escapes included, and returns where its n-th character
// stands.
func align(text object.Text, at object.Spot, value []rune, n int) object.Spot {
	lines := bytes.Split(text.Bytes, []byte("\n"))
	first := at.Line - text.Line
	if first < 0 || first >= len(lines) {
		return at
	}
	src := bytes.Runes(bytes.Join(lines[first:], []byte("\n")))
	p := min(max(at.Col-1, 0), len(src))
	switch {
	case p >= len(src):
		return at
	case src[p] == '|' || src[p] == '>':
		for p < len(src) && src[p] != '\n' {
			p++
		}
	case src[p] == '"' || src[p] == '\'':
		p++
	}
	space := func() {
		for p < len(src) && unicode.IsSpace(src[p]) {
			p++
		}
	}
	space()
	for i := 0; i < len(value) && p < len(src); i++ {
		if unicode.IsSpace(value[i]) {
			if i >= n {
				break
			}
			space()
			continue
		}
		start := p
		for p < len(src) && src[p] != value[i] {
			p++
		}
		if p == len(src) {
			p = start // an escape that is written in other letters
		}
		if i >= n {
			break
		}
		p++
	}
	spot := object.Spot{Line: at.Line, Col: 1}
	for _, c := range src[:min(p, len(src))] {
		spot.Col++
		if c == '\n' {
			spot.Line, spot.Col = spot.Line+1, 1
		}
	}
	return spot
}
