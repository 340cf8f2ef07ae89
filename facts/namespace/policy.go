// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// direction is that of traffic, seen from a pod.
type direction int

const (
	incoming direction = iota
	outgoing
)

var directions = [...]string{incoming: "ingress", outgoing: "egress"}

// policy is a network policy of any kind: whom it selects, and for which
// directions it denies them what no policy allows.
type policy struct {
	// namespaces are those that a policy above namespaces is for.
	namespaces selector
	pods       selector
	isolates   [2]truth
	// open says that a rule lets everything through.
	open [2]bool
	// dns says that a rule lets names be looked up.
	dns bool
}

// readPolicies reads a policy object. Those of Cilium may hold several.
func readPolicies(kind what, o *object.Object) []*policy {
	spec := o.Root.Get("spec")
	switch kind {
	case networkPolicy:
		return []*policy{readNetworkPolicy(spec)}
	case calicoPolicy, calicoClusterPolicy:
		return []*policy{readCalico(spec)}
	case adminPolicy, baselinePolicy:
		return []*policy{readAdmin(spec)}
	}
	var out []*policy
	for _, s := range append(facts.Items(o.Root.Get("specs")), spec) {
		if s != nil && s.Get("nodeSelector") == nil { // else for nodes
			out = append(out, readCilium(s))
		}
	}
	return out
}

// readNetworkPolicy reads the spec of a NetworkPolicy. Without policyTypes it is
// for ingress, and for egress where it has rules for that.
func readNetworkPolicy(spec *object.Node) *policy {
	p := &policy{pods: readSelector(spec.Get("podSelector"))}
	p.isolates[incoming], p.isolates[outgoing] = ofTypes(spec, "policyTypes", yes, rules(spec, outgoing))
	for d, peers := range [...]string{incoming: "from", outgoing: "to"} {
		for _, rule := range facts.Items(spec.Get(directions[d])) {
			p.open[d] = p.open[d] || empty(rule.Get(peers)) && empty(rule.Get("ports"))
		}
	}
	for _, rule := range facts.Items(spec.Get("egress")) {
		p.dns = p.dns || opensDNS(rule.Get("ports"))
	}
	return p
}

// ofTypes says which directions a list of types names; where there is none,
// what holds by default.
func ofTypes(spec *object.Node, field string, byDefaultIn, byDefaultOut truth) (inward, outward truth) {
	types := spec.Get(field)
	if n, known := length(types); known != yes || types.HasUnknown() {
		return unknown, unknown
	} else if n == 0 {
		return byDefaultIn, byDefaultOut
	}
	has := func(name string) truth {
		return truthOf(slices.ContainsFunc(types.Items, func(t *object.Node) bool { return t.Str() == name }))
	}
	return has("Ingress"), has("Egress")
}

// rules says whether there are rules for a direction.
func rules(spec *object.Node, d direction) truth {
	n, known := length(spec.Get(directions[d]))
	return min(known, max(known.not(), truthOf(n > 0)))
}

// empty says whether a list is known to hold nothing.
func empty(n *object.Node) bool {
	count, known := length(n)
	return known == yes && count == 0
}

// The ports at which names are looked up: DNS, and that of OpenShift's servers
// behind it.
const (
	dnsPort          = 53
	openShiftDNSPort = 5353
)

// opensDNS says whether the ports of a rule let names be looked up.
func opensDNS(ports *object.Node) bool {
	if empty(ports) {
		return true
	}
	return slices.ContainsFunc(facts.Items(ports), func(p *object.Node) bool {
		port := p.Get("port")
		switch {
		case port == nil:
			return true
		case port.Kind == object.String:
			return port.Text == "53" || strings.HasPrefix(port.Text, "dns")
		case port.Kind != object.Int:
			return false
		}
		last := port.Int()
		if end := p.Get("endPort"); end != nil && end.Kind == object.Int {
			last = end.Int()
		}
		return port.Int() <= dnsPort && dnsPort <= last || port.Int() <= openShiftDNSPort && openShiftDNSPort <= last
	})
}

