// SPDX-License-Identifier: Apache-2.0

package object

import (
	"slices"
	"strings"
)

// unspaced are kinds of Kubernetes that are in no namespace, whose names do not
// say so.
var unspaced = []string{
	"APIService", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "CSIDriver", "CSINode", "CertificateSigningRequest",
	"CustomResourceDefinition", "FlowSchema", "GatewayClass", "IngressClass", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
	"Namespace", "Node", "PersistentVolume", "PodSecurityPolicy", "PriorityClass", "PriorityLevelConfiguration", "RuntimeClass", "StorageClass",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "VolumeAttachment",
}

// Namespaced says whether objects of a kind are in a namespace, as far as the
// kind's name tells.
func Namespaced(gk GroupKind) bool {
	return !slices.Contains(unspaced, gk.Kind) && !strings.HasSuffix(gk.Kind, "WebhookConfiguration") &&
		!strings.HasPrefix(gk.Kind, "Cluster") && !strings.HasPrefix(gk.Kind, "CiliumClusterwide") && !strings.HasPrefix(gk.Kind, "Global")
}
