// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"fmt"
	"strconv"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/celcover"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

var bothWays = []string{"true", "false"}

// at is where in the policy a field of the rule is.
func (r *Rule) at(fields ...string) object.Path { return r.source.Fields(fields...) }

// declareCoverage tells which places of the policy can be run.
func (p *Policy) declareCoverage() {
	if p.coverage == nil {
		return
	}
	for _, r := range p.Rules {
		if r.Of != r.Name || r.Unsupported != "" {
			continue
		}
		ways := []string{"", string(Pass)}
		if r.hasValidate() || r.hasVerifyImages() {
			ways = append(ways, string(Fail))
		}
		p.coverage.Declare(p.place(r.source), r.Name, r.Position, "rule "+r.Name, ways...)
		p.declareConditions(r, r.at("preconditions"))
		if r.Validation != nil {
			p.declareBody(r, r.at("validate"))
		}
	}
}

// declareBody tells of the conditions and alternatives of a validation, and of
// each foreach of it.
func (p *Policy) declareBody(r *Rule, at object.Path) {
	p.declareConditions(r, at.Fields("preconditions"))
	p.declareConditions(r, at.Fields("deny", "conditions"))
	alternatives := at.Fields("anyPattern")
	if list := p.Object.Root.Lookup(alternatives); list != nil {
		for i := range list.Items {
			path := alternatives.Append(object.Step{Item: true, Index: i})
			p.declare(r, path, fmt.Sprintf("anyPattern[%d]", i))
		}
	}
	each := at.Fields("foreach")
	if list := p.Object.Root.Lookup(each); list != nil {
		for i := range list.Items {
			p.declareBody(r, each.Append(object.Step{Item: true, Index: i}))
		}
	}
}

func (p *Policy) declare(r *Rule, path object.Path, text string) {
	p.coverage.Declare(p.place(path), r.Name, p.Object.Position(path), text, bothWays...)
}

func (p *Policy) place(path object.Path) policy.Place {
	return policy.Place{Policy: p.Ref, Path: path.String()}
}

// declareConditions tells of each of the conditions at a path.
func (p *Policy) declareConditions(r *Rule, at object.Path) {
	for _, c := range conditionsAt(p.Object.Root.Lookup(at).Any(), at) {
		p.declare(r, c.path, c.text())
	}
}

// placed is one condition, and where it is.
type placed struct {
	path  object.Path
	block object.Path // the any or all, or the list, that it stands in
	any   bool
	tree  map[string]any
}

// text is the condition in a line.
func (c *placed) text() string {
	show := func(v any) string {
		s := fmt.Sprint(v)
		if runes := []rune(s); len(runes) > maxShown {
			return string(runes[:maxShown]) + "…"
		}
		return s
	}
	return show(c.tree["key"]) + " " + show(c.tree["operator"]) + " " + show(c.tree["value"])
}

// maxShown is how much of a key or a value is told, in characters.
const maxShown = 80

// conditionsAt returns the conditions of a tree, in the order in which they are
// evaluated: those of any before those of all.
func conditionsAt(tree any, at object.Path) []placed {
	var out []placed
	add := func(list any, block object.Path, isAny bool) {
		items, _ := list.([]any)
		for i, item := range items {
			if tree, ok := item.(map[string]any); ok {
				out = append(out, placed{block.Append(object.Step{Item: true, Index: i}), block, isAny, tree})
			}
		}
	}
	blocks := func(of map[string]any, at object.Path) {
		add(of["any"], at.Fields("any"), true)
		add(of["all"], at.Fields("all"), false)
	}
	switch tree := tree.(type) {
	case map[string]any:
		blocks(tree, at)
	case []any:
		for i, item := range tree {
			path := at.Append(object.Step{Item: true, Index: i})
			of, ok := item.(map[string]any)
			switch {
			case !ok:
			case of["any"] != nil || of["all"] != nil:
				blocks(of, path)
			default:
				out = append(out, placed{path, at, false, of})
			}
		}
	}
	return out
}

// cover notes what conditions come to: each that is evaluated, which those
// behind a decisive one are not.
func (s *scope) cover(at object.Path, tree any) {
	p := s.e.p
	decided := map[string]bool{}
	for _, c := range conditionsAt(tree, at) {
		block := c.block.String()
		if decided[block] {
			continue
		}
		holds, _, err := jmes.Conditions(map[string]any{"all": []any{c.tree}}, s)
		if err != nil {
			return
		}
		p.coverage.Hit(p.place(c.path), strconv.FormatBool(holds))
		decided[block] = holds == c.any
	}
}

// coverAny notes whether an alternative of anyPattern matches.
func (b *body) coverAny(s *scope, i int, matches bool) {
	p := s.e.p
	path := b.at.Fields("anyPattern").Append(object.Step{Item: true, Index: i})
	p.coverage.Hit(p.place(path), strconv.FormatBool(matches))
}

// coverRule notes what came of a rule; what was generated from it counts as it.
func (p *Policy) coverRule(r *Rule, status Status) {
	if p.coverage == nil {
		return
	}
	if status == Warn {
		status = Fail
	}
	p.coverage.Hit(p.place(r.source), string(status))
	if status == Pass || status == Fail {
		p.coverage.Hit(p.place(r.source), "")
	}
}

// expectCEL tells which expressions of the rule are compiled next, in their
// order.
func (r *Rule) expectCEL(p *Policy, programs *celcover.Programs) {
	if programs == nil {
		return
	}
	v := r.Validation.CEL
	expect := func(condition bool, source, list string, i int, field string, above ...string) {
		path := r.at(above...).Append(object.Step{Field: list}, object.Step{Item: true, Index: i}, object.Step{Field: field})
		programs.Expect(celcover.Expression{Object: p.Object, Path: path, Rule: r.Name, Source: source, Condition: condition})
	}
	for i, x := range v.Variables {
		expect(false, x.Expression, "variables", i, "expression", "validate", "cel")
	}
	for i, x := range v.Expressions {
		expect(true, x.Expression, "expressions", i, "expression", "validate", "cel")
	}
	for i, x := range v.AuditAnnotations {
		expect(false, x.ValueExpression, "auditAnnotations", i, "valueExpression", "validate", "cel")
	}
	for i, x := range r.CELPreconditions {
		expect(true, x.Expression, "celPreconditions", i, "expression")
	}
	for i, x := range v.Expressions {
		if x.MessageExpression != "" {
			expect(false, x.MessageExpression, "expressions", i, "messageExpression", "validate", "cel")
		}
	}
}

// expectConditions tells that the conditions of the webhook are compiled next.
func (p *Policy) expectConditions(programs *celcover.Programs) {
	if programs == nil {
		return
	}
	path := object.Path(nil).Fields("spec", "webhookConfiguration", "matchConditions")
	for i, c := range p.Spec.WebhookConfiguration.MatchConditions {
		programs.Expect(celcover.Expression{
			Object: p.Object, Path: path.Append(object.Step{Item: true, Index: i}, object.Step{Field: "expression"}), Source: c.Expression, Condition: true,
		})
	}
}
