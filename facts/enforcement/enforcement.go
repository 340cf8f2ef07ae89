// SPDX-License-Identifier: Apache-2.0

// Package enforcement derives whether what is meant to refuse objects can do so:
// whether a policy is bound, whether what a binding names exists, whether a
// webhook can be reached and by which authority, which namespaces a selector
// leaves out, and what those who run policies say of them. It does not look at
// what a policy forbids.
//
// About every ValidatingAdmissionPolicy and MutatingAdmissionPolicy:
//
//	kind: AdmissionPolicy
//	facts:
//	  bindings: 1      # that name it
//	  exempt: …        # as below
//
// About every binding of one:
//
//	kind: AdmissionBinding
//	facts:
//	  policyFound: true
//	  parameterFound: true   # where it names a ConfigMap
//
// About every ValidatingWebhookConfiguration and MutatingWebhookConfiguration:
//
//	kind: AdmissionWebhook
//	facts:
//	  mutating: false
//	  services: # of the webhooks that name one
//	  - {webhook: pods.example.com, namespace: policies, name: hook, port: 443, found: true, portFound: true, ready: true}
//	  exempt: # the namespaces found that a selector leaves out, by the label that does
//	  - {webhook: pods.example.com, key: team, names: [shop], own: policies, rules: […]}
//
// and, from it alone:
//
//	kind: WebhookAuthority
//	facts:
//	  live: true   # it was read from a cluster: nothing fills in its authority any more
//	  webhooks:
//	  - {name: pods.example.com, service: true, given: true, certificates: 1, days: 364}
//
// About every policy, template and constraint whose kind has a status that says
// whether it works, from each alone:
//
//	kind: PolicyStatus
//	facts:
//	  errors: [{message: …}]
//
// What is not among the objects is absent where they are complete, and else
// unknown. Whether a Service has endpoints is said only of what was read from a
// cluster, since nobody writes them down; parameters other than ConfigMaps are
// not looked for, since not every kind need have been read. A namespace is left
// out where an expression says so (NotIn, DoesNotExist); one that is merely not
// chosen is not.
package enforcement

