// SPDX-License-Identifier: Apache-2.0

// Package object is one Kubernetes document and where it came from: its data as
// a tree in which every value knows its line and column, its identity (API
// group, kind, namespace, name), its origin, and the one walk over the pods and
// containers that it holds.
//
// It reads YAML as kubectl does (YAML 1.1 booleans and octals, merge keys) and
// JSON as the API server does. It does not know any kind's schema, judges
// nothing and reads no files: see package source for where bytes come from.
package object

import (
	"math"
	"strconv"
)

// Kind says what a Node holds.
type Kind uint8

// The kinds of a Node. Unknown stands for a value that exists but could not be
// read or is computed later; its Text says why.
const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	List
	Map
	Unknown
)

// String returns the kind as a person would name it.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "integer", "number", "string", "list", "map", "unknown value"}[k]
}

// A returns the kind with its article: "an integer".
func (k Kind) A() string {
	if k == Int || k == Unknown {
		return "an " + k.String()
	}
	return "a " + k.String()
}

// Node is one value of a document. It must not be changed once its document is
// parsed: aliases share nodes, and objects are judged in parallel.
type Node struct {
	Kind Kind
	// Line and Col are where the value begins, from 1, Col counted in
	// characters; 0 where there is no source.
	Line, Col int32
	// Text is a String's value, or the reason of an Unknown.
	Text string
	// num holds a Bool (0 or 1), the bits of an Int or of a Float.
	num uint64
	// Fields are a Map's entries in the order of the source.
	Fields []Field
	// Items are a List's elements.
	Items []*Node
}

// Field is one entry of a Map.
type Field struct {
	Key             string
	KeyLine, KeyCol int32
	Value           *Node
}

// NewString returns a String node without a position.
func NewString(s string) *Node { return &Node{Kind: String, Text: s} }

// NewInt returns an Int node without a position.
func NewInt(i int64) *Node { return &Node{Kind: Int, num: uint64(i)} }

// NewFloat returns a Float node without a position.
func NewFloat(f float64) *Node { return &Node{Kind: Float, num: math.Float64bits(f)} }

// NewBool returns a Bool node without a position.
func NewBool(b bool) *Node {
	n := &Node{Kind: Bool}
	if b {
		n.num = 1
	}
	return n
}

// NewUnknown returns a value that could not be read, for the given reason.
func NewUnknown(reason string) *Node { return &Node{Kind: Unknown, Text: reason} }

// FromAny converts what encoding/json or an unstructured object holds. It
// returns an Unknown node for a Go type that JSON has not.
func FromAny(v any) *Node {
	switch v := v.(type) {
	case nil:
		return &Node{}
	case bool:
		return NewBool(v)
	case string:
		return NewString(v)
	case int:
		return NewInt(int64(v))
	case int32:
		return NewInt(int64(v))
	case int64:
		return NewInt(v)
	case float64:
		return NewFloat(v)
	case []any:
		n := &Node{Kind: List, Items: make([]*Node, 0, len(v))}
		for _, item := range v {
			n.Items = append(n.Items, FromAny(item))
		}
		return n
	case map[string]any:
		n := &Node{Kind: Map, Fields: make([]Field, 0, len(v))}
		for _, key := range sortedKeys(v) {
			n.Fields = append(n.Fields, Field{Key: key, Value: FromAny(v[key])})
		}
		return n
	}
	return NewUnknown("value of a type that JSON has not")
}

// Bool returns the value of a Bool.
func (n *Node) Bool() bool { return n != nil && n.Kind == Bool && n.num != 0 }

// Int returns the value of an Int.
func (n *Node) Int() int64 { return int64(n.num) }

// Float returns the value of a Float.
func (n *Node) Float() float64 { return math.Float64frombits(n.num) }

// Str returns the value of a String and "" for any other kind.
func (n *Node) Str() string {
	if n == nil || n.Kind != String {
		return ""
	}
	return n.Text
}

// Get returns the value of a Map's field, or nil. A field that is null counts
// as absent, as it does for the API server's types.
func (n *Node) Get(key string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			if v := n.Fields[i].Value; v.Kind != Null {
				return v
			}
			return nil
		}
	}
	return nil
}

