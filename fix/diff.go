// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Unified returns a unified diff of a whole file, with the given number of
// lines of context, as git and patch read it; nil where nothing differs. Give it
// one line at least if git apply is to read it: without context git misplaces
// the end of a text whose last line had no line break.
func Unified(name string, before, after []byte, context int) []byte {
	if bytes.Equal(before, after) {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", diffName("a/"+name), diffName("b/"+name))
	x, y := splitLines(before), splitLines(after)
	for _, h := range hunks(script(x, y), max(context, 0), len(x)) {
		h.write(&b, x, y)
	}
	return b.Bytes()
}

// diffName writes a name as git does: in quotes, with the escapes of C, where
// it holds what would end or change it, and with a tab to mark its end where it
// holds spaces.
func diffName(name string) string {
	var b strings.Builder
	quoted := false
	for _, c := range []byte(name) {
		i := strings.IndexByte("\a\b\t\n\v\f\r\"\\", c)
		switch {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(`abtnvfr"\`[i])
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
			continue
		}
		quoted = true
	}
	text := b.String()
	if quoted {
		text = `"` + text + `"`
	}
	if strings.Contains(name, " ") {
		text += "\t"
	}
	return text
}

// Lines returns only the lines that differ, each with "-" or "+" before it and
// without its line break, for showing beneath a finding.
func Lines(before, after []byte) []string {
	x, y := bareLines(before), bareLines(after)
	var out []string
	for _, r := range script(x, y) {
		for _, line := range x[r.x1:r.x2] {
			out = append(out, "-"+line)
		}
		for _, line := range y[r.y1:r.y2] {
			out = append(out, "+"+line)
		}
	}
	return out
}

// splitLines returns the lines with their line breaks.
func splitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// bareLines returns the lines without their line breaks.
func bareLines(text []byte) []string {
	lines := splitLines(text)
	for i := range lines {
		lines[i] = strings.TrimSuffix(strings.TrimSuffix(lines[i], "\n"), "\r")
	}
	return lines
}

// region is lines x1 to x2 of one text that became lines y1 to y2 of another.
type region struct{ x1, x2, y1, y2 int }

// script returns the regions that differ, in order and with equal lines
// between them.
func script(x, y []string) []region {
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	out := shortest(x[head:len(x)-tail], y[head:len(y)-tail])
	for i := range out {
		out[i] = region{out[i].x1 + head, out[i].x2 + head, out[i].y1 + head, out[i].y2 + head}
	}
	return out
}

// maxDifference bounds the work on texts that have little in common: they are
// shown as replaced whole.
const maxDifference = 1000

// shortest is the algorithm of Myers (1986): the fewest lines taken and given.
// It keeps, for each number of differences, how far down x every diagonal
// reaches, and walks back from the end.
func shortest(x, y []string) []region {
	if len(x) == 0 && len(y) == 0 {
		return nil
	}
	if len(x) == 0 || len(y) == 0 {
		return []region{{0, len(x), 0, len(y)}}
	}
	limit := min(len(x)+len(y), maxDifference)
	reach := make([]int, 2*limit+3)
	var trace [][]int
	for d := 0; d <= limit; d++ {
		trace = append(trace, slices.Clone(reach[limit-d:limit+d+3]))
		for k := -d; k <= d; k += 2 {
			i := advance(reach[limit+k], reach[limit+2+k], k, d)
			for i < len(x) && i-k < len(y) && x[i] == y[i-k] {
				i++
			}
			reach[limit+1+k] = i
			if i >= len(x) && i-k >= len(y) {
				return back(trace, len(x), len(y))
			}
		}
	}
	return []region{{0, len(x), 0, len(y)}}
}

// advance returns where diagonal k begins after difference d: beside the
// diagonal below, one line of x further, or at the reach of the one above.
func advance(below, above, k, d int) int {
	if k == -d || k != d && below < above {
		return above
	}
	return below + 1
}

// back follows the trace from the end of both texts.
func back(trace [][]int, i, j int) []region {
	var out []region
	for d := len(trace) - 1; d > 0; d-- {
		reach, k := trace[d], i-j
		below, above := reach[d+k], reach[d+2+k]
		var r region
		if k == -d || k != d && below < above {
			r = region{above, above, above - (k + 1), above - k}
			i, j = above, above-(k+1)
		} else {
			r = region{below, below + 1, below - (k - 1), below - (k - 1)}
			i, j = below, below-(k-1)
		}
		if n := len(out) - 1; n >= 0 && r.x2 == out[n].x1 && r.y2 == out[n].y1 {
			out[n].x1, out[n].y1 = r.x1, r.y1
			continue
		}
		out = append(out, r)
	}
	slices.Reverse(out)
	return out
}

// hunk is a run of regions with context around them.
type hunk struct {
	regions []region
	before  int // lines of context above
	after   int // and below
}

// hunks joins regions whose contexts touch; size is how many lines x has.
func hunks(regions []region, context, size int) []hunk {
	var out []hunk
	end := 0
	for _, r := range regions {
		if n := len(out) - 1; n >= 0 && r.x1-end <= 2*context {
			out[n].regions = append(out[n].regions, r)
		} else {
			out = append(out, hunk{regions: []region{r}, before: min(context, r.x1)})
		}
		end = r.x2
		out[len(out)-1].after = min(context, size-end)
	}
	return out
}

// write prints the hunk.
func (h hunk) write(b *bytes.Buffer, x, y []string) {
	first, last := h.regions[0], h.regions[len(h.regions)-1]
	fmt.Fprintf(b, "@@ -%s +%s @@\n", span(first.x1-h.before, last.x2+h.after), span(first.y1-h.before, last.y2+h.after))
	pos := first.x1 - h.before
	for _, r := range h.regions {
		writeLines(b, ' ', x[pos:r.x1])
		writeLines(b, '-', x[r.x1:r.x2])
		writeLines(b, '+', y[r.y1:r.y2])
		pos = r.x2
	}
	writeLines(b, ' ', x[pos:pos+h.after])
}

// span writes a range of lines as a hunk's header has it.
func span(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func writeLines(b *bytes.Buffer, mark byte, lines []string) {
	for _, line := range lines {
		b.WriteByte(mark)
		b.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
