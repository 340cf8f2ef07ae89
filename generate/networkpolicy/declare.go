// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// declaration is what an object says of who talks to whom.
type declaration struct {
	ref       object.Ref
	pod       *podDeclaration
	service   *serviceDeclaration
	labels    map[string]string    // of a Service
	config    map[string][]mention // ConfigMap: hosts by key
	callback  []callback           // what the API server calls
	monitor   *monitor
	endpoints []netip.AddrPort // of the API server
	prefixes  []netip.Prefix   // that a policy names
	policy    bool             // it is a NetworkPolicy
	ours      bool             // that was generated
}

// podDeclaration is what is read of a workload.
type podDeclaration struct {
	selector    map[string]string // nil: none that says it all
	labels      map[string]string // of its pods
	mentions    []mention
	configs     []configUse
	serviceName string // of a StatefulSet
	account     string // a ServiceAccount of its own, whose token it gets
	scraped     []int32
	scrapedAny  bool
}

// mention is a host that a configuration names. It never holds the text around
// it, which may be secret.
type mention struct {
	where  string // env DATABASE_URL of container web
	host   string
	port   int32 // 0 where none is said
	scheme string
}

// configUse is a ConfigMap that a pod gets; key is empty for all of it.
type configUse struct{ name, key string }

type serviceDeclaration struct {
	selector map[string]string
	headless bool
	external string // the name that an ExternalName stands for
	ports    []servicePort
	addrs    []netip.Addr
	scraped  string // the port that annotations name; "all" for each
}

type servicePort struct {
	name, protocol string
	port           int32
	target         string // number or name; empty: as port
}

// callback is a Service that the API server calls.
type callback struct {
	namespace, name string
	port            int32
}

// monitor is a ServiceMonitor or a PodMonitor.
type monitor struct {
	ofPods     bool
	selector   *object.Node
	any        bool
	namespaces []string
	ports      []string // names or numbers
}

