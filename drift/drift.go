// SPDX-License-Identifier: Apache-2.0

// Package drift says what was changed against a baseline, or against an earlier
// look at the same objects, who changed it, and what undoes it; and it makes the
// changes by which a fix is applied to a live object (Remediate) and taken back
// again (Rollback).
//
// It is pure: patches are values, and to send them is the business of the
// caller. Each patch is a JSON patch (RFC 6902) that first tests what was seen,
// so that it does nothing to an object that has changed in the meantime.
package drift

import (
	"cmp"
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Event is what became of a finding between two looks.
type Event string

// The events. An object that was not there before has New findings, which is no
// drift; the findings of one that is no more are Gone.
const (
	Appeared Event = "appeared"
	Changed  Event = "changed"
	Unclear  Event = "unclear" // it failed, and cannot be decided any more
	New      Event = "new"
	Decided  Event = "decided" // it fails, which could not be decided before
	Cleared  Event = "cleared"
	Gone     Event = "gone"
)

// Events are all events, in the order in which they are told.
var Events = []Event{Appeared, Changed, Unclear, New, Decided, Cleared, Gone}

// IsDrift says whether an event is a change for the worse to an object that was
// there before.
func (e Event) IsDrift() bool { return e == Appeared || e == Changed || e == Unclear }

// Change is one finding that is not as it was.
type Change struct {
	Event Event
	// Finding is as it is now; what is no more is as it was.
	Finding verdict.Finding
	// Was is the message that the finding had before, where there was one.
	Was string
}

// Look is what was found in a set of objects at one time.
type Look struct {
	objects  map[identity]bool
	findings map[string]verdict.Finding // that fail, by fingerprint
	unknown  map[subject]bool
	order    []string
}

// identity names an object, whatever the version it was read in.
type identity struct{ group, kind, namespace, name string }

// subject is an object and a control.
type subject struct {
	identity
	control string
}

func identify(ref object.Ref) identity {
	return identity{ref.Group(), ref.Kind, ref.Namespace, ref.Name}
}

// NewLook returns a look at nothing.
func NewLook() *Look {
	return &Look{objects: map[identity]bool{}, findings: map[string]verdict.Finding{}, unknown: map[subject]bool{}}
}

// Object says that an object was there.
func (l *Look) Object(ref object.Ref) { l.objects[identify(ref)] = true }

// Finding adds a finding. One that is excused does not fail.
func (l *Look) Finding(f *verdict.Finding) {
	switch {
	case f.Outcome == verdict.Unknown:
		l.unknown[subject{identify(f.Object), f.Control}] = true
	case f.Outcome != verdict.Fail || f.Excepted != nil:
	default:
		if _, ok := l.findings[f.Fingerprint]; !ok {
			l.order = append(l.order, f.Fingerprint)
		}
		l.findings[f.Fingerprint] = *f
	}
}

// Findings returns the findings that fail, in the order in which they came.
func (l *Look) Findings() []verdict.Finding {
	out := make([]verdict.Finding, 0, len(l.order))
	for _, id := range l.order {
		out = append(out, l.findings[id])
	}
	return out
}

// Compare returns what changed between two looks: by event, the worst first.
func Compare(before, after *Look) []Change {
	var out []Change
	for _, id := range after.order {
		now := after.findings[id]
		was, failed := before.findings[id]
		switch {
		case failed && was.Message == now.Message:
		case failed:
			out = append(out, Change{Event: Changed, Finding: now, Was: was.Message})
		case before.unknown[subject{identify(now.Object), now.Control}]:
			out = append(out, Change{Event: Decided, Finding: now})
		case before.objects[identify(now.Object)]:
			out = append(out, Change{Event: Appeared, Finding: now})
		default:
			out = append(out, Change{Event: New, Finding: now})
		}
	}
	for _, id := range before.order {
		was := before.findings[id]
		if _, fails := after.findings[id]; fails {
			continue
		}
		event := Cleared
		switch of := identify(was.Object); {
		case after.unknown[subject{of, was.Control}]:
			event = Unclear
		case !after.objects[of]:
			event = Gone
		}
		out = append(out, Change{Event: event, Finding: was, Was: was.Message})
	}
	slices.SortStableFunc(out, func(a, b Change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Events, a.Event), slices.Index(Events, b.Event)),
			cmp.Compare(verdict.Rank(a.Finding.Severity), verdict.Rank(b.Finding.Severity)))
	})
	return out
}
