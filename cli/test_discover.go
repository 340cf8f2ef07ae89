// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
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
	"sconce.dev/sconce/policy"
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
	unread          []*testJob // stand for files that cannot be read, and say so
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
		case !d.IsDir():
			t.file(name, root)
		}
		return nil
	})
}

// file sorts a file by what it is.
func (t *testFiles) file(name string, root *regoRoot) {
	ext := strings.ToLower(filepath.Ext(name))
	switch {
	case isLock(name):
		return
	case kyvernotest.IsTest(name):
		t.kyverno = append(t.kyverno, name)
		return
	case ext != ".rego" && ext != ".yaml" && ext != ".yml" && ext != ".json":
		return
	}
	data, err := source.ReadFile(name)
	switch {
	case err != nil && (ext == ".rego" || !isFile(name)): // what else is too large to read is no test
		t.unread = append(t.unread, &testJob{file: name, run: func(context.Context) (*policytest.Report, error) {
			return nil, errors.New(whyUnread(err))
		}})
		return
	case err != nil:
		return
	case ext == ".rego":
		root.modules[filepath.ToSlash(filepath.Clean(name))] = data
		return
	}
	if policy.IsData(filepath.ToSlash(name)) {
		root.data = append(root.data, name)
	}
	switch {
	case bytes.Contains(data, []byte("test.gatekeeper.sh")) && holds(data, gator.IsSuite):
		t.suites = append(t.suites, name)
	case strings.HasSuffix(name, ".fixture"+filepath.Ext(name)):
	case bytes.Contains(data, []byte("sconce.dev/")) && holds(data, isConfig):
		t.configs = append(t.configs, name)
	}
}

// isLock says whether a file is the link that Emacs makes beside one that is being
// edited.
func isLock(name string) bool { return strings.HasPrefix(filepath.Base(name), ".#") }

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
	jobs := found.unread
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
	var data policy.Data
	base := root.path
	if filepath.Ext(base) == ".rego" {
		base = filepath.Dir(base)
	}
	for _, name := range root.data {
		text, err := source.ReadFile(name)
		if err == nil {
			err = data.Add(filepath.ToSlash(base), filepath.ToSlash(name), text)
		}
		if err != nil {
			return regotest.Options{}, fmt.Errorf("data of the tests: %w", err)
		}
	}
	for _, p := range f.data {
		if err := addData(&data, p); err != nil {
			return regotest.Options{}, fmt.Errorf("--data: %w", err)
		}
	}
	return regotest.Options{Files: root.modules, Data: data.Values(), Coverage: f.coverage, ReadFile: func(name string) ([]byte, error) {
		return source.ReadFile(filepath.FromSlash(name))
	}}, nil
}

// dataFiles returns the files of data at and below a path.
func dataFiles(p string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || isLock(name) {
			return err
		}
		if slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// addData adds the documents of the files at and below a path, at the top.
func addData(data *policy.Data, p string) error {
	files, err := dataFiles(p)
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := source.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		docs, err := rego.Parse(filepath.ToSlash(name), text)
		if err != nil {
			return err
		}
		for _, doc := range docs {
			if err := data.AddAt(nil, name, doc); err != nil {
				return err
			}
		}
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
	l := newLibrary()
	l.LeavePoliciesOut()
	l, err := readLibrary(l, configs, nil, nil, nil, time.Time{})
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
