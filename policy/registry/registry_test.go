// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
	images "sconce.dev/sconce/test/registry"
)

// allowing is a network that allows a registry.
func allowing(r *images.Registry) *policy.Network {
	return &policy.Network{Registries: []string{r.Host}}
}

// wantUnknown fails unless an error is that something could not be found out.
func wantUnknown(t *testing.T, err error, words ...string) {
	t.Helper()
	var unknown *answers.UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v; want that it is unknown", err)
	}
	wantWords(t, err, words...)
}

// wantRefused fails unless an error is a refusal.
func wantRefused(t *testing.T, err error, words ...string) {
	t.Helper()
	var no *RefusedError
	if !errors.As(err, &no) {
		t.Fatalf("got %v; want a refusal", err)
	}
	wantWords(t, err, words...)
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q; want %q in it", err, w)
		}
	}
}

func TestImage(t *testing.T) {
	r := images.New(t)
	ref, digest := r.Push("shop/web:1.4.0")
	image, err := Of(allowing(r)).Image(t.Context(), Lookup{Image: ref})
	if err != nil {
		t.Fatal(err)
	}
	config, _ := image.Config.(map[string]any)
	user, _ := config["config"].(map[string]any)
	if image.Digest != digest || image.Tag != "1.4.0" || image.Repository != "shop/web" || image.ResolvedImage != ref+"@"+digest || user["User"] != "65532" || image.Index != nil {
		t.Errorf("got %+v", image)
	}
	index, digest := r.Index("shop/two:1")
	image, err = Of(allowing(r)).Image(t.Context(), Lookup{Image: index})
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := image.Manifest.(map[string]any)
	if image.Digest != digest || image.Index == nil || manifest["layers"] == nil {
		t.Errorf("got %+v", image)
	}
	_, err = Of(allowing(r)).Image(t.Context(), Lookup{Image: r.Host + "/shop/none:1"})
	wantRefused(t, err, "there is no image "+r.Host+"/shop/none:1")
	_, err = Of(allowing(r)).Image(t.Context(), Lookup{Image: "::"})
	wantRefused(t, err, "the reference \"::\"")
}

// TestNotAllowed holds that a registry that is not named is not asked at all.
func TestNotAllowed(t *testing.T) {
	r := images.New(t)
	ref, _ := r.Push("shop/web:1")
	_, public := images.Key(t, "ecdsa")
	for _, n := range []*policy.Network{nil, {}, {Registries: []string{"registry.example.com", "*.127.0.0.1"}, Hosts: []string{r.Host}}} {
		c := Of(n)
		_, err := c.Image(t.Context(), Lookup{Image: ref})
		wantUnknown(t, err, r.Host, "spec.network.registries")
		_, err = c.Digest(t.Context(), Lookup{Image: ref})
		wantUnknown(t, err, r.Host)
		_, err = c.Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public})
		wantUnknown(t, err, r.Host)
		_, err = c.Bundles(t.Context(), Place{Lookup: Lookup{Image: ref}}, BundleTrust{Trust: Trust{Key: public}})
		wantUnknown(t, err, r.Host)
	}
	other := images.New(t)
	_, err := Of(allowing(other)).Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public})
	wantUnknown(t, err, r.Host)
	own, _ := other.Push("shop/web:1")
	_, err = Of(allowing(other)).Signatures(t.Context(), Place{Lookup: Lookup{Image: own}, Repository: r.Host + "/signatures"}, Trust{Key: public})
	wantUnknown(t, err, r.Host)
	if n := r.Requests.Load(); n != 0 {
		t.Errorf("the registry that is not allowed was asked %d times", n)
	}
	if _, err := Of(&policy.Network{Registries: []string{"docker.io"}}).target("nginx"); err != nil {
		t.Errorf("docker.io: %v", err)
	}
}

