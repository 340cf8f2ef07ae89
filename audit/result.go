// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"maps"
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Result is what is known of a namespace, or of the cluster-scoped objects.
type Result struct {
	Namespace string
	// Findings are the worst: those that fail before those that are unknown and
	// those that are excused; then by severity, control and object.
	Findings []verdict.Finding
	// LeftOut findings are not listed, for there are too many. Folded ones are
	// told of the object's owner alone, as in a scan, and not counted below.
	LeftOut, Folded int
	// Verdicts count one for each object and control, none of them left out;
	// Failed and Unknown the findings.
	Verdicts verdict.Counts
	Failed   map[v1alpha1.Severity]int
	Unknown  int
	// Objects were judged.
	Objects int
	// Problems kept something from being judged.
	Problems []verdict.Problem
}

// listed is a finding of an object on its way to be listed.
type listed struct {
	r *record
	f *finding
	*said
	rank int
}

// Namespace returns what is known of a namespace; "" stands for cluster-scoped
// objects.
func (s *State) Namespace(namespace string) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Result{Namespace: namespace, Problems: s.reading(), Failed: map[v1alpha1.Severity]int{}}
	sp := s.spaces[namespace]
	if sp == nil {
		return out
	}
	for _, r := range sp.records {
		switch {
		case r.problem != "":
			out.Problems = append(out.Problems, r.asProblem())
		case r.judged:
			out.Objects++
		}
		for i := range r.blocks {
			out.Verdicts.Add(r.blocks[i].verdicts())
		}
	}
	slices.SortFunc(out.Problems, func(a, b verdict.Problem) int { return cmp.Compare(a.Message, b.Message) })
	var all []listed
	t := s.tell(sp, func(r *record, f *finding, v *said) { all = append(all, listed{r, f, v, s.rank(v)}) })
	out.Folded, out.Unknown = t.folded, t.unknown
	maps.Copy(out.Failed, t.failed)
	for _, c := range t.owned {
		out.Verdicts.Add(c)
	}
	slices.SortFunc(all, s.compare)
	out.LeftOut = max(0, len(all)-s.opts.Findings)
	for _, l := range all[:len(all)-out.LeftOut] {
		out.Findings = append(out.Findings, s.finding(l.r.ref, *l.f))
	}
	return out
}

// Object returns all findings of an object, folded or not.
func (s *State) Object(ref object.Ref) []verdict.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(ref)
	if r == nil {
		return nil
	}
	var out []verdict.Finding
	for i := range r.blocks {
		for _, f := range r.blocks[i].findings {
			out = append(out, s.finding(r.ref, f))
		}
	}
	return out
}

// verdicts counts the outcomes of a block.
func (b *block) verdicts() verdict.Counts {
	var out verdict.Counts
	if b.outcomes == (block{}).outcomes {
		return out
	}
	packed := b.outcomes.Value()
	for i := 2; i < len(packed); i += 3 {
		countOne(&out, packed[i], 1)
	}
	return out
}

// rank orders findings: what fails, what is unknown, what is excused; the most
// severe first.
func (s *State) rank(v *said) int {
	rank, ranks := verdict.Rank(s.e.Rules()[v.rule].Severity), len(verdict.Severities)+1
	switch {
	case v.excused:
		return 2*ranks + rank
	case v.outcome == verdict.Unknown:
		return ranks + rank
	}
	return rank
}

func (s *State) compare(a, b listed) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(s.e.Rules()[a.rule].Name, s.e.Rules()[b.rule].Name), compareRefs(a.r.ref, b.r.ref), cmp.Compare(a.path, b.path), cmp.Compare(a.f.times, b.f.times), cmp.Compare(a.message, b.message))
}

// asProblem is why an object could not be judged.
func (r *record) asProblem() verdict.Problem {
	return verdict.Problem{Stage: verdict.Parsing, Message: r.problem}
}

// reading are the problems that are not those of one object.
func (s *State) reading() []verdict.Problem {
	out := s.faults()
	for _, p := range s.problems {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b verdict.Problem) int { return cmp.Compare(a.Message, b.Message) })
	return out
}

// Summary returns the totals over all objects, as engine.Run counts them.
func (s *State) Summary() *verdict.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &verdict.Summary{
		BySeverity: map[v1alpha1.Severity]verdict.Counts{}, ByCell: map[string]verdict.Counts{}, ByControl: map[string]verdict.Counts{},
		Findings: map[v1alpha1.Severity]int{}, Objects: s.objects, Unmatched: s.other, OldRevisions: s.old,
		Problems: len(s.problems) + s.partial + len(s.faults()), Controls: len(s.rules),
	}
	owned := map[int]verdict.Counts{}
	for _, sp := range s.spaces {
		if sp.told == nil {
			s.tell(sp, nil)
		}
		out.Folded += sp.told.folded
		out.Unknown += sp.told.unknown
		for severity, n := range sp.told.failed {
			out.Findings[severity] += n
		}
		for rule, c := range sp.told.owned {
			add(owned, rule, c)
		}
	}
	for i, rule := range s.e.Rules() {
		c := s.counts[i]
		c.Add(owned[i])
		if c == (verdict.Counts{}) {
			continue
		}
		out.Verdicts.Add(c)
		out.ByControl[rule.Name] = c
		add(out.BySeverity, rule.Severity, c)
		add(out.ByCell, string(rule.Spec.Layer)+"/"+string(rule.Spec.Phase), c)
	}
	return out
}

func add[K comparable](m map[K]verdict.Counts, key K, c verdict.Counts) {
	sum := m[key]
	sum.Add(c)
	m[key] = sum
}
