// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// derivedBudget is how many fixtures are run in the search for one mutant of a
// control that judges facts.
const derivedBudget = 1500

// manifest is a document of a fixture as the search changes it: what facts are
// derived from.
type manifest struct {
	settings string // the comment lines that say how it is judged
	root     *object.Node
}

// derives says whether the control judges facts.
func (s *searcher) derives() bool {
	for _, k := range s.in.Control.Spec.Match.Kinds {
		if k.Group == facts.Group {
			return true
		}
	}
	return false
}

// snapshots returns the documents of the fixture, those together from which
// facts are derived together.
func (s *searcher) snapshots() [][]manifest {
	var out [][]manifest
	for text := range object.Split(s.in.FixtureText) {
		root, err := object.ParseYAML(text)
		if err != nil || root == nil {
			continue
		}
		m := manifest{root: root}
		for l := range strings.Lines(string(text.Bytes)) {
			if l = strings.TrimSpace(l); strings.HasPrefix(l, "# with: ") || strings.HasPrefix(l, "# snapshot") {
				m.settings += l + "\n"
			}
		}
		if len(out) == 0 || strings.Contains(m.settings, "# snapshot") {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], m)
	}
	return out
}

// huntDerived looks for a case among changes of what facts are derived from:
// one document alone, then all that stand together.
func (s *searcher) huntDerived() {
	s.budget = derivedBudget
	snapshots := s.snapshots()
	for _, docs := range snapshots {
		for i := range docs {
			alone := manifest{docs[i].settings, docs[i].root}
			if first := docs[0].settings; i > 0 && strings.Contains(first, "# snapshot") {
				alone.settings = first + alone.settings
			}
			s.nearManifest([]manifest{alone}, 0)
		}
	}
	for _, docs := range snapshots {
		for i := range docs {
			s.nearManifest(docs, i)
		}
	}
}

// nearManifest tries sets of documents of which one differs in one place.
func (s *searcher) nearManifest(docs []manifest, i int) {
	s.tryManifests(docs)
	with := func(root *object.Node) {
		if root == nil {
			return
		}
		changed := slices.Clone(docs)
		changed[i].root = root
		s.tryManifests(changed)
	}
	root := docs[i].root
	words := s.words()
	for _, p := range paths(root, nil) {
		with(replace(root, p, nil))
		old := root.Lookup(p)
		for _, v := range s.instead(old) {
			with(replace(root, p, v))
		}
		if old == nil || old.Kind != object.String || !p[len(p)-1].Item {
			continue
		}
		for _, w := range words { // of a program's arguments
			with(replace(root, p, object.NewString(w)))
		}
	}
	for _, p := range paths(root, nil) {
		if old := root.Lookup(p); old != nil && len(old.Items) == 0 && len(old.Fields) == 0 {
			for _, v := range s.scalars() {
				with(replace(root, p, v))
			}
		}
	}
}

// words returns arguments that set what the control reads: --flag=value.
func (s *searcher) words() []string {
	var out []string
	for _, r := range s.reads {
		if len(r.steps) == 0 || r.steps[len(r.steps)-1].field == "" {
			continue
		}
		name := r.steps[len(r.steps)-1].field
		out = append(out, "--"+name+"=")
		for _, v := range spread(r.values, maxCombined) {
			out = append(out, fmt.Sprintf("--%s=%v", name, v))
		}
	}
	return out
}

// scalars returns values that the expressions of the control know.
func (s *searcher) scalars() []*object.Node {
	var out []*object.Node
	for _, r := range s.reads {
		for _, v := range spread(r.values, maxCombined) {
			if n := object.FromAny(v); len(n.Items) == 0 && len(n.Fields) == 0 && !slices.ContainsFunc(out, n.Equal) {
				out = append(out, n)
			}
		}
	}
	return spread(out, pairLimit)
}

