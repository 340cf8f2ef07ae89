// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/kyverno/mutation"
)

// change is how an object is changed: a merge, or a patch.
type change struct {
	overlay  any
	hasVars  bool
	text     string
	compiled *mutation.Patch
}

// newChange prepares a change.
func newChange(overlay any, text string) (*change, error) {
	c := &change{overlay: overlay, text: text}
	if overlay != nil {
		c.hasVars = jmes.HasVariables(overlay)
		return c, nil
	}
	if text == "" {
		return nil, errors.New("the rule changes nothing: write patchStrategicMerge or patchesJson6902")
	}
	if c.hasVars = jmes.HasVariables(text); c.hasVars {
		return c, nil
	}
	var err error
	c.compiled, err = mutation.ParseJSONPatch(text)
	return c, err
}

// apply returns the changed object, and whether it differs.
func (c *change) apply(s *scope, tree map[string]any) (map[string]any, bool, error) {
	out, err := c.changed(s, tree)
	if err != nil {
		return nil, false, err
	}
	changed, ok := out.(map[string]any)
	if !ok {
		return nil, false, errors.New("the changed object is no map")
	}
	changed = integers(changed)
	return changed, !equal(tree, changed), nil
}

func (c *change) changed(s *scope, tree map[string]any) (any, error) {
	if c.overlay != nil {
		overlay := c.overlay
		if c.hasVars {
			var err error
			if overlay, err = jmes.Substitute(overlay, s); err != nil {
				return nil, fmt.Errorf("putting variables into patchStrategicMerge: %w", err)
			}
		}
		out, _, err := mutation.StrategicMerge(tree, overlay)
		return out, err
	}
	if !c.hasVars {
		return c.compiled.Apply(tree)
	}
	text, err := s.text("patchesJson6902", c.text)
	if err != nil {
		return nil, err
	}
	return mutation.JSONPatch(tree, text)
}

// equal compares trees; numbers are equal whatever their type.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		other, ok := b.(map[string]any)
		if !ok || len(a) != len(other) {
			return false
		}
		for k, v := range a {
			w, ok := other[k]
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		other, ok := b.([]any)
		return ok && slices.EqualFunc(a, other, equal)
	case int64, float64, int:
		x, isX := number(a)
		y, isY := number(b)
		return isX && isY && x == y
	}
	return reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// eachChange is a foreach of a rule that mutates.
type eachChange struct {
	*ForEachMutation
	change  *change
	inner   []*eachChange
	reverse bool
}

func newEachChange(f *ForEachMutation) (*eachChange, error) {
	out := &eachChange{ForEachMutation: f, reverse: f.PatchStrategicMerge != nil}
	if f.Order != "" {
		out.reverse = f.Order == "Descending"
	}
	var err error
	if out.inner, err = newEachChanges(f.ForEach); err != nil || len(out.inner) > 0 {
		return out, err
	}
	out.change, err = newChange(f.PatchStrategicMerge, f.PatchesJSON6902)
	return out, err
}

func newEachChanges(list []ForEachMutation) ([]*eachChange, error) {
	var out []*eachChange
	for i := range list {
		c, err := newEachChange(&list[i])
		if err != nil {
			return nil, fmt.Errorf("foreach[%d]: %w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// compileMutation prepares a rule that mutates.
func (r *Rule) compileMutation() error {
	m := r.Mutation
	if len(m.ForEach) > 0 {
		each, err := newEachChanges(m.ForEach)
		if err != nil {
			return fmt.Errorf("mutate: %w", err)
		}
		r.check = func(s *scope, _ []*Exception) *Response { return changeEach(s, each, s.e.subject.object, 0).response() }
		return nil
	}
	c, err := newChange(m.PatchStrategicMerge, m.PatchesJSON6902)
	if err != nil {
		return fmt.Errorf("mutate: %w", err)
	}
	r.check = func(s *scope, _ []*Exception) *Response {
		tree, differs, err := c.apply(s, s.e.subject.object)
		switch {
		case err != nil:
			return failed(TypeMutate, "changing the object", err)
		case !differs:
			return &Response{Status: Skip, Message: "no patches applied"}
		}
		return mutated(tree)
	}
	return nil
}

func mutated(tree map[string]any) *Response {
	m, _ := tree["metadata"].(map[string]any)
	text := fmt.Sprintf("mutated %v/%v", tree["kind"], m["name"])
	if namespace, _ := m["namespace"].(string); namespace != "" {
		text += " in namespace " + namespace
	}
	return &Response{Status: Pass, Message: text, Changed: tree}
}

// changes is what became of the elements of lists.
type changes struct {
	tree    map[string]any
	applied bool
	err     error
}

func (c changes) response() *Response {
	switch {
	case c.err != nil:
		return failed(TypeMutate, "changing the object", c.err)
	case !c.applied:
		return &Response{Status: Skip, Message: "0 elements processed"}
	}
	return mutated(c.tree)
}

// changeEach goes through lists; each sees the object as those before it have left
// it.
func changeEach(s *scope, list []*eachChange, tree map[string]any, nesting int) changes {
	out := changes{tree: tree}
	for _, f := range list {
		elements, err := s.elements(f.List)
		if err != nil {
			return changes{err: fmt.Errorf("evaluating the list %s: %w", f.List, err)}
		}
		tree, err := f.changeElements(s, out.tree, elements, nesting)
		if err != nil {
			return changes{err: err}
		}
		if !equal(tree, out.tree) {
			out.tree, out.applied = tree, true
			s.setObject(tree)
		}
	}
	return out
}

// setObject makes a changed object known to expressions.
func (s *scope) setObject(tree map[string]any) {
	s.own()["request"] = withField(s.sees()["request"], "object", floats(tree))
}

func (f *eachChange) changeElements(outer *scope, tree map[string]any, elements []any, nesting int) (map[string]any, error) {
	for n := range elements {
		i := n
		if f.reverse {
			i = len(elements) - 1 - n
		}
		if elements[i] == nil {
			continue
		}
		if outer.e.ctx.Err() != nil {
			return nil, errTime
		}
		s := outer.inner()
		s.addElement(elements[i], i, nesting)
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
		var err error
		if tree, err = f.changeElement(s, tree, nesting); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return tree, nil
}

func (f *eachChange) changeElement(s *scope, tree map[string]any, nesting int) (map[string]any, error) {
	if len(f.inner) > 0 {
		s.setObject(tree)
		out := changeEach(s, f.inner, tree, nesting+1)
		return out.tree, out.err
	}
	out, _, err := f.change.apply(s, tree)
	return out, err
}
