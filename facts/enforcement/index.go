// SPDX-License-Identifier: Apache-2.0

package enforcement

import (
	"fmt"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// index finds what objects name.
type index struct {
	env        *facts.Env
	policies   map[object.GroupKind]map[string]*object.Object
	bindings   map[object.GroupKind]map[string][]*object.Object // by the policy's kind and name
	spaces     []*space
	services   map[named]*service
	ready      map[named]bool
	configMaps map[configMap]bool
	nowhere    map[string][]*service // by name, those that name no namespace
}

func newIndex(kept []any, env *facts.Env) *index {
	x := &index{
		env: env, policies: map[object.GroupKind]map[string]*object.Object{}, bindings: map[object.GroupKind]map[string][]*object.Object{},
		services: map[named]*service{}, ready: map[named]bool{}, configMaps: map[configMap]bool{}, nowhere: map[string][]*service{},
	}
	for _, gk := range []object.GroupKind{validatingPolicy, mutatingPolicy} {
		x.policies[gk], x.bindings[gk] = map[string]*object.Object{}, map[string][]*object.Object{}
	}
	for _, k := range kept {
		switch k := k.(type) {
		case *space:
			x.spaces = append(x.spaces, k)
		case *service:
			x.services[k.named] = k
			if k.namespace == "" {
				x.nowhere[k.name] = append(x.nowhere[k.name], k)
			}
		case endpoints:
			x.ready[k.service] = x.ready[k.service] || k.ready
		case configMap:
			x.configMaps[k] = true
		case *object.Object:
			x.object(k)
		}
	}
	return x
}

func (x *index) object(o *object.Object) {
	switch gk := o.GroupKind(); gk {
	case validatingPolicy, mutatingPolicy:
		x.policies[gk][o.Name] = o
	case validatingBinding, mutatingBinding:
		of, name := bound(o)
		x.bindings[of][name] = append(x.bindings[of][name], o)
	}
}

// bound returns the kind and name of the policy that a binding names.
func bound(binding *object.Object) (object.GroupKind, string) {
	of := validatingPolicy
	if binding.GroupKind() == mutatingBinding {
		of = mutatingPolicy
	}
	return of, binding.Root.At("spec", "policyName").Str()
}

// found is whether something was found, as a value of a fact.
func (x *index) found(found bool, format string, args ...any) *object.Node {
	if found {
		return object.NewBool(true)
	}
	return x.env.Absent(object.NewBool(false), fmt.Sprintf(format, args...)+" is not among what was read")
}

// policy is the fact about a policy.
func (x *index) policy(o *object.Object) *object.Object {
	bindings := x.bindings[o.GroupKind()][o.Name]
	count := object.NewInt(int64(len(bindings)))
	if len(bindings) == 0 {
		count = x.env.Absent(count, fmt.Sprintf("a binding of the policy %q is not among what was read", o.Name))
	}
	exempt, places := facts.List(), []facts.Place(nil)
	if len(bindings) > 0 {
		exempt, places = x.exemptFromPolicy(o, bindings)
	}
	places = append(places, facts.Place{Fact: facts.Path("facts", "bindings"), Source: facts.Path("spec")})
	return facts.New(policyFact, o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("bindings", count),
		facts.Field("exempt", exempt),
	))}, places...)
}

// binding is the fact about a binding.
func (x *index) binding(o *object.Object) *object.Object {
	of, name := bound(o)
	policy := x.policies[of][name]
	fields := []object.Field{facts.Field("policyFound", x.policyFound(o, policy != nil, name))}
	if n := x.parameterFound(o, policy); n != nil {
		fields = append(fields, facts.Field("parameterFound", n))
	}
	out := []object.Field{facts.Field("facts", facts.Map(fields...))}
	if spec := o.Root.Get("spec"); spec != nil {
		out = append(out, facts.Field("spec", spec))
	}
	return facts.New(bindingFact, o, out,
		facts.Place{Fact: facts.Path("facts", "policyFound"), Source: facts.Path("spec", "policyName")},
		facts.Place{Fact: facts.Path("facts", "parameterFound"), Source: facts.Path("spec", "paramRef", "name")})
}

func (x *index) policyFound(o *object.Object, found bool, name string) *object.Node {
	if n := o.Root.At("spec", "policyName"); n != nil && n.HasUnknown() {
		return object.NewUnknown(n.FirstUnknown())
	}
	return x.found(found, "the policy %q", name)
}

