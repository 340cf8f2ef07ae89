// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// declared adds what objects say of who talks to whom.
func (g *generator) declared() {
	g.nameService()
	g.waysIn()
	g.callbacks()
	g.scraping()
	for _, w := range g.old.workloads {
		g.peersOfStatefulSet(w)
		g.mentioned(w)
		g.server(w)
	}
}

// nameService lets every workload resolve names.
func (g *generator) nameService() {
	targets := g.dns(g.old)
	for _, w := range g.old.workloads {
		for _, t := range targets {
			if t.w != w && w.managed {
				g.edges.add(end{w: w}, end{w: t.w}, t.port, Declared, "names are resolved there")
			}
		}
	}
}

// dns are the ports at which names are resolved.
func (g *generator) dns(c *cluster) []target {
	targets := c.targets("kube-system", "kube-dns", 0)
	if len(targets) == 0 {
		targets = c.targets("openshift-dns", "dns-default", 0)
	}
	targets = slices.DeleteFunc(targets, func(t target) bool { return t.w.host || t.port.Number > 9000 }) // metrics
	if len(targets) > 0 {
		return targets
	}
	for _, w := range c.byNamespace["kube-system"] {
		if w.labels["k8s-app"] == "kube-dns" && !w.host {
			targets = append(targets, target{w, network.Port{Protocol: network.UDP, Number: 53}}, target{w, network.Port{Protocol: network.TCP, Number: 53}})
		}
	}
	return targets
}

// waysIn lets in what comes from outside through Services, Ingresses and routes.
func (g *generator) waysIn() {
	controllers := g.controllers()
	for _, x := range g.old.model.Exposures() {
		w := g.old.of[x.Class]
		if w == nil || x.Way == network.HostNetwork || w.host || x.Port.Number == 0 {
			continue
		}
		via := viaWords(x.Via)
		switch {
		case x.Way != network.Ingress && x.Way != network.Route:
			g.fromOutside(w, &x, via)
		case len(controllers) == 0:
			e := g.edges.add(end{anything: true}, end{w: w}, x.Port, Declared, "%s", via)
			e.widen("what serves Ingresses and routes is not among the workloads; name it with --ingress-controller")
		}
		if x.Way == network.Ingress || x.Way == network.Route {
			for _, c := range controllers {
				if c != w {
					g.edges.add(end{w: c}, end{w: w}, x.Port, Declared, "%s, served by %s", via, c)
				}
			}
		}
	}
}

func viaWords(via []object.Ref) string {
	var out []string
	for _, r := range via {
		out = append(out, r.String())
	}
	return strings.Join(out, " → ")
}

// fromOutside lets in a load balancer or the port of a node.
func (g *generator) fromOutside(w *workload, x *network.Exposure, via string) {
	reason := fmt.Sprintf("%s is open to any address", x.Way)
	if len(x.Sources) > 0 {
		reason = fmt.Sprintf("%s is open to %s, but nodes may put their own address in the place of the sender's", x.Way, strings.Join(x.Sources, ", "))
	}
	for _, block := range []netip.Prefix{allIPv4, allIPv6} {
		e := g.edges.add(end{block: block}, end{w: w}, x.Port, Declared, "%s: %s", x.Way, via)
		e.widen(reason)
	}
}

// controllerLabels are the values by which workloads that serve Ingresses and
// routes are known.
var controllerLabels = []string{
	"ingress-nginx", "nginx-ingress", "nginx-gateway-fabric", "traefik", "haproxy-ingress", "kubernetes-ingress", "contour", "envoy", "kong", "ingress-kong", "istio-ingressgateway",
}

