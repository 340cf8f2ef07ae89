// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// kubeadmKinds say where kinds hold the configuration that kubeadm makes a
// cluster with, and where the version of Kubernetes is, if it is not in there.
var kubeadmKinds = map[object.GroupKind]struct {
	configuration, version object.Path
	// always is set where the configuration may be left out.
	always bool
}{
	{Group: "kubeadm.k8s.io", Kind: "ClusterConfiguration"}: {},
	{Group: controlPlane, Kind: "KubeadmControlPlane"}: {
		facts.Path("spec", "kubeadmConfigSpec", "clusterConfiguration"), facts.Path("spec", "version"), true,
	},
	{Group: controlPlane, Kind: "KubeadmControlPlaneTemplate"}: {
		configuration: facts.Path("spec", "template", "spec", "kubeadmConfigSpec", "clusterConfiguration"), always: true,
	},
	{Group: bootstrap, Kind: "KubeadmConfig"}:         {configuration: facts.Path("spec", "clusterConfiguration")},
	{Group: bootstrap, Kind: "KubeadmConfigTemplate"}: {configuration: facts.Path("spec", "template", "spec", "clusterConfiguration")},
}

const (
	controlPlane = "controlplane.cluster.x-k8s.io"
	bootstrap    = "bootstrap.cluster.x-k8s.io"
)

// kubeadmArguments are what kubeadm starts the components with, the same since
// 1.24 (cmd/kubeadm/app/phases/controlplane and etcd, compared in 1.24, 1.28,
// 1.34, 1.36 and 1.37). PKI stands for its directory of certificates, and ? for
// what it works out on the node.
var kubeadmArguments = []struct {
	component string
	section   []string
	arguments []string
}{
	{"kube-apiserver", []string{"apiServer"}, []string{
		"advertise-address=?", "allow-privileged=true", "authorization-mode=Node,RBAC", "client-ca-file=PKI/ca.crt",
		"enable-admission-plugins=NodeRestriction", "enable-bootstrap-token-auth=true",
		"etcd-cafile=PKI/etcd/ca.crt", "etcd-certfile=PKI/apiserver-etcd-client.crt", "etcd-keyfile=PKI/apiserver-etcd-client.key",
		"etcd-servers=https://127.0.0.1:2379", "kubelet-client-certificate=PKI/apiserver-kubelet-client.crt",
		"kubelet-client-key=PKI/apiserver-kubelet-client.key", "kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file=PKI/front-proxy-client.crt", "proxy-client-key-file=PKI/front-proxy-client.key",
		"requestheader-allowed-names=front-proxy-client", "requestheader-client-ca-file=PKI/front-proxy-ca.crt",
		"requestheader-extra-headers-prefix=X-Remote-Extra-", "requestheader-group-headers=X-Remote-Group",
		"requestheader-username-headers=X-Remote-User", "secure-port=?", "service-account-issuer=?",
		"service-account-key-file=PKI/sa.pub", "service-account-signing-key-file=PKI/sa.key", "service-cluster-ip-range=?",
		"tls-cert-file=PKI/apiserver.crt", "tls-private-key-file=PKI/apiserver.key",
	}},
	{"kube-controller-manager", []string{"controllerManager"}, []string{
		"authentication-kubeconfig=/etc/kubernetes/controller-manager.conf", "authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
		"bind-address=127.0.0.1", "client-ca-file=PKI/ca.crt", "cluster-signing-cert-file=PKI/ca.crt",
		"cluster-signing-key-file=PKI/ca.key", "controllers=*,bootstrapsigner,tokencleaner",
		"kubeconfig=/etc/kubernetes/controller-manager.conf", "leader-elect=true", "requestheader-client-ca-file=PKI/front-proxy-ca.crt",
		"root-ca-file=PKI/ca.crt", "service-account-private-key-file=PKI/sa.key", "use-service-account-credentials=true",
	}},
	{"kube-scheduler", []string{"scheduler"}, []string{
		"authentication-kubeconfig=/etc/kubernetes/scheduler.conf", "authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
		"bind-address=127.0.0.1", "kubeconfig=/etc/kubernetes/scheduler.conf", "leader-elect=true",
	}},
	{"etcd", []string{"etcd", "local"}, []string{
		"advertise-client-urls=?", "cert-file=PKI/etcd/server.crt", "client-cert-auth=true", "data-dir=/var/lib/etcd",
		"initial-advertise-peer-urls=?", "key-file=PKI/etcd/server.key",
		"listen-client-urls=https://127.0.0.1:2379,https://<node>:2379", "listen-metrics-urls=http://127.0.0.1:2381",
		"listen-peer-urls=https://<node>:2380", "name=?", "peer-cert-file=PKI/etcd/peer.crt", "peer-client-cert-auth=true",
		"peer-key-file=PKI/etcd/peer.key", "peer-trusted-ca-file=PKI/etcd/ca.crt", "trusted-ca-file=PKI/etcd/ca.crt",
	}},
}

