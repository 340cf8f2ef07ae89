// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"hash/maphash"
	"sync/atomic"
	"weak"

	"sconce.dev/sconce/object"
)

// Share returns a function that returns what keep does; asked again of an object
// that it was asked of just before, it returns the very same. So analysers that
// keep the same of an object hold it once. What is kept must not be changed.
func Share[T any](keep func(o *object.Object) T) func(o *object.Object) T {
	var lately [64]atomic.Pointer[kept[T]]
	seed := maphash.MakeSeed()
	return func(o *object.Object) T {
		slot := &lately[maphash.Comparable(seed, o)%uint64(len(lately))]
		of := weak.Make(o)
		if k := slot.Load(); k != nil && k.of == of && k.ref == o.Ref && k.root == weak.Make(o.Root) {
			return k.what
		}
		k := &kept[T]{of, weak.Make(o.Root), o.Ref, keep(o)}
		slot.Store(k)
		return k.what
	}
}

// kept is what was kept of an object, which it does not hold.
type kept[T any] struct {
	of   weak.Pointer[object.Object]
	root weak.Pointer[object.Node]
	ref  object.Ref
	what T
}
