// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"os"
	"path/filepath"
	"strings"

	"sconce.dev/sconce/object"
)

// Locator finds the lines of what an overlay built. It reads the files of the
// build from disk as it needs them. It is for one goroutine; the functions that
// it returns are for any number.
type Locator struct {
	rendered *Rendered
	files    map[string]*file
}

// NewLocator returns a Locator for the objects of a build.
func NewLocator(r *Rendered) *Locator {
	return &Locator{rendered: r, files: map[string]*file{}}
}

// file is a file of the build, parsed.
type file struct {
	name    string
	lines   []string
	objects []*object.Object
}

// line returns line n, from 1, without its line break.
func (f *file) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return strings.TrimSuffix(f.lines[n-1], "\r")
}

// file reads and parses a file once. What is no Kubernetes object in it is left
// out.
func (l *Locator) file(name string) *file {
	if f, ok := l.files[name]; ok {
		return f
	}
	f := &file{name: name}
	l.files[name] = f
	text, err := os.ReadFile(name)
	if err != nil || len(text) > object.MaxDocument {
		return f
	}
	f.lines = strings.Split(string(text), "\n")
	for doc := range object.Split(text) {
		root, err := object.ParseYAML(doc)
		if err != nil || root == nil {
			continue
		}
		objects, err := object.FromNode(root, &object.Origin{Source: name})
		if err == nil {
			f.objects = append(f.objects, objects...)
		}
	}
	return f
}

// Locate returns the function that an object's Origin needs: it maps a path in
// the object that was built to the file that a person edits. It never guesses:
// where the line cannot be known, the position has none and says why. built
// names the object as it was built.
func (l *Locator) Locate(o Obj, built object.Ref) func(root *object.Node, path object.Path) object.Position {
	s := sources{dir: l.rendered.Dir, kustomization: l.kustomization(o), generator: o.Generator}
	if o.Origin != "" {
		s.base = l.file(o.Origin)
		s.source = l.match(s.base.objects, o.Origin, built)
	}
	if s.source != nil {
		s.patches = l.patches(o.Origin, s.source.Ref, built)
	}
	return s.locate
}

// kustomization returns the file to name where nothing better is known.
func (l *Locator) kustomization(o Obj) string {
	switch {
	case o.ConfiguredIn != "":
		return o.ConfiguredIn
	case len(l.rendered.Kustomizations) > 0:
		return l.rendered.Kustomizations[0]
	}
	return l.rendered.Dir
}