// What the keys of labels begin with in policies of Cilium.
const (
	ciliumNamespace       = "io.kubernetes.pod.namespace"
	ciliumNamespaceLabels = "io.cilium.k8s.namespace.labels."
)

// readCilium reads one spec of a policy of Cilium. It isolates for a direction
// for which it has a rule, unless it says otherwise.
func readCilium(spec *object.Node) *policy {
	p := &policy{}
	all := readSelector(spec.Get("endpointSelector"))
	p.pods.unread, p.namespaces.unread = all.unread, all.unread
	for _, r := range all.requirements {
		r.key = strings.TrimPrefix(strings.TrimPrefix(r.key, "k8s:"), "any:")
		switch label, ofNamespace := strings.CutPrefix(r.key, ciliumNamespaceLabels); {
		case r.key == ciliumNamespace:
			r.key = nameLabel
			p.namespaces.requirements = append(p.namespaces.requirements, r)
		case ofNamespace:
			r.key = label
			p.namespaces.requirements = append(p.namespaces.requirements, r)
		case strings.Contains(r.key, ":"):
			p.pods.unread = true // what Cilium itself calls a pod
		default:
			p.pods.requirements = append(p.pods.requirements, r)
		}
	}
	for d, entities := range [...]string{incoming: "fromEntities", outgoing: "toEntities"} {
		name := directions[d]
		p.isolates[d] = max(rules(spec, direction(d)), truthOf(!empty(spec.Get(name+"Deny"))))
		if own := spec.At("enableDefaultDeny", name); own != nil {
			p.isolates[d] = said(own)
		}
		for _, rule := range facts.Items(spec.Get(name)) {
			everyone := slices.ContainsFunc(facts.Items(rule.Get(entities)), func(e *object.Node) bool { return e.Str() == "all" })
			p.open[d] = p.open[d] || everyone && empty(rule.Get("toPorts"))
		}
	}
	for _, rule := range facts.Items(spec.Get("egress")) {
		some := len(rule.Fields) > 0 // an empty rule allows nothing
		p.dns = p.dns || some && empty(rule.Get("toPorts")) || slices.ContainsFunc(facts.Items(rule.Get("toPorts")), func(t *object.Node) bool {
			return opensDNS(t.Get("ports"))
		})
	}
	return p
}

// readCalico reads the spec of a policy of Calico. Of its selectors only those
// that choose all are read.
func readCalico(spec *object.Node) *policy {
	p := &policy{pods: readExpression(spec.Get("selector")), namespaces: readExpression(spec.Get("namespaceSelector"))}
	inward, outward := rules(spec, incoming), rules(spec, outgoing)
	p.isolates[incoming], p.isolates[outgoing] = ofTypes(spec, "types", max(inward, outward.not()), outward)
	for d, name := range directions {
		for _, rule := range facts.Items(spec.Get(name)) {
			allowed := rule.Get("action").Str() == "Allow"
			p.open[d] = p.open[d] || allowed && rule.Get("source") == nil && rule.Get("destination") == nil && rule.Get("protocol") == nil
			p.dns = p.dns || allowed && direction(d) == outgoing && calicoDNS(rule.At("destination", "ports"))
		}
	}
	return p
}

// calicoDNS says whether ports of Calico, which are numbers, names and ranges,
// let names be looked up.
func calicoDNS(ports *object.Node) bool {
	return empty(ports) || slices.ContainsFunc(facts.Items(ports), func(p *object.Node) bool {
		return isDNS(p) || strings.HasPrefix(p.Str(), "dns")
	})
}

// readExpression reads a selector in the language of Calico.
func readExpression(n *object.Node) selector {
	if n == nil {
		return selector{}
	}
	text := strings.TrimSpace(n.Str())
	return selector{unread: n.Kind != object.String || text != "" && text != "all()"}
}

