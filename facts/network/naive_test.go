// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// naive is a second opinion, written from the documentation of the APIs: pod by
// pod, rule by rule, with nothing in it that is not known.
type naive struct {
	namespaces map[string]labels.Set
	pods       []naivePod
	policies   []networkingv1.NetworkPolicy
	above      []naiveAbove
}

type naivePod struct {
	ref       object.Ref
	namespace string
	labels    labels.Set
	address   netip.Addr
	host      bool
	ports     []network.Port
}

type naivePods struct {
	NamespaceSelector *metav1.LabelSelector
	PodSelector       *metav1.LabelSelector
}

type naivePeer struct {
	Namespaces *metav1.LabelSelector
	Pods       *naivePods
	Networks   []string
}

type naivePort struct {
	DestinationPort *struct {
		Number int32
		Range  *struct{ Start, End int32 }
	}
}

type naiveRule struct {
	Action    string
	From, To  []naivePeer
	Protocols []struct {
		TCP, UDP, SCTP       *naivePort
		DestinationNamedPort string
	}
}

type naiveAbove struct {
	Tier            string
	Priority        int
	Subject         naivePeer
	Ingress, Egress []naiveRule
}

func decode(t *rapid.T, from, into any) {
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newNaive(t *rapid.T, objects []*object.Object) *naive {
	n := &naive{namespaces: map[string]labels.Set{}}
	for _, o := range objects {
		root := o.Root.Any()
		switch o.Kind {
		case "Namespace":
			set := labels.Set{}
			decode(t, o.Root.At("metadata", "labels").Any(), &set)
			set["kubernetes.io/metadata.name"] = o.Name
			n.namespaces[o.Name] = set
		case "Pod":
			p := naivePod{ref: o.Ref, namespace: o.Namespace, host: o.Root.At("spec", "hostNetwork").Bool()}
			decode(t, o.Root.At("metadata", "labels").Any(), &p.labels)
			p.address = netip.MustParseAddr(o.Root.At("status", "podIP").Str())
			for _, port := range o.Root.At("spec", "containers").Items[0].Get("ports").Items {
				p.ports = append(p.ports, network.Port{Protocol: port.Get("protocol").Str(), Number: int32(port.Get("containerPort").Int()), Name: port.Get("name").Str()})
			}
			n.pods = append(n.pods, p)
		case "NetworkPolicy":
			var p networkingv1.NetworkPolicy
			decode(t, root, &p)
			n.policies = append(n.policies, p)
		case "ClusterNetworkPolicy":
			var p struct{ Spec naiveAbove }
			decode(t, root, &p)
			n.above = append(n.above, p.Spec)
		}
	}
	slices.SortFunc(n.above, func(a, b naiveAbove) int { return a.Priority - b.Priority })
	return n
}

func chosen(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(set)
}

// allowed asks the policies for a pod about a connection with another one.
func (n *naive) allowed(egress bool, of, peer, to naivePod, port network.Port) bool {
	if of.host {
		return true
	}
	if verdict := n.tier("Admin", egress, of, peer, to, port); verdict != "" {
		return verdict == "Accept"
	}
	isolated := false
	for _, p := range n.policies {
		if p.Namespace != of.namespace || !chosen(&p.Spec.PodSelector, of.labels) || !applies(p, egress) {
			continue
		}
		isolated = true
		if n.ruled(p, egress, peer, to, port) {
			return true
		}
	}
	if isolated {
		return false
	}
	return n.tier("Baseline", egress, of, peer, to, port) != "Deny"
}

func applies(p networkingv1.NetworkPolicy, egress bool) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return !egress || len(p.Spec.Egress) > 0
	}
	want := networkingv1.PolicyTypeIngress
	if egress {
		want = networkingv1.PolicyTypeEgress
	}
	return slices.Contains(p.Spec.PolicyTypes, want)
}

func (n *naive) ruled(p networkingv1.NetworkPolicy, egress bool, peer, to naivePod, port network.Port) bool {
	if egress {
		return slices.ContainsFunc(p.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
			return n.among(p, r.To, peer) && portAmong(r.Ports, to, port)
		})
	}
	return slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
		return n.among(p, r.From, peer) && portAmong(r.Ports, to, port)
	})
}

