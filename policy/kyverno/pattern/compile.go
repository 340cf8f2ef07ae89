// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"maps"
	"slices"
	"strings"
)

// node is a compiled part of a pattern: exactly one of its fields is set.
type node struct {
	scalar *scalar
	fields *fields
	list   *list
}

// list is a pattern of a list. Items are nil if every item must match each.
type list struct {
	items []*node
	// kind says what the first item is, which decides how the list is matched.
	kind listKind
}

type listKind uint8

const (
	emptyList   listKind = iota
	eachMap              // every item must match the first pattern, a map
	eachScalar           // every item must match the first pattern, a scalar
	itemsInTurn          // the first pattern is a list: items match patterns in turn
)

// fields is a pattern of a map: what is asked first, in its order, and what is asked
// then.
type fields struct {
	anchors, rest []field
	// variants are the pattern as it is where the object has labels (bit 0),
	// annotations (bit 1) or both; nil where the pattern has no metadata.
	variants *[4]*fields
	// wild says that keys have wildcards, which stand for those of the map.
	wild bool
	// nested says that there are anchors in it.
	nested bool
}

// field is one key of a map and the pattern of its value.
type field struct {
	raw    string // the key as it is written
	key    string // the key without its anchor
	anchor Anchor
	// set says that the pattern is "*": the field must be there, and not be null.
	set     bool
	pattern *node
}

func compileMap(pattern map[string]any, depth int) (*node, error) {
	all := make([]field, 0, len(pattern))
	for _, raw := range slices.Sorted(maps.Keys(pattern)) {
		value, err := compile(pattern[raw], depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, newField(raw, value, pattern[raw]))
	}
	f := arrange(all)
	if err := f.compileMetadata(pattern, depth); err != nil {
		return nil, err
	}
	return &node{fields: f}, nil
}

func newField(raw string, value *node, pattern any) field {
	f := field{raw: raw, key: raw, pattern: value, set: pattern == any("*")}
	f.anchor, f.key = ParseAnchor(raw)
	if f.anchor == AddIfNotPresent {
		f.anchor, f.key = None, raw
	}
	return f
}

// arrange puts fields, sorted by their keys as written, into the order in which they
// are asked: those with anchors, then global anchors and what holds anchors in the
// reverse order, then the others.
func arrange(sorted []field) *fields {
	f := &fields{}
	var first, last []field
	for _, e := range sorted {
		nested := e.pattern.nested()
		f.nested = f.nested || nested || e.anchor != None
		switch {
		case e.anchor != None && e.anchor != Global:
			f.anchors = append(f.anchors, e)
		case e.anchor == Global || nested:
			first = append(first, e)
		default:
			last = append(last, e)
		}
	}
	slices.Reverse(first)
	f.rest = slices.Concat(first, last)
	return f
}

func (n *node) nested() bool {
	switch {
	case n.fields != nil:
		return n.fields.nested
	case n.list != nil:
		return slices.ContainsFunc(n.list.items, (*node).nested)
	}
	return false
}

func compileList(pattern []any, depth int) (*node, error) {
	l := &list{items: make([]*node, 0, len(pattern))}
	for _, item := range pattern {
		n, err := compile(item, depth+1)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, n)
	}
	if len(l.items) > 0 {
		switch first := l.items[0]; {
		case first.fields != nil:
			l.kind = eachMap
		case first.scalar != nil:
			l.kind = eachScalar
		default:
			l.kind = itemsInTurn
		}
	}
	return &node{list: l}, nil
}

var tags = [...]string{"labels", "annotations"}

