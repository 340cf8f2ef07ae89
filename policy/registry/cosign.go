// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"sconce.dev/sconce/policy/answers"
)

// maxSignatures bounds the signatures, and the attestations, of an image that are
// tried.
const maxSignatures = 100

// Place is where the signatures of an image are.
type Place struct {
	Lookup
	// Repository has them, where it is not the image's own.
	Repository string
	// Prefix stands before cosign's tags.
	Prefix string
	// OCI11 looks for signatures among the referrers of the image before it looks
	// at the tag.
	OCI11 bool
}

// Signature is one that holds: whoever is trusted has signed its payload, which is
// about the image.
type Signature struct {
	// Payload is a simple-signing document, or the statement of an attestation.
	Payload []byte
	// Certificate is that of who signed; nil for a key without one.
	Certificate *x509.Certificate
	// Annotations are those of the part of the artifact that holds it. They are not
	// signed.
	Annotations map[string]string
	// Logged says that an entry of a transparency log was verified.
	Logged bool
}

// Verified are the signatures of an image that hold; at least one.
type Verified struct {
	Digest     string // the image's
	Signatures []Signature
}

// What cosign names parts of an artifact with.
const (
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationChain       = "dev.sigstore.cosign/chain"
	annotationBundle      = "dev.sigstore.cosign/bundle"
	annotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"

	typeOCI11Signature = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

// Signatures returns the signatures of an image that hold: those under cosign's
// tag.
func (c *Client) Signatures(ctx context.Context, p Place, trust Trust) (*Verified, error) {
	if p.OCI11 {
		out, err := c.verified(ctx, p, trust, referred)
		if err == nil {
			return out, nil
		}
		var unknown *answers.UnknownError
		beside, other := c.verified(ctx, p, trust, signatures)
		if other != nil && errors.As(err, &unknown) {
			other = err
		}
		return beside, other
	}
	return c.verified(ctx, p, trust, signatures)
}

// Attestations returns the attestations of an image whose signatures hold: those
// under cosign's tag.
func (c *Client) Attestations(ctx context.Context, p Place, trust Trust) (*Verified, error) {
	return c.verified(ctx, p, trust, attestations)
}

// form is how signatures are kept.
type form string

const (
	signatures   form = "sig"
	attestations form = "att"
	referred     form = "referred"
)

type layersKey struct {
	repository, prefix string
	digest             string
	form               form
}

type verifiedKey struct {
	layers layersKey
	trust  Trust
}

// verified verifies what is kept in a form.
func (c *Client) verified(ctx context.Context, p Place, trust Trust, f form) (*Verified, error) {
	image, digest, err := c.resolve(ctx, p.Lookup)
	if err != nil {
		return nil, err
	}
	at, err := c.signaturesOf(image, p)
	if err != nil {
		return nil, err
	}
	key := layersKey{at.Context().Name(), p.Prefix, digest, f}
	layers, err := ask(ctx, at, key, p.age(), func(ctx context.Context) ([]layer, int, error) { return at.kept(ctx, key) })
	if err != nil {
		return nil, err
	}
	// What a certificate is held against is the time, too: the verdict is kept no
	// longer than the answer of the registry.
	return keep(ctx, c, verifiedKey{key, trust}, p.age(), func() (*Verified, error) {
		v, err := c.verifier(trust)
		if err != nil {
			return nil, err
		}
		return v.all(digest, layers, f == attestations)
	})
}

// keep gets what is made of answers, or what was made of them.
func keep[T any](ctx context.Context, c *Client, key any, age time.Duration, made func() (T, error)) (T, error) {
	got, err := c.kept.Get(ctx, key, age, c.network.Limit(), func(context.Context) (answers.Answer, error) {
		value, err := made()
		return answers.Answer{Value: value, Size: 1 << 10}, err
	})
	value, _ := got.(T)
	return value, err
}

// resolve returns the image and its digest.
func (c *Client) resolve(ctx context.Context, l Lookup) (*target, string, error) {
	image, err := c.target(l.Image)
	if err != nil {
		return nil, "", err
	}
	digest, err := image.digest(ctx, l.age())
	return image, digest, err
}

// signaturesOf returns the repository that has the signatures of an image.
func (c *Client) signaturesOf(image *target, p Place) (*target, error) {
	if p.Repository == "" {
		return image, nil
	}
	repository, err := name.NewRepository(p.Repository)
	if err != nil {
		return nil, refused("the repository of the signatures, %q: %v", p.Repository, err)
	}
	return c.at(repository.Tag("latest"))
}

// kept reads the signatures of a form; none where there are none.
func (t *target) kept(ctx context.Context, key layersKey) ([]layer, int, error) {
	ref := name.Reference(t.Context().Tag(key.prefix + strings.Replace(key.digest, ":", "-", 1) + "." + string(key.form)))
	if key.form == referred {
		last, err := t.lastReferrer(ctx, key.digest)
		if err != nil || last == nil {
			return nil, 0, err
		}
		ref = last
	}
	left := int64(maxRead)
	out, err := t.layers(ctx, ref, &left)
	if missing(err) {
		return nil, 0, nil
	}
	return out, int(maxRead - left), err
}

// lastReferrer returns the last of the artifacts with signatures that refer to an
// image; nil where there is none.
func (t *target) lastReferrer(ctx context.Context, digest string) (name.Reference, error) {
	index, err := remote.Referrers(t.Context().Digest(digest), append(t.with(ctx), remote.WithFilter("artifactType", typeOCI11Signature))...)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Backward(m.Manifests) {
		if d.ArtifactType == typeOCI11Signature {
			return t.Context().Digest(d.Digest.String()), nil
		}
	}
	return nil, nil
}

// all verifies signatures. Where none holds, it is not known whether one does if
// that of one could not be found out.
func (v *verifier) all(digest string, layers []layer, attested bool) (*Verified, error) {
	what := "signature"
	if attested {
		what = "attestation"
	}
	if len(layers) == 0 {
		return nil, refused("there is no %s of %s", what, digest)
	}
	out := &Verified{Digest: digest}
	var why []string
	var undecided *answers.UnknownError
	for _, l := range layers {
		s, err := v.one(digest, l, attested)
		if err == nil {
			out.Signatures = append(out.Signatures, *s)
			continue
		}
		if unknown := (*answers.UnknownError)(nil); errors.As(err, &unknown) && undecided == nil {
			undecided = unknown
		}
		why = append(why, err.Error())
	}
	switch {
	case len(out.Signatures) > 0:
		return out, nil
	case undecided != nil:
		return nil, undecided
	}
	return nil, refused("no %s of %s holds (%d found): %s", what, digest, len(layers), summary(why))
}

// summary are the first of some reasons, each once.
func summary(why []string) string {
	slices.Sort(why)
	why = slices.Compact(why)
	if len(why) > 3 {
		why = append(why[:3:3], fmt.Sprintf("and %d more", len(why)-3))
	}
	return strings.Join(why, "; ")
}

// Payload is what a simple-signing document says.
type Payload struct {
	Digest      string         // of the image that it is about
	Annotations map[string]any // what the signer added
}

// ParsePayload reads a simple-signing document:
// https://github.com/containers/image/blob/main/docs/containers-signature.5.md
func ParsePayload(data []byte) (*Payload, error) {
	var in struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
		Optional map[string]any `json:"optional"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("reading the payload of a signature: %w", err)
	}
	return &Payload{in.Critical.Image.Digest, in.Optional}, nil
}
