// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// vapServer is an API server that admission policies are held against.
type vapServer struct {
	*policyServer
	t *testing.T
	// counts are what came out, so that a test can see that it tests something.
	counts map[string]int
}

// documents returns the objects of a manifest.
func documents(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, text := range strings.Split(manifest, "\n---\n") {
		u := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(text), &u.Object))
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
	return out
}

// objectOf returns what Sconce reads of an object of the API server.
func objectOf(t *testing.T, u *unstructured.Unstructured) *object.Object {
	t.Helper()
	o, err := fromCluster(u)
	must(t, err)
	return o
}

// policyWarnings collects the warnings of a client.
type policyWarnings struct {
	sync.Mutex
	all []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *policyWarnings) HandleWarningHeader(_ int, _, text string) {
	w.Lock()
	defer w.Unlock()
	w.all = append(w.all, text)
}

// take returns the warnings of policies since it was last called.
func (w *policyWarnings) take() []string {
	w.Lock()
	defer w.Unlock()
	var out []string
	for _, text := range w.all {
		if strings.HasPrefix(text, "Validation failed for ValidatingAdmissionPolicy") {
			out = append(out, text)
		}
	}
	w.all = nil
	slices.Sort(out)
	return slices.Compact(out)
}

// as returns a client for a user, and its warnings.
func (s *vapServer) as(who string, groups ...string) (dynamic.Interface, *policyWarnings) {
	s.t.Helper()
	config, w := s.Config(), &policyWarnings{}
	config.Impersonate = rest.ImpersonationConfig{UserName: who, Groups: groups}
	config.WarningHandler = w
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	must(s.t, err)
	return client, w
}

// resource returns the resource of an object, in its namespace.
func (s *vapServer) resource(client dynamic.Interface, u *unstructured.Unstructured) dynamic.ResourceInterface {
	gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	if u.GetNamespace() == "" {
		return client.Resource(gvr)
	}
	return client.Resource(gvr).Namespace(u.GetNamespace())
}

// world is what Sconce is told of the cluster: the API server itself.
type world struct{ s *vapServer }

// Objects implements policy.Cluster.
func (w world) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	version := "v1"
	gvr, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: gk.Group, Version: version, Kind: gk.Kind})
	list, err := w.s.client.Resource(gvr).Namespace(namespace).List(w.s.t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, false
	}
	var out []*object.Object
	for i := range list.Items {
		out = append(out, objectOf(w.s.t, &list.Items[i]))
	}
	return out, true
}

// Kinds implements policy.Cluster.
func (world) Kinds(object.GroupKind) ([]object.GroupKind, bool) { return nil, false }

// Can implements policy.Cluster.
func (w world) Can(who *authenticationv1.UserInfo, what rbac.Request) (allowed, known bool) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: who.Username, Groups: who.Groups}}
	if what.Path != "" {
		review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: what.Path, Verb: what.Verb}
	} else {
		review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Namespace: what.Namespace, Verb: what.Verb, Group: what.Group, Resource: what.Resource, Subresource: what.Subresource, Name: what.Name,
		}
	}
	out, err := w.s.Client(w.s.t).AuthorizationV1().SubjectAccessReviews().Create(w.s.t.Context(), review, metav1.CreateOptions{})
	return err == nil && out.Status.Allowed, err == nil
}

// knownCluster is a world that is asked once for each kind.
type knownCluster struct {
	policy.Cluster
	lists map[string][]*object.Object
}

// Objects implements policy.Cluster.
func (s *knownCluster) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	key := gk.Group + "/" + gk.Kind + "/" + namespace
	if _, ok := s.lists[key]; !ok {
		all, known := s.Cluster.Objects(gk, namespace)
		if !known {
			return nil, false
		}
		s.lists[key] = all
	}
	return s.lists[key], true
}

// policyAnswer is what becomes of a request.
type policyAnswer struct {
	denied   string
	or       []string // what it may be denied with instead: which of several failures comes first is chance
	warnings []string
	result   *unstructured.Unstructured
}

// theirs reads the answer of the API server. It is no answer of a policy where
// something else refuses the request.
func theirs(u *unstructured.Unstructured, err error, w *policyWarnings) (policyAnswer, error) {
	a := policyAnswer{warnings: w.take(), result: u}
	for i := range a.warnings {
		a.warnings[i] = policy.Reworded(a.warnings[i])
	}
	if err == nil {
		return a, nil
	}
	_, message, ok := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '")
	if !ok {
		return a, err
	}
	a.denied = policy.Reworded("ValidatingAdmissionPolicy '" + message)
	return a, nil
}

