// SPDX-License-Identifier: Apache-2.0

// Package translate writes policies of one language in another, and proves what
// it wrote: the original and the translation judge the same objects, and where
// they differ, the smallest object on which they do is shown.
//
// What cannot be said in the other language is refused, rule by rule, with the
// reason and the place. Nothing is guessed.
package translate

import (
	"strconv"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Target is the language that policies are translated to.
type Target string

// The targets.
const (
	VAP     Target = "vap"     // ValidatingAdmissionPolicy and its bindings
	Control Target = "control" // a Control of Sconce
	Kyverno Target = "kyverno" // a ValidatingPolicy of policies.kyverno.io
)

// Targets are all targets.
func Targets() []Target { return []Target{VAP, Control, Kyverno} }

// Mark is the annotation of a translation that names what it was made of.
const Mark = "sconce.dev/translated-from"

// Options adjust a translation and its proof.
type Options struct {
	// To is the language to translate to.
	To Target
	// Objects are the user's: the proof runs on all of them.
	Objects []*object.Object
	// Tests are the resources of tests that stand beside the policies.
	Tests []*object.Object
	// Count is on how many objects the proof runs; objects are generated until
	// there are so many. Seed is where their generation starts.
	Count int
	Seed  uint64
	// Timeout bounds the proof of one rule; half a minute where it is zero.
	Timeout time.Duration
}

// Rule is what became of one rule of a policy.
type Rule struct {
	// Policy is the document, Name the rule in it; empty where the document is
	// one rule.
	Policy   object.Ref
	Name     string
	Position object.Position
	// Documents are the translation; none where it was refused.
	Documents []Document
	// Refused says why there is no translation.
	Refused []Refusal
	// Notes say what is the same on every object and yet not the same in a
	// cluster.
	Notes []string
	// Evidence is what the proof found; nil where the rule was refused.
	Evidence *Evidence
}

// Document is one object of a translation, as maps and lists.
type Document = map[string]any

// Refusal is why a rule, or a part of it, cannot be translated.
type Refusal struct {
	Reason   string
	Position object.Position
}

// Evidence is what original and translation said of the same objects.
type Evidence struct {
	// Own, Tests and Generated are the objects on which both said the same.
	Own, Tests, Generated int
	// Denied are those among them on which both failed, About those that the
	// rule is about at all.
	Denied, About int
	// Undecided are objects on which the original itself cannot be evaluated;
	// they prove nothing, and are in none of the other numbers.
	Undecided int
	// Difference is the smallest object found on which they differ; nil where
	// none was.
	Difference *Difference
}

// Equal returns the number of objects on which both said the same.
func (e *Evidence) Equal() int { return e.Own + e.Tests + e.Generated }

// Difference is a request on which original and translation differ.
type Difference struct {
	Request     *policy.Request
	Original    Said
	Translation Said
}

// Said is what a policy says of a request.
type Said struct {
	// Outcome is pass, fail, unknown, or "not about it".
	Outcome string
	Message string
}

// Proven says whether the rule was translated and no difference was found.
func (r *Rule) Proven() bool {
	return len(r.Refused) == 0 && r.Evidence != nil && r.Evidence.Difference == nil
}

// untested says that no object was found that the rule is about.
func (r *Rule) untested() bool { return r.Proven() && r.Evidence.About == 0 }

// Result is what became of documents.
type Result struct {
	Rules []*Rule
	// Problems are documents that are no valid policies.
	Problems []policy.Problem
}

// Answer is what became of a rule, in a word.
type Answer string

// The answers.
const (
	Equal    Answer = "equal"
	Untested Answer = "untested" // no difference, and no object that the rule is about
	Differs  Answer = "differs"
	Refused  Answer = "refused"
)

// Answer returns what became of the rule.
func (r *Rule) Answer() Answer {
	switch {
	case len(r.Refused) > 0:
		return Refused
	case r.untested():
		return Untested
	case r.Proven():
		return Equal
	}
	return Differs
}

// String says on what the proof rests: equal on 1,204 objects (37 of yours, 12
// test resources, 1,155 generated).
func (e *Evidence) String() string {
	if e.Difference != nil {
		return "differs after " + count(e.Equal(), "object") + " on which both say the same"
	}
	out := "equal on " + count(e.Equal(), "object") + " (" + grouped(e.Own) + " of yours, " + count(e.Tests, "test resource") + ", " +
		grouped(e.Generated) + " generated), " + grouped(e.Denied) + " of them denied"
	if e.Undecided > 0 {
		out += "; the original cannot judge " + grouped(e.Undecided) + " others"
	}
	return out
}

// Weak says why the proof says little; it is empty where it does not.
func (e *Evidence) Weak() string {
	switch {
	case e.Equal() == 0:
		return "no object was found that the rule can be asked about: give some with -f"
	case e.About == 0:
		return "no object was found that the rule is about: give some with -f"
	case e.Denied == 0:
		return "no object was found that the rule denies: give one with -f"
	case e.Denied == e.Equal():
		return "no object was found that the rule admits: give one with -f"
	}
	return ""
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(n) + " " + noun + "s"
}

// grouped writes a number with commas.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
