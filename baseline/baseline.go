// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// Baseline is a baseline as it is run.
type Baseline struct {
	Name, Title string
	// Version is the version of Kubernetes that it judges for.
	Version control.Version
	// Named says that the baseline or its caller named that version; otherwise
	// it is the newest.
	Named bool
	// Complete says that what is judged is all that there is.
	Complete bool
	// ForbidInline says that no object may excuse itself by an annotation.
	ForbidInline bool
	// Frameworks are the titles of the standards that controls refer to.
	Frameworks map[string]string
	// Network is what rules of policies may ask outside; nil for nothing.
	Network *policy.Network
	// Rules are the controls that are on, the most severe first, then by name.
	Rules []*Rule

	// Notices tell of rules that are not run as somebody may think.
	Notices []verdict.Notice
	// Problems are policies that were left out, since they are not valid.
	Problems []verdict.Problem

	// known says whether there is a control of a name, on or off.
	known func(name string) bool
}

// Rule is a control, or a rule of a policy in another language, as a baseline
// runs it.
type Rule struct {
	// Control is the control; of a policy's rule, only what it says of itself.
	*control.Control
	// Policy judges in place of the control, where it is set.
	Policy   policy.Rule
	Severity v1alpha1.Severity
	Action   v1alpha1.Action
	// FailurePolicy says what happens to a request that cannot be judged.
	FailurePolicy v1alpha1.FailurePolicy
	// Remediate says that the fix may be made in the cluster.
	Remediate bool
	// Next is the stage of a rollout that changes Action next; nil for none.
	Next *v1alpha1.Stage

	// acting is set where the action differs from object to object; Action is the
	// strictest then.
	acting policy.Acting
}

// ActionFor returns what follows where the object of a request fails the rule.
func (r *Rule) ActionFor(q *policy.Request) v1alpha1.Action {
	if r.acting == nil || q == nil {
		return r.Action
	}
	return milder(r.Action, r.acting.ActionFor(q))
}

// Info returns what a reader of findings needs to know of the rule.
func (r *Rule) Info() *verdict.Control {
	s := &r.Spec
	return &verdict.Control{
		Name: r.Name, Title: s.Title, Description: s.Description, Remediation: s.Remediation,
		Severity: r.Severity, Layer: s.Layer, Phase: s.Phase, Topic: s.Topic, References: s.References,
	}
}

// Matches says whether the rule is about objects of a kind. Policies are never
// about facts: a policy that is about any kind means those of a cluster.
func (r *Rule) Matches(gk object.GroupKind) bool {
	if r.Policy == nil {
		return r.Control.Matches(gk)
	}
	if gk == object.DocumentKind && r.Policy.Info().Language != policy.Rego {
		return false
	}
	return gk.Group != facts.Group && gk.Kind != facts.AnyKind && r.Policy.Matches(gk)
}

// MatchesGroup says whether the rule is about objects of any kind of a group. Of
// a policy that cannot be told.
func (r *Rule) MatchesGroup(group string) bool {
	return r.Policy == nil && r.Control.MatchesGroup(group)
}

// Documents says whether a rule is about documents that are no objects.
func (b *Baseline) Documents() bool {
	return slices.ContainsFunc(b.Rules, func(r *Rule) bool { return r.Policy != nil && r.Matches(object.DocumentKind) })
}

// Options adjust a baseline from outside.
type Options struct {
	// KubernetesVersion takes the place of the baseline's own; zero for that.
	KubernetesVersion control.Version
	// Complete says that what is judged is all that there is, whatever the
	// baseline says.
	Complete bool
	// Only leaves just these controls on, Skip turns these off. A name may be the
	// beginning of those of a policy's rules: see Library.Covered.
	Only, Skip []string
	// Today is the day of which a rollout's stage holds; where it is zero all
	// rollouts are over.
	Today time.Time
	// PoliciesOnly leaves all controls out, and just policies on.
	PoliciesOnly bool
}

// choice is what the selections say of one control so far.
type choice struct {
	severity      v1alpha1.Severity
	action        v1alpha1.Action
	failurePolicy v1alpha1.FailurePolicy
	remediate     bool
	rollout       []v1alpha1.Stage
	parameters    map[string]v1alpha1.Value
}

