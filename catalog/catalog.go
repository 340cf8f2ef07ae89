// SPDX-License-Identifier: Apache-2.0

// Package catalog is the built-in controls and baselines: data beside its
// fixtures, and no code but what embeds it. A control is two files in the
// folder of its topic: NAME.yaml says it, NAME.fixture.yaml shows what passes
// and what fails.
package catalog

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"sconce.dev/sconce/baseline"
)

//go:embed */*.yaml
var files embed.FS

// Prefix is what the names of the catalogue's files begin with wherever they
// are shown.
const Prefix = "catalog/"

// Default is the baseline that holds where none is named.
const Default = "standard"

// Read adds the controls, baselines and frameworks of the catalogue to a
// library.
func Read(l *baseline.Library) { builtIn.Add(l) }

// ReadSources does what Read does from the files that its code is generated
// from: for that generation, and for tests.
func ReadSources(l *baseline.Library) error {
	return fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, fixtureSuffix) {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading the catalogue: %w", err)
		}
		return l.ReadBuiltIn(Prefix+path, data)
	})
}

const fixtureSuffix = ".fixture.yaml"

// Fixture returns the fixture of a control, given the file of the control, and
// the fixture's name.
func Fixture(file string) (name string, data []byte, err error) {
	name = strings.TrimSuffix(strings.TrimPrefix(file, Prefix), ".yaml") + fixtureSuffix
	data, err = files.ReadFile(name)
	return Prefix + name, data, err
}

// Source returns the text of a file of the catalogue.
func Source(file string) ([]byte, error) {
	return files.ReadFile(strings.TrimPrefix(file, Prefix))
}
