// SPDX-License-Identifier: Apache-2.0

// Package engine holds objects against a baseline. Judge is the pure function
// at its heart: one object in, its findings out; it reads no clock and does no
// I/O. Run drives it over a stream of sources: in parallel, in bounded memory,
// and with results in the order of the sources whatever the timing.
//
// It does not know where objects come from or how findings are shown.
package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// Engine judges objects by the rules of a baseline. It is safe for concurrent
// use.
type Engine struct {
	rules      []*baseline.Rule
	exceptions *baseline.Exceptions
	baseline   *baseline.Baseline
	env        *facts.Env
	singles    []facts.Single // those that a rule needs
	wholes     []facts.Whole
	gathered   gathers // what rules of policies need of other objects
	policies   bool    // some rule is one of a policy

	counts sync.Pool // of *[]verdict.Counts, one for each rule, all zero

	mu     sync.RWMutex
	byKind map[object.GroupKind]*ofKind
}

// New returns an engine for a baseline. Ages and ends of life are those of the
// day; a zero day leaves them unknown.
func New(b *baseline.Baseline, x *baseline.Exceptions, today time.Time) *Engine {
	e := &Engine{
		rules: b.Rules, exceptions: x, baseline: b, byKind: map[object.GroupKind]*ofKind{},
		env: &facts.Env{Minor: b.Version.Minor(), Patch: b.Version.Patch(), Named: b.Named, Today: today, Complete: b.Complete},
	}
	e.gathered = gathering(e.rules)
	e.policies = slices.ContainsFunc(e.rules, func(r *baseline.Rule) bool { return r.Policy != nil })
	for _, s := range all.Singles {
		if e.needs(s.Kinds) {
			e.singles = append(e.singles, s)
		}
	}
	for _, w := range all.Wholes {
		if e.needs(w.Kinds) {
			if w.KeepFor != nil {
				w.Keep = w.KeepFor(e.env)
			}
			e.wholes = append(e.wholes, w)
		}
	}
	return e
}

// needs says whether a rule is about one of the kinds of facts.
func (e *Engine) needs(kinds []string) bool {
	return slices.ContainsFunc(e.rules, func(r *baseline.Rule) bool {
		return slices.ContainsFunc(kinds, func(kind string) bool {
			return r.Matches(object.GroupKind{Group: facts.Group, Kind: kind})
		})
	})
}

// Result is what the rules say of one object.
type Result struct {
	Object *object.Object
	// Outcomes are the verdicts of those rules that match the object's kind,
	// by the rule's index in the baseline.
	Outcomes []RuleOutcome
	Findings []verdict.Finding
	Notices  []verdict.Notice
	// Cut says that not all rules were run: see JudgeWhile.
	Cut bool

	ctx       context.Context //nolint:containedctx // it ends what rules of policies ask; nil where nothing does
	goOn      func(*Result) bool
	namespace *object.Node // nil where it is not known
	inline    *baseline.Inline
	request   *policy.Request // what rules of policies are asked
	only      which
	some      []int // the only rules that are run; nil for all that only says
	// asked, where it is set, is a request that none but those rules are run for
	// that ask for it.
	asked *policy.Requests

	mask   secret.Mask // what must not be shown of the object, once masked is set
	masked bool
}

// RuleOutcome is the verdict of one rule.
type RuleOutcome struct {
	Rule     int
	Outcome  verdict.Outcome
	Excepted bool // every failed element is excused
}

// What is remembered of kinds. A cluster has some hundred; objects may come from
// people who make kinds up.
const (
	maxKinds    = 4096
	maxKindName = 512
)

// ofKind is what the rules have to do with a kind, by their indexes: matching are
// about it, lookers and own look it up.
type ofKind struct{ matching, lookers, own []int }

// matching returns the rules for a kind.
func (e *Engine) matching(gk object.GroupKind) []int { return e.ofKind(gk).matching }

// ofKind returns what the rules have to do with a kind.
func (e *Engine) ofKind(gk object.GroupKind) *ofKind {
	e.mu.RLock()
	k, ok := e.byKind[gk]
	e.mu.RUnlock()
	if ok {
		return k
	}
	k = &ofKind{}
	for i, r := range e.rules {
		if r.Matches(gk) {
			k.matching = append(k.matching, i)
		}
	}
	k.lookers, k.own = e.gathered.lookers(gk)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.byKind) < maxKinds && len(gk.Group)+len(gk.Kind) < maxKindName {
		e.byKind[gk] = k
	}
	return k
}

// Rules are the rules of the baseline. RuleOutcome.Rule is an index of them.
func (e *Engine) Rules() []*baseline.Rule { return e.rules }

// Wholes derive the facts about several objects that a rule needs.
func (e *Engine) Wholes() []facts.Whole { return e.wholes }

// Env is what facts depend on beside objects.
func (e *Engine) Env() facts.Env { return *e.env }

