// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Checkout puts the files of a Git revision into a new folder, to be read from
// there, and returns the folder that stands for the working directory, and a
// function that removes it. It runs git, and changes nothing in the repository.
func Checkout(revision string) (base string, remove func(), err error) {
	if strings.HasPrefix(revision, "-") {
		return "", nil, fmt.Errorf("%q is not a Git revision", revision)
	}
	prefix, err := git("rev-parse", "--show-prefix")
	if err != nil {
		return "", nil, err
	}
	commit, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return "", nil, fmt.Errorf("%q is not a revision of this Git repository; git log shows them", revision)
	}
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "sconce-git-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	if err := archive(strings.TrimSpace(string(top)), strings.TrimSpace(string(commit)), dir); err != nil {
		remove()
		return "", nil, fmt.Errorf("reading Git revision %s: %w", revision, err)
	}
	return filepath.Join(dir, strings.TrimSpace(string(prefix))), remove, nil
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

// archive unpacks a commit below dir.
func archive(top, commit, dir string) error {
	cmd := exec.Command("git", "-C", top, "archive", "--format=tar", commit)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	unpackErr := unpack(tar.NewReader(out), dir)
	_, _ = io.Copy(io.Discard, out) // so that git can end
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("git archive: %s", strings.TrimSpace(stderr.String()))
	}
	return unpackErr
}

// unpack writes an archive's files. os.Root keeps every name, and every link on
// the way to it, below dir.
func unpack(in *tar.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.FromSlash(strings.TrimSuffix(h.Name, "/"))
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = write(root, name, in)
		case tar.TypeSymlink:
			target := h.Linkname
			if !filepath.IsLocal(filepath.Join(filepath.Dir(name), target)) || filepath.IsAbs(target) {
				target = outside // the walk says that it leads nowhere
			}
			err = root.Symlink(target, name)
		}
		if err != nil {
			return err
		}
	}
}

// outside takes the place of a link that leads out of the repository: what it
// would lead to is not part of the revision.
const outside = "outside-of-the-repository"

func write(root *os.Root, name string, in io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
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
