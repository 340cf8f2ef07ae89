// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// telltale is a language whose only rule tells what the Secrets hold that it is
// given.
type telltale struct{}

func (telltale) Handles(gk object.GroupKind) bool { return gk.Group == "labels.example.com" }

func (telltale) Load([]*object.Object, map[string][]byte, policy.Options) *policy.Set {
	return &policy.Set{Rules: []policy.Rule{telltale{}}}
}

func (telltale) Info() *policy.Info {
	return &policy.Info{Name: "rego.telltale.deny", Title: "Tell", Needs: policy.Needs{Kinds: []object.GroupKind{{Kind: "Secret"}}}}
}

func (telltale) Matches(object.GroupKind) bool { return true }

func (telltale) Judge(_ context.Context, r *policy.Request) (control.Verdict, bool) {
	told := []*object.Object{r.Object}
	if r.Old != nil {
		told = append(told, r.Old)
	}
	if r.Cluster != nil {
		all, _ := r.Cluster.Objects(object.GroupKind{Kind: "Secret"}, "")
		told = append(told, all...)
	}
	var words []string
	for _, o := range told {
		written := o.Root.At("data", "key").Str()
		plain, _ := base64.StdEncoding.DecodeString(written)
		text := o.Root.At("stringData", "text").Str()
		words = append(words, written, string(plain), strings.ToUpper(string(plain)), text, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	return policy.Failed(nil, "it holds "+strings.Join(words, " ")), true
}

// What a rule of a policy tells of Secrets is hidden, in whatever form it tells
// it, and whether the Secret is judged, replaced or looked up.
func TestPoliciesTellNoSecret(t *testing.T) {
	l := baseline.NewLibrary()
	l.ReadPolicies(telltale{}, policy.Options{})
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Read("policies.yaml", []byte("apiVersion: labels.example.com/v1\nkind: Policy\nmetadata: {name: x}\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	b, err := l.Resolve(catalog.Default, baseline.Options{PoliciesOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(b, l.Exceptions(time.Now()), time.Time{})
	secretOf := func(plain, text string) *object.Object {
		return object1(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\ndata: {key: "+
			base64.StdEncoding.EncodeToString([]byte(plain))+"}\nstringData: {text: "+text+"}\n")
	}
	now, before := secretOf("grandcanyon12345", "moonriver-77-huckle"), secretOf("oldfaithful98765", "breakfast-61-tiffany")
	other := object1(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: a}\n")
	for name, r := range map[string]*engine.Result{
		"judged":    e.JudgeAmong(now, nil, nil),
		"replaced":  e.JudgeRequest(&policy.Request{Object: now, Old: before, Operation: policy.Update}, nil, func(*engine.Result) bool { return true }),
		"looked up": e.JudgeAmong(other, e.NewCluster([]*object.Object{now, before}, func(object.GroupKind) bool { return true }), nil),
	} {
		if len(r.Findings) != 1 {
			t.Fatalf("%s: got %d findings, want 1", name, len(r.Findings))
		}
		message := r.Findings[0].Message
		for _, plain := range []string{"grandcanyon12345", "moonriver-77-huckle", "oldfaithful98765", "breakfast-61-tiffany"} {
			encoded := base64.RawStdEncoding.EncodeToString([]byte(plain))
			for _, form := range []string{plain, strings.ToUpper(plain), encoded} {
				if strings.Contains(message, form) {
					t.Errorf("%s: the message tells %s: %s", name, form, message)
				}
			}
		}
	}
}

func object1(t *testing.T, text string) *object.Object {
	t.Helper()
	root, err := object.ParseYAML(object.Text{Line: 1, Bytes: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := object.FromNode(root, &object.Origin{Source: "x.yaml", Text: []byte(text), FirstLine: 1})
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}
