// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// table prints for a person at a terminal. It is streamed: it holds the
// findings of one file, chart or overlay until those of the next one begin,
// and of the rest only what was explained and which places were shown.
type table struct {
	out   *bufio.Writer
	paint painter
	opts  Options
	width int

	scan      scan // without findings
	held      []*verdict.Finding
	unit      string
	heading   string // the last that was printed
	explained map[string]bool
	shown     map[samePlace]bool
	listed    int
	more      int
	advice    advice
	// unknown is what could not be decided, which is told at the end: one lack
	// of evidence often concerns many objects.
	unknown []*undecided
	lacks   map[string]*undecided
}

// undecided is what several objects lack alike.
type undecided struct {
	*verdict.Finding
	places []string
	count  int
}

// maxPlaces is how many places of one lack of evidence are named.
const maxPlaces = 3

// minWidth is what the grid of layers and phases needs.
const minWidth = 72

func newTable(w io.Writer, opts Options) Writer {
	t := &table{
		out:       bufio.NewWriter(w),
		paint:     painter{opts.Color},
		opts:      opts,
		width:     100,
		explained: map[string]bool{},
		shown:     map[samePlace]bool{},
		lacks:     map[string]*undecided{},
	}
	if opts.Width > 0 {
		t.width = max(minWidth, opts.Width)
	}
	return t
}

func (t *table) Write(m *verdict.Message) error {
	if m.Finding == nil {
		t.scan.other(m)
		return nil
	}
	f := m.Finding
	t.advice.see(f)
	if f.Excepted != nil && !t.opts.ShowExcepted {
		return nil
	}
	if t.opts.MaxFindings > 0 && t.listed >= t.opts.MaxFindings {
		t.more++
		return nil
	}
	t.listed++
	if f.Outcome == verdict.Unknown {
		t.lack(f)
		return nil
	}
	if u := cmp.Or(unit(f), f.Object.String()); u != t.unit {
		t.release()
		t.unit = u
	}
	t.held = append(t.held, f)
	return t.flushIfEmpty()
}

// flushIfEmpty lets a person see what is complete while the scan goes on.
func (t *table) flushIfEmpty() error {
	if len(t.held) == 1 {
		return t.out.Flush()
	}
	return nil
}

// Close prints what is left and the summary.
func (t *table) Close() error {
	t.release()
	t.undecided()
	if t.more > 0 {
		t.line("%s\n", t.paint.bold("and "+plural(t.more, "more finding", "more findings")+", not listed here"))
	}
	t.problems()
	t.notices()
	t.summary()
	return t.out.Flush()
}

// lack keeps what could not be decided, with those before it that lack the same.
func (t *table) lack(f *verdict.Finding) {
	key := f.Control + "\x00" + f.Message
	u := t.lacks[key]
	if u == nil {
		u = &undecided{Finding: f}
		t.lacks[key] = u
		t.unknown = append(t.unknown, u)
	}
	if u.count++; len(u.places) < maxPlaces {
		u.places = append(u.places, strings.TrimSuffix(visible(f.Object.String())+", "+placeText(f.Position), ", "))
	}
}

// undecided prints what could not be decided.
func (t *table) undecided() {
	if len(t.unknown) == 0 {
		return
	}
	t.line("%s", t.paint.bold("not known"))
	for _, u := range t.unknown {
		word := outcomeText(u.Finding)
		for i, l := range wrap(headText(u.Finding), t.width-indent) {
			if i == 0 {
				t.line("  %s%s%s", t.paint.outcome(word)(word), pad(max(1, indent-2-width(word))), t.name(u.Control, l))
				continue
			}
			t.text(l)
		}
		for _, place := range u.places {
			for i, l := range wrap(place, t.width-indent-2) {
				t.text(pad(2*min(i, 1)) + l)
			}
		}
		if more := u.count - len(u.places); more > 0 {
			t.text(t.paint.dim(fmt.Sprintf("and %d more", more)))
		}
		if u.count == 1 {
			t.quote(u.Position)
			t.note(u.Position.Note)
		}
		t.why(u.Finding)
		t.fix(u.Finding)
		t.line("")
	}
}

func (t *table) line(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format+"\n", args...) // Flush returns the error
}

// release prints the findings that are held.
func (t *table) release() {
	for _, file := range group(t.held, t.scan.nowhere()) {
		if file.File != t.heading || file.File != t.scan.nowhere() {
			t.line("%s", t.paint.bold(visible(file.File)))
		}
		t.heading = file.File
		for i, o := range file.Objects {
			if i > 0 {
				t.line("")
			}
			t.object(o)
		}
		t.line("")
	}
	t.held = nil
}

func (t *table) object(o *objectGroup) {
	head := visible(o.Object.String())
	if by := renderedText(o.Rendered, o.Source); by != "" {
		head += ", " + by
	}
	for i, l := range wrap(head, t.width-4) {
		t.line("%s%s", pad(2+2*min(i, 1)), l)
	}
	for _, f := range o.Findings {
		t.line("")
		t.finding(f)
	}
}

// indent is where the text of a finding begins, after the word that says how
// bad it is.
const indent = 12

func (t *table) finding(f *findingGroup) {
	word := outcomeText(f.Finding)
	paint := t.paint.outcome(word)
	for i, l := range wrap(headText(f.Finding), t.width-indent) {
		if i == 0 {
			t.line("  %s%s%s", paint(word), pad(max(1, indent-2-width(word))), t.name(f.Control, l))
			continue
		}
		t.text(l)
	}
	if t.repeated(f.Finding) {
		t.text(placeText(f.Position) + t.paint.dim(", the place shown above"))
		t.also(f.Also)
		return
	}
	t.place(f)
	t.why(f.Finding)
	t.fix(f.Finding)
	if f.Excepted != nil {
		t.block("", exceptedText(f.Excepted))
	}
	t.also(f.Also)
}

