// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// The edges that the graph draws by itself, by their IDs.
const (
	usesAccount      = "AT-001"
	holdsPermission  = "AT-002"
	nodeIdentity     = "AT-004"
	nodeHosts        = "AT-005"
	nodeTokens       = "AT-006"
	controlPlaneNode = "AT-007"
	tokenSecret      = "AT-025"
	sharedVolume     = "AT-090"
	networkReach     = "AT-091"
	exposedEndpoint  = "AT-092"
	endpointExploit  = "AT-093"
	anonymousAccess  = "AT-108"
)

// builtin is an edge that the graph draws by itself.
func (g *Graph) builtin(id string) *Edge {
	for _, e := range g.edges {
		if e.ID == id {
			return e
		}
	}
	return &Edge{Name: strings.ToLower(id), ID: id, Title: id}
}

// on says whether an edge is drawn: one that nothing among the objects speaks
// for only where it is assumed.
func (g *Graph) on(e *Edge) bool { return !e.Off || g.assumed[e.index] }

// update makes the links again that are not as the objects are.
func (g *Graph) update() {
	if len(g.names.things) > 4096 && len(g.names.things) > 3*g.used() {
		g.restart()
	}
	if none := len(g.own.nodes) == 0; g.units[unitKey{kind: unitStatic}] == nil || g.nodeless != none {
		g.nodeless = none
		g.remake(unitKey{kind: unitStatic}, g.static)
	}
	g.updateConditions()
	g.updateRoles()
	for key := range g.own.staleGroups {
		g.remake(unitKey{kind: unitGroup, a: key.namespace, b: key.owner, of: key}, func(m *maker) { m.group(key) })
	}
	for ref := range g.own.staleObjects {
		g.remake(unitKey{kind: unitObject, of: ref}, func(m *maker) { m.object(ref) })
	}
	for n := range g.own.staleAccounts {
		g.remake(unitKey{kind: unitAccount, a: n.namespace, b: n.name}, func(m *maker) { m.account(n) })
	}
	for n := range g.own.staleNodes {
		g.remake(unitKey{kind: unitNode, a: n}, func(m *maker) { m.node(n) })
	}
	for ns := range g.own.staleNamespaces {
		g.remake(unitKey{kind: unitNamespace, a: ns}, func(m *maker) { m.namespace(ns) })
	}
	g.updateNetwork()
	clear(g.own.staleGroups)
	clear(g.own.staleObjects)
	clear(g.own.staleAccounts)
	clear(g.own.staleNamespaces)
	clear(g.own.staleNodes)
}

// updateConditions sees to it that an edge which needs something of another
// object comes and goes with that.
func (g *Graph) updateConditions() {
	now := map[int]string{}
	for i, m := range g.own.matched {
		_, doubt := m.state()
		now[i] = "there " + doubt
	}
	if !maps.Equal(now, g.states) {
		g.roles.again, g.roles.stale, g.net.stale = true, true, true
	}
	g.states = now
	if len(g.own.staleGroups) == 0 && !g.own.staleServices {
		return
	}
	g.own.staleServices = false
	for ref := range g.own.calling {
		g.own.staleObjects[ref] = true
	}
}

// used is how many things the links are between, at the most.
func (g *Graph) used() int {
	n := 0
	for _, u := range g.units {
		n += len(u.links)
	}
	return n
}

// restart forgets every link and number, so that what is long gone is forgotten
// too.
func (g *Graph) restart() {
	g.restarts++
	g.names = names{number: map[thing]int32{}}
	g.units, g.changes = map[unitKey]*unit{}, nil
	x := &g.own
	for key := range x.groups {
		x.staleGroups[key] = true
	}
	for ref := range x.objects {
		x.staleObjects[ref] = true
	}
	for n := range x.accounts {
		x.staleAccounts[n] = true
	}
	for n := range x.running {
		x.staleAccounts[n] = true
	}
	for ns := range x.namespaces {
		x.staleNamespaces[ns] = true
	}
	for n := range x.nodes {
		x.staleNodes[n] = true
	}
	for n := range x.hosting {
		x.staleNodes[n] = true
	}
	g.roles.again, g.roles.stale, g.net.stale = true, true, true
	g.dirty = true
}

