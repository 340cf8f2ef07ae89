// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"context"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
)

// ruleOf returns what runs a policy with a pattern, and what that speaks of.
func ruleOf(tb testing.TB, pattern map[string]any) ([]policy.Rule, *vocabulary) {
	tb.Helper()
	doc := map[string]any{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": map[string]any{"name": "p"},
		"spec": map[string]any{"rules": []any{map[string]any{
			"name":     "r",
			"match":    map[string]any{"any": []any{map[string]any{"resources": map[string]any{"kinds": []any{"ConfigMap"}}}}},
			"validate": map[string]any{"message": "m", "pattern": pattern},
		}}},
	}
	set := kyverno.Load([]*object.Object{object.New(object.FromAny(doc), &object.Origin{})}, policy.Options{})
	if len(set.Rules) != 1 {
		tb.Fatal(set.Problems)
	}
	words := &vocabulary{names: map[string]bool{}, sketch: newSketch()}
	words.speaks(pattern, words.sketch)
	return set.Rules, words
}

// TestDifference holds that a translation that says something else is found, and
// that what is shown is no larger than it must be.
func TestDifference(t *testing.T) {
	labels := func(value string) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": value}}}
	}
	original, words := ruleOf(t, labels("web-*"))
	for value, differs := range map[string]bool{"web-*": false, "web-?*": true, "web*": true, "*": true} {
		translation, other := ruleOf(t, labels(value))
		words.texts = append(words.texts, other.texts...)
		p := &proof{
			original: original, translation: translation, words: words, kinds: []apiKind{{"v1", "ConfigMap"}},
			operations: []policy.Operation{policy.Create}, opts: &Options{Count: 500, Seed: 1},
		}
		evidence := p.run(context.Background(), "p/r")
		if (evidence.Difference != nil) != differs {
			t.Errorf("%s: %s; want a difference: %v", value, evidence, differs)
			continue
		}
		if d := evidence.Difference; d != nil {
			root := d.Request.Object.Root
			if len(root.Fields) != 3 || len(root.Get("metadata").Fields) > 3 || len(root.At("metadata", "labels").Fields) != 1 {
				t.Errorf("%s: the object is larger than it must be: %v", value, root.Any())
			}
			if d.Original.Outcome == d.Translation.Outcome {
				t.Errorf("%s: both say %s", value, d.Original.Outcome)
			}
		}
	}
}
