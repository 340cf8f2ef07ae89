// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/agent"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/test/process"
	"sconce.dev/sconce/verdict"
)

// faultBaseline fails closed for pods and open for Services.
const faultBaseline = "  controls:\n  - {name: privileged-container, action: deny, failurePolicy: Fail}\n  - {name: external-ips, action: deny, failurePolicy: Ignore}\n"

// proxy stands between the API server and the webhook.
type proxy struct {
	address, to string
	delay       atomic.Int64 // before every chunk, as a time.Duration
	mu          sync.Mutex
	refuses     bool
	hangs       chan struct{} // closed when it does so no more; nil if it does not
	open        map[net.Conn]bool
	ended       chan struct{}
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{address: l.Addr().String(), to: to, open: map[net.Conn]bool{}, ended: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(from) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(p.ended)
		p.cut()
		serving.Wait()
	})
	return p
}

// serve forwards one connection both ways.
func (p *proxy) serve(from net.Conn) {
	defer func() { _ = from.Close() }()
	p.mu.Lock()
	refuses := p.refuses
	p.mu.Unlock()
	if refuses {
		return
	}
	to, err := net.Dial("tcp", p.to) //nolint:noctx // on loopback
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	p.mu.Lock()
	p.open[from], p.open[to] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.forward(to, from) })
	both.Go(func() { p.forward(from, to) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, from)
	delete(p.open, to)
	p.mu.Unlock()
}

// forward copies until one side ends, and then ends the other.
func (p *proxy) forward(to, from net.Conn) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		hangs := p.hangs
		p.mu.Unlock()
		select {
		case <-time.After(time.Duration(p.delay.Load())):
		case <-p.ended:
			return
		}
		if hangs != nil {
			select {
			case <-hangs:
			case <-p.ended:
				return
			}
		}
		if _, w := to.Write(buffer[:n]); err != nil || w != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// hang has it forward nothing until the function is called that it returns.
func (p *proxy) hang() (resume func()) {
	hangs := make(chan struct{})
	p.mu.Lock()
	p.hangs = hangs
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.hangs = nil
		p.mu.Unlock()
		close(hangs)
	}
}

// refuse has it take no connections until the function is called that it
// returns.
func (p *proxy) refuse() (resume func()) {
	set := func(refuses bool) {
		p.mu.Lock()
		p.refuses = refuses
		p.mu.Unlock()
	}
	set(true)
	p.cut()
	return func() { set(false) }
}

// outcomes are what came of requests.
type outcomes struct {
	mu     sync.Mutex
	counts map[string]int
	last   map[string]string
	worst  time.Duration
}

func (o *outcomes) add(of string, err error, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts, o.last = map[string]int{}, map[string]string{}
	}
	o.counts[of]++
	o.worst = max(o.worst, took)
	if err != nil {
		o.last[of] = err.Error()
	}
}

func (o *outcomes) of(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[what]
}

func (o *outcomes) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%v, the slowest in %s", o.counts, o.worst.Round(time.Millisecond))
}

// What comes of a request.
const (
	admitted     = "admitted"
	refused      = "denied"
	failedClosed = "failed closed"
	unanswered   = "not answered"
)

func outcomeOf(err error) string {
	switch {
	case err == nil || apierrors.IsAlreadyExists(err):
		return admitted
	case strings.Contains(err.Error(), "denied the request"):
		return refused
	case strings.Contains(err.Error(), "failed calling webhook"):
		return failedClosed
	}
	return unanswered
}

// asking asks for what is bad, and for what is good, until it is ended.
type asking struct {
	bad, good, bootstrap, open outcomes
	stop                       context.CancelFunc
	workers                    sync.WaitGroup
}

var (
	yes, none       = true, int32(0)
	privilegedSpec  = corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/web:1.2", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}}
	unprivileged    = corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/web:1.2"}}}
	forNothing      = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	serial          atomic.Int64
	duringFault     = 30 // bad requests that are waited for while a fault lasts
	smallDifference = vitals{goroutines: 40, heap: 32 << 20}
)

// ask begins to ask.
func (f *faulty) ask(t *testing.T) *asking {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &asking{stop: stop}
	config := f.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	pods := client.CoreV1().Pods(f.namespace)
	repeat := func(every time.Duration, o *outcomes, ask func(ctx context.Context) error) {
		l.workers.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				limited, cancel := context.WithTimeout(ctx, 15*time.Second)
				err := ask(limited)
				cancel()
				if ctx.Err() == nil {
					o.add(outcomeOf(err), err, time.Since(start))
				}
				select {
				case <-time.After(every):
				case <-ctx.Done():
				}
			}
		})
	}
	for range 3 {
		repeat(20*time.Millisecond, &l.bad, func(ctx context.Context) error {
			_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: named("bad"), Spec: privilegedSpec}, metav1.CreateOptions{})
			return err
		})
	}
	repeat(50*time.Millisecond, &l.good, func(ctx context.Context) error {
		_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: named("good"), Spec: unprivileged}, forNothing)
		return err
	})
	for _, namespace := range []string{"kube-system", installNamespace} {
		repeat(100*time.Millisecond, &l.bootstrap, func(ctx context.Context) error {
			_, err := client.AppsV1().Deployments(namespace).Create(ctx, deploymentOf(privilegedSpec), forNothing)
			return err
		})
	}
	repeat(100*time.Millisecond, &l.open, func(ctx context.Context) error {
		_, err := client.CoreV1().Services(f.namespace).Create(ctx, &corev1.Service{ObjectMeta: named("web"), Spec: corev1.ServiceSpec{
			ExternalIPs: []string{"192.0.2.1"}, Ports: []corev1.ServicePort{{Port: 80}},
		}}, forNothing)
		return err
	})
	return l
}