// controllers are the workloads that serve Ingresses and routes.
func (g *generator) controllers() []*workload {
	var out []*workload
	for _, w := range g.old.workloads {
		if len(g.opts.IngressControllers) > 0 {
			_, name, _ := strings.Cut(w.name, "/")
			if slices.ContainsFunc(g.opts.IngressControllers, func(c string) bool {
				return c == w.namespace || c == w.namespace+"/"+name || strings.EqualFold(c, w.String())
			}) {
				out = append(out, w)
			}
			continue
		}
		for _, key := range []string{"app.kubernetes.io/name", "app", "k8s-app", "gateway.envoyproxy.io/owning-gateway-name"} {
			if v, ok := w.labels[key]; ok && (slices.Contains(controllerLabels, v) || strings.HasPrefix(key, "gateway.")) && w.labels["app.kubernetes.io/component"] != "default-backend" {
				out = append(out, w)
				break
			}
		}
	}
	return out
}

// callbacks lets the API server call webhooks and extensions of its API.
func (g *generator) callbacks() {
	for _, d := range g.old.declarations {
		for _, c := range d.callback {
			for _, t := range g.old.targets(c.namespace, c.name, c.port) {
				for _, from := range g.apiServers() {
					e := g.edges.add(from, end{w: t.w}, t.port, Declared, "%s: the API server calls it", d.ref)
					if from.anything {
						e.widen("the address from which the API server calls is not known; name it with --api-server")
					}
				}
			}
		}
	}
}

// apiServers are the addresses of the API server, or anything.
func (g *generator) apiServers() []end {
	var out []end
	for _, p := range g.opts.APIServers {
		out = append(out, end{block: p})
	}
	if len(out) == 0 {
		out = append(out, end{anything: true})
	}
	return out
}

// server lets a workload call the API server where it has a ServiceAccount of
// its own.
func (g *generator) server(w *workload) {
	if !w.managed || w.decl == nil || w.decl.account == "" {
		return
	}
	add := func(to end, port int32) *edge {
		return g.edges.add(end{w: w}, to, network.Port{Protocol: network.TCP, Number: port}, Suggested,
			"it has the token of the ServiceAccount %s, with which it may call the API server", w.decl.account)
	}
	for _, p := range g.opts.APIServers {
		add(end{block: p}, 443)
		add(end{block: p}, 6443)
	}
	servers := g.old.servers()
	if len(g.opts.APIServers) > 0 {
		return
	}
	for _, a := range servers {
		add(end{block: netip.PrefixFrom(a.Addr(), a.Addr().BitLen())}, int32(a.Port()))
	}
	if len(servers) == 0 {
		for _, port := range []int32{443, 6443} {
			add(end{block: allIPv4}, port).widen("the address of the API server is not known; name it with --api-server")
		}
	}
}

// scraperLabels are the values by which workloads that collect metrics are
// known.
var scraperLabels = []string{"prometheus", "vmagent", "grafana-agent", "alloy", "opentelemetry-collector", "otel-collector"}

// scraping lets metrics be collected where objects ask for that.
func (g *generator) scraping() {
	var scrapers []*workload
	for _, w := range g.old.workloads {
		if slices.Contains(scraperLabels, w.labels["app.kubernetes.io/name"]) || slices.Contains(scraperLabels, w.labels["app"]) {
			scrapers = append(scrapers, w)
		}
	}
	asked := 0
	allow := func(t target, format string, args ...any) {
		asked++
		for _, s := range scrapers {
			if s != t.w {
				g.edges.add(end{w: s}, end{w: t.w}, t.port, Declared, "metrics: %s", fmt.Sprintf(format, args...))
			}
		}
	}
	for _, w := range g.old.workloads {
		for _, t := range w.scraped() {
			allow(t, "the annotations of %s", w)
		}
	}
	for _, d := range g.old.declarations {
		for _, t := range g.scrapedBy(d) {
			allow(t, "%s", d.ref)
		}
	}
	if asked > 0 && len(scrapers) == 0 {
		g.note("%d ports ask for their metrics to be collected, and no workload is known to do that: they are not opened for it", asked)
	}
}

// scraped are the ports that the annotations of a workload's pods name.
func (w *workload) scraped() []target {
	if w.decl == nil {
		return nil
	}
	var out []target
	for _, n := range w.decl.scraped {
		out = append(out, target{w, network.Port{Protocol: network.TCP, Number: n}})
	}
	if w.decl.scrapedAny {
		for _, class := range w.classes {
			for _, p := range class.Ports {
				out = append(out, target{w, network.Port{Protocol: p.Protocol, Number: p.Number}})
			}
		}
	}
	return out
}

