// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"

	"sconce.dev/sconce/object"
)

// flowPen is the pen of a collection between brackets.
func (p *planner) flowPen(n *node) pen { return p.pen(n) }

// one returns the text of the one entry of v.
func (p pen) one(v *object.Node, indent string) string {
	if v.Kind == object.Map {
		return p.pair(v.Fields[0].Key, v.Fields[0].Value, indent)
	}
	return p.flow(v.Items[0], indent)
}

// fillFlow writes an entry into empty brackets.
func (p *planner) fillFlow(n *node, v *object.Node) error {
	doc := p.doc
	inside := doc.text[n.body+1 : n.end-1]
	if len(bytes.TrimSpace(inside)) > 0 {
		return refuse("line %d has comments between empty brackets: edit it by hand", doc.line(n.start))
	}
	if in, e := n.parent(); in != nil && !in.flow && !e.explicit && doc.onLine(n.start, n.end) {
		return p.setBlock(in, e, v)
	}
	p.change(n.body, n.end, p.pen(n).flow(v, doc.indentation(n.start)))
	return nil
}

// parent returns the block mapping that holds the node, and its entry.
func (n *node) parent() (*node, *entry) {
	if n.up == nil || n.up.shape != mapping || n.anchor != "" {
		return nil, nil
	}
	for i := range n.up.entries {
		if n.up.entries[i].value == n {
			return n.up, &n.up.entries[i]
		}
	}
	return nil, nil
}

// appendFlow writes an entry after the last one between brackets: on a line of
// its own if the last one has that.
func (p *planner) appendFlow(n *node, v *object.Node) error {
	doc, pen := p.doc, p.flowPen(n)
	last := &n.entries[len(n.entries)-1]
	if last.explicit {
		return refuse("the mapping at line %d has keys written with ?: edit it by hand", doc.line(n.start))
	}
	indent := doc.indentation(last.start)
	text := pen.one(v, indent)
	if !doc.first(last.start) {
		p.appendInline(n, last, text)
		return nil
	}
	text = pen.newline + indent + text
	end := last.end()
	if last.comma >= 0 {
		text, end = text+",", last.comma+1
	} else {
		p.change(end, end, ",")
	}
	if doc.spare(end) {
		end = doc.lineEnd(end)
	}
	p.change(end, end, text)
	return nil
}

// appendInline writes an entry on the line of the one before it.
func (p *planner) appendInline(n *node, last *entry, text string) {
	if last.comma >= 0 {
		p.change(last.comma+1, last.comma+1, " "+text+",")
		return
	}
	comma := ", "
	if p.doc.json {
		comma = p.doc.style.json.comma
		if p.doc.style.json.indent != "" {
			comma = ", "
		}
	}
	if len(n.entries) > 1 {
		before := &n.entries[len(n.entries)-2]
		if space := p.doc.text[before.comma+1 : last.start]; len(bytes.TrimSpace(space)) == 0 && p.doc.onLine(before.comma+1, last.start) {
			comma = "," + string(space)
		}
	}
	if !p.doc.json && comma == "," && p.doc.at(last.end()-1) != '"' {
		comma = ", "
	}
	p.change(last.end(), last.end(), comma+text)
}

// setFlow gives an entry between brackets a new value.
func (p *planner) setFlow(n *node, e *entry, v *object.Node) error {
	doc, old := p.doc, e.value
	pen := p.flowPen(n)
	if old.shape == scalar && !old.null() {
		pen.quote = old.quote()
	}
	if p.doc.json {
		pen.quote = '"'
	}
	text := pen.flow(v, doc.indentation(e.start))
	switch {
	case !old.empty():
		p.change(old.start, old.end, text)
	case e.after < 0:
		p.change(old.end, old.end, ": "+text)
	case doc.at(old.end) == ' ':
		p.change(old.end+1, old.end+1, text)
	default:
		p.change(old.end, old.end, " "+text)
	}
	return nil
}

// cutFlow takes entry i from between brackets that hold others.
func (p *planner) cutFlow(n *node, i int) error {
	doc, e := p.doc, &n.entries[i]
	if n.bare {
		return refuse("line %d has a pair without braces in a flow list: edit it by hand", doc.line(n.start))
	}
	isLast := i == len(n.entries)-1
	end := e.end()
	if e.comma >= 0 {
		end = e.comma + 1
	}
	if doc.first(e.start) && doc.spare(end) {
		p.change(doc.lineStart(e.start), doc.nextLine(end), "")
		if isLast && e.comma < 0 {
			before := n.entries[i-1].comma
			p.change(before, before+1, "")
		}
		return nil
	}
	switch {
	case !isLast && !doc.commented(end, n.entries[i+1].start) && (i == 0 || doc.onLine(end, n.entries[i+1].start)):
		p.change(e.start, n.entries[i+1].start, "")
	case !isLast && i > 0 && doc.onLine(n.entries[i-1].end(), e.start):
		p.change(n.entries[i-1].comma+1, end, "")
	case !isLast:
		p.change(e.start, end, "")
	case doc.commented(n.entries[i-1].end(), e.start):
		before := n.entries[i-1].comma
		p.change(before, before+1, "")
		p.change(e.start, end, "")
	default:
		p.change(n.entries[i-1].end(), e.end(), "")
	}
	return nil
}

// commented says that a comment may stand between two offsets.
func (l *layout) commented(from, to int) bool {
	return bytes.IndexByte(l.text[from:to], '#') >= 0
}
