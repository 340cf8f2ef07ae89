// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNetworkAllows(t *testing.T) {
	n := &Network{Hosts: []string{"cmdb.example.com", "*.corp.example", "127.0.0.1:8080", "[::1]:80"}, Registries: []string{"docker.io"}}
	for host, want := range map[string]bool{
		"cmdb.example.com":          true,
		"CMDB.Example.com:8443":     true,
		"a.cmdb.example.com":        false,
		"cmdb.example.com.evil.org": false,
		"a.corp.example":            true,
		"a.b.corp.example:443":      true,
		"corp.example":              false,
		"evilcorp.example":          false,
		"127.0.0.1:8080":            true,
		"127.0.0.1:8081":            false,
		"127.0.0.1":                 false,
		"[::1]:80":                  true,
		"[::1]:81":                  false,
		"":                          false,
		"docker.io":                 false,
	} {
		if got := n.Host(host) == nil; got != want {
			t.Errorf("%q is allowed: %v, want %v", host, got, want)
		}
	}
	if n.Registry("docker.io") != nil || n.Registry("cmdb.example.com") == nil {
		t.Error("hosts and registries are allowed apart from each other")
	}
	if !Refused((*Network)(nil).Host("x")) || !Refused((*Network)(nil).Registry("x")) {
		t.Error("no network allows something")
	}
	for _, pattern := range []string{"*", "*.", "", "*example.com"} {
		if (&Network{Hosts: []string{pattern}}).Host("a.example.com") == nil {
			t.Errorf("%q allows a.example.com", pattern)
		}
	}
}

// TestNetworkHTTP holds that a redirect reaches no other host, and that answers
// are bounded.
func TestNetworkHTTP(t *testing.T) {
	reached := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer+1))
		case "/full":
			_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer))
		}
	}))
	defer server.Close()
	n := &Network{Hosts: []string{strings.TrimPrefix(server.URL, "http://")}}
	client := &http.Client{Transport: n.HTTP(http.DefaultTransport)}
	get := func(path string) (int, error) {
		r, err := client.Get(server.URL + path)
		if err != nil {
			return 0, err
		}
		defer func() { _ = r.Body.Close() }()
		body, err := io.ReadAll(r.Body)
		return len(body), err
	}
	if _, err := get("/away"); !Refused(err) || reached > 0 {
		t.Errorf("a redirect to another host: %v, %d requests reached it", err, reached)
	}
	if size, err := get("/full"); err != nil || size != maxAnswer {
		t.Errorf("an answer of %d bytes: %d, %v", maxAnswer, size, err)
	}
	if _, err := get("/large"); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("an answer of more than %d bytes: %v", maxAnswer, err)
	}
}
