// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Review is a request as templates are given it. Constraints share one: it is
// safe for concurrent use.
type Review struct {
	Request *policy.Request
	// Literal says that the request is all there is and is taken as it is
	// written, as gator verify takes it: an operation or a user that it does not
	// name is empty, and an object without a namespace is in none.
	Literal bool
	// Generated says that the object was made by an expansion.
	Generated bool

	inventories *inventories
	namespace   func() (*object.Object, bool)
	labels      func() labels.Set
	term        func() *ast.Term
	unknown     func() string
	attributes  func() *celRequest
}

// NewReview returns the review of a request, for constraints that share what is
// made of it.
func NewReview(r *policy.Request, literal bool) *Review {
	return newReview(r, literal, newInventories(r.Cluster, literal))
}

func newReview(r *policy.Request, literal bool, in *inventories) *Review {
	out := &Review{Request: r, Literal: literal, inventories: in}
	out.namespace = sync.OnceValues(out.findNamespace)
	out.labels = sync.OnceValue(func() labels.Set { return labelsOf(r.Subject()) })
	out.term = sync.OnceValue(out.newTerm)
	out.attributes = sync.OnceValue(out.newAttributes)
	out.unknown = sync.OnceValue(func() string {
		for _, o := range []*object.Object{r.Object, r.Old} {
			if o != nil && o.Root.HasUnknown() {
				return "not all values of the object are known: " + o.Root.FirstUnknown()
			}
		}
		return ""
	})
	return out
}

// operation returns what the request does.
func (r *Review) operation() policy.Operation {
	if r.Request.Operation == "" && !r.Literal {
		return policy.Create
	}
	return r.Request.Operation
}

// object returns what templates get as the object: that which is deleted, in a
// deletion.
func (r *Review) object() *object.Object {
	if r.operation() == policy.Delete {
		return r.Request.Old
	}
	return r.Request.Object
}

// findNamespace returns the namespace of the object: nil where it has none, and
// whether that is known.
func (r *Review) findNamespace() (*object.Object, bool) {
	o := r.Request.Subject()
	switch {
	case o.Namespace != "":
		n, known := r.Request.Namespace(o.Namespace)
		if n != nil && n.Root.HasUnknown() {
			return nil, false
		}
		return n, known || r.Literal
	case r.Literal:
		return nil, true
	}
	return nil, !unplaced(o)
}

// namespaceKnown says whether the namespace of the object is known.
func (r *Review) namespaceKnown() bool {
	_, known := r.namespace()
	return known
}

// namespaceName returns what the namespace is called, for people.
func (r *Review) namespaceName() string {
	if name := r.Request.Subject().Namespace; name != "" {
		return name
	}
	return "of the object"
}

// newTerm returns the review as Rego gets it.
func (r *Review) newTerm() *ast.Term {
	o := r.Request.Subject()
	group, version := o.Group(), versionOf(o)
	pairs := [][2]*ast.Term{
		pair("uid", ast.String("")),
		pair("kind", texts("group", group, "version", version, "kind", o.Kind)),
		pair("resource", r.resource(group, version)),
		pair("operation", ast.String(r.operation())),
		pair("userInfo", userValue(r.Request.User)),
		pair("object", objectValue(r.object())),
		pair("oldObject", objectValue(r.Request.Old)),
		pair("options", ast.Null{}),
	}
	optional := func(key, v string) {
		if v != "" {
			pairs = append(pairs, pair(key, ast.String(v)))
		}
	}
	optional("name", o.Root.At("metadata", "name").Str())
	optional("namespace", o.Namespace)
	optional("subResource", r.Request.Subresource)
	if !r.Literal {
		pairs = append(pairs, pair("dryRun", ast.Boolean(r.Request.DryRun)))
	}
	namespace, _ := r.namespace()
	if r.Literal {
		namespace = nil
	}
	pairs = append(pairs, pair("namespaceObject", objectValue(namespace)))
	if namespace != nil {
		pairs = append(pairs, pair("_unstable", ast.NewObject(pair("namespace", objectValue(namespace)))))
	}
	return ast.NewTerm(ast.NewObject(pairs...))
}

func (r *Review) resource(group, version string) ast.Value {
	if r.Request.Resource == "" {
		group, version = "", ""
	}
	return texts("group", group, "version", version, "resource", r.Request.Resource)
}

func pair(key string, v ast.Value) [2]*ast.Term {
	return [2]*ast.Term{ast.InternedTerm(key), ast.NewTerm(v)}
}

