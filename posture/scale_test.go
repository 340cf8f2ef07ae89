// SPDX-License-Identifier: Apache-2.0

package posture_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/test/shape"
)

// What is measured here is told in BENCHMARKS.md. One command prints all of it:
//
//	go test -run '^$' -bench Scale -timeout 30m ./posture

// scales are the sizes of clusters: at 1, one of 10,000 pods.
var scales = []float64{1, 2, 5, 10}

var complete = &facts.Env{Minor: 37, Patch: -1, Complete: true}

// cluster is what the models keep of a cluster.
type cluster struct {
	objects int
	byModel [3][]any
	refs    [3][]object.Ref
	sampled map[string]*object.Object // of each kind of change, one object
}

const (
	identity = iota
	connectivity
	attack
)

// changes are what an incremental change is of: one object each, in a namespace
// of a team.
var changes = map[string]object.Ref{
	"binding": {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding", Namespace: "team-7", Name: "app-0"},
	"policy":  {APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Namespace: "team-7", Name: "default"},
	"pod":     {APIVersion: "v1", Kind: "Pod", Namespace: "team-7", Name: "app-0-0"},
	"role":    {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "view"},
}

// kinds of changes, in their order.
var kinds = []string{"binding", "policy", "pod", "role"}

// clusterOf keeps what the models need of a cluster of a scale. Its objects are
// not held.
func clusterOf(b *testing.B, scale float64) *cluster {
	b.Helper()
	c := &cluster{sampled: map[string]*object.Object{}}
	keep := [3]func(*object.Object) any{rbac.Keep, network.Keep, attackpath.KeepFor(complete)}
	for o := range shape.Objects(scale) {
		c.objects++
		for i, keep := range keep {
			if k := keep(o); k != nil {
				c.byModel[i], c.refs[i] = append(c.byModel[i], k), append(c.refs[i], o.Ref)
			}
		}
		for kind, ref := range changes {
			if o.Ref == ref {
				c.sampled[kind] = o
			}
		}
	}
	if len(c.sampled) != len(changes) {
		b.Fatalf("the cluster has %d of the %d objects that change", len(c.sampled), len(changes))
	}
	return c
}

// spent is the processor time of the process, that of the garbage collector
// included: other processes of the machine make no difference to it.
func spent(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// each runs what is measured, and reports for each time the milliseconds that
// passed, and those of a processor.
func each(b *testing.B, do func()) (cpu float64) {
	b.Helper()
	runtime.GC()
	start, begun := spent(b), time.Now()
	for b.Loop() {
		do()
	}
	cpu = ms(spent(b)-start) / float64(b.N)
	b.ReportMetric(cpu, "cpu-ms/op")
	b.ReportMetric(ms(time.Since(begun))/float64(b.N), "ms/op")
	b.ReportMetric(0, "ns/op")
	return cpu
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// heap is how many MiB are in use, once what is not has been collected.
func heap() float64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc) / (1 << 20)
}

// forgetPeak begins to measure the peak of the resident memory anew, and peak
// tells it in MiB: 0 where the system does not say it.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

func peak() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// answers are the models, and all that is asked of them.
type answers struct {
	identity *rbac.Model
	network  *network.Model
	attack   *attackpath.Graph
	facts    int
	paths    []attackpath.Pair
}

func (a *answers) identities(c *cluster) {
	a.identity = rbac.NewModel(c.byModel[identity], complete)
	rbac.Effective.Derive(c.byModel[identity], complete, func(*object.Object) { a.facts++ })
}

func (a *answers) connections(c *cluster) {
	a.network = network.NewModel(c.byModel[connectivity], complete)
	a.network.Bicliques(func(_, _ []int, _ network.PortSet) {})
	a.network.Exposures()
}

// ways builds the graph, finds every pair of a beginning and what must not be
// lost, and the fewest changes that break all of them.
func (a *answers) ways(c *cluster) {
	a.attack = attackpath.New(c.byModel[attack], complete)
	a.paths = a.attack.Pairs()
	var from, to []int
	for _, e := range a.attack.Entries() {
		from = append(from, e.Vertices...)
	}
	for _, j := range a.attack.Jewels() {
		to = append(to, j.Vertex)
	}
	slices.Sort(from)
	a.attack.Cut(slices.Compact(from), to)
}

// BenchmarkScale builds each model of clusters of several sizes and asks it for
// all that it tells; x is the processor time against that at scale 1.
func BenchmarkScale(b *testing.B) {
	first := map[string]float64{}
	for _, scale := range scales {
		b.Run(fmt.Sprintf("%gx", scale), func(b *testing.B) { benchScale(b, scale, first) })
	}
}

func benchScale(b *testing.B, scale float64, first map[string]float64) {
	b.Helper()
	before := heap()
	c := clusterOf(b, scale)
	kept := heap() - before
	run := func(name string, do func(*answers), with func(*testing.B, *answers)) {
		b.Run(name, func(b *testing.B) {
			var a *answers
			cpu := each(b, func() {
				a = &answers{}
				do(a)
			})
			if first[name] == 0 {
				first[name] = cpu
			}
			b.ReportMetric(cpu/first[name], "x")
			if with != nil {
				with(b, a)
			}
		})
	}
	run("identity", func(a *answers) { a.identities(c) }, nil)
	run("network", func(a *answers) { a.connections(c) }, nil)
	run("attack", func(a *answers) { a.ways(c) }, nil)
	forgetPeak()
	run("all", func(a *answers) {
		a.identities(c)
		a.connections(c)
		a.ways(c)
	}, func(b *testing.B, a *answers) {
		b.ReportMetric(float64(c.objects), "objects")
		b.ReportMetric(kept, "MiB-kept")
		b.ReportMetric(heap()-before, "MiB-held")
		b.ReportMetric(peak(), "MiB-peak")
		runtime.KeepAlive(a)
	})
	runtime.KeepAlive(c)
}

// toggle takes an object away and puts it back, one at each call.
func toggle(set func(ref object.Ref, kept any), ref object.Ref, kept any) func() {
	there := true
	return func() {
		if there = !there; there {
			set(ref, kept)
		} else {
			set(ref, nil)
		}
	}
}

// BenchmarkScaleChange changes one object of a cluster and asks again, model by
// model: one that went and came.
func BenchmarkScaleChange(b *testing.B) {
	for _, scale := range []float64{1, 5} {
		b.Run(fmt.Sprintf("%gx", scale), func(b *testing.B) { benchChange(b, clusterOf(b, scale)) })
	}
}

func benchChange(b *testing.B, c *cluster) {
	b.Helper()
	run := func(name string, keep func(*object.Object) any, set func(object.Ref, any), ask func()) {
		ask()
		for _, kind := range kinds {
			kept := keep(c.sampled[kind])
			if kept == nil {
				continue // nothing to this model
			}
			b.Run(name+"/"+kind, func(b *testing.B) {
				change := toggle(set, changes[kind], kept)
				n := 0
				each(b, func() {
					n++
					change()
					ask()
				})
				if n%2 == 1 {
					change()
				}
			})
		}
	}
	live := func(name string, model int, whole facts.Whole, keep func(*object.Object) any) {
		live := whole.Live()
		for i, k := range c.byModel[model] {
			live.Set(c.refs[model][i], k)
		}
		run(name, keep, live.Set, func() { live.Settle(complete, func(object.Ref, []*object.Object) {}) })
	}
	m := network.NewModel(c.byModel[connectivity], complete)
	g := attackpath.New(c.byModel[attack], complete)
	live("identity", identity, rbac.Effective, rbac.Keep)
	run("network", network.Keep, m.Set, func() { m.Bicliques(func(_, _ []int, _ network.PortSet) {}) })
	run("pairs", attackpath.KeepFor(complete), g.Set, func() { g.Pairs() })
	live("attack", attack, attackpath.Whole, attackpath.KeepFor(complete))
}

// engineOf returns an engine for the built-in controls over kinds of facts, and
// one more for each kind, so that all of them are derived.
func engineOf(b *testing.B, of ...string) *engine.Engine {
	b.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		b.Fatal(err)
	}
	for _, kind := range of {
		text := fmt.Sprintf(`apiVersion: sconce.dev/v1alpha1
kind: Control
metadata: {name: any-%s}
spec:
  title: Facts are there
  description: They are derived.
  remediation: None.
  severity: low
  layer: cluster
  phase: build
  topic: rbac
  match: {kinds: [{group: facts.sconce.dev, kind: %s}]}
  require: has(object.facts)
  message: there are none
  at: [metadata.name]
`, strings.ToLower(kind), kind)
		if err := l.Read(kind+".yaml", []byte(text)); err != nil {
			b.Fatal(err)
		}
	}
	base, err := l.Resolve("hardened", baseline.Options{Complete: true})
	if err != nil {
		b.Fatal(err)
	}
	base.Rules = slices.DeleteFunc(base.Rules, func(r *baseline.Rule) bool {
		return !slices.ContainsFunc(of, func(kind string) bool { return r.Matches(object.GroupKind{Group: facts.Group, Kind: kind}) })
	})
	return engine.New(base, l.Exceptions(time.Time{}), time.Time{})
}

