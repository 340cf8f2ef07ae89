// SPDX-License-Identifier: Apache-2.0

package enforcement_test

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/enforcement"
	"sconce.dev/sconce/object"
)

// read returns the objects of manifests.
func read(t testing.TB, manifests string) []*object.Object {
	t.Helper()
	var out []*object.Object
	for text := range object.Split([]byte(manifests)) {
		root, err := object.ParseYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.FromNode(root, &object.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, objects...)
	}
	return out
}

// derive returns the facts about all objects, by kind and name.
func derive(objects []*object.Object, env *facts.Env) map[string]*object.Node {
	var kept []any
	for _, o := range objects {
		if k := enforcement.Whole.Keep(o); k != nil {
			kept = append(kept, k)
		}
	}
	out := map[string]*object.Node{}
	enforcement.Whole.Derive(kept, env, func(f *object.Object) { out[f.Kind+" "+f.Name] = f.Root.Get("facts") })
	for _, o := range objects {
		for _, f := range enforcement.Single.Derive(o, env) {
			out[f.Kind+" "+f.Name] = f.Root.Get("facts")
		}
	}
	return out
}

const policies = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints: {namespaceSelector: {matchExpressions: [{key: skip, operator: DoesNotExist}]}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b}
spec: {policyName: p, paramRef: {name: c, namespace: shop}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w, uid: u}
webhooks:
- name: a.example.com
  clientConfig: {service: {namespace: shop, name: s}}
  namespaceSelector: {matchExpressions: [{key: skip, operator: NotIn, values: ["yes"]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {skip: "yes"}}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop}
spec: {ports: [{port: 443}]}
`

// TestAbsent: what is not there is absent where all was read, and else unknown.
func TestAbsent(t *testing.T) {
	for _, complete := range []bool{true, false} {
		got := derive(read(t, policies), &facts.Env{Complete: complete})
		for what, n := range map[string]*object.Node{
			"parameter": got["AdmissionBinding b"].Get("parameterFound"),
			"endpoint":  got["AdmissionWebhook w"].Get("services").Items[0].Get("ready"),
		} {
			switch {
			case n == nil || complete && (n.Kind != object.Bool || n.Bool()):
				t.Errorf("%s, complete: got %v, want false", what, n)
			case !complete && n.Kind != object.Unknown:
				t.Errorf("%s, not complete: got %v, want unknown", what, n)
			}
		}
		if n := got["AdmissionBinding b"].Get("policyFound"); !n.Bool() {
			t.Errorf("the policy that is there is not found: %v", n)
		}
		exempt := got["AdmissionWebhook w"].Get("exempt").Items
		if len(exempt) != 1 || exempt[0].Get("names").Items[0].Str() != "shop" || exempt[0].Get("key").Str() != "skip" {
			t.Errorf("left out of the webhook: %v", exempt)
		}
	}
}

// TestUnread: what was left out of a snapshot is unknown, and never absent.
func TestUnread(t *testing.T) {
	objects := read(t, policies)
	unread := object.NewUnknown("left out")
	for i, path := range []object.Path{
		facts.Path("spec", "matchConstraints", "namespaceSelector", "matchExpressions"),
		facts.Path("spec", "policyName"),
	} {
		objects[i] = objects[i].WithRoot(replace(objects[i].Root, path, unread))
	}
	objects[2] = objects[2].WithRoot(replace(objects[2].Root, facts.Path("webhooks").Append(object.Step{Item: true}).Fields("clientConfig", "service", "name"), unread))
	objects[4] = objects[4].WithRoot(replace(objects[4].Root, facts.Path("spec", "ports"), unread))
	got := derive(objects, &facts.Env{Complete: true})
	for what, n := range map[string]*object.Node{
		"policyFound": got["AdmissionBinding b"].Get("policyFound"),
		"service":     got["AdmissionWebhook w"].Get("services").Items[0],
	} {
		if n == nil || n.Kind != object.Unknown {
			t.Errorf("%s: got %v, want unknown", what, n)
		}
	}
}

// replace returns a tree with another value at a path.
func replace(n *object.Node, path object.Path, with *object.Node) *object.Node {
	if len(path) == 0 {
		return with
	}
	out := *n
	if path[0].Item {
		out.Items = append([]*object.Node(nil), n.Items...)
		out.Items[path[0].Index] = replace(n.Items[path[0].Index], path[1:], with)
		return &out
	}
	out.Fields = append([]object.Field(nil), n.Fields...)
	for i := range out.Fields {
		if out.Fields[i].Key == path[0].Field {
			out.Fields[i].Value = replace(out.Fields[i].Value, path[1:], with)
		}
	}
	return &out
}

// FuzzDerive: nothing panics, whatever shape objects have.
func FuzzDerive(f *testing.F) {
	f.Add(policies)
	f.Add(strings.ReplaceAll(policies, "{", "["))
	f.Add("apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nwebhooks: [{clientConfig: {caBundle: LS0tLS1CRUdJTg==}}, 3, [], {clientConfig: 1, namespaceSelector: {matchExpressions: [{operator: In}]}}]\n")
	f.Add("apiVersion: templates.gatekeeper.sh/v1\nkind: A\nstatus: {byPod: [{errors: {}}, 1]}\n")
	f.Fuzz(func(_ *testing.T, manifests string) {
		var objects []*object.Object
		for text := range object.Split([]byte(manifests)) {
			root, err := object.ParseYAML(text)
			if err != nil || root == nil {
				continue
			}
			found, err := object.FromNode(root, &object.Origin{})
			if err == nil {
				objects = append(objects, found...)
			}
		}
		derive(objects, &facts.Env{Complete: true, Today: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)})
	})
}
