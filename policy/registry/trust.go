// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"sconce.dev/sconce/policy/answers"
)

// Trust is whose signatures hold: those of a key, of a certificate, or of whoever
// a trusted authority gave a certificate. All texts but Hash are PEM or JSON.
type Trust struct {
	Key string
	// Hash is what the key signs: sha224, sha256, sha384 or sha512; empty for
	// sha256.
	Hash string
	// Certificate holds the key. Chain leads from it to the root that is trusted;
	// where it is empty, the certificate itself is.
	Certificate, Chain string
	// Roots are authorities; without them, a key and a certificate those of the
	// trusted root.
	Roots string
	// TrustedRoot is a trusted_root.json; that of the network where it is empty.
	// Whole holds certificates against all of it.
	TrustedRoot string
	Whole       bool
	// NoLog accepts signatures that are in no transparency log, NoTimestamp
	// certificates that are in no log of certificates. Offline refuses signatures
	// that carry no entry of a transparency log; without it, the log would have to be
	// asked.
	NoLog, NoTimestamp, Offline bool
	// LogKey, CertificateLogKey and Timestamps are the keys of such logs, and the
	// certificates of who signs times; those of the trusted root where they are
	// empty.
	LogKey, CertificateLogKey, Timestamps string
}

// maxChain bounds the certificates in one text.
const maxChain = 12

var hashes = map[string]crypto.Hash{
	"": crypto.SHA256, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
}

// verifier verifies signatures as a Trust asks.
type verifier struct {
	trust Trust
	// key is what all are signed with; nil where each has a certificate.
	key   signature.Verifier
	roots *x509.CertPool
	// logs are the transparency logs, by their identities; times those who sign
	// times.
	logs  map[string]*root.TransparencyLog
	times []root.TimestampingAuthority
	// material is the trusted root, with the keys that were given beside; nil where
	// there is none.
	material root.TrustedMaterial
	now      time.Time
}

// noRoot is what to do where a trusted root is needed and none is given.
func noRoot(what string) error {
	return answers.Unknown("%s is held against a trusted root of Sigstore, and none is given: add trusted_root.json as spec.network.trustedRoot of the baseline", what)
}

// verifier makes one. What a policy gives and cannot be read is refused.
func (c *Client) verifier(t Trust) (*verifier, error) {
	v := &verifier{trust: t, now: time.Now()}
	trusted, err := c.trustedRoot(t)
	if err != nil {
		return nil, err
	}
	if trusted != nil {
		v.material, v.logs = trusted, trusted.RekorLogs()
		if t.Whole && t.Timestamps != "" {
			v.times = trusted.TimestampingAuthorities()
		}
	}
	hash, ok := hashes[t.Hash]
	if !ok {
		return nil, refused("the algorithm %q is none of sha224, sha256, sha384 and sha512", t.Hash)
	}
	switch {
	case t.Key != "":
		v.key, err = publicKey(t.Key, hash)
	case t.Certificate != "":
		v.key, err = v.certificateKey(hash)
	case t.Roots != "":
		v.roots, err = pool(t.Roots)
	}
	if err != nil {
		return nil, err
	}
	return v, v.trustLogs()
}

// trustedRoot returns the trusted root; nil where there is none.
func (c *Client) trustedRoot(t Trust) (*root.TrustedRoot, error) {
	if t.TrustedRoot != "" {
		return readRoot([]byte(t.TrustedRoot))
	}
	return c.root()
}

// maxRoot bounds a trusted root.
const maxRoot = 1 << 20

func readRoot(text []byte) (*root.TrustedRoot, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > maxRoot {
		return nil, answers.Unknown("the trusted root has %d bytes; at most %d are read", len(text), maxRoot)
	}
	trusted, err := root.NewTrustedRootFromJSON(text)
	if err != nil {
		return nil, answers.Unknown("the trusted root cannot be read: %v", err)
	}
	return trusted, nil
}

// trustLogs reads the keys that a policy gives beside the trusted root.
func (v *verifier) trustLogs() error {
	if v.trust.LogKey != "" {
		log, err := logOf(v.trust.LogKey)
		if err != nil {
			return refused("the public key of the transparency log cannot be read: %v", err)
		}
		v.logs = map[string]*root.TransparencyLog{hex.EncodeToString(log.ID): log}
	}
	if v.trust.CertificateLogKey != "" {
		log, err := logOf(v.trust.CertificateLogKey)
		if err != nil {
			return refused("the public key of the log of certificates cannot be read: %v", err)
		}
		v.material = &given{trusted: v.material, logs: map[string]*root.TransparencyLog{hex.EncodeToString(log.ID): log}}
	}
	if v.trust.Timestamps == "" {
		return nil
	}
	own, err := timestamping(v.trust.Timestamps)
	v.times = append(v.times, own...)
	return err
}

// given is a trusted root of which a policy replaces the logs of certificates.
type given struct {
	root.BaseTrustedMaterial
	trusted root.TrustedMaterial
	logs    map[string]*root.TransparencyLog
}

// CTLogs implements root.TrustedMaterial.
func (g *given) CTLogs() map[string]*root.TransparencyLog { return g.logs }

// FulcioCertificateAuthorities implements root.TrustedMaterial.
func (g *given) FulcioCertificateAuthorities() []root.CertificateAuthority {
	if g.trusted == nil {
		return nil
	}
	return g.trusted.FulcioCertificateAuthorities()
}

// logOf returns a log by its public key.
func logOf(pem string) (*root.TransparencyLog, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(pem))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	return &root.TransparencyLog{ID: id[:], PublicKey: key, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256}, nil
}

