// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/kyverno/pattern"
	"sconce.dev/sconce/policy/kyverno/podsecurity"
)

// body is what a validation, or one foreach of it, checks.
type body struct {
	rule       *Rule
	list       string
	lists      [][]string // the steps to the lists that the elements stand in, one after another
	scoped     *bool
	context    []ContextEntry
	conditions any // preconditions, of a foreach only
	deny       any
	denies     bool
	pattern    *patternCheck
	anyPattern []*patternCheck
	isAny      bool
	each       []*body
	at         object.Path // in the policy
	passed     *Response   // what is said where all is well
}

// patternCheck is a pattern: compiled where it has no variables.
type patternCheck struct {
	tree     any
	compiled *pattern.Pattern
}

func newPattern(tree any) (*patternCheck, error) {
	if jmes.HasVariables(tree) {
		return &patternCheck{tree: tree}, nil
	}
	compiled, err := pattern.Compile(tree)
	return &patternCheck{tree, compiled}, err
}

// in returns the pattern with the variables of a scope.
func (c *patternCheck) in(s *scope) (*pattern.Pattern, error) {
	if c.compiled != nil {
		return c.compiled, nil
	}
	tree, err := jmes.Substitute(c.tree, s)
	if err != nil {
		return nil, err
	}
	return pattern.Compile(tree)
}

// compile prepares what a rule does. What cannot be prepared makes it unsupported.
func (r *Rule) compile(p *Policy) {
	if r.Unsupported != "" {
		// What it may be about is still to be known.
		if r.Match.check("match") == nil && (r.Exclude == nil || r.Exclude.check("exclude") == nil) {
			r.match = r.Match.compile()
		} else {
			r.match = &matcher{invalid: true}
		}
		return
	}
	r.match = r.Match.compile()
	if !r.Exclude.isEmpty() {
		r.exclude = r.Exclude.compile()
	}
	var err error
	switch {
	case r.hasMutate():
		err = r.compileMutation()
	case r.hasGenerate():
		r.check = r.generate
	case r.hasVerifyImages():
		err = r.compileImages()
	default:
		err = r.compileValidation(p)
	}
	if err != nil {
		r.Unsupported = err.Error()
	}
}

func (r *Rule) compileValidation(p *Policy) error {
	v := r.Validation
	switch {
	case v.PodSecurity != nil:
		return r.compilePodSecurity(p)
	case v.CEL != nil:
		return r.compileCEL(p)
	case v.Assert != nil:
		return errors.New("validate.assert, a tree of assertions, is not supported")
	}
	b, err := r.body(ForEach{Pattern: v.Pattern, AnyPattern: v.AnyPattern, Deny: v.Deny, ForEach: v.ForEach}, r.at("validate"))
	if err != nil {
		return err
	}
	r.check = r.enforced(p, func(s *scope, _ []*Exception) *Response { return b.validate(s, 0) })
	return nil
}

// body prepares a foreach, or the validation itself.
func (r *Rule) body(f ForEach, at object.Path) (*body, error) {
	out := &body{rule: r, at: at, list: f.List, lists: elementPaths(f.List), scoped: f.ElementScope, context: f.Context, conditions: f.Preconditions}
	out.passed = &Response{Type: TypeValidate, Status: Pass, Message: "the rule is met"}
	if f.Deny != nil {
		out.denies, out.deny = true, f.Deny.Conditions
	}
	var err error
	if f.Pattern != nil {
		if out.pattern, err = newPattern(f.Pattern); err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
	}
	if list, ok := f.AnyPattern.([]any); ok {
		out.isAny = true
		for i, tree := range list {
			c, err := newPattern(tree)
			if err != nil {
				return nil, fmt.Errorf("anyPattern[%d]: %w", i, err)
			}
			out.anyPattern = append(out.anyPattern, c)
		}
	}
	for i, inner := range f.ForEach {
		b, err := r.body(inner, at.Append(object.Step{Field: "foreach"}, object.Step{Item: true, Index: i}))
		if err != nil {
			return nil, err
		}
		out.each = append(out.each, b)
	}
	return out, nil
}

// enforces says whether a failure of a rule is to be denied.
func (p *Policy) enforces(r *Rule) bool {
	action := p.Spec.ValidationFailureAction
	if r.Validation != nil && r.Validation.FailureAction != "" {
		action = r.Validation.FailureAction
	}
	return strings.EqualFold(action, "enforce")
}

