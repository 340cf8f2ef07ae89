// SPDX-License-Identifier: Apache-2.0

package sconce_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "sconce.dev/sconce/"

// floors are the packages by how far up they stand: one imports only from
// floors below its own. ARCHITECTURE.md says what each is for.
var floors = []struct {
	reason   string
	packages []string
}{
	{"the format, the objects and what a credential looks like know nothing but themselves", []string{"api/v1alpha1", "object", "credential"}},
	{"graphs are mathematics: they know nothing of what their vertices stand for", []string{"graph"}},
	{"what runs programs in tests knows none of them", []string{"test/process"}},
	{"what stands in for a cluster in tests knows nothing of what it tests", []string{"test/controlplane", "test/prometheus", "test/registry", "test/shape"}},
	{"what is judged, what is said of it and of the tests of policies; every floor above speaks in these", []string{"verdict", "policytest"}},
	{"how objects arrive, and what a control is: neither knows of the other", []string{"snapshot", "control", "source/helm", "source/kustomize", "facts"}},
	{"an analyser derives its own facts and knows of no other analyser", []string{"facts/containerengine", "facts/controlplane", "facts/enforcement", "facts/namespace", "facts/network", "facts/rbac", "facts/release", "facts/secret", "facts/upgrade"}},
	{"what joins what analysers found: the steps of an attacker", []string{"facts/attackpath"}},
	{"what a policy of another language is: rules that judge a request", []string{"policy"}},
	{"what lists the analysers", []string{"facts/all"}},
	{"renderers run apart from the rest, in processes of their own", []string{"source/render"}},
	{"the parts of Kyverno's language that its other parts are made of, and what all that run CEL, or ask outside, share", []string{"policy/answers", "policy/celcover", "policy/celguard", "policy/kyverno/pattern", "policy/place"}},
	{"what Kyverno's rules do with patterns, what bounds Rego, and what rules ask outside: each package one thing", []string{"policy/kyverno/jmes", "policy/kyverno/mutation", "policy/kyverno/podsecurity", "policy/registry", "policy/regoguard", "policy/service"}},
	{"the policies of other languages, each read and run by its own package", []string{"policy/gatekeeper", "policy/kyverno", "policy/kyvernocel", "policy/rego", "policy/vap"}},
	{"what lists the languages", []string{"policy/all"}},
	{"which rules hold, and where objects come from: no source knows a rule", []string{"baseline", "source", "source/cluster"}},
	{"the data, the function that joins rules and objects, and the models of all objects", []string{"catalog", "engine", "posture"}},
	{"policies that travel: packed, signed, fetched; what they mean is for others to say", []string{"bundle"}},
	{"what comes out: made from verdicts, never by judging", []string{"report", "report/openreports", "picture", "fix", "generate", "generate/manifest", "generate/recording"}},
	{"what a model and a recording come to: manifests, proven by the model", []string{"generate/networkpolicy", "generate/role"}},
	{"policies of one language in another, proven by asking both", []string{"translate"}},
	{"what a change does: the difference of two runs and of what the models say", []string{"diff"}},
	{"what people ask of the models: printed, written and drawn, decided by none of it", []string{"answer"}},
	{"verdicts that are kept up to date: told of objects, and of no cluster", []string{"audit"}},
	{"what is asked at admission: answered by judging, and by the fixes", []string{"admission"}},
	{"what changed, and what undoes it: patches are values, and others send them", []string{"drift"}},
	{"the test of every control stands at the top, or it pulls imports upward", []string{"controltest"}},
	{"the tests that people write for their policies, each form run by its own package", []string{"policytest/gator", "policytest/kyvernotest", "policytest/regotest"}},
	{"what tests the tests stands above them", []string{"mutate"}},
	{"the process that runs in a cluster: it wires what stands below", []string{"agent"}},
	{"drivers: wiring only", []string{"cli"}},
	{"the program", []string{"cmd/sconce"}},
}

