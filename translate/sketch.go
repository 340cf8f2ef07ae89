// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// vocabulary is what a policy speaks of: the names of fields and the values that
// it mentions. Objects are varied with them, for at these an original and its
// translation may differ.
type vocabulary struct {
	names   map[string]bool
	texts   []string
	numbers []int64
	keys    []string
	sketch  *sketch
	// plain leaves wildcards out of texts.
	plain bool
}

// sketch is what a policy lets one guess of an object of an unknown kind.
type sketch struct {
	fields map[string]*sketch
	item   *sketch
	values []any
}

func newSketch() *sketch { return &sketch{fields: map[string]*sketch{}} }

func (s *sketch) at(name string) *sketch {
	if s.fields[name] == nil {
		s.fields[name] = newSketch()
	}
	return s.fields[name]
}

func (s *sketch) items() *sketch {
	if s.item == nil {
		s.item = newSketch()
	}
	return s.item
}

var (
	words    = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	quotes   = regexp.MustCompile("'((?:[^'\\\\]|\\\\.)*)'|\"((?:[^\"\\\\]|\\\\.)*)\"")
	numerals = regexp.MustCompile(`\b\d{1,12}\b`)
	chains   = regexp.MustCompile(`\b(?:object|oldObject)((?:\.\??[A-Za-z_][A-Za-z0-9_]*|\[\]|\[\?[^\]]*\]|\[\d+\]|\."[^"]+")+)`)
	steps    = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*|\[[^\]]*\]|"[^"]+"`)
)

// speaks reads a tree of a policy: patterns, conditions, expressions.
func (v *vocabulary) speaks(tree any, pattern *sketch) {
	switch t := tree.(type) {
	case map[string]any:
		for _, k := range sortedKeys(t) {
			a := parseAnchor(k)
			v.name(a.key)
			var below *sketch
			if pattern != nil {
				below = pattern.at(instance(a.key, "x"))
			}
			v.speaks(t[k], below)
		}
	case []any:
		for _, x := range t {
			var below *sketch
			if pattern != nil {
				below = pattern.items()
			}
			v.speaks(x, below)
		}
	case string:
		v.text(t, pattern)
	case int64:
		v.number(t, pattern)
	case int:
		v.number(int64(t), pattern)
	case float64:
		v.number(int64(t), pattern)
	case bool:
		if pattern != nil {
			pattern.values = append(pattern.values, t, !t)
		}
	}
}

func (v *vocabulary) name(s string) {
	if strings.ContainsAny(s, "*?") {
		v.keys = appendNew(v.keys, instance(s, "x"))
		return
	}
	v.names[s] = true
	if !isName(s) {
		v.keys = appendNew(v.keys, s)
	}
}

func (v *vocabulary) number(n int64, at *sketch) {
	for _, n := range []int64{n, n + 1, n - 1} {
		v.numbers = appendNew(v.numbers, n)
		if at != nil {
			at.values = append(at.values, n)
		}
	}
}

// text reads a text: a pattern, or an expression.
func (v *vocabulary) text(s string, at *sketch) {
	if len(s) > 4096 {
		return
	}
	for _, one := range strings.FieldsFunc(s, func(r rune) bool { return r == '|' || r == '&' }) {
		one = strings.TrimSpace(one)
		operand := strings.TrimLeft(one, "<>=! ")
		v.operand(operand, at)
		if m := inRange.FindStringSubmatch(operand); m != nil {
			v.operand(m[1], at)
			v.operand(m[2], at)
		}
	}
	v.expression(s)
}

// operand remembers a value of a pattern, and some that are nearly it.
func (v *vocabulary) operand(s string, at *sketch) {
	if s == "" || strings.ContainsAny(s, "{}()") {
		return
	}
	list := []string{instance(s, ""), instance(s, "ab"), "other"}
	for _, x := range list {
		v.texts = appendNew(v.texts, x)
		if at != nil {
			at.values = append(at.values, x)
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		v.number(n, at)
	}
}

// instance returns a text that matches a pattern of * and ?.
func instance(pattern, fill string) string {
	return strings.NewReplacer("*", fill, "?", "a").Replace(pattern)
}

// expression reads the names and literals of an expression.
func (v *vocabulary) expression(s string) {
	if !strings.Contains(s, "{{") && !strings.ContainsAny(s, ".()") {
		return
	}
	for _, m := range quotes.FindAllStringSubmatch(s, -1) {
		text := m[1] + m[2]
		v.operand(text, nil)
		v.names[text] = true
		if !isName(text) {
			v.keys = appendNew(v.keys, text)
		}
	}
	for _, w := range words.FindAllString(s, -1) {
		v.names[w] = true
	}
	for _, n := range numerals.FindAllString(s, -1) {
		if i, err := strconv.ParseInt(n, 10, 64); err == nil {
			v.number(i, nil)
		}
	}
	for _, m := range chains.FindAllStringSubmatchIndex(s, -1) {
		v.chain(s[m[2]:m[3]], strings.HasPrefix(strings.ReplaceAll(s[m[1]:], " ", ""), "||`{}`"))
	}
}

// chain remembers a path of fields that an expression reads.
func (v *vocabulary) chain(path string, isMap bool) {
	at := v.sketch
	for _, step := range steps.FindAllString(path, -1) {
		switch {
		case strings.HasPrefix(step, "["):
			at = at.items()
		case slices.Contains([]string{"all", "exists", "map", "filter", "size", "orValue", "contains", "matches", "startsWith", "endsWith", "keys", "values", "length"}, step):
			return
		default:
			at = at.at(strings.Trim(step, `"`))
		}
	}
	if isMap {
		at.at("a")
	}
}

// graft puts what is known of the items of a list under its path.
func (v *vocabulary) graft(list string, item *sketch) {
	m := chains.FindStringSubmatch(strings.TrimSuffix(list, "[]") + "[]")
	if m == nil {
		return
	}
	at := v.sketch
	for _, step := range steps.FindAllString(m[1], -1) {
		if strings.HasPrefix(step, "[") {
			at = at.items()
			continue
		}
		at = at.at(strings.Trim(step, `"`))
	}
	at.fields, at.item, at.values = item.fields, item.item, append(at.values, item.values...)
}

// tree returns any value as maps and lists.
func tree(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(data, &out) != nil {
		return nil
	}
	return out
}

// rego reads the names and texts of the Rego in a tree.
func (v *vocabulary) rego(tree any) {
	switch t := tree.(type) {
	case map[string]any:
		for _, k := range sortedKeys(t) {
			v.rego(t[k])
		}
	case []any:
		for _, x := range t {
			v.rego(x)
		}
	case string:
		if strings.Contains(t, "package ") {
			for _, line := range strings.Split(t, "\n") {
				v.expression(strings.ReplaceAll(line, "[_]", "[]"))
			}
		}
	}
}
