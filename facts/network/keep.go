// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

const (
	networkingGroup = "networking.k8s.io"
	policyGroup     = "policy.networking.k8s.io"
	gatewayGroup    = "gateway.networking.k8s.io"
)

// keepers read what the model needs of the kinds that it knows, beside what
// holds pods and the kinds of policies that are not modelled.
var keepers = map[object.GroupKind]func(*object.Object) any{
	{Kind: "Namespace"}: keepNamespace,
	{Kind: "Node"}:      keepNode,
	{Kind: "Service"}:   keepService,

	{Group: networkingGroup, Kind: "NetworkPolicy"}:          func(o *object.Object) any { return readNetworkPolicy(o) },
	{Group: policyGroup, Kind: "ClusterNetworkPolicy"}:       func(o *object.Object) any { return readClusterPolicy(o) },
	{Group: policyGroup, Kind: "AdminNetworkPolicy"}:         func(o *object.Object) any { return readClusterPolicy(o) },
	{Group: policyGroup, Kind: "BaselineAdminNetworkPolicy"}: func(o *object.Object) any { return readClusterPolicy(o) },

	{Group: networkingGroup, Kind: "Ingress"}:     keepIngress,
	{Group: "extensions", Kind: "Ingress"}:        keepIngress,
	{Group: gatewayGroup, Kind: "Gateway"}:        keepGateway,
	{Group: gatewayGroup, Kind: "HTTPRoute"}:      keepRoute,
	{Group: gatewayGroup, Kind: "GRPCRoute"}:      keepRoute,
	{Group: gatewayGroup, Kind: "TLSRoute"}:       keepRoute,
	{Group: gatewayGroup, Kind: "TCPRoute"}:       keepRoute,
	{Group: gatewayGroup, Kind: "UDPRoute"}:       keepRoute,
	{Group: gatewayGroup, Kind: "ReferenceGrant"}: keepGrant,
}

// sources are all kinds of objects that the model is made of.
func sources() facts.Sources {
	out := facts.Sources{Pods: true}
	for gk := range keepers {
		out.Kinds = append(out.Kinds, gk)
	}
	for gk := range foreignKinds {
		out.Kinds = append(out.Kinds, gk)
	}
	return out
}

// Keep returns what the model needs of an object, or nil. It may be shared among
// models.
func Keep(o *object.Object) any { return shared(o) }

// shared lets models hold what they keep of an object once.
var shared = facts.Share(keep)

func keep(o *object.Object) any {
	gk := o.GroupKind()
	if keep := keepers[gk]; keep != nil {
		return keep(o)
	}
	if kind, ok := foreignKinds[gk]; ok {
		return keepForeign(o, kind)
	}
	path, ok := object.PodPath(gk)
	if !ok || gk.Kind == "PodTemplate" {
		return nil // a PodTemplate runs nothing
	}
	return keepWorkload(o, path)
}

func keepNamespace(o *object.Object) any {
	return &namespace{o: facts.Slim(o), labels: readLabels(o.Root.At("metadata", "labels"))}
}

func keepNode(o *object.Object) any {
	n := &node{o: facts.Slim(o), labels: readLabels(o.Root.At("metadata", "labels"))}
	for _, a := range facts.Items(o.Root.At("status", "addresses")) {
		if ip, err := netip.ParseAddr(a.Get("address").Str()); err == nil {
			n.addresses = append(n.addresses, ip.Unmap())
		}
	}
	return n
}

func (w *workload) of() *object.Object { return w.o }
func (f *foreign) of() *object.Object  { return f.o }
func (n *node) of() *object.Object     { return n.o }
func (s *service) of() *object.Object  { return s.o }
func (e *entrance) of() *object.Object { return e.o }
func (g *grant) of() *object.Object    { return g.o }
