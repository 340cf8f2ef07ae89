// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

func (l *Library) checkException(e *entry[v1alpha1.Exception], today time.Time) Errors {
	var errs Errors
	s := &e.doc.Spec
	if len(strings.TrimSpace(s.Reason)) < 8 {
		errs = append(errs, e.errorf("spec.reason", "an exception needs a reason that its reader can weigh: spec.reason is %q", s.Reason))
	}
	if strings.TrimSpace(s.Owner) == "" {
		errs = append(errs, e.errorf("spec.owner", "an exception needs an owner who answers for it: spec.owner is missing"))
	}
	switch expires, err := time.Parse(time.DateOnly, s.Expires); {
	case err != nil:
		errs = append(errs, e.errorf("spec.expires", "spec.expires is %q; want the last day on which the exception holds, as in 2027-01-31", s.Expires))
	case !today.IsZero() && over(expires, today):
		errs = append(errs, e.errorf("spec.expires", "exception %q expired on %s: mend what it excuses and remove it, or have %s renew it", e.doc.Name, s.Expires, s.Owner))
	}
	if len(s.Controls) == 0 {
		errs = append(errs, e.errorf("spec.controls", "spec.controls names no control"))
	}
	for i, name := range s.Controls {
		if !l.has(name) {
			errs = append(errs, l.unknown(e.errorf(fmt.Sprintf("spec.controls[%d]", i), "unknown control %q%s", name, suggestion(name, l.named())), name)...)
		}
	}
	m := &s.Match
	if len(m.Namespaces)+len(m.Kinds)+len(m.Names)+len(m.Elements) == 0 {
		errs = append(errs, e.errorf("spec.match", "spec.match chooses everything: to turn a control off, do that in the baseline"))
	}
	for field, patterns := range map[string][]string{"namespaces": m.Namespaces, "kinds": m.Kinds, "names": m.Names, "elements": m.Elements} {
		for i, p := range patterns {
			if _, err := path.Match(p, ""); err != nil {
				at := fmt.Sprintf("spec.match.%s[%d]", field, i)
				errs = append(errs, e.errorf(at, "%s is %q, which is no pattern: only * has a meaning", at, p))
			}
		}
	}
	return errs
}

// over says whether a day on which something holds for the last time has
// passed.
func over(last, today time.Time) bool {
	return today.After(last.AddDate(0, 0, 1).Add(-time.Nanosecond))
}

// Exceptions say which findings are excused, and remember what they were used
// for. They are safe for concurrent use.
type Exceptions struct {
	all       []*exception
	byControl map[string]*candidates
	// forgetful says that no account is kept of what they are used for.
	forgetful bool
}

type exception struct {
	doc      *v1alpha1.Exception
	order    int // among all
	position object.Position
	expired  bool

	mu sync.Mutex
	// used are the objects that it excused, needed its controls that excused
	// something, spare how many objects it matched that needed no excuse.
	used   map[object.Ref]bool
	needed map[string]bool
	spare  map[object.Ref]bool
}

// Exceptions returns the library's exceptions as they hold on a day. One that
// has expired excuses nothing and is told of in Notices.
func (l *Library) Exceptions(today time.Time) *Exceptions {
	out := &Exceptions{byControl: map[string]*candidates{}}
	for _, name := range names(l.exceptions) {
		e := l.exceptions[name]
		spot, _ := e.root.SpotOf(object.ParsePath("metadata.name"))
		last, err := time.Parse(time.DateOnly, e.doc.Spec.Expires)
		x := &exception{
			doc: e.doc, order: len(out.all),
			position: object.Position{File: e.file, Line: spot.Line, Column: spot.Col},
			expired:  err != nil || over(last, today),
			used:     map[object.Ref]bool{}, needed: map[string]bool{}, spare: map[object.Ref]bool{},
		}
		out.all = append(out.all, x)
		for _, control := range slices.Compact(slices.Sorted(slices.Values(e.doc.Spec.Controls))) {
			if out.byControl[control] == nil {
				out.byControl[control] = &candidates{named: map[objectName][]*exception{}}
			}
			out.byControl[control].add(x)
		}
	}
	return out
}

// Forgetful returns the exceptions without an account of what they are used
// for, which would grow for as long as a process runs: Notices then tells only
// of those that have expired.
func (x *Exceptions) Forgetful() *Exceptions {
	return &Exceptions{all: x.all, byControl: x.byControl, forgetful: true}
}

// Excuse returns the exception that excuses a control's finding at an element
// of an object, or nil.
func (x *Exceptions) Excuse(control string, ref object.Ref, element object.Path) *verdict.Excepted {
	var e *exception
	for other := range x.byControl[control].of(ref) {
		if (e == nil || other.order < e.order) && other.matchesElement(element) {
			e = other
		}
	}
	if e == nil {
		return nil
	}
	if !x.forgetful {
		e.mu.Lock()
		e.used[ref], e.needed[control] = true, true
		e.mu.Unlock()
	}
	s := &e.doc.Spec
	return &verdict.Excepted{Exception: e.doc.Name, Reason: s.Reason, Owner: s.Owner, Expires: s.Expires}
}

// candidates are the exceptions from a control: those whose names, or else
// namespaces, have no pattern among them are found by these.
type candidates struct {
	named map[objectName][]*exception
	other []*exception
}

// objectName is that of an object; of all in a namespace, where object is empty;
// of one in any namespace, where that is anywhere.
type objectName struct{ namespace, object string }

const anywhere = "*"

// maxNames is under how many names an exception is found; one with more is
// looked at each time.
const maxNames = 256

