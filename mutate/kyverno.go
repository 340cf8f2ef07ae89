// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
)

// kyverno adds the mutants of a policy of kyverno.io.
func (p *mutable) kyverno() {
	rules := fieldPath("spec", "rules")
	for i := range p.items(rules) {
		at := itemOf(rules, i)
		p.kyvernoMatch(at.Fields("match"))
		p.kyvernoExclude(at.Fields("exclude"))
		p.conditions(at.Fields("preconditions"), true)
		p.celList(at.Fields("celPreconditions"), true)
		p.validation(at.Fields("validate"), false)
		p.mutation(at.Fields("mutate"))
		p.pattern(at.Fields("generate", "data"), false)
	}
}

// narrowing are the fields of a filter that make it about less.
var narrowing = []string{"name", "names", "namespaces", "annotations", "selector", "namespaceSelector", "operations"}

// kyvernoMatch adds mutants of what a rule is about.
func (p *mutable) kyvernoMatch(at object.Path) {
	for _, filter := range p.filters(at) {
		for _, field := range narrowing {
			p.drop(opWiden, filter.Fields("resources", field))
		}
		for _, field := range []string{"subjects", "roles", "clusterRoles"} {
			p.drop(opWiden, filter.Fields(field))
		}
		p.each(opMatch, filter.Fields("resources", "kinds"))
		for _, field := range []string{"names", "namespaces", "operations"} {
			p.each(opMatch, filter.Fields("resources", field))
		}
	}
	p.each(opMatch, at.Fields("any"))
	p.each(opWiden, at.Fields("all"))
}

// kyvernoExclude adds mutants of what a rule is not about.
func (p *mutable) kyvernoExclude(at object.Path) {
	p.drop(opRule, at)
	p.each(opRule, at.Fields("any"))
	p.each(opRule, at.Fields("all"))
	for _, filter := range p.filters(at) {
		for _, field := range append([]string{"kinds"}, narrowing...) {
			p.each(opRule, filter.Fields("resources", field))
		}
	}
}

// filters returns the places of the filters of a match or exclude.
func (p *mutable) filters(at object.Path) []object.Path {
	var out []object.Path
	for _, list := range []string{"any", "all"} {
		for i := range p.items(at.Fields(list)) {
			out = append(out, itemOf(at.Fields(list), i))
		}
	}
	if p.at(at, "resources") != nil || p.at(at, "subjects") != nil {
		out = append(out, at)
	}
	return out
}

// validation adds the mutants of what a rule, or a foreach of it, requires.
func (p *mutable) validation(at object.Path, each bool) {
	if each {
		p.conditions(at.Fields("preconditions"), true)
	}
	p.pattern(at.Fields("pattern"), true)
	alternatives := at.Fields("anyPattern")
	p.each(opOperand, alternatives)
	for i := range p.items(alternatives) {
		p.pattern(itemOf(alternatives, i), true)
	}
	p.conditions(at.Fields("deny", "conditions"), false)
	p.podSecurity(at.Fields("podSecurity"))
	cel := at.Fields("cel")
	p.celVariables(cel)
	p.celList(cel.Fields("expressions"), p.items(cel.Fields("expressions")) > 1)
	foreach := at.Fields("foreach")
	p.each(opRule, foreach)
	for i := range p.items(foreach) {
		p.validation(itemOf(foreach, i), true)
	}
}

// mutation adds the mutants of how a rule changes objects.
func (p *mutable) mutation(at object.Path) {
	p.conditions(at.Fields("preconditions"), true)
	p.pattern(at.Fields("patchStrategicMerge"), false)
	for i := range p.items(at.Fields("foreach")) {
		p.mutation(itemOf(at.Fields("foreach"), i))
	}
}

