// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"sconce.dev/sconce/policy/regoguard"
)

// impure are the functions that look at more than their operands, and at what.
var impure = map[string]source{
	"crypto.x509.parse_and_verify_certificates":              theTime,
	"crypto.x509.parse_and_verify_certificates_with_options": theTime,
	"http.send":            theNetwork,
	"io.jwt.decode_verify": theTime,
	"net.lookup_ip_addr":   theNetwork,
	"opa.runtime":          theEnvironment,
	"rand.intn":            chance,
	"time.now_ns":          theTime,
	"uuid.rfc4122":         chance,
	externalData.Name:      aProvider,
}

// fetching are the functions that look at the network where their operands refer
// to something there.
var fetching = map[string]bool{"json.match_schema": true, "json.verify_schema": true}

// source is what a function looks at.
type source string

const (
	theNetwork     source = "the network"
	theTime        source = "the time"
	theEnvironment source = "the environment"
	chance         source = "chance"
	aProvider      source = "a provider of external data"
)

// externalData is what Gatekeeper adds to Rego.
var externalData = &ast.Builtin{Name: "external_data", Decl: types.NewFunction(types.Args(types.A), types.A)}

// capabilities returns what templates can call. None fetches anything unless the
// network may be used.
func capabilities(networkAllowed bool) *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	if !networkAllowed {
		c.AllowNet = []string{}
	}
	c.Builtins = append(c.Builtins, externalData)
	return c
}

// guards are what run in the place of guarded functions, by whether the time is
// known and the network may be used.
var guards [2][2]func() *regoguard.Guards

func init() {
	for i := range guards {
		for j := range guards[i] {
			guards[i][j] = sync.OnceValue(func() *regoguard.Guards { return newGuards(i == 1, j == 1) })
		}
	}
}

// guarded returns what runs in the place of guarded functions.
func guarded(timeKnown, networkAllowed bool) *regoguard.Guards {
	i, j := 0, 0
	if timeKnown {
		i = 1
	}
	if networkAllowed {
		j = 1
	}
	return guards[i][j]()
}

func newGuards(timeKnown, networkAllowed bool) *regoguard.Guards {
	functions := map[string]topdown.BuiltinFunc{}
	for name, looksAt := range impure {
		functions[name] = refused(name, looksAt)
		if looksAt == theTime && timeKnown || looksAt == theNetwork && networkAllowed {
			functions[name] = topdown.GetBuiltin(name)
		}
	}
	for name := range fetching {
		functions[name] = unfetched(name, topdown.GetBuiltin(name))
	}
	return regoguard.New("the template", append(slices.Clone(ast.Builtins), externalData), functions)
}

// refused ends the evaluation: what a function looks at is not known.
func refused(name string, looksAt source) topdown.BuiltinFunc {
	err := topdown.Halt{Err: &UnknownError{What: fmt.Sprintf("the template calls %s, which looks at %s", name, looksAt)}}
	return func(topdown.BuiltinContext, []*ast.Term, func(*ast.Term) error) error { return err }
}

// unfetched ends the evaluation where a function would fetch what its operands
// refer to and is not let.
func unfetched(name string, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	halt := refused(name, theNetwork)
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		found := false
		err := f(b, operands, func(t *ast.Term) error {
			found = strings.Contains(t.String(), notFetched)
			if found {
				return nil
			}
			return iter(t)
		})
		if found || err != nil && strings.Contains(err.Error(), notFetched) {
			return halt(b, operands, iter)
		}
		return err
	}
}

// notFetched is what OPA says where a schema refers to one that is elsewhere.
const notFetched = "remote reference loading disabled"
