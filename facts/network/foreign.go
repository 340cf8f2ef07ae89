// SPDX-License-Identifier: Apache-2.0

package network

import (
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// foreign is what is kept of a policy of a kind that is not modelled. Of the
// pods that it selects nothing can be said for sure.
type foreign struct {
	o     *object.Object
	above bool // for pods of any namespace
	kind  foreignKind
	// namespaces and pods choose whom it is for, as far as that could be read.
	namespaces selector
	pods       selector
}

// foreignKind is what is known of a kind of policy that is not modelled.
type foreignKind struct {
	// above says that it is for pods of any namespace.
	above bool
	// restricts says that it can only take away what others allow.
	restricts bool
	// directions are those that it is for.
	directions [2]bool
	// subject is where it says which pods it is for; empty: somewhere else.
	subject []string
	// expression says that the subject is not a LabelSelector.
	expression bool
}

var (
	both    = [2]bool{true, true}
	inward  = [2]bool{ingress: true}
	outward = [2]bool{egress: true}
)

// foreignKinds are the kinds of policies that decide about connections and are
// not modelled.
var foreignKinds = map[object.GroupKind]foreignKind{
	{Group: "cilium.io", Kind: "CiliumNetworkPolicy"}:               {directions: both, subject: []string{"spec", "endpointSelector"}},
	{Group: "cilium.io", Kind: "CiliumClusterwideNetworkPolicy"}:    {directions: both, subject: []string{"spec", "endpointSelector"}, above: true},
	{Group: "projectcalico.org", Kind: "NetworkPolicy"}:             {directions: both, subject: []string{"spec", "selector"}, expression: true},
	{Group: "projectcalico.org", Kind: "GlobalNetworkPolicy"}:       {directions: both, subject: []string{"spec", "selector"}, expression: true, above: true},
	{Group: "crd.projectcalico.org", Kind: "NetworkPolicy"}:         {directions: both, subject: []string{"spec", "selector"}, expression: true},
	{Group: "crd.projectcalico.org", Kind: "GlobalNetworkPolicy"}:   {directions: both, subject: []string{"spec", "selector"}, expression: true, above: true},
	{Group: "crd.antrea.io", Kind: "NetworkPolicy"}:                 {directions: both},
	{Group: "crd.antrea.io", Kind: "ClusterNetworkPolicy"}:          {directions: both, above: true},
	{Group: "security.istio.io", Kind: "AuthorizationPolicy"}:       {directions: inward, restricts: true, subject: []string{"spec", "selector"}},
	{Group: "security.istio.io", Kind: "PeerAuthentication"}:        {directions: inward, restricts: true, subject: []string{"spec", "selector"}},
	{Group: "networking.istio.io", Kind: "Sidecar"}:                 {directions: outward, restricts: true, subject: []string{"spec", "workloadSelector"}},
	{Group: "policy.linkerd.io", Kind: "Server"}:                    {directions: inward, restricts: true, subject: []string{"spec", "podSelector"}},
	{Group: "k8s.ovn.org", Kind: "EgressFirewall"}:                  {directions: outward, restricts: true},
	{Group: "k8s.ovn.org", Kind: "UserDefinedNetwork"}:              {directions: both, restricts: true},
	{Group: "k8s.ovn.org", Kind: "ClusterUserDefinedNetwork"}:       {directions: both, restricts: true, above: true},
	{Group: "networking.gke.io", Kind: "FQDNNetworkPolicy"}:         {directions: outward, subject: []string{"spec", "podSelector"}},
	{Group: "networking.k8s.aws", Kind: "ApplicationNetworkPolicy"}: {directions: both, subject: []string{"spec", "podSelector"}},
	{Group: "networking.k8s.aws", Kind: "ClusterNetworkPolicy"}:     {directions: both, above: true},
	{Group: "network.openshift.io", Kind: "EgressNetworkPolicy"}:    {directions: outward, restricts: true},
	{Group: "kuma.io", Kind: "MeshTrafficPermission"}:               {directions: inward, restricts: true, above: true},
}

// istioRoot is the namespace whose policies of Istio are for all.
const istioRoot = "istio-system"

// keepForeign reads whom a policy that is not modelled is for.
func keepForeign(o *object.Object, kind foreignKind) any {
	f := &foreign{o: facts.Slim(o), kind: kind, above: kind.above}
	switch {
	case o.Root.Get("specs") != nil, kind.subject == nil:
		f.pods.unread = kind.subject != nil
	case kind.expression:
		f.pods = readExpression(o.Root.At(kind.subject...))
		f.namespaces = readExpression(o.Root.At("spec", "namespaceSelector"))
	case o.Group() == "cilium.io":
		f.namespaces, f.pods = readEndpoints(o.Root.At(kind.subject...))
	case strings.HasSuffix(o.Group(), "istio.io"):
		f.pods = readEqual(firstOf(o.Root.At(append(kind.subject, "matchLabels")...), o.Root.At(append(kind.subject, "labels")...)))
		f.above = o.Namespace == istioRoot
		if o.Root.At("spec", "targetRefs") != nil || o.Root.At("spec", "targetRef") != nil {
			f.pods.unread = true
		}
	default:
		f.pods = readSelector(o.Root.At(kind.subject...))
	}
	return f
}

func firstOf(a, b *object.Node) *object.Node {
	if a != nil {
		return a
	}
	return b
}

// readExpression reads a selector in the language of Calico: those that choose
// all, and that others are unread.
func readExpression(n *object.Node) selector {
	if n == nil {
		return selector{}
	}
	text := strings.TrimSpace(n.Str())
	return selector{unread: n.Kind != object.String || text != "" && text != "all()"}
}

// What the keys of labels begin with in policies of Cilium.
const (
	ciliumNamespace       = "io.kubernetes.pod.namespace"
	ciliumNamespaceLabels = "io.cilium.k8s.namespace.labels."
)

// readEndpoints reads a selector of Cilium, which chooses by labels of pods and
// of their namespace at once.
func readEndpoints(n *object.Node) (namespaces, pods selector) {
	all := readSelector(n)
	namespaces.unread, pods.unread = all.unread, all.unread
	for _, r := range all.requirements {
		r.key = strings.TrimPrefix(strings.TrimPrefix(r.key, "k8s:"), "any:")
		switch label, ofNamespace := strings.CutPrefix(r.key, ciliumNamespaceLabels); {
		case r.key == ciliumNamespace:
			r.key = nameLabel
			namespaces.requirements = append(namespaces.requirements, r)
		case ofNamespace:
			r.key = label
			namespaces.requirements = append(namespaces.requirements, r)
		case strings.Contains(r.key, ":"):
			pods.unread = true // what Cilium itself calls a pod
		default:
			pods.requirements = append(pods.requirements, r)
		}
	}
	return namespaces, pods
}

// selects says whether the policy may be for pods, in the namespace given.
func (f *foreign) selects(c *class, d direction) bool {
	return f.kind.directions[d] && c.host != yes && f.pods.matches(c.labels) != no && f.namespaces.matches(c.space.labels) != no
}

// words name the policy.
func (f *foreign) words() string { return called(f.o.Ref) }

// called names an object in a sentence: NetworkPolicy shop/web.
func called(r object.Ref) string {
	name := r.Name
	if name == "" {
		name = "(no name)"
	}
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	return r.Kind + " " + name
}
