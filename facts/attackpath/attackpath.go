// SPDX-License-Identifier: Apache-2.0

// Package attackpath is the graph of what an attacker can do next: a directed
// graph over what is outside, workloads and their containers, nodes, identities,
// Secrets, volumes and the cluster as a whole, in which an edge says that who
// holds one thing can come to hold another. It answers which ways lead from where
// an attacker may begin to what must not be lost, and which changes close most
// of them.
//
// The edges are data (see Edge), except for those that join objects of several
// kinds. Who holds which permission comes from facts/rbac, who can connect to
// whom from facts/network.
//
// Whatever a person can change is a vertex of its own (a Setting or a Binding),
// through which everything runs that follows from it, so that the fewest changes
// that break all paths are a minimum vertex cut. Things of a kind in a scope are
// held through one vertex for all of them, so that the graph grows with the
// number of objects and not with its square.
//
// What may be there and may not (a template, a policy of a kind that is not
// modelled) is a possible step, and says why. Where only possible steps are left
// the answer is not that there is no path: it is not known.
//
// The package judges nothing, does no I/O and reads no clock.
package attackpath

import (
	"cmp"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/graph"
	"sconce.dev/sconce/object"
)

// Graph is the attack graph of one cluster or tree. It may not be used from
// several goroutines at once: what is asked of it is worked out when it is first
// asked.
type Graph struct {
	env      facts.Env
	edges    []*Edge
	identity *rbac.Model
	network  *network.Model
	assumed  map[int]bool
	chosen   []string // namespaces that must not be lost

	names names
	// restarts counts how often things were numbered anew.
	restarts int
	units    map[unitKey]*unit
	own      ownIndex
	roles    roleIndex
	net      networkIndex

	// What is worked out of the units when something is asked.
	dirty bool
	flat  *graph.Graph
	links []*link // by label of the flat graph's edges
	// edgesOf is memory for the edges, while the flat graph is made.
	edgesOf []graph.Edge
	trees   map[thing]*graph.Tree
	// changes are what a person can change, by numbers of things.
	changes []*Change
	// states are what matched said of edges when links were last made.
	states     map[int]string
	admissions []admission
	nodeless   bool // there were no Nodes
}

// Path is a way from one vertex to another.
type Path struct {
	From, To int
	// Effort is the sum of the steps'.
	Effort int
	Steps  []Step
	// Unknown says why steps of the path may not be there; none where all are.
	Unknown []string
}

// Possible says whether the path may not be there.
func (p *Path) Possible() bool { return len(p.Unknown) > 0 }

// Step is one step of an attacker. From and To are things; what lies between
// (a binding and what it grants, a setting) is told by Because and Change.
type Step struct {
	Edge     *Edge
	From, To int
	// Words say the step in a sentence without a full stop.
	Words   string
	Because []Cause
	// Change is what takes the step away; nil where nothing that a person can
	// change does, or where the catalogue knows of nothing. Changes are all that
	// do, each by itself.
	Change  *Change
	Changes []*Change
	// Unknown says why the step may not be there.
	Unknown string

	effort int
}

// Cause is an object that a step comes from.
type Cause struct {
	Object   object.Ref      `json:"object"`
	Position object.Position `json:"position,omitzero"`
	Words    string          `json:"words,omitempty"`
}

// Change is something that a person can change, and that takes steps away.
type Change struct {
	// Key is the same for the same change.
	Key    string     `json:"key"`
	Object object.Ref `json:"object"`
	// Position is where a person edits it.
	Position object.Position `json:"position,omitzero"`
	// Control is a control of the catalogue that passes once this is done; ""
	// where there is none.
	Control string `json:"control,omitempty"`
	// Words say what to do.
	Words string `json:"words"`
}

// Pair is a kind of beginning and a thing that must not be lost.
type Pair struct {
	Entry, Jewel string
	// Entries are how many beginnings of the kind there are; Reaching of how many
	// of them a path leads to the jewel, and Possible of how many only a path
	// that may not be there.
	Entries, Reaching, Possible int
	// From are the vertices of those from which a path leads, Maybe of those from
	// which only one does that may not be there.
	From, Maybe []int
	// Shortest is the path of least effort; nil where there is none.
	Shortest *Path
	// Unknown says why there may be a path where none was found.
	Unknown []string
}

// Cut is what closes ways.
type Cut struct {
	// Changes are the fewest that break every path that can be broken, the one
	// that breaks most first.
	Changes []Ranked
	// Exact says that no fewer do. It is false where one change takes away steps
	// that had to be counted apart.
	Exact bool
	// Open are beginnings from which a way leads on that no change breaks, with
	// such a way.
	Open []Path
	// Paths counts pairs of a beginning and an end between which a path leads.
	Paths int
}

// Ranked is a change and what it breaks.
type Ranked struct {
	*Change
	// Breaks counts the pairs of a beginning and an end that this change alone
	// leaves no path, and Cumulated those that are left none when it is made
	// after those before it.
	Breaks, Cumulated int
}

// New returns the graph of objects, given what Keep returned of each, in any
// order.
func New(kept []any, env *facts.Env) *Graph {
	g := &Graph{
		edges: mustEdges(), assumed: map[int]bool{}, names: names{number: map[thing]int32{}}, units: map[unitKey]*unit{},
		own: newOwnIndex(mustEdges()), roles: newRoleIndex(), net: networkIndex{stale: true}, dirty: true,
	}
	if env != nil {
		g.env = *env
	}
	var identities, networks []any
	for _, k := range kept {
		k, ok := k.(*Kept)
		if !ok {
			continue
		}
		if k.identity != nil {
			identities = append(identities, k.identity)
		}
		if k.network != nil {
			networks = append(networks, k.network)
		}
		g.own.set(k.ref, k)
	}
	g.identity = rbac.NewModel(identities, &g.env)
	g.network = network.NewModel(networks, &g.env)
	return g
}

// Set takes what Keep returned of an object in place of what it returned before;
// nil takes the object away.
func (g *Graph) Set(ref object.Ref, kept any) {
	k, _ := kept.(*Kept)
	var identity, net any
	if k != nil {
		identity, net = k.identity, k.network
	}
	before := g.own.objects[ref]
	if identity != nil || before != nil && before.identity != nil {
		g.identity.Set(ref, identity)
		if kept := cmp.Or(k, before); kept.workload == nil && kept.account == nil && kept.secret == nil {
			g.roles.stale = true
		}
	}
	if net != nil || before != nil && before.network != nil {
		g.network.Set(ref, net)
		g.net.stale = true
	}
	g.own.set(ref, k)
	g.dirty = true
}

// Identity is the model of permissions that the graph is made of.
func (g *Graph) Identity() *rbac.Model { return g.identity }

// Network is the model of connectivity that the graph is made of.
func (g *Graph) Network() *network.Model { return g.network }