// Reads says whether declarations come from objects of a kind: what a cluster is
// asked for beside what the model of the network needs.
func Reads(gk object.GroupKind) bool {
	if _, ok := object.PodPath(gk); ok {
		return true
	}
	for _, k := range []object.GroupKind{
		{Kind: "Service"}, {Kind: "ConfigMap"}, {Group: "discovery.k8s.io", Kind: "EndpointSlice"},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}, {Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"},
		{Group: "apiregistration.k8s.io", Kind: "APIService"}, {Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"},
		{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}, {Group: "monitoring.coreos.com", Kind: "PodMonitor"},
		{Group: "networking.k8s.io", Kind: "NetworkPolicy"},
	} {
		if gk.Group == k.Group && (gk.Kind == k.Kind || gk.Kind == facts.AnyKind) {
			return true
		}
	}
	return false
}

// keep returns what an object declares, or nil.
func keep(o *object.Object) *declaration {
	d := &declaration{ref: o.Ref}
	gk := o.GroupKind()
	if path, ok := object.PodPath(gk); ok {
		d.pod = keepPod(o, o.Root.Lookup(path))
		return d
	}
	switch gk {
	case object.GroupKind{Kind: "Service"}:
		d.service, d.labels = keepService(o), stringMap(o.Root.At("metadata", "labels"))
	case object.GroupKind{Kind: "ConfigMap"}:
		d.config = keepConfig(o)
		if d.config == nil {
			return nil
		}
	case object.GroupKind{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:
		if o.Namespace != "default" || o.Root.At("metadata", "labels", "kubernetes.io/service-name").Str() != "kubernetes" {
			return nil
		}
		d.endpoints = keepEndpoints(o)
	default:
		return keepOther(d, o)
	}
	return d
}

// keepOther reads what is no core object.
func keepOther(d *declaration, o *object.Object) *declaration {
	switch gk := o.GroupKind(); {
	case strings.HasSuffix(gk.Kind, "WebhookConfiguration"):
		for _, w := range facts.Items(o.Root.Get("webhooks")) {
			d.callback = appendCallback(d.callback, w.At("clientConfig", "service"))
		}
	case gk.Kind == "APIService":
		d.callback = appendCallback(d.callback, o.Root.At("spec", "service"))
	case gk.Kind == "CustomResourceDefinition":
		d.callback = appendCallback(d.callback, o.Root.At("spec", "conversion", "webhook", "clientConfig", "service"))
	case gk == object.GroupKind{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}:
		d.monitor = keepMonitor(o, "endpoints")
	case gk == object.GroupKind{Group: "monitoring.coreos.com", Kind: "PodMonitor"}:
		d.monitor = keepMonitor(o, "podMetricsEndpoints")
		d.monitor.ofPods = true
	case gk.Group == "networking.k8s.io" && gk.Kind == "NetworkPolicy":
		d.policy = true
		d.ours = o.Root.At("metadata", "labels", labelManagedBy).Str() == managedBy
		d.prefixes = prefixes(o.Root.Get("spec"))
	case gk.Group == "policy.networking.k8s.io":
		d.prefixes = prefixes(o.Root.Get("spec"))
	default:
		return nil
	}
	return d
}

func appendCallback(list []callback, n *object.Node) []callback {
	c := callback{n.Get("namespace").Str(), n.Get("name").Str(), 443}
	if p, ok := number(n.Get("port")); ok {
		c.port = p
	}
	if c.namespace == "" || c.name == "" {
		return list
	}
	return append(list, c)
}

func number(n *object.Node) (int32, bool) {
	if n == nil || n.Kind != object.Int || n.Int() < 1 || n.Int() > 65535 {
		return 0, false
	}
	return int32(n.Int()), true
}

// stringMap returns the strings of a map; nil where it is not wholly known.
func stringMap(n *object.Node) map[string]string {
	if n == nil || n.Kind != object.Map {
		return nil
	}
	out := map[string]string{}
	for _, f := range n.Fields {
		if f.Value.Kind != object.String {
			return nil
		}
		out[f.Key] = f.Value.Text
	}
	return out
}

func keepPod(o *object.Object, pod *object.Node) *podDeclaration {
	p := &podDeclaration{labels: stringMap(pod.At("metadata", "labels")), serviceName: o.Root.At("spec", "serviceName").Str()}
	selector := o.Root.At("spec", "selector")
	switch {
	case o.Kind == "Job" || o.Kind == "CronJob" || selector == nil || selector.Get("matchExpressions") != nil:
	case selector.Get("matchLabels") != nil:
		p.selector = stringMap(selector.Get("matchLabels"))
	case o.Kind == "ReplicationController":
		p.selector = stringMap(selector)
	}
	spec := pod.Get("spec")
	if account := spec.Get("serviceAccountName").Str(); account != "" && account != "default" {
		if auto := spec.Get("automountServiceAccountToken"); auto == nil || auto.Bool() {
			p.account = account
		}
	}
	for _, list := range object.ContainerLists {
		for _, c := range facts.Items(spec.Get(list)) {
			p.keepContainer(c)
		}
	}
	for _, v := range facts.Items(spec.Get("volumes")) {
		p.use(v.At("configMap", "name"), "")
		for _, s := range facts.Items(v.At("projected", "sources")) {
			p.use(s.At("configMap", "name"), "")
		}
	}
	p.keepScraped(pod.At("metadata", "annotations"))
	return p
}

// keepScraped reads the annotations by which a pod asks to be scraped.
func (p *podDeclaration) keepScraped(annotations *object.Node) {
	if annotations.Get("prometheus.io/scrape").Str() != "true" {
		return
	}
	if n, err := strconv.ParseInt(annotations.Get("prometheus.io/port").Str(), 10, 32); err == nil && n > 0 && n < 65536 {
		p.scraped = append(p.scraped, int32(n))
		return
	}
	p.scrapedAny = true
}

func (p *podDeclaration) use(name *object.Node, key string) {
	if name.Str() != "" {
		p.configs = append(p.configs, configUse{name.Str(), key})
	}
}

// maxMentions is how many hosts of a workload are kept.
const maxMentions = 128

func (p *podDeclaration) keepContainer(c *object.Node) {
	of := " of container " + c.Get("name").Str()
	add := func(where, name, value string) {
		for _, m := range mentions(name, value) {
			if len(p.mentions) < maxMentions {
				m.where = where + of
				p.mentions = append(p.mentions, m)
			}
		}
	}
	for _, e := range facts.Items(c.Get("env")) {
		name := e.Get("name").Str()
		add("env "+name, name, e.Get("value").Str())
		p.use(e.At("valueFrom", "configMapKeyRef", "name"), e.At("valueFrom", "configMapKeyRef", "key").Str())
	}
	for _, e := range facts.Items(c.Get("envFrom")) {
		p.use(e.At("configMapRef", "name"), "")
	}
	for _, list := range []string{"command", "args"} {
		for _, a := range facts.Items(c.Get(list)) {
			add("an argument", "", a.Str())
		}
	}
}

func keepConfig(o *object.Object) map[string][]mention {
	var out map[string][]mention
	data := o.Root.Get("data")
	if data == nil || data.Kind != object.Map {
		return nil
	}
	for _, f := range data.Fields {
		found := mentions(f.Key, f.Value.Str())
		if len(found) > maxMentions {
			found = found[:maxMentions]
		}
		for i := range found {
			found[i].where = "the key " + f.Key + " of the ConfigMap " + o.Name
		}
		if len(found) > 0 {
			if out == nil {
				out = map[string][]mention{}
			}
			out[f.Key] = found
		}
	}
	return out
}

// maxScanned is how much of a text is searched for hosts, in bytes.
const maxScanned = 64 << 10

var (
	hostName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	hostHint = regexp.MustCompile(`(?i)(host|addr|address|url|uri|endpoint|server|service|broker|brokers|svc|upstream|dsn)s?$`)
	splitAt  = func(r rune) bool { return strings.ContainsRune(" \t\r\n,;'\"|<>()[]{}=\\", r) }
)

// mentions finds hosts in a text: with a scheme, with a port, with the end of a
// Service's name, or alone where the name of the text says that it is one.
func mentions(name, value string) []mention {
	if len(value) > maxScanned {
		value = value[:maxScanned]
	}
	var out []mention
	for _, token := range strings.FieldsFunc(value, splitAt) {
		if m, ok := hostOf(token); ok && (m.scheme != "" || m.port != 0 || isServiceName(m.host) || hostHint.MatchString(name) && token == value) {
			out = append(out, m)
		}
	}
	return out
}

func isServiceName(host string) bool {
	return strings.HasSuffix(host, ".svc") || strings.Contains(host, ".svc.")
}

// hostOf reads [SCHEME://][USER[:PASSWORD]@]HOST[:PORT][/…].
func hostOf(token string) (m mention, ok bool) {
	rest := token
	if scheme, after, found := strings.Cut(token, "://"); found {
		m.scheme, rest = strings.ToLower(scheme[strings.LastIndexByte(scheme, ':')+1:]), after
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if host, port, found := strings.Cut(rest, ":"); found {
		n, err := strconv.ParseInt(port, 10, 32)
		if err != nil || n < 1 || n > 65535 {
			return m, false
		}
		rest, m.port = host, int32(n)
	}
	m.host = strings.TrimSuffix(strings.ToLower(rest), ".")
	return m, len(m.host) <= 253 && hostName.MatchString(m.host)
}

// wellKnown are the ports of schemes.
var wellKnown = map[string]int32{
	"http": 80, "https": 443, "ws": 80, "wss": 443, "postgres": 5432, "postgresql": 5432, "mysql": 3306, "mariadb": 3306, "redis": 6379, "rediss": 6379,
	"amqp": 5672, "amqps": 5671, "mongodb": 27017, "nats": 4222, "ldap": 389, "ldaps": 636, "kafka": 9092, "grpc": 443, "smtp": 25, "smtps": 465,
}

func (m *mention) portNumber() int32 {
	if m.port != 0 {
		return m.port
	}
	return wellKnown[m.scheme]
}

func keepService(o *object.Object) *serviceDeclaration {
	spec := o.Root.Get("spec")
	s := &serviceDeclaration{selector: stringMap(spec.Get("selector")), headless: spec.Get("clusterIP").Str() == "None"}
	if spec.Get("type").Str() == "ExternalName" {
		s.selector, s.external = nil, strings.TrimSuffix(strings.ToLower(spec.Get("externalName").Str()), ".")
	}
	for _, p := range facts.Items(spec.Get("ports")) {
		sp := servicePort{name: p.Get("name").Str(), protocol: p.Get("protocol").Str(), target: p.Get("targetPort").Str()}
		if sp.protocol == "" {
			sp.protocol = "TCP"
		}
		sp.port, _ = number(p.Get("port"))
		if n, ok := number(p.Get("targetPort")); ok {
			sp.target = strconv.Itoa(int(n))
		}
		s.ports = append(s.ports, sp)
	}
	for _, n := range append(facts.Items(spec.Get("clusterIPs")), spec.Get("clusterIP")) {
		if a, err := netip.ParseAddr(n.Str()); err == nil {
			s.addrs = append(s.addrs, a.Unmap())
		}
	}
	if annotations := o.Root.At("metadata", "annotations"); annotations.Get("prometheus.io/scrape").Str() == "true" {
		if s.scraped = annotations.Get("prometheus.io/port").Str(); s.scraped == "" {
			s.scraped = "all"
		}
	}
	return s
}

func keepEndpoints(o *object.Object) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range facts.Items(o.Root.Get("endpoints")) {
		for _, a := range facts.Items(e.Get("addresses")) {
			addr, err := netip.ParseAddr(a.Str())
			for _, p := range facts.Items(o.Root.Get("ports")) {
				if port, ok := number(p.Get("port")); ok && err == nil {
					out = append(out, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
				}
			}
		}
	}
	return out
}

func keepMonitor(o *object.Object, list string) *monitor {
	spec := o.Root.Get("spec")
	m := &monitor{selector: spec.Get("selector"), any: spec.At("namespaceSelector", "any").Bool()}
	for _, n := range facts.Items(spec.At("namespaceSelector", "matchNames")) {
		m.namespaces = append(m.namespaces, n.Str())
	}
	for _, e := range facts.Items(spec.Get(list)) {
		for _, key := range []string{"port", "targetPort", "portNumber"} {
			if n, ok := number(e.Get(key)); ok {
				m.ports = append(m.ports, strconv.Itoa(int(n)))
			} else if name := e.Get(key).Str(); name != "" {
				m.ports = append(m.ports, name)
			}
		}
	}
	return m
}

// prefixes finds the blocks of addresses that are named in a policy.
func prefixes(n *object.Node) []netip.Prefix {
	if n == nil {
		return nil
	}
	var out []netip.Prefix
	if p, err := netip.ParsePrefix(n.Str()); err == nil {
		out = append(out, p.Masked())
	}
	for _, f := range n.Fields {
		out = append(out, prefixes(f.Value)...)
	}
	for _, i := range n.Items {
		out = append(out, prefixes(i)...)
	}
	return out
}
