// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
)

// The groups of controllers that a policy for pods is generated for. Those of a
// group hold their pods at the same place; where others hold them is found in
// the object.
const (
	controllers = "defaults"
	cronJobs    = "cronjobs"
	extracted   = "extract"
)

// workload is a controller of pods.
type workload struct {
	resource schema.GroupVersionResource
	group    string
}

var workloads = map[string]workload{
	"daemonsets":   {schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}, controllers},
	"deployments":  {schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, controllers},
	"replicasets":  {schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}, controllers},
	"statefulsets": {schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}, controllers},
	"jobs":         {schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, controllers},
	"cronjobs":     {schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}, cronJobs},
}

// templates says where the objects of a group hold the pod.
var templates = map[string]string{controllers: "spec.template", cronJobs: "spec.jobTemplate.spec.template"}

// workloadOf returns the controller of a name: one of Kubernetes' own, or
// resource.version.group.
func workloadOf(name string) (workload, bool) {
	if w, ok := workloads[name]; ok {
		return w, true
	}
	resource, rest, _ := strings.Cut(name, ".")
	version, group, _ := strings.Cut(rest, ".")
	if resource == "" || version == "" || group == "" {
		return workload{}, false
	}
	return workload{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, extracted}, true
}

// variant is a policy, or what is generated of it for controllers of pods.
type variant struct {
	policy  *Policy
	spec    spec
	config  string // the group of controllers; empty for the policy itself
	matcher *matcher
	once    sync.Once
	program *program
	err     *compileError
	// exceptions are those to the policy.
	exceptions []*exception
}

// addVariants adds the policy, and what is generated of it.
func (p *Policy) addVariants() error {
	if err := p.addVariant("", p.spec); err != nil {
		return err
	}
	if p.spec.json || p.Type == Generating || p.Type == Deleting || !p.spec.onlyPods() {
		return nil
	}
	names := p.spec.controllers
	if names == nil {
		for name := range workloads {
			names = append(names, name)
		}
	}
	groups := map[string][]schema.GroupVersionResource{}
	for _, name := range names {
		if w, ok := workloadOf(name); ok {
			groups[w.group] = append(groups[w.group], w.resource)
		}
	}
	for _, config := range []string{cronJobs, controllers, extracted} {
		if len(groups[config]) == 0 {
			continue
		}
		s := p.spec
		s.match = generatedMatch(&p.spec, groups[config])
		s.rewrite(p.Type, config)
		if err := p.addVariant(config, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) addVariant(config string, s spec) error {
	m, err := newMatcher(s.match)
	if err != nil {
		return fmt.Errorf("spec.matchConstraints.%w", err)
	}
	m.anyOperation = p.Type == Deleting
	p.variants = append(p.variants, &variant{policy: p, spec: s, config: config, matcher: m})
	return nil
}

// onlyPods says whether the policy selects pods, all of them and nothing else:
// it is generated for their controllers then.
func (s *spec) onlyPods() bool {
	m := s.match
	if m == nil || len(m.ExcludeResourceRules) != 0 || len(m.ResourceRules) != 1 {
		return false
	}
	if o := m.ObjectSelector; o != nil && len(o.MatchLabels)+len(o.MatchExpressions) > 0 {
		return false
	}
	r := &m.ResourceRules[0]
	return len(r.ResourceNames) == 0 && slices.Equal(r.APIGroups, []string{""}) && slices.Equal(r.APIVersions, []string{"v1"}) && slices.Equal(r.Resources, []string{"pods"})
}

// generatedMatch selects controllers where the policy selects pods.
func generatedMatch(s *spec, resources []schema.GroupVersionResource) *admissionregistrationv1.MatchResources {
	byVersion := map[schema.GroupVersion][]string{}
	for _, r := range resources {
		byVersion[r.GroupVersion()] = append(byVersion[r.GroupVersion()], r.Resource)
	}
	out := &admissionregistrationv1.MatchResources{NamespaceSelector: s.match.NamespaceSelector}
	for gv, names := range byVersion {
		slices.Sort(names)
		out.ResourceRules = append(out.ResourceRules, admissionregistrationv1.NamedRuleWithOperations{
			RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: s.match.ResourceRules[0].Operations,
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{gv.Group}, APIVersions: []string{gv.Version}, Resources: names},
			},
		})
	}
	slices.SortFunc(out.ResourceRules, func(a, b admissionregistrationv1.NamedRuleWithOperations) int {
		return cmp.Or(cmp.Compare(a.APIGroups[0], b.APIGroups[0]), cmp.Compare(a.APIVersions[0], b.APIVersions[0]))
	})
	return out
}

// rewrite makes expressions that are about pods be about what holds them.
func (s *spec) rewrite(kind Type, config string) {
	template, ok := templates[config]
	if !ok {
		return
	}
	if kind == Mutating {
		s.rewriteMutations(config, template)
		return
	}
	re := func(text string) string { return rewritePaths(text, template) }
	s.conditions, s.variables = slices.Clone(s.conditions), slices.Clone(s.variables)
	s.validations, s.annotations = slices.Clone(s.validations), slices.Clone(s.annotations)
	for i := range s.conditions {
		s.conditions[i].Expression = re(s.conditions[i].Expression)
	}
	for i := range s.variables {
		s.variables[i].Expression = re(s.variables[i].Expression)
	}
	for i := range s.validations {
		v := &s.validations[i]
		v.Expression, v.Message, v.MessageExpression = re(v.Expression), re(v.Message), re(v.MessageExpression)
	}
	for i := range s.annotations {
		s.annotations[i].ValueExpression = re(s.annotations[i].ValueExpression)
	}
	if s.image != nil {
		image := *s.image
		image.ImageExtractors = slices.Clone(image.ImageExtractors)
		for i := range image.ImageExtractors {
			image.ImageExtractors[i].Expression = re(image.ImageExtractors[i].Expression)
		}
		s.image = &image
	}
}

