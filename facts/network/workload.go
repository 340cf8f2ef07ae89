// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// workload is what is kept of an object that holds a pod.
type workload struct {
	o         *object.Object // its name, labels and place
	pod       bool           // it is a Pod itself
	owner     string         // Deployment/web: what its pods are known by
	labels    labels         // of its pods
	ports     []containerPort
	unread    bool // there are ports that could not be read
	onNode    bool // one of those may be a port of the node too
	host      truth
	addresses []netip.Addr // of a Pod that runs
	pods      int
	// controls names what it leads traffic into the cluster for, if it does.
	controls string
}

// containerPort is a port that a container declares.
type containerPort struct {
	Port
	host int32 // the port of the node
}

// generatedLabels are what controllers add to pods. They tell pods of one owner
// apart, so they count only where a selector names them.
var generatedLabels = map[string][]string{
	"Deployment":  {"pod-template-hash"},
	"ReplicaSet":  {"pod-template-hash"},
	"DaemonSet":   {"controller-revision-hash", "pod-template-generation"},
	"StatefulSet": {"apps.kubernetes.io/pod-index", "controller-revision-hash", "statefulset.kubernetes.io/pod-name"},
	"Job":         {"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index", "controller-uid", "job-name"},
	"CronJob":     {"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index", "controller-uid", "job-name"},
}

// generated are all of them.
var generated = func() map[string]bool {
	out := map[string]bool{}
	for _, keys := range generatedLabels {
		for _, k := range keys {
			out[k] = true
		}
	}
	return out
}()

// keepWorkload reads what holds a pod. A pod that has ended has no network.
func keepWorkload(o *object.Object, path object.Path) any {
	pod := o.Root.Seek(path)
	if pod != nil && pod.Kind == object.Unknown {
		pod = facts.Map(facts.Field("metadata", pod), facts.Field("spec", pod))
	}
	isPod := len(path) == 0
	if phase := o.Root.At("status", "phase").Str(); isPod && (phase == "Succeeded" || phase == "Failed") {
		return nil
	}
	w := &workload{
		o: facts.Slim(o), pod: isPod, owner: owner(o), pods: 1,
		labels: readLabels(pod.Seek(facts.Path("metadata", "labels"))), host: said(pod.Seek(facts.Path("spec", "hostNetwork"))),
	}
	if !isPod {
		for _, key := range generatedLabels[o.Kind] {
			if _, ok := w.labels.find(key); !ok {
				w.labels = w.labels.with(pair{key: key, unread: true})
			}
		}
		if n := o.Root.At("spec", "replicas"); n != nil && n.Kind == object.Int {
			w.pods = int(min(max(n.Int(), 0), maxReplicas))
		}
	}
	w.readPorts(pod.Get("spec"))
	if isPod {
		w.readAddresses(o.Root.Get("status"))
	}
	w.controls = controls(pod)
	return w
}

// maxReplicas bounds what is believed of a number of replicas.
const maxReplicas = 1 << 20

// owner is what the pods of an object are known by: the controller that people
// name. A ReplicaSet of a Deployment is called after it and a hash.
func owner(o *object.Object) string {
	for _, ref := range facts.Items(o.Root.At("metadata", "ownerReferences")) {
		kind, name := ref.Get("kind").Str(), ref.Get("name").Str()
		if !ref.Get("controller").Bool() || kind == "" || name == "" || kind == "Node" {
			continue
		}
		hash := o.Root.At("metadata", "labels", "pod-template-hash").Str()
		if deployment, ok := strings.CutSuffix(name, "-"+hash); ok && hash != "" && kind == "ReplicaSet" {
			return "Deployment/" + deployment
		}
		return kind + "/" + name
	}
	return o.Kind + "/" + o.Name
}

// readPorts reads the ports that containers declare.
func (w *workload) readPorts(spec *object.Node) {
	for _, list := range object.ContainerLists {
		containers := spec.Get(list)
		w.lacks(containers != nil && containers.Kind != object.List)
		for _, c := range facts.Items(containers) {
			ports := c.Get("ports")
			w.lacks(ports != nil && ports.Kind != object.List || c.Kind == object.Unknown)
			if list == "initContainers" && c.Get("restartPolicy").Str() != "Always" {
				continue // it has ended when the pod serves
			}
			for _, p := range facts.Items(ports) {
				w.readPort(p)
			}
		}
	}
	w.lacks(spec != nil && spec.Kind == object.Unknown)
}

// lacks notes that there are ports of which nothing is known.
func (w *workload) lacks(ports bool) {
	w.unread, w.onNode = w.unread || ports, w.onNode || ports
}

func (w *workload) readPort(n *object.Node) {
	number, ok := portNumber(n.Get("containerPort"))
	if !ok || n.HasUnknown() {
		w.unread, w.onNode = true, w.onNode || n.Kind == object.Unknown || n.Get("hostPort") != nil
		return
	}
	p := containerPort{Port: Port{Protocol: TCP, Number: number, Name: n.Get("name").Str()}}
	if protocol := n.Get("protocol"); protocol != nil {
		p.Protocol = protocol.Str()
	}
	p.host, _ = portNumber(n.Get("hostPort"))
	w.ports = append(w.ports, p)
}

// portNumber reads the number of a port.
func portNumber(n *object.Node) (int32, bool) {
	if n == nil || n.Kind != object.Int || n.Int() < 1 || n.Int() > maxPort {
		return 0, false
	}
	return int32(n.Int()), true
}

// readAddresses reads the addresses of a pod that runs.
func (w *workload) readAddresses(status *object.Node) {
	add := func(n *object.Node) {
		if a, err := netip.ParseAddr(n.Str()); err == nil && !slices.Contains(w.addresses, a.Unmap()) {
			w.addresses = append(w.addresses, a.Unmap())
		}
	}
	add(status.Get("podIP"))
	for _, ip := range facts.Items(status.Get("podIPs")) {
		add(ip.Get("ip"))
	}
	slices.SortFunc(w.addresses, netip.Addr.Compare)
}

// base is the same for workloads whose pods only their addresses tell apart.
func (w *workload) base(mentioned map[string]int) (key string, l labels) {
	l = labels{unread: w.labels.unread, pairs: make([]pair, 0, len(w.labels.pairs))}
	for _, p := range w.labels.pairs {
		if !generated[p.key] || mentioned[p.key] > 0 {
			l.pairs = append(l.pairs, p)
		}
	}
	var b strings.Builder
	b.WriteString(w.owner)
	b.WriteByte(2)
	b.WriteString(l.id())
	b.WriteByte(2)
	b.WriteByte('0' + byte(w.host))
	b.WriteString(w.controls)
	if w.unread {
		b.WriteByte('?')
	}
	if w.onNode {
		b.WriteByte('!')
	}
	for _, p := range w.ports {
		fmt.Fprintf(&b, "%s/%d/%s/%d,", p.Protocol, p.Number, p.Name, p.host)
	}
	return b.String(), l
}
