// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// policies are what a library holds of policies in other languages.
type policies struct {
	reader    policy.Reader
	options   policy.Options
	documents []*object.Object
	modules   map[string][]byte // sources of Rego, by file
	data      []dataFile        // what they find below data
	// kept are the places of documents: who names a folder and a file in it means
	// each once. Again is how many were not kept for that.
	kept  map[string]bool
	again int

	loaded bool
	set    *policy.Set
	byName map[string]policy.Rule

	// come says that rules come and go by themselves: absent are the mistakes of
	// those that name one that is not there.
	come   bool
	absent Errors

	// sorting says that policies that are not valid are left out: invalid are the
	// mistakes in them, unparsed those of files beside them.
	sorting           bool
	invalid, unparsed Errors
}

// ReadPolicies makes the library take documents of other languages, too: those
// that the reader handles. Without it they are mistakes.
func (l *Library) ReadPolicies(r policy.Reader, opts policy.Options) {
	l.policies.reader, l.policies.options = r, opts
}

// UsePolicies gives the library rules of policies that were read elsewhere, and
// that come and go by themselves: what names one that is not there is no mistake,
// and is told by AbsentPolicies. Of two of one name the first is taken.
func (l *Library) UsePolicies(rules []policy.Rule) {
	l.policies = policies{loaded: true, come: true, set: &policy.Set{Rules: rules}, byName: make(map[string]policy.Rule, len(rules))}
	for _, r := range rules {
		if name := r.Info().Name; l.policies.byName[name] == nil {
			l.policies.byName[name] = r
		}
	}
}

// AbsentPolicies tells, once the library was checked, which documents name rules
// of policies that are not there, or choose none: see UsePolicies.
func (l *Library) AbsentPolicies() Errors { return l.policies.absent }

// LeaveOutInvalidPolicies makes policies that are not valid no mistakes, so that
// the others can be run: InvalidPolicies tells them, and so does each baseline,
// as problems. It is called before anything is read.
func (l *Library) LeaveOutInvalidPolicies() { l.policies.sorting = true }

// InvalidPolicies tells, once the library was checked, what was left out, and
// which documents name rules that may have been in it.
func (l *Library) InvalidPolicies() Errors {
	p := &l.policies
	if !p.sorting {
		return nil
	}
	out := slices.Concat(p.unparsed, p.invalid, p.absent)
	_ = out.orNil() // sorts
	return out
}

// problems are what was left out, for a scan: it could not do its whole job.
func (l *Library) problems() []verdict.Problem {
	var out []verdict.Problem
	for _, e := range l.InvalidPolicies() {
		out = append(out, verdict.Problem{
			Stage: verdict.Parsing, Position: object.Position{File: e.File, Line: e.Line, Column: e.Col},
			Message: "left out of the policies: " + e.Msg,
		})
	}
	return out
}

// tolerates says whether something that is not there may be a rule that will
// come or has gone, or that was left out, and remembers the mistake that it would
// else be.
func (p *policies) tolerates(name string, mistake *Error) bool {
	leftOut := p.sorting && len(p.invalid)+len(p.unparsed) > 0
	if (p.come || leftOut) && (name == "" || policy.IsName(name)) {
		p.absent = append(p.absent, mistake)
		return true
	}
	return false
}

// dataFile is a file of data for Rego, below a root.
type dataFile struct {
	root, name string
	text       []byte
}

// ReadData adds a file of data for Rego, of what stands below a root: see
// policy.Data. It is of no matter where there is no Rego.
func (l *Library) ReadData(root, name string, text []byte) {
	l.policies.data = append(l.policies.data, dataFile{root, name, text})
	l.policies.loaded = false
}

// regoData is what Rego finds below data. It returns the mistakes.
func (p *policies) regoData() (map[string]any, Errors) {
	if len(p.modules) == 0 {
		return nil, nil
	}
	var data policy.Data
	var errs Errors
	for _, f := range p.data {
		if slices.ContainsFunc(p.unparsed, func(e *Error) bool { return e.File == f.name }) {
			continue // was told
		}
		if err := data.Add(f.root, f.name, f.text); err != nil {
			errs = append(errs, &Error{File: f.name, Msg: strings.TrimPrefix(err.Error(), f.name+": ")})
		}
	}
	return data.Values(), errs
}

// ReadModule adds a source of Rego.
func (l *Library) ReadModule(file string, source []byte) {
	if l.policies.modules == nil {
		l.policies.modules = map[string][]byte{}
	}
	l.policies.modules[file] = source
	l.policies.loaded = false
}

// ReadPolicyFile adds the documents of one file that holds policies, and what
// they refer to: parameters, and whatever else stands beside them, which is no
// rule. Documents of Sconce's own format are read as such.
func (l *Library) ReadPolicyFile(file string, data []byte) error {
	var errs Errors
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			mistake := place(file, text, err)
			if strings.Contains(string(text.Bytes), "{{") {
				mistake.Msg += "; the file holds {{, as templates do: render the chart that it belongs to"
			}
			if l.policies.sorting {
				l.policies.unparsed = append(l.policies.unparsed, mistake)
			} else {
				errs = append(errs, mistake)
			}
			continue
		}
		switch {
		case root == nil:
			continue
		case root.Get("apiVersion").Str() == v1alpha1.APIVersion:
			errs = append(errs, l.add(file, text, root, false)...)
			continue
		}
		l.policies.beside(file, text, root)
	}
	return errs.orNil()
}

