// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Modules are Rego files that were compiled together.
type Modules struct {
	compiler *ast.Compiler
	store    storage.Store
	data     map[string]any // what is in the store
	opts     policy.Options
	problems []policy.Problem
	// broken are the packages of which a file is refused, with its name.
	broken []brokenPackage
}

type brokenPackage struct {
	path ast.Ref
	file string
}

// Compile reads files and compiles them together. What is wrong with one costs
// that file, and what needs it.
func Compile(files map[string][]byte, data map[string]any, opts policy.Options) *Modules {
	m := &Modules{opts: opts}
	modules := m.parse(files)
	m.compile(modules, files)
	m.loadData(data)
	return m
}

// Compiler returns the compiled modules.
func (m *Modules) Compiler() *ast.Compiler { return m.compiler }

// Problems are the files that are refused.
func (m *Modules) Problems() []policy.Problem { return m.problems }

// parse reads the files and leaves out those that are no Rego.
func (m *Modules) parse(files map[string][]byte) map[string]*ast.Module {
	out := make(map[string]*ast.Module, len(files))
	size := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		size += len(text)
		if size > maxFiles {
			m.refuse(name, text, object.Position{File: name}, fmt.Sprintf("the Rego files are larger than %d MiB together: split them", maxFiles>>20))
			continue
		}
		module, err := ParseModule(name, text)
		if err != nil {
			m.refuseErrors(name, text, err)
			continue
		}
		out[name] = module
	}
	return out
}

// ParseModule reads a Rego file, in the syntax of version 1 or else of version
// 0. What is wrong is said in terms of the version that gets further.
func ParseModule(name string, text []byte) (module *ast.Module, err error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB: split it", name, maxFile>>20)
	}
	defer recovered(&err, "parsing "+name)
	source := string(text)
	parse := func(v ast.RegoVersion) (*ast.Module, error) {
		return ast.ParseModuleWithOpts(name, source, ast.ParserOptions{RegoVersion: v, ProcessAnnotation: true})
	}
	module, err = parse(ast.RegoV1)
	if err == nil && module != nil {
		return module, nil
	}
	if v0, err0 := parse(ast.RegoV0); err0 == nil && v0 != nil {
		return v0, nil
	} else if firstRow(err0) > firstRow(err) {
		err = err0
	}
	if err == nil {
		err = fmt.Errorf("%s is empty: a Rego file begins with its package", name)
	}
	return nil, err
}

// recovered makes an error of a panic of the library.
func recovered(err *error, doing string) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: the library failed: %v", doing, r)
	}
}

// firstRow returns the line of the first of several errors.
func firstRow(err error) int {
	var list ast.Errors
	if !errors.As(err, &list) || len(list) == 0 || list[0].Location == nil {
		return 0
	}
	return list[0].Location.Row
}

// compile compiles the modules together. It leaves out those with errors, until
// the rest has none.
func (m *Modules) compile(modules map[string]*ast.Module, files map[string][]byte) {
	for {
		c, err := compileAll(modules, Capabilities())
		if err == nil {
			m.compiler = c
			return
		}
		bad := byFile(err, modules)
		for _, name := range slices.Sorted(maps.Keys(bad)) {
			m.refuseErrors(name, files[name], bad[name])
			delete(modules, name)
		}
	}
}

func compileAll(modules map[string]*ast.Module, caps *ast.Capabilities) (c *ast.Compiler, err error) {
	defer recovered(&err, "compiling")
	c = guards().Compiler(NewCompiler(guards().Capabilities(caps)))
	if c.Compile(modules); c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}

// NewCompiler returns a compiler that reports all mistakes.
func NewCompiler(caps *ast.Capabilities) *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(caps).SetErrorLimit(0)
}

// byFile sorts mistakes by the file that they are in. Those that are in none
// are in all.
func byFile(err error, modules map[string]*ast.Module) map[string]error {
	var list ast.Errors
	found := map[string]ast.Errors{}
	if errors.As(err, &list) {
		for _, e := range list {
			if e.Location != nil && modules[e.Location.File] != nil {
				found[e.Location.File] = append(found[e.Location.File], e)
			}
		}
	}
	out := map[string]error{}
	for name, errs := range found {
		out[name] = errs
	}
	if len(out) == 0 {
		for name := range modules {
			out[name] = err
		}
	}
	return out
}

var packageLine = regexp.MustCompile(`(?m)^\s*package\s+([^\s#;]+)`)

// refuseErrors notes why a file is not used.
func (m *Modules) refuseErrors(name string, text []byte, err error) {
	var list ast.Errors
	if !errors.As(err, &list) || len(list) == 0 {
		m.refuse(name, text, object.Position{File: name}, err.Error())
		return
	}
	at := object.Position{File: name}
	first := list[0]
	if l := first.Location; l != nil {
		at.Line, at.Column = l.Row, l.Col
		at.Quote, at.QuoteColumn = object.Window(object.LineOf(text, l.Row), l.Col)
	}
	message := first.Message
	if len(list) > 1 {
		message = fmt.Sprintf("%s (not the only mistake: %d in all)", message, len(list))
	}
	m.refuse(name, text, at, message)
}

// refuse notes a file that is not used, and its package.
func (m *Modules) refuse(name string, text []byte, at object.Position, why string) {
	p := policy.Problem{Position: at, Message: why, Object: object.Ref{Kind: "Package"}}
	if found := packageLine.FindSubmatch(text); found != nil {
		if path, err := ast.ParseRef("data." + string(found[1])); err == nil {
			m.broken = append(m.broken, brokenPackage{path, name})
			p.Object.Name = packageName(path)
		}
	}
	m.problems = append(m.problems, p)
}

// packageName returns the name of a package without data: main.
func packageName(path ast.Ref) string {
	words := make([]string, 0, len(path))
	for _, t := range path[1:] {
		s, _ := t.Value.(ast.String)
		words = append(words, string(s))
	}
	return strings.Join(words, ".")
}

// loadData makes the documents that modules find below data.
func (m *Modules) loadData(data map[string]any) {
	if data == nil {
		data = map[string]any{}
	}
	m.data = data
	m.store = inmem.NewFromObject(data)
}