// validate checks an object or an element. It returns nil where the check says
// nothing.
func (b *body) validate(s *scope, nesting int) *Response {
	if nesting > 0 {
		s.add(b.context)
		if b.conditions != nil {
			if s.e.p.coverage != nil {
				s.cover(b.at.Fields("preconditions"), b.conditions)
			}
			holds, message, err := jmes.Conditions(b.conditions, s)
			if err != nil {
				if out := failed(TypeValidate, "evaluating the preconditions", err); out.Unknown != "" {
					return out
				}
				return &Response{Status: Skip, Message: err.Error()}
			}
			if !holds {
				return &Response{Status: Skip, Message: joined("preconditions not met", message)}
			}
		}
	}
	switch {
	case b.denies:
		return b.validateDeny(s)
	case b.pattern != nil || b.isAny:
		return b.validatePatterns(s)
	case b.each != nil:
		return b.validateEach(s, nesting)
	}
	return nil
}

// enforced makes a check lenient where the rule is enforced and says nothing else.
func (r *Rule) enforced(p *Policy, c check) check {
	if allow := r.Validation.AllowExistingViolations; p.enforces(r) && (allow == nil || *allow) {
		return r.lenient(c)
	}
	return c
}

// lenient is a check for a rule that is enforced: an update of what did not hold
// before is let through.
func (r *Rule) lenient(c check) check {
	return func(s *scope, excused []*Exception) *Response {
		out := c(s, excused)
		subject := s.e.subject
		update := subject.object != nil && subject.old != nil || subject.operation == policy.Update
		if !update || out == nil || out.Status != Fail {
			return out
		}
		if subject.operation != policy.Update || subject.old == nil {
			return &Response{Status: Skip, Message: "the old object cannot be validated"}
		}
		if prior := s.e.before().prior(r, c); prior != nil && prior.Status == Fail {
			return &Response{Status: Skip, Message: "the object did not hold before either: existing violations are allowed"}
		}
		return out
	}
}

// nobody is who Kyverno takes to have made the old object.
var nobody = &authenticationv1.UserInfo{Username: "kyverno:kyverno-invalid-controller", UID: "kyverno:invaliduid", Groups: []string{"kyverno:invalidgroup"}}

// before is the evaluation of the old object, as if it were created.
func (e *evaluation) before() *evaluation {
	old := *e.subject
	old.object, old.old, old.operation, old.subresource = e.subject.old, nil, policy.Create, ""
	old.who = who{user: nobody, userKnown: true, rolesKnown: true}
	old.derive()
	base := maps.Clone(e.subject.base())
	request := withField(base["request"], "object", floats(old.object))
	request["oldObject"], request["operation"] = nil, string(policy.Create)
	base["request"] = request
	old.base = func() map[string]any { return base }
	out := *e
	out.subject = &old
	return &out
}

// prior is what a check says of the old object; nil where the rule is not about it.
// A rule with preconditions is about no old object: Kyverno (1.19) does not get
// through reading them there, and takes the old object for one that does not match.
func (e *evaluation) prior(r *Rule, c check) *Response {
	if r.Preconditions != nil || matches(r.match, r.exclude, e.subject) != yes {
		return nil
	}
	s := e.scope(r)
	s.add(r.Context)
	return c(s, nil)
}

// validateDeny fails if its conditions hold.
func (b *body) validateDeny(s *scope) *Response {
	if s.e.p.coverage != nil {
		s.cover(b.at.Fields("deny", "conditions"), b.deny)
	}
	var reads []string
	s.reads = &reads
	holds, message, err := true, "", error(nil)
	if b.deny != nil {
		holds, message, err = jmes.Conditions(b.deny, s)
	}
	s.reads = nil
	if err != nil {
		return failed(TypeValidate, "evaluating the conditions of deny", err)
	}
	if !holds {
		return b.passed
	}
	out := &Response{Status: Fail, Message: b.denyMessage(s, message), Path: s.evidence(reads)}
	switch {
	case out.Path != nil:
	case s.at != nil:
		out.Path = s.e.subject.path(s.at)
	case b.rule.Preconditions != nil:
		// The conditions are always met: what denies is why the rule applies.
		reads = nil
		s.reads = &reads
		_, _, _ = jmes.Conditions(b.rule.Preconditions, s)
		s.reads = nil
		out.Path = s.evidence(reads)
	}
	return out
}

func (b *body) denyMessage(s *scope, message string) string {
	text := joined(b.rule.Validation.Message, message)
	if text == "" {
		return "the conditions of deny are met"
	}
	if !jmes.HasVariables(text) || s.e.subject.secret() {
		return text
	}
	if v, err := jmes.Substitute(text, s); err == nil {
		if out, ok := v.(string); ok {
			return out
		}
	}
	return text
}

// validatePatterns matches the object, or the element, with patterns.
func (b *body) validatePatterns(s *scope) *Response {
	resource := any(s.e.subject.object)
	if s.hasElement {
		resource = s.element
	} else if s.e.subject.operation == policy.Delete {
		return nil
	}
	if b.pattern != nil {
		return b.matchPattern(s, resource)
	}
	return b.matchAny(s, resource)
}

