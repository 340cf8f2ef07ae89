// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

var (
	referenceTo      = regexp.MustCompile(`^\$\(.[^ ]*\)|[^\\]\$\(.[^ ]*\)`)
	escapedReference = regexp.MustCompile(`\\\$\(.[^ )]*\)`)
)

// maxReferences is how many references a tree may have: each is looked for in all of
// it.
const maxReferences = 1000

// references replaces references.
func (s *substitution) references() replacement {
	left := maxReferences
	return replacement{"$(", func(text, path string) (any, error) { return s.referencesIn(text, path, &left) }}
}

// referencesIn replaces the references in a text.
func (s *substitution) referencesIn(text, at string, left *int) (any, error) {
	for _, found := range referenceTo.FindAllString(text, -1) {
		if *left--; *left < 0 {
			return nil, fmt.Errorf("there are more than %d references", maxReferences)
		}
		before, reference := "", found
		if !strings.HasPrefix(found, "$(") {
			before, reference = found[:1], found[1:]
		}
		value, err := s.resolve(reference, at)
		if err != nil {
			return nil, err
		}
		text = strings.Replace(text, found, before+value, 1)
		if len(text) > maxString {
			return nil, errString
		}
	}
	return escapedReference.ReplaceAllStringFunc(text, func(s string) string { return s[1:] }), nil
}

// resolve returns the text that a reference leads to, behind the operator that the
// reference begins with.
func (s *substitution) resolve(reference, from string) (string, error) {
	operator, to := pattern.OperatorOf(strings.Trim(reference, "$()"))
	if to == "" {
		return "", fmt.Errorf("the reference %s%s has no path", reference, at(from))
	}
	if !path.IsAbs(to) {
		to = path.Join(from, to)
	}
	value := find(s.tree, "", to)
	if value == nil {
		return "", fmt.Errorf("the reference %s%s leads to nothing", reference, at(from))
	}
	if text, ok := value.(string); ok {
		return operator + text, nil
	}
	if operator != "" {
		switch v := value.(type) {
		case int:
			return operator + strconv.Itoa(v), nil
		case int64:
			return operator + strconv.FormatInt(v, 10), nil
		case float64:
			return operator + strconv.FormatFloat(v, 'f', 6, 64), nil
		}
	}
	return "", fmt.Errorf("the reference %s%s leads to what is no text", reference, at(from))
}

// find returns the scalar at a path, in which keys stand without their anchors. A path
// of a map leads to the last of its keys.
func find(tree any, here, to string) any {
	var found any
	switch t := tree.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(t))
		if len(keys) > 0 && withoutAnchors(here) == to {
			found = keys[len(keys)-1]
		}
		for _, key := range keys {
			if v := find(t[key], here+"/"+strings.ReplaceAll(key, "/", `\/`), to); v != nil {
				found = v
			}
		}
	case []any:
		for i, item := range t {
			if v := find(item, here+"/"+strconv.Itoa(i), to); v != nil {
				found = v
			}
		}
	default:
		if withoutAnchors(here) == to {
			return tree
		}
	}
	return found
}

func withoutAnchors(at string) string {
	names := strings.Split(strings.TrimPrefix(at, "/"), "/")
	for i, name := range names {
		_, names[i] = pattern.ParseAnchor(name)
	}
	joined := path.Join(names...)
	if path.IsAbs(at) {
		return "/" + joined
	}
	return joined
}
