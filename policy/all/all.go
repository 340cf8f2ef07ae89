// SPDX-License-Identifier: Apache-2.0

// Package all reads the policies of all languages.
package all

import (
	"cmp"
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/kyvernocel"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policy/vap"
)

// languages are those whose documents are objects of Kubernetes.
var languages = []struct {
	handles func(object.GroupKind) bool
	load    func([]*object.Object, policy.Options) *policy.Set
}{
	{vap.Handles, vap.Load},
	{kyverno.Handles, kyverno.Load},
	{kyvernocel.Handles, kyvernocel.Load},
	{gatekeeper.Handles, gatekeeper.Load},
}

// Reader reads the policies of all languages.
type Reader struct{}

var _ policy.Reader = Reader{}

// Handles implements policy.Reader.
func (Reader) Handles(gk object.GroupKind) bool {
	for _, l := range languages {
		if l.handles(gk) {
			return true
		}
	}
	return false
}

// Load implements policy.Reader. Each language is given its own documents, and
// those that no language has, which may be parameters.
func (r Reader) Load(docs []*object.Object, modules map[string][]byte, opts policy.Options) *policy.Set {
	out := &policy.Set{}
	for _, l := range languages {
		own := false
		var given []*object.Object
		for _, o := range docs {
			gk := o.GroupKind()
			handled := l.handles(gk)
			if own = own || handled; handled || !r.Handles(gk) {
				given = append(given, o)
			}
		}
		if own {
			out.Add(l.load(given, opts))
		}
	}
	if len(modules) > 0 {
		out.Add(rego.LoadModules(modules, opts.Data, opts))
	}
	slices.SortStableFunc(out.Rules, func(a, b policy.Rule) int { return compare(a.Info(), b.Info()) })
	slices.SortStableFunc(out.Mutators, func(a, b policy.Mutator) int { return compare(a.Info(), b.Info()) })
	return out
}

func compare(a, b *policy.Info) int { return cmp.Compare(a.Name, b.Name) }
