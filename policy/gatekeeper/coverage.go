// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/cover"

	"sconce.dev/sconce/object"
)

// Line is a line of the Rego of a template that can be run.
type Line struct {
	// Rule is the rule, in Rego, that it stands in.
	Rule     string
	Position object.Position
	Text     string
	Hit      bool
}

// Lines returns the lines of the template's Rego, and whether an observer saw
// them run. A template of CEL has none.
func (t *Template) Lines(seen *cover.Cover) []Line {
	e, ok := t.engine.(*regoEngine)
	if !ok {
		return nil
	}
	report := seen.Report(e.modules)
	var out []Line
	for _, name := range e.files() {
		file := report.Files[name]
		if file == nil {
			continue
		}
		hits := map[int]bool{}
		for _, r := range file.NotCovered {
			for row := r.Start.Row; row <= r.End.Row; row++ {
				hits[row] = false
			}
		}
		for _, r := range file.Covered {
			for row := r.Start.Row; row <= r.End.Row; row++ {
				hits[row] = true
			}
		}
		out = append(out, e.lines(t.Object, name, hits)...)
	}
	return out
}

// lines returns the lines of one file.
func (e *regoEngine) lines(o *object.Object, name string, hits map[int]bool) []Line {
	text := strings.Split(o.Root.Lookup(e.texts[name]).Str(), "\n")
	var out []Line
	for row, hit := range hits {
		line := Line{Position: linePosition(o, e.texts[name], row), Hit: hit}
		if row >= 1 && row <= len(text) {
			line.Text, _ = object.Window(strings.TrimSpace(text[row-1]), 1)
		}
		last := 0
		for _, r := range e.modules[name].Rules {
			if r.Location != nil && r.Location.Row <= row && r.Location.Row >= last {
				last, line.Rule = r.Location.Row, r.Head.Ref().GroundPrefix().String()
			}
		}
		out = append(out, line)
	}
	slices.SortFunc(out, func(a, b Line) int { return a.Position.Line - b.Position.Line })
	return out
}
