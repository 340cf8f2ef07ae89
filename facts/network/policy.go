// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// direction is that of traffic, seen from a pod.
type direction int

const (
	ingress direction = iota
	egress
)

var (
	directions = [...]string{ingress: "ingress", egress: "egress"}
	peersOf    = [...]string{ingress: "from", egress: "to"}
)

// tier is where among policies one stands. Those of the first decide first.
type tier uint8

const (
	adminTier tier = iota
	namespaceTier
	baselineTier
)

var tierNames = [...]string{adminTier: "Admin", namespaceTier: "NetworkPolicy", baselineTier: "Baseline"}

// policy is what is kept of a policy of any tier.
type policy struct {
	o    *object.Object
	tier tier
	// priority orders policies of one tier, the lowest first.
	priority int64
	// unread says why the policy as a whole may not be what it seems.
	unread string
	// namespaces chooses those that a policy above namespaces is for; pods those
	// that it is for there.
	namespaces selector
	pods       selector
	// applies says for which directions the policy is: a NetworkPolicy isolates
	// the pods for these.
	applies [2]truth
	rules   [2][]*rule
}

// action is what a rule does.
type action uint8

const (
	accept action = iota
	deny
	pass
	unreadAction
)

var actions = map[string]action{"Accept": accept, "Allow": accept, "Deny": deny, "Pass": pass}

// rule is one of a policy, for one direction.
type rule struct {
	name   string
	index  int
	action action
	// everyone says that the peers are all there are.
	everyone bool
	peers    []peer
	allPorts bool
	ports    []portRule
}

// peerKind says what a peer is chosen by.
type peerKind uint8

const (
	podPeer   peerKind = iota
	blockPeer          // by addresses
	nodePeer           // by labels of nodes
	namePeer           // by domain names
	unreadPeer
)

// peer is the other end, as a rule has it.
type peer struct {
	kind peerKind
	// own says that pods are of the policy's namespace; else namespaces chooses
	// theirs.
	own        bool
	namespaces selector
	pods       selector // of nodes, where these are chosen
	blocks     []block
}

// block is addresses.
type block struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

// portRule is ports as a rule has them: all of a protocol, some of them, or one
// by its name.
type portRule struct {
	protocol    string // empty: of any
	first, last int32
	name        string
	unread      bool
}

// readNetworkPolicy reads a NetworkPolicy. Without policyTypes it is for
// ingress, and for egress where it has rules for that.
func readNetworkPolicy(o *object.Object) *policy {
	spec := o.Root.Get("spec")
	p := &policy{o: facts.Slim(o, []string{"spec"}), tier: namespaceTier, pods: readSelector(spec.Get("podSelector"))}
	p.applies[ingress], p.applies[egress] = policyTypes(spec)
	for d := range directions {
		rules := spec.Get(directions[d])
		if rules != nil && rules.Kind != object.List {
			p.unread = "its " + directions[d] + " rules could not be read"
		}
		for i, n := range facts.Items(rules) {
			p.rules[d] = append(p.rules[d], readNamespacedRule(n, i, direction(d)))
		}
	}
	if spec != nil && spec.Kind != object.Map {
		p.unread = "its spec could not be read"
		p.pods.unread, p.applies = true, [2]truth{unknown, unknown}
	}
	return p
}

// policyTypes says which directions a NetworkPolicy is for.
func policyTypes(spec *object.Node) (inward, outward truth) {
	types := spec.Get("policyTypes")
	switch {
	case types == nil, types.Kind == object.List && len(types.Items) == 0:
		rules := spec.Get("egress")
		switch {
		case rules != nil && rules.Kind != object.List:
			return yes, unknown
		case len(facts.Items(rules)) > 0:
			return yes, yes
		}
		return yes, no
	case types.Kind != object.List || types.HasUnknown():
		return unknown, unknown
	}
	has := func(name string) truth {
		return truthOf(slices.ContainsFunc(types.Items, func(t *object.Node) bool { return t.Str() == name }))
	}
	return has("Ingress"), has("Egress")
}

