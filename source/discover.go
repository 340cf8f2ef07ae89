// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"sconce.dev/sconce/facts/containerengine"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/source/kustomize"
	"sconce.dev/sconce/verdict"
)

// Renderer renders charts and overlays; package render does it in processes of
// their own.
type Renderer interface {
	Chart(ctx context.Context, dir string, opts helm.Options) (*helm.Rendered, error)
	Overlay(ctx context.Context, dir string, opts kustomize.Options) (*kustomize.Rendered, error)
}

// Options say how sources are read.
type Options struct {
	Stdin     io.Reader
	Renderer  Renderer
	Helm      helm.Options
	Kustomize kustomize.Options
	// Base is the folder that names are shown relative to, where what is read
	// stands elsewhere (a Git revision in a folder of its own); empty for the
	// working directory.
	Base string
	// Missing is what is known not to be there; it is told with what is read.
	Missing []verdict.Problem
	// Ignored are files and folders that are not read, by their absolute paths
	// without links, unless they are targets.
	Ignored map[string]bool
	// Documents, where it is set, are read beside objects.
	Documents *Documents
	// MayBeEmpty says that a folder without manifests is no problem.
	MayBeEmpty bool
}

// Plan is what will be read.
type Plan struct {
	Units []snapshot.Unit
	// Files are the plain files among the units, Rendered the names of charts
	// and overlays, Problems what is there to be told at once.
	Files    []Named
	Rendered []string
	Problems []verdict.Problem
	// Skipped are files of folders that policies could be about, and that are in
	// formats that are not read.
	Skipped []string
}

// Named is a file, by the name that is shown and the path that is opened.
type Named struct {
	Name, Path string
}

// Discover finds what there is to read at the targets: files, folders, globs
// (** included) and "-" for standard input. A target that does not exist, or
// holds nothing, becomes a problem of the plan, so that it is told and counted.
func Discover(targets []string, opts Options) *Plan {
	d := &discovery{opts: opts, seenDirs: map[string]bool{}, seenFiles: map[string]bool{}}
	for _, t := range targets {
		d.target(t)
	}
	for _, p := range opts.Missing {
		d.found = append(d.found, found{what: failed, name: p.Position.File, problem: p})
	}
	return d.plan()
}

// discovery is a walk in progress.
type discovery struct {
	opts      Options
	seenDirs  map[string]bool // by real path: a loop of links ends
	seenFiles map[string]bool
	found     []found
	skipped   []string
	again     bool // something was met that was found before
}

// what a found thing is.
type what uint8

const (
	manifest what = iota
	standardInput
	chartDir
	overlayDir
	failed
)

// found is a file or folder that will be read.
type found struct {
	what    what
	name    string // as it is shown
	path    string // as it is opened
	real    string // without links
	owned   int    // files that belong to a chart
	problem verdict.Problem
}

func (d *discovery) target(t string) {
	if t == "-" {
		d.found = append(d.found, found{what: standardInput, name: StdinName})
		return
	}
	path := t
	if d.opts.Base != "" {
		path = filepath.Join(d.opts.Base, t)
	}
	info, err := os.Stat(path)
	if err != nil && strings.ContainsAny(t, "*?[{") {
		d.glob(t, path)
		return
	}
	switch {
	case err != nil:
		d.fail(t, "%s", reason(err))
	case info.IsDir():
		before := len(d.found)
		d.dir(filepath.Clean(t), path, true)
		if len(d.found) == before && !d.again && !d.opts.MayBeEmpty {
			d.fail(t, "the folder holds no manifests (files ending in .yaml, .yml or .json), charts or overlays")
		}
	default:
		d.named(t, path)
	}
}

func (d *discovery) glob(t, pattern string) {
	matches, err := doublestar.FilepathGlob(pattern)
	slices.Sort(matches)
	switch {
	case err != nil:
		d.fail(t, "not a pattern: %s", err)
	case len(matches) == 0:
		d.fail(t, "nothing matches the pattern")
	}
	for _, m := range matches {
		name := m
		if d.opts.Base != "" {
			if rel, err := filepath.Rel(d.opts.Base, m); err == nil {
				name = rel
			}
		}
		if info, err := os.Stat(m); err == nil && info.IsDir() {
			continue // ** matches folders as well as what is in them
		}
		d.named(name, m)
	}
}

func (d *discovery) fail(name, format string, args ...any) {
	d.found = append(d.found, found{what: failed, name: name, problem: problemf(verdict.Reading, name, format, args...)})
}

// named adds a file that a target names: it is read whatever its ending.
func (d *discovery) named(name, path string) {
	real, err := resolve(path)
	if err != nil {
		d.fail(name, "%s", reason(err))
		return
	}
	if chart := chartAbove(path); chart != "" {
		d.fail(name, "a template of the chart in %s: scan that folder, so that it is rendered", chart)
		return
	}
	if isKustomization(filepath.Base(path)) {
		d.dir(filepath.Dir(name), filepath.Dir(path), true)
		return
	}
	d.file(name, path, real)
}

// file adds a file, once.
func (d *discovery) file(name, path, real string) {
	if d.seenFiles[real] {
		d.again = true
		return
	}
	d.seenFiles[real] = true
	d.found = append(d.found, found{what: manifest, name: name, path: path, real: real})
}

