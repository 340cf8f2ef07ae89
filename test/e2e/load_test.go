// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/agent"
)

// heavy skips a test that measures, takes minutes and wants the machine for
// itself, unless SCONCE_HEAVY is 1. BENCHMARKS.md has what they measured.
func heavy(t *testing.T) {
	t.Helper()
	if os.Getenv("SCONCE_HEAVY") != "1" {
		t.Skip("set SCONCE_HEAVY=1 to measure")
	}
}

// bar holds a measured duration against its bar, if SCONCE_TIMING is 1: on a
// machine that does other things it says nothing.
func bar(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if os.Getenv("SCONCE_TIMING") == "1" && got > want {
		t.Errorf("%s: %s; want at most %s", what, got, want)
	}
}

// number is a size that the environment may set.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(usual)))
	must(t, err)
	return n
}

// measured is a control plane whose load is measured.
type measured struct {
	*agentCluster
	client kubernetes.Interface // by protobuf
}

func startMeasured(t *testing.T) *measured {
	t.Helper()
	m := &measured{agentCluster: startAgentCluster(t)}
	config := rest.CopyConfig(m.Config())
	config.ContentType, config.WarningHandler = runtime.ContentTypeProtobuf, rest.NoWarnings{}
	var err error
	m.client, err = kubernetes.NewForConfig(config)
	must(t, err)
	return m
}

// metrics returns what the API server tells of itself.
func (m *measured) metrics(t *testing.T) string {
	t.Helper()
	text, err := m.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	must(t, err)
	return string(text)
}

// sample sums the samples of a metric that have all of some labels.
func sample(text, name string, labels ...string) (sum float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			continue
		}
		v, _ := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
		sum += v
	}
	return sum
}

// spending is what processes have spent, and what is held.
type spending struct {
	apiserver, agent, test time.Duration // processor time
	wall                   time.Time
}

func (m *measured) spent(t *testing.T, a *installed) spending {
	t.Helper()
	out := spending{wall: time.Now(), apiserver: cpuSeconds(m.metrics(t))}
	if a != nil {
		out.agent = a.cpu(t)
	}
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	out.test = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	return out
}

// since returns what was spent after before.
func (s spending) since(before spending) string {
	took := s.wall.Sub(before.wall)
	return fmt.Sprintf("%.1f s; CPU: API server %.1f s, agent %.2f s, client %.1f s",
		took.Seconds(), (s.apiserver - before.apiserver).Seconds(), (s.agent - before.agent).Seconds(), (s.test - before.test).Seconds())
}

func cpuSeconds(metrics string) time.Duration {
	return time.Duration(sample(metrics, "process_cpu_seconds_total") * float64(time.Second))
}

// cpu is the processor time of the agent's process.
func (a *installed) cpu(t *testing.T) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.process.PID()))
	must(t, err)
	_, after, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(after)
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is a line of what the system says of the agent's memory, in MiB.
func (a *installed) memory(t *testing.T, line string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.process.PID()))
	must(t, err)
	for l := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			must(t, err)
			return kib >> 10
		}
	}
	return 0
}

// told returns what the agent tells of itself.
func (a *installed) told(t *testing.T) string {
	t.Helper()
	text, err := get(t.Context(), "http://"+a.metrics+"/metrics")
	if ended := a.process.Ended(); ended != nil {
		t.Fatal(ended)
	}
	if err != nil {
		return ""
	}
	return text
}

// await asks the agent's metrics, every so often, until something is so.
func (a *installed) await(t *testing.T, every time.Duration, what string, so func(metrics string) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !so(a.told(t)); {
		if time.Now().After(deadline) {
			t.Fatalf("after ten minutes it is not so that %s; the agent's log:\n%s", what, a.log(t))
		}
		if every > 0 {
			time.Sleep(every)
		}
	}
}

// result tells a figure, on one line for BENCHMARKS.md.
func result(t *testing.T, figure, format string, args ...any) {
	t.Helper()
	t.Logf("RESULT %s: %s", figure, fmt.Sprintf(format, args...))
}

