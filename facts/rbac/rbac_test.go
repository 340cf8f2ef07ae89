// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// parse returns the objects of a text.
func parse(tb interface {
	Helper()
	Fatal(args ...any)
}, text string) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for part := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(part)
		if err != nil {
			tb.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: part.Bytes, FirstLine: part.Line})
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// derived returns the facts that objects tell, one a line.
func derived(objects []*object.Object, complete bool) []string {
	var kept []any
	for _, o := range objects {
		if k := slim(o); k != nil {
			kept = append(kept, k)
		}
	}
	var out []string
	Whole.Derive(kept, &facts.Env{Complete: complete}, func(o *object.Object) {
		out = append(out, fmt.Sprintf("%s %s", o.Subject().Name, shown(o.Root.Get("facts"))))
	})
	return out
}

// shown writes a value in one line.
func shown(n *object.Node) string {
	var all []string
	switch n.Kind {
	case object.String:
		return n.Text
	case object.Unknown:
		return "unknown(" + n.Text + ")"
	case object.List:
		for _, item := range n.Items {
			all = append(all, shown(item))
		}
		return "[" + strings.Join(all, " ") + "]"
	case object.Map:
		for _, f := range n.Fields {
			all = append(all, f.Key+":"+shown(f.Value))
		}
		return "{" + strings.Join(all, " ") + "}"
	}
	return n.Scalar()
}

func account(namespace, name, rest string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: %q, name: %s}%s}", namespace, name, rest)
}

func pod(namespace, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {namespace: %q, name: pod}, spec: {%s}}", namespace, spec)
}

func bound(namespace, role, subjects string) string {
	kind, ref := "ClusterRoleBinding", "ClusterRole"
	if namespace != "" {
		kind = "RoleBinding"
		if strings.HasPrefix(role, "/") {
			ref, role = "Role", role[1:]
		}
	}
	return fmt.Sprintf("{apiVersion: %s/v1, kind: %s, metadata: {namespace: %q, name: binding}, roleRef: {kind: %s, name: %q}, subjects: [%s]}",
		group, kind, namespace, ref, role, subjects)
}

func subject(namespace, name string) string {
	return fmt.Sprintf("{kind: ServiceAccount, namespace: %q, name: %s}", namespace, name)
}

func named(kind, name string) string { return fmt.Sprintf("{kind: %s, name: %q}", kind, name) }

// aRole returns the Role, or the ClusterRole, "reader".
func aRole(namespace string) string {
	kind := "ClusterRole"
	if namespace != "" {
		kind = "Role"
	}
	return fmt.Sprintf("{apiVersion: %s/v1, kind: %s, metadata: {namespace: %q, name: reader}}", group, kind, namespace)
}

