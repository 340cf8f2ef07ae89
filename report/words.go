// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// The sentences that more than one format prints.

// placeText returns a position as compilers write it: file:line:column.
func placeText(p object.Position) string {
	s := visible(p.File)
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
		if p.Column > 0 {
			s += ":" + strconv.Itoa(p.Column)
		}
	}
	return s
}

// renderedText says what an object was rendered from, or nothing.
func renderedText(rendered, source string) string {
	switch {
	case rendered == "":
		return ""
	case source == "":
		return "rendered by " + visible(rendered)
	}
	return "rendered by " + visible(rendered) + " from " + visible(source)
}

// outcomeText is the word that a finding is listed under.
func outcomeText(f *verdict.Finding) string {
	switch {
	case f.Excepted != nil:
		return "excepted"
	case f.Outcome == verdict.Unknown:
		return "unknown"
	}
	return visible(string(f.Severity))
}

// headText is a finding's control and message, with what the word before it
// does not say.
func headText(f *verdict.Finding) string {
	var notes []string
	if outcomeText(f) != string(f.Severity) {
		notes = append(notes, string(f.Severity))
	}
	if f.Excepted != nil && f.Outcome == verdict.Unknown {
		notes = append(notes, "unknown")
	}
	if f.Action == v1alpha1.Audit || f.Action == v1alpha1.Warn {
		notes = append(notes, string(f.Action)+" only")
	}
	head := f.Control
	if len(notes) > 0 {
		head += " (" + strings.Join(notes, ", ") + ")"
	}
	return prose(head + ": " + f.Message)
}

// messageText is a finding's message, which is never empty.
func messageText(f *verdict.Finding, c *verdict.Control) string {
	return cmp.Or(prose(f.Message), prose(c.Title), visible(f.Control))
}

// fieldText names the field where no line shows it.
func fieldText(f *verdict.Finding) string {
	switch {
	case f.Path == "":
		return ""
	case f.Missing:
		return visible(f.Path) + " is not set"
	}
	return visible(f.Path)
}

// exceptedText says which exception excuses a finding.
func exceptedText(e *verdict.Excepted) string {
	s := "excepted by " + e.Exception
	if e.Expires != "" {
		s += " until " + e.Expires
	}
	if e.Owner != "" {
		s += ", owner " + e.Owner
	}
	return prose(s + ": " + e.Reason)
}

// editText is an edit as a sentence.
func editText(e verdict.Edit) string {
	path := visible(e.Path)
	switch e.Op {
	case verdict.Remove:
		return "remove " + path
	case verdict.Add:
		return "add " + valueText(e.Value) + " to " + path
	}
	return "set " + path + " to " + valueText(e.Value)
}

// valueText is a JSON value in one line, the same however it was spaced and
// escaped.
func valueText(v v1alpha1.Value) string {
	dec := json.NewDecoder(bytes.NewReader(v.RawMessage))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return visible(string(v.RawMessage))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(value) != nil {
		return visible(string(v.RawMessage))
	}
	return visible(strings.TrimSuffix(out.String(), "\n"))
}

// scoreText gives the bounds of the score, rounded away from each other, so
// that 100% is all and nothing else.
func scoreText(s *verdict.Summary) string {
	v := s.Verdicts
	if v.Pass+v.Fail+v.Unknown+v.Excepted == 0 {
		return "nothing was judged"
	}
	low, high := s.Score()
	text := fmt.Sprintf("%d%% of verdicts pass", floor(low))
	if v.Unknown > 0 {
		text = fmt.Sprintf("between %d%% and %d%% of verdicts pass", floor(low), ceil(high))
	}
	if v.Excepted > 0 {
		text += ", excepted ones among them"
	}
	if s.Problems > 0 {
		text = "score unknown, since not everything could be read; of what could, " + text
	}
	return text
}

// floor and ceil round percents, within what floating point leaves open.
func floor(f float64) int { return int(math.Floor(f + 1e-9)) }
func ceil(f float64) int  { return int(math.Ceil(f - 1e-9)) }

// totalsText says what was scanned.
func totalsText(s *verdict.Summary) string {
	judged := plural(s.Objects, "object", "objects") + " judged by " + plural(s.Controls, "control", "controls")
	if s.Files+s.Charts+s.Overlays == 0 && s.Objects > 0 {
		return judged // of a cluster
	}
	read := []string{plural(s.Files, "file", "files")}
	if s.Charts > 0 {
		read = append(read, plural(s.Charts, "chart", "charts"))
	}
	if s.Overlays > 0 {
		read = append(read, plural(s.Overlays, "overlay", "overlays"))
	}
	return strings.Join(read, ", ") + "; " + judged
}

// restText says what was read and not judged, a sentence each.
func restText(s *verdict.Summary) []string {
	var rest []string
	add := func(n int, one, many string) {
		if n > 0 {
			rest = append(rest, plural(n, one, many))
		}
	}
	add(s.Unmatched, "object that no control is about", "objects that no control is about")
	add(s.Other, "document that is no Kubernetes object", "documents that are no Kubernetes objects")
	add(s.Folded, "finding that is told of the owner alone", "findings that are told of owners alone")
	add(s.OldRevisions, "old revision of a Deployment, which was not judged", "old revisions of Deployments, which were not judged")
	add(s.Owned, "file judged by what it renders to", "files judged by what they render to")
	return rest
}

