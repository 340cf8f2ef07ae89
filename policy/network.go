// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Network is what rules may ask outside of what was read: what a baseline allows.
// A nil one allows nothing. What a rule would ask and may not is unknown.
type Network struct {
	// Hosts are those that calls over HTTP may reach: a name or an address, with
	// a port where only that one is meant; "*.example.com" is every name below
	// example.com.
	Hosts []string
	// Registries are those that images may be looked up in, in the same form.
	// Docker Hub is docker.io.
	Registries []string
	// TrustedRoot is the trusted_root.json by which signatures without a key are
	// verified; empty where they cannot be.
	TrustedRoot []byte
	// Timeout bounds what one rule asks for one object, and replaces the bound of
	// a rule over an object; ten seconds where it is zero.
	Timeout time.Duration

	shared sync.Map
}

// Limit is how long one rule may take over one object where it asks the network.
func (n *Network) Limit() time.Duration {
	if n.Timeout > 0 {
		return n.Timeout
	}
	return 10 * time.Second
}

// RefusedError says that something may not be asked.
type RefusedError struct{ What string }

// Error implements error.
func (e *RefusedError) Error() string { return e.What }

// Refused says whether an error is that something may not be asked.
func Refused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// Host says why a host, with or without a port, may not be called; nil if it may.
func (n *Network) Host(host string) error {
	if n == nil || !allows(n.Hosts, host) {
		return refuse("calls to %q are not allowed; a baseline allows them in spec.network.hosts", host)
	}
	return nil
}

// Registry says why a registry may not be asked; nil if it may.
func (n *Network) Registry(registry string) error {
	if n == nil || !allows(n.Registries, registry) {
		return refuse("asking the registry %q is not allowed; a baseline allows it in spec.network.registries", registry)
	}
	return nil
}

// allows says whether one of the patterns means a host.
func allows(patterns []string, host string) bool {
	name, port := host, ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		name, port = h, p
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		wanted, onlyPort := pattern, ""
		if h, p, err := net.SplitHostPort(pattern); err == nil {
			wanted, onlyPort = h, p
		}
		if onlyPort != "" && onlyPort != port {
			return false
		}
		wanted = strings.ToLower(strings.Trim(wanted, "[]"))
		if domain, ok := strings.CutPrefix(wanted, "*"); ok {
			return len(domain) > 1 && domain[0] == '.' && strings.HasSuffix(name, domain)
		}
		return name == wanted
	})
}

// HTTP sends what rules ask to allowed hosts, and refuses the rest: a redirect to
// another host, too.
func (n *Network) HTTP(through http.RoundTripper) http.RoundTripper {
	return guard{n, through}
}

type guard struct {
	network *Network
	through http.RoundTripper
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.network.Host(r.URL.Host); err != nil {
		return nil, err
	}
	response, err := g.through.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &bounded{body: response.Body, left: maxAnswer}
	return response, nil
}

// maxAnswer bounds an answer over HTTP, in bytes.
const maxAnswer = 4 << 20

// bounded reads no more than what is left.
type bounded struct {
	body io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	n, err := b.body.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	if b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	return n, err
}

func (b *bounded) Close() error { return b.body.Close() }

// OnceFor returns what build made for the network when it was first asked for
// under the key, so that rules share clients and what they were answered. Keys
// are of types that packages keep to themselves.
func OnceFor[T any](n *Network, key any, build func() T) T {
	once, _ := n.shared.LoadOrStore(key, &lazy[T]{})
	return once.(*lazy[T]).get(build)
}
