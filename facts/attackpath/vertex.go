// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
)

// NodeKind says what a vertex of the graph is.
type NodeKind uint8

// The kinds of vertices. Things come first, then what leads from one to another:
// ways of holding all things of a kind, and changes.
const (
	Outside NodeKind = iota
	Cluster
	AnyNode
	AllSecrets
	Workload
	Container
	Node
	ServiceAccount
	User
	Group
	Secret
	Volume
	Namespace
	CloudIdentity
	Endpoint
	Everything // all that can be permitted in a namespace
	Impact     // traffic, policy, audit, …: leads nowhere further
	Binding
	Permissions // what a role grants in a scope
	Editor      // whoever may edit a namespace
	Pod         // code in any container of a workload
	Placement   // the nodes of a workload, or something of theirs
	All         // all things of a kind in a scope
	Setting     // what a person can change
)

var kindNames = [...]string{
	Outside: "internet", Cluster: "cluster-admin", AnyNode: "node", AllSecrets: "secrets", Workload: "workload", Container: "container",
	Node: "node", ServiceAccount: "sa", User: "user", Group: "group", Secret: "secret", Volume: "volume", Namespace: "namespace",
	CloudIdentity: "cloud", Endpoint: "endpoint", Everything: "permissions", Impact: "impact", Binding: "binding", Permissions: "permissions", Editor: "editor",
	Pod: "pod", Placement: "placement", All: "all", Setting: "setting",
}

// String returns the kind's name, with which names of vertices begin.
func (k NodeKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// thing names a vertex.
type thing struct {
	kind NodeKind
	// namespace is the one that it is in; "" for none, and for all of a scope.
	namespace string
	// name is its own; of is what tells apart what has the same name.
	name, of string
}

func (a thing) compare(b thing) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name), strings.Compare(a.of, b.of))
}

// String returns the thing as it is asked for: sa:shop/web.
func (a thing) String() string {
	switch a.kind {
	case Impact:
		return a.name
	case Endpoint:
		a.of = "" // what follows from the connection
	}
	var b strings.Builder
	b.WriteString(a.kind.String())
	sep := ":"
	for _, s := range [...]string{a.namespace, a.name, a.of} {
		if s != "" && s != unsaid {
			b.WriteString(sep + s)
			sep = "/"
		}
	}
	return b.String()
}

// words says the thing in a sentence.
func (a thing) words() string {
	in := func(what string) string { return what + " " + qualified(a.namespace, a.name) }
	switch a.kind {
	case Outside:
		return "the internet"
	case Cluster:
		return "cluster-admin"
	case AnyNode:
		return "root on a node"
	case AllSecrets:
		return "all Secrets"
	case Workload, Pod:
		return workloadWords(a.namespace, a.name)
	case Container:
		return "container " + a.of + " of " + workloadWords(a.namespace, a.name)
	case Node:
		if a.name == "" {
			return "a node"
		}
		return in("node")
	case ServiceAccount:
		return in("ServiceAccount")
	case Secret:
		return in("Secret")
	case Volume:
		return in("PersistentVolumeClaim")
	case User:
		return "user " + a.name
	case Group:
		return "group " + a.name
	case Namespace:
		return "namespace " + a.name
	case CloudIdentity:
		return "the cloud identity " + a.name
	case Endpoint:
		return "a connection to " + workloadWords(a.namespace, a.name)
	case Everything:
		return "everything that can be permitted in namespace " + a.namespace
	case Impact:
		return impacts[a.name]
	case Editor:
		return "an editor of namespace " + a.namespace
	case Permissions:
		where := ""
		if a.namespace != "" {
			where = " in namespace " + a.namespace
		}
		return "whoever holds the " + a.of + " " + a.name + where
	case All:
		return allWords(a)
	}
	return a.String()
}

// workloadWords turns Deployment/web of shop into Deployment shop/web.
func workloadWords(namespace, name string) string {
	kind, name, _ := strings.Cut(name, "/")
	return kind + " " + qualified(namespace, name)
}

func allWords(a thing) string {
	what := strings.ReplaceAll(a.name, "-", " ")
	if a.namespace == "" {
		return "all " + what
	}
	return "all " + what + " of namespace " + a.namespace
}

// qualified returns NAMESPACE/NAME, or the name alone.
func qualified(namespace, name string) string {
	if namespace == "" || namespace == unsaid {
		return name
	}
	return namespace + "/" + name
}

// impacts are what leads nowhere further.
var impacts = map[string]string{
	PlaceTraffic:      "what others send",
	PlacePolicy:       "what is enforced",
	PlaceAudit:        "what is recorded",
	PlaceAvailability: "what runs",
	PlaceImages:       "private images",
	PlacePodData:      "what pods say of themselves",
}

// names numbers things. Numbers are given as things come and stay theirs; order
// is that of the things, whatever came first, so that a graph of the same
// objects is the same whatever came before.
type names struct {
	number map[thing]int32
	things []thing
	sorted []int32 // numbers, by their things
	rank   []int32 // of each number
}

func (n *names) of(t thing) int32 {
	if i, ok := n.number[t]; ok {
		return i
	}
	i := int32(len(n.things))
	n.number[t] = i
	n.things = append(n.things, t)
	return i
}

// arrange brings the order up to date.
func (n *names) arrange() {
	old := len(n.sorted)
	if old == len(n.things) {
		return
	}
	fresh := make([]int32, 0, len(n.things)-old)
	for i := old; i < len(n.things); i++ {
		fresh = append(fresh, int32(i))
	}
	slices.SortFunc(fresh, func(a, b int32) int { return n.things[a].compare(n.things[b]) })
	n.sorted = n.merge(fresh)
	n.rank = slices.Grow(n.rank[:0], len(n.things))[:len(n.things)]
	for i, v := range n.sorted {
		n.rank[v] = int32(i)
	}
}

func (n *names) merge(fresh []int32) []int32 {
	out := make([]int32, 0, len(n.things))
	old := n.sorted
	for _, f := range fresh {
		at, _ := slices.BinarySearchFunc(old, f, func(a, b int32) int { return n.things[a].compare(n.things[b]) })
		out = append(append(out, old[:at]...), f)
		old = old[at:]
	}
	return append(out, old...)
}

// subjectThing is who a subject of RBAC is.
func subjectThing(s rbac.Subject) thing {
	switch s.Kind {
	case rbac.ServiceAccount:
		return thing{kind: ServiceAccount, namespace: space(s.Namespace), name: s.Name}
	case rbac.Group:
		return thing{kind: Group, name: s.Name}
	}
	return thing{kind: User, name: s.Name}
}
