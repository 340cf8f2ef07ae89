// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// checkNames finds parameters and variables that an expression reads and the
// control does not have: at run time they would be absent for ever.
func (c *Control) checkNames(e *expression) error {
	var params []string
	for _, p := range c.Spec.Parameters {
		params = append(params, p.Name)
	}
	var err error
	ast.PreOrderVisit(e.ast.NativeRep().Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		of, name := selected(x)
		known := map[string][]string{varParams: params, varVariables: c.varNames}[of]
		if of != varParams && of != varVariables || slices.Contains(known, name) || err != nil {
			return
		}
		have := "none"
		if len(known) > 0 {
			have = strings.Join(known, ", ")
		}
		err = &CELError{Msg: fmt.Sprintf("%s.%s is not declared; the control has %s", of, name, have)}
	}))
	return err
}

// selected returns the variable and the field of an expression like params.max
// or params.?max.
func selected(x ast.Expr) (of, field string) {
	ident := func(e ast.Expr) string {
		if e.Kind() == ast.IdentKind {
			return e.AsIdent()
		}
		return ""
	}
	switch x.Kind() {
	case ast.SelectKind:
		return ident(x.AsSelect().Operand()), x.AsSelect().FieldName()
	case ast.CallKind:
		args := x.AsCall().Args()
		if len(args) != 2 || args[1].Kind() != ast.LiteralKind {
			return "", ""
		}
		if name, ok := args[1].AsLiteral().(types.String); ok && x.AsCall().FunctionName() == "_?._" {
			return ident(args[0]), string(name)
		}
	}
	return "", ""
}
