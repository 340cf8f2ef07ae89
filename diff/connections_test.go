// SPDX-License-Identifier: Apache-2.0

package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/facts/network"
)

func workload(ns, name string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      containers: [{name: app, image: app, ports: [{containerPort: 80, name: http}]}]
---
`, ns, name)
}

// policy draws a NetworkPolicy.
func policy(t *rapid.T, n int) string {
	pods := func(label string) string {
		if rapid.Bool().Draw(t, label+" all") {
			return "{}"
		}
		return "{matchLabels: {app: " + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, label) + "}}"
	}
	rules := func(key, peer string) string {
		if rapid.IntRange(0, 3).Draw(t, key+" none") == 0 {
			return "  " + key + ": []\n"
		}
		rule := fmt.Sprintf("  %s:\n  - %s: [{podSelector: %s", key, peer, pods(peer))
		if rapid.Bool().Draw(t, "everywhere") {
			rule += ", namespaceSelector: {}"
		}
		rule += "}]\n"
		if rapid.Bool().Draw(t, "ports") {
			rule += fmt.Sprintf("    ports: [{port: %s}]\n", rapid.SampledFrom([]string{"80", "443", "http"}).Draw(t, "port"))
		}
		return rule
	}
	out := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p%d, namespace: %s}\nspec:\n  podSelector: %s\n", n, rapid.SampledFrom([]string{"x", "w"}).Draw(t, "namespace"), pods("selected"))
	switch rapid.IntRange(0, 2).Draw(t, "direction") {
	case 0:
		return out + "  policyTypes: [Ingress]\n" + rules("ingress", "from") + "---\n"
	case 1:
		return out + "  policyTypes: [Egress]\n" + rules("egress", "to") + "---\n"
	}
	return out + "  policyTypes: [Ingress, Egress]\n" + rules("ingress", "from") + rules("egress", "to") + "---\n"
}

// networkTree draws workloads and policies.
func networkTree(t *rapid.T, label string) tree {
	files := tree{"ns.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: w}\n"}
	for _, ns := range []string{"x", "w"} {
		for _, name := range []string{"a", "b", "c"} {
			if rapid.IntRange(0, 5).Draw(t, label+" there") > 0 {
				files[ns+name+".yaml"] = workload(ns, name)
			}
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, label+" policies") {
		files[fmt.Sprintf("p%d.yaml", i)] = policy(t, i)
	}
	return files
}

// pairs says of each pair of workloads on which ports it is told.
func pairs(all []string, list []diff.Connection) map[[2]string]network.PortSet {
	members := func(g diff.Group) []string {
		switch {
		case g.Outside:
			return []string{"outside"}
		case g.Everything:
			return all
		}
		out := slices.Clone(g.Workloads)
		for _, w := range all {
			ns, _, _ := strings.Cut(w, "/")
			if slices.Contains(g.Namespaces, ns) {
				out = append(out, w)
			}
		}
		return out
	}
	out := map[[2]string]network.PortSet{}
	for _, c := range list {
		for _, from := range members(c.From) {
			for _, to := range members(c.To) {
				out[[2]string{from, to}] = out[[2]string{from, to}].Union(c.Ports)
			}
		}
	}
	return out
}

// TestConnectionsExact: what is told of pairs is what asking the models for each
// pair gives, and what opens one way closes the other way.
func TestConnectionsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, head := side(t, "base", networkTree(t, "base")), side(t, "head", networkTree(t, "head"))
		there, back := diff.Compare(base, head).Connections, diff.Compare(head, base).Connections
		then, now := base.Posture.Network, head.Posture.Network
		classes := func(m *network.Model) map[string]*network.Class {
			out := map[string]*network.Class{}
			for _, c := range m.Classes() {
				out[c.String()] = c
			}
			return out
		}
		were, are := classes(then), classes(now)
		var both []string
		for name := range are {
			if were[name] != nil {
				both = append(both, name)
			}
		}
		opened, closed := pairs(both, there.Opened), pairs(both, there.Closed)
		ends := append([]string{"outside"}, both...)
		peer := func(in map[string]*network.Class, name string) network.Peer { return network.Peer{Class: in[name]} }
		for _, from := range ends {
			for _, to := range ends {
				if from == "outside" && to == "outside" {
					continue
				}
				may, might := now.Ports(peer(are, from), peer(are, to)), then.Ports(peer(were, from), peer(were, to))
				k := [2]string{from, to}
				if want := may.Minus(might); !opened[k].Equal(want) {
					t.Fatalf("%v: told %s opened, want %s\n%+v", k, opened[k], want, there.Opened)
				}
				if want := might.Minus(may); !closed[k].Equal(want) {
					t.Fatalf("%v: told %s closed, want %s\n%+v", k, closed[k], want, there.Closed)
				}
			}
		}
		if a, b := fmt.Sprint(there.Opened, there.Added), fmt.Sprint(back.Closed, back.Removed); a != b {
			t.Fatalf("opened %s, and the other way closed %s", a, b)
		}
	})
}

func TestConnections(t *testing.T) {
	two := workload("shop", "web") + workload("shop", "db")
	const closed = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n---\n"
	open := strings.Replace(strings.Replace(closed, "name: all", "name: web-db", 1), "podSelector: {}, policyTypes: [Ingress]", "podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]", 1)

	got := compare(t, tree{"a.yaml": two + closed}, tree{"a.yaml": two + closed + open}).Connections
	if len(got.Opened) != 1 || len(got.Closed) > 0 || got.Opened[0].From.String() != "shop/Deployment/web" || got.Opened[0].To.String() != "shop/Deployment/db" || got.Opened[0].Ports.String() != "TCP 5432" {
		t.Errorf("a policy that lets one in: %+v", got)
	}
	got = compare(t, tree{"a.yaml": two + closed}, tree{"c.yaml": closed + two}).Connections
	if len(got.Opened)+len(got.Closed)+len(got.Added)+len(got.Removed)+len(got.Unclear) > 0 {
		t.Errorf("another order in another file: %+v", got)
	}
	got = compare(t, tree{"a.yaml": two, "b.yaml": closed}, tree{"a.yaml": two, "b.yaml": broken}).Connections
	if len(got.Opened) > 0 || len(got.Unclear) == 0 || !strings.Contains(got.Unclear[0].Why, "b.yaml") {
		t.Errorf("a policy that cannot be read any more: %+v", got)
	}
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: http}]}\n---\n"
	got = compare(t, tree{"a.yaml": two}, tree{"a.yaml": two + service}).Connections
	if len(got.Exposed) == 0 || got.Exposed[0].Workload != "shop/Deployment/web" {
		t.Errorf("a load balancer: %+v", got)
	}
	got = compare(t, tree{"a.yaml": two}, tree{"a.yaml": two + workload("shop", "api")}).Connections
	if len(got.Opened) > 0 || len(got.Added) != 1 || got.Added[0].Name != "shop/Deployment/api" || len(got.Added[0].Reaches) == 0 {
		t.Errorf("a new workload: %+v", got)
	}

	got = compare(t, tree{"a.yaml": two, "b.yaml": service}, tree{"a.yaml": broken, "b.yaml": service}).Connections
	if len(got.Covered) == 0 || !strings.Contains(got.Covered[0].Why, "a.yaml") {
		t.Errorf("a way in to what cannot be read any more: %+v", got.Covered)
	}
}

// TestOutside holds that a difference between workloads and the outside is told
// of new ones too, and as unclear where policies are not known.
func TestOutside(t *testing.T) {
	const closed = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n---\n"
	unknown := strings.Replace(closed, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress, Egress], egress: [{to: [{ipBlock: {cidr: '{{ .Values.cidr }}'}}]}]", 1)
	web := workload("shop", "web")
	said := func(list []diff.Connection) string {
		var out []string
		for _, c := range list {
			out = append(out, c.From.String()+" -> "+c.To.String())
		}
		return strings.Join(out, "; ")
	}
	const want = "shop/Deployment/web -> anywhere outside the cluster"
	if got := compare(t, tree{"a.yaml": web + closed}, tree{"a.yaml": web + unknown}).Connections; len(got.Opened) > 0 || !strings.Contains(said(got.Unclear), want) {
		t.Errorf("a policy that may let out: %s; unclear: %s", said(got.Opened), said(got.Unclear))
	}
	if got := compare(t, tree{"a.yaml": web + unknown}, tree{"a.yaml": web}).Connections; len(got.Opened) > 0 && strings.Contains(said(got.Opened), want) {
		t.Errorf("what may have been let out is said to be new: %s", said(got.Opened))
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("{ipBlock: {cidr: 192.0.2.%d/32}}", i))
	}
	lists := func(from []string) tree {
		return tree{"a.yaml": web + strings.Replace(closed, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress, Egress], ingress: [{from: ["+strings.Join(from, ", ")+"]}]", 1)}
	}
	if got := compare(t, lists(many), lists(many[:50])).Connections; !slices.ContainsFunc(got.Limits, func(s string) bool { return strings.Contains(s, "too many blocks") }) {
		t.Errorf("more blocks than are compared: %q", got.Limits)
	}
	from := func(cidr string) tree {
		return tree{"a.yaml": web + strings.Replace(closed, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: "+cidr+"}}]}]", 1)}
	}
	for _, tc := range []struct{ was, is, opened, closed string }{
		{"192.0.2.0/24", "192.0.2.0/24", "", ""},
		{"192.0.2.0/24", "192.0.0.0/8", "192.0.0.0/8 outside the cluster -> shop/Deployment/web", ""},
		{"192.0.2.0/24", "0.0.0.0/0", "0.0.0.0/0 outside the cluster -> shop/Deployment/web", ""},
		{"192.0.2.0/24", "198.51.100.0/24", "198.51.100.0/24 outside the cluster -> shop/Deployment/web", "192.0.2.0/24 outside the cluster -> shop/Deployment/web"},
	} {
		got := compare(t, from(tc.was), from(tc.is)).Connections
		if said(got.Opened) != tc.opened || said(got.Closed) != tc.closed || len(got.Unclear) > 0 {
			t.Errorf("from %s to %s: opened %q, closed %q, unclear %q", tc.was, tc.is, said(got.Opened), said(got.Closed), said(got.Unclear))
		}
	}
	got := compare(t, tree{"a.yaml": web}, tree{"a.yaml": web + workload("shop", "api")}).Connections
	if len(got.Added) != 1 || !slices.ContainsFunc(got.Added[0].Reaches, func(g diff.ToGroup) bool { return g.Outside }) || !slices.ContainsFunc(got.Added[0].ReachedBy, func(g diff.ToGroup) bool { return g.Outside }) {
		t.Errorf("a new workload that reaches the outside: %+v", got.Added)
	}
}