// Judge judges one object, and the facts that it alone tells, by every rule
// that matches their kinds.
func (e *Engine) Judge(o *object.Object) *Result { return e.JudgeIn(o, nil) }

// Examined is what came of judging an object among others.
type Examined struct {
	Result *Result // nil where it was not judged
	// Kept is what facts about several objects need of it, by Wholes.
	Kept    []any
	Problem string // why it could not be judged
	Old     bool   // it is an old revision, which is not judged

	gathered bool // rules that need other objects are about it
}

// Used says whether the object is any rule's matter.
func (x *Examined) Used() bool {
	return x.gathered || x.Result != nil && len(x.Result.Outcomes) > 0 || slices.ContainsFunc(x.Kept, func(k any) bool { return k != nil })
}

// Examine judges an object among others. A fault costs that object and no more.
func (e *Engine) Examine(o *object.Object) Examined { return e.examineOne(context.Background(), o) }

// examineOne is Examine until the context ends.
func (e *Engine) examineOne(ctx context.Context, o *object.Object) (out Examined) {
	defer func() {
		if r := recover(); r != nil {
			out = Examined{Problem: fmt.Sprintf("a fault in Sconce kept %s from being judged; please report it: %v", o.Ref, r)}
		}
	}()
	if OldRevision(o) {
		return Examined{Old: true}
	}
	if missing, why := Incomplete(o); missing {
		return Examined{Problem: why}
	}
	out = Examined{Result: &Result{Object: o, only: onlyAlone, ctx: ctx}, Kept: make([]any, len(e.wholes)), gathered: e.judgedAmong(o.GroupKind())}
	e.judgeAll(out.Result)
	for i, w := range e.wholes {
		out.Kept[i] = w.Keep(o)
	}
	return out
}

// JudgeIn is Judge where the object's namespace is known: the Namespace object,
// which is namespaceObject to a rule.
func (e *Engine) JudgeIn(o *object.Object, namespace *object.Node) *Result {
	return e.JudgeWhile(o, namespace, func(*Result) bool { return true })
}

// goOnEvery is after how many findings of a rule is asked whether to go on.
const goOnEvery = 100

// JudgeWhile is JudgeIn that asks before each rule, and now and then within one,
// whether to go on, so that an object that was made to be costly to judge can be
// given up.
func (e *Engine) JudgeWhile(o *object.Object, namespace *object.Node, goOn func(*Result) bool) *Result {
	out := &Result{Object: o, namespace: namespace, goOn: goOn}
	e.judgeAll(out)
	return out
}

// Policies says whether some rule is one of a policy: only these look at more of a
// request than its object.
func (e *Engine) Policies() bool { return e.policies }

// JudgeRequest is JudgeWhile for a request to the API server.
func (e *Engine) JudgeRequest(r *policy.Request, namespace *object.Node, goOn func(*Result) bool) *Result {
	out := &Result{Object: r.Subject(), namespace: namespace, goOn: goOn, request: r}
	e.judgeAll(out)
	return out
}

// Asked says whether a rule asks for requests that are no creations or updates of
// objects.
func (e *Engine) Asked(q policy.Requests) bool {
	return slices.ContainsFunc(e.rules, func(r *baseline.Rule) bool { return asks(r, &q) })
}

// asks says whether a rule asks for requests. Where what is sent to a subresource is
// of a kind of its own, that of the object is not told, and Judge decides.
func asks(r *baseline.Rule, q *policy.Requests) bool {
	a, ok := r.Policy.(policy.Asking)
	return ok && (policy.IsSent(q.Sent) || a.Asks(*q))
}

// JudgeAsked is JudgeRequest for a request that neither creates nor updates an
// object: by the rules of policies that ask for it, and by no control.
func (e *Engine) JudgeAsked(r *policy.Request, q policy.Requests, namespace *object.Node, goOn func(*Result) bool) *Result {
	out := &Result{Object: r.Subject(), namespace: namespace, goOn: goOn, request: r, asked: &q}
	out.inline = e.baseline.Inline(out.Object, e.env.Today)
	e.judgeOne(out, out.Object)
	return out
}

// judgeAll judges an object, and the facts that it alone tells.
func (e *Engine) judgeAll(out *Result) {
	o := out.Object
	out.inline = e.baseline.Inline(o, e.env.Today)
	e.judgeOne(out, o)
	for _, s := range e.singles {
		for _, fact := range s.Derive(o, e.env) {
			e.judgeOne(out, fact)
		}
	}
	out.Notices = out.inline.Notices(out.ruled(e))
	for i := range out.Notices {
		out.Notices[i].Position = hidden(o, out.Notices[i].Position)
	}
}

// JudgeFact judges a fact about several objects by every rule that matches its
// kind. The findings are about the object that it was derived from.
func (e *Engine) JudgeFact(fact *object.Object) *Result {
	r := &Result{inline: e.baseline.Inline(fact, e.env.Today)}
	e.judgeOne(r, fact)
	for k := range r.Findings {
		r.Findings[k].Position.Quote = oneField(r.Findings[k].Position.Quote)
		if f := r.Findings[k].Fix; f != nil {
			f.Refused = needsWhole
		}
	}
	return r
}

