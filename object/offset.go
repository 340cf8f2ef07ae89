// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"unicode"
)

// SpotIn returns where the n-th character of the value at a path stands in the
// text that the tree was read from: folded lines and escapes are followed.
func (n *Node) SpotIn(text Text, path Path, char int) Spot {
	spot, _ := n.SpotOf(path)
	value := n.Lookup(path)
	if value == nil {
		return spot
	}
	spot = Spot{Line: int(value.Line), Col: int(value.Col)}
	if value.Kind != String {
		return spot
	}
	return align(text, spot, []rune(value.Text), char)
}

// PositionIn returns the position of the n-th character of the value at a path.
func (o *Object) PositionIn(path Path, char int) Position {
	p := o.Position(path)
	if o.of != nil || o.Origin.Locate != nil || p.Line == 0 {
		return p
	}
	spot := o.Root.SpotIn(Text{Bytes: o.Origin.Text, Line: o.Origin.FirstLine}, path, char)
	if spot.Line == 0 {
		return p
	}
	p.Line, p.Column = spot.Line, spot.Col
	p.Quote, p.QuoteColumn = o.Origin.lines().quote(spot.Line-o.Origin.FirstLine+1, spot.Col)
	return p
}

// align follows the value of a scalar through the text that it was read from,
// folded lines and escapes included, and returns where its n-th character
// stands.
func align(text Text, at Spot, value []rune, n int) Spot {
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
	spot := Spot{Line: at.Line, Col: 1}
	for _, c := range src[:min(p, len(src))] {
		spot.Col++
		if c == '\n' {
			spot.Line, spot.Col = spot.Line+1, 1
		}
	}
	return spot
}
