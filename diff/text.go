// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"io"
	"strings"

	"sconce.dev/sconce/report"
)

// JSON writes the change as one JSON value.
func (c *Change) JSON(w io.Writer) error { return report.JSON(w, c) }

// Text writes the change for a person at a terminal of a width in columns; 0 is
// 100, and at least 72 are used.
func (c *Change) Text(w io.Writer, width int, colour bool) error {
	if width == 0 {
		width = 100
	}
	p := &text{width: max(72, width), colour: colour}
	p.wrapped("", "", c.sidesText())
	for _, n := range c.Notes {
		p.wrapped("", "", "Note: "+n)
	}
	p.problems(c.Problems)
	nothing := []string{}
	for _, s := range c.sections() {
		if s.sum == "" {
			nothing = append(nothing, s.title)
			continue
		}
		p.section(&s)
	}
	p.line("")
	if quiet := c.quiet(); quiet != "" {
		p.wrapped("", "", quiet+".")
		nothing = nothing[:min(len(nothing), 1)]
		if len(nothing) > 0 && nothing[0] != c.findingWords().title {
			nothing = nil
		}
	}
	if len(nothing) > 0 {
		p.wrapped("", "", "No change: "+strings.ToLower(strings.Join(nothing, "; "))+".")
	}
	if c.Connections != nil {
		for _, l := range c.Connections.Limits {
			p.wrapped("", "", "Not known: "+l+".")
		}
	}
	_, err := io.WriteString(w, p.out.String())
	return err
}

// sidesText says what was compared with what.
func (c *Change) sidesText() string {
	return fmt.Sprintf("%s -> %s, by the baseline %s for Kubernetes %s", c.Base.text(), c.Head.text(), c.Baseline, c.KubernetesVersion)
}

func (i *Info) text() string {
	name := i.Name
	if i.Commit != "" && !strings.HasPrefix(i.Commit, i.Name) {
		name += " (" + i.Commit[:min(len(i.Commit), 12)] + ")"
	}
	return name
}

// text is a page for a terminal. Whatever is printed is made visible.
type text struct {
	out    strings.Builder
	width  int
	colour bool
}

func (p *text) line(s string) { p.out.WriteString(s + "\n") }

// in returns a text in a colour.
func (p *text) in(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// wrapped prints prose; its first line begins with a lead, the others with as
// many blanks. It may have a colour.
func (p *text) wrapped(lead, code, s string) {
	for i, l := range report.Wrap(s, max(20, p.width-len(lead))) {
		if i > 0 {
			lead = strings.Repeat(" ", len(lead))
		}
		if code != "" {
			l = p.in(code, l)
		}
		p.line(lead + l)
	}
}

const (
	bold  = "1"
	red   = "31"
	green = "32"
	doubt = "35"
)

func (p *text) problems(list []Problem) {
	if len(list) == 0 {
		return
	}
	p.line("")
	p.line(p.in(bold, "Could not be read"))
	for i := range list {
		if i == maxItems {
			p.line(fmt.Sprintf("  and %d more", len(list)-i))
			break
		}
		p.wrapped("  ? ", doubt, list[i].text())
	}
}

// text says which side a problem is of, and what it is.
func (p *Problem) text() string {
	side := p.Side
	if side == both {
		side = "both sides"
	}
	return side + ": " + report.ProblemText(&p.Problem)
}

func (p *text) section(s *section) {
	p.line("")
	p.wrapped("", bold, s.title+": "+s.sum)
	for _, l := range s.lists {
		p.line("  " + l.title)
		for i := range l.items {
			if i == maxItems {
				p.line(fmt.Sprintf("    and %d more; -o json has them all", len(l.items)-i))
				break
			}
			p.item(&l.items[i])
		}
	}
}

func (p *text) item(it *item) {
	code := map[byte]string{'+': red, '-': green, '?': doubt, '!': bold}[it.mark]
	head := it.head
	if it.place != "" {
		head += "  " + it.place
	}
	p.wrapped("  "+string(it.mark)+" ", code, head)
	for i, n := range it.notes {
		if i == maxNotes {
			p.line(fmt.Sprintf("      and %d more", len(it.notes)-i))
			break
		}
		p.wrapped("      ", "", n)
	}
}
