// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

var today = time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)

// env is one in which the user named no version.
func env() *facts.Env {
	return &facts.Env{Minor: int(releases().newest()), Patch: -1, Today: today}
}

func parse(tb testing.TB, text string) *object.Object {
	tb.Helper()
	root, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
	if err != nil {
		tb.Fatal(err)
	}
	objects, err := object.FromNode(root, &object.Origin{Source: "test.yaml", Text: []byte(text), FirstLine: 1})
	if err != nil {
		tb.Fatal(err)
	}
	return objects[0]
}

// fact returns the fact of a kind about an object, or nil.
func fact(o *object.Object, kind string, env *facts.Env) *object.Object {
	for _, f := range derive(o, env) {
		if f.Kind == kind {
			return f
		}
	}
	return nil
}

func TestKindsAreDeclared(t *testing.T) {
	got := map[string]bool{}
	for _, text := range []string{
		"apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: n}\n",
		nodeYAML,
		"apiVersion: v1\nkind: Pod\nmetadata: {name: n}\nspec: {containers: [{image: 'registry.k8s.io/kube-proxy:v1.30.0'}, {image: 'quay.io/argoproj/argocd:v3.0.0'}]}\n",
	} {
		for _, f := range derive(parse(t, text), env()) {
			got[f.Kind] = true
		}
	}
	if kinds := slices.Sorted(maps.Keys(got)); !slices.Equal(kinds, slices.Sorted(slices.Values(Single.Kinds))) {
		t.Errorf("kinds %v; declared are %v", kinds, Single.Kinds)
	}
}

const nodeYAML = `apiVersion: v1
kind: Node
metadata: {name: n}
status:
  nodeInfo:
    operatingSystem: linux
    osImage: Ubuntu 22.04.4 LTS
    kernelVersion: 5.15.0-1051-aws
    kubeletVersion: v1.30.2
    containerRuntimeVersion: containerd://1.7.2
`

// TestPlaces holds that a finding about a version stands at its line.
func TestPlaces(t *testing.T) {
	o := parse(t, nodeYAML)
	for kind, line := range map[string]int{"NodeSystem": 7, "Kernel": 8, "KubernetesVersion": 9, "ContainerRuntime": 10} {
		f := fact(o, kind, env())
		if f == nil {
			t.Fatalf("no %s", kind)
		}
		if p := f.Position(object.Path{{Field: "facts"}, {Field: "version"}}); p.Line != line {
			t.Errorf("%s: line %d, want %d", kind, p.Line, line)
		}
	}
}

// TestTargetVersion holds that the version that objects are judged for is told
// of where a person named it, and only there.
func TestTargetVersion(t *testing.T) {
	newest := int(releases().newest())
	for _, c := range []struct {
		minor, patch int
		want         string
	}{
		{newest, -1, ""}, {newest, -1, fmt.Sprintf("1.%d", newest)}, // unnamed, and named
		{newest, 1, fmt.Sprintf("1.%d.1", newest)},
		{33, -1, "1.33"}, {33, 0, "1.33.0"}, {newest + 1, -1, fmt.Sprintf("1.%d", newest+1)},
	} {
		var got []*object.Object
		Whole.Derive(nil, &facts.Env{Minor: c.minor, Patch: c.patch, Named: c.want != "", Today: today}, func(f *object.Object) { got = append(got, f) })
		if c.want == "" {
			if len(got) != 0 {
				t.Errorf("1.%d: a fact that nobody asked for", c.minor)
			}
			continue
		}
		if len(got) != 1 || got[0].Root.At("facts", "version").Str() != c.want {
			t.Errorf("1.%d.%d: %v", c.minor, c.patch, got)
			continue
		}
		if p := got[0].Position(object.Path{{Field: "facts"}, {Field: "version"}}); p.File != "--kube-version" || p.Line != 0 {
			t.Errorf("%s stands at %v", c.want, p)
		}
		if s := got[0].Subject(); s.Ref.String() != "Cluster kubernetes-"+c.want {
			t.Errorf("%s is about %s", c.want, s.Ref)
		}
	}
}

