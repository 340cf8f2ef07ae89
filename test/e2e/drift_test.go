// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// drifting is a workload that will drift. One variable has a value that a shell
// would not leave alone.
const drifting = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: sidecar
        image: registry.example.com/sidecar:1
        ports: [{containerPort: 8080}, {containerPort: 8081, protocol: UDP}]
      - name: app
        image: registry.example.com/web:1
        env: [{name: GREETING, value: "it's $(date) <b> & \"more\""}]
        securityContext: {privileged: false, capabilities: {drop: [ALL]}}
`

// driftLine is one line of what drift prints as JSON.
type driftLine struct {
	Event   drift.Event
	Finding verdict.Finding
	Was, Is string
	By      *drift.Author
	Undo    struct{ Command, Refused string }
}

func driftWith(t *testing.T, args ...string) (lines []driftLine, code int) {
	t.Helper()
	out, errs, code := sconce(t, append([]string{"drift", "-o", "json"}, args...)...)
	if errs != "" {
		t.Fatalf("drift %v: %s", args, errs)
	}
	for line := range strings.Lines(out) {
		var l driftLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines, code
}

// shell runs a command line as a person would paste it, with kubectl at hand.
func shell(t *testing.T, c *controlplane.ControlPlane, line string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(c.Binary("kubectl"))+":"+os.Getenv("PATH"), "KUBECONFIG="+c.Kubeconfig(t))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// objects reads and patches objects of one kind.
type objects struct {
	t *testing.T
	dynamic.ResourceInterface
}

func deploymentsOf(t *testing.T, c *controlplane.ControlPlane, namespace string) objects {
	t.Helper()
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	return objects{t, client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(namespace)}
}

// read returns an object as Sconce sees it, with its managers.
func (o objects) read(name string) (*object.Object, []metav1.ManagedFieldsEntry) {
	o.t.Helper()
	u, err := o.Get(o.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	return liveObject(o.t, u), u.GetManagedFields()
}

func liveObject(t *testing.T, u *unstructured.Unstructured) *object.Object {
	t.Helper()
	u = u.DeepCopy()
	u.SetManagedFields(nil)
	found, err := object.FromNode(object.FromAny(u.Object), &object.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// spec is the spec of an object as the API server has it.
func (o objects) spec(name string) any {
	o.t.Helper()
	u, err := o.Get(o.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	return u.Object["spec"]
}

// TestDrift: somebody makes a workload privileged by hand. Drift says who and
// when, and what it prints undoes it when it is pasted into a shell, once.
func TestDrift(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	kubeconfig := []string{"--kubeconfig", c.Kubeconfig(t), "-n", namespace, "--control", "privileged-container"}
	if _, err := c.TryKubectl(t, drifting, "apply", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	deployments := deploymentsOf(t, c, namespace)
	before := deployments.spec("web")
	file := filepath.Join(t.TempDir(), "before.sconce")
	if _, errs, code := sconce(t, append([]string{"snapshot", "save", file}, kubeconfig...)...); code != 0 {
		t.Fatalf("snapshot save ended with %d: %s", code, errs)
	}
	since := append([]string{"--since", file}, kubeconfig...)
	if lines, code := driftWith(t, since...); code != 0 || len(lines) > 0 {
		t.Fatalf("exit code %d and %v before anything was changed", code, lines)
	}

	start := time.Now().Truncate(time.Second)
	t.Setenv("KUBE_EDITOR", "sed -i 's/privileged: false/privileged: true/'")
	c.Kubectl(t, "edit", "deployment", "web", "-n", namespace)

	lines, code := driftWith(t, since...)
	if code != 1 || len(lines) != 1 {
		t.Fatalf("exit code %d and %d lines, want 1 and 1: %+v", code, len(lines), lines)
	}
	l := lines[0]
	if l.Event != drift.Appeared || l.Was != "false" || l.Is != "true" {
		t.Errorf("%s: was %s, is %s; want appeared, false and true", l.Event, l.Was, l.Is)
	}
	if l.By == nil || l.By.Manager != "kubectl-edit" || l.By.Operation != "Update" || l.By.At.Before(start) || l.By.Guess {
		t.Errorf("by %+v, want kubectl-edit, after %s", l.By, start)
	}
	text, _, _ := sconce(t, append([]string{"drift"}, since...)...)
	for _, want := range []string{"privileged was false, is true", "by kubectl-edit (Update) at ", "  undo: " + l.Undo.Command, "1 appeared, 0 changed"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the text:\n%s", want, text)
		}
	}

	later := filepath.Join(t.TempDir(), "later.sconce")
	if _, errs, code := sconce(t, append([]string{"snapshot", "save", later}, kubeconfig...)...); code != 0 {
		t.Fatalf("snapshot save ended with %d: %s", code, errs)
	}
	lines, code = driftWith(t, file, later, "--control", "privileged-container")
	if code != 1 || len(lines) != 1 || lines[0].By != nil || lines[0].Was != "false" || lines[0].Undo.Command != l.Undo.Command {
		t.Errorf("between the snapshots: exit code %d, %+v", code, lines)
	}
	if lines, code := driftWith(t, later, file, "--control", "privileged-container"); code != 0 || len(lines) != 1 || lines[0].Event != drift.Cleared {
		t.Errorf("between the snapshots, the other way round: exit code %d, %+v", code, lines)
	}

	if out, err := shell(t, c, l.Undo.Command); err != nil {
		t.Fatalf("%s: %v: %s", l.Undo.Command, err, out)
	}
	if after := deployments.spec("web"); !reflect.DeepEqual(after, before) {
		t.Errorf("after it was undone the spec is %v, and was %v", after, before)
	}
	if lines, code := driftWith(t, since...); code != 0 {
		t.Errorf("exit code %d after it was undone: %+v", code, lines)
	}
	if out, err := shell(t, c, l.Undo.Command); err == nil {
		t.Errorf("the command did something a second time: %s", out)
	}
}

// TestDriftAgainstBaseline: without a snapshot, everything that fails is told,
// with who set it; removing the baseline's wish is what undoes it.
func TestDriftAgainstBaseline(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	bad := strings.Replace(drifting, "privileged: false", "privileged: true", 1)
	if _, err := c.TryKubectl(t, bad, "apply", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	args := []string{"--kubeconfig", c.Kubeconfig(t), "-n", namespace, "--control", "privileged-container"}
	lines, code := driftWith(t, args...)
	if code != 1 || len(lines) != 1 || lines[0].Finding.Object.Kind != "Deployment" || lines[0].By == nil || lines[0].By.Manager != "kubectl-client-side-apply" {
		t.Fatalf("exit code %d: %+v", code, lines)
	}
	if out, err := shell(t, c, lines[0].Undo.Command); err != nil {
		t.Fatalf("%s: %v: %s", lines[0].Undo.Command, err, out)
	}
	// Pods that are being replaced may be told of for a moment.
	for _, l := range first(driftWith(t, args...)) {
		if l.Finding.Object.Kind == "Deployment" {
			t.Errorf("left: %+v", l)
		}
	}
}

func first(lines []driftLine, _ int) []driftLine { return lines }

// TestManager holds who owns a field against what a real API server writes down
// for each way in which people and controllers write.
func TestManager(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	apply := func(manager, manifest string) {
		t.Helper()
		if _, err := c.TryKubectl(t, manifest, "apply", "-n", namespace, "--server-side", "--force-conflicts", "--field-manager", manager, "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	apply("ci", drifting)
	const partial = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: app, securityContext: {privileged: true}}]}}}
`
	if _, err := c.TryKubectl(t, partial, "apply", "-n", namespace, "--server-side", "--field-manager", "intruder", "-f", "-"); err == nil || !strings.Contains(err.Error(), "conflict") {
		t.Errorf("got %v, want a conflict with ci", err)
	}
	apply("intruder", partial)
	apply("sharer", strings.Replace(partial, "privileged: true", "privileged: true, runAsUser: 1000", 1))
	c.Kubectl(t, "scale", "deployment", "web", "-n", namespace, "--replicas=2")
	c.Kubectl(t, "patch", "deployment", "web", "-n", namespace, "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"sidecar","ports":[{"containerPort":8081,"protocol":"UDP","hostPort":8082}]}]}}}}`)
	c.Kubectl(t, "label", "deployment", "web", "-n", namespace, "team=shop")
	c.Kubectl(t, "set", "image", "deployment/web", "-n", namespace, "sidecar=registry.example.com/sidecar:2")

	deployments := deploymentsOf(t, c, namespace)
	containers := "spec.template.spec.containers"
	for path, want := range map[string][]string{
		containers + "[app].securityContext.privileged":             {"intruder Apply", "sharer Apply"}, // both own it
		containers + "[app].securityContext.runAsUser":              {"sharer Apply"},
		containers + "[app].securityContext.capabilities.drop[ALL]": {"ci Apply"},
		containers + "[app].image":                                  {"ci Apply"},
		containers + "[app].env[GREETING].value":                    {"ci Apply"},
		containers + "[sidecar].image":                              {"kubectl-set Update"},
		containers + "[sidecar].ports[8081].hostPort":               {"kubectl-patch Update"},
		containers + "[sidecar].ports[8080].containerPort":          {"ci Apply"},
		"spec.replicas":             {"kubectl Update scale"},
		"metadata.labels.team":      {"kubectl-label Update"},
		"status.observedGeneration": {"kube-controller-manager Update status"},
		"metadata.annotations['deployment.kubernetes.io/revision']": {"kube-controller-manager Update status", "kube-controller-manager Update"},
		containers + "[sidecar].securityContext":                    {"kubectl-set Update guess", "kubectl-patch Update guess"},
	} {
		eventually(t, func() error {
			o, managers := deployments.read("web")
			a := drift.Manager(o.Root, managers, drift.Locate(o.Root, path))
			got := a.Manager + " " + a.Operation
			if a.Subresource != "" {
				got += " " + a.Subresource
			}
			if a.Guess {
				got += " guess"
			}
			for _, w := range want {
				if got == w {
					return nil
				}
			}
			return &unexpected{path, got, strings.Join(want, " or ")}
		})
	}
}

