// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno"
)

// ruleWriter writes one rule of a ClusterPolicy.
type ruleWriter struct {
	policy *kyverno.Policy
	// rules are the rule as it is written, and those that Kyverno makes of it for
	// the controllers of pods.
	rules []*kyverno.Rule
	about *about
	pods  bool
	quirk bool
	notes []string
}

// check is what a rule says of an object, in CEL.
type check struct {
	// variables are declared before it is read.
	variables []admissionregistrationv1.Variable
	// applies is the condition on which the rule is about the object, beside what
	// it matches; ok that the object passes.
	applies, ok string
	// skips is the condition on which the check itself finds that it is not about
	// the object; excused that a PolicyException leaves the object out.
	skips, excused string
	// parts are what ok consists of, where each has a message of its own.
	parts    []checkPart
	readsOld bool
}

var podShape = shape{reflect.TypeFor[corev1.PodTemplateSpec]()}

// groups returns the rules of a policy that validate, each with those that were
// made of it.
func groups(p *kyverno.Policy) [][]*kyverno.Rule {
	var out [][]*kyverno.Rule
	for _, r := range p.Rules {
		if r.Of == r.Name || r.Of == "" {
			out = append(out, []*kyverno.Rule{r})
			continue
		}
		for i := range out {
			if out[i][0].Name == r.Of {
				out[i] = append(out[i], r)
			}
		}
	}
	return out
}

// operations returns those of which the rule may be asked.
func (w *ruleWriter) operations() ([]policy.Operation, error) {
	v := w.rules[0].Validation
	written := []policy.Operation{}
	for _, f := range filters(&w.rules[0].Match) {
		if len(f.Resources.Operations) == 0 {
			written = nil
			break
		}
		for _, o := range f.Resources.Operations {
			written = appendNew(written, o)
		}
	}
	candidates := written
	if len(written) == 0 {
		candidates = []policy.Operation{policy.Create, policy.Update}
		if mentions(v, "DELETE") || mentions(w.rules[0].Preconditions, "DELETE") {
			candidates = append(candidates, policy.Delete)
		}
		if mentions(w.rules[0].Preconditions, "CONNECT") {
			candidates = append(candidates, policy.Connect)
		}
	}
	if patterns := v.Pattern != nil || v.AnyPattern != nil; patterns {
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(o policy.Operation) bool { return o == policy.Delete })
	}
	var out []policy.Operation
	for _, o := range candidates {
		if may(w.rules[0].Preconditions, o) && (v.Deny == nil || may(v.Deny.Conditions, o)) {
			out = append(out, o)
		}
	}
	if len(written) == 0 && (v.Deny != nil || len(v.ForEach) > 0) && !slices.Contains(out, policy.Delete) && may(w.rules[0].Preconditions, policy.Delete) && (v.Deny == nil || may(v.Deny.Conditions, policy.Delete)) {
		w.notes = append(w.notes, "the rule names no operations: Kyverno asks it about deletions, too, where there is no request.object; the translation is asked about what is created and updated")
	}
	if len(out) == 0 {
		return nil, errors.New("its conditions hold for no operation")
	}
	slices.Sort(out)
	return out, nil
}

// mentions says whether a text stands anywhere in a tree.
func mentions(tree any, text string) bool {
	return strings.Contains(fmt.Sprintf("%+v", tree), text)
}

// may says whether conditions may hold for an operation.
func may(tree any, o policy.Operation) bool {
	switch t := tree.(type) {
	case []any:
		for _, c := range t {
			if !may(c, o) {
				return false
			}
		}
	case map[string]any:
		if _, ok := t["operator"]; ok {
			return mayOne(t, o)
		}
		if anyOf, ok := t["any"].([]any); ok && !slices.ContainsFunc(anyOf, func(c any) bool { return may(c, o) }) {
			return false
		}
		return may(t["all"], o)
	}
	return true
}

func mayOne(c map[string]any, o policy.Operation) bool {
	key, _ := c["key"].(string)
	key = strings.NewReplacer("{{", "", "}}", "", " ", "", `"`, "'").Replace(key)
	if key != "request.operation" && key != "request.operation||'BACKGROUND'" {
		return true
	}
	if hasVariables(c["value"]) {
		return true
	}
	var list []any
	switch v := c["value"].(type) {
	case []any:
		list = v
	default:
		list = []any{v}
	}
	in := slices.ContainsFunc(list, func(v any) bool { return fmt.Sprint(v) == string(o) })
	switch op, _ := c["operator"].(string); strings.ToLower(op) {
	case "equals", "equal", "anyin", "allin", "in":
		return in
	case "notequals", "notequal", "anynotin", "allnotin", "notin":
		return !in
	}
	return true
}

// prepare works out what the rule is about.
func (w *ruleWriter) prepare() error {
	r := w.rules[0]
	operations, err := w.operations()
	if err != nil {
		return err
	}
	w.pods = len(w.rules) > 1
	if w.about, err = aboutOf(w.rules, operations); err != nil {
		return err
	}
	if w.policy.Kind == "Policy" {
		namespace := cmp.Or(w.policy.Namespace, "default")
		w.about.conditions = append([]admissionregistrationv1.MatchCondition{{
			Name: "namespace", Expression: "object.metadata.?namespace.orValue('') == " + quote(namespace),
		}}, w.about.conditions...)
	}
	if w.pods && slices.Contains(operations, policy.Delete) {
		return errors.New("it is about the deletion of pods and of their controllers")
	}
	return w.contexts(r)
}

