// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Exposures returns the ways in from outside, sorted by class, way and port.
// What only some pods of the cluster may use is none.
func (m *Model) Exposures() []Exposure {
	x := m.newWays()
	for _, s := range m.allSpaces() {
		x.ofSpace(s)
	}
	return x.sorted()
}

// ways gathers the ways in from outside.
type ways struct {
	m   *Model
	out []Exposure
	// doors are the classes that lead traffic in for Ingresses; gateways those
	// that do for a Gateway, by its namespace and name.
	doors    []*class
	gateways map[string][]*class
	// spots are the addresses outside for which most is allowed, for ports of
	// classes that the same policies are for.
	spots map[string]spot
}

// answer is whether something is let through.
type answer struct {
	allowed bool
	by      []Reason
	unknown string
}

func (m *Model) newWays() *ways {
	x := &ways{m: m, gateways: map[string][]*class{}, spots: map[string]spot{}}
	for _, c := range m.classes {
		if c == nil {
			continue
		}
		switch c.members[0].controls {
		case "ingress":
			x.doors = append(x.doors, c)
		case "gateway":
			key := c.space.name + "/" + c.Labels[gatewayLabel]
			x.gateways[key] = append(x.gateways[key], c)
		}
	}
	slices.SortFunc(x.doors, compareClasses)
	return x
}

func (x *ways) sorted() []Exposure {
	slices.SortStableFunc(x.out, func(a, b Exposure) int {
		if a.Class != b.Class {
			return compareClasses(x.m.classes[a.Class.ID], x.m.classes[b.Class.ID])
		}
		return cmp.Or(strings.Compare(string(a.Way), string(b.Way)), strings.Compare(a.Port.Protocol, b.Port.Protocol), cmp.Compare(a.Port.Number, b.Port.Number),
			cmp.Compare(a.Outside, b.Outside), strings.Compare(a.Host, b.Host), slices.CompareFunc(a.Via, b.Via, compareRefs))
	})
	return x.out
}

// ofSpace adds the ways that objects of a namespace make.
func (x *ways) ofSpace(s *space) {
	for _, g := range s.groups {
		for _, c := range g.classes {
			x.ofNode(c)
		}
	}
	for _, service := range s.services {
		x.ofService(service, s)
	}
	for _, e := range s.entrances {
		switch e.o.Kind {
		case "Ingress":
			x.ofIngress(e, s)
		case "Gateway":
		default:
			x.ofRoute(e, s)
		}
	}
}

// ofNode adds the ports of its node that a class has.
func (x *ways) ofNode(c *class) {
	free := []Reason{{Rule: -1, Words: "policies do not select pods on the network of their node"}}
	if c.host == yes {
		if len(c.Ports) == 0 {
			x.out = append(x.out, Exposure{Class: &c.Class, Port: Port{Protocol: TCP}, Way: HostNetwork, Via: c.Refs[:1], Unknown: "it names no port, and may listen on any of its node"})
		}
		for _, p := range c.Ports {
			x.out = append(x.out, Exposure{Class: &c.Class, Port: p, Way: HostNetwork, Outside: p.Number, Via: c.Refs[:1], Allowed: true, By: free})
		}
		return
	}
	if c.host == unknown {
		x.out = append(x.out, Exposure{Class: &c.Class, Port: Port{Protocol: TCP}, Way: HostNetwork, Via: c.Refs[:1], Unknown: "whether it is on the network of its node is not known"})
	}
	if c.members[0].onNode {
		x.out = append(x.out, Exposure{Class: &c.Class, Port: Port{Protocol: TCP}, Way: HostPort, Via: c.Refs[:1], Unknown: "its ports could not all be read, and one may be a port of its node"})
	}
	for _, p := range c.members[0].ports {
		if p.host == 0 {
			continue
		}
		e := Exposure{Class: &c.Class, Port: p.Port, Way: HostPort, Outside: p.host, Via: c.Refs[:1]}
		x.add(e, x.fromOutside("everywhere", c, p.Port, x.m.everywhere(isNowhere)))
	}
}

// add adds a way that an answer is for.
func (x *ways) add(e Exposure, a answer) {
	e.Allowed, e.By, e.Unknown = a.allowed, a.by, a.unknown
	x.out = append(x.out, e)
}

