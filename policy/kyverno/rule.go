// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/pattern"
	"sconce.dev/sconce/verdict"
)

// Load makes rules of documents: policies, and the exceptions to them. A rule that
// is generated for controllers of pods is part of the rule that was written.
func Load(docs []*object.Object, opts policy.Options) *policy.Set {
	policies, _, problems := Read(docs, opts)
	out := &policy.Set{Problems: problems}
	for _, o := range docs {
		if Handles(o.GroupKind()) && strings.HasSuffix(o.Kind, "CleanupPolicy") {
			out.Others = append(out.Others, cleanup(o))
		}
	}
	timeout := opts.Timeout
	if timeout == 0 {
		timeout = time.Second
	}
	for _, p := range policies {
		p.load(out, timeout)
	}
	return out
}

// load adds the rules of a policy to a set.
func (p *Policy) load(out *policy.Set, timeout time.Duration) {
	var mutators []*rule
	for i := range p.Spec.Rules {
		name := p.Spec.Rules[i].Name
		r := &rule{p: p, timeout: timeout, one: p.Spec.ApplyRules == "One"}
		for _, variant := range p.Rules {
			if variant.Of == name {
				r.variants = append(r.variants, variant)
			}
		}
		if len(r.variants) == 0 || r.variants[0].invalid {
			continue // what is not valid is a problem, and told as such
		}
		r.info = p.info(r.variants)
		r.slow = slices.ContainsFunc(r.variants, (*Rule).slow)
		r.outside = slices.ContainsFunc(r.variants, (*Rule).asksOutside)
		if r.variants[0].hasMutate() {
			mutators = append(mutators, r)
			continue
		}
		if r.variants[0].hasGenerate() {
			out.Others = append(out.Others, policy.Other{Info: r.info, Does: "makes objects"})
			continue
		}
		out.Rules = append(out.Rules, r)
	}
	if p.Spec.ApplyRules == "One" && len(mutators) > 1 {
		// Whether a rule is run depends on those before it.
		for _, r := range mutators[1:] {
			mutators[0].variants = append(mutators[0].variants, r.variants...)
		}
		mutators = mutators[:1]
	}
	for _, r := range mutators {
		out.Mutators = append(out.Mutators, &mutator{r})
	}
}

// cleanup is what a policy says of itself that deletes objects on a schedule.
func cleanup(o *object.Object) policy.Other {
	return policy.Other{Does: "deletes objects", Info: &policy.Info{
		Name: policy.Name(policy.Kyverno, o.Namespace, o.Name), Language: policy.Kyverno, Policy: o.Ref, Title: o.Name,
		Severity: v1alpha1.Low, Action: v1alpha1.Audit, Position: o.Position(nil),
	}}
}

// rule is a rule with what was generated from it.
type rule struct {
	p        *Policy
	variants []*Rule
	info     *policy.Info
	timeout  time.Duration
	one      bool // only the first rule of the policy that applies is run
	slow     bool // the time must be bounded
	outside  bool // it asks registries or services
}

// info is what rules of a policy say of themselves.
func (p *Policy) info(variants []*Rule) *policy.Info {
	r := variants[0]
	out := &policy.Info{
		Name: policy.Name(policy.Kyverno, p.policyName(), r.Name), Language: policy.Kyverno, Policy: p.Ref,
		Title: p.Annotations["policies.kyverno.io/title"], Description: p.Annotations["policies.kyverno.io/description"],
		Topic: p.Annotations["policies.kyverno.io/category"], Severity: v1alpha1.Medium,
		Action: p.action(r, true), FailurePolicy: v1alpha1.FailClosed, Position: r.Position,
	}
	if out.Title == "" {
		out.Title = p.Name
	}
	switch s := v1alpha1.Severity(strings.ToLower(p.Annotations["policies.kyverno.io/severity"])); s {
	case v1alpha1.Critical, v1alpha1.High, v1alpha1.Low:
		out.Severity = s
	case "info":
		out.Severity = v1alpha1.Low
	}
	failurePolicy := p.Spec.FailurePolicy
	if w := p.Spec.WebhookConfiguration; w != nil && w.FailurePolicy != "" {
		failurePolicy = w.FailurePolicy
	}
	if failurePolicy == string(v1alpha1.FailOpen) {
		out.FailurePolicy = v1alpha1.FailOpen
	}
	for _, o := range p.overrides(r) {
		out.Needs.Namespaces = out.Needs.Namespaces || o.NamespaceSelector != nil
	}
	for _, v := range variants {
		v.needs(&out.Needs)
		if out.Unsupported == "" {
			out.Unsupported = v.Unsupported
		}
	}
	return out
}