// At follows fields downwards and returns nil where one is absent.
func (n *Node) At(keys ...string) *Node {
	for _, key := range keys {
		n = n.Get(key)
	}
	return n
}

// field returns the entry with the key, null or not.
func (n *Node) field(key string) *Field {
	if n == nil || n.Kind != Map {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			return &n.Fields[i]
		}
	}
	return nil
}

// Any returns the value as encoding/json would: map[string]any, []any, string,
// int64, float64, bool or nil. An Unknown becomes nil.
func (n *Node) Any() any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case Bool:
		return n.Bool()
	case Int:
		return n.Int()
	case Float:
		return n.Float()
	case String:
		return n.Text
	case List:
		out := make([]any, len(n.Items))
		for i, item := range n.Items {
			out[i] = item.Any()
		}
		return out
	case Map:
		out := make(map[string]any, len(n.Fields))
		for i := range n.Fields {
			out[n.Fields[i].Key] = n.Fields[i].Value.Any()
		}
		return out
	}
	return nil
}

// weigh returns what is left of a budget of bytes once the value is written
// down; it stops when nothing is.
func (n *Node) weigh(left int) int {
	left -= 1 + len(n.Text)
	for i := 0; i < len(n.Items) && left > 0; i++ {
		left = n.Items[i].weigh(left)
	}
	for i := 0; i < len(n.Fields) && left > 0; i++ {
		left = n.Fields[i].Value.weigh(left - len(n.Fields[i].Key))
	}
	return left
}

// HasUnknown says whether the value, or any below it, is Unknown.
func (n *Node) HasUnknown() bool { return n.findUnknown() != nil }

// FirstUnknown returns the reason of the first Unknown in the value, or "".
func (n *Node) FirstUnknown() string {
	if u := n.findUnknown(); u != nil {
		return u.Text
	}
	return ""
}

func (n *Node) findUnknown() *Node {
	if n == nil || n.Kind == Unknown {
		return n
	}
	for _, item := range n.Items {
		if u := item.findUnknown(); u != nil {
			return u
		}
	}
	for i := range n.Fields {
		if u := n.Fields[i].Value.findUnknown(); u != nil {
			return u
		}
	}
	return nil
}

// Scalar returns a scalar as a person would write it, strings quoted, and the
// kind's name for anything else.
func (n *Node) Scalar() string {
	if n == nil {
		return "absent"
	}
	switch n.Kind {
	case Bool:
		return strconv.FormatBool(n.Bool())
	case Int:
		return strconv.FormatInt(n.Int(), 10)
	case Float:
		return strconv.FormatFloat(n.Float(), 'g', -1, 64)
	case String:
		return strconv.Quote(n.Text)
	case List:
		if len(n.Items) == 0 {
			return "[]"
		}
	case Map:
		if len(n.Fields) == 0 {
			return "{}"
		}
	}
	return n.Kind.String()
}

// Equal says whether two values are the same, wherever they stand. The order of
// a Map's fields does not count; fields that are null count as absent.
func (n *Node) Equal(m *Node) bool {
	if n == nil || m == nil {
		return n == m
	}
	if n == m {
		return true
	}
	if n.Kind != m.Kind {
		return false
	}
	switch n.Kind {
	case Null:
		return true
	case Bool, Int:
		return n.num == m.num
	case Float:
		return n.Float() == m.Float()
	case String:
		return n.Text == m.Text
	case List:
		if len(n.Items) != len(m.Items) {
			return false
		}
		for i := range n.Items {
			if !n.Items[i].Equal(m.Items[i]) {
				return false
			}
		}
		return true
	case Map:
		if n.present() != m.present() {
			return false
		}
		for i := range n.Fields {
			if n.Fields[i].Value.Kind == Null {
				continue
			}
			other := m.Get(n.Fields[i].Key)
			if other == nil || !n.Fields[i].Value.Equal(other) {
				return false
			}
		}
		return true
	}
	return false
}

// present counts the fields that are not null.
func (n *Node) present() int {
	count := 0
	for i := range n.Fields {
		if n.Fields[i].Value.Kind != Null {
			count++
		}
	}
	return count
}