// contexts says what of a context cannot be written.
func (w *ruleWriter) contexts(r *kyverno.Rule) error {
	for _, c := range r.Context {
		what := ""
		switch {
		case c.APICall != nil:
			what = "calls an API"
		case c.ConfigMap != nil:
			what = "reads a ConfigMap"
		case c.ImageRegistry != nil:
			what = "asks a registry"
		case c.GlobalReference != nil:
			what = "reads Kyverno's global context"
		}
		if what != "" {
			return fmt.Errorf("the variable %s %s, which no admission policy can", c.Name, what)
		}
	}
	return nil
}

// searcher returns what writes JMESPath about the object, or about what it was.
func (w *ruleWriter) searcher(old bool) *searcher {
	kinds := common(w.about.kinds)
	if w.about.anyKind {
		kinds = shape{}
	}
	s := &searcher{hasPod: w.pods}
	s.object = query{expr: "object", shape: kinds}
	s.old = query{expr: "oldObject", shape: kinds}
	s.pod = query{expr: "variables.pod", shape: podShape}
	s.oldPod = query{expr: "variables.oldPod", shape: podShape}
	s.variables = map[string]query{}
	if old {
		s.object, s.pod = s.old, s.oldPod
		s.created = true
	}
	return s
}

// podOf returns the expression of the pod in an object.
func podOf(object string) string {
	return object + ".kind == 'Pod' ? " + object + " : " + object + ".kind == 'CronJob' ? " + object + ".spec.jobTemplate.spec.template : " + object + ".spec.template"
}

// check writes the rule for the object, or for what it was.
func (w *ruleWriter) check(old bool) (*check, error) {
	s := w.searcher(old)
	out := &check{skips: never}
	if w.pods {
		name, of := "pod", "object"
		if old {
			name, of = "oldPod", "oldObject"
		}
		out.variables = append(out.variables, admissionregistrationv1.Variable{Name: name, Expression: podOf(of)})
	}
	r := w.rules[0]
	if err := w.addContext(s, r.Context, out, old); err != nil {
		return nil, err
	}
	var err error
	if out.applies, err = s.conditions(r.Preconditions); err != nil {
		return nil, fmt.Errorf("preconditions: %w", err)
	}
	if out.excused, err = w.excused(s); err != nil {
		return nil, err
	}
	v := r.Validation
	switch {
	case v.Deny != nil:
		denied, err := s.conditions(v.Deny.Conditions)
		if err != nil {
			return nil, fmt.Errorf("deny: %w", err)
		}
		out.ok = not(denied)
	case v.Pattern != nil, v.AnyPattern != nil:
		root := subject{expr: s.object.expr, shape: s.object.shape}
		if w.pods {
			root = subject{expr: s.pod.expr, shape: podShape}
		}
		var found verdicts
		found, err = w.patterns(s, root, v.Pattern, v.AnyPattern)
		out.ok, out.skips = found.admit, found.skip
	case len(v.ForEach) > 0:
		out.ok, err = w.forEach(s, v.ForEach, 0)
	case v.PodSecurity != nil:
		err = w.podSecurity(v.PodSecurity, out, old)
	case v.Manifests != nil:
		err = errors.New("manifests verifies signatures of YAML, which CEL cannot")
	case v.Assert != nil:
		err = errors.New("assert is a tree of assertions, which is not translated")
	default:
		err = errors.New("the rule checks nothing")
	}
	out.readsOld = s.readsOld
	if s.quirk && !w.quirk {
		w.quirk = true
		w.notes = append(w.notes, "it compares two values of the object: Kyverno reads * and ? in one of them as wildcards, the translation compares them as they are")
	}
	out.ok = w.about.tidy(out.ok)
	out.applies, out.excused, out.skips = w.about.tidy(out.applies), w.about.tidy(out.excused), w.about.tidy(out.skips)
	return out, err
}

// tidy selects fields that every object has without asking whether it has. What is
// created was nothing before, and what is deleted is nothing any more: there, it is
// asked.
func (a *about) tidy(expr string) string {
	fields := []string{"variables.pod.?spec.?", "variables.pod.spec.?", "variables.oldPod.?spec.?", "variables.oldPod.spec.?"}
	if !slices.Contains(a.operations, policy.Create) {
		fields = append(fields, "oldObject.?metadata.?", "oldObject.metadata.?")
	}
	if !slices.Contains(a.operations, policy.Delete) {
		fields = append(fields, "object.?metadata.?", "object.metadata.?", "object.?metadata[?", "object.metadata[?")
	}
	return strings.NewReplacer(fields...).Replace(expr)
}