// policyName is the name of a policy in the names of its rules.
func (p *Policy) policyName() string {
	if p.namespace != "" {
		return p.namespace + "." + p.Name
	}
	return p.Name
}

// overrides are what a rule, or else its policy, says of namespaces.
func (p *Policy) overrides(r *Rule) []ActionOverride {
	if r.Validation != nil && len(r.Validation.FailureActionOverrides) > 0 {
		return r.Validation.FailureActionOverrides
	}
	return p.Spec.ValidationFailureActionOverrides
}

// ActionFor implements policy.Acting: the first override that holds for the
// object's namespace decides. Where that cannot be told the strictest does.
func (r *rule) ActionFor(q *policy.Request) v1alpha1.Action {
	namespace := q.Subject().Namespace
	for _, o := range r.p.overrides(r.variants[0]) {
		named := len(o.Namespaces) == 0 || slices.ContainsFunc(o.Namespaces, func(p string) bool { return pattern.Wildcard(p, namespace) })
		if !named {
			continue
		}
		if o.NamespaceSelector != nil {
			n, known := q.Namespace(namespace)
			if !known {
				return r.info.Action
			}
			if s, err := newSelector(o.NamespaceSelector); err != nil || n == nil || !s.matches(labelsOf(n)) {
				continue
			}
		}
		if strings.EqualFold(o.Action, "enforce") {
			return v1alpha1.Deny
		}
		return v1alpha1.Audit
	}
	return r.p.action(r.variants[0], false)
}

// labelsOf are the labels of an object.
func labelsOf(o *object.Object) map[string]string {
	out := map[string]string{}
	if all := o.Root.At("metadata", "labels"); all != nil {
		for i := range all.Fields {
			out[all.Fields[i].Key] = all.Fields[i].Value.Str()
		}
	}
	return out
}

// action is what follows where a rule fails; the strictest where that differs
// between namespaces.
func (p *Policy) action(r *Rule, strictest bool) v1alpha1.Action {
	enforced := p.enforces(r)
	if strictest {
		enforced = enforced || slices.ContainsFunc(p.overrides(r), func(o ActionOverride) bool { return strings.EqualFold(o.Action, "enforce") })
	}
	for _, c := range r.VerifyImages {
		if action, ok := c["failureAction"].(string); ok {
			enforced = strings.EqualFold(action, "enforce")
		}
	}
	switch {
	case enforced:
		return v1alpha1.Deny
	case p.Spec.EmitWarning != nil && *p.Spec.EmitWarning:
		return v1alpha1.Warn
	}
	return v1alpha1.Audit
}

// needs adds what a rule must know beside the object.
func (r *Rule) needs(out *policy.Needs) {
	filters := append(r.match.filters(), r.exclude.filters()...)
	for _, f := range filters {
		out.Namespaces = out.Namespaces || f.namespaceSelector != nil
		out.User = out.User || !f.noUser()
	}
	text := r.celText()
	out.Namespaces = out.Namespaces || strings.Contains(text, "namespaceObject")
	out.Authorizer = out.Authorizer || strings.Contains(text, "authorizer")
	out.User = out.User || strings.Contains(text, "userInfo")
	if v := r.Validation; v != nil && v.CEL != nil && v.CEL.ParamKind != nil {
		out.LookUp(object.Ref{APIVersion: v.CEL.ParamKind.APIVersion, Kind: v.CEL.ParamKind.Kind}.GroupKind())
	}
	for _, e := range r.entries() {
		switch {
		case e.ConfigMap != nil:
			out.LookUp(object.GroupKind{Kind: "ConfigMap"})
		case e.APICall != nil:
			e.APICall.needs(out)
		}
	}
	all, _ := json.Marshal(&r.RuleSpec)
	for _, word := range []string{"request.userInfo", "request.roles", "request.clusterRoles", "serviceAccountName"} {
		out.User = out.User || bytes.Contains(all, []byte(word))
	}
	if r.hasVerifyImages() && (bytes.Contains(all, []byte(`"secret":`)) || bytes.Contains(all, []byte("k8s://"))) {
		out.LookUp(object.GroupKind{Kind: "Secret"}) // public keys
	}
}

// someText stands for a variable in a path of the API: no group and no resource
// has it in its name.
const someText = "\x00"

var innermost = regexp.MustCompile(`\{\{[^{}]*\}\}`)

