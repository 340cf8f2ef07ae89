// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"reflect"
	"slices"

	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// whole is what one analyser kept of the objects, by its parts.
type whole struct {
	facts.Whole
	index int
	parts map[string]*part
	// told are values by key and by the part that tells them; asked are the
	// parts that asked for a key.
	told  map[string]map[string][]any
	asked map[string]map[string]bool
	// changed are the parts of which something that was kept has changed, stale
	// those whose facts must be derived again.
	changed, stale map[string]bool
	settled        bool   // what was complete when facts were last derived
	problem        string // a fault
	// live keeps facts up to date by itself, and no parts are used; nil for none.
	live facts.Live
}

// part is what was kept of the objects of a part.
type part struct {
	kept map[*record]any
	// tells are the keys under which it tells something, asks those that it
	// asked for.
	tells, asks map[string]bool
	// about are the objects that facts derived with the part are about.
	about map[*record]bool
}

func newWhole(i int, w facts.Whole) *whole {
	out := &whole{
		Whole: w, index: i, parts: map[string]*part{}, told: map[string]map[string][]any{}, asked: map[string]map[string]bool{},
		changed: map[string]bool{}, stale: map[string]bool{"": true},
	}
	if w.Live != nil {
		out.live = w.Live()
	}
	return out
}

// of names the part of an object.
func (w *whole) of(ref object.Ref) string {
	if w.Parts == nil {
		return ""
	}
	return w.Parts.Of(ref)
}

// part returns the part of a name.
func (w *whole) part(name string) *part {
	p := w.parts[name]
	if p == nil {
		p = &part{kept: map[*record]any{}, tells: map[string]bool{}, asks: map[string]bool{}, about: map[*record]bool{}}
		w.parts[name] = p
	}
	return p
}

// keep replaces what is kept of an object; nil is nothing. Where that is the
// same as before, nothing becomes stale.
func (w *whole) keep(r *record, kept any) {
	if w.live != nil {
		defer w.fault()
		w.stale[""] = true
		w.live.Set(r.ref, kept)
		return
	}
	name := w.of(r.ref)
	if kept == nil && w.parts[name] == nil {
		return
	}
	p := w.part(name)
	old, had := p.kept[r]
	switch {
	case kept == nil && !had, had && reflect.DeepEqual(old, kept):
		return
	case kept == nil:
		delete(p.kept, r)
	default:
		p.kept[r] = kept
	}
	w.changed[name] = true
}

// forget takes an object that is no more out of what facts were about.
func (w *whole) forget(r *record) {
	for _, name := range []string{w.of(r.ref), ""} {
		if p := w.parts[name]; p != nil && p.about[r] {
			delete(p.about, r)
			w.changed[name] = true
		}
	}
}

// staleAll makes all facts be derived again.
func (w *whole) staleAll() {
	w.stale[""] = true
	for name := range w.parts {
		w.stale[name] = true
	}
}

// list returns what was kept of the objects of a part, in an order that depends
// on nothing but their names.
func (p *part) list() []any {
	records := slices.SortedFunc(maps.Keys(p.kept), func(a, b *record) int { return compareRefs(a.ref, b.ref) })
	out := make([]any, len(records))
	for i, r := range records {
		out[i] = p.kept[r]
	}
	return out
}

// compareRefs orders objects by namespace, kind and name.
func compareRefs(a, b object.Ref) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Group(), b.Group()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// retell asks a part again what it tells the others, and makes those stale that
// asked for what is not the same any more.
func (w *whole) retell(name string) {
	w.stale[name] = true
	if w.Parts == nil || w.live != nil {
		return
	}
	p := w.part(name)
	tells := map[string][]any{}
	for _, t := range w.Parts.Tell(name, p.list()) {
		tells[t.Key] = append(tells[t.Key], t.Value)
	}
	for key, values := range tells {
		if w.told[key] == nil {
			w.told[key] = map[string][]any{}
		}
		if !reflect.DeepEqual(w.told[key][name], values) {
			w.told[key][name] = values
			w.staleAskers(key)
		}
	}
	for key := range p.tells {
		if _, still := tells[key]; still {
			continue
		}
		delete(w.told[key], name)
		if len(w.told[key]) == 0 {
			delete(w.told, key)
		}
		w.staleAskers(key)
	}
	p.tells = make(map[string]bool, len(tells))
	for key := range tells {
		p.tells[key] = true
	}
}

func (w *whole) staleAskers(key string) {
	for name := range w.asked[key] {
		w.stale[name] = true
	}
}

// ask returns what the other parts tell a part under a key, and remembers that
// it asked.
func (w *whole) ask(name, key string) []any {
	w.part(name).asks[key] = true
	if w.asked[key] == nil {
		w.asked[key] = map[string]bool{}
	}
	w.asked[key][name] = true
	var out []any
	for _, other := range slices.Sorted(maps.Keys(w.told[key])) {
		if other != name {
			out = append(out, w.told[key][other]...)
		}
	}
	return out
}

// forgetAsked forgets what a part asked for.
func (w *whole) forgetAsked(name string) {
	p := w.part(name)
	for key := range p.asks {
		delete(w.asked[key], name)
		if len(w.asked[key]) == 0 {
			delete(w.asked, key)
		}
	}
	clear(p.asks)
}

