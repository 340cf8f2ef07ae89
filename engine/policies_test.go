// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// labelled is a language whose only policy asks that what is owned by a team says
// so, by a label of the object, or of its namespace.
type labelled struct{ info policy.Info }

func (labelled) Handles(gk object.GroupKind) bool { return gk.Group == "labels.example.com" }

func (labelled) Load(docs []*object.Object, _ map[string][]byte, _ policy.Options) *policy.Set {
	out := &policy.Set{}
	for _, o := range docs {
		spec := o.Root.Get("spec")
		info := policy.Info{
			Name: policy.Name("labels", o.Name), Title: "Labels", Policy: o.Ref, Position: o.Position(nil),
			Unsupported: spec.Get("unsupported").Str(),
		}
		info.Needs.Namespaces = spec.Get("namespaces").Bool()
		out.Rules = append(out.Rules, labelled{info})
	}
	return out
}

func (l labelled) Info() *policy.Info { return &l.info }

func (labelled) Matches(gk object.GroupKind) bool { return gk.Kind == "ConfigMap" }

func (l labelled) Judge(ctx context.Context, r *policy.Request) (control.Verdict, bool) {
	o := r.Object
	if o.Root.At("metadata", "annotations", "waits") != nil {
		asking <- struct{}{}
		select {
		case <-ctx.Done():
			return policy.Unknown("it was stopped"), true
		case <-time.After(20 * time.Second):
			panic("it is not stopped")
		}
	}
	if o.Root.At("metadata", "annotations", "panic") != nil {
		panic("as asked")
	}
	if o.Root.At("metadata", "labels", "free") != nil {
		return control.Verdict{}, false
	}
	if l.info.Needs.Namespaces {
		n, known := r.Namespace(o.Namespace)
		if !known {
			return policy.Unknown("the namespace is not known"), true
		}
		if n != nil && n.Root.At("metadata", "labels", "team") != nil {
			return policy.Passed(), true
		}
	}
	if o.Root.At("metadata", "labels", "team") != nil {
		return policy.Passed(), true
	}
	return policy.Failed(object.Path(nil).Fields("metadata", "labels"), "no team"), true
}

// asking is told of rules that wait for what they asked.
var asking = make(chan struct{}, 1)

// TestPoliciesStop holds that a run that is stopped waits for no policy.
func TestPoliciesStop(t *testing.T) {
	for _, policies := range []string{alone, among} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asking
			cancel()
		}()
		start := time.Now()
		units := []snapshot.Unit{text(configMap("  annotations: {waits: now}\n"))}
		_, err := policyEngine(t, true, policies).Run(ctx, units, 0, engine.Output{})
		if took := time.Since(start); !errors.Is(err, context.Canceled) || took > 10*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	}
}

// policyEngine returns an engine that runs nothing but policies.
func policyEngine(t *testing.T, complete bool, documents string) *engine.Engine {
	t.Helper()
	l := baseline.NewLibrary()
	l.ReadPolicies(labelled{}, policy.Options{})
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Read("policies.yaml", []byte(documents)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	name := catalog.Default
	if l.Baseline("other") != nil {
		name = "other"
	}
	b, err := l.Resolve(name, baseline.Options{PoliciesOnly: true, Complete: complete})
	if err != nil {
		t.Fatal(err)
	}
	return engine.New(b, l.Exceptions(time.Now()), time.Now())
}

const (
	alone = "apiVersion: labels.example.com/v1\nkind: Labels\nmetadata: {name: alone}\nspec: {}\n"
	among = "apiVersion: labels.example.com/v1\nkind: Labels\nmetadata: {name: among}\nspec: {namespaces: true}\n"
)

func configMap(meta string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: shop\n" + meta
}

// TestPolicies holds that rules of policies come out as controls do: with places,
// exceptions, unknowns, and after all objects were seen where they need that.
func TestPolicies(t *testing.T) {
	team := "  labels: {team: a}\n"
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n"
	for _, c := range []struct {
		name, policies string
		complete       bool
		objects        []string
		want           verdict.Counts
	}{
		{"pass", alone, false, []string{configMap(team)}, verdict.Counts{Pass: 1}},
		{"fail", alone, false, []string{configMap("")}, verdict.Counts{Fail: 1}},
		{"not about it", alone, false, []string{configMap("  labels: {free: yes}\n")}, verdict.Counts{}},
		{"a fault", alone, false, []string{configMap("  annotations: {panic: now}\n")}, verdict.Counts{Unknown: 1}},
		{"unsupported", strings.Replace(alone, "spec: {}", "spec: {unsupported: it calls out}", 1), false, []string{configMap(team)}, verdict.Counts{Unknown: 1}},
		{"namespace not known", among, false, []string{configMap(team)}, verdict.Counts{Unknown: 1}},
		{"no namespace", among, true, []string{configMap("")}, verdict.Counts{Fail: 1}},
		{"namespace comes later", among, false, []string{configMap(""), namespace}, verdict.Counts{Pass: 1}},
		{"both", alone + "---\n" + among, true, []string{configMap(""), namespace}, verdict.Counts{Pass: 1, Fail: 1}},
		{
			"excused", alone + `---
apiVersion: sconce.dev/v1alpha1
kind: Exception
metadata: {name: x}
spec: {controls: [labels.alone], owner: o, reason: it is being moved, expires: "2099-01-01", match: {names: [a]}}
`, false, []string{configMap("")}, verdict.Counts{Excepted: 1},
		},
		{
			"excuses itself", alone, false,
			[]string{configMap("  annotations: {except.sconce.dev/labels.alone: 'until 2099-01-01: it is being moved'}\n")}, verdict.Counts{Excepted: 1},
		},
		{
			"turned off", alone + "---\n" + among + `---
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: other}
spec: {title: t, controls: [{name: labels.alone, disabled: true}]}
`, true, []string{configMap("")}, verdict.Counts{Fail: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var units []snapshot.Unit
			for _, o := range c.objects {
				units = append(units, text(o))
			}
			findings, problems, _, s := collect(t, policyEngine(t, c.complete, c.policies), units)
			if s.Verdicts != c.want || len(problems) > 0 {
				t.Errorf("%+v, want %+v; %v %v", s.Verdicts, c.want, findings, problems)
			}
			for _, f := range findings {
				if f.Outcome == verdict.Fail && f.Position.Line != 3 {
					t.Errorf("the finding stands at line %d: %+v", f.Position.Line, f)
				}
			}
		})
	}
}
