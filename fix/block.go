// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"strings"

	"sconce.dev/sconce/object"
)

// appendBlock writes the entry of v after the last one of a block collection.
func (p *planner) appendBlock(n *node, v *object.Node) error {
	doc, pen := p.doc, p.pen(n)
	if len(n.entries) == 0 {
		return refuse("the mapping at line %d holds only what is merged into it: edit it by hand", doc.line(n.start))
	}
	last := &n.entries[len(n.entries)-1]
	if last.explicit {
		return refuse("the mapping at line %d has keys written with ?: edit it by hand", doc.line(n.start))
	}
	var text string
	if n.shape == mapping {
		text = pen.fields(v, n.col)
	} else {
		text = "-" + pen.item(v.Items[0], n.col, doc.gap(last))
	}
	indent := strings.Repeat(" ", n.col)
	at := doc.after(n)
	if at == len(doc.text) && doc.at(at-1) != '\n' {
		if p.suspect == "" && doc.endsInBlock(n, len(n.entries)) {
			p.suspect = "the document ends in a block scalar without a line break, and an entry after it would add one to the value: edit it by hand"
		}
		p.change(at, at, pen.newline+indent+text)
	} else {
		p.change(at, at, indent+text+pen.newline)
	}
	return nil
}

// gap returns how many spaces follow an item's dash.
func (l *layout) gap(e *entry) int {
	space := l.text[e.after:e.value.start]
	if len(space) == 0 || len(bytes.Trim(space, " ")) > 0 {
		return 1
	}
	return len(space)
}

// line returns an offset's line, from 1.
func (l *layout) line(pos int) int { return 1 + bytes.Count(l.text[:pos], []byte("\n")) }

// after returns the beginning of the line before which a new last entry of a
// block collection stands: after the comments that belong to the collection,
// which are those that follow at once, stand as deep as its entries and not
// just as deep as what comes next.
func (l *layout) after(n *node) int {
	next := -1
	if pos := l.skip(l.nextLine(n.end)); pos < len(l.text) && l.first(pos) && !l.marker(pos) {
		next = l.column(pos)
	}
	pos := l.nextLine(n.end)
	for pos < len(l.text) {
		line := l.text[pos:l.lineEnd(pos)]
		comment := bytes.TrimLeft(line, " ")
		col := len(line) - len(comment)
		if len(comment) == 0 || comment[0] != '#' || col < n.col || col == next {
			break
		}
		pos = l.nextLine(pos)
	}
	return pos
}

// marker says that the document's end mark is at the offset.
func (l *layout) marker(pos int) bool {
	rest := l.text[pos:]
	return l.lineStart(pos) == pos && (bytes.HasPrefix(rest, []byte("...")) || bytes.HasPrefix(rest, []byte("---")))
}

// setBlock gives an entry of a block collection a new value.
func (p *planner) setBlock(n *node, e *entry, v *object.Node) error {
	doc, old := p.doc, e.value
	pen := pen{style: doc.style, quote: old.quote()}
	if v.Kind != object.String || old.shape != scalar {
		pen.quote = quotesWithin(old)
	}
	inPlace := old.shape == alias || old.flow || old.shape == scalar && old.style&blocks == 0 && !old.null()
	switch {
	case old.null():
		p.fillNull(n, e, v, pen)
	case inPlace && old.flow && len(old.entries) > 0:
		p.change(old.start, old.end, p.flowPen(old).flow(v, ""))
	case inPlace && !collection(v):
		p.change(old.start, old.end, pen.scalar(v, false))
	case !collection(v):
		p.replaceByScalar(e, pen.scalar(v, false))
	case n.shape == sequence:
		p.change(e.after, old.end, pen.item(v, n.col, 1))
	case !doc.onLine(e.after, old.start):
		p.replaceBelow(n, e, v, pen)
	case inPlace && doc.spare(old.end) && doc.onLine(old.start, old.end):
		p.change(e.after, old.end, "")
		p.change(doc.lineEnd(old.end), doc.lineEnd(old.end), pen.value(v, n.col))
	default:
		p.change(e.after, old.end, pen.value(v, n.col))
	}
	return nil
}

// quotesWithin returns the quotes of a list's strings.
func quotesWithin(n *node) byte {
	if n.shape == sequence && len(n.entries) > 0 {
		return itemQuotes(n)
	}
	return 0
}

