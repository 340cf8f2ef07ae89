// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/network"
)

// Matrix is what reaches what, by namespace.
type Matrix struct {
	Source
	Port string `json:"port,omitempty"`
	// Namespaces are all that have workloads.
	Namespaces []Neighbour `json:"namespaces"`
	// Links are pairs of namespaces between which something may be sent;
	// LinksLeftOut says that they are too many to be listed.
	Links        []Link   `json:"links"`
	LinksLeftOut bool     `json:"linksLeftOut,omitempty"`
	Unknown      []string `json:"unknown"`

	model *network.Model
}

// Neighbour is a namespace, and what of it reaches the outside and is reached
// from there.
type Neighbour struct {
	Name      string `json:"name"`
	Workloads int    `json:"workloads"`
	// In counts the workloads to which policies surely let the internet through,
	// and Out those that they let out to it; InPossible and OutPossible count
	// those of which that is not known beside them. Open counts the workloads to
	// which there is a way in from outside that policies let through, or may.
	In          int `json:"in"`
	InPossible  int `json:"inPossible,omitempty"`
	Out         int `json:"out"`
	OutPossible int `json:"outPossible,omitempty"`
	Open        int `json:"open"`
	// Reaches and ReachedFrom count the other namespaces that something of it
	// reaches, or that reach something of it, or may.
	Reaches     int `json:"reaches"`
	ReachedFrom int `json:"reachedFrom"`
}

// Link is traffic from one namespace to another, or within one.
type Link struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Pairs of workloads surely may talk, of Of that there are; of Possible beside
	// them that is not known. A workload is not paired with itself.
	Pairs    int `json:"pairs"`
	Possible int `json:"possible,omitempty"`
	Of       int `json:"of"`
}

// words says how much of two namespaces may talk.
func (l *Link) words() string {
	switch {
	case l.Possible > 0:
		return fmt.Sprintf("%d…%d/%d", l.Pairs, l.Pairs+l.Possible, l.Of)
	case l.Of == 0 || l.Pairs == 0:
		return "-"
	case l.Pairs == l.Of:
		return "all"
	}
	return fmt.Sprintf("%d/%d", l.Pairs, l.Of)
}

// in and out are what of a namespace the internet reaches, and reaches it.
func (n *Neighbour) in() *Link { return &Link{Pairs: n.In, Possible: n.InPossible, Of: n.Workloads} }
func (n *Neighbour) out() *Link {
	return &Link{Pairs: n.Out, Possible: n.OutPossible, Of: n.Workloads}
}

// AskMatrix answers what reaches what by namespace, on a port or on any.
func AskMatrix(m *network.Model, src Source, port string) (*Matrix, error) {
	wanted, err := askPort(port)
	if err != nil {
		return nil, err
	}
	if wanted.name != "" {
		return nil, fmt.Errorf("--port %q: without FROM and TO a port is a number, as each workload gives names to its own", port)
	}
	a := &Matrix{Source: src, model: m, Port: port, Unknown: distinct(m.Limits()), Namespaces: []Neighbour{}, Links: []Link{}}
	classes := m.Classes()
	index := map[string]int{}
	of := make(map[int]int, len(classes)) // the namespace of a class
	for _, c := range classes {
		i, ok := index[c.Namespace]
		if !ok {
			i = len(a.Namespaces)
			index[c.Namespace] = i
			a.Namespaces = append(a.Namespaces, Neighbour{Name: c.Namespace})
		}
		of[c.ID] = i
		a.Namespaces[i].Workloads++
		a.outside(m, c, i, wanted)
	}
	open := map[*network.Class]bool{}
	for _, e := range m.Exposures() {
		if i, ok := of[idOf(e.Class)]; ok && !open[e.Class] && (e.Allowed || e.Unknown != "") && wanted.fits(e.Port) {
			open[e.Class] = true
			a.Namespaces[i].Open++
		}
	}
	a.links(sheetOf(m.Bicliques, wanted, of), sheetOf(m.Possible, wanted, of), of)
	return a, nil
}

func idOf(c *network.Class) int {
	if c == nil {
		return -1
	}
	return c.ID
}

// fits says whether a port is meant; 0 stands for all.
func (a *asked) fits(p network.Port) bool {
	return !a.set || p.Number == 0 || p.Protocol == a.protocol && p.Number == a.number
}

