// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

func init() { suites["gatekeeper"] = gatekeeper }

// gatekeeperSuite is a suite.yaml: constraints, and objects that are held
// against them.
type gatekeeperSuite struct {
	Tests []struct {
		Name, Constraint string
		Cases            []struct {
			Name, Object string
			Inventory    []string
			Assertions   []struct{ Violations any }
		}
	}
}

// gatekeeper reads library/**/suite.yaml: an object, a constraint, and whether
// it is violated. What the constraint's parameters mean for our controls is
// said by gatekeeperSettings.
func gatekeeper(dir string) ([]caze, error) {
	var out []caze
	err := filepath.WalkDir(filepath.Join(dir, "library"), func(name string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(name) != "suite.yaml" {
			return err
		}
		cases, err := gatekeeperCases(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, cases...)
		return nil
	})
	return out, err
}

// gatekeeperCases reads the cases of a suite.yaml.
func gatekeeperCases(file string) ([]caze, error) {
	folder := filepath.Dir(file)
	var s gatekeeperSuite
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	var out []caze
	for _, test := range s.Tests {
		constraint, err := os.ReadFile(filepath.Join(folder, test.Constraint))
		if err != nil {
			return nil, err
		}
		for _, k := range test.Cases {
			c := caze{rule: filepath.Base(folder), name: test.Name + "/" + k.Name}
			for _, file := range append([]string{k.Object}, k.Inventory...) {
				data, err := os.ReadFile(filepath.Join(folder, file))
				if err != nil {
					return nil, err
				}
				c.files = append(c.files, data)
			}
			for _, a := range k.Assertions {
				if v := fmt.Sprint(a.Violations); v != "no" && v != "false" && v != "0" {
					c.fails = true
				}
			}
			var o gatekeeperObject
			if err := yaml.Unmarshal(c.files[0], &o); err != nil {
				return nil, err
			}
			c.subject = o.Kind + "/" + o.Metadata.Name
			if err := gatekeeperSettings(&c, constraint, &o); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}