// version gives an object another resourceVersion, so that it counts as changed.
func version(o *object.Object, n int) *object.Object {
	root := o.Root.Any().(map[string]any)
	meta := root["metadata"].(map[string]any)
	meta["resourceVersion"] = strconv.Itoa(n)
	return object.New(object.FromAny(root), o.Origin)
}

// audits are which facts an audit may be asked for.
var audits = []struct {
	name  string
	kinds []string
}{
	{"identity", []string{"Identity", "PodPermissions", "Grant", "RoleUse"}},
	{"network", []string{"Reach", "PolicyEffect", "ClusterPolicyEffect"}},
	{"attack", []string{"AttackPath"}},
	{"all", []string{"Identity", "PodPermissions", "Grant", "RoleUse", "Reach", "PolicyEffect", "ClusterPolicyEffect", "AttackPath"}},
}

// BenchmarkScaleAudit fills an audit with a cluster of 10,000 pods, and of
// 50,000, says what the facts cost, and changes one object.
func BenchmarkScaleAudit(b *testing.B) {
	for _, scale := range []float64{1, 5} {
		for _, a := range audits {
			b.Run(fmt.Sprintf("%gx/%s", scale, a.name), func(b *testing.B) { benchAudit(b, scale, engineOf(b, a.kinds...)) })
		}
	}
}