// TestSignatures holds the signatures of cosign with a key against what is trusted.
func TestSignatures(t *testing.T) {
	log, otherLog := images.NewLog(t), images.NewLog(t)
	type signing = images.Signing
	for name, test := range map[string]struct {
		keys    string // the kind
		sign    func(s *signing)
		about   string
		trust   func(*Trust)
		place   func(*Place, *images.Registry)
		unknown bool
		refused string // what is said; empty where it holds
	}{
		"ecdsa":   {keys: "ecdsa"},
		"ed25519": {keys: "ed25519"},
		"rsa":     {keys: "rsa"},
		"sha512":  {keys: "ecdsa", sign: func(s *signing) { s.Hash = crypto.SHA512 }, trust: func(t *Trust) { t.Hash = "sha512" }},
		"another hash": {
			keys: "ecdsa", sign: func(s *signing) { s.Hash = crypto.SHA512 }, refused: "by another key",
		},
		"no such hash": {keys: "ecdsa", trust: func(t *Trust) { t.Hash = "md5" }, refused: `the algorithm "md5"`},
		"another key":  {keys: "ecdsa", trust: func(tr *Trust) { _, tr.Key = images.Key(t, "ecdsa") }, refused: "by another key"},
		"no key":       {keys: "ecdsa", trust: func(tr *Trust) { tr.Key = "-----BEGIN PUBLIC KEY-----\nnone" }, refused: "the public key cannot be read"},
		"another digest": {
			keys: "ecdsa", about: "sha256:" + strings.Repeat("ab", 32), refused: "it is of \"sha256:abab",
		},
		"payload tampered with": {
			keys: "ecdsa", about: "sha256:" + strings.Repeat("ab", 32),
			sign: func(s *signing) {
				s.Payload = func(p []byte) []byte { return []byte(strings.ReplaceAll(string(p), "cosign", "COSIGN")) }
			},
			refused: "of another payload",
		},
		"payload is no JSON": {
			keys: "ecdsa", sign: func(s *signing) { s.Payload = func([]byte) []byte { return []byte("{") } }, refused: "by another key",
		},
		"signature is no base64": {
			keys: "ecdsa", sign: func(s *signing) {
				s.Annotate = func(a map[string]string) { a[annotationSignature] = "%" }
			}, refused: "it cannot be read",
		},
		"in a log": {keys: "ecdsa", sign: func(s *signing) { s.Log = log }, trust: func(t *Trust) { t.NoLog, t.LogKey = false, log.Public }},
		"in no log": {
			keys: "ecdsa", trust: func(t *Trust) { t.NoLog, t.LogKey = false, log.Public }, unknown: true, refused: "carries no entry of a transparency log",
		},
		"in no log, by another key": {
			keys: "ecdsa", trust: func(tr *Trust) {
				tr.NoLog, tr.LogKey = false, log.Public
				_, tr.Key = images.Key(t, "rsa")
			}, refused: "by another key",
		},
		"in another log": {
			keys: "ecdsa", sign: func(s *signing) { s.Log = otherLog }, trust: func(t *Trust) { t.NoLog, t.LogKey = false, log.Public },
			refused: "a transparency log that is not trusted",
		},
		"no log is trusted": {
			keys: "ecdsa", sign: func(s *signing) { s.Log = log }, trust: func(t *Trust) { t.NoLog = false },
			unknown: true, refused: "spec.network.trustedRoot",
		},
		"the log's entry is forged": {
			keys: "ecdsa", sign: func(s *signing) {
				s.Log = log
				s.Annotate = func(a map[string]string) {
					a[annotationBundle] = strings.Replace(a[annotationBundle], `"logIndex":7`, `"logIndex":8`, 1)
				}
			}, trust: func(t *Trust) { t.NoLog, t.LogKey = false, log.Public }, refused: "not signed by the log",
		},
		"a log key that is none": {
			keys: "ecdsa", trust: func(t *Trust) { t.NoLog, t.LogKey = false, "none" }, refused: "the public key of the transparency log",
		},
		"in another repository": {
			keys: "ecdsa", place: func(p *Place, r *images.Registry) { p.Repository = r.Host + "/signatures" },
		},
		"with a prefix":          {keys: "ecdsa", place: func(p *Place, _ *images.Registry) { p.Prefix = "cosign-" }},
		"as a referrer":          {keys: "ecdsa", sign: func(s *signing) { s.Referrer = true }, place: func(p *Place, _ *images.Registry) { p.OCI11 = true }},
		"a tag beside referrers": {keys: "ecdsa", place: func(p *Place, _ *images.Registry) { p.OCI11 = true }},
		"as a referrer that is not looked for": {
			keys: "ecdsa", sign: func(s *signing) { s.Referrer = true }, refused: "there is no signature of sha256:",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := images.New(t)
			ref, digest := r.Push("shop/web:1")
			key, public := images.Key(t, test.keys)
			s, trust, place := signing{Key: key}, Trust{Key: public, NoLog: true}, Place{Lookup: Lookup{Image: ref}}
			if test.sign != nil {
				test.sign(&s)
			}
			if test.trust != nil {
				test.trust(&trust)
			}
			if test.place != nil {
				test.place(&place, r)
			}
			s.Repository, s.TagPrefix = place.Repository, place.Prefix
			r.Sign(ref, digest, test.about, s)
			out, err := Of(allowing(r)).Signatures(t.Context(), place, trust)
			switch {
			case test.unknown:
				wantUnknown(t, err, test.refused)
			case test.refused != "":
				wantRefused(t, err, test.refused)
			case err != nil:
				t.Fatal(err)
			case out.Digest != digest || len(out.Signatures) != 1 || out.Signatures[0].Logged != !trust.NoLog:
				t.Errorf("got %+v", out)
			}
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestUnsigned(t *testing.T) {
	r := images.New(t)
	ref, digest := r.Push("shop/web:1")
	_, public := images.Key(t, "ecdsa")
	c := Of(allowing(r))
	for _, f := range []func(context.Context, Place, Trust) (*Verified, error){c.Signatures, c.Attestations} {
		_, err := f(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public})
		wantRefused(t, err, "there is no", digest)
		_, err = f(t.Context(), Place{Lookup: Lookup{Image: r.Host + "/shop/none:1"}}, Trust{Key: public})
		wantRefused(t, err, "there is no image")
	}
	_, err := c.Bundles(t.Context(), Place{Lookup: Lookup{Image: ref}}, BundleTrust{Trust: Trust{Key: public, NoLog: true}, Observed: Observed{None: true}})
	wantRefused(t, err, "there is no bundle of Sigstore of "+digest)
}

// TestOneOfSeveral holds that one signature that holds is enough, and that only
// those are returned.
func TestOneOfSeveral(t *testing.T) {
	r := images.New(t)
	ref, digest := r.Push("shop/web:1")
	key, public := images.Key(t, "ecdsa")
	other, _ := images.Key(t, "ed25519")
	r.Sign(ref, digest, "", images.Signing{Key: other})
	r.Sign(ref, digest, "", images.Signing{Key: key, Annotations: map[string]any{"stage": "prod"}})
	r.Sign(ref, digest, "sha256:"+strings.Repeat("0", 64), images.Signing{Key: key})
	out, err := Of(allowing(r)).Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Signatures) != 1 {
		t.Fatalf("%d signatures hold; want one", len(out.Signatures))
	}
	if p, err := ParsePayload(out.Signatures[0].Payload); err != nil || p.Digest != digest || p.Annotations["stage"] != "prod" {
		t.Errorf("got %+v, %v", p, err)
	}
}

const (
	someone = "release@shop.example"
	issuer  = "https://accounts.shop.example"
)

// TestCertificates holds signatures with certificates against authorities.
func TestCertificates(t *testing.T) {
	authority, stranger := images.NewAuthority(t), images.NewAuthority(t)
	type signing = images.Signing
	for name, test := range map[string]struct {
		sign    func(s *signing)
		trust   Trust
		root    []byte // the network's
		unknown bool
		refused string
	}{
		"trusted":              {trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot()},
		"as a whole":           {trust: Trust{NoTimestamp: true, Whole: true}, root: authority.TrustedRoot()},
		"own trusted root":     {trust: Trust{NoTimestamp: true, TrustedRoot: string(authority.TrustedRoot())}, root: stranger.TrustedRoot()},
		"no trusted root":      {trust: Trust{NoTimestamp: true}, unknown: true, refused: "spec.network.trustedRoot"},
		"a trusted root as {}": {trust: Trust{NoTimestamp: true}, root: []byte("{}"), unknown: true, refused: "the trusted root cannot be read"},
		"of a stranger":        {trust: Trust{NoTimestamp: true}, root: stranger.TrustedRoot(), refused: "of no authority that is trusted"},
		"own roots":            {trust: Trust{NoTimestamp: true, Roots: authority.Root()}, root: authority.TrustedRoot()},
		"own roots, no trusted root": {
			trust: Trust{NoTimestamp: true, Roots: authority.Root()}, unknown: true, refused: "spec.network.trustedRoot",
		},
		"own roots, of a stranger": {trust: Trust{NoTimestamp: true, Roots: stranger.Root()}, root: authority.TrustedRoot(), refused: "of no authority"},
		"roots that are none":      {trust: Trust{NoTimestamp: true, Roots: "none"}, root: authority.TrustedRoot(), refused: "the root certificates cannot be read"},
		"in no log of certificates": {
			root: authority.TrustedRoot(), refused: "in no log of certificates",
		},
		"no certificate": {sign: func(s *signing) { s.Certificate = "" }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "it has no certificate"},
		"no chain":       {sign: func(s *signing) { s.Chain = "" }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "of no authority"},
		"expired when it was signed": {
			sign: func(s *signing) { s.At = time.Now().Add(30 * time.Minute) }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "is valid from",
		},
		"before it was valid": {
			sign: func(s *signing) { s.At = time.Now().Add(-30 * time.Minute) }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "valid",
		},
		"another certificate": {
			sign: func(s *signing) {
				s.Certificate = authority.Keyless(someone, issuer).Certificate
			}, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "by another key",
		},
		"a chain too long": {
			sign: func(s *signing) { s.Chain = strings.Repeat(s.Chain, 10) }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "its chain of certificates cannot be read",
		},
		"logged elsewhere": {
			sign: func(s *signing) { s.Log = stranger }, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "a transparency log that is not trusted",
		},
		"entry of another signature": {
			sign: func(s *signing) {
				r := images.New(t)
				ref, digest := r.Push("a:1")
				var other string
				own := authority.Keyless(someone, issuer)
				own.Annotate = func(a map[string]string) { other = a[annotationBundle] }
				r.Sign(ref, digest, "", own)
				s.Annotate = func(a map[string]string) { a[annotationBundle] = other }
			}, trust: Trust{NoTimestamp: true}, root: authority.TrustedRoot(), refused: "of another payload",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := images.New(t)
			ref, digest := r.Push("shop/web:1")
			s := authority.Keyless(someone, issuer)
			if test.sign != nil {
				test.sign(&s)
			}
			r.Sign(ref, digest, "", s)
			r.Attest(ref, digest, images.Statement(digest, "https://example.com/built", map[string]any{"by": "shop"}), s)
			n := allowing(r)
			n.TrustedRoot = test.root
			for what, f := range map[string]func(context.Context, Place, Trust) (*Verified, error){"signature": Of(n).Signatures, "attestation": Of(n).Attestations} {
				out, err := f(t.Context(), Place{Lookup: Lookup{Image: ref}}, test.trust)
				switch {
				case test.unknown:
					wantUnknown(t, err, test.refused)
				case test.refused != "":
					wantRefused(t, err, test.refused)
				case err != nil:
					t.Errorf("%s: %v", what, err)
				case len(out.Signatures) != 1 || out.Signatures[0].Certificate == nil || out.Signatures[0].Certificate.EmailAddresses[0] != someone:
					t.Errorf("%s: got %+v", what, out)
				}
			}
		})
	}
}

