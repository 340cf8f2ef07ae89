// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/policy/kyverno/jmes"
)

// scope is what the expressions of a rule see: the request, images, elements, and
// the variables of the rule, which are looked up when an expression first names
// them. It belongs to one evaluation.
type scope struct {
	e    *evaluation
	rule *Rule
	// id tells the scope from those inside it.
	id int
	// root is what expressions see. It is shared until it is written to.
	root  map[string]any
	owned bool
	lazy  func() map[string]any // the root, until it is first asked for
	// entries are those that can be named here, those of outer scopes first.
	entries []*entry
	// visible is how many of the entries can be named: an entry sees those before
	// it.
	visible int
	// reads is what the last expression about the object named: see evidence.
	reads *[]string
	// element is what patterns are matched with in a foreach; nil outside.
	element    map[string]any
	hasElement bool
	// at is where the element is, if that is known.
	at []string
}

// entry is an entry of a context that may have been looked up.
type entry struct {
	*ContextEntry
	home   *scope
	loaded bool // at home
}

// scope begins one for a rule.
func (e *evaluation) scope(r *Rule) *scope {
	e.scopes++
	return &scope{e: e, rule: r, id: e.scopes, lazy: e.subject.base}
}

// inner begins a scope inside another, for an element.
func (s *scope) inner() *scope {
	s.sees()
	out := *s
	s.e.scopes++
	out.id, out.owned = s.e.scopes, false
	return &out
}

// own makes the root one that may be written to.
func (s *scope) own() map[string]any {
	if !s.owned {
		s.root, s.owned = maps.Clone(s.sees()), true
	}
	return s.root
}

// sees is what expressions see.
func (s *scope) sees() map[string]any {
	if s.root == nil && s.lazy != nil {
		s.root = s.lazy()
	}
	return s.root
}

// add makes entries of a context known, to be looked up when they are named.
func (s *scope) add(entries []ContextEntry) {
	s.e.addRuleVariables(s)
	if len(entries) == 0 {
		return
	}
	// Inner scopes share what was there before.
	s.entries = append([]*entry(nil), s.entries...)
	for i := range entries {
		s.entries = append(s.entries, &entry{ContextEntry: &entries[i], home: s})
	}
	s.visible = len(s.entries)
}

// addElement puts an element of a foreach into a scope.
func (s *scope) addElement(value any, index, nesting int) {
	level, root := strconv.Itoa(nesting), s.own()
	root["element"], root["element"+level] = value, value
	root["elementIndex"], root["elementIndex"+level] = int64(index), int64(index)
}

// Query implements jmes.Lookup.
func (s *scope) Query(expr string) (any, error) {
	expr = strings.TrimSpace(expr)
	if expr == "" {
		return nil, errors.New("an expression is empty")
	}
	if err := s.load(expr); err != nil {
		return nil, err
	}
	q, err := jmes.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", expr, err)
	}
	if s.reads != nil {
		*s.reads = append(*s.reads, expr)
	}
	return q.SearchIn(s.e.env, s.sees())
}

// load looks up what an expression names.
func (s *scope) load(expr string) error {
	if names(expr, "images") {
		if _, ok := s.sees()["images"]; !ok {
			images, err := s.e.subject.images()
			if err != nil {
				return err
			}
			if len(images) > 0 {
				s.own()["images"] = images
			}
		}
	}
	for i := 0; i < s.visible; i++ {
		if names(expr, s.entries[i].Name) {
			if err := s.lookUp(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUp looks one entry up. One that does not depend on an element is the same in
// all inner scopes.
func (s *scope) lookUp(i int) error {
	e, atHome := s.entries[i], s.entries[i].home.id == s.id
	if !e.perElement() {
		if e.loaded {
			return s.from(e)
		}
		if !atHome {
			if err := e.home.lookUp(i); err != nil {
				return err
			}
			return s.from(e)
		}
	}
	if s.e.depth++; s.e.depth > 64 {
		return fmt.Errorf("context %s: the entries of the context name each other", e.Name)
	}
	defer func() { s.e.depth-- }()
	s.own()
	before := *s
	before.visible = i
	if err := before.resolve(e); err != nil {
		return err
	}
	e.loaded = atHome
	return nil
}

// from takes the value of an entry from its home.
func (s *scope) from(e *entry) error {
	if v, ok := e.home.sees()[e.Name]; ok && e.home.id != s.id {
		s.own()[e.Name] = v
	}
	return nil
}

// perElement says whether the value of an entry depends on the element of a
// foreach.
func (e *entry) perElement() bool {
	has := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, "element") })
	}
	switch {
	case e.Variable != nil:
		return has(e.Variable.JMESPath) || mentions(e.Variable.Value, "element") || mentions(e.Variable.Default, "element")
	case e.ConfigMap != nil:
		return has(e.ConfigMap.Name, e.ConfigMap.Namespace)
	case e.APICall != nil:
		return has(e.APICall.URLPath, e.APICall.JMESPath) || mentions(e.APICall.Service, "element")
	case e.GlobalReference != nil:
		return has(e.GlobalReference.Name, e.GlobalReference.JMESPath)
	}
	return has(e.ImageRegistry.Reference)
}

// mentions says whether a text stands somewhere in a tree.
func mentions(tree any, text string) bool {
	switch tree := tree.(type) {
	case string:
		return strings.Contains(tree, text)
	case []any:
		for _, item := range tree {
			if mentions(item, text) {
				return true
			}
		}
	case map[string]any:
		for k, v := range tree {
			if strings.Contains(k, text) || mentions(v, text) {
				return true
			}
		}
	}
	return false
}

// names says whether an expression names a variable: not as the field of something
// else.
func names(expr, name string) bool {
	for from := 0; from+len(name) <= len(expr); {
		i := strings.Index(expr[from:], name)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(name)
		if (i == 0 || !isNameByte(expr[i-1]) && expr[i-1] != '.') && (end == len(expr) || !isWord(expr[end]) || !isWord(expr[end-1])) {
			return true
		}
		from = i + 1
	}
	return false
}

func isNameByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func isWord(c byte) bool { return isNameByte(c) || c == '_' }

// set puts a value at a dotted name, merged with what is there.
func (s *scope) set(name string, value any) error {
	r := csv.NewReader(strings.NewReader(name))
	r.Comma = '.'
	steps, err := r.Read()
	if err != nil {
		return fmt.Errorf("variable %q: %w", name, err)
	}
	for i := len(steps) - 1; i > 0; i-- {
		value = map[string]any{steps[i]: value}
	}
	s.own()[steps[0]] = merged(s.sees()[steps[0]], value)
	return nil
}

// merged returns one tree with the entries of another put over it. Neither is
// changed.
func merged(base, over any) any {
	o, ok := over.(map[string]any)
	b, isMap := base.(map[string]any)
	if !ok || !isMap {
		return over
	}
	out := maps.Clone(b)
	for k, v := range o {
		out[k] = merged(out[k], v)
	}
	return out
}
