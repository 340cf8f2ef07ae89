// SPDX-License-Identifier: Apache-2.0

// Package facts is what Sconce derives from objects, so that a control can judge
// what one object alone does not say: the flags of a component, the namespace
// that a workload runs in, the role that a binding grants.
//
// A fact is an object of the group facts.sconce.dev. It is about the object that
// it was derived from: findings about it are findings about that object, at its
// lines. Facts state and never judge.
package facts

import (
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// The group of all facts.
const (
	Group      = "facts.sconce.dev"
	APIVersion = Group + "/v1alpha1"
)

// Env is what facts depend on beside objects.
type Env struct {
	// Minor and Patch are the version of the clusters that objects are meant
	// for: 1.Minor.Patch; Patch is -1 where it is not known.
	Minor, Patch int
	// Named says that somebody named that version; otherwise it is the newest.
	Named bool
	// Today is the day for which ages and ends of life are worked out; zero
	// where none may be (they are unknown then).
	Today time.Time
	// Complete says that the objects are all there are. Otherwise what is not
	// among them may still exist, and is unknown.
	Complete bool
}

// Single derives facts from one object alone. They are judged with the object,
// wherever that is.
type Single struct {
	// Kinds are the kinds of facts that it yields. It is called only where a
	// control is about one of them.
	Kinds []string
	// From says which kinds of objects a kind of fact comes from, so that a
	// cluster is asked for these.
	From func(kind string) Sources
	// Derive is pure and may be called from any goroutine. It must be cheap for
	// an object that it has nothing to say of.
	Derive func(o *object.Object, env *Env) []*object.Object
}

// Whole derives facts from all objects together.
type Whole struct {
	// Kinds are the kinds of facts that it yields. It is run only where a
	// control is about one of them.
	Kinds []string
	// From says which kinds of objects a kind of fact comes from.
	From func(kind string) Sources
	// Keep returns what must be kept of an object until all were seen: nil for
	// nothing, and little, since there may be 100,000 of them. It is pure and
	// called from any goroutine. What it returns must not hold the object's
	// whole tree; see Slim.
	Keep func(o *object.Object) any
	// KeepFor, where it is set, returns Keep for what facts depend on beside
	// objects; Complete says nothing yet.
	KeepFor func(env *Env) func(o *object.Object) any
	// Derive yields the facts, given what was kept in the order of the sources.
	Derive func(kept []any, env *Env, yield func(*object.Object))
	// Parts, where it is set, is how the same facts are derived for a part of
	// the objects at a time; without it, and without Live, one that changes
	// derives all again.
	Parts *Parts
	// Live, where it is set, starts what keeps the same facts up to date, where
	// they cannot be cut into parts.
	Live func() Live
}

// Live keeps facts up to date, one change at a time. It is used from one
// goroutine at a time.
type Live interface {
	// Set takes what Keep returned of an object, in place of what it returned
	// before. Nil takes the object away: if it comes back, its facts are new.
	Set(ref object.Ref, kept any)
	// Settle hands over the facts about every object whose facts are not as they
	// were when it was last called, and none for one that has none any more.
	Settle(env *Env, changed func(subject object.Ref, facts []*object.Object))
}

// Lacks says whether objects of a kind that could not be read may be among what
// facts come from. A kind that is not said may be any.
func (w *Whole) Lacks(gk object.GroupKind) bool {
	return gk.Group == "" && (gk.Kind == "" || gk.Kind == AnyKind) ||
		slices.ContainsFunc(w.Kinds, func(kind string) bool { return w.From(kind).Has(gk) })
}

// Parts cuts objects that each say their namespace into parts, by namespaces as
// a rule, so that a change of one object derives little again. What a part does
// not know by itself it asks the others by a key.
type Parts struct {
	// Of names the part that an object belongs to.
	Of func(ref object.Ref) string
	// Tell returns what the objects of a part tell the others. It is pure, and
	// should say the same after a change that is nothing to the others.
	Tell func(part string, kept []any) []Told
	// Derive yields the facts about the objects of a part, as Whole.Derive does.
	// The part "" may yield some about objects of others, which told it of them.
	Derive func(p *Part, env *Env, yield func(*object.Object))
}

// Told is what a part tells those that ask for the key. Values are the same
// where reflect.DeepEqual says so.
type Told struct {
	Key   string
	Value any
}

// Part is what was kept of the objects of a part.
type Part struct {
	Name string
	Kept []any
	// Ask returns what other parts tell under a key, in the order of their
	// names.
	Ask func(key string) []any
}

// Sources are kinds of objects that facts come from. What is only derived from an
// object that is read anyway is not among them: a credential may stand in any.
type Sources struct {
	// Pods stands for everything that holds a pod.
	Pods  bool
	Kinds []object.GroupKind
}

// AnyKind stands for all kinds of a group.
const AnyKind = "*"

// Has says whether a kind is among the sources; AnyKind of a group, whether any
// of its kinds is.
func (s Sources) Has(gk object.GroupKind) bool {
	if _, ok := object.PodPath(gk); s.Pods && ok {
		return true
	}
	among := func(k object.GroupKind) bool {
		return k.Group == gk.Group && (k.Kind == gk.Kind || k.Kind == AnyKind || gk.Kind == AnyKind)
	}
	return slices.ContainsFunc(s.Kinds, among) || s.Pods && gk.Kind == AnyKind && slices.ContainsFunc(object.PodKinds(), among)
}

// From returns a function that names the same sources for every kind of fact.
func From(s Sources) func(kind string) Sources { return func(string) Sources { return s } }

// AllOf returns the function that derives facts from all objects, given that
// which derives them from a part: all are one part, and there are no others.
func AllOf(derive func(p *Part, env *Env, yield func(*object.Object))) func([]any, *Env, func(*object.Object)) {
	return func(kept []any, env *Env, yield func(*object.Object)) {
		derive(&Part{Kept: kept, Ask: func(string) []any { return nil }}, env, yield)
	}
}

// Place says where in an object a field of a fact about it comes from.
type Place = object.Place

// New returns a fact about an object: fields in the given order, under
// apiVersion, kind and metadata (that of the object: name, namespace, labels,
// annotations). Paths are the object's own unless places say otherwise, so that
// a field of the fact that the object has not should stand under "facts".
func New(kind string, of *object.Object, fields []object.Field, places ...Place) *object.Object {
	root := &object.Node{Kind: object.Map, Line: of.Root.Line, Col: of.Root.Col}
	root.Fields = append(root.Fields,
		object.Field{Key: "apiVersion", Value: object.NewString(APIVersion)},
		object.Field{Key: "kind", Value: object.NewString(kind)})
	if m := of.Root.Get("metadata"); m != nil {
		root.Fields = append(root.Fields, object.Field{Key: "metadata", Value: m})
	}
	root.Fields = append(root.Fields, fields...)
	return object.NewFact(object.Ref{APIVersion: APIVersion, Kind: kind, Namespace: of.Namespace, Name: of.Name}, root, of, places)
}

// Field is a shorthand for a field of a fact.
func Field(key string, value *object.Node) object.Field {
	return object.Field{Key: key, Value: value}
}

// Map returns a node that holds fields.
func Map(fields ...object.Field) *object.Node {
	return &object.Node{Kind: object.Map, Fields: fields}
}

// List returns a node that holds items.
func List(items ...*object.Node) *object.Node {
	return &object.Node{Kind: object.List, Items: items}
}

// Strings returns a list of strings.
func Strings(values []string) *object.Node {
	out := List()
	for _, v := range values {
		out.Items = append(out.Items, object.NewString(v))
	}
	return out
}

// Path returns a path of fields.
func Path(fields ...string) object.Path { return object.Path(nil).Fields(fields...) }

// Items returns the items of a list, and none of what is no list.
func Items(n *object.Node) []*object.Node {
	if n == nil || n.Kind != object.List {
		return nil
	}
	return n.Items
}

// Absent is what stands for something that was not found among the objects:
// value where they are complete, else unknown for the reason.
func (e *Env) Absent(value *object.Node, reason string) *object.Node {
	if e.Complete {
		return value
	}
	return object.NewUnknown(reason)
}

// Slim returns a copy of an object that holds just some of its fields, each
// given by its path of fields from the root; a path that ends at a list or map
// keeps all of it, one that leads through a list goes through its items.
// metadata.name, metadata.namespace, metadata.labels and the annotations by
// which the object excuses itself are always kept. The copy may be shared with
// other analysers, and must not be changed.
func Slim(o *object.Object, paths ...[]string) *object.Object {
	if len(paths) == 0 {
		return bare(o)
	}
	return slimmed(o, paths)
}

// bare is an object of which no more is kept than always is.
var bare = Share(func(o *object.Object) *object.Object { return slimmed(o, nil) })

func slimmed(o *object.Object, paths [][]string) *object.Object {
	paths = append(slices.Clip(paths), []string{"metadata", "name"}, []string{"metadata", "generateName"}, []string{"metadata", "namespace"}, []string{"metadata", "labels"})
	if annotations := o.Root.At("metadata", "annotations"); annotations != nil {
		for _, f := range annotations.Fields {
			if strings.HasPrefix(f.Key, v1alpha1.ExceptPrefix) {
				paths = append(paths, []string{"metadata", "annotations", f.Key})
			}
		}
	}
	return o.WithRoot(slim(o.Root, paths))
}

func slim(n *object.Node, paths [][]string) *object.Node {
	if n.Kind != object.Map && n.Kind != object.List {
		return whole(n)
	}
	for _, p := range paths {
		if len(p) == 0 {
			return whole(n)
		}
	}
	out := &object.Node{Kind: n.Kind, Line: n.Line, Col: n.Col}
	if n.Kind == object.List {
		for _, item := range n.Items {
			out.Items = append(out.Items, slim(item, paths))
		}
		return out
	}
	for _, f := range n.Fields {
		var rest [][]string
		for _, p := range paths {
			if p[0] == f.Key {
				rest = append(rest, p[1:])
			}
		}
		if rest != nil {
			f.Value = slim(f.Value, rest)
			out.Fields = append(out.Fields, f)
		}
	}
	return out
}

// whole returns a copy of a value: values of a document lie side by side in
// memory, so that one of them would keep its neighbours.
func whole(n *object.Node) *object.Node {
	out := *n
	out.Fields = slices.Clone(n.Fields)
	for i := range out.Fields {
		out.Fields[i].Value = whole(out.Fields[i].Value)
	}
	out.Items = slices.Clone(n.Items)
	for i := range out.Items {
		out.Items[i] = whole(out.Items[i])
	}
	return &out
}
