// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

// The sentences that text and Markdown share: a change is sections, which hold
// lists of items.

// section is what is said of one question.
type section struct {
	title string
	// sum is the section in a few words; empty where nothing changes.
	sum   string
	lists []list
}

// list is items of one kind.
type list struct {
	title string
	items []item
}

// item is one thing that changes.
type item struct {
	mark  byte // +, -, ? or, of what is to be done, !
	head  string
	place string
	notes []string
}

// How much is told of one thing: the rest is counted, and stands in JSON.
const (
	maxItems = 40
	maxNotes = 8
	maxNames = 4
	maxVerbs = 12
)

// sections says all that changes.
func (c *Change) sections() []section {
	out := []section{c.findingWords()}
	if c.Permissions != nil {
		out = append(out, c.Permissions.words())
	}
	if c.Connections != nil {
		out = append(out, c.Connections.words())
	}
	if c.Paths != nil {
		out = append(out, c.Paths.words())
	}
	return out
}

// Quiet says that nothing changes in what is allowed: nobody may do more or
// less, nothing reaches more or less, no path opens or closes.
func (c *Change) Quiet() bool {
	for _, s := range c.sections()[1:] {
		if s.sum != "" {
			return false
		}
	}
	return true
}

// quiet is what is said where nothing changes in what is allowed.
func (c *Change) quiet() string {
	switch {
	case !c.Quiet() || c.Permissions == nil && c.Connections == nil && c.Paths == nil:
		return ""
	case len(c.Problems) > 0:
		return "Of what could be read, nothing changes in what is allowed"
	}
	return "Nothing changes in what is allowed"
}

// tally is a count, and what is counted: one of them, and several.
type tally struct {
	n         int
	one, many string
}

// counted joins counts that are not zero: 3 new, 1 gone.
func counted(counts ...tally) string {
	var out []string
	for _, c := range counts {
		if c.n > 0 {
			out = append(out, plural(c.n, c.one, cmp.Or(c.many, c.one)))
		}
	}
	return strings.Join(out, ", ")
}

// Findings.

func (c *Change) findingWords() section {
	f := &c.Findings
	s := section{title: "Findings", sum: counted(
		tally{len(f.New), "new" + bySeverity(f.New), ""}, tally{len(f.Unknown), "that cannot be decided", ""}, tally{len(f.Unclear), "unclear", ""},
		tally{len(f.Excepted), "excepted", ""}, tally{len(f.Gone), "gone", ""})}
	s.add("New", findingItems(f.New, '+'))
	s.add("Cannot be decided, and could be or were not there before", findingItems(f.Unknown, '?'))
	s.add("Unclear: something could not be read", findingItems(f.Unclear, '?'))
	s.add("Excused by an exception, and not before", findingItems(f.Excepted, '?'))
	s.add("Gone", goneItems(f.Gone))
	return s
}

func (s *section) add(title string, items []item) {
	if len(items) > 0 {
		s.lists = append(s.lists, list{title, items})
	}
}

// bySeverity counts findings: " (1 critical, 2 high)".
func bySeverity(findings []Finding) string {
	var counts []tally
	for _, severity := range verdict.Severities {
		n := 0
		for i := range findings {
			if findings[i].Severity == severity {
				n++
			}
		}
		counts = append(counts, tally{n, string(severity), ""})
	}
	if words := counted(counts...); words != "" {
		return " (" + words + ")"
	}
	return ""
}

// of is what findings are listed below: an object in a file.
type of struct {
	ref  object.Ref
	file string
}

// byObject groups findings, in the order of the first of each object.
func byObject(findings []Finding) (order []of, groups map[of][]*Finding) {
	groups = map[of][]*Finding{}
	for i := range findings {
		f := &findings[i]
		k := of{f.Object, f.Position.File}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], f)
	}
	return order, groups
}

