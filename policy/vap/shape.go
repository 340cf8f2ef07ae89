// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sconce.dev/sconce/object"
)

// Making a Go value of every object costs more than most policies do. An object
// that fits its Go type as it is written is shown to expressions without: the
// shape of the type says what the type would drop, and what it would add. What
// does not fit, and whatever is asked of a value that a shape does not say, goes
// through the Go type.

// form says how values of a Go type are written.
type form uint8

const (
	oddForm      form = iota // through the Go type always
	boolForm                 // as a boolean
	stringForm               // as a string
	intForm                  // as an integer of some size
	quantityForm             // as a quantity
	intOrStringForm
	listForm
	dictForm   // a map with keys that are not known
	recordForm // a struct
	customForm // in a way of its own
)

// shape is what is known of a Go type.
type shape struct {
	form form
	// of is the type, without a pointer unless the form is custom.
	of reflect.Type
	// min and max bound an integer.
	min, max int64
	item     *shape // of a list or dict
	// members are the fields of a record by their names, ordered in the order of
	// these.
	members map[string]*member
	ordered []*member
	// holder is a struct whose only field is of the type.
	holder func() reflect.Type
}

// member is a field of a record.
type member struct {
	*shape
	name  string
	entry *value.FieldCacheEntry
	// omitAbsent and omitEmpty say that the field is not there where it is not
	// written, or is written and empty. They do not say enough where exact is
	// set: the value must be made.
	omitAbsent, omitEmpty, exact bool
	// absent is what it holds where it is not written; nil for a record.
	absent ref.Val
}

// shapes are those of Go types.
type shapes struct {
	mu    sync.Mutex
	types map[reflect.Type]*shape
	kinds sync.Map // schema.GroupVersionKind -> *shape
}

var knownShapes = &shapes{types: map[reflect.Type]*shape{}}

// shapeOf returns the shape of a kind of Kubernetes; nil for any other.
func shapeOf(kind schema.GroupVersionKind) *shape {
	if s, ok := knownShapes.kinds.Load(kind); ok {
		return s.(*shape)
	}
	t, ok := scheme.Scheme.AllKnownTypes()[kind]
	if !ok {
		return nil
	}
	knownShapes.mu.Lock()
	defer knownShapes.mu.Unlock()
	s := knownShapes.of(t)
	knownShapes.kinds.Store(kind, s)
	return s
}

var (
	quantityType    = reflect.TypeFor[resource.Quantity]()
	intOrStringType = reflect.TypeFor[intstr.IntOrString]()
)

// of returns the shape of a type, which may be one of its own fields.
func (all *shapes) of(t reflect.Type) *shape {
	if s, ok := all.types[t]; ok {
		return s
	}
	if t.Kind() == reflect.Pointer {
		// What points to a value is written as the value.
		if s := all.of(t.Elem()); s.form != customForm && s.form != oddForm {
			all.types[t] = s
			return s
		}
	}
	s := &shape{of: t}
	all.types[t] = s
	s.holder = sync.OnceValue(func() reflect.Type {
		return reflect.StructOf([]reflect.StructField{{Name: "V", Type: t, Tag: `json:"v"`}})
	})
	all.fill(s, t)
	return s
}

func (all *shapes) fill(s *shape, t reflect.Type) {
	switch t {
	case quantityType:
		s.form = quantityForm
		return
	case intOrStringType:
		s.form = intOrStringForm
		return
	}
	entry := value.TypeReflectEntryOf(t)
	if t.Kind() == reflect.Pointer || entry.CanConvertToUnstructured() || entry.CanConvertFromUnstructured() {
		s.form = customForm
		return
	}
	switch t.Kind() {
	case reflect.Bool:
		s.form = boolForm
	case reflect.String:
		s.form = stringForm
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.form, s.min, s.max = intForm, math.MinInt64>>(64-t.Bits()), math.MaxInt64>>(64-t.Bits())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		s.form, s.max = intForm, 1<<t.Bits()-1
	case reflect.Slice:
		if s.form = customForm; t.Elem().Kind() != reflect.Uint8 {
			s.form, s.item = listForm, all.of(t.Elem())
		}
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			s.form, s.item = dictForm, all.of(t.Elem())
		}
	case reflect.Struct:
		all.record(s, t, entry)
	}
}

// record reads the fields of a struct.
func (all *shapes) record(s *shape, t reflect.Type, entry *value.TypeReflectCacheEntry) {
	s.form, s.members = recordForm, map[string]*member{}
	zero := reflect.New(t).Elem()
	for name, f := range entry.Fields() {
		absent := f.GetFrom(zero)
		m := &member{shape: all.of(absent.Type()), name: name, entry: f, omitAbsent: f.CanOmit(absent)}
		m.omitEmpty, m.exact = m.omits(absent.Type())
		if m.form != recordForm || absent.Kind() == reflect.Pointer {
			m.absent = common.SchemalessTypedToVal(absent.Interface())
		}
		s.members[name] = m
		s.ordered = append(s.ordered, m)
	}
	slices.SortFunc(s.ordered, func(a, b *member) int { return strings.Compare(a.name, b.name) })
}

