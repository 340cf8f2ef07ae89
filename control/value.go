// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"sconce.dev/sconce/object"
)

// toCEL shows a node to CEL without copying it: maps and lists are views, and a
// value that could not be read is a CEL unknown that carries the reason.
// Fields that are null are absent, as they are in what the API server decodes.
func toCEL(n *object.Node) ref.Val {
	if n == nil {
		return types.NullValue
	}
	switch n.Kind {
	case object.Bool:
		return types.Bool(n.Bool())
	case object.Int:
		return types.Int(n.Int())
	case object.Float:
		return types.Double(n.Float())
	case object.String:
		return types.String(n.Text)
	case object.List:
		return (*listView)(n)
	case object.Map:
		return (*mapView)(n)
	case object.Unknown:
		return unknown(n.Text)
	}
	return types.NullValue
}

// unknown is a CEL unknown that names what is missing.
func unknown(reason string) *types.Unknown {
	return types.NewUnknown(0, types.NewAttributeTrail(reason))
}

// mapView is a Map node as CEL sees it.
type mapView object.Node

func (m *mapView) node() *object.Node { return (*object.Node)(m) }

// Find implements traits.Mapper.
func (m *mapView) Find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v := m.node().Get(string(k))
	if v == nil {
		return nil, false
	}
	return toCEL(v), true
}

// Get implements traits.Indexer.
func (m *mapView) Get(key ref.Val) ref.Val {
	v, found := m.Find(key)
	if !found {
		return types.NewErr("no such key: %v", key.Value())
	}
	return v
}

// Contains implements traits.Container.
func (m *mapView) Contains(key ref.Val) ref.Val {
	_, found := m.Find(key)
	return types.Bool(found)
}

// Size implements traits.Sizer.
func (m *mapView) Size() ref.Val { return types.Int(len(m.keys())) }

func (m *mapView) keys() []ref.Val {
	out := make([]ref.Val, 0, len(m.Fields))
	for i := range m.Fields {
		if m.Fields[i].Value.Kind != object.Null {
			out = append(out, types.String(m.Fields[i].Key))
		}
	}
	return out
}

// Iterator implements traits.Iterable: over the keys.
func (m *mapView) Iterator() traits.Iterator { return &iterator{values: m.keys()} }

// Equal implements ref.Val.
func (m *mapView) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Mapper)
	if !ok {
		return types.False
	}
	if m.Size() != o.Size() {
		return types.False
	}
	var unk ref.Val
	for _, key := range m.keys() {
		mine, _ := m.Find(key)
		theirs, found := o.Find(key)
		if !found {
			return types.False
		}
		switch eq := equal(mine, theirs); {
		case types.IsUnknown(eq):
			unk = eq
		case eq != types.True:
			return types.False
		}
	}
	if unk != nil {
		return unk
	}
	return types.True
}

// equal is CEL's equality for values of which one may be unknown.
func equal(a, b ref.Val) ref.Val {
	if types.IsUnknown(a) {
		return a
	}
	if types.IsUnknown(b) {
		return b
	}
	return types.Equal(a, b)
}

// ConvertToNative implements ref.Val for the few functions that need it.
func (m *mapView) ConvertToNative(t reflect.Type) (any, error) { return convert(m.node(), t) }

// ConvertToType implements ref.Val.
func (m *mapView) ConvertToType(t ref.Type) ref.Val { return convertType(m, types.MapType, t) }

// Type implements ref.Val.
func (m *mapView) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m *mapView) Value() any { return m.node().Any() }

// listView is a List node as CEL sees it.
type listView object.Node

func (l *listView) node() *object.Node { return (*object.Node)(l) }

// Get implements traits.Indexer.
func (l *listView) Get(index ref.Val) ref.Val {
	i, err := types.IndexOrError(index)
	if err != nil {
		return types.WrapErr(err)
	}
	if i < 0 || i >= len(l.Items) {
		return types.NewErr("index out of bounds: %d", i)
	}
	return toCEL(l.Items[i])
}

