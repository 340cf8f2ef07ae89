// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs is the folder in which a script of this repository, such as
// "test/cluster/build.sh", keeps programs. Unless SCONCE_E2E is 1 it skips the
// test: such tests take ten minutes together. Where the script has not been run
// it fails it.
func Programs(t testing.TB, script string, names ...string) string {
	t.Helper()
	if os.Getenv("SCONCE_E2E") != "1" {
		t.Skip("needs a control plane: make e2e")
	}
	dir, err := ask(script)
	if err == nil {
		err = Has(dir, names...)
	}
	if err != nil {
		t.Fatalf("%v; run %s or `make e2e`", err, script)
	}
	return dir
}

// Has is an error if a folder lacks a program.
func Has(dir string, names ...string) error {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
	}
	return nil
}

// ask has a script say where it keeps its programs.
func ask(script string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(root, script), "where")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its folder: %w: %s", script, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Root is the folder of the repository that the test runs in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "test", "cluster", "build.sh")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("looking for test/cluster/build.sh: no folder above the test's has it")
		}
		dir = parent
	}
}
