// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"strings"
	"testing"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// TestParity holds what was found by running Kyverno's own engine beside this one,
// over objects that were changed at random.
func TestParity(t *testing.T) {
	const (
		images = `validate: {message: never, deny: {conditions: {all: [{key: "{{ images.containers.*.name || 'nothing' }}", operator: AnyNotIn, value: [good, nothing]}]}}}`
		team   = `validate: {failureAction: Enforce, message: never, pattern: {metadata: {labels: {team: "?*"}}}}`
		when   = `preconditions: {all: [{key: "{{ request.operation || 'BACKGROUND' }}", operator: NotEquals, value: DELETE}]}` + "\n"
		pod    = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\n"
		bad    = pod + "spec: {containers: [{name: c, image: evil}]}\n"
	)
	labelled := func(labels string) string {
		return strings.Replace(pod, "namespace: b}", "namespace: b, labels: {"+labels+"}}", 1)
	}
	selected := "match: {any: [{resources: {kinds: [Pod], selector: {matchLabels: {app: x}}}}]}\nvalidate: {message: never, deny: {}}"
	for name, c := range map[string]struct {
		rule        string
		object, old string
		want        verdict.Outcome // empty where the rule does not apply
	}{
		"an image":                        {rule: images, object: bad, want: verdict.Fail},
		"images of what is deleted":       {rule: images, old: bad, want: verdict.Pass},
		"images in lists of lists":        {rule: images, object: pod + "spec: {containers: [[{name: c, image: evil}]]}", want: verdict.Fail},
		"images in a map":                 {rule: images, object: pod + "spec: {containers: {a: {name: c, image: evil}}}", want: verdict.Fail},
		"a list in a map of containers":   {rule: images, object: pod + "spec: {containers: {a: [{name: c, image: good}]}}", want: verdict.Unknown},
		"a container without a name":      {rule: images, object: pod + "spec: {containers: [{image: good}]}", want: verdict.Unknown},
		"a spec that is no map":           {rule: images, object: pod + "spec: text", want: verdict.Unknown},
		"containers that are no list":     {rule: images, object: pod + "spec: {containers: text}", want: verdict.Unknown},
		"containers that are null":        {rule: images, object: pod + "spec: {containers: null}", want: verdict.Pass},
		"an update of what did not hold":  {rule: team, object: pod, old: pod},
		"such an update, if there is one": {rule: when + team, object: pod, old: pod, want: verdict.Fail},
		"labels":                          {rule: selected, object: labelled("app: x, other: null"), want: verdict.Fail},
		"labels that are no texts":        {rule: selected, object: labelled("app: x, other: 1")},
	} {
		t.Run(name, func(t *testing.T) {
			rule := c.rule
			if !strings.HasPrefix(rule, "match:") {
				rule = "match: {any: [{resources: {kinds: [Pod]}}]}\n" + rule
			}
			set := load(t, withRules(rule))
			r := &policy.Request{Operation: policy.Create}
			if c.object != "" {
				r.Object = read(t, "object", []byte(c.object))[0].Object
			}
			if c.old != "" {
				r.Old, r.Operation = read(t, "old", []byte(c.old))[0].Object, policy.Update
			}
			if c.object == "" {
				r.Operation = policy.Delete
			}
			v, applies := set.Rules[0].Judge(t.Context(), r)
			if applies != (c.want != "") || applies && v.Outcome != c.want {
				t.Errorf("got %v, %q %v; want %q", applies, v.Outcome, v.Findings, c.want)
			}
		})
	}
}

// TestPlaces holds where findings of rules point that say no more than that
// something is denied.
func TestPlaces(t *testing.T) {
	const pod = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: b}
spec: {containers: [{name: c, image: good}, {name: d, image: evil}, {name: e, image: evil}]}
`
	one := strings.Replace(pod, "{name: c, image: good}, {name: d, image: evil}, ", "", 1)
	const images = `validate: {message: never, deny: {conditions: {all: [{key: "{{ images.[initContainers, containers][].*.name[] }}", operator: AnyNotIn, value: [good]}]}}}`
	cel := func(expression string) string {
		return `validate: {cel: {variables: [{name: all, expression: "object.spec.containers + object.spec.?initContainers.orValue([])"}, ` +
			`{name: bad, expression: "variables.all.exists(c, c.image == 'evil')"}], expressions: [{message: never, expression: "` + expression + `"}]}}`
	}
	for name, c := range map[string]struct{ rule, object, want string }{
		"images":        {images, pod, "spec.containers"},
		"the one image": {images, one, "spec.containers[e].image"},
		"what a rule asks before it denies": {`preconditions: {any: [{key: "{{ request.object.metadata.ownerReferences[0].kind || '' }}", operator: NotEquals, value: CronJob}]}
validate: {message: never, deny: {}}`, pod, "metadata.ownerReferences"},
		"the item of a list":              {cel("object.spec.containers.all(c, c.image != 'evil')"), pod, "spec.containers[d]"},
		"the item, by variables":          {cel("!variables.bad"), pod, "spec.containers[d]"},
		"the only item":                   {cel("object.spec.containers.all(c, c.image != 'evil')"), one, "spec.containers[e]"},
		"a list that no item alone fails": {cel("object.spec.containers.size() < 3"), pod, "spec.containers"},
		"a field that may be missing":     {cel("object.?spec.?dnsPolicy.orValue('') != ''"), pod, "spec.dnsPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, withRules("match: {any: [{resources: {kinds: [Pod]}}]}\n"+c.rule))
			v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{Object: read(t, "object", []byte(c.object))[0].Object})
			if v.Outcome != verdict.Fail || len(v.Findings) != 1 || v.Findings[0].Path.String() != c.want {
				t.Errorf("got %q %v; want a failure at %s", v.Outcome, v.Findings, c.want)
			}
		})
	}
}
