// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// sarifWriter prints SARIF 2.1.0, as code hosts read it. Control names are the
// rule identifiers. What is unknown is a result of kind "open" (section
// 3.27.9), whose level the standard fixes to "none"; problems and notices are
// notifications of the invocation, which did not succeed if there are problems.
type sarifWriter struct {
	scan
	w io.Writer
}

func newSARIF(w io.Writer, _ Options) Writer {
	return &sarifWriter{w: w}
}

// sarifColumns says what columns count.
const sarifColumns = "unicodeCodePoints"

// sarifRoot says what relative addresses are relative to.
func sarifRoot() map[string]sarifBase {
	return map[string]sarifBase{srcRoot: {Description: sarifText{
		Text: "The directory in which sconce ran: the root of the checkout.",
	}}}
}

// srcRoot is what relative addresses are relative to: the root of the checkout.
const srcRoot = "%SRCROOT%"

func (s *sarifWriter) Close() error { return writeSARIF(s.w, s.run()) }

// writeSARIF writes a log of one run.
func writeSARIF(w io.Writer, run sarifRun) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
	if err != nil {
		return fmt.Errorf("writing SARIF: %w", err)
	}
	_, err = w.Write(escapeJSON(out.Bytes()))
	return err
}

func (s *sarifWriter) run() sarifRun {
	driver := sarifDriver{Name: "sconce", InformationURI: "https://sconce.dev", Rules: []sarifRule{}}
	if c := s.config; c != nil {
		driver.Name = cmp.Or(visible(c.Program), driver.Name)
		driver.Version = visible(c.Version)
	}
	for _, c := range s.controls {
		driver.Rules = append(driver.Rules, ruleOf(c, s.titles()))
	}
	run := sarifRun{
		Tool:        sarifTool{driver},
		Invocations: []sarifInvocation{s.invocation()},
		BaseIDs:     sarifRoot(),
		ColumnKind:  sarifColumns,
		Results:     s.results(),
	}
	if s.summary != nil {
		run.Properties = map[string]any{"summary": s.summary}
	}
	return run
}

func ruleOf(c *verdict.Control, frameworks map[string]string) sarifRule {
	title := cmp.Or(prose(c.Title), visible(c.Name))
	r := sarifRule{
		ID:     visible(c.Name),
		Short:  sarifText{Text: title},
		Full:   sarifText{Text: cmp.Or(prose(c.Description), title)},
		Help:   ruleHelp(c, frameworks),
		Config: sarifConfig{Level: levelOf(c.Severity)},
		Properties: sarifRuleProps{
			Tags:     ruleTags(c),
			Severity: securitySeverity(c.Severity),
		},
	}
	return r
}

func ruleTags(c *verdict.Control) []string {
	tags := []string{"security"}
	for _, t := range []string{c.Topic, string(c.Layer), string(c.Phase)} {
		if t = visible(t); t != "" && t != tags[0] {
			tags = append(tags, t)
		}
	}
	return tags
}

// ruleHelp says what to do, and which standards ask for it.
func ruleHelp(c *verdict.Control, frameworks map[string]string) sarifText {
	do := cmp.Or(prose(c.Remediation), prose(c.Title), visible(c.Name))
	text, md := do, escapeMarkdown(do)
	refs := references(c.References, frameworks)
	if len(refs) > 0 {
		text, md = text+"\n\nReferences:", md+"\n\n**References**\n"
	}
	for _, r := range refs {
		text += "\n- " + r.Standard + ": " + r.Sections
		md += "\n- " + escapeMarkdown(r.Standard+": "+r.Sections)
	}
	return sarifText{Text: text, Markdown: md}
}

func levelOf(s v1alpha1.Severity) string {
	switch s {
	case v1alpha1.Critical, v1alpha1.High:
		return "error"
	case v1alpha1.Medium:
		return "warning"
	}
	return "note"
}

// securitySeverity is the number from which GitHub makes its own four
// severities.
func securitySeverity(s v1alpha1.Severity) string {
	switch s {
	case v1alpha1.Critical:
		return "9.5"
	case v1alpha1.High:
		return "8.0"
	case v1alpha1.Medium:
		return "5.5"
	}
	return "2.0"
}

func (s *sarifWriter) results() []sarifResult {
	// Section 3.27.23: either every result of a run says how it is suppressed,
	// or none does.
	suppressed := false
	for _, f := range s.findings {
		suppressed = suppressed || f.Excepted != nil
	}
	results := make([]sarifResult, 0, len(s.findings))
	for _, f := range s.findings {
		r := s.result(f)
		if suppressed {
			r.Suppressions = new(suppressions(f))
		}
		results = append(results, r)
	}
	return results
}

func (s *sarifWriter) result(f *verdict.Finding) sarifResult {
	r := sarifResult{
		RuleID:    visible(f.Control),
		RuleIndex: s.place(f.Control),
		Kind:      "fail",
		Level:     levelOf(f.Severity),
		Message:   sarifMessage(messageText(f, s.control(f.Control))),
		Locations: []sarifLocation{findingLocation(f)},
		Fixes:     fixes(f),
		Properties: sarifResultProps{
			Severity: visible(string(f.Severity)),
			Action:   visible(string(f.Action)),
			Source:   visible(f.Source),
			Renderer: visible(f.Rendered),
		},
	}
	if f.Outcome == verdict.Unknown {
		r.Kind, r.Level = "open", "none"
		r.Message.Text = "unknown: " + r.Message.Text // many viewers do not show the kind
	}
	if s.config != nil && s.config.Base != "" {
		r.BaselineState = "new"
	}
	if f.Fingerprint != "" {
		r.Fingerprints = map[string]string{"sconce/v1": visible(f.Fingerprint)}
	}
	return r
}

