// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"maps"
	"slices"
)

const (
	// maxSteps is how much one query may do: parts evaluated, and items and bytes
	// made.
	maxSteps = 4_000_000
	// maxString is how long a text may become.
	maxString = 2 << 20
)

var (
	errSteps  = errors.New("it takes too much to evaluate")
	errString = errors.New("it makes a text that is too long")
	errBroken = errors.New("it has a part that says nothing")
)

// run is one evaluation.
type run struct {
	env   Env
	steps int
}

// spend takes from what the run may do.
func (r *run) spend(n int) error {
	r.steps -= n
	if r.steps < 0 {
		return errSteps
	}
	return nil
}

func (r *run) eval(e expr, value any) (any, error) {
	if err := r.spend(1); err != nil {
		return nil, err
	}
	return e.eval(r, value)
}

// evalOr is eval for where nothing stands for a field that is not there.
func (r *run) evalOr(e expr, value any) (any, error) {
	result, err := r.eval(e, value)
	if _, ok := err.(*NotFoundError); ok { //nolint:errorlint // it is never wrapped on its way here
		return nil, nil
	}
	return result, err
}

// evalQuiet is eval for where nothing stands for what fails. What is not known does
// not fail.
func (r *run) evalQuiet(e expr, value any) (any, error) {
	result, err := r.eval(e, value)
	var unknown *UnknownError
	if errors.As(err, &unknown) || errors.Is(err, errSteps) || errors.Is(err, errString) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	return result, nil
}

// known refuses what stands for a value that is not told.
func known(value any) (any, error) {
	if what, ok := value.(Unknown); ok {
		return nil, &UnknownError{string(what)}
	}
	return value, nil
}

func (currentExpr) eval(_ *run, value any) (any, error)   { return known(value) }
func (e literalExpr) eval(_ *run, _ any) (any, error)     { return e.value, nil }
func (e refExpr) eval(_ *run, _ any) (any, error)         { return e, nil }
func (brokenExpr) eval(_ *run, _ any) (any, error)        { return nil, errBroken }
func (e flattenExpr) eval(r *run, value any) (any, error) { return r.flatten(e.of, value) }

func (e fieldExpr) eval(_ *run, value any) (any, error) {
	switch of := value.(type) {
	case map[string]any:
		v, ok := of[e.missing.Key]
		if !ok {
			return nil, e.missing
		}
		return known(v)
	case Unknown:
		return known(value)
	}
	return nil, nil
}

func (e indexExpr) eval(_ *run, value any) (any, error) {
	items, ok := list(value)
	if !ok {
		return known(nilUnlessUnknown(value))
	}
	i := e.index
	if i < 0 {
		i += items.len()
	}
	if i < 0 || i >= items.len() {
		return nil, nil
	}
	return known(items.at(i))
}

// nilUnlessUnknown returns what stands for a value that is not told, and nil for all
// else.
func nilUnlessUnknown(value any) any {
	if _, ok := value.(Unknown); ok {
		return value
	}
	return nil
}

func (e sliceExpr) eval(r *run, value any) (any, error) {
	items, ok := list(value)
	if !ok {
		return known(nilUnlessUnknown(value))
	}
	step := 1
	if e.step != nil {
		step = *e.step
	}
	if step == 0 {
		return nil, errors.New("the step of a slice is 0")
	}
	n := items.len()
	start, stop := 0, n
	if step < 0 {
		start, stop = n-1, -1
	}
	if e.start != nil {
		start = bound(*e.start, n, step)
	}
	if e.stop != nil {
		stop = bound(*e.stop, n, step)
	}
	return r.slice(items, start, stop, step)
}

// bound puts an end of a slice into a list of n items.
func bound(i, n, step int) int {
	lowest, highest := 0, n
	if step < 0 {
		lowest, highest = -1, n-1
	}
	if i < 0 {
		i += n
	}
	return min(max(i, lowest), highest)
}

func (r *run) slice(items items, start, stop, step int) (any, error) {
	result := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; {
		if err := r.spend(1); err != nil {
			return nil, err
		}
		result = append(result, items.at(i))
		if step > 0 && step >= stop-i || step < 0 && step <= stop-i {
			break
		}
		i += step
	}
	return result, nil
}

func (e subExpr) eval(r *run, value any) (any, error) {
	left, err := r.eval(e.left, value)
	if err != nil {
		return nil, err
	}
	return r.eval(e.right, left)
}