func (b *body) matchPattern(s *scope, resource any) *Response {
	p, err := b.pattern.in(s)
	if err != nil {
		return failed(TypeValidate, "putting variables into the pattern", err)
	}
	m := p.Match(resource)
	switch {
	case m == nil:
		return b.passed
	case m.Skip:
		return &Response{Status: Skip, Message: m.Message}
	case m.Path == nil:
		return &Response{Status: Error, Message: b.message(s, m)}
	}
	return &Response{Status: Fail, Message: b.message(s, m), Path: b.place(s, m)}
}

func (b *body) place(s *scope, m *pattern.Mismatch) object.Path {
	if s.hasElement {
		if s.at == nil {
			return nil
		}
		return s.e.subject.path(append(slices.Clone(s.at), m.Path...))
	}
	return s.e.subject.path(m.Path)
}

// matchAny passes if one of the patterns matches.
func (b *body) matchAny(s *scope, resource any) *Response {
	var skipped, failures []string
	var place object.Path
	for i, c := range b.anyPattern {
		p, err := c.in(s)
		if err != nil {
			return failed(TypeValidate, "putting variables into the patterns", err)
		}
		m := p.Match(resource)
		if s.e.p.coverage != nil {
			b.coverAny(s, i, m == nil)
		}
		switch {
		case m == nil:
			return &Response{Status: Pass, Message: fmt.Sprintf("anyPattern[%d] matches", i)}
		case m.Skip:
			skipped = append(skipped, fmt.Sprintf("rule %s[%d] skipped: %s", b.rule.Name, i, m.Message))
			continue
		case m.Path == nil:
			failures = append(failures, m.Message)
		default:
			failures = append(failures, fmt.Sprintf("anyPattern[%d]: %s", i, m.Message))
		}
		if at := b.place(s, m); len(at) > len(place) {
			place = at
		}
	}
	switch {
	case len(failures) > 0:
		return &Response{Status: Fail, Message: b.anyMessage(s, failures), Path: place}
	case len(skipped) > 0:
		return &Response{Status: Skip, Message: strings.Join(skipped, " ")}
	}
	return &Response{Status: Pass, Message: b.rule.Validation.Message}
}

// ruleMessage is the message of the rule, with its variables, and whether they all
// have values.
func (b *body) ruleMessage(s *scope) (string, bool) {
	text := b.rule.Validation.Message
	if !jmes.HasVariables(text) || s.e.subject.secret() {
		return text, true
	}
	v, err := jmes.Substitute(text, s)
	out, ok := v.(string)
	return out, err == nil && ok
}

func (b *body) message(s *scope, m *pattern.Mismatch) string {
	text, ok := b.ruleMessage(s)
	switch {
	case s.e.subject.secret() && s.hasElement:
		return cmp.Or(text, "an element does not match the pattern")
	case !ok || text == "":
		return m.Message
	case m.Path == nil:
		return strings.TrimSuffix(text, ".") + ": " + m.Message
	}
	return text
}

// anyMessage is what is said where none of the patterns matches: what the rule says,
// or why each does not.
func (b *body) anyMessage(s *scope, failures []string) string {
	if text, ok := b.ruleMessage(s); ok && text != "" {
		return text
	}
	if s.e.subject.secret() && s.hasElement {
		return "no pattern matches an element"
	}
	return "no pattern matches: " + strings.Join(failures, "; ")
}

// elements are the elements of a list: what is no list is its only one.
func (s *scope) elements(list string) ([]any, error) {
	v, err := s.Query(list)
	if err != nil {
		return nil, err
	}
	if items, ok := v.([]any); ok {
		return items, nil
	}
	return []any{v}, nil
}

// validateEach checks the elements of each list. It says nothing if there are
// none.
func (b *body) validateEach(s *scope, nesting int) *Response {
	count := 0
	var listErr error
	for _, each := range b.each {
		elements, err := s.elements(each.list)
		if err != nil {
			if isUnknown(err) {
				return failed(TypeValidate, "evaluating the list "+each.list, err)
			}
			if !jmes.IsNotFound(err) {
				listErr = err
			}
			continue
		}
		out, n := each.validateElements(s, elements, nesting)
		if out != nil {
			return out
		}
		count += n
	}
	switch {
	case count > 0:
		return &Response{Status: Pass, Message: "rule passed"}
	case listErr != nil:
		return failed(TypeValidate, "evaluating a list", listErr)
	}
	return nil
}