// tryManifests makes documents a case if they tell the mutant from the control.
func (s *searcher) tryManifests(docs []manifest) {
	if s.found || s.budget <= 0 {
		return
	}
	original := s.tellsManifests(docs)
	if original == nil {
		return
	}
	weak := original.Unknown > 0
	if weak && s.mutant.Case != "" {
		return
	}
	text, f := s.writeManifests(docs, original)
	if text == "" {
		return
	}
	s.mutant.Case, s.found = text, !weak
	if s.found {
		s.share(f)
	}
}

// tellsManifests returns what the control says of documents if the mutant says
// something else, or nil.
func (s *searcher) tellsManifests(docs []manifest) *controltest.Result {
	s.budget--
	f, err := controltest.Read("case", []byte(renderManifests(docs)))
	if err != nil {
		return nil
	}
	original, _, err := s.judge.run(f, s.in.Control)
	if err != nil || len(original.Cases) == 0 {
		return nil
	}
	if s.mutant.noticed != nil {
		if s.mutant.noticed(original) {
			return original
		}
		return nil
	}
	mutant, _, err := s.judge.run(f, s.mutant.control)
	if err != nil || slices.Equal(shown(original), shown(mutant)) {
		return nil
	}
	return original
}

// shown returns what a fixture sees of a result: findings by line.
func shown(r *controltest.Result) []string {
	var out []string
	for _, c := range r.Cases {
		for _, f := range c.Verdict.Findings {
			out = append(out, fmt.Sprint(c.Object.Position(f.Path).Line, f.Outcome))
		}
	}
	slices.Sort(out)
	return out
}

func renderManifests(docs []manifest) string {
	var b strings.Builder
	for _, d := range docs {
		w := &writer{apart: map[*object.Node]bool{}, spread: true}
		w.block(d.root, "")
		b.WriteString("---\n" + d.settings + w.b.String())
	}
	return b.String()
}

// writeManifests returns documents as a case, without what does not matter.
func (s *searcher) writeManifests(docs []manifest, original *controltest.Result) (string, *controltest.Fixture) {
	simpler := func(less []manifest) bool {
		r := s.tellsManifests(less)
		if r == nil || r.Unknown > original.Unknown || len(shown(r)) > len(shown(original)) {
			return false
		}
		docs, original = less, r
		return true
	}
	for again := true; again && s.budget > 0; {
		again = false
		for i := 1; i < len(docs) && !again; i++ { // the first says how all are judged
			again = simpler(slices.Concat(docs[:i:i], docs[i+1:]))
		}
		for i := 0; i < len(docs) && !again; i++ {
			for _, p := range paths(docs[i].root, nil) {
				if last := p[len(p)-1]; !last.Item && slices.Contains(kept, last.Field) || docs[i].root.Lookup(p) == nil {
					continue
				}
				less := slices.Clone(docs)
				less[i].root = replace(docs[i].root, p, nil)
				if again = simpler(less); again {
					break
				}
			}
		}
	}
	lines := strings.Split(strings.TrimSuffix(renderManifests(docs), "\n"), "\n")
	for _, c := range original.Cases {
		for _, f := range c.Verdict.Findings {
			s.want(lines, c.Object.Position(f.Path).Line, f.Outcome)
		}
	}
	return s.proven(strings.Join(lines, "\n") + "\n")
}

// want puts the comment that expects a finding at the end of its line.
func (s *searcher) want(lines []string, at int, outcome verdict.Outcome) {
	word := "want"
	if outcome == verdict.Unknown {
		word = "unknown"
	}
	line := &lines[min(max(at, 1), len(lines))-1]
	if strings.Contains(*line, " # "+word) {
		*line += fmt.Sprintf(" %q", s.in.Control.Name)
	} else {
		*line += fmt.Sprintf(" # %s %q", word, s.in.Control.Name)
	}
}

// proven returns a case, and as a fixture, if it holds for the control and not
// for the mutant.
func (s *searcher) proven(text string) (string, *controltest.Fixture) {
	f, err := controltest.Read("case", []byte(text))
	if err != nil {
		return "", nil
	}
	original, _, err := s.judge.run(f, s.in.Control)
	if err != nil || len(original.Errors) > 0 || s.judge.survives(s.mutant, f, original) {
		return "", nil
	}
	return text, f
}
