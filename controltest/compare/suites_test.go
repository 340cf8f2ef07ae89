// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func init() {
	suites["kubescape"] = kubescape
	suites["polaris"] = polaris
	suites["trivy"] = trivy
	suites["gatekeeper"] = gatekeeper
	suites["kyverno"] = kyverno
	suites["kube-linter"] = kubeLinter
}

// kubescape reads rules/RULE/test/CASE/{input,expected.json}: the alerts that
// are expected.
func kubescape(dir string) ([]caze, error) {
	expected, err := filepath.Glob(filepath.Join(dir, "rules", "*", "test", "*", "expected.json"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, file := range expected {
		folder := filepath.Dir(file)
		c := caze{name: filepath.Base(folder), rule: filepath.Base(filepath.Dir(filepath.Dir(folder)))}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var alerts []any
		if len(strings.TrimSpace(string(data))) > 0 {
			if err := json.Unmarshal(data, &alerts); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		c.fails = len(alerts) > 0
		if c.files, err = manifests(filepath.Join(folder, "input"), filepath.Join(folder, "*.yaml")); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// manifests reads the files of a folder, and those that match a pattern.
func manifests(folder, pattern string) ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	more, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, name := range append(names, more...) {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

// polaris reads test/checks/CHECK/{success,failure}*.yaml.
func polaris(dir string) ([]caze, error) {
	names, err := filepath.Glob(filepath.Join(dir, "test", "checks", "*", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".yaml")
		verdict, _, _ := strings.Cut(base, ".")
		if verdict != "success" && verdict != "failure" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, caze{rule: filepath.Base(filepath.Dir(name)), name: base, files: [][]byte{data}, fails: verdict == "failure"})
	}
	return out, nil
}

var (
	regoTest  = regexp.MustCompile(`(?m)^(test_\w+)( if)? \{$`)
	regoCount = regexp.MustCompile(`count\(\w+\) *(==|>|>=|!=) *(\d+)`)
)

// trivy reads the unit tests of checks/kubernetes: the input of each, and
// whether it expects results; and the samples that a check gives.
func trivy(dir string) ([]caze, error) {
	names, err := filepath.Glob(filepath.Join(dir, "checks", "kubernetes", "*"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, name := range names {
		rule, isTest := strings.CutSuffix(filepath.Base(name), "_test.rego")
		data, err := os.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		if isTest {
			cases, err := regoCases(rule, string(data))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out = append(out, cases...)
		}
		if rule, ok := strings.CutSuffix(filepath.Base(name), ".yaml"); ok {
			var samples struct {
				Kubernetes struct{ Good, Bad []string }
			}
			if err := yaml.Unmarshal(data, &samples); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for i, s := range samples.Kubernetes.Good {
				out = append(out, caze{rule: rule, name: fmt.Sprintf("good-%d", i+1), files: [][]byte{[]byte(s)}})
			}
			for i, s := range samples.Kubernetes.Bad {
				out = append(out, caze{rule: rule, name: fmt.Sprintf("bad-%d", i+1), files: [][]byte{[]byte(s)}, fails: true})
			}
		}
	}
	return out, nil
}

// regoCases reads the tests of a file of Rego whose input is a literal: the
// literals are JSON with trailing commas, which YAML reads.
func regoCases(rule, text string) ([]caze, error) {
	var out []caze
	starts := regoTest.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		body := text[m[1]:end]
		at := strings.Index(body, "with input as {")
		count := regoCount.FindStringSubmatch(body)
		if at < 0 || count == nil {
			continue
		}
		literal := balanced(body[at+len("with input as "):])
		var doc any
		if err := yaml.Unmarshal([]byte(strings.ReplaceAll(literal, "\t", "  ")), &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", text[m[2]:m[3]], err)
		}
		data, err := json.Marshal(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, caze{rule: rule, name: text[m[2]:m[3]], files: [][]byte{data}, fails: !(count[1] == "==" && count[2] == "0")})
	}
	return out, nil
}

// balanced returns the text up to the brace that closes the first one.
func balanced(s string) string {
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return s[:i+1]
			}
		}
	}
	return s
}

// gatekeeper reads library/**/suite.yaml: an object, a constraint, and whether
// it is violated. What the constraint's parameters mean for our controls is
// said by gatekeeperParameters.
func gatekeeper(dir string) ([]caze, error) {
	var out []caze
	err := filepath.WalkDir(filepath.Join(dir, "library"), func(name string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != "suite.yaml" {
			return err
		}
		var s struct {
			Tests []struct {
				Name, Constraint string
				Cases            []struct {
					Name, Object string
					Inventory    []string
					Assertions   []struct{ Violations any }
				}
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		folder := filepath.Dir(name)
		for _, test := range s.Tests {
			constraint, err := os.ReadFile(filepath.Join(folder, test.Constraint))
			if err != nil {
				return err
			}
			for _, k := range test.Cases {
				c := caze{rule: filepath.Base(folder), name: test.Name + "/" + k.Name}
				for _, file := range append([]string{k.Object}, k.Inventory...) {
					data, err := os.ReadFile(filepath.Join(folder, file))
					if err != nil {
						return err
					}
					c.files = append(c.files, data)
				}
				for _, a := range k.Assertions {
					if v := fmt.Sprint(a.Violations); v != "no" && v != "false" && v != "0" {
						c.fails = true
					}
				}
				if c.parameters, err = gatekeeperParameters(c.rule, constraint); err != nil {
					return err
				}
				out = append(out, c)
			}
		}
		return nil
	})
	return out, err
}

// kyverno reads **/.kyverno-test/kyverno-test.yaml: a verdict for each policy,
// rule and resource.
func kyverno(dir string) ([]caze, error) {
	var out []caze
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != "kyverno-test.yaml" {
			return err
		}
		folder := filepath.Dir(name)
		top, _, _ := strings.Cut(strings.TrimPrefix(folder, dir+string(filepath.Separator)), string(filepath.Separator))
		if strings.HasSuffix(top, "-cel") || strings.HasSuffix(top, "-vpol") {
			return nil // the same cases once more
		}
		var test struct {
			Resources []string
			Results   []struct {
				Policy, Rule, Result, Kind string
				Resources                  []string
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(data, &test); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var files [][]byte
		for _, r := range test.Resources {
			data, err := os.ReadFile(filepath.Join(folder, r))
			if err != nil {
				return nil // resources of another kind: a URL, a folder
			}
			files = append(files, data)
		}
		for _, r := range test.Results {
			if r.Result != "pass" && r.Result != "fail" {
				continue
			}
			for _, resource := range r.Resources {
				resource = resource[strings.LastIndex(resource, "/")+1:]
				c := caze{rule: top + "/" + r.Policy, name: r.Rule + "/" + r.Kind + "/" + resource, files: files, subject: resource, fails: r.Result == "fail"}
				if r.Kind != "" {
					c.subject = r.Kind + "/" + resource
				}
				if !slices.ContainsFunc(out, func(o caze) bool { return o.rule == c.rule && o.name == c.name }) {
					out = append(out, c)
				}
			}
		}
		return nil
	})
	return out, err
}

var (
	batsTest  = regexp.MustCompile(`(?m)^@test "([^"]+)" \{$`)
	batsFile  = regexp.MustCompile(`tmp="(tests/checks/[^"]+)"`)
	batsKinds = regexp.MustCompile(`"\$\{message\d+\}" == "(\w+): `)
)

// kubeLinter reads e2etests/bats-tests.sh: a file of tests/checks and the kinds
// of the objects that a check reports.
func kubeLinter(dir string) ([]caze, error) {
	data, err := os.ReadFile(filepath.Join(dir, "e2etests", "bats-tests.sh"))
	if err != nil {
		return nil, err
	}
	text := string(data)
	var out []caze
	starts := batsTest.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		body := text[m[1]:end]
		file := batsFile.FindStringSubmatch(body)
		if file == nil {
			continue
		}
		manifest, err := os.ReadFile(filepath.Join(dir, file[1]))
		if err != nil {
			return nil, err
		}
		out = append(out, kubeLinterCases(text[m[2]:m[3]], manifest, batsKinds.FindAllStringSubmatch(body, -1))...)
	}
	return out, nil
}

// kubeLinterCases makes a case of each object kind in a file, judged as a whole.
func kubeLinterCases(rule string, manifest []byte, reported [][]string) []caze {
	kinds := map[string]bool{}
	for _, m := range reported {
		kinds[m[1]] = true
	}
	return []caze{{rule: rule, name: "file", files: [][]byte{manifest}, fails: len(kinds) > 0}}
}
