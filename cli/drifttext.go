// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"time"

	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/verdict"
)

// told is what is said of a change.
type told struct {
	Event   drift.Event     `json:"event"`
	Finding verdict.Finding `json:"finding"`
	// Message is what the finding said before, Was and Is what its field held.
	Message string        `json:"wasMessage,omitempty"`
	Was     string        `json:"was,omitempty"`
	Is      string        `json:"is,omitempty"`
	By      *drift.Author `json:"by,omitempty"`
	Undo    *undo         `json:"undo,omitempty"`
}

// undo is what undoes a change, or why nothing can.
type undo struct {
	Command string    `json:"command,omitempty"`
	Patch   drift.Ops `json:"patch,omitempty"`
	Note    string    `json:"note,omitempty"`
	Refused string    `json:"refused,omitempty"`
}

// print writes a change for a person.
func (t *told) print(out io.Writer) {
	f := &t.Finding
	_, _ = fmt.Fprintf(out, "%s: %s %s: %s: %s\n", t.Event, f.Severity, f.Object, f.Control, f.Message)
	switch {
	case t.Message != "" && t.Message != f.Message:
		_, _ = fmt.Fprintf(out, "  before: %s\n", t.Message)
	case t.Undo == nil:
		return
	}
	if t.Was != "" && t.Was != t.Is {
		_, _ = fmt.Fprintf(out, "  %s was %s, is %s\n", f.Path, t.Was, t.Is)
	} else {
		_, _ = fmt.Fprintf(out, "  %s is %s\n", f.Path, t.Is)
	}
	if t.By != nil {
		_, _ = fmt.Fprintf(out, "  by %s\n", who(t.By))
	}
	switch u := t.Undo; {
	case u == nil:
	case u.Refused != "":
		_, _ = fmt.Fprintf(out, "  to undo by hand: %s\n", u.Refused)
	default:
		_, _ = fmt.Fprintf(out, "  undo: %s\n", u.Command)
		if u.Note != "" {
			_, _ = fmt.Fprintf(out, "  note: %s\n", u.Note)
		}
	}
}

// who names an author in words.
func who(a *drift.Author) string {
	out := a.Manager + " (" + a.Operation
	if a.Subresource != "" {
		out += " of " + a.Subresource
	}
	out += ")"
	if !a.At.IsZero() {
		out += " at " + a.At.UTC().Format(time.RFC3339)
	}
	if a.Guess {
		out += ", who last changed what is nearest; who removed the field is not known"
	}
	return out
}
