// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"

	"sconce.dev/sconce/object"
)

// checker walks the kustomization files of an overlay before it is built, and
// refuses what a build must not do.
type checker struct {
	opts Options
	root string
	// files are the kustomization files, the top one first.
	files []string
	seen  map[string]bool
	// entries are where a path is written, by the path as it is written.
	entries map[string]entry
}

// entry is a path in a kustomization file.
type entry struct {
	file      string
	line, col int
	field     string
	path      string
}

// spot returns an error at the entry.
func (e entry) errorf(format string, args ...any) error {
	return &Error{File: e.file, Line: e.line, Col: e.col, Msg: fmt.Sprintf(format, args...)}
}

// check looks at the kustomization in a folder and at those that it uses. from
// is the entry that names it, nil for the top one.
func (c *checker) check(dir string, from *entry) error {
	if c.seen[dir] {
		return nil
	}
	c.seen[dir] = true
	file := kustomizationIn(dir)
	if file == "" {
		if from != nil {
			return from.errorf("%s %q is a folder without a kustomization file", from.field, from.path)
		}
		return &Error{File: dir, Msg: "no kustomization file here"}
	}
	c.files = append(c.files, file)
	data, err := readRegular(file)
	if err != nil {
		return &Error{File: file, Msg: plain(err)}
	}
	root, err := parse(file, data)
	if err != nil {
		return err
	}
	if err := c.helm(file, root); err != nil {
		return err
	}
	for _, e := range entriesOf(file, root) {
		if err := c.entry(dir, e); err != nil {
			return err
		}
	}
	return nil
}

// helm refuses charts unless they are asked for.
func (c *checker) helm(file string, root *object.Node) error {
	for _, field := range []string{"helmCharts", "helmChartInflationGenerator"} {
		if n := root.Get(field); n != nil && !c.opts.EnableHelm {
			spot, _ := root.SpotOf(object.Path{{Field: field}})
			return &Error{File: file, Line: spot.Line, Col: spot.Col, Msg: field + " inflates Helm charts: pass --enable-helm to have Sconce render them"}
		}
	}
	return nil
}

// entry refuses what lies elsewhere and goes into folders.
func (c *checker) entry(dir string, e entry) error {
	if c.entries == nil {
		c.entries = map[string]entry{}
	}
	if _, ok := c.entries[e.path]; !ok {
		c.entries[e.path] = e
	}
	if remote(e.path) {
		return e.errorf("%s %q is remote: vendor it (`kustomize localize`, or a copy in this repository); Sconce does not use the network", e.field, e.path)
	}
	target := filepath.Join(dir, e.path)
	real, err := resolve(target)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return e.errorf("%s %q is not there", e.field, e.path)
		}
		return e.errorf("%s %q: %s", e.field, e.path, plain(err))
	}
	if c.root != "" && !within(c.root, real) {
		return e.errorf("%s %q leads out of %s: it is not read", e.field, e.path, c.root)
	}
	info, err := os.Stat(real)
	if err == nil && info.IsDir() && slices.Contains(folders, e.field) {
		return c.check(real, &e)
	}
	return nil
}

// folders are the fields whose entries may be folders with a kustomization.
var folders = []string{"resources", "bases", "components", "generators", "transformers", "validators"}

// entriesOf returns every path that a kustomization file names. Entries with
// more than one line are inline documents.
func entriesOf(file string, root *object.Node) []entry {
	var out []entry
	add := func(field string, n *object.Node) {
		if n == nil || n.Kind != object.String || strings.Contains(n.Text, "\n") || n.Text == "" {
			return
		}
		out = append(out, entry{file, int(n.Line), int(n.Col), field, n.Text})
	}
	items := func(n *object.Node) []*object.Node {
		if n == nil {
			return nil
		}
		return n.Items
	}
	for _, field := range append(slices.Clone(folders), "crds", "configurations", "patchesStrategicMerge") {
		for _, n := range items(root.Get(field)) {
			add(field, n)
		}
	}
	for _, field := range []string{"patches", "patchesJson6902", "replacements"} {
		for _, n := range items(root.Get(field)) {
			add(field, n.Get("path"))
		}
	}
	for _, field := range []string{"configMapGenerator", "secretGenerator"} {
		for _, n := range items(root.Get(field)) {
			add(field, n.Get("env"))
			for _, f := range items(n.Get("envs")) {
				add(field, f)
			}
			for _, f := range items(n.Get("files")) {
				if _, path, ok := strings.Cut(f.Str(), "="); ok {
					f = &object.Node{Kind: object.String, Line: f.Line, Col: f.Col, Text: path}
				}
				add(field, f)
			}
		}
	}
	add("openapi", root.At("openapi", "path"))
	return out
}

var userAtHost = regexp.MustCompile(`^[\w.-]+@[\w.-]+:`)

// remote says whether Kustomize would take a path for something to fetch.
func remote(path string) bool {
	lower := strings.ToLower(path)
	for _, prefix := range []string{"github.com/", "github.com:", "git::", "gh:", "http:", "https:", "ssh:", "file:"} {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return strings.Contains(path, "://") || userAtHost.MatchString(path) ||
		strings.Contains(path, "?ref=") || strings.Contains(path, "&ref=") || strings.Contains(path, "?version=")
}

// kustomizationIn returns the kustomization file of a folder, or "".
func kustomizationIn(dir string) string {
	for _, base := range konfig.RecognizedKustomizationFileNames() {
		if name := filepath.Join(dir, base); exists(name) {
			return name
		}
	}
	return ""
}

func exists(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// parse reads a kustomization file: its first document.
func parse(file string, data []byte) (*object.Node, error) {
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		var syntax *object.SyntaxError
		if errors.As(err, &syntax) {
			return nil, &Error{File: file, Line: syntax.Line, Col: syntax.Col, Msg: syntax.Msg}
		}
		if err != nil {
			return nil, &Error{File: file, Msg: err.Error()}
		}
		return root, nil
	}
	return nil, &Error{File: file, Msg: "the kustomization file is empty"}
}
