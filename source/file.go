// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"sconce.dev/sconce/facts/containerengine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// MaxFile is the largest file that is read, in bytes. A file is held in memory
// while it is read; its documents are parsed one at a time.
const MaxFile = 512 << 20

// file is a file of manifests.
type file struct {
	name string // as it is shown
	path string // as it is opened
	// documents are what is read beside objects; nil for nothing.
	documents *Documents
}

// Read implements snapshot.Unit.
func (f *file) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	data, err := ReadFile(f.path)
	if err != nil {
		sink.Problem(problemf(verdict.Reading, f.name, "%s", reason(err)))
		return snapshot.Tally{Files: 1}
	}
	if f.documents.reads(f.path) && !containerengine.Reads(f.path) {
		f.documents.file(f.name, data, sink)
		return snapshot.Tally{Files: 1}
	}
	if containerengine.Reads(f.path) {
		if o, err := containerengine.Parse(f.name, data); err != nil && engineWords.Match(data) {
			sink.Problem(parseProblem(f.name, object.Text{Bytes: data, Line: 1}, err))
			return snapshot.Tally{Files: 1}
		} else if o != nil {
			sink.Object(o)
			return snapshot.Tally{Files: 1}
		}
		if !isManifest(f.path) {
			return snapshot.Tally{Files: 1, Other: 1} // another program's
		}
	}
	if f.documents.refuses(f.path) {
		f.documents.file(f.name, data, sink) // a problem
		return snapshot.Tally{Files: 1}
	}
	return snapshot.Tally{Files: 1, Other: documents(f.name, data, f.documents, sink)}
}

// engineWords tell a broken configuration of a container engine from the broken
// file of another program that has the same name.
var engineWords = regexp.MustCompile(`io\.containerd|\[plugins|\[grpc\]|\[proxy_plugins|\[crio|\[\[registry|\[host\.|insecure-registries|unqualified-search-registries`)

// ReadFile reads a file that a person named: a regular one, and not without
// bound.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	}
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("file of %d MiB; at most %d MiB are read: split it", info.Size()>>20, MaxFile>>20)
	}
	return os.ReadFile(path)
}

// reason says why a file cannot be read, without the file's name, which stands
// before it.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied: make it readable for this user, or leave it out"
	}
	return err.Error()
}

// stdin is a stream of manifests from standard input.
type stdin struct {
	in        io.Reader
	documents *Documents
}

// StdinName is what standard input is called in findings.
const StdinName = "(standard input)"

// Read implements snapshot.Unit.
func (s *stdin) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	data, err := io.ReadAll(io.LimitReader(s.in, MaxFile+1))
	switch {
	case err != nil:
		sink.Problem(problemf(verdict.Reading, StdinName, "%s", err))
		return snapshot.Tally{Files: 1}
	case len(data) > MaxFile:
		sink.Problem(problemf(verdict.Reading, StdinName, "more than %d MiB: give files instead", MaxFile>>20))
		return snapshot.Tally{Files: 1}
	}
	return snapshot.Tally{Files: 1, Other: documents(StdinName, data, s.documents, sink)}
}
