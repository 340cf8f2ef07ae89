// SPDX-License-Identifier: Apache-2.0

package role

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/generate/recording"
	"sconce.dev/sconce/object"
)

// logOf reads a text as an audit log.
func logOf(t testing.TB, text string) *Log {
	t.Helper()
	l := NewLog()
	r, err := recording.Open(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Read(r, "audit.log"); err != nil {
		t.Fatal(err)
	}
	return l
}

// account is the ServiceAccount that tests are about.
var account = rbac.Subject{Kind: rbac.ServiceAccount, Namespace: "shop", Name: "web"}

// line returns an event that was allowed.
func line(verb, ref string, more ...string) string {
	return fmt.Sprintf(`{"kind":"Event","stage":"ResponseComplete","verb":%q,"requestURI":"/x?y","user":{"username":"system:serviceaccount:shop:web"},`+
		`"requestReceivedTimestamp":"2026-03-01T08:00:00.000000Z","annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: x"}%s%s}`,
		verb, ref, strings.Join(more, ""))
}

// about returns the objectRef of an event.
func ref(group, resource, namespace, name, subresource string) string {
	return fmt.Sprintf(`,"objectRef":{"apiGroup":%q,"resource":%q,"namespace":%q,"name":%q,"subresource":%q}`, group, resource, namespace, name, subresource)
}

// modelOfYAML returns the model of manifests.
func modelOfYAML(t testing.TB, text string) *rbac.Model {
	t.Helper()
	var kept []any
	for doc := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: doc.Bytes, FirstLine: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if k := rbac.Keep(o); k != nil {
				kept = append(kept, k)
			}
		}
	}
	return rbac.NewModel(kept, &facts.Env{Complete: true})
}

