// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"

	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/rego"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/gator"
	"sconce.dev/sconce/policytest/kyvernotest"
	"sconce.dev/sconce/policytest/regotest"
	"sconce.dev/sconce/source"
)

// testJob is a file of tests that can be run.
type testJob struct {
	// file is the file, as the user named it or what it stands below.
	file string
	run  func(context.Context) (*policytest.Report, error)
	// reads are the files that the last run read.
	reads readFiles
}

// readFiles notes which files are read.
type readFiles struct {
	mu    sync.Mutex
	names map[string]bool
}

func (r *readFiles) note(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = map[string]bool{}
	}
	for _, n := range names {
		r.names[filepath.Clean(filepath.FromSlash(n))] = true
	}
}

// any says whether one of several files was read.
func (r *readFiles) any(names []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(names, func(n string) bool { return r.names[filepath.Clean(n)] })
}

// read reads a file, by its path with slashes, and notes it.
func (r *readFiles) read(name string) ([]byte, error) {
	r.note(name)
	return source.ReadFile(filepath.FromSlash(name))
}

// folder returns the names of the files of a folder, in order.
func folder(name string) ([]string, error) {
	entries, err := os.ReadDir(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// testFiles are the files at and below the paths that tests are made of.
type testFiles struct {
	kyverno, suites []string
	configs         []string // documents of this program
	rego            []*regoRoot
}

// regoRoot is the Rego below one path.
type regoRoot struct {
	path    string
	modules map[string][]byte
	data    []string // files of data
}

// discover returns the tests at and below the paths, in the order of their
// names.
func (f *testFlags) discover(paths []string) ([]*testJob, error) {
	if f.catalog {
		return f.controlJobs(nil, "the catalogue")
	}
	found, err := findTests(paths)
	if err != nil {
		return nil, err
	}
	var jobs []*testJob
	if len(found.configs) > 0 || len(f.controls) > 0 {
		if jobs, err = f.controlJobs(found.configs, strings.Join(paths, ", ")); err != nil {
			return nil, err
		}
	}
	if len(f.controls) == 0 {
		more, err := f.foreignJobs(found)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, more...)
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("test: no tests in %s: want NAME.fixture.yaml beside a control, kyverno-test.yaml, a Suite of test.gatekeeper.sh, or *_test.rego", strings.Join(paths, ", "))
	}
	slices.SortStableFunc(jobs, func(a, b *testJob) int { return strings.Compare(a.file, b.file) })
	return slices.CompactFunc(jobs, func(a, b *testJob) bool { return a.file == b.file }), nil
}

// findTests looks for files of tests.
func findTests(paths []string) (*testFiles, error) {
	out := &testFiles{}
	for _, p := range paths {
		root := &regoRoot{path: p, modules: map[string][]byte{}}
		if err := out.walk(p, root); err != nil {
			return nil, fmt.Errorf("test: %w", err)
		}
		if len(root.modules) > 0 {
			out.rego = append(out.rego, root)
		}
	}
	return out, nil
}

// walk looks at the files at and below a path. Of a file of Rego its whole folder
// is looked at: it holds what the file tests.
func (t *testFiles) walk(p string, root *regoRoot) error {
	if info, err := os.Stat(p); err == nil && !info.IsDir() && filepath.Ext(p) == ".rego" {
		root.path = filepath.Dir(p)
		only := filepath.Clean(p)
		defer func() { root.path = only }()
		p = root.path
	}
	return filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != p && (d.Name() == ".git" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || d.Type()&fs.ModeType != 0 && d.Type()&fs.ModeSymlink == 0:
			return nil
		}
		return t.file(name, root)
	})
}

// file sorts a file by what it is.
func (t *testFiles) file(name string, root *regoRoot) error {
	ext := strings.ToLower(filepath.Ext(name))
	switch {
	case kyvernotest.IsTest(name):
		t.kyverno = append(t.kyverno, name)
		return nil
	case ext == ".rego":
		data, err := source.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		root.modules[filepath.ToSlash(filepath.Clean(name))] = data
		return nil
	case ext != ".yaml" && ext != ".yml" && ext != ".json":
		return nil
	}
	if isRegoData(name) {
		root.data = append(root.data, name)
	}
	data, err := source.ReadFile(name)
	if err != nil {
		return nil //nolint:nilerr // what is too large to read is no test
	}
	switch {
	case bytes.Contains(data, []byte("test.gatekeeper.sh")) && holds(data, gator.IsSuite):
		t.suites = append(t.suites, name)
	case strings.HasSuffix(name, ".fixture"+filepath.Ext(name)):
	case bytes.Contains(data, []byte("sconce.dev/")) && holds(data, isConfig):
		t.configs = append(t.configs, name)
	}
	return nil
}

// isRegoData says whether a file is what tests in Rego find below data.
func isRegoData(name string) bool {
	base := filepath.Base(name)
	return strings.TrimSuffix(base, filepath.Ext(base)) == "data" || filepath.Base(filepath.Dir(name)) == "data"
}

// isConfig says whether a document is one of this program.
func isConfig(o *object.Object) bool { return strings.HasPrefix(o.APIVersion, "sconce.dev/") }

// holds says whether one of the documents of a file is of a sort. One that
// cannot be read may be.
func holds(data []byte, sort func(*object.Object) bool) bool {
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil || root != nil && sort(object.New(root, &object.Origin{})) {
			return true
		}
	}
	return false
}

