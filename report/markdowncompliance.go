// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"

	"sconce.dev/sconce/verdict"
)

// compliance prints what was found out about a framework: a table of what is
// wrong, and the IDs of the rest, in about max bytes.
func (m *markdown) compliance(b *strings.Builder, c *verdict.Compliance, max int) {
	end := b.Len() + max
	text := strings.Join(complianceText(c, m.summary), "; ")
	fmt.Fprintf(b, "**%s**: %s.\n\n", escapeMarkdown(complianceTitle(c)), escapeMarkdown(text))
	listed, more := 0, 0
	for i := range c.Sections {
		s := &c.Sections[i]
		if s.State != verdict.SectionFailed && s.State != verdict.SectionUnknown {
			continue
		}
		title := prose(s.ID) + " " + prose(s.Title)
		row := fmt.Sprintf("| **%s** | %s | %s |\n", stateText(s.State), escapeMarkdown(shortened(title)), escapeMarkdown(shortened(sectionNote(s, m.summary.ByControl))))
		if b.Len()+len(row) > end-max/3 { // room for the IDs
			more++
			continue
		}
		if listed++; listed == 1 {
			b.WriteString("| | section | |\n|:--|:--|:--|\n")
		}
		b.WriteString(row)
	}
	if listed > 0 {
		b.WriteByte('\n')
	}
	if more > 0 {
		fmt.Fprintf(b, "And %s that failed or %s unknown, not listed here.\n\n", plural(more, "more section", "more sections"), isAre(more))
	}
	m.sectionLists(b, c, end)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// sectionLists prints the IDs of the sections that are not in the table.
func (m *markdown) sectionLists(b *strings.Builder, c *verdict.Compliance, end int) {
	for _, state := range verdict.SectionStates {
		n := c.Count(state)
		if n == 0 || state == verdict.SectionFailed || state == verdict.SectionUnknown {
			continue
		}
		line := fmt.Sprintf("- %d %s", n, stateText(state))
		if ids := escapeMarkdown(sectionIDs(c, state)); b.Len()+len(line)+len(ids) < end {
			line += ": " + ids
		}
		b.WriteString(line + "\n")
	}
	b.WriteByte('\n')
}