// inKubeadm returns the components that kubeadm starts with a configuration.
func inKubeadm(o *object.Object, minor int) []*process {
	kind, ok := kubeadmKinds[o.GroupKind()]
	if !ok {
		return nil
	}
	configuration := o.Root.Lookup(kind.configuration)
	if configuration == nil && !(kind.always && o.Root.Lookup(kind.configuration[:len(kind.configuration)-1]) != nil) {
		return nil
	}
	if why := wrong(o.Root, kind.configuration); why != "" {
		configuration = object.NewUnknown(why)
	}
	k := &kubeadm{root: o.Root, at: kind.configuration, configuration: configuration}
	version := configuration.Get("kubernetesVersion").Str()
	if version == "" && kind.version != nil {
		version = o.Root.Lookup(kind.version).Str()
	}
	k.minor = imageMinor(":"+version, minor)
	var out []*process
	for _, a := range kubeadmArguments {
		if a.component == "etcd" && configuration.At("etcd", "external") != nil {
			continue
		}
		c := components()[a.component]
		out = append(out, &process{
			component: c, settings: k.settings(c, a.section, a.arguments), minor: k.minor,
			place: k.place(a.section), hostNetwork: object.NewBool(true),
		})
	}
	return out
}

// wrong says why what stands at a path, or above, is not read; empty where there
// is a map, or nothing.
func wrong(n *object.Node, p object.Path) string {
	for i := 0; n != nil; i++ {
		switch {
		case n.Kind == object.Unknown:
			return n.Text
		case n.Kind != object.Map && i > 0:
			return p[i-1].Field + " is " + n.Kind.A() + ", not a map"
		case i == len(p):
			return ""
		}
		n = n.Get(p[i].Field)
	}
	return ""
}

// kubeadm is a configuration of kubeadm.
type kubeadm struct {
	root          *object.Node
	at            object.Path
	configuration *object.Node
	minor         int
}

// place is the section of a component, or what there is above it.
func (k *kubeadm) place(section []string) object.Path {
	p := k.at.Fields(section...)
	_, known := k.root.Nearest(p)
	return p[:known]
}

// argument is one of kubeadm's, or one that a section adds.
type argument struct {
	name string
	// merge is how it is joined with kubeadm's own: append, prepend, or, where it
	// is empty, in its place.
	merge string
	given
}

// settings are what kubeadm starts a component with: its own arguments, and
// those that the section adds to them or puts in their place.
func (k *kubeadm) settings(c *component, section, arguments []string) *settings {
	s := &settings{}
	if k.configuration != nil && k.configuration.Kind == object.Unknown {
		s.hole = k.configuration.Text
		return s
	}
	extra, hole := k.extra(section)
	if hole == "" {
		hole = wrong(k.configuration, facts.Path(section...))
	}
	s.hole = hole
	replaced := map[string]argument{}
	for _, a := range extra {
		replaced[a.name] = a
	}
	for _, own := range k.own(c, section, arguments) {
		by, ok := replaced[own.name]
		_, file := replaced["authorization-config"]
		switch {
		case own.name == "authorization-mode" && file && !ok:
		case !ok:
			s.add(own.name, own.given)
		case by.merge != "":
			s.add(own.name, own.mergedWith(by))
		}
	}
	for _, a := range extra {
		if a.merge == "" {
			s.add(a.name, a.given)
		}
	}
	if c.environment != "" {
		at := append(slices.Clip(section), "extraEnvs")
		env := readVariables(k.configuration.At(at...), k.at.Fields(at...))
		env.set(c, s)
	}
	return s
}

// mergedWith returns the value with one that is joined with it.
func (a argument) mergedWith(by argument) given {
	out := by.given
	if out.why == "" {
		out.why = a.why
	}
	out.value = a.value + by.value
	if by.merge == "prepend" {
		out.value = by.value + a.value
	}
	return out
}