// resultText is the whole result in one line.
func resultText(s *verdict.Summary) string {
	v := s.Verdicts
	switch {
	case v.Pass+v.Fail+v.Unknown+v.Excepted == 0 && s.Problems == 0:
		return "nothing was judged"
	case v.Fail+v.Unknown+s.Problems == 0:
		return "no findings"
	}
	var parts []string
	if v.Fail == 0 {
		parts = append(parts, "no findings")
	} else {
		parts = append(parts, fmt.Sprintf("%d failed", v.Fail))
	}
	if v.Unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d unknown", v.Unknown))
	}
	if v.Excepted > 0 {
		parts = append(parts, fmt.Sprintf("%d excepted", v.Excepted))
	}
	if s.Problems > 0 {
		parts = append(parts, plural(s.Problems, "problem", "problems"))
	}
	return strings.Join(parts, ", ")
}

const noSummary = "the scan did not finish: its summary is missing, and what stands here is not all"

// severityRow is one line of the table by severity.
type severityRow struct {
	Name string
	verdict.Counts
}

// severityRows are the counts by severity, worst first, and a total.
func severityRows(s *verdict.Summary) []severityRow {
	var rows []severityRow
	for _, sev := range verdict.Severities {
		rows = append(rows, severityRow{string(sev), s.BySeverity[sev]})
	}
	for _, sev := range sortedKeys(s.BySeverity) {
		if verdict.Rank(sev) == len(verdict.Severities) {
			rows = append(rows, severityRow{visible(string(sev)), s.BySeverity[sev]})
		}
	}
	return append(rows, severityRow{"all", s.Verdicts})
}

// cellRow is one layer of the grid of layers and phases.
type cellRow struct {
	Layer          string
	Build, Operate verdict.Counts
}

func cellRows(s *verdict.Summary) []cellRow {
	var rows []cellRow
	for _, l := range []v1alpha1.Layer{v1alpha1.Application, v1alpha1.Cluster, v1alpha1.Infrastructure} {
		rows = append(rows, cellRow{
			Layer:   string(l),
			Build:   s.ByCell[string(l)+"/"+string(v1alpha1.Build)],
			Operate: s.ByCell[string(l)+"/"+string(v1alpha1.Operate)],
		})
	}
	return rows
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// advice counts what the last line of a report needs to know.
type advice struct {
	fixes     int // proven
	suggested int // neither proven nor refused
	control   string
	rank      int
}

// see takes note of a finding.
func (a *advice) see(f *verdict.Finding) {
	if f.Excepted != nil {
		return
	}
	if f.Outcome == verdict.Fail && f.Fix != nil && f.Fix.Proven && f.Fix.Refused == "" {
		a.fixes++
	} else if f.Outcome == verdict.Fail && f.Fix != nil && f.Fix.Refused == "" {
		a.suggested++
	}
	rank := 2 * verdict.Rank(f.Severity)
	if f.Outcome == verdict.Unknown {
		rank++
	}
	if a.control == "" || rank < a.rank {
		a.control, a.rank = f.Control, rank
	}
}

// next says what to do next.
func (a *advice) next(c *verdict.Config) []string {
	var steps []string
	if target := fixTarget(c); a.fixes > 0 && target != "" {
		steps = append(steps, "sconce fix "+target+" makes "+plural(a.fixes, "proven fix", "proven fixes"))
	} else if a.suggested > 0 && target != "" {
		steps = append(steps, "sconce fix --diff "+target+" shows the edits, and proves each")
	}
	if a.control != "" {
		steps = append(steps, "sconce explain "+shellWord(a.control)+policyArguments(c)+" says more")
	}
	return steps
}

// policyArguments name the policies of a scan again; nothing where none were named.
func policyArguments(c *verdict.Config) string {
	if c == nil {
		return ""
	}
	out := ""
	for _, p := range c.Policies {
		out += " -p " + shellWord(p)
	}
	return out
}

// fixTarget returns the targets of a scan as arguments; nothing where they are
// no files that could be edited.
func fixTarget(c *verdict.Config) string {
	if c == nil || c.Revision != "" || c.Cluster != "" || len(c.Targets) == 0 {
		return ""
	}
	var words []string
	for _, t := range c.Targets {
		if t == "-" || t == "cluster" {
			return ""
		}
		words = append(words, shellWord(t))
	}
	if len(words) > 3 {
		return "PATH"
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word for a shell if it needs it.
func shellWord(s string) string {
	s = visible(s)
	if s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789_./-") == "" && s[0] != '-' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// reference is one line of a control's references.
type reference struct {
	Standard, Sections string
}

// references are a control's references as a person reads them, given the
// titles of the frameworks.
func references(r v1alpha1.References, frameworks map[string]string) []reference {
	var out []reference
	for _, s := range r.Standards(frameworks) {
		out = append(out, reference{visible(s.Title), visible(strings.Join(s.Sections, ", "))})
	}
	return out
}
