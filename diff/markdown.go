// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"io"
	"strings"

	"sconce.dev/sconce/report"
)

// Room that is kept for what comes after the lists, in bytes, and the most that
// one text may take.
const (
	problemRoom = 10_000
	tailRoom    = 4_000
	maxText     = 2_500
	maxNotices  = 5
)

// Markdown writes the change as a comment for a pull request: what it comes to
// first, then each question folded. It never grows longer than code hosts
// accept; what does not fit is counted. Nothing of a manifest acts in it.
func (c *Change) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### Sconce: %s\n\n", report.Markdown(c.headline()))
	fmt.Fprintf(&b, "%s.\n\n", markdown(c.sidesText()))
	if quiet := c.quiet(); quiet != "" {
		fmt.Fprintf(&b, "**%s.**\n\n", quiet)
	}
	for _, n := range c.Notes[:min(len(c.Notes), maxNotices)] {
		fmt.Fprintf(&b, "> %s\n\n", markdown(n))
	}
	problems := c.problemsMarkdown()
	for i, s := range c.sections() {
		if s.sum != "" {
			b.WriteString(s.markdown(report.MaxMarkdown-b.Len()-len(problems)-tailRoom, i == 0 && len(c.Findings.New) > 0))
		}
	}
	b.WriteString(problems)
	if c.Connections != nil && len(c.Connections.Limits) > 0 && b.Len() < report.MaxMarkdown-tailRoom {
		fmt.Fprintf(&b, "Not known: %s.\n", markdown(some(c.Connections.Limits, maxNames)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// headline is the whole change in one line.
func (c *Change) headline() string {
	var parts []string
	for _, s := range c.sections() {
		if s.sum != "" {
			parts = append(parts, strings.ToLower(s.title[:1])+s.title[1:]+": "+s.sum)
		}
	}
	if len(c.Problems) > 0 {
		parts = append(parts, plural(len(c.Problems), "problem", "problems"))
	}
	if len(parts) == 0 {
		return "no new findings, and nothing changes in what is allowed"
	}
	return strings.Join(parts, "; ")
}

// markdown returns a text that does nothing, and code one in a fixed font. One
// long text does not take the room of all others.
func markdown(s string) string { return bounded(s, report.Markdown) }
func code(s string) string     { return bounded(s, report.Code) }

func bounded(s string, escape func(string) string) string {
	out := escape(s)
	for r := []rune(s); len(out) > maxText; out = escape(string(r) + "…") {
		r = r[:len(r)*maxText/len(out)*9/10]
	}
	return out
}

func (c *Change) problemsMarkdown() string {
	if len(c.Problems) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("**Could not be read**, so that what differs there is not known\n\n")
	for i := range c.Problems {
		line := "- " + markdown(c.Problems[i].text()) + "\n"
		if b.Len()+len(line) > problemRoom {
			fmt.Fprintf(&b, "- and %d more\n", len(c.Problems)-i)
			break
		}
		b.WriteString(line)
	}
	return b.String() + "\n"
}

// markdown writes a section in at most max bytes.
func (s *section) markdown(max int, open bool) string {
	var b strings.Builder
	opens := ""
	if open {
		opens = " open"
	}
	fmt.Fprintf(&b, "<details%s><summary><b>%s</b>: %s</summary>\n\n", opens, report.Markdown(s.title), report.Markdown(s.sum))
	left := 0
	for _, l := range s.lists {
		title := fmt.Sprintf("**%s**\n\n", report.Markdown(l.title))
		told := 0
		for i := range l.items {
			text := l.items[i].markdown()
			if told == maxItems || b.Len()+len(title)+len(text)+tailRoom > max {
				break
			}
			if told == 0 {
				b.WriteString(title)
			}
			b.WriteString(text)
			told++
		}
		if told > 0 {
			b.WriteByte('\n')
		}
		left += len(l.items) - told
	}
	if left > 0 {
		fmt.Fprintf(&b, "And %d more, not listed here.\n\n", left)
	}
	b.WriteString("</details>\n\n")
	return b.String()
}

// signs are the marks, as they stand in a comment.
var signs = map[byte]string{'+': "➕", '-': "➖", '?': "❔", '!': "🔧"}

func (it *item) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "- %s %s", signs[it.mark], code(it.head))
	if it.place != "" {
		b.WriteString(" " + code(it.place))
	}
	for i, n := range it.notes {
		if i == maxNotes {
			fmt.Fprintf(&b, "<br>and %d more", len(it.notes)-i)
			break
		}
		b.WriteString("<br>" + markdown(n))
	}
	return b.String() + "\n"
}
