// SPDX-License-Identifier: Apache-2.0

// Package kyverno evaluates Kyverno's older policies: ClusterPolicy and Policy of
// kyverno.io, with PolicyExceptions. Each rule says what Kyverno's own engine
// would say of the same request; what that would look up and nobody has told
// (a registry, an API call, who asks) is unknown, never a pass.
package kyverno

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/podsecurity"
)

// Policy is a ClusterPolicy or a Policy that is ready to judge. It is safe for
// concurrent use.
type Policy struct {
	object.Ref
	Annotations, Labels map[string]string
	Spec                Spec
	// Rules are those that are run, in Kyverno's order: after the rules that are
	// written come those that were generated for the controllers of pods.
	Rules []*Rule
	// Exceptions are those that name the policy.
	Exceptions []*Exception
	// Object is the document.
	Object *object.Object

	// namespace is that of a Policy, "default" where it names none; empty for a
	// ClusterPolicy.
	namespace  string
	conditions *conditions
	// coverage notes what is run; nil where nobody wants to know.
	coverage *policy.Coverage
}

// Rule is one rule of a policy.
type Rule struct {
	RuleSpec
	// Of is the name of the rule that it was generated from; its own name where it
	// was written.
	Of       string
	Position object.Position
	// Unsupported says why the rule cannot be run; empty where it can.
	Unsupported string
	// invalid says that it is told as a problem already.
	invalid bool

	source object.Path
	// controllers are the kinds that a generated rule validates; nil for one that
	// was written.
	controllers    []string
	match, exclude *matcher
	check          check
	cel            *celCheck
	standard       *podsecurity.Standard
	// images are what verifyImages asks, where that is the same for all requests.
	images []*imageCheck
}

// Exception is a PolicyException.
type Exception struct {
	object.Ref
	Spec   ExceptionSpec
	Object *object.Object
	match  *matcher
}

// Status is what Kyverno says of a rule.
type Status string

// The statuses. None is that of a rule that is not about the request.
const (
	Pass  Status = "pass"
	Fail  Status = "fail"
	Warn  Status = "warn"
	Error Status = "error"
	Skip  Status = "skip"
	None  Status = ""
)

// The types of rules.
const (
	TypeValidate     = "Validation"
	TypeMutate       = "Mutation"
	TypeGenerate     = "Generation"
	TypeVerifyImages = "ImageVerify"
)

// Response is what a rule says of a request.
type Response struct {
	Policy, Rule string
	Type         string
	Status       Status
	Message      string
	// Path is the field that a failure is about.
	Path object.Path
	// Parts are what a failure consists of, where that is more than one thing.
	Parts []Part
	// Changed is the object as the rule leaves it, where the rule changes it;
	// changes of the rules of one policy add up. Generated are the objects that it
	// makes.
	Changed   map[string]any
	Generated []map[string]any
	// Unknown says what is not known and is needed; the status is Error then.
	Unknown string
	// Exceptions are the names of the PolicyExceptions that excuse the request.
	Exceptions []string
}

// Part is one of several things that a rule finds wrong.
type Part struct {
	Message string
	Path    object.Path
}

// EvaluateOptions are what a test gives beside the request.
type EvaluateOptions struct {
	// Variables are values by dotted names, as in request.operation or
	// myconfig.data.key. They stand beside what a rule would look up. An operation
	// that is given here shapes the request: the object is the old one too for an
	// UPDATE, and only the old one for a DELETE.
	Variables map[string]any
	// RuleVariables are those of single rules, by the names of rules as they are
	// written. Of ForEach, which has one value for each element, Kyverno takes the
	// first.
	RuleVariables map[string]map[string]any
	ForEach       map[string]map[string][]any
	// NamespaceLabels are the labels of the object's namespace.
	NamespaceLabels map[string]string
	// User, Roles and ClusterRoles are who asks.
	User                *authenticationv1.UserInfo
	Roles, ClusterRoles []string
	// Subresources are kinds whose objects are sent to a subresource.
	Subresources []Subresource
	// APICalls answer calls, by URL or METHOD:URL; GlobalContext holds entries of
	// the global context, those with projections as maps of them.
	APICalls      map[string]Answer
	GlobalContext map[string]any
	// Exceptions are looked at beside the policy's.
	Exceptions []*Exception
	// Sources are the objects that generate rules may copy.
	Sources []*object.Object
}

// Answer is what a call is answered with.
type Answer struct {
	Status int
	Body   any
}

// Subresource is a kind whose objects are sent to a subresource of another.
type Subresource struct {
	APIVersion, Kind   string // of the objects
	Parent, ParentKind string // the API version and the kind of the other
	Name               string // eviction
}

// Handles says whether the package reads documents of a kind.
func Handles(gk object.GroupKind) bool {
	if gk.Group != "kyverno.io" {
		return false
	}
	switch gk.Kind {
	case "ClusterPolicy", "Policy", "PolicyException", "ClusterCleanupPolicy", "CleanupPolicy":
		return true
	}
	return false
}
