// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/picture"
)

// Drawn is an answer that can be drawn.
type Drawn interface {
	Answer
	Picture() *picture.Picture
}

// canvas is a picture in the making.
type canvas struct {
	picture.Picture
	nodes map[string]bool
}

func (s *Source) canvas(title string, unknown []string) *canvas {
	c := &canvas{nodes: map[string]bool{}}
	c.Title, c.Lines, c.Unknown = title, []string{"Read from " + s.From}, slices.Clone(unknown)
	if s.Lacks != "" {
		c.Unknown = append(c.Unknown, s.Lacks)
	}
	return c
}

// node adds a node that is not there yet, and returns its ID.
func (c *canvas) node(n picture.Node) string {
	if !c.nodes[n.ID] {
		c.nodes[n.ID] = true
		c.Nodes = append(c.Nodes, n)
	}
	return n.ID
}

// end adds the node of an end of a connection, and what it is if it is outside.
func (c *canvas) end(e *End, outside picture.Role) string {
	if e.Outside != "" {
		return c.node(picture.Node{ID: "outside " + e.Outside, Label: e.Outside, Kind: "Outside", Role: outside})
	}
	return c.workload(e.Namespace, e.Workload, e.Pods)
}

func (c *canvas) workload(namespace, workload string, pods int) string {
	kind, label, ok := strings.Cut(workload, "/")
	if !ok {
		kind, label = "Workload", workload
	}
	n := picture.Node{ID: "workload " + namespace + "/" + workload, Label: label, Kind: kind, Group: namespace}
	if pods > 0 {
		n.Fields = []picture.Field{{Name: "pods", Value: fmt.Sprint(pods)}}
	}
	return c.node(n)
}

// Picture implements Drawn.
func (a *Reach) Picture() *picture.Picture {
	title := "What reaches what"
	switch {
	case a.From != "" && a.To != "":
		title = a.From + " → " + a.To
	case a.From != "":
		title = "What " + a.From + " reaches"
	case a.To != "":
		title = "What reaches " + a.To
	}
	c := a.canvas(title, a.Unknown)
	for i := range a.Pairs {
		x := &a.Pairs[i]
		e := picture.Edge{From: c.end(&x.From, picture.Entry), To: c.end(&x.To, picture.Ordinary), Label: x.Ports, Kind: "connects", Possible: x.Verdict == unclear}
		if x.Verdict == no {
			continue
		}
		for _, d := range x.Decisions {
			for _, r := range slices.Concat(d.Egress.By, d.Ingress.By) {
				e.Notes = append(e.Notes, d.Port+": "+reason(r))
			}
			if d.Unknown != "" {
				e.Notes = append(e.Notes, d.Port+": "+d.Unknown)
			}
		}
		c.Edges = append(c.Edges, e)
	}
	return &c.Picture
}

// Picture implements Drawn.
func (a *Exposed) Picture() *picture.Picture {
	c := a.canvas("Ways in from outside", a.Unknown)
	outside := c.node(picture.Node{ID: "outside", Label: internet, Kind: "Outside", Role: picture.Entry})
	drawn := map[string]bool{}
	edge := func(e picture.Edge) {
		key := e.From + "\x00" + e.To + "\x00" + e.Label
		if !drawn[key] {
			drawn[key] = true
			c.Edges = append(c.Edges, e)
		}
	}
	for _, w := range a.Ways {
		if w.Verdict == no {
			continue
		}
		at, label := outside, strings.TrimSpace(string(w.Way)+" "+w.Host)
		for _, v := range w.Via {
			to := c.node(picture.Node{ID: v.String(), Label: v.Name, Kind: v.Kind, Group: v.Namespace})
			edge(picture.Edge{From: at, To: to, Label: label, Kind: string(w.Way)})
			at, label = to, ""
		}
		port := portText(w.Port)
		if w.Port.Number == 0 {
			port = "all ports"
		}
		e := picture.Edge{From: at, To: c.workload(w.Namespace, w.Workload, 0), Label: strings.TrimSpace(label + " " + port), Kind: string(w.Way), Possible: w.Verdict == unclear}
		for _, r := range w.By {
			e.Notes = append(e.Notes, reason(r))
		}
		if w.Unknown != "" {
			e.Notes = append(e.Notes, w.Unknown)
		}
		edge(e)
	}
	return &c.Picture
}

