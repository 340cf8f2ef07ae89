// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/graph"
	"sconce.dev/sconce/object"
)

// The kinds of beginnings.
const (
	EntryInternet = "internet"
	EntryPod      = "any-pod"
	EntryEditor   = "namespace-editor"
	EntryToken    = "ci-token"
)

// The things that must not be lost; a chosen namespace is one too, by its name.
const (
	JewelCluster = "cluster-admin"
	JewelNode    = "node"
	JewelSecrets = "secrets"
)

// Entry is a kind of beginning, and where in the graph an attacker begins.
type Entry struct {
	Name     string
	Vertices []int
}

// Jewel is a thing that must not be lost.
type Jewel struct {
	Name   string
	Vertex int
}

// Assume draws edges that are left out because nothing among the objects speaks
// for them, by their names or IDs.
func (g *Graph) Assume(edges ...string) error {
	for _, n := range edges {
		i := slices.IndexFunc(g.edges, func(e *Edge) bool { return strings.EqualFold(e.Name, n) || strings.EqualFold(e.ID, n) })
		if i < 0 {
			return fmt.Errorf("unknown edge %q; want one of %s", n, strings.Join(g.assumable(), ", "))
		}
		g.assumed[i] = true
	}
	g.restart()
	return nil
}

// assumable are the names of the edges that can be assumed.
func (g *Graph) assumable() []string {
	var out []string
	for _, e := range g.edges {
		if e.Off {
			out = append(out, e.Name)
		}
	}
	return out
}

// Choose adds namespaces to what must not be lost.
func (g *Graph) Choose(namespaces ...string) {
	for _, ns := range namespaces {
		if !slices.Contains(g.chosen, ns) {
			g.chosen = append(g.chosen, ns)
		}
	}
	slices.Sort(g.chosen)
}

// Entries are where an attacker may begin: outside, in any workload, with what
// somebody holds who may edit a namespace, and with the token of a ServiceAccount
// that holds permissions and as which nothing runs, or that has a token which
// does not end.
func (g *Graph) Entries() []Entry {
	g.flatten()
	out := []Entry{{Name: EntryInternet}, {Name: EntryPod}, {Name: EntryEditor}, {Name: EntryToken}}
	for i, things := range [][]thing{{{kind: Outside}}, g.workloads(), g.editors(), g.tokens()} {
		for _, t := range things {
			if v, ok := g.vertex(t); ok {
				out[i].Vertices = append(out[i].Vertices, int(v))
			}
		}
		slices.Sort(out[i].Vertices)
		out[i].Vertices = slices.Compact(out[i].Vertices)
	}
	return out
}

// workloads are all workloads.
func (g *Graph) workloads() []thing {
	out := make([]thing, 0, len(g.own.groups))
	for key := range g.own.groups {
		out = append(out, thing{kind: Workload, namespace: key.namespace, name: g.own.leaders[key]})
	}
	return out
}

// editors are what those hold who may edit a namespace.
func (g *Graph) editors() []thing {
	var out []thing
	for role, of := range g.roles.scopes {
		if role.scope != "" && g.edits(of.rules) {
			out = append(out, role.thing())
		}
	}
	return out
}

// tokens are ServiceAccounts whose token is kept somewhere else than in a pod of
// theirs. Those of kube-system as which nothing runs, and that only Kubernetes
// itself has bound, are the controllers of the control plane.
func (g *Graph) tokens() []thing {
	var out []thing
	for s := range g.roles.subjects {
		if s.Kind != rbac.ServiceAccount {
			continue
		}
		n := name{space(s.Namespace), s.Name}
		if g.own.tokens[n] > 0 || g.own.running[n] == 0 && !g.ofControlPlane(s) {
			out = append(out, subjectThing(s))
		}
	}
	return out
}

// ofControlPlane says whether nothing but Kubernetes' own bindings name a
// ServiceAccount of kube-system.
func (g *Graph) ofControlPlane(s rbac.Subject) bool {
	return s.Namespace == "kube-system" && !slices.ContainsFunc(g.identity.Permissions(s, nil), func(grant rbac.Grant) bool {
		return grant.Via == s && !strings.HasPrefix(grant.Binding.Ref.Name, "system:")
	})
}

// Jewels are what must not be lost: the cluster, a node, all Secrets, and the
// namespaces that were chosen.
func (g *Graph) Jewels() []Jewel {
	g.flatten()
	var out []Jewel
	add := func(name string, t thing) {
		if v, ok := g.vertex(t); ok {
			out = append(out, Jewel{name, int(v)})
		}
	}
	add(JewelCluster, thing{kind: Cluster})
	add(JewelNode, thing{kind: AnyNode})
	add(JewelSecrets, thing{kind: AllSecrets})
	for _, ns := range g.chosen {
		add("namespace:"+ns, thing{kind: Namespace, name: ns})
	}
	return out
}

