// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"sconce.dev/sconce/object"
)

// termOf returns a tree as a value of Rego. There is nothing unknown in it.
func termOf(n *object.Node) *ast.Term {
	switch n.Kind {
	case object.Bool:
		return ast.InternedTerm(n.Bool())
	case object.Int:
		return ast.InternedTerm(n.Int())
	case object.Float:
		return ast.FloatNumberTerm(n.Float())
	case object.String:
		return ast.InternedTerm(n.Text)
	case object.List:
		items := make([]*ast.Term, len(n.Items))
		for i, item := range n.Items {
			items[i] = termOf(item)
		}
		return ast.ArrayTerm(items...)
	case object.Map:
		fields := make([][2]*ast.Term, len(n.Fields))
		for i := range n.Fields {
			fields[i] = [2]*ast.Term{ast.InternedTerm(n.Fields[i].Key), termOf(n.Fields[i].Value)}
		}
		return ast.ObjectTerm(fields...)
	}
	return ast.InternedNullTerm
}