// forbidden are imports that a package must not have, and why.
var forbidden = []struct {
	packages []string // prefixes of packages that must not
	except   []string
	imports  string // prefix of the import
	reason   string
}{
	{[]string{"api", "object", "verdict", "snapshot", "control", "baseline", "engine", "report", "facts", "posture", "answer"}, nil, "os",
		"the pure floors read no files and no environment: same input, same output"},
	{[]string{"api", "object", "verdict", "snapshot", "control", "baseline", "engine", "report", "fix", "facts", "posture", "answer"}, nil, "net",
		"nothing here goes to the network"},
	{[]string{"api", "object", "verdict", "snapshot", "control", "baseline", "engine", "report", "fix", "facts", "posture", "answer"}, nil, "log",
		"the pure floors return what they have to say"},
	{[]string{""}, []string{"source/helm", "source/kustomize", "source/render"}, "helm.sh/helm",
		"Helm is the business of one package"},
	{[]string{""}, []string{"source/kustomize", "policy/kyverno/mutation"}, "sigs.k8s.io/kustomize",
		"Kustomize is the business of one package; Kyverno's strategic merge is Kustomize's"},
	{[]string{""}, []string{"bundle", "policy/kyvernocel", "policy/registry", "test/registry"}, "github.com/google/go-containerregistry",
		"registries are the business of those who fetch from them"},
	{[]string{""}, []string{"bundle", "policy/registry", "test/registry"}, "github.com/sigstore",
		"signatures are the business of those who verify them: of bundles, and of images for policies"},
	{[]string{""}, []string{"control", "mutate", "policy", "translate"}, "github.com/google/cel-go",
		"there is one evaluator of controls; mutants are made of syntax, and evaluated by it; policies of other languages have their own"},
	{[]string{""}, []string{"control", "policy"}, "k8s.io/apiserver",
		"the CEL environment is the business of one package; others run the policies of the API server and of Kyverno as those do"},
	{[]string{""}, []string{"policy/rego", "policy/regoguard", "policy/gatekeeper", "policytest", "translate"}, "github.com/open-policy-agent/opa",
		"Rego is the business of those who run it"},
	{[]string{""}, nil, "k8s.io/kubernetes",
		"its components are built in a module of their own"},
	{[]string{""}, []string{"cli", "cmd"}, "github.com/spf13/cobra",
		"libraries take no command-line flags"},
}

// TestImports reads the sources of every package and holds its imports against
// the floors. It parses them itself: a test on top of the go command would be
// cached and stay green.
func TestImports(t *testing.T) {
	floorOf := map[string]int{}
	for i, f := range floors {
		for _, p := range f.packages {
			floorOf[p] = i
		}
	}
	seen := map[string]bool{}
	for pkg, imports := range sources(t) {
		floor, ok := floorOf[pkg]
		if !ok {
			t.Errorf("package %s stands on no floor: put it on one, here and in ARCHITECTURE.md", pkg)
			continue
		}
		seen[pkg] = true
		for _, imp := range imports {
			other, own := strings.CutPrefix(imp, module)
			if own && floorOf[other] >= floor {
				t.Errorf("%s imports %s, which does not stand below it (%s)", pkg, other, floors[floor].reason)
			}
			checkForbidden(t, pkg, imp)
		}
	}
	for pkg := range floorOf {
		if !seen[pkg] {
			t.Errorf("package %s is on a floor, but does not exist", pkg)
		}
	}
}

func checkForbidden(t *testing.T, pkg, imp string) {
	t.Helper()
	below := func(prefixes []string, name string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			return p == "" || name == p || strings.HasPrefix(name, p+"/")
		})
	}
	for _, f := range forbidden {
		if imp == "net/netip" && f.imports == "net" {
			continue // it parses addresses, and goes nowhere
		}
		if below(f.packages, pkg) && !below(f.except, pkg) && below([]string{f.imports}, imp) {
			t.Errorf("%s imports %s: %s", pkg, imp, f.reason)
		}
	}
}

// sources returns the imports of every package, tests left out.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || name == "tools" || name == "test/cluster" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(name))
		for _, imp := range file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			out[pkg] = append(out[pkg], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