// TestFacts says what is derived of a pod, a binding or a ServiceAccount: the
// first object of each case.
func TestFacts(t *testing.T) {
	for _, c := range []struct {
		name     string
		complete bool
		objects  []string
		want     string
	}{
		{"a pod and its ServiceAccount", true, []string{pod("shop", "serviceAccountName: web"), account("shop", "web", ""), bound("shop", "/reader", subject("shop", "web"))},
			"pod {account:web accountFound:true tokenMounted:true roles:[shop/reader]}"},
		{"the old field", true, []string{pod("shop", `serviceAccountName: "", serviceAccount: web`), account("shop", "web", "")},
			"pod {account:web accountFound:true tokenMounted:true roles:[]}"},
		{"the new field wins", true, []string{pod("shop", "serviceAccountName: web, serviceAccount: old"), account("shop", "web", "")},
			"pod {account:web accountFound:true tokenMounted:true roles:[]}"},
		{"default is always there", true, []string{pod("shop", "")},
			"pod {account:default accountFound:true tokenMounted:true roles:[]}"},
		{"another namespace's", true, []string{pod("shop", "serviceAccountName: web"), account("other", "web", "")},
			"pod {account:web accountFound:false tokenMounted:true roles:[]}"},
		{"not complete", false, []string{pod("shop", "serviceAccountName: web"), account("other", "web", "")},
			"pod {account:web accountFound:unknown(the ServiceAccount shop/web is not among what was read) tokenMounted:unknown(the ServiceAccount shop/web is not among what was read) roles:unknown(a binding of the ServiceAccount shop/web is not among what was read)}"},
		{"known although not complete", false, []string{pod("shop", "serviceAccountName: web, automountServiceAccountToken: false"), account("shop", "web", ""), bound("", "view", subject("shop", "web"))},
			"pod {account:web accountFound:true tokenMounted:false roles:[view]}"},
		{"a ServiceAccount that may be in the namespace", true, []string{pod("shop", "serviceAccountName: web"), account("", "web", ", automountServiceAccountToken: false"), bound("shop", "view", subject("", "web"))},
			"pod {account:web accountFound:true tokenMounted:false roles:[view]}"},
		{"a pod that may be in the namespace", true, []string{pod("", "serviceAccountName: web"), account("shop", "web", ""), bound("shop", "view", subject("shop", "web"))},
			"pod {account:web accountFound:true tokenMounted:true roles:[view]}"},
		{"a pod in some namespace", true, []string{pod("", "serviceAccountName: web")},
			"pod {account:web accountFound:false tokenMounted:true roles:[]}"},
		{"a pod that may be in the namespace whose accounts hold a role", true, []string{pod("", "serviceAccountName: web"), bound("", "view", "{kind: Group, name: 'system:serviceaccounts:shop'}")},
			"pod {account:web accountFound:false tokenMounted:true roles:unknown(what is bound to the ServiceAccounts of the namespace: the object does not say in which namespace it is)}"},
		{"the pod decides", true, []string{pod("shop", "serviceAccountName: web, automountServiceAccountToken: true"), account("shop", "web", ", automountServiceAccountToken: false")},
			"pod {account:web accountFound:true tokenMounted:true roles:[]}"},
		{"not a boolean", true, []string{pod("shop", "automountServiceAccountToken: maybe")},
			"pod {account:default accountFound:true tokenMounted:unknown(automountServiceAccountToken is a string, not true or false) roles:[]}"},
		{"not a name", true, []string{pod("shop", "serviceAccountName: 1")},
			"pod {account:unknown(serviceAccountName is an integer, not a name) accountFound:unknown(serviceAccountName is an integer, not a name) tokenMounted:unknown(serviceAccountName is an integer, not a name) roles:unknown(serviceAccountName is an integer, not a name)}"},
		{"bound as a user and by groups", true, []string{
			pod("shop", ""),
			bound("", "a", named("User", "system:serviceaccount:shop:default")), bound("", "b", named("Group", "system:serviceaccounts:shop")),
			bound("", "c", named("Group", "system:serviceaccounts")), bound("", "d", named("Group", "system:authenticated")), bound("", "a", subject("shop", "default")),
			bound("", "x", named("User", "system:serviceaccount:other:default")), bound("", "x", named("Group", "system:serviceaccounts:other")), bound("", "x", named("Group", "default")),
			bound("", "system:discovery", named("Group", "system:authenticated")),
		}, "pod {account:default accountFound:true tokenMounted:true roles:[a b c d]}"},
		{"a Role of its name elsewhere", true, []string{pod("shop", ""), bound("shop", "/view", subject("shop", "default")), bound("other", "/view", subject("shop", "default"))},
			"pod {account:default accountFound:true tokenMounted:true roles:[other/view shop/view]}"},

		{"a binding of all that is there", true, []string{bound("shop", "/reader", subject("shop", "web")+","+named("User", "jane")+","+subject("other", "default")), aRole("shop"), account("shop", "web", "")},
			"binding {roleFound:true accounts:[{name:web namespace:shop found:true} {name:default namespace:other found:true}]}"},
		{"a binding of nothing that is there", true, []string{bound("shop", "/reader", subject("shop", "web")), aRole("other"), aRole(""), account("other", "web", "")},
			"binding {roleFound:false accounts:[{name:web namespace:shop found:false}]}"},
		{"not complete", false, []string{bound("shop", "/reader", subject("shop", "web"))},
			"binding {roleFound:unknown(the Role shop/reader is not among what was read) accounts:[{name:web namespace:shop found:unknown(the ServiceAccount shop/web is not among what was read)}]}"},
		{"a ClusterRole", true, []string{bound("shop", "reader", ""), aRole("")}, "binding {roleFound:true accounts:[]}"},
		{"no Role for a ClusterRole", true, []string{bound("shop", "reader", ""), aRole("shop")}, "binding {roleFound:false accounts:[]}"},
		{"a ClusterRole elsewhere", false, []string{bound("", "reader", "")}, "binding {roleFound:unknown(the ClusterRole reader is not among what was read) accounts:[]}"},
		{"roles of Kubernetes", true, []string{bound("", "system:node", ""), bound("", "edit", "")}, "binding {roleFound:true accounts:[]}"},
		{"Roles of Kubernetes", true, []string{bound("kube-public", "/system:x", "")}, "binding {roleFound:true accounts:[]}"},
		{"one without a prefix", true, []string{bound("kube-system", "/extension-apiserver-authentication-reader", "")}, "binding {roleFound:true accounts:[]}"},
		{"in another namespace", true, []string{bound("shop", "/extension-apiserver-authentication-reader", "")}, "binding {roleFound:false accounts:[]}"},
		{"a Role of that name", true, []string{bound("shop", "/edit", "")}, "binding {roleFound:false accounts:[]}"},

		{"a ServiceAccount in use", true, []string{account("shop", "web", ""), pod("shop", "serviceAccountName: web")}, "web {used:true roles:[]}"},
		{"whose groups hold something", true, []string{account("shop", "web", ""), bound("", "view", named("Group", "system:serviceaccounts:shop"))}, "web {used:false roles:[]}"},
		{"by something that may be in the namespace", true, []string{account("shop", "web", ""), pod("", "serviceAccountName: web")}, "web {used:true roles:[]}"},
		{"not by another's", true, []string{account("shop", "web", ""), pod("other", "serviceAccountName: web"), bound("shop", "view", subject("shop", "web"))}, "web {used:false roles:[view]}"},
		{"not complete", false, []string{account("shop", "web", "")},
			"web {used:unknown(what runs as the ServiceAccount shop/web is not among what was read) roles:unknown(a binding of the ServiceAccount shop/web is not among what was read)}"},
		{"a mirror of a static pod", true, []string{account("shop", "default", ""), strings.Replace(pod("shop", ""), "name: pod", "name: pod, annotations: {kubernetes.io/config.mirror: abc}", 1)},
			"default {used:false roles:[]}"},
		{"something whose ServiceAccount is not known", true, []string{account("shop", "web", ""), pod("shop", "serviceAccountName: [web]")},
			"web {used:unknown(what runs as the ServiceAccount: Pod shop/pod: serviceAccountName is a list, not a name) roles:[]}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := derived(parse(t, strings.Join(c.objects, "\n---\n")), c.complete)
			if len(got) == 0 || got[0] != c.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), c.want)
			}
		})
	}
}

