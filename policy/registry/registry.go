// SPDX-License-Identifier: Apache-2.0

// Package registry looks images up for policies, in the registries that a network
// allows and in no others: what a reference means, what an image is made of, and
// which of its signatures and attestations hold. Signatures are those of cosign,
// kept under tags, and bundles of Sigstore, kept as referrers.
//
// What cannot be found out is an *answers.UnknownError; any other error is a
// refusal: that there is no such image, or that no signature holds. Answers are
// kept for some minutes. Nothing but registries is asked: no transparency log, and
// none of Sigstore's services. What these would say is held against what a
// signature carries with it and the trusted root of the network.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/sigstore/sigstore-go/pkg/root"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
)

// The bounds of what is read.
const (
	maxManifest = 4 << 20
	maxAnswer   = 16 << 20
	maxRead     = 32 << 20 // all signatures of an image
)

// Client looks images up. It is safe for concurrent use.
type Client struct {
	network *policy.Network
	kept    answers.Kept
	down    answers.Outages
	root    func() (*root.TrustedRoot, error) // the network's
}

type clientKey struct{}

// Of returns the client of a network. Without a network it asks nothing.
func Of(n *policy.Network) *Client {
	if n == nil {
		return &Client{}
	}
	return policy.OnceFor(n, clientKey{}, func() *Client {
		return &Client{network: n, root: sync.OnceValues(func() (*root.TrustedRoot, error) { return readRoot(n.TrustedRoot) })}
	})
}

// RefusedError is what a registry says no to, or that nothing of what it has
// holds.
type RefusedError struct{ What string }

// Error implements error.
func (e *RefusedError) Error() string { return e.What }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// Lookup is which image is meant, and how it is looked up.
type Lookup struct {
	Image string
	// Fresh asks for no answer that was kept for long.
	Fresh bool
}

func (l Lookup) age() time.Duration {
	if l.Fresh {
		return answers.FreshAge
	}
	return answers.Age
}

// target is a reference in a registry that may be asked.
type target struct {
	name.Reference
	client  *Client
	options []remote.Option
}

// target parses a reference.
func (c *Client) target(image string) (*target, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, refused("the reference %q: %v", image, err)
	}
	return c.at(ref)
}

// at returns how to ask for a reference.
func (c *Client) at(ref name.Reference) (*target, error) {
	host := displayed(ref.Context().RegistryStr())
	if err := c.network.Registry(host); err != nil {
		return nil, &answers.UnknownError{What: err.Error()}
	}
	return &target{Reference: ref, client: c, options: []remote.Option{
		remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("sconce"),
		remote.WithTransport(Transport{RoundTripper: remote.DefaultTransport, Apart: !Loopback(hostname(host)), Max: maxAnswer}),
		remote.WithRetryBackoff(remote.Backoff{Duration: 100 * time.Millisecond, Factor: 3, Steps: 2}), remote.WithRetryStatusCodes(),
	}}, nil
}

func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// displayed is what people call a registry.
func displayed(registry string) string {
	if registry == name.DefaultRegistry {
		return "docker.io"
	}
	return registry
}

// with are the options of one question.
func (t *target) with(ctx context.Context) []remote.Option {
	return append(t.options[:len(t.options):len(t.options)], remote.WithContext(ctx))
}

// ask gets an answer about the target, or the one that is kept.
func ask[T any](ctx context.Context, t *target, key any, age time.Duration, find func(context.Context) (T, int, error)) (T, error) {
	host := t.Context().RegistryStr()
	got, err := t.client.kept.Get(ctx, key, age, t.client.network.Limit(), func(ctx context.Context) (answers.Answer, error) {
		if err := t.client.down.Of(host); err != nil {
			return answers.Answer{}, err
		}
		value, size, err := find(ctx)
		if err != nil {
			err = t.explain(ctx, err)
		}
		return answers.Answer{Value: value, Size: size}, err
	})
	value, _ := got.(T)
	return value, err
}

// explain says what an error of a registry means.
func (t *target) explain(ctx context.Context, err error) error {
	var unknown *answers.UnknownError
	var no *RefusedError
	if errors.As(err, &unknown) || errors.As(err, &no) {
		return err
	}
	if missing(err) {
		return refused("there is no image %s", t)
	}
	host := displayed(t.Context().RegistryStr())
	why := words(err)
	if ctx.Err() != nil {
		why = "there was no answer in " + t.client.network.Limit().String()
	}
	if ctx.Err() != nil || broken(err) {
		t.client.down.Add(t.Context().RegistryStr(), fmt.Sprintf("the registry %s does not answer: %s", host, why))
	}
	return answers.Unknown("asking the registry %s about %s: %s", host, t, why)
}

// missing says whether a registry has no such thing.
func missing(err error) bool {
	var answered *transport.Error
	return errors.As(err, &answered) && answered.StatusCode == http.StatusNotFound
}

// broken says whether an error is that a registry cannot answer, whatever it is
// asked.
func broken(err error) bool {
	var answered *transport.Error
	if errors.As(err, &answered) {
		return answered.StatusCode >= http.StatusInternalServerError || answered.StatusCode == http.StatusTooManyRequests
	}
	var asked *url.Error
	return errors.As(err, &asked) && !errors.Is(err, errPlain) && !errors.Is(err, errLarge)
}

