// SPDX-License-Identifier: Apache-2.0

package network

import "github.com/RoaringBitmap/roaring/v2"

// area is ports of other ends, which are classes: cells whose ports are
// disjoint. Like a PortSet it is immutable.
type area []cell

type cell struct {
	ports PortSet
	peers *roaring.Bitmap
}

// rectangle returns the area of some ports of some classes.
func rectangle(ports PortSet, peers *roaring.Bitmap) area {
	if ports.Empty() || peers.IsEmpty() {
		return nil
	}
	return area{{ports, peers}}
}

// Empty says whether there is nothing in the area.
func (a area) Empty() bool { return len(a) == 0 }

// Intersect returns what is in both areas.
func (a area) Intersect(b area) area {
	var out area
	for _, x := range a {
		for _, y := range b {
			if ports := x.ports.Intersect(y.ports); !ports.Empty() {
				out = append(out, rectangle(ports, roaring.And(x.peers, y.peers))...)
			}
		}
	}
	return out.joined()
}

// Minus returns what is in a and not in b.
func (a area) Minus(b area) area {
	var out area
	for _, x := range a {
		rest := x.ports
		for _, y := range b {
			if ports := rest.Intersect(y.ports); !ports.Empty() {
				out = append(out, rectangle(ports, roaring.AndNot(x.peers, y.peers))...)
				rest = rest.Minus(ports)
			}
		}
		out = append(out, rectangle(rest, x.peers)...)
	}
	return out.joined()
}

// Union returns what is in one of the areas.
func (a area) Union(b area) area {
	if len(b) == 0 {
		return a
	}
	var out area
	var covered PortSet
	for _, x := range a {
		rest := x.ports
		covered = covered.Union(x.ports)
		for _, y := range b {
			if ports := rest.Intersect(y.ports); !ports.Empty() {
				out = append(out, cell{ports, roaring.Or(x.peers, y.peers)})
				rest = rest.Minus(ports)
			}
		}
		out = append(out, rectangle(rest, x.peers)...)
	}
	for _, y := range b {
		out = append(out, rectangle(y.ports.Minus(covered), y.peers)...)
	}
	return out.joined()
}

// joined puts cells of the same classes together.
func (a area) joined() area {
	var out area
	for _, x := range a {
		same := false
		for i := range out {
			if out[i].peers.Equals(x.peers) {
				out[i].ports, same = out[i].ports.Union(x.ports), true
				break
			}
		}
		if !same {
			out = append(out, x)
		}
	}
	return out
}
