// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// parityServer is a control plane with the judges of every control.
type parityServer struct {
	config  *rest.Config
	client  dynamic.Interface // as the user of the context
	typed   kubernetes.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	judges  []*judges
	cases   []*parityCase
	skipped map[string]int
	// defaulted is where the API server's defaults change a verdict.
	defaulted map[string]bool
	marks     int // policies that tell that others are in force
	mu        sync.Mutex
}

// catalogue returns the built-in controls.
func catalogue(t testing.TB) *baseline.Library {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// breaks is the way whose control is a broken one; scanWay if none is.
type breaks int

// row is what the table calls a control.
func (b breaks) row(control string) string {
	if b == scanWay {
		return control
	}
	return fmt.Sprintf("%s, broken for the %s", control, wayNames[b])
}

// broken returns a control that says the contrary.
func broken(t *testing.T, c *control.Control) *control.Control {
	t.Helper()
	changed := c.Control.DeepCopy()
	changed.Spec.Require = "!(" + c.Spec.Require + ")"
	out, err := control.New(changed, control.Options{})
	must(t, err)
	return out
}

// collect reads the fixtures of controls: all objects that a policy or the
// webhook can judge alone.
func (s *parityServer) collect(t *testing.T, l *baseline.Library, names []string, b breaks) {
	t.Helper()
	for _, name := range names {
		_, data, err := catalog.Fixture(l.File(name))
		must(t, err)
		r, err := controltest.Run(l.Control(name), name, data)
		must(t, err)
		known := map[string]*judges{}
		met := map[*object.Object]bool{}
		for i := range r.Cases {
			c := &r.Cases[i]
			if subject := c.Object.Subject(); alone(c.Object) && !met[subject] {
				met[subject] = true
				s.cases = append(s.cases, &parityCase{judges: s.judgesFor(t, l, c, known, b), manifest: subject})
			}
		}
	}
}

// alone says whether an object is judged by itself, and not together with
// others.
func alone(o *object.Object) bool {
	return o.GroupKind().Group != facts.Group || slices.ContainsFunc(all.Singles, func(s facts.Single) bool { return slices.Contains(s.Kinds, o.Kind) })
}

// judgesFor returns the judges of a case, which are yet to be made: the same where
// the settings are.
func (s *parityServer) judgesFor(t *testing.T, l *baseline.Library, c *controltest.Case, known map[string]*judges, b breaks) *judges {
	t.Helper()
	words, err := c.Control.Native(control.NativeOptions{})
	must(t, err)
	key := fmt.Sprint(words, c.Env)
	if known[key] == nil {
		j := &judges{control: c.Control.Name, row: b.row(c.Control.Name), name: fmt.Sprintf("%s.%d", c.Control.Name, len(s.judges))}
		j.make = func() { j.of(t, l, c, b) }
		known[key] = j
		s.judges = append(s.judges, j)
	}
	return known[key]
}

// of makes the judges of a case.
func (j *judges) of(t *testing.T, l *baseline.Library, c *controltest.Case, b breaks) {
	t.Helper()
	closed := func(way breaks) *baseline.Baseline { return failClosed(t, l, c, way, b) }
	exceptions := l.Exceptions(c.Env.Today)
	j.scan = engine.New(closed(scanWay), exceptions, c.Env.Today)
	j.webhook = engine.New(admission.Enforced(closed(webhookWay), v1alpha1.FailClosed, v1alpha1.Warn), exceptions, c.Env.Today)
	j.feed = engine.New(closed(auditWay), exceptions, c.Env.Today)
	if built := generate.Build(closed(policyWay), generate.Options{Today: c.Env.Today}); len(built.Validating) > 0 {
		j.policy = &built.Validating[0]
		forUser(j.policy, j.name)
	}
}

// failClosed is a baseline of one control whose unknowns are told by a denial.
func failClosed(t *testing.T, l *baseline.Library, c *controltest.Case, way, b breaks) *baseline.Baseline {
	t.Helper()
	version := ""
	if c.Env.Named {
		version = fmt.Sprintf("1.%d", c.Env.Minor)
		if c.Env.Patch >= 0 {
			version += fmt.Sprintf(".%d", c.Env.Patch)
		}
	}
	out, err := l.ResolveControls([]string{c.Control.Name}, nil, version, false)
	must(t, err)
	out.Name = "parity"
	r := out.Rules[0]
	r.Control, r.Action, r.FailurePolicy = c.Control, v1alpha1.Deny, v1alpha1.FailClosed
	if way != scanWay && way == b {
		r.Control = broken(t, c.Control)
	}
	return out
}

// forUser puts a policy in force for one user, under a name of its own.
func forUser(v *generate.Validating, name string) {
	v.Policy.Name, v.Binding.Name, v.Binding.Spec.PolicyName = name, name, name
	v.Policy.Spec.MatchConditions = append(slices.Clone(v.Policy.Spec.MatchConditions), admissionregistrationv1.MatchCondition{
		Name: "only-for-its-user", Expression: fmt.Sprintf("request.userInfo.?username.orValue('') == '%s%s'", policyUser, name),
	})
}

// startParity starts a control plane for parity tests. No controllers run: what
// is created stays as it is, and is all there is.
func startParity(t *testing.T) *parityServer {
	t.Helper()
	c := controlplane.Start(t, controlplane.Options{NoControllers: true, APIServerArgs: map[string][]string{
		// Fixtures name classes that nobody made.
		"disable-admission-plugins": {"RuntimeClass", "StorageObjectInUseProtection"},
	}})
	s := &parityServer{config: c.Config(), skipped: map[string]int{}, defaulted: map[string]bool{}}
	s.config.WarningHandler = rest.NoWarnings{}
	s.config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return impersonator{rt} })
	var err error
	s.client, err = dynamic.NewForConfig(s.config)
	must(t, err)
	s.typed, err = kubernetes.NewForConfig(s.config)
	must(t, err)
	return s
}

