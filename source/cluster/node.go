// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding"
	"encoding/base64"
	gojson "encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sconce.dev/sconce/object"
)

// maker makes a value of one Go type into a node. It returns nil for a value
// that JSON cannot express.
type maker func(b *builder, v reflect.Value) *object.Node

// makers are the makers that were needed so far, by type: what a type's fields
// are called is worked out once.
var makers sync.Map

// nodeOf returns what the API server would send as JSON for a value of one of
// its Go types. That is a third of the time that going through maps takes.
func nodeOf(v any) *object.Node {
	var b builder
	return b.make(reflect.ValueOf(v))
}

// builder makes nodes of one object, side by side in memory.
type builder struct {
	slab []object.Node
}

// slabSize is how many nodes are allocated at once: most objects have a
// hundred or two.
const slabSize = 64

// node returns room for a node.
func (b *builder) node() *object.Node {
	if len(b.slab) == 0 {
		b.slab = make([]object.Node, slabSize)
	}
	n := &b.slab[0]
	b.slab = b.slab[1:]
	return n
}

func (b *builder) text(s string) *object.Node {
	n := b.node()
	n.Kind, n.Text = object.String, s
	return n
}

// put returns room that holds a scalar.
func (b *builder) put(scalar *object.Node) *object.Node {
	n := b.node()
	*n = *scalar
	return n
}

func (b *builder) make(v reflect.Value) *object.Node {
	if !v.IsValid() {
		return b.node()
	}
	if n := makerOf(v.Type())(b, v); n != nil {
		return n
	}
	return object.NewUnknown("value of a type that JSON has not")
}

func makerOf(t reflect.Type) maker {
	if m, ok := makers.Load(t); ok {
		return m.(maker)
	}
	// A type may hold itself: its fields look the maker up when they need it.
	m, _ := makers.LoadOrStore(t, newMaker(t))
	return m.(maker)
}

var (
	jsonMarshaler = reflect.TypeFor[gojson.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func newMaker(t reflect.Type) maker {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return timeNode
	case reflect.TypeFor[resource.Quantity]():
		return func(b *builder, v reflect.Value) *object.Node {
			q := v.Interface().(resource.Quantity)
			return b.text(q.String())
		}
	case reflect.TypeFor[intstr.IntOrString]():
		return func(b *builder, v reflect.Value) *object.Node {
			if x := v.Interface().(intstr.IntOrString); x.Type == intstr.Int {
				return b.put(object.NewInt(int64(x.IntVal)))
			} else {
				return b.text(x.StrVal)
			}
		}
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return pointerNode
	case t.Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(jsonMarshaler):
		return marshalled
	case t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler):
		return marshalled
	}
	return plainMaker(t)
}

// plainMaker is newMaker for a type that does not say itself what it is in JSON.
func plainMaker(t reflect.Type) maker {
	switch t.Kind() {
	case reflect.Bool:
		return func(b *builder, v reflect.Value) *object.Node { return b.put(object.NewBool(v.Bool())) }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(b *builder, v reflect.Value) *object.Node { return b.put(object.NewInt(v.Int())) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return func(b *builder, v reflect.Value) *object.Node { return b.put(object.NewInt(int64(v.Uint()))) }
	case reflect.Float32, reflect.Float64:
		return func(b *builder, v reflect.Value) *object.Node { return b.put(object.NewFloat(v.Float())) }
	case reflect.String:
		return func(b *builder, v reflect.Value) *object.Node { return b.text(v.String()) }
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return bytesNode
		}
		return listNode
	case reflect.Array:
		return listNode
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return mapNode
		}
	case reflect.Interface:
		return pointerNode
	case reflect.Struct:
		return structMaker(t)
	}
	return func(*builder, reflect.Value) *object.Node { return nil }
}

func timeNode(b *builder, v reflect.Value) *object.Node {
	t := v.Interface().(metav1.Time)
	if t.IsZero() {
		return b.node()
	}
	return b.text(t.UTC().Format(time.RFC3339))
}

// pointerNode is what a pointer or an interface points to.
func pointerNode(b *builder, v reflect.Value) *object.Node {
	if v.IsNil() {
		return b.node()
	}
	return b.make(v.Elem())
}

// marshalled is the node of a value that says itself what it is in JSON.
func marshalled(b *builder, v reflect.Value) *object.Node {
	data, err := gojson.Marshal(addressable(v).Interface())
	if err != nil {
		return object.NewUnknown("value that cannot be written as JSON")
	}
	roots, err := object.ParseJSON(data)
	if err == nil && len(roots) == 1 {
		return unplaced(roots[0])
	}
	return object.NewUnknown("value that cannot be written as JSON")
}