func suppressions(f *verdict.Finding) []sarifSuppression {
	if f.Excepted == nil {
		return []sarifSuppression{}
	}
	return []sarifSuppression{{Kind: "external", Status: "accepted", Justification: exceptedText(f.Excepted)}}
}

// sarifMessage escapes what SARIF reads as a placeholder or as a link (sections
// 3.11.5 and 3.11.6).
func sarifMessage(s string) sarifText {
	return sarifText{Text: strings.NewReplacer("{", "{{", "}", "}}", "](", `\](`).Replace(s)}
}

func findingLocation(f *verdict.Finding) sarifLocation {
	name := visible(f.Object.String())
	full := name
	if f.Path != "" {
		full += " " + visible(f.Path)
	}
	return sarifLocation{
		Physical: physical(f.Position),
		Logical:  []sarifLogical{{Name: name, FullName: full, Kind: "resource"}},
	}
}

func physical(p object.Position) *sarifPhysical {
	if p.File == "" {
		return nil
	}
	loc := &sarifPhysical{Artifact: artifact(p.File)}
	if p.Line > 0 {
		loc.Region = &sarifRegion{StartLine: p.Line, StartColumn: max(0, p.Column)}
	}
	return loc
}

// artifact returns the address of a file: relative to the root of the checkout
// unless it is absolute.
func artifact(file string) sarifArtifact {
	if path.IsAbs(file) {
		return sarifArtifact{URI: "file://" + escapePath(path.Clean(file))}
	}
	return sarifArtifact{URI: escapePath(path.Clean(file)), BaseID: srcRoot}
}

// escapePath percent-encodes a path as RFC 3986 wants it. A colon is encoded
// too: in the first segment it would end a scheme.
func escapePath(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/-._~@+,=", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// fixes returns a finding's fix where its place in the file is known exactly:
// a proven edit of one value in the very line that is quoted.
func fixes(f *verdict.Finding) []sarifFix {
	fix, p := f.Fix, f.Position
	if fix == nil || !fix.Proven || fix.Refused != "" || f.Missing || len(fix.Edits) != 1 || fix.Edits[0].Path != f.Path {
		return nil
	}
	if p.File == "" || p.Line < 1 || p.Column < 1 || p.Column != p.QuoteColumn || len(fix.Diff) < 2 || fix.Diff[0] != "-"+p.Quote {
		return nil
	}
	var added []string
	for _, l := range fix.Diff[1:] {
		if !strings.HasPrefix(l, "+") {
			return nil
		}
		added = append(added, l[1:])
	}
	was, is := []rune(p.Quote), []rune(strings.Join(added, "\n"))
	head, tail := changed(was, is)
	if head < p.Column-1 {
		return nil
	}
	return []sarifFix{{
		Description: sarifMessage(editText(fix.Edits[0])),
		Changes: []sarifChange{{
			Artifact: artifact(p.File),
			Replacements: []sarifReplacement{{
				Deleted:  sarifRegion{StartLine: p.Line, StartColumn: head + 1, EndLine: p.Line, EndColumn: len(was) - tail + 1},
				Inserted: sarifContent{Text: string(is[head : len(is)-tail])},
			}},
		}},
	}}
}

// changed returns how much of two lines is the same at the beginning and at the
// end, in whole words.
func changed(a, b []rune) (head, tail int) {
	head = commonPrefix(a, b)
	for head > 0 && wordRune(a[head-1]) {
		head--
	}
	tail = commonSuffix(a[head:], b[head:])
	for tail > 0 && wordRune(a[len(a)-tail]) {
		tail--
	}
	return head, tail
}

func wordRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

func commonPrefix(a, b []rune) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []rune) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

func (s *sarifWriter) invocation() sarifInvocation {
	inv := sarifInvocation{Successful: len(s.problems) == 0 && s.summary != nil, Notifications: []sarifNotification{}}
	for _, p := range s.problems {
		text := cmp.Or(prose(p.Message), "could not be judged")
		inv.Notifications = append(inv.Notifications, notification("error", string(p.Stage), text, p.Position))
	}
	for _, n := range s.notices {
		text := cmp.Or(prose(n.Message), visible(n.Subject), visible(string(n.Kind)))
		inv.Notifications = append(inv.Notifications, notification("note", string(n.Kind), text, n.Position))
	}
	if s.summary == nil {
		inv.Notifications = append(inv.Notifications, notification("error", "", noSummary, object.Position{}))
	}
	return inv
}

func notification(level, id, text string, p object.Position) sarifNotification {
	n := sarifNotification{Level: level, Message: sarifMessage(text)}
	if id != "" {
		n.Descriptor = &sarifDescriptor{ID: visible(id)}
	}
	if loc := physical(p); loc != nil {
		n.Locations = []sarifLocation{{Physical: loc}}
	}
	return n
}