// scoped are the places that are held for all of a scope.
var scoped = []string{PlaceContainers, PlaceEndpoints, PlaceAccounts, PlaceTokenAccounts, PlaceSecrets, PlaceVolumes, PlaceRoles}

// all is the vertex for all things of a place in a scope.
func all(place, scope string) thing {
	if place == PlacePermissions {
		if scope == "" {
			return thing{kind: Cluster}
		}
		return thing{kind: Everything, namespace: scope}
	}
	return thing{kind: All, namespace: scope, name: place}
}

// The levels of Pod Security that edges ask for.
const (
	privileged = "privileged"
	baseline   = "baseline"
)

// static links what is there in every cluster.
func (g *Graph) static(m *maker) {
	cluster := thing{kind: Cluster}
	m.plain(thing{kind: Group, name: rbac.Masters}, cluster)
	m.plain(all(PlaceGroups, ""), thing{kind: Group, name: rbac.Masters})
	m.plain(all(PlaceSecrets, ""), thing{kind: AllSecrets})
	m.plain(all(PlaceSecrets, "kube-system"), thing{kind: AllSecrets})
	m.plain(all(PlaceIdentities, ""), all(PlaceUsers, ""))
	m.plain(all(PlaceIdentities, ""), all(PlaceAccounts, "")) // they are users by their names
	m.plain(thing{kind: Group, name: rbac.AllAccounts}, thing{kind: Group, name: rbac.Authenticated})
	if len(g.own.nodes) == 0 {
		m.plain(all(PlaceNodes, ""), aNode)
		m.plain(all(PlaceNodesTokens, ""), placed(tokensOf, ""))
	}
	m.plain(aNode, thing{kind: AnyNode})
	m.plain(placed(cloudOf, ""), thing{kind: CloudIdentity, name: "of the nodes"})
	m.link(aNode, placed(tokensOf, ""), g.builtin(nodeTokens), nil, "")
	m.link(thing{kind: Outside}, thing{kind: Group, name: rbac.Unauthenticated}, g.builtin(anonymousAccess), nil, "")
	m.plain(thing{kind: Group, name: rbac.Unauthenticated}, thing{kind: User, name: rbac.Anonymous})
	for _, h := range g.everything().edges {
		if _, full := h.mask(""); full && g.holds(h.edge) {
			m.granted(cluster, h, "", nil)
		}
	}
}

// aNode stands for a node of which nothing is known but that it is there.
var aNode = thing{kind: Node}

// What is of a node, or of the nodes of a workload.
const (
	nodesOf    = "nodes"
	tokensOf   = "tokens"
	identityOf = "identity"
	cloudOf    = "cloud"
	hostedOn   = "hosted"
)

// placed is something of a node.
func placed(what, node string) thing { return thing{kind: Placement, name: node, of: what} }

const notPlaced = "on which nodes the pods run is not known"

// group links a workload, its containers and what they hold.
func (m *maker) group(key groupKey) {
	w, ok := m.g.own.group(key)
	if !ok {
		delete(m.g.own.leaders, key)
		return
	}
	m.g.own.leaders[key] = w.name()
	entry, pod := w.of(Workload), w.of(Pod)
	m.plain(all(PlaceContainers, key.namespace), entry)
	m.plain(all(PlaceEndpoints, key.namespace), w.of(Endpoint))
	m.plain(all(PlaceAnyPod, ""), entry)
	m.plain(entry, thing{kind: Namespace, name: key.namespace})
	for i := range w.containers {
		m.plain(entry, w.container(i))
		m.plain(w.container(i), pod)
	}
	if len(w.containers) == 0 {
		m.plain(entry, pod)
	}
	exploit := m.g.builtin(endpointExploit)
	if m.g.on(exploit) {
		m.link(w.of(Endpoint), entry, exploit, &because{object: w.leader.ref}, "")
	}
	m.identity(w)
	m.placement(w)
	m.mounts(w)
	m.conditions(w)
}