// TestSupport has the days on both sides of every end.
func TestSupport(t *testing.T) {
	at := func(m minor, key string, day string) (left, extended *object.Node) {
		d, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		s := allSupport(m, &facts.Env{Today: d}).Get(key)
		return s.Get("daysLeft"), s.Get("extendedDaysLeft")
	}
	for _, c := range []struct {
		minor          minor
		key, day       string
		left, extended string
	}{
		{37, "kubernetes", "2027-10-28", "0", "0"},
		{37, "kubernetes", "2027-10-29", "-1", "-1"},
		{34, "kubernetes", "2026-10-26", "1", "1"},
		{31, "kubernetes", "2025-11-11", "0", "0"},
		{31, "kubernetes", "2025-11-12", "-1", "-1"},
		{1, "kubernetes", "2016-10-24", "-1", "-1"},
		{38, "kubernetes", "2026-11-21", "?", "?"},
		{33, "eks", "2026-07-30", "-1", "364"},
		{38, "eks", "2026-11-21", "?", "?"},
		{10, "eks", "2019-02-13", "0", "0"}, // as Kubernetes itself
		{33, "gke", "2026-08-03", "0", "?"},
		{26, "gke", "2024-07-01", "-1", "-1"},
		{31, "openshift", "2026-08-26", "-1", "183"},
		{32, "aks", "2026-03-31", "0", "365"},
	} {
		left, extended := at(c.minor, c.key, c.day)
		show := func(n *object.Node) string {
			if n.Kind == object.Unknown {
				return "?"
			}
			return n.Scalar()
		}
		if show(left) != c.left || show(extended) != c.extended {
			t.Errorf("%s %s on %s: %s and %s days left, want %s and %s", c.key, c.minor, c.day, show(left), show(extended), c.left, c.extended)
		}
	}
}

// TestNoToday holds that nothing is counted where the day is not known.
func TestNoToday(t *testing.T) {
	e := env()
	e.Today = time.Time{}
	f := fact(parse(t, nodeYAML), "KubernetesVersion", e)
	for _, path := range [][]string{{"support", "kubernetes", "daysLeft"}, {"daysBehind"}, {"dataAge"}} {
		if n := f.Root.Get("facts").At(path...); n == nil || n.Kind != object.Unknown {
			t.Errorf("%v is %v", path, n)
		}
	}
}

// TestBehind has the patches on both sides.
func TestBehind(t *testing.T) {
	for _, c := range []struct {
		version, builder, day     string
		latest, days, most, newer string
	}{
		{"1.36.2", "", "2026-11-21", "1.36.6", "122", "122", "true"},
		{"1.36.2", "", "2026-07-22", "1.36.6", "0", "0", "true"},
		{"1.36.6", "", "2026-11-21", "1.36.6", "0", "24", "?"},
		{"1.36.6", "", "2026-10-28", "1.36.6", "0", "0", "?"},
		{"1.36.9", "", "2026-11-21", "1.36.9", "0", "24", "?"},
		{"1.33.13", "", "2026-11-21", "1.33.13", "0", "0", "?"}, // ended before the day of the data
		{"1.36", "", "2026-11-21", "?", "?", "?", "?"},
		{"1.36.2", "Amazon EKS", "2026-11-21", "?", "?", "?", "?"},
		{"1.38.0", "", "2026-11-21", "?", "?", "?", "?"},
		{"1.12.3", "", "2026-11-21", "?", "?", "?", "?"},
	} {
		d, _ := time.Parse(time.DateOnly, c.day)
		v, _, _ := parseVersion(c.version)
		got := facts.Map(behind(v, c.builder, &facts.Env{Today: d})...)
		for key, want := range map[string]string{"latest": c.latest, "daysBehind": c.days, "daysBehindAtMost": c.most, "newer": c.newer} {
			n := got.Get(key)
			have := n.Str()
			switch {
			case n.Kind == object.Unknown:
				have = "?"
			case have == "":
				have = n.Scalar()
			}
			if have != want {
				t.Errorf("%s of %q on %s: %s is %s, want %s", c.version, c.builder, c.day, key, have, want)
			}
		}
	}
}

