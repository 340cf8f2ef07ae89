// SPDX-License-Identifier: Apache-2.0

// Package networkpolicy makes NetworkPolicies that allow what was recorded, or
// what objects declare, and no more, and proves them by the exact model of the
// network: every connection that is to be allowed is, nothing is that was not
// before, and no declared port is cut off by accident. Where a policy allows
// more than is known, each place is named with its reason.
//
// It knows no more than the recordings and the objects: what did not happen in
// the window of a recording, and what nothing declares, is cut off.
package networkpolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/generate/manifest"
	"sconce.dev/sconce/generate/recording"
	"sconce.dev/sconce/object"
)

// Kept is what is kept of an object.
type Kept struct {
	ref     object.Ref
	network any
	own     *declaration
	// source and renderer are where an object came from that names no namespace.
	source, renderer string
}

// Keep returns what must be kept of an object, or nil. It never keeps the values
// of Secrets, nor texts that may be secret.
func Keep(o *object.Object) *Kept {
	k := &Kept{ref: o.Ref, network: network.Keep(o), own: keep(o)}
	if o.Namespace == "" && k.network != nil && object.Namespaced(o.GroupKind()) {
		k.source, k.renderer = o.Origin.Source, o.Origin.Renderer
		if k.renderer == "" {
			k.source = k.source[:strings.LastIndexAny(k.source, `/\`)+1]
		}
	}
	if k.network == nil && k.own == nil {
		return nil
	}
	return k
}

// Options say for what, and how far, policies are made.
type Options struct {
	// Namespaces get policies; none stands for all. Exempt get none.
	Namespaces, Exempt []string
	// IngressControllers are the namespaces or NAMESPACE/NAME of what serves
	// Ingresses and routes; without any it is looked for by its labels.
	IngressControllers []string
	// APIServers are the addresses of the API server.
	APIServers []netip.Prefix
	// Strict leaves out what is only suggested or guessed.
	Strict bool
	// Replace takes the NetworkPolicies that are there away, in the namespaces
	// that get new ones.
	Replace bool
}

// Wildcard is a place where a policy allows more than is known to be needed.
type Wildcard struct {
	Policy    string `json:"policy"` // namespace/name
	Direction string `json:"direction"`
	What      string `json:"what"`
	Reason    string `json:"reason"`
}

// Result is the policies, with what was checked of them.
type Result struct {
	// Window is that of the recordings; Gaps are hours without any.
	Window *recording.Window `json:"window,omitempty"`
	Gaps   []recording.Gap   `json:"gaps,omitempty"`
	// Workloads counts those that get a policy, Allowed the connections that
	// the policies allow.
	Workloads int `json:"workloads"`
	Allowed   int `json:"allowed"`
	// Wildcards are where policies allow more than is known to be needed.
	Wildcards []Wildcard `json:"wildcards,omitempty"`
	// Suggestions are connections that only the configuration of a workload
	// speaks for, with what in it does.
	Suggestions []string `json:"suggestions,omitempty"`
	// Unseen are declared and were never recorded.
	Unseen []string `json:"unseen,omitempty"`
	// Denied are declared, and not allowed today: no policy allows them.
	Denied []string `json:"denied,omitempty"`
	// Dropped were recorded as denied: no policy allows them.
	Dropped []string `json:"dropped,omitempty"`
	// Strangers were recorded with pods that are not among the objects.
	Strangers []*Flow `json:"strangers,omitempty"`
	// Closed are declared ports that nothing may reach.
	Closed []string `json:"closed,omitempty"`
	// Quiet are workloads that nothing may connect to, and that declare no port.
	Quiet []string `json:"quiet,omitempty"`
	// Overlaps are policies that select pods of other workloads, too.
	Overlaps []string `json:"overlaps,omitempty"`
	// Left are workloads that get no policy, with the reason.
	Left []string `json:"left,omitempty"`
	// Beside are NetworkPolicies that stay: what they allow stays allowed.
	Beside []string `json:"beside,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	Proof  *Proof   `json:"proof"`

	Documents []*manifest.Document `json:"-"`
}

// generator makes policies.
type generator struct {
	opts      Options
	kept      []*Kept
	env       facts.Env
	old       *cluster
	edges     edges
	result    *Result
	fromNodes int
	origin    *object.Origin // of what names no namespace
	assumed   bool           // what resolves names was not read

	verdicts map[string]permission
	policies []*policy
	taken    map[[2]string]bool // names of policies
}

const leastGap = 6 * time.Hour

// Generate makes policies. flows may be nil.
func Generate(kept []*Kept, flows *Flows, env facts.Env, opts Options) (*Result, error) {
	g := &generator{opts: opts, env: env, kept: slices.Clone(kept), result: &Result{}, verdicts: map[string]permission{}}
	slices.SortFunc(g.kept, func(a, b *Kept) int {
		return cmp.Or(strings.Compare(a.ref.String(), b.ref.String()), strings.Compare(a.ref.APIVersion, b.ref.APIVersion))
	})
	g.read()
	g.manage()
	g.recorded(flows)
	g.declared()
	g.guessed()
	g.narrow()
	g.leaveOut()
	g.build()
	if err := g.prove(); err != nil {
		return nil, err
	}
	g.tell(flows)
	return g.result, nil
}

// note adds a note, once.
func (g *generator) note(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(g.result.Notes, line) {
		g.result.Notes = append(g.result.Notes, line)
	}
}

// read builds the models of what there is. What resolves names is assumed where
// it was not read.
func (g *generator) read() {
	g.old = newCluster(network.NewModel(networkOf(g.kept), &g.env), declarationsOf(g.kept))
	if len(g.dns(g.old)) > 0 {
		return
	}
	g.assumed = true
	g.kept = append(g.kept, &Kept{ref: assumedDNS.Ref, network: network.Keep(assumedDNS)})
	g.note("what resolves names was not read: it is taken to be the pods of kube-system with the label k8s-app=kube-dns, on port 53")
	g.old = newCluster(network.NewModel(networkOf(g.kept), &g.env), declarationsOf(g.kept))
}

// assumedDNS stands for what resolves names in nearly every cluster.
var assumedDNS = object.New(object.FromAny(map[string]any{
	"apiVersion": "apps/v1", "kind": "Deployment",
	"metadata": map[string]any{"name": "coredns", "namespace": "kube-system"},
	"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"k8s-app": "kube-dns"}},
		"spec":     map[string]any{"containers": []any{}},
	}},
}), &object.Origin{Source: "assumed"})

func networkOf(kept []*Kept) []any {
	var out []any
	for _, k := range kept {
		if k.network != nil {
			out = append(out, k.network)
		}
	}
	return out
}

func declarationsOf(kept []*Kept) []*declaration {
	var out []*declaration
	for _, k := range kept {
		if k.own != nil {
			out = append(out, k.own)
		}
	}
	return out
}

// manage decides which workloads get a policy.
func (g *generator) manage() {
	scattered := g.unnamed()
	for _, w := range g.old.workloads {
		if g.assumed && slices.Contains(w.classes[0].Refs, assumedDNS.Ref) {
			continue
		}
		if slices.Contains(g.opts.Exempt, w.namespace) || len(g.opts.Namespaces) > 0 && !slices.Contains(g.opts.Namespaces, w.namespace) {
			continue
		}
		unknown := ""
		for _, c := range w.classes {
			unknown = cmp.Or(unknown, c.Unknown)
		}
		switch {
		case w.namespace == "" && scattered:
			g.leave(w, "what names no namespace comes from several folders or charts, and may be in several: say which with --default-namespace")
		case w.host:
			g.leave(w, "its pods are on the network of their nodes, for which policies do not count")
		case len(w.selector) == 0:
			g.leave(w, "its pods have no label that stays: give its template one")
		case unknown != "" && strings.Contains(unknown, "labels"):
			g.leave(w, unknown)
		default:
			w.managed = true
			g.result.Workloads++
		}
		if len(w.others) > 0 && w.managed {
			g.result.Overlaps = append(g.result.Overlaps, fmt.Sprintf("%s: its labels (%s) are also those of %s; the policy is for all of them", w, labelText(w.selector), strings.Join(w.others, ", ")))
		}
	}
}

// unnamed finds out where what names no namespace comes from, and says whether
// that is several places: these may be in namespaces of their own.
func (g *generator) unnamed() (scattered bool) {
	found := false
	for _, k := range g.kept {
		switch {
		case k.ref.Namespace != "" || k.network == nil || !object.Namespaced(k.ref.GroupKind()):
		case !found:
			found, g.origin = true, &object.Origin{Source: k.source, Renderer: k.renderer}
		case k.source != g.origin.Source || k.renderer != g.origin.Renderer:
			scattered = true
		}
	}
	if found && !scattered {
		g.note("what names no namespace is taken to be in one, whichever that is: apply its policies there, or say which with --default-namespace")
	}
	return scattered
}

func (g *generator) leave(w *workload, why string) {
	g.result.Left = append(g.result.Left, fmt.Sprintf("%s: %s", w, why))
}

// truth is whether something is so.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

// permission is whether a connection is allowed today.
type permission struct {
	allowed truth
	why     string
}

// peers are what an end stands for in the model.
func (g *generator) peers(e end) []network.Peer {
	var out []network.Peer
	add := func(w *workload) {
		for _, c := range w.classes {
			out = append(out, network.Peer{Class: c})
		}
	}
	switch {
	case e.w != nil:
		add(e.w)
	case e.namespace != "":
		for _, w := range g.old.byNamespace[e.namespace] {
			if !w.host {
				add(w)
			}
		}
	case e.block.IsValid():
		for _, p := range subtract(e.block, e.except) {
			out = append(out, network.Peer{CIDR: p})
		}
	default:
		out = append(out, network.Peer{})
		for _, w := range g.old.workloads {
			add(w)
		}
	}
	return out
}

// permitted says whether a connection is allowed today, for all that its ends
// stand for.
func (g *generator) permitted(e *edge) permission {
	if p, ok := g.verdicts[e.key()]; ok {
		return p
	}
	p := permission{allowed: yes}
	for _, from := range g.peers(e.from) {
		for _, to := range g.peers(e.to) {
			if p.allowed == no {
				break
			}
			p = p.and(g.ask(from, to, e.port))
		}
	}
	g.verdicts[e.key()] = p
	return p
}

func (p permission) and(q permission) permission {
	if q.allowed < p.allowed {
		return q
	}
	return p
}

// ask asks the model of today.
func (g *generator) ask(from, to network.Peer, port network.Port) permission {
	if from.Class != nil && to.Class != nil && g.old.model.Ports(from, to).Contains(port) {
		return permission{allowed: yes}
	}
	v := g.old.model.Connects(from, to, port)
	switch {
	case v.Allowed && !v.Partly:
		return permission{allowed: yes}
	case v.Allowed:
		return permission{no, "only some of the addresses are allowed today"}
	case v.Unknown != "":
		return permission{unknown, v.Unknown}
	case !v.Egress.Allowed:
		return permission{no, words(v.Egress)}
	}
	return permission{no, words(v.Ingress)}
}

func words(d network.Decision) string {
	var out []string
	for _, r := range d.By {
		out = append(out, r.Words)
	}
	if len(out) == 0 {
		return "no policy allows it"
	}
	return strings.Join(out, "; ")
}

// narrow replaces what is wider than what is allowed today by what of it is.
func (g *generator) narrow() {
	var wide []*edge
	for _, e := range g.edges.all() {
		if (e.from.anything || e.from.block == allIPv4 || e.from.block == allIPv6) && g.permitted(e).allowed != yes {
			wide = append(wide, e)
		}
	}
	callers := g.callers(wide)
	for _, e := range wide {
		found := false
		try := func(from end) {
			if n := (&edge{from: from, to: e.to, port: e.port}); g.permitted(n).allowed == yes {
				found = true
				for _, why := range e.why {
					g.edges.add(from, e.to, e.port, why.Origin, "%s", why.Words).widen(e.wild)
				}
			}
		}
		if e.from.anything {
			for _, w := range callers(e) {
				try(end{w: w})
			}
		}
		g.blocks(e, try)
		if found {
			delete(g.edges.by, e.key())
		}
	}
}

// callers returns a function that says which other workloads may connect today to
// where an edge leads.
func (g *generator) callers(wide []*edge) func(*edge) []*workload {
	type allowed struct {
		from  []int
		ports network.PortSet
	}
	into := map[int][]allowed{}
	for _, e := range wide {
		for _, c := range e.to.w.classes {
			into[c.ID] = nil
		}
	}
	if len(into) > 0 {
		g.old.model.Bicliques(func(from, to []int, ports network.PortSet) {
			for _, id := range to {
				if list, ok := into[id]; ok {
					into[id] = append(list, allowed{from, ports})
				}
			}
		})
	}
	return func(e *edge) []*workload {
		found := map[*workload]bool{}
		for _, c := range e.to.w.classes {
			for _, a := range into[c.ID] {
				if !a.ports.Contains(e.port) {
					continue
				}
				for _, id := range a.from {
					if w := g.old.of[g.old.model.Class(id)]; w != nil && w != e.to.w {
						found[w] = true
					}
				}
			}
		}
		return slices.SortedFunc(maps.Keys(found), func(a, b *workload) int { return strings.Compare(a.String(), b.String()) })
	}
}

// blocks tries the addresses that an edge from outside may be narrowed to: all,
// those of the internet, and the blocks that policies of today name.
func (g *generator) blocks(e *edge, try func(end)) {
	all := []netip.Prefix{allIPv4, allIPv6}
	if !e.from.anything {
		all = []netip.Prefix{e.from.block}
	}
	for _, block := range all {
		if e.from.anything {
			try(end{block: block})
		}
		try(internet(block == allIPv6))
	}
	for _, d := range g.old.declarations {
		for _, p := range d.prefixes {
			if p.Bits() > 0 && slices.ContainsFunc(all, func(q netip.Prefix) bool { return q.Overlaps(p) }) {
				try(end{block: p})
			}
		}
	}
}

// subtract returns the blocks that make up a block without others.
func subtract(p netip.Prefix, except []netip.Prefix) []netip.Prefix {
	inner := slices.DeleteFunc(slices.Clone(except), func(x netip.Prefix) bool { return !x.Overlaps(p) })
	switch {
	case len(inner) == 0:
		return []netip.Prefix{p}
	case slices.ContainsFunc(inner, func(x netip.Prefix) bool { return x.Bits() <= p.Bits() }):
		return nil
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	high := netip.PrefixFrom(lastOf(low).Next(), p.Bits()+1)
	return append(subtract(low, inner), subtract(high, inner)...)
}

// leaveOut takes out what is not allowed today, or not wanted.
func (g *generator) leaveOut() {
	for _, e := range g.edges.all() {
		p := g.permitted(e)
		switch {
		case g.opts.Strict && !e.has(Recorded) && !e.has(Declared):
			delete(g.edges.by, e.key())
		case unnameable(e):
			delete(g.edges.by, e.key())
			line := fmt.Sprintf("%s: %s: one of them is in a namespace that the files do not name, and no policy of another can name it", e, e.why[0].Words)
			if e.has(Recorded) {
				g.proof().fail("%s", line)
			} else if !e.has(Guessed) {
				g.result.Denied = append(g.result.Denied, line)
			}
		case p.allowed != no:
		case e.has(Recorded):
			delete(g.edges.by, e.key())
			g.proof().fail("%s: %s, and not allowed today: %s; it is left out", e, e.why[0].Words, p.why)
		default:
			delete(g.edges.by, e.key())
			if e.has(Declared) || e.has(Suggested) {
				g.result.Denied = append(g.result.Denied, fmt.Sprintf("%s: %s: %s", e, e.why[0].Words, p.why))
			}
		}
	}
}

// unnameable says that a policy at one end would have to name a namespace that is
// not known.
func unnameable(e *edge) bool {
	a, b := e.from.w, e.to.w
	if a == nil || b == nil || a.host || b.host {
		return false
	}
	return a.namespace == "" && b.namespace != "" && b.managed || b.namespace == "" && a.namespace != "" && a.managed
}

func (g *generator) proof() *Proof {
	if g.result.Proof == nil {
		g.result.Proof = &Proof{}
	}
	return g.result.Proof
}