// ours says what becomes of a request by rules of one policy with one binding
// for each action.
func ours(ctx context.Context, set *policy.Set, r *policy.Request, bindings map[v1alpha1.Action]string) (policyAnswer, []control.Verdict) {
	var a policyAnswer
	var verdicts []control.Verdict
	for _, rule := range set.Rules {
		if !rule.Matches(r.Subject().GroupKind()) {
			continue
		}
		v, applies := rule.Judge(ctx, r)
		if !applies {
			continue
		}
		verdicts = append(verdicts, v)
		info := rule.Info()
		for _, f := range v.Findings {
			switch binding := bindings[info.Action]; {
			case f.Outcome == verdict.Unknown && info.FailurePolicy == v1alpha1.FailOpen:
			case info.Action == v1alpha1.Deny:
				a.or = append(a.or, fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", info.Policy.Name, binding, f.Message))
				a.denied = a.or[0]
			case info.Action == v1alpha1.Warn:
				a.warnings = append(a.warnings, fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", info.Policy.Name, binding, f.Message))
			}
		}
	}
	slices.Sort(a.warnings)
	a.warnings = slices.Compact(a.warnings)
	return a, verdicts
}

// attempt is one request to both.
type attempt struct {
	name      string
	operation policy.Operation
	object    *unstructured.Unstructured
	user      string
	groups    []string
}

// send sends a request of a user, for nothing.
func (s *vapServer) send(a attempt, client dynamic.Interface) (*unstructured.Unstructured, error) {
	all := []string{metav1.DryRunAll}
	r := s.resource(client, a.object)
	switch a.operation {
	case policy.Update:
		return r.Update(s.t.Context(), a.object, metav1.UpdateOptions{DryRun: all})
	case policy.Delete:
		return nil, r.Delete(s.t.Context(), a.object.GetName(), metav1.DeleteOptions{DryRun: all})
	}
	return r.Create(s.t.Context(), a.object, metav1.CreateOptions{DryRun: all})
}

// request returns the request as a policy sees it: with defaults. No policy is
// in force for the client that asks for them.
func (s *vapServer) request(a attempt, cluster policy.Cluster) (*policy.Request, error) {
	r := &policy.Request{Operation: a.operation, DryRun: true, Cluster: cluster, User: &authenticationv1.UserInfo{Username: a.user, Groups: append(a.groups, "system:authenticated")}}
	if a.operation == policy.Update || a.operation == policy.Delete {
		old, err := s.resource(s.client, a.object).Get(s.t.Context(), a.object.GetName(), metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		r.Old = objectOf(s.t, old)
	}
	if a.operation != policy.Delete {
		stored, err := s.send(a, s.client)
		if err != nil {
			return nil, err
		}
		r.Object = objectOf(s.t, stored)
	}
	return r, nil
}

// judge holds Sconce's answer to a request against the API server's.
func (s *vapServer) judge(a attempt, set *policy.Set, bindings map[v1alpha1.Action]string, r *policy.Request) {
	s.t.Helper()
	client, w := s.as(a.user, a.groups...)
	u, err := s.send(a, client)
	want, err := theirs(u, err, w)
	if err != nil {
		s.t.Errorf("%s: something else refused the request: %v", a.name, err)
		return
	}
	got, verdicts := ours(s.t.Context(), set, r, bindings)
	for _, v := range verdicts {
		s.counts[string(v.Outcome)]++
	}
	if len(verdicts) == 0 {
		s.counts["none"]++
	}
	s.counts["requests"]++
	if want.denied != "" {
		s.counts["denied"]++
	}
	s.counts["warnings"] += len(want.warnings)
	if slices.Contains(got.or, want.denied) {
		got.denied = want.denied
	}
	if got.denied != want.denied || !slices.Equal(got.warnings, want.warnings) {
		s.t.Errorf("%s\nSconce says       %q %q %v\nthe API server    %q %q", a.name, got.denied, got.warnings, verdicts, want.denied, want.warnings)
	}
}

// example is a policy, and requests of which one half is denied.
type example struct {
	name, policies string
	// setup is applied beside the policies: parameters, roles.
	setup    string
	good     []string
	bad      []string
	user     string
	groups   []string
	bindings map[v1alpha1.Action]string
}

const examplePod = `{apiVersion: v1, kind: Pod, metadata: {name: NAME, namespace: NS}, spec: {automountServiceAccountToken: false, containers: [{name: web, image: IMAGE}]}}`

func pod(name, image string) string {
	return strings.NewReplacer("NAME", name, "IMAGE", image).Replace(examplePod)
}

func deployment(name string, replicas int, labels string) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: NS, labels: {%s}}, spec: {replicas: %d, selector: {matchLabels: {app: a}},
  template: {metadata: {labels: {app: a}}, spec: {containers: [{name: web, image: registry.example.com/web:1}]}}}}`, name, labels, replicas)
}

// aPolicy writes a policy for one namespace.
func aPolicy(name, group, resource, spec string) string {
	return fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: %s}, spec: {
  matchConstraints: {resourceRules: [{apiGroups: [%q], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [%s]}]}, %s}}
---
`, name, group, resource, spec)
}

// aBinding binds a policy in the namespace of the test, for the users of tests.
func aBinding(name, policyName, spec string) string {
	return fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: %s}, spec: {policyName: %s, matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}}, %s}}
