// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

// generate runs the rules that generate.
func (e *evaluation) generate() []Response {
	return e.rules(func(r *Rule) bool { return r.hasGenerate() }, e.runGenerate)
}

// runGenerate runs one rule that generates. Unlike others, it is not about the
// request where its context cannot be looked up, and an exception is looked for
// first.
func (e *evaluation) runGenerate(r *Rule) *Response {
	if e.subject.object == nil {
		return nil
	}
	out := e.run(r)
	if out != nil && out.Status == Skip && len(out.Exceptions) == 0 {
		out.Message = ""
	}
	return out
}

// generate makes the objects of a rule.
func (r *Rule) generate(s *scope, _ []*Exception) *Response {
	out := &Response{Status: Pass}
	g := r.Generation
	if len(g.ForEach) == 0 {
		made, err := g.Target.make(s)
		if err != nil {
			return generated(out, err)
		}
		out.Generated = made
		return out
	}
	for i := range g.ForEach {
		made, err := g.ForEach[i].make(s)
		if err != nil {
			return generated(out, err)
		}
		out.Generated = append(out.Generated, made...)
	}
	return out
}

// generated is the response where an object cannot be made: the rule passes, as in
// Kyverno, which makes objects later; what is not told is unknown.
func generated(out *Response, err error) *Response {
	out.Message = err.Error()
	if isUnknown(err) {
		out.Status, out.Unknown = Error, err.Error()
	}
	return out
}

func (f *ForEachGeneration) make(outer *scope) ([]map[string]any, error) {
	elements, err := outer.elements(f.List)
	if err != nil {
		return nil, fmt.Errorf("evaluating the list %s: %w", f.List, err)
	}
	var out []map[string]any
	for i, element := range elements {
		if element == nil {
			continue
		}
		s := outer.inner()
		s.addElement(element, i, 0)
		s.add(f.Context)
		if f.Preconditions != nil {
			holds, _, err := jmes.Conditions(f.Preconditions, s)
			if err != nil {
				return nil, fmt.Errorf("evaluating the preconditions of element %d: %w", i, err)
			}
			if !holds {
				continue
			}
		}
		made, err := f.Target.make(s)
		if err != nil {
			return nil, err
		}
		out = append(out, made...)
	}
	return out, nil
}

// make makes the objects of a target.
func (t *Target) make(s *scope) ([]map[string]any, error) {
	fields, err := s.tree(map[string]any{
		"apiVersion": t.APIVersion, "kind": t.Kind, "namespace": t.Namespace, "name": t.Name, "data": t.Data,
		"cloneNamespace": t.Clone.Namespace, "cloneName": t.Clone.Name, "listNamespace": t.CloneList.Namespace,
	})
	if err != nil {
		return nil, fmt.Errorf("putting variables into what is generated: %w", err)
	}
	f, _ := fields.(map[string]any)
	text := func(name string) string {
		out, _ := f[name].(string)
		return out
	}
	made := object.Ref{APIVersion: text("apiVersion"), Kind: text("kind"), Namespace: text("namespace"), Name: text("name")}
	switch {
	case text("cloneName") != "":
		return s.clone(made, text("cloneNamespace"), text("cloneName"))
	case len(t.CloneList.Kinds) > 0:
		return s.cloneList(t.CloneList, text("listNamespace"), made.Namespace)
	}
	data, ok := f["data"].(map[string]any)
	if !ok {
		return nil, errors.New("generate has neither data, clone nor cloneList")
	}
	return []map[string]any{s.labelled(integers(data), made)}, nil
}

// sources are the objects of a kind that may be copied.
func (s *scope) sources(gk object.GroupKind) []*object.Object {
	out := slices.Clone(s.e.options.Sources)
	if c := s.e.request.Cluster; c != nil {
		objects, _ := c.Objects(gk, "")
		out = append(out, objects...)
	}
	return slices.DeleteFunc(out, func(o *object.Object) bool { return o.GroupKind() != gk })
}

