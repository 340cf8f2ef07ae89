// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
)

// houseHandler answers by the house baseline.
func houseHandler(tb testing.TB, change func(*admission.HandlerOptions)) http.Handler {
	tb.Helper()
	engines := admission.Engines{
		Fail: newEngine(tb, "house", house, v1alpha1.FailClosed), Ignore: newEngine(tb, "house", house, v1alpha1.FailOpen), Mutate: newEngine(tb, "house", house, ""),
	}
	opts := admission.HandlerOptions{Options: admission.Options{Baseline: "house"}, Engines: func() admission.Engines { return engines }}
	if change != nil {
		change(&opts)
	}
	return admission.NewHandler(opts)
}

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func TestHandlerAnswers(t *testing.T) {
	var answers []admission.Answer
	h := houseHandler(t, func(o *admission.HandlerOptions) {
		o.Answered = func(a admission.Answer) { answers = append(answers, a) }
	})
	for _, c := range []struct {
		path    string
		object  string
		allowed bool
	}{
		{admission.FailPath, pod("", privileged), false},
		{admission.FailPath, pod(`"hostNetwork":true,`, ""), true}, // a rule of the other webhook
		{admission.IgnorePath, pod(`"hostNetwork":true,`, ""), false},
		{admission.IgnorePath, pod("", privileged), true},
		{admission.IgnorePath, pod("", ""), true},
	} {
		req := podRequest([]byte(c.object))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(c.path+"?timeout=5s", string(reviewOf(t, req))))
		var got admissionv1.AdmissionReview
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", c.path, w.Code, w.Body)
		}
		if got.APIVersion != "admission.k8s.io/v1" || got.Kind != "AdmissionReview" || got.Response.UID != req.UID || got.Response.Allowed != c.allowed {
			t.Errorf("%s %s: %+v", c.path, c.object, got.Response)
		}
	}
	if len(answers) != 5 || answers[0].Request.UserInfo.Username != "alice" || answers[0].Policy != v1alpha1.FailClosed || answers[0].Outcome.Decision != admission.Denied {
		t.Errorf("answers: %+v", answers)
	}
}

func TestHandlerRefuses(t *testing.T) {
	good := string(reviewOf(t, podRequest([]byte(pod("", "")))))
	huge := strings.Repeat(" ", 1<<20)
	for _, c := range []struct {
		name    string
		request *http.Request
		status  int
		reason  string
		says    string
	}{
		{"GET", httptest.NewRequest(http.MethodGet, admission.FailPath, nil), 405, "method", "want POST"},
		{"another path", post("/validate", good), 404, "", "not found"},
		{"no body", post(admission.FailPath, ""), 400, "body", "line 1, column 1:"},
		{"form", func() *http.Request {
			r := post(admission.FailPath, good)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return r
		}(), 415, "type", "want application/json"},
		{"cut off", post(admission.FailPath, good[:len(good)/2]), 400, "body", "no AdmissionReview"},
		{"malformed", post(admission.FailPath, `{"apiVersion": tru}`), 400, "body", "line 1, column 16:"},
		{"an array", post(admission.FailPath, `[]`), 400, "version", "want admission.k8s.io/v1"},
		{"v1beta1", post(admission.FailPath, strings.Replace(good, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1)), 400, "version", `"admission.k8s.io/v1beta1"`},
		{"another kind", post(admission.FailPath, pod("", "")), 400, "version", `kind "Pod"`},
		{"no request", post(admission.FailPath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), 400, "body", "no request"},
		{"a request that is a string", post(admission.FailPath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":"x"}`), 400, "body", "no request"},
		{"no uid", post(admission.FailPath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}`), 400, "body", "no uid"},
		{"a key twice", post(admission.FailPath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","kind":"x"}`), 400, "body", "stands twice"},
		{"too long, and says so", post(admission.FailPath, huge), 413, "size", "larger than"},
		{"too long, and does not say so", func() *http.Request {
			r := post(admission.FailPath, "")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(huge)), -1
			return r
		}(), 413, "size", "larger than"},
		{"deep", post(admission.FailPath, strings.Repeat("[", 100_000)), 400, "body", "nested deeper"},
		{"many values", post(admission.FailPath, "["+strings.Repeat("1,", 249_999)+"1]"), 400, "version", "want"},
		{"binary", post(admission.FailPath, "\x00\x01"), 400, "body", "0x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reason string
			h := houseHandler(t, func(o *admission.HandlerOptions) {
				o.Limits.Body = 512 << 10
				o.Refused = func(r string) { reason = r }
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, c.request)
			if w.Code != c.status || reason != c.reason || !strings.Contains(w.Body.String(), c.says) || w.Body.Len() > 600 {
				t.Errorf("status %d, reason %q, body %q; want %d, %q, …%s…", w.Code, reason, w.Body, c.status, c.reason, c.says)
			}
		})
	}
}

