// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// Output takes what Run finds, in the order of the units and, within one, of
// its objects. It is called from one goroutine.
type Output struct {
	// Result is called for every object that has findings.
	Result func(*Result) error
	// Problem is called for everything that could not be judged.
	Problem func(verdict.Problem) error
	// Notice is called for what a person should know.
	Notice func(verdict.Notice) error
	// Done is called after each unit, with how many are done.
	Done func(units int)
}

// perUnit is what one unit came to.
type perUnit struct {
	results  []*Result
	problems []verdict.Problem
	notices  []verdict.Notice
	tally    snapshot.Tally
	counts   []verdict.Counts // by rule
	failed   map[v1alpha1.Severity]int
	objects  int
	other    int
	cut      bool // findings were left out
	findings int
	unknown  int
	kept     [][]any // for facts about all objects, by e.wholes
	gathered []*object.Object

	index   int  // of the unit
	awaited bool // those before it are done
	// ownersFirst says that no later unit holds the owner of an object.
	ownersFirst bool
	old         int // old revisions, which are not judged
	folded      int // findings that are told of the owner
	// waiting are the results of objects whose owner was not judged yet.
	waiting      []*waiting
	waitingCount int // of their findings
}

// waiting is a result that waits for that of the object's owner.
type waiting struct {
	node   *node
	result *Result
	object *object.Object // what it says when there is too much of it
}

