// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"strings"
	"testing"
)

// TestRecordedEnds holds that whatever a recording tells an end to be, what was
// recorded is allowed by the policies.
func TestRecordedEnds(t *testing.T) {
	const services = `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api, tier: back}}
    spec: {containers: [{name: c, ports: [{containerPort: 9000}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api-next, namespace: shop}
spec:
  selector: {matchLabels: {app: api-next}}
  template:
    metadata: {labels: {app: api-next, tier: back}}
    spec: {containers: [{name: c, ports: [{containerPort: 9000}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: back, namespace: shop}
spec: {clusterIP: 10.96.0.20, selector: {tier: back}, ports: [{port: 80, targetPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443, targetPort: 6443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [203.0.113.10]}]
ports: [{name: https, port: 6443}]
`
	var six strings.Builder
	for i := range maxAddresses + 1 {
		fmt.Fprintf(&six, "{\"from\":\"shop/web\",\"to\":\"2001:db8::%x\",\"port\":443}\n{\"from\":\"shop/web\",\"to\":\"198.51.100.%d\",\"port\":443}\n", i+1, i+1)
	}
	remote := `{"flow":{"verdict":"FORWARDED","IP":{"source":"10.0.0.9","destination":"10.0.1.1"},"l4":{"TCP":{"destination_port":8080}},"is_reply":false,` +
		`"source":{"labels":["reserved:kube-apiserver","reserved:remote-node"]},"destination":{"namespace":"shop","workloads":[{"name":"web","kind":"Deployment"}]}}}`
	private := `{"start_time":1,"source_type":"net","source_namespace":"-","source_name_aggr":"pvt","dest_type":"wep","dest_namespace":"shop","dest_name_aggr":"web-6d4b75cb6d-*","dest_port":8080,"proto":"tcp","action":"allow"}`
	for _, tc := range []struct {
		name, flows string
		want        []string
	}{
		{"a Service of two workloads", `{"from":"shop/web","to":"10.96.0.20","port":80}`, []string{"api ingress [map[podSelector:map[matchLabels:map[app:web]]]]", "api-next ingress [map[podSelector:map[matchLabels:map[app:web]]]]"}},
		{"the Service of the API server", `{"from":"shop/web","to":"10.96.0.1","port":443}`, []string{"cidr:10.96.0.1/32", "cidr:203.0.113.10/32]]] [map[port:6443"}},
		{"many addresses of both families", six.String(), []string{"ipBlock:map[cidr:0.0.0.0/0 except:", "ipBlock:map[cidr:::/0 except:"}},
		{"another node", remote, []string{"web ingress [map[ipBlock:map[cidr:10.0.0.9/32]]]"}},
		{"private addresses that are not told", private, []string{"web ingress [map[ipBlock:map[cidr:0.0.0.0/0]]]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := generated(t, shop+services, flowsOf(t, tc.flows), Options{Exempt: exempt, Strict: true})
			if !r.Proof.Holds() {
				t.Errorf("not proven: %+v", r.Proof)
			}
			for _, want := range tc.want {
				if all := rulesOf(t, r); !strings.Contains(all, want) {
					t.Errorf("want %q in\n%s", want, all)
				}
			}
		})
	}
}

// TestNamedElsewhere holds that a Service without pods does not close the way to
// what it stands for without a word.
func TestNamedElsewhere(t *testing.T) {
	const named = `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pay, namespace: shop}
spec:
  selector: {matchLabels: {app: pay}}
  template:
    metadata: {labels: {app: pay}}
    spec: {containers: [{name: c, env: [{name: A, value: "ledger:5432"}, {name: B, value: "http://legacy:8080"}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {type: ExternalName, externalName: ledger.rds.example.com}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {ports: [{port: 8080}]}
`
	r := generated(t, shop+named, nil, Options{Exempt: exempt})
	if all := rulesOf(t, r); !strings.Contains(all, "pay egress [map[ipBlock:map[cidr:0.0.0.0/0 except:") || !strings.Contains(all, "port:5432") {
		t.Errorf("the way to what an ExternalName names is closed:\n%s", all)
	}
	if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, "env B of container c names the Service shop/legacy, which selects no pods") {
		t.Errorf("nothing is said of a Service without pods: %q", notes)
	}
}

// TestNothingActs holds that names of strangers do nothing at a terminal.
func TestNothingActs(t *testing.T) {
	const odd = "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: \"a\\u001b[31m\\nb\", namespace: shop}\n" +
		"spec: {template: {metadata: {labels: {app: odd}}, spec: {containers: []}}}\n"
	var b strings.Builder
	if err := generated(t, shop+odd, nil, Options{Exempt: exempt}).Text(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), `a\x1b[31m\nb`) {
		t.Errorf("got %q", b.String())
	}
}
