// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/pattern"
)

// answer is whether something matches. Maybe is that what was not told decides.
type answer uint8

const (
	no answer = iota
	yes
	maybe
)

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

func (a answer) and(b func() answer) answer {
	if a == no {
		return no
	}
	switch b() {
	case no:
		return no
	case yes:
		return a
	}
	return maybe
}

func (a answer) or(b func() answer) answer {
	if a == yes {
		return yes
	}
	switch b() {
	case no:
		return a
	case yes:
		return yes
	}
	return maybe
}

func (a answer) not() answer {
	switch a {
	case no:
		return yes
	case yes:
		return no
	}
	return maybe
}

// matcher is a match or an exclude that is ready to be asked.
type matcher struct {
	any, all []*filter
	one      *filter
	// invalid says that it cannot be known what it matches.
	invalid bool
}

// filter is one description of requests.
type filter struct {
	*Filter
	kinds                       []kindSelector
	selector, namespaceSelector *selector
	empty                       bool
}

// kindSelector is one of the kinds of a filter, by wildcards.
type kindSelector struct{ group, version, kind, subresource string }

var versionPattern = regexp.MustCompile(`^(v\d((alpha|beta)\d)?|\*)$`)

// parseKind reads a kind as Kyverno does: [group/][version/]kind[/subresource],
// or with a dot before the subresource.
func parseKind(s string) kindSelector {
	parts := strings.Split(s, "/")
	last := len(parts) - 1
	parts = append(parts[:last], strings.Split(parts[last], ".")...)
	switch len(parts) {
	case 1:
		return kindSelector{"*", "*", parts[0], ""}
	case 2:
		return parseTwo(parts)
	case 3:
		if versionPattern.MatchString(parts[0]) {
			return kindSelector{"*", parts[0], parts[1], parts[2]}
		}
		return kindSelector{parts[0], parts[1], parts[2], ""}
	case 4:
		return kindSelector{parts[0], parts[1], parts[2], parts[3]}
	}
	return kindSelector{}
}

func parseTwo(parts []string) kindSelector {
	switch {
	case parts[0] == "*" && parts[1] == "*":
		return kindSelector{"*", "*", "*", "*"}
	case parts[0] == "*" && strings.ToLower(parts[1]) == parts[1]:
		return kindSelector{"*", "*", "*", parts[1]}
	case versionPattern.MatchString(parts[0]):
		return kindSelector{"*", parts[0], parts[1], ""}
	}
	return kindSelector{"*", "*", parts[0], parts[1]}
}

// selector is a selector of labels that may hold wildcards.
type selector struct {
	written *metav1.LabelSelector
	plain   labels.Selector // nil if there are wildcards
}

func hasWildcard(s string) bool { return strings.ContainsAny(s, "*?") }

func newSelector(s *metav1.LabelSelector) (*selector, error) {
	if s == nil {
		return nil, nil
	}
	for k, v := range s.MatchLabels {
		if hasWildcard(k) || hasWildcard(v) {
			_, err := metav1.LabelSelectorAsSelector(withoutWildcards(s, nil))
			return &selector{written: s}, err
		}
	}
	plain, err := metav1.LabelSelectorAsSelector(s)
	return &selector{s, plain}, err
}

// withoutWildcards puts the labels that the wildcards of a selector match in
// their place, and what no label is where they match none.
func withoutWildcards(s *metav1.LabelSelector, have map[string]string) *metav1.LabelSelector {
	out := *s
	out.MatchLabels = make(map[string]string, len(s.MatchLabels))
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		v := s.MatchLabels[k]
		if hasWildcard(k) || hasWildcard(v) {
			k, v = expand(k, v, have)
		}
		out.MatchLabels[k] = v
	}
	return &out
}

var noWildcards = strings.NewReplacer("*", "0", "?", "0")

func expand(k, v string, have map[string]string) (key, value string) {
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if pattern.Wildcard(k, key) && pattern.Wildcard(v, have[key]) {
			return key, have[key]
		}
	}
	return noWildcards.Replace(k), noWildcards.Replace(v)
}

