// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/cli"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// sconce runs the program and returns what it printed and how it ended.
func sconce(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Main(args, cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return stdout.String(), stderr.String(), code
}

// scanned is what the stream of a scan says.
type scanned struct {
	findings map[string]verdict.Finding // by control, object and path
	problems []verdict.Problem
	summary  verdict.Summary
}

func scanWith(t *testing.T, args ...string) *scanned {
	t.Helper()
	out, errs, code := sconce(t, append(args, "-o", "json")...)
	s := &scanned{findings: map[string]verdict.Finding{}}
	for line := range strings.Lines(out) {
		var m verdict.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: line %q: %v", args, line, err)
		}
		switch {
		case m.Finding != nil:
			f := m.Finding
			s.findings[f.Control+" "+f.Object.String()+" "+f.Element+" "+f.Path] = *f
		case m.Problem != nil:
			s.problems = append(s.problems, *m.Problem)
		case m.Summary != nil:
			s.summary = *m.Summary
		}
	}
	if s.summary.Controls == 0 {
		t.Fatalf("%v ended with %d and without a summary: %s", args, code, errs)
	}
	return s
}

// shop is a workload with two replicas, an old revision, and what goes with it.
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: registry.example.com/web:1.2
        securityContext: {privileged: true}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {password: hunter2-correct-horse}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: shop, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: applications.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Application, plural: applications, singular: application}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// runs applies the shop and waits until its pods are there.
func runs(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	c.Apply(t, shop)
	until(t, "the shop has two pods", func() bool {
		pods, err := c.Client(t).CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		return err == nil && len(pods.Items) == 2
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 seconds it is not so that %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestScanCluster scans the shop as its administrator, and from a snapshot.
func TestScanCluster(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	runs(t, c)
	admin := c.Kubeconfig(t)
	all := scanWith(t, "scan", "cluster", "--kubeconfig", admin)
	if len(all.problems) > 0 {
		t.Errorf("problems as the administrator: %v", all.problems)
	}

	t.Run("what pods have of their Deployment is told of that", func(t *testing.T) {
		if _, ok := all.findings["privileged-container Deployment.apps shop/web spec.template.spec.containers[app] spec.template.spec.containers[app].securityContext.privileged"]; !ok {
			t.Errorf("no finding about the Deployment among %v", slices.Sorted(maps.Keys(all.findings)))
		}
		for key := range all.findings {
			if strings.Contains(key, " Pod shop/web-") || strings.Contains(key, " ReplicaSet.apps shop/web-") {
				t.Errorf("told again: %s", key)
			}
		}
		if v := all.summary.ByControl["privileged-container"]; v.Fail != 4 {
			t.Errorf("privileged-container has %+v, want that the Deployment, the ReplicaSet and both pods fail", v)
		}
		if all.summary.Folded == 0 {
			t.Error("the summary says nothing of findings that are told of owners")
		}
	})
	t.Run("a snapshot tells the same", func(t *testing.T) { sameFromSnapshot(t, admin, all) })
	t.Run("who may see little never sees a pass more", func(t *testing.T) { restricted(t, c) })
	t.Run("one namespace", func(t *testing.T) {
		part := scanWith(t, "scan", "cluster", "--kubeconfig", admin, "-n", "shop")
		if len(part.problems) > 0 {
			t.Errorf("problems: %v", part.problems)
		}
		for key, f := range part.findings {
			if f.Object.Namespace != "shop" && f.Object.Name != "shop" {
				t.Errorf("not of the namespace: %s", key)
			}
			if f.Outcome == verdict.Fail && all.findings[key].Outcome != verdict.Fail {
				t.Errorf("failed, and not in a scan of everything: %s", key)
			}
		}
		none := scanWith(t, "scan", "cluster", "--kubeconfig", admin, "-n", "nowhere")
		if len(none.problems) != 1 || !strings.Contains(none.problems[0].Message, "there is no namespace nowhere") {
			t.Errorf("problems of a namespace that does not exist: %v", none.problems)
		}
	})
	t.Run("the least role is enough, and no rule of it is too much", func(t *testing.T) { leastRole(t, c) })
	t.Run("an API that does not answer is a problem, if it may matter", func(t *testing.T) { unavailable(t, c) })
}

// sameFromSnapshot saves and scans a snapshot, and holds what that finds against
// a scan of the cluster.
func sameFromSnapshot(t *testing.T, kubeconfig string, live *scanned) {
	file := filepath.Join(t.TempDir(), "shop.sconce")
	if out, errs, code := sconce(t, "snapshot", "save", file, "--kubeconfig", kubeconfig); code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if secret := base64.StdEncoding.EncodeToString([]byte("hunter2-correct-horse")); strings.Contains(string(text), secret) || strings.Contains(string(text), "hunter2") {
		t.Error("the file holds the value of a Secret")
	}
	loaded := scanWith(t, "scan", file)
	if len(loaded.problems) > 0 {
		t.Errorf("problems: %v", loaded.problems)
	}
	for key, f := range loaded.findings {
		if f.Object.Kind != "Secret" {
			continue
		}
		if f.Outcome == verdict.Unknown {
			delete(loaded.findings, key) // its values are not there
			continue
		}
		f.Message = live.findings[key].Message // it may have needed them
		loaded.findings[key] = f
	}
	if diff := cmp.Diff(live.findings, loaded.findings); diff != "" {
		t.Errorf("a snapshot tells something else than the cluster (-cluster +snapshot):\n%s", diff)
	}
	if live.summary.Objects != loaded.summary.Objects || live.summary.Unmatched != loaded.summary.Unmatched {
		t.Errorf("%d and %d objects in the cluster, %d and %d in the snapshot", live.summary.Objects, live.summary.Unmatched, loaded.summary.Objects, loaded.summary.Unmatched)
	}
}

// kubeconfigOf returns the kubeconfig of a ServiceAccount with a role.
func kubeconfigOf(t *testing.T, c *controlplane.ControlPlane, name string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	rbac := c.Client(t).RbacV1()
	meta := metav1.ObjectMeta{Name: name}
	_, err := c.Client(t).CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: name}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	config := c.ConfigForServiceAccount(t, "default", name)
	// What was bound holds once the authorizer has seen it.
	until(t, "the role holds", func() bool {
		client, err := kubernetes.NewForConfig(config)
		if err != nil || len(rules) == 0 {
			return err == nil
		}
		r := rules[len(rules)-1]
		review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Group: r.APIGroups[0], Resource: r.Resources[0]}},
		}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed
	})
	return c.KubeconfigOf(t, config)
}

