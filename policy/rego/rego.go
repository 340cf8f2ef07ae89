// SPDX-License-Identifier: Apache-2.0

// Package rego runs plain Rego packages, as conftest does: the rules deny, warn
// and violation of a package (and deny_x, warn_x, violation_x) say what is wrong
// with a document, in strings or in objects with a msg. Rules named exception
// take documents out of them.
//
// Rego is evaluated by OPA's own library, in both versions of its syntax. What
// a rule would have to ask for elsewhere (http.send, the environment, chance)
// makes it unsupported, by the name of the function.
//
// The documents are Kubernetes objects, or whatever Parse reads: Dockerfiles,
// Terraform, TOML and others, in the shapes that conftest gives them.
package rego

import (
	"context"
	"strings"
	"time"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/policy"
)

// DocumentRule is a rule that judges documents of any kind, not only objects.
// All rules that LoadModules returns are.
type DocumentRule interface {
	policy.Rule
	// JudgeDocument judges what Parse returned, or any value of maps, lists and
	// scalars. Applies is false where an exception of the package holds.
	JudgeDocument(ctx context.Context, doc any) (v control.Verdict, applies bool)
}

// Limits of what is read. A file or a set of files that is larger is refused.
const (
	maxFile  = 4 << 20
	maxFiles = 32 << 20
)

// defaultTimeout bounds a rule over one document where the options say nothing.
const defaultTimeout = time.Second

// LoadModules reads Rego files, by their names, and what they find below data.
// Files whose names end in _test.rego are tests, and are left out. A file that
// cannot be used is a problem; rules that need it are unsupported, since what
// they would say without it is not what was written.
func LoadModules(files map[string][]byte, data map[string]any, opts policy.Options) *policy.Set {
	return Compile(WithoutTests(files), data, opts).Set()
}

// IsTest says whether a file of that name holds tests.
func IsTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// WithoutTests returns the files that are no tests.
func WithoutTests(files map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(files))
	for name, text := range files {
		if !IsTest(name) {
			out[name] = text
		}
	}
	return out
}
