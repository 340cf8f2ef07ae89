// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"os"
	"testing"

	"sconce.dev/sconce/object"
)

// documents returns the objects of a file.
func documents(t testing.TB, file string) []*object.Object {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, file, string(data))
}

// parse returns the objects of a text.
func parse(t testing.TB, file, data string) []*object.Object {
	t.Helper()
	var out []*object.Object
	for text := range object.Split([]byte(data)) {
		root, err := object.ParseYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{Source: file, Text: text.Bytes, FirstLine: text.Line})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// read returns the text of a file.
func read(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
