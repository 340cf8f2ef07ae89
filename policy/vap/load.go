// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// group is the API group of admission policies.
const group = "admissionregistration.k8s.io"

// Handles says whether documents of a kind are read here: policies and their
// bindings.
func Handles(gk object.GroupKind) bool {
	return gk.Group == group && (strings.HasSuffix(gk.Kind, "AdmissionPolicy") || strings.HasSuffix(gk.Kind, "AdmissionPolicyBinding")) &&
		(strings.HasPrefix(gk.Kind, "Validating") || strings.HasPrefix(gk.Kind, "Mutating"))
}

// Load makes rules of policies and their bindings. Documents of other kinds are
// parameters that bindings may refer to.
//
// A policy is one rule, vap.NAME, for the bindings with its strictest action; for
// those with a milder one there is another, vap.NAME.warn or vap.NAME.audit, so
// that a binding that only warns of one namespace denies nothing there. A policy
// without bindings, which an API server ignores, is judged as if one put it in
// force for everything, with Deny.
func Load(docs []*object.Object, opts policy.Options) *policy.Set {
	l := &loader{set: &policy.Set{}, limits: limits{cmp.Or(opts.Timeout, time.Second)}, bindings: map[bindingKey][]*bound{}, coverage: opts.Coverage}
	var validating, mutating, params []*object.Object
	for _, o := range docs {
		switch kind := o.Kind; {
		case !Handles(o.GroupKind()):
			params = append(params, o)
		case strings.HasSuffix(kind, "Binding"):
			l.binding(o)
		case strings.HasPrefix(kind, "Validating"):
			validating = append(validating, o)
		default:
			mutating = append(mutating, o)
		}
	}
	l.params = params
	l.each(validating, l.validating)
	l.each(mutating, l.mutating)
	l.unused()
	return l.set
}

// each reads policies, several at a time, and puts them in force in the order of
// their names.
func (l *loader) each(docs []*object.Object, read func(*object.Object) (putInForce func(), err error)) {
	slices.SortStableFunc(docs, func(a, b *object.Object) int { return cmp.Compare(a.Name, b.Name) })
	finish := make([]func(), len(docs))
	errs := make([]error, len(docs))
	var wait sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, o := range docs {
		if i > 0 && docs[i-1].Name == o.Name {
			errs[i] = errors.New("a policy of this name was read before; this one is left out")
			continue
		}
		free <- struct{}{}
		wait.Go(func() {
			finish[i], errs[i] = read(o)
			<-free
		})
	}
	wait.Wait()
	for i, o := range docs {
		if errs[i] == nil {
			finish[i]()
			continue
		}
		for _, err := range single(errs[i]) {
			l.problem(o, culprit(o.Root, err), err)
		}
	}
}

