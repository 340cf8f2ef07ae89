// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/kyverno/sdk/extensions/cel/libs/http"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
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

// plurals are what the API may call the resource of a kind, the likeliest first:
// gateways is not what the rule makes of Gateway.
func plurals(kind string) []string {
	guess, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Kind: kind})
	lower := strings.ToLower(kind)
	out := []string{guess.Resource}
	for _, p := range []string{lower + "s", lower + "es", lower} {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// kindOf returns the kind of a resource among those that there are.
func (l *lookup) kindOf(group, plural string) (gk object.GroupKind, found, known bool) {
	if l.request == nil || l.request.Cluster == nil {
		return gk, false, false
	}
	kinds, all := l.request.Cluster.Kinds()
	for _, k := range kinds {
		if k.Group == group && slices.Contains(plurals(k.Kind), plural) {
			return k, true, true
		}
	}
	return gk, false, all
}

// objects returns the objects of a resource. All says that there are no others.
func (l *lookup) objects(apiVersion, plural, namespace string) (objects []*object.Object, all bool, err error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, false, err
	}
	plural, _, _ = strings.Cut(plural, "/")
	gk, found, known := l.kindOf(gv.Group, plural)
	switch {
	case found:
		objects, all = l.request.Cluster.Objects(gk, namespace)
	case known:
		all = true
	}
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
	gvr := gv.WithResource(plurals(kind)[0])
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
	return nil, l.unknown("what its registry says of the image %s is not known", image)
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

// httpLookup is what policies ask over the network.
type httpLookup struct{ *lookup }

// Get implements Kyverno's http.ContextInterface.
func (h httpLookup) Get(url string, _ map[string]string) (any, error) { return h.answer("GET", url) }

// Post implements Kyverno's http.ContextInterface.
func (h httpLookup) Post(url string, _ any, _ map[string]string) (any, error) {
	return h.answer("POST", url)
}

// Client implements Kyverno's http.ContextInterface.
func (h httpLookup) Client(string) (http.ContextInterface, error) { return h, nil }

func (h httpLookup) answer(method, url string) (any, error) {
	if h.told != nil {
		for _, key := range []string{method + ":" + url, url} {
			if answer, ok := h.told.HTTP[key]; ok {
				return answer, nil
			}
		}
	}
	host, _, _ := strings.Cut(url, "?")
	return nil, h.unknown("what %s answers is not known, and is not asked", host)
}
