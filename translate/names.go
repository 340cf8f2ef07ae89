// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strconv"
	"strings"
)

// maxName is how long the name of an object of the API may be.
const maxName = 253

// Distinct gives translations that have the same kind and name other names: in a
// cluster, or in a folder, the later would take the place of the earlier. A note
// says so.
func (r *Result) Distinct() {
	used := map[string]bool{}
	for _, rule := range r.Rules {
		if len(rule.Documents) == 0 {
			continue
		}
		name := NameOf(rule.Documents[0])
		other := name
		for n := 2; rule.taken(used, name, other); n++ {
			suffix := "-" + strconv.Itoa(n)
			other = strings.TrimRight(name[:min(len(name), maxName-len(suffix))], "-.") + suffix
		}
		if other != name {
			rule.rename(name, other)
			rule.Notes = append(rule.Notes, "it is named "+other+", since another translation is named "+name)
		}
		for _, d := range rule.Documents {
			used[keyOf(d, NameOf(d))] = true
		}
	}
}

// taken says whether a document has the name of another, were the rule renamed.
func (r *Rule) taken(used map[string]bool, from, to string) bool {
	return slices.ContainsFunc(r.Documents, func(d Document) bool {
		return used[keyOf(d, to+strings.TrimPrefix(NameOf(d), from))]
	})
}

func keyOf(d Document, name string) string {
	kind, _ := d["kind"].(string)
	return kind + "/" + name
}

// rename renames the documents of a rule, and what refers to them.
func (r *Rule) rename(from, to string) {
	for _, d := range r.Documents {
		meta, _ := d["metadata"].(map[string]any)
		if meta == nil {
			continue
		}
		if rest, ok := strings.CutPrefix(NameOf(d), from); ok {
			meta["name"] = to + rest
		}
		if spec, ok := d["spec"].(map[string]any); ok && spec["policyName"] == from {
			spec["policyName"] = to
		}
	}
}

// NameOf returns the name of a document.
func NameOf(d Document) string {
	meta, _ := d["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
}
