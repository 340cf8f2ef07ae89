// SPDX-License-Identifier: Apache-2.0

package celguard

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// errTooLarge is why a step is not taken.
var errTooLarge = fmt.Errorf("the expression makes values, or goes through values, that are too large: no more than %d MiB in one step", MaxSize>>20)

// measure says how much work a step is over its operands.
type measure func(args []ref.Val) (work int, err error)

// measures are those of functions that do more, or make more, than going through
// their operands once.
var measures = map[string]measure{
	"distinct":         squared,
	"sets.contains":    squared,
	"sets.equivalent":  squared,
	"sets.intersects":  squared,
	"indexOf":          squared,
	"lastIndexOf":      squared,
	"replace":          replaced,
	"join":             joined,
	"matches":          searched,
	"find":             searched,
	"findAll":          searched,
	"regex.extract":    searched,
	"regex.extractAll": searched,
	"regex.replace":    searched,
	"quantity":         quantity,
	"isQuantity":       quantity,
}

// Sized is implemented by values that know themselves how large they are.
type Sized interface {
	// SizeWithin returns what Size does.
	SizeWithin(limit int) int
}

// Size returns how large a value is: its texts, and eight for each value in it;
// more than the limit where it is larger.
func Size(v ref.Val, limit int) int {
	if limit <= 0 {
		return 8
	}
	switch v := v.(type) {
	case types.String:
		return 8 + len(v)
	case types.Bytes:
		return 8 + len(v)
	case Sized:
		return v.SizeWithin(limit)
	case *types.Optional:
		if v.HasValue() {
			return 8 + Size(v.GetValue(), limit-8)
		}
	case *mutation.JSONPatchVal:
		if v.Val != nil {
			return 8 + Size(v.Val, limit-8)
		}
	case traits.Lister:
		return 8 + listSize(v, limit-8)
	case traits.Mapper:
		return 8 + mapSize(v, limit-8)
	}
	return 8
}

func listSize(v traits.Lister, limit int) int {
	n, ok := v.Size().(types.Int)
	if !ok || int(n) > limit/8 {
		return limit + 1
	}
	if native, ok := v.Value().([]any); ok {
		return nativeSize(native, limit)
	}
	size := 0
	for i := types.Int(0); i < n && size <= limit; i++ {
		size += Size(v.Get(i), limit-size)
	}
	return size
}

func mapSize(v traits.Mapper, limit int) int {
	if native, ok := v.Value().(map[string]any); ok {
		return nativeSize(native, limit)
	}
	if _, ok := v.Value().(map[ref.Val]ref.Val); !ok {
		return 8 // variables, an object of a type: compared by what it is
	}
	size := 0
	for it := v.Iterator(); it.HasNext() == types.True && size <= limit; {
		key := it.Next()
		size += Size(key, limit-size) + Size(v.Get(key), limit-size)
	}
	return size
}

// nativeSize is the size of a tree that expressions see as it is.
func nativeSize(v any, limit int) int {
	size := 8
	switch v := v.(type) {
	case string:
		size += len(v)
	case ref.Val:
		size = Size(v, limit)
	case map[string]any:
		for key, value := range v {
			if size > limit {
				break
			}
			size += len(key) + nativeSize(value, limit-size)
		}
	case []any:
		for _, item := range v {
			if size > limit {
				break
			}
			size += nativeSize(item, limit-size)
		}
	}
	return size
}

// within returns work that is no more than may be done.
func within(work, limit int) (int, error) {
	if work > limit {
		return 0, errTooLarge
	}
	return work, nil
}

// composed says whether a value may hold others.
func composed(v ref.Val) bool {
	switch v.(type) {
	case traits.Lister, traits.Mapper, *types.Optional:
		return true
	}
	return false
}

// sizeOfEither measures values that are compared: they are gone through together.
func sizeOfEither(lhs, rhs ref.Val) (int, error) {
	if !composed(lhs) || !composed(rhs) {
		return 0, nil
	}
	work := Size(lhs, MaxSize)
	if work > MaxSize {
		work = Size(rhs, MaxSize)
	}
	return within(work, MaxSize)
}

// sizeOfList measures a list that a value is looked for in.
func sizeOfList(_, v ref.Val) (int, error) {
	if _, ok := v.(traits.Lister); !ok {
		return 0, nil
	}
	return within(Size(v, MaxSize), MaxSize)
}

