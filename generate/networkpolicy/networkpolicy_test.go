// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/object"
)

// fataler is a test, a benchmark, a fuzz target or a property.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// keptOf returns what is kept of manifests.
func keptOf(t fataler, text string) []*Kept {
	t.Helper()
	var out []*Kept
	for doc := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		if root == nil {
			continue
		}
		objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: doc.Bytes, FirstLine: doc.Line})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if k := Keep(o); k != nil {
				out = append(out, k)
			}
		}
	}
	return out
}

// generated returns the result for manifests that are all there are.
func generated(t fataler, text string, flows *Flows, opts Options) *Result {
	t.Helper()
	r, err := Generate(keptOf(t, text), flows, facts.Env{Complete: true}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shop is a namespace with a web server, a database that it names, a job, and
// the name service of the cluster.
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system, labels: {kubernetes.io/metadata.name: kube-system}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec:
      containers:
      - name: web
        ports: [{name: http, containerPort: 8080}]
        env: [{name: DATABASE_URL, value: "postgres://user:hunter2@db:5432/shop"}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec: {containers: [{name: coredns, ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: 53}, {name: dns-tcp, port: 53, targetPort: 53}]}
`

var exempt = []string{"kube-system"}

// TestDeclared holds the policies that come of objects alone.
func TestDeclared(t *testing.T) {
	r := generated(t, shop, nil, Options{Exempt: exempt})
	if !r.Proof.Holds() || len(r.Proof.Unknown) > 0 {
		t.Errorf("not proven: %+v", r.Proof)
	}
	got, err := manifest.YAML(r.Documents)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "hunter2") {
		t.Error("a password is in the policies")
	}
	want := `# Isolates all pods of the namespace, those to come included: other policies say what is allowed.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: sconce
  name: sconce-default-deny
  namespace: shop
spec:
  podSelector: {}
  policyTypes:
    - Ingress
    - Egress
---
# What shop/Deployment/web may receive and send.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: sconce
  name: sconce-web
  namespace: shop
spec:
  egress:
    # kube-system/Deployment/coredns, TCP 53: names are resolved there
    # kube-system/Deployment/coredns, UDP 53: names are resolved there
    - ports:
        - port: 53
          protocol: TCP
        - port: 53
          protocol: UDP
      to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: kube-system
          podSelector:
            matchLabels:
              k8s-app: kube-dns
    # shop/StatefulSet/db, TCP 5432: suggested: env DATABASE_URL of container web names the Service shop/db
    - ports:
        - port: 5432
          protocol: TCP
      to:
        - podSelector:
            matchLabels:
              app: db
  ingress:
    # any pod of shop, TCP 8080: Service shop/web: nothing tells who calls it; the pods of its namespace may
    - from:
        - podSelector: {}
      ports:
        - port: 8080
          protocol: TCP
  podSelector:
    matchLabels:
      app: web
  policyTypes:
    - Ingress
    - Egress
---
# What shop/StatefulSet/db may receive and send.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  labels:
    app.kubernetes.io/managed-by: sconce
  name: sconce-db
  namespace: shop
`
	if diff := cmp.Diff(want, string(got)[:min(len(got), len(want))]); diff != "" {
		t.Error(diff)
	}
}

// rulesOf says the policies of a result in short, a rule a line.
func rulesOf(t fataler, r *Result) string {
	t.Helper()
	var out []string
	for _, d := range r.Documents {
		tree, err := d.Tree()
		if err != nil {
			t.Fatal(err)
		}
		name := tree["metadata"].(map[string]any)["name"].(string)
		spec := tree["spec"].(map[string]any)
		for _, direction := range []string{"ingress", "egress"} {
			rules, _ := spec[direction].([]any)
			for _, x := range rules {
				rule := x.(map[string]any)
				peers := rule["from"]
				if direction == "egress" {
					peers = rule["to"]
				}
				out = append(out, fmt.Sprintf("%s %s %v %v", strings.TrimPrefix(name, "sconce-"), direction, peers, rule["ports"]))
			}
		}
	}
	return strings.Join(out, "\n")
}

// TestRecorded holds that what was recorded is allowed, what was not is closed
// where only what is sure is wanted, and what was dropped is told.
func TestRecorded(t *testing.T) {
	flows := flowsOf(t, `{"from":"shop/web","to":"shop/db","port":5432,"time":"2026-03-01T08:00:00Z"}
{"from":"outside","to":"shop/web","port":8080}
{"from":"shop/web","to":"198.51.100.7","port":443}
{"from":"shop/web","to":"shop/gone","port":1}
`+fmt.Sprintf(hubbleFlow, "DROPPED", "10.0.1.2", hubbleDB, `,"is_reply":false`))
	r := generated(t, shop, flows, Options{Exempt: exempt, Strict: true})
	if !r.Proof.Holds() {
		t.Errorf("not proven: %+v", r.Proof)
	}
	all := rulesOf(t, r)
	for _, want := range []string{
		"web egress [map[ipBlock:map[cidr:198.51.100.7/32]]]",
		"web ingress [map[ipBlock:map[cidr:0.0.0.0/0 except:",
		"web egress [map[podSelector:map[matchLabels:map[app:db]]]]",
		"db ingress [map[podSelector:map[matchLabels:map[app:web]]]]",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("want %q in\n%s", want, all)
		}
	}
	if len(r.Strangers) != 1 || len(r.Dropped) != 1 || len(r.Unseen) == 0 {
		t.Errorf("got the strangers %v, the dropped %v and the unseen %v", r.Strangers, r.Dropped, r.Unseen)
	}
	if len(r.Wildcards) != 1 || !strings.Contains(r.Wildcards[0].Reason, "does not tell the address") {
		t.Errorf("got the wildcards %+v", r.Wildcards)
	}
}

// TestToday holds that what a policy denies today stays denied, and that a
// recording that says otherwise is not passed over.
func TestToday(t *testing.T) {
	const closed = `
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: backup}}}]}]
`
	r := generated(t, shop+closed, nil, Options{Exempt: exempt})
	if !r.Proof.Holds() || strings.Contains(rulesOf(t, r), "db ingress") {
		t.Errorf("the database was opened, or it is not proven that it was not: %+v\n%s", r.Proof, rulesOf(t, r))
	}
	if len(r.Denied) != 1 || !strings.Contains(r.Denied[0], "shop/Deployment/web → shop/StatefulSet/db TCP 5432") {
		t.Errorf("got %q as denied", r.Denied)
	}
	if len(r.Beside) != 1 {
		t.Errorf("got %q as staying", r.Beside)
	}
	r = generated(t, shop+closed, flowsOf(t, `{"from":"shop/web","to":"shop/db","port":5432}`), Options{Exempt: exempt})
	if r.Proof.Holds() || !strings.Contains(r.Proof.Failures[0], "not allowed today") {
		t.Errorf("a recording that is not allowed today was passed over: %+v", r.Proof)
	}
}

// TestWays holds who is let in by Ingresses, load balancers, webhooks and
// metrics.
func TestWays(t *testing.T) {
	const ways = `
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Service
metadata: {name: db-out, namespace: shop}
spec: {type: LoadBalancer, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: check}
webhooks: [{name: check.shop.io, clientConfig: {service: {namespace: shop, name: web, port: 80}}}]
`
	const controller = `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: ingress}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: ingress-nginx}}
  template: {metadata: {labels: {app.kubernetes.io/name: ingress-nginx}}, spec: {containers: [{name: c}]}}
