// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/test/shape"
)

// BenchmarkGenerate makes and proves the policies of clusters of growing size: at 1, 2,000
// namespaces and 10,000 pods.
func BenchmarkGenerate(b *testing.B) {
	for _, scale := range []float64{0.01, 0.1, 1} {
		b.Run(fmt.Sprint(scale), func(b *testing.B) {
			var kept []*Kept
			for o := range shape.Objects(scale) {
				if k := Keep(o); k != nil {
					kept = append(kept, k)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				r, err := Generate(kept, nil, facts.Env{Complete: true}, Options{Exempt: []string{"kube-system"}})
				if err != nil {
					b.Fatal(err)
				}
				if !r.Proof.Holds() {
					b.Fatalf("not proven: %d failures, of which the first is %s", len(r.Proof.Failures), r.Proof.Failures[0])
				}
				b.ReportMetric(float64(r.Workloads), "workloads")
				b.ReportMetric(float64(r.Proof.Pairs), "pairs")
			}
		})
	}
}