// readAdmin reads the spec of an AdminNetworkPolicy, a ClusterNetworkPolicy or a
// BaselineAdminNetworkPolicy. It isolates for a direction where it denies all.
func readAdmin(spec *object.Node) *policy {
	p := &policy{namespaces: readSelector(spec.At("subject", "namespaces"))}
	if pods := spec.At("subject", "pods"); pods != nil {
		p.namespaces, p.pods = readSelector(pods.Get("namespaceSelector")), readSelector(pods.Get("podSelector"))
	}
	for d, peers := range [...]string{incoming: "from", outgoing: "to"} {
		for _, rule := range facts.Items(spec.Get(directions[d])) {
			switch rule.Get("action").Str() {
			case "Deny":
				p.isolates[d] = max(p.isolates[d], everyone(rule.Get(peers)))
			case "Allow", "Accept":
				p.dns = p.dns || direction(d) == outgoing && adminDNS(rule)
			}
		}
	}
	return p
}

// adminDNS says whether a rule of a policy above namespaces that allows lets
// names be looked up.
func adminDNS(rule *object.Node) bool {
	ports, protocols := rule.Get("ports"), rule.Get("protocols")
	return empty(ports) && empty(protocols) ||
		slices.ContainsFunc(facts.Items(ports), func(p *object.Node) bool { return isDNS(p.At("portNumber", "port")) }) ||
		slices.ContainsFunc(facts.Items(protocols), func(p *object.Node) bool { return isDNS(p.At("udp", "destinationPort", "number")) })
}

// isDNS says whether a port is one at which names are looked up.
func isDNS(port *object.Node) bool {
	return port != nil && port.Kind == object.Int && (port.Int() == dnsPort || port.Int() == openShiftDNSPort)
}

// everyone says whether peers of a policy above namespaces are all there are.
func everyone(peers *object.Node) truth {
	out := no
	for _, peer := range facts.Items(peers) {
		if namespaces := peer.Get("namespaces"); namespaces != nil {
			out = max(out, readSelector(namespaces).all())
		}
		if pods := peer.Get("pods"); pods != nil {
			out = max(out, min(readSelector(pods.Get("namespaceSelector")).all(), readSelector(pods.Get("podSelector")).all()))
		}
		for _, block := range facts.Items(peer.Get("networks")) {
			out = max(out, truthOf(block.Str() == "0.0.0.0/0"))
		}
	}
	return out
}

// selected says whether a policy isolates pods for a direction.
func (x *index) selected(s *space, c *class, d direction) truth {
	if c.selected != nil {
		return c.selected[d]
	}
	c.selected = new([2]truth)
	for d := range directions {
		for _, p := range s.policies {
			c.selected[d] = max(c.selected[d], min(p.isolates[d], p.pods.matches(c.labels)))
		}
		for _, p := range x.perhaps(s) {
			c.selected[d] = max(c.selected[d], min(p.isolates[d], p.pods.matches(c.labels), unknown))
		}
		for _, p := range x.above {
			c.selected[d] = max(c.selected[d], min(p.isolates[d], p.namespaces.matches(s.labels), p.pods.matches(c.labels)))
		}
	}
	return c.selected[d]
}

// perhaps returns the policies that may be in a namespace: those of namespaces
// that may be the same and, where it has no name, all that name none.
func (x *index) perhaps(s *space) []*policy {
	var out []*policy
	for _, near := range s.near {
		out = append(out, near.policies...)
	}
	if s.name == "" {
		out = append(out, x.strayPolicies...)
	}
	return out
}

