// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/picture"
)

// Paths are the ways of an attacker, and what breaks them.
type Paths struct {
	Source
	// From and To are as they were asked for; empty for all beginnings, and all
	// that must not be lost.
	From []string `json:"fromAsked,omitempty"`
	To   []string `json:"toAsked,omitempty"`
	// Pairs are kinds of beginnings and what must not be lost, each with the
	// shortest path, where no ends were asked for.
	Pairs []PathPair `json:"pairs,omitempty"`
	// Paths are those between the ends that were asked for, the shortest first.
	Paths []Path `json:"paths,omitempty"`
	// Cut is what breaks them.
	Cut     Cut      `json:"cut"`
	Unknown []string `json:"unknown"`

	graph *attackpath.Graph
}

// PathPair is a kind of beginning and a thing that must not be lost.
type PathPair struct {
	Entry string `json:"entry"`
	Jewel string `json:"jewel"`
	// Entries are how many beginnings of the kind there are; of Reaching a path
	// leads to the jewel, and of Possible only one that may not be there.
	Entries  int   `json:"entries"`
	Reaching int   `json:"reaching"`
	Possible int   `json:"possible"`
	Shortest *Path `json:"shortest,omitempty"`
	// Unknown says why there may be a path where none was found.
	Unknown []string `json:"unknown,omitempty"`
}

// Path is one way.
type Path struct {
	From   Vertex `json:"from"`
	To     Vertex `json:"to"`
	Effort int    `json:"effort"`
	Steps  []Step `json:"steps"`
	// Unknown says why steps of it may not be there; none where all are.
	Unknown []string `json:"unknown,omitempty"`
}

// Vertex is a thing that an attacker may hold.
type Vertex struct {
	// Name is what it is called for --from and --to; Words say it in a sentence.
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Words string `json:"words"`
}

func vertexOf(g *attackpath.Graph, v int) Vertex {
	return Vertex{Name: g.Name(v), Kind: g.Kind(v).String(), Words: g.Words(v)}
}

// Step is one step of a path.
type Step struct {
	// Edge and ID name the kind of step, and Techniques are those of MITRE ATT&CK.
	Edge       string             `json:"edge"`
	ID         string             `json:"id,omitempty"`
	Techniques []string           `json:"techniques,omitempty"`
	Effort     int                `json:"effort"`
	From       Vertex             `json:"from"`
	To         Vertex             `json:"to"`
	Words      string             `json:"words"`
	Because    []attackpath.Cause `json:"because,omitempty"`
	// Change is what takes the step away.
	Change  *attackpath.Change `json:"change,omitempty"`
	Unknown string             `json:"unknown,omitempty"`
}

// Cut is what breaks paths.
type Cut struct {
	// Changes are the fewest that break all that can be broken; Exact says that
	// no fewer do. Broken counts the pairs of a beginning and an end that are
	// left no path, of Pairs that have one.
	Changes []Change `json:"changes"`
	Exact   bool     `json:"exact"`
	Pairs   int      `json:"pairs"`
	// Open are paths that no change breaks.
	Open []Path `json:"open,omitempty"`
}