// match finds the document that an object was built from: the same kind, and
// the name, or one that a prefix and a suffix make into the name. The same
// prefix and suffix must make the names of what else was built from documents
// of that kind. Where two documents fit, none does.
func (l *Locator) match(objects []*object.Object, file string, built object.Ref) *object.Object {
	var same []*object.Object
	for _, source := range objects {
		if source.GroupKind() == built.GroupKind() && source.Name != "" {
			same = append(same, source)
		}
	}
	names := map[string]bool{}
	for _, other := range l.rendered.Objects {
		if other.Origin == file && other.Ref.GroupKind() == built.GroupKind() {
			names[other.Ref.Name] = true
		}
	}
	var found []*object.Object
	for _, source := range same {
		if fits(source.Name, built.Name, same, names) {
			found = append(found, source)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// fits says whether some prefix and suffix make a name into the built one, and
// the names of the other documents into built ones too.
func fits(name, made string, same []*object.Object, built map[string]bool) bool {
	for i := 0; i+len(name) <= len(made); i++ {
		if made[i:i+len(name)] != name {
			continue
		}
		prefix, suffix := made[:i], made[i+len(name):]
		all := true
		for _, other := range same {
			all = all && built[prefix+other.Name+suffix]
		}
		if all {
			return true
		}
	}
	return false
}

// patch is a document of a patch and the file that it stands in.
type patch struct {
	file *file
	root *object.Node
}

// patches returns the documents of the build's other files that patch the
// object: the same kind, and its name before or after the build.
func (l *Locator) patches(origin string, source, built object.Ref) []patch {
	var out []patch
	for _, name := range l.rendered.Files {
		if name == origin || !isYAML(name) || isKustomization(filepath.Base(name)) {
			continue
		}
		f := l.file(name)
		for _, p := range f.objects {
			if p.GroupKind() == source.GroupKind() && (p.Name == source.Name || p.Name == built.Name) {
				out = append(out, patch{f, p.Root})
			}
		}
	}
	return out
}

func isYAML(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// sources are where one object's fields may stand.
type sources struct {
	dir, kustomization string
	base               *file
	source             *object.Object
	patches            []patch
	generator          string
}

// locate implements Locate.
func (s *sources) locate(root *object.Node, path object.Path) object.Position {
	if s.source == nil {
		return s.unknown()
	}
	value := root.Lookup(path)
	if value == nil {
		return s.above(root, path)
	}
	if here := s.source.Root.Lookup(path); here != nil && here.Equal(value) {
		return position(s.base, s.source.Root, path)
	}
	if p, ok := s.inPatch(path, value); ok {
		return p
	}
	if here := s.source.Root.Lookup(path); merged(here, value) {
		p := position(s.base, s.source.Root, path)
		p.Note = "changed by " + s.relative(s.kustomization) + " or a patch"
		return p
	}
	return s.unknown()
}

// inPatch finds the one patch that sets the value.
func (s *sources) inPatch(path object.Path, value *object.Node) (object.Position, bool) {
	var found []object.Position
	for _, p := range s.patches {
		if v := p.root.Lookup(path); v != nil && v.Equal(value) {
			found = append(found, position(p.file, p.root, path))
		}
	}
	if len(found) != 1 {
		return object.Position{}, false
	}
	return found[0], true
}

// merged says whether a value of the base is the place to edit although the
// build changed something in it: a map, or a list of maps, that patches add to.
func merged(base, built *object.Node) bool {
	if base == nil || base.Kind != built.Kind {
		return false
	}
	switch base.Kind {
	case object.Map:
		return true
	case object.List:
		return len(base.Items) > 0 && base.Items[0].Kind == object.Map
	}
	return false
}

// above returns the nearest place above a field that the object does not have.
func (s *sources) above(root *object.Node, path object.Path) object.Position {
	_, steps := root.Nearest(path)
	for path = path[:steps]; ; path = path[:len(path)-1] {
		if s.source.Root.Lookup(path) != nil {
			return position(s.base, s.source.Root, path)
		}
		var found []object.Position
		for _, p := range s.patches {
			if p.root.Lookup(path) != nil {
				found = append(found, position(p.file, p.root, path))
			}
		}
		if len(found) == 1 {
			return found[0]
		}
	}
}

// position returns the place of a path in a document.
func position(f *file, root *object.Node, path object.Path) object.Position {
	spot, _ := root.SpotOf(path)
	return object.Position{File: f.name, Line: spot.Line, Column: spot.Col, Quote: f.line(spot.Line), QuoteColumn: spot.Col}
}

// unknown returns a place without a line.
func (s *sources) unknown() object.Position {
	by := s.relative(s.kustomization)
	switch {
	case s.generator != "":
		return object.Position{File: s.kustomization, Note: "generated by " + s.generator + " in " + by + ", line not known"}
	case s.base != nil && s.source == nil:
		return object.Position{File: s.base.name, Note: "which of its documents the object was built from is not known"}
	case s.base != nil:
		return object.Position{File: s.base.name, Note: "set by " + by + " or a patch, line not known"}
	}
	return object.Position{File: s.kustomization, Note: "set by " + by + ", line not known"}
}

// relative returns a file's name as seen from the overlay.
func (s *sources) relative(name string) string {
	if rel, err := filepath.Rel(s.dir, name); err == nil {
		return rel
	}
	return name
}
