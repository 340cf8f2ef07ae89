// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/agent"
	"sconce.dev/sconce/test/controlplane"
	"sconce.dev/sconce/test/process"
)

// maxResident is how much memory the agent may take, whatever it is sent: half of
// what its Deployment limits it to.
const maxResident = 512 << 20

// besieged is an agent, as a process, that anybody sends anything to.
type besieged struct {
	*agentCluster
	process          *process.Process
	address, metrics string
	namespace        string
	tls              *tls.Config // of an API server
}

// webhookKubeconfig is what the API server shows the webhook.
const webhookKubeconfig = `apiVersion: v1
kind: Config
users:
- {name: "*", user: {client-certificate: "{dir}/admin.crt", client-key: "{dir}/admin.key"}}
`

const webhookAdmission = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: "{dir}/webhook.kubeconfig"}
`

// besiege starts an agent that answers only who shows the certificate that the
// API server does.
func besiege(t *testing.T) *besieged {
	t.Helper()
	c := &agentCluster{ControlPlane: controlplane.Start(t, controlplane.Options{
		Files:         map[string]string{"webhook.kubeconfig": webhookKubeconfig, "webhook-admission.yaml": webhookAdmission},
		APIServerArgs: map[string][]string{"admission-control-config-file": {"{dir}/webhook-admission.yaml"}},
	})}
	install(t, c.ControlPlane)
	c.config = c.ConfigForServiceAccount(t, installNamespace, "sconce")
	b := &besieged{agentCluster: c, address: freeAddress(t), metrics: freeAddress(t), namespace: c.Namespace(t)}
	c.Apply(t, baselineOf(faultBaseline))
	b.process = &process.Process{Path: program(t), Log: filepath.Join(t.TempDir(), "agent.log"), Args: []string{
		"agent", "--kubeconfig", c.KubeconfigOf(t, c.config), "--namespace", installNamespace, "--log-format=text", "--reports=none",
		"--webhook-address", b.address, "--webhook-url", "https://" + b.address, "--metrics-address", b.metrics, "--health-address=",
		"--webhook-client-ca", filepath.Join(c.Dir(), "ca.crt"), "--webhook-clients", "admin",
	}}
	must(t, b.process.Start())
	t.Cleanup(func() {
		_, _ = b.process.Stop()
		if t.Failed() {
			t.Logf("the last that the agent logged:\n%s", b.process.Tail())
		}
	})
	poll(t, "the API server is answered", func() bool { return b.deniesBad(t) })
	secret, err := c.Client(t).CoreV1().Secrets(installNamespace).Get(t.Context(), agent.SecretName, metav1.GetOptions{})
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	shown, err := tls.LoadX509KeyPair(filepath.Join(c.Dir(), "admin.crt"), filepath.Join(c.Dir(), "admin.key"))
	must(t, err)
	b.tls = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{shown}, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
	return b
}

// deniesBad says whether the API server is told to deny.
func (b *besieged) deniesBad(t *testing.T) bool {
	t.Helper()
	_, err := b.Client(t).CoreV1().Pods(b.namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: named("probe"), Spec: privilegedSpec}, forNothing)
	return outcomeOf(err) == refused
}

// client returns a client that shows the certificate of the API server.
func (b *besieged) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: b.tls.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// reviewOf returns an AdmissionReview about a pod.
func reviewOf(t *testing.T, spec corev1.PodSpec) string {
	t.Helper()
	pod, err := json.Marshal(&corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop"}, Spec: spec})
	must(t, err)
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Operation: admissionv1.Create, Name: "p", Namespace: "shop", UserInfo: authenticationv1.UserInfo{Username: "alice"}, Object: runtime.RawExtension{Raw: pod},
		},
	})
	must(t, err)
	return string(review)
}

// endless is a body that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// resident returns the most memory that the agent has taken.
func (b *besieged) resident(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.PID()))
	if err != nil {
		t.Skipf("the memory of a process cannot be read here: %v", err)
	}
	m := peak.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kb, err := strconv.Atoi(string(m[1]))
	must(t, err)
	return kb << 10
}

// TestBadInput holds that an agent refuses what is bad with words that help, in
// bounded memory, and goes on answering the API server.
func TestBadInput(t *testing.T) {
	b := besiege(t)
	before := b.resident(t)
	t.Run("what is bad is refused", b.badRequests)
	t.Run("a body of 100 MiB, and one without end", b.hugeBodies)
	t.Run("who sends slowly is cut off", b.slowSenders)
	t.Run("a caller without a certificate is let in nowhere", b.unauthenticated)
	t.Run("10,000 requests at once", b.manyAtOnce)
	t.Run("more connections than are taken say nothing", b.manyConnections)
	t.Logf("resident before: %d MiB, at the most: %d MiB", before>>20, b.resident(t)>>20)
	if got := b.resident(t); got > maxResident {
		t.Errorf("the agent has taken %d MiB, want at most %d", got>>20, maxResident>>20)
	}
	must(t, b.process.Ended())
	poll(t, "the API server is answered", func() bool { return b.deniesBad(t) })
	r := &replica{metrics: b.metrics}
	t.Log(r.metric("sconce_admission_refused_total"))
	for _, reason := range []string{"method", "type", "size", "slow", "body", "version", "client"} {
		if m := r.metric("sconce_admission_refused_total"); !strings.Contains(m, `reason="`+reason+`"`) {
			t.Errorf("the metrics do not count what was refused for %s", reason)
		}
	}
}

func (b *besieged) badRequests(t *testing.T) {
	client := b.client(t)
	good := reviewOf(t, unprivileged)
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
		says                                  string
	}{
		{"good", http.MethodPost, admission.FailPath, "application/json", good, 200, `"allowed":true`},
		{"bad pod", http.MethodPost, admission.FailPath, "application/json", reviewOf(t, privilegedSpec), 200, "privileged-container"},
		{"malformed", http.MethodPost, admission.FailPath, "application/json", `{"apiVersion": tru}`, 400, "line 1, column 16:"},
		{"cut off", http.MethodPost, admission.FailPath, "application/json", good[:len(good)/2], 400, "no AdmissionReview"},
		{"deep", http.MethodPost, admission.FailPath, "application/json", strings.Repeat("[", 1<<20), 400, "nested deeper"},
		{"v1beta1", http.MethodPost, admission.FailPath, "application/json", strings.Replace(good, "k8s.io/v1", "k8s.io/v1beta1", 1), 400, `"admission.k8s.io/v1beta1"`},
		{"form", http.MethodPost, admission.FailPath, "application/x-www-form-urlencoded", good, 415, "want application/json"},
		{"GET", http.MethodGet, admission.FailPath, "", "", 405, "want POST"},
		{"another path", http.MethodPost, "/", "application/json", good, 404, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+b.address+c.path, strings.NewReader(c.body))
			must(t, err)
			request.Header.Set("Content-Type", c.contentType)
			response, err := client.Do(request)
			must(t, err)
			defer func() { _ = response.Body.Close() }()
			said, err := io.ReadAll(response.Body)
			must(t, err)
			if response.StatusCode != c.status || !strings.Contains(string(said), c.says) || len(said) > 2048 {
				t.Errorf("got %s %q, want %d, …%s…", response.Status, said, c.status, c.says)
			}
		})
	}
}

func (b *besieged) hugeBodies(t *testing.T) {
	for name, length := range map[string]int64{"100 MiB": 100 << 20, "endless": -1} {
		for _, http2 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", name, http2), func(t *testing.T) {
				transport := &http.Transport{TLSClientConfig: b.tls.Clone(), ForceAttemptHTTP2: http2}
				defer transport.CloseIdleConnections()
				body := io.Reader(endless{})
				if length > 0 {
					body = io.LimitReader(body, length)
				}
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.address+admission.FailPath, body)
				must(t, err)
				request.ContentLength = length
				request.Header.Set("Content-Type", "application/json")
				start := time.Now()
				response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(request)
				if took := time.Since(start); took > 20*time.Second {
					t.Errorf("it took %s", took)
				}
				if err != nil {
					// The server hangs up while it is still being sent to.
					var timeout net.Error
					if errors.As(err, &timeout) && timeout.Timeout() {
						t.Error(err)
					}
					return
				}
				defer func() { _ = response.Body.Close() }()
				said, _ := io.ReadAll(response.Body)
				if response.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(said), "larger than") {
					t.Errorf("got %s %q", response.Status, said)
				}
			})
		}
	}
}

// slowSenders write a byte at a time, in a header and in a body, and hang up
// never.
func (b *besieged) slowSenders(t *testing.T) {
	head := "POST " + admission.FailPath + "?timeout=2s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
	var slow sync.WaitGroup
	for _, c := range []struct {
		name, at string
		within   time.Duration
		says     string
	}{
		{"in the body", head, 5 * time.Second, "408"},
		{"in a header", head[:20], 15 * time.Second, ""},
		{"in the body, for as long as may be", strings.Replace(head, "2s", "1h", 1), 20 * time.Second, "408"},
	} {
		slow.Go(func() {
			conn, err := tls.Dial("tcp", b.address, b.tls.Clone())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			start := time.Now()
			if _, err := conn.Write([]byte(c.at)); err != nil {
				t.Error(err)
				return
			}
			said := make(chan string, 1)
			go func() {
				_ = conn.SetReadDeadline(start.Add(time.Minute))
				line, _ := bufio.NewReader(conn).ReadString('\n')
				said <- line
			}()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case line := <-said:
					t.Logf("%s: cut off after %s: %q", c.name, time.Since(start).Round(100*time.Millisecond), strings.TrimSpace(line))
					if !strings.Contains(line, c.says) || time.Since(start) > c.within {
						t.Errorf("%s: got %q after %s, want %s within %s", c.name, line, time.Since(start), c.says, c.within)
					}
					return
				case <-tick.C:
					_, _ = conn.Write([]byte(" "))
				}
			}
		})
	}
	slow.Wait()
}

// unauthenticated callers show no certificate, one that somebody else has
// signed, and one of somebody who may not ask.
func (b *besieged) unauthenticated(t *testing.T) {
	post := func(config *tls.Config) (string, error) {
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
		response, err := client.Post("https://"+b.address+admission.FailPath, "application/json", strings.NewReader(reviewOf(t, privilegedSpec))) //nolint:noctx // it has a timeout
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		said, err := io.ReadAll(response.Body)
		return response.Status + " " + string(said), err
	}
	config := b.tls.Clone()
	config.Certificates = nil
	if said, err := post(config); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: got %q, %v", said, err)
	}
	secret, err := b.Client(t).CoreV1().Secrets(installNamespace).Get(t.Context(), agent.SecretName, metav1.GetOptions{})
	must(t, err)
	own, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	must(t, err)
	config.Certificates = []tls.Certificate{own}
	if said, err := post(config); err == nil {
		t.Errorf("with a certificate of another authority: got %q", said)
	}
	other := b.ConfigFor(t, "mallory")
	shown, err := tls.LoadX509KeyPair(other.CertFile, other.KeyFile)
	must(t, err)
	config.Certificates = []tls.Certificate{shown}
	said, err := post(config)
	must(t, err)
	if !strings.HasPrefix(said, "403") || !strings.Contains(said, "none that may ask") {
		t.Errorf("with the certificate of somebody else: got %q", said)
	}
}

// manyAtOnce sends 10,000 requests at once, good ones and bad ones, and large
// ones among them.
func (b *besieged) manyAtOnce(t *testing.T) {
	const many = 10_000
	good, bad := reviewOf(t, unprivileged), reviewOf(t, privilegedSpec)
	large := strings.TrimSuffix(bad, "}") + strings.Repeat(" ", 1<<20) + "}"
	url := "https://" + b.address + admission.FailPath + "?timeout=10s"
	clients := make([]*http.Client, 100) // with a connection each, which takes 250 requests at once
	for i := range clients {
		clients[i] = b.client(t)
		if answer, err := ask(clients[i], url, good, true); answer != "right" {
			t.Fatalf("got %s, %v", answer, err)
		}
	}
	var answers outcomes
	var asking sync.WaitGroup
	begin := make(chan struct{})
	for i := range many {
		body, want := good, true
		switch {
		case i%50 == 0:
			body, want = large, false
		case i%2 == 0:
			body, want = bad, false
		}
		asking.Go(func() {
			<-begin
			start := time.Now()
			answer, err := ask(clients[i%len(clients)], url, body, want)
			answers.add(answer, err, time.Since(start))
		})
	}
	start := time.Now()
	close(begin)
	asking.Wait()
	t.Logf("in %s: %v; at most %d MiB", time.Since(start).Round(time.Millisecond), &answers, b.resident(t)>>20)
	if n := answers.of("wrong"); n > 0 {
		t.Errorf("%d answers were wrong: %s", n, answers.last["wrong"])
	}
	if n := answers.of("error"); n > many/100 {
		t.Errorf("%d requests got no answer: %s", n, answers.last["error"])
	}
	if answers.of("right") == 0 {
		t.Error("none was answered")
	}
}

// ask sends one review, and says whether the answer is right, wrong, or that
// there was no time for it.
func ask(client *http.Client, url, body string, allowed bool) (string, error) {
	response, err := client.Post(url, "application/json", strings.NewReader(body)) //nolint:noctx // it has a timeout
	if err != nil {
		return "error", err
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return "error", err
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable:
		return "busy", nil
	case response.StatusCode == http.StatusRequestTimeout:
		return "slow", nil // on a machine that has other work
	case response.StatusCode == http.StatusOK && bytes.Contains(said, []byte(fmt.Sprintf(`"allowed":%t`, allowed))):
		return "right", nil
	}
	return "wrong", fmt.Errorf("%s: %s", response.Status, said)
}

// manyConnections opens connections that say nothing, more than are taken at
// once, and holds that who is connected is answered all the while, and who is
// not once they have been cut off.
func (b *besieged) manyConnections(t *testing.T) {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range 1000 {
		c, err := net.Dial("tcp", b.address) //nolint:noctx // on loopback
		must(t, err)
		open = append(open, c)
	}
	start := time.Now()
	if !b.deniesBad(t) {
		t.Error("the API server is not answered on the connection that it has")
	}
	answer, err := ask(b.client(t), "https://"+b.address+admission.FailPath, reviewOf(t, privilegedSpec), false)
	if answer != "right" {
		t.Errorf("got %s, %v", answer, err)
	}
	t.Logf("another was answered after %s", time.Since(start).Round(time.Millisecond))
}
