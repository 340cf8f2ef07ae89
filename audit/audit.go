// SPDX-License-Identifier: Apache-2.0

// Package audit keeps the verdicts on a changing set of objects up to date. It
// is told of each object that is new, changed or gone, judges just that, and
// derives again just those facts about several objects that depend on it; it
// says which findings appeared and which cleared.
//
// It holds verdicts, and of objects only what such facts need. It reads no
// cluster and no clock, and writes no reports: whoever feeds it does.
package audit

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// DefaultFindings is how many findings of a namespace are listed.
const DefaultFindings = 1000

// Options adjust a State.
type Options struct {
	// Findings is how many findings of a namespace are listed; DefaultFindings
	// if it is zero. All are counted.
	Findings int
}

// State is the verdicts on all objects that it was told of. It is safe for
// concurrent use; what is told of one object must come one after the other.
type State struct {
	e     *engine.Engine
	rules map[string]int // indexes of e.Rules, by name
	opts  Options

	mu       sync.Mutex
	spaces   map[string]*space // by namespace; "" for cluster-scoped objects
	byUID    map[string]*record
	wholes   []*whole
	gathered *gathered
	dirty    map[string]bool
	problems map[object.GroupKind]verdict.Problem

	counts  []verdict.Counts // by rule, without regard to owners
	objects int
	other   int
	old     int // old revisions, which are not judged
	partial int // objects that could not be judged
	seed    maphash.Seed
}

// space is the objects of a namespace.
type space struct {
	records map[key]*record
	told    *told // what is told of them; nil where that must be found out
}

// key is what an object is found by in its namespace: its version may change.
type key struct {
	object.GroupKind
	name string
}

func keyOf(ref object.Ref) key {
	return key{object.GroupKind{Group: ref.Group(), Kind: ref.Kind}, ref.Name}
}

// record is what is held of an object.
type record struct {
	ref object.Ref
	// version is its resourceVersion; uid and owner are its own and that of the
	// object that controls it.
	version, uid, owner string
	old                 bool   // it is an old revision
	problem             string // why it could not be judged
	// programs are what it runs, hashed, if it holds a pod.
	programs unique.Handle[string]
	judged   bool // it counts as an object, not as an unmatched one
	virtual  bool // it is no object, but what a fact is about
	// blocks are the verdicts on the object and on what it alone tells; then, by
	// wholes, on facts about several objects, and on those of them that were
	// derived with another part than the object's; then those of policies' rules
	// that need other objects.
	blocks []block
}

// Delta is what a change did to the findings.
type Delta struct {
	// First says that the object was not known before.
	First bool
	// Appeared are the findings that were not there before, with all that is
	// known of them; Cleared those that are no more, as State keeps them.
	// Where the outcome changes or an exception begins or ends to hold, the
	// finding that was before is cleared, and that which is now appeared.
	Appeared, Cleared []verdict.Finding
}

// add adds another delta.
func (d *Delta) add(o Delta) {
	d.Appeared = append(d.Appeared, o.Appeared...)
	d.Cleared = append(d.Cleared, o.Cleared...)
}

// New returns a state that knows of no object yet.
func New(e *engine.Engine, opts Options) *State {
	if opts.Findings == 0 {
		opts.Findings = DefaultFindings
	}
	s := &State{
		e: e, opts: opts, spaces: map[string]*space{}, byUID: map[string]*record{},
		rules: map[string]int{}, dirty: map[string]bool{}, problems: map[object.GroupKind]verdict.Problem{},
		seed: maphash.MakeSeed(), counts: make([]verdict.Counts, len(e.Rules())),
	}
	for i, r := range e.Rules() {
		s.rules[r.Name] = i
	}
	s.gathered = newGathered(len(e.Wholes()))
	for i, w := range e.Wholes() {
		s.wholes = append(s.wholes, newWhole(i, w))
	}
	return s
}

