// SPDX-License-Identifier: Apache-2.0

package vap_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	enginepolicy "sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// read returns the objects of a manifest. A value {unknown: reason} is one that
// is not known.
func read(tb testing.TB, manifest string) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for text := range object.Split([]byte(manifest)) {
		root, err := object.ParseYAML(text)
		if err != nil {
			tb.Fatal(err)
		}
		if root == nil || root.Kind == object.Null {
			continue
		}
		objects, err := object.FromNode(forget(root), &object.Origin{Source: "test.yaml", Text: text.Bytes, FirstLine: text.Line})
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

func forget(n *object.Node) *object.Node {
	if reason := n.Get("unknown"); reason != nil {
		return object.NewUnknown(reason.Str())
	}
	for i := range n.Fields {
		n.Fields[i].Value = forget(n.Fields[i].Value)
	}
	for i := range n.Items {
		n.Items[i] = forget(n.Items[i])
	}
	return n
}

// cluster is what is known of one in a test.
type cluster struct {
	objects  []*object.Object
	complete bool
	// can are the names of who may do everything.
	can []string
}

// Objects implements policy.Cluster.
func (c *cluster) Objects(gk object.GroupKind, namespace string) (out []*object.Object, all bool) {
	for _, o := range c.objects {
		if o.GroupKind() == gk && (namespace == "" || o.Namespace == namespace) {
			out = append(out, o)
		}
	}
	return out, c.complete
}

// Kinds implements policy.Cluster.
func (c *cluster) Kinds(object.GroupKind) ([]object.GroupKind, bool) { return nil, false }

// Can implements policy.Cluster.
func (c *cluster) Can(who *authenticationv1.UserInfo, what rbac.Request) (allowed, known bool) {
	return slices.Contains(c.can, who.Username), what.Verb != "unknown"
}

// load loads a manifest in which everything is valid.
func load(tb testing.TB, manifest string) *enginepolicy.Set {
	tb.Helper()
	set := vap.Load(read(tb, manifest), enginepolicy.Options{Timeout: time.Minute})
	for _, p := range set.Problems {
		tb.Fatalf("%s: %s", p.Object, p.Message)
	}
	return set
}

// about is what policies of tests are about.
const about = `matchConstraints: {resourceRules: [{apiGroups: ["", apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, deployments, namespaces, secrets]}]}`

// validatingPolicy is a policy with a spec.
func validatingPolicy(name, spec string) string {
	if !strings.Contains(spec, "matchConstraints") {
		spec = about + ", " + spec
	}
	return fmt.Sprintf("---\n{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: %s}, spec: {%s}}\n", name, spec)
}

// bindingOf is a binding of the policy p.
func bindingOf(name, spec string) string {
	return fmt.Sprintf("---\n{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: %s}, spec: {policyName: p, %s}}\n", name, spec)
}

const web = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop, labels: {app: web}},
  spec: {replicas: 7, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: a/b}, {name: side, image: c/d, env: [{name: X, value: z}]}],
    initContainers: [{name: init, image: e/f}]}}}}`

const shop = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {env: prod}}}\n"

// say returns a verdict in one line.
func say(v control.Verdict, applies bool) string {
	if !applies {
		return "none"
	}
	out := []string{string(v.Outcome)}
	for _, f := range v.Findings {
		out = append(out, fmt.Sprintf("%s at %q: %s", f.Outcome, f.Path, f.Message))
	}
	return strings.Join(out, "; ")
}

// TestRules holds what rules say of one object, by what is known.
func TestRules(t *testing.T) {
	limit := func(more string) string {
		return "---\n{apiVersion: example.com/v1, kind: Limit, metadata: {name: few, labels: {env: prod}}, maxReplicas: 5" + more + "}\n"
	}
	limited := validatingPolicy("p", `paramKind: {apiVersion: example.com/v1, kind: Limit}, validations: [{expression: "object.spec.replicas <= params.maxReplicas", messageExpression: "'at most ' + string(params.maxReplicas)"}]`)
	for _, c := range []struct {
		name, policies, object, cluster string
		complete                        bool
		user                            string
		can                             []string
		want                            string
	}{
		{name: "passes", policies: validatingPolicy("p", `validations: [{expression: "object.spec.replicas < 10"}]`), want: "pass"},
		{name: "fails, without a binding", policies: validatingPolicy("p", `validations: [{expression: "object.spec.replicas < 5"}]`), want: `fail; fail at "spec.replicas": failed expression: object.spec.replicas < 5`},
		{name: "errs", policies: validatingPolicy("p", `validations: [{expression: "object.spec.paused == true"}]`), want: `unknown; unknown at "spec": no such key: paused, in the expression object.spec.paused == true`},
		{name: "a field that is empty is not there", policies: validatingPolicy("p", `validations: [{expression: "!has(object.spec.minReadySeconds)"}]`), object: strings.Replace(web, "replicas: 7", "minReadySeconds: 0", 1), want: "pass"},
		{name: "a type that is wrong", policies: validatingPolicy("p", `validations: [{expression: "true"}]`), object: strings.Replace(web, "replicas: 7", "replicas: many", 1), want: `unknown; unknown at "": the object is not a valid Deployment: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`},
		{name: "the container", policies: validatingPolicy("p", `validations: [{expression: "object.spec.template.spec.containers.all(c, c.image.startsWith('a/'))", message: "image"}]`), want: `fail; fail at "spec.template.spec.containers[side].image": image`},
		{name: "not exists", policies: validatingPolicy("p", `validations: [{expression: "!object.spec.template.spec.containers.exists(c, c.?env.orValue([]).exists(e, e.value == 'z'))", message: "env"}]`),
			want: `fail; fail at "spec.template.spec.containers[side].env[X].value": env`},
		{name: "a variable of several lists", policies: validatingPolicy("p", `variables: [{name: s, expression: "object.spec.template.spec"}, {name: all, expression: "variables.s.containers + variables.s.?initContainers.orValue([])"}],
  validations: [{expression: "variables.all.all(c, !c.image.startsWith('e/'))", message: "image"}]`), want: `fail; fail at "spec.template.spec.initContainers[init].image": image`},
		{name: "filtered", policies: validatingPolicy("p", `validations: [{expression: "object.spec.template.spec.containers.filter(c, c.name != 'app').all(c, !c.image.startsWith('c/'))", message: "image"}]`),
			want: `fail; fail at "spec.template.spec.containers[side].image": image`},
		{name: "the operand", policies: validatingPolicy("p", `validations: [{expression: "object.metadata.labels.app == 'web' && (object.spec.replicas < 3 || object.spec.replicas == 9)", message: "m"}]`), want: `fail; fail at "spec.replicas": m`},
		{name: "operations", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: ["*"], operations: [UPDATE], resources: [deployments]}]}, validations: [{expression: "false"}]`), want: "none"},
		{name: "selected", policies: validatingPolicy("p", `validations: [{expression: "false", message: nope}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {objectSelector: {matchLabels: {app: web}}}`), want: `fail; fail at "": nope`},
		{name: "not selected", policies: validatingPolicy("p", `validations: [{expression: "false"}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {objectSelector: {matchLabels: {app: db}}}`), want: "none"},
		{name: "labels not known", policies: validatingPolicy("p", `validations: [{expression: "false"}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {objectSelector: {matchLabels: {app: db}}}`),
			object: strings.Replace(web, "app: web}}", "app: {unknown: template}}}", 1), want: `unknown; unknown at "": whether the binding b is about the object: the label app is not known`},
		{name: "a name is excluded", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: ["*"], resources: [deployments]}], excludeResourceRules: [{resourceNames: [web], apiGroups: [apps], apiVersions: [v1], operations: ["*"], resources: [deployments]}]}, validations: [{expression: "false"}]`), want: "none"},
		{name: "a name that is generated", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{resourceNames: [web], apiGroups: [apps], apiVersions: [v1], operations: ["*"], resources: [deployments]}]}, validations: [{expression: "false"}]`),
			object: strings.Replace(web, "name: web", "generateName: web", 1), want: `unknown; unknown at "": whether the policy is about the object: the name that the API server generates is not known`},
		{name: "namespace not known", policies: validatingPolicy("p", `validations: [{expression: "namespaceObject.metadata.labels.env == 'prod'"}]`), want: `unknown; unknown at "": the namespace shop, which is not among what was read, is needed`},
		{name: "namespace known", policies: validatingPolicy("p", `validations: [{expression: "namespaceObject.metadata.labels.env == 'test'", message: m}]`), cluster: shop, want: `fail; fail at "": m`},
		{name: "selector of namespaces", policies: validatingPolicy("p", `validations: [{expression: "false"}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {env: test}}}`), cluster: shop, want: "none"},
		{name: "selector by the name of the namespace", policies: validatingPolicy("p", `validations: [{expression: "false", message: m}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}`), cluster: shop, want: `fail; fail at "": m`},
		{name: "selector of namespaces, not known", policies: validatingPolicy("p", `validations: [{expression: "false"}]`) + bindingOf("b", `validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {env: test}}}`),
			want: `unknown; unknown at "": whether the binding b is about the object: the namespace shop, which is not among what was read, is needed`},
		{name: "user not known", policies: validatingPolicy("p", `matchConditions: [{name: a, expression: "!('system:nodes' in request.userInfo.groups)"}], validations: [{expression: "false"}]`), want: `unknown; unknown at "": who asks (request.userInfo) is not known`},
		{name: "user does not matter", policies: validatingPolicy("p", `validations: [{expression: "object.spec.replicas == 7 || request.userInfo.username == 'ann'"}]`), want: "pass"},
		{name: "whether the user has groups", policies: validatingPolicy("p", `validations: [{expression: "has(request.userInfo.groups)"}]`), want: `unknown; unknown at "": who asks (request.userInfo) is not known`},
		{name: "user known", policies: validatingPolicy("p", `validations: [{expression: "request.userInfo.username == 'ann'", message: m}]`), user: "joe", want: `fail; fail at "": m`},
		{name: "rights", policies: validatingPolicy("p", `validations: [{expression: "authorizer.group('apps').resource('deployments').check('delete').allowed()", message: m}]`), user: "joe", cluster: shop, can: []string{"ann"}, want: `fail; fail at "": m`},
		{name: "rights that are held", policies: validatingPolicy("p", `validations: [{expression: "authorizer.requestResource.check('delete').allowed()"}]`), user: "ann", cluster: shop, can: []string{"ann"}, want: "pass"},
		{name: "rights not known", policies: validatingPolicy("p", `validations: [{expression: "authorizer.requestResource.check('unknown').allowed()"}]`), user: "ann", cluster: shop, want: `unknown; unknown at "": whether ann may unknown deployments is not known`},
		{name: "rights of nobody", policies: validatingPolicy("p", `validations: [{expression: "authorizer.requestResource.check('delete').allowed()"}]`), cluster: shop, want: `unknown; unknown at "": who asks, and so what they may do, is needed`},
		{name: "rights of an account", policies: validatingPolicy("p", `validations: [{expression: "authorizer.serviceAccount('shop', 'web').path('/x').check('get').allowed()"}]`), user: "joe", cluster: shop, can: []string{"system:serviceaccount:shop:web"}, want: "pass"},
		{name: "a parameter among the policies", policies: limited + limit("") + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, parameterNotFoundAction: Deny}`), want: `fail; fail at "spec.replicas": at most 5`},
		{name: "a parameter of the cluster", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {selector: {matchLabels: {env: prod}}, parameterNotFoundAction: Deny}`), cluster: limit(""), complete: true, want: `fail; fail at "spec.replicas": at most 5`},
		{name: "perhaps more parameters", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {selector: {}, parameterNotFoundAction: Deny}`), cluster: strings.Replace(limit(""), "5", "9", 1), want: `unknown; unknown at "": whether there are more parameters is not known`},
		{name: "no parameter", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, parameterNotFoundAction: Deny}`), cluster: shop, complete: true,
			want: "unknown; unknown at \"\": failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		{name: "no parameter is needed", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, parameterNotFoundAction: Allow}`), cluster: shop, complete: true, want: "none"},
		{name: "a parameter that is not known", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, parameterNotFoundAction: Allow}`), want: `unknown; unknown at "": the parameter of the binding, Limit few, which is not among what was read, is needed`},
		{name: "a part of a parameter is not known", policies: limited + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, parameterNotFoundAction: Deny}`), cluster: strings.Replace(limit(""), "5", "{unknown: template}", 1), want: `unknown; unknown at "spec.replicas": template is not known`},
		{name: "a parameter of another namespace", policies: limited + limit("") + bindingOf("b", `validationActions: [Deny], paramRef: {name: few, namespace: other, parameterNotFoundAction: Allow}`), cluster: strings.Replace(limit(""), "name: few", "name: few, namespace: shop", 1) + shop, complete: true,
			want: `fail; fail at "spec.replicas": at most 5`},
		{name: "a part that matters is not known", policies: validatingPolicy("p", `validations: [{expression: "object.spec.replicas < 10"}]`), object: strings.Replace(web, "replicas: 7", "replicas: {unknown: template}", 1), want: `unknown; unknown at "spec.replicas": template is not known`},
		{name: "a part that does not matter is not known", policies: validatingPolicy("p", `validations: [{expression: "object.spec.replicas < 10"}]`), object: strings.Replace(web, "image: a/b", "image: {unknown: template}", 1), want: "pass"},
		{name: "an item that matters is not known", policies: validatingPolicy("p", `validations: [{expression: "object.spec.template.spec.containers.all(c, c.name != '')"}]`), object: strings.Replace(web, "{name: app, image: a/b}", "{unknown: template}", 1), want: `unknown; unknown at "spec.template.spec.containers": template is not known`},
		{name: "the namespace is not told", policies: validatingPolicy("p", `validations: [{expression: "object.metadata.namespace != 'default'"}]`), object: strings.Replace(web, ", namespace: shop", "", 1), want: `unknown; unknown at "metadata": the namespace that it is put into is not known`},
		{name: "the namespace is not told, nor asked for", policies: validatingPolicy("p", `variables: [{name: any, expression: "object == null ? oldObject : object"}],
  validations: [{expression: "has(object.metadata) && object.?metadata.hasValue() && has(variables.any.spec) && variables.any.spec.replicas < 9"}]`), object: strings.Replace(web, ", namespace: shop", "", 1), want: "pass"},
		{name: "how much of the metadata there is", policies: validatingPolicy("p", `validations: [{expression: "size(object.metadata) > 2"}]`), object: strings.Replace(web, ", namespace: shop", "", 1), want: `unknown; unknown at "metadata": the namespace that it is put into is not known`},
		{name: "an older version", policies: validatingPolicy("p", `validations: [{expression: "request.kind.version == 'v1' && request.requestKind.version == 'v1beta1' && object.apiVersion == 'apps/v1' && object.spec.replicas < 3", message: m}]`),
			object: strings.Replace(web, "apps/v1", "extensions/v1beta1", 1), want: `fail; fail at "spec.replicas": m`},
		{name: "an older version, exactly", policies: validatingPolicy("p", strings.Replace(about, "{resource", "{matchPolicy: Exact, resource", 1)+`, validations: [{expression: "false"}]`), object: strings.Replace(web, "apps/v1", "extensions/v1beta1", 1), want: "none"},
		{name: "a version that only the API server makes", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [autoscaling], apiVersions: [v1], operations: ["*"], resources: ["*"]}]}, validations: [{expression: "false"}]`),
			object: `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web, namespace: shop}}`,
			want:   `unknown; unknown at "": the policy is about autoscaling/v1, into which only the API server converts a autoscaling/v2, Kind=HorizontalPodAutoscaler`},
		{name: "a custom kind in another version", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [example.com], apiVersions: [v1], operations: ["*"], resources: [things]}]}, validations: [{expression: "false"}]`),
			object: `{apiVersion: example.com/v2, kind: Thing, metadata: {name: a, namespace: shop}}`,
			want:   `unknown; unknown at "": whether the policy is about the object: the versions of Thing.example.com, whose CustomResourceDefinition is not among what was read, is needed`},
		{name: "a custom kind that is defined", policies: validatingPolicy("p", `matchConstraints: {resourceRules: [{apiGroups: [example.com], apiVersions: [v1], operations: ["*"], resources: [oxen], scope: Cluster}]}, validations: [{expression: "object.apiVersion != 'example.com/v1'", message: m}]`),
			object:  `{apiVersion: example.com/v2, kind: Ox, metadata: {name: a}}`,
			cluster: `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: oxen.example.com}, spec: {group: example.com, scope: Cluster, names: {kind: Ox, plural: oxen}, versions: [{name: v1, served: true}, {name: v2, served: true}]}}`,
			want:    `fail; fail at "apiVersion": m`},
		{name: "a namespace itself", policies: validatingPolicy("p", `validations: [{expression: "namespaceObject == null && request.namespace == 'shop'"}]`), object: strings.TrimPrefix(shop, "---\n"), want: "pass"},
		{name: "a secret is not shown", policies: validatingPolicy("p", `validations: [{expression: "int(object.data.pin) > 3"}]`), object: `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: shop}, data: {pin: aHVudGVyMg==}}`,
			want: `unknown; unknown at "data.pin": what fails may hold values of the Secret, and is left out, in the expression int(object.data.pin) > 3`},
		{name: "unbound with its only parameter", policies: unboundWith(1), want: `fail; fail at "spec.replicas": not allowed`},
		{name: "unbound with several parameters", policies: unboundWith(2), want: `unknown; unknown at "": no binding says which ConfigMap is the parameter of the policy`},
		{name: "unbound without a parameter", policies: unboundWith(0), want: `unknown; unknown at "": no binding says which ConfigMap is the parameter of the policy`},
		{name: "an annotation that fails", policies: validatingPolicy("p", `auditAnnotations: [{key: k, valueExpression: "string(object.spec.nothing)"}]`), want: `unknown; unknown at "": no such key: nothing, in the expression string(object.spec.nothing)`},
		{name: "too dear", policies: validatingPolicy("p", `validations: [{expression: "`+strings.Repeat("[1,2,3,4,5,6,7,8,9,10].all(x, ", 6)+"x > 0"+strings.Repeat(")", 6)+`"}]`),
			want: `unknown; unknown at "": operation cancelled: actual cost limit exceeded, in the expression [1,2,3,4,5,6,7,8,9,10].all(x, [1,2,3,4,5,6,7,8,9,10].all(x,…`},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := load(t, c.policies)
			o := web
			if c.object != "" {
				o = c.object
			}
			r := &enginepolicy.Request{Object: read(t, o)[0]}
			if c.cluster != "" {
				r.Cluster = &cluster{read(t, c.cluster), c.complete, c.can}
			}
			if c.user != "" {
				r.User = &authenticationv1.UserInfo{Username: c.user}
			}
			if !set.Rules[0].Matches(r.Object.GroupKind()) {
				t.Error("the rule does not match the kind")
			}
			if got := say(set.Rules[0].Judge(t.Context(), r)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestActions holds that bindings with a milder action are rules of their own,
// and what rules say of themselves.
func TestActions(t *testing.T) {
	set := load(t, `---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: ValidatingAdmissionPolicy
metadata:
  name: p
  annotations: {policies.kyverno.io/title: Few, policies.kyverno.io/severity: High, policies.kyverno.io/category: Cost, policies.kyverno.io/description: Not many.}
spec:
  failurePolicy: Ignore
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: ["*"], resources: [deployments]}]}
  validations: [{expression: "namespaceObject != null && request.userInfo.username != '' && authorizer.path('/').check('get').allowed()"}]
`+bindingOf("warns", "validationActions: [Warn, Audit]")+bindingOf("denies", "validationActions: [Deny], paramRef: {name: x, parameterNotFoundAction: Deny}")+bindingOf("also-warns", "validationActions: [Warn]"))
	var got []string
	for _, r := range set.Rules {
		i := r.Info()
		got = append(got, fmt.Sprintf("%s %s %s %s %s %s %s %v %s", i.Name, i.Action, i.FailurePolicy, i.Severity, i.Title, i.Topic, i.Description, i.Needs, i.Position.File))
	}
	want := []string{
		"vap.p deny Ignore high Few Cost Not many. In force through denies. {true [{ ConfigMap}] false false true true} test.yaml",
		"vap.p.warn warn Ignore high Few Cost Not many. In force through also-warns, warns. {true [] false false true true} test.yaml",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for gk, want := range map[object.GroupKind]bool{{Group: "apps", Kind: "Deployment"}: true, {Group: "extensions", Kind: "Deployment"}: true, {Kind: "Pod"}: false, {Group: "apps", Kind: "StatefulSet"}: false} {
		if got := set.Rules[0].Matches(gk); got != want {
			t.Errorf("%v: matches: %v, want %v", gk, got, want)
		}
	}
}

// TestProblems holds what is refused, and why.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, manifest, want string }{
		{"an expression", validatingPolicy("p", `validations: [{expression: "object."}]`), "validation: "},
		{"a field that there is not", validatingPolicy("p", `validation: [{expression: "true"}]`), `unknown field "validation"`},
		{"nothing to do", validatingPolicy("p", `failurePolicy: Fail`), "both empty"},
		{"about nothing", validatingPolicy("p", `matchConstraints: {}, validations: [{expression: "true"}]`), "resourceRules is empty"},
		{"a selector", validatingPolicy("p", `matchConstraints: {objectSelector: {matchExpressions: [{key: a, operator: Is}]}, resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: ["*"], resources: [deployments]}]}, validations: [{expression: "true"}]`), "objectSelector"},
		{"a version", strings.Replace(validatingPolicy("p", `validations: [{expression: "true"}]`), "k8s.io/v1", "k8s.io/v3", 1), "not one of v1"},
		{"a template", validatingPolicy("p", `validations: [{expression: {unknown: template}}]`), "template"},
		{"twice", strings.Repeat(validatingPolicy("p", `validations: [{expression: "true"}]`), 2), "read before"},
		{"no policy", bindingOf("b", "validationActions: [Deny]"), "has no effect"},
		{"no action", bindingOf("b", "validationActions: []"), "validationActions is empty"},
		{"both actions", bindingOf("b", "validationActions: [Deny, Warn]"), "must not both"},
		{"a reference", bindingOf("b", "validationActions: [Deny], paramRef: {}"), "paramRef"},
		{"a policy of failures", validatingPolicy("p", `failurePolicy: Perhaps, validations: [{expression: "true"}]`), "failurePolicy"},
		{"no mutations", strings.Replace(validatingPolicy("p", `reinvocationPolicy: Never`), "Validating", "Mutating", 1), "mutations is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := vap.Load(read(t, c.manifest), enginepolicy.Options{})
			if len(set.Problems) == 0 || !strings.Contains(set.Problems[0].Message, c.want) {
				t.Errorf("got %v, want a problem that says %q", set.Problems, c.want)
			}
		})
	}
}

