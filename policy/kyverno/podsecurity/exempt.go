// SPDX-License-Identifier: Apache-2.0

package podsecurity

import (
	"slices"
	"strings"
)

// Exempt returns what is left of violations after exclusions: the rule's own, or
// those of a PolicyException. The violations are those of the same pod; they are
// not changed.
//
// What a violation loses is what Kyverno takes away: for each field that the
// excluded part of the pod violates by itself, one field with the same path in a
// container of the same name.
func (s *Standard) Exempt(p *Pod, violations []Violation, exclude []Exclude) []Violation {
	if len(exclude) == 0 {
		return violations
	}
	out := slices.Clone(violations)
	for i := range out {
		out[i].Fields = slices.Clone(out[i].Fields)
	}
	for _, e := range exclude {
		for _, excluded := range s.of(e).violations(p.matching(e.Images)) {
			i := slices.IndexFunc(out, func(v Violation) bool { return v.Check == excluded.Check })
			if i < 0 {
				continue
			}
			out[i].Fields = e.subtract(out[i].Fields, excluded.Fields)
			if len(out[i].Fields) == 0 && len(excluded.Fields) > 0 {
				out = slices.Delete(out, i, i+1)
			}
		}
	}
	return out
}

// of returns the standard with no checks but those of an exclusion's control.
func (s *Standard) of(e Exclude) *Standard {
	return &Standard{checks: slices.DeleteFunc(slices.Clone(s.checks), func(c check) bool {
		return !slices.Contains(controls[e.ControlName], c.id)
	})}
}

// subtract takes excluded fields away.
func (e Exclude) subtract(fields, excluded []Field) []Field {
	for _, x := range excluded {
		if !e.covers(x) {
			continue
		}
		i := slices.IndexFunc(fields, func(f Field) bool { return e.same(f, x) })
		if i >= 0 {
			fields[i] = fields[len(fields)-1] // as Kyverno does: the order decides what goes next
			fields = fields[:len(fields)-1]
		}
	}
	return fields
}

// covers says whether a field is one that the exclusion names, with values that
// it names.
func (e Exclude) covers(f Field) bool {
	if e.RestrictedField != "" && e.RestrictedField != f.generic {
		return false
	}
	for _, v := range f.Values {
		if len(e.Values) > 0 && !anyMatches(e.Values, v) {
			return false
		}
	}
	return true
}

func (e Exclude) same(f, x Field) bool {
	if f.generic != x.generic {
		return false
	}
	inContainer := strings.HasPrefix(f.generic, "spec.") && strings.Contains(f.generic, "ontainers[*]")
	return len(e.Images) == 0 || !inContainer || f.container == x.container
}