---
`, name, policyName, spec)
}

// notTheTest lets the client of the test through.
const notTheTest = `matchConditions: [{name: users, expression: "request.userInfo.username.startsWith('user:')"}]`

// examples are what the documentation of Kubernetes shows policies for.
var examples = []example{
	{
		name:     "replicas by a parameter",
		policies: aPolicy("replica-limit", "apps", "deployments", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas <= int(params.data.max)", messageExpression: "'no more than ' + params.data.max + ' replicas, not ' + string(object.spec.replicas)", reason: Forbidden}]`) + aBinding("replica-limit", "replica-limit", `validationActions: [Deny], paramRef: {name: limits, namespace: NS, parameterNotFoundAction: Deny}`),
		setup:    `{apiVersion: v1, kind: ConfigMap, metadata: {name: limits, namespace: NS}, data: {max: "5"}}`,
		good:     []string{deployment("few", 5, "")}, bad: []string{deployment("many", 6, "")},
	},
	{
		name:     "a parameter of each namespace",
		policies: aPolicy("own-limit", "apps", "deployments", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas <= int(params.data.max)"}]`) + aBinding("own-limit", "own-limit", `validationActions: [Deny], paramRef: {name: own, parameterNotFoundAction: Deny}`),
		setup:    `{apiVersion: v1, kind: ConfigMap, metadata: {name: own, namespace: NS}, data: {max: "2"}}`,
		good:     []string{deployment("few", 2, "")}, bad: []string{deployment("many", 3, "")},
	},
	{
		name:     "parameters by their labels",
		policies: aPolicy("any-limit", "apps", "deployments", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas % int(params.data.of) != 0", message: not a multiple}]`) + aBinding("any-limit", "any-limit", `validationActions: [Deny], paramRef: {selector: {matchLabels: {limit: "yes"}}, parameterNotFoundAction: Deny}`),
		setup:    "{apiVersion: v1, kind: ConfigMap, metadata: {name: two, namespace: NS, labels: {limit: \"yes\"}}, data: {of: \"2\"}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: three, namespace: NS, labels: {limit: \"yes\"}}, data: {of: \"3\"}}",
		good:     []string{deployment("five", 5, "")}, bad: []string{deployment("four", 4, ""), deployment("nine", 9, "")},
	},
	{
		name:     "no parameter where one must be",
		policies: aPolicy("no-limit", "apps", "deployments", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "true"}]`) + aBinding("no-limit", "no-limit", `validationActions: [Deny], paramRef: {name: nowhere, parameterNotFoundAction: Deny}`),
		bad:      []string{deployment("any", 1, "")},
	},
	{
		name:     "a parameter of the namespace where there is none",
		policies: aPolicy("role-limit", "rbac.authorization.k8s.io", "clusterroles", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "true"}]`) + aBinding("role-limit", "role-limit", `validationActions: [Deny], paramRef: {name: nowhere, parameterNotFoundAction: Allow}`),
		bad:      []string{`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: any}, rules: []}`},
	},
	{
		name:     "no parameter where none need be",
		policies: aPolicy("may-limit", "apps", "deployments", notTheTest+`, paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "false"}]`) + aBinding("may-limit", "may-limit", `validationActions: [Deny], paramRef: {name: nowhere, parameterNotFoundAction: Allow}`),
		good:     []string{deployment("any", 1, "")},
	},
	{
		name: "image repositories, with variables",
		policies: aPolicy("image-repos", "apps", "deployments", notTheTest+`, variables: [{name: environment, expression: "'environment' in namespaceObject.metadata.labels ? namespaceObject.metadata.labels['environment'] : 'prod'"},
    {name: exempt, expression: "has(object.metadata.labels) && 'exempt' in object.metadata.labels && object.metadata.labels['exempt'] == 'true'"},
    {name: containers, expression: "object.spec.template.spec.containers"},
    {name: containersToCheck, expression: "variables.containers.filter(c, c.image.contains('example.com/'))"}],
  validations: [{expression: "variables.exempt || variables.containersToCheck.all(c, c.image.startsWith(variables.environment + '.'))", messageExpression: "'only ' + variables.environment + ' images are allowed in ' + namespaceObject.metadata.name"}]`) + aBinding("image-repos", "image-repos", `validationActions: [Deny]`),
		good: []string{deployment("exempt", 1, `exempt: "true"`)}, bad: []string{deployment("other", 1, "")},
	},
	{
		name: "match conditions with the authorizer",
		policies: aPolicy("breakglass", "apps", "deployments", `matchConditions: [{name: users, expression: "request.userInfo.username.startsWith('user:')"}, {name: exclude-leases, expression: "!(request.resource.group == 'coordination.k8s.io' && request.resource.resource == 'leases')"},
    {name: rbac, expression: "request.resource.group != 'rbac.authorization.k8s.io'"}, {name: breakglass, expression: "!authorizer.group('admissionregistration.k8s.io').resource('validatingwebhookconfigurations').name('breakglass').check('breakglass').allowed()"}],
  validations: [{expression: "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':1'))"}]`) + aBinding("breakglass", "breakglass", `validationActions: [Deny]`),
		setup: roles("deployer", "{apiGroups: [apps], resources: [deployments], verbs: [create]}"),
		bad:   []string{deployment("no-glass", 1, "")}, user: "user:deployer", groups: []string{"deployers"},
	},
	{
		name: "one who may break the glass",
		policies: aPolicy("broken-glass", "apps", "deployments", `matchConditions: [{name: users, expression: "request.userInfo.username.startsWith('user:')"}, {name: breakglass, expression: "!authorizer.group('admissionregistration.k8s.io').resource('validatingwebhookconfigurations').name('breakglass').check('breakglass').allowed()"}],
  validations: [{expression: "false"}]`) + aBinding("broken-glass", "broken-glass", `validationActions: [Deny]`),
		setup: roles("breaker", "{apiGroups: [apps], resources: [deployments], verbs: [create]}, {apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations], verbs: [breakglass]}"),
		good:  []string{deployment("glass", 1, "")}, user: "user:breaker", groups: []string{"breakers"},
	},
	{
		name: "the right to the resource itself",
		policies: aPolicy("own-right", "", "pods", notTheTest+`, validations: [{expression: "authorizer.requestResource.check('delete').allowed()", message: who creates must be able to delete}, {expression: "authorizer.serviceAccount('NS', 'default').group('').resource('pods').check('create').reason() == ''"},
   {expression: "!authorizer.path('/metrics').check('get').allowed()"}]`) + aBinding("own-right", "own-right", `validationActions: [Deny]`),
		setup: roles("creator", `{apiGroups: [""], resources: [pods], verbs: [create]}`),
		bad:   []string{pod("mine", "a")}, user: "user:creator", groups: []string{"creators"},
	},
	{
		name: "warnings beside denials",
		policies: aPolicy("tags", "", "pods", notTheTest+`, validations: [{expression: "object.spec.containers.all(c, c.image.contains(':'))", message: a tag is missing}, {expression: "object.spec.containers.all(c, !c.image.endsWith(':latest'))", messageExpression: "object.spec.containers.filter(c, c.image.endsWith(':latest')).map(c, c.name).join(', ') + ' use latest'"}]`) +
			aBinding("tags-warn", "tags", `validationActions: [Warn, Audit]`) + `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: tags-deny}, spec: {policyName: tags, matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}, objectSelector: {matchLabels: {strict: "yes"}}}, validationActions: [Deny]}}`,
		good:     []string{pod("tagged", "a:1"), pod("latest", "a:latest"), pod("none", "a")},
		bad:      []string{strings.Replace(pod("strict", "a"), "namespace: NS", `namespace: NS, labels: {strict: "yes"}`, 1)},
		bindings: map[v1alpha1.Action]string{v1alpha1.Deny: "tags-deny", v1alpha1.Warn: "tags-warn"},
	},
	{
		name: "messages that cannot be used",
		policies: aPolicy("messages", "", "pods", notTheTest+`, validations: [{expression: "object.metadata.name != 'lines'", messageExpression: "'a\\nb'", message: said otherwise}, {expression: "object.metadata.name != 'errs'", messageExpression: "object.spec.nothing + 'x'"},
   {expression: "object.metadata.name != 'empty'", messageExpression: "'  '"}, {expression: "object.metadata.name != 'both'", message: " trimmed "}]`) + aBinding("messages", "messages", `validationActions: [Deny]`),
		good: []string{pod("fine", "a")}, bad: []string{pod("lines", "a"), pod("errs", "a"), pod("empty", "a"), pod("both", "a")},
	},
	{
		name: "what fails to evaluate",
		policies: aPolicy("errs", "", "pods", notTheTest+`, validations: [{expression: "object.metadata.name == 'a' || object.spec.nothing == 1"}]`) + aBinding("errs", "errs", `validationActions: [Deny]`) +
			aPolicy("errs-open", "", "pods", notTheTest+`, failurePolicy: Ignore, validations: [{expression: "object.spec.nothing == 1"}]`) + aBinding("errs-open", "errs-open", `validationActions: [Deny]`),
		good: []string{pod("a", "a")}, bad: []string{pod("b", "a")}, bindings: map[v1alpha1.Action]string{v1alpha1.Deny: "errs"},
	},
	{
		name:     "conditions that fail to evaluate",
		policies: aPolicy("cond", "", "pods", `matchConditions: [{name: users, expression: "request.userInfo.username.startsWith('user:')"}, {name: one, expression: "object.spec.nothing == 1"}, {name: two, expression: "object.metadata.labels.x == '1' "}], validations: [{expression: "true"}]`) + aBinding("cond", "cond", `validationActions: [Deny]`),
		bad:      []string{pod("a", "a"), strings.Replace(pod("b", "a"), "namespace: NS", `namespace: NS, labels: {x: "1"}`, 1)}, good: []string{strings.Replace(pod("c", "a"), "namespace: NS", `namespace: NS, labels: {x: "2"}`, 1)},
	},
	{
		name: "audit annotations",
		policies: aPolicy("annotated", "", "pods", notTheTest+`, auditAnnotations: [{key: image, valueExpression: "object.metadata.name == 'nil' ? '' : string(object.spec.containers[0].image)"}, {key: node, valueExpression: "object.metadata.name == 'errs' ? string(object.spec.nodeName) : ''"}]`) +
			aBinding("annotated", "annotated", `validationActions: [Audit]`),
		good: []string{pod("a", "a"), pod("nil", "a")},
	},
}

