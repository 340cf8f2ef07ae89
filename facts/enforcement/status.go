// SPDX-License-Identifier: Apache-2.0

package enforcement

import (
	"fmt"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// The groups of policy engines.
const (
	kyvernoGroup    = "kyverno.io"
	kyvernoPolicies = "policies.kyverno.io"
	templateGroup   = "templates.gatekeeper.sh"
	constraintGroup = "constraints.gatekeeper.sh"
)

// single yields the facts about one object alone.
func single(o *object.Object, env *facts.Env) []*object.Object {
	var found []problem
	switch gk := o.GroupKind(); {
	case gk == validatingWebhook || gk == mutatingWebhook:
		return []*object.Object{authority(o, env)}
	case gk == validatingPolicy:
		found = typeErrors(o)
	case gk == clusterPolicy || gk == kyvernoPolicy || gk.Group == kyvernoPolicies:
		found = notReady(o)
	case gk.Group == templateGroup || gk.Group == constraintGroup:
		found = podErrors(o)
	default:
		return nil
	}
	return []*object.Object{status(o, found)}
}

// problem is what a status says is wrong, and where it says so.
type problem struct {
	message string
	at      object.Path
}

// maxProblems is how many problems of one object are told, and maxMessage how
// much of each, in bytes.
const (
	maxProblems = 8
	maxMessage  = 300
)

// status is the fact about what the status of an object says is wrong with it.
func status(o *object.Object, found []problem) *object.Object {
	list := facts.List()
	var places []facts.Place
	for i, p := range found[:min(len(found), maxProblems)] {
		places = append(places, facts.Place{Fact: facts.Path("facts", "errors").Append(object.Step{Item: true, Index: i}), Source: p.at})
		list.Items = append(list.Items, facts.Map(facts.Field("message", object.NewString(firstLine(p.message)))))
	}
	return facts.New(statusFact, o, []object.Field{facts.Field("facts", facts.Map(facts.Field("errors", list)))}, places...)
}

// firstLine returns the first line of a text, cut where it is long.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// typeErrors are the expressions of a policy that name fields which its one kind
// of object has not. Of a policy for several kinds a warning proves nothing:
// each expression is checked against each kind, those that ask first which one
// it is as well.
func typeErrors(o *object.Object) []problem {
	if !oneResource(o.Root.At("spec", "matchConstraints", "resourceRules")) {
		return nil
	}
	var out []problem
	warnings := o.Root.At("status", "typeChecking", "expressionWarnings")
	for i, w := range facts.Items(warnings) {
		out = append(out, problem{
			fmt.Sprintf("%s: %s", w.Get("fieldRef").Str(), w.Get("warning").Str()),
			facts.Path("status", "typeChecking", "expressionWarnings").Append(object.Step{Item: true, Index: i}),
		})
	}
	return out
}

// oneResource says whether rules are about just one resource.
func oneResource(rules *object.Node) bool {
	items := facts.Items(rules)
	if len(items) != 1 {
		return false
	}
	for _, field := range []string{"apiGroups", "apiVersions", "resources"} {
		values := facts.Items(items[0].Get(field))
		if len(values) != 1 || strings.Contains(values[0].Str(), "*") {
			return false
		}
	}
	return true
}

// notReady is what Kyverno says of a policy that it does not run.
func notReady(o *object.Object) []problem {
	for _, under := range [][]string{{"status"}, {"status", "conditionStatus"}} {
		state := o.Root.At(under...)
		for i, c := range facts.Items(state.Get("conditions")) {
			if c.Get("type").Str() == "Ready" && c.Get("status").Str() == "False" {
				return []problem{{message(c, "the policy is not ready"), facts.Path(under...).Fields("conditions").Append(object.Step{Item: true, Index: i})}}
			}
		}
		if ready := state.Get("ready"); ready != nil && ready.Kind == object.Bool && !ready.Bool() {
			return []problem{{message(state, "the policy is not ready"), facts.Path(under...).Fields("ready")}}
		}
	}
	return nil
}

// podErrors is what Gatekeeper's pods say of a template or constraint that they
// do not enforce. Each says the same of a template that does not compile.
func podErrors(o *object.Object) []problem {
	var out []problem
	told := map[string]bool{}
	add := func(text string, at object.Path) {
		if !told[text] {
			told[text] = true
			out = append(out, problem{text, at})
		}
	}
	for i, pod := range facts.Items(o.Root.At("status", "byPod")) {
		at := facts.Path("status", "byPod").Append(object.Step{Item: true, Index: i})
		for k, e := range facts.Items(pod.Get("errors")) {
			add(message(e, "the template has an error"), at.Fields("errors").Append(object.Step{Item: true, Index: k}))
		}
		if enforced := pod.Get("enforced"); enforced != nil && enforced.Kind == object.Bool && !enforced.Bool() {
			add("a pod of Gatekeeper does not enforce it", at.Fields("enforced"))
		}
	}
	return out
}

// message returns what a part of a status says, else other words.
func message(n *object.Node, otherwise string) string {
	if s := n.Get("message").Str(); s != "" {
		return s
	}
	return otherwise
}
