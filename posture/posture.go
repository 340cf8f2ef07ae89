// SPDX-License-Identifier: Apache-2.0

// Package posture reads the objects of one cluster, or of one tree of files,
// into the exact models that questions are asked of: who may do what, what
// reaches what, and how an attacker gets from one to the other.
//
// It asks nothing of the models and judges nothing. What could not be read is
// carried along, so that an answer can say what it does not know.
package posture

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// What names models; several are joined with |.
type What uint8

// The models.
const (
	// Identity is who may do what.
	Identity What = 1 << iota
	// Network is what reaches what.
	Network
	// Attack is how an attacker gets from one thing to another.
	Attack
)

// Posture is the models of what was read. Those that were not asked for are nil.
type Posture struct {
	Identity *rbac.Model
	Network  *network.Model
	Attack   *attackpath.Graph

	// Objects were read; Tally says what they stood in.
	Objects int
	Tally   snapshot.Tally
	// Problems are what could not be read, in the order of the units.
	Problems []verdict.Problem
	// Complete says that what was read is all there is. Each model was told so
	// for itself: a problem with what it does not look at does not concern it.
	Complete bool
	// Unplaced are objects of which it is not known in which namespace they are,
	// while others name theirs. What is said of such may be of any.
	Unplaced int
	// asked says that the caller took what was read for all there is.
	asked bool
}

// model is what one of the models keeps and reads.
type model struct {
	what  What
	whole *facts.Whole
	// keepFor returns what keeps of an object for an environment; keep is that of
	// the one that is read for.
	keepFor func(*facts.Env) func(*object.Object) any
	keep    func(*object.Object) any
	build   func(p *Posture, kept []any, env *facts.Env)
}

// models are all of them.
var models = []model{
	{Identity, &rbac.Whole, always(rbac.Keep), nil, func(p *Posture, kept []any, env *facts.Env) { p.Identity = rbac.NewModel(kept, env) }},
	{Network, &network.Whole, always(network.Keep), nil, func(p *Posture, kept []any, env *facts.Env) { p.Network = network.NewModel(kept, env) }},
	{Attack, &attackpath.Whole, attackpath.KeepFor, nil, func(p *Posture, kept []any, env *facts.Env) { p.Attack = attackpath.New(kept, env) }},
}

// always returns what keeps the same whatever the environment.
func always(keep func(*object.Object) any) func(*facts.Env) func(*object.Object) any {
	return func(*facts.Env) func(*object.Object) any { return keep }
}

// of returns those that are asked for.
func of(what What, env *facts.Env) []model {
	out := slices.DeleteFunc(slices.Clone(models), func(m model) bool { return what&m.what == 0 })
	for i := range out {
		out[i].keep = out[i].keepFor(env)
	}
	return out
}

// Reads returns what a cluster is asked for: whether the models come from
// objects of a kind, or, given facts.AnyKind, from some kind of a group.
func Reads(what What) func(object.GroupKind) bool {
	var asked []facts.Sources
	for _, m := range of(what, &facts.Env{}) {
		asked = append(asked, m.whole.From(""))
	}
	return func(gk object.GroupKind) bool {
		return slices.ContainsFunc(asked, func(s facts.Sources) bool { return s.Has(gk) })
	}
}

// Read reads the units, as many at once as there are processors, and builds the
// models. Of each object only what these keep is held. The order of the units
// makes no difference but to that of the problems.
//
// Env.Complete says that the units are meant to be all there is; where something
// that a model comes from could not be read, it is not complete for that model.
// After each unit done is told how many are done, from one goroutine at a time.
// The error is that of the context.
func Read(ctx context.Context, units []snapshot.Unit, env facts.Env, what What, done func(units int)) (*Posture, error) {
	asked := of(what, &env)
	read := readAll(ctx, units, asked, done)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return build(read, asked, env), nil
}