func named(prefix string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: prefix + "-" + strconv.FormatInt(serial.Add(1), 10)}
}

func deploymentOf(spec corev1.PodSpec) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{ObjectMeta: named("web"), Spec: appsv1.DeploymentSpec{
		Replicas: &none, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
	}}
}

// end stops asking.
func (l *asking) end() {
	l.stop()
	l.workers.Wait()
}

// some waits until so many more bad requests have met an outcome.
func (l *asking) some(t *testing.T, what string, n int) {
	t.Helper()
	before := l.bad.of(what)
	poll(t, fmt.Sprintf("%d bad requests are %s", n, what), func() bool { return l.bad.of(what)-before >= n })
}

// lasts waits so long, and until more bad requests have been made.
func (l *asking) lasts(t *testing.T, long time.Duration) {
	t.Helper()
	start := time.Now()
	poll(t, fmt.Sprintf("%s have passed", long), func() bool { return time.Since(start) > long })
	l.some(t, refused, 1)
}

// check ends the load and fails the test if anything bad was let in, or what a
// cluster needs to come up was kept out.
func (l *asking) check(t *testing.T) {
	t.Helper()
	l.end()
	t.Logf("bad: %v; good: %v; bootstrap: %v; what may fail open: %v", &l.bad, &l.good, &l.bootstrap, &l.open)
	if n := l.bad.of(admitted); n > 0 {
		t.Errorf("%d bad pods were let in", n)
	}
	if l.bad.of(refused)+l.bad.of(failedClosed) == 0 {
		t.Errorf("no bad pod was kept out by the webhook: %v", l.bad.last)
	}
	for _, of := range []string{refused, failedClosed} {
		if n := l.bootstrap.of(of); n > 0 {
			t.Errorf("%d requests that the cluster needs to come up were kept out: %s", n, l.bootstrap.last[of])
		}
	}
	if l.bootstrap.of(admitted) == 0 {
		t.Errorf("nothing could be made in kube-system: %v", l.bootstrap.last)
	}
	if n := l.good.of(refused); n > 0 {
		t.Errorf("%d good pods were denied: %s", n, l.good.last[refused])
	}
	if n := l.open.of(failedClosed); n > 0 {
		t.Errorf("%d Services were kept out where the webhook fails open: %s", n, l.open.last[failedClosed])
	}
}

// faulty is a cluster in which faults are caused.
type faulty struct {
	*agentCluster
	namespace string
	proxy     *proxy
	backend   string // where the proxy leads
	program   string // sconce, where it is run
}

func startFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{agentCluster: startAgentCluster(t), backend: freeAddress(t)}
	f.namespace = f.Namespace(t)
	f.proxy = startProxy(t, f.backend)
	f.Apply(t, furtherRights)
	f.Apply(t, baselineOf(faultBaseline))
	return f
}

// run starts an agent behind the proxy.
func (f *faulty) run(t *testing.T, name string, change func(*agent.Options)) *replica {
	t.Helper()
	return runAgent(t, f.config, f.backend, name, func(o *agent.Options) {
		o.WebhookURL = "https://" + f.proxy.address
		if change != nil {
			change(o)
		}
	})
}

// denies waits until the webhook denies.
func (f *faulty) denies(t *testing.T) {
	t.Helper()
	pods := f.Client(t).CoreV1().Pods(f.namespace)
	poll(t, "a bad pod is denied", func() bool {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: named("probe"), Spec: privilegedSpec}, forNothing)
		return outcomeOf(err) == refused
	})
}

// vitals are how an agent in the process is doing.
type vitals struct {
	goroutines int
	heap       uint64
}

func measure() vitals {
	var m runtime.MemStats
	for range 2 { // what a finalizer holds goes at the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return vitals{runtime.NumGoroutine(), m.HeapAlloc}
}

func (v vitals) String() string {
	return fmt.Sprintf("%d goroutines, %.1f MiB", v.goroutines, float64(v.heap)/(1<<20))
}

// normal waits until goroutines and memory are as they were.
func normal(t *testing.T, before vitals) {
	t.Helper()
	var now vitals
	eventually(t, func() error {
		if now = measure(); now.goroutines > before.goroutines+smallDifference.goroutines || now.heap > before.heap+smallDifference.heap {
			return fmt.Errorf("there were %v, and now there are %v", before, now)
		}
		return nil
	})
	t.Logf("before: %v; after: %v", before, now)
}

// noneLeft holds that nothing of an agent that has ended goes on.
func noneLeft(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		var stacks bytes.Buffer
		must(t, pprof.Lookup("goroutine").WriteTo(&stacks, 1))
		for _, stack := range strings.Split(stacks.String(), "\n\n") {
			for _, of := range []string{"sconce/agent.", "sconce/source/cluster.", "sconce/audit.", "controller-runtime/pkg/"} {
				if strings.Contains(stack, of) {
					return fmt.Errorf("a goroutine is left:\n%s", stack)
				}
			}
		}
		return nil
	})
}