// addContext declares the variables of a rule that are values or queries.
func (w *ruleWriter) addContext(s *searcher, entries []kyverno.ContextEntry, out *check, old bool) error {
	for _, c := range entries {
		v := c.Variable
		if v == nil {
			continue
		}
		q, err := s.contextVariable(v)
		if err != nil {
			return fmt.Errorf("the variable %s: %w", c.Name, err)
		}
		name := c.Name
		if old {
			name = "old" + name
		}
		if !isName(name) || name == "pod" || s.element != nil {
			s.variables[c.Name] = q
			continue
		}
		out.variables = append(out.variables, admissionregistrationv1.Variable{Name: name, Expression: w.about.tidy(q.must())})
		declared := query{expr: "variables." + name, shape: q.shape, noWildcard: q.noWildcard}
		s.variables[c.Name] = declared
	}
	return nil
}

// contextVariable writes a variable.
func (w *searcher) contextVariable(v *kyverno.Variable) (query, error) {
	var q query
	var err error
	switch {
	case v.JMESPath != "" && v.Value == nil:
		path := strings.TrimSpace(v.JMESPath)
		if path, err = w.nested(path); err != nil {
			return query{}, err
		}
		if strings.Contains(path, "{{") {
			return query{}, fmt.Errorf("variables within its JMESPath")
		}
		q, err = w.search(path)
	case v.Value != nil && v.JMESPath == "":
		var o operand
		o, err = w.operand(v.Value)
		q = o.q
	default:
		return query{}, errors.New("a value that is searched")
	}
	if err != nil {
		return query{}, err
	}
	if v.Default != nil {
		o, err := w.operand(v.Default)
		if err != nil {
			return query{}, err
		}
		if q.maybe {
			q = query{expr: q.expr + ".orValue(" + o.q.must() + ")", shape: sameShape(q, o.q)}
		}
	}
	return q, nil
}

// patterns writes a pattern, or several of which one must match.
func (w *ruleWriter) patterns(s *searcher, root subject, one, several any) (verdicts, error) {
	p := &patternWriter{names: slices.Clone(s.names), searcher: s}
	if one != nil {
		m, ok := one.(map[string]any)
		if !ok {
			return verdicts{}, errors.New("the pattern is no map")
		}
		return p.mapping(root, m)
	}
	list, ok := several.([]any)
	if !ok {
		return verdicts{}, errors.New("anyPattern is no list")
	}
	var oks, skips []string
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			return verdicts{}, errors.New("a pattern of anyPattern is no map")
		}
		v, err := p.mapping(root, m)
		if err != nil {
			return verdicts{}, err
		}
		oks, skips = append(oks, v.ok), append(skips, v.skip)
	}
	skip := and(skips...)
	return verdicts{ok: or(oks...), skip: skip, admit: or(append(oks, skip)...)}, nil
}

// maxNesting is how deep loops may stand in loops.
const maxNesting = 4

// forEach writes loops, each of which must hold.
func (w *ruleWriter) forEach(s *searcher, loops []kyverno.ForEach, depth int) (string, error) {
	if depth > maxNesting {
		return "", fmt.Errorf("loops stand %d deep in each other", depth)
	}
	var parts []string
	for i := range loops {
		part, err := w.loop(s, &loops[i], depth)
		if err != nil {
			return "", fmt.Errorf("foreach over %s: %w", loops[i].List, err)
		}
		parts = append(parts, part)
	}
	return and(parts...), nil
}

func (w *ruleWriter) loop(s *searcher, f *kyverno.ForEach, depth int) (string, error) {
	if f.ElementScope != nil && !*f.ElementScope {
		return "", errors.New("elementScope: false")
	}
	list, err := s.search(f.List)
	if err != nil {
		return "", err
	}
	if k := list.shape.kind(); k != listValue && k != anyValue {
		return "", errors.New("it is no list")
	}
	fields := strings.FieldsFunc(f.List, func(r rune) bool { return strings.ContainsRune(".[] ,", r) })
	item := s.bind(fields[len(fields)-1])
	defer s.unbind()
	outer, missing := s.element, s.missing
	defer func() { s.element, s.missing = outer, missing }()
	s.element = &query{expr: item, shape: list.shape.elem()}
	if err := w.addContext(s, f.Context, &check{}, false); err != nil {
		return "", err
	}
	for _, c := range f.Context {
		if c.Variable == nil {
			return "", fmt.Errorf("the variable %s is looked up", c.Name)
		}
	}
	s.missing = nil
	applies, err := s.present(f.Preconditions)
	if err != nil {
		return "", fmt.Errorf("preconditions: %w", err)
	}
	ok := always
	switch {
	case f.Deny != nil:
		denied, err := s.conditions(f.Deny.Conditions)
		if err != nil {
			return "", fmt.Errorf("deny: %w", err)
		}
		ok = not(denied)
	case f.Pattern != nil, f.AnyPattern != nil:
		var found verdicts
		found, err = w.patterns(s, subject{expr: item, shape: list.shape.elem()}, f.Pattern, f.AnyPattern)
		ok = found.admit
	case len(f.ForEach) > 0:
		ok, err = w.forEach(s, f.ForEach, depth+1)
	}
	if err != nil {
		return "", err
	}
	return all(list.list(), item, or(not(applies), ok)), nil
}
