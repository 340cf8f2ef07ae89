// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// planner turns one edit into changes of a text.
type planner struct {
	doc *layout
	// tree is what the text says before the edit.
	tree    *object.Node
	changes []Change
	// suspect is the likely reason if the new text turns out wrong: the edit
	// lies inside something that other places share.
	suspect string
}

// spot is the end of a walk along a path: the entry i of the collection in, or
// the collection where the path ends early.
type spot struct {
	in   *node
	i    int // -1 for a field that is not written here
	path object.Path
	left object.Path // steps below the entry, or from the missing field on
}

func (s *spot) entry() *entry { return &s.in.entries[s.i] }

// plan returns the changes that make the edit.
func (p *planner) plan(e *edit) ([]Change, error) {
	path := e.path
	if e.op == verdict.Remove {
		path = e.target
	}
	if len(path) == 0 && e.op != verdict.Add {
		return nil, refuse("the whole document would be replaced")
	}
	if err := p.edit(e, path); err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.changes, func(a, b Change) int { return cmp.Compare(a.Start, b.Start) })
	for i, c := range p.changes {
		if c.End < c.Start || i > 0 && p.changes[i-1].End > c.Start {
			return nil, refuse("the layout around %s is unusual: edit it by hand", shown(path))
		}
	}
	return p.changes, nil
}

func (p *planner) edit(e *edit, path object.Path) error {
	if e.op == verdict.Add {
		if list := at(p.tree, path); list != nil && len(list.Items) > 0 {
			return p.add(path, e.value)
		}
		return p.set(path, &object.Node{Kind: object.List, Items: []*object.Node{e.value}})
	}
	s, err := p.walk(path)
	if err != nil {
		return err
	}
	switch {
	case e.op == verdict.Set:
		return p.setAt(s, e.value)
	case s.i < 0:
		return refuse("%s comes through a merge key (<<): edit it where it is anchored", shown(path))
	}
	p.suspectWithin(s.entry().value)
	still := fmt.Sprintf("%s would still come through the merge key (<<) beside it: edit it by hand", shown(e.path))
	if p.suspect == "" && s.in.merges() {
		p.suspect = still
	}
	if !s.entry().value.onlyHolds(e.path[len(path):]) {
		return &Refused{still}
	}
	if s.in.flow {
		return p.cutFlow(s.in, s.i)
	}
	return p.cutBlock(s.in, s.i)
}

func (p *planner) set(path object.Path, v *object.Node) error {
	if len(path) == 0 {
		return refuse("the whole document would be replaced")
	}
	s, err := p.walk(path)
	if err != nil {
		return err
	}
	return p.setAt(s, v)
}

// walk follows a path as far as the text has it.
func (p *planner) walk(path object.Path) (*spot, error) {
	n := p.doc.root
	for depth, step := range path {
		if err := p.enter(n, path[:depth]); err != nil {
			return nil, err
		}
		s := &spot{in: n, i: find(n, step), path: path[:depth+1], left: path[depth+1:]}
		if s.i < 0 {
			s.left = path[depth:]
			return s, p.merged(s)
		}
		e := s.entry()
		if e.explicit {
			return nil, refuse("%s is a key written with ?: edit it by hand", s.path)
		}
		n = e.value
		if len(s.left) == 0 || n.null() {
			return s, nil
		}
	}
	return nil, refuse("the whole document would be replaced")
}

// enter says why an edit cannot be made inside a node.
func (p *planner) enter(n *node, path object.Path) error {
	switch {
	case n.shape == alias:
		return refuse("%s is an alias of &%s, which other places may share: edit it by hand", shown(path), n.text)
	case n.tagged:
		return refuse("%s has a tag: edit it by hand", shown(path))
	case n.bare:
		return refuse("%s is a pair without braces in a flow list: edit it by hand", shown(path))
	case n.shape == scalar:
		return refuse("%s is laid out in a way that cannot be edited safely: edit it by hand", shown(path))
	}
	p.suspectShared(n)
	return nil
}

// suspectShared remembers that the node is used in other places.
func (p *planner) suspectShared(n *node) {
	if p.suspect == "" && len(n.users) > 0 {
		p.suspect = shared(n.anchor, n.users)
	}
}

// suspectWithin does so for all that an edit takes away.
func (p *planner) suspectWithin(n *node) {
	p.suspectShared(n)
	for i := range n.entries {
		p.suspectWithin(n.entries[i].value)
	}
}

// merged says why a field that is not written in its mapping cannot be edited
// there: it comes through a merge key, and only part of it would be replaced.
func (p *planner) merged(s *spot) error {
	v := at(p.tree, s.path)
	if v == nil || v.Kind == object.Null || len(s.left) == 1 {
		return nil
	}
	return refuse("%s comes through a merge key (<<), and a key written here would replace all of it: edit it by hand", s.path)
}