// Run judges everything that the units yield and returns the summary. It stops
// early only when the context ends or an output returns an error.
//
// Results hold their objects for the first keep findings of each unit; the
// others let them go, so that memory does not grow with what is found.
func (e *Engine) Run(ctx context.Context, units []snapshot.Unit, keep int, out Output) (*verdict.Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := max(1, min(runtime.GOMAXPROCS(0), len(units)))
	// slots hold the units that are being read or wait for their turn: they
	// bound the memory.
	type slot struct {
		unit  snapshot.Unit
		index int
		done  chan *perUnit
	}
	folds := newFolds(e)
	queue := make(chan *slot)
	order := make(chan *slot, 4*workers)
	go func() {
		defer close(order)
		defer close(queue)
		for i, u := range units {
			s := &slot{u, i, make(chan *perUnit, 1)}
			select {
			case order <- s:
			case <-ctx.Done():
				return
			}
			select {
			case queue <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for s := range queue {
				s.done <- e.unit(ctx, s.unit, s.index, folds, keep)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	total := e.newTotal()
	for s := range order {
		select {
		case u := <-s.done:
			if err := ctx.Err(); err != nil {
				return nil, err // a unit may be done as the context ends
			}
			if err := total.add(u, out); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := total.add(e.late(total.waiting, folds, keep), out.silent()); err != nil {
		return nil, err
	}
	derived := e.facts(ctx, total, folds, keep)
	if err := total.add(derived, out.silent()); err != nil {
		return nil, err
	}
	late := e.together(ctx, total, folds, keep)
	if err := ctx.Err(); err != nil {
		return nil, err // what was judged as the context ended is not known
	}
	if err := total.add(late, out.silent()); err != nil {
		return nil, err
	}
	return total.finish(out)
}

// silent is the output for what is no unit.
func (o Output) silent() Output {
	o.Done = nil
	return o
}

// late tells what waited for an owner until all units were done.
func (e *Engine) late(all []*waiting, folds *folds, keep int) (out *perUnit) {
	out = e.newUnit()
	defer out.recover()
	for _, w := range all {
		out.folded += folds.fold(w.node, w.result)
		e.count(out, w.result, w.object, keep)
	}
	return out
}

// facts derives what all objects together tell, and judges it.
func (e *Engine) facts(ctx context.Context, t *total, folds *folds, keep int) (out *perUnit) {
	out = e.newUnit()
	defer out.recover()
	for i, w := range e.wholes {
		env := *e.env
		env.Complete = env.Complete && !slices.ContainsFunc(slices.Collect(maps.Keys(t.unread)), w.Lacks)
		w.Derive(t.kept[i], &env, func(fact *object.Object) {
			if ctx.Err() != nil {
				return // Run says so
			}
			r, n := e.JudgeFact(fact), folds.of(fact.Subject().Ref)
			folds.put(n, r.Findings)
			if n == nil || n.owner == 0 || len(r.Findings) == 0 || !e.wait(out, r, fact, n) {
				e.count(out, r, fact, keep)
			}
		})
		t.kept[i] = nil
	}
	for _, w := range out.waiting {
		out.folded += folds.fold(w.node, w.result)
		e.count(out, w.result, w.object, keep)
	}
	out.waiting = nil
	return out
}

// wait keeps a result until its owner's is there; it returns false where too
// many wait already.
func (e *Engine) wait(out *perUnit, r *Result, o *object.Object, n *node) bool {
	if out.waitingCount += len(r.Findings); out.waitingCount > maxPerUnit {
		return false
	}
	r.Object = nil
	out.waiting = append(out.waiting, &waiting{n, r, &object.Object{Ref: o.Ref, Origin: o.Origin}})
	return true
}

func (e *Engine) newUnit() *perUnit {
	out := &perUnit{failed: map[v1alpha1.Severity]int{}, kept: make([][]any, len(e.wholes))}
	if counts, ok := e.counts.Get().(*[]verdict.Counts); ok {
		out.counts = *counts
	} else {
		out.counts = make([]verdict.Counts, len(e.rules))
	}
	return out
}

// recover keeps a fault in one unit from ending the scan of the others. It is
// deferred.
func (u *perUnit) recover() {
	if r := recover(); r != nil {
		u.problems = append(u.problems, verdict.Problem{Stage: verdict.Reading, Message: fmt.Sprintf("a fault in Sconce kept this from being judged; please report it: %v", r)})
	}
}

// unit reads and judges one unit.
func (e *Engine) unit(ctx context.Context, u snapshot.Unit, index int, folds *folds, keep int) (out *perUnit) {
	out = e.newUnit()
	out.index, out.ownersFirst = index, ownersFirst(u)
	seen := map[object.Ref]object.Position{} // places, not objects: those must go
	defer folds.finished(index)
	defer out.recover()
	var objects []*object.Object // that were not judged yet
	take := func() {
		for i, x := range e.examine(ctx, objects) {
			e.take(ctx, out, objects[i], &x, folds, keep)
		}
		clear(objects)
		objects = objects[:0]
	}
	out.tally = u.Read(ctx, snapshot.Sink{
		Object: func(o *object.Object) {
			if first, ok := seen[o.Ref]; ok && o.Name != "" {
				out.notices = append(out.notices, duplicateNotice(first, o))
			} else {
				seen[o.Ref] = object.Position{File: o.Origin.Source, Line: int(o.Root.Line)}
			}
			if objects = append(objects, o); !out.ownersFirst || len(objects) == ahead {
				take()
			}
		},
		Problem: func(p verdict.Problem) { out.problems = append(out.problems, p) },
	})
	take()
	e.settle(out, folds, keep)
	return out
}

// ahead is how many objects of a kind of a cluster are judged at once: a cluster
// may have nothing but pods. Of files one after the other is, so that of a large
// one no more than a document is held.
const ahead = 64

// examine judges objects on all processors.
func (e *Engine) examine(ctx context.Context, objects []*object.Object) []Examined {
	out := make([]Examined, len(objects))
	if len(objects) == 1 {
		out[0] = e.examineOne(ctx, objects[0])
		return out
	}
	inParallel(len(objects), func(i int) { out[i] = e.examineOne(ctx, objects[i]) })
	return out
}

// inParallel calls a function for each number below n, on all processors.
func inParallel(n int, each func(int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				each(int(i))
			}
		})
	}
	workers.Wait()
}

// ownersFirst says whether what owns a unit's objects is in none that comes after.
func ownersFirst(u snapshot.Unit) bool {
	o, ok := u.(snapshot.OwnersFirst)
	return ok && o.OwnersFirst()
}

// settle tells what waited for an owner in the same unit.
func (e *Engine) settle(out *perUnit, folds *folds, keep int) {
	all := out.waiting
	out.waiting = nil
	for _, w := range all {
		if !folds.ready(w.node, out.index) {
			out.waiting = append(out.waiting, w)
			continue
		}
		out.folded += folds.fold(w.node, w.result)
		e.count(out, w.result, w.object, keep)
	}
}

// maxPerUnit is how many findings of one unit are told one by one. It bounds
// the memory that a unit made to have many can take.
const maxPerUnit = 100_000

// tooMany says, once for each unit, that not all of its findings are told.
func (e *Engine) tooMany(out *perUnit, o *object.Object) {
	if out.cut {
		return
	}
	out.cut = true
	out.problems = append(out.problems, verdict.Problem{
		Stage: verdict.Reading, Position: object.Position{File: o.Origin.Source},
		Message: fmt.Sprintf("has more than %d findings: the others are counted, and not listed; scan less at a time, or with fewer controls", maxPerUnit),
	})
}

// take counts the verdicts on an object.
func (e *Engine) take(ctx context.Context, out *perUnit, o *object.Object, x *Examined, folds *folds, keep int) {
	if x.Old {
		out.old++
		return
	}
	if x.Problem != "" {
		out.problems = append(out.problems, verdict.Problem{Stage: verdict.Parsing, Position: hidden(o, o.Position(nil)), Message: x.Problem})
		return
	}
	r := x.Result
	out.notices = append(out.notices, r.Notices...)
	for i, k := range x.Kept {
		if k != nil {
			out.kept[i] = append(out.kept[i], k)
		}
	}
	if gathers, _ := e.Gathers(o.GroupKind()); gathers {
		out.gathered = append(out.gathered, o)
	}
	if !x.Used() {
		out.other++
		return
	}
	out.objects++
	n := folds.see(o, out.index)
	folds.put(n, r.Findings)
	if n == nil || n.owner == 0 || len(r.Findings) == 0 {
		e.count(out, r, o, keep)
		return
	}
	if !out.awaited {
		folds.await(ctx, out.index)
		out.awaited = true
	}
	if !out.ownersFirst && !folds.ready(n, out.index) && e.wait(out, r, o, n) {
		return
	}
	out.folded += folds.fold(n, r)
	e.count(out, r, o, keep)
}

// count counts the verdicts on an object and keeps its findings.
func (e *Engine) count(out *perUnit, r *Result, o *object.Object, keep int) {
	for _, ro := range r.Outcomes {
		c := &out.counts[ro.Rule]
		switch {
		case ro.Outcome == verdict.Pass:
			c.Pass++
		case ro.Excepted:
			c.Excepted++
		case ro.Outcome == verdict.Fail:
			c.Fail++
		default:
			c.Unknown++
		}
	}
	for i := range r.Findings {
		switch f := &r.Findings[i]; {
		case f.Outcome == verdict.Unknown:
			out.unknown++
		case f.Excepted == nil:
			out.failed[f.Severity]++
		}
	}
	if len(r.Findings) == 0 {
		return
	}
	out.findings += len(r.Findings)
	if over := out.findings - maxPerUnit; over > 0 {
		e.tooMany(out, o)
		if over >= len(r.Findings) {
			return
		}
		r.Findings = r.Findings[:len(r.Findings)-over]
	}
	if out.findings > keep+len(r.Findings) {
		r.Object = nil
	}
	out.results = append(out.results, r)
}
