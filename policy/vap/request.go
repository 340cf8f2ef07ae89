// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes/scheme"
	corev1listers "k8s.io/client-go/listers/core/v1"
	kjson "sigs.k8s.io/json"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// request is a request as the API server's evaluator sees it. It is safe for
// concurrent use.
type request struct {
	kind        schema.GroupVersionKind
	resource    schema.GroupVersionResource
	subresource string
	operation   admission.Operation
	name        string
	namespace   string // that of the request; for a Namespace, its name
	user        user.Info
	dryRun      bool
	attr        admission.Attributes
	matcher     *matching.Matcher
	interfaces  admission.ObjectInterfaces
	equivalent  runtime.EquivalentResourceMapper
	// plain says that the kind is one of Kubernetes, of the resource that is named
	// for it.
	plain bool

	// What is not known has a reason here.
	noName, noNamespace, noScope, noVersions, noLabels, noUser, noOptions string

	cluster policy.Cluster

	// object and old return the two as they are in a version.
	object, old func(schema.GroupVersionKind) *subject
	// space returns the namespace, or why it is not known.
	space func() (*corev1.Namespace, string)
	// values are parts that rules share.
	values func(resource schema.GroupVersionResource, kind schema.GroupVersionKind) ref.Val
}

// subject is an object of a request in one version.
type subject struct {
	node *object.Node
	// shown is the object as expressions see it where its Go value is not needed
	// for that, else nil. custom says that there is no Go type.
	shown  ref.Val
	custom bool
	// made returns the object: typed for a kind of Kubernetes, else unstructured.
	made func() (runtime.Object, error)
	// blanks are its values that are not known.
	blanks []blank
}

// value returns the object, which need not be made more than once.
func (s *subject) value() runtime.Object {
	o, _ := s.made()
	return o
}

// show returns the object as expressions see it, as it is written where that is
// possible and wanted.
func (s *subject) show(asWritten bool) any {
	switch {
	case s == nil:
		return nil
	case asWritten && s.shown != nil:
		return s.shown
	}
	return valueOf(s.value())
}

// asWritten says whether objects can be shown to the same expressions as they are
// written. Those of a Go type compare with each other as nothing else does.
func asWritten(all ...*subject) bool {
	return !slices.ContainsFunc(all, func(s *subject) bool { return s != nil && s.shown == nil && !s.custom })
}

// newSubject returns an object as one of a kind, to which its version is changed
// if need be.
func newSubject(r *policy.Request, o *object.Object, kind schema.GroupVersionKind) *subject {
	s := &subject{node: o.Root}
	apiVersion, name := kind.ToAPIVersionAndKind()
	s.made = sync.OnceValues(func() (runtime.Object, error) {
		tree := r.Tree(o)
		if apiVersion != o.APIVersion {
			tree = maps.Clone(tree)
			tree["apiVersion"] = apiVersion
		}
		return typed(tree, kind)
	})
	shape := shapeOf(kind)
	if s.custom = shape == nil; !s.custom && shape.fits(o.Root) {
		n := o.Root
		if apiVersion != o.APIVersion || name != o.Kind {
			n = retyped(n, apiVersion, name)
		}
		s.shown = shape.show(n)
		return s
	}
	if o.Root.HasUnknown() {
		s.blanks = blanks(o.Root)
	}
	return s
}

// retyped returns an object in another version.
func retyped(n *object.Node, apiVersion, kind string) *object.Node {
	out := &object.Node{Kind: object.Map, Fields: []object.Field{{Key: "apiVersion", Value: object.NewString(apiVersion)}, {Key: "kind", Value: object.NewString(kind)}}}
	for _, f := range n.Fields {
		if f.Key != "apiVersion" && f.Key != "kind" {
			out.Fields = append(out.Fields, f)
		}
	}
	return out
}

type requestKey struct{}

