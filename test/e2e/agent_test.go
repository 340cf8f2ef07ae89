// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/agent"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/report/openreports"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/test/process"
)

// replica is an agent that runs in the test's process.
type replica struct {
	name            string
	health, metrics string
	stop            context.CancelFunc
	done            chan error
	log             *lockedBuffer
}

// lockedBuffer holds what is logged.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freeAddress is an address on loopback that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// runAgent starts an agent and waits until it is ready. It stops it when the
// test ends.
func runAgent(t *testing.T, config *rest.Config, webhook, name string, change func(*agent.Options)) *replica {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &replica{name: name, health: freeAddress(t), metrics: freeAddress(t), stop: stop, done: make(chan error, 1), log: &lockedBuffer{}}
	opts := agent.Options{
		Config: config, Namespace: installNamespace, WebhookAddress: webhook, WebhookURL: "https://" + webhook,
		HealthAddress: r.health, MetricsAddress: r.metrics, Identity: name, Exempt: []string{"kube-system"},
		LeaderElect: true, Lease: agent.Lease{Duration: 4 * time.Second, Renew: 3 * time.Second, Retry: 500 * time.Millisecond},
		ReportInterval: 500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&opts)
	}
	go func() { r.done <- agent.Run(ctx, opts) }()
	t.Cleanup(func() {
		r.end(t)
		if t.Failed() {
			t.Logf("%s:\n%s", name, r.log)
		}
	})
	poll(t, name+" is ready", func() bool {
		select {
		case err := <-r.done:
			r.done <- err
			t.Fatalf("%s ended: %v\n%s", name, err, r.log)
		default:
		}
		return r.get("http://"+r.health+"/readyz") != ""
	})
	return r
}

// end stops the agent and fails the test if it does not end well.
func (r *replica) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			t.Errorf("%s ended with %v", r.name, err)
		}
	case <-time.After(time.Minute):
		t.Errorf("%s does not end", r.name)
	}
}

// get returns what is at an address, "" for an error.
func (r *replica) get(url string) string {
	response, err := http.Get(url) //nolint:gosec,noctx // on loopback
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return b.String()
}

// metric returns the lines of a metric.
func (r *replica) metric(name string) string {
	var out []string
	for line := range strings.Lines(r.get("http://" + r.metrics + "/metrics")) {
		if strings.HasPrefix(line, name) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

// agentCluster is a control plane in which Sconce is installed.
type agentCluster struct {
	*controlplane.ControlPlane
	dynamic dynamic.Interface
	config  *rest.Config // of the agent
}

func startAgentCluster(t *testing.T) *agentCluster {
	t.Helper()
	c := controlplane.Start(t, controlplane.Options{AuditPolicy: `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, users: ["system:serviceaccount:sconce-system:sconce"]}
- {level: None}
`})
	install(t, c)
	c.Kubectl(t, "apply", "--server-side", "-f", manifest(t, "openreports-crds.yaml"))
	c.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "-f", manifest(t, "openreports-crds.yaml"))
	d, err := dynamic.NewForConfig(c.Config())
	must(t, err)
	return &agentCluster{ControlPlane: c, dynamic: d, config: c.ConfigForServiceAccount(t, installNamespace, "sconce")}
}

// condition returns the status and the message of a condition of a document.
func (c *agentCluster) condition(t *testing.T, resource, name, kind string) (status metav1.ConditionStatus, message string) {
	t.Helper()
	u, err := c.dynamic.Resource(v1alpha1Resource(resource)).Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	var b v1alpha1.Baseline
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"status": u.Object["status"]}, &b))
	found := meta.FindStatusCondition(b.Status.Conditions, kind)
	if found == nil || found.ObservedGeneration != u.GetGeneration() {
		return metav1.ConditionUnknown, ""
	}
	return found.Status, found.Message
}

// baselineOf is the Baseline that is enforced.
func baselineOf(spec string) string {
	return "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: cluster}\nspec:\n  title: What this cluster is held against\n  extends: [standard]\n  action: audit\n" + spec
}

