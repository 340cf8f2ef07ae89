// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import "sconce.dev/sconce/object"

// clusterScoped are the kinds of Kubernetes' own that stand in no namespace. An
// object of any other kind that names no namespace is in "default".
var clusterScoped = map[string][]string{
	"":                             {"ComponentStatus", "Namespace", "Node", "PersistentVolume"},
	"admissionregistration.k8s.io": {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"},
	"apiextensions.k8s.io":         {"CustomResourceDefinition"},
	"apiregistration.k8s.io":       {"APIService"},
	"authentication.k8s.io":        {"SelfSubjectReview", "TokenReview"},
	"authorization.k8s.io":         {"SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"},
	"certificates.k8s.io":          {"CertificateSigningRequest", "ClusterTrustBundle"},
	"flowcontrol.apiserver.k8s.io": {"FlowSchema", "PriorityLevelConfiguration"},
	"networking.k8s.io":            {"IPAddress", "IngressClass", "ServiceCIDR"},
	"node.k8s.io":                  {"RuntimeClass"},
	"rbac.authorization.k8s.io":    {"ClusterRole", "ClusterRoleBinding"},
	"resource.k8s.io":              {"DeviceClass", "ResourceSlice"},
	"scheduling.k8s.io":            {"PriorityClass"},
	"storage.k8s.io":               {"CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"},
}

// scopes says which kinds stand in no namespace.
type scopes map[object.GroupKind]bool

func newScopes() scopes {
	out := scopes{}
	for group, kinds := range clusterScoped {
		for _, k := range kinds {
			out[object.GroupKind{Group: group, Kind: k}] = true
		}
	}
	return out
}

// add learns of a custom resource.
func (s scopes) add(crd *object.Object) {
	spec := crd.Root.Get("spec")
	if spec.Get("scope").Str() == "Cluster" {
		s[object.GroupKind{Group: spec.Get("group").Str(), Kind: spec.At("names", "kind").Str()}] = true
	}
}