var metricLine = regexp.MustCompile(`control="([^"]*)",outcome="fail".*} (\S+)$`)

// fails returns how many objects fail each control, as the agent tells.
func (r *replica) fails() map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(r.metric("sconce_audit_findings")) {
		if m := metricLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if n, err := strconv.ParseFloat(m[2], 64); err == nil && n > 0 {
				out[m[1]] = int(n)
			}
		}
	}
	return out
}

// value returns what a metric without labels says.
func (r *replica) value(metric string) string {
	_, v, _ := strings.Cut(r.metric(metric+" "), " ")
	return v
}

// whole holds that the agent is whole again: it is ready, leads alone, has
// audited all that there is, and has reported it as a fresh scan finds it.
func (f *faulty) whole(t *testing.T, r *replica) {
	t.Helper()
	poll(t, "it is ready", func() bool { return r.get("http://"+r.health+"/readyz") != "" })
	poll(t, "it leads", func() bool { return r.value("sconce_leader") == "1" })
	lease, err := f.Client(t).CoordinationV1().Leases(installNamespace).Get(t.Context(), agent.LeaseName, metav1.GetOptions{})
	must(t, err)
	if holder := lease.Spec.HolderIdentity; holder == nil || *holder != r.name {
		t.Errorf("%v holds the lease, want %s", holder, r.name)
	}
	poll(t, "it has audited everything", func() bool { return r.value("sconce_audit_synced") == "1" })
	eventually(t, func() error { return f.sameAsScan(t, r) })
}

// sameAsScan returns an error unless the metrics and the report say what a fresh
// scan does.
func (f *faulty) sameAsScan(t *testing.T, r *replica) error {
	t.Helper()
	want, failures := f.scan(t)
	got := r.fails()
	for control := range want {
		if got[control] != want[control] {
			return fmt.Errorf("the agent counts %d objects that fail %s, a fresh scan %d", got[control], control, want[control])
		}
	}
	for control := range got {
		if want[control] == 0 {
			return fmt.Errorf("the agent counts %d objects that fail %s, a fresh scan none", got[control], control)
		}
	}
	report, err := f.report(t, f.namespace)
	if err != nil {
		return err
	}
	if n := failuresIn(report); n != failures {
		return fmt.Errorf("the report counts %d failures in the namespace, a fresh scan %d", n, failures)
	}
	return nil
}

// scan scans the cluster in another process, so that this one's memory is that
// of the agent. It returns how many objects fail each control, and how many
// failures there are in the namespace.
func (f *faulty) scan(t *testing.T) (byControl map[string]int, inNamespace int) {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), f.program, "scan", "cluster", "--kubeconfig", f.KubeconfigOf(t, f.config), "-b", "standard", "-o", "json")
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	byControl, failing := map[string]int{}, map[string]bool{}
	for lines := json.NewDecoder(out); ; {
		var m verdict.Message
		if err := lines.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading what a scan found: %v: %s", err, &errs)
		}
		if v := m.Finding; v != nil && v.Outcome == verdict.Fail && v.Excepted == nil && v.Object.Namespace == f.namespace {
			failing[v.Control+" "+v.Object.String()] = true
		}
		if m.Summary != nil {
			for control, counts := range m.Summary.ByControl {
				if counts.Fail > 0 {
					byControl[control] = counts.Fail
				}
			}
		}
	}
	_ = cmd.Wait() // what is found decides how it ends
	if len(byControl) == 0 {
		t.Fatalf("a scan found nothing: %s", &errs)
	}
	return byControl, len(failing)
}

func failuresIn(report *unstructured.Unstructured) int {
	n, _, _ := unstructured.NestedInt64(report.Object, "summary", "fail")
	return int(n)
}

// failures returns how many failures the report on the namespace counts.
func (f *faulty) failures(t *testing.T) int {
	t.Helper()
	report, err := f.report(t, f.namespace)
	must(t, err)
	return failuresIn(report)
}

