// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"fmt"
	"strings"
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
)

// TestMutators holds the order of mutators and what they leave of an object.
func TestMutators(t *testing.T) {
	set := gatekeeper.Load(documents(t, "testdata/mutators.yaml"), policy.Options{})
	if len(set.Problems) > 0 {
		t.Fatal(set.Problems)
	}
	o := parse(t, "pod.yaml", pod)[0]
	var names []string
	for _, m := range set.Mutators {
		names = append(names, m.Info().Name)
		changed, v, applies := m.Mutate(t.Context(), &policy.Request{Object: o})
		if !applies || changed == nil || v.Outcome != "pass" || !m.Matches(o.GroupKind()) {
			t.Fatalf("%s: %s", m.Info().Name, say(v, applies))
		}
		o = object.New(changed, o.Origin)
		if again, _, _ := m.Mutate(t.Context(), &policy.Request{Object: o}); again != nil {
			t.Errorf("%s changes what it has changed", m.Info().Name)
		}
	}
	if got, want := strings.Join(names, " "), "gatekeeper.assign.pull-always gatekeeper.assignimage.mirror gatekeeper.assignmetadata.owner gatekeeper.modifyset.drop-all"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := parse(t, "want.yaml", `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}, annotations: {example.org/owner: shop}}
spec:
  hostNetwork: true
  containers:
    - name: server
      image: mirror.example:5000/web:2
      imagePullPolicy: Always
      securityContext: {privileged: true, capabilities: {drop: [ALL]}}
    - {name: metrics, image: "mirror.example:5000/metrics:2", imagePullPolicy: Always}
`)[0]
	if !o.Root.Equal(want.Root) {
		t.Errorf("got %s", o.Root.JSON())
	}
}

// mutation returns a mutator with a spec, written in one line.
func mutation(kind, spec string) string {
	if kind != "AssignMetadata" {
		spec = `applyTo: [{groups: [""], kinds: [Pod], versions: [v1]}], ` + spec
	}
	return fmt.Sprintf("apiVersion: mutations.gatekeeper.sh/v1\nkind: %s\nmetadata: {name: one}\nspec: {%s}\n", kind, spec)
}