// foreignJobs are the tests of other languages.
func (f *testFlags) foreignJobs(found *testFiles) ([]*testJob, error) {
	var jobs []*testJob
	for _, name := range found.kyverno {
		j := &testJob{file: name}
		j.run = func(ctx context.Context) (*policytest.Report, error) {
			return kyvernotest.Run(ctx, filepath.ToSlash(name), f.kyvernoOptions(j.reads.read))
		}
		jobs = append(jobs, j)
	}
	for _, name := range found.suites {
		j := &testJob{file: name}
		j.run = func(ctx context.Context) (*policytest.Report, error) {
			return gator.Run(ctx, filepath.ToSlash(name), f.gatorOptions(j.reads.read))
		}
		jobs = append(jobs, j)
	}
	for _, root := range found.rego {
		tests, err := f.regoTests(root)
		if err != nil {
			return nil, err
		}
		for _, name := range root.tests() {
			j := &testJob{file: name}
			j.reads.note(root.files()...)
			j.run = func(ctx context.Context) (*policytest.Report, error) { return tests.Run(ctx, name) }
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// kyvernoOptions say how tests of Kyverno policies are run.
func (f *testFlags) kyvernoOptions(read func(string) ([]byte, error)) kyvernotest.Options {
	return kyvernotest.Options{ReadFile: read, ReadDir: folder, Now: f.now, Coverage: f.coverage && !f.mutate}
}

// gatorOptions say how suites of Gatekeeper are run.
func (f *testFlags) gatorOptions(read func(string) ([]byte, error)) gator.Options {
	return gator.Options{ReadFile: read, Now: f.now, Coverage: f.coverage && !f.mutate}
}

// tests returns the files of tests: all, or the one that was named.
func (r *regoRoot) tests() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.modules)) {
		only := filepath.Ext(r.path) == ".rego"
		if regotest.IsTest(name, r.modules[name]) && (!only || name == filepath.ToSlash(r.path)) {
			out = append(out, name)
		}
	}
	return out
}

// files are what the tests may read.
func (r *regoRoot) files() []string {
	return slices.Concat(slices.Sorted(maps.Keys(r.modules)), r.data)
}

// regoTests reads the Rego of a root.
func (f *testFlags) regoTests(root *regoRoot) (*regotest.Tests, error) {
	opts, err := f.regoOptions(root)
	if err != nil {
		return nil, err
	}
	return regotest.Load(opts), nil
}

func (f *testFlags) regoOptions(root *regoRoot) (regotest.Options, error) {
	data := map[string]any{}
	base := root.path
	if filepath.Ext(base) == ".rego" {
		base = filepath.Dir(base)
	}
	files := slices.Clone(root.data)
	for _, p := range f.data {
		more, err := dataFiles(p)
		if err != nil {
			return regotest.Options{}, fmt.Errorf("--data: %w", err)
		}
		files = append(files, more...)
	}
	for i, name := range files {
		var at []string
		if i < len(root.data) {
			at = dataPath(base, name)
		}
		if err := addData(data, at, name); err != nil {
			return regotest.Options{}, err
		}
	}
	return regotest.Options{Files: root.modules, Data: data, Coverage: f.coverage, ReadFile: func(name string) ([]byte, error) {
		return source.ReadFile(filepath.FromSlash(name))
	}}, nil
}

// dataFiles returns the files of data at and below a path.
func dataFiles(p string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// dataPath is where below data a file of data stands: a file data.yaml where its
// folder is, those of a folder data at the top.
func dataPath(base, name string) []string {
	dir := filepath.Dir(name)
	if filepath.Base(dir) == "data" {
		return nil
	}
	rel, err := filepath.Rel(base, dir)
	if err != nil || rel == "." {
		return nil
	}
	return strings.Split(filepath.ToSlash(rel), "/")
}

// addData adds the documents of a file to the data.
func addData(data map[string]any, at []string, name string) error {
	text, err := source.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	docs, err := rego.Parse(filepath.ToSlash(name), text)
	if err != nil {
		return err
	}
	for _, word := range at {
		next, ok := data[word].(map[string]any)
		if !ok {
			next = map[string]any{}
			data[word] = next
		}
		data = next
	}
	for _, doc := range docs {
		fields, ok := doc.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: data of tests is a map of names", name)
		}
		maps.Copy(data, fields)
	}
	return nil
}

// controlJobs are the fixtures of controls.
func (f *testFlags) controlJobs(configs []string, where string) ([]*testJob, error) {
	l, names, err := f.ownControls(configs, where)
	if err != nil {
		return nil, err
	}
	var jobs []*testJob
	for _, name := range names {
		fixture := fixtureName(l, name)
		j := &testJob{file: fixture}
		j.reads.note(fixture, l.File(name))
		j.run = func(context.Context) (*policytest.Report, error) { return controlReport(l, name, fixture), nil }
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// ownControls reads the controls that are to be tested.
func (f *testFlags) ownControls(configs []string, where string) (*baseline.Library, []string, error) {
	if len(configs) == 0 && !f.catalog {
		return nil, nil, fmt.Errorf("test: no control %s in %s", f.controls[0], where)
	}
	l, err := loadLibrary(configs, time.Time{})
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, name := range l.Controls() {
		if l.BuiltIn(name) == f.catalog && (len(f.controls) == 0 || slices.Contains(f.controls, name)) {
			names = append(names, name)
		}
	}
	for _, name := range f.controls {
		if !slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("test: no control %s in %s", name, where)
		}
	}
	return l, names, nil
}

// fixtureName is the file beside a control's.
func fixtureName(l *baseline.Library, name string) string {
	file := l.File(name)
	if l.BuiltIn(name) {
		return strings.TrimSuffix(file, path.Ext(file)) + ".fixture.yaml"
	}
	return strings.TrimSuffix(strings.TrimSuffix(file, ".yaml"), ".yml") + ".fixture.yaml"
}
