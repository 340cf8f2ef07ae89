// SPDX-License-Identifier: Apache-2.0

// Package install holds the ways to install Sconce against each other: the Helm
// chart is the source, the plain manifests beside this file are what it renders
// to, and both meet what Sconce asks of others. `go test -update` rewrites what
// is generated.
package install

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/cli"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/render"
	"sconce.dev/sconce/verdict"
)

const (
	chart     = "../../charts/sconce"
	crds      = "../crd"
	namespace = "sconce-system"
	generated = "# Written by `make generate`; do not edit.\n"
)

var update = flag.Bool("update", false, "rewrite what is generated")

// TestMain lets this program render charts for the scans below, as sconce does:
// in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == render.WorkerArg {
		os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// TestCopies holds that what the chart needs a copy of is the same as where it
// comes from: a chart is one folder.
func TestCopies(t *testing.T) {
	for name, data := range files(t, crds, "*.yaml") {
		current(t, filepath.Join(chart, "crds", name), data)
	}
	for to, from := range map[string]string{"rules.yaml": "../prometheus/rules.yaml", "dashboard.json": "../grafana/sconce.json"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		current(t, filepath.Join(chart, "files", to), data)
	}
}

// TestKinds holds that the agent may read the kinds that the built-in controls
// judge, and no more: never Secrets, and nothing by an asterisk.
func TestKinds(t *testing.T) {
	type rule struct {
		APIGroups []string `json:"apiGroups"`
		Resources []string `json:"resources"`
		Verbs     []string `json:"verbs"`
	}
	byGroup := map[string][]string{}
	for _, gk := range judged(t) {
		byGroup[gk.Group] = append(byGroup[gk.Group], plural(gk.Kind))
	}
	var rules []rule
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		slices.Sort(byGroup[group])
		rules = append(rules, rule{[]string{group}, slices.Compact(byGroup[group]), []string{"get", "list", "watch"}})
	}
	data, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	current(t, filepath.Join(chart, "files", "kinds.yaml"), append([]byte(generated), data...))
}

// judged are the kinds that the built-in controls judge in a cluster, or whose
// objects tell them of others.
func judged(t *testing.T) []object.GroupKind {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	out := object.PodKinds()
	for group, kinds := range whole {
		for _, kind := range kinds {
			out = append(out, object.GroupKind{Group: group, Kind: kind})
		}
	}
	for _, name := range l.Controls() {
		for _, k := range l.Control(name).Spec.Match.Kinds {
			gk := object.GroupKind{Group: k.Group, Kind: k.Kind}
			if out = append(out, gk); gk.Group == facts.Group {
				out = append(out, told(gk.Kind)...)
			}
		}
	}
	return slices.DeleteFunc(out, func(gk object.GroupKind) bool {
		// Files of components and of earlier Kubernetes, which no API serves.
		return gk.Group == facts.Group || gk.Group == "extensions" || gk.Group == "audit.k8s.io" ||
			strings.HasSuffix(gk.Group, ".config.k8s.io") || gk == object.GroupKind{Kind: "Secret"} || gk.Kind == facts.AnyKind
	})
}

// whole are the groups of which every kind is read. A constraint of Gatekeeper is
// of a kind that its template makes: these are for rbac.extraRules.
var whole = map[string][]string{
	"kyverno.io": {"CleanupPolicy", "ClusterCleanupPolicy", "ClusterPolicy", "GlobalContextEntry", "Policy", "PolicyException", "UpdateRequest"},
	"policies.kyverno.io": {
		"DeletingPolicy", "GeneratingPolicy", "ImageValidatingPolicy", "MutatingPolicy", "ValidatingPolicy", "PolicyException",
		"NamespacedDeletingPolicy", "NamespacedGeneratingPolicy", "NamespacedImageValidatingPolicy", "NamespacedMutatingPolicy", "NamespacedValidatingPolicy",
	},
	"templates.gatekeeper.sh": {"ConstraintTemplate"},
}

// told are the kinds that a kind of fact comes from.
func told(fact string) (out []object.GroupKind) {
	for _, s := range all.Singles {
		if slices.Contains(s.Kinds, fact) {
			out = append(out, s.From(fact).Kinds...)
		}
	}
	for _, w := range all.Wholes {
		if slices.Contains(w.Kinds, fact) {
			out = append(out, w.From(fact).Kinds...)
		}
	}
	return out
}

// plural returns what the API calls a kind. The API server confirms it for its
// own kinds in test/e2e.
func plural(kind string) string {
	name := strings.ToLower(kind)
	switch before, y := strings.CutSuffix(name, "y"); {
	case y && !strings.HasSuffix(before, "a"):
		return before + "ies"
	case strings.HasSuffix(name, "ss"):
		return name + "es"
	case strings.HasSuffix(name, "s"):
		return name
	}
	return name + "s"
}