// asks counts what the agent asked for since an offset of the audit log, by verb
// and resource, but for watches.
func (f *faulty) asks(t *testing.T, from int64) (map[string]int, int64) {
	t.Helper()
	data, err := os.ReadFile(f.AuditLog())
	must(t, err)
	out := map[string]int{}
	for line := range bytes.Lines(data[from:]) {
		var e struct {
			Verb      string
			ObjectRef struct{ Resource, Subresource string }
		}
		if json.Unmarshal(line, &e) == nil && e.Verb != "watch" {
			out[strings.TrimSuffix(e.Verb+" "+e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/")]++
		}
	}
	return out, int64(len(data))
}

// TestFaults holds that nothing bad is let in while there is a fault, that a
// cluster can come up meanwhile, and that the agent is whole again afterwards.
func TestFaults(t *testing.T) {
	f := startFaulty(t)
	f.program = program(t)
	t.Run("the agent is killed, and hangs", f.agentKilled)
	r := f.run(t, "agent", func(o *agent.Options) { o.Lease = faultLease })
	f.enforced(t)
	f.denies(t)
	f.whole(t, r)
	for _, fault := range []struct {
		name  string
		cause func(*testing.T, *replica)
	}{
		{"the webhook is slow, unreachable, and hangs", f.webhookUnreachable},
		{"a document does not parse", f.documentBroken},
		{"the API server is killed while objects are made", f.apiServerKilled},
		{"etcd refuses writes", f.writesRefused},
		{"a CRD is deleted while it is watched", f.kindDeleted},
		{"the CRD of exceptions is deleted", f.exceptionsDeleted},
	} {
		t.Run(fault.name, func(t *testing.T) {
			before := measure()
			start := time.Now()
			fault.cause(t, r)
			f.whole(t, r)
			normal(t, before)
			t.Logf("it took %s", time.Since(start).Round(time.Second))
		})
	}
	t.Run("nothing is asked after all that", func(t *testing.T) { f.nothingAsked(t) })
	pods, err := f.Client(t).CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{})
	must(t, err)
	for i := range pods.Items {
		if strings.HasPrefix(pods.Items[i].Name, "bad-") {
			t.Errorf("the bad pod %s is in the cluster", pods.Items[i].Name)
		}
	}
	r.end(t)
	noneLeft(t)
}

// agentKilled kills the only agent, lets it hang, and starts it again.
func (f *faulty) agentKilled(t *testing.T) {
	health, metrics := freeAddress(t), freeAddress(t)
	p := &process.Process{Path: f.program, Log: filepath.Join(t.TempDir(), "agent.log"), Args: []string{
		"agent", "--kubeconfig", f.KubeconfigOf(t, f.config), "--namespace", installNamespace, "--report-interval=500ms", "--log-format=text",
		"--webhook-address", f.backend, "--webhook-url", "https://" + f.proxy.address, "--metrics-address", metrics, "--health-address", health,
	}}
	start := func() {
		must(t, p.Start())
		f.denies(t)
	}
	t.Cleanup(func() {
		_, _ = p.Stop()
		if t.Failed() {
			t.Logf("the last that the agent logged:\n%s", p.Tail())
		}
	})
	start()
	f.enforced(t)
	l := f.ask(t)
	l.some(t, refused, 10)
	p.Kill()
	l.some(t, failedClosed, duringFault)
	l.openPasses(t)
	meanwhile := deploymentOf(unprivileged)
	_, err := f.Client(t).AppsV1().Deployments("default").Create(t.Context(), meanwhile, metav1.CreateOptions{})
	if outcomeOf(err) != failedClosed {
		t.Errorf("got %v where the webhook fails closed", err)
	}
	meanwhile.Namespace = "kube-system"
	_, err = f.Client(t).AppsV1().Deployments("kube-system").Create(t.Context(), meanwhile, metav1.CreateOptions{})
	must(t, err)
	start()
	l.some(t, refused, 10)
	must(t, p.Pause())
	poll(t, "the webhook times out", func() bool { return l.bad.of(failedClosed) > 0 && l.bad.worstAtLeast(4*time.Second) })
	must(t, p.Resume())
	f.denies(t)
	l.check(t)
	if n := l.open.of(admitted); n == 0 {
		t.Error("no Service was let in while no agent answered")
	}
	a := &replica{name: "agent", health: health, metrics: metrics}
	poll(t, "it has audited everything", func() bool { return a.value("sconce_audit_synced") == "1" })
	eventually(t, func() error { return f.reported(t, "kube-system", "host-network", meanwhile.Name) })
	_, err = p.Stop()
	must(t, err)
}

// openPasses waits until something is let in where the webhook fails open.
func (l *asking) openPasses(t *testing.T) {
	t.Helper()
	before := l.open.of(admitted)
	poll(t, "what may fail open passes", func() bool { return l.open.of(admitted) > before })
}

func (o *outcomes) worstAtLeast(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.worst >= d
}

// webhookUnreachable slows the way to the webhook, cuts it, and lets it hang.
func (f *faulty) webhookUnreachable(t *testing.T, _ *replica) {
	l := f.ask(t)
	l.some(t, refused, 5)
	f.proxy.delay.Store(int64(300 * time.Millisecond))
	l.some(t, refused, 5)
	f.proxy.delay.Store(0)
	resume := f.proxy.refuse()
	l.some(t, failedClosed, duringFault)
	l.openPasses(t)
	resume()
	f.denies(t)
	resume = f.proxy.hang()
	l.some(t, failedClosed, 3)
	l.openPasses(t)
	resume()
	f.denies(t)
	l.check(t)
}

// documentBroken applies documents that are not valid, under load.
func (f *faulty) documentBroken(t *testing.T, r *replica) {
	l := f.ask(t)
	_, from := f.asks(t, 0)
	f.Apply(t, strings.Replace(widgetControl, `object.spec.size == "small"`, `object.spec.size ==`, 1))
	f.Apply(t, baselineOf("  controls:\n  - {name: privileged-container, action: audit}\n  - {name: small-widget}\n"))
	poll(t, "what is wrong is told", func() bool {
		control, said := f.condition(t, "controls", "small-widget", v1alpha1.Accepted)
		force, _ := f.condition(t, "baselines", "cluster", v1alpha1.InForce)
		return control == metav1.ConditionFalse && strings.Contains(said, "require") && force == metav1.ConditionFalse
	})
	f.denies(t)
	asked, from := f.asks(t, from)
	t.Logf("to say what is wrong took %v", asked)
	l.some(t, refused, duringFault)
	asked, _ = f.asks(t, from)
	if n := sum(asked) - asked["update leases"]; n > 30 {
		t.Errorf("the agent asked %v while nothing but what is wrong was there", asked)
	}
	if got := r.value("sconce_baseline_accepted"); got != "0" {
		t.Errorf("sconce_baseline_accepted is %s", got)
	}
	f.Kubectl(t, "delete", "controls.sconce.dev", "small-widget")
	f.Apply(t, baselineOf(faultBaseline))
	f.enforced(t)
	l.check(t)
	if n := l.open.of(admitted); n > 0 {
		t.Errorf("%d Services were let in", n)
	}
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// apiServerKilled kills the API server, and stops it, while some 200 objects are
// made a second.
func (f *faulty) apiServerKilled(t *testing.T, r *replica) {
	l := f.ask(t)
	made := f.make(t, 1200, 200)
	for _, end := range []func(testing.TB){f.KillAPIServer, f.StopAPIServer} {
		made.reach(t, 200)
		end(t)
		poll(t, "its absence is felt", func() bool { return l.bad.of(unanswered) > 0 })
		f.StartAPIServer(t)
	}
	made.wait(t)
	f.denies(t)
	l.check(t)
	poll(t, "it has audited everything", func() bool { return r.value("sconce_audit_synced") == "1" })
	poll(t, "none of what was made is lost", func() bool { return r.fails()["host-network"] >= 1200 })
}

// maker makes objects, and each of them sooner or later.
type maker struct {
	began time.Time
	n     atomic.Int64
	last  int64
	done  chan error
}

// make begins to make pods that fail host-network, so many a second.
func (f *faulty) make(t *testing.T, n, rate int) *maker {
	t.Helper()
	m := &maker{began: time.Now(), done: make(chan error, 1)}
	pods := f.Client(t).CoreV1().Pods(f.namespace)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	names := make(chan metav1.ObjectMeta)
	go func() {
		defer close(names)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for range n {
			select {
			case <-tick.C:
				names <- named("made")
			case <-ctx.Done():
				return
			}
		}
	}()
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for name := range names {
				for ctx.Err() == nil {
					_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: name, Spec: unprivileged}, metav1.CreateOptions{})
					if outcomeOf(err) == admitted {
						m.n.Add(1)
						break
					}
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	go func() {
		defer cancel()
		workers.Wait()
		m.done <- ctx.Err()
	}()
	return m
}

// reach waits until so many more are made.
func (m *maker) reach(t *testing.T, n int64) {
	t.Helper()
	m.last += n
	poll(t, "objects are made", func() bool { return m.n.Load() >= m.last })
}

func (m *maker) wait(t *testing.T) {
	t.Helper()
	if err := <-m.done; err != nil {
		t.Fatalf("%d objects were made: %v", m.n.Load(), err)
	}
	t.Logf("made %d objects in %s", m.n.Load(), time.Since(m.began).Round(time.Millisecond))
}

// faultLease is long enough to see what a leader does that cannot write.
var faultLease = agent.Lease{Duration: 15 * time.Second, Renew: 10 * time.Second, Retry: time.Second}

// writesRefused has etcd refuse writes: leases, reports and events are not
// written. What was made before may be deleted.
func (f *faulty) writesRefused(t *testing.T, r *replica) {
	second := runAgent(t, f.config, freeAddress(t), "second", func(o *agent.Options) {
		o.WebhookURL, o.Lease = "https://"+f.proxy.address, faultLease
	})
	alone := leadAlone(t, r, second)
	l := f.ask(t)
	l.some(t, refused, 5)
	const many = 20
	before, reported := r.fails()["host-network"], f.failures(t)
	remove := f.stays(t, many)
	poll(t, "what is made is reported", func() bool { return r.fails()["host-network"] == before+many && f.failures(t) > reported })
	_, from := f.asks(t, 0)
	f.RefuseWrites(t)
	t.Cleanup(func() { f.AcceptWrites(t) })
	start := time.Now()
	remove()
	poll(t, "the audit goes on", func() bool { return r.fails()["host-network"] == before })
	l.lasts(t, 5*time.Second)
	if r.value("sconce_leader") != "1" {
		t.Error("the lease was lost before it was looked at what the leader does")
	}
	asked, from := f.asks(t, from)
	t.Logf("in %s of a leader that cannot write: %v", time.Since(start).Round(time.Millisecond), asked)
	if asked["patch reports"] == 0 {
		t.Error("what has changed was not to be reported")
	}
	if rate := float64(sum(asked)) / time.Since(start).Seconds(); rate > 20 {
		t.Errorf("the agents asked %v, %.0f a second, while nothing could be written", asked, rate)
	}
	poll(t, "nobody leads", func() bool { return r.value("sconce_leader") == "0" && second.value("sconce_leader") == "0" })
	l.some(t, refused, duringFault)
	asked, _ = f.asks(t, from)
	t.Logf("without a leader: %v", asked)
	f.AcceptWrites(t)
	poll(t, "one leads", func() bool { return (r.value("sconce_leader") == "1") != (second.value("sconce_leader") == "1") })
	l.check(t)
	second.end(t)
	alone()
}

// stays makes Deployments that fail host-network, of which nothing is made, and
// returns a function that deletes them.
func (f *faulty) stays(t *testing.T, n int) (remove func()) {
	t.Helper()
	deployments := f.Client(t).AppsV1().Deployments(f.namespace)
	for i := range n {
		d := deploymentOf(unprivileged)
		d.Name, d.Spec.Paused = fmt.Sprintf("stays-%d", i), true
		_, err := deployments.Create(t.Context(), d, metav1.CreateOptions{})
		must(t, err)
	}
	return func() {
		for i := range n {
			must(t, deployments.Delete(t.Context(), fmt.Sprintf("stays-%d", i), metav1.DeleteOptions{}))
		}
	}
}

// leadAlone watches that no two lead until the function is called that it
// returns.
func leadAlone(t *testing.T, replicas ...*replica) (end func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			leading := []string{}
			for _, r := range replicas {
				if r.value("sconce_leader") == "1" {
					leading = append(leading, r.name)
				}
			}
			// One may have begun after the other was asked.
			if len(leading) > 1 && replicas[0].value("sconce_leader") == "1" {
				t.Errorf("%v lead at once", leading)
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// kindDeleted deletes a CRD while its objects are followed, and makes it again.
func (f *faulty) kindDeleted(t *testing.T, r *replica) {
	const many = 50
	makeWidgets := func() {
		f.Apply(t, widgets)
		f.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd/widgets.example.com")
		var all strings.Builder
		for i := range many {
			fmt.Fprintf(&all, "---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: big-%d, namespace: %s}\nspec: {size: large}\n", i, f.namespace)
		}
		f.Apply(t, all.String())
	}
	count := func(n int) {
		t.Helper()
		poll(t, fmt.Sprintf("%d widgets are found", n), func() bool {
			return r.fails()["small-widget"] == n && r.value("sconce_audit_synced") == "1"
		})
	}
	makeWidgets()
	f.Apply(t, widgetControl)
	f.Apply(t, baselineOf(faultBaseline+"  - {name: small-widget}\n"))
	f.enforced(t)
	count(many)
	_, from := f.asks(t, 0)
	logged := len(r.log.String())
	l := f.ask(t)
	start := time.Now()
	f.Kubectl(t, "delete", "crd", "widgets.example.com")
	count(0)
	l.lasts(t, 8*time.Second)
	asked, _ := f.asks(t, from)
	took := time.Since(start)
	t.Logf("in %s after the CRD had gone: %v", took.Round(time.Millisecond), asked)
	if n := asked["list widgets"]; n > 5+int(took.Seconds())/2 {
		t.Errorf("widgets were asked for %d times in %s", n, took)
	}
	if n := strings.Count(r.log.String()[logged:], "level=ERROR"); n > 5 {
		t.Errorf("%d errors were logged:\n%s", n, r.log.String()[logged:])
	}
	makeWidgets()
	count(many)
	f.Kubectl(t, "delete", "crd", "widgets.example.com")
	count(0)
	f.Apply(t, baselineOf(faultBaseline))
	f.Kubectl(t, "delete", "controls.sconce.dev", "small-widget")
	f.enforced(t)
	l.check(t)
}

// exceptionsDeleted deletes the CRD of the agent's own exceptions: what they
// excuse stays excused until somebody says otherwise.
func (f *faulty) exceptionsDeleted(t *testing.T, r *replica) {
	crd := f.Kubectl(t, "get", "crd", "exceptions.sconce.dev", "-o", "json")
	exception := exceptionFor("agents", f.namespace, "excused-*", "2099-12-31")
	f.Apply(t, exception)
	pods := f.Client(t).CoreV1().Pods(f.namespace)
	excused := func() bool {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: named("excused"), Spec: privilegedSpec}, forNothing)
		return err == nil
	}
	poll(t, "the exception excuses", excused)
	l := f.ask(t)
	f.Kubectl(t, "delete", "crd", "exceptions.sconce.dev")
	poll(t, "it is told that the documents are not whole", func() bool { return r.value("sconce_baseline_accepted") == "0" })
	before := l.bad.of(refused)
	for l.bad.of(refused) < before+5*duringFault {
		if !excused() {
			t.Fatal("the last good set did not stay in force")
		}
	}
	var made unstructured.Unstructured
	must(t, json.Unmarshal([]byte(crd), &made.Object))
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
		unstructured.RemoveNestedField(made.Object, "metadata", field)
	}
	delete(made.Object, "status")
	again, err := json.Marshal(made.Object)
	must(t, err)
	f.Apply(t, string(again))
	f.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "crd/exceptions.sconce.dev")
	poll(t, "nothing excuses any more", func() bool { return !excused() })
	f.Apply(t, exception)
	poll(t, "the exception excuses again", excused)
	f.Kubectl(t, "delete", "exceptions.sconce.dev", "agents")
	poll(t, "nothing excuses", func() bool { return !excused() })
	l.check(t)
}

