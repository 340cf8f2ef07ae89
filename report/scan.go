// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// scan is what the messages of one scan said so far. The formats that show
// totals first hold all of it; the table does not keep findings.
type scan struct {
	config   *verdict.Config
	controls []*verdict.Control
	index    map[string]int
	findings []*verdict.Finding
	problems []*verdict.Problem
	notices  []*verdict.Notice
	summary  *verdict.Summary
}

// Write keeps a message.
func (s *scan) Write(m *verdict.Message) error {
	if m.Finding != nil {
		s.findings = append(s.findings, m.Finding)
		s.control(m.Finding.Control)
		return nil
	}
	s.other(m)
	return nil
}

// other keeps a message that is no finding.
func (s *scan) other(m *verdict.Message) {
	switch {
	case m.Config != nil:
		s.config = m.Config
	case m.Control != nil:
		s.controls[s.place(m.Control.Name)] = m.Control
	case m.Problem != nil:
		s.problems = append(s.problems, m.Problem)
	case m.Notice != nil:
		s.notices = append(s.notices, m.Notice)
	case m.Summary != nil:
		s.summary = m.Summary
	}
}

// titles are the titles of the frameworks, by their names.
func (s *scan) titles() map[string]string {
	if s.config == nil {
		return nil
	}
	return s.config.Frameworks
}

// place returns the index of a control, which is made if it is new.
func (s *scan) place(name string) int {
	if s.index == nil {
		s.index = map[string]int{}
	}
	i, ok := s.index[name]
	if !ok {
		i = len(s.controls)
		s.index[name] = i
		s.controls = append(s.controls, &verdict.Control{Name: name, Title: name})
	}
	return i
}

// control returns a control by name; of one that no message described, the
// name alone.
func (s *scan) control(name string) *verdict.Control {
	return s.controls[s.place(name)]
}

// listed returns the findings that a person wants to see, at most limit if it
// is set, and how many more there are.
func (s *scan) listed(opts Options) (findings []*verdict.Finding, more int) {
	for _, f := range s.findings {
		switch {
		case f.Excepted != nil && !opts.ShowExcepted:
		case opts.MaxFindings > 0 && len(findings) >= opts.MaxFindings:
			more++
		default:
			findings = append(findings, f)
		}
	}
	return findings, more
}

// fileGroup is what was found in one file.
type fileGroup struct {
	File    string
	Objects []*objectGroup
}

// objectGroup is what was found in one object at places of one file.
type objectGroup struct {
	Object           object.Ref
	Rendered, Source string
	Findings         []*findingGroup
}

// findingGroup is a finding, and the further objects that were rendered from
// the same place and fail the same control there.
type findingGroup struct {
	*verdict.Finding
	Also []object.Ref
	// Count is how many findings these are.
	Count int
}

// samePlace is what findings have in common that are shown once.
type samePlace struct {
	control, element, file string
	outcome                verdict.Outcome
	excepted               bool
	line, column           int
}

func placeOf(f *verdict.Finding) samePlace {
	p := f.Position
	return samePlace{f.Control, f.Element, p.File, f.Outcome, f.Excepted != nil, p.Line, p.Column}
}

// mayRepeat says that other objects may have been rendered from this place.
func mayRepeat(f *verdict.Finding) bool {
	return f.Rendered != "" && f.Position.Line > 0
}

// unit is the file, chart or overlay that a finding's object was read from.
func unit(f *verdict.Finding) string {
	if f.Rendered != "" && f.Source != "" {
		return f.Source
	}
	return fileOf(f)
}

// fileOf is the file that a finding is listed under, if it has one.
func fileOf(f *verdict.Finding) string { return cmp.Or(f.Position.File, f.Source) }

// nowhere is what findings without a file are listed under: those of a cluster,
// and what is about nothing that was read.
func (s *scan) nowhere() string {
	if s.config == nil || s.config.Cluster == "" {
		return "(no file)"
	}
	return "cluster " + s.config.Cluster
}

// grouper groups findings by file and object, both in the order in which they
// came.
type grouper struct {
	nowhere string
	files   []*fileGroup
	byFile  map[string]*fileGroup
	objects map[objectKey]*objectGroup
	places  map[samePlace]*findingGroup
}

type objectKey struct {
	file, source string
	ref          object.Ref
}

func group(findings []*verdict.Finding, nowhere string) []*fileGroup {
	g := grouper{
		nowhere: nowhere,
		byFile:  map[string]*fileGroup{},
		objects: map[objectKey]*objectGroup{},
		places:  map[samePlace]*findingGroup{},
	}
	for _, f := range findings {
		g.add(f)
	}
	return g.files
}

func (g *grouper) add(f *verdict.Finding) {
	if mayRepeat(f) {
		first := g.places[placeOf(f)]
		if first != nil && first.Object != f.Object {
			first.Count++
			if n := len(first.Also); n == 0 || first.Also[n-1] != f.Object {
				first.Also = append(first.Also, f.Object)
			}
			return
		}
	}
	fg := &findingGroup{Finding: f, Count: 1}
	g.places[placeOf(f)] = fg
	o := g.object(f)
	o.Findings = append(o.Findings, fg)
}

func (g *grouper) object(f *verdict.Finding) *objectGroup {
	name := cmp.Or(fileOf(f), g.nowhere)
	key := objectKey{name, f.Source, f.Object}
	o := g.objects[key]
	if o == nil {
		o = &objectGroup{Object: f.Object, Rendered: f.Rendered, Source: f.Source}
		g.objects[key] = o
		file := g.file(name)
		file.Objects = append(file.Objects, o)
	}
	return o
}

func (g *grouper) file(name string) *fileGroup {
	f := g.byFile[name]
	if f == nil {
		f = &fileGroup{File: name}
		g.byFile[name] = f
		g.files = append(g.files, f)
	}
	return f
}