// readNamespacedRule reads a rule of a NetworkPolicy: without peers for all of
// them, without ports for all of these.
func readNamespacedRule(n *object.Node, index int, d direction) *rule {
	r := &rule{index: index}
	switch peers := n.Get(peersOf[d]); {
	case n.Kind == object.Unknown, peers != nil && peers.Kind != object.List:
		r.peers = []peer{{kind: unreadPeer}}
	case len(facts.Items(peers)) == 0:
		r.everyone = true
	default:
		for _, item := range peers.Items {
			r.peers = append(r.peers, readNamespacedPeer(item))
		}
	}
	switch ports := n.Get("ports"); {
	case n.Kind == object.Unknown, ports != nil && ports.Kind != object.List:
		r.ports = []portRule{{unread: true}}
	case len(facts.Items(ports)) == 0:
		r.allPorts = true
	default:
		for _, item := range ports.Items {
			r.ports = append(r.ports, readNamespacedPort(item))
		}
	}
	return r
}

// readNamespacedPeer reads a peer of a NetworkPolicy: a block of addresses, or
// pods, of its own namespace where it names no others.
func readNamespacedPeer(n *object.Node) peer {
	pods, namespaces, addresses := n.Get("podSelector"), n.Get("namespaceSelector"), n.Get("ipBlock")
	for _, f := range fields(n) {
		if f != "podSelector" && f != "namespaceSelector" && f != "ipBlock" {
			return peer{kind: unreadPeer}
		}
	}
	switch {
	case addresses != nil && pods == nil && namespaces == nil:
		b, ok := readBlock(addresses)
		if !ok {
			return peer{kind: unreadPeer}
		}
		return peer{kind: blockPeer, blocks: []block{b}}
	case addresses != nil, pods == nil && namespaces == nil:
		return peer{kind: unreadPeer} // the API server refuses it
	}
	return peer{own: namespaces == nil, namespaces: readSelector(namespaces), pods: readSelector(pods)}
}

func readBlock(n *object.Node) (block, bool) {
	cidr, ok := readPrefix(n.Get("cidr"))
	b := block{cidr: cidr}
	except := n.Get("except")
	if except != nil && except.Kind != object.List {
		return b, false
	}
	for _, e := range facts.Items(except) {
		p, good := readPrefix(e)
		b.except, ok = append(b.except, p), ok && good
	}
	return b, ok
}

// readPrefix reads addresses as Kubernetes does: without regard to the bits
// behind the prefix, and to zeros before a number.
func readPrefix(n *object.Node) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(withoutZeros(n.Str()))
	if err != nil {
		return p, false
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// withoutZeros returns an IPv4 prefix without the zeros before its numbers,
// which Kubernetes takes for decimal and others refuse.
func withoutZeros(s string) string {
	if strings.Contains(s, ":") {
		return s
	}
	address, bits, ok := strings.Cut(s, "/")
	parts := strings.Split(address, ".")
	if !ok || len(parts) != 4 {
		return s
	}
	for i, part := range parts {
		if trimmed := strings.TrimLeft(part, "0"); part != "" && trimmed == "" {
			parts[i] = "0"
		} else {
			parts[i] = trimmed
		}
	}
	return strings.Join(parts, ".") + "/" + bits
}

// readNamespacedPort reads a port of a NetworkPolicy.
func readNamespacedPort(n *object.Node) portRule {
	p := portRule{protocol: TCP, first: 1, last: maxPort}
	if protocol := n.Get("protocol"); protocol != nil {
		p.protocol = protocol.Str()
	}
	p.unread = n.Kind != object.Map || n.HasUnknown() || !slices.Contains(protocols[:], p.protocol)
	port, end := n.Get("port"), n.Get("endPort")
	switch {
	case port == nil:
		p.unread = p.unread || end != nil
	case port.Kind == object.String:
		p.name = port.Text
		p.unread = p.unread || end != nil || !isPortName(port.Text)
	default:
		number, ok := portNumber(port)
		p.first, p.last, p.unread = number, number, p.unread || !ok
	}
	if end != nil && !p.unread {
		last, ok := portNumber(end)
		p.last, p.unread = last, !ok || last < p.first
	}
	return p
}

// isPortName says whether a text may be the name of a port: it has a letter.
func isPortName(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return 'a' <= r && r <= 'z' })
}

