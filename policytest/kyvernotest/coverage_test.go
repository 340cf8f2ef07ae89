// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// covered returns what a test ran of its policies, one line each.
func (f folder) covered(t *testing.T) []string {
	t.Helper()
	opts := f.options()
	opts.Coverage = true
	r, err := Run(t.Context(), "t/kyverno-test.yaml", opts)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, b := range r.Coverage {
		out = append(out, fmt.Sprintf("%v %d:%d %s [%s] %s", b.Hit, b.Position.Line, b.Position.Column, b.Rule, b.Way, b.Text))
	}
	return out
}

// TestCoverage: what of an expression is evaluated is told by its parts. What an
// operator does not come to is not run.
func TestCoverage(t *testing.T) {
	f := cel.with("t/kyverno-test.yaml", results("- {policy: team, result: pass, resources: [good]}\n"), "t/resources.yaml", `
apiVersion: v1
kind: ConfigMap
metadata: {name: good, labels: {team: a}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: bad}
`)
	want := []string{
		"true 9:44 matchConditions[0].expression [true] object.metadata.?labels.?skip.orValue('') == ''",
		"false 9:44 matchConditions[0].expression [false] object.metadata.?labels.?skip.orValue('') == ''",
		"true 10:30 validations[0].expression [true] has(object.metadata.labels)",
		"true 10:30 validations[0].expression [false] has(object.metadata.labels)",
		"true 10:30 validations[0].expression [true] has(object.metadata.labels) && has(object.metadata.labels.team)",
		"true 10:30 validations[0].expression [false] has(object.metadata.labels) && has(object.metadata.labels.team)",
		"true 10:61 validations[0].expression [true] has(object.metadata.labels.team)",
		"false 10:61 validations[0].expression [false] has(object.metadata.labels.team)",
	}
	if diff := cmp.Diff(want, f.covered(t)); diff != "" {
		t.Error(diff)
	}
}

// TestCoverageOfRules: rules, preconditions, what is denied, and CEL in a rule
// with its macros and conditionals.
func TestCoverageOfRules(t *testing.T) {
	f := folder{
		"t/policy.yaml": `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: team}
spec:
  rules:
  - name: deny
    match: {any: [{resources: {kinds: [ConfigMap]}}]}
    preconditions:
      any:
      - {key: "{{ request.object.metadata.name }}", operator: Equals, value: good}
      - {key: "{{ request.object.metadata.name }}", operator: Equals, value: bad}
    validate:
      deny:
        conditions:
          all:
          - {key: "{{ request.object.metadata.name }}", operator: Equals, value: bad}
  - name: cel
    match: {any: [{resources: {kinds: [ConfigMap]}}]}
    validate:
      cel:
        variables:
        - {name: keys, expression: "has(object.data) ? object.data.map(k, k) : []"}
        expressions:
        - expression: variables.keys.all(k, k == 'a' || k == 'b')
`,
		"t/resources.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: good}
data: {a: x}
`,
		"t/kyverno-test.yaml": `metadata: {name: suite}
policies: [policy.yaml]
resources: [resources.yaml]
results: [{policy: team, rule: deny, result: pass, resources: [good]}]
`,
	}
	want := []string{
		"true 6:5 deny [pass] rule deny",
		"false 6:5 deny [fail] rule deny",
		"true 6:5 deny [] rule deny",
		"true 10:9 deny [true] {{ request.object.metadata.name }} Equals good",
		"false 10:9 deny [false] {{ request.object.metadata.name }} Equals good",
		"false 11:9 deny [true] {{ request.object.metadata.name }} Equals bad",
		"false 11:9 deny [false] {{ request.object.metadata.name }} Equals bad",
		"false 16:13 deny [true] {{ request.object.metadata.name }} Equals bad",
		"true 16:13 deny [false] {{ request.object.metadata.name }} Equals bad",
		"true 17:5 cel [pass] rule cel",
		"false 17:5 cel [fail] rule cel",
		"true 17:5 cel [] rule cel",
		"true 22:37 cel [true] has(object.data)",
		"false 22:37 cel [false] has(object.data)",
		"true 22:37 cel [] has(object.data) ? object.data.map(k, k) : []",
		"true 24:23 cel [true] variables.keys.all(k, k == 'a' || k == 'b')",
		"false 24:23 cel [false] variables.keys.all(k, k == 'a' || k == 'b')",
		"true 24:45 cel [true] k == 'a'",
		"false 24:45 cel [false] k == 'a'",
		"false 24:57 cel [true] k == 'b'",
		"false 24:57 cel [false] k == 'b'",
	}
	if diff := cmp.Diff(want, f.covered(t)); diff != "" {
		t.Error(diff)
	}
}
