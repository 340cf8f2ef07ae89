// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// variable finds a variable and the character before it, which must be no backslash;
// initial finds one with which a text begins.
var (
	variable = regexp.MustCompile(`(^|[^\\])(\{\{(?:\{[^{}]*\}|[^{}])*\}\})`)
	initial  = regexp.MustCompile(`^\{\{(?:\{[^{}]*\}|[^{}])*\}\}`)
)

// found is a variable in a text, braces and all, and the character before it, if there
// is one.
type found struct{ before, name string }

// findVariables returns the variables in a text.
func findVariables(text string) []found {
	if inner, ok := strings.CutPrefix(text, "{{"); ok {
		if inner, ok := strings.CutSuffix(inner, "}}"); ok && !strings.ContainsAny(inner, "{}") {
			return []found{{name: text}}
		}
	}
	var all []found
	for _, v := range variable.FindAllString(text, -1) {
		if initial.MatchString(v) {
			all = append(all, found{name: v})
		} else {
			all = append(all, found{v[:1], v[1:]})
		}
	}
	return all
}

const (
	// maxDepth is how deep a tree may be nested once variables are in it, maxNodes how
	// large it may be, and maxRounds how often a text may be looked through for the
	// variables that those in it have as their values.
	maxDepth  = 500
	maxNodes  = 2_000_000
	maxRounds = 200
)

var errSelf = errors.New("variables have values with variables in them, without end")

// HasVariables says whether there are variables or references in the keys or the
// texts of a tree, or what escapes them.
func HasVariables(tree any) bool {
	switch t := tree.(type) {
	case string:
		return strings.Contains(t, "{{") || strings.Contains(t, "$(")
	case map[string]any:
		for key, value := range t {
			if HasVariables(key) || HasVariables(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(t, HasVariables)
	}
	return false
}

// Substitute puts the values of references, and then of variables, into a tree. A
// text that is nothing but a variable becomes its value, of whatever type, in which
// variables are looked for too; elsewhere values become texts. A variable {{@}}, which
// is the field of the resource that stands where it does, reckons with a tree that is
// a rule, in which two fields lead to a pattern.
//
// What has no variables is shared with the tree, and what is a value with c: neither
// may be changed then.
func Substitute(tree any, c Lookup) (any, error) {
	s := &substitution{lookup: c, tree: tree}
	tree, err := s.walk(tree, "", 0, s.references())
	if err != nil {
		return nil, err
	}
	return s.walk(tree, "", 0, replacement{"{{", s.variablesIn})
}

// substitution is one call of Substitute.
type substitution struct {
	lookup Lookup
	tree   any
	nodes  int
	length int
	// deletion says, once it is asked, whether the request deletes.
	deletion *bool
}

func (s *substitution) enter(depth int) error {
	if s.nodes++; s.nodes > maxNodes || depth > maxDepth {
		return errSelf
	}
	return nil
}

// replacement is what becomes of the texts of a tree that have a mark in them.
type replacement struct {
	mark string
	text func(text, path string) (any, error)
}

// none says whether there is nothing to replace in a tree, which is in the types that
// trees have.
func (r *replacement) none(tree any) bool {
	switch t := tree.(type) {
	case string:
		return !strings.Contains(t, r.mark)
	case map[string]any:
		for key, value := range t {
			if strings.Contains(key, r.mark) || !r.none(value) {
				return false
			}
		}
		return true
	case []any:
		for _, item := range t {
			if !r.none(item) {
				return false
			}
		}
		return true
	case nil, bool, int64, float64:
		return true
	}
	return false
}

// walk replaces the texts in the keys and values of a tree by what becomes of them,
// and goes on into what comes of it.
func (s *substitution) walk(tree any, path string, depth int, by replacement) (any, error) {
	if by.none(tree) {
		return tree, nil
	}
	if err := s.enter(depth); err != nil {
		return nil, err
	}
	if t, ok := tree.(string); ok {
		v, err := by.text(t, path)
		if _, again := v.(string); again || err != nil || by.none(v) {
			return v, err
		}
		tree = v
	}
	switch t := tree.(type) {
	case map[string]any:
		return s.walkMap(t, path, depth, by)
	case []any:
		return s.walkList(t, path, depth, by)
	case []map[string]any:
		return s.walkList(items{pairs: t}.appendTo(nil), path, depth, by)
	case Unknown:
		return nil, &UnknownError{string(t)}
	case int:
		return int64(t), nil
	}
	return tree, nil
}

func (s *substitution) walkMap(of map[string]any, path string, depth int, by replacement) (any, error) {
	var changed map[string]any
	for _, key := range slices.Sorted(maps.Keys(of)) {
		name, err := s.key(key, path, by)
		if err != nil {
			return nil, err
		}
		value, err := s.walk(of[key], path+"/"+strings.ReplaceAll(key, "/", `\/`), depth+1, by)
		if err != nil {
			return nil, err
		}
		if changed == nil && name == key && same(value, of[key]) {
			continue
		}
		if changed == nil {
			changed = maps.Clone(of)
		}
		if name != key {
			delete(changed, key)
		}
		changed[name] = value
	}
	if changed == nil {
		return of, nil
	}
	return changed, nil
}

// key replaces the texts in a key. A variable that is nothing leaves it as it is.
func (s *substitution) key(key, path string, by replacement) (string, error) {
	if !strings.Contains(key, by.mark) {
		return key, nil
	}
	v, err := by.text(key, path)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case nil:
		return key, nil
	case string:
		return v, nil
	}
	return "", fmt.Errorf("the variable in the key %q%s is no text", key, at(path))
}

func (s *substitution) walkList(of []any, path string, depth int, by replacement) (any, error) {
	var changed []any
	for i, item := range of {
		value, err := s.walk(item, path+"/"+strconv.Itoa(i), depth+1, by)
		if err != nil {
			return nil, err
		}
		if changed == nil && same(value, item) {
			continue
		}
		if changed == nil {
			changed = slices.Clone(of)
		}
		changed[i] = value
	}
	if changed == nil {
		return of, nil
	}
	return changed, nil
}

// same says whether a walk has left a value as it was. Maps and lists that it changed
// are others.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && len(a) == len(b) && mapID(a) == mapID(b)
	case []any:
		b, ok := b.([]any)
		return ok && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	case nil, bool, string, int, int64, float64:
		switch b.(type) {
		case nil, bool, string, int, int64, float64:
			return a == b
		}
	}
	return false
}

