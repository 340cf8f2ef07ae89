// SPDX-License-Identifier: Apache-2.0

package pattern

import "strconv"

// kind is what came of matching a part of a pattern.
type kind uint8

const (
	matched kind = iota
	failed
	negated // a field is there that a negation anchor forbids
	// skipped says that an anchor is not met. It decides over the map that the anchor
	// stands in; skippedBelow, which comes of what is below a map or a list, only
	// over what has nothing else to go by.
	skipped
	skippedBelow
)

func (k kind) skips() bool { return k == skipped || k == skippedBelow }

// outcome is what came of matching. Mismatch is set only where it is not matched, and
// the matcher explains.
type outcome struct {
	kind     kind
	mismatch *Mismatch
}

// matcher walks a pattern and a tree. It does not look where it is until it is to
// explain, for which the walk is done again.
type matcher struct {
	explainer *explainer
}

func (m *matcher) push(name string) {
	if m.explainer != nil {
		m.explainer.path = append(m.explainer.path, name)
	}
}

func (m *matcher) pushIndex(i int) {
	if m.explainer != nil {
		m.push(strconv.Itoa(i))
	}
}

func (m *matcher) pop() {
	if m.explainer != nil {
		m.explainer.path = m.explainer.path[:len(m.explainer.path)-1]
	}
}

func (m *matcher) match(n *node, value any) outcome {
	switch {
	case n.fields != nil:
		of, ok := value.(map[string]any)
		if !ok {
			return m.fail(failed, reason{text: notAMap, value: value})
		}
		f := n.fields
		if f.variants != nil {
			f = f.variants[variant(of)]
		}
		if f.wild {
			f = f.expand(of)
		}
		if m.explainer != nil {
			m.explainer.saw(f, of)
		}
		return m.matchFields(f, of)
	case n.list != nil:
		of, ok := value.([]any)
		if !ok {
			return m.fail(failed, reason{text: notAList, value: value})
		}
		return m.matchList(n.list, of)
	}
	return m.matchScalar(n.scalar, value)
}

func (m *matcher) matchScalar(s *scalar, value any) outcome {
	items, ok := value.([]any)
	if !ok {
		if s.matches(value) {
			return outcome{}
		}
		return m.fail(failed, reason{text: notMatching, value: value, pattern: s.pattern})
	}
	for _, item := range items {
		if !s.matches(item) {
			return m.fail(failed, reason{text: notMatching, value: value, pattern: s.pattern})
		}
	}
	return outcome{}
}

func (m *matcher) matchFields(f *fields, resource map[string]any) outcome {
	if o := m.matchAnchors(f, resource); o.kind != matched {
		return o
	}
	for i := range f.rest {
		if o := m.matchField(&f.rest[i], resource); o.kind != matched {
			return o
		}
	}
	return outcome{}
}

// matchAnchors asks the anchors of a map. One that is not met makes the map not
// apply, whatever the others come to, and so keeps those that follow from failing it.
// What does not apply below an anchor counts only if no anchor is met.
func (m *matcher) matchAnchors(f *fields, resource map[string]any) outcome {
	var met, own bool
	var skips []*Mismatch
	below := false
	for i := range f.anchors {
		switch o := m.matchField(&f.anchors[i], resource); o.kind {
		case matched:
			met = true
		case skipped:
			own = true
			skips = m.note(skips, o)
		case skippedBelow:
			below = true
			skips = m.note(skips, o)
		default:
			if !own {
				return o
			}
		}
	}
	if own || below && !met {
		return outcome{kind: skippedBelow, mismatch: m.join(skips)}
	}
	return outcome{}
}

// matchField asks one field of a map.
func (m *matcher) matchField(e *field, resource map[string]any) outcome {
	m.push(e.key)
	defer m.pop()
	value, there := resource[e.key]
	pattern := e.pattern
	switch e.anchor {
	case Negation:
		if there {
			return m.fail(negated, reason{text: forbidden})
		}
		return outcome{}
	case Conditional:
		if !there {
			return m.fail(skipped, reason{text: conditionNotThere})
		}
		return m.skip(m.match(pattern, value))
	case Global:
		if there {
			return m.skip(m.match(pattern, value))
		}
		return outcome{}
	case Equality:
		if there {
			return m.match(pattern, value)
		}
		return outcome{}
	case Existence:
		if there {
			return m.matchExistence(pattern, value)
		}
		return outcome{}
	}
	if e.set {
		if value == nil {
			return m.fail(failed, reason{text: notMatching, pattern: "*"})
		}
		return outcome{}
	}
	return m.match(pattern, value)
}

// variant says which of labels and annotations an object has.
func variant(resource map[string]any) int {
	of, _ := resource["metadata"].(map[string]any)
	v := 0
	for bit, tag := range tags {
		if _, ok := of[tag].(map[string]any); ok {
			v |= 1 << bit
		}
	}
	return v
}

// skip makes of a mismatch that the map does not apply.
func (m *matcher) skip(o outcome) outcome {
	if o.kind == matched {
		return o
	}
	return outcome{kind: skipped, mismatch: o.mismatch}
}

// matchExistence says whether each map of a pattern is matched by an item at least.
func (m *matcher) matchExistence(pattern *node, value any) outcome {
	items, ok := value.([]any)
	if !ok {
		return m.fail(failed, reason{text: notAList, value: value})
	}
	if pattern.list == nil {
		return m.fail(failed, reason{text: patternNotAList})
	}
	for _, p := range pattern.list.items {
		if p.fields == nil {
			return m.fail(failed, reason{text: patternNotMaps})
		}
		if !m.exists(p, items) {
			return m.fail(failed, reason{text: noneMatches})
		}
	}
	return outcome{}
}

func (m *matcher) exists(p *node, items []any) bool {
	for i, item := range items {
		m.pushIndex(i)
		o := m.match(p, item)
		m.pop()
		if o.kind == matched {
			return true
		}
	}
	return false
}

func (m *matcher) matchList(l *list, items []any) outcome {
	switch l.kind {
	case emptyList:
		return m.fail(failed, reason{text: patternEmpty})
	case eachScalar:
		return m.matchScalar(l.items[0].scalar, items)
	case eachMap:
		return m.matchItems(l.items[:1], items)
	}
	if len(items) < len(l.items) {
		return m.fail(failed, reason{text: tooShort, error: true})
	}
	return m.matchItems(l.items, items[:len(l.items)])
}

// matchItems asks items: all by one pattern, or each by its own. Those that the
// patterns are not about count only if they are about none.
func (m *matcher) matchItems(patterns []*node, items []any) outcome {
	applies := false
	var skips []*Mismatch
	skip := false
	for i, item := range items {
		m.pushIndex(i)
		o := m.match(patterns[min(i, len(patterns)-1)], item)
		m.pop()
		switch {
		case o.kind == matched:
			applies = true
		case o.kind.skips():
			skip = true
			skips = m.note(skips, o)
		default:
			return o
		}
	}
	if skip && !applies {
		return outcome{kind: skippedBelow, mismatch: m.join(skips)}
	}
	return outcome{}
}
