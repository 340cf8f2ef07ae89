// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"path/filepath"

	"sconce.dev/sconce/object"
)

// Owned returns the files and folders that the kustomization in a folder names,
// and those that the kustomizations it uses name, without links: what is judged
// by what it is built to. It reads only kustomization files, so it holds for an
// overlay that does not build, too.
func Owned(dir string) []string {
	o := owned{seen: map[string]bool{}}
	o.walk(dir)
	return o.names
}

// charts adds the vendored charts that a kustomization inflates.
func (o *owned) charts(dir string, root *object.Node) {
	home := root.At("helmGlobals", "chartHome").Str()
	if home == "" {
		home = "charts"
	}
	list := root.Get("helmCharts")
	if list == nil {
		return
	}
	for _, c := range list.Items {
		for _, name := range []string{filepath.Join(home, c.Get("name").Str()), c.Get("valuesFile").Str()} {
			if name, err := resolve(filepath.Join(dir, name)); err == nil {
				o.names = append(o.names, name)
			}
		}
	}
}

type owned struct {
	seen  map[string]bool
	names []string
}

func (o *owned) walk(dir string) {
	real, err := resolve(dir)
	if err != nil || o.seen[real] {
		return
	}
	o.seen[real] = true
	file := kustomizationIn(real)
	data, err := readRegular(file)
	if err != nil {
		return
	}
	root, err := parse(file, data)
	if err != nil {
		return
	}
	o.names = append(o.names, file)
	o.charts(real, root)
	for _, e := range entriesOf(file, root) {
		if remote(e.path) {
			continue
		}
		name, err := resolve(filepath.Join(real, e.path))
		if err != nil {
			continue
		}
		o.names = append(o.names, name)
		o.walk(name)
	}
}
