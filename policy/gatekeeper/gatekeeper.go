// SPDX-License-Identifier: Apache-2.0

// Package gatekeeper reads the policies of OPA Gatekeeper and judges with them:
// ConstraintTemplates with Rego or CEL, their Constraints, and the
// ExpansionTemplates that make what workloads generate be judged as well.
//
// It runs them as Gatekeeper does, with OPA's own compiler and evaluator and the
// API server's CEL. What a template would look up and is not told (the inventory,
// the namespace, who asks, the network, the time) makes a verdict unknown where
// it matters: a constraint passes only what it passes whatever that is.
package gatekeeper

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// The groups of Gatekeeper's kinds.
const (
	templatesGroup   = "templates.gatekeeper.sh"
	constraintsGroup = "constraints.gatekeeper.sh"
	expansionGroup   = "expansion.gatekeeper.sh"
	mutationsGroup   = "mutations.gatekeeper.sh"
	configGroup      = "config.gatekeeper.sh"
	syncGroup        = "syncset.gatekeeper.sh"
)

// Handles says whether documents of a kind are Gatekeeper's.
func Handles(gk object.GroupKind) bool {
	return slices.Contains([]string{templatesGroup, constraintsGroup, expansionGroup, mutationsGroup, configGroup, syncGroup, providersGroup}, gk.Group)
}

// Load makes rules of all documents together: one of each constraint, and a
// further one for each action that ExpansionTemplates set in its place.
func Load(docs []*object.Object, opts policy.Options) *policy.Set {
	l := &loader{opts: Options{Options: opts, providers: map[string]*provider{}}, set: &policy.Set{}, shared: &shared{}, templates: map[string]*Template{}, refused: map[string]string{}}
	for _, o := range docs {
		switch {
		case o.Group() == templatesGroup && o.Kind == "ConstraintTemplate":
			l.template(o)
		case o.Group() == expansionGroup && o.Kind == "ExpansionTemplate":
			l.expansion(o)
		case o.Group() == providersGroup && o.Kind == "Provider":
			l.provider(o)
		}
	}
	var cyclic []*Expansion
	l.shared.expansions, cyclic = WithoutCycles(l.shared.expansions)
	for _, e := range cyclic {
		l.problem(e.Object, fault(e.Object, nil, "ExpansionTemplate %s: %w", e.Name, errCycle))
	}
	for _, o := range docs {
		switch o.Group() {
		case constraintsGroup:
			l.constraint(o)
		case mutationsGroup:
			l.mutator(o)
		}
	}
	sortMutators(l.set.Mutators)
	return l.set
}

// loader gathers what becomes of documents.
type loader struct {
	opts      Options
	set       *policy.Set
	shared    *shared
	templates map[string]*Template
	// refused are the kinds whose templates are not valid, and why.
	refused map[string]string
}

func (l *loader) problem(o *object.Object, err error) {
	p := policy.Problem{Object: o.Ref, Position: o.Position(nil), Message: err.Error()}
	var at *ParseError
	if errors.As(err, &at) {
		p.Position, p.Message = at.Position, at.Err.Error()
	}
	l.set.Problems = append(l.set.Problems, p)
}

func (l *loader) provider(o *object.Object) {
	p, err := parseProvider(o)
	if err != nil {
		l.problem(o, err)
		return
	}
	l.opts.providers[o.Name] = p
}

func (l *loader) template(o *object.Object) {
	t, err := ParseTemplate(o, l.opts)
	if err == nil && l.templates[t.Kind] != nil {
		if l.templates[t.Kind].Object.Root.Equal(o.Root) {
			return
		}
		err = fault(o, nil, "there is another ConstraintTemplate for %s, at %s", t.Kind, whereIs(l.templates[t.Kind].Object))
	}
	if err != nil {
		l.problem(o, err)
		kind := o.Root.At("spec", "crd", "spec", "names", "kind").Str()
		l.refused[kind] = fmt.Sprintf("its ConstraintTemplate %s is not valid", o.Name)
		return
	}
	l.templates[t.Kind] = t
}

