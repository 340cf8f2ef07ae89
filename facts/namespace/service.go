// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"slices"
	"strconv"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// serviceSelection is the fact about a Service, or nil where it selects no pods
// by itself.
func (x *index) serviceSelection(o *object.Object) *object.Object {
	chosen := readEqual(o.Root.At("spec", "selector"))
	if chosen.all() == yes || o.Root.At("spec", "type").Str() == "ExternalName" {
		return nil
	}
	s := x.space(o)
	selects := x.chooses(s, chosen)
	under := object.Path(nil).Fields("facts")
	places := []facts.Place{{Fact: under.Fields("selects"), Source: object.Path(nil).Fields("spec", "selector")}}
	ports := facts.List()
	declared := o.Root.At("spec", "ports")
	named := declared != nil && declared.Kind == object.Unknown
	for i, p := range facts.Items(declared) {
		target, found := p.Get("targetPort").Str(), p.Get("targetPort")
		if p.Kind == object.Unknown {
			found = p
		}
		switch {
		case found != nil && found.Kind == object.Unknown: // stays so
		case target == "":
			continue
		default:
			found = s.opens(chosen, target)
		}
		if _, err := strconv.Atoi(target); err != nil {
			named = true
		}
		places = append(places, facts.Place{
			Fact:   under.Fields("ports").Append(object.Step{Item: true, Index: len(ports.Items)}),
			Source: object.Path(nil).Fields("spec", "ports").Append(object.ItemStep(declared, i)).Fields("targetPort"),
		})
		ports.Items = append(ports.Items, facts.Map(
			facts.Field("name", object.NewString(target)),
			facts.Field("found", found)))
	}
	selected := x.node(selects, "a workload with the labels %s in the namespace %s", chosen, s)
	switch {
	case selects == yes && declared != nil && declared.Kind == object.Unknown:
		ports = declared
	case selects != yes:
		// Nothing is known of the ports of pods that were not found.
		ports, places = facts.List(), places[:1]
		if named && selected.Kind == object.Unknown {
			ports = selected
		}
	}
	return facts.New("ServiceSelection", o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("pods", object.NewString(chosen.String())),
		facts.Field("selects", selected),
		facts.Field("ports", ports),
	))}, places...)
}

// opens says whether pods that a selector chooses have a port of a name. A
// number needs no name.
func (s *space) opens(chosen selector, port string) *object.Node {
	if _, err := strconv.Atoi(port); err == nil {
		return object.NewBool(true)
	}
	out := s.has(func(s *space) truth {
		out := no
		for _, c := range s.classes {
			if c.ports[port] {
				out = max(out, chosen.matches(c.labels))
			}
		}
		return out
	})
	if out == unknown {
		return object.NewUnknown("some labels or namespaces of pods are not known")
	}
	return object.NewBool(out == yes)
}

// claim is a host that an Ingress answers for.
type claim struct {
	space *space // nil for that of another part
	class string
	of    string // the Ingress
}

// classOf is the class of an Ingress.
func classOf(o *object.Object) string {
	if class := o.Root.At("spec", "ingressClassName").Str(); class != "" {
		return class
	}
	return o.Root.At("metadata", "annotations", classAnnotation).Str()
}

// maxClaims is how many Ingresses of one host are remembered.
const maxClaims = 64

// claim notes the hosts of an Ingress of a namespace.
func (x *index) claim(s *space, o *object.Object) {
	c := claim{s, classOf(o), s.String() + "/" + o.Name}
	for _, rule := range facts.Items(o.Root.At("spec", "rules")) {
		host := rule.Get("host").Str()
		if all := x.hosts[host]; host != "" && len(all) < maxClaims && !slices.Contains(all, c) {
			x.hosts[host] = append(all, c)
		}
	}
}

// maxOthers is how many Ingresses with the same host are told.
const maxOthers = 4

// sharedHosts are the hosts of an Ingress that Ingresses of other namespaces
// answer for too, if all of them are of one cluster. Where one names no
// namespace, both may be in the same.
func (x *index) sharedHosts(o *object.Object) (*object.Node, []facts.Place) {
	hosts := facts.List()
	var places []facts.Place
	s := x.space(o)
	rules := o.Root.At("spec", "rules")
	for i, rule := range facts.Items(rules) {
		host := rule.Get("host").Str()
		var others []string
		perhaps := ""
		for _, c := range slices.Concat(x.hosts[host], x.askHost(host)) {
			switch {
			case c.space == s || c.class != classOf(o):
			case c.space != nil && c.space.name == "" || s.name == "":
				perhaps = c.of
			default:
				others = append(others, c.of)
			}
		}
		slices.Sort(others)
		others = others[:min(len(others), maxOthers)]
		if len(others) == 0 && perhaps == "" {
			continue
		}
		places = append(places, facts.Place{
			Fact:   object.Path(nil).Fields("facts", "hosts").Append(object.Step{Item: true, Index: len(hosts.Items)}),
			Source: object.Path(nil).Fields("spec", "rules").Append(object.ItemStep(rules, i)).Fields("host"),
		})
		value := facts.Strings(others)
		switch {
		case len(others) == 0:
			value = object.NewUnknown("whether " + perhaps + ", which has the host " + host + " too, is of another namespace")
		case !x.env.Complete:
			value = object.NewUnknown("whether " + others[0] + ", which has the host " + host + " too, is of the same cluster")
		}
		hosts.Items = append(hosts.Items, facts.Map(facts.Field("host", object.NewString(host)), facts.Field("others", value)))
	}
	return hosts, places
}