// at says where a path is, of what is more than one text.
func at(path string) string {
	if path == "" {
		return ""
	}
	return " at " + path
}

// variablesIn replaces the variables in a text, and those in their values, until there
// are no more.
func (s *substitution) variablesIn(text, path string) (any, error) {
	variables := findVariables(text)
	for round := 0; len(variables) > 0; round++ {
		if round == maxRounds {
			return nil, errSelf
		}
		whole, shallow := text, false
		for _, v := range variables {
			value, last, err := s.variable(v.name, path)
			if err != nil {
				return nil, err
			}
			if whole == v.name {
				return value, nil
			}
			if shallow = last; shallow {
				if value, err = escape(value); err != nil {
					return nil, err
				}
			}
			if text, err = s.insert(text, v, value); err != nil {
				return nil, fmt.Errorf("the variable %s%s: %w", v.name, at(path), err)
			}
		}
		if shallow {
			break
		}
		variables = findVariables(text)
	}
	return strings.ReplaceAll(text, `\{{`, "{{"), nil
}

// escape makes the variables in a value none.
func escape(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return strings.ReplaceAll(v, "{{", `\{{`), nil
	}
	return nil, errors.New("a variable {{- }} is no text")
}

// insert puts a value where a variable is.
func (s *substitution) insert(text string, v found, value any) (string, error) {
	by, ok := value.(string)
	if !ok {
		r := &run{steps: maxSteps}
		encoded, err := r.json(value)
		if err != nil {
			return "", err
		}
		by = encoded
	}
	if s.length += len(by) + len(text); len(text)+len(by) > maxString || s.length > 16*maxString {
		return "", errString
	}
	return strings.Replace(text, v.before+v.name, v.before+by, 1), nil
}

// variable returns the value of a variable, and whether its value is not to be looked
// through for variables.
func (s *substitution) variable(name, path string) (value any, shallow bool, err error) {
	name = strings.ReplaceAll(strings.ReplaceAll(name, "{{", ""), "}}", "")
	name = strings.TrimSpace(name)
	if name, shallow = strings.CutPrefix(name, "-"); shallow {
		name = strings.TrimSpace(name)
	}
	if name == "@" {
		name = s.here(path)
	}
	if strings.Contains(name, "request.object") && s.deletes() {
		name = strings.ReplaceAll(name, "request.object", "request.oldObject")
	}
	value, err = s.lookup.Query(name)
	if err != nil {
		return nil, shallow, fmt.Errorf("the variable {{ %s }}%s: %w", name, at(path), err)
	}
	return value, shallow, nil
}

// deletes says whether the request deletes.
func (s *substitution) deletes() bool {
	if s.deletion == nil {
		operation, err := s.lookup.Query("request.operation")
		is := err == nil && operation == "DELETE"
		s.deletion = &is
	}
	return *s.deletion
}

// here returns the expression of the field of the resource that stands where a path of
// a rule does.
func (s *substitution) here(path string) string {
	of := []string{"target"}
	if _, err := s.lookup.Query("target"); err != nil {
		of = []string{"request", "object"}
	}
	names := splitPath(path)
	names = names[slices.Index(names, "foreach")+1:]
	if len(names) > 2 {
		return pathExpression(append(of, names[2:]...))
	}
	return pathExpression(of)
}

// splitPath splits a path of a tree, in which a backslash stands before a slash that is
// part of a name.
func splitPath(path string) []string {
	var names []string
	var name strings.Builder
	flush := func() {
		if name.Len() > 0 {
			names = append(names, name.String())
		}
		name.Reset()
	}
	escaped, quoted := false, false
	for _, r := range path {
		switch {
		case escaped:
			name.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == '/' && !quoted:
			flush()
		default:
			name.WriteRune(r)
		}
	}
	flush()
	return names
}

var plainName = regexp.MustCompile(`^[A-Za-z_][)0-9A-Za-z_]*$`)

// pathExpression returns the expression that the names of fields, and the numbers of
// items, are.
func pathExpression(names []string) string {
	var b strings.Builder
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 64); err == nil {
			b.WriteString("[" + name + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if plainName.MatchString(name) {
			b.WriteString(name)
			continue
		}
		quoted, _ := json.Marshal(name)
		b.Write(quoted)
	}
	return b.String()
}

func mapID(m map[string]any) uintptr { return reflect.ValueOf(m).Pointer() }