// TestLoadAdmission creates pods that are not kept, 500 a second, one in ten of
// which is denied, first without Sconce and then with every control enforced by
// the agent in a process of its own.
func TestLoadAdmission(t *testing.T) {
	heavy(t)
	m := startMeasured(t)
	namespace := m.Namespace(t)
	rate, seconds := number(t, "SCONCE_RATE", 500), number(t, "SCONCE_SECONDS", 20)
	good, bad := podLike(t, "good", namespace), podLike(t, "bad", namespace)
	drive := func(a *installed) (r driven) {
		m.arrive(t, rate, 4, good, bad) // connections and expressions are ready from here on
		r.before = m.moment(t, a)
		r.latencies = m.arrive(t, rate, seconds, good, bad)
		r.after = m.moment(t, a)
		return r
	}
	alone := drive(nil)
	result(t, "admission without Sconce", "%s; %s", alone.latencies, alone.after.since(alone.before.spending))

	m.Apply(t, everyControl)
	a := startInstalled(t, m.ControlPlane, m.client)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", a.log(t))
		}
	})
	poll(t, "a bad pod is denied", func() bool {
		_, err := m.client.CoreV1().Pods(namespace).Create(t.Context(), bad, forNothing)
		return outcomeOf(err) == refused
	})
	with := drive(a)
	result(t, "admission with Sconce", "%s; %s", with.latencies, with.after.since(with.before.spending))
	if all := len(with.took); with.failed < all/11 || with.failed > all/9 {
		t.Errorf("%d of %d requests were denied, want one in ten", with.failed, all)
	}
	p99 := webhookTook(t, "as the API server sees it", "apiserver_admission_webhook_admission_duration_seconds", with.before.apiserver, with.after.apiserver)
	webhookTook(t, "in the agent", "sconce_admission_duration_seconds", with.before.agent, with.after.agent)
	spent := with.after.spending.agent - with.before.spending.agent
	result(t, "agent", "%.0f us CPU a request, %d MiB at most", spent.Seconds()/float64(len(with.took))*1e6, a.memory(t, "VmHWM"))
	bar(t, "p99 of the webhook", p99, 5*time.Millisecond)
}

// moment is what the processes tell of themselves at a time.
type moment struct {
	spending
	apiserver, agent string // their metrics
}

func (m *measured) moment(t *testing.T, a *installed) moment {
	t.Helper()
	out := moment{spending: m.spent(t, a), apiserver: m.metrics(t)}
	if a != nil {
		out.agent = a.told(t)
	}
	return out
}

// driven is what came of a load.
type driven struct {
	*latencies
	before, after moment
}

// everyControl enforces the whole catalogue.
const everyControl = "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: cluster}\nspec:\n  title: Every control\n  extends: [hardened]\n  action: deny\n"

// podLike returns a pod of an application that meets every control, or that
// does not.
func podLike(t *testing.T, which, namespace string) *corev1.Pod {
	t.Helper()
	data, err := os.ReadFile("../../admission/testdata/pod-" + which + ".json")
	must(t, err)
	pod := &corev1.Pod{}
	must(t, yaml.Unmarshal(data, pod))
	pod.ObjectMeta = metav1.ObjectMeta{GenerateName: "web-", Namespace: namespace, Labels: pod.Labels, Annotations: pod.Annotations}
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "default", "default"
	return pod
}

