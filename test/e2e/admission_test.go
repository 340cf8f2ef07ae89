// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/test/controlplane"
)

// oneOfEach is a baseline with a control for each action.
const oneOfEach = `
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
  - {name: host-pid, action: deny, remediate: true}
---
apiVersion: sconce.dev/v1alpha1
kind: Exception
metadata: {name: node-agent}
spec:
  controls: [privileged-container]
  match: {names: ["node-agent-*"]}
  reason: the agent reads the node's counters
  owner: platform@example.com
  expires: "2999-01-31"
`

// secretStore is a store of certificates for one process.
type secretStore struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (s *secretStore) Load(context.Context) (map[string][]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.data), "", nil
}

func (s *secretStore) Save(_ context.Context, data map[string][]byte, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = data
	return nil
}

// webhook is Sconce's webhook, served by this process.
type webhook struct {
	c         *controlplane.ControlPlane
	namespace string
	name      string
	url       string
	bundle    []byte
	server    *http.Server
	delay     atomic.Int64
	mu        sync.Mutex
	took      []time.Duration
}

// serveWebhook serves the rules of a baseline, for one namespace.
func serveWebhook(t *testing.T, c *controlplane.ControlPlane, namespace, name, documents string) *webhook {
	t.Helper()
	w := &webhook{c: c, namespace: namespace, name: "admission-" + namespace}
	l := baseline.NewLibrary()
	catalog.Read(l)
	if documents != "" {
		must(t, l.Read("test.yaml", []byte(documents)))
	}
	must(t, l.Check(time.Now()))
	b, err := l.Resolve(name, baseline.Options{})
	must(t, err)
	enforced := func(policy v1alpha1.FailurePolicy) *engine.Engine {
		return engine.New(admission.Enforced(b, policy, v1alpha1.Warn), l.Exceptions(time.Now()), time.Now())
	}
	engines := admission.Engines{Fail: enforced(v1alpha1.FailClosed), Ignore: enforced(v1alpha1.FailOpen), Mutate: engine.New(b, l.Exceptions(time.Now()), time.Now())}
	handler := admission.NewHandler(admission.HandlerOptions{
		Options: admission.Options{Baseline: name, Annotations: true},
		Engines: func() admission.Engines { return engines },
		Answered: func(a admission.Answer) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.took = append(w.took, a.Took)
		},
	})
	certificates := admission.NewCertificates(admission.CertificateOptions{Store: &secretStore{}, Names: []string{"127.0.0.1"}})
	w.bundle, err = certificates.Refresh(t.Context())
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.url = "https://" + listener.Addr().String()
	w.server = admission.NewServer(admission.ServerOptions{Certificate: certificates.GetCertificate, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if d := time.Duration(w.delay.Load()); d > 0 {
			select {
			case <-time.After(d):
			case <-r.Context().Done():
			}
		}
		handler.ServeHTTP(rw, r)
	})})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = admission.Serve(listener, w.server)
	}()
	t.Cleanup(func() {
		w.remove(t)
		_ = w.server.Close()
		<-done
	})
	return w
}

// remove takes the configurations away.
func (w *webhook) remove(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"validatingwebhookconfiguration", "mutatingwebhookconfiguration"} {
		if _, err := w.c.TryKubectl(t, "", "delete", kind, w.name, "--ignore-not-found"); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	}
}

// hook is a webhook of a configuration.
type hook struct {
	path          string
	failurePolicy string
}

// install tells the API server of webhooks, and waits until it asks them.
func (w *webhook) install(t *testing.T, kind string, hooks ...hook) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: admissionregistration.k8s.io/v1\nkind: %s\nmetadata: {name: %s}\nwebhooks:\n", kind, w.name)
	for i, h := range hooks {
		fmt.Fprintf(&b, `- name: h%d.sconce.dev
  clientConfig: {url: "%s%s", caBundle: %s}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: %s
  timeoutSeconds: 2
  matchPolicy: Equivalent
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers, pods/resize], scope: Namespaced}
  - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments, replicasets], scope: Namespaced}
`, i, w.url, h.path, base64.StdEncoding.EncodeToString(w.bundle), h.failurePolicy, w.namespace)
	}
	w.c.Apply(t, b.String())
	before := w.answers()
	poll(t, "the API server asks the webhook", func() bool {
		_, _ = w.create(t, podNamed("probe", "", ""), "--dry-run=server")
		return w.answers() >= before+len(hooks)
	})
}

func (w *webhook) answers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.took)
}

// create creates an object in the webhook's namespace and returns all that
// kubectl says.
func (w *webhook) create(t *testing.T, object string, args ...string) (string, error) {
	t.Helper()
	return w.c.TryKubectl(t, object, append([]string{"create", "-n", w.namespace, "-f", "-"}, args...)...)
}

