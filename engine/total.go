// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"hash/maphash"
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// total adds up the units of a run, in their order.
type total struct {
	e            *Engine
	units        int
	counts       []verdict.Counts
	summary      *verdict.Summary
	fingerprints map[uint64]int32 // how often each was met, by the hash of it
	seed         maphash.Seed
	unread       map[object.GroupKind]bool // kinds with which there was a problem
	kept         [][]any                   // for facts about all objects, in the order of the units
	waiting      []*waiting                // results of objects whose owner was not met yet
	waitingCount int                       // of their findings
	gathered     []*object.Object          // what rules of policies need, in the order of the units
}

func (e *Engine) newTotal() *total {
	return &total{
		e: e, counts: make([]verdict.Counts, len(e.rules)), fingerprints: map[uint64]int32{}, seed: maphash.MakeSeed(),
		kept: make([][]any, len(e.wholes)), unread: map[object.GroupKind]bool{},
		summary: &verdict.Summary{
			BySeverity: map[v1alpha1.Severity]verdict.Counts{},
			ByCell:     map[string]verdict.Counts{},
			ByControl:  map[string]verdict.Counts{},
			Findings:   map[v1alpha1.Severity]int{},
			Controls:   len(e.rules),
		},
	}
}

// add counts a unit and passes on what it found.
func (t *total) add(u *perUnit, out Output) error {
	t.wait(u)
	s := t.summary
	s.Files += u.tally.Files
	s.Other += u.tally.Other
	s.Charts += u.tally.Charts
	s.Overlays += u.tally.Overlays
	s.Owned += u.tally.Owned
	s.Objects += u.objects
	s.Unmatched += u.other
	s.Problems += len(u.problems)
	s.Notices += len(u.notices)
	s.Unknown += u.unknown
	s.OldRevisions += u.old
	s.Folded += u.folded
	for i, c := range u.counts {
		if c != (verdict.Counts{}) {
			t.counts[i].Add(c)
		}
	}
	clear(u.counts)
	t.e.counts.Put(&u.counts)
	for severity, n := range u.failed {
		s.Findings[severity] += n
	}
	for _, p := range u.problems {
		t.unread[p.Of] = true // it may hold what is missing
		if err := out.Problem(p); err != nil {
			return err
		}
	}
	for _, r := range u.results {
		t.distinguish(r)
		if err := out.Result(r); err != nil {
			return err
		}
	}
	for _, n := range u.notices {
		if err := out.Notice(n); err != nil {
			return err
		}
	}
	for i, kept := range u.kept {
		t.kept[i] = append(t.kept[i], kept...)
	}
	t.gathered = append(t.gathered, u.gathered...)
	t.units++
	if out.Done != nil {
		out.Done(t.units)
	}
	return nil
}

// wait keeps the results that wait for an owner; if there are too many of them,
// they are told as they are.
func (t *total) wait(u *perUnit) {
	for _, w := range u.waiting {
		if t.waitingCount += len(w.result.Findings); t.waitingCount > maxPerUnit {
			t.e.count(u, w.result, w.object, 0)
			continue
		}
		t.waiting = append(t.waiting, w)
	}
}

// distinguish numbers findings whose identity would otherwise be the same: of
// two objects of one name, or two elements without names at one place.
func (t *total) distinguish(r *Result) {
	for i := range r.Findings {
		f := &r.Findings[i]
		key := maphash.String(t.seed, f.Fingerprint)
		n := t.fingerprints[key]
		t.fingerprints[key] = n + 1
		if n > 0 {
			f.Fingerprint = fmt.Sprintf("%s-%d", f.Fingerprint, n+1)
		}
	}
}

// finish adds up the verdicts and tells of policies that were left out, and what
// became of the exceptions.
func (t *total) finish(out Output) (*verdict.Summary, error) {
	s := t.summary
	for i, c := range t.counts {
		if c == (verdict.Counts{}) {
			continue
		}
		rule := t.e.rules[i]
		s.Verdicts.Add(c)
		s.ByControl[rule.Name] = c
		addTo(s.BySeverity, rule.Severity, c)
		addTo(s.ByCell, string(rule.Spec.Layer)+"/"+string(rule.Spec.Phase), c)
	}
	for _, p := range t.e.baseline.Problems {
		s.Problems++
		if err := out.Problem(p); err != nil {
			return nil, err
		}
	}
	for _, n := range slices.Concat(t.e.baseline.Notices, t.e.exceptions.Notices(t.ran)) {
		s.Notices++
		if err := out.Notice(n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ran says whether a control was on.
func (t *total) ran(control string) bool {
	return slices.ContainsFunc(t.e.rules, func(r *baseline.Rule) bool { return r.Name == control })
}

func addTo[K comparable](m map[K]verdict.Counts, key K, c verdict.Counts) {
	sum := m[key]
	sum.Add(c)
	m[key] = sum
}

// Incomplete says whether an object of a kind that holds a pod holds none, and
// why that is a problem: it is a patch, or a mistake. One problem stands for all
// that cannot be judged.
func Incomplete(o *object.Object) (bool, string) {
	path, ok := object.PodPath(o.GroupKind())
	if !ok || len(path) == 0 {
		if ok && o.Root.Get("spec") == nil {
			return true, fmt.Sprintf("%s has no spec, so there is nothing to judge", o.Ref)
		}
		return false, ""
	}
	if n := o.Root.Lookup(path); n == nil || n.Kind != object.Map {
		return true, fmt.Sprintf("%s has no %s, so there is no pod to judge; if this is a patch, scan the overlay that uses it", o.Ref, path)
	}
	return false, ""
}

func duplicateNotice(first object.Position, second *object.Object) verdict.Notice {
	where := "in " + first.File
	if second.Origin.Renderer == "" {
		where = fmt.Sprintf("at %s:%d", first.File, first.Line)
	}
	return verdict.Notice{
		Kind: verdict.DuplicateObject, Subject: second.Ref.String(), Position: hidden(second, second.Position(nil)),
		Message: fmt.Sprintf("stands twice, first %s: a cluster keeps only the one that is applied last; both were judged", where),
	}
}
