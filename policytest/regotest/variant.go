// SPDX-License-Identifier: Apache-2.0

package regotest

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"sconce.dev/sconce/policy/rego"
)

// Variant is a mutant of a module as text.
type Variant struct {
	*Mutant
	Source string
}

// Variants returns the mutants of a module that stands somewhere else than in a
// file of its own: positions are those within the text.
func Variants(name string, text []byte) ([]Variant, error) {
	module, err := rego.ParseModule(name, text)
	if err != nil {
		return nil, located(name, err)
	}
	var out []Variant
	for _, c := range changesOf(module) {
		changed := module.Copy()
		mutant := c.apply(changed)
		source, err := write(changed)
		if err != nil {
			continue // what cannot be written is none
		}
		out = append(out, Variant{mutant, source})
	}
	return out, nil
}

// write returns the text of a module.
func write(m *ast.Module) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library failed: %v", r)
		}
	}()
	m.Comments = nil
	out, err := format.AstWithOpts(m, format.Opts{RegoVersion: m.RegoVersion()})
	return string(out), err
}
