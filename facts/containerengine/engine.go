// SPDX-License-Identifier: Apache-2.0

// Package containerengine reads the configuration files of container engines, which are
// no Kubernetes objects, and states what they say in one form: where the engine
// listens, which registries it trusts without proof, which profile containers
// get. The files are config.toml and hosts.toml of containerd, daemon.json of
// Docker, crio.conf, and registries.conf and policy.json of CRI-O and Podman.
package containerengine

import (
	"path"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Kind is the kind of the fact.
const Kind = "ContainerEngine"

// format is a kind of file.
type format struct {
	// engine is whose file it is.
	engine string
	json   bool
	// matches says whether a document is of the format: names of files are
	// common, and those of other programs too.
	matches func(root *object.Node) bool
	read    func(e *configuration, root *object.Node)
}

var (
	containerd = &format{engine: "containerd", matches: isContainerd, read: (*configuration).containerd}
	hosts      = &format{engine: "containerd", matches: isHosts, read: (*configuration).hosts}
	docker     = &format{engine: "docker", json: true, matches: isDocker, read: (*configuration).docker}
	crio       = &format{engine: "cri-o", matches: isCRIO, read: (*configuration).crio}
	registries = &format{engine: "containers", matches: isRegistries, read: (*configuration).registries}
	policy     = &format{engine: "containers", json: true, matches: isPolicy, read: (*configuration).policy}
)

// formatOf returns the format of files of a name, or nil.
func formatOf(name string) *format {
	dir, base := path.Split(slashes(name))
	switch parent := path.Base(dir); {
	case base == "config.toml" || parent == "conf.d" && strings.HasSuffix(base, ".toml"):
		return containerd
	case base == "hosts.toml":
		return hosts
	case base == "daemon.json":
		return docker
	case base == "crio.conf" || parent == "crio.conf.d" && strings.HasSuffix(base, ".conf"):
		return crio
	case base == "registries.conf" || parent == "registries.conf.d" && strings.HasSuffix(base, ".conf"):
		return registries
	case base == "policy.json":
		return policy
	}
	return nil
}

// Reads says whether a file of this name may hold the configuration of a
// container engine, so that it is worth reading.
func Reads(name string) bool { return formatOf(name) != nil }

// Parse returns what a file states as an object of kind ContainerEngine, or nil
// where it is no container engine's.
func Parse(name string, data []byte) (*object.Object, error) {
	f := formatOf(name)
	if f == nil {
		return nil, nil
	}
	root, err := f.parse(data)
	if err != nil || root == nil || root.Kind != object.Map || !f.matches(root) {
		return nil, err
	}
	e := &configuration{name: name}
	f.read(e, root)
	fact := &object.Node{Kind: object.Map, Line: 1, Col: 1, Fields: append([]object.Field{
		facts.Field("apiVersion", object.NewString(facts.APIVersion)),
		facts.Field("kind", object.NewString(Kind)),
		facts.Field("metadata", facts.Map(facts.Field("name", object.NewString(path.Base(slashes(name)))))),
		facts.Field("engine", object.NewString(f.engine)),
	}, e.fields()...)}
	objects, err := object.FromNode(fact, &object.Origin{Source: name, Text: data, FirstLine: 1})
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// parse returns the tree of a file, or nil where it is empty.
func (f *format) parse(data []byte) (*object.Node, error) {
	if !f.json {
		return parseTOML(data)
	}
	documents, err := object.ParseJSON(data)
	if err != nil || len(documents) == 0 {
		return nil, err
	}
	return documents[0], nil
}

// slashes returns a path of Windows as one of others.
func slashes(name string) string { return strings.ReplaceAll(name, "\\", "/") }

// configuration is what a file states.
type configuration struct {
	name              string
	listeners, trusts []*object.Node
	others            []object.Field
}

// fields returns what was stated.
func (e *configuration) fields() []object.Field {
	var out []object.Field
	if len(e.listeners) > 0 {
		out = append(out, facts.Field("listeners", facts.List(e.listeners...)))
	}
	if len(e.trusts) > 0 {
		out = append(out, facts.Field("registries", facts.List(e.trusts...)))
	}
	return append(out, e.others...)
}

// The purposes of listeners.
const (
	api     = "api"     // the whole engine
	stream  = "stream"  // exec, attach and port-forward
	metrics = "metrics" // numbers
	debug   = "debug"   // profiles, and what else shows the program's inside
)

// listen states that the engine listens at an address of the network: at the
// value of a field. What shows that traffic is encrypted, and that clients must
// show a certificate, is given as it is.
func (e *configuration) listen(purpose string, address *object.Field, encrypted, clients *object.Node) {
	if address == nil || address.Value.Kind == object.String && isPath(address.Value.Text) {
		return
	}
	if address.Value.Kind == object.Unknown {
		e.listeners = append(e.listeners, address.Value)
		return
	}
	n := facts.Map(
		facts.Field("purpose", object.NewString(purpose)),
		facts.Field("address", address.Value),
		facts.Field("loopback", ofText(address.Value, isLoopback)),
		facts.Field("encrypted", encrypted),
		facts.Field("clientCertificates", clients))
	n.Line, n.Col = address.KeyLine, address.KeyCol
	n.Fields[1].KeyLine, n.Fields[1].KeyCol = address.KeyLine, address.KeyCol
	e.listeners = append(e.listeners, n)
}

// registry states how a registry is spoken to; at is the field, or the item,
// that says so.
func (e *configuration) registry(name, at *object.Node, plaintext, verified *object.Node) {
	if name.Kind == object.Unknown {
		e.trusts = append(e.trusts, name)
		return
	}
	n := facts.Map(
		facts.Field("name", name),
		facts.Field("loopback", ofText(name, isLoopback)),
		facts.Field("plaintext", plaintext),
		facts.Field("verified", verified))
	n.Line, n.Col = at.Line, at.Col
	e.trusts = append(e.trusts, n)
}

// other states a field, unless it is stated already.
func (e *configuration) other(key string, value *object.Node) {
	if !slices.ContainsFunc(e.others, func(f object.Field) bool { return f.Key == key }) {
		e.others = append(e.others, facts.Field(key, value))
	}
}

// isPath says whether an address is a socket of the file system, or of systemd.
func isPath(address string) bool {
	scheme, _, ok := strings.Cut(address, "://")
	return ok && slices.Contains([]string{"unix", "fd", "npipe"}, scheme) ||
		strings.HasPrefix(address, "/") || strings.HasPrefix(address, "\\\\.\\pipe\\")
}

// isLoopback says whether an address or URL is one of the machine itself.
func isLoopback(address string) bool {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	address, _, _ = strings.Cut(address, "/")
	if host, ok := strings.CutPrefix(address, "["); ok {
		host, _, _ = strings.Cut(host, "]")
		return host == "::1"
	}
	if address == "::1" {
		return true
	}
	host, _, _ := strings.Cut(address, ":")
	return host == "localhost" || strings.HasPrefix(host, "127.") && strings.Trim(host, "0123456789.") == ""
}

// ofText is what is true of a text, and unknown of anything else.
func ofText(n *object.Node, is func(string) bool) *object.Node {
	if n.Kind != object.String {
		return object.NewUnknown("the address is " + n.Kind.A() + ", not a string")
	}
	return object.NewBool(is(n.Text))
}

// given says whether a file names something: false where it is absent or empty.
func given(n *object.Node) *object.Node {
	return object.NewBool(n != nil && (n.Kind != object.String || n.Text != ""))
}

// or returns a value, or what holds where it is absent.
func or(n *object.Node, standard bool) *object.Node {
	if n == nil {
		return object.NewBool(standard)
	}
	return n
}

// not returns the opposite of a boolean.
func not(n *object.Node) *object.Node {
	if n.Kind != object.Bool {
		return object.NewUnknown(n.Kind.A() + " stands where a boolean is expected")
	}
	return object.NewBool(!n.Bool())
}

// field returns a field that has a value, or nil.
func field(n *object.Node, key string) *object.Field {
	if n.Get(key) == nil {
		return nil
	}
	return &n.Fields[slices.IndexFunc(n.Fields, func(f object.Field) bool { return f.Key == key })]
}

// named returns a field that has a value and is no empty string, or nil.
func named(n *object.Node, key string) *object.Field {
	if f := field(n, key); f != nil && given(f.Value).Bool() {
		return f
	}
	return nil
}

// items are the elements of a list; anything else is one of its own, so that
// what is said of it is unknown rather than nothing.
func items(n *object.Node) []*object.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind == object.List:
		return n.Items
	}
	return []*object.Node{unread(n, n.Kind.A()+" stands where a list is expected")}
}

// unread stands for a value that is not what it should be, at its place.
func unread(n *object.Node, reason string) *object.Node {
	out := object.NewUnknown(reason)
	out.Line, out.Col = n.Line, n.Col
	return out
}

// has says whether one of a map's keys begins so.
func has(n *object.Node, prefix string) bool {
	return n != nil && n.Kind == object.Map && slices.ContainsFunc(n.Fields, func(f object.Field) bool {
		return strings.HasPrefix(f.Key, prefix)
	})
}