// omits says whether a field is omitted that is written and empty, or that this
// is not to be told without its value.
func (m *member) omits(t reflect.Type) (empty, exact bool) {
	switch t.Kind() {
	case reflect.Pointer:
		return m.entry.CanOmit(reflect.New(t.Elem())), false
	case reflect.Slice:
		return m.entry.CanOmit(reflect.MakeSlice(t, 0, 0)), m.form == customForm
	case reflect.Map:
		return m.entry.CanOmit(reflect.MakeMap(t)), m.form == oddForm
	case reflect.Struct:
		return false, m.omitAbsent
	}
	return m.omitAbsent, m.form == customForm || m.form == oddForm
}

// maxFields is how many fields a map may have that is searched from its
// beginning to its end.
const maxFields = 64

// fits says whether a value as it is written is one of the type, so that making
// a Go value of it would change nothing but what the shape says.
func (s *shape) fits(n *object.Node) bool {
	switch s.form {
	case boolForm:
		return n.Kind == object.Bool
	case stringForm:
		return n.Kind == object.String
	case intForm:
		return n.Kind == object.Int && n.Int() >= s.min && n.Int() <= s.max
	case quantityForm:
		_, ok := quantity(n)
		return ok
	case intOrStringForm:
		return n.Kind == object.String || n.Kind == object.Int && n.Int() >= math.MinInt32 && n.Int() <= math.MaxInt32
	case listForm:
		return n.Kind == object.List && !slices.ContainsFunc(n.Items, func(item *object.Node) bool { return !s.item.fits(item) })
	case dictForm, recordForm:
		return n.Kind == object.Map && len(n.Fields) <= maxFields && s.fitsFields(n)
	case customForm:
		if n.HasUnknown() {
			return false
		}
		_, err := s.make(n)
		return err == nil
	}
	return false
}

func (s *shape) fitsFields(n *object.Node) bool {
	for i := range n.Fields {
		item, v := s.item, n.Fields[i].Value
		if s.form == recordForm {
			m := s.members[n.Fields[i].Key]
			if m == nil && v.HasUnknown() {
				return false
			}
			if m == nil || v.Kind == object.Null {
				continue
			}
			item = m.shape
		}
		if !item.fits(v) {
			return false
		}
	}
	return true
}

// quantity reads a quantity that is written without anything strange.
func quantity(n *object.Node) (resource.Quantity, bool) {
	text := n.Text
	switch n.Kind {
	case object.Int:
		text = strconv.FormatInt(n.Int(), 10)
	case object.String:
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }) {
			return resource.Quantity{}, false
		}
	default:
		return resource.Quantity{}, false
	}
	q, err := resource.ParseQuantity(text)
	return q, err == nil
}

// make makes the Go value.
func (s *shape) make(n *object.Node) (reflect.Value, error) {
	if n == nil {
		return reflect.Zero(s.of), nil
	}
	holder := reflect.New(s.holder())
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"v": n.Any()}, holder.Interface())
	return holder.Elem().Field(0), err
}

// slow shows a value through its Go type.
func (s *shape) slow(n *object.Node) ref.Val {
	v, err := s.make(n)
	if err != nil {
		return types.WrapErr(err)
	}
	return common.SchemalessTypedToVal(v.Interface())
}

// show shows a value that fits to expressions.
func (s *shape) show(n *object.Node) ref.Val {
	switch s.form {
	case boolForm:
		return types.Bool(n.Bool())
	case stringForm:
		return types.String(n.Text)
	case intForm:
		return types.Int(n.Int())
	case quantityForm:
		q, _ := quantity(n)
		return types.String(q.String())
	case intOrStringForm:
		if n.Kind == object.Int {
			return types.Int(n.Int())
		}
		return types.String(n.Text)
	case listForm:
		return &list{written{s, n}}
	case dictForm:
		return &dict{written{s, n}}
	case recordForm:
		return &record{written{s, n}}
	}
	return s.slow(n)
}

// in returns what the field holds in a record, and whether it is there.
func (m *member) in(n *object.Node) (ref.Val, bool) {
	v := n.Get(m.name)
	if v == nil {
		switch {
		case m.omitAbsent:
			return nil, false
		case m.absent == nil:
			return &record{written{m.shape, nil}}, true
		}
		return m.absent, true
	}
	if m.omitted(v) {
		return nil, false
	}
	return m.show(v), true
}

// has says whether the field is there.
func (m *member) has(n *object.Node) bool {
	v := n.Get(m.name)
	return v == nil && !m.omitAbsent || v != nil && !m.omitted(v)
}

// omitted says whether a field that is written is not there.
func (m *member) omitted(v *object.Node) bool {
	if m.exact {
		made, err := m.make(v)
		return err == nil && m.entry.CanOmit(made)
	}
	return m.omitEmpty && empty(v)
}

// differs says whether two records have a field in which their Go values differ
// for certain, without making these.
func (s *shape) differs(a, b *object.Node) bool {
	for i := range a.Fields {
		m := s.members[a.Fields[i].Key]
		if m == nil || m.form != stringForm && m.form != boolForm && m.form != intForm || a.Fields[i].Value.Kind == object.Null {
			continue
		}
		if other := b.Get(m.name); other != nil && !a.Fields[i].Value.Equal(other) {
			return true
		}
	}
	return false
}

// empty says whether a value is the one that its type begins with.
func empty(n *object.Node) bool {
	switch n.Kind {
	case object.Bool:
		return !n.Bool()
	case object.Int:
		return n.Int() == 0
	case object.String:
		return n.Text == ""
	}
	return len(n.Fields) == 0 && len(n.Items) == 0
}
