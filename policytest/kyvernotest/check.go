// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest"
)

// check holds the results of a test against what the policies say: one case for
// each rule that speaks of each resource.
func (w *world) check(found *responses) []policytest.Case {
	var out []policytest.Case
	for i := range w.Results {
		r := &w.Results[i]
		for _, key := range r.keys(found) {
			c := &checker{world: w, result: r, key: key}
			c.triggered(found)
			c.targeted(found)
			if len(c.out) == 0 {
				c.missing()
			}
			out = append(out, c.out...)
		}
	}
	return out
}

// keys returns the resources that a result is about; all, if it names none that
// there is.
func (r *result) keys(found *responses) []resourceKey {
	all := append(slices.Clone(found.targetKeys), found.keys...)
	var out []resourceKey
	if r.Resources != nil {
		for _, name := range r.Resources {
			namespace, base, ok := strings.Cut(name, "/")
			for _, k := range all {
				if k.name == name || ok && k.namespace == namespace && k.name == base {
					out = append(out, k)
				}
			}
		}
	}
	for _, s := range r.ResourceSpecs {
		for _, k := range all {
			if k.apiVersion == apiVersion(s.Group, s.Version) && k.namespace == s.Namespace && k.name == s.Name {
				out = append(out, k)
			}
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// checker makes the cases of one result and one resource.
type checker struct {
	*world
	result *result
	key    resourceKey
	out    []policytest.Case
	// absent says that what was to be compared is not in the file; such a rule
	// makes no case, unless the result asks for it.
	absent bool
}

func (c *checker) add(rule string, outcome policytest.Outcome, got, message string) {
	k := c.newCase(c.result)
	k.Resource = c.key.String()
	k.Name = strings.Join(slices.DeleteFunc([]string{c.result.Policy, rule, k.Resource}, func(s string) bool { return s == "" }), " ")
	if rule != "" {
		k.Rule = rule
	}
	k.Got, k.Outcome, k.Message = got, outcome, message
	c.out = append(c.out, k)
}

// triggered looks at what policies say of the resource itself.
func (c *checker) triggered(found *responses) {
	trigger := found.trigger[c.result.Operation]
	for i := range trigger[c.key] {
		r := &trigger[c.key][i]
		if r.policy != path.Base(c.result.Policy) {
			continue
		}
		for j := range r.rules {
			if rule := &r.rules[j]; c.wants(r, rule) {
				c.rule(r, rule)
			}
		}
		if len(c.out) == 0 && !c.absent {
			c.add("", policytest.Passed, Excluded, c.excluded(r))
		}
	}
}

// Excluded is what a case got of which nothing was compared. It passes, as it does
// in Kyverno.
const Excluded = "excluded"

// excluded says why nothing was compared. Kyverno takes that for passed.
func (c *checker) excluded(r *response) string {
	if len(r.rules) > 0 {
		return fmt.Sprintf("the rules that speak of the resource are not called %s", c.result.Rule)
	}
	return "the policy is not about the resource"
}

// wants says whether the result is about a rule: the one that it names, or those
// that were generated from it.
func (c *checker) wants(r *response, rule *ruleResponse) bool {
	if c.result.Rule == "" || r.ruleless {
		return true
	}
	return slices.Contains([]string{c.result.Rule, "autogen-" + c.result.Rule, "autogen-cronjob-" + c.result.Rule}, rule.name)
}

func (c *checker) rule(r *response, rule *ruleResponse) {
	switch {
	case rule.kind == "Generation" && len(rule.generated) == 0:
		c.status(rule)
	case rule.kind == "Generation":
		for _, g := range rule.generated {
			c.compared(rule, g)
		}
	case rule.kind == "Mutation":
		c.compared(rule, r.patched)
	default:
		c.compared(rule, r.resource)
	}
}

// targeted looks at what policies make of a target.
func (c *checker) targeted(found *responses) {
	for i := range found.target[c.key] {
		if tree, rule := found.target[c.key][i].targetRule(c.key); rule != nil {
			c.compared(rule, tree)
		}
	}
}

// missing is the case of a result that no policy says anything about.
func (c *checker) missing() {
	name := path.Base(c.result.Policy)
	switch reason, refused := c.notRead[name]; {
	case c.absent:
		c.add("", policytest.Skipped, "", "what is to be compared is not in the file that the result names")
	case refused:
		c.add("", policytest.Broken, "", fmt.Sprintf("policy %s is not valid: %s", name, reason))
	default:
		c.add("", policytest.Failed, "not found", fmt.Sprintf("policy %s says nothing of the resource", name))
	}
}

// status compares what a rule says with what the result wants.
func (c *checker) status(rule *ruleResponse) {
	if rule.status == c.result.Result {
		c.add(rule.name, policytest.Passed, rule.status, "")
		return
	}
	message := rule.message
	outcome := policytest.Failed
	if rule.unknown != "" {
		message, outcome = rule.unknown, policytest.Broken
	}
	c.add(rule.name, outcome, rule.status, message)
}

// compared compares what became of a resource with the file that the result
// names, and then the status.
func (c *checker) compared(rule *ruleResponse, tree map[string]any) {
	if rule.unknown != "" {
		c.status(rule)
		return
	}
	if c.result.PatchedResources != "" {
		if !c.equals(rule, tree, []string{c.result.PatchedResources}) {
			return
		}
	}
	files := c.result.GeneratedResources
	if len(files) == 0 && c.result.GeneratedResource != "" {
		files = []string{c.result.GeneratedResource}
	}
	if len(files) > 0 && !c.equals(rule, tree, files) {
		return
	}
	c.status(rule)
}

// equals says whether one of the files holds the resource as it is. If not, it
// has made the case.
func (c *checker) equals(rule *ruleResponse, tree map[string]any, files []string) bool {
	actual := object.New(object.FromAny(tree), nil)
	missing, message := true, ""
	for _, file := range files {
		expected, err := c.expected(file, keyOf(actual))
		switch {
		case err != nil:
			missing, message = false, err.Error()
		case expected == nil:
		case same(tree, expected):
			return true
		default:
			missing, message = false, fmt.Sprintf("%s differs from %s: %s", keyOf(actual), file, difference(tree, expected))
		}
	}
	switch {
	case !missing:
		c.add(rule.name, policytest.Failed, rule.status, message)
	case rule.kind == "Generation" || c.result.FailOnMissing:
		c.add(rule.name, policytest.Failed, rule.status, fmt.Sprintf("%s is not in %s", keyOf(actual), strings.Join(files, ", ")))
	default:
		c.absent = true
	}
	return false
}

// expected returns the resource of that name in a file, or nil.
func (c *checker) expected(file string, key resourceKey) (map[string]any, error) {
	objects, err := c.documents(file)
	if err != nil {
		return nil, fmt.Errorf("reading what is expected: %w", err)
	}
	for _, o := range objects {
		if o = c.scopes.placed(o); keyOf(o) == key {
			return tree(o), nil
		}
	}
	return nil, nil
}

// same compares two objects as Kyverno does: what is empty is as good as
// missing, and labels that Kyverno itself writes do not count.
func same(a, b map[string]any) bool {
	return reflect.DeepEqual(tidyObject(a), tidyObject(b))
}

func tidyObject(tree map[string]any) any {
	t, _ := tidy(tree).(map[string]any)
	meta, _ := t["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	for k := range labels {
		if strings.HasPrefix(k, "generate.kyverno.io/") || k == "app.kubernetes.io/managed-by" && labels[k] == "kyverno" {
			delete(labels, k)
		}
	}
	return tidy(t)
}

// tidy returns the value without what is empty, and with all numbers alike.
func tidy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			if item = tidy(item); item != nil {
				out[k] = item
			}
		}
		if len(out) > 0 {
			return out
		}
		return nil
	case []any:
		var out []any
		for _, item := range v {
			if item = tidy(item); item != nil {
				out = append(out, item)
			}
		}
		if len(out) > 0 {
			return out
		}
		return nil
	case int64:
		return float64(v)
	case int:
		return float64(v)
	}
	return v
}

// difference names the first field in which two objects differ. Values are not
// shown: they may be secret.
func difference(a, b map[string]any) string {
	return "at " + strings.TrimPrefix(differs(tidyObject(a), tidyObject(b), ""), ".")
}

func differs(a, b any, at string) string {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		for _, k := range keysOf(am, bm) {
			if !reflect.DeepEqual(am[k], bm[k]) {
				return differs(am[k], bm[k], at+"."+k)
			}
		}
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok {
		for i := range min(len(al), len(bl)) {
			if !reflect.DeepEqual(al[i], bl[i]) {
				return differs(al[i], bl[i], fmt.Sprintf("%s[%d]", at, i))
			}
		}
		return fmt.Sprintf("%s (%d items instead of %d)", at, len(al), len(bl))
	}
	switch {
	case a == nil:
		return at + " (missing)"
	case b == nil:
		return at + " (not expected)"
	}
	return at
}

func keysOf(a, b map[string]any) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}