func (s *scope) clone(made object.Ref, namespace, name string) ([]map[string]any, error) {
	if namespace == made.Namespace && name == made.Name {
		return nil, nil
	}
	for _, o := range s.sources(made.GroupKind()) {
		if o.Name == name && o.Namespace == namespace {
			return []map[string]any{s.copied(o, made)}, nil
		}
	}
	return nil, &jmes.UnknownError{What: fmt.Sprintf("the %s %s/%s, which is to be copied", made.Kind, namespace, name)}
}

func (s *scope) cloneList(list CloneList, namespace, into string) ([]map[string]any, error) {
	selector, err := metav1.LabelSelectorAsSelector(list.Selector)
	if err != nil {
		return nil, fmt.Errorf("cloneList.selector: %w", err)
	}
	if list.Selector == nil {
		selector = labels.Everything()
	}
	var out []map[string]any
	for _, k := range list.Kinds {
		apiVersion, kind := groupVersionKind(k)
		gk := object.Ref{APIVersion: apiVersion, Kind: kind}.GroupKind()
		for _, o := range s.sources(gk) {
			if o.Namespace != namespace || namespace == into || !selector.Matches(labels.Set(stringMap(o.Root.At("metadata", "labels")))) {
				continue
			}
			out = append(out, s.copied(o, object.Ref{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: into, Name: o.Name}))
		}
	}
	return out, nil
}

// copied is a copy of an object under another name.
func (s *scope) copied(o *object.Object, made object.Ref) map[string]any {
	tree := s.labelled(s.e.request.Tree(o), made)
	m, _ := tree["metadata"].(map[string]any)
	for _, field := range []string{"uid", "selfLink", "creationTimestamp", "managedFields", "resourceVersion"} {
		delete(m, field)
	}
	if o.Namespace != made.Namespace {
		delete(m, "ownerReferences")
	}
	l, _ := m["labels"].(map[string]any)
	l["generate.kyverno.io/clone-source"] = ""
	return tree
}

// labelled is an object with the name that it is to have, and the labels by which
// Kyverno finds what it has made.
func (s *scope) labelled(data map[string]any, made object.Ref) map[string]any {
	out := maps.Clone(data)
	m, _ := data["metadata"].(map[string]any)
	m = maps.Clone(m)
	if m == nil {
		m = map[string]any{}
	}
	l, _ := m["labels"].(map[string]any)
	l = maps.Clone(l)
	if l == nil {
		l = map[string]any{}
	}
	trigger := s.e.subject
	gv := schema.GroupVersion{Group: trigger.gvk.Group, Version: trigger.gvk.Version}
	uid := ""
	if t, ok := trigger.object["metadata"].(map[string]any); ok {
		uid, _ = t["uid"].(string)
	}
	namespace := ""
	if s.e.p.Kind == "Policy" {
		namespace = s.e.p.namespace
	}
	maps.Copy(l, map[string]any{
		"app.kubernetes.io/managed-by":         "kyverno",
		"generate.kyverno.io/policy-name":      s.e.p.Name,
		"generate.kyverno.io/policy-namespace": namespace,
		"generate.kyverno.io/rule-name":        s.rule.Name,
		"generate.kyverno.io/trigger-version":  gv.Version, "generate.kyverno.io/trigger-group": gv.Group,
		"generate.kyverno.io/trigger-kind": trigger.kind, "generate.kyverno.io/trigger-namespace": trigger.namespace,
		"generate.kyverno.io/trigger-uid": uid,
	})
	m["labels"] = l
	m["name"] = made.Name
	if made.Namespace != "" {
		m["namespace"] = made.Namespace
	} else {
		delete(m, "namespace")
	}
	out["metadata"], out["apiVersion"] = m, made.APIVersion
	if kind, _ := out["kind"].(string); kind == "" {
		out["kind"] = made.Kind
	}
	return out
}
