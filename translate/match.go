// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
)

// selector is one kind that a rule selects: group/version/Kind/subresource, each
// of which may be *.
type selector struct{ group, version, kind, sub string }

var versionText = regexp.MustCompile(`^(\*|v\d((alpha|beta)\d)?)$`)

// parseSelector reads a kind as Kyverno does.
func parseSelector(s string) (selector, error) {
	parts := strings.Split(s, "/")
	parts = append(parts[:len(parts)-1], strings.Split(parts[len(parts)-1], ".")...)
	switch {
	case len(parts) == 1:
		return selector{"*", "*", parts[0], ""}, nil
	case s == "*/*":
		return selector{"*", "*", "*", "*"}, nil
	case len(parts) == 2 && parts[0] == "*" && strings.ToLower(parts[1]) == parts[1]:
		return selector{"*", "*", "*", parts[1]}, nil
	case len(parts) == 2 && versionText.MatchString(parts[0]):
		return selector{"*", parts[0], parts[1], ""}, nil
	case len(parts) == 2:
		return selector{"*", "*", parts[0], parts[1]}, nil
	case len(parts) == 3 && versionText.MatchString(parts[0]):
		return selector{"*", parts[0], parts[1], parts[2]}, nil
	case len(parts) == 3:
		return selector{parts[0], parts[1], parts[2], ""}, nil
	case len(parts) == 4:
		return selector{parts[0], parts[1], parts[2], parts[3]}, nil
	}
	return selector{}, fmt.Errorf("the kind %q is none that Kyverno reads", s)
}

// kinds returns the built-in kinds of the name, of the group if one is given;
// a kind of the group where there is none.
func (s selector) kinds() []object.GroupKind {
	var out []object.GroupKind
	for gvk := range scheme.Scheme.AllKnownTypes() {
		gk := object.GroupKind{Group: gvk.Group, Kind: gvk.Kind}
		if gvk.Kind == s.kind && (s.group == "*" || s.group == gvk.Group) && gvk.Version != "__internal" && gvk.Group != "extensions" && !slices.Contains(out, gk) {
			out = append(out, gk)
		}
	}
	slices.SortFunc(out, func(a, b object.GroupKind) int { return strings.Compare(a.Group, b.Group) })
	if len(out) == 0 && s.group != "*" && !strings.ContainsAny(s.group, "*?") {
		return []object.GroupKind{{Group: s.group, Kind: s.kind}}
	}
	return out
}

// resource returns the resource of the kind in a group.
func (s selector) resource(group string) string {
	if s.kind == "*" {
		return "*"
	}
	return generate.Resource(object.GroupKind{Group: group, Kind: s.kind})
}

// connects are kinds of what is sent to a subresource.
var connects = map[string]string{
	"PodExecOptions": "pods/exec", "PodAttachOptions": "pods/attach", "PodPortForwardOptions": "pods/portforward",
	"PodProxyOptions": "pods/proxy", "Eviction": "pods/eviction", "Scale": "*/scale", "NodeProxyOptions": "nodes/proxy",
}

// about is what a rule is about, in the words of an admission policy.
type about struct {
	rules      []admissionregistrationv1.NamedRuleWithOperations
	conditions []admissionregistrationv1.MatchCondition
	kinds      []object.GroupKind
	operations []policy.Operation
	// anyKind says that there are kinds of which nothing is known.
	anyKind bool
	// namespaces selects namespaces by their labels.
	namespaces *metav1.LabelSelector
}

// matcher writes what a rule is about.
type matcher struct {
	subject string // the expression of the object
	out     about
}

// newMatcher writes conditions on what some operations are about.
func newMatcher(out about) *matcher {
	m := &matcher{subject: "object", out: out}
	if slices.Contains(out.operations, policy.Delete) {
		m.subject = "(request.operation == 'DELETE' ? oldObject : object)"
		if len(out.operations) == 1 {
			m.subject = "oldObject"
		}
	}
	return m
}

// aboutOf returns what some rules are about: one that is written, and those that
// were made of it for the controllers of pods.
func aboutOf(rules []*kyverno.Rule, operations []policy.Operation) (*about, error) {
	m := newMatcher(about{operations: operations})
	for _, r := range rules {
		for _, f := range filters(&r.Match) {
			if err := m.resources(f); err != nil {
				return nil, err
			}
		}
	}
	if len(m.out.rules) == 0 {
		return nil, errors.New("the rule matches no kinds")
	}
	m.merge()
	written := rules[0]
	match, err := m.block(&written.Match, true, rules)
	if err != nil {
		return nil, err
	}
	m.condition("match", match)
	if written.Exclude != nil {
		exclude, err := m.block(written.Exclude, false, rules)
		if err != nil {
			return nil, err
		}
		m.condition("exclude", not(exclude))
	}
	return &m.out, nil
}

