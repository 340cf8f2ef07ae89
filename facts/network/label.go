// SPDX-License-Identifier: Apache-2.0

package network

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// truth is what is known of a statement. Where one statement of many is enough,
// the greatest of them holds; where all are needed, the least.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

// said is what a boolean field says; a field that is absent is false.
func said(n *object.Node) truth {
	switch {
	case n == nil:
		return no
	case n.Kind == object.Bool:
		return truthOf(n.Bool())
	}
	return unknown
}

// nameLabel is the label that every namespace has by itself.
const nameLabel = "kubernetes.io/metadata.name"

// labels are those of an object, sorted by key.
type labels struct {
	pairs []pair
	// unread is set where there are labels of which not even the keys are known.
	unread bool
}

type pair struct {
	key, value string
	unread     bool // the value is not known
}

func readLabels(n *object.Node) labels {
	switch {
	case n == nil:
		return labels{}
	case n.Kind != object.Map:
		return labels{unread: true}
	}
	l := labels{pairs: make([]pair, 0, len(n.Fields))}
	for _, f := range n.Fields {
		if f.Value.Kind != object.Null {
			l = l.with(pair{f.Key, f.Value.Str(), f.Value.Kind != object.String})
		}
	}
	return l
}

// find returns where a label stands, or would.
func (l labels) find(key string) (int, bool) {
	return slices.BinarySearchFunc(l.pairs, key, func(p pair, key string) int { return strings.Compare(p.key, key) })
}

// with adds a label, or gives one another value.
func (l labels) with(p pair) labels {
	i, ok := l.find(p.key)
	if ok {
		l.pairs[i] = p
	} else {
		l.pairs = slices.Insert(l.pairs, i, p)
	}
	return l
}

// id is the same for labels that no selector tells apart.
func (l labels) id() string {
	var b strings.Builder
	if l.unread {
		b.WriteByte('?')
	}
	for _, p := range l.pairs {
		b.WriteString(p.key)
		b.WriteByte(0)
		if p.unread {
			b.WriteByte(1)
		}
		b.WriteString(p.value)
		b.WriteByte(0)
	}
	return b.String()
}

// known returns the labels of which the values are known.
func (l labels) known() map[string]string {
	out := make(map[string]string, len(l.pairs))
	for _, p := range l.pairs {
		if !p.unread {
			out[p.key] = p.value
		}
	}
	return out
}

// operator is that of a requirement of a selector.
type operator uint8

const (
	in operator = iota
	notIn
	exists
	doesNotExist
)

var operators = map[string]operator{"In": in, "NotIn": notIn, "Exists": exists, "DoesNotExist": doesNotExist}

// selector chooses by labels. The zero selector chooses everything.
type selector struct {
	requirements []requirement
	// unread is set where some of it is not known, or is no selector.
	unread bool
}

type requirement struct {
	key      string
	operator operator
	values   []string
}

// readSelector reads a LabelSelector. What the API server would refuse is
// unread.
func readSelector(n *object.Node) selector {
	s := readEqual(n.Get("matchLabels"))
	if n != nil && n.Kind != object.Map {
		s.unread = true
		return s
	}
	expressions := n.Get("matchExpressions")
	if expressions != nil && expressions.Kind != object.List {
		s.unread = true
	}
	for _, e := range facts.Items(expressions) {
		r, ok := readRequirement(e)
		if !ok {
			s.unread = true
			continue
		}
		s.requirements = append(s.requirements, r)
	}
	for _, f := range fields(n) {
		s.unread = s.unread || f != "matchLabels" && f != "matchExpressions"
	}
	return s
}

func readRequirement(e *object.Node) (requirement, bool) {
	op, ok := operators[e.Get("operator").Str()]
	r := requirement{key: e.Get("key").Str(), operator: op}
	values := e.Get("values")
	if !ok || r.key == "" || e.HasUnknown() || values != nil && values.Kind != object.List {
		return r, false
	}
	for _, v := range facts.Items(values) {
		if v.Kind != object.String {
			return r, false
		}
		r.values = append(r.values, v.Text)
	}
	return r, (op == in || op == notIn) == (len(r.values) > 0)
}

// readEqual reads a map of labels that must all be there.
func readEqual(n *object.Node) selector {
	var s selector
	l := readLabels(n)
	s.unread = l.unread
	for _, p := range l.pairs {
		if p.unread {
			s.unread = true
			continue
		}
		s.requirements = append(s.requirements, requirement{key: p.key, operator: in, values: []string{p.value}})
	}
	return s
}

// id is the same for selectors that choose the same by the same words.
func (s selector) id() string {
	var b strings.Builder
	if s.unread {
		b.WriteByte('?')
	}
	for _, r := range s.requirements {
		b.WriteString(r.key)
		b.WriteByte('0' + byte(r.operator))
		for _, v := range r.values {
			b.WriteString(v)
			b.WriteByte(0)
		}
		b.WriteByte(1)
	}
	return b.String()
}

// all says whether the selector chooses everything.
func (s selector) all() truth {
	switch {
	case len(s.requirements) > 0:
		return no
	case s.unread:
		return unknown
	}
	return yes
}

// matches says whether the selector chooses what has the labels.
func (s selector) matches(l labels) truth {
	out := yes
	if s.unread {
		out = unknown
	}
	for _, r := range s.requirements {
		out = min(out, r.matches(l))
	}
	return out
}

func (r requirement) matches(l labels) truth {
	has, among := no, no
	if i, ok := l.find(r.key); ok {
		has, among = yes, unknown
		if !l.pairs[i].unread {
			among = truthOf(slices.Contains(r.values, l.pairs[i].value))
		}
	} else if l.unread {
		has, among = unknown, unknown
	}
	switch r.operator {
	case in:
		return among
	case notIn:
		return among.not()
	case exists:
		return has
	}
	return has.not()
}

// keys calls f with every key of the selector.
func (s selector) keys(f func(string)) {
	for _, r := range s.requirements {
		f(r.key)
	}
}

// fields returns the keys of a map that are set.
func fields(n *object.Node) []string {
	var out []string
	if n != nil && n.Kind == object.Map {
		for _, f := range n.Fields {
			if f.Value.Kind != object.Null {
				out = append(out, f.Key)
			}
		}
	}
	return out
}
