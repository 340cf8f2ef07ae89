// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/cli"
	"sconce.dev/sconce/test/controlplane"
)

// work is what a workload asks the API server for.
type work struct {
	name string
	do   func(ctx context.Context, c kubernetes.Interface, ns string) error
}

// wanted is what the workload of TestGenerateRoles does.
var wanted = []work{
	{"list pods", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err
	}},
	{"create, get, update, patch and delete a ConfigMap", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		maps := c.CoreV1().ConfigMaps(ns)
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "state"}}, metav1.CreateOptions{}); err != nil {
			return err
		}
		got, err := maps.Get(ctx, "state", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Data = map[string]string{"a": "b"}
		if _, err := maps.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
			return err
		}
		if _, err := maps.Patch(ctx, "state", types.MergePatchType, []byte(`{"data":{"a":"c"}}`), metav1.PatchOptions{}); err != nil {
			return err
		}
		return maps.Delete(ctx, "state", metav1.DeleteOptions{})
	}},
	{"apply what is not there yet", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoordinationV1().Leases(ns).Patch(ctx, "applied", types.ApplyPatchType,
			[]byte(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"applied"}}`), metav1.PatchOptions{FieldManager: "work"})
		return err
	}},
	{"watch Services, for longer than the log is read", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		w, err := c.CoreV1().Services(ns).Watch(context.WithoutCancel(ctx), metav1.ListOptions{})
		if err == nil {
			time.AfterFunc(time.Minute, w.Stop)
		}
		return err
	}},
	{"watch one Secret", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		w, err := c.CoreV1().Secrets(ns).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=key"})
		if err == nil {
			w.Stop()
		}
		return err
	}},
	{"get its namespace", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return err
	}},
	{"list nodes", func(ctx context.Context, c kubernetes.Interface, _ string) error {
		_, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	}},
	{"read metrics", func(ctx context.Context, c kubernetes.Interface, _ string) error {
		return c.Discovery().RESTClient().Get().AbsPath("/metrics").Do(ctx).Error()
	}},
	{"discover", func(_ context.Context, c kubernetes.Interface, _ string) error {
		_, err := c.Discovery().ServerGroups()
		return err
	}},
	{"ask what it may do", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: ns, Verb: "get", Resource: "pods"}},
		}, metav1.CreateOptions{})
		return err
	}},
	{"take a token", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		return err
	}},
	{"delete all its Leases", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		return c.CoordinationV1().Leases(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	}},
}

// unwanted is what it never does.
var unwanted = []work{
	{"list Secrets", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{})
		return err
	}},
	{"get another ConfigMap", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().ConfigMaps(ns).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	}},
	{"delete pods", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		return c.CoreV1().Pods(ns).Delete(ctx, "none", metav1.DeleteOptions{})
	}},
	{"list pods elsewhere", func(ctx context.Context, c kubernetes.Interface, _ string) error {
		_, err := c.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{})
		return err
	}},
	{"get another namespace", func(ctx context.Context, c kubernetes.Interface, _ string) error {
		_, err := c.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
		return err
	}},
	{"take another token", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.CoreV1().ServiceAccounts(ns).CreateToken(ctx, "worker", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		return err
	}},
	{"bind a role", func(ctx context.Context, c kubernetes.Interface, ns string) error {
		_, err := c.RbacV1().RoleBindings(ns).List(ctx, metav1.ListOptions{})
		return err
	}},
}

// TestGenerateRoles runs a workload that may do everything, makes its roles from
// what the API server wrote down, puts these in the place of its rights, and runs
// it again.
func TestGenerateRoles(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{AuditPolicy: `
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata}]
`})
	ns := c.Namespace(t)
	account := kubernetes.NewForConfigOrDie(c.ConfigForServiceAccount(t, ns, "worker"))
	c.Kubectl(t, "create", "clusterrolebinding", "broad", "--clusterrole=cluster-admin", "--serviceaccount="+ns+":worker")
	eventually(t, func() error { return unwanted[0].do(t.Context(), account, ns) })
	for _, w := range wanted {
		if err := w.do(t.Context(), account, ns); err != nil {
			t.Fatalf("with all rights, the workload could not %s: %v", w.name, err)
		}
	}
	log := logWithout(t, c, "resource\":\"secrets\",\"namespace\":\""+ns+"\",\"apiVersion")

	var out, said bytes.Buffer
	code := cli.Main([]string{"generate", "roles", log, "--subject", "sa:" + ns + "/worker", "--kubeconfig", c.Kubeconfig(t), "-q"},
		cli.Streams{In: strings.NewReader(""), Out: &out, Err: &said})
	t.Logf("%s%s", said.String(), out.String())
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	c.Apply(t, out.String())
	c.Kubectl(t, "delete", "clusterrolebinding", "broad")
	eventually(t, func() error { // the authorizer learns of it by a watch
		if err := unwanted[0].do(t.Context(), account, ns); !apierrors.IsForbidden(err) {
			return context.DeadlineExceeded
		}
		return nil
	})
	for _, w := range wanted {
		if err := w.do(t.Context(), account, ns); err != nil {
			t.Errorf("with the new roles, the workload cannot %s: %v", w.name, err)
		}
	}
	for _, w := range unwanted {
		if err := w.do(t.Context(), account, ns); !apierrors.IsForbidden(err) {
			t.Errorf("with the new roles, the workload may %s: got %v", w.name, err)
		}
	}
}

// logWithout waits for the audit log to hold the last request of the workload,
// and writes it to a file without the lines of the request that only found out
// whether its rights are in force: lists of Secrets.
func logWithout(t *testing.T, c *controlplane.ControlPlane, text string) string {
	t.Helper()
	var lines []string
	eventually(t, func() error {
		data, err := os.ReadFile(c.AuditLog())
		if err == nil && !strings.Contains(string(data), `"verb":"deletecollection"`) {
			err = os.ErrNotExist
		}
		lines = strings.SplitAfter(string(data), "\n")
		return err
	})
	var kept strings.Builder
	for _, l := range lines {
		if !strings.Contains(l, text) || !strings.Contains(l, `"verb":"list"`) {
			kept.WriteString(l)
		}
	}
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(file, []byte(kept.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestGenerateNetworkPolicies makes the policies of a namespace of a cluster,
// applies them, and makes them again: the API server takes them, and they stay
// the same.
func TestGenerateNetworkPolicies(t *testing.T) {
	c := controlplane.Shared(t)
	ns := c.Namespace(t)
	c.Apply(t, strings.ReplaceAll(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: registry.example/web:1, ports: [{name: http, containerPort: 8080}], env: [{name: REDIS_HOST, value: cache}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cache, namespace: NS}
spec:
  selector: {matchLabels: {app: cache}}
  template: {metadata: {labels: {app: cache}}, spec: {containers: [{name: cache, image: registry.example/cache:1}]}}
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: NS}
spec: {selector: {app: cache}, ports: [{port: 6379}]}
`, "NS", ns))
	generate := func() string {
		var out, said bytes.Buffer
		code := cli.Main([]string{"generate", "networkpolicies", "-n", ns, "--kubeconfig", c.Kubeconfig(t), "-q"},
			cli.Streams{In: strings.NewReader(""), Out: &out, Err: &said})
		if code != 0 {
			t.Fatalf("exit code %d:\n%s%s", code, said.String(), out.String())
		}
		return out.String()
	}
	first := generate()
	if strings.Contains(first, "pod-template-hash") || !strings.Contains(first, "name: sconce-cache") {
		t.Errorf("got\n%s", first)
	}
	c.Apply(t, first)
	if second := generate(); second != first {
		t.Errorf("made again, the policies are\n%s\nand not\n%s", second, first)
	}
}
