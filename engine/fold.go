// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// What a Deployment gets wrong its ReplicaSet and each of its Pods get wrong too.
// All of them are judged, and all verdicts are counted; but a finding that an
// object has in common with its owner is told once, of the owner. What only the
// pod has (an injected sidecar, a field that a webhook changed) is told of it.
//
// Anyone can write an owner reference. What that can hide is only the repetition
// of something that is told of the same namespace; and what is excused in the
// owner is excused in what it owns only where that runs the same programs: of
// what is excused for a container all those of the owner, else no others.

// Owner returns the uid of the object that controls an object, or "".
func Owner(o *object.Object) string {
	owner := controller(o)
	return owner.Get("uid").Str()
}

func controller(o *object.Object) *object.Node {
	for _, ref := range facts.Items(o.Root.At("metadata", "ownerReferences")) {
		if ref.Get("controller").Bool() {
			return ref
		}
	}
	return nil
}

// OldRevision says whether an object is a ReplicaSet that a Deployment keeps only
// to return to: it runs nothing, and is not judged.
func OldRevision(o *object.Object) bool {
	if o.GroupKind() != (object.GroupKind{Group: "apps", Kind: "ReplicaSet"}) {
		return false
	}
	replicas := o.Root.At("spec", "replicas")
	return replicas != nil && replicas.Kind == object.Int && replicas.Int() == 0 && controller(o).Get("kind").Str() == "Deployment"
}

// Alike returns what a finding has in common with the same finding of the
// object's owner, or of what it owns: two findings are the same where one of
// these texts is. It is made of the control, the outcome, the message, and where
// the pod has the element and the field, wherever the object has its pod.
func (e *Engine) Alike(f *verdict.Finding) []string {
	var out []string
	key := func(where, element, path string) {
		for _, message := range messages(f) {
			out = append(out, strings.Join([]string{where, f.Control, string(f.Outcome), message, element, path}, "\x00"))
		}
	}
	prefix, ok := e.podPrefix(f.Object.GroupKind())
	if path, within := below(f.Path, prefix); ok && within {
		element, _ := below(f.Element, prefix)
		key("pod", element, path)
		if prefix != "" {
			return out
		}
	}
	key("object", f.Element, f.Path)
	return out
}

// OfContainer says whether a finding is about one container of its object's pod,
// and nothing beside.
func (e *Engine) OfContainer(f *verdict.Finding) bool {
	prefix, _ := e.podPrefix(f.Object.GroupKind())
	element, within := below(f.Element, prefix)
	return within && slices.ContainsFunc(object.ContainerLists[:], func(list string) bool { return strings.HasPrefix(element, "spec."+list+"[") })
}

// messages are a finding's message as it is, and without the name and the kind
// of the object, where it tells them.
func messages(f *verdict.Finding) []string {
	message := f.Message
	for _, own := range [...]string{f.Object.Name, f.Object.Kind} {
		if own != "" {
			message = strings.ReplaceAll(message, own, "\x01")
		}
	}
	if message == f.Message {
		return []string{message}
	}
	return []string{f.Message, message}
}

// below returns what of a path is behind a prefix.
func below(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	switch {
	case prefix == "" || !ok || rest == "":
		return rest, ok
	case rest[0] == '.' || rest[0] == '[':
		return strings.TrimPrefix(rest, "."), true
	}
	return path, false
}

// podPrefix returns where objects of a kind have their pod.
func (e *Engine) podPrefix(gk object.GroupKind) (string, bool) {
	if path, ok := object.PodPath(gk); ok {
		return path.String(), true
	}
	for _, i := range e.matching(gk) {
		if path, ok := e.rules[i].PodPath(gk); ok {
			return path.String(), true
		}
	}
	return "", false
}

// folds knows what was found in objects that may own others. Texts are kept as
// hashes: a cluster has 100,000 objects.
type folds struct {
	e    *Engine
	seed maphash.Seed

	mu     sync.Mutex
	nodes  map[uint64]*node  // by namespace and uid: an owner is in the same one
	byName map[uint64]uint64 // keys of nodes by the object's kind, namespace and name

	// low is how many units are done without a gap.
	cond *sync.Cond
	low  int
	done map[int]bool
}

// node is an object with a uid.
type node struct {
	unit     int
	owner    uint64          // its key; 0 for none
	findings map[uint64]bool // whether they are excused
	programs []uint64
}

func newFolds(e *Engine) *folds {
	f := &folds{e: e, seed: maphash.MakeSeed(), nodes: map[uint64]*node{}, byName: map[uint64]uint64{}, done: map[int]bool{}}
	f.cond = sync.NewCond(&f.mu)
	return f
}

func (f *folds) hash(texts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	for _, t := range texts {
		_, _ = h.WriteString(t)
		_ = h.WriteByte(0)
	}
	return max(1, h.Sum64())
}

func (f *folds) name(r object.Ref) uint64 { return f.hash(r.APIVersion, r.Kind, r.Namespace, r.Name) }

// finished says that a unit is done.
func (f *folds) finished(unit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done[unit] = true
	for f.done[f.low] {
		delete(f.done, f.low)
		f.low++
	}
	f.cond.Broadcast()
}

// await waits until all units before one are done: only then is it known what
// was found in the owners that they hold. Units are begun in their order, so
// that this ends.
func (f *folds) await(ctx context.Context, unit int) {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cond.Broadcast()
	})
	defer stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.low < unit && ctx.Err() == nil {
		f.cond.Wait()
	}
}