const denyPrivileged = "  controls:\n  - {name: privileged-container, action: deny, failurePolicy: Fail}\n  - {name: host-network, action: warn}\n"

func inNamespace(namespace, object string) string {
	return strings.Replace(object, "metadata: {", "metadata: {namespace: "+namespace+", ", 1)
}

// try creates an object and says what came of it.
func (c *agentCluster) try(t *testing.T, object string) (string, error) {
	t.Helper()
	return c.TryKubectl(t, object, "create", "--dry-run=server", "-f", "-")
}

// enforced waits until the set that is made of the documents is in force.
func (c *agentCluster) enforced(t *testing.T) {
	t.Helper()
	poll(t, "the Baseline is in force", func() bool {
		status, _ := c.condition(t, "baselines", "cluster", v1alpha1.InForce)
		return status == metav1.ConditionTrue
	})
}

// TestAgent holds what the agent does in a cluster, with the rights that its
// chart gives it and no others.
func TestAgent(t *testing.T) {
	c := startAgentCluster(t)
	namespace := c.Namespace(t)
	c.Apply(t, inNamespace(namespace, podNamed("old", "", privilegedContext)))
	c.Apply(t, baselineOf(denyPrivileged))
	webhook := freeAddress(t)
	first := runAgent(t, c.config, webhook, "first", nil)
	c.enforced(t)
	bad, good := inNamespace(namespace, podNamed("bad", "", privilegedContext)), inNamespace(namespace, podNamed("good", "", ""))
	isDenied := func() bool { _, err := c.try(t, bad); return err != nil }
	poll(t, "a bad pod is denied", isDenied)

	t.Run("a bad pod is denied, a good one is not", func(t *testing.T) {
		_, err := c.try(t, bad)
		denied(t, err, "privileged-container", `container "app"`, "spec.containers[app].securityContext.privileged")
		if _, err := c.try(t, good); err != nil {
			t.Error(err)
		}
		_, err = c.TryKubectl(t, bad, "create", "-f", "-")
		denied(t, err, "privileged-container")
		eventually(t, func() error { return c.event(t, namespace, "Denied", "privileged-container") })
	})
	t.Run("a warning is given", func(t *testing.T) {
		if w := c.warnings(t, inNamespace(namespace, podNamed("warned", "hostNetwork: true,", ""))); !strings.Contains(w, "host-network: ") {
			t.Errorf("the warnings are %q", w)
		}
		if m := first.metric("sconce_admission_warnings_total"); !strings.Contains(m, `control="host-network"`) {
			t.Errorf("got the metric %q", m)
		}
	})
	t.Run("the agent's namespace and kube-system are not asked about", func(t *testing.T) {
		if _, err := c.try(t, inNamespace("kube-system", podNamed("bad", "", privilegedContext))); err != nil {
			t.Error(err)
		}
	})
	t.Run("what was there before is reported", func(t *testing.T) {
		eventually(t, func() error { return c.reported(t, namespace, "privileged-container", "old") })
	})
	t.Run("a broken Baseline changes nothing", func(t *testing.T) {
		c.Apply(t, baselineOf("  controls:\n  - {name: no-such-control, action: deny}\n"))
		poll(t, "the Baseline is not accepted", func() bool {
			status, message := c.condition(t, "baselines", "cluster", v1alpha1.Accepted)
			return status == metav1.ConditionFalse && strings.Contains(message, `unknown control "no-such-control"`)
		})
		if status, message := c.condition(t, "baselines", "cluster", v1alpha1.InForce); status != metav1.ConditionFalse || !strings.Contains(message, "last good set") {
			t.Errorf("InForce is %s: %s", status, message)
		}
		_, err := c.try(t, bad)
		denied(t, err, "privileged-container")
		if m := first.metric("sconce_baseline_accepted"); m != "sconce_baseline_accepted 0" {
			t.Errorf("got the metric %q", m)
		}
	})
	all := t // what is started again outlives the subtest
	t.Run("nor does it for an agent that is started then", func(t *testing.T) {
		first.end(t)
		if _, err := c.try(t, bad); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("got %v while no agent answers, want that the webhook fails closed", err)
		}
		first = runAgent(all, c.config, webhook, "restarted", nil)
		poll(t, "a bad pod is denied by the last good set", func() bool {
			_, err := c.try(t, bad)
			return err != nil && strings.Contains(err.Error(), "privileged-container")
		})
		c.Apply(t, baselineOf(denyPrivileged))
		c.enforced(t)
	})
	t.Run("an exception excuses", func(t *testing.T) {
		exception := fmt.Sprintf("apiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: bad}\nspec: {controls: [privileged-container], match: {namespaces: [%s], names: [bad]}, reason: it is a test, owner: tests, expires: \"2099-12-31\"}\n", namespace)
		c.Apply(t, exception)
		poll(t, "the exception excuses", func() bool { return !isDenied() })
		poll(t, "its status says so", func() bool {
			status, _ := c.condition(t, "exceptions", "bad", v1alpha1.InForce)
			return status == metav1.ConditionTrue
		})
		c.Kubectl(t, "delete", "exceptions.sconce.dev", "bad")
		poll(t, "nothing excuses any more", isDenied)
	})
	t.Run("a deleted Baseline stays in force", func(t *testing.T) {
		c.Kubectl(t, "delete", "baselines.sconce.dev", "cluster")
		poll(t, "it is told of", func() bool { return first.metric("sconce_baseline_accepted") == "sconce_baseline_accepted 0" })
		_, err := c.try(t, bad)
		denied(t, err, "privileged-container")
		c.Apply(t, baselineOf(denyPrivileged))
		c.enforced(t)
	})
	t.Run("drift is told of", func(t *testing.T) {
		c.Apply(t, webDeployment(namespace, "false"))
		eventually(t, func() error { return c.reportedNamespace(t, namespace) })
		c.Apply(t, baselineOf("")) // so that the change is let in
		c.enforced(t)
		poll(t, "all was read by the new set", func() bool { return first.metric("sconce_audit_synced") == "sconce_audit_synced 1" })
		c.Apply(t, webDeployment(namespace, "true"))
		eventually(t, func() error { return c.event(t, namespace, "Drift", "kubectl patch") })
		eventually(t, func() error { return c.reported(t, namespace, "privileged-container", "web") })
		if m := first.metric("sconce_drift_total"); !strings.Contains(m, `control="privileged-container"`) {
			t.Errorf("got the metric %q", m)
		}
		c.Apply(t, baselineOf(denyPrivileged))
		c.enforced(t)
	})
	t.Run("a webhook configuration that somebody weakened is mended", func(t *testing.T) {
		c.Kubectl(t, "patch", "validatingwebhookconfiguration", "sconce", "--type=json", "-p",
			`[{"op":"add","path":"/webhooks/0/objectSelector","value":{"matchLabels":{"only":"this"}}}]`)
		poll(t, "a bad pod is denied", isDenied)
	})
	t.Run("another replica takes over", func(t *testing.T) { c.takeOver(t, first) })
}

