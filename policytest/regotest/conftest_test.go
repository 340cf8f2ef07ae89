// SPDX-License-Identifier: Apache-2.0

package regotest_test

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/regotest"
	"sconce.dev/sconce/verdict"
)

var (
	acceptanceTest   = regexp.MustCompile(`(?ms)^@test "(.*?)" \{\n(.*?)^\}`)
	acceptanceRun    = regexp.MustCompile(`(?m)^  run \./conftest (test|verify) (.*)$`)
	acceptanceStatus = regexp.MustCompile(`"\$status" -eq (\d)`)
)

// notOurs are flags and formats of conftest that are no part of what policies
// are here, and why.
var notOurs = map[string]string{
	"--combine":             "files are judged one by one",
	"--update":              "nothing is fetched",
	"--strict":              "a matter of style",
	"--capabilities":        "capabilities are our own",
	"--show-builtin-errors": "errors of functions are as Rego has them",
	"--proto-file-dirs":     "no such format",
	"--report":              "an output of its own",
	"-c":                    "a configuration file of its own",
}

// TestConftest holds the verdicts against what conftest's own acceptance tests
// expect of its examples. SCONCE_CONFTEST is a checkout of it.
func TestConftest(t *testing.T) {
	root := os.Getenv("SCONCE_CONFTEST")
	if root == "" {
		t.Skip("SCONCE_CONFTEST is not set")
	}
	text, err := os.ReadFile(filepath.Join(root, "acceptance.bats"))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, found := range acceptanceTest.FindAllStringSubmatch(string(text), -1) {
		name, body := found[1], found[2]
		call, status := acceptanceRun.FindStringSubmatch(body), acceptanceStatus.FindStringSubmatch(body)
		if call == nil || status == nil || strings.Contains(body, "cd ") || strings.Contains(call[2], "$") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			got, why := conftest(t, root, call[1], strings.Fields(call[2]))
			switch {
			case why != "":
				counts["left out"]++
				t.Skip(why)
			case got != status[1]:
				counts["missed"]++
				t.Errorf("%s: exit code %s, want %s", call[0], got, status[1])
			default:
				counts["met"]++
			}
		})
	}
	t.Logf("%v", counts)
}

// conftest does what a command of conftest does, and returns its exit code, or
// why it is left out.
func conftest(t *testing.T, root, command string, args []string) (code, leftOut string) {
	t.Helper()
	var policies, data, inputs []string
	namespace, warnings := "main", false
	for i := 0; i < len(args); i++ {
		arg, value, _ := strings.Cut(args[i], "=")
		next := func() string {
			if value == "" && i+1 < len(args) {
				i++
				value = args[i]
			}
			return strings.Trim(value, `"'`)
		}
		switch {
		case notOurs[arg] != "":
			return "", notOurs[arg]
		case arg == "-p" || arg == "--policy":
			policies = append(policies, next())
		case arg == "-d" || arg == "--data":
			data = append(data, next())
		case arg == "--namespace":
			namespace = next()
		case arg == "--all-namespaces":
			namespace = "*"
		case arg == "--fail-on-warn":
			warnings = true
		case arg == "--parser":
			if p := next(); p != "yaml" {
				return "", "a parser that the name of the file does not tell"
			}
		case arg == "-o" || arg == "--output":
			next()
		case arg == "--no-color", arg == "--quiet", arg == "--trace", arg == "--suppress-exceptions", arg == `""`:
		case arg == "-" || arg == "<":
		default:
			inputs = append(inputs, arg)
		}
	}
	modules := read(t, root, policies, ".rego")
	if len(modules) == 0 {
		return "1", ""
	}
	documents := map[string]any{}
	for name, text := range read(t, root, data, ".yaml", ".yml", ".json") {
		docs, err := rego.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			for k, v := range d.(map[string]any) {
				documents[k] = v
			}
		}
	}
	namespaces := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(namespace), `\*`, ".*") + "$")
	if command == "verify" {
		return verify(t, root, modules, documents), ""
	}
	return judgeAll(t, root, modules, documents, inputs, namespaces, warnings)
}

func judgeAll(t *testing.T, root string, modules map[string][]byte, data map[string]any, inputs []string, namespaces *regexp.Regexp, warnings bool) (code, leftOut string) {
	t.Helper()
	set := rego.LoadModules(modules, data, policy.Options{})
	if len(set.Problems) > 0 {
		t.Logf("%s:%d: %s", set.Problems[0].Position.File, set.Problems[0].Position.Line, set.Problems[0].Message)
		return "1", ""
	}
	failed := false
	for name, text := range read(t, root, inputs) {
		if !rego.Reads(name) {
			return "", "a format that is not read: " + path.Base(name)
		}
		docs, err := rego.Parse(name, text)
		if err != nil {
			t.Error(err)
		}
		for _, r := range set.Rules {
			if !namespaces.MatchString(r.Info().Policy.Name) || !warnings && r.Info().Action == "warn" {
				continue
			}
			for _, d := range docs {
				v, applies := r.(rego.DocumentRule).JudgeDocument(context.Background(), d)
				if applies && v.Outcome == verdict.Unknown {
					t.Errorf("%s: %s: unknown: %s", name, r.Info().Name, v.Findings[0].Message)
				}
				failed = failed || applies && v.Outcome == verdict.Fail
				judgeObject(t, r, d, v.Outcome)
			}
		}
	}
	if failed {
		return "1", ""
	}
	return "0", ""
}

// judgeObject judges a document as an object, and wants the same verdict: what a
// rule does not match, it does not fail.
func judgeObject(t *testing.T, r policy.Rule, doc any, want verdict.Outcome) {
	t.Helper()
	root := object.FromAny(doc)
	if root.Kind != object.Map {
		return
	}
	o := object.New(root, &object.Origin{})
	if !r.Matches(o.GroupKind()) {
		if want != verdict.Pass {
			t.Errorf("%s does not match what it finds: %s", r.Info().Name, o.Ref)
		}
		return
	}
	if v, _ := r.Judge(context.Background(), &policy.Request{Object: o}); v.Outcome != want {
		t.Errorf("%s of %s: %s as an object, %s as a document", r.Info().Name, o.Ref, v.Outcome, want)
	}
}

func verify(t *testing.T, root string, modules map[string][]byte, data map[string]any) string {
	t.Helper()
	code := "0"
	opts := regotest.Options{Files: modules, Data: data, ReadFile: func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	}}
	for name, text := range modules {
		if !regotest.IsTest(name, text) {
			continue
		}
		r, err := regotest.Run(context.Background(), name, opts)
		if err != nil {
			t.Log(err)
			return "1"
		}
		for _, c := range r.Cases {
			if c.Outcome == policytest.Failed || c.Outcome == policytest.Broken {
				t.Logf("%s:%d: %s: %s", c.Position.File, c.Position.Line, c.Name, c.Message)
				code = "1"
			}
		}
	}
	return code
}

// read returns the files at and below paths that have one of some endings.
func read(t *testing.T, root string, paths []string, endings ...string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, p := range paths {
		_ = filepath.WalkDir(filepath.Join(root, p), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || len(endings) > 0 && !slices.Contains(endings, filepath.Ext(name)) {
				return nil //nolint:nilerr // what is not there has no files
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(rel)] = data
			return nil
		})
	}
	return out
}
