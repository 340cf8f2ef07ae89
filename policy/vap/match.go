// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// criteria say what a policy or a binding is about.
type criteria struct {
	resources         admissionregistrationv1.MatchResources
	namespaces, these labels.Selector
	// names says that some rule is about objects of certain names, scopes that
	// one is about those in namespaces, or not.
	names, scopes bool
	// answers are what was said of requests before: see match.
	answers *sync.Map // question -> *answer
}

// newCriteria reads what a policy or binding is about; nil is everything.
func newCriteria(m *admissionregistrationv1.MatchResources) (*criteria, error) {
	if m == nil {
		return nil, nil
	}
	c := &criteria{resources: *m.DeepCopy(), answers: &sync.Map{}}
	defaultMatch(&c.resources)
	var err error
	if c.namespaces, err = metav1.LabelSelectorAsSelector(c.resources.NamespaceSelector); err != nil {
		return nil, fmt.Errorf("namespaceSelector: %w", err)
	}
	if c.these, err = metav1.LabelSelectorAsSelector(c.resources.ObjectSelector); err != nil {
		return nil, fmt.Errorf("objectSelector: %w", err)
	}
	for _, r := range slices.Concat(c.resources.ResourceRules, c.resources.ExcludeResourceRules) {
		c.names = c.names || len(r.ResourceNames) > 0
		c.scopes = c.scopes || r.Scope != nil && *r.Scope != admissionregistrationv1.AllScopes
	}
	return c, nil
}

// GetParsedNamespaceSelector implements matching.MatchCriteria.
func (c *criteria) GetParsedNamespaceSelector() (labels.Selector, error) { return c.namespaces, nil }

// GetParsedObjectSelector implements matching.MatchCriteria.
func (c *criteria) GetParsedObjectSelector() (labels.Selector, error) { return c.these, nil }

// GetMatchResources implements matching.MatchCriteria.
func (c *criteria) GetMatchResources() admissionregistrationv1.MatchResources { return c.resources }

// match says whether criteria are about a request, and in which version they
// name its resource. An error says why that is not known.
func (c *criteria) match(q *request) (bool, schema.GroupVersionResource, schema.GroupVersionKind, error) {
	if c == nil {
		return true, q.resource, q.kind, nil
	}
	if !q.plain || c.names || !c.namespaces.Empty() || !c.these.Empty() {
		return c.ask(q)
	}
	key := question{q.kind, q.operation, q.namespace != "", q.noScope != ""}
	if a, ok := c.answers.Load(key); ok {
		a := a.(*answer)
		return a.ok, a.resource, a.kind, a.err
	}
	a := &answer{}
	a.ok, a.resource, a.kind, a.err = c.ask(q)
	c.answers.Store(key, a)
	return a.ok, a.resource, a.kind, a.err
}

// question is what criteria look at that have no selectors and no names, of a
// request about an object of a kind of Kubernetes; answer is what they say.
type question struct {
	kind                schema.GroupVersionKind
	operation           admission.Operation
	namespaced, noScope bool
}

type answer struct {
	ok       bool
	resource schema.GroupVersionResource
	kind     schema.GroupVersionKind
	err      error
}

func (c *criteria) ask(q *request) (bool, schema.GroupVersionResource, schema.GroupVersionKind, error) {
	ok, resource, kind, err := q.matcher.Matches(q.attr, q.interfaces, c)
	if err != nil {
		return false, resource, kind, errors.New(strings.TrimPrefix(err.Error(), "Internal error occurred: "))
	}
	// Whatever the truth is of what is not known, the answer must be the same.
	doubts := c.doubts(q)
	for mask := 1; mask < 1<<len(doubts); mask++ {
		other, attr := *c, q.attr
		var reasons []string
		for i, d := range doubts {
			if mask&(1<<i) != 0 {
				d.change(&other)
				reasons = append(reasons, notKnown(d.reason))
				if d.reason == q.noScope {
					attr = q.attributes(attr.GetObject(), attr.GetOldObject(), map[bool]string{true: "", false: somewhere}[q.namespace != ""])
				}
			}
		}
		otherwise, _, _, err := q.matcher.Matches(attr, q.interfaces, &other)
		if err != nil || otherwise != ok {
			return false, resource, kind, errors.New(strings.Join(reasons, "; "))
		}
	}
	return ok, resource, kind, nil
}

