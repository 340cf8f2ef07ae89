// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"context"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// Watched builds the models of units that something else reads, so that they are
// read once.
type Watched struct {
	// Units are to be read in place of those that were given.
	Units []snapshot.Unit

	asked []model
	parts []part
}

// Watch returns units that keep, while they are read, what the models need in an
// environment.
func Watch(units []snapshot.Unit, what What, env facts.Env) *Watched {
	w := &Watched{asked: of(what, &env), parts: make([]part, len(units))}
	for i, u := range units {
		w.parts[i].kept = make([][]any, len(w.asked))
		w.Units = append(w.Units, &watched{u, w.asked, &w.parts[i]})
	}
	return w
}

// Posture returns the models, once all units were read.
func (w *Watched) Posture(env facts.Env) *Posture { return build(w.parts, w.asked, env) }

// watched is a unit of which the models keep what they need.
type watched struct {
	snapshot.Unit
	asked []model
	part  *part
}

// OwnersFirst implements snapshot.OwnersFirst.
func (u *watched) OwnersFirst() bool {
	o, ok := u.Unit.(snapshot.OwnersFirst)
	return ok && o.OwnersFirst()
}

// Read implements snapshot.Unit.
func (u *watched) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	pass, tell := sink.Object, sink.Problem
	sink.Object = func(o *object.Object) {
		u.part.keep(o, u.asked)
		pass(o)
	}
	sink.Problem = func(p verdict.Problem) {
		u.part.problems = append(u.part.problems, p)
		tell(p)
	}
	u.part.tally = u.Unit.Read(ctx, sink)
	return u.part.tally
}