// exceptionFor excuses privileged pods of a name.
func exceptionFor(name, namespace, pods, expires string) string {
	return fmt.Sprintf("apiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: %s}\nspec: {controls: [privileged-container], match: {namespaces: [%s], names: [%q]}, reason: it is a test, owner: tests, expires: %q}\n", name, namespace, pods, expires)
}

// TestCertificates holds that no request fails while certificates are renewed
// and their authority is replaced, that those that have expired are replaced at
// the start, and that clocks may differ.
func TestCertificates(t *testing.T) {
	f := startFaulty(t)
	t.Run("expired ones are replaced at the start", f.expiredCertificates)
	t.Run("they are renewed under load", f.renewedCertificates)
	t.Run("clocks differ", f.clocksDiffer)
	noneLeft(t)
}

// secretOf keeps certificates as the agent's Secret does.
type secretOf struct {
	data map[string][]byte
}

// Load implements admission.Store.
func (s *secretOf) Load(context.Context) (map[string][]byte, string, error) { return s.data, "", nil }

// Save implements admission.Store.
func (s *secretOf) Save(_ context.Context, data map[string][]byte, _ string) error {
	s.data = data
	return nil
}

func (f *faulty) expiredCertificates(t *testing.T) {
	store := &secretOf{}
	_, err := admission.NewCertificates(admission.CertificateOptions{
		Store: store, Names: []string{"127.0.0.1"}, Now: func() time.Time { return time.Now().AddDate(-3, 0, 0) },
	}).Refresh(t.Context())
	must(t, err)
	f.keepCertificates(t, store.data)
	r := f.run(t, "after-expiry", nil)
	f.denies(t)
	r.end(t)
}

