// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"slices"
	"sync"

	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// gathered are the objects that rules of policies look up, or judge among others.
// Of these, and of no others, the whole object is held.
type gathered struct {
	index   int // of the verdicts among a record's blocks
	objects map[*record]*object.Object
	byKind  map[object.GroupKind]map[*record]bool
	// changed are those whose own state is to be judged, by all rules that need
	// other objects; due those that others of a changed kind may decide, and by
	// which rules.
	changed map[*record]bool
	due     map[*record][]int
	// kinds and spaces are the kinds, and the namespaces, that something looks up
	// and of which something has changed; every says that all is to be judged again.
	kinds  map[object.GroupKind]bool
	spaces map[string]bool
	every  bool
	// cluster is what rules are told of; nil where something of it has changed.
	cluster policy.Cluster
	whole   bool // no object is missing since it could not be judged

	settling sync.Mutex // held while verdicts are worked out
}

func newGathered(wholes int) *gathered {
	return &gathered{
		index: 1 + 2*wholes, objects: map[*record]*object.Object{}, byKind: map[object.GroupKind]map[*record]bool{},
		changed: map[*record]bool{}, due: map[*record][]int{}, kinds: map[object.GroupKind]bool{}, spaces: map[string]bool{}, whole: true,
	}
}

// gather keeps an object that rules need, or lets it go.
func (s *State) gather(r *record, o *object.Object, x *engine.Examined) {
	gk := o.GroupKind()
	gathers, lookedUp := s.e.Gathers(gk)
	g := s.gathered
	if !gathers || x.Result == nil {
		g.forget(s.e, r)
		return
	}
	old := g.objects[r]
	g.objects[r] = o
	if g.byKind[gk] == nil {
		g.byKind[gk] = map[*record]bool{}
	}
	g.byKind[gk][r] = true
	if old != nil && sameButVersion(old.Root, o.Root) {
		return
	}
	g.changed[r] = true
	if lookedUp {
		g.touch(o.Ref)
	}
}

// touch notes that an object that is looked up is not what it was.
func (g *gathered) touch(ref object.Ref) {
	g.cluster = nil
	g.kinds[ref.GroupKind()] = true
	if ref.GroupKind() == namespaceKind {
		g.spaces[ref.Name] = true
	}
}

// touchAll notes that what is known of all of them has changed.
func (g *gathered) touchAll() { g.cluster, g.every = nil, true }

var namespaceKind = object.GroupKind{Kind: "Namespace"}

// sameButVersion says whether two states of an object differ in nothing but what
// the API server counts and notes of each change.
func sameButVersion(a, b *object.Node) bool {
	if len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Fields {
		key := a.Fields[i].Key
		if key == "metadata" {
			if !sameMeta(a.Fields[i].Value, b.Get(key)) {
				return false
			}
		} else if !a.Fields[i].Value.Equal(b.Get(key)) {
			return false
		}
	}
	return true
}

func sameMeta(a, b *object.Node) bool {
	noted := []string{"resourceVersion", "managedFields", "generation"}
	for _, x := range []*object.Node{a, b} {
		if x == nil || x.Kind != object.Map {
			return a.Equal(b)
		}
	}
	for _, pair := range [][2]*object.Node{{a, b}, {b, a}} {
		for i := range pair[0].Fields {
			f := &pair[0].Fields[i]
			if !slices.Contains(noted, f.Key) && !f.Value.Equal(pair[1].Get(f.Key)) {
				return false
			}
		}
	}
	return true
}

// forget lets an object go that is no more, or that no rule needs.
func (g *gathered) forget(e *engine.Engine, r *record) {
	o := g.objects[r]
	if o == nil {
		return
	}
	if _, lookedUp := e.Gathers(o.GroupKind()); lookedUp {
		g.touch(o.Ref)
	}
	delete(g.objects, r)
	delete(g.byKind[o.GroupKind()], r)
	delete(g.changed, r)
	delete(g.due, r)
}

