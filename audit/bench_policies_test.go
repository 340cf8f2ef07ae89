// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
)

// lookingUp are policies that need other objects than the one that they judge: the
// namespace, all Ingresses, the ConfigMaps of a namespace.
const lookingUp = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: by-namespace}
spec:
  rules:
  - name: team
    match: {any: [{resources: {kinds: [Pod], namespaceSelector: {matchLabels: {team: a}}}}]}
    validate: {message: no host network, pattern: {spec: {=(hostNetwork): "false"}}}
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: by-settings}
spec:
  rules:
  - name: settings
    match: {any: [{resources: {kinds: [Service]}}]}
    context: [{name: settings, configMap: {name: settings, namespace: default}}]
    validate: {message: it is not allowed, deny: {conditions: {all: [{key: '{{ settings.data.services }}', operator: Equals, value: none}]}}}
` + uniqueHost

func ingress(tb testing.TB, i int, host string, version int) *object.Object {
	tb.Helper()
	return live(tb, "networking.k8s.io/v1", "Ingress", fmt.Sprintf("team-%d", i), "app", values{
		"metadata": values{"resourceVersion": strconv.Itoa(version)},
		"spec":     values{"rules": []any{values{"host": host}}},
	})
}

// BenchmarkLookedUp measures what one change costs among 10,000 objects of which
// rules look some up.
func BenchmarkLookedUp(b *testing.B) {
	ctx := context.Background()
	e := newEngine(b, "mine", "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: mine}\nspec: {title: Mine, complete: true}\n---\n"+lookingUp, baseline.Options{})
	const spaces, pods, ingresses = 400, 23, 100 // 9,200 pods, 400 Services, 400 Namespaces
	version := 1
	for _, bench := range []struct {
		name   string
		change func() *object.Object
	}{
		{"pod", func() *object.Object {
			return runningPod(b, 7, 1, version, func(v values) { v["spec"].(values)["hostNetwork"] = version%2 == 0 })
		}},
		{"namespace", func() *object.Object { return namespaceOf(b, 7, []string{"a", "b"}[version%2], version) }},
		{"ingress", func() *object.Object { return ingress(b, 7, fmt.Sprintf("host-%d", version), version) }},
		{"configmap", func() *object.Object {
			return live(b, "v1", "ConfigMap", "default", "settings", values{"metadata": values{"resourceVersion": strconv.Itoa(version)}, "data": values{"services": "some", "n": strconv.Itoa(version)}})
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := audit.New(e, audit.Options{})
			for i := range spaces {
				s.Set(namespaceOf(b, i, "a", 1))
				s.Set(live(b, "v1", "Service", fmt.Sprintf("team-%d", i), "app", nil))
				if i < ingresses {
					s.Set(ingress(b, i, fmt.Sprintf("host-%d", i), 1))
				}
				for n := range pods {
					s.Set(runningPod(b, i, n, 1, nil))
				}
			}
			s.Set(live(b, "v1", "ConfigMap", "default", "settings", values{"data": values{"services": "some"}}))
			s.Settle(ctx)
			b.ResetTimer()
			for b.Loop() {
				version++
				s.Set(bench.change())
				s.Settle(ctx)
			}
		})
	}
}
