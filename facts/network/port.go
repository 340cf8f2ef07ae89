// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// The protocols that policies tell apart.
const (
	TCP  = "TCP"
	UDP  = "UDP"
	SCTP = "SCTP"
)

// protocols are in the order in which they are written.
var protocols = [...]string{TCP, UDP, SCTP}

// maxPort is the highest port.
const maxPort = 65535

// Port is a port of a pod, or one that is asked for; Name may be empty.
type Port struct {
	Protocol string `json:"protocol"`
	Number   int32  `json:"number"`
	Name     string `json:"name,omitempty"`
}

// String returns the port as it is written: TCP 80; zero is a port that is not
// known.
func (p Port) String() string {
	if p.Number == 0 {
		return "some " + p.Protocol + " port"
	}
	return p.Protocol + " " + strconv.Itoa(int(p.Number))
}

// set is the port as a set; all of its protocol, where the number is not known.
func (p Port) set() PortSet {
	if p.Number == 0 {
		return PortRange(p.Protocol, 1, maxPort)
	}
	return PortRange(p.Protocol, p.Number, p.Number)
}

// PortSet is a set of ports of protocols. The zero PortSet is empty. It is
// immutable and comparable by Equal.
type PortSet struct {
	spans [len(protocols)]spans
}

// span is the ports from first to last.
type span struct{ first, last int32 }

// spans are disjoint, do not touch and are sorted.
type spans []span

var everyPort = spans{{1, maxPort}}

// AllPorts returns all ports of all protocols.
func AllPorts() PortSet { return PortSet{[len(protocols)]spans{everyPort, everyPort, everyPort}} }

// PortRange returns the ports from first to last of a protocol: none for a
// protocol that policies do not know.
func PortRange(protocol string, first, last int32) PortSet {
	var out PortSet
	first, last = max(first, 1), min(last, maxPort)
	if i := slices.Index(protocols[:], protocol); i >= 0 && first <= last {
		out.spans[i] = spans{{first, last}}
	}
	return out
}

// Contains says whether a port is in the set.
func (s PortSet) Contains(p Port) bool {
	i := slices.Index(protocols[:], p.Protocol)
	return i >= 0 && s.spans[i].contains(p.Number)
}

func (s spans) contains(n int32) bool {
	_, ok := slices.BinarySearchFunc(s, n, func(x span, n int32) int {
		switch {
		case x.last < n:
			return -1
		case x.first > n:
			return 1
		}
		return 0
	})
	return ok
}

// Empty says whether the set has no ports.
func (s PortSet) Empty() bool {
	return len(s.spans[0])+len(s.spans[1])+len(s.spans[2]) == 0
}

// All says whether the set has all ports of all protocols.
func (s PortSet) All() bool {
	return !slices.ContainsFunc(s.spans[:], func(x spans) bool { return !slices.Equal(x, everyPort) })
}

// Equal says whether both sets have the same ports.
func (s PortSet) Equal(t PortSet) bool {
	for i := range s.spans {
		if !slices.Equal(s.spans[i], t.spans[i]) {
			return false
		}
	}
	return true
}

// Union returns the ports that are in one of the sets.
func (s PortSet) Union(t PortSet) PortSet {
	for i := range s.spans {
		s.spans[i] = s.spans[i].union(t.spans[i])
	}
	return s
}

func (s spans) union(t spans) spans {
	switch {
	case len(s) == 0:
		return t
	case len(t) == 0:
		return s
	}
	all := slices.Concat(s, t)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	out := all[:1]
	for _, x := range all[1:] {
		if end := &out[len(out)-1]; x.first <= end.last+1 {
			end.last = max(end.last, x.last)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// Intersect returns the ports that are in both sets.
func (s PortSet) Intersect(t PortSet) PortSet {
	for i := range s.spans {
		s.spans[i] = s.spans[i].intersect(t.spans[i])
	}
	return s
}

func (s spans) intersect(t spans) spans {
	var out spans
	for len(s) > 0 && len(t) > 0 {
		if first, last := max(s[0].first, t[0].first), min(s[0].last, t[0].last); first <= last {
			out = append(out, span{first, last})
		}
		if s[0].last < t[0].last {
			s = s[1:]
		} else {
			t = t[1:]
		}
	}
	return out
}

// Minus returns the ports that are in s and not in t.
func (s PortSet) Minus(t PortSet) PortSet {
	for i := range s.spans {
		s.spans[i] = s.spans[i].intersect(t.spans[i].complement())
	}
	return s
}

func (s spans) complement() spans {
	var out spans
	next := int32(1)
	for _, x := range s {
		if next < x.first {
			out = append(out, span{next, x.first - 1})
		}
		next = x.last + 1
	}
	if next <= maxPort {
		out = append(out, span{next, maxPort})
	}
	return out
}

// Intersects says whether a port is in both sets.
func (s PortSet) Intersects(t PortSet) bool {
	for i := range s.spans {
		if len(s.spans[i]) > 0 && len(t.spans[i]) > 0 && len(s.spans[i].intersect(t.spans[i])) > 0 {
			return true
		}
	}
	return false
}

// String returns the set as it is written: "TCP 80, 443; UDP 53", "all" and
// "none".
func (s PortSet) String() string {
	switch {
	case s.Empty():
		return "none"
	case s.All():
		return "all"
	}
	var parts []string
	for i, list := range s.spans {
		if len(list) == 0 {
			continue
		}
		part := protocols[i]
		for j, x := range list {
			if j > 0 {
				part += ","
			}
			if !slices.Equal(list, everyPort) {
				part += " " + x.String()
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

func (x span) String() string {
	first := strconv.Itoa(int(x.first))
	if x.first == x.last {
		return first
	}
	return first + "-" + strconv.Itoa(int(x.last))
}

// MarshalText makes the set what String says, in JSON too.
func (s PortSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
