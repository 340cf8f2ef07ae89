// SPDX-License-Identifier: Apache-2.0

package object

// Place says where in an object a field of a fact about it comes from: what
// stands at Fact, or below it, comes from Source, or below it.
type Place struct {
	Fact, Source Path
}

// NewFact returns an object that was derived from another one.
func NewFact(ref Ref, root *Node, of *Object, places []Place) *Object {
	return &Object{Ref: ref, Root: root, Origin: of.Origin, Within: of.Within, Small: root.weigh(SmallSize) > 0, of: of, places: places}
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
	best, source := -1, Path(nil)
	for _, p := range o.places {
		if len(p.Fact) > best && hasPrefix(path, p.Fact) {
			best, source = len(p.Fact), p.Source
		}
	}
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

// hasPrefix compares the steps as the paths address them.
func hasPrefix(p, prefix Path) bool {
	if len(p) < len(prefix) {
		return false
	}
	for i, s := range prefix {
		if s.Item != p[i].Item || s.Field != p[i].Field || s.Item && s.Index != p[i].Index {
			return false
		}
	}
	return true
}