// Resolve returns a baseline as it is run. The library must have been checked.
func (l *Library) Resolve(name string, opts Options) (*Baseline, error) {
	e := l.baselines[name]
	if e == nil {
		return nil, fmt.Errorf("unknown baseline %q; want %s", name, strings.Join(l.Baselines(), ", "))
	}
	for _, names := range []*[]string{&opts.Only, &opts.Skip} {
		var err error
		if *names, err = l.expand(*names); err != nil {
			return nil, err
		}
	}
	choices := map[string]*choice{}
	out := &Baseline{
		Name: name, Title: e.doc.Spec.Title, Complete: opts.Complete, Frameworks: l.FrameworkTitles(),
		Network: l.networkOf(e.doc),
		known:   l.has,
	}
	off := map[string]bool{} // of policies' rules, which are on if nothing is said of them
	version, templates := l.choose(e.doc, choices, off, out)
	action, failurePolicy, rollout := l.defaults(e.doc)
	if !opts.KubernetesVersion.IsZero() {
		version = opts.KubernetesVersion
	}
	out.Named = !version.IsZero()
	if !out.Named {
		version = control.Newest
	}
	for _, n := range opts.Only {
		if choices[n] == nil && l.controls[n] != nil {
			choices[n] = &choice{}
		}
	}
	out.Version = version
	for _, n := range l.Controls() {
		ch := choices[n]
		if ch == nil || opts.PoliciesOnly || slices.Contains(opts.Skip, n) || len(opts.Only) > 0 && !slices.Contains(opts.Only, n) {
			continue
		}
		ch.action = cmp.Or(ch.action, action)
		ch.failurePolicy = cmp.Or(ch.failurePolicy, failurePolicy)
		rule, err := l.rule(n, ch, control.Options{KubernetesVersion: version, Parameters: ch.parameters, PodTemplates: templates})
		if err != nil {
			return nil, err
		}
		out.Rules = append(out.Rules, rule)
	}
	if opts.PoliciesOnly {
		out.Name, out.Title = "policies", "Your policies"
	}
	out.Rules = append(out.Rules, l.policyRules(opts, choices, off)...)
	if len(out.Rules) == 0 && opts.PoliciesOnly {
		return nil, fmt.Errorf("no rule of the policies that judges is on; for controls, name a baseline beside them, as in --baseline %s", name)
	}
	if len(out.Rules) == 0 && !l.policies.come {
		return nil, fmt.Errorf("no control is on: baseline %s, with what was chosen and skipped, leaves nothing to hold anything against", name)
	}
	for _, r := range out.Rules {
		stages := rollout
		if ch := choices[r.Name]; ch != nil && ch.rollout != nil {
			stages = ch.rollout
		}
		r.Action, r.Next = staged(r.Action, stages, opts.Today)
	}
	out.Notices = slices.Concat(l.policyNotices(out.Rules, len(opts.Only) == 0), l.rolloutNotices(e.doc, out.Rules))
	out.Problems = l.problems()
	slices.SortStableFunc(out.Rules, func(a, b *Rule) int {
		return cmp.Compare(verdict.Rank(a.Severity), verdict.Rank(b.Severity))
	})
	return out, nil
}

// ResolveControls returns a baseline of just these controls, with the parameters
// given, for a version of Kubernetes (the newest if it is empty).
func (l *Library) ResolveControls(controls []string, parameters map[string]map[string]v1alpha1.Value, version string, complete bool) (*Baseline, error) {
	out := &Baseline{Name: "chosen", Version: control.Newest, Complete: complete, known: func(string) bool { return true }}
	if version != "" {
		var err error
		if out.Version, err = control.ParseVersion(version); err != nil {
			return nil, err
		}
		out.Named = true
	}
	for _, name := range controls {
		if l.controls[name] == nil {
			return nil, fmt.Errorf("unknown control %q%s", name, suggestion(name, l.Controls()))
		}
		ch := &choice{parameters: parameters[name]}
		rule, err := l.rule(name, ch, control.Options{KubernetesVersion: out.Version, Parameters: ch.parameters})
		if err != nil {
			return nil, err
		}
		out.Rules = append(out.Rules, rule)
	}
	return out, nil
}

