// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"sconce.dev/sconce/policy/registry"
)

// RemoteOptions say how a registry is spoken to.
type RemoteOptions struct {
	// PlainHTTP lets a registry that is not on this machine be spoken to without
	// encryption.
	PlainHTTP bool
	// Keychain has the credentials; those of Docker's configuration if it is nil.
	Keychain authn.Keychain
	// Transport is what requests go over; the standard one if it is nil.
	Transport http.RoundTripper
	// UserAgent is how to introduce oneself.
	UserAgent string
	// Verify must accept a signature of a bundle before Pull returns it. Without
	// it, what the registry has is taken.
	Verify *Verifier
}

// maxBody bounds what is read of one answer of a registry.
const maxBody = maxLayer + 1<<20

func (o RemoteOptions) options(ctx context.Context) []remote.Option {
	keychain, transport, agent := o.Keychain, o.Transport, o.UserAgent
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	if transport == nil {
		transport = remote.DefaultTransport
	}
	if agent == "" {
		agent = "sconce"
	}
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain), remote.WithUserAgent(agent),
		remote.WithTransport(registry.Transport{RoundTripper: transport, Plain: o.PlainHTTP, Max: maxBody}),
	}
}

func (o RemoteOptions) parse(ref string) (name.Reference, error) {
	options := []name.Option{name.StrictValidation}
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	r, err := name.ParseReference(ref, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the reference %q: %w; want one like registry.example/policies/shop:1.4.0", ref, err)
	}
	return r, nil
}

// Push sends a bundle to a registry, under a tag or a digest, and returns the
// digest of its manifest.
func Push(ctx context.Context, ref string, b *Bundle, opts RemoteOptions) (digest string, err error) {
	if b.artifact == nil {
		return "", fmt.Errorf("pushing to %s: the bundle was not built", ref)
	}
	r, err := opts.parse(ref)
	if err != nil {
		return "", err
	}
	image, err := b.artifact.image()
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	if err := remote.Write(r, image, opts.options(ctx)...); err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	return b.Digest, nil
}

// Pull gets a bundle from a registry. If opts.Verify is set, nothing is returned,
// and no file of it is even fetched, unless a signature holds.
func Pull(ctx context.Context, ref string, opts RemoteOptions) (*Bundle, error) {
	r, err := opts.parse(ref)
	if err != nil {
		return nil, err
	}
	b, err := pull(ctx, r, opts)
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", ref, err)
	}
	return b, nil
}

func pull(ctx context.Context, r name.Reference, opts RemoteOptions) (*Bundle, error) {
	options := opts.options(ctx)
	d, err := remote.Get(r, options...)
	if err != nil {
		return nil, err
	}
	p, err := readManifest(d.Manifest, ConfigType, LayerType)
	if err != nil {
		return nil, err
	}
	if opts.Verify != nil {
		if err := verifyRemote(r, digestOf(d.Manifest), opts.Verify, options); err != nil {
			return nil, err
		}
	}
	a, err := p.fetch(blobsOf(r.Context(), options))
	if err != nil {
		return nil, err
	}
	return unpack(a)
}

func blobsOf(repo name.Repository, options []remote.Option) func(v1.Descriptor) (io.ReadCloser, error) {
	return func(d v1.Descriptor) (io.ReadCloser, error) {
		l, err := remote.Layer(repo.Digest(d.Digest.String()), options...)
		if err != nil {
			return nil, err
		}
		return l.Compressed()
	}
}

// Sign signs the bundle that a registry has under a reference, and puts the
// signature beside it, where it is found by the bundle's digest. It returns that
// digest.
func Sign(ctx context.Context, ref string, key Signer, opts RemoteOptions) (digest string, err error) {
	r, err := opts.parse(ref)
	if err != nil {
		return "", err
	}
	d, err := remote.Get(r, opts.options(ctx)...)
	if err != nil {
		return "", fmt.Errorf("signing %s: %w", ref, err)
	}
	if _, err := readManifest(d.Manifest, ConfigType, LayerType); err != nil {
		return "", fmt.Errorf("signing %s: %w", ref, err)
	}
	digest = digestOf(d.Manifest)
	signature, err := signDigest(ctx, digest, key)
	if err != nil {
		return "", fmt.Errorf("signing %s: %w", ref, err)
	}
	return digest, attach(ctx, r, d.Manifest, signature, opts)
}

// Attach puts a signature that was made elsewhere beside the bundle that a
// registry has under a reference.
func Attach(ctx context.Context, ref string, signature []byte, opts RemoteOptions) error {
	r, err := opts.parse(ref)
	if err != nil {
		return err
	}
	d, err := remote.Get(r, opts.options(ctx)...)
	if err != nil {
		return fmt.Errorf("attaching a signature to %s: %w", ref, err)
	}
	return attach(ctx, r, d.Manifest, signature, opts)
}

func attach(ctx context.Context, r name.Reference, manifest, signature []byte, opts RemoteOptions) error {
	a, err := signatureArtifact(manifest, signature)
	if err != nil {
		return fmt.Errorf("attaching a signature to %s: %w", r, err)
	}
	image, err := a.image()
	if err != nil {
		return fmt.Errorf("attaching a signature to %s: %w", r, err)
	}
	if err := remote.Write(r.Context().Digest(a.digest()), image, opts.options(ctx)...); err != nil {
		return fmt.Errorf("attaching a signature to %s: %w", r, err)
	}
	return nil
}

// Verify says whether a signature of the bundle that a registry has under a
// reference holds, and returns the bundle's digest. None of its files is fetched.
func Verify(ctx context.Context, ref string, v *Verifier, opts RemoteOptions) (digest string, err error) {
	r, err := opts.parse(ref)
	if err != nil {
		return "", err
	}
	options := opts.options(ctx)
	d, err := remote.Get(r, options...)
	if err != nil {
		return "", fmt.Errorf("verifying %s: %w", ref, err)
	}
	digest = digestOf(d.Manifest)
	if err := verifyRemote(r, digest, v, options); err != nil {
		return "", fmt.Errorf("verifying %s: %w", ref, err)
	}
	return digest, nil
}

// maxSignatures bounds the signatures that are tried.
const maxSignatures = 32

func verifyRemote(r name.Reference, digest string, v *Verifier, options []remote.Option) error {
	index, err := remote.Referrers(r.Context().Digest(digest), options...)
	if err != nil {
		return fmt.Errorf("looking for its signatures: %w", err)
	}
	manifests, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("looking for its signatures: %w", err)
	}
	var signatures [][]byte
	var unread error
	tried := 0
	for _, d := range manifests.Manifests {
		if !mayBeSignature(d) || tried == maxSignatures {
			continue
		}
		tried++
		switch s, err := remoteSignature(r.Context(), d, options); {
		case err == nil:
			signatures = append(signatures, s)
		case d.ArtifactType == signatureType:
			unread = errors.Join(unread, err)
		}
	}
	return v.any(digest, signatures, unread)
}

// mayBeSignature says whether a registry's word for an artifact allows for a
// signature: some go by the type of its config.
func mayBeSignature(d v1.Descriptor) bool {
	return d.ArtifactType == signatureType || d.ArtifactType == emptyType || d.ArtifactType == ""
}

func remoteSignature(repo name.Repository, d v1.Descriptor, options []remote.Option) ([]byte, error) {
	m, err := remote.Get(repo.Digest(d.Digest.String()), options...)
	if err != nil {
		return nil, fmt.Errorf("reading the signature %s: %w", d.Digest, err)
	}
	return readSignature(m.Manifest, blobsOf(repo, options))
}
