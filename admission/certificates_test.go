// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sconce.dev/sconce/admission"
)

// memory is a store as a Secret is one.
type memory struct {
	mu      sync.Mutex
	data    map[string][]byte
	version int
	saves   int
	// before, if it is set, is called before what is saved is looked at.
	before func()
	err    error
}

func (m *memory) Load(context.Context) (map[string][]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return nil, "", m.err
	}
	return maps.Clone(m.data), fmt.Sprint(m.version), m.err
}

func (m *memory) Save(_ context.Context, data map[string][]byte, version string) error {
	if before := m.before; before != nil {
		m.before = nil
		before()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil && version != "" || m.data != nil && version != fmt.Sprint(m.version) {
		return admission.ErrConflict
	}
	m.data, m.version, m.saves = maps.Clone(data), m.version+1, m.saves+1
	return nil
}

const service = "sconce.sconce-system.svc"

// replica is a process that serves.
type replica struct {
	*admission.Certificates
	skew time.Duration
}

// world is what rotates: a clock, a store, replicas, and what API servers may
// hold.
type world struct {
	now      time.Time
	store    *memory
	replicas []*replica
	verified map[string]error // by bundle and certificate
}

func newWorld(replicas int, opts admission.CertificateOptions) *world {
	w := &world{now: today, store: &memory{}, verified: map[string]error{}}
	for range replicas {
		r := &replica{}
		opts.Store, opts.Names = w.store, []string{service, "127.0.0.1"}
		opts.Now = func() time.Time { return w.now.Add(r.skew) }
		r.Certificates = admission.NewCertificates(opts)
		w.replicas = append(w.replicas, r)
	}
	return w
}

// trusts says why an API server that holds the bundle refuses a replica.
func (w *world) trusts(bundle []byte, r *replica) error {
	cert, err := r.GetCertificate(&tls.ClientHelloInfo{ServerName: service})
	if err != nil {
		return err
	}
	if w.now.Before(cert.Leaf.NotBefore) || w.now.After(cert.Leaf.NotAfter) {
		return fmt.Errorf("at %s the certificate holds from %s to %s", w.now, cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	}
	key := string(bundle) + string(cert.Leaf.Raw)
	if err, ok := w.verified[key]; ok {
		return err // no authority ends before what it signed
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return errors.New("the bundle holds no certificate")
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: service, Roots: pool, CurrentTime: w.now})
	w.verified[key] = errors.Join(err, cert.Leaf.VerifyHostname("127.0.0.1"))
	return w.verified[key]
}

// TestRotationIsNeverRefused lets replicas with clocks that differ refresh, and
// API servers take over bundles, as late as they may and in any order, over
// several lives of authorities.
func TestRotationIsNeverRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const overlap, step = 48 * time.Hour, 16 * time.Hour
		w := newWorld(2, admission.CertificateOptions{Life: 5 * 24 * time.Hour, CALife: 30 * 24 * time.Hour, Overlap: overlap})
		for _, r := range w.replicas {
			r.skew = time.Duration(rapid.IntRange(-10, 10).Draw(t, "skew")) * time.Minute
		}
		type held struct {
			bundle []byte
			age    time.Duration // since there was a newer one
		}
		servers := make([]held, 2)
		var published []byte
		var unpublished time.Duration // since there was a newer bundle
		stale := make([]time.Duration, len(w.replicas))
		roots := map[string]bool{}
		for range 70 * 24 / 16 {
			w.now = w.now.Add(step)
			for i, r := range w.replicas {
				if stale[i] += step; stale[i] < overlap && published != nil && rapid.IntRange(0, 2).Draw(t, "idle") > 0 {
					continue
				}
				stale[i] = 0
				bundle, err := r.Refresh(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if published == nil {
					servers[0].bundle, servers[1].bundle = bundle, bundle
				}
				if unpublished += step; bytes.Equal(published, bundle) {
					unpublished = 0
				}
				if rapid.Bool().Draw(t, "publishes") || published == nil || unpublished >= overlap {
					unpublished = 0
					published = bundle
					if err := r.Published(t.Context(), bundle); err != nil {
						t.Fatal(err)
					}
				}
			}
			for i := range servers {
				s := &servers[i]
				if bytes.Equal(s.bundle, published) {
					s.age = 0
				} else if s.age += step; s.age >= overlap || rapid.Bool().Draw(t, "watch") {
					s.bundle, s.age = published, 0
				}
				for k, r := range w.replicas {
					if r.Expires().IsZero() {
						continue
					}
					if err := w.trusts(s.bundle, r); err != nil {
						t.Fatalf("on %s API server %d refuses replica %d: %v", w.now, i, k, err)
					}
				}
			}
			roots[string(w.store.data["signer.crt"])] = true
		}
		if len(roots) < 3 {
			t.Fatalf("%d authorities in 70 days of 30 each; want rotations", len(roots))
		}
	})
}

