// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/vap"
)

// mutating returns the rule's fix as a policy, or why there is none. It mends
// what is created and nothing that exists: much of that may not be changed any
// more, and a policy that tried would keep it from being changed at all.
func (g *generator) mutating(v *Validating) (*Mutating, error) {
	kinds, err := g.kinds()
	if err != nil {
		return nil, err
	}
	excused, err := g.exceptions()
	if err != nil {
		return nil, err
	}
	fix, err := g.rule.NativeFix(control.NativeOptions{Excuse: excused.element()})
	if err != nil {
		return nil, err
	}
	again := admissionregistrationv1.IfNeededReinvocationPolicy
	ignore := admissionregistrationv1.Ignore // what is not mended is judged all the same
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
		ObjectMeta: g.meta(excused),
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			FailurePolicy:      &ignore,
			ReinvocationPolicy: again,
			MatchConstraints:   g.created(kinds),
			MatchConditions:    v.Policy.Spec.MatchConditions,
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch,
				JSONPatch: &admissionregistrationv1.JSONPatch{Expression: fix.Patch},
			}},
		},
	}
	for _, variable := range fix.Variables {
		policy.Spec.Variables = append(policy.Spec.Variables, admissionregistrationv1.Variable{Name: variable.Name, Expression: variable.Expression})
	}
	if err := vap.CheckMutating(policy); err != nil {
		return nil, fmt.Errorf("the API server would refuse it: %w", err)
	}
	return &Mutating{Control: g.rule.Name, Policy: policy, Binding: &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
		ObjectMeta: g.meta(nil),
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: policy.Name, MatchResources: g.exempt()},
	}}, nil
}

// created chooses the requests that create an object of the kinds.
func (g *generator) created(kinds []object.GroupKind) *admissionregistrationv1.MatchResources {
	out := g.match(kinds)
	for i := range out.ResourceRules {
		out.ResourceRules[i].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Create}
	}
	return out
}
