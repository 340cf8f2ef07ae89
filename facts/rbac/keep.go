// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// What the model keeps of objects. None of it is changed once it is made, so
// that several models may share it.
type (
	// keptRole is a Role or ClusterRole.
	keptRole struct {
		ref   object.Ref
		place place
		rules []unique.Handle[string]
		// index are the places of the rules in the role where some could not be
		// read; nil where it is 0, 1, 2, …
		index     []int
		labels    labels.Set
		selectors []labels.Selector
		aggregate bool // it has an aggregationRule
		stored    bool // it was read from a cluster, whose controller has filled in the rules
		unknown   string
	}
	// keptBinding is a RoleBinding or ClusterRoleBinding.
	keptBinding struct {
		ref      object.Ref
		place    place
		role     roleKey
		subjects []keptSubject
		refused  string // why the API server takes no such binding
		unknown  string // why more may be bound, or to more
		// unknownRole says that it is the role that is not known;
		// unknownSubjects, why there may be other subjects.
		unknownRole     bool
		unknownSubjects string
	}
	// keptSubject is a subject of a binding; a ServiceAccount that names no
	// namespace is in that of its binding.
	keptSubject struct {
		Subject
		named   string // its name as it is written
		refused string // why the API server takes no such subject
	}
	// keptAccount is a ServiceAccount.
	keptAccount struct {
		ref   object.Ref
		place place
		mount mount
	}
	// keptRunner is what runs as a ServiceAccount: something that holds a pod.
	keptRunner struct {
		ref     object.Ref
		place   place
		account string
		field   string // that names the account
		unknown string
		mount   mount
		says    bool // the pod says whether the token is mounted
	}
	// keptToken is a Secret with the token of a ServiceAccount; not what is in
	// it.
	keptToken struct {
		ref     object.Ref
		account string
	}
)

// roleKey names a role.
type roleKey struct {
	cluster         bool
	namespace, name string
}

func (k roleKey) kind() string {
	if k.cluster {
		return clusterRole.Kind
	}
	return role.Kind
}

func (k roleKey) ref() object.Ref {
	return object.Ref{APIVersion: group + "/v1", Kind: k.kind(), Namespace: k.namespace, Name: k.name}
}

func keyOf(ref object.Ref) roleKey {
	if ref.Kind == clusterRole.Kind {
		return roleKey{cluster: true, name: ref.Name}
	}
	return roleKey{namespace: ref.Namespace, name: ref.Name}
}

// Keep returns what the model needs of an object: nil for nothing. Of a Secret
// it keeps the name of the ServiceAccount whose token it holds.
func Keep(o *object.Object) any { return shared(o) }

// shared lets models hold what they keep of an object once.
var shared = facts.Share(keep)

func keep(o *object.Object) any {
	switch o.GroupKind() {
	case role, clusterRole:
		return keepRole(o)
	case roleBinding, clusterRoleBinding:
		return keepBinding(o)
	case serviceAccount:
		return &keptAccount{ref: o.Ref, place: placeOf(o, ""), mount: mountOf(o.Root.Get(automountField))}
	case secret:
		if o.Root.Get("type").Str() == tokenType {
			if account := o.Root.At("metadata", "annotations", tokenAccount).Str(); account != "" {
				return &keptToken{ref: o.Ref, account: intern(account)}
			}
		}
		return nil
	}
	if _, ok := object.PodPath(o.GroupKind()); ok && !isMirror(o) {
		return keepRunner(o)
	}
	return nil
}

func keepRunner(o *object.Object) *keptRunner {
	account, field := accountOf(o)
	k := &keptRunner{ref: o.Ref, place: placeOfRunner(o), field: field}
	if account.Kind == object.Unknown {
		k.unknown = account.Text
		return k
	}
	path, _ := object.PodPath(o.GroupKind())
	said := o.Root.At(append(keys(path), "spec", automountField)...)
	k.account, k.mount, k.says = intern(account.Text), mountOf(said), said != nil
	return k
}

