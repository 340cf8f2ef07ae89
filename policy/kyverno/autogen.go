// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"
)

// autogenAnnotation names the controllers of pods for which rules are generated.
const autogenAnnotation = "pod-policies.kyverno.io/autogen-controllers"

const cronJob = "CronJob"

// podControllers are the kinds for which rules of pods are generated, with the
// form in which they stand in generated rules.
var podControllers = map[string]string{
	"DaemonSet":             "apps/v1/DaemonSet",
	"Deployment":            "apps/v1/Deployment",
	"Job":                   "batch/v1/Job",
	"StatefulSet":           "apps/v1/StatefulSet",
	"ReplicaSet":            "apps/v1/ReplicaSet",
	"ReplicationController": "v1/ReplicationController",
	cronJob:                 "batch/v1/CronJob",
}

// fullKinds returns kinds as they stand in generated rules.
func fullKinds(kinds []string) []string {
	out := make([]string, 0, len(kinds))
	for _, k := range kinds {
		switch full, ok := podControllers[k]; {
		case ok:
			out = append(out, full)
		case k == "Pod":
			out = append(out, "v1/Pod")
		default:
			out = append(out, k)
		}
	}
	return out
}

// generateRules adds the rules that Kyverno generates for controllers of pods.
func (p *Policy) generateRules() {
	controllers := p.autogenControllers()
	if len(controllers) == 0 {
		return
	}
	var made []*Rule
	for _, r := range p.Rules {
		if !isAutogenName(r.Name) {
			made = append(made, r.generated(controllers)...)
		}
	}
	if len(made) == 0 {
		return
	}
	p.Rules = append(slices.DeleteFunc(p.Rules, func(r *Rule) bool { return isAutogenName(r.Name) }), made...)
}

func isAutogenName(name string) bool { return strings.HasPrefix(name, "autogen-") }

// autogenControllers returns the kinds for which rules are generated, in order.
func (p *Policy) autogenControllers() []string {
	if !autogenApplies(p.Spec.Rules) {
		return nil
	}
	var out []string
	if value, ok := p.Annotations[autogenAnnotation]; ok {
		out = strings.Split(value, ",")
	} else {
		out = sortedKeys(podControllers)
	}
	slices.Sort(out)
	out = slices.DeleteFunc(slices.Compact(out), func(k string) bool { return k == "" || k == "none" || k == "all" })
	return out
}

// autogenApplies says whether rules are generated for a policy: none of its rules
// generates or uses a JSON patch, none picks objects by what a template has not,
// and one is about pods or their controllers.
func autogenApplies(rules []RuleSpec) bool {
	needed := false
	for i := range rules {
		r := &rules[i]
		if r.hasGenerate() || r.patchesJSON() {
			return false
		}
		for _, m := range []*Match{&r.Match, r.Exclude} {
			if m == nil {
				continue
			}
			for _, f := range slices.Concat([]Filter{m.Filter}, m.Any, m.All) {
				if !f.Resources.suitsTemplates() {
					return false
				}
				needed = needed || slices.ContainsFunc(f.Resources.Kinds, isPodKind)
			}
		}
	}
	return needed
}

func isPodKind(k string) bool { return k == "Pod" || podControllers[k] != "" }

func (s *RuleSpec) patchesJSON() bool {
	if s.Mutation == nil {
		return false
	}
	return s.Mutation.PatchesJSON6902 != "" || slices.ContainsFunc(s.Mutation.ForEach, func(f ForEachMutation) bool { return f.PatchesJSON6902 != "" })
}

func (r *Resources) suitsTemplates() bool {
	return r.Name == "" && len(r.Names) == 0 && r.Selector == nil && r.Annotations == nil &&
		(len(r.Kinds) <= 1 || !containsPod(r.Kinds))
}

// containsPod says whether pods, in whatever version, are in a list of kinds.
func containsPod(list []string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		_, kind := groupVersionKind(s)
		kind, _, _ = strings.Cut(kind, "/")
		return kind == "Pod"
	})
}

// groupVersionKind splits a kind as it is written in policies into its API version
// and the kind with its subresource.
func groupVersionKind(s string) (apiVersion, kind string) {
	dotted := func(s string) string { return strings.Replace(s, ".", "/", 1) }
	parts := strings.Split(s, "/")
	switch len(parts) {
	case 1:
		return "", dotted(s)
	case 2:
		if versionPattern.MatchString(parts[0]) && s != "*/*" {
			return parts[0], dotted(parts[1])
		}
		return "", s
	case 3:
		if versionPattern.MatchString(parts[0]) {
			return parts[0], parts[1] + "/" + parts[2]
		}
		return parts[0] + "/" + parts[1], dotted(parts[2])
	case 4:
		return parts[0] + "/" + parts[1], parts[2] + "/" + parts[3]
	}
	return "", ""
}

