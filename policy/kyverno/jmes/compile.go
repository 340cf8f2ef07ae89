// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"fmt"

	gojmespath "github.com/kyverno/go-jmespath"
)

// expr is a compiled part of an expression.
type expr interface {
	eval(r *run, value any) (any, error)
}

// The parts of expressions.
type (
	currentExpr struct{}
	literalExpr struct{ value any }
	fieldExpr   struct{ missing *NotFoundError }
	indexExpr   struct{ index int }
	sliceExpr   struct{ start, stop, step *int }
	subExpr     struct{ left, right expr }
	pipeExpr    struct{ left, right expr }
	orExpr      struct{ left, right expr }
	andExpr     struct{ left, right expr }
	notExpr     struct{ of expr }
	compareExpr struct {
		op          string
		left, right expr
	}
	flattenExpr    struct{ of expr }
	projectionExpr struct{ left, right expr }
	valuesExpr     struct{ left, right expr }
	filterExpr     struct{ left, right, condition expr }
	listExpr       struct{ items []expr }
	hashExpr       struct {
		keys   []string
		values []expr
	}
	refExpr  struct{ of expr }
	callExpr struct {
		name     string
		function *function
		args     []expr
	}
	brokenExpr struct{}
)

// compiler makes expressions of what the parser reads.
type compiler struct{ loose, shares bool }

// looseFunctions return types that trees do not have.
var looseFunctions = map[string]bool{"items": true, "compare": true}

func (c *compiler) compile(n *gojmespath.ASTNode, depth int) (expr, error) {
	if depth > maxExprDepth {
		return nil, fmt.Errorf("it is nested deeper than %d", maxExprDepth)
	}
	children := make([]expr, len(n.Children))
	for i := range n.Children {
		child, err := c.compile(&n.Children[i], depth+1)
		if err != nil {
			return nil, err
		}
		children[i] = child
	}
	if leaf := compileLeaf(n); leaf != nil {
		return leaf, nil
	}
	if e := compilePair(n, children); e != nil {
		return e, nil
	}
	return c.compileMany(n, children)
}

// compileLeaf compiles what has no parts.
func compileLeaf(n *gojmespath.ASTNode) expr {
	switch n.NodeType {
	case gojmespath.ASTIdentity, gojmespath.ASTCurrentNode:
		return currentExpr{}
	case gojmespath.ASTLiteral:
		return literalExpr{n.Value}
	case gojmespath.ASTField:
		name, _ := n.Value.(string)
		return fieldExpr{&NotFoundError{name}}
	case gojmespath.ASTIndex:
		index, _ := n.Value.(int)
		return indexExpr{index}
	case gojmespath.ASTSlice:
		if parts, ok := n.Value.([]*int); ok && len(parts) == 3 {
			return sliceExpr{parts[0], parts[1], parts[2]}
		}
	case gojmespath.ASTEmpty:
		return brokenExpr{}
	}
	return nil
}

// compilePair compiles what has one part or two.
func compilePair(n *gojmespath.ASTNode, of []expr) expr {
	switch {
	case len(of) == 1:
		switch n.NodeType {
		case gojmespath.ASTExpRef:
			return refExpr{of[0]}
		case gojmespath.ASTFlatten:
			return flattenExpr{of[0]}
		case gojmespath.ASTNotExpression:
			return notExpr{of[0]}
		case gojmespath.ASTKeyValPair:
			return of[0]
		}
	case len(of) == 2:
		switch n.NodeType {
		case gojmespath.ASTSubexpression, gojmespath.ASTIndexExpression:
			return subExpr{of[0], of[1]}
		case gojmespath.ASTPipe:
			return pipeExpr{of[0], of[1]}
		case gojmespath.ASTOrExpression:
			return orExpr{of[0], of[1]}
		case gojmespath.ASTAndExpression:
			return andExpr{of[0], of[1]}
		case gojmespath.ASTProjection:
			return projectionExpr{of[0], of[1]}
		case gojmespath.ASTValueProjection:
			return valuesExpr{of[0], of[1]}
		case gojmespath.ASTComparator:
			return compareExpr{fmt.Sprint(n.Value), of[0], of[1]}
		}
	case len(of) == 3 && n.NodeType == gojmespath.ASTFilterProjection:
		return filterExpr{of[0], of[1], of[2]}
	}
	return nil
}

// compileMany compiles what has any number of parts.
func (c *compiler) compileMany(n *gojmespath.ASTNode, of []expr) (expr, error) {
	switch n.NodeType {
	case gojmespath.ASTMultiSelectList:
		c.shares = true
		return listExpr{of}, nil
	case gojmespath.ASTMultiSelectHash:
		c.shares = true
		h := hashExpr{values: of}
		for _, child := range n.Children {
			key, ok := child.Value.(string)
			if !ok {
				return brokenExpr{}, nil
			}
			h.keys = append(h.keys, key)
		}
		return h, nil
	case gojmespath.ASTFunctionExpression:
		name, ok := n.Value.(string)
		if !ok {
			return brokenExpr{}, nil
		}
		c.loose = c.loose || looseFunctions[name]
		return callExpr{name, functions[name], of}, nil
	}
	return nil, errors.New("it has a part that is not known: " + n.NodeType.String())
}
