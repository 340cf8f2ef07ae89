// SPDX-License-Identifier: Apache-2.0

package vap_test

import (
	"fmt"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"

	enginepolicy "sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/vap"
)

// benchmarked are the validations of the benchmarks, and a variable.
var benchmarked = []string{
	"object.spec.replicas <= 10", "variables.containers.all(c, c.image.contains('/'))", "has(object.metadata.labels) && 'app' in object.metadata.labels",
}

// BenchmarkJudge measures a policy over a Deployment: alone, as one of a hundred
// that share the request, where it fails, where it is about another kind, and
// with the API server's own validator, which is given the object or decodes it.
func BenchmarkJudge(b *testing.B) {
	spec := `variables: [{name: containers, expression: "object.spec.template.spec.containers"}], validations: [`
	for _, e := range benchmarked {
		spec += fmt.Sprintf("{expression: %q, messageExpression: \"'no: ' + object.metadata.name\"}, ", e)
	}
	spec += "]"
	r := load(b, validatingPolicy("p", spec)).Rules[0]
	o := read(b, web)[0]
	for _, c := range []struct {
		name   string
		shared bool
		of     enginepolicy.Rule
	}{
		{"alone", false, r}, {"shared", true, r},
		{"fails", true, load(b, validatingPolicy("p", `validations: [{expression: "object.spec.template.spec.containers.all(c, c.image == 'a/b')"}]`)).Rules[0]},
		{"other operation", true, load(b, validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [DELETE], resources: [deployments]}]}, validations: [{expression: "true"}]`)).Rules[0]},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			request := &enginepolicy.Request{Object: o}
			for b.Loop() {
				if !c.shared {
					request = &enginepolicy.Request{Object: o}
				}
				c.of.Judge(b.Context(), request)
			}
		})
	}
	tree := o.Root.Any().(map[string]any)
	b.Run("API server", func(b *testing.B) { benchmarkValidator(b, tree, false) })
	b.Run("API server that decodes", func(b *testing.B) { benchmarkValidator(b, tree, true) })
}

// benchmarkValidator runs the same validations with the validator of the API
// server, over a request that is new each time.
func benchmarkValidator(b *testing.B, tree map[string]any, decodes bool) {
	b.ReportAllocs()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		b.Fatal(err)
	}
	declared := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	compiler.CompileAndStoreVariable(&validating.Variable{Name: "containers", Expression: "object.spec.template.spec.containers"}, declared, environment.StoredExpressions)
	var checks, messages []cel.ExpressionAccessor
	for _, e := range benchmarked {
		checks = append(checks, &validating.ValidationCondition{Expression: e})
		messages = append(messages, &validating.MessageExpressionCondition{MessageExpression: "'no: ' + object.metadata.name"})
	}
	fail := admissionregistrationv1.Fail
	v := validating.NewValidator(compiler.CompileCondition(checks, declared, environment.StoredExpressions), nil, cel.NewCondition(nil),
		compiler.CompileCondition(messages, cel.OptionalVariableDeclarations{}, environment.StoredExpressions), &fail, nil)
	decode := func() (d *appsv1.Deployment) {
		d = &appsv1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, d); err != nil {
			b.Fatal(err)
		}
		return d
	}
	d := decode()
	gvk, gvr := appsv1.SchemeGroupVersion.WithKind("Deployment"), schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	for b.Loop() {
		if decodes {
			d = decode()
		}
		attr := admission.NewAttributesRecord(d, nil, gvk, "shop", "web", gvr, "", admission.Create, &metav1.CreateOptions{}, false, &user.DefaultInfo{})
		versioned := &admission.VersionedAttributes{Attributes: attr, VersionedKind: gvk}
		versioned.VersionedObject.Set(d)
		if got := v.Validate(b.Context(), gvr, versioned, nil, nil, celconfig.RuntimeCELCostBudget, nil); got.Decisions[0].Action != validating.ActionAdmit {
			b.Fatal(got)
		}
	}
}

// BenchmarkLoad measures how long a hundred policies take to be read, with and
// without variables.
func BenchmarkLoad(b *testing.B) {
	for name, variables := range map[string]string{"plain": "", "variables": `variables: [{name: s, expression: "object.spec"}], `} {
		manifest := ""
		for i := range 100 {
			manifest += validatingPolicy(fmt.Sprintf("p-%d", i), variables+`validations: [{expression: "object.spec.replicas < 3", messageExpression: "'too many: ' + string(object.spec.replicas)"}]`)
		}
		docs := read(b, manifest)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				vap.Load(docs, enginepolicy.Options{})
			}
		})
	}
}
