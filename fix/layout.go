// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"sconce.dev/sconce/object"
)

// shape is what a node is in the text.
type shape uint8

const (
	scalar shape = iota
	mapping
	sequence
	alias
)

// node is a value of the text with the bytes that it takes.
type node struct {
	shape shape
	// flow says that a mapping or sequence is written with brackets.
	flow bool
	// bare is a mapping of one pair in a flow sequence, without braces.
	bare   bool
	tagged bool
	anchor string
	// users are where aliases of the node stand, as a person names them.
	users []string
	// style and text are a scalar's; text is an alias's anchor.
	style yaml.Style
	text  string
	// start and end are the value's bytes, an anchor and a tag before it
	// included; body is where it begins after those. A block mapping or
	// sequence ends with its last value.
	start, body, end int
	// col is the column, from 0 and in characters, of the keys of a block
	// mapping and of the dashes of a block sequence.
	col     int
	entries []entry
	yaml    *yaml.Node
	// up is the collection that holds the node, at step.
	up   *node
	step object.Step
}

// entry is a pair of a mapping or an item of a sequence.
type entry struct {
	// start is where the key, the dash or the flow item begins.
	start int
	key   *node
	// after is where the value may begin: after the colon or the dash. It is
	// -1 for a flow key without a colon.
	after int
	value *node
	// explicit is a key written after "?".
	explicit bool
	// comma is where the comma after a flow entry is, or -1.
	comma int
}

func (e *entry) end() int { return e.value.end }

// empty says that nothing is written for the value.
func (n *node) empty() bool {
	return n.shape == scalar && n.style == 0 && n.text == "" && !n.tagged && n.anchor == ""
}

// null says that the value is null.
func (n *node) null() bool {
	if n.shape != scalar || n.tagged || n.style&written != 0 {
		return false
	}
	switch n.text {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

const (
	quotes  = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle
	blocks  = yaml.LiteralStyle | yaml.FoldedStyle
	written = quotes | blocks
)

// layout is a text with the places of its values.
type layout struct {
	text  []byte
	root  *node
	style style
	json  bool
}

// layout finds the values in a text that is known to parse.
func (f *format) layout(text []byte) (doc *layout, err error) {
	doc = &layout{text: text, json: f.json}
	if f.json {
		s := jsonScanner{layout: doc}
		doc.root = s.value()
		doc.style = jsonStyle(doc)
		return doc, nil
	}
	var y yaml.Node
	if err := yaml.Unmarshal(text, &y); err != nil || len(y.Content) == 0 {
		return nil, refuse("the text between two edits would not parse (%v): edit it by hand", err)
	}
	s := scanner{layout: doc, lines: lineStarts(text), anchors: map[*yaml.Node]*node{}, habits: newHabits()}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case lost:
			err = refuse("line %d is laid out in a way that cannot be edited safely: edit it by hand", 1+bytes.Count(text[:min(int(r), len(text))], []byte("\n")))
		default:
			err = refuse("the text is laid out in a way that was not foreseen (%v): edit it by hand", r)
		}
	}()
	doc.root = s.node(y.Content[0], nil, object.Step{}, 0, -1)
	doc.style = s.habits.style(text)
	return doc, nil
}

// lost is the panic of a scanner that met something else than the parser did,
// with the place; layout turns it into a refusal.
type lost int

// scanner walks the parser's tree and the text side by side.
type scanner struct {
	*layout
	lines   []int
	anchors map[*yaml.Node]*node
	habits  *habits
}

// lineStarts returns where the lines begin, by the parser's line breaks.
func lineStarts(text []byte) []int {
	out := []int{0}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\n':
		case text[i] == '\r' && (i+1 == len(text) || text[i+1] != '\n'):
		case text[i] == 0xC2 && i+1 < len(text) && text[i+1] == 0x85:
			i++
		case text[i] == 0xE2 && i+2 < len(text) && text[i+1] == 0x80 && (text[i+2] == 0xA8 || text[i+2] == 0xA9):
			i += 2
		default:
			continue
		}
		out = append(out, i+1)
	}
	return out
}

// offset returns where a line and column, both from 1, are.
func (s *scanner) offset(line, col int) int {
	if line < 1 || line > len(s.lines) {
		panic(lost(len(s.text)))
	}
	pos := s.lines[line-1]
	for ; col > 1; col-- {
		if pos >= len(s.text) {
			panic(lost(pos))
		}
		_, size := utf8.DecodeRune(s.text[pos:])
		pos += size
	}
	return pos
}

// at returns the byte at an offset, 0 at the end.
func (l *layout) at(pos int) byte {
	if pos < 0 || pos >= len(l.text) {
		return 0
	}
	return l.text[pos]
}

