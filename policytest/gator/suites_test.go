// SPDX-License-Identifier: Apache-2.0

package gator_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/gator"
)

// TestSuites runs all suites of other projects, which SCONCE_SUITES holds
// checkouts of: they are not part of the repository.
func TestSuites(t *testing.T) {
	root := os.Getenv("SCONCE_SUITES")
	if root == "" {
		t.Skip("SCONCE_SUITES names no folder with checkouts of the suites")
	}
	root = filepath.Join(root, "gatekeeper-library", "library")
	for _, engine := range []string{gatekeeper.Rego, ""} {
		t.Run("engine="+engine, func(t *testing.T) { runSuites(t, root, engine) })
	}
}

func runSuites(t *testing.T, root, engine string) {
	total := map[policytest.Outcome]int{}
	suites := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "suite.yaml" {
			return err
		}
		suites++
		report, err := gator.Run(t.Context(), filepath.ToSlash(file), gator.Options{ReadFile: os.ReadFile, Engine: engine, Now: time.Now()})
		if err != nil {
			t.Error(err)
			return nil
		}
		for _, c := range report.Cases {
			total[c.Outcome]++
			if c.Outcome == policytest.Failed || c.Outcome == policytest.Broken {
				t.Errorf("%s: %s: %s: %s", strings.TrimPrefix(file, root), c.Name, c.Outcome, c.Message)
			}
		}
		hit := 0
		for _, b := range report.Coverage {
			if b.Hit {
				hit++
			}
		}
		t.Logf("%s: %d cases, %d of %d lines of Rego run", strings.TrimPrefix(filepath.Dir(file), root), len(report.Cases), hit, len(report.Coverage))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d suites: %v", suites, total)
}
