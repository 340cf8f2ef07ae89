// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/object"
)

// Asking is implemented by rules that can be about other requests than those that
// create and update objects: about deletions, connections and subresources.
type Asking interface {
	// Asks says whether the rule is to be asked about requests. It errs on the side
	// of yes; Judge decides.
	Asks(about Requests) bool
}

// Requests are those of one operation on the objects of a kind, or on a subresource
// of theirs.
type Requests struct {
	Operation
	// Kind, Version and Resource are those of the objects, Subresource is empty for
	// themselves.
	Kind                           object.GroupKind
	Version, Resource, Subresource string
	// Sent is the kind of what is sent to the subresource.
	Sent object.GroupKind
}

// sent are the kinds of what is sent to subresources of other kinds.
var sent = []object.GroupKind{
	{Kind: "Binding"}, {Kind: "NodeProxyOptions"}, {Kind: "PodAttachOptions"}, {Kind: "PodExecOptions"}, {Kind: "PodPortForwardOptions"},
	{Kind: "PodProxyOptions"}, {Kind: "ServiceProxyOptions"},
	{Group: "authentication.k8s.io", Kind: "TokenRequest"}, {Group: "autoscaling", Kind: "Scale"}, {Group: "policy", Kind: "Eviction"},
}

// IsSent says whether objects of a kind are sent to subresources of other kinds: a
// rule about those may be about them.
func IsSent(gk object.GroupKind) bool { return slices.Contains(sent, gk) }

// SelectedBy says whether one of the rules by which the API's own policies select
// requests is about them. Names and scopes are not looked at.
func (q *Requests) SelectedBy(rules []admissionv1.NamedRuleWithOperations) bool {
	has := func(list []string, s string) bool { return slices.Contains(list, "*") || slices.Contains(list, s) }
	return slices.ContainsFunc(rules, func(r admissionv1.NamedRuleWithOperations) bool {
		return has(r.APIGroups, q.Kind.Group) &&
			slices.ContainsFunc(r.Operations, func(op admissionv1.OperationType) bool {
				return op == admissionv1.OperationAll || string(op) == string(q.Operation)
			}) &&
			slices.ContainsFunc(r.Resources, q.names)
	})
}

// names says whether a resource, as in pods/exec, is that of the requests.
func (q *Requests) names(resource string) bool {
	base, sub, _ := strings.Cut(resource, "/")
	return (base == "*" || base == q.Resource) && (sub == q.Subresource || sub == "*" && q.Subresource != "")
}
