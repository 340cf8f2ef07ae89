// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"math/rand/v2"
)

// builder puts together the pictures of the tests.
type builder struct {
	p    Picture
	rand *rand.Rand
	out  map[string][]int // edges by where they begin
}

func newBuilder(title string) *builder {
	return &builder{p: Picture{Title: title}, rand: rand.New(rand.NewPCG(1, 2)), out: map[string][]int{}}
}

func (b *builder) node(kind, group, name string, role Role) string {
	id := kind + " " + group + "/" + name
	n := Node{ID: id, Label: name, Kind: kind, Group: group, Role: role}
	if group != "" {
		n.Place = fmt.Sprintf("clusters/prod/%s/%s.yaml:%d", group, name, 1+b.rand.IntN(90))
		n.Fields = []Field{{"name", group + "/" + name}, {"labels", "app=" + name}}
	}
	b.p.Nodes = append(b.p.Nodes, n)
	return id
}

func (b *builder) edge(from, to, label string) int {
	e := Edge{From: from, To: to, Label: label, Kind: label, Possible: b.rand.IntN(12) == 0}
	if e.Possible {
		e.Notes = []string{"a policy of Cilium selects it, which is not read"}
	}
	b.p.Edges = append(b.p.Edges, e)
	b.out[from] = append(b.out[from], len(b.p.Edges)-1)
	return len(b.p.Edges) - 1
}

var apps = []string{"web", "api", "worker", "cache", "db", "queue", "auth", "cron", "search", "mail"}

// attackExample is an attack graph of about n nodes and up to 3n edges.
func attackExample(n int) *Picture {
	b := newBuilder("Attack paths")
	b.p.Lines = []string{"from the internet and any pod to cluster-admin, node root and all secrets", fmt.Sprintf("%d nodes, made up", n)}
	b.p.Unknown = []string{"Secrets could not be listed: what they hold is not in the picture"}
	internet := b.node("Outside", "", "internet", Entry)
	admin := b.node("Cluster", "", "cluster-admin", Jewel)
	secrets := b.node("Cluster", "", "all secrets", Jewel)
	var hosts, services []string
	for i := range max(1, n/100) {
		hosts = append(hosts, b.node("Node", "", fmt.Sprintf("node-%d", i+1), Ordinary))
		b.edge(hosts[i], secrets, "reads kubelet files")
	}
	root := b.node("Node", "", "root on a node", Jewel)
	for i := 0; len(b.p.Nodes) < n-4; i++ {
		services = b.namespace(fmt.Sprintf("%s-%d", []string{"shop", "pay", "ops", "data", "team"}[i%5], i/5+1), internet, root, hosts, services, n)
	}
	for i := range b.p.Nodes {
		if b.p.Nodes[i].Kind == "ServiceAccount" && b.rand.IntN(9) == 0 {
			b.change(b.edge(b.p.Nodes[i].ID, []string{admin, secrets}[b.rand.IntN(2)], "may do"), "rbac-cluster-admin", "Remove the binding of "+b.p.Nodes[i].Label)
		}
	}
	b.paths(internet, map[string]bool{admin: true, secrets: true, root: true})
	return &b.p
}

func (b *builder) namespace(name, internet, root string, hosts, others []string, n int) []string {
	var workloads []string
	for _, app := range apps[:2+b.rand.IntN(len(apps)-2)] {
		if len(b.p.Nodes) >= n-3 {
			return others
		}
		w := b.node("Deployment", name, app, Ordinary)
		c := b.node("Container", name, app+"-main", Ordinary)
		sa := b.node("ServiceAccount", name, app+"-sa", Ordinary)
		b.edge(w, c, "runs")
		b.edge(c, sa, "token mounted")
		if b.rand.IntN(4) == 0 {
			s := b.node("Secret", name, app+"-secret", Ordinary)
			b.edge(sa, s, "get secrets")
		}
		if b.rand.IntN(15) == 0 {
			b.change(b.edge(c, hosts[b.rand.IntN(len(hosts))], "privileged"), "privileged-container", "Set privileged to false in "+name+"/"+app)
			b.edge(hosts[b.rand.IntN(len(hosts))], root, "is root")
		}
		workloads = append(workloads, w)
	}
	for i, w := range workloads {
		b.edge(workloads[(i+1)%len(workloads)], w, "TCP 8080")
		for range 6 {
			if len(others) > 0 {
				b.edge(w, others[b.rand.IntN(len(others))], "TCP 443")
			}
		}
	}
	if b.rand.IntN(3) > 0 {
		b.change(b.edge(internet, workloads[0], "TCP 443"), "network-default-deny", "Deny ingress to "+name+"/web by default")
	}
	return append(others, workloads...)
}

func (b *builder) change(edge int, control, title string) {
	b.p.Changes = append(b.p.Changes, Change{Title: title, Control: control, Place: "clusters/prod/rbac.yaml:12", Edges: []int{edge}})
}

// paths adds the shortest path to every jewel, and some others.
func (b *builder) paths(from string, jewels map[string]bool) {
	via := map[string]int{from: -1}
	queue := []string{from}
	for len(queue) > 0 && len(b.p.Paths) < 60 {
		at := queue[0]
		queue = queue[1:]
		for _, e := range b.out[at] {
			to := b.p.Edges[e].To
			if jewels[to] {
				b.path(append(b.back(at, via), e))
			} else if _, seen := via[to]; !seen {
				via[to] = e
				queue = append(queue, to)
			}
		}
	}
}

func (b *builder) back(at string, via map[string]int) []int {
	e := via[at]
	if e < 0 {
		return nil
	}
	return append(b.back(b.p.Edges[e].From, via), e)
}

func (b *builder) path(edges []int) {
	label := map[string]string{}
	for _, n := range b.p.Nodes {
		label[n.ID] = n.Label
	}
	first, last := b.p.Edges[edges[0]], b.p.Edges[edges[len(edges)-1]]
	p := Path{Title: label[first.From] + " to " + label[last.To]}
	for _, i := range edges {
		e := b.p.Edges[i]
		p.Steps = append(p.Steps, Step{Edge: i, Words: fmt.Sprintf("%s leads to %s: %s", label[e.From], label[e.To], e.Label), Place: "clusters/prod/shop.yaml:12"})
	}
	b.p.Paths = append(b.p.Paths, p)
}

// reachExample is what reaches what among about n workloads, with 3n edges.
func reachExample(n int) *Picture {
	b := newBuilder("What reaches what")
	b.p.Lines = []string{fmt.Sprintf("%d workloads, made up", n)}
	outside := b.node("Outside", "", "outside of the cluster", Entry)
	var ids []string
	for i := 0; len(b.p.Nodes) < n; i++ {
		ns := fmt.Sprintf("%s-%d", []string{"shop", "pay", "ops", "data", "team"}[i%5], i/5+1)
		b.p.Groups = append(b.p.Groups, Group{Name: ns, Notes: []string{"isolated for ingress by default-deny"}})
		for _, app := range apps[:2+b.rand.IntN(len(apps)-2)] {
			if len(b.p.Nodes) < n {
				ids = append(ids, b.node([]string{"Deployment", "StatefulSet", "DaemonSet"}[b.rand.IntN(3)], ns, app, Ordinary))
			}
		}
	}
	for i, id := range ids {
		for _, j := range []int{i + 1, i + 2, b.rand.IntN(len(ids))} {
			b.edge(id, ids[j%len(ids)], []string{"TCP 80, 443", "all ports", "UDP 53", "TCP 5432"}[b.rand.IntN(4)])
		}
		if i%20 == 0 {
			b.edge(outside, id, "TCP 443")
		}
	}
	return &b.p
}