func publicKey(pem string, hash crypto.Hash) (signature.Verifier, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(pem))
	if err != nil {
		return nil, refused("the public key cannot be read: it is none in PEM")
	}
	out, err := signature.LoadVerifier(key, hash)
	if err != nil {
		return nil, refused("the public key cannot be used: %v", err)
	}
	return out, nil
}

// certificateKey reads the certificate, which may be in base64, and returns its key.
func (v *verifier) certificateKey(hash crypto.Hash) (signature.Verifier, error) {
	text := v.trust.Certificate
	if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(decoded)
	}
	certificates, err := certificatesOf(text)
	if err != nil {
		return nil, refused("the certificate cannot be read: %v", err)
	}
	if v.trust.Chain != "" {
		if err := v.chained(certificates[0]); err != nil {
			return nil, err
		}
	}
	out, err := signature.LoadVerifier(certificates[0].PublicKey, hash)
	if err != nil {
		return nil, refused("the key of the certificate cannot be used: %v", err)
	}
	return out, nil
}

// chained says why the chain does not lead from a certificate to its root.
func (v *verifier) chained(c *x509.Certificate) error {
	chain, err := certificatesOf(v.trust.Chain)
	if err != nil {
		return refused("the chain of the certificate cannot be read: %v", err)
	}
	v.roots = x509.NewCertPool()
	v.roots.AddCert(chain[len(chain)-1])
	chains, err := v.authority(c, chain[:len(chain)-1])
	if err != nil {
		return err
	}
	return v.logged(chains)
}

// certificatesOf reads certificates; at least one.
func certificatesOf(text string) ([]*x509.Certificate, error) {
	if n := strings.Count(text, "-----BEGIN CERTIFICATE-----"); n > maxChain {
		return nil, answers.Unknown("a chain has %d certificates; at most %d are read", n, maxChain)
	}
	out, err := cryptoutils.UnmarshalCertificatesFromPEM([]byte(text))
	if err == nil && len(out) == 0 {
		return nil, refused("there is no certificate in PEM")
	}
	return out, err
}

func pool(text string) (*x509.CertPool, error) {
	certificates, err := certificatesOf(text)
	if err != nil {
		return nil, refused("the root certificates cannot be read: %v", err)
	}
	out := x509.NewCertPool()
	for _, c := range certificates {
		out.AddCert(c)
	}
	return out, nil
}

// timestamping reads the certificates of who signs times: one authority for each
// root among them.
func timestamping(text string) ([]root.TimestampingAuthority, error) {
	certificates, err := certificatesOf(text)
	if err != nil {
		return nil, refused("the certificates of the timestamping authority cannot be read: %v", err)
	}
	var own root.SigstoreTimestampingAuthority
	var roots []*x509.Certificate
	for _, c := range certificates {
		switch {
		case c.IsCA && bytes.Equal(c.RawSubject, c.RawIssuer):
			roots = append(roots, c)
		case c.IsCA:
			if len(c.ExtKeyUsage) == 0 {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
			}
			own.Intermediates = append(own.Intermediates, c)
		case own.Leaf != nil:
			return nil, refused("the chain of the timestamping authority has more than one certificate that is none of an authority")
		default:
			own.Leaf = c
		}
	}
	if len(roots) == 0 {
		return nil, refused("the chain of the timestamping authority has no root")
	}
	var out []root.TimestampingAuthority
	for _, c := range roots {
		one := own
		one.Root = c
		out = append(out, &one)
	}
	return out, nil
}

// authority returns the chains of a certificate up to who is trusted. The time is
// left out: it is when the signature was made.
func (v *verifier) authority(c *x509.Certificate, between []*x509.Certificate) ([][]*x509.Certificate, error) {
	if v.roots == nil && v.material == nil {
		return nil, noRoot("a signature with a certificate")
	}
	if v.roots == nil && v.trust.Whole {
		chains, err := verify.VerifyLeafCertificate(c.NotBefore, c, v.material)
		if err != nil {
			return nil, refused("its certificate is of no authority of the trusted root")
		}
		return chains, nil
	}
	roots := v.roots
	if roots == nil {
		roots = x509.NewCertPool()
		for _, a := range v.material.FulcioCertificateAuthorities() {
			if f, ok := a.(*root.FulcioCertificateAuthority); ok && f.Root != nil {
				roots.AddCert(f.Root)
			}
		}
	}
	pool := x509.NewCertPool()
	for _, c := range between {
		pool.AddCert(c)
	}
	chains, err := c.Verify(x509.VerifyOptions{
		CurrentTime: c.NotBefore, Roots: roots, Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return nil, refused("its certificate is of no authority that is trusted: %v", err)
	}
	return chains, nil
}

// logged holds a certificate against the logs of certificates.
func (v *verifier) logged(chains [][]*x509.Certificate) error {
	if v.trust.NoTimestamp {
		return nil
	}
	if v.material == nil {
		return noRoot("whether a certificate is in a log of certificates")
	}
	if err := verify.VerifySignedCertificateTimestamp(chains, 1, v.material); err != nil {
		return refused("its certificate is in no log of certificates that is trusted: %v", err)
	}
	return nil
}

// log returns the key of a transparency log.
func (v *verifier) log(id string) (*ecdsa.PublicKey, *root.TransparencyLog, error) {
	if len(v.logs) == 0 {
		return nil, nil, noRoot("the entry of a signature in a transparency log")
	}
	log := v.logs[id]
	if log == nil {
		return nil, nil, refused("it is in a transparency log that is not trusted")
	}
	key, ok := log.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, refused("the key of its transparency log is a %T; want ECDSA", log.PublicKey)
	}
	return key, log, nil
}
