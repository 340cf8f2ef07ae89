// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"

	images "sconce.dev/sconce/policy/registry"
)

// serve runs a registry on this machine and returns a reference into it.
func serve(t *testing.T, referrers bool) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://") + "/policies/shop:1.4.0"
}

func newKey(t *testing.T) (key Signer, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, publicOf(t, key)
}

func publicOf(t *testing.T, key Signer) []byte {
	t.Helper()
	pem, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

func verifier(t *testing.T, keys ...[]byte) *Verifier {
	t.Helper()
	v, err := NewVerifier(VerifierOptions{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func push(t *testing.T, ref string) *Bundle {
	t.Helper()
	b := build(t)
	digest, err := Push(t.Context(), ref, b, RemoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if digest != b.Digest {
		t.Fatalf("pushed as %s; want %s", digest, b.Digest)
	}
	return b
}

func TestPushPull(t *testing.T) {
	ref := serve(t, true)
	b := push(t, ref)
	byDigest := strings.TrimSuffix(ref, ":1.4.0") + "@" + b.Digest
	for _, from := range []string{ref, byDigest} {
		back, err := Pull(t.Context(), from, RemoteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if back.Digest != b.Digest || names(back) != names(b) {
			t.Errorf("pulled %s with %s; want %s with %s", back.Digest, names(back), b.Digest, names(b))
		}
	}
	_, err := Pull(t.Context(), strings.Replace(ref, "1.4.0", "2.0.0", 1), RemoteOptions{})
	wantError(t, err, "pulling "+strings.Replace(ref, "1.4.0", "2.0.0", 1), "MANIFEST_UNKNOWN")
	_, err = Pull(t.Context(), "no reference", RemoteOptions{})
	wantError(t, err, `reading the reference "no reference"`, "want one like")
}

// TestSigned signs with each kind of key, in registries that know of referrers
// and in those that do not.
func TestSigned(t *testing.T) {
	ec, _ := newKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other := newKey(t)
	for kind, key := range map[string]Signer{"P-256": ec, "P-384": p384, "Ed25519": ed} {
		for _, referrers := range []bool{true, false} {
			t.Run(kind, func(t *testing.T) {
				ref := serve(t, referrers)
				b := push(t, ref)
				trust := verifier(t, other, publicOf(t, key))
				_, err := Pull(t.Context(), ref, RemoteOptions{Verify: trust})
				wantError(t, err, "there is no signature of "+b.Digest)
				if digest, err := Sign(t.Context(), ref, key, RemoteOptions{}); err != nil || digest != b.Digest {
					t.Fatalf("signed %s: %v", digest, err)
				}
				if _, err := Pull(t.Context(), ref, RemoteOptions{Verify: trust}); err != nil {
					t.Error(err)
				}
				if digest, err := Verify(t.Context(), ref, trust, RemoteOptions{}); err != nil || digest != b.Digest {
					t.Errorf("verified %s: %v", digest, err)
				}
				_, err = Pull(t.Context(), ref, RemoteOptions{Verify: verifier(t, other)})
				wantError(t, err, "no signature of "+b.Digest+" holds (1 found)", "none of the public keys that are trusted (1)")
			})
		}
	}
}

// TestAnotherDigest puts the signature of one bundle beside another.
func TestAnotherDigest(t *testing.T) {
	ref := serve(t, true)
	key, public := newKey(t)
	other, err := Build(policies(), BuildOptions{Name: "other", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := other.Sign(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	push(t, ref)
	if err := Attach(t.Context(), ref, signature, RemoteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = Pull(t.Context(), ref, RemoteOptions{Verify: verifier(t, public)})
	wantError(t, err, "does not match any digest in statement")
	wantError(t, Attach(t.Context(), ref, []byte("{}"), RemoteOptions{}), "reading a signature")
}

// tamper changes blobs on their way.
type tamper struct{ old, new string }

func (c tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.Contains(r.URL.Path, "/blobs/") {
		return resp, err
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(data, []byte(c.old), []byte(c.new))))
	return resp, errors.Join(err)
}

func TestTampered(t *testing.T) {
	ref := serve(t, true)
	push(t, ref)
	_, err := Pull(t.Context(), ref, RemoteOptions{Transport: tamper{"shop-policies", "evil-policies"}})
	wantError(t, err, "reading its description")
	_, err = Pull(t.Context(), ref, RemoteOptions{Transport: tamper{"\x1f\x8b", "\x1f\x8c"}})
	wantError(t, err, "reading its archive")
}

// TestOtherArtifacts pulls what is no bundle.
func TestOtherArtifacts(t *testing.T) {
	ref := serve(t, true)
	a, err := signatureArtifact([]byte("{}"), mustSign(t))
	if err != nil {
		t.Fatal(err)
	}
	image, err := a.image()
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, image); err != nil {
		t.Fatal(err)
	}
	_, err = Pull(t.Context(), ref, RemoteOptions{})
	wantError(t, err, `it is a "application/vnd.dev.sigstore.bundle.v0.3+json" with 1 layers; want a "application/vnd.sconce.dev.bundle.v1"`)
	key, _ := newKey(t)
	_, err = Sign(t.Context(), ref, key, RemoteOptions{})
	wantError(t, err, "signing "+ref, "want a")
}

func mustSign(t *testing.T) []byte {
	t.Helper()
	key, _ := newKey(t)
	signature, err := build(t).Sign(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// unreached fails a test if a request gets as far as the network.
type unreached struct{ t *testing.T }

func (u unreached) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		u.t.Errorf("%s was asked", r.URL)
	}
	return nil, errors.New("there is no network here")
}

// TestPlainHTTP holds that private addresses and names that the registry's
// library would speak to in the clear are not, unless that was asked for.
func TestPlainHTTP(t *testing.T) {
	for _, host := range []string{"10.1.2.3:5000", "192.168.1.1", "registry.local:5000"} {
		_, err := Pull(t.Context(), host+"/shop:1", RemoteOptions{Transport: unreached{t}})
		wantError(t, err, "pulling "+host)
	}
	g := images.Transport{RoundTripper: unreached{t}, Max: maxBody}
	for url, want := range map[string]string{
		"http://registry.example/": "over plain HTTP; use a registry with HTTPS", "https://registry.example/": "there is no network here",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.RoundTrip(r) //nolint:bodyclose // there is no answer
		wantError(t, err, want)
	}
}

func TestSavedSigned(t *testing.T) {
	b := build(t)
	key, public := newKey(t)
	signature, err := b.Sign(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var signed, unsigned bytes.Buffer
	if err := errors.Join(b.Save(&signed, mustSign(t), signature), b.Save(&unsigned)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(bytes.NewReader(signed.Bytes()), verifier(t, public)); err != nil {
		t.Error(err)
	}
	_, other := newKey(t)
	_, err = Open(bytes.NewReader(signed.Bytes()), verifier(t, other))
	wantError(t, err, "no signature of", "(2 found)")
	_, err = Open(&unsigned, verifier(t, public))
	wantError(t, err, "there is no signature of "+b.Digest)
}

func TestPrivateKeys(t *testing.T) {
	ask := func(word string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(word), nil }
	}
	encrypted, public, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), cryptoutils.StaticPasswordFunc([]byte("sesame")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivateKey(encrypted, ask("sesame"))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := build(t).Sign(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier(t, public).one(build(t).Digest, signature); err != nil {
		t.Error(err)
	}
	_, err = ParsePrivateKey(encrypted, ask("wrong"))
	wantError(t, err, "reading the private key")
	if strings.Contains(err.Error(), "wrong") {
		t.Error("the password is in the error")
	}
	_, err = ParsePrivateKey([]byte("no key"), nil)
	wantError(t, err, "reading the private key: PEM decoding failed")
	_, err = build(t).Sign(t.Context(), nil)
	wantError(t, err, "there is no private key")
}

const (
	someone = "release@shop.example"
	issuer  = "https://accounts.shop.example"
)

// keyless signs a digest as somebody does who has an identity and no key.
func keyless(t *testing.T, authority *ca.VirtualSigstore, digest, predicate string) []byte {
	t.Helper()
	payload, err := json.Marshal(statement{
		Type: statementType, PredicateType: predicate, Subject: []subject{{map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	entity, err := authority.AttestAtTime(someone, issuer, payload, time.Now().Add(5*time.Minute), true)
	if err != nil {
		t.Fatal(err)
	}
	content, err := entity.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := entity.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := entity.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	entry := entries[0].TransparencyLogEntry()
	entry.KindVersion = &rekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	stamps, err := entity.Timestamps()
	if err != nil {
		t.Fatal(err)
	}
	envelope := signed.EnvelopeContent().RawEnvelope()
	sig, err := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	out, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: signatureType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}},
			TlogEntries: []*rekor.TransparencyLogEntry{entry},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
			},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: payloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// trustedRoot returns what is to be known of an authority.
func trustedRoot(t *testing.T, authority *ca.VirtualSigstore) []byte {
	t.Helper()
	logs := authority.RekorLogs()
	for id := range logs {
		key, err := hex.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		logs[id].ID = key
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, authority.FulcioCertificateAuthorities(), nil,
		authority.TimestampingAuthorities(), logs)
	if err != nil {
		t.Fatal(err)
	}
	out, err := trusted.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newAuthority(t *testing.T) *ca.VirtualSigstore {
	t.Helper()
	authority, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestKeyless(t *testing.T) {
	authority, stranger := newAuthority(t), newAuthority(t)
	ref := serve(t, true)
	b := push(t, ref)
	if err := Attach(t.Context(), ref, keyless(t, authority, b.Digest, predicateType), RemoteOptions{}); err != nil {
		t.Fatal(err)
	}
	good := Identity{Issuer: issuer, Subject: someone}
	pullAs := func(from *ca.VirtualSigstore, identities ...Identity) error {
		v, err := NewVerifier(VerifierOptions{TrustedRoot: trustedRoot(t, from), Identities: identities})
		if err != nil {
			return err
		}
		_, err = Pull(t.Context(), ref, RemoteOptions{Verify: v})
		return err
	}
	if err := pullAs(authority, Identity{Issuer: issuer, Subject: "nobody@shop.example"}, good); err != nil {
		t.Error(err)
	}
	if err := pullAs(authority, Identity{IssuerRegexp: "https://.*", SubjectRegexp: ".*@shop[.]example"}); err != nil {
		t.Error(err)
	}
	wantError(t, pullAs(authority, Identity{Issuer: issuer, Subject: "nobody@shop.example"}), "a signature does not hold", "nobody@shop.example")
	wantError(t, pullAs(authority, Identity{Issuer: issuer, SubjectRegexp: "release@shop"}), "a signature does not hold")
	wantError(t, pullAs(authority, Identity{Issuer: "https://evil.example", Subject: someone}), "a signature does not hold")
	wantError(t, pullAs(stranger, good), "a signature does not hold")
	wantError(t, pullAs(authority, Identity{Subject: someone}), "must specify Issuer")
	_, public := newKey(t)
	_, err := Pull(t.Context(), ref, RemoteOptions{Verify: verifier(t, public)})
	wantError(t, err, "a signature is keyless, and no trusted root and identity are given")
}

// TestOtherStatements holds that a signed statement that is no signature does not
// count as one.
func TestOtherStatements(t *testing.T) {
	authority := newAuthority(t)
	v, err := NewVerifier(VerifierOptions{TrustedRoot: trustedRoot(t, authority), Identities: []Identity{{Issuer: issuer, Subject: someone}}})
	if err != nil {
		t.Fatal(err)
	}
	digest := build(t).Digest
	wantError(t, v.one(digest, keyless(t, authority, digest, "https://slsa.dev/provenance/v1")), `a signed statement is a "https://slsa.dev/provenance/v1"`)
	wantError(t, v.one(digest, mustSign(t)), "a signature is by a key, and no public key is trusted")
}

func TestVerifierRefused(t *testing.T) {
	for want, o := range map[string]VerifierOptions{
		"nothing says whose signatures": {},
		"one of them is missing":        {Keys: [][]byte{nil}, TrustedRoot: []byte("{}")},
		"reading public key 1 of 1":     {Keys: [][]byte{[]byte("no key")}},
		"reading the trusted root":      {TrustedRoot: []byte("{"), Identities: []Identity{{}}},
	} {
		_, err := NewVerifier(o)
		wantError(t, err, want)
	}
}

func TestCancelled(t *testing.T) {
	ref := serve(t, true)
	push(t, ref)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Pull(ctx, ref, RemoteOptions{})
	wantError(t, err, "context canceled")
}
