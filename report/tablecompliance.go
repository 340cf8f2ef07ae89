// SPDX-License-Identifier: Apache-2.0

package report

import (
	"sconce.dev/sconce/verdict"
)

// compliances prints what was found out about each framework.
func (t *table) compliances(s *verdict.Summary) {
	for _, c := range s.Compliance {
		t.line("")
		t.compliance(c, s)
	}
}

func (t *table) compliance(c *verdict.Compliance, s *verdict.Summary) {
	for _, l := range wrap(complianceTitle(c), t.width) {
		t.line("%s", t.paint.bold(l))
	}
	t.line("")
	rows := sectionRows{table: t, at: t.sectionColumn(c), counts: s.ByControl}
	for i := range c.Sections {
		if c.Sections[i].State.Judged() {
			rows.row(&c.Sections[i])
		}
	}
	if rows.any {
		t.line("")
	}
	t.unjudged(c)
	for _, text := range complianceText(c, s) {
		t.prose(text)
	}
}

// The columns of sections: the state, then the ID, then the title.
const (
	stateColumn = 2
	idColumn    = stateColumn + 10
	minTitle    = 36
)

// sectionColumn returns where the titles of sections begin: beside their IDs, or
// below them where that leaves too little room.
func (t *table) sectionColumn(c *verdict.Compliance) int {
	widest := 0
	for i := range c.Sections {
		if c.Sections[i].State.Judged() {
			widest = max(widest, width(visible(c.Sections[i].ID)))
		}
	}
	if at := idColumn + widest + 2; at+minTitle <= t.width {
		return at
	}
	return idColumn
}

// sectionRows prints sections below the headings of their groups.
type sectionRows struct {
	*table
	at     int // where titles begin
	counts map[string]verdict.Counts
	group  string
	any    bool
}

func (r *sectionRows) row(s *verdict.Section) {
	if !r.any || r.group != s.Group {
		if r.any {
			r.line("")
		}
		r.group, r.any = s.Group, true
		if group := prose(s.Group); group != "" {
			for _, l := range wrap(group, r.width-stateColumn) {
				r.line("%s%s", pad(stateColumn), r.paint.dim(l))
			}
		}
	}
	id, state := visible(s.ID), stateText(s.State)
	head := pad(stateColumn) + r.paint.state(s.State)(state) + pad(max(1, idColumn-stateColumn-width(state))) + id
	titles := wrap(s.Title, r.width-r.at)
	if r.at > idColumn {
		head += pad(r.at-idColumn-width(id)) + titles[0]
		titles = titles[1:]
	}
	r.line("%s", head)
	for _, l := range titles {
		r.line("%s%s", pad(r.at), l)
	}
	if note := sectionNote(s, r.counts); note != "" {
		for _, l := range wrap(note, r.width-r.at) {
			r.line("%s%s", pad(r.at), r.paint.dim(l))
		}
	}
}

// unjudgedWidth is the column of the words beside the IDs of sections that were
// not judged.
const unjudgedWidth = 18

// unjudged lists the sections about which nothing was found out.
func (t *table) unjudged(c *verdict.Compliance) {
	any := false
	for _, state := range verdict.SectionStates {
		n := c.Count(state)
		if state.Judged() || n == 0 {
			continue
		}
		any = true
		head := pad(stateColumn) + stateText(state) + pad(unjudgedWidth-width(stateText(state))) + right(number(n), 4) + "  "
		for _, l := range wrap(sectionIDs(c, state), t.width-width(head)) {
			t.line("%s%s", t.paint.dim(head), l)
			head = pad(width(head))
		}
	}
	if any {
		t.line("")
	}
}

// state returns how the word for a section's state is coloured.
func (p painter) state(s verdict.SectionState) func(string) string {
	code := "2"
	switch s {
	case verdict.SectionFailed:
		code = "31"
	case verdict.SectionUnknown:
		code = "1;35"
	case verdict.SectionConfirm, verdict.SectionSkipped:
		code = "33"
	case verdict.SectionPassed:
		code = "32"
	}
	return func(s string) string { return p.with(code, s) }
}