// TestHandlerReadsWhatIsStored holds that an object as large as etcd takes is
// judged, and that one which cannot be read is denied: refused, it would pass
// where the failure policy is Ignore.
func TestHandlerReadsWhatIsStored(t *testing.T) {
	h := houseHandler(t, nil)
	filled := pod(`"hostNetwork":true,`, `"args":["`+strings.Repeat("<", 3<<19)+`"],`)
	for name, c := range map[string]struct {
		object, old, says string
		path              string
		allowed           bool
	}{
		"escaped":            {filled, "", "host-network", admission.IgnorePath, false},
		"many values":        {manyValues(), "", "could not judge", admission.IgnorePath, false},
		"deep":               {strings.Replace(filled, `"spec"`, `"deep":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`,"spec"`, 1), "", "could not judge", admission.IgnorePath, false},
		"deep, to be mended": {strings.Replace(filled, `"spec"`, `"deep":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`,"spec"`, 1), "", "could not judge", admission.MutatePath, true},
	} {
		t.Run(name, func(t *testing.T) {
			req := podRequest([]byte(c.object))
			if c.old != "" {
				req.Operation, req.OldObject.Raw = admissionv1.Update, []byte(c.old)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, post(c.path, string(reviewOf(t, req))))
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if got.Response.UID != req.UID || got.Response.Allowed != c.allowed || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%.500s", w.Body)
			}
		})
	}
}

func TestHandlerIsNotReady(t *testing.T) {
	h := houseHandler(t, func(o *admission.HandlerOptions) {
		o.Engines = func() admission.Engines { return admission.Engines{} }
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, post(admission.FailPath, string(reviewOf(t, podRequest([]byte(pod("", "")))))))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHandlerSurvivesFault(t *testing.T) {
	var reason string
	h := houseHandler(t, func(o *admission.HandlerOptions) {
		o.Refused = func(r string) { reason = r }
		o.Engines = func() admission.Engines { return admission.Engines{Fail: new(engine.Engine)} }
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, post(admission.FailPath, string(reviewOf(t, podRequest([]byte(pod("", privileged)))))))
	if w.Code != http.StatusInternalServerError || reason != "fault" || strings.Contains(w.Body.String(), ".go") {
		t.Errorf("%d %q %s", w.Code, reason, w.Body)
	}
}

// authorityOf makes an authority and a client certificate of it.
func authorityOf(tb testing.TB, name string) (*x509.CertPool, tls.Certificate) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}
}

// serve serves a handler over TLS and returns a client that trusts it.
func serve(tb testing.TB, h http.Handler, clients *x509.CertPool) (string, *http.Transport) {
	tb.Helper()
	certificates := admission.NewCertificates(admission.CertificateOptions{Store: &memory{}, Names: []string{"127.0.0.1"}})
	bundle, err := certificates.Refresh(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := admission.NewServer(admission.ServerOptions{Handler: h, Certificate: certificates.GetCertificate, ClientCAs: clients})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = admission.Serve(l, s)
	}()
	tb.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	return "https://" + l.Addr().String(), &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
}

func closeBody(tb testing.TB, res *http.Response) {
	tb.Helper()
	if err := res.Body.Close(); err != nil {
		tb.Error(err)
	}
}

func TestClientCertificates(t *testing.T) {
	pool, right := authorityOf(t, "kube-apiserver")
	_, stranger := authorityOf(t, "kube-apiserver")
	good := reviewOf(t, podRequest([]byte(pod("", ""))))
	for _, c := range []struct {
		name   string
		allow  string
		cert   *tls.Certificate
		status int // 0: not let in
	}{
		{"the API server", "kube-apiserver", &right, 200},
		{"another name", "front-proxy", &right, 403},
		{"of another authority", "kube-apiserver", &stranger, 0},
		{"none", "kube-apiserver", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, transport := serve(t, houseHandler(t, func(o *admission.HandlerOptions) { o.Clients = []string{c.allow} }), pool)
			defer transport.CloseIdleConnections()
			if c.cert != nil {
				transport.TLSClientConfig.Certificates = []tls.Certificate{*c.cert}
			}
			res, err := (&http.Client{Transport: transport}).Post(url+admission.FailPath, "application/json", bytes.NewReader(good))
			if (err != nil) != (c.status == 0) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			closeBody(t, res)
			if res.StatusCode != c.status {
				t.Errorf("status %d; want %d", res.StatusCode, c.status)
			}
		})
	}
}

