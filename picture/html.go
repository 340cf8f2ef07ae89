// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
	//go:embed cytoscape/cytoscape.min.js
	cytoscapeJS string
)

// What a page can hold and still answer at once.
const (
	maxPageNodes = 10_000
	maxPageEdges = 40_000
)

// Widest texts of the page, in columns. Nothing that Kubernetes accepts as a
// name is as long.
const (
	maxBoxLabel = 24
	maxText     = 1000
)

// HTML writes the picture as one page that needs nothing else: no request
// leaves it, and its content security policy forbids any. It opens from a file.
func HTML(ctx context.Context, w io.Writer, p *Picture) error {
	if err := p.check(); err != nil {
		return err
	}
	if n, e := len(p.Nodes), len(p.Edges); n > maxPageNodes || e > maxPageEdges {
		return fmt.Errorf("the picture has %d nodes and %d edges, more than a page can show (%d and %d); ask about less, or write DOT", n, e, maxPageNodes, maxPageEdges)
	}
	page, err := pageOf(p)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("writing HTML: %w", err)
	}
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	out := bufio.NewWriter(w)
	if err := t.Execute(out, page); err != nil {
		return fmt.Errorf("writing HTML: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing HTML: %w", err)
	}
	return nil
}

// page is what the template shows. All its texts are visible ones.
type page struct {
	Policy         string
	CSS            template.CSS
	JS, Library    template.JS
	Data           template.JS
	Title          string
	Lines, Unknown []string
	Kinds          []pageKind
	Groups         []string
	Paths          []pagePath
	Changes        []pageChange
	Nodes, Edges   int

	// What the legend has to say.
	Possible, Entries, Jewels bool
}

type pageKind struct {
	Name, Class string
	Count       int
}

type pagePath struct {
	Title string
	Steps []pageStep
	Notes []string
}

type pageStep struct {
	Words, Place string
	Possible     bool
}

type pageChange struct {
	Title, Control, Place string
	Notes                 []string
}

func pageOf(p *Picture) (*page, error) {
	groups := groupsOf(p)
	data, err := json.Marshal(dataOf(p, groups)) // escapes <, > and &
	if err != nil {
		return nil, fmt.Errorf("writing the page's data: %w", err)
	}
	out := &page{
		Policy: contentPolicy(), CSS: template.CSS(pageCSS), JS: template.JS(pageJS), Library: template.JS(cytoscapeJS),
		Data: template.JS(data), Title: text(p.Title), Lines: texts(p.Lines), Unknown: texts(p.Unknown),
		Nodes: len(p.Nodes), Edges: len(p.Edges),
	}
	count := map[string]int{}
	for _, n := range p.Nodes {
		count[n.Kind]++
		out.Entries, out.Jewels = out.Entries || n.Role == Entry, out.Jewels || n.Role == Jewel
	}
	for i, k := range kindsOf(p) {
		out.Kinds = append(out.Kinds, pageKind{text(k), fmt.Sprintf("kind%d", i%len(fills)), count[k]})
	}
	for _, g := range groups {
		if g.Name != "" { // as in the data
			out.Groups = append(out.Groups, text(g.Label))
		}
	}
	for _, e := range p.Edges {
		out.Possible = out.Possible || e.Possible
	}
	for _, path := range p.Paths {
		out.Paths = append(out.Paths, pagePathOf(p, path))
	}
	for _, c := range p.Changes {
		out.Changes = append(out.Changes, pageChange{text(c.Title), text(c.Control), text(c.Place), texts(c.Notes)})
	}
	return out, nil
}

func pagePathOf(p *Picture, path Path) pagePath {
	out := pagePath{Title: text(path.Title), Notes: texts(path.Notes)}
	for _, s := range path.Steps {
		out.Steps = append(out.Steps, pageStep{text(s.Words), text(s.Place), p.Edges[s.Edge].Possible})
	}
	return out
}