// identity links a pod to the ServiceAccount whose token it has.
func (m *maker) identity(w *group) {
	account, ok := w.accountThing()
	e := m.g.builtin(usesAccount)
	token := w.setting(-1)
	token.kind, token.of = Setting, e.Name
	if mitigation := e.mitigation(); mitigation != nil {
		token.of = mitigation.key(e)
	}
	b := &because{object: w.leader.ref, words: "it runs as the ServiceAccount " + w.account}
	possible := w.mount.unknown
	switch {
	case !ok && w.unclear != "":
		m.link(w.of(Pod), all(PlaceAccounts, w.key.namespace), e, b, w.unclear)
		return
	case !ok || w.mount.said && !w.mount.mounted && possible == "":
		return
	}
	to := account
	if !w.mount.said {
		to = thing{kind: Placement, namespace: account.namespace, name: account.name, of: "mount"}
	}
	m.plain(w.of(Pod), token)
	m.link(token, to, e, b, possible)
	c := &Change{Object: w.leader.ref, Words: "do not mount the token, or give the ServiceAccount less"}
	if mitigation := e.mitigation(); mitigation != nil {
		c.Control, c.Words = mitigation.Control, mitigation.words(e)
	}
	c.Key = token.of + " " + c.Object.String()
	m.change(token, c)
	for _, n := range w.nodes() {
		m.plain(placed(tokensOf, n), token)
	}
	if len(w.nodes()) == 0 {
		m.link(placed(tokensOf, ""), token, nil, nil, notPlaced)
	}
}

// placement links a workload to the nodes that it runs on, and back.
func (m *maker) placement(w *group) {
	of := w.of(Placement)
	of.of = nodesOf
	hosts := m.g.builtin(nodeHosts)
	nodes := w.nodes()
	for _, n := range nodes {
		node := thing{kind: Node, name: n}
		m.plain(of, node)
		m.plain(w.of(Pod), placed(hostedOn, n))
		m.link(node, w.of(Workload), hosts, &because{object: w.leader.ref}, "")
	}
	if len(nodes) == 0 {
		m.plain(of, aNode)
		m.plain(w.of(Pod), placed(hostedOn, ""))
		m.link(aNode, w.of(Workload), hosts, &because{object: w.leader.ref}, notPlaced)
	}
}

// mounts links a pod to the Secrets and volumes that it has.
func (m *maker) mounts(w *group) {
	for _, s := range w.secrets {
		m.link(w.of(Pod), thing{kind: Secret, namespace: w.key.namespace, name: s}, mountsSecret, &because{object: w.leader.ref}, "")
	}
	shared := m.g.builtin(sharedVolume)
	for _, c := range w.claims {
		volume := thing{kind: Volume, namespace: w.key.namespace, name: c}
		m.link(w.of(Pod), volume, mountsVolume, &because{object: w.leader.ref}, "")
		if m.g.on(shared) {
			m.link(volume, w.of(Workload), shared, &because{object: w.leader.ref}, "")
		}
	}
}

// What a pod has without an act of the attacker's.
var (
	mountsSecret = &Edge{Name: "mounts-secret", Title: "reads a Secret that it has", BuiltIn: true}
	mountsVolume = &Edge{Name: "mounts-volume", Title: "reads a volume that it has", BuiltIn: true}
)

// conditions links what the workload's own settings lead to.
func (m *maker) conditions(w *group) {
	for i, match := range w.matches {
		e := m.g.edges[match.edge]
		if !m.g.on(e) || e.Network != nil || e.Permission != nil && e.From == PlaceIdentity {
			continue
		}
		possible := match.possible
		if e.Permission != nil {
			allowed, unknown := m.g.accountMay(w, e)
			if !allowed && unknown == "" {
				continue
			}
			if !allowed && possible == "" {
				possible = unknown
			}
		}
		from, container := w.of(Pod), -1
		if e.From == PlaceContainer && match.container >= 0 {
			from, container = w.container(match.container), match.container
		}
		if e.From == PlaceOutside {
			from = thing{kind: Outside}
		}
		b := &because{object: w.leader.ref, words: match.words}
		if i < len(w.leader.positions) {
			b.position = at(w.leader.positions[i])
		}
		for _, to := range m.reached(w, e, match) {
			m.through(from, to, e, w.setting(container), b, possible)
		}
	}
	for edge := range m.g.ofMatched(w) {
		e := m.g.edges[edge]
		if account, ok := w.accountThing(); ok && e.To == PlaceMatchedAccounts {
			m.plain(matched(e, ""), account)
		} else if e.To == PlaceMatched {
			m.plain(matched(e, ""), w.of(Workload))
			m.plain(matched(e, w.key.namespace), w.of(Workload))
		}
	}
}

