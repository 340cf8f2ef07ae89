// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// world is objects and problems, and what was said of changes to them.
type world struct {
	r        *rand.Rand
	version  int
	objects  map[object.Ref]*object.Object
	problems map[object.GroupKind]verdict.Problem
	findings map[string]bool // by the deltas
}

// pick returns one of the values.
func pick[T any](w *world, values ...T) T { return values[w.r.IntN(len(values))] }

// some returns one of a few numbers of a name.
func (w *world) some(prefix string) string { return fmt.Sprintf("%s%d", prefix, w.r.IntN(3)) }

// object returns a random object: of few names, so that they meet.
func (w *world) object(t *testing.T) *object.Object {
	w.version++
	space := w.some("team-")
	meta := func(name, labels string) string {
		return fmt.Sprintf(`metadata: {name: %s, namespace: %s, uid: %s-%s, resourceVersion: "%d", labels: {%s}}`, name, space, space, name, w.version, labels)
	}
	owned := func(name, labels, owner string) string {
		at := pick(w, space, space, space, w.some("team-"))
		refs := fmt.Sprintf(", ownerReferences: [{kind: %s, uid: %s-%s, controller: %t}]}", map[byte]string{'d': "Deployment", 's': "ReplicaSet"}[owner[0]], at, owner, w.r.IntN(4) > 0)
		return strings.TrimSuffix(meta(name, labels), "}") + refs
	}
	cluster := func(name, labels string) string {
		return fmt.Sprintf(`metadata: {name: %s, resourceVersion: "%d", labels: {%s}}`, name, w.version, labels)
	}
	labels := pick(w, "app: web", "app: db", "app: web, tier: front", "")
	podSpec := fmt.Sprintf("spec: {serviceAccountName: %s, hostNetwork: %t, automountServiceAccountToken: %s, containers: [{name: app, image: '%s', securityContext: {privileged: %t}, ports: [{name: %s, containerPort: 80}]%s}]}",
		pick(w, "sa-0", "sa-1", "default"), pick(w, true, false), pick(w, "true", "false", "null"), pick(w, "i:1", "i:2"), pick(w, true, false), pick(w, "http", "web"),
		pick(w, "", "", ", lifecycle: {preStop: {exec: {command: [sh]}}}", "}, {name: odd, image: odd, securityContext: {privileged: maybe}"))
	selector := pick(w, "matchLabels: {app: web}", "matchLabels: {app: db}", "matchLabels: {app: none}", "", "matchExpressions: [{key: tier, operator: Exists}]", "matchLabels: {pod-template-hash: x}")
	spaces := pick(w, "matchLabels: {kubernetes.io/metadata.name: team-1}", "matchLabels: {team: a}", "", "matchExpressions: [{key: team, operator: DoesNotExist}]")
	subject := pick(w, "{kind: ServiceAccount, name: sa-0, namespace: "+w.some("team-")+"}", "{kind: User, name: 'system:serviceaccount:team-1:sa-1'}",
		"{kind: Group, name: 'system:serviceaccounts:team-2'}", "{kind: Group, name: 'system:serviceaccounts'}", "{kind: ServiceAccount, name: gone, namespace: team-0}")
	const rbac, network = "rbac.authorization.k8s.io", "networking.k8s.io"
	roleRef := fmt.Sprintf("roleRef: {apiGroup: %s, kind: %s, name: %s}", rbac, pick(w, "Role", "ClusterRole"), pick(w, "role-0", "role-1", "cluster-admin"))
	all := []string{
		"apiVersion: v1\nkind: Namespace\n" + cluster(w.some("team-"), pick(w, "", "team: a", "pod-security.kubernetes.io/enforce: restricted")),
		"apiVersion: v1\nkind: Pod\n" + meta(w.some("pod-"), labels) + "\n" + podSpec,
		"apiVersion: apps/v1\nkind: Deployment\n" + meta(w.some("deploy-"), "") + "\nspec: {template: {metadata: {labels: {" + labels + "}}, " + podSpec + "}}",
		"apiVersion: apps/v1\nkind: ReplicaSet\n" + owned(w.some("set-"), "", w.some("deploy-")) + "\nspec: {replicas: " + pick(w, "0", "1", "2") + ", template: {metadata: {labels: {" + labels + "}}, " + podSpec + "}}",
		"apiVersion: v1\nkind: Pod\n" + owned(w.some("pod-"), labels, pick(w, w.some("set-"), w.some("deploy-"))) + "\n" + podSpec,
		"apiVersion: v1\nkind: ServiceAccount\n" + meta(w.some("sa-"), "") + "\nautomountServiceAccountToken: " + pick(w, "true", "false"),
		"apiVersion: v1\nkind: Service\n" + meta(w.some("svc-"), "") + "\nspec: {selector: {" + labels + "}, ports: [{name: http, port: 80, targetPort: " + pick(w, "http", "web", "8080") + "}]}",
		"apiVersion: v1\nkind: ResourceQuota\n" + meta(w.some("quota-"), ""),
		"apiVersion: v1\nkind: LimitRange\n" + meta(w.some("limits-"), ""),
		"apiVersion: " + rbac + "/v1\nkind: Role\n" + meta(w.some("role-"), ""),
		"apiVersion: " + rbac + "/v1\nkind: ClusterRole\n" + cluster(w.some("role-"), ""),
		"apiVersion: " + rbac + "/v1\nkind: RoleBinding\n" + meta(w.some("bind-"), "") + "\n" + roleRef + "\nsubjects: [" + subject + "]",
		"apiVersion: " + rbac + "/v1\nkind: ClusterRoleBinding\n" + cluster(w.some("bind-"), "") + "\n" + strings.Replace(roleRef, "kind: Role,", "kind: ClusterRole,", 1) + "\nsubjects: [" + subject + "]",
		"apiVersion: " + network + "/v1\nkind: NetworkPolicy\n" + meta(w.some("policy-"), "") + "\nspec: {podSelector: {" + selector + "}, policyTypes: [" + pick(w, "Ingress", "Ingress, Egress", "Egress") +
			"], ingress: [" + pick(w, "", "{from: [{podSelector: {"+selector+"}}]}", "{from: [{namespaceSelector: {"+spaces+"}, podSelector: {"+selector+"}}]}") + "]}",
		"apiVersion: " + network + "/v1\nkind: Ingress\n" + meta(w.some("ing-"), "") + "\nspec: {rules: [{host: " + w.some("host-") + ".example.com, http: {paths: [{path: /, backend: {service: {name: " + w.some("svc-") + ", port: {number: 80}}}}]}}]}",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n" + meta(w.some("route-"), "") + "\nspec: {rules: [{backendRefs: [{name: " + w.some("svc-") + ", namespace: " + w.some("team-") + ", port: " + pick(w, "80", "81") + "}]}]}",
		"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\n" + cluster(w.some("admin-"), "") + "\nspec: {priority: 1, subject: {namespaces: {" + spaces + "}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}",
		"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n" + cluster("adminnetworkpolicies.policy.networking.k8s.io", "") + "\nspec: {}",
		"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n" + cluster(w.some("vap-"), "") + "\nspec: {policyName: p, validationActions: [" + pick(w, "Deny", "Warn") + "]}",
		"apiVersion: kyverno.io/v1\nkind: Policy\n" + meta(w.some("policy-"), "") + "\nspec: {validationFailureAction: " + pick(w, "Enforce", "Audit") + "}",
		"apiVersion: v1\nkind: ConfigMap\n" + meta(w.some("cm-"), "") + "\ndata: {a: b}",
	}
	return parse(t, pick(w, all...))[0]
}