func TestOneReplicaRotates(t *testing.T) {
	w := newWorld(2, admission.CertificateOptions{})
	a, b := w.replicas[0], w.replicas[1]
	w.store.before = func() {
		if _, err := b.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	first, err := a.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range w.replicas {
		if err := w.trusts(first, r); err != nil {
			t.Errorf("replica %d: %v", i, err)
		}
	}
	if w.store.saves != 1 {
		t.Errorf("stored %d times; want once: who is second takes over what the first made", w.store.saves)
	}
}

func TestServingCertificateIsRenewed(t *testing.T) {
	w := newWorld(1, admission.CertificateOptions{Life: 90 * 24 * time.Hour})
	r := w.replicas[0]
	bundle, err := r.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expires := r.Expires()
	for _, c := range []struct {
		after   time.Duration
		renewed bool
	}{{59 * 24 * time.Hour, false}, {61 * 24 * time.Hour, true}} {
		w.now = today.Add(c.after)
		if _, err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := !r.Expires().Equal(expires); got != c.renewed {
			t.Errorf("after %s renewed: %v; want %v", c.after, got, c.renewed)
		}
	}
	if err := w.trusts(bundle, r); err != nil {
		t.Errorf("the bundle from before: %v", err)
	}
}

func TestNewAuthorityWaitsUntilItIsPublished(t *testing.T) {
	w := newWorld(1, admission.CertificateOptions{CALife: 365 * 24 * time.Hour, Overlap: time.Hour})
	r := w.replicas[0]
	old, err := r.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.now = today.Add(300 * 24 * time.Hour)
	for range 10 { // nobody can publish
		w.now = w.now.Add(24 * time.Hour)
		if _, err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.trusts(old, r); err != nil {
			t.Fatalf("the only bundle that API servers have: %v", err)
		}
	}
	both, err := r.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Published(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.trusts(old, r) == nil {
		t.Error("an hour after it was published, the new authority does not sign")
	}
	if err := w.trusts(both, r); err != nil {
		t.Error(err)
	}
}

func TestCertificatesSurvive(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(map[string][]byte)
	}{
		{"a Secret that is empty", func(m map[string][]byte) { clear(m) }},
		{"a key that is broken", func(m map[string][]byte) { m["ca.key"] = []byte("x") }},
		{"a certificate of another key", func(m map[string][]byte) { m["tls.key"] = m["ca.key"] }},
		{"broken PEM", func(m map[string][]byte) {
			m["tls.crt"] = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1, admission.CertificateOptions{})
			r := w.replicas[0]
			if _, err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.change(w.store.data)
			bundle, err := r.Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.trusts(bundle, r); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a store that does not answer", func(t *testing.T) {
		w := newWorld(1, admission.CertificateOptions{})
		r := w.replicas[0]
		bundle, err := r.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.store.err = errors.New("etcd is away")
		if _, err := r.Refresh(t.Context()); err == nil {
			t.Error("no error")
		}
		if err := w.trusts(bundle, r); err != nil {
			t.Error(err)
		}
	})
}
