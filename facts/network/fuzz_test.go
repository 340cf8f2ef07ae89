// SPDX-License-Identifier: Apache-2.0

package network

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apilabels "k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// parse returns what a fuzzer wrote as an object, or nil.
func parse(data []byte) *object.Object {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil
	}
	root := object.FromAny(integers(v))
	if root.Kind != object.Map {
		return nil
	}
	return object.New(root, &object.Origin{Source: "fuzz.yaml"})
}

func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}

// FuzzSelector holds selectors against those of Kubernetes: what it refuses is
// never known to choose anything, and of the rest both choose the same.
func FuzzSelector(f *testing.F) {
	for _, seed := range []string{
		`{}`, `matchLabels: {a: b}`, `matchExpressions: [{key: a, operator: In, values: [b, c]}]`, `matchExpressions: [{key: a, operator: NotIn, values: [b]}]`,
		`matchExpressions: [{key: a, operator: Exists}, {key: c, operator: DoesNotExist}]`, `matchExpressions: [{key: a, operator: In}]`, `matchLabels: {a: 1}`, `matchLabels: [a]`,
		`matchExpressions: [{key: "", operator: Exists}]`, `matchExpressions: {}`, `more: {}`,
	} {
		f.Add([]byte(seed), "a", "b")
	}
	f.Fuzz(func(t *testing.T, data []byte, key, value string) {
		o := parse(data)
		if o == nil {
			return
		}
		s := readSelector(o.Root)
		for _, l := range []apilabels.Set{{}, {key: value}} {
			var own labels
			for k, v := range l {
				own = own.with(pair{key: k, value: v})
			}
			got := s.matches(own)
			x := newLabelIndex()
			x.add(0, own)
			if set := x.choose(s); set.sure.Contains(0) != (got == yes) || set.possible.Contains(0) != (got != no) {
				t.Fatalf("%s for %v: %d, by the index %v %v", data, l, got, set.sure, set.possible)
			}
			var selector metav1.LabelSelector
			if err := yaml.UnmarshalStrict(data, &selector); err != nil {
				continue // not what the API server reads
			}
			theirs, err := metav1.LabelSelectorAsSelector(&selector)
			if err != nil {
				if got == yes {
					t.Fatalf("%s chooses %v, which Kubernetes refuses: %v", data, l, err)
				}
				continue
			}
			if got != unknown && truthOf(theirs.Matches(l)) != got {
				t.Fatalf("%s for %v: %d, Kubernetes %t", data, l, got, theirs.Matches(l))
			}
		}
	})
}

// FuzzPolicy reads any object as a policy: nothing panics, what is known to be
// allowed is allowed by the bicliques too, and what the API server would refuse
// is not known to allow what was denied without it.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{
		"kind: NetworkPolicy\nspec: {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: web, protocol: TCP}, {port: 80, endPort: 90}]}]}",
		"kind: NetworkPolicy\nspec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}], policyTypes: [Egress]}",
		"kind: NetworkPolicy\nspec: {podSelector: 1, ingress: [null, 1, {from: {}}, {from: [1]}, {ports: [{port: \"80\"}]}], policyTypes: Ingress}",
		"kind: ClusterNetworkPolicy\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
		"kind: ClusterNetworkPolicy\nspec: {tier: Baseline, subject: {pods: {podSelector: {}, namespaceSelector: {}}}, egress: [{action: Pass, to: [{networks: [\"::/0\"]}, {nodes: {}}, {domainNames: [a.b]}, {}], protocols: [{tcp: {}}, {destinationNamedPort: web}]}]}",
		"kind: AdminNetworkPolicy\nspec: {priority: 1, subject: {namespaces: {}}, ingress: [{action: Allow, from: [{pods: {}}], ports: [{portNumber: {port: 80}}, {portRange: {start: 1, end: 2}}]}]}",
		"kind: CiliumNetworkPolicy\nspec: {endpointSelector: {matchLabels: {\"k8s:app\": a}}}",
		"kind: Service\nspec: {type: LoadBalancer, selector: {app: a}, ports: [{port: 80, targetPort: web}], externalIPs: [a], loadBalancerSourceRanges: [x]}",
		"kind: Ingress\nspec: {rules: [{host: a, http: {paths: [{backend: {service: {name: s, port: {number: 80}}}}]}}], defaultBackend: {service: {name: s}}}",
		"kind: HTTPRoute\nspec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: s, port: 80}]}]}",
		"kind: Gateway\nspec: {listeners: [{port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {}}}}]}",
	} {
		f.Add([]byte(seed))
	}
	groups := map[string]string{
		"NetworkPolicy": "networking.k8s.io/v1", "Ingress": "networking.k8s.io/v1", "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
		"AdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1", "CiliumNetworkPolicy": "cilium.io/v2",
		"HTTPRoute": "gateway.networking.k8s.io/v1", "Gateway": "gateway.networking.k8s.io/v1", "Deployment": "apps/v1",
	}
	pods := func(name string) any {
		return Keep(parse([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: n, labels: {app: " + name + "}}\nspec: {containers: [{ports: [{containerPort: 80, name: web}]}]}\nstatus: {podIP: 10.0.0.1}")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := parse(data)
		if o == nil {
			return
		}
		o.APIVersion, o.Namespace = groups[o.Kind], "n"
		if o.APIVersion == "" {
			o.APIVersion = "v1"
		}
		kept := Keep(o)
		closed := Keep(parse([]byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed, namespace: n}\nspec: {policyTypes: [Ingress, Egress]}")))
		m := NewModel([]any{pods("a"), pods("b"), closed, kept}, &facts.Env{Complete: true})
		tables := map[[2]int]PortSet{}
		m.Bicliques(func(from, to []int, ports PortSet) {
			for _, f := range from {
				for _, t := range to {
					tables[[2]int{f, t}] = tables[[2]int{f, t}].Union(ports)
				}
			}
		})
		for _, from := range m.Classes() {
			for _, to := range m.Classes() {
				sure := m.Ports(Peer{Class: from}, Peer{Class: to})
				if !sure.Equal(tables[[2]int{from.ID, to.ID}]) {
					t.Fatalf("%s to %s: %v, by bicliques %v", from, to, sure, tables[[2]int{from.ID, to.ID}])
				}
				v := m.Connects(Peer{Class: from}, Peer{Class: to}, Port{Protocol: TCP, Number: 80})
				if v.Allowed && v.Unknown != "" || v.Allowed != sure.Contains(Port{Protocol: TCP, Number: 80}) {
					t.Fatalf("%s to %s: %+v, ports %v", from, to, v, sure)
				}
			}
			m.Connects(Peer{}, Peer{Class: from}, Port{Protocol: UDP, Number: 53})
		}
		m.Exposures()
		Whole.Derive([]any{pods("a"), closed, kept}, &facts.Env{Complete: true}, func(*object.Object) {})
	})
}
