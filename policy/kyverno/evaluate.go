// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

// evaluation is one request judged by one policy. It is not shared.
type evaluation struct {
	ctx     context.Context
	p       *Policy
	request *policy.Request
	options *EvaluateOptions
	subject *subject
	env     jmes.Env
	depth   int
	scopes  int
}

var noOptions = &EvaluateOptions{}

// judging begins the evaluation of a request of which what is not told is unknown.
func (p *Policy) judging(ctx context.Context, r *policy.Request) *evaluation {
	return &evaluation{ctx: ctx, p: p, request: r, options: noOptions, subject: subjectOf(r), env: jmes.Env{Now: r.Now}}
}

// Evaluate says what Kyverno's command line would say of a request: one response
// for each rule that is about it, in the order in which Kyverno runs them: rules
// that mutate, that verify images, that validate, and that generate. What is not
// told is not there.
func (p *Policy) Evaluate(ctx context.Context, r *policy.Request, o EvaluateOptions) []Response {
	return Evaluate(ctx, []*Policy{p}, r, func(*Policy) EvaluateOptions { return o })
}

// Evaluate is Policy.Evaluate for several policies, which see what those before
// them have changed: all that mutate come before any that validates.
func Evaluate(ctx context.Context, policies []*Policy, r *policy.Request, options func(*Policy) EvaluateOptions) []Response {
	var out []Response
	var changed map[string]any
	for _, phase := range []func(*evaluation) []Response{(*evaluation).mutate, (*evaluation).verifyImages, (*evaluation).validate, (*evaluation).generate} {
		for _, p := range policies {
			e := p.testing(ctx, r, options(p), changed)
			if !e.about() {
				continue
			}
			responses := phase(e)
			for i := range responses {
				if responses[i].Changed != nil {
					changed = responses[i].Changed
				}
			}
			out = append(out, responses...)
		}
	}
	return out
}

// testing begins the evaluation of a request as a test gives it.
func (p *Policy) testing(ctx context.Context, r *policy.Request, o EvaluateOptions, changed map[string]any) *evaluation {
	s := &subject{request: r, operation: r.Operation, subresource: r.Subresource}
	s.who.userKnown, s.who.rolesKnown = true, true
	s.who.user, s.who.roles, s.who.clusterRoles = o.User, o.Roles, o.ClusterRoles
	if s.who.user == nil {
		s.who.user = r.User
	}
	s.given, s.givenKnown = o.NamespaceLabels, true
	if about := r.Subject(); about != nil {
		s.node = about.Root
	}
	if r.Object != nil {
		s.object = r.Tree(r.Object)
	}
	if changed != nil {
		s.object = changed
	}
	if r.Old != nil {
		s.old = r.Tree(r.Old)
	}
	s.shape(o.Variables)
	s.derive()
	base := map[string]any{"request": s.testRequest()}
	e := &evaluation{ctx: ctx, p: p, request: r, options: &o, subject: s, env: jmes.Env{Now: r.Now, Random: pseudoRandom()}}
	if w := &s.who; !w.none() {
		name := ""
		if w.user != nil {
			name = w.user.Username
		}
		addServiceAccount(base, name)
	}
	s.base = func() map[string]any { return base }
	e.addVariables()
	for _, sub := range o.Subresources {
		if s.gvk == schema.FromAPIVersionAndKind(sub.APIVersion, sub.Kind) {
			s.gvk, s.subresource = schema.FromAPIVersionAndKind(sub.Parent, sub.ParentKind), sub.Name
			break
		}
	}
	return e
}

// shape makes the request that an operation among the variables asks for.
func (s *subject) shape(variables map[string]any) {
	if op, ok := variables["request.operation"].(string); ok && (s.operation == "" || s.operation == policy.Create) {
		s.operation = policy.Operation(op)
	}
	switch s.operation {
	case policy.Update:
		if s.old == nil {
			s.old = s.object
		}
	case policy.Delete:
		if s.old == nil {
			s.old = s.object
		}
		s.object = nil
	case "":
		s.operation = policy.Create
	}
	if s.operation == policy.Connect {
		// Kyverno's command line knows no requests that connect.
		s.operation = policy.Create
	}
}

