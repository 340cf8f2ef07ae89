// SPDX-License-Identifier: Apache-2.0

// Package celguard bounds what CEL expressions of others may take. CEL says what
// an evaluation cost when a step is done; a step that compares lists which share
// their parts, or puts a text between the letters of another, is never done. The
// guard measures the operands of such steps before they are taken, and ends an
// evaluation whose time is over between them.
//
// It guards programs from within, by a decorator that they are planned with.
package celguard

import (
	"math"
	"slices"
	"sync"

	"github.com/google/cel-go/cel"
	celcommon "github.com/google/cel-go/common"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apiserver/pkg/cel/library"
)

// MaxSize is how large the operands of one step may be together, in bytes; each
// value of a list or a map counts for eight.
const MaxSize = 16 << 20

// maxWork is how much one step may do that goes through its operands more than
// once, in the bytes that it goes through.
const maxWork = 1 << 30

// unit is how much work counts as one element of a loop does, where it is looked
// whether the time is over.
const unit = 512

// Guard guards the programs of one environment. It is safe for concurrent use.
type Guard struct {
	env      *cel.Env
	mu       sync.Mutex
	bindings map[string][]*functions.Overload
}

// New returns the guard of an environment.
func New(env *cel.Env) *Guard {
	return &Guard{env: env, bindings: map[string][]*functions.Overload{}}
}

// Option returns the option that programs are planned with.
func (g *Guard) Option() cel.ProgramOption { return cel.CustomDecoratorV2(g.decorate) }

// light are functions that take no longer than reading a few of their operands,
// or a text, and make nothing that is larger.
var light = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.NotStrictlyFalse: true,
	operators.Conditional: true, operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	operators.Index: true, operators.OptIndex: true, operators.OptSelect: true, operators.Negate: true,
	operators.Subtract: true, operators.Multiply: true, operators.Divide: true, operators.Modulo: true,
	"startsWith": true, "endsWith": true, "contains": true, "size": true, "orValue": true, "__or_value__": true, "or": true, "value": true, "hasValue": true,
	"optional.of": true, "optional.none": true, "optional.ofNonZeroValue": true, "lowerAscii": true, "upperAscii": true, "trim": true,
	"int": true, "uint": true, "double": true, "dyn": true, "type": true, "bool": true,
	"isLessThan": true, "isGreaterThan": true, "compareTo": true, "cel.@mapInsert": true, "cel.@block": true,
}

// decorate wraps the steps that must be measured.
func (g *Guard) decorate(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := step.(interpreter.InterpretableCall)
	if !ok {
		return step, nil
	}
	args, name := call.Args(), call.Function()
	switch {
	case name == operators.Equals && len(args) == 2:
		return &binary{call, args[0], args[1], types.Equal, sizeOfEither}, nil
	case name == operators.NotEquals && len(args) == 2:
		return &binary{call, args[0], args[1], differ, sizeOfEither}, nil
	case light[name] || len(args) == 0:
		return step, nil
	}
	op := g.operation(call)
	if op == nil || op.NonStrict {
		return step, nil
	}
	measure := measures[name]
	if measure == nil {
		measure = total
	}
	apply := applied(op, len(args))
	if apply == nil {
		return step, nil
	}
	apply = withTrait(call, op.OperandTrait, apply)
	if of := pairs[name]; of != nil && len(args) == 2 {
		return &binary{call, args[0], args[1], func(lhs, rhs ref.Val) ref.Val { return apply(lhs, rhs) }, of}, nil
	}
	return &variadic{call, shortened(name, args), apply, measure}, nil
}

// pairs are the measures of operators.
var pairs = map[string]func(lhs, rhs ref.Val) (work int, err error){operators.In: sizeOfList, operators.Add: sum}

// withTrait returns an operation over values of which not all can be its first
// operand. Those may bring it themselves.
func withTrait(call interpreter.InterpretableCall, trait int, apply functions.FunctionOp) functions.FunctionOp {
	if trait == 0 {
		return apply
	}
	return func(args ...ref.Val) ref.Val {
		switch own, ok := args[0].(traits.Receiver); {
		case args[0].Type().HasTrait(trait):
			return apply(args...)
		case ok:
			return own.Receive(call.Function(), call.OverloadID(), args[1:])
		}
		return types.MaybeNoSuchOverloadErr(args[0])
	}
}

// searches are the functions that search their first operand by their second, a
// regular expression.
var searches = map[string]bool{"matches": true, "find": true, "findAll": true, "regex.extract": true, "regex.extractAll": true, "regex.replace": true}

