// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

var errBy = errors.New("the expression does not make a number, or a text, of every item")

var listFunctions = map[string]*function{
	"length":   {args: []types{text | array | object}, call: length},
	"contains": {args: []types{array | text, anything}, call: contains},
	"map":      {args: []types{ref, array}, call: mapItems},
	"max":      {args: []types{numbers | texts}, call: func(r *run, args []any) (any, error) { return extreme(args[0], 1), nil }},
	"min":      {args: []types{numbers | texts}, call: func(r *run, args []any) (any, error) { return extreme(args[0], -1), nil }},
	"max_by":   {args: []types{array, ref}, call: func(r *run, args []any) (any, error) { return r.extremeBy(args, 1) }},
	"min_by":   {args: []types{array, ref}, call: func(r *run, args []any) (any, error) { return r.extremeBy(args, -1) }},
	"sort":     {args: []types{texts | numbers}, call: sortItems},
	"sort_by":  {args: []types{array, ref}, call: sortBy},
	"reverse":  {args: []types{array | text}, call: reverse},
	"join":     {args: []types{text, texts}, call: join},
}

func length(_ *run, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return float64(utf8.RuneCountInString(v)), nil
	case map[string]any:
		return float64(len(v)), nil
	}
	items, _ := list(args[0])
	return float64(items.len()), nil
}

func contains(r *run, args []any) (any, error) {
	if in, ok := args[0].(string); ok {
		part, ok := args[1].(string)
		return ok && strings.Contains(in, part), r.spend(len(in))
	}
	in, _ := list(args[0])
	for i := range in.len() {
		if incomparable(in.at(i), args[1]) {
			return nil, errors.New("it does not compare maps and lists")
		}
		if same, err := r.equal(in.at(i), args[1]); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// incomparable says whether two values are both maps, or both lists.
func incomparable(a, b any) bool {
	if _, ok := a.(map[string]any); ok {
		_, ok = b.(map[string]any)
		return ok
	}
	_, ok := list(a)
	_, also := list(b)
	return ok && also
}

func mapItems(r *run, args []any) (any, error) {
	of := args[0].(refExpr).of
	in, _ := list(args[1])
	mapped := make([]any, 0, in.len())
	for i := range in.len() {
		v, err := r.evalOr(of, in.at(i))
		if err != nil {
			return nil, err
		}
		mapped = append(mapped, v)
	}
	return mapped, nil
}

// compareKeys compares two numbers or two texts.
func compareKeys(a, b any) int {
	if x, ok := a.(float64); ok {
		y, _ := b.(float64)
		return cmp.Compare(x, y)
	}
	x, _ := a.(string)
	y, _ := b.(string)
	return strings.Compare(x, y)
}

// extreme returns the first of the largest items (sign 1), or of the smallest (-1).
func extreme(arg any, sign int) any {
	in, _ := list(arg)
	var best any
	for i := range in.len() {
		if item := in.at(i); i == 0 || compareKeys(item, best) == sign {
			best = item
		}
	}
	return best
}

// keyed is an item and what an expression makes of it.
type keyed struct{ key, item any }

// keys evaluates an expression for each of two items or more. All keys are numbers,
// or all are texts.
func (r *run) keys(in items, of expr, evaluate func(expr, any) (any, error)) ([]keyed, error) {
	out := make([]keyed, 0, in.len())
	for i := range in.len() {
		key, err := evaluate(of, in.at(i))
		if err != nil {
			if IsNotFound(err) {
				err = errBy
			}
			return nil, err
		}
		out = append(out, keyed{key, in.at(i)})
	}
	isNumber := func(k keyed) bool { _, ok := k.key.(float64); return ok }
	isText := func(k keyed) bool { _, ok := k.key.(string); return ok }
	for _, is := range []func(keyed) bool{isNumber, isText} {
		if !slices.ContainsFunc(out, func(k keyed) bool { return !is(k) }) {
			return out, nil
		}
	}
	return nil, errBy
}

func (r *run) extremeBy(args []any, sign int) (any, error) {
	in, _ := list(args[0])
	switch in.len() {
	case 0:
		return nil, nil
	case 1:
		return in.at(0), nil
	}
	all, err := r.keys(in, args[1].(refExpr).of, r.evalOr)
	if err != nil {
		return nil, err
	}
	best := all[0]
	for _, k := range all[1:] {
		if compareKeys(k.key, best.key) == sign {
			best = k
		}
	}
	return best.item, nil
}

func sortItems(r *run, args []any) (any, error) {
	in, _ := list(args[0])
	if err := r.spend(in.len()); err != nil {
		return nil, err
	}
	sorted := slices.Clone(in.any)
	slices.SortStableFunc(sorted, compareKeys)
	return sorted, nil
}

func sortBy(r *run, args []any) (any, error) {
	in, _ := list(args[0])
	if in.len() < 2 {
		return args[0], nil
	}
	all, err := r.keys(in, args[1].(refExpr).of, r.eval)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return compareKeys(a.key, b.key) })
	sorted := make([]any, 0, len(all))
	for _, k := range all {
		sorted = append(sorted, k.item)
	}
	return sorted, nil
}

func reverse(r *run, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		runes := []rune(s)
		slices.Reverse(runes)
		return string(runes), r.spend(len(s))
	}
	in, _ := list(args[0])
	if err := r.spend(in.len()); err != nil {
		return nil, err
	}
	reversed := in.appendTo(make([]any, 0, in.len()))
	slices.Reverse(reversed)
	return reversed, nil
}

func join(r *run, args []any) (any, error) {
	separator, in := args[0].(string), args[1].([]any)
	parts := make([]string, 0, len(in))
	n := len(separator) * len(in)
	for _, item := range in {
		part := item.(string)
		parts = append(parts, part)
		if n += len(part); n > maxString {
			return nil, errString
		}
	}
	return strings.Join(parts, separator), r.spendText(n)
}
