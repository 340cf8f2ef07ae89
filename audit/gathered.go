// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"maps"
	"slices"

	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
)

// gathered are the objects that rules of policies look up, or judge among others.
// Of these, and of no others, the whole object is held.
type gathered struct {
	index   int // of the verdicts among a record's blocks
	objects map[*record]*object.Object
	changed map[*record]bool
	// stale says that something has changed that any of them may depend on.
	stale bool
}

func newGathered(wholes int) *gathered {
	return &gathered{index: 1 + 2*wholes, objects: map[*record]*object.Object{}, changed: map[*record]bool{}}
}

// gather keeps an object that rules need, or lets it go.
func (s *State) gather(r *record, o *object.Object, x *engine.Examined) {
	gathers, lookedUp := s.e.Gathers(o.GroupKind())
	g := s.gathered
	if !gathers || x.Result == nil {
		g.forget(s.e, r)
		return
	}
	old := g.objects[r]
	if old != nil && sameButVersion(old.Root, o.Root) {
		g.objects[r] = o
		return
	}
	g.objects[r], g.changed[r] = o, true
	g.stale = g.stale || lookedUp
}

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
	_, lookedUp := e.Gathers(o.GroupKind())
	g.stale = g.stale || lookedUp
	delete(g.objects, r)
	delete(g.changed, r)
}

// settleGathered judges again, by rules that need other objects, what has changed;
// all of it where that may be what others depend on.
func (s *State) settleGathered(ctx context.Context) (delta Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gathered
	if !g.stale && len(g.changed) == 0 {
		return delta
	}
	if g.stale {
		for r := range g.objects {
			g.changed[r] = true
		}
	}
	g.stale = false
	cluster := s.e.NewCluster(slices.Collect(maps.Values(g.objects)), s.known)
	for _, r := range slices.SortedFunc(maps.Keys(g.changed), func(a, b *record) int { return compareRefs(a.ref, b.ref) }) {
		if ctx.Err() != nil {
			return delta // the rest is still changed
		}
		delete(g.changed, r)
		delta.add(s.replace(r, g.index, s.e.JudgeAmong(g.objects[r], cluster)))
	}
	return delta
}

// known says whether there are no objects of a kind but those that are known.
func (s *State) known(gk object.GroupKind) bool {
	unread := map[object.GroupKind]bool{}
	for kind := range s.problems {
		unread[kind] = true
	}
	return s.partial == 0 && s.e.Complete(unread)(gk)
}
