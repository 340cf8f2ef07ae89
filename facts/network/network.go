// SPDX-License-Identifier: Apache-2.0

// Package network is the exact model of which pods may talk to which, and of the
// ways in from outside; and the facts that are derived from it.
//
// A Model answers by classes of pods, which nothing in it tells apart, and says
// which policy, and which of its rules, decides. It knows NetworkPolicy,
// ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) and, before it,
// AdminNetworkPolicy and BaselineAdminNetworkPolicy; Services, Ingresses and the
// routes of the Gateway API as ways in. What it cannot know, it says: pods that
// are selected by policies of other kinds (Cilium, Calico, Istio and others) are
// unknown, and so is what is chosen by an address or a label that is not known.
//
// Where the documentation of the API leaves it to the implementation, the model
// does as most of them do: pods on the network of their node are selected by no
// policy, and by no selector of pods in a rule; addresses in a rule are those of
// pods too, where these are known; of policies with the same priority any may
// decide. What no policy can deny is not part of the model: a pod reaches
// itself, and a node the pods that run on it.
//
// About everything that holds a pod:
//
//	kind: Reach
//	facts:
//	  hostNetwork: false
//	  ingress:
//	    restricted: true       # policies deny something
//	    fromOutside: false     # some address outside the cluster may connect, on some port
//	    fromAnyNamespace: true # pods of any namespace may, whatever their labels, on some port
//	    exposures:             # ways in from outside
//	    - way: Ingress         # LoadBalancer, NodePort, ExternalIP, Ingress, Route, HostPort, HostNetwork
//	      via: [Ingress shop/web, Service shop/web]
//	      host: shop.example.com # empty: any
//	      protocol: TCP
//	      port: 8080           # of the pods; 0: any that they open
//	      outside: 443         # where it is open to the outside; 0: not known
//	      sources: []          # to whom a load balancer is open; empty: to all
//	      internal: false      # a load balancer is asked to stay inside the provider's networks
//	      allowed: true        # policies let it through
//	  egress:
//	    restricted: false
//	    toInternet: true       # some address of the internet, on some port
//	    toMetadata: true       # 169.254.169.254, TCP 80
//	    toAnyNamespace: true   # pods of any namespace, whatever their labels, on some port
//
// About every NetworkPolicy:
//
//	kind: PolicyEffect
//	facts:
//	  selects: 3 # objects that hold pods
//	  isolates: {ingress: true, egress: false}
//	  opensToAll: {ingress: false, egress: false} # a rule lets everything through
//	  redundant: false  # another policy does all that it does, for all that it selects
//	  overridden: false # policies of the Admin tier decide about all pods, and it is not asked
//
// About every policy above namespaces (Above):
//
//	kind: ClusterPolicyEffect
//	facts:
//	  tier: Admin
//	  selects: 120 # objects that hold pods
//	  everyPod: true # it is for all pods there may be
//	  samePriority: [] # policies of the tier with the same priority: which of them decides is not defined
//
// Where not all objects were read, there may be policies that allow or deny
// more, and more ways in: facts that these could change are unknown, and so is
// what stands at the end of the list of exposures.
package network

