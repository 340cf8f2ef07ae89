// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"path/filepath"
	"slices"
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
	text, err := readRegular(name)
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
// of that kind. Where that leads nowhere, because some of them were deleted, it
// is the only document whose name the built one holds, or, where nothing
// changes names, the one with the name. Where two documents fit, none does.
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
	var fitting, held, exact []*object.Object
	for _, source := range same {
		if fits(source.Name, built.Name, same, names) {
			fitting = append(fitting, source)
		}
		if strings.Contains(built.Name, source.Name) {
			held = append(held, source)
		}
		if source.Name == built.Name {
			exact = append(exact, source)
		}
	}
	switch {
	case len(fitting) == 1:
		return fitting[0]
	case len(fitting) == 0 && len(held) == 1:
		return held[0]
	case len(exact) == 1 && !l.renames():
		return exact[0]
	}
	return nil
}

// renames says whether the build may change names: some kustomization has a
// prefix, a suffix or transformers, or cannot be read.
func (l *Locator) renames() bool {
	for _, name := range l.rendered.Kustomizations {
		data, err := readRegular(name)
		if err != nil {
			return true
		}
		root, err := parse(name, data)
		if err != nil {
			return true
		}
		for _, field := range []string{"namePrefix", "nameSuffix", "transformers", "replacements", "vars"} {
			if root.Get(field) != nil {
				return true
			}
		}
	}
	return false
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
	here := s.source.Root.Lookup(path)
	if here != nil && !aligned(s.source.Root, root, path) {
		here = nil
	}
	if here != nil && here.Equal(value) {
		return position(s.base, s.source.Root, path)
	}
	if p, ok := s.inPatch(root, path, value.Equal); ok {
		return p
	}
	if merged(here, value) {
		p := position(s.base, s.source.Root, path)
		p.Note = "changed by " + s.relative(s.kustomization) + " or a patch"
		return p
	}
	return s.unknown()
}

// inPatch finds the one patch whose value at the path is the one looked for.
func (s *sources) inPatch(root *object.Node, path object.Path, wanted func(*object.Node) bool) (object.Position, bool) {
	var found []object.Position
	for _, p := range s.patches {
		if v := lookup(p.root, path); v != nil && wanted(v) && aligned(p.root, root, path) {
			found = append(found, position(p.file, p.root, path))
		}
	}
	if len(found) != 1 {
		return object.Position{}, false
	}
	return found[0], true
}

// lookup returns the value at a path, also one that is null.
func lookup(root *object.Node, path object.Path) *object.Node {
	if n := len(path) - 1; n >= 0 && !path[n].Item {
		above := root.Lookup(path[:n])
		if above == nil || above.Kind != object.Map {
			return nil
		}
		for _, field := range above.Fields {
			if field.Key == path[n].Field {
				return field.Value
			}
		}
		return nil
	}
	return root.Lookup(path)
}

// aligned says whether a path leads to the same place in a source as in what
// was built from it. An item that its place alone names must be the same, or
// all the others in its list; a key must name one item only.
func aligned(source, built *object.Node, path object.Path) bool {
	for i, step := range path {
		if !step.Item {
			continue
		}
		from, to := source.Lookup(path[:i]), built.Lookup(path[:i])
		if from == nil || to == nil {
			return true // the path ends above
		}
		if step.Key == "" && !inPlace(from.Items, to.Items, step.Index) || step.Key != "" && !unique(from, step.Key) {
			return false
		}
	}
	return true
}

// inPlace says whether two lists have the same item at a place, or the same
// items everywhere else.
func inPlace(from, to []*object.Node, index int) bool {
	if index >= len(from) || index >= len(to) {
		return true // the path ends above
	}
	if from[index].Equal(to[index]) {
		return true
	}
	if len(from) != len(to) {
		return false
	}
	for i := range from {
		if i != index && !from[i].Equal(to[i]) {
			return false
		}
	}
	return true
}

// unique says whether a key names one item of a list, or none.
func unique(list *object.Node, key string) bool {
	at := list.Lookup(object.Path{{Item: true, Key: key}})
	if at == nil {
		return true
	}
	return object.ItemStep(list, slices.Index(list.Items, at)).Key == key
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

// above returns the place for a field that the object does not have: where a
// patch takes it away, or else the nearest value above that the object has.
func (s *sources) above(root *object.Node, path object.Path) object.Position {
	_, steps := root.Nearest(path)
	gone, path := path[:steps+1], path[:steps]
	if p, ok := s.inPatch(root, gone, takesAway); ok {
		return p
	}
	if there(s.source.Root, root, gone) {
		p := s.unknown()
		p.Note = "removed by " + s.relative(s.kustomization) + " or a patch, line not known"
		return p
	}
	if there(s.source.Root, root, path) {
		return position(s.base, s.source.Root, path)
	}
	if p, ok := s.inPatch(root, path, root.Lookup(path).Equal); ok {
		return p
	}
	return s.unknown()
}

// takesAway says whether a value in a patch removes what it stands for.
func takesAway(v *object.Node) bool {
	return v.Kind == object.Null || v.Get("$patch").Str() == "delete"
}

// there says whether a source has a value, at the same place.
func there(source, built *object.Node, path object.Path) bool {
	v := source.Lookup(path)
	return v != nil && v.Kind != object.Null && aligned(source, built, path)
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