// fillNull gives a value to an entry that has none, or null.
func (p *planner) fillNull(n *node, e *entry, v *object.Node, pen pen) {
	doc, old := p.doc, e.value
	from, to := e.after, old.end
	if old.anchor != "" {
		for from = old.body; doc.at(from-1) == ' '; from-- {
		}
	}
	item := n.shape == sequence
	switch {
	case !doc.onLine(from, to) || !collection(v):
		p.nullInPlace(old, from, to, item, v, n.col, pen)
	case item && old.anchor == "" && bytes.IndexByte(doc.text[to:doc.lineEnd(to)], '#') < 0:
		p.change(from, to, pen.item(v, n.col, 1))
	case item:
		p.cutText(from, to)
		p.change(doc.lineEnd(to), doc.lineEnd(to), pen.line(n.col+2)+pen.entries(v, n.col+2))
	default:
		p.cutText(from, to)
		p.change(doc.lineEnd(to), doc.lineEnd(to), pen.value(v, n.col))
	}
}

// nullInPlace puts a value where null was.
func (p *planner) nullInPlace(old *node, from, to int, item bool, v *object.Node, col int, pen pen) {
	switch {
	case !collection(v) && old.body < to:
		p.change(old.body, to, pen.scalar(v, false))
	case !collection(v):
		p.change(from, to, " "+pen.scalar(v, false))
	case item:
		p.change(from, to, pen.item(v, col, 1))
	default:
		p.change(from, to, pen.value(v, col))
	}
}

// cutText is change to nothing, where there is something.
func (p *planner) cutText(start, end int) {
	if start < end {
		p.change(start, end, "")
	}
}

// replaceByScalar puts a scalar in the place of a value over several lines. A
// comment beside the key stays.
func (p *planner) replaceByScalar(e *entry, text string) {
	doc, old := p.doc, e.value
	if doc.onLine(e.after, old.start) {
		p.change(old.start, old.end, text)
		return
	}
	p.change(e.after, e.after, " "+text)
	p.cutText(doc.lineEnd(e.after), old.end)
}

// replaceBelow puts a list or map in the place of a value that begins on a line
// below its key.
func (p *planner) replaceBelow(n *node, e *entry, v *object.Node, pen pen) {
	old := e.value
	col := p.doc.column(old.start)
	if v.Kind == object.Map && col <= n.col || !p.doc.first(old.start) {
		p.change(p.doc.lineEnd(e.after), old.end, pen.value(v, n.col))
		return
	}
	p.change(old.start, old.end, pen.entries(v, col))
}

// onLine says that no line ends between two offsets.
func (l *layout) onLine(from, to int) bool {
	return bytes.IndexByte(l.text[from:to], '\n') < 0
}

// cutBlock takes entry i out of a block collection that has others.
func (p *planner) cutBlock(n *node, i int) error {
	doc, e := p.doc, &n.entries[i]
	if doc.first(e.start) {
		start, end := doc.lineStart(e.start), doc.nextLine(e.end())
		if end == len(doc.text) && doc.at(end-1) != '\n' && start > 0 && !doc.endsInBlock(n, i) {
			if start--; doc.at(start-1) == '\r' {
				start--
			}
		}
		if doc.keepsBreaks(n, i) {
			end = doc.skipBlank(end)
		}
		p.change(start, end, "")
		return nil
	}
	if i+1 >= len(n.entries) || e.explicit {
		return refuse("line %d is laid out in a way that cannot be edited safely: edit it by hand", doc.line(e.start))
	}
	next, rest := n.entries[i+1].start, doc.nextLine(e.end())
	if !bytes.Contains(doc.text[rest:next], []byte("#")) {
		p.change(e.start, next, "")
		return nil
	}
	start := e.start
	for doc.at(start-1) == ' ' {
		start--
	}
	p.change(start, doc.lineEnd(e.end()), "")
	return nil
}

// endsInBlock says that the entry before i ends in a literal or folded scalar,
// to which a last line break of the text would belong.
func (l *layout) endsInBlock(n *node, i int) bool {
	return i > 0 && l.lastValue(n, i-1).style&blocks != 0
}

// keepsBreaks says that the entry before i ends in a block scalar to which all
// blank lines after it belong.
func (l *layout) keepsBreaks(n *node, i int) bool {
	if !l.endsInBlock(n, i) {
		return false
	}
	pos := l.lastValue(n, i-1).body
	header, _, _ := bytes.Cut(l.text[pos:l.lineEnd(pos)], []byte("#"))
	return bytes.IndexByte(header, '+') >= 0
}

// lastValue returns the value on the last line of entry i.
func (l *layout) lastValue(n *node, i int) *node {
	v := n.entries[i].value
	for len(v.entries) > 0 && !v.flow {
		v = v.entries[len(v.entries)-1].value
	}
	return v
}

// skipBlank returns where the first line that is not blank begins.
func (l *layout) skipBlank(pos int) int {
	for pos < len(l.text) && len(bytes.TrimSpace(l.text[pos:l.nextLine(pos)])) == 0 {
		pos = l.nextLine(pos)
	}
	return pos
}
