// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
)

// cluster is what a test knows of other objects.
type cluster struct {
	objects []*object.Object
	partial bool
}

func (c *cluster) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	var out []*object.Object
	for _, o := range c.objects {
		if o.GroupKind() == gk && (namespace == "" || o.Namespace == namespace) {
			out = append(out, o)
		}
	}
	return out, !c.partial
}

func (c *cluster) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for _, o := range c.objects {
		if policy.Covers(of, o.GroupKind()) && !slices.Contains(out, o.GroupKind()) {
			out = append(out, o.GroupKind())
		}
	}
	return out, !c.partial
}

func (c *cluster) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}

// template returns a template of a kind with Rego, in v1 or v0 as it is written.
func template(kind, rego string) string {
	return fmt.Sprintf(`apiVersion: templates.gatekeeper.sh/v1beta1
kind: ConstraintTemplate
metadata: {name: %s}
spec:
  crd: {spec: {names: {kind: %s}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
      rego: |
        package p
%s
`, strings.ToLower(kind), kind, indent(rego))
}

func indent(text string) string {
	var out []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		out = append(out, "        "+strings.TrimSpace(line))
	}
	return strings.Join(out, "\n")
}

// constraint returns a constraint of a kind with a spec.
func constraint(kind, spec string) string {
	return fmt.Sprintf("---\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: %s\nmetadata: {name: one}\nspec: %s\n", kind, spec)
}

// load returns the rules of a text that has no problems.
func load(t testing.TB, text string) []policy.Rule {
	t.Helper()
	set := gatekeeper.Load(parse(t, "policies.yaml", text), policy.Options{Timeout: time.Minute})
	for _, p := range set.Problems {
		t.Errorf("%s:%d: %s", p.Position.File, p.Position.Line, p.Message)
	}
	if len(set.Rules) == 0 {
		t.Fatal("there are no rules")
	}
	return set.Rules
}

// say returns a verdict in one line: its outcome, and its findings with their
// paths.
func say(v control.Verdict, applies bool) string {
	if !applies {
		return "not about it"
	}
	out := string(v.Outcome)
	for _, f := range v.Findings {
		out += " | "
		if f.Path != nil {
			out += f.Path.String() + ": "
		}
		out += f.Message
	}
	return out
}

const pod = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  hostNetwork: true
  containers:
    - {name: server, image: registry.example/web:1, securityContext: {privileged: true}}
    - {name: metrics, image: registry.example/metrics:1}
