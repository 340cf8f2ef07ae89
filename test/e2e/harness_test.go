// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Sconce against a real control plane. `make e2e` builds that
// and runs the tests; without it they are skipped.
package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/test/controlplane"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// TestControlPlane holds what the other tests build on: what is stored survives
// a restart, users may do what is bound to them, and each fault is one.
func TestControlPlane(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{AuditPolicy: `
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
`})
	namespace := c.Namespace(t)
	maps := c.Client(t).CoreV1().ConfigMaps(namespace)
	store := func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	read := func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := maps.Get(ctx, name, metav1.GetOptions{})
		return err
	}
	if err := store("before"); err != nil {
		t.Fatal(err)
	}

	t.Run("the API server stops and starts again", func(t *testing.T) {
		c.StopAPIServer(t)
		if err := read("before"); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v from a stopped API server, want that it refuses the connection", err)
		}
		c.StartAPIServer(t)
		if err := read("before"); err != nil {
			t.Error(err)
		}
	})
	t.Run("the API server is killed and starts again", func(t *testing.T) {
		c.KillAPIServer(t)
		c.StartAPIServer(t)
		if err := read("before"); err != nil {
			t.Error(err)
		}
	})
	t.Run("the API server hangs", func(t *testing.T) {
		c.PauseAPIServer(t)
		if err := read("before"); !timedOut(err) {
			t.Errorf("got %v from an API server that hangs, want a timeout", err)
		}
		c.ResumeAPIServer(t)
	})
	t.Run("etcd stops and starts again", func(t *testing.T) {
		c.StopEtcd(t)
		if err := store("etcd-stopped"); err == nil {
			t.Error("stored something without etcd")
		}
		c.StartEtcd(t)
		eventually(t, func() error { return read("before") })
	})
	t.Run("etcd hangs", func(t *testing.T) {
		c.PauseEtcd(t)
		if err := store("etcd-paused"); !timedOut(err) {
			t.Errorf("got %v while etcd hangs, want a timeout", err)
		}
		c.ResumeEtcd(t)
	})
	t.Run("etcd refuses writes", func(t *testing.T) {
		c.RefuseWrites(t)
		if err := store("no-space"); err == nil || !strings.Contains(err.Error(), "database space exceeded") {
			t.Errorf("got %v, want that etcd is out of space", err)
		}
		if err := read("before"); err != nil {
			t.Errorf("reading while writes are refused: %v", err)
		}
		c.AcceptWrites(t)
		if err := store("space-again"); err != nil {
			t.Error(err)
		}
	})
	t.Run("the controllers stop and start again", func(t *testing.T) {
		c.StopControllers(t)
		c.Kubectl(t, "create", "deployment", "later", "--image=registry.example/app:1", "-n", namespace)
		c.StartControllers(t)
		c.Kubectl(t, "wait", "--for=create", "pod", "-l", "app=later", "-n", namespace, "--timeout=60s")
	})
	t.Run("a user may do what is bound", func(t *testing.T) {
		c.Kubectl(t, "create", "rolebinding", "reader", "--clusterrole=view", "--group=readers", "-n", namespace)
		c.Kubectl(t, "create", "rolebinding", "account", "--clusterrole=view", "--serviceaccount="+namespace+":reader", "-n", namespace)
		for _, who := range []struct {
			name    string
			client  kubernetes.Interface
			allowed bool
		}{
			{"a reader", kubernetes.NewForConfigOrDie(c.ConfigFor(t, "ann", "readers")), true},
			{"another", kubernetes.NewForConfigOrDie(c.ConfigFor(t, "bob", "others")), false},
			{"the ServiceAccount", kubernetes.NewForConfigOrDie(c.ConfigForServiceAccount(t, namespace, "reader")), true},
		} {
			_, err := who.client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
			if allowed := err == nil; allowed != who.allowed || (err != nil && !apierrors.IsForbidden(err)) {
				t.Errorf("%s: got %v, want allowed %t", who.name, err, who.allowed)
			}
		}
	})
	t.Run("there is an audit log", func(t *testing.T) {
		log, err := os.ReadFile(c.AuditLog())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(log), `"name":"space-again"`) {
			t.Error("the audit log lacks what was stored")
		}
	})
}

// eventually fails the test if there still is an error after half a minute.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	err := f()
	for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); err = f() {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}

// timedOut says whether the client or the API server gave up.
func timedOut(err error) bool {
	return err != nil && (apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) ||
		strings.Contains(err.Error(), context.DeadlineExceeded.Error()))
}

// TestPoliciesFromFiles holds that the API server reads policies from files,
// which need no etcd and which nobody can delete.
func TestPoliciesFromFiles(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{NoControllers: true, ValidatingPolicies: `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-maps.static.k8s.io}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.metadata.name != 'refused'", message: "refused by a file"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-maps.static.k8s.io}
spec: {policyName: no-maps.static.k8s.io, validationActions: [Deny]}
`})
	if _, err := c.TryKubectl(t, "", "create", "configmap", "refused"); err == nil || !strings.Contains(err.Error(), "refused by a file") {
		t.Errorf("got %v, want the message of the policy", err)
	}
	c.Kubectl(t, "create", "configmap", "taken")
}

// TestSharedControlPlane holds that a second caller gets the same.
func TestSharedControlPlane(t *testing.T) {
	c := controlplane.Shared(t)
	if again := controlplane.Shared(t); again != c {
		t.Errorf("got the control plane at %s after that at %s", again.URL(), c.URL())
	}
	if _, err := kubernetes.NewForConfigOrDie(c.Config()).Discovery().ServerVersion(); err != nil {
		t.Error(err)
	}
}
