// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// resourceOf returns the plural name that a kind of Kubernetes has, and that a
// custom one most likely has.
func resourceOf(gvk schema.GroupVersionKind) schema.GroupVersionResource {
	resource, _ := meta.UnsafeGuessKindToResource(gvk)
	return resource
}

// exempt are kinds that no policy of the API is held against: what policies are
// made of, and questions that are never stored.
var exempt = []schema.GroupKind{
	{Group: group, Kind: "ValidatingAdmissionPolicy"}, {Group: group, Kind: "ValidatingAdmissionPolicyBinding"},
	{Group: group, Kind: "MutatingAdmissionPolicy"}, {Group: group, Kind: "MutatingAdmissionPolicyBinding"},
	{Group: "authentication.k8s.io", Kind: "TokenReview"}, {Group: "authentication.k8s.io", Kind: "SelfSubjectReview"},
	{Group: "authorization.k8s.io", Kind: "LocalSubjectAccessReview"}, {Group: "authorization.k8s.io", Kind: "SelfSubjectAccessReview"},
	{Group: "authorization.k8s.io", Kind: "SelfSubjectRulesReview"}, {Group: "authorization.k8s.io", Kind: "SubjectAccessReview"},
}

// subresourceKinds are kinds that are sent to a resource of another kind.
var subresourceKinds = []schema.GroupKind{
	{Group: "autoscaling", Kind: "Scale"}, {Group: "policy", Kind: "Eviction"}, {Group: "", Kind: "Binding"},
	{Group: "authentication.k8s.io", Kind: "TokenRequest"}, {Group: "", Kind: "PodExecOptions"}, {Group: "", Kind: "PodAttachOptions"},
	{Group: "", Kind: "PodPortForwardOptions"}, {Group: "", Kind: "PodProxyOptions"}, {Group: "", Kind: "ServiceProxyOptions"}, {Group: "", Kind: "NodeProxyOptions"},
}

// subresourceGroups are the groups of resources that have them.
var subresourceGroups = map[string]string{
	"pods": "", "services": "", "nodes": "", "serviceaccounts": "", "replicationcontrollers": "",
	"deployments": "apps", "replicasets": "apps", "statefulsets": "apps",
}

// family is a kind of Kubernetes in the versions that the API server converts
// into each other.
type family struct {
	kind string
	// versions have the same fields, so that the version is all that is changed.
	versions []schema.GroupVersion
	// others are converted as well, in a way that only the API server knows.
	others []schema.GroupVersion
}

func versions(apiVersions ...string) []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, v := range apiVersions {
		gv, _ := schema.ParseGroupVersion(v)
		out = append(out, gv)
	}
	return out
}

// served are the API versions that an API server of today serves, of the kinds
// that have had others.
var served = versions("v1", "events.k8s.io/v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v1", "autoscaling/v2",
	"discovery.k8s.io/v1", "rbac.authorization.k8s.io/v1", "storage.k8s.io/v1", "scheduling.k8s.io/v1", "coordination.k8s.io/v1",
	"admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1", "certificates.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1",
	"apiregistration.k8s.io/v1", "node.k8s.io/v1", "resource.k8s.io/v1")

var families = sync.OnceValue(func() map[schema.GroupKind]*family {
	list := []*family{
		{"Deployment", versions("apps/v1", "apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"), nil},
		{"DaemonSet", versions("apps/v1", "apps/v1beta2", "extensions/v1beta1"), nil},
		{"ReplicaSet", versions("apps/v1", "apps/v1beta2", "extensions/v1beta1"), nil},
		{"StatefulSet", versions("apps/v1", "apps/v1beta2", "apps/v1beta1"), nil},
		{"ControllerRevision", versions("apps/v1", "apps/v1beta2", "apps/v1beta1"), nil},
		{"CronJob", versions("batch/v1", "batch/v1beta1", "batch/v2alpha1"), nil},
		{"PodDisruptionBudget", versions("policy/v1", "policy/v1beta1"), nil},
		{"NetworkPolicy", versions("networking.k8s.io/v1", "extensions/v1beta1"), nil},
		{"Ingress", versions("networking.k8s.io/v1"), versions("networking.k8s.io/v1beta1", "extensions/v1beta1")},
		{"IngressClass", versions("networking.k8s.io/v1"), versions("networking.k8s.io/v1beta1")},
		{"HorizontalPodAutoscaler", versions("autoscaling/v2", "autoscaling/v2beta2"), versions("autoscaling/v1", "autoscaling/v2beta1")},
		{"Event", versions("v1"), versions("events.k8s.io/v1", "events.k8s.io/v1beta1")},
		{"EndpointSlice", versions("discovery.k8s.io/v1"), versions("discovery.k8s.io/v1beta1")},
		{"PriorityClass", versions("scheduling.k8s.io/v1", "scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1alpha1"), nil},
		{"Lease", versions("coordination.k8s.io/v1", "coordination.k8s.io/v1beta1"), nil},
		{"CustomResourceDefinition", versions("apiextensions.k8s.io/v1"), versions("apiextensions.k8s.io/v1beta1")},
		{"CertificateSigningRequest", versions("certificates.k8s.io/v1"), versions("certificates.k8s.io/v1beta1")},
		{"APIService", versions("apiregistration.k8s.io/v1", "apiregistration.k8s.io/v1beta1"), nil},
		{"RuntimeClass", versions("node.k8s.io/v1", "node.k8s.io/v1beta1"), versions("node.k8s.io/v1alpha1")},
	}
	for _, kind := range []string{"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} {
		list = append(list, &family{kind, versions("rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1beta1"), versions("rbac.authorization.k8s.io/v1alpha1")})
	}
	for _, kind := range []string{"StorageClass", "VolumeAttachment", "CSINode", "CSIDriver"} {
		list = append(list, &family{kind, versions("storage.k8s.io/v1", "storage.k8s.io/v1beta1"), versions("storage.k8s.io/v1alpha1")})
	}
	for _, kind := range []string{"FlowSchema", "PriorityLevelConfiguration"} {
		list = append(list, &family{kind, versions("flowcontrol.apiserver.k8s.io/v1"), versions("flowcontrol.apiserver.k8s.io/v1beta3", "flowcontrol.apiserver.k8s.io/v1beta2", "flowcontrol.apiserver.k8s.io/v1beta1")})
	}
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		list = append(list, &family{kind, versions("admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"), nil})
	}
	for _, kind := range []string{"DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"} {
		list = append(list, &family{kind, versions("resource.k8s.io/v1"), versions("resource.k8s.io/v1beta2", "resource.k8s.io/v1beta1")})
	}
	out := map[schema.GroupKind]*family{}
	for _, f := range list {
		for _, gv := range slices.Concat(f.versions, f.others) {
			out[gv.WithKind(f.kind).GroupKind()] = f
		}
	}
	return out
})

