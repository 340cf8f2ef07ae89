// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"slices"

	"sconce.dev/sconce/object"
)

// notes gather who decides, and why something is not known. A nil one gathers
// nothing.
type notes struct {
	q   *question
	by  []Reason
	why []string
}

var did = [...]string{accept: "accepts it", deny: "denies it", pass: "passes it on", unreadAction: "has an action that is not known"}

func (n *notes) say(r Reason, format string, args ...any) {
	r.Words = fmt.Sprintf(format, args...)
	n.by = append(n.by, r)
}

func (n *notes) unsure(format string, args ...any) {
	if words := fmt.Sprintf(format, args...); !slices.Contains(n.why, words) {
		n.why = append(n.why, words)
	}
}

// doubt is why something is not known.
func (n *notes) doubt() string {
	if n == nil || len(n.why) == 0 {
		return "what was read does not tell"
	}
	return n.why[0]
}

// onNode notes that policies are not for the pods.
func (n *notes) onNode() {
	if n != nil {
		n.say(Reason{Rule: -1}, "policies do not select %s: its pods are on the network of their node", n.q.of)
	}
}

// undecided notes that no policy has decided.
func (n *notes) undecided() {
	if n != nil && !slices.ContainsFunc(n.by, func(r Reason) bool { return r.Policy.Kind != "" }) {
		n.say(Reason{Rule: -1}, "no policy decides about %s of %s", directions[n.q.d], n.q.of)
	}
}

// unread notes that a policy could not be read.
func (n *notes) unread(p *policy) {
	if n != nil {
		n.unsure("%s: %s", called(p.o.Ref), p.unread)
	}
}

// sameNode notes that the other end may be on the node of the pods.
func (n *notes) sameNode() {
	switch {
	case n == nil:
	case n.q.peer.class == nil:
		n.unsure("what is on the network of the same node is always let through")
	default:
		n.unsure("%s may be on the same node, whose own traffic with its pods is always allowed", n.q.peer.class)
	}
}

// foreign notes a policy that is not modelled.
func (n *notes) foreign(f *foreign) {
	if n != nil {
		n.why = slices.Insert(n.why, 0, f.words()+" may select these pods, and is of a kind that is not understood here")
	}
}

// isolated notes the policies that isolate the pods, where no rule allows it.
func (n *notes) isolated(policies []selected) {
	if n == nil {
		return
	}
	for _, p := range policies {
		if slices.ContainsFunc(n.by, func(r Reason) bool { return r.Policy == p.o.Ref && r.Rule >= 0 }) {
			return
		}
	}
	for _, p := range policies {
		reason := Reason{Policy: p.o.Ref, Rule: -1, Position: p.position(n.q.d, -1)}
		n.say(reason, "%s isolates %s for %s, and none of its rules allows it", called(p.o.Ref), n.q.of, directions[n.q.d])
		if p.truth == unknown {
			n.unsure("whether %s is for these pods is not known", called(p.o.Ref))
		}
	}
}

// rule notes a rule that does something.
func (n *notes) rule(p selected, r *rule, what string) {
	if n == nil {
		return
	}
	name := where(n.q.d, r)
	if r.name != "" {
		name += fmt.Sprintf(" (%s)", r.name)
	}
	n.say(Reason{Policy: p.o.Ref, Rule: r.index, Name: r.name, Position: p.position(n.q.d, r.index)}, "%s of %s %s", name, p.words(), what)
	if p.truth == unknown {
		n.unsure("whether %s is for these pods is not known", called(p.o.Ref))
	}
	if sure, possible := n.q.ports(p.policy, r); !possible.Minus(sure).Empty() {
		n.unsure("%s of %s %s", where(n.q.d, r), called(p.o.Ref), n.lack(p.policy, r))
	}
}

func where(d direction, r *rule) string { return fmt.Sprintf("%s[%d]", directions[d], r.index) }

// lack says why it is not known whether a rule is about the other end.
func (n *notes) lack(p *policy, r *rule) string {
	for i := range r.peers {
		if n.q.chooses(p, &r.peers[i]) != unknown {
			continue
		}
		switch r.peers[i].kind {
		case blockPeer:
			return "chooses by addresses, and those of the pods are not known"
		case nodePeer:
			return "chooses nodes, of which not enough is known"
		case namePeer:
			return "chooses by domain names, whose addresses are not known"
		case unreadPeer:
			return "has a peer that could not be read"
		}
		return "chooses by labels, which are not all known"
	}
	return "has ports that could not be read, or the pods have"
}

// words name a policy, and what its tier is where it has one.
func (p *policy) words() string {
	switch {
	case p.tier == namespaceTier:
		return called(p.o.Ref)
	case p.priority == lastPriority:
		return called(p.o.Ref)
	}
	return fmt.Sprintf("%s (tier %s, priority %d)", called(p.o.Ref), tierNames[p.tier], p.priority)
}

// position is that of a rule of a policy; of the policy for index -1.
func (p *policy) position(d direction, index int) object.Position {
	path := object.Path(nil).Fields("spec", directions[d])
	list := p.o.Root.At("spec", directions[d])
	if index < 0 || list == nil || index >= len(list.Items) {
		return p.o.Position(object.Path(nil).Fields("spec"))
	}
	return p.o.Position(path.Append(object.ItemStep(list, index)))
}
