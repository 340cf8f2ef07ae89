// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// summary is what policies say of pods in one direction, as far as it is the
// same for all that the same policies are for.
type summary struct {
	restricted truth
	outside    truth // some address outside, or of the internet
	namespaces truth // pods of any namespace, whatever their labels
	metadata   truth // the metadata of the provider's machines
}

// stranger is a pod of some other namespace, of which nothing is said.
var stranger = func() *class {
	s := &space{name: "\x00", labels: labels{pairs: []pair{{key: nameLabel, value: "\x00"}}}}
	return &class{space: s, Class: Class{Namespace: s.name}}
}()

// metadataAddress is where the machines of most providers read their metadata.
var (
	metadataAddress = netip.MustParseAddr("169.254.169.254")
	metadataPort    = PortRange(TCP, 80, 80)
)

// summarize works out what policies say of pods in a direction.
func (m *Model) summarize(d direction, c *class) summary {
	var s summary
	s.restricted = m.restricted(d, c)
	skip := isNowhere
	if d == egress {
		skip = isSpecial
	}
	sure, possible := m.addressPorts(d, c, m.everywhere(skip))
	s.outside = of(sure, possible)
	q := m.ask(d, c, end{class: stranger}, AllPorts(), false)
	s.namespaces = of(q.allowed(), q.accepted)
	if d == egress {
		q := m.ask(d, c, end{addr: metadataAddress}, metadataPort, false)
		s.metadata = of(q.allowed(), q.accepted)
	}
	return s
}

// of says whether something is allowed.
func of(sure, possible PortSet) truth {
	switch {
	case !sure.Empty():
		return yes
	case !possible.Empty():
		return unknown
	}
	return no
}

// restricted says whether policies deny pods something in a direction.
func (m *Model) restricted(d direction, c *class) truth {
	if c.host == yes || m.ask(d, c, end{anyone: true}, AllPorts(), false).allowed().All() {
		return no
	}
	out := no
	for _, p := range m.namespacedFor(c, d) {
		out = max(out, p.truth)
	}
	for _, p := range m.aboveFor(c) {
		denies := slices.ContainsFunc(p.rules[d], func(r *rule) bool { return r.action == deny })
		if p.unread != "" || slices.ContainsFunc(p.rules[d], func(r *rule) bool { return r.action == unreadAction }) {
			out = max(out, unknown)
		} else if denies {
			out = max(out, p.truth)
		}
	}
	if len(m.foreignFor(c, d)) > 0 {
		out = max(out, unknown)
	}
	return out
}

// reporter makes facts of a model.
type reporter struct {
	m         *Model
	env       *facts.Env
	classes   map[*workload]*class
	exposures map[int][]Exposure
	summaries [2]map[string]summary
}

func newReporter(kept []any, env *facts.Env) *reporter {
	r := &reporter{m: NewModel(kept, env), env: env, classes: map[*workload]*class{}, exposures: map[int][]Exposure{}}
	r.summaries = [2]map[string]summary{{}, {}}
	for _, c := range r.m.classes {
		for _, w := range c.members {
			r.classes[w] = c
		}
	}
	for _, e := range r.m.Exposures() {
		r.exposures[e.Class.ID] = append(r.exposures[e.Class.ID], e)
	}
	return r
}

// summary returns what policies say of pods in a direction.
func (r *reporter) summary(d direction, c *class) summary {
	key := r.m.policyKey(d, c)
	s, ok := r.summaries[d][key]
	if !ok {
		s = r.m.summarize(d, c)
		r.summaries[d][key] = s
	}
	return s
}

// node is what a fact says of a statement. Where not all policies may have been
// read, only what is restricted is known to be so.
func (r *reporter) node(t truth, d direction, c *class) *object.Node {
	switch {
	case t == unknown:
		return object.NewUnknown(r.doubt(d, c))
	case c.host != yes && !r.env.Complete:
		return object.NewUnknown("policies that select these pods may not be among what was read")
	}
	return object.NewBool(t == yes)
}

// doubt says why something about pods is not known.
func (r *reporter) doubt(d direction, c *class) string {
	for _, f := range r.m.foreignFor(c, d) {
		return f.words() + " may select these pods, and is of a kind that is not understood here"
	}
	// Whether policies of other namespaces name a label that controllers add is
	// not known where facts are derived from a part of the objects.
	if unknown := c.limits(generated); unknown != "" {
		return unknown
	}
	return "policies for " + directions[d] + " of these pods choose by what is not known"
}

// reach is the fact about what holds a pod.
func (r *reporter) reach(w *workload) *object.Object {
	c := r.classes[w]
	in, out := r.summary(ingress, c), r.summary(egress, c)
	restricted := func(t truth, d direction) *object.Node {
		if t == yes {
			return object.NewBool(true)
		}
		return r.node(t, d, c)
	}
	exposures := facts.List()
	for _, e := range r.exposures[c.ID] {
		if e.Way == HostNetwork || e.Way == HostPort {
			e.Via = []object.Ref{w.o.Ref} // not another's of the class
		}
		exposures.Items = append(exposures.Items, r.exposure(e, c))
	}
	if !r.env.Complete {
		exposures.Items = append(exposures.Items, object.NewUnknown("what exposes these pods may not be among what was read"))
	}
	return facts.New("Reach", w.o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("hostNetwork", hostNode(c.host)),
		facts.Field("ingress", facts.Map(
			facts.Field("restricted", restricted(in.restricted, ingress)),
			facts.Field("fromOutside", r.node(in.outside, ingress, c)),
			facts.Field("fromAnyNamespace", r.node(in.namespaces, ingress, c)),
			facts.Field("exposures", exposures),
		)),
		facts.Field("egress", facts.Map(
			facts.Field("restricted", restricted(out.restricted, egress)),
			facts.Field("toInternet", r.node(out.outside, egress, c)),
			facts.Field("toMetadata", r.node(out.metadata, egress, c)),
			facts.Field("toAnyNamespace", r.node(out.namespaces, egress, c)),
		)),
	))}, atName)
}

// atName is where facts stand that no field says by itself.
var atName = facts.Place{Fact: facts.Path("facts"), Source: facts.Path("metadata", "name")}

func hostNode(t truth) *object.Node {
	if t == unknown {
		return object.NewUnknown("hostNetwork is not true or false")
	}
	return object.NewBool(t == yes)
}

// exposure is a way in, as the fact has it.
func (r *reporter) exposure(e Exposure, c *class) *object.Node {
	t := truthOf(e.Allowed)
	if e.Unknown != "" && !e.Allowed {
		t = unknown
	}
	allowed := r.node(t, ingress, c)
	if allowed.Kind == object.Unknown && t == unknown {
		allowed = object.NewUnknown(e.Unknown)
	}
	via := facts.List()
	for _, ref := range e.Via {
		via.Items = append(via.Items, object.NewString(called(ref)))
	}
	return facts.Map(
		facts.Field("way", object.NewString(string(e.Way))),
		facts.Field("via", via),
		facts.Field("host", object.NewString(e.Host)),
		facts.Field("protocol", object.NewString(e.Port.Protocol)),
		facts.Field("port", object.NewInt(int64(e.Port.Number))),
		facts.Field("outside", object.NewInt(int64(e.Outside))),
		facts.Field("sources", facts.Strings(e.Sources)),
		facts.Field("internal", object.NewBool(e.Internal)),
		facts.Field("allowed", allowed),
	)
}
