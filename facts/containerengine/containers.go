// SPDX-License-Identifier: Apache-2.0

package containerengine

import (
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

func isCRIO(root *object.Node) bool { return field(root, "crio") != nil }

// crio reads crio.conf.
func (e *configuration) crio(root *object.Node) {
	c := root.Get("crio")
	server := c.Get("api")
	e.listen(stream, field(server, "stream_address"), or(server.Get("stream_enable_tls"), false), given(server.Get("stream_tls_ca")))
	if m := c.Get("metrics"); m.Get("enable_metrics").Bool() {
		e.listen(metrics, field(m, "metrics_host"), given(m.Get("metrics_cert")), object.NewBool(false))
	}
	for _, name := range items(c.Get("image").Get("insecure_registries")) {
		e.registry(name, name, object.NewBool(true), object.NewBool(false))
	}
	e.seccomp(c.Get("runtime"), "seccomp_profile")
}

// isRegistries knows registries.conf in both of its versions.
func isRegistries(root *object.Node) bool {
	for _, key := range []string{"registry", "registries", "unqualified-search-registries", "short-name-mode", "aliases", "credential-helpers"} {
		if field(root, key) != nil {
			return true
		}
	}
	return false
}

// registries reads registries.conf.
func (e *configuration) registries(root *object.Node) {
	for _, r := range items(root.Get("registry")) {
		e.insecure(r, "prefix", "location")
		for _, mirror := range items(r.Get("mirror")) {
			e.insecure(mirror, "location")
		}
	}
	for _, name := range items(root.Get("registries").Get("insecure").Get("registries")) {
		e.registry(name, name, object.NewBool(true), object.NewBool(false))
	}
}

// insecure states what a registry or mirror says of itself. It goes by the first
// of the keys that it has.
func (e *configuration) insecure(n *object.Node, names ...string) {
	if n.Kind != object.Map {
		e.trusts = append(e.trusts, unread(n, n.Kind.A()+" stands where a table is expected"))
		return
	}
	name := object.NewString("")
	for _, key := range names {
		if f := field(n, key); f != nil {
			name = f.Value
			break
		}
	}
	where, insecure := n, or(n.Get("insecure"), false)
	if f := field(n, "insecure"); f != nil {
		where = at(f)
	}
	e.registry(name, where, insecure, not(insecure))
}

// isPolicy knows policy.json by its default: a list of requirements.
func isPolicy(root *object.Node) bool {
	standard := root.Get("default")
	return standard != nil && standard.Kind == object.List && len(standard.Items) > 0 && field(standard.Items[0], "type") != nil
}

// policy reads policy.json: what an image must show to be run.
func (e *configuration) policy(root *object.Node) {
	standard := field(root, "default")
	out := facts.Map(object.Field{Key: "default", Value: types(standard.Value), KeyLine: standard.KeyLine, KeyCol: standard.KeyCol})
	out.Line, out.Col = standard.KeyLine, standard.KeyCol
	var scopes []*object.Node
	if transports := root.Get("transports"); transports != nil {
		for _, transport := range transports.Fields {
			for i := range transport.Value.Fields {
				scope := &transport.Value.Fields[i]
				n := facts.Map(
					facts.Field("transport", object.NewString(transport.Key)),
					facts.Field("scope", object.NewString(scope.Key)),
					facts.Field("requirements", types(scope.Value)))
				n.Line, n.Col = scope.KeyLine, scope.KeyCol
				scopes = append(scopes, n)
			}
		}
	}
	out.Fields = append(out.Fields, facts.Field("scopes", facts.List(scopes...)))
	e.other("imagePolicy", out)
}

// types are the types of a list of requirements.
func types(requirements *object.Node) *object.Node {
	out := facts.List()
	for _, r := range items(requirements) {
		kind := r.Get("type")
		if kind == nil {
			kind = unread(r, "a requirement has no type")
		}
		out.Items = append(out.Items, kind)
	}
	return out
}
