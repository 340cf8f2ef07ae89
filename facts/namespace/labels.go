// SPDX-License-Identifier: Apache-2.0

package namespace

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

// length is how many items or fields a list or map has, as far as that is
// known.
func length(n *object.Node) (int, truth) {
	switch {
	case n == nil:
		return 0, yes
	case n.Kind == object.List:
		return len(n.Items), yes
	case n.Kind == object.Map:
		return len(n.Fields), yes
	}
	return 0, unknown
}

// labels are those of an object, sorted by key.
type labels struct {
	pairs []pair
	// unread is set where there are labels of which not even the keys are known.
	unread bool
}

type pair struct {
	key, value string
	unread     bool
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
			l.pairs = append(l.pairs, pair{f.Key, f.Value.Str(), f.Value.Kind != object.String})
		}
	}
	slices.SortFunc(l.pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	return l
}

// with returns the labels with one more, or another value of one.
func (l labels) with(p pair) labels {
	out := labels{unread: l.unread}
	for _, old := range l.pairs {
		if old.key != p.key {
			out.pairs = append(out.pairs, old)
		}
	}
	out.pairs = append(out.pairs, p)
	slices.SortFunc(out.pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	return out
}

// merge returns the labels of both. Where both have one, that of the other holds.
func (l labels) merge(other labels) labels {
	out := labels{pairs: make([]pair, 0, len(l.pairs)+len(other.pairs)), unread: l.unread || other.unread}
	a, b := l.pairs, other.pairs
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0].key, b[0].key); {
		case c < 0:
			out.pairs, a = append(out.pairs, a[0]), a[1:]
		case c > 0:
			out.pairs, b = append(out.pairs, b[0]), b[1:]
		default:
			a = a[1:]
		}
	}
	out.pairs = append(append(out.pairs, a...), b...)
	return out
}

// id is the same for labels that no selector tells apart.
func (l labels) id() string {
	var b strings.Builder
	if l.unread {
		b.WriteString("?")
	}
	for _, p := range l.pairs {
		b.WriteString(p.key + "\x00" + p.value + "\x00")
		if p.unread {
			b.WriteString("?")
		}
	}
	return b.String()
}

// get returns the value of a label, and whether the label and its value are
// known.
func (l labels) get(key string) (value string, has, known truth) {
	i, ok := slices.BinarySearchFunc(l.pairs, key, func(p pair, key string) int { return strings.Compare(p.key, key) })
	switch {
	case ok && l.pairs[i].unread:
		return "", yes, no
	case ok:
		return l.pairs[i].value, yes, yes
	case l.unread:
		return "", unknown, no
	}
	return "", no, yes
}

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

type operator uint8

const (
	in operator = iota
	notIn
	exists
	doesNotExist
)

var operators = map[string]operator{"In": in, "NotIn": notIn, "Exists": exists, "DoesNotExist": doesNotExist}

// readSelector reads a LabelSelector.
func readSelector(n *object.Node) selector {
	s := readEqual(n.Get("matchLabels"))
	if n != nil && n.Kind != object.Map {
		s.unread = true
	}
	expressions := n.Get("matchExpressions")
	if expressions != nil && expressions.Kind != object.List {
		s.unread = true
	}
	for _, e := range facts.Items(expressions) {
		op, ok := operators[e.Get("operator").Str()]
		if !ok || e.HasUnknown() {
			s.unread = true
			continue
		}
		r := requirement{key: e.Get("key").Str(), operator: op}
		for _, v := range facts.Items(e.Get("values")) {
			r.values = append(r.values, v.Str())
		}
		s.requirements = append(s.requirements, r)
	}
	return s
}

// readEqual reads a map of labels that must all be there.
func readEqual(n *object.Node) selector {
	var s selector
	l := readLabels(n)
	s.unread = l.unread
	for _, p := range l.pairs {
		s.unread = s.unread || p.unread
		s.requirements = append(s.requirements, requirement{key: p.key, operator: in, values: []string{p.value}})
	}
	return s
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
	value, has, known := l.get(r.key)
	among := unknown
	if known == yes {
		among = truthOf(slices.Contains(r.values, value))
	}
	switch r.operator {
	case in:
		return min(has, among)
	case notIn:
		return max(has.not(), among.not())
	case exists:
		return has
	}
	return has.not()
}