// TestFlawBounds holds versions on both sides of every bound against every flaw.
func TestFlawBounds(t *testing.T) {
	files := map[string][]flaw{"kubernetes": kubernetes().Flaws, "kernel": nodes().Kernel.Flaws}
	for _, p := range nodes().Runtimes {
		files[p.Name] = p.Flaws
	}
	for _, p := range addons().Addons {
		files[p.Name] = p.Flaws
	}
	for name, flaws := range files {
		for i := range flaws {
			f := &flaws[i]
			for _, s := range f.Affected {
				if _, ok := f.in(s.to); ok {
					t.Errorf("%s %s: %s has the fix", name, f.ID, s.to)
				}
				if s.from.len > 0 {
					if _, ok := f.in(s.from); !ok {
						t.Errorf("%s %s: %s has the flaw", name, f.ID, s.from)
					}
				}
				before := s.to
				before.pre = true // a candidate of the version with the fix
				if _, ok := f.in(before); !ok {
					t.Errorf("%s %s: what comes before %s has the flaw", name, f.ID, s.to)
				}
			}
		}
	}
}

func TestDistribution(t *testing.T) {
	for version, want := range map[string]string{
		"v1.30.2":               "",
		"v1.30.4-eks-a737599":   "eks",
		"v1.29.1-eksbuild.3":    "eks",
		"v1.33.5-gke.1308000":   "gke",
		"v1.33.5+a1b2c3d":       "openshift",
		"v1.33.5+k3s1":          "",
		"v1.33.5+rke2r1":        "",
		"v1.33.5+k0s":           "",
		"v1.33.5-rc.1":          "",
		"v1.33.5+":              "",
		"v1.33.5+a1b2c3d-dirty": "",
	} {
		_, rest, _ := parseVersion(version)
		if got := distributionOf(rest); got != want {
			t.Errorf("%s is of %q, want %q", version, got, want)
		}
	}
}

func TestImages(t *testing.T) {
	for image, want := range map[string]string{
		"coredns/coredns:1.9.3":                                      "CoreDNS v1.9.3",
		"registry:5000/coredns/coredns:v1.9.3":                       "CoreDNS v1.9.3",
		"coredns:1.9.3@sha256:aa":                                    "CoreDNS v1.9.3",
		"traefik:v3.1":                                               "Traefik v3.1",
		"docker.io/library/traefik:3.1":                              "Traefik v3.1",
		"rancher/mirrored-library-traefik:2.11.8":                    "Traefik v2.11.8",
		"registry.k8s.io/ingress-nginx/controller:v1.12.0@sha256:aa": "ingress-nginx v1.12.0",
		"registry.k8s.io/ingress-nginx/controller-chroot:v1.12.0":    "ingress-nginx v1.12.0",
		"example.com/controller:v1.12.0":                             "",
		"example.com/node:v20":                                       "",
		"quay.io/calico/node:v3.30.0":                                "Calico v3.30.0",
		"ghcr.io/kyverno/kyverno-cli:v1.10.0":                        "",
		"quay.io/jetstack/cert-manager-controller@sha256:aa":         "cert-manager ?",
		"registry.k8s.io/etcd:3.5.15-0":                              "etcd v3.5.15-0",
		"":                                                           "",
		":":                                                          "",
		"@":                                                          "",
		"/":                                                          "",
	} {
		o := parse(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: n}\nspec: {containers: [{image: "+fmt.Sprintf("%q", image)+"}]}\n")
		f := fact(o, "AddOn", env())
		got := ""
		if f != nil {
			version := f.Root.At("facts", "version")
			got = f.Root.At("facts", "name").Str() + " ?"
			if version.Kind == object.String {
				got = f.Root.At("facts", "name").Str() + " v" + strings.TrimPrefix(version.Text, "v")
			}
		}
		if got != want {
			t.Errorf("%s is %q, want %q", image, got, want)
		}
	}
}