func (l *Library) rule(name string, ch *choice, opts control.Options) (*Rule, error) {
	e := l.controls[name]
	c, err := control.New(e.doc, opts)
	if err != nil {
		return nil, e.mistake(err)
	}
	c.Position.File, c.Position.Line = e.file, int(e.root.Line)
	return &Rule{
		Control:       c,
		Severity:      cmp.Or(ch.severity, e.doc.Spec.Severity),
		Action:        cmp.Or(ch.action, v1alpha1.Deny),
		FailurePolicy: cmp.Or(ch.failurePolicy, v1alpha1.FailOpen),
		Remediate:     ch.remediate,
	}, nil
}

// defaults returns what a baseline, or the nearest that it extends, says of
// controls of which no selection does.
func (l *Library) defaults(b *v1alpha1.Baseline) (action v1alpha1.Action, failurePolicy v1alpha1.FailurePolicy, rollout []v1alpha1.Stage) {
	for _, name := range l.ancestors(b.Name, map[string]bool{}) {
		spec := &l.baselines[name].doc.Spec
		action = cmp.Or(spec.Action, action)
		failurePolicy = cmp.Or(spec.FailurePolicy, failurePolicy)
		if spec.Rollout != nil {
			rollout = spec.Rollout
		}
	}
	return action, failurePolicy, rollout
}

// choose applies a baseline's ancestors, each once and before those that extend
// it, then its own selections.
func (l *Library) choose(b *v1alpha1.Baseline, choices map[string]*choice, off map[string]bool, out *Baseline) (version control.Version, templates []v1alpha1.PodTemplate) {
	for _, name := range l.ancestors(b.Name, map[string]bool{}) {
		spec := &l.baselines[name].doc.Spec
		if spec.KubernetesVersion != "" {
			version, _ = control.ParseVersion(spec.KubernetesVersion) // Check has read it
		}
		out.Complete = out.Complete || spec.Complete
		out.ForbidInline = out.ForbidInline || spec.ForbidInlineExceptions
		for i := range spec.Controls {
			s := &spec.Controls[i]
			for name, e := range l.controls {
				if s.Name == name || s.Select != nil && selects(s.Select, &e.doc.Spec) {
					apply(s, name, choices)
				}
			}
			for name, p := range l.policies.byName {
				if s.Name == name || s.Select != nil && selects(s.Select, policySpec(p)) {
					apply(s, name, choices)
					off[name] = s.Disabled
				}
			}
		}
		templates = append(templates, spec.PodTemplates...)
	}
	return version, templates
}

// ancestors returns a baseline and all that it extends, each once, the farthest
// first.
func (l *Library) ancestors(name string, seen map[string]bool) []string {
	if seen[name] {
		return nil
	}
	seen[name] = true
	var out []string
	for _, parent := range l.baselines[name].doc.Spec.Extends {
		out = append(out, l.ancestors(parent, seen)...)
	}
	return append(out, name)
}

// apply does what a selection says to one control.
func apply(s *v1alpha1.Selection, name string, choices map[string]*choice) {
	if s.Disabled {
		delete(choices, name)
		return
	}
	ch := choices[name]
	if ch == nil {
		ch = &choice{}
		choices[name] = ch
	}
	if s.Severity != "" {
		ch.severity = s.Severity
	}
	ch.action = cmp.Or(s.Action, ch.action)
	ch.failurePolicy = cmp.Or(s.FailurePolicy, ch.failurePolicy)
	ch.remediate = ch.remediate || s.Remediate
	if s.Rollout != nil {
		ch.rollout = s.Rollout
	}
	for param, v := range s.Parameters {
		if ch.parameters == nil {
			ch.parameters = map[string]v1alpha1.Value{}
		}
		ch.parameters[param] = v
	}
}

// selects says whether a control meets every condition of a selector.
func selects(s *v1alpha1.Selector, c *v1alpha1.ControlSpec) bool {
	if len(s.Topics) > 0 && !slices.Contains(s.Topics, c.Topic) ||
		len(s.Severities) > 0 && !slices.Contains(s.Severities, c.Severity) ||
		len(s.Layers) > 0 && !slices.Contains(s.Layers, c.Layer) {
		return false
	}
	return len(s.References) == 0 || slices.ContainsFunc(s.References, c.References.Meets)
}