// maxDrawn is how many workloads are drawn one by one; of more, namespaces are.
const maxDrawn = 400

// Picture implements Drawn.
func (a *Matrix) Picture() *picture.Picture {
	c := a.canvas("What reaches what", a.Unknown)
	classes := a.model.Classes()
	if len(classes) > maxDrawn {
		c.Title += ", by namespace"
		a.drawNamespaces(c)
		return &c.Picture
	}
	wanted, _ := askPort(a.Port) // what is wrong with it was told before
	ids := map[int]string{}
	for _, class := range classes {
		ids[class.ID] = c.workload(class.Namespace, class.Workload, class.Pods)
	}
	hubs := 0
	a.model.Bicliques(func(from, to []int, ports network.PortSet) {
		if wanted.set && !ports.Contains(network.Port{Protocol: wanted.protocol, Number: wanted.number}) {
			return
		}
		if len(from)*len(to) <= len(from)+len(to)+1 {
			c.each(ids, from, to, portsText(ports))
			return
		}
		hubs++
		hub := c.node(picture.Node{ID: fmt.Sprintf("hub %d", hubs), Label: portsText(ports), Kind: "all reach all"})
		for _, f := range from {
			c.Edges = append(c.Edges, picture.Edge{From: ids[f], To: hub, Kind: "connects"})
		}
		for _, t := range to {
			c.Edges = append(c.Edges, picture.Edge{From: hub, To: ids[t], Kind: "connects"})
		}
	})
	a.drawPossible(c, ids, wanted)
	return &c.Picture
}

// maxPossible is how many pairs are drawn of which it is not known whether they
// may talk.
const maxPossible = 500

// drawPossible draws pairs of which it is not known whether they may talk.
func (a *Matrix) drawPossible(c *canvas, ids map[int]string, wanted asked) {
	sure, possible := pairs(a.model.Bicliques, wanted), pairs(a.model.Possible, wanted)
	drawn, left := 0, 0
	for _, f := range a.model.Classes() {
		for _, t := range a.model.Classes() {
			switch {
			case !possible[f.ID][t.ID] || sure[f.ID][t.ID]:
			case drawn == maxPossible:
				left++
			default:
				drawn++
				c.Edges = append(c.Edges, picture.Edge{From: ids[f.ID], To: ids[t.ID], Kind: "connects", Possible: true})
			}
		}
	}
	if left > 0 {
		c.Unknown = append(c.Unknown, fmt.Sprintf("of %s it is not known whether they may talk, and they are not drawn", count(left, "more pair", "more pairs")))
	}
}

// each draws every pair for itself.
func (c *canvas) each(ids map[int]string, from, to []int, ports string) {
	for _, f := range from {
		for _, t := range to {
			if f != t {
				c.Edges = append(c.Edges, picture.Edge{From: ids[f], To: ids[t], Label: ports, Kind: "connects"})
			}
		}
	}
}

func (a *Matrix) drawNamespaces(c *canvas) {
	if a.LinksLeftOut {
		c.Unknown = append(c.Unknown, "there are too many namespaces for what reaches what to be drawn: name FROM or TO")
	}
	for _, n := range a.Namespaces {
		c.node(picture.Node{ID: "namespace " + n.Name, Label: name(n.Name), Kind: "Namespace", Fields: []picture.Field{{Name: "workloads", Value: fmt.Sprint(n.Workloads)}}})
	}
	for _, l := range a.Links {
		if l.From != l.To {
			c.Edges = append(c.Edges, picture.Edge{From: "namespace " + l.From, To: "namespace " + l.To, Label: l.words(), Kind: "connects"})
		}
	}
}

// pairs returns, by the class that sends, those that it reaches on a port, given
// what yields sets that reach others.
func pairs(each func(func(from, to []int, ports network.PortSet)), wanted asked) map[int]map[int]bool {
	out := map[int]map[int]bool{}
	each(func(from, to []int, ports network.PortSet) {
		if !wanted.among(ports) {
			return
		}
		for _, f := range from {
			if out[f] == nil {
				out[f] = make(map[int]bool, len(to))
			}
			for _, t := range to {
				if t != f {
					out[f][t] = true
				}
			}
		}
	})
	return out
}
