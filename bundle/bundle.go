// SPDX-License-Identifier: Apache-2.0

// Package bundle packs a folder of policies into one versioned artifact of the
// Open Container Initiative, signs it, and gets it back: from a registry, or from
// a file. A bundle holds documents of Sconce (controls, baselines, exceptions,
// frameworks) and policies of any language, as the files that people wrote. What
// they mean is not its business.
//
// The same files give the same bytes, and so the same digest, whoever packs them
// and when. A signature is made with a key and checked with its public half, or
// against a trusted root and an identity; neither calls anybody.
//
// Push, Pull, Sign and Verify go to the registry that the reference names, with
// the credentials that Docker and its like keep for it, and nowhere else. They go
// over plain HTTP only to this machine, or where RemoteOptions.PlainHTTP says so.
// Build, Save and Open go nowhere.
package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Media types of a bundle's parts.
const (
	ArtifactType = "application/vnd.sconce.dev.bundle.v1"
	ConfigType   = "application/vnd.sconce.dev.bundle.config.v1+json"
	LayerType    = "application/vnd.sconce.dev.bundle.layer.v1.tar+gzip"
)

// What a bundle may be. A baseline with all that it takes is a few hundred files
// and less than a megabyte.
const (
	maxFiles    = 10_000
	maxHeader   = 2048     // bytes of the archive around one file
	maxFile     = 8 << 20  // bytes of one file
	maxUnpacked = 32 << 20 // bytes of all files
	maxLayer    = 16 << 20 // bytes as they travel
	maxConfig   = 4 << 20
	maxManifest = 1 << 20
	maxName     = 255 // bytes of a file's name
)

// Bundle is what was packed or got back.
type Bundle struct {
	Name, Version string
	// Created is when its content was made; zero where nobody said.
	Created time.Time
	// Files are in the order of their names.
	Files []File
	// Digest is that of the manifest, "sha256:" and 64 digits: what a signature is
	// about, and what a reference can name.
	Digest string

	artifact *artifact
}

// File is one file of a bundle.
type File struct {
	Name   string // with slashes, relative to the folder that was packed
	Data   []byte
	Digest string // sha256: and 64 digits
}

// BuildOptions say what a bundle is called.
type BuildOptions struct {
	// Name is a word for people: shop-policies. Version is anything that tells one
	// bundle of the name from the next: 1.4.0.
	Name, Version string
	// Created is when the content was made, as SOURCE_DATE_EPOCH tells it. Zero
	// leaves it out.
	Created time.Time
}

var (
	nameFormat    = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,126}[a-z0-9])?$`)
	versionFormat = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
)

// Build packs a folder: its YAML, JSON, Rego and text files. Files and folders
// whose names begin with a dot stay out. A file of another kind, and a link, is
// an error: a bundle that lacks what somebody meant to be in it is worse.
func Build(fsys fs.FS, opts BuildOptions) (*Bundle, error) {
	if err := checkNames(opts.Name, opts.Version); err != nil {
		return nil, err
	}
	files, err := readFiles(fsys)
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", opts.Name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("packing %s: there is no YAML, JSON, Rego or text file", opts.Name)
	}
	b := &Bundle{Name: opts.Name, Version: opts.Version, Created: opts.Created.UTC().Truncate(time.Second), Files: files}
	if opts.Created.IsZero() {
		b.Created = time.Time{}
	}
	if b.artifact, err = pack(b); err != nil {
		return nil, fmt.Errorf("packing %s: %w", opts.Name, err)
	}
	b.Digest = b.artifact.digest()
	return b, nil
}

func checkNames(name, version string) error {
	if !nameFormat.MatchString(name) {
		return fmt.Errorf("the name of a bundle is %q; want small letters, digits, dots, dashes and slashes, as in shop-policies", name)
	}
	if !versionFormat.MatchString(version) {
		return fmt.Errorf("the version of a bundle is %q; want letters, digits, dots and dashes, as in 1.4.0", version)
	}
	return nil
}

// kinds are the endings of what is packed.
var kinds = []string{".yaml", ".yml", ".json", ".rego", ".md", ".txt"}

// texts are packed too, whatever they end in.
var texts = []string{"LICENSE", "NOTICE", "README", "CODEOWNERS"}

func readFiles(fsys fs.FS) ([]File, error) {
	var files []File
	size := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		if err := checkEntry(name, d); err != nil {
			return err
		}
		f, err := readFile(fsys, name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if size += len(f.Data); size > maxUnpacked || len(files) > maxFiles {
			return tooLarge()
		}
		return nil
	})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, err
}

func checkEntry(name string, d fs.DirEntry) error {
	if !d.Type().IsRegular() {
		return fmt.Errorf("%s is no regular file; a bundle holds no links", name)
	}
	if !slices.Contains(kinds, strings.ToLower(path.Ext(name))) && !slices.Contains(texts, d.Name()) {
		return fmt.Errorf("%s: a bundle holds files that end in %s; move it out of the folder, or begin its name with a dot", name, strings.Join(kinds, ", "))
	}
	return checkName(name)
}

func readFile(fsys fs.FS, name string) (File, error) {
	in, err := fsys.Open(name)
	if err != nil {
		return File{}, err
	}
	defer in.Close() //nolint:errcheck // it was read only
	data, err := readAtMost(in, maxFile)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	return File{Name: name, Data: data, Digest: digestOf(data)}, nil
}

// checkName refuses names that could lead out of the folder into which a bundle
// is unpacked, or are not the same on every system.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || len(name) > maxName || strings.ContainsAny(name, `\:*?"<>|`) {
		return fmt.Errorf("a file is called %q, which is no name for a file of a bundle", name)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("a file is called %q, which is no name for a file of a bundle", name)
		}
	}
	return nil
}

func tooLarge() error {
	return fmt.Errorf("a bundle holds at most %d files and %d bytes", maxFiles, maxUnpacked)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Extract writes the files into a folder, which is made if need be and must be
// empty. Nothing is written outside of it, whatever links there are.
func (b *Bundle) Extract(dir string) error {
	if err := b.extract(dir); err != nil {
		return fmt.Errorf("extracting %s %s: %w", b.Name, b.Version, err)
	}
	return nil
}

func (b *Bundle) extract(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("the folder %s is not empty; name one that is, or one that is not there yet", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // each file was closed
	for _, f := range b.Files {
		if err := checkName(f.Name); err != nil {
			return err
		}
		if err := root.MkdirAll(path.Dir(f.Name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(f.Name, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