// roles lets a user do something in the namespace of the test.
func roles(name, rules string) string {
	return strings.ReplaceAll(fmt.Sprintf(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: NAME}, rules: [%s]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: NAME}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NAME}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "user:NAME"}]}`, rules), "NAME", name)
}

// put creates what a manifest holds.
func (s *vapServer) put(manifest string) []*object.Object {
	s.t.Helper()
	var out []*object.Object
	for _, u := range documents(s.t, strings.ReplaceAll(manifest, "NS", s.namespace)) {
		_, err := s.resource(s.client, u).Create(s.t.Context(), u, metav1.CreateOptions{})
		must(s.t, err)
		out = append(out, objectOf(s.t, u))
	}
	return out
}

// prepared is an example in a namespace of its own.
type prepared struct {
	*vapServer
	attempts []attempt
	requests []*policy.Request
	docs     []*object.Object
}

// prepare makes the requests of an example, before policies are in force.
func (s *vapServer) prepare(t *testing.T, e *example) *prepared {
	t.Helper()
	p := &prepared{vapServer: &vapServer{&policyServer{s.ControlPlane, s.client, s.Namespace(t)}, t, s.counts}}
	p.put(e.setup)
	cluster := &knownCluster{world{p.vapServer}, map[string][]*object.Object{}}
	for _, manifest := range slices.Concat(e.good, e.bad) {
		u := documents(t, strings.ReplaceAll(manifest, "NS", p.namespace))[0]
		a := attempt{u.GetName(), policy.Create, u, e.user, e.groups}
		if e.user == "" {
			a.user, a.groups = "user:ann", []string{"system:masters"}
		}
		r, err := p.request(a, cluster)
		must(t, err)
		p.attempts, p.requests = append(p.attempts, a), append(p.requests, r)
	}
	return p
}

// TestVAPExamples holds Sconce's answers for policies as Kubernetes documents
// them against the API server's.
func TestVAPExamples(t *testing.T) {
	s := &vapServer{startPolicies(t), t, map[string]int{}}
	var all []*prepared
	for i := range examples {
		all = append(all, s.prepare(t, &examples[i]))
	}
	for i := range examples {
		all[i].docs = all[i].put(examples[i].policies)
	}
	s.settle(t)
	for i, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			p := all[i]
			p.t = t
			set := vap.Load(p.docs, policy.Options{})
			if len(set.Problems) > 0 {
				t.Fatal(set.Problems)
			}
			bindings := e.bindings
			if bindings == nil {
				bindings = map[v1alpha1.Action]string{v1alpha1.Deny: p.docs[1].Name}
			}
			for i, a := range p.attempts {
				before := s.counts["denied"]
				p.judge(a, set, bindings, p.requests[i])
				if denied := s.counts["denied"] > before; denied != (i >= len(e.good)) {
					t.Errorf("%s was denied: %v", a.name, denied)
				}
			}
		})
	}
	t.Logf("%v", s.counts)
}

// thing is a kind of its own in two versions.
const thing = `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: things.example.com}, spec: {group: example.com, scope: Namespaced, names: {kind: Thing, plural: things},
  versions: [{name: v1, served: true, storage: true, schema: &s {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}, {name: v2, served: true, storage: false, schema: *s}]}}`

// vapGenerator makes random policies, bindings and requests.
type vapGenerator struct {
	*policyGenerator
	namespace string
}

// policy returns a policy for one user with one binding, as a manifest.
func (g *vapGenerator) policy(name string) string {
	p, b := g.policyGenerator.policy(name)
	if g.IntN(3) > 0 {
		r := &p.Spec.MatchConstraints.ResourceRules[0]
		r.APIGroups = []string{pick(g.policyGenerator, "*", "*", "*", "", "example.com")}
		r.Resources = []string{pick(g.policyGenerator, "*", "*", "*/*", "things", "pods")}
		r.Operations = []admissionregistrationv1.OperationType{pick(g.policyGenerator, admissionregistrationv1.OperationAll, admissionregistrationv1.OperationAll, admissionregistrationv1.Update)}
	}
	if g.IntN(4) == 0 {
		how := pick(g.policyGenerator, admissionregistrationv1.Exact, admissionregistrationv1.Equivalent)
		p.Spec.MatchConstraints.MatchPolicy = &how
	}
	if g.IntN(4) == 0 {
		b.Spec.ValidationActions[0] = "Warn"
	}
	tree := toTree(p)
	spec := tree["spec"].(map[string]any)
	bound := toTree(b)["spec"].(map[string]any)
	rule := spec["matchConstraints"].(map[string]any)["resourceRules"].([]any)[0].(map[string]any)
	if g.IntN(4) == 0 {
		rule["scope"] = pick(g.policyGenerator, "Namespaced", "Cluster", "*")
	}
	if g.IntN(8) == 0 {
		rule["resourceNames"] = []any{"request-1", "request-3", "request-7"}
	}
	if g.IntN(7) == 0 {
		spec["matchConstraints"].(map[string]any)["excludeResourceRules"] = []any{map[string]any{"apiGroups": []any{"*"}, "apiVersions": []any{pick(g.policyGenerator, "v1", "v2", "*")}, "operations": []any{pick(g.policyGenerator, "*", "DELETE", "UPDATE")}, "resources": []any{pick(g.policyGenerator, "pods", "things", "namespaces")}}}
	}
	if g.IntN(3) == 0 {
		spec["paramKind"] = map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}
		// One that is missing where it must not be would deny what other policies
		// of the test are asked about.
		ref := map[string]any{"parameterNotFoundAction": "Allow", "namespace": g.namespace}
		if g.IntN(2) == 0 {
			ref["name"] = pick(g.policyGenerator, "one", "two", "none")
		} else {
			ref["selector"] = map[string]any{"matchLabels": map[string]any{"set": pick(g.policyGenerator, "a", "b", "c")}}
		}
		if g.IntN(3) == 0 {
			delete(ref, "namespace")
		}
		if g.IntN(5) > 0 {
			bound["paramRef"] = ref
		}
		spec["validations"] = append(spec["validations"].([]any), map[string]any{"expression": "params.data.name == " + g.text(), "messageExpression": "'" + randomMessage + ": ' + params.data.name"})
	}
	if g.IntN(4) == 0 {
		resources, _ := bound["matchResources"].(map[string]any)
		if resources == nil {
			resources = map[string]any{}
			bound["matchResources"] = resources
		}
		resources["namespaceSelector"] = map[string]any{"matchExpressions": []any{map[string]any{"key": "kubernetes.io/metadata.name", "operator": pick(g.policyGenerator, "In", "NotIn"), "values": []any{g.namespace}}}}
	}
	if g.IntN(5) == 0 && b.Spec.ValidationActions[0] == admissionregistrationv1.Deny { // one that fails denies, whatever the action
		spec["auditAnnotations"] = []any{map[string]any{"key": "k", "valueExpression": "string(" + g.text() + ")"}}
	}
	if g.IntN(3) == 0 {
		spec["validations"] = append(spec["validations"].([]any), map[string]any{"expression": pick(g.policyGenerator, "request.kind.version == 'v1'", "request.requestKind.version == request.kind.version", "object == null || object.apiVersion != 'example.com/v2'",
			"request.namespace == '"+g.namespace+"'", "request.name.startsWith('request')", "request.resource.resource == 'pods'", "request.userInfo.groups.exists(x, x == 'system:masters')", "!has(request.subResource) || request.subResource == ''",
			"oldObject == null || object == null || object.metadata == oldObject.metadata", "object.metadata.namespace == namespaceObject.metadata.name", "has(namespaceObject.metadata.labels)", "object.?metadata.labels.orValue({}).all(k, k != 'app')")})
	}
	tree["spec"] = spec
	whole := toTree(b)
	whole["spec"] = bound
	return dump(tree) + "\n---\n" + dump(whole)
}

func toTree(v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}

func dump(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// thing returns a custom object.
func (g *vapGenerator) thing(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": pick(g.policyGenerator, "example.com/v1", "example.com/v2"), "kind": "Thing",
		"spec": map[string]any{"containers": []any{map[string]any{"name": "web", "image": "nginx"}}, "hostNetwork": g.IntN(2) == 0, "nodeName": nil},
	}}
	u.SetName(name)
	u.SetNamespace(g.namespace)
	if g.IntN(2) == 0 {
		u.SetLabels(map[string]string{"app": pick(g.policyGenerator, "web", "db")})
	}
	return u
}

// attempt returns a random request. What is changed or deleted is there before.
func (g *vapGenerator) attempt(s *vapServer, i int) attempt {
	name := fmt.Sprintf("request-%d", i)
	var u *unstructured.Unstructured
	switch g.IntN(6) {
	case 0, 1:
		u = g.thing(name)
	case 2:
		u = &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": map[string]any{"app": "web"}}}}
	default:
		p := g.pod(name)
		p.APIVersion, p.Kind, p.Namespace = "v1", "Pod", g.namespace
		no := false
		p.Spec.AutomountServiceAccountToken = &no
		u = &unstructured.Unstructured{Object: toTree(p)}
	}
	a := attempt{name: name, operation: pick(g.policyGenerator, policy.Create, policy.Create, policy.Update, policy.Delete), object: u}
	if a.operation != policy.Create {
		made, err := s.resource(s.client, u).Create(s.t.Context(), u, metav1.CreateOptions{})
		must(s.t, err)
		a.object = made
		if a.operation == policy.Update {
			a.object = made.DeepCopy()
			a.object.SetLabels(map[string]string{"app": pick(g.policyGenerator, "web", "db", "other")})
		}
	}
	a.name = fmt.Sprintf("%s of the %s %s", a.operation, u.GetKind(), name)
	return a
}

// TestVAPRandom holds Sconce's answers for random policies and requests against
// the API server's.
func TestVAPRandom(t *testing.T) {
	began := time.Now()
	s := &vapServer{startPolicies(t), t, map[string]int{}}
	s.put(thing)
	s.put("{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: NS, labels: {set: a}}, data: {name: web}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: two, namespace: NS, labels: {set: a}}, data: {name: request-1}}\n---\n" +
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: three, namespace: NS, labels: {set: b}}, data: {name: nginx}}")
	g := &vapGenerator{&policyGenerator{rand.New(rand.NewPCG(7, 42))}, s.namespace} // the same on every run
	sets := map[string]*policy.Set{}
	manifests := map[string]string{}
	for i := range 110 {
		name := fmt.Sprintf("random-%d", i)
		manifest := g.policy(name)
		docs := documents(t, manifest)
		set := vap.Load([]*object.Object{objectOf(t, docs[0]), objectOf(t, docs[1])}, policy.Options{})
		_, err := s.resource(s.client, docs[0]).Create(t.Context(), docs[0], metav1.CreateOptions{})
		if (err == nil) != (len(set.Rules) > 0) {
			t.Errorf("Sconce says %v of a policy of which the API server says %v: %s", set.Problems, err, manifest)
		}
		if err != nil {
			s.counts["refused"]++
			continue
		}
		_, err = s.resource(s.client, docs[1]).Create(t.Context(), docs[1], metav1.CreateOptions{})
		must(t, err)
		sets[name], manifests[name] = set, manifest
	}
	s.settle(t)
	s.waitForKind(t)
	names := slices.Sorted(maps.Keys(sets))
	cluster := &knownCluster{world{s}, map[string][]*object.Object{}}
	for i := range 16 {
		a := g.attempt(s, i)
		r, err := s.request(a, cluster)
		must(t, err)
		for _, name := range names {
			one := a
			one.user, one.groups, one.name = user+name, []string{"system:masters"}, name+": "+a.name
			request := &policy.Request{Object: r.Object, Old: r.Old, Operation: r.Operation, DryRun: true, Cluster: cluster,
				User: &authenticationv1.UserInfo{Username: one.user, Groups: []string{"system:masters", "system:authenticated"}}}
			failed := t.Failed()
			s.judge(one, sets[name], map[v1alpha1.Action]string{v1alpha1.Deny: name, v1alpha1.Warn: name}, request)
			if t.Failed() && !failed {
				t.Log(manifests[name])
			}
		}
	}
	t.Logf("%v in %v", s.counts, time.Since(began).Round(time.Second))
	for _, o := range []string{"pass", "fail", "unknown", "none", "denied", "warnings", "refused"} {
		if s.counts[o] == 0 {
			t.Errorf("nothing came out as %s: the policies are not random enough", o)
		}
	}
}

// waitForKind waits until the custom kind is served.
func (s *vapServer) waitForKind(t *testing.T) {
	t.Helper()
	must(t, wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, v := range []string{"v1", "v2"} {
			if _, err := s.client.Resource(schema.GroupVersionResource{Group: "example.com", Version: v, Resource: "things"}).List(ctx, metav1.ListOptions{}); err != nil {
				return false, nil
			}
		}
		return true, nil
	}))
}

// bare returns an object without what the API server writes into every one.
func bare(u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	for _, f := range []string{"uid", "creationTimestamp", "managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
	return u
}

// mutations are what mutating policies of the test do.
var mutations = []string{
	`{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh-proxy', image: 'mesh/proxy:v1', args: ['proxy', 'sidecar'], restartPolicy: 'Always'}]}}"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/spec/initContainers', value: [Object.spec.initContainers{name: 'proxy', image: 'proxy', restartPolicy: 'Always'}]}]"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/env'), value: 'test'}]"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "has(object.metadata.labels) ? [JSONPatch{op: 'test', path: '/metadata/labels/app', value: 'web'}, JSONPatch{op: 'replace', path: '/metadata/labels/app', value: 'changed'}] : [JSONPatch{op: 'add', path: '/metadata/labels', value: {'app': 'new'}}]"}}`,
	`{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'n': string(size(object.?metadata.labels.orValue({})))}}}"}}`,
	`{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{hostNetwork: true, terminationGracePeriodSeconds: 5, containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, imagePullPolicy: 'Always'})}}"}}`,
	`{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, securityContext: Object.spec.containers.securityContext{privileged: false}, env: [Object.spec.containers.env{name: 'WHO', value: request.userInfo.username}]})}}"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/spec/containers/0/resources/limits', value: {'cpu': '1'}}, JSONPatch{op: 'remove', path: '/spec/containers/0/resources/limits/cpu'}, JSONPatch{op: 'copy', from: '/metadata/name', path: '/spec/hostname'}]"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'remove', path: '/spec/nothing'}]"}}`,
	`{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'web', args: ['x']}]}}"}}`,
	`{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/spec/containers/0/name', value: object.spec.nothing}]"}}`,
}

