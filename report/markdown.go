// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// maxMarkdown is how many bytes a markdown report has at most: GitHub refuses
// comments of more than 65,536 characters, and a workflow may add some words.
const maxMarkdown = 65000

// maxListed bounds problems and notices, so that room for findings is left.
const maxListed = 15000

// maxCompliance bounds what is said of frameworks, likewise.
const maxCompliance = 20000

// markdown prints a comment for a pull request: totals first, then the findings
// of each file, the worst files first, folded. Totals are never cut; findings
// are left out and counted where the comment would grow too long.
//
// Nothing of a manifest acts in the comment: not as markdown, HTML, link,
// mention or emoji.
type markdown struct {
	scan
	w    io.Writer
	opts Options
}

func newMarkdown(w io.Writer, opts Options) Writer {
	return &markdown{w: w, opts: opts}
}

func (m *markdown) Close() error {
	var b strings.Builder
	m.head(&b)
	m.list(&b, "Could not be judged", m.problemLines())
	notices := &strings.Builder{}
	m.list(notices, "Notices", m.noticeLines())
	tail := notices.String() + m.next()
	const countRoom = 100 // for the line that says how many are left out
	m.files(&b, maxMarkdown-len(tail)-countRoom)
	b.WriteString(tail)
	_, err := io.WriteString(m.w, b.String())
	return err
}

func (m *markdown) head(b *strings.Builder) {
	s := m.summary
	if s == nil {
		fmt.Fprintf(b, "### Sconce: %s\n\n", noSummary)
		return
	}
	fmt.Fprintf(b, "### Sconce: %s\n\n", resultText(s))
	if s.Verdicts.Fail+s.Verdicts.Unknown+s.Verdicts.Excepted > 0 {
		b.WriteString("| severity | failed | unknown | excepted |\n|:--|--:|--:|--:|\n")
		for _, r := range severityRows(s) {
			fmt.Fprintf(b, "| %s | %d | %d | %d |\n", escapeMarkdown(r.Name), r.Fail, r.Unknown, r.Excepted)
		}
		b.WriteByte('\n')
	}
	line := scoreText(s) + "; " + totalsText(s)
	if rest := restText(s); len(rest) > 0 {
		line += "; " + strings.Join(rest, ", ")
	}
	b.WriteString(strings.ToUpper(line[:1]) + line[1:] + ".\n\n")
	for _, c := range s.Compliance {
		m.compliance(b, c, maxCompliance/len(s.Compliance))
	}
}

// list prints a heading and lines, as many as there is room for.
func (m *markdown) list(b *strings.Builder, heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "**%s**\n\n", heading)
	used := 0
	for i, l := range lines {
		if used += len(l); used > maxListed {
			fmt.Fprintf(b, "- and %d more\n", len(lines)-i)
			break
		}
		b.WriteString(l)
	}
	b.WriteByte('\n')
}

func (m *markdown) problemLines() []string {
	var lines []string
	for _, p := range m.problems {
		lines = append(lines, listLine(p.Position, string(p.Stage)+": "+p.Message))
	}
	return lines
}

func (m *markdown) noticeLines() []string {
	var lines []string
	for _, n := range m.notices {
		lines = append(lines, listLine(n.Position, string(n.Kind)+": "+n.Message))
	}
	return lines
}

// shortened keeps one long text from taking the room of all others.
func shortened(s string) string {
	return firstColumns(s, 1000)
}

func listLine(p object.Position, text string) string {
	line := "- "
	if p.File != "" {
		line += code(placeText(p)) + " "
	}
	return line + escapeMarkdown(shortened(prose(text))) + "\n"
}

func (m *markdown) next() string {
	var a advice
	for _, f := range m.findings {
		a.see(f)
	}
	steps := a.next(m.config)
	if len(steps) == 0 {
		return ""
	}
	return "Next: " + escapeMarkdown(strings.Join(steps, "; ")) + ".\n"
}

