// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/object"
)

// The labels of what is generated.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "sconce"
	// namespaceName is the label that the API server gives each namespace.
	namespaceName = "kubernetes.io/metadata.name"
)

// policy is a policy that was made for a workload.
type policy struct {
	w   *workload
	doc *manifest.Document
}

// build makes the policies: one for each workload, and one for each namespace
// that isolates all of its pods.
func (g *generator) build() {
	in, out := map[*workload][]*edge{}, map[*workload][]*edge{}
	for _, e := range g.edges.all() {
		if e.to.w != nil {
			in[e.to.w] = append(in[e.to.w], e)
		}
		if e.from.w != nil {
			out[e.from.w] = append(out[e.from.w], e)
		}
	}
	byNamespace := map[string][]*workload{}
	for _, w := range g.old.workloads {
		if w.managed {
			byNamespace[w.namespace] = append(byNamespace[w.namespace], w)
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		g.isolate(namespace)
		for _, w := range byNamespace[namespace] {
			g.policyFor(w, in[w], out[w])
		}
	}
}

// isolate makes the policy that isolates all pods of a namespace, those to come
// included.
func (g *generator) isolate(namespace string) {
	for _, w := range g.old.byNamespace[namespace] {
		if !w.managed && !w.host {
			g.note("the namespace %s gets no policy for all of its pods: %s would be cut off, and no policy can select it alone", namespace, w)
			return
		}
	}
	d := &manifest.Document{
		Object: g.object(namespace, "sconce-default-deny", metav1.LabelSelector{}, nil, nil),
		Head:   []string{"Isolates all pods of the namespace, those to come included: other policies say what is allowed."},
	}
	g.result.Documents = append(g.result.Documents, d)
	g.policies = append(g.policies, &policy{doc: d})
}

func (g *generator) object(namespace, name string, selector metav1.LabelSelector, in []networkingv1.NetworkPolicyIngressRule, out []networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: g.free(namespace, name), Namespace: namespace, Labels: map[string]string{labelManagedBy: managedBy}},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: selector, Ingress: in, Egress: out,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
}

// free returns a name that no policy has which somebody else made.
func (g *generator) free(namespace, name string) string {
	if len(name) > 240 {
		name = name[:240]
	}
	if g.taken == nil {
		g.taken = map[[2]string]bool{}
		for _, d := range g.old.declarations {
			if d.policy && !d.ours {
				g.taken[[2]string{d.ref.Namespace, d.ref.Name}] = true
			}
		}
	}
	out := name
	for i := 2; g.taken[[2]string{namespace, out}]; i++ {
		out = fmt.Sprintf("%s-%d", name, i)
	}
	g.taken[[2]string{namespace, out}] = true
	return out
}

// rule is a rule of either direction: what may connect on which ports.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer // none: anything
	ports []networkingv1.NetworkPolicyPort
	notes []string
}

func (g *generator) policyFor(w *workload, in, out []*edge) {
	_, name, _ := strings.Cut(w.name, "/")
	d := &manifest.Document{Head: []string{fmt.Sprintf("What %s may receive and send.", w)}}
	object := g.object(w.namespace, "sconce-"+strings.ToLower(name), metav1.LabelSelector{MatchLabels: w.selector}, nil, nil)
	d.Object = object
	label := strings.TrimPrefix(w.namespace+"/"+object.Name, "/")
	for i, r := range g.rules(w, uncovered(in), false, label) {
		object.Spec.Ingress = append(object.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: r.peers, Ports: r.ports})
		note(d, fmt.Sprintf("spec.ingress.%d", i), r.notes)
	}
	for i, r := range g.rules(w, out, true, label) {
		object.Spec.Egress = append(object.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: r.peers, Ports: r.ports})
		note(d, fmt.Sprintf("spec.egress.%d", i), r.notes)
	}
	g.result.Documents = append(g.result.Documents, d)
	g.policies = append(g.policies, &policy{w: w, doc: d})
}

// uncovered leaves out workloads that are only guessed to connect, where their
// namespace as a whole may.
func uncovered(in []*edge) []*edge {
	return slices.DeleteFunc(slices.Clone(in), func(e *edge) bool {
		return e.from.w != nil && len(e.why) == 1 && e.has(Guessed) && slices.ContainsFunc(in, func(o *edge) bool {
			return o.from.namespace != "" && o.from.namespace == e.from.w.namespace && o.port == e.port
		})
	})
}

// maxNotes is how many lines are said of a rule.
const maxNotes = 12

func note(d *manifest.Document, path string, notes []string) {
	for i, n := range notes {
		if i == maxNotes {
			d.Note(path, "and %d more", len(notes)-i)
			return
		}
		d.Note(path, "%s", n)
	}
}

