// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"cmp"
	"slices"
)

// buffer is a text under edit: pieces of the old text and new bytes between
// them, so that edits made one after the other end up as changes of the old
// text.
type buffer struct {
	old    []byte
	pieces []piece
	now    []byte
}

// piece is a range of the old text, or new bytes.
type piece struct {
	start, end int
	text       []byte // nil for a range of the old text
}

func (p piece) size() int {
	if p.text != nil {
		return len(p.text)
	}
	return p.end - p.start
}

// part returns the piece's bytes from a to b.
func (p piece) part(a, b int) piece {
	if p.text != nil {
		return piece{text: p.text[a:b]}
	}
	return piece{start: p.start + a, end: p.start + b}
}

func newBuffer(old []byte) *buffer {
	return &buffer{old: old, pieces: []piece{{start: 0, end: len(old)}}, now: old}
}

// bytes returns the text as it now is.
func (b *buffer) bytes() []byte { return b.now }

// splice makes changes, whose offsets are those of the text as it now is.
func (b *buffer) splice(changes []Change) {
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Start, b.Start) })
	var out []piece
	var now bytes.Buffer
	pos := 0
	for _, c := range changes {
		out = b.copy(out, pos, c.Start)
		if len(c.New) > 0 {
			out = append(out, piece{text: c.New})
		}
		now.Write(b.now[pos:c.Start])
		now.Write(c.New)
		pos = c.End
	}
	b.pieces = b.copy(out, pos, len(b.now))
	now.Write(b.now[pos:])
	b.now = now.Bytes()
}

// copy appends the pieces that hold the text from start to end.
func (b *buffer) copy(out []piece, start, end int) []piece {
	pos := 0
	for _, p := range b.pieces {
		size := p.size()
		from, to := max(start, pos), min(end, pos+size)
		if from < to {
			out = append(out, p.part(from-pos, to-pos))
		}
		pos += size
	}
	return out
}

// patch returns the new text after a prefix, and what became of the old one.
func (b *buffer) patch(prefix []byte) *Patch {
	p := &Patch{Bytes: append(slices.Clone(prefix), b.now...)}
	pos := 0
	var fresh []byte
	flush := func(end int) {
		if pos < end || len(fresh) > 0 {
			p.Changes = append(p.Changes, Change{pos + len(prefix), end + len(prefix), fresh})
		}
		fresh = nil
	}
	for _, piece := range b.pieces {
		if piece.text != nil {
			fresh = append(fresh, piece.text...)
			continue
		}
		flush(piece.start)
		pos = piece.end
	}
	flush(len(b.old))
	return p
}
