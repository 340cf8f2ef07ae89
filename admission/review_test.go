// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
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
  - {name: pods-alone, action: ratchet}
---
apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: pods-alone}
spec:
  title: No pod runs the image of nobody
  severity: high
  topic: pod-security
  layer: application
  phase: operate
  description: It is there to be told from a rule about whatever holds a pod.
  remediation: Run another image.
  match: {kinds: [{kind: Pod}]}
  forEach: object.spec.containers
  require: "!item.image.endsWith('evil:1')"
  message: 'container {item.name} runs the image of nobody'
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
		{name: "what is being deleted loses its finalizer", object: deleting(pod("", privileged)),
			old: strings.Replace(deleting(pod("", privileged)), `"metadata":{`, `"status":{"phase":"Running"},"metadata":{"finalizers":["example.com/hold"],"resourceVersion":"7",`, 1), want: admission.Skipped},
		{name: "what is being deleted becomes privileged", object: deleting(pod("", privileged)), old: deleting(good), want: admission.Denied, denied: "privileged-container"},
		{name: "what is being deleted is widened in a new field", object: deleting(pod(`"hostNetwork":true,`, "")), old: deleting(good), want: admission.Denied, denied: "host-network"},
		{name: "what is being deleted excuses itself no more", object: deleting(pod("", privileged)),
			old: strings.Replace(deleting(pod("", privileged)), `"metadata":{`, `"metadata":{"annotations":{"except.sconce.dev/privileged-container":"until 2027-01-31: formats the disks"},`, 1), want: admission.Denied, denied: "privileged-container"},
		{name: "an ephemeral container in what is being deleted", object: deleting(pod(`"ephemeralContainers":[{"name":"debugger","image":"busybox:1.36","securityContext":{"privileged":true}}],`, "")), old: deleting(good),
			request: subresource("ephemeralcontainers"), want: admission.Denied, denied: "privileged-container"},
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
		{name: "a pod of a ReplicaSet by a rule that is not about ReplicaSets", object: owned(strings.Replace(pod("", ""), "web:1.2", "evil:1", 1)), request: by("system:serviceaccount:kube-system:replication-controller"), want: admission.Denied, denied: "pods-alone"},
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

