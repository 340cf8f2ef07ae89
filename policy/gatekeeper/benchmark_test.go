// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"testing"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
)

// BenchmarkJudge is one constraint over one object.
func BenchmarkJudge(b *testing.B) {
	for _, engine := range []string{"rego", "cel"} {
		for _, outcome := range []string{"pass", "fail"} {
			b.Run(engine+"/"+outcome, func(b *testing.B) {
				set := gatekeeper.Load(documents(b, "testdata/labels-"+engine+".yaml"), policy.Options{})
				o := documents(b, "testdata/"+outcome+".yaml")[0]
				benchmarkJudge(b, set, o)
			})
		}
	}
}

func benchmarkJudge(b *testing.B, set *policy.Set, o *object.Object) {
	if len(set.Problems) > 0 || len(set.Rules) != 1 {
		b.Fatal(set.Problems)
	}
	r := &policy.Request{Object: o, Operation: policy.Create}
	b.ReportAllocs()
	for b.Loop() {
		set.Rules[0].Judge(b.Context(), r)
	}
}

// BenchmarkRequest is one constraint over an object that it has not seen.
func BenchmarkRequest(b *testing.B) {
	set := gatekeeper.Load(documents(b, "testdata/labels-rego.yaml"), policy.Options{})
	o := documents(b, "testdata/pass.yaml")[0]
	b.ReportAllocs()
	for b.Loop() {
		set.Rules[0].Judge(b.Context(), &policy.Request{Object: o, Operation: policy.Create})
	}
}