type unexpected struct{ what, got, want string }

func (u *unexpected) Error() string { return u.what + ": got " + u.got + ", want " + u.want }

// judgeBy judges by some controls of the catalogue.
func judgeBy(t *testing.T, controls ...string) fix.Judge {
	t.Helper()
	l := baseline.NewLibrary()
	catalog.Read(l)
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve("hardened", baseline.Options{Only: controls})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(b, l.Exceptions(time.Time{}), time.Time{})
	return func(o *object.Object) []verdict.Finding { return e.Judge(o).Findings }
}

// TestRemediateAndRollback: what remediation changes in a real object, rollback
// puts back as it was, and a patch does nothing to an object that has changed.
func TestRemediateAndRollback(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	judge := judgeBy(t, "privileged-container", "privilege-escalation")
	bad := strings.Replace(drifting, "privileged: false, ", "privileged: true, ", 1)
	bad = strings.Replace(bad, "image: registry.example.com/sidecar:1", "image: registry.example.com/sidecar:1\n        securityContext: {privileged: true}", 1)
	if _, err := c.TryKubectl(t, bad, "apply", "-n", namespace, "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	deployments := deploymentsOf(t, c, namespace)
	eventually(t, func() error { // the controller writes an annotation
		o, _ := deployments.read("web")
		if o.Root.At("metadata", "annotations", "deployment.kubernetes.io/revision") == nil {
			return &unexpected{"the revision", "none", "one"}
		}
		return nil
	})
	before := deployments.spec("web")
	o, _ := deployments.read("web")
	r, err := drift.Remediate(o, "privileged-container", judge, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	patch := func() error {
		_, err := deployments.Patch(t.Context(), "web", types.JSONPatchType, r.Ops.JSON(), metav1.PatchOptions{FieldManager: "test"})
		return err
	}
	if err := patch(); err != nil {
		t.Fatalf("%s: %v", r.Ops.JSON(), err)
	}
	if err := patch(); err == nil {
		t.Error("the same patch was made twice")
	}
	o, _ = deployments.read("web")
	for _, f := range judge(o) {
		if f.Control == "privileged-container" {
			t.Errorf("left: %s", f.Message)
		}
	}

	args := []string{"rollback", "deployment/web", "--kubeconfig", c.Kubeconfig(t), "-n", namespace}
	remediated := deployments.spec("web")
	out, errs, code := sconce(t, append(args, "--dry-run")...)
	if code != 0 || !strings.Contains(out, "would put back") || !reflect.DeepEqual(deployments.spec("web"), remediated) {
		t.Errorf("the dry run ended with %d: %s%s", code, out, errs)
	}
	if out, errs, code = sconce(t, args...); code != 0 {
		t.Fatalf("rollback ended with %d: %s%s", code, out, errs)
	}
	if after := deployments.spec("web"); !reflect.DeepEqual(after, before) {
		t.Errorf("after the rollback the spec is %v, and was %v", after, before)
	}
	o, _ = deployments.read("web")
	if _, err := drift.Remediate(o, "privileged-container", judge, time.Now()); err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("it is remediated again: %v", err)
	}
	if _, errs, code = sconce(t, args...); code != 2 || !strings.Contains(errs, "holds no remediation") {
		t.Errorf("a second rollback ended with %d: %s", code, errs)
	}
}

// TestRollbackAll: everything in a namespace is put back, fields that were absent
// included; what was changed in the meantime is told.
func TestRollbackAll(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	judge := judgeBy(t, "privilege-escalation")
	absent := strings.Replace(drifting, "privileged: false, ", "", 1)
	absent = strings.Replace(absent, "name: web", "name: absent, annotations: {}", 1)
	for _, manifest := range []string{absent, strings.Replace(absent, "name: absent", "name: changed", 1)} {
		if _, err := c.TryKubectl(t, manifest, "apply", "-n", namespace, "--server-side", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	deployments := deploymentsOf(t, c, namespace)
	before := deployments.spec("absent")
	for _, name := range []string{"absent", "changed"} {
		eventually(t, func() error { // the controller may write in between
			o, _ := deployments.read(name)
			r, err := drift.Remediate(o, "privilege-escalation", judge, time.Now())
			if err != nil {
				return err
			}
			if _, err = deployments.Patch(t.Context(), name, types.JSONPatchType, r.Ops.JSON(), metav1.PatchOptions{FieldManager: "test"}); err != nil {
				return &unexpected{string(r.Ops.JSON()), err.Error(), "no error"}
			}
			return nil
		})
	}
	c.Kubectl(t, "patch", "deployment", "changed", "-n", namespace, "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/containers/0"}]`)
	eventually(t, func() error { // the controller copies a Deployment's annotations to its ReplicaSets
		sets := c.Kubectl(t, "get", "replicasets", "-n", namespace, "-o", "yaml")
		if n := strings.Count(sets, drift.AnnotationPrefix+"privilege-escalation:"); n < 2 {
			return &unexpected{"annotated ReplicaSets", strconv.Itoa(n), "two"}
		}
		return nil
	})
	out, errs, code := sconce(t, "rollback", "--all", "--kubeconfig", c.Kubeconfig(t), "-n", namespace)
	if strings.Contains(out+errs, "ReplicaSet") {
		t.Errorf("what a controller made was rolled back: %s%s", out, errs)
	}
	if code != 2 || !strings.Contains(out, "Deployment.apps "+namespace+"/absent: privilege-escalation: put back") || !strings.Contains(errs, "changed was changed since") {
		t.Errorf("rollback ended with %d: %s%s", code, out, errs)
	}
	if after := deployments.spec("absent"); !reflect.DeepEqual(after, before) {
		t.Errorf("after the rollback the spec is %v, and was %v", after, before)
	}
}
