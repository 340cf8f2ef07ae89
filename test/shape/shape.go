// SPDX-License-Identifier: Apache-2.0

// Package shape makes up the objects of a cluster of a given size, as the API
// server would list them, so that what grows with a cluster can be measured. The
// same size gives the same objects.
//
// The shape is that of a cluster that many teams share: namespaces that are
// locked down but for an ingress controller, monitoring and DNS, and some that
// are not; a few workloads a namespace, each with a ServiceAccount of its own;
// bindings to the built-in roles and to own ones; a handful of tenants with more
// rights than they should have; and the platform's own namespaces with agents
// that run privileged.
package shape

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"

	"sconce.dev/sconce/object"
)

// At scale 1 a cluster has about these numbers of objects.
const (
	Namespaces = 2_000
	Pods       = 10_000
	Bindings   = 10_000
	Policies   = 3_000
	nodes      = 200
)

type fields = map[string]any

type list = []any

// maker hands over the objects of one cluster.
type maker struct {
	scale float64
	rand  *rand.Rand
	yield func(*object.Object) bool
	done  bool
}

// Objects yields the objects of a cluster that is scale times as large as one of
// 10,000 pods, 2,000 namespaces, 10,000 bindings and 3,000 policies.
func Objects(scale float64) iter.Seq[*object.Object] {
	return func(yield func(*object.Object) bool) {
		m := &maker{scale: scale, rand: rand.New(rand.NewPCG(1, 2)), yield: yield} //nolint:gosec // made up, and the same each time
		m.platform()
		for i := range m.many(Namespaces) {
			if m.done {
				return
			}
			m.tenant(i)
		}
	}
}

// Of returns the objects as a list.
func Of(scale float64) []*object.Object {
	var out []*object.Object
	for o := range Objects(scale) {
		out = append(out, o)
	}
	return out
}

func (m *maker) many(n int) int { return max(1, int(float64(n)*m.scale)) }

