// SPDX-License-Identifier: Apache-2.0

// Package fix makes the edits of a finding in the text that a person wrote:
// minimal patches of YAML and JSON source that leave every other byte alone
// (comments, quoting, order, indentation, line breaks, a missing last newline).
//
// It is not a YAML printer: no library round-trips text, so a patch is a few
// byte ranges, found through the place of the parsed values. It does not decide
// what is right: edits come from controls. And it never guesses: the new text
// is parsed again and must hold exactly the old tree with the edits made in it
// (ApplyTree); what cannot be done so is Refused, with the reason in words.
package fix

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Patch is a text with edits made.
type Patch struct {
	// Bytes are the whole new text.
	Bytes []byte
	// Changes are what was replaced, in the order of the text, none touching
	// another. There are none where the text said already what was wanted.
	Changes []Change
}

// Change replaces a range of the old text's bytes.
type Change struct {
	// Start and End are offsets into the old Text.Bytes; they are the same
	// for an insertion.
	Start, End int
	New        []byte
}

// Refused says why an edit is not made mechanically, in words for the person
// who now makes it by hand.
type Refused struct{ Reason string }

// Error returns the reason.
func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error {
	return &Refused{fmt.Sprintf(format, args...)}
}

const bom = "\xef\xbb\xbf"

// Apply makes the edits of one finding in a document's text and returns the new
// bytes and the ranges that it replaced. All edits are made or none.
//
// Paths count from the document's root (an object inside a List has items[i]
// before its own) and are those of the tree before any edit: removing two items
// by index needs no care for the order. The error is always a *Refused.
func Apply(text object.Text, edits []verdict.Edit) (patch *Patch, err error) {
	defer func() {
		if r := recover(); r != nil {
			// A layout that was not foreseen must not end the program.
			patch, err = nil, refuse("the text is laid out in a way that was not foreseen (%v): edit it by hand", r)
		}
	}()
	src := bytes.TrimPrefix(text.Bytes, []byte(bom))
	mark := len(text.Bytes) - len(src)
	f, err := detect(src)
	if err != nil {
		return nil, err
	}
	todo, err := resolve(f.tree, edits)
	if err != nil {
		return nil, err
	}
	tree, buf, suspect := f.tree, newBuffer(src), ""
	for i := range todo {
		next, err := todo[i].apply(tree, todo[i+1:])
		if err != nil {
			return nil, err
		}
		if todo[i].done {
			continue
		}
		doc, err := f.layout(buf.bytes())
		if err != nil && suspect != "" {
			return nil, &Refused{suspect}
		}
		if err != nil {
			return nil, err
		}
		p := &planner{doc: doc, tree: tree}
		changes, err := p.plan(&todo[i])
		if err != nil {
			return nil, err
		}
		if suspect == "" {
			suspect = p.suspect
		}
		buf.splice(changes)
		tree = next
	}
	if err := f.verify(buf.bytes(), tree, suspect); err != nil {
		return nil, err
	}
	return buf.patch(text.Bytes[:mark]), nil
}

// format is how a text is read: as JSON or as YAML.
type format struct {
	json bool
	tree *object.Node
}

// detect parses the text as what it is.
func detect(src []byte) (*format, error) {
	if object.IsJSON(src) {
		docs, err := object.ParseJSON(src)
		if err == nil && len(docs) == 1 {
			return &format{json: true, tree: docs[0]}, nil
		}
		if err == nil {
			return nil, refuse("the text holds %d JSON documents, not one", len(docs))
		}
	}
	tree, err := object.ParseYAML(object.Text{Bytes: src, Line: 1})
	switch {
	case err != nil && bytes.Contains(src, []byte("{{")):
		return nil, refuse("the text is a template ({{ ... }}), not YAML: edit it by hand")
	case err != nil:
		return nil, refuse("the text cannot be read: %v", err)
	case tree == nil:
		return nil, refuse("the document is empty")
	}
	return &format{tree: tree}, nil
}

// parse reads a new text in the same format.
func (f *format) parse(src []byte) (*object.Node, error) {
	if !f.json {
		return object.ParseYAML(object.Text{Bytes: src, Line: 1})
	}
	docs, err := object.ParseJSON(src)
	if err == nil && len(docs) != 1 {
		err = errors.New("not one document")
	}
	if err != nil {
		return nil, err
	}
	return docs[0], nil
}

// verify holds the new text against the tree that it must have.
func (f *format) verify(src []byte, want *object.Node, suspect string) error {
	got, err := f.parse(src)
	switch {
	case err == nil && got.Equal(want):
		return nil
	case suspect != "":
		return &Refused{suspect}
	case err != nil:
		return refuse("the layout around the value is unusual, and the edited text would not parse (%v): edit it by hand", err)
	}
	return refuse("the layout around the value is unusual, and the edit would change more than this value: edit it by hand")
}

// shared is the reason why what an anchor names is left alone.
func shared(anchor string, places []string) string {
	where := "other places share"
	places = unique(places)
	switch len(places) {
	case 0:
	case 1:
		where = places[0] + " shares"
	case 2:
		where = places[0] + " and " + places[1] + " share"
	default:
		where = strings.Join(places[:2], ", ") + " and others share"
	}
	return fmt.Sprintf("%s this value through the anchor &%s: edit it by hand", where, anchor)
}

// unique returns the places in their order, each once.
func unique(places []string) []string {
	var out []string
	for _, p := range places {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