---
apiVersion: v1
kind: Namespace
metadata: {name: ingress}
`
	r := generated(t, shop+ways+controller, nil, Options{Exempt: append(slices.Clone(exempt), "ingress")})
	if !r.Proof.Holds() {
		t.Errorf("not proven: %+v", r.Proof)
	}
	all := rulesOf(t, r)
	for _, want := range []string{
		"web ingress [map[namespaceSelector:map[matchLabels:map[kubernetes.io/metadata.name:ingress]] podSelector:map[matchLabels:map[app.kubernetes.io/name:ingress-nginx]]]]",
		"web ingress <nil>", // the API server, from anywhere
		"db ingress [map[ipBlock:map[cidr:0.0.0.0/0]] map[ipBlock:map[cidr:::/0]] map[podSelector:map[matchLabels:map[app:web]]]]",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("want %q in\n%s", want, all)
		}
	}
	reasons := ""
	for _, w := range r.Wildcards {
		reasons += w.Policy + ": " + w.Reason + "\n"
	}
	for _, want := range []string{"shop/sconce-web: the address from which the API server calls is not known", "shop/sconce-db: LoadBalancer is open to any address"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("want the reason %q in\n%s", want, reasons)
		}
	}
	r = generated(t, shop+ways, nil, Options{Exempt: exempt})
	if !slices.ContainsFunc(r.Wildcards, func(w Wildcard) bool { return strings.Contains(w.Reason, "--ingress-controller") }) {
		t.Errorf("nothing says that the ingress controller is not known: %+v", r.Wildcards)
	}
}

// TestLabels holds that policies select by labels that stay, that what cannot be
// selected is told, and that shared labels are told apart where that is possible.
func TestLabels(t *testing.T) {
	r := generated(t, shop+`
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: shop}
spec: {template: {metadata: {labels: {job-name: once, batch.kubernetes.io/controller-uid: x}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: canary, namespace: shop}
spec:
  selector: {matchLabels: {app: web, version: v2}}
  template: {metadata: {labels: {app: web, version: v2}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: twin, namespace: shop}
spec:
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}
`, nil, Options{Exempt: exempt})
	if !r.Proof.Holds() {
		t.Errorf("not proven: %+v", r.Proof)
	}
	selectors := map[string]string{}
	for _, d := range r.Documents {
		tree, err := d.Tree()
		if err != nil {
			t.Fatal(err)
		}
		selectors[tree["metadata"].(map[string]any)["name"].(string)] = fmt.Sprint(tree["spec"].(map[string]any)["podSelector"])
	}
	if got, want := selectors["sconce-web"], "map[matchLabels:map[app:web version:v1]]"; got != want {
		t.Errorf("got the selector %s of web, want %s", got, want)
	}
	if _, ok := selectors["sconce-default-deny"]; ok {
		t.Error("all pods are isolated, and the Job cannot be let out")
	}
	if len(r.Left) != 1 || !strings.Contains(r.Left[0], "shop/Job/once") {
		t.Errorf("got %q as left", r.Left)
	}
	if len(r.Overlaps) != 2 {
		t.Errorf("got the overlaps %q", r.Overlaps)
	}
}

// TestAssumedDNS holds that names can be resolved where what does that was not
// read.
func TestAssumedDNS(t *testing.T) {
	r := generated(t, `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {containers: [{name: c}]}
`, nil, Options{Exempt: exempt})
	if !r.Proof.Holds() || !strings.Contains(rulesOf(t, r), "k8s-app:kube-dns") {
		t.Errorf("got %+v and\n%s", r.Proof, rulesOf(t, r))
	}
}

// TestNoNamespace holds that what names no namespace gets policies that name none.
func TestNoNamespace(t *testing.T) {
	r := generated(t, strings.ReplaceAll(shop, ", namespace: shop", ""), nil, Options{Exempt: exempt})
	if !r.Proof.Holds() || r.Workloads != 2 || r.Proof.Connections == 0 || !strings.Contains(rulesOf(t, r), "web egress [map[podSelector:map[matchLabels:map[app:db]]]]") {
		t.Errorf("got %+v and\n%s", r.Proof, rulesOf(t, r))
	}
}

// TestUnnamed holds that what no policy can name is told, and not opened.
func TestUnnamed(t *testing.T) {
	r := generated(t, shop+`
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  selector: {matchLabels: {app: caller}}
  template: {metadata: {labels: {app: caller}}, spec: {containers: [{name: c, env: [{name: DB, value: "postgres://db.shop"}]}]}}
`, nil, Options{Exempt: exempt})
	if !r.Proof.Holds() || len(r.Denied) != 1 || !strings.Contains(r.Denied[0], "a namespace that the files do not name") {
		t.Errorf("got %+v and %q as denied", r.Proof, r.Denied)
	}
}

// TestServer holds that a workload with a ServiceAccount of its own may call the
// API server, at the addresses that are known.
func TestServer(t *testing.T) {
	const operator = `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: operator, namespace: shop}
spec:
  selector: {matchLabels: {app: operator}}
  template:
    metadata: {labels: {app: operator}}
    spec: {serviceAccountName: operator, containers: [{name: c, env: [{name: PAY, value: "https://key@api.pay.example/v1"}]}]}
`
	r := generated(t, shop+operator, nil, Options{Exempt: exempt})
	if all := rulesOf(t, r); !r.Proof.Holds() || !strings.Contains(all, "operator egress [map[ipBlock:map[cidr:0.0.0.0/0]]] [map[port:443 protocol:TCP] map[port:6443 protocol:TCP]]") {
		t.Errorf("got %+v and\n%s", r.Proof, all)
	}
	if !slices.ContainsFunc(r.Suggestions, func(s string) bool {
		return strings.Contains(s, "names api.pay.example") && !strings.Contains(s, "key")
	}) {
		t.Errorf("got the suggestions %q", r.Suggestions)
	}
	r = generated(t, shop+operator+`
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [203.0.113.10]}]
ports: [{name: https, port: 6443}]
`, nil, Options{Exempt: exempt})
	if all := rulesOf(t, r); !strings.Contains(all, "operator egress [map[ipBlock:map[cidr:203.0.113.10/32]]] [map[port:6443 protocol:TCP]]") {
		t.Errorf("got\n%s", all)
	}
}

// TestMetrics holds that metrics are collected where objects ask for it, by what
// does that.
func TestMetrics(t *testing.T) {
	const monitored = `
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, podMetricsEndpoints: [{port: http}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
`
	r := generated(t, shop+monitored, nil, Options{Exempt: exempt})
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "ask for their metrics") }) {
		t.Errorf("got the notes %q", r.Notes)
	}
	r = generated(t, shop+monitored+`
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: prometheus, namespace: monitoring}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: prometheus}}
  template: {metadata: {labels: {app.kubernetes.io/name: prometheus}}, spec: {containers: [{name: c}]}}
