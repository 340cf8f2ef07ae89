// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

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

	corev1 "k8s.io/api/core/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/verdict"
)

// parityCase is an object of a fixture, to be judged by one control.
type parityCase struct {
	control *control.Control
	// manifest is the object as the fixture has it, stored as the API server
	// would store it.
	manifest *object.Object
	// sent is what of that is sent, with what the API server insists on.
	sent, stored *unstructured.Unstructured
	resource     dynamic.ResourceInterface
	// policy is the policy for the control with the fixture's parameters.
	policy string
}

// way is one way to come to a verdict.
type way struct {
	name  string
	judge func(*parityCase) (verdict.Outcome, error)
}

// parityTable counts how far the ways agree with the first of them.
type parityTable struct {
	ways     []way
	controls map[string]int // cases, by control
	outcomes map[verdict.Outcome]int
	agree    []int
	differ   []string
}

func newParityTable(ways ...way) *parityTable {
	return &parityTable{ways: ways, controls: map[string]int{}, outcomes: map[verdict.Outcome]int{}, agree: make([]int, len(ways))}
}

// add judges a case in every way.
func (p *parityTable) add(c *parityCase) {
	p.controls[c.control.Name]++
	var first verdict.Outcome
	for i, w := range p.ways {
		got, err := w.judge(c)
		if i == 0 {
			first = got
			p.outcomes[got]++
		}
		if err == nil && got == first {
			p.agree[i]++
			continue
		}
		p.differ = append(p.differ, fmt.Sprintf("%s: %s: %s says %s, %s says %s (%v)", c.control.Name, c.manifest.Ref, p.ways[0].name, first, w.name, got, err))
	}
}

// String is the table.
func (p *parityTable) String() string {
	var b strings.Builder
	cases := 0
	for _, n := range p.controls {
		cases += n
	}
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "\n%d controls, %d objects: %d pass, %d fail, %d unknown\nWAY\tAGREES\tOF\n",
		len(p.controls), cases, p.outcomes[verdict.Pass], p.outcomes[verdict.Fail], p.outcomes[verdict.Unknown])
	for i, way := range p.ways {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\n", way.name, p.agree[i], cases)
	}
	_ = w.Flush()
	return b.String()
}

// byScan judges the stored object as a scan does.
func byScan(c *parityCase) (verdict.Outcome, error) {
	o, err := fromCluster(c.stored)
	if err != nil {
		return "", err
	}
	return c.control.Judge(o, nil).Outcome, nil
}

