// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/ignore"
	"sigs.k8s.io/yaml"
)

// maxChart is how much a chart may hold once its archives are unpacked, in
// bytes; maxNesting how deep subcharts and folders may be nested.
const (
	maxChart   = 100 << 20
	maxNesting = 40
)

// maxFile is the largest file that Helm's loader takes, in bytes.
const maxFile = 5 << 20

// source is a loaded chart and where each of its files came from.
type source struct {
	// dir is the chart as the caller named it; root the resolved folder that no
	// symbolic link may leave.
	dir, root string
	chart     *chart.Chart
	files     []*archive.BufferedFile
	// names are where files came from, by the memory that holds their bytes:
	// Helm's loader passes the bytes on and forgets the file.
	names map[*byte]string
	// inPlace says that file:// dependencies are read where they stand.
	inPlace bool
	size    int64
	// private are the values that messages may not show.
	private []string
}

// load reads a chart as Helm's loader does (.helmignore, symbolic links,
// archives in charts/), but never anything outside of the root.
func load(dir, root string) (*source, error) {
	s := &source{dir: filepath.Clean(dir), names: map[*byte]string{}}
	if err := s.setRoot(root); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, &Error{File: dir, Msg: plain(err)}
	}
	if info.IsDir() {
		err = s.readDir(s.dir, "", nil, 0)
	} else {
		var data []byte
		if data, err = readRegular(dir); err == nil {
			err = s.unpack(data, s.dir, "", 0)
		}
	}
	if err != nil {
		return nil, asError(err, s.dir)
	}
	if s.chart, err = loader.LoadFiles(s.files); err != nil {
		return nil, s.loadError(err)
	}
	return s, nil
}

// setRoot resolves the folder that links must stay in.
func (s *source) setRoot(root string) error {
	s.inPlace = root != ""
	real, err := filepath.EvalSymlinks(or(root, s.dir))
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return &Error{File: s.dir, Msg: plain(err)}
	}
	s.root = real
	return nil
}

