// SPDX-License-Identifier: Apache-2.0

package network

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// entrance is what is kept of an Ingress, a Gateway or a route.
type entrance struct {
	o         *object.Object
	backends  []backend
	hosts     []string   // of a route
	parents   []parent   // of a route
	listeners []listener // of a Gateway
	// unread says that some of it could not be read.
	unread bool
}

// backend is a Service that an Ingress or a route leads to.
type backend struct {
	host            string
	namespace, name string
	number          int32
	port            string // by its name
	tls             bool
}

// parent is a Gateway that a route hangs on.
type parent struct {
	namespace, name, section string
	port                     int32
}

// listener is a port of a Gateway.
type listener struct {
	name, host string
	port       int32
	from       string // All, Same, Selector
	namespaces selector
}

// grant is what is kept of a ReferenceGrant.
type grant struct {
	o    *object.Object
	from []grantFrom
	to   []string // names of Services; "" for all
	// unread says that some of it could not be read.
	unread bool
}

type grantFrom struct{ group, kind, namespace string }

func keepIngress(o *object.Object) any {
	spec := o.Root.Get("spec")
	e := &entrance{o: facts.Slim(o), unread: spec.HasUnknown()}
	secure := map[string]bool{}
	for _, t := range facts.Items(spec.Get("tls")) {
		for _, h := range texts(t.Get("hosts")) {
			secure[h] = true
		}
	}
	add := func(host string, n *object.Node) {
		if n == nil {
			return
		}
		b := backend{host: host, namespace: o.Namespace, tls: secure[host]}
		if s := n.Get("service"); s != nil {
			b.name, b.port = s.Get("name").Str(), s.At("port", "name").Str()
			b.number, _ = portNumber(s.At("port", "number"))
		} else {
			b.name, b.port = n.Get("serviceName").Str(), n.Get("servicePort").Str()
			b.number, _ = portNumber(n.Get("servicePort"))
		}
		if b.name != "" && !slices.Contains(e.backends, b) {
			e.backends = append(e.backends, b)
		}
	}
	add("", firstOf(spec.Get("defaultBackend"), spec.Get("backend")))
	for _, r := range facts.Items(spec.Get("rules")) {
		for _, p := range facts.Items(r.At("http", "paths")) {
			add(r.Get("host").Str(), p.Get("backend"))
		}
	}
	return e
}

func keepGateway(o *object.Object) any {
	e := &entrance{o: facts.Slim(o), unread: o.Root.Seek(facts.Path("spec", "listeners")).HasUnknown()}
	for _, n := range facts.Items(o.Root.At("spec", "listeners")) {
		l := listener{name: n.Get("name").Str(), host: n.Get("hostname").Str(), from: "Same"}
		l.port, _ = portNumber(n.Get("port"))
		namespaces := n.At("allowedRoutes", "namespaces")
		if from := namespaces.Get("from"); from != nil {
			l.from = from.Str()
		}
		l.namespaces = readSelector(namespaces.Get("selector"))
		e.listeners = append(e.listeners, l)
	}
	return e
}

func keepRoute(o *object.Object) any {
	spec := o.Root.Get("spec")
	e := &entrance{o: facts.Slim(o), hosts: texts(spec.Get("hostnames")), unread: spec.HasUnknown()}
	for _, n := range facts.Items(spec.Get("parentRefs")) {
		if kind := n.Get("kind").Str(); kind != "" && kind != "Gateway" {
			continue // of a mesh, or of a kind that is not known
		}
		p := parent{namespace: orElse(n.Get("namespace").Str(), o.Namespace), name: n.Get("name").Str(), section: n.Get("sectionName").Str()}
		p.port, _ = portNumber(n.Get("port"))
		e.parents = append(e.parents, p)
	}
	add := func(n *object.Node) {
		if kind, group := n.Get("kind").Str(), n.Get("group").Str(); kind != "" && kind != "Service" || group != "" && group != "core" {
			return
		}
		b := backend{namespace: orElse(n.Get("namespace").Str(), o.Namespace), name: n.Get("name").Str()}
		b.number, _ = portNumber(n.Get("port"))
		if weight := n.Get("weight"); weight != nil && weight.Kind == object.Int && weight.Int() == 0 {
			return // nothing is sent there
		}
		if b.name != "" && !slices.Contains(e.backends, b) {
			e.backends = append(e.backends, b)
		}
	}
	for _, r := range facts.Items(spec.Get("rules")) {
		for _, n := range facts.Items(r.Get("backendRefs")) {
			add(n)
		}
		for _, f := range facts.Items(r.Get("filters")) {
			if mirror := f.At("requestMirror", "backendRef"); mirror != nil {
				add(mirror)
			}
		}
	}
	return e
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func keepGrant(o *object.Object) any {
	g := &grant{o: facts.Slim(o), unread: o.Root.Get("spec").HasUnknown()}
	for _, n := range facts.Items(o.Root.At("spec", "from")) {
		g.from = append(g.from, grantFrom{n.Get("group").Str(), n.Get("kind").Str(), n.Get("namespace").Str()})
	}
	for _, n := range facts.Items(o.Root.At("spec", "to")) {
		if n.Get("kind").Str() == "Service" {
			g.to = append(g.to, n.Get("name").Str())
		}
	}
	return g
}

// allows says whether a route may lead to a Service of the grant's namespace.
func (g *grant) allows(route object.Ref, service string) bool {
	from := slices.Contains(g.from, grantFrom{route.Group(), route.Kind, route.Namespace})
	return from && (slices.Contains(g.to, "") || slices.Contains(g.to, service))
}

// granted says whether a route may lead to a Service of a namespace, which is nil
// where nothing is known of it.
func (m *Model) granted(in *space, route object.Ref, service string) truth {
	out := no
	if in == nil {
		return no // there is no such Service
	}
	if !m.env.Complete {
		out = unknown
	}
	for _, g := range in.grants {
		switch {
		case g.allows(route, service):
			return yes
		case g.unread:
			out = unknown
		}
	}
	return out
}

// frontDoors are programs that lead traffic into a cluster for Ingresses and
// routes, by a part of the name of their image.
var frontDoors = []string{
	"ingress-nginx/controller", "ingress-nginx-controller", "nginx-ingress", "traefik", "haproxytech/kubernetes-ingress", "haproxy-ingress", "kong/", "/kong:",
	"emissary", "ambassador", "apisix", "skipper", "voyager", "bfe-ingress", "nginx-gateway",
}

// gatewayLabel names the Gateway that pods are the proxies of.
const gatewayLabel = "gateway.networking.k8s.io/gateway-name"

// controls says what a pod leads traffic into the cluster for: "ingress" for any
// Ingress, "gateway" for the Gateway of a label; nothing as a rule.
func controls(pod *object.Node) string {
	l := pod.At("metadata", "labels")
	switch {
	case l.Get(gatewayLabel) != nil:
		return "gateway"
	case l.Get("istio").Str() == "ingressgateway":
		return "ingress"
	}
	for _, c := range facts.Items(pod.At("spec", "containers")) {
		image := c.Get("image").Str()
		if slices.ContainsFunc(frontDoors, func(part string) bool { return strings.Contains(image, part) }) {
			return "ingress"
		}
	}
	return ""
}