// apply takes a delta into the findings, which it must fit.
func (w *world) apply(t *testing.T, d audit.Delta) {
	t.Helper()
	for _, f := range d.Cleared {
		if !w.findings[state(&f)] {
			t.Errorf("%s cleared, but was not there", state(&f))
		}
		delete(w.findings, state(&f))
	}
	for _, f := range d.Appeared {
		if w.findings[state(&f)] {
			t.Errorf("%s appeared, but was there", state(&f))
		}
		w.findings[state(&f)] = true
	}
}

func state(f *verdict.Finding) string {
	return fmt.Sprintf("%s %s %s %t %s %s", f.Fingerprint, f.Control, f.Outcome, f.Excepted != nil, f.Object, f.Path)
}

// step changes something.
func (w *world) step(t *testing.T, s *audit.State) {
	switch n := w.r.IntN(20); {
	case n < 12:
		o := w.object(t)
		w.objects[o.Ref] = o
		w.apply(t, s.Set(o))
	case n < 16 && len(w.objects) > 0:
		ref := pick(w, slices.SortedFunc(maps.Keys(w.objects), compare)...)
		delete(w.objects, ref)
		w.apply(t, s.Delete(ref))
	case n < 17:
		gk := pick(w, object.GroupKind{Kind: "Secret"}, object.GroupKind{Kind: "Service"}, object.GroupKind{Group: "rbac.authorization.k8s.io", Kind: facts.AnyKind},
			object.GroupKind{Kind: facts.AnyKind}, object.GroupKind{Group: "networking.k8s.io", Kind: facts.AnyKind})
		p := verdict.Problem{Stage: verdict.Reading, Message: "may not list " + gk.Group + " " + gk.Kind, Of: gk}
		if _, has := w.problems[gk]; has {
			delete(w.problems, gk)
			s.Problem(gk, nil)
			return
		}
		w.problems[gk] = p
		s.Problem(gk, &p)
	case n < 18:
		w.apply(t, s.SettleChanged(context.Background()))
	default:
		w.apply(t, s.Settle(context.Background()))
	}
}

func compare(a, b object.Ref) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Group(), b.Group()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// Read implements snapshot.Unit: a scan of the same.
func (w *world) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for _, ref := range slices.SortedFunc(maps.Keys(w.objects), compare) {
		sink.Object(w.objects[ref])
	}
	for _, p := range w.problems {
		sink.Problem(p)
	}
	return snapshot.Tally{}
}

