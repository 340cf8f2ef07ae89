// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"sconce.dev/sconce/object"
)

// TestNodes holds the nodes of every built-in type against what the API
// server's own conversion makes of random objects.
func TestNodes(t *testing.T) {
	fill := randfill.NewWithSeed(4).NilChance(0.4).NumElements(1, 2).MaxDepth(12).Funcs(
		func(v *metav1.Time, c randfill.Continue) { *v = metav1.Unix(c.Int63n(1<<31), 0) },
		func(v *metav1.MicroTime, c randfill.Continue) {
			*v = metav1.NewMicroTime(metav1.Unix(c.Int63n(1<<31), 0).Time)
		},
		func(v *runtime.RawExtension, _ randfill.Continue) { v.Raw = []byte(`{"a":[1,2.5,"x"]}`) },
		func(v *metav1.FieldsV1, _ randfill.Continue) { v.SetRawString(`{"f:metadata":{}}`) },
	)
	compared := 0
	for gvk := range scheme.Scheme.AllKnownTypes() {
		for range 3 {
			v, err := scheme.Scheme.New(gvk)
			if err != nil || gvk.Version == runtime.APIVersionInternal {
				continue
			}
			fill.Fill(v)
			want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v)
			if err != nil {
				continue // a random value that has no JSON
			}
			compared++
			if got := nodeOf(v); !got.Equal(object.FromAny(want)) {
				t.Fatalf("%s: got\n%s\nwant\n%s", gvk, got.JSON(), object.FromAny(want).JSON())
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d objects could be compared", compared)
	}
}

func BenchmarkNodes(b *testing.B) {
	pod := &corev1.Pod{}
	randfill.NewWithSeed(1).NilChance(0.8).NumElements(1, 2).MaxDepth(12).Funcs(func(v *runtime.RawExtension, _ randfill.Continue) {}).Fill(pod)
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			nodeOf(pod)
		}
	})
	b.Run("maps", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
			object.FromAny(m)
		}
	})
}
