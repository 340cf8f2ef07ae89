// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// The keys of what is stored. Those of the serving certificate are a TLS
// Secret's.
const (
	caKey        = "ca.crt" // the bundle
	signerKey    = "ca.key"
	signerCert   = "signer.crt"
	nextKey      = "next.key"
	nextCert     = "next.crt"
	oldCert      = "old.crt"
	servingCert  = "tls.crt"
	servingKey   = "tls.key"
	publishedKey = "published"
)

// backdate is how far before its making a certificate begins to hold: the clocks
// of API servers need not agree with ours.
const backdate = 15 * time.Minute

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authority is what is stored: see Certificates.
type authority struct {
	signer    *pair             // signs the serving certificate
	next      *pair             // will, an overlap after published
	old       *x509.Certificate // the signer before, whose key is gone
	published time.Time
	serving   *tls.Certificate
}

// readAuthority reads what was stored. What cannot be read is as if it were not
// there: it is made anew.
func readAuthority(data map[string][]byte) *authority {
	a := &authority{}
	a.signer, _ = readPair(data[signerCert], data[signerKey])
	a.next, _ = readPair(data[nextCert], data[nextKey])
	a.old, _ = readCertificate(data[oldCert])
	a.published, _ = time.Parse(time.RFC3339Nano, string(data[publishedKey]))
	if s, err := readPair(data[servingCert], data[servingKey]); err == nil {
		a.serving = &tls.Certificate{Certificate: [][]byte{s.cert.Raw}, PrivateKey: s.key, Leaf: s.cert}
	}
	return a
}

// data is what is stored of an authority.
func (a *authority) data() map[string][]byte {
	out := map[string][]byte{
		caKey: a.bundle(), signerCert: encodeCertificate(a.signer.cert), signerKey: encodeKey(a.signer.key),
		servingCert: encodeCertificate(a.serving.Leaf), servingKey: encodeKey(a.serving.PrivateKey.(*ecdsa.PrivateKey)),
	}
	if a.next != nil {
		out[nextCert], out[nextKey] = encodeCertificate(a.next.cert), encodeKey(a.next.key)
	}
	if a.old != nil {
		out[oldCert] = encodeCertificate(a.old)
	}
	if !a.published.IsZero() {
		out[publishedKey] = []byte(a.published.UTC().Format(time.RFC3339Nano))
	}
	return out
}

// bundle is what API servers must trust, as PEM.
func (a *authority) bundle() []byte {
	var out []byte
	if a.signer != nil {
		out = append(out, encodeCertificate(a.signer.cert)...)
	}
	if a.next != nil {
		out = append(out, encodeCertificate(a.next.cert)...)
	}
	if a.old != nil {
		out = append(out, encodeCertificate(a.old)...)
	}
	return out
}

// renew makes the next step that is due, if one is, and says whether it did.
func (a *authority) renew(opts *CertificateOptions) (changed bool, err error) {
	now := opts.Now()
	switch {
	case a.signer == nil || !now.Before(a.signer.cert.NotAfter):
		*a = authority{}
		a.signer, err = newAuthority(now, opts.CALife)
		changed = true
	case a.next == nil && due(a.signer.cert, now):
		a.next, err = newAuthority(now, opts.CALife)
		a.published, changed = time.Time{}, true
	case a.next != nil && a.mayTakeOver(now, opts):
		a.old, a.signer, a.next, a.serving = a.signer.cert, a.next, nil, nil
		a.published, changed = time.Time{}, true
	case a.old != nil && !now.Before(a.old.NotAfter):
		a.old, changed = nil, true
	}
	if err != nil || a.serves(opts.Names, now) {
		return changed, err
	}
	a.serving, err = a.issue(now, opts)
	return true, err
}

// mayTakeOver says whether the next authority may begin to sign: all know it, or
// the present one is about to end.
func (a *authority) mayTakeOver(now time.Time, opts *CertificateOptions) bool {
	known := !a.published.IsZero() && !now.Before(a.published.Add(opts.Overlap))
	return known || !now.Before(a.signer.cert.NotAfter.Add(-life(a.signer.cert)/12))
}

// life is how long a certificate holds from when it was made.
func life(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) - backdate }

// due says whether two thirds of a certificate's life have passed.
func due(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotAfter.Add(-life(c) / 3))
}

// serves says whether the serving certificate is one of the signer, for the
// names, and not due.
func (a *authority) serves(names []string, now time.Time) bool {
	if a.serving == nil || a.serving.Leaf.CheckSignatureFrom(a.signer.cert) != nil {
		return false
	}
	leaf := a.serving.Leaf
	// One that ends with its authority cannot be made to last longer.
	return slices.Equal(namesOf(leaf), namesOf(template(names))) && (!due(leaf, now) || leaf.NotAfter.Equal(a.signer.cert.NotAfter) && now.Before(leaf.NotAfter))
}

func namesOf(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// template is a certificate for names.
func template(names []string) *x509.Certificate {
	out := &x509.Certificate{}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			out.IPAddresses = append(out.IPAddresses, ip)
		} else {
			out.DNSNames = append(out.DNSNames, n)
		}
	}
	return out
}

// newAuthority makes a certificate authority.
func newAuthority(now time.Time, life time.Duration) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "sconce-webhook-ca", SerialNumber: now.UTC().Format(time.RFC3339)}, NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(t, t, key, key)
	return &pair{cert, key}, err
}

// issue makes a serving certificate, which ends no later than its authority.
func (a *authority) issue(now time.Time, opts *CertificateOptions) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(opts.Names)
	t.Subject = pkix.Name{CommonName: "sconce-webhook"}
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(opts.Life)
	if t.NotAfter.After(a.signer.cert.NotAfter) {
		t.NotAfter = a.signer.cert.NotAfter
	}
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	cert, err := sign(t, a.signer.cert, key, a.signer.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// sign makes a certificate of a template.
func sign(t, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil // not so for a key of a curve that x509 knows
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

var errNoPEM = errors.New("no PEM block")

func readCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errNoPEM
	}
	return x509.ParseCertificate(block.Bytes)
}

// readPair reads an authority and its key, which must belong together.
func readPair(certificate, key []byte) (*pair, error) {
	cert, err := readCertificate(certificate)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errNoPEM
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := k.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the key is a %T, or not that of the certificate", k)
	}
	return &pair{cert, private}, nil
}
