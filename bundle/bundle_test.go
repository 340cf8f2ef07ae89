// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func policies() fstest.MapFS {
	return fstest.MapFS{
		"baseline.yaml":       {Data: []byte("kind: Baseline\n"), ModTime: time.Unix(1, 0)},
		"kyverno/labels.yaml": {Data: []byte("kind: ClusterPolicy\n")},
		"rego/deny.rego":      {Data: []byte("package main\n"), Mode: 0o600},
		"LICENSE":             {Data: []byte("Apache-2.0\n")},
		".git/config":         {Data: []byte("[core]")},
		".hidden":             {Data: []byte("x")},
	}
}

func build(t testing.TB) *Bundle {
	t.Helper()
	b, err := Build(policies(), BuildOptions{Name: "shop-policies", Version: "1.4.0"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names(b *Bundle) string {
	var out []string
	for _, f := range b.Files {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v; want %q", err, w)
		}
	}
}

func TestBuild(t *testing.T) {
	b := build(t)
	if got, want := names(b), "LICENSE baseline.yaml kyverno/labels.yaml rego/deny.rego"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	// The digest is part of the contract: the same files give the same bytes.
	again, err := Build(policies(), BuildOptions{Name: "shop-policies", Version: "1.4.0"})
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != b.Digest {
		t.Errorf("built twice, it has the digests %s and %s", b.Digest, again.Digest)
	}
	dated, err := Build(policies(), BuildOptions{Name: "shop-policies", Version: "1.4.0", Created: time.Unix(1700000000, 5)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := unpack(dated.artifact)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Created.Equal(time.Unix(1700000000, 0)) || dated.Digest == b.Digest {
		t.Errorf("it was created %s, and has the digest %s", back.Created, dated.Digest)
	}
}

func TestBuildRefused(t *testing.T) {
	ok := BuildOptions{Name: "a", Version: "1"}
	for want, test := range map[string]struct {
		files fstest.MapFS
		opts  BuildOptions
	}{
		`the name of a bundle is "A b"`:             {policies(), BuildOptions{Name: "A b", Version: "1"}},
		`the version of a bundle is ""`:             {policies(), BuildOptions{Name: "a"}},
		"there is no YAML, JSON, Rego or text file": {fstest.MapFS{".a": {}}, ok},
		"shop.exe: a bundle holds files that end":   {fstest.MapFS{"shop.exe": {}}, ok},
		"a.yaml is no regular file":                 {fstest.MapFS{"a.yaml": {Mode: fs.ModeSymlink}}, ok},
		`a file is called "a\\b.yaml"`:              {fstest.MapFS{`a\b.yaml`: {}}, ok},
		"it has more than 8388608 bytes":            {fstest.MapFS{"a.yaml": {Data: make([]byte, maxFile+1)}}, ok},
	} {
		_, err := Build(test.files, test.opts)
		wantError(t, err, want)
	}
}

func TestExtract(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	b := build(t)
	if err := b.Extract(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Build(os.DirFS(dir), BuildOptions{Name: b.Name, Version: b.Version})
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != b.Digest {
		t.Errorf("extracted and built, it has the digest %s; want %s", again.Digest, b.Digest)
	}
	wantError(t, b.Extract(dir), "is not empty")
	evil := &Bundle{Files: []File{{Name: "../evil.yaml"}}}
	wantError(t, evil.Extract(filepath.Join(t.TempDir(), "x")), "no name for a file")
}

func TestSaved(t *testing.T) {
	b := build(t)
	var first, second bytes.Buffer
	if err := errors.Join(b.Save(&first), b.Save(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("saved twice, it is not the same")
	}
	back, err := Open(&first, nil)
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest != b.Digest || names(back) != names(b) || string(back.Files[1].Data) != "kind: Baseline\n" || back.Version != "1.4.0" {
		t.Errorf("got %s %s with %s back", back.Name, back.Version, names(back))
	}
}

// entry is one of a tar that a test makes.
type entry struct {
	name string
	kind byte
	data string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Size: int64(len(e.data)), Mode: 0o644}
		if e.kind == tar.TypeSymlink || e.kind == tar.TypeLink {
			h.Linkname, h.Size = "/etc/passwd", 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(e.data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestHostileArchives reads what somebody might send.
func TestHostileArchives(t *testing.T) {
	many := make([]entry, 0, maxFiles+2)
	for i := range maxFiles + 2 {
		many = append(many, entry{name: fmt.Sprintf("f%d.yaml", i)})
	}
	for want, data := range map[string][]byte{
		`a file is called "../a.yaml"`:      zipped(t, tarOf(t, entry{name: "../a.yaml"})),
		`a file is called "/etc/a.yaml"`:    zipped(t, tarOf(t, entry{name: "/etc/a.yaml"})),
		`a file is called "a/../../b"`:      zipped(t, tarOf(t, entry{name: "a/../../b"})),
		`a file is called "a\x01"`:          zipped(t, tarOf(t, entry{name: "a\x01"})),
		`a file is called "c:a"`:            zipped(t, tarOf(t, entry{name: "c:a"})),
		`"l" is no regular file`:            zipped(t, tarOf(t, entry{name: "l", kind: tar.TypeSymlink})),
		`"h" is no regular file`:            zipped(t, tarOf(t, entry{name: "h", kind: tar.TypeLink})),
		`"d" is no regular file`:            zipped(t, tarOf(t, entry{name: "d", kind: tar.TypeChar})),
		`"A.yaml" is in it twice`:           zipped(t, tarOf(t, entry{name: "a.yaml"}, entry{name: "A.yaml"})),
		"big: it has more than":             zipped(t, tarOf(t, entry{name: "big", data: strings.Repeat("a", maxFile+1)})),
		"at most 10000 files":               zipped(t, tarOf(t, many...)),
		"it is larger than a bundle may be": zipped(t, append(tarOf(t, entry{name: "a"}), make([]byte, maxUnpacked+maxFiles*maxHeader)...)),
		"invalid header":                    []byte("no zip, but as long as the header of one"),
		"unexpected EOF":                    zipped(t, tarOf(t, entry{name: "a", data: "abc"}))[:30],
	} {
		_, err := unarchive(data)
		wantError(t, err, "reading its archive", want)
	}
}

// TestDisagreement unpacks artifacts whose description and files are not of a
// piece.
func TestDisagreement(t *testing.T) {
	b := build(t)
	for want, change := range map[string]func(c string) string{
		`"baseline.yaml" is in its archive, but not`: func(c string) string { return strings.Replace(c, "baseline.yaml", "other.yaml", 1) },
		`"baseline.yaml" is not as its description`:  func(c string) string { return strings.Replace(c, `"size":15`, `"size":16`, 1) },
		`"x.yaml" is in its description, but not`: func(c string) string {
			return strings.Replace(c, `"files":[`, `"files":[{"name":"x.yaml"},`, 1)
		},
		`its description has "LICENSE" twice`: func(c string) string {
			return strings.Replace(c, `"files":[`, `"files":[{"name":"LICENSE"},`, 1)
		},
		"reading its description: unexpected EOF": func(c string) string { return c[:20] },
		"the name of a bundle":                    func(c string) string { return strings.Replace(c, "shop-policies", "../x", 1) },
		"reading its description: parsing time":   func(c string) string { return strings.Replace(c, `"files"`, `"created":"now","files"`, 1) },
	} {
		a := *b.artifact
		a.config = []byte(change(string(a.config)))
		_, err := unpack(&a)
		wantError(t, err, want)
	}
}

func TestManifests(t *testing.T) {
	ok := build(t).artifact.manifest
	for want, data := range map[string][]byte{
		"reading its manifest":            []byte("{"),
		"at most 1048576":                 make([]byte, maxManifest+1),
		`it is a "application/x" with 0`:  []byte(`{"artifactType":"application/x"}`),
		"its archive has 99999999999 byt": bytes.Replace(ok, []byte(`tar+gzip","size":`), []byte(`tar+gzip","size":99999999999,"x":`), 1),
		"its description has -1 bytes":    bytes.Replace(ok, []byte(`+json","size":`), []byte(`+json","size":-1,"x":`), 1),
	} {
		_, err := readManifest(data, ConfigType, LayerType)
		wantError(t, err, want)
	}
}

func TestHostileLayouts(t *testing.T) {
	b := build(t)
	var two bytes.Buffer
	if err := b.Save(&two); err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{
		"there is no index.json": tarOf(t, entry{name: "a"}),
		"reading index.json":     tarOf(t, entry{name: "index.json", data: "["}),
		"it holds 0 bundles":     tarOf(t, entry{name: "index.json", data: "{}"}),
		`"l" is no regular file`: tarOf(t, entry{name: "l", kind: tar.TypeSymlink}),
		"is missing":             tarOf(t, entry{name: "index.json", data: `{"manifests":[{"size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`}),
		"it was tampered with":   bytes.Replace(two.Bytes(), []byte(`"name":"shop-policies"`), []byte(`"name":"evil-policies"`), 1),
		"reading its archive":    []byte("no tar, but long enough to be read as the header of one" + strings.Repeat(" ", 600)),
	} {
		_, err := Open(bytes.NewReader(data), nil)
		wantError(t, err, "opening a saved bundle", want)
	}
}

func FuzzUnarchive(f *testing.F) {
	f.Add(zipped(f, tarOf(f, entry{name: "a.yaml", data: "a"})))
	f.Add(build(f).artifact.layer)
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := unarchive(data)
		if err != nil {
			return
		}
		for _, file := range files {
			if !fs.ValidPath(file.Name) || strings.Contains(file.Name, `\`) {
				t.Errorf("the name %q came through", file.Name)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	b := build(f)
	f.Add(b.artifact.config, b.artifact.manifest)
	f.Fuzz(func(_ *testing.T, config, manifest []byte) {
		a := *b.artifact
		a.config = config
		_, _ = unpack(&a)
		if p, err := readManifest(manifest, ConfigType, LayerType); err == nil {
			_, _ = p.fetch((&saved{blobs: map[string][]byte{b.Digest: manifest}}).blob)
		}
	})
}

func FuzzOpen(f *testing.F) {
	var data bytes.Buffer
	if err := build(f).Save(&data); err != nil {
		f.Fatal(err)
	}
	f.Add(data.Bytes())
	f.Add(tarOf(f, entry{name: "index.json", data: "{}"}))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = Open(bytes.NewReader(data), nil)
	})
}

func BenchmarkUnpack(b *testing.B) {
	files := fstest.MapFS{}
	for i := range 300 {
		files[fmt.Sprintf("f%d.yaml", i)] = &fstest.MapFile{Data: bytes.Repeat([]byte("kind: Control\n"), 200)}
	}
	built, err := Build(files, BuildOptions{Name: "a", Version: "1"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := unpack(built.artifact); err != nil {
			b.Fatal(err)
		}
	}
}
