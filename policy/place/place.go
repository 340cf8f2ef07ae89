// SPDX-License-Identifier: Apache-2.0

// Package place finds what a message of a policy is about, where the policy says no
// more than the message: as far as the words name one thing of the object, a
// container, an item of another list, a field. No place is better than a wrong one.
package place

import (
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Of returns the part of an object that a message is about, as far as it
// names one thing: a container, an item of another list, a field of it, a field
// that is not there. Where the words fit several, or none, it is the object.
func Of(root *object.Node, message string) object.Path {
	words := wordsOf(message)
	base := element(root, words)
	at := root.Lookup(base)
	if path, ok := dotted(at, words); ok {
		return base.Append(path...)
	}
	if path, ok := dotted(root, words); ok && len(base) == 0 {
		return path
	}
	if path := fieldOf(at, words); len(path) > 0 || len(base) > 0 {
		return base.Append(path...)
	}
	if path := valueOf(root, words); path != nil {
		return path
	}
	return unset(root, words)
}

// valueOf returns the one field whose value the words name: a type, a version, an
// address. Plain words are in any text.
func valueOf(root *object.Node, words map[string]bool) object.Path {
	var found object.Path
	count := 0
	walk(root, func(path object.Path, n *object.Node) {
		if n.Kind != object.String || len(path) == 0 || !words[n.Text] || !telling(n.Text) {
			return
		}
		switch last := path[len(path)-1].Field; {
		case last == "kind", last == "name", last == "namespace":
			return
		}
		found = slices.Clone(path)
		count++
	})
	if count != 1 {
		return nil
	}
	return found
}

// telling says whether a text is no word of a sentence.
func telling(s string) bool {
	return len(s) > 3 && (strings.ContainsAny(s, "/:._0123456789") || strings.ToLower(s[1:]) != s[1:])
}

// unset returns the field that the words ask for where it is not there: labels,
// annotations, and what is often set for a whole pod.
func unset(root *object.Node, words map[string]bool) object.Path {
	pod := podOf(root)
	for _, f := range []struct {
		words []string
		in    object.Path
		path  []string
	}{
		{[]string{"fsGroup"}, pod, []string{"securityContext", "fsGroup"}},
		{[]string{"runAsUser"}, pod, []string{"securityContext", "runAsUser"}},
		{[]string{"runAsGroup"}, pod, []string{"securityContext", "runAsGroup"}},
		{[]string{"runAsNonRoot"}, pod, []string{"securityContext", "runAsNonRoot"}},
		{[]string{"automountServiceAccountToken"}, pod, []string{"automountServiceAccountToken"}},
		{[]string{"replicas"}, object.Path{{Field: "spec"}}, []string{"replicas"}},
		{[]string{"label", "labels"}, object.Path{{Field: "metadata"}}, []string{"labels"}},
		{[]string{"annotation", "annotations"}, object.Path{{Field: "metadata"}}, []string{"annotations"}},
	} {
		if f.in != nil && root.Lookup(f.in) != nil && slices.ContainsFunc(f.words, func(w string) bool { return words[w] }) {
			return f.in.Fields(f.path...)
		}
	}
	return nil
}

// podOf is where the spec of the pod stands that an object is, or makes; nil where
// there is none.
func podOf(root *object.Node) object.Path {
	for _, steps := range [][]string{{"spec", "jobTemplate", "spec", "template", "spec"}, {"spec", "template", "spec"}, {"spec"}} {
		if spec := root.At(steps...); spec.Get("containers") != nil {
			return object.Path(nil).Fields(steps...)
		}
	}
	return nil
}

// wordsOf returns the words of a message, without the marks around them.
func wordsOf(message string) map[string]bool {
	const most = 16 << 10
	out := map[string]bool{}
	for _, w := range strings.FieldsFunc(message[:min(len(message), most)], func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@-", r)
	}) {
		out[strings.Trim(w, ".:-/")] = true
	}
	delete(out, "")
	return out
}

// element returns the one item of a list that the words name; a container goes
// before others, and a name before an image. A name that is the object's, too, is
// an item's only where the words speak of containers.
func element(root *object.Node, words map[string]bool) object.Path {
	var containers, images, others []object.Path
	own, ofContainers := root.At("metadata", "name").Str(), false
	for word := range words {
		ofContainers = ofContainers || strings.Contains(strings.ToLower(word), "container")
	}
	walk(root, func(path object.Path, n *object.Node) {
		if len(path) < 2 || !path[len(path)-1].Item || n.Kind != object.Map {
			return
		}
		name, list := n.Get("name").Str(), path[len(path)-2].Field
		container := slices.Contains(object.ContainerLists[:], list)
		named := words[name] && (name != own || container && ofContainers)
		switch {
		case named && container:
			containers = append(containers, slices.Clone(path))
		case container && words[n.Get("image").Str()]:
			images = append(images, slices.Clone(path))
		case named:
			others = append(others, slices.Clone(path))
		}
	})
	for _, found := range [][]object.Path{containers, images, others} {
		if len(found) == 1 {
			return found[0]
		}
		if len(found) > 1 {
			return nil
		}
	}
	return nil
}

// dotted returns the one path of several fields that the words name.
func dotted(n *object.Node, words map[string]bool) (object.Path, bool) {
	var found object.Path
	count := 0
	for word := range words {
		if !strings.Contains(word, ".") {
			continue
		}
		fields, err := object.ParseFields(word)
		if err != nil || len(fields) < 2 {
			continue
		}
		if path := object.Path(nil).Fields(fields...); n.Lookup(path) != nil {
			found = path
			count++
		}
	}
	return found, count == 1
}

// common are the fields that messages name without being about them.
var common = []string{"apiVersion", "containers", "kind", "metadata", "name", "namespace", "spec", "template", "type", "value"}

// fieldOf returns the one field that the words name, or the deepest of those that
// lie in each other.
func fieldOf(n *object.Node, words map[string]bool) object.Path {
	var found []object.Path
	walk(n, func(path object.Path, _ *object.Node) {
		if last := len(path) - 1; last >= 0 && !path[last].Item && words[path[last].Field] && !slices.Contains(common, path[last].Field) {
			found = append(found, slices.Clone(path))
		}
	})
	var deepest object.Path
	for _, path := range found {
		if len(path) > len(deepest) {
			deepest = path
		}
	}
	for _, path := range found {
		if !slices.Equal(path, deepest[:len(path)]) {
			return nil
		}
	}
	return deepest
}

// maxWalked is how many values a place is looked for in.
const maxWalked = 20000

// walk calls f with the values of a tree, from the top. The path is f's for the
// time of the call.
func walk(root *object.Node, f func(object.Path, *object.Node)) {
	left := maxWalked
	path := make(object.Path, 0, 16)
	var down func(*object.Node)
	down = func(n *object.Node) {
		if left--; left < 0 || n == nil {
			return
		}
		f(path, n)
		for i := range n.Fields {
			path = append(path, object.Step{Field: n.Fields[i].Key})
			down(n.Fields[i].Value)
			path = path[:len(path)-1]
		}
		for i, item := range n.Items {
			path = append(path, object.ItemStep(n, i))
			down(item)
			path = path[:len(path)-1]
		}
	}
	down(root)
}
