// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Names of an OCI image layout.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobFolder = "blobs/sha256/"
	layoutText = `{"imageLayoutVersion":"1.0.0"}`
)

// maxSaved bounds a saved bundle with its signatures.
const maxSaved = maxLayer + maxConfig + maxManifest + maxSignatures*(maxSignature+maxManifest)

// Save writes the bundle, and signatures of it, as one file: a tar of an OCI image
// layout, as other tools of registries read it. The same bundle and signatures
// give the same bytes.
func (b *Bundle) Save(w io.Writer, signatures ...[]byte) error {
	if b.artifact == nil {
		return errors.New("saving a bundle: it was not built")
	}
	if err := b.save(w, signatures); err != nil {
		return fmt.Errorf("saving %s %s: %w", b.Name, b.Version, err)
	}
	return nil
}

func (b *Bundle) save(w io.Writer, signatures [][]byte) error {
	blobs := map[string][]byte{}
	var index []v1.Descriptor
	add := func(a *artifact, artifactType string, annotations map[string]string) error {
		d, err := blob{types.OCIManifestSchema1, a.manifest}.descriptor()
		d.ArtifactType, d.Annotations = artifactType, annotations
		index = append(index, d)
		for _, data := range [][]byte{a.manifest, a.config, a.layer} {
			blobs[blobFolder+strings.TrimPrefix(digestOf(data), "sha256:")] = data
		}
		return err
	}
	if err := add(b.artifact, ArtifactType, map[string]string{"org.opencontainers.image.ref.name": b.Version}); err != nil {
		return err
	}
	for _, s := range signatures {
		a, err := signatureArtifact(b.artifact.manifest, s)
		if err != nil {
			return err
		}
		if err := add(a, signatureType, nil); err != nil {
			return err
		}
	}
	manifests, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: index})
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	blobs[layoutFile], blobs[indexFile] = []byte(layoutText), manifests
	for _, name := range slices.Sorted(maps.Keys(blobs)) {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(blobs[name])), Mode: 0o644, Format: tar.FormatPAX}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := out.Write(blobs[name]); err != nil {
			return err
		}
	}
	return out.Close()
}

// Open reads a bundle that was saved. If v is not nil, nothing is returned unless
// a signature that was saved with it holds.
func Open(r io.Reader, v *Verifier) (*Bundle, error) {
	b, err := open(r, v)
	if err != nil {
		return nil, fmt.Errorf("opening a saved bundle: %w", err)
	}
	return b, nil
}

// saved is a layout that was read.
type saved struct {
	blobs map[string][]byte // by digest
	index v1.IndexManifest
}

func open(r io.Reader, v *Verifier) (*Bundle, error) {
	s, err := readLayout(tar.NewReader(&bounded{r: r, left: maxSaved}))
	if err != nil {
		return nil, err
	}
	bundles, signatures, err := s.sort()
	if err != nil {
		return nil, err
	}
	if len(bundles) != 1 {
		return nil, fmt.Errorf("it holds %d bundles; want one", len(bundles))
	}
	p := bundles[0]
	if v != nil {
		var about [][]byte
		for _, sig := range signatures {
			if sig.subject == nil || sig.subject.Digest.String() != digestOf(p.manifest) {
				continue
			}
			data, err := readSignature(sig.manifest, s.blob)
			if err != nil {
				return nil, err
			}
			about = append(about, data)
		}
		if err := v.any(digestOf(p.manifest), about, nil); err != nil {
			return nil, err
		}
	}
	a, err := p.fetch(s.blob)
	if err != nil {
		return nil, err
	}
	return unpack(a)
}

func (s *saved) blob(d v1.Descriptor) (io.ReadCloser, error) {
	data, ok := s.blobs[d.Digest.String()]
	if !ok {
		return nil, fmt.Errorf("the blob %s is missing", d.Digest)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// sort returns the manifests of bundles and of signatures.
func (s *saved) sort() (bundles, signatures []*plan, err error) {
	if len(s.index.Manifests) > maxSignatures+1 {
		return nil, nil, fmt.Errorf("it has %d manifests; at most %d", len(s.index.Manifests), maxSignatures+1)
	}
	for _, d := range s.index.Manifests {
		data, err := read(d, s.blob)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the manifest %s: %w", d.Digest, err)
		}
		if p, err := readManifest(data, emptyType, signatureType); err == nil {
			signatures = append(signatures, p)
			continue
		}
		p, err := readManifest(data, ConfigType, LayerType)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the manifest %s: %w", d.Digest, err)
		}
		bundles = append(bundles, p)
	}
	return bundles, signatures, nil
}

// readLayout reads a tar of anybody's.
func readLayout(in *tar.Reader) (*saved, error) {
	s := &saved{blobs: map[string][]byte{}}
	var found bool
	for entries := 0; ; entries++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading its archive: %w", err)
		}
		if entries > maxFiles {
			return nil, tooLarge()
		}
		name := strings.TrimPrefix(h.Name, "./")
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("%q is no regular file; an image layout holds no links or devices", h.Name)
		}
		data, err := readAtMost(in, maxLayer)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case name == indexFile:
			found = true
			if err := json.Unmarshal(data, &s.index); err != nil {
				return nil, fmt.Errorf("reading %s: %w", indexFile, err)
			}
		case strings.HasPrefix(name, blobFolder):
			s.blobs["sha256:"+path.Base(name)] = data
		}
	}
	if !found {
		return nil, fmt.Errorf("it is no OCI image layout: there is no %s", indexFile)
	}
	return s, nil
}