// scan returns what a scan says of all.
func (w *world) scan(t *testing.T, e *engine.Engine) (findings []string, s *verdict.Summary) {
	t.Helper()
	s, err := e.Run(context.Background(), []snapshot.Unit{w}, 0, engine.Output{
		Result: func(r *engine.Result) error {
			for i := range r.Findings {
				findings = append(findings, state(&r.Findings[i])+" "+string(r.Findings[i].Action)+" "+r.Findings[i].Message)
			}
			return nil
		},
		Problem: func(verdict.Problem) error { return nil },
		Notice:  func(verdict.Notice) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(findings)
	return findings, s
}

// audited returns what the state says of all.
func (w *world) audited(s *audit.State) (findings []string) {
	for _, namespace := range []string{"", "team-0", "team-1", "team-2"} {
		for _, f := range s.Namespace(namespace).Findings {
			findings = append(findings, state(&f)+" "+string(f.Action)+" "+f.Message)
		}
	}
	slices.Sort(findings)
	return findings
}

// check holds the state against a scan of the same objects.
func (w *world) check(t *testing.T, e *engine.Engine, s *audit.State) {
	t.Helper()
	w.apply(t, s.Settle(context.Background()))
	want, sum := w.scan(t, e)
	got := w.audited(s)
	if !slices.Equal(got, want) {
		t.Errorf("after %d changes, with %d objects: the audit says\n  %s\na scan says\n  %s", w.version, len(w.objects), strings.Join(without(got, want), "\n  "), strings.Join(without(want, got), "\n  "))
	}
	own := s.Summary()
	sum.Notices = 0
	if a, b := fmt.Sprintf("%+v", own), fmt.Sprintf("%+v", sum); a != b {
		t.Errorf("the audit counts\n  %s\na scan\n  %s", a, b)
	}
	w.checkDeltas(t, s)
}

// checkDeltas holds that what appeared and did not clear is what there is.
func (w *world) checkDeltas(t *testing.T, s *audit.State) {
	t.Helper()
	all := 0
	for ref := range w.objects {
		for _, f := range s.Object(ref) {
			all++
			if !w.findings[state(&f)] {
				t.Errorf("%s is there, but did not appear", state(&f))
			}
		}
	}
	if len(w.findings) != all {
		t.Errorf("%d findings appeared and did not clear, but there are %d", len(w.findings), all)
	}
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// uniqueHost is a policy that looks up a kind in every group.
const uniqueHost = `---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: uniquehost}
spec:
  crd: {spec: {names: {kind: UniqueHost}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package uniquehost
      same(a, b) { a.metadata.namespace == b.metadata.namespace; a.metadata.name == b.metadata.name }
      violation[{"msg": msg}] {
        host := input.review.object.spec.rules[_].host
        other := data.inventory.namespace[_][version]["Ingress"][_]
        re_match("^(extensions|networking.k8s.io)/.+$", version)
        other.spec.rules[_].host == host
        not same(other, input.review.object)
        msg := sprintf("the host %v is taken", [host])
      }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: UniqueHost
metadata: {name: hosts}
spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}]}}
`

// TestEqual holds that after any changes the audit says what a scan of the same
// objects says.
func TestEqual(t *testing.T) {
	e := newEngine(t, "mine", `apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: mine}
spec: {title: Mine, description: All that there is., complete: true, extends: [hardened]}
---
apiVersion: sconce.dev/v1alpha1
kind: Exception
metadata: {name: excused}
spec: {controls: [privileged-container, host-network], match: {names: [pod-1, deploy-1]}, reason: it loads a kernel module, owner: platform, expires: "2030-01-01"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: by-namespace}
spec:
  matchConstraints:
    namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations: [{expression: "namespaceObject.metadata.labels.team == object.metadata.?labels.app.orValue('a')"}]
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: alone}
spec:
  rules:
  - name: no-host-network
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate: {message: no host network, pattern: {spec: {=(hostNetwork): "false"}}}
  - name: by-labels
    match: {any: [{resources: {kinds: [Pod]}}]}
    validate:
      message: no host network
      failureAction: Enforce
      failureActionOverrides: [{action: Audit, namespaceSelector: {matchLabels: {team: a}}}, {action: Audit, namespaces: [team-2]}]
      pattern: {spec: {=(hostNetwork): "false"}}
  - name: served
    match: {any: [{resources: {kinds: [ServiceAccount, Pod]}}]}
    context: [{name: services, apiCall: {urlPath: '/api/v1/namespaces/{{ request.namespace }}/services', jmesPath: 'items | length(@)'}}]
    validate: {message: there are services, deny: {conditions: {all: [{key: '{{ services }}', operator: GreaterThan, value: 1}]}}}
`+uniqueHost, baseline.Options{})
	for seed := range uint64(12) {
		w := &world{
			r: rand.New(rand.NewPCG(seed, 0)), objects: map[object.Ref]*object.Object{},
			problems: map[object.GroupKind]verdict.Problem{}, findings: map[string]bool{},
		}
		s := audit.New(e, audit.Options{Findings: 1 << 20})
		for i := 1; i <= 240; i++ {
			if w.step(t, s); i%20 == 0 {
				w.check(t, e, s)
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}