// compileMetadata compiles the pattern of the metadata in a map as it is where the
// object has labels, annotations or both. Of those patterns only texts count, and
// their keys may have wildcards.
func (f *fields) compileMetadata(pattern map[string]any, depth int) error {
	key, value := findKey(pattern, "metadata")
	of, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	var texts [len(tags)]*field
	for i, tag := range tags {
		t, err := compileTexts(of, tag, depth+1)
		if err != nil {
			return err
		}
		texts[i] = t
	}
	plain := *f.field(key)
	var variants [4]*fields
	for i := range variants {
		changed := plain
		for bit, t := range texts {
			if t != nil && i&(1<<bit) != 0 {
				changed.pattern = &node{fields: changed.pattern.fields.replace(*t)}
			}
		}
		variants[i] = f.replace(changed)
	}
	f.variants = &variants
	return nil
}

// compileTexts compiles those entries of the labels or annotations in metadata that
// are texts; nil if it has none of the two.
func compileTexts(metadata map[string]any, tag string, depth int) (*field, error) {
	key, texts, ok := textsOf(metadata, tag)
	if !ok {
		return nil, nil
	}
	n, err := compileMap(texts, depth)
	if err != nil {
		return nil, err
	}
	n.fields.wild = hasWildKey(texts)
	f := newField(key, n, nil)
	return &f, nil
}

// sorted returns all fields, sorted by their keys as written.
func (f *fields) sorted() []field {
	all := slices.Concat(f.anchors, f.rest)
	slices.SortFunc(all, func(a, b field) int { return strings.Compare(a.raw, b.raw) })
	return all
}

func (f *fields) field(raw string) *field {
	for _, of := range [...][]field{f.anchors, f.rest} {
		for i := range of {
			if of[i].raw == raw {
				return &of[i]
			}
		}
	}
	return nil
}

// replace returns the pattern of a map with another pattern of a field.
func (f *fields) replace(by field) *fields {
	all := f.sorted()
	for i := range all {
		if all[i].raw == by.raw {
			all[i] = by
		}
	}
	replaced := arrange(all)
	if f.variants != nil {
		replaced.variants = &[4]*fields{}
		for i, v := range f.variants {
			replaced.variants[i] = v.replace(by)
		}
	}
	return replaced
}

// findKey returns the field of a map that is a key, with or without an anchor.
func findKey(of map[string]any, key string) (raw string, value any) {
	if value, ok := of[key]; ok {
		return key, value
	}
	for _, raw := range slices.Sorted(maps.Keys(of)) {
		if a, inner := ParseAnchor(raw); a != None && inner == key {
			return raw, of[raw]
		}
	}
	return "", nil
}

// textsOf returns the entries of a map in a field of metadata that are texts.
func textsOf(metadata map[string]any, key string) (raw string, texts map[string]any, ok bool) {
	raw, value := findKey(metadata, key)
	of, ok := value.(map[string]any)
	if !ok {
		return "", nil, false
	}
	texts = map[string]any{}
	for k, v := range of {
		if text, ok := v.(string); ok {
			texts[k] = text
		}
	}
	return raw, texts, true
}

func hasWildKey(of map[string]any) bool {
	for key := range of {
		if HasWildcard(key) {
			return true
		}
	}
	return false
}

// expand returns the fields with the first key by name of a map for each key with a
// wildcard. A key that stands for none stays as it is.
func (f *fields) expand(resource map[string]any) *fields {
	names := slices.Sorted(maps.Keys(resource))
	byKey := map[string]field{}
	for _, e := range f.sorted() {
		e = e.expand(resource, names)
		byKey[e.raw] = e
	}
	expanded := &fields{anchors: make([]field, 0, len(byKey))}
	for _, e := range byKey {
		expanded.anchors = append(expanded.anchors, e)
	}
	return arrange(expanded.sorted())
}

func (e field) expand(resource map[string]any, names []string) field {
	if !HasWildcard(e.raw) {
		return e
	}
	a, key := ParseAnchor(e.raw)
	for _, name := range names {
		if _, ok := resource[name].(string); ok && Wildcard(key, name) {
			key = name
			break
		}
	}
	expanded := newField(a.with(key), e.pattern, nil)
	expanded.set = e.set
	return expanded
}
