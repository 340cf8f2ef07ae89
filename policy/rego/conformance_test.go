// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/test/cases/testdata"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"sconce.dev/sconce/policy"
)

// TestConformance runs OPA's own cases as rules are run here. Left out are those
// in which an error of a function is to stop the evaluation, which rules are not
// run with, and those that call out or read the environment.
func TestConformance(t *testing.T) {
	met, leftOut := 0, map[string]int{}
	for _, c := range conformanceCases(t) {
		if why := outside(&c); why != "" {
			leftOut[why]++
			continue
		}
		got, want := conform(t, &c)
		if got != want {
			t.Errorf("%s: %s\ngot  %s\nwant %s", c.Filename, c.Note, got, want)
			continue
		}
		met++
	}
	if met < 2000 {
		t.Errorf("%d cases are met; the library has more", met)
	}
	t.Logf("met %d, left out %v", met, leftOut)
}

func conformanceCases(t *testing.T) []cases.TestCase {
	t.Helper()
	var out []cases.TestCase
	err := fs.WalkDir(testdata.V1, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := testdata.V1.ReadFile(name)
		if err != nil {
			return err
		}
		var set cases.Set
		if err := util.Unmarshal(data, &set); err != nil {
			return err
		}
		for i := range set.Cases {
			set.Cases[i].Filename = name
		}
		out = append(out, set.Cases...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// outside says why a case is left out.
func outside(c *cases.TestCase) string {
	text := c.Query + strings.Join(c.Modules, "\n")
	switch {
	case c.StrictError:
		return "strict errors"
	case strings.Contains(text, "http.send") || strings.Contains(text, "net.lookup_ip_addr"):
		return "the network"
	case strings.Contains(text, "opa.runtime"):
		return "the environment"
	case strings.Contains(text, "test.sleep"):
		return "a function of the library's own tests"
	case len(c.Env) > 0 || c.ExperimentalKeywords:
		return "experimental or of an environment"
	}
	return ""
}

// conform runs a case; what it comes to and what it should are told as texts.
func conform(t *testing.T, c *cases.TestCase) (got, want string) {
	t.Helper()
	files := map[string][]byte{}
	for i, m := range c.Modules {
		files[fmt.Sprintf("m%d.rego", i)] = []byte(m)
	}
	data := map[string]any{}
	if c.Data != nil {
		data = *c.Data
	}
	m := Compile(files, data, policy.Options{})
	if len(m.Problems()) > 0 {
		return "refused: " + m.Problems()[0].Message, "compiled"
	}
	query, err := m.compiler.QueryCompiler().Compile(ast.MustParseBody(c.Query))
	if err != nil {
		return err.Error(), "compiled"
	}
	var in *ast.Term
	switch {
	case c.InputTerm != nil:
		in = ast.MustParseTerm(*c.InputTerm)
	case c.Input != nil:
		in = ast.NewTerm(ast.MustInterfaceToValue(*c.Input))
	}
	rs, err := m.evaluate(context.Background(), query, in, time.Now())
	switch {
	case c.WantError != nil || c.WantErrorCode != nil:
		if err == nil {
			return "no error", "an error"
		}
		return "", ""
	case err != nil:
		return err.Error(), "no error"
	}
	found, wanted := results(t, rs, c), ast.NewSet()
	for _, b := range *c.WantResult {
		wanted.Add(ast.NewTerm(ast.MustInterfaceToValue(b)))
	}
	if found.Compare(wanted) == 0 {
		return "", "" // numbers are the same however they are written
	}
	return found.String(), wanted.String()
}

func results(t *testing.T, rs topdown.QueryResultSet, c *cases.TestCase) ast.Set {
	t.Helper()
	set := ast.NewSet()
	for _, b := range rs {
		object := map[string]any{}
		for k, term := range b {
			v, err := ast.JSON(term.Value)
			if err != nil {
				t.Fatal(err)
			}
			if list, ok := v.([]any); ok && c.SortBindings {
				slices.SortFunc(list, util.Compare)
			}
			if !c.IgnoreGeneratedVars || !strings.HasPrefix(string(k), "__localq") {
				object[string(k)] = v
			}
		}
		set.Add(ast.NewTerm(ast.MustInterfaceToValue(object)))
	}
	return set
}