// chartAbove returns the folder of the chart whose templates hold the file.
func chartAbove(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		if chart := chartAboveAbsolute(abs); chart != "" {
			return relativeToHere(chart)
		}
	}
	return ""
}

// relativeToHere returns a path as a person in the working directory would give
// it.
func relativeToHere(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil {
		return rel
	}
	return path
}

func chartAboveAbsolute(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		parent := filepath.Dir(dir)
		if filepath.Base(dir) == "templates" && isFile(filepath.Join(parent, "Chart.yaml")) {
			return parent
		}
		if parent == dir {
			return ""
		}
	}
}

// dir adds what a folder holds.
func (d *discovery) dir(name, path string, named bool) {
	real, err := resolve(path)
	if err != nil {
		d.fail(name, "%s", reason(err))
		return
	}
	if named {
		if chart := chartAbove(filepath.Join(path, "x")); chart != "" {
			d.fail(name, "holds templates of the chart in %s: scan that folder, so that they are rendered", chart)
			return
		}
	}
	d.folder(&found{name: name, path: path, real: real})
}

// folder adds what a folder holds, given without links, once.
func (d *discovery) folder(f *found) {
	if d.seenDirs[f.real] {
		d.again = true
		return
	}
	d.seenDirs[f.real] = true
	entries, err := os.ReadDir(f.path)
	if err != nil {
		d.fail(f.name, "%s", reason(err))
		return
	}
	for _, e := range entries {
		switch {
		case e.Name() == "Chart.yaml" && isFile(filepath.Join(f.path, "Chart.yaml")):
			f.what, f.owned = chartDir, countFiles(f.path)
			d.found = append(d.found, *f)
			return
		case isKustomization(e.Name()):
			overlay := *f
			overlay.what = overlayDir
			d.found = append(d.found, overlay)
		}
	}
	for _, e := range entries {
		d.entry(f, e)
	}
}

// configDir holds a project's own controls and their fixtures, which are there
// to fail.
const configDir = ".sconce"

// entry adds one entry of a folder.
func (d *discovery) entry(dir *found, e os.DirEntry) {
	name, path, real := filepath.Join(dir.name, e.Name()), filepath.Join(dir.path, e.Name()), filepath.Join(dir.real, e.Name())
	isDir := e.IsDir()
	if e.Type()&os.ModeSymlink != 0 {
		info, err := os.Stat(path)
		if err == nil {
			real, err = resolve(path)
		}
		if err != nil {
			if target, _ := os.Readlink(path); isManifest(e.Name()) || filepath.Base(target) == outside {
				d.fail(name, "%s", "the link leads nowhere: "+reason(err))
			}
			return
		}
		isDir = info.IsDir()
	}
	switch {
	case d.opts.Ignored[real]:
	case isDir && e.Name() != ".git" && e.Name() != configDir:
		d.folder(&found{name: name, path: path, real: real})
	case !isDir && (isManifest(e.Name()) || containerengine.Reads(path) || d.opts.Documents.reads(path)) && !isKustomization(e.Name()):
		d.file(name, path, real)
	case !isDir && d.opts.Documents.refuses(path):
		d.skipped = append(d.skipped, name)
	}
}

// resolve returns the absolute path of a file without links: its identity.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func isManifest(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func isKustomization(name string) bool {
	return name == "kustomization.yaml" || name == "kustomization.yml" || name == "Kustomization"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// countFiles counts the files below a folder that look like manifests.
func countFiles(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && isManifest(e.Name()) {
			n++
		}
		return nil // what cannot be read is told when the chart is loaded
	})
	return n
}

// plan decides what is read as what: files that belong to an overlay are read
// by it alone, and an overlay that another uses is rendered by that one.
func (d *discovery) plan() *Plan {
	p := &Plan{Skipped: d.skipped}
	overlays := d.overlays()
	for i := range d.found {
		f := &d.found[i]
		switch f.what {
		case manifest:
			if !overlays.owns(f.real) {
				p.Files = append(p.Files, Named{f.name, f.path})
				p.Units = append(p.Units, &file{name: f.name, path: f.path, documents: d.opts.Documents})
			}
		case standardInput:
			p.Units = append(p.Units, &stdin{d.opts.Stdin, d.opts.Documents})
		case chartDir:
			if !overlays.owns(f.real) {
				p.Rendered = append(p.Rendered, f.name)
				p.Units = append(p.Units, &chart{found: *f, opts: &d.opts})
			}
		case overlayDir:
			if overlays.top(f.real) {
				p.Rendered = append(p.Rendered, f.name)
				p.Units = append(p.Units, &overlay{found: *f, opts: &d.opts, owned: overlays.owned(f.real)})
			}
		case failed:
			p.Problems = append(p.Problems, f.problem)
			p.Units = append(p.Units, &failure{f.problem})
		}
	}
	return p
}

// failure is something that was asked for and is not there.
type failure struct {
	problem verdict.Problem
}

// Read implements snapshot.Unit.
func (f *failure) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	sink.Problem(f.problem)
	return snapshot.Tally{}
}