// together does something for every item, a few at a time.
func together[T any](t *testing.T, items []T, do func(T) error) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(8)
	for _, item := range items {
		group.Go(func() error { return do(item) })
	}
	must(t, group.Wait())
}

// define makes the kinds that the API server does not have, without a schema.
func (s *parityServer) define(t *testing.T) {
	t.Helper()
	client, err := apiextensionsclient.NewForConfig(s.config)
	must(t, err)
	found, err := discovery.NewDiscoveryClientForConfig(s.config)
	must(t, err)
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, c := range s.cases {
		gvk := schema.FromAPIVersionAndKind(c.manifest.APIVersion, c.manifest.Kind)
		if _, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil && isCustom(c, gvk.Group) {
			define(crds, gvk, c.manifest.Namespace != "")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(crds)) {
		if _, err := client.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crds[name], metav1.CreateOptions{}); err != nil {
			t.Logf("kind %s: %v", name, err)
		}
	}
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(list.Items, func(d apiextensionsv1.CustomResourceDefinition) bool {
			return !slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
				return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
			})
		}), nil
	})
	must(t, err)
	s.mapper.Reset()
}

// isCustom says whether a kind that the API server does not have may be made:
// no file of a component is one.
func isCustom(c *parityCase, group string) bool {
	return strings.Contains(group, ".") && (c.policy != nil || !strings.HasSuffix(group, "k8s.io"))
}

// define adds a version of a kind.
func define(crds map[string]*apiextensionsv1.CustomResourceDefinition, gvk schema.GroupVersionKind, namespaced bool) {
	plural := generate.Resource(object.GroupKind{Group: gvk.Group, Kind: gvk.Kind})
	name := plural + "." + gvk.Group
	d := crds[name]
	if d == nil {
		d = &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"},
		}}
		d.Spec.Group, d.Spec.Scope = gvk.Group, apiextensionsv1.ClusterScoped
		d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Kind: gvk.Kind}
		crds[name] = d
	}
	if namespaced {
		d.Spec.Scope = apiextensionsv1.NamespaceScoped
	}
	if slices.ContainsFunc(d.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == gvk.Version }) {
		return
	}
	keep := true
	d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
		Name: gvk.Version, Served: true, Storage: len(d.Spec.Versions) == 0,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keep}},
	})
}

// applyObject applies an object of admission registration.
func applyObject(t *testing.T, client dynamic.Interface, o runtime.Object) {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	must(t, err)
	u := &unstructured.Unstructured{Object: content}
	resource, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	data, err := u.MarshalJSON()
	must(t, err)
	force := true
	if _, err := client.Resource(resource).Patch(t.Context(), u.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "sconce", Force: &force}); err != nil {
		t.Fatalf("applying %s: %v", u.GetName(), err)
	}
}