// skip returns where the next thing that is neither space nor comment begins.
func (l *layout) skip(pos int) int {
	for pos < len(l.text) {
		switch c := l.text[pos]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			pos++
		case c == '#' && (pos == 0 || strings.IndexByte(" \t\r\n,[]{}", l.text[pos-1]) >= 0):
			pos = l.lineEnd(pos)
		default:
			return pos
		}
	}
	return pos
}

// expect is skip to a certain byte.
func (s *scanner) expect(pos int, c byte) int {
	pos = s.skip(pos)
	if s.at(pos) != c {
		panic(lost(pos))
	}
	return pos
}

// node locates the value y, which stands in up. Where nothing is written for
// it, it is at the offset after; indent is the column of the innermost block
// collection.
func (s *scanner) node(y *yaml.Node, up *node, step object.Step, after, indent int) *node {
	n := &node{yaml: y, up: up, step: step, anchor: y.Anchor, tagged: y.Style&yaml.TaggedStyle != 0, style: y.Style &^ (yaml.TaggedStyle | yaml.FlowStyle)}
	if y.Kind == yaml.ScalarNode {
		n.text = y.Value
		if n.empty() {
			n.start, n.body, n.end = after, after, after
			return n
		}
	}
	n.start = s.offset(y.Line, y.Column)
	if n.start < after || s.skip(after) != n.start && up != nil {
		panic(lost(n.start))
	}
	n.body = s.properties(n)
	if y.Anchor != "" {
		s.anchors[y] = n
	}
	switch y.Kind {
	case yaml.AliasNode:
		n.shape, n.text = alias, y.Value
		n.end = n.start + 1 + len(y.Value)
		if target := s.anchors[y.Alias]; target != nil {
			target.users = append(target.users, place(n))
		}
	case yaml.ScalarNode:
		s.scalar(n, indent)
	case yaml.SequenceNode:
		n.shape = sequence
		s.sequence(n, indent)
	case yaml.MappingNode:
		n.shape = mapping
		s.mapping(n, indent)
	default:
		panic(lost(n.start))
	}
	return n
}

// place names where an alias stands: by the nearest key.
func place(n *node) string {
	for n.up != nil && (n.step.Item || n.step.Field == "<<") {
		n = n.up
	}
	var path object.Path
	for ; n.up != nil; n = n.up {
		path = append(path, n.step)
	}
	slices.Reverse(path)
	return shown(path)
}

// properties skips an anchor and a tag and returns where the value begins.
func (s *scanner) properties(n *node) int {
	pos := n.start
	end := pos
	for c := s.at(pos); (n.anchor != "" || n.tagged) && (c == '&' || c == '!'); c = s.at(pos) {
		for pos < len(s.text) && strings.IndexByte(" \t\r\n", s.text[pos]) < 0 && !(c == '&' && strings.IndexByte(",[]{}", s.text[pos]) >= 0) {
			pos++
		}
		end = pos
		pos = s.skip(pos)
	}
	if n.text == "" && n.style == 0 && n.yaml.Kind == yaml.ScalarNode {
		return end
	}
	return pos
}

// mapping locates a mapping's pairs.
func (s *scanner) mapping(n *node, indent int) {
	y := n.yaml
	n.flow = y.Style&yaml.FlowStyle != 0
	n.bare = n.flow && s.at(n.body) != '{'
	n.entries = make([]entry, 0, len(y.Content)/2)
	pos, column := n.body, indent
	switch {
	case n.flow && !n.bare:
		pos++
	case !n.flow:
		n.col = s.column(n.body)
		column = n.col
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		e := s.pair(n, i, pos, column)
		pos = e.end()
		if n.flow && !n.bare {
			pos = s.comma(&e)
		}
		if !n.flow && !e.explicit && s.column(e.start) != n.col {
			panic(lost(e.start))
		}
		n.entries = append(n.entries, e)
		s.habits.pair(n, &e)
	}
	n.end = pos
	if n.flow && !n.bare {
		n.end = s.expect(pos, '}') + 1
	}
}

// pair locates the key i of a mapping and its value.
func (s *scanner) pair(n *node, i, pos, column int) entry {
	k, v := n.yaml.Content[i], n.yaml.Content[i+1]
	e := entry{start: s.skip(pos), comma: -1, after: -1}
	pos = e.start
	if c := s.at(pos + 1); s.at(pos) == '?' && strings.IndexByte(" \t\r\n", c) >= 0 {
		e.explicit = true
		pos = s.skip(pos + 1)
	}
	step := object.Step{Field: k.Value}
	e.key = s.node(k, n, step, pos, column)
	colon := s.skip(e.key.end)
	if s.at(colon) == ':' {
		e.after = colon + 1
	} else if !n.flow && !e.explicit {
		panic(lost(colon))
	}
	if e.key.empty() || e.key.shape == mapping || e.key.shape == sequence || e.after < 0 && !n.flow {
		e.explicit = true
	}
	e.value = s.node(v, n, step, max(e.after, e.key.end), column)
	return e
}

