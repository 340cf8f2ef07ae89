// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

func load(tb testing.TB, text string) *policy.Set {
	tb.Helper()
	var docs []*object.Object
	for _, d := range read(tb, "policy.yaml", []byte(text)) {
		docs = append(docs, d.Object)
	}
	return Load(docs, policy.Options{})
}

const pods = "match: {any: [{resources: {kinds: [Pod]}}]}"

// rules returns a policy with rules.
func withRules(rules ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  rules:\n")
	for i, r := range rules {
		fmt.Fprintf(&b, "    - name: r%d\n      %s\n", i, strings.ReplaceAll(r, "\n", "\n      "))
	}
	return b.String()
}

// TestProblems holds what is said of documents that are not right, and where.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ text, problem, unsupported, other string }{
		"no spec":        {text: "apiVersion: kyverno.io/v1\nkind: Policy\nmetadata: {name: p}\n", problem: "1: the policy has no spec"},
		"no rules":       {text: "apiVersion: kyverno.io/v1\nkind: Policy\nmetadata: {name: p}\nspec: {}\n", problem: "4: the policy has no rules"},
		"rules no list":  {text: "apiVersion: kyverno.io/v1\nkind: Policy\nmetadata: {name: p}\nspec: {rules: {}}\n", problem: "4: spec.rules is a map, but must be a list"},
		"unknown field":  {text: withRules(pods + "\nvalidate: {patern: {a: b}}"), problem: `8: unknown field "validate.patern"`},
		"unknown above":  {text: strings.Replace(withRules(pods+"\nvalidate: {deny: {}}"), "spec:", "spec:\n  rulez: []", 1), problem: `5: unknown field "rulez"`},
		"wrong type":     {text: withRules(pods + "\nvalidate: {message: [a]}"), problem: "must be a string"},
		"no name":        {text: strings.Replace(withRules(pods+"\nvalidate: {deny: {}}"), "name: r0", `name: ""`, 1), problem: "6: the rule has no name"},
		"same name":      {text: strings.Replace(withRules(pods+"\nvalidate: {deny: {}}", pods+"\nvalidate: {deny: {}}"), "r1", "r0", 1), problem: `9: two rules of the policy are called "r0"`},
		"no type":        {text: withRules(pods), unsupported: "the rule has 0 of validate, mutate, generate and verifyImages"},
		"two types":      {text: withRules(pods + "\nvalidate: {deny: {}}\nmutate: {patchesJson6902: x}"), unsupported: "the rule has 2 of"},
		"any and all":    {text: withRules("match: {any: [{resources: {kinds: [Pod]}}], all: [{resources: {kinds: [Pod]}}]}\nvalidate: {deny: {}}"), unsupported: "both any and all"},
		"operator":       {text: withRules(pods + "\nvalidate: {deny: {conditions: {any: [{key: a, operator: Is, value: b}]}}}"), unsupported: `validate.deny.conditions.any[0].operator "Is" is not known`},
		"conditions":     {text: withRules(pods + "\npreconditions: {some: []}\nvalidate: {deny: {}}"), unsupported: "preconditions.some is not known; want any or all"},
		"condition":      {text: withRules(pods + "\npreconditions: [{key: a, oper: Equals}]\nvalidate: {deny: {}}"), unsupported: "preconditions[0].oper is not known"},
		"operation":      {text: withRules("match: {any: [{resources: {kinds: [Pod], operations: [PATCH]}}]}\nvalidate: {deny: {}}"), unsupported: `"PATCH" is not known`},
		"selector":       {text: withRules("match: {any: [{resources: {kinds: [Pod], selector: {matchExpressions: [{key: a, operator: Near}]}}}]}\nvalidate: {deny: {}}"), unsupported: "resources.selector"},
		"subject":        {text: withRules("match: {any: [{subjects: [{kind: Robot, name: a}]}]}\nvalidate: {deny: {}}"), unsupported: `the kind "Robot" is not known`},
		"context":        {text: withRules(pods + "\ncontext: [{name: a}]\nvalidate: {deny: {}}"), unsupported: "context[0] must have a name and one of"},
		"anyPattern":     {text: withRules(pods + "\nvalidate: {anyPattern: {a: b}}"), unsupported: "must be a list of patterns"},
		"level":          {text: withRules(pods + "\nvalidate: {podSecurity: {level: strict}}"), unsupported: "validate.podSecurity"},
		"targets":        {text: withRules(pods + "\nmutate: {targets: [{kind: Secret}], patchesJson6902: '[]'}"), unsupported: "mutate.targets"},
		"order":          {text: withRules(pods + "\nmutate: {foreach: [{list: a, order: Up, patchesJson6902: '[]'}]}"), unsupported: `mutate.foreach.order is "Up"`},
		"cleanup":        {text: "apiVersion: kyverno.io/v2\nkind: CleanupPolicy\nmetadata: {name: p}\nspec: {schedule: '* * * * *'}\n", other: "deletes objects"},
		"exception":      {text: "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {name: p}\nspec: {exception: []}\n", problem: `4: unknown field "exception"`},
		"its conditions": {text: "apiVersion: kyverno.io/v2\nkind: PolicyException\nmetadata: {name: p}\nspec: {match: {}, exceptions: [], conditions: {none: []}}\n", problem: "conditions.none is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, c.text)
			var problems, unsupported []string
			for _, p := range set.Problems {
				problems = append(problems, fmt.Sprintf("%d: %s", p.Position.Line, p.Message))
			}
			for _, r := range set.Rules {
				unsupported = append(unsupported, r.Info().Unsupported)
			}
			for _, m := range set.Mutators {
				unsupported = append(unsupported, m.Info().Unsupported)
			}
			if all := strings.Join(problems, "\n"); !strings.Contains(all, c.problem) || c.problem == "" && all != "" {
				t.Errorf("got the problems %q, want %q", all, c.problem)
			}
			var others []string
			for _, o := range set.Others {
				others = append(others, o.Does)
			}
			if all := strings.Join(others, "\n"); all != c.other {
				t.Errorf("got others %q, want %q", all, c.other)
			}
			if all := strings.Join(unsupported, "\n"); !strings.Contains(all, c.unsupported) || c.unsupported == "" && strings.TrimSpace(all) != "" {
				t.Errorf("got unsupported %q, want %q", all, c.unsupported)
			}
		})
	}
}

