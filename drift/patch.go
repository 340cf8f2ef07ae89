// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"encoding/json"
	"fmt"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"sconce.dev/sconce/object"
)

// Op is one operation of a JSON patch (RFC 6902).
type Op struct {
	Op   string `json:"op"` // test, add, remove, replace
	Path string `json:"path"`
	// Value is JSON; a test for null is one for a field that is not there.
	Value json.RawMessage `json:"value,omitempty"`
}

// Ops are a JSON patch. It tests everything that it changes, and the names of
// the list items on the way.
type Ops []Op

// JSON returns the patch as it is sent. Characters are escaped as the API server
// does it, since it compares the texts of what is tested.
func (p Ops) JSON() []byte {
	out, err := json.Marshal(p)
	if err != nil {
		return nil // values are JSON already
	}
	return out
}

// Apply makes the patch in an object's tree, as the API server does: with the
// same library, so that a test means the same.
func (p Ops) Apply(root *object.Node) (*object.Node, error) {
	doc, err := json.Marshal(root.Any())
	if err != nil {
		return nil, fmt.Errorf("writing the object as JSON: %w", err)
	}
	patch, err := jsonpatch.DecodePatch(p.JSON())
	if err != nil {
		return nil, fmt.Errorf("reading the patch: %w", err)
	}
	doc, err = patch.Apply(doc)
	if err != nil {
		return nil, err
	}
	roots, err := object.ParseJSON(doc)
	if err != nil || len(roots) != 1 {
		return nil, fmt.Errorf("the patched object is not one: %w", err)
	}
	return roots[0], nil
}

// between returns the patch that makes one tree into the other.
func between(from, to *object.Node) Ops {
	var d differ
	d.value("", from, to)
	return d.ops
}

type differ struct{ ops Ops }

func (d *differ) add(op, path string, v *object.Node) {
	o := Op{Op: op, Path: path}
	if op != "remove" {
		o.Value = raw(v)
	}
	d.ops = append(d.ops, o)
}

// raw returns a value as JSON; of one that is absent, null.
func raw(n *object.Node) json.RawMessage {
	out, err := json.Marshal(n.Any())
	if err != nil {
		return json.RawMessage("null") // a tree that was parsed holds no such number
	}
	return out
}

func (d *differ) value(path string, from, to *object.Node) {
	switch {
	case from.Equal(to):
	case from.Kind == object.Map && to.Kind == object.Map:
		d.fields(path, from, to)
	case from.Kind == object.List && to.Kind == object.List:
		d.items(path, from, to)
	default:
		d.add("test", path, from)
		d.add("replace", path, to)
	}
}

func (d *differ) fields(path string, from, to *object.Node) {
	for _, f := range from.Fields {
		if f.Value.Kind == object.Null {
			continue
		}
		at := pointer(path, f.Key)
		if other := to.Get(f.Key); other != nil {
			d.value(at, f.Value, other)
			continue
		}
		d.add("test", at, f.Value)
		d.add("remove", at, nil)
	}
	for _, f := range to.Fields {
		if f.Value.Kind != object.Null && from.Get(f.Key) == nil {
			at := pointer(path, f.Key)
			d.add("test", at, nil)
			d.add("add", at, f.Value)
		}
	}
}

// items changes a list. Where items only came, or only went, the others are left
// where they are.
func (d *differ) items(path string, from, to *object.Node) {
	start := 0
	for start < min(len(from.Items), len(to.Items)) && from.Items[start].Equal(to.Items[start]) {
		start++
	}
	end := 0
	for end < min(len(from.Items), len(to.Items))-start && from.Items[len(from.Items)-1-end].Equal(to.Items[len(to.Items)-1-end]) {
		end++
	}
	old, fresh := from.Items[start:len(from.Items)-end], to.Items[start:len(to.Items)-end]
	switch {
	case len(from.Items) == len(to.Items) && sameNames(old, fresh):
		for i := range old {
			d.item(itemPointer(path, start+i), old[i], fresh[i])
		}
	case plain(from) && plain(to):
		d.add("test", path, from)
		d.add("replace", path, to)
	case len(old) == 0:
		if start > 0 {
			d.named(itemPointer(path, start-1), from.Items[start-1])
		}
		for i, n := range fresh {
			d.add("add", itemPointer(path, start+i), n)
		}
	case len(fresh) == 0:
		for i := len(old) - 1; i >= 0; i-- {
			at := itemPointer(path, start+i)
			d.add("test", at, old[i])
			d.add("remove", at, nil)
		}
	default:
		d.add("test", path, from)
		d.add("replace", path, to)
	}
}

// item changes an item that is still the same one.
func (d *differ) item(path string, from, to *object.Node) {
	if from.Equal(to) {
		return
	}
	d.named(path, from)
	d.value(path, from, to)
}

// named tests that an item is the one that was seen.
func (d *differ) named(path string, item *object.Node) {
	if field := item.NameField(); field != "" {
		d.add("test", pointer(path, field), item.Get(field))
	}
}

// sameNames says whether the items of two lists are maps of the same names, in
// the same order.
func sameNames(a, b []*object.Node) bool {
	for i := range a {
		field := a[i].NameField()
		if field == "" || field != b[i].NameField() || !a[i].Get(field).Equal(b[i].Get(field)) {
			return false
		}
	}
	return true
}

// plain says whether a list holds nothing but strings, numbers and booleans.
func plain(list *object.Node) bool {
	for _, n := range list.Items {
		if n.Kind == object.Map || n.Kind == object.List {
			return false
		}
	}
	return true
}

// Command returns the kubectl command that sends a patch, for a person to paste
// into a shell.
func Command(ref object.Ref, p Ops) string {
	resource := strings.ToLower(ref.Kind)
	switch group := ref.Group(); group {
	case "", "apps", "batch":
	default:
		resource += "." + group
	}
	words := []string{"kubectl", "patch", resource, ref.Name}
	if ref.Namespace != "" {
		words = append(words, "-n", ref.Namespace)
	}
	words = append(words, "--type=json", "-p", string(p.JSON()))
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// quote returns a word as a POSIX shell takes it.
func quote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
