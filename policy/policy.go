// SPDX-License-Identifier: Apache-2.0

// Package policy is what a policy of another language is to Sconce: rules that
// judge a request, as a control judges an object. ValidatingAdmissionPolicy,
// Kyverno, Gatekeeper and plain Rego each have a package below this folder that
// reads their documents and makes such rules of them.
//
// Rules are pure: they read no file, no clock and no network. What a rule would
// have to look up and is not told makes its verdict unknown, never a pass.
package policy

import (
	"context"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// Rule is one rule of a policy. It is safe for concurrent use.
type Rule interface {
	// Info says what the rule is. It returns the same value each time.
	Info() *Info
	// Matches says whether the rule may be about objects of a kind. It is asked
	// once for each kind, so that most rules are never run over most objects. A
	// rule that may be about any kind returns true.
	Matches(gk object.GroupKind) bool
	// Judge judges a request about an object of a kind that the rule matches.
	// Applies is false where the rule turns out not to be about it: a selector,
	// an operation, a precondition. Findings have paths; their positions are
	// the caller's business.
	Judge(ctx context.Context, r *Request) (v control.Verdict, applies bool)
}

// Mutator is a rule that changes objects.
type Mutator interface {
	Info() *Info
	Matches(gk object.GroupKind) bool
	// Mutate returns the object as the rule would leave it, without the unknown;
	// nil where it leaves it as it is. The verdict is unknown, with a finding
	// that says why, where it cannot be worked out.
	Mutate(ctx context.Context, r *Request) (changed *object.Node, v control.Verdict, applies bool)
}

// Language is what a policy is written in.
type Language string

// The languages. The first word of a rule's name is the language's.
const (
	VAP        Language = "vap"        // ValidatingAdmissionPolicy, MutatingAdmissionPolicy
	Kyverno    Language = "kyverno"    // ClusterPolicy, Policy, and the types of policies.kyverno.io
	Gatekeeper Language = "gatekeeper" // ConstraintTemplates and their Constraints
	Rego       Language = "rego"       // packages with deny, warn or violation
)

// Info is what a rule says of itself.
type Info struct {
	// Name tells the rule from all others: see Name.
	Name     string
	Language Language
	// Policy is the document, or the package, that the rule stands in.
	Policy object.Ref
	// Title, Description and Remediation are for people. Title is never empty.
	Title, Description, Remediation string
	// Topic is the category that the policy names; empty if it names none.
	Topic    string
	Severity v1alpha1.Severity // medium where the policy names none
	// Action is what the policy itself asks for where it fails; FailurePolicy
	// what it asks for where it cannot be evaluated.
	Action        v1alpha1.Action
	FailurePolicy v1alpha1.FailurePolicy
	// Position is where the rule is written.
	Position object.Position
	// Needs is what it must know beside the request.
	Needs Needs
	// Unbound says how the rule is judged although nothing puts it in force, so
	// that it does nothing elsewhere; empty where something does.
	Unbound string
	// Unsupported says why the rule cannot be run. Its verdict on everything that
	// it may be about is unknown, with these words.
	Unsupported string
}

// Needs is what a rule must know beside the object that it judges.
type Needs struct {
	// Namespaces says that it looks at the namespace of the object.
	Namespaces bool
	// Kinds are other objects that it looks up: parameters, inventory; with Any in
	// the place of the group or the kind, those of every group, or every kind of a
	// group. AnyKind says that it may look up whatever there is.
	Kinds   []object.GroupKind
	AnyKind bool
	// Outside says that it asks what no object of the cluster tells: an address,
	// the global context.
	Outside bool
	// User says that its verdict depends on who asks, Authorizer on what they may
	// do.
	User, Authorizer bool
}

// Alone says whether the object alone decides.
func (n *Needs) Alone() bool {
	return !n.Namespaces && len(n.Kinds) == 0 && !n.AnyKind && !n.Authorizer
}

// Operation is what a request does.
type Operation string

// The operations.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Request is what rules judge. A scan asks as if each object were created, by
// nobody who is known.
type Request struct {
	// Object is what is created or updated, nil for a deletion. Old is what was
	// there, nil for a creation.
	Object, Old *object.Object
	Operation   Operation // Create where it is empty
	// Resource is the plural name; empty where it is not known. Group and Version
	// are those of the resource where what is sent to a subresource has others.
	Resource, Subresource string
	Group, Version        string
	// User is who asks; nil where it is not known.
	User   *authenticationv1.UserInfo
	DryRun bool
	// Now is the time of the request; zero where it is not to be known.
	Now time.Time
	// Cluster is what is known of other objects; nil for nothing.
	Cluster Cluster
	// Network is what may be asked outside; nil for nothing.
	Network *Network
	// Shared is what rules of one language make of the request once: see Once.
	shared sync.Map
}

// Subject is the object that the request is about: the new one, or the old one
// that is deleted.
func (r *Request) Subject() *object.Object {
	if r.Object != nil {
		return r.Object
	}
	return r.Old
}

// Once returns what make made of the request when it was first asked for under
// the key, so that rules share it. Keys are of types that packages keep to
// themselves. What it returns must not be changed.
func Once[T any](r *Request, key any, build func() T) T {
	once, _ := r.shared.LoadOrStore(key, &lazy[T]{})
	return once.(*lazy[T]).get(build)
}

type lazy[T any] struct {
	once  sync.Once
	value T
}

func (l *lazy[T]) get(build func() T) T {
	l.once.Do(func() { l.value = build() })
	return l.value
}

type treeKey struct{ o *object.Object }

// Tree returns an object of the request as maps and lists. It must not be
// changed.
func (r *Request) Tree(o *object.Object) map[string]any {
	return Once(r, treeKey{o}, func() map[string]any {
		tree, _ := o.Root.Any().(map[string]any)
		return tree
	})
}

// Cluster is what is known of other objects.
type Cluster interface {
	// Objects returns those of a kind, of one namespace or of all (""), in the
	// order of their names. All says that there are no others.
	Objects(gk object.GroupKind, namespace string) (objects []*object.Object, all bool)
	// Kinds returns the kinds, among those that are described, of which there are
	// objects: see Any. All says that there are no others.
	Kinds(of object.GroupKind) (kinds []object.GroupKind, all bool)
	// Can says whether somebody may do something, and whether that is known.
	Can(who *authenticationv1.UserInfo, what rbac.Request) (allowed, known bool)
}

// Namespace returns a namespace, and whether it is known that there is, or is
// not, one of the name.
func (r *Request) Namespace(name string) (namespace *object.Object, known bool) {
	if r.Cluster == nil {
		return nil, false
	}
	objects, all := r.Cluster.Objects(object.GroupKind{Kind: "Namespace"}, "")
	for _, o := range objects {
		if o.Name == name {
			return o, true
		}
	}
	return nil, all
}

// Options adjust how policies are read and run.
type Options struct {
	// Timeout bounds one rule over one object; a second where it is zero.
	Timeout time.Duration
	// Coverage notes what is run; nil where nobody wants to know.
	Coverage *Coverage
	// Data is what Rego finds below data.
	Data map[string]any
}

// Set is what became of documents.
type Set struct {
	Rules    []Rule
	Mutators []Mutator
	// Others are rules that judge nothing and change nothing that is judged.
	Others []Other
	// Problems are documents, or parts of them, that are no valid policy: they
	// are refused, with the reason.
	Problems []Problem
}

// Add adds another set.
func (s *Set) Add(o *Set) {
	s.Rules = append(s.Rules, o.Rules...)
	s.Mutators = append(s.Mutators, o.Mutators...)
	s.Others = append(s.Others, o.Others...)
	s.Problems = append(s.Problems, o.Problems...)
}

// Problem is why a document is no valid policy.
type Problem struct {
	Object   object.Ref
	Position object.Position
	Message  string
}

// Reader reads the documents of policies.
type Reader interface {
	// Handles says whether documents of a kind are its business.
	Handles(gk object.GroupKind) bool
	// Load makes rules of documents, and of sources of Rego by their files, all
	// together.
	Load(docs []*object.Object, modules map[string][]byte, opts Options) *Set
}

// Acting is implemented by rules whose action differs from object to object;
// Info().Action is the strictest of them then.
type Acting interface {
	// ActionFor returns what follows where the object of a request fails.
	ActionFor(r *Request) v1alpha1.Action
}

// Other is a rule of a policy that judges nothing.
type Other struct {
	Info *Info
	// Does says what it does elsewhere: "makes objects".
	Does string
}
