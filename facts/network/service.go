// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// service is what is kept of a Service.
type service struct {
	o        *object.Object
	kind     string // its type
	selector selector
	// none says that it has no selector: who sets its endpoints is not known.
	none      bool
	ports     []servicePort
	external  string // the name that an ExternalName stands for
	addresses []string
	sources   []string
	internal  bool // its load balancer is for networks of the provider
	nodePorts bool
	six       bool
	unread    bool   // there are ports that could not be read
	unclear   string // why it may be of another type
}

// servicePort is a port of a Service.
type servicePort struct {
	Port
	target     int32
	targetName string
	node       int32
}

// internalAnnotations ask the load balancers of providers to stay inside.
var internalAnnotations = map[string]string{
	"service.beta.kubernetes.io/aws-load-balancer-internal":              "true",
	"service.beta.kubernetes.io/aws-load-balancer-scheme":                "internal",
	"service.beta.kubernetes.io/azure-load-balancer-internal":            "true",
	"networking.gke.io/load-balancer-type":                               "Internal",
	"cloud.google.com/load-balancer-type":                                "Internal",
	"service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type":     "private",
	"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": "intranet",
	"service.beta.kubernetes.io/oci-load-balancer-internal":              "true",
	"service.beta.kubernetes.io/openstack-internal-load-balancer":        "true",
}

// sourceAnnotation is where the sources of a load balancer stood before they had
// a field.
const sourceAnnotation = "service.beta.kubernetes.io/load-balancer-source-ranges"

func keepService(o *object.Object) any {
	spec, annotations := o.Root.Get("spec"), o.Root.At("metadata", "annotations")
	s := &service{
		o: facts.Slim(o), kind: spec.Get("type").Str(), selector: readEqual(spec.Seek(facts.Path("selector"))),
		none: len(fields(spec.Get("selector"))) == 0 && !spec.Seek(facts.Path("selector")).HasUnknown(), external: strings.TrimSuffix(spec.Get("externalName").Str(), "."),
		addresses: texts(spec.Get("externalIPs")), sources: texts(spec.Get("loadBalancerSourceRanges")),
		unread: spec.Seek(facts.Path("ports")).HasUnknown(),
	}
	if kind := spec.Seek(facts.Path("type")); kind != nil && kind.Kind != object.String {
		s.unclear = "the type of " + called(o.Ref) + " could not be read"
	}
	if s.kind == "" {
		s.kind = "ClusterIP"
	}
	if text := annotations.Get(sourceAnnotation).Str(); len(s.sources) == 0 && text != "" {
		for part := range strings.SplitSeq(text, ",") {
			s.sources = append(s.sources, strings.TrimSpace(part))
		}
	}
	for name, value := range internalAnnotations {
		n := annotations.Get(name)
		s.internal = s.internal || n.Str() == value || n.Bool() && value == "true"
	}
	allocate := spec.Get("allocateLoadBalancerNodePorts")
	s.nodePorts = s.kind == "NodePort" || s.kind == "LoadBalancer" && (allocate == nil || allocate.Kind != object.Bool || allocate.Bool())
	s.six = slices.Contains(texts(spec.Get("ipFamilies")), "IPv6") || strings.Contains(spec.Get("clusterIP").Str(), ":")
	for _, n := range facts.Items(spec.Get("ports")) {
		s.readPort(n)
	}
	return s
}

func (s *service) readPort(n *object.Node) {
	number, ok := portNumber(n.Get("port"))
	if !ok {
		s.unread = true
		return
	}
	p := servicePort{Port: Port{Protocol: TCP, Number: number, Name: n.Get("name").Str()}, target: number}
	if protocol := n.Get("protocol").Str(); protocol != "" {
		p.Protocol = protocol
	}
	if target := n.Get("targetPort"); target != nil {
		p.target, ok = portNumber(target)
		p.targetName = target.Str()
		s.unread = s.unread || !ok && p.targetName == ""
	}
	p.node, _ = portNumber(n.Get("nodePort"))
	s.ports = append(s.ports, p)
}

// texts returns the strings of a list.
func texts(n *object.Node) []string {
	var out []string
	for _, item := range facts.Items(n) {
		if text := item.Str(); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// universe returns the addresses that a load balancer lets in.
func (m *Model) sourcesOf(s *service) universe {
	if len(s.sources) == 0 {
		return m.everywhere(isNowhere)
	}
	var u universe
	for _, text := range s.sources {
		if p, err := netip.ParsePrefix(text); err == nil {
			u.prefixes = append(u.prefixes, p.Masked())
		}
	}
	return u
}

// backendPort is a port of the pods of a class that something leads to.
type backendPort struct {
	class *class
	port  Port
	// unknown says why it may not be what is led to.
	unknown string
}

// behind calls f with the ports of pods behind a port of a Service, which has no
// number or name where any is meant.
func (m *Model) behind(s *service, in *space, number int32, name string, f func(p servicePort, to backendPort)) {
	if s.none || s.kind == "ExternalName" {
		return
	}
	ports := s.ports
	if s.unread {
		ports = append(slices.Clip(ports), servicePort{Port: Port{Protocol: TCP}})
	}
	for _, p := range ports {
		if p.Number == 0 {
			m.behindUnread(s, in, f)
			continue
		}
		if number != 0 && p.Number != number || name != "" && p.Name != name {
			continue
		}
		for _, c := range m.chosenBy(s, in) {
			for _, to := range p.at(c) {
				if s.selector.matches(c.labels) != yes || c.space != in {
					to.unknown = "whether " + called(s.o.Ref) + " selects these pods is not known"
				}
				f(p, to)
			}
		}
	}
}

// behindUnread calls f with the classes that may be behind a port that could not
// be read.
func (m *Model) behindUnread(s *service, in *space, f func(p servicePort, to backendPort)) {
	for _, c := range m.chosenBy(s, in) {
		for _, protocol := range protocols {
			f(servicePort{Port: Port{Protocol: protocol}}, backendPort{
				class: c, port: Port{Protocol: protocol}, unknown: "the ports of " + called(s.o.Ref) + " could not all be read",
			})
		}
	}
}

// chosenBy returns the classes that a Service selects, or may select.
func (m *Model) chosenBy(s *service, in *space) []*class {
	spaces := []*space{in}
	if len(m.unnamed) > 0 {
		spaces = append(spaces, m.nearTo(in)...)
	}
	var out []*class
	for _, space := range spaces {
		for _, g := range space.groups {
			for _, c := range g.classes {
				if s.selector.matches(c.labels) != no {
					out = append(out, c)
				}
			}
		}
	}
	slices.SortFunc(out, compareClasses)
	return out
}

// at returns the ports of a class that a port of a Service leads to.
func (p servicePort) at(c *class) []backendPort {
	if p.targetName == "" {
		return []backendPort{{class: c, port: Port{Protocol: p.Protocol, Number: p.target, Name: c.nameOf(p.Protocol, p.target)}}}
	}
	for _, port := range c.Ports {
		if port.Name == p.targetName && port.Protocol == p.Protocol {
			return []backendPort{{class: c, port: port}} // the first is taken
		}
	}
	if c.unread {
		return []backendPort{{class: c, port: Port{Protocol: p.Protocol, Name: p.targetName}, unknown: "the ports of these pods could not all be read"}}
	}
	return nil
}

// nameOf returns the name that containers give to a port.
func (c *class) nameOf(protocol string, number int32) string {
	for _, p := range c.Ports {
		if p.Protocol == protocol && p.Number == number {
			return p.Name
		}
	}
	return ""
}