// TestUnsupported holds that a rule that cannot be run is unknown for what it is
// about, and for nothing else.
func TestUnsupported(t *testing.T) {
	set := load(t, withRules("match: {any: [{resources: {kinds: [Pod], namespaces: [shop]}}]}\nvalidate: {assert: {a: b}}", "match: {any: [{resources: {operations: [NO]}}]}\nvalidate: {deny: {}}"))
	for text, want := range map[string][2]string{
		"metadata: {name: a, namespace: shop}": {"unknown", "unknown"},
		"metadata: {name: a, namespace: back}": {"none", "unknown"},
	} {
		o := read(t, "pod", []byte("apiVersion: v1\nkind: Pod\n"+text+"\n"))[0].Object
		for i, r := range set.Rules {
			got := "none"
			if r.Matches(o.GroupKind()) {
				if v, applies := r.Judge(t.Context(), &policy.Request{Object: o}); applies {
					got = string(v.Outcome)
				}
			}
			if got != want[i] {
				t.Errorf("%s: rule %d: got %s, want %s", text, i, got, want[i])
			}
		}
	}
}

// TestInfo holds what rules say of themselves.
func TestInfo(t *testing.T) {
	text := `apiVersion: kyverno.io/v1
kind: Policy
metadata:
  name: Require Team
  namespace: shop
  annotations:
    policies.kyverno.io/title: Objects name their team
    policies.kyverno.io/severity: high
    policies.kyverno.io/category: Ownership
spec:
  validationFailureAction: Audit
  emitWarning: true
  failurePolicy: Ignore
  rules:
    - name: check
      match: {any: [{resources: {kinds: [Pod], namespaceSelector: {matchLabels: {a: b}}}}]}
      context:
        - {name: c, configMap: {name: c}}
        - {name: d, apiCall: {urlPath: /api/v1/pods}}
      validate: {failureAction: Enforce, message: "{{ request.userInfo.username }}", deny: {}}
    - name: warn
      match: {resources: {kinds: [Pod]}}
      validate: {cel: {expressions: [{expression: "authorizer != null"}]}}
`
	set := load(t, text)
	i := set.Rules[0].Info()
	if i.Name != "kyverno.shop.require-team.check" || i.Title != "Objects name their team" || i.Severity != v1alpha1.High || i.Topic != "Ownership" ||
		i.Action != v1alpha1.Deny || i.FailurePolicy != v1alpha1.FailOpen || i.Position.Line != 15 || i.Unsupported != "" {
		t.Errorf("%+v", i)
	}
	if n := i.Needs; !n.Namespaces || n.AnyKind || !n.User || n.Authorizer || !slices.Equal(n.Kinds, []object.GroupKind{{Kind: "ConfigMap"}, {Kind: "Pod"}}) {
		t.Errorf("%+v", n)
	}
	if i := set.Rules[1].Info(); i.Action != v1alpha1.Warn || !i.Needs.Authorizer || i.Needs.User {
		t.Errorf("%+v", i)
	}
}

