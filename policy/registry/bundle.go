// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"sconce.dev/sconce/policy/answers"
)

// typeBundle begins the types of artifacts that are bundles of Sigstore.
const typeBundle = "application/vnd.dev.sigstore.bundle"

// maxBundles bounds the referrers of an image that are looked at.
const maxBundles = 50

// Observed is what must have seen a signature of a bundle when it was made.
type Observed struct {
	// Log is an entry of a transparency log, SCT one of a log of certificates.
	Log, SCT bool
	// Any is a time of whoever; Integrated that of the log, Signed that of who
	// signs times.
	Any, Integrated, Signed bool
	// Now holds a certificate against the present time, None against none.
	Now, None bool
	// SignedIfTimeless is Signed where no entry of a log has a time.
	SignedIfTimeless bool
}

// Identity is who must have signed, where it was no key. Issuer and Subject are
// met exactly, or by regular expressions somewhere in them.
type Identity struct {
	Issuer, IssuerRegexp   string
	Subject, SubjectRegexp string
}

// BundleTrust is which bundles of Sigstore hold.
type BundleTrust struct {
	Trust
	Identity Identity
	Observed Observed
	// PredicateType leaves out what states something else.
	PredicateType string
}

type bundlesKey struct{ repository, digest string }

type heldKey struct {
	bundles bundlesKey
	trust   BundleTrust
}

// sigstoreBundle is one of an image's.
type sigstoreBundle struct {
	*bundle.Bundle
	bad error // why it cannot be read
}

// Bundles returns the bundles of Sigstore of an image that hold, as signatures of
// statements.
func (c *Client) Bundles(ctx context.Context, p Place, trust BundleTrust) (*Verified, error) {
	at, digest, found, err := c.bundles(ctx, p)
	if err != nil {
		return nil, err
	}
	return keep(ctx, c, heldKey{bundlesKey{at.Context().Name(), digest}, trust}, p.age(), func() (*Verified, error) {
		return c.hold(digest, found, trust)
	})
}

// HasBundles says whether an image has bundles of Sigstore that can be read.
func (c *Client) HasBundles(ctx context.Context, p Place) (bool, error) {
	_, _, found, err := c.bundles(ctx, p)
	for _, b := range found {
		if b.bad == nil {
			return true, err
		}
	}
	return false, err
}

func (c *Client) bundles(ctx context.Context, p Place) (at *target, digest string, found []sigstoreBundle, err error) {
	image, digest, err := c.resolve(ctx, p.Lookup)
	if err != nil {
		return nil, "", nil, err
	}
	if at, err = c.signaturesOf(image, p); err != nil {
		return nil, "", nil, err
	}
	found, err = ask(ctx, at, bundlesKey{at.Context().Name(), digest}, p.age(), func(ctx context.Context) ([]sigstoreBundle, int, error) {
		return at.referrers(ctx, digest)
	})
	return at, digest, found, err
}

// referrers reads the bundles that refer to an image.
func (t *target) referrers(ctx context.Context, digest string) ([]sigstoreBundle, int, error) {
	m, err := t.referring(ctx, digest)
	if err != nil {
		return nil, 0, err
	}
	var out []sigstoreBundle
	left := int64(maxRead)
	for _, d := range m.Manifests {
		if !strings.HasPrefix(d.ArtifactType, typeBundle) {
			continue
		}
		layers, err := t.layers(ctx, t.Context().Digest(d.Digest.String()), &left)
		if err != nil {
			return nil, 0, err
		}
		if len(layers) == 0 {
			out = append(out, sigstoreBundle{bad: refused("a bundle of Sigstore is empty")})
			continue
		}
		var b bundle.Bundle
		if err := b.UnmarshalJSON(layers[0].data); err != nil {
			out = append(out, sigstoreBundle{bad: refused("a bundle of Sigstore cannot be read: %v", err)})
			continue
		}
		out = append(out, sigstoreBundle{Bundle: &b})
	}
	return out, int(maxRead-left) * 2, nil
}

