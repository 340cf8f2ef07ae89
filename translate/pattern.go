// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

// verdicts are the conditions on which a part of a pattern says something: that
// it matches, that the rule is not about the object, and either of the two. A
// part without conditional anchors never skips.
type verdicts struct {
	ok, skip, admit string
}

// plain are the verdicts of a part that never skips.
func plain(ok string) verdicts { return verdicts{ok: ok, skip: never, admit: ok} }

// subject is what a part of a pattern is held against.
type subject struct {
	expr  string // CEL
	maybe bool   // it is an optional value
	shape shape
}

// field returns a field of the subject.
func (s subject) field(name string) (subject, error) {
	sh, ok := s.shape.field(name)
	if !ok {
		return subject{}, fmt.Errorf("the kind has no field %s here", name)
	}
	return subject{maybe(s.expr, name), true, sh}, nil
}

// anchor is a key of a pattern: the field, and what is asked of it.
type anchor struct {
	mark byte // (, <, =, X, ^, +; 0 for a plain key
	key  string
}

var anchored = regexp.MustCompile(`^([+<=X^])?\((.+)\)$`)

func parseAnchor(key string) anchor {
	m := anchored.FindStringSubmatch(strings.TrimSpace(key))
	switch {
	case m == nil:
		return anchor{0, key}
	case m[1] == "":
		return anchor{'(', m[2]}
	}
	return anchor{m[1][0], m[2]}
}

// patternWriter writes Kyverno's patterns as CEL.
type patternWriter struct {
	names []string // that loops have bound
	// searcher writes the variables in patterns.
	searcher *searcher
}

// bind returns a name for an item that no loop around it uses.
func (w *patternWriter) bind(list string) string {
	name := singular(list)
	for n := 2; slices.Contains(w.names, name); n++ {
		name = singular(list) + strconv.Itoa(n)
	}
	w.names = append(w.names, name)
	return name
}

func (w *patternWriter) unbind() { w.names = w.names[:len(w.names)-1] }

// part is one key of a map.
type part struct {
	anchor
	value any
}

// mapping returns the verdicts of a map. Anchors are asked first: conditions
// before all others, since each other key counts only where they are met.
func (w *patternWriter) mapping(s subject, p map[string]any) (verdicts, error) {
	var conditions []string
	var anchors, fields []verdicts
	for _, key := range sortedKeys(p) {
		a := parseAnchor(key)
		if a.mark == 0 || a.mark == '<' || a.mark == '+' {
			continue
		}
		v, err := w.part(s, part{a, p[key]})
		switch {
		case err != nil:
			return verdicts{}, err
		case a.mark == '(':
			conditions = append(conditions, v.ok)
		default:
			anchors = append(anchors, v)
		}
	}
	for _, key := range fieldOrder(p) {
		v, err := w.part(s, part{parseAnchor(key), p[key]})
		if err != nil {
			return verdicts{}, err
		}
		fields = append(fields, v)
	}
	return join(conditions, anchors, sequence(fields)), nil
}

// fieldOrder returns the keys that are not asked as anchors, in Kyverno's order:
// those with anchors below them first, from the last to the first.
func fieldOrder(p map[string]any) []string {
	var first, last []string
	for _, key := range sortedKeys(p) {
		switch a := parseAnchor(key); {
		case a.mark != 0 && a.mark != '<' && a.mark != '+':
		case a.mark == '<' || hasAnchors(p[key]):
			first = append(first, key)
		default:
			last = append(last, key)
		}
	}
	slices.Reverse(first)
	return append(first, last...)
}

