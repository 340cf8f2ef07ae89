// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/celguard"
)

// written is a value of an object as it is written, shown to expressions as the
// API server shows the Go value.
type written struct {
	shape *shape
	node  *object.Node // nil for a record of which nothing is written
}

// ConvertToNative implements ref.Val.
func (w written) ConvertToNative(t reflect.Type) (any, error) {
	return w.shape.slow(w.node).ConvertToNative(t)
}

// Value implements ref.Val.
func (w written) Value() any { return w.shape.slow(w.node).Value() }

var _ celguard.Sized = written{}

// SizeWithin implements celguard.Sized.
func (w written) SizeWithin(limit int) int { return sizeOf(w.node, limit) }

// sizeOf returns how large a tree is, or more than the limit.
func sizeOf(n *object.Node, limit int) int {
	if n == nil {
		return 8
	}
	size := 8 + len(n.Text)
	for i := range n.Fields {
		if size > limit {
			return size
		}
		size += 8 + len(n.Fields[i].Key) + sizeOf(n.Fields[i].Value, limit-size)
	}
	for _, item := range n.Items {
		if size > limit {
			return size
		}
		size += sizeOf(item, limit-size)
	}
	return size
}

// list is a list that is written.
type list struct{ written }

var _ traits.Lister = (*list)(nil)

// Type implements ref.Val.
func (l *list) Type() ref.Type { return types.ListType }

// ConvertToType implements ref.Val.
func (l *list) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.ListType:
		return l
	case types.TypeType:
		return types.ListType
	}
	return types.NewErr("type conversion error from '%s' to '%s'", l.Type(), t.TypeName())
}

// Equal implements ref.Val.
func (l *list) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	if l.Size() != o.Size() {
		return types.False
	}
	for i, item := range l.node.Items {
		if l.shape.item.show(item).Equal(o.Get(types.Int(i))) != types.True {
			return types.False
		}
	}
	return types.True
}

// Contains implements traits.Container.
func (l *list) Contains(v ref.Val) ref.Val {
	for _, item := range l.node.Items {
		if l.shape.item.show(item).Equal(v) == types.True {
			return types.True
		}
	}
	return types.False
}

// Add implements traits.Adder.
func (l *list) Add(other ref.Val) ref.Val {
	o, ok := other.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	more, _ := o.Size().(types.Int)
	out := make([]ref.Val, 0, len(l.node.Items)+int(more))
	for _, item := range l.node.Items {
		out = append(out, l.shape.item.show(item))
	}
	for it := o.Iterator(); it.HasNext() == types.True; {
		out = append(out, it.Next())
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// Get implements traits.Indexer.
func (l *list) Get(index ref.Val) ref.Val {
	i, ok := index.(types.Int)
	switch {
	case !ok:
		return types.ValOrErr(index, "unsupported index type: %T", index)
	case i < 0 || int(i) >= len(l.node.Items):
		return types.NewErr("index out of bounds: %d", i)
	}
	return l.shape.item.show(l.node.Items[i])
}

// Size implements traits.Sizer.
func (l *list) Size() ref.Val { return types.Int(len(l.node.Items)) }

// Iterator implements traits.Iterable.
func (l *list) Iterator() traits.Iterator { return &items{list: l} }

// items goes through a list.
type items struct {
	*list
	next int
}

// HasNext implements traits.Iterator.
func (it *items) HasNext() ref.Val { return types.Bool(it.next < len(it.node.Items)) }

// Next implements traits.Iterator.
func (it *items) Next() ref.Val {
	it.next++
	return it.Get(types.Int(it.next - 1))
}

// asMap returns what a map is as another type; words say that it is
// none.
func asMap(m ref.Val, t ref.Type, words string) ref.Val {
	switch t {
	case types.MapType:
		return m
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr(words, t.TypeName())
}

// contains says whether a map has a key.
func contains(m traits.Mapper, key ref.Val) ref.Val {
	v, found := m.Find(key)
	if v != nil && types.IsError(v) {
		return v
	}
	return types.Bool(found)
}

// sameFields says whether two maps hold the same. Where values differ, that is
// false, or what says that they cannot be compared, which strict returns.
func sameFields(m, other traits.Mapper, strict bool) ref.Val {
	if m.Size() != other.Size() {
		return types.False
	}
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		mine, _ := m.Find(key)
		theirs, found := other.Find(key)
		if !found {
			return types.False
		}
		switch same := mine.Equal(theirs); {
		case same != types.True && strict:
			return same
		case same != types.True:
			return types.False
		}
	}
	return types.True
}

// keys goes through the keys of a map.
type keys struct {
	traits.Mapper
	names []string
	next  int
}

// HasNext implements traits.Iterator.
func (it *keys) HasNext() ref.Val { return types.Bool(it.next < len(it.names)) }

// Next implements traits.Iterator.
func (it *keys) Next() ref.Val {
	if it.next >= len(it.names) {
		return types.NewErr("no more elements")
	}
	it.next++
	return types.String(it.names[it.next-1])
}

// dict is a map with keys of its own that is written.
type dict struct{ written }

var _ traits.Mapper = (*dict)(nil)

// Type implements ref.Val.
func (d *dict) Type() ref.Type { return types.MapType }

// ConvertToType implements ref.Val.
func (d *dict) ConvertToType(t ref.Type) ref.Val {
	return asMap(d, t, "type conversion error from 'map(dyn, dyn)' to '%s'")
}

// Equal implements ref.Val.
func (d *dict) Equal(other ref.Val) ref.Val {
	if o, ok := other.(traits.Mapper); ok {
		return sameFields(d, o, false)
	}
	return types.MaybeNoSuchOverloadErr(other)
}

// Find implements traits.Mapper.
func (d *dict) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.ValOrErr(key, "unsupported map key type: %T", key), false
	}
	if v := d.node.Get(string(name)); v != nil {
		return d.shape.item.show(v), true
	}
	return nil, false
}