// restricted scans as a ServiceAccount that may list some kinds. What is a
// finding for the administrator must not be a pass for it: it is found, or of a
// kind that is told as a problem, or unknown.
func restricted(t *testing.T, c *controlplane.ControlPlane) {
	may := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods", "serviceaccounts", "namespaces"}, Verbs: []string{"list"}}}
	little := kubeconfigOf(t, c, "little", may)
	all := scanWith(t, "scan", "cluster", "--kubeconfig", c.Kubeconfig(t))
	part := scanWith(t, "scan", "cluster", "--kubeconfig", little)
	told := ""
	for _, p := range part.problems {
		told += p.Message + "\n"
	}
	for _, want := range []string{
		`listing deployments.apps: system:serviceaccount:default:little may not`, `apiGroups: ["apps"], resources: ["deployments"], verbs: [list]`, "listing secrets:",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("no problem says %q:\n%s", want, told)
		}
	}
	for control, counts := range part.summary.ByControl {
		if whole := all.summary.ByControl[control]; counts.Pass > whole.Pass {
			t.Errorf("%s passes %d times, and %d times for the administrator", control, counts.Pass, whole.Pass)
		}
	}
	for key, f := range all.findings {
		switch f.Object.Kind {
		case "Pod", "ServiceAccount", "Namespace":
			if _, ok := part.findings[key]; !ok && !strings.Contains(told, f.Control) && !unknownOf(part, &f) {
				t.Errorf("found by the administrator, and not at all by who may see less: %s", key)
			}
		}
	}
	if _, _, code := sconce(t, "scan", "cluster", "--kubeconfig", kubeconfigOf(t, c, "nothing", nil), "-q"); code != 2 {
		t.Errorf("exit code %d for who may see nothing, want 2", code)
	}
}

// unknownOf says whether a finding's control is unknown for its object.
func unknownOf(s *scanned, f *verdict.Finding) bool {
	for _, other := range s.findings {
		if other.Control == f.Control && other.Object == f.Object && other.Outcome == verdict.Unknown {
			return true
		}
	}
	return false
}

// leastRole scans with exactly the role that is printed, and without each of its
// rules.
func leastRole(t *testing.T, c *controlplane.ControlPlane) {
	out, errs, code := sconce(t, "scan", "cluster", "--kubeconfig", c.Kubeconfig(t), "--print-cluster-role")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(out), &role); err != nil {
		t.Fatal(err)
	}
	if s := scanWith(t, "scan", "cluster", "--kubeconfig", kubeconfigOf(t, c, "least", role.Rules)); len(s.problems) > 0 {
		t.Errorf("problems with exactly the role that was printed: %v", s.problems)
	}
	for i, r := range role.Rules {
		rules := slices.Delete(slices.Clone(role.Rules), i, i+1)
		s := scanWith(t, "scan", "cluster", "--kubeconfig", kubeconfigOf(t, c, fmt.Sprintf("less-%d", i), rules))
		if len(s.problems) != len(r.Resources) {
			t.Errorf("%d problems without the rule for %v of %v, want one for each", len(s.problems), r.Resources, r.APIGroups)
		}
	}
}

