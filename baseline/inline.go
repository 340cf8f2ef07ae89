// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"fmt"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Inline is the exceptions that an object makes for itself, by annotations:
//
//	except.sconce.dev/host-network: "until 2027-01-31: the agent answers on the node's address"
//
// They stand on the object, or on its pod template. A nil Inline makes none.
type Inline struct {
	object *object.Object
	all    []*inlineException
}

type inlineException struct {
	control  string
	path     object.Path
	excepted *verdict.Excepted
	used     bool
	notice   *verdict.Notice // why it does not hold
}

// Inline reads the exceptions that an object makes for itself; nil if there are
// none.
func (b *Baseline) Inline(o *object.Object, today time.Time) *Inline {
	out := &Inline{object: o.Subject()}
	out.read(b, o.Root, nil, today)
	if path, ok := object.PodPath(o.GroupKind()); ok && len(path) > 0 {
		out.read(b, o.Root.Lookup(path), path, today)
	}
	if len(out.all) == 0 {
		return nil
	}
	return out
}

// read reads the annotations of the object, or of its pod template.
func (x *Inline) read(b *Baseline, n *object.Node, at object.Path, today time.Time) {
	annotations := n.At("metadata", "annotations")
	if annotations == nil {
		return
	}
	for _, f := range annotations.Fields {
		name, ok := strings.CutPrefix(f.Key, v1alpha1.ExceptPrefix)
		if !ok {
			continue
		}
		e := &inlineException{control: name, path: at.Fields("metadata", "annotations", f.Key)}
		e.read(b, f.Value.Str(), today)
		x.all = append(x.all, e)
	}
}

// read reads an annotation's value.
func (e *inlineException) read(b *Baseline, value string, today time.Time) {
	refuse := func(kind verdict.NoticeKind, format string, args ...any) {
		e.notice = &verdict.Notice{Kind: kind, Message: fmt.Sprintf(format, args...)}
	}
	until, reason, ok := strings.Cut(value, ":")
	reason = strings.TrimSpace(reason)
	last, err := time.Parse(time.DateOnly, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(until), "until ")))
	switch {
	case !b.known(e.control):
		refuse(verdict.InvalidException, "excuses nothing: there is no control %q", e.control)
	case !ok || err != nil:
		refuse(verdict.InvalidException, `excuses nothing: write the last day on which it holds, and why, as in "until 2027-01-31: the agent answers on the node's address"`)
	case b.ForbidInline:
		refuse(verdict.ForbiddenException, "excuses nothing: baseline %s lets no object excuse itself; ask for an Exception", b.Name)
	case !today.IsZero() && over(last, today):
		refuse(verdict.ExpiredException, "expired on %s and excuses nothing any more: mend what it excuses and remove it", last.Format(time.DateOnly))
	case len(reason) < 8:
		refuse(verdict.InvalidException, "excuses nothing: an exception needs a reason that its reader can weigh")
	default:
		e.excepted = &verdict.Excepted{Exception: v1alpha1.ExceptPrefix + e.control, Reason: reason, Owner: "the object itself", Expires: last.Format(time.DateOnly)}
	}
}

// Excuse returns the exception that the object makes from a control, or nil.
func (x *Inline) Excuse(control string) *verdict.Excepted {
	if x == nil {
		return nil
	}
	for _, e := range x.all {
		if e.control == control && e.excepted != nil {
			e.used = true
			return e.excepted
		}
	}
	return nil
}

// Notices says which of the exceptions do not hold, or excuse nothing; judged
// says which controls the object was held against.
func (x *Inline) Notices(judged func(control string) bool) []verdict.Notice {
	if x == nil {
		return nil
	}
	var out []verdict.Notice
	for _, e := range x.all {
		n := e.notice
		if n == nil && !e.used && judged(e.control) {
			n = &verdict.Notice{Kind: verdict.UnusedException, Message: "excuses nothing: the object meets the control; remove it"}
		}
		if n != nil {
			n.Subject, n.Position = fmt.Sprintf("%s%s of %s", v1alpha1.ExceptPrefix, e.control, x.object.Ref), x.object.Position(e.path)
			out = append(out, *n)
		}
	}
	return out
}
