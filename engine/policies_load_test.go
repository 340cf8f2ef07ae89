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

// aKind is a kind of objects in a cluster, and what is asked of it in each
// language.
type aKind struct {
	group, version, kind, resource string
	manifest                       string // but for its metadata
	pattern, cel, rego             string
}

const mixedSpec = `containers:
  - {name: web, image: "registry.example.com/web:1.2.3", resources: {limits: {memory: 128Mi}, requests: {cpu: 100m}}, securityContext: {privileged: false}, env: [{name: MODE, value: production}]}
  - {name: proxy, image: "registry.example.com/proxy:2.0.1", resources: {limits: {memory: 64Mi}}}
  volumes: [{name: tmp, emptyDir: {}}]
`

var (
	ofPods = aKind{"", "v1", "Pod", "pods", "spec:\n  " + mixedSpec,
		`spec: {containers: [{image: "!*:latest", =(securityContext): {=(privileged): "false"}}]}`,
		`object.spec.containers.all(c, !c.image.endsWith(':latest'))`,
		`c := input.review.object.spec.containers[_]; endswith(c.image, ":latest")`}
	ofDeployments = aKind{"apps", "v1", "Deployment", "deployments", "spec:\n replicas: 2\n selector: {matchLabels: {app: web}}\n template:\n  metadata: {labels: {app: web}}\n  spec:\n   " + strings.ReplaceAll(mixedSpec, "\n", "\n "),
		`spec: {replicas: "<10", template: {spec: {containers: [{resources: {limits: {memory: "?*"}}}]}}}`,
		`object.spec.replicas < 10 && object.spec.template.spec.containers.all(c, has(c.resources.limits))`,
		`c := input.review.object.spec.template.spec.containers[_]; not c.resources.limits`}
	ofServices = aKind{"", "v1", "Service", "services", "spec: {type: ClusterIP, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n",
		`spec: {type: "!LoadBalancer"}`, `object.spec.type != 'LoadBalancer'`, `input.review.object.spec.type == "LoadBalancer"`}
	ofIngresses = aKind{"networking.k8s.io", "v1", "Ingress", "ingresses", "spec: {rules: [{host: shop.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}\n",
		`spec: {rules: [{host: "?*"}]}`, `object.spec.rules.all(r, has(r.host))`, `r := input.review.object.spec.rules[_]; not r.host`}
	ofConfigMaps = aKind{"", "v1", "ConfigMap", "configmaps", "data: {mode: production, level: info}\n",
		`data: {mode: production}`, `object.data.mode == 'production'`, `input.review.object.data.mode != "production"`}
	ofRoles = aKind{"rbac.authorization.k8s.io", "v1", "Role", "roles", "rules: [{apiGroups: [\"\"], resources: [pods, services], verbs: [get, list]}]\n",
		`rules: [{resources: ["!secrets"]}]`, `object.rules.all(r, !('secrets' in r.resources))`, `input.review.object.rules[_].resources[_] == "secrets"`}

	// mixedPolicies are what policies are about, mixedObjects what there is.
	mixedPolicies = []aKind{ofPods, ofDeployments, ofServices, ofPods, ofConfigMaps, ofPods, ofRoles, ofDeployments, ofIngresses, ofRoles}
	mixedObjects  = []aKind{ofDeployments, ofPods, ofServices, ofDeployments, ofConfigMaps, ofPods, ofDeployments, ofRoles, ofServices, ofIngresses}
)

// every is which objects fail a policy: those that have one of so many marks.
const every = 20

