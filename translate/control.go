// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// controls translates the controls among documents.
func controls(ctx context.Context, docs []*object.Object, opts *Options, out *Result) {
	for _, o := range docs {
		if o.Group() != v1alpha1.Group || o.Kind != "Control" {
			continue
		}
		r := &Rule{Policy: o.Ref, Position: o.Position(nil)}
		out.Rules = append(out.Rules, r)
		if err := fromControl(ctx, r, o, opts); err != nil {
			r.refuse(err)
		}
	}
}

// readControl compiles a control.
func readControl(o *object.Object) (*control.Control, error) {
	doc := &v1alpha1.Control{}
	if errs := object.Decode(o.Root, doc); len(errs) > 0 {
		return nil, errs[0]
	}
	c, err := control.New(doc, control.Options{})
	if err != nil {
		return nil, err
	}
	return c, c.Compile()
}

// fromControl translates a control.
func fromControl(ctx context.Context, r *Rule, o *object.Object, opts *Options) error {
	if opts.To == Control {
		return errors.New("it is a control already")
	}
	c, err := readControl(o)
	if err != nil {
		return err
	}
	built := generate.Build(&baseline.Baseline{Name: "translation", Rules: []*baseline.Rule{{
		Control: c, Severity: c.Spec.Severity, Action: v1alpha1.Deny, FailurePolicy: v1alpha1.FailClosed,
	}}}, generate.Options{})
	if len(built.Left) > 0 {
		return errors.New(built.Left[0].Reason)
	}
	v := built.Validating[0]
	delete(v.Policy.Labels, v1alpha1.Group+"/baseline")
	delete(v.Binding.Labels, v1alpha1.Group+"/baseline")
	v.Policy.Annotations = map[string]string{Mark: "Control " + c.Name}
	if r.Documents, err = inLanguage([]Document{document(v.Policy), document(v.Binding)}, opts.To); err != nil {
		return err
	}
	words := &vocabulary{names: map[string]bool{}, sketch: newSketch()}
	words.speaks(tree(c.Spec), nil)
	p := &proof{opts: opts, operations: []policy.Operation{policy.Create}, words: words}
	for _, gk := range c.Kinds() {
		if a, ok := apiVersionOf(gk); ok {
			p.kinds = append(p.kinds, apiKind{a, gk.Kind})
		}
	}
	r.proveBy(ctx, p, []policy.Rule{&controlRule{c}})
	return nil
}

// controlRule is a control as a rule of a policy.
type controlRule struct{ control *control.Control }

// Info implements policy.Rule.
func (c *controlRule) Info() *policy.Info {
	return &policy.Info{Name: c.control.Name, Title: c.control.Spec.Title}
}

// Matches implements policy.Rule.
func (c *controlRule) Matches(gk object.GroupKind) bool {
	return slices.Contains(c.control.Kinds(), gk)
}

// Judge implements policy.Rule.
func (c *controlRule) Judge(_ context.Context, r *policy.Request) (control.Verdict, bool) {
	if r.Object == nil {
		return control.Verdict{}, false
	}
	return c.control.Judge(r.Object, nil), true
}

// inLanguage returns a policy of the API server and its bindings in a language.
func inLanguage(docs []Document, to Target) ([]Document, error) {
	if to != Kyverno {
		return docs, nil
	}
	if len(docs) != 2 {
		return nil, errors.New("its action differs by namespace, and a ValidatingPolicy has one for all")
	}
	spec, _ := docs[0]["spec"].(map[string]any)
	binding, _ := docs[1]["spec"].(map[string]any)
	if spec == nil || binding == nil {
		return nil, errors.New("the policy has no spec")
	}
	if binding["matchResources"] != nil || spec["paramKind"] != nil {
		return nil, errors.New("it has parameters, or a binding that chooses what it is about, which a ValidatingPolicy has not")
	}
	spec["validationActions"] = binding["validationActions"]
	spec["autogen"] = map[string]any{"podControllers": map[string]any{"controllers": []any{}}}
	return []Document{{
		"apiVersion": "policies.kyverno.io/v1", "kind": "ValidatingPolicy", "metadata": docs[0]["metadata"], "spec": spec,
	}}, nil
}

