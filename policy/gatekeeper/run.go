// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/policy/regoguard"
)

// UnknownError says that a constraint cannot be decided, and why.
type UnknownError = regoguard.UnknownError

// regoRun is one run of the Rego of a template.
type regoRun struct {
	engine    *regoEngine
	review    *Review
	template  *Template
	inventory *inventory
}

// defaultTimeout bounds one constraint over one object.
const defaultTimeout = time.Second

// prepare returns a query, and what must be called when it has run.
func (r *regoRun) prepare(ctx context.Context, input *ast.Term) (*topdown.Query, func()) {
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(r.engine.timeout(r.review), cancel.Cancel)
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, cancel.Cancel)
	}
	now := r.review.Request.Now
	q := topdown.NewQuery(r.engine.query).
		WithCompiler(r.engine.compiler).
		WithStore(r.inventory.store()).
		WithTransaction(reading{}).
		WithCancel(cancel).
		WithInput(input).
		WithMetrics(metrics.NoOp()).
		WithBuiltins(guarded(!now.IsZero()).Builtins()).
		WithSeed(bytes.NewReader(nil)).
		WithTime(now)
	if r.engine.opts.Observe != nil {
		q = q.WithQueryTracer(r.engine.opts.Observe(r.template))
	}
	return q, func() {
		timer.Stop()
		stop()
	}
}

// eval returns the violations, in the order of their messages.
func (r *regoRun) eval(ctx context.Context, input *ast.Term) ([]Violation, error) {
	query, done := r.prepare(ctx, input)
	defer done()
	var out []Violation
	seen := ast.NewSet()
	err := query.Iter(withProviders(regoguard.WithNetwork(ctx, r.review.Request.Network), r.engine.opts.providers), func(result topdown.QueryResult) error {
		v, key, err := violation(result["r"])
		if err != nil || key == nil || seen.Contains(key) {
			return err
		}
		seen.Add(key)
		out = append(out, v)
		return nil
	})
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	slices.SortStableFunc(out, func(a, b Violation) int { return cmp.Compare(a.Message, b.Message) })
	return out, nil
}

// explain says why Rego could not be evaluated.
func (r *regoRun) explain(ctx context.Context, err error) error {
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		return unknown
	case ctx.Err() != nil:
		return &UnknownError{What: "the evaluation was given up: " + ctx.Err().Error()}
	case topdown.IsCancel(err):
		return &UnknownError{What: fmt.Sprintf("the evaluation took longer than %s", r.engine.timeout(r.review))}
	}
	return err
}

// violation reads an element of the set of violations. Its key is what tells it
// from others, nil where it has no message: then it is none.
func violation(t *ast.Term) (Violation, *ast.Term, error) {
	msg := t.Get(messageTerm)
	if msg == nil {
		return Violation{}, nil, nil
	}
	text, ok := msg.Value.(ast.String)
	if !ok {
		return Violation{}, nil, fmt.Errorf("the msg of a violation is %s; want a string", ast.ValueName(msg.Value))
	}
	v := Violation{Message: string(text)}
	details := t.Get(detailsTerm)
	if details == nil {
		details = emptyObject
	} else {
		if regoguard.TooLarge(details) {
			return v, nil, errors.New("the details of a violation are too large")
		}
		value, err := ast.JSON(details.Value)
		if err != nil {
			return v, nil, fmt.Errorf("the details of a violation: %w", err)
		}
		v.Details = value
	}
	return v, ast.ArrayTerm(msg, details), nil
}

var (
	messageTerm = ast.StringTerm("msg")
	detailsTerm = ast.StringTerm("details")
	emptyObject = ast.NewTerm(ast.NewObject())
)

// holds says whether there is no violation, whatever is not known.
func (r *regoRun) holds(ctx context.Context, input *ast.Term, missing []absent) (bool, error) {
	query, done := r.prepare(ctx, input)
	defer done()
	var refs []*ast.Term
	for _, m := range missing {
		refs = append(refs, m.ref)
	}
	left, _, err := query.WithUnknowns(refs).PartialRun(ctx)
	if err != nil {
		return false, r.explain(ctx, err)
	}
	return len(left) == 0, nil
}