// kinds are all kinds that a match names.
func (m *Match) kinds() []string {
	out := slices.Clone(m.Resources.Kinds)
	for _, f := range m.All {
		out = append(out, f.Resources.Kinds...)
	}
	for _, f := range m.Any {
		out = append(out, f.Resources.Kinds...)
	}
	return out
}

// generated returns the rules that are generated from one: one for controllers
// with a template, one for cron jobs, and one for each kind that somebody has named
// and Kyverno does not know, which it takes to have a template.
func (r *Rule) generated(controllers []string) []*Rule {
	kinds := r.Match.kinds()
	if !containsPod(kinds) {
		return nil
	}
	if r.Exclude != nil {
		if excluded := r.Exclude.kinds(); len(excluded) > 0 && !containsPod(excluded) {
			return nil
		}
	}
	var known, others []string
	withCronJob := false
	for _, c := range controllers {
		switch {
		case c == cronJob:
			withCronJob = true
		case podControllers[c] != "":
			known = append(known, c)
		default:
			others = append(others, c)
		}
	}
	var out []*Rule
	add := func(made *Rule) {
		if made != nil {
			out = append(out, made)
		}
	}
	if len(known) > 0 {
		add(r.forTemplate(known))
	}
	for _, other := range others {
		add(r.forTemplate([]string{other}))
	}
	if withCronJob {
		add(r.forCronJob())
	}
	return out
}

// forTemplate returns the rule for controllers that hold a template.
func (r *Rule) forTemplate(controllers []string) *Rule {
	spec := r.RuleSpec.wrapped(autogenName("autogen-", r.Name), "template", "spec/template", controllers, false)
	return r.rewritten(spec, podRewrites, controllers)
}

// forCronJob returns the rule for cron jobs, which hold a template of jobs.
func (r *Rule) forCronJob() *Rule {
	spec := r.RuleSpec.wrapped(autogenName("autogen-", r.Name), "template", "spec/template", []string{cronJob}, false)
	if spec != nil {
		spec = spec.wrapped(autogenName("autogen-cronjob-", r.Name), "jobTemplate", "spec/jobTemplate/spec/template", []string{cronJob}, true)
	}
	return r.rewritten(spec, cronJobRewrites, []string{cronJob})
}

func autogenName(prefix, name string) string {
	name = prefix + name
	if len(name) > 63 {
		name = name[:63]
	}
	return name
}

// wrapped returns the rule for controllers: its kinds are theirs and its patterns
// are put below a field of the spec. It returns nil for rules of which Kyverno
// generates none. All says that filters that name no pods get the kinds too.
func (s *RuleSpec) wrapped(name, field, shift string, controllers []string, all bool) *RuleSpec {
	out := *s
	out.Name = name
	out.Match = s.Match.forKinds(controllers, all, true)
	if s.Exclude != nil {
		exclude := s.Exclude.forKinds(controllers, all, false)
		out.Exclude = &exclude
	}
	below := func(tree any) any { return map[string]any{"spec": map[string]any{field: tree}} }
	if m := s.Mutation; m != nil {
		switch {
		case m.PatchStrategicMerge != nil:
			out.Mutation = &Mutation{PatchStrategicMerge: below(m.PatchStrategicMerge)}
			return &out
		case len(m.ForEach) > 0:
			out.Mutation = &Mutation{}
			for _, f := range m.ForEach {
				out.Mutation.ForEach = append(out.Mutation.ForEach, ForEachMutation{
					List: f.List, Context: f.Context, Preconditions: f.Preconditions, PatchStrategicMerge: below(f.PatchStrategicMerge),
				})
			}
			return &out
		}
	}
	if s.Validation != nil {
		if v := s.Validation.wrapped(below, shift); v != nil {
			out.Validation = v
			return &out
		}
	}
	if s.VerifyImages != nil {
		return &out
	}
	return nil
}

