// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

func controlled(kind, name, uid, owner, ownerKind, spec string) string {
	apiVersion := "apps/v1"
	if kind == "Pod" {
		apiVersion = "v1"
	}
	meta := fmt.Sprintf("{name: %s, namespace: shop, uid: %s}", name, uid)
	if owner != "" {
		meta = fmt.Sprintf("{name: %s, namespace: shop, uid: %s, ownerReferences: [{controller: true, kind: %s, uid: %s}]}", name, uid, ownerKind, owner)
	}
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: %s\nspec: %s\n", apiVersion, kind, meta, spec)
}

func podSpec(containers ...string) string {
	return "{containers: [" + strings.Join(containers, ", ") + "]}"
}

func templated(spec string) string { return "{replicas: 1, template: {spec: " + spec + "}}" }

const (
	app     = "{name: app, image: a, securityContext: {privileged: true}}"
	sidecar = "{name: sidecar, image: s, securityContext: {privileged: true}}"
)

// TestFold: what an object has in common with its owner is told of the owner,
// in whatever order they come, and all verdicts are counted.
func TestFold(t *testing.T) {
	deployment := controlled("Deployment", "web", "d", "", "", templated(podSpec(app)))
	replicas := controlled("ReplicaSet", "web-1", "r", "d", "Deployment", templated(podSpec(app)))
	pod := controlled("Pod", "web-1-a", "p", "r", "ReplicaSet", podSpec(app))
	injected := controlled("Pod", "web-1-b", "q", "r", "ReplicaSet", podSpec(app, sidecar))
	old := controlled("ReplicaSet", "web-0", "o", "d", "Deployment", "{replicas: 0, template: {spec: "+podSpec(app)+"}}")
	for _, tt := range []struct {
		name  string
		units [][]string
		want  string
		fails int
	}{
		{"owners first", [][]string{{deployment}, {replicas}, {pod, injected}}, "Deployment web app; Pod web-1-b sidecar", 4},
		{"owners last", [][]string{{pod, injected}, {replicas}, {deployment}}, "Deployment web app; Pod web-1-b sidecar", 4},
		{"in one unit", [][]string{{injected, pod, replicas, deployment}}, "Deployment web app; Pod web-1-b sidecar", 4},
		{"without the owner", [][]string{{pod}}, "Pod web-1-a app", 1},
		{"old revisions", [][]string{{deployment}, {old}}, "Deployment web app", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			summary, found := runUnits(t, tt.units)
			if got := strings.Join(found, "; "); got != tt.want {
				t.Errorf("told of %s, want %s", got, tt.want)
			}
			if v := summary.ByControl["privileged-container"]; v.Fail != tt.fails {
				t.Errorf("%d verdicts fail, want %d", v.Fail, tt.fails)
			}
		})
	}
}

func runUnits(t *testing.T, texts [][]string) (*verdict.Summary, []string) {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve(catalog.Default, baseline.Options{Only: []string{"privileged-container"}})
	if err != nil {
		t.Fatal(err)
	}
	var units []snapshot.Unit
	for _, docs := range texts {
		units = append(units, text(strings.Join(docs, "---\n")))
	}
	findings, problems, _, summary := collect(t, engine.New(b, l.Exceptions(time.Time{}), time.Time{}), units)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	var found []string
	for _, f := range findings {
		_, name, _ := strings.Cut(strings.TrimSuffix(f.Element, "]"), "[")
		found = append(found, f.Object.Kind+" "+f.Object.Name+" "+name)
	}
	slices.Sort(found)
	return summary, found
}

const excused = `apiVersion: sconce.dev/v1alpha1
kind: Exception
metadata: {name: legacy}
spec: {controls: [privileged-container, host-network], match: {names: [web]}, reason: it loads a kernel module, owner: platform, expires: "2030-01-01"}
`

// TestForgedOwners: who names an owner that is excused, or is of another
// namespace, hides nothing but what that runs too.
func TestForgedOwners(t *testing.T) {
	const hooked = "{name: app, image: a, securityContext: {privileged: true}, lifecycle: {postStart: {exec: {command: [sh]}}}}"
	host := func(containers ...string) string { return "{hostNetwork: true, " + podSpec(containers...)[1:] }
	owner := controlled("Deployment", "web", "d", "", "", templated(host(app)))
	own := "Deployment web app excused; Deployment web host excused"
	elsewhere := func(text string) string { return strings.Replace(text, "namespace: shop", "namespace: evil", 1) }
	for _, tt := range []struct {
		name, pod, want  string
		excepted, failed int
	}{
		{"the same", controlled("Pod", "p", "p", "d", "Deployment", host(app)), own, 4, 0},
		{"another container", controlled("Pod", "p", "p", "d", "Deployment", host(app, "{name: evil, image: e}")), own + "; Pod p host", 3, 1},
		{"another program", controlled("Pod", "p", "p", "d", "Deployment", host(hooked)), own + "; Pod p app; Pod p host", 2, 2},
		{"another namespace", elsewhere(controlled("Pod", "p", "p", "d", "Deployment", host(app))), own + "; Pod p app; Pod p host", 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, v := judgeOwned(t, []string{"privileged-container", "host-network"}, owner, tt.pod)
			if found != tt.want || v.Excepted != tt.excepted || v.Fail != tt.failed {
				t.Errorf("told of %s, %+v; want %s, %d excepted, %d failed", found, v, tt.want, tt.excepted, tt.failed)
			}
		})
	}
}

// TestExcusedAndUnknown: where what fails is excused by the owner and something
// else is not known, the verdict is unknown.
func TestExcusedAndUnknown(t *testing.T) {
	owner := controlled("Deployment", "web", "d", "", "", templated(podSpec(app)))
	const odd = "{name: odd, image: o, securityContext: {privileged: 'maybe'}}"
	if found, v := judgeOwned(t, []string{"privileged-container"}, owner, controlled("Pod", "p", "p", "d", "Deployment", podSpec(app, odd))); v.Excepted != 1 || v.Unknown != 1 || v.Fail != 0 {
		t.Errorf("%+v: %s", v, found)
	}
}

// judgeOwned returns what is told of objects of one namespace, one after the
// other, and the verdicts.
func judgeOwned(t *testing.T, controls []string, docs ...string) (string, verdict.Counts) {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Read("exception.yaml", []byte(excused)); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve("hardened", baseline.Options{Only: controls})
	if err != nil {
		t.Fatal(err)
	}
	var units []snapshot.Unit
	for _, doc := range docs {
		units = append(units, text(doc))
	}
	findings, problems, _, summary := collect(t, engine.New(b, l.Exceptions(time.Time{}), time.Time{}), units)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	var found []string
	for _, f := range findings {
		_, name, in := strings.Cut(strings.TrimSuffix(f.Element, "]"), "[")
		if !in {
			name = "host"
		}
		if f.Excepted != nil {
			name += " excused"
		}
		found = append(found, f.Object.Kind+" "+f.Object.Name+" "+name)
	}
	slices.Sort(found)
	return strings.Join(found, "; "), summary.Verdicts
}
