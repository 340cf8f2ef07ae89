// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Data are the documents that Rego finds below data.
type Data struct {
	values map[string]any
	files  map[string]string // that say the values, by their paths
}

// IsData says whether a file holds data for the Rego that it stands beside, by
// its name with slashes: data.yaml, data.json, or whatever is in a folder data.
func IsData(name string) bool {
	ext := path.Ext(name)
	if !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(ext)) {
		return false
	}
	return strings.TrimSuffix(path.Base(name), ext) == "data" || path.Base(path.Dir(name)) == "data"
}

// Add adds what a file of a folder says: a file data.yaml what is where its folder
// stands below the root, files of a folder data what is at the top. Documents that
// are objects of Kubernetes are none, nor are those that are no maps.
func (d *Data) Add(root, name string, text []byte) error {
	nodes, err := dataNodes(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	at := dataPath(root, name)
	for _, n := range nodes {
		if n == nil || n.Kind != object.Map || n.Get("apiVersion").Str() != "" && n.Get("kind").Str() != "" {
			continue
		}
		if err := d.AddAt(at, name, n.Any()); err != nil {
			return err
		}
	}
	return nil
}

// dataNodes are the documents of a file.
func dataNodes(text []byte) ([]*object.Node, error) {
	if object.IsJSON(text) {
		return object.ParseJSON(text)
	}
	var out []*object.Node
	for part := range object.Split(text) {
		n, err := object.ParseYAML(part)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// dataPath is where below data the documents of a file stand.
func dataPath(root, name string) []string {
	folder := path.Dir(path.Clean(name))
	if path.Base(folder) == "data" {
		return nil
	}
	if root = path.Clean(root); root != "." {
		within, ok := strings.CutPrefix(folder, strings.TrimSuffix(root, "/")+"/")
		if !ok {
			return nil
		}
		folder = within
	}
	if folder == "." {
		return nil
	}
	return strings.Split(strings.Trim(folder, "/"), "/")
}

// AddAt adds a document, a map, at a place below data.
func (d *Data) AddAt(at []string, file string, doc any) error {
	fields, ok := doc.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: data of Rego is a map of names", file)
	}
	for _, word := range slices.Backward(at) {
		fields = map[string]any{word: fields}
	}
	if d.values == nil {
		d.values, d.files = map[string]any{}, map[string]string{}
	}
	return d.merge(d.values, fields, "data", file)
}

// merge adds fields to those that there are. What two files say differently is
// an error: none of them can be taken for the other.
func (d *Data) merge(to, from map[string]any, at, file string) error {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		here := at + "." + name
		old, there := to[name]
		if !there {
			to[name], d.files[here] = from[name], file
			continue
		}
		oldMap, ok1 := old.(map[string]any)
		newMap, ok2 := from[name].(map[string]any)
		switch {
		case ok1 && ok2:
			if err := d.merge(oldMap, newMap, here, file); err != nil {
				return err
			}
		case !reflect.DeepEqual(old, from[name]):
			return fmt.Errorf("%s: %s is something else in %s: Rego finds both at one place", file, here, d.file(here))
		}
	}
	return nil
}

// file is the file that says a value: the one that added it, or what it is in.
func (d *Data) file(at string) string {
	for {
		if f, ok := d.files[at]; ok {
			return f
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			return "another file"
		}
		at = at[:i]
	}
}

// Values are the documents, by their names.
func (d *Data) Values() map[string]any { return d.values }