// placeOfRunner keeps the place of what holds a pod, and of its account. What has
// no lines has no places.
func placeOfRunner(o *object.Object) place {
	if o.Root.Line == 0 && o.Origin.Locate == nil {
		return place{facts.Slim(o)}
	}
	return place{slim(o).(*object.Object)}
}

// Where a Secret says whose token it holds.
const (
	tokenType    = "kubernetes.io/service-account-token"
	tokenAccount = "kubernetes.io/service-account.name"
)

// intern returns the one copy of a string: a cluster says the same few verbs,
// resources and names 100,000 times.
func intern(s string) string { return unique.Make(s).Value() }

func keepRole(o *object.Object) *keptRole {
	k := &keptRole{ref: o.Ref, place: placeOf(o, "rules"), stored: o.Root.At("metadata", "uid") != nil}
	k.readRules(o.Root.Get("rules"))
	if o.GroupKind() == role {
		return k
	}
	if all := o.Root.At("metadata", "labels"); all != nil && all.Kind == object.Map {
		k.labels = make(labels.Set, len(all.Fields))
		for _, f := range all.Fields {
			if f.Value.HasUnknown() {
				k.doubt(f.Value.FirstUnknown())
			}
			k.labels[intern(f.Key)] = intern(f.Value.Str())
		}
	}
	if rule := o.Root.Get("aggregationRule"); rule != nil {
		k.aggregate = true
		k.readSelectors(rule)
	}
	return k
}

// doubt notes why not all of a role is known; the first reason is enough.
func (k *keptRole) doubt(reason string) {
	if k.unknown == "" {
		k.unknown = reason
	}
}

func (k *keptRole) readRules(rules *object.Node) {
	if rules == nil {
		return
	}
	if rules.Kind != object.List {
		k.doubt(notA(rules, "rules", "a list"))
		return
	}
	for i, n := range rules.Items {
		r, unknown := parseRule(n)
		if unknown != "" {
			k.doubt(fmt.Sprintf("rules[%d]: %s", i, unknown))
			continue
		}
		if k.index == nil && i > len(k.rules) {
			k.index = upTo(len(k.rules))
		}
		if k.index != nil {
			k.index = append(k.index, i)
		}
		k.rules = append(k.rules, unique.Make(string(r.write(nil))))
	}
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// at is the place of the rule i that was read among those of the role.
func (k *keptRole) at(i int) int {
	if k.index == nil {
		return i
	}
	return k.index[i]
}

// parseRule reads a rule. What of it is not known may be anything, so that the
// rule counts for nothing, for the reason that is returned.
func parseRule(n *object.Node) (r Rule, unknown string) {
	if n.Kind != object.Map {
		return r, notA(n, "a rule", "a map")
	}
	for i, field := range [...]string{"verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"} {
		list, unknown := stringsOf(n.Get(field), field)
		if unknown != "" {
			return r, unknown
		}
		*r.lists()[i] = list
	}
	return r, ""
}

// stringsOf reads a list of strings, or says why it cannot.
func stringsOf(n *object.Node, field string) (list []string, unknown string) {
	if n == nil {
		return nil, ""
	}
	if n.Kind != object.List {
		return nil, notA(n, field, "a list")
	}
	for _, item := range n.Items {
		if item.Kind != object.String {
			return nil, notA(item, "an item of "+field, "a string")
		}
		list = append(list, item.Text)
	}
	return list, ""
}

// notA says what something is instead of what it must be.
func notA(n *object.Node, what, want string) string {
	if n.Kind == object.Unknown {
		return n.Text
	}
	return fmt.Sprintf("%s is %s, not %s", what, n.Kind.A(), want)
}

// readSelectors reads the selectors of an aggregationRule.
func (k *keptRole) readSelectors(rule *object.Node) {
	list := rule.Get("clusterRoleSelectors")
	if rule.Kind != object.Map || list != nil && list.Kind != object.List {
		k.doubt("aggregationRule is not a map with a list of selectors")
		return
	}
	for i, n := range facts.Items(list) {
		s, err := selectorOf(n)
		if err != nil {
			k.doubt(fmt.Sprintf("aggregationRule.clusterRoleSelectors[%d]: %v", i, err))
			continue
		}
		k.selectors = append(k.selectors, s)
	}
}

// selectorOf reads a label selector.
func selectorOf(n *object.Node) (labels.Selector, error) {
	if n.HasUnknown() {
		return nil, fmt.Errorf("%s", n.FirstUnknown())
	}
	if n.Kind != object.Map {
		return nil, fmt.Errorf("the selector is %s, not a map", n.Kind.A())
	}
	s := metav1.LabelSelector{MatchLabels: map[string]string{}}
	if m := n.Get("matchLabels"); m != nil {
		if m.Kind != object.Map {
			return nil, fmt.Errorf("matchLabels is %s, not a map", m.Kind.A())
		}
		for _, f := range m.Fields {
			switch f.Value.Kind {
			case object.String:
			case object.Null: // an empty value, to the API server
			default:
				return nil, fmt.Errorf("the label %s is %s, not a string", f.Key, f.Value.Kind.A())
			}
			s.MatchLabels[f.Key] = f.Value.Str()
		}
	}
	expressions := n.Get("matchExpressions")
	if expressions != nil && expressions.Kind != object.List {
		return nil, fmt.Errorf("matchExpressions is %s, not a list", expressions.Kind.A())
	}
	for _, e := range facts.Items(expressions) {
		values, unknown := stringsOf(e.Get("values"), "values")
		if unknown != "" {
			return nil, fmt.Errorf("%s", unknown)
		}
		s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Get("key").Str(), Operator: metav1.LabelSelectorOperator(e.Get("operator").Str()), Values: values,
		})
	}
	return metav1.LabelSelectorAsSelector(&s)
}