// TestExpressionProblems holds that each wrong expression is told by itself, in one
// line, where it stands.
func TestExpressionProblems(t *testing.T) {
	set := vap.Load(read(t, validatingPolicy("p", `validations: [
  {expression: "object.spec.replicas <= "},
  {expression: "objct.spec.replicas <= 5 || x"}]`)), enginepolicy.Options{})
	var got []string
	first := 0
	for _, p := range set.Problems {
		first = cmp.Or(first, p.Position.Line)
		got = append(got, fmt.Sprintf("+%d: %s", p.Position.Line-first, p.Message))
	}
	want := []string{
		"+0: policy p does not compile: validation: compilation failed: 1:25: Syntax error: mismatched input '<EOF>' expecting",
		"+1: policy p does not compile: validation: compilation failed: 1:1: undeclared reference to 'objct' (in container ''); 1:29: undeclared reference to 'x' (in container '')",
	}
	if len(got) < len(want) {
		t.Fatalf("got %q", got)
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], w) || strings.Contains(got[i], "\n") {
			t.Errorf("got  %q\nwant %q", got[i], w)
		}
	}
}

// TestMutators holds what mutators make of an object.
func TestMutators(t *testing.T) {
	mutating := func(name, spec string) string {
		return fmt.Sprintf("---\n{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {name: %s}, spec: {%s, %s}}\n", name, about, spec)
	}
	for _, c := range []struct{ name, policies, object, want string }{
		{name: "a sidecar", policies: mutating("p", `reinvocationPolicy: IfNeeded, matchConditions: [{name: once, expression: "!object.spec.template.spec.initContainers.exists(c, c.name == 'mesh')"}],
  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{initContainers: [Object.spec.template.spec.initContainers{name: 'mesh', image: 'mesh:1', restartPolicy: 'Always'}]}}}}"}}]`),
			want: `pass; spec.template.spec.initContainers = [{"name":"init","image":"e/f"},{"image":"mesh:1","name":"mesh","resources":{},"restartPolicy":"Always"}]`},
		{name: "a label", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/x'), value: 'y'}]"}}]`),
			want: `pass; metadata.labels = {"app":"web","example.com/x":"y"}`},
		{name: "what it may not", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}"}}]`),
			want: `unknown: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector`},
		{name: "nothing", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'test', path: '/spec/replicas', value: 9}, JSONPatch{op: 'remove', path: '/spec/replicas'}]"}}]`), want: `pass`},
		{name: "user not known", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/by', value: request.userInfo.username}]"}}]`), want: `unknown: who asks (request.userInfo) is not known`},
		{name: "a part is not known", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/x', value: 'y'}]"}}]`), object: strings.Replace(web, "image: a/b", "image: {unknown: template}", 1),
			want: `pass; metadata.labels = {"app":"web","x":"y"}`},
		{name: "the part is not known", policies: mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/spec/replicas', value: 3}]"}}]`), object: strings.Replace(web, "replicas: 7", "replicas: {unknown: template}", 1),
			want: `unknown: the policy changes a value that is not known: template`},
		{name: "a custom kind", policies: strings.Replace(mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{size: 3}}"}}, {patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/spec/tags/-', value: 'c'}]"}}]`), about, `matchConstraints: {resourceRules: [{apiGroups: [example.com], apiVersions: [v1], operations: ["*"], resources: [things]}]}`, 1),
			object: `{apiVersion: example.com/v1, kind: Thing, metadata: {name: a, namespace: shop}, spec: {size: 1, tags: [a, b]}}`, want: `pass; spec.size = 3; spec.tags = ["a","b","c"]`},
		{name: "a list of a custom kind", policies: strings.Replace(mutating("p", `reinvocationPolicy: Never, mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: "Object{spec: Object.spec{tags: ['c']}}"}}]`), about, `matchConstraints: {resourceRules: [{apiGroups: [example.com], apiVersions: [v1], operations: ["*"], resources: [things]}]}`, 1),
			object: `{apiVersion: example.com/v1, kind: Thing, metadata: {name: a, namespace: shop}, spec: {tags: [a]}}`,
			want:   `unknown: the schema of Thing.example.com is not known, which says how lists are merged`},
		{name: "again", policies: mutating("a", `reinvocationPolicy: IfNeeded, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + size(object.metadata.labels)}]"}}]`) +
			mutating("b", `reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'add', path: '/metadata/labels/b', value: 'b'}]"}}]`),
			want: `pass; metadata.labels = {"app":"web","b":"b"}; spec.replicas = 10`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := read(t, web)[0]
			if c.object != "" {
				o = read(t, c.object)[0]
			}
			changed, v := vap.Mutate(t.Context(), load(t, c.policies).Mutators, &enginepolicy.Request{Object: o})
			got := string(v.Outcome)
			for _, f := range v.Findings {
				got += ": " + f.Message
			}
			if changed != nil {
				got += differences(o.Root, changed, "")
			}
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// differences are the smallest values that differ, but for items of lists.
func differences(a, b *object.Node, path string) (out string) {
	if a != nil && a.Kind == object.Map && b.Kind == object.Map && path != "metadata.labels." {
		for _, f := range b.Fields {
			out += differences(a.Get(f.Key), f.Value, path+f.Key+".")
		}
		return out
	}
	if a == nil || string(a.JSON()) != string(b.JSON()) {
		return fmt.Sprintf("; %s = %s", strings.TrimSuffix(path, "."), b.JSON())
	}
	return ""
}

