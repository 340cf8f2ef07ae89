// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// element is an element of XML that is being read.
type element struct {
	name string
	// fields are its attributes, by their names behind a dash, and its elements;
	// several of one name are a list.
	fields map[string]any
	text   strings.Builder
}

// maxElements is how deep elements may be nested.
const maxElements = 500

// parseXML reads XML: an element with attributes or elements is a map, with its
// text under #content; any other is its text.
func parseXML(data []byte) ([]any, error) {
	dec := xml.NewDecoder(bytes.NewReader(data))
	stack := []*element{{fields: map[string]any{}}}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(stack) > maxElements {
				return nil, fmt.Errorf("it is nested more than %d deep", maxElements)
			}
			e := &element{name: t.Name.Local, fields: map[string]any{}}
			for _, a := range t.Attr {
				e.add("-"+a.Name.Local, a.Value)
			}
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
			stack[len(stack)-1].add(top.name, top.value())
		case xml.CharData:
			top.text.Write(t)
		}
	}
	if len(stack[0].fields) == 0 {
		return nil, errors.New("it has no element")
	}
	return []any{stack[0].fields}, nil
}

// add adds a value under a name.
func (e *element) add(name string, value any) {
	switch have := e.fields[name].(type) {
	case nil:
		e.fields[name] = value
	case []any:
		e.fields[name] = append(have, value)
	default:
		e.fields[name] = []any{have, value}
	}
}

// value returns what an element comes to.
func (e *element) value() any {
	text := strings.TrimSpace(e.text.String())
	if len(e.fields) == 0 {
		return text
	}
	if text != "" {
		e.fields["#content"] = text
	}
	return e.fields
}
