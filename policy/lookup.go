// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Any stands for every group, or for every kind of a group, in a description of
// kinds.
const Any = "*"

// AnyKind describes whatever there is.
var AnyKind = object.GroupKind{Group: Any, Kind: Any}

// Covers says whether one description of kinds means all that another does. A
// kind is a description of itself.
func Covers(wide, narrow object.GroupKind) bool {
	return (wide.Group == Any || wide.Group == narrow.Group) && (wide.Kind == Any || wide.Kind == narrow.Kind)
}

// Overlap says whether two descriptions of kinds can mean the same kind.
func Overlap(a, b object.GroupKind) bool {
	same := func(a, b string) bool { return a == Any || b == Any || a == b }
	return same(a.Group, b.Group) && same(a.Kind, b.Kind)
}

// LooksUp says whether a rule may look objects of a kind up, beside the namespace
// and what says who may do what.
func (n *Needs) LooksUp(gk object.GroupKind) bool {
	return n.AnyKind || slices.ContainsFunc(n.Kinds, func(of object.GroupKind) bool { return Covers(of, gk) })
}

// LookUp adds kinds that a rule looks up: see Needs.Kinds.
func (n *Needs) LookUp(of object.GroupKind) {
	if of == AnyKind {
		n.AnyKind = true
		return
	}
	if !slices.Contains(n.Kinds, of) {
		n.Kinds = append(n.Kinds, of)
	}
}

// Plurals are what the API may call the objects of a kind, the likeliest first:
// for kinds of others than Kubernetes there is no rule.
func Plurals(kind string) []string {
	lower := strings.ToLower(kind)
	var likely string
	switch {
	case strings.HasSuffix(lower, "endpoints"):
		likely = lower
	case strings.HasSuffix(lower, "s"):
		likely = lower + "es"
	case strings.HasSuffix(lower, "y"):
		likely = strings.TrimSuffix(lower, "y") + "ies"
	default:
		likely = lower + "s"
	}
	out := []string{likely}
	for _, p := range []string{lower + "s", lower + "es", lower} {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// kinds are those of Kubernetes that policies look up, by group.
var kinds = map[string]string{
	"": "Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate " +
		"ReplicationController ResourceQuota Secret Service ServiceAccount",
	"admissionregistration.k8s.io": "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration " +
		"ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration",
	"apiextensions.k8s.io":      "CustomResourceDefinition",
	"apiregistration.k8s.io":    "APIService",
	"apps":                      "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
	"autoscaling":               "HorizontalPodAutoscaler",
	"batch":                     "CronJob Job",
	"certificates.k8s.io":       "CertificateSigningRequest",
	"coordination.k8s.io":       "Lease",
	"discovery.k8s.io":          "EndpointSlice",
	"networking.k8s.io":         "Ingress IngressClass NetworkPolicy",
	"node.k8s.io":               "RuntimeClass",
	"policy":                    "PodDisruptionBudget",
	"rbac.authorization.k8s.io": "ClusterRole ClusterRoleBinding Role RoleBinding",
	"scheduling.k8s.io":         "PriorityClass",
	"storage.k8s.io":            "CSIDriver CSINode StorageClass VolumeAttachment",
}

// KindOf describes the kind that the API has under a plural name. Where that is
// not known, it is any of the group.
func KindOf(group, resource string) object.GroupKind {
	for kind := range strings.FieldsSeq(kinds[group]) {
		if Plurals(kind)[0] == resource {
			return object.GroupKind{Group: group, Kind: kind}
		}
	}
	return object.GroupKind{Group: group, Kind: Any}
}

// Find returns the objects that the API has under a plural name, of one namespace
// or of all (""), and their kind. Known says that there are no others; kind is
// zero where it is not known.
func Find(c Cluster, group, resource, namespace string) (kind object.GroupKind, objects []*object.Object, known bool) {
	of := KindOf(group, resource)
	if of.Kind != Any {
		objects, known = c.Objects(of, namespace)
		return of, objects, known
	}
	there, all := c.Kinds(of)
	for _, gk := range there {
		if slices.Contains(Plurals(gk.Kind), resource) {
			objects, known = c.Objects(gk, namespace)
			return gk, objects, known
		}
	}
	// A kind that there is may be the one, under a name that nobody would guess.
	return object.GroupKind{}, nil, all && len(there) == 0
}
