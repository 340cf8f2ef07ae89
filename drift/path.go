// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"fmt"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Locate returns the path that a finding shows
// (spec.containers[app].securityContext.privileged), as steps into an object.
// It may lead beyond what the object has.
func Locate(root *object.Node, shown string) object.Path {
	var out object.Path
	for rest := shown; rest != ""; {
		rest = strings.TrimPrefix(rest, ".")
		if quoted, ok := strings.CutPrefix(rest, "['"); ok {
			field, after, found := strings.Cut(quoted, "']")
			if !found {
				return out
			}
			out, rest = append(out, object.Step{Field: field}), after
			continue
		}
		if key, ok := strings.CutPrefix(rest, "["); ok {
			name, after, found := strings.Cut(key, "]")
			if !found {
				return out
			}
			out, rest = append(out, itemStep(root.Lookup(out), name)), after
			continue
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return out
		}
		out, rest = append(out, object.Step{Field: rest[:end]}), rest[end:]
	}
	return out
}

// itemStep returns the step to the item of a list that is shown by a name, or
// by its place.
func itemStep(list *object.Node, name string) object.Step {
	index, err := strconv.Atoi(name)
	if list != nil && list.Kind == object.List {
		for i := range list.Items {
			if step := object.ItemStep(list, i); step.Key == name {
				return step
			}
		}
		if err == nil && index >= 0 && index < len(list.Items) {
			return object.ItemStep(list, index)
		}
	}
	return object.Step{Item: true, Key: name}
}

// Value returns what stands at a path of an object, as it is shown: what looks
// like a credential is not.
func Value(o *object.Object, path object.Path) string {
	n := o.Root.Lookup(path)
	text := n.Scalar()
	if n != nil && len(n.Items)+len(n.Fields) > 0 {
		text = fmt.Sprintf("a %s of %d", n.Kind, len(n.Items)+len(n.Fields))
	}
	if o.GroupKind() == (object.GroupKind{Kind: "Secret"}) {
		return verdict.Masked
	}
	mask := secret.MaskOf(o)
	return verdict.Redact(mask.Hide(text))
}

// pointer returns a JSON pointer (RFC 6901) with a field added.
func pointer(base, field string) string {
	return base + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(field)
}

func itemPointer(base string, i int) string { return base + "/" + strconv.Itoa(i) }
