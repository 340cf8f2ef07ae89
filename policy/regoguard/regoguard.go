// SPDX-License-Identifier: Apache-2.0

// Package regoguard bounds what Rego may take that others wrote: the sizes of the
// values that its functions build, and those of the values that its rules are
// made of, before either is made. OPA looks only between steps whether it is to
// stop; one step may take more time and memory than there is.
package regoguard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// UnknownError says that something cannot be decided, and why.
type UnknownError struct{ What string }

// Error implements error.
func (e *UnknownError) Error() string { return e.What }

// prefix is what the names of guarded functions begin with once the calls of
// modules are renamed: the library runs its own functions by their own names.
const prefix = "__guarded."

// Guards are functions that run in the place of those of the library. They are
// safe for concurrent use.
type Guards struct {
	builtins map[string]*topdown.Builtin
	refs     map[string]ast.Ref
}

// New returns the bounds of functions, and further functions in the place of
// others. Caller is what calls them, for people.
func New(caller string, declared []*ast.Builtin, further map[string]topdown.BuiltinFunc) *Guards {
	g := &Guards{map[string]*topdown.Builtin{}, map[string]ast.Ref{}}
	for _, b := range declared {
		f := further[b.Name]
		if size := bounds[b.Name]; f == nil && size != nil {
			f = bounded(caller, b.Name, size, topdown.GetBuiltin(b.Name))
		}
		if f == nil {
			continue
		}
		guarded := *b
		guarded.Name = prefix + b.Name
		guarded.Infix = ""
		g.builtins[guarded.Name] = &topdown.Builtin{Decl: &guarded, Func: f}
		g.refs[b.Name] = guarded.Ref()
	}
	return g
}

// Plain returns what the library says with the names that functions have for
// people.
func Plain(text string) string { return strings.ReplaceAll(text, prefix, "") }

// Builtins returns what a query needs beside the functions of the library.
func (g *Guards) Builtins() map[string]*topdown.Builtin { return g.builtins }

// Capabilities adds the guards to what a compiler knows.
func (g *Guards) Capabilities(c *ast.Capabilities) *ast.Capabilities {
	for _, name := range slices.Sorted(maps.Keys(g.builtins)) {
		c.Builtins = append(c.Builtins, g.builtins[name].Decl)
	}
	return c
}

// Compiler makes a compiler, which knows the guards, refuse modules whose rules write out values that are
// far larger than they are, and let the others call the guards.
func (g *Guards) Compiler(c *ast.Compiler) *ast.Compiler {
	return c.WithStageAfterID(ast.StageBuildRequiredCapabilities, ast.CompilerStageDefinition{
		Name: "GuardCalls", MetricName: "guard_calls",
		Stage: func(c *ast.Compiler) *ast.Error {
			if err := checkSizes(c); err != nil {
				return err
			}
			for _, m := range c.Modules {
				g.rename(m)
			}
			return nil
		},
	})
}

// rename makes the calls of a part of compiled modules go through the guards.
func (g *Guards) rename(part any) {
	function := func(t *ast.Term) {
		ref, ok := t.Value.(ast.Ref)
		if !ok {
			return
		}
		if guarded := g.refs[ref.String()]; guarded != nil {
			t.Value = guarded
		}
	}
	ast.WalkNodes(part, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Expr:
			if n.IsCall() {
				function(n.Terms.([]*ast.Term)[0])
			}
		case *ast.With:
			function(n.Target)
			function(n.Value)
		case *ast.Term:
			if call, ok := n.Value.(ast.Call); ok {
				function(call[0])
			}
		}
		return false
	})
}

// bounded ends the evaluation where a result would be too large.
func bounded(caller, name string, size func([]*ast.Term) int, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	err := topdown.Halt{Err: &UnknownError{fmt.Sprintf("%s calls %s for a result of more than %d bytes", caller, name, maxResult)}}
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		if n := size(operands); n > maxResult || n < 0 {
			return err
		}
		return f(b, operands, iter)
	}
}
