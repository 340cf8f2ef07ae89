// SPDX-License-Identifier: Apache-2.0

package drift_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// read returns the object of a manifest.
func read(t testing.TB, manifest string) *object.Object {
	t.Helper()
	root, err := object.ParseYAML(object.Text{Bytes: []byte(manifest), Line: 1})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := object.FromNode(root, &object.Origin{})
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects: %v", len(objects), err)
	}
	return objects[0]
}

// judge judges by some controls of the catalogue.
func judge(t testing.TB, controls ...string) fix.Judge {
	t.Helper()
	l := baseline.NewLibrary()
	catalog.Read(l)
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve("standard", baseline.Options{Only: controls})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(b, l.Exceptions(time.Time{}), time.Time{})
	return func(o *object.Object) []verdict.Finding { return e.Judge(o).Findings }
}

// find returns the findings of a control.
func find(t testing.TB, o *object.Object, judge fix.Judge, control string) []verdict.Finding {
	t.Helper()
	var out []verdict.Finding
	for _, f := range judge(o) {
		if f.Control == control && f.Outcome == verdict.Fail {
			out = append(out, f)
		}
	}
	return out
}

// apply makes a patch and fails the test if that cannot be done.
func apply(t testing.TB, o *object.Object, p *drift.Patch) *object.Object {
	t.Helper()
	root, err := p.Ops.Apply(o.Root)
	if err != nil {
		t.Fatalf("%s: %v", p.Ops.JSON(), err)
	}
	return o.WithRoot(root)
}

// reason returns why something was refused, and fails the test if it was not.
func reason(t testing.TB, err error) string {
	t.Helper()
	var refused *drift.Refused
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return refused.Reason
}

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: sidecar, image: "example.com/sidecar:1"}
      - name: web
        image: example.com/web:1
        ports: [{containerPort: 80, protocol: TCP, hostPort: 8080}, {containerPort: 81}]
        securityContext: {privileged: true, runAsUser: 1000}
`

func TestUndo(t *testing.T) {
	j := judge(t, "privileged-container")
	o := read(t, web)
	f := find(t, o, j, "privileged-container")
	p, err := drift.Undo(o, &f[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `kubectl patch deployment web -n shop --type=json -p '[` +
		`{"op":"test","path":"/spec/template/spec/containers/1/name","value":"web"},` +
		`{"op":"test","path":"/spec/template/spec/containers/1/securityContext/privileged","value":true},` +
		`{"op":"replace","path":"/spec/template/spec/containers/1/securityContext/privileged","value":false}]'`
	if got := p.Command(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if left := find(t, apply(t, o, p), j, "privileged-container"); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	moved := read(t, strings.Replace(web, "- {name: sidecar", "- {name: first, image: a}\n      - {name: sidecar", 1))
	if _, err := p.Ops.Apply(moved.Root); err == nil {
		t.Error("the patch was made in an object that had changed")
	}
}

