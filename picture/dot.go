// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// DOT writes the whole picture in the language of Graphviz, whatever its size.
func DOT(w io.Writer, p *Picture) error {
	if err := p.check(); err != nil {
		return err
	}
	if _, err := io.WriteString(w, dotText(p, heading(p))); err != nil {
		return fmt.Errorf("writing DOT: %w", err)
	}
	return nil
}

// Widest texts, in columns. What is cut off of a label stands in the tooltip.
const (
	maxLabel     = 48
	maxEdgeLabel = 32
	maxHeading   = 160
	maxTooltip   = 400
	maxName      = 200
)

// maxLabels is up to how many edges all are labelled. On more, the labels of a
// drawing hide it, and its layout takes minutes; they are in the tooltips.
const maxLabels = 80

const (
	white, ink, dim, rule, strong = "#ffffff", "#1c2126", "#5b6670", "#c3cad1", "#a5122a"
	faint                         = "#5b667055" // where lines are many
)

// fills are the colours of kinds, by the order of their names.
var fills = []string{"#e3eefb", "#e6f4ea", "#f3e8fb", "#fdf3d8", "#e0f4f4", "#f1ece4", "#e9ebf8", "#eef1f3"}

// roleFills are the colours of nodes that stand out.
var roleFills = map[Role]string{Entry: "#fde2c4", Jewel: "#f9d0d4"}

// heading is what stands above a picture.
func heading(p *Picture) []string {
	out := append([]string{p.Title}, p.Lines...)
	if slices.ContainsFunc(p.Edges, func(e Edge) bool { return e.Possible }) {
		out = append(out, "dashed: possible, but not known for certain")
	}
	for _, u := range p.Unknown {
		out = append(out, "not known: "+u)
	}
	return out
}

// dotText is the picture in the language of Graphviz, below lines of text.
func dotText(p *Picture, head []string) string {
	var b strings.Builder
	d := &dotWriter{w: &b, p: p, kinds: kindsOf(p), names: map[string]string{}, used: map[string]bool{}}
	d.write(head)
	return b.String()
}

type dotWriter struct {
	w     *strings.Builder
	p     *Picture
	kinds []string
	names map[string]string // of nodes, by ID
	used  map[string]bool   // names that are taken
}

func (d *dotWriter) write(head []string) {
	title := ""
	for _, h := range head {
		title += escape(clip(line(h), maxHeading)) + `\l`
	}
	fmt.Fprintf(d.w, "digraph %s {\n", quoted(escapeName(d.unique(d.p.Title))))
	fmt.Fprintf(d.w, "  graph [rankdir=LR, nslimit=2, nslimit1=2, mclimit=0.3, overlap=scale, outputorder=edgesfirst, ranksep=0.7, nodesep=0.18, labelloc=t, labeljust=l, label=%s, fontname=\"Helvetica,Arial,sans-serif\", fontsize=13, fontcolor=%q, bgcolor=%q]\n", quoted(title), ink, white)
	fmt.Fprintf(d.w, "  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica,Arial,sans-serif\", fontsize=11, fontcolor=%q, color=%q, margin=\"0.12,0.06\", height=0.3]\n", ink, dim)
	colour := dim
	if len(d.p.Edges) > maxDrawnEdges {
		colour = faint
	}
	fmt.Fprintf(d.w, "  edge [fontname=\"Helvetica,Arial,sans-serif\", fontsize=9, fontcolor=%q, color=%q, arrowsize=0.7]\n", dim, colour)
	for i, g := range groupsOf(d.p) {
		d.group(i, g)
	}
	onPath := pathEdges(d.p)
	for i, e := range d.p.Edges {
		d.edge(e, onPath[i] && len(onPath) < len(d.p.Edges))
	}
	fmt.Fprintln(d.w, "}")
}

// group writes the nodes that stand in a group, and what is around them.
func (d *dotWriter) group(i int, g grouped) {
	indent := "  "
	if g.Name != "" {
		fmt.Fprintf(d.w, "  subgraph %s {\n", quoted(fmt.Sprintf("cluster_%d", i)))
		fmt.Fprintf(d.w, "    graph [label=%s, tooltip=%s, style=\"rounded,filled\", color=%q, fillcolor=\"#f6f7f8\", fontcolor=%q]\n",
			quoted(escape(clip(line(g.Label), maxLabel))), tooltip(g.Name, g.Notes), rule, dim)
		indent = "    "
	}
	for _, n := range g.nodes {
		d.node(indent, d.p.Nodes[n])
	}
	if g.Name != "" {
		fmt.Fprintln(d.w, "  }")
	}
}