// matched is the vertex for what does not meet the condition of an edge: of
// workloads, those of a scope; a controller acts for others, wherever it runs.
func matched(e *Edge, scope string) thing {
	if e.To != PlaceMatched {
		scope = ""
	}
	return thing{kind: All, namespace: scope, name: e.To, of: e.Name}
}

// ofMatched are the edges of permissions and of the network whose condition a
// workload does not meet.
func (g *Graph) ofMatched(w *group) map[int]bool {
	out := map[int]bool{}
	for _, match := range w.matches {
		if e := g.edges[match.edge]; (e.Permission != nil && e.From == PlaceIdentity || e.Network != nil) && g.on(e) {
			out[match.edge] = true
		}
	}
	return out
}

// accountMay says whether the ServiceAccount of a workload holds what an edge
// needs, or why that is not known.
func (g *Graph) accountMay(w *group, e *Edge) (allowed bool, unknown string) {
	account, ok := w.accountThing()
	if !ok {
		return false, w.unclear
	}
	if w.mount.said && !w.mount.mounted {
		return false, w.mount.unknown
	}
	subject := rbac.Subject{Kind: rbac.ServiceAccount, Namespace: strings.TrimSuffix(account.namespace, unsaid), Name: account.name}
	for _, any := range e.required {
		may := false
		for _, a := range any {
			q := rbac.Request{Group: a.group, Resource: a.resource, Subresource: a.subresource}
			if !a.cluster {
				q.Namespace = subject.Namespace
			}
			for _, q.Verb = range a.Verbs {
				answer := g.identity.Can(subject, nil, q)
				may = may || answer.Allowed
				if len(answer.Unknown) > 0 {
					unknown = answer.Unknown[0]
				}
			}
		}
		if !may {
			return false, unknown
		}
	}
	return true, ""
}

// reached are the things that an edge of a workload leads to.
func (m *maker) reached(w *group, e *Edge, match match) []thing {
	ofNodes := func(what string) []thing {
		var out []thing
		for _, n := range w.nodes() {
			out = append(out, placed(what, n))
		}
		if len(out) == 0 {
			out = append(out, placed(what, ""))
		}
		return out
	}
	switch e.To {
	case PlaceNode:
		of := w.of(Placement)
		of.of = nodesOf
		return []thing{of}
	case PlaceNodeTokens:
		return ofNodes(tokensOf)
	case PlaceNodeIdentity:
		return ofNodes(identityOf)
	case PlaceNodeCloud:
		return ofNodes(cloudOf)
	case PlaceWorkload, PlaceContainer, PlaceMatched:
		return []thing{w.of(Workload)}
	case PlacePod:
		return []thing{w.of(Pod)}
	case PlaceSiblings:
		var out []thing
		for i := range w.containers {
			if i != match.container {
				out = append(out, w.container(i))
			}
		}
		return out
	case PlaceAccount, PlaceMatchedAccounts:
		if account, ok := w.accountThing(); ok {
			return []thing{account}
		}
		return nil
	case PlaceMounted:
		var out []thing
		for _, s := range w.secrets {
			out = append(out, thing{kind: Secret, namespace: w.key.namespace, name: s})
		}
		return out
	case PlaceClaims:
		var out []thing
		for _, c := range w.claims {
			out = append(out, thing{kind: Volume, namespace: w.key.namespace, name: c})
		}
		return out
	case PlaceEndpoint:
		return []thing{w.of(Endpoint)}
	case PlaceCloud:
		return []thing{{kind: CloudIdentity, name: match.name}}
	}
	return m.place(e.To, "")
}

// place are the things of a place that is not of a workload or an object.
func (m *maker) place(place, scope string) []thing {
	switch place {
	case PlaceCluster:
		return []thing{{kind: Cluster}}
	case PlaceMasters:
		return []thing{{kind: Group, name: rbac.Masters}}
	case PlaceOutside:
		return []thing{{kind: Outside}}
	case PlaceTraffic, PlacePolicy, PlaceAudit, PlaceAvailability, PlaceImages, PlacePodData:
		return []thing{{kind: Impact, name: place}}
	case PlaceNodes, PlaceNodesTokens, PlaceUsers, PlaceGroups, PlaceIdentities, PlaceAnyPod:
		return []thing{all(place, "")}
	case PlaceAllSecrets:
		return []thing{all(PlaceSecrets, "")}
	case PlaceNode:
		return []thing{aNode}
	case PlaceNodeTokens:
		return []thing{placed(tokensOf, "")}
	case PlaceNodeIdentity:
		return []thing{{kind: Group, name: rbac.Nodes}}
	case PlaceNodeCloud:
		return []thing{placed(cloudOf, "")}
	case PlacePrivileged:
		return []thing{anyNode.thing(scope)}
	case PlaceContainers, PlaceEndpoints, PlaceAccounts, PlaceTokenAccounts, PlaceSecrets, PlaceVolumes, PlacePermissions, PlaceRoles:
		return []thing{all(place, scope)}
	}
	return nil
}

