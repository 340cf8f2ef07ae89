// SPDX-License-Identifier: Apache-2.0

// Package snapshot is what is judged: units (a file, a chart, an overlay, later
// a cluster's kinds) that each yield their objects, and say what could not be
// read. A scan of files streams through it one unit at a time, so that memory
// is bounded by the largest unit and not by their number.
package snapshot

import (
	"context"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Unit is a part of what is judged that is read on its own.
type Unit interface {
	// Read hands over what the unit holds, in its order, and says what it was.
	// It may be called once, from any goroutine.
	Read(ctx context.Context, sink Sink) Tally
}

// OwnersFirst is implemented by units of which it is known whether what owns
// their objects (by metadata.ownerReferences) is in none that comes after.
type OwnersFirst interface {
	OwnersFirst() bool
}

// Sink takes what a unit yields.
type Sink struct {
	// Object takes an object.
	Object func(*object.Object)
	// Problem takes what could not be read.
	Problem func(verdict.Problem)
}

// Tally counts what a unit was, so that nothing that was asked for is missing
// from the totals.
type Tally struct {
	// Files were read; Other documents were no Kubernetes objects.
	Files, Other int
	// Charts and Overlays were rendered; Owned files belong to them.
	Charts, Overlays, Owned int
}
