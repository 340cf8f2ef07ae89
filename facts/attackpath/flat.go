// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"fmt"
	"slices"

	"sconce.dev/sconce/graph"
)

// doubtful is what a possible step weighs more than a sure one, so that a path
// that is sure comes before any that is not.
const doubtful = 1000

// flatten brings the flat graph up to date.
func (g *Graph) flatten() {
	if !g.dirty && g.flat != nil {
		return
	}
	g.update()
	g.names.arrange()
	total := 0
	for _, u := range g.units {
		total += len(u.links)
	}
	edges := slices.Grow(g.edgesOf[:0], total)
	g.links = g.links[:0]
	for _, u := range g.units {
		for i := range u.links {
			l := &u.links[i]
			weight := int32(0)
			if l.edge != nil {
				weight = int32(l.edge.Effort)
			}
			if l.possible != "" {
				weight += doubtful
			}
			edges = append(edges, graph.Edge{From: g.names.rank[l.from], To: g.names.rank[l.to], Weight: weight, Label: int32(len(g.links))})
			g.links = append(g.links, l)
		}
	}
	g.flat = graph.NewSorted(len(g.names.things), edges, g.compareLinks)
	g.edgesOf = edges
	g.trees = map[thing]*graph.Tree{}
	g.dirty = false
}

// compareLinks orders links between the same two things, so that of several the
// same one is taken whatever came first.
func (g *Graph) compareLinks(a, b int32) int {
	x, y := g.links[a], g.links[b]
	return cmp.Or(cmp.Compare(x.edge.order(), y.edge.order()), cmp.Compare(x.possible, y.possible), x.because.compare(y.because))
}

func (e *Edge) order() int {
	if e == nil {
		return -1
	}
	return e.index
}

func (b *because) compare(c *because) int {
	switch {
	case b == nil || c == nil:
		return cmp.Compare(boolInt(b != nil), boolInt(c != nil))
	case b.object == c.object: // as a rule
		return cmp.Compare(b.words, c.words)
	}
	return cmp.Or(compareRefs(b.object, c.object), cmp.Compare(b.words, c.words))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// thing is what a vertex of the flat graph stands for.
func (g *Graph) thing(v int32) thing { return g.names.things[g.names.sorted[v]] }

// vertex is that of a thing; false where there is none.
func (g *Graph) vertex(t thing) (int32, bool) {
	i, ok := g.names.number[t]
	if !ok || int(i) >= len(g.names.rank) {
		return 0, false
	}
	return g.names.rank[i], true
}

// changeAt is what a person can change at a vertex; nil for nothing.
func (g *Graph) changeAt(v int32) *Change {
	if i := g.names.sorted[v]; int(i) < len(g.changes) {
		return g.changes[i]
	}
	return nil
}

// tree is the shortest ways to a thing.
func (g *Graph) tree(t thing) *graph.Tree {
	if g.trees[t] == nil {
		var roots []int32
		if v, ok := g.vertex(t); ok {
			roots = append(roots, v)
		}
		g.trees[t] = g.flat.Tree(roots, graph.Backward, nil)
	}
	return g.trees[t]
}

// path tells a way of the flat graph as steps of an attacker.
func (g *Graph) path(begin int32, p graph.Path) Path {
	out := Path{From: int(begin), To: int(begin)}
	s := stepper{g: g, at: begin}
	for _, i := range p.Edges {
		e := g.flat.Edge(i)
		s.follow(g.links[e.Label], e.To)
		out.To = int(e.To)
	}
	s.end()
	out.Steps = s.steps
	for i := range out.Steps {
		step := &out.Steps[i]
		if step.Edge != nil {
			out.Effort += step.effort
		}
		if step.Unknown != "" && !slices.Contains(out.Unknown, step.Unknown) {
			out.Unknown = append(out.Unknown, step.Unknown)
		}
	}
	return out
}

// stepper puts links together to steps. A step goes from a thing to the next,
// and through what lies between: a binding, what it grants, a setting.
type stepper struct {
	g     *Graph
	at    int32 // the thing that is held
	now   Step
	acted bool // the step has an edge
	steps []Step
}

func (s *stepper) follow(l *link, to int32) {
	if l.edge != nil {
		// What permissions are held by is told with what they are used for.
		if !s.acted || s.now.Edge.ID == holdsPermission {
			s.now.Edge = l.edge
		}
		s.acted = true
		s.now.effort += l.edge.Effort
	}
	if l.because != nil {
		s.now.Because = append(s.now.Because, l.because.cause())
	}
	if l.possible != "" && s.now.Unknown == "" {
		s.now.Unknown = l.possible
	}
	if c := s.g.changeAt(to); c != nil {
		s.now.Changes = append(s.now.Changes, c)
	}
	kind := s.g.thing(to).kind
	switch {
	case kind >= Binding:
	case s.acted && s.now.Edge.ID != holdsPermission:
		s.now.From, s.now.To = int(s.at), int(to)
		s.finish()
		s.at = to
	case kind == Container || !s.acted && s.g.thing(s.at).kind != ServiceAccount:
		s.at = to // a workload's container, a node as any node
		s.merge(to)
	}
}

// merge lets the last step end where nothing more had to be done to come.
func (s *stepper) merge(to int32) {
	if n := len(s.steps); n > 0 && s.g.thing(to).kind != Container {
		s.steps[n-1].To = int(to)
	}
}

// finish ends a step.
func (s *stepper) finish() {
	s.now.tie()
	s.now.Words = s.g.thing(int32(s.now.From)).words() + " " + s.now.Edge.Title + ": " + s.g.thing(int32(s.now.To)).words()
	s.steps = append(s.steps, s.now)
	s.now, s.acted = Step{}, false
}

// end ends the last step, which may lead to what is no thing.
func (s *stepper) end() {
	if s.acted {
		s.now.From, s.now.To = int(s.at), int(s.at)
		s.finish()
	}
}

// tie ties the change of a binding to the control that the edge names.
func (s *Step) tie() {
	for i, c := range s.Changes {
		if c.Control == "" && s.Edge != nil && s.Edge.mitigation() != nil {
			tied := *c
			tied.Control = s.Edge.mitigation().Control
			s.Changes[i] = &tied
		}
	}
	if len(s.Changes) > 0 {
		s.Change = s.Changes[0]
	}
}

// Name returns what a vertex is called when it is asked for.
func (g *Graph) Name(vertex int) string {
	if vertex < 0 || vertex >= len(g.names.sorted) {
		return fmt.Sprintf("vertex %d", vertex)
	}
	return g.thing(int32(vertex)).String()
}

// Kind returns what a vertex is.
func (g *Graph) Kind(vertex int) NodeKind {
	if vertex < 0 || vertex >= len(g.names.sorted) {
		return Impact
	}
	return g.thing(int32(vertex)).kind
}

// Words says a vertex in a sentence.
func (g *Graph) Words(vertex int) string {
	if vertex < 0 || vertex >= len(g.names.sorted) {
		return g.Name(vertex)
	}
	return g.thing(int32(vertex)).words()
}
