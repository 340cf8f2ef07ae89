// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"fmt"
	"runtime"
	"testing"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/test/shape"
)

// sizes are those at which it is measured: a multiple of 10,000 pods, 2,000
// namespaces and 3,000 policies.
var sizes = []int{1, 3, 10}

func kept(size int) []any {
	var out []any
	for o := range shape.Objects(float64(size)) {
		if k := network.Keep(o); k != nil {
			out = append(out, k)
		}
	}
	return out
}

// heap returns what is live, in bytes.
func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkConnectivity makes a model and works out all that is allowed.
func BenchmarkConnectivity(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dx", size), func(b *testing.B) {
			kept := kept(size)
			var m *network.Model
			without := heap()
			for b.Loop() {
				m = network.NewModel(kept, complete)
				count, pairs := 0, 0
				m.Bicliques(func(from, to []int, _ network.PortSet) {
					count++
					pairs += len(from) * len(to)
				})
				b.ReportMetric(float64(count), "bicliques")
				b.ReportMetric(float64(pairs), "pairs")
				b.ReportMetric(float64(len(m.Classes())), "classes")
			}
			with := heap()
			runtime.KeepAlive(m)
			runtime.KeepAlive(kept)
			b.ReportMetric(float64(with-min(with, without))/(1<<20), "MiB")
		})
	}
}

// BenchmarkExposures looks for all ways in.
func BenchmarkExposures(b *testing.B) {
	m := network.NewModel(kept(1), complete)
	for b.Loop() {
		b.ReportMetric(float64(len(m.Exposures())), "exposures")
	}
}

// BenchmarkNewModel makes a model.
func BenchmarkNewModel(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dx", size), func(b *testing.B) {
			kept := kept(size)
			for b.Loop() {
				network.NewModel(kept, complete)
			}
		})
	}
}

// BenchmarkChange changes a policy, a pod and the labels of a namespace, each
// followed by a question.
func BenchmarkChange(b *testing.B) {
	m := network.NewModel(kept(1), complete)
	peer := network.Peer{Class: m.Classes()[100]}
	where := peer.Class.Namespace
	changes := map[string][2]js{
		"policy": {
			{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": js{"name": "web", "namespace": where}, "spec": js{"podSelector": js{}}},
			{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": js{"name": "web", "namespace": where}, "spec": js{"podSelector": js{},
				"ingress": []any{js{"from": []any{js{"ipBlock": js{"cidr": "10.1.0.0/16"}}}}}}},
		},
		"pod": {
			{"apiVersion": "v1", "kind": "Pod", "metadata": js{"name": "new", "namespace": where, "labels": js{"app": "x"}}, "spec": js{}},
			{"apiVersion": "v1", "kind": "Pod", "metadata": js{"name": "new", "namespace": where, "labels": js{"app": "y"}}, "spec": js{}},
		},
		"namespace": {
			{"apiVersion": "v1", "kind": "Namespace", "metadata": js{"name": where, "labels": js{"team": "1"}}},
			{"apiVersion": "v1", "kind": "Namespace", "metadata": js{"name": where, "labels": js{"team": "2"}}},
		},
	}
	for _, name := range []string{"policy", "pod", "namespace"} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				o := newObject(changes[name][i%2])
				i++
				m.Set(o.Ref, network.Keep(o))
				m.Connects(peer, peer, network.Port{Protocol: "TCP", Number: 80})
			}
		})
	}
}