// arrive creates pods that are not kept, every tenth a bad one, whether or not
// those before have been answered. A request's time runs from when it was due.
func (m *measured) arrive(t *testing.T, rate, seconds int, good, bad *corev1.Pod) *latencies {
	t.Helper()
	out := &latencies{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for i := range rate * seconds {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		pod := good
		if i%10 == 9 {
			pod = bad
		}
		wg.Go(func() {
			_, err := m.client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, forNothing)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			out.took = append(out.took, took)
			switch {
			case err == nil:
			case outcomeOf(err) == refused:
				out.failed++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return out
}

// webhookTook tells how long requests took by a histogram that had other counts
// before, and returns a bound of the 99th percentile: the end of its bucket.
func webhookTook(t *testing.T, where, histogram, before, after string) time.Duration {
	t.Helper()
	count := func(le string) float64 {
		label := `le="` + le + `"`
		return sample(after, histogram+"_bucket", label) - sample(before, histogram+"_bucket", label)
	}
	all := count("+Inf")
	var shares []string
	p99 := time.Minute
	for _, le := range []string{"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1"} {
		n := count(le)
		if n == 0 {
			continue
		}
		d, err := time.ParseDuration(le + "s")
		must(t, err)
		shares = append(shares, fmt.Sprintf("%.2f %% in %s", 100*n/all, d))
		if n >= .99*all {
			p99 = min(p99, d)
		}
	}
	mean := (sample(after, histogram+"_sum") - sample(before, histogram+"_sum")) / all
	result(t, "webhook "+where, "%.0f calls, mean %.2f ms, %s", all, mean*1000, strings.Join(shares, ", "))
	return p99
}

// TestLoadAudit audits a large cluster: from nothing, after single changes, and
// at rest. SCONCE_PODS says of how many pods.
func TestLoadAudit(t *testing.T) {
	heavy(t)
	m := startMeasured(t)
	apps := &applications{client: m.client, pods: number(t, "SCONCE_PODS", 50_000)}
	start, before := time.Now(), m.spent(t, nil)
	apps.create(t, m.ControlPlane)
	t.Logf("made %d pods of %d applications in %d namespaces: %s", apps.pods, apps.count(), apps.spaces(), m.spent(t, nil).since(before))
	text := m.metrics(t)
	result(t, "cluster", "%d pods, filled in %.0f s; the API server holds %.0f MiB", apps.pods, time.Since(start).Seconds(), sample(text, "process_resident_memory_bytes")/(1<<20))
	m.listAlone(t)
	m.restAlone(t)
	for _, baseline := range []string{"standard", "hardened"} {
		t.Run(baseline, func(t *testing.T) { m.audited(t, apps, baseline) })
	}
}

// listAlone reads what an audit reads, and does nothing with it: what the API
// server and a client spend on that.
func (m *measured) listAlone(t *testing.T) {
	t.Helper()
	before := m.spent(t, nil)
	n := 0
	for _, list := range lists(m.client) {
		p := pager.New(list)
		p.PageSize = 500
		must(t, p.EachListItem(t.Context(), metav1.ListOptions{}, func(runtime.Object) error { n++; return nil }))
	}
	result(t, "listing without Sconce", "%d objects in pages of 500 by protobuf in %s", n, m.spent(t, nil).since(before))
}

// lists are those of the kinds of which there are many.
func lists(client kubernetes.Interface) []pager.ListPageFunc {
	all := metav1.NamespaceAll
	return []pager.ListPageFunc{
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().Pods(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.AppsV1().ReplicaSets(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.AppsV1().Deployments(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().Services(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().ServiceAccounts(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().ConfigMaps(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.CoreV1().Namespaces().List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.NetworkingV1().NetworkPolicies(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.RbacV1().Roles(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.RbacV1().RoleBindings(all).List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.RbacV1().ClusterRoles().List(context.Background(), o)
		}),
		pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
			return client.RbacV1().ClusterRoleBindings().List(context.Background(), o)
		}),
	}
}

// atRest is how long is watched what is done where nothing changes.
const atRest = time.Minute

// restAlone tells what the API server spends when nobody asks.
func (m *measured) restAlone(t *testing.T) {
	t.Helper()
	before := m.spent(t, nil)
	time.Sleep(atRest)
	result(t, "at rest without Sconce", "%s", m.spent(t, nil).since(before))
}

// audited runs the agent by a baseline.
func (m *measured) audited(t *testing.T, apps *applications, baseline string) {
	m.Apply(t, strings.Replace(baselineOf(""), "[standard]", "["+baseline+"]", 1))
	_, from := m.asked(t, 0)
	before := m.spent(t, nil)
	a := startInstalled(t, m.ControlPlane, m.client)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", a.log(t))
		}
	})
	m.fromCold(t, a, apps, before, from)
	if baseline == "hardened" {
		m.changes(t, a)
	}
	m.rests(t, a)
	_, err := a.process.Stop()
	must(t, err)
	m.Kubectl(t, "delete", "reports.openreports.io", "--all", "--all-namespaces", "--wait=false")
	m.Kubectl(t, "delete", "clusterreports.openreports.io", "--all", "--wait=false")
}

// fromCold waits until all is judged, and until all is reported.
func (m *measured) fromCold(t *testing.T, a *installed, apps *applications, before spending, from int64) {
	t.Helper()
	began := before
	began.wall = a.started
	a.await(t, 100*time.Millisecond, "everything was seen", func(s string) bool { return sample(s, "sconce_audit_synced") == 1 })
	synced := m.spent(t, a)
	text := a.told(t)
	result(t, "audited from cold", "%s; agent %d MiB at most; %.0f objects, %.0f findings", synced.since(began), a.memory(t, "VmHWM"),
		sample(text, "sconce_audit_objects"), sample(text, "sconce_audit_findings", `outcome="fail"`))
	bar(t, "audit from cold", synced.wall.Sub(a.started), time.Minute)
	asked, at := m.asked(t, from)
	result(t, "asked for from cold", "%s", countVerbs(asked))
	a.await(t, time.Second, "all is reported", func(s string) bool {
		return sample(s, "sconce_report_writes_total", `result="ok"`) >= float64(apps.spaces()+1)
	})
	written := m.spent(t, a)
	asked, _ = m.asked(t, at)
	peak := a.memory(t, "VmHWM")
	result(t, "reported", "%s after that, %s; agent %d MiB at most, %d MiB now", written.since(synced), countVerbs(asked), peak, a.memory(t, "VmRSS"))
	if os.Getenv("SCONCE_TIMING") == "1" && peak >= 1024 {
		t.Errorf("the agent took %d MiB; want less than 1024", peak)
	}
}

// countVerbs says how often was asked for what.
func countVerbs(asked []string) string {
	counts := map[string]int{}
	for _, a := range asked {
		verb, _, _ := strings.Cut(a, " ")
		counts[verb]++
	}
	out := fmt.Sprintf("%d requests", len(asked))
	for _, verb := range []string{"list", "get", "create", "patch", "update", "delete"} {
		if counts[verb] > 0 {
			out += fmt.Sprintf(", %d %s", counts[verb], verb)
		}
	}
	return out
}

// change is something that is done to the cluster and undone.
type change struct {
	name     string
	do, undo string
	patch    func(ctx context.Context, patch []byte) error
}

// changes tells how long it takes until a change is judged: from the API
// server's answer to when the agent's metrics say so.
func (m *measured) changes(t *testing.T, a *installed) {
	before, rbac := a.told(t), m.client.RbacV1()
	for _, c := range []change{
		{
			name: "pod", do: `{"spec":{"containers":[{"name":"app","image":"registry.example.com/app-0:latest"}]}}`, undo: `{"spec":{"containers":[{"name":"app","image":"registry.example.com/app-0:1.4.2"}]}}`,
			patch: func(ctx context.Context, patch []byte) error {
				_, err := m.client.CoreV1().Pods(spaceOf(0)).Patch(ctx, podName(0, 1), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
				return err
			},
		},
		{
			name: "NetworkPolicy", do: `{"spec":{"podSelector":{"matchLabels":{"app":"nobody"}}}}`, undo: `{"spec":{"podSelector":{"matchLabels":{"app":"app-0"}}}}`,
			patch: func(ctx context.Context, patch []byte) error {
				_, err := m.client.NetworkingV1().NetworkPolicies(spaceOf(0)).Patch(ctx, appName(0), types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
		},
		{
			name: "RoleBinding", do: `{"subjects":[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:authenticated"}]}`,
			undo: `{"subjects":[{"kind":"ServiceAccount","name":"` + appName(0) + `","namespace":"` + spaceOf(0) + `"}]}`,
			patch: func(ctx context.Context, patch []byte) error {
				_, err := rbac.RoleBindings(spaceOf(0)).Patch(ctx, appName(0), types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
		},
		{
			name: "ClusterRole", do: `{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`, undo: `{"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["get"]}]}`,
			patch: func(ctx context.Context, patch []byte) error {
				_, err := rbac.ClusterRoles().Patch(ctx, clusterRoleName(0), types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
		},
		{
			name: "label of a Namespace", do: `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`, undo: `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`,
			patch: func(ctx context.Context, patch []byte) error {
				_, err := m.client.CoreV1().Namespaces().Patch(ctx, spaceOf(0), types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
		},
	} {
		m.changed(t, a, c)
	}
	const h = "sconce_audit_change_duration_seconds"
	after := a.told(t)
	more := func(name string, labels ...string) float64 {
		return sample(after, name, labels...) - sample(before, name, labels...)
	}
	all := more(h + "_count")
	result(t, "changes by the agent's own clock", "%.0f, mean %.0f ms, %.0f in 50 ms, %.0f in 100 ms, %.0f in 250 ms",
		all, 1000*more(h+"_sum")/all, more(h+"_bucket", `le="0.05"`), more(h+"_bucket", `le="0.1"`), more(h+"_bucket", `le="0.25"`))
}

// changed does and undoes a change ten times.
func (m *measured) changed(t *testing.T, a *installed, c change) {
	t.Helper()
	seen, scrape := &latencies{}, &latencies{}
	for i := range 20 {
		verdicts := verdictsOf(a.told(t))
		patch := c.do
		if i%2 == 1 {
			patch = c.undo
		}
		must(t, c.patch(t.Context(), []byte(patch)))
		start := time.Now()
		a.await(t, 0, "a change of a "+c.name+" is judged", func(s string) bool { return s != "" && verdictsOf(s) != verdicts })
		seen.took = append(seen.took, time.Since(start))
		time.Sleep(time.Until(start.Add(300 * time.Millisecond))) // what it led to has settled
		start = time.Now()
		a.told(t)
		scrape.took = append(scrape.took, time.Since(start))
	}
	result(t, "change of a "+c.name, "judged and scraped after %s at best, p50 %s, worst %s; a scrape alone takes %s", seen.at(0), seen.at(.5), seen.at(1), scrape.at(.5))
	bar(t, "change of a "+c.name, seen.at(.5), 100*time.Millisecond)
}

// verdictsOf returns the lines of the metrics that count verdicts.
func verdictsOf(metrics string) string {
	var out strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "sconce_audit_findings{") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// rests tells what the agent does where nothing changes.
func (m *measured) rests(t *testing.T, a *installed) {
	t.Helper()
	_, at := m.asked(t, 0)
	poll(t, "the agent is at rest", func() bool {
		time.Sleep(agent.DefaultReportInterval + 2*time.Second)
		asked, end := m.asked(t, at)
		at = end
		return len(asked) == 0
	})
	before := m.spent(t, a)
	time.Sleep(atRest)
	after := m.spent(t, a)
	asked, _ := m.asked(t, at)
	leases, watches := m.kept(t, at)
	result(t, "at rest", "%s; asked for %s beside %d of its lease and %d watches that began anew; agent %d MiB", after.since(before), countVerbs(asked), leases, watches, a.memory(t, "VmRSS"))
}

// kept counts what the agent asked for about its lease, and its watches, since
// an offset of the audit log.
func (m *measured) kept(t *testing.T, from int64) (leases, watches int) {
	t.Helper()
	data, err := os.ReadFile(m.AuditLog())
	must(t, err)
	for line := range strings.Lines(string(data[from:])) {
		var e struct {
			Verb      string
			ObjectRef struct{ Resource string }
		}
		must(t, json.Unmarshal([]byte(line), &e))
		switch {
		case e.Verb == "watch":
			watches++
		case e.ObjectRef.Resource == "leases":
			leases++
		}
	}
	return leases, watches
}