// read returns the request for the rules of this package, which share it.
func readRequest(r *policy.Request) *request {
	return policy.Once(r, requestKey{}, func() *request { return newRequest(r) })
}

// newRequest makes a request of one in Sconce's terms.
func newRequest(r *policy.Request) *request {
	about := r.Subject()
	gvk := schema.FromAPIVersionAndKind(about.APIVersion, about.Kind)
	info := typeOf(gvk, r.Cluster)
	out := &request{
		kind: gvk, resource: info.resource, subresource: r.Subresource, operation: admission.Operation(r.Operation),
		name: about.Name, namespace: about.Namespace, user: &user.DefaultInfo{}, dryRun: r.DryRun,
		equivalent: equivalents{info}, cluster: r.Cluster, noOptions: "the options of the request",
	}
	if out.operation == "" {
		out.operation = admission.Create
	}
	if r.Resource != "" {
		out.resource.Resource = r.Resource
	}
	if r.Group+r.Version != "" {
		out.resource.Group, out.resource.Version = r.Group, r.Version
	} else if g, ok := subresourceGroups[out.resource.Resource]; ok && r.Subresource != "" {
		out.resource.Group = g
		if g == "" || g == "apps" {
			out.resource.Version = "v1"
		}
	}
	out.plain = info.builtIn && r.Subresource == "" && out.resource == info.resource
	out.place(info)
	out.who(r.User)
	if !info.builtIn && !ownGroup(gvk.Group) && info.defined == nil {
		out.noVersions = fmt.Sprintf("the versions of %s, whose CustomResourceDefinition is not among what was read,", gvk.GroupKind())
	}
	out.object = out.subjectOf(r, r.Object, info)
	out.old = out.subjectOf(r, r.Old, info)
	out.space = spaceOf(r, out)
	out.values = requestValues(r, out)
	out.matcher = matching.NewMatcher(lister{out}, nil)
	out.interfaces = interfacesOf(out.equivalent)
	out.noLabels = cmp.Or(noLabels(r.Old), noLabels(r.Object))
	out.attr = &selectable{
		out.attributes(nil, nil, out.namespace),
		sync.OnceValue(func() runtime.Object { return labelled(r.Object) }), sync.OnceValue(func() runtime.Object { return labelled(r.Old) }),
	}
	return out
}

// somewhere is the namespace of an object that names none.
const somewhere = "?"

// place says where the object is, and what is not known of that.
func (q *request) place(info *kindInfo) {
	if strings.HasSuffix(q.name, "*") || q.name == "" {
		q.name, q.noName = "", "the name that the API server generates"
	}
	switch {
	case q.kind == corev1.SchemeGroupVersion.WithKind("Namespace"):
		q.namespace = q.name
		q.noNamespace = q.noName
	case q.namespace != "":
	case info.scoped && !info.namespaced:
	default:
		q.noNamespace = "the namespace that it is put into"
		if !info.scoped {
			q.noScope = fmt.Sprintf("whether %s is in namespaces", q.kind.GroupKind())
		}
		if info.namespaced {
			q.namespace = somewhere
		}
	}
}

// who says who asks.
func (q *request) who(u *authenticationv1.UserInfo) {
	if u == nil {
		q.noUser = "who asks (request.userInfo)"
		return
	}
	info := &user.DefaultInfo{Name: u.Username, UID: u.UID, Groups: u.Groups, Extra: map[string][]string{}}
	for k, v := range u.Extra {
		info.Extra[k] = v
	}
	q.user = info
}

// noLabels says why the labels of an object are not known; "" if they are.
func noLabels(o *object.Object) string {
	if o == nil {
		return ""
	}
	meta := o.Root.Get("metadata")
	all := meta.Get("labels")
	if all == nil && meta != nil && meta.Kind == object.Unknown || all != nil && all.Kind != object.Map {
		return "its labels"
	}
	if all != nil {
		for i := range all.Fields {
			if v := all.Fields[i].Value; v.Kind != object.String && v.Kind != object.Null {
				return "the label " + all.Fields[i].Key
			}
		}
	}
	return ""
}

