// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/test/process"
	"sconce.dev/sconce/test/prometheus"
)

// TestInstalledAgent runs the agent as it is installed, with the rights and the
// flags of the manifests, under a real API server and a real Prometheus: it
// denies, reports and tells its metrics, and nothing is forbidden to it.
func TestInstalledAgent(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	client := c.Client(t)
	install(t, c)
	namespace := c.Namespace(t)
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), podAsInstalled("before"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a := startInstalled(t, c, client, "--report-interval=200ms")
	c.Kubectl(t, "apply", "--server-side", "-f", manifest(t, "openreports-crds.yaml")) // what it can do without, it does
	if !t.Run("what is wrong is reported", func(t *testing.T) { reported(t, c, namespace) }) {
		t.Logf("the agent's log:\n%s", a.log(t))
	}
	t.Run("what is wrong is denied", func(t *testing.T) { deniedAsInstalled(t, c, client, namespace) })
	t.Run("nothing is forbidden to it", func(t *testing.T) {
		for line := range strings.Lines(a.log(t)) {
			if strings.Contains(line, "forbidden") || strings.Contains(line, `"level":"ERROR"`) && !strings.Contains(line, "openreports.io") {
				t.Error(line)
			}
		}
	})
	t.Run("Prometheus scrapes it", func(t *testing.T) { scraped(t, a) })
}

// installed is an agent that runs as it is installed.
type installed struct {
	process *process.Process
	metrics string // host and port
	started time.Time
}

func (a *installed) log(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(a.process.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// startInstalled starts the agent with the arguments of the Deployment and the
// token of its ServiceAccount, and more of them. No pod runs here, so the API
// server is told an address instead of the Service.
func startInstalled(t *testing.T, c *controlplane.ControlPlane, client kubernetes.Interface, more ...string) *installed {
	t.Helper()
	d, err := client.AppsV1().Deployments(installNamespace).Get(t.Context(), "sconce", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ports, err := process.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) string { return "127.0.0.1:" + ports[i] }
	replaced := map[string]string{
		"--namespace": "--namespace=" + installNamespace, "--webhook-service": "--webhook-url=https://" + at(0),
		"--webhook-address": "--webhook-address=" + at(0), "--metrics-address": "--metrics-address=" + at(1), "--health-address": "--health-address=" + at(2),
	}
	args := slices.Clone(d.Spec.Template.Spec.Containers[0].Args)
	for i, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if with, ok := replaced[name]; ok {
			args[i] = with
		}
	}
	args = append(args, "--kubeconfig="+c.KubeconfigOf(t, c.ConfigForServiceAccount(t, installNamespace, "sconce")))
	limit := d.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().Value()
	p := &process.Process{Path: program(t), Args: append(args, more...), Env: []string{"GOMEMLIMIT=" + strconv.FormatInt(limit, 10)}, Log: filepath.Join(t.TempDir(), "agent.log")}
	started := time.Now()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = p.Stop() })
	comesTrue(t, "the agent is ready", func() error {
		_, err := get(t.Context(), "http://"+at(2)+"/readyz")
		if ended := p.Ended(); ended != nil {
			t.Fatal(ended)
		}
		return err
	})
	return &installed{process: p, metrics: at(1), started: started}
}

// program builds sconce.
func program(t *testing.T) string {
	t.Helper()
	root, err := process.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sconce")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/sconce")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building sconce: %v\n%s", err, out)
	}
	return path
}

// podAsInstalled returns a pod that fails privileged-container.
func podAsInstalled(name string) *corev1.Pod {
	yes := true
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "app", Image: "registry.example.com/app:1", SecurityContext: &corev1.SecurityContext{Privileged: &yes}},
	}}}
}

// reported waits for the reports: that of the namespace names the pod, and that
// of the cluster lacks nothing but what the agent may not read by choice.
func reported(t *testing.T, c *controlplane.ControlPlane, namespace string) {
	type report struct {
		Results []struct {
			Rule, Result, Message string
			Resources             []struct{ Name string }
		}
	}
	read := func(args ...string) (r report, err error) {
		out, err := c.TryKubectl(t, "", append([]string{"get", "-o", "json"}, args...)...)
		if err != nil {
			return r, err
		}
		return r, json.Unmarshal([]byte(out), &r)
	}
	comesTrue(t, "the pod is reported", func() error {
		r, err := read("reports.openreports.io", "sconce", "-n", namespace)
		if err != nil {
			return err
		}
		for _, x := range r.Results {
			if x.Rule == "privileged-container" && x.Result == "fail" && x.Resources[0].Name == "before" {
				return nil
			}
		}
		return fmt.Errorf("its report has %d results, and not that one", len(r.Results))
	})
	var r report
	comesTrue(t, "the cluster is reported", func() (err error) {
		r, err = read("clusterreports.openreports.io", "sconce")
		return err
	})
	for _, x := range r.Results {
		if x.Rule == "not-judged" && !strings.Contains(x.Message, "Secrets") {
			t.Errorf("not judged: %s", x.Message)
		}
	}
}

