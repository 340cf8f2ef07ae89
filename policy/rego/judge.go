// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/regoguard"
)

// resultVar is what a query binds the value of a rule to.
const resultVar = "result"

// rule is one rule of a package, with all its clauses.
type rule struct {
	modules *Modules
	info    policy.Info
	// kinds are the only ones that the rule is about; nil for all.
	kinds map[string]bool
	// clock is the function by which it reads the time, if it does.
	clock string
	// network says that it calls out.
	network bool
	query   ast.Body
	// exception holds where the package takes the document out of the rule; nil
	// where it has no exceptions.
	exception ast.Body
	watch     regoguard.Watch
}

var _ DocumentRule = (*rule)(nil)

func (r *rule) Info() *policy.Info { return &r.info }

func (r *rule) Matches(gk object.GroupKind) bool { return r.kinds == nil || r.kinds[gk.Kind] }

// input is what rules make of a request once.
type input struct {
	term *ast.Term
	// unknown is what of the object is not known, if something is.
	unknown string
}

type inputKey struct{}

func inputOf(req *policy.Request) *input {
	return policy.Once(req, inputKey{}, func() *input {
		root := req.Subject().Root
		if root.HasUnknown() {
			return &input{unknown: root.FirstUnknown()}
		}
		return &input{term: termOf(root)}
	})
}

func (r *rule) Judge(ctx context.Context, req *policy.Request) (control.Verdict, bool) {
	if why := r.undecidable(req.Now); why != "" {
		return policy.Unknown(why), true
	}
	in := inputOf(req)
	if in.term == nil {
		return policy.Unknown("not known: " + in.unknown), true
	}
	return r.judge(regoguard.WithNetwork(ctx, req.Network), in.term, req.Now, req.Subject().Root)
}

func (r *rule) JudgeDocument(ctx context.Context, doc any) (control.Verdict, bool) {
	if why := r.undecidable(time.Time{}); why != "" {
		return policy.Unknown(why), true
	}
	v, err := ast.InterfaceToValue(doc)
	if err != nil {
		return policy.Unknown("the document cannot be made a value of Rego: " + err.Error()), true
	}
	return r.judge(ctx, ast.NewTerm(v), time.Time{}, nil)
}

// undecidable says why the rule cannot be decided, whatever the document.
func (r *rule) undecidable(now time.Time) string {
	switch {
	case r.info.Unsupported != "":
		return r.info.Unsupported
	case r.clock != "" && now.IsZero():
		return "it calls " + r.clock + ": the time is not told"
	}
	return ""
}

// judge evaluates the rule over a document, and gives up what does not stop;
// root is the document's tree, where
// there is one.
func (r *rule) judge(ctx context.Context, in *ast.Term, now time.Time, root *object.Node) (control.Verdict, bool) {
	timeout := cmp.Or(r.modules.opts.Timeout, defaultTimeout)
	if n := regoguard.NetworkOf(ctx); n != nil && r.network {
		timeout = n.Limit()
	}
	type outcome struct {
		verdict control.Verdict
		applies bool
	}
	out := &outcome{}
	if err := r.watch.Do(timeout, func() { out.verdict, out.applies = r.run(ctx, in, now, root, timeout) }); err != nil {
		return policy.Unknown(err.Error()), true
	}
	return out.verdict, out.applies
}

// run evaluates the rule over a document.
func (r *rule) run(ctx context.Context, in *ast.Term, now time.Time, root *object.Node, timeout time.Duration) (control.Verdict, bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := r.modules.evaluate(ctx, r.query, in, now)
	if err != nil {
		return policy.Unknown(reason(ctx, err, timeout)), true
	}
	out := r.results(found, root)
	if len(out.Findings) == 0 || r.exception == nil {
		return out, true
	}
	excepted, err := r.modules.evaluate(ctx, r.exception, in, now)
	if err != nil {
		return policy.Unknown("its exceptions: " + reason(ctx, err, timeout)), true
	}
	return out, len(excepted) == 0
}

// evaluate runs a query over a document.
func (m *Modules) evaluate(ctx context.Context, query ast.Body, in *ast.Term, now time.Time) (out topdown.QueryResultSet, err error) {
	defer recovered(&err, "evaluating")
	txn, err := m.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer m.store.Abort(ctx, txn)
	halt := topdown.NewCancel()
	defer context.AfterFunc(ctx, halt.Cancel)()
	if now.IsZero() {
		now = time.Unix(0, 0)
	}
	var failed []topdown.Error
	q := topdown.NewQuery(query).
		WithCompiler(m.compiler).
		WithStore(m.store).
		WithTransaction(txn).
		WithInput(in).
		WithCancel(halt).
		WithTime(now).
		WithBuiltins(guards().Builtins()).
		WithBuiltinErrorList(&failed)
	out, err = q.Run(ctx)
	if err != nil {
		return nil, err
	}
	for i := range failed {
		// A schema that is elsewhere was not fetched: whether it holds is not
		// known, and the library says that it does not.
		if strings.Contains(failed[i].Message, "remote reference") {
			return nil, &failed[i]
		}
	}
	return out, nil
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// reason says why an evaluation came to nothing. Values that an error quotes may
// be secret.
func reason(ctx context.Context, err error, timeout time.Duration) string {
	var unknown *regoguard.UnknownError
	if errors.As(err, &unknown) {
		return unknown.What
	}
	if topdown.IsCancel(err) || ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Sprintf("it takes longer than %s", timeout)
		}
		return "its evaluation was stopped"
	}
	message := err.Error()
	var e *topdown.Error
	if errors.As(err, &e) {
		message = e.Message
		if e.Location != nil {
			message = fmt.Sprintf("%s:%d: %s", e.Location.File, e.Location.Row, message)
		}
	}
	return "cannot be evaluated: " + quoted.ReplaceAllString(message, `"…"`)
}