// takeOver holds that a replica leads when the leader has gone.
func (c *agentCluster) takeOver(t *testing.T, first *replica) {
	second := runAgent(t, c.config, freeAddress(t), "second", nil)
	if m := second.metric("sconce_leader"); m != "sconce_leader 0" {
		t.Errorf("two lead: %q", m)
	}
	first.end(t)
	start := time.Now()
	poll(t, "the second leads", func() bool { return second.metric("sconce_leader") == "sconce_leader 1" })
	t.Logf("the lease changed hands in %s", time.Since(start))
	poll(t, "the second audits", func() bool { return second.metric("sconce_audit_synced") == "sconce_audit_synced 1" })
}

func webDeployment(namespace, privileged string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %s}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: registry.example.com/web:1.2, securityContext: {privileged: %s}}]}
`, namespace, privileged)
}

// event returns an error unless there is an event in a namespace that says a
// text.
func (c *agentCluster) event(t *testing.T, namespace, reason, says string) error {
	list, err := c.Client(t).EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	var notes []string
	for i := range list.Items {
		e := &list.Items[i]
		if e.Reason == reason && strings.Contains(e.Note, says) {
			return nil
		}
		notes = append(notes, noteOf(e))
	}
	return fmt.Errorf("no event %s says %q; there are %q", reason, says, notes)
}

func noteOf(e *eventsv1.Event) string { return e.Reason + " " + e.Note }

// reportedNamespace returns an error unless there is a report on a namespace.
func (c *agentCluster) reportedNamespace(t *testing.T, namespace string) error {
	_, err := c.report(t, namespace)
	return err
}

func (c *agentCluster) report(t *testing.T, namespace string) (*unstructured.Unstructured, error) {
	u, err := c.dynamic.Resource(openreports.OpenReports.Resource(namespace)).Namespace(namespace).Get(t.Context(), openreports.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no report on %s", namespace)
	}
	return u, err
}

// reported returns an error unless the report on a namespace says that an object
// fails a control.
func (c *agentCluster) reported(t *testing.T, namespace, control, name string) error {
	u, err := c.report(t, namespace)
	if err != nil {
		return err
	}
	results, _, _ := unstructured.NestedSlice(u.Object, "results")
	for _, r := range results {
		r := r.(map[string]any)
		subjects, _, _ := unstructured.NestedSlice(r, "resources")
		if r["rule"] == control && r["result"] == "fail" && len(subjects) == 1 && subjects[0].(map[string]any)["name"] == name {
			return nil
		}
	}
	return fmt.Errorf("the report does not say that %s fails %s; it has %d results", name, control, len(results))
}

// v1alpha1Resource is a resource of the format.
func v1alpha1Resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: v1alpha1.Group, Version: "v1alpha1", Resource: name}
}

// warnings creates a pod for nothing and returns what is warned of.
func (c *agentCluster) warnings(t *testing.T, pod string) string {
	t.Helper()
	var heard warnings
	config := rest.CopyConfig(c.Config())
	config.WarningHandler = &heard
	client, err := dynamic.NewForConfig(config)
	must(t, err)
	var u unstructured.Unstructured
	must(t, yaml.Unmarshal([]byte(pod), &u.Object))
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	_, err = client.Resource(pods).Namespace(u.GetNamespace()).Create(t.Context(), &u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	must(t, err)
	return strings.Join(heard, "\n")
}

type warnings []string

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) { *w = append(*w, text) }

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

const widgetControl = `
apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: small-widget}
spec:
  title: Widgets are small
  description: A large widget stands in everybody's way.
  remediation: Set spec.size to small.
  severity: high
  layer: application
  phase: build
  topic: widgets
  match: {kinds: [{group: example.com, kind: Widget}]}
  require: object.spec.size == "small"
  message: the widget is {object.spec.size}
  at: [spec.size]