func benchAudit(b *testing.B, scale float64, e *engine.Engine) {
	b.Helper()
	before := heap()
	s := audit.New(e, audit.Options{})
	sampled := map[string]*object.Object{}
	var set time.Duration
	for o := range shape.Objects(scale) {
		start := time.Now()
		s.Set(o)
		set += time.Since(start)
		for kind, ref := range changes {
			if o.Ref == ref {
				sampled[kind] = o
			}
		}
	}
	forgetPeak()
	start, begun := spent(b), time.Now()
	s.Settle(b.Context())
	wall, cpu := time.Since(begun), spent(b)-start
	most, held := peak(), heap()-before
	b.Run("cold", func(b *testing.B) {
		b.ReportMetric(ms(wall), "ms/op")
		b.ReportMetric(ms(cpu), "cpu-ms/op")
		b.ReportMetric(ms(set), "set-ms")
		b.ReportMetric(most, "MiB-peak")
		b.ReportMetric(held, "MiB-held")
		b.ReportMetric(0, "ns/op")
	})
	n := 1
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			var worst time.Duration
			there := true
			each(b, func() {
				n++
				o := version(sampled[kind], n)
				start := time.Now()
				if there = !there; there {
					s.Set(o)
				} else {
					s.Delete(o.Ref)
				}
				s.Settle(b.Context())
				worst = max(worst, time.Since(start))
			})
			b.ReportMetric(ms(worst), "worst-ms")
			if !there {
				n++
				s.Set(version(sampled[kind], n))
				s.Settle(b.Context())
			}
		})
	}
	runtime.KeepAlive(s)
}