// podNamed returns a pod with more in its spec and in its container.
func podNamed(name, spec, container string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {%s containers: [{%s name: app, image: registry.example.com/web:1.2}]}\n", name, spec, container)
}

const privilegedContext = "securityContext: {privileged: true},"

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll waits until something is so.
func poll(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// denied fails the test unless an error holds what a developer must read.
func denied(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Error("not denied")
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not say %q:\n%v", s, err)
		}
	}
}

// TestAdmission holds what the webhook does to what people ask of a real API
// server.
func TestAdmission(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	w := serveWebhook(t, c, namespace, "house", oneOfEach)

	// What was there before Sconce came.
	const old = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: old}
spec:
  replicas: 1
  selector: {matchLabels: {app: old}}
  template:
    metadata: {labels: {app: old}}
    spec:
      hostNetwork: true
      containers: [{name: app, image: registry.example.com/web:1.2}]
`
	_, err := w.create(t, old)
	must(t, err)
	_, err = w.create(t, strings.Replace(podNamed("leaving", "", privilegedContext), "name: leaving", "name: leaving, finalizers: [example.com/wait]", 1))
	must(t, err)
	_, err = w.create(t, podNamed("debugged", "", ""))
	must(t, err)
	pods := c.Client(t).CoreV1().Pods(namespace)
	replicas := func() int {
		list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=old"})
		must(t, err)
		return len(list.Items)
	}
	poll(t, "the old Deployment has a pod", func() bool { return replicas() == 1 })
	w.install(t, "ValidatingWebhookConfiguration", hook{admission.FailPath, "Fail"}, hook{admission.IgnorePath, "Ignore"})

	t.Run("deny", func(t *testing.T) {
		_, err := w.create(t, podNamed("bad", "", privilegedContext))
		denied(t, err, "(Forbidden)", `denied the request: Pod `+namespace+`/bad does not meet 1 control of baseline house:`,
			`- privileged-container: container "app" runs privileged`, "at spec.containers[app].securityContext.privileged = true",
			"fix: set spec.containers[app].securityContext.privileged to false")
		t.Log(err)
	})
	t.Run("causes", func(t *testing.T) {
		yes := true
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "bad-"}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/web:1.2", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}},
		}}, metav1.CreateOptions{})
		var status apierrors.APIStatus
		if !apierrors.IsForbidden(err) || !errors.As(err, &status) {
			t.Fatalf("%v; want that it is forbidden", err)
		}
		if causes := status.Status().Details.Causes; len(causes) != 1 || causes[0].Field != "spec.containers[app].securityContext.privileged" {
			t.Errorf("causes %v", causes)
		}
	})
	t.Run("warn", func(t *testing.T) {
		_, err := w.create(t, strings.Replace(podNamed("latest", "", ""), "web:1.2", "web:latest", 1), "--warnings-as-errors")
		denied(t, err, "Warning: image-tag-latest: ", "spec.containers[app].image")
	})
	t.Run("exception", func(t *testing.T) {
		_, err := w.create(t, podNamed("node-agent-1", "", privilegedContext))
		must(t, err)
	})
	t.Run("what was there can change and scale", func(t *testing.T) {
		c.Kubectl(t, "scale", "-n", namespace, "deployment/old", "--replicas=3")
		poll(t, "three pods run", func() bool { return replicas() == 3 })
		c.Kubectl(t, "set", "image", "-n", namespace, "deployment/old", "app=registry.example.com/web:1.3")
		poll(t, "a new ReplicaSet has made a pod", func() bool {
			list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "app=old"})
			must(t, err)
			return slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return p.Spec.Containers[0].Image == "registry.example.com/web:1.3" })
		})
	})
	t.Run("what was there cannot get worse", func(t *testing.T) {
		_, err := c.TryKubectl(t, "", "patch", "-n", namespace, "deployment/old", "--type=json",
			`-p=[{"op":"add","path":"/spec/template/spec/containers/0/ports","value":[{"containerPort":80,"hostPort":80}]}]`)
		denied(t, err, "host-port", "does not meet 1 control")
		_, err = w.create(t, podNamed("new", "hostNetwork: true,", ""))
		denied(t, err, "host-network")
	})
	t.Run("an owner that a user has made up", func(t *testing.T) {
		_, err := w.create(t, strings.Replace(podNamed("forged", "hostNetwork: true,", ""), "name: forged",
			"name: forged, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: old, uid: 6b1c7f6a-2f0f-4d0c-8f8a-3c7a5d2e9b10, controller: true}]", 1))
		denied(t, err, "host-network")
	})
	t.Run("ephemeral containers", func(t *testing.T) {
		_, err := c.TryKubectl(t, "", "debug", "-n", namespace, "debugged", "--image=busybox:1.36", "--container=shell", "--profile=sysadmin")
		denied(t, err, `privileged-container: container "shell"`, "spec.ephemeralContainers[shell].securityContext.privileged")
		c.Kubectl(t, "debug", "-n", namespace, "debugged", "--image=busybox:1.36", "--container=calm", "--profile=restricted")
	})
	t.Run("deletion", func(t *testing.T) {
		c.Kubectl(t, "delete", "pod", "-n", namespace, "leaving", "--wait=false")
		c.Kubectl(t, "patch", "pod", "-n", namespace, "leaving", "--type=json", `-p=[{"op":"remove","path":"/metadata/finalizers"}]`)
		poll(t, "it is gone", func() bool {
			_, err := pods.Get(t.Context(), "leaving", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
	t.Run("slow", func(t *testing.T) {
		w.delay.Store(int64(time.Minute))
		defer w.delay.Store(0)
		_, err := w.create(t, podNamed("slow", "", ""))
		denied(t, err, "failed calling webhook", "h0.sconce.dev")
	})
	t.Run("mutate", func(t *testing.T) {
		w.remove(t)
		w.install(t, "MutatingWebhookConfiguration", hook{admission.MutatePath, "Ignore"})
		_, err := w.create(t, podNamed("mended", "hostPID: true,", ""))
		must(t, err)
		p, err := pods.Get(t.Context(), "mended", metav1.GetOptions{})
		must(t, err)
		if p.Spec.HostPID {
			t.Error("the pod still joins the processes of its node")
		}
	})
	t.Run("down", func(t *testing.T) {
		w.remove(t)
		w.install(t, "ValidatingWebhookConfiguration", hook{admission.FailPath, "Fail"})
		must(t, w.server.Close())
		_, err := w.create(t, podNamed("down", "", ""))
		denied(t, err, "failed calling webhook")
		c.Kubectl(t, "patch", "validatingwebhookconfiguration", w.name, "--type=json", `-p=[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)
		poll(t, "the API server goes on without the webhook", func() bool {
			_, err := w.create(t, podNamed("down", "", ""), "--dry-run=server")
			return err == nil
		})
	})
}

