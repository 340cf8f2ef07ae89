// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"cmp"
	"slices"
)

// SortBranches sorts places by where they are written.
func SortBranches(branches []Branch) {
	slices.SortStableFunc(branches, func(a, b Branch) int {
		return cmp.Or(
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
			cmp.Compare(a.Policy, b.Policy),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Text, b.Text),
			-cmp.Compare(a.Way, b.Way), // true before false
		)
	})
}

// Cover returns the places of several reports, each once: hit where one of them
// hit it.
func Cover(reports []*Report) []Branch {
	type key struct {
		policy, rule, file, text, way string
		line, column                  int
	}
	at := map[key]int{}
	var out []Branch
	for _, r := range reports {
		for i := range r.Coverage {
			b := r.Coverage[i]
			k := key{b.Policy, b.Rule, b.Position.File, b.Text, b.Way, b.Position.Line, b.Position.Column}
			if have, ok := at[k]; ok {
				out[have].Hit = out[have].Hit || b.Hit
				continue
			}
			at[k] = len(out)
			out = append(out, b)
		}
	}
	SortBranches(out)
	return out
}