// surroundings makes what the API server asks for before it takes an object:
// namespaces, and the ServiceAccounts of pods.
func (s *parityServer) surroundings(t *testing.T) {
	t.Helper()
	accounts := map[types.NamespacedName]bool{}
	for _, c := range s.cases {
		ns := cmp.Or(c.manifest.Namespace, "default")
		accounts[types.NamespacedName{Namespace: ns, Name: "default"}] = true
		if name := c.manifest.Root.At("spec", "serviceAccountName"); c.manifest.Kind == "Pod" && name.Str() != "" {
			accounts[types.NamespacedName{Namespace: ns, Name: name.Str()}] = true
		}
	}
	for account := range accounts {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: account.Namespace}}
		if _, err := s.typed.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsInvalid(err) {
			t.Fatal(err)
		}
		made := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account.Name}}
		if _, err := s.typed.CoreV1().ServiceAccounts(account.Namespace).Create(t.Context(), made, metav1.CreateOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			t.Fatal(err)
		}
	}
}

// waitForAccount waits for the ServiceAccount that pods of a namespace need.
func waitForAccount(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	must(t, err)
}

// store finds out how the API server would store each object, and leaves out
// those that it would not.
func (s *parityServer) store(t *testing.T) {
	t.Helper()
	s.surroundings(t)
	together(t, s.cases, func(c *parityCase) error {
		if why := s.storeOne(t.Context(), c); why != "" {
			c.stored = nil
			s.mu.Lock()
			defer s.mu.Unlock()
			s.skipped[why]++
		}
		return nil
	})
	s.cases = slices.DeleteFunc(s.cases, func(c *parityCase) bool { return c.stored == nil })
}

// storeOne says why an object is not stored, if it is not.
func (s *parityServer) storeOne(ctx context.Context, c *parityCase) string {
	gvk := schema.FromAPIVersionAndKind(c.manifest.APIVersion, c.manifest.Kind)
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return "the API server does not serve the kind"
	}
	c.kind = cluster.Kind{
		GroupKind: c.manifest.GroupKind(), Version: gvk.Version, Resource: mapping.Resource.Resource, Namespaced: mapping.Scope.Name() == meta.RESTScopeNameNamespace,
	}
	c.sent = completed(c.manifest)
	c.stored, err = s.try(ctx, c)
	if apierrors.IsAlreadyExists(err) {
		err = s.change(ctx, c)
	}
	if err != nil {
		return refusal(err)
	}
	if custom := strings.Contains(gvk.Group, ".") && !strings.HasSuffix(gvk.Group, ".k8s.io"); custom && hasNull(c.stored.Object) {
		return "the object holds a null, which the schema of its kind would not let through"
	}
	return s.compare(c)
}

// change stores a case over what is there.
func (s *parityServer) change(ctx context.Context, c *parityCase) error {
	there, err := s.resource(c).Get(ctx, c.sent.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	c.exists = true
	c.sent.SetResourceVersion(there.GetResourceVersion())
	c.stored, err = s.try(ctx, c)
	return err
}

// compare notes whether what is stored comes to another verdict than what was
// sent.
func (s *parityServer) compare(c *parityCase) string {
	written, err := scan(c.scan, c.sent)
	if err != nil {
		return err.Error()
	}
	stored, err := byScan(c)
	if err != nil {
		return err.Error()
	}
	if written != stored {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.defaulted[fmt.Sprintf("%s: %s: %s as it is written, %s as it is stored", c.control, c.manifest.Ref, written, stored)] = true
	}
	return ""
}

// hasNull says whether a value holds a null.
func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), hasNull)
	case []any:
		return slices.ContainsFunc(v, hasNull)
	}
	return false
}

// refusal groups the reasons for which the API server takes no object.
func refusal(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err.Error()
	}
	switch s := status.Status(); {
	case strings.Contains(s.Message, "name or generateName is required"), strings.Contains(s.Message, "resource name may not be empty"):
		return "the object has no name"
	case s.Reason == metav1.StatusReasonInvalid:
		return "the object is not valid"
	case s.Reason == metav1.StatusReasonBadRequest:
		return "the object cannot be decoded"
	default:
		return string(s.Reason) + ": " + s.Message
	}
}

// atOnce is how many policies are in force at once: of each, the API server asks
// for every request whether it is for its user.
const atOnce = 100

