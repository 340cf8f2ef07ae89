// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Judge says what is found in an object.
type Judge func(*object.Object) []verdict.Finding

// Prove makes the fixes of an object's findings on copies of its text, and
// judges what comes of them: a fix is Proven when its finding is gone and
// nothing new has come. It fills in Fix.Proven, Fix.Diff and Fix.Refused.
func Prove(o *object.Object, findings []verdict.Finding, judge Judge) {
	p := prover{o: o, judge: judge, before: identities(findings)}
	var fixable []*verdict.Finding
	for i := range findings {
		f := &findings[i]
		if f.Fix == nil {
			continue
		}
		if why := Unpatchable(o); why != "" {
			f.Fix.Refused = why
			continue
		}
		patch, err := Apply(o.Text(), p.edits(f))
		if err != nil {
			f.Fix.Refused = err.Error()
			continue
		}
		f.Fix.Diff = Lines(o.Text().Bytes, patch.Bytes)
		fixable = append(fixable, f)
	}
	// Judging once with all fixes made is enough where they do not hinder each
	// other, which is nearly always.
	if p.proves(fixable) {
		for _, f := range fixable {
			f.Fix.Proven = true
		}
		return
	}
	for _, f := range fixable {
		f.Fix.Proven = p.proves([]*verdict.Finding{f})
	}
}

// Unpatchable says why an object's source cannot be edited at all, or "".
func Unpatchable(o *object.Object) string {
	switch {
	case o.Origin.Renderer != "":
		return "the object is rendered by " + o.Origin.Renderer + ": make the edit in the file that is named"
	case len(o.Origin.Text) == 0:
		return "there is no text to edit"
	}
	return ""
}

// prover proves the fixes of one object.
type prover struct {
	o      *object.Object
	judge  Judge
	before map[string]bool
}

// edits returns a finding's edits with paths from the document's root.
func (p *prover) edits(f *verdict.Finding) []verdict.Edit {
	return Rooted(p.o, f.Fix.Edits)
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

// proves makes all the fixes and says whether just their findings are gone.
func (p *prover) proves(fixed []*verdict.Finding) bool {
	if len(fixed) == 0 {
		return true
	}
	text := p.o.Text()
	for _, f := range fixed {
		patch, err := Apply(text, p.edits(f))
		if err != nil {
			return false
		}
		text.Bytes = patch.Bytes
	}
	return p.provesText(text.Bytes, fixed...)
}

// provesText says whether in an edited text the findings are gone and nothing
// new has come.
func (p *prover) provesText(edited []byte, fixed ...*verdict.Finding) bool {
	text := p.o.Text()
	text.Bytes = edited
	o := Reread(p.o, text)
	if o == nil {
		return false
	}
	after := identities(p.judge(o))
	for _, f := range fixed {
		if after[f.Fingerprint] {
			return false
		}
	}
	for id := range after {
		if !p.before[id] {
			return false
		}
	}
	return true
}

// Reread returns the object as it stands in an edited text of its document, or
// nil if it is not there any more.
func Reread(o *object.Object, text object.Text) *object.Object {
	root, err := parse(text)
	if err != nil || root == nil {
		return nil
	}
	origin := *o.Origin
	origin.Text = text.Bytes
	objects, err := object.FromNode(root, &origin)
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
		if roots, err := object.ParseJSON(text.Bytes); err == nil && len(roots) == 1 {
			return roots[0], nil
		}
	}
	return object.ParseYAML(text)
}

func identities(findings []verdict.Finding) map[string]bool {
	out := map[string]bool{}
	for i := range findings {
		out[findings[i].Fingerprint] = true
	}
	return out
}
