// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// manifest is one object in a line; RBAC stands for its API group and version.
func manifest(kind, namespace, name, rest string) string {
	version := "v1"
	if strings.Contains(kind, "Role") {
		version = group + "/v1"
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {namespace: %q, name: %q}%s}", version, kind, namespace, name, rest)
}

func rules(all ...string) string { return ", rules: [" + strings.Join(all, ", ") + "]" }

const readSecrets = "{apiGroups: [''], resources: [secrets], verbs: [get]}"

func keptFrom(t testing.TB, objects []string) []any {
	t.Helper()
	var kept []any
	for _, o := range parse(t, strings.Join(objects, "\n---\n")) {
		kept = append(kept, Keep(o))
	}
	return kept
}

// text writes down an answer: allowed, by which bindings and roles, and what is
// not known.
func (a Answer) text() string {
	out := []string{map[bool]string{true: "yes", false: "no"}[a.Allowed]}
	if a.Master {
		out = append(out, "master")
	}
	for _, g := range a.By {
		line := fmt.Sprintf("%s %s[%d] via %s", shortRef(g.Binding.Ref), shortRef(g.RuleRole), g.Rule.Index, g.Via)
		if g.Maybe != "" {
			line += " maybe: " + g.Maybe
		}
		out = append(out, line)
	}
	for _, u := range a.Unknown {
		out = append(out, "unknown: "+u)
	}
	return strings.Join(out, "; ")
}