// build builds the models of what was read.
func build(read []part, asked []model, env facts.Env) *Posture {
	p := &Posture{asked: env.Complete}
	kept := make([][]any, len(asked))
	placed, unplaced := 0, 0
	for _, r := range read {
		placed, unplaced = placed+r.placed, unplaced+r.unplaced
		p.Objects += r.objects
		p.Problems = append(p.Problems, r.problems...)
		p.Tally = sum(p.Tally, r.tally)
		for i := range kept {
			kept[i] = append(kept[i], r.kept[i]...)
		}
	}
	if placed > 0 {
		p.Unplaced = unplaced // else all are in one, whichever that is
	}
	p.Complete = env.Complete && p.Unplaced == 0 && !p.lacks(asked...)
	for i, m := range asked {
		own := env
		own.Complete = env.Complete && p.Unplaced == 0 && !p.lacks(m)
		m.build(p, kept[i], &own)
		kept[i] = nil
	}
	return p
}

// lacks says whether something that one of the models comes from may be among
// what could not be read.
func (p *Posture) lacks(asked ...model) bool {
	return slices.ContainsFunc(p.Problems, func(problem verdict.Problem) bool {
		return problem.Of == (object.GroupKind{}) || slices.ContainsFunc(asked, func(m model) bool { return m.whole.From("").Has(problem.Of) })
	})
}

// Incomplete says in a sentence why what was read may not be all there is;
// nothing where it is.
func (p *Posture) Incomplete() string {
	switch {
	case p.Complete:
		return ""
	case !p.asked:
		return "what was read need not be all there is: what is not in it may still be in the cluster"
	case p.Unplaced > 0:
		return fmt.Sprintf("%d objects name no namespace, and may be in any: --default-namespace says in which", p.Unplaced)
	case len(p.Problems) == 1:
		return "something could not be read: there may be more than is said here"
	}
	return fmt.Sprintf("%d things could not be read: there may be more than is said here", len(p.Problems))
}

// part is what one unit came to.
type part struct {
	kept     [][]any // by model
	objects  int
	problems []verdict.Problem
	tally    snapshot.Tally
	// placed and unplaced count objects that name a namespace, and that do not.
	placed, unplaced int
}

// keep notes an object.
func (r *part) keep(o *object.Object, asked []model) {
	r.objects++
	used := false
	for i, m := range asked {
		if k := m.keep(o); k != nil {
			r.kept[i], used = append(r.kept[i], k), true
		}
	}
	switch {
	case !used || !object.Namespaced(o.GroupKind()):
	case o.Namespace == "":
		r.unplaced++
	default:
		r.placed++
	}
}

// readAll reads the units, which are begun in their order: one may wait for
// those before it.
func readAll(ctx context.Context, units []snapshot.Unit, asked []model, done func(int)) []part {
	out := make([]part, len(units))
	var next atomic.Int64
	var workers sync.WaitGroup
	var telling sync.Mutex
	finished := 0
	for range min(runtime.GOMAXPROCS(0), len(units)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(units) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				out[i] = readOne(ctx, units[i], asked)
				telling.Lock()
				if finished++; done != nil {
					done(finished)
				}
				telling.Unlock()
			}
		})
	}
	workers.Wait()
	return out
}

// readOne reads a unit. A fault in it does not end the reading of the others.
func readOne(ctx context.Context, u snapshot.Unit, asked []model) (out part) {
	out.kept = make([][]any, len(asked))
	defer func() {
		if r := recover(); r != nil {
			out.problems = append(out.problems, verdict.Problem{Stage: verdict.Reading, Message: fmt.Sprintf("a fault in Sconce kept this from being read; please report it: %v", r)})
		}
	}()
	out.tally = u.Read(ctx, snapshot.Sink{
		Object:  func(o *object.Object) { out.keep(o, asked) },
		Problem: func(p verdict.Problem) { out.problems = append(out.problems, p) },
	})
	return out
}

func sum(a, b snapshot.Tally) snapshot.Tally {
	return snapshot.Tally{
		Files: a.Files + b.Files, Other: a.Other + b.Other, Charts: a.Charts + b.Charts, Overlays: a.Overlays + b.Overlays, Owned: a.Owned + b.Owned,
	}
}