// name makes the control stand out at the beginning of a line.
func (t *table) name(control, line string) string {
	name := visible(control)
	if rest, ok := strings.CutPrefix(line, name); ok {
		return t.paint.bold(name) + rest
	}
	return line
}

// repeated says that a place was shown before, for an object of another chart
// or overlay.
func (t *table) repeated(f *verdict.Finding) bool {
	if !mayRepeat(f) {
		return false
	}
	place := placeOf(f)
	shown := t.shown[place]
	t.shown[place] = true
	return shown
}

func (t *table) text(s string) {
	t.line("%s%s", pad(indent), s)
}

// block prints a label and prose that hangs beside it.
func (t *table) block(label, text string) {
	if label != "" {
		label += ": "
	}
	hang := width(label)
	for i, l := range wrap(text, t.width-indent-hang) {
		if i == 0 {
			t.text(t.paint.dim(label) + l)
			continue
		}
		t.text(pad(hang) + l)
	}
}

// place prints where a finding is: file, line and the quoted line.
func (t *table) place(f *findingGroup) {
	p := f.Position
	if p.Line < 1 {
		if p.File != "" {
			t.text(placeText(p))
		}
		t.labelled("field", fieldText(f.Finding))
		t.note(p.Note)
		return
	}
	t.text(placeText(p))
	t.quote(p)
	if f.Missing {
		// The message names the element; the rest of the path is what is not there.
		t.block("missing", visible(strings.TrimPrefix(f.Path, f.Element+".")))
	}
	t.note(p.Note)
}

func (t *table) note(s string) {
	if s != "" {
		t.block("note", s)
	}
}

func (t *table) quote(p object.Position) {
	if p.Quote == "" {
		return
	}
	gutter := fmt.Sprintf("%d | ", p.Line)
	e := quote(p.Quote, p.QuoteColumn).crop(t.width - indent - len(gutter))
	t.text(t.paint.dim(gutter) + e.line())
	if caret := e.Caret(); caret != "" {
		t.text(t.paint.dim(pad(len(gutter)-2)+"| ") + t.paint.caret(caret))
	}
}

// why explains a control where it appears first.
func (t *table) why(f *verdict.Finding) {
	if !t.explained[f.Control] {
		t.labelled("why", t.scan.control(f.Control).Description)
	}
}

func (t *table) labelled(label, text string) {
	if strings.TrimSpace(text) != "" {
		t.block(label, text)
	}
}

// fix prints the edit; where there is none, what to do.
func (t *table) fix(f *verdict.Finding) {
	first := !t.explained[f.Control]
	t.explained[f.Control] = true
	if f.Fix == nil || f.Fix.Refused != "" || len(f.Fix.Diff)+len(f.Fix.Edits) == 0 {
		if first {
			t.labelled("to do", t.scan.control(f.Control).Remediation)
		}
		if f.Fix != nil {
			t.labelled("no fix", f.Fix.Refused)
			t.labelled("note", f.Fix.Note)
		}
		return
	}
	t.edit(f.Fix)
	t.labelled("note", f.Fix.Note)
}

func (t *table) edit(fix *verdict.Fix) {
	label := fixLabel(fix)
	t.text(t.paint.dim(label + ":"))
	if len(fix.Diff) == 0 {
		for _, e := range fix.Edits {
			t.hanging(editText(e))
		}
		return
	}
	for _, l := range diffLines(fix.Diff, t.width-indent-2) {
		t.text("  " + t.paint.diff(l))
	}
}

// fixLabel says whether an edit was tried.
func fixLabel(fix *verdict.Fix) string {
	if fix.Proven {
		return "fix"
	}
	return "suggested fix"
}

// hanging prints an item below a label.
func (t *table) hanging(s string) {
	for i, l := range wrap(s, t.width-indent-4) {
		t.text(pad(2+2*min(i, 1)) + l)
	}
}

// maxAlso is how many objects are named that share a place.
const maxAlso = 10

func (t *table) also(refs []object.Ref) {
	if len(refs) == 0 {
		return
	}
	t.text(t.paint.dim("the same line also renders:"))
	for _, r := range refs[:min(len(refs), maxAlso)] {
		t.hanging(r.String())
	}
	if more := len(refs) - maxAlso; more > 0 {
		t.text("  and " + plural(more, "more object", "more objects"))
	}
}

func pad(n int) string {
	return strings.Repeat(" ", max(0, n))
}

// painter colours text with the 16 colours that every terminal has, so that a
// person's own scheme keeps them readable.
type painter struct{ on bool }

func (p painter) with(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) bold(s string) string  { return p.with("1", s) }
func (p painter) dim(s string) string   { return p.with("2", s) }
func (p painter) caret(s string) string { return p.with("1;31", s) }

// diff colours a line of a diff by its sign.
func (p painter) diff(line string) string {
	switch {
	case strings.HasPrefix(line, "-"):
		return p.with("31", line)
	case strings.HasPrefix(line, "+"):
		return p.with("32", line)
	}
	return line
}

// outcome returns how the word that a finding is listed under is coloured.
func (p painter) outcome(word string) func(string) string {
	code := "0"
	switch word {
	case string(v1alpha1.Critical):
		code = "1;31"
	case string(v1alpha1.High):
		code = "31"
	case string(v1alpha1.Medium):
		code = "33"
	case string(v1alpha1.Low):
		code = "36"
	case "unknown", "problem":
		code = "1;35"
	case "excepted", "notice":
		code = "2"
	}
	return func(s string) string { return p.with(code, s) }
}