// texts returns an object of strings: key, value, key, value.
func texts(s ...string) ast.Value {
	var pairs [][2]*ast.Term
	for i := 0; i+1 < len(s); i += 2 {
		pairs = append(pairs, pair(s[i], ast.String(s[i+1])))
	}
	return ast.NewObject(pairs...)
}

// userValue returns who asks, without what is empty.
func userValue(u *authenticationv1.UserInfo) ast.Value {
	var pairs [][2]*ast.Term
	if u == nil {
		return ast.NewObject()
	}
	if u.Username != "" {
		pairs = append(pairs, pair("username", ast.String(u.Username)))
	}
	if u.UID != "" {
		pairs = append(pairs, pair("uid", ast.String(u.UID)))
	}
	list := func(all []string) ast.Value {
		var terms []*ast.Term
		for _, s := range all {
			terms = append(terms, ast.StringTerm(s))
		}
		return ast.NewArray(terms...)
	}
	if len(u.Groups) > 0 {
		pairs = append(pairs, pair("groups", list(u.Groups)))
	}
	if len(u.Extra) > 0 {
		var extra [][2]*ast.Term
		for key, values := range u.Extra {
			extra = append(extra, pair(key, list(values)))
		}
		pairs = append(pairs, pair("extra", ast.NewObject(extra...)))
	}
	return ast.NewObject(pairs...)
}

// objectValue returns an object as Rego gets it: in its namespace, if that is
// known from elsewhere than the object.
func objectValue(o *object.Object) ast.Value {
	if o == nil {
		return ast.Null{}
	}
	root := o.Root
	if o.Namespace != "" && root.At("metadata", "namespace") == nil {
		root = placed(root, o.Namespace)
	}
	return nodeValue(root)
}

// placed returns the tree of an object with a namespace.
func placed(root *object.Node, namespace string) *object.Node {
	out := *root
	out.Fields = nil
	meta := &object.Node{Kind: object.Map}
	for _, f := range root.Fields {
		if f.Key != "metadata" {
			out.Fields = append(out.Fields, f)
		} else if f.Value.Kind == object.Map {
			*meta = *f.Value
		}
	}
	meta.Fields = append(without(meta.Fields, "namespace"), object.Field{Key: "namespace", Value: object.NewString(namespace)})
	out.Fields = append(out.Fields, object.Field{Key: "metadata", Value: meta})
	return &out
}

func without(fields []object.Field, keys ...string) []object.Field {
	var out []object.Field
next:
	for _, f := range fields {
		for _, key := range keys {
			if f.Key == key {
				continue next
			}
		}
		out = append(out, f)
	}
	return out
}

// nodeValue returns a value as Rego has it.
func nodeValue(n *object.Node) ast.Value {
	switch n.Kind {
	case object.Bool:
		return ast.Boolean(n.Bool())
	case object.Int:
		return ast.Number(strconv.FormatInt(n.Int(), 10))
	case object.Float:
		return ast.Number(strconv.FormatFloat(n.Float(), 'g', -1, 64))
	case object.String:
		return ast.String(n.Text)
	case object.List:
		terms := make([]*ast.Term, len(n.Items))
		for i, item := range n.Items {
			terms[i] = nodeTerm(item)
		}
		return ast.NewArray(terms...)
	case object.Map:
		pairs := make([][2]*ast.Term, len(n.Fields))
		for i := range n.Fields {
			pairs[i] = [2]*ast.Term{ast.InternedTerm(n.Fields[i].Key), nodeTerm(n.Fields[i].Value)}
		}
		return ast.NewObject(pairs...)
	}
	return ast.Null{}
}

func nodeTerm(n *object.Node) *ast.Term {
	switch n.Kind {
	case object.Bool:
		return ast.InternedTerm(n.Bool())
	case object.Int:
		return ast.InternedTerm(int(n.Int()))
	case object.String:
		return ast.InternedTerm(n.Text)
	}
	return ast.NewTerm(nodeValue(n))
}

// labelsOf returns the labels of an object.
func labelsOf(o *object.Object) labels.Set {
	out := labels.Set{}
	if o == nil {
		return out
	}
	if n := o.Root.At("metadata", "labels"); n != nil && n.Kind == object.Map {
		for _, f := range n.Fields {
			if f.Value.Kind == object.String {
				out[f.Key] = f.Value.Text
			}
		}
	}
	return out
}

// versionOf returns the version of an object's API.
func versionOf(o *object.Object) string {
	return strings.TrimPrefix(strings.TrimPrefix(o.APIVersion, o.Group()), "/")
}