// keep keeps a document, unless it was read before.
func (p *policies) keep(file string, text object.Text, objects []*object.Object) {
	if len(objects) == 0 {
		return
	}
	place := fmt.Sprintf("%s:%d %s", path.Clean(file), text.Line, objects[0].Ref)
	if p.kept[place] {
		p.again += p.handled(objects)
		return
	}
	if p.kept == nil {
		p.kept = map[string]bool{}
	}
	p.kept[place], p.loaded = true, false
	p.documents = append(p.documents, objects...)
}

// Documents is how many documents of policies, and sources of Rego, were read.
func (l *Library) Documents() int {
	return len(l.policies.modules) + l.policies.handled(l.policies.documents) + l.policies.again
}

// handled is how many of the objects are of policies.
func (p *policies) handled(objects []*object.Object) (n int) {
	for _, o := range objects {
		if p.reader.Handles(o.GroupKind()) {
			n++
		}
	}
	return n
}

// takes says whether a document is one of a policy, and keeps it if it is.
func (p *policies) takes(file string, text object.Text, root *object.Node) bool {
	if p.reader == nil {
		return false
	}
	objects, err := object.FromNode(root, &object.Origin{Source: file, Text: text.Bytes, FirstLine: text.Line})
	if err != nil || len(objects) == 0 {
		return false // no object, and so no policy: the format says what is wrong
	}
	for _, o := range objects {
		if !p.reader.Handles(o.GroupKind()) {
			return false
		}
	}
	p.keep(file, text, objects)
	return true
}

// load makes rules of the documents, all together. It returns the mistakes.
func (p *policies) load() Errors {
	if p.loaded || p.reader == nil {
		return nil
	}
	p.loaded = true
	p.set, p.byName = &policy.Set{}, map[string]policy.Rule{}
	if len(p.documents)+len(p.modules) == 0 {
		return nil
	}
	opts := p.options
	var errs Errors
	opts.Data, errs = p.regoData()
	p.set = p.reader.Load(p.documents, p.modules, opts)
	for _, problem := range p.set.Problems {
		errs = append(errs, &Error{problem.Position.File, problem.Position.Line, problem.Position.Column, problem.Message})
	}
	for _, r := range p.set.Rules {
		info := r.Info()
		if first, ok := p.byName[info.Name]; ok {
			at := first.Info().Position
			errs = append(errs, &Error{
				info.Position.File, info.Position.Line, info.Position.Column,
				fmt.Sprintf("rule %s is defined twice, first at %s:%d: names are the only identifiers, rename the policy or its rule", info.Name, at.File, at.Line),
			})
			continue
		}
		p.byName[info.Name] = r
	}
	if p.sorting {
		p.invalid = errs
		return nil
	}
	return errs
}

// Policies returns the names of all rules of policies in other languages,
// sorted. The library must have been checked.
func (l *Library) Policies() []string { return slices.Sorted(maps.Keys(l.policies.byName)) }

// Policy returns a rule of a policy in another language, or nil.
func (l *Library) Policy(name string) policy.Rule { return l.policies.byName[name] }

// Mutators returns the rules of policies that change objects.
func (l *Library) Mutators() []policy.Mutator {
	if l.policies.set == nil {
		return nil
	}
	return l.policies.set.Mutators
}

// others are rules of policies that judge nothing, nor change what is judged.
func (l *Library) others() []policy.Other {
	if l.policies.set == nil {
		return nil
	}
	return l.policies.set.Others
}

// has says whether there is a control, or a rule of a policy, of a name.
func (l *Library) has(name string) bool {
	return l.controls[name] != nil || l.policies.byName[name] != nil
}

// named are the names of all controls and of all rules of policies.
func (l *Library) named() []string { return slices.Concat(l.Controls(), l.Policies()) }

// Covered returns the names of what a name stands for: a control, a rule, or all
// rules of a policy, as kyverno.require-labels does for
// kyverno.require-labels.check-team. There are none where it stands for nothing.
func (l *Library) Covered(name string) []string {
	if l.has(name) {
		return []string{name}
	}
	return slices.DeleteFunc(l.Policies(), func(rule string) bool { return name == "" || !strings.HasPrefix(rule, name+".") })
}

// expand returns the names of what names stand for.
func (l *Library) expand(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		covered := l.Covered(n)
		if len(covered) == 0 {
			return nil, fmt.Errorf("unknown control %q%s", n, suggestion(n, slices.Concat(l.named(), l.wholePolicies())))
		}
		out = append(out, covered...)
	}
	return out, nil
}