// control writes the rule as a control.
func (w *ruleWriter) control(name string) ([]Document, error) {
	if w.rules[0].Validation.CEL != nil {
		return nil, errors.New("rules in CEL become a ValidatingAdmissionPolicy, not a Control")
	}
	if w.about.anyKind || len(w.about.kinds) == 0 {
		return nil, errors.New("a Control names kinds, and of one the group is not known")
	}
	if w.about.namespaces != nil {
		return nil, errors.New("a Control does not select namespaces")
	}
	if w.follows() {
		return nil, errors.New("applyRules: One makes it depend on the rules before it, and a Control stands alone")
	}
	c, err := w.check(false)
	if err != nil {
		return nil, err
	}
	applies := []string{}
	for _, m := range tidyConditions(w.about) {
		applies = append(applies, m.Expression)
	}
	when := and(append(applies, c.applies, not(c.excused))...)
	when = strings.NewReplacer("request.operation", "'CREATE'").Replace(when)
	spec := map[string]any{
		"title": w.title(), "description": cmp.Or(oneLine(w.policy.Annotations["policies.kyverno.io/description"]), "Translated from the ClusterPolicy "+w.policy.Name+"."),
		"remediation": cmp.Or(oneLine(variable.ReplaceAllString(w.rules[0].Validation.Message, "…")), "Change the object so that the rule holds."),
		"severity":    w.severity(), "layer": string(v1alpha1.Application), "phase": string(v1alpha1.Build), "topic": "policy",
		"match": w.controlMatch(), "require": w.inPod(boolean(c.ok)), "message": "rule " + w.rules[0].Name + " of the policy " + w.policy.Name + " does not hold",
	}
	if when != always {
		spec["when"] = w.inPod(when)
	}
	var variables []any
	for _, v := range c.variables {
		if v.Name != "pod" || !w.pods {
			variables = append(variables, map[string]any{"name": v.Name, "expression": w.inPod(v.Expression)})
		}
	}
	if len(variables) > 0 {
		spec["variables"] = variables
	}
	for _, text := range []string{fmt.Sprint(spec["require"]), fmt.Sprint(spec["when"]), fmt.Sprint(variables)} {
		if strings.Contains(text, "request.") || strings.Contains(text, "oldObject") {
			return nil, errors.New("it is about the request, or about what the object was, and a Control judges an object")
		}
	}
	w.about.operations = []policy.Operation{policy.Create}
	return []Document{{
		"apiVersion": v1alpha1.APIVersion, "kind": "Control", "spec": spec,
		"metadata": map[string]any{"name": strings.ReplaceAll(name, ".", "-"), "annotations": map[string]any{Mark: w.origin()}},
	}}, nil
}

// inPod names the pod as controls about pods do.
func (w *ruleWriter) inPod(expr string) string {
	if !w.pods {
		return expr
	}
	return podVariable.ReplaceAllString(expr, "pod")
}

var podVariable = regexp.MustCompile(`\bvariables\.pod\b`)

func (w *ruleWriter) title() string {
	out := cmp.Or(w.policy.Annotations["policies.kyverno.io/title"], w.policy.Name)
	if len(w.policy.Spec.Rules) > 1 || len(out) < 8 {
		out += ": " + w.rules[0].Name
	}
	return out
}

func (w *ruleWriter) severity() string {
	switch s := w.policy.Annotations["policies.kyverno.io/severity"]; s {
	case "critical", "high", "medium", "low":
		return s
	}
	return string(v1alpha1.Medium)
}

// controlMatch returns what the control is about.
func (w *ruleWriter) controlMatch() map[string]any {
	var kinds []any
	for _, gk := range w.about.kinds {
		if _, ok := object.PodPath(gk); ok && w.pods {
			continue
		}
		k := map[string]any{"kind": gk.Kind}
		if gk.Group != "" {
			k["group"] = gk.Group
		}
		kinds = append(kinds, k)
	}
	out := map[string]any{}
	if w.pods {
		out["pods"] = true
	}
	if len(kinds) > 0 {
		out["kinds"] = kinds
	}
	return out
}