// needs adds what a call must know: the kind that its path names, as far as that
// is written out.
func (c *APICall) needs(out *policy.Needs) {
	if c.Service != nil || c.Method != "" && c.Method != http.MethodGet {
		out.Outside = true
		return
	}
	path := c.URLPath
	for before := ""; before != path; {
		before, path = path, innermost.ReplaceAllLiteralString(path, someText)
	}
	path, _, _ = strings.Cut(path, "?")
	switch a, ok := parseAPIPath(path); {
	case ok && !strings.Contains(a.group+a.resource, someText):
		out.LookUp(policy.KindOf(a.group, a.resource))
	case strings.Contains(path, someText):
		out.LookUp(policy.AnyKind)
	default:
		out.Outside = true // the API server tells nothing of objects there
	}
}

// entries are all entries of contexts in a rule.
func (r *Rule) entries() []ContextEntry {
	out := slices.Clone(r.Context)
	var validations func([]ForEach)
	validations = func(list []ForEach) {
		for _, f := range list {
			out = append(out, f.Context...)
			validations(f.ForEach)
		}
	}
	if r.Validation != nil {
		validations(r.Validation.ForEach)
	}
	var mutations func([]ForEachMutation)
	mutations = func(list []ForEachMutation) {
		for _, f := range list {
			out = append(out, f.Context...)
			mutations(f.ForEach)
		}
	}
	if r.Mutation != nil {
		mutations(r.Mutation.ForEach)
	}
	return out
}

// Info implements policy.Rule.
func (r *rule) Info() *policy.Info { return r.info }

// Matches implements policy.Rule.
func (r *rule) Matches(gk object.GroupKind) bool {
	return slices.ContainsFunc(r.variants, func(v *Rule) bool { return v.match.mayMatch(gk) })
}

// Asks implements policy.Asking.
func (r *rule) Asks(q policy.Requests) bool {
	return slices.ContainsFunc(r.variants, func(v *Rule) bool {
		return (q.Operation != policy.Delete || v.judgesDeletions()) &&
			slices.ContainsFunc(v.match.filters(), func(f *filter) bool { return f.asks(&q) })
	})
}

// judgesDeletions says whether a rule says anything of deletions: there is nothing
// that patterns and the Pod Security Standards could be held against.
func (r *Rule) judgesDeletions() bool {
	v := r.Validation
	return v != nil && v.Pattern == nil && v.AnyPattern == nil && v.PodSecurity == nil
}

// begin begins an evaluation of a request, bounded in time. Applies is false where
// the policy is not about it; the verdict is set where it is decided already.
func (r *rule) begin(ctx context.Context, q *policy.Request) (e *evaluation, done context.CancelFunc, v *control.Verdict, applies bool) {
	e = r.p.judging(ctx, q)
	done = func() {}
	if e.subject.unknown != "" {
		if !r.concerns(e) {
			return e, done, nil, false
		}
		out := policy.Unknown("the object is not completely known: " + e.subject.unknown)
		return e, done, &out, true
	}
	if !e.inNamespace() {
		return e, done, nil, false
	}
	switch e.p.conditions.met(e) {
	case no:
		return e, done, nil, false
	case maybe:
		out := policy.Unknown("whether the webhook of the policy is asked cannot be decided: its matchConditions depend on what is not known")
		return e, done, &out, true
	}
	switch {
	case r.outside && q.Network != nil:
		e.ctx, done = context.WithTimeout(ctx, q.Network.Limit())
	case r.slow:
		e.ctx, done = context.WithTimeout(ctx, r.timeout)
	}
	return e, done, nil, true
}

// concerns says whether a rule may be about the object of a request.
func (r *rule) concerns(e *evaluation) bool {
	return e.inNamespace() && slices.ContainsFunc(r.variants, func(v *Rule) bool {
		return e.suits(v) && matches(v.match, v.exclude, e.subject) != no
	})
}

// slow says whether a rule goes through lists, or evaluates CEL, so that its time
// must be bounded.
func (r *Rule) slow() bool {
	return r.cel != nil || r.Validation != nil && len(r.Validation.ForEach) > 0 || r.Mutation != nil && len(r.Mutation.ForEach) > 0
}

// Judge implements policy.Rule.
func (r *rule) Judge(ctx context.Context, q *policy.Request) (control.Verdict, bool) {
	e, done, v, applies := r.begin(ctx, q)
	defer done()
	if v != nil || !applies {
		return valueOf(v), applies
	}
	if r.one {
		return e.verdict(r.first(e))
	}
	if r.info.Unsupported != "" {
		if r.concerns(e) {
			return policy.Unknown(r.info.Unsupported), true
		}
		return control.Verdict{}, false
	}
	var few [2]*Response
	responses := few[:0]
	for _, variant := range r.variants {
		if !e.suits(variant) {
			continue
		}
		if out := e.run(variant); out != nil {
			responses = append(responses, out)
		}
	}
	return e.verdict(responses)
}