// rules returns the rules of one direction, with what may use the same ports
// together.
func (g *generator) rules(w *workload, all []*edge, egress bool, label string) []rule {
	type side struct {
		other end
		ports []network.Port
		notes []string
	}
	var sides []*side
	at := map[string]*side{}
	for _, e := range all {
		other := e.from
		if egress {
			other = e.to
		}
		s := at[other.String()]
		if s == nil {
			s = &side{other: other}
			at[other.String()] = s
			sides = append(sides, s)
		}
		s.ports = append(s.ports, e.port)
		s.notes = append(s.notes, edgeNotes(e, other)...)
		if reason := wildness(e, other); reason != "" {
			g.result.Wildcards = append(g.result.Wildcards, Wildcard{Policy: label, Direction: direction(egress), What: fmt.Sprintf("%s, %s", other, e.port), Reason: reason})
		}
	}
	var out []rule
	same := map[string]int{}
	for _, s := range sides {
		peers, open := g.peersOf(w.namespace, s.other)
		if len(peers) == 0 && !open {
			continue
		}
		ports := portsOf(s.ports)
		key := fmt.Sprint(open, portText(ports))
		i, ok := same[key]
		if !ok {
			i = len(out)
			same[key] = i
			out = append(out, rule{ports: ports})
		}
		out[i].peers = append(out[i].peers, peers...)
		out[i].notes = append(out[i].notes, s.notes...)
	}
	return out
}

func direction(egress bool) string {
	if egress {
		return "egress"
	}
	return "ingress"
}

func edgeNotes(e *edge, other end) []string {
	var out []string
	for _, why := range e.why {
		line := fmt.Sprintf("%s, %s: ", other, e.port)
		if why.Origin == Suggested {
			line += "suggested: "
		}
		out = append(out, line+why.Words)
	}
	if e.wild != "" && !slices.ContainsFunc(e.why, func(w Why) bool { return strings.Contains(w.Words, e.wild) }) {
		out = append(out, "  wider than what is known: "+e.wild)
	}
	return out
}

// wildness says why an end is wider than what is known; empty where it is not.
func wildness(e *edge, other end) string {
	switch {
	case e.wild != "" && (other.w == nil || len(other.w.selector) == 0):
		return e.wild
	case other.w == nil:
		return ""
	case other.w.host:
		return fmt.Sprintf("%s is on the network of its nodes, whose addresses are not known", other.w)
	case len(other.w.selector) == 0:
		return fmt.Sprintf("%s has no label that stays: all pods of %s are meant", other.w, cmp.Or(other.w.namespace, "its namespace"))
	case len(other.w.others) > 0:
		return fmt.Sprintf("the labels of %s are also those of %s", other.w, strings.Join(other.w.others, ", "))
	}
	return ""
}

// peersOf returns what a rule of a policy in a namespace names for an end; open
// says that it names nothing, so that anything is meant.
func (g *generator) peersOf(namespace string, e end) (peers []networkingv1.NetworkPolicyPeer, open bool) {
	switch {
	case e.anything:
		return nil, true
	case e.block.IsValid():
		return []networkingv1.NetworkPolicyPeer{block(e)}, false
	case e.w != nil && e.w.host:
		return []networkingv1.NetworkPolicyPeer{block(end{block: allIPv4}), block(end{block: allIPv6})}, false
	}
	p := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	of := e.namespace
	if e.w != nil {
		of = e.w.namespace
		p.PodSelector.MatchLabels = e.w.selector
	}
	switch {
	case of == namespace:
	case of == "":
		return nil, false // such edges were left out
	default:
		p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{namespaceName: of}}
	}
	return []networkingv1.NetworkPolicyPeer{p}, false
}

func block(e end) networkingv1.NetworkPolicyPeer {
	b := &networkingv1.IPBlock{CIDR: e.block.String()}
	for _, x := range e.except {
		b.Except = append(b.Except, x.String())
	}
	return networkingv1.NetworkPolicyPeer{IPBlock: b}
}

func portsOf(list []network.Port) []networkingv1.NetworkPolicyPort {
	slices.SortFunc(list, func(a, b network.Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
	})
	var out []networkingv1.NetworkPolicyPort
	for _, p := range slices.Compact(list) {
		protocol, number := corev1.Protocol(p.Protocol), intstr.FromInt32(p.Number)
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &number})
	}
	return out
}

func portText(ports []networkingv1.NetworkPolicyPort) string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%s/%d", *p.Protocol, p.Port.IntVal))
	}
	return strings.Join(out, ",")
}

// asObject returns a document as an object that was read; where it names no
// namespace, from where the others came that name none.
func asObject(d *manifest.Document, origin *object.Origin) (*object.Object, error) {
	tree, err := d.Tree()
	if err != nil {
		return nil, err
	}
	if origin == nil || NamespaceOf(d) != "" {
		origin = &object.Origin{Source: "generated/policies"}
	}
	return object.New(object.FromAny(tree), origin), nil
}

// NamespaceOf returns the namespace of a policy that was made.
func NamespaceOf(d *manifest.Document) string {
	return d.Object.(*networkingv1.NetworkPolicy).Namespace
}