// TestAdmissionLatency asks 500 times a second, with the whole catalogue, and
// without Sconce. SCONCE_TIMING=1 holds it against the bar, on a machine that
// does nothing else.
func TestAdmissionLatency(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	data, err := os.ReadFile("../../admission/testdata/pod-good.json")
	must(t, err)
	var pod corev1.Pod
	must(t, yaml.Unmarshal(data, &pod))
	pod.ObjectMeta = metav1.ObjectMeta{GenerateName: "web-", Namespace: namespace, Labels: pod.Labels, Annotations: pod.Annotations}
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "default", "default"
	client := c.Client(t)
	alone := load(t, client, &pod)
	t.Logf("without Sconce: %s", alone)

	w := serveWebhook(t, c, namespace, "hardened", "")
	w.install(t, "ValidatingWebhookConfiguration", hook{admission.IgnorePath, "Fail"})
	load(t, client, &pod) // connections and expressions are ready from here on
	w.mu.Lock()
	w.took = nil
	w.mu.Unlock()
	with := load(t, client, &pod)
	w.mu.Lock()
	inside := latencies{took: w.took}
	w.mu.Unlock()
	t.Logf("with Sconce:    %s", with)
	t.Logf("in the webhook: %s", &inside)
	if os.Getenv("SCONCE_TIMING") == "1" && inside.at(.99) > 5*time.Millisecond {
		t.Errorf("p99 in the webhook is %s; want at most 5 ms", inside.at(.99))
	}
}

// latencies are how long requests took.
type latencies struct {
	took   []time.Duration
	failed int
	sorted bool
}

func (l *latencies) at(share float64) time.Duration {
	if len(l.took) == 0 {
		return 0
	}
	if !l.sorted {
		slices.Sort(l.took)
		l.sorted = true
	}
	return l.took[min(len(l.took)-1, int(share*float64(len(l.took))))].Round(time.Microsecond)
}

// String returns what is told of them.
func (l *latencies) String() string {
	return fmt.Sprintf("%d requests, %d failed, p50 %s, p90 %s, p99 %s, worst %s", len(l.took), l.failed, l.at(.5), l.at(.9), l.at(.99), l.at(1))
}

// load creates pods that are not kept, 500 a second for some seconds, whether or
// not those before have been answered.
func load(t *testing.T, client kubernetes.Interface, pod *corev1.Pod) *latencies {
	t.Helper()
	const rate, seconds = 500, 4
	out := &latencies{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for range rate * seconds {
		<-tick.C
		wg.Go(func() {
			start := time.Now()
			_, err := client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			out.took = append(out.took, took)
			if err != nil {
				if out.failed++; out.failed == 1 {
					t.Log(err)
				}
			}
		})
	}
	wg.Wait()
	return out
}