// TestOutcomes holds that no action and no outcome is lost on the way.
func TestOutcomes(t *testing.T) {
	set := load(t, validatingPolicy("p", `validations: [{expression: "false", message: a}, {expression: "object.spec.nothing == 1"}, {expression: "true"}]`))
	v, applies := set.Rules[0].Judge(t.Context(), &enginepolicy.Request{Object: read(t, web)[0]})
	if !applies || v.Outcome != verdict.Fail || len(v.Findings) != 2 || set.Rules[0].Info().Action != v1alpha1.Deny {
		t.Errorf("got %v", v)
	}
}

// TestConcurrent holds that rules share a request.
func TestConcurrent(t *testing.T) {
	set := load(t, validatingPolicy("p", `paramKind: {apiVersion: v1, kind: ConfigMap}, variables: [{name: c, expression: "object.spec.template.spec.containers"}], validations: [{expression: "variables.c.all(c, c.image != '') && request.name == 'web' && namespaceObject.metadata.name == params.data.name"}]`)+
		bindingOf("b", "validationActions: [Deny], paramRef: {name: x, parameterNotFoundAction: Deny}"))
	r := &enginepolicy.Request{Object: read(t, web)[0], Cluster: &cluster{objects: read(t, shop+"---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: shop}, data: {name: shop}}"), complete: true}}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if got := say(set.Rules[0].Judge(t.Context(), r)); got != "pass" {
				t.Error(got)
			}
		})
	}
	wait.Wait()
}

