// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/source/cluster"
)

// asked is what a webhook is asked about: the operations, by resource.
type asked map[schema.GroupVersionResource][]admissionv1.OperationType

// add adds operations on the objects of a kind, or on a subresource of theirs.
func (a asked) add(k cluster.Kind, subresource string, operations ...admissionv1.OperationType) {
	name := k.Resource
	if subresource != "" {
		name += "/" + subresource
	}
	gvr := schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: name}
	a[gvr] = append(a[gvr], operations...)
}

// operationsInOrder are all operations, in the order in which they are written.
var operationsInOrder = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete, admissionv1.Connect}

// asking returns the rules of a webhook that is asked about some requests, for each
// group, version and set of operations one.
func asking(about asked) []admissionv1.RuleWithOperations {
	type key struct {
		schema.GroupVersion
		operations string
	}
	resources := map[key][]string{}
	for gvr, wanted := range about {
		var words []string
		for _, op := range operationsInOrder {
			if slices.Contains(wanted, op) {
				words = append(words, string(op))
			}
		}
		k := key{gvr.GroupVersion(), strings.Join(words, " ")}
		resources[k] = append(resources[k], gvr.Resource)
	}
	var out []admissionv1.RuleWithOperations
	for k, names := range resources {
		all := admissionv1.AllScopes
		slices.Sort(names)
		r := admissionv1.RuleWithOperations{
			Rule: admissionv1.Rule{APIGroups: []string{k.Group}, APIVersions: []string{k.Version}, Resources: names, Scope: &all},
		}
		for word := range strings.FieldsSeq(k.operations) {
			r.Operations = append(r.Operations, admissionv1.OperationType(word))
		}
		out = append(out, r)
	}
	slices.SortFunc(out, byGroup)
	return out
}

// askedOfControls returns what a webhook is asked about for rules to which an object
// is all: some operations on the kinds that they judge, and the ways in which a pod
// is changed beside.
func askedOfControls(rules []*baseline.Rule, served []cluster.Kind, operations ...admissionv1.OperationType) asked {
	out := asked{}
	if len(rules) == 0 {
		return out
	}
	chosen := asksAbout(rules)
	for _, k := range served {
		if !chosen(k.GroupKind) {
			continue
		}
		out.add(k, "", operations...)
		if slices.Contains(operations, admissionv1.Update) {
			out.addPods(k, operations...)
		}
	}
	return out
}

// addPods adds the ways in which a pod is changed beside.
func (a asked) addPods(k cluster.Kind, operations ...admissionv1.OperationType) {
	if k.GroupKind == (object.GroupKind{Kind: "Pod"}) {
		a.add(k, "ephemeralcontainers", operations...)
		a.add(k, "resize", operations...)
	}
}

// askedOf returns what a webhook is asked about for rules: creations and updates,
// and of policies in other languages what they ask for.
func askedOf(rules []*baseline.Rule, served []cluster.Kind) []admissionv1.RuleWithOperations {
	isAsking := func(r *baseline.Rule) bool { _, ok := r.Policy.(policy.Asking); return ok }
	out := askedOfControls(slices.DeleteFunc(slices.Clone(rules), isAsking), served, admissionv1.Create, admissionv1.Update)
	for _, r := range rules {
		if isAsking(r) {
			out.addPolicy(r, served)
		}
	}
	return asking(out)
}

// addPolicy adds what a rule of a policy asks for.
func (a asked) addPolicy(r *baseline.Rule, served []cluster.Kind) {
	rule := r.Policy.(policy.Asking)
	for _, k := range served {
		q := policy.Requests{Kind: k.GroupKind, Version: k.Version, Resource: k.Resource, Sent: k.GroupKind}
		if isSpared(k.GroupKind) && !names(r, k.GroupKind) {
			continue
		}
		for _, op := range operationsInOrder[:3] {
			q.Operation = policy.Operation(op)
			if !rule.Asks(q) {
				continue
			}
			a.add(k, "", op)
			if op != admissionv1.Delete {
				a.addPods(k, op)
			}
		}
		for name, s := range subresourcesOf(k) {
			q.Operation, q.Subresource, q.Sent = policy.Operation(s.operation), name, s.sent
			if rule.Asks(q) && (name != "status" || !asksAny(rule, q)) {
				a.add(k, name, s.operation)
			}
		}
	}
}

// asksAny says whether a rule that asks for a subresource means any.
func asksAny(rule policy.Asking, q policy.Requests) bool {
	q.Subresource = "any-other"
	return rule.Asks(q)
}

// subresource is a part of an object that is written by itself, or a way to it.
type subresource struct {
	operation admissionv1.OperationType
	sent      object.GroupKind
}

var scale = subresource{admissionv1.Update, object.GroupKind{Group: "autoscaling", Kind: "Scale"}}

// subresources are those that policies may be about, by the kind of the object. The
// status of objects is written all the time, and is asked about only where a policy
// names it.
var subresources = map[object.GroupKind]map[string]subresource{
	{Kind: "Pod"}: {
		"attach":              {admissionv1.Connect, object.GroupKind{Kind: "PodAttachOptions"}},
		"binding":             {admissionv1.Create, object.GroupKind{Kind: "Binding"}},
		"ephemeralcontainers": {admissionv1.Update, object.GroupKind{Kind: "Pod"}},
		"eviction":            {admissionv1.Create, object.GroupKind{Group: "policy", Kind: "Eviction"}},
		"exec":                {admissionv1.Connect, object.GroupKind{Kind: "PodExecOptions"}},
		"portforward":         {admissionv1.Connect, object.GroupKind{Kind: "PodPortForwardOptions"}},
		"proxy":               {admissionv1.Connect, object.GroupKind{Kind: "PodProxyOptions"}},
		"resize":              {admissionv1.Update, object.GroupKind{Kind: "Pod"}},
	},
	{Kind: "Service"}:        {"proxy": {admissionv1.Connect, object.GroupKind{Kind: "ServiceProxyOptions"}}},
	{Kind: "Node"}:           {"proxy": {admissionv1.Connect, object.GroupKind{Kind: "NodeProxyOptions"}}},
	{Kind: "Namespace"}:      {"finalize": {admissionv1.Update, object.GroupKind{Kind: "Namespace"}}},
	{Kind: "ServiceAccount"}: {"token": {admissionv1.Create, object.GroupKind{Group: "authentication.k8s.io", Kind: "TokenRequest"}}},
}

// subresourcesOf returns the subresources that the objects of a kind may have.
func subresourcesOf(k cluster.Kind) map[string]subresource {
	out := maps.Clone(subresources[k.GroupKind])
	if out == nil {
		out = map[string]subresource{}
	}
	out["status"] = subresource{admissionv1.Update, k.GroupKind}
	if k.Group != "" || k.Kind == "ReplicationController" {
		out["scale"] = scale
	}
	return out
}
