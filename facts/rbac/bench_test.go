// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"runtime"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// cluster generates what a cluster of a size holds: at size 1, 2,000
// namespaces, 10,000 bindings, 10,000 pods, 6,000 ServiceAccounts, 4,000 Roles
// and 300 ClusterRoles. It yields the objects one by one, since all together
// take more memory than what is kept of them.
func cluster(size int, yield func(*object.Object)) {
	origin := &object.Origin{Source: "cluster"}
	type m = map[string]any
	add := func(kind, apiVersion, namespace, name string, rest m) {
		meta := m{"name": name, "uid": "x"}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		o := m{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
		for k, v := range rest {
			if k == "labels" {
				meta[k] = v
			} else {
				o[k] = v
			}
		}
		yield(object.New(object.FromAny(o), origin))
	}
	const rbac = group + "/v1"
	texts := func(all ...string) []any {
		var out []any
		for _, s := range all {
			out = append(out, s)
		}
		return out
	}
	rule := func(group string, resources, verbs []any, names ...string) m {
		r := m{"apiGroups": texts(group), "resources": resources, "verbs": verbs}
		if len(names) > 0 {
			r["resourceNames"] = texts(names...)
		}
		return r
	}
	read := texts("get", "list", "watch")
	bind := func(kind, namespace, name, roleKind, role string, subjects ...any) {
		add(kind, rbac, namespace, name, m{"roleRef": m{"apiGroup": group, "kind": roleKind, "name": role}, "subjects": subjects})
	}
	account := func(namespace, name string) m {
		return m{"kind": "ServiceAccount", "namespace": namespace, "name": name}
	}
	team := func(i int) m {
		return m{"apiGroup": group, "kind": "Group", "name": fmt.Sprintf("team-%d", i%(100*size))}
	}
	for _, b := range builtIn() {
		o := m{"labels": m{}}
		for k, v := range b.labels {
			o["labels"].(m)[k] = v
		}
		var rules []any
		for _, text := range b.rules {
			r := readRule(text.Value())
			rules = append(rules, m{"apiGroups": texts(r.Groups...), "resources": texts(r.Resources...), "verbs": texts(r.Verbs...), "resourceNames": texts(r.Names...), "nonResourceURLs": texts(r.Paths...)})
		}
		o["rules"] = rules
		add(b.ref.Kind, rbac, b.ref.Namespace, b.ref.Name, o)
	}
	for i := range 200 * size {
		add("ClusterRole", rbac, "", fmt.Sprintf("operator-%d", i), m{
			"labels": m{"app": fmt.Sprint(i)},
			"rules":  []any{rule(fmt.Sprintf("group-%d.example.com", i), texts("things", "things/status"), texts("*")), rule("", texts("secrets", "pods"), read), rule("apps", texts("deployments"), texts("*"))},
		})
		add("ServiceAccount", "v1", "operators", fmt.Sprintf("operator-%d", i), nil)
		bind("ClusterRoleBinding", "", fmt.Sprintf("operator-%d", i), "ClusterRole", fmt.Sprintf("operator-%d", i), account("operators", fmt.Sprintf("operator-%d", i)))
	}
	for i := range 2000 * size {
		ns := fmt.Sprintf("namespace-%d", i)
		for _, name := range []string{"default", "web", "worker"} {
			add("ServiceAccount", "v1", ns, name, nil)
		}
		add("Role", rbac, ns, "web", m{"rules": []any{rule("", texts("configmaps"), read), rule("", texts("secrets"), texts("get"), fmt.Sprintf("web-%d", i))}})
		add("Role", rbac, ns, "leader", m{"rules": []any{rule("coordination.k8s.io", texts("leases"), texts("*")), rule("", texts("events"), texts("create", "patch"))}})
		bind("RoleBinding", ns, "web", "Role", "web", account(ns, "web"))
		bind("RoleBinding", ns, "leader", "Role", "leader", account(ns, "worker"))
		bind("RoleBinding", ns, "operator", "ClusterRole", "operator-0", account("operators", "operator-0"))
		bind("RoleBinding", ns, "team", "ClusterRole", "edit", team(i))
		if i%10 != 0 {
			bind("RoleBinding", ns, "viewers", "ClusterRole", "view", team(i+1), team(i+2), m{"kind": "User", "apiGroup": group, "name": fmt.Sprintf("user-%d", i)})
		}
		for j := range 5 {
			add("Pod", "v1", ns, fmt.Sprintf("web-%d", j), m{"spec": m{"serviceAccountName": []string{"default", "web", "worker"}[j%3], "containers": []any{m{"name": "web", "image": "example.com/web"}}}})
		}
	}
}

// heap is how much memory is in use.
func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func keptOf(size int) (kept []any) {
	cluster(size, func(o *object.Object) { kept = append(kept, Keep(o)) })
	return kept
}

// BenchmarkModel makes the model of a large cluster and derives its facts, and
// says what is held meanwhile. Size 10 may take 15 times as long as size 1.
func BenchmarkModel(b *testing.B) {
	for _, size := range []int{1, 10} {
		before := heap()
		kept := keptOf(size)
		keptMiB := float64(heap()-before) / (1 << 20)
		b.Run(fmt.Sprintf("size=%d/model", size), func(b *testing.B) {
			var m *Model
			for b.Loop() {
				m = NewModel(kept, &facts.Env{Complete: true})
			}
			b.ReportMetric(float64(heap()-before)/(1<<20)-keptMiB, "MiB-model")
			b.ReportMetric(keptMiB, "MiB-kept")
			b.ReportMetric(float64(len(m.bindings)), "bindings")
		})
		b.Run(fmt.Sprintf("size=%d/model-and-facts", size), func(b *testing.B) {
			for b.Loop() {
				Effective.Derive(kept, &facts.Env{Complete: true}, func(*object.Object) {})
			}
		})
	}
}

// BenchmarkQuestions asks what people ask.
func BenchmarkQuestions(b *testing.B) {
	for _, size := range []int{1, 10} {
		m := NewModel(keptOf(size), &facts.Env{Complete: true})
		web := Subject{ServiceAccount, "namespace-7", "web"}
		secrets := Request{Verb: "get", Resource: "secrets", Namespace: "namespace-7", Name: "web-7"}
		for _, q := range []struct {
			name string
			ask  func()
		}{
			{"can", func() { m.Can(web, nil, secrets) }},
			{"who-can in a namespace", func() { m.WhoCan(secrets) }},
			{"who-can in the cluster", func() { m.WhoCan(Request{Verb: "list", Resource: "secrets"}) }},
			{"indirect", func() { m.Indirect(secrets) }},
			{"indirect in the cluster", func() { m.Indirect(Request{Verb: "list", Resource: "secrets"}) }},
			{"permissions", func() { m.Permissions(web, nil) }},
			{"permissions of an operator", func() { m.Permissions(Subject{ServiceAccount, "operators", "operator-0"}, nil) }},
		} {
			b.Run(fmt.Sprintf("size=%d/%s", size, q.name), func(b *testing.B) {
				for b.Loop() {
					q.ask()
				}
			})
		}
	}
}

// BenchmarkChange changes one object and brings the facts up to date: a binding
// of a ServiceAccount, one of an operator that holds thousands, and a pod.
func BenchmarkChange(b *testing.B) {
	for _, size := range []int{1, 10} {
		live := Effective.Live()
		changes := map[string][]any{}
		cluster(size, func(o *object.Object) {
			live.Set(o.Ref, Keep(o))
			switch o.Ref {
			case object.Ref{APIVersion: group + "/v1", Kind: "RoleBinding", Namespace: "namespace-7", Name: "web"}:
				changes["binding"] = []any{o.Ref, Keep(o)}
			case object.Ref{APIVersion: group + "/v1", Kind: "RoleBinding", Namespace: "namespace-7", Name: "operator"}:
				changes["binding of an operator"] = []any{o.Ref, Keep(o)}
			case object.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "namespace-7", Name: "web-1"}:
				changes["pod"] = []any{o.Ref, Keep(o)}
			case object.Ref{APIVersion: group + "/v1", Kind: "ClusterRole", Name: "operator-1"}:
				changes["role"] = []any{o.Ref, Keep(o)}
			}
		})
		env := &facts.Env{Complete: true}
		live.Settle(env, func(object.Ref, []*object.Object) {})
		for _, what := range []string{"binding", "binding of an operator", "pod", "role"} {
			ref, kept := changes[what][0].(object.Ref), changes[what][1]
			b.Run(fmt.Sprintf("size=%d/%s", size, what), func(b *testing.B) {
				told := 0
				for b.Loop() {
					live.Set(ref, nil)
					live.Settle(env, func(object.Ref, []*object.Object) { told++ })
					live.Set(ref, kept)
					live.Settle(env, func(object.Ref, []*object.Object) { told++ })
				}
				b.ReportMetric(float64(told)/float64(b.N), "told/op")
			})
		}
	}
}