// see takes note of an object that has a uid and holds a pod, and returns it.
func (f *folds) see(o *object.Object, unit int) *node {
	uid := o.Root.At("metadata", "uid").Str()
	programs, ok := f.e.Programs(o)
	if uid == "" || !ok {
		return nil
	}
	n := &node{unit: unit}
	for _, p := range programs {
		n.programs = append(n.programs, f.hash(p))
	}
	if owner := Owner(o); owner != "" {
		n.owner = f.hash(o.Namespace, owner)
	}
	key := f.hash(o.Namespace, uid)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[key] = n
	f.byName[f.name(o.Ref)] = key
	return n
}

// of returns what is known of the object that a fact is about.
func (f *folds) of(r object.Ref) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[f.byName[f.name(r)]]
}

// runs are the fields of a container that say what it runs beside its image.
var runs = [...][]string{
	{"command"}, {"args"}, {"lifecycle"}, {"livenessProbe", "exec"}, {"readinessProbe", "exec"}, {"startupProbe", "exec"},
}

// Programs are the containers of an object, by what they run; it returns false
// for an object of a kind that holds no pod.
func (e *Engine) Programs(o *object.Object) ([]string, bool) {
	prefix, ok := e.podPrefix(o.GroupKind())
	if !ok {
		return nil, false
	}
	pod := o.Root
	if prefix != "" {
		pod = pod.At(strings.Split(prefix, ".")...)
	}
	var out []string
	for _, list := range object.ContainerLists {
		for _, c := range facts.Items(pod.At("spec", list)) {
			texts := []string{list, c.Get("name").Str(), c.Get("image").Str()}
			for _, path := range runs {
				if n := c.At(path...); n != nil {
					texts = append(texts, strings.Join(path, "."), string(n.JSON()))
				}
			}
			out = append(out, strings.Join(texts, "\x00"))
		}
	}
	return out, true
}

// put notes what was found in an object, if it may own others.
func (f *folds) put(n *node, findings []verdict.Finding) {
	if n == nil || len(findings) == 0 || findings[0].Object.GroupKind() == (object.GroupKind{Kind: "Pod"}) {
		return
	}
	keys := make(map[uint64]bool, len(findings))
	note := func(all map[uint64]bool, key uint64, excepted bool) {
		before, has := all[key]
		all[key] = excepted && (before || !has)
	}
	for i := range findings {
		for _, text := range f.e.Alike(&findings[i]) {
			note(keys, f.hash(text), findings[i].Excepted != nil)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.findings == nil {
		n.findings = keys
		return
	}
	for k, excepted := range keys {
		note(n.findings, k, excepted)
	}
}

// ready says whether all owners of an object were judged, in units up to one.
// Whether an owner that was not met will be is not known.
func (f *folds) ready(n *node, unit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range MaxOwners {
		if n.owner == 0 {
			return true
		}
		if n = f.nodes[n.owner]; n == nil || n.unit > unit {
			return false
		}
	}
	return false
}

// has says whether an object's owner has a finding, by its keys, and whether that
// is excused: in the owner or in one that has it in common with that. It may be
// about a container, or else is about the pod.
func (f *folds) has(n *node, keys []uint64, container bool) (found, excepted bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	owned := n
	for range MaxOwners {
		owner := f.nodes[owned.owner]
		if owner == nil {
			break
		}
		in, excused := owner.any(keys)
		if !in {
			break
		}
		if excused && !(n.runs(owner.programs) && (container || len(n.programs) == len(owner.programs))) {
			return found, false
		}
		found, excepted = true, excepted || excused
		owned = owner
	}
	return found, excepted
}

// MaxOwners is how many owners above one another are followed.
const MaxOwners = 8

// any says whether the object has one of the findings, and whether those that it
// has are excused.
func (n *node) any(keys []uint64) (found, excepted bool) {
	for _, k := range keys {
		if excused, ok := n.findings[k]; ok {
			found, excepted = true, excused && (excepted || !found)
		}
	}
	return found, excepted
}

// runs says whether the object runs all of some programs.
func (n *node) runs(programs []uint64) bool {
	for _, p := range programs {
		found := false
		for _, own := range n.programs {
			found = found || own == p
		}
		if !found {
			return false
		}
	}
	return true
}

// fold takes those findings away that the object's owner has too, and returns
// how many these were. A verdict that was failed by nothing but what is excused
// there is excused.
func (f *folds) fold(n *node, r *Result) int {
	excused := map[string]bool{}   // whether all that failed of a control is
	undecided := map[string]bool{} // whether something of a control is unknown
	kept := r.Findings[:0]
	before := len(r.Findings)
	for i := range r.Findings {
		finding := &r.Findings[i]
		var keys []uint64
		for _, text := range f.e.Alike(finding) {
			keys = append(keys, f.hash(text))
		}
		found, excepted := f.has(n, keys, f.e.OfContainer(finding))
		switch finding.Outcome {
		case verdict.Fail:
			all, ok := excused[finding.Control]
			excused[finding.Control] = (all || !ok) && (finding.Excepted != nil || found && excepted)
		case verdict.Unknown:
			undecided[finding.Control] = true
		}
		if !found {
			kept = append(kept, *finding)
		}
	}
	clear(r.Findings[len(kept):])
	r.Findings = kept
	for i := range r.Outcomes {
		ro := &r.Outcomes[i]
		control := f.e.rules[ro.Rule].Name
		switch {
		case ro.Outcome != verdict.Fail || !excused[control]:
		case undecided[control]:
			ro.Outcome = verdict.Unknown
		default:
			ro.Excepted = true
		}
	}
	return before - len(kept)
}