// comma finds the comma after a flow entry and returns where the next begins.
func (s *scanner) comma(e *entry) int {
	if pos := s.skip(e.end()); s.at(pos) == ',' {
		e.comma = pos
		return pos + 1
	}
	return e.end()
}

// sequence locates a sequence's items.
func (s *scanner) sequence(n *node, indent int) {
	y := n.yaml
	n.flow = y.Style&yaml.FlowStyle != 0
	n.entries = make([]entry, 0, len(y.Content))
	pos := n.body
	if n.flow {
		pos++
	} else {
		n.col = s.column(n.body)
		indent = n.col
	}
	for i, c := range y.Content {
		e := entry{start: s.skip(pos), comma: -1}
		e.after = e.start
		if !n.flow {
			e.after = s.expect(pos, '-') + 1
		}
		e.value = s.node(c, n, object.Step{Item: true, Index: i}, e.after, indent)
		pos = e.end()
		if n.flow {
			pos = s.comma(&e)
		}
		n.entries = append(n.entries, e)
	}
	n.end = pos
	if n.flow {
		n.end = s.expect(pos, ']') + 1
	}
}

// scalar finds where a scalar ends.
func (s *scanner) scalar(n *node, indent int) {
	switch {
	case n.style&yaml.DoubleQuotedStyle != 0:
		n.end = s.doubleQuoted(n.body)
	case n.style&yaml.SingleQuotedStyle != 0:
		n.end = s.singleQuoted(n.body)
	case n.style&blocks != 0:
		n.end = s.block(n.body, indent)
	default:
		n.end = s.plain(n.body, n.text)
	}
}

func (l *layout) doubleQuoted(pos int) int {
	for pos++; pos < len(l.text); pos++ {
		switch l.text[pos] {
		case '\\':
			pos++
		case '"':
			return pos + 1
		}
	}
	panic(lost(pos))
}

func (s *scanner) singleQuoted(pos int) int {
	for pos++; pos < len(s.text); pos++ {
		if s.text[pos] != '\'' {
			continue
		}
		if s.at(pos+1) != '\'' {
			return pos + 1
		}
		pos++
	}
	panic(lost(pos))
}

// plain finds the end of a plain scalar by its value: they differ only in
// white space.
func (s *scanner) plain(pos int, value string) int {
	for i := 0; i < len(value); i++ {
		if isSpace(value[i]) {
			continue
		}
		for isSpace(s.at(pos)) {
			pos++
		}
		if s.at(pos) != value[i] {
			panic(lost(pos))
		}
		pos++
	}
	return pos
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// block finds the end of a literal or folded scalar: of its last line that is
// not blank, or that counts because the header says to keep it.
func (s *scanner) block(pos, indent int) int {
	end := s.lineEnd(pos)
	header, _, _ := strings.Cut(string(s.text[pos:end]), "#")
	keep := strings.Contains(header, "+")
	content := 0
	if i := strings.IndexAny(header, "123456789"); i >= 0 {
		content = max(indent, 0) + int(header[i]-'0')
	}
	for next := s.nextLine(end); next < len(s.text); next = s.nextLine(next) {
		lineEnd := s.lineEnd(next)
		line := s.text[next:lineEnd]
		blank := len(bytes.Trim(line, " ")) == 0
		spaces := len(line) - len(bytes.TrimLeft(line, " "))
		switch {
		case blank && (content == 0 || spaces <= content):
			if keep {
				end = lineEnd
			}
			continue
		case content == 0:
			content = max(spaces, indent+1)
		}
		if spaces < content {
			break
		}
		end = lineEnd
	}
	return end
}

// column returns the column of an offset, from 0 and in characters.
func (l *layout) column(pos int) int {
	return utf8.RuneCount(l.text[l.lineStart(pos):pos])
}

// lineStart returns where the offset's line begins.
func (l *layout) lineStart(pos int) int {
	return bytes.LastIndexByte(l.text[:pos], '\n') + 1
}

// lineEnd returns where the offset's line ends, before its line break.
func (l *layout) lineEnd(pos int) int {
	i := bytes.IndexByte(l.text[pos:], '\n')
	switch {
	case i < 0:
		return len(l.text)
	case i > 0 && l.text[pos+i-1] == '\r':
		return pos + i - 1
	}
	return pos + i
}

// nextLine returns where the line after the offset's begins.
func (l *layout) nextLine(pos int) int {
	if i := bytes.IndexByte(l.text[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(l.text)
}

// first says that only spaces stand before the offset on its line.
func (l *layout) first(pos int) bool {
	return len(bytes.TrimLeft(l.text[l.lineStart(pos):pos], " \t")) == 0
}

// spare says that nothing but spaces and a comment follows on the line.
func (l *layout) spare(pos int) bool {
	rest := bytes.TrimLeft(l.text[pos:l.lineEnd(pos)], " \t")
	return len(rest) == 0 || rest[0] == '#'
}