// testRequest is the variable request, as Kyverno's command line has it.
func (s *subject) testRequest() map[string]any {
	out := map[string]any{"operation": string(s.operation), "namespace": s.namespace}
	if s.object == nil {
		out["namespace"] = ""
	} else {
		out["object"] = floats(s.object)
	}
	if s.old != nil {
		out["oldObject"] = floats(s.old)
	}
	addUser(out, &s.who)
	return out
}

// addVariables adds the variables of a test, which may stand in the object too.
func (e *evaluation) addVariables() {
	s := e.subject
	base := s.base()
	scope := &scope{e: e, root: base, owned: true}
	for _, name := range sortedKeys(e.options.Variables) {
		if name == "request.operation" && e.options.Variables[name] == "" {
			continue
		}
		_ = scope.set(name, floats(e.options.Variables[name]))
	}
	s.base = func() map[string]any { return base }
	request, _ := base["request"].(map[string]any)
	for name, tree := range map[string]*map[string]any{"object": &s.object, "oldObject": &s.old} {
		if _, given := request[name]; given && *tree != nil && e.gives("request."+name) {
			*tree, _ = request[name].(map[string]any)
		}
	}
	s.derive()
}

// gives says whether a test gives values inside a variable.
func (e *evaluation) gives(name string) bool {
	for given := range e.options.Variables {
		if given == name || strings.HasPrefix(given, name+".") {
			return true
		}
	}
	return false
}

// addRuleVariables adds the variables that a test has for the rule that is run.
func (e *evaluation) addRuleVariables(s *scope) {
	if len(e.options.RuleVariables) == 0 && len(e.options.ForEach) == 0 {
		return
	}
	for _, prefix := range []string{"autogen-cronjob-", "autogen-", ""} {
		name, ok := strings.CutPrefix(s.rule.Name, prefix)
		if !ok {
			continue
		}
		values, each := e.options.RuleVariables[name], e.options.ForEach[name]
		if values == nil && each == nil {
			continue
		}
		for _, k := range sortedKeys(values) {
			_ = s.set(k, floats(values[k]))
		}
		for _, k := range sortedKeys(each) {
			if len(each[k]) > 0 {
				_ = s.set(k, floats(each[k][0]))
			}
		}
		return
	}
}

// about says whether the policy is about the request at all.
func (e *evaluation) about() bool {
	return e.inNamespace() && e.p.conditions.met(e) != no
}

// inNamespace says whether the object is in the namespace of a Policy.
func (e *evaluation) inNamespace() bool {
	return e.p.namespace == "" || e.subject.namespace == e.p.namespace || e.subject.dark.namespace
}

// rules runs those rules of a policy that a test picks, until one has applied where
// the policy says that one is enough.
func (e *evaluation) rules(picked func(*Rule) bool, run func(*Rule) *Response) []Response {
	var out []Response
	for _, r := range e.p.Rules {
		if !picked(r) {
			continue
		}
		response := run(r)
		if response == nil {
			continue
		}
		named := *response
		named.Policy, named.Rule = e.p.Name, r.Name
		e.p.coverRule(r, named.Status)
		if named.Status == Fail && e.p.Annotations["policies.kyverno.io/scored"] == "false" && !e.subject.strict {
			named.Status = Warn
		}
		out = append(out, named)
		if e.p.Spec.ApplyRules == "One" && (response.Status == Pass || response.Status == Fail) {
			break
		}
	}
	return out
}

// validates says whether a rule is run in the phase of validation on the object: a
// generated rule is for its own kinds only.
func (e *evaluation) validates(r *Rule) bool {
	return r.hasValidate() && e.suits(r)
}

// suits says whether a rule is run for objects of the kind: a rule that validates
// and was generated is for its own controllers only.
func (e *evaluation) suits(r *Rule) bool {
	return r.controllers == nil || !r.hasValidate() || slices.Contains(r.controllers, e.subject.gvk.Kind)
}

func (e *evaluation) validate() []Response {
	return e.rules(e.validates, e.run)
}

// run runs one rule if it is about the request; nil if it is not.
func (e *evaluation) run(r *Rule) *Response {
	about := matches(r.match, r.exclude, e.subject)
	if about == no {
		return nil
	}
	out := e.apply(r)
	if out == nil || about == yes || out.Status == Pass || out.Status == Skip {
		return out
	}
	if out.Unknown == "" {
		out.Unknown = "whether the rule is about the request depends on who asks or on the labels of the namespace, which are not known; if it is: " + out.Message
	}
	out.Status = Error
	return out
}

