// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	authenticationuser "k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// policiesOf returns the policies of controls, with one action.
func policiesOf(t *testing.T, action v1alpha1.Action, opts generate.Options, controls ...string) *generate.Policies {
	t.Helper()
	b, err := catalogue(t).ResolveControls(controls, nil, "", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Rules {
		r.Action, r.FailurePolicy = action, v1alpha1.FailClosed
	}
	out := generate.Build(b, opts)
	if len(out.Left) > 0 {
		t.Fatal(out.Left)
	}
	return out
}

// policyServer is a control plane and its namespace for a test of policies.
type policyServer struct {
	*controlplane.ControlPlane
	client    dynamic.Interface
	namespace string
}

func startPolicies(t *testing.T) *policyServer {
	t.Helper()
	c := controlplane.Start(t, controlplane.Options{})
	config := c.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &policyServer{c, client, c.Namespace(t)}
}

// apply puts policies in force and waits until they are: until a ConfigMap is
// denied by one that is applied after them.
func (s *policyServer) apply(t *testing.T, p *generate.Policies) {
	t.Helper()
	for _, o := range p.Objects() {
		applyObject(t, s.client, o)
	}
	s.settle(t)
}

// settle waits until the API server enforces what was applied before.
func (s *policyServer) settle(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("settled-%d", time.Now().UnixNano())
	s.Apply(t, strings.ReplaceAll(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: "object.metadata.name != 'NAME'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME, validationActions: [Deny]}
`, "NAME", name))
	maps := s.Client(t).CoreV1().ConfigMaps(s.namespace)
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), name+"'"), nil
	})
	if err != nil {
		t.Fatal("the API server does not enforce what was applied")
	}
}

// create creates an object of a manifest.
func (s *policyServer) create(t *testing.T, resource, manifest string) (*unstructured.Unstructured, error) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
		t.Fatal(err)
	}
	gvr := u.GroupVersionKind().GroupVersion().WithResource(resource)
	return s.client.Resource(gvr).Namespace(s.namespace).Create(t.Context(), u, metav1.CreateOptions{})
}

const (
	badPod = `{apiVersion: v1, kind: Pod, metadata: {name: NAME}, spec: {containers: [
  {name: web, image: example.com/web:1, securityContext: {privileged: true}}, {name: side, image: example.com/side:1}]}}`
	goodPod = `{apiVersion: v1, kind: Pod, metadata: {name: NAME}, spec: {containers: [{name: web, image: example.com/web:1}]}}`
)

func withName(manifest, name string) string { return strings.ReplaceAll(manifest, "NAME", name) }

// wantDenied holds that a policy denied a request with a message.
func wantDenied(t *testing.T, err error, message string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), message) {
		t.Errorf("got %v, want a denial that says %q", err, message)
	}
}

// TestPolicies holds that generated policies refuse what fails, by every way by
// which it could get in, and nothing else.
func TestPolicies(t *testing.T) {
	s := startPolicies(t)
	if _, err := s.create(t, "pods", withName(badPod, "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.create(t, "pods", withName(goodPod, "debugged")); err != nil {
		t.Fatal(err)
	}
	s.apply(t, policiesOf(t, v1alpha1.Deny, generate.Options{Today: time.Now()}, "privileged-container"))

	t.Run("a pod", func(t *testing.T) {
		_, err := s.create(t, "pods", withName(badPod, "new"))
		wantDenied(t, err, `privileged-container: container "web" runs privileged (spec.containers[web].securityContext.privileged)`)
	})
	t.Run("a pod template", func(t *testing.T) {
		_, err := s.create(t, "cronjobs", `{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 3 * * *",
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, initContainers: [{name: job, image: i, securityContext: {privileged: true}}], containers: [{name: a, image: i}]}}}}}}`)
		wantDenied(t, err, "(spec.jobTemplate.spec.template.spec.initContainers[job].securityContext.privileged)")
	})
	t.Run("an ephemeral container", func(t *testing.T) {
		patch := `{"spec":{"ephemeralContainers":[{"name":"debug","image":"i","securityContext":{"privileged":true}}]}}`
		pods := s.Client(t).CoreV1().Pods(s.namespace)
		_, err := pods.Patch(t.Context(), "debugged", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers")
		wantDenied(t, err, "(spec.ephemeralContainers[debug].securityContext.privileged)")
	})
	t.Run("a change of what fails", func(t *testing.T) {
		_, err := s.Client(t).CoreV1().Pods(s.namespace).Patch(t.Context(), "old", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
		wantDenied(t, err, "privileged-container")
	})
	t.Run("what passes", func(t *testing.T) {
		if _, err := s.create(t, "pods", withName(goodPod, "fine")); err != nil {
			t.Error(err)
		}
	})
	t.Run("what excuses itself", func(t *testing.T) {
		excuse := `metadata: {name: NAME, annotations: {except.sconce.dev/privileged-container: "until UNTIL: it loads a kernel module"}}`
		manifest := strings.ReplaceAll(badPod, "metadata: {name: NAME}", excuse)
		if _, err := s.create(t, "pods", strings.ReplaceAll(withName(manifest, "excused"), "UNTIL", time.Now().AddDate(0, 1, 0).Format(time.DateOnly))); err != nil {
			t.Error(err)
		}
		_, err := s.create(t, "pods", strings.ReplaceAll(withName(manifest, "expired"), "UNTIL", time.Now().AddDate(0, -1, 0).Format(time.DateOnly)))
		wantDenied(t, err, "privileged-container")
	})
}

// TestPoliciesLetGo holds that what is being deleted goes, though it fails.
func TestPoliciesLetGo(t *testing.T) {
	s := startPolicies(t)
	held := strings.ReplaceAll(badPod, "metadata: {name: NAME}", "metadata: {name: held, finalizers: [example.com/hold]}")
	if _, err := s.create(t, "pods", held); err != nil {
		t.Fatal(err)
	}
	role := `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: held, finalizers: [example.com/hold]}, rules: null}`
	if _, err := s.create(t, "roles", role); err != nil {
		t.Fatal(err)
	}
	s.apply(t, policiesOf(t, v1alpha1.Deny, generate.Options{}, "privileged-container", "wildcard-verb"))
	s.letGoRole(t)
	pods := s.Client(t).CoreV1().Pods(s.namespace)
	now := int64(0)
	if err := pods.Delete(t.Context(), "held", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("the finalizer could not be removed: %v", err)
	}
}

// letGoRole holds that a role that is being deleted grants nothing new, and goes.
func (s *policyServer) letGoRole(t *testing.T) {
	t.Helper()
	roles := s.Client(t).RbacV1().Roles(s.namespace)
	if err := roles.Delete(t.Context(), "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := func(patch string) error {
		_, err := roles.Patch(t.Context(), "held", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	wantDenied(t, patch(`{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["*"]}]}`), "wildcard-verb")
	wantDenied(t, patch(`{"metadata":{"finalizers":null},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["*"]}]}`), "wildcard-verb")
	if err := patch(`{"metadata":{"finalizers":null}}`); err != nil {
		t.Errorf("the finalizer of a role could not be removed: %v", err)
	}
}

// TestPoliciesRatchet holds that an object that failed may be changed, and may
// not fail more.
func TestPoliciesRatchet(t *testing.T) {
	s := startPolicies(t)
	deployment := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop}, spec: {replicas: 0, selector: {matchLabels: {app: shop}},
  template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: web, image: i, securityContext: {privileged: true}}]}}}}`
	if _, err := s.create(t, "deployments", deployment); err != nil {
		t.Fatal(err)
	}
	s.apply(t, policiesOf(t, v1alpha1.Ratchet, generate.Options{}, "privileged-container", "host-network"))
	patch := func(patch string) error {
		_, err := s.Client(t).AppsV1().Deployments(s.namespace).Patch(t.Context(), "shop", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	if err := patch(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"j"}]}}}}`); err != nil {
		t.Errorf("an old failure blocks a change: %v", err)
	}
	wantDenied(t, patch(`{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"i","securityContext":{"privileged":true}}]}}}}`), `container "side"`)
	wantDenied(t, patch(`{"spec":{"template":{"spec":{"hostNetwork":true}}}}`), "host-network")
	_, err := s.create(t, "deployments", strings.Replace(deployment, "name: shop", "name: second", 1))
	wantDenied(t, err, "privileged-container")
}

// TestPoliciesExceptions holds that exceptions excuse what they name, 5,000 of
// them included.
func TestPoliciesExceptions(t *testing.T) {
	s := startPolicies(t)
	var exceptions []*v1alpha1.Exception
	except := func(m v1alpha1.ExceptionMatch) {
		exceptions = append(exceptions, &v1alpha1.Exception{Spec: v1alpha1.ExceptionSpec{
			Controls: []string{"privileged-container"}, Match: m, Reason: "for the test", Owner: "test", Expires: "2100-01-01",
		}})
	}
	for i := range 5000 {
		except(v1alpha1.ExceptionMatch{Namespaces: []string{s.namespace}, Names: []string{fmt.Sprintf("known-%d", i)}})
	}
	except(v1alpha1.ExceptionMatch{Kinds: []string{"Pod"}, Names: []string{"agent-*"}})
	except(v1alpha1.ExceptionMatch{Names: []string{"one"}, Elements: []string{"we*"}})
	s.apply(t, policiesOf(t, v1alpha1.Deny, generate.Options{Exceptions: exceptions}, "privileged-container"))
	for _, name := range []string{"known-0", "known-4999", "agent-x", "one"} {
		if _, err := s.create(t, "pods", withName(badPod, name)); err != nil {
			t.Errorf("%s is not excused: %v", name, err)
		}
	}
	for _, name := range []string{"known-5000", "agent", "two"} {
		_, err := s.create(t, "pods", withName(badPod, name))
		wantDenied(t, err, `container "web"`)
	}
	_, err := s.create(t, "pods", strings.Replace(withName(badPod, "one"), "name: side, image: example.com/side:1", "name: side, image: i, securityContext: {privileged: true}", 1))
	wantDenied(t, err, `container "side"`)
}

// TestPoliciesMend holds that the fixes make what is created pass.
func TestPoliciesMend(t *testing.T) {
	s := startPolicies(t)
	controls := []string{
		"privileged-container", "privilege-escalation", "seccomp-restricted", "capabilities-drop-all", "host-network", "host-pid", "host-port", "run-as-non-root",
	}
	l := catalogue(t)
	controls = slices.DeleteFunc(controls, func(name string) bool { return l.Control(name) == nil || l.Control(name).Spec.Fix == nil })
	s.apply(t, policiesOf(t, v1alpha1.Deny, generate.Options{Mutate: true}, controls...))
	bad := `{apiVersion: v1, kind: Pod, metadata: {name: mended}, spec: {hostPID: true, containers: [
  {name: web, image: i, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}], securityContext: {privileged: true, capabilities: {add: [CHOWN]}}}, {name: side, image: i}],
  initContainers: [{name: init, image: i, securityContext: {capabilities: {drop: [NET_RAW]}}}]}}`
	got, err := s.create(t, "pods", bad)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.ResolveControls(controls, nil, "", false)
	if err != nil {
		t.Fatal(err)
	}
	o, err := fromCluster(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Rules {
		if v := r.Judge(o, nil); len(v.Findings) > 0 {
			t.Errorf("%s: %v: %s", r.Name, v.Outcome, v.Findings[0].Message)
		}
	}
	t.Logf("%d fixes were made: %s", len(controls), strings.Join(controls, ", "))
}

// TestPoliciesAtBootstrap holds that the API server comes up for the first time
// with every policy in its own files, and that they hold before anything else
// is stored.
func TestPoliciesAtBootstrap(t *testing.T) {
	l := catalogue(t)
	b, err := l.Resolve("hardened", baseline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.Rules {
		r.Action, r.FailurePolicy = v1alpha1.Deny, v1alpha1.FailClosed
	}
	built := generate.Build(b, generate.Options{Static: true, Mutate: true, ExemptNamespaces: []string{"kube-system"}})
	validating, mutating := manifests(t, built)
	c := controlplane.Start(t, controlplane.Options{ValidatingPolicies: validating, MutatingPolicies: mutating})
	_, err = c.TryKubectl(t, withName(badPod, "bad"), "create", "-n", "default", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), ".static.k8s.io") {
		t.Errorf("got %v, want that a policy of a file denies the pod", err)
	}
	if stored := c.Kubectl(t, "get", "validatingadmissionpolicies,mutatingadmissionpolicies", "-o", "name"); strings.Contains(stored, "sconce") {
		t.Errorf("policies are stored: %s", stored)
	}
	wantKinds(t, c, built)
	// What the controllers make must come about, too.
	for _, role := range []string{"admin", "edit", "view"} {
		err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			r, err := c.Client(t).RbacV1().ClusterRoles().Get(ctx, role, metav1.GetOptions{})
			return err == nil && len(r.Rules) > 0, nil
		})
		if err != nil {
			t.Errorf("the ClusterRole %s was not put together", role)
		}
	}
}

// manifests returns policies as the files of the two plugins.
func manifests(t *testing.T, p *generate.Policies) (validating, mutating string) {
	t.Helper()
	document := func(objects ...runtime.Object) (out string) {
		for _, o := range objects {
			data, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			out += "---\n" + string(data)
		}
		return out
	}
	for i := range p.Validating {
		validating += document(p.Validating[i].Policy, p.Validating[i].Binding)
	}
	for i := range p.Mutating {
		mutating += document(p.Mutating[i].Policy, p.Mutating[i].Binding)
	}
	return validating, mutating
}

// wantKinds holds the resources that policies name against those that the API
// server serves.
func wantKinds(t *testing.T, c *controlplane.ControlPlane, p *generate.Policies) {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	served := map[schema.GroupResource]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			served[schema.GroupResource{Group: gv.Group, Resource: r.Name}] = true
			if guess := generate.Resource(object.GroupKind{Group: gv.Group, Kind: r.Kind}); !strings.Contains(r.Name, "/") && guess != r.Name {
				t.Logf("%s.%s is guessed to be the resource %s, and is %s", r.Kind, gv.Group, guess, r.Name)
			}
		}
	}
	for _, v := range p.Validating {
		for _, rule := range v.Policy.Spec.MatchConstraints.ResourceRules {
			group := rule.APIGroups[0]
			for _, r := range rule.Resources {
				own := group == "" || group == "apps" || group == "batch" || strings.HasSuffix(group, ".k8s.io") && !strings.HasPrefix(group, "gateway.")
				if own && !served[schema.GroupResource{Group: group, Resource: r}] {
					t.Errorf("%s: the API server serves no %s of %q", v.Control, r, group)
				}
			}
		}
	}
}

// typicalPod is what latency is measured with: it fails little.
const typicalPod = `{apiVersion: v1, kind: Pod, metadata: {name: typical}, spec: {automountServiceAccountToken: false,
  securityContext: {runAsNonRoot: true, runAsUser: 20001, runAsGroup: 20001, seccompProfile: {type: RuntimeDefault}},
  containers: [{name: web, image: "registry.example.com/shop/web:1.27.1", ports: [{name: http, containerPort: 8080}],
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}},
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}},
   {name: metrics, image: "registry.example.com/shop/metrics:0.9.0", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}`

// TestPoliciesCost measures what the policies of baselines cost the API server:
// in memory, and in the latency of a pod. It fails only where that is out of all
// proportion.
func TestPoliciesCost(t *testing.T) {
	s := startPolicies(t)
	l := catalogue(t)
	none := s.cost(t)
	t.Logf("without policies: %s", none)
	for _, name := range []string{"pss-restricted", "essential", "hardened"} {
		b, err := l.Resolve(name, baseline.Options{})
		must(t, err)
		for _, r := range b.Rules {
			r.Action = v1alpha1.Audit
		}
		built := generate.Build(b, generate.Options{Today: time.Now()})
		s.withdraw(t)
		began := time.Now()
		s.apply(t, built)
		t.Logf("%d policies of %s were in force after %v", len(built.Validating), name, time.Since(began).Round(10*time.Millisecond))
		with := s.cost(t)
		t.Logf("with them: %s", with)
		if with.median > none.median+200*time.Millisecond || with.memory > none.memory+(2<<30) {
			t.Error("the policies cost more than an API server can bear")
		}
	}
}

// withdraw takes all policies away.
func (s *policyServer) withdraw(t *testing.T) {
	t.Helper()
	r := s.Client(t).AdmissionregistrationV1()
	must(t, r.ValidatingAdmissionPolicyBindings().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	must(t, r.ValidatingAdmissionPolicies().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// cost is what creating a pod costs.
type cost struct {
	median, p99, cpu time.Duration
	memory           int64 // bytes
}

// String is what is printed of it.
func (c cost) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("median %v, p99 %v, %v of CPU a pod, API server %d MiB", round(c.median), round(c.p99), round(c.cpu), c.memory>>20)
}

// cost creates a typical pod 500 times.
func (s *policyServer) cost(t *testing.T) cost {
	t.Helper()
	u := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal([]byte(typicalPod), &u.Object))
	pods := s.client.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace(s.namespace)
	var all []time.Duration
	spent := s.metric(t, "process_cpu_seconds_total")
	for range 500 {
		began := time.Now()
		_, err := pods.Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		must(t, err)
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	spent = s.metric(t, "process_cpu_seconds_total") - spent
	return cost{
		all[len(all)/2], all[len(all)*99/100], time.Duration(spent / float64(len(all)) * float64(time.Second)),
		int64(s.metric(t, "process_resident_memory_bytes")),
	}
}

// metric reads a metric of the API server that has no labels.
func (s *policyServer) metric(t *testing.T, name string) float64 {
	t.Helper()
	text, err := s.Client(t).Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			var out float64
			if _, err := fmt.Sscan(value, &out); err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatalf("the API server has no metric %s", name)
	return 0
}

// TestPolicyEvaluation holds Sconce's own evaluation of policies against the API
// server's, on random policies and objects.
func TestPolicyEvaluation(t *testing.T) {
	s := startPolicies(t)
	random := rand.New(rand.NewPCG(1, uint64(len(s.namespace)))) // the same on every run
	g := &policyGenerator{random}
	type judged struct {
		policy   *vap.Policy
		binding  *admissionregistrationv1.ValidatingAdmissionPolicyBinding
		name     string
		failOpen bool
	}
	var all []judged
	refused := 0
	for i := range 120 {
		p, b := g.policy(fmt.Sprintf("random-%d", i))
		compiled, err := vap.Compile(p)
		if theirs := s.tryApply(t, p); (err == nil) != (theirs == nil) {
			t.Errorf("Sconce says %v of a policy of which the API server says %v: %v", err, theirs, p.Spec)
		}
		if err != nil {
			refused++
			continue
		}
		if err := s.tryApply(t, b); err != nil {
			t.Fatal(err)
		}
		all = append(all, judged{compiled, b, p.Name, *p.Spec.FailurePolicy == admissionregistrationv1.Ignore})
	}
	s.settle(t)
	namespace, err := s.Client(t).CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for i := range 12 {
		pod := g.pod(fmt.Sprintf("pod-%d", i))
		pod.Namespace = s.namespace
		for _, j := range all {
			config := s.Config()
			config.Impersonate = rest.ImpersonationConfig{UserName: user + j.name, Groups: []string{"system:masters"}}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			_, theirs := client.CoreV1().Pods(s.namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			stored, err := s.Client(t).CoreV1().Pods(s.namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				t.Fatal(err)
			}
			stored.APIVersion, stored.Kind = "v1", "Pod"
			ours := j.policy.Judge(t.Context(), j.binding, vap.Request{
				Object: stored, Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: s.namespace, Name: pod.Name, NamespaceObject: namespace,
				User: &authenticationuser.DefaultInfo{Name: user + j.name}, DryRun: true,
			})
			got, err := randomVerdict(theirs)
			if err != nil {
				t.Fatal(err)
			}
			want := ours.Outcome()
			if want == verdict.Unknown && j.failOpen {
				want = verdict.Pass
			}
			outcomes[string(ours.Outcome())]++
			if got != want {
				t.Errorf("%s of %s: Sconce says %v, the API server %v", j.name, pod.Name, ours, theirs)
			}
		}
	}
	t.Logf("%d policies, %d refused by both; verdicts: %v", len(all)+refused, refused, outcomes)
	for _, o := range []verdict.Outcome{verdict.Pass, verdict.Fail, verdict.Unknown} {
		if outcomes[string(o)] == 0 {
			t.Errorf("nothing came out as %s: the policies are not random enough", o)
		}
	}
}

// user begins the names of the users for whom a random policy is in force.
const user = "random:"

// randomMessage is what random policies say.
const randomMessage = "said no"

// randomVerdict reads the verdict of a random policy from an answer.
func randomVerdict(err error) (verdict.Outcome, error) {
	switch {
	case err == nil:
		return verdict.Pass, nil
	case strings.Contains(err.Error(), "denied request: "+randomMessage):
		return verdict.Fail, nil
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'random-"):
		return verdict.Unknown, nil
	}
	return "", err
}

// tryApply creates an object of admission registration.
func (s *policyServer) tryApply(t *testing.T, o runtime.Object) error {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	resource, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	_, err = s.client.Resource(resource).Create(t.Context(), u, metav1.CreateOptions{})
	return err
}

// policyGenerator makes random policies and pods.
type policyGenerator struct{ *rand.Rand }

func pick[T any](g *policyGenerator, of ...T) T { return of[g.IntN(len(of))] }

// policy returns a policy for one user. Some do not compile.
func (g *policyGenerator) policy(name string) (*admissionregistrationv1.ValidatingAdmissionPolicy, *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	failure := pick(g, admissionregistrationv1.Fail, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &failure,
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{pick(g, admissionregistrationv1.Create, admissionregistrationv1.OperationAll)},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{pick(g, "v1", "*")}, Resources: []string{pick(g, "pods", "pods", "*")}},
				},
			}}},
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "user", Expression: "request.userInfo.username == '" + user + name + "'"}},
			Variables:       []admissionregistrationv1.Variable{{Name: "x", Expression: pick(g, g.text(), g.number(), g.condition(1))}},
			Validations:     []admissionregistrationv1.Validation{{Expression: g.condition(3), Message: randomMessage}},
		},
	}
	if g.IntN(3) == 0 {
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "more", Expression: strings.ReplaceAll(g.condition(1), "variables.x", "object.kind")})
	}
	if g.IntN(3) == 0 {
		p.Spec.Validations[0].MessageExpression = "'" + randomMessage + ": ' + string(" + g.text() + ")"
	}
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	if g.IntN(4) == 0 {
		b.Spec.MatchResources = &admissionregistrationv1.MatchResources{ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pick(g, "web", "db")}}}
	}
	return p, b
}

func (g *policyGenerator) text() string {
	return pick(g, "object.metadata.name", "object.metadata.labels.app", "object.metadata.?labels.?app.orValue('none')", "object.spec.containers[0].image",
		"object.spec.containers[1].image", "namespaceObject.metadata.name", "request.operation", "object.spec.nodeName", "string(variables.x)", "'web'",
		"object.spec.containers.map(c, c.name).join(',')", "object.spec.?priorityClassName.orValue('')", "oldObject.metadata.name")
}

func (g *policyGenerator) number() string {
	return pick(g, "size(object.spec.containers)", "1", "2", "object.spec.terminationGracePeriodSeconds", "object.spec.securityContext.runAsUser",
		"size(object.metadata.name)", "1 / (size(object.spec.containers) - 2)", "object.spec.?securityContext.?runAsUser.orValue(0)", "int(object.metadata.labels.app)")
}

func (g *policyGenerator) condition(depth int) string {
	if depth == 0 {
		return pick(g, "has(object.spec.hostNetwork)", "object.spec.hostNetwork", "has(object.metadata.labels) && has(object.metadata.labels.app)",
			"object.spec.?hostPID.orValue(false)", "oldObject == null", "variables.x == 'web'", "variables.x", "object.spec.containers[0].securityContext.privileged",
			"request.dryRun", "quantity(object.spec.containers[0].resources.limits.memory).isLessThan(quantity('100Mi'))", "has(object.status.phase)", "variables.y == 1")
	}
	switch g.IntN(8) {
	case 0:
		return "!(" + g.condition(depth-1) + ")"
	case 1:
		return "(" + g.condition(depth-1) + ") && (" + g.condition(depth-1) + ")"
	case 2:
		return "(" + g.condition(depth-1) + ") || (" + g.condition(depth-1) + ")"
	case 3:
		return g.text() + pick(g, " == ", " != ", " < ") + g.text()
	case 4:
		return g.number() + pick(g, " > ", " <= ", " == ") + g.number()
	case 5:
		return "object.spec.containers" + pick(g, ".exists", ".all", ".exists_one") + "(c, " + pick(g, "c.name == 'web'", "c.image.startsWith('example.com/')",
			"c.?securityContext.?privileged.orValue(false)", "c.securityContext.privileged", "has(c.resources.limits)") + ")"
	case 6:
		return g.text() + pick(g, ".startsWith", ".contains", ".matches") + "('" + pick(g, "web", "w.*", "pod-1", "(") + "')"
	}
	return "(" + g.condition(depth-1) + ") ? (" + g.condition(depth-1) + ") : (" + g.condition(depth-1) + ")"
}

// pod returns a valid pod.
func (g *policyGenerator) pod(name string) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if g.IntN(3) > 0 {
		out.Labels = map[string]string{"app": pick(g, "web", "db", "1")}
	}
	out.Spec.HostNetwork, out.Spec.HostPID = g.IntN(3) == 0, g.IntN(3) == 0
	if g.IntN(2) == 0 {
		id := int64(g.IntN(3))
		out.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &id}
	}
	for i := range 1 + g.IntN(3) {
		c := corev1.Container{Name: pick(g, "web", "side", "db") + strings.Repeat("x", i), Image: pick(g, "example.com/web:1", "nginx")}
		if g.IntN(2) == 0 {
			privileged := g.IntN(2) == 0
			c.SecurityContext = &corev1.SecurityContext{Privileged: &privileged}
		}
		if g.IntN(2) == 0 {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(pick(g, "64Mi", "1Gi"))}
		}
		out.Spec.Containers = append(out.Spec.Containers, c)
	}
	return out
}
