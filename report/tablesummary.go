// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// problems prints what could not be judged.
func (t *table) problems() {
	if len(t.scan.problems) == 0 {
		return
	}
	t.line("%s", t.paint.bold("could not be judged"))
	for _, p := range t.scan.problems {
		t.entry("problem", string(p.Stage)+": "+p.Message, p.Position)
	}
	t.line("")
}

func (t *table) notices() {
	if len(t.scan.notices) == 0 {
		return
	}
	t.line("%s", t.paint.bold("notices"))
	for _, n := range t.scan.notices {
		text := string(n.Kind) + ": " + n.Message
		if n.Subject != "" && !strings.Contains(n.Message, n.Subject) {
			text = string(n.Kind) + ": " + n.Subject + ": " + n.Message
		}
		t.entry("notice", text, n.Position)
	}
	t.line("")
}

// entry prints a word, prose beside it and a place below.
func (t *table) entry(word, text string, p object.Position) {
	for i, l := range wrap(text, t.width-indent) {
		if i == 0 {
			t.line("  %s%s%s", t.paint.outcome(word)(word), pad(indent-2-len(word)), l)
			continue
		}
		t.text(l)
	}
	if p.File != "" {
		t.text(placeText(p))
	}
	if p.Line > 0 {
		t.quote(p)
	}
	t.note(p.Note)
}

// summary prints the totals and what to do next.
func (t *table) summary() {
	s := t.scan.summary
	if s == nil {
		t.line("%s", t.paint.outcome("problem")(noSummary))
		return
	}
	if s.Verdicts.Fail+s.Verdicts.Unknown+s.Problems == 0 {
		t.clean(s)
		t.compliances(s)
		return
	}
	t.severities(s)
	t.line("")
	t.grid(s)
	t.line("")
	t.totals(s)
	t.compliances(s)
	for i, step := range t.advice.next(t.scan.config) {
		if i == 0 {
			t.line("")
		}
		t.line("%s%s", []string{"next: ", "      "}[min(i, 1)], step)
	}
}

// clean is the whole report where nothing was found.
func (t *table) clean(s *verdict.Summary) {
	text := resultText(s) + ": " + totalsText(s)
	if n := s.Verdicts.Excepted; n > 0 {
		text += "; " + plural(n, "verdict", "verdicts") + " excepted"
	}
	if rest := restText(s); len(rest) > 0 {
		text += "; " + strings.Join(rest, ", ")
	}
	t.prose(text)
}

// prose prints a sentence.
func (t *table) prose(text string) {
	for _, l := range wrap(text, t.width) {
		t.line("%s", l)
	}
}

func (t *table) totals(s *verdict.Summary) {
	t.prose(scoreText(s))
	t.prose(totalsText(s))
	if rest := restText(s); len(rest) > 0 {
		t.prose(strings.Join(rest, ", "))
	}
	if s.Problems > 0 {
		text := plural(s.Problems, "problem", "problems") + ": what they kept from being read counts in no number above"
		t.line("%s", t.paint.outcome("problem")(text))
	}
	if hidden := s.Verdicts.Excepted; hidden > 0 && !t.opts.ShowExcepted {
		t.prose(plural(hidden, "verdict", "verdicts") + " excepted and not listed")
	}
}

// nameWidth and numberWidth are the columns of the two small tables.
const (
	nameWidth   = 14
	numberWidth = 9
)

func (t *table) severities(s *verdict.Summary) {
	t.row(t.paint.dim, "verdicts", "failed", "unknown", "excepted")
	for _, r := range severityRows(s) {
		paint := t.paint.outcome(r.Name)
		if r.Fail == 0 {
			paint = plain
		}
		t.row(paint, r.Name, number(r.Fail), number(r.Unknown), number(r.Excepted))
	}
}

func (t *table) grid(s *verdict.Summary) {
	phases := pad(nameWidth) + right("build", 3*numberWidth) + right("operate", 3*numberWidth+2)
	t.line("%s", t.paint.dim(phases))
	t.row(t.paint.dim, "layer", "passed", "failed", "unknown", "  ", "passed", "failed", "unknown")
	for _, r := range cellRows(s) {
		b, o := cellNumbers(r.Build), cellNumbers(r.Operate)
		t.row(plain, r.Layer, b[0], b[1], b[2], "  ", o[0], o[1], o[2])
	}
}

// cellNumbers are the three numbers of a cell; dashes where nothing was judged.
func cellNumbers(c verdict.Counts) [3]string {
	if c == (verdict.Counts{}) {
		return [3]string{"-", "-", "-"}
	}
	return [3]string{strconv.Itoa(c.Pass), strconv.Itoa(c.Fail), strconv.Itoa(c.Unknown)}
}

// row prints a name, coloured, and numbers; a cell of blanks is a gap.
func (t *table) row(paint func(string) string, name string, cells ...string) {
	var b strings.Builder
	for _, c := range cells {
		if strings.TrimSpace(c) == "" {
			b.WriteString(c)
			continue
		}
		b.WriteString(right(c, numberWidth))
	}
	t.line("%s%s%s", paint(name), pad(nameWidth-width(name)), b.String())
}

func number(n int) string {
	return strconv.Itoa(n)
}

func right(s string, w int) string {
	return pad(w-width(s)) + s
}

func plain(s string) string {
	return s
}
