// SPDX-License-Identifier: Apache-2.0

package regotest

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"

	"sconce.dev/sconce/policy/rego"
)

// needed returns the modules that a file of tests is run with. It fails where
// one of them is broken, or may be.
func (t *Tests) needed(file string) (map[string]*ast.Module, error) {
	out := map[string]*ast.Module{file: t.modules[file]}
	for todo := []string{file}; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		for _, ref := range references(t.modules[name]) {
			for _, other := range t.closest(name, ref, name == file && rego.IsTest(file)) {
				if out[other] == nil {
					out[other] = withoutTests(t.modules[other])
					todo = append(todo, other)
				}
			}
		}
	}
	folder := path.Dir(file)
	for _, name := range slices.Sorted(maps.Keys(t.broken)) {
		if path.Dir(name) == folder && !rego.IsTest(name) {
			return nil, t.broken[name]
		}
	}
	return out, nil
}

// references returns what a module refers to below data: its own package, what
// it imports, and what it names.
func references(m *ast.Module) []ast.Ref {
	found := map[string]ast.Ref{m.Package.Path.String(): m.Package.Path}
	ast.WalkRefs(m, func(ref ast.Ref) bool {
		if ref.HasPrefix(ast.DefaultRootRef) && len(ref) > 1 {
			if prefix := ref.GroundPrefix(); len(prefix) > 1 {
				found[prefix.String()] = prefix
			}
		}
		return false
	})
	out := make([]ast.Ref, 0, len(found))
	for _, key := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[key])
	}
	return out
}

// closest returns the files, other than the one that asks, that have what a
// reference is about, below the smallest folder around the file in which there
// are any. The package of the file itself is looked for in its own folder only,
// unless the file is one of tests.
func (t *Tests) closest(file string, ref ast.Ref, tests bool) []string {
	var all []string
	here := !tests && t.modules[file].Package.Path.Equal(ref)
	for _, name := range slices.Sorted(maps.Keys(t.modules)) {
		own := t.modules[name].Package.Path
		if name == file || !ref.HasPrefix(own) && !own.HasPrefix(ref) {
			continue
		}
		if (here || rego.IsTest(name)) && path.Dir(name) != path.Dir(file) {
			continue
		}
		all = append(all, name)
	}
	for folder := path.Dir(file); len(all) > 0; folder = path.Dir(folder) {
		var below []string
		for _, name := range all {
			if folder == "." && !path.IsAbs(name) || folder == "/" || strings.HasPrefix(name, folder+"/") {
				below = append(below, name)
			}
		}
		if len(below) > 0 {
			return below
		}
		if folder == "." || folder == "/" {
			return nil
		}
	}
	return nil
}

// withoutTests returns a module without its tests: they are run with their own
// file.
func withoutTests(m *ast.Module) *ast.Module {
	out := m.Copy()
	out.Rules = slices.DeleteFunc(out.Rules, func(r *ast.Rule) bool {
		name := testName(r)
		name = name[strings.LastIndexByte(name, '.')+1:]
		return strings.HasPrefix(name, tester.TestPrefix) || strings.HasPrefix(name, tester.SkipTestPrefix)
	})
	return out
}