// deniedAsInstalled has the baseline deny, and the API server refuse a pod.
func deniedAsInstalled(t *testing.T, c *controlplane.ControlPlane, client kubernetes.Interface, namespace string) {
	c.Kubectl(t, "patch", "baselines.sconce.dev", "cluster", "--type=merge", "-p", `{"spec":{"action":"deny"}}`)
	n := 0
	comesTrue(t, "a privileged pod is denied", func() error {
		n++
		_, err := client.CoreV1().Pods(namespace).Create(t.Context(), podAsInstalled(fmt.Sprintf("after-%d", n)), metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "privileged-container") {
			return fmt.Errorf("it is not: %w", err)
		}
		return nil
	})
	comesTrue(t, "an Event tells of it", func() error {
		events, err := client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range events.Items {
			if events.Items[i].Reason == "Denied" {
				return nil
			}
		}
		return fmt.Errorf("none of %d does", len(events.Items))
	})
}

// scraped holds what is measured against promtool, and has a real Prometheus
// evaluate every alert and every query of the dashboard.
func scraped(t *testing.T, a *installed) {
	text, err := get(t.Context(), "http://"+a.metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := checkMetrics(t, text); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	root, err := process.Root()
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(root, "config", "prometheus", "rules.yaml")
	server := prometheus.Start(t, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: sconce, static_configs: [{targets: [%q]}]}]
`, rules, a.metrics))
	for query, least := range map[string]float64{
		`up{job="sconce"}`:              1,
		`sum(sconce_leader)`:            1,
		`min(sconce_baseline_accepted)`: 1,
		`max(sconce_audit_objects)`:     10,
		`max(sconce_audit_findings{control="privileged-container",outcome="fail"})`:         1,
		`sum(sconce_admission_denials_total{control="privileged-container",action="deny"})`: 1,
		`sum(sconce_report_writes_total{result="ok"})`:                                      1,
		`sum(sconce_webhook_configuration_writes_total{result="ok"})`:                       1,
		`min(sconce_certificate_expiry_timestamp_seconds) - time()`:                         24 * 3600,
		`go_goroutines{job="sconce"}`:                                                       1,
	} {
		comesTrue(t, query, func() error { return atLeast(t.Context(), server, query, least) })
	}
	comesTrue(t, "the alerts are evaluated", func() error { return evaluated(t.Context(), server) })
	for _, query := range dashboard(t, filepath.Join(root, "config", "grafana", "sconce.json")) {
		if _, _, _, err := server.Query(t.Context(), query, time.Now()); err != nil {
			t.Errorf("the dashboard asks %s: %v", query, err)
		}
	}
}

func checkMetrics(t *testing.T, text string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), prometheus.Program(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	// What libraries name is not ours to mend.
	var ours bytes.Buffer
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("sconce_")) {
			ours.Write(line)
		}
	}
	if ours.Len() == 0 && len(out) > 0 {
		err = nil
	}
	return ours.String(), err
}

func atLeast(ctx context.Context, server promv1.API, query string, least float64) error {
	value, _, _, err := server.Query(ctx, query, time.Now())
	if err != nil {
		return err
	}
	v, ok := value.(model.Vector)
	if !ok || len(v) != 1 || float64(v[0].Value) < least {
		return fmt.Errorf("it is %s, want at least %g", value, least)
	}
	return nil
}

// evaluated says whether every alert was evaluated.
func evaluated(ctx context.Context, server promv1.API) error {
	result, err := server.Rules(ctx, nil)
	if err != nil {
		return err
	}
	n := 0
	for _, g := range result.Groups {
		for _, r := range g.Rules {
			alert, ok := r.(promv1.AlertingRule)
			if !ok || alert.Health != promv1.RuleHealthGood {
				return fmt.Errorf("the alert %s is %s: %s", alert.Name, alert.Health, alert.LastError)
			}
			n++
		}
	}
	if n < 15 {
		return fmt.Errorf("there are %d alerts", n)
	}
	return nil
}

// dashboard returns the queries of a dashboard, with what Grafana fills in.
func dashboard(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$job", ".*")
	var out []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out = append(out, fill.Replace(target.Expr))
		}
	}
	if len(out) < 30 {
		t.Errorf("the dashboard has %d queries", len(out))
	}
	return out
}

// get returns what a server says.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// comesTrue waits until something is so, and says at the end why it is not.
func comesTrue(t *testing.T, what string, so func() error) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		err := so()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