// sum measures what is added: texts are copied, lists are not.
func sum(lhs, rhs ref.Val) (int, error) {
	switch lhs := lhs.(type) {
	case types.String:
		if rhs, ok := rhs.(types.String); ok {
			return within(len(lhs)+len(rhs), MaxSize)
		}
	case types.Bytes:
		if rhs, ok := rhs.(types.Bytes); ok {
			return within(len(lhs)+len(rhs), MaxSize)
		}
	case traits.Lister:
		if rhs, ok := rhs.(traits.Lister); ok {
			_, err := within(8*(lengthOf(lhs)+lengthOf(rhs)), MaxSize)
			return 0, err
		}
	}
	return 0, nil
}

func lengthOf(v ref.Val) int {
	if list, ok := v.(traits.Lister); ok {
		if n, ok := list.Size().(types.Int); ok {
			return int(n)
		}
	}
	return 0
}

// total measures operands that are gone through once.
func total(args []ref.Val) (int, error) {
	size := 0
	for _, arg := range args {
		size += Size(arg, MaxSize-size)
	}
	return within(size, MaxSize)
}

// squared measures operands each of whose values is held against all others.
func squared(args []ref.Val) (int, error) {
	size, err := total(args)
	if err != nil {
		return 0, err
	}
	times := 1
	for _, arg := range args {
		if text, ok := arg.(types.String); ok {
			times = max(times, len(text)/8)
		}
		times = max(times, lengthOf(arg))
	}
	if size, err = within(product(size, times), maxWork); err != nil {
		return 0, err
	}
	return size, nil
}

// product multiplies sizes; what is too large for a number is as large as one
// can be.
func product(a, b int) int {
	if a > 0 && b > (1<<62)/a {
		return 1 << 62
	}
	return a * b
}

func textOf(args []ref.Val, i int) string {
	if i < len(args) {
		if text, ok := args[i].(types.String); ok {
			return string(text)
		}
	}
	return ""
}

// replaced measures what replacing makes.
func replaced(args []ref.Val) (int, error) {
	text, old, by := textOf(args, 0), textOf(args, 1), textOf(args, 2)
	return within(len(text)+product(strings.Count(text, old), len(by)), MaxSize)
}

// joined measures what joining makes.
func joined(args []ref.Val) (int, error) {
	size, err := total(args)
	if err != nil {
		return 0, err
	}
	return within(size+product(lengthOf(args[0]), len(textOf(args, 1))), MaxSize)
}

// searched measures a search by a regular expression, and what is put in for
// what it finds.
func searched(args []ref.Val) (int, error) {
	text, pattern, by := textOf(args, 0), textOf(args, 1), textOf(args, 2)
	if _, err := within(product(len(text)+1, len(by)), 4*MaxSize); err != nil {
		return 0, err
	}
	if len(text) <= maxSearched(pattern) {
		return len(text), nil
	}
	return 0, errTooLarge
}

// maxSearchWork is how much a search may do: letters by steps of the expression.
const maxSearchWork = 1 << 27

// maxSearched is how long a text may be that is searched by an expression.
func maxSearched(pattern string) int {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return MaxSize // no search
	}
	steps, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return MaxSize
	}
	return min(MaxSize, maxSearchWork/max(1, len(steps.Inst)))
}

// maxDigits and maxExponent are how long a quantity may be written: computing
// with it takes as many digits as its exponent says.
const (
	maxDigits   = 256
	maxExponent = 3
)

// quantity measures what a quantity is read from. What is none is soon found out.
func quantity(args []ref.Val) (int, error) {
	const digits = "0123456789"
	text := textOf(args, 0)
	unit := strings.TrimLeft(text, "+-."+digits)
	if len(text)-len(unit) > maxDigits {
		return 0, fmt.Errorf("the quantity has more than %d digits", maxDigits)
	}
	if unit == "" || unit[0] != 'e' && unit[0] != 'E' {
		return len(text), nil
	}
	exponent := strings.TrimLeft(unit[1:], "+-")
	if strings.Trim(exponent, digits) == "" && len(strings.TrimLeft(exponent, "0")) > maxExponent {
		return 0, fmt.Errorf("the exponent of the quantity %q has more than %d digits", text, maxExponent)
	}
	return len(text), nil
}