// doubt is something that is not known and that criteria look at.
type doubt struct {
	reason string
	change func(*criteria)
}

func (c *criteria) doubts(q *request) []doubt {
	var out []doubt
	if q.noName != "" && c.names {
		out = append(out, doubt{q.noName, func(c *criteria) {
			c.eachRule(func(r *admissionregistrationv1.NamedRuleWithOperations) { r.ResourceNames = nil })
		}})
	}
	if q.noVersions != "" && *c.resources.MatchPolicy == admissionregistrationv1.Equivalent {
		out = append(out, doubt{q.noVersions, func(c *criteria) {
			c.eachRule(func(r *admissionregistrationv1.NamedRuleWithOperations) { r.APIVersions = []string{"*"} })
		}})
	}
	if q.noScope != "" && c.scopes {
		out = append(out, doubt{q.noScope, func(*criteria) {}})
	}
	if q.noLabels != "" && !c.these.Empty() {
		out = append(out, doubt{q.noLabels, func(c *criteria) { c.these = labels.Everything() }}, doubt{q.noLabels, func(c *criteria) { c.these = labels.Nothing() }})
	}
	if q.noLabels != "" && q.kind.Kind == "Namespace" && q.kind.Group == "" && !c.namespaces.Empty() {
		out = append(out, doubt{q.noLabels, func(c *criteria) { c.namespaces = labels.Everything() }}, doubt{q.noLabels, func(c *criteria) { c.namespaces = labels.Nothing() }})
	}
	return out
}

// eachRule changes the rules of criteria that share them with others.
func (c *criteria) eachRule(change func(*admissionregistrationv1.NamedRuleWithOperations)) {
	c.resources.ResourceRules, c.resources.ExcludeResourceRules = slices.Clone(c.resources.ResourceRules), slices.Clone(c.resources.ExcludeResourceRules)
	for i := range c.resources.ResourceRules {
		change(&c.resources.ResourceRules[i])
	}
	for i := range c.resources.ExcludeResourceRules {
		change(&c.resources.ExcludeResourceRules[i])
	}
}

// asks says whether criteria may be about requests. It errs on the side of yes.
func (c *criteria) asks(q *policy.Requests) bool {
	if c == nil || len(c.resources.ResourceRules) == 0 || q.SelectedBy(c.resources.ResourceRules) {
		return true
	}
	f := families()[schema.GroupKind{Group: q.Kind.Group, Kind: q.Kind.Kind}]
	return f != nil && slices.ContainsFunc(slices.Concat(f.versions, f.others), func(gv schema.GroupVersion) bool {
		same := *q
		same.Kind.Group = gv.Group
		return same.SelectedBy(c.resources.ResourceRules)
	})
}

// mayMatch says whether criteria may be about objects of a kind. It errs on the
// side of yes.
func (c *criteria) mayMatch(gk object.GroupKind) bool {
	kind := schema.GroupKind{Group: gk.Group, Kind: gk.Kind}
	if slices.Contains(exempt, kind) {
		return false
	}
	if c == nil || len(c.resources.ResourceRules) == 0 {
		return true
	}
	groups, resource := []string{gk.Group}, resourceOf(kind.WithVersion("")).Resource
	if f := families()[kind]; f != nil {
		for _, gv := range slices.Concat(f.versions, f.others) {
			groups = append(groups, gv.Group)
		}
	}
	own := ownGroup(gk.Group) || families()[kind] != nil
	for _, rule := range c.resources.ResourceRules {
		for _, named := range rule.Resources {
			name, sub, _ := strings.Cut(named, "/")
			if sub != "" && slices.Contains(subresourceKinds, kind) {
				return true
			}
			if (name == "*" || name == resource || !own) && slices.ContainsFunc(rule.APIGroups, func(g string) bool { return g == "*" || slices.Contains(groups, g) }) {
				return true
			}
		}
	}
	return false
}
