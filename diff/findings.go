// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Findings are those that are not as they were, each list the worst first.
type Findings struct {
	// New fail, and did not.
	New []Finding `json:"new"`
	// Gone failed, or could not be decided, and are no more.
	Gone []Finding `json:"gone"`
	// Unknown cannot be decided, and failed or were not there before.
	Unknown []Finding `json:"unknown"`
	// Excepted fail and are excused, which was not so before.
	Excepted []Finding `json:"excepted"`
	// Unclear are on one side alone, and may be on the other: something there
	// could not be read.
	Unclear []Finding `json:"unclear"`
	// Same counts those that are on both sides.
	Same int `json:"same"`
}

// State is what a side says of a finding.
type State string

// The states. What is in a file that could not be read is Unread.
const (
	NoObject  State = "no-object"  // there is no such object
	NoFinding State = "no-finding" // of the object there is no such finding
	Failed    State = "fail"
	Unknown   State = "unknown"
	Excepted  State = "excepted"
	Unread    State = "unread"
)

// Finding is a finding that is not as it was: as it is, or as it was where it is
// no more.
type Finding struct {
	Was State `json:"was"`
	Is  State `json:"is"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
	verdict.Finding
}

func stateOf(f *verdict.Finding) State {
	switch {
	case f.Outcome == verdict.Unknown:
		return Unknown
	case f.Excepted != nil:
		return Excepted
	}
	return Failed
}

// undecided names a control and an object of which something is unknown.
type undecided struct {
	control string
	object  identity
}

func undecidedBy(f *verdict.Finding) undecided { return undecided{f.Control, identify(f.Object)} }

// comparison compares findings.
type comparison struct {
	from, to    *Side
	lost, added *unread
	// Of what something is unknown or fails on one side alone.
	unknownThen, unknownNow map[undecided]bool
	failedThen, failedNow   map[undecided]bool
	out                     Findings
}

func compareFindings(from, to *Side, lost, added *unread) Findings {
	c := &comparison{from: from, to: to, lost: lost, added: added}
	then, now := c.pair()
	c.unknownThen, c.failedThen = byState(then)
	c.unknownNow, c.failedNow = byState(now)
	for _, f := range then {
		c.gone(f)
	}
	for _, f := range now {
		c.fresh(f)
	}
	for _, list := range []*[]Finding{&c.out.New, &c.out.Gone, &c.out.Unknown, &c.out.Excepted, &c.out.Unclear} {
		if *list == nil {
			*list = []Finding{}
		}
		slices.SortStableFunc(*list, byWeight)
	}
	return c.out
}

func byWeight(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(verdict.Rank(a.Severity), verdict.Rank(b.Severity)),
		cmp.Compare(a.Position.File, b.Position.File),
		cmp.Compare(a.Position.Line, b.Position.Line),
		cmp.Compare(a.Object.String(), b.Object.String()),
		cmp.Compare(a.Control, b.Control),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Fingerprint, b.Fingerprint),
	)
}

// byState returns of what something is unknown, and of what something fails.
func byState(findings []*verdict.Finding) (unknown, failed map[undecided]bool) {
	unknown, failed = map[undecided]bool{}, map[undecided]bool{}
	for _, f := range findings {
		switch stateOf(f) {
		case Unknown:
			unknown[undecidedBy(f)] = true
		case Failed:
			failed[undecidedBy(f)] = true
		}
	}
	return unknown, failed
}

// pair finds what is on both sides, notes what became of it, and returns what is
// on one side alone. Several findings may have one identity, where an object
// stands twice: as many of them are the same as both sides have.
func (c *comparison) pair() (then, now []*verdict.Finding) {
	had, has := c.from.byIdentity(), c.to.byIdentity()
	was := map[*verdict.Finding]*verdict.Finding{}
	met := map[*verdict.Finding]bool{}
	for id, list := range has {
		c.couple(list, had[id], func(is, before *verdict.Finding) { was[is], met[before] = before, true })
	}
	for i := range c.to.Findings {
		f := &c.to.Findings[i]
		if before := was[f]; before != nil {
			c.both(before, f)
		} else {
			now = append(now, f)
		}
	}
	for i := range c.from.Findings {
		if f := &c.from.Findings[i]; !met[f] {
			then = append(then, f)
		}
	}
	return then, now
}

func (s *Side) byIdentity() map[string][]*verdict.Finding {
	out := make(map[string][]*verdict.Finding, len(s.Findings))
	for i := range s.Findings {
		id := s.identity(&s.Findings[i])
		out[id] = append(out[id], &s.Findings[i])
	}
	return out
}

// identity is what a finding has in common with the same one of the other side:
// its fingerprint, without the number that tells it from others of the same one.
// Of a namespace or the cluster it is the control alone.
func (s *Side) identity(f *verdict.Finding) string {
	switch s.Wide[f.Control] {
	case OfNamespace:
		if f.Object.GroupKind() == (object.GroupKind{Kind: "Namespace"}) {
			return f.Control + " of " + f.Object.Name
		}
		return f.Control + " of " + f.Object.Namespace
	case OfCluster:
		return f.Control
	}
	id, _, _ := strings.Cut(f.Fingerprint, "-")
	return id
}

// couple couples the findings of one identity: first those that stand in the
// same file and say the same, then those of the same file, then those that say
// the same, then the others in their order.
func (c *comparison) couple(is, was []*verdict.Finding, coupled func(is, was *verdict.Finding)) {
	file := func(s *Side, f *verdict.Finding) string { return s.within(sourceOf(f)) }
	says := func(_ *Side, f *verdict.Finding) string { return string(stateOf(f)) + " " + f.Message }
	for _, key := range []func(*Side, *verdict.Finding) string{
		func(s *Side, f *verdict.Finding) string { return file(s, f) + "\x00" + says(s, f) },
		file, says,
		func(*Side, *verdict.Finding) string { return "" },
	} {
		if len(is) == 0 || len(was) == 0 {
			return
		}
		waiting := map[string][]*verdict.Finding{}
		for _, f := range was {
			waiting[key(c.from, f)] = append(waiting[key(c.from, f)], f)
		}
		var rest []*verdict.Finding
		for _, f := range is {
			k := key(c.to, f)
			if len(waiting[k]) == 0 {
				rest = append(rest, f)
				continue
			}
			coupled(f, waiting[k][0])
			waiting[k] = waiting[k][1:]
		}
		var left []*verdict.Finding
		for _, f := range was {
			if k := key(c.from, f); len(waiting[k]) > 0 && waiting[k][0] == f {
				left = append(left, f)
				waiting[k] = waiting[k][1:]
			}
		}
		is, was = rest, left
	}
}

// both notes a finding that is on both sides.
func (c *comparison) both(was, is *verdict.Finding) {
	f := Finding{Was: stateOf(was), Is: stateOf(is), Finding: *is}
	if f.Was == f.Is {
		c.out.Same++
		return
	}
	switch f.Is {
	case Failed:
		c.out.New = append(c.out.New, f)
	case Unknown:
		c.out.Unknown = append(c.out.Unknown, f)
	default:
		c.out.Excepted = append(c.out.Excepted, f)
	}
}

// gone notes a finding that the base alone has.
func (c *comparison) gone(was *verdict.Finding) {
	f := Finding{Was: stateOf(was), Is: absent(c.to, was), Why: c.lost.whyOf(was.Object, sourceOf(was)), Finding: *was}
	key := undecidedBy(was)
	switch {
	case f.Why != "":
		f.Is = Unread
		c.out.Unclear = append(c.out.Unclear, f)
	case f.Was == Failed && c.unknownNow[key] || f.Was == Unknown && c.failedNow[key]:
		// What it is now is told of the finding that took its place.
	default:
		c.out.Gone = append(c.out.Gone, f)
	}
}

// fresh notes a finding that the head alone has.
func (c *comparison) fresh(is *verdict.Finding) {
	f := Finding{Was: absent(c.from, is), Is: stateOf(is), Why: c.added.whyOf(is.Object, sourceOf(is)), Finding: *is}
	key := undecidedBy(is)
	switch {
	case f.Why != "":
		f.Was = Unread
		c.out.Unclear = append(c.out.Unclear, f)
	case f.Is == Unknown:
		if c.failedThen[key] {
			f.Was = Failed
		}
		c.out.Unknown = append(c.out.Unknown, f)
	case f.Is == Excepted:
		c.out.Excepted = append(c.out.Excepted, f)
	default:
		if c.unknownThen[key] {
			f.Was = Unknown
		}
		c.out.New = append(c.out.New, f)
	}
}

// sourceOf is what the object of a finding was read from.
func sourceOf(f *verdict.Finding) string { return cmp.Or(f.Source, f.Position.File) }

// absent is the state of a finding that a side does not have.
func absent(s *Side, f *verdict.Finding) State {
	if s.Seen.Has(f.Object) {
		return NoFinding
	}
	return NoObject
}
