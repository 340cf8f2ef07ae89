// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Bounds of an answer: a person reads it in a terminal, and the API server
// copies it into headers and its audit log.
const (
	maxTold       = 10 // controls of a denial that are told one by one
	maxCauses     = 20
	maxOthers     = 3       // further places of a control
	maxLine       = 240     // characters of a line
	maxText       = 3 << 10 // bytes of a denial, but for its last lines
	maxWarnings   = 10
	maxWarning    = 240 // characters; the API server cuts off at 256
	maxAnnotation = 1024
)

// allow begins an answer that allows the request.
func (r *request) allow(d Decision) Outcome {
	return Outcome{Decision: d, Response: &admissionv1.AdmissionResponse{UID: r.UID, Allowed: true}}
}

// unreadable answers a request whose object cannot be judged, which is the
// object's doing: it is denied where a rule denies anything, whatever the failure
// policy.
func (r *request) unreadable(e *engine.Engine, what string, err error, opts Options) Outcome {
	if slices.ContainsFunc(e.Rules(), func(rule *baseline.Rule) bool { return strictness(rule.Action) >= strictness(v1alpha1.Ratchet) }) {
		opts.FailurePolicy = v1alpha1.FailClosed
	}
	return r.unjudged(what, err, opts)
}

// unjudged answers a request whose object was not judged by the failure policy.
func (r *request) unjudged(what string, err error, opts Options) Outcome {
	out := r.allow(Warned)
	out.Object = object.Ref{APIVersion: metav1.GroupVersion{Group: r.Kind.Group, Version: r.Kind.Version}.String(), Kind: r.Kind.Kind, Namespace: r.Namespace, Name: r.Name}
	text := fmt.Sprintf("Sconce could not judge this: request.%s: %v", what, err)
	if opts.FailurePolicy != v1alpha1.FailClosed {
		out.Response.Warnings = []string{line(text, maxWarning)}
		return out
	}
	out.Decision, out.Response.Allowed = Denied, false
	out.Response.Result = &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: line(text, maxLine),
	}
	return out
}

// answer writes down what was found.
func (r *request) answer(e *engine.Engine, result *engine.Result, opts Options, out Outcome) Outcome {
	if len(out.Denied) > 0 {
		out.Decision, out.Response.Allowed = Denied, false
		out.Response.Result = r.denial(e, opts, &out)
	} else if len(out.Warned) > 0 {
		out.Decision = Warned
	}
	out.Response.Warnings = warnings(out.Warned, result.Notices)
	if opts.Annotations && len(result.Findings) > 0 {
		out.Response.AuditAnnotations = map[string]string{"baseline": opts.Baseline, "findings": told(result.Findings)}
	}
	return out
}

// denial is the status that a denied request ends with.
func (r *request) denial(e *engine.Engine, opts Options, out *Outcome) *metav1.Status {
	s := &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: explanation(e, opts, out),
		Details: &metav1.StatusDetails{Name: r.Name, Group: r.Kind.Group, Kind: r.Kind.Kind},
	}
	for i := range out.Denied[:min(len(out.Denied), maxCauses)] {
		f := &out.Denied[i]
		s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{
			Type: metav1.CauseTypeForbidden, Field: line(f.Path, maxLine), Message: line(f.Control+": "+said(f), maxLine),
		})
	}
	return s
}

// explanation is what a developer reads: how much is wrong, then each control
// with the places and what would be right.
func explanation(e *engine.Engine, opts Options, out *Outcome) string {
	var b strings.Builder
	b.Grow(maxText)
	controls := controlsOf(out.Denied)
	fmt.Fprintf(&b, "%s does not meet %s", line(out.Object.String(), maxLine), count(len(controls), "control"))
	if opts.Baseline != "" {
		fmt.Fprintf(&b, " of baseline %s", opts.Baseline)
	}
	b.WriteByte(':')
	shown := 0
	for ; shown < min(len(controls), maxTold); shown++ {
		findings := findingsOf(out.Denied, controls[shown])
		told := entry(e, findings)
		if b.Len()+len(told) > maxText {
			if shown > 0 {
				break
			}
			told = entry(e, findings[:1])
		}
		b.WriteString(told)
	}
	if more := controls[shown:]; len(more) > 0 {
		fmt.Fprintf(&b, "\nand %s more: %s", count(len(more), "control"), line(strings.Join(more, ", "), maxLine))
	}
	return b.String()
}

// findingsOf returns the findings of a control.
func findingsOf(findings []verdict.Finding, control string) []*verdict.Finding {
	var out []*verdict.Finding
	for i := range findings {
		if findings[i].Control == control {
			out = append(out, &findings[i])
		}
	}
	return out
}

