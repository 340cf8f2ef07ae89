// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// disk is the file system that Kustomize sees: the real one, read only, within
// the root. It notes what is read, and has the top kustomization file ask for
// the origin of every object.
type disk struct {
	filesys.FileSystem
	top, root string
	read      map[string]bool
}

func newDisk(top, root string) *disk {
	return &disk{FileSystem: filesys.MakeFsOnDisk(), top: top, root: root, read: map[string]bool{}}
}

// ReadFile reads a file and notes it.
func (d *disk) ReadFile(name string) ([]byte, error) {
	real, err := resolve(name)
	if err != nil {
		return nil, err
	}
	if d.root != "" && !within(d.root, real) {
		return nil, fmt.Errorf("%s lies outside of %s: it is not read", name, d.root)
	}
	if err := regular(real); err != nil {
		return nil, err
	}
	data, err := d.FileSystem.ReadFile(name)
	if err != nil {
		return nil, err
	}
	d.read[real] = true
	if filepath.Dir(real) == d.top && isKustomization(filepath.Base(real)) {
		return withOrigins(data), nil
	}
	return data, nil
}

// errIrregular is why a pipe or a device is not read: it may never end.
var errIrregular = errors.New("not a regular file")

// regular refuses what is not a file.
func regular(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	return nil
}

// readRegular reads a file, and nothing else.
func readRegular(name string) ([]byte, error) {
	if err := regular(name); err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}

// WriteFile and the like are refused: a build writes nothing.
func (d *disk) WriteFile(name string, _ []byte) error { return readOnly(name) }

// Create refuses to create a file.
func (d *disk) Create(name string) (filesys.File, error) { return nil, readOnly(name) }

// Mkdir refuses to create a folder.
func (d *disk) Mkdir(name string) error { return readOnly(name) }

// MkdirAll refuses to create folders.
func (d *disk) MkdirAll(name string) error { return readOnly(name) }

// RemoveAll refuses to remove anything.
func (d *disk) RemoveAll(name string) error { return readOnly(name) }

func readOnly(name string) error { return fmt.Errorf("%s: a build writes nothing", name) }

// list returns the files that were read.
func (d *disk) list() []string { return sortedSet(d.read) }

// withOrigins adds the option that makes Kustomize write where each object came
// from. What cannot be parsed stays as it is: Kustomize says what is wrong.
func withOrigins(data []byte) []byte {
	node, err := yaml.Parse(string(data))
	if err != nil || node.YNode().Kind != yaml.MappingNode {
		return data
	}
	list, err := node.Pipe(yaml.LookupCreate(yaml.SequenceNode, "buildMetadata"))
	if err != nil {
		return data
	}
	entries, err := list.Elements()
	if err != nil || slices.ContainsFunc(entries, func(e *yaml.RNode) bool { return e.YNode().Value == types.OriginAnnotations }) {
		return data
	}
	if err := list.PipeE(yaml.Append(yaml.NewStringRNode(types.OriginAnnotations).YNode())); err != nil {
		return data
	}
	text, err := node.String()
	if err != nil {
		return data
	}
	return []byte(text)
}

func isKustomization(base string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), base)
}

// within says whether a resolved path is the folder or below it.
func within(root, name string) bool {
	rel, err := filepath.Rel(root, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