func findingItems(findings []Finding, mark byte) []item {
	order, groups := byObject(findings)
	var out []item
	for _, k := range order {
		group := groups[k]
		it := item{mark: mark, head: k.ref.String(), place: placeOf(group[0])}
		switch {
		case mark == '+' && !slices.ContainsFunc(group, func(f *Finding) bool { return f.Was != NoObject }):
			it.head += " (new)"
		case group[0].Rendered != "" && group[0].Source != "":
			it.head += " (" + group[0].Rendered + ": " + group[0].Source + ")"
		}
		why := ""
		for _, f := range group {
			it.notes = append(it.notes, findingText(f))
			why = cmp.Or(why, f.Why)
		}
		if why != "" {
			// It is the same for all of an object.
			it.notes = append([]string{why}, it.notes...)
		}
		it.notes = once(it.notes)
		out = append(out, it)
	}
	return out
}

// once says what is there several times once, and how often.
func once(notes []string) []string {
	times := map[string]int{}
	var out []string
	for _, n := range notes {
		if times[n]++; times[n] == 1 {
			out = append(out, n)
		}
	}
	for i, n := range out {
		if times[n] > 1 {
			out[i] += fmt.Sprintf(" (%d times)", times[n])
		}
	}
	return out
}

// placeOf is the place of a finding without its column.
func placeOf(f *Finding) string {
	return report.Place(object.Position{File: f.Position.File, Line: f.Position.Line})
}

func findingText(f *Finding) string {
	text := string(f.Severity) + " " + f.Control + ": " + f.Message
	switch {
	case f.Is == Unread:
		text += " (was found before)"
	case f.Was == Unread:
		text += " (is found now)"
	case f.Is == Failed && f.Was == Unknown:
		text += " (could not be decided before)"
	case f.Was == Excepted:
		text += " (was excepted)"
	case f.Is == Unknown && f.Was == Failed:
		text += " (failed before)"
	case f.Is == Excepted && f.Excepted != nil:
		text += " (" + cmp.Or(f.Excepted.Exception, "exception") + ": " + f.Excepted.Reason + ")"
	}
	return text
}

// goneItems says of each object in one line what is gone.
func goneItems(findings []Finding) []item {
	order, groups := byObject(findings)
	var out []item
	for _, k := range order {
		group := groups[k]
		it := item{mark: '-', head: k.ref.String(), place: placeOf(group[0])}
		if group[0].Is == NoObject {
			it.head += " is gone, with " + plural(len(group), "finding", "findings")
		} else {
			var controls []string
			for _, f := range group {
				controls = append(controls, f.Control)
			}
			it.notes = []string{"no more " + some(slices.Compact(slices.Sorted(slices.Values(controls))), maxNotes)}
		}
		out = append(out, it)
	}
	return out
}

// Permissions.

// all is what a rule names that leaves nothing out.
var all = []string{"*"}

func (p *Permissions) words() section {
	s := section{title: "Who may do what", sum: counted(
		tally{subjects(p.Gained), "may do more", ""}, tally{subjects(p.Lost), "may do less", ""}, tally{subjects(p.Unclear), "unclear", ""})}
	s.add("May do more", permissionItems(p.Gained, '+'))
	s.add("May do less", permissionItems(p.Lost, '-'))
	s.add("Unclear", permissionItems(p.Unclear, '?'))
	return s
}

// subjects counts whose permissions these are.
func subjects(list []Permission) int {
	n := 0
	for i := range list {
		if i == 0 || list[i].Subject != list[i-1].Subject {
			n++
		}
	}
	return n
}

func permissionItems(list []Permission, mark byte) []item {
	var out []item
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && list[j].Subject == list[i].Subject {
			j++
		}
		at := list[i].By[0].Position
		it := item{mark: mark, head: list[i].Subject.String(), place: report.Place(object.Position{File: at.File, Line: at.Line})}
		for _, same := range alike(list[i:j]) {
			it.notes = append(it.notes, permissionText(same))
		}
		out = append(out, it)
		i = j
	}
	return out
}