// contentPolicy allows the page its own style and scripts, by their hashes, and
// nothing else.
func contentPolicy() string {
	return "default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(cytoscapeJS) + " " + hash(pageJS) +
		"; base-uri 'none'; form-action 'none'"
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func text(s string) string { return clip(line(s), maxText) }

func texts(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}

// pageData is the graph as the page's script reads it. Nodes, edges, groups and
// kinds are named by their index.
type pageData struct {
	Nodes   []dataNode  `json:"nodes"`
	Edges   []dataEdge  `json:"edges"`
	Groups  []dataGroup `json:"groups"`
	Kinds   []string    `json:"kinds"`
	Paths   [][]int     `json:"paths"`   // the edges of each
	Changes [][]int     `json:"changes"` // the edges that are gone with each
}

type dataNode struct {
	Label  string      `json:"label"`
	Short  string      `json:"short,omitempty"` // where the label does not fit into a box
	Kind   int         `json:"kind"`
	Group  int         `json:"group"` // -1: none
	Role   Role        `json:"role,omitempty"`
	Place  string      `json:"place,omitempty"`
	Fields [][2]string `json:"fields,omitempty"`
	Notes  []string    `json:"notes,omitempty"`
	Cell   [2]int      `json:"cell"` // in its group, or among groups
}

type dataEdge struct {
	From     int         `json:"from"`
	To       int         `json:"to"`
	Label    string      `json:"label,omitempty"`
	Short    string      `json:"short,omitempty"`
	Kind     string      `json:"kind,omitempty"`
	Possible bool        `json:"possible,omitempty"`
	Place    string      `json:"place,omitempty"`
	Fields   [][2]string `json:"fields,omitempty"`
	Notes    []string    `json:"notes,omitempty"`
}

type dataGroup struct {
	Label string   `json:"label"`
	Short string   `json:"short,omitempty"`
	Notes []string `json:"notes,omitempty"`
	Cell  [2]int   `json:"cell"`
}

func dataOf(p *Picture, groups []grouped) pageData {
	d := pageData{Nodes: make([]dataNode, len(p.Nodes)), Edges: make([]dataEdge, len(p.Edges)), Groups: []dataGroup{}, Paths: [][]int{}, Changes: [][]int{}}
	kinds, index := map[string]int{}, p.index()
	for i, k := range kindsOf(p) {
		kinds[k] = i
		d.Kinds = append(d.Kinds, text(k))
	}
	for i, n := range p.Nodes {
		d.Nodes[i] = dataNode{Label: text(n.name()), Short: short(n.name()), Kind: kinds[n.Kind], Group: -1, Role: n.Role, Place: text(n.Place), Fields: fieldPairs(n.Fields), Notes: texts(n.Notes)}
	}
	for i, e := range p.Edges {
		d.Edges[i] = dataEdge{From: index[e.From], To: index[e.To], Label: text(e.Label), Short: short(e.Label), Kind: text(e.Kind), Possible: e.Possible, Place: text(e.Place), Fields: fieldPairs(e.Fields), Notes: texts(e.Notes)}
	}
	for _, path := range p.Paths {
		edges := make([]int, len(path.Steps))
		for i, s := range path.Steps {
			edges[i] = s.Edge
		}
		d.Paths = append(d.Paths, edges)
	}
	for _, c := range p.Changes {
		d.Changes = append(d.Changes, append([]int{}, c.Edges...))
	}
	d.place(groups)
	return d
}

// short is a label as it fits into a box; empty if it fits as it is.
func short(label string) string {
	l := line(label)
	if s := clip(l, maxBoxLabel); s != l {
		return s
	}
	return ""
}

func fieldPairs(fields []Field) [][2]string {
	var out [][2]string
	for _, f := range fields {
		out = append(out, [2]string{text(f.Name), text(f.Value)})
	}
	return out
}

// place gives everything its cell: groups, and the nodes outside of all, among
// each other, and the nodes of a group in it.
func (d *pageData) place(groups []grouped) {
	things, within := &arrangement{of: make([]int, len(d.Nodes))}, make([]int, len(d.Nodes))
	var inside []*arrangement
	for _, g := range groups {
		if g.Name == "" {
			for _, n := range g.nodes {
				things.of[n] = things.add(d.Nodes[n].Role)
			}
			continue
		}
		in := &arrangement{of: within}
		thing := things.add(Ordinary)
		for _, n := range g.nodes {
			d.Nodes[n].Group, things.of[n] = len(d.Groups), thing
			in.of[n] = in.add(d.Nodes[n].Role)
		}
		d.Groups = append(d.Groups, dataGroup{Label: text(g.Label), Short: short(g.Label), Notes: texts(g.Notes)})
		inside = append(inside, in)
	}
	for _, e := range d.Edges {
		if g := d.Nodes[e.From].Group; g >= 0 && g == d.Nodes[e.To].Group {
			inside[g].connect(e)
		} else {
			things.connect(e)
		}
	}
	outer, inner := things.cells(), make([][]cell, len(inside))
	for g, in := range inside {
		inner[g] = in.cells()
	}
	for i := range d.Nodes {
		n := &d.Nodes[i]
		c := outer[things.of[i]]
		if n.Group >= 0 {
			d.Groups[n.Group].Cell = [2]int{c.layer, c.place}
			c = inner[n.Group][inside[n.Group].of[i]]
		}
		n.Cell = [2]int{c.layer, c.place}
	}
}

// arrangement is a graph of things that stand for nodes.
type arrangement struct {
	roles []Role
	edges [][2]int
	of    []int // the thing of each node
}

func (a *arrangement) add(r Role) int {
	a.roles = append(a.roles, r)
	return len(a.roles) - 1
}

func (a *arrangement) connect(e dataEdge) {
	a.edges = append(a.edges, [2]int{a.of[e.From], a.of[e.To]})
}

func (a *arrangement) cells() []cell { return arrange(a.roles, a.edges) }
