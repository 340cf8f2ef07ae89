// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"unicode"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// The reasons of events, and what was done.
const (
	eventDenied     = "Denied"
	eventDrift      = "Drift"
	eventRemediated = "Remediated"
	eventRefused    = "RemediationRefused"
	actionAdmission = "Admission"
	actionAudit     = "Audit"
	actionRemediate = "Remediate"
)

// eventRate and eventBurst bound how many events are recorded: whoever is denied
// a thousand times has understood, and the API server has other work.
const (
	eventRate  = 5 // a second
	eventBurst = 50
)

// maxNote is how long the note of an event gets, in bytes; the API server takes
// 1,024.
const maxNote = 1000

// recorder records events on objects.
type recorder struct {
	to      events.EventRecorder
	limiter flowcontrol.PassiveRateLimiter
	metrics *metrics
}

func newRecorder(to events.EventRecorder, m *metrics) *recorder {
	return &recorder{to: to, limiter: flowcontrol.NewTokenBucketPassiveRateLimiter(eventRate, eventBurst), metrics: m}
}

// warn records an event on an object, if there is room for it.
func (r *recorder) warn(on object.Ref, uid, reason, action, note string) {
	if on.Name == "" || !r.limiter.TryAccept() {
		return
	}
	note = oneLine(note)
	r.metrics.events.WithLabelValues(reason).Inc()
	kind := corev1.EventTypeWarning
	if reason == eventRemediated {
		kind = corev1.EventTypeNormal
	}
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "") + "…"
	}
	r.to.Eventf(&corev1.ObjectReference{APIVersion: on.APIVersion, Kind: on.Kind, Namespace: on.Namespace, Name: strings.TrimSuffix(on.Name, "*"), UID: types.UID(uid)}, nil, kind, reason, action, "%s", note)
}

// oneLine leaves out what a terminal would not show as it is: names and values in
// a note are those that somebody asked for.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, s)
}

// webhooks are the webhooks as metrics name them.
var webhooks = map[v1alpha1.FailurePolicy]string{v1alpha1.FailClosed: "fail", v1alpha1.FailOpen: "ignore", "": "mutate"}

// operations are those of requests: what else a caller sends is no label.
var operations = map[admissionv1.Operation]string{
	admissionv1.Create: "CREATE", admissionv1.Update: "UPDATE", admissionv1.Delete: "DELETE", admissionv1.Connect: "CONNECT",
}

// answered counts an answer, and records an event where something was denied.
func (r *recorder) answered(a admission.Answer) {
	out, m := &a.Outcome, r.metrics
	operation := operations[a.Request.Operation]
	if operation == "" {
		operation = "other"
	}
	m.requests.WithLabelValues(webhooks[a.Policy], operation, string(out.Decision)).Inc()
	m.duration.Observe(a.Took.Seconds())
	if len(out.Mutated) > 0 {
		m.mutations.Inc()
	}
	if out.Decision == admission.Skipped || out.Decision == admission.Allowed {
		return
	}
	each(out.Denied, func(f *verdict.Finding) { m.denials.WithLabelValues(f.Control, string(f.Action)).Inc() })
	each(out.Warned, func(f *verdict.Finding) { m.warnings.WithLabelValues(f.Control).Inc() })
	for _, findings := range [][]verdict.Finding{out.Denied, out.Warned} {
		each(findings, func(f *verdict.Finding) {
			if f.Outcome == verdict.Unknown {
				m.unjudged.WithLabelValues(f.Control, string(a.Policy)).Inc()
			}
		})
	}
	if out.Decision == admission.Denied && (a.Request.DryRun == nil || !*a.Request.DryRun) {
		r.warn(out.Object, "", eventDenied, actionAdmission, denial(a))
	}
}

// each calls a function for the first finding of each control.
func each(findings []verdict.Finding, do func(*verdict.Finding)) {
	seen := map[string]bool{}
	for i := range findings {
		if f := &findings[i]; !seen[f.Control] {
			seen[f.Control] = true
			do(f)
		}
	}
}

// denial says what was denied to whom.
func denial(a admission.Answer) string {
	var controls []string
	each(a.Outcome.Denied, func(f *verdict.Finding) { controls = append(controls, f.Control+": "+f.Message) })
	if len(controls) == 0 {
		controls = []string{a.Outcome.Response.Result.Message}
	}
	verb := map[admissionv1.Operation]string{admissionv1.Create: "creating", admissionv1.Update: "updating"}[a.Request.Operation]
	return fmt.Sprintf("%s it was denied to %s: %s", verb, a.Request.UserInfo.Username, strings.Join(controls, "; "))
}