// podPath finds where an expression reads a pod's spec or metadata. The
// namespace of a pod is that of what holds it.
var podPath = regexp.MustCompile(`(object|oldObject)\.(spec|metadata)`)

func rewritePaths(text, template string) string {
	var b strings.Builder
	last := 0
	for _, at := range podPath.FindAllStringSubmatchIndex(text, -1) {
		field := text[at[4]:at[5]]
		if rest := text[at[1]:]; namespaceNext(rest) {
			continue
		}
		b.WriteString(text[last:at[4]])
		b.WriteString(template + "." + field)
		last = at[1]
	}
	b.WriteString(text[last:])
	return b.String()
}

// namespaceNext says whether a text goes on with the field namespace.
func namespaceNext(rest string) bool {
	after, ok := strings.CutPrefix(rest, ".namespace")
	return ok && (after == "" || !wordByte(after[0]))
}

func wordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// mutated finds what the expressions of mutations read and write of a pod.
var mutated = regexp.MustCompile(`\b(object|oldObject|Object)\.(spec|metadata\.labels|metadata\.annotations)`)

// rewriteMutations rewrites the conditions and the objects that are applied;
// JSON patches and variables stay as they are, as in Kyverno.
func (s *spec) rewriteMutations(config, template string) {
	re := func(text string) string {
		return wrapObject(mutated.ReplaceAllString(text, "${1}."+template+".${2}"), config)
	}
	s.conditions, s.mutations = slices.Clone(s.conditions), slices.Clone(s.mutations)
	for i := range s.conditions {
		s.conditions[i].Expression = re(s.conditions[i].Expression)
	}
	for i := range s.mutations {
		if apply := s.mutations[i].ApplyConfiguration; apply != nil {
			s.mutations[i].ApplyConfiguration = &admissionregistrationv1alpha1.ApplyConfiguration{Expression: re(apply.Expression)}
		}
	}
}

// wrappers are what stands around a pod in what is applied.
var wrappers = map[string][2]string{
	controllers: {"Object{spec: Object.spec{template: Object.spec.template{", "}}}"},
	cronJobs:    {"Object{spec: Object.spec{jobTemplate: Object.spec.jobTemplate{spec: Object.spec.jobTemplate.spec{template: Object.spec.jobTemplate.spec.template{", "}}}}}"},
}

// wrapObject puts the fields of an Object{...} that an expression begins with
// where the pod stands.
func wrapObject(text, config string) string {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "Object")
	if !ok {
		return text
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t\r\n"), "{")
	if !ok {
		return text
	}
	depth := 1
	for i := range len(rest) {
		switch rest[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			w := wrappers[config]
			return w[0] + rest[:i] + w[1] + rest[i+1:]
		}
	}
	return text
}

// podTemplate is a pod template that was found in an object.
type podTemplate struct {
	path string
	tree map[string]any
}

// findTemplates finds the pod templates in the spec of an object, in the order
// of their paths. What is in a template is not looked at again.
func findTemplates(tree map[string]any) []podTemplate {
	spec, ok := tree["spec"].(map[string]any)
	if !ok {
		return nil
	}
	var out []podTemplate
	var walk func(v any, path string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			if isTemplate(v) {
				out = append(out, podTemplate{path, v})
				return
			}
			for key, item := range v {
				walk(item, path+"."+key)
			}
		case []any:
			for i, item := range v {
				walk(item, fmt.Sprintf("%s[%d]", path, i))
			}
		}
	}
	walk(spec, "spec")
	slices.SortFunc(out, func(a, b podTemplate) int { return cmp.Compare(a.path, b.path) })
	return out
}

// isTemplate says whether a map looks like a pod template: containers with names
// and images in its spec.
func isTemplate(v map[string]any) bool {
	if meta, ok := v["metadata"]; ok {
		if _, ok := meta.(map[string]any); !ok {
			return false
		}
	}
	spec, _ := v["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	for _, c := range containers {
		c, _ := c.(map[string]any)
		if name, _ := c["name"].(string); name == "" {
			return false
		}
		if _, ok := c["image"].(string); !ok {
			return false
		}
	}
	return len(containers) > 0
}

// pod returns the pod that a template of an object makes.
func (t *podTemplate) pod(a *attributes) map[string]any {
	meta := map[string]any{}
	if m, ok := t.tree["metadata"].(map[string]any); ok {
		for k, v := range m {
			meta[k] = v
		}
	}
	if name, _ := meta["name"].(string); name == "" {
		meta["name"] = a.name
	}
	if namespace, _ := meta["namespace"].(string); namespace == "" {
		meta["namespace"] = a.namespace
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": t.tree["spec"]}
}

// where returns the path of the template.
func (t *podTemplate) where() object.Path { return object.ParsePath(t.path) }