// apply runs one rule that is about the request: its context, its preconditions,
// the exceptions to it, and then what it does.
func (e *evaluation) apply(r *Rule) *Response {
	kind := r.kind()
	if r.Unsupported != "" {
		return &Response{Type: kind, Status: Error, Message: r.Unsupported, Unknown: r.Unsupported}
	}
	s := e.scope(r)
	s.add(r.Context)
	if r.Preconditions != nil {
		if e.p.coverage != nil {
			s.cover(r.at("preconditions"), r.Preconditions)
		}
		holds, message, err := jmes.Conditions(r.Preconditions, s)
		if err != nil {
			return failed(kind, "evaluating the preconditions", err)
		}
		if !holds {
			return &Response{Type: kind, Status: Skip, Message: joined("preconditions not met", message)}
		}
	}
	excused, names, err := e.excused(r, s)
	if err != nil {
		return failed(kind, "evaluating an exception", err)
	}
	if len(excused) > 0 && (r.Validation == nil || r.Validation.PodSecurity == nil || !exemptOnly(excused)) {
		return &Response{Type: kind, Status: Skip, Message: "rule is skipped due to policy exceptions " + strings.Join(names, ", "), Exceptions: names}
	}
	out := r.check(s, excused)
	if out != nil && out.Type != kind {
		out.Type = kind
	}
	return out
}

// check is what a rule does where it is about the request. Who calls it does not
// change what it returns, but for the type.
type check func(s *scope, excused []*Exception) *Response

// kind is the type of a rule.
func (s *RuleSpec) kind() string {
	switch {
	case s.hasMutate():
		return TypeMutate
	case s.hasGenerate():
		return TypeGenerate
	case s.hasVerifyImages():
		return TypeVerifyImages
	}
	return TypeValidate
}

// failed is the response where a rule cannot be evaluated.
func failed(kind, doing string, err error) *Response {
	out := &Response{Type: kind, Status: Error, Message: fmt.Sprintf("%s: %s", doing, err)}
	if unknown := (*jmes.UnknownError)(nil); errors.As(err, &unknown) {
		out.Unknown = unknown.Error() // what is missing, and not where it was needed
	}
	return out
}

func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
}

// excused returns the exceptions that excuse the request from a rule.
func (e *evaluation) excused(r *Rule, s *scope) (out []*Exception, names []string, err error) {
	for _, list := range [][]*Exception{e.p.Exceptions, e.options.Exceptions} {
		for _, x := range list {
			if slices.Contains(out, x) || !x.Excuses(e.p, r.Name) {
				continue
			}
			switch x.match.excepts(e.subject) {
			case no:
				continue
			case maybe:
				return nil, nil, &jmes.UnknownError{What: fmt.Sprintf("whether the exception %s is about the request: who asks, or the labels of the namespace", x.Name)}
			}
			if x.Spec.Conditions != nil {
				holds, _, err := jmes.Conditions(x.Spec.Conditions, s)
				if isUnknown(err) {
					return nil, nil, err
				}
				if err != nil || !holds {
					continue
				}
			}
			out = append(out, x)
			names = append(names, strings.TrimPrefix(x.Namespace+"/"+x.Name, "/"))
		}
	}
	return out, names, nil
}

// exemptOnly says whether exceptions leave out no more than controls of the Pod
// Security Standards.
func exemptOnly(list []*Exception) bool {
	return !slices.ContainsFunc(list, func(x *Exception) bool { return len(x.Spec.PodSecurity) == 0 })
}

// pseudoRandom returns numbers that are the same in each run: a test that depends
// on chance is none.
func pseudoRandom() func() uint64 {
	state := uint64(1)
	return func() uint64 {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		return state
	}
}

// mutate runs the rules that mutate, each on what those before it have left. Where
// one cannot be evaluated, Kyverno has nothing left to change.
func (e *evaluation) mutate() []Response {
	broken := false
	return e.rules(func(r *Rule) bool { return r.hasMutate() && !broken }, func(r *Rule) *Response {
		out := e.run(r)
		if out != nil && out.Changed != nil {
			e.subject = e.subject.with(out.Changed)
		}
		broken = out != nil && out.Status == Error
		return out
	})
}