// shortened returns the operands of a call. A text that is searched by an
// expression that is known is bounded by itself: the step is made another one,
// in which the expression is read already.
func shortened(name string, args []interpreter.InterpretableV2) []interpreter.InterpretableV2 {
	if !searches[name] || len(args) < 2 {
		return args
	}
	pattern, ok := args[1].(interpreter.InterpretableConst)
	if !ok {
		return args
	}
	text, _ := pattern.Value().(types.String)
	out := slices.Clone(args)
	out[0] = &short{args[0], maxSearched(string(text))}
	return out
}

// short is an operand that must not be longer than the limit.
type short struct {
	interpreter.InterpretableV2
	limit int
}

// Eval implements interpreter.Interpretable.
func (s *short) Eval(vars interpreter.Activation) ref.Val { return s.Exec(interpreter.AsFrame(vars)) }

// Exec implements interpreter.InterpretableV2.
func (s *short) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	out := s.InterpretableV2.Exec(frame)
	if text, ok := out.(types.String); ok && len(text) > s.limit {
		return types.WrapErr(errTooLarge)
	}
	return out
}

// operation returns what a call runs; nil where it is found out otherwise.
func (g *Guard) operation(call interpreter.InterpretableCall) *functions.Overload {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := call.Function()
	all, known := g.bindings[name]
	if !known {
		if f := g.env.Functions()[name]; f != nil {
			all, _ = f.Bindings()
		}
		g.bindings[name] = all
	}
	var whole *functions.Overload
	for _, b := range all {
		switch b.Operator {
		case call.OverloadID():
			return b
		case name:
			whole = b
		}
	}
	return whole
}

// applied returns an operation as one over all operands.
func applied(op *functions.Overload, operands int) functions.FunctionOp {
	switch {
	case operands == 1 && op.Unary != nil:
		return func(args ...ref.Val) ref.Val { return op.Unary(args[0]) }
	case operands == 2 && op.Binary != nil:
		return func(args ...ref.Val) ref.Val { return op.Binary(args[0], args[1]) }
	}
	return op.Function
}

func differ(lhs, rhs ref.Val) ref.Val { return types.Bool(types.Equal(lhs, rhs) != types.True) }

// binary is a step over two operands.
type binary struct {
	interpreter.InterpretableCall
	lhs, rhs interpreter.InterpretableV2
	apply    functions.BinaryOp
	measure  func(lhs, rhs ref.Val) (work int, err error)
}

// Eval implements interpreter.Interpretable.
func (s *binary) Eval(vars interpreter.Activation) ref.Val { return s.Exec(interpreter.AsFrame(vars)) }

// Exec implements interpreter.InterpretableV2.
func (s *binary) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	lhs, rhs := s.lhs.Exec(frame), s.rhs.Exec(frame)
	if types.IsUnknownOrError(lhs) {
		return lhs
	}
	if types.IsUnknownOrError(rhs) {
		return rhs
	}
	work, err := s.measure(lhs, rhs)
	if refused := spend(frame, work, err); refused != nil {
		return refused
	}
	return s.apply(lhs, rhs)
}

// variadic is a step over any operands.
type variadic struct {
	interpreter.InterpretableCall
	args    []interpreter.InterpretableV2
	apply   functions.FunctionOp
	measure measure
}

// Args implements interpreter.InterpretableCall.
func (s *variadic) Args() []interpreter.InterpretableV2 { return s.args }

// Eval implements interpreter.Interpretable.
func (s *variadic) Eval(vars interpreter.Activation) ref.Val {
	return s.Exec(interpreter.AsFrame(vars))
}

// Exec implements interpreter.InterpretableV2.
func (s *variadic) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	args := make([]ref.Val, len(s.args))
	for i, arg := range s.args {
		if args[i] = arg.Exec(frame); types.IsUnknownOrError(args[i]) {
			return args[i]
		}
	}
	work, err := s.measure(args)
	if refused := spend(frame, work, err); refused != nil {
		return refused
	}
	return s.apply(args...)
}

// spend counts work, and returns an error where there was too much of it.
func spend(frame *interpreter.ExecutionFrame, work int, err error) ref.Val {
	if err != nil {
		return types.WrapErr(err)
	}
	for ; work >= unit; work -= unit {
		if frame.CheckInterrupt() {
			return types.WrapErr(interpreter.InterruptError{})
		}
	}
	return nil
}

// Costs says what steps cost, as the API server does. Where that takes a step
// over values whose types were not known for one that makes nothing, the text
// that it made counts.
type Costs struct{ library.CostEstimator }

// CallCost implements interpreter.ActualCostEstimator.
func (c *Costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if cost := c.CostEstimator.CallCost(function, overload, args, result); cost != nil {
		return cost
	}
	var size int
	switch result := result.(type) {
	case types.String:
		size = len(result)
	case types.Bytes:
		size = len(result)
	default:
		return nil
	}
	cost := max(1, uint64(math.Ceil(float64(size)*celcommon.StringTraversalCostFactor)))
	return &cost
}