// keepCertificates puts certificates where the agent finds them.
func (f *faulty) keepCertificates(t *testing.T, data map[string][]byte) {
	t.Helper()
	secrets := f.Client(t).CoreV1().Secrets(installNamespace)
	secret, err := secrets.Get(t.Context(), agent.SecretName, metav1.GetOptions{})
	must(t, err)
	secret.Data = data
	_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	must(t, err)
}

// renewedCertificates has a serving certificate last seconds, and its authority
// not many more. Two look on: the API server, which keeps connections, and one
// that makes a new one each time and trusts what the configuration held a while
// ago.
func (f *faulty) renewedCertificates(t *testing.T) {
	f.keepCertificates(t, nil)
	f.Apply(t, baselineOf(faultBaseline))
	r := f.run(t, "renewing", func(o *agent.Options) {
		o.Renewal = agent.Renewal{Life: 9 * time.Second, CALife: 24 * time.Second, Overlap: 2 * time.Second, Check: 500 * time.Millisecond}
	})
	f.denies(t)
	poll(t, "it has audited everything", func() bool { return r.value("sconce_audit_synced") == "1" })
	before := measure()
	l := f.ask(t)
	serials, authorities, failures := f.handshakes(t, 30*time.Second)
	l.check(t)
	if n := l.bad.of(failedClosed) + l.good.of(failedClosed); n > 0 {
		t.Errorf("%d requests failed: %s%s", n, l.bad.last[failedClosed], l.good.last[failedClosed])
	}
	t.Logf("%d certificates of %d authorities", serials, authorities)
	if serials < 4 || authorities < 2 {
		t.Errorf("there were %d certificates of %d authorities, want at least 4 of 2", serials, authorities)
	}
	for _, err := range failures {
		t.Error(err)
	}
	normal(t, before)
	r.end(t)
}

