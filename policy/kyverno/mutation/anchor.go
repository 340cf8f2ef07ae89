// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// anchor is what a key says besides its name.
type anchor byte

const (
	plain     anchor = 0
	condition anchor = '('
	global    anchor = '<'
	absent    anchor = '+' // add if not present
	other     anchor = '?' // anchors of validation, which say nothing here
)

// parseAnchor takes a key apart.
func parseAnchor(key string) (name string, a anchor) {
	s := strings.TrimSpace(key)
	open := strings.IndexByte(s, '(')
	if open < 0 || open > 1 || !strings.HasSuffix(s, ")") || len(s) < open+3 || strings.ContainsRune(s, '\n') {
		return key, plain
	}
	a = condition
	if open == 1 {
		switch s[0] {
		case '<':
			a = global
		case '+':
			a = absent
		case '=', 'X', '^':
			a = other
		default:
			return key, plain
		}
	}
	return s[open+1 : len(s)-1], a
}

func (a anchor) conditional() bool { return a == condition || a == global }

// selects says whether an anchor chooses the elements of a list, or what is set
// in them.
func (a anchor) selects() bool { return a.conditional() || a == absent }

// anchored says whether a tree has anchors of a kind. A scalar that looks like a
// condition counts as one.
func anchored(n *yaml.Node, is func(anchor) bool) bool {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if _, a := parseAnchor(n.Content[i].Value); a != plain && is(a) || anchored(n.Content[i+1], is) {
				return true
			}
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			if anchored(e, is) {
				return true
			}
		}
	case yaml.ScalarNode:
		_, a := parseAnchor(n.Value)
		return a.conditional()
	}
	return false
}

// keys returns those of a map as they are now, since the map changes while they
// are gone through.
func keys(n *yaml.Node) []string {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	out := make([]string, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, n.Content[i].Value)
	}
	return out
}

// field returns where a map's value is; -1 if there is none.
func field(n *yaml.Node, key string) int {
	if n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i + 1
		}
	}
	return -1
}

func value(n *yaml.Node, key string) *yaml.Node {
	if i := field(n, key); i > 0 {
		return n.Content[i]
	}
	return nil
}

func clearField(n *yaml.Node, key string) {
	if i := field(n, key); i > 0 {
		n.Content = append(n.Content[:i-1], n.Content[i+1:]...)
	}
}

func renameField(n *yaml.Node, key, name string) {
	if i := field(n, key); i > 0 {
		n.Content[i-1].Value = name
	}
}

func setField(n *yaml.Node, key string, v *yaml.Node) {
	if i := field(n, key); i > 0 {
		v.Style = n.Content[i].Style // as the library that merges does
		n.Content[i] = v
		return
	}
	n.Content = append(n.Content, stringNode(key), v)
}

// clone copies a tree, except for its strings. Its size is taken off the budget.
func clone(n *yaml.Node, budget *int) *yaml.Node {
	*budget--
	if *budget < 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagNull, Value: "null"}
	}
	out := *n
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = clone(c, budget)
	}
	return &out
}
