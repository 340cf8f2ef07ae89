// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// workload is the pods of one owner.
type workload struct {
	namespace, name string // Deployment/web
	classes         []*network.Class
	decl            *podDeclaration
	labels          map[string]string // of all its pods, as far as these stay the same
	selector        map[string]string // of these, those that select it; nil: none do
	host            bool              // it is on the network of its node
	managed         bool              // it gets a policy
	// others are workloads that the selector selects as well.
	others []string
}

// String names the workload as its classes are named.
func (w *workload) String() string { return w.classes[0].String() }

// unstable says whether a label tells pods of one owner apart, or changes with
// each version of it.
func unstable(key string) bool {
	switch key {
	case "pod-template-generation", "controller-uid", "job-name", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index":
		return true
	}
	return strings.HasPrefix(key, "batch.kubernetes.io/") || strings.HasSuffix(key, "-hash") || strings.HasSuffix(key, "/revision")
}

func stable(labels map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range labels {
		if !unstable(k) {
			out[k] = v
		}
	}
	return out
}

// cluster is what was read, by workloads.
type cluster struct {
	model        *network.Model
	workloads    []*workload
	by           map[string]*workload // namespace/kind/name
	of           map[*network.Class]*workload
	byNamespace  map[string][]*workload
	services     map[[2]string]*serviceDeclaration
	byAddress    map[netip.Addr][2]string // Services
	declarations []*declaration
	configs      map[[2]string]map[string][]mention
}

func newCluster(model *network.Model, declarations []*declaration) *cluster {
	c := &cluster{
		model: model, by: map[string]*workload{}, of: map[*network.Class]*workload{}, byNamespace: map[string][]*workload{},
		services: map[[2]string]*serviceDeclaration{}, configs: map[[2]string]map[string][]mention{}, declarations: declarations, byAddress: map[netip.Addr][2]string{},
	}
	pods := map[object.Ref]*podDeclaration{}
	for _, d := range declarations {
		switch key := [2]string{d.ref.Namespace, d.ref.Name}; {
		case d.pod != nil:
			pods[d.ref] = d.pod
		case d.service != nil:
			c.services[key] = d.service
			for _, a := range d.service.addrs {
				c.byAddress[a] = key
			}
		case d.config != nil:
			c.configs[key] = d.config
		}
	}
	for _, class := range model.Classes() {
		c.join(class, pods)
	}
	for _, w := range c.workloads {
		w.choose(c.byNamespace[w.namespace])
	}
	return c
}

// join adds a class to its workload.
func (c *cluster) join(class *network.Class, pods map[object.Ref]*podDeclaration) {
	w := c.by[class.String()]
	if w == nil {
		w = &workload{namespace: class.Namespace, name: class.Workload, labels: stable(class.Labels), host: class.HostNetwork}
		c.by[class.String()] = w
		c.workloads = append(c.workloads, w)
		c.byNamespace[class.Namespace] = append(c.byNamespace[class.Namespace], w)
	}
	w.classes = append(w.classes, class)
	c.of[class] = w
	w.host = w.host && class.HostNetwork
	for k, v := range w.labels {
		if class.Labels[k] != v {
			delete(w.labels, k)
		}
	}
	for _, ref := range class.Refs {
		d := pods[ref]
		if d != nil && (w.decl == nil || ref.Kind+"/"+ref.Name == class.Workload) {
			w.decl = d
		}
	}
}

// choose finds the labels that select a workload: those by which its owner
// selects its pods, and more where these select others of the namespace as well.
func (w *workload) choose(all []*workload) {
	var chosen map[string]string
	if w.decl != nil && w.decl.selector != nil {
		chosen = stable(w.decl.selector)
	}
	if !subset(chosen, w.labels) || len(chosen) == 0 {
		chosen = maps.Clone(w.labels)
	}
	if len(chosen) == 0 {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(w.labels)) {
		if len(selected(chosen, all)) == 1 {
			break
		}
		more := maps.Clone(chosen)
		more[key] = w.labels[key]
		if len(selected(more, all)) < len(selected(chosen, all)) {
			chosen = more
		}
	}
	w.selector = chosen
	for _, o := range selected(chosen, all) {
		if o != w && !o.host {
			w.others = append(w.others, o.String())
		}
	}
}

