// SPDX-License-Identifier: Apache-2.0

package service

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
)

// serve runs a service that counts its calls.
func serve(t *testing.T, f http.HandlerFunc) (s *httptest.Server, host string, calls *atomic.Int32) {
	t.Helper()
	calls = &atomic.Int32{}
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s, strings.TrimPrefix(s.URL, "http://"), calls
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusTeapot)
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-Team"), body)
}

func wantUnknown(t *testing.T, err error, words ...string) {
	t.Helper()
	var unknown *answers.UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v; want that it is unknown", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q; want %q in it", err, w)
		}
	}
}

func TestDo(t *testing.T) {
	s, host, calls := serve(t, echo)
	n := &policy.Network{Hosts: []string{host}}
	call := Call{Method: "POST", URL: s.URL + "/a", Headers: []Header{{"X-Team", "shop"}}, Body: []byte(`{"a":1}`)}
	for range 1000 {
		reply, err := Of(n).Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(reply.Status, " ", string(reply.Body)); got != `418 POST shop {"a":1}` {
			t.Fatalf("got %s", got)
		}
	}
	if calls.Load() != 1 {
		t.Errorf("the service was called %d times; want once", calls.Load())
	}
	call.Body = []byte("else")
	if reply, err := Of(n).Do(t.Context(), call); err != nil || !strings.HasSuffix(string(reply.Body), "else") || calls.Load() != 2 {
		t.Errorf("another call: got %v, %v after %d calls", reply, err, calls.Load())
	}
}

// TestNotAllowed holds that a host that is not named is not called at all, also
// where another one sends there.
func TestNotAllowed(t *testing.T) {
	s, host, calls := serve(t, echo)
	for _, n := range []*policy.Network{nil, {}, {Hosts: []string{"example.com"}, Registries: []string{host}}} {
		_, err := Of(n).Do(t.Context(), Call{Method: "GET", URL: s.URL})
		wantUnknown(t, err, host, "spec.network.hosts")
	}
	from, allowed, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL+"/secret", http.StatusFound) })
	_, err := Of(&policy.Network{Hosts: []string{allowed}}).Do(t.Context(), Call{Method: "GET", URL: from.URL})
	wantUnknown(t, err, allowed+" sends to another host", host)
	if calls.Load() != 0 {
		t.Errorf("the host that is not allowed was called %d times", calls.Load())
	}
	for _, u := range []string{"", "file:///etc/passwd", "example.com", "://", "gopher://example.com"} {
		if _, err := Of(&policy.Network{Hosts: []string{"example.com"}}).Do(t.Context(), Call{Method: "GET", URL: u}); err == nil {
			t.Errorf("%q is called", u)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	slow, host, calls := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	n := &policy.Network{Hosts: []string{host}, Timeout: 100 * time.Millisecond}
	start := time.Now()
	for i := range 100 {
		_, err := Of(n).Do(t.Context(), Call{Method: "GET", URL: fmt.Sprintf("%s/?token=sesame&n=%d", slow.URL, i)})
		wantUnknown(t, err, host+" does not answer: there was no answer in 100ms")
	}
	if took := time.Since(start); took > 5*time.Second || calls.Load() != 1 {
		t.Errorf("it took %v and %d calls", took, calls.Load())
	}
	huge, host, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxBody+1)) })
	_, err := Of(&policy.Network{Hosts: []string{host}}).Do(t.Context(), Call{Method: "GET", URL: huge.URL})
	wantUnknown(t, err, "more than 2000000 bytes")
	gone, host, _ := serve(t, echo)
	gone.Close()
	_, err = Of(&policy.Network{Hosts: []string{host}}).Do(t.Context(), Call{Method: "GET", URL: gone.URL + "/?token=sesame"})
	wantUnknown(t, err, "connection refused")
	if strings.Contains(err.Error(), "sesame") {
		t.Errorf("the error shows the address: %v", err)
	}
	_, err = Of(&policy.Network{Hosts: []string{host}}).Do(t.Context(), Call{Method: "POST", URL: gone.URL, Body: make([]byte, maxRequest)})
	wantUnknown(t, err, "at most")
}

func TestCABundle(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer s.Close()
	s.Config.ErrorLog = nil
	n := func() *policy.Network { return &policy.Network{Hosts: []string{"127.0.0.1"}} }
	bundle := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if reply, err := Of(n()).Do(t.Context(), Call{Method: "GET", URL: s.URL, CABundle: bundle}); err != nil || reply.Status != http.StatusTeapot {
		t.Errorf("got %v, %v", reply, err)
	}
	_, err := Of(n()).Do(t.Context(), Call{Method: "GET", URL: s.URL})
	wantUnknown(t, err, "certificate")
	if _, err := Of(n()).Do(t.Context(), Call{Method: "GET", URL: s.URL, CABundle: "none"}); err == nil || !strings.Contains(err.Error(), "caBundle") {
		t.Errorf("got %v", err)
	}
}