// TestGivenCertificate holds signatures against a certificate in the policy.
func TestGivenCertificate(t *testing.T) {
	authority := images.NewAuthority(t)
	r := images.New(t)
	ref, digest := r.Push("shop/web:1")
	s := authority.Keyless(someone, issuer)
	given := s.Certificate
	s.Certificate, s.Chain, s.Log = "", "", nil
	r.Sign(ref, digest, "", s)
	c, place := Of(allowing(r)), Place{Lookup: Lookup{Image: ref}}
	if _, err := c.Signatures(t.Context(), place, Trust{Certificate: given, NoLog: true}); err != nil {
		t.Error(err)
	}
	_, err := c.Signatures(t.Context(), place, Trust{Certificate: authority.Keyless(someone, issuer).Certificate, NoLog: true})
	wantRefused(t, err, "by another key")
	_, err = c.Signatures(t.Context(), place, Trust{Certificate: "none", NoLog: true})
	wantRefused(t, err, "the certificate cannot be read")
}

// TestAttestations holds attestations with a key.
func TestAttestations(t *testing.T) {
	type signing = images.Signing
	log := images.NewLog(t)
	for name, test := range map[string]struct {
		sign    func(*signing)
		about   string
		trust   func(*Trust)
		refused string
	}{
		"holds":        {},
		"in a log":     {sign: func(s *signing) { s.Log = log }, trust: func(t *Trust) { t.NoLog, t.LogKey = false, log.Public }},
		"another key":  {trust: func(tr *Trust) { _, tr.Key = images.Key(t, "ecdsa") }, refused: "by another key"},
		"about others": {about: "sha256:" + strings.Repeat("cd", 32), refused: "about none of the image's digest"},
		"another type": {sign: func(s *signing) { s.Type = "text/plain" }, refused: `it holds a "text/plain"`},
		"tampered with": {sign: func(s *signing) {
			s.Payload = func(p []byte) []byte { return []byte(strings.Replace(string(p), `"payload":"ey`, `"payload":"ez`, 1)) }
		}, refused: "of another payload"},
		"no envelope": {sign: func(s *signing) { s.Payload = func([]byte) []byte { return []byte("[]") } }, refused: "its envelope cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r := images.New(t)
			ref, digest := r.Push("shop/web:1")
			key, public := images.Key(t, "ecdsa")
			s, trust := signing{Key: key}, Trust{Key: public, NoLog: true}
			if test.sign != nil {
				test.sign(&s)
			}
			if test.trust != nil {
				test.trust(&trust)
			}
			about := test.about
			if about == "" {
				about = digest
			}
			r.Attest(ref, digest, images.Statement(about, "https://example.com/built", map[string]any{"by": "shop"}), s)
			out, err := Of(allowing(r)).Attestations(t.Context(), Place{Lookup: Lookup{Image: ref}}, trust)
			if test.refused != "" {
				wantRefused(t, err, test.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Signatures) != 1 || !strings.Contains(string(out.Signatures[0].Payload), `"by":"shop"`) {
				t.Errorf("got %+v", out)
			}
		})
	}
}

