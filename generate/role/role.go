// SPDX-License-Identifier: Apache-2.0

// Package role makes the least RBAC roles that allow what an audit log shows a
// subject to have asked for, and proves them by the exact model of RBAC: every
// request that was seen is allowed by them, and they allow nothing that is not
// allowed today. Where they allow more than was seen, each place is named with
// its reason.
//
// It knows no more than the log: what did not happen in its window is not in the
// roles, and what the API server checks beside the request leaves no event.
package role

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/generate/recording"
)

// Result is the roles of one subject, with what was checked of them.
type Result struct {
	Subject rbac.Subject     `json:"subject"`
	Groups  []string         `json:"groups,omitempty"`
	Window  recording.Window `json:"window"`
	// Gaps are hours in which the subject asked for nothing.
	Gaps []recording.Gap `json:"gaps,omitempty"`
	// Allowed counts the requests that were allowed.
	Allowed int `json:"allowed"`
	// Refused were asked for and refused; no role grants them.
	Refused []Seen `json:"refused,omitempty"`
	// Elsewhere were allowed by another authorizer than RBAC; no role needs to
	// grant them.
	Elsewhere []Seen `json:"elsewhere,omitempty"`
	// Common is what everyone may do by the roles that Kubernetes brings.
	Common []Seen `json:"common,omitempty"`
	// Wildcards are where the roles allow more than was seen.
	Wildcards []Wildcard `json:"wildcards,omitempty"`
	// Held is what the subject holds today, where that was read.
	Held []Held `json:"held,omitempty"`
	// Replaces are the bindings of today that name the subject: while they
	// stand, the new roles take nothing away.
	Replaces []string `json:"replaces,omitempty"`
	// Beside is what a log cannot show.
	Beside []string `json:"beside,omitempty"`
	Proof  *Proof   `json:"proof"`

	Documents []*manifest.Document `json:"-"`
}

// leastGap is how long nothing must have happened to be told.
const leastGap = 6 * time.Hour

// Generate makes the roles of a subject from what it asked for. old is the model
// of what is granted today; nil where that was not read.
func Generate(a *Activity, old *rbac.Model, opts Options) (*Result, error) {
	s := &synthesis{activity: a.clone(), opts: opts}
	if old != nil {
		s.may = func(r rbac.Request) bool {
			answer := old.Can(a.Subject, a.Groups, r)
			return answer.Allowed || len(answer.Unknown) > 0
		}
	}
	s.run()
	r := &Result{
		Subject: a.Subject, Groups: a.Groups, Window: a.Window, Gaps: a.Window.Gaps(leastGap),
		Common: s.common, Refused: allSeen(a.refused), Elsewhere: allSeen(a.elsewhere), Beside: beside(a),
	}
	for _, u := range a.allowed {
		r.Allowed += u.count
	}
	r.Documents, r.Wildcards = s.documents(about(a.Window))
	var err error
	if r.Proof, err = s.prove(r.Documents, old); err != nil {
		return nil, fmt.Errorf("proving the roles of %s: %w", a.Subject, err)
	}
	if old != nil {
		r.Held = s.held(old)
		r.Replaces = replaces(a.Subject, old)
	}
	return r, nil
}

// clone returns an activity whose uses can be changed.
func (a *Activity) clone() *Activity {
	out := *a
	out.allowed = make(map[what]*use, len(a.allowed))
	for w, u := range a.allowed {
		v := *u
		v.names = map[string]struct{}{}
		for n := range u.names {
			v.names[n] = struct{}{}
		}
		out.allowed[w] = &v
	}
	return &out
}

func allSeen(uses map[what]*use) []Seen {
	var out []Seen
	for _, w := range sortedUses(uses) {
		out = append(out, seen(w, uses[w])...)
	}
	return out
}

// about says when something was recorded.
func about(w recording.Window) string {
	if w.First.IsZero() {
		return "at times that the log does not tell"
	}
	return "from " + w.First.Format(time.DateTime) + " to " + w.Last.Format(time.DateTime) + " UTC"
}

// replaces names the bindings of a subject.
func replaces(s rbac.Subject, old *rbac.Model) []string {
	var out []string
	for _, b := range old.Bindings() {
		if !slices.Contains(b.Subjects, s) {
			continue
		}
		if b.Ref.Name == roleName(s) {
			continue // as it was made before
		}
		line := b.Ref.String()
		if others := len(b.Subjects) - 1; others > 0 {
			line += fmt.Sprintf(" (beside %d more)", others)
		}
		out = append(out, line)
	}
	return out
}

// beside says what the API server held the subject to that leaves no event.
func beside(a *Activity) []string {
	var out []string
	say := func(line string) {
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	for _, w := range sortedUses(a.allowed) {
		writes := slices.Contains([]string{"create", "update", "patch"}, w.verb)
		switch {
		case writes && w.group == "rbac.authorization.k8s.io" && strings.HasSuffix(w.resource, "bindings"):
			say("it wrote bindings: who binds a role must hold what the role grants, or the verb bind on it, and the log tells neither")
		case writes && w.group == "rbac.authorization.k8s.io":
			say("it wrote roles: who writes a role must hold what it grants, or the verb escalate, and the log tells neither")
		case w.group == "certificates.k8s.io" && (w.subresource == "approval" || w.subresource == "status"):
			say("it approved or signed certificate requests: that takes the verb approve or sign on their signer, which the log does not tell")
		}
	}
	if a.constrained {
		say("it impersonated under a constraint: that takes verbs of its own (impersonate:…), which the log does not tell")
	}
	return out
}

// Name is what the roles are called.
func (r *Result) Name() string { return roleName(r.Subject) }
