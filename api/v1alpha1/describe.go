// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Standard is a published standard, by its title, and sections of it.
type Standard struct {
	Title    string
	Sections []string
}

// Standards returns the references as they are shown, ordered by name. Titles
// are those of the frameworks; one that has none is shown by its name.
func (r References) Standards(titles map[string]string) []Standard {
	var out []Standard
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if len(r[name]) > 0 {
			out = append(out, Standard{cmp.Or(titles[name], name), r[name]})
		}
	}
	return out
}

// Meets says whether the references name a framework, or a section of one or
// below it, written as in a Selector: cis-1.12, cis-1.12/5.2.
func (r References) Meets(reference string) bool {
	framework, section, narrow := strings.Cut(reference, "/")
	if !narrow {
		return len(r[framework]) > 0
	}
	return slices.ContainsFunc(r[framework], func(s string) bool {
		rest, ok := strings.CutPrefix(s, section)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '/')
	})
}

// Steps says in words what the fix edits, quoting paths and values.
func (f *Fix) Steps() []string {
	var out []string
	for _, path := range f.Remove {
		if path == "." {
			out = append(out, "remove the element")
			continue
		}
		out = append(out, fmt.Sprintf("remove `%s`", path))
	}
	for _, path := range slices.Sorted(maps.Keys(f.Set)) {
		out = append(out, fmt.Sprintf("set `%s` to `%s`", path, f.Set[path].RawMessage))
	}
	for _, path := range slices.Sorted(maps.Keys(f.Add)) {
		for _, v := range f.Add[path] {
			out = append(out, fmt.Sprintf("add `%s` to `%s`", v.RawMessage, path))
		}
	}
	return out
}
