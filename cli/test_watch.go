// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"sconce.dev/sconce/report"
)

// quiet is how long nothing must change before tests are run again: editors
// write a file in several steps.
const quiet = 100 * time.Millisecond

// watchTests runs the tests, and again what a change touches, until it is
// interrupted.
func watchTests(ctx context.Context, s Streams, f *testFlags, paths []string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watchFolders(watcher, slices.Concat(paths, f.data)); err != nil {
		return err
	}
	w := &testWatch{streams: s, flags: f, paths: paths, results: map[string]testResult{}}
	w.rerun(ctx, nil)
	changes := make(chan string)
	failed := make(chan error, 1)
	go func() { failed <- forward(ctx, watcher, changes) }()
	debounce(ctx, changes, func() <-chan time.Time { return time.After(quiet) }, func(changed []string) {
		w.rerun(ctx, changed)
	})
	if err := <-failed; err != nil && ctx.Err() == nil {
		return fmt.Errorf("watching files: %w", err)
	}
	return nil
}

// watchFolders watches the folders at and below paths.
func watchFolders(watcher *fsnotify.Watcher, paths []string) error {
	for _, p := range paths {
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !d.IsDir() && name == p:
				return watcher.Add(filepath.Dir(name))
			case !d.IsDir():
				return nil
			case name != p && (d.Name() == ".git" || d.Name() == "node_modules"):
				return filepath.SkipDir
			}
			return watcher.Add(name)
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", p, err)
		}
	}
	return nil
}

// forward tells of changes until the context ends. Folders that are made are
// watched, too.
func forward(ctx context.Context, watcher *fsnotify.Watcher, changes chan<- string) error {
	defer close(changes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-watcher.Events:
			if !ok {
				return errors.New("the watch has ended")
			}
			if e.Op == fsnotify.Chmod {
				continue
			}
			if e.Has(fsnotify.Create) {
				_ = watchFolders(watcher, []string{e.Name}) // it may be gone again
			}
			select {
			case changes <- e.Name:
			case <-ctx.Done():
				return nil
			}
		case err, ok := <-watcher.Errors:
			if !ok {
				return errors.New("the watch has ended")
			}
			return err
		}
	}
}

// debounce collects changes until none has come for a while, and then tells of
// them together. It returns when there are no more.
func debounce(ctx context.Context, changes <-chan string, wait func() <-chan time.Time, tell func([]string)) {
	var collected []string
	var over <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case name, ok := <-changes:
			if !ok {
				return
			}
			collected = append(collected, name)
			over = wait()
		case <-over:
			slices.Sort(collected)
			tell(slices.Compact(collected))
			collected, over = nil, nil
		}
	}
}

// testWatch is what is known of tests while files are watched.
type testWatch struct {
	streams Streams
	flags   *testFlags
	paths   []string
	jobs    []*testJob
	results map[string]testResult
}

// rerun runs the tests that a change touches, those that are new, and all at
// first, and shows what came of all.
func (w *testWatch) rerun(ctx context.Context, changed []string) {
	before := map[string]*testJob{}
	for _, j := range w.jobs {
		before[j.file] = j
	}
	jobs, err := w.flags.discover(w.paths)
	if err != nil {
		w.jobs = nil
		w.show(changed, func() error { return err })
		return
	}
	var again []*testJob
	for _, j := range jobs {
		old := before[j.file]
		if old != nil && !old.reads.any(changed) && !slices.Contains(changed, j.file) {
			for name := range old.reads.names {
				j.reads.note(name)
			}
			continue
		}
		again = append(again, j)
	}
	if len(again) == 0 && len(jobs) == len(w.jobs) {
		return // a change of what no test reads
	}
	for i, r := range runJobs(ctx, again) {
		w.results[again[i].file] = r
	}
	w.jobs = jobs
	w.show(changed, w.write)
}

// write shows the results of all tests.
func (w *testWatch) write() error {
	results := make([]testResult, len(w.jobs))
	for i, j := range w.jobs {
		results[i] = w.results[j.file]
	}
	tests, err := w.flags.gather(w.jobs, results)
	if err != nil {
		return err
	}
	return tests.Write("table", w.streams.Out, report.Options{Color: w.flags.colour})
}

// show shows results, on an empty screen if there is one, or what is wrong.
func (w *testWatch) show(changed []string, write func() error) {
	if _, ok := terminal(w.streams.Out); ok {
		_, _ = fmt.Fprint(w.streams.Out, "\x1b[H\x1b[2J")
	} else if len(changed) > 0 {
		_, _ = fmt.Fprintf(w.streams.Out, "\nchanged: %s\n", report.Visible(strings.Join(changed, ", ")))
	}
	if err := write(); err != nil {
		_, _ = fmt.Fprintf(w.streams.Out, "%s\n", report.Visible(err.Error()))
	}
	_, _ = fmt.Fprintln(w.streams.Out, "waiting for changes; interrupt to end")
}
