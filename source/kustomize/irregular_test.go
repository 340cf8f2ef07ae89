// SPDX-License-Identifier: Apache-2.0

//go:build unix

package kustomize

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestIrregular names a pipe that nobody writes to in the place of files.
func TestIrregular(t *testing.T) {
	for _, text := range []string{
		"resources: [x]",
		"patches: [{path: x, target: {kind: A}}]",
		"configMapGenerator: [{name: a, files: [x]}]",
		"configMapGenerator: [{name: a, envs: [x]}]",
	} {
		dir := write(t, "-- kustomization.yaml --\n"+text+"\n")
		if err := syscall.Mkfifo(filepath.Join(dir, "x"), 0o600); err != nil {
			t.Skip(err)
		}
		if _, err := Build(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
