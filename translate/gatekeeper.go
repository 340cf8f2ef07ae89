// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policy/vap"
)

const (
	templatesGroup   = "templates.gatekeeper.sh"
	constraintsGroup = "constraints.gatekeeper.sh"
)

// nativeEngine is what Gatekeeper calls templates in CEL.
const nativeEngine = "K8sNativeValidation"

// nativeSource is the code of a template in CEL.
type nativeSource struct {
	Validations     []admissionregistrationv1.Validation     `json:"validations"`
	Variables       []admissionregistrationv1.Variable       `json:"variables"`
	MatchConditions []admissionregistrationv1.MatchCondition `json:"matchCondition"`
	FailurePolicy   string                                   `json:"failurePolicy"`
}

// constraintSpec is what a constraint says, beside its parameters.
type constraintSpec struct {
	EnforcementAction string           `json:"enforcementAction"`
	Match             constraintMatch  `json:"match"`
	Parameters        map[string]any   `json:"parameters"`
	Scoped            []map[string]any `json:"scopedEnforcementActions"`
}

type constraintMatch struct {
	Kinds []struct {
		APIGroups []string `json:"apiGroups"`
		Kinds     []string `json:"kinds"`
	} `json:"kinds"`
	Scope              string                `json:"scope"`
	Namespaces         []string              `json:"namespaces"`
	ExcludedNamespaces []string              `json:"excludedNamespaces"`
	LabelSelector      *metav1.LabelSelector `json:"labelSelector"`
	NamespaceSelector  *metav1.LabelSelector `json:"namespaceSelector"`
	Name               string                `json:"name"`
	Source             string                `json:"source"`
}

// constraints translates each constraint of the templates among documents.
func constraints(ctx context.Context, docs []*object.Object, opts *Options, out *Result) {
	templates := map[string]*object.Object{}
	for _, o := range docs {
		if o.Group() == templatesGroup && o.Kind == "ConstraintTemplate" {
			templates[o.Root.At("spec", "crd", "spec", "names", "kind").Str()] = o
		}
	}
	for _, o := range docs {
		if o.Group() != constraintsGroup {
			continue
		}
		r := &Rule{Policy: o.Ref, Position: o.Position(nil)}
		out.Rules = append(out.Rules, r)
		template := templates[o.Kind]
		if template == nil {
			r.refuse(fmt.Errorf("its template, of the kind %s, is not among the files", o.Kind))
			continue
		}
		w := &constraintWriter{template: template, constraint: o}
		if err := w.translate(r, opts.To); err != nil {
			if w.at != (object.Position{}) {
				r.Position = w.at
			}
			r.refuse(err)
			continue
		}
		original := gatekeeper.Load([]*object.Object{template, o}, policy.Options{})
		w.prove(ctx, r, original.Rules, opts)
	}
}

// constraintWriter writes a constraint.
type constraintWriter struct {
	template, constraint *object.Object
	source               nativeSource
	spec                 constraintSpec
	about                about
	code                 *gatekeeper.Code
	at                   object.Position // of what cannot be written
}

func (w *constraintWriter) translate(r *Rule, to Target) error {
	if to == Control {
		return errors.New("a constraint becomes a policy of the API server or of Kyverno, not a Control")
	}
	if err := w.read(); err != nil {
		return err
	}
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        resourceName(w.constraint.Kind + "-" + w.constraint.Name),
			Annotations: map[string]string{Mark: w.constraint.Kind + " " + w.constraint.Name},
		},
	}
	if err := w.match(); err != nil {
		return err
	}
	if w.code != nil {
		if err := w.rego(); err != nil {
			return err
		}
	}
	p.Spec.FailurePolicy = ptr.To(admissionregistrationv1.FailurePolicyType(cmp.Or(w.source.FailurePolicy, "Ignore")))
	p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: w.about.rules, NamespaceSelector: w.about.namespaces}
	p.Spec.MatchConditions = append(tidyConditions(&w.about), w.source.MatchConditions...)
	p.Spec.Variables = w.source.Variables
	if w.code == nil {
		declared, err := w.declared()
		if err != nil {
			return err
		}
		p.Spec.Variables = append(declared, p.Spec.Variables...)
	}
	for _, v := range w.source.Validations {
		v.Message = oneLine(cmp.Or(v.Message, "denied by "+w.constraint.Kind+" "+w.constraint.Name))
		p.Spec.Validations = append(p.Spec.Validations, v)
	}
	if _, err := vap.Compile(p); err != nil {
		return fmt.Errorf("the API server would refuse the translation: %w", err)
	}
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: p.Name},
		Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: p.Name},
	}
	switch w.spec.EnforcementAction {
	case "", "deny":
		b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	case "warn":
		b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn}
	case "dryrun":
		b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
	default:
		return fmt.Errorf("the enforcementAction %q", w.spec.EnforcementAction)
	}
	docs := []Document{document(p), document(b)}
	var err error
	r.Documents, err = inLanguage(docs, to)
	return err
}

