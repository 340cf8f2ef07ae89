// SPDX-License-Identifier: Apache-2.0

package source

import (
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// Documents are what is read beside objects of Kubernetes, where a policy is about
// such: other formats, and YAML and JSON that hold no objects.
type Documents struct {
	// Reads says whether a file is one of another format, by its name; Parse reads
	// it.
	Reads func(name string) bool
	Parse func(name string, data []byte) ([]any, error)
	// Unsupported is the format of a file, by its name, that policies could be
	// about and that Parse refuses; "" for any other.
	Unsupported func(name string) string
}

// reads says whether a file that is no manifest is read.
func (d *Documents) reads(name string) bool {
	return d != nil && !isManifest(name) && d.Reads(name)
}

// refuses says whether a file is one that cannot be read.
func (d *Documents) refuses(name string) bool {
	return d != nil && !isManifest(name) && d.Unsupported(name) != ""
}

// stray returns what takes the documents of a stream that are no objects; nil where
// they are only counted.
func (d *Documents) stray(sink snapshot.Sink) func(*object.Node, *object.Origin) {
	if d == nil {
		return nil
	}
	nth := 0
	return func(root *object.Node, origin *object.Origin) {
		if root.Kind != object.Map && root.Kind != object.List && origin.Source != StdinName && !isManifest(origin.Source) {
			d.file(origin.Source, nil, sink) // a text: it is no YAML but something else
			return
		}
		nth++
		sink.Object(object.NewDocument(root, origin, nth))
	}
}

// file yields the documents of a file of another format. They have no lines.
func (d *Documents) file(name string, data []byte, sink snapshot.Sink) {
	docs, err := d.Parse(name, data)
	if err != nil {
		sink.Problem(problemf(verdict.Parsing, name, "%s", err))
		return
	}
	origin := &object.Origin{Source: name}
	for i, doc := range docs {
		sink.Object(object.NewDocument(object.FromAny(doc), origin, i+1))
	}
}