// unboundWith returns a policy that no binding gives a parameter, and some objects
// of the kind that its parameter is of.
func unboundWith(params int) string {
	out := validatingPolicy("p", `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "object.spec.replicas > int(params.data.max)", message: not allowed}]`)
	for i := range params {
		out += fmt.Sprintf("---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: p%d}, data: {max: \"100\"}}\n", i)
	}
	return out
}

// TestUnbound holds that it is told of a policy that no binding puts in force, and
// with what it is judged.
func TestUnbound(t *testing.T) {
	for params, want := range map[int]string{
		0: "what needs its parameter is unknown, since there is no ConfigMap", 1: "with the parameter ConfigMap p0", 2: "no binding says which of 2 objects",
	} {
		set := vap.Load(read(t, unboundWith(params)), enginepolicy.Options{})
		if got := set.Rules[0].Info().Unbound; !strings.Contains(got, "as if one did, for everything") || !strings.Contains(got, want) {
			t.Errorf("%d parameters: %s; want %s", params, got, want)
		}
	}
	set := vap.Load(read(t, validatingPolicy("p", "validations: [{expression: 'true'}]")+bindingOf("b", "validationActions: [Deny]")), enginepolicy.Options{})
	if got := set.Rules[0].Info().Unbound; got != "" {
		t.Errorf("bound: %s", got)
	}
}
