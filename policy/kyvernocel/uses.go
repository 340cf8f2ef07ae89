// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"maps"

	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// maxUses bounds how often the value of an expression holds what it is made of. A
// variable that holds another twice, which holds another twice, and so on, is soon
// larger than any memory where it is written out.
const maxUses = 1 << 20

// usesOf counts how often the value of an expression may hold what it is made of:
// through variables of the policy, and through those of macros.
func (c *compilation) usesOf(tree *celast.AST) int {
	u := &uses{tree: tree, variables: c.variables}
	return u.of(tree.Expr())
}

// uses counts in one expression.
type uses struct {
	tree      *celast.AST
	variables map[string]*expression
	macros    map[string]int // what the variables of macros hold
}

// of counts in a part. What is no list, map or object holds nothing.
func (u *uses) of(n celast.Expr) int {
	switch u.tree.GetType(n.ID()).Kind() {
	case types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind, types.StringKind, types.TimestampKind, types.DurationKind:
		return 1
	}
	switch n.Kind() {
	case celast.IdentKind:
		return max(1, u.macros[n.AsIdent()])
	case celast.SelectKind:
		if v := u.variables[n.AsSelect().FieldName()]; v != nil {
			return v.uses
		}
		return u.of(n.AsSelect().Operand())
	case celast.CallKind:
		out := u.sum(n.AsCall().Args())
		if n.AsCall().IsMemberFunction() {
			out += u.of(n.AsCall().Target())
		}
		return min(out, maxUses+1)
	case celast.ComprehensionKind:
		return u.macro(n.AsComprehension())
	}
	return u.sum(itemsOf(n))
}

func (u *uses) sum(parts []celast.Expr) int {
	out := 0
	for _, e := range parts {
		out = min(out+u.of(e), maxUses+1)
	}
	return out
}

// macro counts in what a macro makes: what it has made before and one element
// more.
func (u *uses) macro(m celast.ComprehensionExpr) int {
	each, first, outer := u.of(m.IterRange()), u.of(m.AccuInit()), u.macros
	u.macros = maps.Clone(outer)
	if u.macros == nil {
		u.macros = map[string]int{}
	}
	u.macros[m.IterVar()], u.macros[m.AccuVar()] = each, first
	if m.HasIterVar2() {
		u.macros[m.IterVar2()] = each
	}
	u.macros[m.AccuVar()] = max(first, u.of(m.LoopStep()))
	out := u.of(m.Result())
	u.macros = outer
	return min(out, maxUses+1)
}