// words are those of an error without the addresses that were asked: these may
// hold what lets in.
func words(err error) string {
	var answered *transport.Error
	if errors.As(err, &answered) {
		return fmt.Sprintf("it answers with %d %s", answered.StatusCode, http.StatusText(answered.StatusCode))
	}
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	if errors.Is(err, errLarge) {
		return fmt.Sprintf("an answer is larger than the %d MiB that are read", maxAnswer>>20)
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

type digestKey struct{ image string }

// Digest returns the digest of what a reference means.
func (c *Client) Digest(ctx context.Context, l Lookup) (string, error) {
	t, err := c.target(l.Image)
	if err != nil {
		return "", err
	}
	return t.digest(ctx, l.age())
}

func (t *target) digest(ctx context.Context, age time.Duration) (string, error) {
	if d, ok := t.Reference.(name.Digest); ok {
		return d.DigestStr(), nil
	}
	return ask(ctx, t, digestKey{t.Name()}, age, func(ctx context.Context) (string, int, error) {
		d, err := remote.Get(t.Reference, t.with(ctx)...)
		if err != nil {
			return "", 0, err
		}
		return d.Digest.String(), len(t.Name()) * 2, nil
	})
}

// Image is what a registry says of an image. Its trees must not be changed.
type Image struct {
	Image         string // as it was asked for
	ResolvedImage string // with its digest
	Registry      string
	Repository    string
	Identifier    string // the tag or the digest that was asked for
	Tag           string
	Digest        string
	// Index is the manifest of all its platforms; nil if there is only one.
	Index any
	// Manifest and Config are those of the platform linux/amd64.
	Manifest, Config any
}

type imageKey struct{ image string }

// Image looks an image up.
func (c *Client) Image(ctx context.Context, l Lookup) (*Image, error) {
	t, err := c.target(l.Image)
	if err != nil {
		return nil, err
	}
	return ask(ctx, t, imageKey{l.Image}, l.age(), func(ctx context.Context) (*Image, int, error) {
		return t.image(ctx, l.Image)
	})
}

func (t *target) image(ctx context.Context, asked string) (*Image, int, error) {
	d, err := remote.Get(t.Reference, t.with(ctx)...)
	if err != nil {
		return nil, 0, err
	}
	image, err := d.Image()
	if err != nil {
		return nil, 0, err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return nil, 0, err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return nil, 0, err
	}
	if size := len(d.Manifest) + len(manifest) + len(config); size > maxManifest {
		return nil, 0, answers.Unknown("the manifest and the config of %s have %d bytes; at most %d are read", t, size, maxManifest)
	}
	out := &Image{
		Image: asked, Registry: t.Context().RegistryStr(), Repository: t.Context().RepositoryStr(),
		Identifier: t.Identifier(), Digest: d.Digest.String(),
	}
	out.ResolvedImage = t.Context().Name() + "@" + out.Digest
	if tag, ok := t.Reference.(name.Tag); ok {
		out.Tag = tag.TagStr()
		out.ResolvedImage = t.Context().Name() + ":" + out.Tag + "@" + out.Digest
	}
	if d.MediaType.IsIndex() {
		if err := json.Unmarshal(d.Manifest, &out.Index); err != nil {
			return nil, 0, answers.Unknown("the index of %s cannot be read: %v", t, err)
		}
	}
	for _, part := range []struct {
		text []byte
		into *any
	}{{manifest, &out.Manifest}, {config, &out.Config}} {
		if err := json.Unmarshal(part.text, part.into); err != nil {
			return nil, 0, answers.Unknown("the manifest or the config of %s cannot be read: %v", t, err)
		}
	}
	return out, 4 * (len(manifest) + len(config) + len(d.Manifest)), nil
}

// layers reads what an artifact holds, up to the bounds of all signatures of an
// image.
func (t *target) layers(ctx context.Context, artifact name.Reference, left *int64) ([]layer, error) {
	d, err := remote.Get(artifact, t.with(ctx)...)
	if err != nil {
		return nil, err
	}
	if len(d.Manifest) > maxManifest {
		return nil, answers.Unknown("the manifest of %s has %d bytes; at most %d are read", artifact, len(d.Manifest), maxManifest)
	}
	var m v1.Manifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil {
		return nil, answers.Unknown("the manifest of %s cannot be read: %v", artifact, err)
	}
	if len(m.Layers) > maxSignatures {
		return nil, answers.Unknown("there are %d signatures at %s; at most %d are tried", len(m.Layers), artifact, maxSignatures)
	}
	var out []layer
	for _, l := range m.Layers {
		if *left -= l.Size; l.Size < 0 || *left < 0 {
			return nil, answers.Unknown("the signatures and attestations at %s have more than %d MiB, which are read", artifact, maxRead>>20)
		}
		data, err := t.blob(ctx, artifact.Context().Digest(l.Digest.String()), l.Size)
		if err != nil {
			return nil, err
		}
		out = append(out, layer{l, data})
	}
	return out, nil
}

// layer is a part of an artifact, with its content.
type layer struct {
	v1.Descriptor
	data []byte
}