`

// furtherRights are what the manifests leave to whoever wants more.
const furtherRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sconce-further}
rules:
- {apiGroups: [example.com], resources: [widgets], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sconce-further}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sconce-further}
subjects: [{kind: ServiceAccount, name: sconce, namespace: sconce-system}]
`

// TestAgentChanges holds what the agent changes where it is let, that kinds come
// and go, and that it asks nothing while nothing changes.
func TestAgentChanges(t *testing.T) {
	c := startAgentCluster(t)
	namespace := c.Namespace(t)
	c.Apply(t, furtherRights)
	c.Apply(t, baselineOf("  controls:\n  - {name: privileged-container, remediate: true}\n  - {name: small-widget, action: deny}\n"))
	c.Apply(t, widgetControl)
	c.Apply(t, webDeployment(namespace, "true"))
	a := runAgent(t, c.config, freeAddress(t), "agent", func(o *agent.Options) { o.Mutate, o.Remediate = true, true })
	c.enforced(t)
	t.Run("what is there is mended", func(t *testing.T) {
		poll(t, "the Deployment is mended", func() bool {
			return c.Kubectl(t, "get", "deployment", "web", "-n", namespace, "-o", "jsonpath={.spec.template.spec.containers[0].securityContext.privileged}") == "false"
		})
		if out := c.Kubectl(t, "get", "deployment", "web", "-n", namespace, "-o", "jsonpath={.metadata.annotations}"); !strings.Contains(out, "remediation.sconce.dev/privileged-container") {
			t.Errorf("what was there before is not recorded: %s", out)
		}
		eventually(t, func() error { return c.event(t, namespace, "Remediated", "privileged-container") })
		if m := a.metric("sconce_remediations_total"); !strings.Contains(m, `result="ok"} 1`) {
			t.Errorf("got the metric %q", m)
		}
	})
	t.Run("what is created is mended", func(t *testing.T) {
		poll(t, "a pod is mended", func() bool {
			out, err := c.TryKubectl(t, inNamespace(namespace, podNamed("bad", "", privilegedContext)), "create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].securityContext.privileged}", "-f", "-")
			return err == nil && out == "false"
		})
	})
	t.Run("a kind comes and goes", func(t *testing.T) { c.kindComesAndGoes(t, namespace) })
	t.Run("a change is judged at once", func(t *testing.T) { c.judgedAtOnce(t, a, namespace) })
	t.Run("nothing is asked while nothing changes", func(t *testing.T) { c.nothingAsked(t) })
}

