// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"sconce.dev/sconce/policy/regoguard"
)

// refused are the functions that rules may not call, and why.
var refused = map[string]string{
	"opa.runtime":  "it reads the environment of the program",
	"rand.intn":    "it decides by chance",
	"uuid.rfc4122": "it decides by chance",
}

// network are the functions that call out.
var network = regoguard.CallingOut("it")

// clocks are the functions that read the time.
var clocks = map[string]bool{
	"time.now_ns":          true,
	"io.jwt.decode_verify": true,
	"crypto.x509.parse_and_verify_certificates":              true,
	"crypto.x509.parse_and_verify_certificates_with_options": true,
}

// guards bound what functions build, and whom they call.
var guards = sync.OnceValue(func() *regoguard.Guards { return regoguard.New("it", ast.Builtins, network) })

// Capabilities are what Rego may use: all functions of the library, and no
// network but through the guards. Schemas that are elsewhere are not fetched.
func Capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{}
	return c
}

// uses is what a rule calls, itself or through others.
type uses struct {
	// refused is the first function, in the order of names, that it may not
	// call, and why.
	refused, why string
	clock        string
	network      bool // it calls out
}

// add notes a function.
func (u *uses) add(name string) {
	u.network = u.network || network[name] != nil
	if why := refused[name]; why != "" && (u.refused == "" || name < u.refused) {
		u.refused, u.why = name, why
	}
	if clocks[name] && (u.clock == "" || name < u.clock) {
		u.clock = name
	}
}

// CallsOut says whether a function may call the network.
func CallsOut(name string) bool {
	return network[name] != nil || name == "json.match_schema" || name == "json.verify_schema"
}
