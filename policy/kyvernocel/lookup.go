// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/kyverno/sdk/extensions/cel/libs/http"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
	"sconce.dev/sconce/policy/registry"
	"sconce.dev/sconce/policy/service"
)

// lookup answers what expressions look up in one evaluation, from what the
// request knows of the cluster and from what a test tells.
type lookup struct {
	request *policy.Request
	told    *Told
	// namespace is the one that a namespaced policy is confined to.
	namespace string
	generated []map[string]any
	a         *activation
}

// unknown remembers that something was asked that is not known: Kyverno's
// libraries make plain text of errors.
func (l *lookup) unknown(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if l.a.asked == "" {
		l.a.asked = what
	}
	return &unknownError{what}
}

// objects returns the objects of a resource. All says that there are no others.
func (l *lookup) objects(apiVersion, plural, namespace string) (objects []*object.Object, all bool, err error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil || l.request == nil || l.request.Cluster == nil {
		return nil, false, err
	}
	plural, _, _ = strings.Cut(plural, "/")
	_, objects, all = policy.Find(l.request.Cluster, gv.Group, plural, namespace)
	return objects, all, nil
}

// ListResources implements Kyverno's resource.ContextInterface.
func (l *lookup) ListResources(apiVersion, resource, namespace string, selector map[string]string) (*unstructured.UnstructuredList, error) {
	objects, all, err := l.objects(apiVersion, resource, namespace)
	if err != nil {
		return nil, err
	}
	if !all {
		return nil, l.unknown("not all %s of %s are known", resource, apiVersion)
	}
	out := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": apiVersion, "kind": "List"}}
	for _, o := range objects {
		item := unstructured.Unstructured{Object: l.request.Tree(o)}
		if labels.SelectorFromSet(selector).Matches(labels.Set(item.GetLabels())) {
			out.Items = append(out.Items, item)
		}
	}
	return out, nil
}

// GetResource implements Kyverno's resource.ContextInterface.
func (l *lookup) GetResource(apiVersion, resource, namespace, name string) (*unstructured.Unstructured, error) {
	objects, all, err := l.objects(apiVersion, resource, namespace)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.Name == name && o.Namespace == namespace {
			if reason := o.Root.FirstUnknown(); reason != "" {
				return nil, l.unknown("%s is not known as a whole: %s", o.Ref, reason)
			}
			return &unstructured.Unstructured{Object: l.request.Tree(o)}, nil
		}
	}
	if !all {
		return nil, l.unknown("whether there is %s %s of %s is not known", resource, strings.TrimPrefix(namespace+"/"+name, "/"), apiVersion)
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
}

// PostResource implements Kyverno's resource.ContextInterface.
func (l *lookup) PostResource(apiVersion, resource, _ string, _ map[string]any) (*unstructured.Unstructured, error) {
	return nil, l.unknown("what the API server answers to a new object of %s %s is not known", apiVersion, resource)
}

// ToGVR implements Kyverno's resource.ContextInterface.
func (l *lookup) ToGVR(apiVersion, kind string) (*schema.GroupVersionResource, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, err
	}
	gvr := gv.WithResource(policy.Plurals(kind)[0])
	return &gvr, nil
}

// GetGlobalReference implements Kyverno's globalcontext.ContextInterface.
func (l *lookup) GetGlobalReference(name, projection string) (any, error) {
	if l.namespace != "" {
		return nil, errors.New("a policy of a namespace has no global context")
	}
	if l.told == nil {
		return nil, l.unknown("the entry %s of the global context is not known", name)
	}
	value := l.told.Global[name]
	if projection == "" || value == nil {
		return value, nil
	}
	fields, ok := value.(map[string]any)
	if found, there := fields[projection]; ok && there {
		return found, nil
	}
	return nil, fmt.Errorf("the entry %s of the global context has no projection %s", name, projection)
}