// Change is something that a person can change.
type Change struct {
	attackpath.Change
	// Breaks counts the pairs that this change alone leaves no path, Cumulated
	// those that it leaves none after the ones before it.
	Breaks    int `json:"breaks"`
	Cumulated int `json:"cumulated"`
	// Explain and Fix are commands.
	Explain string `json:"explain,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// AskPaths answers how an attacker gets from where they may begin to what must
// not be lost: k paths between the ends where some are named, else the shortest
// of each pair. Fixable says whether a control has a fix that a program makes.
func AskPaths(g *attackpath.Graph, src Source, from, to []string, k int, fixable func(control string) bool) (*Paths, error) {
	a := &Paths{Source: src, graph: g, From: from, To: to, Unknown: g.Network().Limits()}
	begin, err := vertices(g, from, entries(g))
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	end, err := vertices(g, to, jewels(g))
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	if len(from)+len(to) == 0 {
		for _, p := range g.Pairs() {
			a.Pairs = append(a.Pairs, pathPair(g, p))
		}
	} else {
		for _, p := range g.Paths(begin, end, k) {
			a.Paths = append(a.Paths, pathOf(g, &p))
		}
	}
	a.Cut = cutOf(g, g.Cut(begin, end), fixable)
	a.Unknown = distinct(a.Unknown)
	return a, nil
}

// entries are all beginnings, and jewels all that must not be lost.
func entries(g *attackpath.Graph) []int {
	var out []int
	for _, e := range g.Entries() {
		out = append(out, e.Vertices...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func jewels(g *attackpath.Graph) []int {
	var out []int
	for _, j := range g.Jewels() {
		out = append(out, j.Vertex)
	}
	return out
}

// vertices are those that are named, or those to be taken where none are.
func vertices(g *attackpath.Graph, named []string, otherwise []int) ([]int, error) {
	if len(named) == 0 {
		return otherwise, nil
	}
	var out []int
	for _, n := range named {
		found, err := g.Find(n)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func pathPair(g *attackpath.Graph, p attackpath.Pair) PathPair {
	out := PathPair{Entry: p.Entry, Jewel: p.Jewel, Entries: p.Entries, Reaching: p.Reaching, Possible: p.Possible, Unknown: p.Unknown}
	if p.Shortest != nil {
		shortest := pathOf(g, p.Shortest)
		out.Shortest = &shortest
	}
	return out
}

func pathOf(g *attackpath.Graph, p *attackpath.Path) Path {
	out := Path{From: vertexOf(g, p.From), To: vertexOf(g, p.To), Steps: []Step{}, Effort: p.Effort, Unknown: p.Unknown}
	for _, s := range p.Steps {
		step := Step{From: vertexOf(g, s.From), To: vertexOf(g, s.To), Words: s.Words, Because: s.Because, Change: s.Change, Unknown: s.Unknown}
		if s.Edge != nil {
			step.Edge, step.ID, step.Techniques, step.Effort = s.Edge.Name, s.Edge.ID, s.Edge.Techniques, s.Edge.Effort
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

func cutOf(g *attackpath.Graph, c attackpath.Cut, fixable func(string) bool) Cut {
	out := Cut{Changes: []Change{}, Exact: c.Exact, Pairs: c.Paths}
	for _, r := range c.Changes {
		change := Change{Change: *r.Change, Breaks: r.Breaks, Cumulated: r.Cumulated}
		if r.Control != "" {
			change.Explain = "sconce explain " + r.Control
			if r.Position.File != "" && fixable(r.Control) {
				change.Fix = "sconce fix --control " + r.Control + " " + quoted(r.Position.File)
			}
		}
		out.Changes = append(out.Changes, change)
	}
	for i := range c.Open {
		out.Open = append(out.Open, pathOf(g, &c.Open[i]))
	}
	return out
}

// quoted returns a word as a shell takes it for one.
func quoted(word string) string {
	safe := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@%,=", r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !safe(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Open says whether a path leads to what must not be lost, or may.
func (a *Paths) Open() bool {
	return len(a.Paths) > 0 || slices.ContainsFunc(a.Pairs, func(p PathPair) bool { return p.Reaching+p.Possible > 0 })
}

// Text implements Answer.
func (a *Paths) Text(p *Page) {
	if len(a.From)+len(a.To) == 0 {
		a.textPairs(p)
	} else {
		a.textPaths(p)
	}
	if a.Open() {
		all := 0
		for _, x := range a.Pairs {
			all += x.Reaching + x.Possible
		}
		a.Cut.text(p, all)
	}
	a.footer(p, a.unknown())
}

// unknown are the reasons of the answer and of pairs without a path.
func (a *Paths) unknown() []string {
	out := slices.Clone(a.Unknown)
	for _, pair := range a.Pairs {
		if pair.Shortest == nil {
			out = append(out, pair.Unknown...)
		}
	}
	return distinct(out)
}

func (a *Paths) textPairs(p *Page) {
	reached := slices.DeleteFunc(slices.Clone(a.Pairs), func(x PathPair) bool { return x.Shortest == nil })
	p.heading("from where attackers begin to what must not be lost")
	var rows []row
	for _, x := range a.Pairs {
		if x.Entries > 0 {
			rows = append(rows, row{cells: x.cells()})
		}
	}
	if len(rows) > 0 {
		p.table([]string{"FROM", "TO", "", "BEGINNINGS", "EFFORT", "STEPS"}, rows)
	}
	for _, x := range reached {
		p.heading("%s → %s", x.Entry, x.Jewel)
		x.Shortest.text(p)
	}
}

func (x *PathPair) cells() []cell {
	verdict := text("no path").in(good)
	effort, steps := "", ""
	switch {
	case x.Reaching > 0:
		verdict = text("path").in(bad)
	case x.Possible > 0:
		verdict = text("possible").in(doubt)
	case len(x.Unknown) > 0:
		verdict = text("not known").in(doubt)
	}
	if x.Shortest != nil {
		effort, steps = fmt.Sprint(x.Shortest.Effort), fmt.Sprint(len(x.Shortest.Steps))
	}
	of := fmt.Sprintf("%d of %d", x.Reaching, x.Entries)
	if x.Possible > 0 {
		of += fmt.Sprintf(", %d possibly", x.Possible)
	}
	return []cell{text(x.Entry), text(x.Jewel), verdict, text(of), text(effort), text(steps)}
}

func (a *Paths) textPaths(p *Page) {
	if len(a.Paths) == 0 {
		p.heading("no path is known")
		return
	}
	for i := range a.Paths {
		x := &a.Paths[i]
		p.heading("path %d: %s → %s, effort %d", i+1, x.From.Words, x.To.Words, x.Effort)
		x.text(p)
	}
}

// text prints the steps of a path.
func (x *Path) text(p *Page) {
	for i := range x.Steps {
		s := &x.Steps[i]
		p.prose(2, fmt.Sprintf("%d. ", i+1), s.Words)
		for _, c := range s.Because[:min(len(s.Because), maxLines)] {
			if c.Words != "" || at(c.Position) != "" {
				p.placed(dim, 5, "", causeWords(c), at(c.Position))
			}
		}
		if s.Unknown != "" {
			p.coloured(doubt, 5, "possible: ", s.Unknown)
		}
	}
}

// cause says what a step comes from, and where that stands.
func cause(c attackpath.Cause) string { return joined(causeWords(c), "  ", at(c.Position)) }

func causeWords(c attackpath.Cause) string { return joined(qualifiedOrNone(c.Object), ": ", c.Words) }

func qualifiedOrNone(r object.Ref) string {
	if r == (object.Ref{}) {
		return ""
	}
	return qualified(r)
}

func joined(a, between, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + between + b
}

// text prints what breaks paths, of so many pairs of a beginning and an end as
// have one; 0 where these are not counted.
func (c *Cut) text(p *Page, all int) {
	ways := count(c.Pairs, "way from a beginning to an end", "ways from a beginning to an end")
	if all > c.Pairs {
		ways = fmt.Sprintf("%d of %d ways from a beginning to an end", c.Pairs, all)
	}
	switch changes := count(len(c.Changes), "change", "changes"); {
	case len(c.Changes) == 0:
		p.heading("no change that is known breaks them")
	case c.Exact:
		p.heading("what breaks them: %s, and no fewer, for %s", changes, ways)
	default:
		p.heading("what breaks them: %s, and perhaps fewer would do, for %s", changes, ways)
	}
	if slices.ContainsFunc(c.Changes, func(r Change) bool { return r.Breaks == 0 }) {
		p.coloured(dim, 0, "", "one that breaks none alone takes away a way beside which there is another: it counts together with those that take away the other")
	}
	for i, r := range c.Changes[:min(len(c.Changes), maxChanges)] {
		p.placed(plain, 2, fmt.Sprintf("%d. ", i+1), joined(qualifiedOrNone(r.Object), ": ", r.Words), at(r.Position))
		p.line("     %s", p.in(dim, r.breaks(c.Pairs)))
		if r.Explain != "" {
			p.line("     %s", visible(r.Explain))
		}
		if r.Fix != "" {
			p.line("     %s", visible(r.Fix))
		}
	}
	p.more(len(c.Changes)-maxChanges, "change", "changes")
	for i := range c.Open[:min(len(c.Open), 3)] {
		p.heading("no change that is known breaks: %s → %s", c.Open[i].From.Words, c.Open[i].To.Words)
		c.Open[i].text(p)
	}
	p.more(len(c.Open)-3, "such path", "such paths")
}

// breaks says how much a change breaks.
func (c *Change) breaks(pairs int) string {
	alone := "none"
	if c.Breaks > 0 {
		alone = fmt.Sprint(c.Breaks)
	}
	return fmt.Sprintf("alone breaks %s, with those before %d of %d", alone, c.Cumulated, pairs)
}

// maxChanges is how many changes are printed; JSON has all.
const maxChanges = 25

// maxPaths is how many paths are drawn one by one.
const maxPaths = 300

// drawn are the paths of a picture: where no ends were asked for, the shortest
// from each beginning to each thing that must not be lost; where these are too
// many, the shortest of each pair.
func (a *Paths) drawn() (out []Path, all bool) {
	if len(a.From)+len(a.To) > 0 {
		return a.Paths, true
	}
	if len(entries(a.graph))*len(a.graph.Jewels()) > maxPaths {
		for _, x := range a.Pairs {
			if x.Shortest != nil {
				out = append(out, *x.Shortest)
			}
		}
		return out, false
	}
	for _, from := range entries(a.graph) {
		for _, to := range jewels(a.graph) {
			for _, p := range a.graph.Paths([]int{from}, []int{to}, 1) {
				out = append(out, pathOf(a.graph, &p))
			}
		}
	}
	return out, true
}

// Picture implements Drawn.
func (a *Paths) Picture() *picture.Picture {
	c := a.canvas("Attack paths", a.unknown())
	d := &drawing{canvas: c, edges: map[string]int{}, changes: map[string][]int{}}
	paths, all := a.drawn()
	for i := range paths {
		d.path(&paths[i])
	}
	if !all {
		c.Lines = append(c.Lines, "There are many beginnings: of each kind only the shortest path is drawn; --from and --to draw others")
	}
	for _, r := range a.Cut.Changes {
		change := picture.Change{Title: joined(qualifiedOrNone(r.Object), ": ", r.Words), Control: r.Control, Place: at(r.Position), Edges: d.changes[r.Key]}
		change.Notes = append(change.Notes, r.breaks(a.Cut.Pairs))
		for _, command := range []string{r.Explain, r.Fix} {
			if command != "" {
				change.Notes = append(change.Notes, command)
			}
		}
		c.Changes = append(c.Changes, change)
	}
	return &c.Picture
}

// drawing is a picture of paths in the making.
type drawing struct {
	*canvas
	edges   map[string]int   // by their ends and kind
	changes map[string][]int // edges that a change takes away
}

// path draws a path: a step that is drawn already is used again.
func (d *drawing) path(x *Path) {
	out := picture.Path{Title: x.From.Words + " → " + x.To.Words, Notes: x.Unknown}
	for i := range x.Steps {
		s := &x.Steps[i]
		if i > 0 && x.Steps[i-1].To.Name != s.From.Name {
			// What is held holds, or is, what is used next: no step of its own.
			last := x.Steps[i-1].To
			n := d.edge(last.Name+"\x00"+s.From.Name, func() picture.Edge {
				return picture.Edge{From: d.vertex(last, picture.Ordinary), To: d.vertex(s.From, picture.Ordinary), Kind: "holds"}
			})
			out.Steps = append(out.Steps, picture.Step{Edge: n, Words: last.Words + ": " + s.From.Words})
		}
		from, to := picture.Ordinary, picture.Ordinary
		if i == 0 {
			from = picture.Entry
		}
		if i == len(x.Steps)-1 {
			to = picture.Jewel
		}
		fromID, toID := d.vertex(s.From, from), d.vertex(s.To, to)
		n := d.edge(s.From.Name+"\x00"+s.To.Name+"\x00"+s.Edge, func() picture.Edge { return s.edge(fromID, toID) })
		if s.Change != nil && !slices.Contains(d.changes[s.Change.Key], n) {
			d.changes[s.Change.Key] = append(d.changes[s.Change.Key], n)
		}
		place := ""
		if len(s.Because) > 0 {
			place = at(s.Because[0].Position)
		}
		out.Steps = append(out.Steps, picture.Step{Edge: n, Words: s.Words, Place: place})
	}
	d.Paths = append(d.Paths, out)
}

// edge returns the index of an edge, which is made if it is not drawn yet.
func (d *drawing) edge(key string, makes func() picture.Edge) int {
	n, ok := d.edges[key]
	if !ok {
		e := makes()
		n = len(d.Edges)
		d.edges[key] = n
		d.Edges = append(d.Edges, e)
	}
	return n
}

// label returns the namespace of a vertex, if it is known to be in one, and what
// it is called there.
func (v *Vertex) label() (namespace, label string) {
	_, rest, _ := strings.Cut(v.Name, ":")
	parts := strings.Split(rest, "/")
	in := map[string]int{"sa": 2, "secret": 2, "volume": 2, "workload": 3, "endpoint": 3, "container": 4}[v.Kind]
	switch {
	case len(parts) == in:
		namespace, parts = parts[0], parts[1:]
	case len(parts) != in-1:
		return "", v.Words
	}
	if v.Kind == "container" {
		return namespace, parts[2] + " of " + parts[1]
	}
	return namespace, parts[len(parts)-1]
}

// vertex adds a node; one that is drawn already may come to stand out.
func (d *drawing) vertex(v Vertex, role picture.Role) string {
	group, label := v.label()
	id := d.node(picture.Node{ID: v.Name, Label: label, Kind: v.Kind, Group: group, Role: role, Notes: []string{v.Words}})
	for i := range d.Nodes {
		if d.Nodes[i].ID == id && d.Nodes[i].Role == picture.Ordinary {
			d.Nodes[i].Role = role
		}
	}
	return id
}

// edge is a step as it is drawn.
func (s *Step) edge(from, to string) picture.Edge {
	e := picture.Edge{From: from, To: to, Label: s.Edge, Kind: s.Edge, Possible: s.Unknown != "", Notes: []string{s.Words}}
	for _, c := range s.Because {
		e.Notes = append(e.Notes, cause(c))
	}
	if s.Unknown != "" {
		e.Notes = append(e.Notes, "possible: "+s.Unknown)
	}
	for _, t := range s.Techniques {
		e.Fields = append(e.Fields, picture.Field{Name: "MITRE ATT&CK", Value: t})
	}
	if len(s.Because) > 0 {
		e.Place = at(s.Because[0].Position)
	}
	return e
}
