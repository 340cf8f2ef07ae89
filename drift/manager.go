// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sconce.dev/sconce/object"
)

// Author is who set a field, as the API server remembers it.
type Author struct {
	// Manager is the name that the program gave itself (kubectl-edit, helm);
	// empty where nothing is known.
	Manager string `json:"manager,omitempty"`
	// Operation is Apply or Update, Subresource what was written ("scale"), if
	// it was not the object itself.
	Operation   string `json:"operation,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	// At is when the manager last changed something in the object.
	At time.Time `json:"at,omitzero"`
	// Guess says that nobody owns the field itself, as when it is absent: this
	// is who last changed what is nearest above it.
	Guess bool `json:"guess,omitempty"`
}

// Manager says who owns the field at a path of an object, given the object's
// managedFields. Of several owners it is the one that wrote last; if nobody owns
// it, who last wrote something below the nearest field above it that anybody
// owns. A removal leaves no trace in managedFields.
func Manager(root *object.Node, managers []metav1.ManagedFieldsEntry, path object.Path) Author {
	best, depth := -1, -1
	for i := range managers {
		m := &managers[i]
		if m.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(m.FieldsV1.GetRawReader()); err != nil {
			continue
		}
		d := owned(set, root, path)
		if d == 0 && m.Subresource == "status" {
			continue // it tells what is, and sets nothing
		}
		if d > depth || d == depth && !at(m).Before(at(&managers[best])) { // of the same second, the API server puts the later last
			best, depth = i, d
		}
	}
	if best < 0 {
		return Author{}
	}
	m := &managers[best]
	return Author{Manager: m.Manager, Operation: string(m.Operation), Subresource: m.Subresource, At: at(m), Guess: depth < len(path)}
}

func at(m *metav1.ManagedFieldsEntry) time.Time {
	if m.Time == nil {
		return time.Time{}
	}
	return m.Time.Time
}

// owned returns how far a path leads through what a manager owns. What is below
// a list or map that is owned as a whole is owned with it.
func owned(set *fieldpath.Set, root *object.Node, path object.Path) int {
	for i := range path {
		next, leaf := descend(set, root.Lookup(path[:i]), root.Lookup(path[:i+1]), path[i])
		switch {
		case next != nil:
			set = next
		case leaf && root.Lookup(path) != nil:
			return len(path)
		case leaf:
			return i + 1
		default:
			return i
		}
	}
	return len(path)
}

// descend returns what a manager owns below a step, nil if nothing; and whether
// it owns what is at the step.
func descend(set *fieldpath.Set, list, item *object.Node, step object.Step) (below *fieldpath.Set, leaf bool) {
	set.Members.Iterate(func(e fieldpath.PathElement) { leaf = leaf || matches(e, list, item, step) })
	set.Children.Iterate(func(e fieldpath.PathElement) {
		if below == nil && matches(e, list, item, step) {
			below = descendants(set, e)
		}
	})
	return below, leaf
}

func descendants(set *fieldpath.Set, e fieldpath.PathElement) *fieldpath.Set {
	below, ok := set.Children.Get(e)
	if !ok {
		return nil
	}
	return below
}

// matches says whether an element of a managed field's path is the step.
func matches(e fieldpath.PathElement, list, item *object.Node, step object.Step) bool {
	switch {
	case e.FieldName != nil:
		return !step.Item && *e.FieldName == step.Field
	case !step.Item || item == nil:
		return false
	case e.Key != nil:
		for _, f := range *e.Key {
			key := item.Get(f.Name)
			if key == nil && len(*e.Key) > 1 {
				continue // a default that the object does not say
			}
			if key == nil || !same(f.Value, key) {
				return false
			}
		}
		return true
	case e.Value != nil:
		return same(*e.Value, item)
	case e.Index != nil:
		return *e.Index < len(list.Items) && list.Items[*e.Index] == item
	}
	return false
}

// same says whether a value of a managed field's path is that of an object. A
// number may be read there as another type.
func same(v value.Value, n *object.Node) bool {
	return value.Equals(v, value.NewValueInterface(n.Any()))
}