// declared are the variables that Gatekeeper gives to templates in CEL.
func (w *constraintWriter) declared() ([]admissionregistrationv1.Variable, error) {
	params, ok := literal(clone(w.spec.Parameters))
	if !ok {
		return nil, errors.New("the parameters hold a value of a kind that is not supported")
	}
	if w.spec.Parameters == nil {
		params = "null"
	}
	return []admissionregistrationv1.Variable{
		{Name: "anyObject", Expression: "request.operation == 'DELETE' && object == null ? oldObject : object"},
		{Name: "params", Expression: "dyn(" + params + ")"},
	}, nil
}

// read reads the code of the template and the constraint.
func (w *constraintWriter) read() error {
	targets := w.template.Root.At("spec", "targets")
	if targets == nil || len(targets.Items) != 1 {
		return errors.New("the template has not exactly one target")
	}
	code := targets.Items[0].Get("code")
	var source *object.Node
	if code != nil {
		for _, c := range code.Items {
			if c.Get("engine").Str() == nativeEngine {
				source = c.Get("source")
			}
		}
	}
	if source == nil {
		if err := w.readRego(); err != nil {
			return err
		}
	} else if errs := object.Decode(source, &w.source); len(errs) > 0 {
		return fmt.Errorf("the template's source: %w", errs[0])
	}
	if spec := w.constraint.Root.Get("spec"); spec != nil {
		if errs := object.Decode(spec, &w.spec); len(errs) > 0 {
			return fmt.Errorf("the constraint's spec: %w", errs[0])
		}
	}
	if len(w.spec.Scoped) > 0 || w.spec.EnforcementAction == "scoped" {
		return errors.New("scopedEnforcementActions differ by where they hold")
	}
	return nil
}

// match writes what the constraint is about.
func (w *constraintWriter) match() error {
	m := &matcher{subject: "object", out: about{operations: []policy.Operation{policy.Create, policy.Update}}}
	c := &w.spec.Match
	if c.Scope != "" && c.Scope != "*" {
		return fmt.Errorf("match.scope: %s", c.Scope)
	}
	if c.Source != "" && c.Source != "All" && c.Source != "Original" {
		return fmt.Errorf("match.source: %s", c.Source)
	}
	for _, k := range c.Kinds {
		for _, group := range k.APIGroups {
			for _, kind := range k.Kinds {
				if err := m.resource(selector{group, "*", kind, ""}, m.out.operations); err != nil {
					return err
				}
			}
		}
	}
	if len(c.Kinds) == 0 {
		if err := m.resource(selector{"*", "*", "*", ""}, m.out.operations); err != nil {
			return err
		}
	}
	for i := range m.out.rules {
		m.out.rules[i].Resources = slices.DeleteFunc(m.out.rules[i].Resources, func(r string) bool { return strings.Contains(r, "/") })
	}
	m.merge()
	if len(c.Namespaces) > 0 {
		m.condition("namespaces", or("object.metadata.?namespace.orValue('') == '' && request.kind.kind != 'Namespace'", m.namespace(c.Namespaces)))
	}
	if len(c.ExcludedNamespaces) > 0 {
		m.condition("excluded-namespaces", not(m.namespace(c.ExcludedNamespaces)))
	}
	if c.Name != "" {
		m.condition("name", m.name([]string{c.Name}))
	}
	if c.LabelSelector != nil {
		labels, err := m.labels("object.metadata.?labels", c.LabelSelector)
		if err != nil {
			return err
		}
		m.condition("labels", labels)
	}
	m.out.namespaces = c.NamespaceSelector
	w.about = m.out
	return nil
}

// prove proves the translation.
func (w *constraintWriter) prove(ctx context.Context, r *Rule, original []policy.Rule, opts *Options) {
	v := &vocabulary{names: map[string]bool{}, sketch: newSketch()}
	v.speaks(tree(w.source), nil)
	if w.code != nil {
		v.rego(w.template.Root.At("spec", "targets").Any())
	}
	v.speaks(tree(w.spec.Parameters), nil)
	v.speaks(tree(w.spec.Match), nil)
	p := &proof{opts: opts, operations: w.about.operations, words: v}
	for _, gk := range w.about.kinds {
		a, ok := apiVersionOf(gk)
		if !ok {
			a = selector{group: gk.Group, version: "v1", kind: gk.Kind}.made().apiVersion
		}
		p.kinds = append(p.kinds, apiKind{a, gk.Kind})
	}
	r.proveBy(ctx, p, original)
}
