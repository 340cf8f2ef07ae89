// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"os"
	"path/filepath"
	"strings"
)

func init() { suites["polaris"] = polaris }

// manifests reads the files of a folder, and those that match a pattern.
func manifests(folder, pattern string) ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	more, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, name := range append(names, more...) {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

// polaris reads test/checks/CHECK/{success,failure}*.yaml.
func polaris(dir string) ([]caze, error) {
	names, err := filepath.Glob(filepath.Join(dir, "test", "checks", "*", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".yaml")
		verdict, _, _ := strings.Cut(base, ".")
		if verdict != "success" && verdict != "failure" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, caze{rule: filepath.Base(filepath.Dir(name)), name: base, files: [][]byte{data}, fails: verdict == "failure"})
	}
	return out, nil
}