// own are kubeadm's own arguments.
func (k *kubeadm) own(c *component, section, arguments []string) []argument {
	pki := k.configuration.Get("certificatesDir").Str()
	if pki == "" {
		pki = "/etc/kubernetes/pki"
	}
	from := k.place(section)
	var out []argument
	for _, a := range arguments {
		name, value, _ := strings.Cut(a, "=")
		own := argument{name: name, given: given{value: strings.Replace(value, "PKI", pki, 1), from: from}}
		if value == "?" {
			own.value, own.why = "", "kubeadm works it out on the node"
		}
		out = append(out, own)
	}
	if c.kind == "APIServer" {
		return k.etcdOf(out)
	}
	return out
}

// etcdOf puts the etcd that the configuration names into the arguments of the
// API server.
func (k *kubeadm) etcdOf(arguments []argument) []argument {
	local, _ := k.extra([]string{"etcd", "local"})
	external := k.configuration.At("etcd", "external")
	why := wrong(k.configuration, facts.Path("etcd", "external"))
	if why == "" {
		why = wrong(k.configuration, facts.Path("etcd", "local"))
	}
	var out []argument
	for _, a := range arguments {
		field, ofEtcd := externalEtcd[a.name]
		switch {
		case ofEtcd && why != "":
			a.value, a.why = "", why
		case ofEtcd && external != nil:
			a.given = k.externalEtcd(external, field)
			if a.value == "" && a.why == "" {
				continue
			}
		case a.name == "etcd-servers":
			for _, l := range local {
				if l.name == "advertise-client-urls" {
					a.given = l.given
				}
			}
		}
		out = append(out, a)
	}
	return out
}

// externalEtcd are the flags of the API server that etcd.external stands for.
var externalEtcd = map[string]string{"etcd-servers": "endpoints", "etcd-cafile": "caFile", "etcd-certfile": "certFile", "etcd-keyfile": "keyFile"}

// externalEtcd reads a field of etcd.external.
func (k *kubeadm) externalEtcd(external *object.Node, field string) given {
	g := given{from: k.at.Fields("etcd", "external", field)}
	n := external.Get(field)
	switch {
	case n == nil:
	case n.HasUnknown():
		g.why = n.FirstUnknown()
	case n.Kind == object.List:
		var all []string
		for _, item := range n.Items {
			all = append(all, item.Str())
		}
		g.value, g.why = (&environment{}).expand(strings.Join(all, ","), false)
	default:
		g.value, g.why = (&environment{}).expand(n.Str(), false)
	}
	return g
}

// extra are the arguments that a section adds: a map, or, since v1beta4, a list of
// names and values.
func (k *kubeadm) extra(section []string) (out []argument, hole string) {
	path := append(slices.Clip(section), "extraArgs")
	at := k.at.Fields(path...)
	n := k.configuration.At(path...)
	switch {
	case n == nil:
		return nil, ""
	case n.Kind == object.Unknown:
		return nil, n.Text
	case n.Kind == object.Map:
		for _, f := range n.Fields {
			if f.Value.Kind != object.Null {
				out = append(out, argument{name: canonical(f.Key), given: literalOf(f.Value, at.Fields(f.Key))})
			}
		}
	case n.Kind == object.List:
		for i, item := range n.Items {
			if item.Kind == object.Unknown {
				return out, item.Text
			}
			if name := item.Get("name").Str(); name != "" {
				out = append(out, argument{
					name: canonical(name), merge: item.Get("mergeMethod").Str(), given: literalOf(item.Get("value"), at.Append(object.ItemStep(n, i))),
				})
			}
		}
	default:
		return nil, "extraArgs is " + n.Kind.A()
	}
	if k.minor < 36 { // sorted, then; what comes last counts
		slices.SortStableFunc(out, func(a, b argument) int { return strings.Compare(a.name+"="+a.value, b.name+"="+b.value) })
	}
	return out, ""
}

// canonical is the name of a flag as the components know it.
func canonical(name string) string { return strings.ReplaceAll(name, "_", "-") }

// literalOf reads the value of an argument.
func literalOf(n *object.Node, from object.Path) given {
	g := given{from: from}
	switch {
	case n == nil:
	case n.Kind == object.Unknown:
		g.why = n.Text
	case n.Kind != object.String:
		g.why = n.Kind.A() + " stands where a string is expected"
	default:
		g.value, g.why = (&environment{}).expand(n.Text, false)
	}
	return g
}
