// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"slices"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// What parts are made of is a cluster: everything in a namespace names it, and
// what is cluster-scoped is the part "".

// partOf is the part that an object belongs to: that of its namespace, to which
// the Namespace object belongs too.
func partOf(ref object.Ref) string {
	if kinds[ref.GroupKind()].what == declaration {
		return ref.Name
	}
	return ref.Namespace
}

// The keys under which parts tell something.
const (
	keyPolicies   = "policies above namespaces"
	keyNamespaces = "namespaces"
	keyAdmission  = "policies of admission"
	keyPods       = "pods"
	keyUndeclared = "pods in namespaces of which the labels are not known"
)

func keyService(namespace, name string) string { return "Service " + namespace + "/" + name }
func keyHost(host string) string               { return "host " + host }

// The pods of namespaces with a label; pods with a label, of which the value may
// not be known.
func keyPodsIn(label, value string) string   { return "pods in " + label + "=" + value }
func keyPodsWith(label, value string) string { return "pods with " + label + "=" + value }
func keyPodsOf(label string) string          { return "pods with " + label }

// remote is pods of another part that have the same labels.
type remote struct{ namespace, pods labels }

// remoteClaim is a claim of another part.
type remoteClaim struct{ class, of string }

// tell returns what the objects of a part tell others.
func tell(part string, kept []any) []facts.Told {
	var out []facts.Told
	x := newIndex(&facts.Part{Name: part, Kept: kept, Ask: func(string) []any { return nil }}, &facts.Env{})
	for _, k := range kept {
		o, ok := k.(*object.Object)
		if !ok {
			continue
		}
		switch kindOf(o) {
		case ciliumClusterPolicy, calicoClusterPolicy, adminPolicy, baselinePolicy:
			out = append(out, facts.Told{Key: keyPolicies, Value: o})
		case admissionPolicy:
			out = append(out, facts.Told{Key: keyAdmission, Value: o})
		case service:
			out = append(out, facts.Told{Key: keyService(o.Namespace, o.Name), Value: o})
		}
	}
	for host, claims := range x.hosts {
		for _, c := range claims {
			out = append(out, facts.Told{Key: keyHost(host), Value: remoteClaim{c.class, c.of}})
		}
	}
	for _, s := range x.order {
		if of := s.subject(); of != nil {
			out = append(out, facts.Told{Key: keyNamespaces, Value: of})
		}
		for _, c := range s.classes {
			out = append(out, tellPods(s, c)...)
		}
	}
	return out
}

// tellPods returns the pods of a class under all keys by which they are asked
// for.
func tellPods(s *space, c *class) []facts.Told {
	r := &remote{s.labels, c.labels}
	out := []facts.Told{{Key: keyPods, Value: r}}
	if s.labels.unread {
		out = append(out, facts.Told{Key: keyUndeclared, Value: r})
	}
	for _, p := range s.labels.pairs {
		out = append(out, facts.Told{Key: keyPodsIn(p.key, p.value), Value: r})
	}
	for _, p := range c.labels.pairs {
		key := keyPodsWith(p.key, p.value)
		if p.unread {
			key = keyPodsOf(p.key)
		}
		out = append(out, facts.Told{Key: key, Value: r})
	}
	return out
}

// askPolicies adds the policies above namespaces that other parts tell of.
func (x *index) askPolicies() {
	for _, v := range x.ask(keyPolicies) {
		o := v.(*object.Object)
		x.above = append(x.above, readPolicies(kindOf(o), o)...)
	}
}

// askAdmission adds the policies of admission that other parts tell of.
func (x *index) askAdmission() {
	for _, v := range x.ask(keyAdmission) {
		x.admission = append(x.admission, v.(*object.Object))
	}
}

// askNamespaces adds the namespaces that other parts tell of: what they are
// declared as, or what runs there.
func (x *index) askNamespaces() {
	for _, v := range x.ask(keyNamespaces) {
		o := v.(*object.Object)
		s := &space{first: o}
		if kindOf(o) == declaration {
			s.object, s.labels = o, readLabels(o.Root.At("metadata", "labels"))
		}
		x.elsewhere = append(x.elsewhere, s)
	}
}

// askService returns a Service of another part, by its name.
func (x *index) askService(namespace, name string) map[string]*object.Object {
	out := map[string]*object.Object{}
	for _, v := range x.ask(keyService(namespace, name)) {
		out[name] = v.(*object.Object)
	}
	return out
}

// askHost returns the claims of a host that other parts tell of.
func (x *index) askHost(host string) []claim {
	var out []claim
	for _, v := range x.ask(keyHost(host)) {
		c := v.(remoteClaim)
		out = append(out, claim{class: c.class, of: c.of})
	}
	return out
}

// askPods returns pods of other parts among which are all that the selectors
// choose, and as few others as a key allows.
func (x *index) askPods(namespaces, pods selector) []*remote {
	var all []any
	label, value, one := namespaces.one()
	switch podLabel, podValue, onePod := pods.one(); {
	case one:
		all = slices.Concat(x.ask(keyPodsIn(label, value)), x.ask(keyUndeclared))
	case onePod:
		all = slices.Concat(x.ask(keyPodsWith(podLabel, podValue)), x.ask(keyPodsOf(podLabel)))
	default:
		all = x.ask(keyPods)
	}
	out := make([]*remote, len(all))
	for i, v := range all {
		out[i] = v.(*remote)
	}
	return out
}

// one returns a label and its only value that all that the selector chooses has.
func (s selector) one() (label, value string, ok bool) {
	for _, r := range s.requirements {
		if r.operator == in && len(r.values) == 1 {
			return r.key, r.values[0], true
		}
	}
	return "", "", false
}