func (c *candidates) add(e *exception) {
	namespaces, objects := e.doc.Spec.Match.Namespaces, e.doc.Spec.Match.Names
	if len(objects) == 0 || slices.ContainsFunc(objects, isPattern) {
		objects = []string{""}
	}
	if len(namespaces) == 0 || slices.ContainsFunc(namespaces, isPattern) {
		namespaces = []string{anywhere}
	}
	if namespaces[0] == anywhere && objects[0] == "" || len(namespaces)*len(objects) > maxNames {
		c.other = append(c.other, e)
		return
	}
	for _, namespace := range namespaces {
		for _, o := range objects {
			c.named[objectName{namespace, o}] = append(c.named[objectName{namespace, o}], e)
		}
	}
}

// isPattern says whether a pattern may match more than itself. No object has the
// empty name.
func isPattern(s string) bool { return s == "" || strings.ContainsAny(s, `*?[\`) }

// of yields those that hold for an object.
func (c *candidates) of(ref object.Ref) iter.Seq[*exception] {
	return func(yield func(*exception) bool) {
		if c == nil {
			return
		}
		for _, list := range [...][]*exception{
			c.named[objectName{ref.Namespace, ref.Name}], c.named[objectName{ref.Namespace, ""}], c.named[objectName{anywhere, ref.Name}], c.other,
		} {
			for _, e := range list {
				if !e.expired && e.matches(ref) && !yield(e) {
					return
				}
			}
		}
	}
}

// Passed notes that a control of an exception passed on an object that the
// exception matches: there it is wider than it must be.
func (x *Exceptions) Passed(control string, ref object.Ref) {
	if x.forgetful {
		return
	}
	for e := range x.byControl[control].of(ref) {
		e.mu.Lock()
		e.spare[ref] = true
		e.mu.Unlock()
	}
}

// InForce are the exceptions that have not expired.
func (x *Exceptions) InForce() []*v1alpha1.Exception {
	var out []*v1alpha1.Exception
	for _, e := range x.all {
		if !e.expired {
			out = append(out, e.doc)
		}
	}
	return out
}

// NextExpiry returns the first day on which one that holds now holds no more,
// and whether there is such a day: what was judged with them before is to be
// judged again then.
func (x *Exceptions) NextExpiry() (day time.Time, ok bool) {
	for _, e := range x.all {
		last, err := time.Parse(time.DateOnly, e.doc.Spec.Expires)
		if next := last.AddDate(0, 0, 1); err == nil && !e.expired && (!ok || next.Before(day)) {
			day, ok = next, true
		}
	}
	return day, ok
}

// None says that there are no exceptions.
func (x *Exceptions) None() bool { return len(x.all) == 0 }

func (e *exception) matches(ref object.Ref) bool {
	m := &e.doc.Spec.Match
	return matchesAny(m.Namespaces, ref.Namespace) && matchesAny(m.Kinds, ref.Kind) && matchesAny(m.Names, ref.Name)
}

// matchesElement holds the patterns against the name of the container, volume
// or other element that stands first on the way to what is judged.
func (e *exception) matchesElement(element object.Path) bool {
	patterns := e.doc.Spec.Match.Elements
	if len(patterns) == 0 {
		return true
	}
	for _, s := range element {
		if s.Item {
			return s.Key != "" && matchesAny(patterns, s.Key)
		}
	}
	return false
}

// matchesAny says whether a value matches one of the patterns; none means any value.
func matchesAny(patterns []string, value string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if ok, err := path.Match(p, value); ok && err == nil {
			return true
		}
	}
	return false
}

// Notices says which exceptions have expired, were not used, or are wider than
// they must be, and how they could be narrowed.
//
// Those whose controls were not all run are left out: nothing is known of them.
func (x *Exceptions) Notices(ran func(control string) bool) []verdict.Notice {
	var out []verdict.Notice
	for _, e := range x.all {
		if !e.expired && (x.forgetful || slices.ContainsFunc(e.doc.Spec.Controls, func(c string) bool { return !ran(c) })) {
			continue
		}
		if n := e.notice(); n != nil {
			n.Subject, n.Position = e.doc.Name, e.position
			out = append(out, *n)
		}
	}
	return out
}

func (e *exception) notice() *verdict.Notice {
	s := &e.doc.Spec
	switch {
	case e.expired:
		return &verdict.Notice{Kind: verdict.ExpiredException, Message: fmt.Sprintf("expired on %s and excuses nothing any more: remove it, or have %s renew it", s.Expires, s.Owner)}
	case len(e.used) == 0:
		return &verdict.Notice{Kind: verdict.UnusedException, Message: "excuses nothing in what was scanned: remove it if all of it was"}
	}
	var idle []string
	for _, c := range s.Controls {
		if !e.needed[c] {
			idle = append(idle, c)
		}
	}
	var spare int
	for ref := range e.spare {
		if !e.used[ref] {
			spare++
		}
	}
	switch {
	case len(idle) > 0:
		return &verdict.Notice{Kind: verdict.WideException, Message: fmt.Sprintf("needs only %s: take out %s", strings.Join(sorted(e.needed), ", "), strings.Join(idle, ", "))}
	case spare > 0:
		return &verdict.Notice{Kind: verdict.WideException, Message: fmt.Sprintf("also matches %d that pass: narrow it to names: [%s]", spare, strings.Join(refNames(e.used), ", "))}
	}
	return nil
}

func sorted(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// refNames returns the names of objects, each once.
func refNames(refs map[object.Ref]bool) []string {
	set := map[string]bool{}
	for r := range refs {
		set[r.Name] = true
	}
	return sorted(set)
}
