// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// said returns what a fact says, unknown values with their reason.
func said(n *object.Node) any {
	switch n.Kind {
	case object.Unknown:
		return "? " + n.Text
	case object.Map:
		out := js{}
		for _, f := range n.Fields {
			out[f.Key] = said(f.Value)
		}
		return out
	case object.List:
		out := []any{}
		for _, item := range n.Items {
			out = append(out, said(item))
		}
		return out
	}
	return n.Any()
}

// derived returns the facts about objects, as text, by what they are about.
func derived(of facts.Whole, objects []*object.Object, env *facts.Env) map[string]string {
	var kept []any
	for _, o := range objects {
		if k := of.Keep(o); k != nil {
			kept = append(kept, k)
		}
	}
	out := map[string]string{}
	of.Derive(kept, env, gather(out))
	return out
}

func gather(out map[string]string) func(*object.Object) {
	return func(o *object.Object) {
		text, err := json.Marshal(said(o.Root.Get("facts")))
		if err != nil {
			panic(err)
		}
		out[o.Kind+" of "+o.Subject().String()] = string(text)
	}
}

// inParts returns the same facts, derived a part at a time.
func inParts(of facts.Whole, objects []*object.Object, env *facts.Env) map[string]string {
	parts := map[string][]any{}
	for _, o := range objects {
		if k := of.Keep(o); k != nil {
			parts[of.Parts.Of(o.Ref)] = append(parts[of.Parts.Of(o.Ref)], k)
		}
	}
	names := slices.Sorted(maps.Keys(parts))
	out := map[string]string{}
	for _, name := range names {
		of.Parts.Derive(&facts.Part{Name: name, Kept: parts[name], Ask: func(key string) []any {
			var told []any
			for _, other := range names {
				for _, x := range of.Parts.Tell(other, parts[other]) {
					if other != name && x.Key == key {
						told = append(told, x.Value)
					}
				}
			}
			return told
		}}, env, gather(out))
	}
	return out
}

// TestParts holds facts that are derived from parts against those from all at
// once.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: true}
		seen := map[object.Ref]bool{}
		objects := slices.DeleteFunc(w.objects(), func(o *object.Object) bool {
			was := seen[o.Ref]
			seen[o.Ref] = true
			return was
		})
		whole, parts := derived(network.Whole, objects, complete), inParts(network.Whole, objects, complete)
		for _, key := range slices.Sorted(maps.Keys(whole)) {
			if whole[key] != parts[key] {
				t.Fatalf("%s:\n%s\nin parts:\n%s", key, whole[key], parts[key])
			}
		}
		if len(whole) != len(parts) {
			t.Fatalf("%d facts, in parts %d", len(whole), len(parts))
		}
	})
}

// TestLive holds the facts about policies above namespaces that are kept up to
// date against those that are derived at once.
func TestLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: true}
		objects := w.objects()
		live := network.Above.Live()
		got := map[string]string{}
		for _, o := range objects {
			if k := network.Above.Keep(o); k != nil {
				live.Set(o.Ref, k)
			}
			live.Settle(complete, func(_ object.Ref, all []*object.Object) {
				for _, fact := range all {
					gather(got)(fact)
				}
			})
		}
		seen := map[object.Ref]*object.Object{}
		for _, o := range objects {
			seen[o.Ref] = o
		}
		if want := derived(network.Above, slices.Collect(maps.Values(seen)), complete); !maps.Equal(got, want) {
			t.Fatalf("live: %v\nat once: %v", got, want)
		}
	})
}

