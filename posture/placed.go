// SPDX-License-Identifier: Apache-2.0

package posture

import "sconce.dev/sconce/object"

// Place returns the object as it is once it is applied to a namespace: in that
// one, unless it names another or is of a kind that has none.
func Place(o *object.Object, namespace string) *object.Object {
	if o.Namespace != "" || namespace == "" || !object.Namespaced(o.GroupKind()) {
		return o
	}
	in := o.WithRoot(o.Root)
	in.Namespace = namespace
	return in
}