// TestUnknown says what follows from a part of a binding that could not be read.
func TestUnknown(t *testing.T) {
	objects := parse(t, strings.Join([]string{pod("shop", ""), bound("", "view", named("User", "jane"))}, "\n---\n"))
	for _, field := range []string{"roleRef", "subjects"} {
		root := *objects[1].Root
		root.Fields = append([]object.Field(nil), root.Fields...)
		for i := range root.Fields {
			if root.Fields[i].Key == field {
				root.Fields[i].Value = object.NewUnknown("not rendered")
			}
		}
		got := strings.Join(derived([]*object.Object{objects[0], objects[1].WithRoot(&root)}, true), "\n")
		want := map[string]string{
			"roleRef":  "binding {roleFound:unknown(not rendered) accounts:[]}",
			"subjects": "binding {roleFound:true accounts:unknown(not rendered)}",
		}[field]
		if !strings.Contains(got, want) || !strings.Contains(got, "roles:unknown(what is bound to the ServiceAccount: ClusterRoleBinding.rbac.authorization.k8s.io binding: not rendered)") {
			t.Errorf("%s is unknown: got\n%s", field, got)
		}
	}
}

// TestSeveral holds that it is not known what a pod has of a ServiceAccount that
// may be one of several which differ.
func TestSeveral(t *testing.T) {
	const off = ", automountServiceAccountToken: false"
	for _, c := range []struct{ name, first, second, want string }{
		{"that differ", "", off, "tokenMounted:unknown(several ServiceAccounts may be web, and they differ in automountServiceAccountToken)"},
		{"the other way round", off, "", "tokenMounted:unknown("},
		{"that mount", "", ", automountServiceAccountToken: true", "tokenMounted:true"},
		{"that do not", off, off, "tokenMounted:false"},
	} {
		text := strings.Join([]string{account("a", "web", c.first), account("b", "web", c.second), pod("", "serviceAccountName: web")}, "\n---\n")
		if got := strings.Join(derived(parse(t, text), true), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s: got\n%s", c.name, got)
		}
	}
}

