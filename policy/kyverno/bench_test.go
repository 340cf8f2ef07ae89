// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"fmt"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// typical are bodies of rules as teams have them.
var typical = []string{
	`{message: names its team, pattern: {metadata: {labels: {team: "?*"}}}}`,
	`{message: images have a tag, pattern: {spec: {containers: [{image: "*:*"}]}}}`,
	`{message: no host namespaces, pattern: {spec: {"=(hostPID)": "false", "=(hostIPC)": "false", "=(hostNetwork)": "false"}}}`,
	`{message: not privileged, pattern: {spec: {"=(initContainers)": [{"=(securityContext)": {"=(privileged)": "false"}}], containers: [{"=(securityContext)": {"=(privileged)": "false"}}]}}}`,
	`{message: has limits, pattern: {spec: {containers: [{resources: {limits: {memory: "?*"}, requests: {cpu: "?*", memory: "?*"}}}]}}}`,
	`{message: not root, anyPattern: [{spec: {securityContext: {runAsNonRoot: true}}}, {spec: {containers: [{securityContext: {runAsNonRoot: true}}]}}]}`,
	"{message: no host path, deny: {conditions: {any: [{key: \"{{ length(request.object.spec.volumes[?hostPath] || `[]`) }}\", operator: GreaterThan, value: 0}]}}}",
	`{message: drops all, foreach: [{list: "request.object.spec.[ephemeralContainers, initContainers, containers][]", deny: {conditions: {all: [{key: ALL, operator: AnyNotIn, value: "{{ element.securityContext.capabilities.drop[] || [] }}"}]}}}]}`,
	`{podSecurity: {level: baseline, version: latest}}`,
	`{cel: {expressions: [{expression: "object.spec.containers.all(c, has(c.image))", message: has an image}]}}`,
}

// policies50 are fifty policies.
func policies50(tb testing.TB) *policy.Set {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "---\napiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p%d}\nspec:\n  rules:\n    - name: r\n      match: {any: [{resources: {kinds: [Pod]}}]}\n      exclude: {any: [{resources: {namespaces: [kube-system]}}]}\n      validate: %s\n", i, typical[i%len(typical)])
	}
	var docs []*object.Object
	for _, d := range read(tb, "policies.yaml", []byte(b.String())) {
		docs = append(docs, d.Object)
	}
	set := Load(docs, policy.Options{})
	if len(set.Rules) != 50 || len(set.Problems) > 0 {
		tb.Fatal(len(set.Rules), set.Problems)
	}
	for _, r := range set.Rules {
		if why := r.Info().Unsupported; why != "" {
			tb.Fatal(r.Info().Name, why)
		}
	}
	return set
}

const goodPod = `metadata: {name: web, namespace: shop, labels: {app: web, team: shop}}
spec: &spec
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  serviceAccountName: web
  containers:
    - name: app
      image: ghcr.io/shop/web:1.2.3
      ports: [{containerPort: 8080}]
      env: [{name: MODE, value: production}, {name: LEVEL, value: info}]
      resources: {limits: {memory: 256Mi}, requests: {cpu: 100m, memory: 128Mi}}
      securityContext: {privileged: false, capabilities: {drop: [ALL]}}
    - name: proxy
      image: ghcr.io/shop/proxy:2.0.1
      resources: {limits: {memory: 64Mi}, requests: {cpu: 10m, memory: 32Mi}}
      securityContext: {privileged: false, capabilities: {drop: [ALL]}}
  volumes: [{name: tmp, emptyDir: {}}]
`

// BenchmarkJudge runs fifty policies over one object; ns/rule is what one costs.
func BenchmarkJudge(b *testing.B) {
	set := policies50(b)
	indented := strings.ReplaceAll(goodPod, "\n", "\n    ")
	for kind, text := range map[string]string{
		"Pod":        "apiVersion: v1\nkind: Pod\n" + goodPod,
		"Deployment": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop, labels: {team: shop}}\nspec:\n  replicas: 2\n  template:\n    " + indented,
	} {
		o := read(b, kind, []byte(text))[0].Object
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				q := &policy.Request{Object: o, Operation: policy.Create}
				for _, r := range set.Rules {
					if !r.Matches(o.GroupKind()) {
						continue
					}
					if v, applies := r.Judge(b.Context(), q); !applies || v.Outcome != "pass" {
						b.Fatal(r.Info().Name, applies, v)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/50, "ns/rule")
		})
	}
}

// BenchmarkTypical is what one rule of each form costs over a pod.
func BenchmarkTypical(b *testing.B) {
	set := policies50(b)
	o := read(b, "pod", []byte("apiVersion: v1\nkind: Pod\n"+goodPod))[0].Object
	for i, r := range set.Rules[:len(typical)] {
		b.Run(strings.Fields(strings.Trim(typical[i], "{"))[1]+fmt.Sprint(i), func(b *testing.B) {
			q := &policy.Request{Object: o, Operation: policy.Create}
			b.ReportAllocs()
			for range b.N {
				r.Judge(b.Context(), q)
			}
		})
	}
}