func (e pipeExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalOr(e.left, value)
	if err != nil {
		return nil, err
	}
	return r.evalOr(e.right, left)
}

func (e orExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalOr(e.left, value)
	if err != nil || !isFalse(left) {
		return left, err
	}
	return r.evalOr(e.right, value)
}

func (e andExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalOr(e.left, value)
	if err != nil || isFalse(left) {
		return left, err
	}
	return r.eval(e.right, value)
}

func (e notExpr) eval(r *run, value any) (any, error) {
	of, err := r.evalOr(e.of, value)
	if err != nil {
		return nil, err
	}
	return isFalse(of), nil
}

func (e compareExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalOr(e.left, value)
	if err != nil {
		return nil, err
	}
	right, err := r.evalOr(e.right, value)
	if err != nil {
		return nil, err
	}
	switch e.op {
	case "tEQ", "tNE":
		same, err := r.equal(left, right)
		return same == (e.op == "tEQ"), err
	}
	a, ok := left.(float64)
	b, also := right.(float64)
	if !ok || !also {
		return nil, nil
	}
	switch e.op {
	case "tGT":
		return a > b, nil
	case "tGTE":
		return a >= b, nil
	case "tLT":
		return a < b, nil
	case "tLTE":
		return a <= b, nil
	}
	return nil, errBroken
}

func (r *run) flatten(of expr, value any) (any, error) {
	left, err := r.evalQuiet(of, value)
	if err != nil {
		return nil, err
	}
	items, ok := list(left)
	if !ok {
		return nil, nil
	}
	result := []any{}
	for i := range items.len() {
		item := items.at(i)
		inner, ok := list(item)
		if !ok {
			result = append(result, item)
			continue
		}
		if err := r.spend(inner.len()); err != nil {
			return nil, err
		}
		result = inner.appendTo(result)
	}
	return result, r.spend(items.len())
}

func (e projectionExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalOr(e.left, value)
	if err != nil {
		return nil, err
	}
	items, ok := list(left)
	if !ok {
		return nil, nil
	}
	result := make([]any, 0, items.len())
	for i := range items.len() {
		if result, err = r.collect(result, e.right, items.at(i)); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// collect adds what an expression makes of an item, unless it is nothing.
func (r *run) collect(to []any, e expr, item any) ([]any, error) {
	v, err := r.evalOr(e, item)
	if err != nil || v == nil {
		return to, err
	}
	return append(to, v), nil
}

func (e valuesExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalQuiet(e.left, value)
	if err != nil {
		return nil, err
	}
	of, ok := left.(map[string]any)
	if !ok {
		return nil, nil
	}
	result := []any{}
	// The expression is evaluated for nothing too, once for each value.
	for range of {
		if result, err = r.collect(result, e.right, nil); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(of)) {
		if result, err = r.collect(result, e.right, of[key]); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (e filterExpr) eval(r *run, value any) (any, error) {
	left, err := r.evalQuiet(e.left, value)
	if err != nil {
		return nil, err
	}
	items, ok := list(left)
	if !ok {
		return nil, nil
	}
	result := []any{}
	for i := range items.len() {
		holds, err := r.evalOr(e.condition, items.at(i))
		if err != nil {
			return nil, err
		}
		if isFalse(holds) {
			continue
		}
		if result, err = r.collect(result, e.right, items.at(i)); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (e listExpr) eval(r *run, value any) (any, error) {
	if value == nil {
		return nil, nil
	}
	result := make([]any, 0, len(e.items))
	for _, item := range e.items {
		v, err := r.evalOr(item, value)
		if err != nil {
			return nil, err
		}
		result = append(result, v)
	}
	return result, nil
}

func (e hashExpr) eval(r *run, value any) (any, error) {
	if value == nil {
		return nil, nil
	}
	result := make(map[string]any, len(e.keys))
	for i, key := range e.keys {
		v, err := r.evalOr(e.values[i], value)
		if err != nil {
			return nil, err
		}
		result[key] = v
	}
	return result, nil
}

func (e callExpr) eval(r *run, value any) (any, error) {
	args := make([]any, 0, len(e.args))
	for _, arg := range e.args {
		v, err := r.evalOr(arg, value)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	return r.call(e.name, e.function, args)
}
