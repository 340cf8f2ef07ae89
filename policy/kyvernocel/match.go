// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// attributes are what requests are selected by.
type attributes struct {
	kind              schema.GroupVersionKind
	resource          schema.GroupVersionResource
	plurals           []string // what the resource may be called
	subresource       string
	name, generate    string
	namespace         string
	unplaced          string // why the namespace is not known, where it is not
	mayBeUnspaced     bool   // nor whether there is one
	operation         policy.Operation
	isNamespace       bool
	labels, old       map[string]string
	hasObject, hasOld bool
	user              *authenticationv1.UserInfo
	dryRun            bool
	// dark is what is not known of what selectors look at.
	dark struct{ name, namespace, labels bool }
}

func newAttributes(r *policy.Request, s *subject) *attributes {
	o := r.Subject()
	gv, _ := schema.ParseGroupVersion(o.APIVersion)
	a := &attributes{
		kind: gv.WithKind(o.Kind), resource: gv.WithResource(r.Resource), subresource: r.Subresource,
		name: o.Name, namespace: o.Namespace, operation: r.Operation,
		labels: labelsOf(s.object), old: labelsOf(s.old), hasObject: s.object != nil, hasOld: s.old != nil,
		user: r.User, dryRun: r.DryRun,
	}
	if name, ok := strings.CutSuffix(a.name, "*"); ok {
		a.name, a.generate = "", name
	}
	if a.operation == "" {
		a.operation = policy.Create
	}
	if r.Group+r.Version != "" {
		a.resource = schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
	}
	a.plurals = []string{r.Resource}
	if r.Resource == "" {
		a.plurals = policy.Plurals(o.Kind)
		a.resource.Resource = a.plurals[0]
	}
	a.isNamespace = o.GroupKind() == object.GroupKind{Kind: "Namespace"}
	if a.namespace == "" && object.Namespaced(o.GroupKind()) {
		a.unplaced = "the namespace that the object is put into is not known"
		a.mayBeUnspaced = strings.Contains(gv.Group, ".") && !strings.HasSuffix(gv.Group, ".k8s.io")
	}
	if s.unknown != "" {
		a.darken(o.Root.Get("metadata"))
	}
	return a
}

// darken notes what of the metadata is not known.
func (a *attributes) darken(metadata *object.Node) {
	is := func(field string) bool {
		return metadata != nil && metadata.Kind == object.Unknown || metadata.Get(field).HasUnknown()
	}
	a.dark.name, a.dark.namespace, a.dark.labels = is("name") || is("generateName"), is("namespace"), is("labels")
}

// relaxed returns a matcher that selects whatever may be selected, whatever is
// dark.
func (m *matcher) relaxed(a *attributes) *matcher {
	d := a.dark
	if m.constraints == nil || !d.name && !d.namespace && !d.labels {
		return m
	}
	out, constraints := *m, *m.constraints
	out.constraints = &constraints
	if d.labels {
		out.objects = labels.Everything()
	}
	if d.namespace || a.isNamespace && (d.name || d.labels) {
		out.namespaces = labels.Everything()
	}
	asks := func(r *admissionregistrationv1.NamedRuleWithOperations) (name, scope bool) {
		return d.name && len(r.ResourceNames) > 0, d.namespace && r.Scope != nil
	}
	constraints.ExcludeResourceRules = slices.DeleteFunc(slices.Clone(constraints.ExcludeResourceRules), func(r admissionregistrationv1.NamedRuleWithOperations) bool {
		name, scope := asks(&r)
		return name || scope
	})
	constraints.ResourceRules = slices.Clone(constraints.ResourceRules)
	for i := range constraints.ResourceRules {
		r := &constraints.ResourceRules[i]
		name, scope := asks(r)
		if name {
			r.ResourceNames = nil
		}
		if scope {
			r.Scope = nil
		}
	}
	return &out
}

// lenient returns what selects a request of a test: what it does not tell is not
// there.
func (s *subject) lenient() *subject {
	if s.attributes.unplaced == "" {
		return s
	}
	out, a := *s, *s.attributes
	a.unplaced, a.mayBeUnspaced = "", false
	out.attributes = &a
	return &out
}