// podSecurity adds mutants of a level of the Pod Security Standards.
func (p *mutable) podSecurity(at object.Path) {
	if n := p.at(at, "level"); n != nil {
		other := "restricted"
		if n.Str() == other {
			other = "baseline"
		}
		p.add(opLevel, at.Fields("level"), 0, n.Str(), other, object.NewString(other))
	}
	for i := range p.items(at.Fields("exclude")) {
		item := itemOf(at.Fields("exclude"), i)
		p.drop(opRule, item)
		p.drop(opWiden, item.Fields("images"))
		p.drop(opWiden, item.Fields("values"))
		p.each(opElement, item.Fields("values"))
	}
}

// conditions adds the mutants of preconditions, or of what is denied; dropped
// says that there may be none.
func (p *mutable) conditions(at object.Path, dropped bool) {
	n := p.at(at)
	if n == nil {
		return
	}
	if dropped {
		p.drop(opRule, at)
	}
	switch n.Kind {
	case object.Map:
		p.block(at, dropped)
	case object.List:
		for i, item := range n.Items {
			path := itemOf(at, i)
			if item.Get("any") != nil || item.Get("all") != nil {
				p.block(path, dropped)
				continue
			}
			if len(n.Items) > 1 {
				p.drop(opOperand, path)
			}
			p.condition(path)
		}
	}
}

// block adds the mutants of any and all.
func (p *mutable) block(at object.Path, dropped bool) {
	for _, list := range []string{"any", "all"} {
		path := at.Fields(list)
		n := p.at(path)
		if n == nil || n.Kind != object.List {
			continue
		}
		other := map[string]string{"any": "all", "all": "any"}[list]
		if len(n.Items) > 1 && p.at(at, other) == nil {
			p.rename(opConnective, path, other)
		}
		for i := range n.Items {
			if len(n.Items) > 1 || dropped && p.at(at, other) != nil {
				p.drop(opOperand, itemOf(path, i))
			}
			p.condition(itemOf(path, i))
		}
	}
}

// opposites of the operators of conditions, and those that differ where both
// sides are the same.
var (
	conditionOpposites = map[string]string{
		"Equal": "NotEqual", "Equals": "NotEquals", "NotEqual": "Equal", "NotEquals": "Equals",
		"In": "NotIn", "NotIn": "In", "AnyIn": "AllNotIn", "AllNotIn": "AnyIn", "AllIn": "AnyNotIn", "AnyNotIn": "AllIn",
		"GreaterThan": "LessThanOrEquals", "GreaterThanOrEquals": "LessThan", "LessThan": "GreaterThanOrEquals", "LessThanOrEquals": "GreaterThan",
		"DurationGreaterThan": "DurationLessThanOrEquals", "DurationGreaterThanOrEquals": "DurationLessThan",
		"DurationLessThan": "DurationGreaterThanOrEquals", "DurationLessThanOrEquals": "DurationGreaterThan",
	}
	conditionNeighbours = map[string]string{
		"AnyIn": "AllIn", "AllIn": "AnyIn", "AnyNotIn": "AllNotIn", "AllNotIn": "AnyNotIn",
		"GreaterThan": "GreaterThanOrEquals", "GreaterThanOrEquals": "GreaterThan", "LessThan": "LessThanOrEquals", "LessThanOrEquals": "LessThan",
		"DurationGreaterThan": "DurationGreaterThanOrEquals", "DurationGreaterThanOrEquals": "DurationGreaterThan",
		"DurationLessThan": "DurationLessThanOrEquals", "DurationLessThanOrEquals": "DurationLessThan",
	}
)

// condition adds the mutants of one condition.
func (p *mutable) condition(at object.Path) {
	operator := p.at(at, "operator")
	path := at.Fields("operator")
	for _, to := range []string{conditionOpposites[operator.Str()], conditionNeighbours[operator.Str()]} {
		if to != "" {
			p.add(opCondition, path, 0, operator.Str(), to, object.NewString(to))
		}
	}
	value := p.at(at, "value")
	if value == nil {
		return
	}
	path = at.Fields("value")
	switch value.Kind {
	case object.List:
		p.each(opElement, path)
	case object.Bool:
		p.add(opValue, path, 0, short(value), strconv.FormatBool(!value.Bool()), object.FromAny(!value.Bool()))
	case object.Int:
		p.add(opBound, path, 0, short(value), strconv.FormatInt(value.Int()+1, 10), object.FromAny(value.Int()+1))
	}
}