// elementPaths are where the elements of a list stand, if the expression of the
// list is a plain path into the object, or names several lists of one field after
// another, as in spec.[initContainers, containers][]: the steps to each list.
func elementPaths(list string) [][]string {
	before, inside, ok := strings.Cut(strings.TrimSpace(list), ".[")
	if !ok {
		if steps := elementPath(list); steps != nil {
			return [][]string{steps}
		}
		return nil
	}
	inside, ok = strings.CutSuffix(inside, "][]")
	if !ok {
		return nil
	}
	var out [][]string
	for field := range strings.SplitSeq(inside, ",") {
		steps := elementPath(before + "." + strings.TrimSpace(field))
		if steps == nil {
			return nil
		}
		out = append(out, steps)
	}
	return out
}

// elementPath is where the elements of one list stand.
func elementPath(list string) []string {
	rest, ok := strings.CutPrefix(strings.TrimSpace(list), "request.object.")
	if !ok || strings.ContainsAny(rest, "@&|(){}*?`'\"! \t\n,:") {
		return nil
	}
	rest = strings.TrimSuffix(rest, "[]")
	if strings.ContainsAny(rest, "[]") {
		return nil
	}
	return strings.Split(rest, ".")
}

// evidence is where an expression reads the object: the first plain path in one of
// the expressions, as far as the object goes.
func (s *scope) evidence(reads []string) object.Path {
	best := object.Path(nil)
	for _, expr := range reads {
		if p := s.e.subject.path(s.plainPath(expr)); len(p) > len(best) {
			best = p
		}
	}
	return best
}

// plainPath returns the steps of the first plain path into the object that an
// expression names, directly or by its element.
func (s *scope) plainPath(expr string) []string {
	for _, root := range []struct {
		name  string
		steps []string
	}{{"request.object.", nil}, {"element.", s.at}} {
		if root.name == "element." && s.at == nil {
			continue
		}
		i := strings.Index(expr, root.name)
		if i < 0 || i > 0 && (isWord(expr[i-1]) || expr[i-1] == '.') {
			continue
		}
		return append(slices.Clone(root.steps), leadingFields(expr[i+len(root.name):])...)
	}
	switch {
	case s.at != nil && names(expr, "element"):
		return s.at
	case names(expr, "images"):
		return s.imagePath(expr)
	}
	return nil
}

// imagePath returns the steps to the first list of containers of those whose images
// an expression names, or to the image where there is only one.
func (s *scope) imagePath(expr string) []string {
	steps := podSteps(s.e.subject.kind)
	if steps == nil {
		return nil
	}
	for _, list := range containerLists {
		at := append(slices.Clip(steps), list)
		n := itemsAt(s.e.subject.object, at)
		switch {
		case n == 0 || !names(expr, list) && !strings.Contains(expr, "images."+list):
		case n == 1:
			return append(at, "0", "image")
		default:
			return at
		}
	}
	return append(steps, "containers")
}

// leadingFields are the fields and numbers at the beginning of a path.
func leadingFields(expr string) []string {
	var out []string
	for expr != "" {
		end := strings.IndexFunc(expr, func(r rune) bool { return !(r == '_' || r == '-' || r < 128 && isNameByte(byte(r))) })
		if end < 0 {
			end = len(expr)
		}
		if end == 0 {
			if quoted, ok := strings.CutPrefix(expr, `"`); ok {
				field, rest, ok := strings.Cut(quoted, `"`)
				if !ok {
					return out
				}
				out, expr = append(out, field), strings.TrimPrefix(rest, ".")
				continue
			}
			return out
		}
		if strings.HasPrefix(expr[end:], "(") {
			return out // a function
		}
		out, expr = append(out, expr[:end]), expr[end:]
		if number, rest, ok := strings.Cut(expr, "]"); ok && strings.HasPrefix(number, "[") && itemNumber(number[1:]) >= 0 {
			out, expr = append(out, number[1:]), rest
		}
		if !strings.HasPrefix(expr, ".") {
			return out
		}
		expr = expr[1:]
	}
	return out
}
