// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"maps"
	"regexp"

	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Judge says what is found in an object.
type Judge func(*object.Object) []verdict.Finding

// Prove makes the fixes of an object's findings on copies of its text, and
// judges what comes of them: a fix is Proven when its finding is gone and
// nothing new has come. It fills in Fix.Proven, Fix.Diff and Fix.Refused.
func Prove(o *object.Object, findings []verdict.Finding, judge Judge) {
	p := prover{judge: judge}
	before := identities(findings)
	mask := secret.MaskOf(o)
	for i := range findings {
		f := &findings[i]
		if f.Fix == nil {
			continue
		}
		if why := Unpatchable(o); why != "" {
			f.Fix.Refused = why
			continue
		}
		text, err := p.clear(o, f, before)
		if err != nil {
			f.Fix.Refused = err.Error()
			continue
		}
		f.Fix.Proven = true
		f.Fix.Diff = Lines(o.Text().Bytes, text.Bytes)
		for i, line := range f.Fix.Diff {
			f.Fix.Diff[i] = verdict.Redact(mask.Hide(line))
		}
	}
}

// Rendered says why the source of a rendered object is not edited.
const Rendered = "the object is rendered: make the edit in the file that is named"

// Unpatchable says why an object's source cannot be edited at all, or "".
func Unpatchable(o *object.Object) string {
	switch {
	case o.Origin.Renderer != "":
		return Rendered
	case len(o.Origin.Text) == 0:
		return "there is no text to edit"
	}
	return ""
}

// prover makes fixes and judges what comes of them.
type prover struct {
	judge Judge
}

// maxFollowers is how many findings a fix may bring whose own fixes are then
// made with it.
const maxFollowers = 4

// clear returns the object's document with a finding cleared and nothing new
// come. What was found before is given by identities.
func (p *prover) clear(o *object.Object, f *verdict.Finding, before map[string]int) (object.Text, error) {
	text := o.Text()
	_, err := p.clearBy(o, f, before, func(o *object.Object, edits []verdict.Edit) (*object.Object, error) {
		patch, err := Apply(text, Rooted(o, edits))
		if err != nil {
			return nil, err
		}
		text.Bytes = patch.Bytes
		if o = Reread(o, text); o == nil {
			return nil, refuse("the object is gone once the edit is made")
		}
		return o, nil
	})
	return text, err
}

// Clear returns the object with a finding of it cleared and nothing new come: what
// Prove does to a text, done to the object alone, which may have no text. The
// error is always a *Refused.
func Clear(o *object.Object, f *verdict.Finding, findings []verdict.Finding, judge Judge) (*object.Object, error) {
	if f.Fix == nil || len(f.Fix.Edits) == 0 {
		return nil, refuse("no edit is known that clears the finding")
	}
	p := prover{judge: judge}
	return p.clearBy(o, f, identities(findings), func(o *object.Object, edits []verdict.Edit) (*object.Object, error) {
		root, err := ApplyTree(o.Root, edits)
		if err != nil {
			return nil, err
		}
		return o.WithRoot(root), nil
	})
}

// clearBy makes the edits of a finding and judges what comes of them. Where they
// bring something new (taking away the only field of a security context leaves
// none), the fix of that is made with it.
func (p *prover) clearBy(o *object.Object, f *verdict.Finding, before map[string]int, edit func(*object.Object, []verdict.Edit) (*object.Object, error)) (*object.Object, error) {
	allowed := maps.Clone(before)
	allowed[identity(f)]--
	for next := f; ; {
		var err error
		if o, err = edit(o, next.Fix.Edits); err != nil {
			return nil, err
		}
		fresh := beyond(p.judge(o), allowed)
		switch {
		case fresh == nil:
			return o, nil
		case identity(fresh) == identity(f):
			return nil, refuse("the edit does not clear the finding")
		case fresh.Fix == nil || len(fresh.Fix.Edits) == 0 || allowed[identity(fresh)] < -maxFollowers:
			return nil, refuse("the edit brings another finding: %s: %s", fresh.Control, fresh.Message)
		}
		allowed[identity(fresh)]-- // its fix is made once, not again and again
		next = fresh
	}
}

// beyond returns a finding that is not among those that are allowed.
func beyond(findings []verdict.Finding, allowed map[string]int) *verdict.Finding {
	seen := map[string]int{}
	for i := range findings {
		id := identity(&findings[i])
		if seen[id]++; seen[id] > max(0, allowed[id]) {
			return &findings[i]
		}
	}
	return nil
}

// Rooted returns edits with paths from the root of the object's document, which
// for an item of a List is not the object's own.
func Rooted(o *object.Object, edits []verdict.Edit) []verdict.Edit {
	if len(o.Within) == 0 {
		return edits
	}
	out := make([]verdict.Edit, len(edits))
	for i, e := range edits {
		e.Steps = o.Within.Append(e.Steps...)
		out[i] = e
	}
	return out
}

// Reread returns the object as it stands in an edited text of its document, or
// nil if it is not there any more.
func Reread(o *object.Object, text object.Text) *object.Object {
	root, err := parse(text)
	if err != nil || root == nil {
		return nil
	}
	objects, err := object.FromNode(root, &object.Origin{Source: o.Origin.Source, Text: text.Bytes, FirstLine: text.Line})
	if err != nil {
		return nil
	}
	for _, other := range objects {
		if other.Within.String() == o.Within.String() {
			return other
		}
	}
	return nil
}

func parse(text object.Text) (*object.Node, error) {
	if object.IsJSON(text.Bytes) {
		roots, err := object.ParseJSON(text.Bytes)
		switch {
		case err == nil && len(roots) == 1:
			return roots[0], nil
		case err == nil:
			return nil, refuse("%d JSON documents in one file: only one is edited", len(roots))
		}
	}
	return object.ParseYAML(text)
}

// identities counts findings by what stays the same when items before theirs
// are taken out of a list.
func identities(findings []verdict.Finding) map[string]int {
	out := map[string]int{}
	for i := range findings {
		out[identity(&findings[i])]++
	}
	return out
}

var number = regexp.MustCompile(`\[[0-9]+\]`)

func identity(f *verdict.Finding) string {
	return f.Control + " " + string(f.Outcome) + " " + number.ReplaceAllString(f.Path, "[]")
}
