// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/kyvernocel"
	"sconce.dev/sconce/policy/vap"
)

// Handles says whether documents of a kind can be translated.
func Handles(gk object.GroupKind) bool {
	switch gk.Group {
	case "kyverno.io":
		return gk.Kind == "ClusterPolicy" || gk.Kind == "Policy" || gk.Kind == "PolicyException"
	case v1alpha1.Group:
		return gk.Kind == "Control"
	}
	return gk.Group == templatesGroup || gk.Group == constraintsGroup
}

// Translate translates the policies among documents, and proves what it wrote.
func Translate(ctx context.Context, docs []*object.Object, opts Options) *Result {
	out := &Result{}
	policies, _, problems := kyverno.Read(docs, policy.Options{})
	out.Problems = append(out.Problems, problems...)
	for _, p := range policies {
		translatePolicy(ctx, p, &opts, out)
	}
	controls(ctx, docs, &opts, out)
	constraints(ctx, docs, &opts, out)
	return out
}

// translatePolicy translates the rules of a policy.
func translatePolicy(ctx context.Context, p *kyverno.Policy, opts *Options, out *Result) {
	docs := []*object.Object{p.Object}
	for _, x := range p.Exceptions {
		docs = append(docs, x.Object)
	}
	original := kyverno.Load(docs, policy.Options{})
	all := groups(p)
	for _, g := range all {
		r := &Rule{Policy: p.Ref, Name: g[0].Name, Position: g[0].Position}
		out.Rules = append(out.Rules, r)
		if g[0].Validation == nil {
			r.refuse(errors.New(insteadOf(g[0])))
			continue
		}
		name := p.Name
		if p.Kind == "Policy" {
			name = cmp.Or(p.Namespace, "default") + "-" + name // what is written is in no namespace
		}
		if len(all) > 1 {
			name += "-" + g[0].Name
		}
		w := &ruleWriter{policy: p, rules: g}
		if err := w.translate(r, resourceName(name), opts.To); err != nil {
			r.refuse(err)
			continue
		}
		r.Notes = w.notes
		prove(ctx, r, rulesOf(original, p, g), opts, w)
	}
}

// insteadOf says what to use instead of a rule that does not validate.
func insteadOf(r *kyverno.Rule) string {
	out := "it is no rule that validates"
	switch {
	case r.Mutation != nil:
		return out + ": what mutates is not translated; write a MutatingAdmissionPolicy, or a MutatingPolicy of Kyverno"
	case r.Generation != nil:
		return out + ": what generates is not translated, and no admission policy makes objects; write a GeneratingPolicy of Kyverno"
	case len(r.VerifyImages) > 0:
		return out + ": what verifies images is not translated, and no admission policy asks a registry; write an ImageValidatingPolicy of Kyverno, which Sconce runs, too"
	}
	return out
}

// translate writes the rule.
func (w *ruleWriter) translate(r *Rule, name string, to Target) error {
	if err := w.prepare(); err != nil {
		return err
	}
	if to == Control {
		docs, err := w.control(name)
		r.Documents = docs
		return err
	}
	docs, err := w.admission(name)
	if err != nil {
		return err
	}
	r.Documents, err = inLanguage(docs, to)
	return err
}

func (r *Rule) refuse(err error) {
	r.Documents = nil
	r.Refused = append(r.Refused, Refusal{Reason: err.Error(), Position: r.Position})
}

// resourceName makes a name of an object of the API out of words.
func resourceName(s string) string {
	s = strings.ToLower(s)
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, s)
	return strings.Trim(s[:min(len(s), 253)], "-.")
}

// rulesOf returns what runs some rules of a policy.
func rulesOf(set *policy.Set, p *kyverno.Policy, g []*kyverno.Rule) []policy.Rule {
	name := p.Name
	if p.Kind == "Policy" {
		name = cmp.Or(p.Namespace, "default") + "." + name
	}
	var out []policy.Rule
	for _, r := range set.Rules {
		for _, x := range g {
			if r.Info().Name == policy.Name(policy.Kyverno, name, x.Name) {
				out = append(out, r)
			}
		}
	}
	return out
}

// compiled loads a translation.
func compiled(docs []Document) ([]policy.Rule, error) {
	var objects []*object.Object
	for _, d := range docs {
		list, err := object.FromNode(object.FromAny(d), &object.Origin{Source: "translation"})
		if err != nil {
			return nil, fmt.Errorf("reading the translation: %w", err)
		}
		objects = append(objects, list...)
	}
	var set *policy.Set
	switch objects[0].Kind {
	case "Control":
		c, err := readControl(objects[0])
		if err != nil {
			return nil, fmt.Errorf("the translation is no valid control: %w", err)
		}
		return []policy.Rule{&controlRule{c}}, nil
	case "ValidatingPolicy":
		set = kyvernocel.Load(objects, policy.Options{})
	default:
		set = vap.Load(objects, policy.Options{})
	}
	if len(set.Problems) > 0 {
		return nil, fmt.Errorf("the translation is no valid policy: %s", set.Problems[0].Message)
	}
	if len(set.Rules) == 0 {
		return nil, errors.New("the translation holds no rule")
	}
	return set.Rules, nil
}

