// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"cmp"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// cluster is what a test says that there is; there is nothing else.
type cluster struct {
	kinds map[object.GroupKind][]*object.Object
	seen  map[object.Ref]bool
}

// add adds objects; the first of a name stays.
func (c *cluster) add(objects ...*object.Object) {
	if c.kinds == nil {
		c.kinds, c.seen = map[object.GroupKind][]*object.Object{}, map[object.Ref]bool{}
	}
	for _, o := range objects {
		if c.seen[o.Ref] {
			continue
		}
		c.seen[o.Ref] = true
		gk := o.GroupKind()
		at, _ := slices.BinarySearchFunc(c.kinds[gk], o, compareNames)
		c.kinds[gk] = slices.Insert(c.kinds[gk], at, o)
	}
}

func compareNames(a, b *object.Object) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// with returns the cluster with further objects.
func (c *cluster) with(objects ...*object.Object) *cluster {
	out := &cluster{}
	out.add(objects...)
	for _, of := range c.kinds {
		out.add(of...)
	}
	return out
}

// Objects implements policy.Cluster.
func (c *cluster) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	if namespace == "" {
		return c.kinds[gk], true
	}
	var out []*object.Object
	for _, o := range c.kinds[gk] {
		if o.Namespace == namespace {
			out = append(out, o)
		}
	}
	return out, true
}

// Kinds implements policy.Cluster.
func (c *cluster) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for gk := range c.kinds {
		if policy.Covers(of, gk) {
			out = append(out, gk)
		}
	}
	slices.SortFunc(out, func(a, b object.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	return out, true
}

// Can implements policy.Cluster: a test does not say what anybody may do.
func (c *cluster) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}
