// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/policy/kyverno"
)

// earlier returns the rules that validate before this one, of which one that
// applies leaves this one out.
func (w *ruleWriter) earlier() [][]*kyverno.Rule {
	if w.policy.Spec.ApplyRules != "One" {
		return nil
	}
	var out [][]*kyverno.Rule
	for _, g := range groups(w.policy) {
		if g[0].Name == w.rules[0].Name {
			break
		}
		if g[0].Validation != nil || len(g[0].VerifyImages) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// follows says whether rules before this one may leave it out.
func (w *ruleWriter) follows() bool { return len(w.earlier()) > 0 }

// afterEarlier makes the validations of a policy hold where a rule before it
// applies.
func (w *ruleWriter) afterEarlier(p *admissionregistrationv1.ValidatingAdmissionPolicy) error {
	var applied []string
	for i, g := range w.earlier() {
		c, err := w.applied(p, &ruleWriter{policy: w.policy, rules: g}, strconv.Itoa(i+1))
		if err != nil {
			return fmt.Errorf("applyRules: One asks whether the rule %s before it applies: %w", g[0].Name, err)
		}
		applied = append(applied, c)
	}
	for i := range p.Spec.Validations {
		v := &p.Spec.Validations[i]
		v.Expression = or(append(slices.Clone(applied), v.Expression)...)
	}
	return nil
}

// applied writes the condition on which an earlier rule passes or fails, and does
// not skip.
func (w *ruleWriter) applied(p *admissionregistrationv1.ValidatingAdmissionPolicy, e *ruleWriter, number string) (string, error) {
	v := e.rules[0].Validation
	if v == nil || v.Deny == nil && v.Pattern == nil && v.AnyPattern == nil {
		return "", errors.New("it has neither deny nor a pattern")
	}
	if err := e.prepare(); err != nil {
		return "", err
	}
	if e.about.namespaces != nil {
		return "", errors.New("it selects namespaces by labels")
	}
	if e.pods != w.pods {
		return "", errors.New("one of the two is about pods and their controllers, the other is not")
	}
	match, err := newMatcher(*e.about).block(&e.rules[0].Match, false, e.rules)
	if err != nil {
		return "", err
	}
	c, err := e.check(false)
	if err != nil {
		return "", err
	}
	conditions := []string{match}
	for _, m := range tidyConditions(e.about) {
		conditions = append(conditions, m.Expression)
	}
	conditions = append(conditions, c.applies, not(c.excused), not(c.skips))
	declared := c.variables
	if e.ratchets(c) {
		before, err := e.failedBefore()
		if err != nil {
			return "", err
		}
		last := &before[len(before)-1]
		last.Name += number
		declared = append(declared, before...)
		conditions = append(conditions, or(c.ok, not("variables."+last.Name)))
	}
	if err := declare(p, declared); err != nil {
		return "", err
	}
	return and(conditions...), nil
}

// declare adds variables to a policy that may declare them already.
func declare(p *admissionregistrationv1.ValidatingAdmissionPolicy, list []admissionregistrationv1.Variable) error {
	for _, v := range list {
		i := slices.IndexFunc(p.Spec.Variables, func(o admissionregistrationv1.Variable) bool { return o.Name == v.Name })
		if i < 0 {
			p.Spec.Variables = append(p.Spec.Variables, v)
		} else if p.Spec.Variables[i].Expression != v.Expression {
			return fmt.Errorf("both declare a variable %s, and not the same", v.Name)
		}
	}
	return nil
}