// TestCan says what is answered, and why.
func TestCan(t *testing.T) {
	reader := aRole("shop")
	reader = strings.TrimSuffix(reader, "}") + rules(readSecrets) + "}"
	web := Subject{ServiceAccount, "shop", "web"}
	get := Request{Verb: "get", Resource: "secrets", Namespace: "shop", Name: "x"}
	inCluster := Request{Verb: "get", Resource: "secrets", Name: "x"}
	for _, c := range []struct {
		name     string
		partly   bool
		objects  []string
		who      Subject
		groups   []string
		request  Request
		expected string
	}{
		{"a Role", false, []string{reader, bound("shop", "/reader", subject("shop", "web"))}, web, nil, get, "yes; RoleBinding shop/binding Role shop/reader[0] via ServiceAccount shop/web"},
		{"in the namespace of the binding", false, []string{reader, bound("shop", "/reader", "{kind: ServiceAccount, name: web}")}, web, nil, get, "yes; RoleBinding shop/binding Role shop/reader[0] via ServiceAccount shop/web"},
		{"not cluster-wide", false, []string{reader, bound("shop", "/reader", subject("shop", "web"))}, web, nil, inCluster, "no"},
		{"as a user", false, []string{reader, bound("shop", "/reader", named("User", "system:serviceaccount:shop:web"))}, web, nil, get, "yes; RoleBinding shop/binding Role shop/reader[0] via ServiceAccount shop/web"},
		{"by a group", false, []string{bound("", "system:kube-scheduler", named("Group", "system:serviceaccounts:shop"))}, web, nil, Request{Verb: "watch", Resource: "pods", Namespace: "x"},
			"yes; ClusterRoleBinding binding ClusterRole system:kube-scheduler[5] via Group system:serviceaccounts:shop"},
		{"a ClusterRole in a namespace has no paths", false, []string{bound("shop", "cluster-admin", subject("shop", "web"))}, web, nil, Request{Verb: "get", Path: "/metrics"}, "no"},
		{"a ClusterRole in a namespace", false, []string{bound("shop", "cluster-admin", subject("shop", "web"))}, web, nil, Request{Verb: "*", Resource: "*", Group: "*", Namespace: "shop"}, "yes; RoleBinding shop/binding ClusterRole cluster-admin[0] via ServiceAccount shop/web"},
		{"a ClusterRole everywhere", false, []string{bound("", "cluster-admin", subject("shop", "web"))}, web, nil, Request{Verb: "get", Path: "/metrics"}, "yes; ClusterRoleBinding binding ClusterRole cluster-admin[1] via ServiceAccount shop/web"},
		{"no Role for a ClusterRole", false, []string{reader, bound("shop", "reader", subject("shop", "web"))}, web, nil, get, "no"},
		{"a role that is not there", true, []string{bound("shop", "/reader", subject("shop", "web"))}, web, nil, get,
			"no; unknown: RoleBinding.rbac.authorization.k8s.io shop/binding: the Role shop/reader is not among what was read; unknown: there may be roles and bindings that were not read"},
		{"masters", false, nil, Subject{Kind: User, Name: "jane"}, []string{Masters}, get, "yes; master"},
		{"a node by its name alone", false, nil, Subject{Kind: User, Name: "system:node:a"}, nil, get, "no; unknown: the authorizer of nodes lets a node do more than RBAC does"},
		{"a node", false, nil, Subject{Kind: User, Name: "system:node:a"}, []string{Nodes}, get, "no; unknown: the authorizer of nodes lets a node do more than RBAC does"},
		{"anonymous", false, []string{bound("", "view", named("Group", "system:unauthenticated"))}, Subject{Kind: User, Name: Anonymous}, nil, Request{Verb: "get", Resource: "pods"}, "yes; ClusterRoleBinding binding ClusterRole system:aggregate-to-view[0] via Group system:unauthenticated"},
		{"anonymous is not authenticated", false, []string{bound("", "view", named("Group", "system:authenticated"))}, Subject{Kind: User, Name: Anonymous}, nil, Request{Verb: "get", Resource: "pods"}, "no"},
		{"a subject that the API server refuses", false, []string{bound("", "cluster-admin", "{kind: ServiceAccount, name: web}, {kind: User, apiGroup: x, name: jane}")}, web, nil, get, "no"},
		{"a binding that the API server refuses", false, []string{reader, strings.Replace(bound("", "reader", subject("shop", "web")), "kind: ClusterRole,", "kind: Role,", 1)}, web, nil, get, "no"},
		{"a binding without a namespace", false, []string{bound("", "cluster-admin", "{kind: ServiceAccount, name: web}"), strings.Replace(bound("shop", "cluster-admin", "{kind: ServiceAccount, name: web}"), `"shop"`, `""`, 1)}, web, nil, get,
			"no; RoleBinding binding ClusterRole cluster-admin[0] via ServiceAccount web maybe: ServiceAccount web may be ServiceAccount shop/web: one of them does not say its namespace"},
		{"a path, and a binding without a namespace", false, []string{strings.Replace(bound("shop", "cluster-admin", subject("shop", "web")), `namespace: "shop", name: binding`, `namespace: "", name: binding`, 1)}, web, nil, Request{Verb: "get", Path: "/metrics"}, "no"},
		{"a rule that is not read", false, []string{strings.TrimSuffix(reader, "]}") + ", {verbs: 1}]}", bound("shop", "/reader", subject("shop", "web"))}, web, nil, get,
			"yes; RoleBinding shop/binding Role shop/reader[0] via ServiceAccount shop/web; unknown: RoleBinding.rbac.authorization.k8s.io shop/binding: Role.rbac.authorization.k8s.io shop/reader: rules[1]: verbs is an integer, not a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewModel(keptFrom(t, c.objects), &facts.Env{Complete: !c.partly})
			if got := m.Can(c.who, c.groups, c.request).text(); got != c.expected {
				t.Errorf("got\n%s\nwant\n%s", got, c.expected)
			}
		})
	}
}

