// SPDX-License-Identifier: Apache-2.0

// Package upgrade states what time does to a cluster: which APIs a version of
// Kubernetes does not serve any more, until when a version gets fixes, how far a
// component is behind, and which known flaws its version has. It says so of
// Kubernetes, of what a Node says of itself, and of add-ons that it knows by
// their images.
//
// What it knows stands in data, with its day and its sources. What came after
// that day is unknown, and so is what a version does not tell: a distribution
// fixes its kernel without changing the number in front. It asks no cluster and
// no network, and does not look into images.
package upgrade

import (
	"maps"
	"slices"
	"sync"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Single derives the facts about one object.
var Single = facts.Single{
	Kinds:  []string{"APIUse", "KubernetesVersion", "ContainerRuntime", "Kernel", "NodeSystem", "AddOn"},
	From:   from,
	Derive: derive,
}

// Whole derives the fact about the version that objects are judged for, where
// the user named one. It is about no object of the user's: the finding stands at
// the version itself.
var Whole = facts.Whole{
	Kinds: []string{"TargetVersion"},
	From:  facts.From(facts.Sources{}), // the version alone
	Keep:  func(*object.Object) any { return nil },
	Derive: func(_ []any, env *facts.Env, yield func(*object.Object)) {
		if fact := targetVersion(env); fact != nil {
			yield(fact)
		}
	},
}

// from says what the facts come from. An object itself uses an API, but in a
// cluster it is read by the newest: only what names APIs says more there.
func from(kind string) facts.Sources {
	switch kind {
	case "APIUse":
		return facts.Sources{Kinds: naming}
	case "KubernetesVersion":
		return facts.Sources{Pods: true, Kinds: append(slices.Collect(maps.Keys(clusterVersions)), object.GroupKind{Kind: "Node"})}
	case "AddOn":
		return facts.Sources{Pods: true}
	}
	return facts.Sources{Kinds: []object.GroupKind{{Kind: "Node"}}}
}

// kindEntry is what there may be to say of objects of a kind, whatever its group:
// one look-up tells for an object of which there is nothing.
type kindEntry struct {
	apis []*api
	// references finds what the object names besides itself.
	references func(*object.Object, minor, []use) []use
	// more says that the object may have a version, or containers.
	more bool
}

var kinds = sync.OnceValue(func() map[string]*kindEntry {
	out := map[string]*kindEntry{}
	entry := func(kind string) *kindEntry {
		if out[kind] == nil {
			out[kind] = &kindEntry{}
		}
		return out[kind]
	}
	for key, a := range apis().byType {
		e := entry(key.kind)
		e.apis = append(e.apis, a)
		_, pods := object.PodPath(object.GroupKind{Group: a.group, Kind: a.Kind})
		e.more = e.more || pods
	}
	for kind, find := range references {
		entry(kind).references = find
	}
	for gk := range clusterVersions {
		entry(gk.Kind).more = true
	}
	entry("Node").more = true
	return out
})

func derive(o *object.Object, env *facts.Env) []*object.Object {
	e := kinds()[o.Kind]
	out := apiUse(o, e, minor(env.Minor))
	if e == nil || !e.more {
		return out
	}
	gk := o.GroupKind()
	if gk == (object.GroupKind{Kind: "Node"}) {
		return append(out, node(o, env)...)
	}
	if path := clusterVersions[gk]; path != nil {
		return append(out, clusterVersion(o, path, env)...)
	}
	if path, ok := object.PodPath(gk); ok {
		out = append(out, images(o, path, env)...)
	}
	return out
}

// images returns the facts about the containers of a pod whose image is a
// component of Kubernetes or an add-on.
func images(o *object.Object, pod object.Path, env *facts.Env) []*object.Object {
	var out []*object.Object
	spec := o.Root
	for _, s := range pod {
		spec = spec.Get(s.Field)
	}
	spec = spec.Get("spec")
	for _, name := range object.ContainerLists {
		list := spec.Get(name)
		for i, container := range facts.Items(list) {
			image := container.Get("image").Str()
			if image == "" {
				continue
			}
			at := func() object.Path {
				return pod.Fields("spec", name).Append(object.ItemStep(list, i)).Fields("image")
			}
			out = append(out, imageFacts(o, image, at, env)...)
		}
	}
	return out
}

// about returns a fact about a version that an object names at a path.
func about(kind string, o *object.Object, path object.Path, fields ...object.Field) *object.Object {
	return facts.New(kind, o, []object.Field{facts.Field("facts", facts.Map(fields...))},
		facts.Place{Fact: object.Path{{Field: "facts"}, {Field: "version"}}, Source: path})
}

// text, number and yes are shorthands for fields of a fact.
func text(key, value string) object.Field { return facts.Field(key, object.NewString(value)) }

func number(key string, value int64) object.Field {
	return facts.Field(key, object.NewInt(value))
}

func yes(key string, value bool) object.Field { return facts.Field(key, object.NewBool(value)) }

// unknown is a field whose value is not known.
func unknown(key, reason string) object.Field {
	return facts.Field(key, object.NewUnknown(reason))
}
