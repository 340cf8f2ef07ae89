// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// TestLookups holds that a policy needs of the cluster what its calls name, as far
// as that is written out.
func TestLookups(t *testing.T) {
	for expression, want := range map[string]policy.Needs{
		`object.metadata.name != ''`: {},
		`resource.List('v1', 'services', object.metadata.namespace).items.size() == 0`:            {Kinds: []object.GroupKind{{Kind: "Service"}}},
		`resource.Get('apps/v1', 'deployments/scale', 'a', 'b').spec.replicas > 1`:                {Kinds: []object.GroupKind{{Group: "apps", Kind: "Deployment"}}},
		`resource.List('example.com/v1', 'things', '').items.size() == 0`:                         {Kinds: []object.GroupKind{{Group: "example.com", Kind: policy.Any}}},
		`resource.List('v1', object.kind, '').items.size() == 0`:                                  {AnyKind: true},
		`[resource].exists(r, r.List('v1', 'services', '').items.size() == 0)`:                    {AnyKind: true},
		`http.Get('https://example.com/').ok == true`:                                             {Outside: true},
		`globalContext.Get('a', '') != null && resource.List('v1', 'pods', '').items.size() == 0`: {Outside: true, Kinds: []object.GroupKind{{Kind: "Pod"}}},
	} {
		set := Load(parse(t, "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: a}\nspec:\n"+
			"  matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}\n"+
			"  validations:\n  - expression: >-\n      "+expression+"\n    message: m\n"), policy.Options{})
		if len(set.Rules) != 1 {
			t.Errorf("%s: %+v", expression, set.Problems)
			continue
		}
		if diff := cmp.Diff(want, set.Rules[0].Info().Needs); diff != "" {
			t.Errorf("%s: %s", expression, diff)
		}
	}
}