// manyMixedPolicies returns n policies of four languages about objects of several
// kinds. Each refuses one mark.
func manyMixedPolicies(n int) string {
	var b strings.Builder
	for _, k := range []aKind{ofPods, ofDeployments, ofServices, ofIngresses, ofConfigMaps, ofRoles} {
		_, _ = fmt.Fprintf(&b, mixedTemplateText, strings.ToLower(k.kind), k.kind, k.rego)
	}
	for i := range n {
		k := mixedPolicies[i/4%len(mixedPolicies)]
		mark := fmt.Sprintf("mark-%d", i%every)
		switch i % 4 {
		case 0:
			_, _ = fmt.Fprintf(&b, mixedClusterPolicyText, i, k.group+"/"+k.version+"/"+k.kind, mark, k.pattern)
		case 1:
			_, _ = fmt.Fprintf(&b, mixedExpressionsText, "policies.kyverno.io/v1", "ValidatingPolicy", i, k.group, k.version, k.resource, mark, k.cel)
		case 2:
			_, _ = fmt.Fprintf(&b, mixedExpressionsText, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", i, k.group, k.version, k.resource, mark, k.cel)
		default:
			_, _ = fmt.Fprintf(&b, mixedConstraintText, k.kind, i, k.group, k.kind, mark)
		}
	}
	return b.String()
}

const (
	mixedClusterPolicyText = `---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: mixed-%d}
spec:
  rules:
  - name: check
    match: {any: [{resources: {kinds: ["%s"]}}]}
    validate:
      message: "no mark"
      pattern:
        metadata: {labels: {X(%s): "null"}}
        %s
`
	mixedExpressionsText = `---
apiVersion: %s
kind: %s
metadata: {name: mixed-%d}
spec:
  matchConstraints: {resourceRules: [{apiGroups: ["%s"], apiVersions: ["%s"], operations: [CREATE, UPDATE], resources: ["%s"]}]}
  validations:
  - expression: "!('%s' in object.metadata.labels)"
    message: "no mark"
  - expression: "%s"
    message: "as it should be"
`
	mixedTemplateText = `---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: mixed%s}
spec:
  crd: {spec: {names: {kind: Mixed%s}, validation: {openAPIV3Schema: {type: object, properties: {mark: {type: string}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package mixed
      violation[{"msg": "no mark"}] { input.review.object.metadata.labels[input.parameters.mark] }
      violation[{"msg": "as it should be"}] { %s }
`
	mixedConstraintText = `---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Mixed%s
metadata: {name: mixed-%d}
spec:
  match: {kinds: [{apiGroups: ["%s"], kinds: ["%s"]}]}
  parameters: {mark: "%s"}
`
)

// mixed is a unit of so many objects of several kinds.
type mixed struct{ first, n int }

func (u mixed) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	for i := u.first; i < u.first+u.n; i++ {
		k := mixedObjects[i%len(mixedObjects)]
		version := strings.TrimPrefix(k.group+"/"+k.version, "/")
		text(fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: web-%d, namespace: shop-%d, labels: {app: web, team: shop, mark-%d: \"true\"}}\n%s",
			version, k.kind, i, i%50, i*7/len(mixedObjects)%every, k.manifest)).Read(ctx, sink)
	}
	return snapshot.Tally{Files: 1}
}

// TestManyPolicies runs 1,000 policies over 10,000 objects: those of a cluster,
// where a policy is about some kinds and one verdict in twenty fails; and the
// worst case, pods that every policy is about and fail every policy. It is heavy,
// and run by hand: SCONCE_HEAVY=1.
func TestManyPolicies(t *testing.T) {
	n, objects := 40, 200
	if os.Getenv("SCONCE_HEAVY") != "" {
		n, objects = 1000, 10_000
	}
	t.Run("mixed", func(t *testing.T) {
		s := runMany(t, manyMixedPolicies(n), objects, func(first, n int) snapshot.Unit { return mixed{first, n} })
		v := s.Verdicts
		if share := float64(v.Fail) / float64(v.Fail+v.Pass); v.Unknown > 0 || share < 0.04 || share > 0.06 {
			t.Errorf("a share of %.3f fails, want about 0.05, and none unknown: %+v", share, v)
		}
	})
	t.Run("worst", func(t *testing.T) {
		s := runMany(t, manyPolicies(n), objects, func(first, n int) snapshot.Unit { return numbered{first, n} })
		if got := s.Verdicts.Fail; got != n*objects {
			t.Errorf("%d verdicts fail, want %d: %+v", got, n*objects, s.Verdicts)
		}
	})
}

// runMany judges objects by policies and says how long each step takes and how
// much memory.
func runMany(t *testing.T, policies string, objects int, unit func(first, n int) snapshot.Unit) *verdict.Summary {
	t.Helper()
	start := time.Now()
	e := policiesOf(t, policies)
	t.Logf("%d rules read in %v", len(e.Rules()), time.Since(start).Round(time.Millisecond))
	var units []snapshot.Unit
	for i := 0; i < objects; i += 20 {
		units = append(units, unit(i, 20))
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
	t.Logf("%d objects in %v, at most %d MiB: %+v", objects, time.Since(start).Round(time.Millisecond), peak>>20, s.Verdicts)
	return s
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