// defaultDeny says whether all pods of a namespace are denied for a direction
// what no policy allows. A rule that opens everything for all of them undoes it.
func (x *index) defaultDeny(s *space, d direction) *object.Node {
	out, open := no, no
	add := func(p *policy, there truth) {
		t := min(p.isolates[d], p.pods.all(), there)
		out = max(out, t)
		if p.open[d] {
			open = max(open, t)
		}
	}
	for _, p := range s.policies {
		add(p, yes)
	}
	for _, p := range x.perhaps(s) {
		add(p, unknown)
	}
	if open == yes {
		return object.NewBool(false)
	}
	for _, p := range x.above {
		out = max(out, min(p.isolates[d], p.namespaces.matches(s.labels), p.pods.all()))
	}
	out = min(out, open.not())
	return x.node(out, "a policy that denies all %s of the namespace %s by default", directions[d], s)
}

// dns says whether pods of the namespace can look up names: where all egress is
// denied by default, a policy must say so.
func (x *index) dns(s *space, denied *object.Node) *object.Node {
	if denied.Kind == object.Bool && !denied.Bool() {
		return object.NewBool(true)
	}
	opens := no
	for _, p := range s.policies {
		opens = max(opens, min(p.isolates[outgoing], truthOf(p.dns)))
	}
	for _, p := range x.perhaps(s) {
		opens = max(opens, min(p.isolates[outgoing], truthOf(p.dns), unknown))
	}
	for _, p := range x.above {
		opens = max(opens, min(p.namespaces.matches(s.labels), truthOf(p.dns)))
	}
	if denied.Kind == object.Unknown && opens != yes {
		return denied
	}
	return x.node(opens, "a policy that lets pods of the namespace %s look up names", s)
}

// podNetwork is the fact about what holds a pod.
func (x *index) podNetwork(w *workload) *object.Object {
	s := x.space(w.o)
	selects := func(d direction) *object.Node {
		return x.node(x.selected(s, x.classes[w], d), "a policy for the %s of these pods", directions[d])
	}
	host := object.NewUnknown("hostNetwork is not true or false")
	if w.host != unknown {
		host = object.NewBool(w.host == yes)
	}
	return facts.New("PodNetwork", w.o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("hostNetwork", host),
		facts.Field("ingress", selects(incoming)),
		facts.Field("egress", selects(outgoing)),
		facts.Field("ingressWebhook", object.NewBool(w.webhook)),
	))}, facts.Place{Fact: object.Path(nil).Fields("facts"), Source: object.Path(nil).Fields("metadata", "name")})
}

// clusterNetwork is the fact about policies above namespaces.
func (x *index) clusterNetwork() *object.Object {
	out := no
	for _, p := range x.above {
		t := min(max(p.isolates[incoming], p.isolates[outgoing]), p.pods.all())
		if p.namespaces.unread {
			t = min(t, unknown)
		}
		for _, r := range p.namespaces.requirements {
			if r.operator == in || r.operator == exists {
				t = no // it is for chosen namespaces, not for all but some
			}
		}
		out = max(out, t)
	}
	return facts.New("ClusterNetwork", x.tier, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("defaultDeny", x.node(out, "a policy above namespaces that denies by default")),
	))}, facts.Place{Fact: object.Path(nil).Fields("facts"), Source: object.Path(nil).Fields("metadata", "name")})
}

// policyDefinitions are the definitions of policies above namespaces: where one
// is there, the network has them.
var policyDefinitions = map[string]bool{
	"adminnetworkpolicies.policy.networking.k8s.io":         true,
	"baselineadminnetworkpolicies.policy.networking.k8s.io": true,
	"clusternetworkpolicies.policy.networking.k8s.io":       true,
	"ciliumclusterwidenetworkpolicies.cilium.io":            true,
	"globalnetworkpolicies.crd.projectcalico.org":           true,
}

