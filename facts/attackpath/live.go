// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"hash/maphash"
	"maps"
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/graph"
	"sconce.dev/sconce/object"
)

// Kind is the kind of the facts. They are about everything at which an attacker
// may begin: what holds pods (what owns them, where that is there), bindings that
// let somebody edit a namespace, and ServiceAccounts whose token may be kept
// outside.
//
//	kind: AttackPath
//	facts:
//	  begins: any-pod            # or namespace-editor, ci-token
//	  exposed: true              # of a workload: the internet can connect to it; unknown where it may
//	  reaches:                   # whether a path leads there; unknown where only
//	    clusterAdmin: true       # a possible one does, or not all was read
//	    node: false
//	    secrets: true
//	  paths:                     # the one of least effort to each
//	  - from: any-pod            # internet, of what is exposed
//	    to: cluster-admin
//	    effort: 3
//	    length: 2
//	    steps: ["container app of Deployment shop/web …"]
//	    break: [{object: Deployment.apps shop/web, control: unneeded-token, change: "…"}]
//	    possible: false
//	    unknown: []              # why it may not be there
const Kind = "AttackPath"

// Whole derives the facts from all objects.
var Whole = facts.Whole{
	Kinds:   []string{Kind},
	From:    func(string) facts.Sources { return sources() },
	Keep:    Keep,
	KeepFor: KeepFor,
	Derive:  derive,
	Live:    func() facts.Live { return newLive() },
}

// sources are the kinds of objects that the graph comes from.
func sources() facts.Sources {
	out := facts.Sources{Pods: true, Kinds: []object.GroupKind{
		{Kind: "ServiceAccount"}, {Kind: "Secret"}, {Kind: "Node"}, {Kind: "Namespace"}, {Kind: "Service"}, {Kind: "PersistentVolumeClaim"},
	}}
	add := func(gk object.GroupKind) {
		if gk.Group != facts.Group && !slices.Contains(out.Kinds, gk) {
			out.Kinds = append(out.Kinds, gk)
		}
	}
	for _, whole := range []facts.Whole{rbac.Whole, network.Whole} {
		for _, gk := range whole.From(whole.Kinds[0]).Kinds {
			add(gk)
		}
	}
	for _, e := range mustEdges() {
		if e.Condition == nil || e.Condition.Match == nil {
			continue
		}
		for _, k := range e.Condition.Match.Kinds {
			add(object.GroupKind{Group: k.Group, Kind: k.Kind})
		}
	}
	return out
}

func derive(kept []any, env *facts.Env, yield func(*object.Object)) {
	l := newLive()
	for _, k := range kept {
		if k, ok := k.(*Kept); ok {
			l.Set(k.ref, k)
		}
	}
	l.Settle(env, func(_ object.Ref, all []*object.Object) {
		for _, fact := range all {
			yield(fact)
		}
	})
}

// live keeps the facts up to date.
type live struct {
	g    *Graph
	env  facts.Env
	kept map[object.Ref]*Kept // until the graph is made
	sent map[object.Ref]*sent
	seed maphash.Seed
	// restarts is that of the graph when facts were last told; round counts these.
	restarts, round int
}

// sent is what was last told of an object: the sum of it, and in which round the
// object was last a beginning.
type sent struct {
	sum   uint64
	round int
}

func newLive() *live {
	return &live{kept: map[object.Ref]*Kept{}, sent: map[object.Ref]*sent{}, seed: maphash.MakeSeed()}
}

// Set takes what Keep returned of an object.
func (l *live) Set(ref object.Ref, kept any) {
	if s := l.sent[ref]; s != nil && kept == nil {
		s.sum = 0 // if it comes back, its facts are new
	}
	if l.g != nil {
		l.g.Set(ref, kept)
		return
	}
	if k, ok := kept.(*Kept); ok {
		l.kept[ref] = k
	} else {
		delete(l.kept, ref)
	}
}

