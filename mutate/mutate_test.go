// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
)

const openPort = `apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: open-port}
spec:
  title: Ports of the host stay closed
  description: A port of the host is open to its network.
  remediation: Remove hostPort.
  severity: low
  layer: application
  phase: build
  topic: own
  match: {pods: true}
  parameters:
  - {name: highest, type: integer, default: 1024, description: the highest port that is harmless}
  variables:
  - {name: port, expression: item.?hostPort.orValue(0)}
  forEach: containers.ports
  require: >-
    variables.port == 0
    || variables.port > params.highest
  message: port {variables.port} is open
  at: [hostPort]
`

const openPortFixture = `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - name: app
    ports:
    - containerPort: 80
      hostPort: 1024 # want "open-port"
    - containerPort: 81
    - {containerPort: 82, hostPort: 0}
    - {containerPort: 83, hostPort: 1025}
  initContainers:
  - {name: a, ports: [{containerPort: 1, hostPort: 1}]} # want "open-port"
  ephemeralContainers:
  - {name: b, ports: [{containerPort: 1, hostPort: 1}]} # want "open-port"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: b}
spec: {template: {spec: {containers: [{name: a, ports: [{containerPort: 1, hostPort: 1}]}]}}} # want "open-port"
`

// run runs the mutants of a control.
func run(t *testing.T, text, fixture string) *Report {
	t.Helper()
	l := baseline.NewLibrary()
	if err := l.Read("own.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r, err := Run(Input{
		Control: l.Control(l.Controls()[0]), File: "own.yaml", Text: []byte(text), Fixture: "own.fixture.yaml", FixtureText: []byte(fixture),
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func survivors(r *Report) []*Mutant {
	return slices.DeleteFunc(slices.Clone(r.Mutants), func(m *Mutant) bool { return m.Outcome != Survived })
}

// TestSeeing holds that a fixture which shows everything leaves no survivor.
func TestSeeing(t *testing.T) {
	r := run(t, openPort, openPortFixture)
	if n := r.Count(Killed); n < 15 {
		t.Errorf("only %d mutants were killed", n)
	}
	for _, m := range survivors(r) {
		t.Errorf("%s survives: %s -> %s", m.ID, m.Before, m.After)
	}
}

// TestBlind takes one case after the other from the fixture: what survives is
// what the case was for, it is told with its place, and the case that is
// suggested instead makes the fixture see again.
func TestBlind(t *testing.T) {
	for _, test := range []struct {
		without, by string
		want        []string
	}{
		{"    - containerPort: 81\n", "", []string{
			"own.yaml:16:30: variables.port: item.?hostPort -> item.hostPort (required)",
			"own.yaml:16:53: variables.port: absent: 0 -> absent: 1",
		}},
		{"hostPort: 1025", "hostPort: 1026", []string{
			"own.yaml:14:45: parameters.highest: 1024 -> 1025",
		}},
		{"  initContainers:\n  - {name: a, ports: [{containerPort: 1, hostPort: 1}]} # want \"open-port\"\n", "", []string{
			"own.yaml:17:12: forEach: initContainers -> (not looked at)",
		}},
		{"    - {containerPort: 82, hostPort: 0}\n    - {containerPort: 83, hostPort: 1025}\n", "", []string{
			"own.yaml:14:45: parameters.highest: 1024 -> 1025",
			"own.yaml:20:8: require: variables.port > params.highest -> (dropped)",
		}},
	} {
		blind := strings.Replace(openPortFixture, test.without, test.by, 1)
		if blind == openPortFixture {
			t.Fatalf("%q is no part of the fixture", test.without)
		}
		var got []string
		seeing := blind
		for _, m := range survivors(run(t, openPort, blind)) {
			got = append(got, fmt.Sprintf("%s:%d:%d: %s: %s -> %s", m.Position.File, m.Position.Line, m.Position.Column, m.Field, m.Before, m.After))
			if m.Case == "" && m.CaseOf == "" {
				t.Errorf("no case for %s", m.ID)
			}
			seeing += m.Case
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("without %q: got\n\t%s\nwant\n\t%s", test.without, strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
		}
		for _, m := range survivors(run(t, openPort, seeing)) {
			t.Errorf("%s survives its own case:\n%s", m.ID, seeing)
		}
	}
}

// TestEquivalent holds that a mark leaves a mutant out, and that a mark which is
// wrong is told.
func TestEquivalent(t *testing.T) {
	blind := strings.Replace(openPortFixture, "    - containerPort: 81\n", "", 1)
	open := survivors(run(t, openPort, blind))
	marked := func(ids ...string) string {
		out := ""
		for _, id := range ids {
			out += "# equivalent: " + id + ": the port is always there\n"
		}
		return out
	}
	r := run(t, openPort, marked(open[0].ID)+blind)
	if n := r.Count(Equivalent); n != 1 || len(survivors(r)) != len(open)-1 || len(r.Mistakes) > 0 {
		t.Errorf("%d are equivalent, %d survive: %q", n, len(survivors(r)), r.Mistakes)
	}
	for _, m := range r.Mutants {
		if m.Outcome == Equivalent && m.Reason != "the port is always there" {
			t.Errorf("%s is equivalent since %q", m.ID, m.Reason)
		}
	}
	r = run(t, openPort, marked("bound-000000", open[0].ID)+openPortFixture)
	want := []string{"own.fixture.yaml:2: " + open[0].ID + " is marked", "own.fixture.yaml:1: there is no mutant bound-000000"}
	if !slices.EqualFunc(r.Mistakes, want, strings.HasPrefix) {
		t.Errorf("mistakes are %q, want %q", r.Mistakes, want)
	}
	if _, err := marks([]byte("# equivalent: bound-000000\n")); err == nil || !strings.Contains(err.Error(), "wants a mutant and a reason") {
		t.Errorf("a mark without a reason: %v", err)
	}
}

// TestSearchIsDeterministic holds that the same cases are suggested every time.
func TestSearchIsDeterministic(t *testing.T) {
	blind := strings.Replace(openPortFixture, "    - containerPort: 81\n", "", 1)
	first, second := run(t, openPort, blind), run(t, openPort, blind)
	for i, m := range first.Mutants {
		if m.Case != second.Mutants[i].Case {
			t.Errorf("%s: once\n%s\nthen\n%s", m.ID, m.Case, second.Mutants[i].Case)
		}
	}
}

const rootCA = `apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: root-ca}
spec:
  title: Pods are given an authority
  description: Without one they cannot verify the API server.
  remediation: Set --root-ca-file.
  severity: low
  layer: cluster
  phase: build
  topic: own
  match: {kinds: [{group: facts.sconce.dev, kind: ControllerManager}]}
  require: object.facts.flags[?'root-ca-file'].orValue('') != ''
  message: there is no authority
  at: [facts.flags.root-ca-file]
`

const rootCAFixture = `apiVersion: v1
kind: Pod
metadata: {name: kube-controller-manager, namespace: kube-system}
spec:
  containers:
  - {name: right, command: [kube-controller-manager, --root-ca-file=/etc/a]}
  - {name: also-right, command: [kube-controller-manager, --root-ca-file=/etc/a, --profiling=false]}
  - name: empty
    command:
    - kube-controller-manager
    - --root-ca-file= # want "root-ca"
  - {name: not-set, command: [kube-controller-manager]} # want "root-ca"
`

// TestBlindToFacts does the same for a control that judges facts: the case is
// one of the objects that they are derived from.
func TestBlindToFacts(t *testing.T) {
	for _, m := range survivors(run(t, rootCA, rootCAFixture)) {
		t.Errorf("%s survives: %s -> %s", m.ID, m.Before, m.After)
	}
	before, after, _ := strings.Cut(rootCAFixture, "  - {name: not-set")
	_, after, _ = strings.Cut(after, "\n")
	blind := before + after
	open := survivors(run(t, rootCA, blind))
	if len(open) == 0 {
		t.Fatal("nothing survives without the case that has no such flag")
	}
	seeing := blind
	for _, m := range open {
		if m.Case == "" && m.CaseOf == "" {
			t.Errorf("no case for %s: %s -> %s", m.ID, m.Before, m.After)
		}
		seeing += m.Case
	}
	for _, m := range survivors(run(t, rootCA, seeing)) {
		t.Errorf("%s survives its own case:\n%s", m.ID, seeing)
	}
}
