// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"testing"

	"sconce.dev/sconce/object"
)

// TestPlace holds that a name which is the object's and a container's is taken for
// that of the container only where containers are spoken of.
func TestPlace(t *testing.T) {
	var root *object.Node
	for text := range object.Split([]byte("kind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1, template: {spec: {containers: [{name: web, image: nginx}]}}}\n")) {
		var err error
		if root, err = object.ParseYAML(text); err != nil {
			t.Fatal(err)
		}
	}
	for message, want := range map[string]string{
		"the number of replicas is not allowed for Deployment: web": "spec.replicas",
		"container <web> has no limits":                             "spec.template.spec.containers[web]",
		"container <web> has an invalid image <nginx>":              "spec.template.spec.containers[web].image",
		"<nginx> is not allowed for web":                            "spec.template.spec.containers[web]",
		"web is not allowed":                                        "",
	} {
		if got := place(root, message).String(); got != want {
			t.Errorf("%s: got %q, want %q", message, got, want)
		}
	}
}