func (n *naive) among(p networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, pod naivePod) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(x networkingv1.NetworkPolicyPeer) bool {
		if b := x.IPBlock; b != nil {
			return netip.MustParsePrefix(b.CIDR).Contains(pod.address) &&
				!slices.ContainsFunc(b.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(pod.address) })
		}
		in := pod.namespace == p.Namespace
		if x.NamespaceSelector != nil {
			in = chosen(x.NamespaceSelector, n.namespaces[pod.namespace])
		}
		return !pod.host && in && (x.PodSelector == nil || chosen(x.PodSelector, pod.labels))
	})
}

func portAmong(ports []networkingv1.NetworkPolicyPort, to naivePod, port network.Port) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(x networkingv1.NetworkPolicyPort) bool {
		protocol := "TCP"
		if x.Protocol != nil {
			protocol = string(*x.Protocol)
		}
		switch {
		case protocol != port.Protocol:
			return false
		case x.Port == nil:
			return true
		case x.Port.StrVal != "":
			return named(to, x.Port.StrVal, port)
		case x.EndPort != nil:
			return x.Port.IntVal <= port.Number && port.Number <= *x.EndPort
		}
		return x.Port.IntVal == port.Number
	})
}

func named(to naivePod, name string, port network.Port) bool {
	return slices.Contains(to.ports, network.Port{Protocol: port.Protocol, Number: port.Number, Name: name})
}

// tier returns what the policies of a tier above namespaces decide: "" where
// none does, or where one passes it on.
func (n *naive) tier(tier string, egress bool, of, peer, to naivePod, port network.Port) string {
	for _, p := range n.above {
		if p.Tier != tier || !n.is(p.Subject, of) {
			continue
		}
		rules := p.Ingress
		if egress {
			rules = p.Egress
		}
		for _, r := range rules {
			if !slices.ContainsFunc(append(r.From, r.To...), func(x naivePeer) bool { return n.is(x, peer) }) || !r.about(to, port) {
				continue
			}
			if r.Action == "Pass" {
				return ""
			}
			return r.Action
		}
	}
	return ""
}

func (n *naive) is(x naivePeer, pod naivePod) bool {
	switch {
	case x.Networks != nil:
		return slices.ContainsFunc(x.Networks, func(s string) bool { return netip.MustParsePrefix(s).Contains(pod.address) })
	case x.Namespaces != nil:
		return !pod.host && chosen(x.Namespaces, n.namespaces[pod.namespace])
	}
	return !pod.host && chosen(x.Pods.NamespaceSelector, n.namespaces[pod.namespace]) && chosen(x.Pods.PodSelector, pod.labels)
}

func (r naiveRule) about(to naivePod, port network.Port) bool {
	if len(r.Protocols) == 0 {
		return true
	}
	for _, p := range r.Protocols {
		if p.DestinationNamedPort != "" && named(to, p.DestinationNamedPort, port) {
			return true
		}
		match := map[string]*naivePort{"TCP": p.TCP, "UDP": p.UDP, "SCTP": p.SCTP}[port.Protocol]
		switch {
		case match == nil:
		case match.DestinationPort == nil, match.DestinationPort.Number == port.Number,
			match.DestinationPort.Range != nil && match.DestinationPort.Range.Start <= port.Number && port.Number <= match.DestinationPort.Range.End:
			return true
		}
	}
	return false
}

// TestNaive holds the model against the second opinion, for every two pods of a
// drawn cluster. Only of what a node may always reach the model says less.
func TestNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, exact: true}
		objects := w.objects()
		n := newNaive(t, objects)
		m := network.NewModel(keepAll(objects), complete)
		of := map[object.Ref]network.Peer{}
		for _, c := range m.Classes() {
			for _, ref := range c.Refs {
				of[ref] = network.Peer{Class: c}
			}
		}
		for _, from := range n.pods {
			for _, to := range n.pods {
				for _, port := range askedPorts {
					out, in := n.allowed(true, from, to, to, port), n.allowed(false, to, from, to, port)
					v := m.Connects(of[from.ref], of[to.ref], port)
					hold := func(end string, d network.Decision, want, node bool) {
						if d.Allowed != want || d.Unknown != "" && !(node && !want) {
							t.Fatalf("%s to %s, %s, %s: %+v; naively %t", from.ref, to.ref, port, end, d, want)
						}
					}
					hold("egress", v.Egress, out, to.host)
					hold("ingress", v.Ingress, in, from.host)
				}
			}
		}
	})
}