// labelled returns what selectors look at.
func labelled(o *object.Object) runtime.Object {
	if o == nil {
		return nil
	}
	out := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: map[string]string{}}}
	if all := o.Root.At("metadata", "labels"); all != nil {
		for i := range all.Fields {
			out.Labels[all.Fields[i].Key] = all.Fields[i].Value.Str()
		}
	}
	if o.Kind == "Namespace" && o.APIVersion == "v1" {
		out.Labels[corev1.LabelMetadataName] = o.Name
	}
	return out
}

// selectable are the attributes of a request with what selectors look at, which
// most policies never ask for.
type selectable struct {
	admission.Attributes
	object, old func() runtime.Object
}

// GetObject implements admission.Attributes.
func (s *selectable) GetObject() runtime.Object { return s.object() }

// GetOldObject implements admission.Attributes.
func (s *selectable) GetOldObject() runtime.Object { return s.old() }

// attributes returns the request as the API server's matcher wants it.
func (q *request) attributes(o, old runtime.Object, namespace string) admission.Attributes {
	return admission.NewAttributesRecord(o, old, q.kind, namespace, q.name, q.resource, q.subresource, q.operation, nil, q.dryRun, q.user)
}

// interfacesOf returns what the API server's matcher and patchers need of a
// scheme.
func interfacesOf(equivalent runtime.EquivalentResourceMapper) admission.ObjectInterfaces {
	return &admission.RuntimeObjectInterfaces{
		ObjectCreater: scheme.Scheme, ObjectTyper: scheme.Scheme, ObjectDefaulter: scheme.Scheme, ObjectConvertor: scheme.Scheme,
		EquivalentResourceMapper: equivalent,
	}
}

type subjectKey struct {
	o    *object.Object
	kind schema.GroupVersionKind
}

// subjectOf returns what makes an object of the request one of a version.
func (q *request) subjectOf(r *policy.Request, o *object.Object, info *kindInfo) func(schema.GroupVersionKind) *subject {
	if o == nil {
		return func(schema.GroupVersionKind) *subject { return nil }
	}
	return func(kind schema.GroupVersionKind) *subject {
		return policy.Once(r, subjectKey{o, kind}, func() *subject {
			if !info.converts(kind) {
				err := fmt.Errorf("the policy is about %s, into which only the API server converts a %s", kind.GroupVersion(), q.kind)
				return &subject{made: func() (runtime.Object, error) { return nil, err }}
			}
			s := newSubject(r, o, kind)
			s.blanks = append(q.missing(o), s.blanks...)
			return s
		})
	}
}

// missing are the fields that the API server fills in before it asks a policy
// and that nobody else can.
func (q *request) missing(o *object.Object) []blank {
	var out []blank
	placed := o.Root.Get("metadata") != nil
	if q.noName != "" {
		out = append(out, blank{object.Path(nil).Fields("metadata", "name"), q.noName, placed})
	}
	if q.noNamespace != "" && o.Namespace == "" && q.kind.Kind != "Namespace" {
		out = append(out, blank{object.Path(nil).Fields("metadata", "namespace"), q.noNamespace, placed})
	}
	return out
}

// quoted is what an error may show of a value.
var quoted = regexp.MustCompile("\"[^\"]*\"|`[^`]*`")

// typed returns an object as the API server's evaluator reads it: of a kind of
// Kubernetes, through its Go type, which drops what has no field and what is
// empty; of any other kind as it is written.
func typed(tree map[string]any, kind schema.GroupVersionKind) (runtime.Object, error) {
	o, err := scheme.Scheme.New(kind)
	if err != nil {
		return &unstructured.Unstructured{Object: tree}, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, o); err != nil {
		// What the converter refuses is read as the API server reads it, which also
		// says where it is wrong.
		if o, err = fromJSON(tree, kind); err != nil {
			return nil, fmt.Errorf("the object is not a valid %s: %s", kind.Kind, quoted.ReplaceAllString(err.Error(), `"…"`))
		}
	}
	o.GetObjectKind().SetGroupVersionKind(kind)
	return o, nil
}