// Find returns the vertices that are asked for: internet, any-pod,
// namespace-editor, ci-token, cluster-admin, node, secrets, sa:NAMESPACE/NAME,
// user:NAME, group:NAME, pod:NAMESPACE/NAME (or workload: or container:),
// node:NAME, secret:NAMESPACE/NAME, namespace:NAME (what is in it, as an end) and
// editor:NAMESPACE (whoever may edit it, as a beginning).
func (g *Graph) Find(what string) ([]int, error) {
	g.flatten()
	for _, e := range g.Entries() {
		if e.Name == what {
			return e.Vertices, nil
		}
	}
	for _, j := range g.Jewels() {
		if j.Name == what {
			return []int{j.Vertex}, nil
		}
	}
	kind, rest, ok := strings.Cut(what, ":")
	if !ok || rest == "" {
		return nil, fmt.Errorf("%q names nothing in the graph; want internet, any-pod, namespace-editor, ci-token, cluster-admin, node, secrets, or KIND:NAME with "+
			"sa, user, group, pod, container, node, secret, volume, namespace or editor", what)
	}
	var out []int
	for v := range int32(len(g.names.sorted)) {
		if t := g.thing(v); t.kind < Binding || t.kind == Editor {
			if t.is(kind, rest) {
				out = append(out, int(v))
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q is not in the graph: %s", what, g.near(kind))
	}
	return out, nil
}

// near says what there is of a kind, where something was not found.
func (g *Graph) near(kind string) string {
	var some []string
	more := 0
	for v := range int32(len(g.names.sorted)) {
		t := g.thing(v)
		if t.kind >= Binding || t.kind != kindOf(kind) {
			continue
		}
		if len(some) < 5 {
			some = append(some, t.String())
		} else {
			more++
		}
	}
	switch {
	case kindOf(kind) == Impact && kind != Impact.String():
		return fmt.Sprintf("%q is no kind; want sa, user, group, pod, container, node, secret, volume, namespace or editor", kind)
	case len(some) == 0:
		return "there is nothing of that kind"
	case more > 0:
		return fmt.Sprintf("there are %s and %d more", strings.Join(some, ", "), more)
	}
	return "there is " + strings.Join(some, ", ")
}

// kindOf is the kind of a name of a kind.
func kindOf(kind string) NodeKind {
	switch kind {
	case "pod", "workload":
		return Workload
	case "serviceaccount":
		return ServiceAccount
	case "node":
		return Node
	}
	for k, n := range kindNames {
		if n == kind {
			return NodeKind(k)
		}
	}
	return Impact
}

// is says whether a thing is what is asked for. A workload need not say its
// kind: pod:shop/web.
func (a thing) is(kind, rest string) bool {
	if a.kind != kindOf(kind) {
		return false
	}
	full := strings.TrimPrefix(a.String(), a.kind.String()+":")
	if full == rest {
		return true
	}
	switch a.kind {
	case Workload:
		_, own, _ := strings.Cut(a.name, "/")
		return qualified(a.namespace, own) == rest || strings.EqualFold(full, rest)
	case Container:
		_, own, _ := strings.Cut(a.name, "/")
		return qualified(a.namespace, own+"/"+a.of) == rest
	}
	return false
}

// Paths returns up to k paths from one of some vertices to one of others, the one
// of least effort first; sure ones before those that may not be there.
func (g *Graph) Paths(from, to []int, k int) []Path {
	g.flatten()
	var out []Path
	seen := map[string]bool{}
	for _, p := range g.flat.Shortest(narrow(from), narrow(to), min(4*k, k+64), nil) {
		if len(p.Edges) == 0 {
			continue
		}
		path := g.path(g.flat.Edge(p.Edges[0]).From, p)
		var key strings.Builder
		for _, s := range path.Steps {
			key.WriteString(s.Words + "\n")
		}
		if len(out) < k && !seen[key.String()] {
			seen[key.String()] = true
			out = append(out, path)
		}
	}
	return out
}

func narrow(vertices []int) []int32 {
	out := make([]int32, len(vertices))
	for i, v := range vertices {
		out[i] = int32(v)
	}
	return out
}

// Pairs returns, for every kind of beginning and every thing that must not be
// lost, how many of the beginnings lead there, and the shortest path.
func (g *Graph) Pairs() []Pair {
	g.flatten()
	var out []Pair
	for _, e := range g.Entries() {
		for _, j := range g.Jewels() {
			out = append(out, g.pair(e, j))
		}
	}
	return out
}

func (g *Graph) pair(e Entry, j Jewel) Pair {
	p := Pair{Entry: e.Name, Jewel: j.Name}
	t := g.tree(g.thing(int32(j.Vertex)))
	best := int32(-1)
	for _, v := range e.Vertices {
		v := int32(v)
		if of := g.thing(v); j.Name == "namespace:"+of.namespace {
			continue // it is there already
		}
		p.Entries++
		switch {
		case !t.Reaches(v):
			continue
		case t.Weight(v) >= doubtful:
			p.Possible++
			p.Maybe = append(p.Maybe, int(v))
		default:
			p.Reaching++
			p.From = append(p.From, int(v))
		}
		if best < 0 || t.Weight(v) < t.Weight(best) {
			best = v
		}
	}
	if best >= 0 {
		way, _ := t.Path(best)
		path := g.path(best, way)
		p.Shortest = &path
	}
	if !g.env.Complete && (p.Reaching < p.Entries || p.Entries == 0) {
		p.Unknown = append(p.Unknown, "what is not among the objects that were read may lead on")
	}
	if why := g.moreEntries(e.Name); why != "" {
		p.Unknown = append(p.Unknown, why)
	}
	return p
}

// moreEntries says why there may be more beginnings of a kind than are known, of
// those that bindings make.
func (g *Graph) moreEntries(entry string) string {
	var out []string
	more := func(ref object.Ref, unknown string) {
		out = append(out, fmt.Sprintf("there may be more to begin with: %s: %s", ref, unknown))
	}
	if entry == EntryToken {
		for ref, unknown := range g.own.unclear {
			more(ref, unknown)
		}
	}
	for b := range g.roles.bound {
		unknown := ""
		switch {
		case entry == EntryEditor && !b.ClusterWide():
			unknown = b.UnknownRules()
		case entry == EntryToken:
			unknown = b.UnknownSubjects()
		}
		if unknown != "" {
			more(b.Ref, unknown)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return slices.Min(out)
}

// Each goes through every step that an attacker can take by itself, whatever it
// leads to, in the order of the things that it begins at.
func (g *Graph) Each(yield func(Step) bool) {
	g.flatten()
	for v := range int32(g.flat.Len()) {
		if k := g.thing(v).kind; k >= Binding || k == Cluster || k == Everything {
			continue // what they lead to is what those do who hold the permissions
		}
		if !g.eachFrom(v, yield) {
			return
		}
	}
}

// eachFrom goes through the steps that begin at a vertex.
func (g *Graph) eachFrom(begin int32, yield func(Step) bool) bool {
	type visit struct {
		at  int32
		way []int32
	}
	seen := map[[2]int32]bool{}
	stack := []visit{{at: begin}}
	for len(stack) > 0 {
		now := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		first, edges := g.flat.Out(now.at)
		for i := range edges {
			edge := first + int32(i)
			way := append(slices.Clip(now.way), edge)
			to := edges[i].To
			if acted := g.acts(way); acted != nil && g.thing(to).kind < Binding {
				path := g.path(begin, graph.Path{Edges: way})
				if len(path.Steps) == 1 {
					path.Steps[0].From = int(begin)
					if !yield(path.Steps[0]) {
						return false
					}
				}
				continue
			}
			if key := [2]int32{to, g.acts(way).order32()}; to != begin && !seen[key] && g.passes(begin, now.at, to) {
				seen[key] = true
				stack = append(stack, visit{to, way})
			}
		}
	}
	return true
}

// passes says whether what begins at a thing goes on through another without a
// step of its own: an identity through its groups, and a workload, not its
// containers, to what it is as a pod.
func (g *Graph) passes(begin, at, through int32) bool {
	switch from, kind := g.thing(begin).kind, g.thing(through).kind; {
	case kind == Container:
		return from == Workload && at == begin
	case g.thing(at).kind == Container:
		return (kind == Pod) == (from == Workload)
	case kind == Group:
		return from != Node
	default:
		return kind >= Binding
	}
}

// acts is the edge that a way has, beside that of holding permissions.
func (g *Graph) acts(way []int32) *Edge {
	for _, i := range way {
		if e := g.links[g.flat.Edge(i).Label].edge; e != nil && e.ID != holdsPermission {
			return e
		}
	}
	return nil
}

func (e *Edge) order32() int32 { return int32(e.order()) }
