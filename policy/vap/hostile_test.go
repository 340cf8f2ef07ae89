// SPDX-License-Identifier: Apache-2.0

package vap_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/object"
	enginepolicy "sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// TestHostile holds that policies that are made to take forever do not, and come
// out as unknown.
func TestHostile(t *testing.T) {
	nested := func(n int, inner string) string {
		out := inner
		for i := range n {
			out = fmt.Sprintf("[0,1,2,3,4,5,6,7,8,9].all(x%d, %s)", i, out)
		}
		return out
	}
	var doubling, untyped, shared, many, chain []string
	untyped = append(untyped, `{name: v0, expression: "dyn(object.metadata.name + 'aaaaaaaaaaaaaaaa')"}`)
	shared = append(shared, `{name: v0, expression: "dyn([object])"}`)
	for i := 1; i < 60; i++ {
		untyped = append(untyped, fmt.Sprintf(`{name: v%d, expression: "dyn(variables.v%d) + dyn(variables.v%d)"}`, i, i-1, i-1))
		shared = append(shared, fmt.Sprintf(`{name: v%d, expression: "dyn([variables.v%d, variables.v%d])"}`, i, i-1, i-1))
	}
	doubling = append(doubling, `{name: v0, expression: "'aaaaaaaaaaaaaaaa'"}`)
	for i := 1; i < 60; i++ {
		doubling = append(doubling, fmt.Sprintf(`{name: v%d, expression: "variables.v%d + variables.v%d"}`, i, i-1, i-1))
	}
	chain = append(chain, `{name: v0, expression: "[object.spec, object.metadata, object]"}`)
	for i := 1; i < 40; i++ {
		chain = append(chain, fmt.Sprintf(`{name: v%d, expression: "variables.v%d + variables.v%d.map(x, x.y)"}`, i, i-1, i-1))
	}
	for range 3000 {
		many = append(many, `{expression: "object.spec.replicas > 1 && object.metadata.name != ''"}`)
	}
	for _, c := range []struct{ name, spec string }{
		{"nested loops", `validations: [{expression: "` + nested(8, "x0 >= 0") + `"}]`},
		{"in a condition", `matchConditions: [{name: a, expression: "` + nested(8, "x0 >= 0") + `"}], validations: [{expression: "true"}]`},
		{"a regular expression", `validations: [{expression: "'` + strings.Repeat("a", 20000) + `'.matches('(a*)*b')"}, {expression: "` + nested(7, "x0 >= 0") + `"}]`},
		{"variables that double", `variables: [` + strings.Join(doubling, ", ") + `], validations: [{expression: "size(variables.v59) > 0"}]`},
		{"variables that double, of which the type is not known", `variables: [` + strings.Join(untyped, ", ") + `], validations: [{expression: "size(variables.v59) > 0"}]`},
		{"lists that share their parts", `variables: [` + strings.Join(shared, ", ") + `], validations: [{expression: "variables.v59 != variables.v58"}]`},
		{"a text between letters", `validations: [{expression: "object.metadata.name.replace('', 'aaaaaaaa'` + strings.Repeat(").replace('', 'aaaaaaaaaaaaaaaa'", 12) + `).size() == 0"}]`},
		{"variables that may come from everywhere", `variables: [` + strings.Join(chain, ", ") + `], validations: [{expression: "variables.v39.all(x, x.y == 1)"}]`},
		{"deep", `validations: [{expression: "` + strings.Repeat("(", 3000) + "true" + strings.Repeat(")", 3000) + `"}]`},
		{"long", `validations: [{expression: "` + strings.Repeat("object.a == 'b' || ", 30000) + `true"}]`},
		{"many", `validations: [` + strings.Join(many, ", ") + `]`},
		{"a message that costs too much", `validations: [{expression: "object.spec.replicas == 1", messageExpression: "string(` + nested(8, "x0 >= 0") + `)"}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			set := vap.Load(read(t, validatingPolicy("p", c.spec)), enginepolicy.Options{Timeout: 2 * time.Second})
			for _, r := range set.Rules {
				v, _ := r.Judge(t.Context(), &enginepolicy.Request{Object: read(t, web)[0]})
				if v.Outcome == verdict.Pass {
					t.Errorf("got %v", v)
				}
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if made := (after.TotalAlloc - before.TotalAlloc) >> 20; took > time.Minute || made > 1<<10 {
				t.Errorf("it took %v and %d MiB", took, made)
			}
		})
	}
}

// FuzzLoad holds that no documents and objects make Load, Judge or Mutate panic
// or hang.
func FuzzLoad(f *testing.F) {
	f.Add(validatingPolicy("p", `validations: [{expression: "object.spec.replicas < 3", messageExpression: "'x'"}]`)+bindingOf("b", "validationActions: [Warn]"), web)
	f.Add(validatingPolicy("p", `paramKind: {apiVersion: v1, kind: ConfigMap}, variables: [{name: a, expression: "object.spec"}], matchConditions: [{name: x, expression: "variables.a.b == 1"}], auditAnnotations: [{key: k, valueExpression: "string(variables.a)"}]`)+
		bindingOf("b", "validationActions: [Deny], paramRef: {name: x, parameterNotFoundAction: Deny}")+"---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n", web)
	f.Add(strings.Replace(validatingPolicy("p", `reinvocationPolicy: IfNeeded, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'remove', path: '/spec'}]"}}, {patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{paused: true}}"}}]`), "Validating", "Mutating", 1), web)
	f.Add(validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources: ["*/*"]}]}, validations: [{expression: "object.metadata.labels.all(k, object.metadata.labels[k] != '')"}]`), `{apiVersion: x/v1, kind: Y, metadata: {labels: [1, {unknown: x}]}, spec: null}`)
	f.Fuzz(func(t *testing.T, policies, about string) {
		docs, objects := tryRead(policies), tryRead(about)
		set := vap.Load(docs, enginepolicy.Options{Timeout: 100 * time.Millisecond})
		for _, o := range objects {
			r := &enginepolicy.Request{Object: o, Cluster: &cluster{objects: docs}, User: &authenticationv1.UserInfo{Username: "a"}}
			for _, rule := range set.Rules {
				rule.Matches(o.GroupKind())
				rule.Judge(t.Context(), r)
			}
			vap.Mutate(t.Context(), set.Mutators, r)
		}
	})
}

// tryRead returns the objects of a text that may be anything.
func tryRead(manifest string) (out []*object.Object) {
	for text := range object.Split([]byte(manifest)) {
		root, err := object.ParseYAML(text)
		if err != nil || root == nil {
			continue
		}
		objects, err := object.FromNode(forget(root), &object.Origin{Source: "fuzz.yaml", Text: text.Bytes, FirstLine: text.Line})
		if err == nil {
			out = append(out, objects...)
		}
	}
	return out
}
