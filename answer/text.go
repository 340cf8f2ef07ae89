// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"sconce.dev/sconce/report"
)

// Page is what an answer is printed on for a person. It takes every text for
// what a stranger wrote.
type Page struct {
	out    strings.Builder
	width  int
	colour bool
}

// NewPage returns a page of a width in columns; 0 is 100, and at least 72 are
// used. Places and commands are never broken.
func NewPage(width int, colour bool) *Page {
	if width == 0 {
		width = 100
	}
	return &Page{width: max(72, width), colour: colour}
}

// WriteTo writes what was printed.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, p.out.String())
	return int64(n), err
}

// The ways in which words stand out.
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	good  = "32"
	bad   = "1;31"
	doubt = "1;35"
)

// in returns a text in a colour.
func (p *Page) in(code, s string) string {
	if !p.colour || code == plain || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// line prints a line as it is: what is in it is visible.
func (p *Page) line(format string, args ...any) {
	fmt.Fprintf(&p.out, format, args...)
	p.out.WriteByte('\n')
}

// heading prints a line that stands out, with an empty one before it unless it
// is the first.
func (p *Page) heading(format string, args ...any) {
	if p.out.Len() > 0 {
		p.line("")
	}
	for _, l := range report.Wrap(fmt.Sprintf(format, args...), p.width) {
		p.line("%s", p.in(bold, l))
	}
}

// prose prints sentences, each line of them indented; the first begins with a
// lead, which the others leave room for.
func (p *Page) prose(indent int, lead, text string) {
	p.coloured(plain, indent, lead, text)
}

func (p *Page) coloured(code string, indent int, lead, text string) {
	room := p.width - indent - report.Width(lead)
	for i, l := range report.Wrap(text, max(20, room)) {
		if i > 0 {
			lead = strings.Repeat(" ", report.Width(lead))
		}
		p.line("%s%s%s", strings.Repeat(" ", indent), lead, p.in(code, l))
	}
}

// placed prints a sentence behind a lead, and at its end where that stands: a
// place is never broken.
func (p *Page) placed(code string, indent int, lead, text, place string) {
	room := p.width - indent - report.Width(lead)
	lines, place := report.Wrap(text, max(20, room)), report.Visible(place)
	blanks := strings.Repeat(" ", indent)
	for i, l := range lines {
		if i == 1 {
			blanks += strings.Repeat(" ", report.Width(lead))
			lead = ""
		}
		if i == len(lines)-1 && place != "" && report.Width(l)+2+report.Width(place) <= room {
			l, place = l+"  "+place, ""
		}
		p.line("%s%s%s", blanks, lead, p.in(code, l))
	}
	if place != "" {
		p.line("%s%s  %s", strings.Repeat(" ", indent), strings.Repeat(" ", p.width-indent-room), p.in(code, place))
	}
}

// below prints what stands below a row.
func (p *Page) below(lines cell) {
	for _, s := range lines {
		p.placed(s.code, 2, "", s.text, s.place)
	}
}

// maxReasons is how many reasons are printed; JSON has all.
const maxReasons = 12

// unknown prints why more may hold than is said.
func (p *Page) unknown(reasons []string) {
	if len(reasons) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.in(doubt, "not known"))
	for _, r := range reasons[:min(len(reasons), maxReasons)] {
		p.prose(2, "- ", r)
	}
	p.more(len(reasons)-maxReasons, "reason", "reasons")
}

// cell is what stands in one place of a table: lines, each in a colour.
type cell []span

type span struct {
	text, code string
	place      string // where that stands
}

// text returns a cell of lines.
func text(lines ...string) cell {
	var out cell
	for _, l := range lines {
		out = append(out, span{text: l})
	}
	return out
}

// in returns the cell in a colour.
func (c cell) in(code string) cell {
	for i := range c {
		c[i].code = code
	}
	return c
}

// minColumn is the least width of a column that gives way to others.
const minColumn = 16

// row is a row of a table: cells side by side, and what stands below them.
type row struct {
	cells []cell
	below cell
}

// table prints rows below their headings, if there are any. Where they are too
// wide the widest columns are broken.
func (p *Page) table(headings []string, rows []row) {
	if len(headings) > 0 {
		head := make([]cell, len(headings))
		for i, h := range headings {
			head[i] = text(h).in(dim)
		}
		rows = append([]row{{cells: head}}, rows...)
	}
	widths := p.widths(rows)
	for _, r := range rows {
		p.row(r.cells, widths)
		p.below(r.below)
	}
}

// widths returns how wide the columns are.
func (p *Page) widths(rows []row) []int {
	var out []int
	for _, r := range rows {
		for i, c := range r.cells {
			if i == len(out) {
				out = append(out, 0)
			}
			for _, s := range c {
				out[i] = max(out[i], report.Width(report.Visible(s.text)))
			}
		}
	}
	const between = 2
	for total(out)+between*(len(out)-1) > p.width {
		widest := 0
		for i, w := range out {
			if w > out[widest] {
				widest = i
			}
		}
		if out[widest] <= minColumn {
			break
		}
		second := minColumn
		for i, w := range out {
			if i != widest {
				second = max(second, w)
			}
		}
		over := total(out) + between*(len(out)-1) - p.width
		out[widest] -= max(1, min(over, out[widest]-second))
	}
	return out
}

func total(widths []int) int {
	n := 0
	for _, w := range widths {
		n += w
	}
	return n
}

// row prints the cells of a row side by side.
func (p *Page) row(row []cell, widths []int) {
	broken := make([]cell, len(row))
	height := 1
	for i, c := range row {
		broken[i] = c.broken(widths[i])
		height = max(height, len(broken[i]))
	}
	for n := range height {
		var b strings.Builder
		room := 0 // blanks that are owed before the next text
		for i, c := range broken {
			at := span{}
			if n < len(c) {
				at = c[n]
			}
			if at.text != "" {
				b.WriteString(strings.Repeat(" ", room) + p.in(at.code, at.text))
				room = 0
			}
			room += widths[i] - report.Width(at.text) + 2
		}
		p.line("%s", b.String())
	}
}

// broken returns the cell with lines of at most max columns: what is broken off
// is indented.
func (c cell) broken(max int) cell {
	var out cell
	for _, s := range c {
		shown := report.Visible(s.text)
		if report.Width(shown) <= max {
			out = append(out, span{text: shown, code: s.code})
			continue
		}
		words := parted(shown, max-2)
		first := report.Wrap(words, max)[0]
		out = append(out, span{text: first, code: s.code})
		rest := strings.TrimSpace(strings.TrimPrefix(words, first))
		if rest == "" {
			continue
		}
		for _, l := range report.Wrap(rest, max-2) {
			out = append(out, span{text: "  " + l, code: s.code})
		}
	}
	return out
}

// parted returns words with a blank where one that is wider than max columns is
// best broken: behind the last mark in it, unless little would stand before that.
func parted(s string, max int) string {
	var out []string
	for _, word := range strings.Fields(s) {
		for len(word) > max {
			end := strings.LastIndexAny(word[:max], "/-.:") + 1
			if end < max/3 {
				break
			}
			out, word = append(out, word[:end]), word[end:]
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// some returns the first of a list, and in words how many more there are.
func some(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most-1]), fmt.Sprintf("and %d more", len(list)-most+1))
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// visible returns a text as one line that a terminal does not obey.
func visible(s string) string { return report.Visible(s) }
