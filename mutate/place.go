// SPDX-License-Identifier: Apache-2.0

package mutate

import "sconce.dev/sconce/object"

// source is the document that a control stands in.
type source struct {
	file string
	text object.Text
	root *object.Node
}

// find returns the document of a file that holds the control.
func find(file string, data []byte, control string) source {
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err == nil && root != nil && root.Get("kind").Str() == "Control" && root.At("metadata", "name").Str() == control {
			return source{file, text, root}
		}
	}
	return source{file: file}
}

// place returns where the n-th character of the text of a field stands.
func (s source) place(field string, n int) object.Position {
	p := object.Position{File: s.file}
	if s.root == nil {
		return p
	}
	spot := s.root.SpotIn(s.text, object.ParsePath(field), n)
	p.Line, p.Column = spot.Line, spot.Col
	return p
}