// judgeByPolicies judges cases by their policies.
func (s *parityServer) judgeByPolicies(t *testing.T, cases []*parityCase) {
	t.Helper()
	of := map[*judges][]*parityCase{}
	for _, c := range cases {
		if c.policy != nil {
			of[c.judges] = append(of[c.judges], c)
		}
	}
	inOrder := slices.SortedFunc(maps.Keys(of), func(a, b *judges) int { return cmp.Compare(a.name, b.name) })
	for some := range slices.Chunk(inOrder, atOnce) {
		s.enforce(t, some)
		var judged []*parityCase
		for _, j := range some {
			judged = append(judged, of[j]...)
		}
		together(t, judged, func(c *parityCase) error {
			c.said[policyWay].outcome, c.said[policyWay].err = s.byPolicy(c)
			return nil
		})
		together(t, some, func(j *judges) error {
			return s.typed.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), j.name, metav1.DeleteOptions{})
		})
	}
}

// enforce puts policies in force, and waits until they are.
func (s *parityServer) enforce(t *testing.T, some []*judges) {
	t.Helper()
	r := s.typed.AdmissionregistrationV1()
	apply := func(j *judges) error {
		if _, err := r.ValidatingAdmissionPolicies().Create(t.Context(), j.policy.Policy, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		_, err := r.ValidatingAdmissionPolicyBindings().Create(t.Context(), j.policy.Binding, metav1.CreateOptions{})
		return err
	}
	together(t, some, apply)
	s.marks++
	last := lastPolicy(s.marks)
	must(t, apply(last))
	s.waitFor(t, "policies", func() (verdict.Outcome, error) {
		return s.byPolicy(&parityCase{judges: last, kind: configMaps, manifest: &object.Object{}, sent: emptyMap()})
	})
}

var configMaps = cluster.Kind{GroupKind: object.GroupKind{Kind: "ConfigMap"}, Version: "v1", Resource: "configmaps", Namespaced: true}

func emptyMap() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "probe"}}}
}

// lastPolicy returns a policy that is applied after all others: the API server hears
// of them in order, so that they hold once this one does.
func lastPolicy(n int) *judges {
	name := fmt.Sprintf("last.%d", n)
	no := &generate.Validating{
		Policy: &admissionregistrationv1.ValidatingAdmissionPolicy{Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{configMaps.Resource}},
			}}}},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "last: no"}},
		}},
		Binding: &admissionregistrationv1.ValidatingAdmissionPolicyBinding{Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		}},
	}
	forUser(no, name)
	return &judges{control: "last", name: name, policy: no}
}

// waitFor waits until what is judged fails.
func (s *parityServer) waitFor(t *testing.T, what string, judge func() (verdict.Outcome, error)) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		got, err := judge()
		return got == verdict.Fail, err
	})
	if err != nil {
		t.Fatalf("the %s are not in force: %v", what, err)
	}
}

// serveWebhook serves Sconce's webhook, by another control for each user, and
// tells the API server of it.
func (s *parityServer) serveWebhook(t *testing.T) {
	t.Helper()
	handlers := map[string]http.Handler{}
	for _, j := range s.judges {
		handlers[webhookUser+j.name] = admission.NewHandler(admission.HandlerOptions{
			Options: admission.Options{Baseline: "parity", Annotations: true},
			Engines: func() admission.Engines { return admission.Engines{Fail: j.webhook} },
		})
	}
	certificates := admission.NewCertificates(admission.CertificateOptions{Store: &secretStore{}, Names: []string{"127.0.0.1"}})
	bundle, err := certificates.Refresh(t.Context())
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := admission.NewServer(admission.ServerOptions{Certificate: certificates.GetCertificate, Handler: byUser(handlers)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = admission.Serve(listener, server)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	s.tellOfWebhook(t, "https://"+listener.Addr().String()+admission.FailPath, bundle)
	s.waitFor(t, "webhook", func() (verdict.Outcome, error) {
		err := s.send(webhookUser+"nobody", &parityCase{kind: configMaps, manifest: &object.Object{}, sent: emptyMap()})
		if err != nil && strings.Contains(err.Error(), `failed calling webhook "parity.sconce.dev"`) {
			return verdict.Fail, nil
		}
		return verdict.Pass, err
	})
}

// byUser hands each request to the handler of the user that it asks about.
func byUser(handlers map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var review struct {
			Request struct {
				UserInfo struct {
					Username string `json:"username"`
				} `json:"userInfo"`
			} `json:"request"`
		}
		if err != nil || json.Unmarshal(body, &review) != nil || handlers[review.Request.UserInfo.Username] == nil {
			http.Error(w, "no judge of that name", http.StatusNotFound)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		handlers[review.Request.UserInfo.Username].ServeHTTP(w, r)
	})
}

// tellOfWebhook has the API server ask a webhook about everything that its users
// send.
func (s *parityServer) tellOfWebhook(t *testing.T, url string, bundle []byte) {
	t.Helper()
	fail, equivalent, none, seconds := admissionregistrationv1.Fail, admissionregistrationv1.Equivalent, admissionregistrationv1.SideEffectClassNone, int32(20)
	_, err := s.typed.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "parity"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "parity.sconce.dev", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: bundle},
			AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, MatchPolicy: &equivalent, TimeoutSeconds: &seconds,
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "its-users", Expression: "request.userInfo.username.startsWith('" + webhookUser + "')"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}},
			}},
		}},
	}, metav1.CreateOptions{})
	must(t, err)
}

