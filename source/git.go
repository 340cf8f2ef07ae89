// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"sconce.dev/sconce/verdict"
)

// Revision is a Git revision that was put into a folder, to be read from there.
type Revision struct {
	// Base is the folder that stands for the working directory, Root that for the
	// root of the repository.
	Base, Root string
	// Missing are what the revision names and does not hold: submodules.
	Missing []verdict.Problem
	dir     string
}

// Remove removes the folder.
func (r *Revision) Remove() { _ = os.RemoveAll(r.dir) }

// Checkout puts the files of a Git revision into a new folder, byte by byte as
// they are stored: no attribute of the repository leaves any out or changes
// any. It runs git, and changes nothing in the repository.
func Checkout(revision string) (*Revision, error) {
	commit, err := Resolve(revision)
	if err != nil {
		return nil, err
	}
	prefix, err := git("rev-parse", "--show-prefix")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sconce-git-")
	if err != nil {
		return nil, err
	}
	r := &Revision{Base: filepath.Join(dir, strings.TrimSpace(string(prefix))), Root: dir, dir: dir}
	if err := r.unpack(commit); err != nil {
		r.Remove()
		return nil, fmt.Errorf("reading Git revision %s: %w", revision, err)
	}
	return r, nil
}

// git runs git in the working directory and returns what it prints.
func git(args ...string) ([]byte, error) {
	out, err := exec.Command("git", args...).Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("git is not installed, and reading a revision needs it")
	case errors.As(err, &exit):
		return nil, fmt.Errorf("git: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// treeEntry is a line of git ls-tree.
type treeEntry struct {
	mode, hash, name string
}

// unpack writes a commit's files below the revision's folder. os.Root keeps
// every name, and every link on the way to it, below that.
func (r *Revision) unpack(commit string) error {
	list, err := git("ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return err
	}
	var entries []treeEntry
	for _, line := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) != 3 {
			continue // an empty tree
		}
		if fields[0] == "160000" {
			r.Missing = append(r.Missing, problemf(verdict.Reading, name, "a Git submodule: its files are not part of this repository; scan it where it is checked out"))
			continue
		}
		entries = append(entries, treeEntry{fields[0], fields[2], name})
	}
	return r.files(entries)
}

// files reads the contents of the entries from one git process and writes them.
func (r *Revision) files(entries []treeEntry) error {
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	var hashes strings.Builder
	for _, e := range entries {
		hashes.WriteString(e.hash + "\n")
	}
	cmd := exec.Command("git", "cat-file", "--batch")
	cmd.Stdin = strings.NewReader(hashes.String())
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	out := bufio.NewReader(pipe)
	for _, e := range entries {
		if err = r.file(root, out, e); err != nil {
			break
		}
	}
	_, _ = io.Copy(io.Discard, out) // so that git can end
	if waitErr := cmd.Wait(); err == nil {
		err = waitErr
	}
	return err
}

// file writes one entry, whose contents come next from git.
func (r *Revision) file(root *os.Root, in *bufio.Reader, e treeEntry) error {
	header, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	fields := strings.Fields(header)
	if len(fields) != 3 {
		r.Missing = append(r.Missing, problemf(verdict.Reading, e.name, "Git does not have its contents: %s", strings.TrimSpace(header)))
		return nil
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return err
	}
	name := filepath.FromSlash(e.name)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	content := io.LimitReader(in, size)
	if e.mode == "120000" {
		target, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if err := root.Symlink(linkTarget(name, string(target)), name); err != nil {
			return err
		}
	} else if err := write(root, name, content); err != nil {
		return err
	}
	_, err = in.Discard(1) // the line break that git adds
	return err
}

// linkTarget returns where a link leads, or a place that is not there if that
// is out of the repository: the walk then says so.
func linkTarget(name, target string) string {
	if filepath.IsAbs(target) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), target)) {
		return outside
	}
	return target
}

// outside takes the place of a link that leads out of the repository: what it
// would lead to is not part of the revision.
const outside = "outside-of-the-repository"

func write(root *os.Root, name string, in io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