// TestNoCredentialIsTold plants credentials wherever they can stand, and looks for
// them in all that leaves the process: answers, their audit annotations, and the
// patches of fixes.
func TestNoCredentialIsTold(t *testing.T) {
	const documents = `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: all}
spec: {title: Everything, extends: [hardened], action: ACTION, failurePolicy: Fail, controls: [{name: privileged-container, remediate: true}, {name: host-network, remediate: true}]}
`
	// Made up; in parts, so that nobody takes them for ours.
	planted := []string{"xK9#mQ2<vL5&pR8z", "AKIA" + "Q7ZTMW3EXHPV5KDN", "ghp_" + "a8Kd02mVqLz71YbTnRxW5cUeJhGf93SoPi4D", `tr0ub"4dor\\Zq91x`}
	quoted := func(s string) string {
		data, err := json.Marshal(s)
		must(t, err)
		return string(data)
	}
	template := fmt.Sprintf(`"metadata":{"name":"web","namespace":"shop","annotations":{"note":%s}},"spec":{"hostNetwork":true,"containers":[{"name":"app","image":"registry.example.com/web:latest","env":[{"name":"DB_PASSWORD","value":%s},{"name":"AWS_ACCESS_KEY_ID","value":%s}],"args":[%s],"command":["sh","-c",%s],"securityContext":{"privileged":true}}]}`,
		quoted("token "+planted[2]), quoted(planted[0]), quoted(planted[1]), quoted("--token="+planted[2]), quoted("mysql --password='"+planted[3]+"' && sudo sshd"))
	data := fmt.Sprintf(`{"password":%s,"key":%s,"config.yaml":%s}`, quoted(planted[0]), quoted(planted[1]), quoted("token: "+planted[2]+"\npassword: "+planted[3]+"\n"))
	objects := map[string]string{
		"Pod":       `{"apiVersion":"v1","kind":"Pod",` + template + `}`,
		"ConfigMap": `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web","namespace":"default"},"data":` + data + `}`,
		"Secret":    `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"web","namespace":"default","annotations":{"kubectl.kubernetes.io/last-applied-configuration":` + quoted(data) + `}},"stringData":` + data + `}`,
	}
	for _, action := range []v1alpha1.Action{v1alpha1.Deny, v1alpha1.Warn} {
		e := newEngine(t, "all", strings.Replace(documents, "ACTION", string(action), 1), "")
		for kind, o := range objects {
			told := 0
			for _, do := range []func(*engine.Engine, *admissionv1.AdmissionRequest, admission.Options) admission.Outcome{admission.Review, admission.Mutate} {
				out := do(e, podRequest([]byte(o)), admission.Options{Baseline: "all", FailurePolicy: v1alpha1.FailClosed, Annotations: true})
				text, err := json.Marshal(out)
				must(t, err)
				told += len(out.Denied) + len(out.Warned)
				for _, secret := range planted {
					escaped := strings.Trim(quoted(secret), `"`)
					for _, form := range []string{secret, escaped, strings.Trim(quoted(escaped), `"`), base64.StdEncoding.EncodeToString([]byte(secret))} {
						if i := strings.Index(string(text), form); i >= 0 {
							t.Errorf("%s, %s: a credential is told: …%s…", action, kind, text[max(0, i-200):min(len(text), i+60)])
						}
					}
				}
			}
			if told == 0 {
				t.Errorf("%s, %s: nothing was found", action, kind)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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

// TestUnreadableObject holds that nobody escapes a rule that denies by an object
// that cannot be read, whatever the failure policy.
func TestUnreadableObject(t *testing.T) {
	denies, warns := newEngine(t, "house", house, ""), newEngine(t, "warns", warnsOnly, "")
	for _, object := range []string{"", "{", "[]", `{"apiVersion":"v1"}`, `{"a":1,"a":2}`, `{"apiVersion":"v1","kind":"PodList","items":[]}`, manyValues()} {
		for _, c := range []struct {
			e      *engine.Engine
			policy v1alpha1.FailurePolicy
			want   admission.Decision
		}{
			{denies, v1alpha1.FailClosed, admission.Denied}, {denies, v1alpha1.FailOpen, admission.Denied},
			{warns, v1alpha1.FailClosed, admission.Denied}, {warns, v1alpha1.FailOpen, admission.Warned},
		} {
			out := admission.Review(c.e, podRequest([]byte(object)), admission.Options{FailurePolicy: c.policy})
			if out.Decision != c.want || out.Response.Allowed == (c.want == admission.Denied) {
				t.Errorf("%.50q under %s: %s, allowed %v; want %s", object, c.policy, out.Decision, out.Response.Allowed, c.want)
			}
		}
	}
}

const warnsOnly = `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: warns}
spec:
  title: Warns
  action: warn
  controls: [{name: image-tag-latest}]
`

// manyValues is a privileged pod with more values than are read.
func manyValues() string {
	return pod("", privileged+`"args":[`+strings.Repeat(`"",`, 600_000)+`""],`)
}

// TestEvasion holds that nobody gets past a rule that denies, and whose failure
// policy is Ignore, by an object that is too much to judge.
func TestEvasion(t *testing.T) {
	e := newEngine(t, "denies", `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: denies}
spec:
  title: Denies
  action: deny
  controls: [{name: host-path-volume, action: warn}, {name: writable-host-path}, {name: wildcard-verb, action: warn}, {name: write-everything}]
`, v1alpha1.FailOpen)
	repeated := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	role := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"web"},"rules":[%s]}`
	for name, object := range map[string]string{
		"many findings that only warn": fmt.Sprintf(role, repeated(6000, `{"apiGroups":["example.com"],"resources":["disks"],"verbs":["*"]}`)),
		"a list that takes long":       fmt.Sprintf(role, `{"apiGroups":["*"],"resources":["*"],"verbs":[`+repeated(100_000, `"get"`)+`,"create"]}`),
		"a list in a list": pod(`"volumes":[`+repeated(10_000, `{"name":"v","hostPath":{"path":"/etc"}}`)+`],`,
			`"volumeMounts":[`+repeated(10_000, `{"name":"w","mountPath":"/v"}`)+`,{"name":"v","mountPath":"/w"}],`),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			out := admission.Review(e, podRequest([]byte(object)), admission.Options{FailurePolicy: v1alpha1.FailOpen})
			if out.Decision != admission.Denied {
				t.Errorf("%s: %.300q", out.Decision, out.Response.Warnings)
			}
			// In an hour or more, before it was bounded.
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestEnforced(t *testing.T) {
	for _, c := range []struct {
		policy v1alpha1.FailurePolicy
		least  v1alpha1.Action
		rules  int
	}{
		{v1alpha1.FailClosed, v1alpha1.Audit, 1}, {v1alpha1.FailOpen, v1alpha1.Audit, 5},
		{v1alpha1.FailOpen, v1alpha1.Warn, 4}, {v1alpha1.FailOpen, v1alpha1.Ratchet, 3}, {v1alpha1.FailOpen, v1alpha1.Deny, 0},
	} {
		b := resolve(t, "house", house)
		if got := len(admission.Enforced(b, c.policy, c.least).Rules); got != c.rules || len(b.Rules) != 6 {
			t.Errorf("%s, %s: %d rules; want %d", c.policy, c.least, got, c.rules)
		}
	}
}