// handshakes connects anew all the time, trusting the bundle that was published
// a second before.
func (f *faulty) handshakes(t *testing.T, lasting time.Duration) (serials, authorities int, failures []error) {
	t.Helper()
	configurations := f.Client(t).AdmissionregistrationV1().ValidatingWebhookConfigurations()
	seen, signers := map[string]bool{}, map[string]bool{}
	var known [][]byte
	for deadline := time.Now().Add(lasting); time.Now().Before(deadline); {
		c, err := configurations.Get(t.Context(), agent.Name, metav1.GetOptions{})
		must(t, err)
		if known = append(known, c.Webhooks[0].ClientConfig.CABundle); len(known) > 5 {
			known = known[1:]
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(known[0])
		dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		conn, err := dialer.DialContext(t.Context(), "tcp", f.proxy.address)
		if err != nil {
			failures = append(failures, fmt.Errorf("connecting: %w", err))
			continue
		}
		leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		seen[leaf.SerialNumber.String()] = true
		signers[leaf.Issuer.SerialNumber+string(leaf.AuthorityKeyId)] = true
		_ = conn.Close()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	return len(seen), len(signers), failures
}

// clocksDiffer runs two replicas whose clocks are half an hour apart, and moves
// the clock of one past the end of an exception, and back.
func (f *faulty) clocksDiffer(t *testing.T) {
	f.keepCertificates(t, nil)
	var offset atomic.Int64
	offset.Store(int64(15 * time.Minute))
	ahead := f.run(t, "ahead", func(o *agent.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	f.denies(t)
	behind := runAgent(t, f.config, freeAddress(t), "behind", func(o *agent.Options) {
		o.WebhookURL, o.Now = "https://"+f.proxy.address, func() time.Time { return time.Now().Add(-15 * time.Minute) }
	})
	alone := leadAlone(t, ahead, behind)
	f.enforced(t)
	today := time.Now().Add(15 * time.Minute).UTC().Format(time.DateOnly)
	f.Apply(t, exceptionFor("today", f.namespace, "excused-*", today))
	pods := f.Client(t).CoreV1().Pods(f.namespace)
	excused := func() bool {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: named("excused"), Spec: privilegedSpec}, forNothing)
		return err == nil
	}
	poll(t, "the exception excuses on its last day", excused)
	poll(t, "its status says so", func() bool {
		status, _ := f.condition(t, "exceptions", "today", v1alpha1.InForce)
		return status == metav1.ConditionTrue
	})
	written := time.Now()
	poll(t, "nothing but the clock tells of another day", func() bool { return time.Since(written) > 3*time.Second })
	offset.Store(int64(24 * time.Hour))
	poll(t, "it excuses nothing on the next", func() bool { return !excused() })
	poll(t, "that is counted", func() bool { return ahead.value("sconce_exceptions_expired") == "1" })
	offset.Store(int64(-15 * time.Minute))
	poll(t, "it excuses again when the clock is right again", excused)
	if v := behind.value("sconce_exceptions_expired"); v != "0" {
		t.Errorf("the other counts %s expired exceptions", v)
	}
	secrets := f.Client(t).CoreV1().Secrets(installNamespace)
	secret, err := secrets.Get(t.Context(), agent.SecretName, metav1.GetOptions{})
	must(t, err)
	ahead.end(t)
	poll(t, "the other leads", func() bool { return behind.value("sconce_leader") == "1" })
	poll(t, "the other audits", func() bool { return behind.value("sconce_audit_synced") == "1" })
	now, err := secrets.Get(t.Context(), agent.SecretName, metav1.GetOptions{})
	must(t, err)
	if now.ResourceVersion != secret.ResourceVersion {
		t.Error("the certificates were made anew by the one whose clock is behind")
	}
	alone()
	behind.end(t)
}

// TestManyExceptions holds what 5,000 exceptions at once cost.
func TestManyExceptions(t *testing.T) {
	const many = 5000
	f := startFaulty(t)
	f.program = program(t)
	r := f.run(t, "agent", nil)
	f.enforced(t)
	f.denies(t)
	poll(t, "it has audited everything", func() bool { return r.value("sconce_audit_synced") == "1" })
	before := measure()
	l := f.ask(t)
	_, from := f.asks(t, 0)
	start := time.Now()
	f.makeExceptions(t, many)
	created := time.Since(start)
	pods := f.Client(t).CoreV1().Pods(f.namespace)
	poll(t, "the last one excuses", func() bool {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("excused-%d", many-1)}, Spec: privilegedSpec}, forNothing)
		return err == nil
	})
	inForce := time.Since(start)
	swaps := strings.Count(r.log.String(), "set in force")
	t.Logf("%d exceptions were made in %s, and in force after %s by %d sets", many, created.Round(time.Millisecond), inForce.Round(time.Millisecond), swaps)
	if most := 4 + int(inForce/time.Second); swaps > most {
		t.Errorf("%d sets came into force, want at most %d", swaps, most)
	}
	f.quick(t, l)
	asked, _ := f.asks(t, from)
	t.Logf("meanwhile the agent asked %d times, %v", sum(asked), measure())
	l.check(t)
	written := 500
	if os.Getenv("SCONCE_HEAVY") == "1" {
		written = many
	}
	f.statusesWritten(t, r, written, start)
	asked, _ = f.asks(t, from)
	took := time.Since(start)
	t.Logf("%d have a status after %s; the agent wrote %d, %v", written, took.Round(time.Second), asked["patch exceptions/status"], measure())
	if n := asked["patch exceptions/status"]; n > 110*int(took.Seconds())+200 || n > 2*many {
		t.Errorf("%d statuses were written in %s", n, took)
	}
	start = time.Now()
	must(t, f.dynamic.Resource(v1alpha1Resource("exceptions")).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	poll(t, "nothing excuses any more", func() bool {
		_, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "excused-0"}, Spec: privilegedSpec}, forNothing)
		return outcomeOf(err) == refused
	})
	t.Logf("they were deleted, and excused nothing after %s", time.Since(start).Round(time.Second))
	f.whole(t, r)
	normal(t, before)
}