// needsWhole says why a fix is not tried on a copy.
const needsWhole = "whether it clears the finding depends on other objects: make the change, then scan again"

// ruled says whether the object was held against a control.
func (r *Result) ruled(e *Engine) func(control string) bool {
	return func(control string) bool {
		return slices.ContainsFunc(r.Outcomes, func(ro RuleOutcome) bool { return e.rules[ro.Rule].Name == control })
	}
}

// judgeOne adds what the rules say of an object or of a fact about it.
func (e *Engine) judgeOne(out *Result, o *object.Object) {
	rules := e.matching(o.GroupKind())
	if len(rules) > 0 && out.Outcomes == nil {
		out.Outcomes = make([]RuleOutcome, 0, len(rules))
	}
	for _, i := range rules {
		if !e.runs(out, i) {
			continue
		}
		if out.Cut = out.Cut || out.goOn != nil && !out.goOn(out); out.Cut {
			return
		}
		if ro, applies := e.judge(out, o, i); applies {
			out.Outcomes = append(out.Outcomes, ro)
		}
	}
}

// judge judges by one rule and adds its findings. It returns false where the rule
// turns out not to be about the object.
func (e *Engine) judge(out *Result, o *object.Object, i int) (ro RuleOutcome, applies bool) {
	rule := e.rules[i]
	v, applies := e.ask(out, rule, o)
	if !applies {
		return ro, false
	}
	ro = RuleOutcome{Rule: i, Outcome: v.Outcome}
	if v.Outcome == verdict.Pass {
		if !e.exceptions.None() {
			e.exceptions.Passed(rule.Name, o.Subject().Ref)
		}
		return ro, true
	}
	out.Findings = slices.Grow(out.Findings, len(v.Findings))
	failed, excused, unknown := 0, 0, 0
	for k := range v.Findings {
		if k%goOnEvery == 0 && out.goOn != nil && !out.goOn(out) {
			out.Cut = true
			break
		}
		if !out.masked {
			out.mask, out.masked = secret.MaskOf(o), true
		}
		f := e.finding(out, rule, o, &v.Findings[k])
		if f.Outcome == verdict.Fail {
			failed++
			if f.Excepted != nil {
				excused++
			}
		}
		if f.Outcome == verdict.Unknown {
			unknown++
		}
		out.Findings = append(out.Findings, f)
	}
	if failed > 0 && failed == excused {
		// What is left once the excused are set aside decides.
		ro.Excepted = unknown == 0
		if unknown > 0 {
			ro.Outcome = verdict.Unknown
		}
	}
	return ro, true
}

// identity returns what tells an element from the others of its object: where it
// is, as far as that is addressed by names. Of a fact, that is where it comes
// from: two containers may run the same program.
func identity(o *object.Object, f *control.Finding) object.Path {
	if o.Subject() == o {
		return f.Element
	}
	path := o.SourcePath(f.Path)
	for i, s := range path {
		if s.Item && s.Key == "" {
			return path[:i]
		}
	}
	return path
}

// finding makes what a control found into what is reported.
func (e *Engine) finding(r *Result, rule *baseline.Rule, o *object.Object, f *control.Finding) verdict.Finding {
	ref, path := o.Subject().Ref, o.SourcePath(f.Path)
	out := verdict.Finding{
		Control: rule.Name, Outcome: f.Outcome, Severity: rule.Severity, Action: rule.ActionFor(r.request),
		Object: ref, Element: o.SourcePath(f.Element).String(), Path: path.String(), Missing: f.Missing,
		Message: f.Message, Evidence: f.Evidence, Position: o.Position(f.Path),
		Rendered:    o.Origin.Renderer,
		Fingerprint: verdict.Fingerprint(rule.Name, ref, identity(o, f), f.Path),
	}
	if o.Origin.Renderer != "" {
		out.Source = o.Origin.Source
	}
	if len(f.Edits) > 0 {
		for i := range f.Edits {
			edit := &f.Edits[i]
			edit.Steps = o.SourcePath(edit.Steps)
			edit.Path = edit.Steps.String()
		}
		out.Fix = &verdict.Fix{Edits: f.Edits}
		if rule.Spec.Fix != nil {
			out.Fix.Note = rule.Spec.Fix.Note
		}
	}
	hide(&out, o.Subject(), rule.Spec.Sensitive, r.mask)
	if rule.Policy != nil {
		out.Message = r.hideSeen(out.Message)
	}
	if f.Outcome == verdict.Fail && !e.exceptions.None() {
		out.Excepted = e.exceptions.Excuse(rule.Name, ref, identity(o, f))
	}
	if f.Outcome == verdict.Fail && out.Excepted == nil {
		out.Excepted = r.inline.Excuse(rule.Name)
	}
	return out
}