// prove proves the translation of a rule.
func prove(ctx context.Context, r *Rule, original []policy.Rule, opts *Options, w *ruleWriter) {
	p := &proof{opts: opts, operations: w.about.operations, kinds: w.apiKinds(), words: w.vocabulary()}
	if ps := w.rules[0].Validation.PodSecurity; ps != nil && len(p.kinds) > 0 && len(p.operations) > 0 {
		p.pods = podSketches(ps)
	}
	r.proveBy(ctx, p, original)
}

// proveBy proves the translation against the original.
func (r *Rule) proveBy(ctx context.Context, p *proof, original []policy.Rule) {
	translation, err := compiled(r.Documents)
	if err != nil {
		r.refuse(err)
		return
	}
	if len(original) == 0 {
		r.refuse(errors.New("the rule cannot be run"))
		return
	}
	for _, o := range original {
		if why := o.Info().Unsupported; why != "" {
			r.refuse(fmt.Errorf("the rule cannot be run, and nothing proven: %s", why))
			return
		}
	}
	p.original, p.translation = original, translation
	r.Evidence = p.run(ctx, r.Policy.Name+"/"+r.Name)
}

// vocabulary returns what the rule speaks of.
func (w *ruleWriter) vocabulary() *vocabulary {
	v := &vocabulary{names: map[string]bool{}, sketch: newSketch(), plain: w.quirk}
	r := w.rules[0]
	pattern := v.sketch
	if w.pods {
		pattern = nil
	}
	v.speaks(tree(r.Validation.Pattern), pattern)
	if list, ok := tree(r.Validation.AnyPattern).([]any); ok {
		for _, p := range list {
			v.speaks(p, pattern)
		}
	}
	for i := range r.Validation.ForEach {
		v.expression("{{" + strings.TrimSuffix(r.Validation.ForEach[i].List, "[]") + "[]}}")
		below := newSketch()
		v.speaks(tree(r.Validation.ForEach[i].Pattern), below)
		v.graft(r.Validation.ForEach[i].List, below)
	}
	for _, x := range []any{r.Validation.Deny, r.Validation.ForEach, r.Validation.CEL, r.Preconditions, r.CELPreconditions, r.Context} {
		v.speaks(tree(x), nil)
	}
	v.speaks(tree(r.Match), nil)
	v.speaks(tree(r.Exclude), nil)
	for _, x := range w.policy.Exceptions {
		v.speaks(tree(x.Spec), nil)
	}
	for _, x := range w.earlier() {
		v.speaks(tree(x[0]), nil)
	}
	if r.Validation.PodSecurity != nil {
		for _, c := range podChecks {
			v.expression(c.unless + c.pod + c.container)
		}
		v.speaks(tree(r.Validation.PodSecurity.Exclude), nil)
	}
	return v
}

// apiKinds returns the kinds that objects are made up of.
func (w *ruleWriter) apiKinds() []apiKind {
	var out []apiKind
	for _, gk := range w.about.kinds {
		if a, ok := apiVersionOf(gk); ok {
			out = append(out, apiKind{a, gk.Kind})
		}
	}
	for _, r := range w.rules[:1] {
		for _, f := range filters(&r.Match) {
			for _, k := range f.Resources.Kinds {
				s, err := parseSelector(k)
				if err != nil || s.sub != "" || s.kind == "*" || len(s.kinds()) > 0 && s.group == "*" {
					continue
				}
				out = appendNew(out, s.made())
			}
		}
	}
	return out
}

// made returns a kind that the selector selects.
func (s selector) made() apiKind {
	group, version := s.group, s.version
	if group == "*" {
		group = "example.com"
	}
	if strings.Contains(version, "*") {
		version = "v1"
	}
	if group == "" {
		return apiKind{version, s.kind}
	}
	return apiKind{group + "/" + version, s.kind}
}

// apiVersionOf returns the version of a built-in kind that is served now.
func apiVersionOf(gk object.GroupKind) (string, bool) {
	versions := scheme.Scheme.PrioritizedVersionsForGroup(gk.Group)
	for _, v := range versions {
		if scheme.Scheme.Recognizes(v.WithKind(gk.Kind)) {
			return v.String(), true
		}
	}
	return "", false
}
