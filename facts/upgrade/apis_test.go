// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "bring the markers of k8s.io/api into data/apis.yaml")

// TestAPIs holds the table against the lifecycle markers in k8s.io/api: the
// methods that prerelease-lifecycle-gen writes. Entries with `differs` say why
// they are not the same. With -update it changes and adds entries; what has gone
// from k8s.io/api stays.
func TestAPIs(t *testing.T) {
	marked := markers(t)
	file := read[apisFile]("apis")
	table := map[typeKey]*api{}
	for i := range file.APIs {
		for k := range file.APIs[i].Kinds {
			a := &file.APIs[i].Kinds[k]
			a.group, a.version = file.APIs[i].Group, file.APIs[i].Version
			table[typeKey{file.APIs[i].apiVersion(), a.Kind}] = a
		}
	}
	changed := false
	for _, key := range slices.SortedFunc(maps.Keys(marked), func(a, b typeKey) int {
		return strings.Compare(a.apiVersion+a.kind, b.apiVersion+b.kind)
	}) {
		want, have := marked[key], table[key]
		switch {
		case have == nil:
			table[key], changed = want, true
			want.Resource = plural(want.Kind)
			if !*update {
				t.Errorf("%s %s is not in the table", key.apiVersion, key.kind)
			}
		case have.Differs != "":
		case have.Introduced != want.Introduced || have.Deprecated != want.Deprecated || have.Removed != want.Removed:
			if !*update {
				t.Errorf("%s %s: introduced %#v, deprecated %#v, removed %#v; the markers say %#v, %#v, %#v", key.apiVersion, key.kind,
					have.Introduced, have.Deprecated, have.Removed, want.Introduced, want.Deprecated, want.Removed)
			}
			have.Introduced, have.Deprecated, have.Removed, changed = want.Introduced, want.Deprecated, want.Removed, true
			if have.Replacement == "" {
				have.Replacement, have.ReplacementKind = want.Replacement, want.ReplacementKind
			}
		}
	}
	if *update && changed {
		write(t, table)
	}
}

// left out are lists, options and what only travels between programs.
var leftOut = regexp.MustCompile(`(List|Options|Review)$|^(PodStatusResult|RangeAllocation|SerializedReference|APIGroupDiscovery|Scale|DeploymentRollback|JobTemplate)$`)

// reviews are made by people with kubectl, too.
var reviews = regexp.MustCompile(`^(Token|SelfSubject|LocalSubjectAccess|SubjectAccess|SelfSubjectAccess|SelfSubjectRules)Review$`)

var method = regexp.MustCompile(`func \(in \*(\w+)\) APILifecycle(\w+)\(\) .*\{\n\treturn (.*)\n`)

var gvkOf = regexp.MustCompile(`Group: "(.*?)", Version: "(.*?)", Kind: "(.*?)"`)

// markers reads the markers from the sources of the modules.
func markers(t *testing.T) map[typeKey]*api {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil || len(bytes.TrimSpace(dir)) == 0 {
		t.Skip("the source of k8s.io/api is not here")
	}
	names, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(dir)), "*", "*", "zz_generated.prerelease-lifecycle.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no markers in %s: %v", dir, err)
	}
	out := map[typeKey]*api{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		register, err := os.ReadFile(filepath.Join(filepath.Dir(name), "register.go"))
		if err != nil {
			t.Fatal(err)
		}
		group := regexp.MustCompile(`GroupName\s*=\s*"([^"]*)"`).FindSubmatch(register)
		gv := groupVersion{Group: string(group[1]), Version: filepath.Base(filepath.Dir(name))}
		for _, m := range method.FindAllStringSubmatch(string(text), -1) {
			if kind := m[1]; !leftOut.MatchString(kind) || reviews.MatchString(kind) {
				readMarker(t, out, gv, kind, m[2], m[3])
			}
		}
	}
	return out
}

func readMarker(t *testing.T, out map[typeKey]*api, gv groupVersion, kind, which, value string) {
	t.Helper()
	key := typeKey{gv.apiVersion(), kind}
	a := out[key]
	if a == nil {
		a = &api{Kind: kind, group: gv.Group, version: gv.Version}
		out[key] = a
	}
	var major, n int
	if which != "Replacement" {
		if _, err := fmt.Sscanf(value, "%d, %d", &major, &n); err != nil || major != 1 {
			t.Fatalf("%v %s: %s", gv, kind, value)
		}
	}
	switch which {
	case "Introduced":
		a.Introduced = minor(n)
	case "Deprecated":
		a.Deprecated = minor(n)
	case "Removed":
		a.Removed = minor(n)
	case "Replacement":
		r := gvkOf.FindStringSubmatch(value)
		a.Replacement = groupVersion{Group: r[1], Version: r[2]}.apiVersion()
		if r[3] != kind {
			a.ReplacementKind = r[3]
		}
	}
}

// plural guesses a resource; the reader of the diff checks it.
func plural(kind string) string {
	s := strings.ToLower(kind)
	switch {
	case strings.HasSuffix(s, "s"):
		return s + "es"
	case strings.HasSuffix(s, "y"):
		return strings.TrimSuffix(s, "y") + "ies"
	}
	return s + "s"
}

