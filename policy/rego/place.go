// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sconce.dev/sconce/object"
)

// named returns the place that a result names in its field path or field, as a
// text (spec.containers[0].image) or as a list of fields and indexes; nil where
// it names none that is in the document.
func named(result ast.Object, root *object.Node) object.Path {
	if root == nil {
		return nil
	}
	for _, key := range []string{"path", "field"} {
		t := result.Get(ast.InternedTerm(key))
		if t == nil {
			continue
		}
		if p := walk(root, words(t.Value)); p != nil {
			return p
		}
	}
	return nil
}

// words returns the fields and indexes of a path.
func words(v ast.Value) []string {
	switch v := v.(type) {
	case ast.String:
		return strings.FieldsFunc(string(v), func(r rune) bool { return strings.ContainsRune(".[]'\"/", r) })
	case *ast.Array:
		var out []string
		for i := range v.Len() {
			switch word := v.Elem(i).Value.(type) {
			case ast.String:
				out = append(out, string(word))
			case ast.Number:
				out = append(out, word.String())
			}
		}
		return out
	}
	return nil
}

// walk follows words as far as they lead; nil where not even the first does.
func walk(root *object.Node, words []string) object.Path {
	var path object.Path
	n := root
	for _, w := range words {
		var step object.Step
		if n.Kind == object.List {
			i, err := strconv.Atoi(w)
			if err != nil || i < 0 || i >= len(n.Items) {
				break
			}
			step, n = object.ItemStep(n, i), n.Items[i]
		} else {
			next := n.Get(w)
			if next == nil {
				break
			}
			step, n = object.Step{Field: w}, next
		}
		path = append(path, step)
	}
	return path
}

// mentioned returns the item of a list whose name stands in quotes in a message,
// or behind the word that says what it is (container web). Nil where there is
// none, or more than one: no place is better than a wrong one.
func mentioned(message string, root *object.Node) object.Path {
	names := quotedWords(message)
	if root == nil || len(names) == 0 {
		return nil
	}
	var all, containers []object.Path
	eachItem(root, nil, 0, func(list string, p object.Path, name string) {
		if !names[name] {
			return
		}
		all = append(all, p)
		if strings.HasSuffix(strings.ToLower(list), "containers") {
			containers = append(containers, p)
		}
	})
	switch {
	case len(all) == 1:
		return all[0]
	case len(containers) == 1:
		return containers[0]
	}
	return nil
}

// kindsOfItems are words behind which the name of an item stands.
var kindsOfItems = map[string]bool{"container": true, "initcontainer": true, "volume": true, "port": true, "env": true, "variable": true}

// quotedWords returns the words of a message that are names of something.
func quotedWords(message string) map[string]bool {
	const marks = "\"'`<>[](){}"
	out := map[string]bool{}
	before := ""
	for _, field := range strings.Fields(message) {
		field = strings.TrimRight(field, ",.;:")
		bare := strings.Trim(field, marks)
		if bare != "" && (len(bare) < len(field) || kindsOfItems[strings.ToLower(before)]) {
			out[bare] = true
		}
		before = strings.Trim(field, marks)
	}
	return out
}

// maxDepth is how far below the root names of items are looked for.
const maxDepth = 24

// eachItem calls f for each item of a list that has a name.
func eachItem(n *object.Node, path object.Path, depth int, f func(list string, p object.Path, name string)) {
	if depth > maxDepth {
		return
	}
	for i := range n.Fields {
		eachItem(n.Fields[i].Value, path.Fields(n.Fields[i].Key), depth+1, f)
	}
	list := ""
	if len(path) > 0 {
		list = path[len(path)-1].Field
	}
	for i, item := range n.Items {
		p := path.Append(object.ItemStep(n, i))
		if name := item.Get("name").Str(); name != "" {
			f(list, p, name)
		}
		eachItem(item, p, depth+1, f)
	}
}