// outside counts what of a namespace policies let out, and let in.
func (a *Matrix) outside(m *network.Model, c *network.Class, ns int, wanted asked) {
	count := func(from, to network.Peer, sure, possible *int) {
		switch {
		case wanted.among(m.Ports(from, to)):
			*sure++
		case wanted.among(m.PossiblePorts(from, to)):
			*possible++
		}
	}
	here, n := network.Peer{Class: c}, &a.Namespaces[ns]
	count(network.Peer{}, here, &n.In, &n.InPossible)
	count(here, network.Peer{}, &n.Out, &n.OutPossible)
}

// among says whether the port, or any if none is asked for, is among others.
func (a *asked) among(ports network.PortSet) bool {
	return !a.set && !ports.Empty() || ports.Contains(network.Port{Protocol: a.protocol, Number: a.number})
}

// sheet says of each class which it reaches. Classes that reach the same share
// what is worked out of it: in a cluster there are few such sets.
type sheet struct {
	of     map[int]*reached // by class
	bySame map[string]*reached
}

// reached are classes that some reach.
type reached struct {
	classes map[int]bool
	by      map[int]int // how many of them are in a namespace
}

// sheetOf works out who reaches whom on a port, given what yields sets all of
// which reach all of others, and the namespaces of classes.
func sheetOf(each func(func(from, to []int, ports network.PortSet)), wanted asked, of map[int]int) *sheet {
	var targets [][]int
	in := map[int][]int{} // the targets that a class reaches
	each(func(from, to []int, ports network.PortSet) {
		if !wanted.among(ports) {
			return
		}
		for _, f := range from {
			in[f] = append(in[f], len(targets))
		}
		targets = append(targets, slices.Clone(to))
	})
	s := &sheet{of: map[int]*reached{}, bySame: map[string]*reached{}}
	for f, list := range in {
		key := fmt.Sprint(list)
		if s.bySame[key] == nil {
			r := &reached{map[int]bool{}, map[int]int{}}
			for _, i := range list {
				for _, t := range targets[i] {
					if !r.classes[t] {
						r.classes[t] = true
						r.by[of[t]]++
					}
				}
			}
			s.bySame[key] = r
		}
		s.of[f] = s.bySame[key]
	}
	return s
}

// counts returns how many pairs of workloads of two namespaces there are of
// which one reaches the other.
func (s *sheet) counts(of map[int]int) map[[2]int]int {
	type group struct {
		namespace int
		reached   *reached
	}
	groups, out := map[group]int{}, map[[2]int]int{}
	for f, r := range s.of {
		groups[group{of[f], r}]++
		if r.classes[f] {
			out[[2]int{of[f], of[f]}]-- // it is not paired with itself
		}
	}
	for g, n := range groups {
		for to, m := range g.reached.by {
			out[[2]int{g.namespace, to}] += n * m
		}
	}
	return out
}

// maxLinked is of how many namespaces each pair is told: 500 have 250,000.
const maxLinked = 500

// links counts pairs of workloads by their namespaces.
func (a *Matrix) links(sure, possible *sheet, of map[int]int) {
	surely := sure.counts(of)
	a.LinksLeftOut = len(a.Namespaces) > maxLinked
	for k, n := range possible.counts(of) {
		if n == 0 {
			continue
		}
		from, to := &a.Namespaces[k[0]], &a.Namespaces[k[1]]
		l := Link{From: from.Name, To: to.Name, Pairs: surely[k], Possible: n - surely[k], Of: from.Workloads * to.Workloads}
		if k[0] == k[1] {
			l.Of = from.Workloads * (from.Workloads - 1)
		} else {
			from.Reaches++
			to.ReachedFrom++
		}
		if !a.LinksLeftOut {
			a.Links = append(a.Links, l)
		}
	}
	slices.SortFunc(a.Links, func(x, y Link) int { return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To)) })
}

// Text implements Answer.
func (a *Matrix) Text(p *Page) {
	title := "what reaches what, by namespace"
	if a.Port != "" {
		title += ", on " + a.Port
	}
	p.heading("%s: %s", title, count(len(a.Namespaces), "namespace", "namespaces"))
	if len(a.Namespaces) == 0 {
		p.line("no workload is among what was read")
	} else if !a.textMatrix(p) {
		headings, rows := a.summary()
		p.table(headings, rows[:min(len(rows), maxRows)])
		p.more(len(rows)-maxRows, "namespace", "namespaces")
	}
	if a.doubtful() {
		p.prose(0, "", "2…5/9: of 9 pairs or workloads, 2 surely may and 3 more possibly")
	}
	if len(a.Namespaces) > 0 {
		p.line("")
		p.prose(0, "", "this is what policies let through: sconce reach FROM TO says which decide, sconce reach --exposure lists the ways in that there are from outside")
	}
	a.footer(p, a.Unknown)
}