// kindComesAndGoes holds that a kind is judged once its definition is there, and
// nothing is left of it once that is gone.
func (c *agentCluster) kindComesAndGoes(t *testing.T, namespace string) {
	widget := func(size string) string {
		return fmt.Sprintf("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: big, namespace: %s}\nspec: {size: %s}\n", namespace, size)
	}
	c.Apply(t, widgets)
	poll(t, "a large widget is denied", func() bool {
		_, err := c.try(t, widget("large"))
		return err != nil && strings.Contains(err.Error(), "the widget is large")
	})
	c.Apply(t, widget("small"))
	c.Apply(t, baselineOf("  controls:\n  - {name: privileged-container, remediate: true}\n  - {name: small-widget}\n"))
	poll(t, "nothing is denied", func() bool {
		_, err := c.try(t, strings.Replace(widget("large"), "big", "other", 1))
		return err == nil
	})
	c.Apply(t, widget("large"))
	eventually(t, func() error { return c.reported(t, namespace, "small-widget", "big") })
	c.Kubectl(t, "delete", "crd", "widgets.example.com")
	eventually(t, func() error {
		if err := c.reported(t, namespace, "small-widget", "big"); err == nil {
			return errors.New("the widget that is gone is still reported")
		}
		return nil
	})
}

// judgedAtOnce measures how long it takes until a change is judged.
func (c *agentCluster) judgedAtOnce(t *testing.T, a *replica, namespace string) {
	before := a.metric("sconce_audit_findings{control=\"host-network\",outcome=\"fail\"")
	client := c.Client(t).CoreV1().Pods(namespace)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "net"}, Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/web:1.2"}}}}
	_, err := client.Create(t.Context(), pod, metav1.CreateOptions{})
	must(t, err)
	start := time.Now()
	for a.metric("sconce_audit_findings{control=\"host-network\",outcome=\"fail\"") == before {
		if time.Since(start) > time.Minute {
			t.Fatal("the change was not judged")
		}
	}
	t.Logf("the change was judged and could be scraped after %s", time.Since(start))
	t.Log(a.metric("sconce_audit_change_duration_seconds"))
}

