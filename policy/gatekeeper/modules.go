// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"sconce.dev/sconce/object"
)

// Code is the Rego of a template as it is compiled, for those that read it
// rather than run it.
type Code struct {
	Compiler *ast.Compiler
	// Violation names the rule that says what is wrong.
	Violation ast.Ref

	object *object.Object
	texts  map[string]object.Path
}

// ReadCode compiles the Rego of a template. It returns nil where the template has
// none.
func ReadCode(o *object.Object) (*Code, error) {
	t := &Template{Object: o}
	at, err := t.target()
	if err != nil {
		return nil, err
	}
	src, _ := t.sources(at)
	if src == nil {
		return nil, nil
	}
	e, err := parsed(o, src, Options{})
	if err != nil {
		return nil, err
	}
	c := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(false)
	c.Compile(e.modules)
	if c.Failed() {
		return nil, e.fault(o, c.Errors)
	}
	violation := ast.Ref{ast.DefaultRootDocument, ast.StringTerm(mainPackage), ast.StringTerm("violation")}
	if len(c.GetRulesExact(violation)) == 0 {
		return nil, fault(o, nil, "ConstraintTemplate %s has no rule violation: %w", o.Name, fmt.Errorf("it is not in the package %s", mainPackage))
	}
	return &Code{c, violation, o, e.texts}, nil
}

// Position returns where in the template a place of its Rego is.
func (c *Code) Position(l *ast.Location) object.Position {
	if l == nil {
		return c.object.Position(nil)
	}
	at, ok := c.texts[l.File]
	if !ok {
		return c.object.Position(nil)
	}
	return linePosition(c.object, at, l.Row)
}