// readDir adds the files of a chart's folder under a prefix, then the
// dependencies that the chart names by file://.
func (s *source) readDir(dir, prefix string, above []string, depth int) error {
	rules := ignore.Empty()
	switch data, err := readRegular(filepath.Join(dir, ignore.HelmIgnore)); {
	case err == nil:
		if rules, err = ignore.Parse(bytes.NewReader(data)); err != nil {
			return &Error{File: filepath.Join(dir, ignore.HelmIgnore), Msg: err.Error()}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return &Error{File: filepath.Join(dir, ignore.HelmIgnore), Msg: plain(err)}
	}
	rules.AddDefaults()
	w := walker{source: s, rules: rules, top: dir, prefix: prefix}
	if err := w.walk(dir, "", above, depth); err != nil {
		return err
	}
	if s.inPlace {
		return s.readSiblings(dir, prefix, above, depth)
	}
	return nil
}

// walker adds the files below one folder.
type walker struct {
	source      *source
	rules       *ignore.Rules
	top, prefix string
}

// walk follows links as Helm does. above are the resolved folders on the way:
// a link back to one of them never ends.
func (w *walker) walk(dir, rel string, above []string, depth int) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return &Error{File: dir, Msg: plain(err)}
	}
	if slices.Contains(above, real) || depth > maxNesting {
		return &Error{File: dir, Msg: "folders are nested without end: a symbolic link or a file:// dependency leads back to a folder above it"}
	}
	above = append(slices.Clip(above), real)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &Error{File: dir, Msg: plain(err)}
	}
	for _, e := range entries {
		if err := w.entry(filepath.Join(dir, e.Name()), path.Join(rel, e.Name()), above, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry adds one file or folder unless .helmignore leaves it out.
func (w *walker) entry(name, rel string, above []string, depth int) error {
	link, err := os.Lstat(name)
	if err != nil {
		return &Error{File: name, Msg: plain(err)}
	}
	if w.rules.Ignore(rel, link) {
		return nil
	}
	info := link
	if link.Mode()&fs.ModeSymlink != 0 {
		if info, err = w.source.follow(name); err != nil {
			return err
		}
		if w.rules.Ignore(rel, info) {
			return nil
		}
	}
	switch {
	case info.IsDir():
		return w.walk(name, rel, above, depth+1)
	case !info.Mode().IsRegular():
		return &Error{File: name, Msg: "neither a file nor a folder; a chart holds nothing else"}
	case w.source.size+info.Size() > maxChart:
		return tooLarge(w.source.dir)
	}
	data, err := readRegular(name)
	if err != nil {
		return &Error{File: name, Msg: plain(err)}
	}
	return w.source.add(path.Join(w.prefix, rel), name, data, depth)
}

// follow returns what a symbolic link leads to, if that is within the root.
func (s *source) follow(name string) (fs.FileInfo, error) {
	real, err := filepath.EvalSymlinks(name)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, &Error{File: name, Msg: "a symbolic link that leads nowhere: " + plain(err)}
	}
	if !within(s.root, real) {
		return nil, &Error{File: name, Msg: "a symbolic link that leaves " + s.boundary() + ": what it leads to is not read"}
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, &Error{File: name, Msg: plain(err)}
	}
	return info, nil
}

func (s *source) boundary() string {
	if s.inPlace {
		return "the scanned folder"
	}
	return "the chart's folder"
}

// within says whether a resolved path is the folder or below it.
func within(root, name string) bool {
	rel, err := filepath.Rel(root, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// add takes a file over, and unpacks an archive that stands for a subchart.
func (s *source) add(name, from string, data []byte, depth int) error {
	if s.size += int64(len(data)); s.size > maxChart {
		return tooLarge(s.dir)
	}
	if subchart, ok := archiveName(name); ok {
		return s.unpack(data, from, subchart, depth+1)
	}
	if int64(len(data)) > maxFile {
		return &Error{File: from, Msg: fmt.Sprintf("%d MiB; Helm takes files of at most %d MiB: leave it out in .helmignore", len(data)>>20, maxFile>>20)}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	s.files = append(s.files, &archive.BufferedFile{Name: name, Data: data})
	if len(data) > 0 {
		s.names[unsafe.SliceData(data)] = from
	}
	return nil
}

// archiveName says whether a file is an archive of a subchart, and under which
// folder its files are added: one that Helm's loader takes for a folder.
func archiveName(name string) (string, bool) {
	parts := strings.Split(name, "/")
	n := len(parts)
	if n%2 != 0 || path.Ext(name) != ".tgz" || strings.IndexAny(parts[n-1], "_.") == 0 {
		return "", false
	}
	for i := 0; i < n; i += 2 {
		if parts[i] != "charts" {
			return "", false
		}
	}
	return name + "#", true
}

// unpack adds the files of an archive under a prefix.
func (s *source) unpack(data []byte, from, prefix string, depth int) error {
	if depth > maxNesting {
		return &Error{File: from, Msg: "archives are nested without end"}
	}
	files, err := archive.LoadArchiveFiles(bytes.NewReader(data))
	if err != nil {
		return &Error{File: from, Msg: "not a chart's archive: " + err.Error()}
	}
	for _, f := range files {
		if err := s.add(path.Join(prefix, f.Name), from+"!"+f.Name, f.Data, depth); err != nil {
			return err
		}
	}
	return nil
}

// readSiblings adds the dependencies that Chart.yaml names by file:// and that
// charts/ does not hold, from where they stand. `helm dependency build` would
// copy them.
func (s *source) readSiblings(dir, prefix string, above []string, depth int) error {
	var meta chart.Metadata
	data, err := readRegular(filepath.Join(dir, "Chart.yaml"))
	if err != nil || yaml.Unmarshal(data, &meta) != nil {
		return nil // Helm's loader says what is wrong with it
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return &Error{File: dir, Msg: plain(err)}
	}
	for i, dep := range meta.Dependencies {
		if dep == nil || s.vendored(prefix, dep.Name) {
			continue
		}
		rel, ok := strings.CutPrefix(dep.Repository, "file://")
		if !ok || filepath.IsAbs(rel) {
			continue
		}
		sibling := filepath.Join(dir, filepath.FromSlash(rel))
		target, err := filepath.EvalSymlinks(sibling)
		if err != nil || !within(s.root, target) {
			continue
		}
		folder := path.Join(prefix, "charts", fmt.Sprintf("%s#%d", dep.Name, i))
		if err := s.readDir(sibling, folder, append(slices.Clip(above), real), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// vendored says whether charts/ holds a chart of that name.
func (s *source) vendored(prefix, name string) bool {
	for _, f := range s.files {
		rel, ok := strings.CutPrefix(f.Name, path.Join(prefix, "charts")+"/")
		if !ok {
			continue
		}
		if _, base, ok := strings.Cut(rel, "/"); !ok || base != "Chart.yaml" {
			continue
		}
		var meta chart.Metadata
		if yaml.Unmarshal(f.Data, &meta) == nil && meta.Name == name {
			return true
		}
	}
	return false
}

// fileOf returns where a file of the chart came from.
func (s *source) fileOf(f *common.File) string {
	if f == nil || len(f.Data) == 0 {
		return s.dir
	}
	return s.names[unsafe.SliceData(f.Data)]
}

// file returns the name on disk of a file at the top of the chart.
func (s *source) file(name string) string {
	if data := s.bytes(name); len(data) > 0 {
		return s.names[unsafe.SliceData(data)]
	}
	return s.dir
}

// bytes returns what a file at the top of the chart holds.
func (s *source) bytes(name string) []byte {
	for _, f := range s.files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// lineOf returns the first line of a top file that holds the word, or 0.
func (s *source) lineOf(name, word string) int {
	data := s.bytes(name)
	if i := bytes.Index(data, []byte(word)); i >= 0 {
		return bytes.Count(data[:i], []byte("\n")) + 1
	}
	return 0
}

// list returns every file that was loaded.
func (s *source) list() []string {
	var out []string
	for _, name := range s.names {
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// crds returns the files of crds/, which Helm installs as they are; a chart
// that is used under two aliases brings them once.
func (s *source) crds() []Doc {
	var docs []Doc
	seen := map[string]bool{}
	for _, crd := range s.chart.CRDObjects() {
		file := s.fileOf(crd.File)
		if len(bytes.TrimSpace(crd.File.Data)) > 0 && !seen[file] {
			seen[file] = true
			docs = append(docs, Doc{Template: crd.Filename, File: file, Text: crd.File.Data, Verbatim: true})
		}
	}
	return docs
}

// loadError names the file that Helm's loader did not take.
func (s *source) loadError(err error) error {
	text := err.Error()
	for _, name := range []string{"Chart.yaml", "values.yaml", "Chart.lock", "requirements.yaml", "requirements.lock"} {
		prefix := "cannot load " + name + ": "
		if i := strings.LastIndex(text, prefix); i >= 0 {
			if i > 0 { // in a subchart, and Helm does not say in which file
				return &Error{File: s.dir, Msg: text}
			}
			return yamlError(s.file(name), text[len(prefix):], s.bytes(name))
		}
	}
	if strings.Contains(text, "Chart.yaml file is missing") {
		return &Error{File: s.dir, Msg: "not a chart: it has no Chart.yaml"}
	}
	if strings.HasPrefix(text, "validation: ") {
		return &Error{File: s.file("Chart.yaml"), Msg: strings.TrimPrefix(text, "validation: ")}
	}
	return &Error{File: s.dir, Msg: text}
}

func tooLarge(dir string) error {
	return &Error{File: dir, Msg: fmt.Sprintf("larger than %d MiB: leave large files out in .helmignore", maxChart>>20)}
}

// asError gives an error that has no place the chart's.
func asError(err error, dir string) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{File: dir, Msg: plain(err)}
}

// errIrregular is why a pipe or a device is not read: it may never end.
var errIrregular = errors.New("not a regular file")

// readRegular reads a file, and nothing else.
func readRegular(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	return os.ReadFile(name)
}

// plain returns an error without the path that the caller says anyway.
func plain(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
