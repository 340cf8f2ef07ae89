// SPDX-License-Identifier: Apache-2.0

package object

import "fmt"

// DocumentKind is the kind of documents that are no objects of Kubernetes: a
// Dockerfile, a file of Terraform, YAML of another program. Only policies that
// say themselves what they are about judge them.
var DocumentKind = GroupKind{Group: "documents.sconce.dev", Kind: "Document"}

// NewDocument returns a document of a file as an object: the nth of its file,
// from 1.
func NewDocument(root *Node, origin *Origin, nth int) *Object {
	name := origin.Source
	if nth > 1 {
		name = fmt.Sprintf("%s#%d", name, nth)
	}
	return &Object{Ref: Ref{APIVersion: DocumentKind.Group + "/v1", Kind: DocumentKind.Kind, Name: name}, Root: root, Origin: origin}
}