// object links what an object that is no workload says.
func (m *maker) object(ref object.Ref) {
	k := m.g.own.objects[ref]
	if k == nil {
		return
	}
	switch {
	case k.secret != nil:
		secret := thing{kind: Secret, namespace: space(ref.Namespace), name: ref.Name}
		m.plain(all(PlaceSecrets, secret.namespace), secret)
		m.plain(secret, thing{kind: Namespace, name: secret.namespace})
	case k.claim:
		m.plain(all(PlaceVolumes, space(ref.Namespace)), thing{kind: Volume, namespace: space(ref.Namespace), name: ref.Name})
	}
	for i, match := range k.matches {
		e := m.g.edges[match.edge]
		if !m.g.on(e) {
			continue
		}
		if e.Permission != nil || e.Network != nil {
			if e.To == PlaceSelf {
				for _, self := range selfOf(ref) {
					m.plain(matched(e, ""), self)
				}
			}
			continue
		}
		b := &because{object: ref, words: match.words}
		if i < len(k.positions) {
			b.position = at(k.positions[i])
		}
		setting := thing{kind: Setting, namespace: ref.Namespace, name: ref.Kind + "/" + ref.Name}
		tos := m.ofObject(k, e.To, match)
		if e.To == PlaceToken && k.secret != nil {
			match.possible = cmp.Or(match.possible, k.secret.unknown)
		}
		for _, from := range m.fromObject(k, e, match) {
			for _, to := range tos {
				m.through(from, to, e, setting, b, match.possible)
			}
		}
		if e.From != PlaceBackends && e.From != PlaceSelected {
			continue
		}
		for from, unclear := range m.maybeBackends(k) {
			for _, to := range tos {
				m.through(from, to, e, setting, b, cmp.Or(match.possible, unclear))
			}
		}
	}
}

// node links a node, which is there or which a pod names.
func (m *maker) node(name string) {
	k := m.g.own.nodes[name]
	if k == nil && m.g.own.hosting[name] == 0 {
		return
	}
	node, user := thing{kind: Node, name: name}, thing{kind: User, name: "system:node:" + name}
	m.plain(all(PlaceNodes, ""), node)
	m.plain(node, thing{kind: AnyNode})
	m.link(node, placed(tokensOf, name), m.g.builtin(nodeTokens), nil, "")
	m.plain(all(PlaceNodesTokens, ""), placed(tokensOf, name))
	m.link(node, user, m.g.builtin(nodeIdentity), nil, "")
	m.plain(user, thing{kind: Group, name: rbac.Nodes})
	m.plain(placed(identityOf, name), user)
	m.plain(placed(cloudOf, name), thing{kind: CloudIdentity, name: "of the nodes"})
	m.link(aNode, node, nil, nil, notPlaced)
	for _, of := range [...]string{tokensOf, identityOf} {
		m.link(placed(of, ""), placed(of, name), nil, nil, notPlaced)
	}
	if k == nil {
		return
	}
	m.plain(placed(hostedOn, ""), placed(hostedOn, name))
	if k.node.controlPlane || k.node.unknown != "" {
		m.link(node, thing{kind: Cluster}, m.g.builtin(controlPlaneNode), &because{object: k.ref}, k.node.unknown)
	}
}

// fromObject are the things that an edge of an object begins at. Every
// ServiceAccount is in the group of all of them.
func (m *maker) fromObject(k *Kept, e *Edge, match match) []thing {
	if e.From == PlaceAccounts {
		return []thing{{kind: Group, name: rbac.AllAccounts}}
	}
	return m.ofObject(k, e.From, match)
}

