// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/kyverno/podsecurity"
)

// subject is what rules look at of a request. It is made once for all of them and
// never changed; a rule that changes the object makes another.
type subject struct {
	request *policy.Request
	// object and old are the trees of the new and the old object, node is what the
	// paths of findings go through.
	object, old map[string]any
	node        *object.Node
	// kind is that of the object; gvk that of the resource, which is another for
	// some subresources.
	kind                string
	gvk                 schema.GroupVersionKind
	subresource         string
	name, namespace     string
	labels, annotations map[string]string
	operation           policy.Operation
	who                 who
	// strict says that what is not told is unknown. Otherwise, as in Kyverno's
	// command line, it is not there.
	strict bool
	// given are the labels of the namespace, where they were told.
	given      map[string]string
	givenKnown bool
	// base is what expressions see: request, and what was told beside. It is made
	// when an expression is first evaluated.
	base func() map[string]any
	// unknown says what of the object is not known, dark which of it filters look
	// at.
	unknown string
	dark    struct{ name, namespace, labels, annotations bool }
	images  func() (map[string]any, error)
	pod     func() (*podsecurity.Pod, error)
}

type subjectKey struct{}

// subjectOf returns the subject of a request that is judged.
func subjectOf(r *policy.Request) *subject {
	return policy.Once(r, subjectKey{}, func() *subject {
		s := &subject{request: r, operation: r.Operation, strict: true, subresource: r.Subresource}
		if s.operation == "" {
			s.operation = policy.Create
		}
		if r.Object != nil {
			s.object = r.Tree(r.Object)
		}
		if r.Old != nil {
			s.old = r.Tree(r.Old)
		}
		if about := r.Subject(); about != nil {
			s.node = about.Root
			s.unknown = about.Root.FirstUnknown()
			if s.unknown != "" {
				s.darken(about.Root.Get("metadata"))
			}
		}
		s.who.user = r.User
		if r.User != nil {
			s.who.userKnown = true
			s.who.roles, s.who.clusterRoles, s.who.rolesKnown = rolesOf(r)
		}
		s.derive()
		s.base = sync.OnceValue(func() map[string]any {
			base := map[string]any{"request": s.requestTree()}
			if r.User != nil {
				addServiceAccount(base, r.User.Username)
			} else {
				base["serviceAccountName"], base["serviceAccountNamespace"] = jmes.Unknown("who asks"), jmes.Unknown("who asks")
			}
			return base
		})
		return s
	})
}

// darken notes what of the metadata is not known.
func (s *subject) darken(metadata *object.Node) {
	is := func(fields ...string) bool {
		return metadata != nil && metadata.Kind == object.Unknown ||
			slices.ContainsFunc(fields, func(f string) bool { return metadata.Get(f).HasUnknown() })
	}
	s.dark.name, s.dark.namespace = is("name", "generateName"), is("namespace")
	s.dark.labels, s.dark.annotations = is("labels"), is("annotations")
}

// derive fills in what follows from the object.
func (s *subject) derive() {
	tree := s.object
	if tree == nil {
		tree = s.old
	}
	apiVersion, _ := tree["apiVersion"].(string)
	s.kind, _ = tree["kind"].(string)
	s.gvk = schema.FromAPIVersionAndKind(apiVersion, s.kind)
	if s.subresource != "" && s.request.Resource != "" {
		s.gvk = parentOf(s.gvk, schema.GroupResource{Group: "", Resource: s.request.Resource})
	}
	m, _ := tree["metadata"].(map[string]any)
	s.name, _ = m["name"].(string)
	if s.name == "" {
		s.name, _ = m["generateName"].(string)
	}
	s.namespace, _ = m["namespace"].(string)
	if about := s.request.Subject(); s.strict && s.subresource != "" && s.namespace == "" && about != nil {
		s.namespace = about.Namespace // what is sent to it says nothing of where it is
	}
	if s.strict && s.namespace == "" && !clusterScoped[s.gvk.GroupKind()] {
		s.namespace = "default"
	}
	s.labels, s.annotations = stringEntries(m["labels"]), stringEntries(m["annotations"])
	s.pod = sync.OnceValues(func() (*podsecurity.Pod, error) { return podsecurity.Decode(tree) })
	pictured := tree
	if s.strict {
		pictured = s.object // what is deleted has no images
	}
	s.images = sync.OnceValues(func() (map[string]any, error) { return imagesOf(pictured, s.kind) })
}

// with returns the subject with another object in the place of the new one.
func (s *subject) with(changed map[string]any) *subject {
	out := *s
	out.object = changed
	out.derive()
	base := maps.Clone(s.base())
	base["request"] = withField(base["request"], "object", floats(changed))
	out.base = func() map[string]any { return base }
	return &out
}

