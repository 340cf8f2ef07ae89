// SPDX-License-Identifier: Apache-2.0

package containerengine

import (
	"path"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// isContainerd knows config.toml by the names of containerd's plugins.
func isContainerd(root *object.Node) bool {
	for _, table := range []string{"plugins", "proxy_plugins", "timeouts", "stream_processors"} {
		if has(root.Get(table), "io.containerd.") {
			return true
		}
	}
	// Version 1 named its plugins by one word.
	return has(root.Get("plugins"), "cri") || field(root, "version") != nil && (field(root, "grpc") != nil || field(root, "disabled_plugins") != nil)
}

// containerd reads config.toml, versions 1 to 4.
func (e *configuration) containerd(root *object.Node) {
	plugins := root.Get("plugins")
	// Version 4 moved what the server listens at into plugins.
	grpc, tcp := root.Get("grpc"), plugins.Get("io.containerd.server.v1.grpc-tcp")
	e.listen(api, named(grpc, "tcp_address"), given(grpc.Get("tcp_tls_cert")), given(grpc.Get("tcp_tls_ca")))
	e.listen(api, named(tcp, "address"), given(tcp.Get("tls_cert")), given(tcp.Get("tls_ca")))
	for _, n := range []*object.Node{root.Get("debug"), plugins.Get("io.containerd.server.v1.debug")} {
		e.listen(debug, named(n, "address"), object.NewBool(false), object.NewBool(false))
	}
	for _, n := range []*object.Node{root.Get("metrics"), plugins.Get("io.containerd.server.v1.metrics")} {
		e.listen(metrics, named(n, "address"), object.NewBool(false), object.NewBool(false))
	}
	for _, name := range []string{"cri", "io.containerd.grpc.v1.cri"} {
		cri := plugins.Get(name)
		// Without an address it is one of the node's; the default is the loopback.
		e.listen(stream, field(cri, "stream_server_address"), or(cri.Get("enable_tls_streaming"), false), object.NewBool(false))
		e.containerdRegistries(cri.Get("registry"))
		e.seccomp(cri, "unset_seccomp_profile")
	}
	e.containerdRegistries(plugins.Get("io.containerd.cri.v1.images").Get("registry"))
	e.seccomp(plugins.Get("io.containerd.cri.v1.runtime"), "unset_seccomp_profile")
}

// seccomp states the profile of containers that name none.
func (e *configuration) seccomp(n *object.Node, key string) {
	f := field(n, key)
	if f == nil {
		return
	}
	profile := *f
	profile.Key = "profile"
	e.other("seccomp", facts.Map(profile))
}

// containerdRegistries reads the registries that config.toml still may hold.
func (e *configuration) containerdRegistries(registry *object.Node) {
	if mirrors := registry.Get("mirrors"); mirrors != nil {
		for _, f := range mirrors.Fields {
			for _, endpoint := range items(f.Value.Get("endpoint")) {
				e.registry(endpoint, endpoint, ofText(endpoint, isPlaintext), object.NewBool(true))
			}
		}
	}
	if configs := registry.Get("configs"); configs != nil {
		for _, f := range configs.Fields {
			if skip := field(f.Value.Get("tls"), "insecure_skip_verify"); skip != nil {
				e.registry(object.NewString(f.Key), at(skip), object.NewBool(false), not(skip.Value))
			}
		}
	}
}

// isPlaintext says whether a URL is one without encryption.
func isPlaintext(url string) bool { return strings.HasPrefix(strings.ToLower(url), "http://") }

// at is a node that has the place of a field's key.
func at(f *object.Field) *object.Node { return &object.Node{Line: f.KeyLine, Col: f.KeyCol} }

func isHosts(root *object.Node) bool {
	return field(root, "server") != nil || field(root, "host") != nil || field(root, "skip_verify") != nil
}

// hosts reads hosts.toml: the hosts of one registry, which the folder is named
// after.
func (e *configuration) hosts(root *object.Node) {
	if host := root.Get("host"); host != nil {
		for i := range host.Fields {
			f := &host.Fields[i]
			e.host(f.Key, f.Value, at(f))
		}
	}
	server, skip := field(root, "server"), field(root, "skip_verify")
	switch {
	case server != nil && server.Value.Kind == object.String:
		e.host(server.Value.Text, root, at(server))
	case server != nil:
		e.trusts = append(e.trusts, unread(at(server), "server is "+server.Value.Kind.A()+", not a string"))
	case skip != nil:
		e.host(path.Base(path.Dir(slashes(e.name))), root, at(skip))
	}
}

// host states how one host of a registry is spoken to.
func (e *configuration) host(name string, n, where *object.Node) {
	if skip := field(n, "skip_verify"); skip != nil {
		where = at(skip)
	}
	e.registry(object.NewString(name), where, object.NewBool(isPlaintext(name)), not(or(n.Get("skip_verify"), false)))
}