func (s *selector) matches(have map[string]string) bool {
	if s.plain != nil {
		return s.plain.Matches(labels.Set(have))
	}
	made, err := metav1.LabelSelectorAsSelector(withoutWildcards(s.written, have))
	return err == nil && made.Matches(labels.Set(have))
}

// check says what is wrong with a match.
func (m *Match) check(field string) error {
	for _, f := range slices.Concat(m.Any, m.All, []Filter{m.Filter}) {
		for what, s := range map[string]*metav1.LabelSelector{"selector": f.Resources.Selector, "namespaceSelector": f.Resources.NamespaceSelector} {
			if _, err := newSelector(s); err != nil {
				return fmt.Errorf("%s: resources.%s: %w", field, what, err)
			}
		}
		for _, s := range f.Subjects {
			if s.Kind != rbacv1.UserKind && s.Kind != rbacv1.GroupKind && s.Kind != rbacv1.ServiceAccountKind {
				return fmt.Errorf("%s: subjects: the kind %q is not known; want User, Group or ServiceAccount", field, s.Kind)
			}
		}
		for _, op := range f.Resources.Operations {
			if op != policy.Create && op != policy.Update && op != policy.Delete && op != policy.Connect {
				return fmt.Errorf("%s: resources.operations: %q is not known; want CREATE, UPDATE, DELETE or CONNECT", field, op)
			}
		}
	}
	return nil
}

// compile makes a matcher. The form was checked.
func (m *Match) compile() *matcher {
	out := &matcher{}
	for i := range m.Any {
		out.any = append(out.any, m.Any[i].compile())
	}
	for i := range m.All {
		out.all = append(out.all, m.All[i].compile())
	}
	if len(m.Any) == 0 && len(m.All) == 0 {
		out.one = m.Filter.compile()
	}
	return out
}

func (f *Filter) compile() *filter {
	out := &filter{Filter: f, empty: f.isEmpty()}
	for _, k := range f.Resources.Kinds {
		out.kinds = append(out.kinds, parseKind(k))
	}
	out.selector, _ = newSelector(f.Resources.Selector)
	out.namespaceSelector, _ = newSelector(f.Resources.NamespaceSelector)
	return out
}

func (f *Filter) isEmpty() bool { return f.noUser() && f.Resources.isEmpty() }

func (f *Filter) noUser() bool {
	return len(f.Roles) == 0 && len(f.ClusterRoles) == 0 && len(f.Subjects) == 0
}

func (r *Resources) isEmpty() bool {
	return len(r.Kinds) == 0 && r.Name == "" && len(r.Names) == 0 && len(r.Namespaces) == 0 &&
		len(r.Annotations) == 0 && r.Selector == nil && r.NamespaceSelector == nil && len(r.Operations) == 0
}

// isEmpty says whether a match holds nothing.
func (m *Match) isEmpty() bool {
	return m == nil || len(m.Any) == 0 && len(m.All) == 0 && m.Filter.isEmpty()
}

// filters are those of a matcher.
func (m *matcher) filters() []*filter {
	if m == nil {
		return nil
	}
	out := slices.Concat(m.any, m.all)
	if m.one != nil {
		out = append(out, m.one)
	}
	return out
}

// mayMatch says whether a matcher may be about objects of a kind.
func (m *matcher) mayMatch(gk object.GroupKind) bool {
	may := func(f *filter) bool { return f.mayMatch(gk) }
	switch {
	case m.invalid:
		return true
	case len(m.any) > 0:
		return slices.ContainsFunc(m.any, may)
	case len(m.all) > 0:
		return !slices.ContainsFunc(m.all, func(f *filter) bool { return !may(f) })
	}
	return may(m.one)
}

