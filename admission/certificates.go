// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Store keeps the certificates where every replica finds them: a Secret.
type Store interface {
	// Load returns what is stored, nil if nothing is, and its version.
	Load(ctx context.Context) (data map[string][]byte, version string, err error)
	// Save stores data in the place of that version ("" where there is nothing)
	// and returns ErrConflict if it is not there any more.
	Save(ctx context.Context, data map[string][]byte, version string) error
}

// ErrConflict says that somebody else has stored something since.
var ErrConflict = errors.New("the certificates were changed by another replica")

// CertificateOptions say what certificates are made.
type CertificateOptions struct {
	Store Store
	// Names are what the API server calls the webhook by: SERVICE.NAMESPACE.svc,
	// or an address where the configuration holds a URL.
	Names []string
	// Life is how long a serving certificate holds, CALife an authority; both
	// are renewed when two thirds have passed. 90 days and 2 years if zero.
	Life, CALife time.Duration
	// Overlap is how long it takes at the most until every API server uses the
	// bundle that was published, and every replica has refreshed. An hour if
	// zero.
	Overlap time.Duration
	// Now is the clock; time.Now if it is nil.
	Now func() time.Time
}

// Certificates are an authority of our own and the serving certificate that it
// signs, shared by all replicas through a store, and renewed without a moment in
// which an API server would refuse a replica:
//
//  1. A new authority is made and joins the bundle. The old one goes on signing.
//  2. An overlap after the bundle was published (Published), a certificate of the
//     new authority takes the place of the old one.
//  3. The old authority, whose key is gone by then, leaves the bundle when it
//     ends: a replica that could not refresh for long is still trusted.
//
// Made with crypto/x509 alone: cert-controller, which others use, replaces
// authority and certificate in one step, and serves from files that the kubelet
// brings up to date a minute or more later; in between the API server refuses
// it. cert-manager would be one more thing to install.
type Certificates struct {
	opts    CertificateOptions
	serving atomic.Pointer[tls.Certificate]
	mu      sync.Mutex // one refresh at a time
}

// NewCertificates returns certificates that are yet to be loaded by Refresh.
func NewCertificates(opts CertificateOptions) *Certificates {
	opts.Life = cmp.Or(opts.Life, 90*24*time.Hour)
	opts.CALife = cmp.Or(opts.CALife, 2*365*24*time.Hour)
	opts.Overlap = cmp.Or(opts.Overlap, time.Hour)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Certificates{opts: opts}
}

// maxConflicts is how often other replicas may be first.
const maxConflicts = 10

// Refresh loads what is stored, renews what is due, and returns the bundle that
// webhook configurations must hold. It is to be called often beside the overlap,
// by every replica: each serves what it has loaded last. Where it fails, what was
// loaded before is served on.
func (c *Certificates) Refresh(ctx context.Context) (bundle []byte, err error) {
	return c.update(ctx, func(*authority) bool { return false })
}

// Published notes that every webhook configuration holds the bundle. Until that
// is so, no certificate of a new authority is served.
func (c *Certificates) Published(ctx context.Context, bundle []byte) error {
	_, err := c.update(ctx, func(a *authority) bool {
		if a.next == nil || !a.published.IsZero() || !bytes.Equal(bundle, a.bundle()) {
			return false
		}
		a.published = c.opts.Now()
		return true
	})
	return err
}

// update loads what is stored, changes it, renews what is due and stores it.
func (c *Certificates) update(ctx context.Context, change func(*authority) bool) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range maxConflicts {
		data, version, err := c.opts.Store.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("loading the webhook's certificates: %w", err)
		}
		a := readAuthority(data)
		changed := change(a)
		renewed, err := a.renew(&c.opts)
		if err != nil {
			return nil, fmt.Errorf("renewing the webhook's certificates: %w", err)
		}
		if changed || renewed {
			err = c.opts.Store.Save(ctx, a.data(), version)
		}
		switch {
		case err == nil:
			c.serving.Store(a.serving)
			return a.bundle(), nil
		case !errors.Is(err, ErrConflict):
			return nil, fmt.Errorf("storing the webhook's certificates: %w", err)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("storing the webhook's certificates: %w, %d times in a row: is something else writing them?", ErrConflict, maxConflicts)
}

// GetCertificate returns what is served now; it is made for tls.Config.
func (c *Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s := c.serving.Load(); s != nil {
		return s, nil
	}
	return nil, errors.New("the webhook's certificates have not been loaded yet")
}

// Expires returns when what is served now ends to hold; zero if nothing is.
func (c *Certificates) Expires() time.Time {
	if s := c.serving.Load(); s != nil {
		return s.Leaf.NotAfter
	}
	return time.Time{}
}
