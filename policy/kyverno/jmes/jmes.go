// SPDX-License-Identifier: Apache-2.0

// Package jmes is what Kyverno's older policies compute with: JMESPath with Kyverno's
// functions, variables {{ }} and references $( ) in trees of maps and lists, and the
// operators of conditions.
//
// It computes what Kyverno 1.19 computes, but never goes on for ever, panics, or
// changes what it reads; where Kyverno takes the entries of a map in any order, they
// come here in that of their names. What needs a clock, chance or a network, and is
// not told, is an UnknownError and never a guess. The package looks nothing up by
// itself: see Lookup.
package jmes

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	gojmespath "github.com/kyverno/go-jmespath"
)

// Env is what expressions may ask for beside their data. The zero Env knows nothing:
// an expression that asks is an UnknownError.
type Env struct {
	// Now is the time of the request; not known where it is zero.
	Now time.Time
	// Random returns random numbers; nil where there are none.
	Random func() uint64
}

// Lookup is where variables have their values from. It returns an *UnknownError for
// what is not told, and a *NotFoundError for what is not there.
type Lookup interface {
	Query(expr string) (any, error)
}

// UnknownError says that a value is not told.
type UnknownError struct{ What string }

// Error implements error.
func (e *UnknownError) Error() string { return e.What + " is not known" }

// Unknown stands in data for what is not told, and says what it is. An expression that
// comes to it is an UnknownError.
type Unknown string

// NotFoundError says that data has no such field.
type NotFoundError struct{ Key string }

// Error implements error.
func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no field %q", e.Key) }

// IsNotFound says whether an error is that of a field that is not there.
func IsNotFound(err error) bool {
	var notFound *NotFoundError
	return errors.As(err, &notFound)
}

// Query is a compiled expression. It is safe for concurrent use.
type Query struct {
	text string
	root expr
	// loose says that a result may have types that trees do not have, and shares that
	// it may hold one value many times.
	loose, shares bool
}

const (
	maxExpression = 64 << 10
	maxExprDepth  = 500
	// maxCached is how many expressions are kept, none of them longer than
	// maxKept.
	maxCached = 8192
	maxKept   = 4096
)

// cache holds compiled expressions, and why others do not compile. It is emptied when
// it is full.
var cache = struct {
	sync.RWMutex
	queries map[string]compiled
}{queries: map[string]compiled{}}

type compiled struct {
	query *Query
	err   error
}

// Compile compiles an expression, or returns it as it was compiled before.
func Compile(expr string) (*Query, error) {
	cache.RLock()
	c, ok := cache.queries[expr]
	cache.RUnlock()
	if ok {
		return c.query, c.err
	}
	c.query, c.err = compile(expr)
	cache.Lock()
	defer cache.Unlock()
	if len(cache.queries) >= maxCached {
		clear(cache.queries)
	}
	if len(expr) <= maxKept {
		cache.queries[expr] = c
	}
	return c.query, c.err
}

func compile(text string) (*Query, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("compiling an expression: it is longer than %d bytes", maxExpression)
	}
	ast, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("compiling the expression %q: %w", shorten(text), err)
	}
	c := compiler{}
	root, err := c.compile(&ast, 0)
	if err != nil {
		return nil, fmt.Errorf("compiling the expression %q: %w", shorten(text), err)
	}
	return &Query{text: text, root: root, loose: c.loose, shares: c.shares}, nil
}

// parse reads an expression. The parser reads beyond the end of some that are
// incomplete.
func parse(text string) (ast gojmespath.ASTNode, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it is incomplete")
		}
	}()
	return gojmespath.NewParser().Parse(text)
}

// Search runs the query over data, with nothing else known.
func (q *Query) Search(data any) (any, error) { return q.SearchIn(Env{}, data) }

// SearchIn runs the query over data. A field that is not there is a *NotFoundError,
// unless the expression goes on to say what to do then. The result shares data, which
// must not be changed.
func (q *Query) SearchIn(env Env, data any) (any, error) {
	r := &run{env: env, steps: maxSteps}
	result, err := r.eval(q.root, data)
	if err != nil {
		return nil, q.explain(err)
	}
	if _, ok := result.(refExpr); ok {
		return nil, q.explain(errBroken)
	}
	if q.shares {
		if err := r.measure(result); err != nil {
			return nil, q.explain(err)
		}
	}
	if q.loose {
		if result, err = r.plain(result); err != nil {
			return nil, q.explain(err)
		}
	}
	return result, nil
}

func (q *Query) explain(err error) error {
	return fmt.Errorf("evaluating %q: %w", shorten(q.text), err)
}

// maxShown is how much of an expression an error shows.
const maxShown = 200

func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}