// find returns the entry that a step leads to, or -1.
func find(n *node, step object.Step) int {
	if step.Item {
		if n.shape == sequence && step.Index < len(n.entries) {
			return step.Index
		}
		return -1
	}
	if n.shape != mapping {
		return -1
	}
	return slices.IndexFunc(n.entries, func(e entry) bool { return e.key.names(step.Field) })
}

// names says whether the node is the key of a field.
func (n *node) names(field string) bool {
	if n.shape == alias {
		return false
	}
	if n.style&written != 0 || n.tagged {
		return n.text == field
	}
	return n.text != "<<" && (n.text == field || n.text != "" && !letter(n.text[0]) || words[strings.ToLower(n.text)]) && canonical(n.text) == field
}

// merges says that a mapping has a merge key.
func (n *node) merges() bool {
	return slices.ContainsFunc(n.entries, func(e entry) bool {
		return e.key != nil && e.key.text == "<<" && e.key.style&written == 0
	})
}

// onlyHolds says that nothing but the path is written in the node: the tree
// does not tell a map that is empty without it from one that merges others.
func (n *node) onlyHolds(path object.Path) bool {
	for _, step := range path {
		if n.shape == alias {
			return true
		}
		i := find(n, step)
		if i < 0 || len(n.entries) != 1 {
			return false
		}
		n = n.entries[i].value
	}
	return true
}

// setAt gives the spot its value, missing parents around it.
func (p *planner) setAt(s *spot, v *object.Node) error {
	if s.i < 0 {
		if s.left[0].Item {
			return refuse("there is no %s", s.path)
		}
		field := &object.Node{Kind: object.Map, Fields: []object.Field{{Key: s.left[0].Field, Value: nest(s.left[1:], v)}}}
		return p.insert(s.in, field)
	}
	e := s.entry()
	if e.value.tagged {
		return refuse("%s has a tag: edit it by hand", s.path)
	}
	if strings.Contains(string(p.doc.text[e.value.start:e.value.end]), "{{") {
		return refuse("%s is a template ({{ ... }}): edit it by hand", s.path)
	}
	p.suspectWithin(e.value)
	v = nest(s.left, v)
	if s.in.flow {
		return p.setFlow(s.in, e, v)
	}
	return p.setBlock(s.in, e, v)
}

// nest returns the value inside the maps that the path goes through.
func nest(path object.Path, v *object.Node) *object.Node {
	for _, s := range slices.Backward(path) {
		v = &object.Node{Kind: object.Map, Fields: []object.Field{{Key: s.Field, Value: v}}}
	}
	return v
}

// add appends to a list that is written out and not empty.
func (p *planner) add(path object.Path, v *object.Node) error {
	n := p.doc.root
	if len(path) > 0 {
		s, err := p.walk(path)
		if err != nil {
			return err
		}
		if s.i < 0 {
			return refuse("%s comes through a merge key (<<), and a key written here would replace all of it: edit it by hand", shown(path))
		}
		n = s.entry().value
	}
	if err := p.enter(n, path); err != nil {
		return err
	}
	return p.insert(n, &object.Node{Kind: object.List, Items: []*object.Node{v}})
}

// insert appends the one entry of v to a collection.
func (p *planner) insert(n *node, v *object.Node) error {
	switch {
	case n.flow && len(n.entries) == 0:
		return p.fillFlow(n, v)
	case n.flow:
		return p.appendFlow(n, v)
	}
	return p.appendBlock(n, v)
}

// change replaces a range of the text.
func (p *planner) change(start, end int, text string) {
	p.changes = append(p.changes, Change{start, end, []byte(text)})
}

// pen returns what writes new entries of a collection: quoted as those that it
// has.
func (p *planner) pen(n *node) pen {
	out := pen{style: p.doc.style}
	if p.doc.json {
		out.quote, out.keys = '"', '"'
		return out
	}
	if len(n.entries) == 0 {
		return out
	}
	if n.shape == sequence {
		out.quote = itemQuotes(n)
	} else if out.keys = keyQuotes(n); n.flow && out.keys == '"' {
		out.quote = '"'
	}
	return out
}

// itemQuotes returns the quotes that all strings of a list have, or 0.
func itemQuotes(n *node) byte {
	quote := n.entries[0].value.quote()
	for i := range n.entries {
		if n.entries[i].value.quote() != quote {
			return 0
		}
	}
	return quote
}

// keyQuotes returns the quotes that all keys of a mapping have, or 0.
func keyQuotes(n *node) byte {
	quote := n.entries[0].key.quote()
	for i := range n.entries {
		if n.entries[i].key.quote() != quote {
			return 0
		}
	}
	return quote
}

// quote returns the quotes around a scalar, or 0.
func (n *node) quote() byte {
	switch {
	case n.style&yaml.DoubleQuotedStyle != 0:
		return '"'
	case n.style&yaml.SingleQuotedStyle != 0:
		return '\''
	}
	return 0
}
