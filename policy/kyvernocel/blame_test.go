// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"testing"

	"sconce.dev/sconce/policy"
)

const blamed = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  hostNetwork: true
  containers:
  - {name: app, image: app, ports: [{containerPort: 80}], securityContext: {privileged: false}}
  - {name: log, image: 'log:1', ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}], securityContext: {privileged: true}}
  initContainers:
  - {name: init, image: init, securityContext: {}}
`

// TestBlame holds which field a failing expression is about.
func TestBlame(t *testing.T) {
	for expression, want := range map[string]string{
		"object.spec.hostNetwork == false":                                                                             "spec.hostNetwork",
		"object.spec.?hostPID.orValue(false) || object.spec.hostNetwork == false":                                      "spec.hostNetwork",
		"object.metadata.name != '' && !object.spec.hostNetwork":                                                       "spec.hostNetwork",
		"has(object.metadata.labels.team)":                                                                             "metadata.labels",
		"object.metadata.labels['app'] == 'x'":                                                                         "metadata.labels.app",
		"object.metadata.name == 'x'":                                                                                  "metadata.name",
		"object.spec.containers.all(c, c.securityContext.privileged == false)":                                         "spec.containers[log].securityContext.privileged",
		"!object.spec.containers.exists(c, c.securityContext.privileged)":                                              "spec.containers[log].securityContext.privileged",
		"object.spec.containers.all(c, c.ports.all(p, !has(p.hostPort)))":                                              "spec.containers[log].ports[81].hostPort",
		"object.spec.containers.all(c, has(c.livenessProbe))":                                                          "spec.containers[app]",
		"object.spec.containers.exists(c, c.name == 'x')":                                                              "spec.containers",
		"object.spec.containers.filter(c, c.securityContext.privileged).size() == 0":                                   "spec.containers",
		"object.spec.containers.filter(c, c.name != 'app').all(c, c.image == 'x')":                                     "spec.containers[log].image",
		"(object.spec.containers + object.spec.initContainers).all(c, c.image.contains('p') || c.image.contains(':'))": "spec.initContainers[init].image",
		"variables.all.all(c, c.image != 'init')":                                                                      "spec.initContainers[init].image",
		"variables.fine": "spec.hostNetwork",
		"cel.bind(s, object.spec, s.hostNetwork == false)":                           "spec.hostNetwork",
		"object.spec.hostNetwork ? object.metadata.labels.app == 'x' : true":         "metadata.labels.app",
		"object.spec.containers[0].image == 'x'":                                     "spec.containers[app].image",
		"object.spec.containers.all(i, c, c.securityContext.privileged == false)":    "spec.containers[log].securityContext.privileged",
		"request.operation == 'X'":                                                   "",
		"object.spec.containers[0].image != '' && object.metadata.labels.app == 'x'": "metadata.labels.app",
		"false": "",
	} {
		set := load(t, `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: p}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: ["*"], resources: [pods]}
  variables:
  - {name: all, expression: 'object.spec.containers + object.spec.?initContainers.orValue([])'}
  - {name: fine, expression: '!object.spec.hostNetwork'}
  validations:
  - expression: >-
      `+expression+"\n")
		v, _ := judge(t, set, &policy.Request{Object: parse(t, blamed)[0]})
		if len(v.Findings) != 1 || v.Findings[0].Path.String() != want {
			t.Errorf("%s\n%+v; want %s", expression, v, want)
		}
	}
}
