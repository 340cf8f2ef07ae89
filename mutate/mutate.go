// SPDX-License-Identifier: Apache-2.0

// Package mutate tests the tests of controls: it changes a control in one small
// way after the other and asks whether its fixture notices. A change that no
// case of the fixture tells from the control survives: either the fixture lacks
// a case, or the control says more than it needs. For a survivor it looks for
// the case that would tell.
//
// Policies of other languages are tested in the same way, with the tests that
// people have written for them: see Policies.
//
// It changes what controls and policies say, as data and as syntax; it judges
// nothing: that is done by packages control and controltest, in the way of every
// fixture, and by those that run tests of other languages.
package mutate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/object"
)

// Input is a control with its fixture.
type Input struct {
	Control *v1alpha1.Control
	// File and Text are what the control was read from.
	File string
	Text []byte
	// Fixture and FixtureText are its fixture.
	Fixture     string
	FixtureText []byte
}

// Outcome says what became of a mutant.
type Outcome string

// The outcomes.
const (
	// Killed: a case of the fixture tells it from the control.
	Killed Outcome = "killed"
	// Survived: none does.
	Survived Outcome = "survived"
	// Equivalent: none does, and the fixture says why none can.
	Equivalent Outcome = "equivalent"
	// Invalid: it is no policy, or none of the tests can decide it; it says nothing.
	Invalid Outcome = "invalid"
)

// Mutant is a control that was changed in one place.
type Mutant struct {
	// ID names the mutant for as long as the field that was changed stays as it
	// is.
	ID       string `json:"id"`
	Operator string `json:"operator"`
	// Field is what was changed: require, variables.name, versions[1.25].
	Field    string          `json:"field"`
	Position object.Position `json:"position"`
	Before   string          `json:"before"`
	After    string          `json:"after"`
	Outcome  Outcome         `json:"outcome"`
	// Reason says why an equivalent one is.
	Reason string `json:"reason,omitempty"`
	// Case is a document for the fixture that tells a survivor from the
	// control, where one was found.
	Case string `json:"case,omitempty"`
	// CaseOf is the mutant whose case tells this one, too.
	CaseOf string `json:"caseOf,omitempty"`

	control *v1alpha1.Control
	// noticed decides for mutants of what the evaluator goes through, which no
	// other control can say.
	noticed func(*controltest.Result) bool
}

// Report is what came of one control.
type Report struct {
	Control string    `json:"control"`
	Mutants []*Mutant `json:"mutants"`
	// Searched says that cases were looked for that tell survivors.
	Searched bool `json:"-"`
	// Mistakes say what is wrong with the fixture's marks.
	Mistakes []string `json:"mistakes,omitempty"`
}

// Count returns how many mutants have an outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, m := range r.Mutants {
		if m.Outcome == o {
			n++
		}
	}
	return n
}

// Score returns how many of a hundred mutants were killed, those that are
// equivalent left out.
func Score(killed, survived int) float64 {
	if killed+survived == 0 {
		return 100
	}
	return 100 * float64(killed) / float64(killed+survived)
}

// Run changes a control in every way and holds its fixture against each. If
// asked to, it looks for the cases that are missing.
func Run(in Input, cases bool) (*Report, error) {
	fixture, err := controltest.Read(in.Fixture, in.FixtureText)
	if err != nil {
		return nil, err
	}
	j := &judge{}
	original, settings, err := j.run(fixture, in.Control)
	if err != nil {
		return nil, err
	}
	if len(original.Errors) > 0 {
		return nil, fmt.Errorf("%s does not hold, so that it cannot tell mutants: %s", in.Fixture, original.Errors[0])
	}
	marked, err := marks(in.FixtureText)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", in.Fixture, err)
	}
	all, err := mutants(in, settings)
	if err != nil {
		return nil, err
	}
	r := &Report{Control: in.Control.Name}
	for _, m := range all {
		if !j.compiles(m) {
			continue
		}
		r.Mutants = append(r.Mutants, m)
		m.Outcome = Killed
		if j.survives(m, fixture, original) {
			m.Outcome = Survived
		}
		mark := marked[m.ID]
		if mark == nil {
			continue
		}
		mark.used = true
		if m.Outcome == Killed {
			r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s:%d: %s is marked as equivalent, but the fixture tells it from the control", in.Fixture, mark.line, m.ID))
			continue
		}
		m.Outcome, m.Reason = Equivalent, mark.reason
	}
	for _, id := range sortedKeys(marked) {
		if !marked[id].used {
			r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s:%d: there is no mutant %s: what it changed was changed since", in.Fixture, marked[id].line, id))
		}
	}
	if r.Searched = cases; cases {
		search(in, j, original, settings, slices.DeleteFunc(slices.Clone(r.Mutants), func(m *Mutant) bool { return m.Outcome != Survived }))
	}
	return r, nil
}

// judge makes controls ready and runs them. What they have in common is compiled
// once.
type judge struct {
	shared control.Expressions
}

func (j *judge) ready(c *v1alpha1.Control, opts control.Options) (*control.Control, error) {
	opts.Expressions = &j.shared
	return control.New(c, opts)
}

// run holds a fixture against a control. It also says what each control was made
// ready for: one for each set of settings.
func (j *judge) run(f *controltest.Fixture, c *v1alpha1.Control) (*controltest.Result, map[*control.Control]control.Options, error) {
	ready := map[string]*control.Control{}
	settings := map[*control.Control]control.Options{}
	r, err := f.Run(c, func(c *v1alpha1.Control, opts control.Options) (*control.Control, error) {
		key := fmt.Sprint(opts)
		if out := ready[key]; out != nil {
			return out, nil
		}
		out, err := j.ready(c, opts)
		if err == nil {
			ready[key] = out
			settings[out] = opts
		}
		return out, err
	})
	return r, settings, err
}

// compiles says whether a mutant is a control at all. One that is none says
// nothing about the fixture.
func (j *judge) compiles(m *Mutant) bool {
	if m.noticed != nil {
		return true
	}
	c, err := j.ready(m.control, control.Options{})
	return err == nil && c.Compile() == nil
}

// survives says whether a fixture, which the control passes with this result,
// takes the mutant for the control.
func (j *judge) survives(m *Mutant, f *controltest.Fixture, original *controltest.Result) bool {
	if m.noticed != nil {
		return !m.noticed(original)
	}
	r, _, err := j.run(f, m.control)
	return err == nil && len(r.Errors) == 0
}

// mark says that a mutant is equivalent.
type mark struct {
	line   int
	reason string
	used   bool
}

var markComment = regexp.MustCompile(`^\s*# equivalent: ([^:\s]*)(?:: (.*))?$`)

// marks reads the comments of a fixture that say which mutants are equivalent.
func marks(fixture []byte) (map[string]*mark, error) {
	out := map[string]*mark{}
	for i, line := range strings.Split(string(fixture), "\n") {
		m := markComment.FindStringSubmatch(strings.TrimRight(line, "\r"))
		if m == nil {
			continue
		}
		if strings.TrimSpace(m[2]) == "" {
			return nil, fmt.Errorf("%d: the comment wants a mutant and a reason, as in # equivalent: bound-1f2e3d: no port is negative", i+1)
		}
		out[m[1]] = &mark{line: i + 1, reason: strings.TrimSpace(m[2])}
	}
	return out, nil
}

// id names a mutant by what was changed and to what.
func id(op, field, to string) string {
	sum := sha256.Sum256([]byte(field + "\x00" + to))
	return op + "-" + hex.EncodeToString(sum[:3])
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