func keepBinding(o *object.Object) *keptBinding {
	k := &keptBinding{ref: o.Ref, place: placeOf(o, "subjects")}
	k.readRole(o)
	k.readSubjects(o.Root.Get("subjects"))
	return k
}

func (k *keptBinding) readRole(o *object.Object) {
	ref := o.Root.Get("roleRef")
	if ref.HasUnknown() {
		k.unknown, k.unknownRole = "roleRef: "+ref.FirstUnknown(), true
		return
	}
	kind, named := ref.Get("kind").Str(), ref.Get("name").Str()
	switch g := ref.Get("apiGroup").Str(); {
	case g != "" && g != group:
		k.refused = fmt.Sprintf("roleRef.apiGroup is %q, not %s", g, group)
	case kind != clusterRole.Kind && (kind != role.Kind || k.cluster()):
		k.refused = fmt.Sprintf("roleRef.kind is %q", kind)
	case named == "":
		k.refused = "roleRef names no role"
	}
	k.role = roleKey{cluster: kind == clusterRole.Kind, name: intern(named)}
	if !k.role.cluster {
		k.role.namespace = intern(o.Namespace)
	}
}

// cluster says whether the binding is cluster-wide.
func (k *keptBinding) cluster() bool { return k.ref.Kind == clusterRoleBinding.Kind }

func (k *keptBinding) readSubjects(subjects *object.Node) {
	if subjects == nil {
		return
	}
	if subjects.Kind != object.List {
		k.unknown = notA(subjects, "subjects", "a list")
		k.unknownSubjects = k.unknown
		return
	}
	k.subjects = make([]keptSubject, 0, len(subjects.Items))
	for i, n := range subjects.Items {
		if n.HasUnknown() {
			k.unknown = fmt.Sprintf("subjects[%d]: %s", i, n.FirstUnknown())
			k.unknownSubjects = k.unknown
		}
		k.subjects = append(k.subjects, k.subject(n))
	}
}