// policySelection is the fact about a NetworkPolicy.
func (x *index) policySelection(o *object.Object) *object.Object {
	spec := o.Root.Get("spec")
	s := x.space(o)
	chosen := readSelector(spec.Get("podSelector"))
	selects := chosen.all()
	if selects == no {
		selects = x.chooses(s, chosen)
	}
	under := object.Path(nil).Fields("facts")
	places := []facts.Place{{Fact: under.Fields("selects"), Source: object.Path(nil).Fields("spec", "podSelector")}}
	peers := facts.List()
	for d, field := range [...]string{incoming: "from", outgoing: "to"} {
		rules := spec.Get(directions[d])
		for i, rule := range facts.Items(rules) {
			list := rule.Get(field)
			for j, peer := range facts.Items(list) {
				found, which := x.peer(s, peer)
				if found == nil {
					continue
				}
				places = append(places, facts.Place{
					Fact: under.Fields("peers").Append(object.Step{Item: true, Index: len(peers.Items)}),
					Source: object.Path(nil).Fields("spec", directions[d]).Append(object.ItemStep(rules, i)).Fields(field).
						Append(object.ItemStep(list, j)),
				})
				peers.Items = append(peers.Items, facts.Map(
					facts.Field("direction", object.NewString(directions[d])), facts.Field("pods", object.NewString(which)), facts.Field("found", found)))
			}
		}
	}
	return facts.New("PolicySelection", o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("pods", object.NewString(chosen.String())),
		facts.Field("selects", x.node(selects, "a workload with the labels %s in the namespace %s", chosen, s)),
		facts.Field("peers", peers),
	))}, places...)
}

// chooses says whether a selector chooses a workload of the namespace.
func (x *index) chooses(s *space, chosen selector) truth {
	out := s.has(func(s *space) truth {
		out := no
		for _, c := range s.classes {
			out = max(out, chosen.matches(c.labels))
		}
		return out
	})
	if out == no && s.name == "" {
		for _, c := range x.strayClasses {
			out = max(out, min(chosen.matches(c.labels), unknown))
		}
	}
	return out
}

// peer says whether a peer that is chosen by labels of pods is there, and how it
// is chosen; nil for any other peer.
func (x *index) peer(s *space, peer *object.Node) (found *object.Node, which string) {
	if peer.Get("podSelector") == nil {
		return nil, ""
	}
	pods := readSelector(peer.Get("podSelector"))
	if pods.all() == yes {
		return nil, ""
	}
	namespaces := peer.Get("namespaceSelector")
	if namespaces == nil {
		return x.node(x.chooses(s, pods), "a workload with the labels %s in the namespace %s", pods, s), pods.String()
	}
	chosen := readSelector(namespaces)
	t := x.anywhere(chosen, pods)
	return x.node(t, "a workload with the labels %s", pods), pods.String()
}

// anywhere says whether a selector chooses a workload of the namespaces that
// another one chooses.
func (x *index) anywhere(namespaces, pods selector) truth {
	id := namespaces.String() + "\x00" + pods.String()
	read := !namespaces.unread && !pods.unread // else the id does not say all
	if t, ok := x.found[id]; ok && read {
		return t
	}
	t := no
	for _, s := range x.order {
		if matches := namespaces.matches(s.labels); matches != no {
			t = max(t, min(matches, x.chooses(s, pods)))
		}
	}
	for _, r := range x.askPods(namespaces, pods) {
		t = max(t, min(namespaces.matches(r.namespace), pods.matches(r.pods)))
	}
	if read {
		x.found[id] = t
	}
	return t
}

// String is the selector as kubectl takes it.
func (s selector) String() string {
	var all []string
	for _, r := range s.requirements {
		switch r.operator {
		case in:
			if len(r.values) == 1 {
				all = append(all, r.key+"="+r.values[0])
				continue
			}
			all = append(all, r.key+" in ("+strings.Join(r.values, ", ")+")")
		case notIn:
			all = append(all, r.key+" notin ("+strings.Join(r.values, ", ")+")")
		case exists:
			all = append(all, r.key)
		case doesNotExist:
			all = append(all, "!"+r.key)
		}
	}
	return strings.Join(all, ",")
}
