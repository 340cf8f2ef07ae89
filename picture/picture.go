// SPDX-License-Identifier: Apache-2.0

// Package picture draws directed graphs: what reaches what, and how an attacker
// gets from here to there. A Picture is a value that says what is there; DOT,
// SVG and HTML write it. The package knows nothing of Kubernetes, reads no
// files, goes to no network, and takes every text for what a stranger wrote.
package picture

import (
	"cmp"
	"errors"
	"fmt"
)

// Picture is a graph with the words that belong to it. Nodes are drawn in the
// order of their groups; apart from that, order is kept and the output depends
// on nothing else.
type Picture struct {
	Title string
	// Lines stand below the title: what was asked, of what, when.
	Lines []string
	// Unknown is why more may be possible than is drawn, one sentence each.
	Unknown []string
	Nodes   []Node
	Edges   []Edge
	// Groups says more of groups that nodes name; one that is not here has
	// its name and no notes.
	Groups  []Group
	Paths   []Path
	Changes []Change
}

// Role is what a node is to the question. Entries and jewels stand out.
type Role string

// The roles.
const (
	Ordinary Role = ""
	Entry    Role = "entry" // where a path begins: an attacker is here, or a connection is opened here
	Jewel    Role = "jewel" // what a path leads to
)

// Node is a thing. IDs are unique in a picture and need no other shape.
type Node struct {
	ID, Label string
	Kind      string // "Deployment", "ServiceAccount", …: what one filters by
	Group     string // its namespace; empty: it stands outside of all
	Role      Role
	Place     string // "shop/web.yaml:12"; empty where there is none
	Fields    []Field
	Notes     []string
}

// name is the node's label, or else what is to be seen in its place.
func (n *Node) name() string { return cmp.Or(line(n.Label), line(n.ID), "(no name)") }

// Field is a fact of a node or an edge: "labels" and "app=web".
type Field struct{ Name, Value string }

// Edge leads from one node to another. Several may lead from and to the same.
type Edge struct {
	From, To string // IDs of nodes
	Label    string // short: "TCP 80, 443", "runs as"
	Kind     string // what one filters by; may be empty
	Possible bool   // not known for certain: Notes say why
	Place    string
	Fields   []Field
	Notes    []string
}

// Group is what nodes stand in: a namespace. Name is what they give as Group.
type Group struct {
	Name, Label string
	Notes       []string
}

// Path is a way through the graph, from the first step's edge to the last's.
type Path struct {
	Title string
	Steps []Step
	Notes []string
}

// Step is one edge of a path, by its index in Edges, in words.
type Step struct {
	Edge  int
	Words string
	Place string
}

// Change is something that one can change, and what it takes away.
type Change struct {
	Title   string // "Remove the binding shop/ci-admin"
	Control string // the control that asks for it; may be empty
	Place   string
	Notes   []string
	Edges   []int // indices of the edges that are gone with it, each by this change alone
}

// check says what of a picture cannot be drawn.
func (p *Picture) check() error {
	if len(p.Nodes) == 0 {
		return errors.New("there is nothing to draw: the picture has no nodes")
	}
	index := p.index()
	if len(index) < len(p.Nodes) {
		return errors.New("two nodes of the picture have the same ID")
	}
	for i, e := range p.Edges {
		for _, id := range []string{e.From, e.To} {
			if _, ok := index[id]; !ok {
				return fmt.Errorf("edge %d of the picture names %q, which is no node of it", i, clip(id, 80))
			}
		}
	}
	return p.checkEdges()
}

// checkEdges holds what points at edges against them.
func (p *Picture) checkEdges() error {
	for i, path := range p.Paths {
		for j, s := range path.Steps {
			if s.Edge < 0 || s.Edge >= len(p.Edges) {
				return fmt.Errorf("step %d of path %d names edge %d of %d", j, i, s.Edge, len(p.Edges))
			}
			if j > 0 && p.Edges[path.Steps[j-1].Edge].To != p.Edges[s.Edge].From {
				return fmt.Errorf("step %d of path %d does not begin where the one before ends", j, i)
			}
		}
	}
	for i, c := range p.Changes {
		for _, e := range c.Edges {
			if e < 0 || e >= len(p.Edges) {
				return fmt.Errorf("change %d names edge %d of %d", i, e, len(p.Edges))
			}
		}
	}
	return nil
}

// index returns the place of every node by its ID.
func (p *Picture) index() map[string]int {
	out := make(map[string]int, len(p.Nodes))
	for i, n := range p.Nodes {
		out[n.ID] = i
	}
	return out
}