// nothingAsked holds that an agent at rest asks the API server for nothing but
// its lease.
func (c *agentCluster) nothingAsked(t *testing.T) {
	var at int64
	poll(t, "the agent is at rest", func() bool {
		asked, end := c.asked(t, at)
		at = end
		time.Sleep(2 * time.Second)
		return len(asked) == 0
	})
	time.Sleep(10 * time.Second) // there is no other way to see that nothing happens
	if asked, _ := c.asked(t, at); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

// asked returns what the agent asked for since an offset of the audit log, but
// for its lease and for watches, and where the log ends.
func (c *agentCluster) asked(t *testing.T, from int64) (out []string, end int64) {
	t.Helper()
	data, err := os.ReadFile(c.AuditLog())
	must(t, err)
	for line := range bytes.Lines(data[from:]) {
		var e struct {
			Verb, RequestURI string
			ObjectRef        struct{ Resource string }
		}
		if json.Unmarshal(line, &e) == nil && e.Verb != "watch" && e.ObjectRef.Resource != "leases" {
			out = append(out, e.Verb+" "+e.RequestURI)
		}
	}
	return out, int64(len(data))
}

// TestAgentKilled holds that another replica takes over when the leader is
// killed, and that requests are answered all the while.
func TestAgentKilled(t *testing.T) {
	c := startAgentCluster(t)
	namespace := c.Namespace(t)
	c.Apply(t, baselineOf(denyPrivileged))
	webhook := freeAddress(t)
	kubeconfig, health := c.KubeconfigOf(t, c.config), freeAddress(t)
	leader := &process.Process{
		Path: program(t), Log: filepath.Join(t.TempDir(), "agent.log"),
		Args: []string{"agent", "--kubeconfig", kubeconfig, "--namespace", installNamespace, "--leader-elect", "--reports=none",
			"--webhook-address", freeAddress(t), "--webhook-url", "https://" + webhook, "--metrics-address=", "--health-address", health},
	}
	must(t, leader.Start())
	t.Cleanup(leader.Kill)
	poll(t, "the leader has audited", func() bool {
		data, err := os.ReadFile(leader.Log)
		return err == nil && bytes.Contains(data, []byte("audit has seen everything"))
	})
	// This one answers at the address that the configuration names.
	second := runAgent(t, c.config, webhook, "second", nil)
	bad := inNamespace(namespace, podNamed("bad", "", privilegedContext))
	isDenied := func() bool {
		_, err := c.try(t, bad)
		return err != nil && strings.Contains(err.Error(), "privileged-container")
	}
	poll(t, "a bad pod is denied", isDenied)
	leader.Kill()
	start := time.Now()
	for second.metric("sconce_leader") != "sconce_leader 1" {
		if !isDenied() {
			t.Error("a bad pod was let in")
		}
		if time.Since(start) > 2*time.Minute {
			t.Fatal("nobody leads")
		}
	}
	t.Logf("the second led after %s", time.Since(start))
	poll(t, "the second audits", func() bool { return second.metric("sconce_audit_synced") == "sconce_audit_synced 1" })
}

// TestAgentOutlivesAPIServer holds that an agent that has lost the API server,
// and with it the lease, goes on when it is back, without being started again.
func TestAgentOutlivesAPIServer(t *testing.T) {
	c := startAgentCluster(t)
	namespace := c.Namespace(t)
	c.Apply(t, baselineOf(denyPrivileged))
	a := runAgent(t, c.config, freeAddress(t), "agent", nil)
	c.enforced(t)
	leads := func() bool { return a.metric("sconce_leader") == "sconce_leader 1" }
	poll(t, "it leads", leads)
	c.StopAPIServer(t)
	poll(t, "it has lost the lease", func() bool { return a.metric("sconce_leader") == "sconce_leader 0" })
	c.StartAPIServer(t)
	bad := inNamespace(namespace, podNamed("bad", "", privilegedContext))
	_, err := c.try(t, bad)
	denied(t, err, "privileged-container")
	poll(t, "it leads again", leads)
	poll(t, "it audits again", func() bool { return a.metric("sconce_audit_synced") == "sconce_audit_synced 1" })
	c.Apply(t, webDeployment(namespace, "false"))
	c.Apply(t, baselineOf(""))
	c.enforced(t)
	poll(t, "nothing is denied any more", func() bool { _, err := c.try(t, bad); return err == nil })
	c.Apply(t, bad)
	eventually(t, func() error { return c.reported(t, namespace, "privileged-container", "bad") })
}
