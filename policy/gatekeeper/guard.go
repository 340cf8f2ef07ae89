// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/policy/regoguard"
)

// impure are the functions that look at more than their operands, and at what.
var impure = map[string]source{
	"crypto.x509.parse_and_verify_certificates":              theTime,
	"crypto.x509.parse_and_verify_certificates_with_options": theTime,
	"io.jwt.decode_verify":                                   theTime,
	"opa.runtime":                                            theEnvironment,
	"rand.intn":                                              chance,
	"time.now_ns":                                            theTime,
	"uuid.rfc4122":                                           chance,
}

// fetching are the functions that look at the network where their operands refer
// to something there.
var fetching = map[string]bool{"json.match_schema": true, "json.verify_schema": true}

// callsOut says whether a reference is to a function that calls out.
func callsOut(ref ast.Ref) bool {
	switch regoguard.Plain(ref.String()) {
	case ast.HTTPSend.Name, ast.NetLookupIPAddr.Name, externalData.Name:
		return true
	}
	return false
}

// source is what a function looks at.
type source string

const (
	theNetwork     source = "the network"
	theTime        source = "the time"
	theEnvironment source = "the environment"
	chance         source = "chance"
)

// capabilities returns what templates can call. None calls out but through the
// guards.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{}
	c.Builtins = append(c.Builtins, externalData)
	return c
}

// What runs in the place of guarded functions, by whether the time is known.
var (
	timeless = sync.OnceValue(func() *regoguard.Guards { return newGuards(false) })
	timed    = sync.OnceValue(func() *regoguard.Guards { return newGuards(true) })
)

// guarded returns what runs in the place of guarded functions.
func guarded(timeKnown bool) *regoguard.Guards {
	if timeKnown {
		return timed()
	}
	return timeless()
}

func newGuards(timeKnown bool) *regoguard.Guards {
	functions := regoguard.CallingOut("the template")
	functions[externalData.Name] = askProvider
	for name, looksAt := range impure {
		functions[name] = refused(name, looksAt)
		if looksAt == theTime && timeKnown {
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
