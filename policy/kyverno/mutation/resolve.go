// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"errors"
	"fmt"

	"sigs.k8s.io/kustomize/kyaml/yaml"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

// resource is a part of the object that an overlay is held against. It may be
// absent, which is not the same as null.
type resource struct {
	value any
	there bool
}

func (r resource) field(key string) resource {
	m, ok := r.value.(map[string]any)
	if !ok {
		return resource{}
	}
	v, ok := m[key]
	return resource{v, ok}
}

// Conditions that are not met. Whoever goes through a list passes over the
// element; everybody else gives up the whole overlay.
var (
	errCondition = errors.New("a condition is not met")
	errGlobal    = errors.New("a global condition is not met")
)

type resolver struct {
	budget int // values that copies of list elements may come to
}

// conditionCost is what holding a value against a condition takes off the budget.
const conditionCost = 10

// resolve turns an overlay with anchors into a patch for one object; nil where
// its conditions are not met.
func resolve(overlay, base any) (*yaml.Node, error) {
	r := &resolver{budget: maxValues}
	node, err := toNode(overlay, maxDepth, &r.budget)
	if err != nil {
		return nil, fmt.Errorf("patchStrategicMerge: %w", err)
	}
	err = r.walk(node, resource{base, true})
	if r.budget < 0 {
		return nil, fmt.Errorf("patchStrategicMerge comes to more than %d values, which is too many to merge", maxValues)
	}
	if errors.Is(err, errCondition) || errors.Is(err, errGlobal) {
		return nil, nil //nolint:nilnil // no patch, and nothing wrong
	}
	if err != nil {
		return nil, err
	}
	for _, key := range keys(node) {
		_, a := parseAnchor(key)
		if strip(value(node, key), a.conditional()) {
			clearField(node, key)
		}
	}
	return node, nil
}

// walk decides the anchors of a part of the overlay.
func (r *resolver) walk(n *yaml.Node, at resource) error {
	switch n.Kind {
	case yaml.MappingNode:
		return r.walkMap(n, at)
	case yaml.SequenceNode:
		if len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode {
			return r.walkList(n, at)
		}
	}
	return nil
}

