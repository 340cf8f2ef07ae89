// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// pageSize is how many objects are asked for at once: as many as kubectl does.
// It bounds the memory that a kind takes, here and in the API server.
const pageSize = 500

var namespaceKind = object.GroupKind{Kind: "Namespace"}

// reader reads objects of one kind, in a namespace or in all of them.
type reader interface {
	list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error)
	watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	get(ctx context.Context, name string) (runtime.Object, error)
}

// reader returns how a kind is read: as protobuf where its Go types are linked,
// which costs the API server and this program a fraction of JSON.
func (c *Cluster) reader(k Kind, namespace string) (reader, error) {
	if !k.Namespaced {
		namespace = ""
	}
	if !c.recognized(k) {
		r := c.dynamic.Resource(k.gvr())
		if namespace == "" {
			return untyped{r}, nil
		}
		return untyped{r.Namespace(namespace)}, nil
	}
	gv := k.gvk().GroupVersion()
	config := *c.config
	config.GroupVersion = &gv
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(scheme.Scheme, scheme.Codecs).WithoutConversion()
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.ContentType = runtime.ContentTypeProtobuf
	if config.APIPath = "/apis"; k.Group == "" {
		config.APIPath = "/api"
	}
	client, err := rest.RESTClientForConfigAndClient(&config, c.http)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", k, err)
	}
	return &typed{client, k, namespace}, nil
}

// typed reads a kind into its Go types.
type typed struct {
	client    *rest.RESTClient
	kind      Kind
	namespace string
}

func (t *typed) request() *rest.Request {
	return t.client.Get().NamespaceIfScoped(t.namespace, t.namespace != "").Resource(t.kind.Resource)
}

func (t *typed) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	into, err := scheme.Scheme.New(t.kind.gvk().GroupVersion().WithKind(t.kind.Kind + "List"))
	if err != nil {
		return nil, err
	}
	return into, t.request().VersionedParams(&opts, scheme.ParameterCodec).Do(ctx).Into(into)
}

func (t *typed) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	return t.request().VersionedParams(&opts, scheme.ParameterCodec).Watch(ctx)
}

func (t *typed) get(ctx context.Context, name string) (runtime.Object, error) {
	into, err := scheme.Scheme.New(t.kind.gvk())
	if err != nil {
		return nil, err
	}
	return into, t.request().Name(name).Do(ctx).Into(into)
}

// untyped reads a kind as JSON.
type untyped struct {
	resource interface {
		List(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error)
		Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
		Get(ctx context.Context, name string, options metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error)
	}
}

func (u untyped) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	return u.resource.List(ctx, opts)
}

func (u untyped) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return u.resource.Watch(ctx, opts)
}

func (u untyped) get(ctx context.Context, name string) (runtime.Object, error) {
	return u.resource.Get(ctx, name, metav1.GetOptions{})
}

// page is one answer of the API server.
type page struct {
	objects         []Live
	resourceVersion string
	next            string // the token of the next page
}

// page reads a page of a kind.
func (c *Cluster) page(ctx context.Context, r reader, k Kind, token string) (*page, error) {
	var out *page
	err := c.try(ctx, func(ctx context.Context) error {
		list, err := r.list(ctx, metav1.ListOptions{Limit: pageSize, Continue: token})
		if err != nil {
			return err
		}
		m, err := meta.ListAccessor(list)
		if err != nil {
			return fmt.Errorf("the answer is no list: %w", err)
		}
		out = &page{resourceVersion: m.GetResourceVersion(), next: m.GetContinue()}
		return meta.EachListItem(list, func(o runtime.Object) error {
			live, err := c.live(k, o)
			if err == nil {
				out.objects = append(out.objects, live)
			}
			return err
		})
	})
	return out, err
}

// live makes an object of what was decoded.
func (c *Cluster) live(k Kind, o runtime.Object) (Live, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return Live{}, fmt.Errorf("an object without metadata: %w", err)
	}
	out := Live{UID: string(m.GetUID()), ResourceVersion: m.GetResourceVersion(), Generation: m.GetGeneration(), Managers: m.GetManagedFields()}
	m.SetManagedFields(nil)
	var root *object.Node
	if u, ok := o.(*unstructured.Unstructured); ok {
		root = object.FromAny(u.Object)
	} else {
		root = nodeOf(o)
	}
	root.Fields = withKind(root.Fields, k)
	out.Object = object.New(root, origin)
	return out, nil
}

