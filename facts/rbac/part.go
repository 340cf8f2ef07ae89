// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// namespaceOf is the part that an object belongs to.
func namespaceOf(ref object.Ref) string { return ref.Namespace }

// The keys under which parts tell that something is there.
func keyAccount(n name) string          { return "ServiceAccount " + n.namespace + "/" + n.name }
func keyClusterRole(name string) string { return "ClusterRole " + name }

// key is that under which the roles of a grantee are told.
func (g grantee) key() string {
	if g.all {
		return "roles of all"
	}
	return "roles of " + g.namespace + "/" + g.name
}

// tell returns what the objects of a namespace tell others: which
// ServiceAccounts and ClusterRoles there are, and which roles bindings give to
// ServiceAccounts of others. What parts are made of is a cluster, where all is
// known and everything in a namespace names it.
func tell(part string, kept []any) []facts.Told {
	var out []facts.Told
	for _, k := range kept {
		switch k := k.(type) {
		case clusterRoleName:
			out = append(out, facts.Told{Key: keyClusterRole(string(k)), Value: true})
		case *object.Object:
			switch k.GroupKind() {
			case serviceAccount:
				out = append(out, facts.Told{Key: keyAccount(name{k.Namespace, k.Name}), Value: true})
			case roleBinding, clusterRoleBinding:
				out = append(out, tellGrants(part, k)...)
			}
		}
	}
	return out
}

func tellGrants(part string, o *object.Object) []facts.Told {
	var out []facts.Told
	role, to := grants(o)
	for _, g := range to {
		if g.all || g.namespace != part {
			out = append(out, facts.Told{Key: g.key(), Value: role})
		}
	}
	return out
}