// TestStrange holds that what has a wrong shape, or is not known, is let be.
func TestStrange(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: Node\nstatus: 1\n",
		"apiVersion: v1\nkind: Node\nstatus: {nodeInfo: []}\n",
		"apiVersion: v1\nkind: Node\nstatus: {nodeInfo: {kubeletVersion: 1.30, osImage: 7, kernelVersion: [], containerRuntimeVersion: {}}}\n",
		"apiVersion: v1\nkind: Pod\nspec: 1\n",
		"apiVersion: v1\nkind: Pod\nspec: {containers: 1, initContainers: [1, null, {image: 7}]}\n",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: 1\n",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [1, {apiGroups: 1, resources: [ingresses]}, {apiGroups: [1], resources: [ingresses]}, {apiGroups: [extensions], resources: {a: b}}]\n",
		"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nwebhooks: [1, {rules: 1}, {rules: [1]}]\n",
		"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nspec: {paramKind: 1, matchConstraints: 1}\n",
		"apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec: {rules: [1, {match: 1}, {match: {any: [1, {resources: {kinds: [1, '', '/', 'a/b/c/d/e']}}]}}]}\n",
		"apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Any\nspec: {match: {kinds: [1, {apiGroups: 1, kinds: [Ingress]}, {apiGroups: [extensions], kinds: 1}]}}\n",
		"apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec: {scaleTargetRef: 1}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {ownerReferences: [1, {apiVersion: 1}, {}]}\n",
		"apiVersion: v1\nkind: Endpoints\nmetadata: 1\nextra: {}\n",
		"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: 1.30\n",
	} {
		for _, f := range derive(parse(t, text), env()) {
			if f.Kind != "APIUse" || f.Subject().Kind != "Endpoints" {
				t.Errorf("%q: a fact of kind %s", text, f.Kind)
			}
		}
	}
}

// FuzzVersion holds that a version is read without a fault, is a part of what
// was read, and is the same when it is read again.
func FuzzVersion(f *testing.F) {
	for _, s := range []string{"v1.30.2-gke.100", "1.2.3.4.5", "", "v", "99999999999", "1..2", "1.", "22.04", "5.15.0-1051-aws", "3.5.15-0", "1.2-rc1", "1.1234567890"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, rest, ok := parseVersion(s)
		if ok != (v.text != "") || v.len > len(v.n) {
			t.Fatalf("%q: %v", s, v)
		}
		if strings.TrimPrefix(s, "v") != v.text+rest {
			t.Fatalf("%q is not %q and %q", s, v.text, rest)
		}
		again, none, _ := parseVersion(v.text)
		again.pre = v.pre
		if ok && (none != "" || again.compare(v) != 0) {
			t.Fatalf("%q read again is %v, %q", v.text, again, none)
		}
		for _, n := range v.n {
			if n < 0 {
				t.Fatalf("%q: %v", s, v)
			}
		}
		var x span
		_ = x.UnmarshalText([]byte(s))
		var m minor
		_ = m.UnmarshalText([]byte(s))
	})
}

// FuzzImage holds that an image and a Kyverno selector are read without a fault.
func FuzzImage(f *testing.F) {
	for _, s := range []string{"a/b:c@d", "/", ":", "@", "registry:5000/a", "Pod", "v1/Pod", "a/b/c/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := parseImage(s)
		if strings.ContainsAny(r.last, "/:@") {
			t.Fatalf("%q: %+v", s, r)
		}
		goneSelector(s, 37)
	})
}

// BenchmarkData says what it costs to read the data, once in a run.
func BenchmarkData(b *testing.B) {
	for name, read := range map[string]func(){
		"apis": func() { read[apisFile]("apis") }, "releases": func() { read[releasesFile]("releases") },
		"nodes": func() { read[nodesFile]("nodes") }, "addons": func() { read[addonsFile]("addons") },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				read()
			}
		})
	}
}

// BenchmarkDerive says what an object costs of which there is nothing to say,
// and one that is all facts.
func BenchmarkDerive(b *testing.B) {
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: n, labels: {a: b}}\nspec: {template: {spec: {containers: [{name: a, image: 'example.com/shop/web:1.2.3'}, {name: b, image: 'example.com/shop/log:1.2.3'}]}}}\n"
	for name, text := range map[string]string{
		"configmap":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n}\ndata: {a: b}\n",
		"deployment": deployment,
		"role":       "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: n}\nrules: [{apiGroups: [apps], resources: [deployments], verbs: [get]}]\n",
		"node":       nodeYAML,
	} {
		o, e := parse(b, text), env()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				derive(o, e)
			}
		})
	}
}
