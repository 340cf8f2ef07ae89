// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"unique"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// block is verdicts that come and go together. The same of them are held once:
// the pods of a ReplicaSet differ in their names.
type block struct {
	outcomes unique.Handle[string] // see pack
	findings []finding
	// facts is the hash of the facts that were judged; zero for none, and for
	// the object itself.
	facts uint64
}

// finding is what is held of a finding.
type finding struct {
	said unique.Handle[said]
	// print is its fingerprint. times counts those of an object that have the
	// same, from 0: elements without names at one place.
	print [12]byte
	times uint16
}

// said is what findings of several objects may have in common.
type said struct {
	rule                            int
	outcome                         verdict.Outcome
	action                          v1alpha1.Action // what follows for this object
	missing, excused                bool
	element, path, message, file    string
	exception, reason, owner, until string
}

// The outcomes of rules, packed.
const (
	passed = iota
	failed
	undecided
	excepted
)

// pack writes down outcomes of rules, three bytes each.
func pack(outcomes []engine.RuleOutcome) string {
	out := make([]byte, 0, 3*len(outcomes))
	for _, ro := range outcomes {
		code := byte(undecided)
		switch {
		case ro.Outcome == verdict.Pass:
			code = passed
		case ro.Excepted:
			code = excepted
		case ro.Outcome == verdict.Fail:
			code = failed
		}
		out = append(out, byte(ro.Rule>>8), byte(ro.Rule), code)
	}
	return string(out)
}

// countOne adds a packed outcome to counts, n times.
func countOne(c *verdict.Counts, outcome byte, n int) {
	switch outcome {
	case passed:
		c.Pass += n
	case failed:
		c.Fail += n
	case excepted:
		c.Excepted += n
	default:
		c.Unknown += n
	}
}

// replace puts new verdicts in the place of those in a block of a record, keeps
// the totals, and says what that did to the findings. A nil result is none.
func (s *State) replace(r *record, i int, result *engine.Result) Delta {
	if len(r.blocks) <= i {
		if result == nil || len(result.Outcomes) == 0 {
			return Delta{}
		}
		r.blocks = append(r.blocks, make([]block, i+1-len(r.blocks))...)
	}
	b := block{}
	var full []verdict.Finding
	if result != nil && len(result.Outcomes) > 0 {
		b.outcomes = unique.Make(pack(result.Outcomes))
		full = result.Findings
		b.findings = s.hold(full)
	}
	return s.put(r, i, b, full)
}

// replaceSome is replace for what some of the rules say; what the others said
// stays.
func (s *State) replaceSome(r *record, i int, rules []int, result *engine.Result) Delta {
	if len(r.blocks) <= i {
		return s.replace(r, i, result)
	}
	old := r.blocks[i]
	again := func(rule int) bool { _, found := slices.BinarySearch(rules, rule); return found }
	packed := pack(result.Outcomes)
	if old.outcomes != (block{}).outcomes {
		for three := range slices.Chunk([]byte(old.outcomes.Value()), 3) {
			if !again(int(three[0])<<8 | int(three[1])) {
				packed += string(three)
			}
		}
	}
	b := block{}
	if packed != "" {
		b.outcomes = unique.Make(sortedOutcomes(packed))
	}
	type both struct {
		finding
		full verdict.Finding // of one that stays, nothing: it is not told again
	}
	var all []both
	for k, f := range s.hold(result.Findings) {
		all = append(all, both{f, result.Findings[k]})
	}
	for _, f := range old.findings {
		if !again(f.said.Value().rule) {
			all = append(all, both{finding: f})
		}
	}
	slices.SortStableFunc(all, func(a, b both) int { return cmp.Compare(a.said.Value().rule, b.said.Value().rule) })
	var full []verdict.Finding
	for _, x := range all {
		b.findings, full = append(b.findings, x.finding), append(full, x.full)
	}
	return s.put(r, i, b, full)
}

// sortedOutcomes sorts packed outcomes by rule.
func sortedOutcomes(packed string) string {
	threes := slices.Collect(slices.Chunk([]byte(packed), 3))
	slices.SortFunc(threes, bytes.Compare)
	return string(bytes.Join(threes, nil))
}