// scrapedBy are the ports that a monitor, or the annotations of a Service, name.
func (g *generator) scrapedBy(d *declaration) []target {
	switch {
	case d.service != nil && d.service.scraped == "all":
		return g.old.targets(d.ref.Namespace, d.ref.Name, 0)
	case d.service != nil && d.service.scraped != "":
		n, _ := strconv.ParseInt(d.service.scraped, 10, 32)
		return g.old.targets(d.ref.Namespace, d.ref.Name, int32(max(n, -1)))
	case d.monitor == nil:
		return nil
	}
	return g.monitored(d.ref.Namespace, d.monitor)
}

// monitored are the ports that a monitor asks for.
func (g *generator) monitored(namespace string, m *monitor) []target {
	labels := stringMap(m.selector.Get("matchLabels"))
	if m.selector.Get("matchExpressions") != nil || labels == nil && m.selector.Get("matchLabels") != nil {
		g.note("a monitor in %s selects by expressions, which are not understood here: it opens no ports", namespace)
		return nil
	}
	in := func(ns string) bool {
		return m.any || ns == namespace && len(m.namespaces) == 0 || slices.Contains(m.namespaces, ns)
	}
	var out []target
	for _, w := range g.old.workloads {
		if m.ofPods && in(w.namespace) && subset(labels, w.labels) {
			for _, class := range w.classes {
				for _, p := range m.ports {
					if n := portOf(class, p); n != 0 {
						out = append(out, target{w, network.Port{Protocol: network.TCP, Number: n}})
					}
				}
			}
		}
	}
	for _, d := range g.old.declarations {
		if d.service == nil || m.ofPods || !in(d.ref.Namespace) || !subset(labels, d.labels) {
			continue
		}
		for _, p := range d.service.ports {
			if slices.Contains(m.ports, p.name) || slices.Contains(m.ports, p.target) {
				out = append(out, g.old.targets(d.ref.Namespace, d.ref.Name, p.port)...)
			}
		}
	}
	return out
}

func portOf(class *network.Class, p string) int32 {
	if n, err := strconv.ParseInt(p, 10, 32); err == nil {
		return int32(n)
	}
	return named(class, p, "")
}

// peersOfStatefulSet lets the pods of a StatefulSet talk to each other on the
// ports of the headless Service that names them.
func (g *generator) peersOfStatefulSet(w *workload) {
	if w.decl == nil || w.decl.serviceName == "" {
		return
	}
	if s := g.old.services[[2]string{w.namespace, w.decl.serviceName}]; s == nil || !s.headless {
		return
	}
	for _, t := range g.old.targets(w.namespace, w.decl.serviceName, 0) {
		if t.w == w {
			g.edges.add(end{w: w}, end{w: w}, t.port, Suggested, "the headless Service %s names its pods for each other", w.decl.serviceName)
		}
	}
}

// mentioned lets a workload connect to the hosts that its configuration names.
func (g *generator) mentioned(w *workload) {
	if w.decl == nil {
		return
	}
	all := slices.Clone(w.decl.mentions)
	for _, use := range w.decl.configs {
		byKey := g.old.configs[[2]string{w.namespace, use.name}]
		for key, found := range byKey {
			if use.key == "" || use.key == key {
				all = append(all, found...)
			}
		}
	}
	for _, m := range all {
		g.mention(w, m)
	}
}

func (g *generator) mention(w *workload, m mention) {
	namespace, name, ok := g.old.serviceOf(m.host, w.namespace)
	if !ok {
		g.external(w, m)
		return
	}
	switch s := g.old.services[[2]string{namespace, name}]; {
	case s.external != "":
		g.named(w, m, s)
		return
	case len(s.selector) == 0:
		g.note("%s: %s names the Service %s/%s, which selects no pods: where it leads is not known, and nothing is allowed to it", w, m.where, namespace, name)
		return
	}
	targets := g.old.targets(namespace, name, m.portNumber())
	if len(targets) == 0 && m.port == 0 {
		targets = g.old.targets(namespace, name, 0)
	}
	for _, t := range targets {
		if t.w != w {
			g.edges.add(end{w: w}, end{w: t.w}, t.port, Suggested, "%s names the Service %s/%s", m.where, namespace, name)
		}
	}
}