// withKind puts apiVersion and kind before the other fields: objects of a typed
// list do not say them.
func withKind(fields []object.Field, k Kind) []object.Field {
	out := make([]object.Field, 0, len(fields)+2)
	out = append(out,
		object.Field{Key: "apiVersion", Value: object.NewString(k.gvk().GroupVersion().String())},
		object.Field{Key: "kind", Value: object.NewString(k.Kind)})
	for _, f := range fields {
		if f.Key != "apiVersion" && f.Key != "kind" {
			out = append(out, f)
		}
	}
	return out
}

// origin is where all objects of a cluster come from: no file.
var origin = &object.Origin{}

// each hands over the objects of a kind, a page at a time and each once, and
// returns the version from which changes of them can be followed.
//
// The API server forgets the state that pages are cut from after some minutes.
// Then it offers a token that goes on behind the same object in the newer state:
// what was there all the time is met once. Where it offers none the kind is read
// again from its beginning, and what was handed over is left out.
func (c *Cluster) each(ctx context.Context, r reader, k Kind, take func(Live)) (string, error) {
	seen := map[string]bool{}
	token, first := "", ""
	for restarts, stuck := 0, 0; ; {
		p, err := c.page(ctx, r, k, token)
		if err != nil && token != "" && expired(err) {
			var again bool
			if token, again = inconsistent(err); again {
				stuck++
			} else {
				restarts++
			}
			if forgot := max(restarts, stuck); forgot > maxForgotten {
				return "", fmt.Errorf("the API server forgot the state that it was reading %d times, so that the end was never reached: %w", forgot, err)
			}
			continue
		}
		if err != nil {
			return "", err
		}
		stuck = 0
		for _, o := range p.objects {
			if key := o.key(); !seen[key] {
				seen[key] = true
				take(o)
			}
		}
		if first == "" {
			first = p.resourceVersion
		}
		if token = p.next; token == "" {
			return first, nil
		}
	}
}

// maxForgotten is how often the API server may forget the state that pages are
// cut from: in all where the kind is then read again, and else before a page.
const maxForgotten = 3

// key tells an object from all others of its kind.
func (l *Live) key() string {
	if l.UID != "" {
		return l.UID
	}
	return l.Namespace + "/" + l.Name
}

// inconsistent returns the token that the API server offers in place of one
// that has expired.
func inconsistent(err error) (token string, ok bool) {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		token = status.Status().ListMeta.Continue
	}
	return token, token != ""
}

// Units returns a unit for each kind: of all namespaces, or of one if it is
// named. Of kinds that are in no namespace only that Namespace itself is read
// then, if it is wanted.
//
// The problems that came up before are told first.
func (c *Cluster) Units(kinds []Kind, namespace string, before ...verdict.Problem) []snapshot.Unit {
	out := []snapshot.Unit{problems(before)}
	for _, k := range kinds {
		if namespace == "" || k.Namespaced || k.GroupKind == namespaceKind {
			out = append(out, &unit{c, k, namespace})
		}
	}
	return out
}

// unit is a kind of a cluster.
type unit struct {
	cluster   *Cluster
	kind      Kind
	namespace string
}

// OwnersFirst implements snapshot.OwnersFirst: Kinds are ordered so.
func (u *unit) OwnersFirst() bool { return true }

// Read implements snapshot.Unit.
func (u *unit) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	doing := "listing"
	r, err := u.cluster.reader(u.kind, u.namespace)
	switch {
	case err != nil:
	case u.namespace != "" && !u.kind.Namespaced:
		doing = "getting"
		err = u.one(ctx, r, sink)
	default:
		_, err = u.cluster.each(ctx, r, u.kind, func(o Live) { sink.Object(o.Object) })
	}
	if err != nil {
		sink.Problem(u.cluster.refused(doing, u.kind, u.namespace, err))
	}
	return snapshot.Tally{}
}

// one reads the Namespace that was asked for.
func (u *unit) one(ctx context.Context, r reader, sink snapshot.Sink) error {
	return u.cluster.try(ctx, func(ctx context.Context) error {
		o, err := r.get(ctx, u.namespace)
		if err != nil {
			return err
		}
		live, err := u.cluster.live(u.kind, o)
		if err == nil {
			sink.Object(live.Object)
		}
		return err
	})
}

// problems yields what was found wrong before anything was read.
type problems []verdict.Problem

// Read implements snapshot.Unit.
func (p problems) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for _, problem := range p {
		sink.Problem(problem)
	}
	return snapshot.Tally{}
}