// Settle derives again those facts about several objects that depend on what
// has changed since it was last called, and judges those that are not as they
// were. It costs next to nothing if there are none. If the context ends, the
// rest is left to the next call.
func (s *State) Settle(ctx context.Context) Delta { return s.settleAll(ctx, true) }

// SettleChanged is Settle that leaves to the next Settle what rules of policies say
// of objects that have not changed themselves: one object that many look up may make
// that much.
func (s *State) SettleChanged(ctx context.Context) Delta { return s.settleAll(ctx, false) }

// Depends says whether SettleChanged has left something to Settle.
func (s *State) Depends() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.gathered.due) > 0
}

func (s *State) settleAll(ctx context.Context, dependents bool) Delta {
	var delta Delta
	for _, w := range s.wholes {
		for _, name := range s.stale(w) {
			if ctx.Err() != nil {
				return delta
			}
			if w.live != nil {
				delta.add(s.settleLive(w))
			} else {
				delta.add(s.settle(w, name))
			}
		}
	}
	delta.add(s.settleGathered(ctx, dependents))
	return delta
}

// settleLive takes over the facts that an analyser has kept up to date by itself.
func (s *State) settleLive(w *whole) (delta Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer w.fault()
	clear(w.stale)
	env := s.e.Env()
	env.Complete = w.settled
	w.live.Settle(&env, func(subject object.Ref, all []*object.Object) {
		if r := s.find(subject); r != nil {
			delta.add(s.replaceFacts(w, w.of(subject), r, all))
		}
	})
	return delta
}

// stale returns the parts of which facts must be derived again.
func (s *State) stale(w *whole) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer w.fault()
	if complete := s.complete(w); complete != w.settled {
		w.settled = complete
		w.staleAll()
	}
	for name := range w.changed {
		w.retell(name)
		delete(w.changed, name)
	}
	return slices.Sorted(maps.Keys(w.stale))
}

// fault keeps a fault of one analyser from ending the others. It is deferred.
func (w *whole) fault() {
	if r := recover(); r != nil {
		w.problem = fmt.Sprintf("a fault in Sconce kept facts about several objects from being derived; please report it: %v", r)
	}
}

// settle derives the facts of one part and judges those that are not as they
// were.
func (s *State) settle(w *whole, name string) (delta Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer w.fault()
	delete(w.stale, name)
	p := w.part(name)
	w.forgetAsked(name)
	env := s.e.Env()
	env.Complete = w.settled // the same for all parts: where that has changed, all are stale at the next call
	derived := map[*record][]*object.Object{}
	w.derive(name, &env, func(fact *object.Object) {
		if r := s.subject(w, fact.Subject().Ref); r != nil {
			derived[r] = append(derived[r], fact)
		}
	})
	for r := range p.about {
		if derived[r] == nil {
			delta.add(s.replaceFacts(w, name, r, nil))
		}
	}
	p.about = make(map[*record]bool, len(derived))
	for r, all := range derived {
		p.about[r] = true
		delta.add(s.replaceFacts(w, name, r, all))
	}
	if len(p.kept) == 0 && len(p.about) == 0 && name != "" {
		w.forgetAsked(name)
		delete(w.parts, name)
	}
	return delta
}

// derive yields the facts of one part.
func (w *whole) derive(name string, env *facts.Env, yield func(*object.Object)) {
	kept := w.part(name).list()
	if w.Parts == nil {
		w.Derive(kept, env, yield)
		return
	}
	asked := map[string][]any{}
	ask := func(key string) []any {
		all, ok := asked[key]
		if !ok {
			all = w.ask(name, key)
			asked[key] = all
		}
		return all
	}
	w.Parts.Derive(&facts.Part{Name: name, Kept: kept, Ask: ask}, env, yield)
}

// subject returns the record of what a fact is about. A fact that is derived
// from all objects may be about none of them: the version of Kubernetes.
func (s *State) subject(w *whole, ref object.Ref) *record {
	if r := s.find(ref); r != nil || w.Parts != nil {
		return r
	}
	r, _ := s.record(ref)
	r.virtual = true
	return r
}

// replaceFacts judges the facts about an object that were derived with a part,
// unless they are those that were judged before.
func (s *State) replaceFacts(w *whole, name string, r *record, all []*object.Object) Delta {
	i := 1 + w.index
	if w.of(r.ref) != name {
		i += len(s.wholes)
	}
	hash := s.hash(all)
	if i < len(r.blocks) && r.blocks[i].facts == hash {
		return Delta{}
	}
	var result *engine.Result
	for _, fact := range all {
		one := s.e.JudgeFact(fact)
		if result == nil {
			result = one
			continue
		}
		result.Outcomes = append(result.Outcomes, one.Outcomes...)
		result.Findings = append(result.Findings, one.Findings...)
	}
	delta := s.replace(r, i, result)
	if i < len(r.blocks) {
		r.blocks[i].facts = hash
	}
	return delta
}

// hash returns a number that is the same for facts that are the same; zero for
// none.
func (s *State) hash(all []*object.Object) uint64 {
	if len(all) == 0 {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, fact := range all {
		fact.Hash(&h)
	}
	return max(1, h.Sum64())
}

// faults are the analysers that could not derive their facts.
func (s *State) faults() []verdict.Problem {
	var out []verdict.Problem
	for _, w := range s.wholes {
		if w.problem != "" {
			out = append(out, verdict.Problem{Stage: verdict.Reading, Message: w.problem})
		}
	}
	return out
}