// backend is a Service that an Ingress or a route leads to.
type backend struct {
	namespace, name string
	port            *object.Node // a number or a name; nil where none is said
	at              object.Path
}

// backends is the fact about an Ingress or a route.
func (x *index) backends(o *object.Object) *object.Object {
	var all []backend
	if kindOf(o) == route {
		all = ofRoute(o)
	} else {
		all = ofIngress(o)
	}
	under := object.Path(nil).Fields("facts", "backends")
	list := facts.List()
	hosts, places := x.sharedHosts(o)
	for _, b := range all {
		places = append(places, facts.Place{Fact: under.Append(object.Step{Item: true, Index: len(list.Items)}), Source: b.at})
		list.Items = append(list.Items, x.backend(o, b))
	}
	return facts.New("Backends", o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("backends", list), facts.Field("hosts", hosts),
	))}, places...)
}

// backend says whether a Service is there.
func (x *index) backend(o *object.Object, b backend) *object.Node {
	s := x.space(o)
	if b.namespace != "" && b.namespace != o.Namespace {
		if s = x.spaces[b.namespace]; s == nil {
			s = &space{name: b.namespace, services: x.askService(b.namespace, b.name)}
		}
	}
	there := s.has(func(s *space) truth { return truthOf(s.services[b.name] != nil) })
	if there == no && s.name == "" && x.strayServices[b.name] {
		there = unknown
	}
	found := x.node(there, "the Service %s of the namespace %s", b.name, s)
	open := object.NewBool(true)
	switch {
	case b.port == nil:
	case there == yes:
		open = hasPort(s.services[b.name], b.port)
	case found.Kind == object.Unknown:
		open = found
	}
	return facts.Map(
		facts.Field("name", object.NewString(b.name)),
		facts.Field("port", object.NewString(portName(b.port))),
		facts.Field("found", found),
		facts.Field("portFound", open),
	)
}

// portName is a port as a person reads it.
func portName(port *object.Node) string {
	switch {
	case port == nil:
		return ""
	case port.Kind == object.Int:
		return strconv.FormatInt(port.Int(), 10)
	}
	return port.Str()
}

// hasPort says whether a Service has a port. One that stands for another host
// need not name its ports.
func hasPort(service *object.Object, port *object.Node) *object.Node {
	ports := service.Root.At("spec", "ports")
	switch {
	case port.Kind == object.Unknown:
		return port
	case ports.HasUnknown():
		return object.NewUnknown(ports.FirstUnknown())
	case empty(ports):
		return object.NewBool(true)
	}
	return object.NewBool(slices.ContainsFunc(facts.Items(ports), func(p *object.Node) bool {
		if port.Kind == object.Int {
			own := p.Get("port")
			return own != nil && own.Kind == object.Int && own.Int() == port.Int()
		}
		return p.Get("name").Str() == port.Str()
	}))
}

// ofIngress are the backends of an Ingress.
func ofIngress(o *object.Object) []backend {
	var out []backend
	add := func(n *object.Node, at object.Path) {
		switch service := n.Get("service"); {
		case service != nil:
			port := service.At("port", "number")
			if port == nil {
				port = service.At("port", "name")
			}
			out = append(out, backend{name: service.Get("name").Str(), port: port, at: at.Fields("service", "name")})
		case n.Get("serviceName") != nil: // extensions/v1beta1
			out = append(out, backend{name: n.Get("serviceName").Str(), port: n.Get("servicePort"), at: at.Fields("serviceName")})
		}
	}
	spec := object.Path(nil).Fields("spec")
	add(o.Root.At("spec", "defaultBackend"), spec.Fields("defaultBackend"))
	add(o.Root.At("spec", "backend"), spec.Fields("backend"))
	rules := o.Root.At("spec", "rules")
	for i, rule := range facts.Items(rules) {
		paths := rule.At("http", "paths")
		for j, p := range facts.Items(paths) {
			add(p.Get("backend"), spec.Fields("rules").Append(object.ItemStep(rules, i)).Fields("http", "paths").
				Append(object.ItemStep(paths, j)).Fields("backend"))
		}
	}
	return out
}

// ofRoute are the Services among the backends of a route.
func ofRoute(o *object.Object) []backend {
	var out []backend
	rules := o.Root.At("spec", "rules")
	for i, rule := range facts.Items(rules) {
		refs := rule.Get("backendRefs")
		for j, ref := range facts.Items(refs) {
			if ref.Get("group").Str() != "" || ref.Get("kind") != nil && ref.Get("kind").Str() != "Service" {
				continue
			}
			out = append(out, backend{
				namespace: ref.Get("namespace").Str(), name: ref.Get("name").Str(), port: ref.Get("port"),
				at: object.Path(nil).Fields("spec", "rules").Append(object.ItemStep(rules, i)).Fields("backendRefs").
					Append(object.ItemStep(refs, j)).Fields("name"),
			})
		}
	}
	return out
}