// Settle hands over the facts that are not as they were.
func (l *live) Settle(env *facts.Env, changed func(subject object.Ref, facts []*object.Object)) {
	if l.g == nil || l.env != *env {
		l.start(env)
	}
	l.g.flatten()
	l.round++
	anew := l.restarts != l.g.restarts // numbers are new, and so is every sum
	l.restarts = l.g.restarts
	fresh, gone := map[object.Ref]*beginning{}, []object.Ref{}
	l.g.beginnings(func(ref object.Ref, b *beginning) {
		sum, before := l.g.sum(b, l.seed), l.sent[ref]
		switch {
		case before == nil:
			l.sent[ref] = &sent{sum, l.round}
		case before.sum == sum && !anew:
			before.round = l.round
			return
		default:
			*before = sent{sum, l.round}
		}
		fresh[ref] = &beginning{kind: b.kind, about: b.about, at: b.at, exposed: b.exposed, doubt: b.doubt}
	})
	for ref, s := range l.sent {
		if s.round != l.round {
			gone = append(gone, ref)
			delete(l.sent, ref)
		}
	}
	jewels := l.g.Jewels()
	for _, ref := range slices.SortedFunc(maps.Keys(fresh), compareRefs) {
		b := fresh[ref]
		l.g.ways(b, jewels)
		changed(ref, []*object.Object{l.g.fact(b)})
	}
	slices.SortFunc(gone, compareRefs)
	for _, ref := range gone {
		changed(ref, nil)
	}
}

// start makes the graph anew, of what it was made of or is to be.
func (l *live) start(env *facts.Env) {
	if l.g != nil {
		l.kept = l.g.own.objects
	}
	kept := make([]any, 0, len(l.kept))
	for _, k := range l.kept {
		kept = append(kept, k)
	}
	l.g, l.env, l.restarts, l.kept = New(kept, env), *env, -1, nil
}

// beginning is something at which an attacker may begin.
type beginning struct {
	kind  string
	about *object.Object
	at    int32
	// exposed is the way from the internet to a workload; nil for none.
	exposed []int32
	// doubt is why it may not be exposed.
	doubt string
	ways  []way
	edges []int32 // of the ways
}

// way is a path from a beginning to a thing that must not be lost.
type way struct {
	from    string
	to      Jewel
	begin   int32
	edges   []int32
	weight  int
	there   bool
	outside bool
}

// beginnings yields all of them, by their objects, in no order. What is yielded
// changes with the next.
func (g *Graph) beginnings(yield func(object.Ref, *beginning)) {
	exposed, jewels := g.exposed(), g.Jewels()
	b := &beginning{}
	add := func(kind string, k *Kept, t thing) {
		v, ok := g.vertex(t)
		if k == nil || k.about == nil || !ok {
			return
		}
		b.kind, b.about, b.at, b.exposed, b.doubt = kind, k.about, v, nil, ""
		if kind == EntryPod {
			g.expose(b, exposed[v])
		}
		g.ways(b, jewels)
		yield(k.ref, b)
	}
	for key, members := range g.own.groups {
		leader := leaderOf(members)
		add(EntryPod, leader, leader.vertex(key.namespace, Workload))
	}
	for bound, of := range g.roles.bound {
		if role := roleOf(bound); role.scope != "" && g.edits(of.rules) {
			add(EntryEditor, g.own.objects[bound.Ref], role.thing())
		}
	}
	for _, t := range g.tokens() {
		add(EntryToken, g.own.accounts[name{t.namespace, t.name}], t)
	}
}

// expose notes how the internet connects to a workload, if it does.
func (g *Graph) expose(b *beginning, outside []int32) {
	b.exposed = outside
	if outside != nil && g.weight(outside) >= doubtful {
		b.doubt = g.path(g.flat.Edge(outside[0]).From, graph.Path{Edges: outside}).Unknown[0]
	}
}

// exposed are the ways from the internet to the workloads that it can connect
// to, by their vertices.
func (g *Graph) exposed() map[int32][]int32 {
	out := map[int32][]int32{}
	outside, ok := g.vertex(thing{kind: Outside})
	if !ok {
		return out
	}
	var follow func(at int32, way []int32)
	follow = func(at int32, way []int32) {
		first, edges := g.flat.Out(at)
		for i := range edges {
			to, way := edges[i].To, append(slices.Clip(way), first+int32(i))
			switch g.thing(to).kind {
			case Setting, Endpoint:
				follow(to, way)
			case Workload:
				if at != outside && (out[to] == nil || g.weight(way) < g.weight(out[to])) {
					out[to] = way
				}
			}
		}
	}
	follow(outside, nil)
	return out
}

// ways finds the shortest ways of a beginning.
func (g *Graph) ways(b *beginning, jewels []Jewel) {
	b.ways, b.edges = b.ways[:0], b.edges[:0]
	for _, j := range jewels {
		t := g.tree(g.thing(int32(j.Vertex)))
		w := way{from: b.kind, to: j, begin: b.at}
		from := len(b.edges)
		if w.there = t.Reaches(b.at); w.there {
			b.edges = t.AppendWay(b.edges, b.at)
			w.edges = b.edges[from:len(b.edges):len(b.edges)]
			w.weight = g.weight(w.edges)
		}
		b.ways = append(b.ways, w)
		if b.exposed == nil || !w.there {
			continue
		}
		from = len(b.edges)
		b.edges = append(append(b.edges, b.exposed...), w.edges...)
		w.from, w.begin, w.outside = EntryInternet, g.flat.Edge(b.exposed[0]).From, true
		w.edges = b.edges[from:len(b.edges):len(b.edges)]
		w.weight += g.weight(b.exposed)
		b.ways = append(b.ways, w)
	}
}