`, nil, Options{Exempt: exempt})
	if all := rulesOf(t, r); !r.Proof.Holds() || !strings.Contains(all, "web ingress [map[namespaceSelector:map[matchLabels:map[kubernetes.io/metadata.name:monitoring]] podSelector:map[matchLabels:map[app.kubernetes.io/name:prometheus]]]") {
		t.Errorf("got %+v and\n%s", r.Proof, all)
	}
}

// TestProofSees holds that the proof is one: policies that are made narrower, or
// wider, than they should be do not pass.
func TestProofSees(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		spoil      func(g *generator)
	}{
		{"a rule is missing", "denied with the new policies", func(g *generator) {
			for _, p := range g.policies {
				if p.w != nil && p.w.name == "Deployment/web" {
					networkPolicy(p).Spec.Egress = nil
				}
			}
		}},
		{"a rule is too wide", "which is not allowed today", func(g *generator) {
			for _, p := range g.policies {
				if p.w != nil && p.w.name == "StatefulSet/db" {
					networkPolicy(p).Spec.Ingress[0].From = nil
					networkPolicy(p).Spec.Ingress[0].Ports = nil
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const only = `
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
`
			g := &generator{opts: Options{Exempt: exempt}, env: facts.Env{Complete: true}, kept: keptOf(t, shop+only), result: &Result{}, verdicts: map[string]permission{}}
			g.read()
			g.manage()
			g.declared()
			g.guessed()
			g.narrow()
			g.leaveOut()
			g.build()
			tc.spoil(g)
			if err := g.prove(); err != nil {
				t.Fatal(err)
			}
			if p := g.proof(); p.Holds() || !slices.ContainsFunc(p.Failures, func(f string) bool { return strings.Contains(f, tc.want) }) {
				t.Errorf("got the proof %+v, want a failure with %q", p, tc.want)
			}
		})
	}
}

// TestProperty holds for random clusters and random flows that these allow: the
// policies allow the flows, and nothing that was not allowed.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := randomCluster(t)
		kept := keptOf(t, text)
		old := network.NewModel(networkOf(kept), &facts.Env{Complete: true})
		flows := NewFlows()
		classes := old.Classes()
		type seen struct {
			from, to string
			port     network.Port
		}
		var all []seen
		for range rapid.IntRange(0, 12).Draw(t, "flows") {
			from := rapid.SampledFrom(classes).Draw(t, "from")
			to := rapid.SampledFrom(classes).Draw(t, "to")
			port := network.Port{Protocol: network.TCP, Number: rapid.SampledFrom([]int32{80, 8080, 5432}).Draw(t, "port")}
			if old.Ports(network.Peer{Class: from}, network.Peer{Class: to}).Contains(port) {
				all = append(all, seen{from.String(), to.String(), port})
				flows.add(Flow{From: Endpoint{Namespace: from.Namespace, Workload: from.Workload}, To: Endpoint{Namespace: to.Namespace, Workload: to.Workload}, Port: port}, false, flows.Window.First)
			}
		}
		opts := Options{Strict: rapid.Bool().Draw(t, "strict"), Replace: rapid.Bool().Draw(t, "replace")}
		r, err := Generate(kept, flows, facts.Env{Complete: true}, opts)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Proof.Holds() {
			t.Fatalf("not proven: %q\n%s\n%s", r.Proof.Failures, text, rulesOf(t, r))
		}
		var with []any
		for _, k := range kept {
			if !opts.Replace || k.own == nil || !k.own.policy {
				with = append(with, k.network)
			}
		}
		for _, d := range r.Documents {
			o, err := asObject(d, nil)
			if err != nil {
				t.Fatal(err)
			}
			with = append(with, network.Keep(o))
		}
		fresh := network.NewModel(with, &facts.Env{Complete: true})
		by := map[string]*network.Class{}
		for _, c := range fresh.Classes() {
			by[c.String()] = c
		}
		for _, s := range all {
			if !fresh.Ports(network.Peer{Class: by[s.from]}, network.Peer{Class: by[s.to]}).Contains(s.port) {
				t.Fatalf("%s → %s %s was recorded, and is denied by\n%s", s.from, s.to, s.port, rulesOf(t, r))
			}
		}
		for _, a := range classes {
			for _, b := range classes {
				was := old.Ports(network.Peer{Class: a}, network.Peer{Class: b})
				is := fresh.Ports(network.Peer{Class: by[a.String()]}, network.Peer{Class: by[b.String()]})
				if len(r.Proof.Unknown) > 0 { // then this pair may be among what is told
					was = old.PossiblePorts(network.Peer{Class: a}, network.Peer{Class: b})
				}
				if !is.Minus(was).Empty() {
					t.Fatalf("%s → %s: %s is allowed now, by\n%s\nbeside\n%s", a, b, is.Minus(was), rulesOf(t, r), text)
				}
			}
		}
	})
}

// randomCluster returns workloads, Services and policies of two namespaces.
func randomCluster(t *rapid.T) string {
	var b strings.Builder
	for _, ns := range []string{"one", "two"} {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {team: %s}}\n---\n", ns, ns)
		for i := range rapid.IntRange(1, 4).Draw(t, "workloads") {
			labels := fmt.Sprintf("{app: %s, tier: %s}", rapid.SampledFrom([]string{"a", "b", "c", fmt.Sprint("w", i)}).Draw(t, "app"), rapid.SampledFrom([]string{"x", "z"}).Draw(t, "tier"))
			fmt.Fprintf(&b, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w%d, namespace: %s}\nspec: {selector: {matchLabels: %s}, template: {metadata: {labels: %s}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}}}\n---\n", i, ns, labels, labels)
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "services") {
			fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: %s}\nspec: {type: %s, selector: {app: %s}, ports: [{port: 80, targetPort: %s}]}\n---\n",
				i, ns, rapid.SampledFrom([]string{"ClusterIP", "LoadBalancer"}).Draw(t, "type"), rapid.SampledFrom([]string{"a", "b", "w0"}).Draw(t, "selected"), rapid.SampledFrom([]string{"http", "5432"}).Draw(t, "target"))
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "policies") {
			fmt.Fprintf(&b, "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p%d, namespace: %s}\nspec: %s\n---\n", i, ns, randomSpec(t))
		}
	}
	return b.String()
}

func randomSpec(t *rapid.T) string {
	peer := func() string {
		return rapid.SampledFrom([]string{"{podSelector: {}}", "{podSelector: {matchLabels: {app: a}}}", "{namespaceSelector: {}}", "{namespaceSelector: {matchLabels: {team: two}}, podSelector: {matchLabels: {tier: x}}}", "{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}"}).Draw(t, "peer")
	}
	ports := rapid.SampledFrom([]string{"", ", ports: [{port: 80}]", ", ports: [{port: http}]", ", ports: [{port: 5000, endPort: 6000}]"}).Draw(t, "ports")
	selector := rapid.SampledFrom([]string{"{}", "{matchLabels: {app: a}}", "{matchLabels: {tier: z}}"}).Draw(t, "selector")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return "{podSelector: " + selector + "}"
	case 1:
		return "{podSelector: " + selector + ", ingress: [{from: [" + peer() + "]" + ports + "}]}"
	case 2:
		return "{podSelector: " + selector + ", policyTypes: [Egress], egress: [{to: [" + peer() + "]" + ports + "}]}"
	}
	return "{podSelector: " + selector + ", policyTypes: [Ingress, Egress], ingress: [{}], egress: [{to: [" + peer() + "]}, {ports: [{port: 53, protocol: UDP}]}]}"
}

func networkPolicy(p *policy) *networkingv1.NetworkPolicy {
	return p.doc.Object.(*networkingv1.NetworkPolicy)
}