// wholePolicies returns what stands for all rules of a policy that has rules with
// names of their own.
func (l *Library) wholePolicies() []string {
	var out []string
	for _, rule := range l.Policies() {
		if whole := rule[:strings.LastIndex(rule, ".")]; policy.IsName(whole) {
			out = append(out, whole)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(out)))
}

// policyNotices tells of rules of policies that are on and are not what they
// would be elsewhere; of those that judge nothing if all rules were asked for.
func (l *Library) policyNotices(rules []*Rule, all bool) []verdict.Notice {
	var out []verdict.Notice
	for _, r := range rules {
		if r.Policy == nil || r.Policy.Info().Unsupported == "" {
			continue
		}
		out = append(out, verdict.Notice{
			Kind: verdict.UnsupportedPolicy, Subject: r.Name, Position: r.Policy.Info().Position,
			Message: "cannot be run, so that what it is about is unknown: " + r.Policy.Info().Unsupported,
		})
	}
	out = append(out, unbound(rules)...)
	if !all {
		return out
	}
	if mutators := l.Mutators(); len(mutators) > 0 {
		var others []policy.Other
		for _, m := range mutators {
			others = append(others, policy.Other{Info: m.Info(), Does: "changes objects when they are admitted; objects are judged as they are written"})
		}
		out = append(out, told(verdict.MutatingPolicy, others))
	}
	does := map[string][]policy.Other{}
	for _, o := range l.others() {
		does[o.Does] = append(does[o.Does], o)
	}
	for _, what := range slices.Sorted(maps.Keys(does)) {
		out = append(out, told(verdict.OtherPolicy, does[what]))
	}
	return out
}

// unbound tells of rules that nothing puts in force: those that are judged the
// same way once.
func unbound(rules []*Rule) []verdict.Notice {
	by := map[string][]*Rule{}
	for _, r := range rules {
		if r.Policy != nil && r.Policy.Info().Unbound != "" {
			by[r.Policy.Info().Unbound] = append(by[r.Policy.Info().Unbound], r)
		}
	}
	var out []verdict.Notice
	for _, how := range slices.Sorted(maps.Keys(by)) {
		what := by[how][0].Name
		if more := len(by[how]) - 1; more > 0 {
			what = fmt.Sprintf("%s and %d more", what, more)
		}
		out = append(out, verdict.Notice{Kind: verdict.UnboundPolicy, Subject: what, Position: by[how][0].Policy.Info().Position, Message: how})
	}
	return out
}

// told tells of rules that judge nothing, and that all do the same: once.
func told(kind verdict.NoticeKind, others []policy.Other) verdict.Notice {
	what := others[0].Info.Name
	if more := len(others) - 1; more > 0 {
		what = fmt.Sprintf("%s and %d more", what, more)
	}
	return verdict.Notice{Kind: kind, Subject: what, Position: others[0].Info.Position, Message: "judges nothing: " + others[0].Does}
}

// policyRules returns the rules of policies that are on: all of them, but for
// those that the baseline turns off.
func (l *Library) policyRules(opts Options, choices map[string]*choice, off map[string]bool) []*Rule {
	var out []*Rule
	for _, name := range l.Policies() {
		if off[name] || slices.Contains(opts.Skip, name) || len(opts.Only) > 0 && !slices.Contains(opts.Only, name) {
			continue
		}
		ch := choices[name]
		if ch == nil {
			ch = &choice{}
		}
		out = append(out, policyRule(l.policies.byName[name], ch))
	}
	return out
}

var podKind = object.GroupKind{Kind: "Pod"}

// policyRule makes a rule of one of a policy. What the baseline says of it wins
// over what the policy says.
func policyRule(p policy.Rule, ch *choice) *Rule {
	info := p.Info()
	layer := v1alpha1.Cluster
	if p.Matches(podKind) {
		layer = v1alpha1.Application
	}
	c := &v1alpha1.Control{ObjectMeta: metav1.ObjectMeta{Name: info.Name}}
	c.Spec.Title, c.Spec.Description, c.Spec.Remediation = info.Title, info.Description, info.Remediation
	c.Spec.Severity = info.Severity
	if !slices.Contains(verdict.Severities, info.Severity) {
		c.Spec.Severity = v1alpha1.Medium
	}
	c.Spec.Layer, c.Spec.Phase = layer, v1alpha1.Build
	c.Spec.Topic = cmp.Or(info.Topic, string(info.Language))
	out := &Rule{
		Control:       &control.Control{Control: c, Position: info.Position},
		Policy:        p,
		Severity:      cmp.Or(ch.severity, c.Spec.Severity),
		Action:        cmp.Or(ch.action, info.Action, v1alpha1.Deny),
		FailurePolicy: cmp.Or(ch.failurePolicy, info.FailurePolicy, v1alpha1.FailOpen),
	}
	if ch.action == "" {
		out.acting, _ = p.(policy.Acting)
	}
	return out
}

// policySpec is what a selector of controls looks at, of a policy's rule.
func policySpec(p policy.Rule) *v1alpha1.ControlSpec { return &policyRule(p, &choice{}).Spec }
