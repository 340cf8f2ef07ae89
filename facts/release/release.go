// SPDX-License-Identifier: Apache-2.0

// Package release states that a GitOps object deploys a chart that was not
// rendered: what comes of it is not among what was read.
package release

import (
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Kind is the kind of the fact.
const Kind = "Release"

// Single derives a fact of each object that deploys a chart from elsewhere.
var Single = facts.Single{
	Kinds:  []string{Kind},
	From:   facts.From(facts.Sources{Kinds: []object.GroupKind{{Group: "helm.toolkit.fluxcd.io", Kind: "HelmRelease"}, {Group: "argoproj.io", Kind: "Application"}}}),
	Derive: derive,
}

func derive(o *object.Object, _ *facts.Env) []*object.Object {
	var what string
	switch o.GroupKind() {
	case object.GroupKind{Group: "helm.toolkit.fluxcd.io", Kind: "HelmRelease"}:
		what = name(o.Root.At("spec", "chart", "spec", "chart"), o.Root.At("spec", "chartRef", "name"))
	case object.GroupKind{Group: "argoproj.io", Kind: "Application"}:
		chart := o.Root.At("spec", "source", "chart")
		if sources := o.Root.At("spec", "sources"); chart == nil && sources != nil {
			for _, s := range sources.Items {
				if chart == nil {
					chart = s.Get("chart")
				}
			}
		}
		if chart == nil {
			return nil // a folder of a repository, which can be scanned
		}
		what = name(chart)
	default:
		return nil
	}
	rendered := object.NewUnknown("what the chart" + what + " deploys: it was not rendered; scan the chart with these values")
	return []*object.Object{facts.New(Kind, o, []object.Field{
		facts.Field("facts", facts.Map(facts.Field("rendered", rendered))),
	})}
}

// name returns the first name that is given, with a space before it.
func name(nodes ...*object.Node) string {
	for _, n := range nodes {
		if s := n.Str(); s != "" {
			return " " + s
		}
	}
	return ""
}
