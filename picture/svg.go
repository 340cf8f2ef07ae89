// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What an image shows as it is, and what it can show at all. On more, a layout
// takes too long and nobody can follow the lines.
const (
	maxDrawnNodes = 150
	maxDrawnEdges = 400
	maxBoxes      = 400
	maxLines      = 4000
)

// maxDegree is how many lines for each node dot can draw from left to right. With
// more it takes minutes, and most of them go around the rest.
const maxDegree = 3

// maxLayout is how long a layout may take where the caller allows more.
const maxLayout = 30 * time.Second

// SVG writes the picture as one image, laid out by Graphviz. Of a picture with
// many nodes it draws the paths alone if there are any, and the nodes of a group
// as one; it says so in the image.
func SVG(ctx context.Context, w io.Writer, p *Picture) error {
	if err := p.check(); err != nil {
		return err
	}
	drawn, head := reduce(p)
	if n, e := len(drawn.Nodes), len(drawn.Edges); n > maxBoxes || e > maxLines {
		return fmt.Errorf("the picture has %d nodes and %d edges, and %d and %d when groups are drawn as one node, more than an image can show; ask about less, or write HTML or DOT",
			len(p.Nodes), len(p.Edges), n, e)
	}
	ctx, cancel := context.WithTimeout(ctx, maxLayout)
	defer cancel()
	engine := "dot"
	if drawn != p && len(drawn.Edges) > maxDegree*len(drawn.Nodes) {
		engine = "sfdp"
	}
	svg, err := layout(ctx, engine, "svg", dotText(drawn, head))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("drawing %d nodes and %d edges took too long: %w; ask about less, or write HTML or DOT", len(drawn.Nodes), len(drawn.Edges), err)
	}
	if err != nil {
		return fmt.Errorf("drawing SVG: %w", err)
	}
	_, svg, _ = strings.Cut(svg, "<svg") // without the document type, which names an address
	if _, err := io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<svg"+svg); err != nil {
		return fmt.Errorf("writing SVG: %w", err)
	}
	return nil
}

// fits says that a picture can be drawn as it is.
func (p *Picture) fits() bool {
	return len(p.Nodes) <= maxDrawnNodes && len(p.Edges) <= maxDrawnEdges
}

// reduce returns what an image shows of a picture, and what stands above it.
func reduce(p *Picture) (*Picture, []string) {
	head := heading(p)
	if p.fits() {
		return p, head
	}
	if len(p.Paths) > 0 {
		only := onlyPaths(p)
		head = append(head, fmt.Sprintf("only the paths are drawn, %d of %d nodes; HTML shows all", len(only.Nodes), len(p.Nodes)))
		if only.fits() {
			return only, head
		}
		p = only
	}
	return fold(p), append(head, "the nodes of a group are drawn as one; HTML opens them")
}

// onlyPaths is the picture without what no path goes along.
func onlyPaths(p *Picture) *Picture {
	out := &Picture{Title: p.Title, Groups: p.Groups}
	on, ends := pathEdges(p), map[string]bool{}
	for i, e := range p.Edges {
		if on[i] {
			out.Edges = append(out.Edges, e)
			ends[e.From], ends[e.To] = true, true
		}
	}
	for _, n := range p.Nodes {
		if ends[n.ID] {
			out.Nodes = append(out.Nodes, n)
		}
	}
	return out
}

// fold is the picture with one node for each group of several, and one edge from
// one node to another. IDs are those of the first node of a group.
func fold(p *Picture) *Picture {
	out := &Picture{Title: p.Title}
	id := map[string]string{}
	for _, g := range groupsOf(p) {
		if g.Name == "" || len(g.nodes) == 1 {
			for _, i := range g.nodes {
				n := p.Nodes[i]
				id[n.ID] = n.ID
				out.Nodes = append(out.Nodes, n)
			}
			continue
		}
		one := Node{ID: p.Nodes[g.nodes[0]].ID, Label: fmt.Sprintf("%s (%d nodes)", clip(line(g.Label), maxLabel/2), len(g.nodes)), Notes: g.Notes}
		for _, i := range g.nodes {
			id[p.Nodes[i].ID] = one.ID
			if r := p.Nodes[i].Role; r == Jewel || one.Role == Ordinary {
				one.Role = r
			}
		}
		out.Nodes = append(out.Nodes, one)
	}
	out.Edges = foldEdges(p.Edges, id)
	return out
}

// foldEdges joins edges that have the same ends. A joined edge is certain if one
// of its edges is.
func foldEdges(edges []Edge, id map[string]string) []Edge {
	var out []Edge
	at, labels := map[[2]string]int{}, [][]string{}
	for _, e := range edges {
		ends := [2]string{id[e.From], id[e.To]}
		if ends[0] == ends[1] {
			continue
		}
		i, ok := at[ends]
		if !ok {
			i = len(out)
			at[ends], labels = i, append(labels, nil)
			out = append(out, Edge{From: ends[0], To: ends[1], Possible: true})
		}
		out[i].Possible = out[i].Possible && e.Possible
		if !slices.Contains(labels[i], e.Label) && len(labels[i]) < 10 {
			labels[i] = append(labels[i], e.Label)
		}
	}
	for i := range out {
		out[i].Label = strings.Join(labels[i], "; ")
	}
	return out
}