// asks says whether a filter may describe requests. One that names no operations
// describes those of all.
func (f *filter) asks(q *policy.Requests) bool {
	if ops := f.Resources.Operations; f.empty || len(ops) > 0 && !slices.Contains(ops, q.Operation) {
		return false
	}
	if len(f.kinds) == 0 {
		return q.Subresource == ""
	}
	return slices.ContainsFunc(f.kinds, func(k kindSelector) bool {
		return pattern.Wildcard(k.group, q.Kind.Group) && pattern.Wildcard(k.version, q.Version) && pattern.Wildcard(k.kind, q.Kind.Kind) &&
			pattern.Wildcard(k.subresource, q.Subresource)
	})
}

func (f *filter) mayMatch(gk object.GroupKind) bool {
	if len(f.kinds) == 0 {
		return !f.empty
	}
	return slices.ContainsFunc(f.kinds, func(k kindSelector) bool {
		// What a subresource is sent as may be of another kind than its parent.
		return k.subresource != "" && policy.IsSent(gk) || pattern.Wildcard(k.group, gk.Group) && pattern.Wildcard(k.kind, gk.Kind)
	})
}

// who is who asks, as far as that is told.
type who struct {
	user                *authenticationv1.UserInfo
	roles, clusterRoles []string
	// userKnown and rolesKnown say that there is nothing more to be told.
	userKnown, rolesKnown bool
}

func (w *who) none() bool {
	return w.user == nil && len(w.roles) == 0 && len(w.clusterRoles) == 0
}

// asks says whether it is one of the subjects who asks.
func (w *who) asks(subjects []rbacv1.Subject) answer {
	if w.user == nil {
		if w.userKnown {
			return no
		}
		return maybe
	}
	return is(slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			return pattern.Wildcard("system:serviceaccount:"+s.Namespace+":"+s.Name, w.user.Username)
		case rbacv1.GroupKind:
			return slices.ContainsFunc(w.user.Groups, func(g string) bool { return pattern.Wildcard(s.Name, g) })
		}
		return pattern.Wildcard(s.Name, w.user.Username)
	}))
}

// has says whether who asks has one of some roles.
func (w *who) has(want, have []string) answer {
	if slices.ContainsFunc(want, func(r string) bool { return slices.Contains(have, r) }) {
		return yes
	}
	if w.rolesKnown {
		return no
	}
	return maybe
}

// matches says whether a rule is about what a subject is: it is matched, and not
// excluded.
func matches(match, exclude *matcher, s *subject) answer {
	return match.included(s).and(func() answer { return exclude.excluded(s).not() })
}

// included asks a match.
func (m *matcher) included(s *subject) answer {
	switch {
	case m.invalid:
		return maybe
	case len(m.any) > 0:
		out := no
		for _, f := range m.any {
			out = out.or(func() answer { return f.included(s) })
		}
		return out
	case len(m.all) > 0:
		out := yes
		for _, f := range m.all {
			out = out.and(func() answer { return f.included(s) })
		}
		return out
	}
	return m.one.included(s)
}

// excluded asks an exclude.
func (m *matcher) excluded(s *subject) answer {
	if m == nil {
		return no
	}
	switch {
	case len(m.any) > 0:
		out := no
		for _, f := range m.any {
			out = out.or(func() answer { return f.excluded(s) })
		}
		return out
	case len(m.all) > 0:
		out := yes
		for _, f := range m.all {
			out = out.and(func() answer { return f.excluded(s) })
		}
		return out
	}
	return m.one.excluded(s)
}

// included says whether a filter of a match is met. Where it is known that nobody
// asks, as in the background, Kyverno does not look at users.
func (f *filter) included(s *subject) answer {
	if s.who.none() && s.who.userKnown {
		if f.Resources.isEmpty() {
			return no
		}
		return f.resource(s, true)
	}
	if f.empty {
		return no
	}
	return f.resource(s, true).and(func() answer { return f.user(s) })
}

// excluded says whether a filter of an exclude is met.
func (f *filter) excluded(s *subject) answer {
	if f.empty {
		return no
	}
	return f.resource(s, true).and(func() answer { return f.user(s) })
}