// single returns the errors of which one is made.
func single(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// culprit returns where the expression stands that an error is about; nil where it
// is about none.
func culprit(root *object.Node, err error) object.Path {
	var wrong *expressionError
	if !errors.As(err, &wrong) {
		return nil
	}
	var walk func(n *object.Node, at object.Path) object.Path
	walk = func(n *object.Node, at object.Path) object.Path {
		switch n.Kind {
		case object.String:
			if n.Text == wrong.source {
				return at
			}
		case object.Map:
			for i := range n.Fields {
				if found := walk(n.Fields[i].Value, at.Fields(n.Fields[i].Key)); found != nil {
					return found
				}
			}
		case object.List:
			for i, item := range n.Items {
				if found := walk(item, at.Append(object.ItemStep(n, i))); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return walk(root, nil)
}

// limits bound one rule over one object.
type limits struct{ timeout time.Duration }

type bindingKey struct{ kind, policy string }

// bound is a binding of a policy. The one without a document stands for a policy
// that has none.
type bound struct {
	name    string
	doc     *object.Object
	about   *criteria
	ref     *paramRef
	action  v1alpha1.Action
	actions []admissionregistrationv1.ValidationAction
	used    bool
}

type loader struct {
	set      *policy.Set
	bindings map[bindingKey][]*bound
	all      []*bound
	params   []*object.Object
	coverage *policy.Coverage
	limits
}

// problem notes that a document, or a place in it, is not valid.
func (l *loader) problem(o *object.Object, path object.Path, err error) {
	l.set.Problems = append(l.set.Problems, policy.Problem{Object: o.Ref, Position: o.Position(path), Message: err.Error()})
}

// maxSize is the largest policy that an API server stores, in bytes.
const maxSize = 1536 << 10

// decode reads a document. The versions v1, v1beta1 and v1alpha1 have the same
// fields.
func decode(o *object.Object, into any) error {
	if o.Root.HasUnknown() {
		return fmt.Errorf("a part of it is not known: %s", o.Root.FirstUnknown())
	}
	if _, version, _ := strings.Cut(o.APIVersion, "/"); version != "v1" && version != "v1beta1" && version != "v1alpha1" {
		return fmt.Errorf("apiVersion %s is not one of v1, v1beta1 and v1alpha1", o.APIVersion)
	}
	text, err := json.Marshal(o.Root.Any())
	if err != nil {
		return fmt.Errorf("writing it as JSON: %w", err)
	}
	if len(text) > maxSize {
		return fmt.Errorf("it has %d bytes; an API server stores no more than %d", len(text), maxSize)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("reading it: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// binding reads a binding.
func (l *loader) binding(o *object.Object) {
	b, policyName, err := newBinding(o)
	if err != nil {
		l.problem(o, nil, err)
		return
	}
	key := bindingKey{strings.TrimSuffix(o.Kind, "Binding"), policyName}
	l.bindings[key] = append(l.bindings[key], b)
	l.all = append(l.all, b)
}

func newBinding(o *object.Object) (*bound, string, error) {
	b := &bound{name: o.Name, doc: o, action: v1alpha1.Deny}
	var name string
	var match *admissionregistrationv1.MatchResources
	var ref *admissionregistrationv1.ParamRef
	if strings.HasPrefix(o.Kind, "Validating") {
		var doc admissionregistrationv1.ValidatingAdmissionPolicyBinding
		if err := decode(o, &doc); err != nil {
			return nil, "", err
		}
		name, match, ref, b.actions = doc.Spec.PolicyName, doc.Spec.MatchResources, doc.Spec.ParamRef, doc.Spec.ValidationActions
		if err := checkActions(b.actions); err != nil {
			return nil, "", err
		}
		b.action = strictest(b.actions)
	} else {
		var doc admissionregistrationv1.MutatingAdmissionPolicyBinding
		if err := decode(o, &doc); err != nil {
			return nil, "", err
		}
		name, match, ref = doc.Spec.PolicyName, doc.Spec.MatchResources, doc.Spec.ParamRef
	}
	if name == "" {
		return nil, "", errors.New("spec.policyName is not set")
	}
	var err error
	if b.about, err = newCriteria(match); err != nil {
		return nil, "", fmt.Errorf("spec.matchResources: %w", err)
	}
	if match != nil {
		if err := checkRules(slices.Concat(match.ResourceRules, match.ExcludeResourceRules)); err != nil {
			return nil, "", fmt.Errorf("spec.matchResources: %w", err)
		}
	}
	if b.ref, err = newParamRef(ref); err != nil {
		return nil, "", fmt.Errorf("spec.%w", err)
	}
	return b, name, nil
}

// checkActions says what is wrong with the actions of a binding.
func checkActions(actions []admissionregistrationv1.ValidationAction) error {
	if len(actions) == 0 {
		return errors.New("spec.validationActions is empty; want Deny, Warn or Audit")
	}
	for i, a := range actions {
		if a != admissionregistrationv1.Deny && a != admissionregistrationv1.Warn && a != admissionregistrationv1.Audit {
			return fmt.Errorf("spec.validationActions: unknown action %q; want Deny, Warn or Audit", a)
		}
		if slices.Contains(actions[:i], a) {
			return fmt.Errorf("spec.validationActions: %s is there twice", a)
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		return errors.New("spec.validationActions: Deny and Warn must not both be there")
	}
	return nil
}

// strictest returns the action of a binding that matters most.
func strictest(actions []admissionregistrationv1.ValidationAction) v1alpha1.Action {
	switch {
	case slices.Contains(actions, admissionregistrationv1.Deny):
		return v1alpha1.Deny
	case slices.Contains(actions, admissionregistrationv1.Warn):
		return v1alpha1.Warn
	}
	return v1alpha1.Audit
}

// checkRules says what is wrong with rules about resources.
func checkRules(rules []admissionregistrationv1.NamedRuleWithOperations) error {
	for i, r := range rules {
		switch {
		case len(r.APIGroups) == 0 || len(r.APIVersions) == 0 || len(r.Resources) == 0 || len(r.Operations) == 0:
			return fmt.Errorf("rule %d: apiGroups, apiVersions, resources and operations must all be set", i)
		case r.Scope != nil && !slices.Contains([]admissionregistrationv1.ScopeType{admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope}, *r.Scope):
			return fmt.Errorf("rule %d: unknown scope %q", i, *r.Scope)
		}
	}
	return nil
}

// spec is what both kinds of policies have in common.
type spec struct {
	doc        *object.Object
	meta       *metav1.ObjectMeta
	match      *admissionregistrationv1.MatchResources
	paramKind  *admissionregistrationv1.ParamKind
	failure    *admissionregistrationv1.FailurePolicyType
	conditions []admissionregistrationv1.MatchCondition
}

// check says what is wrong with a policy beside its expressions.
func (s *spec) check() error {
	switch {
	case s.match == nil || len(s.match.ResourceRules) == 0:
		return errors.New("spec.matchConstraints.resourceRules is empty: the policy would be about nothing")
	case s.match.MatchPolicy != nil && *s.match.MatchPolicy != admissionregistrationv1.Exact && *s.match.MatchPolicy != admissionregistrationv1.Equivalent:
		return fmt.Errorf("spec.matchConstraints.matchPolicy: unknown value %q; want Exact or Equivalent", *s.match.MatchPolicy)
	case s.failure != nil && *s.failure != admissionregistrationv1.Fail && *s.failure != admissionregistrationv1.Ignore:
		return fmt.Errorf("spec.failurePolicy: unknown value %q; want Fail or Ignore", *s.failure)
	case s.paramKind != nil && (s.paramKind.APIVersion == "" || s.paramKind.Kind == ""):
		return errors.New("spec.paramKind: apiVersion and kind must both be set")
	}
	if s.paramKind != nil {
		if _, err := schema.ParseGroupVersion(s.paramKind.APIVersion); err != nil {
			return fmt.Errorf("spec.paramKind: %w", err)
		}
	}
	seen := map[string]bool{}
	for _, c := range s.conditions {
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("spec.matchConditions: the name %q is empty or there twice", c.Name)
		}
		seen[c.Name] = true
	}
	if err := checkRules(slices.Concat(s.match.ResourceRules, s.match.ExcludeResourceRules)); err != nil {
		return fmt.Errorf("spec.matchConstraints: %w", err)
	}
	return nil
}

// params returns where the parameters of a policy come from.
func (l *loader) source(k *admissionregistrationv1.ParamKind) *paramSource {
	if k == nil {
		return nil
	}
	s := &paramSource{kind: schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)}
	for _, o := range l.params {
		if gk := o.GroupKind(); gk.Group == s.kind.Group && gk.Kind == s.kind.Kind {
			s.documents = append(s.documents, o)
		}
	}
	return s
}

// bindingsOf returns the bindings of a policy, by their strictest action.
func (l *loader) bindingsOf(o *object.Object) map[v1alpha1.Action][]*bound {
	out := map[v1alpha1.Action][]*bound{}
	all := l.bindings[bindingKey{o.Kind, o.Name}]
	if len(all) == 0 {
		out[v1alpha1.Deny] = []*bound{{action: v1alpha1.Deny}}
	}
	slices.SortStableFunc(all, func(a, b *bound) int { return cmp.Compare(a.name, b.name) })
	for _, b := range all {
		b.used = true
		out[b.action] = append(out[b.action], b)
	}
	return out
}

// unused reports bindings without a policy.
func (l *loader) unused() {
	for _, b := range l.all {
		if !b.used {
			l.problem(b.doc, object.Path(nil).Fields("spec", "policyName"),
				fmt.Errorf("the policy %q is not among what was read, or is not valid: the binding has no effect", b.doc.Root.At("spec", "policyName").Str()))
		}
	}
}

// info says what a rule is.
func (s *spec) info(action v1alpha1.Action, bindings []*bound, source *paramSource, about *criteria, c *compiled) policy.Info {
	i := policy.Info{
		Name: policy.Name(policy.VAP, s.doc.Name), Language: policy.VAP, Policy: s.doc.Ref, Title: s.annotation("title"), Topic: s.annotation("category"),
		Description: s.annotation("description"), Severity: v1alpha1.Medium, Action: action, FailurePolicy: v1alpha1.FailClosed,
		Position: s.doc.Position(nil), Remediation: s.annotation("remediation"),
	}
	if i.Title == "" {
		i.Title = s.doc.Name
	}
	switch level := v1alpha1.Severity(strings.ToLower(s.annotation("severity"))); level {
	case v1alpha1.Critical, v1alpha1.High, v1alpha1.Low:
		i.Severity = level
	case "info":
		i.Severity = v1alpha1.Low
	}
	if s.failure != nil && *s.failure == admissionregistrationv1.Ignore {
		i.FailurePolicy = v1alpha1.FailOpen
	}
	if unbound := bindings[0].doc == nil; unbound {
		i.Unbound = asIfBound(source)
	} else {
		i.Description = strings.TrimSpace(i.Description + " " + inForce(bindings))
	}
	i.Needs = needs(bindings, source, about, c)
	return i
}

// annotation returns what a policy says of itself where others say it, too.
func (s *spec) annotation(name string) string {
	return strings.TrimSpace(s.meta.Annotations["policies.kyverno.io/"+name])
}

// asIfBound says how a policy without a binding is judged.
func asIfBound(source *paramSource) string {
	const as = "no binding puts it in force, so that an API server ignores it; it is judged as if one did, for everything"
	if source == nil {
		return as
	}
	switch param, all := source.only(); {
	case param != nil:
		return fmt.Sprintf("%s, with the parameter %s %s", as, param.Kind, param.Name)
	case all == 0:
		return fmt.Sprintf("%s; what needs its parameter is unknown, since there is no %s among the policies", as, source.kind.Kind)
	default:
		return fmt.Sprintf("%s; what it is about is unknown, since no binding says which of %d objects of the kind %s is its parameter", as, all, source.kind.Kind)
	}
}

// inForce says which bindings put a policy in force.
func inForce(bindings []*bound) string {
	var names []string
	for _, b := range bindings {
		names = append(names, b.name)
	}
	return "In force through " + strings.Join(names, ", ") + "."
}

// needs says what a policy must know beside the object.
func needs(bindings []*bound, source *paramSource, about *criteria, c *compiled) policy.Needs {
	var n policy.Needs
	all := []*criteria{about}
	for _, b := range bindings {
		if b.about != nil {
			all = append(all, b.about)
		}
		if source != nil && b.ref != nil && len(n.Kinds) == 0 {
			n.Kinds = append(n.Kinds, object.GroupKind{Group: source.kind.Group, Kind: source.kind.Kind})
		}
	}
	custom := false
	for _, a := range all {
		n.Namespaces = n.Namespaces || !a.namespaces.Empty()
		for _, r := range a.resources.ResourceRules {
			custom = custom || slices.ContainsFunc(r.APIGroups, func(g string) bool { return g != "*" && !ownGroup(g) })
		}
	}
	if custom {
		n.Kinds = append(n.Kinds, object.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"})
	}
	for _, x := range c.everything() {
		n.Namespaces = n.Namespaces || x.reads.mentions("namespaceObject")
		n.User = n.User || x.reads.mentions("request", "userInfo")
		n.Authorizer = n.Authorizer || x.reads.mentions("authorizer")
	}
	return n
}

// everything are all expressions of a policy that has been compiled; those of
// variables count where they are used.
func (c *compiled) everything() []*expression {
	out := slices.Concat(c.conditions, c.checks, c.messages, c.annotations, c.patches)
	return slices.DeleteFunc(out, func(x *expression) bool { return x == nil })
}
