// SPDX-License-Identifier: Apache-2.0

package place

import (
	"testing"

	"sconce.dev/sconce/object"
)

// TestPlace holds that a name which is the object's and a container's is taken for
// that of the container only where containers are spoken of.
func TestPlace(t *testing.T) {
	var root *object.Node
	for text := range object.Split([]byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1, strategy: {type: RollingUpdate}, template: {spec: {containers: [{name: web, image: nginx}]}}}\n")) {
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
		// values, and fields that are not there
		"the API apps/v1 for Deployment is deprecated":         "apiVersion",
		"RollingUpdate is not allowed":                         "spec.strategy.type",
		"you must provide labels: {\"owner\"}":                 "metadata.labels",
		"you must provide annotation(s): {\"owner\"}":          "metadata.annotations",
		"the provided pod spec fsGroup is not allowed for web": "spec.template.spec.securityContext.fsGroup",
	} {
		if got := Of(root, message).String(); got != want {
			t.Errorf("%s: got %q, want %q", message, got, want)
		}
	}
	if got := Of(nil, "labels, apps/v1, fsGroup"); got != nil {
		t.Errorf("of nothing: got %s", got)
	}
}