// Contains implements traits.Container.
func (l *listView) Contains(value ref.Val) ref.Val {
	var unk ref.Val
	for _, item := range l.Items {
		switch eq := equal(toCEL(item), value); {
		case types.IsUnknown(eq):
			unk = eq
		case eq == types.True:
			return types.True
		}
	}
	if unk != nil {
		return unk
	}
	return types.False
}

// Size implements traits.Sizer.
func (l *listView) Size() ref.Val { return types.Int(len(l.Items)) }

// Add implements traits.Adder.
func (l *listView) Add(other ref.Val) ref.Val {
	o, ok := other.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	if u := tainted(l.node()); u != nil {
		return u // CEL's own lists do not expect one inside
	}
	out := l.values()
	for it := o.Iterator(); it.HasNext() == types.True; {
		out = append(out, it.Next())
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

func (l *listView) values() []ref.Val {
	out := make([]ref.Val, len(l.Items))
	for i, item := range l.Items {
		out[i] = toCEL(item)
	}
	return out
}

// Iterator implements traits.Iterable.
func (l *listView) Iterator() traits.Iterator { return &iterator{values: l.values()} }

// Equal implements ref.Val.
func (l *listView) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Lister)
	if !ok || l.Size() != o.Size() {
		return types.False
	}
	var unk ref.Val
	for i, item := range l.Items {
		switch eq := equal(toCEL(item), o.Get(types.Int(i))); {
		case types.IsUnknown(eq):
			unk = eq
		case eq != types.True:
			return types.False
		}
	}
	if unk != nil {
		return unk
	}
	return types.True
}

// ConvertToNative implements ref.Val.
func (l *listView) ConvertToNative(t reflect.Type) (any, error) { return convert(l.node(), t) }

// ConvertToType implements ref.Val.
func (l *listView) ConvertToType(t ref.Type) ref.Val { return convertType(l, types.ListType, t) }

// Type implements ref.Val.
func (l *listView) Type() ref.Type { return types.ListType }

// Value implements ref.Val.
func (l *listView) Value() any { return l.node().Any() }

func convertType(v ref.Val, own, to ref.Type) ref.Val {
	switch to {
	case own:
		return v
	case types.TypeType:
		return own.(*types.Type)
	}
	return types.NewErr("type conversion error from '%s' to '%s'", own, to)
}

// convert hands a value to a library function that asks for a Go type.
func convert(n *object.Node, t reflect.Type) (any, error) {
	v := types.DefaultTypeAdapter.NativeToValue(n.Any())
	if _, own := v.(interface{ node() *object.Node }); own {
		return nil, fmt.Errorf("unsupported conversion to %v", t)
	}
	return v.ConvertToNative(t)
}

// iterator walks over values that are already there.
type iterator struct {
	values []ref.Val
	next   int
}

// HasNext implements traits.Iterator.
func (it *iterator) HasNext() ref.Val { return types.Bool(it.next < len(it.values)) }

// Next implements traits.Iterator.
func (it *iterator) Next() ref.Val {
	if it.next >= len(it.values) {
		return nil
	}
	it.next++
	return it.values[it.next-1]
}

// ConvertToNative implements ref.Val; an iterator is never converted.
func (it *iterator) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("unsupported conversion of an iterator to %v", t)
}

// ConvertToType implements ref.Val; an iterator is never converted.
func (it *iterator) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }

// Equal implements ref.Val; iterators are never compared.
func (it *iterator) Equal(ref.Val) ref.Val { return types.NoSuchOverloadErr() }

// Type implements ref.Val.
func (it *iterator) Type() ref.Type { return types.IteratorType }

// Value implements ref.Val.
func (it *iterator) Value() any { return nil }

var (
	_ traits.Mapper = (*mapView)(nil)
	_ traits.Lister = (*listView)(nil)
)