// weight is that of edges together.
func (g *Graph) weight(edges []int32) int {
	sum := 0
	for _, e := range edges {
		sum += int(g.flat.Edge(e).Weight)
	}
	return sum
}

// sum is the same for beginnings of which the same is to be said.
func (g *Graph) sum(b *beginning, seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(b.kind)
	maphash.WriteComparable(&h, b.about)
	maphash.WriteComparable(&h, b.exposed != nil)
	_, _ = h.WriteString(b.doubt)
	for _, w := range b.ways {
		maphash.WriteComparable(&h, w.there)
		maphash.WriteComparable(&h, len(w.edges))
		_, _ = h.WriteString(w.from)
		for _, i := range w.edges {
			e := g.flat.Edge(i)
			l := g.links[e.Label]
			maphash.WriteComparable(&h, [4]int32{g.names.sorted[e.From], g.names.sorted[e.To], int32(l.edge.order()), e.Weight})
			_, _ = h.WriteString(l.possible)
			if l.because != nil {
				maphash.WriteComparable(&h, l.because.object)
				_, _ = h.WriteString(l.because.words)
			}
			if c := g.changeAt(e.To); c != nil {
				maphash.WriteComparable(&h, c.Position)
			}
		}
	}
	return max(1, h.Sum64())
}

// fields are what the facts call the things that must not be lost.
var fields = map[string]string{JewelCluster: "clusterAdmin", JewelNode: "node", JewelSecrets: "secrets"}

// fact says what is to be said of a beginning.
func (g *Graph) fact(b *beginning) *object.Object {
	reaches, paths := facts.Map(), facts.List()
	for _, w := range b.ways {
		if !w.outside && fields[w.to.Name] != "" {
			reaches.Fields = append(reaches.Fields, facts.Field(fields[w.to.Name], g.reaches(w)))
		}
		if w.there {
			paths.Items = append(paths.Items, g.said(w))
		}
	}
	all := []object.Field{facts.Field("begins", object.NewString(b.kind))}
	if b.kind == EntryPod {
		exposed := object.NewBool(b.exposed != nil)
		switch {
		case b.doubt != "":
			exposed = object.NewUnknown("it may be exposed: " + b.doubt)
		case b.exposed == nil:
			exposed = g.env.Absent(exposed, "what exposes it is not among what was read")
		}
		all = append(all, facts.Field("exposed", exposed))
	}
	all = append(all, facts.Field("reaches", reaches), facts.Field("paths", paths))
	return facts.New(Kind, b.about, []object.Field{facts.Field("facts", facts.Map(all...))})
}

// reaches says whether a way is there.
func (g *Graph) reaches(w way) *object.Node {
	switch {
	case !w.there:
		return g.env.Absent(object.NewBool(false), "what is not among what was read may lead on")
	case w.weight >= doubtful:
		p := g.path(w.begin, graph.Path{Edges: w.edges})
		return object.NewUnknown("a path may lead to " + w.to.Name + ": " + p.Unknown[0])
	}
	return object.NewBool(true)
}

// said is a way as a fact says it.
func (g *Graph) said(w way) *object.Node {
	p := g.path(w.begin, graph.Path{Edges: w.edges})
	steps, breaks := facts.List(), facts.List()
	var seen []string
	for _, s := range p.Steps {
		steps.Items = append(steps.Items, object.NewString(s.Words))
		for _, c := range s.Changes {
			if slices.Contains(seen, c.Key) {
				continue
			}
			seen = append(seen, c.Key)
			breaks.Items = append(breaks.Items, facts.Map(
				facts.Field("object", object.NewString(c.Object.String())),
				facts.Field("control", object.NewString(c.Control)),
				facts.Field("change", object.NewString(c.Words))))
		}
	}
	return facts.Map(
		facts.Field("from", object.NewString(w.from)),
		facts.Field("to", object.NewString(w.to.Name)),
		facts.Field("effort", object.NewInt(int64(p.Effort))),
		facts.Field("length", object.NewInt(int64(len(p.Steps)))),
		facts.Field("steps", steps),
		facts.Field("break", breaks),
		facts.Field("possible", object.NewBool(p.Possible())),
		facts.Field("unknown", facts.Strings(p.Unknown)))
}
