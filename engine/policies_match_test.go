// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
	"sconce.dev/sconce/verdict"
)

// engineOf returns an engine that runs nothing but the policies of a text, and
// the sources of Rego beside it.
func engineOf(tb testing.TB, policies, rego string, complete bool) *engine.Engine {
	tb.Helper()
	l := baseline.NewLibrary()
	l.ReadPolicies(all.Reader{}, policy.Options{})
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	if err := l.Read("policies.yaml", []byte(policies)); err != nil {
		tb.Fatal(err)
	}
	if rego != "" {
		l.ReadModule("policy.rego", []byte(rego))
	}
	if err := l.Check(time.Time{}); err != nil {
		tb.Fatal(err)
	}
	b, err := l.Resolve(catalog.Default, baseline.Options{PoliciesOnly: true, Complete: complete})
	if err != nil {
		tb.Fatal(err)
	}
	return engine.New(b, l.Exceptions(time.Time{}), time.Time{})
}

const aboutVAP = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: data}
spec:
  matchConstraints:
    objectSelector: {matchLabels: {app: web}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps], resourceNames: [web]}]
  validations: [{expression: "object.data.mode == 'safe'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: data}
spec: {policyName: data, validationActions: [Deny]}
`

const aboutKyverno = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: data}
spec:
  rules:
  - name: mode
    match: {any: [{resources: {kinds: [ConfigMap], names: [web], selector: {matchLabels: {app: web}}}}]}
    validate: {message: m, pattern: {data: {mode: safe}}}
`

const aboutKyvernoCEL = `apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: data}
spec:
  matchConstraints:
    objectSelector: {matchLabels: {app: web}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps], resourceNames: [web]}]
  validations: [{expression: "object.data.mode == 'safe'", message: m}]
`

const aboutConstraint = `---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Mode
metadata: {name: data}
spec: {match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], name: web, labelSelector: {matchLabels: {app: web}}}}
`

const aboutGatekeeper = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: mode}
spec:
  crd: {spec: {names: {kind: Mode}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package mode
      violation[{"msg": "m"}] { input.review.object.data.mode != "safe" }
` + aboutConstraint

const aboutRego = `package main

import rego.v1

deny contains "m" if {
	input.kind == "ConfigMap"
	input.data.mode != "safe"
}
`

const cannotRun = "cannot be run"

// TestAbout holds that what cannot be decided is unknown of those objects that a
// rule may be about, and of no others.
func TestAbout(t *testing.T) {
	const web, other = "metadata: {name: web, namespace: shop, labels: {app: web}}\n", "metadata: {name: db, namespace: shop, labels: {app: web}}\n"
	manifests := strings.Replace(aboutKyverno, "pattern: {data: {mode: safe}}", "manifests: {attestors: [{entries: [{keys: {publicKeys: x}}]}]}", 1)
	unknown := verdict.Counts{Unknown: 1}
	for _, c := range []struct {
		name, policies, rego string
		every                bool // names and labels are no business of the language
	}{
		{name: "vap", policies: aboutVAP},
		{name: "kyverno", policies: aboutKyverno},
		{name: "kyvernocel", policies: aboutKyvernoCEL},
		{name: "gatekeeper", policies: aboutGatekeeper},
		{name: "rego", rego: aboutRego, every: true},
		{name: "kyverno that " + cannotRun, policies: manifests},
		{name: "gatekeeper that " + cannotRun, policies: strings.TrimPrefix(aboutConstraint, "---\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := engineOf(t, c.policies, c.rego, false)
			cannot := strings.Contains(c.name, cannotRun)
			for _, o := range []struct {
				name, text string
				dark       []string // the fields that are not known
				about      bool
			}{
				{"all of it", web, []string{"data"}, true},
				{"another name", other, []string{"data"}, false},
				{"another label", strings.Replace(web, "app: web", "app: db", 1), []string{"data"}, false},
				{"labels that are not known", web, []string{"metadata.labels"}, true},
				{"another name, and labels that are not known", other, []string{"metadata.labels"}, false},
				{"a name that is not known", web, []string{"metadata.name"}, true},
				{"another label, and a name that is not known", strings.Replace(web, "app: web", "app: db", 1), []string{"metadata.name"}, false},
				{"nothing of the metadata", web, []string{"metadata"}, true},
				{"a namespace that is not known", web, []string{"metadata.namespace"}, true},
			} {
				got := e.Judge(darkened(t, "apiVersion: v1\nkind: ConfigMap\n"+o.text+"data: {mode: wild}\n", o.dark))
				want := verdict.Counts{}
				if o.about || c.every {
					want = unknown
				}
				if have := countsOf(got); have != want && !(c.name == "vap" && o.name == "a namespace that is not known" && have.Fail == 1) {
					t.Errorf("%s: got %+v, want %+v: %+v", o.name, have, want, got.Findings)
				}
			}
			if got := countsOf(e.Judge(objectOf(t, "apiVersion: v1\nkind: ConfigMap\n"+other+"data: {mode: wild}\n"))); got != (verdict.Counts{}) && !c.every {
				t.Errorf("of another name, all known: %+v", got)
			}
			if got := countsOf(e.Judge(darkened(t, "apiVersion: v1\nkind: Service\n"+web+"data: {mode: wild}\n", []string{"data"}))); got != (verdict.Counts{}) {
				t.Errorf("of another kind: %+v", got)
			}
			if got := countsOf(e.Judge(objectOf(t, "apiVersion: v1\nkind: ConfigMap\n"+web+"data: {mode: wild}\n"))); cannot && got != unknown || !cannot && got != (verdict.Counts{Fail: 1}) {
				t.Errorf("all known: %+v", got)
			}
		})
	}
}

// countsOf counts the outcomes of a result.
func countsOf(r *engine.Result) (out verdict.Counts) {
	for _, o := range r.Outcomes {
		switch o.Outcome {
		case verdict.Pass:
			out.Pass++
		case verdict.Fail:
			out.Fail++
		default:
			out.Unknown++
		}
	}
	return out
}

func objectOf(t *testing.T, text string) *object.Object { return darkened(t, text, nil) }

// darkened returns an object of which some fields could not be read.
func darkened(t *testing.T, text string, fields []string) *object.Object {
	t.Helper()
	root, err := object.ParseYAML(object.Text{Line: 1, Bytes: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range fields {
		at := root
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			at = at.Get(step)
		}
		for i := range at.Fields {
			if at.Fields[i].Key == steps[len(steps)-1] {
				at.Fields[i].Value = object.NewUnknown("a template")
			}
		}
	}
	objects, err := object.FromNode(root, &object.Origin{Source: "x.yaml", Text: []byte(text), FirstLine: 1})
	if err != nil || len(objects) != 1 {
		t.Fatal(err)
	}
	return objects[0]
}
