// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/place"
	"sconce.dev/sconce/verdict"
)

// rule is a constraint over objects, over what they generate, or both.
type rule struct {
	info       policy.Info
	constraint *Constraint
	match      *match
	// direct says that objects themselves are judged; expansions are those whose
	// generated objects are.
	direct     bool
	expansions []*Expansion
	shared     *shared
}

// shared is what the rules of one set share.
type shared struct {
	inventories sharedInventories
	expansions  []*Expansion
}

// Info implements policy.Rule.
func (r *rule) Info() *policy.Info { return &r.info }

// Matches implements policy.Rule.
func (r *rule) Matches(gk object.GroupKind) bool {
	return r.direct && r.match.kind(gk) || slices.ContainsFunc(r.expansions, func(e *Expansion) bool {
		return r.match.kind(e.generated.GroupKind()) && r.reaches(gk, e, 0)
	})
}

// Asks implements policy.Asking. Deletions are the business of templates that name
// them; what is sent to a subresource is that of constraints that name its kind.
func (r *rule) Asks(q policy.Requests) bool {
	t := r.constraint.Template
	switch {
	case q.Operation == policy.Connect || t == nil:
		return false
	case q.Subresource != "":
		return r.direct && t.operation(q.Operation) && policy.IsSent(q.Sent) && r.match.kind(q.Sent) && !r.match.kind(object.GroupKind{Group: q.Sent.Group, Kind: "AnyOther"})
	case q.Operation == policy.Delete:
		return r.direct && r.match.kind(q.Kind) && t.deletes()
	}
	return t.operation(q.Operation) && r.Matches(q.Kind)
}

// reaches says whether objects of a kind lead to what an expansion generates.
func (r *rule) reaches(gk object.GroupKind, e *Expansion, depth int) bool {
	if e.appliesToKind(gk) {
		return true
	}
	return depth < maxExpansions && slices.ContainsFunc(r.shared.expansions, func(before *Expansion) bool {
		return e.applies(before.generated) && r.reaches(gk, before, depth+1)
	})
}

type reviewKey struct{ set *shared }

// review returns the review of a request, which the rules of a set share.
func (s *shared) review(r *policy.Request) *Review {
	return policy.Once(r, reviewKey{s}, func() *Review { return newReview(r, false, s.inventories.of(r.Cluster)) })
}

type expandKey struct{ set *shared }

// generated is what the object of a request generates.
type generated struct {
	reviews []*Review
	by      []*Expansion
	err     error
}

// generated returns the reviews of what the object of a request generates, which
// the rules of a set share.
func (s *shared) generated(r *policy.Request) *generated {
	return policy.Once(r, expandKey{s}, func() *generated {
		out := &generated{}
		if r.Operation == policy.Delete || r.Object == nil {
			return out
		}
		made, err := Expand(r.Object, s.expansions)
		out.err = err
		for _, g := range made {
			review := newReview(&policy.Request{
				Object: g.Object, Operation: r.Operation, User: r.User, DryRun: r.DryRun, Now: r.Now, Cluster: r.Cluster, Network: r.Network,
			}, false, s.inventories.of(r.Cluster))
			review.Generated = true
			out.reviews, out.by = append(out.reviews, review), append(out.by, g.By)
		}
		return out
	})
}

// Judge implements policy.Rule.
func (r *rule) Judge(ctx context.Context, req *policy.Request) (control.Verdict, bool) {
	o := req.Subject()
	if o == nil {
		return control.Verdict{}, false
	}
	out, applies := control.Verdict{Outcome: verdict.Pass}, false
	if r.direct && r.match.kind(o.GroupKind()) {
		applies = r.judge(ctx, r.shared.review(req), "", &out)
	}
	if len(r.expansions) > 0 && slices.ContainsFunc(r.shared.expansions, func(e *Expansion) bool { return e.applies(o.Ref) }) {
		made := r.shared.generated(req)
		if made.err != nil {
			unknown(&out, made.err.Error())
			return out, true
		}
		for i, review := range made.reviews {
			if by := made.by[i]; slices.Contains(r.expansions, by) && r.match.kind(by.generated.GroupKind()) {
				applies = r.judge(ctx, review, by.Name, &out) || applies
			}
		}
	}
	return out, applies
}

// judge judges one object: the one of the request, or one that it generates.
func (r *rule) judge(ctx context.Context, review *Review, by string, out *control.Verdict) (applies bool) {
	why := review.unknown()
	if r.info.Unsupported != "" {
		why = r.info.Unsupported
	}
	if why != "" {
		if !r.match.may(review) {
			return false
		}
		unknown(out, why)
		return true
	}
	found, applies, err := r.constraint.Review(ctx, review)
	var notKnown *UnknownError
	switch {
	case !applies:
		return false
	case errors.As(err, &notKnown):
		unknown(out, notKnown.What)
	case err != nil:
		unknown(out, "the template could not be evaluated: "+err.Error())
	}
	o := review.Request.Subject()
	for _, v := range found {
		message := redacted(o, v.Message)
		if by != "" {
			message = "[Implied by " + by + "] " + message
		}
		if v.Unknown {
			unknown(out, message)
			continue
		}
		out.Outcome = verdict.Fail
		at := place.Of(o.Root, v.Message)
		out.Findings = append(out.Findings, control.Finding{
			Outcome: verdict.Fail, Path: o.SourcePath(at), Missing: at != nil && o.Root.Lookup(at) == nil, Message: message,
		})
	}
	return true
}

// unknown adds what is not known to a verdict.
func unknown(out *control.Verdict, why string) {
	if out.Outcome != verdict.Fail {
		out.Outcome = verdict.Unknown
	}
	out.Findings = append(out.Findings, control.Finding{Outcome: verdict.Unknown, Message: why})
}

// minSecret is how long a value of a Secret must be for it to be looked for in
// messages: shorter ones are in any text.
const minSecret = 4

// redacted returns a message without the values of the Secret that it is about.
func redacted(o *object.Object, message string) string {
	if o.Kind != "Secret" || o.Group() != "" {
		return message
	}
	for _, field := range []string{"data", "stringData"} {
		data := o.Root.Get(field)
		if data == nil {
			continue
		}
		for _, f := range data.Fields {
			if v := f.Value.Str(); len(v) >= minSecret {
				message = strings.ReplaceAll(message, v, "(hidden)")
			}
		}
	}
	return message
}

// action returns the action of Sconce's that stands for the strictest of
// Gatekeeper's, and whether all of them are Gatekeeper's.
func action(names []string) (v1alpha1.Action, bool) {
	out, known := v1alpha1.Audit, true
	for _, name := range names {
		switch name {
		case "deny":
			out = v1alpha1.Deny
		case "warn":
			if out != v1alpha1.Deny {
				out = v1alpha1.Warn
			}
		case "dryrun":
		default:
			known = false
		}
	}
	return out, known
}
