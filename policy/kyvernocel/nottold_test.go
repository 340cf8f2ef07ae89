// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"strings"
	"testing"

	"sconce.dev/sconce/policy"
)

// TestNotTold holds that what nobody has told of a request is unknown, however an
// expression reads it.
func TestNotTold(t *testing.T) {
	const plain = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: app, image: 'app:latest'}]}\n"
	const widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: web}\n"
	const namespaced = `
    - {apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE], resources: ["*"], scope: Namespaced}
`
	for name, c := range map[string]struct{ object, rules, more, expression, want string }{
		"user, plain":          {plain, "", "", "request.userInfo.username != 'eve'", "unknown"},
		"user, optional":       {plain, "", "", "request.?userInfo.?username.orValue('') != 'eve'", "unknown"},
		"user, by index":       {plain, "", "", "dyn(request)['userInfo'].username != 'eve'", "unknown"},
		"user, optional index": {plain, "", "", "dyn(request)[?'userInfo'].hasValue()", "unknown"},
		"user, whole request":  {plain, "", "", "[request].all(r, r.userInfo.username != 'eve')", "unknown"},
		"variable, by index":   {plain, "", "  variables: [{name: who, expression: request.userInfo}]\n", "dyn(variables)['who'].username != 'eve'", "unknown"},
		"cluster scope":        {strings.NewReplacer("Pod", "Node", "spec:", "x:").Replace(plain), strings.Replace(namespaced, "Namespaced", "Cluster", 1), "", "false", "fail"},
		"other fields":         {plain, "", "", "request.operation == 'CREATE' && request.?kind.?kind.orValue('') == 'Pod'", "pass"},
		"variable, optional":   {plain, "", "  variables: [{name: who, expression: request.userInfo}]\n", "variables.?who.?username.orValue('') != 'eve'", "unknown"},
		"scope":                {plain, namespaced, "", "false", "fail"},
		"scope of a custom":    {widget, namespaced, "", "false", "unknown"},
		"selector":             {plain, "", "", "", "unknown"},
		"namespaceObject":      {plain, "", "", "namespaceObject == null", "unknown"},
		"its namespace":        {plain, "", "", "object.?metadata.?namespace.orValue('') != 'default'", "unknown"},
		"its metadata":         {plain, "", "", "!has(object.metadata.namespace)", "unknown"},
		"of the request":       {plain, "", "", "request.?namespace.orValue('') != 'default'", "unknown"},
		"its name":             {plain, "", "", "object.metadata.name == 'web'", "pass"},
		"given":                {pod, "", "", "object.metadata.namespace == 'shop' && request.namespace == 'shop'", "pass"},
	} {
		t.Run(name, func(t *testing.T) {
			text := podsPolicy
			if c.rules != "" {
				text = strings.Replace(text, text[strings.Index(text, "    - {apiGroups"):strings.Index(text, "  variables:")], strings.TrimPrefix(c.rules, "\n"), 1)
			}
			if c.expression == "" {
				text = strings.Replace(text, "    resourceRules:", "    namespaceSelector: {matchLabels: {a: b}}\n    resourceRules:", 1)
				c.expression = "false"
			}
			head, _, _ := strings.Cut(text, "  variables:")
			text = head + c.more + "  validations:\n  - expression: \"" + c.expression + "\"\n"
			if got := outcome(t, load(t, text), &policy.Request{Object: parse(t, c.object)[0]}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
