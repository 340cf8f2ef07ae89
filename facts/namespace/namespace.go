// SPDX-License-Identifier: Apache-2.0

// Package namespace derives what the objects of a namespace say together:
// which policies isolate its pods, what bounds its resources, and whether
// Services, Ingresses and routes lead anywhere. It does not follow traffic from
// pod to pod.
//
// About every namespace that is declared, or that something runs in, at its
// Namespace object, else at the first of its workloads:
//
//	kind: Namespace
//	facts:
//	  name: shop      # empty where objects name none
//	  workloads: 3    # objects that hold pods
//	  ingress: {defaultDeny: true}
//	  egress: {defaultDeny: true, dns: true} # dns: names can be looked up all the same
//	  quota: true     # there is a ResourceQuota
//	  limits: true    # there is a LimitRange
//
// About everything that holds a pod:
//
//	kind: PodNetwork
//	facts:
//	  hostNetwork: false
//	  ingress: true  # a policy selects the pod for that direction
//	  egress: true
//	  ingressWebhook: false # a container checks Ingresses for the API server
//
// About every NetworkPolicy:
//
//	kind: PolicySelection
//	facts:
//	  selects: true  # it selects a workload, or all
//	  peers: [{direction: ingress, found: true}] # those that are chosen by the labels of pods
//
// About every Service with a selector:
//
//	kind: ServiceSelection
//	facts:
//	  selects: true
//	  ports: [{name: http, found: true}] # target ports that are named, where a workload is selected
//
// About every Ingress and every route of the Gateway API:
//
//	kind: Backends
//	facts:
//	  backends: [{namespace: shop, name: web, port: "80", found: true, portFound: true}] # Services
//	  hosts: [{host: shop.example.com, others: []}] # of Ingresses: those of other namespaces with the same host
//
// About the cluster, at the first Namespace, else at the first workload:
//
//	kind: Cluster
//	facts:
//	  admission: true # a policy engine that refuses something is set up
//
// About the cluster, at the first object that shows that its network has
// policies above namespaces:
//
//	kind: ClusterNetwork
//	facts:
//	  defaultDeny: true # a policy above namespaces denies all pods something by default
//
// What is not among the objects is absent where they are complete, and else
// unknown. Objects that name no namespace are in one of their own for each
// chart, overlay or folder, and may be in any that is named there. Whether those
// of two folders meet is not known.
package namespace