// withField returns a map with another value for a field.
func withField(tree any, field string, value any) map[string]any {
	m, _ := tree.(map[string]any)
	m = maps.Clone(m)
	if m == nil {
		m = map[string]any{}
	}
	m[field] = value
	return m
}

// floats returns a tree with all numbers as expressions have them. What has none is
// not copied.
func floats(tree any) any {
	out, _ := numbers(tree, func(v any) (any, bool) {
		switch v := v.(type) {
		case int64:
			return float64(v), true
		case int:
			return float64(v), true
		}
		return v, false
	})
	return out
}

// integers returns a tree with whole numbers as objects have them.
func integers(tree map[string]any) map[string]any {
	out, _ := numbers(tree, func(v any) (any, bool) {
		if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
		return v, false
	})
	return out.(map[string]any)
}

// numbers returns a tree with its scalars converted, and whether one was.
func numbers(tree any, convert func(any) (any, bool)) (any, bool) {
	switch tree := tree.(type) {
	case map[string]any:
		var out map[string]any
		for k, v := range tree {
			if w, changed := numbers(v, convert); changed {
				if out == nil {
					out = maps.Clone(tree)
				}
				out[k] = w
			}
		}
		if out != nil {
			return out, true
		}
		return tree, false
	case []any:
		var out []any
		for i, v := range tree {
			if w, changed := numbers(v, convert); changed {
				if out == nil {
					out = slices.Clone(tree)
				}
				out[i] = w
			}
		}
		if out != nil {
			return out, true
		}
		return tree, false
	}
	return convert(tree)
}

// stringEntries are the entries of a map of strings. As in Kubernetes' own reading,
// null is an empty string, and there are none where one of them is anything else.
func stringEntries(tree any) map[string]string {
	m, _ := tree.(map[string]any)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		s, ok := v.(string)
		if !ok && v != nil {
			return nil
		}
		out[k] = s
	}
	return out
}

// requestName is the name that the request is about: what is sent to a subresource
// has none.
func (s *subject) requestName() string {
	if about := s.request.Subject(); s.name == "" && s.subresource != "" && about != nil {
		return about.Name
	}
	return s.name
}

// requestTree is the variable request, as Kyverno has it from the API server.
func (s *subject) requestTree() map[string]any {
	out := map[string]any{
		"operation": string(s.operation), "namespace": s.namespace, "name": s.requestName(), "dryRun": s.request.DryRun,
		"kind": map[string]any{"group": s.gvk.Group, "version": s.gvk.Version, "kind": s.gvk.Kind},
	}
	if s.object != nil {
		out["object"] = floats(s.object)
	}
	if s.old != nil {
		out["oldObject"] = floats(s.old)
	}
	if s.subresource != "" {
		out["subResource"] = s.subresource
	}
	if s.request.Resource != "" {
		out["resource"] = map[string]any{"group": s.gvk.Group, "version": s.gvk.Version, "resource": s.request.Resource}
	}
	addUser(out, &s.who)
	out["uid"], out["options"] = jmes.Unknown("the UID of the request"), jmes.Unknown("the options of the request")
	if s.who.user == nil {
		out["userInfo"] = jmes.Unknown("who asks")
	}
	if !s.who.rolesKnown {
		out["roles"], out["clusterRoles"] = jmes.Unknown("the roles of who asks"), jmes.Unknown("the cluster roles of who asks")
	}
	return out
}

