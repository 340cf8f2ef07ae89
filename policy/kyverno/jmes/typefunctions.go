// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

var numberFunctions = map[string]*function{
	"abs":   {args: []types{number}, call: func(_ *run, args []any) (any, error) { return math.Abs(args[0].(float64)), nil }},
	"ceil":  {args: []types{number}, call: func(_ *run, args []any) (any, error) { return math.Ceil(args[0].(float64)), nil }},
	"floor": {args: []types{number}, call: func(_ *run, args []any) (any, error) { return math.Floor(args[0].(float64)), nil }},
	"avg":   {args: []types{numbers}, call: average},
	"round": {args: []types{number, number}, call: round},
}

var typeFunctions = map[string]*function{
	"type":       {args: []types{anything}, call: typeName},
	"to_array":   {args: []types{anything}, call: toArray},
	"to_string":  {args: []types{anything}, call: toString},
	"to_number":  {args: []types{anything}, call: toNumber},
	"to_boolean": {args: []types{text}, call: toBoolean},
	"not_null":   {args: []types{anything}, variadic: true, call: notNull},
}

func average(_ *run, args []any) (any, error) {
	in := args[0].([]any)
	sum := 0.0
	for _, item := range in {
		sum += item.(float64)
	}
	return sum / float64(len(in)), nil
}

func round(_ *run, args []any) (any, error) {
	places, err := integer(args[1].(float64))
	if err != nil {
		return nil, err
	}
	if places < 0 {
		return nil, errors.New("the number of places is less than 0")
	}
	shift := math.Pow(10, float64(places))
	return math.Round(args[0].(float64)*shift) / shift, nil
}

var errInteger = errors.New("an argument is no integer")

func integer(f float64) (int, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) || math.Trunc(f) != f || float64(int(f)) != f {
		return 0, errInteger
	}
	return int(f), nil
}

func typeName(_ *run, args []any) (any, error) {
	switch args[0].(type) {
	case nil:
		return "null", nil
	case bool:
		return "boolean", nil
	case float64:
		return "number", nil
	case string:
		return "string", nil
	case []any:
		return "array", nil
	case map[string]any:
		return "object", nil
	}
	return nil, errArguments
}

func toArray(_ *run, args []any) (any, error) {
	if in, ok := args[0].([]any); ok {
		return in, nil
	}
	return args[:1:1], nil
}

func toString(r *run, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		return s, nil
	}
	return r.json(args[0])
}

// json encodes a value.
func (r *run) json(value any) (string, error) {
	if err := r.measure(value); err != nil {
		return "", err
	}
	b, err := json.Marshal(value)
	if err != nil {
		return "", errors.New("a value cannot be written as JSON")
	}
	return string(b), r.spendText(len(b))
}

func toNumber(_ *run, args []any) (any, error) {
	switch v := args[0].(type) {
	case float64:
		return v, nil
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return nil, nil
		}
		return f, nil
	case nil, bool, []any, map[string]any:
		return nil, nil
	}
	return nil, errArguments
}

func toBoolean(_ *run, args []any) (any, error) {
	switch strings.ToLower(args[0].(string)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, errors.New("the argument is neither true nor false")
}

func notNull(_ *run, args []any) (any, error) {
	for _, arg := range args {
		if arg != nil {
			return arg, nil
		}
	}
	return nil, nil
}

// scalarText returns a scalar as a text.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 32), true
	}
	return "", false
}
