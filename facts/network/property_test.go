// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

type js = map[string]any

// world draws objects of a small cluster, in which all that matters happens
// often. What is not exact has things in it that cannot be known.
type world struct {
	t     *rapid.T
	exact bool
}

func pick[T any](w *world, name string, of ...T) T { return rapid.SampledFrom(of).Draw(w.t, name) }

func (w *world) some(name string, percent int) bool {
	return rapid.IntRange(0, 99).Draw(w.t, name) < percent
}

// maybe draws a value, or one that cannot be known.
func (w *world) maybe(v any) any {
	if !w.exact && w.some("unknown", 4) {
		return make(chan int) // object.FromAny knows no such type
	}
	return v
}

func (w *world) labels(keys ...string) js {
	out := js{}
	for _, k := range keys {
		if w.some(k, 60) {
			out[k] = w.maybe(pick(w, "value", "a", "b", "c"))
		}
	}
	return out
}

func (w *world) selector(keys ...string) js {
	out := js{}
	if w.some("matchLabels", 40) {
		out["matchLabels"] = js{pick(w, "key", keys...): w.maybe(pick(w, "value", "a", "b", "c"))}
	}
	if w.some("matchExpressions", 40) {
		e := js{"key": pick(w, "key", keys...), "operator": pick(w, "operator", "In", "NotIn", "Exists", "DoesNotExist")}
		if o := e["operator"]; o == "In" || o == "NotIn" {
			e["values"] = []any{pick(w, "value", "a", "b", "c"), pick(w, "value", "a", "b")}
		}
		out["matchExpressions"] = []any{w.maybe(e)}
	}
	return out
}

var (
	podKeys  = []string{"app", "tier", "pod-template-hash"}
	nameKeys = []string{"team", "kubernetes.io/metadata.name"}
	blocks   = []string{"0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/30", "10.0.0.4/32", "203.0.113.0/24"}
)

func (w *world) namespace() string { return pick(w, "namespace", "a", "b", "c") }

// objects draws a cluster.
func (w *world) objects() []*object.Object {
	var out []*object.Object
	add := func(v js) { out = append(out, newObject(v)) }
	for _, n := range []string{"a", "b", "c"} {
		if w.exact || w.some("declared", 90) {
			add(js{"apiVersion": "v1", "kind": "Namespace", "metadata": js{"name": n, "labels": w.labels("team")}})
		}
	}
	for i := range rapid.IntRange(1, 7).Draw(w.t, "workloads") {
		add(w.workload(i))
	}
	for i := range rapid.IntRange(0, 4).Draw(w.t, "policies") {
		add(w.networkPolicy(i))
	}
	for i := range rapid.IntRange(0, 3).Draw(w.t, "above") {
		add(w.clusterPolicy(i))
	}
	for i := range rapid.IntRange(0, 4).Draw(w.t, "ways") {
		add(w.way(i))
	}
	if !w.exact && w.some("foreign", 10) {
		kind, version := pick(w, "mesh", "AuthorizationPolicy", "CiliumNetworkPolicy"), "security.istio.io/v1"
		if kind == "CiliumNetworkPolicy" {
			version = "cilium.io/v2"
		}
		add(js{"apiVersion": version, "kind": kind, "metadata": js{"name": "f", "namespace": w.namespace()}, "spec": js{
			"selector": js{"matchLabels": js{"app": "a"}}, "endpointSelector": w.selector("app", "k8s:tier"),
		}})
	}
	return out
}

