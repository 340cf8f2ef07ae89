// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// emptyType is the media type of a config that says nothing.
const emptyType = "application/vnd.oci.empty.v1+json"

// artifact is a manifest with a config and one layer, as they travel.
type artifact struct {
	manifest, config, layer []byte
}

func (a *artifact) digest() string { return digestOf(a.manifest) }

// pack makes the artifact of a bundle.
func pack(b *Bundle) (*artifact, error) {
	layer, err := archive(b.Files)
	if err != nil {
		return nil, err
	}
	c := configOf(b)
	description, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{
		"org.opencontainers.image.title":   b.Name,
		"org.opencontainers.image.version": b.Version,
	}
	if c.Created != "" {
		annotations["org.opencontainers.image.created"] = c.Created
	}
	return newArtifact(v1.Manifest{ArtifactType: ArtifactType, Annotations: annotations},
		blob{ConfigType, description}, blob{LayerType, layer})
}

// unpack reads the artifact of a bundle, of anybody's.
func unpack(a *artifact) (*Bundle, error) {
	c, created, err := readConfig(a.config)
	if err != nil {
		return nil, err
	}
	files, err := unarchive(a.layer)
	if err != nil {
		return nil, err
	}
	if err := c.agrees(files); err != nil {
		return nil, err
	}
	return &Bundle{Name: c.Name, Version: c.Version, Created: created, Files: files, Digest: a.digest(), artifact: a}, nil
}

// agrees says what the description and the files do not agree on.
func (c *config) agrees(files []File) error {
	described := map[string]configFile{}
	for _, f := range c.Files {
		if _, ok := described[f.Name]; ok {
			return fmt.Errorf("its description has %q twice", f.Name)
		}
		described[f.Name] = f
	}
	for _, f := range files {
		d, ok := described[f.Name]
		switch {
		case !ok:
			return fmt.Errorf("%q is in its archive, but not in its description", f.Name)
		case d.Digest != f.Digest || d.Size != len(f.Data):
			return fmt.Errorf("%q is not as its description has it: it was changed after the bundle was packed", f.Name)
		}
		delete(described, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(described)) {
		return fmt.Errorf("%q is in its description, but not in its archive", name)
	}
	return nil
}

// blob is bytes with a media type.
type blob struct {
	mediaType types.MediaType
	data      []byte
}

func (b blob) descriptor() (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(b.data))
	return v1.Descriptor{MediaType: b.mediaType, Digest: digest, Size: size}, err
}

func newArtifact(m v1.Manifest, config, layer blob) (*artifact, error) {
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	var err error
	if m.Config, err = config.descriptor(); err != nil {
		return nil, err
	}
	l, err := layer.descriptor()
	if err != nil {
		return nil, err
	}
	m.Layers = []v1.Descriptor{l}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &artifact{manifest: manifest, config: config.data, layer: layer.data}, nil
}

// plan is what a manifest says that there is to fetch.
type plan struct {
	manifest      []byte
	config, layer v1.Descriptor
	subject       *v1.Descriptor
	artifactType  string
}

// readManifest reads a manifest of anybody's: one config, one layer, neither too
// large.
func readManifest(data []byte, configType, layerType types.MediaType) (*plan, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("its manifest has %d bytes; at most %d", len(data), maxManifest)
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("reading its manifest: %w", err)
	}
	if m.Config.MediaType != configType || len(m.Layers) != 1 || m.Layers[0].MediaType != layerType {
		kind := m.ArtifactType
		if kind == "" {
			kind = string(m.Config.MediaType)
		}
		return nil, fmt.Errorf("it is a %q with %d layers; want a %q with one", kind, len(m.Layers), ArtifactType)
	}
	p := &plan{manifest: data, config: m.Config, layer: m.Layers[0], subject: m.Subject, artifactType: m.ArtifactType}
	for what, d := range map[string]struct {
		descriptor v1.Descriptor
		limit      int64
	}{"description": {p.config, maxConfig}, "archive": {p.layer, maxLayer}} {
		if d.descriptor.Size < 0 || d.descriptor.Size > d.limit {
			return nil, fmt.Errorf("its %s has %d bytes; at most %d", what, d.descriptor.Size, d.limit)
		}
	}
	return p, nil
}

// fetch completes a plan. Blobs are not believed: their digests must be those of
// the manifest.
func (p *plan) fetch(blob func(v1.Descriptor) (io.ReadCloser, error)) (*artifact, error) {
	config, err := read(p.config, blob)
	if err != nil {
		return nil, fmt.Errorf("reading its description: %w", err)
	}
	layer, err := read(p.layer, blob)
	if err != nil {
		return nil, fmt.Errorf("reading its archive: %w", err)
	}
	return &artifact{manifest: p.manifest, config: config, layer: layer}, nil
}

func read(d v1.Descriptor, blob func(v1.Descriptor) (io.ReadCloser, error)) ([]byte, error) {
	in, err := blob(d)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // it was read only
	data, err := readAtMost(in, d.Size)
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != d.Digest.String() {
		return nil, fmt.Errorf("its digest is %s, but the manifest says %s: it was tampered with", got, d.Digest)
	}
	return data, nil
}

// image returns the artifact as the registry's library knows it.
func (a *artifact) image() (v1.Image, error) { return partial.CompressedToImage(core{a}) }

type core struct{ a *artifact }

func (c core) RawConfigFile() ([]byte, error)      { return c.a.config, nil }
func (c core) RawManifest() ([]byte, error)        { return c.a.manifest, nil }
func (c core) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (c core) Manifest() (*v1.Manifest, error)     { return partial.Manifest(c) }
func (c core) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	m, err := c.Manifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if d.Digest == digest {
			return layer{d, c.a.layer}, nil
		}
	}
	if m.Config.Digest == digest {
		return layer{m.Config, c.a.config}, nil
	}
	return nil, errors.New("there is no layer " + digest.String())
}

type layer struct {
	descriptor v1.Descriptor
	data       []byte
}

func (l layer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l layer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l layer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l layer) Compressed() (io.ReadCloser, error)  { return io.NopCloser(bytes.NewReader(l.data)), nil }
func (l layer) Descriptor() (*v1.Descriptor, error) { return &l.descriptor, nil }
