// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// manyPolicies returns n policies, a quarter of each of four languages. Each has
// a label of its own, so that none is the same as another.
func manyPolicies(n int) string {
	var b strings.Builder
	b.WriteString(templateText)
	for i := range n {
		b.WriteString("---\n")
		switch i % 4 {
		case 0:
			_, _ = fmt.Fprintf(&b, clusterPolicyText, i, i)
		case 1:
			_, _ = fmt.Fprintf(&b, validatingPolicyText, i, i)
		case 2:
			_, _ = fmt.Fprintf(&b, admissionPolicyText, i, i)
		default:
			_, _ = fmt.Fprintf(&b, constraintText, i, i)
		}
	}
	return b.String()
}

const (
	clusterPolicyText = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: require-team-%d}
spec:
  rules:
  - name: check
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate:
      message: "no latest, and a team"
      pattern:
        metadata: {labels: {team-%d: "?*"}}
        spec: {containers: [{image: "!*:latest", =(securityContext): {=(privileged): "false"}}]}
`
	validatingPolicyText = `apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: require-team-%d}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}
  validations:
  - expression: "has(object.metadata.labels) && 'team-%d' in object.metadata.labels"
    message: "a team"
  - expression: "object.spec.containers.all(c, !c.image.endsWith(':latest'))"
    message: "no latest"
`
	admissionPolicyText = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: require-team-%d}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}
  validations:
  - expression: "has(object.metadata.labels) && 'team-%d' in object.metadata.labels"
    message: "a team"
  - expression: "object.spec.containers.all(c, !c.image.endsWith(':latest'))"
    message: "no latest"
`
	templateText = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: requireteam}
spec:
  crd: {spec: {names: {kind: RequireTeam}, validation: {openAPIV3Schema: {type: object, properties: {label: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package requireteam
      violation[{"msg": msg}] {
        not input.review.object.metadata.labels[input.parameters.label]
        msg := "a team"
      }
      violation[{"msg": msg}] {
        c := input.review.object.spec.containers[_]
        endswith(c.image, ":latest")
        msg := sprintf("container <%v> has no version", [c.name])
      }
`
	constraintText = `apiVersion: constraints.gatekeeper.sh/v1beta1
kind: RequireTeam
metadata: {name: require-team-%d}
spec:
  match: {kinds: [{apiGroups: [""], kinds: [Pod]}]}
  parameters: {label: team-%d}
`
)

// numbered is a unit of so many pods, each of its own name.
type numbered struct{ first, n int }

func (u numbered) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	for i := u.first; i < u.first+u.n; i++ {
		text(strings.Replace(typicalPod, "name: web\n  namespace", fmt.Sprintf("name: web-%d\n  namespace", i), 1)).Read(ctx, sink)
	}
	return snapshot.Tally{Files: 1}
}

func policiesOf(tb testing.TB, documents string) *engine.Engine {
	tb.Helper()
	l := baseline.NewLibrary()
	l.ReadPolicies(all.Reader{}, policy.Options{})
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	if err := l.Read("policies.yaml", []byte(documents)); err != nil {
		tb.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		tb.Fatal(err)
	}
	b, err := l.Resolve(catalog.Default, baseline.Options{PoliciesOnly: true, Complete: true})
	if err != nil {
		tb.Fatal(err)
	}
	return engine.New(b, l.Exceptions(time.Now()), time.Now())
}

// TestManyPolicies runs 1,000 policies over 10,000 pods, each of which fails each
// of them. It is heavy, and run by hand: SCONCE_HEAVY=1.
func TestManyPolicies(t *testing.T) {
	n, objects := 40, 40
	if os.Getenv("SCONCE_HEAVY") != "" {
		n, objects = 1000, 10_000
	}
	start := time.Now()
	e := policiesOf(t, manyPolicies(n))
	t.Logf("%d rules read in %v", len(e.Rules()), time.Since(start).Round(time.Millisecond))
	var units []snapshot.Unit
	for i := 0; i < objects; i += 20 {
		units = append(units, numbered{i, 20})
	}
	var peak uint64
	start = time.Now()
	s, err := e.Run(t.Context(), units, 0, engine.Output{
		Result:  func(*engine.Result) error { return nil },
		Problem: func(p verdict.Problem) error { t.Error(p.Message); return nil },
		Notice:  func(verdict.Notice) error { return nil },
		Done: func(int) {
			var m runtime.MemStats
			if runtime.ReadMemStats(&m); m.Sys-m.HeapReleased > peak {
				peak = m.Sys - m.HeapReleased
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d policies over %d objects in %v, at most %d MiB", n, objects, time.Since(start).Round(time.Millisecond), peak>>20)
	if got := s.Verdicts.Fail; got != n*objects {
		t.Errorf("%d verdicts fail, want %d: %+v", got, n*objects, s.Verdicts)
	}
}

// BenchmarkPolicies judges one pod by one rule of each language.
func BenchmarkPolicies(b *testing.B) {
	for i, language := range []string{"kyverno", "kyverno-cel", "vap", "gatekeeper"} {
		b.Run(language, func(b *testing.B) {
			documents := strings.Split(manyPolicies(4), "---\n")
			text := documents[i+1]
			if language == "gatekeeper" {
				text = documents[0] + "---\n" + text
			}
			e := policiesOf(b, text)
			root, err := object.ParseYAML(object.Text{Line: 1, Bytes: []byte(typicalPod)})
			if err != nil {
				b.Fatal(err)
			}
			o := object.New(root, &object.Origin{Source: "pod.yaml", Text: []byte(typicalPod), FirstLine: 1})
			b.ReportAllocs()
			for b.Loop() {
				if len(e.Judge(o).Findings) == 0 {
					b.Fatal("nothing is found")
				}
			}
		})
	}
}