// Set judges an object that is new or has changed. Facts about several objects
// that depend on it are left to Settle.
func (s *State) Set(o *object.Object) Delta {
	version := o.Root.At("metadata", "resourceVersion").Str()
	if s.has(o.Ref, version) {
		return Delta{}
	}
	x := s.e.Examine(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, first := s.record(o.Ref)
	s.identify(r, o, version)
	first = first || r.virtual
	r.virtual = false
	if !first {
		s.tally(r, -1)
	}
	r.problem, r.old = x.Problem, x.Old
	s.programs(r, o)
	r.judged = x.Used()
	delta := Delta{First: first}
	delta.add(s.replace(r, 0, x.Result))
	for i, w := range s.wholes {
		if x.Kept == nil {
			w.keep(r, nil)
		} else {
			w.keep(r, x.Kept[i])
		}
	}
	s.gather(r, o, &x)
	s.tally(r, +1)
	if first {
		s.touch(r.ref.Namespace)
	}
	return delta
}

// touch notes that what is told of a namespace may not be the same any more.
func (s *State) touch(namespace string) {
	s.dirty[namespace] = true
	if sp := s.spaces[namespace]; sp != nil {
		sp.told = nil
	}
}

// has says whether a version of an object is what is known of it.
func (s *State) has(ref object.Ref, version string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(ref)
	return r != nil && version != "" && r.version == version && r.ref.APIVersion == ref.APIVersion
}

func (s *State) find(ref object.Ref) *record {
	if sp := s.spaces[ref.Namespace]; sp != nil {
		return sp.records[keyOf(ref)]
	}
	return nil
}

// record returns the record of an object, and whether it is new.
func (s *State) record(ref object.Ref) (r *record, first bool) {
	ref = interned(ref)
	sp := s.spaces[ref.Namespace]
	if sp == nil {
		sp = &space{records: map[key]*record{}}
		s.spaces[ref.Namespace] = sp
	}
	if r = sp.records[keyOf(ref)]; r != nil {
		r.ref = ref
		return r, false
	}
	r = &record{ref: ref}
	sp.records[keyOf(ref)] = r
	return r, true
}

// identify notes who an object is and by whom it is controlled.
func (s *State) identify(r *record, o *object.Object, version string) {
	meta := o.Root.Get("metadata")
	if uid := meta.Get("uid").Str(); uid != r.uid {
		if s.byUID[r.uid] == r {
			delete(s.byUID, r.uid)
		}
		if r.uid = strings.Clone(uid); uid != "" {
			s.byUID[r.uid] = r
		}
		s.touch(r.ref.Namespace)
	}
	if owner := engine.Owner(o); owner != r.owner {
		r.owner = intern(owner)
		s.touch(r.ref.Namespace)
	}
	r.version = strings.Clone(version)
}

// programs notes what an object runs.
func (s *State) programs(r *record, o *object.Object) {
	var packed []byte
	programs, holds := s.e.Programs(o)
	for _, p := range programs {
		packed = s.pack(packed, p)
	}
	now := unique.Handle[string]{}
	if holds && !r.old {
		now = unique.Make(string(packed))
	}
	if now != r.programs {
		r.programs = now
		s.touch(r.ref.Namespace)
	}
}

// tally counts an object in or out.
func (s *State) tally(r *record, n int) {
	switch {
	case r.old:
		s.old += n
	case r.problem != "":
		s.partial += n
	case r.judged:
		s.objects += n
	default:
		s.other += n
	}
}

// Delete forgets an object that is no more. Facts about others that depended on
// it are left to Settle.
func (s *State) Delete(ref object.Ref) Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(ref)
	if r == nil {
		return Delta{}
	}
	var delta Delta
	for i := range r.blocks {
		delta.add(s.replace(r, i, nil))
	}
	for _, w := range s.wholes {
		w.keep(r, nil)
		w.forget(r)
	}
	s.gathered.forget(s.e, r)
	s.tally(r, -1)
	sp := s.spaces[ref.Namespace]
	delete(sp.records, keyOf(ref))
	if len(sp.records) == 0 {
		delete(s.spaces, ref.Namespace)
	}
	if s.byUID[r.uid] == r {
		delete(s.byUID, r.uid)
	}
	s.touch(ref.Namespace)
	return delta
}

// Problem notes that objects of a kind cannot be read, or with nil that they can
// be again; facts.AnyKind stands for all of a group, without a group for any. As
// long as there is a problem, what rests on the absence of such an object is
// unknown: Settle derives that again.
func (s *State) Problem(gk object.GroupKind, p *verdict.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch old, had := s.problems[gk]; {
	case p == nil:
		delete(s.problems, gk)
	case had && old == *p:
		return
	default:
		s.problems[gk] = *p
	}
	s.gathered.touchAll()
	for namespace := range s.spaces {
		s.dirty[namespace] = true
	}
	s.dirty[""] = true
}

// complete says that what is not among the objects that an analyser looks at does
// not exist.
func (s *State) complete(w *whole) bool {
	return s.e.Env().Complete && s.partial == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(s.problems)), w.Lacks)
}

// Dirty returns the namespaces of which Namespace may return another result than
// when Dirty was last called, sorted; "" stands for cluster-scoped objects.
func (s *State) Dirty() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Sorted(maps.Keys(s.dirty))
	clear(s.dirty)
	return out
}
