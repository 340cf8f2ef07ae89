// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// config is the description of a bundle's content that travels with it.
type config struct {
	Name    string       `json:"name"`
	Version string       `json:"version"`
	Created string       `json:"created,omitempty"`
	Files   []configFile `json:"files"`
}

type configFile struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	Digest string `json:"digest"`
}

func configOf(b *Bundle) config {
	c := config{Name: b.Name, Version: b.Version}
	if !b.Created.IsZero() {
		c.Created = b.Created.Format(time.RFC3339)
	}
	for _, f := range b.Files {
		c.Files = append(c.Files, configFile{f.Name, len(f.Data), f.Digest})
	}
	return c
}

// readConfig reads a description. Nothing of it is believed that the files do not
// bear out.
func readConfig(data []byte) (*config, time.Time, error) {
	var c config
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&c); err != nil {
		return nil, time.Time{}, fmt.Errorf("reading its description: %w", err)
	}
	if err := checkNames(c.Name, c.Version); err != nil {
		return nil, time.Time{}, fmt.Errorf("reading its description: %w", err)
	}
	if c.Created == "" {
		return &c, time.Time{}, nil
	}
	created, err := time.Parse(time.RFC3339, c.Created)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading its description: %w", err)
	}
	return &c, created, nil
}

// archive writes files so that the same files give the same bytes: in the order
// of their names, of nobody, of no time.
func archive(files []File) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zip)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: int64(len(f.Data)), Mode: 0o644, Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return nil, err
	}
	if out.Len() > maxLayer {
		return nil, fmt.Errorf("the files come to %d bytes when packed; at most %d", out.Len(), maxLayer)
	}
	return out.Bytes(), nil
}

// unarchive reads an archive of anybody's.
func unarchive(data []byte) ([]File, error) {
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading its archive: %w", err)
	}
	// Names, headers and padding count as much as files do.
	in := &bounded{r: zip, left: maxUnpacked + maxFiles*maxHeader}
	files, err := readTar(tar.NewReader(in))
	if err != nil {
		return nil, fmt.Errorf("reading its archive: %w", err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, fmt.Errorf("reading its archive: %w", err)
	}
	return files, nil
}

func readTar(in *tar.Reader) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	size := 0
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := checkHeader(h, seen); err != nil {
			return nil, err
		}
		data, err := readAtMost(in, maxFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		files = append(files, File{Name: h.Name, Data: data, Digest: digestOf(data)})
		if size += len(data); size > maxUnpacked || len(files) > maxFiles {
			return nil, tooLarge()
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func checkHeader(h *tar.Header, seen map[string]bool) error {
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%q is no regular file; a bundle holds no links, folders or devices", h.Name)
	}
	if err := checkName(h.Name); err != nil {
		return err
	}
	if folded := strings.ToLower(h.Name); seen[folded] {
		return fmt.Errorf("%q is in it twice", h.Name)
	} else {
		seen[folded] = true
	}
	return nil
}

// errTooLong says that there was more to read than may be.
var errTooLong = errors.New("it is larger than a bundle may be")

// bounded ends with an error, not with the end, when there is more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes: %w", limit, errTooLong)
	}
	return data, err
}
