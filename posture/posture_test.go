// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

const everything = Identity | Network | Attack

// shop is a small cluster: who may what, what runs, and what reaches what.
var shop = []string{
	`{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}}`,
	`{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop, name: web}}`,
	`{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop, name: ci}}`,
	`{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {namespace: shop, name: reader}, rules: [{apiGroups: [""], resources: [secrets], verbs: [get, list]}]}`,
	`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: deployer}, rules: [{apiGroups: [apps], resources: [deployments], verbs: ["*"]}]}`,
	`{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {namespace: shop, name: web}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}, subjects: [{kind: ServiceAccount, namespace: shop, name: web}]}`,
	`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: ci}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: deployer}, subjects: [{kind: ServiceAccount, namespace: shop, name: ci}, {kind: Group, name: devs}]}`,
	`{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: shop, name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: app, image: web, ports: [{containerPort: 80}]}]}}}}`,
	`{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: shop, name: db}, spec: {selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: app, image: db, ports: [{containerPort: 5432}]}]}}}}`,
	`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: db}, spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}}`,
}

// unit yields objects of texts, and problems.
type unit struct {
	name     string
	texts    []string
	problems []verdict.Problem
	fault    bool
}

func (u unit) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for _, p := range u.problems {
		sink.Problem(p)
	}
	for _, text := range u.texts {
		root, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
		if err != nil {
			panic(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: u.name, Text: []byte(text), FirstLine: 1})
		if err != nil {
			panic(err)
		}
		for _, o := range objects {
			sink.Object(o)
		}
	}
	if u.fault {
		panic("broken")
	}
	return snapshot.Tally{Files: 1}
}

func read(t testing.TB, env facts.Env, units ...snapshot.Unit) *Posture {
	t.Helper()
	p, err := Read(t.Context(), units, env, everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// told is all that the models say.
func told(p *Posture) []string {
	var out []string
	for _, s := range p.Identity.Subjects() {
		for _, g := range p.Identity.Permissions(s, nil) {
			out = append(out, fmt.Sprintln(s, g.Binding.Ref, g.Rule.Verbs, g.Rule.Resources))
		}
	}
	classes := p.Network.Classes()
	for _, from := range classes {
		for _, to := range classes {
			out = append(out, fmt.Sprintln(from, to, p.Network.Ports(network.Peer{Class: from}, network.Peer{Class: to})))
		}
	}
	for _, pair := range p.Attack.Pairs() {
		out = append(out, fmt.Sprintln(pair.Entry, pair.Jewel, pair.Entries, pair.Reaching, pair.Possible))
		if pair.Shortest != nil {
			for _, s := range pair.Shortest.Steps {
				out = append(out, fmt.Sprintln(s.Words, s.Because))
			}
		}
	}
	return out
}

// TestOrder holds that neither the order of the units nor what is in which makes
// a difference.
func TestOrder(t *testing.T) {
	env := facts.Env{Minor: 37, Patch: -1, Complete: true}
	want := told(read(t, env, unit{name: "all", texts: shop}))
	if len(want) < 10 {
		t.Fatalf("the models say too little: %v", want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.IntRange(1, 5).Draw(rt, "parts")
		units := make([]unit, parts)
		for _, text := range rapid.Permutation(shop).Draw(rt, "order") {
			i := rapid.IntRange(0, parts-1).Draw(rt, "part")
			units[i].name, units[i].texts = "all", append(units[i].texts, text)
		}
		var all []snapshot.Unit
		for _, u := range units {
			all = append(all, u)
		}
		if diff := cmp.Diff(want, told(read(t, env, all...))); diff != "" {
			rt.Fatalf("another order, another answer (-want +got):\n%s", diff)
		}
	})
}

func problem(kind string) verdict.Problem {
	p := verdict.Problem{Stage: verdict.Reading, Message: "may not be listed"}
	if kind != "" {
		group, name, _ := strings.Cut(kind, "/")
		p.Of = object.GroupKind{Group: group, Kind: name}
	}
	return p
}

// TestComplete holds that what could not be read makes incomplete what comes from
// it, and nothing else.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		name     string
		complete bool
		problem  []verdict.Problem
		what     What
		want     bool
		says     string
	}{
		{"all was read", true, nil, everything, true, ""},
		{"files", false, nil, everything, false, "need not be all"},
		{"roles could not be read", true, []verdict.Problem{problem("rbac.authorization.k8s.io/Role")}, Identity, false, "something could not be read"},
		{"roles are nothing to the network", true, []verdict.Problem{problem("rbac.authorization.k8s.io/Role")}, Network, true, ""},
		{"policies could not be read", true, []verdict.Problem{problem("networking.k8s.io/NetworkPolicy")}, Network, false, "something could not be read"},
		{"a file could not be read", true, []verdict.Problem{problem(""), problem("")}, Network, false, "2 things could not be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Read(t.Context(), []snapshot.Unit{unit{texts: shop, problems: c.problem}}, facts.Env{Minor: 37, Complete: c.complete}, c.what, nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.Complete != c.want || (c.says == "") != (p.Incomplete() == "") || !strings.Contains(p.Incomplete(), c.says) {
				t.Errorf("complete: %v, %q; want %v, %q", p.Complete, p.Incomplete(), c.want, c.says)
			}
		})
	}
}

// TestFault holds that a fault in one unit is a problem, and ends nothing else.
func TestFault(t *testing.T) {
	p := read(t, facts.Env{Minor: 37, Complete: true}, unit{texts: shop[:1], fault: true}, unit{texts: shop[1:]})
	if p.Objects != len(shop) || len(p.Problems) != 1 || p.Complete || !strings.Contains(p.Problems[0].Message, "please report it: broken") {
		t.Errorf("%d objects, problems %v, complete %v", p.Objects, p.Problems, p.Complete)
	}
}

// TestReads holds that a cluster is asked for what the models come from, and for
// no more.
func TestReads(t *testing.T) {
	for _, c := range []struct {
		what  What
		group string
		kind  string
		want  bool
	}{
		{Identity, "rbac.authorization.k8s.io", "ClusterRole", true},
		{Identity, "apps", "Deployment", true},
		{Identity, "networking.k8s.io", "NetworkPolicy", false},
		{Network, "networking.k8s.io", "NetworkPolicy", true},
		{Network, "", "Service", true},
		{Network, "rbac.authorization.k8s.io", "ClusterRole", false},
		{Attack, "rbac.authorization.k8s.io", "ClusterRole", true},
		{Attack, "networking.k8s.io", "NetworkPolicy", true},
		{everything, "events.k8s.io", "Event", false},
	} {
		if got := Reads(c.what)(object.GroupKind{Group: c.group, Kind: c.kind}); got != c.want {
			t.Errorf("Reads(%d)(%s %s) = %v, want %v", c.what, c.group, c.kind, got, c.want)
		}
	}
}

// TestEnds holds that reading ends with its context, and tells how far it is.
func TestEnds(t *testing.T) {
	var done []int
	if _, err := Read(t.Context(), []snapshot.Unit{unit{}, unit{}, unit{}}, facts.Env{}, Identity, func(n int) { done = append(done, n) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 2, 3}, done); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, []snapshot.Unit{unit{}}, facts.Env{}, Identity, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context ended", err)
	}
}
