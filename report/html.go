// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// htmlWriter prints one page that needs nothing else: no request leaves it, and
// its content security policy forbids any. Without JavaScript it shows
// everything and cannot filter.
type htmlWriter struct {
	scan
	w    io.Writer
	opts Options
}

func newHTML(w io.Writer, opts Options) Writer {
	opts.ShowExcepted = true // the page can filter
	return &htmlWriter{w: w, opts: opts}
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

func (h *htmlWriter) Close() error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	out := bufio.NewWriter(h.w)
	if err := t.Execute(out, h.page()); err != nil {
		return fmt.Errorf("writing HTML: %w", err)
	}
	return out.Flush()
}

// page is what the template shows. All its texts are visible ones.
type page struct {
	Policy string
	CSS    template.CSS
	JS     template.JS

	Result  string
	Facts   []string
	Next    string
	Summary *verdict.Summary
	Bar     []barPart
	Rows    []severityRow
	Cells   []pageCell

	Compliance         []pageCompliance
	Problems, Notices  []pageEntry
	Files              []pageFile
	More               int
	Severities, Topics []string
	Controls           []pageControl
}

// pageCell is a layer of the grid, its numbers as they are shown.
type pageCell struct {
	Layer   string
	Numbers []string
}

// barPart is a part of the bar that shows the score, in percent.
type barPart struct {
	Class, X, Width string
}

type pageEntry struct {
	Kind, Place, Message string
	Quote                *quotation
}

// quotation is a quoted line with its number beside it.
type quotation struct {
	Gutter, Below string
	excerpt
}

type pageFile struct {
	Name    string
	Objects []pageObject
}

type pageObject struct {
	Name, Rendered string
	Findings       []pageFinding
}

type pageFinding struct {
	ID                         string
	Control, Severity, Outcome string
	Topic, Title, Action       string
	Message, Place             string
	Field, Note, Excepted      string
	Quote                      *quotation
	Also                       []string
	Why                        string
	Evidence                   []verdict.Evidence
	References                 []reference
	Fix                        pageFix
}

type pageFix struct {
	Label, ToDo, Refused, Note string
	Lines                      []pageLine
}

type pageLine struct{ Class, Text string }

type pageControl struct {
	Name, Title, Severity, Why, ToDo string
	Topic, Layer, Phase              string
	Counts                           verdict.Counts
	References                       []reference
}

func (h *htmlWriter) page() page {
	p := page{
		Policy: contentPolicy(),
		CSS:    template.CSS(pageCSS),
		JS:     template.JS(pageJS),
		Result: noSummary,
		Facts:  configFacts(h.config),
	}
	if s := h.summary; s != nil {
		p.Result, p.Summary = resultText(s), s
		p.Facts = append([]string{scoreText(s), totalsText(s)}, append(restText(s), p.Facts...)...)
		p.Rows, p.Cells, p.Bar = severityRows(s), pageCells(s), scoreBar(s.Verdicts)
		for _, c := range s.Compliance {
			p.Compliance = append(p.Compliance, pageComplianceOf(c, s))
		}
	}
	h.entries(&p)
	h.findingsOf(&p)
	p.Controls = h.controlsOf()
	return p
}