`

const anything = `violation[{"msg": msg}] { msg := input.review.object.metadata.name }`

func TestMatch(t *testing.T) {
	objects := map[string]string{
		"pod":       pod,
		"bare":      "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n",
		"generated": "apiVersion: v1\nkind: Pod\nmetadata: {generateName: web-, name: x, namespace: shop}\n",
		"namespace": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: front}}\n",
		"node":      "apiVersion: v1\nkind: Node\nmetadata: {name: web}\n",
		"custom":    "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: web}\n",
		"ingress":   "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: kube-system}\n",
	}
	all := "bare custom generated ingress namespace node pod"
	for _, test := range []struct{ match, want string }{
		{"{}", all},
		{"{kinds: [{apiGroups: ['*'], kinds: ['*']}]}", all},
		{"{kinds: [{kinds: [Pod]}]}", "bare generated pod"},
		{"{kinds: [{apiGroups: [apps], kinds: [Pod]}]}", ""},
		{"{kinds: [{apiGroups: [''], kinds: [Node]}, {apiGroups: [example.org]}]}", "custom node"},
		{"{scope: Cluster}", "custom namespace node"},
		{"{scope: Namespaced}", "bare generated ingress pod"},
		{"{scope: '*'}", all},
		{"{namespaces: [shop]}", "bare custom generated namespace node pod"},
		{"{namespaces: [kube-*]}", "bare custom ingress node"},
		{"{excludedNamespaces: ['*-system']}", "bare custom generated namespace node pod"},
		{"{excludedNamespaces: ['*ho*']}", "bare custom ingress node"},
		{"{labelSelector: {matchLabels: {app: web}}}", "pod"},
		{"{labelSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}", "bare custom generated ingress namespace node"},
		{"{name: web}", "bare custom ingress node pod"},
		{"{name: 'web-*'}", "generated"},
		{"{source: Generated}", ""},
		{"{source: Original}", all},
		{"{namespaceSelector: {matchLabels: {tier: front}}}", "bare? custom generated ingress? namespace node pod"},
		{"{namespaceSelector: {matchLabels: {tier: back}}}", "bare? custom ingress? node"},
	} {
		rules := load(t, template("Anything", anything)+constraint("Anything", "{match: "+test.match+"}"))
		known := &cluster{objects: parse(t, "cluster.yaml", objects["namespace"]), partial: true}
		var got []string
		for name, text := range objects {
			o := parse(t, name+".yaml", text)[0]
			v, applies := rules[0].Judge(t.Context(), &policy.Request{Object: o, Cluster: known})
			switch {
			case !applies:
				continue
			case !rules[0].Matches(o.GroupKind()):
				t.Errorf("%s: the rule judges %s and does not match its kind", test.match, name)
			case v.Outcome == "unknown":
				name += "?"
			}
			got = append(got, name)
		}
		slices.Sort(got)
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.match, got, test.want)
		}
	}
}

// TestJudge holds what templates are given, and what becomes of what they say.
func TestJudge(t *testing.T) {
	who := &authenticationv1.UserInfo{Username: "eve", Groups: []string{"dev"}}
	front := "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: front}}\n"
	for _, test := range []struct {
		name, rego, spec string
		request          *policy.Request
		object, old      string
		cluster          string
		want             string
	}{
		{
			name: "a message names a container", object: pod,
			rego: `violation[{"msg": msg}] { c := input.review.object.spec.containers[_]; c.securityContext.privileged; msg := sprintf("the container <%v> is privileged", [c.name]) }`,
			want: "fail | spec.containers[server].securityContext.privileged: the container <server> is privileged",
		}, {
			name: "a message names a field", object: pod,
			rego: `violation[{"msg": "spec.hostNetwork is not allowed"}] { input.review.object.spec.hostNetwork }`,
			want: "fail | spec.hostNetwork: spec.hostNetwork is not allowed",
		}, {
			name: "a message names nothing", object: pod, rego: `violation[{"msg": "no"}] { true }`, want: "fail | no",
		}, {
			name: "the same violation counts once", object: pod, want: "fail | no",
			rego: `violation[{"msg": "no", "other": x}] { x := [1, 2][_] }`,
		}, {
			name: "details tell violations apart", object: pod, want: "fail | no | no",
			rego: `violation[{"msg": "no", "details": {"x": x}}] { x := [1, 2][_] }`,
		}, {
			name: "a violation without a message is none", object: pod, want: "pass", rego: `violation[{"details": {}}] { true }`,
		}, {
			name: "a message must be a string", object: pod, rego: `violation[{"msg": 1}] { true }`,
			want: "unknown | the template could not be evaluated: the msg of a violation is number; want a string",
		}, {
			name: "an object is created unless something else is said", object: pod, want: "fail | CREATE shop web Pod v1",
			rego: `violation[{"msg": msg}] { r := input.review; msg := concat(" ", [r.operation, r.namespace, r.name, r.kind.kind, r.kind.version]) }`,
		}, {
			name: "what is deleted is the object", old: pod, request: &policy.Request{Operation: policy.Delete}, want: "fail | web web",
			rego: `violation[{"msg": msg}] { r := input.review; msg := concat(" ", [r.object.metadata.name, r.oldObject.metadata.name]) }`,
		}, {
			name: "parameters", object: pod, spec: "{parameters: {names: [web]}}", want: "fail | web",
			rego: `violation[{"msg": msg}] { msg := input.parameters.names[_] }`,
		}, {
			name: "who asks", object: pod, request: &policy.Request{User: who}, want: "fail | eve dev",
			rego: `violation[{"msg": msg}] { u := input.review.userInfo; msg := concat(" ", [u.username, u.groups[0]]) }`,
		}, {
			name: "who asks is not known, and matters", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { input.review.userInfo.username == "eve" }`,
		}, {
			name: "who asks is not known, and its absence matters", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { not input.review.userInfo.username == "admin" }`,
		}, {
			name: "who asks is not known, and does not matter", object: pod, want: "pass",
			rego: `violation[{"msg": "no"}] { input.review.operation == "UPDATE"; input.review.userInfo.username == "eve" }`,
		}, {
			name: "the namespace", object: pod, cluster: front, want: "fail | front",
			rego: `violation[{"msg": msg}] { msg := input.review.namespaceObject.metadata.labels.tier }`,
		}, {
			name: "the namespace is not known", object: pod, want: "unknown | the namespace shop is not known",
			rego: `violation[{"msg": "no"}] { not input.review.namespaceObject.metadata.labels.tier }`,
		}, {
			name: "the namespace is not known, and is read by a name that is made", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { some part; ["namespaceObject"][_] == part; input.review[part].metadata }`,
		}, {
			name: "the network", object: pod, want: "unknown | the template calls http.send: calls to \"example.org\" are not allowed; a baseline allows them in spec.network.hosts",
			rego: `violation[{"msg": "no"}] { http.send({"url": "http://example.org", "method": "get"}).status_code == 200 }`,
		}, {
			name: "the network is not reached", object: pod, want: "pass",
			rego: `violation[{"msg": "no"}] { input.review.object.kind == "Job"; http.send({"url": "http://example.org", "method": "get"}).status_code == 200 }`,
		}, {
			name: "a schema that is elsewhere", object: pod, want: "unknown | the template calls json.match_schema, which looks at the network",
			rego: `violation[{"msg": "no"}] { json.match_schema(input.review.object, {"$ref": "http://127.0.0.1:9/x.json"})[0] == false }`,
		}, {
			name: "verifying a schema that is elsewhere", object: pod, want: "unknown | the template calls json.verify_schema, which looks at the network",
			rego: `violation[{"msg": "no"}] { json.verify_schema({"$ref": "http://127.0.0.1:9/x.json"})[0] == false }`,
		}, {
			name: "a schema", object: pod, want: "fail | no",
			rego: `violation[{"msg": "no"}] { json.match_schema(input.review.object, {"required": ["absent"]})[0] == false }`,
		}, {
			name: "certificates that are valid for a time", object: pod, want: "unknown | the template calls crypto.x509.parse_and_verify_certificates, which looks at the time",
			rego: `violation[{"msg": "no"}] { crypto.x509.parse_and_verify_certificates("x")[0] == false }`,
		}, {
			name: "external data", object: pod, want: "unknown | the template calls external_data: there is no Provider \"p\" among the policies",
			rego: `violation[{"msg": "no"}] { external_data({"provider": "p", "keys": []}).errors }`,
		}, {
			name: "the namespace is not known, and is read by a name that is made from the review by another name", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { r := input.review; part := concat("", ["namespace", "Object"]); not r[part].metadata }`,
		}, {
			name: "any part of the review may be read by a function", object: pod, want: "unknown | the user who asks is not known",
			rego: `part(r, name) = out { out := r[name] }
				violation[{"msg": "no"}] { in := input; not part(in.review, lower("USERINFO")).username }`,
		}, {
			name: "all of the review is written out", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { not contains(json.marshal(input.review), "eve") }`,
		}, {
			name: "all of the review is part of another value", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { all := [input.review]; part := concat("", ["user", "Info"]); not all[0][part].username }`,
		}, {
			name: "all of the review is gone through", object: pod, want: "unknown | the user who asks is not known",
			rego: `violation[{"msg": "no"}] { found := [x | x := input.review[_]]; count(found) == 1000 }`,
		}, {
			name: "a function reads a part of the review that is known", object: pod, want: "fail | CREATE",
			rego: `made(review) { review.operation == "CREATE" }
				violation[{"msg": msg}] { made(input.review); not object.get(input, "parameters", {}).off; msg := object.get(input.review, "operation", "") }`,
		}, {
			name: "the time is not known", object: pod, want: "unknown | the template calls time.now_ns, which looks at the time",
			rego: `violation[{"msg": "no"}] { time.now_ns() > 0 }`,
		}, {
			name: "the time", object: pod, request: &policy.Request{Now: time.Unix(0, 7)}, want: "fail | 7",
			rego: `violation[{"msg": msg}] { msg := format_int(time.now_ns(), 10) }`,
		}, {
			name: "chance", object: pod, want: "unknown | the template calls rand.intn, which looks at chance",
			rego: `violation[{"msg": "no"}] { rand.intn("x", 2) == 0 }`,
		}, {
			name: "a range without end", object: pod, want: "unknown | the template calls numbers.range for a result of more than 4194304 bytes",
			rego: `violation[{"msg": "no"}] { count(numbers.range(0, 1000000000000)) > 1 }`,
		}, {
			name: "a value that is large once it is written", object: pod, want: "unknown | the template calls json.marshal for a result of more than 4194304 bytes",
			rego: `violation[{"msg": json.marshal(c)}] { a := [i | i := numbers.range(1, 200)[_]]; b := [a | a[_]]; c := [b | b[_]] }`,
		}, {
			name: "a graph of many paths", object: pod, want: "unknown | the template calls graph.reachable_paths for a result of more than 4194304 bytes",
			rego: `violation[{"msg": "no"}] { g := {i: [j | j := numbers.range(1, 12)[_]] | i := numbers.range(1, 12)[_]}; graph.reachable_paths(g, {1}) }`,
		}, {
			name: "a format without end", object: pod, want: "unknown | the template calls sprintf for a result of more than 4194304 bytes",
			rego: `violation[{"msg": "no"}] { sprintf("%*d", [1000000000, 1]) != "" }`,
		}, {
			name: "all addresses", object: pod, want: "unknown | the template calls net.cidr_expand for a result of more than 4194304 bytes",
			rego: `violation[{"msg": "no"}] { count(net.cidr_expand("10.0.0.0/8")) > 1 }`,
		}, {
			name: "text that grows", object: pod, want: "unknown | the template calls replace for a result of more than 4194304 bytes",
			rego: `a := concat("", [x | numbers.range(1, 3000)[_]; x := "aaaaaaaaaa"])
violation[{"msg": "no"}] { s := sprintf("%v", [numbers.range(1, 3000)]); count(replace(s, "1", s)) > 1 }`,
		}, {
			name: "values that are not known", want: "unknown | not all values of the object are known: templated",
			object: "templated", rego: `violation[{"msg": "no"}] { false }`,
		}, {
			name: "a short value of a Secret says nothing", want: "fail | stringData.password: the password is short",
			object: "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: s, other: abc}\n",
			rego:   `violation[{"msg": msg}] { input.review.object.stringData.password; msg := "the password is short" }`,
		}, {
			name: "a Secret is not told", want: "fail | stringData.password: the password is (hidden)",
			object: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {password: hunter2}\n",
			rego:   `violation[{"msg": msg}] { msg := sprintf("the password is %v", [input.review.object.stringData.password]) }`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := test.spec
			if spec == "" {
				spec = "{}"
			}
			rules := load(t, template("Judged", test.rego)+constraint("Judged", spec))
			r := test.request
			if r == nil {
				r = &policy.Request{}
			}
			switch {
			case test.object == "templated":
				r.Object = object.New(&object.Node{Kind: object.Map, Fields: []object.Field{
					{Key: "apiVersion", Value: object.NewString("v1")}, {Key: "kind", Value: object.NewString("Pod")},
					{Key: "spec", Value: object.NewUnknown("templated")},
				}}, &object.Origin{})
			case test.object != "":
				r.Object = parse(t, "object.yaml", test.object)[0]
			}
			if test.old != "" {
				r.Old = parse(t, "object.yaml", test.old)[0]
			}
			if test.cluster != "" {
				r.Cluster = &cluster{objects: parse(t, "cluster.yaml", test.cluster)}
			}
			if got := say(rules[0].Judge(t.Context(), r)); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestInventory holds what templates see of other objects, and what they make of
// those that are not known.
func TestInventory(t *testing.T) {
	const unique = `violation[{"msg": msg}] {
		other := data.inventory.namespace[ns]["v1"]["Service"][name]
		other.spec.clusterIP == input.review.object.spec.clusterIP
		not same(other)
		msg := sprintf("%v/%v has it", [ns, name])
	}
	same(other) { other.metadata.name == input.review.object.metadata.name; other.metadata.namespace == input.review.object.metadata.namespace }`
	const present = `violation[{"msg": "there is none"}] { not data.inventory.cluster["example.org/v1"].Thing.one }`
	const alias = `violation[{"msg": "there is none"}] { all := data.inventory.cluster["example.org/v1"].Thing; not all.one }`
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {clusterIP: 10.0.0.1}\n"
	one, two := fmt.Sprintf(service, "one"), fmt.Sprintf(service, "two")
	thing := "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: one}\n"
	gap := "not all objects of the inventory that the template reads are known"
	for _, test := range []struct {
		name, rego, cluster string
		partial, none       bool
		want                string
	}{
		{name: "another has it", rego: unique, cluster: two, want: "fail | shop/two has it"},
		{name: "no other has it", rego: unique, cluster: one, want: "pass"},
		{name: "nothing is known", rego: unique, none: true, want: "unknown | " + gap},
		{name: "not all is known", rego: unique, cluster: one, partial: true, want: "unknown | " + gap},
		{name: "what fails goes on failing whatever is not known", rego: unique, cluster: two, partial: true, want: "fail | shop/two has it"},
		{name: "it is there", rego: present, cluster: thing, want: "pass"},
		{name: "it is not there", rego: present, cluster: one, want: "fail | there is none"},
		{name: "it may be there", rego: present, cluster: one, partial: true, want: "unknown | " + gap},
		{name: "it may be there, by another name", rego: alias, cluster: thing[:len(thing)-4] + "two}\n", partial: true, want: "unknown | " + gap},
		{name: "one that is in no namespace may be in any", rego: unique, cluster: strings.Replace(two, ", namespace: shop", "", 1), want: "unknown | " + gap},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := load(t, template("Known", test.rego)+constraint("Known", "{}"))
			r := &policy.Request{Object: parse(t, "object.yaml", one)[0]}
			if !test.none {
				r.Cluster = &cluster{objects: parse(t, "cluster.yaml", test.cluster), partial: test.partial}
			}
			for range 2 { // the second time from what is shared
				if got := say(rules[0].Judge(t.Context(), &policy.Request{Object: r.Object, Cluster: r.Cluster})); got != test.want {
					t.Errorf("\ngot  %s\nwant %s", got, test.want)
				}
			}
		})
	}
}

func TestNeeds(t *testing.T) {
	for _, test := range []struct {
		rego, spec string
		want       policy.Needs
	}{
		{rego: anything},
		{rego: anything, spec: "{match: {namespaceSelector: {matchLabels: {a: b}}}}", want: policy.Needs{Namespaces: true}},
		{rego: `violation[{"msg": "x"}] { input.review.namespaceObject }`, want: policy.Needs{Namespaces: true}},
		{rego: `violation[{"msg": "x"}] { input.review.userInfo.username }`, want: policy.Needs{User: true}},
		{
			rego: `violation[{"msg": "x"}] { data.inventory.namespace[_]["apps/v1"]["Deployment"][_]; f(data.inventory.cluster.v1.Node) }
f(x) { x }`,
			want: policy.Needs{Kinds: []object.GroupKind{{Kind: "Node"}, {Group: "apps", Kind: "Deployment"}}},
		},
		{rego: `violation[{"msg": "x"}] { data.inventory.namespace[_][v]["Deployment"][_] }`, want: policy.Needs{Kinds: []object.GroupKind{{Group: policy.Any, Kind: "Deployment"}}}},
		{rego: `violation[{"msg": "x"}] { x := data.inventory; x.cluster }`, want: policy.Needs{AnyKind: true}},
	} {
		spec := test.spec
		if spec == "" {
			spec = "{}"
		}
		rules := load(t, template("Needy", test.rego)+constraint("Needy", spec))
		if diff := cmp.Diff(test.want, rules[0].Info().Needs); diff != "" {
			t.Errorf("%s: %s", test.rego, diff)
		}
	}
}

func TestInfo(t *testing.T) {
	set := gatekeeper.Load(documents(t, "testdata/labels-rego.yaml"), policy.Options{})
	got := *set.Rules[0].Info()
	want := policy.Info{
		Name: "gatekeeper.teamlabels.workloads", Language: policy.Gatekeeper,
		Policy: object.Ref{APIVersion: "constraints.gatekeeper.sh/v1beta1", Kind: "TeamLabels", Name: "workloads"},
		Title:  "Labels of a team", Description: "Says who runs a workload.",
		Severity: v1alpha1.Medium, Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailClosed, Position: got.Position,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Position.Line != 52 {
		t.Errorf("the rule is at line %d; want 52", got.Position.Line)
	}
	for spec, want := range map[string]v1alpha1.Action{
		"{}":                          v1alpha1.Deny,
		"{enforcementAction: deny}":   v1alpha1.Deny,
		"{enforcementAction: warn}":   v1alpha1.Warn,
		"{enforcementAction: dryrun}": v1alpha1.Audit,
		"{enforcementAction: scoped, scopedEnforcementActions: [{action: warn, enforcementPoints: [{name: '*'}]}, {action: dryrun, enforcementPoints: [{name: audit.gatekeeper.sh}]}]}":                    v1alpha1.Warn,
		"{enforcementAction: scoped, scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: gator.gatekeeper.sh}]}, {action: warn, enforcementPoints: [{name: validation.gatekeeper.sh}]}]}": v1alpha1.Warn,
		"{enforcementAction: scoped, scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: gator.gatekeeper.sh}]}]}":                                                                        v1alpha1.Audit,
	} {
		rules := load(t, template("Acting", anything)+constraint("Acting", spec))
		if got := rules[0].Info().Action; got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
}

// TestEngines holds that both engines say the same, and that CEL goes first.
func TestEngines(t *testing.T) {
	for _, engine := range []string{"rego", "cel"} {
		rules := load(t, read(t, "testdata/labels-"+engine+".yaml"))
		for file, want := range map[string]string{"pass": "pass", "fail": "fail"} {
			v, _ := rules[0].Judge(t.Context(), &policy.Request{Object: documents(t, "testdata/"+file+".yaml")[0]})
			if string(v.Outcome) != want {
				t.Errorf("%s over %s: %s", engine, file, say(v, true))
			}
		}
	}
	const both = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: both}
spec:
  crd: {spec: {names: {kind: Both}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
      code:
        - engine: Rego
          source: {version: v1, rego: "package p\nviolation contains {\"msg\": \"rego\"} if input.review.operation == \"CREATE\""}
        - engine: K8sNativeValidation
          source:
            validations: [{expression: "request.operation != 'CREATE'", message: cel}]
`
	for engine, want := range map[string]string{"": "cel", gatekeeper.Rego: "rego", gatekeeper.CEL: "cel"} {
		template, err := gatekeeper.ParseTemplate(parse(t, "both.yaml", both)[0], gatekeeper.Options{Engine: engine})
		if err != nil {
			t.Fatal(err)
		}
		c, err := template.Constraint(parse(t, "c.yaml", strings.TrimPrefix(constraint("Both", "{}"), "---\n"))[0])
		if err != nil {
			t.Fatal(err)
		}
		r := gatekeeper.NewReview(&policy.Request{Object: parse(t, "pod.yaml", pod)[0], Operation: policy.Create}, false)
		found, _, err := c.Review(t.Context(), r)
		if err != nil || len(found) != 1 || found[0].Message != want {
			t.Errorf("engine %q: %v, %v; want %s", engine, found, err, want)
		}
	}
}