// readClusterPolicy reads a policy above namespaces: a ClusterNetworkPolicy, or
// an AdminNetworkPolicy or BaselineAdminNetworkPolicy, of which it grew.
func readClusterPolicy(o *object.Object) *policy {
	spec := o.Root.Get("spec")
	p := &policy{o: facts.Slim(o, []string{"spec"}), tier: adminTier, applies: [2]truth{yes, yes}}
	switch o.Kind {
	case "ClusterNetworkPolicy":
		switch name := spec.Get("tier").Str(); name {
		case "Admin":
		case "Baseline":
			p.tier = baselineTier
		default:
			p.unread = "its tier is neither Admin nor Baseline"
		}
	case "BaselineAdminNetworkPolicy":
		p.tier, p.priority = baselineTier, lastPriority
	}
	if n := spec.Get("priority"); n != nil && n.Kind == object.Int {
		p.priority = n.Int()
	} else if o.Kind != "BaselineAdminNetworkPolicy" {
		p.unread = "its priority could not be read"
	}
	p.readSubject(spec.Get("subject"))
	for d := range directions {
		rules := spec.Get(directions[d])
		if rules != nil && rules.Kind != object.List {
			p.unread = "its " + directions[d] + " rules could not be read"
		}
		for i, n := range facts.Items(rules) {
			p.rules[d] = append(p.rules[d], readClusterRule(n, i, direction(d)))
		}
	}
	return p
}

// lastPriority comes after all that a policy may have. There is one
// BaselineAdminNetworkPolicy, and it has none.
const lastPriority = 1001

// readSubject reads whom a policy above namespaces is for.
func (p *policy) readSubject(n *object.Node) {
	namespaces, pods := n.Get("namespaces"), n.Get("pods")
	switch {
	case namespaces != nil && pods == nil && len(fields(n)) == 1:
		p.namespaces = readSelector(namespaces)
	case pods != nil && namespaces == nil && len(fields(n)) == 1:
		p.namespaces, p.pods = readSelector(pods.Get("namespaceSelector")), readSelector(pods.Get("podSelector"))
		p.pods.unread = p.pods.unread || pods.Kind != object.Map
	default:
		p.pods.unread = true
	}
}

// readClusterRule reads a rule of a policy above namespaces.
func readClusterRule(n *object.Node, index int, d direction) *rule {
	r := &rule{index: index, name: n.Get("name").Str(), action: unreadAction}
	if a, ok := actions[n.Get("action").Str()]; ok {
		r.action = a
	}
	switch peers := n.Get(peersOf[d]); {
	case peers == nil || peers.Kind != object.List:
		r.peers = []peer{{kind: unreadPeer}}
	default:
		for _, item := range peers.Items {
			r.readClusterPeer(item)
		}
	}
	r.readClusterPorts(n)
	return r
}

// readClusterPeer adds a peer of a policy above namespaces. One without a field
// that this version of the API knows fails closed, as the API wants it: it
// allows nothing, and denies all where the rule is not one that accepts.
func (r *rule) readClusterPeer(n *object.Node) {
	set := fields(n)
	switch {
	case n.Kind == object.Map && len(set) == 0:
		if r.action != accept {
			r.action, r.everyone = deny, true
		}
		return
	case len(set) != 1:
		r.peers = append(r.peers, peer{kind: unreadPeer})
		return
	}
	value := n.Get(set[0])
	switch p := (peer{}); set[0] {
	case "namespaces":
		p.namespaces = readSelector(value)
		r.peers = append(r.peers, p)
	case "pods":
		p.namespaces, p.pods = readSelector(value.Get("namespaceSelector")), readSelector(value.Get("podSelector"))
		p.pods.unread = p.pods.unread || value.Kind != object.Map
		r.peers = append(r.peers, p)
	case "nodes":
		r.peers = append(r.peers, peer{kind: nodePeer, pods: readSelector(value)})
	case "networks":
		r.peers = append(r.peers, readNetworks(value))
	case "domainNames":
		r.peers = append(r.peers, peer{kind: namePeer})
	default:
		r.peers = append(r.peers, peer{kind: unreadPeer})
	}
}

func readNetworks(n *object.Node) peer {
	p := peer{kind: blockPeer}
	if n.Kind != object.List {
		return peer{kind: unreadPeer}
	}
	for _, item := range n.Items {
		cidr, ok := readPrefix(item)
		if !ok {
			return peer{kind: unreadPeer}
		}
		p.blocks = append(p.blocks, block{cidr: cidr})
	}
	return p
}