type artifactKey struct{ repository, digest, kind string }

// Artifact reads the first of the artifacts of a type that refer to an image. It is
// not signed.
func (c *Client) Artifact(ctx context.Context, l Lookup, kind string) ([]byte, error) {
	image, digest, err := c.resolve(ctx, l)
	if err != nil {
		return nil, err
	}
	return ask(ctx, image, artifactKey{image.Context().Name(), digest, kind}, l.age(), func(ctx context.Context) ([]byte, int, error) {
		m, err := image.referring(ctx, digest)
		if err != nil {
			return nil, 0, err
		}
		for _, d := range m.Manifests {
			if d.ArtifactType != kind {
				continue
			}
			left := int64(maxRead)
			layers, err := image.layers(ctx, image.Context().Digest(d.Digest.String()), &left)
			if err != nil || len(layers) != 1 {
				return nil, 0, cmp.Or(err, refused("the artifact %s of %s has %d parts; want one", d.Digest, image, len(layers)))
			}
			return layers[0].data, len(layers[0].data), nil
		}
		return nil, 0, refused("no artifact of type %s refers to %s", kind, image)
	})
}

// referring lists what refers to an image.
func (t *target) referring(ctx context.Context, digest string) (*v1.IndexManifest, error) {
	index, err := remote.Referrers(t.Context().Digest(digest), t.with(ctx)...)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err == nil && len(m.Manifests) > maxBundles {
		err = answers.Unknown("%d artifacts refer to %s; at most %d are looked at", len(m.Manifests), t, maxBundles)
	}
	return m, err
}

// hold verifies bundles.
func (c *Client) hold(digest string, found []sigstoreBundle, trust BundleTrust) (*Verified, error) {
	material, err := c.material(trust)
	if err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return nil, answers.Unknown("the digest %q is none of SHA-256", digest)
	}
	policy, err := trust.policy(verify.WithArtifactDigest("sha256", sum))
	if err != nil {
		return nil, err
	}
	out := &Verified{Digest: digest}
	var why []string
	for _, b := range found {
		s, err := held(b, material, trust, policy)
		switch {
		case err != nil:
			why = append(why, err.Error())
		case s != nil:
			out.Signatures = append(out.Signatures, *s)
		}
	}
	switch {
	case len(out.Signatures) > 0:
		return out, nil
	case len(why) == 0 && trust.PredicateType != "":
		return nil, refused("there is no bundle of Sigstore of %s that states a %q", digest, trust.PredicateType)
	case len(why) == 0:
		return nil, refused("there is no bundle of Sigstore of %s", digest)
	}
	return nil, refused("no bundle of Sigstore of %s holds (%d found): %s", digest, len(found), summary(why))
}

// held verifies one bundle; nil for one that states something else.
func held(b sigstoreBundle, material root.TrustedMaterial, trust BundleTrust, policy verify.PolicyBuilder) (*Signature, error) {
	if b.bad != nil {
		return nil, b.bad
	}
	var payload []byte
	if e := b.GetDsseEnvelope(); e != nil && e.GetPayloadType() == typeStatement {
		payload = e.GetPayload()
	}
	var s statement
	if payload != nil {
		if err := json.Unmarshal(payload, &s); err != nil {
			return nil, refused("its statement cannot be read: %v", err)
		}
	}
	if trust.PredicateType != "" && s.PredicateType != trust.PredicateType {
		return nil, nil
	}
	v, err := verify.NewVerifier(material, trust.Observed.options(b)...)
	if err != nil {
		return nil, refused("what the policy asks cannot be verified: %v", err)
	}
	result, err := v.Verify(b.Bundle, policy)
	if err != nil {
		return nil, refused("%v", err)
	}
	out := &Signature{Payload: payload, Logged: trust.Observed.Log}
	if content, err := b.VerificationContent(); err == nil && content.Certificate() != nil {
		out.Certificate = content.Certificate()
	}
	if result.Statement == nil {
		out.Payload = nil
	}
	return out, nil
}