func fromCluster(u *unstructured.Unstructured) (*object.Object, error) {
	objects, err := object.FromNode(object.FromAny(u.Object), &object.Origin{})
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// byPolicy judges by the policy in the API server: the policies of a parity test
// are each in force for a user of their own name.
func byPolicy(c *parityCase) (verdict.Outcome, error) {
	_, err := c.resource.Create(context.Background(), c.sent, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return policyVerdict(c.policy, err)
}

// policyVerdict reads a policy's verdict from the answer to a request.
func policyVerdict(policy string, err error) (verdict.Outcome, error) {
	if err == nil {
		return verdict.Pass, nil
	}
	_, said, ok := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '"+policy+"'")
	if !ok {
		return "", err
	}
	if strings.Contains(said, "denied request: "+strings.TrimPrefix(policyControl(policy), "sconce-")+": ") {
		return verdict.Fail, nil
	}
	return verdict.Unknown, nil
}

// policyControl returns the name of the control's policy for that of a variant.
func policyControl(policy string) string {
	name, _, _ := strings.Cut(policy, ".")
	return name
}

// completed returns an object with what the API server insists on and fixtures
// leave out.
func completed(o *object.Object) *unstructured.Unstructured {
	u := toUnstructured(o)
	if u.GetName() == "" && u.GetGenerateName() == "" {
		u.SetName("nameless")
	}
	add := func(value any, fields ...string) {
		if _, ok, err := unstructured.NestedFieldNoCopy(u.Object, fields...); !ok && err == nil {
			_ = unstructured.SetNestedField(u.Object, value, fields...) // what is no map stays as it is
		}
	}
	switch o.Kind {
	case "Service":
		if kind, _, _ := unstructured.NestedString(u.Object, "spec", "type"); kind != "ExternalName" {
			add([]any{map[string]any{"port": int64(80)}}, "spec", "ports")
		}
	case "Ingress":
		if rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules"); len(rules) == 0 {
			backend := map[string]any{"name": "web", "port": map[string]any{"number": int64(80)}}
			add(map[string]any{"service": backend}, "spec", "defaultBackend")
		}
	case "PersistentVolumeClaim":
		add([]any{"ReadWriteOnce"}, "spec", "accessModes")
		add(map[string]any{"requests": map[string]any{"storage": "1Gi"}}, "spec", "resources")
	case "PersistentVolume":
		add([]any{"ReadWriteOnce"}, "spec", "accessModes")
		add(map[string]any{"storage": "1Gi"}, "spec", "capacity")
	}
	return u
}

func toUnstructured(o *object.Object) *unstructured.Unstructured {
	out := map[string]any{}
	if err := json.Unmarshal(o.Root.JSON(), &out); err != nil {
		panic(err) // what is printed as JSON is JSON
	}
	return &unstructured.Unstructured{Object: out}
}

// parityServer is a control plane with the policies of every control.
type parityServer struct {
	config    *rest.Config
	admin     dynamic.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	cases     []*parityCase
	policies  []runtime.Object
	compiled  int
	left      int
	skipped   map[string]int
	defaulted []string // where defaulting changes a verdict
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

// failClosed is a baseline of one control whose unknowns are told by a denial.
func failClosed(c *control.Control) *baseline.Baseline {
	return &baseline.Baseline{Name: "parity", Rules: []*baseline.Rule{{
		Control: c, Severity: c.Spec.Severity, Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailClosed,
	}}}
}

// collect reads the fixtures of all controls that compile; broken, if it is
// set, changes a control before its policy is made.
func (s *parityServer) collect(t *testing.T, l *baseline.Library, names []string, broken func(*control.Control) *control.Control) {
	t.Helper()
	for _, name := range names {
		_, data, err := catalog.Fixture(l.File(name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := controltest.Run(l.Control(name), name, data)
		if err != nil {
			t.Fatal(err)
		}
		variants := map[string]string{}
		left := false
		for _, c := range r.Cases {
			compiled := c.Control
			if broken != nil {
				compiled = broken(compiled)
			}
			words, err := compiled.Native(control.NativeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			key := fmt.Sprint(words)
			if variants[key] == "" {
				built := generate.Build(failClosed(compiled), generate.Options{Today: time.Now()})
				if left = len(built.Validating) == 0; left {
					break
				}
				variants[key] = s.variant(&built.Validating[0], len(variants))
			}
			s.cases = append(s.cases, &parityCase{control: c.Control, manifest: c.Object, policy: variants[key]})
		}
		if left {
			s.left++
		} else {
			s.compiled++
		}
	}
}

// user begins the names of the users for whom a policy is in force.
const user = "parity:"

// variant puts a policy in force for one user, under a name of its own.
func (s *parityServer) variant(v *generate.Validating, n int) string {
	name := fmt.Sprintf("%s.%d", v.Policy.Name, n)
	v.Policy.Name, v.Binding.Name, v.Binding.Spec.PolicyName = name, name, name
	only := v.Policy.Spec.MatchConditions
	only = append(only[:len(only):len(only)], only[0])
	only[len(only)-1].Name, only[len(only)-1].Expression = "only-for-its-user", fmt.Sprintf("request.userInfo.?username.orValue('') == '%s%s'", user, name)
	v.Policy.Spec.MatchConditions = only
	s.policies = append(s.policies, v.Policy, v.Binding)
	return name
}

// as returns a client for the user of a policy.
func (s *parityServer) as(t *testing.T, policy string) dynamic.Interface {
	t.Helper()
	config := rest.CopyConfig(s.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user + policy, Groups: []string{"system:masters"}}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// startParity starts a control plane for parity tests.
func startParity(t *testing.T) *parityServer {
	t.Helper()
	c := controlplane.Start(t, controlplane.Options{})
	s := &parityServer{config: c.Config(), skipped: map[string]int{}}
	s.config.WarningHandler = rest.NoWarnings{}
	var err error
	if s.admin, err = dynamic.NewForConfig(s.config); err != nil {
		t.Fatal(err)
	}
	return s
}

// define makes the kinds that the API server does not have, without a schema.
func (s *parityServer) define(t *testing.T) {
	t.Helper()
	client, err := apiextensionsclient.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, c := range s.cases {
		gvk := schema.FromAPIVersionAndKind(c.manifest.APIVersion, c.manifest.Kind)
		if _, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil && strings.Contains(gvk.Group, ".") {
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
	if err != nil {
		t.Fatal(err)
	}
	s.mapper.Reset()
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

// enforce applies the policies and waits until they hold.
func (s *parityServer) enforce(t *testing.T) {
	t.Helper()
	for _, o := range s.policies {
		applyObject(t, s.admin, o)
	}
	for i := 0; i < len(s.policies); i += 2 {
		s.waitFor(t, s.policies[i].(metav1.Object).GetName())
	}
}

// applyObject applies an object of admission registration.
func applyObject(t *testing.T, client dynamic.Interface, o runtime.Object) {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: content}
	resource, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	data, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	force := true
	if _, err := client.Resource(resource).Patch(t.Context(), u.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "sconce", Force: &force}); err != nil {
		t.Fatalf("applying %s: %v", u.GetName(), err)
	}
}

// waitFor waits until a case that the policy fails is denied; one that has none
// is taken on trust, since others were applied after it.
func (s *parityServer) waitFor(t *testing.T, policy string) {
	t.Helper()
	i := slices.IndexFunc(s.cases, func(c *parityCase) bool {
		if c.policy != policy || c.resource == nil {
			return false
		}
		got, err := byScan(c)
		return err == nil && got == verdict.Fail
	})
	if i < 0 {
		return
	}
	// A policy that never denies is what the table is for.
	_ = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Second, true, func(context.Context) (bool, error) {
		got, err := byPolicy(s.cases[i])
		return err == nil && got == verdict.Fail, nil
	})
}

// store finds out how the API server would store each object, and leaves out
// those that it would not.
func (s *parityServer) store(t *testing.T) {
	t.Helper()
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	namespaces := map[string]bool{"": true, "default": true, "kube-system": true, "kube-public": true, "kube-node-lease": true}
	clients := map[string]dynamic.Interface{}
	kept := s.cases[:0]
	for _, c := range s.cases {
		ns := c.manifest.Namespace
		if !namespaces[ns] {
			namespaces[ns] = true
			if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
			waitForAccount(t, client, ns)
		}
		if clients[c.policy] == nil {
			clients[c.policy] = s.as(t, c.policy)
		}
		if why := s.storeOne(t, c, clients[c.policy]); why != "" {
			s.skipped[why]++
			continue
		}
		kept = append(kept, c)
	}
	s.cases = kept
}

// waitForAccount waits for the ServiceAccount that pods of a namespace need.
func waitForAccount(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// storeOne says why an object is not stored, if it is not.
func (s *parityServer) storeOne(t *testing.T, c *parityCase, asUser dynamic.Interface) string {
	t.Helper()
	gvk := schema.FromAPIVersionAndKind(c.manifest.APIVersion, c.manifest.Kind)
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return "the API server does not serve the kind"
	}
	in := func(client dynamic.Interface) dynamic.ResourceInterface {
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			return client.Resource(mapping.Resource).Namespace(cmp.Or(c.manifest.Namespace, "default"))
		}
		return client.Resource(mapping.Resource)
	}
	c.sent = completed(c.manifest)
	stored, err := in(s.admin).Create(t.Context(), c.sent, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return refusal(err)
	}
	if isCustom := strings.Contains(gvk.Group, ".") && !strings.HasSuffix(gvk.Group, ".k8s.io"); isCustom && hasNull(stored.Object) {
		return "the object holds a null, which the schema of its kind would not let through"
	}
	c.stored, c.resource = stored, in(asUser)
	if got, err := byScan(c); err == nil {
		if as := c.control.Judge(c.manifest, nil).Outcome; got != as {
			s.defaulted = append(s.defaulted, fmt.Sprintf("%s: %s: %s as it is written, %s as it is stored", c.control.Name, c.manifest.Ref, as, got))
		}
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
	case s.Reason == metav1.StatusReasonAlreadyExists:
		return "an object of that name exists"
	case s.Reason == metav1.StatusReasonBadRequest:
		return "the object cannot be decoded"
	default:
		return string(s.Reason) + ": " + s.Message
	}
}

// report prints what was not held against anything, and the table.
func (s *parityServer) report(t *testing.T, p *parityTable) {
	t.Helper()
	t.Logf("%d of %d controls compile; %d policies", s.compiled, s.compiled+s.left, len(s.policies)/2)
	for _, why := range slices.Sorted(maps.Keys(s.skipped)) {
		t.Logf("%d objects left out: %s", s.skipped[why], why)
	}
	for _, d := range s.defaulted {
		t.Logf("defaulting decides: %s", d)
	}
	t.Log(p)
}

// TestParity judges every fixture of every control that compiles in all ways.
func TestParity(t *testing.T) {
	s := startParity(t)
	l := catalogue(t)
	s.collect(t, l, l.Controls(), nil)
	s.define(t)
	s.store(t)
	s.enforce(t)
	table := newParityTable(way{"scan", byScan}, way{"native policy", byPolicy})
	for _, c := range s.cases {
		table.add(c)
	}
	s.report(t, table)
	for _, d := range table.differ {
		t.Error(d)
	}
	if table.outcomes[verdict.Fail] < 300 || table.outcomes[verdict.Pass] < 300 {
		t.Errorf("only %d objects fail and %d pass: most were not held against anything", table.outcomes[verdict.Fail], table.outcomes[verdict.Pass])
	}
}

// TestParityNoticesABrokenControl holds that the table turns red where a policy
// says something else than its control.
func TestParityNoticesABrokenControl(t *testing.T) {
	s := startParity(t)
	l := catalogue(t)
	s.collect(t, l, []string{"privileged-container"}, func(c *control.Control) *control.Control {
		changed := c.Control.DeepCopy()
		changed.Spec.Require = "!(" + c.Spec.Require + ")"
		out, err := control.New(changed, control.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	})
	s.define(t)
	s.store(t)
	s.enforce(t)
	table := newParityTable(way{"scan", byScan}, way{"native policy", byPolicy})
	for _, c := range s.cases {
		table.add(c)
	}
	t.Log(table)
	if len(s.cases) == 0 || len(table.differ) < len(s.cases)/2 {
		t.Errorf("%d of %d objects differ, though the policy was made of a broken control", len(table.differ), len(s.cases))
	}
}
