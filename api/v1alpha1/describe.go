// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
)

// Standard is a published standard and sections of it.
type Standard struct {
	Name     string
	Sections []string
}

// Standards returns the references as they are shown: those that are there, the
// most specific first.
func (r *References) Standards() []Standard {
	var out []Standard
	add := func(name string, sections []string) {
		if len(sections) > 0 {
			out = append(out, Standard{name, sections})
		}
	}
	if ps := r.PodSecurity; ps != nil {
		add("Pod Security Standards", []string{fmt.Sprintf("%s (%s)", ps.Level, ps.Check)})
	}
	add("CIS Kubernetes Benchmark 1.12", r.CISKubernetes)
	add("NSA/CISA Kubernetes Hardening Guide 1.2", r.NSA)
	add("MITRE ATT&CK", r.Attack)
	add("OWASP Kubernetes Top 10, 2025", r.OWASP)
	add("OWASP Kubernetes Top 10, 2022", r.OWASP2022)
	add("NIST SP 800-53 r5", r.NIST80053)
	return out
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
