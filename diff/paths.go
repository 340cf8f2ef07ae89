// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
)

// Paths are the ways of an attacker, from beginnings of a kind to a thing that
// must not be lost, that are not as they were.
type Paths struct {
	// Opened lead from beginnings from which none led before, Closed led from
	// beginnings from which none leads any more.
	Opened []Path `json:"opened"`
	Closed []Path `json:"closed"`
	// Easier and Harder take less or more effort.
	Easier []Path `json:"easier"`
	Harder []Path `json:"harder"`
	// Unclear may lead there on one side: not all of their steps are known.
	Unclear []Path `json:"unclear"`
	// Fixes are those of the fewest changes that close all paths of the head
	// which were not among those of the base.
	Fixes []attackpath.Change `json:"fixes"`
}

// Path is the way of least effort from some beginnings of a kind to a jewel.
type Path struct {
	Entry string `json:"entry"`
	Jewel string `json:"jewel"`
	// From are the beginnings.
	From   []string `json:"from"`
	Effort int      `json:"effort"`
	// Was is the effort on the other side, where a path led there too.
	Was   int    `json:"wasEffort,omitempty"`
	Steps []Step `json:"steps"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
}

// Step is a step of a path.
type Step struct {
	// Edge is the name of the step in the list of attack steps.
	Edge  string `json:"edge"`
	Words string `json:"words"`
	// Objects are what it comes from.
	Objects []attackpath.Cause `json:"objects,omitempty"`
	// Fix is what takes it away, by the control that asks for it.
	Fix     string `json:"fix,omitempty"`
	Control string `json:"control,omitempty"`
}

// ends are a kind of beginning and an end.
type ends struct{ entry, jewel string }

// attacker is one side of the comparison of paths.
type attacker struct {
	graph  *attackpath.Graph
	jewels map[string]int
	pairs  map[ends]*pair
}

// pair are the beginnings of a kind from which paths lead to a jewel, and from
// which they may, by their names.
type pair struct {
	ends
	sure, maybe map[string]int
	effort      int
}

func newAttacker(g *attackpath.Graph) *attacker {
	a := &attacker{graph: g, jewels: map[string]int{}, pairs: map[ends]*pair{}}
	for _, j := range g.Jewels() {
		a.jewels[j.Name] = j.Vertex
	}
	for _, p := range g.Pairs() {
		of := &pair{ends: ends{p.Entry, p.Jewel}, sure: a.named(p.From), maybe: a.named(p.Maybe)}
		if p.Shortest != nil {
			of.effort = p.Shortest.Effort
		}
		a.pairs[of.ends] = of
	}
	return a
}

func (a *attacker) named(vertices []int) map[string]int {
	out := make(map[string]int, len(vertices))
	for _, v := range vertices {
		out[a.graph.Name(v)] = v
	}
	return out
}

// path returns the way of least effort from some beginnings.
func (a *attacker) path(of ends, from map[string]int, why string) Path {
	out := Path{Entry: of.entry, Jewel: of.jewel, From: []string{}, Steps: []Step{}, Why: why}
	var vertices []int
	for _, name := range slices.Sorted(maps.Keys(from)) {
		vertices = append(vertices, from[name])
		out.From = append(out.From, a.graph.Words(from[name]))
	}
	for _, p := range a.graph.Paths(vertices, []int{a.jewels[of.jewel]}, 1) {
		out.Effort = p.Effort
		for i := range p.Steps {
			out.Steps = append(out.Steps, stepOf(&p.Steps[i]))
		}
	}
	return out
}

func stepOf(s *attackpath.Step) Step {
	out := Step{Words: s.Words, Objects: s.Because}
	if s.Edge != nil {
		out.Edge = s.Edge.Name
	}
	if s.Change != nil {
		out.Fix, out.Control = s.Change.Words, s.Change.Control
	}
	return out
}

// comparePaths compares what attackers reach.
func comparePaths(from, to *attackpath.Graph, lost, added *unread) *Paths {
	then, now := newAttacker(from), newAttacker(to)
	out := &Paths{Opened: []Path{}, Closed: []Path{}, Easier: []Path{}, Harder: []Path{}, Unclear: []Path{}, Fixes: []attackpath.Change{}}
	all := maps.Clone(then.pairs)
	maps.Copy(all, now.pairs)
	for _, k := range slices.SortedFunc(maps.Keys(all), func(a, b ends) int { return cmp.Or(cmp.Compare(a.jewel, b.jewel), cmp.Compare(a.entry, b.entry)) }) {
		a, b := then.pairs[k], now.pairs[k]
		if a == nil {
			a = &pair{ends: k}
		}
		if b == nil {
			b = &pair{ends: k}
		}
		out.side(&out.Opened, now, b, a, added, "it is not known whether there was one before")
		out.side(&out.Closed, then, a, b, lost, "it is not known whether there still is one")
		out.effort(now, a, b)
	}
	if len(out.Opened)+len(out.Closed)+len(out.Easier)+len(out.Harder) > 0 {
		out.Fixes = fixes(then, now)
	}
	return out
}

// side notes from which beginnings paths lead on a side, and not on the other.
func (p *Paths) side(to *[]Path, a *attacker, has, had *pair, missing *unread, doubt string) {
	fresh, unsure := map[string]int{}, map[string]int{}
	for name, v := range has.sure {
		switch _, was := had.sure[name]; {
		case was:
		default:
			if _, may := had.maybe[name]; may {
				unsure[name] = v
			} else {
				fresh[name] = v
			}
		}
	}
	if len(fresh) > 0 {
		way := a.path(has.ends, fresh, "")
		if way.Why = missing.because(&way); way.Why != "" {
			to = &p.Unclear
		}
		*to = append(*to, way)
	}
	if len(unsure) > 0 {
		p.Unclear = append(p.Unclear, a.path(has.ends, unsure, doubt))
	}
	may := map[string]int{}
	for name, v := range has.maybe {
		_, sure := had.sure[name]
		if _, maybe := had.maybe[name]; !sure && !maybe {
			may[name] = v
		}
	}
	if len(may) > 0 {
		p.Unclear = append(p.Unclear, a.path(has.ends, may, "it is not known whether all of its steps are there"))
	}
}

// effort notes a pair that is joined from the same beginnings with another
// effort.
func (p *Paths) effort(a *attacker, then, now *pair) {
	if len(now.sure) == 0 || then.effort == now.effort || len(then.sure) != len(now.sure) {
		return
	}
	for name := range now.sure {
		if _, ok := then.sure[name]; !ok {
			return
		}
	}
	way := a.path(now.ends, now.sure, "")
	way.Was = then.effort
	if way.Effort < way.Was {
		p.Easier = append(p.Easier, way)
	} else {
		p.Harder = append(p.Harder, way)
	}
}

// fixes are those of the fewest changes that close all paths that were not
// needed before.
func fixes(then, now *attacker) []attackpath.Change {
	needed := map[string]bool{}
	for _, c := range then.cut().Changes {
		needed[c.Key] = true
	}
	out := []attackpath.Change{}
	for _, c := range now.cut().Changes {
		if !needed[c.Key] {
			out = append(out, *c.Change)
		}
	}
	return out
}

func (a *attacker) cut() attackpath.Cut {
	var from, to []int
	for _, e := range a.graph.Entries() {
		from = append(from, e.Vertices...)
	}
	for _, j := range a.graph.Jewels() {
		to = append(to, j.Vertex)
	}
	slices.Sort(from)
	return a.graph.Cut(slices.Compact(from), to)
}

// because returns the reason for which the steps of a path may be on the other
// side too: an object that they come from may be in what could not be read.
func (u *unread) because(p *Path) string {
	if u.none() {
		return ""
	}
	for _, s := range p.Steps {
		for _, c := range s.Objects {
			if c.Object == (object.Ref{}) || u.side.Seen.Has(c.Object) {
				continue
			}
			if why := u.why(c.Object); why != "" {
				return why
			}
		}
	}
	return ""
}

func (p *Paths) words() section {
	s := section{title: "Attack paths", sum: counted(
		tally{len(p.Opened), "opened", ""}, tally{len(p.Easier), "easier", ""}, tally{len(p.Unclear), "unclear", ""}, tally{len(p.Harder), "harder", ""}, tally{len(p.Closed), "closed", ""})}
	s.add("Opened", pathItems(p.Opened, '+'))
	s.add("Easier", pathItems(p.Easier, '+'))
	s.add("Unclear", pathItems(p.Unclear, '?'))
	s.add("Harder", pathItems(p.Harder, '-'))
	s.add("Closed", pathItems(p.Closed, '-'))
	var items []item
	for _, c := range p.Fixes {
		it := item{mark: '!', head: c.Words, place: report.Place(object.Position{File: c.Position.File, Line: c.Position.Line})}
		if c.Object != (object.Ref{}) {
			it.head = short(c.Object) + ": " + it.head
		}
		items = append(items, it)
	}
	s.add("New among the fewest changes that close all paths", items)
	return s
}

func pathItems(list []Path, mark byte) []item {
	var out []item
	for i := range list {
		p := &list[i]
		it := item{mark: mark, head: "from " + p.Entry + " to " + p.Jewel}
		if len(p.From) > 1 || len(p.Steps) == 0 {
			it.notes = append(it.notes, "from "+some(p.From, maxNames))
		}
		if p.Was > 0 {
			it.notes = append(it.notes, fmt.Sprintf("effort %d, was %d", p.Effort, p.Was))
		}
		for n := range p.Steps {
			it.notes = append(it.notes, fmt.Sprintf("%d. %s", n+1, p.Steps[n].text()))
		}
		if p.Why != "" {
			it.notes = append(it.notes, p.Why)
		}
		out = append(out, it)
	}
	return out
}

func (s *Step) text() string {
	if len(s.Objects) == 0 {
		return s.Words
	}
	o := s.Objects[0]
	place := report.Place(object.Position{File: o.Position.File, Line: o.Position.Line})
	if place == "" {
		return s.Words
	}
	return s.Words + " (" + place + ")"
}
