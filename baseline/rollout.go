// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// actions are all actions, mildest first.
var actions = []v1alpha1.Action{v1alpha1.Audit, v1alpha1.Warn, v1alpha1.Ratchet, v1alpha1.Deny}

// milder returns the milder of two actions.
func milder(a, b v1alpha1.Action) v1alpha1.Action {
	if slices.Index(actions, b) < slices.Index(actions, a) {
		return b
	}
	return a
}

// staged returns the action that holds on a day where a rollout leads to action,
// and the stage that changes it next, if there is one. Before the first stage
// everything is audited; on a zero day the rollout is over.
func staged(action v1alpha1.Action, stages []v1alpha1.Stage, today time.Time) (now v1alpha1.Action, next *v1alpha1.Stage) {
	if len(stages) == 0 || today.IsZero() {
		return action, nil
	}
	now = v1alpha1.Audit
	for i := range stages {
		s := &stages[i]
		then := milder(action, s.Action)
		if s.From == "" || s.From <= today.Format(time.DateOnly) {
			now = then
		} else if then != now {
			return now, s
		}
	}
	return now, nil
}

// rolloutNotices tell which stages of the rules' rollouts are to come, each once.
func (l *Library) rolloutNotices(b *v1alpha1.Baseline, rules []*Rule) []verdict.Notice {
	count := map[v1alpha1.Stage]int{}
	now := map[v1alpha1.Stage][]string{}
	for _, r := range rules {
		if r.Next == nil {
			continue
		}
		count[*r.Next]++
		if action := string(r.Action); !slices.Contains(now[*r.Next], action) {
			now[*r.Next] = append(now[*r.Next], action)
		}
	}
	var out []verdict.Notice
	e := l.baselines[b.Name]
	spot, _ := e.root.SpotOf(object.ParsePath("spec.rollout"))
	for stage, n := range count {
		slices.Sort(now[stage])
		out = append(out, verdict.Notice{
			Kind: verdict.RolloutStage, Subject: b.Name,
			Position: object.Position{File: e.file, Line: spot.Line, Column: spot.Col},
			Message:  fmt.Sprintf("from %s the action is %s, of %d of the controls; until then it is %s", stage.From, stage.Action, n, strings.Join(now[stage], " or ")),
		})
	}
	slices.SortFunc(out, func(a, b verdict.Notice) int { return cmp.Compare(a.Message, b.Message) })
	return out
}

// checkRollout checks that stages have a day and an action, each later and no
// milder than the one before.
func checkRollout(errs *Errors, e *entry[v1alpha1.Baseline], field string, stages []v1alpha1.Stage) {
	last := ""
	for i, s := range stages {
		at := fmt.Sprintf("%s[%d]", field, i)
		enum(errs, e, at+".action", s.Action, actions...)
		if s.From == "" && i == 0 {
			continue
		}
		if _, err := time.Parse(time.DateOnly, s.From); err != nil {
			*errs = append(*errs, e.errorf(at+".from", "%s.from is %q; want the day from which the stage holds, as in 2027-01-31", at, s.From))
			continue
		}
		if last != "" && s.From <= last {
			*errs = append(*errs, e.errorf(at+".from", "%s.from is %s, and the stage before begins on %s: order the stages by their days", at, s.From, last))
		}
		if i > 0 && slices.Contains(actions, s.Action) && milder(s.Action, stages[i-1].Action) != stages[i-1].Action {
			*errs = append(*errs, e.errorf(at+".action", "%s.action is %s, milder than %s of the stage before: a rollout gets stricter", at, s.Action, stages[i-1].Action))
		}
		last = s.From
	}
}