// subject reads a subject, and says why the API server takes no such subject,
// if it does not. What is not known binds nobody here; the binding says so.
func (k *keptBinding) subject(n *object.Node) keptSubject {
	kind, named, of := n.Get("kind").Str(), n.Get("name").Str(), n.Get("apiGroup").Str()
	s := keptSubject{Subject: Subject{Kind: intern(kind), Name: intern(named)}, named: intern(named)}
	switch {
	case n.HasUnknown():
		s.refused = n.FirstUnknown()
	case named == "":
		s.refused = "it has no name"
	case kind == ServiceAccount:
		s.Namespace = intern(n.Get("namespace").Str())
		if s.Namespace == "" && !k.cluster() {
			s.Namespace = intern(k.ref.Namespace)
		}
		if of != "" {
			s.refused = fmt.Sprintf("apiGroup of a ServiceAccount is %q", of)
		} else if s.Namespace == "" && k.cluster() {
			s.refused = "the ServiceAccount names no namespace"
		}
	case kind != User && kind != Group:
		s.refused = fmt.Sprintf("kind is %q", kind)
	case of != "" && of != group:
		s.refused = fmt.Sprintf("apiGroup of a %s is %q, not %s", kind, of, group)
	case kind == User:
		s.Subject = userSubject(s.Name)
	}
	return s
}

// place is what leads to the lines of an object.
type place struct {
	// of has the metadata, and the list that people edit: its items are empty
	// unless an overlay or a chart must look for their values.
	of *object.Object
}

// placeOf keeps the place of an object and of the items of one of its lists.
func placeOf(o *object.Object, list string) place {
	if o.Origin.Locate != nil {
		return place{facts.Slim(o, []string{"rules"}, []string{"roleRef"}, []string{"subjects"})}
	}
	slim := facts.Slim(o)
	if o.Root.Line == 0 {
		return place{slim}
	}
	root := *slim.Root
	root.Fields = slices.Clone(root.Fields)
	slim = o.WithRoot(&root)
	for _, f := range o.Root.Fields {
		switch f.Key {
		case "roleRef":
			f.Value = &object.Node{Kind: object.Map, Line: f.Value.Line, Col: f.Value.Col}
		case list:
			f.Value = outline(f.Value)
		default:
			continue
		}
		slim.Root.Fields = append(slim.Root.Fields, f)
	}
	return place{slim}
}

// outline is a list whose items have nothing but their names and the places of
// their fields.
func outline(list *object.Node) *object.Node {
	out := &object.Node{Kind: object.List, Line: list.Line, Col: list.Col}
	for _, item := range facts.Items(list) {
		kept := &object.Node{Kind: object.Map, Line: item.Line, Col: item.Col}
		for _, f := range item.Fields {
			value := &object.Node{Kind: object.String, Line: f.Value.Line, Col: f.Value.Col}
			if f.Key == "name" {
				value = object.NewString(intern(f.Value.Str()))
				value.Line, value.Col = f.Value.Line, f.Value.Col
			}
			f.Key, f.Value = intern(f.Key), value
			kept.Fields = append(kept.Fields, f)
		}
		out.Items = append(out.Items, kept)
	}
	return out
}

func (p place) position(path object.Path) object.Position {
	if p.of == nil {
		return object.Position{Note: "brought by Kubernetes itself"}
	}
	return p.of.Position(path)
}

// compare orders places by their files and lines.
func (p place) compare(q place) int {
	if p.of == nil || q.of == nil {
		return 0
	}
	return cmp.Or(cmp.Compare(p.of.Origin.Source, q.of.Origin.Source), cmp.Compare(p.of.Root.Line, q.of.Root.Line))
}

// isMirror says whether a Pod stands in the API for a static one.
func isMirror(o *object.Object) bool {
	return o.Kind == "Pod" && o.Root.At("metadata", "annotations", mirror) != nil
}

// compareRefs orders objects by kind, namespace and name.
func compareRefs(a, b object.Ref) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.APIVersion, b.APIVersion))
}