// makeExceptions makes exceptions, many at once.
func (f *faulty) makeExceptions(t *testing.T, n int) {
	t.Helper()
	var making errgroup.Group
	making.SetLimit(16)
	for i := range n {
		making.Go(func() error {
			var u unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(exceptionFor(fmt.Sprintf("e-%d", i), f.namespace, fmt.Sprintf("excused-%d", i), "2099-12-31")), &u.Object); err != nil {
				return err
			}
			_, err := f.dynamic.Resource(v1alpha1Resource("exceptions")).Create(t.Context(), &u, metav1.CreateOptions{})
			return err
		})
	}
	must(t, making.Wait())
}

// quick holds that requests are answered quickly.
func (f *faulty) quick(t *testing.T, l *asking) {
	t.Helper()
	l.some(t, refused, 10*duringFault)
	if l.bad.worstAtLeast(4 * time.Second) {
		t.Errorf("a request took %v", &l.bad)
	}
}

// statusesWritten waits until so many exceptions say that they are in force.
func (f *faulty) statusesWritten(t *testing.T, r *replica, n int, start time.Time) {
	t.Helper()
	for {
		list, err := f.dynamic.Resource(v1alpha1Resource("exceptions")).List(t.Context(), metav1.ListOptions{})
		must(t, err)
		with := 0
		for i := range list.Items {
			if conditions, _, _ := unstructured.NestedSlice(list.Items[i].Object, "status", "conditions"); len(conditions) == 2 {
				with++
			}
		}
		if with >= n {
			return
		}
		if time.Since(start) > 3*time.Minute {
			t.Fatalf("%d of %d exceptions have a status:\n%s", with, n, r.log)
		}
		select {
		case <-time.After(time.Second):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