// wrapped returns a validation for controllers, nil where there is none.
func (v *Validation) wrapped(below func(any) any, shift string) *Validation {
	out := &Validation{
		FailureAction: v.FailureAction, FailureActionOverrides: v.FailureActionOverrides, AllowExistingViolations: v.AllowExistingViolations,
	}
	switch {
	case v.Pattern != nil:
		out.Message = shiftReferences(v.Message, shift, "pattern")
		out.Pattern = below(v.Pattern)
	case v.Deny != nil:
		out.Message = shiftReferences(v.Message, shift, "deny")
		out.Deny = v.Deny
	case v.PodSecurity != nil:
		out.Message = shiftReferences(v.Message, shift, "podSecurity")
		out.PodSecurity = v.PodSecurity
	case v.AnyPattern != nil:
		out.Message = shiftReferences(v.Message, shift, "anyPattern")
		list, _ := v.AnyPattern.([]any)
		patterns := make([]any, 0, len(list))
		for _, p := range list {
			patterns = append(patterns, below(p))
		}
		out.AnyPattern = patterns
	case len(v.ForEach) > 0:
		out.Message = shiftReferences(v.Message, shift, "pattern")
		out.ForEach = v.ForEach
	case v.CEL != nil:
		return v
	default:
		return nil
	}
	return out
}

// forKinds returns a match for controllers. Filters keep their own kinds if they do
// not name pods; the one of the old form gets them, unless it is an exclude that
// names none.
func (m *Match) forKinds(controllers []string, all, match bool) Match {
	out := *m
	kinds := fullKinds(controllers)
	change := func(filters []Filter) []Filter {
		filters = slices.Clone(filters)
		for i := range filters {
			if all || containsPod(filters[i].Resources.Kinds) {
				filters[i].Resources.Kinds = kinds
			}
		}
		return filters
	}
	switch {
	case len(m.Any) > 0:
		out.Any = change(m.Any)
	case len(m.All) > 0:
		out.All = change(m.All)
	case match || len(m.Resources.Kinds) > 0:
		out.Resources.Kinds = kinds
	}
	return out
}

var references = regexp.MustCompile(`^\$\(.[^\ ]*\)|[^\\]\$\(.[^\ ]*\)`)

// shiftReferences puts what a generated rule adds to a pattern into the references
// of a message.
func shiftReferences(message, shift, pivot string) string {
	for _, ref := range references.FindAllString(message, -1) {
		inner, before := ref, ""
		if !strings.HasPrefix(ref, "$(") {
			before, inner = ref[:1], ref[1:]
		}
		at := strings.Index(inner, pivot)
		if at >= 0 && pivot == "anyPattern" && at+len(pivot) < len(inner) {
			index, _, _ := strings.Cut(inner[at+len(pivot)+1:], "/")
			pivot += "/" + index
		}
		message = strings.Replace(message, ref, before+strings.ReplaceAll(inner, pivot, pivot+"/"+shift), 1)
	}
	return message
}

// rewrites are what is replaced in the text of a generated rule.
type rewrites struct{ spec, metadata string }

var (
	podRewrites     = rewrites{"spec.template.spec", "spec.template.metadata"}
	cronJobRewrites = rewrites{"spec.jobTemplate.spec.template.spec", "spec.jobTemplate.spec.template.metadata"}
)

// apply replaces the paths of a pod by those of its template. In CEL, object is a
// name by itself.
func (w rewrites) apply(text []byte, cel bool) []byte {
	prefix := "request."
	if cel {
		prefix = ""
	}
	for _, r := range [][2]string{{"spec", w.spec}, {"metadata", w.metadata}} {
		for _, name := range []string{"object.", "oldObject."} {
			text = bytes.ReplaceAll(text, []byte(prefix+name+r[0]), []byte(prefix+name+r[1]))
		}
	}
	return text
}

// rewritten returns a generated rule with its text rewritten.
func (r *Rule) rewritten(spec *RuleSpec, w rewrites, controllers []string) *Rule {
	if spec == nil {
		return nil
	}
	out := &Rule{Of: r.Name, Position: r.Position, source: r.source, controllers: controllers, Unsupported: r.Unsupported}
	spec.ImageExtractors = nil
	text, err := json.Marshal(spec)
	if err == nil {
		text = w.apply(text, spec.Validation != nil && spec.Validation.CEL != nil)
		err = kjson.UnmarshalCaseSensitivePreserveInts(text, &out.RuleSpec)
	}
	if err != nil {
		out.RuleSpec = *spec
		out.Unsupported = fmt.Sprintf("the rule for %s cannot be generated: %s", strings.Join(controllers, ", "), err)
	}
	return out
}
