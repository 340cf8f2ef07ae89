// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"errors"
	"fmt"
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// maxRules bounds the rules of a policy, so that a hostile document costs no more
// than its size.
const maxRules = 1000

// Read reads documents without making rules of them, for who wants the policies
// themselves. Each policy comes with the exceptions to it.
func Read(docs []*object.Object, opts policy.Options) ([]*Policy, []*Exception, []policy.Problem) {
	l := &loader{opts: opts}
	for _, o := range docs {
		gk := o.GroupKind()
		if !Handles(gk) {
			continue
		}
		switch gk.Kind {
		case "PolicyException":
			l.exception(o)
		case "ClusterPolicy", "Policy":
			l.policy(o)
		}
	}
	for _, e := range l.exceptions {
		for _, p := range l.policies {
			if e.names(p) {
				p.Exceptions = append(p.Exceptions, e)
			}
		}
	}
	return l.policies, l.exceptions, l.problems
}

type loader struct {
	opts       policy.Options
	policies   []*Policy
	exceptions []*Exception
	problems   []policy.Problem
}

func (l *loader) problem(o *object.Object, path object.Path, format string, args ...any) {
	l.problems = append(l.problems, policy.Problem{Object: o.Ref, Position: o.Position(path), Message: fmt.Sprintf(format, args...)})
}

// syntax records what is wrong with the values of a node.
func (l *loader) syntax(o *object.Object, errs []*object.SyntaxError) {
	for _, err := range errs {
		at := o.Position(nil)
		if err.Line > 0 {
			at.Line, at.Column = err.Line, err.Col
			at.Quote, at.QuoteColumn = "", 0
		}
		l.problems = append(l.problems, policy.Problem{Object: o.Ref, Position: at, Message: err.Msg})
	}
}

// policy reads a ClusterPolicy or a Policy.
func (l *loader) policy(o *object.Object) {
	spec := o.Root.Get("spec")
	if spec == nil || spec.Kind != object.Map {
		l.problem(o, nil, "the policy has no spec: write its rules at spec.rules")
		return
	}
	p := &Policy{Ref: o.Ref, Object: o, Annotations: stringMap(o.Root.At("metadata", "annotations")), Labels: stringMap(o.Root.At("metadata", "labels"))}
	rules := spec.Get("rules")
	if rules != nil && rules.Kind != object.List {
		l.problem(o, object.Path{{Field: "spec"}, {Field: "rules"}}, "spec.rules is %s, but must be a list", rules.Kind.A())
		return
	}
	l.syntax(o, object.Decode(without(spec, "rules"), &p.Spec))
	if rules == nil || len(rules.Items) == 0 {
		l.problem(o, object.Path{{Field: "spec"}}, "the policy has no rules")
		return
	}
	if len(rules.Items) > maxRules {
		l.problem(o, object.Path{{Field: "spec"}, {Field: "rules"}}, "the policy has %d rules; at most %d are read", len(rules.Items), maxRules)
		return
	}
	p.namespace = o.Namespace
	if p.Kind == "Policy" && p.namespace == "" {
		p.namespace = "default"
	}
	seen := map[string]bool{}
	for i, n := range rules.Items {
		path := object.Path{{Field: "spec"}, {Field: "rules"}, object.ItemStep(rules, i)}
		if r := l.rule(o, n, path); r != nil {
			if seen[r.Name] {
				l.problem(o, path.Fields("name"), "two rules of the policy are called %q: rename one", r.Name)
				continue
			}
			seen[r.Name] = true
			p.Spec.Rules = append(p.Spec.Rules, r.RuleSpec)
			p.Rules = append(p.Rules, r)
		}
	}
	p.coverage = l.opts.Coverage
	p.generateRules()
	for _, r := range p.Rules {
		r.compile(p)
	}
	p.compileConditions()
	p.declareCoverage()
	l.policies = append(l.policies, p)
}

// without returns a map without one of its fields.
func without(n *object.Node, key string) *object.Node {
	out := *n
	out.Fields = slices.DeleteFunc(slices.Clone(n.Fields), func(f object.Field) bool { return f.Key == key })
	return &out
}

// stringMap returns the entries of a map that are strings.
func stringMap(n *object.Node) map[string]string {
	if n == nil || n.Kind != object.Map {
		return nil
	}
	out := make(map[string]string, len(n.Fields))
	for i := range n.Fields {
		if v := n.Fields[i].Value; v.Kind == object.String {
			out[n.Fields[i].Key] = v.Text
		}
	}
	return out
}