// named lets a workload connect to what a Service stands for by an external name,
// on the port that it uses, or those of the Service.
func (g *generator) named(w *workload, m mention, s *serviceDeclaration) {
	if namespace, name, ok := g.old.serviceOf(s.external, w.namespace); ok && len(g.old.services[[2]string{namespace, name}].selector) > 0 {
		m.host = s.external
		g.mention(w, m)
		return
	}
	ports := []int32{m.portNumber()}
	if ports[0] == 0 {
		ports = ports[:0]
		for _, p := range s.ports {
			ports = append(ports, p.port)
		}
	}
	for _, port := range ports {
		g.external(w, mention{where: m.where, host: s.external, port: port, scheme: "external"})
	}
}

// external lets a workload connect to a host of the internet that it names.
// Policies know no names, so that it is any address.
func (g *generator) external(w *workload, m mention) {
	port := m.portNumber()
	if !w.managed || port == 0 || m.scheme == "" {
		return
	}
	to := internet(false)
	if addr, err := netip.ParseAddr(m.host); err == nil {
		if addr.IsLoopback() || addr.IsUnspecified() {
			return
		}
		to = end{block: netip.PrefixFrom(addr, addr.BitLen())}
	} else if !strings.Contains(m.host, ".") || isServiceName(m.host) || strings.HasSuffix(m.host, ".local") || strings.HasSuffix(m.host, ".internal") {
		return
	}
	e := g.edges.add(end{w: w}, to, network.Port{Protocol: network.TCP, Number: port}, Suggested, "%s names %s", m.where, m.host)
	if !to.block.IsSingleIP() {
		e.widen("policies know no host names")
	}
}

// guessed opens the ports of Services that nobody is known to call.
func (g *generator) guessed() {
	called := map[target]bool{}
	for _, e := range g.edges.all() {
		sure := e.has(Recorded) || e.has(Declared) || !g.opts.Strict
		if e.to.w != nil && sure && !unnameable(e) && g.permitted(e).allowed != no {
			called[target{e.to.w, e.port}] = true
		}
	}
	for _, d := range g.old.declarations {
		if d.service == nil {
			continue
		}
		for _, t := range g.old.targets(d.ref.Namespace, d.ref.Name, 0) {
			t.port.Name = ""
			if called[t] || !t.w.managed {
				continue
			}
			called[t] = true
			g.guess(d.ref, t)
		}
	}
}

// guess opens a port to the other pods of its namespace; to any pods where
// there are none that may reach it today.
func (g *generator) guess(service object.Ref, t target) {
	if g.opts.Strict {
		g.result.Closed = append(g.result.Closed, fmt.Sprintf("%s %s, of %s: nobody is known to call it", t.w, t.port, service))
		return
	}
	const words = "nothing tells who calls it"
	found := false
	for _, w := range g.old.byNamespace[t.w.namespace] {
		e := &edge{from: end{w: w}, to: end{w: t.w}, port: t.port}
		if w != t.w && !w.host && g.permitted(e).allowed != no {
			found = true
			g.edges.add(e.from, e.to, e.port, Guessed, "%s: %s", service, words)
		}
	}
	if !found {
		g.edges.add(end{anything: true}, end{w: t.w}, t.port, Guessed, "%s: %s", service, words).widen(words + ", and no other workload of its namespace may")
		return
	}
	all := &edge{from: end{namespace: t.w.namespace}, to: end{w: t.w}, port: t.port}
	if g.permitted(all).allowed != no {
		g.edges.add(all.from, all.to, t.port, Guessed, "%s: %s; the pods of its namespace may", service, words).widen(words)
	}
}