func labelsOf(tree map[string]any) map[string]string {
	meta, _ := tree["metadata"].(map[string]any)
	fields, _ := meta["labels"].(map[string]any)
	out := make(map[string]string, len(fields))
	for k, v := range fields {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

// matcher selects requests, as spec.matchConstraints says.
type matcher struct {
	constraints         *admissionregistrationv1.MatchResources
	namespaces, objects labels.Selector
	// anyOperation says that operations do not count.
	anyOperation bool
	// plain says that it selects by one rule and nothing else.
	plain bool
}

func newMatcher(c *admissionregistrationv1.MatchResources) (*matcher, error) {
	m := &matcher{constraints: c, namespaces: labels.Everything(), objects: labels.Everything()}
	if c == nil {
		return m, nil
	}
	var err error
	if c.NamespaceSelector != nil {
		if m.namespaces, err = metav1.LabelSelectorAsSelector(c.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("namespaceSelector: %w", err)
		}
	}
	if c.ObjectSelector != nil {
		if m.objects, err = metav1.LabelSelectorAsSelector(c.ObjectSelector); err != nil {
			return nil, fmt.Errorf("objectSelector: %w", err)
		}
	}
	m.plain = m.namespaces.Empty() && m.objects.Empty() && len(c.ExcludeResourceRules) == 0 &&
		len(c.ResourceRules) == 1 && len(c.ResourceRules[0].ResourceNames) == 0
	return m, nil
}

// kinds says whether the matcher may select objects of a kind.
func (m *matcher) kinds(gk object.GroupKind) bool {
	if m.constraints == nil {
		return false
	}
	if len(m.constraints.ResourceRules) == 0 {
		return true
	}
	names := policy.Plurals(gk.Kind)
	for i := range m.constraints.ResourceRules {
		r := &m.constraints.ResourceRules[i].Rule
		if slices.ContainsFunc(r.Resources, func(s string) bool {
			base, sub, _ := strings.Cut(s, "/")
			return sub != "" && policy.IsSent(gk) || has(r.APIGroups, gk.Group) && (base == "*" || slices.Contains(names, base))
		}) {
			return true
		}
	}
	return false
}

// match says whether a request is selected. Its error is an *unknownError where
// that depends on labels that are not known.
func (m *matcher) match(s *subject) (bool, error) {
	a := s.attributes
	if a.mayBeUnspaced && m.scoped() {
		spaced, unspaced := *s, *s
		inOne, inNone := *a, *a
		inOne.mayBeUnspaced, inNone.mayBeUnspaced, inNone.unplaced = false, false, ""
		spaced.attributes, unspaced.attributes = &inOne, &inNone
		one, err := m.match(&spaced)
		if none, otherwise := m.match(&unspaced); one == none && err == nil && otherwise == nil {
			return one, nil
		}
		return false, &unknownError{fmt.Sprintf("whether a %s is in a namespace is not known", a.kind.Kind)}
	}
	if m.constraints == nil || !m.objectSelected(a) || m.any(m.constraints.ExcludeResourceRules, a) {
		return false, nil
	}
	if len(m.constraints.ResourceRules) > 0 && !m.any(m.constraints.ResourceRules, a) {
		return false, nil
	}
	switch {
	case m.namespaces.Empty():
		return true, nil
	case a.unplaced != "":
		return false, &unknownError{a.unplaced}
	case a.namespace == "" && !a.isNamespace:
		return true, nil
	}
	if a.isNamespace && a.operation != policy.Delete {
		return m.namespaces.Matches(labels.Set(a.labels)), nil
	}
	if !s.namespaceKnown {
		return false, &unknownError{fmt.Sprintf("the labels of the namespace %s are not known", a.namespace)}
	}
	return m.namespaces.Matches(labels.Set(namespaceLabels(s))), nil
}

// scoped says whether the matcher tells what is in a namespace from what is not.
func (m *matcher) scoped() bool {
	if m.constraints == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(m.constraints.ResourceRules, m.constraints.ExcludeResourceRules), func(r admissionregistrationv1.NamedRuleWithOperations) bool {
		return r.Scope != nil && *r.Scope != admissionregistrationv1.AllScopes
	})
}

// namespaceLabels returns the labels of the namespace; one that is not told of
// has the label that each has.
func namespaceLabels(s *subject) map[string]string {
	if s.namespace == nil {
		return map[string]string{corev1.LabelMetadataName: s.attributes.namespace}
	}
	return labelsOf(s.namespace)
}

func (m *matcher) objectSelected(a *attributes) bool {
	return m.objects.Empty() || a.hasObject && m.objects.Matches(labels.Set(a.labels)) || a.hasOld && m.objects.Matches(labels.Set(a.old))
}

func (m *matcher) any(rules []admissionregistrationv1.NamedRuleWithOperations, a *attributes) bool {
	for i := range rules {
		if m.selects(&rules[i], a) {
			return true
		}
	}
	return false
}

// selects says whether a rule selects a request.
func (m *matcher) selects(r *admissionregistrationv1.NamedRuleWithOperations, a *attributes) bool {
	if !has(r.APIGroups, a.resource.Group) || !has(r.APIVersions, a.resource.Version) || !m.operationSelected(r, a) {
		return false
	}
	if r.Scope != nil && *r.Scope != admissionregistrationv1.AllScopes {
		namespaced := (a.namespace != "" || a.unplaced != "") && !a.isNamespace
		if namespaced != (*r.Scope == admissionregistrationv1.NamespacedScope) {
			return false
		}
	}
	if !slices.ContainsFunc(r.Resources, a.isResource) {
		return false
	}
	if len(r.ResourceNames) == 0 {
		return true
	}
	if a.name == "" {
		return slices.ContainsFunc(r.ResourceNames, func(n string) bool { return a.generate != "" && strings.HasPrefix(a.generate, n) })
	}
	return slices.Contains(r.ResourceNames, a.name)
}

func (m *matcher) operationSelected(r *admissionregistrationv1.NamedRuleWithOperations, a *attributes) bool {
	if m.anyOperation {
		return true
	}
	for _, op := range r.Operations {
		if op == admissionregistrationv1.OperationAll || string(op) == string(a.operation) {
			return true
		}
	}
	return false
}

// isResource says whether a rule's resource, as in pods/exec, is that of the
// request.
func (a *attributes) isResource(s string) bool {
	base, sub, _ := strings.Cut(s, "/")
	if base != "*" && !slices.Contains(a.plurals, base) {
		return false
	}
	return sub == a.subresource || sub == "*"
}

func has(list []string, s string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, s)
}
