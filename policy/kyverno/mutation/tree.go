// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// toNode makes a YAML node of a tree, as parsing its JSON would: keys sorted,
// strings quoted.
func toNode(v any, depth int, budget *int) (*yaml.Node, error) {
	if *budget--; *budget < 0 {
		return nil, fmt.Errorf("more than %d values are too many to merge", maxValues)
	}
	if depth == 0 {
		return nil, fmt.Errorf("more than %d levels are too deep to merge", maxDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		return mapNode(v, depth, budget)
	case []any:
		return listNode(v, depth, budget)
	}
	return scalarNode(v)
}

func mapNode(v map[string]any, depth int, budget *int) (*yaml.Node, error) {
	content := make([]*yaml.Node, 0, 2*len(v))
	for _, key := range slices.Sorted(maps.Keys(v)) {
		value, err := toNode(v[key], depth-1, budget)
		if err != nil {
			return nil, err
		}
		content = append(content, stringNode(key), value)
	}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: yaml.NodeTagMap, Style: yaml.FlowStyle, Content: content}, nil
}

func listNode(v []any, depth int, budget *int) (*yaml.Node, error) {
	content := make([]*yaml.Node, 0, len(v))
	for _, e := range v {
		element, err := toNode(e, depth-1, budget)
		if err != nil {
			return nil, err
		}
		content = append(content, element)
	}
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: yaml.NodeTagSeq, Style: yaml.FlowStyle, Content: content}, nil
}

func stringNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Style: yaml.DoubleQuotedStyle, Value: s}
}

func scalarNode(v any) (*yaml.Node, error) {
	if s, ok := v.(string); ok {
		return stringNode(s), nil
	}
	text, tag, err := literal(v)
	if err != nil {
		return nil, err
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}, nil
}

// literal returns how JSON writes a value that is no string, map or list.
func literal(v any) (text, tag string, err error) {
	switch v := number(v).(type) {
	case nil:
		return "null", yaml.NodeTagNull, nil
	case bool:
		return strconv.FormatBool(v), yaml.NodeTagBool, nil
	case int64:
		return strconv.FormatInt(v, 10), yaml.NodeTagInt, nil
	case float64:
		text, err := json.Marshal(v)
		if err != nil {
			return "", "", fmt.Errorf("a number that JSON cannot write: %w", err)
		}
		if !bytes.ContainsAny(text, ".e") {
			text = append(text, ".0"...) // too large for an integer, though it looks like one
		}
		return string(text), yaml.NodeTagFloat, nil
	}
	return "", "", fmt.Errorf("a value of type %T is no part of an object", v)
}

// number returns a number as int64 where it is a whole one, as reading it from
// JSON would; other values as they are.
func number(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case float64:
		if v == math.Trunc(v) && v >= math.MinInt64 && v < math.MaxInt64 {
			return int64(v)
		}
	}
	return v
}

// fromNode makes a tree of what was merged, as writing and reading it would.
func fromNode(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		return fromMap(n)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := fromNode(e)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.ScalarNode:
		return fromScalar(n)
	}
	return nil, errors.New("a merged value that is no map, list or scalar")
}

func fromMap(n *yaml.Node) (any, error) {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if _, ok := out[key]; ok {
			return nil, fmt.Errorf("the key %q comes twice, once as an anchor: which of both holds is not said", key)
		}
		v, err := fromNode(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	return out, nil
}

// quoted are the styles of a scalar that is a string whatever it looks like. A
// number that takes the place of a string takes over its quotes, as it does in
// Kyverno.
var quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func fromScalar(n *yaml.Node) (any, error) {
	if n.Style&quoted != 0 || n.ShortTag() == yaml.NodeTagString {
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading the merged value of type %s: %w", n.ShortTag(), err)
	}
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case uint64:
		return float64(v), nil
	}
	return number(v), nil
}
