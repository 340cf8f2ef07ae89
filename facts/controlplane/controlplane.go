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

// fact says what the process is started with.
func (p *process) fact(o *object.Object) *object.Object {
	root := object.Path{{Field: "facts"}}
	places := []facts.Place{{Fact: root, Source: p.place}}
	if p.network != nil {
		places = append(places, facts.Place{Fact: root.Fields("hostNetwork"), Source: p.network})
	}
	for _, name := range p.settings.order {
		places = append(places, facts.Place{Fact: root.Fields("flags", name), Source: p.settings.from(name)})
	}
	flags := p.flags()
	fields := []object.Field{
		facts.Field("component", object.NewString(p.component.name)),
		facts.Field("minor", object.NewInt(int64(p.minor))),
		facts.Field("hostNetwork", p.hostNetwork),
		facts.Field("flags", flags),
		facts.Field("explicit", p.explicit()),
	}
	if p.component.kind == "APIServer" {
		fields = append(fields, facts.Field("admission", p.admission(flags)))
		for _, field := range []string{"enable", "disable"} {
			if from := p.settings.from(field + "-admission-plugins"); from != nil {
				places = append(places, facts.Place{Fact: root.Fields("admission", field+"d"), Source: from})
			}
		}
	}
	if p.component.kind == "Etcd" {
		listens, from := p.listens(flags)
		fields = append(fields, facts.Field("listens", listens))
		for i, source := range from {
			places = append(places, facts.Place{Fact: root.Fields("listens").Append(object.Step{Item: true, Index: i}), Source: source})
		}
	}
	return facts.New(p.component.kind, o, []object.Field{facts.Field("facts", facts.Map(fields...))}, places...)
}

// listens are the addresses at which etcd answers, and where each is said.
func (p *process) listens(flags *object.Node) (*object.Node, []object.Path) {
	if flags.Kind == object.Unknown {
		return flags, nil
	}
	out := facts.List()
	var from []object.Path
	for _, l := range []struct{ flag, purpose string }{
		{"listen-client-urls", "client"}, {"listen-client-http-urls", "client"}, {"listen-peer-urls", "peer"}, {"listen-metrics-urls", "metrics"},
	} {
		urls := flags.Get(l.flag)
		if urls == nil {
			continue
		}
		source := p.settings.from(l.flag)
		if source == nil {
			source = p.place
		}
		if urls.Kind == object.Unknown {
			out.Items = append(out.Items, urls)
			from = append(from, source)
		}
		for _, url := range urls.Items {
			out.Items = append(out.Items, facts.Map(facts.Field("for", object.NewString(l.purpose)), facts.Field("url", url)))
			from = append(from, source)
		}
	}
	return out, from
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
		values, set := s.flags[f.name]
		switch reason := p.component.elsewhere(s, f.name, set); {
		case reason != "":
			add(f.name, object.NewUnknown(reason))
		case set && f.name == "authorization-mode" && p.component.value(f, values) == nil:
			add(f.name, f.standard(p.minor)) // no mode is the mode that holds by default
		case set:
			add(f.name, p.component.value(f, values))
		case s.rest != "":
			add(f.name, object.NewUnknown(s.rest))
		default:
			add(f.name, f.standard(p.minor))
		}
	}
	for _, name := range s.order {
		if p.component.flag(name) == nil {
			add(name, p.component.value(&flag{name: name}, s.flags[name]))
		}
	}
	return out
}

// admission says which admission plugins are enabled, and which of those that
// are by default are not.
func (p *process) admission(flags *object.Node) *object.Node {
	if flags.Kind == object.Unknown {
		return flags
	}
	usual := usualPlugins(p.minor)
	if only := flags.Get("admission-control"); only != nil {
		return facts.Map(facts.Field("enabled", only), facts.Field("disabled", without(facts.Strings(usual), only)))
	}
	off := flags.Get("disable-admission-plugins")
	enabled := facts.Strings(usual)
	switch more := flags.Get("enable-admission-plugins"); {
	case more == nil:
	case more.Kind == object.Unknown:
		enabled.Items = append(enabled.Items, more)
	default:
		for _, item := range more.Items {
			if !slices.Contains(usual, item.Text) {
				enabled.Items = append(enabled.Items, item)
			}
		}
	}
	enabled = without(enabled, off)
	return facts.Map(facts.Field("enabled", enabled), facts.Field("disabled", without(facts.Strings(usual), enabled)))
}

// without returns the list without the items of another one; what either does
// not know is not known of the result.
func without(list, other *object.Node) *object.Node {
	if other == nil {
		return list
	}
	if other.HasUnknown() {
		return object.NewUnknown(other.FirstUnknown())
	}
	out := facts.List()
	for _, item := range list.Items {
		if !slices.ContainsFunc(other.Items, item.Equal) {
			out.Items = append(out.Items, item)
		}
	}
	return out
}