func (m *matcher) condition(name, expr string) {
	if expr != always {
		m.out.conditions = append(m.out.conditions, admissionregistrationv1.MatchCondition{Name: name, Expression: expr})
	}
}

// filters returns all descriptions of a match.
func filters(m *kyverno.Match) []*kyverno.Filter {
	var out []*kyverno.Filter
	for i := range m.Any {
		out = append(out, &m.Any[i])
	}
	for i := range m.All {
		out = append(out, &m.All[i])
	}
	if len(out) == 0 {
		out = append(out, &m.Filter)
	}
	return out
}

// resources adds the resources of a filter.
func (m *matcher) resources(f *kyverno.Filter) error {
	operations := m.out.operations
	if len(f.Resources.Operations) > 0 {
		operations = slices.DeleteFunc(slices.Clone(operations), func(o policy.Operation) bool { return !slices.Contains(f.Resources.Operations, o) })
	}
	if len(operations) == 0 {
		return nil
	}
	for _, k := range f.Resources.Kinds {
		s, err := parseSelector(k)
		if err != nil {
			return err
		}
		if err := m.resource(s, operations); err != nil {
			return err
		}
	}
	return nil
}

func (m *matcher) resource(s selector, operations []policy.Operation) error {
	if s.kind != "*" && strings.ContainsAny(s.kind+s.group, "*?") && s.group != "*" || strings.ContainsAny(strings.TrimPrefix(s.kind, "*"), "*?") {
		return fmt.Errorf("the kind %s/%s is a pattern, and a policy of the API server names resources", s.group, s.kind)
	}
	var resources []string
	groups := []string{s.group}
	kinds := s.kinds()
	connect, isConnect := connects[s.kind]
	switch {
	case isConnect && s.sub == "":
		resources, groups = []string{connect}, []string{"*"}
		m.out.anyKind = true
	case len(kinds) > 0:
		groups = nil
		for _, gk := range kinds {
			groups = append(groups, gk.Group)
			if s.sub == "" {
				m.out.kinds = appendNew(m.out.kinds, gk)
			}
		}
		resources = []string{s.resource(groups[0])}
	default:
		m.out.anyKind = true
		resources = []string{s.resource("")}
	}
	if s.sub != "" {
		m.out.anyKind = true
		for i := range resources {
			resources[i] += "/" + s.sub
		}
		if s.kind == "*" && s.sub == "*" {
			resources = []string{"*/*"}
		}
	} else if s.kind == "Pod" && slices.Contains(groups, "") {
		resources = append(resources, "pods/ephemeralcontainers")
	}
	rule := admissionregistrationv1.NamedRuleWithOperations{}
	for _, o := range operations {
		rule.Operations = append(rule.Operations, admissionregistrationv1.OperationType(o))
	}
	rule.Rule = admissionregistrationv1.Rule{APIGroups: groups, APIVersions: []string{s.version}, Resources: resources}
	m.out.rules = append(m.out.rules, rule)
	return nil
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// merge joins rules that differ in one list.
func (m *matcher) merge() {
	var out []admissionregistrationv1.NamedRuleWithOperations
	for _, r := range m.out.rules {
		i := slices.IndexFunc(out, func(o admissionregistrationv1.NamedRuleWithOperations) bool {
			return slices.Equal(o.Operations, r.Operations) && slices.Equal(o.APIGroups, r.APIGroups) && slices.Equal(o.APIVersions, r.APIVersions)
		})
		if i < 0 {
			out = append(out, r)
			continue
		}
		for _, res := range r.Resources {
			out[i].Resources = appendNew(out[i].Resources, res)
		}
	}
	m.out.rules = out
}

// block returns the condition of a match or an exclude. What the resource rules
// say already is left out of a match.
func (m *matcher) block(b *kyverno.Match, match bool, rules []*kyverno.Rule) (string, error) {
	list := filters(b)
	var parts []string
	for _, f := range list {
		c, err := m.filter(f, !match || len(list) > 1 && !plainKinds(list), rules)
		if err != nil {
			return "", err
		}
		if len(b.Any) > 0 && !match && len(f.Resources.Kinds) == 0 && c == always {
			return "", errors.New("an exclusion without a condition")
		}
		parts = append(parts, c)
	}
	if len(b.Any) > 0 {
		return or(parts...), nil
	}
	return and(parts...), nil
}

// plainKinds says whether filters choose by kinds alone, all for the same
// operations.
func plainKinds(list []*kyverno.Filter) bool {
	for _, f := range list {
		r := &f.Resources
		if len(f.Roles)+len(f.ClusterRoles)+len(f.Subjects)+len(r.Names)+len(r.Namespaces)+len(r.Annotations) > 0 || r.Name != "" || r.Selector != nil || r.NamespaceSelector != nil {
			return false
		}
	}
	return true
}

// filter returns the condition of one description.
func (m *matcher) filter(f *kyverno.Filter, withKinds bool, rules []*kyverno.Rule) (string, error) {
	r := &f.Resources
	if len(f.Roles)+len(f.ClusterRoles) > 0 {
		return "", errors.New("it selects by the roles of the user, which Kyverno looks up")
	}
	var parts []string
	if withKinds {
		kinds, err := m.kindCondition(f, rules)
		if err != nil {
			return "", err
		}
		parts = append(parts, kinds)
	}
	names := r.Names
	if r.Name != "" {
		parts = append(parts, m.name([]string{r.Name}))
	}
	if len(names) > 0 {
		parts = append(parts, m.name(names))
	}
	if len(r.Namespaces) > 0 {
		parts = append(parts, m.namespace(r.Namespaces))
	}
	for _, k := range sortedKeys(r.Annotations) {
		parts = append(parts, m.entry("annotations", k, r.Annotations[k]))
	}
	if r.Selector != nil {
		c, err := m.labels(m.subject+".metadata.?labels", r.Selector)
		if err != nil {
			return "", err
		}
		parts = append(parts, c)
	}
	if r.NamespaceSelector != nil {
		if err := m.namespaceSelector(r.NamespaceSelector, rules); err != nil {
			return "", err
		}
		parts = append(parts, m.subject+".metadata.?namespace.orValue('') != ''")
	}
	subjects, err := subjectsCondition(f)
	if err != nil {
		return "", err
	}
	return and(append(parts, subjects)...), nil
}

// namespaceSelector chooses namespaces by labels, where that is all that the
// rule is about.
func (m *matcher) namespaceSelector(s *metav1.LabelSelector, rules []*kyverno.Rule) error {
	match := rules[0].Match
	if len(filters(&match)) != 1 || match.Resources.NamespaceSelector != s && (len(match.Any) == 0 || match.Any[0].Resources.NamespaceSelector != s) && (len(match.All) == 0 || match.All[0].Resources.NamespaceSelector != s) {
		return errors.New("namespaces are selected by labels in one of several descriptions, or excluded by them")
	}
	if hasWildcards(s) {
		return errors.New("a namespaceSelector with wildcards")
	}
	m.out.namespaces = s
	return nil
}

func hasWildcards(s *metav1.LabelSelector) bool {
	for k, v := range s.MatchLabels {
		if strings.ContainsAny(k+v, "*?") {
			return true
		}
	}
	return false
}

// kindCondition returns the condition of the kinds and operations of a filter.
func (m *matcher) kindCondition(f *kyverno.Filter, rules []*kyverno.Rule) (string, error) {
	var kinds []string
	all := f.Resources.Kinds
	if slices.ContainsFunc(all, func(k string) bool { return strings.HasSuffix(k, "Pod") }) {
		for _, r := range rules[1:] {
			for _, g := range filters(&r.Match) {
				all = append(slices.Clone(all), g.Resources.Kinds...)
			}
		}
	}
	var parts []string
	for _, k := range all {
		s, err := parseSelector(k)
		if err != nil {
			return "", err
		}
		if s.kind == "*" && s.sub == "" || s.sub == "*" {
			kinds = nil
			parts = append(parts, always)
			continue
		}
		if s.sub != "" {
			parts = append(parts, "request.kind.kind == "+quote(s.kind)+" && request.?subResource.orValue('') == "+quote(s.sub))
			continue
		}
		if s.group != "*" && s.kind != "Pod" {
			parts = append(parts, and("request.kind.kind == "+quote(s.kind), wild("request.kind.group", s.group), wild("request.kind.version", s.version)))
			continue
		}
		if strings.ContainsAny(s.kind, "*?") {
			parts = append(parts, wild("request.kind.kind", s.kind))
			continue
		}
		kinds = appendNew(kinds, quote(s.kind))
	}
	switch len(kinds) {
	case 0:
	case 1:
		parts = append(parts, "request.kind.kind == "+kinds[0])
	default:
		parts = append(parts, "request.kind.kind in ["+strings.Join(kinds, ", ")+"]")
	}
	out := always
	if len(all) > 0 {
		out = or(parts...)
	}
	if len(f.Resources.Operations) > 0 {
		var ops []string
		for _, o := range f.Resources.Operations {
			ops = append(ops, quote(string(o)))
		}
		out = and(out, "request.operation in ["+strings.Join(ops, ", ")+"]")
	}
	return out, nil
}

func (m *matcher) name(patterns []string) string {
	name := m.subject + ".metadata.?name.orValue(" + m.subject + ".metadata.?generateName.orValue(''))"
	return wilds(name, patterns)
}

// wilds returns the condition that a text matches one of some patterns.
func wilds(v string, patterns []string) string {
	var exact, parts []string
	for _, p := range patterns {
		if strings.ContainsAny(p, "*?") {
			parts = append(parts, wild(v, p))
		} else {
			exact = append(exact, quote(p))
		}
	}
	switch len(exact) {
	case 0:
	case 1:
		parts = append(parts, v+" == "+exact[0])
	default:
		parts = append(parts, v+" in ["+strings.Join(exact, ", ")+"]")
	}
	return or(parts...)
}

func (m *matcher) namespace(patterns []string) string {
	namespace := m.subject + ".metadata.?namespace.orValue('')"
	core := func(gk object.GroupKind) bool { return gk.Kind == "Namespace" }
	switch {
	case len(m.out.kinds) > 0 && !m.out.anyKind && !slices.ContainsFunc(m.out.kinds, core):
	case len(m.out.kinds) == 1 && !m.out.anyKind:
		namespace = m.subject + ".metadata.name"
	default:
		namespace = "(request.kind.kind == 'Namespace' ? " + m.subject + ".metadata.name : " + namespace + ")"
	}
	return wilds(namespace, patterns)
}

// entry returns the condition that one of the labels or annotations matches.
func (m *matcher) entry(field, key, value string) string {
	entries := m.subject + ".metadata.?" + field
	if !strings.ContainsAny(key, "*?") {
		return onValue(entries+"[?"+quote(key)+"]", "value", wild("value", value), never)
	}
	return onValue(entries, "entries", "entries.exists(key, "+and(wild("key", key), wild("entries[key]", value))+")", never)
}

// labels returns the condition of a label selector.
func (m *matcher) labels(labels string, s *metav1.LabelSelector) (string, error) {
	var parts []string
	for _, k := range sortedKeys(s.MatchLabels) {
		v := s.MatchLabels[k]
		if strings.ContainsAny(k, "*?") {
			parts = append(parts, onValue(labels, "entries", "entries.exists(key, "+and(wild("key", k), wild("entries[key]", v))+")", never))
			continue
		}
		parts = append(parts, onValue(labels+"[?"+quote(k)+"]", "value", wild("value", v), never))
	}
	for _, e := range s.MatchExpressions {
		value := labels + "[?" + quote(e.Key) + "]"
		list, _ := literal(anySlice(e.Values))
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			parts = append(parts, onValue(value, "value", "value in "+list, never))
		case metav1.LabelSelectorOpNotIn:
			parts = append(parts, onValue(value, "value", "!(value in "+list+")", always))
		case metav1.LabelSelectorOpExists:
			parts = append(parts, value+".hasValue()")
		case metav1.LabelSelectorOpDoesNotExist:
			parts = append(parts, "!"+value+".hasValue()")
		default:
			return "", fmt.Errorf("the operator %s of a selector", e.Operator)
		}
	}
	return and(parts...), nil
}

func anySlice(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// subjectsCondition returns the condition of the users of a filter.
func subjectsCondition(f *kyverno.Filter) (string, error) {
	if len(f.Subjects) == 0 {
		return always, nil
	}
	var parts []string
	for _, s := range f.Subjects {
		switch s.Kind {
		case "User":
			parts = append(parts, wild("request.userInfo.?username.orValue('')", s.Name))
		case "Group":
			parts = append(parts, "request.userInfo.?groups.orValue([]).exists(group, "+wild("group", s.Name)+")")
		case "ServiceAccount":
			parts = append(parts, wild("request.userInfo.?username.orValue('')", "system:serviceaccount:"+s.Namespace+":"+s.Name))
		default:
			return "", fmt.Errorf("a subject of kind %s", s.Kind)
		}
	}
	return or(parts...), nil
}
