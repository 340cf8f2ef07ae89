// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
)

// controlDoc is a control that says nothing in particular.
func controlDoc(name, topic, severity string) string {
	return `apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: ` + name + `}
spec:
  title: All is as it must be
  description: Something is gained otherwise.
  remediation: Make it as it must be.
  severity: ` + severity + `
  layer: application
  phase: build
  topic: ` + topic + `
  match: {pods: true}
  parameters:
  - {name: max, type: integer, default: 1, description: how many}
  - {name: names, type: strings, default: [], description: which}
  require: size(object.metadata.name) > params.max
  message: pod {object.metadata.name}
---
`
}

func baselineDoc(name, spec string) string {
	return "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: " + name + "}\nspec:\n  title: T\n" + spec + "---\n"
}

// build reads documents and checks them.
func build(t *testing.T, docs string) (*Library, error) {
	t.Helper()
	l := NewLibrary()
	if err := l.Read("x.yaml", []byte(docs)); err != nil {
		return l, err
	}
	return l, l.Check(time.Time{})
}

func some() string {
	return controlDoc("one", "a", "high") + controlDoc("two", "a", "low") + controlDoc("three", "b", "critical")
}

// TestResolve holds what a baseline turns on, and in what order it is said.
func TestResolve(t *testing.T) {
	l, err := build(t, some()+
		baselineDoc("base", "  kubernetesVersion: '1.30'\n  controls:\n  - select: {topics: [a]}\n    action: warn\n  - {name: two, severity: medium, parameters: {max: 7}}\n")+
		baselineDoc("all", "  controls: [{select: {}}]\n")+
		baselineDoc("mine", "  extends: [base, all]\n  controls:\n  - {name: one, disabled: true}\n  - {name: two, parameters: {names: [x]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve("mine", Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range b.Rules {
		got = append(got, r.Name+" "+string(r.Severity)+" "+string(r.Action))
	}
	if want := "three critical deny, two medium warn"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, ", "), want)
	}
	if b.Version.String() != "1.30" {
		t.Errorf("version %s", b.Version)
	}
	if b, err = l.Resolve("mine", Options{Only: []string{"one"}}); err != nil || len(b.Rules) != 1 {
		t.Errorf("only one: %v %v", b, err)
	}
	for _, c := range []struct {
		name string
		opts Options
		want string
	}{
		{"nothing", Options{}, `unknown baseline "nothing"; want all, base, mine`},
		{"mine", Options{Skip: []string{"thre"}}, `unknown control "thre"; did you mean three?`},
	} {
		if _, err := l.Resolve(c.name, c.opts); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// TestActions holds what happens to what fails, and to what cannot be judged:
// what a selection says, then the baseline, then those that it extends.
func TestActions(t *testing.T) {
	l, err := build(t, some()+
		baselineDoc("base", "  action: warn\n  failurePolicy: Fail\n  controls:\n  - select: {}\n  - {name: two, action: audit, remediate: true}\n")+
		baselineDoc("mine", "  extends: [base]\n  action: ratchet\n  controls:\n  - {name: three, failurePolicy: Ignore}\n")+
		baselineDoc("bare", "  controls:\n  - {name: one}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		baseline, control string
		want              Rule
	}{
		{"base", "one", Rule{Action: v1alpha1.Warn, FailurePolicy: v1alpha1.FailClosed}},
		{"base", "two", Rule{Action: v1alpha1.Audit, FailurePolicy: v1alpha1.FailClosed, Remediate: true}},
		{"mine", "one", Rule{Action: v1alpha1.Ratchet, FailurePolicy: v1alpha1.FailClosed}},
		{"mine", "two", Rule{Action: v1alpha1.Audit, FailurePolicy: v1alpha1.FailClosed, Remediate: true}},
		{"mine", "three", Rule{Action: v1alpha1.Ratchet, FailurePolicy: v1alpha1.FailOpen}},
		{"bare", "one", Rule{Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailOpen}},
	} {
		b, err := l.Resolve(test.baseline, Options{Only: []string{test.control}})
		if err != nil {
			t.Fatal(err)
		}
		if r := b.Rules[0]; r.Action != test.want.Action || r.FailurePolicy != test.want.FailurePolicy || r.Remediate != test.want.Remediate {
			t.Errorf("%s of %s: %s, %s, remediate %t; want %s, %s, %t", test.control, test.baseline, r.Action, r.FailurePolicy, r.Remediate, test.want.Action, test.want.FailurePolicy, test.want.Remediate)
		}
	}
}

// TestMistakes holds that every mistake is told with its place.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ docs, want string }{
		{some() + baselineDoc("b", "  extends: [c]\n") + baselineDoc("c", "  extends: [b]\n"), "x.yaml:60:3: baselines extend each other in a circle: b -> c -> b"},
		{some() + baselineDoc("b", "  extends: [nothing]\n"), `x.yaml:60:13: unknown baseline "nothing"`},
		{some() + baselineDoc("b", "  controls: [{name: nothing}]\n"), `x.yaml:60:15: unknown control "nothing"`},
		{some() + baselineDoc("b", "  controls: [{}]\n"), "set either name or select"},
		{some() + baselineDoc("b", "  controls: [{name: one, parameters: {max: [1]}}]\n"), `x.yaml:60:44: spec.controls[0].parameters.max: [1] is not an integer`},
		{some() + baselineDoc("b", "  controls: [{name: one, parameters: {maximum: 1}}]\n"), "the control has no such parameter; it has max, names"},
		{some() + baselineDoc("b", "  controls: [{select: {}, parameters: {max: 1}}]\n"), "belong to one control"},
		{some() + baselineDoc("b", "  controls: [{name: one, action: refuse}]\n"), `spec.controls[0].action is "refuse"; want audit, warn, ratchet, deny`},
		{strings.Replace(controlDoc("one", "a", "high"), "require: size", "require: siz", 1), "x.yaml:16:15: spec.require: "},
		{strings.Replace(controlDoc("one", "a", "high"), "{object.metadata.name}", "{object.metadata.name", 1), "x.yaml:17:12: spec.message"},
		{strings.Replace(controlDoc("one", "a", "high"), "> params.max", "> params.?most.orValue(0)", 1), "params.most is not declared; the control has max, names"},
		{strings.Replace(controlDoc("one", "a", "high"), "> params.max", "> variables.most", 1), "variables.most is not declared; the control has none"},
		{strings.Replace(controlDoc("one", "a", "high"), "severity: high", "severity: worst", 1), `x.yaml:8:3: spec.severity is "worst"`},
		{strings.Replace(controlDoc("one", "a", "high"), "match: {pods: true}", "match: {}", 1), "spec.match chooses nothing"},
		{strings.Replace(controlDoc("one", "a", "high"), "match: {pods: true}", "match: {pods: true}\n  forEach: containers.ports..x", 1), "spec.forEach: "},
		{strings.Replace(controlDoc("one", "a", "high"), "default: 1,", "default: one,", 1), `spec.parameters[0].default: "one" is not an integer`},
		{strings.Replace(controlDoc("one", "a", "high"), "pods: true", "pods: 1", 1), "x.yaml:12:17: spec.match.pods is an integer, but must be a boolean"},
		{controlDoc("One", "a", "high"), `the name "One" must be lower case words`},
		{controlDoc("one", "a", "high") + controlDoc("one", "a", "high"), `Control "one" is defined twice, first at x.yaml:1`},
		{"apiVersion: v1\nkind: Pod\n", `x.yaml:1:1: apiVersion is "v1"; want sconce.dev/v1alpha1`},
		{"apiVersion: sconce.dev/v1alpha1\nkind: Rule\n", `x.yaml:2:1: kind is "Rule"; want Control, Baseline, Framework or Exception`},
		{"a: [\n", "x.yaml:2:1: "},
	} {
		_, err := build(t, c.docs)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v\nwant %s", err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(some())
	f.Add(baselineDoc("b", "  extends: [b]\n  controls: [{select: {}, parameters: {a: {}}}]\n"))
	f.Add("apiVersion: sconce.dev/v1alpha1\nkind: Exception\nspec: {match: {names: ['[']}}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		l := NewLibrary()
		_ = l.Read("x.yaml", []byte(text))
		_ = l.Check(time.Now())
		for _, name := range l.Baselines() {
			if len(l.baselines[name].doc.Spec.Extends) == 0 {
				_, _ = l.Resolve(name, Options{})
			}
		}
	})
}
