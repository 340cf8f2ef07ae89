// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// parse returns the objects of a text. A comment of the form "# file: NAME"
// says which file a document stands in.
func parse(tb testing.TB, text string) []*object.Object {
	tb.Helper()
	var out []*object.Object
	for part := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(part)
		if err != nil {
			tb.Fatal(err)
		}
		if root == nil {
			continue
		}
		origin := &object.Origin{Source: "test.yaml", Text: part.Bytes, FirstLine: part.Line}
		for _, line := range strings.Split(string(part.Bytes), "\n") {
			if name, ok := strings.CutPrefix(line, "# file: "); ok {
				origin.Source = name
			}
			if name, ok := strings.CutPrefix(line, "# chart: "); ok {
				origin.Source, origin.Renderer = name, "helm"
			}
		}
		objects, err := object.FromNode(root, origin)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// derived returns the facts of a kind that objects tell, one a line.
func derived(objects []*object.Object, kind string, complete bool) []string {
	var kept []any
	for _, o := range objects {
		if k := keep(o); k != nil {
			kept = append(kept, k)
		}
	}
	var out []string
	Whole.Derive(kept, &facts.Env{Complete: complete}, func(o *object.Object) {
		if o.Kind == kind {
			out = append(out, fmt.Sprintf("%s %s", o.Subject().Name, shown(o.Root.Get("facts"))))
		}
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
		return "unknown"
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

// pod is a workload with labels, and policy a NetworkPolicy, each in one line of
// YAML.
func pod(namespace, name, labels string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {namespace: %q, name: %s, labels: {%s}}, spec: {containers: [{name: a, ports: [{name: http, containerPort: 80}]}]}}\n---\n", namespace, name, labels)
}

func policy1(namespace, name, spec string) string {
	return fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: %q, name: %s}, spec: {%s}}\n---\n", namespace, name, spec)
}

// TestIsolation holds what NetworkPolicies isolate against the rules of the API.
func TestIsolation(t *testing.T) {
	for _, c := range []struct {
		name, policies string
		deny           string // of the namespace
		web            string // of the pod
	}{
		{"nothing", "", "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false"},
		{"ingress by default", policy1("shop", "a", "podSelector: {}"), "ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"no selector is all", policy1("shop", "a", "policyTypes: [Egress]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:false}", "ingress:false egress:true"},
		{"egress where it has rules", policy1("shop", "a", "podSelector: {}, egress: [{ports: [{port: 443}], to: [{podSelector: {}}]}]"), "ingress:{defaultDeny:true} egress:{defaultDeny:true dns:false}", "ingress:true egress:true"},
		{"no rules are none", policy1("shop", "a", "podSelector: {}, egress: []"), "ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"empty types are none", policy1("shop", "a", "podSelector: {}, policyTypes: []"), "ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"types win", policy1("shop", "a", "podSelector: {}, policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:false}", "ingress:false egress:true"},
		{"an open rule undoes it", policy1("shop", "a", "podSelector: {}") + policy1("shop", "b", "podSelector: {}, ingress: [{}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"an open rule of one pod does not", policy1("shop", "a", "podSelector: {}") + policy1("shop", "b", "podSelector: {matchLabels: {app: web}}, ingress: [{}]"), "ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"a rule with ports is not open", policy1("shop", "a", "podSelector: {}, ingress: [{ports: [{port: 80}]}]"), "ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"another namespace", policy1("pay", "a", "podSelector: {}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false"},
		{"one pod", policy1("shop", "a", "podSelector: {matchLabels: {app: web}}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"other pods", policy1("shop", "a", "podSelector: {matchLabels: {app: db}}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false"},
		{"in", policy1("shop", "a", "podSelector: {matchExpressions: [{key: app, operator: In, values: [db, web]}]}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"not in", policy1("shop", "a", "podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db, web]}]}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false"},
		{"not in, for a label that is absent", policy1("shop", "a", "podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"exists", policy1("shop", "a", "podSelector: {matchExpressions: [{key: app, operator: Exists}]}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false"},
		{"does not exist", policy1("shop", "a", "podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}"), "ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false"},
		{"no such operator", policy1("shop", "a", "podSelector: {matchExpressions: [{key: app, operator: Like}]}"), "ingress:{defaultDeny:unknown} egress:{defaultDeny:false dns:true}", "ingress:unknown egress:false"},
		{"dns", policy1("shop", "a", "podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:true}", "ingress:false egress:true"},
		{"dns in a range", policy1("shop", "a", "podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 50, endPort: 60}]}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:true}", "ingress:false egress:true"},
		{"dns beside a range", policy1("shop", "a", "podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 54, endPort: 60}]}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:false}", "ingress:false egress:true"},
		{"dns by every port", policy1("shop", "a", "podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]"), "ingress:{defaultDeny:false} egress:{defaultDeny:true dns:true}", "ingress:false egress:true"},
		{
			"cilium", "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: a}, spec: {endpointSelector: {}, ingress: [{}]}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false",
		},
		{
			"cilium without rules", "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: a}, spec: {endpointSelector: {}, ingress: []}}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false",
		},
		{
			"cilium that says so", "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: a}, spec: {endpointSelector: {}, egress: [{}], enableDefaultDeny: {ingress: true, egress: false}}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false",
		},
		{
			"cilium with several", "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop, name: a}, specs: [{endpointSelector: {matchLabels: {\"k8s:app\": web}}, egressDeny: [{toEntities: [world]}]}, {endpointSelector: {}, ingress: [{fromEntities: [all]}]}]}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:true",
		},
		{
			"cilium, clusterwide", "{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: a}, spec: {endpointSelector: {matchExpressions: [{key: \"k8s:io.kubernetes.pod.namespace\", operator: NotIn, values: [kube-system]}]}, ingress: [{}], egress: [{}]}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:true dns:false}", "ingress:true egress:true",
		},
		{
			"cilium, clusterwide, by labels of the namespace", "{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: a}, spec: {endpointSelector: {matchLabels: {\"k8s:io.cilium.k8s.namespace.labels.team\": other}}, ingress: [{}]}}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false",
		},
		{
			"cilium, for nodes", "{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: a}, spec: {nodeSelector: {}, ingress: [{}]}}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false",
		},
		{
			"calico", "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {namespace: shop, name: a}, spec: {selector: all()}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false",
		},
		{
			"calico, global", "{apiVersion: crd.projectcalico.org/v1, kind: GlobalNetworkPolicy, metadata: {name: a}, spec: {types: [Ingress, Egress], egress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:true dns:true}", "ingress:true egress:true",
		},
		{
			"calico, by an expression", "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: a}, spec: {selector: \"app == 'web'\", types: [Ingress]}}",
			"ingress:{defaultDeny:unknown} egress:{defaultDeny:false dns:true}", "ingress:unknown egress:false",
		},
		{
			"calico that lets all in", "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {namespace: shop, name: a}, spec: {ingress: [{action: Allow}]}}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:true egress:false",
		},
		{
			"baseline tier", "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, metadata: {name: default}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:true dns:false}", "ingress:true egress:true",
		},
		{
			"baseline tier, by labels of the namespace", "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: default}, spec: {tier: Baseline, subject: {pods: {namespaceSelector: {matchLabels: {team: shop}}, podSelector: {}}}, ingress: [{action: Accept, from: [{namespaces: {}}]}, {action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {}}}]}]}}",
			"ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true}", "ingress:true egress:false",
		},
		{
			"a denial of some", "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: a}, spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: evil}}}]}]}}",
			"ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true}", "ingress:false egress:false",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects := parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}\n---\n"+pod("shop", "web", "app: web")+c.policies)
			want := "shop {name:shop workloads:1 " + c.deny + " quota:false limits:false}"
			if got := derived(objects, "Namespace", true); len(got) != 1 || got[0] != want {
				t.Errorf("namespace:\n got %q\nwant %q", got, want)
			}
			want = "web {hostNetwork:false " + c.web + " ingressWebhook:false}"
			if got := derived(objects, "PodNetwork", true); len(got) != 1 || got[0] != want {
				t.Errorf("pod:\n got %q\nwant %q", got, want)
			}
		})
	}
}

// TestGeneratedLabels says that what controllers add to pods is there, whatever
// its value.
func TestGeneratedLabels(t *testing.T) {
	set := "{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: shop, name: db}, spec: {template: {metadata: {labels: {app: db}}, spec: {containers: []}}}}\n---\n"
	service := func(name, selector string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: %s}, spec: {selector: {%s}}}\n---\n", name, selector)
	}
	objects := parse(t, set+service("one", "app: db, statefulset.kubernetes.io/pod-name: db-0")+service("other", "app: web, statefulset.kubernetes.io/pod-name: db-0")+service("job", "job-name: a"))
	want := []string{
		"one {pods:app=db,statefulset.kubernetes.io/pod-name=db-0 selects:unknown ports:[]}",
		"other {pods:app=web,statefulset.kubernetes.io/pod-name=db-0 selects:false ports:[]}",
		"job {pods:job-name=a selects:false ports:[]}",
	}
	if got := derived(objects, "ServiceSelection", true); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAbsence says what is not known where the objects are not complete.
func TestAbsence(t *testing.T) {
	objects := parse(t, pod("shop", "web", "app: web")+policy1("shop", "a", "podSelector: {matchLabels: {app: db}}")+
		"{apiVersion: v1, kind: ResourceQuota, metadata: {namespace: shop, name: a}}")
	want := "web {name:shop workloads:1 ingress:{defaultDeny:unknown} egress:{defaultDeny:unknown dns:unknown} quota:true limits:unknown}"
	if got := derived(objects, "Namespace", false); len(got) != 1 || got[0] != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := derived(objects, "PolicySelection", false); len(got) != 1 || got[0] != "a {pods:app=db selects:unknown peers:[]}" {
		t.Errorf("got %q", got)
	}
}

// TestNameless holds together what names no namespace: by folder, by chart, and
// with the namespaces that are named beside it.
func TestNameless(t *testing.T) {
	objects := parse(t, "# file: a/web.yaml\n"+pod("", "one", "app: web")+
		"# file: a/policy.yaml\n"+policy1("", "deny", "podSelector: {}")+
		"# file: b/web.yaml\n"+pod("", "two", "app: web")+
		"# chart: charts/shop\n"+pod("", "three", "app: web")+
		"# chart: charts/shop\n"+policy1("shop", "deny", "podSelector: {}, policyTypes: [Egress]")+
		"# chart: charts/pay\n"+pod("pay", "four", "app: web"))
	want := []string{
		"one {hostNetwork:false ingress:true egress:false ingressWebhook:false}",
		"two {hostNetwork:false ingress:unknown egress:false ingressWebhook:false}",
		"three {hostNetwork:false ingress:unknown egress:unknown ingressWebhook:false}",
		"four {hostNetwork:false ingress:false egress:false ingressWebhook:false}",
	}
	if got := derived(objects, "PodNetwork", true); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPerhaps says that what may be in the same namespace is not taken for what
// is, and that what is not known is not taken for what is not there.
func TestPerhaps(t *testing.T) {
	deny := policy1("", "deny", "podSelector: {}")
	open := "podSelector: {}, ingress: [{}]"
	service := "{apiVersion: v1, kind: Service, metadata: {namespace: %q, name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}, {port: 81, targetPort: 8081}]}}\n---\n"
	lead := "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: %q, name: shop}, spec: {rules: [{host: example.com, http: {paths: [{backend: {service: {name: web, port: {number: 80}}}}]}}]}}\n---\n"
	route := "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: shop}, spec: {rules: [{backendRefs: [{name: web, port: 80}]}]}}\n---\n"
	web := pod("", "web", "app: web")
	for _, c := range []struct {
		name, text, kind string
		complete         bool
		want             string
	}{
		{"policy of a near namespace", web + policy1("prod", "deny", "podSelector: {}"), "PodNetwork", false, "web {hostNetwork:false ingress:unknown egress:unknown ingressWebhook:false}"},
		{"denial of a near namespace", web + policy1("prod", "deny", "podSelector: {}"), "Namespace", true, "web {name: workloads:1 ingress:{defaultDeny:unknown} egress:{defaultDeny:false dns:true} quota:false limits:false}"},
		{"open rule of a near namespace", web + deny + policy1("prod", "open", open), "Namespace", true, "web {name: workloads:1 ingress:{defaultDeny:unknown} egress:{defaultDeny:false dns:true} quota:false limits:false}"},
		{"all without a name", web + deny, "Namespace", true, "web {name: workloads:1 ingress:{defaultDeny:true} egress:{defaultDeny:false dns:true} quota:false limits:false}"},
		{"all without a name, open", web + deny + policy1("", "open", open), "Namespace", false, "web {name: workloads:1 ingress:{defaultDeny:false} egress:{defaultDeny:unknown dns:unknown} quota:unknown limits:unknown}"},
		{"quota of a near namespace", web + "{apiVersion: v1, kind: ResourceQuota, metadata: {namespace: prod, name: a}}", "Namespace", true, "web {name: workloads:1 ingress:{defaultDeny:false} egress:{defaultDeny:false dns:true} quota:unknown limits:false}"},
		{"dns where the denial is not known", web + policy1("", "dns", "podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 53}]}]"), "Namespace", false, "web {name: workloads:1 ingress:{defaultDeny:unknown} egress:{defaultDeny:unknown dns:true} quota:unknown limits:unknown}"},
		{"dns of a near namespace", web + policy1("", "deny", "policyTypes: [Egress]") + policy1("prod", "dns", "podSelector: {matchLabels: {app: web}}, egress: [{ports: [{port: 53}]}]"), "Namespace", true, "web {name: workloads:1 ingress:{defaultDeny:false} egress:{defaultDeny:true dns:unknown} quota:false limits:false}"},

		{"Service and pod without a name", web + fmt.Sprintf(service, ""), "ServiceSelection", false, "web {pods:app=web selects:true ports:[{name:http found:true}]}"},
		{"pod of a near namespace", pod("prod", "web", "app: web") + fmt.Sprintf(service, ""), "ServiceSelection", true, "web {pods:app=web selects:unknown ports:unknown}"},
		{"pod that was not read", fmt.Sprintf(service, "prod"), "ServiceSelection", false, "web {pods:app=web selects:unknown ports:unknown}"},
		{"pod that is not there", fmt.Sprintf(service, "prod"), "ServiceSelection", true, "web {pods:app=web selects:false ports:[]}"},

		{"Service and Ingress without a name", fmt.Sprintf(service, "") + fmt.Sprintf(lead, ""), "Backends", false, "shop {backends:[{name:web port:80 found:true portFound:true}] hosts:[]}"},
		{"Service that was not read", fmt.Sprintf(lead, "prod"), "Backends", false, "shop {backends:[{name:web port:80 found:unknown portFound:unknown}] hosts:[]}"},
		{"Service that is not there", fmt.Sprintf(lead, "prod"), "Backends", true, "shop {backends:[{name:web port:80 found:false portFound:true}] hosts:[]}"},
		{"Service of a near namespace", fmt.Sprintf(lead, "") + fmt.Sprintf(service, "prod"), "Backends", true, "shop {backends:[{name:web port:80 found:unknown portFound:unknown}] hosts:[]}"},
		{"route beside a near namespace", fmt.Sprintf(service, "prod") + route, "Backends", true, "shop {backends:[{name:web port:80 found:unknown portFound:unknown}] hosts:[]}"},
		{"hosts without a name", "# file: a/a.yaml\n" + fmt.Sprintf(lead, "") + "# file: b/b.yaml\n" + fmt.Sprintf(lead, ""), "Backends", false, strings.TrimSuffix(strings.Repeat("shop {backends:[{name:web port:80 found:unknown portFound:unknown}] hosts:[{host:example.com others:unknown}]}\n", 2), "\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(derived(parse(t, c.text), c.kind, c.complete), "\n"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestUnreadSelectors says that what a selector that could not be read chooses
// is not taken for what one with the same text does.
func TestUnreadSelectors(t *testing.T) {
	alone := &facts.Part{Kept: []any{keep(parse(t, pod("shop", "web", "app: web"))[0])}, Ask: func(string) []any { return nil }}
	x := newIndex(alone, &facts.Env{Complete: true})
	chosen := readEqual(facts.Map(facts.Field("app", object.NewString("web"))))
	unread := chosen
	unread.unread = true
	if a, b, c := x.anywhere(selector{}, unread), x.anywhere(selector{}, chosen), x.anywhere(selector{}, unread); a != unknown || b != yes || c != unknown {
		t.Errorf("got %v, %v, %v", a, b, c)
	}
}

// TestMerge merges labels, and many of them in time.
func TestMerge(t *testing.T) {
	a := labels{pairs: []pair{{key: "a", value: "1"}, {key: "c", value: "1"}}}
	b := labels{pairs: []pair{{key: "b", value: "2"}, {key: "c", value: "2"}, {key: "d", value: "2"}}, unread: true}
	if got, want := fmt.Sprint(a.merge(b)), "{[{a 1 false} {b 2 false} {c 2 false} {d 2 false}] true}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var text, ports strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "l%d: a, ", i)
	}
	for i := range 60_000 {
		fmt.Fprintf(&ports, "{name: p%d}, ", i)
	}
	objects := parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {"+text.String()+"}}}\n---\n"+
		"{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}, spec: {containers: [{name: a, ports: ["+ports.String()+"]}]}}\n")
	start := time.Now()
	derived(objects, "Namespace", true)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestLarge derives the facts of a large cluster and says what is held on to.
func TestLarge(t *testing.T) {
	const namespaces, each = 100, 100
	var kept []any
	for i := range namespaces {
		var b strings.Builder
		ns := fmt.Sprintf("team-%d", i)
		fmt.Fprintf(&b, "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {team: t%d}}}\n---\n", ns, i)
		for j := range each {
			b.WriteString(pod(ns, fmt.Sprintf("pod-%d", j), fmt.Sprintf("app: app%d, release: r%d, pod-template-hash: h%d", j%10, i, j%20)))
		}
		for j := range 10 {
			b.WriteString(policy1(ns, fmt.Sprintf("p%d", j), fmt.Sprintf("podSelector: {matchLabels: {app: app%d}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: t%d}}, podSelector: {matchLabels: {app: app%d}}}]}]", j, (i+j)%namespaces, j)))
		}
		for _, o := range parse(t, b.String()) {
			if k := keep(o); k != nil {
				kept = append(kept, k)
			}
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	counts := map[string]int{}
	Whole.Derive(kept, &facts.Env{Complete: true}, func(o *object.Object) { counts[o.Kind]++ })
	runtime.GC()
	runtime.ReadMemStats(&after)
	hold := int(after.HeapAlloc) - int(before.HeapAlloc)
	if counts["PodNetwork"] != namespaces*each || counts["Namespace"] != namespaces || counts["PolicySelection"] != namespaces*10 {
		t.Errorf("derived %v", counts)
	}
	if hold > 8<<20 {
		t.Errorf("holds on to %d MiB", hold>>20)
	}
	runtime.KeepAlive(kept)
}
