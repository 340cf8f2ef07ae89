// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// TestUnplaced holds that what names no namespace, beside what does, leaves the
// models incomplete: it may be what the others mean.
func TestUnplaced(t *testing.T) {
	account := func(namespace string) *object.Object {
		meta := map[string]any{"name": "web"}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		return object.New(object.FromAny(map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}), &object.Origin{})
	}
	role := object.New(object.FromAny(map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": "r"}}), &object.Origin{})
	for _, c := range []struct {
		name     string
		objects  []*object.Object
		unplaced int
	}{
		{"all name one", []*object.Object{account("a"), account("b"), role}, 0},
		{"none does", []*object.Object{account(""), role}, 0},
		{"some do", []*object.Object{account(""), account("a"), role}, 1},
		{"placed", []*object.Object{Place(account(""), "b"), account("a"), Place(role, "b")}, 0},
	} {
		asked := of(Identity, &facts.Env{})
		r := part{kept: make([][]any, len(asked))}
		for _, o := range c.objects {
			r.keep(o, asked)
		}
		p := build([]part{r}, asked, facts.Env{Complete: true})
		if p.Unplaced != c.unplaced || p.Complete != (c.unplaced == 0) {
			t.Errorf("%s: %d without a namespace, complete: %t; want %d", c.name, p.Unplaced, p.Complete, c.unplaced)
		}
	}
	if got := Place(role, "b").Namespace; got != "" {
		t.Errorf("a ClusterRole was placed in %q", got)
	}
}