// options are those of Sigstore's library.
func (o Observed) options(b sigstoreBundle) []verify.VerifierOption {
	var out []verify.VerifierOption
	if o.SignedIfTimeless && timeless(b) {
		o.Signed, o.Integrated = true, false
	}
	for _, option := range []struct {
		on   bool
		made func() verify.VerifierOption
	}{
		{o.Log, func() verify.VerifierOption { return verify.WithTransparencyLog(1) }},
		{o.SCT, func() verify.VerifierOption { return verify.WithSignedCertificateTimestamps(1) }},
		{o.Any, func() verify.VerifierOption { return verify.WithObserverTimestamps(1) }},
		{o.Integrated, func() verify.VerifierOption { return verify.WithIntegratedTimestamps(1) }},
		{o.Signed, func() verify.VerifierOption { return verify.WithSignedTimestamps(1) }},
		{o.Now, verify.WithCurrentTime},
		{o.None, verify.WithNoObserverTimestamps},
	} {
		if option.on {
			out = append(out, option.made())
		}
	}
	return out
}

// timeless says whether a bundle has entries of logs, and none with a time.
func timeless(b sigstoreBundle) bool {
	entries, err := b.TlogEntries()
	if err != nil || len(entries) == 0 {
		return false
	}
	for _, e := range entries {
		if !e.IntegratedTime().IsZero() {
			return false
		}
	}
	return true
}

// material is what bundles are held against.
func (c *Client) material(trust BundleTrust) (root.TrustedMaterial, error) {
	v, err := c.verifier(trust.Trust)
	if err != nil {
		return nil, err
	}
	var out root.TrustedMaterialCollection
	if v.key != nil {
		key := root.NewExpiringKey(v.key, time.Time{}, time.Time{})
		out = append(out, root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return key, nil }))
	}
	o := trust.Observed
	switch needed := v.key == nil || o.Log || o.Any || o.Signed || o.Integrated; {
	case v.material != nil:
		out = append(out, v.material)
	case needed:
		return nil, noRoot("a bundle of Sigstore")
	}
	if trust.Timestamps != "" {
		out = append(out, timesOnly{v.times})
	}
	return out, nil
}

// timesOnly are those who sign times.
type timesOnly struct{ authorities []root.TimestampingAuthority }

// TimestampingAuthorities implements root.TrustedMaterial.
func (t timesOnly) TimestampingAuthorities() []root.TimestampingAuthority { return t.authorities }

// FulcioCertificateAuthorities implements root.TrustedMaterial.
func (timesOnly) FulcioCertificateAuthorities() []root.CertificateAuthority { return nil }

// RekorLogs implements root.TrustedMaterial.
func (timesOnly) RekorLogs() map[string]*root.TransparencyLog { return nil }

// CTLogs implements root.TrustedMaterial.
func (timesOnly) CTLogs() map[string]*root.TransparencyLog { return nil }

// PublicKeyVerifier implements root.TrustedMaterial.
func (timesOnly) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	return nil, errors.New("there is no key")
}

// policy is who must have signed.
func (t *BundleTrust) policy(artifact verify.ArtifactPolicyOption) (verify.PolicyBuilder, error) {
	if t.Key != "" || t.Certificate != "" {
		return verify.NewPolicy(artifact, verify.WithKey()), nil
	}
	i := t.Identity
	id, err := verify.NewShortCertificateIdentity(i.Issuer, i.IssuerRegexp, i.Subject, i.SubjectRegexp)
	if err != nil {
		return verify.PolicyBuilder{}, refused("the identity that the policy asks for: %v", err)
	}
	return verify.NewPolicy(artifact, verify.WithCertificateIdentity(id)), nil
}