// whereIs returns where a document is, for people.
func whereIs(o *object.Object) string {
	p := o.Position(nil)
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

func (l *loader) expansion(o *object.Object) {
	e, err := ParseExpansion(o)
	if err != nil {
		l.problem(o, err)
		return
	}
	l.shared.expansions = append(l.shared.expansions, e)
}

// constraint makes rules of a constraint. One that has no valid template is a
// rule that cannot be run.
func (l *loader) constraint(o *object.Object) {
	t := l.templates[o.Kind]
	if t == nil {
		why := cmp.Or(l.refused[o.Kind], fmt.Sprintf("there is no ConstraintTemplate for the kind %s", o.Kind))
		c := &Constraint{Object: o, Action: cmp.Or(o.Root.At("spec", "enforcementAction").Str(), "deny")}
		if err := c.readMatch(o); err != nil {
			l.problem(o, fault(o, []string{"spec", "match"}, "constraint %s %s: %w", o.Kind, o.Name, err))
			return
		}
		l.rules(c, why)
		return
	}
	c, err := t.Constraint(o)
	if err == nil {
		if _, known := action(c.actions()); !known {
			err = fault(o, []string{"spec", "enforcementAction"}, "constraint %s %s has an action that there is not; want deny, warn, dryrun or scoped", o.Kind, o.Name)
		}
	}
	if err != nil {
		l.problem(o, err)
		return
	}
	l.rules(c, "")
}

// rules adds the rules of a constraint: one for its own action, and one for each
// other that expansions ask for.
func (l *loader) rules(c *Constraint, unsupported string) {
	own, _ := action(c.atAdmission())
	base := rule{constraint: c, match: &c.match, shared: l.shared, info: info(c, own, unsupported)}
	direct := base
	direct.direct = true
	others := map[v1alpha1.Action]*rule{}
	for _, e := range l.shared.expansions {
		asked := own
		if e.Action != "" {
			asked, _ = action([]string{e.Action})
		}
		if asked == own {
			direct.expansions = append(direct.expansions, e)
			continue
		}
		if others[asked] == nil {
			other := base
			other.info.Action = asked
			other.info.Name = policy.Name(policy.Gatekeeper, c.Object.Kind, c.Object.Name, "generated", string(asked))
			other.info.Title += ", over what is generated"
			others[asked] = &other
		}
		others[asked].expansions = append(others[asked].expansions, e)
	}
	l.set.Rules = append(l.set.Rules, &direct)
	for _, a := range []v1alpha1.Action{v1alpha1.Deny, v1alpha1.Warn, v1alpha1.Audit} {
		if others[a] != nil {
			l.set.Rules = append(l.set.Rules, others[a])
		}
	}
}

// info says what a rule is.
func info(c *Constraint, a v1alpha1.Action, unsupported string) policy.Info {
	o := c.Object
	out := policy.Info{
		Name:          policy.Name(policy.Gatekeeper, o.Kind, o.Name),
		Language:      policy.Gatekeeper,
		Policy:        o.Ref,
		Title:         o.Kind + " " + o.Name,
		Severity:      v1alpha1.Medium,
		Action:        a,
		FailurePolicy: v1alpha1.FailClosed,
		Position:      o.Position(nil),
		Unsupported:   unsupported,
	}
	out.Needs.Namespaces = c.match.namespaceLabels != nil
	documents := []*object.Object{o}
	if t := c.Template; t != nil {
		documents = append(documents, t.Object)
		if e, ok := t.engine.(*celEngine); ok && e.policy == "Ignore" {
			out.FailurePolicy = v1alpha1.FailOpen
		}
		addNeeds(&out.Needs, t.engine.needs())
	}
	note := func(keys ...string) string {
		for _, d := range documents {
			for _, key := range keys {
				if v := d.Root.At("metadata", "annotations", key).Str(); v != "" {
					return v
				}
			}
		}
		return ""
	}
	out.Title = cmp.Or(note("policies.kyverno.io/title", "metadata.gatekeeper.sh/title"), out.Title)
	out.Description = note("policies.kyverno.io/description", "description")
	out.Topic = note("policies.kyverno.io/category")
	switch s := v1alpha1.Severity(note("policies.kyverno.io/severity")); s {
	case v1alpha1.Critical, v1alpha1.High, v1alpha1.Low:
		out.Severity = s
	}
	return out
}

// addNeeds adds what a template reads to what a rule needs.
func addNeeds(out *policy.Needs, n needs) {
	out.Namespaces = out.Namespaces || n.namespace
	out.User = n.user
	for _, w := range n.inventory {
		out.LookUp(w.kinds())
	}
	slices.SortFunc(out.Kinds, func(a, b object.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
}
