// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
)

// house is a baseline with one control for each action.
const house = `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: house}
spec:
  title: One control for each action
  controls:
  - {name: privileged-container, action: deny, failurePolicy: Fail}
  - {name: host-network, action: ratchet}
  - {name: host-port, action: ratchet}
  - {name: image-tag-latest, action: warn}
  - {name: host-pid, action: audit}
---
apiVersion: sconce.dev/v1alpha1
kind: Exception
metadata: {name: node-agent}
spec:
  controls: [privileged-container, host-network]
  match: {namespaces: [monitoring]}
  reason: the agent reads the node's counters
  owner: platform@example.com
  expires: "2027-01-31"
`

// pod returns a pod with more fields in its spec and in its container.
func pod(spec, container string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{%s"containers":[{%s"name":"app","image":"registry.example.com/web:1.2"}]}}`, spec, container)
}

const privileged = `"securityContext":{"privileged":true},`

func TestReview(t *testing.T) {
	e := newEngine(t, "house", house, "")
	good := pod("", "")
	for _, c := range []struct {
		name    string
		object  string
		old     string
		request func(*admissionv1.AdmissionRequest)
		want    admission.Decision
		denied  string // controls
		warned  string
	}{
		{name: "passes", object: good, want: admission.Allowed},
		{name: "deny", object: pod("", privileged), want: admission.Denied, denied: "privileged-container"},
		{name: "warn", object: strings.ReplaceAll(good, "web:1.2", "web:latest"), want: admission.Warned, warned: "image-tag-latest"},
		{name: "audit says nothing", object: pod(`"hostPID":true,`, ""), want: admission.Allowed},
		{name: "ratchet denies what is created", object: pod(`"hostNetwork":true,`, ""), want: admission.Denied, denied: "host-network"},
		{name: "ratchet lets what was", object: pod(`"hostNetwork":true,`, ""), old: pod(`"hostNetwork":true,`, ""), want: admission.Warned, warned: "host-network"},
		{name: "ratchet denies what is added", object: pod(`"hostNetwork":true,`, ""), old: good, want: admission.Denied, denied: "host-network"},
		{name: "ratchet denies what is added to what was", object: pod(`"hostNetwork":true,`, `"ports":[{"containerPort":80,"hostPort":80}],`), old: pod(`"hostNetwork":true,`, ""), want: admission.Denied, denied: "host-port", warned: "host-network"},
		{name: "ratchet is no shield against deny", object: pod(`"hostNetwork":true,`, privileged), old: pod(`"hostNetwork":true,`, privileged), want: admission.Denied, denied: "privileged-container", warned: "host-network"},
		{name: "an excuse that is taken away is no old sin",
			object: pod(`"hostNetwork":true,`, ""),
			old:    strings.Replace(pod(`"hostNetwork":true,`, ""), `"metadata":{`, `"metadata":{"annotations":{"except.sconce.dev/host-network":"until 2027-01-31: answers on the node's address"},`, 1),
			want:   admission.Denied, denied: "host-network"},
		{name: "excused by an exception", object: strings.Replace(pod(`"hostNetwork":true,`, privileged), "shop", "monitoring", 1), want: admission.Allowed},
		{name: "excused in the namespace of the request", object: strings.Replace(pod("", privileged), `,"namespace":"shop"`, "", 1),
			request: func(r *admissionv1.AdmissionRequest) { r.Namespace = "monitoring" }, want: admission.Allowed},
		{name: "excused by itself", object: strings.Replace(pod("", privileged), `"metadata":{`, `"metadata":{"annotations":{"except.sconce.dev/privileged-container":"until 2027-01-31: formats the disks"},`, 1), want: admission.Allowed},
		{name: "a name that is yet to be made", object: strings.Replace(pod("", privileged), `"name":"web"`, `"generateName":"web-"`, 1), want: admission.Denied, denied: "privileged-container"},
		{name: "what is being deleted", object: deleting(pod("", privileged)), old: deleting(pod("", privileged)), want: admission.Skipped},
		{name: "what only says that it is being deleted", object: deleting(pod("", privileged)), want: admission.Denied, denied: "privileged-container"},
		{name: "what was not being deleted before", object: deleting(pod("", privileged)), old: pod("", privileged), want: admission.Denied, denied: "privileged-container"},
		{name: "deletion", object: "", old: pod("", privileged), request: operation(admissionv1.Delete), want: admission.Skipped},
		{name: "connect", object: `{"kind":"PodExecOptions","apiVersion":"v1"}`, request: operation(admissionv1.Connect), want: admission.Skipped},
		{name: "status", object: pod("", privileged), old: good, request: subresource("status"), want: admission.Skipped},
		{name: "ephemeral containers", object: pod(`"ephemeralContainers":[{"name":"debugger","image":"busybox:1.36","securityContext":{"privileged":true}}],`, ""), old: good,
			request: subresource("ephemeralcontainers"), want: admission.Denied, denied: "privileged-container"},
		{name: "resize", object: pod("", privileged), old: good, request: subresource("resize"), want: admission.Denied, denied: "privileged-container"},
		{name: "a subresource that others have too", object: pod("", privileged), old: good, request: func(r *admissionv1.AdmissionRequest) {
			r.SubResource, r.Resource = "resize", metav1.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "disks"}
		}, want: admission.Skipped},
		{name: "a pod of a ReplicaSet that was there before", object: owned(pod(`"hostNetwork":true,`, "")), request: by("system:serviceaccount:kube-system:replicaset-controller"), want: admission.Warned, warned: "host-network"},
		{name: "a pod of a ReplicaSet under deny", object: owned(pod("", privileged)), request: by("system:serviceaccount:kube-system:replicaset-controller"), want: admission.Denied, denied: "privileged-container"},
		{name: "an owner that a user has made up", object: owned(pod(`"hostNetwork":true,`, "")), want: admission.Denied, denied: "host-network"},
		{name: "a controller's own pod", object: pod(`"hostNetwork":true,`, ""), request: by("system:serviceaccount:kube-system:replicaset-controller"), want: admission.Denied, denied: "host-network"},
		{name: "unknown fails closed", object: pod("", `"securityContext":{"privileged":"yes"},`), want: admission.Denied, denied: "privileged-container"},
		{name: "unknown warns", object: pod(`"hostNetwork":"yes",`, ""), want: admission.Warned, warned: "host-network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := podRequest([]byte(c.object))
			if c.old != "" {
				req.Operation = admissionv1.Update
				req.OldObject.Raw = []byte(c.old)
			}
			if c.request != nil {
				c.request(req)
			}
			opts := admission.Options{Baseline: "house", FailurePolicy: v1alpha1.FailOpen}
			if strings.Contains(c.name, "closed") {
				opts.FailurePolicy = v1alpha1.FailClosed
			}
			out := admission.Review(e, req, opts)
			got := [3]string{string(out.Decision), named(out.Denied), named(out.Warned)}
			if want := [3]string{string(c.want), c.denied, c.warned}; got != want {
				t.Errorf("decision, denied, warned: %q; want %q", got, want)
			}
			if out.Response.Allowed != (c.want != admission.Denied) || out.Response.UID != req.UID {
				t.Errorf("the response is %+v", out.Response)
			}
		})
	}
}

func deleting(object string) string {
	return strings.Replace(object, `"metadata":{`, `"metadata":{"deletionTimestamp":"2026-11-21T09:00:00Z",`, 1)
}

func owned(object string) string {
	return strings.Replace(object, `"metadata":{`, `"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"1","controller":true}],`, 1)
}

func operation(op admissionv1.Operation) func(*admissionv1.AdmissionRequest) {
	return func(r *admissionv1.AdmissionRequest) { r.Operation = op }
}

func subresource(name string) func(*admissionv1.AdmissionRequest) {
	return func(r *admissionv1.AdmissionRequest) { r.SubResource = name }
}

func by(user string) func(*admissionv1.AdmissionRequest) {
	return func(r *admissionv1.AdmissionRequest) { r.UserInfo.Username = user }
}

// TestDenialIsReadable holds the whole text of a denial.
func TestDenialIsReadable(t *testing.T) {
	e := newEngine(t, "house", house, "")
	out := admission.Review(e, podRequest([]byte(pod(`"hostNetwork":true,`, privileged))), admission.Options{Baseline: "house", FailurePolicy: v1alpha1.FailOpen, Annotations: true})
	const want = `Pod shop/web does not meet 2 controls of baseline house:
- privileged-container: container "app" runs privileged
  at spec.containers[app].securityContext.privileged = true
  fix: set spec.containers[app].securityContext.privileged to false
- host-network: the pod joins the network of its node
  at spec.hostNetwork = true
  fix: remove spec.hostNetwork`
	if diff := cmp.Diff(want, out.Response.Result.Message); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	s := out.Response.Result
	if s.Code != 403 || s.Reason != metav1.StatusReasonForbidden || len(s.Details.Causes) != 2 || s.Details.Causes[0].Field != "spec.containers[app].securityContext.privileged" {
		t.Errorf("the status is %+v", s)
	}
	if got := out.Response.AuditAnnotations["findings"]; !strings.HasPrefix(got, "privileged-container(deny) spec.containers[app].") {
		t.Errorf("the audit annotation is %q", got)
	}
}

// TestAnswersAreBounded asks with a pod that has all too much wrong, and with
// what a terminal or a header must not be given.
func TestAnswersAreBounded(t *testing.T) {
	var containers []string
	for i := range 500 {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d\u001b[31m\n%s","image":"x:latest","securityContext":{"privileged":true}}`, i, strings.Repeat("é", 2000)))
	}
	object := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{"hostNetwork":true,"containers":[` + strings.Join(containers, ",") + `]}}`
	e := newEngine(t, "house", house, "")
	req := podRequest([]byte(object))
	out := admission.Review(e, req, admission.Options{Baseline: "house", FailurePolicy: v1alpha1.FailOpen, Annotations: true})
	data, err := json.Marshal(out.Response)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(out.Response.Result.Message); n > 4<<10 {
		t.Errorf("a message of %d bytes", n)
	}
	if len(data) > 24<<10 {
		t.Errorf("a response of %d bytes", len(data))
	}
	if n := len(out.Response.Warnings); n == 0 || n > 11 {
		t.Errorf("%d warnings", n)
	}
	for _, w := range out.Response.Warnings {
		if utf8.RuneCountInString(w) > 256 || strings.ContainsAny(w, "\n\x1b") {
			t.Errorf("warning %q", w)
		}
	}
	if !strings.Contains(out.Response.Result.Message, "\n- privileged-container: ") || strings.Contains(out.Response.Result.Message, "\x1b") {
		t.Errorf("the message is %q", out.Response.Result.Message)
	}
	if n := len(out.Response.AuditAnnotations["findings"]); n > 1200 {
		t.Errorf("an audit annotation of %d bytes", n)
	}
}

// TestCostlyObject judges a pod that was made to take long.
func TestCostlyObject(t *testing.T) {
	for policy, want := range map[v1alpha1.FailurePolicy]admission.Decision{v1alpha1.FailClosed: admission.Denied, v1alpha1.FailOpen: admission.Warned} {
		e := newEngine(t, "warns", `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: warns}
spec:
  title: Warns
  action: warn
  failurePolicy: `+string(policy)+`
  controls:
  - {name: image-tag-latest}
  - {name: privileged-container}
`, policy)
		var containers []string
		for i := range 6000 {
			containers = append(containers, fmt.Sprintf(`{"name":"c%d","image":"x:latest","securityContext":{"privileged":true}}`, i))
		}
		object := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"spec":{"containers":[` + strings.Join(containers, ",") + `]}}`
		out := admission.Review(e, podRequest([]byte(object)), admission.Options{FailurePolicy: policy})
		if out.Decision != want {
			t.Errorf("under %s: %s; want %s", policy, out.Decision, want)
		}
	}
}

func TestUnreadableObject(t *testing.T) {
	e := newEngine(t, "house", house, "")
	for _, object := range []string{"", "{", "[]", `{"apiVersion":"v1"}`, `{"a":1,"a":2}`, `{"apiVersion":"v1","kind":"PodList","items":[]}`} {
		for policy, want := range map[v1alpha1.FailurePolicy]admission.Decision{v1alpha1.FailClosed: admission.Denied, v1alpha1.FailOpen: admission.Warned} {
			out := admission.Review(e, podRequest([]byte(object)), admission.Options{FailurePolicy: policy})
			if out.Decision != want || out.Response.Allowed == (want == admission.Denied) {
				t.Errorf("%q under %s: %s, allowed %v; want %s", object, policy, out.Decision, out.Response.Allowed, want)
			}
		}
	}
}

func TestEnforced(t *testing.T) {
	for _, c := range []struct {
		policy v1alpha1.FailurePolicy
		least  v1alpha1.Action
		rules  int
	}{
		{v1alpha1.FailClosed, v1alpha1.Audit, 1}, {v1alpha1.FailOpen, v1alpha1.Audit, 4},
		{v1alpha1.FailOpen, v1alpha1.Warn, 3}, {v1alpha1.FailOpen, v1alpha1.Ratchet, 2}, {v1alpha1.FailOpen, v1alpha1.Deny, 0},
	} {
		b := resolve(t, "house", house)
		if got := len(admission.Enforced(b, c.policy, c.least).Rules); got != c.rules || len(b.Rules) != 5 {
			t.Errorf("%s, %s: %d rules; want %d", c.policy, c.least, got, c.rules)
		}
	}
}
