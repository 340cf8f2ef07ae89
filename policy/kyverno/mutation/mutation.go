// SPDX-License-Identifier: Apache-2.0

// Package mutation changes objects as Kyverno's mutate rules do: by a strategic
// merge with anchors, and by a JSON patch. What becomes of an object is what
// Kyverno 1.19 makes of it, peculiarities included.
//
// Objects are trees of map[string]any, []any, string, float64, int64, bool and
// nil. Nothing here knows variables: they are substituted before.
package mutation

import (
	"fmt"
	"reflect"

	"sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/kustomize/kyaml/yaml/merge2"
)

// What is merged is bounded: the merge of lists takes time that grows with the
// square of their length, and a tree's depth is that of the stack.
const (
	maxDepth   = 128
	maxValues  = 200_000
	maxSquares = 500_000 // the squares of the lengths of all lists: about 700 elements in one
)

// StrategicMerge merges an overlay into an object and returns the new object,
// and whether it differs from the old one. Where a condition of the overlay is
// not met, it does not. Neither argument is changed.
//
// Keys of the overlay may be anchors. (key) is a condition on the map that it
// stands in, <(key) one on the whole object, and +(key) sets what is not there
// yet. An element of a list that has conditions is merged into each element that
// meets them.
func StrategicMerge(base, overlay any) (any, bool, error) {
	if _, ok := base.(map[string]any); !ok {
		return nil, false, fmt.Errorf("patchStrategicMerge: the object is %s; want a map", kindOf(base))
	}
	if _, ok := overlay.(map[string]any); !ok {
		return nil, false, fmt.Errorf("patchStrategicMerge is %s; want a map", kindOf(overlay))
	}
	patch, err := resolve(overlay, base)
	if patch == nil || err != nil {
		return base, false, err
	}
	out, err := merge(base, patch)
	if err != nil {
		return nil, false, err
	}
	return out, !same(base, out), nil
}

// merge merges a patch without anchors into an object.
func merge(base any, patch *yaml.Node) (any, error) {
	budget := maxValues
	node, err := toNode(base, maxDepth, &budget)
	if err != nil {
		return nil, fmt.Errorf("patchStrategicMerge: the object: %w", err)
	}
	if squares(node)+squares(patch) > maxSquares {
		return nil, fmt.Errorf("patchStrategicMerge: the lists of the object are too long to merge; one may have about 700 elements")
	}
	merged, err := merge2.Merge(yaml.NewRNode(patch), yaml.NewRNode(node),
		yaml.MergeOptions{ListIncreaseDirection: yaml.MergeOptionsListPrepend})
	if err != nil {
		return nil, fmt.Errorf("merging patchStrategicMerge into the object: %w", err)
	}
	if merged == nil {
		return nil, fmt.Errorf("patchStrategicMerge deletes the whole object, which a mutation cannot")
	}
	out, err := fromNode(merged.YNode())
	if err != nil {
		return nil, fmt.Errorf("merging patchStrategicMerge into the object: %w", err)
	}
	if _, ok := out.(map[string]any); !ok {
		return nil, fmt.Errorf("merging patchStrategicMerge into the object leaves %s; want a map", kindOf(out))
	}
	return out, nil
}

// squares returns the sum of the squares of the lengths of all lists.
func squares(n *yaml.Node) int {
	sum := 0
	if n.Kind == yaml.SequenceNode {
		sum = len(n.Content) * len(n.Content)
	}
	for _, c := range n.Content {
		sum += squares(c)
	}
	return sum
}

// same says whether two trees are equal, whatever type their numbers have.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && sameMap(a, b)
	case []any:
		b, ok := b.([]any)
		return ok && sameList(a, b)
	}
	return reflect.DeepEqual(number(a), number(b))
}

func sameMap(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || !same(v, w) {
			return false
		}
	}
	return true
}

func sameList(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	}
	return "a number"
}