// ofService adds the ways that a Service makes by itself.
func (x *ways) ofService(s *service, in *space) {
	if s.kind == "ClusterIP" && len(s.addresses) == 0 && s.unclear == "" {
		return
	}
	x.m.behind(s, in, 0, "", func(p servicePort, to backendPort) {
		e := Exposure{Class: &to.class.Class, Port: to.port, Via: []object.Ref{s.o.Ref}, Outside: p.Number}
		everywhere := x.fromOutside("everywhere", to.class, to.port, x.m.everywhere(isNowhere)).unless(to.unknown).unless(s.unclear)
		if s.kind == "LoadBalancer" || s.unclear != "" {
			e.Way, e.Sources, e.Internal = LoadBalancer, s.sources, s.internal
			from := everywhere
			if len(s.sources) > 0 {
				from = x.fromOutside(strings.Join(s.sources, ","), to.class, to.port, x.m.sourcesOf(s)).unless(to.unknown).unless(s.unclear)
			}
			x.add(e, from)
		}
		if s.nodePorts {
			x.add(Exposure{Class: e.Class, Port: e.Port, Via: e.Via, Way: NodePort, Outside: p.node}, everywhere)
		}
		if len(s.addresses) > 0 {
			x.add(Exposure{Class: e.Class, Port: e.Port, Via: e.Via, Way: ExternalIP, Outside: p.Number}, everywhere)
		}
	})
}

// unless makes an answer unknown where something is.
func (a answer) unless(unknown string) answer {
	if unknown != "" && (a.allowed || a.unknown != "") {
		a.allowed, a.unknown = false, unknown
	}
	return a
}

// ofIngress adds the ways that an Ingress makes.
func (x *ways) ofIngress(e *entrance, in *space) {
	for _, b := range e.backends {
		outside := int32(80)
		if b.tls {
			outside = 443
		}
		x.toBackend(b, in, Exposure{Way: Ingress, Outside: outside, Host: b.host, Via: []object.Ref{e.o.Ref}}, x.doors, "")
	}
	if e.unread {
		for _, s := range in.services {
			x.toBackend(backend{name: s.o.Name}, in, Exposure{Way: Ingress, Via: []object.Ref{e.o.Ref}}, x.doors, notAllRead(e))
		}
	}
}

// notAllRead says that there may be more in an entrance.
func notAllRead(e *entrance) string { return called(e.o.Ref) + " could not all be read" }

// ofRoute adds the ways that a route makes, for every listener that it hangs on.
func (x *ways) ofRoute(e *entrance, in *space) {
	if e.unread {
		x.throughListener(e, in, nil, parent{}, listener{}, notAllRead(e))
	}
	for _, p := range e.parents {
		gateway, missing := x.gateway(p)
		if gateway == nil {
			if missing != "" {
				x.throughListener(e, in, nil, p, listener{}, missing)
			}
			continue
		}
		if gateway.unread {
			x.throughListener(e, in, gateway, p, listener{}, notAllRead(gateway))
		}
		for _, l := range gateway.listeners {
			if p.section != "" && l.name != p.section || p.port != 0 && l.port != p.port {
				continue
			}
			switch x.mayHang(l, gateway, in) {
			case yes:
				x.throughListener(e, in, gateway, p, l, "")
			case unknown:
				x.throughListener(e, in, gateway, p, l, "whether "+called(e.o.Ref)+" may hang on "+called(gateway.o.Ref)+" is not known")
			}
		}
	}
}

// gateway returns the Gateway that a route hangs on; where there is none that was
// read, why it may be there.
func (x *ways) gateway(p parent) (*entrance, string) {
	if s := x.m.spaces[p.namespace]; s != nil && p.namespace != "" {
		for _, e := range s.entrances {
			if e.o.Kind == "Gateway" && e.o.Name == p.name {
				return e, ""
			}
		}
	}
	for _, s := range x.m.unnamed {
		for _, e := range s.entrances {
			if e.o.Kind == "Gateway" && e.o.Name == p.name {
				return e, ""
			}
		}
	}
	if x.m.env.Complete {
		return nil, ""
	}
	return nil, "Gateway " + p.namespace + "/" + p.name + " is not among what was read"
}

// mayHang says whether a listener of a Gateway takes routes of a namespace.
func (x *ways) mayHang(l listener, gateway *entrance, in *space) truth {
	switch l.from {
	case "All":
		return yes
	case "Same":
		return truthOf(gateway.o.Namespace == in.name)
	case "Selector":
		return l.namespaces.matches(in.labels)
	case "None":
		return no
	}
	return unknown
}

