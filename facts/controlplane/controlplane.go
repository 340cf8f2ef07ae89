// SPDX-License-Identifier: Apache-2.0

// Package controlplane derives how the components of a control plane are
// started: kube-apiserver, kube-controller-manager, kube-scheduler and etcd. It
// reads their command lines in pods and in everything that holds a pod template
// (static pods, hosted control planes), and what kubeadm and the Cluster API are
// told to start them with. A component is known by the name of the program that
// is run, not by the name of the pod.
//
// The fact says what holds, not what is written:
//
//	kind: APIServer # or ControllerManager, Scheduler, Etcd
//	facts:
//	  component: kube-apiserver
//	  minor: 36                # of the Kubernetes whose defaults were taken
//	  hostNetwork: true
//	  flags:                   # by name: what is set, else the default
//	    anonymous-auth: true
//	    authorization-mode: [Node, RBAC]
//	    audit-log-maxage: 366
//	    feature-gates: {AllAlpha: true}
//	  explicit: [authorization-mode, feature-gates]
//	  admission:               # of an APIServer
//	    enabled: [NamespaceLifecycle, NodeRestriction]
//	    disabled: []           # plugins that are on by default and were switched off
//	  listens:                 # of an Etcd
//	  - {for: client, url: "https://127.0.0.1:2379"} # or peer, metrics
//
// A flag has the type that the component gives it: a boolean, an integer, a
// list, a map, else a string, durations too. Defaults are there for the flags
// that controls of the catalogue read; other flags that are not set are absent,
// and so are lists and strings whose default is empty. What cannot be read off
// the object (a variable from a Secret, a file that takes the place of flags) is
// unknown. Whether the files that flags name exist, or what they hold, it does
// not know.
package controlplane