// kindInfo is what is known of a kind.
type kindInfo struct {
	gvk      schema.GroupVersionKind
	resource schema.GroupVersionResource
	// builtIn says that it is one of Kubernetes' own, whose Go type is known.
	builtIn bool
	// namespaced says whether objects are in namespaces; scoped whether that is
	// known for certain.
	namespaced, scoped bool
	// defined is the CustomResourceDefinition of a custom kind, if it is known.
	defined *object.Node
}

// builtIns are what is known of kinds of Kubernetes.
var builtIns sync.Map // schema.GroupVersionKind -> *kindInfo

// typeOf returns what is known of a kind; of a custom one, from its definition.
func typeOf(gvk schema.GroupVersionKind, cluster policy.Cluster) *kindInfo {
	if t, ok := builtIns.Load(gvk); ok {
		return t.(*kindInfo)
	}
	t := &kindInfo{gvk: gvk, resource: resourceOf(gvk)}
	t.builtIn = scheme.Scheme.Recognizes(gvk)
	gk := object.GroupKind{Group: gvk.Group, Kind: gvk.Kind}
	t.namespaced, t.scoped = object.Namespaced(gk), t.builtIn || ownGroup(gvk.Group)
	if t.builtIn {
		builtIns.Store(gvk, t)
	}
	if t.scoped || cluster == nil {
		return t
	}
	definitions, _ := cluster.Objects(object.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}, "")
	for _, d := range definitions {
		spec := d.Root.Get("spec")
		if spec.Get("group").Str() != gvk.Group || spec.At("names", "kind").Str() != gvk.Kind {
			continue
		}
		t.defined = spec
		if plural := spec.At("names", "plural").Str(); plural != "" {
			t.resource.Resource = plural
		}
		switch spec.Get("scope").Str() {
		case "Namespaced":
			t.namespaced, t.scoped = true, true
		case "Cluster":
			t.namespaced, t.scoped = false, true
		}
		return t
	}
	return t
}

// ownGroup says whether a group is one of Kubernetes' own, in which there are no
// custom kinds whose definition would say more.
func ownGroup(name string) bool {
	return slices.ContainsFunc(served, func(gv schema.GroupVersion) bool { return gv.Group == name })
}

// equivalents are the other API versions in which the API server knows the same
// objects, as far as that is known.
type equivalents struct{ t *kindInfo }

// EquivalentResourcesFor implements runtime.EquivalentResourceMapper.
func (e equivalents) EquivalentResourcesFor(resource schema.GroupVersionResource, _ string) []schema.GroupVersionResource {
	out := []schema.GroupVersionResource{resource}
	if f := families()[e.t.gvk.GroupKind()]; f != nil {
		for _, gv := range slices.Concat(f.versions, f.others) {
			if slices.Contains(served, gv) && gv != resource.GroupVersion() {
				out = append(out, gv.WithResource(resource.Resource))
			}
		}
		return out
	}
	if versions := e.t.defined.Get("versions"); versions != nil {
		for _, v := range versions.Items {
			gv := schema.GroupVersion{Group: resource.Group, Version: v.Get("name").Str()}
			if v.Get("served").Bool() && gv != resource.GroupVersion() {
				out = append(out, gv.WithResource(resource.Resource))
			}
		}
	}
	return out
}

// KindFor implements runtime.EquivalentResourceMapper.
func (e equivalents) KindFor(resource schema.GroupVersionResource, _ string) schema.GroupVersionKind {
	if slices.Contains(subresourceKinds, e.t.gvk.GroupKind()) {
		return e.t.gvk
	}
	return resource.GroupVersion().WithKind(e.t.gvk.Kind)
}

var _ runtime.EquivalentResourceMapper = equivalents{}

// converts says whether objects of one version are those of another once the
// version is changed.
func (t *kindInfo) converts(to schema.GroupVersionKind) bool {
	if to == t.gvk {
		return true
	}
	if f := families()[t.gvk.GroupKind()]; f != nil {
		return slices.Contains(f.versions, t.gvk.GroupVersion()) && slices.Contains(f.versions, to.GroupVersion())
	}
	strategy := t.defined.At("conversion", "strategy").Str()
	return t.defined != nil && (strategy == "" || strategy == "None")
}