// TestUnknownObject holds that an object of which something is not known is judged
// by no rule that is about it.
func TestUnknownObject(t *testing.T) {
	set := load(t, withRules("match: {any: [{resources: {kinds: [Pod], names: [web]}}]}\nvalidate: {pattern: {spec: {a: b}}}"))
	for _, name := range []string{"web", "other"} {
		root := object.FromAny(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name}})
		root.Fields = append(root.Fields, object.Field{Key: "spec", Value: object.NewUnknown("a template")})
		o := object.New(root, &object.Origin{})
		v, applies := set.Rules[0].Judge(t.Context(), &policy.Request{Object: o})
		if applies != (name == "web") || applies && v.Outcome != verdict.Unknown {
			t.Errorf("%s: %v %v", name, v, applies)
		}
	}
}

// TestControllers holds which rules are generated, for which kinds.
func TestControllers(t *testing.T) {
	for name, c := range map[string]struct {
		annotation, rule string
		want             []string
	}{
		"all":        {"", pods + "\nvalidate: {pattern: {a: b}}", []string{"r0", "autogen-r0 [DaemonSet Deployment Job ReplicaSet ReplicationController StatefulSet]", "autogen-cronjob-r0 [CronJob]"}},
		"some":       {"Job,CronJob", pods + "\nvalidate: {pattern: {a: b}}", []string{"r0", "autogen-r0 [Job]", "autogen-cronjob-r0 [CronJob]"}},
		"none":       {"none", pods + "\nvalidate: {pattern: {a: b}}", []string{"r0"}},
		"other":      {"Rollout", pods + "\nvalidate: {pattern: {a: b}}", []string{"r0", "autogen-r0 [Rollout]"}},
		"by name":    {"", "match: {any: [{resources: {kinds: [Pod], names: [a]}}]}\nvalidate: {pattern: {a: b}}", []string{"r0"}},
		"mixed":      {"", "match: {any: [{resources: {kinds: [Pod, Service]}}]}\nvalidate: {pattern: {a: b}}", []string{"r0"}},
		"a patch":    {"", pods + "\nmutate: {patchesJson6902: '[]'}", []string{"r0"}},
		"not pods":   {"", "match: {any: [{resources: {kinds: [Service]}}]}\nvalidate: {pattern: {a: b}}", []string{"r0"}},
		"excluded":   {"", pods + "\nexclude: {any: [{resources: {kinds: [Service]}}]}\nvalidate: {pattern: {a: b}}", []string{"r0"}},
		"controller": {"", "match: {any: [{resources: {kinds: [Deployment]}}]}\nvalidate: {pattern: {a: b}}", []string{"r0"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := withRules(c.rule)
			if c.annotation != "" {
				text = strings.Replace(text, "{name: p}", "{name: p, annotations: {pod-policies.kyverno.io/autogen-controllers: \""+c.annotation+"\"}}", 1)
			}
			policies, _, problems := Read([]*object.Object{read(t, "p", []byte(text))[0].Object}, policy.Options{})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			var got []string
			for _, r := range policies[0].Rules {
				s := r.Name
				if r.controllers != nil {
					s += fmt.Sprint(" ", r.controllers)
				}
				got = append(got, s)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRewriting holds how the text of a rule is rewritten for templates.
func TestRewriting(t *testing.T) {
	text := withRules(pods+`
validate:
  message: "{{ request.object.metadata.name }} of {{ request.oldObject.spec.a }} $(./../a/pattern/spec/b)"
  pattern: {metadata: {labels: {a: "{{ request.object.spec.b }}"}}}`, pods+`
validate: {cel: {expressions: [{expression: "object.spec.a == oldObject.metadata.name"}]}}`)
	policies, _, _ := Read([]*object.Object{read(t, "p", []byte(text))[0].Object}, policy.Options{})
	byName := map[string]*Rule{}
	for _, r := range policies[0].Rules {
		byName[r.Name] = r
	}
	r := byName["autogen-cronjob-r0"]
	if want := "{{ request.object.spec.jobTemplate.spec.template.metadata.name }} of {{ request.oldObject.spec.jobTemplate.spec.template.spec.a }} $(./../a/pattern/spec/jobTemplate/spec/template/spec/template/spec/b)"; r.Validation.Message != want {
		t.Errorf("got the message %s", r.Validation.Message)
	}
	if got := fmt.Sprint(r.Validation.Pattern); got != "map[spec:map[jobTemplate:map[spec:map[template:map[metadata:map[labels:map[a:{{ request.object.spec.jobTemplate.spec.template.spec.b }}]]]]]]]" {
		t.Errorf("got the pattern %s", got)
	}
	if got := byName["autogen-r1"].Validation.CEL.Expressions[0].Expression; got != "object.spec.template.spec.a == oldObject.spec.template.metadata.name" {
		t.Errorf("got the expression %s", got)
	}
}

// TestTime holds that a rule over a long list is cut off.
func TestTime(t *testing.T) {
	set := load(t, withRules(pods+`
validate:
  foreach:
    - list: request.object.spec.list
      foreach: [{list: request.object.spec.list, deny: {conditions: {any: [{key: "{{ element }}", operator: Equals, value: x}]}}}]`))
	list := make([]any, 3000)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	o := object.New(object.FromAny(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a"}, "spec": map[string]any{"list": list}}), &object.Origin{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if v, _ := set.Rules[0].Judge(ctx, &policy.Request{Object: o}); v.Outcome != verdict.Unknown || !strings.Contains(v.Findings[0].Message, "time") {
		t.Error(v)
	}
}

// FuzzLoad reads policies that strangers wrote, and runs them over a pod.
func FuzzLoad(f *testing.F) {
	for _, rule := range typical {
		f.Add(withRules(pods+"\nvalidate: "+rule), "spec: {containers: [{name: a, image: b}]}")
	}
	f.Add(withRules(pods+"\ncontext: [{name: a, variable: {jmesPath: a}}]\nmutate: {foreach: [{list: 'request.object.spec.c', patchStrategicMerge: {a: '{{ a }}'}}]}"), "spec: {c: [1]}")
	f.Add(withRules(pods+"\nverifyImages: [{imageReferences: ['*']}]"), "spec: {containers: [{name: a, image: 1}]}")
	f.Add(withRules(pods+"\ngenerate: {kind: A, name: '{{ request.object.a }}', data: {a: 1}}"), "spec: 1")
	f.Fuzz(func(t *testing.T, text, pod string) {
		var docs []*object.Object
		for part := range object.Split([]byte(text)) {
			if n, err := object.ParseYAML(part); err == nil && n != nil {
				if objects, err := object.FromNode(n, &object.Origin{Source: "p", Text: part.Bytes, FirstLine: part.Line}); err == nil {
					docs = append(docs, objects...)
				}
			}
		}
		n, err := object.ParseYAML(object.Text{Bytes: []byte("apiVersion: v1\nkind: Pod\n" + pod), Line: 1})
		if err != nil || n == nil || n.Kind != object.Map {
			return
		}
		o := object.New(n, &object.Origin{})
		set := Load(docs, policy.Options{Timeout: 100 * time.Millisecond})
		for _, r := range set.Rules {
			r.Judge(t.Context(), &policy.Request{Object: o})
			r.Judge(t.Context(), &policy.Request{Old: o, Operation: policy.Delete})
		}
		for _, m := range set.Mutators {
			m.Mutate(t.Context(), &policy.Request{Object: o})
		}
		policies, _, _ := Read(docs, policy.Options{})
		for _, p := range policies {
			p.Evaluate(t.Context(), &policy.Request{Object: o, Old: o, Operation: policy.Update}, EvaluateOptions{})
		}
	})
}

// TestActionFor holds that what follows where a rule fails differs between
// namespaces as its policy says.
func TestActionFor(t *testing.T) {
	set := load(t, strings.Replace(withRules("match: {any: [{resources: {kinds: [Pod]}}]}\nvalidate: {deny: {}}"), "spec:\n", `spec:
  validationFailureAction: Audit
  validationFailureActionOverrides:
  - {action: Enforce, namespaces: ["prod-*"]}
  - {action: Audit, namespaces: [lab]}
`, 1))
	rule := set.Rules[0]
	if got := rule.Info().Action; got != v1alpha1.Deny {
		t.Errorf("the strictest is %s", got)
	}
	for namespace, want := range map[string]v1alpha1.Action{"prod-1": v1alpha1.Deny, "lab": v1alpha1.Audit, "shop": v1alpha1.Audit} {
		o := read(t, "pod", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: "+namespace+"}\n"))[0].Object
		if got := rule.(policy.Acting).ActionFor(&policy.Request{Object: o}); got != want {
			t.Errorf("in %s it is %s, want %s", namespace, got, want)
		}
	}
}

// TestCallNeeds holds that a rule needs of the cluster what the paths of its calls
// name, as far as they are written out.
func TestCallNeeds(t *testing.T) {
	for call, want := range map[string]policy.Needs{
		"urlPath: /api/v1/namespaces/default/services":                                                            {Kinds: []object.GroupKind{{Kind: "Service"}}},
		"urlPath: '/api/v1/namespaces/{{ request.object.metadata.namespace || ''{{a}}'' }}/services?limit={{x}}'": {Kinds: []object.GroupKind{{Kind: "Service"}}},
		"urlPath: '/apis/networking.k8s.io/v1/ingresses?labelSelector=a%3Db'":                                     {Kinds: []object.GroupKind{{Group: "networking.k8s.io", Kind: "Ingress"}}},
		"urlPath: '/api/v1/namespaces/{{ request.namespace }}'":                                                   {Kinds: []object.GroupKind{{Kind: "Namespace"}}},
		"urlPath: '/apis/external-secrets.io/v1/externalsecrets/{{ x }}'":                                         {Kinds: []object.GroupKind{{Group: "external-secrets.io", Kind: policy.Any}}},
		"urlPath: '/apis/apps/v1/namespaces/a/{{ to_lower(request.kind.kind) }}s'":                                {AnyKind: true},
		"urlPath: '{{ request.object.metadata.annotations.path }}'":                                               {AnyKind: true},
		"urlPath: /version":                      {Outside: true},
		"service: {url: 'https://example.com/'}": {Outside: true},
		"{urlPath: /apis/authorization.k8s.io/v1/subjectaccessreviews, method: POST}": {Outside: true},
	} {
		if !strings.HasPrefix(call, "{") {
			call = "{" + call + "}"
		}
		set := load(t, "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  - name: a\n    match: {any: [{resources: {kinds: [Pod]}}]}\n"+
			"    context: [{name: d, apiCall: "+call+"}]\n    validate: {message: m, deny: {}}\n")
		if len(set.Rules) != 1 {
			t.Fatalf("%s: %+v", call, set.Problems)
		}
		if diff := cmp.Diff(want, set.Rules[0].Info().Needs); diff != "" {
			t.Errorf("%s: %s", call, diff)
		}
	}
}