// ofObject are the things of a place, as seen from an object.
func (m *maker) ofObject(k *Kept, place string, match match) []thing {
	ref := k.ref
	switch place {
	case PlaceSelf:
		return selfOf(ref)
	case PlaceToken:
		if k.secret != nil && k.secret.account != "" {
			return []thing{{kind: ServiceAccount, namespace: space(ref.Namespace), name: k.secret.account}}
		}
		if k.secret != nil && k.secret.unknown != "" {
			return []thing{all(PlaceAccounts, space(ref.Namespace))}
		}
		return nil
	case PlaceBackends, PlaceSelected:
		return m.backends(k)
	case PlaceHosted:
		return []thing{placed(hostedOn, ref.Name)}
	case PlaceCloud:
		return []thing{{kind: CloudIdentity, name: match.name}}
	case PlaceNode:
		if k.node != nil {
			return selfOf(ref)
		}
	}
	return m.place(place, "")
}

// selfOf is the thing that an object is.
func selfOf(ref object.Ref) []thing {
	kinds := map[string]NodeKind{"Secret": Secret, "ServiceAccount": ServiceAccount, "Node": Node, "PersistentVolumeClaim": Volume}
	if kind, ok := kinds[ref.Kind]; ok && ref.Group() == "" {
		namespace := ""
		if kind != Node {
			namespace = space(ref.Namespace)
		}
		return []thing{{kind: kind, namespace: namespace, name: ref.Name}}
	}
	if ref.Kind == "Namespace" {
		return []thing{{kind: Editor, namespace: ref.Name}}
	}
	return nil
}

// called are the Services that an object calls.
func (k *Kept) called() []serviceRef {
	if k.service != nil {
		return []serviceRef{{space(k.ref.Namespace), k.ref.Name}}
	}
	return k.backends
}

// backends are the workloads behind the Services that an object calls.
func (m *maker) backends(k *Kept) []thing {
	var out []thing
	for _, c := range k.called() {
		s := m.g.own.services[name(c)]
		if s == nil || s.service.unknown != "" || len(s.service.selector) == 0 {
			continue
		}
		for key := range m.g.own.inside[c.namespace] {
			if w, ok := m.g.own.group(key); ok && selects(s.service.selector, w.labels) {
				out = append(out, w.of(Pod))
			}
		}
	}
	slices.SortFunc(out, thing.compare)
	return slices.Compact(out)
}

