// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/all"
)

// asking are policies about more than creations and updates: %s is the action.
const asking = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: keep}
spec:
  failurePolicy: Ignore
  validationFailureAction: %[1]s
  rules:
  - name: settings
    match: {any: [{resources: {kinds: [ConfigMap], operations: [DELETE], selector: {matchLabels: {keep: "yes"}}}}]}
    validate: {message: "{{ request.oldObject.metadata.name }} stays", deny: {}}
  - name: shells
    match: {any: [{resources: {kinds: [Pod/exec], namespaces: [shop]}}]}
    validate: {message: "no shells in {{ request.name }}", deny: {conditions: {all: [{key: "{{ request.object.stdin }}", operator: Equals, value: true}]}}}
---
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: scale}
spec:
  validationActions: [%[2]s]
  failurePolicy: Ignore
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments/scale]}]}
  validations: [{expression: "object.spec.replicas < 10", message: too many}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: evict}
spec:
  failurePolicy: Ignore
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods/eviction]}]}
  validations: [{expression: "request.name != 'web'", message: it is not moved}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: evict}
spec: {policyName: evict, validationActions: [%[2]s]}
---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: owned}
spec:
  crd: {spec: {names: {kind: Owned}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package owned
      violation[{"msg": "ask its owner"}] { input.review.operation == "DELETE"; input.review.object.metadata.annotations.owner }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Owned
metadata: {name: services}
spec: {enforcementAction: %[3]s, match: {kinds: [{apiGroups: [""], kinds: [Service]}]}}
---
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: never}
spec:
  crd: {spec: {names: {kind: Never}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package never
      violation[{"msg": "it knows of no deletions"}] { true }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: Never
metadata: {name: all}
spec: {match: {kinds: [{apiGroups: [""], kinds: [Service, Pod]}]}}
`

// TestRequests holds that deletions, connections and subresources are judged by
// those rules of policies that ask for them, and by nothing else: here there are all
// controls, too.
func TestRequests(t *testing.T) {
	configMap := func(labels string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"shop","labels":{` + labels + `}}}`
	}
	service := func(annotations string) string {
		return `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","annotations":{` + annotations + `}}}`
	}
	scaled := func(n int) string {
		return fmt.Sprintf(`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web","namespace":"shop"},"spec":{"replicas":%d}}`, n)
	}
	const exec, eviction = `{"apiVersion":"v1","kind":"PodExecOptions","stdin":%s,"container":"app","command":["sh"]}`, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"shop"}}`
	core := func(resource string) metav1.GroupVersionResource {
		return metav1.GroupVersionResource{Version: "v1", Resource: resource}
	}
	deployments := metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	for _, c := range []struct {
		name           string
		operation      admissionv1.Operation
		resource       metav1.GroupVersionResource
		sub, on, space string
		object, old    string
		denied, says   string
	}{
		{name: "a deletion", operation: "DELETE", resource: core("configmaps"), on: "settings", old: configMap(`"keep":"yes"`), denied: "kyverno.keep.settings", says: "settings stays"},
		{name: "of what is not kept", operation: "DELETE", resource: core("configmaps"), on: "settings", old: configMap("")},
		{name: "its creation", operation: "CREATE", resource: core("configmaps"), on: "settings", object: configMap(`"keep":"yes"`)},
		{name: "a deletion of what controls refuse", operation: "DELETE", resource: core("pods"), on: "web", old: pod("", privileged)},
		{name: "a shell", operation: "CONNECT", resource: core("pods"), sub: "exec", on: "web", object: fmt.Sprintf(exec, "true"), denied: "kyverno.keep.shells", says: "no shells in web"},
		{name: "a command", operation: "CONNECT", resource: core("pods"), sub: "exec", on: "web", object: fmt.Sprintf(exec, "false")},
		{name: "a shell elsewhere", operation: "CONNECT", resource: core("pods"), sub: "exec", on: "web", space: "tests", object: fmt.Sprintf(exec, "true")},
		{name: "many replicas", operation: "UPDATE", resource: deployments, sub: "scale", on: "web", object: scaled(10), old: scaled(1), denied: "kyverno.scale", says: "too many"},
		{name: "a few replicas", operation: "UPDATE", resource: deployments, sub: "scale", on: "web", object: scaled(9), old: scaled(1)},
		{name: "an eviction", operation: "CREATE", resource: core("pods"), sub: "eviction", on: "web", object: fmt.Sprintf(eviction, "web"), denied: "vap.evict", says: "it is not moved"},
		{name: "of another", operation: "CREATE", resource: core("pods"), sub: "eviction", on: "db", object: fmt.Sprintf(eviction, "db")},
		{name: "a deletion of what is owned", operation: "DELETE", resource: core("services"), on: "web", old: service(`"owner":"me"`), denied: "gatekeeper.owned.services", says: "ask its owner"},
		{name: "a deletion by a template that knows of none", operation: "DELETE", resource: core("services"), on: "web", old: service("")},
		{name: "a status", operation: "UPDATE", resource: core("pods"), sub: "status", on: "web", object: pod("", privileged), old: pod("", privileged)},
	} {
		for _, enforced := range []bool{true, false} {
			actions := []any{"Enforce", "Deny", "deny"}
			if !enforced {
				actions = []any{"Audit", "Audit", "dryrun"}
			}
			t.Run(fmt.Sprintf("%s, %v", c.name, actions[0]), func(t *testing.T) {
				l := baseline.NewLibrary()
				l.ReadPolicies(all.Reader{}, policy.Options{})
				catalog.Read(l)
				if err := l.Read("policies.yaml", []byte(fmt.Sprintf(asking, actions...))); err != nil {
					t.Fatal(err)
				}
				if err := l.Check(today); err != nil {
					t.Fatal(err)
				}
				b, err := l.Resolve("hardened", baseline.Options{})
				if err != nil {
					t.Fatal(err)
				}
				e := engine.New(b, l.Exceptions(today), today)
				req := &admissionv1.AdmissionRequest{
					UID: "1", Operation: c.operation, Resource: c.resource, SubResource: c.sub, Name: c.on, Namespace: "shop",
					UserInfo: authenticationv1.UserInfo{Username: "alice"},
				}
				if c.space != "" {
					req.Namespace = c.space
				}
				about := c.object
				if about == "" {
					about = c.old
				}
				req.Kind = kindIn(about)
				if c.object != "" {
					req.Object = runtime.RawExtension{Raw: []byte(c.object)}
				}
				if c.old != "" {
					req.OldObject = runtime.RawExtension{Raw: []byte(c.old)}
				}
				out := admission.Review(e, req, admission.Options{Now: today})
				want := ""
				if enforced {
					want = c.denied
				}
				if got := named(out.Denied); got != want {
					t.Errorf("denied by %q, want %q: %+v", got, want, out.Response)
				}
				if want == "" {
					return
				}
				if message := out.Response.Result.Message; !strings.Contains(message, c.says) {
					t.Errorf("it does not say %q: %s", c.says, message)
				}
				if got := askHandler(t, e, req); !strings.Contains(got, c.says) {
					t.Errorf("over HTTP: %s", got)
				}
			})
		}
	}
}

// kindIn returns the kind of an object.
func kindIn(text string) metav1.GroupVersionKind {
	field := func(name string) string {
		_, rest, _ := strings.Cut(text, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	group, version, found := strings.Cut(field("apiVersion"), "/")
	if !found {
		group, version = "", group
	}
	return metav1.GroupVersionKind{Group: group, Version: version, Kind: field("kind")}
}

// askHandler returns what a webhook answers.
func askHandler(t *testing.T, e *engine.Engine, req *admissionv1.AdmissionRequest) string {
	t.Helper()
	h := admission.NewHandler(admission.HandlerOptions{
		Engines: func() admission.Engines { return admission.Engines{Ignore: e} }, Now: func() time.Time { return today },
	})
	r := httptest.NewRequest(http.MethodPost, admission.IgnorePath, strings.NewReader(string(reviewOf(t, req))))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Body.String()
}