// alike groups permissions that differ in their namespace alone.
func alike(list []Permission) [][]*Permission {
	index := map[string]int{}
	var out [][]*Permission
	for i := range list {
		p := &list[i]
		key := strings.Join([]string{p.may(), p.Why, p.By[0].Role.Name, p.By[0].Change, strconv.FormatBool(p.ClusterWide)}, "\x00")
		n, ok := index[key]
		if !ok {
			n = len(out)
			index[key] = n
			out = append(out, nil)
		}
		out[n] = append(out[n], p)
	}
	return out
}

// may says what is permitted.
func (p *Permission) may() string {
	switch {
	case p.All != nil:
		return "all that " + short(*p.All) + " grants, which is not known"
	case len(p.Paths) > 0 && slices.Equal(p.Verbs, all) && slices.Equal(p.Paths, all):
		return "send any request to any path that is no resource"
	case len(p.Paths) > 0:
		return "send " + some(p.Verbs, maxNotes) + " to " + some(p.Paths, maxNotes)
	}
	verbs := some(p.Verbs, maxVerbs)
	if slices.Equal(p.Verbs, all) {
		verbs = "do everything with"
	}
	switch resources := slices.Equal(p.Resources, all); {
	case len(p.Names) > 0:
		return verbs + " " + some(p.Resources, maxNotes) + " named " + some(p.Names, maxNames)
	case slices.Equal(p.Verbs, all) && resources:
		return "do everything"
	case resources:
		return verbs + " all resources"
	}
	return verbs + " " + some(p.Resources, maxNotes)
}

// permissionText says in a sentence what permissions that differ in their
// namespace alone permit, and why they are there.
func permissionText(same []*Permission) string {
	var spaces []string
	bindings := 0
	for _, p := range same {
		spaces = append(spaces, cmp.Or(p.Namespace, "of the binding"))
		bindings += len(p.By)
	}
	p := same[0]
	text := p.may()
	switch {
	case p.ClusterWide:
		text += ", in the whole cluster"
	case len(spaces) == 1 && p.Namespace == "":
		text += ", in the namespace of the binding"
	case len(spaces) == 1:
		text += ", in namespace " + p.Namespace
	default:
		text += ", in namespaces " + some(spaces, maxNotes)
	}
	by := p.By[0]
	text += "; by " + short(by.Binding) + ", " + short(by.Role)
	if bindings > 1 {
		text += ", and " + plural(bindings-1, "more binding", "more bindings")
	}
	switch {
	case p.Why != "":
		text += ": " + p.Why
	case by.Change != "":
		text += ": " + by.Change
	}
	return text
}

// short names an object of a kind that is well known: Role shop/reader.
func short(r object.Ref) string {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	return r.Kind + " " + name
}

// Connections.

func (c *Connections) words() section {
	exposed, maybe := clear(c.Exposed, func(e *Exposure) string { return e.Why })
	covered, maybeNot := clear(c.Covered, func(e *Exposure) string { return e.Why })
	added, unsure := clear(c.Added, func(w *Workload) string { return w.Why })
	removed, unsureNow := clear(c.Removed, func(w *Workload) string { return w.Why })
	s := section{title: "What can talk to what", sum: counted(
		tally{len(exposed), "more way in from outside", "more ways in from outside"}, tally{len(covered), "fewer way in from outside", "fewer ways in from outside"},
		tally{pairs(c.Opened), "pair can talk now", "pairs can talk now"}, tally{pairs(c.Closed), "pair cannot any more", "pairs cannot any more"},
		tally{len(added), "new workload", "new workloads"}, tally{len(removed), "workload gone", "workloads gone"},
		tally{pairs(c.Unclear) + len(maybe) + len(maybeNot) + len(unsure) + len(unsureNow), "unclear", ""})}
	s.add("Ways in from outside", slices.Concat(exposureItems(exposed, '+'), exposureItems(covered, '-')))
	s.add("Can talk now", connectionItems(c.Opened, '+'))
	s.add("Cannot talk any more", connectionItems(c.Closed, '-'))
	s.add("New workloads", workloadItems(added, '+'))
	s.add("Workloads that are gone", workloadItems(removed, '-'))
	s.add("Unclear", slices.Concat(connectionItems(c.Unclear, '?'), exposureItems(maybe, '?'), exposureItems(maybeNot, '?'), workloadItems(unsure, '?'), workloadItems(unsureNow, '?')))
	return s
}