func valueOf(v *control.Verdict) control.Verdict {
	if v == nil {
		return control.Verdict{}
	}
	return *v
}

// first returns what a rule says where only the first rule of a policy that applies
// is run.
func (r *rule) first(e *evaluation) []*Response {
	var out []*Response
	for _, responses := range [][]Response{e.verifyImages(), e.validate()} {
		for i := range responses {
			if slices.ContainsFunc(r.variants, func(v *Rule) bool { return v.Name == responses[i].Rule }) {
				out = append(out, &responses[i])
			}
		}
	}
	return out
}

// verdict makes a verdict of responses: a rule that skips does not apply.
func (e *evaluation) verdict(responses []*Response) (control.Verdict, bool) {
	out, applies := policy.Passed(), false
	for _, r := range responses {
		if r.Status == Skip || r.Status == None {
			continue
		}
		applies = true
		if r.Status == Pass {
			continue
		}
		f := control.Finding{Outcome: verdict.Fail, Path: r.Path, Message: oneLine(r.Message)}
		if r.Status != Fail && r.Status != Warn {
			f.Outcome = verdict.Unknown
			switch {
			case r.Unknown != "":
				f.Message = oneLine(r.Unknown)
			case e.subject.secret():
				f.Message = "the rule cannot be evaluated; why not may hold values of the Secret, and is left out"
			}
		}
		if out.Outcome != verdict.Fail {
			out.Outcome = f.Outcome
		}
		for _, part := range r.Parts {
			own := f
			own.Path, own.Message = part.Path, oneLine(part.Message)
			out.Findings = append(out.Findings, e.missing(own))
		}
		if len(r.Parts) == 0 {
			out.Findings = append(out.Findings, e.missing(f))
		}
	}
	return out, applies
}

// missing notes in a finding whether the field that it is about is not there.
func (e *evaluation) missing(f control.Finding) control.Finding {
	f.Missing = e.subject.node != nil && f.Path != nil && e.subject.node.Lookup(f.Path) == nil
	return f
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// mutator is a rule that changes objects.
type mutator struct{ *rule }

// Mutate implements policy.Mutator.
func (m *mutator) Mutate(ctx context.Context, q *policy.Request) (*object.Node, control.Verdict, bool) {
	e, done, v, applies := m.begin(ctx, q)
	defer done()
	if v != nil || !applies {
		return nil, valueOf(v), applies
	}
	if e.subject.object == nil {
		return nil, control.Verdict{}, false
	}
	var changed map[string]any
	var responses []*Response
	for _, variant := range m.variants {
		out := e.run(variant)
		if out == nil {
			continue
		}
		responses = append(responses, out)
		if out.Changed != nil {
			changed = out.Changed
			e.subject = e.subject.with(changed)
		}
		if out.Status == Error || m.one && (out.Status == Pass || out.Status == Fail) {
			break
		}
	}
	verdict, applies := e.verdict(responses)
	if changed == nil {
		return nil, verdict, applies
	}
	return object.FromAny(changed), verdict, applies
}

// rolesOf returns the roles that who asks has by the bindings that are known, and
// whether these are all.
func rolesOf(r *policy.Request) (roles, clusterRoles []string, known bool) {
	if r.Cluster == nil {
		return nil, nil, false
	}
	known = true
	for _, kind := range []string{"RoleBinding", "ClusterRoleBinding"} {
		objects, all := r.Cluster.Objects(object.GroupKind{Group: rbacv1.GroupName, Kind: kind}, "")
		known = known && all
		for _, o := range objects {
			if !bound(o, r) {
				continue
			}
			ref := o.Root.Get("roleRef")
			name := ref.Get("name").Str()
			if ref.Get("kind").Str() == "Role" {
				roles = append(roles, o.Namespace+":"+name)
			} else {
				clusterRoles = append(clusterRoles, name)
			}
		}
	}
	return roles, clusterRoles, known
}

// bound says whether a binding binds who asks.
func bound(o *object.Object, r *policy.Request) bool {
	subjects := o.Root.Get("subjects")
	if subjects == nil {
		return false
	}
	return slices.ContainsFunc(subjects.Items, func(n *object.Node) bool {
		name := n.Get("name").Str()
		switch n.Get("kind").Str() {
		case rbacv1.ServiceAccountKind:
			namespace := n.Get("namespace").Str()
			if namespace == "" {
				namespace = o.Namespace
			}
			return r.User.Username == serviceAccount+namespace+":"+name
		case rbacv1.GroupKind:
			return slices.Contains(r.User.Groups, name)
		case rbacv1.UserKind:
			return r.User.Username == name
		}
		return false
	})
}
