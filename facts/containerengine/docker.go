// SPDX-License-Identifier: Apache-2.0

package containerengine

import (
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// isDocker takes every daemon.json for Docker's: it may be empty, and its
// defaults then hold.
func isDocker(*object.Node) bool { return true }

// switches are settings of Docker with their defaults.
var switches = []struct {
	key, name string
	standard  bool
}{
	{"no-new-privileges", "noNewPrivileges", false},
	{"live-restore", "liveRestore", false},
	{"userland-proxy", "userlandProxy", true},
	{"icc", "interContainerCommunication", true},
	{"iptables", "iptables", true},
	{"experimental", "experimental", false},
}

// docker reads daemon.json. What flags of dockerd say is not known.
func (e *configuration) docker(root *object.Node) {
	encrypted, clients := dockerTLS(root)
	for _, host := range items(root.Get("hosts")) {
		e.listen(api, &object.Field{Value: host, KeyLine: host.Line, KeyCol: host.Col}, encrypted, clients)
	}
	e.listen(metrics, named(root, "metrics-addr"), object.NewBool(false), object.NewBool(false))
	for _, name := range items(root.Get("insecure-registries")) {
		// Docker tries TLS without verification first, then none.
		e.registry(name, name, object.NewBool(true), object.NewBool(false))
	}
	e.seccomp(root, "seccomp-profile")
	settings := facts.Map()
	settings.Line, settings.Col = root.Line, root.Col
	for _, s := range switches {
		f := object.Field{Key: s.name, Value: or(root.Get(s.key), s.standard)}
		if own := field(root, s.key); own != nil {
			f.KeyLine, f.KeyCol = own.KeyLine, own.KeyCol
		}
		settings.Fields = append(settings.Fields, f)
	}
	e.other("docker", settings)
}

// dockerTLS says whether Docker encrypts what it serves, and whether it asks
// clients for certificates. tlsverify turns TLS on whatever its value is; tls
// alone asks for certificates too.
func dockerTLS(root *object.Node) (encrypted, clients *object.Node) {
	tls := or(root.Get("tls"), false)
	verify := root.Get("tlsverify")
	if verify == nil {
		return tls, tls
	}
	return object.NewBool(true), verify
}