// TestSlowBodies lets many callers send a byte and no more: none of them holds
// up another, and each is told in the end.
func TestSlowBodies(t *testing.T) {
	refused := make(chan string, 100)
	url, transport := serve(t, houseHandler(t, func(o *admission.HandlerOptions) {
		o.Limits = admission.Limits{Timeout: 2 * time.Second, Parallel: 1}
		o.Refused = func(r string) { refused <- r }
	}), nil)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	const slow = 50
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer wg.Wait()
	defer cancel()
	for range slow {
		wg.Go(func() {
			r, w := io.Pipe()
			defer func() { _ = w.Close() }()
			go func() { _, _ = w.Write([]byte("{")) }()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+admission.FailPath, r)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := client.Do(req)
			if err == nil {
				closeBody(t, res)
			}
		})
	}
	res, err := client.Post(url+admission.FailPath, "application/json", bytes.NewReader(reviewOf(t, podRequest([]byte(pod("", ""))))))
	if err != nil {
		t.Fatal(err)
	}
	closeBody(t, res)
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d beside slow callers", res.StatusCode)
	}
	deadline := time.After(20 * time.Second)
	for range slow {
		select {
		case reason := <-refused:
			if reason != "slow" {
				t.Errorf("refused as %q; want slow", reason)
			}
		case <-deadline:
			t.Fatal("slow callers are held")
		}
	}
}

// TestTenThousandAtOnce asks from 10,000 callers at once, each with a body that
// is costly to parse. Everybody gets an answer or a clear refusal, and the memory
// stays bounded.
func TestTenThousandAtOnce(t *testing.T) {
	h := houseHandler(t, nil)
	object := strings.Replace(pod("", ""), `"spec"`, `"data":[`+strings.Repeat("1,", 20_000)+`1],"spec"`, 1)
	body := reviewOf(t, podRequest([]byte(object)))
	var peak atomic.Uint64
	watch, stop := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watch.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			runtime.Gosched()
		}
	})
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var counts [600]atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 10_000 {
		wg.Go(func() {
			<-start
			w := &counter{header: http.Header{}}
			r := httptest.NewRequest(http.MethodPost, admission.FailPath, bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(w, r)
			counts[w.status].Add(1)
		})
	}
	close(start)
	wg.Wait()
	stop()
	watcher.Wait()
	ok, busy, later := counts[200].Load(), counts[429].Load(), counts[503].Load()
	grown := int64(peak.Load()) - int64(before.HeapInuse)
	t.Logf("10,000 requests of %d KiB: %d answered, %d told that it is busy, %d to come later; the heap grew by %d MiB", len(body)>>10, ok, busy, later, grown>>20)
	if ok+busy+later != 10_000 || ok == 0 {
		t.Errorf("%d answered, %d busy, %d later: not all", ok, busy, later)
	}
	if limit := int64(300 << 20); grown > limit {
		t.Errorf("the heap grew by %d MiB; want at most %d", grown>>20, limit>>20)
	}
}