// entry is what is told of a control: what is there, where, and what would be
// right; then where else.
func entry(e *engine.Engine, findings []*verdict.Finding) string {
	f := findings[0]
	out := "\n- " + line(f.Control+": "+said(f), maxLine) + "\n  at " + line(place(f), maxLine)
	if fix := remedy(e, f); fix != "" {
		out += "\n  fix: " + line(fix, maxLine)
	}
	others := findings[1:]
	for _, f := range others[:min(len(others), maxOthers)] {
		out += "\n  also at " + line(place(f), maxLine)
	}
	if more := len(others) - maxOthers; more > 0 {
		out += "\n  and at " + count(more, "place") + " more"
	}
	return out
}

// said is what a finding says; an unknown one that it could not be decided.
func said(f *verdict.Finding) string {
	if f.Outcome == verdict.Unknown {
		return "could not be decided, so it is not let through: " + f.Message
	}
	return f.Message
}

// place is the field, with what stands there.
func place(f *verdict.Finding) string {
	if f.Path == "" {
		return "the object itself"
	}
	for _, e := range f.Evidence {
		if e.Path == f.Path && e.Value != "" && e.Value != "list" && e.Value != "map" && !f.Missing {
			return f.Path + " = " + e.Value
		}
	}
	if f.Missing {
		return f.Path + ", which is missing"
	}
	return f.Path
}

// maxEdits is how many edits of a fix are told; a longer one is put in words.
const maxEdits = 3

// remedy says how to mend a finding.
func remedy(e *engine.Engine, f *verdict.Finding) string {
	if f.Outcome == verdict.Fail && f.Fix != nil && len(f.Fix.Edits) <= maxEdits {
		var edits []string
		for _, edit := range f.Fix.Edits {
			edits = append(edits, instruction(edit))
		}
		return strings.Join(edits, "; ")
	}
	if rule := ruleOf(e, f.Control); rule != nil {
		return rule.Spec.Remediation
	}
	return ""
}

func instruction(e verdict.Edit) string {
	switch e.Op {
	case verdict.Set:
		return "set " + e.Path + " to " + string(e.Value.RawMessage)
	case verdict.Add:
		return "add " + string(e.Value.RawMessage) + " to " + e.Path
	}
	return "remove " + e.Path
}

func ruleOf(e *engine.Engine, control string) *baseline.Rule {
	rules := e.Rules()
	if i := slices.IndexFunc(rules, func(r *baseline.Rule) bool { return r.Name == control }); i >= 0 {
		return rules[i]
	}
	return nil
}

// warnings are one line for each finding, then for each exception that the
// object makes for itself and that does not hold.
func warnings(findings []verdict.Finding, notices []verdict.Notice) []string {
	var out []string
	for i := range findings {
		f := &findings[i]
		if len(out) == maxWarnings-1 && len(findings) > maxWarnings {
			out = append(out, line(fmt.Sprintf("and %s more, of %s", count(len(findings)-i, "finding"), strings.Join(controlsOf(findings[i:]), ", ")), maxWarning))
			break
		}
		message := f.Message
		if f.Outcome == verdict.Unknown {
			message = "could not be decided: " + message
		}
		out = append(out, line(f.Control+": "+message+" ("+place(f)+")", maxWarning))
	}
	for _, n := range notices {
		if n.Kind != verdict.UnusedException && len(out) <= maxWarnings {
			out = append(out, line(n.Subject+" "+n.Message, maxWarning))
		}
	}
	return out
}

// told lists findings for the audit log: the control, where it is, and what
// became of it where that is not its action.
func told(findings []verdict.Finding) string {
	var b strings.Builder
	for i := range findings {
		f := &findings[i]
		action := string(f.Action)
		switch {
		case f.Excepted != nil:
			action = "excepted"
		case f.Outcome == verdict.Unknown:
			action += ",unknown"
		}
		entry := fmt.Sprintf("%s(%s) %s", f.Control, action, f.Path)
		if b.Len()+len(entry) > maxAnnotation {
			fmt.Fprintf(&b, "; %d more", len(findings)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(entry)
	}
	return b.String()
}

// controlsOf names the controls of findings, each once, in their order.
func controlsOf(findings []verdict.Finding) []string {
	var out []string
	for i := range findings {
		if !slices.Contains(out, findings[i].Control) {
			out = append(out, findings[i].Control)
		}
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// line makes a text one line of at most limit characters that a terminal shows
// as it is.
func line(s string, limit int) string {
	if len(s) <= limit && plain(s) {
		return s
	}
	if len(s) > 4*limit {
		s = s[:4*limit] // no character takes more than 4 bytes
	}
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || !unicode.IsPrint(c) && c != ' ' {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, ""))
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit-1]) + "…"
	}
	return s
}

// plain says whether a text is printable ASCII.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