import (
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Whole derives what takes several objects to know.
var Whole = facts.Whole{
	Kinds:  []string{policyFact, bindingFact, webhookFact},
	From:   from,
	Keep:   keep,
	Derive: derive,
}

// Single derives what one object tells by itself.
var Single = facts.Single{
	Kinds:  []string{statusFact, authorityFact},
	From:   from,
	Derive: single,
}

// The kinds of facts.
const (
	policyFact    = "AdmissionPolicy"
	bindingFact   = "AdmissionBinding"
	webhookFact   = "AdmissionWebhook"
	statusFact    = "PolicyStatus"
	authorityFact = "WebhookAuthority"
)

// from says what a kind of fact comes from.
func from(kind string) facts.Sources {
	switch kind {
	case statusFact:
		return facts.Sources{Kinds: []object.GroupKind{
			validatingPolicy, clusterPolicy, kyvernoPolicy, {Group: kyvernoPolicies, Kind: facts.AnyKind},
			{Group: templateGroup, Kind: facts.AnyKind}, {Group: constraintGroup, Kind: facts.AnyKind},
		}}
	case authorityFact:
		return facts.Sources{Kinds: []object.GroupKind{validatingWebhook, mutatingWebhook}}
	case policyFact:
		return facts.Sources{Kinds: []object.GroupKind{validatingPolicy, mutatingPolicy, validatingBinding, mutatingBinding, namespaceKind}}
	case bindingFact:
		return facts.Sources{Kinds: []object.GroupKind{validatingPolicy, mutatingPolicy, validatingBinding, mutatingBinding, configMapKind}}
	}
	return facts.Sources{Kinds: []object.GroupKind{validatingWebhook, mutatingWebhook, namespaceKind, serviceKind, endpointSliceKind}}
}

const group = "admissionregistration.k8s.io"

// The kinds that are looked at.
var (
	validatingPolicy  = object.GroupKind{Group: group, Kind: "ValidatingAdmissionPolicy"}
	mutatingPolicy    = object.GroupKind{Group: group, Kind: "MutatingAdmissionPolicy"}
	validatingBinding = object.GroupKind{Group: group, Kind: "ValidatingAdmissionPolicyBinding"}
	mutatingBinding   = object.GroupKind{Group: group, Kind: "MutatingAdmissionPolicyBinding"}
	validatingWebhook = object.GroupKind{Group: group, Kind: "ValidatingWebhookConfiguration"}
	mutatingWebhook   = object.GroupKind{Group: group, Kind: "MutatingWebhookConfiguration"}
	namespaceKind     = object.GroupKind{Kind: "Namespace"}
	serviceKind       = object.GroupKind{Kind: "Service"}
	configMapKind     = object.GroupKind{Kind: "ConfigMap"}
	clusterPolicy     = object.GroupKind{Group: kyvernoGroup, Kind: "ClusterPolicy"}
	kyvernoPolicy     = object.GroupKind{Group: kyvernoGroup, Kind: "Policy"}
	endpointSliceKind = object.GroupKind{Group: "discovery.k8s.io", Kind: "EndpointSlice"}
)

// serviceLabel is the label of an EndpointSlice that names its Service.
const serviceLabel = "kubernetes.io/service-name"

// named is a thing in a namespace.
type named struct{ namespace, name string }

// configMap is a ConfigMap: that it exists is enough.
type configMap named

// endpoints are those of one slice of a Service.
type endpoints struct {
	service named
	ready   bool
}

// service is where a webhook may answer.
type service struct {
	named
	external bool // somewhere outside the cluster
	unread   bool // its ports are not known
	ports    []int64
}

// space is a namespace with its labels.
type space struct {
	name   string
	labels map[string]string
	unread bool
}

// keep returns the few fields of an object that facts come from.
func keep(o *object.Object) any {
	switch o.GroupKind() {
	case validatingPolicy, mutatingPolicy:
		return facts.Slim(o, []string{"spec", "paramKind"}, []string{"spec", "matchConstraints"})
	case validatingBinding, mutatingBinding:
		return facts.Slim(o, []string{"spec"})
	case validatingWebhook, mutatingWebhook:
		return facts.Slim(o, []string{"metadata", "uid"}, []string{"webhooks", "name"}, []string{"webhooks", "rules"},
			[]string{"webhooks", "namespaceSelector"}, []string{"webhooks", "clientConfig", "service"})
	case namespaceKind:
		return keepSpace(o)
	case serviceKind:
		return keepService(o)
	case configMapKind:
		return configMap{o.Namespace, o.Name}
	case endpointSliceKind:
		if name := o.Root.At("metadata", "labels", serviceLabel).Str(); name != "" {
			return endpoints{named{o.Namespace, name}, hasReady(o.Root.Get("endpoints"))}
		}
	}
	return nil
}

func keepSpace(o *object.Object) any {
	out := &space{name: o.Name, labels: map[string]string{nameLabel: o.Name}}
	labels := o.Root.At("metadata", "labels")
	if labels == nil {
		return out
	}
	out.unread = labels.HasUnknown()
	for _, f := range labels.Fields {
		out.labels[f.Key] = f.Value.Str()
	}
	return out
}

func keepService(o *object.Object) any {
	out := &service{named: named{o.Namespace, o.Name}, external: o.Root.At("spec", "type").Str() == "ExternalName"}
	ports := o.Root.At("spec", "ports")
	out.unread = ports != nil && ports.HasUnknown()
	for _, p := range facts.Items(ports) {
		if n := p.Get("port"); n != nil && n.Kind == object.Int {
			out.ports = append(out.ports, n.Int())
		}
	}
	return out
}

// hasReady says whether one of the endpoints takes requests. One that does not
// say so is ready.
func hasReady(list *object.Node) bool {
	return slices.ContainsFunc(facts.Items(list), func(e *object.Node) bool {
		ready := e.At("conditions", "ready")
		return len(facts.Items(e.Get("addresses"))) > 0 && (ready == nil || ready.Bool())
	})
}

// derive yields a fact about each object that has one, in the order of the
// sources.
func derive(kept []any, env *facts.Env, yield func(*object.Object)) {
	x := newIndex(kept, env)
	for _, k := range kept {
		o, ok := k.(*object.Object)
		if !ok {
			continue
		}
		switch o.GroupKind() {
		case validatingPolicy, mutatingPolicy:
			yield(x.policy(o))
		case validatingBinding, mutatingBinding:
			yield(x.binding(o))
		default:
			yield(x.webhooks(o))
		}
	}
}

// live says whether an object was read from a cluster, and not written by
// somebody who leaves fields for others to fill in.
func live(o *object.Object) bool { return o.Root.At("metadata", "uid") != nil }