// TestMutate holds what single mutators do to
// {a: {b: [{k: x, v: 1}, {k: y}], l: [1, 2]}, i: registry.example/app:1}.
func TestMutate(t *testing.T) {
	const before = `{"a":{"b":[{"k":"x","v":1},{"k":"y"}],"l":[1,2]},"i":"registry.example/app:1"}`
	for _, test := range []struct{ kind, spec, want string }{
		{"Assign", "location: spec.c, parameters: {assign: {value: 1}}", strings.Replace(before, `,"i"`, `,"c":1,"i"`, 1)},
		{"Assign", "location: spec.i, parameters: {assign: {value: {z: [1]}}}", strings.Replace(before, `"registry.example/app:1"`, `{"z":[1]}`, 1)},
		{"Assign", "location: 'spec.a.b[k: x].v', parameters: {assign: {value: 2}}", strings.Replace(before, `"v":1`, `"v":2`, 1)},
		{"Assign", "location: 'spec.a.b[k: z].v', parameters: {assign: {value: 2}}", strings.Replace(before, `{"k":"y"}`, `{"k":"y"},{"k":"z","v":2}`, 1)},
		{"Assign", "location: 'spec.a.b[k: *].v', parameters: {assign: {value: 2}}", strings.Replace(strings.Replace(before, `"v":1`, `"v":2`, 1), `{"k":"y"}`, `{"k":"y","v":2}`, 1)},
		{"Assign", "location: 'spec.a.b[k: y]', parameters: {assign: {value: {k: 'y', num: 3}}}", strings.Replace(before, `{"k":"y"}`, `{"k":"y","num":3}`, 1)},
		{"Assign", "location: 'spec.a.b[k: 7]', parameters: {assign: {value: {k: 7}}}", strings.Replace(before, `{"k":"y"}`, `{"k":"y"},{"k":7}`, 1)},
		{"Assign", "location: 'spec.n.m[k: x].o', parameters: {assign: {value: 2}}", strings.Replace(before, `:1"}`, `:1","n":{"m":[{"k":"x","o":2}]}}`, 1)},
		{"Assign", "location: spec.i, parameters: {assign: {fromMetadata: {field: name}}}", strings.Replace(before, "registry.example/app:1", "web", 1)},
		{"Assign", "location: spec.c, parameters: {assign: {value: 1}, pathTests: [{subPath: spec.c, condition: MustExist}]}", ""},
		{"Assign", "location: spec.i, parameters: {assign: {value: 1}, pathTests: [{subPath: spec.i, condition: MustNotExist}]}", ""},
		{"Assign", "location: 'spec.a.b[k: z].v', parameters: {assign: {value: 1}, pathTests: [{subPath: 'spec.a.b[k: z]', condition: MustExist}]}", ""},
		{"Assign", "location: 'spec.a.b[k: x].v', parameters: {assign: {value: 1}}", ""},
		{"Assign", "location: spec.i.x, parameters: {assign: {value: 1}}", "unknown | Assign one cannot be applied: there is no map at step 3 of spec.i.x"},
		{"Assign", "location: spec.i, parameters: {assign: {externalData: {provider: p}}}", "unknown | it assigns what a provider of external data says"},
		{"Assign", "location: spec.i, match: {namespaces: [other]}, parameters: {assign: {value: 1}}", "not about it"},
		{"Assign", "location: spec.i, match: {namespaceSelector: {matchLabels: {a: b}}}, parameters: {assign: {value: 1}}", "unknown | the constraint selects namespaces by their labels, and those of the object's are not known (missing Namespace)"},
		{"ModifySet", "location: spec.a.l, parameters: {values: {fromList: [2, 3]}}", strings.Replace(before, "[1,2]", "[1,2,3]", 1)},
		{"ModifySet", "location: spec.a.l, parameters: {operation: prune, values: {fromList: [2, 3]}}", strings.Replace(before, "[1,2]", "[1]", 1)},
		{"ModifySet", "location: spec.a.none, parameters: {operation: prune, values: {fromList: [2]}}", ""},
		{"ModifySet", "location: spec.i, parameters: {values: {fromList: [2]}}", "unknown | ModifySet one cannot be applied: i is no list"},
		{"AssignImage", "location: spec.i, parameters: {assignPath: other/app}", strings.Replace(before, "/app", "/other/app", 1)},
		{"AssignImage", "location: spec.i, parameters: {assignDomain: localhost, assignTag: '@sha256:0123456789abcdef0123456789abcdef'}", strings.Replace(before, "registry.example/app:1", "localhost/app@sha256:0123456789abcdef0123456789abcdef", 1)},
		{"AssignMetadata", "location: metadata.labels.app, parameters: {assign: {value: x}}", ""},

		{"Assign", "location: metadata.labels.app, parameters: {assign: {value: x}}", "refused: it changes metadata; only AssignMetadata does"},
		{"Assign", "location: 'spec.a.b[k: x].k', parameters: {assign: {value: x}}", "refused: it changes the field that tells items of a list apart"},
		{"Assign", "location: 'spec.a.b[k: x]', parameters: {assign: {value: {k: y}}}", "refused: an item of the list must be a map whose k is that of the location"},
		{"Assign", "location: spec..a, parameters: {assign: {value: x}}", `refused: the location "spec..a": ".a" stands where a name would`},
		{"Assign", "location: 'spec.a[k x]', parameters: {assign: {value: x}}", `refused: the location "spec.a[k x]": "x]" stands where the colon after k would`},
		{"Assign", "location: spec.a, parameters: {assign: {}}", "refused: parameters.assign must have one of value, fromMetadata and externalData"},
		{"Assign", "location: spec.a, parameters: {assign: {value: 1}, pathTests: [{subPath: spec.b, condition: MustExist}]}", `refused: the path test "spec.b" does not lead to the location`},
		{"AssignMetadata", "location: metadata.name, parameters: {assign: {value: x}}", `refused: the location "metadata.name" is no label and no annotation`},
		{"AssignMetadata", "location: metadata.labels.x, parameters: {assign: {value: 1}}", "refused: parameters.assign.value must be a string"},
		{"ModifySet", "location: 'spec.a.b[k: x]', parameters: {values: {fromList: [2]}}", "refused: the location ends in an item of a list; want a field"},
		{"AssignImage", "location: spec.i, parameters: {assignPath: registry.example/app}", `refused: parameters.assignPath "registry.example/app" begins with a domain`},
		{"AssignImage", "location: spec.i, parameters: {assignTag: latest}", `refused: parameters.assignTag "latest" is no tag and no digest; want one that begins with : or @`},
		{"Replace", "location: spec.i", "refused: there is no such mutator; want Assign, AssignMetadata, ModifySet or AssignImage"},
	} {
		set := gatekeeper.Load(parse(t, "m.yaml", mutation(test.kind, test.spec)), policy.Options{})
		o := parse(t, "o.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: "+before+"\n")[0]
		got := ""
		switch {
		case len(set.Problems) > 0:
			_, why, _ := strings.Cut(set.Problems[0].Message, "one: ")
			got = "refused: " + why
		default:
			changed, v, applies := set.Mutators[0].Mutate(t.Context(), &policy.Request{Object: o})
			if changed != nil {
				got = string(changed.Get("spec").JSON())
			} else if v.Outcome != "pass" {
				got = say(v, applies)
			}
		}
		if got != test.want {
			t.Errorf("%s {%s}:\ngot  %s\nwant %s", test.kind, test.spec, got, test.want)
		}
	}
}
