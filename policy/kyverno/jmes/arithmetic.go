// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"fmt"
	"time"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

var arithmeticFunctions = map[string]*function{
	"add":      arithmetic(add),
	"subtract": arithmetic(subtract),
	"multiply": arithmetic(multiply),
	"divide":   arithmetic(divide),
	"modulo":   arithmetic(modulo),
	"sum":      {args: []types{array}, call: sum},
}

var (
	errOperand  = errors.New("an operand is no number, quantity or duration")
	errMismatch = errors.New("the operands cannot be reckoned with one another")
	errZero     = errors.New("it divides by 0")
)

// arithmetic is a function of two operands, each a number, a quantity or a duration.
func arithmetic(f func(a, b any) (any, error)) *function {
	return &function{args: []types{anything, anything}, call: func(_ *run, args []any) (any, error) {
		return calculate(args[0], args[1], f)
	}}
}

func calculate(left, right any, f func(a, b any) (any, error)) (any, error) {
	a, ok := operand(left)
	b, also := operand(right)
	if !ok || !also {
		return nil, errOperand
	}
	return f(a, b)
}

// operand returns a float64, a resource.Quantity or a time.Duration.
func operand(arg any) (any, bool) {
	switch v := arg.(type) {
	case float64:
		return v, true
	case string:
		if q, ok := pattern.ParseQuantity(v); ok {
			return q, true
		}
		if d, err := time.ParseDuration(v); err == nil {
			return d, true
		}
	}
	return nil, false
}

func sum(_ *run, args []any) (any, error) {
	in, ok := args[0].([]any)
	if !ok {
		return nil, errMismatch
	}
	if len(in) == 0 {
		return nil, errors.New("the list is empty")
	}
	total := in[0]
	for _, item := range in[1:] {
		var err error
		if total, err = calculate(total, item, add); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func add(a, b any) (any, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return a + b, nil
		}
	case time.Duration:
		if b, ok := b.(time.Duration); ok {
			return (a + b).String(), nil
		}
	case resource.Quantity:
		if b, ok := b.(resource.Quantity); ok {
			a.Add(b)
			return a.String(), nil
		}
	}
	return nil, errMismatch
}

func subtract(a, b any) (any, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return a - b, nil
		}
	case time.Duration:
		if b, ok := b.(time.Duration); ok {
			return (a - b).String(), nil
		}
	case resource.Quantity:
		if b, ok := b.(resource.Quantity); ok {
			a.Sub(b)
			return a.String(), nil
		}
	}
	return nil, errMismatch
}

func multiply(a, b any) (any, error) {
	by, ok := b.(float64)
	if !ok {
		by, ok = a.(float64)
		a = b
	}
	if !ok {
		return nil, errMismatch
	}
	switch a := a.(type) {
	case float64:
		return a * by, nil
	case time.Duration:
		return seconds(a.Seconds() * by), nil
	case resource.Quantity:
		q, ok := pattern.ParseQuantity(fmt.Sprint(by))
		if !ok {
			return nil, errOperand
		}
		var product inf.Dec
		product.Mul(a.AsDec(), q.AsDec())
		return resource.NewDecimalQuantity(product, a.Format).String(), nil
	}
	return nil, errMismatch
}

func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }

func divide(a, b any) (any, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return quotient(a, b)
		}
	case time.Duration:
		switch b := b.(type) {
		case time.Duration:
			return quotient(a.Seconds(), b.Seconds())
		case float64:
			if b == 0 {
				return nil, errZero
			}
			return seconds(a.Seconds() / b), nil
		}
	case resource.Quantity:
		switch b := b.(type) {
		case resource.Quantity:
			return quotient(a.AsApproximateFloat64(), b.AsApproximateFloat64())
		case float64:
			return divideQuantity(a, b)
		}
	}
	return nil, errMismatch
}

func quotient(a, b float64) (any, error) {
	if b == 0 {
		return nil, errZero
	}
	return a / b, nil
}

// divideQuantity rounds down to the digits that the operands have.
func divideQuantity(a resource.Quantity, by float64) (any, error) {
	if by == 0 {
		return nil, errZero
	}
	q, ok := pattern.ParseQuantity(fmt.Sprint(by))
	if !ok {
		return nil, errOperand
	}
	if q.IsZero() {
		return nil, errZero
	}
	var result inf.Dec
	result.QuoRound(a.AsDec(), q.AsDec(), max(a.AsDec().Scale(), q.AsDec().Scale()), inf.RoundDown)
	return resource.NewDecimalQuantity(result, a.Format).String(), nil
}

func modulo(a, b any) (any, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			m, err := remainder(a, b)
			return float64(m), err
		}
	case time.Duration:
		if b, ok := b.(time.Duration); ok {
			if b == 0 {
				return nil, errZero
			}
			return (a % b).String(), nil
		}
	case resource.Quantity:
		if b, ok := b.(resource.Quantity); ok {
			m, err := remainder(a.AsApproximateFloat64(), b.AsApproximateFloat64())
			return resource.NewQuantity(m, a.Format).String(), err
		}
	}
	return nil, errMismatch
}

// remainder is of two integers.
func remainder(a, b float64) (int64, error) {
	i, j := int64(a), int64(b)
	switch {
	case float64(i) != a || float64(j) != b:
		return 0, errInteger
	case j == 0:
		return 0, errZero
	}
	return i % j, nil
}