// TestBundles holds bundles of Sigstore.
func TestBundles(t *testing.T) {
	authority, stranger := images.NewAuthority(t), images.NewAuthority(t)
	key, public := images.Key(t, "ecdsa")
	_, other := images.Key(t, "ecdsa")
	const built = "https://example.com/built"
	byKey := func(r *images.Registry, ref, digest string) {
		r.Bundle(ref, digest, images.Statement(digest, built, map[string]any{"by": "shop"}), images.Signing{Key: key})
	}
	keyless := func(r *images.Registry, ref, digest string) {
		r.KeylessBundle(ref, digest, images.Statement(digest, built, map[string]any{"by": "shop"}), authority, someone, issuer)
	}
	keyed := BundleTrust{Trust: Trust{Key: public}, Observed: Observed{None: true}}
	identity := BundleTrust{Identity: Identity{Issuer: issuer, Subject: someone}, Observed: Observed{Log: true, Any: true}}
	with := func(t BundleTrust, change func(*BundleTrust)) BundleTrust { change(&t); return t }
	for name, test := range map[string]struct {
		attach  func(r *images.Registry, ref, digest string)
		trust   BundleTrust
		root    []byte
		unknown bool
		refused string
	}{
		"key":         {attach: byKey, trust: keyed},
		"another key": {attach: byKey, trust: with(keyed, func(t *BundleTrust) { t.Key = other }), refused: "no bundle of Sigstore"},
		"another digest": {attach: func(r *images.Registry, ref, digest string) {
			r.Bundle(ref, digest, images.Statement("sha256:"+strings.Repeat("a", 64), built, nil), images.Signing{Key: key})
		}, trust: keyed, refused: "no bundle of Sigstore"},
		"tampered with": {attach: func(r *images.Registry, ref, digest string) {
			r.Bundle(ref, digest, images.Statement(digest, built, map[string]any{"by": "shop"}), images.Signing{Key: key, Payload: func(p []byte) []byte {
				return []byte(strings.Replace(string(p), "shop", "else", 1))
			}})
		}, trust: keyed, refused: "no bundle of Sigstore"},
		"what it states":  {attach: byKey, trust: with(keyed, func(t *BundleTrust) { t.PredicateType = built })},
		"states others":   {attach: byKey, trust: with(keyed, func(t *BundleTrust) { t.PredicateType = "https://example.com/tested" }), refused: "that states a"},
		"keyless":         {attach: keyless, trust: identity, root: authority.TrustedRoot()},
		"keyless, regexp": {attach: keyless, trust: with(identity, func(t *BundleTrust) { t.Identity = Identity{IssuerRegexp: "shop", SubjectRegexp: "^release@"} }), root: authority.TrustedRoot()},
		"keyless, no trusted root": {
			attach: keyless, trust: identity, unknown: true, refused: "spec.network.trustedRoot",
		},
		"of a stranger":   {attach: keyless, trust: identity, root: stranger.TrustedRoot(), refused: "no bundle of Sigstore"},
		"another subject": {attach: keyless, trust: with(identity, func(t *BundleTrust) { t.Identity.Subject = "thief@shop.example" }), root: authority.TrustedRoot(), refused: "no bundle of Sigstore"},
		"another issuer":  {attach: keyless, trust: with(identity, func(t *BundleTrust) { t.Identity.Issuer = "https://else.example" }), root: authority.TrustedRoot(), refused: "no bundle of Sigstore"},
		"no identity":     {attach: keyless, trust: with(identity, func(t *BundleTrust) { t.Identity = Identity{} }), root: authority.TrustedRoot(), refused: "the identity that the policy asks for"},
		"a certificate that is over": {
			attach: keyless, trust: with(identity, func(t *BundleTrust) { t.Observed = Observed{Signed: true, SCT: true} }), root: authority.TrustedRoot(), refused: "no bundle of Sigstore",
		},
		"broken": {attach: func(r *images.Registry, ref, digest string) {
			r.Refer(ref, digest, typeBundle+".v0.3+json", []byte("{"))
		}, trust: keyed, refused: "cannot be read"},
		"beside a broken one": {attach: func(r *images.Registry, ref, digest string) {
			r.Refer(ref, digest, typeBundle+".v0.3+json", []byte("{"))
			byKey(r, ref, digest)
		}, trust: keyed},
		"something else": {attach: func(r *images.Registry, ref, digest string) { r.Refer(ref, digest, "text/plain", []byte("{")) }, trust: keyed, refused: "there is no bundle"},
		"too many": {attach: func(r *images.Registry, ref, digest string) {
			for i := range maxBundles + 1 {
				r.Refer(ref, digest, "text/plain", fmt.Append(nil, i))
			}
		}, trust: keyed, unknown: true, refused: "at most 50"},
	} {
		t.Run(name, func(t *testing.T) {
			r := images.New(t)
			ref, digest := r.Push("shop/web:1")
			test.attach(r, ref, digest)
			n := allowing(r)
			n.TrustedRoot = test.root
			out, err := Of(n).Bundles(t.Context(), Place{Lookup: Lookup{Image: ref}}, test.trust)
			switch {
			case test.unknown:
				wantUnknown(t, err, test.refused)
			case test.refused != "":
				wantRefused(t, err, test.refused)
			case err != nil:
				t.Fatal(err)
			case len(out.Signatures) != 1 || !strings.Contains(string(out.Signatures[0].Payload), `"by":"shop"`):
				t.Errorf("got %+v", out)
			}
		})
	}
}