// TestManifests holds that the plain manifests are what the chart renders to.
func TestManifests(t *testing.T) {
	docs := rendered(t, "namespace.create=true")
	const of = "namespace.yaml"
	current(t, "crds.yaml", join("The CRDs of Sconce. They come first: `kubectl apply --server-side`.", files(t, crds, "*.yaml")))
	current(t, of, join("The namespace of the agent.", map[string][]byte{of: docs[of]}))
	delete(docs, of)
	current(t, "sconce.yaml", join("The agent of Sconce, as the chart in charts/sconce renders it.", docs))
}

// TestHardened holds what is installed against the strictest baseline, which
// knows no exceptions. What it still says is listed, with the reason.
func TestHardened(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		// The agent writes webhook configurations: whoever takes it over takes the
		// cluster, as docs/install.md says.
		{name: "the chart", args: []string{chart, "-n", namespace}, want: []string{takesCluster}},
		{name: "the manifests", args: []string{"sconce.yaml", "crds.yaml"}, want: []string{takesCluster}},
		{
			name: "the chart with everything that is no permission more",
			args: []string{chart, "-n", namespace, "--set", "agent.mutate=true", "--set", "agent.reports=policyreports", "--set", "monitoring.serviceMonitor=true", "--set", "monitoring.rules=true", "--set", "monitoring.dashboard=true"},
			want: []string{takesCluster},
		},
		{
			// Whether a mesh is there, and which, no installer knows.
			name: "the manifests and the namespace",
			args: []string{"sconce.yaml", "crds.yaml", "namespace.yaml"},
			want: []string{"fail namespace-outside-mesh", takesCluster},
		},
		{
			name: "the namespace, in a mesh",
			args: []string{chart, "-n", namespace, "--set", "namespace.create=true", "--set-string", `namespace.labels.istio\.io/dataplane-mode=ambient`},
			want: []string{takesCluster},
		},
		{
			// The manifests alone are no cluster: its DNS is missing.
			name: "all manifests, as if there were nothing else",
			args: []string{"sconce.yaml", "crds.yaml", "namespace.yaml", "--complete"},
			want: []string{"fail namespace-outside-mesh", "fail network-policy-peer-selects-nothing", takesCluster},
		},
		{
			// Whoever lets the agent read Secrets is told so.
			name: "the chart that reads Secrets",
			args: []string{chart, "-n", namespace, "--set", "agent.readSecrets=true"},
			want: []string{"fail secret-reading", takesCluster},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := scan(t, append([]string{"-b", "hardened"}, c.args...)...); !slices.Equal(got, c.want) {
				t.Errorf("the baseline hardened says %q, want %q", got, c.want)
			}
		})
	}
}

// elsewhere are controls that say unknown of what is to be installed, since they
// are about what is there already.
var elsewhere = []string{
	"policy-engine-missing", "network-policy-peer-selects-nothing", "internet-path-to-cluster-admin", "internet-path-to-node",
	"metadata-reachable", "network-policy-redundant", "pod-open-to-any-namespace",
}

const takesCluster = "fail workload-path-to-cluster-admin"