// TestCEL holds what CEL is given.
func TestCEL(t *testing.T) {
	const text = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: native}
spec:
  crd: {spec: {names: {kind: Native}, validation: {openAPIV3Schema: {type: object, properties: {name: {type: string}}}}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
      code:
        - engine: K8sNativeValidation
          source: {validations: [{expression: %q, message: "no"}]%s}
`
	for _, test := range []struct {
		expression, more, old, want string
	}{
		{expression: "variables.params.name == 'web'", want: "pass"},
		{expression: "object.metadata.name == 'other'", want: "fail | no"},
		{expression: "variables.anyObject.metadata.name == 'web' && object == null", old: pod, want: "pass"},
		{expression: "oldObject == null", want: "pass"},
		{expression: "request.userInfo.username == 'eve'", want: "unknown | the user who asks is not known"},
		{expression: "namespaceObject.metadata.name == 'shop'", want: "unknown | the namespace shop is not known"},
		{expression: "object.spec.missing == 'x'", want: "unknown | no such key: missing, in the expression object.spec.missing == 'x'"},
		{expression: "object.spec.missing == 'x'", more: ", failurePolicy: Ignore", want: "unknown | no such key: missing, in the expression object.spec.missing == 'x'"},
		{expression: "false", more: ", matchCondition: [{name: other, expression: \"object.kind == 'Service'\"}]", want: "pass"},
		{expression: "variables.x == 2", more: ", variables: [{name: x, expression: 1 + 1}]", want: "pass"},
	} {
		rules := load(t, fmt.Sprintf(text, test.expression, test.more)+constraint("Native", "{parameters: {name: web}}"))
		r := &policy.Request{Object: parse(t, "object.yaml", pod)[0]}
		if test.old != "" {
			r = &policy.Request{Operation: policy.Delete, Old: parse(t, "object.yaml", test.old)[0]}
		}
		if got := say(rules[0].Judge(t.Context(), r)); got != test.want {
			t.Errorf("%s%s:\ngot  %s\nwant %s", test.expression, test.more, got, test.want)
		}
	}
}

// TestTimeout holds that an evaluation comes to an end.
func TestTimeout(t *testing.T) {
	text := template("Slow", `violation[{"msg": "no"}] { a := numbers.range(1, 5000)[_]; b := numbers.range(1, 5000)[_]; c := numbers.range(1, 5000)[_]; a + b + c == 0 }`) + constraint("Slow", "{}")
	set := gatekeeper.Load(parse(t, "policies.yaml", text), policy.Options{Timeout: 50 * time.Millisecond})
	got := say(set.Rules[0].Judge(t.Context(), &policy.Request{Object: parse(t, "object.yaml", pod)[0]}))
	if want := "unknown | the evaluation took longer than 50ms"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestConcurrent holds that rules can judge one request at once.
func TestConcurrent(t *testing.T) {
	text := expansions
	for _, kind := range []string{"One", "Two", "Three"} {
		text += template(kind, `violation[{"msg": msg}] { data.inventory.namespace[ns]["v1"].Pod[name]; name == input.review.object.metadata.name; msg := sprintf("%v/%v", [ns, name]) }`) +
			constraint(kind, "{match: {namespaceSelector: {matchLabels: {tier: front}}}}") + "---\n"
	}
	rules := load(t, strings.TrimSuffix(text, "---\n"))
	known := &cluster{objects: parse(t, "cluster.yaml", pod+"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: front}}\n")}
	o := parse(t, "object.yaml", pod)[0]
	r := &policy.Request{Object: o, Cluster: known}
	said := make(chan string)
	for range 4 {
		for _, rule := range rules {
			go func() { said <- say(rule.Judge(t.Context(), r)) }()
		}
	}
	for range 4 * len(rules) {
		if got := <-said; got != "fail | shop/web" && got != "not about it" {
			t.Error(got)
		}
	}
}