// readClusterPorts reads the protocols of a rule of a ClusterNetworkPolicy, or
// the ports of one of the kinds before it.
func (r *rule) readClusterPorts(n *object.Node) {
	list, read := n.Get("protocols"), readProtocol
	if list == nil {
		list, read = n.Get("ports"), readAdminPort
	}
	switch {
	case list == nil:
		r.allPorts = true
	case list.Kind != object.List:
		r.ports = []portRule{{unread: true}}
	default:
		r.allPorts = len(list.Items) == 0
		for _, item := range list.Items {
			r.ports = append(r.ports, read(item))
		}
	}
}

// readProtocol reads a protocol of a ClusterNetworkPolicy, with a port of it.
func readProtocol(n *object.Node) portRule {
	set := fields(n)
	if len(set) != 1 {
		return portRule{unread: true}
	}
	value := n.Get(set[0])
	p := portRule{protocol: strings.ToUpper(set[0]), first: 1, last: maxPort}
	switch set[0] {
	case "destinationNamedPort":
		return portRule{name: value.Str(), unread: value.Str() == ""}
	case "tcp", "udp", "sctp":
	default:
		return portRule{unread: true}
	}
	port := value.Get("destinationPort")
	switch {
	case value.Kind != object.Map, value.HasUnknown():
		p.unread = true
	case port == nil:
		p.unread = len(fields(value)) > 0 // something that this version of the API does not know
	case port.Get("number") != nil:
		number, ok := portNumber(port.Get("number"))
		p.first, p.last, p.unread = number, number, !ok || port.Get("range") != nil
	default:
		p.readRange(port.Get("range"))
	}
	return p
}

func (p *portRule) readRange(n *object.Node) {
	first, ok := portNumber(n.Get("start"))
	last, good := portNumber(n.Get("end"))
	p.first, p.last, p.unread = first, last, !ok || !good || last < first
}

// readAdminPort reads a port of an AdminNetworkPolicy.
func readAdminPort(n *object.Node) portRule {
	set := fields(n)
	if len(set) != 1 || n.HasUnknown() {
		return portRule{unread: true}
	}
	value := n.Get(set[0])
	p := portRule{protocol: TCP}
	if protocol := value.Get("protocol"); protocol != nil {
		p.protocol = protocol.Str()
	}
	switch set[0] {
	case "namedPort":
		return portRule{name: value.Str(), unread: value.Str() == ""}
	case "portNumber":
		number, ok := portNumber(value.Get("port"))
		p.first, p.last, p.unread = number, number, !ok
	case "portRange":
		p.readRange(value)
	default:
		p.unread = true
	}
	p.unread = p.unread || !slices.Contains(protocols[:], p.protocol)
	return p
}

// prefixes calls f with all prefixes that the policy names.
func (p *policy) prefixes(f func(netip.Prefix)) {
	for d := range p.rules {
		for _, r := range p.rules[d] {
			for _, peer := range r.peers {
				for _, b := range peer.blocks {
					f(b.cidr)
					for _, e := range b.except {
						f(e)
					}
				}
			}
		}
	}
}

// podKeys calls f with all keys of labels of pods that the policy names.
func (p *policy) podKeys(f func(string)) {
	p.pods.keys(f)
	for d := range p.rules {
		for _, r := range p.rules[d] {
			for _, peer := range r.peers {
				if peer.kind == podPeer {
					peer.pods.keys(f)
				}
			}
		}
	}
}

// id is the same for peers that are the same pods, for policies of a namespace.
func (r *peer) id(p *policy, of *space) string {
	var b strings.Builder
	b.WriteByte('0' + byte(r.kind))
	if r.own {
		b.WriteString(of.name + "\x03" + of.source + "\x03" + p.o.Namespace)
	}
	b.WriteByte(2)
	b.WriteString(r.namespaces.id())
	b.WriteByte(2)
	b.WriteString(r.pods.id())
	for _, block := range r.blocks {
		b.WriteString(block.cidr.String())
		for _, e := range block.except {
			b.WriteString("-" + e.String())
		}
		b.WriteByte(',')
	}
	return b.String()
}
