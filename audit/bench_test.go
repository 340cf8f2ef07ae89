// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
)

// benchPods is how many pods the benchmarks are about; SCONCE_AUDIT_PODS says
// another number.
func benchPods(tb testing.TB) int {
	tb.Helper()
	if v := os.Getenv("SCONCE_AUDIT_PODS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			tb.Fatal(err)
		}
		return n
	}
	return 5_000
}

const replicas = 25 // pods of a Deployment; each Deployment has a namespace of its own

type values = map[string]any

func live(tb testing.TB, apiVersion, kind, namespace, name string, more values) *object.Object {
	tb.Helper()
	meta := values{"name": name, "uid": kind + "-" + namespace + "-" + name, "resourceVersion": "1", "creationTimestamp": "2026-11-21T00:00:00Z"}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	root := values{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
	for k, v := range more {
		if k == "metadata" {
			for k, v := range v.(values) {
				meta[k] = v
			}
			continue
		}
		root[k] = v
	}
	objects, err := object.FromNode(object.FromAny(root), origin)
	if err != nil {
		tb.Fatal(err)
	}
	return objects[0]
}

// template is the pods of an application, as people write them: some controls
// pass and some do not. A token is set for a pod that runs.
func template(i int, token string) values {
	labels := values{"app": fmt.Sprintf("app-%d", i), "tier": "back", "app.kubernetes.io/managed-by": "Helm"}
	mounts := []any{values{"name": "tmp", "mountPath": "/tmp"}}
	volumes := []any{values{"name": "tmp", "emptyDir": values{}}}
	spec := values{
		"serviceAccountName": "app", "securityContext": values{"runAsNonRoot": true},
		"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
	}
	if token != "" {
		labels["pod-template-hash"] = fmt.Sprintf("5d8c9b%d", i)
		mounts = append(mounts, values{"name": "kube-api-access-" + token, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true})
		volumes = append(volumes, values{"name": "kube-api-access-" + token, "projected": values{"defaultMode": 420, "sources": []any{
			values{"serviceAccountToken": values{"expirationSeconds": 3607, "path": "token"}},
			values{"configMap": values{"name": "kube-root-ca.crt", "items": []any{values{"key": "ca.crt", "path": "ca.crt"}}}},
		}}})
		spec["nodeName"], spec["enableServiceLinks"] = "node-"+token, true
		spec["tolerations"] = []any{
			values{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
			values{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
		}
	}
	spec["volumes"] = volumes
	spec["containers"] = []any{values{
		"name": "app", "image": fmt.Sprintf("registry.example.com/app-%d:1.4.2", i), "imagePullPolicy": "IfNotPresent",
		"ports":           []any{values{"name": "http", "containerPort": 8080, "protocol": "TCP"}},
		"env":             []any{values{"name": "LOG_LEVEL", "value": "info"}, values{"name": "DB", "valueFrom": values{"secretKeyRef": values{"name": "db", "key": "password"}}}},
		"resources":       values{"requests": values{"cpu": "50m", "memory": "64Mi"}, "limits": values{"memory": "128Mi"}},
		"readinessProbe":  values{"httpGet": values{"path": "/ready", "port": "http"}, "periodSeconds": 10},
		"securityContext": values{"allowPrivilegeEscalation": false},
		"volumeMounts":    mounts, "terminationMessagePath": "/dev/termination-log",
	}}
	return values{"metadata": values{"labels": labels}, "spec": spec}
}

func ownedBy(kind, uid string) values {
	return values{"ownerReferences": []any{values{"apiVersion": "apps/v1", "kind": kind, "name": "app", "uid": uid, "controller": true}}}
}

// runningPod returns a pod of application i; a later version has another status.
func runningPod(tb testing.TB, i, n, version int, change func(values)) *object.Object {
	tb.Helper()
	space := fmt.Sprintf("team-%d", i)
	more := template(i, fmt.Sprintf("x%04d", n))
	meta := more["metadata"].(values)
	for k, v := range ownedBy("ReplicaSet", "ReplicaSet-"+space+"-app-5d8c9b") {
		meta[k] = v
	}
	meta["resourceVersion"] = strconv.Itoa(version)
	more["status"] = values{"phase": "Running", "podIP": fmt.Sprintf("10.%d.%d.%d", i/250, i%250, n), "conditions": []any{
		values{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z"},
	}, "containerStatuses": []any{values{"name": "app", "ready": true, "restartCount": version, "imageID": "registry.example.com/app@sha256:0000000000000000000000000000000000000000000000000000000000000000"}}}
	if change != nil {
		change(more)
	}
	return live(tb, "v1", "Pod", space, fmt.Sprintf("app-5d8c9b-x%04d", n), more)
}

func networkPolicy(tb testing.TB, i int, allow string, version int) *object.Object {
	tb.Helper()
	return live(tb, "networking.k8s.io/v1", "NetworkPolicy", fmt.Sprintf("team-%d", i), "app", values{
		"metadata": values{"resourceVersion": strconv.Itoa(version)},
		"spec": values{"podSelector": values{"matchLabels": values{"app": allow}}, "policyTypes": []any{"Ingress"}, "ingress": []any{values{"from": []any{
			values{"namespaceSelector": values{"matchLabels": values{"kubernetes.io/metadata.name": "team-0"}}, "podSelector": values{"matchLabels": values{"app": "app-0"}}},
			values{"namespaceSelector": values{}, "podSelector": values{"matchLabels": values{"app": "app-1"}}},
		}}}}})
}

const rbacAPI = "rbac.authorization.k8s.io/v1"

func roleBinding(tb testing.TB, i, n int, kind, role string, version int) *object.Object {
	tb.Helper()
	space := fmt.Sprintf("team-%d", i)
	return live(tb, rbacAPI, "RoleBinding", space, fmt.Sprintf("bind-%d", n), values{
		"metadata": values{"resourceVersion": strconv.Itoa(version)},
		"roleRef":  values{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
		"subjects": []any{values{"kind": "ServiceAccount", "name": "app", "namespace": space}},
	})
}

func namespaceOf(tb testing.TB, i int, team string, version int) *object.Object {
	tb.Helper()
	return live(tb, "v1", "Namespace", "", fmt.Sprintf("team-%d", i), values{"metadata": values{
		"resourceVersion": strconv.Itoa(version), "labels": values{"kubernetes.io/metadata.name": fmt.Sprintf("team-%d", i), "team": team},
	}})
}

func clusterRole(tb testing.TB, n, version int, verb string) *object.Object {
	tb.Helper()
	return live(tb, rbacAPI, "ClusterRole", "", fmt.Sprintf("role-%d", n), values{
		"metadata": values{"resourceVersion": strconv.Itoa(version)},
		"rules":    []any{values{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{verb}}},
	})
}

// surroundings yields what an application has beside its pods.
func surroundings(tb testing.TB, i int, yield func(*object.Object)) {
	tb.Helper()
	space := fmt.Sprintf("team-%d", i)
	yield(namespaceOf(tb, i, "a", 1))
	yield(networkPolicy(tb, i, fmt.Sprintf("app-%d", i), 1))
	for n := range 5 {
		yield(roleBinding(tb, i, n, "ClusterRole", fmt.Sprintf("role-%d", (i+n)%100), 1))
	}
	yield(clusterRole(tb, i%100, 1, "get"))
	yield(live(tb, "v1", "ServiceAccount", space, "app", nil))
	yield(live(tb, "v1", "ResourceQuota", space, "quota", values{"spec": values{"hard": values{"pods": "100"}}}))
	yield(live(tb, "v1", "ConfigMap", space, "settings", values{"data": values{"LOG_LEVEL": "info", "settings.yaml": "cache: {size: 128}\n"}}))
	yield(live(tb, "v1", "Service", space, "app", values{"spec": values{"selector": values{"app": fmt.Sprintf("app-%d", i)}, "ports": []any{values{"name": "http", "port": 80, "targetPort": "http"}}}}))
	yield(live(tb, "apps/v1", "Deployment", space, "app", values{"spec": values{"replicas": replicas, "selector": values{"matchLabels": values{"app": fmt.Sprintf("app-%d", i)}}, "template": template(i, "")}}))
	more := values{"spec": values{"replicas": replicas, "selector": values{}, "template": template(i, "")}, "metadata": ownedBy("Deployment", "Deployment-"+space+"-app")}
	yield(live(tb, "apps/v1", "ReplicaSet", space, "app-5d8c9b", more))
}

// fill feeds a cluster to a state, by as many goroutines as there are cores.
func fill(tb testing.TB, s *audit.State, pods int) {
	tb.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				surroundings(tb, i, func(o *object.Object) { s.Set(o) })
				for n := range replicas {
					s.Set(runningPod(tb, i, n, 1, nil))
				}
			}
		})
	}
	for i := range pods / replicas {
		next <- i
	}
	close(next)
	wg.Wait()
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkCold judges a cluster from nothing.
func BenchmarkCold(b *testing.B) {
	pods := benchPods(b)
	e := newEngine(b, "hardened", "", baseline.Options{Complete: true})
	for b.Loop() {
		before := heap()
		s := audit.New(e, audit.Options{})
		start := time.Now()
		fill(b, s, pods)
		set := time.Since(start)
		s.Settle(context.Background())
		b.ReportMetric(set.Seconds(), "s-set")
		b.ReportMetric((time.Since(start) - set).Seconds(), "s-settle")
		b.ReportMetric((heap()-before)/(1<<20), "MiB")
		b.ReportMetric((heap()-before)/float64(pods), "B/pod")
		start = time.Now()
		for _, ns := range s.Dirty() {
			s.Namespace(ns)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s-results")
		runtime.KeepAlive(s)
	}
}

// BenchmarkChange changes one object of a cluster and brings all up to date.
func BenchmarkChange(b *testing.B) {
	s := audit.New(newEngine(b, "hardened", "", baseline.Options{Complete: true}), audit.Options{})
	fill(b, s, benchPods(b))
	s.Settle(context.Background())
	version := 1
	for _, c := range []struct {
		name   string
		change func(odd bool) *object.Object
	}{
		{"pod-status", func(bool) *object.Object { return runningPod(b, 3, 1, version, nil) }},
		{"pod-spec", func(odd bool) *object.Object {
			return runningPod(b, 3, 1, version, func(p values) { p["spec"].(values)["hostNetwork"] = odd })
		}},
		{"pod-labels", func(odd bool) *object.Object {
			return runningPod(b, 3, 1, version, func(p values) { p["metadata"].(values)["labels"].(values)["odd"] = fmt.Sprint(odd) })
		}},
		{"network-policy", func(odd bool) *object.Object {
			return networkPolicy(b, 3, fmt.Sprintf("app-%d", map[bool]int{true: 3, false: 4}[odd]), version)
		}},
		{"role-binding", func(odd bool) *object.Object {
			return roleBinding(b, 3, 1, "ClusterRole", map[bool]string{true: "cluster-admin", false: "gone"}[odd], version)
		}},
		{"cluster-role", func(odd bool) *object.Object {
			return clusterRole(b, 3, version, map[bool]string{true: "*", false: "get"}[odd])
		}},
		{"namespace", func(odd bool) *object.Object { return namespaceOf(b, 3, fmt.Sprint(odd), version) }},
		{"service-account-gone", func(odd bool) *object.Object {
			if odd {
				s.Delete(object.Ref{APIVersion: "v1", Kind: "ServiceAccount", Namespace: "team-3", Name: "app"})
				return nil
			}
			return live(b, "v1", "ServiceAccount", "team-3", "app", nil)
		}},
		{"cluster-role-gone", func(odd bool) *object.Object {
			if odd {
				s.Delete(object.Ref{APIVersion: rbacAPI, Kind: "ClusterRole", Name: "role-7"})
				return nil
			}
			return clusterRole(b, 7, version, "get")
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			findings := 0
			var worst time.Duration
			for b.Loop() {
				version++
				start := time.Now()
				if o := c.change(version%2 == 1); o != nil {
					d := s.Set(o)
					findings += len(d.Appeared) + len(d.Cleared)
				}
				d := s.Settle(context.Background())
				findings += len(d.Appeared) + len(d.Cleared)
				worst = max(worst, time.Since(start))
			}
			b.ReportMetric(float64(findings)/float64(b.N), "findings/op")
			b.ReportMetric(float64(worst.Milliseconds()), "ms-worst")
		})
	}
}