import (
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Single derives the facts from one object.
var Single = facts.Single{
	Kinds:  []string{"APIServer", "ControllerManager", "Scheduler", "Etcd"},
	From:   facts.From(facts.Sources{Pods: true}),
	Derive: derive,
}

func derive(o *object.Object, env *facts.Env) []*object.Object {
	var out []*object.Object
	for _, p := range processes(o, env) {
		out = append(out, p.fact(o))
	}
	return out
}

// processes returns the components that an object starts.
func processes(o *object.Object, env *facts.Env) []*process {
	if path, ok := object.PodPath(o.GroupKind()); ok {
		return inPod(o.Root, path, env.Minor)
	}
	return inKubeadm(o, env.Minor)
}

// process is a component as it is started.
type process struct {
	component *component
	settings  *settings
	// place is where a flag that is missing would be set.
	place object.Path
	minor int
	// hostNetwork says whether it has the network of the node, and network
	// where that is said.
	hostNetwork *object.Node
	network     object.Path
}

// part is a field of a fact, and where what it holds is said.
type part struct {
	name   string
	value  *object.Node
	places []facts.Place
}

var root = object.Path{{Field: "facts"}}

// fact says what the process is started with.
func (p *process) fact(o *object.Object) *object.Object {
	flags := p.flags()
	parts := []part{
		{name: "component", value: object.NewString(p.component.name)},
		{name: "minor", value: object.NewInt(int64(p.minor))},
		{name: "hostNetwork", value: p.hostNetwork, places: placed(p.network, "hostNetwork")},
		{name: "flags", value: flags, places: p.flagPlaces()},
		{name: "explicit", value: p.explicit()},
	}
	switch p.component.kind {
	case "APIServer":
		parts = append(parts, p.admission(flags))
	case "Etcd":
		parts = append(parts, p.listens(flags))
	}
	all := facts.Map()
	places := []facts.Place{{Fact: root, Source: p.place}}
	for _, part := range parts {
		all.Fields = append(all.Fields, facts.Field(part.name, part.value))
		places = append(places, part.places...)
	}
	return facts.New(p.component.kind, o, []object.Field{facts.Field("facts", all)}, places...)
}

// placed returns the place of a field of the fact; none where that is not said
// anywhere.
func placed(source object.Path, field ...string) []facts.Place {
	if source == nil {
		return nil
	}
	return []facts.Place{{Fact: root.Fields(field...), Source: source}}
}

// flagPlaces are where flags are set.
func (p *process) flagPlaces() []facts.Place {
	var out []facts.Place
	for _, name := range p.settings.order {
		out = append(out, placed(p.settings.from(name), "flags", name)...)
	}
	return out
}

// explicit are the names of the flags that are set.
func (p *process) explicit() *object.Node {
	if p.settings.hole != "" {
		return object.NewUnknown(p.settings.hole)
	}
	return facts.Strings(p.settings.order)
}

// flags are the flags that are set and the defaults of those that are not.
func (p *process) flags() *object.Node {
	s := p.settings
	if s.hole != "" {
		return object.NewUnknown(s.hole)
	}
	out := facts.Map()
	add := func(name string, value *object.Node) {
		if value != nil {
			out.Fields = append(out.Fields, facts.Field(name, value))
		}
	}
	for i := range p.component.flags {
		f := &p.component.flags[i]
		add(f.name, p.effective(f))
	}
	for _, name := range s.order {
		if p.component.flag(name) == nil {
			add(name, p.component.value(&flag{name: name}, s.flags[name]))
		}
	}
	return out
}

// effective is what holds for a flag, or nil.
func (p *process) effective(f *flag) *object.Node {
	values, set := p.settings.flags[f.name]
	if reason := p.component.elsewhere(p.settings, f.name, set); reason != "" {
		return object.NewUnknown(reason)
	}
	switch {
	case !set && p.settings.rest != "":
		return object.NewUnknown(p.settings.rest)
	case !set:
		return f.standard(p.minor)
	}
	value := p.component.value(f, values)
	if value == nil && f.name == "authorization-mode" {
		return f.standard(p.minor) // no mode is the mode that holds by default
	}
	return value
}

// admission says which admission plugins are enabled, and which of those that
// are by default are not.
func (p *process) admission(flags *object.Node) part {
	out := part{name: "admission", value: flags, places: append(
		placed(p.settings.from("enable-admission-plugins"), "admission", "enabled"),
		placed(p.settings.from("disable-admission-plugins"), "admission", "disabled")...)}
	if flags.Kind == object.Unknown {
		return out
	}
	usual := facts.Strings(usualPlugins(p.minor))
	enabled, kept := flags.Get("admission-control"), flags.Get("admission-control")
	if enabled == nil {
		off := flags.Get("disable-admission-plugins")
		enabled, kept = without(with(usual, flags.Get("enable-admission-plugins")), off), without(usual, off)
	}
	out.value = facts.Map(facts.Field("enabled", enabled), facts.Field("disabled", without(usual, kept)))
	return out
}

// with returns the list with the items of another one that it has not.
func with(list, other *object.Node) *object.Node {
	out := facts.List(slices.Clone(list.Items)...)
	switch {
	case other == nil:
	case other.Kind == object.Unknown:
		out.Items = append(out.Items, other)
	default:
		has := newSet(list.Items)
		for _, item := range other.Items {
			if !has.holds(item) {
				has.add(item)
				out.Items = append(out.Items, item)
			}
		}
	}
	return out
}

// without returns the list without the items of another one. Where that is not
// known, neither is the result.
func without(list, other *object.Node) *object.Node {
	if other == nil {
		return list
	}
	if other.HasUnknown() {
		return object.NewUnknown(other.FirstUnknown())
	}
	out, has := facts.List(), newSet(other.Items)
	for _, item := range list.Items {
		if !has.holds(item) {
			out.Items = append(out.Items, item)
		}
	}
	return out
}

// set is a set of values, nearly all of them strings.
type set struct {
	strings map[string]bool
	others  []*object.Node
}

func newSet(items []*object.Node) *set {
	s := &set{strings: make(map[string]bool, len(items))}
	for _, item := range items {
		s.add(item)
	}
	return s
}

func (s *set) add(n *object.Node) {
	if n.Kind == object.String {
		s.strings[n.Text] = true
	} else {
		s.others = append(s.others, n)
	}
}

func (s *set) holds(n *object.Node) bool {
	if n.Kind == object.String {
		return s.strings[n.Text]
	}
	return slices.ContainsFunc(s.others, n.Equal)
}

// listens are the addresses at which etcd answers.
func (p *process) listens(flags *object.Node) part {
	out := part{name: "listens", value: flags}
	if flags.Kind == object.Unknown {
		return out
	}
	out.value = facts.List()
	for _, l := range []struct{ flag, purpose string }{
		{"listen-client-urls", "client"}, {"listen-client-http-urls", "client"}, {"listen-peer-urls", "peer"}, {"listen-metrics-urls", "metrics"},
	} {
		urls := flags.Get(l.flag)
		if urls == nil {
			continue
		}
		items := []*object.Node{urls}
		if urls.Kind != object.Unknown {
			items = nil
			for _, url := range urls.Items {
				items = append(items, facts.Map(facts.Field("for", object.NewString(l.purpose)), facts.Field("url", url)))
			}
		}
		for _, item := range items {
			if source := p.settings.from(l.flag); source != nil {
				at := root.Fields("listens").Append(object.Step{Item: true, Index: len(out.value.Items)})
				out.places = append(out.places, facts.Place{Fact: at, Source: source})
			}
			out.value.Items = append(out.value.Items, item)
		}
	}
	return out
}