// TestPlaces says where a person looks for each part of a fact.
func TestPlaces(t *testing.T) {
	objects := parse(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      serviceAccount: web
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: binding}
roleRef: {kind: Role, name: reader}
subjects:
- {kind: User, name: jane}
- {kind: ServiceAccount, name: web}
`)
	var kept []any
	for _, o := range objects {
		kept = append(kept, slim(o))
	}
	var got []string
	Whole.Derive(kept, &facts.Env{}, func(o *object.Object) {
		for _, path := range []object.Path{
			object.Path(nil).Fields("facts", "account"), object.Path(nil).Fields("facts", "tokenMounted"), object.Path(nil).Fields("roleRef"),
			object.Path(nil).Fields("facts", "accounts").Append(object.Step{Item: true}).Fields("found"),
		} {
			if o.Root.Lookup(path) != nil {
				got = append(got, fmt.Sprintf("%s: %s, line %d", path, o.SourcePath(path), o.Position(path).Line))
			}
		}
	})
	want := []string{
		"facts.account: spec.template.spec.serviceAccount, line 8",
		"facts.tokenMounted: spec.template.spec.automountServiceAccountToken, line 7",
		"roleRef: roleRef, line 13",
		"facts.accounts[0].found: subjects[web], line 16",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// BenchmarkCluster derives the facts of a large cluster: 20,000 objects of RBAC
// and ServiceAccounts, and 30,000 workloads. One ServiceAccount is bound in
// every namespace.
func BenchmarkCluster(b *testing.B) {
	var kept []any
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	add := func(text string) {
		for _, o := range parse(b, text) {
			kept = append(kept, slim(o))
		}
	}
	for i := range 5000 {
		ns := fmt.Sprintf("namespace-%d", i)
		add(aRole(ns))
		add(account(ns, "web", ""))
		add(bound(ns, "/reader", subject(ns, "web")))
		add(bound(ns, "/reader", subject("operators", "operator")))
		for j := range 6 {
			add(fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web-%d, namespace: %s, labels: {app: web, team: shop}}, spec: {template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: web, image: example.com/web:1, env: [{name: A, value: B}]}]}}}}", j, ns))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		Whole.Derive(kept, &facts.Env{Complete: true}, func(*object.Object) {})
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-kept")
	runtime.KeepAlive(kept)
}