// Contains implements traits.Container.
func (d *dict) Contains(key ref.Val) ref.Val { return contains(d, key) }

// Get implements traits.Indexer.
func (d *dict) Get(key ref.Val) ref.Val {
	v, found := d.Find(key)
	if !found && v == nil {
		return types.ValOrErr(key, "no such key: %v", key)
	}
	return v
}

// Size implements traits.Sizer.
func (d *dict) Size() ref.Val { return types.Int(len(d.node.Fields)) }

// Iterator implements traits.Iterable.
func (d *dict) Iterator() traits.Iterator {
	names := make([]string, len(d.node.Fields))
	for i := range d.node.Fields {
		names[i] = d.node.Fields[i].Key
	}
	return &keys{Mapper: d, names: names}
}

// record is a map that is written, of which the names of all fields are known.
type record struct{ written }

var (
	_ traits.Mapper      = (*record)(nil)
	_ traits.FieldTester = (*record)(nil)
)

// Type implements ref.Val.
func (r *record) Type() ref.Type { return types.MapType }

// ConvertToType implements ref.Val.
func (r *record) ConvertToType(t ref.Type) ref.Val {
	return asMap(r, t, "type conversion error from struct to %s")
}

// Equal implements ref.Val. Two records are compared as the Go values that they
// are.
func (r *record) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Mapper)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	if x, ok := o.(*record); ok {
		if r.shape == x.shape && r.node != nil && x.node != nil {
			if r.shape.differs(r.node, x.node) {
				return types.False
			}
			if r.node.Equal(x.node) {
				return types.True
			}
		}
		return r.shape.slow(r.node).Equal(x.shape.slow(x.node))
	}
	if _, ok := o.(*dict); !ok && reflect.ValueOf(o.Value()).Kind() == reflect.Struct {
		return r.shape.slow(r.node).Equal(o)
	}
	return sameFields(r, o, true)
}

// Find implements traits.Mapper.
func (r *record) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.ValOrErr(key, "unsupported map key type: %T", key), true
	}
	if m := r.shape.members[string(name)]; m != nil {
		return m.in(r.node)
	}
	return nil, false
}

// IsSet implements traits.FieldTester.
func (r *record) IsSet(field ref.Val) ref.Val {
	v, found := r.Find(field)
	if v != nil && types.IsUnknownOrError(v) {
		return v
	}
	return types.Bool(found)
}

// Contains implements traits.Container.
func (r *record) Contains(key ref.Val) ref.Val { return contains(r, key) }

// Get implements traits.Indexer.
func (r *record) Get(key ref.Val) ref.Val {
	v, found := r.Find(key)
	if !found {
		return types.ValOrErr(key, "no such key: %v", key)
	}
	return v
}

// names are the fields that are there.
func (r *record) names() []string {
	var out []string
	for _, m := range r.shape.ordered {
		if m.has(r.node) {
			out = append(out, m.name)
		}
	}
	return out
}

// Size implements traits.Sizer.
func (r *record) Size() ref.Val {
	n := 0
	for _, m := range r.shape.ordered {
		if m.has(r.node) {
			n++
		}
	}
	return types.Int(n)
}

// Iterator implements traits.Iterable.
func (r *record) Iterator() traits.Iterator { return &keys{Mapper: r, names: r.names()} }
