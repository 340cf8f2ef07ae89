// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// TestFindings holds what findings say, and that each thing that is wrong with a pod
// is one of its own.
func TestFindings(t *testing.T) {
	const pod = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  containers:
  - name: app
    image: app:1
    securityContext: {privileged: true}
`
	for name, c := range map[string]struct {
		rule string
		want []string
	}{
		"podSecurity": {"podSecurity: {level: baseline}", []string{
			"spec.hostNetwork: Host Namespaces: hostNetwork=true",
			`spec.containers[app].securityContext.privileged: Privileged Containers: container "app" must not set securityContext.privileged=true`,
		}},
		"pattern":            {"message: no host network, pattern: {spec: {=(hostNetwork): false}}", []string{"spec.hostNetwork: no host network"}},
		"pattern, no words":  {"pattern: {spec: {=(hostNetwork): false}}", []string{"spec.hostNetwork: /spec/hostNetwork is true; the pattern asks for false"}},
		"pattern, no values": {"message: '{{ request.object.nope }}', pattern: {spec: {=(hostNetwork): false}}", []string{"spec.hostNetwork: /spec/hostNetwork is true; the pattern asks for false"}},
		"anyPattern":         {"message: say so., anyPattern: [{spec: {=(hostNetwork): false}}]", []string{"spec.hostNetwork: say so."}},
		"anyPattern, no words": {"anyPattern: [{spec: {=(hostNetwork): false}}]", []string{
			"spec.hostNetwork: no pattern matches: anyPattern[0]: /spec/hostNetwork is true; the pattern asks for false",
		}},
		"deny":            {"message: never, deny: {}", []string{": never"}},
		"deny, no words":  {"deny: {}", []string{": the conditions of deny are met"}},
		"deny, no values": {"message: 'never {{ request.object.nope }}', deny: {}", []string{": never {{ request.object.nope }}"}},
		"foreach":         {"message: never, foreach: [{list: 'request.object.spec.containers', pattern: {image: 'b:*'}}]", []string{"spec.containers[app].image: never"}},
		"foreach, of several lists": {
			"message: never, foreach: [{list: 'request.object.spec.[initContainers, containers][]', deny: {conditions: {all: [{key: ALL, operator: AnyNotIn, value: '{{ element.securityContext.drop[].to_upper(@) || `[]` }}'}]}}}]",
			[]string{"spec.containers[app].securityContext.drop: never"},
		},
		"foreach, by a function": {
			"message: never, foreach: [{list: 'request.object.spec.containers', deny: {conditions: {all: [{key: livenessProbe, operator: AllNotIn, value: '{{ element.keys(@)[] }}'}]}}}]",
			[]string{"spec.containers[app]: never"},
		},
		"cel":                {"message: never, cel: {expressions: [{expression: '!object.spec.hostNetwork'}]}", []string{"spec.hostNetwork: never"}},
		"cel that fails":     {"message: never, cel: {expressions: [{expression: 'object.spec.nope > 1'}]}", []string{": unknown, no such key: nope, in the expression object.spec.nope > 1"}},
		"lines are one line": {"message: \"a\\n  b\", deny: {}", []string{": a b"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, withRules("match: {any: [{resources: {kinds: [Pod]}}]}\nvalidate: {"+c.rule+"}"))
			v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{Object: read(t, "pod", []byte(pod))[0].Object})
			var got []string
			for _, f := range v.Findings {
				if f.Outcome != verdict.Fail {
					f.Message = string(f.Outcome) + ", " + f.Message
				}
				got = append(got, fmt.Sprintf("%s: %s", f.Path, f.Message))
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestSecrets holds that nothing that a rule makes of a Secret's values is told.
func TestSecrets(t *testing.T) {
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {password: hunter-two}\n"
	for _, rule := range []string{
		"message: \"{{ split(request.object.stringData.password, '-') }}\", deny: {}",
		"message: \"{{ to_upper(request.object.stringData.password) }}\", pattern: {type: x}",
		"foreach: [{list: \"[{a: to_upper(request.object.stringData.password)}]\", pattern: {a: b}}]",
		"deny: {conditions: {any: [{key: \"{{ {{ to_upper(request.object.stringData.password) }} - }}\", operator: Equals, value: a}]}}",
	} {
		set := load(t, withRules("match: {any: [{resources: {kinds: [Secret]}}]}\nvalidate: {"+rule+"}"))
		v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{Object: read(t, "secret", []byte(secret))[0].Object})
		if len(v.Findings) != 1 || strings.Contains(strings.ToLower(v.Findings[0].Message), "hunter") {
			t.Errorf("%s: %+v", rule, v)
		}
	}
}