// spread notes which objects are to be judged again since others have changed, and
// by which rules: those that look up what has.
func (g *gathered) spread(e *engine.Engine) {
	if !g.every && len(g.kinds) == 0 {
		return
	}
	looking := map[int]bool{}
	own := map[int]bool{}
	for gk := range g.kinds {
		lookers, ofSpaces := e.Lookers(gk)
		for _, i := range lookers {
			looking[i] = true
		}
		for _, i := range ofSpaces {
			own[i] = true
		}
	}
	for gk, records := range g.byKind {
		among := e.Among(gk)
		anywhere := slices.DeleteFunc(slices.Clone(among), func(i int) bool { return !g.every && !looking[i] })
		there := slices.DeleteFunc(slices.Clone(among), func(i int) bool { return !g.every && !looking[i] && !own[i] })
		if len(there) == 0 {
			continue
		}
		for r := range records {
			rules := anywhere
			if g.spaces[r.ref.Namespace] || gk == namespaceKind && g.spaces[r.ref.Name] {
				rules = there
			}
			if len(rules) > 0 && !g.changed[r] {
				g.due[r] = union(g.due[r], rules)
			}
		}
	}
	g.every = false
	clear(g.kinds)
	clear(g.spaces)
}

// union joins two lists of indexes, each sorted.
func union(a, b []int) []int {
	if len(a) == 0 || slices.Equal(a, b) {
		return b
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// lookedUp returns what rules are told of the objects that they look up.
func (s *State) lookedUp() policy.Cluster {
	g := s.gathered
	if g.cluster != nil {
		return g.cluster
	}
	var objects []*object.Object
	for gk, records := range g.byKind {
		if _, lookedUp := s.e.Gathers(gk); !lookedUp {
			continue
		}
		for r := range records {
			objects = append(objects, g.objects[r])
		}
	}
	unread := map[object.GroupKind]bool{}
	for kind := range s.problems {
		unread[kind] = true
	}
	complete, whole := s.e.Complete(unread), s.partial == 0
	g.cluster = s.e.NewCluster(objects, func(of object.GroupKind) bool { return whole && complete(of) })
	return g.cluster
}

// rejudged is an object on its way to be judged again.
type rejudged struct {
	r     *record
	o     *object.Object
	rules []int // nil for all
	v     *engine.Result
}

// queue returns what is to be judged again: what has changed, and with dependents
// what depends on it.
func (s *State) queue(dependents bool) ([]rejudged, policy.Cluster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gathered
	if whole := s.partial == 0; whole != g.whole {
		g.whole = whole
		g.touchAll()
	}
	g.spread(s.e)
	var out []rejudged
	for r := range g.changed {
		delete(g.due, r)
		out = append(out, rejudged{r: r, o: g.objects[r]})
	}
	if dependents {
		for r, rules := range g.due {
			out = append(out, rejudged{r: r, o: g.objects[r], rules: rules})
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	slices.SortFunc(out, func(a, b rejudged) int { return compareRefs(a.o.Ref, b.o.Ref) })
	return out, s.lookedUp()
}

// together is how many objects are judged before their verdicts are taken over:
// meanwhile the state can be asked, and told of others.
const together = 64

// settleGathered judges again, by rules that need other objects, what has changed,
// and with dependents what depends on it, by the rules that look at it.
func (s *State) settleGathered(ctx context.Context, dependents bool) (delta Delta) {
	g := s.gathered
	g.settling.Lock()
	defer g.settling.Unlock()
	all, cluster := s.queue(dependents)
	for some := range slices.Chunk(all, together) {
		if ctx.Err() != nil {
			return delta // the rest is still to be judged
		}
		for i := range some {
			some[i].v = s.e.JudgeAmong(some[i].o, cluster, some[i].rules)
		}
		delta.add(s.takeOver(some))
	}
	return delta
}

// takeOver puts verdicts in the place of those before, unless the object is not
// what was judged any more.
func (s *State) takeOver(some []rejudged) (delta Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gathered
	for _, x := range some {
		if g.objects[x.r] != x.o {
			continue
		}
		if x.rules == nil {
			delete(g.changed, x.r)
			delta.add(s.replace(x.r, g.index, x.v))
			continue
		}
		delete(g.due, x.r)
		delta.add(s.replaceSome(x.r, g.index, x.rules, x.v))
	}
	return delta
}