// mutating returns a random policy for one user.
func (g *vapGenerator) mutating(name, of string) string {
	var all []string
	for range 1 + g.IntN(2) {
		all = append(all, mutations[g.IntN(len(mutations))])
	}
	more := ""
	if g.IntN(3) == 0 {
		more = `, {name: more, expression: "!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == 'mesh-proxy')"}`
	}
	return fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {name: %[1]s}, spec: {failurePolicy: %[2]s, reinvocationPolicy: %[3]s,
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]},
  matchConditions: [{name: user, expression: "request.userInfo.username == '%[4]s'"}%[5]s], mutations: [%[6]s]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: %[1]s}, spec: {policyName: %[1]s}}`,
		name, pick(g.policyGenerator, "Fail", "Fail", "Ignore"), pick(g.policyGenerator, "Never", "IfNeeded"), of, more, strings.Join(all, ", "))
}

// TestMAPRandom holds what Sconce makes of pods by random policies against what
// the API server makes of them.
func TestMAPRandom(t *testing.T) {
	began := time.Now()
	s := &vapServer{startPolicies(t), t, map[string]int{}}
	g := &vapGenerator{&policyGenerator{rand.New(rand.NewPCG(3, 9))}, s.namespace} // the same on every run
	sets := map[string]*policy.Set{}
	for i := range 50 {
		name := fmt.Sprintf("mutate-%d", i)
		manifest := g.mutating(name, user+name)
		var docs []*object.Object
		for _, u := range documents(t, manifest) {
			_, err := s.resource(s.client, u).Create(t.Context(), u, metav1.CreateOptions{})
			must(t, err)
			docs = append(docs, objectOf(t, u))
		}
		sets[name] = vap.Load(docs, policy.Options{})
		if len(sets[name].Problems) > 0 {
			t.Fatal(sets[name].Problems)
		}
	}
	s.settleMutating(t)
	for i := range 10 {
		p := g.pod(fmt.Sprintf("pod-%d", i))
		p.APIVersion, p.Kind, p.Namespace = "v1", "Pod", s.namespace
		no := false
		p.Spec.AutomountServiceAccountToken = &no
		u := &unstructured.Unstructured{Object: toTree(p)}
		stored, err := s.send(attempt{object: u}, s.client)
		must(t, err)
		for _, name := range slices.Sorted(maps.Keys(sets)) {
			s.mutate(attempt{name, policy.Create, u, user + name, []string{"system:masters"}}, sets[name], objectOf(t, bare(stored)))
		}
	}
	t.Logf("%v in %v", s.counts, time.Since(began).Round(time.Second))
	for _, o := range []string{"changed", "same", "refused"} {
		if s.counts[o] == 0 {
			t.Errorf("nothing came out as %s: the policies are not random enough", o)
		}
	}
}

// settleMutating waits until the API server does what mutating policies that were
// applied before say.
func (s *vapServer) settleMutating(t *testing.T) {
	t.Helper()
	s.put(`{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {name: settled}, spec: {failurePolicy: Fail, reinvocationPolicy: Never,
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]},
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{metadata: Object.metadata{labels: {'settled': 'yes'}}}"}}]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: settled}, spec: {policyName: settled}}`)
	u := documents(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: settled, namespace: "+s.namespace+"}}")[0]
	must(t, wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		out, err := s.send(attempt{object: u}, s.client)
		return err == nil && out.GetLabels()["settled"] == "yes", nil
	}))
}