// selected returns the workloads of which labels select pods.
func selected(labels map[string]string, all []*workload) []*workload {
	var out []*workload
	for _, w := range all {
		if slices.ContainsFunc(w.classes, func(c *network.Class) bool { return subset(labels, c.Labels) }) {
			out = append(out, w)
		}
	}
	return out
}

// subset says whether all labels are among others.
func subset(labels, of map[string]string) bool {
	for k, v := range labels {
		if got, ok := of[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// target is a port of a workload that a Service leads to.
type target struct {
	w    *workload
	port network.Port
}

// targets returns where a port of a Service leads; all ports where it is 0.
func (c *cluster) targets(namespace, name string, port int32) []target {
	s := c.services[[2]string{namespace, name}]
	if s == nil || len(s.selector) == 0 {
		return nil
	}
	var out []target
	for _, w := range c.byNamespace[namespace] {
		for _, class := range w.classes {
			if !subset(s.selector, class.Labels) {
				continue
			}
			for _, p := range s.ports {
				if port != 0 && p.port != port && !s.headless {
					continue
				}
				if n := p.on(class); n != 0 && (port == 0 || p.port == port || n == port) {
					out = append(out, target{w, network.Port{Protocol: p.protocol, Number: n}})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b target) int {
		return cmp.Or(strings.Compare(a.w.String(), b.w.String()), strings.Compare(a.port.Protocol, b.port.Protocol), cmp.Compare(a.port.Number, b.port.Number))
	})
	return slices.Compact(out)
}

// on returns the port of pods that a port of a Service leads to; 0 where it is
// not known.
func (p servicePort) on(class *network.Class) int32 {
	if p.target == "" {
		return p.port
	}
	if n, err := strconv.ParseInt(p.target, 10, 32); err == nil {
		return int32(n)
	}
	return named(class, p.target, p.protocol)
}

// named returns the number of a port of pods by its name.
func named(class *network.Class, name, protocol string) int32 {
	for _, have := range class.Ports {
		if have.Name == name && (protocol == "" || have.Protocol == protocol) {
			return have.Number
		}
	}
	return 0
}

// serviceOf finds the Service that a host names, as seen from a namespace.
func (c *cluster) serviceOf(host, from string) (namespace, name string, ok bool) {
	parts := strings.Split(host, ".")
	namespace = from
	if len(parts) > 1 {
		namespace = parts[1]
	}
	if len(parts) > 2 && parts[2] != "svc" {
		return "", "", false
	}
	_, ok = c.services[[2]string{namespace, parts[0]}]
	return namespace, parts[0], ok
}

// find returns the workload that an endpoint of a recording is.
func (c *cluster) find(e *Endpoint) *workload {
	all := c.byNamespace[e.Namespace]
	if e.Workload != "" {
		for _, w := range all {
			_, name, _ := strings.Cut(w.name, "/")
			if strings.EqualFold(w.name, e.Workload) || name == e.Workload {
				return w
			}
		}
	}
	var best *workload
	score := 0
	for _, w := range all {
		if n := w.resembles(e); n > score {
			best, score = w, n
		}
	}
	return best
}

// resembles says how well an endpoint fits a workload: by the name of its pod,
// else by labels.
func (w *workload) resembles(e *Endpoint) int {
	_, name, _ := strings.Cut(w.name, "/")
	pod := strings.TrimSuffix(strings.TrimSuffix(e.Pod, "*"), "-")
	byName := pod == name || strings.HasPrefix(pod, name+"-")
	byLabels := len(e.Labels) > 0 && len(w.selector) > 0 && subset(w.selector, e.Labels)
	switch {
	case byName && (byLabels || len(e.Labels) == 0):
		return 1000 + len(name)
	case byLabels:
		return len(w.selector)
	case byName:
		return 0
	}
	return 0
}
