// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/vap"
)

// admission writes a rule as a policy of the API server, with its bindings.
func (w *ruleWriter) admission(name string) ([]Document, error) {
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: w.annotations()},
	}
	p.Spec.FailurePolicy = ptr.To(w.failurePolicy())
	if w.rules[0].Validation.CEL != nil && *p.Spec.FailurePolicy == admissionregistrationv1.Ignore {
		p.Spec.FailurePolicy = ptr.To(admissionregistrationv1.Fail)
		w.notes = append(w.notes, "failurePolicy is Fail: Kyverno denies where an expression in CEL fails, whatever the policy's own failurePolicy, which is about its webhook")
	}
	p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: w.about.rules, NamespaceSelector: w.about.namespaces}
	p.Spec.MatchConditions = tidyConditions(w.about)
	var err error
	if w.rules[0].Validation.CEL != nil {
		err = w.native(p)
	} else {
		err = w.written(p)
	}
	if err != nil {
		return nil, err
	}
	if err := w.afterEarlier(p); err != nil {
		return nil, err
	}
	if _, err := vap.Compile(p); err != nil {
		return nil, fmt.Errorf("the API server would refuse the translation: %w", err)
	}
	bindings, err := w.bindings(name)
	if err != nil {
		return nil, err
	}
	out := []Document{document(p)}
	for _, b := range bindings {
		out = append(out, document(b))
	}
	return out, nil
}

func tidyConditions(a *about) []admissionregistrationv1.MatchCondition {
	for i := range a.conditions {
		a.conditions[i].Expression = a.tidy(a.conditions[i].Expression)
	}
	return a.conditions
}

// written fills in what the rule checks.
func (w *ruleWriter) written(p *admissionregistrationv1.ValidatingAdmissionPolicy) error {
	now, err := w.check(false)
	if err != nil {
		return err
	}
	p.Spec.Variables = now.variables
	unless := never
	for _, c := range []struct{ name, applies string }{{"preconditions", now.applies}, {"exceptions", not(now.excused)}} {
		switch {
		case c.applies == always:
		case strings.Contains(c.applies, "variables."):
			unless = or(unless, not(c.applies))
		default:
			p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: c.name, Expression: c.applies})
		}
	}
	if w.ratchets(now) {
		before, err := w.failedBefore()
		if err != nil {
			return err
		}
		p.Spec.Variables = append(p.Spec.Variables, before...)
		unless = or(unless, "variables.failedBefore")
	}
	if len(now.parts) == 0 {
		now.parts = []checkPart{{ok: now.ok}}
	}
	for _, part := range now.parts {
		v := w.validation(or(unless, part.ok))
		if part.what != "" {
			v.Message, v.MessageExpression = strings.TrimRight(v.Message, ".")+": "+part.what, ""
		}
		p.Spec.Validations = append(p.Spec.Validations, v)
	}
	return nil
}

// ratchets says whether an update may leave what failed before. With
// preconditions Kyverno lets none be left.
func (w *ruleWriter) ratchets(c *check) bool {
	v := w.rules[0].Validation
	if w.rules[0].Preconditions != nil || v.AllowExistingViolations != nil && !*v.AllowExistingViolations || !w.enforces() || c.readsOld {
		return false
	}
	return slices.Contains(w.about.operations, policy.Update) && slices.Contains(w.about.operations, policy.Create)
}

// failedBefore is true for an update of what failed before.
func (w *ruleWriter) failedBefore() ([]admissionregistrationv1.Variable, error) {
	before, err := w.check(true)
	if err != nil {
		return nil, err
	}
	conditions := []string{"request.operation == 'UPDATE'"}
	for _, c := range w.about.conditions {
		conditions = append(conditions, strings.ReplaceAll(c.Expression, "object.metadata", "oldObject.metadata"))
	}
	conditions = append(conditions, before.applies, not(before.ok))
	return append(before.variables, admissionregistrationv1.Variable{Name: "failedBefore", Expression: and(conditions...)}), nil
}

// validation is the check with its message.
func (w *ruleWriter) validation(expression string) admissionregistrationv1.Validation {
	v := w.rules[0].Validation
	out := admissionregistrationv1.Validation{Expression: boolean(expression)}
	text := oneLine(v.Message)
	if text == "" {
		text = "rule " + w.rules[0].Name + " of policy " + w.policy.Name + " does not hold"
	}
	if strings.Contains(text, "{{") {
		if expr, err := w.message(text); err == nil {
			out.MessageExpression = expr
		} else {
			w.notes = append(w.notes, "the message is shown without its variables: "+err.Error())
		}
		text = strings.TrimSpace(variable.ReplaceAllString(text, "…"))
	}
	out.Message = text
	return out
}

// boolean makes an expression one that is known to be true or false.
func boolean(expr string) string {
	if binding(expr) == isUnary && !strings.HasPrefix(expr, "!") && expr != always && expr != never {
		return expr + " == true"
	}
	return expr
}

// oneLine returns a text without line breaks, as messages of the API server must
// be.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// message writes a message with variables.
func (w *ruleWriter) message(text string) (string, error) {
	s := w.searcher(false)
	if err := w.addContext(s, w.rules[0].Context, &check{}, false); err != nil {
		return "", err
	}
	o, err := s.text(text)
	if err != nil {
		return "", err
	}
	expr := w.about.tidy(o.q.must())
	if strings.Contains(expr, "authorizer") || o.q.shape.kind() != stringValue {
		return "", errors.New("it is no text")
	}
	return typedText(expr), nil
}