// GetImageData implements Kyverno's imagedata.ContextInterface.
func (l *lookup) GetImageData(image string, _ []remote.Option) (map[string]any, error) {
	if l.told != nil {
		if data, ok := l.told.Images[image]; ok {
			return data, nil
		}
	}
	data, err := registry.Of(l.network()).Image(l.a.context(), registry.Lookup{Image: image})
	if err != nil {
		return nil, l.outside("what its registry says of the image "+image, err)
	}
	out := map[string]any{
		"image": data.Image, "resolvedImage": data.ResolvedImage, "registry": data.Registry, "repository": data.Repository,
		"identifier": data.Identifier, "digest": data.Digest, "manifest": data.Manifest, "config": data.Config,
	}
	if data.Tag != "" {
		out["tag"] = data.Tag
	}
	if data.Index != nil {
		out["imageIndex"] = data.Index
	}
	return out, nil
}

// network is what may be asked outside; nil for nothing.
func (l *lookup) network() *policy.Network {
	if l.request == nil {
		return nil
	}
	return l.request.Network
}

// outside makes of an error of a registry or a service what an evaluation makes of
// it: what could not be found out is not known.
func (l *lookup) outside(what string, err error) error {
	var unknown *answers.UnknownError
	if errors.As(err, &unknown) {
		return l.unknown("%s: %s", what, unknown.What)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// GenerateResources implements Kyverno's generator.ContextInterface: objects are
// collected.
func (l *lookup) GenerateResources(namespace string, objects []map[string]any) error {
	for _, tree := range objects {
		whole, _ := integers(tree).(map[string]any)
		u := &unstructured.Unstructured{Object: whole}
		if !u.IsList() {
			l.generate(u, namespace)
			continue
		}
		list, err := u.ToList()
		if err != nil {
			return fmt.Errorf("reading a list of objects: %w", err)
		}
		for i := range list.Items {
			l.generate(&list.Items[i], namespace)
		}
	}
	return nil
}

func (l *lookup) generate(u *unstructured.Unstructured, namespace string) {
	if meta, ok := u.Object["metadata"]; ok {
		if _, ok := meta.(map[string]any); !ok {
			u.Object["metadata"] = map[string]any{}
		}
	}
	u.SetNamespace(namespace)
	l.generated = append(l.generated, u.Object)
}

// integers returns a tree in which numbers without a fraction are integers, as
// the API server reads them.
func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = integers(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = integers(item)
		}
		return out
	case float64:
		if i := int64(v); float64(i) == v && v > -1<<53 && v < 1<<53 {
			return i
		}
	case int:
		return int64(v)
	}
	return v
}

// httpLookup is what policies ask services.
type httpLookup struct {
	*lookup
	bundle string // the authorities that services are trusted by
}

// Get implements Kyverno's http.ContextInterface.
func (h httpLookup) Get(url string, headers map[string]string) (any, error) {
	return h.answer("GET", url, nil, headers)
}

// Post implements Kyverno's http.ContextInterface.
func (h httpLookup) Post(url string, data any, headers map[string]string) (any, error) {
	body, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("writing what is sent: %w", err)
	}
	return h.answer("POST", url, append(body, '\n'), headers)
}

// Client implements Kyverno's http.ContextInterface.
func (h httpLookup) Client(bundle string) (http.ContextInterface, error) {
	return httpLookup{h.lookup, bundle}, nil
}

func (h httpLookup) answer(method, url string, body []byte, headers map[string]string) (any, error) {
	if h.told != nil {
		for _, key := range []string{method + ":" + url, url} {
			if answer, ok := h.told.HTTP[key]; ok {
				return answer, nil
			}
		}
	}
	call := service.Call{Method: method, URL: url, Body: body, CABundle: h.bundle}
	for name, value := range headers {
		call.Headers = append(call.Headers, service.Header{Name: name, Value: value})
	}
	before, _, _ := strings.Cut(url, "?")
	reply, err := service.Of(h.network()).Do(h.a.context(), call)
	if err != nil {
		return nil, h.outside("what "+before+" answers", err)
	}
	var said any
	if json.Unmarshal(reply.Body, &said) != nil {
		said = nil
	}
	if fields, ok := said.(map[string]any); ok {
		fields["statusCode"] = reply.Status
		return fields, nil
	}
	return map[string]any{"body": said, "statusCode": reply.Status}, nil
}