// throughListener adds the ways that a route makes through a listener; which
// that is may not be known.
func (x *ways) throughListener(e *entrance, in *space, gateway *entrance, p parent, l listener, doubt string) {
	via := []object.Ref{e.o.Ref}
	doors := x.gateways[p.namespace+"/"+p.name]
	if gateway != nil {
		via = []object.Ref{gateway.o.Ref, e.o.Ref}
	}
	if len(doors) == 0 {
		doors = x.doors
	}
	hosts := e.hosts
	if len(hosts) == 0 {
		hosts = []string{l.host}
	}
	backends := e.backends
	if e.unread {
		for _, s := range in.services {
			backends = append(slices.Clip(backends), backend{namespace: in.name, name: s.o.Name})
		}
	}
	for _, b := range backends {
		target := in
		if b.namespace != in.name {
			target = x.m.spaces[b.namespace]
			switch x.m.granted(target, e.o.Ref, b.name) {
			case no:
				continue // the Gateway refuses it
			case unknown:
				doubt = "whether a ReferenceGrant lets " + called(e.o.Ref) + " lead there is not known"
			}
		}
		for _, host := range hosts {
			x.toBackend(b, target, Exposure{Way: Route, Outside: l.port, Host: host, Via: via}, doors, doubt)
		}
	}
}

// toBackend adds a way to the pods behind a Service, led in by one of the doors.
func (x *ways) toBackend(b backend, in *space, e Exposure, doors []*class, doubt string) {
	s, in := x.service(b.name, in, &e)
	if s == nil {
		return
	}
	x.m.behind(s, in, b.number, b.port, func(_ servicePort, to backendPort) {
		e := e
		e.Class, e.Port = &to.class.Class, to.port
		x.add(e, x.throughDoors(doors, to).unless(to.unknown).unless(doubt))
	})
}

// service finds a Service, and adds it to the way. One that stands for another
// name leads to the Service of that name, if it is one of the cluster's.
func (x *ways) service(name string, in *space, e *Exposure) (*service, *space) {
	for range 3 { // names that stand for names are not followed for ever
		i := slices.IndexFunc(in.services, func(s *service) bool { return s.o.Name == name })
		if i < 0 {
			return nil, nil
		}
		s := in.services[i]
		e.Via = append(slices.Clip(e.Via), s.o.Ref)
		if s.kind != "ExternalName" {
			return s, in
		}
		parts := strings.Split(s.external, ".")
		if len(parts) < 3 || parts[2] != "svc" || x.m.spaces[parts[1]] == nil {
			return nil, nil
		}
		name, in = parts[0], x.m.spaces[parts[1]]
	}
	return nil, nil
}

// fromOutside answers for addresses outside, of which a key stands for all.
func (x *ways) fromOutside(key string, to *class, port Port, from universe) answer {
	ports := port.set()
	key += "\x02" + port.String() + "\x02" + x.m.policyKey(ingress, to)
	at, ok := x.spots[key]
	if !ok {
		at = x.m.best(ingress, to, from, ports)
		x.spots[key] = at
	}
	d := x.m.ask(ingress, to, end{addr: at.addr}, ports, true).decision()
	return answer{d.Allowed, d.By, d.Unknown}
}

// throughDoors answers for pods that lead traffic in. Where several may, and
// not all of them are let through, it is not known.
func (x *ways) throughDoors(doors []*class, to backendPort) answer {
	ports := to.port.set()
	if len(doors) == 0 {
		d := x.m.ask(ingress, to.class, end{anyone: true}, ports, true).decision()
		if d.Unknown != "" {
			d.Unknown = "what leads it in is not among what was read, and not all may connect to these pods"
		}
		return answer{d.Allowed, d.By, d.Unknown}
	}
	var out answer
	allowed, denied := 0, 0
	for i, door := range doors {
		v := x.m.Connects(Peer{Class: &door.Class}, Peer{Class: &to.class.Class}, to.port)
		switch {
		case v.Allowed:
			allowed++
		case v.Unknown == "":
			denied++
		}
		if i == 0 || v.Allowed && !out.allowed {
			out = answer{v.Allowed, slices.Concat(v.Egress.By, v.Ingress.By), v.Unknown}
		}
	}
	if allowed < len(doors) && denied < len(doors) {
		out.allowed = false
		if out.unknown == "" {
			out.unknown = "which of the programs that lead traffic in serves it is not known, and not all may connect to these pods"
		}
	}
	return out
}

// policyKey is the same for classes that the same policies are for.
func (m *Model) policyKey(d direction, c *class) string {
	if c.host == yes {
		return "node"
	}
	var b strings.Builder
	add := func(o *object.Object, t truth) {
		b.WriteString(called(o.Ref))
		b.WriteString(o.Origin.Source)
		b.WriteByte('0' + byte(t))
	}
	named := false
	for _, list := range [][]selected{m.aboveFor(c), m.namespacedFor(c, d)} {
		for _, p := range list {
			add(p.o, p.truth)
			named = named || p.names(d)
		}
	}
	for _, f := range m.foreignFor(c, d) {
		add(f.o, unknown)
	}
	if named {
		b.WriteString(c.portKey())
	}
	return b.String()
}