// summary returns the rules of documents, one a line.
func summary(docs []*manifest.Document) string {
	var out strings.Builder
	for _, d := range docs {
		tree, err := d.Tree()
		if err != nil {
			return err.Error()
		}
		rules, _ := tree["rules"].([]any)
		meta := tree["metadata"].(map[string]any)
		for _, r := range rules {
			rule := r.(map[string]any)
			ns, _ := meta["namespace"].(string)
			fmt.Fprintf(&out, "%s %s:", tree["kind"], ns)
			for _, key := range []string{"verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"} {
				if rule[key] != nil {
					fmt.Fprintf(&out, " %v", rule[key])
				}
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// TestGenerate holds what roles come of which requests.
func TestGenerate(t *testing.T) {
	many := func(n int, f func(i int) string) (out string) {
		for i := range n {
			out += f(i) + "\n"
		}
		return out
	}
	for _, tc := range []struct{ name, log, want string }{
		{"a name", line("get", ref("", "configmaps", "shop", "settings", "")), "Role shop: [get] [] [configmaps] [settings]\n"},
		{"verbs of one name", line("get", ref("", "configmaps", "shop", "a", "")) + line("update", ref("", "configmaps", "shop", "a", "")) + line("list", ref("", "configmaps", "shop", "", "")),
			"Role shop: [get update] [] [configmaps] [a]\nRole shop: [list] [] [configmaps]\n"},
		{"create takes no name", line("create", ref("", "configmaps", "shop", "a", "")), "Role shop: [create] [] [configmaps]\n"},
		{"create of a subresource takes one", line("create", ref("", "serviceaccounts", "shop", "a", "token")), "Role shop: [create] [] [serviceaccounts/token] [a]\n"},
		{"deletecollection takes no name", line("deletecollection", ref("", "pods", "shop", "a", "")), "Role shop: [deletecollection] [] [pods]\n"},
		{"a watch of one name", line("watch", ref("", "configmaps", "shop", "a", "")), "Role shop: [watch] [] [configmaps] [a]\n"},
		{"generated names", line("get", ref("", "pods", "shop", "web-6d4b75cb6d-x7k2p", "")), "Role shop: [get] [] [pods]\n"},
		{"names of a StatefulSet", line("get", ref("", "pods", "shop", "db-0", "")), "Role shop: [get] [] [pods] [db-0]\n"},
		{"many names", many(9, func(i int) string { return line("get", ref("", "secrets", "shop", fmt.Sprint("s", i), "")) }), "Role shop: [get] [] [secrets]\n"},
		{"two namespaces", line("list", ref("", "pods", "shop", "", "")) + line("list", ref("", "pods", "bank", "", "")), "Role bank: [list] [] [pods]\nRole shop: [list] [] [pods]\n"},
		{"many namespaces", many(6, func(i int) string { return line("list", ref("", "pods", fmt.Sprint("n", i), "", "")) }), "ClusterRole : [list] [] [pods]\n"},
		{"in the cluster and in a namespace", line("list", ref("", "pods", "shop", "", "")) + line("list", ref("", "pods", "", "", "")), "ClusterRole : [list] [] [pods]\n"},
		{"a resource of the cluster", line("get", ref("", "nodes", "", "n1", "")), "ClusterRole : [get] [] [nodes] [n1]\n"},
		{"resources together", line("list", ref("apps", "deployments", "shop", "", "")) + line("list", ref("apps", "replicasets", "shop", "", "")) + line("list", ref("", "pods", "shop", "", "")),
			"Role shop: [list] [] [pods]\nRole shop: [list] [apps] [deployments replicasets]\n"},
		{"a URL", `{"verb":"get","requestURI":"/metrics?x=1","user":{"username":"system:serviceaccount:shop:web"},"responseStatus":{"code":200}}`, "ClusterRole : [get] [/metrics]\n"},
		{"what everyone may", `{"verb":"get","requestURI":"/apis/apps/v1?timeout=3s","user":{"username":"system:serviceaccount:shop:web"},"responseStatus":{"code":200}}`, ""},
		{"an apply that creates", line("patch", ref("apps", "deployments", "shop", "web", ""), `,"responseStatus":{"code":201}`),
			"Role shop: [create patch] [apps] [deployments] [web]\n"},
		{"a watch that goes on", strings.Replace(line("watch", ref("", "pods", "shop", "", "")), "ResponseComplete", "ResponseStarted", 1), "Role shop: [watch] [] [pods]\n"},
		{"before the decision", strings.Replace(line("list", ref("", "pods", "shop", "", "")), "ResponseComplete", "RequestReceived", 1), ""},
		{"refused", strings.Replace(line("list", ref("", "pods", "shop", "", "")), `"allow"`, `"forbid"`, 1), ""},
		{"allowed by another authorizer", strings.Replace(line("list", ref("", "pods", "shop", "", "")), "RBAC: x", "webhook says so", 1), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := logOf(t, tc.log)
			a := l.Of(account)
			if a == nil {
				if tc.want != "" {
					t.Fatal("the subject asked for nothing")
				}
				return
			}
			r, err := Generate(a, nil, DefaultOptions)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, summary(r.Documents)); diff != "" {
				t.Error(diff)
			}
			if !r.Proof.Holds() {
				t.Errorf("not proven: %q", r.Proof.Failures)
			}
			if l.Faults.Count > 0 {
				t.Errorf("faults: %v", l.Faults)
			}
		})
	}
}

const today = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web, namespace: shop}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get, update], resourceNames: [a, b, c, d, e, f, g, h, i, j]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}
subjects: [{kind: ServiceAccount, name: web, namespace: shop}, {kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]
`

// TestToday holds that roles stay within what is allowed today, and that what
// does not fit is a failure and not a wider role.
func TestToday(t *testing.T) {
	old := modelOfYAML(t, today)
	var log string
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		log += line("get", ref("", "configmaps", "shop", name, ""))
	}
	log += line("list", ref("", "pods", "shop", "", ""))
	r, err := Generate(logOf(t, log).Of(account), old, DefaultOptions)
	if err != nil {
		t.Fatal(err)
	}
	want := "Role shop: [get] [] [configmaps] [a b c d e f g h i]\nRole shop: [list] [] [pods]\n"
	if diff := cmp.Diff(want, summary(r.Documents)); diff != "" {
		t.Error(diff)
	}
	if !r.Proof.Holds() || !r.Proof.Compared || r.Proof.Grants != 10 {
		t.Errorf("got the proof %+v", r.Proof)
	}
	if len(r.Held) != 2 || !slices.Equal(r.Held[0].Unused, []string{"update configmaps"}) || !slices.Equal(r.Held[1].Unused, []string{"get, delete pods"}) {
		t.Errorf("got what is held as %+v", r.Held)
	}
	if want := []string{"RoleBinding.rbac.authorization.k8s.io shop/web (beside 1 more)"}; !slices.Equal(r.Replaces, want) {
		t.Errorf("got the bindings %q", r.Replaces)
	}

	r, err = Generate(logOf(t, log+line("delete", ref("", "secrets", "shop", "s", ""))).Of(account), old, DefaultOptions)
	if err != nil {
		t.Fatal(err)
	}
	if r.Proof.Holds() || strings.Contains(summary(r.Documents), "secrets") {
		t.Errorf("what is not allowed today was granted, or passed over: %+v\n%s", r.Proof, summary(r.Documents))
	}
}

// TestEnvelopes holds that events are found in what clouds and collectors wrap
// them in.
func TestEnvelopes(t *testing.T) {
	e := line("list", ref("", "pods", "shop", "", ""))
	quoted := fmt.Sprintf("%q", e)
	for name, text := range map[string]string{
		"EventList":     `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + e + `]}`,
		"list":          "[\n" + e + "\n]",
		"Fluent Bit":    `{"date":1,"log":` + quoted + `}`,
		"CloudWatch":    `{"events":[{"timestamp":1,"message":` + quoted + `}]}`,
		"subscription":  `{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1","timestamp":1,"message":` + quoted + `}]}`,
		"Azure":         `{"records":[{"category":"kube-audit","properties":{"log":` + quoted + `,"stream":"stdout"}}]}`,
		"Google":        `{"timestamp":"2026-03-01T08:00:00Z","labels":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: x"},"protoPayload":{"methodName":"io.k8s.core.v1.pods.list","resourceName":"core/v1/namespaces/shop/pods","authenticationInfo":{"principalEmail":"system:serviceaccount:shop:web"}}}`,
		"Google, bare":  `{"timestamp":"2026-03-01T08:00:00Z","protoPayload":{"methodName":"io.k8s.core.v1.pods.list","resourceName":"core/v1/namespaces/shop/pods","authorizationInfo":[{"granted":true}],"authenticationInfo":{"principalEmail":"system:serviceaccount:shop:web"}}}`,
		"after a break": "{\"kind\":\n" + e,
	} {
		t.Run(name, func(t *testing.T) {
			l := logOf(t, text)
			a := l.Of(account)
			if a == nil {
				t.Fatalf("no event was found: %+v", l)
			}
			r, err := Generate(a, nil, DefaultOptions)
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(r.Documents); got != "Role shop: [list] [] [pods]\n" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestImpersonation holds that a request counts for who it was made as, and that
// acting as another is a right of its own.
func TestImpersonation(t *testing.T) {
	e := line("list", ref("", "pods", "shop", "", ""), `,"impersonatedUser":{"username":"jane","groups":["devs","system:authenticated"]}`)
	l := logOf(t, e)
	for _, tc := range []struct {
		who  rbac.Subject
		want string
	}{
		{account, "ClusterRole : [impersonate] [] [groups] [devs]\nClusterRole : [impersonate] [] [users] [jane]\n"},
		{rbac.Subject{Kind: rbac.User, Name: "jane"}, "Role shop: [list] [] [pods]\n"},
	} {
		r, err := Generate(l.Of(tc.who), nil, DefaultOptions)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, summary(r.Documents)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestImpersonationWhole holds that who impersonates may also name the uid and the
// extra fields that it named.
func TestImpersonationWhole(t *testing.T) {
	l := logOf(t, line("list", ref("", "pods", "shop", "", ""), `,"impersonatedUser":{"username":"jane","uid":"u-1","groups":["system:authenticated"],"extra":{"example.com/team":["a","b"],"odd":7}}`))
	r, err := Generate(l.Of(account), nil, DefaultOptions)
	if err != nil {
		t.Fatal(err)
	}
	want := "ClusterRole : [impersonate] [] [users] [jane]\n" +
		"ClusterRole : [impersonate] [authentication.k8s.io] [uids] [u-1]\n" +
		"ClusterRole : [impersonate] [authentication.k8s.io] [userextras/example.com/team] [a b]\n"
	if diff := cmp.Diff(want, summary(r.Documents)); diff != "" || !r.Proof.Holds() {
		t.Errorf("%s\n%+v", diff, r.Proof)
	}
}

// TestRoleNames holds that no two subjects get roles of the same name.
func TestRoleNames(t *testing.T) {
	seen := map[string]rbac.Subject{}
	for _, s := range []rbac.Subject{
		{Kind: rbac.User, Name: "a/b"}, {Kind: rbac.User, Name: "a%b"}, {Kind: rbac.User, Name: "a_b"}, {Kind: rbac.User, Name: "x"}, {Kind: rbac.User, Name: "X"},
		{Kind: rbac.ServiceAccount, Namespace: "user", Name: "x"}, account,
	} {
		name := roleName(s)
		if other, ok := seen[name]; ok || strings.ContainsAny(name, "/%") {
			t.Errorf("%s and %s are both called %q", s, other, name)
		}
		seen[name] = s
	}
}

// TestNothingAsked holds that an event that does not tell what was asked for is
// counted, and grants nothing.
func TestNothingAsked(t *testing.T) {
	l := logOf(t, strings.Replace(line("get", ""), `"/x?y"`, `""`, 1)+"\n"+line("", ref("", "pods", "shop", "", "")))
	if l.Undecided != 2 || len(l.Activities()) > 0 {
		t.Errorf("got %+v", l)
	}
}

// TestText holds what a person is told.
func TestText(t *testing.T) {
	old := modelOfYAML(t, today)
	log := line("list", ref("", "pods", "shop", "", "")) + "\nhello\n" +
		strings.Replace(line("list", ref("", "secrets", "shop", "", "")), `"allow"`, `"forbid"`, 1)
	l := logOf(t, log)
	r, err := Generate(l.Of(account), old, DefaultOptions)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := l.Text(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `read 2 audit events from 2026-03-01 08:00:00 to 2026-03-01 08:00:00 UTC: 1 subjects
1 parts of the logs could not be read
  audit.log:2: this is no JSON object
what did not happen in this time (a monthly job, a failover) is in no role: a window proves only itself
ServiceAccount shop/web
  1 requests were allowed from 2026-03-01 08:00:00 to 2026-03-01 08:00:00 UTC
  proven: all 1 kinds of requests are allowed by the new roles, and all 1 grants of these are allowed today
  asked for and refused, not granted:
    list secrets in shop, once
  wider than what was seen:
    list pods in shop, any name: was asked for without a name, once
  held today and not used in this time:
    RoleBinding.rbac.authorization.k8s.io shop/web, rule 0 of Role.rbac.authorization.k8s.io shop/web: get, update configmaps named a, b, c, d, e, f, g, h, i, j
    RoleBinding.rbac.authorization.k8s.io shop/web, rule 1 of Role.rbac.authorization.k8s.io shop/web: get, delete pods
  to put the roles in force, take it out of:
    RoleBinding.rbac.authorization.k8s.io shop/web (beside 1 more)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestProperty holds for random rights and random requests that these allow: the
// roles allow the requests, and nothing that the rights do not.
func TestProperty(t *testing.T) {
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	resources := []string{"pods", "configmaps", "secrets", "pods/log", "serviceaccounts/token"}
	names := []string{"", "a", "b", "web-6d4b75cb6d-x7k2p"}
	namespaces := []string{"", "shop", "bank", "n1", "n2"}
	groups := []string{"", "apps"}
	request := rapid.Custom(func(t *rapid.T) rbac.Request {
		r := rbac.Request{
			Verb: rapid.SampledFrom(verbs).Draw(t, "verb"), Group: rapid.SampledFrom(groups).Draw(t, "group"),
			Name: rapid.SampledFrom(names).Draw(t, "name"), Namespace: rapid.SampledFrom(namespaces).Draw(t, "namespace"),
		}
		r.Resource, r.Subresource, _ = strings.Cut(rapid.SampledFrom(resources).Draw(t, "resource"), "/")
		if !nameCounts(r.Verb, r.Subresource) {
			r.Name = ""
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		old := modelOf2(t, rapid.SliceOfN(rapid.Custom(randomBinding), 1, 4).Draw(t, "bindings"))
		l := NewLog()
		a := l.activity(&identity{Username: text(account.UserName())})
		var asked []rbac.Request
		for _, r := range rapid.SliceOfN(request, 1, 30).Draw(t, "requests") {
			if old.Can(account, nil, r).Allowed {
				asked = append(asked, r)
				a.record(a.allowed, r, 1, a.Window.First)
			}
		}
		opts := Options{MaxNames: rapid.IntRange(0, 3).Draw(t, "names"), MaxNamespaces: rapid.IntRange(0, 3).Draw(t, "namespaces")}
		result, err := Generate(a, old, opts)
		if err != nil {
			t.Fatal(err)
		}
		if !result.Proof.Holds() || len(result.Proof.Unknown) > 0 {
			t.Fatalf("not proven: %+v\n%s", result.Proof, summary(result.Documents))
		}
		fresh, err := modelOf(result.Documents)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range asked {
			if !fresh.Can(account, nil, r).Allowed {
				t.Fatalf("%+v was asked for, and is not allowed by\n%s", r, summary(result.Documents))
			}
		}
		for _, r := range rapid.SliceOfN(request, 10, 40).Draw(t, "others") {
			if fresh.Can(account, nil, r).Allowed && !old.Can(account, nil, r).Allowed {
				t.Fatalf("%+v is allowed now by\n%s", r, summary(result.Documents))
			}
		}
	})
}

// randomBinding returns a role and its binding as YAML.
func randomBinding(t *rapid.T) string {
	list := func(name string, from []string) string {
		return "[" + strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, 3, rapid.ID).Draw(t, name), ", ") + "]"
	}
	id := fmt.Sprintf("r%d", rapid.IntRange(0, 1<<30).Draw(t, "id"))
	namespace := rapid.SampledFrom([]string{"", "shop", "bank", "n1", "n2"}).Draw(t, "namespace")
	kind, meta := "Role", "{name: "+id+", namespace: "+namespace+"}"
	if namespace == "" {
		kind, meta = "ClusterRole", "{name: "+id+"}"
	}
	rule := fmt.Sprintf(`{apiGroups: %s, resources: %s, verbs: %s`, list("groups", []string{`""`, "apps", `"*"`}),
		list("resources", []string{"pods", "configmaps", "secrets", "pods/log", `"*"`, `"*/token"`}), list("verbs", []string{"get", "list", "create", "update", "delete", `"*"`}))
	if rapid.Bool().Draw(t, "named") {
		rule += ", resourceNames: " + list("names", []string{"a", "b", "c"})
	}
	return fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: %s
metadata: %s
rules: [%s}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: %sBinding
metadata: %s
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: %s, name: %s}
subjects: [{kind: ServiceAccount, name: web, namespace: shop}]
`, kind, meta, rule, kind, meta, kind, id)
}

func modelOf2(t *rapid.T, bindings []string) *rbac.Model {
	var kept []any
	for doc := range object.Split([]byte(strings.Join(bindings, "---"))) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		if root == nil {
			continue
		}
		kept = append(kept, rbac.Keep(object.New(root, &object.Origin{Source: "test.yaml"})))
	}
	return rbac.NewModel(kept, &facts.Env{Complete: true})
}

// TestRealLog reads the log that the variable SCONCE_AUDIT_LOG names, and proves
// the roles of all subjects.
func TestRealLog(t *testing.T) {
	name := os.Getenv("SCONCE_AUDIT_LOG")
	if name == "" {
		t.Skip("SCONCE_AUDIT_LOG names no log")
	}
	data, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		t.Fatal(err)
	}
	l := logOf(t, string(data))
	var b strings.Builder
	if err := l.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, a := range l.Activities() {
		r, err := Generate(a, nil, DefaultOptions)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Proof.Holds() {
			t.Errorf("not proven: %s: %q", a.Subject, r.Proof.Failures)
		}
		if err := r.Text(&b); err != nil {
			t.Fatal(err)
		}
		b.WriteString(summary(r.Documents))
	}
	t.Log(b.String())
}

// FuzzAudit holds that no log makes the reader panic, that all of it is counted,
// and that the roles of what it tells are proven.
func FuzzAudit(f *testing.F) {
	f.Add(line("list", ref("", "pods", "shop", "", "")))
	f.Add(line("get", ref("apps", "deployments", "shop", "web", "scale"), `,"impersonatedUser":{"username":"system:serviceaccount:a:b","groups":["x"]}`))
	f.Add(`{"user":{},"annotations":{"authorization.k8s.io/decision":"allow"},"impersonatedUser":{"username":"x"}}`)
	f.Add(`{"kind":"EventList","items":[{"verb":1},{"user":"x"}]}`)
	f.Add(`{"protoPayload":{"methodName":"io.k8s.core.v1.pods.list","resourceName":"core/v1/namespaces/shop"}}`)
	f.Add(`{"records":[{"properties":{"log":"{\"log\":\"{}\"}"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\x1f\x8b") {
			return
		}
		l := logOf(t, text)
		for _, a := range l.Activities() {
			r, err := Generate(a, nil, DefaultOptions)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Proof.Holds() {
				t.Errorf("not proven: %q", r.Proof.Failures)
			}
			if _, err := manifest.YAML(r.Documents); err != nil {
				t.Error(err)
			}
		}
	})
}