import (
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Whole derives the facts from all objects.
var Whole = facts.Whole{
	Kinds:  []string{"Namespace", "PodNetwork", "PolicySelection", "ServiceSelection", "Backends", "Cluster", "ClusterNetwork"},
	From:   from,
	Keep:   keep,
	Derive: facts.AllOf(derive),
	Parts:  &facts.Parts{Of: partOf, Tell: tell, Derive: derive},
}

// what says what an object is to this package.
type what uint8

const (
	other what = iota
	declaration
	networkPolicy
	ciliumPolicy
	ciliumClusterPolicy
	calicoPolicy
	calicoClusterPolicy
	adminPolicy
	baselinePolicy
	resourceDefinition
	quota
	limitRange
	service
	ingress
	route
	admissionPolicy
)

// kinds are what is looked at beside what holds pods, and what is kept of it.
var kinds = map[object.GroupKind]struct {
	what
	fields [][]string
}{
	{Kind: "Namespace"}: {declaration, nil},

	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                     {networkPolicy, spec},
	{Group: "cilium.io", Kind: "CiliumNetworkPolicy"}:                       {ciliumPolicy, ciliumSpecs},
	{Group: "cilium.io", Kind: "CiliumClusterwideNetworkPolicy"}:            {ciliumClusterPolicy, ciliumSpecs},
	{Group: "projectcalico.org", Kind: "NetworkPolicy"}:                     {calicoPolicy, spec},
	{Group: "projectcalico.org", Kind: "GlobalNetworkPolicy"}:               {calicoClusterPolicy, spec},
	{Group: "crd.projectcalico.org", Kind: "NetworkPolicy"}:                 {calicoPolicy, spec},
	{Group: "crd.projectcalico.org", Kind: "GlobalNetworkPolicy"}:           {calicoClusterPolicy, spec},
	{Group: "policy.networking.k8s.io", Kind: "AdminNetworkPolicy"}:         {adminPolicy, spec},
	{Group: "policy.networking.k8s.io", Kind: "ClusterNetworkPolicy"}:       {adminPolicy, spec},
	{Group: "policy.networking.k8s.io", Kind: "BaselineAdminNetworkPolicy"}: {baselinePolicy, spec},
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:       {resourceDefinition, nil},

	{Kind: "ResourceQuota"}: {quota, nil},
	{Kind: "LimitRange"}:    {limitRange, nil},

	{Kind: "Service"}: {service, [][]string{{"spec", "selector"}, {"spec", "type"}, {"spec", "ports"}}},
	{Group: "networking.k8s.io", Kind: "Ingress"}: {ingress, ingressFields},
	{Group: "extensions", Kind: "Ingress"}:        {ingress, ingressFields},
	{Group: gatewayGroup, Kind: "HTTPRoute"}:      {route, routeFields},
	{Group: gatewayGroup, Kind: "GRPCRoute"}:      {route, routeFields},
	{Group: gatewayGroup, Kind: "TLSRoute"}:       {route, routeFields},
	{Group: gatewayGroup, Kind: "TCPRoute"}:       {route, routeFields},
	{Group: gatewayGroup, Kind: "UDPRoute"}:       {route, routeFields},

	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: {admissionPolicy, [][]string{{"spec", "validationActions"}}},
	{Group: "policies.kyverno.io", Kind: "ValidatingPolicy"}:                          {admissionPolicy, [][]string{{"spec", "validationActions"}}},
	{Group: "kyverno.io", Kind: "ClusterPolicy"}:                                      {admissionPolicy, kyvernoFields},
	{Group: "kyverno.io", Kind: "Policy"}:                                             {admissionPolicy, kyvernoFields},
}

const (
	gatewayGroup    = "gateway.networking.k8s.io"
	constraintGroup = "constraints.gatekeeper.sh"
	classAnnotation = "kubernetes.io/ingress.class"
)

var (
	spec          = [][]string{{"spec"}}
	ciliumSpecs   = [][]string{{"spec"}, {"specs"}}
	ingressFields = [][]string{
		{"spec", "ingressClassName"}, {"spec", "rules"}, {"spec", "defaultBackend"}, {"spec", "backend"},
		{"metadata", "annotations", classAnnotation},
	}
	routeFields   = [][]string{{"spec", "rules", "name"}, {"spec", "rules", "backendRefs"}}
	kyvernoFields = [][]string{
		{"spec", "validationFailureAction"}, {"spec", "rules", "validate", "failureAction"}, {"spec", "rules", "name"},
	}
)

// kindOf says what an object is to this package.
func kindOf(o *object.Object) what {
	gk := o.GroupKind()
	if gk.Group == constraintGroup {
		return admissionPolicy
	}
	return kinds[gk].what
}

// from says what the facts come from: all of what keep looks at.
func from(string) facts.Sources {
	out := facts.Sources{Pods: true, Kinds: []object.GroupKind{{Group: constraintGroup, Kind: facts.AnyKind}}}
	for gk := range kinds {
		out.Kinds = append(out.Kinds, gk)
	}
	return out
}

// keep returns the few fields of an object that facts come from.
func keep(o *object.Object) any {
	gk := o.GroupKind()
	if k, ok := kinds[gk]; ok {
		if k.what == resourceDefinition && !policyDefinitions[o.Name] {
			return nil
		}
		return facts.Slim(o, k.fields...)
	}
	if gk.Group == constraintGroup {
		return facts.Slim(o, []string{"spec", "enforcementAction"})
	}
	path, ok := object.PodPath(gk)
	if !ok || gk.Kind == "PodTemplate" {
		return nil // a PodTemplate runs nothing
	}
	return newWorkload(o, path)
}

// derive yields the facts, in the order of the sources. Those about the cluster
// belong to the part "".
func derive(p *facts.Part, env *facts.Env, yield func(*object.Object)) {
	x := newIndex(p, env)
	for _, s := range x.order {
		if of := s.subject(); of != nil {
			yield(x.namespace(s, of))
		}
	}
	if p.Name == "" {
		x.aboutCluster(yield)
	}
	for _, k := range p.Kept {
		switch k := k.(type) {
		case *workload:
			yield(x.podNetwork(k))
		case *object.Object:
			if fact := x.about(k); fact != nil {
				yield(fact)
			}
		}
	}
}

// aboutCluster yields the facts about the cluster.
func (x *index) aboutCluster(yield func(*object.Object)) {
	x.askNamespaces()
	x.askAdmission()
	if of := x.first(); of != nil {
		yield(x.cluster(of))
	}
	if x.tier != nil {
		yield(x.clusterNetwork())
	}
}

// about is the fact about an object that holds no pod, or nil.
func (x *index) about(o *object.Object) *object.Object {
	switch kindOf(o) {
	case networkPolicy:
		return x.policySelection(o)
	case service:
		return x.serviceSelection(o)
	case ingress, route:
		return x.backends(o)
	}
	return nil
}

// workload is an object that holds a pod.
type workload struct {
	o      *object.Object // its name, labels and place
	labels labels         // of its pods
	ports  []string       // names of ports of its containers
	host   truth          // it is on the network of the node
	// webhook says that a container checks Ingresses for the API server.
	webhook bool
}

// generatedLabels are what controllers add to pods, by the kind of the workload:
// the values are not known beforehand.
var generatedLabels = map[string][]string{
	"Deployment":  {"pod-template-hash"},
	"ReplicaSet":  {"pod-template-hash"},
	"DaemonSet":   {"controller-revision-hash"},
	"StatefulSet": {"apps.kubernetes.io/pod-index", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"},
	"Job":         {"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"},
	"CronJob":     {"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"},
}

func newWorkload(o *object.Object, path object.Path) *workload {
	pod := o.Root.Lookup(path)
	w := &workload{o: facts.Slim(o), labels: readLabels(pod.At("metadata", "labels")), host: said(pod.At("spec", "hostNetwork"))}
	for _, key := range generatedLabels[o.Kind] {
		w.labels = w.labels.with(pair{key: key, unread: true})
	}
	for _, list := range object.ContainerLists {
		for _, c := range facts.Items(pod.At("spec", list)) {
			for _, p := range facts.Items(c.Get("ports")) {
				if name := p.Get("name").Str(); name != "" {
					w.ports = append(w.ports, name)
				}
			}
			for _, a := range facts.Items(c.Get("args")) {
				w.webhook = w.webhook || strings.HasPrefix(a.Str(), "--validating-webhook=")
			}
		}
	}
	return w
}
