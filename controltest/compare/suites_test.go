// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
)

func init() {
	suites["polaris"] = polaris
	suites["trivy"] = trivy
	suites["gatekeeper"] = gatekeeper
	suites["kyverno"] = kyverno
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
	regoTest     = regexp.MustCompile(`(?m)^(test_\w+)(\[name\])?( if)? \{$`)
	regoCount    = regexp.MustCompile(`count\(\w+\) *(==|=|>=?|!=) *(\d+|tc\.expected)|assert_count\(\w+, tc\.expected\)`)
	regoMessage  = regexp.MustCompile(`r\[_\]\.msg ==`)
	regoInput    = regexp.MustCompile(`with input as (\w*)`)
	regoSome     = regexp.MustCompile(`some (\w+) in (\w+)`)
	regoVersion  = regexp.MustCompile(`with data\.k8s\.version as (\S+)`)
	regoRegistry = regexp.MustCompile(`with data\.ksv0125\.trusted_registries as (\[.*\])`)
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

// regoCases reads the tests of a file of Rego. The input of each is a literal:
// JSON with trailing commas and comments, which YAML reads. It may stand under a
// name, in a function, or hold fields of a row of a table.
func regoCases(rule, text string) ([]caze, error) {
	var out []caze
	starts := regoTest.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		name, body := text[m[2]:m[3]], text[m[1]:end]
		input, count := regoInput.FindStringSubmatchIndex(body), regoCount.FindStringSubmatch(body)
		if input == nil || count == nil && !regoMessage.MatchString(body) {
			continue
		}
		literal := regoLiteral(text, body, body[input[2]:input[3]], body[input[3]:])
		rows, err := regoRows(text, body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, row := range rows {
			c := caze{rule: rule, name: strings.TrimSuffix(name+"/"+row.name, "/"), fails: count == nil || count[1] != "==" && count[1] != "=" || count[2] != "0"}
			if row.fails != nil {
				c.fails = *row.fails
			}
			filled := row.fill(literal)
			var doc any
			if err := yaml.Unmarshal([]byte(strings.ReplaceAll(filled, "\t", "  ")), &doc); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			data, err := json.Marshal(doc)
			if err != nil {
				return nil, err
			}
			c.files = [][]byte{data}
			if v := regoVersion.FindStringSubmatch(body); v != nil {
				c.kubernetesVersion = regoKubernetes(text, v[1])
			}
			if r := regoRegistry.FindStringSubmatch(body); r != nil {
				c.parameters = map[string]map[string]v1alpha1.Value{"image-registry": {"registries": {RawMessage: []byte(r[1])}}}
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// regoLiteral returns the literal that a test has as its input: what follows, if
// it has no name; what a name of the test stands for; the value of a function
// with its argument.
func regoLiteral(text, body, name, rest string) string {
	if name == "" {
		return balanced(rest)
	}
	if name == "case" {
		name = "cases"
	}
	if _, after, ok := strings.Cut(body, name+" := "); ok {
		return balanced(after)
	}
	function := regexp.MustCompile(`(?m)^` + name + `\((\w+)\) := `).FindStringSubmatchIndex(text)
	if function == nil {
		return ""
	}
	return regexp.MustCompile(`\b`+text[function[2]:function[3]]+`\b`).ReplaceAllLiteralString(balanced(text[function[1]:]), balanced(rest))
}

// regoRow is a row of a test's table: what stands in the literal in its stead.
type regoRow struct {
	name   string
	values map[string]any
	fails  *bool
}

// fill puts the row's values into a literal.
func (r *regoRow) fill(literal string) string {
	for name, v := range r.values {
		data, _ := json.Marshal(v)
		literal = regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).ReplaceAllLiteralString(literal, string(data))
	}
	return literal
}

// regoRows returns the rows of a test's table; one without values, if it has
// none.
func regoRows(text, body string) ([]regoRow, error) {
	if _, table, ok := strings.Cut(body, "some name, tc in "); ok {
		var cases map[string]map[string]any
		if err := yaml.Unmarshal([]byte(strings.ReplaceAll(balanced(table), "\t", "  ")), &cases); err != nil {
			return nil, err
		}
		var out []regoRow
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			row := regoRow{name: name, values: map[string]any{}}
			for k, v := range cases[name] {
				row.values["tc."+k] = v
			}
			fails := fmt.Sprint(cases[name]["expected"]) != "0"
			row.fails = &fails
			out = append(out, row)
		}
		return out, nil
	}
	some := regoSome.FindStringSubmatch(body)
	if some == nil {
		return []regoRow{{}}, nil
	}
	_, set, _ := strings.Cut(text, some[2]+" := ")
	var values map[string]any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(balanced(set), "\t", "  ")), &values); err != nil {
		return nil, err
	}
	var out []regoRow
	for _, v := range slices.Sorted(maps.Keys(values)) {
		out = append(out, regoRow{name: v, values: map[string]any{some[1]: v}})
	}
	return out, nil
}

// regoKubernetes returns the version that a test judges for: a literal, or a
// name for one.
func regoKubernetes(text, value string) string {
	if !strings.HasPrefix(value, `"`) {
		_, after, _ := strings.Cut(text, value+" := ")
		value, _, _ = strings.Cut(after, "\n")
	}
	return kubernetesVersion.FindString(value)
}

// kubernetesVersion is what Sconce reads of a version.
var kubernetesVersion = regexp.MustCompile(`1\.\d+(\.\d+)?`)

// balanced returns the text from the first brace up to the one that closes it.
func balanced(s string) string {
	s = s[max(0, strings.IndexByte(s, '{')):]
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '#':
			if n := strings.IndexByte(s[i:], '\n'); n > 0 {
				i += n
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
// rule and resource. The rule is told of a policy with more than one.
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
		rules := map[string]map[string]bool{}
		for i := range test.Results {
			r := &test.Results[i]
			// What holds for pods is carried over to what makes them.
			r.Rule = strings.TrimPrefix(strings.TrimPrefix(r.Rule, "autogen-"), "cronjob-")
			if rules[r.Policy] == nil {
				rules[r.Policy] = map[string]bool{}
			}
			rules[r.Policy][r.Rule] = true
		}
		for _, r := range test.Results {
			if r.Result != "pass" && r.Result != "fail" {
				continue
			}
			rule := top + "/" + r.Policy
			if len(rules[r.Policy]) > 1 {
				rule += "/" + r.Rule
			}
			for _, resource := range r.Resources {
				c := caze{rule: rule, name: strings.TrimPrefix(r.Kind+"/", "/") + resource, files: files, fails: r.Result == "fail"}
				c.subject = strings.TrimPrefix(r.Kind+"/", "/") + resource[strings.LastIndex(resource, "/")+1:]
				if !slices.ContainsFunc(out, func(o caze) bool { return o.rule == c.rule && o.name == c.name }) {
					out = append(out, c)
				}
			}
		}
		return nil
	})
	return out, err
}