// TestNoAnswer holds what registries do that do not answer as they should: nothing
// is made of it, and it does not take long.
func TestNoAnswer(t *testing.T) {
	_, public := images.Key(t, "ecdsa")
	trust := Trust{Key: public, NoLog: true}
	huge := strings.Repeat(" ", maxAnswer+1)
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		words  []string
	}{
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true }, []string{"403"}},
		"asks who is there": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, []string{"401"}},
		"broken": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}, []string{"500"}},
		"slow": {func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, []string{"does not answer", "there was no answer in 200ms"}},
		"a huge manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte(huge))
			return true
		}, []string{"16 MiB"}},
		"no manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte("[]"))
			return true
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := images.New(t)
			ref, _ := r.Push("shop/web:1")
			r.Answer(test.answer)
			n := allowing(r)
			if name == "slow" {
				n.Timeout = 200 * time.Millisecond
			}
			start := time.Now()
			_, err := Of(n).Image(t.Context(), Lookup{Image: ref})
			wantUnknown(t, err)
			_, err = Of(n).Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, trust)
			wantUnknown(t, err, test.words...)
			for i := range 10 { // other images of the registry do not wait each
				_, err = Of(n).Image(t.Context(), Lookup{Image: fmt.Sprintf("%s%d", ref, i)})
				wantUnknown(t, err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestDown(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	host := strings.TrimPrefix(s.URL, "http://")
	s.Close()
	n := &policy.Network{Registries: []string{host}}
	for i := range 1000 {
		_, err := Of(n).Digest(t.Context(), Lookup{Image: fmt.Sprintf("%s/shop/web:%d", host, i)})
		wantUnknown(t, err, "the registry "+host, "connection refused")
		if strings.Contains(err.Error(), "/v2/") {
			t.Fatalf("the error shows an address: %v", err)
		}
	}
}

// TestRedirect holds that a registry on this machine may send to another place on
// it, and one that is elsewhere may not send here.
func TestRedirect(t *testing.T) {
	r, other := images.New(t), images.New(t)
	other.Answer(func(w http.ResponseWriter, _ *http.Request) bool { return false })
	ref, _ := r.Push("shop/web:1")
	if _, err := Of(allowing(r)).Digest(t.Context(), Lookup{Image: ref}); err != nil {
		t.Fatal(err)
	}
	guard := Transport{RoundTripper: http.DefaultTransport, Apart: true, Max: 1 << 20}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+other.Host+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := guard.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, errPlain) || other.Requests.Load() != 0 {
		t.Errorf("got %v, %d requests", err, other.Requests.Load())
	}
}

// TestOneLookup holds that what a thousand pods ask is asked once.
func TestOneLookup(t *testing.T) {
	r := images.New(t)
	ref, digest := r.Push("shop/web:1")
	key, public := images.Key(t, "ecdsa")
	r.Sign(ref, digest, "", images.Signing{Key: key})
	n := allowing(r)
	one := func() {
		if _, err := Of(n).Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public, NoLog: true}); err != nil {
			t.Error(err)
		}
	}
	one()
	once := r.Requests.Load()
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(one)
	}
	wg.Wait()
	if got := r.Requests.Load(); got != once {
		t.Errorf("the registry was asked %d times for one pod, and %d times for 1,001", once, got)
	}
}

