// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPolicySource holds that an agent reads what a kubelet mounts of a ConfigMap
// as what it is: each file once, and what it is now.
func TestPolicySource(t *testing.T) {
	dir := t.TempDir()
	write := func(revision, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, revision), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"team.yaml", "notes.txt", "team_test.rego"} {
			if err := os.WriteFile(filepath.Join(dir, revision, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(revision, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	write("..2027_01_15", "a: 1")
	for _, name := range []string{"team.yaml", "notes.txt", "team_test.rego"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := policySource(dir, nil)
	check := func(want string) {
		t.Helper()
		files, err := s.Read(t.Context())
		if err != nil || len(files) != 1 || filepath.Base(files[0].Name) != "team.yaml" || string(files[0].Data) != want {
			t.Errorf("got %v, %v; want team.yaml with %q", files, err, want)
		}
	}
	check("a: 1")
	write("..2027_01_16", "a: 2")
	check("a: 2")
	if _, err := policySource(filepath.Join(dir, "none"), nil).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no file or folder") {
		t.Errorf("got %v for a folder that is not there", err)
	}
	if s := policySource("oci://registry.example.com/policies:1", nil); s.Every < time.Minute {
		t.Errorf("a registry is asked every %s", s.Every)
	}
}
