// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"fmt"
	"runtime"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/object"
)

// big is a cluster of 10,000 times scale pods: in each of 2,000 namespaces one
// Deployment with five pods, a few ServiceAccounts, five bindings and a policy or
// two; 300 specs of pods; 200 nodes.
func big(scale int) []*object.Object {
	b := &builder{}
	for n := range 200 * scale {
		b.add("v1", "Node", "", fmt.Sprintf("n%d", n), nil)
	}
	for r := range 100 {
		rules := []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"get"}}}
		switch r % 20 {
		case 0:
			rules = append(rules, rule("create", "", "pods", "pods/exec"))
		case 1:
			rules = append(rules, rule("get", "", "secrets"))
		case 2:
			rules = append(rules, rule("update", "apps", "deployments"))
		}
		b.add("rbac.authorization.k8s.io/v1", "ClusterRole", "", fmt.Sprintf("role%d", r), map[string]any{"rules": rules})
	}
	for ns := range 2000 * scale {
		b.namespace(ns, scale)
	}
	b.binding("ClusterRoleBinding", "", "operator", "cluster-admin", "ns1", "sa0")
	return b.objects
}

func rule(verb, group string, resources ...any) any {
	return map[string]any{"apiGroups": []any{group}, "resources": resources, "verbs": []any{verb}}
}

type builder struct{ objects []*object.Object }

var origin = &object.Origin{Source: "cluster"}

func (b *builder) add(apiVersion, kind, namespace, name string, fields map[string]any) {
	meta := map[string]any{"name": name}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	root := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
	for k, v := range fields {
		if k == "metadata" {
			for k, v := range v.(map[string]any) {
				meta[k] = v
			}
			continue
		}
		root[k] = v
	}
	b.objects = append(b.objects, object.New(object.FromAny(root), origin))
}

func (b *builder) binding(kind, namespace, name, role, accountNamespace, account string) {
	b.add("rbac.authorization.k8s.io/v1", kind, namespace, name, map[string]any{
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": accountNamespace, "name": account}},
	})
}

func (b *builder) namespace(n, scale int) {
	ns := fmt.Sprintf("ns%d", n)
	labels := map[string]any{"kubernetes.io/metadata.name": ns}
	if n%3 != 0 {
		labels["pod-security.kubernetes.io/enforce"] = "restricted"
	}
	b.add("v1", "Namespace", "", ns, map[string]any{"metadata": map[string]any{"labels": labels}})
	for a := range 3 {
		b.add("v1", "ServiceAccount", ns, fmt.Sprintf("sa%d", a), nil)
	}
	for i := range 5 {
		b.binding("RoleBinding", ns, fmt.Sprintf("b%d", i), fmt.Sprintf("role%d", (n*5+i*7)%100), fmt.Sprintf("ns%d", (n+i*i)%(2000*scale)), fmt.Sprintf("sa%d", i%3))
	}
	spec := podSpec(n % 300)
	podLabels := map[string]any{"app": "web"}
	b.add("apps/v1", "Deployment", ns, "web", map[string]any{"spec": map[string]any{
		"template": map[string]any{"metadata": map[string]any{"labels": podLabels}, "spec": spec}}})
	for p := range 5 {
		own := map[string]any{}
		for k, v := range spec {
			own[k] = v
		}
		own["nodeName"] = fmt.Sprintf("n%d", (n*5+p)%(200*scale))
		b.add("v1", "Pod", ns, fmt.Sprintf("web-abc-%d", p), map[string]any{
			"metadata": map[string]any{
				"labels":          map[string]any{"app": "web", "pod-template-hash": "abc"},
				"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "controller": true}},
			}, "spec": own})
	}
	for p := range 1 + n%2 {
		b.add("networking.k8s.io/v1", "NetworkPolicy", ns, fmt.Sprintf("p%d", p), map[string]any{"spec": map[string]any{
			"podSelector": map[string]any{"matchLabels": map[string]any{"app": "web"}},
			"ingress":     []any{map[string]any{"from": []any{map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": fmt.Sprintf("ns%d", n/2)}}}}}},
		}})
	}
	if n%20 == 0 {
		b.add("v1", "Service", ns, "web", map[string]any{"spec": map[string]any{
			"type": "LoadBalancer", "selector": map[string]any{"app": "web"}, "ports": []any{map[string]any{"port": int64(80), "targetPort": int64(8080)}}}})
	}
}

func podSpec(n int) map[string]any {
	container := map[string]any{
		"name": "app", "image": fmt.Sprintf("registry.example/app%d:1", n), "ports": []any{map[string]any{"containerPort": int64(8080)}},
		"securityContext": map[string]any{"privileged": n%50 == 0, "capabilities": map[string]any{"drop": []any{"ALL"}}},
	}
	return map[string]any{
		"serviceAccountName": fmt.Sprintf("sa%d", n%3), "containers": []any{container, map[string]any{"name": "proxy", "image": "proxy:1"}},
		"volumes": []any{map[string]any{"name": "config", "secret": map[string]any{"secretName": "tls"}}},
	}
}

var complete = &facts.Env{Minor: 36, Complete: true}

// BenchmarkWhole is everything from objects to pairs.
func BenchmarkWhole(b *testing.B) {
	for _, scale := range []int{1, 10} {
		b.Run(fmt.Sprintf("%dx", scale), func(b *testing.B) {
			objects := big(scale)
			b.ResetTimer()
			for b.Loop() {
				attackpath.New(keep(objects), complete).Pairs()
			}
		})
	}
}

// BenchmarkPairs is the graph and its pairs, once objects were read.
func BenchmarkPairs(b *testing.B) {
	for _, scale := range []int{1, 10} {
		b.Run(fmt.Sprintf("%dx", scale), func(b *testing.B) {
			kept := keep(big(scale))
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var g *attackpath.Graph
			for b.Loop() {
				g = attackpath.New(kept, complete)
				g.Pairs()
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
			runtime.KeepAlive(g)
		})
	}
}

// BenchmarkSet is one change, and the pairs after it.
func BenchmarkSet(b *testing.B) {
	objects := big(1)
	g := attackpath.New(keep(objects), complete)
	g.Pairs()
	for _, kind := range []string{"RoleBinding", "NetworkPolicy", "Pod", "ServiceAccount"} {
		var o *object.Object
		for _, o = range objects {
			if o.Kind == kind && o.Namespace == "ns7" {
				break
			}
		}
		b.Run(kind, func(b *testing.B) {
			there := true
			for b.Loop() {
				if there {
					g.Set(o.Ref, nil)
				} else {
					g.Set(o.Ref, attackpath.Keep(o))
				}
				there = !there
				g.Pairs()
			}
			if !there {
				g.Set(o.Ref, attackpath.Keep(o))
			}
		})
	}
}

// BenchmarkSettle is one change, and the facts after it.
func BenchmarkSettle(b *testing.B) {
	objects := big(1)
	l := attackpath.Whole.Live()
	var o *object.Object
	for _, each := range objects {
		l.Set(each.Ref, attackpath.Keep(each))
		if each.Kind == "RoleBinding" && each.Namespace == "ns7" {
			o = each
		}
	}
	told := 0
	settle := func() { l.Settle(complete, func(object.Ref, []*object.Object) { told++ }) }
	settle()
	b.ReportMetric(float64(told), "facts")
	there := true
	for b.Loop() {
		if there {
			l.Set(o.Ref, nil)
		} else {
			l.Set(o.Ref, attackpath.Keep(o))
		}
		there = !there
		settle()
	}
}