// files prints findings until the report is max bytes long.
func (m *markdown) files(b *strings.Builder, max int) {
	findings, more := m.listed(m.opts)
	files := group(findings, m.nowhere())
	slices.SortStableFunc(files, func(a, b *fileGroup) int { return worst(a.Objects...) - worst(b.Objects...) })
	for _, file := range files {
		if file.File == m.nowhere() {
			// A cluster has no lines to go by, and may have more than fits.
			slices.SortStableFunc(file.Objects, func(a, b *objectGroup) int { return worst(a) - worst(b) })
		}
	}
	for i, file := range files {
		blocks := m.blocks(file)
		fits := fitting(blocks, max-b.Len()-len(detailsEnd)-len(detailsHead(file)))
		if fits > 0 {
			b.WriteString(detailsHead(file))
			for _, block := range blocks[:fits] {
				b.WriteString(block)
			}
			b.WriteString(detailsEnd)
		}
		if fits < len(blocks) {
			more += file.count(fits)
			for _, rest := range files[i+1:] {
				more += rest.count(0)
			}
			break
		}
	}
	if more > 0 {
		fmt.Fprintf(b, "And %s, not listed here.\n\n", plural(more, "more finding", "more findings"))
	}
}

// fitting returns how many blocks fit into max bytes.
func fitting(blocks []string, max int) int {
	used := 0
	for i, block := range blocks {
		if used += len(block); used > max {
			return i
		}
	}
	return len(blocks)
}

// count is the number of a file's findings after the first blocks.
func (f *fileGroup) count(blocks int) int {
	n := 0
	for _, o := range f.Objects {
		for _, x := range o.Findings {
			if blocks--; blocks < 0 {
				n += x.Count
			}
		}
	}
	return n
}

// worst ranks objects by the worst of their findings: what failed before what is
// unknown or excepted.
func worst(objects ...*objectGroup) int {
	rank := 1000
	for _, o := range objects {
		for _, x := range o.Findings {
			rank = min(rank, 10*caseRank(x.Finding)+verdict.Rank(x.Severity))
		}
	}
	return rank
}

const detailsEnd = "</details>\n\n"

func detailsHead(f *fileGroup) string {
	var n [3]int
	for _, o := range f.Objects {
		for _, x := range o.Findings {
			n[caseRank(x.Finding)]++
		}
	}
	var counts []string
	for i, word := range []string{"failed", "unknown", "excepted"} {
		if n[i] > 0 {
			counts = append(counts, strconv.Itoa(n[i])+" "+word)
		}
	}
	return "<details><summary>" + code(visible(f.File)) + ": " + strings.Join(counts, ", ") + "</summary>\n\n"
}

// blocks returns the findings of a file, each ready to print.
func (m *markdown) blocks(f *fileGroup) []string {
	var out []string
	for _, o := range f.Objects {
		for _, x := range o.Findings {
			out = append(out, m.finding(o, x))
		}
	}
	return out
}

func (m *markdown) finding(o *objectGroup, f *findingGroup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** %s<br>%s", escapeMarkdown(outcomeText(f.Finding)), escapeMarkdown(shortened(headText(f.Finding))), code(visible(o.Object.String())))
	if by := renderedText(o.Rendered, o.Source); by != "" {
		b.WriteString(", " + escapeMarkdown(by))
	}
	m.where(&b, f.Finding)
	if len(f.Also) > 0 {
		b.WriteString("<br>" + escapeMarkdown(alsoText(f.Also)))
	}
	if f.Excepted != nil {
		b.WriteString("<br>" + escapeMarkdown(exceptedText(f.Excepted)))
	}
	b.WriteString("\n\n")
	if q := quotedLines(f.Position); q != "" {
		b.WriteString(fence("yaml", q))
	}
	m.fix(&b, f.Finding)
	return b.String()
}