// TestFacts holds what facts say of a few objects.
func TestFacts(t *testing.T) {
	policy := func(name, namespace string, spec js) js {
		return js{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": js{"name": name, "namespace": namespace}, "spec": spec}
	}
	block := func(cidr string, except ...any) []any {
		return []any{js{"ipBlock": js{"cidr": cidr, "except": except}}}
	}
	closed := js{"from": []any{js{"podSelector": js{}}}}
	for _, c := range []struct {
		name   string
		add    []js
		env    facts.Env
		of     string
		holds  []string
		absent []string
	}{
		{
			name: "open", of: "Reach of Pod blue/blue-0", env: *complete,
			holds: []string{
				`"ingress":{"exposures":[],"fromAnyNamespace":true,"fromOutside":true,"restricted":false}`,
				`"egress":{"restricted":false,"toAnyNamespace":true,"toInternet":true,"toMetadata":true}`,
			},
		},
		{
			name: "not all was read", of: "Reach of Pod blue/blue-0",
			add:    []js{policy("a", "blue", js{"policyTypes": []any{"Ingress"}})},
			holds:  []string{`"restricted":true`, `"toInternet":"? policies that select these pods may not be among what was read"`},
			absent: []string{`"fromOutside":false`, `"fromAnyNamespace":false`},
		},
		{
			name: "closed", of: "Reach of Pod blue/blue-0", env: *complete,
			add: []js{policy("a", "blue", js{"policyTypes": []any{"Ingress", "Egress"}, "ingress": []any{closed}, "egress": []any{js{"to": block("0.0.0.0/0", "169.254.169.254/32")}}})},
			holds: []string{
				`"fromAnyNamespace":false,"fromOutside":false,"restricted":true`,
				`"egress":{"restricted":true,"toAnyNamespace":"? policies for egress of these pods choose by what is not known","toInternet":true,"toMetadata":false}`,
			},
		},
		{
			name: "inner addresses are not the internet", of: "Reach of Pod blue/blue-0", env: *complete,
			add:   []js{policy("a", "blue", js{"policyTypes": []any{"Egress"}, "egress": []any{js{"to": block("10.0.0.0/8")}}})},
			holds: []string{`"toInternet":false,"toMetadata":false`},
		},
		{
			name: "a policy of all namespaces", of: "Reach of Pod blue/blue-0", env: *complete,
			add:   []js{policy("a", "blue", js{"policyTypes": []any{"Ingress"}, "ingress": []any{js{"from": []any{js{"namespaceSelector": js{}}}}}})},
			holds: []string{`"fromAnyNamespace":true,"fromOutside":false,"restricted":true`},
		},
		{
			name: "Cilium", of: "Reach of Pod blue/blue-0", env: *complete,
			add:   []js{{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": js{"name": "c", "namespace": "blue"}, "spec": js{"endpointSelector": js{}}}},
			holds: []string{`"restricted":"? CiliumNetworkPolicy blue/c may select these pods, and is of a kind that is not understood here"`},
		},
		{
			name: "on the network of the node", of: "Reach of Pod metal/metal-0", env: *complete,
			add:   []js{policy("a", "metal", js{})},
			holds: []string{`"hostNetwork":true`, `"way":"HostNetwork"`, `"fromOutside":true,"restricted":false`},
		},
		{
			name: "a policy", of: "PolicyEffect of NetworkPolicy.networking.k8s.io blue/a", env: *complete,
			add:   []js{policy("a", "blue", js{"podSelector": js{"matchLabels": js{"number": "0"}}, "ingress": []any{js{}}})},
			holds: []string{`{"isolates":{"egress":false,"ingress":true},"opensToAll":{"egress":false,"ingress":true},"overridden":false,"redundant":false,"selects":1}`},
		},
		{
			name: "redundant", of: "PolicyEffect of NetworkPolicy.networking.k8s.io blue/b", env: *complete,
			add: []js{
				policy("a", "blue", js{"ingress": []any{js{"from": []any{js{"podSelector": js{}}}, "ports": []any{js{"port": 80, "endPort": 90}}}}}),
				policy("b", "blue", js{"podSelector": js{"matchLabels": js{"number": "0"}}, "ingress": []any{js{"from": []any{js{"podSelector": js{}}}, "ports": []any{js{"port": 81}}}}}),
			},
			holds: []string{`"redundant":true`},
		},
		{
			name: "of two that are the same the first is not redundant", of: "PolicyEffect of NetworkPolicy.networking.k8s.io blue/a", env: *complete,
			add:   []js{policy("a", "blue", js{}), policy("b", "blue", js{})},
			holds: []string{`"redundant":false`},
		},
		{
			name: "overridden", of: "PolicyEffect of NetworkPolicy.networking.k8s.io blue/a", env: *complete,
			add: []js{policy("a", "blue", js{}), {
				"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": js{"name": "c"},
				"spec": js{"tier": "Admin", "priority": 1, "subject": js{"namespaces": js{}}, "ingress": []any{js{"action": "Deny", "from": []any{js{"namespaces": js{}}}}}},
			}},
			holds: []string{`"overridden":true`},
		},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			var objects []*object.Object
			for _, v := range append(house(), c.add...) {
				objects = append(objects, newObject(v))
			}
			got := derived(network.Whole, objects, &c.env)[c.of]
			for _, want := range c.holds {
				if !strings.Contains(got, want) {
					t.Errorf("%s is\n%s\nwhich lacks %s", c.of, got, want)
				}
			}
			for _, not := range c.absent {
				if strings.Contains(got, not) {
					t.Errorf("%s is\n%s\nwhich has %s", c.of, got, not)
				}
			}
		})
	}
}

// TestAboveFacts holds what the fact about a policy above namespaces says.
func TestAboveFacts(t *testing.T) {
	var objects []*object.Object
	for _, v := range house() {
		objects = append(objects, newObject(v))
	}
	for _, name := range []string{"a", "b"} {
		objects = append(objects, newObject(js{
			"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": js{"name": name},
			"spec": js{"tier": "Baseline", "priority": 1, "subject": js{"namespaces": js{}}},
		}))
	}
	got := derived(network.Above, objects, complete)["ClusterPolicyEffect of ClusterNetworkPolicy.policy.networking.k8s.io a"]
	want := `{"everyPod":true,"samePriority":["ClusterNetworkPolicy b"],"selects":8,"tier":"Baseline"}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
