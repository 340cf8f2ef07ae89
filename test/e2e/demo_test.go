// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/report/openreports"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/test/process"
)

// demoBaseline is what the demo's cluster is held against: one control is
// enforced, all of standard is audited.
const demoBaseline = `apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: cluster}
spec:
  title: What the demo is held against
  extends: [standard]
  action: audit
  controls:
  - {name: privileged-container, action: deny, failurePolicy: Fail}
`

// demoWorkloads run before Sconce is there.
const demoWorkloads = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: old, namespace: shop}
spec:
  selector: {matchLabels: {app: old}}
  template:
    metadata: {labels: {app: old}}
    spec:
      containers: [{name: agent, image: registry.example/agent:1, securityContext: {privileged: true}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: nginx, image: registry.example/nginx:1, securityContext: {allowPrivilegeEscalation: false}}]
`

const demoPod = `apiVersion: v1
kind: Pod
metadata: {name: debug, namespace: shop}
spec:
  containers: [{name: shell, image: registry.example/shell:1, securityContext: {privileged: true}}]
`

// demo tells what it does as a person at a terminal would see it.
type demo struct {
	*testing.T
	*controlplane.ControlPlane
	out   io.Writer
	began time.Time
}

// TestDemo is `make demo`: a denied pod, an audit finding and a drift, on a real
// control plane, with the agent as a process that may do what it may do when
// installed.
func TestDemo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "sconce")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "sconce.dev/sconce/cmd/sconce").CombinedOutput(); err != nil {
		t.Fatalf("building sconce: %v: %s", err, out)
	}
	d := &demo{T: t, out: t.Output(), began: time.Now()}
	d.say("A cluster: etcd, kube-apiserver and kube-controller-manager.")
	d.ControlPlane = controlplane.Start(t, controlplane.Options{})
	d.run("version")

	d.say("Two workloads run there before Sconce does. One is privileged.")
	d.apply("shop.yaml", demoWorkloads)

	d.say("Sconce is installed. One control is enforced, the others are audited.")
	d.install()
	d.show("$ cat baseline.yaml")
	d.show(demoBaseline)
	d.apply("baseline.yaml", demoBaseline)
	d.startAgent(binary)
	d.run("get", "baselines.sconce.dev")

	d.say("A pod that must not be is refused.")
	d.denied()
	d.say("What runs already is in the report of its namespace.")
	d.reported()
	d.say("Somebody changes a workload by hand. It drifts from the baseline.")
	d.drifts()
	d.say("That was all.")
	if took := time.Since(d.began); took > time.Minute {
		t.Errorf("it took %s, want less than a minute", took)
	}
}

// say prints a headline and how long the demo has run.
func (d *demo) say(what string) {
	_, _ = fmt.Fprintf(d.out, "\n%3.0f s  %s\n\n", time.Since(d.began).Seconds(), what)
}

// show prints what a command printed.
func (d *demo) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		_, _ = fmt.Fprint(d.out, "    ", line)
	}
}

// run shows a kubectl command and what it prints.
func (d *demo) run(args ...string) {
	d.Helper()
	shown := "$ kubectl"
	for _, arg := range args {
		if strings.ContainsAny(arg, " {*") {
			arg = "'" + arg + "'"
		}
		shown += " " + arg
	}
	d.show(shown)
	d.show(d.Kubectl(d, args...))
}

// apply shows how a file is applied, which need not exist, and what that
// prints.
func (d *demo) apply(file, manifest string) {
	d.Helper()
	d.show("$ kubectl apply -f " + file)
	out, err := d.TryKubectl(d, manifest, "apply", "-f", "-")
	if err != nil {
		d.Fatal(err)
	}
	d.show(out)
}

func (d *demo) install() {
	d.Helper()
	d.Kubectl(d, "apply", "--server-side", "-f", manifest(d.T, "crds.yaml"), "-f", manifest(d.T, "openreports-crds.yaml"), "-f", manifest(d.T, "namespace.yaml"))
	d.Kubectl(d, "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
	d.Kubectl(d, "apply", "-f", manifest(d.T, "sconce.yaml"))
	// There is no node to run the agent: it runs beside, as its ServiceAccount.
	d.Kubectl(d, "-n", installNamespace, "scale", "deployment", "sconce", "--replicas=0")
	d.show("$ kubectl apply -f config/install/crds.yaml -f config/install/openreports-crds.yaml -f config/install/namespace.yaml")
	d.show("$ kubectl apply -f config/install/sconce.yaml")
}

// startAgent runs the agent outside of the cluster, with the rights that it has
// when it is installed, and waits until it enforces.
func (d *demo) startAgent(binary string) {
	d.Helper()
	ports, err := process.FreePorts(3)
	if err != nil {
		d.Fatal(err)
	}
	agent := &process.Process{
		Path: binary,
		Args: []string{
			"agent", "--kubeconfig", d.KubeconfigOf(d, d.ConfigForServiceAccount(d, installNamespace, "sconce")),
			"--namespace", installNamespace, "--webhook-address", "127.0.0.1:" + ports[0], "--webhook-url", "https://127.0.0.1:" + ports[0],
			"--metrics-address", "127.0.0.1:" + ports[1], "--health-address", "127.0.0.1:" + ports[2], "--report-interval", "1s",
		},
		Log: filepath.Join(d.TempDir(), "agent.log"),
	}
	if err := agent.Start(); err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() {
		agent.Kill()
		if d.Failed() {
			d.Logf("the last that the agent logged:\n%s", agent.Tail())
		}
	})
	d.until("the baseline to be in force", func() error {
		if err := agent.Ended(); err != nil {
			d.Fatal(err)
		}
		_, err := d.TryKubectl(d, "", "wait", "--for=condition=InForce", "--timeout=1s", "baselines.sconce.dev/cluster")
		return err
	})
}

// until waits for something to come about.
func (d *demo) until(what string, f func() error) {
	d.Helper()
	err := f()
	for deadline := time.Now().Add(30 * time.Second); err != nil; err = f() {
		if time.Now().After(deadline) {
			d.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (d *demo) denied() {
	d.Helper()
	var refusal string
	d.until("the pod to be refused", func() error {
		_, err := d.TryKubectl(d, demoPod, "apply", "--dry-run=server", "-f", "-")
		if err == nil {
			return fmt.Errorf("it was taken")
		}
		refusal = err.Error()
		return nil
	})
	_, err := d.TryKubectl(d, demoPod, "apply", "-f", "-")
	if err == nil {
		d.Fatal("the API server took the pod")
	}
	refusal = err.Error()
	d.show("$ kubectl apply -f pod.yaml")
	_, refusal, _ = strings.Cut(strings.ReplaceAll(refusal, "STDIN", "pod.yaml"), "exit status 1: ")
	d.show(refusal)
	if !strings.Contains(refusal, `container "shell" runs privileged`) {
		d.Errorf("got %q, want what is wrong with the pod", refusal)
	}
}

func (d *demo) reported() {
	d.Helper()
	var report openreports.Report
	var result *openreports.Result
	d.until("the report", func() error {
		out, err := d.TryKubectl(d, "", "-n", "shop", "get", "reports.openreports.io", "sconce", "-o", "json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			return err
		}
		for i, r := range report.Results {
			if r.Rule == "privileged-container" && r.Result == "fail" {
				result = &report.Results[i]
				return nil
			}
		}
		return fmt.Errorf("it has no privileged container")
	})
	d.run("-n", "shop", "get", "reports.openreports.io")
	d.show("$ kubectl -n shop get reports.openreports.io sconce -o yaml   # one of its results")
	d.show(fmt.Sprintf("- rule: %s\n  result: %s\n  severity: %s\n  message: %s", result.Rule, result.Result, result.Severity, result.Message))
	for _, s := range result.Subjects {
		d.show(fmt.Sprintf("  resources: [{kind: %s, namespace: %s, name: %s}]", s.Kind, s.Namespace, s.Name))
	}
}

func (d *demo) drifts() {
	d.Helper()
	const patch = `{"spec": {"template": {"spec": {"containers": [{"name": "nginx", "securityContext": {"allowPrivilegeEscalation": true}}]}}}}`
	d.run("-n", "shop", "patch", "deployment", "web", "--patch", patch)
	var note string
	d.until("the event of the drift", func() error {
		out, err := d.TryKubectl(d, "", "-n", "shop", "get", "events", "--field-selector", "reason=Drift,involvedObject.name=web", "-o", "jsonpath={.items[*].message}")
		if note = out; err == nil && !strings.Contains(out, "privilege-escalation") {
			return fmt.Errorf("events are %q", out)
		}
		return err
	})
	d.show("$ kubectl -n shop get events --field-selector reason=Drift")
	d.show(note)
	if !strings.Contains(note, "kubectl-patch") {
		d.Errorf("got %q, want who did it", note)
	}
	_, undo, ok := strings.Cut(note, "undo: kubectl ")
	if !ok {
		d.Fatalf("got %q, want what undoes it", note)
	}
	d.say("What undoes it is in the event.")
	d.show("$ kubectl " + undo)
	cmd := exec.CommandContext(d.Context(), "sh", "-c", `"$0" --kubeconfig "$1" `+undo, d.Binary("kubectl"), d.Kubeconfig(d))
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.Fatalf("%v: %s", err, out)
	}
	d.show(string(out))
	d.run("-n", "shop", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[*].securityContext}")
}
