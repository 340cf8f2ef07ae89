// SPDX-License-Identifier: Apache-2.0

// Package pattern matches trees of maps and lists against the patterns of Kyverno's
// older policies: maps whose keys may stand in anchors, lists whose first item is a
// pattern of every item, and scalars with operators, wildcards, ranges, quantities and
// durations.
//
// It matches as Kyverno 1.19 does, its corners included: what it calls a failure, a
// rule that does not apply, and an error are the same. It differs where Kyverno is
// left to chance or to what an object says: of several labels that a key with a
// wildcard stands for it takes the first by name, a pattern is not changed by what it
// was matched with before, an object cannot make a rule not apply by what a value of
// it reads, and a number that is too large to reckon with is text. It knows
// nothing of variables: what is compiled has none any more.
package pattern

import (
	"errors"
	"fmt"
)

// Mismatch says where and why a tree does not match. At most one of Skip and Error is
// set.
type Mismatch struct {
	// Path are the names of fields and the numbers of items from the root. The last
	// of them may not be in the tree.
	Path    []string
	Message string
	// Skip says that a conditional or global anchor is not met: the rule is not
	// about the resource.
	Skip bool
	// Error says that Kyverno calls this an error of the rule and not a failure: the
	// resource lacks fields that anchors of the pattern name, or has a list of
	// another length.
	Error bool
}

const (
	maxDepth = 256
	maxText  = 64 << 10
)

var errDepth = fmt.Errorf("the pattern is nested deeper than %d", maxDepth)

// Pattern is a compiled pattern. It is safe for concurrent use.
type Pattern struct{ root *node }

// Compile compiles a pattern of maps, lists and scalars. It keeps nothing of it.
func Compile(pattern any) (*Pattern, error) {
	root, err := compile(pattern, 0)
	if err != nil {
		return nil, fmt.Errorf("compiling a pattern: %w", err)
	}
	return &Pattern{root: root}, nil
}

// Match returns nil if a tree matches, and otherwise the first place where it does
// not.
func (p *Pattern) Match(resource any) *Mismatch {
	m := matcher{}
	if m.match(p.root, resource).kind == matched {
		return nil
	}
	return explain(p.root, resource)
}

// compile makes a node of a part of a pattern.
func compile(pattern any, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	switch p := pattern.(type) {
	case map[string]any:
		return compileMap(p, depth)
	case []any:
		return compileList(p, depth)
	case string:
		if len(p) > maxText {
			return nil, fmt.Errorf("a text of it is longer than %d bytes", maxText)
		}
	case nil, bool, int, int64, float64:
	default:
		return nil, errors.New("it holds what is neither a map, a list, a text, a number, a boolean nor null")
	}
	s := newScalar(pattern)
	return &node{scalar: &s}, nil
}