func fromJSON(tree map[string]any, kind schema.GroupVersionKind) (runtime.Object, error) {
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	o, err := scheme.Scheme.New(kind)
	if err != nil {
		return nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, o); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return o, nil
}

// spaceOf returns what finds the namespace of the request.
func spaceOf(r *policy.Request, q *request) func() (*corev1.Namespace, string) {
	type spaceKey struct{}
	type found struct {
		namespace *corev1.Namespace
		unknown   string
	}
	return func() (*corev1.Namespace, string) {
		f := policy.Once(r, spaceKey{}, func() found {
			switch {
			case q.noNamespace != "":
				return found{unknown: q.noNamespace}
			case q.namespace == "":
				return found{}
			}
			o, known := r.Namespace(q.namespace)
			switch {
			case o == nil && known:
				return found{unknown: fmt.Sprintf("the namespace %s, which is not there,", q.namespace)}
			case o == nil:
				return found{unknown: fmt.Sprintf("the namespace %s, which is not among what was read,", q.namespace)}
			case o.Root.HasUnknown():
				return found{unknown: fmt.Sprintf("the namespace %s: %s", q.namespace, o.Root.FirstUnknown())}
			}
			value, err := typed(r.Tree(o), corev1.SchemeGroupVersion.WithKind("Namespace"))
			if err != nil {
				return found{unknown: err.Error()}
			}
			n := value.(*corev1.Namespace)
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[corev1.LabelMetadataName] = n.Name
			return found{namespace: n}
		})
		return f.namespace, f.unknown
	}
}

// lister finds the one namespace that matters.
type lister struct{ q *request }

var _ corev1listers.NamespaceLister = lister{}

// List implements the lister of namespaces.
func (l lister) List(labels.Selector) ([]*corev1.Namespace, error) {
	return nil, errors.New("namespaces are not listed")
}

// Get implements the lister of namespaces.
func (l lister) Get(string) (*corev1.Namespace, error) {
	n, unknown := l.q.space()
	if n == nil {
		return nil, errors.New(notKnown(unknown))
	}
	return n, nil
}

func notKnown(what string) string {
	if strings.HasSuffix(what, ",") {
		return what + " is needed"
	}
	return what + " is not known"
}

// unknownValue is a CEL unknown that names what is missing.
func unknownValue(what string) *types.Unknown {
	return types.NewUnknown(0, types.NewAttributeTrail(what))
}

type valueKey struct {
	resource schema.GroupVersionResource
	kind     schema.GroupVersionKind
}

// requestValues returns what makes the variable request, for the resource and
// kind that a policy matched.
func requestValues(r *policy.Request, q *request) func(schema.GroupVersionResource, schema.GroupVersionKind) ref.Val {
	return func(resource schema.GroupVersionResource, kind schema.GroupVersionKind) ref.Val {
		return policy.Once(r, valueKey{resource, kind}, func() ref.Val { return q.value(resource, kind) })
	}
}

func (q *request) value(resource schema.GroupVersionResource, kind schema.GroupVersionKind) ref.Val {
	made := cel.CreateAdmissionRequest(q.attr, metav1.GroupVersionResource(resource), metav1.GroupVersionKind(kind))
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(made)
	if err != nil {
		return types.NewErr("the request cannot be shown to expressions: %v", err)
	}
	for field, reason := range map[string]string{"userInfo": q.noUser, "name": q.noName, "namespace": q.noNamespace, "options": q.noOptions} {
		if reason != "" {
			tree[field] = unknownValue(reason)
		}
	}
	return types.DefaultTypeAdapter.NativeToValue(tree)
}
