// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	"sconce.dev/sconce/policy/kyverno"
)

// excused writes the condition on which a PolicyException leaves the object out.
func (w *ruleWriter) excused(s *searcher) (string, error) {
	var out []string
	for _, x := range w.policy.Exceptions {
		c, err := w.excuse(s, x)
		if err != nil {
			return "", fmt.Errorf("the PolicyException %s: %w", x.Name, err)
		}
		out = append(out, c)
	}
	if len(out) > 0 {
		w.note("a PolicyException is part of the translation: Kyverno takes exceptions only of the namespaces that it is told of (--exceptionNamespace)")
	}
	return or(out...), nil
}

// excuse writes the condition of one exception, which is about some of the rules:
// that for pods, or those for their controllers.
func (w *ruleWriter) excuse(s *searcher, x *kyverno.Exception) (string, error) {
	var named []*kyverno.Rule
	for _, r := range w.rules {
		if x.Excuses(w.policy, r.Name) {
			named = append(named, r)
		}
	}
	if len(named) == 0 {
		return never, nil
	}
	if len(x.Spec.PodSecurity) > 0 {
		return "", fmt.Errorf("it exempts controls of the Pod Security Standards: write them to podSecurity.exclude of the rule, or let the exception leave the rule out")
	}
	m := newMatcher(*w.about)
	excused := never
	if match := withoutOperations(&x.Spec.Match); len(match.Any)+len(match.All) > 0 {
		var err error
		if excused, err = m.block(match, false, named[:1]); err != nil {
			return "", err
		}
	}
	if len(named) < len(w.rules) {
		kinds, err := w.kindsOf(m, named)
		if err != nil {
			return "", err
		}
		excused = and(kinds, excused)
	}
	whole := *s
	whole.hasPod = false // Kyverno makes no exceptions for controllers of those for pods
	conditions, err := whole.present(x.Spec.Conditions)
	if err != nil {
		return "", fmt.Errorf("conditions: %w", err)
	}
	return and(excused, conditions), nil
}

// present writes conditions that do not hold where a value that they need is not
// there.
func (w *searcher) present(tree any) (string, error) {
	outer := w.missing
	defer func() { w.missing = outer }()
	w.missing = nil
	holds, err := w.conditions(tree)
	if err != nil {
		return "", err
	}
	var there []string
	for _, m := range w.missing {
		there = append(there, m+".hasValue()")
	}
	return and(append(there, holds)...), nil
}

// kindsOf writes the condition that the object is of the kinds of some rules.
func (w *ruleWriter) kindsOf(m *matcher, rules []*kyverno.Rule) (string, error) {
	var out []string
	for _, r := range rules {
		for _, f := range filters(&r.Match) {
			kinds := kyverno.Filter{}
			kinds.Resources.Kinds = f.Resources.Kinds
			c, err := m.kindCondition(&kinds, []*kyverno.Rule{r})
			if err != nil {
				return "", err
			}
			out = append(out, c)
		}
	}
	return or(out...), nil
}

// withoutOperations returns the match of an exception, of which Kyverno does not
// read operations.
func withoutOperations(m *kyverno.Match) *kyverno.Match {
	out := *m
	out.Any, out.All = slices.Clone(m.Any), slices.Clone(m.All)
	for _, list := range [][]kyverno.Filter{out.Any, out.All} {
		for i := range list {
			list[i].Resources.Operations = nil
		}
	}
	return &out
}