// counter is a response writer that keeps the status.
type counter struct {
	header http.Header
	status int
}

func (c *counter) Header() http.Header { return c.header }
func (c *counter) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

func (c *counter) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return len(b), nil
}

// TestUnknownKindsCostNothing asks about kinds that nobody has heard of: what a
// caller makes up must not stay.
func TestUnknownKindsCostNothing(t *testing.T) {
	h := houseHandler(t, nil)
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			object := fmt.Sprintf(`{"apiVersion":"g%d.example.com/v1","kind":"K%s","metadata":{"name":"x"}}`, i, strings.Repeat("x", 1000))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, post(admission.FailPath, string(reviewOf(t, podRequest([]byte(object))))))
			if w.Code != http.StatusOK {
				t.Fatal(w.Code, w.Body)
			}
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	ask(0, 5000)
	before := heap()
	ask(5000, 15_000)
	grown := heap() - before
	runtime.KeepAlive(h)
	if grown > 2<<20 {
		t.Errorf("10,000 kinds left %d KiB behind", grown>>10)
	}
}

func TestMutate(t *testing.T) {
	const mending = `
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: mending}
spec:
  title: Mends what can be mended
  controls:
  - {name: privileged-container, remediate: true}
  - {name: host-network, remediate: true}
  - {name: host-pid}
`
	e := newEngine(t, "mending", mending, "")
	for _, c := range []struct {
		name, object string
		request      func(*admissionv1.AdmissionRequest)
		patch        string
	}{
		{name: "what passes", object: pod("", "")},
		{name: "a value", object: pod("", privileged), patch: `[{"op":"replace","path":"/spec/containers/0/securityContext/privileged","value":false}]`},
		{name: "a field", object: pod(`"hostNetwork":true,`, ""), patch: `[{"op":"remove","path":"/spec/hostNetwork"}]`},
		{name: "a rule that says no", object: pod(`"hostPID":true,`, "")},
		{name: "an update", object: pod("", privileged), request: operation(admissionv1.Update)},
		{name: "a controller's pod", object: owned(pod("", privileged)), patch: `[{"op":"replace","path":"/spec/containers/0/securityContext/privileged","value":false}]`},
		{name: "a controller's ReplicaSet", object: `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"w","ownerReferences":[{"controller":true}]},"spec":{"template":` + pod("", privileged) + `}}`},
		{name: "excused", object: strings.Replace(pod("", privileged), `"metadata":{`, `"metadata":{"annotations":{"except.sconce.dev/privileged-container":"until 2027-01-31: formats the disks"},`, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := podRequest([]byte(c.object))
			if c.request != nil {
				c.request(req)
			}
			out := admission.Mutate(e, req, admission.Options{})
			if got := string(out.Response.Patch); got != c.patch || !out.Response.Allowed || (got != "") != (out.Response.PatchType != nil) || (got != "") != (len(out.Mutated) > 0) {
				t.Errorf("patch %s; want %s", got, c.patch)
			}
		})
	}
}

// FuzzHandler sends what is no AdmissionReview, or nearly one: it gets an answer
// or a refusal, and never meets a fault.
func FuzzHandler(f *testing.F) {
	h := houseHandler(f, nil)
	req := podRequest([]byte(pod(`"hostNetwork":true,`, privileged)))
	f.Add(admission.FailPath, string(reviewOf(f, req)))
	req.Operation, req.OldObject.Raw = admissionv1.Update, []byte(pod("", ""))
	f.Add(admission.IgnorePath, string(reviewOf(f, req)))
	f.Add(admission.MutatePath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","object":{"apiVersion":"v1","kind":"PodList","items":[1]}}}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != admission.FailPath && path != admission.IgnorePath {
			path = admission.MutatePath
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(path, body))
		switch w.Code {
		case http.StatusOK:
			var review admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil || review.Response == nil || review.Response.UID == "" {
				t.Errorf("%q: answer %s", body, w.Body)
			}
		case http.StatusBadRequest:
		default:
			t.Errorf("%q: status %d: %s", body, w.Code, w.Body)
		}
	})
}