// byKind groups cases by the kind that they are read as.
func byKind(cases []*parityCase) map[cluster.Kind][]*parityCase {
	out := map[cluster.Kind][]*parityCase{}
	for _, c := range cases {
		out[c.kind] = append(out[c.kind], c)
	}
	return out
}

// replay has source/cluster read what the API server would store, as if it had
// been listed.
func (s *parityServer) replay(t *testing.T) {
	t.Helper()
	kinds := byKind(s.cases)
	config := rest.CopyConfig(s.config)
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &replayer{rt, kinds} })
	c, err := cluster.Connect(config)
	must(t, err)
	for kind, cases := range kinds {
		for _, u := range c.Units([]cluster.Kind{kind}, "") {
			u.Read(t.Context(), snapshot.Sink{
				Object: func(o *object.Object) {
					i, err := strconv.Atoi(strings.TrimPrefix(o.Root.At("metadata", "uid").Str(), replayed))
					must(t, err)
					cases[i].live = o
				},
				Problem: func(p verdict.Problem) { t.Error(p.Message) },
			})
		}
	}
}

// replayed begins the uids of objects of a replay: each has one of its own, and
// none is taken for another.
const replayed = "replayed-"

// replayer answers lists with the objects of cases.
type replayer struct {
	http.RoundTripper
	kinds map[cluster.Kind][]*parityCase
}

// RoundTrip implements http.RoundTripper.
func (p *replayer) RoundTrip(r *http.Request) (*http.Response, error) {
	for kind, cases := range p.kinds {
		root := "/apis/" + kind.Group
		if kind.Group == "" {
			root = "/api"
		}
		if r.URL.Path != root+"/"+kind.Version+"/"+kind.Resource {
			continue
		}
		items := make([]any, 0, len(cases))
		for i, c := range cases {
			u := c.stored.DeepCopy()
			u.SetUID(types.UID(replayed + strconv.Itoa(i)))
			items = append(items, u.Object)
		}
		body, err := json.Marshal(map[string]any{
			"apiVersion": cases[0].manifest.APIVersion, "kind": kind.Kind + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
		})
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r,
		}, err
	}
	return p.RoundTripper.RoundTrip(r)
}

// disturbs says that an object, if it were really there, would change what the API
// server does with others.
func disturbs(k cluster.Kind) bool {
	switch k.Group {
	case admissionregistrationv1.GroupName, apiextensionsv1.GroupName, "apiregistration.k8s.io", "flowcontrol.apiserver.k8s.io":
		return true
	case "":
		return slices.Contains([]string{"Namespace", "ResourceQuota", "LimitRange"}, k.Kind)
	}
	return false
}

// create really creates the first object of each name, as nobody's user, and has
// source/cluster deliver it. These are further cases: what is there is updated.
func (s *parityServer) create(t *testing.T) {
	t.Helper()
	var mu sync.Mutex
	var first, made []*parityCase
	taken := map[string]bool{}
	for _, c := range s.cases {
		name := fmt.Sprint(c.kind, c.manifest.Namespace, "/", c.sent.GetName())
		if !c.exists && !disturbs(c.kind) && (c.sent.GetName() == "" || !taken[name]) {
			taken[name] = true
			first = append(first, c)
		}
	}
	together(t, first, func(c *parityCase) error {
		there, err := s.resource(c).Create(t.Context(), c.sent, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
			return nil // another took its port
		}
		mu.Lock()
		defer mu.Unlock()
		made = append(made, &parityCase{judges: c.judges, manifest: c.manifest, kind: c.kind, sent: there, stored: there, exists: true, created: true})
		return err
	})
	s.feed(t, made)
	s.cases = append(s.cases, made...)
}