// clear parts what is clear from what is not: there is a reason why.
func clear[T any](list []T, why func(*T) string) (yes, no []T) {
	for i := range list {
		if why(&list[i]) == "" {
			yes = append(yes, list[i])
		} else {
			no = append(no, list[i])
		}
	}
	return yes, no
}

func pairs(list []Connection) int {
	n := 0
	for i := range list {
		n += list[i].Pairs
	}
	return n
}

func connectionItems(list []Connection, mark byte) []item {
	var out []item
	for i := range list {
		c := &list[i]
		it := item{mark: mark, head: c.From.text() + " -> " + c.To.text() + ": " + portsText(c.Ports)}
		if c.Why != "" {
			it.notes = []string{c.Why}
		}
		out = append(out, it)
	}
	return out
}

// text names the group, the first of its members.
func (g Group) text() string {
	var parts []string
	switch {
	case g.Outside:
		return g.outside()
	case g.Everything:
		return "everything"
	}
	for _, ns := range g.Namespaces {
		parts = append(parts, "everything in "+cmp.Or(ns, "no namespace that is said"))
	}
	for _, w := range g.Workloads {
		parts = append(parts, workloadText(w))
	}
	return some(parts, maxNames)
}

// workloadText names a workload as people do: shop/web.
func workloadText(name string) string {
	if parts := strings.Split(name, "/"); len(parts) == 3 {
		return parts[0] + "/" + parts[2]
	}
	return name
}

func portsText(p network.PortSet) string {
	if p.All() {
		return "all ports"
	}
	return p.String()
}

func exposureItems(list []Exposure, mark byte) []item {
	var out []item
	for i := range list {
		e := &list[i]
		head := string(e.Way)
		if e.Host != "" {
			head += " " + e.Host
		}
		if e.Outside > 0 {
			head += " port " + strconv.Itoa(int(e.Outside))
		}
		head += " -> " + workloadText(e.Workload)
		if e.Port.Number > 0 {
			head += ": " + e.Port.String()
		} else {
			head += ": all ports"
		}
		if len(e.Sources) > 0 {
			head += ", from " + some(e.Sources, maxNames)
		}
		it := item{mark: mark, head: head}
		var via []string
		for _, ref := range e.Via {
			via = append(via, short(ref))
		}
		if len(via) > 0 {
			it.notes = append(it.notes, "by "+some(via, maxNames))
		}
		if e.Why != "" {
			it.notes = append(it.notes, e.Why)
		}
		out = append(out, it)
	}
	return out
}

func workloadItems(list []Workload, mark byte) []item {
	var out []item
	for i := range list {
		w := &list[i]
		it := item{mark: mark, head: workloadText(w.Name)}
		for _, g := range w.ReachedBy {
			it.notes = append(it.notes, "reached by "+g.Group.text()+": "+portsText(g.Ports))
		}
		for _, g := range w.Reaches {
			it.notes = append(it.notes, "reaches "+g.Group.text()+": "+portsText(g.Ports))
		}
		if w.Why != "" {
			it.notes = append(it.notes, w.Why)
		}
		out = append(out, it)
	}
	return out
}

// some joins the first of a list, and counts the others.
func some(list []string, most int) string {
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:most-1], ", ") + fmt.Sprintf(" and %d more", len(list)-most+1)
}

// plural returns a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