func (w *world) workload(i int) js {
	ports := []any{}
	for range rapid.IntRange(0, 2).Draw(w.t, "ports") {
		ports = append(ports, js{
			"containerPort": w.maybe(pick(w, "port", 80, 81, 53)), "protocol": pick(w, "protocol", "TCP", "UDP"), "name": pick(w, "name", "web", "dns"),
		})
	}
	pod := js{"metadata": js{"labels": w.labels(podKeys...)}, "spec": js{"containers": []any{js{"name": "c", "ports": ports}}}}
	if w.some("hostNetwork", 10) {
		pod["spec"].(js)["hostNetwork"] = w.maybe(true)
	}
	meta := js{"name": fmt.Sprintf("w%d", i), "namespace": w.namespace()}
	if !w.exact && w.some("nameless", 10) {
		delete(meta, "namespace")
	}
	if !w.exact && w.some("template", 40) {
		return js{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": js{"template": pod}}
	}
	meta["labels"] = pod["metadata"].(js)["labels"]
	if w.some("owned", 40) {
		meta["ownerReferences"] = []any{js{"kind": "ReplicaSet", "name": "rs", "controller": true}}
	}
	return js{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"], "status": js{"podIP": fmt.Sprintf("10.0.0.%d", i)}}
}

// way draws something that leads in from outside, or helps to.
func (w *world) way(i int) js {
	meta := js{"name": pick(w, "name", "s", "t"), "namespace": w.namespace()}
	gateway := func(kind string, spec js) js {
		return js{"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": meta, "spec": spec}
	}
	backend := js{"name": pick(w, "backend", "s", "t"), "namespace": w.namespace(), "port": 80}
	switch pick(w, "way", "Service", "Alias", "Ingress", "Gateway", "HTTPRoute", "ReferenceGrant", "Door") {
	case "Service":
		return js{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": js{
			"type": pick(w, "type", "ClusterIP", "NodePort", "LoadBalancer"), "selector": w.labels("app"), "ports": []any{js{"port": 80, "targetPort": pick[any](w, "target", 80, "web")}},
		}}
	case "Alias":
		return js{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": js{"type": "ExternalName", "externalName": fmt.Sprintf("s.%s.svc.cluster.local", w.namespace())}}
	case "Ingress":
		return js{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": js{"defaultBackend": js{"service": js{"name": backend["name"], "port": js{"number": 80}}}}}
	case "Gateway":
		return gateway("Gateway", js{"listeners": []any{js{"name": "l", "port": 443, "allowedRoutes": js{"namespaces": js{"from": pick(w, "from", "All", "Same", "Selector"), "selector": w.selector(nameKeys...)}}}}})
	case "HTTPRoute":
		return gateway("HTTPRoute", js{"parentRefs": []any{js{"name": "s", "namespace": w.namespace()}}, "rules": []any{js{"backendRefs": []any{backend}}}})
	case "ReferenceGrant":
		return gateway("ReferenceGrant", js{
			"from": []any{js{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": w.namespace()}}, "to": []any{js{"group": "", "kind": "Service"}},
		})
	}
	door := w.workload(50 + i)
	door["metadata"].(js)["name"] = fmt.Sprintf("door%d", i)
	if door["kind"] == "Pod" && w.some("gateway", 50) {
		door["metadata"].(js)["labels"].(js)["gateway.networking.k8s.io/gateway-name"] = "s"
	} else if door["kind"] == "Pod" {
		door["spec"].(js)["containers"].([]any)[0].(js)["image"] = "traefik:v3"
	}
	return door
}

func (w *world) networkPolicy(i int) js {
	spec := js{"podSelector": w.selector(podKeys...)}
	if w.some("policyTypes", 70) {
		spec["policyTypes"] = w.maybe(pick(w, "types", []any{"Ingress"}, []any{"Egress"}, []any{"Ingress", "Egress"}))
	}
	for _, d := range []string{"ingress", "egress"} {
		rules := []any{}
		for range rapid.IntRange(0, 2).Draw(w.t, d) {
			rules = append(rules, w.rule(map[string]string{"ingress": "from", "egress": "to"}[d]))
		}
		spec[d] = rules
	}
	meta := js{"name": fmt.Sprintf("p%d", i), "namespace": w.namespace()}
	if !w.exact && w.some("nameless", 10) {
		delete(meta, "namespace")
	}
	return js{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
}

func (w *world) rule(field string) js {
	rule := js{}
	peers, ports := []any{}, []any{}
	for range rapid.IntRange(0, 2).Draw(w.t, "peers") {
		switch pick(w, "peer", "pods", "namespaces", "both", "block") {
		case "pods":
			peers = append(peers, js{"podSelector": w.selector(podKeys...)})
		case "namespaces":
			peers = append(peers, js{"namespaceSelector": w.selector(nameKeys...)})
		case "both":
			peers = append(peers, js{"podSelector": w.selector(podKeys...), "namespaceSelector": w.selector(nameKeys...)})
		case "block":
			peers = append(peers, js{"ipBlock": js{"cidr": pick(w, "cidr", blocks...), "except": []any{pick(w, "except", blocks[2:]...)}}})
		}
	}
	for range rapid.IntRange(0, 2).Draw(w.t, "ports") {
		p := js{}
		switch pick(w, "port", "none", "number", "name", "range") {
		case "number":
			p["port"] = w.maybe(pick(w, "number", 80, 81))
		case "name":
			p["port"] = pick(w, "name", "web", "dns", "none")
		case "range":
			p["port"], p["endPort"] = 80, pick(w, "end", 80, 90)
		}
		if w.some("protocol", 50) {
			p["protocol"] = pick(w, "protocol", "TCP", "UDP", "SCTP")
		}
		ports = append(ports, p)
	}
	if len(peers) > 0 || w.some("empty", 50) {
		rule[field] = peers
	}
	if len(ports) > 0 {
		rule["ports"] = ports
	}
	return rule
}

func (w *world) clusterPolicy(i int) js {
	spec := js{"tier": pick(w, "tier", "Admin", "Baseline"), "priority": i}
	if !w.exact {
		spec["priority"] = w.maybe(pick(w, "priority", 1, 2))
	}
	spec["subject"] = w.chosen("subject")
	for _, d := range []string{"ingress", "egress"} {
		rules := []any{}
		for range rapid.IntRange(0, 3).Draw(w.t, d) {
			peers := []any{w.chosen("peer")}
			if d == "egress" && w.some("networks", 30) {
				peers = append(peers, js{"networks": []any{pick(w, "cidr", blocks...)}})
			}
			rule := js{"action": pick(w, "action", "Accept", "Deny", "Pass"), map[string]string{"ingress": "from", "egress": "to"}[d]: peers}
			if w.some("protocols", 50) {
				rule["protocols"] = []any{pick(w, "match",
					js{"tcp": js{"destinationPort": js{"number": 80}}}, js{"udp": js{"destinationPort": js{"range": js{"start": 50, "end": 81}}}},
					js{"tcp": js{}}, js{"destinationNamedPort": "web"})}
			}
			rules = append(rules, rule)
		}
		spec[d] = rules
	}
	return js{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": js{"name": fmt.Sprintf("c%d", i)}, "spec": spec}
}

func (w *world) chosen(what string) js {
	if w.some(what, 50) {
		return js{"namespaces": w.selector(nameKeys...)}
	}
	return js{"pods": js{"namespaceSelector": w.selector(nameKeys...), "podSelector": w.selector(podKeys...)}}
}

func keepAll(objects []*object.Object) []any {
	var out []any
	for _, o := range objects {
		if k := network.Keep(o); k != nil {
			out = append(out, k)
		}
	}
	return out
}

var complete = &facts.Env{Complete: true}

// described says everything of a model that does not depend on the numbers of
// its classes.
func described(m *network.Model) string {
	var b strings.Builder
	classes := m.Classes()
	for _, c := range classes {
		fmt.Fprintf(&b, "%s %v %v %d %v %q\n", c, c.Refs, c.Labels, c.Pods, c.Ports, c.Unknown)
	}
	for i, from := range classes {
		for j, to := range classes {
			x, y := network.Peer{Class: from}, network.Peer{Class: to}
			fmt.Fprintf(&b, "%d>%d %v %v\n", i, j, m.Ports(x, y), m.PossiblePorts(x, y))
		}
		fmt.Fprintf(&b, "out %d %v in %v\n", i, m.Ports(network.Peer{Class: from}, network.Peer{}), m.Ports(network.Peer{}, network.Peer{Class: from}))
	}
	for _, e := range m.Exposures() {
		fmt.Fprintf(&b, "%s %v %s %d %v %s %v %q\n", e.Class, e.Port, e.Way, e.Outside, e.Via, e.Host, e.Allowed, e.Unknown)
	}
	return b.String()
}

func tables(m *network.Model) (sure, possible map[[2]int]network.PortSet) {
	gather := func(yield func(func(from, to []int, ports network.PortSet))) map[[2]int]network.PortSet {
		out := map[[2]int]network.PortSet{}
		yield(func(from, to []int, ports network.PortSet) {
			for _, f := range from {
				for _, t := range to {
					out[[2]int{f, t}] = out[[2]int{f, t}].Union(ports)
				}
			}
		})
		return out
	}
	return gather(m.Bicliques), gather(m.Possible)
}

// TestBicliques holds the bicliques against the answer for every pair.
func TestBicliques(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: rapid.Bool().Draw(t, "exact")}
		m := network.NewModel(keepAll(w.objects()), complete)
		sure, possible := tables(m)
		for _, from := range m.Classes() {
			for _, to := range m.Classes() {
				x, y := network.Peer{Class: from}, network.Peer{Class: to}
				key := [2]int{from.ID, to.ID}
				if want := m.Ports(x, y); !sure[key].Equal(want) {
					t.Fatalf("%s to %s: bicliques say %v, the pair %v", from, to, sure[key], want)
				}
				if want := m.PossiblePorts(x, y); !possible[key].Equal(want) {
					t.Fatalf("%s to %s: bicliques say possibly %v, the pair %v", from, to, possible[key], want)
				}
			}
		}
	})
}

// TestSet holds a model that was changed one object at a time against one that
// was made at once.
func TestSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t}
		now := map[object.Ref]*object.Object{}
		m := network.NewModel(nil, complete)
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			for _, o := range w.objects() {
				if w.some("gone", 20) {
					delete(now, o.Ref)
					m.Set(o.Ref, nil)
					continue
				}
				now[o.Ref] = o
				m.Set(o.Ref, network.Keep(o))
			}
		}
		var all []*object.Object
		for _, o := range now {
			all = append(all, o)
		}
		slices.SortFunc(all, func(a, b *object.Object) int { return strings.Compare(a.String(), b.String()) })
		want := network.NewModel(keepAll(all), complete)
		if got, want := described(m), described(want); got != want {
			t.Fatalf("changed step by step:\n%s\nat once:\n%s", got, want)
		}
	})
}

