// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/object"
)

// valueKind is what kind of value a field holds.
type valueKind uint8

// The kinds of values. anyValue is that of a field of which nothing is known.
const (
	anyValue valueKind = iota
	boolValue
	intValue
	floatValue
	stringValue
	intOrString
	quantityValue
	bytesValue
	timeValue
	listValue
	mapValue
	structValue
)

// shape is what is known of a value's type: the Go type of a kind that the API
// server has built in. The zero shape knows nothing.
type shape struct{ t reflect.Type }

var (
	quantityType    = reflect.TypeFor[resource.Quantity]()
	intOrStringType = reflect.TypeFor[intstr.IntOrString]()
	timeTypes       = []reflect.Type{reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]()}
	durationType    = reflect.TypeFor[metav1.Duration]()
)

// shapeOf returns the shape of a built-in kind, of whatever version.
func shapeOf(gk object.GroupKind) shape {
	for _, v := range scheme.Scheme.VersionsForGroupKind(schema.GroupKind{Group: gk.Group, Kind: gk.Kind}) {
		for _, gvk := range []schema.GroupVersionKind{v.WithKind(gk.Kind)} {
			if t, ok := scheme.Scheme.AllKnownTypes()[gvk]; ok {
				return shape{t}
			}
		}
	}
	return shape{}
}

// common returns the shape of what may be an object of any of some kinds: what is
// of two types in two of them is of no known type.
func common(kinds []object.GroupKind) shape {
	var out shape
	for i, gk := range kinds {
		s := shapeOf(gk)
		if s.t == nil {
			return shape{}
		}
		if i == 0 {
			out = s
			continue
		}
		out = shape{union(out.t, s.t, 0)}
	}
	return out
}

// maxUnion is how deep types are joined.
const maxUnion = 8

// union returns a type that has the fields of both.
func union(a, b reflect.Type, depth int) reflect.Type {
	a, b = deref(a).t, deref(b).t
	if a == b {
		return a
	}
	if depth > maxUnion || (shape{a}).kind() != structValue || (shape{b}).kind() != structValue {
		return reflect.TypeFor[any]()
	}
	fields := map[string]reflect.Type{}
	for name, t := range fieldsOf(a) {
		fields[name] = t
	}
	for name, t := range fieldsOf(b) {
		if other, ok := fields[name]; ok {
			t = union(other, t, depth+1)
		}
		fields[name] = t
	}
	var out []reflect.StructField
	for i, name := range sortedKeys(fields) {
		out = append(out, reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: fields[name], Tag: reflect.StructTag(`json:"` + name + `"`),
		})
	}
	return reflect.StructOf(out)
}

// kind returns what kind of value it is.
func (s shape) kind() valueKind {
	if s.t == nil {
		return anyValue
	}
	switch {
	case s.t == quantityType:
		return quantityValue
	case s.t == intOrStringType:
		return intOrString
	case slices.Contains(timeTypes, s.t):
		return timeValue
	case s.t == durationType:
		return stringValue
	}
	switch s.t.Kind() {
	case reflect.Bool:
		return boolValue
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return intValue
	case reflect.Float32, reflect.Float64:
		return floatValue
	case reflect.String:
		return stringValue
	case reflect.Slice:
		if s.t.Elem().Kind() == reflect.Uint8 {
			return bytesValue
		}
		return listValue
	case reflect.Map:
		return mapValue
	case reflect.Struct:
		if len(fieldsOf(s.t)) == 0 {
			return anyValue // RawExtension and the like
		}
		return structValue
	}
	return anyValue
}

// elem returns the shape of the items of a list or of the values of a map.
func (s shape) elem() shape {
	switch s.kind() {
	case listValue, mapValue:
		return deref(s.t.Elem())
	}
	return shape{}
}

// field returns the shape of a field, and whether there is one of the name.
func (s shape) field(name string) (shape, bool) {
	switch s.kind() {
	case anyValue:
		return shape{}, true
	case mapValue:
		return s.elem(), true
	case structValue:
		t, ok := fieldsOf(s.t)[name]
		return deref(t), ok
	}
	return shape{}, false
}

// sent says whether a field of a struct is sent even where it is empty.
func (s shape) sent(name string) bool {
	if s.kind() != structValue {
		return false
	}
	for i := range s.t.NumField() {
		tag := s.t.Field(i).Tag.Get("json")
		if n, opts, _ := strings.Cut(tag, ","); n == name {
			return !strings.Contains(opts, "omitempty")
		}
	}
	return false
}

// required says whether a field of a struct would be sent as null where it is
// not set.
func (s shape) required(name string) bool {
	if !s.sent(name) || slices.Contains(mayBeNull, name) {
		return false
	}
	switch fieldsOf(s.t)[name].Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return true
	}
	return false
}

// fields returns the names of the fields of a struct, sorted.
func (s shape) fields() []string {
	if s.kind() != structValue {
		return nil
	}
	var out []string
	for name := range fieldsOf(s.t) {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func deref(t reflect.Type) shape {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return shape{t}
}

var structFields sync.Map // reflect.Type -> map[string]reflect.Type

// fieldsOf returns the fields of a struct by the names that they have in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := structFields.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case name == "" && (f.Anonymous || strings.Contains(opts, "inline")):
			inner := deref(f.Type).t
			if inner.Kind() == reflect.Struct {
				for n, ft := range fieldsOf(inner) {
					out[n] = ft
				}
			}
		case name != "":
			out[name] = f.Type
		}
	}
	structFields.Store(t, out)
	return out
}