// anchored is a field of a pattern with an anchor.
var anchored = regexp.MustCompile(`^([=X^<+]?)\((.*)\)$`)

// pattern adds the mutants of a pattern, or of what is merged: without each of its
// fields, without each of its anchors, and with other values, which only patterns
// that must match have.
func (p *mutable) pattern(at object.Path, matches bool) {
	n := p.at(at)
	if n == nil {
		return
	}
	for _, f := range n.Fields {
		path := at.Fields(f.Key)
		if m := anchored.FindStringSubmatch(f.Key); m != nil {
			p.anchor(path, m[1], m[2])
		}
		if len(f.Value.Fields)+len(f.Value.Items) == 0 && len(n.Fields) > 0 {
			p.drop(opLeaf, path)
		}
		p.pattern(path, matches)
	}
	for i, item := range n.Items {
		path := itemOf(at, i)
		if len(item.Fields)+len(item.Items) == 0 && len(n.Items) > 1 {
			p.drop(opLeaf, path)
		}
		p.pattern(path, matches)
	}
	if matches {
		p.value(at, n)
	}
}

// anchor adds a mutant of a field without its anchor. One that forbids the field
// is gone with it.
func (p *mutable) anchor(path object.Path, kind, field string) {
	if kind != "X" {
		p.rename(opAnchor, path, field)
	}
}

// rename adds a mutant in which a field has another name.
func (p *mutable) rename(op string, path object.Path, to string) {
	above, last := path[:len(path)-1], path[len(path)-1].Field
	n := p.at(above)
	if n == nil || n.Get(to) != nil {
		return
	}
	changed := *n
	changed.Fields = slices.Clone(n.Fields)
	for i := range changed.Fields {
		if changed.Fields[i].Key == last {
			changed.Fields[i].Key = to
		}
	}
	p.addRoot(op, path, 0, last, to, replace(p.root, above, &changed))
}

// value adds the mutants of a value that a pattern wants.
func (p *mutable) value(path object.Path, n *object.Node) {
	set := func(op, to string, value *object.Node) { p.add(op, path, 0, short(n), to, value) }
	switch n.Kind {
	case object.Bool:
		set(opValue, strconv.FormatBool(!n.Bool()), object.FromAny(!n.Bool()))
	case object.Int:
		set(opBound, strconv.FormatInt(n.Int()+1, 10), object.FromAny(n.Int()+1))
		set(opBound, strconv.FormatInt(n.Int()-1, 10), object.FromAny(n.Int()-1))
	case object.String:
		if strings.Contains(n.Text, "{{") || strings.Contains(n.Text, "$(") {
			return
		}
		for _, to := range otherTexts(n.Text) {
			set(to.op, to.text, object.NewString(to.text))
		}
	}
}

type otherText struct{ op, text string }

// comparisons are the operators that a value of a pattern begins with, and what
// each becomes.
var comparisons = []struct{ from, to string }{{">=", ">"}, {"<=", "<"}, {">", ">="}, {"<", "<="}, {"!", ""}}

// otherTexts returns what is tried in the place of a text of a pattern.
func otherTexts(text string) []otherText {
	for _, sep := range []string{"|", "&"} {
		parts := strings.Split(text, sep)
		if len(parts) == 1 {
			continue
		}
		var out []otherText
		for i := range parts {
			rest := slices.Concat(parts[:i:i], parts[i+1:])
			out = append(out, otherText{opElement, strings.TrimSpace(strings.Join(rest, sep))})
		}
		return out
	}
	for _, c := range comparisons {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(text), c.from); ok {
			return []otherText{{opValue, c.to + rest}}
		}
	}
	switch text {
	case "":
		return nil
	case "?*":
		return []otherText{{opValue, "*"}}
	case "*":
		return nil
	}
	return []otherText{{opLiteral, "!" + text}}
}