// askedPorts are some that rules of a world tell apart.
var askedPorts = []network.Port{{Protocol: "TCP", Number: 80}, {Protocol: "TCP", Number: 81}, {Protocol: "UDP", Number: 53}, {Protocol: "UDP", Number: 80}, {Protocol: "SCTP", Number: 7}}

// TestAddPolicy adds a NetworkPolicy: pods that it selects accept no more than
// they did, but for what its own rules allow; of others nothing changes.
func TestAddPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: true}
		objects := w.objects()
		added := newObject(w.networkPolicy(100))
		without := network.NewModel(keepAll(objects), complete)
		with := network.NewModel(keepAll(append(objects, added)), complete)
		alone := network.NewModel(keepAll(append(slices.DeleteFunc(slices.Clone(objects), func(o *object.Object) bool {
			return strings.HasSuffix(o.Kind, "NetworkPolicy")
		}), added)), complete)
		pods := func(m *network.Model, o *object.Object) network.Peer {
			for _, c := range m.Classes() {
				if slices.Contains(c.Refs, o.Ref) {
					return network.Peer{Class: c}
				}
			}
			t.Fatalf("%s is in no class", o)
			return network.Peer{}
		}
		for _, from := range objects {
			for _, to := range objects {
				if from.Kind != "Pod" || to.Kind != "Pod" {
					continue
				}
				for _, p := range askedPorts {
					before := without.Connects(pods(without, from), pods(without, to), p)
					rules := alone.Connects(pods(alone, from), pods(alone, to), p)
					after := with.Connects(pods(with, from), pods(with, to), p)
					wider := func(before, rules, after network.Decision) bool {
						return after.Allowed && !before.Allowed && before.Unknown == "" && !rules.Allowed && rules.Unknown == ""
					}
					if wider(before.Ingress, rules.Ingress, after.Ingress) || wider(before.Egress, rules.Egress, after.Egress) {
						t.Fatalf("%s to %s, %v: neither allowed before nor by the policy: %+v", from, to, p, after)
					}
				}
			}
		}
	})
}
