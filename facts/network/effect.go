// SPDX-License-Identifier: Apache-2.0

package network

import (
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// effect is the fact about a NetworkPolicy.
func (r *reporter) effect(p *policy) *object.Object {
	space := r.m.spaceOf(p.o)
	var chosen []*class
	count, doubt := 0, p.unread
	for _, g := range space.groups {
		for _, c := range g.classes {
			switch min(c.host.not(), p.pods.matches(c.labels)) {
			case yes:
				chosen = append(chosen, c)
				count += len(c.members)
			case unknown:
				doubt = "which labels pods of the namespace have is not known"
			}
		}
	}
	selects := object.NewInt(int64(count))
	if doubt != "" {
		selects = object.NewUnknown(doubt)
	} else if count == 0 && !r.env.Complete {
		selects = object.NewUnknown("pods that it selects may not be among what was read")
	}
	doubtful := func(b bool) *object.Node {
		switch {
		case doubt != "":
			return object.NewUnknown(doubt)
		case b && !r.env.Complete:
			return object.NewUnknown("pods that it selects, and policies, may not be among what was read")
		}
		return object.NewBool(b)
	}
	return facts.New("PolicyEffect", p.o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("selects", selects),
		facts.Field("isolates", eachWay(func(d direction) *object.Node { return stated(p.applies[d]) })),
		facts.Field("opensToAll", eachWay(func(d direction) *object.Node { return stated(min(p.applies[d], p.opens(d))) })),
		facts.Field("redundant", doubtful(r.redundant(p, chosen))),
		facts.Field("overridden", doubtful(r.overridden(p, chosen))),
	))}, facts.Place{Fact: facts.Path("facts"), Source: facts.Path("spec")}, facts.Place{Fact: facts.Path("facts", "selects"), Source: facts.Path("spec", "podSelector")})
}

func eachWay(f func(direction) *object.Node) *object.Node {
	return facts.Map(facts.Field("ingress", f(ingress)), facts.Field("egress", f(egress)))
}

// stated is what a fact says of a statement about a policy alone.
func stated(t truth) *object.Node {
	if t == unknown {
		return object.NewUnknown("the policy could not be read as a whole")
	}
	return object.NewBool(t == yes)
}

// opens says whether a rule of a NetworkPolicy lets everything through.
func (p *policy) opens(d direction) truth {
	if slices.ContainsFunc(p.rules[d], func(r *rule) bool { return r.everyone && r.allPorts }) {
		return yes
	}
	if p.unread != "" {
		return unknown
	}
	return no
}

// redundant says whether the policy adds nothing to others, of every class that
// it selects: they isolate the pods too, and allow each thing that it allows. It
// does not look for what several rules do together. Of policies that say the
// same only the first by name is not redundant.
func (r *reporter) redundant(p *policy, chosen []*class) bool {
	for _, c := range chosen {
		for d := range directions {
			if p.applies[d] != no && !r.covered(p, c, direction(d)) {
				return false
			}
		}
	}
	return len(chosen) > 0
}

func (r *reporter) covered(p *policy, c *class, d direction) bool {
	var others []*policy
	for _, q := range r.m.namespacedFor(c, d) {
		same := q.o.Root.Get("spec").Equal(p.o.Root.Get("spec"))
		if q.policy != p && q.truth == yes && (choosesAll(q.policy) || !choosesAll(p)) && (!same || comparePolicies(q.policy, p) < 0) {
			others = append(others, q.policy)
		}
	}
	if len(others) == 0 {
		return false
	}
	return !slices.ContainsFunc(p.rules[d], func(needed *rule) bool {
		return !slices.ContainsFunc(others, func(q *policy) bool {
			return slices.ContainsFunc(q.rules[d], func(other *rule) bool { return other.covers(q, needed, p, c) })
		})
	})
}

// choosesAll says whether a policy is for all pods of its namespace, those to
// come included.
func choosesAll(p *policy) bool {
	pods := p.o.Root.At("spec", "podSelector")
	return pods == nil || pods.Kind == object.Map && len(pods.Fields) == 0
}

// covers says whether a rule surely allows what another may.
func (r *rule) covers(of *policy, other *rule, p *policy, c *class) bool {
	if !r.everyone {
		if other.everyone {
			return false
		}
		ids := map[string]bool{}
		for i := range r.peers {
			ids[r.peers[i].id(of, c.space)] = r.peers[i].kind != unreadPeer && !r.peers[i].pods.unread && !r.peers[i].namespaces.unread
		}
		for i := range other.peers {
			if !ids[other.peers[i].id(p, c.space)] {
				return false
			}
		}
	}
	return r.allPorts || !other.allPorts && !slices.ContainsFunc(other.ports, func(x portRule) bool {
		return !slices.ContainsFunc(r.ports, x.within)
	})
}

// within says whether all ports of an entry are surely among those of another.
func (p portRule) within(q portRule) bool {
	switch {
	case p.unread || q.unread:
		return false
	case p.name != "":
		return q.name == p.name && q.protocol == p.protocol || q.name == "" && q.protocol == p.protocol && q.first == 1 && q.last == maxPort
	}
	return q.name == "" && q.protocol == p.protocol && q.first <= p.first && p.last <= q.last
}

// overridden says whether policies of the Admin tier decide about everything
// that pods of any namespace may send to, or get from, those that the policy
// selects, so that it is not asked.
func (r *reporter) overridden(p *policy, chosen []*class) bool {
	for _, c := range chosen {
		for d := range directions {
			if p.applies[d] == no {
				continue
			}
			q := &question{m: r.m, of: c, peer: end{class: stranger}}
			q.d, q.left, q.every, q.match = direction(d), AllPorts(), AllPorts(), q.ports
			q.decideAbove(adminTier, r.m.aboveFor(c))
			if !q.left.Empty() {
				return false
			}
		}
	}
	return len(chosen) > 0
}

// clusterEffect is the fact about a policy above namespaces.
func clusterEffect(m *Model, p *policy, env *facts.Env) *object.Object {
	count, doubt := 0, p.unread
	for _, c := range m.classes {
		if c == nil {
			continue
		}
		switch p.selectsAbove(c) {
		case yes:
			count += len(c.members)
		case unknown:
			doubt = "the labels of namespaces or pods are not all known"
		}
	}
	selects := object.NewInt(int64(count))
	if doubt != "" {
		selects = object.NewUnknown(doubt)
	} else if count == 0 && !env.Complete {
		selects = object.NewUnknown("pods that it selects may not be among what was read")
	}
	same := rivals(m, p)
	samePriority := facts.Strings(same)
	if len(same) == 0 && !env.Complete {
		samePriority = object.NewUnknown("policies with the same priority may not be among what was read")
	}
	named := tierNames[p.tier]
	return facts.New("ClusterPolicyEffect", p.o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("tier", object.NewString(named)),
		facts.Field("selects", selects),
		facts.Field("everyPod", stated(min(p.namespaces.all(), p.pods.all()))),
		facts.Field("samePriority", samePriority),
	))}, facts.Place{Fact: facts.Path("facts"), Source: facts.Path("spec")}, facts.Place{Fact: facts.Path("facts", "selects"), Source: facts.Path("spec", "subject")})
}

// rivals are the other policies of the tier that have the same priority: which
// of them decides is not defined.
func rivals(m *Model, p *policy) []string {
	var out []string
	for _, q := range m.above {
		if q != p && q.tier == p.tier && q.priority == p.priority {
			out = append(out, called(q.o.Ref))
		}
	}
	return out
}
