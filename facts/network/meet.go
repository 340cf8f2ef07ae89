// SPDX-License-Identifier: Apache-2.0

package network

import "github.com/RoaringBitmap/roaring/v2"

// meeting finds, for an allowance of one end, those of the other end that have
// connections in common with it.
type meeting struct {
	out []*allowance
	// bySource has, by class, the allowances whose subjects it is among;
	// byTarget those whose peers it is among, but for those of very many, which
	// are wide.
	bySource, byTarget [][]int32
	wide               []int32
	seen               []int
	lists              map[*roaring.Bitmap][]int
}

// meet yields what is allowed at both ends: in at that which is connected to,
// out at the other.
func meet(in, out []*allowance, all *roaring.Bitmap, classes int, yield func(from, to []int, ports PortSet)) {
	x := &meeting{out: out, bySource: make([][]int32, classes), byTarget: make([][]int32, classes), seen: make([]int, len(out)), lists: map[*roaring.Bitmap][]int{}}
	limit := all.GetCardinality() / 16
	for i, a := range out {
		index(x.bySource, a.subjects, int32(i))
		if a.peers.GetCardinality() > limit {
			x.wide = append(x.wide, int32(i))
		} else {
			index(x.byTarget, a.peers, int32(i))
		}
	}
	for n, a := range in {
		x.candidates(a, n+1, func(b *allowance) {
			ports := a.ports.Intersect(b.ports)
			if ports.Empty() || !a.subjects.Intersects(b.peers) || !a.peers.Intersects(b.subjects) {
				return
			}
			yield(x.common(a.peers, b.subjects, all), x.common(a.subjects, b.peers, all), ports)
		})
	}
}

func index(by [][]int32, set *roaring.Bitmap, n int32) {
	for it := set.Iterator(); it.HasNext(); {
		id := it.Next()
		by[id] = append(by[id], n)
	}
}

// common lists what is in both sets, where all is all there is. A list of a whole
// set is made once.
func (x *meeting) common(a, b, all *roaring.Bitmap) []int {
	switch all {
	case a:
	case b:
		b = a
	default:
		return list(roaring.And(a, b))
	}
	if x.lists[b] == nil {
		x.lists[b] = list(b)
	}
	return x.lists[b]
}

func list(set *roaring.Bitmap) []int {
	out := make([]int, 0, set.GetCardinality())
	for it := set.Iterator(); it.HasNext(); {
		out = append(out, int(it.Next()))
	}
	return out
}

// candidates calls f, once each, with the allowances that may have connections
// in common with a: by its peers or by its subjects, whichever are fewer.
func (x *meeting) candidates(a *allowance, stamp int, f func(*allowance)) {
	try := func(list []int32) {
		for _, i := range list {
			if x.seen[i] != stamp {
				x.seen[i] = stamp
				f(x.out[i])
			}
		}
	}
	set, by := a.peers, x.bySource
	if a.subjects.GetCardinality() < set.GetCardinality() {
		set, by = a.subjects, x.byTarget
		try(x.wide)
	}
	for it := set.Iterator(); it.HasNext(); {
		try(by[it.Next()])
	}
}
