// SPDX-License-Identifier: Apache-2.0

package regotest

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policy/regoguard"
)

// builtin is a function that conftest has beside those of OPA.
type builtin struct {
	decl *ast.Builtin
	call func(t *Tests, at *ast.Location, operands []*ast.Term) (any, error)
}

// builtins are the functions of conftest by which tests read configuration.
var builtins = []builtin{
	{&ast.Builtin{Name: "parse_config", Decl: types.NewFunction(types.Args(types.S, types.S), types.A)}, parseConfig},
	{&ast.Builtin{Name: "parse_config_file", Decl: types.NewFunction(types.Args(types.S), types.A)}, parseConfigFile},
	{&ast.Builtin{Name: "parse_combined_config_files", Decl: types.NewFunction(types.Args(types.NewArray(nil, types.S)), types.A)}, parseCombined},
}

// endings are the files that parse_config means by the names of conftest's
// parsers, where they differ.
var endings = map[string]string{"dockerfile": "x.dockerfile", "hcl2": "x.hcl", "hcl1": "x.none", "dotenv": "x.env", "ignore": "x.gitignore"}

// parseConfig is parse_config(parser, text).
func parseConfig(_ *Tests, _ *ast.Location, operands []*ast.Term) (any, error) {
	parser, text := textOf(operands[0]), textOf(operands[1])
	name, ok := endings[parser]
	if !ok {
		name = "x." + parser
	}
	if !rego.Reads(name) {
		return nil, fmt.Errorf("the format %q %w", parser, rego.ErrFormat)
	}
	return single(name, []byte(text))
}

// parseConfigFile is parse_config_file(path), relative to the file that calls
// it.
func parseConfigFile(t *Tests, at *ast.Location, operands []*ast.Term) (any, error) {
	_, doc, err := t.configFile(at, textOf(operands[0]))
	return doc, err
}

// parseCombined is parse_combined_config_files(paths).
func parseCombined(t *Tests, at *ast.Location, operands []*ast.Term) (any, error) {
	list, ok := operands[0].Value.(*ast.Array)
	if !ok {
		return nil, errors.New("want a list of files")
	}
	out := []any{}
	for i := range list.Len() {
		name, doc, err := t.configFile(at, textOf(list.Elem(i)))
		if err != nil {
			return nil, err
		}
		docs, several := doc.([]any)
		if !several {
			docs = []any{doc}
		}
		for _, d := range docs {
			out = append(out, map[string]any{"path": name, "contents": d})
		}
	}
	return out, nil
}

func (t *Tests) configFile(at *ast.Location, name string) (string, any, error) {
	if t.opts.ReadFile == nil {
		return "", nil, errors.New("files are not read here")
	}
	name = path.Join(path.Dir(at.File), name)
	data, err := t.opts.ReadFile(name)
	if err != nil {
		return "", nil, err
	}
	doc, err := single(name, data)
	return name, doc, err
}

// single reads a file as one value: its document, or the list of them.
func single(name string, data []byte) (any, error) {
	docs, err := rego.Parse(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) == 1 {
		return docs[0], nil
	}
	return docs, nil
}

func textOf(t *ast.Term) string {
	s, _ := t.Value.(ast.String)
	return string(s)
}

// declared returns the functions for the compiler.
func declared() []*ast.Builtin {
	var out []*ast.Builtin
	for _, b := range builtins {
		out = append(out, b.decl)
	}
	return out
}

// call runs a function. Its error is why the test is to be stopped.
func (t *Tests) call(b *builtin, at *ast.Location, operands []*ast.Term) (*ast.Term, error) {
	v, err := b.call(t, at, operands)
	if err == nil {
		var value ast.Value
		if value, err = ast.InterfaceToValue(v); err == nil {
			return ast.NewTerm(value), nil
		}
	}
	return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// guards bound what functions of the library build. Walk is none of them: it has
// several results, which functions cannot have that the runner of tests is given.
var guards = sync.OnceValue(func() *regoguard.Guards {
	several := func(b *ast.Builtin) bool { return b.Relation }
	return regoguard.New("the test", slices.DeleteFunc(slices.Clone(ast.Builtins), several), nil)
})

// guardsForRunner returns the guards as the runner of tests wants them.
func guardsForRunner() []*tester.Builtin {
	var out []*tester.Builtin
	for _, b := range guards().Builtins() {
		out = append(out, &tester.Builtin{Decl: b.Decl, Func: oparego.FunctionDyn(
			&oparego.Function{Name: b.Decl.Name, Decl: b.Decl.Decl},
			func(bctx oparego.BuiltinContext, operands []*ast.Term) (found *ast.Term, err error) {
				err = b.Func(bctx, operands, func(t *ast.Term) error {
					found = t
					return nil
				})
				var halt topdown.Halt
				if errors.As(err, &halt) {
					err = oparego.NewHaltError(halt.Err)
				}
				return found, err
			})})
	}
	return out
}

// forRunner returns the functions as the runner of tests wants them.
func (t *Tests) forRunner() []*tester.Builtin {
	out := guardsForRunner()
	for i := range builtins {
		b := &builtins[i]
		out = append(out, &tester.Builtin{Decl: b.decl, Func: oparego.FunctionDyn(
			&oparego.Function{Name: b.decl.Name, Decl: b.decl.Decl},
			func(bctx oparego.BuiltinContext, operands []*ast.Term) (*ast.Term, error) {
				value, err := t.call(b, bctx.Location, operands)
				if err != nil {
					err = oparego.NewHaltError(err) // any other would leave it undefined
				}
				return value, err
			})})
	}
	return out
}

// forQuery returns the functions as a query wants them.
func (t *Tests) forQuery() map[string]*topdown.Builtin {
	out := maps.Clone(guards().Builtins())
	for i := range builtins {
		b := &builtins[i]
		out[b.decl.Name] = &topdown.Builtin{Decl: b.decl, Func: func(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			value, err := t.call(b, bctx.Location, operands)
			if err != nil {
				return topdown.Halt{Err: fmt.Errorf("%s: %w", b.decl.Name, err)}
			}
			return iter(value)
		}}
	}
	return out
}
