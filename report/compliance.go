// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/verdict"
)

// What the formats for people say of a framework. Sections that were judged are
// shown one by one; of the others there may be very many, and their IDs are
// listed.

// stateText is the word that a section is listed under.
func stateText(s verdict.SectionState) string {
	return strings.ReplaceAll(visible(string(s)), "-", " ")
}

// complianceTitle names a framework.
func complianceTitle(c *verdict.Compliance) string {
	title := prose(c.Title)
	if name := visible(c.Framework); name != title {
		title += " (" + name + ")"
	}
	return title
}

// complianceText gives the bounds of a framework's score and says what they are
// about, in sentences.
func complianceText(c *verdict.Compliance, s *verdict.Summary) []string {
	n := c.Score.Sections
	if n == 0 {
		return []string{"none of " + plural(len(c.Sections), "section", "sections") + " was judged"}
	}
	of := plural(n, "section", "sections")
	text := fmt.Sprintf("%d%% of %s pass", c.Score.Low, of)
	if c.Count(verdict.SectionPassed)+c.Count(verdict.SectionFailed) < n {
		text = fmt.Sprintf("between %d%% and %d%% of %s pass", c.Score.Low, c.Score.High, of)
	}
	if s != nil && s.Problems > 0 {
		text = "score unknown, since not everything could be read; of what could, " + text
	}
	if rest := len(c.Sections) - n; rest > 0 {
		text += fmt.Sprintf("; nothing was found out about the other %d", rest)
	}
	out := []string{text}
	if n := c.Count(verdict.SectionConfirm); n > 0 {
		out = append(out, fmt.Sprintf("%d to confirm: the controls pass, and the rest of what is asked takes a person", n))
	}
	if n := c.Count(verdict.SectionSkipped); n > 0 {
		out = append(out, fmt.Sprintf("%d skipped: controls were left out of this scan", n))
	}
	return out
}

// maxBy is how many controls are named beside a section.
const maxBy = 4

// sectionNote says which controls decided a section; empty where the state says
// it all.
func sectionNote(s *verdict.Section, counts map[string]verdict.Counts) string {
	switch s.State {
	case verdict.SectionFailed:
		return "by " + byText(s.Controls, counts, func(c verdict.Counts) int { return c.Fail })
	case verdict.SectionUnknown:
		return "by " + byText(s.Controls, counts, func(c verdict.Counts) int { return c.Unknown })
	case verdict.SectionSkipped:
		return "left out: " + listText(s.Skipped)
	}
	if n := s.Verdicts.Excepted; n > 0 {
		return plural(n, "verdict", "verdicts") + " excepted"
	}
	return ""
}

// byText names the controls of which there is some count.
func byText(controls []string, counts map[string]verdict.Counts, count func(verdict.Counts) int) string {
	by := deciding(controls, counts, count)
	for i, name := range by {
		by[i] = name + " (" + strconv.Itoa(count(counts[name])) + ")"
	}
	return listText(by)
}

// deciding returns the controls of which there is some count, the highest first.
func deciding(controls []string, counts map[string]verdict.Counts, count func(verdict.Counts) int) []string {
	var by []string
	for _, name := range controls {
		if count(counts[name]) > 0 {
			by = append(by, name)
		}
	}
	slices.SortStableFunc(by, func(a, b string) int { return cmp.Compare(count(counts[b]), count(counts[a])) })
	return by
}

// listText names the first of a list, and how many more there are.
func listText(names []string) string {
	text := visible(strings.Join(names[:min(len(names), maxBy)], ", "))
	if more := len(names) - maxBy; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// sectionIDs lists the IDs of the sections in a state. Three or more that are
// numbered one after the other are written as a range.
func sectionIDs(c *verdict.Compliance, state verdict.SectionState) string {
	var ids []string
	for i := range c.Sections {
		if c.Sections[i].State == state {
			ids = append(ids, c.Sections[i].ID)
		}
	}
	var out []string
	for i := 0; i < len(ids); i++ {
		last := i
		for last+1 < len(ids) && ids[last+1] == numberedAfter(ids[last]) {
			last++
		}
		out = append(out, visible(ids[i]))
		if last >= i+2 {
			out[len(out)-1] += " to " + visible(ids[last])
			i = last
		}
	}
	return strings.Join(out, ", ")
}

// numberedAfter returns the ID that follows one which ends in a number.
func numberedAfter(id string) string {
	stem := strings.TrimRight(id, "0123456789")
	n, err := strconv.Atoi(id[len(stem):])
	if err != nil {
		return ""
	}
	return stem + strconv.Itoa(n+1)
}