// textMatrix prints a column for each namespace, if there is room.
func (a *Matrix) textMatrix(p *Page) bool {
	const most = 30
	if len(a.Namespaces) > most {
		return false
	}
	headings, rows := a.matrix()
	if !fits(headings, rows, p.width) {
		return false
	}
	p.line("%s", p.in(dim, "from the row's to the column's: pairs of workloads that may talk"))
	p.table(headings, rows)
	return true
}

// doubtful says whether something may talk of which that is not known.
func (a *Matrix) doubtful() bool {
	return slices.ContainsFunc(a.Links, func(l Link) bool { return l.Possible > 0 }) ||
		slices.ContainsFunc(a.Namespaces, func(n Neighbour) bool { return n.InPossible+n.OutPossible > 0 })
}

// byEnds finds links by their ends.
func (a *Matrix) byEnds() map[[2]string]*Link {
	out := map[[2]string]*Link{}
	for i := range a.Links {
		out[[2]string{a.Links[i].From, a.Links[i].To}] = &a.Links[i]
	}
	return out
}

// matrix has a row and a column for each namespace.
func (a *Matrix) matrix() ([]string, []row) {
	headings := []string{"FROM / TO"}
	from := []cell{text("(internet)")}
	for _, n := range a.Namespaces {
		headings = append(headings, name(n.Name))
		from = append(from, shade(n.in().words()))
	}
	rows := []row{{cells: append(from, text(""))}}
	links := a.byEnds()
	for _, f := range a.Namespaces {
		cells := []cell{text(name(f.Name))}
		for _, t := range a.Namespaces {
			if l := links[[2]string{f.Name, t.Name}]; l != nil {
				cells = append(cells, shade(l.words()))
			} else {
				cells = append(cells, shade("-"))
			}
		}
		rows = append(rows, row{cells: append(cells, shade(f.out().words()))})
	}
	return append(headings, "(internet)"), rows
}

// shade returns how much may talk in the colour of that.
func shade(words string) cell {
	switch {
	case words == "-":
		return text(words).in(dim)
	case words == "all":
		return text(words).in(bold)
	case strings.Contains(words, "…"):
		return text(words).in(doubt)
	}
	return text(words)
}

// fits says whether a table need not be broken.
func fits(headings []string, rows []row, width int) bool {
	total := 0
	for i, h := range headings {
		widest := len(h)
		for _, r := range rows {
			for _, s := range r.cells[i] {
				widest = max(widest, len(s.text))
			}
		}
		total += widest + 2
	}
	return total-2 <= width
}

// summary has a row for each namespace.
func (a *Matrix) summary() ([]string, []row) {
	reaches, reached := map[string][]string{}, map[string][]string{}
	for _, l := range a.Links {
		if l.From != l.To {
			reaches[l.From] = append(reaches[l.From], name(l.To))
			reached[l.To] = append(reached[l.To], name(l.From))
		}
	}
	var rows []row
	for _, n := range a.Namespaces {
		rows = append(rows, row{cells: []cell{
			text(name(n.Name)), text(fmt.Sprint(n.Workloads)),
			a.others(n.Reaches, reaches[n.Name]), a.others(n.ReachedFrom, reached[n.Name]),
			shade(n.out().words()), shade(n.in().words()), text(fmt.Sprint(n.Open)),
		}})
	}
	return []string{"NAMESPACE", "WORKLOADS", "REACHES", "REACHED FROM", "INTERNET", "FROM INTERNET", "OPEN"}, rows
}

// others says which other namespaces are meant.
func (a *Matrix) others(n int, names []string) cell {
	switch {
	case n == 0:
		return text("-").in(dim)
	case n == len(a.Namespaces)-1:
		return text("all").in(bold)
	case n > maxLines || len(names) < n:
		return text(fmt.Sprintf("%d of %d", n, len(a.Namespaces)-1))
	}
	return text(strings.Join(names, " "))
}

// name is a namespace in words.
func name(ns string) string { return cmp.Or(ns, "(not said)") }