// addUser puts who asks into the variable request.
func addUser(out map[string]any, w *who) {
	if w.none() {
		return
	}
	if w.user != nil {
		info := map[string]any{}
		if w.user.Username != "" {
			info["username"] = w.user.Username
		}
		if w.user.UID != "" {
			info["uid"] = w.user.UID
		}
		if len(w.user.Groups) > 0 {
			info["groups"] = anyList(w.user.Groups)
		}
		if len(w.user.Extra) > 0 {
			extra := map[string]any{}
			for k, v := range w.user.Extra {
				extra[k] = anyList(v)
			}
			info["extra"] = extra
		}
		out["userInfo"] = info
	}
	out["roles"], out["clusterRoles"] = anyList(w.roles), anyList(w.clusterRoles)
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

const serviceAccount = "system:serviceaccount:"

// addServiceAccount puts the service account that asks, or empty names, into what
// expressions see.
func addServiceAccount(base map[string]any, username string) {
	namespace, name := "", ""
	if len(username) > len(serviceAccount) {
		if parts := strings.Split(username[len(serviceAccount):], ":"); len(parts) >= 2 {
			namespace, name = parts[0], parts[1]
		}
	}
	base["serviceAccountName"], base["serviceAccountNamespace"] = name, namespace
}

// secret says that what expressions make of the object must not be told: whatever
// they make of the values of a Secret is as secret as they are.
func (s *subject) secret() bool { return s.strict && s.gvk.Group == "" && s.kind == "Secret" }

// namespaceOrSelf is the namespace that filters look at: that of the object, or
// the object itself.
func (s *subject) namespaceOrSelf() string {
	if s.kind == "Namespace" {
		return s.name
	}
	return s.namespace
}

// spaceDark says whether the namespace that filters look at is not known.
func (s *subject) spaceDark() bool {
	if s.kind == "Namespace" {
		return s.dark.name
	}
	return s.dark.namespace
}

// namespaceLabels are the labels of the object's namespace, and whether they are
// known.
func (s *subject) namespaceLabels() (map[string]string, bool) {
	if s.givenKnown || !s.strict || s.namespace == "" {
		return s.given, true
	}
	namespace, known := s.request.Namespace(s.namespace)
	if namespace == nil {
		// That it is known not to be there says nothing of the labels that it would
		// have.
		_ = known
		return nil, false
	}
	return stringMap(namespace.Root.At("metadata", "labels")), true
}

// parents are the kinds whose subresources are sent as objects of other kinds.
var parents = map[string]schema.GroupVersionKind{
	"pods":                   {Version: "v1", Kind: "Pod"},
	"nodes":                  {Version: "v1", Kind: "Node"},
	"services":               {Version: "v1", Kind: "Service"},
	"serviceaccounts":        {Version: "v1", Kind: "ServiceAccount"},
	"namespaces":             {Version: "v1", Kind: "Namespace"},
	"replicationcontrollers": {Version: "v1", Kind: "ReplicationController"},
	"deployments":            {Group: "apps", Version: "v1", Kind: "Deployment"},
	"statefulsets":           {Group: "apps", Version: "v1", Kind: "StatefulSet"},
	"replicasets":            {Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	"daemonsets":             {Group: "apps", Version: "v1", Kind: "DaemonSet"},
	"jobs":                   {Group: "batch", Version: "v1", Kind: "Job"},
	"cronjobs":               {Group: "batch", Version: "v1", Kind: "CronJob"},
}

// parentOf returns the kind of which a resource is; that of the object, where
// nothing better is known.
func parentOf(gvk schema.GroupVersionKind, resource schema.GroupResource) schema.GroupVersionKind {
	if guessed, _ := meta.UnsafeGuessKindToResource(gvk); guessed.Resource == resource.Resource {
		return gvk
	}
	if parent, ok := parents[resource.Resource]; ok {
		return parent
	}
	return gvk
}

// clusterScoped are kinds of Kubernetes whose objects are in no namespace.
var clusterScoped = func() map[schema.GroupKind]bool {
	out := map[schema.GroupKind]bool{}
	for group, kinds := range map[string]string{
		"":                             "Namespace Node PersistentVolume ComponentStatus",
		"rbac.authorization.k8s.io":    "ClusterRole ClusterRoleBinding",
		"storage.k8s.io":               "StorageClass VolumeAttachment CSIDriver CSINode VolumeAttributesClass",
		"networking.k8s.io":            "IngressClass IPAddress ServiceCIDR",
		"scheduling.k8s.io":            "PriorityClass",
		"node.k8s.io":                  "RuntimeClass",
		"apiextensions.k8s.io":         "CustomResourceDefinition",
		"apiregistration.k8s.io":       "APIService",
		"certificates.k8s.io":          "CertificateSigningRequest ClusterTrustBundle",
		"flowcontrol.apiserver.k8s.io": "FlowSchema PriorityLevelConfiguration",
		"policy":                       "PodSecurityPolicy",
		"admissionregistration.k8s.io": "ValidatingWebhookConfiguration MutatingWebhookConfiguration ValidatingAdmissionPolicy " +
			"ValidatingAdmissionPolicyBinding MutatingAdmissionPolicy MutatingAdmissionPolicyBinding",
		"kyverno.io":                "ClusterPolicy ClusterCleanupPolicy GlobalContextEntry",
		"gateway.networking.k8s.io": "GatewayClass",
		"resource.k8s.io":           "DeviceClass ResourceSlice",
		"cert-manager.io":           "ClusterIssuer",
	} {
		for _, kind := range strings.Fields(kinds) {
			out[schema.GroupKind{Group: group, Kind: kind}] = true
		}
	}
	return out
}()

// path turns names of fields and numbers of items into a path of the object, as
// far as it goes; a last field that is not there is part of it.
func (s *subject) path(steps []string) object.Path {
	var out object.Path
	n := s.node
	for _, step := range steps {
		if n != nil && n.Kind == object.List {
			i := itemNumber(step)
			if i < 0 || i >= len(n.Items) {
				return out
			}
			out = append(out, object.ItemStep(n, i))
			n = n.Items[i]
			continue
		}
		if n == nil || n.Kind != object.Map {
			return out
		}
		out = append(out, object.Step{Field: step})
		n = n.Get(step)
	}
	return out
}

func itemNumber(s string) int {
	if s == "" || len(s) > 6 {
		return -1
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
