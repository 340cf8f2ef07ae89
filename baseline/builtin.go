// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// BuiltIn is the documents that come with the program, as code: reading YAML
// would take longer than judging a pod.
type BuiltIn struct {
	Controls   []BuiltInDocument[v1alpha1.Control]
	Baselines  []BuiltInDocument[v1alpha1.Baseline]
	Frameworks []BuiltInDocument[v1alpha1.Framework]
}

// BuiltInDocument is a document, which is made when it is asked for, and the
// file that it was generated from.
type BuiltInDocument[T any] struct {
	Name, File string
	New        func() *T
}

// Add adds the documents to a library.
func (b *BuiltIn) Add(l *Library) {
	addBuiltIn(l.controls, b.Controls)
	addBuiltIn(l.baselines, b.Baselines)
	addBuiltIn(l.frameworks, b.Frameworks)
}

func addBuiltIn[T any](into map[string]*entry[T], documents []BuiltInDocument[T]) {
	for _, d := range documents {
		into[d.Name] = &entry[T]{doc: d.New(), file: d.File, root: noSource, builtIn: true}
	}
}

// noSource stands for the text of a document that was not read from one.
var noSource = &object.Node{Kind: object.Map, Line: 1, Col: 1}
