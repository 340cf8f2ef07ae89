// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"path/filepath"
	"slices"
)

// Root is a folder with a kustomization file.
type Root struct {
	// Dir is the folder as the caller named it.
	Dir string
	// Component says that it is a kind: Component, which is only a part.
	Component bool
	// UsedBy are the folders whose kustomizations name it, as the caller named
	// them.
	UsedBy []string
}

// Top says whether the folder is built by itself: nothing uses it and it is no
// component.
func (r Root) Top() bool { return !r.Component && len(r.UsedBy) == 0 }

// Roots says of folders with a kustomization file which of them are used by
// others. Those that only use one another, in a circle, count as used by
// nothing, so that building them shows the error. A folder whose kustomization
// cannot be read uses nothing.
func Roots(dirs []string) []Root {
	roots := make([]Root, len(dirs))
	index := map[string]int{}
	for i, dir := range dirs {
		roots[i].Dir = dir
		if real, err := resolve(dir); err == nil {
			index[real] = i
		}
	}
	uses := make([][]int, len(dirs))
	for i, dir := range dirs {
		var names []string
		names, roots[i].Component = used(dir)
		for _, name := range names {
			if j, ok := index[name]; ok && j != i && !slices.Contains(uses[i], j) {
				uses[i] = append(uses[i], j)
				roots[j].UsedBy = append(roots[j].UsedBy, dir)
			}
		}
	}
	breakCircles(roots, uses)
	return roots
}

// used returns the resolved folders that a kustomization names.
func used(dir string) (names []string, component bool) {
	file := kustomizationIn(dir)
	data, err := readRegular(file)
	if err != nil {
		return nil, false
	}
	root, err := parse(file, data)
	if err != nil {
		return nil, false
	}
	for _, e := range entriesOf(file, root) {
		if !slices.Contains(folders, e.field) || remote(e.path) {
			continue
		}
		if real, err := resolve(filepath.Join(dir, e.path)); err == nil {
			names = append(names, real)
		}
	}
	return names, root.Get("kind").Str() == "Component"
}

// breakCircles makes one folder of each circle that no top folder leads into a
// top folder.
func breakCircles(roots []Root, uses [][]int) {
	reached := make([]bool, len(roots))
	var reach func(i int)
	reach = func(i int) {
		if reached[i] {
			return
		}
		reached[i] = true
		for _, j := range uses[i] {
			reach(j)
		}
	}
	for i := range roots {
		if len(roots[i].UsedBy) == 0 {
			reach(i)
		}
	}
	for i := range roots {
		if !reached[i] {
			roots[i].UsedBy = nil
			reach(i)
		}
	}
}
