// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Transport bounds what a registry may do: it is spoken to over plain HTTP only
// on this machine, wherever it redirects to, and its answers have an end.
type Transport struct {
	http.RoundTripper
	// Plain allows plain HTTP to other machines, too.
	Plain bool
	// Apart refuses plain HTTP to this machine: for registries that are elsewhere.
	Apart bool
	// Max is how many bytes one answer may have.
	Max int64
}

var (
	errPlain = errors.New("it would be spoken to over plain HTTP; use a registry with HTTPS, or allow plain HTTP")
	errLarge = errors.New("an answer is larger than what is read")
)

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !t.Plain && (t.Apart || !Loopback(r.URL.Hostname())) {
		return nil, fmt.Errorf("the registry %s: %w", r.URL.Host, errPlain)
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&bounded{resp.Body, t.Max}, resp.Body}
	}
	return resp, err
}

// Loopback says whether a host is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// bounded ends with an error, not with the end, when there is more.
type bounded struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errLarge
	}
	return n, err
}