func (d *dotWriter) node(indent string, n Node) {
	name := d.unique(n.ID)
	d.names[n.ID] = name
	label := escape(clip(line(n.name()), maxLabel))
	if n.Kind != "" {
		label += `\n` + escape(clip(line(n.Kind), maxLabel))
	}
	fill, more := fills[slices.Index(d.kinds, n.Kind)%len(fills)], ""
	if f, ok := roleFills[n.Role]; ok {
		fill, more = f, ", penwidth=2"
	}
	fmt.Fprintf(d.w, "%s%s [label=%s, tooltip=%s, fillcolor=%q%s]\n", indent, quoted(escapeName(name)), quoted(label),
		tooltip(n.name(), append(append([]string{n.Kind, n.Place}, fieldLines(n.Fields)...), n.Notes...)), fill, more)
}

func (d *dotWriter) edge(e Edge, strongly bool) {
	more := ""
	if len(d.p.Edges) <= maxLabels && e.Label != "" {
		more = ", label=" + quoted(escape(clip(line(e.Label), maxEdgeLabel)))
	}
	if e.Possible {
		more += ", style=dashed"
	}
	if strongly {
		more += fmt.Sprintf(", color=%q, penwidth=2", strong)
	}
	fmt.Fprintf(d.w, "  %s -> %s [tooltip=%s%s]\n", quoted(escapeName(d.names[e.From])), quoted(escapeName(d.names[e.To])),
		tooltip(e.Label, append(append([]string{e.Place}, fieldLines(e.Fields)...), e.Notes...)), more)
}

// unique returns a text as a name that no other has.
func (d *dotWriter) unique(text string) string {
	base := clip(line(text), maxName)
	name := base
	for i := 2; d.used[name]; i++ {
		name = base + " #" + strconv.Itoa(i)
	}
	d.used[name] = true
	return name
}

func fieldLines(fields []Field) []string {
	var out []string
	for _, f := range fields {
		out = append(out, f.Name+": "+f.Value)
	}
	return out
}

func tooltip(first string, rest []string) string {
	text := line(first)
	for _, r := range rest {
		if r != "" {
			text += "; " + line(r)
		}
	}
	return quoted(escape(clip(text, maxTooltip)))
}

// escape makes a text mean itself where Graphviz reads escapes and entities.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `&`, `&amp;`).Replace(s)
}

// escapeName does the same for names, of which Graphviz resolves nothing, and
// writes what looks like an entity into an SVG as it is.
func escapeName(s string) string {
	return strings.NewReplacer(`\`, `\\`, `&`, `\\u0026`).Replace(s)
}

// quoted returns a text as a string of DOT, in which only quotes are special.
func quoted(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}

// kindsOf returns the kinds of a picture's nodes, sorted.
func kindsOf(p *Picture) []string {
	var out []string
	for _, n := range p.Nodes {
		out = append(out, n.Kind)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pathEdges are the edges that a path goes along.
func pathEdges(p *Picture) map[int]bool {
	out := map[int]bool{}
	for _, path := range p.Paths {
		for _, s := range path.Steps {
			out[s.Edge] = true
		}
	}
	return out
}

// grouped is a group and the indices of its nodes.
type grouped struct {
	Group
	nodes []int
}

// groupsOf returns the groups of a picture by name, with the nodes that stand
// outside of all first.
func groupsOf(p *Picture) []grouped {
	byName := map[string]*grouped{}
	for i, n := range p.Nodes {
		g := byName[n.Group]
		if g == nil {
			g = &grouped{Group: Group{Name: n.Group, Label: n.Group}}
			byName[n.Group] = g
		}
		g.nodes = append(g.nodes, i)
	}
	for _, said := range p.Groups {
		if g := byName[said.Name]; g != nil {
			g.Notes = said.Notes
			if said.Label != "" {
				g.Label = said.Label
			}
		}
	}
	var out []grouped
	for _, g := range byName {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b grouped) int { return strings.Compare(a.Name, b.Name) })
	return out
}