// rule reads one rule. What is wrong with it is a problem, and it is not run.
func (l *loader) rule(o *object.Object, n *object.Node, path object.Path) *Rule {
	r := &Rule{Position: o.Position(path), source: path}
	errs := object.Decode(n, &r.RuleSpec)
	l.syntax(o, errs)
	r.Of = r.Name
	switch {
	case n.HasUnknown():
		r.Unsupported = "the rule is not completely known: " + n.FirstUnknown()
	case len(errs) > 0:
		r.Unsupported, r.invalid = "the rule is not valid: "+errs[0].Error(), true
	default:
		r.Unsupported = r.unsupported()
	}
	if r.Name == "" {
		l.problem(o, path, "the rule has no name: give it one")
		return nil
	}
	return r
}

// unsupported says why a rule of this form cannot be run.
func (s *RuleSpec) unsupported() string {
	if err := s.check(); err != nil {
		return err.Error()
	}
	if v := s.Validation; v != nil && v.Manifests != nil {
		return "validate.manifests checks signatures of YAML manifests, which is not supported"
	}
	if s.Mutation != nil && s.Mutation.Targets != nil {
		return "mutate.targets changes objects that exist already, not the one that is judged; this is not supported"
	}
	return ""
}

// check says what is wrong with the form of a rule.
func (s *RuleSpec) check() error {
	types := 0
	for _, set := range []bool{s.hasMutate(), s.hasValidate(), s.hasGenerate(), s.hasVerifyImages()} {
		if set {
			types++
		}
	}
	if types != 1 {
		return fmt.Errorf("the rule has %d of validate, mutate, generate and verifyImages; it must have one", types)
	}
	errs := []error{
		s.Match.check("match"), checkConditions("preconditions", s.Preconditions), checkContext(s.Context),
	}
	if len(s.Match.Any) > 0 && len(s.Match.All) > 0 {
		errs = append(errs, errors.New("match has both any and all; write one"))
	}
	if s.Exclude != nil {
		errs = append(errs, s.Exclude.check("exclude"))
	}
	if s.Validation != nil {
		errs = append(errs, s.Validation.check())
	}
	if s.Mutation != nil {
		errs = append(errs, checkForEachMutation(s.Mutation.ForEach, 0))
	}
	if s.Generation != nil {
		for _, f := range s.Generation.ForEach {
			errs = append(errs, checkConditions("generate.foreach.preconditions", f.Preconditions), checkContext(f.Context))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxDepth is how deep foreach may be nested.
const maxDepth = 8

func checkForEachMutation(list []ForEachMutation, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("mutate.foreach is nested deeper than %d levels", maxDepth)
	}
	for _, f := range list {
		if f.Order != "" && f.Order != "Ascending" && f.Order != "Descending" {
			return fmt.Errorf("mutate.foreach.order is %q; want Ascending or Descending", f.Order)
		}
		if err := cmpErr(checkConditions("mutate.foreach.preconditions", f.Preconditions), checkContext(f.Context), checkForEachMutation(f.ForEach, depth+1)); err != nil {
			return err
		}
	}
	return nil
}

func checkForEach(list []ForEach, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("validate.foreach is nested deeper than %d levels", maxDepth)
	}
	for _, f := range list {
		err := cmpErr(checkConditions("validate.foreach.preconditions", f.Preconditions), checkContext(f.Context), f.Deny.check(), checkForEach(f.ForEach, depth+1))
		if err != nil {
			return err
		}
	}
	return nil
}

// cmpErr returns the first error.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *Validation) check() error {
	if v.AnyPattern != nil {
		if _, ok := v.AnyPattern.([]any); !ok {
			return errors.New("validate.anyPattern must be a list of patterns")
		}
	}
	return cmpErr(v.Deny.check(), checkForEach(v.ForEach, 0))
}

func (d *Deny) check() error {
	if d == nil {
		return nil
	}
	return checkConditions("validate.deny.conditions", d.Conditions)
}

// checkContext says what is wrong with entries of a context.
func checkContext(entries []ContextEntry) error {
	for i := range entries {
		e := &entries[i]
		set := 0
		for _, is := range []bool{e.Variable != nil, e.ConfigMap != nil, e.APICall != nil, e.ImageRegistry != nil, e.GlobalReference != nil} {
			if is {
				set++
			}
		}
		if e.Name == "" || set != 1 {
			return fmt.Errorf("context[%d] must have a name and one of variable, configMap, apiCall, imageRegistry and globalReference", i)
		}
	}
	return nil
}