// scan returns what fails or is unknown, each control once.
func scan(t *testing.T, args ...string) []string {
	t.Helper()
	var out, errs bytes.Buffer
	cli.Main(append([]string{"scan", "-q", "-o", "json"}, args...), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	if errs.Len() > 0 {
		t.Error(errs.String())
	}
	found := map[string]bool{}
	var summary *verdict.Summary
	for line := range bytes.Lines(out.Bytes()) {
		var m verdict.Message
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		if m.Problem != nil {
			t.Error(m.Problem.Message)
		}
		if f := m.Finding; f != nil && (f.Outcome == verdict.Fail || !slices.Contains(elsewhere, f.Control)) {
			found[string(f.Outcome)+" "+f.Control] = true
		}
		summary = m.Summary
	}
	if summary == nil || summary.Objects == 0 {
		t.Fatal("nothing was judged")
	}
	return slices.Sorted(maps.Keys(found))
}

// TestValues holds that the chart refuses values that it does not know, and what
// those that it knows do.
func TestValues(t *testing.T) {
	for value, want := range map[string]string{
		"replica=3":                "replica",
		"image.digest=latest":      "digest",
		"agent.reports=yes":        "reports",
		"webhook.port=443":         "port",
		"rbac.extraRules[0].all=1": "extraRules",
	} {
		_, err := helm.Render(chart, helm.Options{Namespace: namespace, Set: []string{value}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", value, err)
		}
	}
	for _, c := range []struct{ value, template, want string }{
		{"agent.remediate=true", "deployment.yaml", "--remediate"},
		{"agent.mutate=true", "deployment.yaml", "--mutate"},
		{"agent.readSecrets=true", "deployment.yaml", "--read-secrets"},
		{"agent.readSecrets=true", "rbac.yaml", "resources: [secrets]\n    verbs: [get, list, watch]"},
		{"agent.policies.configMaps={ours}", "deployment.yaml", "--policies=/policies/ours"},
		{"agent.policies.configMaps={ours}", "deployment.yaml", "mountPath: \"/policies/ours\", readOnly: true"},
		{"agent.policies.configMaps={ours}", "deployment.yaml", "configMap: {name: \"ours\"}"},
		{"agent.policies.bundles={oci://registry.example.com/policies:1}", "deployment.yaml", "--policies=oci://registry.example.com/policies:1"},
		{"agent.policies.keyConfigMap=keys", "deployment.yaml", "--policy-key=/keys/policies.pub"},
		{"agent.clusterPolicies=true", "deployment.yaml", "--cluster-policies"},
		{"agent.clusterPolicies=true", "rbac.yaml", "apiGroups: [constraints.gatekeeper.sh]"},
		{"agent.reports=policyreports", "rbac.yaml", "clusterpolicyreports"},
		{"rbac.extraRules[0].verbs={list},rbac.extraRules[0].apiGroups={argoproj.io},rbac.extraRules[0].resources={rollouts}", "rbac.yaml", "rollouts"},
		{"monitoring.rules=true", "monitoring.yaml", "SconceAgentDown"},
		{"monitoring.dashboard=true", "monitoring.yaml", `"uid": "sconce"`},
		{"monitoring.serviceMonitor=true", "monitoring.yaml", "ServiceMonitor"},
		{"image.pullSecrets={mirror}", "deployment.yaml", "- name: mirror"},
		{"image.repository=mirror.example.com/sconce", "deployment.yaml", "image: mirror.example.com/sconce:"},
	} {
		if before := rendered(t)[c.template]; bytes.Contains(before, []byte(c.want)) {
			t.Errorf("without %s, %s has %q, too", c.value, c.template, c.want)
		}
		if after := rendered(t, c.value)[c.template]; !bytes.Contains(after, []byte(c.want)) {
			t.Errorf("with %s, %s has no %q:\n%s", c.value, c.template, c.want, after)
		}
	}
}

// TestNotes holds what is printed after the installation, which Helm renders by
// itself.
func TestNotes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sconce")
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir, "templates", "notes.yaml")
	if err := os.Rename(filepath.Join(dir, "templates", "NOTES.txt"), notes); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"replicas=2":                  "image.digest stands for no image",
		"agent.reports=openreports":   "kubectl get reports.openreports.io -A",
		"agent.reports=policyreports": "kubectl get policyreports.wgpolicyk8s.io -A",
		"baseline.name=other":         "enforces the baseline other",
	} {
		out, err := helm.Render(dir, helm.Options{Namespace: namespace, Set: []string{value}})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range out.Docs {
			if filepath.Base(d.File) == "notes.yaml" && !bytes.Contains(d.Text, []byte(want)) {
				t.Errorf("with %s the notes have no %q:\n%s", value, want, d.Text)
			}
		}
	}
}

// TestArguments holds that the agent knows the flags that the chart gives it.
func TestArguments(t *testing.T) {
	text := rendered(t, "agent.mutate=true", "agent.remediate=true", "agent.readSecrets=true", "agent.clusterPolicies=true",
		"agent.policies.configMaps={ours}", "agent.policies.bundles={oci://registry.example.com/policies:1}", "agent.policies.keyConfigMap=keys")["deployment.yaml"]
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict(text, &d); err != nil {
		t.Fatal(err)
	}
	args := d.Spec.Template.Spec.Containers[0].Args
	if len(args) < 10 {
		t.Fatalf("the chart gives the arguments %q", args)
	}
	var errs bytes.Buffer
	// With --help at the end they are read, and nothing runs.
	if code := cli.Main(append(args, "--help"), cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs}); code != 0 {
		t.Errorf("the arguments %q are not understood: %s", args, errs.String())
	}
}

// rendered returns what the chart's templates render to, by their names.
func rendered(t *testing.T, values ...string) map[string][]byte {
	t.Helper()
	out, err := helm.Render(chart, helm.Options{ReleaseName: "sconce", Namespace: namespace, Set: values})
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string][]byte{}
	for _, d := range out.Docs {
		if !d.Verbatim {
			docs[filepath.Base(d.File)] = d.Text
		}
	}
	return docs
}

// files returns the files of a folder by their names.
func files(t *testing.T, dir, pattern string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		if out[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// join makes one file of several, in the order of their names.
func join(title string, parts map[string][]byte) []byte {
	out := bytes.NewBufferString("# " + title + "\n" + generated)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		text := bytes.TrimSpace(parts[name])
		if !bytes.HasPrefix(text, []byte("---")) {
			out.WriteString("---\n")
		}
		out.Write(text)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// current holds a file against what it is generated from, or writes it.
func current(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run make generate (%v)", name, err)
	}
}