func (f *filter) user(s *subject) answer {
	out := yes
	if len(f.Roles) > 0 {
		out = out.and(func() answer { return s.who.has(f.Roles, s.who.roles) })
	}
	if len(f.ClusterRoles) > 0 {
		out = out.and(func() answer { return s.who.has(f.ClusterRoles, s.who.clusterRoles) })
	}
	if len(f.Subjects) > 0 {
		out = out.and(func() answer { return s.who.asks(f.Subjects) })
	}
	return out
}

// resource says whether a filter describes the object of a subject. Operations
// are looked at if asked.
func (f *filter) resource(s *subject, operations bool) answer {
	r := &f.Resources
	if operations && len(r.Operations) > 0 && !slices.Contains(r.Operations, s.operation) {
		return no
	}
	if len(f.kinds) > 0 && !f.kind(s) {
		return no
	}
	out := yes
	for _, c := range [...]struct {
		asked, dark bool
		holds       func() bool
	}{
		{r.Name != "", s.dark.name, func() bool { return pattern.Wildcard(r.Name, s.name) }},
		{len(r.Names) > 0, s.dark.name, func() bool { return anyWildcard(r.Names, s.name) }},
		{len(r.Namespaces) > 0, s.spaceDark(), func() bool { return anyWildcard(r.Namespaces, s.namespaceOrSelf()) }},
		{len(r.Annotations) > 0, s.dark.annotations, func() bool { return annotated(r.Annotations, s.annotations) }},
		{f.selector != nil, s.dark.labels, func() bool { return f.selector.matches(s.labels) }},
	} {
		switch {
		case !c.asked:
		case c.dark:
			out = maybe
		case !c.holds():
			return no
		}
	}
	if f.namespaceSelector != nil {
		return out.and(func() answer { return f.namespace(s) })
	}
	return out
}

func (f *filter) namespace(s *subject) answer {
	if s.kind == "Namespace" {
		return no
	}
	if s.dark.namespace {
		return maybe
	}
	have, known := s.namespaceLabels()
	if !known {
		return maybe
	}
	return is(f.namespaceSelector.matches(have))
}

func (f *filter) kind(s *subject) bool {
	return slices.ContainsFunc(f.kinds, func(k kindSelector) bool {
		if !pattern.Wildcard(k.group, s.gvk.Group) || !pattern.Wildcard(k.version, s.gvk.Version) || !pattern.Wildcard(k.kind, s.gvk.Kind) {
			return false
		}
		return pattern.Wildcard(k.subresource, s.subresource) || s.gvk == podKind && s.subresource == "ephemeralcontainers"
	})
}

var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

func anyWildcard(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return pattern.Wildcard(p, s) })
}

// annotated says whether each of the wanted annotations is there, by wildcards.
func annotated(want, have map[string]string) bool {
	for k, v := range want {
		found := false
		for key, value := range have {
			if pattern.Wildcard(k, key) && pattern.Wildcard(v, value) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// excepts says whether the match of an exception is met: unlike that of a rule,
// it has no form without any and all, and knows no operations.
func (m *matcher) excepts(s *subject) answer {
	met := func(f *filter) answer {
		if f.empty {
			return no
		}
		return f.exceptResource(s).and(func() answer { return f.user(s) })
	}
	switch {
	case len(m.any) > 0:
		out := no
		for _, f := range m.any {
			out = out.or(func() answer { return met(f) })
		}
		return out
	case len(m.all) > 0:
		out := yes
		for _, f := range m.all {
			out = out.and(func() answer { return met(f) })
		}
		return out
	}
	return no
}

// exceptResource is resource for an exception: a selector of namespaces does not
// keep it from a Namespace.
func (f *filter) exceptResource(s *subject) answer {
	if f.namespaceSelector != nil && s.kind == "Namespace" {
		without := *f
		without.namespaceSelector = nil
		return without.resource(s, false)
	}
	return f.resource(s, false)
}