// TestAllows says what rules cover.
func TestAllows(t *testing.T) {
	rule := func(resources, names, paths string) Rule {
		list := strings.Fields
		return Rule{Verbs: []string{"get"}, Groups: []string{""}, Resources: list(resources), Names: list(names), Paths: list(paths)}
	}
	for _, c := range []struct {
		rule Rule
		q    Request
		want bool
	}{
		{rule("pods", "", ""), Request{Resource: "pods"}, true},
		{rule("pods", "", ""), Request{Resource: "pods", Subresource: "log"}, false},
		{rule("pods/log", "", ""), Request{Resource: "pods", Subresource: "log"}, true},
		{rule("pods/log", "", ""), Request{Resource: "pods/log"}, true},
		{rule("pods/log", "", ""), Request{Resource: "pods"}, false},
		{rule("*/scale", "", ""), Request{Resource: "things", Subresource: "scale"}, true},
		{rule("*/scale", "", ""), Request{Resource: "things", Subresource: "autoscale"}, false},
		{rule("*/scale", "", ""), Request{Resource: "things"}, false},
		{rule("pods/*", "", ""), Request{Resource: "pods", Subresource: "log"}, false},
		{rule("*", "", ""), Request{Resource: "pods", Subresource: "log"}, true},
		{rule("userextras/a.b/c", "", ""), Request{Resource: "userextras", Subresource: "a.b/c"}, true},
		{rule("pods", "web", ""), Request{Resource: "pods", Name: "web"}, true},
		{rule("pods", "web", ""), Request{Resource: "pods"}, false},
		{rule("pods", "*", ""), Request{Resource: "pods", Name: "web"}, false},
		{rule("", "", "/healthz/*"), Request{Path: "/healthz/etcd"}, true},
		{rule("", "", "/healthz/*"), Request{Path: "/healthz"}, false},
		{rule("", "", "/health*"), Request{Path: "/healthz"}, true},
		{rule("", "", "/*/x"), Request{Path: "/a/x"}, false},
		{rule("*", "", ""), Request{Path: "/healthz"}, false},
	} {
		c.q.Verb = "get"
		if got := c.rule.Allows(c.q); got != c.want {
			t.Errorf("%+v allows %+v: %t, want %t", c.rule, c.q, got, c.want)
		}
	}
}

