// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/cel-go/common/types"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// TestConcurrent judges with a policy while others are compiled.
func TestConcurrent(t *testing.T) {
	set := load(t, podsPolicy)
	objects := []*object.Object{parse(t, pod)[0], parse(t, deployment)[0], parse(t, cronJob)[0]}
	docs := parse(t, strings.NewReplacer("name: containers,", "name: other,", "variables.containers", "variables.other").Replace(podsPolicy))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, o := range objects {
				if v, _ := set.Rules[0].Judge(context.Background(), &policy.Request{Object: o}); v.Outcome != "fail" {
					t.Errorf("%+v", v)
				}
			}
		})
		wg.Go(func() {
			if set := Load(docs, policy.Options{}); len(set.Problems) > 0 {
				t.Error(set.Problems)
			}
		})
	}
	wg.Wait()
}

// TestShared judges one request with several policies: what they see of it is
// made once.
func TestShared(t *testing.T) {
	r := &policy.Request{Object: parse(t, pod)[0]}
	if first := subjectOf(r); first != subjectOf(r) {
		t.Error("the request is read twice")
	}
}

// TestBounded holds that a policy that would take for ever ends.
func TestBounded(t *testing.T) {
	loop := "1"
	for i := range 12 {
		loop = fmt.Sprintf("[1,2,3,4,5,6,7,8,9,10].map(a%d, %s)[0]", i, loop)
	}
	docs := parse(t, validating("  validations: [{expression: '"+loop+" == 1'}]"))
	set := Load(docs, policy.Options{Timeout: 50 * time.Millisecond})
	if len(set.Problems) > 0 {
		t.Fatal(set.Problems)
	}
	start := time.Now()
	if got := outcome(t, set, &policy.Request{Object: parse(t, configMap)[0]}); got != "unknown" {
		t.Error(got)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestSecret holds that no words of an expression over a Secret are shown.
func TestSecret(t *testing.T) {
	secret := parse(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {password: hunter2}\n")[0]
	for expression, want := range map[string]string{
		"int(object.stringData.password) > 1":                                                       "unknown",
		`resource.Get("v1", "configmaps", "shop", object.stringData.password).metadata.name == "x"`: "unknown",
		`false`: "fail",
	} {
		set := load(t, strings.Replace(validating("  validations:\n  - expression: '"+expression+"'\n    messageExpression: string(object.stringData.password)\n"), "configmaps]", "secrets]", 1))
		v, _ := judge(t, set, &policy.Request{Object: secret})
		if string(v.Outcome) != want || strings.Contains(fmt.Sprint(v), "hunter2") {
			t.Errorf("%s: %+v; want %s", expression, v, want)
		}
	}
}

// TestUnpacked refuses what unpacks to more than is good.
func TestUnpacked(t *testing.T) {
	for size, want := range map[int]bool{maxUnpacked: false, maxUnpacked + 1: true} {
		if got := types.IsError(unpack(pack(types.String(strings.Repeat("a", size))))); got != want {
			t.Errorf("%d bytes: refused is %v", size, got)
		}
	}
}

// TestRandom refuses what makes strings without end.
func TestRandom(t *testing.T) {
	for pattern, want := range map[string]bool{"[a-z]{8}": false, "((a*)*)*": false, "(((a*)*)*)*": true, strings.Repeat("a", maxPattern+1): true, "(": true} {
		if got := types.IsError(random(types.String(pattern))); got != want {
			t.Errorf("%s: refused is %v", pattern, got)
		}
	}
}

// FuzzLoad reads policies that nobody meant well, and judges with what loads.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		podsPolicy, mutating("  mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[JSONPatch{op: \"remove\", path: \"/spec\"}]'}}]"),
		generating("GeneratingPolicy", "  generate: [{template: {interpolate: cel, value: 'a: ((object.metadata.name))'}}]"),
		validating("  validations: [{expression: 'random(\"a{1000}\") == \"\"'}]"),
	} {
		f.Add(seed)
	}
	subject := parse(f, pod)[0]
	f.Fuzz(func(t *testing.T, text string) {
		var docs []*object.Object
		for doc := range object.Split([]byte(text)) {
			root, err := object.ParseYAML(doc)
			if err != nil || root == nil {
				continue
			}
			objects, err := object.FromNode(root, &object.Origin{Source: "fuzz.yaml", Text: doc.Bytes, FirstLine: doc.Line})
			if err == nil {
				docs = append(docs, objects...)
			}
		}
		set := Load(docs, policy.Options{Timeout: 100 * time.Millisecond})
		for _, r := range set.Rules {
			if r.Matches(subject.GroupKind()) {
				r.Judge(t.Context(), &policy.Request{Object: subject})
			}
		}
		for _, m := range set.Mutators {
			m.Mutate(t.Context(), &policy.Request{Object: subject})
		}
	})
}

// BenchmarkLoad compiles one policy.
func BenchmarkLoad(b *testing.B) {
	docs := parse(b, podsPolicy)
	for b.Loop() {
		if set := Load(docs, policy.Options{}); len(set.Rules) != 1 {
			b.Fatal(set.Problems)
		}
	}
}

// BenchmarkJudge judges one object with one policy and with twenty, which share
// what they see of it.
func BenchmarkJudge(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			var text strings.Builder
			for i := range n {
				fmt.Fprintf(&text, "---\n%s", strings.Replace(podsPolicy, "name: no-latest", fmt.Sprintf("name: p%d", i), 1))
			}
			set := load(b, text.String())
			o := parse(b, strings.ReplaceAll(pod, "latest", "2"))[0]
			b.ReportAllocs()
			for b.Loop() {
				r := &policy.Request{Object: o}
				for _, rule := range set.Rules {
					if v, _ := rule.Judge(b.Context(), r); v.Outcome != "pass" {
						b.Fatal(v)
					}
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "verdicts/s")
		})
	}
}

// BenchmarkBlame judges an object that fails.
func BenchmarkBlame(b *testing.B) {
	set := load(b, podsPolicy)
	o := parse(b, pod)[0]
	for b.Loop() {
		if v, _ := set.Rules[0].Judge(b.Context(), &policy.Request{Object: o}); v.Outcome != "fail" {
			b.Fatal(v)
		}
	}
}
