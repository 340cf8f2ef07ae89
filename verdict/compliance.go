// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
)

// SectionState says what a scan found out about a section of a standard.
type SectionState string

// The states. Of those that apply, the first holds.
const (
	// SectionFailed: a control that meets the section failed.
	SectionFailed SectionState = "failed"
	// SectionUnknown: a control could not be decided.
	SectionUnknown SectionState = "unknown"
	// SectionConfirm: the controls pass, and the standard asks a person to
	// judge what no program can.
	SectionConfirm SectionState = "confirm"
	// SectionManual: the standard asks a person, and no control judged anything.
	SectionManual SectionState = "manual"
	// SectionSkipped: what was judged passes, but controls that meet the section
	// were left out of the scan.
	SectionSkipped SectionState = "skipped"
	// SectionPassed: controls judged something and all of it passes, or is
	// excepted.
	SectionPassed SectionState = "passed"
	// SectionNothing: there are controls, and nothing that they are about. That
	// is no pass.
	SectionNothing SectionState = "nothing-to-judge"
	// SectionUncovered: no control meets the section.
	SectionUncovered SectionState = "not-covered"
)

// SectionStates are all states, in the order in which they are shown.
var SectionStates = []SectionState{
	SectionFailed, SectionUnknown, SectionConfirm, SectionSkipped, SectionPassed,
	SectionManual, SectionNothing, SectionUncovered,
}

// Judged says whether the bounds of a score are about a section: controls said
// something of it, or were kept from it.
func (s SectionState) Judged() bool {
	return s != SectionManual && s != SectionNothing && s != SectionUncovered
}

// Section is a section of a standard and what was found out about it.
type Section struct {
	ID         string              `json:"id"`
	Title      string              `json:"title"`
	Group      string              `json:"group,omitempty"`
	Assessment v1alpha1.Assessment `json:"assessment"`
	State      SectionState        `json:"state"`
	// Verdicts are those of its controls.
	Verdicts Counts `json:"verdicts"`
	// Controls meet the section and were run; Skipped meet it and were not.
	Controls []string `json:"controls,omitempty"`
	Skipped  []string `json:"skipped,omitempty"`
}

// Compliance is what a scan says of a framework, section by section, in the
// order of the framework.
type Compliance struct {
	Framework string       `json:"framework"`
	Title     string       `json:"title"`
	Score     SectionScore `json:"score"`
	Sections  []Section    `json:"sections"`
}

// SectionScore bounds the share of sections that hold, in whole percent, rounded
// away from each other: what is unknown, must be confirmed or was skipped
// counts as failed in the first and as passed in the second.
type SectionScore struct {
	Low  int `json:"low"`
	High int `json:"high"`
	// Sections is how many sections the bounds are about; nothing is known of
	// the others. If it is 0, the bounds are 0 and 100.
	Sections int `json:"sections"`
}

// NewCompliance says what a scan found out about a framework. Controls are all
// that there are, ran says which of them were run, and counts are the scan's
// Summary.ByControl.
func NewCompliance(f *v1alpha1.Framework, controls []*v1alpha1.Control, ran func(name string) bool, counts map[string]Counts) *Compliance {
	c := &Compliance{Framework: f.Name, Title: f.Spec.Title, Sections: make([]Section, len(f.Spec.Sections))}
	byID := make(map[string]*Section, len(f.Spec.Sections))
	for i, s := range f.Spec.Sections {
		c.Sections[i] = Section{ID: s.ID, Title: s.Title, Group: s.Group, Assessment: v1alpha1.Automated}
		if s.Assessment == v1alpha1.Manual {
			c.Sections[i].Assessment = v1alpha1.Manual
		}
		byID[s.ID] = &c.Sections[i]
	}
	for _, control := range controls {
		for _, id := range control.Spec.References[f.Name] {
			if s := byID[id]; s != nil {
				s.meet(control.Name, ran(control.Name), counts[control.Name])
			}
		}
	}
	for i := range c.Sections {
		c.Sections[i].State = c.Sections[i].state()
	}
	c.Score = c.score()
	return c
}

// Unread says that not everything could be read: what passes may fail there, so
// that no section is known to pass.
func (c *Compliance) Unread() {
	for i := range c.Sections {
		if s := &c.Sections[i]; s.State == SectionPassed || s.State == SectionConfirm {
			s.State = SectionUnknown
		}
	}
	c.Score = c.score()
}

// meet adds a control to a section that it meets.
func (s *Section) meet(control string, ran bool, counts Counts) {
	switch {
	case slices.Contains(s.Controls, control) || slices.Contains(s.Skipped, control):
	case ran:
		s.Controls = append(s.Controls, control)
		s.Verdicts.Add(counts)
	default:
		s.Skipped = append(s.Skipped, control)
	}
}

func (s *Section) state() SectionState {
	v := s.Verdicts
	manual := s.Assessment == v1alpha1.Manual
	switch {
	case v.Fail > 0:
		return SectionFailed
	case v.Unknown > 0:
		return SectionUnknown
	case manual && v.Pass+v.Excepted > 0:
		return SectionConfirm
	case manual:
		return SectionManual
	case len(s.Skipped) > 0:
		return SectionSkipped
	case v.Pass+v.Excepted > 0:
		return SectionPassed
	case len(s.Controls) > 0:
		return SectionNothing
	}
	return SectionUncovered
}

// Count returns how many sections are in a state.
func (c *Compliance) Count(state SectionState) int {
	n := 0
	for i := range c.Sections {
		if c.Sections[i].State == state {
			n++
		}
	}
	return n
}

func (c *Compliance) score() SectionScore {
	judged := 0
	for i := range c.Sections {
		if c.Sections[i].State.Judged() {
			judged++
		}
	}
	if judged == 0 {
		return SectionScore{High: 100}
	}
	passed, failed := c.Count(SectionPassed), c.Count(SectionFailed)
	return SectionScore{
		Low:      100 * passed / judged,
		High:     (100*(judged-failed) + judged - 1) / judged,
		Sections: judged,
	}
}

// Coverage says how many sections of a framework some control meets, of how
// many there are.
type Coverage struct {
	Automated Share `json:"automated"`
	Manual    Share `json:"manual"`
}

// Share is a part of a number of sections.
type Share struct {
	Covered int `json:"covered"`
	Of      int `json:"of"`
}

// Coverage counts the sections that a control meets, by who can answer them.
func (c *Compliance) Coverage() Coverage {
	var out Coverage
	for i := range c.Sections {
		share := &out.Automated
		if c.Sections[i].Assessment == v1alpha1.Manual {
			share = &out.Manual
		}
		share.Of++
		if len(c.Sections[i].Controls)+len(c.Sections[i].Skipped) > 0 {
			share.Covered++
		}
	}
	return out
}
