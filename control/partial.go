// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"sconce.dev/sconce/object"
)

// CEL carries an unknown through operators, fields, indexes and comprehensions.
// A library function that is handed a whole list or map looks into it by
// itself, and takes an unknown inside for a value like any other:
// sets.intersects would say that what could not be read does not intersect. An
// expression that calls such a function is opaque; what it says of an object of
// which something is unknown is unknown too.

// seeThrough are the functions that take no lists or maps, or only look at
// their size: an unknown argument makes them unknown.
var seeThrough = map[string]bool{
	"size": true, "startsWith": true, "endsWith": true, "contains": true, "matches": true, "string": true,
	"int": true, "uint": true, "double": true, "bool": true, "bytes": true, "dyn": true, "type": true,
	"lowerAscii": true, "upperAscii": true, "trim": true, "replace": true, "split": true, "substring": true,
	"charAt": true, "find": true, "findAll": true, "duration": true, "timestamp": true, "quantity": true,
	"isQuantity": true, "url": true, "isURL": true, "ip": true, "isIP": true, "cidr": true, "isCIDR": true,
	"orValue": true, "or": true, "hasValue": true, "value": true, "optional.of": true, "optional.none": true,
	"optional.ofNonZeroValue": true, "isGreaterThan": true, "isLessThan": true, "compareTo": true,
}

// opaque says whether an expression calls a function that may look into a list
// or map.
func opaque(a *cel.Ast) bool {
	found := false
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		switch name := call.FunctionName(); {
		case name == operators.Equals || name == operators.NotEquals:
			// A literal on the left compares by itself.
			left := call.Args()[0].Kind()
			found = found || left == ast.ListKind || left == ast.MapKind
		case operator(name) || seeThrough[name]:
		default:
			found = true
		}
	}))
	return found
}

// partial says whether something of the object that is judged is unknown.
func (s *scope) partial() bool {
	if s.knowledge == unasked {
		s.knowledge = whole
		if s.root.HasUnknown() {
			s.knowledge = partly
		}
	}
	return s.knowledge == partly
}

// knowledge is what is known of how much is known.
type knowledge uint8

const (
	unasked knowledge = iota
	whole
	partly
)

// partlyKnown is the result of an opaque expression over an object of which
// something is unknown.
func partlyKnown(n *object.Node) ref.Val {
	return unknown("a function looks into values of which some are not known: " + n.FirstUnknown())
}

// tainted returns an unknown of a list that holds one at any depth, or nil.
func tainted(n *object.Node) *types.Unknown {
	if n.HasUnknown() {
		return unknown(n.FirstUnknown())
	}
	return nil
}