// alsoText names further objects of the same line.
func alsoText(refs []object.Ref) string {
	var names []string
	for _, r := range refs[:min(len(refs), maxAlso)] {
		names = append(names, visible(r.String()))
	}
	if more := len(refs) - maxAlso; more > 0 {
		names = append(names, "and "+plural(more, "more object", "more objects"))
	}
	return "the same line also renders " + strings.Join(names, ", ")
}

func (m *markdown) where(b *strings.Builder, f *verdict.Finding) {
	if f.Position.Line > 0 {
		b.WriteString(", line " + strconv.Itoa(f.Position.Line))
	}
	if f.Missing || f.Position.Line < 1 && f.Path != "" {
		b.WriteString("<br>" + escapeMarkdown(fieldText(f)))
	}
	if f.Position.Note != "" {
		b.WriteString("<br>" + escapeMarkdown(prose(f.Position.Note)))
	}
}

func (m *markdown) fix(b *strings.Builder, f *verdict.Finding) {
	fix := f.Fix
	if fix == nil || fix.Refused != "" || len(fix.Diff) == 0 {
		if do := prose(m.control(f.Control).Remediation); do != "" {
			b.WriteString("To do: " + escapeMarkdown(do) + "\n\n")
		}
		if fix != nil && fix.Refused != "" {
			b.WriteString("No fix: " + escapeMarkdown(prose(fix.Refused)) + "\n\n")
		}
		return
	}
	label := fixLabel(fix)
	b.WriteString(strings.ToUpper(label[:1]) + label[1:] + ":\n\n")
	b.WriteString(fence("diff", strings.Join(diffLines(fix.Diff, 160), "\n")+"\n"))
	if fix.Note != "" {
		b.WriteString("Note: " + escapeMarkdown(prose(fix.Note)) + "\n\n")
	}
}

// quotedLines is the quoted line with a caret below.
func quotedLines(p object.Position) string {
	e := quote(p.Quote, p.QuoteColumn).crop(120)
	if e.line() == "" {
		return ""
	}
	text := e.line() + "\n"
	if caret := e.Caret(); caret != "" {
		text += caret + "\n"
	}
	return text
}

// fence puts text into a fence that is longer than any in it.
func fence(language, text string) string {
	longest, run := 0, 0
	for _, r := range text {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	marks := strings.Repeat("`", max(3, longest+1))
	return marks + language + "\n" + text + marks + "\n\n"
}

// code returns a visible text as HTML code: hosts look for mentions, issues and
// emoji everywhere but there.
func code(s string) string {
	var b strings.Builder
	for _, r := range s {
		writeEntity(&b, r)
	}
	return "<code>" + b.String() + "</code>"
}

// escapeMarkdown returns a visible text as markdown that shows it and does
// nothing. A space of no width parts what a host would make a mention, a link,
// an issue or an emoji of: hosts look for those after entities are resolved.
func escapeMarkdown(s string) string {
	var b strings.Builder
	for i, r := range s {
		rest := s[i:]
		if strings.HasPrefix(strings.ToLower(rest[:min(len(rest), 4)]), "www.") {
			b.WriteString(rest[:1] + noWidth)
			continue
		}
		writeEntity(&b, r)
		switch {
		case r == '@', r == '#', strings.HasPrefix(rest, "://"), r == ':' && emoji(rest):
			b.WriteString(noWidth)
		}
	}
	return b.String()
}

const noWidth = "&#8203;"

// emoji says that a text begins with what may be the name of one: ":smile:".
func emoji(s string) bool {
	name, _, ok := strings.Cut(s[1:], ":")
	return ok && name != "" && !strings.ContainsAny(name, " /")
}

// writeEntity writes a character so that it means nothing in markdown or HTML.
// What means something only at the beginning of a line is left as it is: no
// line begins with a text of others.
func writeEntity(b *strings.Builder, r rune) {
	if strings.ContainsRune("&<>`*_[]|~\\#$", r) {
		fmt.Fprintf(b, "&#%d;", r)
		return
	}
	b.WriteRune(r)
}