// unavailable registers an API server that does not answer.
func unavailable(t *testing.T, c *controlplane.ControlPlane) {
	for _, group := range []string{"cilium.io", "metrics.example.com"} {
		c.Apply(t, fmt.Sprintf(`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.%s}
spec:
  group: %s
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: default, name: absent}
`, group, group))
	}
	until(t, "the API is known not to answer", func() bool {
		s := scanWith(t, "scan", "cluster", "--kubeconfig", c.Kubeconfig(t))
		for _, p := range s.problems {
			if strings.Contains(p.Message, "metrics.example.com") {
				t.Fatalf("told of an API that no control is about: %s", p.Message)
			}
		}
		return len(s.problems) == 1 && strings.Contains(s.problems[0].Message, "cilium.io/v1 has: the API server that is registered for it does not answer")
	})
}

// events records what a feed tells.
type events struct {
	mu      sync.Mutex
	objects map[object.Ref]string // by resourceVersion
	synced  int
	problem *verdict.Problem
}

func (e *events) Set(o cluster.Live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.objects[o.Ref] = o.ResourceVersion
	if o.Root.At("metadata", "managedFields") != nil || len(o.Managers) == 0 {
		e.objects[o.Ref] = "managedFields stand in the tree, or nowhere"
	}
}

func (e *events) Delete(r object.Ref) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.objects, r)
}

func (e *events) Synced(cluster.Kind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced++
}

func (e *events) Problem(_ cluster.Kind, p *verdict.Problem) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.problem = p
}

func (e *events) is(holds func() bool) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return holds()
	}
}

// TestFeed follows a kind of custom resources over what may happen to it.
func TestFeed(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	c.Apply(t, strings.SplitN(shop, "---\n", 5)[4])
	until(t, "the kind is served", func() bool {
		_, err := c.TryKubectl(t, "", "get", "applications.argoproj.io")
		return err == nil
	})
	conn, err := cluster.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	kinds, problems := conn.Kinds(t.Context(), func(gk object.GroupKind) bool { return gk.Kind == "Application" })
	if len(kinds) != 1 || len(problems) > 0 {
		t.Fatalf("kinds %v, problems %v", kinds, problems)
	}
	e := &events{objects: map[object.Ref]string{}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); conn.Feed(ctx, kinds[0], e) }()
	until(t, "the kind is synced", e.is(func() bool { return e.synced == 1 && len(e.objects) == 0 }))

	create := func(name string) {
		c.Apply(t, fmt.Sprintf("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: %s, namespace: default}\nspec: {n: 1}\n", name))
	}
	has := func(names ...string) func() bool {
		return e.is(func() bool {
			if len(e.objects) != len(names) {
				return false
			}
			for _, n := range names {
				v := e.objects[object.Ref{APIVersion: "argoproj.io/v1alpha1", Kind: "Application", Namespace: "default", Name: n}]
				if v == "" || strings.Contains(v, "managedFields") {
					return false
				}
			}
			return true
		})
	}
	create("one")
	until(t, "one is told", has("one"))
	c.StopAPIServer(t)
	c.StartAPIServer(t)
	create("two")
	until(t, "what came after the API server was restarted is told", has("one", "two"))
	c.Kubectl(t, "delete", "application", "one", "-n", "default")
	until(t, "what is deleted is told", has("two"))
	c.Kubectl(t, "delete", "crd", "applications.argoproj.io")
	until(t, "nothing is left of a kind that is not served", has())
	stop()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the feed goes on after its context has ended")
	}
}

// TestScanPages scans a kind of more objects than one page has: all of them are
// judged, and told of their owner.
func TestScanPages(t *testing.T) {
	const pods = 1300
	c := controlplane.Start(t, controlplane.Options{NoControllers: true})
	client := c.Client(t)
	namespace := c.Namespace(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}}}
	labels := map[string]string{"app": "many"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}
	owner, err := client.AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "many"},
		Spec:       appsv1.StatefulSetSpec{ServiceName: "many", Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.SetLimit(32)
	for i := range pods {
		g.Go(func() error {
			meta := metav1.ObjectMeta{Name: fmt.Sprintf("many-%d", i), Labels: labels}
			meta.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
			_, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s := scanWith(t, "scan", "cluster", "--kubeconfig", c.Kubeconfig(t), "--control", "image-not-pinned")
	if v := s.summary.ByControl["image-not-pinned"]; v.Fail != pods+1 || len(s.findings) != 1 || s.summary.Folded != pods || len(s.problems) > 0 {
		t.Errorf("%+v, %d findings, %d folded, problems %v; want that %d objects fail, told once", v, len(s.findings), s.summary.Folded, s.problems, pods+1)
	}
}