// mutate holds what Sconce makes of an object against what the API server does.
func (s *vapServer) mutate(a attempt, set *policy.Set, o *object.Object) {
	s.t.Helper()
	client, _ := s.as(a.user, a.groups...)
	theirs, err := s.send(a, client)
	r := &policy.Request{Object: o, User: &authenticationv1.UserInfo{Username: a.user, Groups: a.groups}, DryRun: true}
	changed, v := vap.Mutate(s.t.Context(), set.Mutators, r)
	if v.Outcome == verdict.Unknown {
		s.counts["refused"]++
		if err == nil || !strings.Contains(policy.Reworded(err.Error()), v.Findings[0].Message) {
			s.t.Errorf("%s of %s: Sconce says %v, the API server %v", a.name, a.object.GetName(), v, err)
		}
		return
	}
	mine := a.object
	if s.counts["same"]++; changed != nil {
		s.counts["same"]--
		s.counts["changed"]++
		mine = &unstructured.Unstructured{Object: changed.Any().(map[string]any)}
	}
	// The defaults of what is new are the API server's business.
	want, err2 := s.send(attempt{object: mine}, s.client)
	if (err == nil) != (err2 == nil) {
		s.t.Errorf("%s of %s: what Sconce makes of it comes to %v, what the API server does to %v", a.name, a.object.GetName(), err2, err)
		return
	}
	if err == nil && dump(bare(theirs)) != dump(bare(want)) {
		s.t.Errorf("%s of %s: Sconce makes\n%s\nthe API server\n%s", a.name, a.object.GetName(), dump(bare(want)), dump(bare(theirs)))
	}
}