func TestTooManySignatures(t *testing.T) {
	r := images.New(t)
	ref, digest := r.Push("shop/web:1")
	key, public := images.Key(t, "ecdsa")
	r.Sign(ref, digest, "", images.Signing{Key: key, Annotate: func(a map[string]string) { maps.Copy(a, map[string]string{"a": "b"}) }})
	v := &verifier{trust: Trust{NoLog: true}}
	if _, err := v.all(digest, nil, true); err == nil {
		t.Error("no attestations hold")
	}
	for range maxSignatures {
		r.Sign(ref, digest, "", images.Signing{Key: key})
	}
	_, err := Of(allowing(r)).Signatures(t.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public, NoLog: true})
	wantUnknown(t, err, "at most 100")
}

// FuzzPayload reads what registries may have as signed documents and entries of
// logs.
func FuzzPayload(f *testing.F) {
	f.Add(images.Payload("registry.example/shop", "sha256:"+strings.Repeat("a", 64), map[string]any{"a": 1}), "e30=")
	f.Add([]byte(`{"critical":null,"optional":[]}`), "eyJraW5kIjoiZHNzZSIsImFwaVZlcnNpb24iOiIwLjAuMSJ9")
	f.Add([]byte("nul"), "%")
	f.Fuzz(func(t *testing.T, data []byte, body string) {
		if p, err := ParsePayload(data); (p == nil) == (err == nil) {
			t.Errorf("got %v, %v", p, err)
		}
		if e, err := parseEntry(body); (e == nil) == (err == nil) {
			t.Errorf("got %v, %v", e, err)
		}
		if about(data, "sha256:"+strings.Repeat("a", 64)) == nil && !strings.Contains(string(data), strings.Repeat("a", 64)) {
			t.Error("a statement is about an image that it does not name")
		}
	})
}

func BenchmarkSignatures(b *testing.B) {
	r := images.New(b)
	ref, digest := r.Push("shop/web:1")
	key, public := images.Key(b, "ecdsa")
	r.Sign(ref, digest, "", images.Signing{Key: key})
	c := Of(allowing(r))
	for b.Loop() {
		if _, err := c.Signatures(b.Context(), Place{Lookup: Lookup{Image: ref}}, Trust{Key: public, NoLog: true}); err != nil {
			b.Fatal(err)
		}
	}
}