func TestUndoRefused(t *testing.T) {
	j := judge(t, "privileged-container", "secret-in-manifest", "default-namespace")
	for name, c := range map[string]struct{ manifest, control, want string }{
		"owned": {strings.Replace(web, "namespace: shop", "namespace: shop, ownerReferences: [{kind: Shop, name: s, controller: true}]", 1),
			"privileged-container", "is made by Shop s"},
		"pod": {"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: a, securityContext: {privileged: true}}]}\n",
			"privileged-container", "cannot be changed in a Pod that runs"},
		"job": {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, image: a, securityContext: {privileged: true}}]}}}\n",
			"privileged-container", "cannot be changed in a Job that runs"},
		"no edit": {strings.Replace(web, "namespace: shop", "namespace: default", 1), "default-namespace", "sconce explain default-namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			o := read(t, c.manifest)
			f := find(t, o, j, c.control)
			_, err := drift.Undo(o, &f[0])
			if got := reason(t, err); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestRestore(t *testing.T) {
	j := judge(t, "privileged-container", "run-as-root-user")
	before := read(t, strings.Replace(web, "\n        securityContext: {privileged: true, runAsUser: 1000}", "", 1))
	o := read(t, web)
	f := find(t, o, j, "privileged-container")
	p, err := drift.Restore(before, o, &f[0], j)
	if err != nil {
		t.Fatal(err)
	}
	if got := apply(t, o, p); !got.Root.Equal(before.Root) {
		t.Errorf("%s does not put back what was there", p.Ops.JSON())
	}
	if _, err := drift.Restore(o, o, &f[0], j); !strings.Contains(reason(t, err), "as it was") {
		t.Error(err)
	}
	elsewhere := read(t, strings.Replace(web, "privileged: true", "privileged: true, runAsNonRoot: true", 1))
	f[0].Path = strings.Replace(f[0].Path, "privileged", "runAsNonRoot", 1)
	if _, err := drift.Restore(o, elsewhere, &f[0], j); !strings.Contains(reason(t, err), "does not clear") {
		t.Error(err)
	}
}

func TestCommandIsQuoted(t *testing.T) {
	got := drift.Command(object.Ref{APIVersion: "example.com/v1", Kind: "Shop", Name: "a$(b)"}, drift.Ops{{Op: "remove", Path: "/spec/it's"}})
	want := `kubectl patch shop.example.com 'a$(b)' --type=json -p '[{"op":"remove","path":"/spec/it'\''s"}]'`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUndoTellsNoSecret(t *testing.T) {
	j := judge(t, "privileged-container")
	o := read(t, strings.Replace(web, "securityContext: {privileged: true", "env: [{name: DB_PASSWORD, value: hunter2hunter2xyz}]\n        securityContext: {privileged: true", 1))
	f := find(t, o, j, "privileged-container")
	p, err := drift.Undo(o, &f[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.Command(), "hunter2") {
		t.Error(p.Command())
	}
	f[0].Fix.Edits = []verdict.Edit{{Op: verdict.Remove, Steps: drift.Locate(o.Root, "spec.template.spec.containers[web].env")}}
	if _, err := drift.Undo(o, &f[0]); !strings.Contains(reason(t, err), "looks like a credential") {
		t.Error(err)
	}
	secret := read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aHVudGVy}\n")
	if _, err := drift.Undo(secret, &verdict.Finding{Fix: &verdict.Fix{Edits: []verdict.Edit{{Op: verdict.Remove, Steps: object.Path{{Field: "data"}}}}}}); !strings.Contains(reason(t, err), "Secret") {
		t.Error(err)
	}
}

func TestCompare(t *testing.T) {
	ref := func(name string) object.Ref { return object.Ref{APIVersion: "v1", Kind: "Pod", Name: name} }
	finding := func(id, name, message string, outcome verdict.Outcome) *verdict.Finding {
		return &verdict.Finding{Control: "c-" + id, Fingerprint: id, Object: ref(name), Message: message, Outcome: outcome, Severity: "high"}
	}
	before, after := drift.NewLook(), drift.NewLook()
	for _, name := range []string{"a", "b", "gone"} {
		before.Object(ref(name))
	}
	for _, name := range []string{"a", "b", "new"} {
		after.Object(ref(name))
	}
	for _, f := range []*verdict.Finding{
		finding("same", "a", "m", verdict.Fail), finding("changed", "a", "m", verdict.Fail), finding("cleared", "a", "m", verdict.Fail),
		finding("gone", "gone", "m", verdict.Fail), finding("unclear", "b", "m", verdict.Fail),
	} {
		before.Finding(f)
	}
	before.Finding(finding("undecided", "b", "?", verdict.Unknown))
	decided := finding("decided", "b", "m", verdict.Fail)
	decided.Control = "c-undecided"
	after.Finding(decided)
	excused := finding("excused", "a", "m", verdict.Fail)
	excused.Excepted = &verdict.Excepted{}
	for _, f := range []*verdict.Finding{
		finding("same", "a", "m", verdict.Fail), finding("changed", "a", "n", verdict.Fail), finding("appeared", "b", "m", verdict.Fail),
		finding("new", "new", "m", verdict.Fail), finding("unclear", "b", "?", verdict.Unknown), excused,
	} {
		after.Finding(f)
	}
	var got []string
	for _, c := range drift.Compare(before, after) {
		got = append(got, string(c.Event)+" "+c.Finding.Fingerprint)
	}
	want := "appeared appeared, changed changed, unclear unclear, new new, decided decided, cleared cleared, gone gone"
	if g := strings.Join(got, ", "); g != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
}

func TestManager(t *testing.T) {
	o := read(t, web)
	at := func(minute int) *metav1.Time { return &metav1.Time{Time: now.Add(time.Duration(minute) * time.Minute)} }
	entry := func(manager string, minute int, subresource, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: "Update", Time: at(minute), Subresource: subresource, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	pod := func(inner string) string {
		return `{"f:spec":{"f:template":{"f:spec":` + inner + `}}}`
	}
	managers := []metav1.ManagedFieldsEntry{
		entry("helm", 0, "", pod(`{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:name":{},"f:image":{},"f:securityContext":{".":{},"f:runAsUser":{}}},"k:{\"name\":\"sidecar\"}":{".":{},"f:name":{}}},"f:tolerations":{}}`)),
		entry("kubectl-edit", 5, "", pod(`{"f:containers":{"k:{\"name\":\"web\"}":{"f:securityContext":{"f:privileged":{}}}}}`)),
		entry("kubectl-patch", 6, "", pod(`{"f:containers":{"k:{\"name\":\"web\"}":{"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{"f:hostPort":{}},"k:{\"containerPort\":80,\"protocol\":\"UDP\"}":{"f:hostIP":{}},"k:{\"containerPort\":81,\"protocol\":\"TCP\"}":{"f:containerPort":{}}}}}}`)),
		entry("kubectl-label", 9, "", `{"f:metadata":{"f:labels":{"f:a":{}}}}`),
		entry("controller", 20, "status", `{"f:metadata":{"f:annotations":{"f:revision":{}}},"f:status":{"f:replicas":{}}}`),
		entry("broken", 30, "", `{"f:spec`),
		entry("scaler", 8, "scale", `{"f:spec":{"f:replicas":{}}}`),
	}
	container := "spec.template.spec.containers[web]"
	for path, want := range map[string]string{
		container + ".securityContext.privileged":          "kubectl-edit",
		container + ".securityContext.runAsUser":           "helm",
		container + ".image":                               "helm",
		container + ".ports[80].hostPort":                  "kubectl-patch",
		container + ".ports[81].containerPort":             "kubectl-patch",  // the protocol is the default
		container + ".ports[80].hostIP":                    "kubectl-patch?", // of the port beside it
		container + ".resources":                           "kubectl-patch?", // wrote last below the container
		"spec.template.spec.containers[sidecar].resources": "helm?",
		"metadata.labels['a']":                             "kubectl-label",
		"metadata.annotations.revision":                    "controller",
		"automountServiceAccountToken":                     "kubectl-label?",
		"spec.replicas":                                    "scaler",
		"spec.template.spec.tolerations":                   "helm",
	} {
		a := drift.Manager(o.Root, managers, drift.Locate(o.Root, path))
		got := a.Manager
		if a.Guess {
			got += "?"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if a := drift.Manager(o.Root, nil, nil); a != (drift.Author{}) {
		t.Errorf("nobody: got %+v", a)
	}
}

// remediate remediates and returns the object as it is then.
func remediate(t testing.TB, o *object.Object, j fix.Judge, at time.Time) *object.Object {
	t.Helper()
	r, err := drift.Remediate(o, "privileged-container", j, at)
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, o, &r.Patch)
}

const twice = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, annotations: {a: b}}
spec:
  template:
    spec:
      containers:
      - {name: one, image: a, securityContext: {privileged: true}}
      - {name: two, image: a, securityContext: {privileged: true, runAsUser: 5}}
`

func TestRemediateAndRollback(t *testing.T) {
	j := judge(t, "privileged-container", "privilege-escalation")
	for name, manifest := range map[string]string{"one": web, "two": twice} {
		t.Run(name, func(t *testing.T) {
			before := read(t, manifest)
			o := remediate(t, before, j, now)
			if left := find(t, o, j, "privileged-container"); len(left) > 0 {
				t.Fatalf("left: %v", left)
			}
			if got := drift.Remediated(o); len(got) != 1 || got[0] != "privileged-container" {
				t.Errorf("remediated: %v", got)
			}
			p, err := drift.Rollback(o, "privileged-container", now)
			if err != nil {
				t.Fatal(err)
			}
			back := apply(t, o, p)
			if !back.Root.Get("spec").Equal(before.Root.Get("spec")) {
				t.Errorf("spec is not as it was: %v", back.Root.Get("spec").Any())
			}
			if got := drift.Remediated(back); len(got) > 0 {
				t.Errorf("after the rollback: %v", got)
			}
			if _, err := drift.Remediate(back, "privileged-container", j, now); !strings.Contains(reason(t, err), "rolled back 2026-11-21") {
				t.Error(err)
			}
			if _, err := drift.Rollback(back, "privileged-container", now); err == nil {
				t.Error("rolled back twice")
			}
		})
	}
}

// TestRemediateAfterAnother: what an earlier remediation did elsewhere in the
// object is taken back as well.
func TestRemediateAfterAnother(t *testing.T) {
	j := judge(t, "privileged-container")
	o := remediate(t, read(t, twice), j, now)
	undone, err := drift.Ops{{Op: "replace", Path: "/spec/template/spec/containers/1/securityContext/privileged", Value: []byte("true")}}.Apply(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	o = remediate(t, o.WithRoot(undone), j, now.Add(time.Minute))
	p, err := drift.Rollback(o, "privileged-container", now)
	if err != nil {
		t.Fatal(err)
	}
	if got := apply(t, o, p); !got.Root.Get("spec").Equal(read(t, twice).Root.Get("spec")) {
		t.Errorf("spec is not as it was: %s", p.Ops.JSON())
	}
}

func TestRemediateStops(t *testing.T) {
	j := judge(t, "privileged-container")
	for _, c := range []struct {
		every time.Duration
		stops bool
	}{{10 * time.Minute, true}, {50 * time.Minute, false}} {
		at, o := now, remediate(t, read(t, web), j, now)
		var err error
		for range 6 {
			root, patchErr := drift.Ops{{Op: "replace", Path: "/spec/template/spec/containers/1/securityContext/privileged", Value: []byte("true")}}.Apply(o.Root)
			if patchErr != nil {
				t.Fatal(patchErr)
			}
			at = at.Add(c.every)
			var r *drift.Remediation
			if r, err = drift.Remediate(o.WithRoot(root), "privileged-container", j, at); err != nil {
				break
			}
			o = apply(t, o.WithRoot(root), &r.Patch)
		}
		switch {
		case c.stops && !strings.Contains(reason(t, err), "undid it 3 times within an hour"):
			t.Error(err)
		case !c.stops && err != nil:
			t.Errorf("undone every %s: %v", c.every, err)
		}
	}
}

func TestRemediateRefused(t *testing.T) {
	j := judge(t, "privileged-container", "secret-in-manifest")
	for name, c := range map[string]struct{ old, new, want string }{
		"kind":      {"apps/v1\nkind: Deployment", "apps/v1\nkind: ControllerRevision", "are not remediated"},
		"secret":    {"apps/v1\nkind: Deployment", "v1\nkind: Secret", "are not remediated"},
		"owned":     {"namespace: shop", "namespace: shop, ownerReferences: [{kind: Shop, name: s, controller: true}]", "made by Shop s"},
		"helm":      {"namespace: shop", "namespace: shop, annotations: {meta.helm.sh/release-name: web}", "managed by Helm"},
		"helm old":  {"namespace: shop", "namespace: shop, labels: {app.kubernetes.io/managed-by: Helm}", "managed by Helm"},
		"argo":      {"namespace: shop", "namespace: shop, annotations: {argocd.argoproj.io/tracking-id: a}", "managed by Argo CD"},
		"argo old":  {"namespace: shop", "namespace: shop, labels: {argocd.argoproj.io/instance: a}", "managed by Argo CD"},
		"flux":      {"namespace: shop", "namespace: shop, labels: {kustomize.toolkit.fluxcd.io/name: a}", "managed by Flux"},
		"flux helm": {"namespace: shop", "namespace: shop, labels: {helm.toolkit.fluxcd.io/name: a}", "managed by Flux"},
		"system":    {"namespace: shop", "namespace: kube-system", "the cluster itself"},
		"well":      {"privileged: true", "privileged: false", "finds nothing"},
		"excused":   {"namespace: shop", `namespace: shop, annotations: {except.sconce.dev/privileged-container: "until 2027-01-31: drives the scanner at the till"}`, "finds nothing"},
		"too much":  {"- {name: sidecar", strings.Repeat("- {image: a, securityContext: {privileged: true}, name: n}\n      ", 60) + "- {name: sidecar", "too much to be recorded"},
		"broken":    {"namespace: shop", "namespace: shop, annotations: {remediation.sconce.dev/privileged-container: x}", "does not hold what was written"},
	} {
		t.Run(name, func(t *testing.T) {
			manifest := strings.Replace(web, c.old, c.new, 1)
			for i := range strings.Count(manifest, "name: n}") {
				manifest = strings.Replace(manifest, "name: n}", fmt.Sprintf("name: n%d}", i), 1)
			}
			o := read(t, manifest)
			_, err := drift.Remediate(o, "privileged-container", j, now)
			if got := reason(t, err); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestRollbackRefused(t *testing.T) {
	j := judge(t, "privileged-container")
	before := read(t, web)
	if _, err := drift.Rollback(before, "privileged-container", now); !strings.Contains(reason(t, err), "holds no remediation") {
		t.Error(err)
	}
	o := remediate(t, before, j, now)
	changed, err := drift.Ops{{Op: "remove", Path: "/spec/template/spec/containers/0"}}.Apply(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drift.Rollback(o.WithRoot(changed), "privileged-container", now); !strings.Contains(reason(t, err), "was changed since") {
		t.Error(err)
	}
	forged := read(t, strings.Replace(web, "namespace: shop", `namespace: shop, annotations: {remediation.sconce.dev/c: '{"control":"c","steps":[{"path":"a","undo":[{"op":"remove","path":"/metadata/ownerReferences"}]}]}'}`, 1))
	if _, err := drift.Rollback(forged, "c", now); !strings.Contains(reason(t, err), "which no remediation does") {
		t.Error(err)
	}
}
