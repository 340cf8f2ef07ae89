// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"
)

var objectFunctions = map[string]*function{
	"keys":              {args: []types{object}, call: keys},
	"values":            {args: []types{object}, call: values},
	"merge":             {args: []types{object}, variadic: true, call: merge},
	"label_match":       {args: []types{object, object}, call: labelMatch},
	"lookup":            {args: []types{object | array, text | number}, call: lookup},
	"items":             {args: []types{object | array, text, text}, call: pairs},
	"object_from_lists": {args: []types{array, array}, call: objectFromLists},
	"parse_json":        {args: []types{text}, call: parseJSON},
	"parse_yaml":        {args: []types{text}, call: parseYAML},
}

func keys(r *run, args []any) (any, error) {
	of := args[0].(map[string]any)
	out := make([]any, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		out = append(out, key)
	}
	return out, r.spend(len(of))
}

func values(r *run, args []any) (any, error) {
	of := args[0].(map[string]any)
	out := make([]any, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		out = append(out, of[key])
	}
	return out, r.spend(len(of))
}

func merge(r *run, args []any) (any, error) {
	merged := map[string]any{}
	for _, arg := range args {
		of, ok := arg.(map[string]any)
		if !ok {
			return nil, errArguments
		}
		if err := r.spend(len(of)); err != nil {
			return nil, err
		}
		maps.Copy(merged, of)
	}
	return merged, nil
}

// labelMatch says whether all entries of one map are in another.
func labelMatch(r *run, args []any) (any, error) {
	in := args[1].(map[string]any)
	for key, value := range args[0].(map[string]any) {
		other, ok := in[key]
		if !ok {
			return false, nil
		}
		if same, err := r.equal(value, other); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func lookup(_ *run, args []any) (any, error) {
	switch of := args[0].(type) {
	case map[string]any:
		key, ok := args[1].(string)
		if !ok {
			return nil, errors.New("argument 2 is no text, which the key of a map is")
		}
		return known(of[key])
	case []any:
		index, ok := args[1].(float64)
		if !ok {
			return nil, errors.New("argument 2 is no number, which the index of a list is")
		}
		i, err := integer(index)
		if err != nil {
			return nil, err
		}
		if i < 0 || i >= len(of) {
			return nil, nil
		}
		return known(of[i])
	}
	return nil, errArguments
}

// pairs makes a list of maps with two fields, key and value, of a map or a list.
func pairs(r *run, args []any) (any, error) {
	key, value := args[1].(string), args[2].(string)
	out := []map[string]any{}
	switch of := args[0].(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(of)) {
			pair := map[string]any{key: name}
			pair[value] = of[name]
			out = append(out, pair)
		}
	case []any:
		for i, item := range of {
			pair := map[string]any{key: float64(i)}
			pair[value] = item
			out = append(out, pair)
		}
	default:
		return nil, errArguments
	}
	return out, r.spend(len(out))
}

func objectFromLists(r *run, args []any) (any, error) {
	keys, ok := args[0].([]any)
	values, also := args[1].([]any)
	if !ok || !also {
		return nil, errArguments
	}
	out := map[string]any{}
	for i, key := range keys {
		name, ok := scalarText(key)
		if !ok {
			return nil, errors.New("argument 1 has an item that is no text, number or boolean")
		}
		out[name] = nil
		if i < len(values) {
			out[name] = values[i]
		}
	}
	return out, r.spend(len(out))
}

func parseJSON(r *run, args []any) (any, error) {
	s := args[0].(string)
	if err := r.spendText(len(s)); err != nil {
		return nil, err
	}
	var out any
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		return nil, errors.New("the argument is no JSON")
	}
	return out, nil
}

func parseYAML(r *run, args []any) (any, error) {
	s := args[0].(string)
	if err := r.spendText(len(s)); err != nil {
		return nil, err
	}
	b, err := yaml.YAMLToJSON([]byte(s))
	if err != nil {
		return nil, errors.New("the argument is no YAML")
	}
	return parseJSON(r, []any{string(b)})
}
