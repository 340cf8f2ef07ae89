// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func init() { suites["kyverno"] = kyverno }

// kyvernoTest is a file of tests.
type kyvernoTest struct {
	Resources []string
	Results   []kyvernoResult
}

// kyvernoResult is a verdict on resources, by a rule of a policy.
type kyvernoResult struct {
	Policy, Rule, Result, Kind string
	Resources                  []string
}

// kyverno reads **/.kyverno-test/kyverno-test.yaml: a verdict for each policy,
// rule and resource. The rule is told of a policy with more than one.
func kyverno(dir string) ([]caze, error) {
	var out []caze
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != "kyverno-test.yaml" {
			return err
		}
		folder := filepath.Dir(name)
		top, _, _ := strings.Cut(strings.TrimPrefix(folder, dir+string(filepath.Separator)), string(filepath.Separator))
		if strings.HasSuffix(top, "-cel") || strings.HasSuffix(top, "-vpol") {
			return nil // the same cases once more
		}
		var test kyvernoTest
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
		out = append(out, test.cases(top, files)...)
		return nil
	})
	return out, err
}

// cases are those of a file of tests, in a folder of policies.
func (t *kyvernoTest) cases(folder string, files [][]byte) []caze {
	rules := map[string]map[string]bool{}
	for i := range t.Results {
		r := &t.Results[i]
		// What holds for pods is carried over to what makes them.
		r.Rule = strings.TrimPrefix(strings.TrimPrefix(r.Rule, "autogen-"), "cronjob-")
		if rules[r.Policy] == nil {
			rules[r.Policy] = map[string]bool{}
		}
		rules[r.Policy][r.Rule] = true
	}
	var out []caze
	for _, r := range t.Results {
		if r.Result != "pass" && r.Result != "fail" {
			continue
		}
		rule, kind := folder+"/"+r.Policy, ""
		if len(rules[r.Policy]) > 1 {
			rule += "/" + r.Rule
		}
		if r.Kind != "" {
			kind = r.Kind + "/"
		}
		for _, resource := range r.Resources {
			c := caze{rule: rule, name: kind + resource, files: files, fails: r.Result == "fail"}
			c.subject = kind + resource[strings.LastIndex(resource, "/")+1:]
			if !slices.ContainsFunc(out, func(o caze) bool { return o.rule == c.rule && o.name == c.name }) {
				out = append(out, c)
			}
		}
	}
	return out
}