func (r *resolver) walkMap(n *yaml.Node, at resource) error {
	addAbsent(n, at)
	if err := r.conditions(n, at, global, errGlobal); err != nil {
		return err
	}
	if err := r.conditions(n, at, condition, errCondition); err != nil {
		return err
	}
	for _, key := range keys(n) {
		if _, a := parseAnchor(key); a.selects() {
			continue
		}
		if v := value(n, key); v != nil {
			if err := r.walk(v, at.field(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addAbsent decides the +(key) of a map: what the object has is taken out of the
// overlay. It returns how many there were.
func addAbsent(n *yaml.Node, at resource) int {
	count := 0
	for _, key := range keys(n) {
		name, a := parseAnchor(key)
		if a != absent {
			continue
		}
		count++
		if at.field(name).there {
			clearField(n, key)
		} else {
			renameField(n, key, name)
		}
	}
	return count
}

// conditions holds the object against the conditions of one kind in a map.
func (r *resolver) conditions(n *yaml.Node, at resource, kind anchor, unmet error) error {
	for _, key := range keys(n) {
		name, a := parseAnchor(key)
		if a != kind {
			continue
		}
		v, want := at.field(name), value(n, key)
		if !v.there {
			return unmet
		}
		if addAbsent(want, v) > 0 {
			continue
		}
		r.budget -= conditionCost
		ok, err := matches(want, v.value)
		if err != nil {
			return fmt.Errorf("patchStrategicMerge: %s: %w", key, err)
		}
		if !ok {
			return unmet
		}
	}
	return nil
}

// matches holds a value against a condition. Scalars are compared as texts.
func matches(want *yaml.Node, v any) (bool, error) {
	tree, err := conditionTree(want)
	if err != nil {
		return false, err
	}
	p, err := pattern.Compile(tree)
	if err != nil {
		return false, err
	}
	switch v.(type) {
	case map[string]any, []any, string:
	default:
		if v, _, err = literal(v); err != nil {
			return false, err
		}
	}
	return p.Match(v) == nil, nil
}

func conditionTree(n *yaml.Node) (any, error) {
	if n.Kind == yaml.ScalarNode {
		return n.Value, nil
	}
	return fromNode(n)
}

// walkList goes through the elements of a list. For each element of the object's
// list that meets an element's conditions, the list gets an element more, which
// says by its name what it is merged into.
func (r *resolver) walkList(list *yaml.Node, at resource) error {
	elements, ok := at.value.([]any)
	if !ok && at.value != nil {
		return fmt.Errorf("patchStrategicMerge has a list where the object has %s", kindOf(at.value))
	}
	for _, e := range append([]*yaml.Node(nil), list.Content...) {
		if !anchored(e, anchor.selects) {
			continue
		}
		if err := r.walkElement(list, e, elements, at); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) walkElement(list, element *yaml.Node, elements []any, at resource) error {
	// One copy serves all elements of the object: what the first has is no longer
	// added to the second.
	e := clone(element, &r.budget)
	isGlobal := anchored(element, func(a anchor) bool { return a == global })
	var met bool
	var unmet error
	for _, v := range elements {
		switch err := r.walk(e, resource{v, true}); {
		case errors.Is(err, errCondition):
		case errors.Is(err, errGlobal):
			unmet = err
		case err != nil:
			return err
		case isGlobal:
			met = true
		default:
			r.add(list, e, v)
		}
		if r.budget < 0 {
			return nil
		}
	}
	if !at.there {
		switch err := r.walk(e, resource{}); {
		case errors.Is(err, errCondition):
			return nil
		case err != nil:
			return err
		case isGlobal:
			met = true
		}
	}
	if !met {
		return unmet
	}
	return nil
}

// add adds an element to the list for an element of the object. What has no name
// cannot be merged into.
func (r *resolver) add(list, e *yaml.Node, v any) {
	named := resource{v, true}.field("name")
	if !named.there || named.value == nil || named.value == "" {
		return
	}
	name, err := toNode(named.value, maxDepth, &r.budget)
	if err != nil {
		return
	}
	added := clone(e, &r.budget)
	if strip(added, true) {
		return
	}
	setField(added, "name", name)
	list.Content = append(list.Content, added)
}

// strip takes the anchors out of a part of the overlay, and says whether nothing
// else was in it. Scalar says that it itself is the value of a condition.
func strip(n *yaml.Node, scalar bool) bool {
	switch n.Kind {
	case yaml.MappingNode:
		return stripMap(n)
	case yaml.SequenceNode:
		return stripList(n)
	case yaml.ScalarNode:
		return scalar
	}
	return false
}

func stripMap(n *yaml.Node) bool {
	var left bool
	for _, key := range keys(n) {
		if _, a := parseAnchor(key); !a.conditional() {
			continue
		}
		if v := value(n, key); v != nil && strip(v, true) {
			clearField(n, key)
		} else {
			left = true
		}
	}
	if left {
		for _, key := range keys(n) {
			if name, a := parseAnchor(key); a.conditional() {
				renameField(n, key, name)
			}
		}
	}
	empty := true
	for _, key := range keys(n) {
		if v := value(n, key); v != nil && strip(v, false) {
			clearField(n, key)
		} else {
			empty = false
		}
	}
	return empty
}

// stripList drops the elements that have anchors, whose merged copies are in the
// list by now. Kyverno counts places as they were before it dropped the first, and
// so it is done here: of several elements with anchors, some stay.
func stripList(n *yaml.Node) bool {
	before := append([]*yaml.Node(nil), n.Content...)
	for i, e := range before {
		if (anchored(e, anchor.selects) || strip(e, false)) && i < len(n.Content) {
			n.Content = append(n.Content[:i], n.Content[i+1:]...)
		}
	}
	return len(n.Content) == 0 && len(before) > 0
}