// parameterFound says whether the ConfigMap that a binding names as its
// policy's parameters exists; nil where it names none. One that names no
// namespace means that of the object that is judged: one in any will do.
func (x *index) parameterFound(o, policy *object.Object) *object.Node {
	name := o.Root.At("spec", "paramRef", "name").Str()
	if policy == nil || name == "" {
		return nil
	}
	kind := policy.Root.At("spec", "paramKind")
	if kind.Get("apiVersion").Str() != "v1" || kind.Get("kind").Str() != configMapKind.Kind {
		return nil
	}
	namespace := o.Root.At("spec", "paramRef", "namespace").Str()
	for m := range x.configMaps {
		if m.name == name && (namespace == "" || m.namespace == "" || m.namespace == namespace) {
			return object.NewBool(true)
		}
	}
	return x.found(false, "the ConfigMap %q", named{namespace, name})
}

// String names a thing as kubectl's users do.
func (n named) String() string {
	if n.namespace == "" {
		return n.name
	}
	return n.namespace + "/" + n.name
}

// webhooks is the fact about a configuration of webhooks.
func (x *index) webhooks(o *object.Object) *object.Object {
	list := o.Root.Get("webhooks")
	services, exempt := facts.List(), facts.List()
	var places []facts.Place
	for i, w := range facts.Items(list) {
		at := facts.Path("webhooks").Append(object.ItemStep(list, i))
		if ref := w.At("clientConfig", "service"); ref != nil {
			places = append(places, facts.Place{
				Fact:   facts.Path("facts", "services").Append(object.Step{Item: true, Index: len(services.Items)}),
				Source: at.Fields("clientConfig", "service"),
			})
			services.Items = append(services.Items, x.service(w, ref, live(o)))
		}
		for _, e := range x.exemptFromWebhook(w) {
			places = append(places, facts.Place{
				Fact:   facts.Path("facts", "exempt").Append(object.Step{Item: true, Index: len(exempt.Items)}),
				Source: at.Fields("namespaceSelector"),
			})
			exempt.Items = append(exempt.Items, e)
		}
	}
	return facts.New(webhookFact, o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("mutating", object.NewBool(o.GroupKind() == mutatingWebhook)),
		facts.Field("services", services),
		facts.Field("exempt", exempt),
	))}, places...)
}

// httpsPort is the port of a webhook that names none.
const httpsPort = 443

// service is what is known of the Service of a webhook.
func (x *index) service(webhook, ref *object.Node, live bool) *object.Node {
	if ref.HasUnknown() {
		return object.NewUnknown(ref.FirstUnknown())
	}
	n, port := named{ref.Get("namespace").Str(), ref.Get("name").Str()}, int64(httpsPort)
	if p := ref.Get("port"); p != nil && p.Kind == object.Int {
		port = p.Int()
	}
	out := facts.Map(
		facts.Field("webhook", object.NewString(webhook.Get("name").Str())),
		facts.Field("namespace", object.NewString(n.namespace)),
		facts.Field("name", object.NewString(n.name)),
		facts.Field("port", object.NewInt(port)),
	)
	s := x.find(n, port)
	out.Fields = append(out.Fields, facts.Field("found", x.found(s != nil, "the Service %s", n)))
	if s == nil || s.external {
		return out
	}
	out.Fields = append(out.Fields, facts.Field("portFound", s.has(port)))
	if live {
		out.Fields = append(out.Fields, facts.Field("ready", x.found(x.ready[n], "an endpoint of the Service %s that is ready", n)))
	}
	return out
}

// find returns the Service that a webhook names: one that names no namespace
// may be it if it has the port.
func (x *index) find(n named, port int64) *service {
	if s := x.services[n]; s != nil && n.namespace != "" {
		return s
	}
	for _, s := range x.nowhere[n.name] {
		if s.external || s.has(port).Bool() {
			return s
		}
	}
	return nil
}

func (s *service) has(port int64) *object.Node {
	for _, p := range s.ports {
		if p == port {
			return object.NewBool(true)
		}
	}
	if s.unread {
		return object.NewUnknown(fmt.Sprintf("the ports of the Service %s could not be read", s.named))
	}
	return object.NewBool(false)
}