// add hands over an object that is written as a tree of Go values.
func (m *maker) add(apiVersion, kind, namespace, name string, labels fields, rest fields) {
	if m.done {
		return
	}
	meta := fields{"name": name, "uid": namespace + "/" + kind + "/" + name, "resourceVersion": "1"}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	if labels != nil {
		meta["labels"] = labels
	}
	if owner, ok := rest["owner"]; ok {
		meta["ownerReferences"] = list{owner}
		delete(rest, "owner")
	}
	tree := fields{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
	for k, v := range rest {
		tree[k] = v
	}
	text, err := json.Marshal(tree)
	if err != nil {
		panic(err) // trees of maps, lists and strings can be written
	}
	root, err := object.ReadJSON(text, 1<<20)
	if err != nil {
		panic(err)
	}
	m.done = !m.yield(object.New(root, &object.Origin{Source: "cluster"}))
}

const rbacGroup = "rbac.authorization.k8s.io"

func rule(group string, resources, verbs list) fields {
	return fields{"apiGroups": list{group}, "resources": resources, "verbs": verbs}
}

func (m *maker) role(namespace, name string, rules ...any) {
	kind := "Role"
	if namespace == "" {
		kind = "ClusterRole"
	}
	m.add(rbacGroup+"/v1", kind, namespace, name, nil, fields{"rules": rules})
}

func (m *maker) bind(namespace, name, roleKind, role string, subjects ...any) {
	kind := "RoleBinding"
	if namespace == "" {
		kind = "ClusterRoleBinding"
	}
	m.add(rbacGroup+"/v1", kind, namespace, name, nil, fields{
		"roleRef": fields{"apiGroup": rbacGroup, "kind": roleKind, "name": role}, "subjects": subjects,
	})
}

func account(namespace, name string) fields {
	return fields{"kind": "ServiceAccount", "namespace": namespace, "name": name}
}

func subject(kind, name string) fields {
	return fields{"kind": kind, "apiGroup": rbacGroup, "name": name}
}

// namespace adds a namespace and what stands in each.
func (m *maker) namespace(name string, labels fields) {
	all := fields{"kubernetes.io/metadata.name": name}
	for k, v := range labels {
		all[k] = v
	}
	m.add("v1", "Namespace", "", name, all, nil)
	m.add("v1", "ServiceAccount", name, "default", nil, nil)
	m.add("v1", "ConfigMap", name, "kube-root-ca.crt", nil, fields{"data": fields{"ca.crt": "x"}})
}

// platform adds what a cluster has once.
func (m *maker) platform() {
	for i := range m.many(nodes) {
		labels := fields{"kubernetes.io/hostname": node(i)}
		if i < 3 {
			labels["node-role.kubernetes.io/control-plane"] = ""
		}
		m.add("v1", "Node", "", node(i), labels, fields{"status": fields{"addresses": list{fields{"type": "InternalIP", "address": address(10, i)}}}})
	}
	everything := fields{"apiGroups": list{"*"}, "resources": list{"*"}, "verbs": list{"*"}}
	m.role("", "cluster-admin", everything, fields{"nonResourceURLs": list{"*"}, "verbs": list{"*"}})
	read := list{"get", "list", "watch"}
	write := list{"create", "delete", "patch", "update"}
	m.role("", "view", rule("", list{"pods", "services", "configmaps", "endpoints"}, read), rule("apps", list{"deployments", "statefulsets", "daemonsets"}, read))
	m.role("", "edit", rule("", list{"pods", "services", "configmaps", "secrets", "serviceaccounts"}, append(read, write...)),
		rule("", list{"pods/exec", "serviceaccounts/token"}, list{"create"}), rule("apps", list{"deployments", "statefulsets", "daemonsets"}, append(read, write...)))
	m.role("", "admin", rule("", list{"*"}, list{"*"}), rule("apps", list{"*"}, list{"*"}), rule(rbacGroup, list{"roles", "rolebindings"}, append(read, write...)))
	for i := range 60 {
		m.role("", fmt.Sprintf("operator-%d", i), rule(fmt.Sprintf("operator%d.example.com", i), list{"*"}, list{"*"}), rule("", list{"events", "pods"}, read))
	}
	m.bind("", "cluster-admin", "ClusterRole", "cluster-admin", subject("Group", "system:masters"))
	for _, name := range []string{"kube-system", "ingress", "monitoring", "ci"} {
		m.namespace(name, fields{"platform": "true"})
	}
	for i := range 60 {
		m.bind("", fmt.Sprintf("operator-%d", i), "ClusterRole", fmt.Sprintf("operator-%d", i), account("kube-system", fmt.Sprintf("operator-%d", i)))
	}
	m.workload("kube-system", "agent", "DaemonSet", m.many(nodes)/4, fields{"hostNetwork": true, "hostPID": true}, fields{"privileged": true})
	m.workload("kube-system", "kube-dns", "Deployment", 3, nil, nil)
	m.workload("ingress", "controller", "Deployment", 3, nil, nil)
	m.workload("monitoring", "prometheus", "StatefulSet", 2, nil, nil)
	m.workload("ci", "runner", "Deployment", 3, nil, nil)
	m.bind("", "ci", "ClusterRole", "cluster-admin", account("ci", "runner"))
	m.role("", "secret-reader", rule("", list{"secrets"}, read))
	m.bind("", "ingress-secrets", "ClusterRole", "secret-reader", account("ingress", "controller"))
}

func node(i int) string { return fmt.Sprintf("node-%d", i) }

func address(first, i int) string {
	return fmt.Sprintf("%d.%d.%d.%d", first, i>>16&255, i>>8&255, i&255)
}

// workload adds a controller, its ServiceAccount and its pods.
func (m *maker) workload(namespace, name, kind string, replicas int, pod, security fields) {
	labels := fields{"app": name, "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace}
	container := fields{
		"name": "main", "image": "registry.example.com/" + name + ":1.2.3",
		"ports": list{fields{"name": "http", "containerPort": 8080}},
	}
	if security != nil {
		container["securityContext"] = security
	}
	spec := fields{"serviceAccountName": name, "containers": list{container}}
	for k, v := range pod {
		spec[k] = v
	}
	m.add("v1", "ServiceAccount", namespace, name, nil, nil)
	m.add("apps/v1", kind, namespace, name, labels, fields{"spec": fields{
		"replicas": replicas, "selector": fields{"matchLabels": fields{"app": name}},
		"template": fields{"metadata": fields{"labels": labels}, "spec": spec},
	}})
	for i := range replicas {
		running := fields{"nodeName": node(m.rand.IntN(m.many(nodes)))}
		for k, v := range spec {
			running[k] = v
		}
		uid := namespace + "/" + kind + "/" + name
		m.add("v1", "Pod", namespace, fmt.Sprintf("%s-%d", name, i), labels, fields{
			"spec": running, "status": fields{"phase": "Running", "podIP": address(100, m.rand.IntN(1<<24))},
			"owner": fields{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true},
		})
	}
	m.add("v1", "Service", namespace, name, labels, fields{"spec": fields{
		"selector": fields{"app": name}, "ports": list{fields{"name": "http", "port": 80, "targetPort": "http"}},
	}})
}

func (m *maker) policy(namespace, name string, spec fields) {
	m.add("networking.k8s.io/v1", "NetworkPolicy", namespace, name, nil, fields{"spec": spec})
}

func of(namespace string) fields {
	return fields{"namespaceSelector": fields{"matchLabels": fields{"kubernetes.io/metadata.name": namespace}}}
}

// tenant adds a namespace of a team.
func (m *maker) tenant(i int) {
	ns := fmt.Sprintf("team-%d", i)
	locked := i%4 != 0 // three of four are
	labels := fields{"team": fmt.Sprintf("t%d", i/5)}
	if locked {
		labels["pod-security.kubernetes.io/enforce"] = "restricted"
	}
	m.namespace(ns, labels)
	for w := range 2 {
		var security fields
		if i%200 == 7 && w == 0 {
			security = fields{"privileged": true}
		}
		m.workload(ns, fmt.Sprintf("app-%d", w), "Deployment", 2+(i+w)%2, nil, security)
	}
	m.add("v1", "Secret", ns, "database", nil, fields{"type": "Opaque", "data": fields{"password": "eA=="}})
	if i%5 == 0 {
		m.add("networking.k8s.io/v1", "Ingress", ns, "web", nil, fields{"spec": fields{"rules": list{fields{
			"host": ns + ".example.com",
			"http": fields{"paths": list{fields{"path": "/", "pathType": "Prefix", "backend": fields{"service": fields{"name": "app-0", "port": fields{"number": 80}}}}}},
		}}}})
	}
	m.tenantPolicies(i, ns, locked)
	m.tenantBindings(i, ns)
}

func (m *maker) tenantPolicies(i int, ns string, locked bool) {
	if !locked {
		return
	}
	m.policy(ns, "default", fields{
		"podSelector": fields{}, "policyTypes": list{"Ingress", "Egress"},
		"ingress": list{fields{"from": list{fields{"podSelector": fields{}}}}, fields{"from": list{of("monitoring")}, "ports": list{fields{"port": "http"}}}},
		"egress": list{fields{"to": list{fields{"podSelector": fields{}}}}, fields{
			"to": list{of("kube-system")}, "ports": list{fields{"protocol": "UDP", "port": 53}, fields{"protocol": "TCP", "port": 53}},
		}},
	})
	m.policy(ns, "web", fields{
		"podSelector": fields{"matchLabels": fields{"app": "app-0"}}, "policyTypes": list{"Ingress"},
		"ingress": list{fields{"from": list{of("ingress")}, "ports": list{fields{"port": "http"}}}},
	})
	if i%10 == 1 { // it asks another team's API
		m.policy(ns, "api", fields{
			"podSelector": fields{"matchLabels": fields{"app": "app-1"}}, "policyTypes": list{"Egress"},
			"egress": list{fields{"to": list{fields{"namespaceSelector": fields{"matchLabels": fields{"team": fmt.Sprintf("t%d", i/5+1)}}}}, "ports": list{fields{"port": 8080}}}},
		})
	}
}

func (m *maker) tenantBindings(i int, ns string) {
	m.role(ns, "app", rule("", list{"configmaps"}, list{"get", "watch", "list"}), rule("", list{"pods"}, list{"get", "list"}))
	m.bind(ns, "team", "ClusterRole", "edit", subject("Group", fmt.Sprintf("t%d", i/5)))
	m.bind(ns, "viewers", "ClusterRole", "view", subject("Group", "engineers"))
	m.bind(ns, "app-0", "Role", "app", account(ns, "app-0"))
	m.bind(ns, "app-1", "Role", "app", account(ns, "app-1"))
	m.bind(ns, "ci", "ClusterRole", "edit", account("ci", fmt.Sprintf("deployer-%d", i%50)))
	if i%97 == 3 { // a workload that may create pods
		m.bind(ns, "spawner", "ClusterRole", "edit", account(ns, "app-0"))
	}
	if i%400 == 9 {
		m.bind("", ns+"-admin", "ClusterRole", "cluster-admin", account(ns, "app-1"))
	}
}
