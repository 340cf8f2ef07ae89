// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// match says which objects a constraint, a mutator is about.
type match struct {
	Kinds []struct {
		APIGroups []string `json:"apiGroups"`
		Kinds     []string `json:"kinds"`
	} `json:"kinds"`
	Scope              string                `json:"scope"`
	Namespaces         []glob                `json:"namespaces"`
	ExcludedNamespaces []glob                `json:"excludedNamespaces"`
	LabelSelector      *metav1.LabelSelector `json:"labelSelector"`
	NamespaceSelector  *metav1.LabelSelector `json:"namespaceSelector"`
	Name               glob                  `json:"name"`
	Source             string                `json:"source"`

	labels, namespaceLabels labels.Selector
}

// glob is a name that may begin or end with an asterisk.
type glob string

func (g glob) matches(name string) bool {
	inner, anyEnd := strings.CutSuffix(string(g), "*")
	tail, anyStart := strings.CutPrefix(inner, "*")
	if !anyStart && g == "*" {
		return true
	}
	switch {
	case anyStart && anyEnd:
		return strings.Contains(name, tail)
	case anyStart:
		return strings.HasSuffix(name, tail)
	case anyEnd:
		return strings.HasPrefix(name, inner)
	}
	return string(g) == name
}

// generated says whether every name that begins with a prefix matches.
func (g glob) generated(prefix string) bool {
	return strings.HasSuffix(string(g), "*") && g.matches(prefix)
}

// prepare checks the selectors.
func (m *match) prepare() error {
	var err error
	if m.labels, err = selector(m.LabelSelector); err != nil {
		return fmt.Errorf("spec.match.labelSelector: %w", err)
	}
	if m.namespaceLabels, err = selector(m.NamespaceSelector); err != nil {
		return fmt.Errorf("spec.match.namespaceSelector: %w", err)
	}
	if !slices.Contains([]string{"", "All", "Original", "Generated"}, m.Source) {
		return fmt.Errorf("spec.match.source is %q; want All, Original or Generated", m.Source)
	}
	return nil
}

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return nil, nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

// kind says whether objects of a kind may be meant.
func (m *match) kind(gk object.GroupKind) bool {
	if len(m.Kinds) == 0 {
		return true
	}
	has := func(names []string, name string) bool {
		return len(names) == 0 || slices.Contains(names, "*") || slices.Contains(names, name)
	}
	for _, k := range m.Kinds {
		if has(k.Kinds, gk.Kind) && has(k.APIGroups, gk.Group) {
			return true
		}
	}
	return false
}

// errNamespace says that a selector of namespaces cannot be asked.
var errNamespace = errors.New("the constraint selects namespaces by their labels, and those of the object's are not known (missing Namespace)")

// review says whether a request is meant: by what the object is, or by what it
// was. The error says that this is not known.
func (m *match) review(r *Review) (bool, error) {
	var first error
	for _, o := range []*object.Object{r.object(), r.Request.Old} {
		if o == nil {
			continue
		}
		matches, err := m.matches(o, r)
		if matches {
			return true, nil
		}
		if first == nil {
			first = err
		}
	}
	return false, first
}

// may says whether a request may be meant, whatever of its metadata is not known.
func (m *match) may(r *Review) bool {
	for _, o := range []*object.Object{r.object(), r.Request.Old} {
		if o == nil {
			continue
		}
		if matches, err := m.known(o).matches(o, r); matches || err != nil {
			return true
		}
	}
	return false
}

// known returns what of a match can be held against what is known of an object.
func (m *match) known(o *object.Object) *match {
	metadata := o.Root.Get("metadata")
	if !metadata.HasUnknown() {
		return m
	}
	dark := func(field string) bool { return metadata.Kind == object.Unknown || metadata.Get(field).HasUnknown() }
	out := *m
	if dark("name") || dark("generateName") {
		out.Name = ""
	}
	if dark("labels") {
		out.labels = nil
	}
	if dark("namespace") || isNamespace(o) && (dark("name") || dark("labels")) {
		out.Namespaces, out.ExcludedNamespaces, out.namespaceLabels = nil, nil, nil
	}
	if dark("namespace") {
		out.Scope = ""
	}
	return &out
}

// matches says whether an object of a request is meant.
func (m *match) matches(o *object.Object, r *Review) (bool, error) {
	if !m.kind(o.GroupKind()) || !m.scope(o, r) || !m.inNamespaces(o) || !m.named(o) || !m.source(r) {
		return false, nil
	}
	if m.labels != nil {
		set := labelsOf(o)
		if o == r.Request.Subject() {
			set = r.labels()
		}
		if !m.labels.Matches(set) {
			return false, nil
		}
	}
	return m.inSelected(o, r)
}

func isNamespace(o *object.Object) bool { return o.Kind == "Namespace" && o.Group() == "" }

func (m *match) scope(o *object.Object, r *Review) bool {
	inNamespace := !isNamespace(o) && (o.Namespace != "" || !r.Literal && unplaced(o))
	switch m.Scope {
	case "Cluster":
		return !inNamespace
	case "Namespaced":
		return inNamespace
	}
	return true
}

// inNamespaces says whether the namespace of an object is one of those that are
// named. What is in none is not held against that.
func (m *match) inNamespaces(o *object.Object) bool {
	name := o.Namespace
	if isNamespace(o) {
		name = o.Name
	}
	if name == "" {
		return true
	}
	meant := func(g glob) bool { return g.matches(name) }
	return (len(m.Namespaces) == 0 || slices.ContainsFunc(m.Namespaces, meant)) && !slices.ContainsFunc(m.ExcludedNamespaces, meant)
}

func (m *match) named(o *object.Object) bool {
	meta := o.Root.Get("metadata")
	return m.Name == "" || m.Name.matches(meta.Get("name").Str()) || m.Name.generated(meta.Get("generateName").Str())
}

func (m *match) source(r *Review) bool {
	switch m.Source {
	case "Original":
		return !r.Generated
	case "Generated":
		return r.Generated
	}
	return true
}

// inSelected says whether the namespace of an object has the labels that are
// asked for.
func (m *match) inSelected(o *object.Object, r *Review) (bool, error) {
	switch {
	case m.namespaceLabels == nil:
		return true, nil
	case isNamespace(o):
		return m.namespaceLabels.Matches(labelsOf(o)), nil
	case o.Namespace == "" && (r.Literal || !unplaced(o)):
		return true, nil
	}
	namespace, _ := r.namespace()
	if namespace == nil {
		return false, errNamespace
	}
	return m.namespaceLabels.Matches(labelsOf(namespace)), nil
}

// operation says whether the request does something that policies are asked
// about.
func operation(r *Review, t *Template) bool {
	return r.Literal || t.operation(r.operation()) && r.operation() != policy.Connect
}