// feed waits until source/cluster has delivered objects.
func (s *parityServer) feed(t *testing.T, cases []*parityCase) {
	t.Helper()
	c, err := cluster.Connect(s.config)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var feeds sync.WaitGroup
	defer feeds.Wait()
	defer cancel()
	h := &delivered{objects: map[string]*object.Object{}}
	for kind := range byKind(cases) {
		feeds.Go(func() { c.Feed(ctx, kind, h) })
	}
	poll(t, "every object that was created is delivered", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, c := range cases {
			c.live = h.objects[c.manifest.APIVersion+" "+string(c.stored.GetUID())]
		}
		return !slices.ContainsFunc(cases, func(c *parityCase) bool { return c.live == nil })
	})
	for _, p := range h.problems {
		t.Error(p)
	}
}

// delivered is what a feed has delivered.
type delivered struct {
	mu       sync.Mutex
	objects  map[string]*object.Object // by version and uid: each version of a kind is fed
	problems []string
}

// Set implements cluster.Handler.
func (d *delivered) Set(o cluster.Live) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects[o.APIVersion+" "+o.UID] = o.Object
}

// Delete implements cluster.Handler.
func (d *delivered) Delete(object.Ref) {}

// Synced implements cluster.Handler.
func (d *delivered) Synced(cluster.Kind) {}

// Problem implements cluster.Handler.
func (d *delivered) Problem(k cluster.Kind, p *verdict.Problem) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p != nil {
		d.problems = append(d.problems, fmt.Sprintf("%s: %s", k, p.Message))
	}
}

// judgeAll judges every case in every way.
func (s *parityServer) judgeAll(t *testing.T) *parityTable {
	t.Helper()
	step := func(name string, do func(*testing.T)) {
		began := time.Now()
		do(t)
		t.Logf("%s: %v", name, time.Since(began).Round(10*time.Millisecond))
	}
	step("policies and engines", func(t *testing.T) {
		together(t, s.judges, func(j *judges) error {
			j.make()
			return nil
		})
	})
	step("kinds and webhook", func(t *testing.T) {
		s.define(t)
		s.serveWebhook(t)
	})
	step("what would be stored", s.store)
	step("that, read as a cluster", s.replay)
	judge := func(of string, cases []*parityCase) {
		step("scan, webhook and audit of "+of, func(t *testing.T) { together(t, cases, s.judge) })
		step("policies of "+of, func(t *testing.T) { s.judgeByPolicies(t, cases) })
	}
	dry := len(s.cases)
	judge("that", s.cases)
	step("creating", s.create)
	judge("what was created", s.cases[dry:])
	table := &parityTable{controls: map[string]*tally{}}
	for _, c := range s.cases {
		table.add(c)
	}
	slices.Sort(table.differ)
	return table
}

// judge judges a case in all ways but by its policy.
func (s *parityServer) judge(c *parityCase) error {
	c.said[scanWay].outcome, c.said[scanWay].err = byScan(c)
	if asksWebhooks(c) {
		c.said[webhookWay].outcome, c.said[webhookWay].err = s.byWebhook(c)
	}
	c.said[auditWay].outcome, c.said[auditWay].err = byAudit(c)
	return nil
}

// report prints what was not held against anything, and the table.
func (s *parityServer) report(t *testing.T, p *parityTable) {
	t.Helper()
	for _, why := range slices.Sorted(maps.Keys(s.skipped)) {
		t.Logf("%d objects left out: %s", s.skipped[why], why)
	}
	policies, updates, created := 0, 0, 0
	for _, j := range s.judges {
		if j.policy != nil {
			policies++
		}
	}
	for _, c := range s.cases {
		if c.exists {
			updates++
		}
		if c.created {
			created++
		}
	}
	var unjudged []string
	for _, j := range s.judges {
		if p.controls[j.row] == nil && !slices.Contains(unjudged, j.row) {
			unjudged = append(unjudged, j.row)
		}
	}
	t.Logf("%d controls whose fixtures hold nothing that the API server takes: %s", len(unjudged), strings.Join(unjudged, ", "))
	t.Logf("%d policies; of %d cases %d are updates, %d of them of an object that was really created", policies, len(s.cases), updates, created)
	t.Log(p)
}
