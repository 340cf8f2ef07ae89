// SPDX-License-Identifier: Apache-2.0

package role

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/manifest"
)

// The labels of what is generated.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "sconce"
)

// rule is a rule with what is said of it.
type rule struct {
	rbacv1.PolicyRule
	notes []string
}

// documents returns the roles and bindings: a ClusterRole first, then Roles by
// namespace.
func (s *synthesis) documents(about string) (out []*manifest.Document, wildcards []Wildcard) {
	name := roleName(s.activity.Subject)
	for _, in := range slices.Sorted(maps.Keys(s.grants)) {
		cells := s.grants[in]
		for _, c := range slices.SortedFunc(maps.Keys(cells), compareCells) {
			for _, w := range cells[c].reasons {
				w.Role, w.Namespace = name, string(in)
				wildcards = append(wildcards, w)
			}
		}
		out = append(out, s.role(name, string(in), rules(cells), about), s.binding(name, string(in)))
	}
	return out, wildcards
}

func (s *synthesis) role(name, namespace string, rules []rule, about string) *manifest.Document {
	d := &manifest.Document{Head: []string{fmt.Sprintf("What %s was seen to ask for%s, %s.", s.activity.Subject, where(namespace), about)}}
	list := make([]rbacv1.PolicyRule, len(rules))
	for i, r := range rules {
		list[i] = r.PolicyRule
		for _, note := range r.notes {
			d.Note(fmt.Sprintf("rules.%d", i), "%s", note)
		}
	}
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{labelManagedBy: managedBy}}
	if namespace == "" {
		d.Object = &rbacv1.ClusterRole{TypeMeta: typeMeta("ClusterRole"), ObjectMeta: meta, Rules: list}
	} else {
		d.Object = &rbacv1.Role{TypeMeta: typeMeta("Role"), ObjectMeta: meta, Rules: list}
	}
	return d
}

func where(namespace string) string {
	if namespace == "" {
		return " in the whole cluster"
	}
	return " in the namespace " + namespace
}

func (s *synthesis) binding(name, namespace string) *manifest.Document {
	subject := s.activity.Subject
	to := []rbacv1.Subject{{Kind: subject.Kind, Name: subject.Name, Namespace: subject.Namespace}}
	if subject.Kind != rbac.ServiceAccount {
		to[0].APIGroup = rbacv1.GroupName
	}
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{labelManagedBy: managedBy}}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	if namespace == "" {
		return &manifest.Document{Object: &rbacv1.ClusterRoleBinding{TypeMeta: typeMeta("ClusterRoleBinding"), ObjectMeta: meta, RoleRef: ref, Subjects: to}}
	}
	ref.Kind = "Role"
	return &manifest.Document{Object: &rbacv1.RoleBinding{TypeMeta: typeMeta("RoleBinding"), ObjectMeta: meta, RoleRef: ref, Subjects: to}}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
}

// roleName is what the roles of a subject are called: no two subjects have the
// same, since no namespace begins with a capital letter, and what cannot stand in
// a name is written so that nothing else is.
func roleName(s rbac.Subject) string {
	if s.Kind == rbac.ServiceAccount {
		return "sconce:" + s.Namespace + ":" + s.Name
	}
	return "sconce:" + s.Kind + ":" + strings.NewReplacer("_", "__", "/", "_s", "%", "_p").Replace(s.Name)
}

// rules returns what is granted in a scope as few rules that grant no more:
// verbs that go together for a resource, and resources that these go together
// for.
func rules(cells map[cell]*granted) []rule {
	type resource struct{ group, resource, subresource, path, names string }
	verbs := map[resource][]cell{}
	for _, c := range slices.SortedFunc(maps.Keys(cells), compareCells) {
		r := resource{c.group, c.resource, c.subresource, c.path, strings.Join(cells[c].names, "\x00")}
		verbs[r] = append(verbs[r], c)
	}
	type together struct{ group, verbs, names, alone string }
	merged := map[together][]cell{}
	for r, list := range verbs {
		key := together{group: r.group, names: r.names}
		if r.path != "" {
			key.group = "\xff" // URLs that are no resources come last
		}
		if r.names != "" {
			key.alone = r.resource + "/" + r.subresource // names are those of one kind
		}
		for _, c := range list {
			key.verbs += c.verb + "\x00"
		}
		merged[key] = append(merged[key], list...)
	}
	keys := slices.SortedFunc(maps.Keys(merged), func(a, b together) int {
		return slices.Compare([]string{a.group, merged[a][0].resource, a.verbs, a.alone, a.names}, []string{b.group, merged[b][0].resource, b.verbs, b.alone, b.names})
	})
	out := make([]rule, 0, len(keys))
	for _, k := range keys {
		out = append(out, ruleOf(merged[k], cells))
	}
	return out
}

// ruleOf returns the rule of cells that are each verb with each resource.
func ruleOf(list []cell, cells map[cell]*granted) rule {
	slices.SortFunc(list, compareCells)
	var r rule
	for _, c := range list {
		g := cells[c]
		r.Verbs = appendNew(r.Verbs, c.verb)
		if c.path != "" {
			r.NonResourceURLs = appendNew(r.NonResourceURLs, c.path)
		} else {
			r.APIGroups = appendNew(r.APIGroups, c.group)
			resource := c.resource
			if c.subresource != "" {
				resource += "/" + c.subresource
			}
			r.Resources = appendNew(r.Resources, resource)
			r.ResourceNames = g.names
		}
		if g.count > 0 {
			r.notes = append(r.notes, fmt.Sprintf("%s: seen %s", c, times(g.count)))
		} else {
			r.notes = append(r.notes, c.String()+": seen, and not yet ended")
		}
		for _, w := range g.reasons {
			if w.Any != "name" || !slices.Contains([]string{"create", "list", "watch", "deletecollection"}, c.verb) {
				r.notes = append(r.notes, fmt.Sprintf("%s: any %s, %s", c, w.Any, w.Reason))
			}
		}
	}
	if len(r.ResourceNames) > 0 && (slices.Contains(r.Verbs, "list") || slices.Contains(r.Verbs, "watch")) {
		r.notes = append(r.notes, "list and watch hold only with the field selector metadata.name, as they were asked for")
	}
	return r
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
