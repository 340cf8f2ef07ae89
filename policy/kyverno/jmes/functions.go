// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"fmt"
	"maps"
)

// types are those that an argument may have.
type types uint8

const (
	number types = 1 << iota
	text
	array
	object
	numbers // a list of numbers
	texts   // a list of texts
	ref     // an expression
	anything
)

// function is a function of expressions. Its arguments have been checked, unless it
// takes any number of them.
type function struct {
	args []types
	// variadic says that it takes more arguments than args, and checks them itself.
	variadic bool
	// unchecked says that it takes what it is given.
	unchecked bool
	call      func(r *run, args []any) (any, error)
}

// functions are all functions by name.
var functions = joined(listFunctions, numberFunctions, typeFunctions, textFunctions, regexFunctions,
	objectFunctions, arithmeticFunctions, timeFunctions, encodingFunctions, otherFunctions)

func joined(tables ...map[string]*function) map[string]*function {
	all := map[string]*function{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

func (r *run) call(name string, f *function, args []any) (any, error) {
	if f == nil {
		return nil, fmt.Errorf("there is no function %q", name)
	}
	if err := f.check(args); err != nil {
		return nil, fmt.Errorf("the function %s: %w", name, err)
	}
	result, err := f.call(r, args)
	if err != nil {
		return nil, fmt.Errorf("the function %s: %w", name, err)
	}
	return result, nil
}

func (f *function) check(args []any) error {
	switch {
	case f.unchecked:
		return nil
	case f.variadic:
		if len(args) < len(f.args) {
			return fmt.Errorf("it has %d arguments; want %d at least", len(args), len(f.args))
		}
		return nil
	case len(args) != len(f.args):
		return fmt.Errorf("it has %d arguments; want %d", len(args), len(f.args))
	}
	for i, want := range f.args {
		if !want.allow(args[i]) {
			return fmt.Errorf("argument %d is %s; want %s", i+1, typeOf(args[i]), want)
		}
	}
	return nil
}

func (t types) allow(arg any) bool {
	if t&anything != 0 {
		return true
	}
	switch v := arg.(type) {
	case float64:
		return t&number != 0
	case string:
		return t&text != 0
	case map[string]any:
		return t&object != 0
	case refExpr:
		return t&ref != 0
	case []map[string]any:
		return t&array != 0
	case []any:
		return t&array != 0 || t&numbers != 0 && all[float64](v) || t&texts != 0 && all[string](v)
	}
	return false
}

func all[T any](items []any) bool {
	for _, item := range items {
		if _, ok := item.(T); !ok {
			return false
		}
	}
	return true
}

// String names the types as an error would.
func (t types) String() string {
	names := ""
	for i, name := range [...]string{"a number", "a text", "a list", "a map", "a list of numbers", "a list of texts", "an expression"} {
		if t&(1<<i) == 0 {
			continue
		}
		if names != "" {
			names += " or "
		}
		names += name
	}
	return names
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	case int, int64:
		return "an integer, which expressions do not reckon with"
	case string:
		return "a text"
	case map[string]any:
		return "a map"
	case []any, []map[string]any:
		return "a list"
	}
	return "an expression"
}

var errArguments = errors.New("an argument has the wrong type")

// spendText bounds a text that a function makes.
func (r *run) spendText(n int) error {
	if n > maxString {
		return errString
	}
	return r.spend(n)
}