func hasAnchors(p any) bool {
	switch p := p.(type) {
	case map[string]any:
		for key, v := range p {
			if m := parseAnchor(key).mark; m != 0 && m != '+' || hasAnchors(v) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(p, hasAnchors)
	}
	return false
}

// sequence joins parts of which the first that does not match decides.
func sequence(parts []verdicts) verdicts {
	out := plain(always)
	for i, v := range slices.Backward(parts) {
		if i == len(parts)-1 {
			out = v
			continue
		}
		out = verdicts{
			ok:    and(v.ok, out.ok),
			skip:  or(v.skip, and(v.ok, out.skip)),
			admit: or(v.skip, and(v.ok, out.admit)),
		}
	}
	return out
}

// join joins the anchors of a map with its fields.
func join(conditions []string, anchors []verdicts, rest verdicts) verdicts {
	met := and(conditions...)
	skipped := never
	var skips, admits []string
	for _, a := range anchors {
		skips, admits = append(skips, a.skip), append(admits, a.admit)
	}
	admitted := and(admits...)
	if len(conditions) == 0 && len(anchors) > 0 && !slices.Contains(skips, never) {
		skipped = and(skips...)
	}
	return verdicts{
		ok:    and(met, admitted, not(skipped), rest.ok),
		skip:  or(not(met), and(admitted, or(skipped, rest.skip))),
		admit: or(not(met), and(admitted, or(skipped, rest.admit))),
	}
}

// part returns the verdicts of one key of a map.
func (w *patternWriter) part(s subject, p part) (verdicts, error) {
	if p.mark == '+' {
		return verdicts{}, fmt.Errorf("the anchor +(%s) is for mutation, and says nothing in a validation", p.key)
	}
	if strings.ContainsAny(p.key, "*?") {
		return w.wildKey(s, p)
	}
	f, err := s.field(p.key)
	if err != nil {
		return verdicts{}, err
	}
	switch p.mark {
	case 'X':
		return plain(not(f.expr + ".hasValue()")), nil
	case '^':
		return w.existence(f, p)
	case '=':
		return w.value(f, p, always)
	case '(':
		return w.value(f, p, never)
	case '<':
		v, err := w.value(f, p, always)
		return verdicts{ok: v.ok, skip: not(v.ok), admit: always}, err
	}
	if p.value == "*" {
		return plain(f.expr + ".hasValue()"), nil
	}
	return w.value(f, p, absent(p.value))
}

// absent is what a pattern says of a value that is not there.
func absent(p any) string {
	switch p.(type) {
	case map[string]any, []any:
		return never
	}
	return strconv.FormatBool(pattern.Value(nil, p))
}

// value returns the verdicts on a field that may not be there.
func (w *patternWriter) value(f subject, p part, missing string) (verdicts, error) {
	switch v := p.value.(type) {
	case map[string]any:
		return w.submap(f, v, missing)
	case []any:
		return w.optionalList(f, p.key, v, missing)
	}
	return w.scalar(f, p, missing)
}

// submap returns the verdicts on a map below a field. Where every key below must
// be there, so must the map.
func (w *patternWriter) submap(f subject, p map[string]any, missing string) (verdicts, error) {
	v, err := w.mapping(f, p)
	if err != nil {
		return verdicts{}, err
	}
	there := f.expr + ".hasValue()"
	if missing == always {
		return verdicts{ok: or(not(there), v.ok), skip: and(there, v.skip), admit: or(not(there), v.admit)}, nil
	}
	if v.skip == never && implies(v.ok, f.expr) {
		return v, nil
	}
	return verdicts{ok: and(there, v.ok), skip: and(there, v.skip), admit: and(there, v.admit)}, nil
}

// implies says whether a condition is false where an optional value is not
// there: one of the parts that must hold asks for something below it.
func implies(condition, optional string) bool {
	for _, p := range splitAnd(condition) {
		if (strings.HasPrefix(p, optional+".?") || strings.HasPrefix(p, optional+"[?")) && (strings.HasSuffix(p, ".orValue(false)") || strings.HasSuffix(p, ".hasValue()")) && binding(p) == isUnary {
			return true
		}
	}
	return false
}

// splitAnd returns the parts of a conjunction.
func splitAnd(expr string) []string {
	if binding(expr) != isAnd {
		return []string{expr}
	}
	const operator = " && "
	var out []string
	start := 0
	for i := range outside(expr) {
		if strings.HasPrefix(expr[i:], operator) {
			out = append(out, expr[start:i])
			start = i + len(operator)
		}
	}
	return append(out, expr[start:])
}

// scalar returns the verdicts on a field whose pattern is one value.
func (w *patternWriter) scalar(f subject, p part, missing string) (verdicts, error) {
	if f.shape.kind() == structValue || f.shape.kind() == mapValue {
		return verdicts{}, fmt.Errorf("%s is a map, and the pattern holds one value for it", p.key)
	}
	item := w.bind("value")
	defer w.unbind()
	leaf, err := w.leaf(subject{expr: item, shape: f.shape}, p.value)
	if err != nil {
		return verdicts{}, err
	}
	return plain(onValue(f.expr, item, leaf, missing)), nil
}

// onValue returns a condition on a value that may be missing.
func onValue(optional, name, condition, missing string) string {
	switch {
	case condition == missing:
		return condition
	case condition == always:
		return optional + ".hasValue()"
	case condition == never:
		return "!" + optional + ".hasValue()"
	case condition == name && missing == never:
		return optional + ".orValue(false)"
	case condition == "!"+name && missing == always:
		return "!" + optional + ".orValue(false)"
	}
	return optional + ".optMap(" + name + ", " + condition + ").orValue(" + missing + ")"
}

// optionalList returns the verdicts on a list that may not be there.
func (w *patternWriter) optionalList(f subject, key string, p []any, missing string) (verdicts, error) {
	w.names = append(w.names, "elements")
	defer w.unbind()
	v, err := w.list(subject{expr: "elements", shape: f.shape}, key, p)
	if err != nil {
		return verdicts{}, err
	}
	in := func(condition, missing string) string {
		if condition == never && missing == never {
			return never
		}
		if missing == always && strings.HasPrefix(condition, "elements.all(") && len(splitAnd(condition)) == 1 && binding(condition) == isUnary && f.shape.kind() == listValue {
			return f.expr + ".orValue([])" + strings.TrimPrefix(condition, "elements")
		}
		return onValue(f.expr, "elements", condition, missing)
	}
	skipMissing := never
	return verdicts{ok: in(v.ok, missing), skip: in(v.skip, skipMissing), admit: in(v.admit, missing)}, nil
}

// list returns the verdicts of the pattern of a list: its first item is held
// against every element.
func (w *patternWriter) list(s subject, key string, p []any) (verdicts, error) {
	if len(p) == 0 {
		return verdicts{}, fmt.Errorf("the pattern of the list %s is empty, which nothing matches", key)
	}
	if k := s.shape.kind(); k != listValue && k != anyValue {
		return verdicts{}, fmt.Errorf("%s is no list, and the pattern is", key)
	}
	guard := always
	if s.shape.kind() == anyValue {
		guard = "type(" + s.expr + ") == list"
	}
	if _, ok := p[0].([]any); ok {
		return verdicts{}, fmt.Errorf("%s: a list in a list is not supported", key)
	}
	if _, ok := p[0].(map[string]any); !ok {
		item := w.bind(key)
		defer w.unbind()
		leaf, err := w.leaf(subject{expr: item, shape: s.shape.elem()}, p[0])
		return plain(and(guard, all(s.expr, item, leaf))), err
	}
	return w.listOfMaps(s, key, guard, p[0].(map[string]any))
}

func (w *patternWriter) listOfMaps(s subject, key, guard string, p map[string]any) (verdicts, error) {
	item := w.bind(key)
	defer w.unbind()
	v, err := w.mapping(subject{expr: item, shape: s.shape.elem()}, p)
	if err != nil {
		return verdicts{}, err
	}
	if v.skip == never {
		return plain(and(guard, all(s.expr, item, v.ok))), nil
	}
	admit := all(s.expr, item, v.admit)
	skip := and(s.expr+".size() > 0", all(s.expr, item, v.skip))
	return verdicts{ok: and(guard, admit, not(skip)), skip: and(guard, skip), admit: and(guard, admit)}, nil
}

// all returns the condition that one holds for all elements.
func all(list, item, condition string) string {
	if condition == always {
		return always
	}
	return list + ".all(" + item + ", " + condition + ")"
}

// existence returns the verdicts of ^(key): for every map of the pattern there is
// an element that matches.
func (w *patternWriter) existence(f subject, p part) (verdicts, error) {
	list, ok := p.value.([]any)
	if !ok {
		return verdicts{}, fmt.Errorf("^(%s) is not followed by a list", p.key)
	}
	var parts []string
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			return verdicts{}, fmt.Errorf("^(%s): an item is no map", p.key)
		}
		item := w.bind(p.key)
		v, err := w.mapping(subject{expr: item, shape: f.shape.elem()}, m)
		w.unbind()
		if err != nil {
			return verdicts{}, err
		}
		parts = append(parts, "elements.exists("+item+", "+v.ok+")")
	}
	return plain(onValue(f.expr, "elements", and(parts...), always)), nil
}

// wildKey returns the verdicts on the keys of a map that match a pattern.
func (w *patternWriter) wildKey(s subject, p part) (verdicts, error) {
	if k := s.shape.kind(); k != mapValue && k != anyValue {
		return verdicts{}, fmt.Errorf("the key %s has wildcards, which are for labels and annotations", p.key)
	}
	if p.mark == '(' || p.mark == '^' || p.mark == '<' {
		return verdicts{}, fmt.Errorf("the key %c%s with wildcards is an anchor", p.mark, p.key)
	}
	leaf, err := w.leaf(subject{expr: "entries[key]", shape: s.shape.elem()}, p.value)
	if err != nil {
		return verdicts{}, err
	}
	names := wild("key", p.key)
	switch p.mark {
	case 'X':
		return plain(onValue(s.expr, "entries", "!entries.exists(key, "+names+")", always)), nil
	case '=':
		return plain(onValue(s.expr, "entries", "entries.all(key, "+or(not(names), leaf)+")", always)), nil
	}
	return plain(onValue(s.expr, "entries", "entries.exists(key, "+and(names, leaf)+")", never)), nil
}
