// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"github.com/kyverno/sdk/extensions/cel/compiler"
	"github.com/kyverno/sdk/extensions/cel/libs/generator"
	"github.com/kyverno/sdk/extensions/cel/libs/globalcontext"
	"github.com/kyverno/sdk/extensions/cel/libs/http"
	"github.com/kyverno/sdk/extensions/cel/libs/imagedata"
	"github.com/kyverno/sdk/extensions/cel/libs/resource"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/cel/lazy"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// subject is what policies see of a request, made once for all of them.
type subject struct {
	object, old map[string]any
	request     map[string]any
	// namespace is the namespace of the object, where it is known to be one.
	namespace      map[string]any
	namespaceKnown bool
	userKnown      bool
	now            time.Time
	// unknown is the reason of the first value that could not be read.
	unknown string
	// attributes are what selects requests.
	attributes *attributes
	// secret says that values of the object must not be shown.
	secret bool
	// small says that all of it is no more than quickSize.
	small bool
}

type subjectKey struct{}

// subjectOf returns what policies see of a request.
func subjectOf(r *policy.Request) *subject {
	return policy.Once(r, subjectKey{}, func() *subject { return newSubject(r) })
}

func newSubject(r *policy.Request) *subject {
	s := &subject{userKnown: r.User != nil, now: r.Now, secret: isSecret(r)}
	if r.Object != nil {
		s.object, s.unknown = r.Tree(r.Object), r.Object.Root.FirstUnknown()
	}
	if r.Old != nil {
		s.old = r.Tree(r.Old)
		if s.unknown == "" {
			s.unknown = r.Old.Root.FirstUnknown()
		}
	}
	s.attributes = newAttributes(r, s)
	s.findNamespace(r)
	s.request = s.newRequest()
	s.small = sizeOf(s.request, quickSize)+sizeOf(s.namespace, quickSize) <= quickSize
	return s
}

// isSecret says whether a request is about a Secret.
func isSecret(r *policy.Request) bool {
	return r.Subject().GroupKind() == object.GroupKind{Kind: "Secret"}
}

// findNamespace looks up the namespace of the object.
func (s *subject) findNamespace(r *policy.Request) {
	o := r.Subject()
	switch {
	case o.GroupKind() == object.GroupKind{Kind: "Namespace"}:
		s.namespace, s.namespaceKnown = s.object, true
	case o.Namespace == "":
		s.namespaceKnown = true
	default:
		n, known := r.Namespace(o.Namespace)
		s.namespaceKnown = known
		if n != nil {
			s.namespace = r.Tree(n)
		}
	}
}

// newRequest returns the request as admission reviews have it.
func (s *subject) newRequest() map[string]any {
	a := s.attributes
	kind := map[string]any{"group": a.kind.Group, "version": a.kind.Version, "kind": a.kind.Kind}
	plural := map[string]any{"group": a.resource.Group, "version": a.resource.Version, "resource": a.resource.Resource}
	out := map[string]any{
		"uid": "", "kind": kind, "resource": plural, "requestKind": kind, "requestResource": plural,
		"operation": string(a.operation), "userInfo": userInfo(a.user), "dryRun": a.dryRun, "options": nil,
		"object": nil, "oldObject": nil,
	}
	if s.object != nil {
		out["object"] = s.object
	}
	if s.old != nil {
		out["oldObject"] = s.old
	}
	for key, value := range map[string]string{"name": a.name, "namespace": a.namespace, "subResource": a.subresource, "requestSubResource": a.subresource} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

func userInfo(u *authenticationv1.UserInfo) map[string]any {
	out := map[string]any{}
	if u == nil {
		return out
	}
	if u.Username != "" {
		out["username"] = u.Username
	}
	if u.UID != "" {
		out["uid"] = u.UID
	}
	if len(u.Groups) > 0 {
		out["groups"] = toAny(u.Groups)
	}
	if len(u.Extra) > 0 {
		extra := map[string]any{}
		for k, v := range u.Extra {
			extra[k] = toAny(v)
		}
		out["extra"] = extra
	}
	return out
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// activation is what the expressions of one policy see in one evaluation. It is
// not safe for concurrent use.
type activation struct {
	*subject
	// current is the object as mutations have left it so far.
	current   map[string]any
	changed   bool
	variables *lazy.MapValue
	exemption *Exemption
	lookup    *lookup
	extra     map[string]any  // what policies of one type see beside
	mayBe     bool            // chance may decide
	asked     string          // what was looked up and is not known
	ctx       context.Context //nolint:containedctx // what expressions call is given none
	held      int             // how large the values are that were made
}

var _ interpreter.Activation = (*activation)(nil)

// context is that of the evaluation.
func (a *activation) context() context.Context {
	if a.ctx == nil {
		return context.Background()
	}
	return a.ctx
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case compiler.ObjectKey:
		return orEmpty(a.current), true
	case compiler.OldObjectKey:
		if a.request == nil {
			return nil, true // a document that is no object has no past
		}
		return orEmpty(a.old), true
	case compiler.RequestKey:
		return orNull(a.request), true
	case compiler.NamespaceObjectKey:
		return orNull(a.namespace), true
	case compiler.VariablesKey:
		return a.variables, a.variables != nil
	case compiler.ExceptionsKey:
		return a.exemption, true
	case nowKey:
		return a.now, true
	case compiler.ResourceKey:
		return resource.Context{ContextInterface: a.lookup}, true
	case compiler.GlobalContextKey:
		return globalcontext.Context{ContextInterface: a.lookup}, true
	case compiler.HTTPKey:
		return http.Context{ContextInterface: httpLookup{lookup: a.lookup}}, true
	case compiler.ImageDataKey:
		return imagedata.Context{ContextInterface: a.lookup}, true
	case compiler.GeneratorKey:
		return generator.Context{ContextInterface: a.lookup}, true
	}
	v, ok := a.extra[name]
	return v, ok
}

func orNull(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}

// orEmpty returns an object; an empty one where there is none, as expressions in
// Kyverno see it.
func orEmpty(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// lacks names what an expression reads and is not known.
func (a *activation) lacks(r reads) string {
	switch {
	case r.user && !a.userKnown:
		return "who asks is not known"
	case r.namespace && !a.namespaceKnown:
		return "the namespace " + a.attributes.namespace + " is not known"
	case (r.namespace || r.place) && a.attributes.unplaced != "" && !a.mayBe:
		return a.attributes.unplaced
	case r.now && a.now.IsZero():
		return "the time of the request is not known"
	case r.random && !a.mayBe:
		return "the policy makes a random value"
	}
	return ""
}

// bind makes the variables of a policy known to its expressions. Each is
// evaluated when it is first read.
func (a *activation) bind(ctx context.Context, names []string, variables map[string]*expression) {
	a.variables = lazy.NewMapValue(compiler.VariablesType)
	for _, name := range names {
		e := variables[name]
		a.variables.Append(name, func(*lazy.MapValue) ref.Val {
			out, err := e.eval(ctx, a)
			if err != nil {
				return types.WrapErr(err)
			}
			return out
		})
	}
}