// validateElements returns what fails among elements, nil if nothing does, and how
// many hold.
func (b *body) validateElements(outer *scope, elements []any, nesting int) (*Response, int) {
	count := 0
	for i, element := range elements {
		if element == nil {
			continue
		}
		if outer.e.ctx.Err() != nil {
			return failed(TypeValidate, "going through a list", errTime), count
		}
		s := outer.inner()
		s.addElement(element, i, nesting)
		s.at = nil
		if steps := b.elementSteps(outer, i); steps != nil {
			s.at = steps
		}
		object, isMap := element.(map[string]any)
		scoped := isMap
		if b.scoped != nil {
			if *b.scoped && !isMap {
				return &Response{Status: Error, Message: "elementScope is set, but an element is not a map"}, count
			}
			scoped = *b.scoped
		}
		if scoped {
			s.element, s.hasElement = object, object != nil
		}
		out := b.validate(s, nesting+1)
		switch {
		case out == nil, out.Status == Skip:
		case out.Status == Pass:
			count++
		default:
			if out.Path == nil && s.at != nil {
				out.Path = s.e.subject.path(s.at)
			}
			return out, count
		}
	}
	return nil, count
}

// elementSteps are the steps to an element of a list, if they are known.
func (b *body) elementSteps(outer *scope, i int) []string {
	lists, from := b.lists, []string(nil)
	if lists == nil {
		rest, ok := strings.CutPrefix(strings.TrimSpace(b.list), "element.")
		if !ok || outer.at == nil {
			return nil
		}
		lists, from = elementPaths("request.object."+rest), outer.at
	}
	for j, steps := range lists {
		steps = append(slices.Clone(from), steps...)
		n := itemsAt(outer.e.subject.object, steps)
		if i < n || j == len(lists)-1 {
			return append(steps, fmt.Sprint(i))
		}
		i -= n
	}
	return nil
}

// itemsAt is how many items the list has to which steps lead.
func itemsAt(tree any, steps []string) int {
	for _, step := range steps {
		switch t := tree.(type) {
		case map[string]any:
			tree = t[step]
		case []any:
			i := itemNumber(step)
			if i < 0 || i >= len(t) {
				return 0
			}
			tree = t[i]
		default:
			return 0
		}
	}
	items, _ := tree.([]any)
	return len(items)
}

var errTime = errors.New("the time for the rule has run out")

// compilePodSecurity prepares a level of the Pod Security Standards.
func (r *Rule) compilePodSecurity(p *Policy) error {
	ps := r.Validation.PodSecurity
	standard, err := podsecurity.Compile(ps.Level, ps.Version, excludes(ps.Exclude))
	if err != nil {
		return fmt.Errorf("validate.podSecurity: %w", err)
	}
	r.standard = standard
	r.check = r.enforced(p, r.validatePodSecurity)
	return nil
}

func excludes(list []PodSecurityCheck) []podsecurity.Exclude {
	out := make([]podsecurity.Exclude, len(list))
	for i, c := range list {
		out[i] = podsecurity.Exclude{ControlName: c.ControlName, Images: c.Images, RestrictedField: c.RestrictedField, Values: c.Values}
	}
	return out
}

// validatePodSecurity judges the pod by a standard.
func (r *Rule) validatePodSecurity(s *scope, excused []*Exception) *Response {
	subject := s.e.subject
	if subject.operation == policy.Delete {
		return nil
	}
	pod, err := subject.pod()
	if err != nil {
		return failed(TypeValidate, "reading the pod", err)
	}
	violations := r.standard.Evaluate(pod)
	if len(violations) == 0 {
		return &Response{Status: Pass, Message: "the rule is met"}
	}
	var names []string
	var exempt []podsecurity.Exclude
	for _, x := range excused {
		exempt = append(exempt, excludes(x.Spec.PodSecurity)...)
		names = append(names, strings.TrimPrefix(x.Namespace+"/"+x.Name, "/"))
	}
	if len(exempt) > 0 {
		if violations = r.standard.Exempt(pod, violations, exempt); len(violations) == 0 {
			return &Response{Status: Skip, Message: "rule is skipped due to policy exceptions " + strings.Join(names, ", "), Exceptions: names}
		}
	}
	return r.violated(subject, violations)
}

// violated is the response for violations of a standard.
func (r *Rule) violated(s *subject, violations []podsecurity.Violation) *Response {
	out := &Response{Status: Fail}
	var texts []string
	for _, v := range violations {
		part := Part{Message: v.Control + ": " + cmp.Or(v.Detail, v.Reason)}
		if len(v.Fields) > 0 {
			part.Path = s.path(v.Fields[0].Path)
		}
		texts = append(texts, part.Message)
		out.Parts = append(out.Parts, part)
	}
	out.Path, out.Message = out.Parts[0].Path, strings.Join(texts, "; ")
	return out
}