// write puts the table into the file, and leaves what stands before and behind
// it.
func write(t *testing.T, table map[typeKey]*api) {
	t.Helper()
	const name = "data/apis.yaml"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\napis:\n")
	_, tail, _ := strings.Cut(rest, "\n\n# Configuration files")
	versions := map[groupVersionKey][]*api{}
	for _, a := range table {
		key := groupVersionKey{a.group, a.version}
		versions[key] = append(versions[key], a)
	}
	var b strings.Builder
	b.WriteString(head + "\napis:\n")
	for _, key := range slices.SortedFunc(maps.Keys(versions), groupVersionKey.compare) {
		group := key.group
		if group == "" {
			group = `""`
		}
		fmt.Fprintf(&b, "- group: %s\n  version: %s\n  kinds:\n", group, key.version)
		kinds := versions[key]
		slices.SortFunc(kinds, func(a, b *api) int { return strings.Compare(a.Kind, b.Kind) })
		for _, a := range kinds {
			b.WriteString("  - {" + strings.Join(a.line(), ", ") + "}\n")
		}
	}
	b.WriteString("\n# Configuration files" + tail)
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (a *api) line() []string {
	out := []string{"kind: " + a.Kind, "resource: " + a.Resource, "introduced: " + `"1.` + fmt.Sprint(int(a.Introduced)) + `"`}
	add := func(key, value, quote string) {
		if value != "" {
			out = append(out, key+": "+quote+value+quote)
		}
	}
	add("deprecated", a.Deprecated.String(), `"`)
	add("removed", a.Removed.String(), `"`)
	add("replacement", a.Replacement, "")
	add("replacementKind", a.ReplacementKind, "")
	if a.Unchanged {
		out = append(out, "unchanged: true")
	}
	add("note", a.Note, `"`)
	add("differs", a.Differs, `"`)
	return out
}

type groupVersionKey struct{ group, version string }

// compare puts groups in the order of the alphabet, and newer versions first.
func (k groupVersionKey) compare(o groupVersionKey) int {
	if c := strings.Compare(k.group, o.group); c != 0 {
		return c
	}
	stage := func(v string) int {
		switch {
		case strings.Contains(v, "alpha"):
			return 2
		case strings.Contains(v, "beta"):
			return 1
		}
		return 0
	}
	if c := stage(k.version) - stage(o.version); c != 0 {
		return c
	}
	return strings.Compare(o.version, k.version)
}

// TestServed is one row for each change in the life of an API: not served below,
// served from, warned of from, gone from.
func TestServed(t *testing.T) {
	for _, c := range []struct {
		apiVersion, kind                string
		introduced, deprecated, removed int
	}{
		{"extensions/v1beta1", "Ingress", 1, 14, 22},
		{"extensions/v1beta1", "Deployment", 1, 8, 16},
		{"networking.k8s.io/v1", "Ingress", 19, 0, 0},
		{"policy/v1beta1", "PodDisruptionBudget", 5, 21, 25},
		{"policy/v1beta1", "PodSecurityPolicy", 10, 21, 25},
		{"batch/v1beta1", "CronJob", 8, 21, 25},
		{"rbac.authorization.k8s.io/v1beta1", "ClusterRole", 6, 17, 22},
		{"rbac.authorization.k8s.io/v1alpha1", "ClusterRole", 5, 17, 23},
		{"autoscaling/v2beta2", "HorizontalPodAutoscaler", 12, 23, 26},
		{"storage.k8s.io/v1beta1", "CSIStorageCapacity", 21, 24, 27},
		{"flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema", 26, 29, 32},
		{"admissionregistration.k8s.io/v1beta1", "ValidatingWebhookConfiguration", 9, 16, 22},
		{"admissionregistration.k8s.io/v1alpha1", "ValidatingAdmissionPolicy", 26, 29, 32},
		{"resource.k8s.io/v1beta1", "ResourceClaim", 32, 35, 38},
		{"settings.k8s.io/v1alpha1", "PodPreset", 6, 0, 20},
		{"v1", "Endpoints", 0, 33, 0},
		{"kubeadm.k8s.io/v1beta3", "ClusterConfiguration", 22, 31, 37},
		{"kubescheduler.config.k8s.io/v1beta2", "KubeSchedulerConfiguration", 22, 25, 28},
	} {
		a := apis().byType[typeKey{c.apiVersion, c.kind}]
		if a == nil {
			t.Errorf("%s %s is not in the table", c.apiVersion, c.kind)
			continue
		}
		for m := range minor(45) {
			served := int(m) >= c.introduced && (c.removed == 0 || int(m) < c.removed)
			if a.served(m) != served {
				t.Errorf("%s %s in 1.%d: served is %v", c.apiVersion, c.kind, m, !served)
			}
			if want := !served || c.deprecated > 0 && int(m) >= c.deprecated; tells(a, m) != want {
				t.Errorf("%s %s in 1.%d: there is something to say: %v", c.apiVersion, c.kind, m, !want)
			}
		}
	}
}