// maybeBackends are workloads that may be behind the Services that an object
// calls, with why that is not known.
func (m *maker) maybeBackends(k *Kept) map[thing]string {
	out := map[thing]string{}
	if k.unclear != "" {
		for key := range m.g.own.groups {
			if w, ok := m.g.own.group(key); ok {
				out[w.of(Pod)] = k.unclear
			}
		}
		return out
	}
	for _, c := range k.called() {
		s := m.g.own.services[name(c)]
		if s == nil || s.service.unknown == "" && len(s.service.selector) == 0 {
			continue
		}
		for key := range m.g.own.inside[c.namespace] {
			w, ok := m.g.own.group(key)
			if ok && w.mayHave(s.service.selector) && (s.service.unknown != "" || !selects(s.service.selector, w.labels)) {
				out[w.of(Pod)] = cmp.Or(s.service.unknown, w.unlabelled)
			}
		}
	}
	return out
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// mayHave says whether the labels of the pods may be those of a selector.
func (s *spec) mayHave(selector map[string]string) bool {
	for k, v := range selector {
		if label, ok := s.labels[k]; s.unlabelled == "" && label != v || ok && label != v {
			return false
		}
	}
	return true
}

// account links a ServiceAccount.
func (m *maker) account(n name) {
	g := m.g
	k := g.own.accounts[n]
	if k == nil && g.own.running[n] == 0 && g.own.tokens[n] == 0 {
		return
	}
	account := thing{kind: ServiceAccount, namespace: n.namespace, name: n.name}
	m.plain(all(PlaceAccounts, n.namespace), account)
	m.plain(account, thing{kind: Group, name: rbac.AllAccounts + ":" + n.namespace})
	m.plain(account, thing{kind: Namespace, name: n.namespace})
	mount := thing{kind: Placement, namespace: n.namespace, name: n.name, of: "mount"}
	switch {
	case k == nil && n.name != "default":
		m.link(mount, account, nil, nil, possible(&g.env, "the ServiceAccount "+qualified(n.namespace, n.name)+" is not among what was read"))
	case k == nil:
		m.plain(mount, account)
	case k.account.unknown != "":
		m.link(mount, account, nil, nil, k.account.unknown)
	case k.account.mounts == nil || *k.account.mounts:
		m.plain(mount, account)
	}
	if g.own.tokens[n] > 0 {
		m.plain(all(PlaceTokenAccounts, n.namespace), account)
	}
}

// podSecurityControls are the controls that a namespace passes which admits no
// pod of a level.
var podSecurityControls = map[string]string{privileged: "pod-security-level", baseline: "pod-security-restricted"}

// namespace links what is held for all of a namespace.
func (m *maker) namespace(ns string) {
	g := m.g
	if g.own.namespaces[ns] == 0 && ns != "kube-system" {
		return
	}
	for _, place := range scoped {
		m.plain(all(place, ""), all(place, ns))
	}
	group := thing{kind: Group, name: rbac.AllAccounts + ":" + ns}
	m.plain(group, thing{kind: Group, name: rbac.AllAccounts})
	for _, h := range g.editing().edges {
		if _, full := h.mask(ns); full && g.holds(h.edge) {
			m.granted(thing{kind: Editor, namespace: ns}, h, ns, nil)
		}
	}
	for level, control := range podSecurityControls {
		m.admission(ns, level, control)
	}
}

// admission links a pod that asks for more than a level of Pod Security to what
// it comes to hold, where the namespace admits it.
func (m *maker) admission(ns, level, control string) {
	g := m.g
	ref := object.Ref{APIVersion: "v1", Kind: "Namespace", Name: ns}
	possible := ""
	switch k := g.own.policies[ns]; {
	case k == nil:
		if !g.env.Complete {
			possible = "the Namespace " + ns + " is not among what was read"
		}
	case k.namespace.unknown != "":
		possible = k.namespace.unknown
	case k.namespace.level == "" || k.namespace.level == privileged:
	case k.namespace.level == baseline && level == baseline:
	default:
		return
	}
	for _, to := range g.admittedTo() {
		if to.level != level {
			continue
		}
		from := to.thing(ns)
		m.plain(to.thing(""), from)
		setting := thing{kind: Setting, name: "Namespace/" + ns, of: strings.TrimSpace(control + " " + to.of)}
		m.plain(from, setting)
		reached := m.place(to.place, ns)
		if to.of != "" {
			reached = []thing{{kind: All, name: to.place, of: to.of}}
		}
		for _, reached := range reached {
			m.link(setting, reached, nil, &because{object: ref, words: "it admits such a pod"}, possible)
		}
		m.change(setting, &Change{Key: control + " " + ref.String(), Object: ref, Control: control, Words: "enforce a level of Pod Security that does not admit it"})
	}
}

// admission is a pod that a namespace admits if it enforces nothing stricter than
// a level of Pod Security, and where that leads: a place, or what does not meet
// the condition of an edge.
type admission struct{ level, place, of string }

// anyNode is what a privileged pod leads to.
var anyNode = admission{level: privileged, place: PlaceNodes}

// thing is the vertex for such a pod in a scope.
func (a admission) thing(scope string) thing {
	return thing{kind: All, namespace: scope, name: "admitted-" + a.level, of: a.place + " " + a.of}
}

// admittedTo are the admissions that edges ask for.
func (g *Graph) admittedTo() []admission {
	if g.admissions == nil {
		g.admissions = []admission{anyNode}
		for _, e := range g.edges {
			if a, ok := e.admission(); ok && !slices.Contains(g.admissions, a) {
				g.admissions = append(g.admissions, a)
			}
		}
	}
	return g.admissions
}

func (e *Edge) admission() (admission, bool) {
	switch {
	case e.Permission == nil || e.Permission.PodSecurity == "" && e.To != PlacePrivileged:
		return admission{}, false
	case e.To == PlacePrivileged:
		return anyNode, true
	case e.To == PlaceSelf || e.To == PlaceMatched || e.To == PlaceMatchedAccounts:
		return admission{e.Permission.PodSecurity, e.To, e.Name}, true
	}
	return admission{level: e.Permission.PodSecurity, place: e.To}, true
}