// addressable returns a pointer to the value: methods may want one.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

// unplaced takes away the lines and columns of a text that nobody sees.
func unplaced(n *object.Node) *object.Node {
	n.Line, n.Col = 0, 0
	for _, item := range n.Items {
		unplaced(item)
	}
	for i := range n.Fields {
		n.Fields[i].KeyLine, n.Fields[i].KeyCol = 0, 0
		unplaced(n.Fields[i].Value)
	}
	return n
}

func bytesNode(b *builder, v reflect.Value) *object.Node {
	if v.IsNil() {
		return b.node()
	}
	return b.text(base64.StdEncoding.EncodeToString(v.Bytes()))
}

func listNode(b *builder, v reflect.Value) *object.Node {
	n := b.node()
	if v.Kind() == reflect.Slice && v.IsNil() {
		return n
	}
	n.Kind, n.Items = object.List, make([]*object.Node, v.Len())
	for i := range n.Items {
		n.Items[i] = b.make(v.Index(i))
	}
	return n
}

func mapNode(b *builder, v reflect.Value) *object.Node {
	n := b.node()
	if v.IsNil() {
		return n
	}
	n.Kind, n.Fields = object.Map, make([]object.Field, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		n.Fields = append(n.Fields, object.Field{Key: it.Key().String(), Value: b.make(it.Value())})
	}
	slices.SortFunc(n.Fields, func(x, y object.Field) int { return strings.Compare(x.Key, y.Key) })
	return n
}

// structField is a field of a struct as JSON has it.
type structField struct {
	name      string
	index     []int
	omitEmpty bool
	omitZero  bool
	isZero    func(reflect.Value) bool
	make      func() maker
}

func structMaker(t reflect.Type) maker {
	fields := structFields(t, nil)
	return func(b *builder, v reflect.Value) *object.Node {
		n := b.node()
		n.Kind = object.Map
		present := 0
		for i := range fields {
			if _, ok := fields[i].value(v); ok {
				present++
			}
		}
		n.Fields = make([]object.Field, 0, present)
		for i := range fields {
			f := &fields[i]
			if value, ok := f.value(v); ok {
				child := f.make()(b, value)
				if child == nil {
					child = object.NewUnknown("value of a type that JSON has not")
				}
				n.Fields = append(n.Fields, object.Field{Key: f.name, Value: child})
			}
		}
		return n
	}
}

// value returns the field's value, and false where JSON leaves it out.
func (f *structField) value(v reflect.Value) (reflect.Value, bool) {
	for i, x := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v, !(f.omitEmpty && empty(v) || f.omitZero && f.isZero(v))
}

// empty says whether encoding/json takes a value for empty.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// structFields returns the fields of a struct as JSON has them: those of a
// struct that is embedded without a name are its own.
func structFields(t reflect.Type, above []int) []structField {
	var out []structField
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" && options == "" || !sf.IsExported() && !sf.Anonymous {
			continue
		}
		index := append(slices.Clip(above), i)
		inner := sf.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if sf.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			out = append(out, structFields(inner, index)...)
			continue
		}
		if name == "" {
			name = sf.Name
		}
		out = append(out, newStructField(name, options, index, sf.Type))
	}
	return out
}

func newStructField(name, options string, index []int, t reflect.Type) structField {
	words := strings.Split(options, ",")
	f := structField{
		name: name, index: index, omitEmpty: slices.Contains(words, "omitempty"), omitZero: slices.Contains(words, "omitzero"),
		make: sync.OnceValue(func() maker { return makerOf(t) }),
	}
	f.isZero = reflect.Value.IsZero
	if t.Implements(reflect.TypeFor[interface{ IsZero() bool }]()) {
		f.isZero = func(v reflect.Value) bool {
			return v.Kind() == reflect.Pointer && v.IsNil() || v.Interface().(interface{ IsZero() bool }).IsZero()
		}
	} else if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ IsZero() bool }]()) {
		f.isZero = func(v reflect.Value) bool {
			return addressable(v).Interface().(interface{ IsZero() bool }).IsZero()
		}
	}
	if slices.Contains(words, "string") {
		f.make = func() maker { return quotedNode }
	}
	return f
}

// quotedNode is a number or boolean that JSON has as a string.
func quotedNode(b *builder, v reflect.Value) *object.Node { return b.text(fmt.Sprint(v.Interface())) }