// TestParseSubject reads what people write, and refuses what is nobody.
func TestParseSubject(t *testing.T) {
	for text, want := range map[string]string{
		"sa:shop/web": "ServiceAccount shop/web", "serviceaccount:shop/web": "ServiceAccount shop/web", "system:serviceaccount:shop:web": "ServiceAccount shop/web",
		"user:system:serviceaccount:shop:web": "ServiceAccount shop/web", "jane": "User jane", "user:jane": "User jane", "group:devs": "Group devs", "system:kube-scheduler": "User system:kube-scheduler",
		"group:system:masters": "Group system:masters", "jane@example.com": "User jane@example.com", "oidc:jane": "User oidc:jane", "user:system:serviceaccount::web": "User system:serviceaccount::web",
		"sa:web": `subject "sa:web": want sa:NAMESPACE/NAME`, "user:": `subject "user:": want user:NAME`, "": "the subject is empty: want sa:NAMESPACE/NAME, user:NAME or group:NAME",
		"system:serviceaccount:web": `subject "system:serviceaccount:web": want system:serviceaccount:NAMESPACE:NAME`,
	} {
		s, err := ParseSubject(text)
		got := s.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestIndirect says who may do something in one step more.
func TestIndirect(t *testing.T) {
	clusterRole := func(name string, all ...string) string { return manifest("ClusterRole", "", name, rules(all...)) }
	bind := func(name, role, who string) string {
		return strings.Replace(bound("", role, named("User", who)), "name: binding", "name: "+name, 1)
	}
	base := []string{clusterRole("reader", readSecrets), strings.Replace(bound("shop", "reader", subject("shop", "web")), "name: binding", "name: reads", 1)}
	request := Request{Verb: "get", Resource: "secrets", Namespace: "shop", Name: "x"}
	rule := func(group, resource, verb, rest string) string {
		return fmt.Sprintf("{apiGroups: [%q], resources: [%q], verbs: [%q]%s}", group, resource, verb, rest)
	}
	for _, c := range []struct {
		name  string
		rules []string
		want  string
	}{
		{"impersonate", []string{rule("", "serviceaccounts", "impersonate", "")}, "User eve impersonate ServiceAccount shop/web"},
		{"what is allowed already", []string{rule("*", "*", "*", "")}, ""},
		{"impersonate another", []string{rule("", "serviceaccounts", "impersonate", ", resourceNames: [db]")}, ""},
		{"a group alone", []string{rule("", "groups", "impersonate", ", resourceNames: ['system:masters']")}, ""},
		{"a group and a user", []string{rule("", "groups", "impersonate", ", resourceNames: ['system:masters']"), rule("", "users", "impersonate", ", resourceNames: [bob]")}, "User eve impersonate Group system:masters"},
		{"a token", []string{rule("", "serviceaccounts/token", "create", "")}, "User eve token ServiceAccount shop/web"},
		{"constrained", []string{rule(authenticationGroup, "serviceaccounts", "impersonate:serviceaccount", ""), rule("", "secrets", "impersonate-on:serviceaccount:get", "")}, "User eve impersonate-on ServiceAccount shop/web"},
		{"constrained to something else", []string{rule(authenticationGroup, "serviceaccounts", "impersonate:serviceaccount", ""), rule("", "pods", "impersonate-on:serviceaccount:get", "")}, ""},
		{"the mode of users", []string{rule(authenticationGroup, "serviceaccounts", "impersonate:user-info", ""), rule("", "secrets", "impersonate-on:user-info:get", "")}, ""},
		{"masters by constrained", []string{rule(authenticationGroup, "*", "impersonate:user-info", ""), rule("", "secrets", "impersonate-on:user-info:get", "")}, ""},
		{"bind", []string{rule(group, "clusterroles", "bind", ""), rule(group, "rolebindings", "create", "")}, "User eve bind ClusterRole admin"},
		{"bind one", []string{rule(group, "clusterroles", "bind", ", resourceNames: [reader]"), rule(group, "clusterrolebindings", "create", "")}, "User eve bind ClusterRole reader"},
		{"bind another", []string{rule(group, "clusterroles", "bind", ", resourceNames: [view]"), rule(group, "clusterrolebindings", "create", "")}, ""},
		{"bind without a binding", []string{rule(group, "clusterroles", "bind", "")}, ""},
		{"escalate", []string{rule(group, "clusterroles", "escalate", ""), rule(group, "clusterroles", "patch", "")}, "User eve escalate ClusterRole eves"},
		{"escalate what is not bound", []string{rule(group, "clusterroles", "escalate", ", resourceNames: [view]"), rule(group, "clusterroles", "patch", "")}, ""},
		{"escalate without writing", []string{rule(group, "clusterroles", "escalate", "")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewModel(keptFrom(t, append(slices.Clone(base), clusterRole("eves", c.rules...), bind("eve", "eves", "eve"))), &facts.Env{Complete: true})
			var got []string
			for _, in := range m.Indirect(request) {
				for _, s := range in.Steps {
					as := s.As.String()
					if s.As == (Subject{}) {
						as = shortRef(s.Role)
					}
					got = append(got, fmt.Sprintf("%s %s %s", in.Subject, s.Way, as))
				}
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// world generates a few objects that meet in few names, some of which do not say
// their namespace.
type world struct {
	files bool // some objects do not say their namespace
	// plain leaves out aggregated ClusterRoles with rules of their own, which
	// hold only as long as no others are found.
	plain bool
}

func (w world) space(t *rapid.T) string {
	if w.files && rapid.IntRange(0, 4).Draw(t, "unsaid") == 0 {
		return ""
	}
	return rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
}

func (w world) rule(t *rapid.T, cluster bool) string {
	list := func(what string, values ...string) string {
		return "[" + strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, 2, rapid.ID).Draw(t, what), ", ") + "]"
	}
	if cluster && rapid.IntRange(0, 4).Draw(t, "path") == 0 {
		return fmt.Sprintf("{verbs: %s, nonResourceURLs: %s}", list("verbs", "get", "'*'"), list("paths", "/x", "'/*'"))
	}
	r := fmt.Sprintf("{verbs: %s, apiGroups: %s, resources: %s", list("verbs", "get", "list", "'*'", "bind", "impersonate"), list("groups", "''", "apps", "'*'"), list("resources", "pods", "secrets", "'*'", "'*/scale'"))
	if rapid.IntRange(0, 3).Draw(t, "named") == 0 {
		r += ", resourceNames: " + list("names", "x", "w")
	}
	return r + "}"
}

func (w world) object(t *rapid.T) string {
	name := rapid.SampledFrom([]string{"x", "w", "z"})
	roles := func(cluster bool) string {
		var all []string
		for range rapid.IntRange(0, 2).Draw(t, "rules") {
			all = append(all, w.rule(t, cluster))
		}
		return rules(all...)
	}
	ref := func() string {
		kind := rapid.SampledFrom([]string{"Role", "ClusterRole", "ClusterRole", "ClusterRole"}).Draw(t, "roleRef")
		return fmt.Sprintf(", roleRef: {kind: %s, name: %s}", kind, rapid.SampledFrom([]string{"x", "w", "z", "view", "sum"}).Draw(t, "role"))
	}
	subjects := func() string {
		var all []string
		for range rapid.IntRange(0, 3).Draw(t, "subjects") {
			all = append(all, rapid.SampledFrom([]string{
				"{kind: User, name: jane}", "{kind: Group, name: devs}", "{kind: Group, name: 'system:authenticated'}", "{kind: Group, name: 'system:serviceaccounts:a'}",
				"{kind: ServiceAccount, name: x, namespace: a}", "{kind: ServiceAccount, name: w, namespace: b}", "{kind: ServiceAccount, name: x}", "{kind: User, name: 'system:serviceaccount:a:w'}",
			}).Draw(t, "subject"))
		}
		return ", subjects: [" + strings.Join(all, ", ") + "]"
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return manifest("Role", w.space(t), name.Draw(t, "name"), roles(false))
	case 1, 2:
		labels := rapid.SampledFrom([]string{"", "", ", labels: {sum: a}", ", labels: {rbac.authorization.k8s.io/aggregate-to-view: 'true'}"}).Draw(t, "labels")
		return strings.Replace(manifest("ClusterRole", "", name.Draw(t, "name"), roles(true)), "}", labels+"}", 1)
	case 3:
		own := ""
		if !w.plain {
			own = roles(true)
		}
		uid := rapid.SampledFrom([]string{"", ", uid: u"}).Draw(t, "uid")
		selector := rapid.SampledFrom([]string{"matchLabels: {sum: a}", "matchExpressions: [{key: sum, operator: Exists}]", "matchExpressions: [{key: sum, operator: DoesNotExist}]"}).Draw(t, "selector")
		return strings.Replace(manifest("ClusterRole", "", rapid.SampledFrom([]string{"sum", "x"}).Draw(t, "name"), own+", aggregationRule: {clusterRoleSelectors: [{"+selector+"}]}"), "}", uid+"}", 1)
	case 4:
		return manifest("RoleBinding", w.space(t), name.Draw(t, "name"), ref()+subjects())
	case 5:
		return manifest("ClusterRoleBinding", "", name.Draw(t, "name"), ref()+subjects())
	case 6:
		return manifest("ServiceAccount", w.space(t), name.Draw(t, "name"), rapid.SampledFrom([]string{"", ", automountServiceAccountToken: false"}).Draw(t, "mount"))
	}
	account := rapid.SampledFrom([]string{"{}", "{serviceAccountName: x}", "{serviceAccountName: w, automountServiceAccountToken: true}", "{serviceAccountName: 1}"}).Draw(t, "spec")
	return manifest("Pod", w.space(t), name.Draw(t, "name"), ", spec: "+account)
}

// objects returns objects of different names.
func (w world) objects(t *rapid.T, count int) []*object.Object {
	var out []*object.Object
	seen := map[object.Ref]bool{}
	for range count {
		for _, o := range parse(t, w.object(t)) {
			if !seen[o.Ref] {
				seen[o.Ref] = true
				out = append(out, o)
			}
		}
	}
	return out
}

var (
	worldSubjects = []Subject{{Kind: User, Name: "jane"}, {Kind: Group, Name: "devs"}, {ServiceAccount, "a", "x"}, {ServiceAccount, "b", "w"}, {ServiceAccount, "", "x"}, {ServiceAccount, "a", "w"}}
	worldRequests = []Request{
		{Verb: "get", Resource: "pods", Namespace: "a"}, {Verb: "get", Resource: "pods"}, {Verb: "list", Resource: "secrets", Namespace: "b", Name: "x"}, {Verb: "get", Path: "/x"},
		{Verb: "get", Group: "apps", Resource: "things", Subresource: "scale", Namespace: "a", Name: "w"}, {Verb: "impersonate", Resource: "users"},
	}
)

// text writes down everything that a model answers.
func (m *Model) text() string {
	var b strings.Builder
	for _, s := range worldSubjects {
		for _, r := range worldRequests {
			fmt.Fprintln(&b, s, r, m.Can(s, []string{"devs"}, r).text())
		}
		for _, g := range m.Permissions(s, nil) {
			fmt.Fprintln(&b, s, shortRef(g.Binding.Ref), g.RuleRole, g.Rule.Index, g.Rule.text.Value(), g.Maybe)
		}
	}
	for _, r := range worldRequests {
		who, unknown := m.WhoCan(r)
		for _, g := range who {
			fmt.Fprintln(&b, r, g.Subject, Answer{By: g.By, Unknown: unknown}.text())
		}
		for _, in := range m.Indirect(r) {
			for _, s := range in.Steps {
				fmt.Fprintln(&b, r, in.Subject, s.Way, s.As, s.Role, len(s.By))
			}
		}
	}
	for _, x := range m.Bindings() {
		fmt.Fprintln(&b, x.Ref, x.Role, x.RoleFound, x.Unknown, x.Subjects, len(x.Rules))
	}
	for _, a := range m.Accounts() {
		fmt.Fprintln(&b, a.Subject, a.Found, a.Mounted, a.MountUnknown, a.RunBy)
	}
	fmt.Fprintln(&b, m.Subjects(), m.Unclear())
	return b.String()
}

// TestSet holds that a model after changes is the one of what is there then, and
// that the facts which are kept up to date are those that are derived.
func TestSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := world{files: rapid.Bool().Draw(t, "files")}
		env := &facts.Env{Complete: rapid.Bool().Draw(t, "complete")}
		m, live := NewModel(nil, env), Effective.Live()
		there, told := map[object.Ref]*object.Object{}, map[object.Ref]string{}
		for range rapid.IntRange(1, 25).Draw(t, "changes") {
			for _, o := range parse(t, w.object(t)) {
				if there[o.Ref] != nil && rapid.Bool().Draw(t, "delete") {
					delete(there, o.Ref)
					m.Set(o.Ref, nil)
					live.Set(o.Ref, nil)
					continue
				}
				there[o.Ref] = o
				m.Set(o.Ref, Keep(o))
				live.Set(o.Ref, Keep(o))
			}
			if rapid.IntRange(0, 2).Draw(t, "settle") == 0 {
				settle(live, env, told)
			}
		}
		settle(live, env, told)
		var kept []any
		for _, o := range there {
			kept = append(kept, Keep(o))
		}
		if diff := cmp.Diff(NewModel(kept, env).text(), m.text()); diff != "" {
			t.Errorf("a model after changes is another one (-new +changed):\n%s", diff)
		}
		derived := map[object.Ref]string{}
		Effective.Derive(kept, env, func(o *object.Object) { derived[o.Subject().Ref] += o.Kind + " " + shown(o.Root.Get("facts")) + "\n" })
		if diff := cmp.Diff(derived, told); diff != "" {
			t.Errorf("facts after changes are others (-derived +kept up to date):\n%s", diff)
		}
	})
}

func settle(live facts.Live, env *facts.Env, told map[object.Ref]string) {
	live.Settle(env, func(ref object.Ref, all []*object.Object) {
		delete(told, ref)
		for _, o := range all {
			told[ref] += o.Kind + " " + shown(o.Root.Get("facts")) + "\n"
		}
	})
}

// heldBy are all requests that are allowed to anybody.
func heldBy(m *Model) map[string]bool {
	out := map[string]bool{}
	for _, s := range worldSubjects {
		for _, r := range worldRequests {
			if m.Can(s, nil, r).Allowed {
				out[fmt.Sprint(s, r)] = true
			}
		}
	}
	return out
}

// TestMonotone holds that removing a binding never adds permissions, and adding
// a rule never takes any away.
func TestMonotone(t *testing.T) {
	env := &facts.Env{Complete: true}
	rapid.Check(t, func(t *rapid.T) {
		objects := world{plain: true}.objects(t, 20)
		var kept []any
		for _, o := range objects {
			kept = append(kept, Keep(o))
		}
		m := NewModel(kept, env)
		before := heldBy(m)
		o := objects[rapid.IntRange(0, len(objects)-1).Draw(t, "changed")]
		switch k := Keep(o).(type) {
		case *keptBinding:
			m.Set(o.Ref, nil)
			for held := range heldBy(m) {
				if !before[held] {
					t.Errorf("without %s: %s is allowed", o.Ref, held)
				}
			}
		case *keptRole:
			if k.aggregate {
				return
			}
			more := *k
			more.index = nil
			more.rules = append(slices.Clone(k.rules), Keep(parse(t, manifest("Role", "a", "x", rules(readSecrets)))[0]).(*keptRole).rules...)
			m.Set(o.Ref, &more)
			after := heldBy(m)
			for held := range before {
				if !after[held] {
					t.Errorf("with one more rule in %s: %s is not allowed", o.Ref, held)
				}
			}
		}
	})
}

// FuzzModel holds that no document makes the model, its answers or its facts
// panic, and that answers agree with one another.
func FuzzModel(f *testing.F) {
	f.Add(manifest("ClusterRole", "", "x", rules(readSecrets)+", aggregationRule: {clusterRoleSelectors: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}"))
	f.Add(bound("shop", "x", subject("", "web")+", 1, {kind: [], name: {}}") + "\n---\n" + manifest("Role", "shop", "x", rules("{verbs: [get, 1]}", "[]")))
	f.Add("{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {name: x, annotations: {kubernetes.io/service-account.name: web}}}")
	f.Add("{apiVersion: apps/v1, kind: Deployment, metadata: 1, spec: {template: {spec: {serviceAccountName: 1}}}}")
	f.Fuzz(func(t *testing.T, text string) {
		var kept []any
		for part := range object.Split([]byte(text)) {
			root, err := object.ParseYAML(part)
			if err != nil || root == nil {
				continue
			}
			objects, _ := object.FromNode(root, &object.Origin{Source: "fuzz.yaml", Text: part.Bytes, FirstLine: part.Line})
			for _, o := range objects {
				kept = append(kept, Keep(o))
			}
		}
		m := NewModel(kept, nil)
		for _, s := range m.Subjects() {
			for _, g := range m.Permissions(s, nil) {
				g.Rule.Position()
				g.Binding.Position()
			}
			m.Gains(s, nil)
		}
		for _, r := range worldRequests {
			who, _ := m.WhoCan(r)
			for _, g := range who {
				if a := m.Can(g.Subject, nil, r); g.Certain() && !a.Allowed {
					t.Errorf("%s is among those who can %+v and cannot", g.Subject, r)
				}
			}
			m.Indirect(r)
		}
		Effective.Derive(kept, &facts.Env{}, func(o *object.Object) { o.Position(facts.Path("facts", "rules")) })
	})
}