import (
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Whole derives the facts about what holds pods, and about NetworkPolicies.
var Whole = facts.Whole{
	Kinds:  []string{"Reach", "PolicyEffect"},
	From:   facts.From(sources()),
	Keep:   Keep,
	Derive: facts.AllOf(derive),
	Parts:  &facts.Parts{Of: partOf, Tell: tell, Derive: derive},
}

// Above derives the facts about policies above namespaces.
var Above = facts.Whole{
	Kinds: []string{"ClusterPolicyEffect"},
	From:  facts.From(facts.Sources{Pods: true, Kinds: aboveKinds}),
	Keep:  keepAbove,
	Derive: func(kept []any, env *facts.Env, yield func(*object.Object)) {
		reportAbove(NewModel(kept, env), env, yield)
	},
	Live: func() facts.Live { return &live{m: NewModel(nil, &facts.Env{})} },
}

var aboveKinds = []object.GroupKind{
	{Kind: "Namespace"}, {Group: policyGroup, Kind: "ClusterNetworkPolicy"},
	{Group: policyGroup, Kind: "AdminNetworkPolicy"}, {Group: policyGroup, Kind: "BaselineAdminNetworkPolicy"},
}

// keepAbove keeps what policies above namespaces select, and these.
func keepAbove(o *object.Object) any {
	switch k := Keep(o).(type) {
	case *workload, *namespace:
		return k
	case *policy:
		if k.tier != namespaceTier {
			return k
		}
	}
	return nil
}

func reportAbove(m *Model, env *facts.Env, yield func(*object.Object)) {
	for _, p := range m.above {
		yield(clusterEffect(m, p, env))
	}
}

// live keeps the facts about policies above namespaces up to date. There are few
// of these.
type live struct {
	m    *Model
	told map[object.Ref]bool // about these there were facts
}

func (l *live) Set(ref object.Ref, kept any) { l.m.Set(ref, kept) }

func (l *live) Settle(env *facts.Env, changed func(object.Ref, []*object.Object)) {
	gone := l.told
	l.told = map[object.Ref]bool{}
	for _, p := range l.m.above {
		l.told[p.o.Ref] = true
		delete(gone, p.o.Ref)
		changed(p.o.Ref, []*object.Object{clusterEffect(l.m, p, env)})
	}
	for _, ref := range slices.SortedFunc(maps.Keys(gone), compareRefs) {
		changed(ref, nil)
	}
}

// derive yields the facts, in the order of the sources.
func derive(p *facts.Part, env *facts.Env, yield func(*object.Object)) {
	if p.Name == "" && !hasSubjects(p.Kept) {
		return
	}
	r := newReporter(withOthers(p), env)
	for _, k := range p.Kept {
		switch k := k.(type) {
		case *workload:
			yield(r.reach(k))
		case *policy:
			if k.tier == namespaceTier {
				yield(r.effect(k))
			}
		}
	}
}

// hasSubjects says whether there is something that facts are about.
func hasSubjects(kept []any) bool {
	for _, k := range kept {
		switch k := k.(type) {
		case *workload:
			return true
		case *policy:
			if k.tier == namespaceTier {
				return true
			}
		}
	}
	return false
}

// partOf is the part that an object belongs to: that of its namespace, to which
// the Namespace belongs too.
func partOf(ref object.Ref) string {
	if ref.GroupKind() == (object.GroupKind{Kind: "Namespace"}) {
		return ref.Name
	}
	return ref.Namespace
}

// The keys under which parts tell something.
const (
	keyAbove = "policies above namespaces"
	keyNodes = "nodes"
	keyDoors = "what leads traffic in"
)

func keyRoutes(namespace string) string        { return "routes to " + namespace }
func keyGateway(namespace, name string) string { return "Gateway " + namespace + "/" + name }

// tell returns what the objects of a part tell others. What leads traffic in is
// told with the policies that are for it.
func tell(_ string, kept []any) []facts.Told {
	var out []facts.Told
	add := func(key string, value any) { out = append(out, facts.Told{Key: key, Value: value}) }
	var around []any // of pods: what is needed to know what they may do
	doors := map[string][]any{}
	for _, k := range kept {
		switch k := k.(type) {
		case *policy:
			if k.tier != namespaceTier {
				add(keyAbove, k)
				continue
			}
			around = append(around, k)
		case *foreign:
			around = append(around, k)
			if k.above {
				add(keyAbove, k)
			}
		case *node:
			add(keyNodes, k)
		case *namespace:
			around = append(around, k)
		case *workload:
			switch k.controls {
			case "ingress":
				doors[keyDoors] = append(doors[keyDoors], k)
			case "gateway":
				i, _ := k.labels.find(gatewayLabel)
				key := keyGateway(k.o.Namespace, k.labels.pairs[i].value)
				doors[key] = append(doors[key], k)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(doors)) {
		for _, k := range append(doors[key], around...) {
			add(key, k)
		}
	}
	return append(out, tellRoutes(kept)...)
}

// tellRoutes tells Gateways, and to other namespaces what leads to these: routes,
// and Ingresses by Services that stand for another name.
func tellRoutes(kept []any) []facts.Told {
	var out []facts.Told
	var around []any
	to := map[string][]any{}
	aliases := map[string]bool{}
	for _, k := range kept {
		switch k := k.(type) {
		case *namespace:
			around = append(around, k)
		case *service:
			if parts := strings.Split(k.external, "."); k.external != "" && len(parts) > 2 {
				around = append(around, k)
				aliases[parts[1]] = true
			}
		}
	}
	for _, k := range kept {
		e, ok := k.(*entrance)
		if !ok {
			continue
		}
		if e.o.Kind == "Gateway" {
			out = append(out, facts.Told{Key: keyGateway(e.o.Namespace, e.o.Name), Value: e})
		}
		for namespace := range e.leadsTo(aliases) {
			to[namespace] = append(to[namespace], e)
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(to)) {
		for _, k := range append(to[namespace], around...) {
			out = append(out, facts.Told{Key: keyRoutes(namespace), Value: k})
		}
	}
	return out
}

// leadsTo returns the other namespaces that an entrance leads to, or may by a
// Service that stands for a name there.
func (e *entrance) leadsTo(aliases map[string]bool) map[string]bool {
	out := map[string]bool{}
	for _, b := range e.backends {
		out[b.namespace] = true
		maps.Copy(out, aliases)
	}
	delete(out, e.o.Namespace)
	return out
}

// withOthers returns what is known of a part, with what others tell it.
func withOthers(p *facts.Part) []any {
	out := slices.Clone(p.Kept)
	seen := map[any]bool{}
	add := func(told []any) (added []any) {
		for _, k := range told {
			if !seen[k] {
				seen[k] = true
				added = append(added, k)
			}
		}
		out = append(out, added...)
		return added
	}
	add(p.Ask(keyAbove))
	add(p.Ask(keyNodes))
	asked := false
	for _, k := range append(add(p.Ask(keyRoutes(p.Name))), p.Kept...) {
		e, ok := k.(*entrance)
		if !ok || e.o.Kind == "Gateway" {
			continue
		}
		if !asked {
			add(p.Ask(keyDoors))
			asked = true
		}
		for _, parent := range e.parents {
			add(p.Ask(keyGateway(parent.namespace, parent.name)))
		}
	}
	return out
}
