// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/facts/rbac"
)

func TestAsk(t *testing.T) {
	served := []Resource{{Name: "rollouts", Group: "argoproj.io", Kind: "Rollout", Namespaced: true}, {Name: "widgets", Group: "example.com", Kind: "Widget"}}
	for _, c := range []struct {
		words string // VERB RESOURCE [NAME]
		sub   string
		ns    string
		want  Question
		note  string
	}{
		{words: "get pods", want: Question{Request: rbac.Request{Verb: "get", Resource: "pods"}, Anywhere: true}},
		{words: "GET po", ns: "shop", want: Question{Request: rbac.Request{Verb: "get", Resource: "pods", Namespace: "shop"}}},
		{words: "get Pod", want: Question{Request: rbac.Request{Verb: "get", Resource: "pods"}, Anywhere: true}},
		{words: "delete deploy/web", ns: "shop", want: Question{Request: rbac.Request{Verb: "delete", Group: "apps", Resource: "deployments", Name: "web", Namespace: "shop"}}},
		{words: "get deployments.apps", want: Question{Request: rbac.Request{Verb: "get", Group: "apps", Resource: "deployments"}, Anywhere: true}},
		{words: "get deployments.v1.apps", want: Question{Request: rbac.Request{Verb: "get", Group: "apps", Resource: "deployments"}, Anywhere: true}},
		{words: "create pods/exec", want: Question{Request: rbac.Request{Verb: "create", Resource: "pods", Subresource: "exec"}, Anywhere: true}},
		{words: "create pods/web", sub: "exec", want: Question{Request: rbac.Request{Verb: "create", Resource: "pods", Subresource: "exec", Name: "web"}, Anywhere: true}},
		{words: "create pods web", sub: "exec", want: Question{Request: rbac.Request{Verb: "create", Resource: "pods", Subresource: "exec", Name: "web"}, Anywhere: true}},
		{words: "update */scale", want: Question{Request: rbac.Request{Verb: "update", Group: "*", Resource: "*", Subresource: "scale"}, Anywhere: true}},
		{words: "* *", want: Question{Request: rbac.Request{Verb: "*", Group: "*", Resource: "*"}, Anywhere: true}},
		{words: "get nodes", want: Question{Request: rbac.Request{Verb: "get", Resource: "nodes"}, Scoped: true}},
		{words: "get nodes", ns: "shop", want: Question{Request: rbac.Request{Verb: "get", Resource: "nodes"}, Scoped: true}, note: "nodes are in no namespace"},
		{words: "get ns/shop", want: Question{Request: rbac.Request{Verb: "get", Resource: "namespaces", Name: "shop", Namespace: "shop"}, Scoped: true}},
		{words: "get /metrics", want: Question{Request: rbac.Request{Verb: "get", Path: "/metrics"}, Scoped: true}},
		{words: "impersonate userextras/scopes", want: Question{Request: rbac.Request{Verb: "impersonate", Group: "authentication.k8s.io", Resource: "userextras", Subresource: "scopes"}, Scoped: true}},
		{words: "get rollout", want: Question{Request: rbac.Request{Verb: "get", Group: "argoproj.io", Resource: "rollouts"}, Anywhere: true}},
		{words: "get widgets", want: Question{Request: rbac.Request{Verb: "get", Group: "example.com", Resource: "widgets"}, Scoped: true}},
		{words: "get gizmos.example.com", want: Question{Request: rbac.Request{Verb: "get", Group: "example.com", Resource: "gizmos"}, Anywhere: true}, note: `"gizmos.example.com" is not among`},
		{words: "get sercets", want: Question{Request: rbac.Request{Verb: "get", Resource: "sercets"}, Anywhere: true}, note: `did you mean "secrets"?`},
		{words: "gte sercets", want: Question{Request: rbac.Request{Verb: "gte", Resource: "sercets"}, Anywhere: true}, note: `"gte" is no verb of Kubernetes itself, and is taken as it is; did you mean "get"?; "sercets"`},
		{words: "gte /metrics", want: Question{Request: rbac.Request{Verb: "gte", Path: "/metrics"}, Scoped: true}, note: `did you mean "get"?`},
		{words: "use storageclasses", want: Question{Request: rbac.Request{Verb: "use", Group: "storage.k8s.io", Resource: "storageclasses"}, Scoped: true}},
	} {
		t.Run(strings.TrimSpace(c.words+" "+c.sub+" "+c.ns), func(t *testing.T) {
			f := append(strings.Fields(c.words), "")
			got, err := Ask(f[0], f[1], f[2], c.sub, c.ns, served)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Note, c.note) || c.note == "" && got.Note != "" {
				t.Errorf("note %q, want %q", got.Note, c.note)
			}
			got.Note = ""
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAskRefuses(t *testing.T) {
	for _, c := range []struct{ resource, name, want string }{
		{"", "", `"" is no resource`},
		{"pods/", "", `"pods/" is no resource`},
		{"pods,secrets", "", "is no resource"},
		{"/metrics", "web", "takes no name"},
	} {
		if _, err := Ask("get", c.resource, c.name, "", "", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: got %v, want %q", c.resource, c.name, err, c.want)
		}
	}
}

func TestNear(t *testing.T) {
	known := []string{"secrets", "services", "pods", "sa:shop/web"}
	for typed, want := range map[string]string{"secret": "secrets", "serivces": "services", "pdos": "pods", "sa:shop/wbe": "sa:shop/web", "horses": "", "": ""} {
		got := near(typed, known)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("near(%q) = %q, want %q", typed, got, want)
		}
	}
}
