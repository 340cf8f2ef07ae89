// SPDX-License-Identifier: Apache-2.0

package rego_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
)

// TestNetwork holds what rules are answered that call out, where that is allowed.
func TestNetwork(t *testing.T) {
	var asked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a host was called that is not allowed") }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/owner":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"owner": ""}`)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		}
	}))
	defer server.Close()
	var waiting atomic.Int32
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		<-r.Context().Done()
	}))
	defer slow.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	gone := httptest.NewServer(nil)
	gone.Close()
	network := &policy.Network{Hosts: []string{host, strings.TrimPrefix(gone.URL, "http://"), strings.TrimPrefix(slow.URL, "http://"), "localhost", "no.such.invalid"}, Timeout: 300 * time.Millisecond}
	for _, test := range []struct{ name, rego, want string }{
		{"what is answered", `deny contains "no owner" if http.send({"method": "GET", "url": "` + server.URL + `/owner"}).body.owner == ""`, "fail; no owner"},
		{"what holds", `deny contains "no owner" if http.send({"method": "GET", "url": "` + server.URL + `/owner"}).body.owner == "x"`, "pass"},
		{"a host that is not allowed", `deny contains "x" if http.send({"method": "GET", "url": "` + other.URL + `"}).status_code == 200`, "unknown; it calls http.send: calls to"},
		{"a host that is not allowed, and an error is no error", `deny contains "x" if http.send({"method": "GET", "url": "` + other.URL + `", "raise_error": false}).status_code == 200`, "unknown; it calls http.send: calls to"},
		{"a redirect away", `deny contains "x" if http.send({"method": "GET", "enable_redirect": true, "url": "` + server.URL + `/away"}).status_code == 200`, "unknown; it calls http.send, and " + host + " sends to another host: calls to"},
		{"a redirect away, and an error is no error", `deny contains "x" if http.send({"method": "GET", "enable_redirect": true, "raise_error": false, "url": "` + server.URL + `/away"}).status_code == 200`, "unknown; it calls http.send: calls to"},
		{"nobody answers", `deny contains "x" if http.send({"method": "GET", "url": "` + gone.URL + `/?token=hidden"}).status_code == 200`, "unknown; it calls http.send, and " + strings.TrimPrefix(gone.URL, "http://") + " does not answer: dial tcp"},
		{"too late", `deny contains "x" if http.send({"method": "GET", "url": "` + slow.URL + `/?token=hidden"}).status_code == 200`, "unknown; it calls http.send, and " + strings.TrimPrefix(slow.URL, "http://") + " does not answer: there was no answer in the time"},
		{"a file", `deny contains "x" if http.send({"method": "GET", "url": "` + server.URL + `", "tls_ca_cert_file": "/etc/passwd"}).status_code == 200`, "unknown; it calls http.send: tls_ca_cert_file would read a file"},
		{"the environment", `deny contains "x" if http.send({"method": "GET", "url": "` + server.URL + `", "tls_client_key_env_variable": "HOME"}).status_code == 200`, "unknown; it calls http.send: tls_client_key_env_variable would read"},
		{"a socket", `deny contains "x" if http.send({"method": "GET", "url": "unix://localhost/var/run/docker.sock"}).status_code == 200`, "unknown; it calls http.send: its url is not one of http or https"},
		{"no valid method", `deny contains "x" if http.send({"method": "G ET", "url": "` + server.URL + `"}).status_code == 200`, "unknown; it calls http.send, which did not work"},
		{"no request", `deny contains "x" if http.send({"method": "GET", "url": input.absent}).status_code == 200`, "pass"},
		{"an address", `deny contains a if { some a in net.lookup_ip_addr("localhost"); a == "127.0.0.1" }`, "fail; 127.0.0.1"},
		{"the address of a host that is not allowed", `deny contains a if some a in net.lookup_ip_addr("example.com")`, "unknown; it calls net.lookup_ip_addr: calls to"},
		{"the address of a host that there is not", `deny contains a if some a in net.lookup_ip_addr("no.such.invalid")`, "unknown; it calls net.lookup_ip_addr, and the addresses of"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := load(t, "package main\n"+test.rego).Rules[0]
			if why := r.Info().Unsupported; why != "" {
				t.Fatalf("it cannot be run: %s", why)
			}
			got := said(r.Judge(t.Context(), &policy.Request{Object: pod(t), Network: network}))
			if !strings.HasPrefix(got, test.want) || strings.Contains(got, "hidden") {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	t.Run("an answer that is kept", func(t *testing.T) {
		for _, asks := range []string{
			`"method": "GET"`, `"method": "POST", "body": {"a": 1}`, `"method": "GET", "headers": {"X-Team": "shop"}`, `"method": "GET", "tls_server_name": "shop"`,
			`"method": "GET", "tls_server_name": "stock"`, `"method": "GET", "force_cache": true, "force_cache_duration_seconds": 60`,
		} {
			r := load(t, "package main\n"+`deny contains "no owner" if http.send({`+asks+`, "url": "`+server.URL+`/owner?kept"}).body.owner == ""`).Rules[0]
			before := asked.Load()
			for range 20 {
				if got := said(r.Judge(t.Context(), &policy.Request{Object: pod(t), Network: network})); got != "fail; no owner" {
					t.Fatal(got)
				}
			}
			// The last asks what the first did.
			if n := asked.Load() - before; n != 1 && !strings.Contains(asks, "force_cache") {
				t.Errorf("%s: the host was asked %d times, want once", asks, n)
			}
		}
	})
	t.Run("a host that is left alone", func(t *testing.T) {
		start, before := time.Now(), waiting.Load()
		for i := range 100 {
			for _, special := range []string{"", `, "tls_insecure_skip_verify": true`} {
				r := load(t, fmt.Sprintf("package main\ndeny contains 1 if http.send({\"method\": \"GET\", \"url\": \"%s/?n=%d\"%s}).status_code == 200", slow.URL, i, special)).Rules[0]
				if got := said(r.Judge(t.Context(), &policy.Request{Object: pod(t), Network: network})); !strings.Contains(got, "does not answer: there was no answer in ") {
					t.Fatal(got)
				}
			}
		}
		if took, n := time.Since(start), waiting.Load()-before; took > 5*time.Second || n > 4 {
			t.Errorf("it took %v, and the host was asked %d times", took, n)
		}
	})
}
