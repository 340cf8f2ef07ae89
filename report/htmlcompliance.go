// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"strings"

	"sconce.dev/sconce/verdict"
)

// pageCompliance is what the page shows of a framework.
type pageCompliance struct {
	Title          string
	Text           []string
	Bar            []barPart
	Legend         []legendEntry
	Judged, Others []sectionGroup
	OthersText     string
}

type legendEntry struct{ Class, Text string }

// sectionGroup is the sections under one heading.
type sectionGroup struct {
	Name     string
	Sections []pageSection
}

type pageSection struct {
	Class, State, ID, Title string
	Note                    string
	Controls                []sectionControl
	More                    int
}

// sectionControl is a control beside a section; Count is how often it failed
// there.
type sectionControl struct {
	Name   string
	Count  int
	Judged bool // the page describes it
}

func pageComplianceOf(c *verdict.Compliance, s *verdict.Summary) pageCompliance {
	p := pageCompliance{Title: complianceTitle(c), Text: complianceText(c, s)}
	passed, failed := c.Count(verdict.SectionPassed), c.Count(verdict.SectionFailed)
	p.Bar = bar([]barShare{{"pass", passed}, {"open", c.Score.Sections - passed - failed}, {"fail", failed}})
	for _, state := range verdict.SectionStates {
		if n := c.Count(state); n > 0 && state.Judged() {
			class := map[verdict.SectionState]string{verdict.SectionPassed: "pass", verdict.SectionFailed: "fail"}[state]
			p.Legend = append(p.Legend, legendEntry{cmp.Or(class, "open"), number(n) + " " + stateText(state)})
		}
	}
	for i := range c.Sections {
		section := pageSectionOf(&c.Sections[i], s.ByControl)
		into := &p.Others
		if c.Sections[i].State.Judged() {
			into = &p.Judged
		}
		group := prose(c.Sections[i].Group)
		if n := len(*into); n == 0 || (*into)[n-1].Name != group {
			*into = append(*into, sectionGroup{Name: group})
		}
		last := &(*into)[len(*into)-1]
		last.Sections = append(last.Sections, section)
	}
	p.OthersText = plural(len(c.Sections)-c.Score.Sections, "section", "sections") + " about which nothing was found out"
	return p
}

func pageSectionOf(s *verdict.Section, counts map[string]verdict.Counts) pageSection {
	out := pageSection{Class: strings.ReplaceAll(stateText(s.State), " ", "-"), State: stateText(s.State), ID: visible(s.ID), Title: prose(s.Title)}
	count := func(verdict.Counts) int { return 0 }
	controls := s.Controls
	switch s.State {
	case verdict.SectionFailed:
		count = func(c verdict.Counts) int { return c.Fail }
	case verdict.SectionUnknown:
		count = func(c verdict.Counts) int { return c.Unknown }
	case verdict.SectionSkipped:
		controls, out.Note = s.Skipped, "left out: "
	}
	if s.State == verdict.SectionFailed || s.State == verdict.SectionUnknown {
		controls = deciding(controls, counts, count)
	} else if n := s.Verdicts.Excepted; n > 0 {
		out.Note = plural(n, "verdict", "verdicts") + " excepted: "
	}
	for _, judged := range []bool{true, false} {
		for _, name := range controls {
			if _, ok := counts[name]; ok == judged {
				out.Controls = append(out.Controls, sectionControl{visible(name), count(counts[name]), judged})
			}
		}
	}
	out.More = max(0, len(out.Controls)-maxBy)
	out.Controls = out.Controls[:len(out.Controls)-out.More]
	return out
}