// put puts a block in the place of another; full are its findings with all that
// is known of them.
func (s *State) put(r *record, i int, b block, full []verdict.Finding) Delta {
	old := r.blocks[i]
	r.blocks[i] = b
	if old.outcomes != b.outcomes {
		s.touch(r.ref.Namespace)
		s.countBlock(&old, -1)
		s.countBlock(&b, +1)
	}
	if slices.Equal(old.findings, b.findings) {
		r.blocks[i].findings = old.findings
		return Delta{}
	}
	s.touch(r.ref.Namespace)
	return s.difference(r, old.findings, b.findings, full)
}

// countBlock adds the outcomes of a block to the totals of the rules, n times.
func (s *State) countBlock(b *block, n int) {
	if b.outcomes == (block{}).outcomes {
		return
	}
	packed := b.outcomes.Value()
	for i := 0; i+2 < len(packed); i += 3 {
		countOne(&s.counts[int(packed[i])<<8|int(packed[i+1])], packed[i+2], n)
	}
}

// hold returns what is held of findings.
func (s *State) hold(full []verdict.Finding) []finding {
	if len(full) == 0 {
		return nil
	}
	out := make([]finding, len(full))
	times := make(map[[12]byte]uint16, len(full))
	for i := range full {
		f := &full[i]
		v := said{
			rule: s.rules[f.Control], outcome: f.Outcome, action: f.Action, missing: f.Missing,
			element: f.Element, path: f.Path, message: f.Message, file: f.Position.File,
		}
		if x := f.Excepted; x != nil {
			v.excused, v.exception, v.reason, v.owner, v.until = true, x.Exception, x.Reason, x.Owner, x.Expires
		}
		out[i].said = unique.Make(v)
		_, _ = hex.Decode(out[i].print[:], []byte(f.Fingerprint)) // it is one
		out[i].times = times[out[i].print]
		times[out[i].print]++
	}
	return out
}

// finding returns a finding as it is told.
func (s *State) finding(ref object.Ref, f finding) verdict.Finding {
	v := f.said.Value()
	rule := s.e.Rules()[v.rule]
	out := verdict.Finding{
		Control: rule.Name, Outcome: v.outcome, Severity: rule.Severity, Action: v.action,
		Object: ref, Element: v.element, Path: v.path, Missing: v.missing, Message: v.message,
		Position: object.Position{File: v.file}, Fingerprint: f.fingerprint(),
	}
	if v.excused {
		out.Excepted = &verdict.Excepted{Exception: v.exception, Reason: v.reason, Owner: v.owner, Expires: v.until}
	}
	return out
}

// fingerprint is the finding's identity as engine.Run tells it.
func (f finding) fingerprint() string {
	print := hex.EncodeToString(f.print[:])
	if f.times > 0 {
		return fmt.Sprintf("%s-%d", print, f.times+1)
	}
	return print
}

// state is what makes a finding that stays count as another.
type state struct {
	print   [12]byte
	times   uint16
	outcome verdict.Outcome
	excused bool
}

func (f finding) state() state {
	v := f.said.Value()
	return state{f.print, f.times, v.outcome, v.excused}
}

// difference says which findings of an object appeared and which cleared; full
// are the new ones with all that is known of them.
func (s *State) difference(r *record, before, now []finding, full []verdict.Finding) Delta {
	was := make(map[state]bool, len(before))
	for _, f := range before {
		was[f.state()] = true
	}
	var delta Delta
	for i, f := range now {
		if was[f.state()] {
			delete(was, f.state())
			continue
		}
		full[i].Fingerprint = f.fingerprint()
		delta.Appeared = append(delta.Appeared, full[i])
	}
	for _, f := range before {
		if was[f.state()] {
			delta.Cleared = append(delta.Cleared, s.finding(r.ref, f))
		}
	}
	return delta
}

// intern returns the one copy of a string that many objects share.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// interned returns a ref that keeps nothing of the object alive that it was read
// from.
func interned(ref object.Ref) object.Ref {
	return object.Ref{APIVersion: intern(ref.APIVersion), Kind: intern(ref.Kind), Namespace: intern(ref.Namespace), Name: intern(ref.Name)}
}