// typedText makes an expression of a text one that is known to be a text, as the
// API server wants it of a message.
func typedText(expr string) string {
	if strings.HasPrefix(expr, "'") || strings.HasPrefix(expr, "('") {
		return expr
	}
	return "string(" + expr + ")"
}

// annotations are those that say what the policy is.
func (w *ruleWriter) annotations() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"title", "category", "severity", "description"} {
		if v := w.policy.Annotations["policies.kyverno.io/"+key]; v != "" {
			out["policies.kyverno.io/"+key] = v
		}
	}
	out[Mark] = w.origin()
	return out
}

// origin names the rule.
func (w *ruleWriter) origin() string {
	return w.policy.Kind + " " + w.policy.Name + ", rule " + w.rules[0].Name
}

func (w *ruleWriter) failurePolicy() admissionregistrationv1.FailurePolicyType {
	text := w.policy.Spec.FailurePolicy
	if c := w.policy.Spec.WebhookConfiguration; c != nil && c.FailurePolicy != "" {
		text = c.FailurePolicy
	}
	if text == "Ignore" {
		return admissionregistrationv1.Ignore
	}
	return admissionregistrationv1.Fail
}

// action returns what the rule asks for where it fails.
func (w *ruleWriter) action() string {
	return cmp.Or(w.rules[0].Validation.FailureAction, w.policy.Spec.ValidationFailureAction, "Audit")
}

func (w *ruleWriter) enforces() bool { return strings.EqualFold(w.action(), "Enforce") }

// actions returns what a binding asks for.
func (w *ruleWriter) actions(action string) []admissionregistrationv1.ValidationAction {
	if strings.EqualFold(action, "Enforce") {
		return []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	}
	if warn := w.policy.Spec.EmitWarning; warn != nil && *warn {
		return []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn, admissionregistrationv1.Audit}
	}
	return []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
}

// bindings put the policy in force: one for each action.
func (w *ruleWriter) bindings(name string) ([]*admissionregistrationv1.ValidatingAdmissionPolicyBinding, error) {
	overrides := w.rules[0].Validation.FailureActionOverrides
	if len(overrides) == 0 {
		overrides = w.policy.Spec.ValidationFailureActionOverrides
	}
	first := w.binding(name, name, w.action(), nil)
	out := []*admissionregistrationv1.ValidatingAdmissionPolicyBinding{first}
	rest := &metav1.LabelSelector{}
	for i, o := range overrides {
		selector, others, err := overridden(&o)
		if err != nil {
			return nil, fmt.Errorf("failureActionOverrides: %w", err)
		}
		own := &metav1.LabelSelector{MatchExpressions: append(slices.Clone(rest.MatchExpressions), selector.MatchExpressions...)}
		out = append(out, w.binding(fmt.Sprintf("%s-%s-%d", name, strings.ToLower(o.Action), i+1), name, o.Action, own))
		rest.MatchExpressions = append(rest.MatchExpressions, others...)
	}
	if len(rest.MatchExpressions) > 0 {
		first.Spec.MatchResources = &admissionregistrationv1.MatchResources{NamespaceSelector: rest}
	}
	return out, nil
}

// overridden returns the selector of the namespaces of an override, and what
// selects the others.
func overridden(o *kyverno.ActionOverride) (*metav1.LabelSelector, []metav1.LabelSelectorRequirement, error) {
	for _, n := range o.Namespaces {
		if strings.ContainsAny(n, "*?") {
			return nil, nil, fmt.Errorf("namespaces are selected by the pattern %q, and a binding names them", n)
		}
	}
	requirements := []metav1.LabelSelectorRequirement{}
	if len(o.Namespaces) > 0 {
		requirements = append(requirements, metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: o.Namespaces})
	}
	if s := o.NamespaceSelector; s != nil {
		for _, k := range sortedKeys(s.MatchLabels) {
			requirements = append(requirements, metav1.LabelSelectorRequirement{Key: k, Operator: metav1.LabelSelectorOpIn, Values: []string{s.MatchLabels[k]}})
		}
		requirements = append(requirements, s.MatchExpressions...)
	}
	if len(requirements) != 1 {
		return nil, nil, errors.New("namespaces are selected by several conditions, whose opposite no selector says")
	}
	opposite := requirements[0]
	opposite.Operator = map[metav1.LabelSelectorOperator]metav1.LabelSelectorOperator{
		metav1.LabelSelectorOpIn: metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpNotIn: metav1.LabelSelectorOpIn,
		metav1.LabelSelectorOpExists: metav1.LabelSelectorOpDoesNotExist, metav1.LabelSelectorOpDoesNotExist: metav1.LabelSelectorOpExists,
	}[opposite.Operator]
	return &metav1.LabelSelector{MatchExpressions: requirements}, []metav1.LabelSelectorRequirement{opposite}, nil
}

func (w *ruleWriter) binding(name, policyName, action string, selector *metav1.LabelSelector) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: policyName, ValidationActions: w.actions(action)},
	}
	if selector != nil {
		b.Spec.MatchResources = &admissionregistrationv1.MatchResources{NamespaceSelector: selector}
	}
	if c := w.rules[0].Validation.CEL; c != nil {
		b.Spec.ParamRef = c.ParamRef
	}
	return b
}

// document returns an object as maps and lists, without what an API server adds.
func document(o any) Document {
	data, err := json.Marshal(o)
	if err != nil {
		return nil
	}
	out := Document{}
	if json.Unmarshal(data, &out) != nil {
		return nil
	}
	delete(out, "status")
	return out
}