// contentPolicy allows the page its own style and script, by their hashes, and
// nothing else.
func contentPolicy() string {
	return "default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(pageJS) +
		"; base-uri 'none'; form-action 'none'"
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func configFacts(c *verdict.Config) []string {
	if c == nil {
		return nil
	}
	facts := []string{"baseline " + visible(c.Baseline) + " for Kubernetes " + visible(c.KubernetesVersion)}
	if len(c.Compliance) > 0 {
		facts = append(facts, "controls for "+visible(strings.Join(c.Compliance, ", ")))
	}
	if len(c.Targets) > 0 {
		facts = append(facts, "scanned "+visible(strings.Join(c.Targets, ", ")))
	}
	if c.Revision != "" {
		facts = append(facts, "revision "+visible(c.Revision))
	}
	return append(facts, visible(strings.TrimSpace(c.Program+" "+c.Version)))
}

func pageCells(s *verdict.Summary) []pageCell {
	var out []pageCell
	for _, r := range cellRows(s) {
		b, o := cellNumbers(r.Build), cellNumbers(r.Operate)
		out = append(out, pageCell{r.Layer, append(b[:], o[:]...)})
	}
	return out
}

// scoreBar is the share of each outcome.
func scoreBar(v verdict.Counts) []barPart {
	return bar([]barShare{{"pass", v.Pass}, {"excepted", v.Excepted}, {"unknown", v.Unknown}, {"fail", v.Fail}})
}

// barShare is a part of a bar and how much it stands for.
type barShare struct {
	class string
	n     int
}

// bar lays out a bar; nothing where all shares are 0.
func bar(shares []barShare) []barPart {
	total := 0
	for _, s := range shares {
		total += s.n
	}
	var out []barPart
	x := 0.0
	for _, s := range shares {
		if s.n > 0 {
			w := 100 * float64(s.n) / float64(total)
			out = append(out, barPart{s.class, percent(x), percent(w)})
			x += w
		}
	}
	return out
}

func percent(f float64) string {
	return strconv.FormatFloat(f, 'f', 2, 64) + "%"
}

func (h *htmlWriter) entries(p *page) {
	for _, x := range h.problems {
		p.Problems = append(p.Problems, pageEntry{visible(string(x.Stage)), placeText(x.Position), entryText(x.Message, x.Position), pageQuote(x.Position)})
	}
	for _, x := range h.notices {
		p.Notices = append(p.Notices, pageEntry{visible(string(x.Kind)), placeText(x.Position), entryText(x.Message, x.Position), pageQuote(x.Position)})
	}
}

func entryText(message string, p object.Position) string {
	if p.Note == "" {
		return prose(message)
	}
	return prose(message) + "; " + prose(p.Note)
}

// maxPageQuote is how long a quoted line is in the page, in columns.
const maxPageQuote = 240

func pageQuote(p object.Position) *quotation {
	e := quote(p.Quote, p.QuoteColumn).crop(maxPageQuote)
	if e.line() == "" {
		return nil
	}
	number := ""
	if p.Line > 0 {
		number = strconv.Itoa(p.Line)
	}
	return &quotation{Gutter: number + " | ", Below: pad(len(number)) + " | ", excerpt: e}
}

func (h *htmlWriter) findingsOf(p *page) {
	findings, more := h.listed(h.opts)
	p.More = more
	var a advice
	for _, f := range h.findings {
		a.see(f)
	}
	p.Next = strings.Join(a.next(h.config), "; ")
	ids, severities, topics := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, file := range group(findings, h.nowhere()) {
		pf := pageFile{Name: visible(file.File)}
		for _, o := range file.Objects {
			po := pageObject{Name: visible(o.Object.String()), Rendered: renderedText(o.Rendered, o.Source)}
			for _, f := range o.Findings {
				x := h.finding(f, ids)
				severities[x.Severity], topics[x.Topic] = true, true
				po.Findings = append(po.Findings, x)
			}
			pf.Objects = append(pf.Objects, po)
		}
		p.Files = append(p.Files, pf)
	}
	p.Severities, p.Topics = bySeverity(severities), sortedKeys(topics)
}

// bySeverity returns severities, worst first.
func bySeverity(set map[string]bool) []string {
	var out []string
	for _, s := range verdict.Severities {
		if set[string(s)] {
			out = append(out, string(s))
			delete(set, string(s))
		}
	}
	return append(out, sortedKeys(set)...)
}

func (h *htmlWriter) finding(f *findingGroup, ids map[string]bool) pageFinding {
	c := h.control(f.Control)
	x := pageFinding{
		Control: visible(f.Control), Severity: visible(string(f.Severity)), Outcome: string(f.Outcome),
		Topic: visible(c.Topic), Title: prose(c.Title), Action: visible(string(f.Action)),
		Message: messageText(f.Finding, c), Place: placeText(f.Position), Note: prose(f.Position.Note),
		Quote: pageQuote(f.Position), Why: prose(c.Description), References: references(c.References, h.titles()), Fix: pageFixOf(f.Fix, c),
	}
	if id := visible(f.Fingerprint); id != "" && !ids[id] {
		x.ID, ids[id] = "finding-"+id, true
	}
	if f.Missing || x.Quote == nil {
		x.Field = fieldText(f.Finding)
	}
	if f.Excepted != nil {
		x.Outcome, x.Excepted = "excepted", exceptedText(f.Excepted)
	}
	for _, ref := range f.Also {
		x.Also = append(x.Also, visible(ref.String()))
	}
	for _, e := range f.Evidence {
		x.Evidence = append(x.Evidence, verdict.Evidence{Path: visible(e.Path), Value: visible(e.Value)})
	}
	return x
}

func pageFixOf(fix *verdict.Fix, c *verdict.Control) pageFix {
	if fix == nil || fix.Refused != "" || len(fix.Diff)+len(fix.Edits) == 0 {
		out := pageFix{ToDo: prose(c.Remediation)}
		if fix != nil {
			out.Refused, out.Note = prose(fix.Refused), prose(fix.Note)
		}
		return out
	}
	out := pageFix{Label: fixLabel(fix), Note: prose(fix.Note)}
	for _, l := range diffLines(fix.Diff, maxPageQuote) {
		class := "is"
		if strings.HasPrefix(l, "-") {
			class = "was"
		}
		out.Lines = append(out.Lines, pageLine{class, l})
	}
	if len(fix.Diff) == 0 {
		for _, e := range fix.Edits {
			out.Lines = append(out.Lines, pageLine{"", editText(e)})
		}
	}
	return out
}

// controlsOf lists what was described, and what judged something.
func (h *htmlWriter) controlsOf() []pageControl {
	names := map[string]bool{}
	for _, c := range h.controls {
		names[c.Name] = true
	}
	if h.summary != nil {
		for name := range h.summary.ByControl {
			names[name] = true
		}
	}
	var out []pageControl
	for _, name := range sortedKeys(names) {
		c := &verdict.Control{Name: name}
		if i, ok := h.index[name]; ok {
			c = h.controls[i]
		}
		x := pageControl{
			Name: visible(name), Title: cmp.Or(prose(c.Title), visible(name)), Severity: visible(string(c.Severity)),
			Why: prose(c.Description), ToDo: prose(c.Remediation),
			Topic: visible(c.Topic), Layer: visible(string(c.Layer)), Phase: visible(string(c.Phase)),
			References: references(c.References, h.titles()),
		}
		if h.summary != nil {
			x.Counts = h.summary.ByControl[name]
		}
		out = append(out, x)
	}
	return out
}
