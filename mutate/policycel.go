// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policytest/regotest"
)

// The operators that change policies beside their expressions.
const (
	opRule      = "rule"      // a requirement, a condition or an exception is gone
	opWiden     = "widen"     // what a rule is about is said with one word less
	opLeaf      = "leaf"      // a field of a pattern is gone
	opValue     = "value"     // a field of a pattern wants another value
	opAnchor    = "anchor"    // a field of a pattern is not conditional, optional or forbidden any more
	opCondition = "condition" // the operator of a condition is the opposite, or moves its bound
	opLevel     = "level"     // another level of the Pod Security Standards
)

// celPolicy adds the mutants of a policy whose requirements are expressions, below
// a path.
func (p *mutable) celPolicy(spec object.Path) {
	p.celMatch(spec.Fields("matchConstraints"))
	for _, list := range []string{"matchConditions", "matchCondition", "conditions", "targetMatchConditions"} {
		p.celList(spec.Fields(list), true)
	}
	p.celVariables(spec)
	p.celList(spec.Fields("validations"), p.items(spec.Fields("validations")) > 1)
	for i := range p.items(spec.Fields("mutations")) {
		at := itemOf(spec.Fields("mutations"), i)
		p.expression(at.Fields("applyConfiguration", "expression"), context{})
		p.expression(at.Fields("jsonPatch", "expression"), context{})
	}
	for i := range p.items(spec.Fields("generate")) {
		p.expression(itemOf(spec.Fields("generate"), i).Fields("expression"), context{condition: true})
	}
}

// celList adds the mutants of a list of conditions; dropped says that it may lack
// one.
func (p *mutable) celList(list object.Path, dropped bool) {
	for i := range p.items(list) {
		at := itemOf(list, i)
		if dropped {
			p.drop(opRule, at)
		}
		p.expression(at.Fields("expression"), context{condition: true})
	}
}

// celVariables adds the mutants of variables that a verdict depends on.
func (p *mutable) celVariables(spec object.Path) {
	list := spec.Fields("variables")
	var sources []string
	for _, field := range []string{"matchConditions", "matchCondition", "conditions", "validations", "expressions", "mutations", "generate", "variables"} {
		at := spec.Fields(field)
		for i := range p.items(at) {
			for _, fields := range [][]string{{"expression"}, {"applyConfiguration", "expression"}, {"jsonPatch", "expression"}} {
				if n := p.at(itemOf(at, i), fields...); n != nil {
					sources = append(sources, n.Str())
				}
			}
		}
	}
	read := map[string]bool{}
	for _, s := range sources {
		for _, name := range names(s) {
			read[name] = true
		}
	}
	for i := range p.items(list) {
		at := itemOf(list, i)
		if name := p.at(at, "name").Str(); read[name] {
			p.expression(at.Fields("expression"), usage(name, sources))
		}
	}
}

// celMatch adds mutants of what a policy is about.
func (p *mutable) celMatch(at object.Path) {
	p.drop(opWiden, at.Fields("namespaceSelector"))
	p.drop(opWiden, at.Fields("objectSelector"))
	p.drop(opWiden, at.Fields("excludeResourceRules"))
	rules := at.Fields("resourceRules")
	for i := range p.items(rules) {
		if p.items(rules) > 1 {
			p.drop(opMatch, itemOf(rules, i))
		}
		for _, list := range []string{"operations", "resources"} {
			p.each(opMatch, itemOf(rules, i).Fields(list))
		}
	}
}

// each adds mutants that lack one of the items of a list, if there are others.
func (p *mutable) each(op string, list object.Path) {
	if n := p.items(list); n > 1 {
		for i := range n {
			p.drop(op, itemOf(list, i))
		}
	}
}

// template adds the mutants of the code of a ConstraintTemplate.
func (p *mutable) template() {
	target := itemOf(fieldPath("spec", "targets"), 0)
	cel := false
	for i := range p.items(target.Fields("code")) {
		at := itemOf(target.Fields("code"), i)
		if p.at(at, "engine").Str() == "K8sNativeValidation" {
			cel = true
			p.celPolicy(at.Fields("source"))
		}
	}
	if cel {
		return // the Rego beside it is not run
	}
	for i := range p.items(target.Fields("code")) {
		if at := itemOf(target.Fields("code"), i); p.at(at, "engine").Str() == "Rego" {
			p.rego(at.Fields("source"))
		}
	}
	p.rego(target)
}

// rego adds the mutants of the Rego of a template, and of its libraries.
func (p *mutable) rego(source object.Path) {
	p.module(source.Fields("rego"))
	for i := range p.items(source.Fields("libs")) {
		p.module(itemOf(source.Fields("libs"), i))
	}
}

func (p *mutable) module(path object.Path) {
	n := p.at(path)
	if n == nil || n.Kind != object.String {
		return
	}
	variants, err := regotest.Variants(p.file, []byte(n.Text))
	if err != nil {
		return // the template is refused
	}
	for _, v := range variants {
		at := charAt(n.Text, v.Position.Line, v.Position.Column)
		if m := p.add(v.Operator, path, at, v.Before, v.After, object.NewString(v.Source)); m != nil {
			m.ID, m.Field = v.ID, v.Rule
		}
	}
}

// charAt returns which character of a text stands in a line and column.
func charAt(text string, line, column int) int {
	n := 0
	for _, c := range text {
		if line <= 1 {
			break
		}
		n++
		if c == '\n' {
			line--
		}
	}
	return n + max(column-1, 0)
}
