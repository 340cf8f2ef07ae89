// SPDX-License-Identifier: Apache-2.0

package object

import (
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
)

// Place says where in an object a field of a fact about it comes from: what
// stands at Fact, or below it, comes from Source, or below it.
type Place struct {
	Fact, Source Path
}

// NewFact returns an object that was derived from another one.
func NewFact(ref Ref, root *Node, of *Object, all []Place) *Object {
	return &Object{Ref: ref, Root: root, Origin: of.Origin, Within: of.Within, Small: root.weigh(SmallSize) > 0, of: of, places: &places{all: all}}
}

// WithRoot returns the object with a tree that leaves something out. What
// remains stands where it stood.
func (o *Object) WithRoot(root *Node) *Object {
	return &Object{Ref: o.Ref, Root: root, Within: o.Within, Origin: o.Origin, Small: o.Small}
}

// Subject is the object that a person knows: the one that a fact was derived
// from, and any other object itself.
func (o *Object) Subject() *Object {
	if o.of != nil {
		return o.of
	}
	return o
}

// factsField is the field of a fact that holds what its subject has not.
const factsField = "facts"

// SourcePath returns the subject's path for a path of the object. A field that
// only the fact has is where the nearest place above it is.
func (o *Object) SourcePath(path Path) Path {
	if o.of == nil {
		return path
	}
	best, source := o.places.find(path)
	if best >= 0 {
		full := source.Append(path[best:]...)
		if path[0].Field != factsField {
			return full
		}
		// What lies below such a place need not exist in the source: a flag's
		// value is a part of an argument.
		_, known := o.of.Root.Nearest(full)
		return full[:max(known, len(source))]
	}
	if len(path) > 0 && path[0].Field == factsField {
		return nil
	}
	return path
}

// places are the places of a fact, by their paths. There may be thousands of
// them, and each is asked for.
type places struct {
	all  []Place
	once sync.Once
	at   map[string]Path
}

// find returns the source of the longest place that a path lies at or below, and
// how many of its steps that place has; -1 if there is none.
func (p *places) find(path Path) (steps int, source Path) {
	if p == nil {
		return -1, nil
	}
	p.once.Do(func() {
		p.at = make(map[string]Path, len(p.all))
		for _, place := range p.all {
			ends := place.Fact.ends()
			key := ends[len(ends)-1]
			if _, ok := p.at[key]; !ok {
				p.at[key] = place.Source
			}
		}
	})
	ends := path.ends()
	for n := len(path); n >= 0; n-- {
		if source, ok := p.at[ends[n]]; ok {
			return n, source
		}
	}
	return -1, nil
}

// Hash writes down what is judged of an object, and for a fact also which
// places it names; lines and columns do not count.
func (o *Object) Hash(h *maphash.Hash) {
	_, _ = h.WriteString(o.Kind)
	o.Root.hash(h)
	if o.places == nil {
		return
	}
	for _, p := range o.places.all {
		for _, path := range [...]Path{p.Fact, p.Source} {
			_, _ = h.WriteString(path.String())
			_ = h.WriteByte(0)
		}
	}
}

func (n *Node) hash(h *maphash.Hash) {
	_ = h.WriteByte(byte(n.Kind))
	maphash.WriteComparable(h, n.num)
	maphash.WriteComparable(h, len(n.Text)+len(n.Items)+len(n.Fields))
	_, _ = h.WriteString(n.Text)
	for _, item := range n.Items {
		item.hash(h)
	}
	for i := range n.Fields {
		maphash.WriteComparable(h, len(n.Fields[i].Key))
		_, _ = h.WriteString(n.Fields[i].Key)
		n.Fields[i].Value.hash(h)
	}
}

// ends returns a text for each beginning of the path, from none of its steps to
// all of them, in which items count by their index.
func (p Path) ends() []string {
	var b strings.Builder
	out := make([]string, 1, len(p)+1)
	for _, s := range p {
		if s.Item {
			b.WriteString("\x01" + strconv.Itoa(s.Index))
		} else {
			b.WriteString("\x00" + s.Field)
		}
		out = append(out, b.String())
	}
	return out
}