var operators = map[string]bool{
	"Equal": true, "Equals": true, "NotEqual": true, "NotEquals": true, "In": true, "AnyIn": true, "AllIn": true,
	"NotIn": true, "AnyNotIn": true, "AllNotIn": true, "GreaterThanOrEquals": true, "GreaterThan": true,
	"LessThanOrEquals": true, "LessThan": true, "DurationGreaterThanOrEquals": true, "DurationGreaterThan": true,
	"DurationLessThanOrEquals": true, "DurationLessThan": true,
}

// checkConditions says what is wrong with the form of conditions. Kyverno drops
// what it does not know there, so that a misspelt word would let all pass.
func checkConditions(field string, tree any) error {
	switch tree := tree.(type) {
	case nil:
		return nil
	case []any:
		return checkConditionList(field, tree)
	case map[string]any:
		for _, key := range sortedKeys(tree) {
			list, ok := tree[key].([]any)
			if key != "any" && key != "all" {
				return fmt.Errorf("%s.%s is not known; want any or all", field, key)
			}
			if !ok && tree[key] != nil {
				return fmt.Errorf("%s.%s must be a list of conditions", field, key)
			}
			if err := checkConditionList(field+"."+key, list); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s must be a list of conditions, or have any and all", field)
}

func checkConditionList(field string, list []any) error {
	for i, item := range list {
		c, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("%s[%d] must be a condition: key, operator and value", field, i)
		}
		for _, key := range sortedKeys(c) {
			if !slices.Contains([]string{"key", "operator", "value", "message"}, key) {
				return fmt.Errorf("%s[%d].%s is not known; want key, operator, value or message", field, i, key)
			}
		}
		if op, _ := c["operator"].(string); !operators[op] {
			return fmt.Errorf("%s[%d].operator %q is not known", field, i, op)
		}
	}
	return nil
}

func (s *RuleSpec) hasMutate() bool {
	m := s.Mutation
	return m != nil && (m.MutateExistingOnPolicyUpdate != nil || m.Targets != nil || m.PatchStrategicMerge != nil || m.PatchesJSON6902 != "" || len(m.ForEach) > 0)
}

func (s *RuleSpec) hasValidate() bool {
	v := s.Validation
	return v != nil && (v.FailureAction != "" || v.Message != "" || v.Pattern != nil || v.AnyPattern != nil || v.Deny != nil ||
		len(v.ForEach) > 0 || v.PodSecurity != nil || v.CEL != nil || v.Assert != nil || v.Manifests != nil)
}

func (s *RuleSpec) hasGenerate() bool {
	g := s.Generation
	return g != nil && (g.Synchronize || g.Kind != "" || g.Name != "" || g.Data != nil || g.Clone != Clone{} || len(g.CloneList.Kinds) > 0 || len(g.ForEach) > 0)
}

func (s *RuleSpec) hasVerifyImages() bool {
	return slices.ContainsFunc(s.VerifyImages, func(c map[string]any) bool { return len(c) > 0 })
}

// exception reads a PolicyException.
func (l *loader) exception(o *object.Object) {
	spec := o.Root.Get("spec")
	if spec == nil || spec.HasUnknown() {
		l.problem(o, nil, "the exception has no spec that is completely known: it excuses nothing")
		return
	}
	e := &Exception{Ref: o.Ref, Object: o}
	if errs := object.Decode(spec, &e.Spec); len(errs) > 0 {
		l.syntax(o, errs)
		return
	}
	if err := cmpErr(e.Spec.Match.check("match"), checkConditions("conditions", e.Spec.Conditions)); err != nil {
		l.problem(o, object.Path{{Field: "spec"}}, "%s: the exception excuses nothing", err)
		return
	}
	e.match = e.Spec.Match.compile()
	l.exceptions = append(l.exceptions, e)
}

// names says whether an exception names a policy.
func (e *Exception) names(p *Policy) bool {
	return slices.ContainsFunc(e.Spec.Exceptions, func(x Excused) bool { return x.PolicyName == p.key() })
}

// Excuses says whether an exception names a rule of a policy.
func (e *Exception) Excuses(p *Policy, rule string) bool {
	for _, x := range e.Spec.Exceptions {
		if x.PolicyName == p.key() && anyWildcard(x.RuleNames, rule) {
			return true
		}
	}
	return false
}

// key is the name of a policy, with its namespace if it is of one.
func (p *Policy) key() string {
	if p.Kind == "Policy" {
		return p.namespace + "/" + p.Name
	}
	return p.Name
}
